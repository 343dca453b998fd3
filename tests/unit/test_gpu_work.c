/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The thread that scrubs and remakes: poold/gpu_work.c. */
#include "tests/support/gpu_pool.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* A small pool whose thread runs, every word of interest set. */
static struct pd_gpu *start_small(void)
{
	struct pd_pool_record pool;
	struct pd_gpu *gpu = create_small(&pool);

	for (uint32_t i = 0; i < SEGMENTS; i++)
		put_words(gpu, i, 0x5eed0000 + i);
	th_assert_ok(pd_gpu_start(gpu));
	return gpu;
}

/* ---- scrubs ---- */

static void scrub_one(void *arg)
{
	struct pd_gpu *gpu = start_small();
	struct pd_done done;

	(void)arg;
	assert_false(pd_gpu_take_done(gpu, &done));
	pd_gpu_scrub(gpu, 1);
	done = wait_done(gpu);
	assert_int_equal(done.job, PD_JOB_SCRUB);
	assert_int_equal(done.segment, 1);
	th_assert_ok(done.status);
	assert_string_equal(done.text, "");
	assert_words(gpu, 0, 0x5eed0000);
	assert_words(gpu, 1, 0);
	assert_words(gpu, 2, 0x5eed0002);
	assert_false(pd_gpu_take_done(gpu, &done));
	pd_gpu_close(gpu);
}

static void test_gpu_scrub_zeroes_its_segment_alone(void **state)
{
	IN_CHILD(scrub_one);
}

static void scrub_whole(void *arg)
{
	struct pd_gpu *gpu = start_small();
	uint32_t *words = malloc(SEGMENT);

	(void)arg;
	memset(words, 0x5a, SEGMENT);
	th_assert_ok(dv_copy_in(gpu->device, pd_gpu_address(gpu, 2), words,
				SEGMENT));
	pd_gpu_scrub(gpu, 2);
	th_assert_ok(wait_done(gpu).status);
	th_assert_ok(dv_copy_out(gpu->device, words, pd_gpu_address(gpu, 2),
				 SEGMENT));
	for (size_t i = 0; i < SEGMENT / sizeof(*words); i++)
		assert_int_equal(words[i], 0);
	free(words);
	pd_gpu_close(gpu);
}

static void test_gpu_scrub_zeroes_every_word(void **state)
{
	IN_CHILD(scrub_whole);
}

static void scrub_many(void *arg)
{
	struct pd_gpu_plan plan = { .headroom = 0, .clients = 1 };
	struct pd_gpu *gpu = open_gpu();
	struct pd_pool_record pool;
	bool seen[GPU_BYTES / SEGMENT] = { false };

	(void)arg;
	th_assert_ok(pd_gpu_create(gpu, &plan, &pool));
	th_assert_ok(pd_gpu_start(gpu));
	for (uint32_t i = 0; i < pool.segments; i++) {
		put_words(gpu, i, 7);
		pd_gpu_scrub(gpu, i);
	}
	for (uint32_t i = 0; i < pool.segments; i++) {
		const struct pd_done done = wait_done(gpu);

		th_assert_ok(done.status);
		assert_false(seen[done.segment]);
		seen[done.segment] = true;
		assert_words(gpu, done.segment, 0);
	}
	/* They went out in batches: with fewer waits than there are. */
	assert_true(th_sim_calls("cuMemsetD32Async") == pool.segments);
	pd_gpu_close(gpu);
}

static void test_gpu_scrubs_are_each_reported_once(void **state)
{
	IN_CHILD(scrub_many);
}

static void scrub_refused(void *arg)
{
	struct pd_gpu *gpu = start_small();
	struct pd_done done;

	(void)arg;
	th_sim_fail_nth("cuMemsetD32Async", 1, CUDA_ERROR_UNKNOWN);
	pd_gpu_scrub(gpu, 0);
	done = wait_done(gpu);
	assert_int_equal(done.status, PS_DRIVER);
	assert_non_null(strstr(done.text, "filling 2097152 bytes"));
	th_assert_ok(remake(gpu, 0).status);
	assert_words(gpu, 0, 0);
	pd_gpu_close(gpu);
}

static void test_gpu_scrub_that_fails_is_reported(void **state)
{
	IN_CHILD(scrub_refused);
}

static void scrub_with_a_failing_wait(void *arg)
{
	struct pd_gpu *gpu = start_small();

	(void)arg;
	th_sim_fail_nth("cuStreamSynchronize", 1, CUDA_ERROR_UNKNOWN);
	pd_gpu_scrub(gpu, 3);
	th_assert_ok(wait_done(gpu).status);
	assert_words(gpu, 3, 0);
	pd_gpu_close(gpu);
}

