/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Which segments a model gets: the same ones again when it can be, none that
 * others could read. */
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

static uint64_t load(const char *name)
{
	uint64_t tag = ts_order(&world, 0, PS_MODEL_LOAD, name, 5000);

	ts_work(&world);
	return tag;
}

static void evict(const char *name)
{
	uint64_t tag = ts_order(&world, 0, PS_MODEL_EVICT, name, 1000);

	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
}

static uint32_t count_made(void)
{
	uint32_t n, count = 0;

	for (n = 0; n < SEGMENTS; n++)
		count += world.segment[n].made;
	return count;
}

static uint32_t have_of(const char *name, uint32_t uid, uint32_t segments)
{
	uint32_t model = ts_have(&world, name, uid, 0, segments);

	assert_int_equal(ts_answer(&world, load(name)), TS_DONE);
	return model;
}

/* ---- again ---- */

static void test_store_same_segments_again_are_the_same_place(void **state)
{
	uint32_t a = have_of("a", 1, 3), place = view_of(a).record.place;

	(void)state;
	assert_int_not_equal(place, 0);
	evict("a");
	(void)load("a");
	assert_int_equal(view_of(a).record.place, place);
}

static void test_store_one_that_comes_back_lies_where_it_lay(void **state)
{
	uint32_t a = have_of("a", 1, 3), b = have_of("b", 1, 3);
	uint32_t place = view_of(b).record.place;

	(void)state;
	evict("a");
	evict("b");
	(void)load("b");
	assert_int_equal(view_of(b).record.place, place);
	assert_int_equal(ts_first(&world, b), 3);
	assert_int_equal(ts_state(&world, a), PD_MODEL_HOST);
}

/* Two that take turns in one region. */
static void test_store_taking_turns_keeps_both_places(void **state)
{
	uint32_t a = have_of("a", 1, 6), b = have_of("b", 1, 6);
	uint32_t place = view_of(a).record.place;

	(void)state;
	assert_int_equal(ts_state(&world, a), PD_MODEL_HOST);
	(void)load("a");
	assert_int_equal(view_of(a).record.place, place);
	assert_int_equal(ts_state(&world, b), PD_MODEL_HOST);
	(void)load("b");
	assert_int_equal(view_of(b).record.place, 1);
}

static void test_store_other_segments_are_another_place(void **state)
{
	uint32_t a = have_of("a", 1, 3), place = view_of(a).record.place;

	(void)state;
	evict("a");
	(void)have_of("b", 1, 3);
	(void)load("a");
	assert_int_not_equal(view_of(a).record.place, place);
}

static void test_store_remade_segment_is_another_place(void **state)
{
	uint32_t a = have_of("a", 1, 1), place = view_of(a).record.place;

	(void)state;
	(void)ts_busy(&world, "rest", SEGMENTS - 1, 0);
	(void)have_of("b", 2, 1);
	evict("b");
	(void)load("a");
	assert_int_equal(ts_first(&world, a), 0);
	assert_int_not_equal(view_of(a).record.place, place);
}

static void test_store_segments_are_in_the_order_of_the_addresses(void **state)
{
	uint32_t segment[TS_SEGMENTS], a = have_of("a", 1, 3), n;

	(void)state;
	assert_int_equal(pd_store_segments(world.store, a, segment), 3);
	for (n = 0; n < 3; n++)
		assert_int_equal(
			pd_journal_segment(world.journal, segment[n]).position,
			n);
}

/* ---- readers ---- */

static void test_store_segments_of_other_readers_are_remade(void **state)
{
	uint64_t tag;

	(void)state;
	(void)have_of("a", 1, 8);
	(void)ts_have(&world, "b", 2, 0, 2);
	tag = ts_order(&world, 2, PS_MODEL_LOAD, "b", 1000);
	ts_gpu_one(&world, PS_OK);
	assert_int_equal(ts_state(&world, 1), PD_MODEL_HOST);
	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
	assert_int_equal(count_made(), 2);
}

static void
test_store_public_and_private_of_one_user_are_kept_apart(void **state)
{
	(void)state;
	(void)ts_have(&world, "open", 1, PS_MODEL_PUBLIC, 8);
	(void)load("open");
	(void)have_of("own", 1, 2);
	assert_int_equal(count_made(), 2);
}

