/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The core's life, its clients, and the messages that they send. */
#include "poold/core.h"

#include <assert.h>
#include <string.h>

#include "base/status.h"
#include "poold/core_internal.h"

/* ---- life ---- */

static void begin_lists(struct pd_core *core, uint32_t users)
{
	uint32_t i;

	for (i = 0; i < core->slots; i++) {
		core->clients[i].first_leased = PD_NONE;
		core->clients[i].first_parked = PD_NONE;
		core->clients[i].first_outside = PD_NONE;
		core->clients[i].first_shared = PD_NONE;
	}
	for (i = 0; i < users; i++)
		core->users[i].next = i + 1 < users ? i + 1 : PD_NONE;
	for (i = 0; i < core->buckets; i++)
		core->bucket[i] = PD_NONE;
	for (i = 0; i < core->words; i++)
		core->block_user[i] = PD_NONE;
	core->free_slot = PD_NONE;
	core->first_resting = PD_NONE;
	core->queue_first = PD_NONE;
	core->queue_last = PD_NONE;
	core->recall_first = PD_NONE;
}

static void set_sizes(struct pd_core *core, const struct pd_pool_record *pool)
{
	core->unit = pool->segment_bytes;
	core->first = (uint32_t)(pool->parameter_bytes / pool->segment_bytes);
	core->end = pool->segments;
	core->slots = pool->clients;
	core->words = core->end / PD_BLOCK + 1;
	core->asked_words = core->slots / PD_BLOCK + 1;
	for (core->buckets = 64; core->buckets < core->end; core->buckets *= 2)
		;
}

/* Every segment, client and line in the limits may have a user of its own. */
static bool make_room(struct pd_core *core)
{
	uint32_t users = core->end + core->slots + PD_LIMIT_USERS;

	core->segments = calloc(core->end, sizeof(*core->segments));
	core->clients = calloc(core->slots, sizeof(*core->clients));
	core->users = calloc(users, sizeof(*core->users));
	core->bucket = calloc(core->buckets, sizeof(*core->bucket));
	core->clean = calloc(core->words, sizeof(*core->clean));
	core->fresh = calloc(core->words, sizeof(*core->fresh));
	core->block_user = calloc(core->words, sizeof(*core->block_user));
	core->picks = calloc(core->words, sizeof(*core->picks));
	core->chosen = calloc(core->end, sizeof(*core->chosen));
	core->asked = calloc((size_t)core->slots * 2 * core->asked_words,
			     sizeof(*core->asked));
	if (core->segments == NULL || core->clients == NULL ||
	    core->users == NULL || core->bucket == NULL ||
	    core->clean == NULL || core->fresh == NULL ||
	    core->block_user == NULL || core->picks == NULL ||
	    core->chosen == NULL || core->asked == NULL)
		return false;
	begin_lists(core, users);
	return true;
}

enum ps_status pd_core_new(const struct pd_core_config *config, uint64_t now_ms,
			   struct pd_core **core_out)
{
	struct pd_core *core = calloc(1, sizeof(*core));

	if (core == NULL)
		return bs_fail(PS_HOST_MEMORY, "no memory for the books");
	core->magic = PD_CORE_MAGIC;
	core->journal = config->journal;
	core->ops = config->ops;
	core->owner = config->owner;
	core->now_ms = now_ms;
	set_sizes(core, pd_journal_pool(core->journal));
	if (!make_room(core)) {
		bs_fail(PS_HOST_MEMORY,
			"no memory for the books of %u segments and %u clients",
			core->end, core->slots);
		pd_core_free(core);
		return PS_HOST_MEMORY;
	}
	pd_limits_init(&core->limits);
	pd_core_adopt(core);
	pd_quota_limits(core, &config->limits);
	*core_out = core;
	return PS_OK;
}

void pd_core_free(struct pd_core *core)
{
	if (core == NULL)
		return;
	assert(core->magic == PD_CORE_MAGIC);
	core->magic = 0;
	free(core->segments);
	free(core->clients);
	free(core->users);
	free(core->bucket);
	free(core->clean);
	free(core->fresh);
	free(core->block_user);
	free(core->picks);
	free(core->chosen);
	free(core->asked);
	free(core);
}

void pd_core_set_time(struct pd_core *core, uint64_t now_ms)
{
	if (now_ms > core->now_ms)
		core->now_ms = now_ms;
}

void pd_core_tick(struct pd_core *core, uint64_t now_ms)
{
	pd_core_set_time(core, now_ms);
	pd_segments_wake(core);
	pd_recalls_expire(core);
	pd_queue_serve(core);
}

