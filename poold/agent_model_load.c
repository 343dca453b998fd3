/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What travels to the GPU for the store, and what comes of it. */
#include "poold/agent_models.h"

#include "base/status.h"
#include "poold/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
	if (!load)
		return;
	free((uint32_t *)(uintptr_t)load->what.segment);
	free((uint32_t *)(uintptr_t)load->what.compute_ns);
	free(load);
}

/* A copy: others may come while it travels. */
static enum ps_status copy_costs(struct pd_load *load, const uint32_t *costs)
{
	size_t bytes = load->what.count * sizeof(*costs);
	uint32_t *copy;

	if (!costs || bytes == 0)
		return PS_OK;
	copy = malloc(bytes);
	if (!copy)
		return bs_fail(PS_HOST_MEMORY, "no memory for costs");
	memcpy(copy, costs, bytes);
	load->what.compute_ns = copy;
	return PS_OK;
}

static enum ps_status list_segments(const struct pd_models *models,
				    struct pd_load *load)
{
	uint32_t *segments =
		calloc(pd_parameters(models) + 1, sizeof(*segments));

	if (!segments)
		return bs_fail(PS_HOST_MEMORY, "no memory for segments");
	load->what.segment = segments;
	load->what.segments =
		pd_model_segments(models, load->what.model, segments);
	return PS_OK;
}

static void describe(const struct pd_models *models, uint32_t model,
		     const struct pd_model_record *record, uint32_t priority,
		     struct pd_load_model *what)
{
	const struct pd_model *entry = &models->model[model];

	what->model = model;
	what->serial = record->serial;
	what->tensors = entry->layout.manifest.tensors;
	what->count = (uint32_t)entry->layout.manifest.count;
	what->memory = entry->memory;
	what->bytes = record->bytes;
	what->plan = (enum ps_model_plan)record->plan;
	what->groups = record->groups;
	what->priority = priority;
}

uint32_t pd_model_failures(const struct pd_models *models, uint32_t model)
{
	const struct pd_load *load = models->model[model].load;

	return load ? load->failed
		    : __atomic_load_n(&models->landed->model[model].failed,
				      __ATOMIC_ACQUIRE);
}

static enum ps_status load_new(const struct pd_models *models, uint32_t model,
			       uint32_t priority, struct pd_load **load_out)
{
	const struct pd_model *entry = &models->model[model];
	struct pd_load *load = calloc(1, sizeof(*load));
	struct pd_model_record record;
	enum ps_status status;

	if (!load)
		return bs_fail(PS_HOST_MEMORY, "no memory for a load");
	if (!pd_model_record(models, model, 0, &record) ||
	    !entry->layout.memory || !entry->memory) {
		free(load);
		return bs_fail(PS_LOAD_FAILED,
			       "the model's copy in host memory is not there");
	}
	load->begun_ms = models->agent->now_ms;
	load->failed = pd_model_failures(models, model);
	describe(models, model, &record, priority, &load->what);
	status = list_segments(models, load);
	if (status == PS_OK)
		status = copy_costs(load, entry->costs);
	if (status != PS_OK) {
		pd_load_free(load);
		return status;
	}
	*load_out = load;
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* What the store wants                                                */

void pd_load_begin(void *owner, uint32_t model, uint32_t priority)
{
	struct pd_models *models = owner;
	struct pd_model *entry = &models->model[model];
	enum ps_status status;

	if (entry->load) {
		pd_loader_hurry(models->loader, model, priority);
		return;
	}
	entry->used_ms = models->agent->now_ms;
	status = load_new(models, model, priority, &entry->load);
	if (status == PS_OK)
		pd_loader_copy(models->loader, &entry->load->what);
	else
		pd_model_fail(models, model, true, status, bs_fail_text());
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
	pd_load_free(entry->load);
	entry->load = NULL;
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
