/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A store from the journal of one that died. */
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

static void expect_state(uint32_t model, enum pd_model_state state)
{
	assert_int_equal(ts_state(&world, model), state);
}

static void restart(uint32_t jobs)
{
	assert_true(ts_restart(&world, jobs, false));
	assert_string_equal(world.wrong, "");
	th_assert_ok(pd_store_check(world.store));
}

static void rejoin_all(void)
{
	uint32_t c;

	for (c = 0; c < TS_CLIENTS; c++)
		ts_rejoin(&world, c);
}

static void put_state(uint32_t model, enum pd_model_state state)
{
	struct pd_model_record record;

	th_assert_ok(pd_journal_model(world.journal, model, &record));
	record.state = state;
	pd_journal_put_model(world.journal, model, &record);
}

static void test_store_resident_one_stays_as_it_is(void **state)
{
	uint32_t a = ts_busy(&world, "a", 3, 0),
		 place = view_of(a).record.place;

	(void)state;
	restart(0);
	expect_state(a, PD_MODEL_RESIDENT);
	assert_int_equal(world.model[a].loads, 1);
	rejoin_all();
	assert_int_equal(view_of(a).attached, 1);
	assert_int_equal(view_of(a).record.place, place);
	ts_release(&world, 0, a);
}

static void test_store_loading_one_goes_on(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 3);

	(void)state;
	th_assert_ok(ts_attach(&world, 0, "a", &a));
	(void)ts_use(&world, 0, a, USUAL, 0);
	restart(0);
	expect_state(a, PD_MODEL_LOADING);
	assert_int_equal(world.model[a].loads, 2);
	ts_work(&world);
	expect_state(a, PD_MODEL_RESIDENT);
	rejoin_all();
	ts_release(&world, 0, a);
}

/* The counter says so, though the journal does not. */
static void test_store_load_that_failed_unnoticed_fails_again(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 3);

	(void)state;
	(void)ts_order(&world, 1, PS_MODEL_LOAD, "a", 1000);
	world.kill_at = world.ops + 1;
	if (setjmp(world.killed) == 0)
		(void)ts_gpu_one(&world, PS_DRIVER);
	world.kill_at = 0;
	restart(0);
	ts_work(&world);
	expect_state(a, PD_MODEL_EVICTING);
	rejoin_all();
	ts_work(&world);
	expect_state(a, PD_MODEL_HOST);
}

static void test_store_loading_one_without_copy_is_taken_back(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 3);

	(void)state;
	(void)ts_order(&world, 1, PS_MODEL_LOAD, "a", 1000);
	world.model[a].has_host = false;
	world.jobs = 0;
	restart(0);
	expect_state(a, PD_MODEL_EVICTING);
	rejoin_all();
	ts_work(&world);
	expect_state(a, PD_MODEL_KNOWN);
}

static void test_store_reading_one_is_read_again(void **state)
{
	uint64_t tag = ts_add(&world, "a", 1, 0, TS_UNIT, 7);

	(void)state;
	restart(0);
	assert_true(ts_read_one(&world, PS_OK));
	expect_state(0, PD_MODEL_HOST);
	assert_int_equal(ts_answer(&world, tag), TS_NONE);
	rejoin_all();
}

static void test_store_evicting_one_is_reset_again(void **state)
{
	uint32_t a = ts_loaded(&world, "a", 3);

	(void)state;
	(void)ts_order(&world, 1, PS_MODEL_EVICT, "a", 1000);
	restart(0);
	rejoin_all();
	assert_int_equal(world.model[a].resets, 2);
	ts_work(&world);
	expect_state(a, PD_MODEL_HOST);
	assert_int_equal(world.model[a].counter, TS_EMPTY);
}

static void test_store_client_that_has_not_come_back_uses_all(void **state)
{
	uint32_t a = ts_loaded(&world, "a", 8);
	uint64_t tag;

	(void)state;
	(void)ts_have(&world, "b", 1, 0, 1);
	restart(0);
	tag = ts_order(&world, 1, PS_MODEL_LOAD, "b", 1000);
	ts_work(&world);
	expect_state(a, PD_MODEL_RESIDENT);
	rejoin_all();
	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
	expect_state(a, PD_MODEL_HOST);
}

static void test_store_copy_that_is_gone_makes_it_known_only(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 3);

	(void)state;
	world.model[a].has_host = false;
	restart(0);
	expect_state(a, PD_MODEL_KNOWN);
	rejoin_all();
}