void pd_core_set_limits(struct pd_core *core, const struct pd_limits *limits,
			uint64_t now_ms)
{
	pd_core_set_time(core, now_ms);
	pd_quota_limits(core, limits);
	pd_queue_serve(core);
}

void pd_core_drain(struct pd_core *core)
{
	core->is_draining = true;
	pd_queue_serve(core);
}

const char pd_lost_text[] =
	"the GPU is lost, and what was in its memory; attach again when the "
	"daemon has it back";

void pd_core_lose(struct pd_core *core)
{
	core->is_lost = true;
	pd_queue_deny_all(core, PS_DEVICE_LOST, pd_lost_text);
	while (core->recall_first != PD_NONE)
		pd_recall_end(core, &core->clients[core->recall_first]);
	pd_queue_arm(core);
}

/* ---- clients come ---- */

struct pd_client *pd_find_client(const struct pd_core *core, uint64_t id)
{
	uint32_t slot;

	for (slot = 0; slot < core->slots; slot++)
		if (core->clients[slot].record.used &&
		    core->clients[slot].record.id == id)
			return &core->clients[slot];
	return NULL;
}

static enum ps_status check_admission(const struct pd_core *core,
				      const struct pd_client_record *wanted)
{
	if (core->is_lost)
		return bs_fail(PS_DEVICE_LOST, "%s", pd_lost_text);
	if (core->is_draining)
		return bs_fail(PS_REFUSED,
			       "the daemon is draining and takes no new "
			       "clients; attach to another, or start it again");
	if (wanted->id == 0 || pd_find_client(core, wanted->id) != NULL)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "client %llu is known already; choose another "
			       "number",
			       (unsigned long long)wanted->id);
	return PS_OK;
}

enum ps_status pd_core_admit(struct pd_core *core,
			     const struct pd_client_record *wanted,
			     uint64_t now_ms, uint32_t *slot_out,
			     struct pd_client_record *granted_out)
{
	uint64_t reserved, limit;
	struct pd_client *client;
	enum ps_status status;
	uint32_t slot;

	pd_core_set_time(core, now_ms);
	status = check_admission(core, wanted);
	if (status == PS_OK)
		status = pd_quota_admit(core, wanted, &reserved, &limit);
	if (status != PS_OK)
		return status;
	slot = core->free_slot;
	client = &core->clients[slot];
	core->free_slot = client->next;
	client->presence = PD_HERE;
	client->record = *wanted;
	client->record.used = true;
	client->record.reservation = reserved * core->unit;
	client->record.limit = limit * core->unit;
	client->record.name[IP_NAME_BYTES - 1] = '\0';
	client->reserved = reserved;
	client->limit = limit;
	client->user = pd_user_ref(core, wanted->uid);
	core->users[client->user].clients++;
	core->used_slots++;
	core->living++;
	pd_journal_put_client(core->journal, slot, &client->record);
	pd_quota_join(core, client);
	*slot_out = slot;
	*granted_out = client->record;
	return PS_OK;
}

void pd_core_mark(struct pd_core *core, uint32_t slot, uint32_t flag)
{
	struct pd_client *client = &core->clients[slot];

	if (client->record.flags & flag)
		return;
	client->record.flags |= flag;
	pd_journal_put_client(core->journal, slot, &client->record);
}

/* Takes the same time wherever they differ. */
static bool is_token(const struct pd_client *client,
		     const uint8_t token[IP_TOKEN_BYTES])
{
	unsigned int differs = 0, i;

	for (i = 0; i < IP_TOKEN_BYTES; i++)
		differs |= client->record.token[i] ^ token[i];
	return differs == 0;
}

enum ps_status pd_core_resume(struct pd_core *core, uint64_t id,
			      const uint8_t token[IP_TOKEN_BYTES],
			      uint32_t *slot_out,
			      struct pd_client_record *granted_out)
{
	struct pd_client *client = pd_find_client(core, id);

	if (core->is_lost)
		return bs_fail(PS_DEVICE_LOST, "%s", pd_lost_text);
	if (client == NULL || !is_token(client, token))
		return bs_fail(PS_REFUSED,
			       "no client of this number and token is known "
			       "here; attach anew");
	if (client->presence != PD_AWAY)
		return bs_fail(PS_REFUSED, "client %llu %s; attach anew",
			       (unsigned long long)id,
			       client->presence == PD_HERE
				       ? "is connected already"
				       : "has ended");
	client->presence = PD_HERE;
	*slot_out = pd_slot(core, client);
	*granted_out = client->record;
	pd_queue_serve(core);
	return PS_OK;
}

