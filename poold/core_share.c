/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Segments that more than one client has mapped: by tickets, within one user;
 * and those that were exported, which anybody may have.
 *
 * A ticket is good for one lease: it names the segments' epochs, which grow
 * with each. What it names is looked up again whenever it is opened, so a
 * ticket needs no entry here and none has to be taken back.
 *
 * Invariants
 *   Who has a segment open is of its owner's user, and in the journal before
 *   its descriptor leaves.
 *   A segment is free only when nobody has it open any more.
 */
#include "poold/core_internal.h"

#include <inttypes.h>
#include <zlib.h>

#include "base/status.h"

/* Offsets and sizes in tickets are multiples of it. */
#define GRAIN 512u

static enum ps_status check_client(const struct pd_core *core, uint32_t slot)
{
	enum ps_status status = pd_check_here(core, slot);

	if (status == PS_OK && core->is_lost)
		status = bs_fail(PS_DEVICE_LOST, "%s", pd_lost_text);
	return status;
}

/* ---- what is leased ---- */

static bool is_leased(const struct pd_core *core, uint32_t slot, uint32_t n)
{
	return pd_is_computation(core, n) &&
	       core->segments[n].state == PD_LEASED &&
	       core->segments[n].client == slot;
}

enum ps_status pd_core_export(struct pd_core *core, uint32_t slot, uint32_t n)
{
	enum ps_status status = check_client(core, slot);

	if (status != PS_OK)
		return status;
	if (!is_leased(core, slot, n))
		return bs_fail(PS_PERMISSION,
			       "segment %" PRIu32
			       " is not leased to this client, so it cannot "
			       "export it",
			       n);
	if (core->segments[n].is_tainted)
		return PS_OK;
	core->segments[n].is_tainted = true;
	pd_segment_note(core, n);
	return PS_OK;
}

/* ---- runs ---- */

static bool overlap(const struct ip_run *a, const struct ip_run *b)
{
	return a->first < b->first + b->count && b->first < a->first + a->count;
}

/* Each inside of the pool, none twice. */
static bool are_runs(const struct pd_core *core, const struct ip_run *run,
		     uint32_t count)
{
	uint32_t i, k;

	if (count == 0 || count > IP_TICKET_RUNS)
		return false;
	for (i = 0; i < count; i++) {
		if (run[i].count == 0 || run[i].first >= core->end ||
		    run[i].count > core->end - run[i].first)
			return false;
		for (k = 0; k < i; k++)
			if (overlap(&run[i], &run[k]))
				return false;
	}
	return true;
}

/* In order; returns how many. pre: are_runs(). */
static uint32_t spread(const struct ip_run *run, uint32_t count, uint32_t *to)
{
	uint32_t i, k, number = 0;

	for (i = 0; i < count; i++)
		for (k = 0; k < run[i].count; k++)
			to[number++] = run[i].first + k;
	return number;
}

static bool fits(const struct pd_core *core, uint32_t segments, uint64_t offset,
		 uint64_t bytes)
{
	return offset % GRAIN == 0 && bytes % GRAIN == 0 && bytes > 0 &&
	       offset < core->unit && bytes <= segments * core->unit - offset;
}

/* The first that is not leased to the client; PD_NONE: all are. */
static uint32_t not_leased(const struct pd_core *core, uint32_t slot,
			   const uint32_t *list, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (!is_leased(core, slot, list[i]))
			return list[i];
	return PD_NONE;
}

static uint32_t epochs_of(const struct pd_core *core, const uint32_t *list,
			  uint32_t count)
{
	uLong crc = crc32(0, NULL, 0);
	uint32_t i;

	for (i = 0; i < count; i++)
		crc = crc32(crc, (const Bytef *)&core->segments[list[i]].epoch,
			    sizeof(core->segments[list[i]].epoch));
	return (uint32_t)crc;
}

/* ---- issuing ---- */

enum ps_status pd_core_issue(const struct pd_core *core, uint32_t slot,
			     const struct ip_issue *issue,
			     struct pd_grant_of *grant_out)
{
	enum ps_status status = check_client(core, slot);
	uint32_t *list = core->chosen, count, n, i;

	if (status != PS_OK)
		return status;
	if (!are_runs(core, issue->run, issue->run_count))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the %" PRIu32 " runs of a ticket are not all "
			       "inside of the pool's %" PRIu32
			       " segments, or overlap; name each segment once",
			       issue->run_count, core->end);
	count = spread(issue->run, issue->run_count, list);
	if (!fits(core, count, issue->offset, issue->bytes))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%" PRIu64 " bytes from %" PRIu64
			       " on are not in a ticket's %" PRIu32
			       " segments of %" PRIu64 ", in steps of %u",
			       issue->bytes, issue->offset, count, core->unit,
			       GRAIN);
	n = not_leased(core, slot, list, count);
	if (n != PD_NONE)
		return bs_fail(PS_PERMISSION,
			       "segment %" PRIu32
			       " is not leased to this client, so it can give "
			       "no ticket for it",
			       n);
	*grant_out = (struct pd_grant_of){
		.owner = core->clients[slot].record.id,
		.epochs = epochs_of(core, list, count),
		.run_count = issue->run_count,
		.offset = issue->offset,
		.bytes = issue->bytes,
	};
	for (i = 0; i < issue->run_count; i++)
		grant_out->run[i] = issue->run[i];
	return PS_OK;
}

/* ---- who has what open ---- */