static void test_gpu_scrub_waits_again_when_a_wait_fails(void **state)
{
	IN_CHILD(scrub_with_a_failing_wait);
}

/* Two waits fail: what was submitted may run on, so before the segment is
 * unmapped it is waited for once more. */
static void scrub_unsettled(void *arg)
{
	struct pd_gpu *gpu;
	struct pd_done done;
	unsigned int seen = 0;

	(void)arg;
	for (unsigned int n = 1; n < 20; n++) {
		gpu = start_small();
		th_sim_reset();
		th_sim_fail_nth("cuStreamSynchronize", 1, CUDA_ERROR_UNKNOWN);
		th_sim_fail_nth(NULL, n, CUDA_ERROR_UNKNOWN);
		pd_gpu_scrub(gpu, 1);
		done = wait_done(gpu);
		seen += gpu->is_unsettled;
		th_sim_reset();
		if (done.status != PS_OK)
			th_assert_ok(remake(gpu, 1).status);
		assert_false(gpu->is_unsettled);
		assert_words(gpu, 1, 0);
		pd_gpu_close(gpu);
	}
	assert_true(seen > 0);
}

static void test_gpu_unsettled_work_is_waited_for_before_unmapping(void **state)
{
	IN_CHILD(scrub_unsettled);
}

/* ---- remakes ---- */

static void remake_one(void *arg)
{
	struct pd_gpu *gpu = start_small();
	uint64_t before = free_of(gpu);
	uint64_t handle;

	(void)arg;
	th_assert_ok(remake(gpu, 1).status);
	assert_words(gpu, 1, 0);
	assert_words(gpu, 2, 0x5eed0002);
	assert_true(pd_gpu_fd(gpu, 1) >= 0);
	th_assert_ok(
		dv_segment_import(gpu->device, pd_gpu_fd(gpu, 1), &handle));
	assert_int_equal(free_of(gpu), before);
	put_words(gpu, 1, 3);
	pd_gpu_scrub(gpu, 1);
	th_assert_ok(wait_done(gpu).status);
	assert_words(gpu, 1, 0);
	pd_gpu_close(gpu);
}

static void test_gpu_remake_gives_zeros_and_a_new_descriptor(void **state)
{
	IN_CHILD(remake_one);
}

/* A process that has imported and mapped segment 1 and holds on to it. */
static int holder_link[2];

static void be_holder(void *arg)
{
	struct dv_device *dev;
	uint64_t handle, address;
	int fd;

	(void)arg;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = th_gpu_receive_fd(holder_link[1]);
	th_assert_ok(dv_device_open(NULL, &dev));
	th_assert_ok(dv_segment_import(dev, fd, &handle));
	close(fd);
	th_assert_ok(dv_window_reserve(dev, SEGMENT, 0, &address));
	th_assert_ok(dv_window_map(dev, address, SEGMENT, handle));
	th_assert_ok(dv_window_set_access(dev, address, SEGMENT, true));
	th_assert_ok(dv_segment_release(dev, handle));
	th_gpu_tell(holder_link[1]);
	pause();
}

static pid_t start_holder(void)
{
	th_socketpair(SOCK_STREAM, holder_link);
	return th_fork(be_holder, NULL);
}

static void give_to_holder(struct pd_gpu *gpu)
{
	th_gpu_send_fd(holder_link[0], pd_gpu_fd(gpu, 1));
	th_gpu_await(holder_link[0]);
}

static void remake_held(void *arg)
{
	pid_t holder = start_holder();
	struct pd_gpu *gpu = start_small();
	struct pd_done done;
	uint64_t before;

	(void)arg;
	give_to_holder(gpu);
	before = free_of(gpu);
	for (int i = 0; i < 2; i++) {
		done = remake(gpu, 1);
		assert_int_equal(done.status, PS_AGAIN);
		assert_non_null(strstr(done.text, "a process has it mapped"));
		assert_int_equal(pd_gpu_fd(gpu, 1), -1);
		assert_int_equal(free_of(gpu), before);
	}
	th_kill(holder);
	th_assert_ok(remake(gpu, 1).status);
	assert_words(gpu, 1, 0);
	assert_int_equal(free_of(gpu), before);
	pd_gpu_close(gpu);
}

static void test_gpu_remake_waits_until_nobody_has_the_memory(void **state)
{
	IN_CHILD(remake_held);
}

