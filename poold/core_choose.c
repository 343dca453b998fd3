/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which segments a grant takes: neighbours where that is possible.
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

/* ---- grants ---- */

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
		pd_set_bit(core->picks, n);
	return choose(core, core->picks, count, to);
}

static void lease(struct pd_core *core, const struct pd_client *client,
		  uint32_t *list, uint32_t number)
{
	uint32_t slot = pd_slot(core, client);
	uint32_t i;

	for (i = 0; i < number; i++) {
		struct pd_segment *segment = &core->segments[list[i]];
		bool parked = segment->state == PD_PARKED;

		/* 0 is no lease's. */
		if (++segment->epoch == 0)
			segment->epoch = 1;
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
		pd_set_bit(core->picks, n);
		marked++;
	}
	return marked;
}

const uint32_t *pd_segments_pick(struct pd_core *core,
				 const struct pd_client *client, uint32_t count,
				 uint64_t own)
{
	uint32_t *to = core->chosen, user = client->user, left = count, part;

	part = (uint32_t)pd_min(mark_others(core, user), left);
	to = choose(core, core->picks, part, to);
	left -= part;
	part = (uint32_t)pd_min(own, left);
	to = choose_clean(core, user, true, false, part, to);
	left -= part;
	to = choose_clean(core, user, false, true, left, to);
	assert(to == core->chosen + count);
	return core->chosen;
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
