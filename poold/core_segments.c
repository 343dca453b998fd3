/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The states of segments, and all counts, lists and bitmaps that follow from
 * them.
 */
#include "poold/core_internal.h"

/* ---- lists ---- */

/* NULL: a segment in this state is in no list. */
static uint32_t *list_of(struct pd_core *core, const struct pd_segment *segment)
{
	switch (segment->state) {
	case PD_LEASED:
		return &core->clients[segment->client].first_leased;
	case PD_PARKED:
		return &core->clients[segment->client].first_parked;
	case PD_OUTSIDE:
		return &core->clients[segment->client].first_outside;
	case PD_SHARED:
		if (segment->client == PD_NONE)
			return NULL;
		return &core->clients[segment->client].first_shared;
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
	pd_set_bit(core->clean, n);
	if (user == PD_NONE) {
		core->fresh_count++;
		pd_set_bit(core->fresh, n);
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
	pd_clear_bit(core->clean, n);
	if (user == PD_NONE) {
		core->fresh_count--;
		pd_clear_bit(core->fresh, n);
		return;
	}
	core->users[user].clean--;
	if ((core->clean[at] & ~core->fresh[at]) == 0)
		core->block_user[at] = PD_NONE;
}

/* @of_client, @of_core: which count a segment in this state is in. */
static void find_counts(struct pd_core *core, enum pd_segment_state state,
			struct pd_client *client, uint32_t **of_client,
			uint32_t **of_core)
{
	switch (state) {
	case PD_LEASED:
		*of_client = &client->leased;
		*of_core = &core->leased;
		break;
	case PD_PARKED:
		*of_client = &client->parked;
		*of_core = &core->parked;
		break;
	case PD_OUTSIDE:
		*of_client = &client->outside;
		*of_core = &core->outside;
		break;
	default:
		*of_client = &client->shared;
		*of_core = &core->charged;
		break;
	}
}

/* @one: 1, or -1 as an unsigned number. */
static void count_held(struct pd_core *core, const struct pd_segment *segment,
		       uint32_t one)
{
	struct pd_client *client = &core->clients[segment->client];
	uint32_t *of_client, *of_core;

	find_counts(core, segment->state, client, &of_client, &of_core);
	*of_client += one;
	if (client->is_damaged) {
		core->damaged += one;
		return;
	}
	pd_quota_held(core, client, (int)one);
	if (pd_lives(client))
		*of_core += one;
	else
		core->quarantined += one;
}

static void count_shared(struct pd_core *core, const struct pd_segment *segment,
			 uint32_t one)
{
	if (segment->client != PD_NONE) {
		count_held(core, segment, one);
		return;
	}
	core->shared += one;
	core->users[segment->user].shared += one;
}

bool pd_segment_is_bound(const struct pd_core *core, uint32_t n)
{
	const struct pd_segment *segment = &core->segments[n];
	const struct pd_client *client;

	if (segment->opens == 0 || segment->client == PD_NONE)
		return segment->opens > 0;
	client = &core->clients[segment->client];
	return !client->is_damaged && !pd_lives(client);
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
	case PD_OUTSIDE:
		count_held(core, segment, one);
		break;
	case PD_SHARED:
		count_shared(core, segment, one);
		break;
	case PD_DAMAGED:
		core->damaged += one;
		break;
	default:
		break;
	}
}

/* ---- rest ---- */

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

/* ---- changes ---- */

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
	if (pd_segment_is_bound(core, n))
		pd_quota_bound(core, segment->user, -1);
	rest_end(core, n);
	segment->is_pending = false;
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
	if (pd_segment_is_bound(core, n))
		pd_quota_bound(core, segment->user, 1);
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

static void write_down(struct pd_core *core, uint32_t n,
		       enum pd_segment_state state, uint32_t client,
		       uint32_t user)
{
	const struct pd_segment *segment = &core->segments[n];
	struct pd_segment_record record = {
		.state = state,
		.client = client,
		.user = user == PD_NONE ? PD_NO_USER : core->users[user].uid,
		.epoch = segment->epoch,
		.is_tainted = segment->is_tainted,
	};
	uint32_t i;

	for (i = 0; i < PD_OPENERS; i++)
		record.openers[i] =
			i < segment->opens ? segment->openers[i] : PD_NO_OPENER;
	pd_journal_put_segment(core->journal, n, &record);
}

void pd_segment_set(struct pd_core *core, uint32_t n,
		    enum pd_segment_state state, uint32_t client, uint32_t user)
{
	write_down(core, n, state, client, user);
	pd_segment_load(core, n, state, client, user);
}

void pd_segment_note(struct pd_core *core, uint32_t n)
{
	const struct pd_segment *segment = &core->segments[n];

	write_down(core, n, segment->state, segment->client, segment->user);
}

/* ---- cleaning ---- */

/* Who gave it back is charged with it while he lives. */
static void share(struct pd_core *core, uint32_t n)
{
	uint32_t client = core->segments[n].client;

	if (client != PD_NONE && !pd_lives(&core->clients[client]))
		client = PD_NONE;
	pd_segment_set(core, n, PD_SHARED, client, core->segments[n].user);
}

void pd_segment_dirty(struct pd_core *core, uint32_t n)
{
	const struct pd_segment *segment = &core->segments[n];

	if (segment->opens > 0) {
		share(core, n);
		return;
	}
	if (segment->is_tainted || segment->state == PD_OUTSIDE) {
		pd_segment_remake(core, n);
		return;
	}
	pd_segment_set(core, n, PD_DIRTY, PD_NONE, segment->user);
	if (!core->is_lost)
		core->ops.scrub(core->owner, n);
}

void pd_segment_remake(struct pd_core *core, uint32_t n)
{
	const struct pd_segment *segment = &core->segments[n];

	pd_segment_set(core, n, PD_REMAKING, PD_NONE, segment->user);
	/* Else when what is under way is done. */
	if (!core->is_lost && !segment->is_vacating)
		core->ops.remake(core->owner, n);
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
	/* Not while it rests or is still vacated: then nobody was asked to. */
	if (!is_in(core, n, PD_REMAKING) || core->segments[n].due_ms != 0 ||
	    core->segments[n].is_vacating)
		return;
	if (status == PS_DEVICE_LOST) {
		pd_core_lose(core);
		return;
	}
	if (status == PS_OK) {
		core->remakes++;
		core->segments[n].is_tainted = false;
		pd_segment_set(core, n, PD_CLEAN, PD_NONE, PD_NONE);
	} else {
		rest(core, n);
	}
	pd_queue_serve(core);
}
