/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copies in host memory: which model is read next, whose copy makes room for
 * it, and what becomes of what was read. A model is known from its first copy
 * on: only then have its name, its hash and its address a meaning.
 */
#include "poold/store/store_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the budget ---- */

uint64_t pd_host_used(const struct pd_store *store)
{
	uint64_t used = 0;
	uint32_t i;

	for (i = 0; i < store->end; i++)
		if (store->model[i].has_host)
			used += store->model[i].record.bytes;
	return used;
}

static bool may_drop(const struct pd_store *store, uint32_t number)
{
	const struct pd_model *model = &store->model[number];

	if (!model->has_host || model->record.state == PD_MODEL_LOADING)
		return false;
	return model->record.state != PD_MODEL_HOST ||
	       !pd_want_find(store, number, pd_want_is_there);
}

/* 0: its weights stay on the GPU whatever comes. */
static uint64_t worth(const struct pd_store *store, uint32_t number)
{
	const struct pd_model *model = &store->model[number];
	uint64_t used_ms = store->ops.last_used(store->owner, number);

	if (model->record.is_pinned)
		return 0;
	return 1 + (used_ms > model->touched_ms ? used_ms : model->touched_ms);
}

/* False: nobody's copy can go. */
static bool drop_one(struct pd_store *store)
{
	uint32_t i, best = PD_NO_MODEL;

	for (i = 0; i < store->end; i++)
		if (may_drop(store, i) &&
		    (best == PD_NO_MODEL ||
		     worth(store, i) < worth(store, best)))
			best = i;
	if (best == PD_NO_MODEL)
		return false;
	store->model[best].has_host = false;
	if (store->model[best].record.state == PD_MODEL_HOST)
		pd_store_set_state(store, best, PD_MODEL_KNOWN);
	store->ops.drop_host(store->owner, best);
	return true;
}

/* ---- what could not be read ---- */

static void fail(struct pd_store *store, uint32_t number, enum ps_status status,
		 const char *format, ...) __attribute__((format(printf, 4, 5)));

/* A model that was read once stays known: its files may be right again. */
static void fail(struct pd_store *store, uint32_t number, enum ps_status status,
		 const char *format, ...)
{
	struct pd_model *model = &store->model[number];
	char text[IP_TEXT_MAX + 1];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (model->record.is_known) {
		model->failures++;
		pd_store_set_state(store, number, PD_MODEL_KNOWN);
		pd_want_deny(store, number, pd_want_is_there, PS_LOAD_FAILED,
			     text);
		return;
	}
	pd_want_deny(store, number, pd_want_is_add, status, text);
	pd_store_forget(store, number);
}

static void lack_memory(struct pd_store *store, uint32_t number, uint64_t bytes)
{
	fail(store, number, PS_HOST_MEMORY,
	     "model %s takes %llu bytes of host memory, %llu of %llu are taken "
	     "by others: raise --host-memory of poolswitchd",
	     store->model[number].record.name, (unsigned long long)bytes,
	     (unsigned long long)pd_host_used(store),
	     (unsigned long long)store->host_budget);
}

/* ---- what is read next ---- */

static bool is_reading(const struct pd_store *store)
{
	uint32_t i;

	for (i = 0; i < store->end; i++)
		if (store->model[i].is_reading)
			return true;
	return false;
}

/* What is waited for, in that order; else the one that came first. */
static uint32_t next_read(const struct pd_store *store)
{
	uint32_t i, best = PD_NO_MODEL;
	const struct pd_want *want;

	for (want = store->first; want; want = want->next)
		if (store->model[want->model].record.state == PD_MODEL_READING)
			return want->model;
	for (i = 0; i < store->end; i++)
		if (store->model[i].record.state == PD_MODEL_READING &&
		    (best == PD_NO_MODEL ||
		     store->model[i].record.serial <
			     store->model[best].record.serial))
			best = i;
	return best;
}

/* False: it was refused, or it has to wait for a copy that is in use. */
static bool make_room(struct pd_store *store, uint32_t number)
{
	const struct pd_model *model = &store->model[number];
	uint64_t bytes = model->record.bytes;

	if (bytes < model->host_wish)
		bytes = model->host_wish;
	if (bytes > store->host_budget) {
		lack_memory(store, number, bytes);
		return false;
	}
	while (pd_host_used(store) > store->host_budget - bytes)
		if (!drop_one(store))
			return false;
	return true;
}

void pd_host_serve(struct pd_store *store)
{
	uint32_t number;

	while (!is_reading(store)) {
		number = next_read(store);
		if (number == PD_NO_MODEL)
			return;
		if (make_room(store, number)) {
			store->model[number].is_reading = true;
			store->ops.read(store->owner, number);
			return;
		}
		if (store->model[number].record.state == PD_MODEL_READING)
			return;
	}
}

/* ---- what was read ---- */

