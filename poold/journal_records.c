/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The records in the journal: one of each segment, client and model. What a
 * record says and cannot be counts as damage.
 */
#include "poold/journal_parts.h"

#include "base/status.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

static struct pd_stamp *segment_at(const struct pd_journal *journal, uint32_t n)
{
	size_t at = sizeof(struct pd_journal_header);

	assert(n < journal->pool.segments);
	at += (size_t)n * 2 * sizeof(struct pd_segment_place);
	return (struct pd_stamp *)(void *)(journal->map + at);
}

static struct pd_stamp *client_at(const struct pd_journal *journal,
				  uint32_t slot)
{
	size_t at = sizeof(struct pd_journal_header);

	assert(slot < journal->pool.clients);
	at += (size_t)journal->pool.segments * 2 *
	      sizeof(struct pd_segment_place);
	at += (size_t)slot * 2 * sizeof(struct pd_client_place);
	return (struct pd_stamp *)(void *)(journal->map + at);
}

static struct pd_stamp *model_at(const struct pd_journal *journal,
				 uint32_t model)
{
	size_t at = sizeof(struct pd_journal_header);

	assert(model < IP_MODELS_MAX);
	at += (size_t)journal->pool.segments * 2 *
	      sizeof(struct pd_segment_place);
	at += (size_t)journal->pool.clients * 2 *
	      sizeof(struct pd_client_place);
	at += (size_t)model * 2 * sizeof(struct pd_model_place);
	return (struct pd_stamp *)(void *)(journal->map + at);
}

/* ---- segments ---- */

static bool is_state(uint32_t state)
{
	return (state >= PD_CLEAN && state <= PD_PARAMETER) ||
	       state == PD_OUTSIDE || state == PD_SHARED;
}

static bool is_client_possible(const struct pd_journal *journal,
			       const struct pd_segment_place *place)
{
	bool is_one = place->client < journal->pool.clients;

	switch (place->state) {
	case PD_LEASED:
	case PD_PARKED:
	case PD_OUTSIDE:
		return is_one;
	case PD_SHARED:
		return is_one || place->client == PD_NO_CLIENT;
	default:
		return place->client == PD_NO_CLIENT;
	}
}

/* Each is a client's place, and comes once. */
static bool are_openers_possible(const struct pd_journal *journal,
				 const struct pd_segment_place *place)
{
	uint32_t i, k, count = 0;

	for (i = 0; i < PD_OPENERS; i++) {
		if (place->openers[i] == PD_NO_OPENER)
			continue;
		count++;
		if (place->openers[i] >= journal->pool.clients ||
		    place->openers[i] == place->client)
			return false;
		for (k = 0; k < i; k++)
			if (place->openers[k] == place->openers[i])
				return false;
	}
	if (place->state == PD_SHARED)
		return count > 0;
	return count == 0 || place->state == PD_LEASED ||
	       place->state == PD_PARKED;
}

/* In the parameter region only, and never in what clients were given. */
static bool is_model_possible(const struct pd_journal *journal,
			      const struct pd_segment_place *place)
{
	if (place->model == PD_NO_MODEL)
		return place->position == 0;
	return place->state == PD_PARAMETER && place->is_tainted == 0 &&
	       place->model < IP_MODELS_MAX &&
	       place->position < journal->pool.segments;
}

static bool is_possible(const struct pd_journal *journal,
			const struct pd_segment_place *place)
{
	return is_state(place->state) && is_client_possible(journal, place) &&
	       place->is_tainted <= 1 && are_openers_possible(journal, place) &&
	       is_model_possible(journal, place);
}

struct pd_segment_record pd_journal_segment(const struct pd_journal *journal,
					    uint32_t number)
{
	struct pd_segment_record record = {
		.state = PD_DAMAGED,
		.client = PD_NO_CLIENT,
		.user = PD_NO_USER,
		.model = PD_NO_MODEL,
	};
	const struct pd_segment_place *place =
		(const struct pd_segment_place *)pd_place_newest(
			segment_at(journal, number), sizeof(*place));

	memset(record.openers, 0xff, sizeof(record.openers));
	if (!place || !is_possible(journal, place))
		return record;
	record.state = (enum pd_segment_state)place->state;
	record.client = place->client;
	record.user = place->user;
	record.epoch = place->epoch;
	record.is_tainted = place->is_tainted != 0;
	record.model = place->model;
	record.position = place->position;
	memcpy(record.openers, place->openers, sizeof(record.openers));
	return record;
}

void pd_journal_put_segment(struct pd_journal *journal, uint32_t number,
			    const struct pd_segment_record *record)
{
	struct pd_segment_place *place;
	struct pd_stamp *stamp;
	uint64_t version;
	/* Who writes of another region does not think of models. */
	bool has_model =
		record->state == PD_PARAMETER && record->model != PD_NO_MODEL;

	assert(is_state(record->state));
	stamp = pd_place_begin(segment_at(journal, number), sizeof(*place),
			       &version);
	place = (struct pd_segment_place *)(void *)stamp;
	place->state = record->state;
	place->client = record->client;
	place->user = record->user;
	place->epoch = record->epoch;
	place->is_tainted = record->is_tainted;
	place->model = has_model ? record->model : PD_NO_MODEL;
	place->position = has_model ? record->position : 0;
	place->spare = 0;
	memcpy(place->openers, record->openers, sizeof(place->openers));
	pd_place_commit(stamp, sizeof(*place), version);
}

