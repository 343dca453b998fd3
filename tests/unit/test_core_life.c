/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Clients that come, resume, go and die; what they may say of which segment;
 * draining; the loss of the GPU. */
#include "poold/core.h"

#include <string.h>

#include "base/status.h"
#include "tests/support/core_world.h"
#include "tests/support/harness.h"

#define PARAMETER 3u
#define SEGMENTS 20u
#define CLIENTS 4u

static struct tc_world world;
static uint32_t a, b; /* of users 1 and 2 */

static int set_up(void **state)
{
	(void)state;
	assert_true(tc_open(&world, PARAMETER, SEGMENTS, CLIENTS));
	th_assert_ok(tc_admit(&world, 1, 0, 0, &a));
	th_assert_ok(tc_admit(&world, 2, 0, 0, &b));
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

static void have(uint32_t slot, uint32_t count)
{
	tc_take(&world, slot, count, 0, 0);
	assert_int_equal(world.client[slot].answer, TC_GRANT);
}

static struct pd_client_view view_of(uint32_t slot)
{
	struct pd_client_view view;

	assert_true(pd_core_client(world.core, slot, &view));
	return view;
}

static struct pd_totals totals(void)
{
	struct pd_totals totals;

	pd_core_totals(world.core, &totals);
	return totals;
}

/* ---- away and back ---- */

static void test_core_away_keeps_its_segments(void **state)
{
	(void)state;
	have(a, 5);
	pd_core_away(world.core, a, world.now_ms);
	assert_int_equal(view_of(a).presence, PD_AWAY);
	assert_int_equal(view_of(a).leased, 5 * TC_UNIT);
	th_assert_ok(tc_resume(&world, a));
	assert_int_equal(view_of(a).presence, PD_HERE);
}

static void test_core_away_may_send_nothing(void **state)
{
	const struct ip_take take = { .seq = 9, .count = 1 };
	const struct ip_need need = { .seq = 9, .first = 0, .count = 1 };
	const uint32_t list[] = { 3 };
	bool write;

	(void)state;
	have(a, 1);
	pd_core_away(world.core, a, world.now_ms);
	th_assert_status(pd_core_take(world.core, a, &take, 1), PS_PROTOCOL);
	th_assert_status(pd_core_need(world.core, a, &need, &write),
			 PS_PROTOCOL);
	th_assert_status(tc_give(&world, a, list, 1, true), PS_PROTOCOL);
	th_assert_status(tc_recalled(&world, a, 0), PS_PROTOCOL);
}

static void expect_no_resume(uint64_t id, uint8_t change, char *text)
{
	struct pd_client_record granted;
	uint8_t token[IP_TOKEN_BYTES];
	uint32_t slot;

	memcpy(token, world.client[a].token, sizeof(token));
	token[IP_TOKEN_BYTES - 1] ^= change;
	th_assert_status(pd_core_resume(world.core, id, token, &slot, &granted),
			 PS_REFUSED);
	strcpy(text, bs_fail_text());
}

static void test_core_resume_tells_nothing_of_the_token(void **state)
{
	char id_text[512], token_text[512];

	(void)state;
	pd_core_away(world.core, a, world.now_ms);
	expect_no_resume(world.client[a].id + 77, 0, id_text);
	expect_no_resume(world.client[a].id, 1, token_text);
	assert_string_equal(id_text, token_text);
}

static void test_core_resume_of_one_here_is_refused(void **state)
{
	char text[512];

	(void)state;
	expect_no_resume(world.client[a].id, 0, text);
	assert_non_null(strstr(text, "connected already"));
}

static void test_core_resume_of_a_dead_one_is_refused(void **state)
{
	char text[512];

	(void)state;
	tc_dead(&world, a);
	expect_no_resume(world.client[a].id, 0, text);
	assert_non_null(strstr(text, "has ended"));
}

static void test_core_resume_of_one_that_left_is_refused(void **state)
{
	char text[512];

	(void)state;
	tc_reclaim(&world, a, true);
	expect_no_resume(world.client[a].id, 0, text);
	/* Nor by the number that a free place has. */
	memset(world.client[a].token, 0, IP_TOKEN_BYTES);
	expect_no_resume(0, 0, text);
}

static void test_core_held_lists_from_any_number_on(void **state)
{
	const uint32_t parked[] = { 4 };
	uint32_t list[8];

	(void)state;
	have(a, 4);
	th_assert_ok(tc_give(&world, a, parked, 1, true));
	assert_int_equal(pd_core_held(world.core, a, 0, list, 2), 4);
	assert_int_equal(list[0], 3);
	assert_int_equal(list[1], 4 | IP_SEGMENT_PARKED);
	assert_int_equal(pd_core_held(world.core, a, 5, list, 8), 2);
	assert_int_equal(list[0], 5);
	assert_int_equal(pd_core_held(world.core, a, 7, list, 8), 0);
}

/* ---- death ---- */

static void test_core_dead_is_quarantined_until_its_fence(void **state)
{
	(void)state;
	have(a, 5);
	th_assert_ok(tc_give_some(&world, a, 2, false, true));
	tc_dead(&world, a);
	assert_int_equal(totals().quarantined, 5 * TC_UNIT);
	assert_int_equal(totals().leased + totals().parked, 0);
	assert_int_equal(tc_first_scrub(&world), TC_NOBODY);
	tc_reclaim(&world, a, true);
	assert_int_equal(totals().quarantined, 0);
	assert_int_equal(totals().dirty, 5 * TC_UNIT);
	assert_int_equal(totals().reclaims, 1);
}

static void test_core_dead_not_shown_safe_is_remade(void **state)
{
	(void)state;
	have(a, 5);
	tc_dead(&world, a);
	tc_reclaim(&world, a, false);
	assert_int_equal(totals().remaking, 5 * TC_UNIT);
	assert_int_equal(tc_first_scrub(&world), TC_NOBODY);
	tc_work(&world);
	have(b, SEGMENTS);
}

static void test_core_dead_twice_is_dead_once(void **state)
{
	(void)state;
	have(a, 5);
	tc_dead(&world, a);
	tc_dead(&world, a);
	pd_core_away(world.core, a, world.now_ms);
	assert_int_equal(view_of(a).presence, PD_DEAD);
	assert_int_equal(totals().quarantined, 5 * TC_UNIT);
}

static void test_core_dead_while_away_is_quarantined(void **state)
{
	(void)state;
	have(a, 5);
	pd_core_away(world.core, a, world.now_ms);
	tc_dead(&world, a);
	assert_int_equal(totals().quarantined, 5 * TC_UNIT);
}

static void test_core_dead_while_waiting_is_not_answered(void **state)
{
	(void)state;
	have(b, SEGMENTS);
	tc_take(&world, a, 1, 5000, 0);
	tc_dead(&world, a);
	th_assert_ok(tc_recalled(&world, b, 1));
	tc_work(&world);
	tc_wait(&world, 5000);
	assert_int_equal(world.client[a].answers, 0);
	assert_int_equal(world.armed_ms, 0);
}

static void test_core_leave_gives_all_back_and_frees_the_place(void **state)
{
	struct pd_client_view view;

	(void)state;
	have(a, 5);
	tc_reclaim(&world, a, true);
	assert_false(pd_core_client(world.core, a, &view));
	assert_int_equal(totals().clients, 1);
	assert_int_equal(totals().dirty, 5 * TC_UNIT);
	assert_int_equal(totals().reclaims, 0);
	tc_reclaim(&world, a, true);
	tc_reclaim(&world, CLIENTS, true);
}

static void test_core_views_of_no_client_are_none(void **state)
{
	struct pd_client_view view;

	(void)state;
	assert_false(pd_core_client(world.core, CLIENTS - 1, &view));
	assert_false(pd_core_client(world.core, UINT32_MAX, &view));
	pd_core_away(world.core, UINT32_MAX, world.now_ms);
	tc_reclaim(&world, UINT32_MAX, true);
	pd_core_dead(world.core, UINT32_MAX, world.now_ms);
}

/* ---- what may be given ---- */

static void expect_refused_give(const uint32_t *segments, uint32_t count)
{
	struct ip_list list = { .seq = 1, .count = count };
	struct pd_totals before = totals(), after;

	memcpy(list.segment, segments, count * sizeof(*segments));
	th_assert_status(pd_core_give(world.core, a, &list, world.now_ms),
			 PS_PROTOCOL);
	th_assert_status(pd_core_recalled(world.core, a, &list, world.now_ms),
			 PS_PROTOCOL);
	list.flags = IP_LIST_PARKED;
	th_assert_status(pd_core_give(world.core, a, &list, world.now_ms),
			 PS_PROTOCOL);
	after = totals();
	assert_int_equal(after.leased, before.leased);
	assert_int_equal(after.parked, before.parked);
	assert_int_equal(after.dirty, before.dirty);
	assert_int_equal(after.clean, before.clean);
}

static void test_core_give_of_anothers_segment_is_a_mistake(void **state)
{
	const uint32_t list[] = { 3, 5 };

	(void)state;
	have(a, 2);
	have(b, 2);
	expect_refused_give(list, 2);
}

static void test_core_give_of_a_free_segment_is_a_mistake(void **state)
{
	const uint32_t list[] = { 3, 9 };

	(void)state;
	have(a, 2);
	expect_refused_give(list, 2);
}

static void test_core_give_twice_is_a_mistake(void **state)
{
	const uint32_t list[] = { 3, 4 };

	(void)state;
	have(a, 2);
	th_assert_ok(tc_give(&world, a, list, 2, false));
	expect_refused_give(list, 1);
	tc_work(&world);
	expect_refused_give(list, 1);
}

static void test_core_give_of_one_twice_in_a_list_is_a_mistake(void **state)
{
	const uint32_t list[] = { 3, 4, 3 };

	(void)state;
	have(a, 2);
	expect_refused_give(list, 3);
}

static void test_core_give_of_parameters_or_beyond_is_a_mistake(void **state)
{
	const uint32_t strange[] = { 0, PARAMETER - 1, PARAMETER + SEGMENTS,
				     UINT32_MAX, 3 | IP_SEGMENT_PARKED };
	unsigned int i;

	(void)state;
	have(a, 2);
	for (i = 0; i < sizeof(strange) / sizeof(strange[0]); i++)
		expect_refused_give(&strange[i], 1);
}

static void test_core_give_of_nothing_or_too_much_is_a_mistake(void **state)
{
	struct ip_list list = { .count = 0 };

	(void)state;
	th_assert_status(pd_core_give(world.core, a, &list, 1), PS_PROTOCOL);
	th_assert_ok(pd_core_recalled(world.core, a, &list, 1));
	list.count = IP_LIST_MAX + 1;
	th_assert_status(pd_core_give(world.core, a, &list, 1), PS_PROTOCOL);
	th_assert_status(pd_core_recalled(world.core, a, &list, 1),
			 PS_PROTOCOL);
}

static void test_core_recalled_takes_leased_and_parked_ones(void **state)
{
	struct ip_list list = { .seq = 99, .count = 2, .segment = { 3, 4 } };
	const uint32_t parked[] = { 4 };

	(void)state;
	have(a, 2);
	th_assert_ok(tc_give(&world, a, parked, 1, true));
	world.segment[3].holder = TC_NOBODY;
	world.segment[4].holder = TC_NOBODY;
	th_assert_ok(pd_core_recalled(world.core, a, &list, world.now_ms));
	assert_int_equal(totals().dirty, 2 * TC_UNIT);
}

/* ---- descriptors ---- */

static enum ps_status need(uint32_t first, uint32_t count, bool *write_out)
{
	const struct ip_need need = { .first = first, .count = count };

	return pd_core_need(world.core, a, &need, write_out);
}

static void test_core_need_of_leased_ones_is_writable(void **state)
{
	bool write = false;

	(void)state;
	have(a, 3);
	th_assert_ok(need(3, 3, &write));
	assert_true(write);
}

static void test_core_need_of_parameters_is_as_attached(void **state)
{
	struct pd_client_record wanted = { .id = 77, .flags = IP_ATTACH_WRITE };
	bool write = true;

	(void)state;
	th_assert_ok(need(0, PARAMETER, &write));
	assert_false(write);
	th_assert_ok(pd_core_admit(world.core, &wanted, 1, &a, &wanted));
	th_assert_ok(need(0, PARAMETER, &write));
	assert_true(write);
}

/* What the journal says of the last segment of the region. */
static void put_parameter(uint32_t model, uint32_t user)
{
	struct pd_segment_record record =
		pd_journal_segment(world.journal, PARAMETER - 1);

	record.model = model;
	record.user = user;
	pd_journal_put_segment(world.journal, PARAMETER - 1, &record);
}

static void test_core_need_of_a_model_s_is_refused(void **state)
{
	bool write;

	(void)state;
	put_parameter(0, PD_ANY_USER);
	th_assert_status(need(PARAMETER - 1, 1, &write), PS_REFUSED);
	assert_non_null(strstr(bs_fail_text(), "attach to the model"));
	th_assert_status(need(0, PARAMETER, &write), PS_REFUSED);
	th_assert_ok(need(0, PARAMETER - 1, &write));
	put_parameter(PD_NO_MODEL, PD_ANY_USER);
	th_assert_ok(need(0, PARAMETER, &write));
}

static void test_core_need_of_what_anothers_model_left_is_refused(void **state)
{
	uint32_t uid = view_of(a).record.uid;
	bool write;

	(void)state;
	put_parameter(PD_NO_MODEL, uid + 1);
	th_assert_status(need(0, PARAMETER, &write), PS_REFUSED);
	put_parameter(PD_NO_MODEL, uid);
	th_assert_ok(need(0, PARAMETER, &write));
}

static void test_core_need_of_anothers_is_not_permitted(void **state)
{
	bool write;

	(void)state;
	have(a, 2);
	have(b, 2);
	th_assert_status(need(5, 1, &write), PS_PERMISSION);
	th_assert_status(need(4, 2, &write), PS_PERMISSION);
	th_assert_status(need(10, 1, &write), PS_PERMISSION);
}

static void test_core_need_of_a_parked_one_is_not_permitted(void **state)
{
	const uint32_t parked[] = { 3 };
	bool write;

	(void)state;
	have(a, 1);
	th_assert_ok(tc_give(&world, a, parked, 1, true));
	th_assert_status(need(3, 1, &write), PS_PERMISSION);
}

static void test_core_need_out_of_the_regions_is_out_of_range(void **state)
{
	bool write;

	(void)state;
	have(a, SEGMENTS);
	th_assert_status(need(0, 0, &write), PS_OUT_OF_RANGE);
	th_assert_status(need(0, PARAMETER + 1, &write), PS_OUT_OF_RANGE);
	th_assert_status(need(22, 2, &write), PS_OUT_OF_RANGE);
	th_assert_status(need(UINT32_MAX, 2, &write), PS_OUT_OF_RANGE);
	th_assert_status(need(3, UINT32_MAX, &write), PS_OUT_OF_RANGE);
	th_assert_status(need(PARAMETER + SEGMENTS, 1, &write),
			 PS_OUT_OF_RANGE);
}

/* ---- draining ---- */

static void test_core_drain_takes_no_new_clients(void **state)
{
	uint32_t slot;

	(void)state;
	pd_core_drain(world.core);
	th_assert_status(tc_admit(&world, 1, 0, 0, &slot), PS_REFUSED);
	assert_non_null(strstr(bs_fail_text(), "draining"));
	pd_core_away(world.core, a, world.now_ms);
	th_assert_ok(tc_resume(&world, a));
}

static void test_core_drain_grants_reservations_only(void **state)
{
	uint32_t reserved;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 4, 0, &reserved));
	have(reserved, 2);
	pd_core_drain(world.core);
	tc_take(&world, reserved, 3, 0, 0);
	assert_int_equal(world.client[reserved].status, PS_REFUSED);
	have(reserved, 2);
	tc_take(&world, a, 1, 5000, 0);
	assert_int_equal(world.client[a].status, PS_REFUSED);
	assert_non_null(strstr(world.client[a].text, "draining"));
}

