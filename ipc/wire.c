/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each message has one function that lists its fields, for both directions,
 * and one that says which values they may have, so that the encoder cannot
 * write what the decoder would not read.
 */
#include "ipc/wire_fields.h"

#include "base/status.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a newer minor version may append to a message that is fixed here. */
#define GROWTH 64u
#define REFUSE_FIXED 8u
#define DENY_FIXED 12u
#define LIST_FIXED 12u
#define LIST_BYTES (4 * IP_LIST_MAX)
#define PIECE_FIXED 8u
#define ISSUE_FIXED 24u
#define RUN_BYTES 8u
#define OPENED_FIXED 28u
#define PLACE_FIXED 20u
#define ADD_BYTES (16 + IP_MODEL_NAME_BYTES + IP_SOURCE_BYTES)
#define FIND_BYTES (8 + IP_MODEL_NAME_BYTES + PS_MODEL_HASH_BYTES)
#define MODEL_BYTES (40 + PS_MODEL_HASH_BYTES + IP_MODEL_NAME_BYTES)

_Static_assert(LIST_FIXED + LIST_BYTES + GROWTH <= IP_PAYLOAD_MAX,
	       "the longest list");
_Static_assert(OPENED_FIXED + LIST_BYTES + GROWTH <= IP_PAYLOAD_MAX,
	       "the longest answer to a ticket");
_Static_assert(DENY_FIXED + IP_TEXT_MAX + GROWTH <= IP_PAYLOAD_MAX,
	       "the longest text");

#define ANYBODY (IP_SENDER | IP_RECEIVER | IP_CLIENT | IP_DAEMON | IP_HALF)

static const struct ip_rule rules[] = {
#define RULE(type, from, since, fds_min, fds_max, bytes, most)                 \
	{                                                                      \
#type, IP_##type, since, fds_min, fds_max, bytes, most,        \
			(most) + GROWTH, from                                  \
	}
	/* who says it, first minor, descriptors, payload bytes: at least and
	 * at most, in all minors that are known here */
	RULE(HELLO, IP_RECEIVER, 0, 0, 0, 60, 60),
	RULE(OFFER, IP_SENDER, 0, 0, 0, 180, 180),
	RULE(REFUSE, ANYBODY, 0, 0, 0, REFUSE_FIXED,
	     REFUSE_FIXED + IP_TEXT_MAX),
	RULE(ACCEPT, IP_RECEIVER, 0, 0, 0, 16, 16),
	RULE(SEGMENTS, IP_SENDER, 0, 0, IP_MESSAGE_FDS, 12, 12),
	RULE(GOT, IP_RECEIVER, 0, 0, 0, 8, 8),
	RULE(DONE, IP_RECEIVER, 0, 0, 0, 4, 4),

	RULE(ATTACH, IP_CLIENT, 1, 0, 1, 112, 116),
	RULE(TAKE, IP_CLIENT, 1, 0, 0, 16, 16),
	RULE(GIVE, IP_CLIENT, 1, 0, 0, LIST_FIXED, LIST_FIXED + LIST_BYTES),
	RULE(NEED, IP_CLIENT, 1, 0, 0, 12, 16),
	RULE(LEAVE, IP_CLIENT, 1, 0, 0, 4, 4),
	RULE(ASK, IP_CLIENT, 1, 0, 0, 8, 8),
	RULE(ISSUE, IP_CLIENT, 3, 0, 0, ISSUE_FIXED + RUN_BYTES,
	     ISSUE_FIXED + IP_TICKET_RUNS * RUN_BYTES),
	RULE(OPEN, IP_CLIENT, 3, 0, 0, 4 + IP_TICKET_BYTES,
	     4 + IP_TICKET_BYTES),
	RULE(CLOSE, IP_CLIENT, 3, 0, 0, LIST_FIXED, LIST_FIXED + LIST_BYTES),
	RULE(WELCOME, IP_DAEMON, 1, 1, 1, 152, 152),
	RULE(HELD, IP_DAEMON, 1, 0, 0, LIST_FIXED, LIST_FIXED + LIST_BYTES),
	RULE(GRANT, IP_DAEMON, 1, 0, IP_LIST_MAX, LIST_FIXED,
	     LIST_FIXED + LIST_BYTES),
	RULE(DID, IP_DAEMON, 1, 0, 0, 4, 4),
	RULE(PART, IP_DAEMON, 1, 0, IP_LIST_MAX, 16, 16),
	RULE(DENY, IP_DAEMON, 1, 0, 0, DENY_FIXED, DENY_FIXED + IP_TEXT_MAX),
	RULE(ANSWER, IP_DAEMON, 1, 1, 1, 8, 8),
	RULE(TICKET, IP_DAEMON, 3, 0, 0, 4 + IP_TICKET_BYTES,
	     4 + IP_TICKET_BYTES),
	RULE(OPENED, IP_DAEMON, 3, 1, IP_LIST_MAX, OPENED_FIXED + 4,
	     OPENED_FIXED + LIST_BYTES),
	RULE(RECALL, IP_DAEMON, 1, 0, 0, 12, 12),
	RULE(POLL, IP_DAEMON, 1, 0, 0, 4, 4),
	RULE(LOST, IP_DAEMON, 1, 0, 0, 4, 4),
	RULE(RECALLED, IP_CLIENT, 1, 0, 0, LIST_FIXED, LIST_FIXED + LIST_BYTES),
	RULE(POLLED, IP_CLIENT, 1, 0, 0, 32, 32),

	RULE(ADD, IP_CLIENT, 4, 1, IP_MODEL_FILES, ADD_BYTES, ADD_BYTES),
	RULE(ORDER, IP_CLIENT, 4, 0, 0, 12 + IP_MODEL_NAME_BYTES,
	     12 + IP_MODEL_NAME_BYTES),
	RULE(COSTS, IP_CLIENT, 4, 1, 1, 12, 12),
	RULE(JOIN, IP_CLIENT, 4, 1, 1, 4, 4),
	RULE(FIND, IP_CLIENT, 4, 0, 0, FIND_BYTES, FIND_BYTES),
	RULE(USE, IP_CLIENT, 4, 0, 0, 24, 24),
	RULE(DROPPED, IP_CLIENT, 4, 0, 0, 12, 12),
	RULE(ADDED, IP_DAEMON, 4, 0, 0, 4 + PS_MODEL_HASH_BYTES,
	     4 + PS_MODEL_HASH_BYTES),
	RULE(BOARD, IP_DAEMON, 4, 2, 2, 8, 8),
	RULE(MODEL, IP_DAEMON, 4, 1, 1, MODEL_BYTES, MODEL_BYTES),
	RULE(PLACE, IP_DAEMON, 4, 0, IP_LIST_MAX, PLACE_FIXED,
	     PLACE_FIXED + LIST_BYTES),
	RULE(YIELD, IP_DAEMON, 4, 0, 0, 20, 20),
	RULE(YIELDED, IP_CLIENT, 4, 0, 0, 16, 16),

	RULE(BEGIN, IP_HALF, 1, 1, 3, 12, 12),
	RULE(PIECE, IP_HALF, 1, 0, IP_LIST_MAX, PIECE_FIXED,
	     PIECE_FIXED + LIST_BYTES),
	RULE(DROP, IP_HALF, 1, 0, 0, PIECE_FIXED, PIECE_FIXED + LIST_BYTES),
	RULE(NOTE, IP_HALF, 1, 0, 0, 8, 8),
#undef RULE
};

