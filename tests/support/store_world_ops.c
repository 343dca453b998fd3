/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/store_world_ops.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void ts_complain(struct ts_world *world, const char *format, ...)
{
	va_list args;

	if (world->wrong[0] != '\0')
		return;
	va_start(args, format);
	vsnprintf(world->wrong, sizeof(world->wrong), format, args);
	va_end(args);
}

void ts_step(struct ts_world *world)
{
	world->ops++;
	if (world->ops == world->kill_at)
		longjmp(world->killed, 1);
}

struct pd_model_record ts_record(const struct ts_world *world, uint32_t model)
{
	struct pd_model_record record = { .state = PD_MODEL_FREE };

	if (pd_journal_model(world->journal, model, &record) != PS_OK)
		record.state = PD_MODEL_FREE;
	return record;
}

uint32_t ts_readers(const struct pd_model_record *record)
{
	return record->flags & PS_MODEL_PUBLIC ? PD_ANY_USER : record->uid;
}

uint32_t ts_lies_in(const struct ts_world *world, uint32_t model,
		    uint32_t *segments_out)
{
	struct pd_segment_record record;
	uint32_t n, count = 0;

	for (n = 0; n < world->segments; n++) {
		record = pd_journal_segment(world->journal, n);
		if (record.model != model || record.position >= TS_SEGMENTS)
			continue;
		segments_out[record.position] = n;
		count++;
	}
	return count;
}

uint64_t ts_host_bytes(const struct ts_world *world)
{
	unsigned long long bytes;
	unsigned int hash;
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < TS_MODELS; i++) {
		if (!world->model[i].has_host)
			continue;
		ts_files(world, i, &bytes, &hash);
		sum += bytes;
	}
	return sum;
}

void ts_files(const struct ts_world *world, uint32_t model,
	      unsigned long long *bytes_out, unsigned int *hash_out)
{
	struct pd_model_record record = ts_record(world, model);

	*bytes_out = 0;
	*hash_out = 0;
	(void)!sscanf(record.source, "%llu %u", bytes_out, hash_out);
}

bool ts_is_whole(const struct ts_world *world, const struct ts_job *job)
{
	uint32_t i;

	for (i = 0; i < job->count; i++)
		if (world->segment[job->segment[i]].serial != job->serial)
			return false;
	return true;
}

/* ---- host memory ---- */

static void on_read(void *owner, uint32_t model)
{
	struct ts_world *world = owner;
	uint32_t i;

	ts_step(world);
	if (ts_record(world, model).state != PD_MODEL_READING)
		ts_complain(world,
			    "model %u is read before the journal says so",
			    model);
	for (i = 0; i < TS_MODELS; i++)
		if (world->model[i].is_reading)
			ts_complain(world, "models %u and %u are read at once",
				    i, model);
	if (world->model[model].has_host)
		ts_complain(world, "model %u is read and is there", model);
	world->model[model].is_reading = true;
}

static bool is_copied(const struct ts_world *world, uint32_t model)
{
	uint32_t i;

	for (i = 0; i < world->jobs; i++)
		if (world->job[i].kind == TS_LOAD &&
		    world->job[i].model == model)
			return true;
	return false;
}

static void on_drop_host(void *owner, uint32_t model)
{
	struct ts_world *world = owner;

	ts_step(world);
	if (is_copied(world, model))
		ts_complain(world,
			    "the copy of model %u is dropped while it "
			    "is loaded",
			    model);
	if (ts_record(world, model).state == PD_MODEL_HOST)
		ts_complain(world,
			    "the copy of model %u is dropped before "
			    "the journal says so",
			    model);
	world->model[model].has_host = false;
	world->model[model].is_reading = false;
	world->model[model].drops++;
}

