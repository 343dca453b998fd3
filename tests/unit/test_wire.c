/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The messages' bytes: one form of each, and nothing else is read. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/wire.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_bytes.h"

static void test_wire_each_message_is_encoded_to_the_same_bytes(void **state)
{
	struct ip_message msg;
	struct ip_message again;

	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		th_sample(th_types[i], &msg);
		th_assert_round_trip(&msg, &again);
	}
}

/* docs/protocol.md shows these bytes. */
static void test_wire_segments_has_the_documented_bytes(void **state)
{
	static const uint8_t expected[] = {
		'P', 'S', 'W', 'P', 1, 0, 4, 0, 5, 0, 2, 0, 12, 0,
		0,   0,   2,   0,   0, 0, 2, 0, 0, 0, 1, 0, 0,  0,
	};
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_SEGMENTS, &bytes);
	assert_int_equal(bytes.size, sizeof(expected));
	assert_memory_equal(bytes.data, expected, sizeof(expected));
}

static void test_wire_offer_fields_lie_as_documented(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_OFFER, &bytes);
	th_put(&bytes, AT_BODY + 72, 8, 0x0000123456600000);
	th_put(&bytes, AT_BODY + 96, 8, 0x0000000000400000);
	th_put(&bytes, AT_BODY + 104, 4, 0x0102);
	th_put(&bytes, AT_BODY + 179, 1, 0x77);
	th_assert_ok(th_decode(&bytes, &msg));
	assert_true(msg.body.offer.window_base == 0x0000123456600000);
	assert_true(msg.body.offer.parameter_bytes == 0x400000);
	assert_int_equal(msg.body.offer.segment_count, 0x0102);
	assert_int_equal(msg.body.offer.handle[IP_HANDLE_BYTES - 1], 0x77);
}

static const struct th_bad_field bad_fields[] = {
	{ IP_HELLO, AT_BODY, 2, 5, "minor_low is 5, must be 0 to 4" },
	{ IP_HELLO, AT_BODY + 2, 2, 0, "modes is 0, must be 1 to 3" },
	{ IP_HELLO, AT_BODY + 2, 2, 4, "modes is 4, must be 1 to 3" },
	{ IP_HELLO, AT_BODY + 4, 4, 0, "fds_at_once is 0, must be 1 to 253" },
	{ IP_HELLO, AT_BODY + 4, 4, 254, "fds_at_once is 254" },
	{ IP_HELLO, AT_BODY + 8, 4, 0, "fds_in_all is 0, must be 1 to 65536" },
	{ IP_HELLO, AT_BODY + 8, 4, 65537, "fds_in_all is 65537" },
	{ IP_HELLO, AT_BODY + 12, 1, 0x1f, "byte 0 of gpu is 0x1f" },
	{ IP_HELLO, AT_BODY + 12 + 39, 1, 0x80, "byte 39 of gpu is 0x80" },
	{ IP_HELLO, AT_BODY + 12 + 47, 1, 'x', "byte 47 of gpu is 0x78" },
	{ IP_OFFER, AT_BODY + 16, 1, 0x7f, "byte 0 of gpu is 0x7f" },
	{ IP_OFFER, AT_BODY + 64, 4, 2, "mode is 2, must be 0 to 1" },
	{ IP_OFFER, AT_BODY + 68, 4, 2, "parameter_write is 2, must be 0 to" },
	{ IP_OFFER, AT_BODY + 104, 4, 0, "segment_count is 0, must be 1 to" },
	{ IP_OFFER, AT_BODY + 104, 4, 65537, "segment_count is 65537" },
	{ IP_REFUSE, AT_BODY, 4, 0, "status is 0, must be 1 to 34" },
	{ IP_REFUSE, AT_BODY, 4, PS_LOAD_FAILED + 1, "status is 35, must" },
	{ IP_REFUSE, AT_BODY + 4, 4, 15, "text length is 15, must be 16" },
	{ IP_REFUSE, AT_BODY + 4, 4, 17, "text length is 17, must be 16" },
	{ IP_REFUSE, AT_BODY + 4, 4, 401, "text length is 401, must be 0" },
	{ IP_REFUSE, AT_BODY + 4, 4, UINT32_MAX, "text length is 4294967295" },
	{ IP_REFUSE, AT_BODY + 8, 1, '\n', "byte 0 of text is 0x0a" },
	{ IP_REFUSE, AT_BODY + 10, 1, 0, "byte 2 of text is 0x00" },
	{ IP_REFUSE, AT_BODY + 23, 1, 0xe4, "byte 15 of text is 0xe4" },
	{ IP_SEGMENTS, AT_BODY, 4, 65535, "first is 65535, must be 0 to" },
	{ IP_SEGMENTS, AT_BODY, 4, UINT32_MAX, "first is 4294967295" },
	{ IP_SEGMENTS, AT_BODY + 4, 4, 0, "count is 0, must be 1 to 253" },
	{ IP_SEGMENTS, AT_BODY + 4, 4, 254, "count is 254, must be 1 to 253" },
	{ IP_SEGMENTS, AT_BODY + 4, 4, 3, "fd count is 2, must be 3 to 3" },
	{ IP_SEGMENTS, AT_BODY + 8, 4, 2, "write is 2, must be 0 to 1" },
	{ IP_SEGMENTS, AT_FDS, 2, 1, "fd count is 1, must be 2 to 2" },
	{ IP_SEGMENTS, AT_FDS, 2, 254, "fd count is 254, must be 0 to 253" },
	{ IP_HELLO, AT_FDS, 2, 1, "fd count is 1, must be 0 to 0" },
	{ IP_DONE, AT_FDS, 2, 1, "fd count is 1, must be 0 to 0" },
	{ IP_GOT, AT_BODY + 4, 4, 0, "count is 0, must be 1 to 253" },
	{ IP_GOT, AT_BODY, 4, 65535, "first is 65535, must be 0 to 65534" },
	{ IP_DONE, AT_BODY, 4, 65537, "count is 65537, must be 0 to 65536" },
	{ IP_DONE, AT_MAGIC, 1, 'p', "magic is 0x50575370, must be" },
	{ IP_DONE, AT_TYPE, 2, 0, "message type 0 is unknown" },
	{ IP_DONE, AT_TYPE, 2, 8, "message type 8 is unknown" },
	{ IP_DONE, AT_LENGTH, 4, 3, "length is 3, must be 4 to 4" },
	{ IP_DONE, AT_LENGTH, 4, 5, "length is 5, must be 4 to 4" },
	{ IP_DONE, AT_LENGTH, 4, UINT32_MAX, "length is 4294967295" },
	{ IP_REFUSE, AT_LENGTH, 4, 7, "length is 7, must be 8 to" },
};

