/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The agent's GPU: what is refused, how a pool is made, how it is taken over
 * from an agent that was killed. */
#include "tests/support/gpu_pool.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* ---- what is refused ---- */

static void assert_refused(const char *gpu, enum ps_status status,
			   const char *part)
{
	struct pd_gpu *opened;

	th_assert_status(pd_gpu_open(gpu, &opened), status);
	if (!strstr(bs_fail_text(), part))
		fail_msg("\"%s\" is not in \"%s\"", part, bs_fail_text());
}

static void open_prohibited(void *arg)
{
	(void)arg;
	setenv("POOLSWITCH_SIM_COMPUTE_MODE", "2", 1);
	assert_refused(NULL, PS_UNSUPPORTED, "compute mode prohibited");
	assert_refused(NULL, PS_UNSUPPORTED, "nvidia-smi -i GPU-");
	assert_int_equal(th_sim_calls("cuDevicePrimaryCtxRetain"), 0);
}

static void test_gpu_in_prohibited_mode_is_refused(void **state)
{
	IN_CHILD(open_prohibited);
}

static void open_exclusive(void *arg)
{
	(void)arg;
	setenv("POOLSWITCH_SIM_COMPUTE_MODE", "3", 1);
	assert_refused(NULL, PS_UNSUPPORTED, "compute mode exclusive");
	assert_refused(NULL, PS_UNSUPPORTED, "-c DEFAULT");
}

static void test_gpu_in_exclusive_mode_is_refused(void **state)
{
	IN_CHILD(open_exclusive);
}

static void open_mig(void *arg)
{
	(void)arg;
	setenv("POOLSWITCH_SIM_NAME", "NVIDIA H200 MIG 1g.18gb", 1);
	assert_refused(NULL, PS_UNSUPPORTED, "is a MIG instance");
	assert_refused("MIG-1234", PS_UNSUPPORTED, "is a MIG instance");
}

static void test_gpu_that_mig_divides_is_refused(void **state)
{
	IN_CHILD(open_mig);
}

static void open_mps(void *arg)
{
	(void)arg;
	setenv("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps", 1);
	setenv("POOLSWITCH_SIM_MPS", "1", 1);
	assert_refused(NULL, PS_UNSUPPORTED, "MPS server");
	/* A real driver finds no server where this points. */
	assert_string_equal(getenv("CUDA_MPS_PIPE_DIRECTORY"),
			    "/dev/null/poolswitchd");
}

static void test_gpu_under_mps_is_refused(void **state)
{
	IN_CHILD(open_mps);
}

static void open_one_of_two(void *arg)
{
	struct pd_gpu *gpu;

	(void)arg;
	setenv("POOLSWITCH_SIM_COUNT", "2", 1);
	assert_refused(NULL, PS_INVALID_ARGUMENT, "CUDA shows 2 GPUs");
	th_assert_ok(pd_gpu_open("0", &gpu));
	pd_gpu_close(gpu);
}

static void test_gpu_of_two_must_be_named(void **state)
{
	IN_CHILD(open_one_of_two);
}

static void open_each_call_failing(void *arg)
{
	struct pd_gpu *gpu = NULL;
	enum ps_status status;
	unsigned int n = 0;

	(void)arg;
	pd_gpu_close(NULL);
	do {
		th_sim_reset();
		th_sim_fail_nth(NULL, ++n, CUDA_ERROR_UNKNOWN);
		status = pd_gpu_open(NULL, &gpu);
		if (status == PS_OK)
			pd_gpu_close(gpu);
		else
			assert_true(strlen(bs_fail_text()) > 8);
	} while (th_sim_calls(NULL) >= n);
	assert_true(n > 20);
	assert_int_equal(status, PS_OK);
}

static void test_gpu_open_fails_cleanly_at_each_call(void **state)
{
	IN_CHILD(open_each_call_failing);
}

/* ---- a new pool ---- */