static void
test_store_segments_of_the_same_readers_are_as_they_are(void **state)
{
	(void)state;
	(void)have_of("a", 1, 8);
	(void)have_of("b", 1, 8);
	assert_int_equal(count_made(), 0);
}

static void test_store_segments_that_need_no_remaking_come_first(void **state)
{
	uint32_t b;

	(void)state;
	(void)have_of("a", 1, 4);
	evict("a");
	b = have_of("b", 2, 4);
	assert_int_equal(ts_first(&world, b), 4);
	assert_int_equal(count_made(), 0);
}

static void test_store_remake_that_fails_is_tried_again(void **state)
{
	uint64_t tag;

	(void)state;
	(void)have_of("a", 1, 8);
	(void)ts_have(&world, "b", 2, 0, 1);
	tag = ts_order(&world, 2, PS_MODEL_LOAD, "b", 5000);
	assert_true(ts_remake_one(&world, PS_AGAIN));
	ts_work(&world);
	ts_wait(&world, 199);
	assert_false(ts_remake_one(&world, PS_OK));
	ts_wait(&world, 1);
	assert_true(ts_remake_one(&world, PS_AGAIN));
	/* Less and less often. */
	ts_wait(&world, 399);
	assert_false(ts_remake_one(&world, PS_OK));
	ts_wait(&world, 1);
	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
}

/* What was chosen for it is free again, and fresh in the end. */
static void test_store_remake_for_who_waits_no_more_serves_others(void **state)
{
	uint64_t tag;

	(void)state;
	(void)have_of("a", 1, 8);
	(void)ts_have(&world, "b", 2, 0, 8);
	tag = ts_order(&world, 2, PS_MODEL_LOAD, "b", 100);
	ts_wait(&world, 100);
	assert_int_equal(ts_answer(&world, tag), TS_DENY);
	assert_int_equal(ts_status(&world, tag), PS_TIMED_OUT);
	assert_int_equal(ts_answer(&world, load("a")), TS_DONE);
	assert_int_equal(count_made(), 8);
}

/* ---- given away ---- */

static void test_store_given_away_is_never_a_models(void **state)
{
	uint64_t tag;

	(void)state;
	assert_true(pd_store_give_away(world.store, 0));
	assert_true(pd_store_give_away(world.store, 0));
	assert_true(pd_journal_segment(world.journal, 0).is_tainted);
	assert_int_equal(ts_first(&world, have_of("a", 1, 7)), 1);
	tag = ts_add(&world, "b", 1, 0, 8 * TS_UNIT, 9);
	ts_work(&world);
	assert_int_equal(ts_status(&world, tag), PS_OUT_OF_RANGE);
}

static void test_store_give_away_of_a_models_is_refused(void **state)
{
	uint32_t a = have_of("a", 1, 2);

	(void)state;
	assert_false(pd_store_give_away(world.store, ts_first(&world, a)));
	assert_false(pd_store_give_away(world.store, SEGMENTS));
	evict("a");
	assert_true(pd_store_give_away(world.store, 0));
}

static void
test_store_given_away_room_denies_who_can_never_have_it(void **state)
{
	uint32_t a = ts_busy(&world, "a", 7, 0);
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "b", 1, 0, 8);
	tag = ts_order(&world, 1, PS_MODEL_LOAD, "b", 5000);
	assert_true(pd_store_give_away(world.store, 7));
	assert_int_equal(ts_status(&world, tag), PS_OUT_OF_MEMORY);
	ts_release(&world, 0, a);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_store_same_segments_again_are_the_same_place, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_one_that_comes_back_lies_where_it_lay, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_taking_turns_keeps_both_places, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_other_segments_are_another_place, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_remade_segment_is_another_place, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_segments_are_in_the_order_of_the_addresses,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_segments_of_other_readers_are_remade, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_public_and_private_of_one_user_are_kept_apart,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_segments_of_the_same_readers_are_as_they_are,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_segments_that_need_no_remaking_come_first,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_remake_that_fails_is_tried_again, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_remake_for_who_waits_no_more_serves_others,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_given_away_is_never_a_models, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_give_away_of_a_models_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_given_away_room_denies_who_can_never_have_it,
		      set_up, tear_down),
};

TH_MAIN("store_segments", tests)
