/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The fields of the daemon's messages and what they may be. Their names,
 * lengths, descriptors and sides are in the table of ipc/wire.c.
 */
#include "ipc/wire_fields.h"

#include "base/status.h"

#include <inttypes.h>
#include <string.h>

/* ------------------------------------------------------------------ */
/* Fields                                                              */

static void attach_fields(struct ip_cursor *c, struct ip_attach *attach)
{
	ip_field_u32(c, &attach->seq);
	ip_field_u16(c, &attach->minor_low);
	ip_field_u16(c, &attach->flags);
	ip_field_u64(c, &attach->id);
	ip_field_bytes(c, attach->token, sizeof(attach->token));
	ip_field_u64(c, &attach->reservation);
	ip_field_u64(c, &attach->limit);
	ip_field_bytes(c, attach->name, sizeof(attach->name));
	if (c->minor >= IP_MINOR_CONTEXTS)
		ip_field_u32(c, &attach->contexts);
}

static void welcome_fields(struct ip_cursor *c, struct ip_welcome *welcome)
{
	ip_field_u32(c, &welcome->seq);
	ip_field_u32(c, &welcome->resumed);
	ip_field_u64(c, &welcome->id);
	ip_field_bytes(c, welcome->token, sizeof(welcome->token));
	ip_field_bytes(c, welcome->pool_id, sizeof(welcome->pool_id));
	ip_field_bytes(c, welcome->gpu, sizeof(welcome->gpu));
	ip_field_u64(c, &welcome->window_base);
	ip_field_u64(c, &welcome->window_bytes);
	ip_field_u64(c, &welcome->segment_bytes);
	ip_field_u64(c, &welcome->parameter_bytes);
	ip_field_u32(c, &welcome->segment_count);
	ip_field_u32(c, &welcome->parameter_write);
	ip_field_u64(c, &welcome->reservation);
	ip_field_u64(c, &welcome->limit);
}

static void take_fields(struct ip_cursor *c, struct ip_take *take)
{
	ip_field_u32(c, &take->seq);
	ip_field_u32(c, &take->count);
	ip_field_u32(c, &take->wait_ms);
	ip_field_u32(c, &take->flags);
}

static void list_fields(struct ip_cursor *c, struct ip_list *list)
{
	ip_field_u32(c, &list->seq);
	ip_field_u32(c, &list->flags);
	ip_field_numbers(c, &list->count, list->segment);
}

static void need_fields(struct ip_cursor *c, struct ip_need *need)
{
	ip_field_u32(c, &need->seq);
	ip_field_u32(c, &need->first);
	ip_field_u32(c, &need->count);
	if (c->minor >= IP_MINOR_OUTSIDE)
		ip_field_u32(c, &need->flags);
}

static void part_fields(struct ip_cursor *c, struct ip_part *part)
{
	ip_field_u32(c, &part->seq);
	ip_field_u32(c, &part->first);
	ip_field_u32(c, &part->count);
	ip_field_u32(c, &part->write);
}

static void deny_fields(struct ip_cursor *c, struct ip_deny *deny)
{
	ip_field_u32(c, &deny->seq);
	ip_field_u32(c, &deny->status);
	ip_field_text(c, deny->text);
}

static void recall_fields(struct ip_cursor *c, struct ip_recall *recall)
{
	ip_field_u32(c, &recall->seq);
	ip_field_u32(c, &recall->count);
	ip_field_u32(c, &recall->deadline_ms);
}

static void polled_fields(struct ip_cursor *c, struct ip_polled *polled)
{
	ip_field_u32(c, &polled->seq);
	ip_field_u32(c, &polled->blocks);
	ip_field_u64(c, &polled->live);
	ip_field_u64(c, &polled->cached);
	ip_field_u64(c, &polled->passed);
}

static void begin_fields(struct ip_cursor *c, struct ip_begin *begin)
{
	ip_field_u32(c, &begin->layout);
	ip_field_u32(c, &begin->segments);
	ip_field_u32(c, &begin->clients);
}

