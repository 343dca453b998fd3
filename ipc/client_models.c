/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The requests about models. What an answer says is compared with what was
 * asked for; whether addresses and segments make sense the caller knows. */
#include "ipc/client_turns.h"

#include "base/status.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

static enum ps_status begin(const struct ip_client *client, enum ip_type type,
			    struct ip_message *msg_out)
{
	enum ps_status status =
		ip_client_needs(client, IP_MINOR_MODELS, "models");

	if (status == PS_OK)
		ip_message_init(msg_out, type, client->conn.minor);
	return status;
}

/* ------------------------------------------------------------------ */
/* The store                                                           */

/* The daemon reads whole files before it answers. */
static enum ps_status hear_added(struct ip_client *client, int timeout_ms,
				 struct ip_message *msg_out)
{
	const int usual_ms = client->conn.timeout_ms;
	enum ps_status status;

	client->conn.timeout_ms = timeout_ms < 0 ? INT_MAX : timeout_ms;
	status = ip_client_hear(client, IP_ADDED, 0, msg_out);
	client->conn.timeout_ms = usual_ms;
	return status;
}

enum ps_status ip_client_add(struct ip_client *client, struct ip_add *add,
			     const int *fds, unsigned int count, int timeout_ms,
			     uint8_t hash_out[PS_MODEL_HASH_BYTES])
{
	struct ip_message msg;
	enum ps_status status;

	assert(count <= IP_MODEL_FILES);
	status = begin(client, IP_ADD, &msg);
	if (status != PS_OK)
		return status;
	msg.body.add = *add;
	msg.fd_count = count;
	memcpy(msg.fds, fds, count * sizeof(*fds));
	status = ip_client_say(client, &msg);
	add->seq = client->seq;
	if (status == PS_OK)
		status = hear_added(client, timeout_ms, &msg);
	if (status != PS_OK)
		return status;
	memcpy(hash_out, msg.body.added.hash, PS_MODEL_HASH_BYTES);
	ip_message_done(&msg);
	return PS_OK;
}

enum ps_status ip_client_order(struct ip_client *client, struct ip_order *order)
{
	struct ip_message msg;
	enum ps_status status = begin(client, IP_ORDER, &msg);

	if (status != PS_OK)
		return status;
	msg.body.order = *order;
	status = ip_client_do(client, order->wait_ms, &msg);
	order->seq = client->seq;
	return status;
}

enum ps_status ip_client_costs(struct ip_client *client, uint32_t model,
			       uint32_t count, int costs)
{
	struct ip_message msg;
	enum ps_status status = begin(client, IP_COSTS, &msg);

	if (status != PS_OK)
		return status;
	msg.body.costs.model = model;
	msg.body.costs.count = count;
	msg.fds[msg.fd_count++] = costs;
	return ip_client_do(client, 0, &msg);
}

/* ------------------------------------------------------------------ */
/* A worker                                                            */

enum ps_status ip_client_join(struct ip_client *client, int page,
			      int *board_out, int *landed_out)
{
	struct ip_message msg;
	enum ps_status status = begin(client, IP_JOIN, &msg);

	if (status != PS_OK)
		return status;
	msg.fds[msg.fd_count++] = page;
	status = ip_client_say(client, &msg);
	if (status == PS_OK)
		status = ip_client_hear(client, IP_BOARD, 0, &msg);
	if (status != PS_OK)
		return status;
	*board_out = ip_message_take_fd(&msg, 0);
	*landed_out = ip_message_take_fd(&msg, 1);
	ip_message_done(&msg);
	return PS_OK;
}

static enum ps_status check_found(const struct ip_find *find,
				  const struct ip_model *model)
{
	if ((find->flags & IP_FIND_NAME) &&
	    memcmp(find->name, model->name, sizeof(find->name)) != 0)
		return bs_fail(PS_PROTOCOL,
			       "MODEL: name is \"%s\", must be \"%s\"",
			       model->name, find->name);
	if ((find->flags & IP_FIND_HASH) &&
	    memcmp(find->hash, model->hash, sizeof(find->hash)) != 0)
		return bs_fail(
			PS_PROTOCOL,
			"MODEL: the hash of \"%s\" begins with %02x%02x, "
			"%02x%02x was asked for",
			model->name, model->hash[0], model->hash[1],
			find->hash[0], find->hash[1]);
	return PS_OK;
}

