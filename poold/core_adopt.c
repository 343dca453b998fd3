/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A core from what the journal says. What cannot be believed is kept from
 * everybody: a segment of which no record is whole, one whose client the
 * journal does not know, and all that a client has whose record is damaged.
 */
#include "poold/core_internal.h"

static void adopt_client(struct pd_core *core, uint32_t slot)
{
	struct pd_client *client = &core->clients[slot];

	if (pd_journal_client(core->journal, slot, &client->record) != PS_OK) {
		client->is_damaged = true;
		client->presence = PD_DEAD;
		core->used_slots++;
		core->damaged_slots++;
		return;
	}
	if (!client->record.used)
		return;
	client->presence = PD_AWAY;
	client->user = pd_user_ref(core, client->record.uid);
	core->users[client->user].clients++;
	client->reserved = pd_segments_up(core, client->record.reservation);
	client->limit = pd_segments_down(core, client->record.limit);
	core->used_slots++;
	core->living++;
	pd_quota_join(core, client);
}

/* A damaged place that no segment refers to is as good as new. */
static void settle_client(struct pd_core *core, uint32_t slot)
{
	static const struct pd_client_record nobody;
	struct pd_client *client = &core->clients[slot];

	if (client->is_damaged && pd_held(client) == 0 && client->opened == 0) {
		pd_journal_put_client(core->journal, slot, &nobody);
		client->is_damaged = false;
		client->presence = PD_FREE_SLOT;
		core->used_slots--;
		core->damaged_slots--;
	}
	if (client->presence == PD_FREE_SLOT) {
		client->next = core->free_slot;
		core->free_slot = slot;
	}
}

static bool is_client(const struct pd_core *core, uint32_t slot)
{
	return slot < core->slots &&
	       core->clients[slot].presence != PD_FREE_SLOT;
}

static bool are_clients(const struct pd_core *core,
			const uint16_t openers[PD_OPENERS])
{
	uint32_t i;

	for (i = 0; i < PD_OPENERS; i++)
		if (openers[i] != PD_NO_OPENER && !is_client(core, openers[i]))
			return false;
	return true;
}

/* Nothing is open that nobody's user had; what a client has its user had. */
static bool is_user_believable(const struct pd_core *core,
			       const struct pd_segment_record *record)
{
	if (record->client == PD_NO_CLIENT)
		return record->state != PD_SHARED || record->user != PD_NO_USER;
	return is_client(core, record->client) &&
	       (core->clients[record->client].is_damaged ||
		core->clients[record->client].record.uid == record->user);
}

static bool is_believable(const struct pd_core *core,
			  const struct pd_segment_record *record)
{
	if (!are_clients(core, record->openers) ||
	    !is_user_believable(core, record))
		return false;
	return record->state != PD_PARAMETER && record->state != PD_DAMAGED;
}

static void adopt_openers(struct pd_core *core, struct pd_segment *segment,
			  const uint16_t openers[PD_OPENERS])
{
	uint32_t i;

	for (i = 0; i < PD_OPENERS; i++) {
		if (openers[i] == PD_NO_OPENER)
			continue;
		segment->openers[segment->opens++] = openers[i];
		core->clients[openers[i]].opened++;
	}
}

static void adopt_segment(struct pd_core *core, uint32_t n)
{
	struct pd_segment_record record = pd_journal_segment(core->journal, n);
	struct pd_segment *segment = &core->segments[n];
	uint32_t client = PD_NONE, user = PD_NONE;

	if (!is_believable(core, &record)) {
		pd_segment_load(core, n, PD_DAMAGED, PD_NONE, PD_NONE);
		return;
	}
	if (record.client != PD_NO_CLIENT)
		client = record.client;
	if (record.user != PD_NO_USER)
		user = pd_user_ref(core, record.user);
	segment->epoch = record.epoch;
	segment->is_tainted = record.is_tainted;
	adopt_openers(core, segment, record.openers);
	pd_segment_load(core, n, record.state, client, user);
	if (user != PD_NONE)
		pd_user_unref(core, user);
}

/* What was under way when the agent ended begins again. */
static void put_to_work(struct pd_core *core)
{
	uint32_t n;

	for (n = core->first; n < core->end; n++)
		if (core->segments[n].state == PD_DIRTY)
			core->ops.scrub(core->owner, n);
		else if (core->segments[n].state == PD_REMAKING)
			core->ops.remake(core->owner, n);
}

void pd_core_adopt(struct pd_core *core)
{
	uint32_t n, slot;

	for (slot = 0; slot < core->slots; slot++)
		adopt_client(core, slot);
	for (n = core->first; n < core->end; n++)
		adopt_segment(core, n);
	for (slot = core->slots; slot-- > 0;)
		settle_client(core, slot);
	put_to_work(core);
}