static void piece_fields(struct ip_cursor *c, struct ip_piece *piece)
{
	ip_field_u32(c, &piece->kind);
	ip_field_numbers(c, &piece->count, piece->number);
}

/* Two numbers and nothing else. */
static void pair_fields(struct ip_cursor *c, uint32_t *first, uint32_t *second)
{
	ip_field_u32(c, first);
	ip_field_u32(c, second);
}

static void half_fields(struct ip_cursor *c, struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_BEGIN:
		begin_fields(c, &msg->body.begin);
		break;
	case IP_NOTE:
		pair_fields(c, &msg->body.note.notice, &msg->body.note.value);
		break;
	default: /* PIECE, DROP */
		piece_fields(c, &msg->body.piece);
		break;
	}
}

static void client_fields(struct ip_cursor *c, struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_ATTACH:
		attach_fields(c, &msg->body.attach);
		break;
	case IP_TAKE:
		take_fields(c, &msg->body.take);
		break;
	case IP_NEED:
		need_fields(c, &msg->body.need);
		break;
	case IP_ASK:
		pair_fields(c, &msg->body.ask.seq, &msg->body.ask.question);
		break;
	case IP_POLLED:
		polled_fields(c, &msg->body.polled);
		break;
	default: /* LEAVE */
		ip_field_u32(c, &msg->body.number.seq);
		break;
	}
}

void ip_daemon_fields(struct ip_cursor *c, struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_GIVE:
	case IP_HELD:
	case IP_GRANT:
	case IP_RECALLED:
	case IP_CLOSE:
		list_fields(c, &msg->body.list);
		break;
	case IP_ISSUE:
	case IP_TICKET:
	case IP_OPEN:
	case IP_OPENED:
		ip_ticket_fields(c, msg);
		break;
	case IP_WELCOME:
		welcome_fields(c, &msg->body.welcome);
		break;
	case IP_DID:
	case IP_POLL:
	case IP_LOST:
		ip_field_u32(c, &msg->body.number.seq);
		break;
	case IP_PART:
		part_fields(c, &msg->body.part);
		break;
	case IP_DENY:
		deny_fields(c, &msg->body.deny);
		break;
	case IP_ANSWER:
		pair_fields(c, &msg->body.answer.seq, &msg->body.answer.bytes);
		break;
	case IP_RECALL:
		recall_fields(c, &msg->body.recall);
		break;
	case IP_BEGIN:
	case IP_PIECE:
	case IP_DROP:
	case IP_NOTE:
		half_fields(c, msg);
		break;
	default:
		client_fields(c, msg);
		break;
	}
}

/* ------------------------------------------------------------------ */
/* What the fields may be                                              */

/* A newer peer may know more of them. */
static uint64_t bits(const struct ip_message *msg, uint32_t known)
{
	return msg->minor > IP_MINOR_HIGH ? UINT32_MAX : known;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	return size == 0 ||
	       (bytes[0] == 0 && !memcmp(bytes, bytes + 1, size - 1));
}

static enum ps_status check_attach(const struct ip_message *msg)
{
	const struct ip_attach *attach = &msg->body.attach;
	enum ps_status status = ip_check_seq(msg, attach->seq);

	if (status == PS_OK)
		status = ip_check_range(IP_ATTACH, "minor_low",
					attach->minor_low, 0, msg->minor);
	if (status == PS_OK)
		status = ip_check_range(
			IP_ATTACH, "flags", attach->flags, 0,
			bits(msg, IP_ATTACH_WRITE | IP_ATTACH_MPS));
	if (status == PS_OK)
		status = ip_check_padded(IP_ATTACH, "name", attach->name,
					 sizeof(attach->name));
	if (status == PS_OK)
		status = ip_check_range(IP_ATTACH, "contexts", attach->contexts,
					0, IP_CONTEXTS_MAX);
	if (status == PS_OK && attach->id == 0 &&
	    !is_zero(attach->token, sizeof(attach->token)))
		status = bs_fail(PS_PROTOCOL, "ATTACH: token is set, must be "
					      "zeros for a new client");
	return status;
}

static enum ps_status check_welcome(const struct ip_welcome *welcome)
{
	enum ps_status status;

