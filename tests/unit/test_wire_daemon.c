/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The daemon's messages: what each field may be, lists, and minor versions. */
#include <string.h>

#include "base/status.h"
#include "ipc/wire.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_bytes.h"

/* Encodes what must not be encodable. */
static void assert_unsaid(const struct ip_message *msg, const char *text)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	size_t size;

	th_assert_status(ip_message_encode(msg, bytes, &size),
			 PS_INVALID_ARGUMENT);
	if (!strstr(bs_fail_text(), text))
		fail_msg("\"%s\" lacks \"%s\"", bs_fail_text(), text);
}

/* ------------------------------------------------------------------ */
/* Fields                                                              */

static const struct th_bad_field client_fields[] = {
	{ IP_ATTACH, AT_BODY, 4, 0, "seq is 0, must be 1 to" },
	{ IP_ATTACH, AT_BODY + 4, 2, 5, "minor_low is 5, must be 0 to 4" },
	{ IP_ATTACH, AT_BODY + 6, 2, 4, "flags is 4, must be 0 to 3" },
	{ IP_ATTACH, AT_BODY + 8, 8, 0, "token is set, must be zeros" },
	{ IP_ATTACH, AT_BODY + 48, 1, 0x1f, "byte 0 of name is 0x1f" },
	{ IP_ATTACH, AT_BODY + 111, 1, 'x', "byte 63 of name is 0x78" },
	{ IP_ATTACH, AT_BODY + 112, 4, 1025, "contexts is 1025, must be 0 to" },
	{ IP_ATTACH, AT_FDS, 2, 2, "fd count is 2, must be 0 to 1" },
	{ IP_TAKE, AT_BODY, 4, 0, "TAKE: seq is 0" },
	{ IP_TAKE, AT_BODY + 4, 4, 0, "count is 0, must be 1 to 65536" },
	{ IP_TAKE, AT_BODY + 4, 4, 65537, "count is 65537" },
	{ IP_TAKE, AT_BODY + 8, 4, 60001, "wait_ms is 60001, must be 0 to" },
	{ IP_TAKE, AT_BODY + 12, 4, 3, "flags is 3, must be 0 to 2" },
	{ IP_TAKE, AT_FDS, 2, 1, "fd count is 1, must be 0 to 0" },
	{ IP_GIVE, AT_BODY, 4, 0, "GIVE: seq is 0" },
	{ IP_GIVE, AT_BODY + 4, 4, 1, "flags are 0x1, may be 0x2" },
	{ IP_NEED, AT_BODY, 4, 0, "NEED: seq is 0" },
	{ IP_NEED, AT_BODY + 4, 4, 65535,
	  "first is 65535, must be 0 to 65534" },
	{ IP_NEED, AT_BODY + 8, 4, 0, "count is 0, must be 1 to 253" },
	{ IP_NEED, AT_BODY + 8, 4, 254, "count is 254, must be 1 to 253" },
	{ IP_NEED, AT_BODY + 12, 4, 2, "flags are 0x2, may be 0x1" },
	{ IP_NEED, AT_BODY + 12, 4, 1, "count is 2, must be 1 to 1" },
	{ IP_CLOSE, AT_BODY, 4, 0, "CLOSE: seq is 0" },
	{ IP_CLOSE, AT_BODY + 4, 4, 1, "flags are 0x1, may be 0x0" },
	{ IP_LEAVE, AT_BODY, 4, 0, "LEAVE: seq is 0" },
	{ IP_ASK, AT_BODY, 4, 0, "ASK: seq is 0" },
	{ IP_ASK, AT_BODY + 4, 4, 0, "question is 0, must be 1 to 6" },
	{ IP_ASK, AT_BODY + 4, 4, 7, "question is 7, must be 1 to 6" },
	{ IP_RECALLED, AT_BODY + 4, 4, 2, "flags are 0x2, may be 0x1" },
};

