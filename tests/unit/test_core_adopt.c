/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A core over a journal that another left: whenever the agent dies, no
 * segment is lost and none is doubled; what is damaged is given to nobody.
 * Linked with --wrap for the journal's writers and calloc().
 */
#include "poold/core.h"

#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "tests/support/core_world.h"
#include "tests/support/harness.h"

/* Where things are in the journal: poold/journal_parts.h. */
#define HEADER_BYTES 184
#define SEGMENT_PLACE 80
#define CLIENT_PLACE 184
#define STAMP_BYTES 16

#define PARAMETER 2u
#define SEGMENTS 20u
#define CLIENTS 4u

static struct tc_world world;
static uint32_t a, b, c; /* users 1, 1 and 2 */

static void open_world(void)
{
	assert_true(tc_open(&world, PARAMETER, SEGMENTS, CLIENTS));
	th_assert_ok(tc_admit(&world, 1, 3, 0, &a));
	th_assert_ok(tc_admit(&world, 1, 0, 12, &b));
	th_assert_ok(tc_admit(&world, 2, 0, 0, &c));
}

static int set_up(void **state)
{
	(void)state;
	open_world();
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

static void have(uint32_t slot, uint32_t count)
{
	tc_take(&world, slot, count, 0, 0);
	assert_int_equal(world.client[slot].answer, TC_GRANT);
}

/* ---- what is kept ---- */

static void test_core_adopts_clients_as_away_with_all_they_had(void **state)
{
	struct pd_client_view view;

	(void)state;
	have(a, 4);
	th_assert_ok(tc_give_some(&world, a, 1, false, true));
	assert_true(tc_restart(&world));
	assert_true(pd_core_client(world.core, a, &view));
	assert_int_equal(view.presence, PD_AWAY);
	assert_int_equal(view.leased, 3 * TC_UNIT);
	assert_int_equal(view.parked, 1 * TC_UNIT);
	assert_int_equal(view.record.reservation, 3 * TC_UNIT);
	th_assert_ok(tc_resume(&world, a));
}

static void test_core_adopts_promises(void **state)
{
	(void)state;
	assert_true(tc_restart(&world));
	th_assert_ok(tc_resume(&world, c));
	tc_take(&world, c, SEGMENTS - 2, 0, 0);
	assert_int_equal(world.client[c].answer, TC_DENY);
	have(c, SEGMENTS - 3);
}

static void test_core_adopts_limits(void **state)
{
	(void)state;
	have(b, 10);
	assert_true(tc_restart(&world));
	th_assert_ok(tc_resume(&world, b));
	tc_take(&world, b, 3, 0, 0);
	assert_int_equal(world.client[b].answer, TC_DENY);
	have(b, 2);
}

static void test_core_adopts_work_that_was_under_way(void **state)
{
	(void)state;
	have(a, 2);
	have(b, 2);
	th_assert_ok(tc_give_some(&world, a, 2, false, false));
	tc_dead(&world, b);
	tc_reclaim(&world, b, false);
	assert_true(tc_restart(&world));
	assert_int_equal(tc_first_scrub(&world), PARAMETER);
	assert_int_equal(tc_first_remake(&world), PARAMETER + 2);
	tc_work(&world);
	assert_int_equal(totals().clean, SEGMENTS * TC_UNIT);
}

static void test_core_adopts_a_full_set_of_places(void **state)
{
	uint32_t slot;

	(void)state;
	th_assert_ok(tc_admit(&world, 3, 0, 0, &slot));
	assert_true(tc_restart(&world));
	th_assert_status(tc_admit(&world, 3, 0, 0, &slot), PS_REFUSED);
	tc_reclaim(&world, slot, true);
	th_assert_ok(tc_admit(&world, 3, 0, 0, &slot));
}

/* ---- no memory ---- */

void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);

static unsigned int calloc_fails; /* the one after so many; 0: none */

void *__wrap_calloc(size_t count, size_t bytes)
{
	if (calloc_fails > 0 && --calloc_fails == 0)
		return NULL;
	return __real_calloc(count, bytes);
}

static void test_core_new_without_memory_says_so(void **state)
{
	unsigned int nth;

	(void)state;
	for (nth = 1; nth < 100; nth++) {
		calloc_fails = nth;
		if (tc_restart(&world))
			break;
		assert_int_equal(calloc_fails, 0);
	}
	calloc_fails = 0;
	/* One for the core, and one for each of its tables. */
	assert_int_equal(nth, 12);
}

