/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The validator: counts everything again, from the segments and clients
 * alone, and compares with what the core keeps and the journal says.
 */
#include "poold/core_internal.h"

#include <string.h>

#include "base/status.h"

static enum ps_status wrong(const char *what, uint64_t at, uint64_t is,
			    uint64_t should)
{
	return bs_fail(PS_INVALID_ARGUMENT,
		       "%s (%llu): %llu, should be %llu; the core is broken",
		       what, (unsigned long long)at, (unsigned long long)is,
		       (unsigned long long)should);
}

#define EXPECT(what, at, is, should)                                           \
	do {                                                                   \
		if ((uint64_t)(is) != (uint64_t)(should))                      \
			return wrong(what, at, (uint64_t)(is),                 \
				     (uint64_t)(should));                      \
	} while (0)

/* ---- segments ---- */

static enum ps_status check_journal(const struct pd_core *core, uint32_t n)
{
	const struct pd_segment *segment = &core->segments[n];
	struct pd_segment_record record = pd_journal_segment(core->journal, n);
	uint32_t user = PD_NO_USER, opener, i;

	/* Nothing is written over what cannot be believed. */
	if (segment->state == PD_DAMAGED)
		return PS_OK;
	if (segment->user != PD_NONE)
		user = core->users[segment->user].uid;
	EXPECT("journal: state of segment", n, record.state, segment->state);
	EXPECT("journal: client of segment", n, record.client, segment->client);
	EXPECT("journal: user of segment", n, record.user, user);
	EXPECT("journal: epoch of segment", n, record.epoch, segment->epoch);
	EXPECT("journal: segment is tainted", n, record.is_tainted,
	       segment->is_tainted);
	for (i = 0; i < PD_OPENERS; i++) {
		opener =
			i < segment->opens ? segment->openers[i] : PD_NO_OPENER;
		EXPECT("journal: opener of segment", n, record.openers[i],
		       opener);
	}
	return PS_OK;
}

static bool bit(const uint64_t *bits, uint32_t n)
{
	return bits[n / PD_BLOCK] >> n % PD_BLOCK & 1;
}

static enum ps_status check_bits(const struct pd_core *core, uint32_t n)
{
	const struct pd_segment *segment = &core->segments[n];
	bool clean = segment->state == PD_CLEAN;
	bool fresh = clean && segment->user == PD_NONE;
	uint32_t whose = core->block_user[n / PD_BLOCK];

	EXPECT("segment is clean", n, bit(core->clean, n), clean);
	EXPECT("segment is fresh", n, bit(core->fresh, n), fresh);
	if (clean && !fresh && whose != PD_MIXED)
		EXPECT("user of a block", n, whose, segment->user);
	return PS_OK;
}

static enum ps_status check_holder(const struct pd_core *core, uint32_t n)
{
	const struct pd_segment *segment = &core->segments[n];
	bool held = segment->state == PD_LEASED ||
		    segment->state == PD_PARKED || segment->state == PD_OUTSIDE;

	EXPECT("leased without an epoch: segment", n,
	       segment->state == PD_LEASED && segment->epoch == 0, false);
	if (!held &&
	    (segment->state != PD_SHARED || segment->client == PD_NONE)) {
		EXPECT("client of segment", n, segment->client, PD_NONE);
		return PS_OK;
	}
	EXPECT("slot of segment", n, segment->client < core->slots, true);
	EXPECT("segment of a free slot", n,
	       core->clients[segment->client].presence == PD_FREE_SLOT, false);
	EXPECT("user of segment", n, segment->user,
	       core->clients[segment->client].is_damaged
		       ? segment->user
		       : core->clients[segment->client].user);
	return PS_OK;
}

static enum ps_status check_opener(const struct pd_core *core, uint32_t n,
				   uint32_t slot)
{
	const struct pd_segment *segment = &core->segments[n];
	const struct pd_client *client = &core->clients[slot];

	EXPECT("slot that has open segment", n, slot < core->slots, true);
	EXPECT("a free slot has open segment", n,
	       client->presence == PD_FREE_SLOT, false);
	EXPECT("its own client has it open: segment", n,
	       segment->client == slot, false);
	if (!client->is_damaged)
		EXPECT("user that has open segment", n, client->user,
		       segment->user);
	return PS_OK;
}

