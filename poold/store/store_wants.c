/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who waits: the highest priority first, then who came first. One walk does
 * for each what can be done. What somebody lacks room for blocks those behind
 * him who lack room, and who wants to begin to use what stands in his way.
 */
#include "poold/store/store_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

bool pd_want_is_add(enum pd_want_kind kind)
{
	return kind == PD_WANT_ADD;
}

bool pd_want_is_load(enum pd_want_kind kind)
{
	return kind == PD_WANT_LOAD || kind == PD_WANT_PIN ||
	       kind == PD_WANT_PREFETCH;
}

bool pd_want_is_there(enum pd_want_kind kind)
{
	return kind == PD_WANT_USE || pd_want_is_load(kind);
}

bool pd_want_is_any(enum pd_want_kind kind)
{
	(void)kind;
	return true;
}

/* ---- the list ---- */

static uint32_t count_of(const struct pd_store *store, uint32_t slot)
{
	const struct pd_want *want;
	uint32_t count = 0;

	for (want = store->first; want; want = want->next)
		count += want->asker.slot == slot &&
			 want->kind != PD_WANT_PREFETCH;
	return count;
}

enum ps_status pd_want_add(struct pd_store *store, const struct pd_want *want)
{
	struct pd_want **at = &store->first, *copy;

	if (want->asker.slot != PD_NO_CLIENT &&
	    count_of(store, want->asker.slot) >= PD_WANTS_MAX)
		return bs_fail(PS_REFUSED,
			       "%u requests for models wait for this process "
			       "already: wait for their answers",
			       PD_WANTS_MAX);
	copy = malloc(sizeof(*copy));
	if (!copy)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for a request for a model");
	*copy = *want;
	while (*at && (*at)->priority >= want->priority)
		at = &(*at)->next;
	copy->next = *at;
	*at = copy;
	return PS_OK;
}

static void end(struct pd_store *store, struct pd_want **at)
{
	struct pd_want *want = *at;

	*at = want->next;
	free(want);
	store->has_moved = true;
}

static void deny(struct pd_store *store, const struct pd_want *want,
		 enum ps_status status, const char *text)
{
	if (want->kind != PD_WANT_PREFETCH)
		store->ops.deny(store->owner, want->asker, status, text);
}

void pd_want_deny(struct pd_store *store, uint32_t model,
		  bool (*is_one)(enum pd_want_kind kind), enum ps_status status,
		  const char *text)
{
	struct pd_want **at = &store->first;

	while (*at) {
		if ((*at)->model != model || !is_one((*at)->kind)) {
			at = &(*at)->next;
			continue;
		}
		deny(store, *at, status, text);
		end(store, at);
	}
}

void pd_want_done(struct pd_store *store, uint32_t model,
		  bool (*is_one)(enum pd_want_kind kind), uint32_t answer)
{
	struct pd_want **at = &store->first;

	while (*at) {
		if ((*at)->model != model || !is_one((*at)->kind)) {
			at = &(*at)->next;
			continue;
		}
		store->ops.done(store->owner, (*at)->asker, answer);
		end(store, at);
	}
}

const struct pd_want *pd_want_find(const struct pd_store *store, uint32_t model,
				   bool (*is_one)(enum pd_want_kind kind))
{
	const struct pd_want *want;

	for (want = store->first; want; want = want->next)
		if (want->model == model && is_one(want->kind))
			return want;
	return NULL;
}

void pd_store_forget_asker(struct pd_store *store, struct pd_asker asker)
{
	struct pd_want **at = &store->first;
	const struct pd_want *want;

	while (*at) {
		want = *at;
		if (want->asker.slot == asker.slot &&
		    (want->asker.tag == asker.tag ||
		     asker.tag == PD_ALL_TAGS) &&
		    want->kind != PD_WANT_PREFETCH)
			end(store, at);
		else
			at = &(*at)->next;
	}
	pd_store_serve(store);
}

/* ---- answers ---- */

