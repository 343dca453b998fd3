/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each message has one function that lists its fields, for both directions,
 * and one that says which values they may have, so that the encoder cannot
 * write what the decoder would not read.
 */
#include "ipc/wire.h"

#include "base/arith.h"
#include "base/status.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a newer minor version may append to a message that is fixed here. */
#define GROWTH 64u
#define REFUSE_FIXED 8u

_Static_assert(REFUSE_FIXED + IP_TEXT_MAX + GROWTH <= IP_PAYLOAD_MAX,
	       "the longest payload");

static const struct ip_rule rules[] = {
#define RULE(type, from, fds, bytes, most)                                     \
	{                                                                      \
#type, IP_##type, fds, bytes, most, from                       \
	}
	/* who says it, descriptors, payload bytes: at minor 0, at most */
	RULE(HELLO, IP_RECEIVER, 0, 60, 60 + GROWTH),
	RULE(OFFER, IP_SENDER, 0, 180, 180 + GROWTH),
	RULE(REFUSE, IP_SENDER | IP_RECEIVER, 0, REFUSE_FIXED,
	     REFUSE_FIXED + IP_TEXT_MAX + GROWTH),
	RULE(ACCEPT, IP_RECEIVER, 0, 16, 16 + GROWTH),
	RULE(SEGMENTS, IP_SENDER, IP_MESSAGE_FDS, 12, 12 + GROWTH),
	RULE(GOT, IP_RECEIVER, 0, 8, 8 + GROWTH),
	RULE(DONE, IP_RECEIVER, 0, 4, 4 + GROWTH),
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

/* A place in a message that is read or written. */
struct cursor {
	uint8_t *bytes;
	size_t size;
	size_t at;
	bool writing;
};

static void field_uint(struct cursor *c, size_t bytes, uint64_t *value)
{
	uint64_t got = 0;

	assert(c->size - c->at >= bytes);
	for (size_t i = 0; i < bytes; i++) {
		if (c->writing)
			c->bytes[c->at + i] = (uint8_t)(*value >> (8 * i));
		else
			got |= (uint64_t)c->bytes[c->at + i] << (8 * i);
	}
	if (!c->writing)
		*value = got;
	c->at += bytes;
}

static void field_u16(struct cursor *c, uint16_t *value)
{
	uint64_t wide = *value;

	field_uint(c, 2, &wide);
	*value = (uint16_t)wide;
}

static void field_u32(struct cursor *c, uint32_t *value)
{
	uint64_t wide = *value;

	field_uint(c, 4, &wide);
	*value = (uint32_t)wide;
}

static void field_u64(struct cursor *c, uint64_t *value)
{
	field_uint(c, 8, value);
}

static void field_bytes(struct cursor *c, void *data, size_t bytes)
{
	assert(c->size - c->at >= bytes);
	if (c->writing)
		memcpy(c->bytes + c->at, data, bytes);
	else
		memcpy(data, c->bytes + c->at, bytes);
	c->at += bytes;
}

static void header_fields(struct cursor *c, uint32_t *magic, uint16_t *major,
			  struct ip_header *header)
{
	field_u32(c, magic);
	field_u16(c, major);
	field_u16(c, &header->minor);
	field_u16(c, &header->type);
	field_u16(c, &header->fd_count);
	field_u32(c, &header->bytes);
}

static void hello_fields(struct cursor *c, struct ip_hello *hello)
{
	field_u16(c, &hello->minor_low);
	field_u16(c, &hello->modes);
	field_u32(c, &hello->fds_at_once);
	field_u32(c, &hello->fds_in_all);
	field_bytes(c, hello->gpu, sizeof(hello->gpu));
}

static void offer_fields(struct cursor *c, struct ip_offer *offer)
{
	field_bytes(c, offer->pool_id, sizeof(offer->pool_id));
	field_bytes(c, offer->gpu, sizeof(offer->gpu));
	field_u32(c, &offer->mode);
	field_u32(c, &offer->parameter_write);
	field_u64(c, &offer->window_base);
	field_u64(c, &offer->window_bytes);
	field_u64(c, &offer->segment_bytes);
	field_u64(c, &offer->parameter_bytes);
	field_u32(c, &offer->segment_count);
	field_u32(c, &offer->first);
	field_u32(c, &offer->count);
	field_bytes(c, offer->handle, sizeof(offer->handle));
}

/* The only message whose length says something: the text's. */
static void refuse_fields(struct cursor *c, struct ip_refuse *refuse,
			  uint32_t *text_bytes)
{
	*text_bytes = (uint32_t)strlen(refuse->text);
	field_u32(c, &refuse->status);
	field_u32(c, text_bytes);
	if (*text_bytes > IP_TEXT_MAX || *text_bytes > c->size - c->at)
		return; /* the caller finds it */
	field_bytes(c, refuse->text, *text_bytes);
}

static void body_fields(struct cursor *c, struct ip_message *msg,
			uint32_t *text_bytes)
{
	switch ((enum ip_type)msg->type) {
	case IP_HELLO:
		hello_fields(c, &msg->body.hello);
		break;
	case IP_OFFER:
		offer_fields(c, &msg->body.offer);
		break;
	case IP_REFUSE:
		refuse_fields(c, &msg->body.refuse, text_bytes);
		break;
	case IP_ACCEPT:
		field_bytes(c, msg->body.accept.pool_id, IP_POOL_ID_BYTES);
		break;
	case IP_SEGMENTS:
		field_u32(c, &msg->body.segments.first);
		field_u32(c, &msg->body.segments.count);
		field_u32(c, &msg->body.segments.write);
		break;
	case IP_GOT:
		field_u32(c, &msg->body.got.first);
		field_u32(c, &msg->body.got.count);
		break;
	case IP_DONE:
		field_u32(c, &msg->body.done.count);
		break;
	default:
		break;
	}
}

/* ------------------------------------------------------------------ */
/* What the fields may be                                              */

static enum ps_status check_range(uint16_t type, const char *field,
				  uint64_t value, uint64_t low, uint64_t high)
{
	if (value >= low && value <= high)
		return PS_OK;
	return bs_fail(PS_PROTOCOL,
		       "%s: %s is %" PRIu64 ", must be %" PRIu64 " to %" PRIu64,
		       ip_type_name(type), field, value, low, high);
}

static bool is_printable(char c)
{
	return c >= 0x20 && c <= 0x7e;
}

static enum ps_status check_text(uint16_t type, const char *field,
				 const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (is_printable(text[i]))
			continue;
		return bs_fail(PS_PROTOCOL,
			       "%s: byte %zu of %s is 0x%02x, must be printable"
			       " ASCII",
			       ip_type_name(type), i, field,
			       (unsigned int)(uint8_t)text[i]);
	}
	return PS_OK;
}