static enum ps_status check_openers(const struct pd_core *core, uint32_t n)
{
	const struct pd_segment *segment = &core->segments[n];
	bool may = segment->state == PD_LEASED || segment->state == PD_PARKED;
	enum ps_status status = PS_OK;
	uint32_t i, k;

	EXPECT("openers of segment", n, segment->opens <= PD_OPENERS, true);
	EXPECT("shared and open by nobody: segment", n,
	       segment->state == PD_SHARED && segment->opens == 0, false);
	EXPECT("open and not to be: segment", n,
	       segment->opens > 0 && !may && segment->state != PD_SHARED,
	       false);
	for (i = 0; i < segment->opens && status == PS_OK; i++) {
		for (k = 0; k < i; k++)
			EXPECT("open twice by a client: segment", n,
			       segment->openers[i] == segment->openers[k],
			       false);
		status = check_opener(core, n, segment->openers[i]);
	}
	return status;
}

static enum ps_status check_outside(const struct pd_core *core, uint32_t n)
{
	const struct pd_segment *segment = &core->segments[n];

	EXPECT("pending and not outside: segment", n,
	       segment->is_pending && segment->state != PD_OUTSIDE, false);
	EXPECT("is vacated for nobody: segment", n,
	       segment->is_vacating && !segment->is_pending &&
		       segment->state != PD_REMAKING,
	       false);
	return PS_OK;
}

static enum ps_status check_segment(const struct pd_core *core, uint32_t n)
{
	enum ps_status status = check_holder(core, n);

	if (status == PS_OK)
		status = check_openers(core, n);
	if (status == PS_OK)
		status = check_outside(core, n);
	if (status == PS_OK)
		status = check_bits(core, n);
	if (status == PS_OK)
		status = check_journal(core, n);
	return status;
}

struct counts {
	uint32_t of[PD_SHARED + 1];
	uint32_t fresh;
	uint32_t resting;
	uint32_t leased;
	uint32_t parked;
	uint32_t outside;
	uint32_t charged;
	uint32_t quarantined;
	uint32_t shared;
	uint32_t bound;
	uint32_t damaged;
};

static void count_held(const struct pd_core *core,
		       const struct pd_segment *segment, struct counts *counts)
{
	const struct pd_client *client = &core->clients[segment->client];
	bool lives = pd_lives(client);

	if (client->is_damaged) {
		counts->damaged++;
		return;
	}
	counts->quarantined += !lives;
	counts->bound += !lives && segment->opens > 0;
	counts->leased += lives && segment->state == PD_LEASED;
	counts->parked += lives && segment->state == PD_PARKED;
	counts->outside += lives && segment->state == PD_OUTSIDE;
	counts->charged += lives && segment->state == PD_SHARED;
}

static void count_one(const struct pd_core *core,
		      const struct pd_segment *segment, struct counts *counts)
{
	counts->of[segment->state]++;
	counts->fresh += segment->state == PD_CLEAN && segment->user == PD_NONE;
	counts->resting += segment->tries > 0;
	counts->damaged += segment->state == PD_DAMAGED;
	if (segment->client != PD_NONE) {
		count_held(core, segment, counts);
		return;
	}
	counts->shared += segment->state == PD_SHARED;
	counts->bound += segment->state == PD_SHARED;
}