const struct ip_rule *ip_rule_find(uint16_t type)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (rules[i].type == type)
			return &rules[i];
	}
	return NULL;
}

const char *ip_type_name(uint16_t type)
{
	const struct ip_rule *rule = ip_rule_find(type);

	return rule ? rule->name : "unknown message";
}

bool ip_minor_agree(struct ip_minors own, struct ip_minors peer,
		    uint16_t *minor_out)
{
	uint16_t high = own.high < peer.high ? own.high : peer.high;
	uint16_t low = own.low > peer.low ? own.low : peer.low;

	if (low > high)
		return false;
	*minor_out = high;
	return true;
}

/* ------------------------------------------------------------------ */
/* Fields                                                              */

static void header_fields(struct ip_cursor *c, uint32_t *magic, uint16_t *major,
			  struct ip_header *header)
{
	ip_field_u32(c, magic);
	ip_field_u16(c, major);
	ip_field_u16(c, &header->minor);
	ip_field_u16(c, &header->type);
	ip_field_u16(c, &header->fd_count);
	ip_field_u32(c, &header->bytes);
}

static void hello_fields(struct ip_cursor *c, struct ip_hello *hello)
{
	ip_field_u16(c, &hello->minor_low);
	ip_field_u16(c, &hello->modes);
	ip_field_u32(c, &hello->fds_at_once);
	ip_field_u32(c, &hello->fds_in_all);
	ip_field_bytes(c, hello->gpu, sizeof(hello->gpu));
}