/* ---- clients go ---- */

/* It asks for nothing and answers nothing any more. */
static void silence(struct pd_core *core, struct pd_client *client)
{
	pd_recall_end(core, client);
	pd_queue_drop(core, client);
}

void pd_core_away(struct pd_core *core, uint32_t slot, uint64_t now_ms)
{
	struct pd_client *client = &core->clients[slot];

	pd_core_set_time(core, now_ms);
	if (slot >= core->slots || client->presence != PD_HERE)
		return;
	silence(core, client);
	client->presence = PD_AWAY;
	pd_queue_serve(core);
}

/* What others have open of a dead client's comes back when they have closed
 * it, not behind its fence. */
static void bind(struct pd_core *core, const struct pd_client *client,
		 uint32_t list)
{
	for (; list != PD_NONE; list = core->segments[list].next)
		if (pd_segment_is_bound(core, list))
			pd_quota_bound(core, client->user, 1);
}

static void quarantine(struct pd_core *core, struct pd_client *client)
{
	silence(core, client);
	pd_quota_part(core, client);
	client->presence = PD_DEAD;
	core->living--;
	core->leased -= client->leased;
	core->parked -= client->parked;
	core->outside -= client->outside;
	core->charged -= client->shared;
	core->quarantined += pd_held(client);
	core->users[client->user].quarantined += pd_held(client);
	bind(core, client, client->first_leased);
	bind(core, client, client->first_parked);
	bind(core, client, client->first_shared);
}

void pd_core_dead(struct pd_core *core, uint32_t slot, uint64_t now_ms)
{
	pd_core_set_time(core, now_ms);
	if (slot >= core->slots || !pd_lives(&core->clients[slot]))
		return;
	quarantine(core, &core->clients[slot]);
	pd_queue_serve(core);
}

/* Somebody may still have it mapped who is not known: only remaking helps. */
static void release(struct pd_core *core, uint32_t *list, bool safe)
{
	while (*list != PD_NONE) {
		if (!safe)
			core->segments[*list].is_tainted = true;
		pd_segment_dirty(core, *list);
	}
}

/* Its segments have gone; in the journal its name goes last. */
static void forget(struct pd_core *core, struct pd_client *client)
{
	uint32_t slot = pd_slot(core, client);

	client->record = (struct pd_client_record){ 0 };
	pd_journal_put_client(core->journal, slot, &client->record);
	client->presence = PD_FREE_SLOT;
	core->users[client->user].clients--;
	pd_user_unref(core, client->user);
	core->used_slots--;
	client->next = core->free_slot;
	core->free_slot = slot;
}

void pd_core_reclaim(struct pd_core *core, uint32_t slot, bool safe,
		     uint64_t now_ms)
{
	struct pd_client *client = &core->clients[slot];

	pd_core_set_time(core, now_ms);
	if (slot >= core->slots || client->presence == PD_FREE_SLOT ||
	    client->is_damaged)
		return;
	if (client->presence == PD_DEAD)
		core->reclaims++;
	else
		quarantine(core, client);
	release(core, &client->first_leased, safe);
	release(core, &client->first_parked, safe);
	release(core, &client->first_outside, true);
	/* Given back, so unmapped, long ago. */
	release(core, &client->first_shared, true);
	pd_share_close_all(core, slot, safe);
	forget(core, client);
	pd_queue_serve(core);
}

/* ---- requests ---- */

enum ps_status pd_check_here(const struct pd_core *core, uint32_t slot)
{
	if (slot >= core->slots || core->clients[slot].presence != PD_HERE)
		return bs_fail(PS_PROTOCOL,
			       "place %u has no client that is attached", slot);
	return PS_OK;
}

static enum ps_status check_take(const struct pd_core *core, uint32_t slot,
				 const struct ip_take *take)
{
	enum ps_status status = pd_check_here(core, slot);

	if (status != PS_OK)
		return status;
	if (core->clients[slot].request.waits)
		return bs_fail(PS_PROTOCOL,
			       "TAKE %u came before the answer to TAKE %u",
			       take->seq, core->clients[slot].request.seq);
	if (take->count == 0 || take->count > IP_SEGMENTS_MAX ||
	    take->wait_ms > IP_WAIT_MAX_MS ||
	    (take->flags != 0 && take->flags != IP_TAKE_SOME &&
	     take->flags != IP_TAKE_OUTSIDE))
		return bs_fail(PS_PROTOCOL,
			       "TAKE %u asks for %u segments within %u ms, "
			       "flags %#x; at most %u within %u ms",
			       take->seq, take->count, take->wait_ms,
			       take->flags, IP_SEGMENTS_MAX, IP_WAIT_MAX_MS);
	return PS_OK;
}

