/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The fields of the messages about models and what they may be. */
#include "ipc/wire_fields.h"

#include "base/status.h"

#include <inttypes.h>
#include <string.h>

/* ------------------------------------------------------------------ */
/* Fields                                                              */

static void add_fields(struct ip_cursor *c, struct ip_add *add)
{
	ip_field_u32(c, &add->seq);
	ip_field_u32(c, &add->flags);
	ip_field_u32(c, &add->plan);
	ip_field_u32(c, &add->groups);
	ip_field_bytes(c, add->name, sizeof(add->name));
	ip_field_bytes(c, add->source, sizeof(add->source));
}

static void order_fields(struct ip_cursor *c, struct ip_order *order)
{
	ip_field_u32(c, &order->seq);
	ip_field_u32(c, &order->order);
	ip_field_u32(c, &order->wait_ms);
	ip_field_bytes(c, order->name, sizeof(order->name));
}

static void find_fields(struct ip_cursor *c, struct ip_find *find)
{
	ip_field_u32(c, &find->seq);
	ip_field_u32(c, &find->flags);
	ip_field_bytes(c, find->name, sizeof(find->name));
	ip_field_bytes(c, find->hash, sizeof(find->hash));
}

static void model_fields(struct ip_cursor *c, struct ip_model *model)
{
	ip_field_u32(c, &model->seq);
	ip_field_u32(c, &model->model);
	ip_field_u32(c, &model->serial);
	ip_field_u32(c, &model->tensors);
	ip_field_u64(c, &model->address);
	ip_field_u64(c, &model->bytes);
	ip_field_u64(c, &model->manifest_bytes);
	ip_field_bytes(c, model->hash, sizeof(model->hash));
	ip_field_bytes(c, model->name, sizeof(model->name));
}

static void use_fields(struct ip_cursor *c, struct ip_use_request *use)
{
	ip_field_u32(c, &use->seq);
	ip_field_u32(c, &use->model);
	ip_field_u32(c, &use->serial);
	ip_field_u32(c, &use->place);
	ip_field_u32(c, &use->priority);
	ip_field_u32(c, &use->wait_ms);
}

static void place_fields(struct ip_cursor *c, struct ip_place *place)
{
	ip_field_u32(c, &place->seq);
	ip_field_u32(c, &place->flags);
	ip_field_u32(c, &place->place);
	ip_field_u32(c, &place->failed);
	ip_field_numbers(c, &place->count, place->segment);
}

static void yield_fields(struct ip_cursor *c, struct ip_yield *yield)
{
	ip_field_u32(c, &yield->seq);
	ip_field_u32(c, &yield->flags);
	ip_field_u32(c, &yield->model);
	ip_field_u32(c, &yield->serial);
	ip_field_u32(c, &yield->deadline_ms);
}

static void yielded_fields(struct ip_cursor *c, struct ip_yielded *yielded)
{
	ip_field_u32(c, &yielded->seq);
	ip_field_u32(c, &yielded->model);
	ip_field_u32(c, &yielded->serial);
	ip_field_u32(c, &yielded->state);
}

static void daemon_fields(struct ip_cursor *c, struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_ADDED:
		ip_field_u32(c, &msg->body.added.seq);
		ip_field_bytes(c, msg->body.added.hash,
			       sizeof(msg->body.added.hash));
		break;
	case IP_MODEL:
		model_fields(c, &msg->body.model);
		break;
	case IP_PLACE:
		place_fields(c, &msg->body.place);
		break;
	case IP_YIELD:
		yield_fields(c, &msg->body.yield);
		break;
	default: /* BOARD */
		ip_field_u32(c, &msg->body.board.seq);
		ip_field_u32(c, &msg->body.board.models);
		break;
	}
}

void ip_model_fields(struct ip_cursor *c, struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_ADD:
		add_fields(c, &msg->body.add);
		break;
	case IP_ORDER:
		order_fields(c, &msg->body.order);
		break;
	case IP_COSTS:
		ip_field_u32(c, &msg->body.costs.seq);
		ip_field_u32(c, &msg->body.costs.model);
		ip_field_u32(c, &msg->body.costs.count);
		break;
	case IP_JOIN:
		ip_field_u32(c, &msg->body.number.seq);
		break;
	case IP_FIND:
		find_fields(c, &msg->body.find);
		break;
	case IP_USE:
		use_fields(c, &msg->body.use);
		break;
	case IP_DROPPED:
		ip_field_u32(c, &msg->body.dropped.seq);
		ip_field_u32(c, &msg->body.dropped.model);
		ip_field_u32(c, &msg->body.dropped.serial);
		break;
	case IP_YIELDED:
		yielded_fields(c, &msg->body.yielded);
		break;
	default:
		daemon_fields(c, msg);
		break;
	}
}

/* ------------------------------------------------------------------ */
/* What the fields may be                                              */

static bool is_name_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || (c && strchr("-_.:/@+", c));
}

