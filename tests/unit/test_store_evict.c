/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Who makes room for whom, and that nobody loses what he uses. */
#include "poold/store/store.h"

#include <string.h>

#include "base/status.h"
#include "tests/support/harness.h"
#include "tests/support/store_world.h"

#define SEGMENTS 8u
#define BUDGET (40 * TS_UNIT)
#define USUAL PS_PRIORITY_DEFAULT

static struct ts_world world;

static int set_up(void **state)
{
	(void)state;
	assert_true(ts_open(&world, SEGMENTS, BUDGET));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_string_equal(world.wrong, "");
	th_assert_ok(pd_store_check(world.store));
	ts_close(&world);
	return 0;
}

static struct pd_model_view view_of(uint32_t model)
{
	struct pd_model_view view;

	assert_true(pd_store_model(world.store, model, &view));
	return view;
}

static void expect(uint64_t tag, enum ts_answer answer)
{
	assert_int_equal(ts_answer(&world, tag), answer);
}

static void expect_state(uint32_t model, enum pd_model_state state)
{
	assert_int_equal(ts_state(&world, model), state);
}

/* Loads it; who had to go is seen by the states. */
static uint32_t bring(const char *name, uint32_t segments)
{
	uint32_t model = ts_have(&world, name, 1, 0, segments);
	uint64_t tag = ts_order(&world, 1, PS_MODEL_LOAD, name, 1000);

	ts_work(&world);
	expect(tag, TS_DONE);
	return model;
}

/* Loaded, then not used for so long. */
static uint32_t rest(const char *name, uint32_t segments, uint64_t ms)
{
	uint32_t model = bring(name, segments);

	ts_wait(&world, ms);
	return model;
}

/* ---- whom ---- */

static void test_store_victim_is_who_was_not_used_for_longest(void **state)
{
	uint32_t a = rest("a", 4, 1000), b = rest("b", 4, 1000);

	(void)state;
	(void)bring("c", 2);
	expect_state(a, PD_MODEL_HOST);
	expect_state(b, PD_MODEL_RESIDENT);
}

static void test_store_victim_is_by_use_and_not_by_load(void **state)
{
	uint32_t a = ts_busy(&world, "a", 4, 0), b;

	(void)state;
	ts_wait(&world, 1000);
	b = rest("b", 4, 1000);
	ts_release(&world, 0, a);
	ts_wait(&world, 10);
	(void)bring("c", 2);
	expect_state(a, PD_MODEL_RESIDENT);
	expect_state(b, PD_MODEL_HOST);
}

/* Six times the bytes, twice the time: it is the dearer one. */
static void test_store_victim_is_weighed_by_its_reload(void **state)
{
	uint32_t large = rest("large", 6, 1000);
	uint32_t small = rest("small", 1, 1000);

	(void)state;
	(void)bring("c", 2);
	expect_state(large, PD_MODEL_RESIDENT);
	expect_state(small, PD_MODEL_HOST);
}

static void test_store_victim_with_a_copy_is_cheaper(void **state)
{
	uint32_t read, copied;

	(void)state;
	read = rest("read", 4, 1000);
	copied = rest("copied", 4, 1000);
	/* The first one's copy is gone with the agent. */
	world.model[read].has_host = false;
	assert_true(ts_restart(&world, 0, false));
	for (uint32_t i = 0; i < TS_CLIENTS; i++)
		ts_rejoin(&world, i);
	ts_wait(&world, 1000);
	(void)bring("c", 2);
	expect_state(read, PD_MODEL_RESIDENT);
	expect_state(copied, PD_MODEL_HOST);
}

static void test_store_victims_are_no_more_than_needed(void **state)
{
	uint32_t a = rest("a", 1, 1000), b = rest("b", 6, 10);

	(void)state;
	/* The small one is the cheapest, and the large one has to go too. */
	(void)bring("c", 7);
	expect_state(a, PD_MODEL_RESIDENT);
	expect_state(b, PD_MODEL_HOST);
}

static void test_store_free_room_costs_nobody(void **state)
{
	uint32_t a = rest("a", 4, 1000), b = bring("b", 4);

	(void)state;
	expect_state(a, PD_MODEL_RESIDENT);
	expect_state(b, PD_MODEL_RESIDENT);
	assert_int_equal(view_of(a).evictions, 0);
}

