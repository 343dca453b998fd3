/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A child that was forked by a process with a pool: CUDA does not work there,
 * so every call of the API says so instead of reaching a lock or the driver. */
#include "tests/support/pools.h"

#include "device/device.h"

#include <signal.h>
#include <unistd.h>

/* The child of the part that holds the pool, and what it does with it. */
static struct ps_pool *pool;
static void *block;

static void hold(const struct th_part *me, void (*in_child)(void *arg))
{
	(void)me;
	pool = th_reserve();
	th_insert(pool, TH_PARAMETERS, 2);
	block = th_alloc(pool, 4096);
	assert_int_equal(th_wait(th_fork(in_child, NULL)), 0);
	th_put(pool, block, 1);
	assert_int_equal(th_get(pool, block), 1);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_mem_check(pool));
	ps_pool_close(pool);
}

static void use_memory(void *arg)
{
	uint64_t a, b;
	size_t size;
	void *ptr;

	(void)arg;
	th_assert_status(ps_mem_alloc(pool, 512, &ptr), PS_FORKED);
	th_assert_status(ps_mem_alloc(NULL, 512, &ptr), PS_FORKED);
	th_assert_status(ps_mem_free(pool, block), PS_FORKED);
	th_assert_status(ps_mem_free(pool, NULL), PS_FORKED);
	th_assert_status(ps_mem_alloc_async(pool, 512, NULL, &ptr), PS_FORKED);
	th_assert_status(ps_mem_free_async(pool, block, NULL), PS_FORKED);
	th_assert_status(ps_mem_record_stream(pool, block, NULL), PS_FORKED);
	th_assert_status(ps_mem_drop_stream(pool, &a), PS_FORKED);
	th_assert_status(ps_mem_usable_size(pool, block, &size), PS_FORKED);
	th_assert_status(ps_mem_get_info(pool, &a, &b), PS_FORKED);
	th_assert_status(ps_mem_trim(pool, 0, &a), PS_FORKED);
	th_assert_status(ps_mem_check(pool), PS_FORKED);
	th_assert_status(ps_mem_write(pool, block, &a, 4), PS_FORKED);
	th_assert_status(ps_mem_read(pool, &a, block, 4), PS_FORKED);
}

static void hold_for_memory(const struct th_part *me)
{
	hold(me, use_memory);
}

static void test_fork_child_uses_memory_is_told(void **state)
{
	(void)state;
	th_play(hold_for_memory, NULL);
}

static void use_pool(void *arg)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };
	struct ps_pool *other;

	(void)arg;
	th_assert_status(ps_alloc_shared(NULL, &other), PS_FORKED);
	th_assert_status(ps_recv_shared(0, 0, 0, &other), PS_FORKED);
	th_assert_status(ps_send_shared(pool, 0, 0, 0), PS_FORKED);
	th_assert_status(ps_send_range(pool, 0, TH_SEGMENT, 0, 0, 0),
			 PS_FORKED);
	th_assert_status(ps_insert_shared(pool, TH_SEGMENT, 0, NULL, 0),
			 PS_FORKED);
	th_assert_status(ps_insert_region(pool, PS_REGION_COMPUTATION, NULL, 0),
			 PS_FORKED);
	th_assert_status(ps_clear_shared(pool), PS_FORKED);
	th_assert_status(ps_pool_map(pool, 0, 0), PS_FORKED);
	th_assert_status(ps_mem_get_stats(pool, &stats), PS_FORKED);
	th_assert_status(ps_mem_set_free_mode(pool, PS_FREE_WAITS), PS_FORKED);
}

static void hold_for_pool(const struct th_part *me)
{
	hold(me, use_pool);
}

static void test_fork_child_uses_the_pool_is_told(void **state)
{
	(void)state;
	th_play(hold_for_pool, NULL);
}

static void ask_and_close(void *arg)
{
	(void)arg;
	assert_int_equal(ps_pool_size(pool), TH_SEGMENTS * TH_SEGMENT);
	assert_int_equal(ps_pool_segment_size(pool), TH_SEGMENT);
	ps_pool_close(pool);
}

static void hold_for_close(const struct th_part *me)
{
	hold(me, ask_and_close);
}

static void test_fork_child_closes_and_the_parent_goes_on(void **state)
{
	(void)state;
	th_play(hold_for_close, NULL);
}

/* A child that holds the parent's descriptors keeps the memory alive. */
static void close_and_stay(void *arg)
{
	const struct th_part *me = arg;
	size_t before = th_open_fds();

	ps_pool_close(pool);
	assert_true(th_open_fds() + TH_SEGMENTS <= before);
	th_tell(me->test);
	th_await(me->test);
}

static void die_with_a_child(const struct th_part *me)
{
	struct th_part copy = *me;

	pool = th_reserve();
	th_fork(close_and_stay, &copy);
	for (;;)
		pause();
}

static void reserve_again(const struct th_part *me)
{
	(void)me;
	ps_pool_close(th_reserve());
}

static void test_fork_child_that_closed_holds_no_claim(void **state)
{
	const struct th_cast first = { die_with_a_child, { NULL, NULL }, 0 };
	const struct th_cast next = { reserve_again, { NULL, NULL }, 0 };
	struct th_stage stage, second;

	(void)state;
	th_stage_open(&stage, &first);
	th_await(stage.controller_link);
	th_stage_kill(&stage.controller);
	th_stage_open(&second, &next);
	th_stage_close(&second);
	th_tell(stage.controller_link);
	th_stage_close(&stage);
}

/* A process that has no pool may fork, and its children may open theirs. */
static void reserve_in_child(void *arg)
{
	(void)arg;
	ps_pool_close(th_reserve());
}

static void test_fork_before_a_pool_is_opened_is_fine(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(reserve_in_child, NULL)), 0);
}

static const struct th_test tests[] = {
	TH_TEST(test_fork_child_uses_memory_is_told),
	TH_TEST(test_fork_child_uses_the_pool_is_told),
	TH_TEST(test_fork_child_closes_and_the_parent_goes_on),
	TH_TEST(test_fork_child_that_closed_holds_no_claim),
	TH_TEST(test_fork_before_a_pool_is_opened_is_fine),
};

TH_GPU_MAIN("fork", tests, NULL)
