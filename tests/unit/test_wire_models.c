/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What minor 4 brought: the messages about models, and their pieces. */
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

#define COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

/* ------------------------------------------------------------------ */
/* Fields                                                              */

static const struct th_bad_field client_fields[] = {
	{ IP_ADD, AT_BODY, 4, 0, "ADD: seq is 0, must be 1 to" },
	{ IP_ADD, AT_BODY + 4, 4, 2, "flags are 0x2, may be 0x1" },
	{ IP_ADD, AT_BODY + 8, 4, 5, "plan is 5, must be 0 to 4" },
	{ IP_ADD, AT_BODY + 8, 4, 3, "groups is 8, must be 0 to 0" },
	{ IP_ADD, AT_BODY + 12, 4, 0, "groups is 0, must be 1 to" },
	{ IP_ADD, AT_BODY + 16, 1, 0, "byte 1 of name is 0x6c, must be 0" },
	{ IP_ADD, AT_BODY + 16, 1, 0x80, "byte 0 of name is 0x80, must be" },
	{ IP_ADD, AT_BODY + 16, 1, ' ',
	  "name is \" lama-3/8b@base\", must be" },
	{ IP_ADD, AT_BODY + 144, 1, '\n', "byte 0 of source is 0x0a" },
	{ IP_ADD, AT_BODY + 399, 1, 'x', "byte 255 of source is 0x78" },
	{ IP_ADD, AT_FDS, 2, 0, "fd count is 0, must be 1 to 128" },
	{ IP_ADD, AT_FDS, 2, 129, "fd count is 129, must be 1 to 128" },
	{ IP_ORDER, AT_BODY, 4, 0, "ORDER: seq is 0" },
	{ IP_ORDER, AT_BODY + 4, 4, 0, "order is 0, must be 1 to 6" },
	{ IP_ORDER, AT_BODY + 4, 4, 7, "order is 7, must be 1 to 6" },
	{ IP_ORDER, AT_BODY + 8, 4, 86400001, "wait_ms is 86400001, must be" },
	{ IP_ORDER, AT_BODY + 12, 1, '*', "name is \"*lama-3/8b@base\"" },
	{ IP_ORDER, AT_FDS, 2, 1, "fd count is 1, must be 0 to 0" },
	{ IP_COSTS, AT_BODY, 4, 0, "COSTS: seq is 0" },
	{ IP_COSTS, AT_BODY + 4, 4, 1024, "model is 1024, must be 0 to 1023" },
	{ IP_COSTS, AT_BODY + 8, 4, 0, "count is 0, must be 1 to 16777216" },
	{ IP_COSTS, AT_FDS, 2, 0, "fd count is 0, must be 1 to 1" },
	{ IP_JOIN, AT_BODY, 4, 0, "JOIN: seq is 0" },
	{ IP_JOIN, AT_FDS, 2, 0, "fd count is 0, must be 1 to 1" },
	{ IP_FIND, AT_BODY, 4, 0, "FIND: seq is 0" },
	{ IP_FIND, AT_BODY + 4, 4, 7, "flags are 0x7, may be 0x3" },
	{ IP_FIND, AT_BODY + 4, 4, 0, "flags are 0x0, must have 0x1 or 0x2" },
	{ IP_FIND, AT_BODY + 4, 4, 1, "byte 0 of hash is 0x9d, must be 0" },
	{ IP_FIND, AT_BODY + 4, 4, 2, "byte 0 of name is 0x6c, must be 0" },
	{ IP_FIND, AT_BODY + 8, 1, '"', "FIND: name is \"\"lama" },
	{ IP_USE, AT_BODY, 4, 0, "USE: seq is 0" },
	{ IP_USE, AT_BODY + 4, 4, 1024, "model is 1024, must be 0 to 1023" },
	{ IP_USE, AT_BODY + 20, 4, 60001, "wait_ms is 60001, must be 0 to" },
	{ IP_DROPPED, AT_BODY, 4, 0, "DROPPED: seq is 0" },
	{ IP_DROPPED, AT_BODY + 4, 4, 1024, "model is 1024, must be 0 to" },
	{ IP_YIELDED, AT_BODY + 4, 4, 1024, "model is 1024, must be 0 to" },
	{ IP_YIELDED, AT_BODY + 12, 4, 2, "state is 2, must be 0 to 1" },
};

