/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The states of segments, all counts and lists that follow from them, and
 * which segments a grant takes: neighbours where that is possible.
 *
 * CLEAN segments are found in bitmaps, 64 at a look: one of all, one of those
 * that nobody had; what a user had is told apart by word, and by segment only
 * in words that hold more than one user's.
 */
#include "poold/core_internal.h"

#include <assert.h>
#include <string.h>

#include "base/arith.h"

/* ---- bitmaps ---- */

static void set_bit(uint64_t *bits, uint32_t n)
{
	bits[n / PD_BLOCK] |= UINT64_C(1) << n % PD_BLOCK;
}

static void clear_bit(uint64_t *bits, uint32_t n)
{
	bits[n / PD_BLOCK] &= ~(UINT64_C(1) << n % PD_BLOCK);
}

/* The first one from @n on that is @set; @end: none. */
static uint32_t find_bit(const uint64_t *bits, uint32_t n, uint32_t end,
			 bool set)
{
	uint64_t word;

	while (n < end) {
		word = set ? bits[n / PD_BLOCK] : ~bits[n / PD_BLOCK];
		word >>= n % PD_BLOCK;
		if (word != 0)
			return (uint32_t)pd_min(
				end, n + (uint32_t)__builtin_ctzll(word));
		n = (n / PD_BLOCK + 1) * PD_BLOCK;
	}
	return end;
}

struct run {
	uint32_t first;
	uint32_t count;
};

/* The next run of neighbours from @from on; count 0: none. */
static struct run next_run(const struct pd_core *core, const uint64_t *bits,
			   uint32_t from)
{
	struct run run;

	run.first = find_bit(bits, from, core->end, true);
	run.count = find_bit(bits, run.first, core->end, false) - run.first;
	return run;
}

static uint32_t *take_run(uint32_t *to, struct run run, uint32_t most)
{
	uint32_t i;

	for (i = 0; i < run.count && i < most; i++)
		*to++ = run.first + i;
	return to;
}

/* The smallest run that holds @count; count 0: none does. @sizes_out: for
 * each power of two whether there are runs of that size. */
static struct run best_run(const struct pd_core *core, const uint64_t *bits,
			   uint32_t count, uint32_t *sizes_out)
{
	struct run best = { 0, 0 }, run = { core->first, 0 };

	*sizes_out = 0;
	for (;;) {
		run = next_run(core, bits, run.first + run.count);
		if (run.count == 0 || run.count == count)
			return run.count == count ? run : best;
		*sizes_out |= UINT32_C(1) << bs_log2(run.count);
		if (run.count > count &&
		    (best.count == 0 || run.count < best.count))
			best = run;
	}
}

/* From runs of this size, in their order. */
static uint32_t *take_runs_of(const struct pd_core *core, const uint64_t *bits,
			      unsigned int size, uint32_t *to,
			      const uint32_t *end)
{
	struct run run = { core->first, 0 };

	while (to < end) {
		run = next_run(core, bits, run.first + run.count);
		if (run.count == 0)
			break;
		if (bs_log2(run.count) == size)
			to = take_run(to, run, (uint32_t)(end - to));
	}
	return to;
}

/* Writes @count of the marked ones to @to: of one run if there is one, else of
 * the largest. pre: as many are marked. */
static uint32_t *choose(const struct pd_core *core, const uint64_t *bits,
			uint32_t count, uint32_t *to)
{
	const uint32_t *end = to + count;
	uint32_t sizes;
	struct run best;
	unsigned int size;

	if (count == 0)
		return to;
	best = best_run(core, bits, count, &sizes);
	if (best.count > 0)
		return take_run(to, best, count);
	for (size = 32; size-- > 0 && to < end;)
		if (sizes >> size & 1)
			to = take_runs_of(core, bits, size, to, end);
	assert(to == end);
	return to;
}

/* ---- lists ---- */

/* NULL: a segment in this state is in no list. */
static uint32_t *list_of(struct pd_core *core, const struct pd_segment *segment)
{
	switch (segment->state) {
	case PD_LEASED:
		return &core->clients[segment->client].first_leased;
	case PD_PARKED:
		return &core->clients[segment->client].first_parked;
	default:
		return NULL;
	}
}

