/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Room for memory that the pool cannot hold: what is destroyed for whom, what
 * it counts as, and how it comes back. */
#include "poold/core.h"

#include <string.h>

#include "base/status.h"
#include "tests/support/core_world.h"
#include "tests/support/harness.h"

#define PARAMETER 3u
#define SEGMENTS 20u
#define CLIENTS 6u

static struct tc_world world;
static uint32_t a, b, c; /* of users 1, 1 and 2 */

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

static void expect(uint32_t slot, enum tc_answer answer)
{
	assert_int_equal(world.client[slot].answer, answer);
}

static void have(uint32_t slot, uint32_t count)
{
	assert_int_equal(tc_take(&world, slot, count, 0, 0), TC_GRANT);
}

static void ask(uint32_t slot, uint32_t count, uint32_t wait_ms)
{
	tc_take(&world, slot, count, wait_ms, IP_TAKE_OUTSIDE);
}

static void have_room(uint32_t slot, uint32_t count)
{
	ask(slot, count, 0);
	tc_work(&world);
	expect(slot, TC_ROOM);
	assert_int_equal(tc_outside(&world, slot), count);
}

static enum pd_segment_state state_of(uint32_t n)
{
	return pd_journal_segment(world.journal, n).state;
}

/* ---- granting ---- */

static void test_core_outside_is_granted_when_all_is_destroyed(void **state)
{
	(void)state;
	ask(a, 2, 0);
	expect(a, TC_NONE);
	tc_vacated(&world, tc_first_vacate(&world), PS_OK);
	expect(a, TC_NONE);
	tc_vacated(&world, tc_first_vacate(&world), PS_OK);
	expect(a, TC_ROOM);
	assert_int_equal(world.client[a].count, 2);
	assert_int_equal(world.client[a].segment[0], PARAMETER);
	assert_int_equal(world.client[a].segment[1], PARAMETER + 1);
}

static void test_core_outside_is_all_or_none(void **state)
{
	(void)state;
	have(b, SEGMENTS - 2);
	ask(a, 3, 0);
	expect(a, TC_DENY);
	assert_int_equal(tc_first_vacate(&world), TC_NOBODY);
	have_room(a, 2);
}

static void test_core_outside_counts_as_leased(void **state)
{
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 0, 5, &slot));
	have_room(slot, 3);
	assert_int_equal(totals().outside, 3 * TC_UNIT);
	assert_int_equal(totals().leased, 0);
	assert_int_equal(view_of(slot).outside, 3 * TC_UNIT);
	tc_take(&world, slot, 3, 0, 0);
	expect(slot, TC_DENY);
	assert_non_null(strstr(world.client[slot].text, "outside 6291456"));
	have(slot, 2);
}

static void test_core_outside_above_the_limit_is_denied(void **state)
{
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 0, 5, &slot));
	have(slot, 3);
	ask(slot, 3, 1000);
	expect(slot, TC_DENY);
	assert_non_null(strstr(world.client[slot].text, "limit"));
	have_room(slot, 2);
}

static void test_core_outside_counts_against_the_reservation(void **state)
{
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 8, 0, &slot));
	have_room(slot, 5);
	have(a, SEGMENTS - 8);
	tc_take(&world, slot, 4, 0, 0);
	expect(slot, TC_DENY);
	have(slot, 3);
}

static void test_core_outside_leaves_what_was_promised(void **state)
{
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_admit(&world, 2, SEGMENTS - 2, 0, &slot));
	ask(a, 3, 0);
	expect(a, TC_DENY);
	have_room(a, 2);
	have(slot, SEGMENTS - 2);
}

/* It is destroyed anyway; remaking it for its next user would be in vain. */
static void test_core_outside_takes_first_what_others_had(void **state)
{
	uint32_t i;

	(void)state;
	have(a, 4);
	have(c, 4);
	th_assert_ok(tc_give_some(&world, a, 4, false, false));
	th_assert_ok(tc_give_some(&world, c, 4, false, false));
	tc_work(&world);
	have_room(a, 4);
	for (i = 0; i < 4; i++)
		assert_int_equal(world.client[a].segment[i], PARAMETER + 4 + i);
	assert_int_equal(totals().remakes, 0);
}

static void test_core_outside_leaves_the_clients_parked_ones(void **state)
{
	(void)state;
	have(a, SEGMENTS);
	th_assert_ok(tc_give_some(&world, a, 4, false, true));
	ask(a, 1, 0);
	expect(a, TC_DENY);
	assert_int_equal(totals().parked, 4 * TC_UNIT);
}