/* A field of fixed size: the text, then zeros, one at least. */
static enum ps_status check_gpu(uint16_t type, const char gpu[IP_GPU_BYTES])
{
	size_t used = strnlen(gpu, IP_GPU_BYTES);

	if (used == IP_GPU_BYTES)
		return bs_fail(PS_PROTOCOL,
			       "%s: gpu has no end within %u bytes",
			       ip_type_name(type), IP_GPU_BYTES);
	for (size_t i = used; i < IP_GPU_BYTES; i++) {
		if (gpu[i] != 0)
			return bs_fail(PS_PROTOCOL,
				       "%s: byte %zu of gpu is 0x%02x, must be "
				       "0 behind the text",
				       ip_type_name(type), i,
				       (unsigned int)(uint8_t)gpu[i]);
	}
	return check_text(type, "gpu", gpu, used);
}

static enum ps_status check_hello(const struct ip_hello *hello, uint16_t minor)
{
	uint64_t modes = IP_MODE_VMM | IP_MODE_LEGACY_IPC;
	enum ps_status status;

	if (minor > IP_MINOR_HIGH)
		modes = UINT16_MAX; /* it may know more than we do */
	status = check_range(IP_HELLO, "minor_low", hello->minor_low, 0, minor);
	if (status == PS_OK)
		status = check_range(IP_HELLO, "modes", hello->modes, 1, modes);
	if (status == PS_OK)
		status = check_range(IP_HELLO, "fds_at_once",
				     hello->fds_at_once, 1, IP_MESSAGE_FDS);
	if (status == PS_OK)
		status = check_range(IP_HELLO, "fds_in_all", hello->fds_in_all,
				     1, IP_SEGMENTS_MAX);
	if (status == PS_OK)
		status = check_gpu(IP_HELLO, hello->gpu);
	return status;
}

