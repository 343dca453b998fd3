/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who waits for memory. The queue is walked whenever something changed: first
 * those who ask for no more than was promised to them, then all others, each
 * in the order in which they came.
 *
 * Who cannot be served yet collects: what is free or becomes free and is of
 * use to it counts as its own for the rest of the walk, up to what it asked
 * for. Who comes later gets only what is left. So
 *   a later request never takes what an earlier one could use and lacks, but
 *   for a promise; one that is small passes only where it takes nothing away
 *   a request is answered once the memory that it may have is there for it
 *   and for those before it, or when its time is over: in IP_WAIT_MAX_MS at
 *   most, however many come after it
 */
#include "poold/core_internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/status.h"

/* What is claimed in one walk, apart from the users' own. */
struct walk {
	uint64_t clean; /* of the users' */
	uint64_t fresh;
	uint64_t dirty;
	uint64_t remaking;
	uint64_t slack;
};

/* What a request comes to, after all claims before it. */
struct view {
	uint32_t parked; /* of its own, used first */
	uint32_t rest;   /* what it needs besides */
	uint64_t own;    /* CLEAN ones of its user */
	uint64_t fresh;
	uint64_t others;  /* CLEAN ones of others; good for room outside */
	uint64_t lack;    /* its reservation's part, nobody else's */
	uint64_t common;  /* its user's */
	uint64_t slack;   /* nobody's */
	uint64_t room;    /* below its user's limit */
	uint64_t allowed; /* what all that permits */
};

/* ---- the queue ---- */

void pd_queue_add(struct pd_core *core, struct pd_client *client,
		  const struct ip_take *take)
{
	struct pd_request *request = &client->request;
	uint32_t slot = pd_slot(core, client);

	*request = (struct pd_request){
		.waits = true,
		.seq = take->seq,
		.count = take->count,
		.flags = take->flags,
		.prev = core->queue_last,
		.next = PD_NONE,
		.ticket = ++core->ticket,
		.until_ms = core->now_ms + take->wait_ms,
	};
	if (core->queue_last != PD_NONE)
		core->clients[core->queue_last].request.next = slot;
	else
		core->queue_first = slot;
	core->queue_last = slot;
	pd_recall_begin(core, client);
}

void pd_queue_drop(struct pd_core *core, struct pd_client *client)
{
	struct pd_request *request = &client->request;

	if (!request->waits)
		return;
	request->waits = false;
	if (request->prev != PD_NONE)
		core->clients[request->prev].request.next = request->next;
	else
		core->queue_first = request->next;
	if (request->next != PD_NONE)
		core->clients[request->next].request.prev = request->prev;
	else
		core->queue_last = request->prev;
	if (request->pending > 0)
		pd_outside_drop(core, client);
}

static void deny(struct pd_core *core, struct pd_client *client,
		 enum ps_status status, const char *text)
{
	pd_queue_drop(core, client);
	core->denials++;
	core->ops.deny(core->owner, pd_slot(core, client), client->request.seq,
		       status, text);
}

void pd_queue_deny_all(struct pd_core *core, enum ps_status status,
		       const char *text)
{
	while (core->queue_first != PD_NONE)
		deny(core, &core->clients[core->queue_first], status, text);
}

/* ---- what a request may have ---- */

struct pd_user *pd_queue_claims(const struct pd_core *core, uint32_t at)
{
	struct pd_user *user = &core->users[at];

	if (user->walk != core->walk) {
		user->walk = core->walk;
		user->claimed_clean = 0;
		user->claimed_dirty = 0;
		user->claimed_common = 0;
		user->claimed_room = 0;
	}
	return user;
}

static bool is_outside(const struct pd_client *client)
{
	return (client->request.flags & IP_TAKE_OUTSIDE) != 0;
}

static uint64_t clean_of_others(const struct pd_core *core,
				const struct walk *walk,
				const struct pd_user *user)
{
	uint64_t theirs = core->clean_count - core->fresh_count - user->clean;

	return pd_less(theirs, walk->clean - user->claimed_clean);
}