static void create_all(void *arg)
{
	struct pd_gpu_plan plan = { .headroom = 8 * MIB, .clients = 17 };
	struct pd_gpu *gpu = open_gpu();
	struct pd_pool_record pool;

	(void)arg;
	th_assert_ok(pd_gpu_create(gpu, &plan, &pool));
	assert_int_equal(pool.segment_bytes, SEGMENT);
	assert_int_equal(pool.segments,
			 (GPU_BYTES - IP_BOARD_BYTES - 8 * MIB) / SEGMENT);
	assert_int_equal(pool.parameter_bytes, 14 * MIB);
	assert_int_equal(pool.clients, 17);
	assert_string_equal(pool.gpu, pd_gpu_uuid(gpu));
	assert_int_equal(pool.window_base, gpu->base);
	assert_int_equal(pool.window_bytes, 8 * 54 * MIB);
	assert_int_equal(pool.id[0] & 1, 1);
	assert_int_equal(pd_gpu_free_bytes(gpu), IP_BOARD_BYTES + 8 * MIB);
	for (uint32_t i = 0; i < pool.segments; i++) {
		assert_true(pd_gpu_fd(gpu, i) >= 0);
		assert_words(gpu, i, 0);
		put_words(gpu, i, i + 1);
	}
	for (uint32_t i = 0; i < pool.segments; i++)
		assert_words(gpu, i, i + 1);
	pd_gpu_close(gpu);
}

static void test_gpu_create_takes_all_but_the_headroom(void **state)
{
	IN_CHILD(create_all);
}

static void create_by_default(void *arg)
{
	struct pd_gpu_plan plan = { .headroom = UINT64_MAX, .clients = 1 };
	struct pd_gpu *gpu = open_gpu();
	struct pd_pool_record pool;

	(void)arg;
	th_assert_ok(pd_gpu_create(gpu, &plan, &pool));
	assert_int_equal(pool.segments,
			 (GPU_BYTES / 8 * 7 - IP_BOARD_BYTES) / SEGMENT);
	pd_gpu_close(gpu);
}

static void test_gpu_create_leaves_a_headroom_by_default(void **state)
{
	IN_CHILD(create_by_default);
}

static uint64_t parameter_of(const char *text)
{
	struct pd_gpu_plan plan = small_plan();
	struct pd_gpu *gpu = open_gpu();
	struct pd_pool_record pool;

	plan.parameter = text;
	th_assert_ok(pd_gpu_create(gpu, &plan, &pool));
	pd_gpu_close(gpu);
	return pool.parameter_bytes;
}

static void create_with_parameters(void *arg)
{
	(void)arg;
	assert_int_equal(parameter_of(NULL), SEGMENT);
	assert_int_equal(parameter_of("50%"), 2 * SEGMENT);
	assert_int_equal(parameter_of("51%"), 3 * SEGMENT);
	assert_int_equal(parameter_of("6M"), 3 * SEGMENT);
	assert_int_equal(parameter_of("0"), 0);
	assert_int_equal(parameter_of("100%"), 4 * SEGMENT);
}

static void test_gpu_create_divides_by_bytes_or_percent(void **state)
{
	IN_CHILD(create_with_parameters);
}

static void create_badly(void *arg)
{
	struct pd_gpu_plan plan = small_plan();
	struct pd_gpu *gpu = open_gpu();
	struct pd_pool_record pool;

	(void)arg;
	plan.parameter = "lots";
	th_assert_status(pd_gpu_create(gpu, &plan, &pool), PS_INVALID_ARGUMENT);
	plan.parameter = "10M";
	th_assert_status(pd_gpu_create(gpu, &plan, &pool), PS_INVALID_ARGUMENT);
	plan.parameter = NULL;
	plan.segment = 3 * MIB;
	th_assert_status(pd_gpu_create(gpu, &plan, &pool), PS_INVALID_ARGUMENT);
	plan.segment = 0;
	plan.size = 2 * GPU_BYTES;
	th_assert_status(pd_gpu_create(gpu, &plan, &pool), PS_DEVICE_MEMORY);
	plan.size = SEGMENTS * SEGMENT;
	th_assert_ok(pd_gpu_create(gpu, &plan, &pool));
	pd_gpu_close(gpu);
}

static void test_gpu_create_by_a_bad_plan_leaves_nothing(void **state)
{
	IN_CHILD(create_badly);
}

/* ---- memory that somebody else takes ---- */

static void create_beside_others(void *arg)
{
	struct pd_gpu_plan plan = { .headroom = 0, .clients = 1 };
	struct pd_gpu *gpu = open_gpu();
	struct pd_pool_record pool;
	uint64_t foreign;

	(void)arg;
	th_assert_ok(dv_segment_create(gpu->device, 20 * MIB, &foreign));
	th_assert_ok(pd_gpu_create(gpu, &plan, &pool));
	assert_int_equal(pool.segments,
			 (GPU_BYTES - IP_BOARD_BYTES - 20 * MIB) / SEGMENT);
	assert_int_equal(free_of(gpu), IP_BOARD_BYTES);
	pd_gpu_close(gpu);
}

