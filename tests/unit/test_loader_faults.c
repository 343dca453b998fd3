/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The loader when something fails: nobody hangs, nobody believes what came of
 * it, and the next try is as good as any. */
#include "tests/support/loader_world.h"

#include <dirent.h>
#include <stdio.h>

#define GROUP (256 * 1024)

static struct lw_model *some_model(void)
{
	return lw_model_new(4, 6, 6 * GROUP, 2);
}

/* The load has failed and says so everywhere. */
static void assert_failed(struct lw *world, const struct pd_load_done *done,
			  uint32_t times)
{
	assert_int_not_equal(done->status, PS_OK);
	assert_true(strlen(done->text) > 8);
	assert_int_equal(lw_failed(world, done->model), times);
	assert_true(lw_counter(world, done->model) == PD_COUNTER_FAILED);
	assert_true(lw_landed(world, done->model) <= 6);
}

/* ---- a load that fails ---- */

static void fail_copy(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = some_model();
	struct pd_load_done done;

	(void)arg;
	th_sim_fail_nth("cuMemcpyHtoDAsync_v2", 4, CUDA_ERROR_UNKNOWN);
	done = lw_load(&world, model);
	assert_int_equal(done.status, PS_DRIVER);
	assert_non_null(strstr(done.text, "copying 262144 bytes"));
	assert_failed(&world, &done, 1);
	assert_true(lw_landed(&world, 4) <= 3);
	assert_true(lw_is_there(&world, model, 0, 3 * GROUP));
	lw_reset(&world, 4);
	th_assert_ok(lw_load(&world, model).status);
	assert_true(lw_is_there(&world, model, 0, 6 * GROUP));
	assert_int_equal(lw_counter(&world, 4), 6);
	assert_int_equal(lw_failed(&world, 4), 1);
	lw_free(&world);
	lw_model_free(model);
}

static void
test_loader_load_that_fails_says_so_in_page_and_counter(void **state)
{
	IN_CHILD(fail_copy);
}

