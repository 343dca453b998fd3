/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Who may reserve what, and who may receive it. */
#include "tests/support/pools.h"

#include "device/device.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- one pool on a GPU ---- */

static void reserve_twice(const struct th_part *me)
{
	struct ps_pool_config *config = th_config(PS_SHARE_VMM);
	struct ps_pool *pool = th_reserve();
	struct ps_pool *second;

	(void)me;
	th_assert_status(ps_alloc_shared(config, &second), PS_ALREADY_RESERVED);
	ps_pool_config_free(config);
	ps_pool_close(pool);
}

static void test_reserve_twice_in_a_process_is_refused(void **state)
{
	(void)state;
	th_play(reserve_twice, NULL);
}

static void reserve_and_hold(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();

	th_tell(me->link[0]);
	th_await(me->link[0]);
	ps_pool_close(pool);
	th_tell(me->link[0]);
}

static void reserve_when_held(const struct th_part *me)
{
	struct ps_pool_config *config = th_config(PS_SHARE_VMM);
	struct ps_pool *pool;

	th_await(me->link[0]);
	th_assert_status(ps_alloc_shared(config, &pool), PS_ALREADY_RESERVED);
	th_tell(me->link[0]);
	th_await(me->link[0]);
	th_assert_ok(ps_alloc_shared(config, &pool));
	ps_pool_close(pool);
	ps_pool_config_free(config);
}

static void test_reserve_in_another_process_waits_for_close(void **state)
{
	(void)state;
	th_play(reserve_and_hold, reserve_when_held);
}

/* ---- sizes ---- */

static void reserve_too_much(const struct th_part *me)
{
	struct ps_pool_config *config = th_config(PS_SHARE_VMM);
	struct ps_pool *pool;

	(void)me;
	ps_pool_config_set_size(config, UINT64_C(1) << 50);
	ps_pool_config_set_segment_size(config, 0);
	th_assert_status(ps_alloc_shared(config, &pool), PS_DEVICE_MEMORY);
	th_assert_detail("1125899906842624");
	ps_pool_config_free(config);
	ps_pool_close(th_reserve());
}

static void test_reserve_more_than_there_is_says_how_much(void **state)
{
	(void)state;
	th_play(reserve_too_much, NULL);
}

static void reserve_all(const struct th_part *me)
{
	uint64_t free_before, free_after, total;
	struct dv_device *device;
	struct ps_pool *pool;

	(void)me;
	th_assert_ok(dv_device_open(NULL, &device));
	th_assert_ok(dv_memory_info(device, &free_before, &total));
	th_assert_ok(ps_alloc_shared(NULL, &pool));
	th_assert_ok(dv_memory_info(device, &free_after, &total));
	assert_true(ps_pool_size(pool) >=
		    free_before / 8 * 7 - ps_pool_segment_size(pool));
	assert_true(free_after < free_before / 8 + (UINT64_C(1) << 30));
	assert_true(ps_pool_size(pool) / ps_pool_segment_size(pool) <= 1024);
	ps_pool_close(pool);
	dv_device_close(device);
}

static void test_reserve_by_default_takes_all_but_headroom(void **state)
{
	(void)state;
	th_play(reserve_all, NULL);
}

/* ---- the window ---- */

static void share(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();
	void *at = ps_pool_pointer(pool, 0);

	assert_int_equal(write(me->link[0], &at, sizeof(at)), sizeof(at));
	th_assert_status(
		ps_send_shared(pool, me->link[0], 0, PS_TIMEOUT_DEFAULT),
		PS_REFUSED);
	ps_pool_close(pool);
}

/* The least that the driver reserves where it is wanted. */
#define LEAST_BYTES (UINT64_C(32) << 20)

static void take_window_first(const struct th_part *me)
{
	struct dv_device *device;
	struct ps_pool *pool;
	char address[32];
	uint64_t base;

	assert_int_equal(read(me->link[0], &base, sizeof(base)), sizeof(base));
	th_assert_ok(dv_device_open(NULL, &device));
	th_assert_ok(dv_window_reserve(device, LEAST_BYTES, base, &base));
	th_assert_status(
		ps_recv_shared(me->link[0], 0, PS_TIMEOUT_DEFAULT, &pool),
		PS_WINDOW_TAKEN);
	snprintf(address, sizeof(address), "%#lx to ", (unsigned long)base);
	th_assert_detail(address);
	th_assert_ok(dv_window_free(device, base, LEAST_BYTES));
	dv_device_close(device);
}

