/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ADD and ORDER, which need no ATTACH, and the answers that come when the
 * store has decided. A connection has one request under way; one that has not
 * attached may take its time for as long as that lasts.
 */
#include "poold/agent_models.h"

#include "base/status.h"
#include "ipc/conn.h"
#include "poold/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* ------------------------------------------------------------------ */
/* Requests                                                            */

enum ps_status pd_request_begin(struct pd_visit *visit, enum ip_type type,
				uint32_t seq, struct pd_asker *asker_out)
{
	struct pd_models *models = visit->agent->models;

	if (visit->model.tag != 0)
		return bs_fail(PS_PROTOCOL,
			       "%s: %s %" PRIu32 " of this connection is not "
			       "answered yet",
			       ip_type_name((uint16_t)type),
			       ip_type_name((uint16_t)visit->model.type),
			       visit->model.seq);
	visit->model.tag = ++models->tags;
	visit->model.type = type;
	visit->model.seq = seq;
	visit->model.place = 0;
	if (visit->slot == PD_NO_CLIENT) {
		visit->deadline_ms = 0;
		pd_unschedule(visit->agent);
	}
	asker_out->slot = visit->slot;
	asker_out->tag = visit->model.tag;
	return PS_OK;
}

struct pd_visit *pd_request_find(const struct pd_models *models,
				 struct pd_asker asker)
{
	const struct pd_agent *agent = models->agent;
	struct pd_visit *visit;

	if (asker.slot != PD_NO_CLIENT) {
		visit = agent->seats[asker.slot].visit;
		return visit && visit->model.tag == asker.tag ? visit : NULL;
	}
	visit = agent->visits;
	while (visit && visit->model.tag != asker.tag)
		visit = visit->next;
	return visit;
}

void pd_request_end(struct pd_visit *visit)
{
	visit->model.tag = 0;
	if (visit->slot != PD_NO_CLIENT || visit->is_doomed)
		return;
	visit->deadline_ms = visit->agent->now_ms + PD_VISIT_IDLE_MS;
	pd_schedule(visit->agent, visit->deadline_ms);
}

/* ------------------------------------------------------------------ */
/* Answers                                                             */

static void send_added(struct pd_visit *visit,
		       const struct pd_model_record *record)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_ADDED, visit->requests.conn.minor);
	msg.body.added.seq = visit->model.seq;
	memcpy(msg.body.added.hash, record->hash, sizeof(msg.body.added.hash));
	pd_send(visit, &visit->requests, &msg, true);
}

void pd_answer_done(void *owner, struct pd_asker asker, uint32_t model)
{
	struct pd_models *models = owner;
	struct pd_visit *visit = pd_request_find(models, asker);
	struct pd_model_record record;

	if (!visit)
		return;
	if (visit->model.type != IP_ADD)
		pd_did(visit, visit->model.seq);
	else if (pd_model_record(models, model, 0, &record))
		send_added(visit, &record);
	else
		pd_deny(visit, visit->model.seq, PS_NO_MODEL,
			"the model was removed meanwhile");
	pd_request_end(visit);
}

void pd_answer_deny(void *owner, struct pd_asker asker, enum ps_status status,
		    const char *text)
{
	struct pd_models *models = owner;
	struct pd_visit *visit = pd_request_find(models, asker);

	if (!visit)
		return;
	pd_deny(visit, visit->model.seq, status, text);
	pd_request_end(visit);
}

/* ------------------------------------------------------------------ */
/* ADD                                                                 */

/* A quarter of what both halves may have open: the rest is for segments and
 * clients. */
static enum ps_status check_files(const struct pd_models *models,
				  unsigned int count)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return bs_fail_errno("asking for the limit of open files");
	if (models->fds + count > limit.rlim_cur / 4)
		return bs_fail(PS_FD_LIMIT,
			       "%" PRIu64 " files of models are open, %u more "
			       "would be over a quarter of the daemon's limit "
			       "of %" PRIu64 " open files; raise it "
			       "(LimitNOFILE, ulimit -n) or remove a model",
			       models->fds, count, (uint64_t)limit.rlim_cur);
	return PS_OK;
}

/* Models belong to users; one whose number says nothing here has none. */
static enum ps_status check_user(const struct pd_visit *visit, uint32_t *uid)
{
	*uid = (uint32_t)visit->requests.conn.peer_uid;
	return pd_uid_is_mapped(visit->requests.conn.peer_uid)
		       ? PS_OK
		       : bs_fail(PS_PERMISSION,
				 "the user is of another user namespace and "
				 "has no number here; ask as one that has");
}

static enum ps_status check_add(const struct pd_visit *visit,
				const struct ip_message *msg, uint32_t *uid)
{
	const struct pd_models *models = visit->agent->models;
	enum ps_status status = check_user(visit, uid);

	if (status == PS_OK && visit->agent->is_draining)
		status = bs_fail(PS_REFUSED, "the daemon is draining and takes "
					     "no more models");
	if (status == PS_OK)
		status = check_files(models, msg->fd_count);
	return status;
}

static void log_add(const struct pd_visit *visit, const struct ip_add *add)
{
	pd_log(PD_NOTICE, "model to be added name \"%s\" pid %d uid %u",
	       add->name, (int)visit->requests.conn.peer_pid,
	       (unsigned int)visit->requests.conn.peer_uid);
}

