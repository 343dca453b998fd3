/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* When tickets are good, and what becomes of memory that others have open. */
#include "poold/core.h"

#include <string.h>

#include "base/status.h"
#include "tests/support/core_world.h"
#include "tests/support/harness.h"

#define PARAMETER 3u
#define SEGMENTS 20u
#define CLIENTS 24u
#define FIRST PARAMETER /* what @a gets first */

static struct tc_world world;
static struct tc_ticket ticket;
static uint32_t a, b, c; /* of users 1, 1 and 2 */

static void have(uint32_t slot, uint32_t count)
{
	assert_int_equal(tc_take(&world, slot, count, 0, 0), TC_GRANT);
}

/* @a has 4 segments and a ticket for the first two. */
static int set_up(void **state)
{
	(void)state;
	assert_true(tc_open(&world, PARAMETER, SEGMENTS, CLIENTS));
	th_assert_ok(tc_admit(&world, 1, 0, 0, &a));
	th_assert_ok(tc_admit(&world, 1, 0, 0, &b));
	th_assert_ok(tc_admit(&world, 2, 0, 0, &c));
	have(a, 4);
	th_assert_ok(tc_issue(&world, a, FIRST, 2, &ticket));
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

static struct pd_totals totals(void)
{
	struct pd_totals totals;

	pd_core_totals(world.core, &totals);
	return totals;
}

static struct pd_client_view view_of(uint32_t slot)
{
	struct pd_client_view view;

	assert_true(pd_core_client(world.core, slot, &view));
	return view;
}

static enum pd_segment_state state_of(uint32_t n)
{
	return pd_journal_segment(world.journal, n).state;
}

static void give(uint32_t slot, uint32_t first, uint32_t count, bool parked)
{
	uint32_t list[SEGMENTS], i;

	for (i = 0; i < count; i++)
		list[i] = first + i;
	th_assert_ok(tc_give(&world, slot, list, count, parked));
}

static void expect_refused(uint32_t slot)
{
	th_assert_status(tc_use(&world, slot, &ticket), PS_REFUSED);
	assert_non_null(strstr(bs_fail_text(), "no longer good"));
	assert_int_equal(tc_opened(&world, slot), 0);
}

static void test_core_share_needs_an_attached_client(void **state)
{
	const struct ip_list list = { .count = 1, .segment = { FIRST } };
	struct tc_ticket again;

	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	pd_core_away(world.core, a, world.now_ms);
	pd_core_away(world.core, b, world.now_ms);
	th_assert_status(tc_issue(&world, a, FIRST, 1, &again), PS_PROTOCOL);
	th_assert_status(tc_use(&world, b, &ticket), PS_PROTOCOL);
	th_assert_status(pd_core_close(world.core, b, &list, world.now_ms),
			 PS_PROTOCOL);
	th_assert_status(tc_export(&world, a, FIRST), PS_PROTOCOL);
	th_assert_status(tc_use(&world, CLIENTS, &ticket), PS_PROTOCOL);
}

static void test_core_share_on_a_lost_gpu_says_so(void **state)
{
	struct tc_ticket again;

	(void)state;
	pd_core_lose(world.core);
	th_assert_status(tc_issue(&world, a, FIRST, 1, &again), PS_DEVICE_LOST);
	th_assert_status(tc_use(&world, b, &ticket), PS_DEVICE_LOST);
	th_assert_status(tc_export(&world, a, FIRST), PS_DEVICE_LOST);
}

/* ---- opening ---- */

static void test_core_open_of_the_same_user_is_granted(void **state)
{
	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	assert_int_equal(tc_opened(&world, b), 2);
	assert_int_equal(view_of(b).opened, 2 * TC_UNIT);
	assert_int_equal(view_of(b).leased, 0);
	assert_true(pd_core_has_open(world.core, b, FIRST));
	assert_false(pd_core_has_open(world.core, b, FIRST + 2));
	assert_false(pd_core_has_open(world.core, a, FIRST));
	assert_false(pd_core_has_open(world.core, b, UINT32_MAX));
}

static void test_core_open_gives_runs_in_their_order(void **state)
{
	const struct ip_issue issue = { .run_count = 2,
					.run = { { FIRST + 2, 2 },
						 { FIRST, 1 } },
					.bytes = 512 };
	uint32_t list[SEGMENTS], count;
	struct pd_grant_of grant;

	(void)state;
	th_assert_ok(pd_core_issue(world.core, a, &issue, &grant));
	th_assert_ok(pd_core_open(world.core, b, &grant, list, &count));
	assert_int_equal(count, 3);
	assert_int_equal(list[0], FIRST + 2);
	assert_int_equal(list[1], FIRST + 3);
	assert_int_equal(list[2], FIRST);
}

static void test_core_open_twice_is_open_once(void **state)
{
	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	th_assert_ok(tc_use(&world, b, &ticket));
	assert_int_equal(view_of(b).opened, 2 * TC_UNIT);
	th_assert_ok(tc_unuse(&world, b, FIRST, 2));
	assert_int_equal(view_of(b).opened, 0);
}

static void test_core_open_of_ones_own_is_not_ours(void **state)
{
	(void)state;
	th_assert_status(tc_use(&world, a, &ticket), PS_NOT_OURS);
}

static void test_core_open_by_another_user_is_refused(void **state)
{
	(void)state;
	expect_refused(c);
}

static void test_core_open_of_what_was_given_back_is_refused(void **state)
{
	(void)state;
	give(a, FIRST + 1, 1, false);
	expect_refused(b);
}

static void test_core_open_of_what_is_parked_is_refused(void **state)
{
	(void)state;
	give(a, FIRST, 1, true);
	expect_refused(b);
}

static void test_core_open_of_an_older_lease_is_refused(void **state)
{
	(void)state;
	give(a, FIRST, 1, true);
	have(a, 1);
	assert_int_equal(world.segment[FIRST].holder, a);
	assert_false(world.segment[FIRST].is_parked);
	expect_refused(b);
}

static void test_core_open_of_the_next_owners_is_refused(void **state)
{
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 0, 0, &slot));
	tc_reclaim(&world, a, true);
	tc_work(&world);
	have(b, SEGMENTS);
	expect_refused(slot);
}