static void look(const struct pd_core *core, const struct walk *walk,
		 const struct pd_client *client, struct view *view)
{
	const struct pd_user *user = pd_queue_claims(core, client->user);
	uint32_t count = client->request.count - client->request.pending;

	view->parked = 0;
	view->others = 0;
	if (is_outside(client))
		view->others = clean_of_others(core, walk, user);
	else
		view->parked = (uint32_t)pd_min(count, client->parked);
	view->rest = count - view->parked;
	view->own = pd_less(user->clean, user->claimed_clean);
	view->fresh = pd_less(core->fresh_count, walk->fresh);
	view->lack = pd_lack(client);
	view->common = pd_less(pd_quota_common(user), user->claimed_common);
	view->slack = pd_less(pd_quota_slack(core), walk->slack);
	view->room = pd_less(pd_quota_room(core, client), user->claimed_room);
	view->allowed =
		pd_min(view->room, view->lack + view->common + view->slack);
}

static bool is_promised(const struct view *view)
{
	return view->rest <= view->lack + view->common;
}

static bool can_serve(const struct view *view)
{
	return view->rest == 0 ||
	       (view->rest <= view->allowed &&
		view->rest <= view->own + view->fresh + view->others);
}

/* ---- what it collects ---- */

static uint64_t claim(uint64_t *left, uint64_t have, uint64_t *claimed)
{
	uint64_t part = pd_min(*left, have);

	*left -= part;
	*claimed += part;
	return part;
}

/* The rights to @count segments. */
static void claim_rights(struct walk *walk, struct pd_user *user,
			 const struct view *view, uint64_t count)
{
	uint64_t left = count - pd_min(count, view->lack);

	user->claimed_room += count;
	claim(&left, view->common, &user->claimed_common);
	walk->slack += left;
}

/* Memory for @left segments that is free or on its way; returns how much
 * there is not. */
static uint64_t claim_memory(const struct pd_core *core, struct walk *walk,
			     struct pd_user *user, const struct view *view,
			     uint64_t left)
{
	uint64_t dirty = pd_less(core->dirty, walk->dirty);
	uint64_t part;

	walk->clean += claim(&left, view->own, &user->claimed_clean);
	claim(&left, view->fresh, &walk->fresh);
	part = pd_min(dirty, pd_less(user->dirty, user->claimed_dirty));
	part = claim(&left, part, &user->claimed_dirty);
	walk->dirty += part;
	claim(&left, pd_less(core->remaking - core->resting, walk->remaking),
	      &walk->remaking);
	return left;
}

/* What others had and nobody collects is made this user's; then what is still
 * being scrubbed for others. Returns how much there is not. */
static uint64_t claim_of_others(struct pd_core *core, struct walk *walk,
				uint32_t user, uint64_t left)
{
	uint64_t converted = pd_segments_convert(core, user, left);

	walk->remaking += converted;
	left -= converted;
	claim(&left, pd_less(core->dirty, walk->dirty), &walk->dirty);
	return left;
}

/* ---- answers ---- */

static void grant(struct pd_core *core, struct pd_client *client,
		  const struct view *view, uint32_t rest)
{
	const struct pd_user *user = &core->users[client->user];
	uint32_t own = (uint32_t)pd_min(rest, view->own);
	bool mix = user->clean == view->own && core->fresh_count == view->fresh;

	pd_queue_drop(core, client);
	pd_segments_grant(core, client, view->parked, own, rest - own, mix);
}

/* It is answered when all are destroyed. */
static void make_room(struct pd_core *core, struct pd_client *client,
		      const struct view *view)
{
	uint32_t count = view->rest;

	pd_outside_begin(core, client,
			 pd_segments_pick(core, client, count, view->own),
			 count);
}