/* ---- in use ---- */

static void test_store_used_one_is_asked_and_stays(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", 8, 0), model;
	uint64_t tag;

	(void)state;
	model = ts_have(&world, "a", 1, 0, 1);
	th_assert_ok(ts_attach(&world, 1, "a", &model));
	tag = ts_use(&world, 1, model, USUAL, 1000);
	ts_work(&world);
	expect(tag, TS_NONE);
	expect_state(busy, PD_MODEL_RESIDENT);
	assert_int_equal(world.model[busy].yields, 1);
	ts_release(&world, 0, busy);
	expect(tag, TS_PLACE);
	expect_state(busy, PD_MODEL_EVICTING);
}

static void test_store_used_one_is_spared_for_an_idle_one(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", 4, 0), idle;

	(void)state;
	ts_wait(&world, 5000);
	idle = bring("idle", 4);
	(void)bring("c", 2);
	expect_state(busy, PD_MODEL_RESIDENT);
	expect_state(idle, PD_MODEL_HOST);
	assert_int_equal(world.model[busy].yields, 0);
}

static void test_store_of_two_users_both_are_waited_for(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", 8, 0), model;
	uint64_t tag;

	(void)state;
	th_assert_ok(ts_attach(&world, 1, "busy", &busy));
	expect(ts_use(&world, 1, busy, USUAL, 0), TS_PLACE);
	(void)ts_have(&world, "a", 1, 0, 1);
	th_assert_ok(ts_attach(&world, 2, "a", &model));
	tag = ts_use(&world, 2, model, USUAL, 1000);
	ts_release(&world, 0, busy);
	expect(tag, TS_NONE);
	ts_release(&world, 1, busy);
	expect(tag, TS_PLACE);
	assert_int_equal(world.model[busy].yields, 2);
}

/* Else two that take turns keep everybody else out. */
static void test_store_asked_one_is_not_begun_again(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", 8, 0), model;
	uint64_t tag, again;

	(void)state;
	(void)ts_have(&world, "a", 1, 0, 1);
	th_assert_ok(ts_attach(&world, 1, "busy", &busy));
	th_assert_ok(ts_attach(&world, 2, "a", &model));
	tag = ts_use(&world, 2, model, USUAL, 1000);
	again = ts_use(&world, 1, busy, USUAL, 1000);
	expect(again, TS_NONE);
	ts_release(&world, 0, busy);
	expect(tag, TS_PLACE);
	ts_work(&world);
	ts_release(&world, 2, model);
	expect(again, TS_PLACE);
}

static void test_store_asked_one_is_begun_by_a_higher_priority(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", 8, 0), model;

	(void)state;
	(void)ts_have(&world, "a", 1, 0, 1);
	th_assert_ok(ts_attach(&world, 1, "busy", &busy));
	th_assert_ok(ts_attach(&world, 2, "a", &model));
	expect(ts_use(&world, 2, model, USUAL, 1000), TS_NONE);
	expect(ts_use(&world, 1, busy, USUAL + 1, 1000), TS_PLACE);
}

static void test_store_those_asked_go_as_they_become_idle(void **state)
{
	uint32_t a = ts_busy(&world, "a", 4, 0), b = ts_busy(&world, "b", 4, 1);
	uint32_t model;
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "c", 1, 0, 8);
	th_assert_ok(ts_attach(&world, 2, "c", &model));
	tag = ts_use(&world, 2, model, USUAL, 1000);
	ts_release(&world, 0, a);
	expect_state(a, PD_MODEL_EVICTING);
	expect(tag, TS_NONE);
	/* Not even its own user gets it back before. */
	expect(ts_use(&world, 0, a, USUAL, 1000), TS_NONE);
	ts_release(&world, 1, b);
	expect(tag, TS_PLACE);
}