static void on_forget(void *owner, uint32_t model)
{
	struct ts_world *world = owner;
	uint32_t c;

	ts_step(world);
	if (ts_record(world, model).state != PD_MODEL_FREE)
		ts_complain(world,
			    "model %u is forgotten before the journal "
			    "says so",
			    model);
	for (c = 0; c < TS_CLIENTS; c++)
		if (world->client[c].view[model].is_attached)
			ts_complain(world, "model %u of client %u is forgotten",
				    model, c);
	if (world->model[model].counter != TS_EMPTY)
		ts_complain(world, "model %u is forgotten with its counter up",
			    model);
	memset(&world->model[model], 0, sizeof(world->model[model]));
	world->forgets++;
}

/* ---- the GPU ---- */

static struct ts_job *new_job(struct ts_world *world, enum ts_job_kind kind,
			      uint32_t model)
{
	struct ts_job *job = &world->job[world->jobs];

	if (world->jobs + 1 < TS_JOBS)
		world->jobs++;
	else
		ts_complain(world, "the GPU has too much to do");
	*job = (struct ts_job){ .kind = kind,
				.model = model,
				.serial = ts_record(world, model).serial };
	return job;
}

/* Whoever can use model @other reads these segments. */
void ts_expect_not_read(struct ts_world *world, uint32_t n, uint32_t model)
{
	const struct ts_view *view;
	uint32_t c, m, i;

	for (c = 0; c < TS_CLIENTS; c++)
		for (m = 0; m < TS_MODELS; m++) {
			view = &world->client[c].view[m];
			if (m == model || !view->is_attached ||
			    view->word == IP_USE_NONE)
				continue;
			for (i = 0; i < TS_SEGMENTS; i++)
				if (view->segment[i] == n &&
				    view->made[i] == world->segment[n].made)
					ts_complain(world,
						    "segment %u is taken for "
						    "model %u while client %u "
						    "can use model %u in it",
						    n, model, c, m);
		}
}

static void expect_segment(struct ts_world *world, uint32_t n, uint32_t model)
{
	struct pd_model_record record = ts_record(world, model);
	struct ts_segment *segment = &world->segment[n];
	uint32_t readers = ts_readers(&record);

	if (segment->is_remaking)
		ts_complain(world,
			    "model %u is loaded into segment %u, which "
			    "is being remade",
			    model, n);
	if (segment->readers != PD_NO_USER && segment->readers != readers)
		ts_complain(world, "model %u of %u is loaded where %u can read",
			    model, readers, segment->readers);
	if (pd_journal_segment(world->journal, n).user != readers)
		ts_complain(world,
			    "segment %u has other readers in the journal", n);
	if (pd_journal_segment(world->journal, n).is_tainted)
		ts_complain(world, "segment %u was given away", n);
	ts_expect_not_read(world, n, model);
	segment->readers = readers;
}

static void on_load(void *owner, uint32_t model, uint32_t priority)
{
	struct ts_world *world = owner;
	struct pd_model_record record = ts_record(world, model);
	struct ts_job *job;
	uint32_t i;

	ts_step(world);
	world->model[model].priority = priority;
	if (is_copied(world, model))
		return;
	if (record.state != PD_MODEL_LOADING)
		ts_complain(world,
			    "model %u is loaded before the journal says "
			    "so",
			    model);
	if (!world->model[model].has_host)
		ts_complain(world, "model %u is loaded without a copy", model);
	job = new_job(world, TS_LOAD, model);
	job->count = ts_lies_in(world, model, job->segment);
	if (job->count != (record.bytes + TS_UNIT - 1) / TS_UNIT)
		ts_complain(world, "model %u is loaded into %u segments", model,
			    job->count);
	if (world->model[model].counter != TS_EMPTY &&
	    !world->model[model].resumes)
		ts_complain(world, "model %u is loaded, and its counter is up",
			    model);
	world->model[model].resumes = false;
	for (i = 0; i < job->count; i++)
		expect_segment(world, job->segment[i], model);
	world->model[model].loads++;
}

