/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Which segments a grant takes, and what must happen to them before. */
#include "poold/core.h"

#include <string.h>

#include "base/status.h"
#include "tests/support/core_world.h"
#include "tests/support/harness.h"

#define PARAMETER 2u
#define SEGMENTS 200u
#define CLIENTS 8u

static struct tc_world world;
static uint32_t a, b, c; /* clients: users 1, 1 and 2 */

static int set_up(void **state)
{
	(void)state;
	assert_true(tc_open(&world, PARAMETER, SEGMENTS, CLIENTS));
	th_assert_ok(tc_admit(&world, 1, 0, 0, &a));
	th_assert_ok(tc_admit(&world, 1, 0, 0, &b));
	th_assert_ok(tc_admit(&world, 2, 0, 0, &c));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_string_equal(world.wrong, "");
	th_assert_ok(pd_core_check(world.core));
	tc_close(&world);
	return 0;
}

static void expect_granted(uint32_t slot, uint32_t count)
{
	assert_int_equal(world.client[slot].answer, TC_GRANT);
	assert_int_equal(world.client[slot].count, count);
}

static void expect_list(uint32_t slot, const uint32_t *list, uint32_t count)
{
	expect_granted(slot, count);
	assert_memory_equal(world.client[slot].segment, list,
			    count * sizeof(*list));
}

static void take_all(uint32_t slot)
{
	tc_take(&world, slot, SEGMENTS, 0, 0);
	expect_granted(slot, SEGMENTS);
}

/* Returns @count segments from @first on, which @slot has. */
static void free_run(uint32_t slot, uint32_t first, uint32_t count)
{
	uint32_t list[IP_LIST_MAX], i;

	for (i = 0; i < count; i++)
		list[i] = first + i;
	th_assert_ok(tc_give(&world, slot, list, count, false));
}

/* ---- clean ones ---- */

static void test_core_take_grants_neighbours_after_parameters(void **state)
{
	const uint32_t expected[] = { 2, 3, 4 };

	(void)state;
	tc_take(&world, a, 3, 0, 0);
	expect_list(a, expected, 3);
}

static void test_core_take_finds_the_run_that_fits_exactly(void **state)
{
	const uint32_t expected[] = { 100, 101, 102 };

	(void)state;
	take_all(a);
	free_run(a, 10, 8);
	free_run(a, 50, 2);
	free_run(a, 100, 3);
	free_run(a, 120, 4);
	tc_work(&world);
	tc_take(&world, a, 3, 0, 0);
	expect_list(a, expected, 3);
}

static void test_core_take_prefers_the_smallest_run_that_holds_it(void **state)
{
	const uint32_t expected[] = { 120, 121, 122 };

	(void)state;
	take_all(a);
	free_run(a, 10, 8);
	free_run(a, 50, 2);
	free_run(a, 120, 5);
	tc_work(&world);
	tc_take(&world, a, 3, 0, 0);
	expect_list(a, expected, 3);
}

static void test_core_take_without_one_run_uses_the_largest_first(void **state)
{
	const uint32_t expected[] = { 62, 63, 64, 65, 66, 20 };

	(void)state;
	take_all(a);
	free_run(a, 20, 2);
	free_run(a, 62, 5);
	free_run(a, 150, 1);
	tc_work(&world);
	tc_take(&world, a, 6, 0, 0);
	expect_list(a, expected, 6);
}

static void test_core_run_of_own_and_unused_is_one_run(void **state)
{
	const uint32_t expected[] = { 2, 3, 4, 5 };

	(void)state;
	tc_take(&world, a, 2, 0, 0);
	tc_take(&world, c, SEGMENTS - 4, 0, 0);
	/* 2 and 3 are the user's, 200 and 201 nobody's yet. */
	free_run(a, 2, 2);
	tc_work(&world);
	tc_dead(&world, c);
	tc_reclaim(&world, c, false);
	tc_remade(&world, 4, PS_OK);
	tc_remade(&world, 5, PS_OK);
	/* 2 to 5, before the two at the end. */
	tc_take(&world, b, 4, 0, 0);
	expect_list(b, expected, 4);
}

