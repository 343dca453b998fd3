/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Processes that are killed while they share a pool, and the others. */
#include "tests/support/pools.h"

#define MARK 0xfeedbeefu

static void share_and_stay(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();

	th_assert_ok(ps_pool_map(pool, 0, 0));
	th_put(pool, ps_pool_pointer(pool, 0), MARK);
	th_send(pool, me->link[0], 0);
	th_send(pool, me->link[1], 0);
	th_tell(me->test);
	th_await(me->test);
	assert_int_equal(th_get(pool, ps_pool_pointer(pool, 0)), MARK);
	th_assert_ok(ps_mem_check(pool));
	ps_pool_close(pool);
}

/* Works before and after; each worker in a range of its own. */
static void work_on(const struct th_part *me, uint64_t first)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	void *before, *after;

	th_assert_ok(ps_pool_map(pool, 0, TH_SEGMENT));
	th_insert(pool, first, 4);
	before = th_alloc(pool, TH_SEGMENT);
	th_put(pool, before, MARK + 1);
	th_tell(me->test);
	th_await(me->test);
	assert_int_equal(th_get(pool, ps_pool_pointer(pool, 0)), MARK);
	assert_int_equal(th_get(pool, before), MARK + 1);
	after = th_alloc(pool, 2 * TH_SEGMENT);
	th_put(pool, after, MARK + 2);
	assert_int_equal(th_get(pool, after), MARK + 2);
	ps_pool_close(pool);
}

static void work_on_first(const struct th_part *me)
{
	work_on(me, TH_PARAMETERS);
}

static void work_on_second(const struct th_part *me)
{
	work_on(me, TH_PARAMETERS + 4);
}

static void open_all(struct th_stage *stage)
{
	const struct th_cast cast = { share_and_stay,
				      { work_on_first, work_on_second },
				      0 };

	th_stage_open(stage, &cast);
	th_await(stage->controller_link);
	th_await(stage->worker_link[0]);
	th_await(stage->worker_link[1]);
}

static void test_controller_killed_leaves_workers_their_data(void **state)
{
	struct th_stage stage;

	(void)state;
	open_all(&stage);
	th_stage_kill(&stage.controller);
	th_tell(stage.worker_link[0]);
	th_tell(stage.worker_link[1]);
	th_stage_close(&stage);
}

static void test_worker_killed_leaves_the_others_alone(void **state)
{
	struct th_stage stage;

	(void)state;
	open_all(&stage);
	th_stage_kill(&stage.worker[0]);
	th_tell(stage.controller_link);
	th_tell(stage.worker_link[1]);
	th_stage_close(&stage);
}

static void reserve_again(const struct th_part *me)
{
	(void)me;
	ps_pool_close(th_reserve());
}

static void test_controller_killed_gives_its_claim_up(void **state)
{
	const struct th_cast next = { reserve_again, { NULL, NULL }, 0 };
	struct th_stage stage, second;

	(void)state;
	open_all(&stage);
	th_stage_kill(&stage.controller);
	th_stage_open(&second, &next);
	th_stage_close(&second);
	th_tell(stage.worker_link[0]);
	th_tell(stage.worker_link[1]);
	th_stage_close(&stage);
}

static const struct th_test tests[] = {
	TH_TEST(test_controller_killed_leaves_workers_their_data),
	TH_TEST(test_worker_killed_leaves_the_others_alone),
	TH_TEST(test_controller_killed_gives_its_claim_up),
};

TH_GPU_MAIN("death", tests, NULL)
