/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Models' files, and their copies in host memory: what the store wants read,
 * and what of it both halves hold. One is read at a time, and only when what
 * was given up before is really free, so that all copies together stay within
 * the budget.
 */
#include "poold/agent_models.h"

#include "base/status.h"
#include "poold/closer.h"
#include "poold/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------ */
/* Failures                                                            */

void pd_model_fail(struct pd_models *models, uint32_t model,
		   enum ps_status status, const char *text)
{
	struct pd_model *entry = &models->model[model];

	entry->failed = status;
	snprintf(entry->failed_text, sizeof(entry->failed_text), "%s", text);
	models->has_failed = true;
}

/* ------------------------------------------------------------------ */
/* Descriptors that both halves hold                                   */

static int *file_at(const struct pd_models *models, uint32_t model)
{
	return &models->agent->holdings.file[model * IP_MODEL_FILES];
}

static void drop(struct pd_models *models, enum ip_piece_kind kind,
		 uint32_t number, int *fd)
{
	if (*fd < 0)
		return;
	pd_close_later(*fd);
	*fd = -1;
	pd_keeper_drop(models->agent, kind, number);
}

static void drop_files(struct pd_models *models, uint32_t model)
{
	int *files = file_at(models, model);

	for (uint32_t i = 0; i < IP_MODEL_FILES; i++) {
		models->fds -= files[i] >= 0;
		drop(models, IP_PIECE_FILES, model * IP_MODEL_FILES + i,
		     &files[i]);
	}
}

void pd_host_take_files(struct pd_models *models, uint32_t model)
{
	struct ip_message *msg = models->incoming;
	int *files = file_at(models, model);
	enum ps_status status = PS_OK;

	models->incoming = NULL;
	drop_files(models, model);
	for (unsigned int i = 0; i < msg->fd_count; i++) {
		files[i] = ip_message_take_fd(msg, i);
		models->fds++;
		if (status == PS_OK)
			status = pd_keeper_keep(models->agent, IP_PIECE_FILES,
						model * IP_MODEL_FILES + i,
						files[i]);
	}
	if (status != PS_OK)
		pd_model_fail(models, model, status, bs_fail_text());
}

/* ------------------------------------------------------------------ */
/* Copies                                                              */

static void register_copy(struct pd_models *models, uint32_t model,
			  uint32_t serial)
{
	const struct pd_model *entry = &models->model[model];

	if (entry->memory)
		pd_loader_register(models->loader, model, serial, entry->memory,
				   entry->bytes);
}

/* The driver lets go of it first. pre: no load under way uses it. */
static void discard(struct pd_models *models, uint32_t model)
{
	struct pd_model *entry = &models->model[model];
	int *copy = &models->agent->holdings.host[model];
	struct pd_discard *old;

	if (!entry->memory)
		return;
	old = calloc(1, sizeof(*old));
	if (old) {
		old->next = models->discards;
		old->serial = entry->serial;
		old->memory = entry->memory;
		old->bytes = entry->bytes;
		old->copy = *copy;
		models->discards = old;
		*copy = -1;
		pd_loader_unregister(models->loader, model, entry->serial,
				     old->memory, old->bytes);
		pd_keeper_drop(models->agent, IP_PIECE_HOSTS, model);
	}
	/* Without memory for that it stays mapped, and is lost. */
	entry->memory = NULL;
	entry->host_bytes = 0;
	entry->is_fresh = false;
	drop(models, IP_PIECE_HOSTS, model, copy);
}

void pd_host_discarded(struct pd_models *models, uint32_t serial)
{
	struct pd_discard **at = &models->discards;
	struct pd_discard *old;

	while (*at && (*at)->serial != serial)
		at = &(*at)->next;
	old = *at;
	if (!old)
		return;
	*at = old->next;
	pd_hosts_discard(models->hosts, old->memory, old->bytes, old->copy);
	free(old);
}

/* ------------------------------------------------------------------ */
/* What the store wants                                                */

void pd_host_read(void *owner, uint32_t model)
{
	struct pd_models *models = owner;

	if (models->incoming)
		pd_host_take_files(models, model);
	models->to_read = model;
}

/* What is being made of it. */
static void stop(struct pd_models *models, uint32_t model)
{
	if (models->reading == model) {
		pd_hosts_stop(models->hosts, model);
		models->reading = PD_NO_MODEL;
	}
	if (models->to_read == model)
		models->to_read = PD_NO_MODEL;
}

void pd_host_drop(void *owner, uint32_t model)
{
	struct pd_models *models = owner;

	stop(models, model);
	discard(models, model);
}

