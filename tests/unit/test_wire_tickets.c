/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What minor 3 brought: room outside the pool, exports, tickets. */
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
/* Room outside                                                        */

static void test_wire_room_is_all_or_none(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_TAKE, &msg);
	msg.body.take.flags = IP_TAKE_OUTSIDE;
	th_assert_round_trip(&msg, &again);
	assert_int_equal(again.body.take.flags, IP_TAKE_OUTSIDE);
	msg.body.take.flags |= IP_TAKE_SOME;
	assert_unsaid(&msg, "flags is 3, must be 0 to 2");
}

static void grant_room(struct ip_message *msg)
{
	ip_message_init(msg, IP_GRANT, IP_MINOR_HIGH);
	msg->body.list = (struct ip_list){ 2, IP_LIST_OUTSIDE, 2, { 4, 3 } };
}

static void test_wire_room_brings_no_descriptor(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	grant_room(&msg);
	th_assert_round_trip(&msg, &again);
	th_sample_fds(&msg, 2);
	assert_unsaid(&msg, "fd count is 2, must be 0 to 0");
}

static void test_wire_room_is_never_parked(void **state)
{
	struct ip_message msg;

	(void)state;
	grant_room(&msg);
	msg.body.list.segment[0] |= IP_SEGMENT_PARKED;
	assert_unsaid(&msg, "is 2147483652, must be 0 to 65535");
}

static void test_wire_room_is_unknown_before_minor_3(void **state)
{
	struct ip_message msg;

	(void)state;
	th_sample(IP_TAKE, &msg);
	msg.minor = 2;
	msg.body.take.flags = IP_TAKE_OUTSIDE;
	assert_unsaid(&msg, "flags is 2, must be 0 to 1");
	grant_room(&msg);
	msg.minor = 2;
	assert_unsaid(&msg, "flags are 0x4, may be 0x1");
}

static void hold(struct ip_message *msg, uint32_t mark)
{
	ip_message_init(msg, IP_HELD, IP_MINOR_HIGH);
	msg->body.list = (struct ip_list){ 2, 0, 1, { 4 | mark } };
}

static void test_wire_held_marks_are_kept(void **state)
{
	static const uint32_t marks[] = {
		IP_SEGMENT_PARKED,
		IP_SEGMENT_OUTSIDE,
		IP_SEGMENT_OPENED,
	};
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		hold(&msg, marks[i]);
		th_assert_round_trip(&msg, &again);
		assert_int_equal(again.body.list.segment[0], 4 | marks[i]);
	}
}

static void test_wire_held_entry_has_one_mark(void **state)
{
	struct ip_message msg;

	(void)state;
	hold(&msg, IP_SEGMENT_PARKED | IP_SEGMENT_OPENED);
	assert_unsaid(&msg, "segment 4 has the marks 0xa0000000, may have one");
	hold(&msg, IP_SEGMENT_OUTSIDE | IP_SEGMENT_OPENED);
	assert_unsaid(&msg, "segment 4 has the marks 0x60000000, may have one");
}

static void test_wire_held_of_minor_2_has_the_parked_mark_only(void **state)
{
	struct ip_message msg;

	(void)state;
	hold(&msg, IP_SEGMENT_OUTSIDE);
	msg.minor = 2;
	assert_unsaid(&msg, "is 1073741828, must be 0 to 65535");
	hold(&msg, IP_SEGMENT_OPENED);
	msg.minor = 2;
	assert_unsaid(&msg, "is 536870916, must be 0 to 65535");
}

/* ------------------------------------------------------------------ */
/* Tickets                                                             */

