/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Random sequences of all that can happen to the core, against a world that
 * knows by itself who has which segment and what is in it. After each step
 * the validator runs; at the end of each sequence everybody leaves and every
 * byte must be back.
 */
#include "poold/core.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/support/core_world.h"
#include "tests/support/harness.h"

#define PARAMETER 3u
#define SEGMENTS 70u
#define CLIENTS 9u
#define USERS 3u
#define TICKETS 8u
#define SEQUENCES 40u
#define STEPS 600u

static struct tc_world world;
static uint64_t random_state;
/* In all sequences; else they show nothing. */
static uint64_t served;
static uint64_t rooms;
static uint64_t opened;
static uint64_t stale; /* tickets that were rightly refused */
static struct tc_ticket ticket[TICKETS];

static uint32_t roll(uint32_t limit)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * 0x2545f4914f6cdd1du >> 33) % limit);
}

static enum pd_presence presence(uint32_t slot)
{
	struct pd_client_view view;

	if (!pd_core_client(world.core, slot, &view))
		return PD_FREE_SLOT;
	return view.presence;
}

static bool waits(uint32_t slot)
{
	struct pd_client_view view;

	return pd_core_client(world.core, slot, &view) && view.waits;
}

/* ---- what is compared after each step ---- */

static void compare_totals(void)
{
	struct pd_totals totals;

	pd_core_totals(world.core, &totals);
	assert_int_equal(totals.clean + totals.dirty + totals.remaking +
				 totals.leased + totals.parked +
				 totals.outside + totals.quarantined,
			 SEGMENTS * TC_UNIT);
}

static void compare(void)
{
	uint32_t slot;

	assert_string_equal(world.wrong, "");
	th_assert_ok(pd_core_check(world.core));
	for (slot = 0; slot < CLIENTS; slot++)
		assert_true(tc_agrees(&world, slot));
	compare_totals();
}

/* ---- what can happen ---- */

static void do_admit(uint32_t slot)
{
	uint32_t reservation = roll(3) == 0 ? roll(SEGMENTS / 4) : 0;
	uint32_t limit = roll(3) == 0 ? 1 + roll(SEGMENTS) : 0;

	(void)!tc_admit(&world, 100 + roll(USERS), reservation, limit, &slot);
}

static void do_take(uint32_t slot)
{
	uint32_t count = 1 + roll(roll(4) == 0 ? SEGMENTS : 6);
	uint32_t wait_ms = roll(2) == 0 ? 0 : roll(3000);
	uint32_t flags = roll(5) == 0 ? IP_TAKE_SOME : 0;

	if (roll(6) == 0)
		flags = IP_TAKE_OUTSIDE;
	if (presence(slot) == PD_HERE && !waits(slot))
		served += tc_take(&world, slot, count, wait_ms, flags) ==
			  TC_GRANT;
}

static void do_give(uint32_t slot)
{
	bool from_parked = roll(3) == 0;
	uint32_t held = tc_holds(&world, slot);

	if (presence(slot) == PD_HERE && held > 0)
		(void)!tc_give_some(&world, slot, 1 + roll(held), from_parked,
				    roll(2) == 0);
	if (presence(slot) == PD_HERE && tc_outside(&world, slot) > 0)
		th_assert_ok(tc_give_room(&world, slot, 1 + roll(8)));
}

/* As a rule of what it has. */
static void do_issue(uint32_t slot)
{
	uint32_t first = PARAMETER + roll(SEGMENTS), count = 1 + roll(3) / 2;
	struct tc_ticket *to = &ticket[roll(TICKETS)];

	while (roll(40) > 0 && world.segment[first].holder != slot)
		first = PARAMETER + roll(SEGMENTS);
	if (presence(slot) == PD_HERE && first + count <= world.segments)
		(void)!tc_issue(&world, slot, first, count, to);
}

static void do_open(uint32_t slot)
{
	const struct tc_ticket *from = &ticket[roll(TICKETS)];
	bool good;
	enum ps_status status;

	while (roll(40) > 0 && !tc_is_good(&world, slot, from))
		from = &ticket[roll(TICKETS)];
	good = tc_is_good(&world, slot, from);
	if (presence(slot) != PD_HERE || from->count == 0)
		return;
	status = tc_use(&world, slot, from);
	assert_true((status == PS_OK) == good);
	opened += good;
	stale += !good;
}

static void do_close(uint32_t slot)
{
	uint32_t n;

	if (presence(slot) != PD_HERE)
		return;
	for (n = PARAMETER + roll(SEGMENTS); n < world.segments; n++)
		if ((world.segment[n].opened_by >> slot & 1) != 0)
			th_assert_ok(tc_unuse(&world, slot, n, 1));
}

static void do_share(uint32_t slot)
{
	uint32_t what = roll(8), n = PARAMETER + roll(SEGMENTS);

	while (roll(40) > 0 && presence(slot) != PD_HERE)
		slot = roll(CLIENTS);
	if (what < 3)
		do_issue(slot);
	else if (what < 6)
		do_open(slot);
	else if (what < 7)
		do_close(slot);
	else if (presence(slot) == PD_HERE)
		(void)!tc_export(&world, slot, n);
}