static void write_numbers(const struct pd_core *core,
			  const struct pd_client *client, char *text,
			  size_t room)
{
	const struct pd_user *user = &core->users[client->user];
	uint64_t unit = core->unit;
	uint64_t mine = pd_lack(client) + pd_quota_common(user);

	snprintf(text, room,
		 "(bytes: free %" PRIu64 ", leased %" PRIu64 ", parked %" PRIu64
		 ", outside %" PRIu64 ", quarantined %" PRIu64
		 ", guaranteed to others %" PRIu64 "; this client has %" PRIu64
		 " of at most %" PRIu64 ")",
		 pd_free(core) * unit, core->leased * unit, core->parked * unit,
		 core->outside * unit, pd_kept(core) * unit,
		 pd_less(core->owed, mine) * unit, pd_held(client) * unit,
		 (pd_held(client) + pd_quota_own_room(core, client)) * unit);
}

void pd_queue_deny(struct pd_core *core, struct pd_client *client,
		   enum ps_status status, const char *why, const char *remedy)
{
	char numbers[256], text[IP_TEXT_MAX + 1];

	write_numbers(core, client, numbers, sizeof(numbers));
	snprintf(text, sizeof(text), "%" PRIu64 " bytes %s %s; %s",
		 client->request.count * core->unit, why, numbers, remedy);
	deny(core, client, status, text);
}

static void deny_short(struct pd_core *core, struct pd_client *client,
		       const struct view *view)
{
	const char *remedy = "free some, or ask again when others have";
	const char *why = "are not free";

	if (view->rest > pd_quota_own_room(core, client))
		why = "are above this client's limit";
	else if (view->rest > view->room)
		why = "are above this user's limit";
	else if (view->rest > view->allowed)
		why = "are not free beyond what others were promised";
	pd_queue_deny(core, client, PS_OUT_OF_MEMORY, why, remedy);
}

/* What waiting does not change. */
static bool deny_at_once(struct pd_core *core, struct pd_client *client,
			 const struct view *view)
{
	const struct pd_request *request = &client->request;
	uint64_t after =
		pd_held(client) - client->parked + view->parked + view->rest;
	bool some = (request->flags & IP_TAKE_SOME) != 0;

	if (core->is_draining && after > client->reserved) {
		pd_queue_deny(core, client, PS_REFUSED,
			      "are refused: the daemon is draining and "
			      "they are beyond the reservation",
			      "detach");
		return true;
	}
	if (!some && view->rest > pd_quota_own_room(core, client)) {
		deny_short(core, client, view);
		return true;
	}
	return false;
}

static void answer_some(struct pd_core *core, struct pd_client *client,
			const struct view *view)
{
	uint64_t rest = pd_min(view->rest, view->own + view->fresh);

	rest = pd_min(rest, view->allowed);
	rest = pd_min(rest, pd_quota_own_room(core, client));
	if (view->parked + rest > 0)
		grant(core, client, view, (uint32_t)rest);
	else
		deny_short(core, client, view);
}

/* Still short of @missing, of which @view knows. */
static void wait_or_deny(struct pd_core *core, struct pd_client *client,
			 const struct view *view, uint64_t missing)
{
	uint64_t hope = (uint64_t)core->quarantined + core->resting;
	uint32_t only = view->rest > view->room ? client->user : PD_NONE;
	bool over = core->now_ms >= client->request.until_ms;

	if (over && missing == 0)
		pd_queue_deny(core, client, PS_OUT_OF_MEMORY,
			      "are still being cleaned",
			      "ask again, or wait longer");
	else if (over ||
		 (missing > 0 && !pd_recall_more(core, client, missing, only) &&
		  missing > hope))
		deny_short(core, client, view);
}

/* Not served now: collects, asks others, or gives up. */
static void keep_waiting(struct pd_core *core, struct walk *walk,
			 struct pd_client *client, const struct view *view)
{
	uint64_t wanted = pd_min(view->rest, view->allowed);
	const struct walk before = *walk;
	struct pd_user *user = &core->users[client->user];
	const struct pd_user user_before = *user;
	uint64_t missing;