static void test_core_open_of_a_dead_owner_is_refused(void **state)
{
	(void)state;
	tc_dead(&world, a);
	expect_refused(b);
}

static void test_core_open_of_an_owner_away_is_granted(void **state)
{
	(void)state;
	pd_core_away(world.core, a, world.now_ms);
	th_assert_ok(tc_use(&world, b, &ticket));
}

/* What a ticket cannot say, should its maker ever be wrong. */
static void test_core_open_of_an_impossible_ticket_is_refused(void **state)
{
	const struct pd_grant_of good = ticket.grant;

	(void)state;
	ticket.grant.run[0].count = UINT32_MAX;
	expect_refused(b);
	ticket.grant.run_count = IP_TICKET_RUNS + 1;
	expect_refused(b);
	ticket.grant = good;
	ticket.grant.bytes += 512;
	expect_refused(b);
	ticket.grant = good;
	ticket.grant.owner++;
	expect_refused(c);
}

static void test_core_open_by_too_many_is_refused(void **state)
{
	uint32_t slot, i;

	(void)state;
	for (i = 0; i < PD_OPENERS; i++) {
		th_assert_ok(tc_admit(&world, 1, 0, 0, &slot));
		th_assert_ok(tc_use(&world, slot, &ticket));
	}
	th_assert_status(tc_use(&world, b, &ticket), PS_REFUSED);
	assert_non_null(strstr(bs_fail_text(), "16 clients"));
	th_assert_ok(tc_use(&world, slot, &ticket));
	th_assert_ok(tc_unuse(&world, slot, FIRST, 2));
	th_assert_ok(tc_use(&world, b, &ticket));
}

static void test_core_open_refused_opens_nothing(void **state)
{
	struct tc_ticket one;
	uint32_t slot, i;

	(void)state;
	th_assert_ok(tc_issue(&world, a, FIRST + 1, 1, &one));
	for (i = 0; i < PD_OPENERS; i++) {
		th_assert_ok(tc_admit(&world, 1, 0, 0, &slot));
		th_assert_ok(tc_use(&world, slot, &one));
	}
	th_assert_status(tc_use(&world, b, &ticket), PS_REFUSED);
	assert_int_equal(view_of(b).opened, 0);
}

/* ---- closing ---- */

static void test_core_close_of_what_is_not_open_is_a_mistake(void **state)
{
	const struct ip_list strange[] = {
		{ .count = 0 },
		{ .count = 1, .segment = { FIRST + 2 } },
		{ .count = 1, .segment = { 0 } },
		{ .count = 1, .segment = { UINT32_MAX } },
		{ .count = 2, .segment = { FIRST, FIRST } },
		{ .count = 2, .segment = { FIRST, FIRST + 3 } },
		{ .count = IP_LIST_MAX + 1 },
	};
	uint32_t i;

	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	for (i = 0; i < sizeof(strange) / sizeof(strange[0]); i++)
		th_assert_status(pd_core_close(world.core, b, &strange[i], 1),
				 PS_PROTOCOL);
	assert_int_equal(view_of(b).opened, 2 * TC_UNIT);
}

