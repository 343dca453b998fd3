/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "poold/store/store_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- records ---- */

void pd_store_put(struct pd_store *store, uint32_t model)
{
	pd_journal_put_model(store->journal, model,
			     &store->model[model].record);
}

void pd_store_set_state(struct pd_store *store, uint32_t model,
			enum pd_model_state state)
{
	store->model[model].record.state = state;
	pd_store_put(store, model);
}

void pd_store_forget(struct pd_store *store, uint32_t model)
{
	struct pd_model *its = &store->model[model];

	assert(its->attached == 0);
	if (its->has_claim)
		pd_room_unclaim(store, model);
	free(its->last);
	memset(its, 0, sizeof(*its));
	pd_store_put(store, model);
	while (store->end > 0 &&
	       store->model[store->end - 1].record.state == PD_MODEL_FREE)
		store->end--;
	store->has_moved = true;
	store->ops.forget(store->owner, model);
}

/* ---- life ---- */

void pd_store_free(struct pd_store *store)
{
	struct pd_want *want;
	uint32_t i;

	if (!store)
		return;
	assert(store->magic == PD_STORE_MAGIC);
	while (store->first) {
		want = store->first;
		store->first = want->next;
		free(want);
	}
	for (i = 0; i < IP_MODELS_MAX; i++)
		free(store->model[i].last);
	free(store->cell);
	store->magic = 0;
	free(store);
}

void pd_store_lose(struct pd_store *store)
{
	uint32_t i;

	if (store->is_lost)
		return;
	store->is_lost = true;
	for (i = 0; i < IP_MODELS_MAX; i++)
		pd_want_deny(store, i, pd_want_is_any, PS_DEVICE_LOST,
			     "the GPU is lost: start poolswitchd again");
	if (store->armed_ms != 0)
		store->ops.arm(store->owner, 0);
	store->armed_ms = 0;
}

/* ---- what has been done ---- */

/* Its users are let through by the counter, on weights that are not right:
 * nothing else comes where they read, until they are gone. */
static void load_failed(struct pd_store *store, uint32_t model,
			const char *text)
{
	struct pd_model *its = &store->model[model];

	its->failures++;
	its->is_reset = false;
	its->record.is_pinned = false;
	pd_store_set_state(store, model, PD_MODEL_EVICTING);
	pd_want_deny(store, model, pd_want_is_load, PS_LOAD_FAILED, text);
}

void pd_store_loaded(struct pd_store *store, uint32_t model,
		     enum ps_status status, const char *text, uint64_t now_ms)
{
	struct pd_model *its = &store->model[model];

	store->now_ms = now_ms;
	if (store->is_lost || its->record.state != PD_MODEL_LOADING)
		return;
	if (status == PS_OK) {
		its->loads++;
		its->touched_ms = now_ms;
		pd_store_set_state(store, model, PD_MODEL_RESIDENT);
	} else {
		load_failed(store, model, text);
	}
	pd_store_serve(store);
}

void pd_store_reset_done(struct pd_store *store, uint32_t model,
			 enum ps_status status, uint64_t now_ms)
{
	struct pd_model *its = &store->model[model];

	store->now_ms = now_ms;
	if (store->is_lost || its->record.state != PD_MODEL_EVICTING ||
	    !its->is_reset)
		return;
	if (status == PS_OK) {
		its->is_reset = false;
		pd_store_set_state(store, model,
				   its->has_host ? PD_MODEL_HOST
						 : PD_MODEL_KNOWN);
	} else {
		its->reset_ms = now_ms + PD_STORE_REST_MS;
	}
	pd_store_serve(store);
}

void pd_store_remade(struct pd_store *store, uint32_t segment,
		     enum ps_status status, uint64_t now_ms)
{
	store->now_ms = now_ms;
	if (store->is_lost || segment >= store->cells)
		return;
	pd_room_remade(store, segment, status);
	pd_store_serve(store);
}

void pd_store_yielded(struct pd_store *store, uint32_t model, uint64_t now_ms)
{
	store->now_ms = now_ms;
	store->model[model].is_heard = true;
	pd_store_serve(store);
}

void pd_store_tick(struct pd_store *store, uint64_t now_ms)
{
	store->now_ms = now_ms;
	store->armed_ms = 0;
	pd_store_serve(store);
}

void pd_store_attached(struct pd_store *store, uint32_t model, int change)
{
	struct pd_model *its = &store->model[model];

	assert(its->record.is_known);
	assert(change > 0 || its->attached >= (uint32_t)-change);
	its->attached += (uint32_t)change;
}

bool pd_store_give_away(struct pd_store *store, uint32_t segment)
{
	struct pd_cell *cell;

	if (segment >= store->cells)
		return false;
	cell = &store->cell[segment];
	if (cell->is_tainted)
		return true;
	if (!pd_room_is_free(store, segment) || cell->remaking != PD_KEPT)
		return false;
	cell->is_tainted = true;
	pd_room_put(store, segment);
	pd_store_serve(store);
	return true;
}

/* ---- questions ---- */

static uint32_t waiting_for(const struct pd_store *store, uint32_t model)
{
	const struct pd_want *want;
	uint32_t count = 0;

	for (want = store->first; want; want = want->next)
		count += want->model == model;
	return count;
}

bool pd_store_model(const struct pd_store *store, uint32_t model,
		    struct pd_model_view *view_out)
{
	const struct pd_model *its = &store->model[model];

	if (its->record.state == PD_MODEL_FREE)
		return false;
	*view_out = (struct pd_model_view){
		.record = its->record,
		.has_host = its->has_host,
		.attached = its->attached,
		.waiting = waiting_for(store, model),
		.loads = its->loads,
		.evictions = its->evictions,
		.failures = its->failures,
	};
	return true;
}

uint32_t pd_store_segments(const struct pd_store *store, uint32_t model,
			   uint32_t *segments_out)
{
	uint32_t n, count = 0;

	for (n = 0; n < store->cells; n++) {
		if (store->cell[n].model != model)
			continue;
		segments_out[store->cell[n].position] = n;
		count++;
	}
	return count;
}

uint32_t pd_store_segment_count(const struct pd_store *store, uint32_t model)
{
	return store->model[model].need;
}