enum ps_status ip_client_find(struct ip_client *client, struct ip_find *find,
			      struct ip_model *model_out, int *manifest_out)
{
	struct ip_message msg;
	enum ps_status status = begin(client, IP_FIND, &msg);

	if (status != PS_OK)
		return status;
	msg.body.find = *find;
	status = ip_client_say(client, &msg);
	find->seq = client->seq;
	if (status == PS_OK)
		status = ip_client_hear(client, IP_MODEL, 0, &msg);
	if (status != PS_OK)
		return status;
	status = check_found(find, &msg.body.model);
	if (status == PS_OK) {
		*model_out = msg.body.model;
		*manifest_out = ip_message_take_fd(&msg, 0);
	}
	ip_message_done(&msg);
	return status;
}

static enum ps_status say_use(struct ip_client *client,
			      struct ip_use_request *use)
{
	struct ip_message msg;
	enum ps_status status = begin(client, IP_USE, &msg);

	if (status != PS_OK)
		return status;
	msg.body.use = *use;
	client->wanted = IP_SEGMENTS_MAX;
	client->wait_ms = use->wait_ms;
	status = ip_client_say(client, &msg);
	use->seq = client->seq;
	return status;
}

/* "As you have it" is an answer only to who has it. */
static enum ps_status check_same(const struct ip_use_request *use,
				 const struct ip_place *place)
{
	if (!(place->flags & IP_PLACE_SAME))
		return PS_OK;
	if (use && use->place == place->place)
		return PS_OK;
	return bs_fail(PS_PROTOCOL,
		       "PLACE: says that all is as at place %" PRIu32
		       ", the client has %" PRIu32,
		       place->place, use ? use->place : 0);
}

/* All messages of an answer are about the same place. */
static enum ps_status check_place(struct ip_client *client,
				  const struct ip_use_request *use,
				  const struct ip_place *place)
{
	if (use) {
		client->place = place->place;
		client->failed = place->failed;
	}
	if (place->place != client->place || place->failed != client->failed)
		return bs_fail(PS_PROTOCOL,
			       "PLACE: is %" PRIu32 " after %" PRIu32
			       " failures, must be %" PRIu32 " after %" PRIu32
			       " as before",
			       place->place, place->failed, client->place,
			       client->failed);
	if (place->count > client->wanted)
		return bs_fail(PS_PROTOCOL,
			       "PLACE: has more than %u segments in all",
			       IP_SEGMENTS_MAX);
	client->wanted -= place->count;
	return check_same(use, place);
}

enum ps_status ip_client_use(struct ip_client *client,
			     struct ip_use_request *use,
			     struct ip_place *place_out, int *fds_out)
{
	enum ps_status status = use ? say_use(client, use) : PS_OK;
	struct ip_message msg;

	if (status == PS_OK)
		status =
			ip_client_hear(client, IP_PLACE, client->wait_ms, &msg);
	if (status != PS_OK)
		return status;
	status = check_place(client, use, &msg.body.place);
	if (status == PS_OK) {
		*place_out = msg.body.place;
		for (uint32_t i = 0; i < place_out->count; i++)
			fds_out[i] = ip_message_take_fd(&msg, i);
	}
	ip_message_done(&msg);
	return status;
}

enum ps_status ip_client_drop_model(struct ip_client *client, uint32_t model,
				    uint32_t serial)
{
	struct ip_message msg;
	enum ps_status status = begin(client, IP_DROPPED, &msg);

	if (status != PS_OK)
		return status;
	msg.body.dropped.model = model;
	msg.body.dropped.serial = serial;
	return ip_client_do(client, 0, &msg);
}