static void scrub_beside_a_held_remake(void *arg)
{
	pid_t holder = start_holder();
	struct pd_gpu *gpu = start_small();
	struct pd_done done;

	(void)arg;
	give_to_holder(gpu);
	pd_gpu_drop_fd(gpu, 1);
	pd_gpu_remake(gpu, 1);
	pd_gpu_scrub(gpu, 0);
	done = wait_done(gpu);
	assert_int_equal(done.job, PD_JOB_SCRUB);
	th_assert_ok(done.status);
	done = wait_done(gpu);
	assert_int_equal(done.job, PD_JOB_REMAKE);
	assert_int_equal(done.status, PS_AGAIN);
	th_kill(holder);
	pd_gpu_close(gpu);
}

static void test_gpu_scrub_does_not_wait_for_a_remake(void **state)
{
	IN_CHILD(scrub_beside_a_held_remake);
}

/* Others take memory while the segment is waited for: it is not their bytes
 * that it waits for. */
static void remake_while_others_take(void *arg)
{
	pid_t holder = start_holder();
	struct pd_gpu *gpu = start_small();
	uint64_t foreign;

	(void)arg;
	give_to_holder(gpu);
	assert_int_equal(remake(gpu, 1).status, PS_AGAIN);
	th_assert_ok(dv_segment_create(gpu->device, 8 * MIB, &foreign));
	assert_int_equal(remake(gpu, 1).status, PS_AGAIN);
	th_kill(holder);
	th_assert_ok(remake(gpu, 1).status);
	assert_words(gpu, 1, 0);
	pd_gpu_close(gpu);
}

static void test_gpu_remake_does_not_wait_for_others_memory(void **state)
{
	IN_CHILD(remake_while_others_take);
}

static void remake_where_memory_is_taken(void *arg)
{
	struct pd_gpu *gpu = start_small();

	(void)arg;
	th_sim_fail_nth("cuMemCreate", 1, CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(remake(gpu, 1).status, PS_AGAIN);
	assert_int_equal(pd_gpu_fd(gpu, 1), -1);
	th_assert_ok(remake(gpu, 1).status);
	pd_gpu_close(gpu);
}

static void test_gpu_remake_without_room_is_tried_again(void **state)
{
	IN_CHILD(remake_where_memory_is_taken);
}

/* ---- failures ---- */

static enum ps_status scrub_and_remake(struct pd_gpu *gpu)
{
	enum ps_status status;

	pd_gpu_scrub(gpu, 0);
	status = wait_done(gpu).status;
	if (status == PS_OK)
		status = remake(gpu, 1).status;
	return status;
}

static void work_each_call_failing(void *arg)
{
	struct pd_gpu *gpu = start_small();
	size_t fds = th_open_fds();
	uint64_t before = free_of(gpu);
	enum ps_status status;
	unsigned long calls;
	unsigned int n = 0;

	(void)arg;
	do {
		th_sim_reset();
		th_sim_fail_nth(NULL, ++n, CUDA_ERROR_UNKNOWN);
		status = scrub_and_remake(gpu);
		calls = th_sim_calls(NULL);
		th_sim_fail_nth(NULL, 0, 0);
		th_assert_ok(remake(gpu, 1).status);
		assert_words(gpu, 1, 0);
		assert_int_equal(free_of(gpu), before);
		assert_int_equal(th_open_fds(), fds);
		put_words(gpu, 1, n);
	} while (calls >= n);
	assert_int_equal(status, PS_OK);
	assert_true(n > 25);
	pd_gpu_close(gpu);
}

static void test_gpu_work_goes_on_after_each_failing_call(void **state)
{
	IN_CHILD(work_each_call_failing);
}

static void work_on_a_lost_device(void *arg)
{
	struct pd_gpu *gpu = start_small();
	unsigned long calls;
	struct pd_done done;

	(void)arg;
	th_sim_lose_device();
	pd_gpu_scrub(gpu, 0);
	done = wait_done(gpu);
	assert_int_equal(done.status, PS_DEVICE_LOST);
	assert_non_null(strstr(done.text, "Xid"));
	/* Nothing more is asked of it, even when it is back. */
	th_sim_reset();
	calls = th_sim_calls(NULL);
	assert_int_equal(remake(gpu, 1).status, PS_DEVICE_LOST);
	pd_gpu_scrub(gpu, 2);
	done = wait_done(gpu);
	assert_int_equal(done.status, PS_DEVICE_LOST);
	assert_non_null(strstr(done.text, "was lost before"));
	assert_int_equal(th_sim_calls(NULL), calls);
	pd_gpu_close(gpu);
}

static void test_gpu_that_is_lost_says_so_for_every_job(void **state)
{
	IN_CHILD(work_on_a_lost_device);
}

static void lose_while_remaking(void *arg)
{
	struct pd_gpu *gpu = start_small();

	(void)arg;
	th_sim_fail_nth("cuMemUnmap", 1, CUDA_ERROR_ECC_UNCORRECTABLE);
	assert_int_equal(remake(gpu, 1).status, PS_DEVICE_LOST);
	assert_int_equal(remake(gpu, 2).status, PS_DEVICE_LOST);
	pd_gpu_close(gpu);
}

static void test_gpu_lost_in_a_remake_is_lost_for_good(void **state)
{
	IN_CHILD(lose_while_remaking);
}

static void close_with_work(void *arg)
{
	struct pd_gpu *gpu = start_small();

	(void)arg;
	for (uint32_t i = 0; i < SEGMENTS; i++) {
		if (i % 2) {
			pd_gpu_drop_fd(gpu, i);
			pd_gpu_remake(gpu, i);
		} else {
			pd_gpu_scrub(gpu, i);
		}
	}
	pd_gpu_close(gpu);
	gpu = open_gpu();
	assert_int_equal(free_of(gpu), GPU_BYTES);
	pd_gpu_close(gpu);
}

static void test_gpu_close_with_work_queued_ends(void **state)
{
	IN_CHILD(close_with_work);
}

/* ---- the thread ---- */

/* A line of the GPU's thread's status, as a number. */
static uint64_t thread_line(const char *key, int base)
{
	DIR *folder = opendir("/proc/self/task");
	struct dirent *entry;
	uint64_t value = UINT64_MAX;

	while ((entry = readdir(folder)) != NULL) {
		char path[300], line[200];
		bool is_it = false;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status",
			 entry->d_name);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file)) {
			is_it |= strcmp(line, "Name:\tpoolswitchd-gpu\n") == 0;
			if (is_it && strncmp(line, key, strlen(key)) == 0)
				value = strtoull(line + strlen(key), NULL,
						 base);
		}
		if (file)
			fclose(file);
	}
	closedir(folder);
	return value;
}

