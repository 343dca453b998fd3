/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What is said of the models: docs/daemon.md has the fields. Everybody is told
 * of those that he may attach to, and no more. */
#include "poold/agent_models.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static json_t *number(uint64_t value)
{
	return json_integer(
		(json_int_t)(value > INT64_MAX ? INT64_MAX : value));
}

static const char *state_name(enum pd_model_state state)
{
	switch (state) {
	case PD_MODEL_READING:
		return "reading";
	case PD_MODEL_KNOWN:
		return "known";
	case PD_MODEL_HOST:
		return "host";
	case PD_MODEL_LOADING:
		return "loading";
	case PD_MODEL_RESIDENT:
		return "resident";
	case PD_MODEL_EVICTING:
		return "evicting";
	case PD_MODEL_FREE:
		break;
	}
	return "free";
}

static json_t *hash_text(const struct pd_model_record *record)
{
	char digits[2 * PS_MODEL_HASH_BYTES + 1];

	if (!record->is_known)
		return json_null();
	for (size_t i = 0; i < PS_MODEL_HASH_BYTES; i++)
		snprintf(digits + 2 * i, 3, "%02x", record->hash[i]);
	return json_string(digits);
}

/* One that has it in use; one that has not joined again is not counted. */
static uint32_t count_users(const struct pd_models *models, uint32_t model)
{
	uint32_t users = 0;

	for (const struct pd_bond *bond = models->model[model].bonds; bond;
	     bond = bond->next_of_model)
		users += bond->member->page && pd_bond_is_busy(bond);
	return users;
}

static uint32_t count_deaf(const struct pd_models *models, uint32_t model)
{
	uint32_t deaf = 0;

	for (const struct pd_bond *bond = models->model[model].bonds; bond;
	     bond = bond->next_of_model)
		deaf += bond->is_deaf;
	return deaf;
}

static uint64_t bytes_read(const struct pd_models *models, uint32_t model)
{
	uint64_t done = 0;
	uint64_t all = 0;

	if (models->reading == model)
		pd_hosts_progress(models->hosts, model, &done, &all);
	return done;
}

static json_t *numbers_part(const struct pd_models *models, uint32_t model,
			    const struct pd_model_view *view)
{
	const struct pd_pool_record *pool =
		pd_journal_pool(models->agent->journal);
	const struct pd_model_record *record = &view->record;
	uint64_t address =
		record->slot
			? pool->window_base + record->slot * pool->segment_bytes
			: 0;

	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
		"s:o}",
		"bytes", number(record->bytes), "tensors",
		number(record->tensors), "address", number(address), "segments",
		number(pd_store_segment_count(models->store, model)), "landed",
		number(models->landed->model[model].landed), "users",
		number(count_users(models, model)), "attached",
		number(view->attached), "waiting", number(view->waiting),
		"deaf", number(count_deaf(models, model)), "host",
		number(models->model[model].host_bytes), "read",
		number(bytes_read(models, model)), "uid", number(record->uid),
		"loads", number(view->loads));
}

static json_t *model_part(const struct pd_models *models, uint32_t model,
			  const struct pd_model_view *view)
{
	const struct pd_model_record *record = &view->record;
	json_t *part = json_pack(
		"{s:s, s:o, s:s, s:b, s:b, s:s, s:o, s:o, s:o, s:o}", "name",
		record->name, "hash", hash_text(record), "state",
		state_name(record->state), "pinned", (int)record->is_pinned,
		"public", (int)((record->flags & PS_MODEL_PUBLIC) != 0),
		"source", record->source, "evictions", number(view->evictions),
		"failures", number(view->failures), "copied",
		number(models->model[model].copied), "load_ns",
		number(models->model[model].load_ns));

	if (part && json_object_update_new(
			    part, numbers_part(models, model, view)) == 0)
		return part;
	json_decref(part);
	return NULL;
}

/* A model that is being read cannot be found yet: it is its user's. */
static bool may_see(const struct pd_visit *visit,
		    const struct pd_model_record *record)
{
	uid_t uid = visit->requests.conn.peer_uid;

	return (record->flags & PS_MODEL_PUBLIC) || pd_is_master(uid) ||
	       (uid == record->uid && pd_uid_is_mapped(uid));
}

static json_t *models_part(const struct pd_visit *visit)
{
	const struct pd_models *models = visit->agent->models;
	json_t *list = json_array();
	struct pd_model_view view;

	for (uint32_t i = 0; list && models->store && i < IP_MODELS_MAX; i++) {
		if (!pd_store_model(models->store, i, &view) ||
		    !may_see(visit, &view.record))
			continue;
		if (json_array_append_new(list, model_part(models, i, &view)) !=
		    0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static void add_model(const struct pd_models *models, uint32_t model,
		      struct pd_model_totals *totals)
{
	struct pd_model_view view;

	totals->host_bytes += models->model[model].host_bytes;
	if (!pd_store_model(models->store, model, &view))
		return;
	totals->count++;
	totals->loads += view.loads;
	totals->evictions += view.evictions;
	totals->failures += view.failures;
	if (view.record.state != PD_MODEL_RESIDENT)
		return;
	totals->resident++;
	totals->resident_bytes += view.record.bytes;
}

void pd_models_sum(const struct pd_agent *agent,
		   struct pd_model_totals *totals_out)
{
	const struct pd_models *models = agent->models;
	struct pd_model_totals totals = { .host_budget = models->budget,
					  .deaf = models->deaf };

	for (uint32_t i = 0; models->store && i < IP_MODELS_MAX; i++)
		add_model(models, i, &totals);
	*totals_out = totals;
}

char *pd_models_report(const struct pd_visit *visit)
{
	const struct pd_models *models = visit->agent->models;
	struct pd_model_totals totals;
	struct md_wire wire = { 0 };
	json_t *whole;
	char *text;

	pd_models_sum(visit->agent, &totals);

	if (models->store)
		wire = pd_loader_wire(models->loader);
	whole = json_pack(
		"{s:o, s:{s:o, s:o}, s:{s:f, s:f, s:o, s:o}, s:o}", "models",
		models_part(visit), "host", "bytes", number(totals.host_bytes),
		"budget", number(models->budget), "wire", "bytes_per_second",
		wire.bytes_per_ns * 1e9, "group_ns", wire.group_ns,
		"loaded_bytes", number(models->loaded_bytes), "loaded_ns",
		number(models->loaded_ns), "deaf", number(models->deaf));
	if (!whole)
		return NULL;
	text = json_dumps(whole, JSON_COMPACT);
	json_decref(whole);
	return text;
}
