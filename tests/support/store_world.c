/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/store_world.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/store_world_ops.h"

#define WINDOW_SLOTS 256u

/* ---- life ---- */

static enum ps_status new_store(struct ts_world *world, const bool *is_lost)
{
	const struct pd_store_config config = {
		.journal = world->journal,
		.ops = ts_ops(),
		.owner = world,
		.host_budget = world->budget,
		.yield_ms = TS_YIELD_MS,
	};
	bool has_host[IP_MODELS_MAX] = { false };
	uint32_t i;

	for (i = 0; i < TS_MODELS; i++)
		has_host[i] = world->model[i].has_host;
	world->armed_ms = 0;
	return pd_store_new(&config, has_host, is_lost, world->now_ms,
			    &world->store);
}

static void clear_view(struct ts_view *view)
{
	memset(view, 0, sizeof(*view));
	memset(view->segment, 0xff, sizeof(view->segment));
}

bool ts_open(struct ts_world *world, uint32_t segments, uint64_t budget)
{
	const bool is_lost[TS_SEGMENTS] = { false };
	const struct pd_pool_record pool = {
		.id = { 1 },
		.gpu = "GPU-00000000-0000-0000-0000-000000000001",
		.window_base = UINT64_C(1) << 44,
		.window_bytes = WINDOW_SLOTS * TS_UNIT,
		.segment_bytes = TS_UNIT,
		.parameter_bytes = segments * TS_UNIT,
		.segments = segments + 1,
		.clients = TS_CLIENTS,
	};
	uint32_t i, m;

	memset(world, 0, sizeof(*world));
	world->segments = segments;
	world->budget = budget;
	world->now_ms = 1000000;
	for (i = 0; i < segments; i++)
		world->segment[i].readers = PD_NO_USER;
	for (i = 0; i < TS_CLIENTS; i++) {
		world->client[i].has_joined = true;
		world->client[i].uid = 1;
		for (m = 0; m < TS_MODELS; m++)
			clear_view(&world->client[i].view[m]);
	}
	if (pd_journal_create(&pool, &world->journal) != PS_OK)
		return false;
	return new_store(world, is_lost) == PS_OK;
}

void ts_close(struct ts_world *world)
{
	pd_store_free(world->store);
	pd_journal_close(world->journal);
}

/* ---- the GPU ---- */

static bool copy(struct ts_world *world, const struct ts_job *job, bool is_well)
{
	struct ts_model *model = &world->model[job->model];
	uint32_t i;

	/* What a dead agent came to. */
	if (model->counter != TS_EMPTY)
		return model->counter == TS_LANDED;
	for (i = 0; i < job->count; i++) {
		ts_expect_not_read(world, job->segment[i], job->model);
		if (world->segment[job->segment[i]].is_remaking)
			ts_complain(world,
				    "a copy goes to segment %u, which "
				    "is being remade",
				    job->segment[i]);
		world->segment[job->segment[i]].serial =
			is_well ? job->serial : 0;
	}
	model->counter = is_well ? TS_LANDED : TS_FAILED;
	return is_well;
}

static struct ts_job take_job(struct ts_world *world)
{
	struct ts_job job = world->job[0];

	world->jobs--;
	memmove(&world->job[0], &world->job[1],
		world->jobs * sizeof(world->job[0]));
	return job;
}

/* Whether it went well. */
static bool do_job(struct ts_world *world, const struct ts_job *job,
		   bool is_well)
{
	if (job->kind == TS_LOAD)
		return copy(world, job, is_well);
	if (is_well) {
		world->model[job->model].counter = TS_EMPTY;
		world->model[job->model].is_resetting = false;
	}
	return is_well;
}

bool ts_gpu_one(struct ts_world *world, enum ps_status status)
{
	struct ts_job job;

	if (world->jobs == 0)
		return false;
	job = take_job(world);
	if (!do_job(world, &job, status == PS_OK) && status == PS_OK)
		status = PS_LOAD_FAILED;
	ts_step(world);
	if (job.kind == TS_LOAD)
		pd_store_loaded(world->store, job.model, status,
				"the wire is cut", world->now_ms);
	else
		pd_store_reset_done(world->store, job.model, status,
				    world->now_ms);
	return true;
}