static void test_wire_malformed_field_is_named_with_its_limit(void **state)
{
	(void)state;
	th_assert_bad_fields(bad_fields,
			     sizeof(bad_fields) / sizeof(bad_fields[0]));
}

static void test_wire_gpu_without_an_end_is_refused(void **state)
{
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_HELLO, &bytes);
	memset(bytes.data + AT_BODY + 12, 'x', IP_GPU_BYTES);
	th_assert_refused(&bytes, PS_PROTOCOL,
			  "gpu has no end within 48 bytes");
}

static void test_wire_message_cut_at_every_byte_is_refused(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;
	size_t whole;

	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		th_bytes_of(th_types[i], &bytes);
		whole = bytes.size;
		for (bytes.size = 0; bytes.size < whole; bytes.size++)
			th_assert_status(th_decode(&bytes, &msg), PS_PROTOCOL);
	}
}

static void test_wire_trailing_byte_is_refused(void **state)
{
	struct th_bytes bytes;

	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		th_bytes_of(th_types[i], &bytes);
		bytes.size++;
		th_assert_refused(&bytes, PS_PROTOCOL, "its header says");
	}
}

static void test_wire_longer_payload_of_known_minor_is_refused(void **state)
{
	struct th_bytes bytes;

	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		th_bytes_of(th_types[i], &bytes);
		th_grow(&bytes, 1);
		th_assert_refused(&bytes, PS_PROTOCOL, "length is");
	}
}

static void test_wire_longer_payload_of_newer_minor_is_read(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		th_bytes_of(th_types[i], &bytes);
		th_put(&bytes, AT_MINOR, 2, TH_NEWER);
		th_grow(&bytes, 64);
		th_assert_ok(th_decode(&bytes, &msg));
		assert_int_equal(msg.minor, TH_NEWER);
	}
}

