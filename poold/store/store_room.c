/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Segments: which a model gets, and which have to be remade before.
 *
 * A segment is claimed for a model in memory only; the journal says that it is
 * the model's when all of its segments are ready and the load begins. A claim
 * that is given up leaves a segment as it is, or fresh.
 */
#include "poold/store/store_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

void pd_room_put(struct pd_store *store, uint32_t n)
{
	struct pd_segment_record record = pd_journal_segment(store->journal, n);
	const struct pd_cell *cell = &store->cell[n];

	record.user = cell->user;
	record.is_tainted = cell->is_tainted;
	record.model = cell->model;
	record.position = cell->position;
	pd_journal_put_segment(store->journal, n, &record);
}

/* ---- how much there is ---- */

bool pd_room_is_free(const struct pd_store *store, uint32_t n)
{
	const struct pd_cell *cell = &store->cell[n];

	return cell->model == PD_NO_MODEL && cell->claim == PD_NO_MODEL &&
	       !cell->is_tainted;
}

uint32_t pd_room_free(const struct pd_store *store)
{
	uint32_t n, count = 0;

	for (n = 0; n < store->cells; n++)
		count += pd_room_is_free(store, n);
	return count;
}

/* Given away, or what a damaged model may have. */
static bool is_out(const struct pd_store *store, uint32_t n)
{
	uint32_t of = store->cell[n].model;

	return store->cell[n].is_tainted ||
	       (of != PD_NO_MODEL && store->model[of].is_damaged);
}

uint32_t pd_room_most(const struct pd_store *store)
{
	uint32_t n, count = 0;

	for (n = 0; n < store->cells; n++)
		count += !is_out(store, n);
	return count;
}

uint32_t pd_room_usable(const struct pd_store *store, uint32_t model)
{
	uint32_t n, of, count = 0;

	for (n = 0; n < store->cells; n++) {
		of = store->cell[n].model;
		if (of != PD_NO_MODEL && of != model &&
		    store->model[of].record.is_pinned)
			continue;
		count += !is_out(store, n);
	}
	return count;
}

/* ---- remaking ---- */

static bool lay_in(const struct pd_model *model, uint32_t n)
{
	uint32_t i;

	for (i = 0; model->has_last && i < model->need; i++)
		if (model->last[i] == n)
			return true;
	return false;
}

void pd_room_remake(struct pd_store *store, uint32_t n)
{
	store->cell[n].remaking = PD_MAKING;
	store->ops.remake(store->owner, n);
}

void pd_room_serve(struct pd_store *store)
{
	uint32_t n;

	for (n = 0; n < store->cells; n++)
		if (store->cell[n].remaking == PD_RESTING &&
		    store->cell[n].due_ms <= store->now_ms)
			pd_room_remake(store, n);
}

uint64_t pd_room_due(const struct pd_store *store)
{
	uint64_t due_ms = PD_NEVER;
	uint32_t n;

	for (n = 0; n < store->cells; n++)
		if (store->cell[n].remaking == PD_RESTING &&
		    store->cell[n].due_ms < due_ms)
			due_ms = store->cell[n].due_ms;
	return due_ms;
}

/* What lay in it lies there no more: another place, when it comes again. */
static void make_fresh(struct pd_store *store, uint32_t n)
{
	struct pd_model *model;
	uint32_t i;

	store->cell[n].remaking = PD_KEPT;
	store->cell[n].user = PD_NO_USER;
	pd_room_put(store, n);
	for (i = 0; i < store->end; i++) {
		model = &store->model[i];
		if (lay_in(model, n))
			model->has_last = false;
	}
}

void pd_room_remade(struct pd_store *store, uint32_t n, enum ps_status status)
{
	struct pd_cell *cell = &store->cell[n];

	if (cell->remaking != PD_MAKING)
		return;
	if (status == PS_OK) {
		cell->tries = 0;
		make_fresh(store, n);
		return;
	}
	cell->remaking = PD_RESTING;
	cell->due_ms =
		store->now_ms + ((uint64_t)PD_STORE_REST_MS << cell->tries);
	if (cell->tries < PD_STORE_RESTS)
		cell->tries++;
}

/* ---- claims ---- */

static void claim(struct pd_store *store, uint32_t n, uint32_t model,
		  uint32_t position)
{
	struct pd_cell *cell = &store->cell[n];
	uint32_t readers = pd_readers(&store->model[model]);

	cell->claim = model;
	cell->claim_position = position;
	if (cell->remaking == PD_KEPT && cell->user != PD_NO_USER &&
	    cell->user != readers)
		pd_room_remake(store, n);
}