/* PD_OPENERS: the client is none of them. */
static uint32_t find_opener(const struct pd_segment *segment, uint32_t slot)
{
	uint32_t i;

	for (i = 0; i < segment->opens; i++)
		if (segment->openers[i] == slot)
			return i;
	return PD_OPENERS;
}

bool pd_core_has_open(const struct pd_core *core, uint32_t slot, uint32_t n)
{
	return pd_is_computation(core, n) &&
	       find_opener(&core->segments[n], slot) < PD_OPENERS;
}

static void add_opener(struct pd_core *core, uint32_t slot, uint32_t n)
{
	struct pd_segment *segment = &core->segments[n];

	if (pd_core_has_open(core, slot, n))
		return;
	segment->openers[segment->opens++] = (uint16_t)slot;
	core->clients[slot].opened++;
	pd_segment_note(core, n);
}

/* pre: it has it open. */
static void drop_opener(struct pd_core *core, uint32_t slot, uint32_t n)
{
	struct pd_segment *segment = &core->segments[n];
	bool was_bound = pd_segment_is_bound(core, n);
	uint32_t at = find_opener(segment, slot);

	segment->openers[at] = segment->openers[--segment->opens];
	core->clients[slot].opened--;
	if (was_bound && !pd_segment_is_bound(core, n))
		pd_quota_bound(core, segment->user, -1);
	if (segment->state == PD_SHARED && segment->opens == 0)
		pd_segment_dirty(core, n);
	else
		pd_segment_note(core, n);
}

/* ---- opening ---- */

/* Of a living client of the same user, which still has the same lease. */
static bool is_good(const struct pd_core *core, const struct pd_client *client,
		    const struct pd_client *owner,
		    const struct pd_grant_of *grant, uint32_t *list,
		    uint32_t *count_out)
{
	uint32_t count;

	if (owner == NULL || !pd_lives(owner) || owner->user != client->user ||
	    !are_runs(core, grant->run, grant->run_count))
		return false;
	count = spread(grant->run, grant->run_count, list);
	if (!fits(core, count, grant->offset, grant->bytes) ||
	    not_leased(core, pd_slot(core, owner), list, count) != PD_NONE ||
	    epochs_of(core, list, count) != grant->epochs)
		return false;
	*count_out = count;
	return true;
}

static enum ps_status check_openers(const struct pd_core *core, uint32_t slot,
				    const uint32_t *list, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (core->segments[list[i]].opens == PD_OPENERS &&
		    !pd_core_has_open(core, slot, list[i]))
			return bs_fail(PS_REFUSED,
				       "%u clients have segment %" PRIu32
				       " open, which is as many as may; let "
				       "one of them close it",
				       PD_OPENERS, list[i]);
	return PS_OK;
}

enum ps_status pd_core_open(struct pd_core *core, uint32_t slot,
			    const struct pd_grant_of *grant,
			    uint32_t *segments_out, uint32_t *count_out)
{
	const struct pd_client *owner = pd_find_client(core, grant->owner);
	enum ps_status status = check_client(core, slot);
	uint32_t *list = core->chosen, count, i;

	if (status != PS_OK)
		return status;
	if (owner == &core->clients[slot])
		return bs_fail(PS_NOT_OURS, "the ticket is of this client's "
					    "own memory; use its address");
	if (!is_good(core, &core->clients[slot], owner, grant, list, &count))
		return bs_fail(PS_REFUSED,
			       "the ticket is no longer good: its owner has "
			       "gone, has given the memory back, or is another "
			       "user's; ask for a new one");
	status = check_openers(core, slot, list, count);
	if (status != PS_OK)
		return status;
	for (i = 0; i < count; i++) {
		add_opener(core, slot, list[i]);
		segments_out[i] = list[i];
	}
	*count_out = count;
	return PS_OK;
}

/* ---- closing ---- */

static enum ps_status check_close(struct pd_core *core, uint32_t slot,
				  const struct ip_list *list)
{
	enum ps_status status = pd_check_here(core, slot);
	uint32_t i, n;

	if (status != PS_OK)
		return status;
	if (list->count == 0 || list->count > IP_LIST_MAX)
		return bs_fail(PS_PROTOCOL,
			       "CLOSE of %" PRIu32 " segments; 1 to %u",
			       list->count, IP_LIST_MAX);
	core->stamp++;
	for (i = 0; i < list->count; i++) {
		n = list->segment[i];
		if (!pd_core_has_open(core, slot, n))
			return bs_fail(PS_PROTOCOL,
				       "segment %" PRIu32
				       " is not open by this client",
				       n);
		if (core->segments[n].stamp == core->stamp)
			return bs_fail(
				PS_PROTOCOL,
				"segment %" PRIu32 " comes twice in CLOSE", n);
		core->segments[n].stamp = core->stamp;
	}
	return PS_OK;
}

enum ps_status pd_core_close(struct pd_core *core, uint32_t slot,
			     const struct ip_list *list, uint64_t now_ms)
{
	enum ps_status status;
	uint32_t i;

	pd_core_set_time(core, now_ms);
	status = check_close(core, slot, list);
	if (status != PS_OK)
		return status;
	for (i = 0; i < list->count; i++)
		drop_opener(core, slot, list->segment[i]);
	pd_queue_serve(core);
	return PS_OK;
}

void pd_share_close_all(struct pd_core *core, uint32_t slot, bool safe)
{
	uint32_t n;

	for (n = core->first; n < core->end && core->clients[slot].opened > 0;
	     n++) {
		if (!pd_core_has_open(core, slot, n))
			continue;
		if (!safe)
			core->segments[n].is_tainted = true;
		drop_opener(core, slot, n);
	}
}