static void look_at_thread(void *arg)
{
	struct pd_gpu *gpu = start_small();
	const uint64_t usual = UINT64_C(0xfffffffe3ffbfeff);
	uint64_t switches;

	(void)arg;
	pd_gpu_scrub(gpu, 0);
	th_assert_ok(wait_done(gpu).status);
	/* All but those that cannot be, and the C library's two. */
	assert_int_equal(thread_line("SigBlk:", 16) & usual, usual);
	usleep(1000 * TH_NOT_HAPPENING_MS);
	switches = thread_line("voluntary_ctxt_switches:", 10);
	usleep(1000 * TH_NOT_HAPPENING_MS);
	assert_int_not_equal(switches, UINT64_MAX);
	assert_int_equal(thread_line("voluntary_ctxt_switches:", 10), switches);
	pd_gpu_close(gpu);
}

static void test_gpu_thread_blocks_signals_and_idles(void **state)
{
	IN_CHILD(look_at_thread);
}

static const struct th_test tests[] = {
	TH_TEST(test_gpu_scrub_zeroes_its_segment_alone),
	TH_TEST(test_gpu_scrub_zeroes_every_word),
	TH_TEST(test_gpu_scrubs_are_each_reported_once),
	TH_TEST(test_gpu_scrub_that_fails_is_reported),
	TH_TEST(test_gpu_scrub_waits_again_when_a_wait_fails),
	TH_TEST(test_gpu_unsettled_work_is_waited_for_before_unmapping),
	TH_TEST(test_gpu_remake_gives_zeros_and_a_new_descriptor),
	TH_TEST(test_gpu_remake_waits_until_nobody_has_the_memory),
	TH_TEST(test_gpu_scrub_does_not_wait_for_a_remake),
	TH_TEST(test_gpu_remake_does_not_wait_for_others_memory),
	TH_TEST(test_gpu_remake_without_room_is_tried_again),
	TH_TEST(test_gpu_work_goes_on_after_each_failing_call),
	TH_TEST(test_gpu_that_is_lost_says_so_for_every_job),
	TH_TEST(test_gpu_lost_in_a_remake_is_lost_for_good),
	TH_TEST(test_gpu_close_with_work_queued_ends),
	TH_TEST(test_gpu_thread_blocks_signals_and_idles),
};

TH_MAIN_WARM("gpu_work", tests, small_gpu)