static void test_gpu_create_does_with_what_others_leave(void **state)
{
	IN_CHILD(create_beside_others);
}

static void create_while_others_take(void *arg)
{
	struct pd_gpu_plan plan = { .headroom = 0, .clients = 1 };
	struct pd_gpu *gpu = open_gpu();
	struct pd_pool_record pool;

	(void)arg;
	th_sim_fail_nth("cuMemCreate", 7, CUDA_ERROR_OUT_OF_MEMORY);
	th_assert_ok(pd_gpu_create(gpu, &plan, &pool));
	assert_int_equal(pool.segments, (GPU_BYTES - IP_BOARD_BYTES) / SEGMENT);
	pd_gpu_close(gpu);
}

static void test_gpu_create_asks_again_when_memory_goes(void **state)
{
	IN_CHILD(create_while_others_take);
}

static void create_where_nothing_is_left(void *arg)
{
	struct pd_gpu_plan plan = { .headroom = 8 * MIB, .clients = 1 };
	struct pd_gpu *gpu = open_gpu();
	struct pd_pool_record pool;
	uint64_t foreign;

	(void)arg;
	th_assert_ok(dv_segment_create(gpu->device, 56 * MIB, &foreign));
	th_assert_status(pd_gpu_create(gpu, &plan, &pool), PS_DEVICE_MEMORY);
	assert_non_null(strstr(bs_fail_text(), "tried 3 times"));
	pd_gpu_close(gpu);
}

static void test_gpu_create_gives_up_after_three_tries(void **state)
{
	IN_CHILD(create_where_nothing_is_left);
}

static void create_of_a_size(void *arg)
{
	struct pd_gpu_plan plan = small_plan();
	struct pd_gpu *gpu = open_gpu();
	struct pd_pool_record pool;

	(void)arg;
	th_sim_fail_nth("cuMemCreate", 3, CUDA_ERROR_OUT_OF_MEMORY);
	th_assert_status(pd_gpu_create(gpu, &plan, &pool), PS_DEVICE_MEMORY);
	assert_non_null(strstr(bs_fail_text(), "segment 2 of 4"));
	assert_int_equal(free_of(gpu), GPU_BYTES);
	pd_gpu_close(gpu);
}

static void test_gpu_create_of_a_size_fails_without_it(void **state)
{
	IN_CHILD(create_of_a_size);
}

static void create_at_the_fd_limit(void *arg)
{
	struct pd_gpu_plan plan = small_plan();
	struct pd_gpu *gpu = open_gpu();
	struct rlimit limit = { 70, 70 };
	struct pd_pool_record pool;

	(void)arg;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	th_assert_status(pd_gpu_create(gpu, &plan, &pool), PS_FD_LIMIT);
	assert_non_null(strstr(bs_fail_text(), "LimitNOFILE"));
	assert_int_equal(free_of(gpu), GPU_BYTES);
	pd_gpu_close(gpu);
}

static void test_gpu_create_at_the_fd_limit_says_so(void **state)
{
	IN_CHILD(create_at_the_fd_limit);
}

/* ---- an inherited pool ---- */

/* What a creator sends to its keeper. */
struct heritage {
	struct pd_pool_record pool;
	int fds[SEGMENTS];
	pid_t creator;
};

static int keeper_link[2];

static void be_creator(void *arg)
{
	struct pd_pool_record pool;
	struct pd_gpu *gpu = create_small(&pool);

	(void)arg;
	for (uint32_t i = 0; i < SEGMENTS; i++)
		put_words(gpu, i, 0xc0de0000 + i);
	th_gpu_send_bytes(keeper_link[1], &pool, sizeof(pool));
	for (uint32_t i = 0; i < SEGMENTS; i++)
		th_gpu_send_fd(keeper_link[1], pd_gpu_fd(gpu, i));
	pause();
}

/* A pool whose creator was killed; this process has no CUDA. */
static struct heritage inherit(void)
{
	struct heritage heritage;
	pid_t creator;

	th_socketpair(SOCK_STREAM, keeper_link);
	creator = th_fork(be_creator, NULL);
	th_gpu_receive_bytes(keeper_link[0], &heritage.pool,
			     sizeof(heritage.pool));
	for (uint32_t i = 0; i < SEGMENTS; i++)
		heritage.fds[i] = th_gpu_receive_fd(keeper_link[0]);
	th_kill(creator);
	close(keeper_link[0]);
	close(keeper_link[1]);
	return heritage;
}