bool ip_model_name_is_ok(const char name[IP_MODEL_NAME_BYTES])
{
	size_t used = strnlen(name, IP_MODEL_NAME_BYTES);

	if (used == 0 || used == IP_MODEL_NAME_BYTES)
		return false;
	for (size_t i = 0; i < used; i++) {
		if (!is_name_letter(name[i]))
			return false;
	}
	for (size_t i = used; i < IP_MODEL_NAME_BYTES; i++) {
		if (name[i])
			return false;
	}
	return true;
}

static enum ps_status check_name(uint16_t type,
				 const char name[IP_MODEL_NAME_BYTES])
{
	enum ps_status status =
		ip_check_padded(type, "name", name, IP_MODEL_NAME_BYTES);

	if (status == PS_OK && !ip_model_name_is_ok(name))
		status = bs_fail(PS_PROTOCOL,
				 "%s: name is \"%s\", must be 1 to %d letters, "
				 "digits and -_.:/@+",
				 ip_type_name(type), name, PS_MODEL_NAME_MAX);
	return status;
}

static enum ps_status check_model(uint16_t type, uint32_t model)
{
	return ip_check_range(type, "model", model, 0, IP_MODELS_MAX - 1);
}

/* Of a request about a model that the client knows by its number. */
static enum ps_status check_known(const struct ip_message *msg, uint32_t seq,
				  uint32_t model)
{
	enum ps_status status = ip_check_seq(msg, seq);

	return status == PS_OK ? check_model(msg->type, model) : status;
}

/* A newer peer may know more values of an enumeration. */
static uint64_t last_value(const struct ip_message *msg, uint32_t known)
{
	return msg->minor > IP_MINOR_HIGH ? UINT32_MAX : known;
}

static enum ps_status check_add(const struct ip_message *msg)
{
	const struct ip_add *add = &msg->body.add;
	bool is_counted = add->plan == PS_PLAN_GROUPS;
	enum ps_status status = ip_check_seq(msg, add->seq);

	if (status == PS_OK)
		status = ip_check_flags(msg, add->flags, PS_MODEL_PUBLIC);
	if (status == PS_OK)
		status = ip_check_range(IP_ADD, "plan", add->plan, PS_PLAN_BEST,
					last_value(msg, PS_PLAN_GROUPS));
	if (status == PS_OK && add->plan <= PS_PLAN_GROUPS)
		status = ip_check_range(IP_ADD, "groups", add->groups,
					is_counted ? 1 : 0,
					is_counted ? UINT32_MAX : 0);
	if (status == PS_OK)
		status = check_name(IP_ADD, add->name);
	if (status == PS_OK)
		status = ip_check_padded(IP_ADD, "source", add->source,
					 sizeof(add->source));
	return status;
}

static enum ps_status check_order(const struct ip_message *msg)
{
	const struct ip_order *order = &msg->body.order;
	enum ps_status status = ip_check_seq(msg, order->seq);

	if (status == PS_OK)
		status = ip_check_range(IP_ORDER, "order", order->order,
					PS_MODEL_LOAD,
					last_value(msg, PS_MODEL_REMOVE));
	if (status == PS_OK)
		status = ip_check_range(IP_ORDER, "wait_ms", order->wait_ms, 0,
					IP_ORDER_WAIT_MAX_MS);
	if (status == PS_OK)
		status = check_name(IP_ORDER, order->name);
	return status;
}

static enum ps_status check_costs(const struct ip_message *msg)
{
	const struct ip_costs *costs = &msg->body.costs;
	enum ps_status status = check_known(msg, costs->seq, costs->model);

	if (status == PS_OK)
		status = ip_check_range(IP_COSTS, "count", costs->count, 1,
					IP_TENSORS_MAX);
	return status;
}

/* What is not asked for is zeros. */
static enum ps_status check_unasked(const char *field, const void *data,
				    size_t size)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i++) {
		if (bytes[i])
			return bs_fail(PS_PROTOCOL,
				       "FIND: byte %zu of %s is 0x%02x, must "
				       "be 0 without its flag",
				       i, field, bytes[i]);
	}
	return PS_OK;
}

static enum ps_status check_find(const struct ip_message *msg)
{
	const struct ip_find *find = &msg->body.find;
	const uint32_t known = IP_FIND_NAME | IP_FIND_HASH;
	enum ps_status status = ip_check_seq(msg, find->seq);

	if (status == PS_OK)
		status = ip_check_flags(msg, find->flags, known);
	if (status == PS_OK && !(find->flags & known))
		status = bs_fail(PS_PROTOCOL,
				 "FIND: flags are 0x%" PRIx32 ", must have "
				 "0x%x or 0x%x",
				 find->flags, IP_FIND_NAME, IP_FIND_HASH);
	if (status != PS_OK)
		return status;
	if (find->flags & IP_FIND_NAME)
		status = check_name(IP_FIND, find->name);
	else
		status = check_unasked("name", find->name, sizeof(find->name));
	if (status == PS_OK && !(find->flags & IP_FIND_HASH))
		status = check_unasked("hash", find->hash, sizeof(find->hash));
	return status;
}