static void on_reset(void *owner, uint32_t model)
{
	struct ts_world *world = owner;

	ts_step(world);
	if (ts_record(world, model).state != PD_MODEL_EVICTING)
		ts_complain(world,
			    "model %u is reset before the journal says "
			    "so",
			    model);
	if (ts_is_used(world, model))
		ts_complain(world, "model %u is reset in use", model);
	if (is_copied(world, model))
		ts_complain(world, "model %u is reset while it is loaded",
			    model);
	(void)new_job(world, TS_RESET, model);
	world->model[model].is_resetting = true;
	world->model[model].resets++;
}

static void on_remake(void *owner, uint32_t n)
{
	struct ts_world *world = owner;
	struct pd_segment_record record = pd_journal_segment(world->journal, n);
	enum pd_model_state state = PD_MODEL_FREE;

	ts_step(world);
	if (record.model != PD_NO_MODEL)
		state = ts_record(world, record.model).state;
	if (state == PD_MODEL_LOADING || state == PD_MODEL_RESIDENT)
		ts_complain(world, "segment %u of model %u is remade", n,
			    record.model);
	if (world->segment[n].is_remaking)
		ts_complain(world, "segment %u is remade twice", n);
	ts_expect_not_read(world, n, PD_NO_MODEL);
	world->segment[n].is_remaking = true;
}

/* ---- the clients' words ---- */

bool ts_is_used(const struct ts_world *world, uint32_t model)
{
	uint32_t c;

	for (c = 0; c < TS_CLIENTS; c++)
		if (world->client[c].view[model].word == IP_USE_BUSY)
			return true;
	return false;
}

static bool may_be_used(const struct ts_world *world, uint32_t model)
{
	uint32_t c;

	for (c = 0; c < TS_CLIENTS; c++)
		if (!world->client[c].has_joined)
			return true;
	return ts_is_used(world, model);
}

static bool on_is_used(void *owner, uint32_t model)
{
	const struct ts_world *world = owner;

	return world->is_fickle || may_be_used(world, model);
}

static void take_idle(struct ts_world *world, uint32_t model)
{
	struct ts_view *view;
	uint32_t c;

	for (c = 0; c < TS_CLIENTS; c++) {
		view = &world->client[c].view[model];
		if (view->word == IP_USE_IDLE)
			view->word = IP_USE_NONE;
	}
}

/* A client that is quicker than the store. */
static void slip(struct ts_world *world, uint32_t model)
{
	struct ts_view *view;
	uint32_t c;

	for (c = 0; c < TS_CLIENTS && world->slips > 0; c++) {
		view = &world->client[c].view[model];
		if (view->word != IP_USE_IDLE)
			continue;
		view->word = IP_USE_BUSY;
		world->slips--;
	}
}

static bool on_take_back(void *owner, uint32_t model)
{
	struct ts_world *world = owner;

	ts_step(world);
	slip(world, model);
	if (may_be_used(world, model))
		return false;
	take_idle(world, model);
	return true;
}

static uint64_t on_last_used(void *owner, uint32_t model)
{
	struct ts_world *world = owner;
	uint64_t used_ms = 0;
	uint32_t c;

	for (c = 0; c < TS_CLIENTS; c++)
		if (world->client[c].view[model].used_ms > used_ms)
			used_ms = world->client[c].view[model].used_ms;
	return used_ms;
}

static bool on_yield(void *owner, uint32_t model, uint32_t deadline_ms)
{
	struct ts_world *world = owner;
	struct ts_view *view;
	bool any = false;
	uint32_t c;

	ts_step(world);
	if (world->is_fickle) {
		/* Else it would ask for ever. */
		assert(++world->tricks < 1000);
		return false;
	}
	if (deadline_ms != TS_YIELD_MS)
		ts_complain(world, "clients get %u ms to yield", deadline_ms);
	take_idle(world, model);
	for (c = 0; c < TS_CLIENTS; c++) {
		view = &world->client[c].view[model];
		any |= !world->client[c].has_joined;
		if (view->word != IP_USE_BUSY)
			continue;
		any = true;
		world->model[model].yields += !view->is_asked;
		view->is_asked = true;
	}
	return any;
}