static const struct th_bad_field fields[] = {
	{ IP_ISSUE, AT_BODY, 4, 0, "ISSUE: seq is 0" },
	{ IP_ISSUE, AT_BODY + 4, 4, 0, "run_count is 0, must be 1 to 5" },
	{ IP_ISSUE, AT_BODY + 4, 4, 6, "run_count is 6, must be 1 to 5" },
	{ IP_ISSUE, AT_BODY + 4, 4, 1, "length is 40, must be 32 to 32" },
	{ IP_ISSUE, AT_BODY + 4, 4, 3, "length is 40, must be 48 to 48" },
	{ IP_ISSUE, AT_BODY + 8, 8, 511, "offset is 511, must be a multiple" },
	{ IP_ISSUE, AT_BODY + 8, 8, UINT64_MAX, "offset is 1844674407370955" },
	{ IP_ISSUE, AT_BODY + 16, 8, 0, "bytes is 0, must be 512 to" },
	{ IP_ISSUE, AT_BODY + 16, 8, 513, "bytes is 513, must be a multiple" },
	{ IP_ISSUE, AT_BODY + 24, 4, 65536, "first is 65536, must be 0 to" },
	{ IP_ISSUE, AT_BODY + 24, 4, 2, "runs 0 and 1 overlap" },
	{ IP_ISSUE, AT_BODY + 28, 4, 0, "count is 0, must be 1 to 65536" },
	{ IP_ISSUE, AT_FDS, 2, 1, "fd count is 1, must be 0 to 0" },
	{ IP_OPEN, AT_BODY, 4, 0, "OPEN: seq is 0" },
	{ IP_OPEN, AT_FDS, 2, 1, "fd count is 1, must be 0 to 0" },
	{ IP_TICKET, AT_FDS, 2, 1, "fd count is 1, must be 0 to 0" },
	{ IP_OPENED, AT_BODY + 4, 4, 2, "flags are 0x2, may be 0x1" },
	{ IP_OPENED, AT_BODY + 8, 8, 1, "offset is 1, must be a multiple" },
	{ IP_OPENED, AT_BODY + 16, 8, 0, "bytes is 0, must be 512 to" },
	{ IP_OPENED, AT_BODY + 24, 4, 0, "length is 36, must be 28 to 28" },
	{ IP_OPENED, AT_BODY + 24, 4, 254, "count is 254, must be 0 to 253" },
	{ IP_OPENED, AT_BODY + 28, 4, 65536, "is 65536, must be 0 to 65535" },
	{ IP_OPENED, AT_BODY + 28, 4, 2, "2 comes twice in the list" },
	{ IP_OPENED, AT_FDS, 2, 1, "fd count is 1, must be 2 to 2" },
};

static void test_wire_tickets_malformed_field_is_named(void **state)
{
	(void)state;
	th_assert_bad_fields(fields, sizeof(fields) / sizeof(fields[0]));
}

static void test_wire_ticket_messages_of_minor_2_are_refused(void **state)
{
	static const enum ip_type types[] = { IP_ISSUE, IP_OPEN, IP_CLOSE,
					      IP_TICKET, IP_OPENED };
	struct th_bytes bytes;

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		th_bytes_of(types[i], &bytes);
		th_put(&bytes, AT_MINOR, 2, 2);
		th_assert_refused(&bytes, PS_PROTOCOL,
				  "minor version is 2, must be 3 to 65535");
	}
}

static void test_wire_runs_are_kept_in_order(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_ISSUE, &msg);
	msg.body.issue.run_count = IP_TICKET_RUNS;
	for (uint32_t i = 0; i < IP_TICKET_RUNS; i++)
		msg.body.issue.run[i] = (struct ip_run){ 90 - 10 * i, 10 };
	th_assert_round_trip(&msg, &again);
	assert_memory_equal(&again.body.issue, &msg.body.issue,
			    sizeof(msg.body.issue));
}

static void test_wire_whole_pool_in_one_run_is_kept(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_ISSUE, &msg);
	msg.body.issue.run_count = 1;
	msg.body.issue.run[0] = (struct ip_run){ 0, IP_SEGMENTS_MAX };
	th_assert_round_trip(&msg, &again);
	assert_int_equal(again.body.issue.run[0].count, IP_SEGMENTS_MAX);
}

static void test_wire_longest_opened_is_kept(void **state)
{
	struct ip_message again;
	struct ip_message msg;

	(void)state;
	th_sample(IP_OPENED, &msg);
	msg.body.opened.count = IP_LIST_MAX;
	msg.body.opened.flags = IP_LIST_MORE;
	for (uint32_t i = 0; i < IP_LIST_MAX; i++)
		msg.body.opened.segment[i] = IP_SEGMENTS_MAX - 1 - i;
	th_sample_fds(&msg, IP_LIST_MAX);
	th_assert_round_trip(&msg, &again);
	assert_memory_equal(&again.body.opened, &msg.body.opened,
			    sizeof(msg.body.opened));
}

static void test_wire_empty_opened_is_refused(void **state)
{
	struct ip_message msg;

	(void)state;
	th_sample(IP_OPENED, &msg);
	msg.body.opened.count = 0;
	msg.fd_count = 1;
	assert_unsaid(&msg, "count is 0, must be 1 to 253");
}

static const struct th_test tests[] = {
	TH_TEST(test_wire_room_is_all_or_none),
	TH_TEST(test_wire_room_brings_no_descriptor),
	TH_TEST(test_wire_room_is_never_parked),
	TH_TEST(test_wire_room_is_unknown_before_minor_3),
	TH_TEST(test_wire_held_marks_are_kept),
	TH_TEST(test_wire_held_entry_has_one_mark),
	TH_TEST(test_wire_held_of_minor_2_has_the_parked_mark_only),
	TH_TEST(test_wire_tickets_malformed_field_is_named),
	TH_TEST(test_wire_ticket_messages_of_minor_2_are_refused),
	TH_TEST(test_wire_runs_are_kept_in_order),
	TH_TEST(test_wire_whole_pool_in_one_run_is_kept),
	TH_TEST(test_wire_longest_opened_is_kept),
	TH_TEST(test_wire_empty_opened_is_refused),
};

TH_MAIN("wire_tickets", tests)
