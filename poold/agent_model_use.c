/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What attached clients ask for: JOIN, FIND, USE, DROPPED, COSTS.
 *
 * Invariant: descriptors of a model leave for clients only that are attached
 * to it, and only FIND, which asks the store, attaches.
 */
#include "poold/agent_models.h"

#include "base/status.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool pd_model_record(const struct pd_models *models, uint32_t model,
		     uint32_t serial, struct pd_model_record *record_out)
{
	struct pd_model_record record;

	if (model >= IP_MODELS_MAX ||
	    pd_journal_model(models->agent->journal, model, &record) != PS_OK ||
	    record.state == PD_MODEL_FREE ||
	    (serial != 0 && record.serial != serial))
		return false;
	*record_out = record;
	return true;
}

/* ------------------------------------------------------------------ */
/* JOIN                                                                */

static void send_board(struct pd_visit *visit, uint32_t seq)
{
	const struct pd_models *models = visit->agent->models;
	struct ip_message msg;

	ip_message_init(&msg, IP_BOARD, visit->requests.conn.minor);
	msg.body.board.seq = seq;
	msg.body.board.models = IP_MODELS_MAX;
	msg.fds[0] = pd_loader_board(models->loader);
	msg.fds[1] = models->landed_reader;
	msg.fd_count = 2;
	pd_send(visit, &visit->requests, &msg, false);
}

/* What waited for the client may be there now, or it can be asked. */
static void look_again(struct pd_models *models, uint32_t slot, bool was_heard)
{
	struct pd_member *member = models->seated[slot];

	pd_yield_again(models, member);
	for (uint32_t i = 0; i < IP_MODELS_MAX; i++) {
		if (!was_heard || models->model[i].bonds)
			pd_store_yielded(models->store, i,
					 models->agent->now_ms);
	}
}

static enum ps_status join(struct pd_visit *visit, struct ip_message *msg)
{
	struct pd_agent *agent = visit->agent;
	struct pd_models *models = agent->models;
	const struct pd_member *member = models->seated[visit->slot];
	bool was_heard = !member || member->page;
	enum ps_status status;

	if (visit->has_joined)
		return bs_fail(PS_PROTOCOL,
			       "JOIN: this connection has joined already");
	status = pd_member_join(models, visit->slot, msg->fds[0]);
	if (status == PS_PROTOCOL)
		return status;
	if (status != PS_OK) {
		pd_deny(visit, msg->body.number.seq, status, bs_fail_text());
		return PS_OK;
	}
	/* Before it can use any: the next agent must know of its page. */
	pd_core_mark(agent->core, visit->slot, PD_CLIENT_JOINED);
	visit->has_joined = true;
	send_board(visit, msg->body.number.seq);
	look_again(models, visit->slot, was_heard);
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* FIND                                                                */

static void send_model(struct pd_visit *visit, uint32_t seq, uint32_t number,
		       const struct pd_model_record *record)
{
	const struct pd_models *models = visit->agent->models;
	const struct pd_pool_record *pool =
		pd_journal_pool(visit->agent->journal);
	struct ip_message msg;
	struct ip_model *model = &msg.body.model;

	ip_message_init(&msg, IP_MODEL, visit->requests.conn.minor);
	model->seq = seq;
	model->model = number;
	model->serial = record->serial;
	model->tensors = record->tensors;
	model->address = pool->window_base + record->slot * pool->segment_bytes;
	model->bytes = record->bytes;
	model->manifest_bytes = models->model[number].layout.size;
	memcpy(model->hash, record->hash, sizeof(model->hash));
	memcpy(model->name, record->name, sizeof(model->name));
	msg.fds[0] = visit->agent->holdings.manifest[number];
	msg.fd_count = 1;
	pd_send(visit, &visit->requests, &msg, false);
}

static enum ps_status find(struct pd_visit *visit, const struct ip_find *find)
{
	struct pd_agent *agent = visit->agent;
	struct pd_models *models = agent->models;
	struct pd_client_view client;
	struct pd_model_record record = { 0 };
	struct pd_bond *bond;
	uint32_t model = PD_NO_MODEL;
	enum ps_status status;