static const struct th_bad_field daemon_fields[] = {
	{ IP_WELCOME, AT_BODY + 4, 4, 2, "resumed is 2, must be 0 to 1" },
	{ IP_WELCOME, AT_BODY + 8, 8, 0, "id is 0, must be 1 to" },
	{ IP_WELCOME, AT_BODY + 48, 1, 0x7f, "byte 0 of gpu is 0x7f" },
	{ IP_WELCOME, AT_BODY + 132, 4, 2, "parameter_write is 2" },
	{ IP_WELCOME, AT_BODY + 136, 8, 6291457, "must be 0 to 6291456" },
	{ IP_WELCOME, AT_BODY + 144, 8, 0, "limit is 0, must be 1 to" },
	{ IP_WELCOME, AT_FDS, 2, 0, "fd count is 0, must be 1 to 1" },
	{ IP_WELCOME, AT_FDS, 2, 2, "fd count is 2, must be 1 to 1" },
	{ IP_HELD, AT_BODY + 4, 4, 2, "HELD: flags are 0x2, may be 0x1" },
	{ IP_HELD, AT_FDS, 2, 1, "fd count is 1, must be 0 to 0" },
	{ IP_GRANT, AT_BODY + 4, 4, 2, "GRANT: flags are 0x2, may be 0x1" },
	{ IP_GRANT, AT_FDS, 2, 1, "fd count is 1, must be 2 to 2" },
	{ IP_GRANT, AT_FDS, 2, 3, "fd count is 3, must be 2 to 2" },
	{ IP_PART, AT_BODY + 4, 4, 65535, "first is 65535" },
	{ IP_PART, AT_BODY + 8, 4, 254, "count is 254, must be 1 to 253" },
	{ IP_PART, AT_BODY + 12, 4, 2, "write is 2, must be 0 to 1" },
	{ IP_PART, AT_FDS, 2, 1, "fd count is 1, must be 2 to 2" },
	{ IP_DENY, AT_BODY + 4, 4, 0, "status is 0, must be 1 to 34" },
	{ IP_DENY, AT_BODY + 4, 4, 35, "status is 35, must be 1 to 34" },
	{ IP_DENY, AT_BODY + 8, 4, 18, "text length is 18, must be 20 to 20" },
	{ IP_DENY, AT_BODY + 8, 4, 401, "text length is 401, must be 0 to" },
	{ IP_DENY, AT_BODY + 12, 1, '\n', "byte 0 of text is 0x0a" },
	{ IP_DENY, AT_BODY + 13, 1, 0, "byte 1 of text is 0x00" },
	{ IP_ANSWER, AT_BODY + 4, 4, 0, "bytes is 0, must be 1 to 16777216" },
	{ IP_ANSWER, AT_BODY + 4, 4, 16777217, "bytes is 16777217" },
	{ IP_ANSWER, AT_FDS, 2, 0, "fd count is 0, must be 1 to 1" },
	{ IP_RECALL, AT_BODY + 4, 4, 0, "count is 0, must be 1 to 65536" },
	{ IP_RECALL, AT_BODY + 4, 4, 65537, "count is 65537" },
	{ IP_RECALL, AT_BODY + 8, 4, 60001, "deadline_ms is 60001, must be" },
};