static bool is_for(const struct pd_cell *cell, uint32_t readers)
{
	return cell->remaking == PD_KEPT &&
	       (cell->user == readers || cell->user == PD_NO_USER);
}

/* Where it lay, if all of it can be had as it is. */
static bool claim_last(struct pd_store *store, uint32_t number)
{
	struct pd_model *model = &store->model[number];
	uint32_t readers = pd_readers(model), i;

	if (!model->has_last)
		return false;
	for (i = 0; i < model->need; i++)
		if (!pd_room_is_free(store, model->last[i]) ||
		    !is_for(&store->cell[model->last[i]], readers))
			return false;
	for (i = 0; i < model->need; i++)
		claim(store, model->last[i], number, i);
	return true;
}

/* The smaller the sooner: as it is, fresh, being remade, of other readers. */
static unsigned int rank_of(const struct pd_cell *cell, uint32_t readers)
{
	if (cell->remaking != PD_KEPT)
		return 2;
	if (cell->user == readers)
		return 0;
	return cell->user == PD_NO_USER ? 1 : 3;
}

static void claim_any(struct pd_store *store, uint32_t number)
{
	struct pd_model *model = &store->model[number];
	uint32_t readers = pd_readers(model), at = 0, n;
	unsigned int rank;

	for (rank = 0; rank < 4; rank++)
		for (n = 0; n < store->cells && at < model->need; n++)
			if (pd_room_is_free(store, n) &&
			    rank_of(&store->cell[n], readers) == rank)
				claim(store, n, number, at++);
	assert(at == model->need);
}

enum ps_status pd_room_claim(struct pd_store *store, uint32_t model)
{
	struct pd_model *its = &store->model[model];

	if (!its->last)
		its->last = calloc((size_t)its->need + 1, sizeof(*its->last));
	if (!its->last)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for a list of %u segments",
			       its->need);
	if (!claim_last(store, model))
		claim_any(store, model);
	its->has_claim = true;
	return PS_OK;
}

void pd_room_unclaim(struct pd_store *store, uint32_t model)
{
	uint32_t n;

	store->model[model].has_claim = false;
	for (n = 0; n < store->cells; n++)
		if (store->cell[n].claim == model)
			store->cell[n].claim = PD_NO_MODEL;
}

bool pd_room_is_ready(const struct pd_store *store, uint32_t model)
{
	uint32_t n;

	for (n = 0; n < store->cells; n++)
		if (store->cell[n].claim == model &&
		    store->cell[n].remaking != PD_KEPT)
			return false;
	return true;
}

/* ---- what the journal says ---- */

/* Notes where the model lies; true: where it lay. */
static bool is_where_it_was(struct pd_store *store, uint32_t number)
{
	struct pd_model *model = &store->model[number];
	bool is_same = model->has_last;
	struct pd_cell *cell;
	uint32_t n;

	for (n = 0; n < store->cells; n++) {
		cell = &store->cell[n];
		if (cell->claim != number)
			continue;
		is_same = is_same && model->last[cell->claim_position] == n;
		model->last[cell->claim_position] = n;
	}
	model->has_last = true;
	return is_same;
}

static void take_claimed(struct pd_store *store, uint32_t number)
{
	uint32_t readers = pd_readers(&store->model[number]), n;
	struct pd_cell *cell;

	for (n = 0; n < store->cells; n++) {
		cell = &store->cell[n];
		if (cell->claim != number)
			continue;
		cell->claim = PD_NO_MODEL;
		cell->model = number;
		cell->position = cell->claim_position;
		cell->user = readers;
		pd_room_put(store, n);
	}
}

void pd_room_load(struct pd_store *store, uint32_t model, uint32_t priority)
{
	struct pd_model *its = &store->model[model];

	assert(its->record.state == PD_MODEL_HOST && its->has_claim);
	if (!is_where_it_was(store, model) || its->record.place == 0)
		its->record.place += its->record.place == UINT32_MAX ? 2 : 1;
	take_claimed(store, model);
	its->has_claim = false;
	its->priority = priority;
	its->touched_ms = store->now_ms;
	pd_store_set_state(store, model, PD_MODEL_LOADING);
	store->ops.load(store->owner, model, priority);
}

void pd_room_release(struct pd_store *store, uint32_t model)
{
	uint32_t n;

	for (n = 0; n < store->cells; n++) {
		if (store->cell[n].model != model)
			continue;
		store->cell[n].model = PD_NO_MODEL;
		store->cell[n].position = 0;
		pd_room_put(store, n);
	}
}
