/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Who waits, who may pass whom, and who is asked to give. */
#include "poold/core.h"

#include <string.h>

#include "base/status.h"
#include "tests/support/core_world.h"
#include "tests/support/harness.h"

#define SEGMENTS 40u
#define CLIENTS 40u

static struct tc_world world;
static uint32_t a, b, c, d; /* of one user */

static int set_up(void **state)
{
	(void)state;
	assert_true(tc_open(&world, 2, SEGMENTS, CLIENTS));
	th_assert_ok(tc_admit(&world, 1, 0, 0, &a));
	th_assert_ok(tc_admit(&world, 1, 0, 0, &b));
	th_assert_ok(tc_admit(&world, 1, 0, 0, &c));
	th_assert_ok(tc_admit(&world, 1, 0, 0, &d));
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

static void take(uint32_t slot, uint32_t count, uint32_t wait_ms)
{
	tc_take(&world, slot, count, wait_ms, 0);
}

static void expect(uint32_t slot, enum tc_answer answer)
{
	assert_int_equal(world.client[slot].answer, answer);
}

/* @slot has @leased and @parked more. */
static void have(uint32_t slot, uint32_t leased, uint32_t parked)
{
	take(slot, leased + parked, 0);
	expect(slot, TC_GRANT);
	if (parked > 0)
		th_assert_ok(tc_give_some(&world, slot, parked, false, true));
}

static void give(uint32_t slot, uint32_t count)
{
	th_assert_ok(tc_give_some(&world, slot, count, false, false));
	tc_work(&world);
}

static void expect_asked(uint32_t slot, uint32_t times, uint32_t count)
{
	assert_int_equal(world.client[slot].recalls, times);
	if (times > 0)
		assert_int_equal(world.client[slot].recall_count, count);
}

/* ---- order ---- */

static void test_core_queue_serves_the_oldest_first(void **state)
{
	(void)state;
	have(a, 40, 0);
	take(b, 3, 5000);
	take(c, 3, 5000);
	give(a, 3);
	expect(b, TC_GRANT);
	expect(c, TC_NONE);
	give(a, 3);
	expect(c, TC_GRANT);
}

static void test_core_queue_small_one_takes_nothing_from_a_large(void **state)
{
	(void)state;
	have(a, 40, 0);
	take(b, 10, 5000);
	give(a, 9);
	take(c, 1, 5000);
	expect(c, TC_NONE);
	give(a, 1);
	expect(b, TC_GRANT);
	expect(c, TC_NONE);
	give(a, 1);
	expect(c, TC_GRANT);
}

static void test_core_queue_small_one_passes_with_its_parked(void **state)
{
	(void)state;
	have(c, 0, 2);
	have(a, 38, 0);
	take(b, 10, 5000);
	take(c, 2, 5000);
	expect(c, TC_GRANT);
	expect(b, TC_NONE);
}

static void test_core_queue_small_one_passes_what_a_large_leaves(void **state)
{
	uint32_t other;

	(void)state;
	th_assert_ok(tc_admit(&world, 2, 0, 0, &other));
	/* What this one had is of no use to the others as it is. */
	have(other, 6, 0);
	have(a, 34, 0);
	give(other, 6);
	take(b, 4, 5000);
	expect(b, TC_NONE);
	take(other, 2, 5000);
	expect(other, TC_GRANT);
	tc_work(&world);
	expect(b, TC_GRANT);
}

static void test_core_queue_nobody_waits_longer_than_asked(void **state)
{
	uint32_t i;

	(void)state;
	have(a, 40, 0);
	take(b, 40, 3000);
	/* Others come and go all the time. */
	for (i = 0; i < 30; i++) {
		give(a, 1);
		take(a, 1, 0);
		tc_wait(&world, 100);
	}
	expect(b, TC_DENY);
}

/*
 * The bound: what is free while a large one waits goes to nobody who came
 * later, so it is served as soon as as much was given back as it lacks,
 * however many small ones ask all the time.
 */
static void test_core_queue_large_one_is_not_starved(void **state)
{
	uint32_t i;

	(void)state;
	have(a, 40, 0);
	take(b, 20, 60000);
	for (i = 0; i < 20; i++) {
		expect(b, TC_NONE);
		take(c, 1, 0);
		expect(c, TC_DENY);
		tc_take(&world, d, 5, 0, IP_TAKE_SOME);
		expect(d, TC_DENY);
		give(a, 1);
	}
	expect(b, TC_GRANT);
	assert_int_equal(tc_holds(&world, c), 0);
}

static void test_core_queue_promise_goes_before_the_queue(void **state)
{
	uint32_t promised;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 5, 0, &promised));
	have(a, 30, 0);
	take(b, 20, 5000);
	expect(b, TC_NONE);
	take(promised, 5, 0);
	expect(promised, TC_GRANT);
}