/* ---- the validator ---- */

static void test_core_check_sees_a_segment_that_differs(void **state)
{
	struct pd_segment_record record;

	(void)state;
	have(a, 1);
	record = pd_journal_segment(world.journal, PARAMETER);
	record.client = b;
	pd_journal_put_segment(world.journal, PARAMETER, &record);
	th_assert_status(pd_core_check(world.core), PS_INVALID_ARGUMENT);
	record.client = a;
	pd_journal_put_segment(world.journal, PARAMETER, &record);
}

static void expect_seen(const struct pd_segment_record *other)
{
	struct pd_segment_record record =
		pd_journal_segment(world.journal, PARAMETER);

	th_assert_ok(pd_core_check(world.core));
	pd_journal_put_segment(world.journal, PARAMETER, other);
	th_assert_status(pd_core_check(world.core), PS_INVALID_ARGUMENT);
	pd_journal_put_segment(world.journal, PARAMETER, &record);
}

static void test_core_check_sees_who_has_it_open_otherwise(void **state)
{
	struct pd_segment_record record, other;

	(void)state;
	have(a, 1);
	record = pd_journal_segment(world.journal, PARAMETER);
	other = record;
	other.epoch++;
	expect_seen(&other);
	other = record;
	other.is_tainted = true;
	expect_seen(&other);
	other = record;
	other.openers[0] = (uint16_t)b;
	expect_seen(&other);
}

static void test_core_check_sees_a_client_that_differs(void **state)
{
	struct pd_client_record record, other;

	(void)state;
	th_assert_ok(pd_journal_client(world.journal, a, &record));
	other = record;
	other.limit++;
	pd_journal_put_client(world.journal, a, &other);
	th_assert_status(pd_core_check(world.core), PS_INVALID_ARGUMENT);
	pd_journal_put_client(world.journal, a, &record);
}

/* ---- what is damaged ---- */