/* ---- clients ---- */

enum ps_status pd_journal_client(const struct pd_journal *journal,
				 uint32_t slot,
				 struct pd_client_record *record_out)
{
	const struct pd_client_place *place =
		(const struct pd_client_place *)pd_place_newest(
			client_at(journal, slot), sizeof(*place));

	if (!place || place->used > 1)
		return bs_fail(PS_PROTOCOL,
			       "the journal's record of client %" PRIu32
			       " is damaged",
			       slot);
	*record_out = (struct pd_client_record){
		.used = place->used == 1,
		.id = place->id,
		.pid = place->pid,
		.uid = place->uid,
		.gid = place->gid,
		.flags = place->flags,
		.reservation = place->reservation,
		.limit = place->limit,
		.marks.started = place->started,
	};
	memcpy(record_out->token, place->token, sizeof(place->token));
	memcpy(record_out->name, place->name, sizeof(place->name));
	memcpy(record_out->marks.image, place->image, sizeof(place->image));
	return PS_OK;
}

void pd_journal_put_client(struct pd_journal *journal, uint32_t slot,
			   const struct pd_client_record *record)
{
	struct pd_client_place *place;
	struct pd_stamp *stamp;
	uint64_t version;

	stamp = pd_place_begin(client_at(journal, slot), sizeof(*place),
			       &version);
	place = (struct pd_client_place *)(void *)stamp;
	place->id = record->id;
	place->reservation = record->reservation;
	place->limit = record->limit;
	place->started = record->marks.started;
	memcpy(place->image, record->marks.image, sizeof(place->image));
	memcpy(place->token, record->token, sizeof(place->token));
	place->used = record->used;
	place->pid = record->pid;
	place->uid = record->uid;
	place->gid = record->gid;
	place->flags = record->flags;
	place->spare = 0;
	memcpy(place->name, record->name, sizeof(place->name));
	pd_place_commit(stamp, sizeof(*place), version);
}

/* ---- models ---- */

/* Ends within its bytes. */
static bool is_text(const char *text, size_t bytes)
{
	return memchr(text, '\0', bytes) != NULL;
}

static bool is_model_whole(const struct pd_model_place *place)
{
	if (place->state == PD_MODEL_FREE)
		return true;
	return place->state <= PD_MODEL_EVICTING && place->serial != 0 &&
	       place->is_known <= 1 && place->is_pinned <= 1 &&
	       place->files >= 1 && place->files <= IP_MODEL_FILES &&
	       place->plan <= PS_PLAN_GROUPS && place->name[0] != '\0' &&
	       is_text(place->name, sizeof(place->name)) &&
	       is_text(place->source, sizeof(place->source));
}

static void read_model(const struct pd_model_place *place,
		       struct pd_model_record *record_out)
{
	*record_out = (struct pd_model_record){
		.state = (enum pd_model_state)place->state,
		.serial = place->serial,
		.uid = place->uid,
		.flags = place->flags,
		.is_known = place->is_known != 0,
		.is_pinned = place->is_pinned != 0,
		.bytes = place->bytes,
		.tensors = place->tensors,
		.files = place->files,
		.slot = place->slot,
		.place = place->place,
		.plan = place->plan,
		.groups = place->groups,
	};
	memcpy(record_out->hash, place->hash, sizeof(place->hash));
	memcpy(record_out->name, place->name, sizeof(place->name));
	memcpy(record_out->source, place->source, sizeof(place->source));
}

enum ps_status pd_journal_model(const struct pd_journal *journal,
				uint32_t model,
				struct pd_model_record *record_out)
{
	const struct pd_model_place *place =
		(const struct pd_model_place *)pd_place_newest(
			model_at(journal, model), sizeof(*place));

	if (!place || !is_model_whole(place))
		return bs_fail(PS_PROTOCOL,
			       "the journal's record of model %" PRIu32
			       " is damaged",
			       model);
	if (place->state == PD_MODEL_FREE)
		*record_out =
			(struct pd_model_record){ .state = PD_MODEL_FREE };
	else
		read_model(place, record_out);
	return PS_OK;
}

static void write_model(struct pd_model_place *place,
			const struct pd_model_record *record)
{
	place->bytes = record->bytes;
	place->state = record->state;
	place->serial = record->serial;
	place->uid = record->uid;
	place->flags = record->flags;
	place->is_known = record->is_known;
	place->is_pinned = record->is_pinned;
	place->tensors = record->tensors;
	place->files = record->files;
	place->slot = record->slot;
	place->place = record->place;
	place->plan = record->plan;
	place->groups = record->groups;
	memcpy(place->hash, record->hash, sizeof(place->hash));
	memcpy(place->name, record->name, sizeof(place->name));
	memcpy(place->source, record->source, sizeof(place->source));
}

void pd_journal_put_model(struct pd_journal *journal, uint32_t model,
			  const struct pd_model_record *record)
{
	struct pd_stamp *stamp;
	uint64_t version;

	stamp = pd_place_begin(model_at(journal, model),
			       sizeof(struct pd_model_place), &version);
	write_model((struct pd_model_place *)(void *)stamp, record);
	pd_place_commit(stamp, sizeof(struct pd_model_place), version);
}