bool ts_remake_one(struct ts_world *world, enum ps_status status)
{
	uint32_t n;

	for (n = 0; n < world->segments; n++)
		if (world->segment[n].is_remaking)
			break;
	if (n == world->segments)
		return false;
	world->segment[n].is_remaking = false;
	if (status == PS_OK) {
		world->segment[n].made++;
		world->segment[n].serial = 0;
		world->segment[n].readers = PD_NO_USER;
	}
	ts_step(world);
	pd_store_remade(world->store, n, status, world->now_ms);
	return true;
}

/* ---- host memory ---- */

static enum ps_status try_read(struct ts_world *world, uint32_t model,
			       struct pd_model_record *found)
{
	unsigned long long bytes;
	unsigned int hash;

	ts_files(world, model, &bytes, &hash);
	found->bytes = bytes;
	found->tensors = 1;
	memset(found->hash, (int)hash, sizeof(found->hash));
	if (ts_host_bytes(world) + bytes > world->budget)
		return PS_HOST_MEMORY;
	world->model[model].has_host = true;
	return PS_OK;
}

bool ts_read_one(struct ts_world *world, enum ps_status status)
{
	struct pd_model_record found = { .state = PD_MODEL_FREE };
	uint32_t model;

	for (model = 0; model < TS_MODELS; model++)
		if (world->model[model].is_reading)
			break;
	if (model == TS_MODELS)
		return false;
	world->model[model].is_reading = false;
	if (status == PS_OK)
		status = try_read(world, model, &found);
	ts_step(world);
	pd_store_read(world->store, model, status, "the files are bad", &found,
		      world->now_ms);
	return true;
}

void ts_work(struct ts_world *world)
{
	while (ts_read_one(world, PS_OK) || ts_gpu_one(world, PS_OK) ||
	       ts_remake_one(world, PS_OK))
		;
}

void ts_wait(struct ts_world *world, uint64_t ms)
{
	uint64_t until_ms = world->now_ms + ms;

	while (world->armed_ms != 0 && world->armed_ms <= until_ms) {
		if (world->armed_ms > world->now_ms)
			world->now_ms = world->armed_ms;
		world->armed_ms = 0;
		pd_store_tick(world->store, world->now_ms);
		if (world->armed_ms != 0 && world->armed_ms <= world->now_ms) {
			ts_complain(world, "the store wants a tick at once");
			break;
		}
	}
	world->now_ms = until_ms;
}

/* ---- a restart ---- */

/* What the new agent finds of a model: what was not known has no copy. */
static void settle_model(struct ts_world *world, uint32_t m)
{
	struct pd_model_record record = ts_record(world, m);

	world->model[m].is_reading = false;
	world->model[m].is_resetting = false;
	world->model[m].resumes = record.state == PD_MODEL_LOADING;
	world->model[m].has_host = world->model[m].has_host && record.is_known;
}

static void settle_client(struct ts_client *client)
{
	uint32_t m;

	client->has_joined = false;
	for (m = 0; m < TS_MODELS; m++)
		client->view[m].is_asked = false;
}

bool ts_restart(struct ts_world *world, uint32_t jobs, bool is_lost)
{
	bool lost[TS_SEGMENTS] = { false };
	struct ts_job job;
	uint32_t i;

	while (jobs-- > 0 && world->jobs > 0) {
		job = take_job(world);
		(void)do_job(world, &job, true);
	}
	world->jobs = 0;
	pd_store_free(world->store);
	world->store = NULL;
	for (i = 0; i < TS_MODELS; i++)
		settle_model(world, i);
	for (i = 0; i < TS_CLIENTS; i++)
		settle_client(&world->client[i]);
	for (i = 0; i < world->segments; i++) {
		lost[i] = world->segment[i].is_remaking && is_lost;
		world->segment[i].is_remaking = false;
	}
	for (i = 0; i < TS_ASKERS; i++)
		world->asked[i].is_open = false;
	return new_store(world, lost) == PS_OK;
}