	status = ip_check_range(IP_WELCOME, "resumed", welcome->resumed, 0, 1);
	if (status == PS_OK)
		status = ip_check_range(IP_WELCOME, "id", welcome->id, 1,
					UINT64_MAX);
	if (status == PS_OK)
		status = ip_check_range(IP_WELCOME, "parameter_write",
					welcome->parameter_write, 0, 1);
	if (status == PS_OK)
		status = ip_check_range(IP_WELCOME, "limit", welcome->limit, 1,
					UINT64_MAX);
	if (status == PS_OK)
		status =
			ip_check_range(IP_WELCOME, "reservation",
				       welcome->reservation, 0, welcome->limit);
	if (status == PS_OK)
		status = ip_check_padded(IP_WELCOME, "gpu", welcome->gpu,
					 IP_GPU_BYTES);
	if (status == PS_OK)
		status = ip_welcome_check(welcome);
	return status;
}

/* All or none of the room: the two flags never come together. */
static uint32_t last_take_flag(uint16_t minor)
{
	return minor < IP_MINOR_OUTSIDE ? IP_TAKE_SOME : IP_TAKE_OUTSIDE;
}

static enum ps_status check_take(const struct ip_message *msg)
{
	const struct ip_take *take = &msg->body.take;
	enum ps_status status = ip_check_seq(msg, take->seq);

	if (status == PS_OK)
		status = ip_check_range(IP_TAKE, "count", take->count, 1,
					IP_SEGMENTS_MAX);
	if (status == PS_OK)
		status = ip_check_range(IP_TAKE, "wait_ms", take->wait_ms, 0,
					IP_WAIT_MAX_MS);
	if (status == PS_OK)
		status = ip_check_range(IP_TAKE, "flags", take->flags, 0,
					bits(msg, last_take_flag(msg->minor)));
	return status;
}

/* What differs between the messages that carry a list of segments. */
struct list_rule {
	uint32_t flags;
	uint32_t least;
	uint32_t marks; /* of which an entry may carry one */
};

static struct list_rule grant_rule(const struct ip_message *msg)
{
	const struct list_rule held = { IP_LIST_MORE, 1, IP_SEGMENT_PARKED };
	const struct list_rule room = { IP_LIST_MORE | IP_LIST_OUTSIDE, 1, 0 };
	bool is_room = (msg->body.list.flags & IP_LIST_OUTSIDE) != 0;

	return is_room && msg->minor >= IP_MINOR_OUTSIDE ? room : held;
}

static struct list_rule held_rule(uint16_t minor)
{
	uint32_t marks = IP_SEGMENT_PARKED;

	if (minor >= IP_MINOR_OUTSIDE)
		marks |= IP_SEGMENT_OUTSIDE | IP_SEGMENT_OPENED;
	return (struct list_rule){ IP_LIST_MORE, 0, marks };
}

static struct list_rule list_rule(const struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_GIVE:
		return (struct list_rule){ IP_LIST_PARKED, 1, 0 };
	case IP_CLOSE:
		return (struct list_rule){ 0, 1, 0 };
	case IP_GRANT:
		return grant_rule(msg);
	case IP_HELD:
		return held_rule(msg->minor);
	default: /* RECALLED */
		return (struct list_rule){ IP_LIST_MORE, 0, 0 };
	}
}

/* Each entry has one at most. */
static enum ps_status check_marks(uint16_t type, const struct ip_list *list)
{
	for (uint32_t i = 0; i < list->count; i++) {
		uint32_t marks = list->segment[i] & ~IP_SEGMENT_NUMBER;

		if ((marks & (marks - 1)) != 0)
			return bs_fail(PS_PROTOCOL,
				       "%s: segment %" PRIu32 " has the marks "
				       "0x%" PRIx32 ", may have one",
				       ip_type_name(type),
				       list->segment[i] & IP_SEGMENT_NUMBER,
				       marks);
	}
	return PS_OK;
}

static enum ps_status check_list(const struct ip_message *msg)
{
	const struct ip_list *list = &msg->body.list;
	struct list_rule rule = list_rule(msg);
	enum ps_status status = PS_OK;