static void test_core_given_back_while_open_waits_for_the_close(void **state)
{
	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	give(a, FIRST, 2, false);
	assert_int_equal(state_of(FIRST), PD_SHARED);
	assert_int_equal(tc_first_scrub(&world), TC_NOBODY);
	assert_int_equal(totals().quarantined, 2 * TC_UNIT);
	th_assert_ok(tc_unuse(&world, b, FIRST, 1));
	assert_int_equal(tc_first_scrub(&world), FIRST);
	assert_int_equal(totals().quarantined, TC_UNIT);
}

static void test_core_shared_waits_for_the_last_to_close(void **state)
{
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 0, 0, &slot));
	th_assert_ok(tc_use(&world, b, &ticket));
	th_assert_ok(tc_use(&world, slot, &ticket));
	give(a, FIRST, 2, false);
	th_assert_ok(tc_unuse(&world, b, FIRST, 2));
	assert_int_equal(state_of(FIRST), PD_SHARED);
	th_assert_ok(tc_unuse(&world, slot, FIRST, 2));
	assert_int_equal(state_of(FIRST), PD_DIRTY);
}

static void test_core_recalled_while_open_waits_for_the_close(void **state)
{
	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	th_assert_ok(tc_recalled(&world, a, 4));
	assert_int_equal(state_of(FIRST), PD_SHARED);
	assert_int_equal(state_of(FIRST + 2), PD_DIRTY);
}

static void test_core_closed_in_time_is_scrubbed_when_given_back(void **state)
{
	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	th_assert_ok(tc_unuse(&world, b, FIRST, 2));
	give(a, FIRST, 2, false);
	assert_int_equal(state_of(FIRST), PD_DIRTY);
}

/* ---- what is charged to whom ---- */

static void test_core_shared_stays_charged_to_its_giver(void **state)
{
	struct tc_ticket its;
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 0, 4, &slot));
	have(slot, 4);
	th_assert_ok(tc_issue(&world, slot, FIRST + 4, 2, &its));
	th_assert_ok(tc_use(&world, b, &its));
	give(slot, FIRST + 4, 2, false);
	assert_int_equal(view_of(slot).leased, 2 * TC_UNIT);
	assert_int_equal(tc_take(&world, slot, 1, 0, 0), TC_DENY);
	th_assert_ok(tc_unuse(&world, b, FIRST + 4, 1));
	have(slot, 1);
}

/* Else a reservation could be had twice, at the cost of somebody's. */
static void test_core_shared_takes_nobodys_promise(void **state)
{
	struct tc_ticket its;
	uint32_t slot, other;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 8, 0, &slot));
	th_assert_ok(tc_admit(&world, 2, 8, 0, &other));
	have(slot, 8);
	th_assert_ok(tc_issue(&world, slot, FIRST + 4, 8, &its));
	th_assert_ok(tc_use(&world, b, &its));
	give(slot, FIRST + 4, 8, false);
	assert_int_equal(tc_take(&world, slot, 8, 0, 0), TC_DENY);
	have(other, 8);
}

static void test_core_shared_of_one_that_left_is_no_promise(void **state)
{
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	give(a, FIRST, 2, false);
	tc_reclaim(&world, a, true);
	tc_work(&world);
	assert_int_equal(totals().quarantined, 2 * TC_UNIT);
	th_assert_status(tc_admit(&world, 2, SEGMENTS - 1, 0, &slot),
			 PS_OUT_OF_MEMORY);
	th_assert_ok(tc_admit(&world, 2, SEGMENTS - 2, 0, &slot));
	th_assert_ok(tc_unuse(&world, b, FIRST, 2));
	tc_take(&world, slot, SEGMENTS, 1000, 0);
	tc_work(&world);
	assert_int_equal(world.client[slot].answer, TC_GRANT);
}

static void test_core_open_of_a_dead_owner_is_no_promise(void **state)
{
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	tc_dead(&world, a);
	th_assert_status(tc_admit(&world, 2, SEGMENTS - 1, 0, &slot),
			 PS_OUT_OF_MEMORY);
	th_assert_ok(tc_admit(&world, 2, SEGMENTS - 2, 0, &slot));
}