void pd_host_forget(void *owner, uint32_t model)
{
	struct pd_models *models = owner;
	struct pd_model *entry = &models->model[model];

	stop(models, model);
	discard(models, model);
	pd_bonds_drop(models, model);
	pd_host_layout_done(&entry->layout);
	drop(models, IP_PIECE_MANIFESTS, model,
	     &models->agent->holdings.manifest[model]);
	drop_files(models, model);
	pd_load_free(entry->load);
	free(entry->costs);
	free(entry->next_costs);
	memset(entry, 0, sizeof(*entry));
}

/* ------------------------------------------------------------------ */
/* Reading                                                             */

static uint32_t count_files(const int *files)
{
	uint32_t count = 0;

	while (count < IP_MODEL_FILES && files[count] >= 0)
		count++;
	return count;
}

static uint64_t room(const struct pd_models *models)
{
	uint64_t used = 0;

	for (uint32_t i = 0; i < IP_MODELS_MAX; i++)
		used += models->model[i].host_bytes;
	return used < models->budget ? models->budget - used : 0;
}

static enum ps_status begin(struct pd_models *models, uint32_t model)
{
	const int *files = file_at(models, model);
	struct pd_model_record record;

	if (!pd_model_record(models, model, 0, &record))
		return PS_OK;
	models->model[model].serial = record.serial;
	/* It was never said to be added: an agent died too soon. */
	if (record.files == 0 || count_files(files) != record.files)
		return bs_fail(PS_SYSTEM,
			       "%u of %u files of model \"%s\" are at hand; "
			       "add it again",
			       count_files(files), record.files, record.name);
	models->reading = model;
	models->read_bytes = 0;
	models->read_due_ms = models->agent->now_ms + PD_READ_STUCK_MS;
	return pd_hosts_make(models->hosts, model, record.serial, files,
			     record.files, record.is_known ? record.hash : NULL,
			     room(models));
}

/* It may lie on a server that does not answer. */
static void look_for_stuck(struct pd_models *models)
{
	uint32_t model = models->reading;
	uint64_t done, all;

	if (model == PD_NO_MODEL || models->agent->now_ms < models->read_due_ms)
		return;
	pd_hosts_progress(models->hosts, model, &done, &all);
	models->read_due_ms = models->agent->now_ms + PD_READ_STUCK_MS;
	if (done != models->read_bytes) {
		models->read_bytes = done;
		return;
	}
	stop(models, model);
	pd_model_fail(models, model, PS_TIMED_OUT,
		      "no byte of the model's files came for 30 s");
}

void pd_host_turn(struct pd_models *models)
{
	uint32_t model;
	enum ps_status status;

	look_for_stuck(models);
	model = models->to_read;
	if (model == PD_NO_MODEL || models->discards ||
	    models->reading != PD_NO_MODEL ||
	    models->model[model].failed != PS_OK)
		return;
	models->to_read = PD_NO_MODEL;
	status = begin(models, model);
	if (status == PS_OK)
		return;
	models->reading = PD_NO_MODEL;
	pd_model_fail(models, model, status, bs_fail_text());
}

static void made_done(struct pd_host_made *made)
{
	if (made->status != PS_OK)
		return;
	pd_host_layout_done(&made->layout);
	pd_host_unmap(made->memory, made->bytes);
	close(made->copy);
	close(made->manifest);
}

/* Takes it over. */
static void settle(struct pd_models *models, struct pd_host_made *made)
{
	struct pd_holdings *holdings = &models->agent->holdings;
	struct pd_model *entry = &models->model[made->model];

	/* Of a copy that was inherited and found wrong. */
	discard(models, made->model);
	drop(models, IP_PIECE_HOSTS, made->model, &holdings->host[made->model]);
	if (holdings->manifest[made->model] >= 0)
		close(holdings->manifest[made->model]);
	pd_host_layout_done(&entry->layout);
	holdings->manifest[made->model] = made->manifest;
	holdings->host[made->model] = made->copy;
	entry->layout = made->layout;
	entry->memory = made->memory;
	entry->bytes = made->bytes;
	entry->host_bytes = made->host_bytes;
}

/* Both halves have it before the store says so, and the driver knows of it. */
static enum ps_status keep(struct pd_models *models, struct pd_host_made *made)
{
	struct pd_agent *agent = models->agent;
	uint32_t model = made->model;
	enum ps_status status;

	settle(models, made);
	status = pd_load_prepare(models, model);
	if (status == PS_OK)
		status = pd_keeper_keep(agent, IP_PIECE_MANIFESTS, model,
					agent->holdings.manifest[model]);
	if (status == PS_OK)
		status = pd_keeper_keep(agent, IP_PIECE_HOSTS, model,
					agent->holdings.host[model]);
	if (status != PS_OK) {
		discard(models, model);
		return status;
	}
	models->model[model].is_fresh = true;
	register_copy(models, model, made->serial);
	return PS_OK;
}