static void test_store_copy_dropped_halfway_is_there_again(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 3);

	(void)state;
	put_state(a, PD_MODEL_KNOWN);
	restart(0);
	expect_state(a, PD_MODEL_HOST);
	rejoin_all();
}

/* The writer was killed between the segments and the model. */
static void test_store_segments_of_who_has_none_are_free(void **state)
{
	uint32_t a = ts_loaded(&world, "a", 3), n;

	(void)state;
	put_state(a, PD_MODEL_HOST);
	world.model[a].counter = TS_EMPTY;
	restart(0);
	for (n = 0; n < SEGMENTS; n++)
		assert_int_equal(pd_journal_segment(world.journal, n).model,
				 PD_NO_MODEL);
	rejoin_all();
}

static void
test_store_model_without_all_its_segments_is_taken_back(void **state)
{
	uint32_t a = ts_loaded(&world, "a", 3);
	struct pd_segment_record record;

	(void)state;
	record = pd_journal_segment(world.journal, ts_first(&world, a));
	record.model = PD_NO_MODEL;
	pd_journal_put_segment(world.journal, ts_first(&world, a), &record);
	restart(0);
	expect_state(a, PD_MODEL_EVICTING);
	rejoin_all();
	ts_work(&world);
	expect_state(a, PD_MODEL_HOST);
}

static void test_store_lost_segment_is_remade(void **state)
{
	uint64_t tag;

	(void)state;
	(void)ts_loaded(&world, "a", 8);
	(void)ts_have(&world, "b", 2, 0, 1);
	(void)ts_order(&world, 2, PS_MODEL_LOAD, "b", 1000);
	assert_true(ts_restart(&world, 4, true));
	rejoin_all();
	tag = ts_order(&world, 2, PS_MODEL_LOAD, "b", 1000);
	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
}

static void test_store_damaged_segment_is_nobodys(void **state)
{
	struct pd_segment_record record;
	uint32_t n;

	(void)state;
	record = pd_journal_segment(world.journal, 0);
	record.model = IP_MODELS_MAX;
	pd_journal_put_segment(world.journal, 0, &record);
	restart(0);
	rejoin_all();
	(void)ts_loaded(&world, "a", 7);
	for (n = 1; n < SEGMENTS; n++)
		assert_int_equal(pd_journal_segment(world.journal, n).model, 0);
	assert_int_equal(pd_journal_segment(world.journal, 0).state,
			 PD_DAMAGED);
}

/* Who could read its segments is not known any more, nor who does. */
static void test_store_damaged_model_keeps_its_segments(void **state)
{
	uint32_t a = ts_loaded(&world, "a", 3), n, left = 0;
	struct pd_model_record record = { .state = PD_MODEL_RESIDENT };
	struct pd_model_view view;

	(void)state;
	/* A record that cannot be: no serial. */
	pd_journal_put_model(world.journal, a, &record);
	restart(0);
	rejoin_all();
	assert_false(pd_store_model(world.store, a, &view));
	assert_int_not_equal(ts_loaded(&world, "b", 5), a);
	for (n = 0; n < SEGMENTS; n++)
		left += pd_journal_segment(world.journal, n).model == a;
	assert_int_equal(left, 3);
}

static void test_store_serials_go_on(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 1), b;

	(void)state;
	restart(0);
	rejoin_all();
	b = ts_have(&world, "b", 1, 0, 1);
	assert_true(view_of(b).record.serial > view_of(a).record.serial);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_store_resident_one_stays_as_it_is, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_loading_one_goes_on, set_up, tear_down),
	TH_TEST_SETUP(test_store_load_that_failed_unnoticed_fails_again, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_loading_one_without_copy_is_taken_back, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_reading_one_is_read_again, set_up, tear_down),
	TH_TEST_SETUP(test_store_evicting_one_is_reset_again, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_client_that_has_not_come_back_uses_all, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_copy_that_is_gone_makes_it_known_only, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_copy_dropped_halfway_is_there_again, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_segments_of_who_has_none_are_free, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_model_without_all_its_segments_is_taken_back,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_lost_segment_is_remade, set_up, tear_down),
	TH_TEST_SETUP(test_store_damaged_segment_is_nobodys, set_up, tear_down),
	TH_TEST_SETUP(test_store_damaged_model_keeps_its_segments, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_serials_go_on, set_up, tear_down),
};

TH_MAIN("store_adopt", tests)
