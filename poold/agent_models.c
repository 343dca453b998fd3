/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The life of the agent's models: how they begin or are inherited, what their
 * turn does, how they end. */
#include "poold/agent_models.h"

#include "base/status.h"
#include "poold/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ------------------------------------------------------------------ */
/* The page that says what has landed                                  */

/* Who is sent a descriptor for reading cannot open it for writing: the file
 * is the daemon's alone. */
static enum ps_status make_landed(int *fd_out)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int fd = memfd_create("poolswitch-landed",
			      MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return bs_fail_errno("making the page of what has landed");
	if (ftruncate(fd, sizeof(struct ip_landed_page)) != 0 ||
	    fchmod(fd, S_IRUSR | S_IWUSR) != 0 ||
	    fcntl(fd, F_ADD_SEALS, seals) != 0) {
		close(fd);
		return bs_fail_errno("making the page of what has landed");
	}
	*fd_out = fd;
	return PS_OK;
}

static enum ps_status open_landed(struct pd_models *models)
{
	int *fd = &models->agent->holdings.signal[IP_SIGNAL_LANDED];
	enum ps_status status = PS_OK;
	char path[64];
	void *page;

	if (*fd < 0)
		status = make_landed(fd);
	if (status != PS_OK)
		return status;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
	models->landed_reader = open(path, O_RDONLY | O_CLOEXEC);
	if (models->landed_reader < 0)
		return bs_fail_errno("opening the page of what has landed");
	page = mmap(NULL, sizeof(*models->landed), PROT_READ, MAP_SHARED,
		    models->landed_reader, 0);
	if (page == MAP_FAILED)
		return bs_fail_errno("mapping the page of what has landed");
	models->landed = page;
	return pd_keeper_keep(models->agent, IP_PIECE_SIGNALS, IP_SIGNAL_LANDED,
			      *fd);
}

/* ------------------------------------------------------------------ */
/* The start                                                           */

static enum ps_status open_loader(struct pd_models *models)
{
	struct pd_agent *agent = models->agent;
	int *board = &agent->holdings.signal[IP_SIGNAL_BOARD];
	enum ps_status status;
	uint64_t ignored;

	status = pd_loader_new(agent->gpu, *board,
			       agent->holdings.signal[IP_SIGNAL_LANDED],
			       &models->loader);
	if (status == PS_OK)
		status = pd_gpu_ask_free(agent->gpu, &ignored);
	if (status != PS_OK || *board >= 0)
		return status;
	*board = fcntl(pd_loader_board(models->loader), F_DUPFD_CLOEXEC, 0);
	if (*board < 0)
		return bs_fail_errno("keeping the board");
	return pd_keeper_keep(agent, IP_PIECE_SIGNALS, IP_SIGNAL_BOARD, *board);
}

static void arm(void *owner, uint64_t at_ms)
{
	struct pd_models *models = owner;

	models->at_ms = at_ms;
}

static void config_init(struct pd_models *models,
			struct pd_store_config *config)
{
	*config = (struct pd_store_config){
		.journal = models->agent->journal,
		.ops = {
			.read = pd_host_read,
			.drop_host = pd_host_drop,
			.forget = pd_host_forget,
			.load = pd_load_begin,
			.reset = pd_load_reset,
			.remake = pd_remake,
			.is_used = pd_members_use,
			.take_back = pd_members_take_back,
			.last_used = pd_members_used_last,
			.yield = pd_yield,
			.place = pd_answer_place,
			.done = pd_answer_done,
			.deny = pd_answer_deny,
			.arm = arm,
		},
		.owner = models,
		.host_budget = models->budget,
		.yield_ms = models->agent->options->yield_ms,
	};
}

static enum ps_status open_store(struct pd_models *models)
{
	const struct pd_agent *agent = models->agent;
	uint32_t segments = pd_parameters(models);
	bool *has_host = calloc(IP_MODELS_MAX, sizeof(*has_host));
	bool *is_lost = calloc(segments, sizeof(*is_lost));
	enum ps_status status = PS_OK;
	struct pd_store_config config;

	if (!has_host || !is_lost)
		status = bs_fail(PS_HOST_MEMORY, "no memory for models");
	if (status == PS_OK) {
		config_init(models, &config);
		pd_host_inherit(models, has_host);
		for (uint32_t i = 0; i < segments; i++)
			is_lost[i] = pd_gpu_fd(agent->gpu, i) < 0;
		status = pd_store_new(&config, has_host, is_lost, agent->now_ms,
				      &models->store);
	}
	free(has_host);
	free(is_lost);
	return status;
}

static enum ps_status watch(struct pd_models *models)
{
	enum ps_status status;

	models->hosts_event.kind = PD_AT_HOSTS;
	models->hosts_event.fd = pd_hosts_event(models->hosts);
	models->loader_event.kind = PD_AT_LOADER;
	models->loader_event.fd = pd_loader_event(models->loader);
	status = pd_watch(models->agent, &models->hosts_event, EPOLLIN);
	if (status == PS_OK)
		status =
			pd_watch(models->agent, &models->loader_event, EPOLLIN);
	return status;
}

static enum ps_status make_tables(struct pd_models *models)
{
	models->model = calloc(IP_MODELS_MAX, sizeof(*models->model));
	models->to_remake = calloc(pd_parameters(models) + 1, 1);
	models->to_read = PD_NO_MODEL;
	models->reading = PD_NO_MODEL;
	models->budget = pd_options_host_bytes(models->agent->options);
	return models->model && models->to_remake
		       ? PS_OK
		       : bs_fail(PS_HOST_MEMORY, "no memory for models");
}