static void test_core_drain_denies_those_who_wait(void **state)
{
	(void)state;
	have(b, SEGMENTS);
	tc_take(&world, a, 1, 5000, 0);
	pd_core_drain(world.core);
	assert_int_equal(world.client[a].answer, TC_DENY);
	assert_int_equal(world.client[a].status, PS_REFUSED);
}

static void test_core_drain_is_over_when_nobody_is_left(void **state)
{
	(void)state;
	have(a, 2);
	pd_core_drain(world.core);
	tc_reclaim(&world, b, true);
	assert_false(pd_core_is_empty(world.core));
	pd_core_away(world.core, a, world.now_ms);
	assert_false(pd_core_is_empty(world.core));
	tc_dead(&world, a);
	assert_true(pd_core_is_empty(world.core));
}

/* ---- the GPU is lost ---- */

static void test_core_lost_denies_those_who_wait_and_come(void **state)
{
	uint32_t slot;

	(void)state;
	have(b, SEGMENTS);
	tc_take(&world, a, 1, 5000, 0);
	pd_core_lose(world.core);
	assert_int_equal(world.client[a].status, PS_DEVICE_LOST);
	assert_int_equal(world.armed_ms, 0);
	tc_take(&world, a, 1, 5000, 0);
	assert_int_equal(world.client[a].answer, TC_DENY);
	assert_int_equal(world.client[a].status, PS_DEVICE_LOST);
	th_assert_status(tc_admit(&world, 1, 0, 0, &slot), PS_DEVICE_LOST);
	pd_core_away(world.core, a, world.now_ms);
	th_assert_status(tc_resume(&world, a), PS_DEVICE_LOST);
}