static void test_store_who_slips_in_is_not_evicted(void **state)
{
	uint32_t a = ts_busy(&world, "a", 8, 0), model;
	uint64_t tag;

	(void)state;
	ts_release(&world, 0, a);
	(void)ts_have(&world, "b", 1, 0, 1);
	th_assert_ok(ts_attach(&world, 1, "b", &model));
	world.slips = 1;
	tag = ts_use(&world, 1, model, USUAL, 1000);
	expect(tag, TS_NONE);
	expect_state(a, PD_MODEL_RESIDENT);
	assert_int_equal(world.model[a].yields, 1);
	ts_release(&world, 0, a);
	expect(tag, TS_PLACE);
}

/* The agent's thread goes on, whatever a client writes to its page. */
static void test_store_fickle_user_holds_nobody_up(void **state)
{
	uint32_t model;
	uint64_t tag;

	(void)state;
	(void)ts_busy(&world, "busy", 8, 0);
	(void)ts_have(&world, "a", 1, 0, 1);
	th_assert_ok(ts_attach(&world, 1, "a", &model));
	world.is_fickle = true;
	tag = ts_use(&world, 1, model, USUAL, 1000);
	expect(tag, TS_NONE);
	ts_wait(&world, 1000);
	expect(tag, TS_DENY);
	world.is_fickle = false;
}

static void test_store_idle_user_comes_back_without_asking(void **state)
{
	uint32_t a = ts_busy(&world, "a", 8, 0);

	(void)state;
	ts_release(&world, 0, a);
	assert_true(ts_begin(&world, 0, a));
	ts_release(&world, 0, a);
	(void)bring("b", 1);
	assert_false(ts_begin(&world, 0, a));
}

static void test_store_dead_user_is_no_user(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", 8, 0), model;
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "a", 1, 0, 1);
	th_assert_ok(ts_attach(&world, 1, "a", &model));
	tag = ts_use(&world, 1, model, USUAL, 1000);
	ts_die(&world, 0);
	expect(tag, TS_PLACE);
	expect_state(busy, PD_MODEL_EVICTING);
}

static void test_store_loading_one_is_waited_for(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 8), b;
	uint64_t first, second;

	(void)state;
	(void)ts_have(&world, "b", 1, 0, 8);
	th_assert_ok(ts_attach(&world, 0, "b", &b));
	first = ts_order(&world, 1, PS_MODEL_LOAD, "a", 1000);
	second = ts_use(&world, 0, b, USUAL, 1000);
	expect_state(a, PD_MODEL_LOADING);
	ts_work(&world);
	expect(first, TS_DONE);
	expect(second, TS_PLACE);
}

/* ---- by order ---- */

static void test_store_evict_of_a_used_one_waits_for_the_release(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", 2, 0);
	uint64_t tag = ts_order(&world, 1, PS_MODEL_EVICT, "busy", 1000);

	(void)state;
	expect(tag, TS_NONE);
	assert_int_equal(world.model[busy].yields, 1);
	ts_release(&world, 0, busy);
	ts_work(&world);
	expect(tag, TS_DONE);
	expect_state(busy, PD_MODEL_HOST);
}

static void test_store_evict_of_one_that_stays_in_use_is_denied(void **state)
{
	uint64_t tag;

	(void)state;
	(void)ts_busy(&world, "busy", 2, 0);
	tag = ts_order(&world, 1, PS_MODEL_EVICT, "busy", 700);
	ts_wait(&world, 700);
	expect(tag, TS_DENY);
	assert_int_equal(ts_status(&world, tag), PS_BUSY);
}

static void test_store_evict_of_what_is_not_there_is_done(void **state)
{
	(void)state;
	(void)ts_have(&world, "a", 1, 0, 2);
	expect(ts_order(&world, 1, PS_MODEL_EVICT, "a", 0), TS_DONE);
}

/* ---- the counter ---- */

static void test_store_evicted_one_is_used_only_behind_its_reset(void **state)
{
	uint32_t a = ts_busy(&world, "a", 2, 0);
	uint64_t tag;

	(void)state;
	ts_release(&world, 0, a);
	(void)ts_order(&world, 1, PS_MODEL_EVICT, "a", 1000);
	tag = ts_use(&world, 0, a, USUAL, 1000);
	expect(tag, TS_NONE);
	assert_true(ts_gpu_one(&world, PS_OK));
	expect(tag, TS_PLACE);
	assert_int_equal(world.model[a].resets, 1);
}