static enum ps_status check_counts(const struct pd_core *core,
				   const struct counts *counts)
{
	EXPECT("clean", 0, core->clean_count, counts->of[PD_CLEAN]);
	EXPECT("fresh", 0, core->fresh_count, counts->fresh);
	EXPECT("dirty", 0, core->dirty, counts->of[PD_DIRTY]);
	EXPECT("remaking", 0, core->remaking, counts->of[PD_REMAKING]);
	EXPECT("resting", 0, core->resting, counts->resting);
	EXPECT("leased", 0, core->leased, counts->leased);
	EXPECT("parked", 0, core->parked, counts->parked);
	EXPECT("outside", 0, core->outside, counts->outside);
	EXPECT("charged", 0, core->charged, counts->charged);
	EXPECT("quarantined", 0, core->quarantined, counts->quarantined);
	EXPECT("shared", 0, core->shared, counts->shared);
	EXPECT("bound", 0, core->bound, counts->bound);
	EXPECT("damaged", 0, core->damaged, counts->damaged);
	EXPECT("all", 0,
	       pd_free(core) + core->leased + core->parked + core->outside +
		       pd_kept(core),
	       core->end - core->first);
	return PS_OK;
}

static enum ps_status check_segments(const struct pd_core *core)
{
	struct counts counts;
	enum ps_status status;
	uint32_t n;

	memset(&counts, 0, sizeof(counts));
	for (n = core->first; n < core->end; n++) {
		status = check_segment(core, n);
		if (status != PS_OK)
			return status;
		count_one(core, &core->segments[n], &counts);
	}
	for (n = 0; n < core->first; n++)
		EXPECT("state of a parameter segment", n,
		       core->segments[n].state, 0);
	return check_counts(core, &counts);
}

/* ---- clients ---- */

static enum ps_status check_list(const struct pd_core *core, uint32_t slot,
				 uint32_t first, enum pd_segment_state state,
				 uint32_t count)
{
	uint32_t prev = PD_NONE, length = 0, n;

	for (n = first; n != PD_NONE; n = core->segments[n].next) {
		EXPECT("list: state", n, core->segments[n].state, state);
		EXPECT("list: client", n, core->segments[n].client, slot);
		EXPECT("list: before", n, core->segments[n].prev, prev);
		EXPECT("list: too long", n, length < count, true);
		prev = n;
		length++;
	}
	EXPECT("list: length, of slot", slot, length, count);
	return PS_OK;
}

static enum ps_status check_opened(const struct pd_core *core, uint32_t slot)
{
	uint32_t n, i, opened = 0;

	for (n = core->first; n < core->end; n++)
		for (i = 0; i < core->segments[n].opens; i++)
			opened += core->segments[n].openers[i] == slot;
	EXPECT("open by client", slot, core->clients[slot].opened, opened);
	return PS_OK;
}

/* What is pending is all of its request, and comes first in the list. */
static enum ps_status check_pending(const struct pd_core *core, uint32_t slot)
{
	const struct pd_client *client = &core->clients[slot];
	const struct pd_request *request = &client->request;
	uint32_t n = client->first_outside, pending = 0, vacating = 0;

	for (; n != PD_NONE && core->segments[n].is_pending;
	     n = core->segments[n].next) {
		pending++;
		vacating += core->segments[n].is_vacating;
	}
	for (; n != PD_NONE; n = core->segments[n].next)
		EXPECT("pending behind one that is not: segment", n,
		       core->segments[n].is_pending, false);
	EXPECT("pending for client", slot, pending,
	       request->waits ? request->pending : 0);
	EXPECT("being vacated for client", slot, vacating,
	       request->waits ? request->vacating : 0);
	EXPECT("has all it waits for: client", slot,
	       request->waits && vacating == 0 && pending == request->count,
	       false);
	return PS_OK;
}

static enum ps_status check_record(const struct pd_core *core, uint32_t slot)
{
	const struct pd_client *client = &core->clients[slot];
	struct pd_client_record record;

	if (client->is_damaged)
		return PS_OK;
	EXPECT("journal: client can be read", slot,
	       pd_journal_client(core->journal, slot, &record), PS_OK);
	EXPECT("journal: client is used", slot, record.used,
	       client->presence != PD_FREE_SLOT);
	if (!record.used)
		return PS_OK;
	EXPECT("journal: client's number", slot, record.id, client->record.id);
	EXPECT("journal: client's user", slot, record.uid,
	       core->users[client->user].uid);
	EXPECT("journal: client's reservation", slot, record.reservation,
	       client->record.reservation);
	EXPECT("journal: client's limit", slot, record.limit,
	       client->record.limit);
	EXPECT("journal: client's token", slot,
	       memcmp(record.token, client->record.token, IP_TOKEN_BYTES), 0);
	return PS_OK;
}

