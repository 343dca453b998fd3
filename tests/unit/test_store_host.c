/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Copies in host memory: read again when they are needed, given up within the
 * budget. */
#include "poold/store/store.h"

#include <string.h>

#include "base/status.h"
#include "tests/support/harness.h"
#include "tests/support/store_world.h"

#define SEGMENTS 16u
#define BUDGET (6 * TS_UNIT)
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

static void expect_denied(uint64_t tag, enum ps_status status)
{
	assert_int_equal(ts_answer(&world, tag), TS_DENY);
	assert_int_equal(ts_status(&world, tag), status);
}

static uint64_t load(const char *name)
{
	return ts_order(&world, 1, PS_MODEL_LOAD, name, 1000);
}

static void test_store_copy_beyond_the_budget_is_refused(void **state)
{
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "a", 1, 0, 6);
	tag = ts_add(&world, "b", 1, 0, 7 * TS_UNIT, 9);
	ts_work(&world);
	expect_denied(tag, PS_HOST_MEMORY);
}

static void test_store_copies_make_room_for_each_other(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 4), b;

	(void)state;
	b = ts_have(&world, "b", 1, 0, 4);
	assert_int_equal(ts_state(&world, a), PD_MODEL_KNOWN);
	assert_int_equal(ts_state(&world, b), PD_MODEL_HOST);
	assert_int_equal(world.model[a].drops, 1);
}

static void test_store_copy_not_used_for_longest_goes_first(void **state)
{
	uint32_t a = ts_loaded(&world, "a", 2), b, c;

	(void)state;
	ts_wait(&world, 100);
	b = ts_loaded(&world, "b", 2);
	ts_wait(&world, 100);
	c = ts_loaded(&world, "c", 2);
	(void)ts_have(&world, "d", 1, 0, 2);
	assert_false(view_of(a).has_host);
	assert_true(view_of(b).has_host);
	assert_true(view_of(c).has_host);
}

/* It needs none: it stays where it is. */
static void test_store_copy_of_a_pinned_one_goes_first(void **state)
{
	uint32_t a = ts_loaded(&world, "a", 2), b;

	(void)state;
	ts_wait(&world, 100);
	b = ts_loaded(&world, "b", 2);
	(void)ts_order(&world, 1, PS_MODEL_PIN, "b", 0);
	(void)ts_have(&world, "d", 1, 0, 4);
	assert_true(view_of(a).has_host);
	assert_false(view_of(b).has_host);
}

static void test_store_copy_that_travels_is_not_given_up(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 4);
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "b", 1, 0, 2);
	(void)load("a");
	assert_int_equal(ts_state(&world, a), PD_MODEL_LOADING);
	tag = ts_add(&world, "c", 1, 0, 4 * TS_UNIT, 9);
	while (ts_read_one(&world, PS_OK))
		;
	assert_true(view_of(a).has_host);
	assert_int_equal(ts_answer(&world, tag), TS_NONE);
	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
	assert_false(view_of(a).has_host);
}

/* What is read again has a known size, so it can wait. */
static void test_store_read_again_waits_for_a_copy_that_travels(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 4), b;
	uint64_t tag;

	(void)state;
	b = ts_have(&world, "b", 1, 0, 4);
	assert_int_equal(ts_state(&world, a), PD_MODEL_KNOWN);
	(void)load("b");
	tag = load("a");
	assert_false(ts_read_one(&world, PS_OK));
	assert_int_equal(ts_state(&world, b), PD_MODEL_LOADING);
	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
}

static void
test_store_loaded_one_without_copy_is_known_when_evicted(void **state)
{
	uint32_t a = ts_loaded(&world, "a", 4);
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "b", 1, 0, 4);
	assert_int_equal(ts_state(&world, a), PD_MODEL_RESIDENT);
	(void)ts_order(&world, 1, PS_MODEL_EVICT, "a", 1000);
	ts_work(&world);
	assert_int_equal(ts_state(&world, a), PD_MODEL_KNOWN);
	tag = load("a");
	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
}

static void test_store_files_that_are_gone_deny_the_load(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 4);
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "b", 1, 0, 4);
	tag = load("a");
	assert_true(ts_read_one(&world, PS_SYSTEM));
	expect_denied(tag, PS_LOAD_FAILED);
	assert_int_equal(ts_state(&world, a), PD_MODEL_KNOWN);
	assert_int_equal(view_of(a).failures, 1);
	/* They may be there again. */
	tag = load("a");
	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
}

static void test_store_files_with_other_contents_deny_the_load(void **state)
{
	struct pd_model_record other = { .bytes = 4 * TS_UNIT };
	uint32_t a = ts_have(&world, "a", 1, 0, 4);
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "b", 1, 0, 4);
	tag = load("a");
	memset(other.hash, 99, sizeof(other.hash));
	world.model[a].is_reading = false;
	pd_store_read(world.store, a, PS_OK, "", &other, world.now_ms);
	expect_denied(tag, PS_LOAD_FAILED);
	assert_int_equal(ts_state(&world, a), PD_MODEL_KNOWN);
	assert_int_equal(world.model[a].drops, 2);
}

static void test_store_reads_are_in_the_order_of_who_waits(void **state)
{
	uint32_t a, b;

	(void)state;
	(void)ts_add(&world, "x", 1, 0, TS_UNIT, 1);
	(void)ts_add(&world, "y", 1, 0, TS_UNIT, 2);
	assert_true(ts_read_one(&world, PS_OK));
	assert_true(ts_read_one(&world, PS_OK));
	a = ts_have(&world, "a", 1, 0, 4);
	b = ts_have(&world, "b", 1, 0, 6);
	assert_int_equal(ts_state(&world, a), PD_MODEL_KNOWN);
	th_assert_ok(ts_attach(&world, 0, "a", &a));
	(void)ts_add(&world, "z", 1, 0, TS_UNIT, 3);
	(void)ts_add(&world, "zz", 1, 0, TS_UNIT, 4);
	(void)ts_use(&world, 0, a, USUAL, 1000);
	assert_true(ts_read_one(&world, PS_OK));
	/* Behind the one that is under way, before the other. */
	assert_true(world.model[a].is_reading);
	ts_work(&world);
	assert_int_not_equal(ts_state(&world, b), PD_MODEL_READING);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_store_copy_beyond_the_budget_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_copies_make_room_for_each_other, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_copy_not_used_for_longest_goes_first, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_copy_of_a_pinned_one_goes_first, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_copy_that_travels_is_not_given_up, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_read_again_waits_for_a_copy_that_travels,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_loaded_one_without_copy_is_known_when_evicted,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_files_that_are_gone_deny_the_load, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_files_with_other_contents_deny_the_load,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_reads_are_in_the_order_of_who_waits, set_up,
		      tear_down),
};

TH_MAIN("store_host", tests)