/* ---- parked ones ---- */

static void test_core_parked_ones_are_granted_first(void **state)
{
	const uint32_t expected[] = { 4 | IP_SEGMENT_PARKED,
				      5 | IP_SEGMENT_PARKED };
	const uint32_t parked[] = { 5, 4 };

	(void)state;
	tc_take(&world, a, 6, 0, 0);
	th_assert_ok(tc_give(&world, a, parked, 2, true));
	tc_take(&world, a, 2, 0, 0);
	expect_list(a, expected, 2);
}

static void test_core_parked_ones_lack_some_adds_clean_ones(void **state)
{
	const uint32_t expected[] = { 2 | IP_SEGMENT_PARKED, 4, 5 };
	const uint32_t parked[] = { 2 };

	(void)state;
	tc_take(&world, a, 2, 0, 0);
	th_assert_ok(tc_give(&world, a, parked, 1, true));
	tc_take(&world, a, 3, 0, 0);
	expect_list(a, expected, 3);
}

static void test_core_parked_ones_are_nobody_elses(void **state)
{
	(void)state;
	take_all(a);
	th_assert_ok(tc_give_some(&world, a, 100, false, true));
	pd_core_away(world.core, a, world.now_ms);
	tc_take(&world, b, 1, 0, 0);
	assert_int_equal(world.client[b].answer, TC_DENY);
}

static void test_core_parked_ones_parked_again_stay_so(void **state)
{
	const uint32_t parked[] = { 2, 3 };
	struct pd_client_view view;

	(void)state;
	tc_take(&world, a, 2, 0, 0);
	th_assert_ok(tc_give(&world, a, parked, 2, true));
	th_assert_ok(tc_give(&world, a, parked, 2, true));
	assert_true(pd_core_client(world.core, a, &view));
	assert_int_equal(view.parked, 2 * TC_UNIT);
	assert_int_equal(view.leased, 0);
}

static void test_core_parked_ones_given_back_are_scrubbed(void **state)
{
	const uint32_t parked[] = { 2, 3 };

	(void)state;
	tc_take(&world, a, 2, 0, 0);
	th_assert_ok(tc_give(&world, a, parked, 2, true));
	th_assert_ok(tc_give(&world, a, parked, 2, false));
	assert_int_equal(tc_first_scrub(&world), 2);
}

/* ---- dirty ones ---- */

static void test_core_given_back_is_scrubbed_before_it_is_granted(void **state)
{
	(void)state;
	take_all(a);
	th_assert_ok(tc_give_some(&world, a, 4, false, false));
	tc_take(&world, a, 4, 1000, 0);
	assert_int_equal(world.client[a].answer, TC_NONE);
	tc_work(&world);
	expect_granted(a, 4);
}

static void test_core_dirty_without_waiting_is_denied(void **state)
{
	(void)state;
	take_all(a);
	th_assert_ok(tc_give_some(&world, a, 4, false, false));
	tc_take(&world, a, 4, 0, 0);
	assert_int_equal(world.client[a].answer, TC_DENY);
	assert_int_equal(world.client[a].status, PS_OUT_OF_MEMORY);
	assert_non_null(strstr(world.client[a].text, "being cleaned"));
}

static void test_core_scrub_that_fails_leads_to_remaking(void **state)
{
	(void)state;
	tc_take(&world, a, 1, 0, 0);
	th_assert_ok(tc_give_some(&world, a, 1, false, false));
	tc_scrubbed(&world, 2, PS_DRIVER);
	assert_int_equal(tc_first_remake(&world), 2);
	tc_work(&world);
}

static void test_core_scrub_nobody_asked_for_changes_nothing(void **state)
{
	(void)state;
	tc_take(&world, a, 2, 0, 0);
	pd_core_scrubbed(world.core, 2, PS_OK, world.now_ms);
	pd_core_remade(world.core, 3, PS_OK, world.now_ms);
	pd_core_scrubbed(world.core, 0, PS_OK, world.now_ms);
	pd_core_remade(world.core, UINT32_MAX, PS_OK, world.now_ms);
	assert_int_equal(tc_holds(&world, a), 2);
}