static void look_again(struct ts_world *world)
{
	uint32_t m;

	for (m = 0; m < TS_MODELS; m++)
		pd_store_yielded(world->store, m, world->now_ms);
}

void ts_rejoin(struct ts_world *world, uint32_t client)
{
	uint32_t m;

	if (world->client[client].has_joined)
		return;
	world->client[client].has_joined = true;
	for (m = 0; m < TS_MODELS; m++)
		if (world->client[client].view[m].is_attached)
			pd_store_attached(world->store, m, 1);
	look_again(world);
}

/* ---- requests ---- */

static struct pd_asker new_asker(struct ts_world *world, uint32_t client,
				 uint32_t model)
{
	uint32_t tag = world->askers++;

	world->asked[tag % TS_ASKERS] = (struct ts_asked){
		.is_open = true,
		.client = client,
		.model = model,
	};
	return (struct pd_asker){
		.slot = client == TS_NOBODY ? PD_NO_CLIENT : client,
		.tag = tag,
	};
}

uint64_t ts_add(struct ts_world *world, const char *name, uint32_t uid,
		uint32_t flags, uint64_t bytes, uint8_t hash)
{
	struct pd_asker asker = new_asker(world, TS_NOBODY, PD_NO_MODEL);
	struct pd_model_record record = {
		.uid = uid,
		.flags = flags,
		.files = 1,
	};
	uint32_t model;

	snprintf(record.name, sizeof(record.name), "%s", name);
	snprintf(record.source, sizeof(record.source), "%llu %u",
		 (unsigned long long)bytes, hash);
	pd_store_add(world->store, asker, &record, world->now_ms, &model);
	if (model != PD_NO_MODEL && model >= TS_MODELS)
		ts_complain(world, "model %u is beyond the world", model);
	return asker.tag;
}

uint64_t ts_order(struct ts_world *world, uint32_t uid, uint32_t order,
		  const char *name, uint32_t wait_ms)
{
	struct pd_asker asker = new_asker(world, TS_NOBODY, PD_NO_MODEL);
	struct ip_order message = { .order = order, .wait_ms = wait_ms };

	snprintf(message.name, sizeof(message.name), "%s", name);
	pd_store_order(world->store, asker, uid, uid == 0, &message,
		       world->now_ms);
	return asker.tag;
}

uint64_t ts_use(struct ts_world *world, uint32_t client, uint32_t model,
		uint32_t priority, uint32_t wait_ms)
{
	struct pd_asker asker = new_asker(world, client, model);
	const struct ip_use_request use = {
		.model = model,
		.serial = ts_record(world, model).serial,
		.priority = priority,
		.wait_ms = wait_ms,
	};

	pd_store_use(world->store, asker, &use, world->now_ms);
	return asker.tag;
}

/* ---- clients ---- */

bool ts_begin(struct ts_world *world, uint32_t client, uint32_t model)
{
	struct ts_view *view = &world->client[client].view[model];

	if (view->word != IP_USE_IDLE)
		return false;
	view->word = IP_USE_BUSY;
	view->used_ms = world->now_ms;
	return true;
}

/* What a client has read was what it believed in. */
static void expect_weights(struct ts_world *world, const struct ts_view *view,
			   uint32_t model)
{
	const struct ts_segment *segment;
	uint32_t i;

	if (ts_state(world, model) != PD_MODEL_RESIDENT)
		return;
	for (i = 0; i < TS_SEGMENTS && view->segment[i] != TS_NOBODY; i++) {
		segment = &world->segment[view->segment[i]];
		if (segment->serial != view->serial ||
		    segment->made != view->made[i])
			ts_complain(world,
				    "model %u was used in segment %u, "
				    "which has others' weights",
				    model, view->segment[i]);
	}
}