static void test_core_outside_waits_for_what_is_scrubbed(void **state)
{
	(void)state;
	have(b, SEGMENTS);
	th_assert_ok(tc_give_some(&world, b, 2, false, false));
	ask(a, 2, 1000);
	assert_int_equal(tc_first_vacate(&world), TC_NOBODY);
	tc_work(&world);
	expect(a, TC_ROOM);
}

static void test_core_outside_asks_others_for_theirs(void **state)
{
	(void)state;
	have(b, SEGMENTS);
	th_assert_ok(tc_give_some(&world, b, 5, false, true));
	ask(a, 2, 1000);
	assert_int_equal(world.client[b].recalls, 1);
	assert_int_equal(world.client[b].recall_count, 2);
	th_assert_ok(tc_recalled(&world, b, 2));
	tc_work(&world);
	expect(a, TC_ROOM);
}

static void test_core_outside_keeps_nobody_behind_it_waiting(void **state)
{
	(void)state;
	ask(a, 5, 0);
	expect(a, TC_NONE);
	have(b, SEGMENTS - 5);
	tc_work(&world);
	expect(a, TC_ROOM);
}

static void test_core_outside_is_refused_in_a_drain(void **state)
{
	(void)state;
	pd_core_drain(world.core);
	ask(a, 1, 1000);
	expect(a, TC_DENY);
	assert_int_equal(world.client[a].status, PS_REFUSED);
}

/* ---- when it cannot be destroyed ---- */

static void test_core_outside_in_use_is_replaced(void **state)
{
	(void)state;
	ask(a, 2, 0);
	tc_vacated(&world, PARAMETER, PS_AGAIN);
	assert_int_equal(tc_first_remake(&world), PARAMETER);
	tc_vacated(&world, PARAMETER + 1, PS_OK);
	expect(a, TC_NONE);
	tc_vacated(&world, tc_first_vacate(&world), PS_OK);
	expect(a, TC_ROOM);
	assert_int_equal(world.client[a].segment[0], PARAMETER + 1);
	assert_int_equal(world.client[a].segment[1], PARAMETER + 2);
}

static void test_core_outside_in_use_and_the_last_is_waited_for(void **state)
{
	(void)state;
	have(b, SEGMENTS - 1);
	ask(a, 1, 5000);
	tc_vacated(&world, PARAMETER + SEGMENTS - 1, PS_AGAIN);
	assert_int_equal(tc_first_vacate(&world), TC_NOBODY);
	tc_remade(&world, PARAMETER + SEGMENTS - 1, PS_AGAIN);
	tc_wait(&world, PD_REMAKE_REST_MS);
	tc_remade(&world, PARAMETER + SEGMENTS - 1, PS_OK);
	tc_vacated(&world, PARAMETER + SEGMENTS - 1, PS_OK);
	expect(a, TC_ROOM);
}

/* What it has already goes to who waits behind it. */
static void test_core_outside_that_gives_up_leaves_all_to_others(void **state)
{
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 0, 0, &slot));
	have(b, SEGMENTS - 2);
	ask(a, 2, 300);
	tc_take(&world, slot, 2, 5000, 0);
	tc_vacated(&world, PARAMETER + SEGMENTS - 1, PS_AGAIN);
	tc_vacated(&world, PARAMETER + SEGMENTS - 2, PS_OK);
	expect(a, TC_NONE);
	tc_wait(&world, 1000);
	expect(a, TC_DENY);
	tc_work(&world);
	expect(slot, TC_GRANT);
}

static void limit_user(uint32_t uid, uint64_t limit, uint64_t of_each)
{
	world.limits.users = 1;
	world.limits.user[0] =
		(struct pd_user_limit){ .uid = uid, .limit = limit * TC_UNIT };
	world.limits.client_limit = of_each * TC_UNIT;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
}

/* Who was promised memory is looked at first, and again when another has given
 * up what kept the user at his limit. */
static void test_core_outside_given_up_serves_the_promised(void **state)
{
	uint32_t slot, i;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 3, 0, &slot));
	have(b, 2);
	have(c, 1);
	ask(a, 4, 5000);
	limit_user(1, 6, 0);
	tc_dead(&world, b);
	tc_dead(&world, c);
	tc_reclaim(&world, c, false);
	tc_remade(&world, tc_first_remake(&world), PS_AGAIN);
	tc_take(&world, slot, 3, 5000, 0);
	for (i = 0; i < 4; i++)
		tc_vacated(&world, tc_first_vacate(&world),
			   i < 2 ? PS_OK : PS_AGAIN);
	expect(a, TC_NONE);
	expect(slot, TC_NONE);
	limit_user(1, 6, 3);
	expect(a, TC_DENY);
	expect(slot, TC_GRANT);
}