static const struct th_bad_field daemon_fields[] = {
	{ IP_BOARD, AT_BODY + 4, 4, 1023, "models is 1023, must be 1024 to" },
	{ IP_BOARD, AT_FDS, 2, 1, "fd count is 1, must be 2 to 2" },
	{ IP_MODEL, AT_BODY + 4, 4, 1024, "model is 1024, must be 0 to 1023" },
	{ IP_MODEL, AT_BODY + 12, 4, 0, "tensors is 0, must be 1 to" },
	{ IP_MODEL, AT_BODY + 12, 4, 16777217, "tensors is 16777217" },
	{ IP_MODEL, AT_BODY + 16, 8, 0, "address is 0, must be 2097152 to" },
	{ IP_MODEL, AT_BODY + 16, 8, IP_ADDRESS_END,
	  "address is 140737488355328, must be 2097152 to 140737486257920" },
	{ IP_MODEL, AT_BODY + 16, 8, TH_WINDOW + 256, "a multiple of 2097152" },
	{ IP_MODEL, AT_BODY + 24, 8, 0, "bytes is 0, must be 256 to" },
	{ IP_MODEL, AT_BODY + 24, 8, 257, "must be a multiple of 256" },
	{ IP_MODEL, AT_BODY + 24, 8, UINT64_MAX,
	  "bytes is 184467440737095516" },
	{ IP_MODEL, AT_BODY + 32, 8, 0, "manifest_bytes is 0, must be 1 to" },
	{ IP_MODEL, AT_BODY + 32, 8, 1073741825, "manifest_bytes is 10737418" },
	{ IP_MODEL, AT_BODY + 72, 1, '%', "MODEL: name is \"%lama-3/8b@base" },
	{ IP_MODEL, AT_FDS, 2, 0, "fd count is 0, must be 1 to 1" },
	{ IP_PLACE, AT_BODY + 4, 4, 4, "flags are 0x4, may be 0x1" },
	{ IP_PLACE, AT_BODY + 4, 4, 3, "flags are 0x3, may be 0x2" },
	{ IP_PLACE, AT_BODY + 4, 4, 2, "count is 2, must be 0 to 0" },
	{ IP_PLACE, AT_BODY + 8, 4, 0, "place is 0, must be 1 to" },
	{ IP_PLACE, AT_BODY + 16, 4, 254, "count is 254, must be 0 to 253" },
	{ IP_PLACE, AT_BODY + 20, 4, 65536, "is 65536, must be 0 to 65535" },
	{ IP_PLACE, AT_BODY + 20, 4, 1, "1 comes twice in the list" },
	{ IP_PLACE, AT_FDS, 2, 1, "fd count is 1, must be 2 to 2" },
	{ IP_YIELD, AT_BODY + 4, 4, 2, "flags are 0x2, may be 0x1" },
	{ IP_YIELD, AT_BODY + 8, 4, 1024, "model is 1024, must be 0 to 1023" },
	{ IP_YIELD, AT_BODY + 16, 4, 60001, "deadline_ms is 60001, must be" },
};

static void test_wire_models_clients_malformed_field_is_named(void **state)
{
	(void)state;
	th_assert_bad_fields(client_fields, COUNT(client_fields));
}

static void test_wire_models_daemons_malformed_field_is_named(void **state)
{
	(void)state;
	th_assert_bad_fields(daemon_fields, COUNT(daemon_fields));
}

/* docs/protocol.md says where they lie. */
static void test_wire_models_model_fields_lie_as_documented(void **state)
{
	struct th_bytes bytes;
	struct ip_message msg;

	(void)state;
	th_bytes_of(IP_MODEL, &bytes);
	assert_int_equal(bytes.size, AT_BODY + 200);
	th_put(&bytes, AT_BODY + 16, 8, 0x0000123456600000);
	th_put(&bytes, AT_BODY + 24, 8, 0x00000abcdef01200);
	th_put(&bytes, AT_BODY + 71, 1, 0x77);
	th_assert_ok(th_decode(&bytes, &msg));
	assert_true(msg.body.model.address == 0x0000123456600000);
	assert_true(msg.body.model.bytes == 0x00000abcdef01200);
	assert_int_equal(msg.body.model.hash[PS_MODEL_HASH_BYTES - 1], 0x77);
	assert_string_equal(msg.body.model.name, "llama-3/8b@base");
}

static void test_wire_models_name_without_an_end_is_refused(void **state)
{
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_ORDER, &bytes);
	memset(bytes.data + AT_BODY + 12, 'x', IP_MODEL_NAME_BYTES);
	th_assert_refused(&bytes, PS_PROTOCOL,
			  "name has no end within 128 bytes");
}

static void test_wire_models_empty_name_is_refused(void **state)
{
	struct ip_message msg;

	(void)state;
	th_sample(IP_ORDER, &msg);
	memset(msg.body.order.name, 0, IP_MODEL_NAME_BYTES);
	assert_unsaid(&msg, "name is \"\", must be 1 to 127 letters");
}