/* ---- other users' ---- */

static void test_core_clean_of_the_same_user_is_granted_as_it_is(void **state)
{
	(void)state;
	take_all(a);
	th_assert_ok(tc_give_some(&world, a, 4, false, false));
	tc_work(&world);
	tc_take(&world, b, 4, 0, 0);
	expect_granted(b, 4);
}

static void test_core_clean_of_another_user_is_remade_first(void **state)
{
	(void)state;
	take_all(a);
	th_assert_ok(tc_give_some(&world, a, 4, false, false));
	tc_work(&world);
	tc_take(&world, c, 3, 1000, 0);
	assert_int_equal(world.client[c].answer, TC_NONE);
	assert_int_not_equal(tc_first_remake(&world), TC_NOBODY);
	tc_work(&world);
	expect_granted(c, 3);
}

static void test_core_clean_of_another_user_is_not_remade_in_vain(void **state)
{
	struct pd_totals totals;

	(void)state;
	take_all(a);
	th_assert_ok(tc_give_some(&world, a, 40, false, false));
	tc_work(&world);
	tc_take(&world, c, 3, 1000, 0);
	tc_work(&world);
	pd_core_totals(world.core, &totals);
	assert_int_equal(totals.remakes, 3);
	assert_int_equal(totals.clean, 37 * TC_UNIT);
}

static void test_core_dirty_of_another_user_is_scrubbed_and_remade(void **state)
{
	struct pd_totals totals;

	(void)state;
	take_all(a);
	th_assert_ok(tc_give_some(&world, a, 4, false, false));
	tc_take(&world, c, 4, 1000, 0);
	tc_work(&world);
	expect_granted(c, 4);
	pd_core_totals(world.core, &totals);
	assert_int_equal(totals.remakes, 4);
}

static void test_core_mixed_users_in_one_word_are_told_apart(void **state)
{
	const uint32_t expected[] = { 21, 23, 25 };
	uint32_t n;

	(void)state;
	tc_take(&world, a, 18, 0, 0); /* 2 to 19 */
	for (n = 20; n < 26; n++)
		tc_take(&world, n % 2 == 0 ? a : c, 1, 0, 0);
	tc_take(&world, a, SEGMENTS - 24, 0, 0);
	for (n = 20; n < 26; n++)
		free_run(n % 2 == 0 ? a : c, n, 1);
	tc_work(&world);
	tc_take(&world, c, 3, 0, 0);
	expect_list(c, expected, 3);
}

/* ---- remaking ---- */

/* One segment that is being remade; all others are a's. */
static void one_remaking(void)
{
	take_all(a);
	th_assert_ok(tc_give_some(&world, a, 1, false, false));
	tc_scrubbed(&world, 2, PS_DRIVER);
	assert_int_equal(tc_first_remake(&world), 2);
}

static void test_core_remake_that_fails_rests_and_is_tried_again(void **state)
{
	(void)state;
	one_remaking();
	tc_remade(&world, 2, PS_BUSY);
	assert_int_equal(tc_first_remake(&world), TC_NOBODY);
	assert_int_equal(world.armed_ms, world.now_ms + PD_REMAKE_REST_MS);
	tc_wait(&world, PD_REMAKE_REST_MS - 1);
	assert_int_equal(tc_first_remake(&world), TC_NOBODY);
	tc_wait(&world, 1);
	assert_int_equal(tc_first_remake(&world), 2);
	assert_int_equal(world.armed_ms, 0);
}

static void test_core_remake_rests_longer_each_time_to_a_bound(void **state)
{
	uint64_t rest = PD_REMAKE_REST_MS;
	int i;

	(void)state;
	one_remaking();
	for (i = 0; i < 9; i++) {
		tc_remade(&world, 2, PS_BUSY);
		assert_int_equal(world.armed_ms, world.now_ms + rest);
		tc_wait(&world, rest);
		if (i < 6)
			rest *= 2;
	}
	assert_int_equal(rest, 64 * PD_REMAKE_REST_MS);
}

