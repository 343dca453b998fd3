/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "ipc/wire_fields.h"

#include "base/status.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* No number in a list is larger: of segments, or of the models' files. */
#define NUMBERS_MAX (IP_MODELS_MAX * IP_MODEL_FILES)
_Static_assert(NUMBERS_MAX >= IP_SEGMENTS_MAX, "segments have numbers too");

/* ------------------------------------------------------------------ */
/* Fields                                                              */

/* Whether the field is there; the place moves behind it all the same. */
static bool step(struct ip_cursor *c, size_t bytes, uint8_t **field_out)
{
	bool there = c->at <= c->size && c->size - c->at >= bytes;

	*field_out = c->bytes + (there ? c->at : 0);
	c->at += bytes;
	return there;
}

static uint64_t field_uint(struct ip_cursor *c, size_t bytes, uint64_t value)
{
	uint64_t got = 0;
	uint8_t *field;

	if (!step(c, bytes, &field))
		return 0;
	for (size_t i = 0; i < bytes; i++) {
		if (c->writing)
			field[i] = (uint8_t)(value >> (8 * i));
		got |= (uint64_t)field[i] << (8 * i);
	}
	return got;
}

void ip_field_u16(struct ip_cursor *c, uint16_t *value)
{
	*value = (uint16_t)field_uint(c, 2, *value);
}

void ip_field_u32(struct ip_cursor *c, uint32_t *value)
{
	*value = (uint32_t)field_uint(c, 4, *value);
}

void ip_field_u64(struct ip_cursor *c, uint64_t *value)
{
	*value = field_uint(c, 8, *value);
}

void ip_field_bytes(struct ip_cursor *c, void *data, size_t bytes)
{
	uint8_t *field;

	if (!step(c, bytes, &field))
		return;
	if (c->writing)
		memcpy(field, data, bytes);
	else
		memcpy(data, field, bytes);
}

/* It ends its message: its length is what is left, or less when a newer minor
 * has appended something. */
static enum ps_status check_text_length(const struct ip_cursor *c,
					uint32_t length)
{
	size_t room = c->at <= c->size ? c->size - c->at : 0;
	size_t least = c->minor > IP_MINOR_HIGH ? 0 : room;
	enum ps_status status;

	status = ip_check_range(c->type, "text length", length, 0, IP_TEXT_MAX);
	if (status == PS_OK && !c->writing)
		status = ip_check_range(c->type, "text length", length, least,
					room);
	return status;
}

void ip_field_text(struct ip_cursor *c, char text[IP_TEXT_MAX + 1])
{
	uint32_t length = (uint32_t)strnlen(text, IP_TEXT_MAX + 1);

	ip_field_u32(c, &length);
	c->status = check_text_length(c, length);
	if (c->status != PS_OK)
		return;
	ip_field_bytes(c, text, length);
	if (strnlen(text, length) != length)
		c->status =
			bs_fail(PS_PROTOCOL,
				"%s: byte %zu of text is 0x00, must be "
				"printable ASCII",
				ip_type_name(c->type), strnlen(text, length));
}

void ip_field_numbers(struct ip_cursor *c, uint32_t *count,
		      uint32_t numbers[IP_LIST_MAX])
{
	ip_field_u32(c, count);
	c->status = ip_check_range(c->type, "count", *count, 0, IP_LIST_MAX);
	if (c->status != PS_OK)
		return;
	for (uint32_t i = 0; i < *count; i++)
		ip_field_u32(c, &numbers[i]);
}

/* ------------------------------------------------------------------ */
/* What the fields may be                                              */

enum ps_status ip_check_range(uint16_t type, const char *field, uint64_t value,
			      uint64_t low, uint64_t high)
{
	if (value >= low && value <= high)
		return PS_OK;
	return bs_fail(PS_PROTOCOL,
		       "%s: %s is %" PRIu64 ", must be %" PRIu64 " to %" PRIu64,
		       ip_type_name(type), field, value, low, high);
}