static void test_receive_where_the_window_is_taken_names_it(void **state)
{
	(void)state;
	th_play(share, take_window_first);
}

static void receive_twice(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	struct ps_pool *second;

	th_assert_status(
		ps_recv_shared(me->link[0], 0, PS_TIMEOUT_DEFAULT, &second),
		PS_WINDOW_TAKEN);
	th_assert_ok(ps_pool_map(pool, 0, 0));
	ps_pool_close(pool);
}

static void send_twice(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();

	th_send(pool, me->link[0], 0);
	th_assert_status(
		ps_send_shared(pool, me->link[0], 0, PS_TIMEOUT_DEFAULT),
		PS_REFUSED);
	ps_pool_close(pool);
}

static void test_receive_of_the_same_pool_twice_is_refused(void **state)
{
	(void)state;
	th_play(send_twice, receive_twice);
}

/* ---- descriptors ---- */

#define MANY 600u

static void share_many(const struct th_part *me)
{
	struct ps_pool_config *config = th_config(PS_SHARE_VMM);
	struct ps_pool *pool;

	ps_pool_config_set_size(config, MANY * TH_SEGMENT);
	th_assert_ok(ps_alloc_shared(config, &pool));
	ps_pool_config_free(config);
	th_send(pool, me->link[0], 0);
	th_await(me->link[0]);
	ps_pool_close(pool);
}

static void limit_fds(rlim_t count)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = count;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void share_many_with_few_fds(const struct th_part *me)
{
	limit_fds(256);
	share_many(me);
}

static void receive_with_few_fds(const struct th_part *me)
{
	struct ps_pool *pool;

	limit_fds(256);
	pool = th_receive(me->link[0]);
	th_assert_ok(ps_pool_map(pool, 0, 0));
	assert_int_equal(th_stats(pool).mapped, MANY * TH_SEGMENT);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_receive_with_few_fds_gets_many_segments(void **state)
{
	(void)state;
	th_play(share_many, receive_with_few_fds);
}

static void test_send_with_few_fds_gives_many_segments(void **state)
{
	(void)state;
	th_play(share_many_with_few_fds, receive_with_few_fds);
}

/* Descriptors are numbers below the limit: the lowest free one is out. */
static void leave_no_fd(void)
{
	int lowest = dup(0);

	assert_true(lowest > 0);
	close(lowest);
	limit_fds((rlim_t)lowest);
}

static void receive_without_fds(const struct th_part *me)
{
	struct dv_device *device; /* CUDA has its own descriptors by now */
	struct ps_pool *pool;

	th_assert_ok(dv_device_open(NULL, &device));
	ps_pool_close(th_receive(me->link[0]));
	leave_no_fd();
	th_assert_status(
		ps_recv_shared(me->link[0], 0, PS_TIMEOUT_DEFAULT, &pool),
		PS_FD_LIMIT);
}

static void test_receive_at_the_fd_limit_says_so(void **state)
{
	(void)state;
	th_play(send_twice, receive_without_fds);
}

static const struct th_test tests[] = {
	TH_TEST(test_reserve_twice_in_a_process_is_refused),
	TH_TEST(test_reserve_in_another_process_waits_for_close),
	TH_TEST(test_reserve_more_than_there_is_says_how_much),
	TH_TEST(test_reserve_by_default_takes_all_but_headroom),
	TH_TEST(test_receive_where_the_window_is_taken_names_it),
	TH_TEST(test_receive_of_the_same_pool_twice_is_refused),
	TH_TEST(test_receive_with_few_fds_gets_many_segments),
	TH_TEST(test_send_with_few_fds_gives_many_segments),
	TH_TEST(test_receive_at_the_fd_limit_says_so),
};

TH_GPU_MAIN("reservation", tests, NULL)