static void test_wire_payload_beyond_its_bound_is_refused(void **state)
{
	struct th_bytes bytes;

	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		const struct ip_rule *rule =
			ip_rule_find((uint16_t)th_types[i]);

		th_bytes_of(th_types[i], &bytes);
		th_put(&bytes, AT_MINOR, 2, TH_NEWER);
		th_put(&bytes, AT_LENGTH, 4, rule->bytes_max + 1);
		bytes.size = IP_HEADER_BYTES + rule->bytes_max + 1;
		th_assert_refused(&bytes, PS_PROTOCOL, "length is");
	}
}

static void test_wire_newer_minor_may_know_more_modes(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_HELLO, &bytes);
	th_put(&bytes, AT_MINOR, 2, TH_NEWER);
	th_put(&bytes, AT_BODY + 2, 2, 0x8001);
	th_assert_ok(th_decode(&bytes, &msg));
	assert_int_equal(msg.body.hello.modes, 0x8001);
}

static void test_wire_other_major_is_a_version_mismatch(void **state)
{
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_HELLO, &bytes);
	th_put(&bytes, AT_MAJOR, 2, 2);
	th_assert_refused(&bytes, PS_VERSION_MISMATCH,
			  "the peer speaks protocol "
			  "2.4, this process 1.4");
}

static void test_wire_message_from_the_wrong_side_is_refused(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		const struct ip_rule *rule =
			ip_rule_find((uint16_t)th_types[i]);
		unsigned int others = TH_ANYBODY & ~rule->from;

		if (others == 0)
			continue;
		th_bytes_of(th_types[i], &bytes);
		th_assert_status(
			ip_message_decode(bytes.data, bytes.size, others, &msg),
			PS_PROTOCOL);
		assert_non_null(strstr(bs_fail_text(), "wrong side"));
	}
}

/* Whatever is accepted has one form only. */
static void test_wire_each_flipped_bit_is_refused_or_kept(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;
	struct th_bytes again;

	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		th_bytes_of(th_types[i], &bytes);
		for (size_t bit = 0; bit < bytes.size * 8; bit++) {
			bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
			if (th_decode(&bytes, &msg) == PS_OK) {
				msg.fd_count = bytes.data[AT_FDS];
				th_encode(&msg, &again);
				assert_memory_equal(bytes.data, again.data,
						    bytes.size);
			}
			bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

static void test_wire_empty_refusal_is_read(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	ip_message_init(&msg, IP_REFUSE, IP_MINOR_HIGH);
	ip_refuse_set(&msg, PS_SYSTEM, "");
	th_encode(&msg, &bytes);
	th_assert_ok(th_decode(&bytes, &msg));
	assert_string_equal(msg.body.refuse.text, "");
}

static void test_wire_refusal_text_is_cut_and_cleaned(void **state)
{
	char text[IP_TEXT_MAX + 100];
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	memcpy(text, "a\tb\xc3\xa4", 5);
	ip_message_init(&msg, IP_REFUSE, IP_MINOR_HIGH);
	ip_refuse_set(&msg, PS_SYSTEM, text);
	assert_int_equal(strlen(msg.body.refuse.text), IP_TEXT_MAX);
	assert_memory_equal(msg.body.refuse.text, "a?b??aa", 7);
	th_encode(&msg, &bytes);
	th_assert_ok(th_decode(&bytes, &msg));
}

static void test_wire_encoder_refuses_what_decoder_would(void **state)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	struct ip_message msg;
	size_t size;

	(void)state;
	th_sample(IP_HELLO, &msg);
	msg.body.hello.fds_at_once = 254;
	th_assert_status(ip_message_encode(&msg, bytes, &size),
			 PS_INVALID_ARGUMENT);
	assert_non_null(strstr(bs_fail_text(), "fds_at_once is 254"));
}

static void test_wire_encoder_refuses_fds_where_none_belong(void **state)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	struct ip_message msg;
	size_t size;

	(void)state;
	th_sample(IP_DONE, &msg);
	msg.fd_count = 1;
	th_assert_status(ip_message_encode(&msg, bytes, &size),
			 PS_INVALID_ARGUMENT);
}

static void test_wire_encoder_refuses_a_text_without_an_end(void **state)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	struct ip_message msg;
	size_t size;

	(void)state;
	th_sample(IP_REFUSE, &msg);
	memset(msg.body.refuse.text, 'x', sizeof(msg.body.refuse.text));
	th_assert_status(ip_message_encode(&msg, bytes, &size),
			 PS_INVALID_ARGUMENT);
}