/* ---- answers ---- */

static struct ts_asked *asked(struct ts_world *world, struct pd_asker asker)
{
	struct ts_asked *asked = &world->asked[asker.tag % TS_ASKERS];

	if (!asked->is_open)
		ts_complain(world, "request %u is answered twice",
			    (unsigned int)asker.tag);
	asked->is_open = false;
	return asked;
}

/* The same number of a place means the same mapping. */
static void map(struct ts_world *world, struct ts_view *view, uint32_t model)
{
	struct pd_model_record record = ts_record(world, model);
	bool is_same =
		view->place == record.place && view->serial == record.serial;
	uint32_t segment[TS_SEGMENTS], count, i;

	count = ts_lies_in(world, model, segment);
	for (i = 0; i < count; i++) {
		if (is_same &&
		    (view->segment[i] != segment[i] ||
		     view->made[i] != world->segment[segment[i]].made))
			ts_complain(world,
				    "model %u lies elsewhere, and its place is "
				    "still %u",
				    model, record.place);
		view->segment[i] = segment[i];
		view->made[i] = world->segment[segment[i]].made;
	}
	for (; i < TS_SEGMENTS; i++)
		view->segment[i] = TS_NOBODY;
	view->place = record.place;
	view->serial = record.serial;
}

static void expect_counter(struct ts_world *world, uint32_t model)
{
	struct ts_job lies = { .serial = ts_record(world, model).serial };

	lies.count = ts_lies_in(world, model, lies.segment);
	if (world->model[model].is_resetting ||
	    (world->model[model].counter == TS_LANDED &&
	     !ts_is_whole(world, &lies)))
		ts_complain(world,
			    "model %u is placed, its counter is not "
			    "right",
			    model);
}

static void on_place(void *owner, struct pd_asker asker, uint32_t model)
{
	struct ts_world *world = owner;
	struct pd_model_record record = ts_record(world, model);
	struct ts_asked *to;
	struct ts_view *view;

	ts_step(world);
	to = asked(world, asker);
	if (to->client == TS_NOBODY || to->model != model) {
		ts_complain(world, "model %u is placed for nobody", model);
		return;
	}
	view = &world->client[to->client].view[model];
	if ((record.state != PD_MODEL_LOADING &&
	     record.state != PD_MODEL_RESIDENT) ||
	    record.place == 0)
		ts_complain(world, "model %u is placed and not there", model);
	expect_counter(world, model);
	map(world, view, model);
	view->word = IP_USE_BUSY;
	view->used_ms = world->now_ms;
	to->answer = TS_PLACE;
	world->places++;
}

static void on_done(void *owner, struct pd_asker asker, uint32_t model)
{
	struct ts_world *world = owner;
	struct ts_asked *to;

	ts_step(world);
	to = asked(world, asker);
	to->answer = TS_DONE;
	to->model = model;
}

static void on_deny(void *owner, struct pd_asker asker, enum ps_status status,
		    const char *text)
{
	struct ts_world *world = owner;
	struct ts_asked *to;

	ts_step(world);
	to = asked(world, asker);
	to->answer = TS_DENY;
	to->status = status;
	snprintf(to->text, sizeof(to->text), "%s", text);
	if (status == PS_OK || text[0] == '\0')
		ts_complain(world, "a request is denied without a reason");
}

static void on_arm(void *owner, uint64_t at_ms)
{
	struct ts_world *world = owner;

	ts_step(world);
	world->armed_ms = at_ms;
}

struct pd_store_ops ts_ops(void)
{
	return (struct pd_store_ops){
		.read = on_read,
		.drop_host = on_drop_host,
		.forget = on_forget,
		.load = on_load,
		.reset = on_reset,
		.remake = on_remake,
		.is_used = on_is_used,
		.take_back = on_take_back,
		.last_used = on_last_used,
		.yield = on_yield,
		.place = on_place,
		.done = on_done,
		.deny = on_deny,
		.arm = on_arm,
	};
}