	if (!pd_core_client(agent->core, visit->slot, &client))
		return bs_fail(PS_PROTOCOL, "FIND: the client's record is "
					    "damaged");
	status = pd_store_find(models->store, client.record.uid,
			       pd_is_master(client.record.uid), find, &model);
	if (status == PS_OK && (!pd_model_record(models, model, 0, &record) ||
				!models->model[model].layout.memory))
		status = bs_fail(PS_AGAIN, "the model is read again; try "
					   "again");
	if (status == PS_OK)
		status = pd_bond_make(models, visit->slot, model, &bond);
	if (status == PS_OK)
		send_model(visit, find->seq, model, &record);
	else
		pd_deny(visit, find->seq, status, bs_fail_text());
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* USE                                                                 */

static enum ps_status use(struct pd_visit *visit,
			  const struct ip_use_request *use)
{
	struct pd_models *models = visit->agent->models;
	struct pd_model_record record;
	struct pd_asker asker;
	enum ps_status status;

	if (!pd_model_record(models, use->model, use->serial, &record) ||
	    !pd_bond_find(models, visit->slot, use->model)) {
		pd_deny(visit, use->seq, PS_NO_MODEL,
			"the model was removed, or the client is not attached "
			"to it; attach to it again");
		return PS_OK;
	}
	status = pd_request_begin(visit, IP_USE, use->seq, &asker);
	if (status != PS_OK)
		return status;
	visit->model.place = use->place;
	models->model[use->model].used_ms = visit->agent->now_ms;
	pd_store_use(models->store, asker, use, visit->agent->now_ms);
	return PS_OK;
}

/* What it has mapped now, or will when it has read PLACE. A place is one list
 * of segments for good. */
static enum ps_status remember(const struct pd_models *models,
			       struct pd_bond *bond, uint32_t place)
{
	uint32_t *segments;

	if (bond->place == place && bond->mapped)
		return PS_OK;
	segments = calloc(pd_parameters(models) + 1, sizeof(*segments));
	if (!segments)
		return bs_fail(PS_HOST_MEMORY,
			       "the daemon has no memory to list segments");
	pd_bond_place(bond, place, segments,
		      pd_model_segments(models, bond->model, segments));
	return PS_OK;
}

static void place(struct pd_visit *visit, struct pd_bond *bond,
		  const struct pd_model_record *record)
{
	struct pd_models *models = visit->agent->models;
	bool is_same = visit->model.place == record->place;
	struct ip_place answer = { .seq = visit->model.seq,
				   .place = record->place };
	enum ps_status status = remember(models, bond, record->place);

	if (status != PS_OK) {
		pd_deny(visit, visit->model.seq, status, bs_fail_text());
		return;
	}
	answer.failed = pd_model_failures(models, bond->model);
	answer.flags = is_same ? IP_PLACE_SAME : 0;
	(void)pd_bond_set(bond, IP_USE_BUSY);
	bond->is_placed_since = true;
	models->is_review_due = true;
	pd_send_place(visit, &answer, bond->mapped,
		      is_same ? 0 : bond->mapped_count);
}

/* ------------------------------------------------------------------ */
/* DROPPED, COSTS                                                      */

static enum ps_status dropped(struct pd_visit *visit,
			      const struct ip_dropped *dropped)
{
	struct pd_models *models = visit->agent->models;
	struct pd_model_record record;
	struct pd_bond *bond = NULL;

	if (pd_model_record(models, dropped->model, dropped->serial, &record))
		bond = pd_bond_find(models, visit->slot, dropped->model);
	pd_did(visit, dropped->seq);
	if (bond)
		pd_bond_end(models, bond);
	return PS_OK;
}

static enum ps_status read_costs(int fd, uint32_t count, uint32_t **costs_out)
{
	size_t bytes = count * sizeof(uint32_t);
	uint32_t *costs = malloc(bytes ? bytes : 1);
	ssize_t got;