enum ps_status pd_core_take(struct pd_core *core, uint32_t slot,
			    const struct ip_take *take, uint64_t now_ms)
{
	enum ps_status status;

	pd_core_set_time(core, now_ms);
	status = check_take(core, slot, take);
	if (status != PS_OK)
		return status;
	if (core->is_lost) {
		core->denials++;
		core->ops.deny(core->owner, slot, take->seq, PS_DEVICE_LOST,
			       pd_lost_text);
		return PS_OK;
	}
	pd_queue_add(core, &core->clients[slot], take);
	pd_queue_serve(core);
	return PS_OK;
}

/* As far as it was told. @outside: one that is counts too. */
static bool has(const struct pd_core *core, uint32_t slot, uint32_t n,
		bool outside)
{
	const struct pd_segment *segment = &core->segments[n];

	if (!pd_is_computation(core, n) || segment->client != slot)
		return false;
	return segment->state == PD_LEASED || segment->state == PD_PARKED ||
	       (outside && segment->state == PD_OUTSIDE &&
		!segment->is_pending);
}

/* Each is the client's, and none comes twice. */
static enum ps_status check_list(struct pd_core *core, uint32_t slot,
				 const struct ip_list *list, bool outside)
{
	enum ps_status status = pd_check_here(core, slot);
	uint32_t i, n;

	if (status != PS_OK)
		return status;
	if (list->count > IP_LIST_MAX)
		return bs_fail(PS_PROTOCOL, "a list of %u segments; at most %u",
			       list->count, IP_LIST_MAX);
	core->stamp++;
	for (i = 0; i < list->count; i++) {
		n = list->segment[i];
		if (!has(core, slot, n, outside))
			return bs_fail(PS_PROTOCOL,
				       "segment %u is not this client's", n);
		if (core->segments[n].stamp == core->stamp)
			return bs_fail(PS_PROTOCOL,
				       "segment %u comes twice in a list", n);
		core->segments[n].stamp = core->stamp;
	}
	return PS_OK;
}

static void give_back(struct pd_core *core, const struct ip_list *list)
{
	uint32_t i;

	for (i = 0; i < list->count; i++)
		pd_segment_dirty(core, list->segment[i]);
}

static void park(struct pd_core *core, uint32_t slot,
		 const struct ip_list *list)
{
	uint32_t i, n;

	for (i = 0; i < list->count; i++) {
		n = list->segment[i];
		if (core->segments[n].state == PD_LEASED)
			pd_segment_set(core, n, PD_PARKED, slot,
				       core->clients[slot].user);
	}
}

enum ps_status pd_core_give(struct pd_core *core, uint32_t slot,
			    const struct ip_list *list, uint64_t now_ms)
{
	bool parked = (list->flags & IP_LIST_PARKED) != 0;
	enum ps_status status;

	pd_core_set_time(core, now_ms);
	status = check_list(core, slot, list, !parked);
	if (status != PS_OK)
		return status;
	if (list->count == 0)
		return bs_fail(PS_PROTOCOL, "GIVE of no segment");
	if (parked)
		park(core, slot, list);
	else
		give_back(core, list);
	pd_queue_serve(core);
	return PS_OK;
}

enum ps_status pd_core_recalled(struct pd_core *core, uint32_t slot,
				const struct ip_list *list, uint64_t now_ms)
{
	struct pd_client *client = &core->clients[slot];
	enum ps_status status;

	pd_core_set_time(core, now_ms);
	status = check_list(core, slot, list, false);
	if (status != PS_OK)
		return status;
	give_back(core, list);
	if (list->seq == client->recall.seq && !(list->flags & IP_LIST_MORE))
		pd_recall_end(core, client);
	pd_queue_serve(core);
	return PS_OK;
}

static enum ps_status need_leased(const struct pd_core *core, uint32_t slot,
				  uint32_t first, uint32_t end)
{
	uint32_t n;

	for (n = first; n < end; n++)
		if (core->segments[n].client != slot ||
		    core->segments[n].state != PD_LEASED)
			return bs_fail(PS_PERMISSION,
				       "segment %u is not leased to this "
				       "client",
				       n);
	return PS_OK;
}

/* A model's are given with the model only, and what it left behind to who
 * could read it. */
