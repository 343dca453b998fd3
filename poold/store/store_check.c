/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The validator: compares what the store keeps with the journal and with
 * itself, and looks whether anybody waits who need not.
 */
#include "poold/store/store_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"

static enum ps_status wrong(const char *what, uint64_t at, uint64_t is,
			    uint64_t should)
{
	return bs_fail(PS_INVALID_ARGUMENT,
		       "%s (%llu): %llu, should be %llu; the store is broken",
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

static enum ps_status check_owner(const struct pd_store *store, uint32_t n)
{
	const struct pd_cell *cell = &store->cell[n];
	const struct pd_model *model;

	if (cell->model == PD_NO_MODEL)
		return PS_OK;
	EXPECT("model of segment", n, cell->model < IP_MODELS_MAX, true);
	model = &store->model[cell->model];
	if (model->is_damaged)
		return PS_OK;
	EXPECT("a model's and chosen for another: segment", n, cell->claim,
	       PD_NO_MODEL);
	EXPECT("given away and a model's: segment", n, cell->is_tainted, false);
	EXPECT("of a model that has none: segment", n,
	       pd_is_loaded(model) ||
		       (model->record.state == PD_MODEL_EVICTING &&
			!model->is_reset),
	       true);
	if (pd_is_loaded(model)) {
		EXPECT("readers of segment", n, cell->user, pd_readers(model));
		EXPECT("being remade under a model: segment", n, cell->remaking,
		       PD_KEPT);
	}
	return PS_OK;
}

static enum ps_status check_claim(const struct pd_store *store, uint32_t n)
{
	const struct pd_cell *cell = &store->cell[n];
	const struct pd_model *model;

	if (cell->claim == PD_NO_MODEL)
		return PS_OK;
	EXPECT("claim of segment", n, cell->claim < IP_MODELS_MAX, true);
	model = &store->model[cell->claim];
	EXPECT("chosen for a model that has not chosen: segment", n,
	       model->has_claim, true);
	EXPECT("chosen for a model that is not in host memory: segment", n,
	       model->record.state, PD_MODEL_HOST);
	EXPECT("given away and chosen: segment", n, cell->is_tainted, false);
	EXPECT("chosen as it is, of other readers: segment", n,
	       cell->remaking == PD_KEPT && cell->user != PD_NO_USER &&
		       cell->user != pd_readers(model),
	       false);
	return PS_OK;
}

static enum ps_status check_cell(const struct pd_store *store, uint32_t n)
{
	struct pd_segment_record record = pd_journal_segment(store->journal, n);
	const struct pd_cell *cell = &store->cell[n];
	enum ps_status status;

	if (cell->is_damaged)
		return PS_OK;
	EXPECT("journal: model of segment", n, record.model, cell->model);
	EXPECT("journal: position of segment", n, record.position,
	       cell->position);
	EXPECT("journal: user of segment", n, record.user, cell->user);
	EXPECT("journal: segment is given away", n, record.is_tainted,
	       cell->is_tainted);
	status = check_owner(store, n);
	return status == PS_OK ? check_claim(store, n) : status;
}

/* ---- models ---- */

static enum ps_status check_record(const struct pd_store *store, uint32_t i)
{
	const struct pd_model_record *is = &store->model[i].record;
	struct pd_model_record record;

	EXPECT("journal: model can be read", i,
	       pd_journal_model(store->journal, i, &record), PS_OK);
	EXPECT("journal: state of model", i, record.state, is->state);
	EXPECT("journal: serial of model", i, record.serial, is->serial);
	EXPECT("journal: user of model", i, record.uid, is->uid);
	EXPECT("journal: flags of model", i, record.flags, is->flags);
	EXPECT("journal: model is known", i, record.is_known, is->is_known);
	EXPECT("journal: model is pinned", i, record.is_pinned, is->is_pinned);
	EXPECT("journal: bytes of model", i, record.bytes, is->bytes);
	EXPECT("journal: slot of model", i, record.slot, is->slot);
	EXPECT("journal: place of model", i, record.place, is->place);
	EXPECT("journal: name of model", i, strcmp(record.name, is->name), 0);
	EXPECT("journal: hash of model", i,
	       memcmp(record.hash, is->hash, sizeof(is->hash)), 0);
	return PS_OK;
}

static enum ps_status check_positions(const struct pd_store *store, uint32_t i)
{
	const struct pd_model *model = &store->model[i];
	uint32_t n, count = 0, claims = 0, sum = 0;

	for (n = 0; n < store->cells; n++) {
		claims += store->cell[n].claim == i;
		if (store->cell[n].model != i)
			continue;
		EXPECT("position of segment", n,
		       store->cell[n].position < model->need, true);
		EXPECT("where the model was said to lie: segment", n,
		       model->has_last &&
			       model->last[store->cell[n].position] != n,
		       false);
		sum += store->cell[n].position;
		count++;
	}
	EXPECT("chosen for model", i, claims,
	       model->has_claim ? model->need : 0);
	if (pd_is_loaded(model)) {
		EXPECT("segments of model", i, count, model->need);
		EXPECT("positions of model", i, sum,
		       count > 0 ? count * (count - 1) / 2 : 0);
	}
	return PS_OK;
}

static enum ps_status check_address(const struct pd_store *store, uint32_t i)
{
	const struct pd_model *model = &store->model[i], *other;
	uint32_t k, end = model->record.slot + model->need;

	EXPECT("address of model", i,
	       model->record.slot >= store->first_slot &&
		       end <= store->end_slot,
	       true);
	EXPECT("segments by bytes of model", i, model->need,
	       pd_needs(store, model->record.bytes));
	for (k = 0; k < i; k++) {
		other = &store->model[k];
		EXPECT("addresses overlap: model", i,
		       other->record.slot != 0 && other->record.slot < end &&
			       model->record.slot <
				       other->record.slot + other->need,
		       false);
		EXPECT("its name is another's: model", i,
		       other->record.is_known &&
			       strcmp(other->record.name, model->record.name) ==
				       0,
		       false);
	}
	return PS_OK;
}

static enum ps_status check_state(const struct pd_store *store, uint32_t i)
{
	const struct pd_model *model = &store->model[i];
	enum pd_model_state state = model->record.state;

	EXPECT("reads and is not reading: model", i,
	       model->is_reading && state != PD_MODEL_READING, false);
	EXPECT("not known: model", i, model->record.is_known,
	       state != PD_MODEL_READING || model->record.is_known);
	EXPECT("without host copy: model", i,
	       (state == PD_MODEL_HOST || state == PD_MODEL_LOADING) &&
		       !model->has_host,
	       false);
	EXPECT("with host copy: model", i,
	       (state == PD_MODEL_KNOWN || state == PD_MODEL_READING) &&
		       model->has_host,
	       false);
	EXPECT("pinned and not on the GPU: model", i,
	       model->record.is_pinned && !pd_is_loaded(model), false);
	EXPECT("reset and not going: model", i,
	       model->is_reset && state != PD_MODEL_EVICTING, false);
	EXPECT("its reset is asked for while it is in use: model", i,
	       model->is_reset && store->ops.is_used(store->owner, i), false);
	EXPECT("attached and not known: model", i,
	       model->attached > 0 && !model->record.is_known, false);
	return PS_OK;
}

static enum ps_status check_model(const struct pd_store *store, uint32_t i)
{
	const struct pd_model *model = &store->model[i];
	enum ps_status status;

	if (model->is_damaged)
		return PS_OK;
	status = check_record(store, i);
	if (status == PS_OK && model->record.state != PD_MODEL_FREE)
		status = check_state(store, i);
	if (status == PS_OK)
		status = check_positions(store, i);
	if (status == PS_OK && model->record.is_known)
		status = check_address(store, i);
	return status;
}

/* ---- who waits ---- */

static bool lacks_nothing(const struct pd_store *store,
			  const struct pd_want *want)
{
	const struct pd_model *model = &store->model[want->model];
	bool loaded = pd_is_loaded(model);

	switch (want->kind) {
	case PD_WANT_USE:
		return loaded && !model->is_wanted;
	case PD_WANT_PREFETCH:
		return loaded;
	case PD_WANT_LOAD:
	case PD_WANT_PIN:
		return model->record.state == PD_MODEL_RESIDENT;
	case PD_WANT_ADD:
		return model->record.is_known;
	case PD_WANT_EVICT:
	case PD_WANT_REMOVE:
		break;
	}
	return false;
}

static enum ps_status check_want(const struct pd_store *store,
				 const struct pd_want *want, bool is_first)
{
	const struct pd_model *model = &store->model[want->model];
	bool needs = pd_want_is_there(want->kind) &&
		     model->record.state == PD_MODEL_HOST;

	EXPECT("waits for nobody's model", want->model, model->record.serial,
	       want->serial);
	EXPECT("waits beyond its time, for model", want->model,
	       want->until_ms <= store->now_ms, false);
	EXPECT("waits and could be served, by model", want->model,
	       lacks_nothing(store, want), false);
	EXPECT("has its segments and is not loaded: model", want->model,
	       needs && model->has_claim &&
		       pd_room_is_ready(store, want->model),
	       false);
	EXPECT("waits for room that there is: model", want->model,
	       needs && is_first && !model->has_claim &&
		       pd_room_free(store) >= model->need,
	       false);
	return PS_OK;
}

static enum ps_status check_wants(const struct pd_store *store)
{
	const struct pd_want *want;
	uint32_t priority = UINT32_MAX;
	bool is_first = true;
	enum ps_status status;

	EXPECT("waits for a lost GPU", 0,
	       store->is_lost && store->first != NULL, false);
	for (want = store->first; want; want = want->next) {
		EXPECT("not in order, for model", want->model,
		       want->priority <= priority, true);
		priority = want->priority;
		status = check_want(store, want, is_first);
		if (status != PS_OK)
			return status;
		if (pd_want_is_there(want->kind) &&
		    store->model[want->model].record.state == PD_MODEL_HOST &&
		    !store->model[want->model].has_claim)
			is_first = false;
	}
	return PS_OK;
}

/* ---- all ---- */

static enum ps_status check_reads(const struct pd_store *store)
{
	uint32_t i, reads = 0;

	for (i = 0; i < IP_MODELS_MAX; i++) {
		reads += store->model[i].is_reading;
		EXPECT("is beyond the last model", i,
		       i >= store->end &&
			       store->model[i].record.state != PD_MODEL_FREE,
		       false);
	}
	EXPECT("models that are read at once", 0, reads <= 1, true);
	EXPECT("bytes of host memory", 0,
	       pd_host_used(store) <= store->host_budget, true);
	return PS_OK;
}

enum ps_status pd_store_check(const struct pd_store *store)
{
	enum ps_status status = PS_OK;
	uint32_t i;

	EXPECT("magic", 0, store->magic, PD_STORE_MAGIC);
	for (i = 0; i < store->cells && status == PS_OK; i++)
		status = check_cell(store, i);
	for (i = 0; i < IP_MODELS_MAX && status == PS_OK; i++)
		status = check_model(store, i);
	if (status == PS_OK)
		status = check_reads(store);
	if (status == PS_OK)
		status = check_wants(store);
	return status;
}
