/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A message's bytes, to be broken on purpose and decoded. */
#ifndef TESTS_SUPPORT_IPC_BYTES_H
#define TESTS_SUPPORT_IPC_BYTES_H

#include <string.h>

#include "base/status.h"
#include "ipc/wire.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_samples.h"

#define TH_ANYBODY (IP_SENDER | IP_RECEIVER | IP_CLIENT | IP_DAEMON | IP_HALF)
#define TH_NEWER (IP_MINOR_HIGH + 1)

/* Where the header's fields are. */
enum {
	AT_MAGIC = 0,
	AT_MAJOR = 4,
	AT_MINOR = 6,
	AT_TYPE = 8,
	AT_FDS = 10,
	AT_LENGTH = 12,
	AT_BODY = 16,
};

struct th_bytes {
	uint8_t data[IP_MESSAGE_MAX + 64];
	size_t size;
};

/* One field of a sample with another value. */
struct th_bad_field {
	enum ip_type type;
	size_t at;
	size_t width;
	uint64_t value;
	const char *text; /* what the error says */
};

static inline void th_encode(const struct ip_message *msg, struct th_bytes *out)
{
	memset(out, 0, sizeof(*out));
	th_assert_ok(ip_message_encode(msg, out->data, &out->size));
}

static inline void th_bytes_of(enum ip_type type, struct th_bytes *out)
{
	struct ip_message msg;

	th_sample(type, &msg);
	th_encode(&msg, out);
}

static inline void th_put(struct th_bytes *bytes, size_t at, size_t width,
			  uint64_t value)
{
	for (size_t i = 0; i < width; i++)
		bytes->data[at + i] = (uint8_t)(value >> (8 * i));
}

/* Appends zeros, or cuts; the header counts them. */
static inline void th_resize(struct th_bytes *bytes, size_t payload)
{
	bytes->size = IP_HEADER_BYTES + payload;
	th_put(bytes, AT_LENGTH, 4, payload);
}

static inline void th_grow(struct th_bytes *bytes, size_t more)
{
	th_resize(bytes, bytes->size - IP_HEADER_BYTES + more);
}

static inline enum ps_status th_decode(const struct th_bytes *bytes,
				       struct ip_message *msg)
{
	return ip_message_decode(bytes->data, bytes->size, TH_ANYBODY, msg);
}

static inline void th_assert_refused(const struct th_bytes *bytes,
				     enum ps_status expected, const char *text)
{
	struct ip_message msg;

	th_assert_status(th_decode(bytes, &msg), expected);
	if (!strstr(bs_fail_text(), text))
		fail_msg("\"%s\" lacks \"%s\"", bs_fail_text(), text);
}

/* Encoded, decoded and encoded again: the same bytes. */
static inline void th_assert_round_trip(const struct ip_message *msg,
					struct ip_message *again_out)
{
	struct th_bytes first;
	struct th_bytes again;

	th_encode(msg, &first);
	th_assert_ok(th_decode(&first, again_out));
	assert_int_equal(again_out->type, msg->type);
	assert_int_equal(again_out->minor, msg->minor);
	assert_int_equal(again_out->fd_count, 0);
	again_out->fd_count = msg->fd_count;
	th_encode(again_out, &again);
	assert_int_equal(first.size, again.size);
	assert_memory_equal(first.data, again.data, first.size);
}

static inline void th_assert_bad_fields(const struct th_bad_field *fields,
					size_t count)
{
	struct th_bytes bytes;

	for (size_t i = 0; i < count; i++) {
		th_bytes_of(fields[i].type, &bytes);
		th_put(&bytes, fields[i].at, fields[i].width, fields[i].value);
		th_assert_refused(&bytes, PS_PROTOCOL, fields[i].text);
	}
}

#endif /* TESTS_SUPPORT_IPC_BYTES_H */
