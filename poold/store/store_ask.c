/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests as they come: whether who asks may, and what is refused at once.
 * To whom a model is not shown, it is not there: the answer is the same.
 */
#include "poold/store/store_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

bool pd_store_may_see(const struct pd_store *store, uint32_t model,
		      uint32_t uid, bool is_master)
{
	const struct pd_model_record *record = &store->model[model].record;

	return is_master || record->uid == uid ||
	       (record->flags & PS_MODEL_PUBLIC) != 0;
}

static enum ps_status fail_none(const char *name)
{
	return bs_fail(PS_NO_MODEL,
		       "there is no model %s: poolswitch model list shows "
		       "those that there are",
		       name);
}

/* The one that is known; else one that is being read; PD_NO_MODEL. */
static uint32_t find_named(const struct pd_store *store, const char *name,
			   uint32_t uid, bool is_master)
{
	uint32_t i, reading = PD_NO_MODEL;
	const struct pd_model *model;

	for (i = 0; i < store->end; i++) {
		model = &store->model[i];
		if (model->record.state == PD_MODEL_FREE ||
		    strcmp(model->record.name, name) != 0 ||
		    !pd_store_may_see(store, i, uid, is_master))
			continue;
		if (model->record.is_known)
			return i;
		if (reading == PD_NO_MODEL)
			reading = i;
	}
	return reading;
}

static uint32_t find_hashed(const struct pd_store *store, const uint8_t *hash,
			    uint32_t uid, bool is_master)
{
	const struct pd_model *model;
	uint32_t i;

	for (i = 0; i < store->end; i++) {
		model = &store->model[i];
		if (model->record.is_known &&
		    memcmp(model->record.hash, hash, PS_MODEL_HASH_BYTES) ==
			    0 &&
		    pd_store_may_see(store, i, uid, is_master))
			return i;
	}
	return PD_NO_MODEL;
}

static enum ps_status find_by_hash(const struct pd_store *store, uint32_t uid,
				   bool is_master, const struct ip_find *find,
				   uint32_t *model_out)
{
	uint32_t model = find_hashed(store, find->hash, uid, is_master);

	if (model == PD_NO_MODEL)
		return bs_fail(PS_NO_MODEL, "there is no model with that hash: "
					    "poolswitch model list shows those "
					    "that there are");
	*model_out = model;
	return PS_OK;
}

enum ps_status pd_store_find(const struct pd_store *store, uint32_t uid,
			     bool is_master, const struct ip_find *find,
			     uint32_t *model_out)
{
	const struct pd_model_record *record;
	uint32_t model;

	if (!(find->flags & IP_FIND_NAME))
		return find_by_hash(store, uid, is_master, find, model_out);
	model = find_named(store, find->name, uid, is_master);
	if (model == PD_NO_MODEL)
		return fail_none(find->name);
	record = &store->model[model].record;
	if (!record->is_known)
		return bs_fail(PS_AGAIN,
			       "model %s is still being read: ask again",
			       find->name);
	if ((find->flags & IP_FIND_HASH) &&
	    memcmp(record->hash, find->hash, PS_MODEL_HASH_BYTES) != 0)
		return bs_fail(PS_MODEL_MISMATCH,
			       "model %s has another hash than the one asked "
			       "for: it is another version",
			       find->name);
	*model_out = model;
	return PS_OK;
}

/* ---- requests ---- */

static void deny(struct pd_store *store, struct pd_asker asker,
		 enum ps_status status)
{
	store->ops.deny(store->owner, asker, status, bs_fail_text());
}

static bool deny_lost(struct pd_store *store, struct pd_asker asker)
{
	if (store->is_lost)
		store->ops.deny(store->owner, asker, PS_DEVICE_LOST,
				"the GPU is lost: start poolswitchd again");
	return store->is_lost;
}

static void enter(struct pd_store *store, const struct pd_want *want)
{
	enum ps_status status = pd_want_add(store, want);

	if (status != PS_OK)
		deny(store, want->asker, status);
	else
		pd_store_serve(store);
}

static uint32_t find_number(const struct pd_store *store)
{
	uint32_t i;

	for (i = 0; i < IP_MODELS_MAX; i++)
		if (store->model[i].record.state == PD_MODEL_FREE &&
		    !store->model[i].is_damaged)
			return i;
	return PD_NO_MODEL;
}

static void begin_model(struct pd_store *store, uint32_t number,
			const struct pd_model_record *record)
{
	struct pd_model *model = &store->model[number];

	store->serial += store->serial == UINT32_MAX ? 2 : 1;
	if (store->end <= number)
		store->end = number + 1;
	model->record = (struct pd_model_record){
		.serial = store->serial,
		.uid = record->uid,
		.flags = record->flags,
		.files = record->files,
		.plan = record->plan,
		.groups = record->groups,
	};
	memcpy(model->record.name, record->name, sizeof(record->name));
	memcpy(model->record.source, record->source, sizeof(record->source));
	pd_store_set_state(store, number, PD_MODEL_READING);
}