static void test_core_remakes_that_rest_each_have_their_time(void **state)
{
	(void)state;
	one_remaking();
	th_assert_ok(tc_give_some(&world, a, 1, false, false));
	tc_scrubbed(&world, 3, PS_DRIVER);
	tc_remade(&world, 2, PS_BUSY);
	world.now_ms += 50;
	tc_remade(&world, 3, PS_BUSY);
	tc_wait(&world, PD_REMAKE_REST_MS - 50);
	assert_int_equal(tc_first_remake(&world), 2);
	assert_int_equal(world.armed_ms, world.now_ms + 50);
	tc_remade(&world, 2, PS_OK);
	tc_wait(&world, 50);
	assert_int_equal(tc_first_remake(&world), 3);
}

static void test_core_remade_is_granted_to_anybody(void **state)
{
	(void)state;
	one_remaking();
	tc_work(&world);
	tc_take(&world, c, 1, 0, 0);
	expect_granted(c, 1);
}

/* ---- some ---- */

static void test_core_take_some_gets_what_there_is(void **state)
{
	(void)state;
	tc_take(&world, a, SEGMENTS - 3, 0, 0);
	tc_take(&world, b, 10, 5000, IP_TAKE_SOME);
	expect_granted(b, 3);
}

static void test_core_take_some_gets_all_where_there_is_enough(void **state)
{
	(void)state;
	tc_take(&world, b, 10, 5000, IP_TAKE_SOME);
	expect_granted(b, 10);
}

static void test_core_take_some_of_nothing_is_denied_at_once(void **state)
{
	(void)state;
	take_all(a);
	th_assert_ok(tc_give_some(&world, a, 4, false, false));
	tc_take(&world, b, 10, 5000, IP_TAKE_SOME);
	assert_int_equal(world.client[b].answer, TC_DENY);
	assert_int_equal(world.client[b].status, PS_OUT_OF_MEMORY);
	assert_int_equal(world.client[a].recalls, 0);
}

static const struct th_test tests[] = {
#define TEST(name) TH_TEST_SETUP(name, set_up, tear_down)
	TEST(test_core_take_grants_neighbours_after_parameters),
	TEST(test_core_take_finds_the_run_that_fits_exactly),
	TEST(test_core_take_prefers_the_smallest_run_that_holds_it),
	TEST(test_core_take_without_one_run_uses_the_largest_first),
	TEST(test_core_run_of_own_and_unused_is_one_run),
	TEST(test_core_parked_ones_are_granted_first),
	TEST(test_core_parked_ones_lack_some_adds_clean_ones),
	TEST(test_core_parked_ones_are_nobody_elses),
	TEST(test_core_parked_ones_parked_again_stay_so),
	TEST(test_core_parked_ones_given_back_are_scrubbed),
	TEST(test_core_given_back_is_scrubbed_before_it_is_granted),
	TEST(test_core_dirty_without_waiting_is_denied),
	TEST(test_core_scrub_that_fails_leads_to_remaking),
	TEST(test_core_scrub_nobody_asked_for_changes_nothing),
	TEST(test_core_clean_of_the_same_user_is_granted_as_it_is),
	TEST(test_core_clean_of_another_user_is_remade_first),
	TEST(test_core_clean_of_another_user_is_not_remade_in_vain),
	TEST(test_core_dirty_of_another_user_is_scrubbed_and_remade),
	TEST(test_core_mixed_users_in_one_word_are_told_apart),
	TEST(test_core_remake_that_fails_rests_and_is_tried_again),
	TEST(test_core_remake_rests_longer_each_time_to_a_bound),
	TEST(test_core_remakes_that_rest_each_have_their_time),
	TEST(test_core_remade_is_granted_to_anybody),
	TEST(test_core_take_some_gets_what_there_is),
	TEST(test_core_take_some_gets_all_where_there_is_enough),
	TEST(test_core_take_some_of_nothing_is_denied_at_once),
};

TH_MAIN("core_grant", tests)