static enum ps_status check_conduct(const struct pd_core *core, uint32_t slot)
{
	const struct pd_client *client = &core->clients[slot];
	bool here = client->presence == PD_HERE;

	EXPECT("above its limit: client", slot,
	       pd_lives(client) && pd_held(client) > client->limit, false);
	EXPECT("waits and is not here: client", slot,
	       client->request.waits && !here, false);
	EXPECT("asked and is not here: client", slot,
	       client->recall.active && !here, false);
	EXPECT("a free slot has segments: client", slot,
	       client->presence == PD_FREE_SLOT &&
		       pd_held(client) + client->opened > 0,
	       false);
	return PS_OK;
}

static enum ps_status check_client(const struct pd_core *core, uint32_t slot)
{
	const struct pd_client *client = &core->clients[slot];
	enum ps_status status;

	status = check_list(core, slot, client->first_leased, PD_LEASED,
			    client->leased);
	if (status == PS_OK)
		status = check_list(core, slot, client->first_parked, PD_PARKED,
				    client->parked);
	if (status == PS_OK)
		status = check_list(core, slot, client->first_outside,
				    PD_OUTSIDE, client->outside);
	if (status == PS_OK)
		status = check_list(core, slot, client->first_shared, PD_SHARED,
				    client->shared);
	if (status == PS_OK)
		status = check_opened(core, slot);
	if (status == PS_OK)
		status = check_pending(core, slot);
	if (status == PS_OK)
		status = check_record(core, slot);
	if (status == PS_OK)
		status = check_conduct(core, slot);
	return status;
}

static enum ps_status check_clients(const struct pd_core *core)
{
	uint32_t slot, used = 0, living = 0;
	enum ps_status status;

	for (slot = 0; slot < core->slots; slot++) {
		used += core->clients[slot].presence != PD_FREE_SLOT;
		living += pd_lives(&core->clients[slot]);
		status = check_client(core, slot);
		if (status != PS_OK)
			return status;
	}
	EXPECT("used slots", 0, core->used_slots, used);
	EXPECT("living clients", 0, core->living, living);
	return PS_OK;
}

/* ---- users ---- */

static void add_segments(const struct pd_core *core, uint32_t at,
			 struct pd_user *user)
{
	uint32_t n;

	for (n = core->first; n < core->end; n++) {
		if (core->segments[n].user != at)
			continue;
		user->refs++;
		user->clean += core->segments[n].state == PD_CLEAN;
		user->dirty += core->segments[n].state == PD_DIRTY;
		user->shared += core->segments[n].state == PD_SHARED &&
				core->segments[n].client == PD_NONE;
		user->bound += pd_segment_is_bound(core, n);
	}
}

static void add_clients(const struct pd_core *core, uint32_t at,
			struct pd_user *user)
{
	const struct pd_client *client;
	uint32_t slot;

	for (slot = 0; slot < core->slots; slot++) {
		client = &core->clients[slot];
		if (client->presence == PD_FREE_SLOT || client->is_damaged ||
		    client->user != at)
			continue;
		user->refs++;
		user->clients++;
		if (!pd_lives(client)) {
			user->quarantined += pd_held(client);
			continue;
		}
		user->held += pd_held(client);
		user->reserved += client->reserved;
		user->lacking += pd_lack(client);
	}
}

static void add_limits(const struct pd_core *core, struct pd_user *user)
{
	uint32_t i;

	for (i = 0; i < core->limits.users; i++)
		user->refs += core->limits.user[i].uid == user->uid;
}