static const struct th_bad_field half_fields[] = {
	{ IP_BEGIN, AT_BODY + 4, 4, 65537, "segments is 65537, must be 0 to" },
	{ IP_BEGIN, AT_BODY + 4, 4, 0, "clients is 64, must be 0 to 0" },
	{ IP_BEGIN, AT_BODY + 8, 4, 0, "clients is 0, must be 1 to 4096" },
	{ IP_BEGIN, AT_BODY + 8, 4, 4097, "clients is 4097, must be 1 to" },
	{ IP_BEGIN, AT_FDS, 2, 2, "fd count is 2, must be 3 to 3" },
	{ IP_BEGIN, AT_FDS, 2, 4, "fd count is 4, must be 1 to 3" },
	{ IP_PIECE, AT_BODY, 4, 0, "kind is 0, must be 1 to 7" },
	{ IP_PIECE, AT_BODY, 4, 8, "kind is 8, must be 1 to 7" },
	{ IP_PIECE, AT_BODY, 4, 3, "count is 2, must be 0 to 0" },
	{ IP_PIECE, AT_BODY + 8, 4, 65536, "is 65536, must be 0 to 65535" },
	{ IP_PIECE, AT_BODY + 8, 4, 0, "0 comes twice in the list" },
	{ IP_PIECE, AT_FDS, 2, 1, "fd count is 1, must be 2 to 2" },
	{ IP_DROP, AT_BODY, 4, 3, "kind is 3, which ends a hand-over" },
	{ IP_DROP, AT_BODY + 8, 4, 4096, "is 4096, must be 0 to 4095" },
	{ IP_DROP, AT_FDS, 2, 1, "fd count is 1, must be 0 to 0" },
	{ IP_NOTE, AT_BODY, 4, 0, "notice is 0, must be 1 to 7" },
	{ IP_NOTE, AT_BODY, 4, 8, "notice is 8, must be 1 to 7" },
};

#define COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

static void test_wire_clients_malformed_field_is_named(void **state)
{
	(void)state;
	th_assert_bad_fields(client_fields, COUNT(client_fields));
}

static void test_wire_daemons_malformed_field_is_named(void **state)
{
	(void)state;
	th_assert_bad_fields(daemon_fields, COUNT(daemon_fields));
}

static void test_wire_halfs_malformed_field_is_named(void **state)
{
	(void)state;
	th_assert_bad_fields(half_fields, COUNT(half_fields));
}

static void test_wire_name_without_an_end_is_refused(void **state)
{
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_ATTACH, &bytes);
	memset(bytes.data + AT_BODY + 48, 'x', IP_NAME_BYTES);
	th_assert_refused(&bytes, PS_PROTOCOL,
			  "name has no end within 64 bytes");
}

/* docs/protocol.md shows these places. */
static void test_wire_welcome_fields_lie_as_documented(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_WELCOME, &bytes);
	th_put(&bytes, AT_BODY + 8, 8, 0x0102030405060708);
	th_put(&bytes, AT_BODY + 31, 1, 0x77);
	th_put(&bytes, AT_BODY + 96, 8, 0x0000123456600000);
	th_put(&bytes, AT_BODY + 128, 4, 3);
	th_assert_ok(th_decode(&bytes, &msg));
	assert_true(msg.body.welcome.id == 0x0102030405060708);
	assert_int_equal(msg.body.welcome.token[IP_TOKEN_BYTES - 1], 0x77);
	assert_true(msg.body.welcome.window_base == 0x0000123456600000);
	assert_int_equal(msg.body.welcome.segment_count, 3);
}

static const struct th_bad_field layouts[] = {
	{ IP_WELCOME, AT_BODY + 96, 8, 0, "WELCOME: window_base is 0x0" },
	{ IP_WELCOME, AT_BODY + 104, 8, 1 << 21, "window_bytes is 0x200000" },
	{ IP_WELCOME, AT_BODY + 112, 8, 3, "segment_bytes is 0x3, must be a" },
	{ IP_WELCOME, AT_BODY + 120, 8, 1, "parameter_bytes is 0x1, must be" },
	{ IP_WELCOME, AT_BODY + 128, 4, 0, "segment_count is 0x0, must be" },
	{ IP_WELCOME, AT_BODY + 128, 4, 65537, "segment_count is 0x10001" },
};