	claim_rights(walk, user, view, wanted);
	missing = claim_memory(core, walk, user, view, wanted);
	if (core->now_ms < client->request.until_ms)
		missing = claim_of_others(core, walk, client->user, missing);
	wait_or_deny(core, client, view, missing + view->rest - wanted);
	if (client->request.waits)
		return;
	/* It has given up: so are its claims. */
	*walk = before;
	user->claimed_clean = user_before.claimed_clean;
	user->claimed_dirty = user_before.claimed_dirty;
	user->claimed_common = user_before.claimed_common;
	user->claimed_room = user_before.claimed_room;
}

/* ---- the walk ---- */

static void serve_one(struct pd_core *core, struct walk *walk,
		      struct pd_client *client, const struct view *view)
{
	if (deny_at_once(core, client, view))
		return;
	if (client->request.flags & IP_TAKE_SOME)
		answer_some(core, client, view);
	else if (can_serve(view) && is_outside(client))
		make_room(core, client, view);
	else if (can_serve(view))
		grant(core, client, view, view->rest);
	else
		keep_waiting(core, walk, client, view);
}

/* @first: those who ask for what was promised; else all others. */
static void serve_all(struct pd_core *core, struct walk *walk, bool first)
{
	uint32_t slot = core->queue_first;
	struct pd_client *client;
	struct view view;

	while (slot != PD_NONE) {
		client = &core->clients[slot];
		slot = client->request.next;
		if (client->request.vacating > 0 ||
		    (!first && client->request.is_first))
			continue;
		look(core, walk, client, &view);
		client->request.is_first = first && is_promised(&view);
		if (client->request.is_first == first)
			serve_one(core, walk, client, &view);
	}
}

static void walk_along(struct pd_core *core)
{
	struct walk walk = { 0 };

	core->was_dropped = false;
	core->walk++;
	serve_all(core, &walk, true);
	serve_all(core, &walk, false);
}

void pd_queue_serve(struct pd_core *core)
{
	pd_outside_expire(core);
	if (core->queue_first != PD_NONE)
		walk_along(core);
	/* Who gave up may have left what others wait for. */
	while (core->was_dropped && core->queue_first != PD_NONE)
		walk_along(core);
	core->was_dropped = false;
	pd_queue_arm(core);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return b != 0 && (a == 0 || b < a) ? b : a;
}

void pd_queue_arm(struct pd_core *core)
{
	uint64_t at = core->is_lost ? 0 : core->rest_due_ms;
	uint32_t slot = core->queue_first;

	for (; slot != PD_NONE; slot = core->clients[slot].request.next)
		at = sooner(at, core->clients[slot].request.until_ms);
	slot = core->recall_first;
	for (; slot != PD_NONE; slot = core->clients[slot].recall.next)
		at = sooner(at, core->clients[slot].recall.due_ms);
	if (at == core->armed_ms)
		return;
	core->armed_ms = at;
	core->ops.arm(core->owner, at);
}

/* ---- for the validator ---- */

static uint32_t servable(const struct pd_core *core, struct walk *walk,
			 bool first)
{
	uint32_t slot = core->queue_first;
	const struct pd_client *client;
	struct view view;
	uint64_t wanted;

	for (; slot != PD_NONE; slot = client->request.next) {
		client = &core->clients[slot];
		if (client->request.vacating > 0 ||
		    client->request.is_first != first)
			continue;
		look(core, walk, client, &view);
		if (can_serve(&view))
			return slot;
		wanted = pd_min(view.rest, view.allowed);
		claim_rights(walk, &core->users[client->user], &view, wanted);
		claim_memory(core, walk, &core->users[client->user], &view,
			     wanted);
	}
	return PD_NONE;
}

uint32_t pd_queue_servable(const struct pd_core *core)
{
	struct walk walk = { 0 };
	uint32_t slot;

	/* Scratch, and what tells a new walk from the last. */
	((struct pd_core *)core)->walk++;
	slot = servable(core, &walk, true);
	return slot != PD_NONE ? slot : servable(core, &walk, false);
}