/* Whoever waits is let go, and finds the failure when he looks. */
static void fail_with_waiter(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = some_model();
	void *stream;

	(void)arg;
	th_assert_ok(dv_stream_create(world.gpu->device, &stream));
	th_assert_ok(dv_wait_word(world.gpu->device,
				  pd_board_counter(world.loader, 4), 6,
				  stream));
	th_sim_fail_nth("cuMemcpyHtoDAsync_v2", 2, CUDA_ERROR_UNKNOWN);
	pd_loader_copy(world.loader, &model->load);
	th_assert_ok(dv_stream_wait(world.gpu->device, stream));
	assert_int_equal(lw_failed(&world, 4), 1);
	assert_int_equal(lw_done(&world).status, PS_DRIVER);
	dv_stream_destroy(world.gpu->device, stream);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_load_that_fails_lets_who_waits_go(void **state)
{
	IN_CHILD(fail_with_waiter);
}

/* The others know nothing of it. */
static void fail_one_of_two(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = some_model();
	struct lw_model *other = lw_model_new(5, 4, 4 * GROUP, 0);
	struct pd_load_done done;

	(void)arg;
	th_sim_fail_nth("cuMemcpyHtoDAsync_v2", 2, CUDA_ERROR_UNKNOWN);
	pd_loader_copy(world.loader, &model->load);
	pd_loader_copy(world.loader, &other->load);
	done = lw_done(&world);
	assert_failed(&world, &done, 1);
	assert_int_equal(done.model, 4);
	th_assert_ok(lw_done(&world).status);
	assert_int_equal(lw_failed(&world, 5), 0);
	assert_true(lw_is_there(&world, other, 0, 4 * GROUP));
	lw_free(&world);
	lw_model_free(model);
	lw_model_free(other);
}

static void test_loader_load_that_fails_leaves_others_alone(void **state)
{
	IN_CHILD(fail_one_of_two);
}

/* Its words must not become the next one's progress. */
static void load_without_reset(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = some_model();
	struct pd_load_done done;
	int board;

	(void)arg;
	th_sim_fail_nth("cuMemcpyHtoDAsync_v2", 2, CUDA_ERROR_UNKNOWN);
	assert_int_equal(lw_load(&world, model).status, PS_DRIVER);
	assert_int_equal(lw_load(&world, model).status, PS_LOAD_FAILED);
	/* Nor for a loader that was not there. */
	board = dup(pd_loader_board(world.loader));
	pd_loader_free(world.loader);
	lw_start_loader(&world, board);
	close(board);
	done = lw_load(&world, model);
	assert_int_equal(done.status, PS_LOAD_FAILED);
	assert_non_null(strstr(done.text, "failed to load before"));
	assert_failed(&world, &done, 3);
	lw_reset(&world, 4);
	th_assert_ok(lw_load(&world, model).status);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_failed_load_is_no_progress(void **state)
{
	IN_CHILD(load_without_reset);
}

static void load_another_layout(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = some_model();
	struct pd_load_done done;

	(void)arg;
	world.loader->counter[4] = 7;
	done = lw_load(&world, model);
	assert_int_equal(done.status, PS_LOAD_FAILED);
	assert_non_null(strstr(done.text, "has 6 tensors and its counter "
					  "says 7"));
	assert_failed(&world, &done, 1);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_counter_beyond_the_tensors_is_refused(void **state)
{
	IN_CHILD(load_another_layout);
}

/* ---- each call failing ---- */

/* @symbol: fails at its second use too; NULL: none. */
static void load_with_faults(const char *symbol)
{
	struct lw world = lw_new();
	struct lw_model *model = some_model();
	struct pd_load_done done;
	unsigned int n = 0, failures = 0;
	unsigned long calls;

	do {
		th_sim_reset();
		th_sim_fail_nth(NULL, ++n, CUDA_ERROR_UNKNOWN);
		if (symbol)
			th_sim_fail_nth(symbol, 2, CUDA_ERROR_UNKNOWN);
		done = lw_load(&world, model);
		calls = th_sim_calls(NULL);
		th_sim_reset();
		if (done.status != PS_OK)
			assert_failed(&world, &done, ++failures);
		else
			assert_true(lw_is_there(&world, model, 0, 6 * GROUP));
		lw_reset(&world, 4);
		assert_int_equal(lw_counter(&world, 4), 0);
	} while (calls >= n);
	assert_true(n > 30 && failures > 20);
	lw_free(&world);
	lw_model_free(model);
}

static void fail_each_call(void *arg)
{
	(void)arg;
	load_with_faults(NULL);
}

static void test_loader_load_fails_cleanly_at_each_call(void **state)
{
	IN_CHILD(fail_each_call);
}

static void fail_twice(void *arg)
{
	(void)arg;
	load_with_faults("cuMemcpyHtoDAsync_v2");
}

static void test_loader_load_that_fails_ends_though_calls_fail(void **state)
{
	IN_CHILD(fail_twice);
}

static void fail_each_reset(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = some_model();
	unsigned int n = 0;
	unsigned long calls;

	(void)arg;
	do {
		th_assert_ok(lw_load(&world, model).status);
		th_sim_reset();
		th_sim_fail_nth(NULL, ++n, CUDA_ERROR_UNKNOWN);
		lw_reset(&world, 4);
		calls = th_sim_calls(NULL);
		th_sim_reset();
		assert_int_equal(lw_counter(&world, 4), 0);
	} while (calls >= n);
	assert_true(n > 10);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_reset_succeeds_whatever_call_fails_once(void **state)
{
	IN_CHILD(fail_each_reset);
}

/* Each call at first; then some of the many that measure the wire, which are
 * all alike. */
static unsigned int next_fault(unsigned int n)
{
	return n < 100 ? n + 1 : n + 61;
}

static void open_with_faults(void *arg)
{
	struct pd_pool_record pool;
	struct lw world = { .gpu = create_small(&pool) };
	uint64_t before = free_of(world.gpu);
	enum ps_status status;
	unsigned int n = 0;
	unsigned long calls;

	(void)arg;
	lw_make_page(&world);
	do {
		th_sim_reset();
		n = next_fault(n);
		th_sim_fail_nth(NULL, n, CUDA_ERROR_UNKNOWN);
		status = pd_loader_new(world.gpu, -1, world.landed,
				       &world.loader);
		calls = th_sim_calls(NULL);
		th_sim_reset();
		if (status == PS_OK)
			pd_loader_free(world.loader);
		else
			assert_true(strlen(bs_fail_text()) > 8);
		assert_int_equal(free_of(world.gpu), before);
	} while (calls >= n);
	th_assert_ok(status);
	assert_true(n > 100);
	world.loader = NULL;
	lw_free(&world);
}

static void test_loader_open_fails_cleanly_at_each_call(void **state)
{
	IN_CHILD(open_with_faults);
}

static void fail_memory(void *arg)
{
	struct lw world = lw_new();
	void *memory = mmap(NULL, SEGMENT, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct pd_load_done done;

	(void)arg;
	th_sim_fail_nth("cuMemHostRegister_v2", 1, CUDA_ERROR_OUT_OF_MEMORY);
	pd_loader_register(world.loader, 1, 2, memory, SEGMENT);
	done = lw_done(&world);
	assert_int_equal(done.status, PS_HOST_MEMORY);
	assert_non_null(strstr(done.text, "ulimit -l"));
	pd_loader_unregister(world.loader, 1, 2, memory, SEGMENT);
	assert_int_equal(lw_done(&world).status, PS_DRIVER);
	lw_free(&world);
}

static void test_loader_memory_that_cannot_be_registered_says_why(void **state)
{
	IN_CHILD(fail_memory);
}

/* ---- the GPU is lost ---- */

static void lose_gpu(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = some_model();
	char memory[64];

	(void)arg;
	th_sim_lose_device();
	pd_loader_copy(world.loader, &model->load);
	assert_int_equal(lw_done(&world).status, PS_DEVICE_LOST);
	pd_loader_reset(world.loader, 3, 1);
	assert_int_equal(lw_done(&world).status, PS_DEVICE_LOST);
	pd_loader_register(world.loader, 3, 1, memory, sizeof(memory));
	assert_int_equal(lw_done(&world).status, PS_DEVICE_LOST);
	assert_int_equal(lw_failed(&world, 4), 0);
	th_sim_reset();
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_of_a_lost_gpu_says_so_for_every_job(void **state)
{
	IN_CHILD(lose_gpu);
}

/* At each call of three loads, a reset and their waits. */
static void lose_at_each_call(void *arg)
{
	struct lw_model *model = some_model();
	struct lw_model *other = lw_model_new(5, 4, 4 * GROUP, 0);
	unsigned int lost = 0, n = 0;
	unsigned long calls;

	(void)arg;
	do {
		struct lw world = lw_new();

		th_sim_reset();
		th_sim_fail_nth(NULL, ++n, CUDA_ERROR_ECC_UNCORRECTABLE);
		pd_loader_copy(world.loader, &model->load);
		pd_loader_copy(world.loader, &other->load);
		pd_loader_reset(world.loader, 7, 1);
		for (int i = 0; i < 3; i++)
			lost += lw_done(&world).status == PS_DEVICE_LOST;
		calls = th_sim_calls(NULL);
		th_sim_reset();
		lw_free(&world);
	} while (calls >= n);
	assert_true(n > 100 && lost > n);
	lw_model_free(model);
	lw_model_free(other);
}

static void test_loader_loss_at_each_call_ends_every_job(void **state)
{
	IN_CHILD(lose_at_each_call);
}

/* ---- the end ---- */

static void close_with_work(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = some_model();

	(void)arg;
	setenv("POOLSWITCH_SIM_BANDWIDTH", "1", 1);
	world.loader->most_under_way = 1;
	pd_loader_copy(world.loader, &model->load);
	pd_loader_reset(world.loader, 7, 1);
	pd_loader_register(world.loader, 3, 1, model->memory, 4096);
	while (lw_counter(&world, 4) == 0)
		;
	pd_loader_free(world.loader);
	/* What was under way has passed, the rest was dropped. */
	assert_true(lw_landed(&world, 4) > 0);
	world.loader = NULL;
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_close_with_work_queued_ends(void **state)
{
	IN_CHILD(close_with_work);
}

/* How often the process's threads of that name were switched to, in all. */
static uint64_t switches_of(const char *name)
{
	DIR *folder = opendir("/proc/self/task");
	struct dirent *entry;
	uint64_t sum = 0;

	while ((entry = readdir(folder)) != NULL) {
		char path[300], line[200];
		bool is_it = false;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status",
			 entry->d_name);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file)) {
			is_it |= strstr(line, name) != NULL;
			if (is_it && strncmp(line, "voluntary", 9) == 0)
				sum += strtoull(strchr(line, ':') + 1, NULL,
						10);
		}
		if (file)
			fclose(file);
	}
	closedir(folder);
	return sum;
}

static void idle(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = some_model();
	uint64_t before;

	(void)arg;
	th_assert_ok(lw_load(&world, model).status);
	usleep(1000 * TH_NOT_HAPPENING_MS);
	before = switches_of("poolswitchd-");
	assert_true(before > 0);
	usleep(1000 * TH_NOT_HAPPENING_MS);
	assert_int_equal(switches_of("poolswitchd-"), before);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_threads_without_work_sleep(void **state)
{
	IN_CHILD(idle);
}

static const struct th_test tests[] = {
	TH_TEST(test_loader_load_that_fails_says_so_in_page_and_counter),
	TH_TEST(test_loader_load_that_fails_lets_who_waits_go),
	TH_TEST(test_loader_load_that_fails_leaves_others_alone),
	TH_TEST(test_loader_failed_load_is_no_progress),
	TH_TEST(test_loader_counter_beyond_the_tensors_is_refused),
	TH_TEST(test_loader_load_fails_cleanly_at_each_call),
	TH_TEST(test_loader_load_that_fails_ends_though_calls_fail),
	TH_TEST(test_loader_reset_succeeds_whatever_call_fails_once),
	TH_TEST(test_loader_open_fails_cleanly_at_each_call),
	TH_TEST(test_loader_memory_that_cannot_be_registered_says_why),
	TH_TEST(test_loader_of_a_lost_gpu_says_so_for_every_job),
	TH_TEST(test_loader_loss_at_each_call_ends_every_job),
	TH_TEST(test_loader_close_with_work_queued_ends),
	TH_TEST(test_loader_threads_without_work_sleep),
};

TH_MAIN_WARM("loader_faults", tests, small_gpu)