static void test_wire_welcome_to_an_impossible_pool_is_refused(void **state)
{
	struct th_bytes bytes;

	(void)state;
	th_assert_bad_fields(layouts, COUNT(layouts));
	th_bytes_of(IP_WELCOME, &bytes);
	memset(bytes.data + AT_BODY + 48, 0, IP_GPU_BYTES);
	th_assert_refused(&bytes, PS_PROTOCOL, "WELCOME: gpu is empty");
	th_bytes_of(IP_WELCOME, &bytes);
	memset(bytes.data + AT_BODY + 32, 0, IP_POOL_ID_BYTES);
	th_assert_refused(&bytes, PS_PROTOCOL, "WELCOME: pool_id is all zeros");
}

/* ------------------------------------------------------------------ */
/* Lists                                                               */

static const enum ip_type lists[] = {
	IP_GIVE, IP_HELD, IP_GRANT, IP_RECALLED, IP_CLOSE,
};

/* Entry 0 of each list with another value. */
static void put_entry(enum ip_type type, uint32_t value, const char *text)
{
	struct th_bytes bytes;

	th_bytes_of(type, &bytes);
	th_put(&bytes, AT_BODY + 12, 4, value);
	th_assert_refused(&bytes, PS_PROTOCOL, text);
}

static void test_wire_segment_outside_any_pool_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(lists); i++)
		put_entry(lists[i], IP_SEGMENTS_MAX,
			  "is 65536, must be 0 to 65535");
}

static void test_wire_segment_twice_in_a_list_is_refused(void **state)
{
	struct ip_message msg;

	(void)state;
	for (size_t i = 0; i < COUNT(lists); i++) {
		th_sample(lists[i], &msg);
		put_entry(lists[i], msg.body.list.segment[1] & 0xffff,
			  "comes twice in the list");
	}
}

static void test_wire_parked_mark_belongs_to_held_and_grant(void **state)
{
	(void)state;
	put_entry(IP_GIVE, 1 | IP_SEGMENT_PARKED, "is 2147483649, must be");
	put_entry(IP_RECALLED, 1 | IP_SEGMENT_PARKED, "is 2147483649, must be");
	put_entry(IP_CLOSE, 1 | IP_SEGMENT_PARKED, "is 2147483649, must be");
}

static void test_wire_list_shorter_than_its_count_is_refused(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	for (size_t i = 0; i < COUNT(lists); i++) {
		th_sample(lists[i], &msg);
		th_encode(&msg, &bytes);
		th_put(&bytes, AT_BODY + 8, 4, msg.body.list.count + 1);
		th_assert_refused(&bytes, PS_PROTOCOL, "length is");
		th_put(&bytes, AT_BODY + 8, 4, msg.body.list.count - 1);
		th_assert_refused(&bytes, PS_PROTOCOL, "length is");
		th_put(&bytes, AT_BODY + 8, 4, IP_LIST_MAX + 1);
		th_assert_refused(&bytes, PS_PROTOCOL,
				  "count is 254, must be 0 to 253");
	}
}

static void test_wire_longest_lists_are_kept(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	for (size_t i = 0; i < COUNT(lists); i++) {
		th_sample(lists[i], &msg);
		msg.body.list.count = IP_LIST_MAX;
		for (uint32_t j = 0; j < IP_LIST_MAX; j++)
			msg.body.list.segment[j] = IP_SEGMENTS_MAX - 1 - j;
		msg.fd_count = lists[i] == IP_GRANT ? IP_LIST_MAX : 0;
		th_assert_round_trip(&msg, &again);
		assert_memory_equal(&again.body.list, &msg.body.list,
				    sizeof(msg.body.list));
	}
}

static void test_wire_empty_lists_are_kept_where_they_mean_something(void **s)
{
	struct ip_message again;
	struct ip_message msg;

	(void)s;
	for (size_t i = 0; i < COUNT(lists); i++) {
		th_sample(lists[i], &msg);
		msg.body.list.count = 0;
		msg.fd_count = 0;
		if (lists[i] == IP_HELD || lists[i] == IP_RECALLED)
			th_assert_round_trip(&msg, &again);
		else
			assert_unsaid(&msg, "count is 0, must be 1 to 253");
	}
}