static void offer_fields(struct ip_cursor *c, struct ip_offer *offer)
{
	ip_field_bytes(c, offer->pool_id, sizeof(offer->pool_id));
	ip_field_bytes(c, offer->gpu, sizeof(offer->gpu));
	ip_field_u32(c, &offer->mode);
	ip_field_u32(c, &offer->parameter_write);
	ip_field_u64(c, &offer->window_base);
	ip_field_u64(c, &offer->window_bytes);
	ip_field_u64(c, &offer->segment_bytes);
	ip_field_u64(c, &offer->parameter_bytes);
	ip_field_u32(c, &offer->segment_count);
	ip_field_u32(c, &offer->first);
	ip_field_u32(c, &offer->count);
	ip_field_bytes(c, offer->handle, sizeof(offer->handle));
}

/* All that minor 4 brought. */
static bool is_about_models(uint16_t type)
{
	const struct ip_rule *rule = ip_rule_find(type);

	return rule && rule->since == IP_MINOR_MODELS;
}

static void body_fields(struct ip_cursor *c, struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_HELLO:
		hello_fields(c, &msg->body.hello);
		break;
	case IP_OFFER:
		offer_fields(c, &msg->body.offer);
		break;
	case IP_REFUSE:
		ip_field_u32(c, &msg->body.refuse.status);
		ip_field_text(c, msg->body.refuse.text);
		break;
	case IP_ACCEPT:
		ip_field_bytes(c, msg->body.accept.pool_id, IP_POOL_ID_BYTES);
		break;
	case IP_SEGMENTS:
		ip_field_u32(c, &msg->body.segments.first);
		ip_field_u32(c, &msg->body.segments.count);
		ip_field_u32(c, &msg->body.segments.write);
		break;
	case IP_GOT:
		ip_field_u32(c, &msg->body.got.first);
		ip_field_u32(c, &msg->body.got.count);
		break;
	case IP_DONE:
		ip_field_u32(c, &msg->body.done.count);
		break;
	default:
		if (is_about_models(msg->type))
			ip_model_fields(c, msg);
		else
			ip_daemon_fields(c, msg);
		break;
	}
}

/* ------------------------------------------------------------------ */
/* What the fields may be                                              */

static enum ps_status check_hello(const struct ip_hello *hello, uint16_t minor)
{
	uint64_t modes = IP_MODE_VMM | IP_MODE_LEGACY_IPC;
	enum ps_status status;

	if (minor > IP_MINOR_HIGH)
		modes = UINT16_MAX; /* it may know more than we do */
	status = ip_check_range(IP_HELLO, "minor_low", hello->minor_low, 0,
				minor);
	if (status == PS_OK)
		status = ip_check_range(IP_HELLO, "modes", hello->modes, 1,
					modes);
	if (status == PS_OK)
		status = ip_check_range(IP_HELLO, "fds_at_once",
					hello->fds_at_once, 1, IP_MESSAGE_FDS);
	if (status == PS_OK)
		status = ip_check_range(IP_HELLO, "fds_in_all",
					hello->fds_in_all, 1, IP_SEGMENTS_MAX);
	if (status == PS_OK)
		status = ip_check_padded(IP_HELLO, "gpu", hello->gpu,
					 IP_GPU_BYTES);
	return status;
}

static enum ps_status check_offer(const struct ip_offer *offer)
{
	enum ps_status status;

	status = ip_check_range(IP_OFFER, "mode", offer->mode, PS_SHARE_VMM,
				PS_SHARE_LEGACY_IPC);
	if (status == PS_OK)
		status = ip_check_range(IP_OFFER, "parameter_write",
					offer->parameter_write, 0, 1);
	if (status == PS_OK)
		status = ip_check_range(IP_OFFER, "segment_count",
					offer->segment_count, 1,
					IP_SEGMENTS_MAX);
	if (status == PS_OK)
		status = ip_check_padded(IP_OFFER, "gpu", offer->gpu,
					 IP_GPU_BYTES);
	return status;
}

static enum ps_status check_segments(const struct ip_segments *segments,
				     unsigned int fd_count)
{
	enum ps_status status;

	status = ip_check_run(IP_SEGMENTS, segments->first, segments->count,
			      IP_MESSAGE_FDS);
	if (status == PS_OK)
		status = ip_check_range(IP_SEGMENTS, "write", segments->write,
					0, 1);
	if (status == PS_OK)
		status = ip_check_range(IP_SEGMENTS, "fd count", fd_count,
					segments->count, segments->count);
	return status;
}