static void test_wire_models_groups_belong_to_their_plan(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_ADD, &msg);
	for (uint32_t plan = PS_PLAN_BEST; plan < PS_PLAN_GROUPS; plan++) {
		msg.body.add.plan = plan;
		msg.body.add.groups = 0;
		th_assert_round_trip(&msg, &again);
		msg.body.add.groups = 1;
		assert_unsaid(&msg, "groups is 1, must be 0 to 0");
	}
}

static void test_wire_models_unasked_hash_is_zeros_to_its_end(void **state)
{
	struct ip_message msg;

	(void)state;
	th_sample(IP_FIND, &msg);
	msg.body.find.flags = IP_FIND_NAME;
	memset(msg.body.find.hash, 0, PS_MODEL_HASH_BYTES);
	msg.body.find.hash[PS_MODEL_HASH_BYTES - 1] = 1;
	assert_unsaid(&msg, "byte 31 of hash is 0x01, must be 0");
}

static void test_wire_models_find_by_hash_alone_is_kept(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_FIND, &msg);
	msg.body.find.flags = IP_FIND_HASH;
	memset(msg.body.find.name, 0, IP_MODEL_NAME_BYTES);
	th_assert_round_trip(&msg, &again);
	assert_int_equal(again.body.find.flags, IP_FIND_HASH);
}

static void test_wire_models_same_place_brings_nothing(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_PLACE, &msg);
	msg.body.place.flags = IP_PLACE_SAME;
	msg.body.place.count = 0;
	assert_unsaid(&msg, "fd count is 2, must be 0 to 0");
	msg.fd_count = 0;
	th_assert_round_trip(&msg, &again);
	assert_int_equal(again.body.place.flags, IP_PLACE_SAME);
}

static void test_wire_models_other_place_brings_something(void **state)
{
	struct ip_message msg;

	(void)state;
	th_sample(IP_PLACE, &msg);
	msg.body.place.count = 0;
	msg.fd_count = 0;
	assert_unsaid(&msg, "count is 0, must be 1 to 253");
}

static void test_wire_models_longest_place_is_kept(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_PLACE, &msg);
	msg.body.place.count = IP_LIST_MAX;
	for (uint32_t i = 0; i < IP_LIST_MAX; i++)
		msg.body.place.segment[i] = IP_SEGMENTS_MAX - 1 - i;
	th_sample_fds(&msg, IP_LIST_MAX);
	th_assert_round_trip(&msg, &again);
	assert_memory_equal(&again.body.place, &msg.body.place,
			    sizeof(msg.body.place));
}

/* ------------------------------------------------------------------ */
/* Names                                                               */

static bool is_ok(const char *text)
{
	char name[IP_MODEL_NAME_BYTES] = "";

	memcpy(name, text, strlen(text));
	return ip_model_name_is_ok(name);
}

static void test_wire_models_name_of_the_known_letters_is_ok(void **state)
{
	(void)state;
	assert_true(is_ok("a"));
	assert_true(is_ok("azAZ09-_.:/@+"));
}

static void test_wire_models_name_of_other_letters_is_not_ok(void **state)
{
	static const char others[] = " !\"#$%&'()*,;<=>?[\\]^`{|}~\t\n\x7f\xc3";
	char text[] = "ab?d";

	(void)state;
	for (const char *other = others; *other; other++) {
		text[2] = *other;
		if (is_ok(text))
			fail_msg("%02x is taken", (unsigned char)*other);
	}
}

static void test_wire_models_name_fills_all_but_the_end(void **state)
{
	char name[IP_MODEL_NAME_BYTES];

	(void)state;
	memset(name, 'x', sizeof(name));
	assert_false(ip_model_name_is_ok(name));
	name[PS_MODEL_NAME_MAX] = '\0';
	assert_true(ip_model_name_is_ok(name));
	memset(name, 0, sizeof(name));
	assert_false(ip_model_name_is_ok(name));
	name[0] = 'x';
	name[2] = 'x';
	assert_false(ip_model_name_is_ok(name));
}

/* ------------------------------------------------------------------ */
/* Versions                                                            */

static bool is_of_minor_4(enum ip_type type)
{
	return ip_rule_find((uint16_t)type)->since == IP_MINOR_MODELS;
}

static void test_wire_models_messages_of_minor_3_are_refused(void **state)
{
	struct th_bytes bytes;
	size_t found = 0;

	(void)state;
	for (size_t i = 0; i < TH_TYPES; i++) {
		if (!is_of_minor_4(th_types[i]))
			continue;
		found++;
		th_bytes_of(th_types[i], &bytes);
		th_put(&bytes, AT_MINOR, 2, 3);
		th_assert_refused(&bytes, PS_PROTOCOL,
				  "minor version is 3, must be 4 to 65535");
	}
	assert_int_equal(found, 13);
}