static void link_in(struct pd_core *core, uint32_t *list, uint32_t n)
{
	struct pd_segment *segment = &core->segments[n];

	segment->prev = PD_NONE;
	segment->next = *list;
	if (*list != PD_NONE)
		core->segments[*list].prev = n;
	*list = n;
}

static void link_out(struct pd_core *core, uint32_t *list, uint32_t n)
{
	struct pd_segment *segment = &core->segments[n];

	if (segment->prev != PD_NONE)
		core->segments[segment->prev].next = segment->next;
	else
		*list = segment->next;
	if (segment->next != PD_NONE)
		core->segments[segment->next].prev = segment->prev;
}

/* ---- counts ---- */

static void count_clean(struct pd_core *core, uint32_t n)
{
	uint32_t user = core->segments[n].user;
	uint32_t *whose = &core->block_user[n / PD_BLOCK];

	core->clean_count++;
	set_bit(core->clean, n);
	if (user == PD_NONE) {
		core->fresh_count++;
		set_bit(core->fresh, n);
		return;
	}
	core->users[user].clean++;
	if (*whose == PD_NONE)
		*whose = user;
	else if (*whose != user)
		*whose = PD_MIXED;
}

static void uncount_clean(struct pd_core *core, uint32_t n)
{
	uint32_t user = core->segments[n].user;
	uint32_t at = n / PD_BLOCK;

	core->clean_count--;
	clear_bit(core->clean, n);
	if (user == PD_NONE) {
		core->fresh_count--;
		clear_bit(core->fresh, n);
		return;
	}
	core->users[user].clean--;
	if ((core->clean[at] & ~core->fresh[at]) == 0)
		core->block_user[at] = PD_NONE;
}

/* @one: 1, or -1 as an unsigned number. */
static void count_held(struct pd_core *core, const struct pd_segment *segment,
		       uint32_t one)
{
	struct pd_client *client = &core->clients[segment->client];
	bool lives = pd_lives(client);

	if (segment->state == PD_LEASED)
		client->leased += one;
	else
		client->parked += one;
	if (client->is_damaged) {
		core->damaged += one;
		return;
	}
	pd_quota_held(core, client, (int)one);
	if (!lives)
		core->quarantined += one;
	else if (segment->state == PD_LEASED)
		core->leased += one;
	else
		core->parked += one;
}

static void count(struct pd_core *core, const struct pd_segment *segment,
		  uint32_t one)
{
	switch (segment->state) {
	case PD_DIRTY:
		core->dirty += one;
		if (segment->user != PD_NONE)
			core->users[segment->user].dirty += one;
		break;
	case PD_REMAKING:
		core->remaking += one;
		break;
	case PD_LEASED:
	case PD_PARKED:
		count_held(core, segment, one);
		break;
	case PD_DAMAGED:
		core->damaged += one;
		break;
	default:
		break;
	}
}

static void rest_end(struct pd_core *core, uint32_t n)
{
	struct pd_segment *segment = &core->segments[n];

	if (segment->tries > 0) {
		core->resting--;
		link_out(core, &core->first_resting, n);
		if (core->resting == 0)
			core->rest_due_ms = 0;
	}
	segment->tries = 0;
	segment->due_ms = 0;
}

static void leave(struct pd_core *core, uint32_t n)
{
	struct pd_segment *segment = &core->segments[n];
	uint32_t *list = list_of(core, segment);

	if (list != NULL)
		link_out(core, list, n);
	if (segment->state == PD_CLEAN)
		uncount_clean(core, n);
	else
		count(core, segment, UINT32_MAX);
	rest_end(core, n);
	if (segment->user != PD_NONE)
		pd_user_unref(core, segment->user);
}

static void enter(struct pd_core *core, uint32_t n)
{
	struct pd_segment *segment = &core->segments[n];
	uint32_t *list = list_of(core, segment);

	if (list != NULL)
		link_in(core, list, n);
	if (segment->state == PD_CLEAN)
		count_clean(core, n);
	else
		count(core, segment, 1);
}