/* Runs @body in a child that has the heritage. */
static void with_heritage(void (*body)(void *heritage))
{
	struct heritage heritage = inherit();

	assert_int_equal(th_wait(th_fork(body, &heritage)), 0);
	for (uint32_t i = 0; i < SEGMENTS; i++)
		close(heritage.fds[i]);
}

static void adopt_whole(void *arg)
{
	struct heritage *heritage = arg;
	struct pd_gpu *gpu = open_gpu();

	th_assert_ok(pd_gpu_adopt(gpu, &heritage->pool, heritage->fds));
	assert_int_equal(gpu->base, heritage->pool.window_base);
	assert_int_equal(pd_gpu_free_bytes(gpu),
			 GPU_BYTES - SEGMENTS * SEGMENT);
	for (uint32_t i = 0; i < SEGMENTS; i++) {
		assert_words(gpu, i, 0xc0de0000 + i);
		put_words(gpu, i, i);
		assert_int_equal(pd_gpu_fd(gpu, i), heritage->fds[i]);
	}
	pd_gpu_close(gpu);
	assert_int_equal(fcntl(heritage->fds[0], F_GETFD), -1);
}

static void test_gpu_adopt_after_a_kill_finds_contents_whole(void **state)
{
	(void)state;
	with_heritage(adopt_whole);
}

static void adopt_elsewhere(void *arg)
{
	struct heritage *heritage = arg;
	struct pd_gpu *gpu = open_gpu();
	uint64_t taken;

	th_assert_ok(dv_window_reserve(gpu->device, 32 * MIB,
				       heritage->pool.window_base, &taken));
	th_assert_ok(pd_gpu_adopt(gpu, &heritage->pool, heritage->fds));
	assert_int_not_equal(gpu->base, heritage->pool.window_base);
	for (uint32_t i = 0; i < SEGMENTS; i++)
		assert_words(gpu, i, 0xc0de0000 + i);
	pd_gpu_close(gpu);
}

static void test_gpu_adopt_does_at_other_addresses(void **state)
{
	(void)state;
	with_heritage(adopt_elsewhere);
}

static void adopt_with_a_gap(void *arg)
{
	struct heritage *heritage = arg;
	struct pd_gpu *gpu = open_gpu();

	close(heritage->fds[1]);
	heritage->fds[1] = -1;
	th_assert_ok(pd_gpu_adopt(gpu, &heritage->pool, heritage->fds));
	th_assert_ok(pd_gpu_start(gpu));
	assert_int_equal(pd_gpu_fd(gpu, 1), -1);
	th_assert_ok(remake(gpu, 1).status);
	assert_true(pd_gpu_fd(gpu, 1) >= 0);
	assert_words(gpu, 0, 0xc0de0000);
	assert_words(gpu, 1, 0);
	assert_words(gpu, 2, 0xc0de0002);
	pd_gpu_close(gpu);
}

static void test_gpu_adopt_without_a_segment_remakes_it(void **state)
{
	(void)state;
	with_heritage(adopt_with_a_gap);
}

static void adopt_other_gpu(void *arg)
{
	struct heritage *heritage = arg;
	struct pd_gpu *gpu = open_gpu();

	heritage->pool.gpu[8] ^= 1;
	th_assert_status(pd_gpu_adopt(gpu, &heritage->pool, heritage->fds),
			 PS_WRONG_GPU);
	for (uint32_t i = 0; i < SEGMENTS; i++)
		assert_int_equal(fcntl(heritage->fds[i], F_GETFD), -1);
	pd_gpu_close(gpu);
}

static void test_gpu_adopt_of_another_gpus_pool_is_refused(void **state)
{
	(void)state;
	with_heritage(adopt_other_gpu);
}

static void adopt_no_segment(void *arg)
{
	struct heritage *heritage = arg;
	struct pd_gpu *gpu = open_gpu();

	close(heritage->fds[2]);
	heritage->fds[2] = memfd_create("none", MFD_CLOEXEC);
	th_assert_status(pd_gpu_adopt(gpu, &heritage->pool, heritage->fds),
			 PS_BAD_SEGMENT);
	assert_non_null(strstr(bs_fail_text(), "segment 2 of the pool"));
	for (uint32_t i = 0; i < SEGMENTS; i++)
		assert_int_equal(fcntl(heritage->fds[i], F_GETFD), -1);
	pd_gpu_close(gpu);
}