static enum ps_status need_parameter(const struct pd_core *core, uint32_t n,
				     uint32_t uid)
{
	struct pd_segment_record record = pd_journal_segment(core->journal, n);

	if (record.model != PD_NO_MODEL)
		return bs_fail(PS_REFUSED,
			       "a model lies in segment %u of the parameter "
			       "region; attach to the model, or have it "
			       "evicted (poolswitch model list)",
			       n);
	if (record.state != PD_PARAMETER ||
	    (record.user != PD_NO_USER && record.user != PD_ANY_USER &&
	     record.user != uid))
		return bs_fail(PS_REFUSED,
			       "segment %u of the parameter region has a model "
			       "of another user's in it, or its record in the "
			       "journal is damaged",
			       n);
	return PS_OK;
}

static enum ps_status need_parameters(const struct pd_core *core, uint32_t slot,
				      uint32_t first, uint32_t end)
{
	uint32_t uid = core->clients[slot].record.uid;
	enum ps_status status = PS_OK;
	uint32_t n;

	for (n = first; n < end && status == PS_OK; n++)
		status = need_parameter(core, n, uid);
	return status;
}

enum ps_status pd_core_need(const struct pd_core *core, uint32_t slot,
			    const struct ip_need *need, bool *write_out)
{
	uint32_t end = need->first + need->count;
	enum ps_status status = pd_check_here(core, slot);

	if (status != PS_OK)
		return status;
	if (need->count == 0 || need->first >= core->end ||
	    need->count > core->end - need->first ||
	    (need->first < core->first && end > core->first))
		return bs_fail(PS_OUT_OF_RANGE,
			       "%u segments from %u on are not in one region: "
			       "parameters end at %u, the pool at %u",
			       need->count, need->first, core->first,
			       core->end);
	if (end > core->first)
		status = need_leased(core, slot, need->first, end);
	else
		status = need_parameters(core, slot, need->first, end);
	if (status != PS_OK)
		return status;
	*write_out = end > core->first ||
		     (core->clients[slot].record.flags & IP_ATTACH_WRITE) != 0;
	return PS_OK;
}

/* ---- questions ---- */

/* The segment with what HELD says of it; PD_NONE: it is not in there. */
static uint32_t held_entry(const struct pd_core *core, uint32_t slot,
			   uint32_t n)
{
	if (pd_core_has_open(core, slot, n))
		return n | IP_SEGMENT_OPENED;
	if (!has(core, slot, n, true))
		return PD_NONE;
	if (core->segments[n].state == PD_PARKED)
		return n | IP_SEGMENT_PARKED;
	if (core->segments[n].state == PD_OUTSIDE)
		return n | IP_SEGMENT_OUTSIDE;
	return n;
}

uint32_t pd_core_held(const struct pd_core *core, uint32_t slot, uint32_t from,
		      uint32_t *segments_out, uint32_t room)
{
	uint32_t n = from > core->first ? from : core->first, count = 0, entry;

	for (; n < core->end; n++) {
		entry = held_entry(core, slot, n);
		if (entry == PD_NONE)
			continue;
		if (count < room)
			segments_out[count] = entry;
		count++;
	}
	return count;
}

void pd_core_totals(const struct pd_core *core, struct pd_totals *totals_out)
{
	uint64_t unit = core->unit;

	*totals_out = (struct pd_totals){
		.parameter = core->first * unit,
		.computation = (core->end - core->first) * unit,
		.clean = core->clean_count * unit,
		.dirty = core->dirty * unit,
		.remaking = core->remaking * unit,
		.leased = core->leased * unit,
		.parked = core->parked * unit,
		.outside = core->outside * unit,
		.quarantined = pd_kept(core) * unit,
		.guaranteed = core->promised * unit,
		.clients = core->used_slots - core->damaged_slots,
		.grants = core->grants,
		.denials = core->denials,
		.recalls = core->recalls,
		.reclaims = core->reclaims,
		.scrubs = core->scrubs,
		.remakes = core->remakes,
	};
}

bool pd_core_client(const struct pd_core *core, uint32_t slot,
		    struct pd_client_view *view_out)
{
	const struct pd_client *client = &core->clients[slot];

	if (slot >= core->slots || client->presence == PD_FREE_SLOT ||
	    client->is_damaged)
		return false;
	*view_out = (struct pd_client_view){
		.slot = slot,
		.presence = client->presence,
		.record = client->record,
		.leased = client->leased * core->unit,
		.parked = client->parked * core->unit,
		.outside = client->outside * core->unit,
		.opened = client->opened * core->unit,
		.waits = client->request.waits,
	};
	return true;
}

bool pd_core_is_empty(const struct pd_core *core)
{
	return core->living == 0;
}
