/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's core under any sequence of messages and events: clients that
 * claim what is not theirs, answer what nobody asked, repeat and reorder,
 * come back with other people's numbers, open by stale tickets, die; an agent
 * that dies.
 *
 * The input is a list of actions: a byte that chooses one, a byte for the
 * client, and what the action needs; what lies beyond the end is 0. A pretend
 * world says which messages are honest: those must be taken, the others must
 * be refused and change nothing. After each action the validator runs, and in
 * the end everybody leaves and all memory must be back.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/core_world.h"

#define PARAMETER 2u
#define SEGMENTS 24u
#define CLIENTS 6u
#define ACTIONS_MAX 2000u
#define TICKETS 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *next;
	const uint8_t *end;
};

static struct tc_world world;
static bool is_lost;
static struct tc_ticket ticket[TICKETS];

static void expect(bool promise)
{
	if (!promise)
		abort();
}

static uint32_t byte(struct input *in)
{
	return in->next < in->end ? *in->next++ : 0;
}

/* Small as a rule, now and then any number. */
static uint64_t number(struct input *in)
{
	uint64_t value = byte(in);
	unsigned int i;

	if (value != 0xff)
		return value;
	for (i = 0; i < 8; i++)
		value = value << 8 | byte(in);
	return value;
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

/* ---- clients come and go ---- */

static void do_admit(struct input *in, uint32_t slot)
{
	struct pd_client_record record = { .used = true }, granted;
	uint32_t uid = 100 + slot % 3, got;

	record.id = ++world.last_id;
	record.uid = uid;
	record.flags = byte(in) & IP_ATTACH_WRITE;
	record.reservation = number(in) * (TC_UNIT / 4);
	record.limit = number(in) * TC_UNIT;
	memset(record.token, (int)(record.id & 0xff), sizeof(record.token));
	if (pd_core_admit(world.core, &record, world.now_ms, &got, &granted) !=
	    PS_OK)
		return;
	expect(!is_lost && got < CLIENTS);
	expect(granted.reservation >= record.reservation);
	expect(granted.limit >= granted.reservation && granted.limit > 0);
	world.client[got] = (struct tc_client){ .id = granted.id, .uid = uid };
	memcpy(world.client[got].token, granted.token, IP_TOKEN_BYTES);
}

/* Of its own number or another's, with its own token or another. */
static void do_resume(struct input *in, uint32_t slot)
{
	uint32_t other = byte(in) % CLIENTS, got;
	struct pd_client_record granted;
	uint8_t token[IP_TOKEN_BYTES];
	bool honest, away;

	slot %= CLIENTS;
	memcpy(token, world.client[slot].token, sizeof(token));
	token[0] ^= (uint8_t)(byte(in) & 1);
	honest = world.client[other].id == world.client[slot].id &&
		 token[0] == world.client[slot].token[0];
	away = presence(slot) == PD_AWAY;
	expect((pd_core_resume(world.core, world.client[other].id, token, &got,
			       &granted) == PS_OK) ==
	       (honest && away && !is_lost));
}

static void do_go(struct input *in, uint32_t slot)
{
	uint32_t how = byte(in) % 4;

	if (slot >= CLIENTS)
		slot = UINT32_MAX;
	if (how == 0)
		pd_core_away(world.core, slot, world.now_ms);
	else if (how == 1 && presence(slot) != PD_FREE_SLOT)
		tc_dead(&world, slot);
	else if (how == 2 && presence(slot) != PD_FREE_SLOT)
		tc_reclaim(&world, slot, true);
	else if (how == 3 && presence(slot) == PD_DEAD)
		tc_reclaim(&world, slot, false);
}

/* ---- messages ---- */

static void do_take(struct input *in, uint32_t slot)
{
	struct tc_client *client = &world.client[slot % CLIENTS];
	struct ip_take take = { .count = (uint32_t)number(in) };
	bool honest;

	take.wait_ms = (uint32_t)number(in) * 16;
	take.flags = byte(in) & 3;
	honest = presence(slot) == PD_HERE && !waits(slot) && take.count > 0 &&
		 take.count <= IP_SEGMENTS_MAX &&
		 take.wait_ms <= IP_WAIT_MAX_MS && take.flags != 3;
	if (honest) {
		take.seq = ++client->seq;
		client->answer = TC_NONE;
	}
	expect((pd_core_take(world.core, slot, &take, world.now_ms) == PS_OK) ==
	       honest);
	if (honest)
		expect(client->answer != TC_NONE || waits(slot));
}

static void read_list(struct input *in, struct ip_list *list)
{
	uint32_t i;

	memset(list, 0, sizeof(*list));
	list->count = byte(in) % 16;
	for (i = 0; i < list->count; i++)
		list->segment[i] = (uint32_t)number(in);
}

/* By what the world knows: its own ones, each once. @outside: those too that
 * are destroyed. */
static bool is_honest(const struct ip_list *list, uint32_t slot, bool outside)
{
	uint64_t seen = 0;
	uint32_t i, n;

	if (presence(slot) != PD_HERE)
		return false;
	for (i = 0; i < list->count; i++) {
		n = list->segment[i];
		if (n >= world.segments || world.segment[n].holder != slot ||
		    (world.segment[n].is_outside && !outside) ||
		    (seen >> n & 1) != 0)
			return false;
		seen |= UINT64_C(1) << n;
	}
	return true;
}

static void let_go(const struct ip_list *list, bool parked)
{
	struct tc_segment *segment;
	uint32_t i;

	for (i = 0; i < list->count; i++) {
		segment = &world.segment[list->segment[i]];
		segment->is_parked = parked;
		if (parked)
			continue;
		segment->holder = TC_NOBODY;
		segment->is_outside = false;
	}
}

static void do_give(struct input *in, uint32_t slot)
{
	struct ip_list list;
	bool parked, honest;

	read_list(in, &list);
	list.flags = byte(in) & (IP_LIST_MORE | IP_LIST_PARKED);
	parked = (list.flags & IP_LIST_PARKED) != 0;
	honest = is_honest(&list, slot, !parked) && list.count > 0;
	if (honest)
		let_go(&list, parked);
	expect((pd_core_give(world.core, slot, &list, world.now_ms) == PS_OK) ==
	       honest);
}

static void do_recalled(struct input *in, uint32_t slot)
{
	struct ip_list list;
	bool honest;

	read_list(in, &list);
	list.flags = byte(in) & IP_LIST_MORE;
	list.seq = world.client[slot % CLIENTS].recall_seq;
	list.seq += byte(in) % 3;
	honest = is_honest(&list, slot, false);
	if (honest)
		let_go(&list, false);
	expect((pd_core_recalled(world.core, slot, &list, world.now_ms) ==
		PS_OK) == honest);
}

/* The honest ones, so that much happens. */
static void do_well(struct input *in, uint32_t slot)
{
	uint32_t count = byte(in) % SEGMENTS, held;
	uint32_t how = byte(in) % 4;

	if (presence(slot) != PD_HERE)
		return;
	held = tc_holds(&world, slot);
	if (how == 3)
		expect(tc_recalled(&world, slot, count) == PS_OK);
	else if (how == 1 && tc_outside(&world, slot) > 0)
		expect(tc_give_room(&world, slot, 1 + count) == PS_OK);
	else if (held > 0)
		(void)!tc_give_some(&world, slot, 1 + count % held, how & 1,
				    how == 2);
}

static void do_need(struct input *in, uint32_t slot)
{
	struct ip_need need = { .first = (uint32_t)number(in) };
	bool write = false;
	uint32_t n;

	need.count = (uint32_t)number(in);
	if (pd_core_need(world.core, slot, &need, &write) != PS_OK)
		return;
	expect(presence(slot) == PD_HERE && need.count > 0);
	for (n = need.first; n < need.first + need.count; n++)
		expect(n < PARAMETER || (n < world.segments && write &&
					 world.segment[n].holder == slot &&
					 !world.segment[n].is_outside));
}

/* ---- tickets ---- */

/* Whether all of @count from @first on are leased to the client, by what the
 * world knows. */
static bool has_leased(uint32_t slot, uint64_t first, uint64_t count)
{
	const struct tc_segment *segment;
	uint64_t n;

	for (n = first; n < first + count; n++) {
		if (n < PARAMETER || n >= world.segments)
			return false;
		segment = &world.segment[n];
		if (segment->holder != slot || segment->is_parked ||
		    segment->is_outside)
			return false;
	}
	return count > 0;
}

static void do_issue(struct input *in, uint32_t slot)
{
	struct tc_ticket *to = &ticket[byte(in) % TICKETS];
	uint32_t first = (uint32_t)number(in), count = 1 + byte(in) % 4;
	bool honest = presence(slot) == PD_HERE && !is_lost &&
		      has_leased(slot, first, count);

	expect((tc_issue(&world, slot, first, count, to) == PS_OK) == honest);
}

/* Runs and sizes that no library would send. */
static void do_issue_any(struct input *in, uint32_t slot)
{
	struct ip_issue issue = { .run_count = byte(in) % 8 };
	struct pd_grant_of grant;
	uint64_t have = 0;
	uint32_t i;

	for (i = 0; i < issue.run_count && i < IP_TICKET_RUNS; i++) {
		issue.run[i].first = (uint32_t)number(in);
		issue.run[i].count = (uint32_t)number(in);
		have += issue.run[i].count;
	}
	issue.offset = number(in) * 256;
	issue.bytes = number(in) * 256;
	if (pd_core_issue(world.core, slot, &issue, &grant) != PS_OK)
		return;
	expect(issue.run_count > 0 && issue.run_count <= IP_TICKET_RUNS);
	for (i = 0; i < issue.run_count; i++)
		expect(has_leased(slot, issue.run[i].first,
				  issue.run[i].count));
	expect(issue.bytes > 0 && issue.offset < TC_UNIT &&
	       issue.offset + issue.bytes <= have * TC_UNIT);
}

static void do_open(struct input *in, uint32_t slot)
{
	const struct tc_ticket *from = &ticket[byte(in) % TICKETS];
	bool honest = presence(slot) == PD_HERE && !is_lost &&
		      from->count > 0 && tc_is_good(&world, slot, from);

	/* No segment has room for fewer than there are clients. */
	expect((tc_use(&world, slot, from) == PS_OK) == honest);
}

static void do_close(struct input *in, uint32_t slot)
{
	struct ip_list list;
	bool honest;
	uint64_t seen = 0;
	uint32_t i, n;

	read_list(in, &list);
	honest = presence(slot) == PD_HERE && list.count > 0;
	for (i = 0; i < list.count && honest; i++) {
		n = list.segment[i];
		honest = n < world.segments && (seen >> n & 1) == 0 &&
			 (world.segment[n].opened_by >> slot & 1) != 0;
		seen |= honest ? UINT64_C(1) << n : 0;
	}
	for (i = 0; i < list.count && honest; i++)
		world.segment[list.segment[i]].opened_by &=
			~(UINT64_C(1) << slot);
	expect((pd_core_close(world.core, slot, &list, world.now_ms) ==
		PS_OK) == honest);
}

/* The honest one. */
static void do_close_some(struct input *in, uint32_t slot)
{
	uint32_t n = byte(in) % world.segments;

	if (presence(slot) != PD_HERE)
		return;
	for (; n < world.segments; n++)
		if ((world.segment[n].opened_by >> slot & 1) != 0)
			expect(tc_unuse(&world, slot, n, 1) == PS_OK);
}

static void do_export(struct input *in, uint32_t slot)
{
	uint32_t n = (uint32_t)number(in);
	bool honest = presence(slot) == PD_HERE && !is_lost &&
		      n < world.segments && has_leased(slot, n, 1);

	expect((tc_export(&world, slot, n) == PS_OK) == honest);
}

/* ---- the GPU, the clock, the agent ---- */

static void do_work(struct input *in, uint32_t slot)
{
	uint32_t n = PARAMETER + byte(in) % SEGMENTS;
	bool well = byte(in) % 4 != 0;

	(void)slot;
	if (world.segment[n].is_scrubbing)
		tc_scrubbed(&world, n, well ? PS_OK : PS_DRIVER);
	else if (world.segment[n].is_remaking)
		tc_remade(&world, n, well ? PS_OK : PS_BUSY);
	else if (world.segment[n].is_vacating)
		tc_vacated(&world, n, well ? PS_OK : PS_AGAIN);
	else
		pd_core_scrubbed(world.core, n, PS_OK, world.now_ms);
}

static void do_all_work(struct input *in, uint32_t slot)
{
	(void)in;
	(void)slot;
	tc_work(&world);
}

static void do_wait(struct input *in, uint32_t slot)
{
	(void)slot;
	tc_wait(&world, (uint64_t)byte(in) * 16);
}

static void do_limits(struct input *in, uint32_t slot)
{
	struct pd_user_limit *entry = &world.limits.user[0];

	world.limits.users = slot % 2;
	entry->uid = 100 + byte(in) % 3;
	entry->reservation = number(in) * TC_UNIT;
	entry->limit = number(in) * TC_UNIT;
	world.limits.client_limit = number(in) * TC_UNIT;
	pd_core_set_limits(world.core, &world.limits, world.now_ms);
}

static void do_agent(struct input *in, uint32_t slot)
{
	uint32_t how = byte(in) % 8;

	(void)slot;
	if (how == 0) {
		pd_core_lose(world.core);
		is_lost = true;
	} else if (how == 1) {
		pd_core_drain(world.core);
	} else {
		expect(tc_restart(&world));
		is_lost = false;
	}
}

/* ---- all of it ---- */

static void check(void)
{
	uint32_t slot;

	expect(world.wrong[0] == '\0');
	expect(pd_core_check(world.core) == PS_OK);
	for (slot = 0; slot < CLIENTS; slot++)
		expect(tc_agrees(&world, slot));
}

static void everybody_leaves(void)
{
	struct pd_totals totals;
	uint32_t slot;

	expect(tc_restart(&world));
	for (slot = 0; slot < CLIENTS; slot++)
		if (presence(slot) != PD_FREE_SLOT)
			tc_reclaim(&world, slot, true);
	tc_work(&world);
	check();
	pd_core_totals(world.core, &totals);
	expect(totals.clean == SEGMENTS * TC_UNIT && totals.clients == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const actions[])(struct input *, uint32_t) = {
		do_admit,  do_resume,     do_go,    do_take,   do_take,
		do_give,   do_recalled,   do_well,  do_well,   do_need,
		do_work,   do_all_work,   do_wait,  do_limits, do_agent,
		do_issue,  do_issue_any,  do_open,  do_open,   do_close,
		do_export, do_close_some, do_admit,
	};
	struct input in = { data, data + size };
	unsigned int i, what;

	is_lost = false;
	memset(ticket, 0, sizeof(ticket));
	expect(tc_open(&world, PARAMETER, SEGMENTS, CLIENTS));
	for (i = 0; i < ACTIONS_MAX && in.next < in.end; i++) {
		what = byte(&in) % (sizeof(actions) / sizeof(actions[0]));
		actions[what](&in, byte(&in) % (CLIENTS + 1));
		check();
	}
	everybody_leaves();
	tc_close(&world);
	return 0;
}
