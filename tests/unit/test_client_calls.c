/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What an attached client asks for: segments, and questions. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/client.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_daemon_talk.h"
#include "tests/support/rigged_calls.h"

/* ------------------------------------------------------------------ */
/* Segments                                                            */

static const struct ip_take four = { .count = 4, .wait_ms = 5000 };

static void test_client_take_gets_fds_beside_their_segments(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_GRANT, 2); /* 2, 4 parked, 3 */
	th_assert_ok(ip_client_take(&talk.client, &four, &grant, fds));
	assert_int_equal(grant.count, 3);
	assert_true(fcntl(fds[0], F_GETFD) >= 0);
	assert_int_equal(fds[1], -1);
	assert_true(fcntl(fds[2], F_GETFD) >= 0);
	close(fds[0]);
	close(fds[2]);
	th_hear(&talk, IP_TAKE, &msg);
	assert_int_equal(msg.body.take.seq, 2);
	assert_int_equal(msg.body.take.wait_ms, 5000);
	th_close_talk(&talk);
}

/* A GRANT of @count parked segments from @first on. */
static void put_parked(struct th_daemon_talk *talk, uint32_t first,
		       uint32_t count, uint32_t flags)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_GRANT, talk->daemon.minor);
	msg.body.list = (struct ip_list){ 2, flags, count, { 0 } };
	for (uint32_t i = 0; i < count; i++)
		msg.body.list.segment[i] = (first + i) | IP_SEGMENT_PARKED;
	th_put_message(talk, &msg);
}

static void test_client_take_goes_on_while_there_is_more(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_parked(&talk, 0, 3, IP_LIST_MORE);
	put_parked(&talk, 3, 1, 0);
	th_assert_ok(ip_client_take(&talk.client, &four, &grant, fds));
	assert_int_equal(grant.flags, IP_LIST_MORE);
	th_assert_ok(ip_client_take(&talk.client, NULL, &grant, fds));
	assert_int_equal(grant.count, 1);
	assert_int_equal(grant.flags, 0);
	th_close_talk(&talk);
}

static void test_client_grant_of_too_many_is_refused(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_parked(&talk, 0, 3, IP_LIST_MORE);
	put_parked(&talk, 3, 2, 0);
	th_assert_ok(ip_client_take(&talk.client, &four, &grant, fds));
	th_assert_status(ip_client_take(&talk.client, NULL, &grant, fds),
			 PS_PROTOCOL);
	th_assert_said("GRANT: count is 2, must be at most 1");
	th_close_talk(&talk);
}

static void test_client_denied_take_names_the_numbers(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_put_denial(&talk, 2, PS_AGAIN);
	th_assert_status(ip_client_take(&talk.client, &four, &grant, fds),
			 PS_AGAIN);
	th_assert_said("4 segments are wanted, 2 are free");
	th_put_answer(&talk, IP_DID, 3);
	th_assert_ok(ip_client_leave(&talk.client)); /* the talk goes on */
	th_close_talk(&talk);
}

/* The daemon waits for others as long as it was told to. */
static void test_client_take_waits_as_long_as_the_daemon(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_assert_status(ip_client_take(&talk.client, &four, &grant, fds),
			 PS_TIMED_OUT);
	th_assert_said("in 15000 ms");
	talk.client.conn.timeout_ms = INT32_MAX;
	th_assert_status(ip_client_take(&talk.client, &four, &grant, fds),
			 PS_TIMED_OUT);
	th_assert_said("in 2147483647 ms");
	th_close_talk(&talk);
}

static void test_client_gives_many_in_several_messages(void **state)
{
	uint32_t segments[IP_LIST_MAX + 1];
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	for (uint32_t i = 0; i <= IP_LIST_MAX; i++)
		segments[i] = i;
	th_put_answer(&talk, IP_DID, 2);
	th_put_answer(&talk, IP_DID, 3);
	th_assert_ok(
		ip_client_give(&talk.client, segments, IP_LIST_MAX + 1, true));
	th_hear(&talk, IP_GIVE, &msg);
	assert_int_equal(msg.body.list.count, IP_LIST_MAX);
	assert_int_equal(msg.body.list.flags, IP_LIST_PARKED);
	th_hear(&talk, IP_GIVE, &msg);
	assert_int_equal(msg.body.list.count, 1);
	assert_int_equal(msg.body.list.segment[0], IP_LIST_MAX);
	th_close_talk(&talk);
}

static void test_client_giving_nothing_says_nothing(void **state)
{
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_assert_ok(ip_client_give(&talk.client, NULL, 0, false));
	th_assert_receive(&talk.daemon, PS_TIMED_OUT);
	th_close_talk(&talk);
}

static void test_client_give_stops_at_a_denial(void **state)
{
	uint32_t segments[IP_LIST_MAX + 1];
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	for (uint32_t i = 0; i <= IP_LIST_MAX; i++)
		segments[i] = i;
	th_put_denial(&talk, 2, PS_DEVICE_LOST);
	th_assert_status(
		ip_client_give(&talk.client, segments, IP_LIST_MAX + 1, false),
		PS_DEVICE_LOST);
	assert_int_equal(talk.client.seq, 2);
	th_close_talk(&talk);
}

static void test_client_need_gets_fds_in_order(void **state)
{
	struct th_daemon_talk talk;
	bool write = false;
	int fds[2];

	(void)state;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_PART, 2);
	th_assert_ok(ip_client_need(&talk.client, 0, 2, &write, fds));
	assert_true(write);
	assert_true(fcntl(fds[0], F_GETFD) >= 0);
	close(fds[0]);
	close(fds[1]);
	th_close_talk(&talk);
}