static void test_wire_encoder_refuses_an_unknown_type(void **state)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	struct ip_message msg;
	size_t size;

	(void)state;
	th_sample(IP_DONE, &msg);
	msg.type = 99;
	th_assert_status(ip_message_encode(&msg, bytes, &size),
			 PS_INVALID_ARGUMENT);
	assert_string_equal(ip_type_name(99), "unknown message");
}

static void test_wire_minors_agree_on_the_highest_common(void **state)
{
	uint16_t minor = 99;

	(void)state;
	assert_true(ip_minor_agree((struct ip_minors){ 0, 5 },
				   (struct ip_minors){ 2, 3 }, &minor));
	assert_int_equal(minor, 3);
	assert_true(ip_minor_agree((struct ip_minors){ 0, 0 },
				   (struct ip_minors){ 0, 7 }, &minor));
	assert_int_equal(minor, 0);
	assert_true(ip_minor_agree((struct ip_minors){ 4, 6 },
				   (struct ip_minors){ 6, 9 }, &minor));
	assert_int_equal(minor, 6);
}

static void test_wire_minors_apart_do_not_agree(void **state)
{
	uint16_t minor = 99;

	(void)state;
	assert_false(ip_minor_agree((struct ip_minors){ 0, 2 },
				    (struct ip_minors){ 3, 4 }, &minor));
	assert_false(ip_minor_agree((struct ip_minors){ 5, 6 },
				    (struct ip_minors){ 3, 4 }, &minor));
	assert_int_equal(minor, 99);
}

static void test_wire_message_closes_what_was_not_taken(void **state)
{
	struct ip_message msg;
	int taken;

	(void)state;
	ip_message_init(&msg, IP_SEGMENTS, 0);
	msg.fd_count = 2;
	msg.fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	msg.fds[1] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	taken = ip_message_take_fd(&msg, 0);
	ip_message_done(&msg);
	assert_true(fcntl(taken, F_GETFD) >= 0);
	close(taken);
}

static void test_wire_table_bounds_each_message(void **state)
{
	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		const struct ip_rule *rule =
			ip_rule_find((uint16_t)th_types[i]);

		assert_non_null(rule);
		assert_true(rule->bytes_min <= rule->bytes_max);
		assert_true(rule->bytes_max <= IP_PAYLOAD_MAX);
		assert_true(rule->fds_max <= IP_MESSAGE_FDS);
		assert_true(rule->from != 0);
	}
}

static const struct th_test tests[] = {
	TH_TEST(test_wire_each_message_is_encoded_to_the_same_bytes),
	TH_TEST(test_wire_segments_has_the_documented_bytes),
	TH_TEST(test_wire_offer_fields_lie_as_documented),
	TH_TEST(test_wire_malformed_field_is_named_with_its_limit),
	TH_TEST(test_wire_gpu_without_an_end_is_refused),
	TH_TEST(test_wire_message_cut_at_every_byte_is_refused),
	TH_TEST(test_wire_trailing_byte_is_refused),
	TH_TEST(test_wire_longer_payload_of_known_minor_is_refused),
	TH_TEST(test_wire_longer_payload_of_newer_minor_is_read),
	TH_TEST(test_wire_payload_beyond_its_bound_is_refused),
	TH_TEST(test_wire_newer_minor_may_know_more_modes),
	TH_TEST(test_wire_other_major_is_a_version_mismatch),
	TH_TEST(test_wire_message_from_the_wrong_side_is_refused),
	TH_TEST(test_wire_each_flipped_bit_is_refused_or_kept),
	TH_TEST(test_wire_empty_refusal_is_read),
	TH_TEST(test_wire_refusal_text_is_cut_and_cleaned),
	TH_TEST(test_wire_encoder_refuses_what_decoder_would),
	TH_TEST(test_wire_encoder_refuses_fds_where_none_belong),
	TH_TEST(test_wire_encoder_refuses_a_text_without_an_end),
	TH_TEST(test_wire_encoder_refuses_an_unknown_type),
	TH_TEST(test_wire_minors_agree_on_the_highest_common),
	TH_TEST(test_wire_minors_apart_do_not_agree),
	TH_TEST(test_wire_message_closes_what_was_not_taken),
	TH_TEST(test_wire_table_bounds_each_message),
};

TH_MAIN("wire", tests)