static void describe(const struct ip_add *add, uint32_t uid, unsigned int files,
		     struct pd_model_record *record)
{
	memset(record, 0, sizeof(*record));
	record->uid = uid;
	record->flags = add->flags;
	record->files = files;
	record->plan = add->plan;
	record->groups = add->groups;
	memcpy(record->name, add->name, sizeof(record->name));
	memcpy(record->source, add->source, sizeof(record->source));
}

static enum ps_status add(struct pd_visit *visit, struct ip_message *msg)
{
	struct pd_models *models = visit->agent->models;
	const struct ip_add *body = &msg->body.add;
	uint32_t model = PD_NO_MODEL;
	struct pd_model_record record;
	struct pd_asker asker;
	enum ps_status status;
	uint32_t uid;

	status = check_add(visit, msg, &uid);
	if (status != PS_OK) {
		pd_deny(visit, body->seq, status, bs_fail_text());
		return PS_OK;
	}
	status = pd_request_begin(visit, IP_ADD, body->seq, &asker);
	if (status != PS_OK)
		return status;
	log_add(visit, body);
	describe(body, uid, msg->fd_count, &record);
	models->incoming = msg;
	pd_store_add(models->store, asker, &record, visit->agent->now_ms,
		     &model);
	/* The store has not asked for them yet. */
	if (models->incoming && model != PD_NO_MODEL)
		pd_host_take_files(models, model);
	models->incoming = NULL;
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* ORDER                                                               */

static enum ps_status order(struct pd_visit *visit,
			    const struct ip_order *order)
{
	struct pd_models *models = visit->agent->models;
	struct pd_asker asker;
	enum ps_status status;
	uint32_t uid;

	status = check_user(visit, &uid);
	if (status != PS_OK) {
		pd_deny(visit, order->seq, status, bs_fail_text());
		return PS_OK;
	}
	status = pd_request_begin(visit, IP_ORDER, order->seq, &asker);
	if (status != PS_OK)
		return status;
	pd_store_order(models->store, asker, uid, pd_is_master(uid), order,
		       visit->agent->now_ms);
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* All of them                                                         */

static uint32_t seq_of(const struct ip_message *msg)
{
	return msg->body.number.seq; /* all requests begin with it */
}

enum ps_status pd_models_serve(struct pd_visit *visit, struct ip_message *msg)
{
	struct pd_models *models = visit->agent->models;

	if (!models->store) {
		pd_deny(visit, seq_of(msg), PS_UNSUPPORTED, models->why_not);
		return PS_OK;
	}
	if (msg->type == IP_ADD)
		return add(visit, msg);
	if (msg->type == IP_ORDER)
		return order(visit, &msg->body.order);
	return pd_member_serve(visit, msg);
}

/* ------------------------------------------------------------------ */
/* Ends                                                                */

void pd_models_visit_over(struct pd_visit *visit)
{
	struct pd_models *models = visit->agent->models;
	struct pd_asker asker = { visit->slot, visit->model.tag };

	if (!models || !models->store)
		return;
	if (visit->model.tag != 0)
		pd_store_forget_asker(models->store, asker);
	visit->model.tag = 0;
	if (visit->has_joined && visit->slot != PD_NO_CLIENT &&
	    models->seated[visit->slot])
		pd_yield_later(models->seated[visit->slot]);
	visit->has_joined = false;
}

void pd_models_client_over(struct pd_agent *agent, uint32_t slot)
{
	struct pd_models *models = agent->models;
	struct pd_member *member;
	bool was_heard;

	if (!models || !models->store || !models->seated[slot])
		return;
	member = models->seated[slot];
	was_heard = member->page != NULL;
	while (member->bonds)
		pd_bond_end(models, member->bonds);
	pd_member_free(models, member);
	if (was_heard)
		return;
	for (uint32_t i = 0; i < IP_MODELS_MAX; i++)
		pd_store_yielded(models->store, i, agent->now_ms);
}

/* ------------------------------------------------------------------ */
/* Letters that have waited                                            */

static bool renew_place(const struct pd_visit *visit, struct ip_message *msg)
{
	const struct pd_agent *agent = visit->agent;

	for (unsigned int i = 0; i < msg->fd_count; i++) {
		uint32_t segment = msg->body.place.segment[i];
		struct pd_segment_record record =
			pd_journal_segment(agent->journal, segment);

		if (record.state != PD_PARAMETER ||
		    record.model == PD_NO_MODEL ||
		    !pd_bond_find(agent->models, visit->slot, record.model))
			return false;
		msg->fds[i] = pd_gpu_fd(agent->gpu, segment);
		if (msg->fds[i] < 0)
			return false;
	}
	return true;
}

bool pd_models_renew(const struct pd_visit *visit, struct ip_message *msg)
{
	const struct pd_agent *agent = visit->agent;
	const struct ip_model *model = &msg->body.model;
	struct pd_model_record record;

	if (msg->type == IP_PLACE)
		return renew_place(visit, msg);
	if (msg->type != IP_MODEL)
		return true;
	msg->fds[0] = agent->holdings.manifest[model->model];
	return msg->fds[0] >= 0 && pd_model_record(agent->models, model->model,
						   model->serial, &record);
}