static enum pd_outcome refuse(struct pd_store *store,
			      const struct pd_want *want, enum ps_status status,
			      const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static enum pd_outcome refuse(struct pd_store *store,
			      const struct pd_want *want, enum ps_status status,
			      const char *format, ...)
{
	char text[IP_TEXT_MAX + 1];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	deny(store, want, status, text);
	return PD_SERVED;
}

static enum pd_outcome say_done(struct pd_store *store,
				const struct pd_want *want)
{
	if (want->kind != PD_WANT_PREFETCH)
		store->ops.done(store->owner, want->asker, want->model);
	return PD_SERVED;
}

static void add_name(char *text, size_t room, const struct pd_model *model)
{
	size_t at = strlen(text);

	snprintf(text + at, room - at, "%s%s", at > 0 ? ", " : "",
		 model->record.name);
}

/* The models that have segments, pinned ones or others. */
static void name_holders(const struct pd_store *store, uint32_t but,
			 bool pinned, char *text, size_t room)
{
	const struct pd_model *model;
	uint32_t i, others = 0;
	size_t at;

	text[0] = '\0';
	for (i = 0; i < store->end; i++) {
		model = &store->model[i];
		if (i == but || model->record.is_pinned != pinned ||
		    (!pd_is_loaded(model) && !model->has_claim))
			continue;
		if (strlen(text) + strlen(model->record.name) + 32 < room)
			add_name(text, room, model);
		else
			others++;
	}
	at = strlen(text);
	if (others > 0)
		snprintf(text + at, room - at, at > 0 ? " and %u more" : "%u",
			 others);
	else if (at == 0)
		snprintf(text, room, "none");
}

/* What is left of a request whose time is over. */
static enum pd_outcome deny_late(struct pd_store *store,
				 const struct pd_want *want,
				 enum pd_outcome why)
{
	const struct pd_model *model = &store->model[want->model];
	unsigned long long waited = store->now_ms - want->began_ms;
	char in_use[200], pinned[80];

	if (why == PD_WAIT_USER)
		return refuse(store, want, PS_BUSY,
			      "model %s is still in use after %llu ms: release "
			      "it, or wait longer",
			      model->record.name, waited);
	if (why == PD_WAIT_WORK)
		return refuse(store, want, PS_TIMED_OUT,
			      "model %s is not ready after %llu ms; its way "
			      "goes on: ask again",
			      model->record.name, waited);
	name_holders(store, want->model, false, in_use, sizeof(in_use));
	name_holders(store, want->model, true, pinned, sizeof(pinned));
	return refuse(store, want, PS_OUT_OF_MEMORY,
		      "no room for the %u segments of model %s after %llu ms; "
		      "there are: %s; pinned: %s. Release or evict one",
		      model->need, model->record.name, waited, in_use, pinned);
}

/* ---- what each wants ---- */

static enum pd_outcome read_first(struct pd_store *store, uint32_t model)
{
	if (store->model[model].record.state == PD_MODEL_KNOWN) {
		store->model[model].host_wish = 0;
		pd_store_set_state(store, model, PD_MODEL_READING);
	}
	return PD_WAIT_WORK;
}

static enum pd_outcome load_claimed(struct pd_store *store,
				    const struct pd_want *want)
{
	struct pd_model *model = &store->model[want->model];

	if (!pd_room_is_ready(store, want->model))
		return PD_WAIT_WORK;
	model->record.is_pinned = want->kind == PD_WANT_PIN;
	pd_room_load(store, want->model, want->priority);
	store->has_moved = true;
	return PD_WAIT_WORK;
}

/* However long it waited. */
static enum pd_outcome deny_for_good(struct pd_store *store,
				     const struct pd_want *want,
				     uint32_t usable)
{
	const struct pd_model *model = &store->model[want->model];
	char pinned[200];

	name_holders(store, want->model, true, pinned, sizeof(pinned));
	return refuse(store, want, PS_OUT_OF_MEMORY,
		      "model %s takes %u segments, and %u are neither pinned "
		      "nor given away; pinned: %s. Unpin one",
		      model->record.name, model->need, usable, pinned);
}

static enum pd_outcome get_room(struct pd_store *store,
				const struct pd_want *want)
{
	struct pd_model *model = &store->model[want->model];
	uint32_t usable = pd_room_usable(store, want->model), tries = 0;
	bool may_ask = want->kind != PD_WANT_PREFETCH;

	if (model->has_claim)
		return load_claimed(store, want);
	if (model->need > usable)
		return deny_for_good(store, want, usable);
	if (store->is_blocked)
		return PD_WAIT_ROOM;
	while (pd_room_free(store) < model->need)
		if (++tries > PD_TRIES_MAX ||
		    !pd_evict_for(store, want->model,
				  model->need - pd_room_free(store), may_ask))
			break;
	if (pd_room_free(store) < model->need) {
		store->is_blocked |= may_ask;
		return PD_WAIT_ROOM;
	}
	if (pd_room_claim(store, want->model) != PS_OK)
		return refuse(store, want, PS_HOST_MEMORY, "%s",
			      bs_fail_text());
	return load_claimed(store, want);
}

/* A model that is not on the GPU, on its way there. */
static enum pd_outcome bring(struct pd_store *store, const struct pd_want *want)
{
	switch (store->model[want->model].record.state) {
	case PD_MODEL_KNOWN:
		return read_first(store, want->model);
	case PD_MODEL_HOST:
		return get_room(store, want);
	case PD_MODEL_EVICTING:
		return store->model[want->model].is_reset ? PD_WAIT_WORK
							  : PD_WAIT_USER;
	default:
		return PD_WAIT_WORK;
	}
}

static enum pd_outcome serve_use(struct pd_store *store,
				 const struct pd_want *want)
{
	struct pd_model *model = &store->model[want->model];
	enum pd_outcome outcome;

	if (!pd_is_loaded(model)) {
		outcome = bring(store, want);
		if (outcome == PD_SERVED || !pd_is_loaded(model))
			return outcome;
	}
	if (model->is_wanted)
		return PD_WAIT_ROOM;
	if (model->record.state == PD_MODEL_LOADING &&
	    want->priority > model->priority) {
		model->priority = want->priority;
		store->ops.load(store->owner, want->model, want->priority);
	}
	model->touched_ms = store->now_ms;
	store->ops.place(store->owner, want->asker, want->model);
	return PD_SERVED;
}

static enum pd_outcome serve_load(struct pd_store *store,
				  const struct pd_want *want)
{
	struct pd_model *model = &store->model[want->model];

	if (!pd_is_loaded(model))
		return bring(store, want);
	if (want->kind == PD_WANT_PIN && !model->record.is_pinned) {
		model->record.is_pinned = true;
		pd_store_put(store, want->model);
	}
	if (model->record.state == PD_MODEL_RESIDENT ||
	    want->kind == PD_WANT_PREFETCH)
		return say_done(store, want);
	return PD_WAIT_WORK;
}

/* Off the GPU. PD_SERVED: it is, and nobody was told yet. */
static enum pd_outcome take_off(struct pd_store *store, uint32_t number)
{
	struct pd_model *model = &store->model[number];

	if (model->record.state == PD_MODEL_RESIDENT &&
	    !pd_evict(store, number)) {
		model->is_in_the_way = true;
		model->was_used = true;
		model->is_wanted = true;
		return PD_WAIT_USER;
	}
	if (model->record.state == PD_MODEL_EVICTING)
		return model->is_reset ? PD_WAIT_WORK : PD_WAIT_USER;
	if (model->record.state == PD_MODEL_LOADING) {
		model->is_wanted = true;
		return PD_WAIT_WORK;
	}
	return PD_SERVED;
}

static enum pd_outcome serve_evict(struct pd_store *store,
				   const struct pd_want *want)
{
	enum pd_outcome outcome;

	if (store->model[want->model].record.is_pinned)
		return refuse(store, want, PS_BUSY,
			      "model %s is pinned: unpin it first",
			      store->model[want->model].record.name);
	outcome = take_off(store, want->model);
	return outcome == PD_SERVED ? say_done(store, want) : outcome;
}

static enum pd_outcome serve_remove(struct pd_store *store,
				    const struct pd_want *want)
{
	const struct pd_model *model = &store->model[want->model];
	enum pd_outcome outcome;

	if (model->attached > 0)
		return refuse(store, want, PS_BUSY,
			      "%u processes have model %s attached: detach "
			      "first",
			      model->attached, model->record.name);
	outcome = take_off(store, want->model);
	if (outcome != PD_SERVED)
		return outcome;
	if (store->ops.is_used(store->owner, want->model))
		return PD_WAIT_USER;
	pd_store_forget(store, want->model);
	return say_done(store, want);
}

static enum pd_outcome serve_want(struct pd_store *store,
				  const struct pd_want *want)
{
	const struct pd_model *model = &store->model[want->model];

	if (model->record.state == PD_MODEL_FREE ||
	    model->record.serial != want->serial)
		return refuse(store, want, PS_NO_MODEL,
			      "the model was removed meanwhile");
	switch (want->kind) {
	case PD_WANT_USE:
		return serve_use(store, want);
	case PD_WANT_LOAD:
	case PD_WANT_PREFETCH:
	case PD_WANT_PIN:
		return serve_load(store, want);
	case PD_WANT_EVICT:
		return serve_evict(store, want);
	case PD_WANT_REMOVE:
		return serve_remove(store, want);
	case PD_WANT_ADD:
		break;
	}
	return PD_WAIT_WORK;
}

/* ---- the walk ---- */

static void walk(struct pd_store *store)
{
	struct pd_want **at = &store->first;
	enum pd_outcome outcome;

	while (*at) {
		outcome = serve_want(store, *at);
		if (outcome != PD_SERVED && store->now_ms >= (*at)->until_ms)
			outcome = deny_late(store, *at, outcome);
		if (outcome == PD_SERVED)
			end(store, at);
		else
			at = &(*at)->next;
	}
}

/* Segments that were chosen for somebody who does not wait any more. */
static void drop_claims(struct pd_store *store)
{
	uint32_t i;

	for (i = 0; i < store->end; i++)
		if (store->model[i].has_claim &&
		    !pd_want_find(store, i, pd_want_is_there))
			pd_room_unclaim(store, i);
}

static void begin_walk(struct pd_store *store)
{
	uint32_t i;

	store->is_blocked = false;
	store->has_moved = false;
	for (i = 0; i < store->end; i++) {
		store->model[i].is_wanted = false;
		store->model[i].is_in_the_way = false;
		store->model[i].was_used = false;
	}
	drop_claims(store);
}

/* False: it was in use when the walk came by, and is not any more. */
static bool ask(struct pd_store *store, uint32_t number)
{
	struct pd_model *model = &store->model[number];

	if (!model->is_in_the_way) {
		model->is_asked = false;
		return true;
	}
	if (model->is_asked && !model->is_heard)
		return true;
	model->is_asked =
		store->ops.yield(store->owner, number, store->yield_ms);
	model->is_heard = false;
	return model->is_asked || !model->was_used;
}

static bool ask_all(struct pd_store *store)
{
	bool all = true;
	uint32_t i;

	for (i = 0; i < store->end; i++)
		all &= ask(store, i);
	return all;
}

static void arm(struct pd_store *store)
{
	uint64_t at_ms = pd_room_due(store), due_ms = pd_evict_due(store);
	const struct pd_want *want;

	if (due_ms < at_ms)
		at_ms = due_ms;
	for (want = store->first; want; want = want->next)
		if (want->until_ms < at_ms)
			at_ms = want->until_ms;
	if (at_ms == PD_NEVER)
		at_ms = 0;
	if (at_ms == store->armed_ms)
		return;
	store->armed_ms = at_ms;
	store->ops.arm(store->owner, at_ms);
}

void pd_store_serve(struct pd_store *store)
{
	uint32_t tries = 0;

	if (store->is_lost)
		return;
	do {
		begin_walk(store);
		pd_room_serve(store);
		pd_evict_serve(store);
		walk(store);
		pd_host_serve(store);
	} while (store->has_moved ||
		 (!ask_all(store) && ++tries < PD_TRIES_MAX));
	arm(store);
}
