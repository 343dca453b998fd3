/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the daemon's memory rests on, on a real GPU and the simulated one: a
 * pool of nearly the whole GPU outlives the process that made it as long as
 * one without CUDA holds the descriptors, and a segment that is remade counts
 * as free only when nobody has the old memory any more.
 */
#include "tests/support/gpu_pool.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* Every so many segments of a large pool is looked at. */
#define STRIDE 7u

struct heritage {
	struct pd_pool_record pool;
	int *fds;
};

static int keeper_link[2];

static struct pd_gpu *create_large(struct pd_pool_record *pool_out)
{
	const struct pd_gpu_plan plan = { .headroom = UINT64_MAX,
					  .clients = 8 };
	struct pd_gpu *gpu = open_gpu();

	th_assert_ok(pd_gpu_create(gpu, &plan, pool_out));
	return gpu;
}

static void be_creator(void *arg)
{
	struct pd_pool_record pool;
	struct pd_gpu *gpu = create_large(&pool);

	(void)arg;
	for (uint32_t i = 0; i < pool.segments; i += STRIDE)
		put_words(gpu, i, 0xc0de0000 + i);
	th_gpu_send_bytes(keeper_link[1], &pool, sizeof(pool));
	for (uint32_t i = 0; i < pool.segments; i++)
		th_gpu_send_fd(keeper_link[1], pd_gpu_fd(gpu, i));
	pause();
}

static struct heritage inherit(void)
{
	struct heritage heritage;
	pid_t creator;

	th_gpu_need();
	th_socketpair(SOCK_STREAM, keeper_link);
	creator = th_fork(be_creator, NULL);
	th_gpu_receive_bytes(keeper_link[0], &heritage.pool,
			     sizeof(heritage.pool));
	heritage.fds = calloc(heritage.pool.segments, sizeof(int));
	for (uint32_t i = 0; i < heritage.pool.segments; i++)
		heritage.fds[i] = th_gpu_receive_fd(keeper_link[0]);
	th_kill(creator);
	close(keeper_link[0]);
	close(keeper_link[1]);
	return heritage;
}

static void disinherit(struct heritage *heritage)
{
	for (uint32_t i = 0; i < heritage->pool.segments; i++)
		close(heritage->fds[i]);
	free(heritage->fds);
}

static void adopt_and_scrub(void *arg)
{
	struct heritage *heritage = arg;
	uint32_t count = heritage->pool.segments;
	struct pd_gpu *gpu = open_gpu();

	th_assert_ok(pd_gpu_adopt(gpu, &heritage->pool, heritage->fds));
	th_assert_ok(pd_gpu_start(gpu));
	for (uint32_t i = 0; i < count; i += STRIDE)
		assert_words(gpu, i, 0xc0de0000 + i);
	for (uint32_t i = 0; i < count; i++)
		pd_gpu_scrub(gpu, i);
	for (uint32_t i = 0; i < count; i++)
		th_assert_ok(wait_done(gpu).status);
	for (uint32_t i = 0; i < count; i += STRIDE)
		assert_words(gpu, i, 0);
	pd_gpu_close(gpu);
}

static void test_pool_outlives_its_killed_creator(void **state)
{
	struct heritage heritage = inherit();

	(void)state;
	assert_int_equal(th_wait(th_fork(adopt_and_scrub, &heritage)), 0);
	disinherit(&heritage);
}

/* ---- remaking ---- */

static int holder_link[2];

/* Has segment 1 mapped until it is killed. */
static void be_holder(void *arg)
{
	struct dv_device *dev;
	uint64_t handle, address, bytes;
	int fd;

	(void)arg;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	th_gpu_receive_bytes(holder_link[1], &bytes, sizeof(bytes));
	fd = th_gpu_receive_fd(holder_link[1]);
	th_assert_ok(dv_device_open(NULL, &dev));
	th_assert_ok(dv_segment_import(dev, fd, &handle));
	close(fd);
	th_assert_ok(dv_window_reserve(dev, bytes, 0, &address));
	th_assert_ok(dv_window_map(dev, address, bytes, handle));
	th_assert_ok(dv_window_set_access(dev, address, bytes, true));
	th_gpu_tell(holder_link[1]);
	pause();
}

static void remake_held(void *arg)
{
	struct pd_pool_record pool;
	struct pd_gpu *gpu;
	pid_t holder;

	(void)arg;
	th_socketpair(SOCK_STREAM, holder_link);
	holder = th_fork(be_holder, NULL);
	gpu = create_large(&pool);
	th_assert_ok(pd_gpu_start(gpu));
	put_words(gpu, 1, 0x12345678);
	th_gpu_send_bytes(holder_link[0], &pool.segment_bytes,
			  sizeof(pool.segment_bytes));
	th_gpu_send_fd(holder_link[0], pd_gpu_fd(gpu, 1));
	th_gpu_await(holder_link[0]);
	assert_int_equal(remake(gpu, 1).status, PS_AGAIN);
	th_kill(holder);
	th_assert_ok(remake(gpu, 1).status);
	assert_words(gpu, 1, 0);
	th_assert_ok(remake(gpu, 1).status);
	pd_gpu_close(gpu);
}

static void test_pool_segment_is_remade_when_nobody_has_it(void **state)
{
	(void)state;
	th_gpu_need();
	assert_int_equal(th_wait(th_fork(remake_held, NULL)), 0);
}

static const struct th_test tests[] = {
	TH_TEST(test_pool_outlives_its_killed_creator),
	TH_TEST(test_pool_segment_is_remade_when_nobody_has_it),
};

/* Small where it is simulated: a scrub is done by the processor there. */
TH_MAIN_WARM("pool_life", tests, small_gpu)