static void test_wire_models_newer_client_may_want_more(void **state)
{
	struct ip_message msg;
	struct th_bytes bytes;

	(void)state;
	th_bytes_of(IP_ADD, &bytes);
	th_put(&bytes, AT_MINOR, 2, TH_NEWER);
	th_put(&bytes, AT_BODY + 4, 4, 0x80000001);
	th_put(&bytes, AT_BODY + 8, 4, 77);
	th_assert_ok(th_decode(&bytes, &msg));
	assert_int_equal(msg.body.add.plan, 77);
	th_bytes_of(IP_ORDER, &bytes);
	th_put(&bytes, AT_MINOR, 2, TH_NEWER);
	th_put(&bytes, AT_BODY + 4, 4, 77);
	th_assert_ok(th_decode(&bytes, &msg));
	assert_int_equal(msg.body.order.order, 77);
}

static void test_wire_models_question_is_unknown_before_minor_4(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_ASK, &msg);
	msg.body.ask.question = IP_ASK_MODELS;
	th_assert_round_trip(&msg, &again);
	msg.minor = 3;
	assert_unsaid(&msg, "question is 6, must be 1 to 5");
}

static void test_wire_models_statuses_are_unknown_before_minor_4(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_DENY, &msg);
	msg.body.deny.status = PS_LOAD_FAILED;
	th_assert_round_trip(&msg, &again);
	msg.minor = 3;
	msg.body.deny.status = PS_NO_MODEL;
	assert_unsaid(&msg, "status is 32, must be 1 to 31");
}

/* ------------------------------------------------------------------ */
/* Pieces                                                              */

static void test_wire_models_pieces_have_their_places(void **state)
{
	static const struct {
		enum ip_piece_kind kind;
		uint32_t places;
	} rows[] = {
		{ IP_PIECE_SIGNALS, IP_SIGNALS },
		{ IP_PIECE_MANIFESTS, IP_MODELS_MAX },
		{ IP_PIECE_HOSTS, IP_MODELS_MAX },
		{ IP_PIECE_FILES, IP_MODELS_MAX * IP_MODEL_FILES },
	};
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		th_sample(IP_PIECE, &msg);
		msg.body.piece.kind = rows[i].kind;
		msg.body.piece.number[0] = rows[i].places - 1;
		th_assert_round_trip(&msg, &again);
		msg.body.piece.number[0] = rows[i].places;
		assert_unsaid(&msg, "a number in the list is");
	}
}

static void test_wire_models_file_comes_once(void **state)
{
	struct ip_message msg;

	(void)state;
	th_sample(IP_DROP, &msg);
	msg.body.piece.kind = IP_PIECE_FILES;
	msg.body.piece.number[0] = IP_MODELS_MAX * IP_MODEL_FILES - 1;
	msg.body.piece.number[1] = IP_MODELS_MAX * IP_MODEL_FILES - 1;
	assert_unsaid(&msg, "131071 comes twice in the list");
}

static void test_wire_models_pieces_are_unknown_before_minor_4(void **state)
{
	struct ip_message msg;

	(void)state;
	th_sample(IP_PIECE, &msg);
	msg.minor = 3;
	msg.body.piece.kind = IP_PIECE_SIGNALS;
	assert_unsaid(&msg, "kind is 4, must be 1 to 3");
}

static const struct th_test tests[] = {
	TH_TEST(test_wire_models_clients_malformed_field_is_named),
	TH_TEST(test_wire_models_daemons_malformed_field_is_named),
	TH_TEST(test_wire_models_model_fields_lie_as_documented),
	TH_TEST(test_wire_models_name_without_an_end_is_refused),
	TH_TEST(test_wire_models_empty_name_is_refused),
	TH_TEST(test_wire_models_groups_belong_to_their_plan),
	TH_TEST(test_wire_models_unasked_hash_is_zeros_to_its_end),
	TH_TEST(test_wire_models_find_by_hash_alone_is_kept),
	TH_TEST(test_wire_models_same_place_brings_nothing),
	TH_TEST(test_wire_models_other_place_brings_something),
	TH_TEST(test_wire_models_longest_place_is_kept),
	TH_TEST(test_wire_models_name_of_the_known_letters_is_ok),
	TH_TEST(test_wire_models_name_of_other_letters_is_not_ok),
	TH_TEST(test_wire_models_name_fills_all_but_the_end),
	TH_TEST(test_wire_models_messages_of_minor_3_are_refused),
	TH_TEST(test_wire_models_newer_client_may_want_more),
	TH_TEST(test_wire_models_question_is_unknown_before_minor_4),
	TH_TEST(test_wire_models_statuses_are_unknown_before_minor_4),
	TH_TEST(test_wire_models_pieces_have_their_places),
	TH_TEST(test_wire_models_file_comes_once),
	TH_TEST(test_wire_models_pieces_are_unknown_before_minor_4),
};

TH_MAIN("wire_models", tests)