static void test_gpu_adopt_of_no_segment_is_refused(void **state)
{
	(void)state;
	with_heritage(adopt_no_segment);
}

/* ---- each call failing ---- */

static void create_each_call_failing(void *arg)
{
	const struct pd_gpu_plan plan = small_plan();
	struct pd_gpu *gpu = open_gpu();
	size_t fds = th_open_fds();
	struct pd_pool_record pool;
	enum ps_status status;
	unsigned long calls;
	unsigned int n = 0;

	(void)arg;
	pd_gpu_close(gpu);
	do {
		gpu = open_gpu();
		th_sim_reset();
		th_sim_fail_nth(NULL, ++n, CUDA_ERROR_UNKNOWN);
		status = pd_gpu_create(gpu, &plan, &pool);
		calls = th_sim_calls(NULL);
		th_sim_fail_nth(NULL, 0, 0);
		if (status != PS_OK)
			assert_int_equal(free_of(gpu), GPU_BYTES);
		assert_int_equal(th_open_fds(),
				 fds + (status == PS_OK ? SEGMENTS : 0));
		pd_gpu_close(gpu);
	} while (calls >= n);
	assert_int_equal(status, PS_OK);
	assert_true(n > 25);
}

static void test_gpu_create_fails_cleanly_at_each_call(void **state)
{
	IN_CHILD(create_each_call_failing);
}

static void adopt_each_call_failing(void *arg)
{
	struct heritage *heritage = arg;
	int taken[SEGMENTS];
	enum ps_status status;
	struct pd_gpu *gpu;
	unsigned long calls;
	unsigned int n = 0;
	size_t fds;

	gpu = open_gpu();
	fds = th_open_fds();
	pd_gpu_close(gpu);
	do {
		gpu = open_gpu();
		for (uint32_t i = 0; i < SEGMENTS; i++)
			taken[i] = fcntl(heritage->fds[i], F_DUPFD_CLOEXEC, 0);
		th_sim_reset();
		th_sim_fail_nth(NULL, ++n, CUDA_ERROR_UNKNOWN);
		status = pd_gpu_adopt(gpu, &heritage->pool, taken);
		calls = th_sim_calls(NULL);
		th_sim_fail_nth(NULL, 0, 0);
		assert_int_equal(th_open_fds(),
				 fds + (status == PS_OK ? SEGMENTS : 0));
		if (status == PS_OK)
			assert_words(gpu, 3, 0xc0de0003);
		pd_gpu_close(gpu);
	} while (calls >= n);
	assert_int_equal(status, PS_OK);
	assert_true(n > 15);
}

static void test_gpu_adopt_fails_cleanly_at_each_call(void **state)
{
	(void)state;
	with_heritage(adopt_each_call_failing);
}

static const struct th_test tests[] = {
	TH_TEST(test_gpu_in_prohibited_mode_is_refused),
	TH_TEST(test_gpu_in_exclusive_mode_is_refused),
	TH_TEST(test_gpu_that_mig_divides_is_refused),
	TH_TEST(test_gpu_under_mps_is_refused),
	TH_TEST(test_gpu_of_two_must_be_named),
	TH_TEST(test_gpu_open_fails_cleanly_at_each_call),
	TH_TEST(test_gpu_create_takes_all_but_the_headroom),
	TH_TEST(test_gpu_create_leaves_a_headroom_by_default),
	TH_TEST(test_gpu_create_divides_by_bytes_or_percent),
	TH_TEST(test_gpu_create_by_a_bad_plan_leaves_nothing),
	TH_TEST(test_gpu_create_does_with_what_others_leave),
	TH_TEST(test_gpu_create_asks_again_when_memory_goes),
	TH_TEST(test_gpu_create_gives_up_after_three_tries),
	TH_TEST(test_gpu_create_of_a_size_fails_without_it),
	TH_TEST(test_gpu_create_at_the_fd_limit_says_so),
	TH_TEST(test_gpu_adopt_after_a_kill_finds_contents_whole),
	TH_TEST(test_gpu_adopt_does_at_other_addresses),
	TH_TEST(test_gpu_adopt_without_a_segment_remakes_it),
	TH_TEST(test_gpu_adopt_of_another_gpus_pool_is_refused),
	TH_TEST(test_gpu_adopt_of_no_segment_is_refused),
	TH_TEST(test_gpu_create_fails_cleanly_at_each_call),
	TH_TEST(test_gpu_adopt_fails_cleanly_at_each_call),
};

TH_MAIN_WARM("gpu_create", tests, small_gpu)