static enum ps_status check_multiple(const char *field, uint64_t value,
				     uint64_t unit)
{
	if (value % unit == 0)
		return PS_OK;
	return bs_fail(PS_PROTOCOL,
		       "MODEL: %s is %" PRIu64
		       ", must be a multiple of %" PRIu64,
		       field, value, unit);
}

/* Where it lies. Whether that is in the window the receiver knows. */
static enum ps_status check_extent(const struct ip_model *model)
{
	enum ps_status status;

	status = ip_check_range(IP_MODEL, "bytes", model->bytes, IP_MODEL_ALIGN,
				IP_ADDRESS_END);
	if (status == PS_OK)
		status = check_multiple("bytes", model->bytes, IP_MODEL_ALIGN);
	if (status == PS_OK)
		status = ip_check_range(IP_MODEL, "address", model->address,
					IP_SEGMENT_MIN,
					IP_ADDRESS_END - model->bytes);
	if (status == PS_OK)
		status = check_multiple("address", model->address,
					IP_SEGMENT_MIN);
	return status;
}

static enum ps_status check_found(const struct ip_model *model)
{
	enum ps_status status = check_model(IP_MODEL, model->model);

	if (status == PS_OK)
		status = ip_check_range(IP_MODEL, "tensors", model->tensors, 1,
					IP_TENSORS_MAX);
	if (status == PS_OK)
		status = check_extent(model);
	if (status == PS_OK)
		status = ip_check_range(IP_MODEL, "manifest_bytes",
					model->manifest_bytes, 1,
					IP_MANIFEST_MAX);
	if (status == PS_OK)
		status = check_name(IP_MODEL, model->name);
	return status;
}

static enum ps_status check_use(const struct ip_message *msg)
{
	const struct ip_use_request *use = &msg->body.use;
	enum ps_status status = check_known(msg, use->seq, use->model);

	if (status == PS_OK)
		status = ip_check_range(IP_USE, "wait_ms", use->wait_ms, 0,
					IP_WAIT_MAX_MS);
	return status;
}

/* Nothing, because all is as it was, or segments with their descriptors. */
static enum ps_status check_place(const struct ip_message *msg,
				  unsigned int fd_count)
{
	const struct ip_place *place = &msg->body.place;
	bool is_same = (place->flags & IP_PLACE_SAME) != 0;
	enum ps_status status;

	status = ip_check_flags(msg, place->flags,
				is_same ? IP_PLACE_SAME : IP_LIST_MORE);
	if (status == PS_OK)
		status = ip_check_range(IP_PLACE, "place", place->place, 1,
					UINT32_MAX);
	if (status == PS_OK)
		status = ip_check_range(IP_PLACE, "count", place->count,
					is_same ? 0 : 1,
					is_same ? 0 : IP_LIST_MAX);
	if (status == PS_OK)
		status = ip_check_numbers(IP_PLACE, place->segment,
					  place->count, 0, IP_SEGMENTS_MAX);
	if (status == PS_OK)
		status = ip_check_range(IP_PLACE, "fd count", fd_count,
					place->count, place->count);
	return status;
}

static enum ps_status check_yield(const struct ip_message *msg)
{
	const struct ip_yield *yield = &msg->body.yield;
	enum ps_status status =
		ip_check_flags(msg, yield->flags, IP_YIELD_UNMAP);

	if (status == PS_OK)
		status = check_model(IP_YIELD, yield->model);
	if (status == PS_OK)
		status = ip_check_range(IP_YIELD, "deadline_ms",
					yield->deadline_ms, 0, IP_WAIT_MAX_MS);
	return status;
}

static enum ps_status check_yielded(const struct ip_yielded *yielded)
{
	enum ps_status status = check_model(IP_YIELDED, yielded->model);

	if (status == PS_OK)
		status = ip_check_range(IP_YIELDED, "state", yielded->state,
					IP_YIELDED_IDLE, IP_YIELDED_BUSY);
	return status;
}

static enum ps_status check_said(const struct ip_message *msg,
				 unsigned int fd_count)
{
	switch ((enum ip_type)msg->type) {
	case IP_BOARD:
		return ip_check_range(IP_BOARD, "models",
				      msg->body.board.models, IP_MODELS_MAX,
				      IP_MODELS_MAX);
	case IP_MODEL:
		return check_found(&msg->body.model);
	case IP_PLACE:
		return check_place(msg, fd_count);
	case IP_YIELD:
		return check_yield(msg);
	default:
		return PS_OK; /* ADDED: any hash */
	}
}

enum ps_status ip_model_check(const struct ip_message *msg,
			      unsigned int fd_count)
{
	switch ((enum ip_type)msg->type) {
	case IP_ADD:
		return check_add(msg);
	case IP_ORDER:
		return check_order(msg);
	case IP_COSTS:
		return check_costs(msg);
	case IP_JOIN:
		return ip_check_seq(msg, msg->body.number.seq);
	case IP_FIND:
		return check_find(msg);
	case IP_USE:
		return check_use(msg);
	case IP_DROPPED:
		return check_known(msg, msg->body.dropped.seq,
				   msg->body.dropped.model);
	case IP_YIELDED:
		return check_yielded(&msg->body.yielded);
	default:
		return check_said(msg, fd_count);
	}
}
