/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What travels to the GPU for the store, and what comes of it. */
#include "poold/agent_models.h"

#include "base/status.h"
#include "poold/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

/* ------------------------------------------------------------------ */
/* What a load is about                                                */

uint32_t pd_parameters(const struct pd_models *models)
{
	const struct pd_pool_record *pool =
		pd_journal_pool(models->agent->journal);

	return (uint32_t)(pool->parameter_bytes / pool->segment_bytes);
}

uint32_t pd_model_segments(const struct pd_models *models, uint32_t model,
			   uint32_t *segments_out)
{
	uint32_t all = pd_parameters(models);
	uint32_t count = 0;

	for (uint32_t i = 0; i < all; i++) {
		struct pd_segment_record record =
			pd_journal_segment(models->agent->journal, i);

		if (record.state != PD_PARAMETER || record.model != model ||
		    record.position >= all)
			continue;
		segments_out[record.position] = i;
		count++;
	}
	return count;
}

void pd_load_free(struct pd_load *load)
{
	if (load)
		free(load->segment);
	free(load);
}

enum ps_status pd_load_prepare(struct pd_models *models, uint32_t model)
{
	struct pd_model *entry = &models->model[model];
	struct pd_load *load;

	if (entry->load)
		return PS_OK;
	load = calloc(1, sizeof(*load));
	if (load)
		load->segment = calloc(pd_parameters(models) + 1,
				       sizeof(*load->segment));
	if (!load || !load->segment) {
		pd_load_free(load);
		return bs_fail(PS_HOST_MEMORY, "no memory for a load");
	}
	entry->load = load;
	return PS_OK;
}

static void describe(const struct pd_models *models, uint32_t model,
		     const struct pd_model_record *record, uint32_t priority)
{
	const struct pd_model *entry = &models->model[model];
	struct pd_load *load = entry->load;
	struct pd_load_model *what = &load->what;

	what->model = model;
	what->serial = record->serial;
	what->tensors = entry->layout.manifest.tensors;
	what->count = (uint32_t)entry->layout.manifest.count;
	what->memory = entry->memory;
	what->bytes = record->bytes;
	what->segment = load->segment;
	what->segments = pd_model_segments(models, model, load->segment);
	what->compute_ns = entry->costs;
	what->plan = (enum ps_model_plan)record->plan;
	what->groups = record->groups;
	what->priority = priority;
}

uint32_t pd_model_failures(const struct pd_models *models, uint32_t model)
{
	const struct pd_load *load = models->model[model].load;

	return load && load->is_under_way
		       ? load->failed
		       : __atomic_load_n(&models->landed->model[model].failed,
					 __ATOMIC_ACQUIRE);
}

/* ------------------------------------------------------------------ */
/* What the store wants                                                */

/* Its USE is about to be answered, so nothing may fail here. */
void pd_load_begin(void *owner, uint32_t model, uint32_t priority)
{
	struct pd_models *models = owner;
	struct pd_model *entry = &models->model[model];
	struct pd_model_record record;

	assert(entry->load && entry->memory && entry->layout.memory);
	if (entry->load->is_under_way) {
		pd_loader_hurry(models->loader, model, priority);
		return;
	}
	if (!pd_model_record(models, model, 0, &record))
		return;
	entry->used_ms = models->agent->now_ms;
	entry->load->failed = pd_model_failures(models, model);
	entry->load->is_under_way = true;
	describe(models, model, &record, priority);
	pd_loader_copy(models->loader, &entry->load->what);
}

void pd_load_reset(void *owner, uint32_t model)
{
	struct pd_models *models = owner;
	struct pd_model_record record;

	if (pd_model_record(models, model, 0, &record))
		pd_loader_reset(models->loader, model, record.serial);
}

/* ------------------------------------------------------------------ */
/* What came of it                                                     */

static void log_load(struct pd_models *models, const struct pd_load_done *done)
{
	struct pd_model_record record;

	if (!pd_model_record(models, done->model, done->serial, &record))
		return;
	if (done->status != PS_OK)
		pd_log(PD_ERROR, "model not loaded name \"%s\": %s",
		       record.name, done->text);
	else if (pd_may_log(models->agent, &models->lines))
		pd_log(PD_DEBUG,
		       "model loaded name \"%s\" bytes %" PRIu64 " us %" PRIu64,
		       record.name, done->bytes, done->ns / 1000);
}

static void has_loaded(struct pd_models *models,
		       const struct pd_load_done *done)
{
	struct pd_model *entry = &models->model[done->model];

	log_load(models, done);
	entry->copied += done->bytes;
	entry->load_ns = done->ns;
	if (done->status == PS_OK) {
		models->loaded_bytes += done->bytes;
		models->loaded_ns += done->ns;
	}
	entry->load->is_under_way = false;
	if (entry->next_costs) {
		free(entry->costs);
		entry->costs = entry->next_costs;
		entry->next_costs = NULL;
	}
	pd_store_loaded(models->store, done->model, done->status, done->text,
			models->agent->now_ms);
}

static void apply(struct pd_models *models, const struct pd_load_done *done)
{
	switch (done->job) {
	case PD_LOAD_REGISTER:
		if (done->status != PS_OK)
			pd_log(PD_WARNING,
			       "model %u is copied slowly: its memory is not "
			       "registered: %s",
			       done->model, done->text);
		pd_host_registered(models, done->model, done->serial);
		break;
	case PD_LOAD_UNREGISTER:
		pd_host_discarded(models, done->serial);
		break;
	case PD_LOAD_COPY:
		has_loaded(models, done);
		break;
	case PD_LOAD_RESET:
		pd_store_reset_done(models->store, done->model, done->status,
				    models->agent->now_ms);
		break;
	}
}

void pd_load_ready(struct pd_models *models)
{
	struct pd_load_done done;

	while (!models->agent->is_lost &&
	       pd_loader_take(models->loader, &done)) {
		if (done.status == PS_DEVICE_LOST)
			pd_agent_lose(models->agent, done.text);
		else
			apply(models, &done);
	}
}