static enum ps_status compare_users(const struct pd_user *is,
				    const struct pd_user *should)
{
	EXPECT("references of user", is->uid, is->refs, should->refs);
	EXPECT("clients of user", is->uid, is->clients, should->clients);
	EXPECT("clean ones of user", is->uid, is->clean, should->clean);
	EXPECT("dirty ones of user", is->uid, is->dirty, should->dirty);
	EXPECT("held by user", is->uid, is->held, should->held);
	EXPECT("quarantined of user", is->uid, is->quarantined,
	       should->quarantined);
	EXPECT("shared of user", is->uid, is->shared, should->shared);
	EXPECT("bound of user", is->uid, is->bound, should->bound);
	EXPECT("reserved of user", is->uid, is->reserved, should->reserved);
	EXPECT("lacking of user", is->uid, is->lacking, should->lacking);
	EXPECT("owed to user", is->uid, is->owed, pd_quota_owed(is));
	return PS_OK;
}

static enum ps_status check_user(const struct pd_core *core, uint32_t at)
{
	const struct pd_user *user = &core->users[at];
	struct pd_user again = { .uid = user->uid };
	uint64_t most = user->limit > user->excess ? user->limit : user->excess;

	add_segments(core, at, &again);
	add_clients(core, at, &again);
	add_limits(core, &again);
	EXPECT("above its limit: user", user->uid,
	       (uint64_t)user->held + user->quarantined + user->shared > most,
	       false);
	EXPECT("cannot be given what it was promised: user", user->uid,
	       user->held + user->lacking + user->bound > most, false);
	return compare_users(user, &again);
}

static enum ps_status check_users(const struct pd_core *core)
{
	uint64_t owed = 0, promised = 0;
	enum ps_status status;
	uint32_t i, at;

	for (i = 0; i < core->buckets; i++) {
		for (at = core->bucket[i]; at != PD_NONE;
		     at = core->users[at].next) {
			status = check_user(core, at);
			if (status != PS_OK)
				return status;
			owed += core->users[at].owed;
			promised += core->users[at].promised;
		}
	}
	EXPECT("owed", 0, core->owed, owed);
	EXPECT("promised", 0, core->promised, promised);
	EXPECT("more is owed than there is", core->owed,
	       core->owed > pd_coming(core) + core->debt, false);
	return PS_OK;
}

/* ---- who waits ---- */

static enum ps_status check_recalls(const struct pd_core *core,
				    const struct pd_request *request,
				    uint32_t slot)
{
	const struct pd_recall *recall;
	uint64_t expected = 0;
	uint32_t at, recalls = 0;

	for (at = core->recall_first; at != PD_NONE; at = recall->next) {
		recall = &core->clients[at].recall;
		EXPECT("in the list of recalls: client", at, recall->active,
		       true);
		if (recall->slot != slot || recall->ticket != request->ticket)
			continue;
		recalls++;
		expected += recall->expected;
	}
	EXPECT("recalls for client", slot, request->recalls, recalls);
	EXPECT("expected for client", slot, request->expected, expected);
	return PS_OK;
}

static enum ps_status check_queue(const struct pd_core *core)
{
	uint32_t slot = core->queue_first, prev = PD_NONE;
	const struct pd_request *request;
	enum ps_status status;
	uint64_t ticket = 0;

	for (; slot != PD_NONE; slot = request->next) {
		request = &core->clients[slot].request;
		EXPECT("in the queue: client", slot, request->waits, true);
		EXPECT("in the queue before client", slot, request->prev, prev);
		EXPECT("in order: client", slot, request->ticket > ticket,
		       true);
		EXPECT("waits for a lost GPU: client", slot, core->is_lost,
		       false);
		status = check_recalls(core, request, slot);
		if (status != PS_OK)
			return status;
		prev = slot;
		ticket = request->ticket;
	}
	EXPECT("the queue's end", 0, core->queue_last, prev);
	EXPECT("waits and could be served: client", 0, pd_queue_servable(core),
	       PD_NONE);
	return PS_OK;
}

enum ps_status pd_core_check(const struct pd_core *core)
{
	enum ps_status status;

	EXPECT("magic", 0, core->magic, PD_CORE_MAGIC);
	status = check_segments(core);
	if (status == PS_OK)
		status = check_clients(core);
	if (status == PS_OK)
		status = check_users(core);
	if (status == PS_OK)
		status = check_queue(core);
	return status;
}