	if (msg->type == IP_GIVE || msg->type == IP_CLOSE)
		status = ip_check_seq(msg, list->seq);
	if (status == PS_OK)
		status = ip_check_flags(msg, list->flags, rule.flags);
	if (status == PS_OK)
		status = ip_check_range(msg->type, "count", list->count,
					rule.least, IP_LIST_MAX);
	if (status == PS_OK)
		status = ip_check_numbers(msg->type, list->segment, list->count,
					  rule.marks, IP_SEGMENTS_MAX);
	if (status == PS_OK)
		status = check_marks(msg->type, list);
	return status;
}

/* A descriptor for each that the client does not have mapped. */
static enum ps_status check_grant(const struct ip_message *msg,
				  unsigned int fd_count)
{
	const struct ip_list *list = &msg->body.list;
	enum ps_status status = check_list(msg);
	uint32_t bare = 0;

	if (status != PS_OK)
		return status;
	for (uint32_t i = 0; i < list->count; i++)
		bare += !(list->segment[i] & IP_SEGMENT_PARKED);
	if (list->flags & IP_LIST_OUTSIDE)
		bare = 0;
	return ip_check_range(IP_GRANT, "fd count", fd_count, bare, bare);
}

static enum ps_status check_need(const struct ip_message *msg)
{
	const struct ip_need *need = &msg->body.need;
	uint32_t flags = msg->minor < IP_MINOR_OUTSIDE ? 0 : IP_NEED_EXPORT;
	enum ps_status status = ip_check_seq(msg, need->seq);

	if (status == PS_OK)
		status = ip_check_flags(msg, need->flags, flags);
	if (status == PS_OK)
		status = ip_check_run(
			IP_NEED, need->first, need->count,
			need->flags & IP_NEED_EXPORT ? 1 : IP_LIST_MAX);
	return status;
}

static enum ps_status check_part(const struct ip_part *part,
				 unsigned int fd_count)
{
	enum ps_status status;

	status = ip_check_run(IP_PART, part->first, part->count, IP_LIST_MAX);
	if (status == PS_OK)
		status = ip_check_range(IP_PART, "write", part->write, 0, 1);
	if (status == PS_OK)
		status = ip_check_range(IP_PART, "fd count", fd_count,
					part->count, part->count);
	return status;
}

static uint32_t last_question(uint16_t minor)
{
	if (minor >= IP_MINOR_MODELS)
		return IP_ASK_MODELS;
	return minor >= IP_MINOR_OUTSIDE ? IP_ASK_PRESENCE : IP_ASK_RELOAD;
}

static enum ps_status check_ask(const struct ip_message *msg)
{
	enum ps_status status = ip_check_seq(msg, msg->body.ask.seq);

	if (status == PS_OK)
		status = ip_check_range(IP_ASK, "question",
					msg->body.ask.question, 1,
					bits(msg, last_question(msg->minor)));
	return status;
}

static enum ps_status check_recall(const struct ip_recall *recall)
{
	enum ps_status status;

	status = ip_check_range(IP_RECALL, "count", recall->count, 1,
				IP_SEGMENTS_MAX);
	if (status == PS_OK)
		status = ip_check_range(IP_RECALL, "deadline_ms",
					recall->deadline_ms, 0, IP_WAIT_MAX_MS);
	return status;
}

/* All of a pool, or nothing of it. */
static enum ps_status check_begin(const struct ip_begin *begin,
				  unsigned int fd_count)
{
	bool is_pool = begin->segments > 0;
	unsigned int fds = is_pool ? 3 : 1;
	enum ps_status status;

	status = ip_check_range(IP_BEGIN, "segments", begin->segments, 0,
				IP_SEGMENTS_MAX);
	if (status == PS_OK)
		status = ip_check_range(IP_BEGIN, "clients", begin->clients,
					is_pool ? 1 : 0,
					is_pool ? IP_CLIENTS_MAX : 0);
	if (status == PS_OK)
		status = ip_check_range(IP_BEGIN, "fd count", fd_count, fds,
					fds);
	return status;
}