bool ip_is_printable(char c)
{
	return c >= 0x20 && c <= 0x7e;
}

static enum ps_status check_text(uint16_t type, const char *field,
				 const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (ip_is_printable(text[i]))
			continue;
		return bs_fail(PS_PROTOCOL,
			       "%s: byte %zu of %s is 0x%02x, must be printable"
			       " ASCII",
			       ip_type_name(type), i, field,
			       (unsigned int)(uint8_t)text[i]);
	}
	return PS_OK;
}

enum ps_status ip_check_padded(uint16_t type, const char *field,
			       const char *text, size_t size)
{
	size_t used = strnlen(text, size);

	if (used == size)
		return bs_fail(PS_PROTOCOL,
			       "%s: %s has no end within %zu bytes",
			       ip_type_name(type), field, size);
	for (size_t i = used; i < size; i++) {
		if (text[i] != 0)
			return bs_fail(PS_PROTOCOL,
				       "%s: byte %zu of %s is 0x%02x, must be "
				       "0 behind the text",
				       ip_type_name(type), i, field,
				       (unsigned int)(uint8_t)text[i]);
	}
	return check_text(type, field, text, used);
}

enum ps_status ip_check_run(uint16_t type, uint64_t first, uint64_t count,
			    uint64_t most)
{
	enum ps_status status;

	status = ip_check_range(type, "count", count, 1, most);
	if (status == PS_OK)
		status = ip_check_range(type, "first", first, 0,
					IP_SEGMENTS_MAX - count);
	return status;
}

enum ps_status ip_check_flags(const struct ip_message *msg, uint32_t flags,
			      uint32_t known)
{
	if (msg->minor > IP_MINOR_HIGH || (flags & ~known) == 0)
		return PS_OK;
	return bs_fail(PS_PROTOCOL,
		       "%s: flags are 0x%" PRIx32 ", may be 0x%" PRIx32,
		       ip_type_name(msg->type), flags, known);
}

enum ps_status ip_check_seq(const struct ip_message *msg, uint32_t seq)
{
	return ip_check_range(msg->type, "seq", seq, 1, UINT32_MAX);
}

enum ps_status ip_check_numbers(uint16_t type, const uint32_t *numbers,
				uint32_t count, uint32_t marks, uint32_t end)
{
	uint8_t seen[NUMBERS_MAX / 8] = { 0 };
	enum ps_status status;

	assert(end <= NUMBERS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t number = numbers[i] & ~marks;
		uint8_t bit = (uint8_t)(1u << number % 8);

		status = ip_check_range(type, "a number in the list", number, 0,
					end - 1);
		if (status != PS_OK)
			return status;
		if (seen[number / 8] & bit)
			return bs_fail(PS_PROTOCOL,
				       "%s: %" PRIu32 " comes twice in the "
				       "list",
				       ip_type_name(type), number);
		seen[number / 8] |= bit;
	}
	return PS_OK;
}

/* The largest status that a minor version has. */
static uint64_t last_status(uint16_t minor)
{
	if (minor > IP_MINOR_HIGH)
		return UINT32_MAX; /* it may know more than we do */
	if (minor >= IP_MINOR_MODELS)
		return PS_LOAD_FAILED;
	return minor < IP_MINOR_DAEMON ? PS_AGAIN : PS_NO_DAEMON;
}

enum ps_status ip_check_reason(const struct ip_message *msg, uint32_t status,
			       const char text[IP_TEXT_MAX + 1])
{
	size_t used = strnlen(text, IP_TEXT_MAX + 1);
	enum ps_status result;

	result = ip_check_range(msg->type, "status", status, 1,
				last_status(msg->minor));
	if (result == PS_OK)
		result = ip_check_range(msg->type, "text length", used, 0,
					IP_TEXT_MAX);
	if (result == PS_OK)
		result = check_text(msg->type, "text", text, used);
	return result;
}