static void flip(off_t at)
{
	int fd = pd_journal_fd(world.journal);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x40;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static void damage_segment(uint32_t n)
{
	off_t at = HEADER_BYTES + (off_t)n * 2 * SEGMENT_PLACE + STAMP_BYTES;

	flip(at);
	flip(at + SEGMENT_PLACE);
}

static void damage_client(uint32_t slot)
{
	off_t at = HEADER_BYTES +
		   (off_t)(PARAMETER + SEGMENTS) * 2 * SEGMENT_PLACE +
		   (off_t)slot * 2 * CLIENT_PLACE + STAMP_BYTES;

	flip(at);
	flip(at + CLIENT_PLACE);
}

static void test_core_damaged_segment_is_given_to_nobody(void **state)
{
	(void)state;
	have(b, 2);
	damage_segment(PARAMETER);
	damage_segment(PARAMETER + 9);
	assert_true(tc_restart(&world));
	assert_int_equal(totals().quarantined, 2 * TC_UNIT);
	assert_int_equal(totals().clean, (SEGMENTS - 3) * TC_UNIT);
	th_assert_ok(tc_resume(&world, c));
	tc_take(&world, c, SEGMENTS, 0, IP_TAKE_SOME);
	/* 3 are promised to a. */
	assert_int_equal(world.client[c].count, SEGMENTS - 3 - 3);
	assert_int_equal(tc_holds(&world, b), 2);
}

static void test_core_damaged_segment_lessens_what_is_promised(void **state)
{
	uint32_t slot;

	(void)state;
	damage_segment(PARAMETER);
	assert_true(tc_restart(&world));
	th_assert_status(tc_admit(&world, 3, SEGMENTS - 3, 0, &slot),
			 PS_OUT_OF_MEMORY);
	th_assert_ok(tc_admit(&world, 3, SEGMENTS - 4, 0, &slot));
}

static void test_core_damaged_client_keeps_its_segments(void **state)
{
	struct pd_client_view view;

	(void)state;
	have(b, 5);
	damage_client(b);
	assert_true(tc_restart(&world));
	assert_int_equal(totals().quarantined, 5 * TC_UNIT);
	assert_int_equal(totals().clients, 2);
	assert_false(pd_core_client(world.core, b, &view));
	pd_core_dead(world.core, b, world.now_ms);
	pd_core_reclaim(world.core, b, true, world.now_ms);
	assert_int_equal(totals().quarantined, 5 * TC_UNIT);
	th_assert_status(tc_resume(&world, b), PS_REFUSED);
}

static void test_core_damaged_client_keeps_its_place(void **state)
{
	uint32_t slot;

	(void)state;
	have(b, 5);
	damage_client(b);
	assert_true(tc_restart(&world));
	th_assert_ok(tc_admit(&world, 3, 0, 0, &slot));
	assert_int_not_equal(slot, b);
	th_assert_status(tc_admit(&world, 3, 0, 0, &slot), PS_REFUSED);
}

static void test_core_damaged_client_without_segments_is_none(void **state)
{
	struct pd_client_record record;
	uint32_t slot;

	(void)state;
	damage_client(b);
	assert_true(tc_restart(&world));
	th_assert_ok(pd_journal_client(world.journal, b, &record));
	assert_false(record.used);
	th_assert_ok(tc_admit(&world, 3, 0, 0, &slot));
	th_assert_ok(tc_admit(&world, 3, 0, 0, &slot));
}

static void test_core_segment_of_an_unknown_client_is_damaged(void **state)
{
	struct pd_segment_record lost = { .state = PD_LEASED,
					  .client = CLIENTS - 1,
					  .user = 1 };

	(void)state;
	memset(lost.openers, 0xff, sizeof(lost.openers));
	pd_journal_put_segment(world.journal, PARAMETER, &lost);
	assert_true(tc_restart(&world));
	assert_int_equal(totals().quarantined, 1 * TC_UNIT);
}

static void test_core_parameter_in_the_computation_is_damaged(void **state)
{
	struct pd_segment_record wrong = { .state = PD_PARAMETER,
					   .client = PD_NO_CLIENT,
					   .user = PD_NO_USER,
					   .model = PD_NO_MODEL };

	(void)state;
	memset(wrong.openers, 0xff, sizeof(wrong.openers));
	pd_journal_put_segment(world.journal, PARAMETER, &wrong);
	assert_true(tc_restart(&world));
	assert_int_equal(totals().quarantined, 1 * TC_UNIT);
}

/* ---- who has what open ---- */

static void put_open(enum pd_segment_state state, uint32_t client,
		     uint32_t user, uint16_t opener)
{
	struct pd_segment_record record = {
		.state = state, .client = client, .user = user, .epoch = 1
	};

	memset(record.openers, 0xff, sizeof(record.openers));
	record.openers[0] = opener;
	pd_journal_put_segment(world.journal, PARAMETER, &record);
}

static void expect_damaged(void)
{
	assert_true(tc_restart(&world));
	assert_int_equal(totals().quarantined, TC_UNIT);
	assert_int_equal(totals().clean, (SEGMENTS - 1) * TC_UNIT);
}

static void test_core_open_by_an_unknown_client_is_damaged(void **state)
{
	(void)state;
	put_open(PD_LEASED, a, 1, CLIENTS - 1);
	expect_damaged();
}

static void test_core_shared_by_an_unknown_client_is_damaged(void **state)
{
	(void)state;
	put_open(PD_SHARED, CLIENTS - 1, 1, (uint16_t)b);
	expect_damaged();
}

static void test_core_shared_of_no_user_is_damaged(void **state)
{
	(void)state;
	put_open(PD_SHARED, PD_NO_CLIENT, PD_NO_USER, (uint16_t)b);
	expect_damaged();
}

static void test_core_leased_of_another_user_is_damaged(void **state)
{
	(void)state;
	put_open(PD_LEASED, a, 2, PD_NO_OPENER);
	expect_damaged();
}

/* 0 is no lease's: it is what a segment has that was never leased. */
static void test_core_last_lease_is_followed_by_the_first(void **state)
{
	struct pd_segment_record record;

	(void)state;
	record = pd_journal_segment(world.journal, PARAMETER);
	record.epoch = UINT32_MAX;
	pd_journal_put_segment(world.journal, PARAMETER, &record);
	assert_true(tc_restart(&world));
	th_assert_ok(tc_resume(&world, b));
	have(b, 1);
	assert_int_equal(world.client[b].segment[0], PARAMETER);
	record = pd_journal_segment(world.journal, PARAMETER);
	assert_int_equal(record.epoch, 1);
}

static void test_core_open_by_a_damaged_client_is_kept(void **state)
{
	uint32_t slot;

	(void)state;
	have(a, 1);
	put_open(PD_LEASED, a, 1, (uint16_t)b);
	damage_client(b);
	assert_true(tc_restart(&world));
	tc_reclaim(&world, a, true);
	tc_work(&world);
	assert_int_equal(totals().quarantined, TC_UNIT);
	assert_int_equal(totals().clean, (SEGMENTS - 1) * TC_UNIT);
	/* Two places are free, not the third. */
	th_assert_ok(tc_admit(&world, 3, 0, 0, &slot));
	th_assert_ok(tc_admit(&world, 3, 0, 0, &slot));
	th_assert_status(tc_admit(&world, 3, 0, 0, &slot), PS_REFUSED);
}

/* ---- the agent dies at any point ---- */

void __real_pd_journal_put_segment(struct pd_journal *journal, uint32_t number,
				   const struct pd_segment_record *record);
void __wrap_pd_journal_put_segment(struct pd_journal *journal, uint32_t number,
				   const struct pd_segment_record *record);
void __real_pd_journal_put_client(struct pd_journal *journal, uint32_t slot,
				  const struct pd_client_record *record);
void __wrap_pd_journal_put_client(struct pd_journal *journal, uint32_t slot,
				  const struct pd_client_record *record);

/* Before each change of the journal too, not only before each call out of the
 * core. */
void __wrap_pd_journal_put_segment(struct pd_journal *journal, uint32_t number,
				   const struct pd_segment_record *record)
{
	tc_step(&world);
	__real_pd_journal_put_segment(journal, number, record);
}

void __wrap_pd_journal_put_client(struct pd_journal *journal, uint32_t slot,
				  const struct pd_client_record *record)
{
	tc_step(&world);
	__real_pd_journal_put_client(journal, slot, record);
}

static bool b_is_gone; /* its process has ended, and cannot be shown safe */

static struct tc_ticket ticket;

/* What @b opens outlives @a's lease, and @b's death. */
static void share(void)
{
	uint32_t first = world.client[a].segment[0];

	th_assert_ok(tc_issue(&world, a, first, 3, &ticket));
	th_assert_ok(tc_use(&world, b, &ticket));
	th_assert_ok(tc_export(&world, a, first + 5));
	tc_unuse(&world, b, first + 2, 1);
	tc_give_some(&world, a, 2, false, false);
}

static void live_outside(void)
{
	tc_take(&world, a, 3, 2000, IP_TAKE_OUTSIDE);
	tc_vacated(&world, tc_first_vacate(&world), PS_AGAIN);
	tc_wait(&world, PD_REMAKE_REST_MS);
	tc_work(&world);
	tc_give_room(&world, a, 2);
	tc_work(&world);
}

/* A bit of everything. */
static void live(void)
{
	live_outside();
	tc_take(&world, a, 6, 0, 0);
	share();
	tc_take(&world, b, 12, 0, 0);
	tc_give_some(&world, a, 3, false, true);
	tc_take(&world, a, 4, 0, 0);
	tc_give_some(&world, a, 2, false, false);
	tc_take(&world, c, 4, 2000, 0);
	tc_give_some(&world, b, 3, false, true);
	tc_recalled(&world, b, 2);
	tc_scrubbed(&world, tc_first_scrub(&world), PS_DRIVER);
	tc_work(&world);
	b_is_gone = true;
	tc_dead(&world, b);
	tc_take(&world, a, 9, 2000, 0);
	tc_reclaim(&world, b, false);
	tc_remade(&world, tc_first_remake(&world), PS_BUSY);
	tc_wait(&world, PD_REMAKE_REST_MS);
	tc_work(&world);
	tc_reclaim(&world, c, true);
	tc_work(&world);
}

static bool is_here(uint32_t slot)
{
	struct pd_client_view view;

	return pd_core_client(world.core, slot, &view);
}

struct unknown {
	uint32_t own[SEGMENTS];
	uint32_t count;
	struct ip_list opened;
};

/* What the journal gives it and it does not know of. */
static void find_unknown(uint32_t slot, struct unknown *unknown)
{
	uint32_t held[SEGMENTS], told = 0, i, n;
	uint32_t all = pd_core_held(world.core, slot, 0, held, SEGMENTS);

	memset(unknown, 0, sizeof(*unknown));
	for (i = 0; i < all; i++) {
		n = held[i] & IP_SEGMENT_NUMBER;
		if (held[i] & IP_SEGMENT_OPENED) {
			if (world.segment[n].opened_by >> slot & 1)
				told++;
			else
				unknown->opened
					.segment[unknown->opened.count++] = n;
		} else if (world.segment[n].holder == slot) {
			told++;
		} else {
			assert_int_equal(world.segment[n].holder, TC_NOBODY);
			unknown->own[unknown->count++] = n;
		}
	}
	/* None that it was told of is missing. */
	assert_int_equal(told,
			 tc_holds(&world, slot) + tc_opened(&world, slot));
}

/* Gives that back. */
static void settle(uint32_t slot)
{
	struct unknown unknown;
	uint32_t i;

	find_unknown(slot, &unknown);
	th_assert_ok(tc_resume(&world, slot));
	for (i = 0; i < unknown.count; i++)
		world.segment[unknown.own[i]].is_written = true;
	if (unknown.count > 0)
		th_assert_ok(tc_give(&world, slot, unknown.own, unknown.count,
				     false));
	if (unknown.opened.count > 0)
		th_assert_ok(pd_core_close(world.core, slot, &unknown.opened,
					   world.now_ms));
}

static void take_over(void)
{
	uint32_t slot;

	world.kill_at = 0;
	assert_true(tc_restart(&world));
	th_assert_ok(pd_core_check(world.core));
	if (b_is_gone && is_here(b)) {
		tc_dead(&world, b);
		tc_reclaim(&world, b, false);
	}
	for (slot = 0; slot < CLIENTS; slot++)
		if (is_here(slot))
			settle(slot);
	th_assert_ok(pd_core_check(world.core));
}

static void everybody_leaves(void)
{
	uint32_t slot;

	for (slot = 0; slot < CLIENTS; slot++)
		if (is_here(slot))
			tc_reclaim(&world, slot, true);
	tc_work(&world);
	tc_wait(&world, 64 * PD_REMAKE_REST_MS);
	tc_work(&world);
	assert_int_equal(totals().clean, SEGMENTS * TC_UNIT);
	assert_string_equal(world.wrong, "");
	th_assert_ok(pd_core_check(world.core));
}

/* False: the agent lived to see the end. */
static bool die_at(uint64_t point)
{
	static bool died;

	died = false;
	open_world();
	b_is_gone = false;
	world.kill_at = world.ops + point;
	if (setjmp(world.killed) == 0) {
		live();
	} else {
		died = true;
		take_over();
	}
	world.kill_at = 0;
	everybody_leaves();
	tc_close(&world);
	return died;
}

static void test_core_killed_anywhere_loses_and_doubles_nothing(void **state)
{
	uint64_t point = 1;

	(void)state;
	while (die_at(point))
		point++;
	/* Else the story shows nothing. */
	assert_true(point > 100);
}

static const struct th_test tests[] = {
#define TEST(name) TH_TEST_SETUP(name, set_up, tear_down)
	TEST(test_core_adopts_clients_as_away_with_all_they_had),
	TEST(test_core_adopts_promises),
	TEST(test_core_adopts_limits),
	TEST(test_core_adopts_work_that_was_under_way),
	TEST(test_core_adopts_a_full_set_of_places),
	TEST(test_core_new_without_memory_says_so),
	TEST(test_core_check_sees_a_segment_that_differs),
	TEST(test_core_check_sees_who_has_it_open_otherwise),
	TEST(test_core_check_sees_a_client_that_differs),
	TEST(test_core_damaged_segment_is_given_to_nobody),
	TEST(test_core_damaged_segment_lessens_what_is_promised),
	TEST(test_core_damaged_client_keeps_its_segments),
	TEST(test_core_damaged_client_keeps_its_place),
	TEST(test_core_damaged_client_without_segments_is_none),
	TEST(test_core_segment_of_an_unknown_client_is_damaged),
	TEST(test_core_parameter_in_the_computation_is_damaged),
	TEST(test_core_open_by_an_unknown_client_is_damaged),
	TEST(test_core_shared_by_an_unknown_client_is_damaged),
	TEST(test_core_shared_of_no_user_is_damaged),
	TEST(test_core_leased_of_another_user_is_damaged),
	TEST(test_core_last_lease_is_followed_by_the_first),
	TEST(test_core_open_by_a_damaged_client_is_kept),
	TH_TEST(test_core_killed_anywhere_loses_and_doubles_nothing),
};

TH_MAIN("core_adopt", tests)
