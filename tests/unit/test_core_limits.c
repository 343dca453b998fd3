/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Reservations and limits, of clients and of users: what is promised, what is
 * refused, and with which numbers. */
#include "poold/core.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "tests/support/core_world.h"
#include "tests/support/harness.h"

#define SEGMENTS 20u
#define CLIENTS 6u

static struct tc_world world;

static int set_up(void **state)
{
	(void)state;
	assert_true(tc_open(&world, 2, SEGMENTS, CLIENTS));
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

static uint32_t admit(uint32_t uid, uint64_t reservation, uint64_t limit)
{
	uint32_t slot = CLIENTS;

	th_assert_ok(tc_admit(&world, uid, reservation, limit, &slot));
	return slot;
}

static void expect_refused(uint32_t uid, uint64_t reservation, uint64_t limit,
			   enum ps_status status, const char *word)
{
	uint32_t slot;

	th_assert_status(tc_admit(&world, uid, reservation, limit, &slot),
			 status);
	if (strstr(bs_fail_text(), word) == NULL)
		fail_msg("no \"%s\" in: %s", word, bs_fail_text());
}

static void expect_granted(uint32_t slot, uint32_t count)
{
	tc_take(&world, slot, count, 0, 0);
	if (world.client[slot].answer != TC_GRANT)
		fail_msg("denied: %s", world.client[slot].text);
	assert_int_equal(world.client[slot].count, count);
}

/* @number: of segments, as bytes in the text. */
static void expect_number(const char *text, const char *what, uint64_t number)
{
	char words[64];

	snprintf(words, sizeof(words), "%s %llu", what,
		 (unsigned long long)(number * TC_UNIT));
	if (strstr(text, words) == NULL)
		fail_msg("no \"%s\" in: %s", words, text);
}

static void expect_denied(uint32_t slot, uint32_t count, const char *why)
{
	tc_take(&world, slot, count, 0, 0);
	assert_int_equal(world.client[slot].answer, TC_DENY);
	assert_int_equal(world.client[slot].status, PS_OUT_OF_MEMORY);
	if (strstr(world.client[slot].text, why) == NULL)
		fail_msg("no \"%s\" in: %s", why, world.client[slot].text);
}

static void set_user(uint32_t uid, uint64_t reservation, uint64_t limit)
{
	struct pd_user_limit *entry = &world.limits.user[world.limits.users++];

	entry->uid = uid;
	entry->reservation = reservation * TC_UNIT;
	entry->limit = limit * TC_UNIT;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
}

/* ---- attaching ---- */

static void test_core_admit_rounds_to_whole_segments(void **state)
{
	struct pd_client_record wanted = { .id = 7,
					   .reservation = TC_UNIT + 1,
					   .limit = 3 * TC_UNIT - 1 };
	struct pd_client_record granted;
	uint32_t slot;

	(void)state;
	th_assert_ok(pd_core_admit(world.core, &wanted, 1, &slot, &granted));
	assert_int_equal(granted.reservation, 2 * TC_UNIT);
	assert_int_equal(granted.limit, 2 * TC_UNIT);
	assert_true(granted.used);
}

static void test_core_admit_without_limit_gives_the_region(void **state)
{
	struct pd_client_view view;

	(void)state;
	assert_true(pd_core_client(world.core, admit(1, 0, 0), &view));
	assert_int_equal(view.record.limit, SEGMENTS * TC_UNIT);
}

static void test_core_admit_limits_by_the_daemons(void **state)
{
	struct pd_client_view view;

	(void)state;
	world.limits.client_limit = 5 * TC_UNIT;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
	assert_true(pd_core_client(world.core, admit(1, 0, 9), &view));
	assert_int_equal(view.record.limit, 5 * TC_UNIT);
}

static void test_core_admit_reservation_above_limit_is_refused(void **state)
{
	(void)state;
	expect_refused(1, 5, 4, PS_INVALID_ARGUMENT, "above the limit of 4");
}

static void test_core_admit_limit_below_a_segment_is_refused(void **state)
{
	struct pd_client_record wanted = { .id = 7, .limit = TC_UNIT - 1 };
	uint32_t slot;

	(void)state;
	th_assert_status(pd_core_admit(world.core, &wanted, 1, &slot, &wanted),
			 PS_INVALID_ARGUMENT);
	assert_non_null(strstr(bs_fail_text(), "less than one segment"));
}

static void test_core_admit_reservation_of_all_bytes_is_refused(void **state)
{
	struct pd_client_record wanted = { .id = 7,
					   .reservation = UINT64_MAX,
					   .limit = UINT64_MAX };
	uint32_t slot;

	(void)state;
	admit(1, 3, 0);
	th_assert_status(pd_core_admit(world.core, &wanted, 1, &slot, &wanted),
			 PS_INVALID_ARGUMENT);
}

static void test_core_admit_reservation_above_the_most_is_refused(void **state)
{
	(void)state;
	world.limits.client_reservation_max = 4 * TC_UNIT;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
	admit(1, 4, 0);
	expect_refused(1, 5, 0, PS_INVALID_ARGUMENT, "may ask for");
}

static void test_core_admit_more_than_the_region_is_refused(void **state)
{
	(void)state;
	admit(1, 12, 0);
	expect_refused(2, 9, 0, PS_OUT_OF_MEMORY, "cannot be guaranteed");
	expect_number(bs_fail_text(), "the region has", SEGMENTS);
	expect_number(bs_fail_text(), "of which", 12);
	admit(2, 8, 0);
}

static void test_core_admit_more_than_is_free_is_refused(void **state)
{
	uint32_t a = admit(1, 0, 0);

	(void)state;
	expect_granted(a, 15);
	expect_refused(2, 6, 0, PS_OUT_OF_MEMORY, "free or about to be");
	admit(2, 5, 0);
}

static void test_core_admit_counts_what_the_dead_leave(void **state)
{
	uint32_t a = admit(1, 0, 0);

	(void)state;
	expect_granted(a, 15);
	tc_dead(&world, a);
	admit(2, SEGMENTS, 0);
}

static void test_core_admit_too_many_clients_is_refused(void **state)
{
	(void)state;
	world.limits.clients = 2;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
	admit(1, 0, 0);
	admit(1, 0, 0);
	expect_refused(1, 0, 0, PS_REFUSED, "2 clients of 2");
}

static void test_core_admit_too_many_of_a_user_is_refused(void **state)
{
	(void)state;
	world.limits.clients_of_user = 1;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
	admit(1, 0, 0);
	expect_refused(1, 0, 0, PS_REFUSED, "this user has 1 clients of 1");
	admit(2, 0, 0);
}

static void test_core_admit_to_a_full_journal_is_refused(void **state)
{
	uint32_t i;

	(void)state;
	for (i = 0; i < CLIENTS; i++)
		admit(i, 0, 0);
	expect_refused(9, 0, 0, PS_REFUSED, "journal is full");
}

static void test_core_admit_of_a_known_number_is_refused(void **state)
{
	struct pd_client_record wanted = { .id = 1 };
	uint32_t slot;

	(void)state;
	admit(1, 0, 0);
	th_assert_status(pd_core_admit(world.core, &wanted, 1, &slot, &wanted),
			 PS_INVALID_ARGUMENT);
}

/* ---- a client's limit and reservation ---- */

static void test_core_take_above_the_clients_limit_is_denied(void **state)
{
	uint32_t a = admit(1, 0, 5);
	const char *text = world.client[a].text;

	(void)state;
	expect_granted(a, 3);
	expect_denied(a, 3, "above this client's limit");
	expect_number(text, "this client has", 3);
	expect_number(text, "of at most", 5);
	expect_granted(a, 2);
}

static void test_core_take_parked_ones_count_for_the_limit(void **state)
{
	uint32_t a = admit(1, 0, 5);

	(void)state;
	expect_granted(a, 5);
	th_assert_ok(tc_give_some(&world, a, 3, false, true));
	expect_denied(a, 4, "limit");
	expect_granted(a, 3);
}

static void test_core_take_some_stays_within_the_limit(void **state)
{
	uint32_t a = admit(1, 0, 5);

	(void)state;
	tc_take(&world, a, 9, 0, IP_TAKE_SOME);
	assert_int_equal(world.client[a].count, 5);
}

static void test_core_take_what_others_were_promised_is_denied(void **state)
{
	uint32_t a = admit(1, 0, 0), b = admit(2, 8, 0);
	const char *text = world.client[a].text;

	(void)state;
	expect_denied(a, 13, "beyond what others were promised");
	expect_number(text, "free", 20);
	expect_number(text, "guaranteed to others", 8);
	expect_granted(a, 12);
	expect_granted(b, 8);
}

static void test_core_take_some_leaves_what_others_were_promised(void **state)
{
	uint32_t a = admit(1, 0, 0);

	(void)state;
	admit(2, 8, 0);
	tc_take(&world, a, 20, 0, IP_TAKE_SOME);
	assert_int_equal(world.client[a].count, 12);
}

static void test_core_take_beyond_the_reservation_takes_slack(void **state)
{
	uint32_t a = admit(1, 6, 0), b = admit(2, 8, 0);

	(void)state;
	expect_granted(a, 12);
	expect_denied(a, 1, "promised");
	expect_granted(b, 8);
}

static void test_core_away_keeps_its_reservation(void **state)
{
	uint32_t a = admit(1, 0, 0), b = admit(2, 8, 0);

	(void)state;
	pd_core_away(world.core, b, world.now_ms);
	expect_denied(a, 13, "promised");
}

static void test_core_death_ends_a_reservation(void **state)
{
	uint32_t a = admit(1, 0, 0), b = admit(2, 8, 0);

	(void)state;
	tc_dead(&world, b);
	expect_granted(a, SEGMENTS);
}

static void test_core_denial_names_all_numbers(void **state)
{
	uint32_t a = admit(1, 0, 0), b = admit(1, 0, 0), c = admit(1, 0, 0);
	const char *text = world.client[c].text;

	(void)state;
	expect_granted(a, 5);
	expect_granted(b, 7);
	th_assert_ok(tc_give_some(&world, a, 2, false, true));
	tc_dead(&world, b);
	expect_denied(c, 9, "18874368 bytes are not free");
	expect_number(text, "free", 8);
	expect_number(text, "leased", 3);
	expect_number(text, "parked", 2);
	expect_number(text, "quarantined", 7);
	expect_number(text, "guaranteed to others", 0);
}

/* ---- a user's ---- */

static void test_core_take_above_the_users_limit_is_denied(void **state)
{
	uint32_t a = admit(1, 0, 0), b = admit(1, 0, 0), c = admit(2, 0, 0);

	(void)state;
	set_user(1, 0, 6);
	expect_granted(a, 4);
	expect_denied(b, 3, "above this user's limit");
	expect_granted(b, 2);
	expect_granted(c, 14);
}

static void test_core_users_limit_counts_his_dead(void **state)
{
	uint32_t a = admit(1, 0, 0), b = admit(1, 0, 0);

	(void)state;
	set_user(1, 0, 6);
	expect_granted(a, 4);
	tc_dead(&world, a);
	expect_denied(b, 3, "user's limit");
}

static void test_core_users_limit_leaves_his_reservations(void **state)
{
	uint32_t a, b;

	(void)state;
	set_user(1, 0, 6);
	a = admit(1, 0, 0);
	b = admit(1, 4, 0);
	expect_denied(a, 3, "user's limit");
	expect_granted(a, 2);
	expect_granted(b, 4);
}

static void test_core_admit_above_the_users_limit_is_refused(void **state)
{
	(void)state;
	set_user(1, 0, 6);
	admit(1, 4, 0);
	expect_refused(1, 3, 0, PS_OUT_OF_MEMORY, "the user may have");
}

static void test_core_users_guarantee_is_kept_for_him(void **state)
{
	uint32_t a = admit(1, 0, 0), b = admit(2, 0, 0);

	(void)state;
	set_user(1, 8, 0);
	expect_denied(b, 13, "promised");
	expect_granted(b, 12);
	expect_granted(a, 8);
}

static void test_core_users_guarantee_holds_his_reservations(void **state)
{
	uint32_t a, b;

	(void)state;
	set_user(1, 8, 0);
	a = admit(1, 6, 0);
	b = admit(1, 0, 0);
	/* 2 of the 8 are for any of his clients. */
	admit(2, 12, 0);
	expect_denied(b, 3, "promised");
	expect_granted(b, 2);
	expect_granted(a, 6);
	expect_denied(a, 1, "promised");
}

static void test_core_users_guarantee_counts_at_admission(void **state)
{
	(void)state;
	set_user(1, 8, 0);
	expect_refused(2, 13, 0, PS_OUT_OF_MEMORY, "the region has");
	admit(1, 8, 0);
	admit(2, 12, 0);
	expect_refused(1, 1, 0, PS_OUT_OF_MEMORY, "the region has");
}

static void test_core_users_of_one_bucket_are_told_apart(void **state)
{
	uint32_t a = admit(1, 0, 0), b = admit(65, 0, 0), c = admit(129, 0, 0);

	(void)state;
	set_user(1, 0, 2);
	set_user(65, 0, 3);
	set_user(129, 0, 4);
	expect_denied(a, 3, "user's limit");
	expect_denied(b, 4, "user's limit");
	expect_denied(c, 5, "user's limit");
	world.limits.users = 0;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
	tc_reclaim(&world, b, true);
	tc_reclaim(&world, a, true);
	th_assert_ok(pd_core_check(world.core));
	expect_granted(c, 5);
}

/* ---- new limits ---- */

static void test_core_limits_below_what_is_held_stop_the_next(void **state)
{
	uint32_t a = admit(1, 0, 0);

	(void)state;
	expect_granted(a, 10);
	world.limits.client_limit = 4 * TC_UNIT;
	set_user(1, 0, 4);
	th_assert_ok(pd_core_check(world.core));
	expect_denied(a, 1, "limit");
	th_assert_ok(tc_give_some(&world, a, 8, false, false));
	tc_work(&world);
	expect_granted(a, 2);
}

static void test_core_limits_that_promise_too_much_give_no_slack(void **state)
{
	uint32_t a = admit(1, 0, 0), b = admit(2, 0, 0), c = admit(3, 0, 0);

	(void)state;
	expect_granted(a, 15);
	set_user(2, 10, 0);
	th_assert_ok(pd_core_check(world.core));
	expect_denied(c, 1, "promised");
	expect_granted(b, 5);
}

static void test_core_limits_taken_back_are_forgotten(void **state)
{
	uint32_t a = admit(1, 0, 0);

	(void)state;
	set_user(1, 0, 2);
	expect_denied(a, 3, "user's limit");
	world.limits.users = 0;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
	expect_granted(a, 3);
}

static void test_core_limits_raised_serve_who_waits(void **state)
{
	uint32_t a = admit(1, 0, 0), b = admit(1, 0, 0);

	(void)state;
	set_user(1, 0, 6);
	expect_granted(a, 6);
	tc_take(&world, b, 2, 500, 0);
	assert_int_equal(world.client[b].answer, TC_NONE);
	world.limits.user[0].limit = 8 * TC_UNIT;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
	assert_int_equal(world.client[b].answer, TC_GRANT);
}

static void test_core_totals_tell_what_is_promised(void **state)
{
	struct pd_totals totals;

	(void)state;
	set_user(1, 8, 0);
	admit(1, 3, 0);
	admit(2, 4, 0);
	pd_core_totals(world.core, &totals);
	assert_int_equal(totals.guaranteed, 12 * TC_UNIT);
	assert_int_equal(totals.parameter, 2 * TC_UNIT);
	assert_int_equal(totals.computation, SEGMENTS * TC_UNIT);
}

static const struct th_test tests[] = {
#define TEST(name) TH_TEST_SETUP(name, set_up, tear_down)
	TEST(test_core_admit_rounds_to_whole_segments),
	TEST(test_core_admit_without_limit_gives_the_region),
	TEST(test_core_admit_limits_by_the_daemons),
	TEST(test_core_admit_reservation_above_limit_is_refused),
	TEST(test_core_admit_limit_below_a_segment_is_refused),
	TEST(test_core_admit_reservation_of_all_bytes_is_refused),
	TEST(test_core_admit_reservation_above_the_most_is_refused),
	TEST(test_core_admit_more_than_the_region_is_refused),
	TEST(test_core_admit_more_than_is_free_is_refused),
	TEST(test_core_admit_counts_what_the_dead_leave),
	TEST(test_core_admit_too_many_clients_is_refused),
	TEST(test_core_admit_too_many_of_a_user_is_refused),
	TEST(test_core_admit_to_a_full_journal_is_refused),
	TEST(test_core_admit_of_a_known_number_is_refused),
	TEST(test_core_take_above_the_clients_limit_is_denied),
	TEST(test_core_take_parked_ones_count_for_the_limit),
	TEST(test_core_take_some_stays_within_the_limit),
	TEST(test_core_take_what_others_were_promised_is_denied),
	TEST(test_core_take_some_leaves_what_others_were_promised),
	TEST(test_core_take_beyond_the_reservation_takes_slack),
	TEST(test_core_away_keeps_its_reservation),
	TEST(test_core_death_ends_a_reservation),
	TEST(test_core_denial_names_all_numbers),
	TEST(test_core_take_above_the_users_limit_is_denied),
	TEST(test_core_users_limit_counts_his_dead),
	TEST(test_core_users_limit_leaves_his_reservations),
	TEST(test_core_admit_above_the_users_limit_is_refused),
	TEST(test_core_users_guarantee_is_kept_for_him),
	TEST(test_core_users_guarantee_holds_his_reservations),
	TEST(test_core_users_guarantee_counts_at_admission),
	TEST(test_core_users_of_one_bucket_are_told_apart),
	TEST(test_core_limits_below_what_is_held_stop_the_next),
	TEST(test_core_limits_that_promise_too_much_give_no_slack),
	TEST(test_core_limits_taken_back_are_forgotten),
	TEST(test_core_limits_raised_serve_who_waits),
	TEST(test_core_totals_tell_what_is_promised),
};

TH_MAIN("core_limits", tests)