static void test_wire_parked_segments_bring_no_descriptor(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_GRANT, &msg);
	for (uint32_t i = 0; i < msg.body.list.count; i++)
		msg.body.list.segment[i] |= IP_SEGMENT_PARKED;
	assert_unsaid(&msg, "fd count is 2, must be 0 to 0");
	msg.fd_count = 0;
	th_assert_round_trip(&msg, &again);
}

static void test_wire_begin_without_a_pool_is_kept(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_BEGIN, &msg);
	msg.body.begin.segments = 0;
	msg.body.begin.clients = 0;
	assert_unsaid(&msg, "fd count is 3, must be 1 to 1");
	msg.fd_count = 1;
	th_assert_round_trip(&msg, &again);
}

static void test_wire_last_piece_is_empty(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_PIECE, &msg);
	msg.body.piece.kind = IP_PIECE_END;
	msg.body.piece.count = 0;
	assert_unsaid(&msg, "fd count is 2, must be 0 to 0");
	msg.fd_count = 0;
	th_assert_round_trip(&msg, &again);
}

/* ------------------------------------------------------------------ */
/* Versions and sides                                                  */

static bool is_of_minor_1(enum ip_type type)
{
	return ip_rule_find((uint16_t)type)->since == IP_MINOR_DAEMON;
}

static void test_wire_daemon_message_of_minor_0_is_refused(void **state)
{
	struct th_bytes bytes;

	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		if (!is_of_minor_1(th_types[i]))
			continue;
		th_bytes_of(th_types[i], &bytes);
		th_put(&bytes, AT_MINOR, 2, 0);
		th_assert_refused(&bytes, PS_PROTOCOL,
				  "minor version is 0, must be 1 to 65535");
	}
}

static void test_wire_handover_keeps_its_bytes_in_every_minor(void **state)
{
	struct th_bytes bytes;
	struct th_bytes old;
	struct ip_message msg;

	(void)state;
	for (size_t i = 0; i < TH_TYPES && th_types[i] < IP_ATTACH; i++) {
		th_bytes_of(th_types[i], &bytes);
		th_sample(th_types[i], &msg);
		msg.minor = 0;
		th_encode(&msg, &old);
		th_put(&old, AT_MINOR, 2, IP_MINOR_HIGH);
		assert_int_equal(old.size, bytes.size);
		assert_memory_equal(old.data, bytes.data, bytes.size);
	}
}

static void test_wire_attach_of_minor_1_has_no_contexts(void **state)
{
	struct ip_message again;
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	th_sample(IP_ATTACH, &msg);
	msg.minor = 1;
	th_assert_round_trip(&msg, &again);
	assert_int_equal(again.body.attach.contexts, 0);
	th_encode(&msg, &bytes);
	assert_int_equal(bytes.size, IP_HEADER_BYTES + 112);
	th_grow(&bytes, 4);
	th_assert_refused(&bytes, PS_PROTOCOL,
			  "length is 116, must be 112 to 112");
}

static void test_wire_attach_of_minor_2_lacks_no_contexts(void **state)
{
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_ATTACH, &bytes);
	th_resize(&bytes, 112);
	th_assert_refused(&bytes, PS_PROTOCOL,
			  "length is 112, must be 116 to 116");
}

static void test_wire_newer_client_may_want_more(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_ATTACH, &bytes);
	th_put(&bytes, AT_MINOR, 2, TH_NEWER);
	th_put(&bytes, AT_BODY + 6, 2, 0x8001);
	th_assert_ok(th_decode(&bytes, &msg));
	assert_int_equal(msg.body.attach.flags, 0x8001);
	th_bytes_of(IP_ASK, &bytes);
	th_put(&bytes, AT_MINOR, 2, TH_NEWER);
	th_put(&bytes, AT_BODY + 4, 4, 77);
	th_assert_ok(th_decode(&bytes, &msg));
	assert_int_equal(msg.body.ask.question, 77);
}