static enum ps_status check_body(const struct ip_message *msg,
				 unsigned int fd_count)
{
	switch ((enum ip_type)msg->type) {
	case IP_HELLO:
		return check_hello(&msg->body.hello, msg->minor);
	case IP_OFFER:
		return check_offer(&msg->body.offer);
	case IP_REFUSE:
		return ip_check_reason(msg, msg->body.refuse.status,
				       msg->body.refuse.text);
	case IP_ACCEPT:
		return PS_OK; /* any id may be said; who gave it compares */
	case IP_SEGMENTS:
		return check_segments(&msg->body.segments, fd_count);
	case IP_GOT:
		return ip_check_run(IP_GOT, msg->body.got.first,
				    msg->body.got.count, IP_MESSAGE_FDS);
	case IP_DONE:
		return ip_check_range(IP_DONE, "count", msg->body.done.count, 0,
				      IP_SEGMENTS_MAX);
	default:
		return is_about_models(msg->type)
			       ? ip_model_check(msg, fd_count)
			       : ip_daemon_check(msg, fd_count);
	}
}

/* ------------------------------------------------------------------ */
/* Headers                                                             */

static const char *side_name(unsigned int from)
{
	switch ((enum ip_side)from) {
	case IP_SENDER:
		return "sender";
	case IP_RECEIVER:
		return "receiver";
	case IP_CLIENT:
		return "client";
	case IP_DAEMON:
		return "daemon";
	case IP_HALF:
		return "keeper or agent";
	}
	return "several";
}

/* What a message has besides its body. */
static enum ps_status check_frame(const struct ip_rule *rule, uint16_t minor,
				  unsigned int fd_count)
{
	enum ps_status status;

	status = ip_check_range(rule->type, "minor version", minor, rule->since,
				UINT16_MAX);
	if (status == PS_OK)
		status = ip_check_range(rule->type, "fd count", fd_count,
					rule->fds_min, rule->fds_max);
	return status;
}

/* The exact length shows when the fields have been read. */
static enum ps_status check_length(const struct ip_rule *rule,
				   const struct ip_header *header)
{
	bool known = header->minor <= IP_MINOR_HIGH;

	return ip_check_range(rule->type, "length", header->bytes,
			      rule->bytes_min,
			      known ? rule->bytes_known : rule->bytes_max);
}

static enum ps_status unknown_type(uint16_t type)
{
	return bs_fail(PS_PROTOCOL, "message type %u is unknown", type);
}

static enum ps_status check_version(uint32_t magic, uint16_t major,
				    uint16_t minor)
{
	if (magic != IP_MAGIC)
		return bs_fail(PS_PROTOCOL,
			       "magic is 0x%08" PRIx32
			       ", must be 0x%08x: the peer is not "
			       "poolswitch, or the socket is out of step",
			       magic, IP_MAGIC);
	if (major != IP_MAJOR)
		return bs_fail(PS_VERSION_MISMATCH,
			       "the peer speaks protocol %u.%u, this process "
			       "%u.%u: install the same poolswitch on both "
			       "sides",
			       major, minor, IP_MAJOR, IP_MINOR_HIGH);
	return PS_OK;
}

enum ps_status ip_header_decode(const uint8_t bytes[IP_HEADER_BYTES],
				unsigned int from, struct ip_header *header_out)
{
	uint8_t copy[IP_HEADER_BYTES];
	struct ip_cursor c = { .bytes = copy, .size = sizeof(copy) };
	struct ip_header header;
	const struct ip_rule *rule;
	enum ps_status status;
	uint32_t magic = 0;
	uint16_t major = 0;

	memcpy(copy, bytes, sizeof(copy));
	memset(&header, 0, sizeof(header));
	header_fields(&c, &magic, &major, &header);
	status = check_version(magic, major, header.minor);
	if (status != PS_OK)
		return status;
	rule = ip_rule_find(header.type);
	if (!rule)
		return unknown_type(header.type);
	if (!(rule->from & from))
		return bs_fail(PS_PROTOCOL,
			       "%s: comes from the wrong side (%s)", rule->name,
			       side_name(from));
	status = check_frame(rule, header.minor, header.fd_count);
	if (status == PS_OK)
		status = check_length(rule, &header);
	if (status == PS_OK)
		*header_out = header;
	return status;
}

/* ------------------------------------------------------------------ */
/* Messages                                                            */

static enum ps_status decode_body(uint8_t *payload, size_t size,
				  unsigned int fd_count, struct ip_message *msg)
{
	struct ip_cursor c = {
		.bytes = payload,
		.size = size,
		.type = msg->type,
		.minor = msg->minor,
	};
	enum ps_status status;

	body_fields(&c, msg);
	status = c.status;
	/* A newer minor may have appended what we do not know. */
	if (status == PS_OK)
		status = ip_check_range(
			msg->type, "length", size, c.at,
			msg->minor > IP_MINOR_HIGH ? IP_PAYLOAD_MAX : c.at);
	if (status == PS_OK)
		status = check_body(msg, fd_count);
	return status;
}

