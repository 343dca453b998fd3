/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* How a model comes to the GPU: who is answered when, in which order, and
 * how long each waits. */
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

static void expect_denied(uint64_t tag, enum ps_status status)
{
	assert_int_equal(ts_answer(&world, tag), TS_DENY);
	assert_int_equal(ts_status(&world, tag), status);
}

static void expect(uint64_t tag, enum ts_answer answer)
{
	assert_int_equal(ts_answer(&world, tag), answer);
}

static uint64_t load(const char *name, uint32_t wait_ms)
{
	return ts_order(&world, 1, PS_MODEL_LOAD, name, wait_ms);
}

/* ---- using ---- */

static void
test_store_use_is_answered_before_the_weights_are_there(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 2);
	uint64_t tag;

	(void)state;
	th_assert_ok(ts_attach(&world, 0, "a", &model));
	tag = ts_use(&world, 0, model, USUAL, 0);
	expect(tag, TS_PLACE);
	assert_int_equal(ts_state(&world, model), PD_MODEL_LOADING);
	assert_int_equal(world.model[model].counter, 0);
	ts_work(&world);
	assert_int_equal(ts_state(&world, model), PD_MODEL_RESIDENT);
}

static void test_store_use_by_two_is_one_load(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 2);

	(void)state;
	th_assert_ok(ts_attach(&world, 0, "a", &model));
	th_assert_ok(ts_attach(&world, 1, "a", &model));
	expect(ts_use(&world, 0, model, USUAL, 0), TS_PLACE);
	expect(ts_use(&world, 1, model, USUAL, 0), TS_PLACE);
	ts_work(&world);
	assert_int_equal(world.model[model].loads, 1);
	assert_int_equal(view_of(model).loads, 1);
	assert_int_equal(world.client[0].view[model].place,
			 world.client[1].view[model].place);
}

static void test_store_use_of_a_loading_one_hurries_it(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 2);

	(void)state;
	th_assert_ok(ts_attach(&world, 0, "a", &model));
	(void)ts_order(&world, 1, PS_MODEL_PREFETCH, "a", 1000);
	assert_int_equal(world.model[model].priority, 0);
	expect(ts_use(&world, 0, model, USUAL + 1, 0), TS_PLACE);
	assert_int_equal(world.model[model].priority, USUAL + 1);
	assert_int_equal(world.model[model].loads, 1);
}

static void test_store_use_of_an_older_serial_is_refused(void **state)
{
	struct ip_use_request use = { .priority = USUAL };
	struct pd_asker asker = { .slot = 0, .tag = 77 };
	uint32_t model = ts_have(&world, "a", 1, 0, 2);

	(void)state;
	use.model = model;
	use.serial = view_of(model).record.serial + 1;
	world.asked[77] = (struct ts_asked){ .is_open = true };
	pd_store_use(world.store, asker, &use, world.now_ms);
	expect_denied(77, PS_NO_MODEL);
}

static void test_store_use_of_an_unread_one_waits_for_the_read(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 2);
	uint64_t tag;

	(void)state;
	world.model[model].has_host = false;
	assert_true(ts_restart(&world, 0, false));
	ts_rejoin(&world, 0);
	assert_int_equal(ts_state(&world, model), PD_MODEL_KNOWN);
	th_assert_ok(ts_attach(&world, 0, "a", &model));
	tag = ts_use(&world, 0, model, USUAL, 1000);
	assert_int_equal(ts_state(&world, model), PD_MODEL_READING);
	assert_true(ts_read_one(&world, PS_OK));
	expect(tag, TS_PLACE);
}

static void test_store_use_whose_time_is_over_while_it_is_read(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 2);
	uint64_t tag;

	(void)state;
	world.model[model].has_host = false;
	assert_true(ts_restart(&world, 0, false));
	th_assert_ok(ts_attach(&world, 0, "a", &model));
	tag = ts_use(&world, 0, model, USUAL, 100);
	ts_wait(&world, 99);
	expect(tag, TS_NONE);
	ts_wait(&world, 1);
	expect_denied(tag, PS_TIMED_OUT);
}

/* ---- orders ---- */

