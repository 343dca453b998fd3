/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Segments whose bytes the driver gets back for others: poold/gpu_work.c. */
#include "tests/support/gpu_pool.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static struct pd_gpu *start_small(void)
{
	struct pd_pool_record pool;
	struct pd_gpu *gpu = create_small(&pool);

	for (uint32_t i = 0; i < SEGMENTS; i++)
		put_words(gpu, i, 0x5eed0000 + i);
	th_assert_ok(pd_gpu_start(gpu));
	return gpu;
}

static struct pd_done vacate(struct pd_gpu *gpu, uint32_t n)
{
	struct pd_done done;

	pd_gpu_drop_fd(gpu, n);
	pd_gpu_vacate(gpu, n);
	done = wait_done(gpu);
	assert_int_equal(done.job, PD_JOB_VACATE);
	assert_int_equal(done.segment, n);
	return done;
}

static void vacate_one(void *arg)
{
	struct pd_gpu *gpu = start_small();
	uint64_t before = free_of(gpu);

	(void)arg;
	th_assert_ok(vacate(gpu, 1).status);
	assert_int_equal(pd_gpu_fd(gpu, 1), -1);
	assert_true(free_of(gpu) == before + SEGMENT);
	assert_words(gpu, 0, 0x5eed0000);
	assert_words(gpu, 2, 0x5eed0002);
	pd_gpu_close(gpu);
}

static void test_gpu_vacated_segment_is_free_to_the_driver(void **state)
{
	IN_CHILD(vacate_one);
}

static void remake_vacant(void *arg)
{
	struct pd_gpu *gpu = start_small();
	uint64_t before = free_of(gpu);

	(void)arg;
	th_assert_ok(vacate(gpu, 1).status);
	th_assert_ok(remake(gpu, 1).status);
	assert_true(pd_gpu_fd(gpu, 1) >= 0);
	assert_words(gpu, 1, 0);
	assert_true(free_of(gpu) == before);
	pd_gpu_close(gpu);
}

static void test_gpu_vacant_segment_is_remade(void **state)
{
	IN_CHILD(remake_vacant);
}

/* Whoever took the room has it still. */
static void remake_without_room(void *arg)
{
	struct pd_gpu *gpu = start_small();
	struct pd_done done;
	uint64_t foreign;

	(void)arg;
	th_assert_ok(vacate(gpu, 1).status);
	th_assert_ok(dv_segment_create(gpu->device, free_of(gpu), &foreign));
	done = remake(gpu, 1);
	assert_int_equal(done.status, PS_AGAIN);
	assert_non_null(strstr(done.text, "the GPU has 0 free"));
	th_assert_ok(dv_segment_release(gpu->device, foreign));
	th_assert_ok(remake(gpu, 1).status);
	pd_gpu_close(gpu);
}

static void test_gpu_vacant_segment_waits_for_its_room(void **state)
{
	IN_CHILD(remake_without_room);
}

/* A process that has segment 1 mapped and holds on to it. */
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
	th_assert_ok(dv_segment_release(dev, handle));
	th_gpu_tell(holder_link[1]);
	pause();
}

static void vacate_held(void *arg)
{
	struct pd_gpu *gpu;
	struct pd_done done;
	pid_t holder;

	(void)arg;
	th_socketpair(SOCK_STREAM, holder_link);
	holder = th_fork(be_holder, NULL);
	gpu = start_small();
	th_gpu_send_fd(holder_link[0], pd_gpu_fd(gpu, 1));
	th_gpu_await(holder_link[0]);
	done = vacate(gpu, 1);
	assert_int_equal(done.status, PS_AGAIN);
	assert_non_null(strstr(done.text, "a process has it mapped"));
	th_kill(holder);
	th_assert_ok(vacate(gpu, 1).status);
	pd_gpu_close(gpu);
}

static void test_gpu_vacate_waits_until_nobody_has_the_memory(void **state)
{
	IN_CHILD(vacate_held);
}

/* A client waits for room, nobody for what is remade. */
static void vacate_after_remakes(void *arg)
{
	struct pd_pool_record pool;
	struct pd_gpu *gpu = create_small(&pool);

	(void)arg;
	for (uint32_t i = 0; i < SEGMENTS; i++)
		pd_gpu_drop_fd(gpu, i);
	for (uint32_t i = 0; i < SEGMENTS - 1; i++)
		pd_gpu_remake(gpu, i);
	pd_gpu_vacate(gpu, SEGMENTS - 1);
	th_assert_ok(pd_gpu_start(gpu));
	assert_int_equal(wait_done(gpu).job, PD_JOB_VACATE);
	for (uint32_t i = 0; i < SEGMENTS - 1; i++)
		assert_int_equal(wait_done(gpu).job, PD_JOB_REMAKE);
	pd_gpu_close(gpu);
}

static void test_gpu_vacate_comes_before_remakes(void **state)
{
	IN_CHILD(vacate_after_remakes);
}

/* Loops over the n-th call that fails until a run is clean. */
static void vacate_each_call_failing(void *arg)
{
	static const char *const calls[] = { "cuMemUnmap", "cuMemGetInfo_v2" };
	struct pd_gpu *gpu = start_small();

	(void)arg;
	for (uint32_t i = 0; i < 2; i++) {
		th_sim_fail_nth(calls[i], 1, CUDA_ERROR_UNKNOWN);
		assert_int_equal(vacate(gpu, i).status, PS_DRIVER);
		th_assert_ok(vacate(gpu, i).status);
		th_assert_ok(remake(gpu, i).status);
		assert_words(gpu, i, 0);
	}
	pd_gpu_close(gpu);
}

static void test_gpu_vacate_goes_on_after_each_failing_call(void **state)
{
	IN_CHILD(vacate_each_call_failing);
}

static void vacate_lost(void *arg)
{
	struct pd_gpu *gpu = start_small();

	(void)arg;
	th_sim_fail_nth("cuMemUnmap", 1, CUDA_ERROR_ECC_UNCORRECTABLE);
	assert_int_equal(vacate(gpu, 0).status, PS_DEVICE_LOST);
	assert_int_equal(vacate(gpu, 1).status, PS_DEVICE_LOST);
	pd_gpu_close(gpu);
}

static void test_gpu_vacate_of_a_lost_gpu_says_so(void **state)
{
	IN_CHILD(vacate_lost);
}

static void create_with_key(void *arg)
{
	static const uint8_t zeros[8];
	struct pd_pool_record pool = { 0 };

	(void)arg;
	pd_gpu_close(create_small(&pool));
	for (size_t at = 0; at < PD_KEY_BYTES; at += sizeof(zeros))
		assert_memory_not_equal(pool.key + at, zeros, sizeof(zeros));
}

static void test_gpu_new_pool_has_a_whole_key(void **state)
{
	IN_CHILD(create_with_key);
}

static const struct th_test tests[] = {
	TH_TEST(test_gpu_vacated_segment_is_free_to_the_driver),
	TH_TEST(test_gpu_vacant_segment_is_remade),
	TH_TEST(test_gpu_vacant_segment_waits_for_its_room),
	TH_TEST(test_gpu_vacate_waits_until_nobody_has_the_memory),
	TH_TEST(test_gpu_vacate_comes_before_remakes),
	TH_TEST(test_gpu_vacate_goes_on_after_each_failing_call),
	TH_TEST(test_gpu_vacate_of_a_lost_gpu_says_so),
	TH_TEST(test_gpu_new_pool_has_a_whole_key),
};

TH_MAIN_WARM("gpu_vacate", tests, small_gpu)