enum ps_status ip_message_decode(const uint8_t *bytes, size_t size,
				 unsigned int from, struct ip_message *msg_out)
{
	uint8_t payload[IP_PAYLOAD_MAX];
	struct ip_header header;
	struct ip_message msg;
	enum ps_status status;

	if (size < IP_HEADER_BYTES)
		return bs_fail(PS_PROTOCOL,
			       "a message of %zu bytes is shorter than its "
			       "header of %u",
			       size, IP_HEADER_BYTES);
	status = ip_header_decode(bytes, from, &header);
	if (status != PS_OK)
		return status;
	if (size != IP_HEADER_BYTES + header.bytes)
		return bs_fail(PS_PROTOCOL,
			       "%s: has %zu bytes, its header says %" PRIu32,
			       ip_type_name(header.type), size,
			       IP_HEADER_BYTES + header.bytes);
	memcpy(payload, bytes + IP_HEADER_BYTES, header.bytes);
	ip_message_init(&msg, (enum ip_type)header.type, header.minor);
	status = decode_body(payload, header.bytes, header.fd_count, &msg);
	if (status == PS_OK)
		*msg_out = msg;
	return status;
}

static enum ps_status check_own(const struct ip_message *msg)
{
	const struct ip_rule *rule = ip_rule_find(msg->type);
	enum ps_status status;

	if (!rule)
		return unknown_type(msg->type);
	status = check_frame(rule, msg->minor, msg->fd_count);
	if (status == PS_OK)
		status = check_body(msg, msg->fd_count);
	return status;
}

enum ps_status ip_message_encode(const struct ip_message *msg,
				 uint8_t bytes_out[IP_MESSAGE_MAX],
				 size_t *size_out)
{
	struct ip_cursor c = {
		.bytes = bytes_out,
		.size = IP_MESSAGE_MAX,
		.at = IP_HEADER_BYTES,
		.writing = true,
		.type = msg->type,
		.minor = msg->minor,
	};
	struct ip_message copy = *msg;
	struct ip_header header;
	uint32_t magic = IP_MAGIC;
	uint16_t major = IP_MAJOR;

	if (check_own(msg) != PS_OK)
		return PS_INVALID_ARGUMENT; /* the text is there */
	body_fields(&c, &copy);
	header.minor = msg->minor;
	header.type = msg->type;
	header.fd_count = (uint16_t)msg->fd_count;
	header.bytes = (uint32_t)(c.at - IP_HEADER_BYTES);
	*size_out = c.at;
	c.at = 0;
	header_fields(&c, &magic, &major, &header);
	return PS_OK;
}

void ip_message_init(struct ip_message *msg, enum ip_type type, uint16_t minor)
{
	memset(msg, 0, sizeof(*msg));
	msg->type = (uint16_t)type;
	msg->minor = minor;
}

/* Set before the first connection, then only read. */
static void (*close_otherwise)(int fd);

void ip_close_with(void (*close_fd)(int fd))
{
	close_otherwise = close_fd;
}

void ip_close(int fd)
{
	if (close_otherwise)
		close_otherwise(fd);
	else
		close(fd);
}

void ip_message_done(struct ip_message *msg)
{
	for (unsigned int i = 0; i < msg->fd_count; i++) {
		if (msg->fds[i] >= 0)
			ip_close(msg->fds[i]);
	}
	msg->fd_count = 0;
}

int ip_message_take_fd(struct ip_message *msg, unsigned int index)
{
	int fd;

	assert(index < msg->fd_count);
	fd = msg->fds[index];
	msg->fds[index] = -1;
	return fd;
}

/* A text that every peer takes. */
static void set_text(char text_out[IP_TEXT_MAX + 1], const char *text)
{
	snprintf(text_out, IP_TEXT_MAX + 1, "%s", text);
	for (char *c = text_out; *c; c++) {
		if (!ip_is_printable(*c))
			*c = '?';
	}
}

void ip_refuse_set(struct ip_message *msg, enum ps_status status,
		   const char *text)
{
	msg->body.refuse.status = (uint32_t)status;
	set_text(msg->body.refuse.text, text);
}

void ip_deny_set(struct ip_message *msg, uint32_t seq, enum ps_status status,
		 const char *text)
{
	msg->body.deny.seq = seq;
	msg->body.deny.status = (uint32_t)status;
	set_text(msg->body.deny.text, text);
}