static void test_store_load_is_answered_when_it_has_landed(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 2);
	uint64_t tag = load("a", 1000);

	(void)state;
	expect(tag, TS_NONE);
	ts_work(&world);
	expect(tag, TS_DONE);
	expect(load("a", 0), TS_DONE);
	assert_int_equal(world.model[model].loads, 1);
}

static void test_store_load_whose_time_is_over_goes_on(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 2);
	uint64_t tag = load("a", 100);

	(void)state;
	ts_wait(&world, 100);
	expect_denied(tag, PS_TIMED_OUT);
	ts_work(&world);
	assert_int_equal(ts_state(&world, model), PD_MODEL_RESIDENT);
}

static void test_store_prefetch_is_answered_at_once(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 2);

	(void)state;
	expect(ts_order(&world, 1, PS_MODEL_PREFETCH, "a", 1000), TS_DONE);
	assert_int_equal(ts_state(&world, model), PD_MODEL_LOADING);
	ts_work(&world);
	assert_int_equal(ts_state(&world, model), PD_MODEL_RESIDENT);
	assert_int_equal(view_of(model).waiting, 0);
}

static void test_store_prefetch_disturbs_nobody(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", SEGMENTS, 0);
	uint32_t model = ts_have(&world, "a", 1, 0, 2);

	(void)state;
	expect(ts_order(&world, 1, PS_MODEL_PREFETCH, "a", 1000), TS_DONE);
	expect(ts_order(&world, 1, PS_MODEL_PREFETCH, "a", 2000), TS_DONE);
	assert_int_equal(world.model[busy].yields, 0);
	assert_int_equal(view_of(model).waiting, 1);
	/* Given up in the end. */
	ts_wait(&world, 1999);
	assert_int_equal(view_of(model).waiting, 1);
	ts_wait(&world, 1);
	assert_int_equal(view_of(model).waiting, 0);
}

static void test_store_prefetch_makes_room_by_who_is_idle(void **state)
{
	uint32_t idle = ts_loaded(&world, "idle", SEGMENTS);
	uint32_t model = ts_have(&world, "a", 1, 0, 2);

	(void)state;
	expect(ts_order(&world, 1, PS_MODEL_PREFETCH, "a", 1000), TS_DONE);
	ts_work(&world);
	assert_int_equal(ts_state(&world, idle), PD_MODEL_HOST);
	assert_int_equal(ts_state(&world, model), PD_MODEL_RESIDENT);
}

/* ---- who is first ---- */

static void test_store_room_goes_to_the_highest_priority(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", SEGMENTS, 0), a, b;
	uint64_t low, high;

	(void)state;
	(void)ts_have(&world, "a", 1, 0, 5);
	(void)ts_have(&world, "b", 1, 0, 5);
	th_assert_ok(ts_attach(&world, 1, "a", &a));
	th_assert_ok(ts_attach(&world, 2, "b", &b));
	low = ts_use(&world, 1, a, USUAL, 1000);
	high = ts_use(&world, 2, b, USUAL + 1, 1000);
	ts_release(&world, 0, busy);
	expect(high, TS_PLACE);
	expect(low, TS_NONE);
	ts_work(&world);
	ts_release(&world, 2, b);
	expect(low, TS_PLACE);
}

static void test_store_room_goes_to_who_came_first(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", SEGMENTS, 0), a, b;
	uint64_t first, second;

	(void)state;
	(void)ts_have(&world, "a", 1, 0, 5);
	(void)ts_have(&world, "b", 1, 0, 5);
	th_assert_ok(ts_attach(&world, 1, "a", &a));
	th_assert_ok(ts_attach(&world, 2, "b", &b));
	first = ts_use(&world, 1, a, USUAL, 1000);
	second = ts_use(&world, 2, b, USUAL, 1000);
	ts_release(&world, 0, busy);
	expect(first, TS_PLACE);
	expect(second, TS_NONE);
}

