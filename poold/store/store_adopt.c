/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A store from what the journal says. A writer that was killed between two
 * records leaves segments of a model that has none (they are nobody's), or a
 * model without all of its segments (its load is taken back). What is damaged
 * is left alone: its number and its segments are nobody's.
 */
#include "poold/store/store_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"

static void adopt_cell(struct pd_store *store, uint32_t n)
{
	struct pd_segment_record record = pd_journal_segment(store->journal, n);
	struct pd_cell *cell = &store->cell[n];

	*cell = (struct pd_cell){
		.model = record.model,
		.position = record.position,
		.user = record.user,
		.is_tainted = record.is_tainted,
		.claim = PD_NO_MODEL,
	};
	if (record.state == PD_PARAMETER &&
	    (record.model == PD_NO_MODEL || record.model < IP_MODELS_MAX))
		return;
	cell->model = PD_NO_MODEL;
	cell->is_tainted = true;
	cell->is_damaged = true;
}

static void adopt_model(struct pd_store *store, uint32_t number, bool has_host)
{
	struct pd_model *model = &store->model[number];
	struct pd_model_record *record = &model->record;

	if (pd_journal_model(store->journal, number, record) != PS_OK) {
		memset(record, 0, sizeof(*record));
		model->is_damaged = true;
		return;
	}
	if (record->state == PD_MODEL_FREE)
		return;
	store->end = number + 1;
	if (record->serial > store->serial)
		store->serial = record->serial;
	model->need = pd_needs(store, record->bytes);
	model->has_host = has_host && record->is_known;
	model->touched_ms = store->now_ms;
	model->priority = PS_PRIORITY_DEFAULT;
	if (record->state == PD_MODEL_HOST && !has_host)
		pd_store_set_state(store, number, PD_MODEL_KNOWN);
	if ((record->state == PD_MODEL_KNOWN ||
	     record->state == PD_MODEL_READING) &&
	    model->has_host)
		pd_store_set_state(store, number, PD_MODEL_HOST);
}

/* ---- which of them is whole ---- */

/* Each position once, and where: as far as there is memory to know it. */
static bool has_its_segments(struct pd_store *store, uint32_t number,
			     const bool *is_lost)
{
	struct pd_model *model = &store->model[number];
	uint32_t n, count = 0;

	model->last = calloc((size_t)model->need + 1, sizeof(*model->last));
	if (!model->last)
		return false;
	memset(model->last, 0xff, model->need * sizeof(*model->last));
	for (n = 0; n < store->cells; n++) {
		if (store->cell[n].model != number)
			continue;
		if (is_lost[n] || store->cell[n].position >= model->need ||
		    model->last[store->cell[n].position] != UINT32_MAX)
			return false;
		model->last[store->cell[n].position] = n;
		count++;
	}
	return count == model->need;
}

static void settle_model(struct pd_store *store, uint32_t number,
			 const bool *is_lost)
{
	struct pd_model *model = &store->model[number];

	if (!pd_is_loaded(model))
		return;
	model->has_last = has_its_segments(store, number, is_lost);
	if (model->has_last &&
	    (model->record.state == PD_MODEL_RESIDENT || model->has_host))
		return;
	model->record.is_pinned = false;
	pd_store_set_state(store, number, PD_MODEL_EVICTING);
}

static void settle_cell(struct pd_store *store, uint32_t n)
{
	struct pd_cell *cell = &store->cell[n];
	const struct pd_model *model;

	if (cell->model == PD_NO_MODEL)
		return;
	model = &store->model[cell->model];
	if (pd_is_loaded(model) || model->is_damaged ||
	    model->record.state == PD_MODEL_EVICTING)
		return;
	cell->model = PD_NO_MODEL;
	cell->position = 0;
	pd_room_put(store, n);
}

/* ---- what goes on ---- */

static void go_on(struct pd_store *store, const bool *is_lost)
{
	uint32_t i;

	pd_evict_serve(store);
	for (i = 0; i < store->cells; i++)
		if (is_lost[i] && !store->cell[i].is_damaged)
			pd_room_remake(store, i);
	for (i = 0; i < IP_MODELS_MAX; i++)
		if (store->model[i].record.state == PD_MODEL_LOADING)
			store->ops.load(store->owner, i, PS_PRIORITY_DEFAULT);
	pd_store_serve(store);
}

static void adopt(struct pd_store *store, const bool *has_host,
		  const bool *is_lost)
{
	uint32_t i;

	for (i = 0; i < store->cells; i++)
		adopt_cell(store, i);
	for (i = 0; i < IP_MODELS_MAX; i++)
		adopt_model(store, i, has_host[i]);
	for (i = 0; i < IP_MODELS_MAX; i++)
		settle_model(store, i, is_lost);
	for (i = 0; i < store->cells; i++)
		settle_cell(store, i);
	go_on(store, is_lost);
}

enum ps_status pd_store_new(const struct pd_store_config *config,
			    const bool *has_host, const bool *is_lost,
			    uint64_t now_ms, struct pd_store **store_out)
{
	const struct pd_pool_record *pool = pd_journal_pool(config->journal);
	struct pd_store *store = calloc(1, sizeof(*store));
	uint32_t slots = (uint32_t)(pool->window_bytes / pool->segment_bytes);

	if (!store)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for the store of models");
	store->magic = PD_STORE_MAGIC;
	store->journal = config->journal;
	store->ops = config->ops;
	store->owner = config->owner;
	store->host_budget = config->host_budget;
	store->yield_ms = config->yield_ms;
	store->unit = pool->segment_bytes;
	store->cells = pd_needs(store, pool->parameter_bytes);
	/* The board is in the first slot of the upper half. */
	store->first_slot = slots / 2 + 1;
	store->end_slot = slots;
	store->now_ms = now_ms;
	store->cell = calloc((size_t)store->cells + 1, sizeof(*store->cell));
	if (!store->cell) {
		pd_store_free(store);
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for the store's segments");
	}
	adopt(store, has_host, is_lost);
	*store_out = store;
	return PS_OK;
}