void pd_segment_load(struct pd_core *core, uint32_t n,
		     enum pd_segment_state state, uint32_t client,
		     uint32_t user)
{
	struct pd_segment *segment = &core->segments[n];

	/* The new reference first: the old one may be the user's last. */
	if (user != PD_NONE)
		core->users[user].refs++;
	if (segment->state != 0)
		leave(core, n);
	segment->state = state;
	segment->client = client;
	segment->user = user;
	enter(core, n);
}

void pd_segment_set(struct pd_core *core, uint32_t n,
		    enum pd_segment_state state, uint32_t client, uint32_t user)
{
	struct pd_segment_record record = {
		.state = state,
		.client = client,
		.user = user == PD_NONE ? PD_NO_USER : core->users[user].uid,
	};

	pd_journal_put_segment(core->journal, n, &record);
	pd_segment_load(core, n, state, client, user);
}

/* ---- cleaning ---- */

void pd_segment_dirty(struct pd_core *core, uint32_t n)
{
	pd_segment_set(core, n, PD_DIRTY, PD_NONE, core->segments[n].user);
	if (!core->is_lost)
		core->ops.scrub(core->owner, n);
}

void pd_segment_remake(struct pd_core *core, uint32_t n)
{
	pd_segment_set(core, n, PD_REMAKING, PD_NONE, core->segments[n].user);
	if (!core->is_lost)
		core->ops.remake(core->owner, n);
}

/* Remaking failed: another time, later each time. */
static void rest(struct pd_core *core, uint32_t n)
{
	struct pd_segment *segment = &core->segments[n];
	uint64_t pause = PD_REMAKE_REST_MS;

	if (segment->tries == 0) {
		core->resting++;
		link_in(core, &core->first_resting, n);
	}
	pause <<= segment->tries < 6 ? segment->tries : 6;
	segment->tries++;
	segment->due_ms = core->now_ms + pause;
	if (core->rest_due_ms == 0 || segment->due_ms < core->rest_due_ms)
		core->rest_due_ms = segment->due_ms;
}

void pd_segments_wake(struct pd_core *core)
{
	uint32_t n = core->first_resting;
	struct pd_segment *segment;

	if (core->rest_due_ms == 0 || core->rest_due_ms > core->now_ms)
		return;
	core->rest_due_ms = 0;
	for (; n != PD_NONE; n = segment->next) {
		segment = &core->segments[n];
		if (segment->due_ms == 0)
			continue;
		if (segment->due_ms <= core->now_ms && !core->is_lost) {
			segment->due_ms = 0;
			core->ops.remake(core->owner, n);
		} else if (core->rest_due_ms == 0 ||
			   segment->due_ms < core->rest_due_ms) {
			core->rest_due_ms = segment->due_ms;
		}
	}
}

static bool is_in(const struct pd_core *core, uint32_t n,
		  enum pd_segment_state state)
{
	return pd_is_computation(core, n) && core->segments[n].state == state;
}

void pd_core_scrubbed(struct pd_core *core, uint32_t n, enum ps_status status,
		      uint64_t now_ms)
{
	pd_core_set_time(core, now_ms);
	if (!is_in(core, n, PD_DIRTY))
		return;
	if (status == PS_DEVICE_LOST) {
		pd_core_lose(core);
		return;
	}
	if (status == PS_OK) {
		core->scrubs++;
		pd_segment_set(core, n, PD_CLEAN, PD_NONE,
			       core->segments[n].user);
	} else {
		pd_segment_remake(core, n);
	}
	pd_queue_serve(core);
}

void pd_core_remade(struct pd_core *core, uint32_t n, enum ps_status status,
		    uint64_t now_ms)
{
	pd_core_set_time(core, now_ms);
	/* Not while it rests: then nobody was asked to. */
	if (!is_in(core, n, PD_REMAKING) || core->segments[n].due_ms != 0)
		return;
	if (status == PS_DEVICE_LOST) {
		pd_core_lose(core);
		return;
	}
	if (status == PS_OK) {
		core->remakes++;
		pd_segment_set(core, n, PD_CLEAN, PD_NONE, PD_NONE);
	} else {
		rest(core, n);
	}
	pd_queue_serve(core);
}