/* How many places there are for descriptors of a kind. */
static uint32_t piece_places(uint32_t kind)
{
	switch ((enum ip_piece_kind)kind) {
	case IP_PIECE_PIDFDS:
		return IP_CLIENTS_MAX;
	case IP_PIECE_SIGNALS:
		return IP_SIGNALS;
	case IP_PIECE_MANIFESTS:
	case IP_PIECE_HOSTS:
		return IP_MODELS_MAX;
	case IP_PIECE_FILES:
		return IP_MODELS_MAX * IP_MODEL_FILES;
	default: /* SEGMENTS; END has no numbers */
		return IP_SEGMENTS_MAX;
	}
}

static enum ps_status check_piece(const struct ip_message *msg,
				  unsigned int fd_count)
{
	const struct ip_piece *piece = &msg->body.piece;
	bool is_drop = msg->type == IP_DROP;
	bool is_end = piece->kind == IP_PIECE_END;
	uint32_t fds = is_drop ? 0 : piece->count;
	enum ps_status status;

	status = ip_check_range(
		msg->type, "kind", piece->kind, IP_PIECE_SEGMENTS,
		msg->minor >= IP_MINOR_MODELS ? IP_PIECE_FILES : IP_PIECE_END);
	if (status == PS_OK && is_drop && is_end)
		status = bs_fail(PS_PROTOCOL,
				 "DROP: kind is %d, which ends a hand-over",
				 IP_PIECE_END);
	if (status == PS_OK)
		status = ip_check_range(msg->type, "count", piece->count,
					is_end ? 0 : 1,
					is_end ? 0 : IP_LIST_MAX);
	if (status == PS_OK)
		status = ip_check_range(msg->type, "fd count", fd_count, fds,
					fds);
	if (status == PS_OK)
		status =
			ip_check_numbers(msg->type, piece->number, piece->count,
					 0, piece_places(piece->kind));
	return status;
}

static enum ps_status check_half(const struct ip_message *msg,
				 unsigned int fd_count)
{
	switch ((enum ip_type)msg->type) {
	case IP_BEGIN:
		return check_begin(&msg->body.begin, fd_count);
	case IP_NOTE:
		return ip_check_range(IP_NOTE, "notice", msg->body.note.notice,
				      1, IP_NOTICE_DROPPED);
	default: /* PIECE, DROP */
		return check_piece(msg, fd_count);
	}
}

static enum ps_status check_request(const struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_ATTACH:
		return check_attach(msg);
	case IP_TAKE:
		return check_take(msg);
	case IP_NEED:
		return check_need(msg);
	case IP_ASK:
		return check_ask(msg);
	case IP_LEAVE:
		return ip_check_seq(msg, msg->body.number.seq);
	default:
		return PS_OK; /* DID, POLL, LOST, POLLED: any number */
	}
}

enum ps_status ip_daemon_check(const struct ip_message *msg,
			       unsigned int fd_count)
{
	switch ((enum ip_type)msg->type) {
	case IP_GIVE:
	case IP_HELD:
	case IP_RECALLED:
	case IP_CLOSE:
		return check_list(msg);
	case IP_ISSUE:
	case IP_TICKET:
	case IP_OPEN:
	case IP_OPENED:
		return ip_ticket_check(msg, fd_count);
	case IP_GRANT:
		return check_grant(msg, fd_count);
	case IP_WELCOME:
		return check_welcome(&msg->body.welcome);
	case IP_PART:
		return check_part(&msg->body.part, fd_count);
	case IP_DENY:
		return ip_check_reason(msg, msg->body.deny.status,
				       msg->body.deny.text);
	case IP_ANSWER:
		return ip_check_range(IP_ANSWER, "bytes",
				      msg->body.answer.bytes, 1, IP_ANSWER_MAX);
	case IP_RECALL:
		return check_recall(&msg->body.recall);
	case IP_BEGIN:
	case IP_PIECE:
	case IP_DROP:
	case IP_NOTE:
		return check_half(msg, fd_count);
	default:
		return check_request(msg);
	}
}