/* Else a large model would never come. */
static void test_store_room_that_the_first_lacks_is_kept_for_it(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", SEGMENTS - 1, 0), large, small;
	uint64_t first, second;

	(void)state;
	(void)ts_have(&world, "large", 1, 0, 5);
	(void)ts_have(&world, "small", 1, 0, 1);
	th_assert_ok(ts_attach(&world, 1, "large", &large));
	th_assert_ok(ts_attach(&world, 2, "small", &small));
	first = ts_use(&world, 1, large, USUAL, 1000);
	second = ts_use(&world, 2, small, USUAL, 1000);
	expect(second, TS_NONE);
	ts_release(&world, 0, busy);
	expect(first, TS_PLACE);
	expect(second, TS_PLACE);
}

static void test_store_what_needs_no_room_waits_for_nobody(void **state)
{
	uint32_t there = ts_loaded(&world, "there", 1);
	uint32_t large;

	(void)state;
	(void)ts_busy(&world, "busy", SEGMENTS - 1, 0);
	(void)ts_have(&world, "large", 1, 0, 7);
	th_assert_ok(ts_attach(&world, 1, "large", &large));
	th_assert_ok(ts_attach(&world, 2, "there", &there));
	expect(ts_use(&world, 1, large, USUAL, 1000), TS_NONE);
	expect(ts_use(&world, 2, there, USUAL, 0), TS_PLACE);
}

/* ---- no room ---- */

static void test_store_no_room_is_denied_with_names(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 1);
	uint64_t tag;

	(void)state;
	(void)ts_busy(&world, "busy-one", SEGMENTS, 0);
	th_assert_ok(ts_attach(&world, 1, "a", &model));
	tag = ts_use(&world, 1, model, USUAL, 300);
	ts_wait(&world, 299);
	expect(tag, TS_NONE);
	ts_wait(&world, 1);
	expect_denied(tag, PS_OUT_OF_MEMORY);
	assert_non_null(strstr(world.asked[tag].text, "busy-one"));
	assert_int_equal(world.armed_ms, 0);
}

static void test_store_no_time_is_denied_at_once(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 1);

	(void)state;
	(void)ts_busy(&world, "busy", SEGMENTS, 0);
	th_assert_ok(ts_attach(&world, 1, "a", &model));
	expect_denied(ts_use(&world, 1, model, USUAL, 0), PS_OUT_OF_MEMORY);
}

static void test_store_pinned_ones_that_fill_the_region_are_named(void **state)
{
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "rock", 1, 0, SEGMENTS);
	(void)ts_have(&world, "a", 1, 0, 1);
	(void)ts_order(&world, 1, PS_MODEL_PIN, "rock", 1000);
	ts_work(&world);
	tag = load("a", 5000);
	expect_denied(tag, PS_OUT_OF_MEMORY);
	assert_non_null(strstr(world.asked[tag].text, "rock"));
}

static void test_store_many_holders_are_counted(void **state)
{
	char name[PS_MODEL_NAME_MAX + 1];
	uint32_t i, model;
	uint64_t tag;

	(void)state;
	memset(name, 'x', sizeof(name));
	name[PS_MODEL_NAME_MAX] = '\0';
	for (i = 0; i < SEGMENTS; i++) {
		name[0] = (char)('a' + i);
		(void)ts_busy(&world, name, 1, i);
	}
	(void)ts_have(&world, "m", 1, 0, 1);
	th_assert_ok(ts_attach(&world, 1, "m", &model));
	tag = ts_use(&world, 1, model, USUAL, 0);
	expect_denied(tag, PS_OUT_OF_MEMORY);
	assert_non_null(strstr(world.asked[tag].text, "and 7 more"));
}

/* ---- who waits no more ---- */

static void test_store_forgotten_asker_is_not_answered(void **state)
{
	uint32_t busy = ts_busy(&world, "busy", SEGMENTS, 0);
	uint32_t model = ts_have(&world, "a", 1, 0, 1);
	uint64_t tag;

	(void)state;
	th_assert_ok(ts_attach(&world, 1, "a", &model));
	tag = ts_use(&world, 1, model, USUAL, 1000);
	ts_die(&world, 1);
	ts_release(&world, 0, busy);
	ts_wait(&world, 2000);
	expect(tag, TS_NONE);
	assert_int_equal(ts_state(&world, model), PD_MODEL_HOST);
}

