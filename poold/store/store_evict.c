/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Making room: who goes, and how.
 *
 * The words of the clients are taken back first; from then on nobody can begin
 * to use the model without asking. Then the journal says EVICTING, then its
 * segments are nobody's, then the counter's reset is asked for: whatever is
 * loaded into them is asked for later, and so copied later.
 */
#include "poold/store/store_internal.h"

#include <stdlib.h>

static bool is_used(const struct pd_store *store, uint32_t model)
{
	return store->ops.is_used(store->owner, model);
}

/* pre: nobody uses it. */
static void reset(struct pd_store *store, uint32_t model)
{
	struct pd_model *its = &store->model[model];

	pd_room_release(store, model);
	its->is_reset = true;
	its->reset_ms = 0;
	store->has_moved = true;
	store->ops.reset(store->owner, model);
}

bool pd_evict(struct pd_store *store, uint32_t model)
{
	struct pd_model *its = &store->model[model];

	if (is_used(store, model) || !store->ops.take_back(store->owner, model))
		return false;
	its->record.is_pinned = false;
	its->is_reset = false;
	its->evictions++;
	pd_store_set_state(store, model, PD_MODEL_EVICTING);
	reset(store, model);
	return true;
}

/* ---- whom ---- */

static double score_of(const struct pd_store *store, uint32_t number)
{
	const struct pd_model *model = &store->model[number];
	uint64_t used_ms = store->ops.last_used(store->owner, number);
	double cost = (double)model->record.bytes + 1.0;

	if (used_ms < model->touched_ms)
		used_ms = model->touched_ms;
	if (!model->has_host)
		cost *= PD_READ_COST;
	if (used_ms >= store->now_ms)
		return cost;
	return cost / ((double)(store->now_ms - used_ms) + 1.0);
}

static bool may_go(const struct pd_model *model)
{
	if (model->record.state == PD_MODEL_EVICTING)
		return !model->is_reset;
	return pd_is_loaded(model) && !model->record.is_pinned;
}

static int by_score(const void *a, const void *b)
{
	const struct pd_victim *first = a, *second = b;

	if (first->score != second->score)
		return first->score < second->score ? -1 : 1;
	return first->model < second->model ? -1 : 1;
}

/* The cheapest first. */
static uint32_t find_victims(struct pd_store *store, uint32_t but)
{
	uint32_t i, count = 0;
	struct pd_model *model;

	for (i = 0; i < store->end; i++) {
		model = &store->model[i];
		if (i == but || model->need == 0 || !may_go(model))
			continue;
		store->victim[count++] = (struct pd_victim){
			.model = i,
			.is_idle = model->record.state == PD_MODEL_RESIDENT &&
				   !is_used(store, i),
			.score = score_of(store, i),
		};
	}
	qsort(store->victim, count, sizeof(store->victim[0]), by_score);
	return count;
}

static uint32_t need_of(const struct pd_store *store, uint32_t i)
{
	return store->model[store->victim[i].model].need;
}

/* Until they have @lack segments; how many they lack still. */
static uint32_t choose(struct pd_store *store, uint32_t count, bool idle,
		       uint32_t lack)
{
	uint32_t i, need;

	for (i = 0; i < count && lack > 0; i++) {
		if (store->victim[i].is_idle != idle)
			continue;
		need = need_of(store, i);
		store->victim[i].is_chosen = true;
		lack -= need < lack ? need : lack;
	}
	return lack;
}

/* Who need not go after all, the dearest first. */
static void spare(struct pd_store *store, uint32_t count, uint32_t lack)
{
	uint32_t i, sum = 0;

	for (i = 0; i < count; i++)
		sum += store->victim[i].is_chosen ? need_of(store, i) : 0;
	for (i = count; i-- > 0;) {
		if (!store->victim[i].is_chosen ||
		    sum - need_of(store, i) < lack)
			continue;
		store->victim[i].is_chosen = false;
		sum -= need_of(store, i);
	}
}

static void evict_chosen(struct pd_store *store, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (store->victim[i].is_chosen)
			(void)pd_evict(store, store->victim[i].model);
}

/* Those that were asked and are idle now go at once: else they would be in use
 * again before the others are idle. */
static bool mark(struct pd_store *store, uint32_t count)
{
	struct pd_model *model;
	bool any = false;
	uint32_t i;

	for (i = 0; i < count; i++) {
		model = &store->model[store->victim[i].model];
		model->is_in_the_way = true;
		model->was_used = !store->victim[i].is_idle &&
				  model->record.state == PD_MODEL_RESIDENT;
		if (!store->victim[i].is_chosen)
			continue;
		if (model->is_asked && store->victim[i].is_idle)
			any |= pd_evict(store, store->victim[i].model);
		else
			model->is_wanted |= !store->victim[i].is_idle;
	}
	return any;
}

bool pd_evict_for(struct pd_store *store, uint32_t model, uint32_t lack,
		  bool may_ask)
{
	uint32_t count = find_victims(store, model), left;

	left = choose(store, count, true, lack);
	if (left == 0) {
		spare(store, count, lack);
		evict_chosen(store, count);
		return true;
	}
	if (!may_ask)
		return false;
	(void)choose(store, count, false, left);
	spare(store, count, lack);
	return mark(store, count);
}

/* ---- those that are going ---- */

static void serve_one(struct pd_store *store, uint32_t number)
{
	struct pd_model *model = &store->model[number];

	if (!model->is_reset) {
		model->was_used = is_used(store, number) ||
				  !store->ops.take_back(store->owner, number);
		model->is_in_the_way = model->was_used;
		if (!model->was_used)
			reset(store, number);
		return;
	}
	if (model->reset_ms == 0 || model->reset_ms > store->now_ms)
		return;
	model->reset_ms = 0;
	store->ops.reset(store->owner, number);
}

void pd_evict_serve(struct pd_store *store)
{
	uint32_t i;

	for (i = 0; i < store->end; i++)
		if (store->model[i].record.state == PD_MODEL_EVICTING)
			serve_one(store, i);
}

uint64_t pd_evict_due(const struct pd_store *store)
{
	uint64_t due_ms = PD_NEVER;
	const struct pd_model *model;
	uint32_t i;

	for (i = 0; i < store->end; i++) {
		model = &store->model[i];
		if (model->record.state == PD_MODEL_EVICTING &&
		    model->reset_ms != 0 && model->reset_ms < due_ms)
			due_ms = model->reset_ms;
	}
	return due_ms;
}