static void test_wire_need_of_minor_2_has_no_flags(void **state)
{
	struct ip_message again;
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	th_sample(IP_NEED, &msg);
	msg.minor = 2;
	th_assert_round_trip(&msg, &again);
	th_encode(&msg, &bytes);
	assert_int_equal(bytes.size, IP_HEADER_BYTES + 12);
	msg.body.need.count = 1;
	msg.body.need.flags = IP_NEED_EXPORT;
	assert_unsaid(&msg, "flags are 0x1, may be 0x0");
}

static void test_wire_status_of_a_later_minor_is_refused(void **state)
{
	struct ip_message msg;

	(void)state;
	th_sample(IP_REFUSE, &msg);
	msg.body.refuse.status = PS_NO_DAEMON;
	msg.minor = 0;
	assert_unsaid(&msg, "status is 31, must be 1 to 30");
}

static void test_wire_each_side_may_refuse(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_REFUSE, &bytes);
	for (unsigned int side = IP_SENDER; side <= IP_HALF; side <<= 1)
		th_assert_ok(
			ip_message_decode(bytes.data, bytes.size, side, &msg));
}

static void test_wire_denial_text_is_cut_and_cleaned(void **state)
{
	char text[IP_TEXT_MAX + 100];
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	text[1] = '\t';
	ip_message_init(&msg, IP_DENY, IP_MINOR_HIGH);
	ip_deny_set(&msg, 3, PS_OUT_OF_MEMORY, text);
	assert_memory_equal(msg.body.deny.text, "a?a", 3);
	th_assert_round_trip(&msg, &again);
	assert_int_equal(strlen(again.body.deny.text), IP_TEXT_MAX);
	assert_int_equal(again.body.deny.status, PS_OUT_OF_MEMORY);
	assert_int_equal(again.body.deny.seq, 3);
}

static const struct th_test tests[] = {
	TH_TEST(test_wire_clients_malformed_field_is_named),
	TH_TEST(test_wire_daemons_malformed_field_is_named),
	TH_TEST(test_wire_halfs_malformed_field_is_named),
	TH_TEST(test_wire_name_without_an_end_is_refused),
	TH_TEST(test_wire_welcome_fields_lie_as_documented),
	TH_TEST(test_wire_welcome_to_an_impossible_pool_is_refused),
	TH_TEST(test_wire_segment_outside_any_pool_is_refused),
	TH_TEST(test_wire_segment_twice_in_a_list_is_refused),
	TH_TEST(test_wire_parked_mark_belongs_to_held_and_grant),
	TH_TEST(test_wire_list_shorter_than_its_count_is_refused),
	TH_TEST(test_wire_longest_lists_are_kept),
	TH_TEST(test_wire_empty_lists_are_kept_where_they_mean_something),
	TH_TEST(test_wire_parked_segments_bring_no_descriptor),
	TH_TEST(test_wire_begin_without_a_pool_is_kept),
	TH_TEST(test_wire_last_piece_is_empty),
	TH_TEST(test_wire_daemon_message_of_minor_0_is_refused),
	TH_TEST(test_wire_handover_keeps_its_bytes_in_every_minor),
	TH_TEST(test_wire_attach_of_minor_1_has_no_contexts),
	TH_TEST(test_wire_attach_of_minor_2_lacks_no_contexts),
	TH_TEST(test_wire_need_of_minor_2_has_no_flags),
	TH_TEST(test_wire_newer_client_may_want_more),
	TH_TEST(test_wire_status_of_a_later_minor_is_refused),
	TH_TEST(test_wire_each_side_may_refuse),
	TH_TEST(test_wire_denial_text_is_cut_and_cleaned),
};

TH_MAIN("wire_daemon", tests)