static void test_core_lost_asks_for_no_more_work(void **state)
{
	(void)state;
	have(a, 4);
	pd_core_lose(world.core);
	th_assert_ok(tc_give_some(&world, a, 2, false, false));
	tc_dead(&world, a);
	tc_reclaim(&world, a, false);
	assert_int_equal(tc_first_scrub(&world), TC_NOBODY);
	assert_int_equal(tc_first_remake(&world), TC_NOBODY);
}

static void test_core_lost_is_learnt_from_work(void **state)
{
	(void)state;
	have(a, SEGMENTS);
	th_assert_ok(tc_give_some(&world, a, 2, false, false));
	tc_take(&world, b, 2, 5000, 0);
	tc_scrubbed(&world, PARAMETER, PS_DEVICE_LOST);
	assert_int_equal(world.client[b].status, PS_DEVICE_LOST);
}

static void test_core_lost_is_learnt_from_remaking(void **state)
{
	(void)state;
	have(a, SEGMENTS);
	tc_take(&world, b, 2, 5000, 0);
	tc_dead(&world, a);
	tc_reclaim(&world, a, false);
	tc_remade(&world, PARAMETER, PS_DEVICE_LOST);
	assert_int_equal(world.client[b].status, PS_DEVICE_LOST);
}

static const struct th_test tests[] = {
#define TEST(name) TH_TEST_SETUP(name, set_up, tear_down)
	TEST(test_core_away_keeps_its_segments),
	TEST(test_core_away_may_send_nothing),
	TEST(test_core_resume_tells_nothing_of_the_token),
	TEST(test_core_resume_of_one_here_is_refused),
	TEST(test_core_resume_of_a_dead_one_is_refused),
	TEST(test_core_resume_of_one_that_left_is_refused),
	TEST(test_core_held_lists_from_any_number_on),
	TEST(test_core_dead_is_quarantined_until_its_fence),
	TEST(test_core_dead_not_shown_safe_is_remade),
	TEST(test_core_dead_twice_is_dead_once),
	TEST(test_core_dead_while_away_is_quarantined),
	TEST(test_core_dead_while_waiting_is_not_answered),
	TEST(test_core_leave_gives_all_back_and_frees_the_place),
	TEST(test_core_views_of_no_client_are_none),
	TEST(test_core_give_of_anothers_segment_is_a_mistake),
	TEST(test_core_give_of_a_free_segment_is_a_mistake),
	TEST(test_core_give_twice_is_a_mistake),
	TEST(test_core_give_of_one_twice_in_a_list_is_a_mistake),
	TEST(test_core_give_of_parameters_or_beyond_is_a_mistake),
	TEST(test_core_give_of_nothing_or_too_much_is_a_mistake),
	TEST(test_core_recalled_takes_leased_and_parked_ones),
	TEST(test_core_need_of_leased_ones_is_writable),
	TEST(test_core_need_of_parameters_is_as_attached),
	TEST(test_core_need_of_a_model_s_is_refused),
	TEST(test_core_need_of_what_anothers_model_left_is_refused),
	TEST(test_core_need_of_anothers_is_not_permitted),
	TEST(test_core_need_of_a_parked_one_is_not_permitted),
	TEST(test_core_need_out_of_the_regions_is_out_of_range),
	TEST(test_core_drain_takes_no_new_clients),
	TEST(test_core_drain_grants_reservations_only),
	TEST(test_core_drain_denies_those_who_wait),
	TEST(test_core_drain_is_over_when_nobody_is_left),
	TEST(test_core_lost_denies_those_who_wait_and_come),
	TEST(test_core_lost_asks_for_no_more_work),
	TEST(test_core_lost_is_learnt_from_work),
	TEST(test_core_lost_is_learnt_from_remaking),
};

TH_MAIN("core_life", tests)