static void test_core_outside_that_is_late_is_denied(void **state)
{
	(void)state;
	ask(a, 2, 3000);
	tc_vacated(&world, tc_first_vacate(&world), PS_OK);
	tc_wait(&world, 2999);
	expect(a, TC_NONE);
	tc_wait(&world, 1);
	expect(a, TC_DENY);
	assert_int_equal(world.client[a].status, PS_OUT_OF_MEMORY);
	tc_work(&world);
	assert_int_equal(totals().clean, SEGMENTS * TC_UNIT);
}

/* Who would not wait still waits for what was begun for him. */
static void test_core_outside_at_once_has_time_to_be_destroyed(void **state)
{
	(void)state;
	ask(a, 2, 0);
	tc_wait(&world, 500);
	expect(a, TC_NONE);
	tc_work(&world);
	expect(a, TC_ROOM);
}

static void test_core_outside_of_a_lost_gpu_is_denied(void **state)
{
	(void)state;
	ask(a, 2, 5000);
	tc_vacated(&world, tc_first_vacate(&world), PS_DEVICE_LOST);
	expect(a, TC_DENY);
	assert_int_equal(world.client[a].status, PS_DEVICE_LOST);
	tc_vacated(&world, tc_first_vacate(&world), PS_OK);
	assert_int_equal(tc_first_remake(&world), TC_NOBODY);
}

static void test_core_vacated_unasked_changes_nothing(void **state)
{
	(void)state;
	have(a, 1);
	pd_core_vacated(world.core, PARAMETER, PS_OK, world.now_ms);
	pd_core_vacated(world.core, PARAMETER + 1, PS_OK, world.now_ms);
	pd_core_vacated(world.core, 0, PS_OK, world.now_ms);
	pd_core_vacated(world.core, UINT32_MAX, PS_OK, world.now_ms);
	assert_int_equal(totals().leased, TC_UNIT);
	assert_int_equal(totals().clean, (SEGMENTS - 1) * TC_UNIT);
}

/* ---- coming back ---- */

static void test_core_outside_given_back_is_remade(void **state)
{
	(void)state;
	have_room(a, 3);
	th_assert_ok(tc_give_room(&world, a, 2));
	assert_int_equal(totals().outside, TC_UNIT);
	assert_int_equal(totals().remaking, 2 * TC_UNIT);
	tc_work(&world);
	have(c, SEGMENTS - 1);
}

static void test_core_outside_cannot_be_parked(void **state)
{
	struct ip_list list = { .flags = IP_LIST_PARKED,
				.count = 1,
				.segment = { PARAMETER } };

	(void)state;
	have_room(a, 1);
	th_assert_status(pd_core_give(world.core, a, &list, world.now_ms),
			 PS_PROTOCOL);
	assert_int_equal(state_of(PARAMETER), PD_OUTSIDE);
}

static void test_core_outside_is_no_answer_to_a_recall(void **state)
{
	struct ip_list list = { .count = 1, .segment = { PARAMETER } };

	(void)state;
	have_room(a, 1);
	th_assert_status(pd_core_recalled(world.core, a, &list, world.now_ms),
			 PS_PROTOCOL);
}

static void test_core_outside_of_another_cannot_be_given(void **state)
{
	struct ip_list list = { .count = 1, .segment = { PARAMETER } };

	(void)state;
	have_room(a, 1);
	th_assert_status(pd_core_give(world.core, b, &list, world.now_ms),
			 PS_PROTOCOL);
}

static void test_core_outside_cannot_be_given_before_it_is_told(void **state)
{
	struct ip_list list = { .count = 1, .segment = { PARAMETER } };

	(void)state;
	ask(a, 1, 0);
	assert_int_equal(pd_core_held(world.core, a, 0, list.segment, 1), 0);
	list.segment[0] = PARAMETER;
	th_assert_status(pd_core_give(world.core, a, &list, world.now_ms),
			 PS_PROTOCOL);
	tc_work(&world);
	expect(a, TC_ROOM);
}

static void test_core_outside_gets_no_descriptor(void **state)
{
	const struct ip_need need = { .seq = 1,
				      .first = PARAMETER,
				      .count = 1 };
	bool write;

	(void)state;
	have_room(a, 1);
	th_assert_status(pd_core_need(world.core, a, &need, &write),
			 PS_PERMISSION);
}