static void test_store_reset_that_fails_is_tried_again(void **state)
{
	uint32_t a = bring("a", 2);
	uint64_t tag = ts_order(&world, 1, PS_MODEL_EVICT, "a", 1000);

	(void)state;
	assert_true(ts_gpu_one(&world, PS_DRIVER));
	expect_state(a, PD_MODEL_EVICTING);
	assert_false(ts_gpu_one(&world, PS_OK));
	ts_wait(&world, 200);
	assert_true(ts_gpu_one(&world, PS_OK));
	expect(tag, TS_DONE);
}

/* ---- a load that failed ---- */

static void test_store_failed_load_denies_who_waits_for_it(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 2);
	uint64_t tag = ts_order(&world, 1, PS_MODEL_PIN, "a", 1000);

	(void)state;
	assert_true(ts_gpu_one(&world, PS_DRIVER));
	expect(tag, TS_DENY);
	assert_int_equal(ts_status(&world, tag), PS_LOAD_FAILED);
	assert_int_equal(view_of(a).failures, 1);
	ts_work(&world);
	expect_state(a, PD_MODEL_HOST);
	(void)ts_order(&world, 1, PS_MODEL_LOAD, "a", 1000);
	ts_work(&world);
	expect_state(a, PD_MODEL_RESIDENT);
}

/* Its users are let through; nothing else comes where they read. */
static void test_store_failed_load_keeps_its_room_for_its_users(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 8), b;
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "b", 1, 0, 1);
	th_assert_ok(ts_attach(&world, 0, "a", &a));
	th_assert_ok(ts_attach(&world, 1, "b", &b));
	expect(ts_use(&world, 0, a, USUAL, 0), TS_PLACE);
	assert_true(ts_gpu_one(&world, PS_DRIVER));
	tag = ts_use(&world, 1, b, USUAL, 1000);
	expect(tag, TS_NONE);
	assert_int_equal(world.model[a].resets, 0);
	assert_int_equal(world.model[a].yields, 1);
	ts_release(&world, 0, a);
	expect(tag, TS_PLACE);
	assert_int_equal(world.model[a].resets, 1);
}

static void test_store_failed_load_is_tried_again_by_a_later_use(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 8);
	uint64_t tag;

	(void)state;
	th_assert_ok(ts_attach(&world, 0, "a", &a));
	th_assert_ok(ts_attach(&world, 1, "a", &a));
	expect(ts_use(&world, 0, a, USUAL, 0), TS_PLACE);
	assert_true(ts_gpu_one(&world, PS_DRIVER));
	tag = ts_use(&world, 1, a, USUAL, 1000);
	expect(tag, TS_NONE);
	ts_release(&world, 0, a);
	ts_work(&world);
	expect(tag, TS_PLACE);
	ts_work(&world);
	expect_state(a, PD_MODEL_RESIDENT);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_store_victim_is_who_was_not_used_for_longest, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_victim_is_by_use_and_not_by_load, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_victim_is_weighed_by_its_reload, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_victim_with_a_copy_is_cheaper, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_victims_are_no_more_than_needed, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_free_room_costs_nobody, set_up, tear_down),
	TH_TEST_SETUP(test_store_used_one_is_asked_and_stays, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_used_one_is_spared_for_an_idle_one, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_of_two_users_both_are_waited_for, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_asked_one_is_not_begun_again, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_asked_one_is_begun_by_a_higher_priority,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_those_asked_go_as_they_become_idle, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_who_slips_in_is_not_evicted, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_fickle_user_holds_nobody_up, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_idle_user_comes_back_without_asking, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_dead_user_is_no_user, set_up, tear_down),
	TH_TEST_SETUP(test_store_loading_one_is_waited_for, set_up, tear_down),
	TH_TEST_SETUP(test_store_evict_of_a_used_one_waits_for_the_release,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_evict_of_one_that_stays_in_use_is_denied,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_evict_of_what_is_not_there_is_done, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_evicted_one_is_used_only_behind_its_reset,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_reset_that_fails_is_tried_again, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_failed_load_denies_who_waits_for_it, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_failed_load_keeps_its_room_for_its_users,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_failed_load_is_tried_again_by_a_later_use,
		      set_up, tear_down),
};

TH_MAIN("store_evict", tests)