/* The pool is served without models. */
static void do_without(struct pd_models *models, const char *text)
{
	snprintf(models->why_not, sizeof(models->why_not),
		 "the daemon keeps no models: %s", text);
	pd_log(PD_DEBUG, "%s", models->why_not);
}

/* A GPU that is full, and not one that lacks memory for a moment. */
static bool lacks_room(const struct pd_models *models)
{
	const int *signals = models->agent->holdings.signal;
	uint64_t free_bytes;

	return signals[IP_SIGNAL_BOARD] < 0 &&
	       pd_gpu_ask_free(models->agent->gpu, &free_bytes) == PS_OK &&
	       free_bytes < IP_BOARD_BYTES;
}

static enum ps_status begin(struct pd_models *models)
{
	enum ps_status status = make_tables(models);

	if (status == PS_OK)
		status = pd_members_new(models);
	if (status == PS_OK)
		status = pd_hosts_new(0, &models->hosts);
	if (status == PS_OK)
		status = open_landed(models);
	if (status == PS_OK)
		status = open_loader(models);
	if (status == PS_DEVICE_MEMORY && lacks_room(models)) {
		do_without(models, "the GPU has no room for their counters; "
				   "start it with a smaller --size");
		return PS_OK;
	}
	if (status == PS_OK)
		status = open_store(models);
	if (status == PS_OK)
		status = watch(models);
	return status;
}

enum ps_status pd_models_new(struct pd_agent *agent)
{
	struct pd_models *models = calloc(1, sizeof(*models));

	if (!models)
		return bs_fail(PS_HOST_MEMORY, "no memory for models");
	agent->models = models;
	models->agent = agent;
	models->landed_reader = -1;
	models->hosts_event.fd = -1;
	models->loader_event.fd = -1;
	if (pd_parameters(models) > 0)
		return begin(models);
	do_without(models, "the pool has no parameter region; start it with "
			   "--parameter");
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* Turns                                                               */

void pd_models_ready(struct pd_agent *agent, enum pd_source_kind kind)
{
	if (agent->is_lost)
		return;
	if (kind == PD_AT_HOSTS)
		pd_host_ready(agent->models);
	else
		pd_load_ready(agent->models);
}

static void tell_failed(struct pd_models *models, uint32_t model)
{
	struct pd_model *entry = &models->model[model];
	enum ps_status status = entry->failed;
	char text[IP_TEXT_MAX + 1];

	if (status == PS_OK)
		return;
	entry->failed = PS_OK;
	memcpy(text, entry->failed_text, sizeof(text));
	pd_log(PD_WARNING, "model not read: %s", text);
	pd_store_read(models->store, model, status, text, NULL,
		      models->agent->now_ms);
}

static bool has_work(const struct pd_models *models)
{
	return models->has_failed || models->is_review_due ||
	       (models->reading != PD_NO_MODEL &&
		models->read_due_ms <= models->agent->now_ms) ||
	       (models->to_read != PD_NO_MODEL && !models->discards &&
		models->reading == PD_NO_MODEL);
}

static void do_work(struct pd_models *models)
{
	if (models->has_failed) {
		models->has_failed = false;
		for (uint32_t i = 0; i < IP_MODELS_MAX; i++)
			tell_failed(models, i);
	}
	if (models->is_review_due)
		pd_remakes_review(models);
	pd_host_turn(models);
}

void pd_models_turn(struct pd_agent *agent)
{
	struct pd_models *models = agent->models;

	if (!models->store || agent->is_lost)
		return;
	pd_yield_tick(models);
	if (models->at_ms && models->at_ms <= agent->now_ms) {
		models->at_ms = 0;
		pd_store_tick(models->store, agent->now_ms);
	}
	if (has_work(models))
		do_work(models);
}

/* 0: never. */
static uint64_t sooner(uint64_t a_ms, uint64_t b_ms)
{
	return b_ms && (!a_ms || b_ms < a_ms) ? b_ms : a_ms;
}

uint64_t pd_models_due_ms(const struct pd_agent *agent)
{
	const struct pd_models *models = agent->models;
	uint64_t at_ms = models->at_ms;

	if (!models->store || agent->is_lost)
		return 0;
	if (has_work(models))
		return 1;
	at_ms = sooner(at_ms, models->deaf_at_ms);
	if (models->reading != PD_NO_MODEL)
		at_ms = sooner(at_ms, models->read_due_ms);
	return at_ms;
}

void pd_models_remade(struct pd_agent *agent, uint32_t segment,
		      enum ps_status status)
{
	if (agent->models->store)
		pd_store_remade(agent->models->store, segment, status,
				agent->now_ms);
}

bool pd_models_give_away(struct pd_agent *agent, uint32_t segment)
{
	return !agent->models->store ||
	       pd_store_give_away(agent->models->store, segment);
}

void pd_models_lose(struct pd_agent *agent)
{
	if (agent->models && agent->models->store)
		pd_store_lose(agent->models->store);
}

/* ------------------------------------------------------------------ */
/* The end                                                             */

void pd_models_done(struct pd_agent *agent)
{
	struct pd_models *models = agent->models;

	if (!models)
		return;
	pd_unwatch(agent, &models->hosts_event);
	pd_unwatch(agent, &models->loader_event);
	pd_loader_free(models->loader);
	pd_members_done(models);
	pd_store_free(models->store);
	pd_hosts_done(models);
	if (models->landed)
		munmap((void *)(uintptr_t)models->landed,
		       sizeof(*models->landed));
	if (models->landed_reader >= 0)
		close(models->landed_reader);
	free(models->model);
	free(models->to_remake);
	free(models);
	agent->models = NULL;
}