static void test_core_outside_of_a_dead_client_waits_for_its_fence(void **state)
{
	(void)state;
	have_room(a, 3);
	tc_dead(&world, a);
	assert_int_equal(totals().outside, 0);
	assert_int_equal(totals().quarantined, 3 * TC_UNIT);
	assert_int_equal(tc_first_remake(&world), TC_NOBODY);
	tc_reclaim(&world, a, true);
	assert_int_equal(totals().remaking, 3 * TC_UNIT);
	tc_work(&world);
	assert_int_equal(totals().clean, SEGMENTS * TC_UNIT);
}

/* The GPU's thread is still at it: remaking comes after. */
static void test_core_outside_dropped_is_remade_when_it_is_done(void **state)
{
	uint32_t n;

	(void)state;
	ask(a, 1, 5000);
	n = tc_first_vacate(&world);
	pd_core_away(world.core, a, world.now_ms);
	assert_int_equal(state_of(n), PD_REMAKING);
	assert_int_equal(tc_first_remake(&world), TC_NOBODY);
	pd_core_remade(world.core, n, PS_OK, world.now_ms);
	assert_int_equal(state_of(n), PD_REMAKING);
	tc_vacated(&world, n, PS_AGAIN);
	assert_int_equal(tc_first_remake(&world), n);
}

/* ---- another agent ---- */

static void test_core_outside_is_adopted(void **state)
{
	uint32_t list[4];

	(void)state;
	have_room(a, 2);
	assert_true(tc_restart(&world));
	assert_int_equal(totals().outside, 2 * TC_UNIT);
	assert_int_equal(tc_first_vacate(&world), TC_NOBODY);
	assert_int_equal(pd_core_held(world.core, a, 0, list, 4), 2);
	assert_int_equal(list[0], PARAMETER | IP_SEGMENT_OUTSIDE);
	th_assert_ok(tc_resume(&world, a));
	th_assert_ok(tc_give_room(&world, a, 2));
}

/* Its client never heard of it, is told, and gives it back. */
static void test_core_outside_half_made_is_adopted_as_its_clients(void **state)
{
	(void)state;
	ask(a, 2, 0);
	tc_vacated(&world, tc_first_vacate(&world), PS_OK);
	assert_true(tc_restart(&world));
	assert_true(tc_agrees(&world, a));
	assert_int_equal(tc_outside(&world, a), 2);
	th_assert_ok(tc_resume(&world, a));
	th_assert_ok(tc_give_room(&world, a, 2));
	tc_work(&world);
	assert_int_equal(totals().clean, SEGMENTS * TC_UNIT);
}

static const struct th_test tests[] = {
#define TEST(name) TH_TEST_SETUP(name, set_up, tear_down)
	TEST(test_core_outside_is_granted_when_all_is_destroyed),
	TEST(test_core_outside_is_all_or_none),
	TEST(test_core_outside_counts_as_leased),
	TEST(test_core_outside_above_the_limit_is_denied),
	TEST(test_core_outside_counts_against_the_reservation),
	TEST(test_core_outside_leaves_what_was_promised),
	TEST(test_core_outside_takes_first_what_others_had),
	TEST(test_core_outside_leaves_the_clients_parked_ones),
	TEST(test_core_outside_waits_for_what_is_scrubbed),
	TEST(test_core_outside_asks_others_for_theirs),
	TEST(test_core_outside_keeps_nobody_behind_it_waiting),
	TEST(test_core_outside_is_refused_in_a_drain),
	TEST(test_core_outside_in_use_is_replaced),
	TEST(test_core_outside_in_use_and_the_last_is_waited_for),
	TEST(test_core_outside_that_gives_up_leaves_all_to_others),
	TEST(test_core_outside_given_up_serves_the_promised),
	TEST(test_core_outside_that_is_late_is_denied),
	TEST(test_core_outside_at_once_has_time_to_be_destroyed),
	TEST(test_core_outside_of_a_lost_gpu_is_denied),
	TEST(test_core_vacated_unasked_changes_nothing),
	TEST(test_core_outside_given_back_is_remade),
	TEST(test_core_outside_cannot_be_parked),
	TEST(test_core_outside_is_no_answer_to_a_recall),
	TEST(test_core_outside_of_another_cannot_be_given),
	TEST(test_core_outside_cannot_be_given_before_it_is_told),
	TEST(test_core_outside_gets_no_descriptor),
	TEST(test_core_outside_of_a_dead_client_waits_for_its_fence),
	TEST(test_core_outside_dropped_is_remade_when_it_is_done),
	TEST(test_core_outside_is_adopted),
	TEST(test_core_outside_half_made_is_adopted_as_its_clients),
};

TH_MAIN("core_outside", tests)