static enum ps_status check_offer(const struct ip_offer *offer)
{
	enum ps_status status;

	status = check_range(IP_OFFER, "mode", offer->mode, PS_SHARE_VMM,
			     PS_SHARE_LEGACY_IPC);
	if (status == PS_OK)
		status = check_range(IP_OFFER, "parameter_write",
				     offer->parameter_write, 0, 1);
	if (status == PS_OK)
		status = check_range(IP_OFFER, "segment_count",
				     offer->segment_count, 1, IP_SEGMENTS_MAX);
	if (status == PS_OK)
		status = check_gpu(IP_OFFER, offer->gpu);
	return status;
}

static enum ps_status check_refuse(const struct ip_refuse *refuse,
				   uint16_t minor)
{
	uint64_t most = minor > IP_MINOR_HIGH ? UINT32_MAX : PS_AGAIN;
	enum ps_status status;

	status = check_range(IP_REFUSE, "status", refuse->status, 1, most);
	if (status == PS_OK)
		status = check_text(IP_REFUSE, "text", refuse->text,
				    strnlen(refuse->text, IP_TEXT_MAX));
	return status;
}

static enum ps_status check_run(uint16_t type, uint64_t first, uint64_t count,
				uint64_t most)
{
	enum ps_status status;

	status = check_range(type, "count", count, 1, most);
	if (status == PS_OK)
		status = check_range(type, "first", first, 0,
				     IP_SEGMENTS_MAX - count);
	return status;
}

static enum ps_status check_segments(const struct ip_segments *segments,
				     unsigned int fd_count)
{
	enum ps_status status;

	status = check_run(IP_SEGMENTS, segments->first, segments->count,
			   IP_MESSAGE_FDS);
	if (status == PS_OK)
		status = check_range(IP_SEGMENTS, "write", segments->write, 0,
				     1);
	if (status == PS_OK)
		status = check_range(IP_SEGMENTS, "fd count", fd_count,
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
		return check_refuse(&msg->body.refuse, msg->minor);
	case IP_ACCEPT:
		return PS_OK; /* any id may be said; who gave it compares */
	case IP_SEGMENTS:
		return check_segments(&msg->body.segments, fd_count);
	case IP_GOT:
		return check_run(IP_GOT, msg->body.got.first,
				 msg->body.got.count, IP_MESSAGE_FDS);
	case IP_DONE:
		return check_range(IP_DONE, "count", msg->body.done.count, 0,
				   IP_SEGMENTS_MAX);
	default:
		break;
	}
	return bs_fail(PS_PROTOCOL, "message type %u is unknown", msg->type);
}

/* ------------------------------------------------------------------ */
/* Headers                                                             */