static void do_recalled(uint32_t slot)
{
	struct tc_client *client = &world.client[slot];

	if (presence(slot) == PD_HERE && client->recalls > 0)
		th_assert_ok(tc_recalled(&world, slot,
					 roll(client->recall_count + 1)));
}

static void do_leave(uint32_t slot)
{
	if (presence(slot) == PD_HERE && roll(4) == 0)
		tc_reclaim(&world, slot, true);
	else if (presence(slot) == PD_HERE)
		pd_core_away(world.core, slot, world.now_ms);
	else if (presence(slot) == PD_AWAY && roll(2) == 0)
		th_assert_ok(tc_resume(&world, slot));
	else if (presence(slot) == PD_AWAY)
		tc_dead(&world, slot);
	else if (presence(slot) == PD_DEAD)
		tc_reclaim(&world, slot, roll(2) == 0);
}

static void do_work(void)
{
	uint32_t n = tc_first_scrub(&world);

	if (n != TC_NOBODY)
		tc_scrubbed(&world, n, roll(8) == 0 ? PS_DRIVER : PS_OK);
	n = tc_first_remake(&world);
	if (n != TC_NOBODY)
		tc_remade(&world, n, roll(3) == 0 ? PS_BUSY : PS_OK);
	n = tc_first_vacate(&world);
	if (n != TC_NOBODY)
		tc_vacated(&world, n, roll(4) == 0 ? PS_AGAIN : PS_OK);
}

static void do_limits(void)
{
	struct pd_user_limit *entry = world.limits.user;
	uint32_t i;

	world.limits.users = roll(USERS + 1);
	for (i = 0; i < world.limits.users; i++) {
		entry[i].uid = 100 + i;
		entry[i].limit = roll(2) == 0 ? 0 : roll(SEGMENTS) * TC_UNIT;
		entry[i].reservation = roll(SEGMENTS / 4) * TC_UNIT;
	}
	world.limits.client_limit =
		roll(4) == 0 ? (1 + roll(SEGMENTS)) * TC_UNIT : 0;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
}

static void one_step(void)
{
	uint32_t slot = roll(CLIENTS), what = roll(100);

	if (what < 8)
		do_admit(slot);
	else if (what < 32)
		do_take(slot);
	else if (what < 42)
		do_give(slot);
	else if (what < 62)
		do_share(slot);
	else if (what < 70)
		do_recalled(slot);
	else if (what < 75)
		do_leave(slot);
	else if (what < 96)
		do_work();
	else if (what < 98)
		tc_wait(&world, roll(700));
	else if (what < 99)
		do_limits();
	else
		assert_true(tc_restart(&world));
}

/* ---- the end of a sequence ---- */

static void everybody_leaves(void)
{
	struct pd_totals totals;
	uint32_t slot;

	for (slot = 0; slot < CLIENTS; slot++)
		if (presence(slot) != PD_FREE_SLOT)
			tc_reclaim(&world, slot, roll(2) == 0);
	tc_work(&world);
	/* What could not be remade before is tried again in time. */
	tc_wait(&world, 64 * PD_REMAKE_REST_MS);
	tc_work(&world);
	compare();
	pd_core_totals(world.core, &totals);
	assert_int_equal(totals.clean, SEGMENTS * TC_UNIT);
	assert_int_equal(totals.clients, 0);
	assert_true(pd_core_is_empty(world.core));
	assert_int_equal(world.armed_ms, 0);
}

static void run_sequence(uint64_t seed)
{
	uint32_t i;

	random_state = seed * 0x9e3779b97f4a7c15u | 1;
	memset(ticket, 0, sizeof(ticket));
	assert_true(tc_open(&world, PARAMETER, SEGMENTS, CLIENTS));
	for (i = 0; i < STEPS; i++) {
		one_step();
		compare();
	}
	everybody_leaves();
	rooms += world.rooms;
	tc_close(&world);
}

static void test_core_random_sequences_agree_with_a_model(void **state)
{
	uint64_t sequences = (uint64_t)SEQUENCES * th_soak_factor(), seed;

	(void)state;
	served = 0;
	rooms = 0;
	opened = 0;
	stale = 0;
	for (seed = 1; seed <= sequences; seed++) {
		print_message("seed %llu\n", (unsigned long long)seed);
		run_sequence(seed);
	}
	print_message("%llu grants, %llu of room, %llu opened, %llu refused\n",
		      (unsigned long long)served, (unsigned long long)rooms,
		      (unsigned long long)opened, (unsigned long long)stale);
	assert_true(served > sequences * 10);
	assert_true(rooms > sequences);
	assert_true(opened > sequences * 4);
	assert_true(stale > sequences * 4);
}

static const struct th_test tests[] = {
	TH_TEST(test_core_random_sequences_agree_with_a_model),
};

TH_MAIN("core_model", tests)