static void test_core_queue_who_gives_up_makes_way(void **state)
{
	(void)state;
	have(a, 38, 0);
	take(b, 10, 1000);
	take(c, 2, 5000);
	expect(c, TC_NONE);
	tc_wait(&world, 1000);
	expect(b, TC_DENY);
	expect(c, TC_GRANT);
}

static void test_core_queue_who_goes_away_makes_way(void **state)
{
	(void)state;
	have(a, 38, 0);
	take(b, 10, 1000);
	take(c, 2, 5000);
	pd_core_away(world.core, b, world.now_ms);
	expect(b, TC_NONE);
	expect(c, TC_GRANT);
}

static void test_core_queue_second_take_is_a_mistake(void **state)
{
	const struct ip_take second = { .seq = 9, .count = 1 };

	(void)state;
	have(a, 40, 0);
	take(b, 1, 5000);
	th_assert_status(pd_core_take(world.core, b, &second, world.now_ms),
			 PS_PROTOCOL);
	expect(b, TC_NONE);
}

static void test_core_queue_strange_takes_are_mistakes(void **state)
{
	const struct ip_take strange[] = {
		{ .seq = 1, .count = 0 },
		{ .seq = 1, .count = IP_SEGMENTS_MAX + 1 },
		{ .seq = 1, .count = 1, .wait_ms = IP_WAIT_MAX_MS + 1 },
		{ .seq = 1, .count = 1, .flags = 3 },
		{ .seq = 1, .count = 1, .flags = 4 },
	};
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(strange) / sizeof(strange[0]); i++)
		th_assert_status(pd_core_take(world.core, a, &strange[i], 1),
				 PS_PROTOCOL);
	th_assert_status(pd_core_take(world.core, 39, &strange[0], 1),
			 PS_PROTOCOL);
	th_assert_status(pd_core_take(world.core, CLIENTS, &strange[0], 1),
			 PS_PROTOCOL);
}

/* ---- asking others ---- */

static void test_core_recall_asks_who_has_most_parked(void **state)
{
	(void)state;
	have(a, 8, 4);
	have(b, 8, 20);
	take(c, 6, 5000);
	expect_asked(b, 1, 6);
	expect_asked(a, 0, 0);
	th_assert_ok(tc_recalled(&world, b, 6));
	tc_work(&world);
	expect(c, TC_GRANT);
}

static void test_core_recall_asks_several_where_one_is_not_enough(void **state)
{
	(void)state;
	have(a, 8, 12);
	have(b, 10, 10);
	take(c, 15, 5000);
	expect_asked(a, 1, 12);
	expect_asked(b, 1, 3);
	th_assert_ok(tc_recalled(&world, a, 12));
	th_assert_ok(tc_recalled(&world, b, 3));
	tc_work(&world);
	expect(c, TC_GRANT);
}

static void test_core_recall_asks_for_no_more_than_is_missing(void **state)
{
	(void)state;
	have(a, 0, 36);
	take(c, 6, 5000);
	expect_asked(a, 1, 2);
}

static void test_core_recall_cached_only_when_parked_is_too_little(void **state)
{
	(void)state;
	have(a, 10, 2);
	have(b, 28, 0);
	take(c, 6, 5000);
	expect_asked(a, 1, 2);
	expect_asked(b, 1, 4);
	th_assert_ok(tc_recalled(&world, a, 2));
	/* It may have more that is idle. */
	expect_asked(a, 2, 4);
	th_assert_ok(tc_recalled(&world, b, 4));
	tc_work(&world);
	expect(c, TC_GRANT);
}

static void test_core_recall_leaves_reservations_alone(void **state)
{
	uint32_t reserved;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 10, 0, &reserved));
	have(reserved, 0, 12);
	have(a, 0, 28);
	pd_core_away(world.core, a, world.now_ms);
	take(c, 6, 5000);
	expect_asked(reserved, 1, 2);
	th_assert_ok(tc_recalled(&world, reserved, 2));
	expect(c, TC_DENY);
	expect_asked(reserved, 1, 2);
}

static void test_core_recall_leaves_a_users_guarantee_alone(void **state)
{
	uint32_t other;

	(void)state;
	world.limits.users = 1;
	world.limits.user[0].uid = 2;
	world.limits.user[0].reservation = 10 * TC_UNIT;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
	th_assert_ok(tc_admit(&world, 2, 0, 0, &other));
	have(other, 0, 10);
	have(a, 30, 0);
	pd_core_away(world.core, a, world.now_ms);
	take(c, 6, 5000);
	expect_asked(other, 0, 0);
	expect(c, TC_DENY);
}