	if (!costs)
		return bs_fail(PS_HOST_MEMORY, "no memory for %u costs", count);
	got = pread(fd, costs, bytes, 0);
	if (got < 0 || (size_t)got != bytes) {
		free(costs);
		return bs_fail_errno("COSTS: reading %zu bytes", bytes);
	}
	*costs_out = costs;
	return PS_OK;
}

static enum ps_status check_costs(const struct pd_visit *visit,
				  const struct ip_costs *costs)
{
	const struct pd_models *models = visit->agent->models;
	uid_t uid = visit->requests.conn.peer_uid;
	struct pd_model_record record;

	if (!pd_model_record(models, costs->model, 0, &record) ||
	    !pd_bond_find(models, visit->slot, costs->model))
		return bs_fail(PS_NO_MODEL,
			       "the client is not attached to that model");
	if (uid != record.uid && !pd_is_master(uid))
		return bs_fail(PS_PERMISSION,
			       "costs are for the model's user, the daemon's "
			       "and root to say");
	if (costs->count != record.tensors)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%u costs came, the model has %u tensors",
			       costs->count, record.tensors);
	return PS_OK;
}

/* Those by which a load goes stay until it is over. */
static void keep_costs(struct pd_model *entry, uint32_t *costs)
{
	bool is_taken = entry->load && entry->load->is_under_way;
	uint32_t **at = is_taken ? &entry->next_costs : &entry->costs;

	free(*at);
	*at = costs;
}

static enum ps_status costs(struct pd_visit *visit, struct ip_message *msg)
{
	const struct ip_costs *body = &msg->body.costs;
	struct pd_models *models = visit->agent->models;
	uint32_t *read = NULL;
	enum ps_status status;

	status = pd_check_page(msg->fds[0], body->count * sizeof(uint32_t),
			       F_SEAL_WRITE, "COSTS: the list");
	if (status != PS_OK)
		return status;
	status = check_costs(visit, body);
	if (status == PS_OK)
		status = read_costs(msg->fds[0], body->count, &read);
	if (status != PS_OK) {
		pd_deny(visit, body->seq, status, bs_fail_text());
		return PS_OK;
	}
	keep_costs(&models->model[body->model], read);
	pd_did(visit, body->seq);
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* All of them                                                         */

static enum ps_status check_member(const struct pd_visit *visit,
				   const struct ip_message *msg)
{
	if (visit->slot == PD_NO_CLIENT)
		return bs_fail(PS_PROTOCOL, "%s before ATTACH",
			       ip_type_name(msg->type));
	if (msg->type != IP_JOIN && !visit->has_joined)
		return bs_fail(PS_PROTOCOL, "%s before JOIN",
			       ip_type_name(msg->type));
	return PS_OK;
}

enum ps_status pd_member_serve(struct pd_visit *visit, struct ip_message *msg)
{
	enum ps_status status = check_member(visit, msg);

	if (status != PS_OK)
		return status;
	switch (msg->type) {
	case IP_JOIN:
		return join(visit, msg);
	case IP_FIND:
		return find(visit, &msg->body.find);
	case IP_USE:
		return use(visit, &msg->body.use);
	case IP_DROPPED:
		return dropped(visit, &msg->body.dropped);
	default:
		return costs(visit, msg);
	}
}

/* The answer to USE, from the store. */
void pd_answer_place(void *owner, struct pd_asker asker, uint32_t model)
{
	struct pd_models *models = owner;
	struct pd_visit *visit = pd_request_find(models, asker);
	struct pd_model_record record;
	struct pd_bond *bond;

	if (!visit)
		return;
	bond = pd_bond_find(models, visit->slot, model);
	if (bond && pd_model_record(models, model, 0, &record))
		place(visit, bond, &record);
	else
		pd_deny(visit, visit->model.seq, PS_NO_MODEL,
			"the client is not attached to the model any more");
	pd_request_end(visit);
}