static enum ps_status check_length(const struct ip_rule *rule,
				   const struct ip_header *header)
{
	/* A text has a length of its own; a newer minor may have appended. */
	bool fixed = rule->type != IP_REFUSE && header->minor <= IP_MINOR_HIGH;

	return check_range(rule->type, "length", header->bytes, rule->bytes_min,
			   fixed ? rule->bytes_min : rule->bytes_max);
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
	struct cursor c = { copy, sizeof(copy), 0, false };
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
		return bs_fail(PS_PROTOCOL,
			       "message type is %u, must be %u to %u",
			       header.type, IP_HELLO, IP_DONE);
	if (!(rule->from & from))
		return bs_fail(PS_PROTOCOL,
			       "%s: comes from the wrong side (%s)", rule->name,
			       from & IP_SENDER ? "sender" : "receiver");
	status = check_range(rule->type, "fd count", header.fd_count, 0,
			     rule->fds_max);
	if (status == PS_OK)
		status = check_length(rule, &header);
	if (status == PS_OK)
		*header_out = header;
	return status;
}

/* ------------------------------------------------------------------ */
/* Messages                                                            */

/* @room: what the payload has for the text. */
static enum ps_status check_text_length(const struct ip_refuse *refuse,
					uint16_t minor, size_t room,
					uint32_t text_bytes)
{
	size_t used = strlen(refuse->text);
	enum ps_status status;

	status = check_range(IP_REFUSE, "text length", text_bytes, 0,
			     IP_TEXT_MAX);
	if (status == PS_OK)
		status = check_range(IP_REFUSE, "text length", text_bytes,
				     minor > IP_MINOR_HIGH ? 0 : room, room);
	if (status == PS_OK && used != text_bytes)
		status = bs_fail(PS_PROTOCOL,
				 "REFUSE: byte %zu of text is 0x00, must be "
				 "printable ASCII",
				 used);
	return status;
}

static enum ps_status decode_body(uint8_t *payload, size_t size,
				  unsigned int fd_count, struct ip_message *msg)
{
	struct cursor c = { payload, size, 0, false };
	enum ps_status status = PS_OK;
	uint32_t text_bytes = 0;

	body_fields(&c, msg, &text_bytes);
	if (msg->type == IP_REFUSE)
		status = check_text_length(&msg->body.refuse, msg->minor,
					   size - REFUSE_FIXED, text_bytes);
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

/* What the decoder cannot meet, or checks before there is a message. */
static enum ps_status check_own(const struct ip_message *msg)
{
	const struct ip_rule *rule = ip_rule_find(msg->type);
	enum ps_status status = PS_OK;

	if (msg->type == IP_REFUSE)
		status = check_range(
			IP_REFUSE, "text length",
			strnlen(msg->body.refuse.text, IP_TEXT_MAX + 1), 0,
			IP_TEXT_MAX);
	if (status == PS_OK && rule)
		status = check_range(msg->type, "fd count", msg->fd_count, 0,
				     rule->fds_max);
	if (status == PS_OK)
		status = check_body(msg, msg->fd_count);
	return status;
}

enum ps_status ip_message_encode(const struct ip_message *msg,
				 uint8_t bytes_out[IP_MESSAGE_MAX],
				 size_t *size_out)
{
	struct cursor c = { bytes_out, IP_MESSAGE_MAX, IP_HEADER_BYTES, true };
	struct ip_message copy = *msg;
	struct ip_header header;
	uint32_t magic = IP_MAGIC;
	uint16_t major = IP_MAJOR;
	uint32_t text_bytes = 0;

	if (check_own(msg) != PS_OK)
		return PS_INVALID_ARGUMENT; /* the text is there */
	body_fields(&c, &copy, &text_bytes);
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

void ip_message_done(struct ip_message *msg)
{
	for (unsigned int i = 0; i < msg->fd_count; i++) {
		if (msg->fds[i] >= 0)
			close(msg->fds[i]);
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

void ip_refuse_set(struct ip_message *msg, enum ps_status status,
		   const char *text)
{
	struct ip_refuse *refuse = &msg->body.refuse;

	refuse->status = (uint32_t)status;
	snprintf(refuse->text, sizeof(refuse->text), "%s", text);
	for (char *c = refuse->text; *c; c++) {
		if (!is_printable(*c))
			*c = '?';
	}
}