static void test_core_recall_for_a_users_limit_asks_his_only(void **state)
{
	uint32_t other;

	(void)state;
	world.limits.users = 1;
	world.limits.user[0].uid = 1;
	world.limits.user[0].limit = 20 * TC_UNIT;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
	th_assert_ok(tc_admit(&world, 2, 0, 0, &other));
	have(other, 0, 15);
	have(a, 0, 18);
	take(b, 4, 5000);
	expect_asked(other, 0, 0);
	expect_asked(a, 1, 2);
	th_assert_ok(tc_recalled(&world, a, 2));
	tc_work(&world);
	expect(b, TC_GRANT);
}

static void test_core_recall_not_when_the_daemons_work_suffices(void **state)
{
	(void)state;
	have(a, 10, 30);
	th_assert_ok(tc_give_some(&world, a, 5, false, false));
	take(b, 5, 5000);
	expect_asked(a, 0, 0);
	tc_work(&world);
	expect(b, TC_GRANT);
}

static void test_core_recall_not_without_waiting(void **state)
{
	(void)state;
	have(a, 0, 40);
	take(b, 5, 0);
	expect(b, TC_DENY);
	expect_asked(a, 0, 0);
}

static void test_core_recall_of_nothing_denies_at_once(void **state)
{
	(void)state;
	have(a, 40, 0);
	take(b, 5, 60000);
	expect(b, TC_NONE);
	th_assert_ok(tc_recalled(&world, a, 0));
	expect(b, TC_DENY);
	assert_int_equal(world.client[b].status, PS_OUT_OF_MEMORY);
}

static void test_core_recall_with_more_to_come_is_not_over(void **state)
{
	struct ip_list part = { .seq = 1, .flags = IP_LIST_MORE };

	(void)state;
	have(a, 40, 0);
	take(b, 5, 60000);
	th_assert_ok(pd_core_recalled(world.core, a, &part, world.now_ms));
	expect(b, TC_NONE);
	th_assert_ok(tc_recalled(&world, a, 5));
	tc_work(&world);
	expect(b, TC_GRANT);
}

static void test_core_recall_deadline_is_the_smaller_one(void **state)
{
	(void)state;
	have(a, 20, 0);
	have(b, 20, 0);
	take(c, 5, 300);
	assert_int_equal(world.client[a].recall_ms, 300);
	assert_int_equal(world.armed_ms, world.now_ms + 300);
	tc_wait(&world, 300);
	expect(c, TC_DENY);
	take(d, 5, 20000);
	assert_int_equal(world.client[a].recall_ms, 1000);
	assert_int_equal(world.armed_ms, world.now_ms + 1000);
}

static void test_core_recall_nobody_answers_is_denied(void **state)
{
	(void)state;
	have(a, 40, 0);
	take(b, 5, 20000);
	tc_wait(&world, 999);
	expect(b, TC_NONE);
	tc_wait(&world, 1);
	expect(b, TC_DENY);
	assert_int_equal(world.armed_ms, 0);
}

static void test_core_recall_late_answer_is_welcome(void **state)
{
	(void)state;
	have(a, 40, 0);
	take(b, 5, 1000);
	tc_wait(&world, 1000);
	expect(b, TC_DENY);
	th_assert_ok(tc_recalled(&world, a, 5));
	tc_work(&world);
	take(b, 5, 0);
	expect(b, TC_GRANT);
}

static void test_core_recall_stuck_client_delays_by_its_slice(void **state)
{
	(void)state;
	have(a, 10, 6);
	have(b, 20, 4);
	take(c, 6, 5000);
	expect_asked(a, 1, 6);
	expect_asked(b, 0, 0);
	tc_wait(&world, 1000);
	expect_asked(b, 1, 4);
}

static void test_core_recall_client_is_asked_once_for_one_request(void **state)
{
	uint32_t i;

	(void)state;
	have(a, 40, 0);
	take(b, 5, 60000);
	take(c, 5, 60000);
	/* It is asked for one request after the other. */
	expect_asked(a, 1, 5);
	for (i = 0; i < 4; i++)
		th_assert_ok(tc_recalled(&world, a, 0));
	assert_int_equal(world.client[a].recalls, 2);
	expect(b, TC_DENY);
	expect(c, TC_DENY);
}

static void test_core_recall_few_are_asked_at_once_for_cached(void **state)
{
	uint32_t slot, i, asked = 0;

	(void)state;
	for (i = 0; i < 20; i++) {
		th_assert_ok(tc_admit(&world, 1, 0, 0, &slot));
		have(slot, 2, 0);
	}
	take(a, 1, 5000);
	for (slot = 0; slot < CLIENTS; slot++)
		asked += world.client[slot].recalls;
	assert_int_equal(asked, 8);
}