/* ---- choosing ---- */

static uint64_t bits_of_user(const struct pd_core *core, uint32_t at,
			     uint32_t user)
{
	uint64_t left = core->clean[at] & ~core->fresh[at], bits = 0;
	uint32_t n;

	if (core->block_user[at] != PD_MIXED)
		return core->block_user[at] == user ? left : 0;
	for (; left != 0; left &= left - 1) {
		n = at * PD_BLOCK + (uint32_t)__builtin_ctzll(left);
		if (core->segments[n].user == user)
			bits |= left & -left;
	}
	return bits;
}

static uint32_t *choose_clean(struct pd_core *core, uint32_t user, bool own,
			      bool fresh, uint32_t count, uint32_t *to)
{
	uint32_t at;

	for (at = core->first / PD_BLOCK; at < core->words && count > 0; at++) {
		core->picks[at] = fresh ? core->fresh[at] : 0;
		if (own)
			core->picks[at] |= bits_of_user(core, at, user);
	}
	return choose(core, core->picks, count, to);
}

static uint32_t *choose_parked(struct pd_core *core,
			       const struct pd_client *client, uint32_t count,
			       uint32_t *to)
{
	uint32_t n;

	if (count == 0)
		return to;
	memset(core->picks, 0, core->words * sizeof(*core->picks));
	for (n = client->first_parked; n != PD_NONE; n = core->segments[n].next)
		set_bit(core->picks, n);
	return choose(core, core->picks, count, to);
}

static void lease(struct pd_core *core, const struct pd_client *client,
		  uint32_t *list, uint32_t number)
{
	uint32_t slot = pd_slot(core, client);
	uint32_t i;

	for (i = 0; i < number; i++) {
		bool parked = core->segments[list[i]].state == PD_PARKED;

		pd_segment_set(core, list[i], PD_LEASED, slot, client->user);
		if (parked)
			list[i] |= IP_SEGMENT_PARKED;
	}
}

void pd_segments_grant(struct pd_core *core, struct pd_client *client,
		       uint32_t parked, uint32_t own, uint32_t fresh, bool mix)
{
	uint32_t user = client->user, number = parked + own + fresh;
	uint32_t *list = core->chosen, *to = list;

	to = choose_parked(core, client, parked, to);
	if (mix) {
		to = choose_clean(core, user, true, true, own + fresh, to);
	} else {
		to = choose_clean(core, user, true, false, own, to);
		to = choose_clean(core, user, false, true, fresh, to);
	}
	assert(to == list + number);
	lease(core, client, list, number);
	core->grants++;
	core->ops.grant(core->owner, pd_slot(core, client), client->request.seq,
			list, number);
}

/* Whether this user can spare one more. */
static bool spares(struct pd_core *core, uint32_t whose)
{
	struct pd_user *other = pd_queue_claims(core, whose);

	if (other->marking != core->marking)
		other->marked = 0;
	other->marking = core->marking;
	if (other->claimed_clean + other->marked >= other->clean)
		return false;
	other->marked++;
	return true;
}

/* Marks the CLEAN ones of other users that those do not collect. */
static uint32_t mark_others(struct pd_core *core, uint32_t user)
{
	uint32_t n = core->first, marked = 0, whose;

	core->marking++;
	memset(core->picks, 0, core->words * sizeof(*core->picks));
	for (; (n = find_bit(core->clean, n, core->end, true)) < core->end;
	     n++) {
		whose = core->segments[n].user;
		if (whose == PD_NONE || whose == user || !spares(core, whose))
			continue;
		set_bit(core->picks, n);
		marked++;
	}
	return marked;
}

uint32_t pd_segments_convert(struct pd_core *core, uint32_t user, uint64_t most)
{
	uint32_t others =
		core->clean_count - core->fresh_count - core->users[user].clean;
	uint32_t number, i;

	if (most == 0 || others == 0)
		return 0;
	number = (uint32_t)pd_min(mark_others(core, user), most);
	choose(core, core->picks, number, core->chosen);
	for (i = 0; i < number; i++)
		pd_segment_remake(core, core->chosen[i]);
	return number;
}