static void log_read(const struct pd_models *models,
		     const struct pd_host_made *made)
{
	struct pd_model_record record;

	if (!pd_model_record(models, made->model, made->serial, &record))
		return;
	if (made->status == PS_OK)
		pd_log(PD_NOTICE,
		       "model read name \"%s\" bytes %" PRIu64 " tensors %u",
		       record.name, made->bytes, made->tensors);
	else
		pd_log(PD_WARNING, "model not read name \"%s\": %s",
		       record.name, made->text);
}

static void tell_failed(struct pd_models *models,
			const struct pd_host_made *made, enum ps_status status,
			const char *text)
{
	struct pd_model_record found = { .bytes = made->host_bytes };

	pd_store_read(models->store, made->model, status, text, &found,
		      models->agent->now_ms);
}

static void take(struct pd_models *models, struct pd_host_made *made)
{
	const struct pd_model *entry = &models->model[made->model];
	enum ps_status status;

	if (models->reading != made->model || entry->serial != made->serial) {
		made_done(made);
		return;
	}
	models->reading = PD_NO_MODEL;
	log_read(models, made);
	if (made->status != PS_OK) {
		tell_failed(models, made, made->status, made->text);
		return;
	}
	status = keep(models, made);
	if (status != PS_OK)
		tell_failed(models, made, status, bs_fail_text());
}

void pd_host_registered(struct pd_models *models, uint32_t model,
			uint32_t serial)
{
	struct pd_model *entry = &models->model[model];
	const struct md_manifest *manifest = &entry->layout.manifest;
	struct pd_model_record found = { .bytes = manifest->bytes };

	if (!entry->is_fresh || entry->serial != serial)
		return;
	entry->is_fresh = false;
	found.tensors = (uint32_t)manifest->count;
	memcpy(found.hash, manifest->hash, sizeof(found.hash));
	pd_store_read(models->store, model, PS_OK, "", &found,
		      models->agent->now_ms);
}

void pd_host_ready(struct pd_models *models)
{
	struct pd_host_made made;

	while (pd_hosts_take(models->hosts, &made))
		take(models, &made);
}

/* ------------------------------------------------------------------ */
/* What an agent inherits                                              */

static enum ps_status inherit(struct pd_models *models, uint32_t model,
			      const struct pd_model_record *record)
{
	const struct pd_holdings *holdings = &models->agent->holdings;
	struct pd_model *entry = &models->model[model];
	struct pd_host_made made = { .model = model };
	enum ps_status status;

	if (holdings->manifest[model] < 0)
		return bs_fail(PS_SYSTEM, "the keeper has no manifest of it");
	status = pd_load_prepare(models, model);
	if (status != PS_OK)
		return status;
	status = pd_host_adopt(holdings->host[model], holdings->manifest[model],
			       &made);
	if (status != PS_OK)
		return status;
	if (memcmp(made.hash, record->hash, sizeof(made.hash)) != 0) {
		pd_host_layout_done(&made.layout);
		if (made.memory)
			pd_host_unmap(made.memory, made.bytes);
		return bs_fail(PS_PROTOCOL, "its copy is another model's");
	}
	entry->layout = made.layout;
	entry->memory = made.memory;
	entry->bytes = made.bytes;
	entry->host_bytes = made.memory ? made.host_bytes : 0;
	register_copy(models, model, record->serial);
	return PS_OK;
}

/* Of a copy that the store never knew of. */
static void drop_strays(struct pd_models *models, uint32_t model)
{
	struct pd_holdings *holdings = &models->agent->holdings;

	drop(models, IP_PIECE_MANIFESTS, model, &holdings->manifest[model]);
	drop(models, IP_PIECE_HOSTS, model, &holdings->host[model]);
}

void pd_host_inherit(struct pd_models *models, bool *has_host)
{
	struct pd_model_record record;

	for (uint32_t i = 0; i < IP_MODELS_MAX; i++) {
		models->fds += count_files(file_at(models, i));
		if (!pd_model_record(models, i, 0, &record)) {
			drop_strays(models, i);
			drop_files(models, i);
			continue;
		}
		models->model[i].serial = record.serial;
		if (!record.is_known) {
			drop_strays(models, i);
			continue;
		}
		if (inherit(models, i, &record) != PS_OK)
			pd_log(PD_WARNING, "model \"%s\" is read again: %s",
			       record.name, bs_fail_text());
		has_host[i] = models->model[i].memory != NULL;
	}
}

void pd_hosts_done(struct pd_models *models)
{
	while (models->discards)
		pd_host_discarded(models, models->discards->serial);
	for (uint32_t i = 0; models->model && i < IP_MODELS_MAX; i++) {
		struct pd_model *entry = &models->model[i];

		if (entry->memory)
			pd_host_unmap(entry->memory, entry->bytes);
		pd_host_layout_done(&entry->layout);
		pd_load_free(entry->load);
		free(entry->costs);
		free(entry->next_costs);
	}
	pd_hosts_free(models->hosts);
}
