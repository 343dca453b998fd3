/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whom to ask for memory when a request is short of it: clients that hold
 * more than was promised to them. First for what they have parked, most of it
 * first, and no more than is missing; only then for what they have cached,
 * which nobody knows, a few at a time. A client is asked twice at most for
 * one request, once for either, and for one request at a time.
 */
#include "poold/core_internal.h"

#include <string.h>

enum kind { PARKED, CACHED };

/* ---- who was asked ---- */

static uint64_t *asked_word(const struct pd_core *core, uint32_t slot,
			    enum kind kind, uint32_t other)
{
	uint64_t *row = core->asked + (size_t)slot * 2 * core->asked_words;

	return &row[kind * core->asked_words + other / PD_BLOCK];
}

static bool was_asked(const struct pd_core *core, uint32_t slot, enum kind kind,
		      uint32_t other)
{
	return *asked_word(core, slot, kind, other) >> other % PD_BLOCK & 1;
}

static void set_asked(const struct pd_core *core, uint32_t slot, enum kind kind,
		      uint32_t other)
{
	*asked_word(core, slot, kind, other) |= UINT64_C(1) << other % PD_BLOCK;
}

void pd_recall_begin(struct pd_core *core, struct pd_client *client)
{
	memset(asked_word(core, pd_slot(core, client), PARKED, 0), 0,
	       2 * core->asked_words * sizeof(*core->asked));
}

/* ---- whom to ask ---- */

/* What it could give without going below what was promised, to it or to its
 * user; what stays with the user breaks none of his promises. */
static uint64_t spare_of(const struct pd_core *core,
			 const struct pd_client *other, uint32_t user)
{
	const struct pd_user *whose = &core->users[other->user];
	uint64_t spare = pd_less(pd_held(other), other->reserved);

	spare = pd_min(spare, other->leased + other->parked);
	if (other->user == user)
		return spare;
	return pd_min(spare, pd_less(whose->held, whose->guarantee));
}

struct ask {
	struct pd_client *client; /* whose request */
	uint32_t user;            /* only this one's clients; PD_NONE: all */
	enum kind kind;
};

/* 0: it is not to be asked, or not now. */
static uint64_t could_give(const struct pd_core *core, const struct ask *ask,
			   const struct pd_client *other)
{
	uint32_t slot = pd_slot(core, ask->client);
	uint64_t spare;

	if (other->presence != PD_HERE || other == ask->client ||
	    (ask->user != PD_NONE && other->user != ask->user) ||
	    was_asked(core, slot, ask->kind, pd_slot(core, other)))
		return 0;
	spare = spare_of(core, other, ask->client->user);
	return ask->kind == PARKED ? pd_min(spare, other->parked) : spare;
}

/* Who could give most; NULL: nobody. @busy_out: somebody could who is being
 * asked for another request. */
static struct pd_client *best(struct pd_core *core, const struct ask *ask,
			      uint64_t *most_out, bool *busy_out)
{
	struct pd_client *best = NULL;
	uint64_t most = 0, gives;
	uint32_t slot;

	for (slot = 0; slot < core->slots; slot++) {
		gives = could_give(core, ask, &core->clients[slot]);
		if (gives == 0)
			continue;
		if (core->clients[slot].recall.active) {
			*busy_out = true;
		} else if (gives > most) {
			best = &core->clients[slot];
			most = gives;
		}
	}
	*most_out = most;
	return best;
}

/* ---- asking ---- */

static void send(struct pd_core *core, const struct ask *ask,
		 struct pd_client *other, uint64_t count)
{
	struct pd_request *request = &ask->client->request;
	struct pd_recall *recall = &other->recall;
	uint32_t slot = pd_slot(core, other);

	*recall = (struct pd_recall){
		.active = true,
		.seq = recall->seq + 1,
		.prev = PD_NONE,
		.next = core->recall_first,
		.slot = pd_slot(core, ask->client),
		.ticket = request->ticket,
		.expected = ask->kind == PARKED ? count : 0,
		.due_ms =
			pd_min(request->until_ms, core->now_ms + PD_RECALL_MS),
	};
	if (core->recall_first != PD_NONE)
		core->clients[core->recall_first].recall.prev = slot;
	core->recall_first = slot;
	request->recalls++;
	request->expected += recall->expected;
	set_asked(core, recall->slot, ask->kind, slot);
	core->recalls++;
	core->ops.recall(core->owner, slot, recall->seq, (uint32_t)count,
			 (uint32_t)(recall->due_ms - core->now_ms));
}

static bool ask_one(struct pd_core *core, const struct ask *ask,
		    uint64_t missing, bool *busy_out)
{
	struct pd_client *other;
	uint64_t most;

	other = best(core, ask, &most, busy_out);
	if (other == NULL)
		return false;
	send(core, ask, other,
	     pd_min(most, missing - ask->client->request.expected));
	return true;
}

bool pd_recall_more(struct pd_core *core, struct pd_client *client,
		    uint64_t missing, uint32_t user)
{
	struct pd_request *request = &client->request;
	struct ask ask = { .client = client, .user = user, .kind = PARKED };
	bool busy = false;

	while (request->expected < missing)
		if (!ask_one(core, &ask, missing, &busy))
			break;
	ask.kind = CACHED;
	while (request->expected < missing &&
	       request->recalls < PD_RECALLS_AT_ONCE)
		if (!ask_one(core, &ask, missing, &busy))
			break;
	return request->recalls > 0 || busy;
}

/* ---- the answer, or none ---- */

void pd_recall_end(struct pd_core *core, struct pd_client *client)
{
	struct pd_recall *recall = &client->recall;
	struct pd_request *request = &core->clients[recall->slot].request;

	if (!recall->active)
		return;
	recall->active = false;
	if (recall->prev != PD_NONE)
		core->clients[recall->prev].recall.next = recall->next;
	else
		core->recall_first = recall->next;
	if (recall->next != PD_NONE)
		core->clients[recall->next].recall.prev = recall->prev;
	if (!request->waits || request->ticket != recall->ticket)
		return;
	request->recalls--;
	request->expected -= recall->expected;
}

void pd_recalls_expire(struct pd_core *core)
{
	uint32_t slot = core->recall_first;
	struct pd_client *client;

	while (slot != PD_NONE) {
		client = &core->clients[slot];
		slot = client->recall.next;
		if (client->recall.due_ms <= core->now_ms)
			pd_recall_end(core, client);
	}
}