void pd_store_add(struct pd_store *store, struct pd_asker asker,
		  const struct pd_model_record *record, uint64_t now_ms,
		  uint32_t *model_out)
{
	uint32_t number = find_number(store);
	struct pd_want want = {
		.kind = PD_WANT_ADD,
		.asker = asker,
		.model = number,
		.began_ms = now_ms,
		.until_ms = PD_NEVER,
	};
	enum ps_status status;

	store->now_ms = now_ms;
	*model_out = PD_NO_MODEL;
	if (deny_lost(store, asker))
		return;
	if (number == PD_NO_MODEL) {
		deny(store, asker,
		     bs_fail(PS_REFUSED,
			     "there are %u models already: remove one",
			     IP_MODELS_MAX));
		return;
	}
	want.serial = store->serial + (store->serial == UINT32_MAX ? 2 : 1);
	status = pd_want_add(store, &want);
	if (status != PS_OK) {
		deny(store, asker, status);
		return;
	}
	*model_out = number;
	begin_model(store, number, record);
	pd_store_serve(store);
}

void pd_store_use(struct pd_store *store, struct pd_asker asker,
		  const struct ip_use_request *use, uint64_t now_ms)
{
	const struct pd_want want = {
		.kind = PD_WANT_USE,
		.asker = asker,
		.model = use->model,
		.serial = use->serial,
		.priority = use->priority,
		.began_ms = now_ms,
		.until_ms = now_ms + use->wait_ms,
	};

	store->now_ms = now_ms;
	if (!deny_lost(store, asker))
		enter(store, &want);
}

/* ---- orders ---- */

static enum pd_want_kind kind_of(uint32_t order)
{
	switch (order) {
	case PS_MODEL_PREFETCH:
		return PD_WANT_PREFETCH;
	case PS_MODEL_PIN:
		return PD_WANT_PIN;
	case PS_MODEL_EVICT:
		return PD_WANT_EVICT;
	case PS_MODEL_REMOVE:
		return PD_WANT_REMOVE;
	default:
		return PD_WANT_LOAD;
	}
}

static enum ps_status check_order(const struct pd_store *store, uint32_t model,
				  uint32_t uid, bool is_master,
				  const struct ip_order *order)
{
	bool is_for_all = order->order == PS_MODEL_LOAD ||
			  order->order == PS_MODEL_PREFETCH;

	if (order->order < PS_MODEL_LOAD || order->order > PS_MODEL_REMOVE)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%u is no order for a model", order->order);
	if (model == PD_NO_MODEL)
		return fail_none(order->name);
	if (!is_for_all && !is_master && store->model[model].record.uid != uid)
		return bs_fail(PS_PERMISSION,
			       "model %s is user %u's: only he, the daemon's "
			       "user and root may change it",
			       order->name, store->model[model].record.uid);
	if (!store->model[model].record.is_known &&
	    order->order != PS_MODEL_REMOVE)
		return bs_fail(PS_AGAIN,
			       "model %s is still being read: ask again",
			       order->name);
	return PS_OK;
}

static void unpin(struct pd_store *store, struct pd_asker asker, uint32_t model)
{
	store->model[model].record.is_pinned = false;
	pd_store_put(store, model);
	store->ops.done(store->owner, asker, model);
	pd_store_serve(store);
}

/* One of a model is enough: the later one's time counts. */
static void prefetch(struct pd_store *store, const struct pd_want *want)
{
	struct pd_want *at;
	enum ps_status status;

	for (at = store->first; at; at = at->next)
		if (at->kind == PD_WANT_PREFETCH && at->model == want->model &&
		    at->serial == want->serial)
			break;
	status = at ? PS_OK : pd_want_add(store, want);
	if (status != PS_OK) {
		deny(store, want->asker, status);
		return;
	}
	if (at)
		at->until_ms = want->until_ms;
	store->ops.done(store->owner, want->asker, want->model);
	pd_store_serve(store);
}

void pd_store_order(struct pd_store *store, struct pd_asker asker, uint32_t uid,
		    bool is_master, const struct ip_order *order,
		    uint64_t now_ms)
{
	uint32_t model = find_named(store, order->name, uid, is_master);
	enum ps_status status;
	struct pd_want want = {
		.kind = kind_of(order->order),
		.asker = asker,
		.model = model,
		.priority = PS_PRIORITY_DEFAULT,
		.began_ms = now_ms,
		.until_ms = now_ms + order->wait_ms,
	};

	store->now_ms = now_ms;
	if (deny_lost(store, asker))
		return;
	status = check_order(store, model, uid, is_master, order);
	if (status != PS_OK) {
		deny(store, asker, status);
		return;
	}
	want.serial = store->model[model].record.serial;
	if (order->order == PS_MODEL_UNPIN) {
		unpin(store, asker, model);
	} else if (order->order == PS_MODEL_PREFETCH) {
		want.priority = 0;
		prefetch(store, &want);
	} else {
		enter(store, &want);
	}
}