static void test_client_part_of_other_segments_is_refused(void **state)
{
	struct th_daemon_talk talk;
	bool write;
	int fds[3];

	(void)state;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_PART, 2);
	th_assert_status(ip_client_need(&talk.client, 1, 2, &write, fds),
			 PS_PROTOCOL);
	th_assert_said("PART: has 2 segments from 0, must be 2 from 1");
	th_put_answer(&talk, IP_PART, 3);
	th_assert_status(ip_client_need(&talk.client, 0, 3, &write, fds),
			 PS_PROTOCOL);
	th_close_talk(&talk);
}

static void test_client_unsayable_request_is_not_sent(void **state)
{
	struct th_daemon_talk talk;
	bool write;
	int fds[1];

	(void)state;
	th_open_attached(&talk);
	th_assert_status(ip_client_need(&talk.client, 0, 0, &write, fds),
			 PS_INVALID_ARGUMENT);
	th_assert_receive(&talk.daemon, PS_TIMED_OUT);
	th_close_talk(&talk);
}

/* ------------------------------------------------------------------ */
/* Questions                                                           */

/* An answer of @said bytes in a file of @bytes. */
static void put_text(struct th_daemon_talk *talk, const char *text,
		     size_t bytes, uint32_t said)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_ANSWER, talk->daemon.minor);
	msg.body.answer = (struct ip_answer){ 1, said };
	msg.fd_count = 1;
	msg.fds[0] = memfd_create("answer", MFD_CLOEXEC);
	assert_int_equal(write(msg.fds[0], text, bytes), (ssize_t)bytes);
	th_put_message(talk, &msg);
}

static void ask(struct th_daemon_talk *talk, enum ps_status expected,
		const char *said)
{
	char *text = NULL;

	th_assert_status(ip_client_ask(&talk->client, IP_ASK_STATUS, &text),
			 expected);
	if (expected == PS_OK)
		assert_string_equal(text, said);
	else
		th_assert_said(said);
	free(text);
}

static void test_client_question_is_answered(void **state)
{
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	put_text(&talk, "{\"a\":1}", 7, 7);
	ask(&talk, PS_OK, "{\"a\":1}");
	th_hear(&talk, IP_ASK, &msg);
	assert_int_equal(msg.body.ask.seq, 1);
	assert_int_equal(msg.body.ask.question, IP_ASK_STATUS);
	th_close_talk(&talk);
}

static void ask_wrongly(const char *text, size_t bytes, uint32_t said,
			const char *expected)
{
	struct th_daemon_talk talk;

	th_open_talk(&talk);
	put_text(&talk, text, bytes, said);
	ask(&talk, PS_PROTOCOL, expected);
	th_close_talk(&talk);
}

static void test_client_answer_of_another_size_is_refused(void **state)
{
	(void)state;
	ask_wrongly("{}", 2, 3, "a file of 2 bytes, must be a file of 3");
	ask_wrongly("{}", 2, 1, "a file of 2 bytes, must be a file of 1");
	ask_wrongly("{\0}", 3, 3, "byte 1 of the text is 0x00");
}

static void test_client_answer_that_is_no_file_is_refused(void **state)
{
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	th_answer_init(&talk, IP_ANSWER, 1, &msg);
	th_put_message(&talk, &msg); /* /dev/null */
	ask(&talk, PS_PROTOCOL, "the descriptor is no file");
	th_close_talk(&talk);
}

static void ask_failing(enum th_call call, int error, enum ps_status expected,
			const char *said)
{
	struct th_daemon_talk talk;

	th_open_talk(&talk);
	put_text(&talk, "{}", 2, 2);
	th_fail_at(call, 1, error);
	ask(&talk, expected, said);
	th_close_talk(&talk);
}

static void test_client_failing_calls_of_a_question_are_named(void **state)
{
	(void)state;
	ask_failing(TH_PREAD, EINTR, PS_OK, "{}");
	ask_failing(TH_PREAD, 0, PS_PROTOCOL, "the file ends after 0 bytes");
	ask_failing(TH_PREAD, EIO, PS_SYSTEM, "reading poolswitchd's answer");
	ask_failing(TH_MALLOC, ENOMEM, PS_HOST_MEMORY, "answer of 2 bytes");
}

static void test_client_denied_question_names_the_reason(void **state)
{
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	th_put_denial(&talk, 1, PS_PERMISSION);
	ask(&talk, PS_PERMISSION, "poolswitchd: 4 segments");
	th_close_talk(&talk);
}

#define RIGGED(fn) TH_TEST_SETUP(fn, th_rig_reset, th_rig_reset)

static const struct th_test tests[] = {
	RIGGED(test_client_take_gets_fds_beside_their_segments),
	RIGGED(test_client_take_goes_on_while_there_is_more),
	RIGGED(test_client_grant_of_too_many_is_refused),
	RIGGED(test_client_denied_take_names_the_numbers),
	RIGGED(test_client_take_waits_as_long_as_the_daemon),
	RIGGED(test_client_gives_many_in_several_messages),
	RIGGED(test_client_giving_nothing_says_nothing),
	RIGGED(test_client_give_stops_at_a_denial),
	RIGGED(test_client_need_gets_fds_in_order),
	RIGGED(test_client_part_of_other_segments_is_refused),
	RIGGED(test_client_unsayable_request_is_not_sent),
	RIGGED(test_client_question_is_answered),
	RIGGED(test_client_answer_of_another_size_is_refused),
	RIGGED(test_client_answer_that_is_no_file_is_refused),
	RIGGED(test_client_failing_calls_of_a_question_are_named),
	RIGGED(test_client_denied_question_names_the_reason),
};

TH_MAIN("client_calls", tests)