static void test_core_shared_counts_for_the_users_limit(void **state)
{
	(void)state;
	world.limits.users = 1;
	world.limits.user[0] =
		(struct pd_user_limit){ .uid = 1, .limit = 4 * TC_UNIT };
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
	th_assert_ok(tc_use(&world, b, &ticket));
	tc_reclaim(&world, a, true);
	tc_work(&world);
	assert_int_equal(tc_take(&world, b, 3, 0, 0), TC_DENY);
	have(b, 2);
}

/* ---- death ---- */

static void test_core_owner_dead_leaves_the_open_ones_shared(void **state)
{
	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	tc_dead(&world, a);
	tc_reclaim(&world, a, true);
	assert_int_equal(state_of(FIRST), PD_SHARED);
	assert_int_equal(state_of(FIRST + 2), PD_DIRTY);
	th_assert_ok(tc_unuse(&world, b, FIRST, 2));
	assert_int_equal(state_of(FIRST), PD_DIRTY);
}

static void test_core_owner_not_shown_safe_has_them_remade(void **state)
{
	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	tc_dead(&world, a);
	tc_reclaim(&world, a, false);
	assert_int_equal(state_of(FIRST), PD_SHARED);
	th_assert_ok(tc_unuse(&world, b, FIRST, 2));
	assert_int_equal(state_of(FIRST), PD_REMAKING);
}

static void test_core_opener_dead_has_it_open_until_its_fence(void **state)
{
	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	give(a, FIRST, 2, false);
	tc_dead(&world, b);
	assert_int_equal(state_of(FIRST), PD_SHARED);
	tc_reclaim(&world, b, true);
	assert_int_equal(state_of(FIRST), PD_DIRTY);
	assert_int_equal(state_of(FIRST + 1), PD_DIRTY);
}

static void test_core_opener_not_shown_safe_has_it_remade(void **state)
{
	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	give(a, FIRST, 1, false);
	tc_dead(&world, b);
	tc_reclaim(&world, b, false);
	assert_int_equal(state_of(FIRST), PD_REMAKING);
	assert_int_equal(state_of(FIRST + 1), PD_LEASED);
	give(a, FIRST + 1, 1, false);
	assert_int_equal(state_of(FIRST + 1), PD_REMAKING);
}

/* ---- exports ---- */

static void test_core_exported_is_remade_when_given_back(void **state)
{
	(void)state;
	th_assert_ok(tc_export(&world, a, FIRST));
	th_assert_ok(tc_export(&world, a, FIRST));
	give(a, FIRST, 2, false);
	assert_int_equal(state_of(FIRST), PD_REMAKING);
	assert_int_equal(state_of(FIRST + 1), PD_DIRTY);
	tc_work(&world);
	have(c, SEGMENTS - 4);
}

static void test_core_exported_stays_so_while_parked(void **state)
{
	(void)state;
	th_assert_ok(tc_export(&world, a, FIRST));
	give(a, FIRST, 1, true);
	have(a, 1);
	give(a, FIRST, 1, false);
	assert_int_equal(state_of(FIRST), PD_REMAKING);
}

static void test_core_exported_and_remade_is_as_new(void **state)
{
	(void)state;
	th_assert_ok(tc_export(&world, a, FIRST));
	give(a, FIRST, 1, false);
	tc_work(&world);
	have(a, SEGMENTS - 3);
	give(a, FIRST, 1, false);
	assert_int_equal(state_of(FIRST), PD_DIRTY);
}

static void test_core_export_of_what_is_not_leased_is_refused(void **state)
{
	(void)state;
	give(a, FIRST, 1, true);
	th_assert_status(tc_export(&world, a, FIRST), PS_PERMISSION);
	th_assert_status(tc_export(&world, a, FIRST + 4), PS_PERMISSION);
	th_assert_status(tc_export(&world, b, FIRST + 1), PS_PERMISSION);
	th_assert_status(tc_export(&world, a, 0), PS_PERMISSION);
	th_assert_status(pd_core_export(world.core, a, UINT32_MAX),
			 PS_PERMISSION);
}

/* ---- another agent ---- */

static void test_core_open_ones_are_adopted(void **state)
{
	uint32_t list[4];

	(void)state;
	th_assert_ok(tc_use(&world, b, &ticket));
	give(a, FIRST, 1, false);
	assert_true(tc_restart(&world));
	assert_int_equal(view_of(b).opened, 2 * TC_UNIT);
	assert_int_equal(pd_core_held(world.core, b, 0, list, 4), 2);
	assert_int_equal(list[0], FIRST | IP_SEGMENT_OPENED);
	assert_int_equal(pd_core_held(world.core, a, 0, list, 4), 3);
	assert_int_equal(list[0], FIRST + 1);
	th_assert_ok(tc_resume(&world, b));
	th_assert_ok(tc_unuse(&world, b, FIRST, 2));
	assert_int_equal(state_of(FIRST), PD_DIRTY);
}