static void test_core_recall_who_goes_has_answered(void **state)
{
	(void)state;
	have(a, 40, 0);
	take(b, 5, 60000);
	pd_core_away(world.core, a, world.now_ms);
	expect(b, TC_DENY);
}

static void test_core_recall_goes_on_with_who_comes_back(void **state)
{
	(void)state;
	have(a, 20, 0);
	have(b, 20, 0);
	pd_core_away(world.core, a, world.now_ms);
	take(c, 5, 60000);
	expect_asked(a, 0, 0);
	th_assert_ok(tc_resume(&world, a));
	expect_asked(a, 1, 5);
}

static void test_core_dead_ones_memory_is_waited_for(void **state)
{
	(void)state;
	have(a, 40, 0);
	tc_dead(&world, a);
	take(b, 5, 5000);
	expect(b, TC_NONE);
	tc_reclaim(&world, a, true);
	tc_work(&world);
	expect(b, TC_GRANT);
}

static void test_core_resting_memory_is_waited_for(void **state)
{
	(void)state;
	have(a, 40, 0);
	tc_dead(&world, a);
	tc_reclaim(&world, a, false);
	while (tc_first_remake(&world) != TC_NOBODY)
		tc_remade(&world, tc_first_remake(&world), PS_BUSY);
	take(b, 5, 5000);
	expect(b, TC_NONE);
	tc_wait(&world, PD_REMAKE_REST_MS);
	tc_work(&world);
	expect(b, TC_GRANT);
}

static void test_core_dead_ones_memory_that_stays_is_denied(void **state)
{
	(void)state;
	have(a, 40, 0);
	tc_dead(&world, a);
	take(b, 5, 5000);
	tc_wait(&world, 5000);
	expect(b, TC_DENY);
	assert_non_null(strstr(world.client[b].text, "quarantined 83886080"));
}

static void test_core_clock_that_goes_back_is_ignored(void **state)
{
	(void)state;
	have(a, 40, 0);
	take(b, 5, 500);
	pd_core_tick(world.core, 0);
	expect(b, TC_NONE);
	assert_int_equal(world.armed_ms, world.now_ms + 500);
	tc_wait(&world, 500);
	expect(b, TC_DENY);
}

static const struct th_test tests[] = {
#define TEST(name) TH_TEST_SETUP(name, set_up, tear_down)
	TEST(test_core_queue_serves_the_oldest_first),
	TEST(test_core_queue_small_one_takes_nothing_from_a_large),
	TEST(test_core_queue_small_one_passes_with_its_parked),
	TEST(test_core_queue_small_one_passes_what_a_large_leaves),
	TEST(test_core_queue_nobody_waits_longer_than_asked),
	TEST(test_core_queue_large_one_is_not_starved),
	TEST(test_core_queue_promise_goes_before_the_queue),
	TEST(test_core_queue_who_gives_up_makes_way),
	TEST(test_core_queue_who_goes_away_makes_way),
	TEST(test_core_queue_second_take_is_a_mistake),
	TEST(test_core_queue_strange_takes_are_mistakes),
	TEST(test_core_recall_asks_who_has_most_parked),
	TEST(test_core_recall_asks_several_where_one_is_not_enough),
	TEST(test_core_recall_asks_for_no_more_than_is_missing),
	TEST(test_core_recall_cached_only_when_parked_is_too_little),
	TEST(test_core_recall_leaves_reservations_alone),
	TEST(test_core_recall_leaves_a_users_guarantee_alone),
	TEST(test_core_recall_for_a_users_limit_asks_his_only),
	TEST(test_core_recall_not_when_the_daemons_work_suffices),
	TEST(test_core_recall_not_without_waiting),
	TEST(test_core_recall_of_nothing_denies_at_once),
	TEST(test_core_recall_with_more_to_come_is_not_over),
	TEST(test_core_recall_deadline_is_the_smaller_one),
	TEST(test_core_recall_nobody_answers_is_denied),
	TEST(test_core_recall_late_answer_is_welcome),
	TEST(test_core_recall_stuck_client_delays_by_its_slice),
	TEST(test_core_recall_client_is_asked_once_for_one_request),
	TEST(test_core_recall_few_are_asked_at_once_for_cached),
	TEST(test_core_recall_who_goes_has_answered),
	TEST(test_core_recall_goes_on_with_who_comes_back),
	TEST(test_core_dead_ones_memory_is_waited_for),
	TEST(test_core_resting_memory_is_waited_for),
	TEST(test_core_dead_ones_memory_that_stays_is_denied),
	TEST(test_core_clock_that_goes_back_is_ignored),
};

TH_MAIN("core_queue", tests)