static void test_store_too_many_requests_of_one_are_refused(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 1), i;

	(void)state;
	(void)ts_busy(&world, "busy", SEGMENTS, 0);
	th_assert_ok(ts_attach(&world, 1, "a", &model));
	for (i = 0; i < 64; i++)
		expect(ts_use(&world, 1, model, USUAL, 1000), TS_NONE);
	expect_denied(ts_use(&world, 1, model, USUAL, 1000), PS_REFUSED);
	expect(ts_use(&world, 2, model, USUAL, 1000), TS_NONE);
}

/* ---- pinning ---- */

static void test_store_pin_loads_and_keeps(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 2);
	uint64_t tag = ts_order(&world, 1, PS_MODEL_PIN, "a", 1000);

	(void)state;
	expect(tag, TS_NONE);
	ts_work(&world);
	expect(tag, TS_DONE);
	assert_true(view_of(model).record.is_pinned);
	expect_denied(ts_order(&world, 1, PS_MODEL_EVICT, "a", 0), PS_BUSY);
	expect(ts_order(&world, 1, PS_MODEL_UNPIN, "a", 0), TS_DONE);
	tag = ts_order(&world, 1, PS_MODEL_EVICT, "a", 1000);
	ts_work(&world);
	expect(tag, TS_DONE);
}

static void test_store_pinned_one_makes_no_room(void **state)
{
	uint32_t pinned = ts_loaded(&world, "pinned", 4);
	uint32_t other = ts_loaded(&world, "other", 4);
	uint64_t tag;

	(void)state;
	expect(ts_order(&world, 1, PS_MODEL_PIN, "pinned", 0), TS_DONE);
	ts_wait(&world, 1000);
	(void)ts_have(&world, "a", 1, 0, 3);
	tag = load("a", 1000);
	ts_work(&world);
	expect(tag, TS_DONE);
	assert_int_equal(ts_state(&world, pinned), PD_MODEL_RESIDENT);
	assert_int_equal(ts_state(&world, other), PD_MODEL_HOST);
}

static void test_store_unpinned_one_makes_room_at_once(void **state)
{
	uint64_t tag;

	(void)state;
	(void)ts_busy(&world, "busy", 4, 0);
	(void)ts_loaded(&world, "pinned", 4);
	(void)ts_order(&world, 1, PS_MODEL_PIN, "pinned", 0);
	(void)ts_have(&world, "a", 1, 0, 3);
	tag = load("a", 1000);
	ts_work(&world);
	expect(tag, TS_NONE);
	(void)ts_order(&world, 1, PS_MODEL_UNPIN, "pinned", 0);
	ts_work(&world);
	expect(tag, TS_DONE);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_store_use_is_answered_before_the_weights_are_there,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_use_by_two_is_one_load, set_up, tear_down),
	TH_TEST_SETUP(test_store_use_of_a_loading_one_hurries_it, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_use_of_an_older_serial_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_use_of_an_unread_one_waits_for_the_read,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_use_whose_time_is_over_while_it_is_read,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_load_is_answered_when_it_has_landed, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_load_whose_time_is_over_goes_on, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_prefetch_is_answered_at_once, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_prefetch_disturbs_nobody, set_up, tear_down),
	TH_TEST_SETUP(test_store_prefetch_makes_room_by_who_is_idle, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_room_goes_to_the_highest_priority, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_room_goes_to_who_came_first, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_room_that_the_first_lacks_is_kept_for_it,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_what_needs_no_room_waits_for_nobody, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_no_room_is_denied_with_names, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_no_time_is_denied_at_once, set_up, tear_down),
	TH_TEST_SETUP(test_store_pinned_ones_that_fill_the_region_are_named,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_many_holders_are_counted, set_up, tear_down),
	TH_TEST_SETUP(test_store_forgotten_asker_is_not_answered, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_too_many_requests_of_one_are_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_pin_loads_and_keeps, set_up, tear_down),
	TH_TEST_SETUP(test_store_pinned_one_makes_no_room, set_up, tear_down),
	TH_TEST_SETUP(test_store_unpinned_one_makes_room_at_once, set_up,
		      tear_down),
};

TH_MAIN("store_load", tests)