static void test_core_ticket_is_good_after_a_restart(void **state)
{
	(void)state;
	assert_true(tc_restart(&world));
	th_assert_ok(tc_resume(&world, b));
	th_assert_ok(tc_use(&world, b, &ticket));
}

static void test_core_older_lease_is_told_after_a_restart(void **state)
{
	(void)state;
	give(a, FIRST, 4, false);
	tc_work(&world);
	assert_true(tc_restart(&world));
	th_assert_ok(tc_resume(&world, a));
	th_assert_ok(tc_resume(&world, b));
	have(a, SEGMENTS);
	expect_refused(b);
}

static void test_core_charge_is_adopted(void **state)
{
	struct tc_ticket its;
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 0, 4, &slot));
	have(slot, 4);
	th_assert_ok(tc_issue(&world, slot, FIRST + 4, 2, &its));
	th_assert_ok(tc_use(&world, b, &its));
	give(slot, FIRST + 4, 2, false);
	assert_true(tc_restart(&world));
	th_assert_ok(tc_resume(&world, slot));
	assert_int_equal(tc_take(&world, slot, 1, 0, 0), TC_DENY);
}

static void test_core_exported_is_adopted(void **state)
{
	(void)state;
	th_assert_ok(tc_export(&world, a, FIRST));
	assert_true(tc_restart(&world));
	th_assert_ok(tc_resume(&world, a));
	give(a, FIRST, 1, false);
	assert_int_equal(state_of(FIRST), PD_REMAKING);
}

static const struct th_test tests[] = {
#define TEST(name) TH_TEST_SETUP(name, set_up, tear_down)
	TEST(test_core_share_needs_an_attached_client),
	TEST(test_core_share_on_a_lost_gpu_says_so),
	TEST(test_core_open_of_the_same_user_is_granted),
	TEST(test_core_open_gives_runs_in_their_order),
	TEST(test_core_open_twice_is_open_once),
	TEST(test_core_open_of_ones_own_is_not_ours),
	TEST(test_core_open_by_another_user_is_refused),
	TEST(test_core_open_of_what_was_given_back_is_refused),
	TEST(test_core_open_of_what_is_parked_is_refused),
	TEST(test_core_open_of_an_older_lease_is_refused),
	TEST(test_core_open_of_the_next_owners_is_refused),
	TEST(test_core_open_of_a_dead_owner_is_refused),
	TEST(test_core_open_of_an_owner_away_is_granted),
	TEST(test_core_open_of_an_impossible_ticket_is_refused),
	TEST(test_core_open_by_too_many_is_refused),
	TEST(test_core_open_refused_opens_nothing),
	TEST(test_core_close_of_what_is_not_open_is_a_mistake),
	TEST(test_core_given_back_while_open_waits_for_the_close),
	TEST(test_core_shared_waits_for_the_last_to_close),
	TEST(test_core_recalled_while_open_waits_for_the_close),
	TEST(test_core_closed_in_time_is_scrubbed_when_given_back),
	TEST(test_core_shared_stays_charged_to_its_giver),
	TEST(test_core_shared_takes_nobodys_promise),
	TEST(test_core_shared_of_one_that_left_is_no_promise),
	TEST(test_core_open_of_a_dead_owner_is_no_promise),
	TEST(test_core_shared_counts_for_the_users_limit),
	TEST(test_core_owner_dead_leaves_the_open_ones_shared),
	TEST(test_core_owner_not_shown_safe_has_them_remade),
	TEST(test_core_opener_dead_has_it_open_until_its_fence),
	TEST(test_core_opener_not_shown_safe_has_it_remade),
	TEST(test_core_exported_is_remade_when_given_back),
	TEST(test_core_exported_stays_so_while_parked),
	TEST(test_core_exported_and_remade_is_as_new),
	TEST(test_core_export_of_what_is_not_leased_is_refused),
	TEST(test_core_open_ones_are_adopted),
	TEST(test_core_ticket_is_good_after_a_restart),
	TEST(test_core_older_lease_is_told_after_a_restart),
	TEST(test_core_charge_is_adopted),
	TEST(test_core_exported_is_adopted),
};

TH_MAIN("core_share", tests)