static bool overlaps(const struct pd_model *model, uint32_t slot, uint32_t need)
{
	uint32_t its = model->need > 0 ? model->need : 1;

	return model->record.slot != 0 && slot < model->record.slot + its &&
	       model->record.slot < slot + need;
}

/* The first addresses that nobody has; 0: there are none. */
static uint32_t find_slot(const struct pd_store *store, uint32_t need)
{
	uint32_t slot = store->first_slot, i = 0;
	const struct pd_model *model;

	if (need == 0)
		need = 1;
	while (i < store->end) {
		model = &store->model[i++];
		if (!overlaps(model, slot, need))
			continue;
		slot = model->record.slot + (model->need ? model->need : 1);
		i = 0;
	}
	if (slot > store->end_slot || store->end_slot - slot < need)
		return 0;
	return slot;
}

static uint32_t find_namesake(const struct pd_store *store, uint32_t number)
{
	const char *name = store->model[number].record.name;
	uint32_t i;

	for (i = 0; i < store->end; i++)
		if (i != number && store->model[i].record.is_known &&
		    strcmp(store->model[i].record.name, name) == 0)
			return i;
	return PD_NO_MODEL;
}

/* It is there already, or the name is another's. */
static void merge(struct pd_store *store, uint32_t number, uint32_t older,
		  const struct pd_model_record *found)
{
	const struct pd_model_record *mine = &store->model[number].record;
	const struct pd_model_record *its = &store->model[older].record;

	if (memcmp(its->hash, found->hash, sizeof(its->hash)) != 0 ||
	    its->flags != mine->flags ||
	    (its->uid != mine->uid && !(its->flags & PS_MODEL_PUBLIC))) {
		fail(store, number, PS_REFUSED,
		     "the name %s is another model's: choose another, or "
		     "remove that one",
		     mine->name);
		return;
	}
	pd_want_done(store, number, pd_want_is_add, older);
	pd_store_forget(store, number);
}

static void settle(struct pd_store *store, uint32_t number,
		   const struct pd_model_record *found, uint32_t slot)
{
	struct pd_model *model = &store->model[number];

	model->need = pd_needs(store, found->bytes);
	model->has_host = true;
	model->record.bytes = found->bytes;
	model->record.tensors = found->tensors;
	model->record.slot = slot;
	model->record.is_known = true;
	memcpy(model->record.hash, found->hash, sizeof(found->hash));
	pd_store_set_state(store, number, PD_MODEL_HOST);
	pd_want_done(store, number, pd_want_is_add, number);
}

static void accept_new(struct pd_store *store, uint32_t number,
		       const struct pd_model_record *found)
{
	const char *name = store->model[number].record.name;
	uint32_t older = find_namesake(store, number), slot;
	uint64_t all = pd_room_most(store) * store->unit;

	if (older != PD_NO_MODEL) {
		merge(store, number, older, found);
		return;
	}
	if (found->bytes > all) {
		fail(store, number, PS_OUT_OF_RANGE,
		     "model %s has %llu bytes, the parameter region has %llu: "
		     "start poolswitchd with a larger one (--parameter)",
		     name, (unsigned long long)found->bytes,
		     (unsigned long long)all);
		return;
	}
	slot = find_slot(store, pd_needs(store, found->bytes));
	if (slot == 0)
		fail(store, number, PS_OUT_OF_RANGE,
		     "no addresses are left for the %llu bytes of model %s: "
		     "remove another model",
		     (unsigned long long)found->bytes, name);
	else
		settle(store, number, found, slot);
}

static void accept_again(struct pd_store *store, uint32_t number,
			 const struct pd_model_record *found)
{
	struct pd_model *model = &store->model[number];

	if (memcmp(model->record.hash, found->hash, sizeof(found->hash)) != 0 ||
	    model->record.bytes != found->bytes) {
		store->ops.drop_host(store->owner, number);
		fail(store, number, PS_LOAD_FAILED,
		     "the files of model %s have other contents now: remove it "
		     "and add them under another name",
		     model->record.name);
		return;
	}
	model->has_host = true;
	pd_store_set_state(store, number, PD_MODEL_HOST);
}

static void try_with_more(struct pd_store *store, uint32_t number,
			  const char *text, uint64_t bytes)
{
	if (!drop_one(store)) {
		fail(store, number, PS_HOST_MEMORY, "%s", text);
		return;
	}
	store->model[number].host_wish = bytes;
}

void pd_store_read(struct pd_store *store, uint32_t model,
		   enum ps_status status, const char *text,
		   const struct pd_model_record *found, uint64_t now_ms)
{
	struct pd_model *its = &store->model[model];

	store->now_ms = now_ms;
	if (store->is_lost || !its->is_reading)
		return;
	its->is_reading = false;
	if (status == PS_HOST_MEMORY)
		try_with_more(store, model, text, found ? found->bytes : 0);
	else if (status != PS_OK)
		fail(store, model, status, "%s", text);
	else if (its->record.is_known)
		accept_again(store, model, found);
	else
		accept_new(store, model, found);
	pd_store_serve(store);
}