void ts_release(struct ts_world *world, uint32_t client, uint32_t model)
{
	struct ts_view *view = &world->client[client].view[model];

	if (view->word != IP_USE_BUSY)
		return;
	expect_weights(world, view, model);
	view->word = IP_USE_IDLE;
	view->used_ms = world->now_ms;
	if (!view->is_asked)
		return;
	view->is_asked = false;
	view->word = IP_USE_NONE;
	pd_store_yielded(world->store, model, world->now_ms);
}

enum ps_status ts_attach(struct ts_world *world, uint32_t client,
			 const char *name, uint32_t *model_out)
{
	uint32_t uid = world->client[client].uid;
	struct ip_find find = { .flags = IP_FIND_NAME };
	enum ps_status status;

	snprintf(find.name, sizeof(find.name), "%s", name);
	status = pd_store_find(world->store, uid, uid == 0, &find, model_out);
	if (status != PS_OK)
		return status;
	if (!world->client[client].view[*model_out].is_attached)
		pd_store_attached(world->store, *model_out, 1);
	world->client[client].view[*model_out].is_attached = true;
	return PS_OK;
}

void ts_detach(struct ts_world *world, uint32_t client, uint32_t model)
{
	struct ts_view *view = &world->client[client].view[model];

	if (!view->is_attached || view->word == IP_USE_BUSY)
		return;
	clear_view(view);
	pd_store_attached(world->store, model, -1);
}

void ts_die(struct ts_world *world, uint32_t client)
{
	struct ts_client *its = &world->client[client];
	struct pd_asker asker = { .slot = client, .tag = PD_ALL_TAGS };
	uint32_t i;

	for (i = 0; i < TS_ASKERS; i++)
		if (world->asked[i].client == client)
			world->asked[i].is_open = false;
	pd_store_forget_asker(world->store, asker);
	for (i = 0; i < TS_MODELS; i++) {
		if (its->has_joined && its->view[i].is_attached)
			pd_store_attached(world->store, i, -1);
		clear_view(&its->view[i]);
	}
	its->has_joined = true;
	look_again(world);
}

/* ---- what there is ---- */

enum ts_answer ts_answer(const struct ts_world *world, uint64_t tag)
{
	return world->asked[tag % TS_ASKERS].answer;
}

enum ps_status ts_status(const struct ts_world *world, uint64_t tag)
{
	return world->asked[tag % TS_ASKERS].status;
}

enum pd_model_state ts_state(const struct ts_world *world, uint32_t model)
{
	return ts_record(world, model).state;
}

uint32_t ts_first(const struct ts_world *world, uint32_t model)
{
	uint32_t segment[TS_SEGMENTS] = { TS_NOBODY };

	(void)ts_lies_in(world, model, segment);
	return segment[0];
}

uint32_t ts_have(struct ts_world *world, const char *name, uint32_t uid,
		 uint32_t flags, uint32_t segments)
{
	uint64_t tag = ts_add(world, name, uid, flags, segments * TS_UNIT,
			      (uint8_t)(world->askers + 1));

	ts_work(world);
	assert(ts_answer(world, tag) == TS_DONE);
	return world->asked[tag % TS_ASKERS].model;
}

uint32_t ts_loaded(struct ts_world *world, const char *name, uint32_t segments)
{
	uint32_t model = ts_have(world, name, 1, 0, segments);
	uint64_t tag = ts_order(world, 1, PS_MODEL_LOAD, name, 1000);

	ts_work(world);
	assert(ts_answer(world, tag) == TS_DONE);
	(void)tag;
	return model;
}

uint32_t ts_busy(struct ts_world *world, const char *name, uint32_t segments,
		 uint32_t client)
{
	uint32_t model = ts_loaded(world, name, segments);
	enum ps_status status = ts_attach(world, client, name, &model);
	uint64_t tag = ts_use(world, client, model, PS_PRIORITY_DEFAULT, 0);

	assert(status == PS_OK && ts_answer(world, tag) == TS_PLACE);
	(void)status;
	(void)tag;
	return model;
}
