/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client's calls against a daemon that is pretended: what it says lies in
 * the socket before it is asked, and what it was asked is read afterwards.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/client.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_ends.h"
#include "tests/support/rigged_calls.h"

struct talk {
	int fds[2];
	struct ip_client client; /* at fds[0] */
	struct ip_conn daemon;   /* at fds[1] */
};

static void open_talk(struct talk *talk)
{
	th_socketpair(SOCK_SEQPACKET, talk->fds);
	th_assert_ok(ip_client_init(&talk->client, talk->fds[0],
				    PS_TIMEOUT_DEFAULT));
	th_assert_ok(
		ip_conn_init(&talk->daemon, talk->fds[1], IP_DAEMON, 0, 0));
	th_rig.no_waiting = true;
}

static void close_talk(struct talk *talk)
{
	close(talk->fds[0]);
	close(talk->fds[1]);
}

/* Takes the message's descriptors with it. */
static void put(struct talk *talk, struct ip_message *msg)
{
	th_assert_ok(ip_conn_send(&talk->daemon, msg));
	ip_message_done(msg);
}

/* The sample as the answer to request @seq, with files for descriptors. */
static void answer_init(struct talk *talk, enum ip_type type, uint32_t seq,
			struct ip_message *msg)
{
	th_sample(type, msg);
	msg->minor = talk->daemon.minor;
	msg->body.number.seq = seq;
	for (unsigned int i = 0; i < msg->fd_count; i++)
		msg->fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void put_answer(struct talk *talk, enum ip_type type, uint32_t seq)
{
	struct ip_message msg;

	answer_init(talk, type, seq, &msg);
	put(talk, &msg);
}

static void put_denial(struct talk *talk, uint32_t seq, enum ps_status status)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_DENY, talk->daemon.minor);
	ip_deny_set(&msg, seq, status, "4 segments are wanted, 2 are free");
	put(talk, &msg);
}

static void put_refusal(struct talk *talk, uint32_t status, uint16_t minor)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_REFUSE, minor);
	ip_refuse_set(&msg, (enum ps_status)status, "too many messages");
	put(talk, &msg);
}

/* The next request, which must be of @type. */
static void hear(struct talk *talk, enum ip_type type, struct ip_message *msg)
{
	th_assert_ok(ip_conn_receive(&talk->daemon, msg));
	ip_message_done(msg);
	assert_int_equal(msg->type, type);
}

static void put_welcome(struct talk *talk, uint32_t resumed)
{
	struct ip_message msg;

	answer_init(talk, IP_WELCOME, 1, &msg);
	msg.body.welcome.resumed = resumed;
	put(talk, &msg);
}

static enum ps_status attach_new(struct talk *talk)
{
	struct ip_attach attach = { .name = "worker 1" };
	struct ip_welcome welcome;
	enum ps_status status;
	int events = -1;

	status = ip_client_attach(&talk->client, &attach, &welcome, &events);
	if (status == PS_OK)
		close(events);
	else
		assert_int_equal(events, -1);
	return status;
}

/* Attached, with ATTACH read; the next request is number 2. */
static void open_attached(struct talk *talk)
{
	struct ip_message msg;

	open_talk(talk);
	put_welcome(talk, 0);
	th_assert_ok(attach_new(talk));
	hear(talk, IP_ATTACH, &msg);
}

/* ------------------------------------------------------------------ */
/* Attaching                                                           */

static void test_client_attach_brings_the_events_socket(void **state)
{
	struct ip_attach attach = { .name = "worker 1", .limit = 7 };
	struct ip_welcome welcome;
	struct ip_message msg;
	struct talk talk;
	int events = -1;

	(void)state;
	open_talk(&talk);
	put_welcome(&talk, 0);
	th_assert_ok(
		ip_client_attach(&talk.client, &attach, &welcome, &events));
	assert_int_equal(welcome.id, 7);
	assert_int_equal(fcntl(events, F_GETFD), FD_CLOEXEC);
	close(events);
	hear(&talk, IP_ATTACH, &msg);
	assert_int_equal(msg.body.attach.seq, 1);
	assert_int_equal(msg.body.attach.minor_low, IP_MINOR_DAEMON);
	assert_int_equal(msg.body.attach.limit, 7);
	assert_int_equal(msg.minor, IP_MINOR_HIGH);
	close_talk(&talk);
}

/* It does not end while we live: a pidfd is readable at the end. */
static void test_client_attach_sends_its_own_pidfd(void **state)
{
	char path[64];
	char info[512];
	char wanted[64];
	struct ip_message msg;
	struct talk talk;
	FILE *file;

	(void)state;
	open_talk(&talk);
	put_welcome(&talk, 0);
	th_assert_ok(attach_new(&talk));
	th_assert_ok(ip_conn_receive(&talk.daemon, &msg));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", msg.fds[0]);
	file = fopen(path, "re");
	info[fread(info, 1, sizeof(info) - 1, file)] = '\0';
	fclose(file);
	snprintf(wanted, sizeof(wanted), "Pid:\t%d\n", (int)getpid());
	assert_non_null(strstr(info, wanted));
	ip_message_done(&msg);
	close_talk(&talk);
}

static void test_client_resumes_with_its_id(void **state)
{
	struct ip_welcome welcome;
	struct ip_attach attach;
	struct ip_list held;
	struct talk talk;
	int events = -1;

	(void)state;
	open_talk(&talk);
	th_attach_init(&attach);
	put_welcome(&talk, 1);
	put_answer(&talk, IP_HELD, 1);
	th_assert_ok(
		ip_client_attach(&talk.client, &attach, &welcome, &events));
	close(events);
	th_assert_ok(ip_client_held(&talk.client, &held));
	assert_int_equal(held.count, 2);
	assert_int_equal(held.segment[1], 3 | IP_SEGMENT_PARKED);
	close_talk(&talk);
}

static void attach_wrongly(uint64_t id, uint32_t resumed, const char *text)
{
	struct ip_welcome welcome;
	struct ip_attach attach;
	struct talk talk;
	int events = -1;

	open_talk(&talk);
	th_attach_init(&attach);
	attach.id = id;
	if (id == 0)
		memset(attach.token, 0, sizeof(attach.token));
	put_welcome(&talk, resumed);
	th_assert_status(
		ip_client_attach(&talk.client, &attach, &welcome, &events),
		PS_PROTOCOL);
	th_assert_said(text);
	close_talk(&talk);
}

static void test_client_welcome_to_somebody_else_is_refused(void **state)
{
	(void)state;
	attach_wrongly(0, 1, "resumed is 1, must be 0");
	attach_wrongly(7, 0, "resumed is 0, must be 1");
	attach_wrongly(8, 1, "id is 7, must be 8");
}

static void test_client_older_daemon_is_talked_to_in_its_minor(void **state)
{
	struct ip_message msg;
	struct talk talk;

	(void)state;
	open_talk(&talk);
	talk.daemon.minor = 1;
	put_welcome(&talk, 0);
	th_assert_ok(attach_new(&talk));
	put_answer(&talk, IP_DID, 2);
	th_assert_ok(ip_client_leave(&talk.client));
	hear(&talk, IP_ATTACH, &msg);
	assert_int_equal(msg.minor, IP_MINOR_HIGH);
	hear(&talk, IP_LEAVE, &msg);
	assert_int_equal(msg.minor, 1);
	close_talk(&talk);
}

static void test_client_of_an_older_minor_attaches(void **state)
{
	struct ip_message msg;
	struct talk talk;

	(void)state;
	open_talk(&talk);
	talk.client.conn.minor = 1;
	talk.daemon.minor = 1;
	put_welcome(&talk, 0);
	th_assert_ok(attach_new(&talk));
	hear(&talk, IP_ATTACH, &msg);
	assert_int_equal(msg.minor, 1);
	close_talk(&talk);
}

static void test_client_welcome_of_a_later_minor_is_a_mismatch(void **state)
{
	struct talk talk;

	(void)state;
	open_talk(&talk);
	talk.daemon.minor = IP_MINOR_HIGH + 1;
	put_welcome(&talk, 0);
	th_assert_status(attach_new(&talk), PS_VERSION_MISMATCH);
	th_assert_said("WELCOME: minor version is 3, must be 1 to 2");
	close_talk(&talk);
}

static void test_client_minor_that_changes_is_refused(void **state)
{
	struct talk talk;

	(void)state;
	open_attached(&talk);
	talk.daemon.minor = 1;
	put_answer(&talk, IP_DID, 2);
	th_assert_status(ip_client_leave(&talk.client), PS_PROTOCOL);
	th_assert_said("DID: minor version is 1, must be 2 to 2");
	close_talk(&talk);
}

/* ------------------------------------------------------------------ */
/* No                                                                  */

static void test_client_denial_keeps_its_status_and_text(void **state)
{
	struct talk talk;

	(void)state;
	open_talk(&talk);
	put_denial(&talk, 1, PS_OUT_OF_MEMORY);
	th_assert_status(attach_new(&talk), PS_OUT_OF_MEMORY);
	th_assert_said("poolswitchd: 4 segments are wanted, 2 are free");
	assert_false(talk.client.conn.over);
	close_talk(&talk);
}

static void test_client_refusal_ends_the_talk(void **state)
{
	struct talk talk;

	(void)state;
	open_attached(&talk);
	put_refusal(&talk, PS_PERMISSION, IP_MINOR_HIGH);
	th_assert_status(ip_client_leave(&talk.client), PS_PERMISSION);
	th_assert_said("poolswitchd refuses: too many messages");
	assert_true(talk.client.conn.over);
	close_talk(&talk);
}

static void test_client_unknown_status_is_refused(void **state)
{
	struct talk talk;

	(void)state;
	open_talk(&talk);
	put_refusal(&talk, 200, IP_MINOR_HIGH + 1);
	th_assert_status(attach_new(&talk), PS_REFUSED);
	close_talk(&talk);
}

static void test_client_reads_why_it_was_closed(void **state)
{
	struct talk talk;

	(void)state;
	open_attached(&talk);
	put_refusal(&talk, PS_PERMISSION, IP_MINOR_HIGH);
	close(talk.fds[1]);
	th_assert_status(ip_client_leave(&talk.client), PS_PERMISSION);
	close(talk.fds[0]);
}

static void test_client_closed_daemon_is_peer_gone(void **state)
{
	struct talk talk;

	(void)state;
	open_attached(&talk);
	close(talk.fds[1]);
	th_assert_status(ip_client_leave(&talk.client), PS_PEER_GONE);
	th_assert_said("has closed the connection");
	close(talk.fds[0]);
	open_attached(&talk);
	put_answer(&talk, IP_POLL, 2);
	close(talk.fds[1]);
	th_assert_status(ip_client_leave(&talk.client), PS_PEER_GONE);
	close(talk.fds[0]);
}

static void test_client_silent_daemon_times_out(void **state)
{
	struct talk talk;

	(void)state;
	open_attached(&talk);
	th_assert_status(ip_client_leave(&talk.client), PS_TIMED_OUT);
	th_assert_said("waiting for DID of poolswitchd");
	th_assert_said("in 10000 ms");
	close_talk(&talk);
}

static void leave_wrongly(enum ip_type type, uint32_t seq, const char *text)
{
	struct talk talk;

	open_attached(&talk);
	put_answer(&talk, type, seq);
	th_assert_status(ip_client_leave(&talk.client), PS_PROTOCOL);
	th_assert_said(text);
	close_talk(&talk);
}

static void test_client_answer_to_something_else_is_refused(void **state)
{
	(void)state;
	leave_wrongly(IP_DID, 1, "DID: seq is 1, must be 2");
	leave_wrongly(IP_DID, 3, "DID: seq is 3, must be 2");
	leave_wrongly(IP_DENY, 1, "DENY: seq is 1, must be 2");
	leave_wrongly(IP_PART, 2, "waiting for DID: PART came");
}

static void test_client_numbers_grow_and_end(void **state)
{
	struct ip_message msg;
	struct talk talk;

	(void)state;
	open_attached(&talk);
	talk.client.seq = UINT32_MAX - 1;
	put_answer(&talk, IP_DID, UINT32_MAX);
	th_assert_ok(ip_client_leave(&talk.client));
	hear(&talk, IP_LEAVE, &msg);
	assert_int_equal(msg.body.number.seq, UINT32_MAX);
	th_assert_status(ip_client_leave(&talk.client), PS_PROTOCOL);
	th_assert_said("attach again");
	close_talk(&talk);
}

/* In a child: without room for a pidfd it goes without; WELCOME's socket is
 * missed. */
static void attach_at_the_limit(void *unused)
{
	enum ps_status status;
	struct ip_message msg;
	struct rlimit old;
	struct talk talk;

	(void)unused;
	open_talk(&talk);
	put_welcome(&talk, 0);
	th_set_fd_room(0, &old);
	status = attach_new(&talk);
	setrlimit(RLIMIT_NOFILE, &old);
	th_assert_status(status, PS_FD_LIMIT);
	th_assert_said("waiting for WELCOME of poolswitchd: descriptors were");
	th_assert_ok(ip_conn_receive(&talk.daemon, &msg));
	assert_int_equal(msg.fd_count, 0);
	close_talk(&talk);
}

static void test_client_lost_socket_is_noticed(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(attach_at_the_limit, NULL)), 0);
}

static void test_client_socket_must_be_one(void **state)
{
	struct ip_client client;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	th_assert_status(ip_client_init(&client, fd, 0), PS_INVALID_ARGUMENT);
	close(fd);
}

/* ------------------------------------------------------------------ */
/* Segments                                                            */

static const struct ip_take four = { .count = 4, .wait_ms = 5000 };

static void test_client_take_gets_fds_beside_their_segments(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct ip_message msg;
	struct talk talk;

	(void)state;
	open_attached(&talk);
	put_answer(&talk, IP_GRANT, 2); /* 2, 4 parked, 3 */
	th_assert_ok(ip_client_take(&talk.client, &four, &grant, fds));
	assert_int_equal(grant.count, 3);
	assert_true(fcntl(fds[0], F_GETFD) >= 0);
	assert_int_equal(fds[1], -1);
	assert_true(fcntl(fds[2], F_GETFD) >= 0);
	close(fds[0]);
	close(fds[2]);
	hear(&talk, IP_TAKE, &msg);
	assert_int_equal(msg.body.take.seq, 2);
	assert_int_equal(msg.body.take.wait_ms, 5000);
	close_talk(&talk);
}

/* A GRANT of @count parked segments from @first on. */
static void put_parked(struct talk *talk, uint32_t first, uint32_t count,
		       uint32_t flags)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_GRANT, talk->daemon.minor);
	msg.body.list = (struct ip_list){ 2, flags, count, { 0 } };
	for (uint32_t i = 0; i < count; i++)
		msg.body.list.segment[i] = (first + i) | IP_SEGMENT_PARKED;
	put(talk, &msg);
}

static void test_client_take_goes_on_while_there_is_more(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct talk talk;

	(void)state;
	open_attached(&talk);
	put_parked(&talk, 0, 3, IP_LIST_MORE);
	put_parked(&talk, 3, 1, 0);
	th_assert_ok(ip_client_take(&talk.client, &four, &grant, fds));
	assert_int_equal(grant.flags, IP_LIST_MORE);
	th_assert_ok(ip_client_take(&talk.client, NULL, &grant, fds));
	assert_int_equal(grant.count, 1);
	assert_int_equal(grant.flags, 0);
	close_talk(&talk);
}

static void test_client_grant_of_too_many_is_refused(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct talk talk;

	(void)state;
	open_attached(&talk);
	put_parked(&talk, 0, 3, IP_LIST_MORE);
	put_parked(&talk, 3, 2, 0);
	th_assert_ok(ip_client_take(&talk.client, &four, &grant, fds));
	th_assert_status(ip_client_take(&talk.client, NULL, &grant, fds),
			 PS_PROTOCOL);
	th_assert_said("GRANT: count is 2, must be at most 1");
	close_talk(&talk);
}

static void test_client_denied_take_names_the_numbers(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct talk talk;

	(void)state;
	open_attached(&talk);
	put_denial(&talk, 2, PS_AGAIN);
	th_assert_status(ip_client_take(&talk.client, &four, &grant, fds),
			 PS_AGAIN);
	th_assert_said("4 segments are wanted, 2 are free");
	put_answer(&talk, IP_DID, 3);
	th_assert_ok(ip_client_leave(&talk.client)); /* the talk goes on */
	close_talk(&talk);
}

/* The daemon waits for others as long as it was told to. */
static void test_client_take_waits_as_long_as_the_daemon(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct talk talk;

	(void)state;
	open_attached(&talk);
	th_assert_status(ip_client_take(&talk.client, &four, &grant, fds),
			 PS_TIMED_OUT);
	th_assert_said("in 15000 ms");
	talk.client.conn.timeout_ms = INT32_MAX;
	th_assert_status(ip_client_take(&talk.client, &four, &grant, fds),
			 PS_TIMED_OUT);
	th_assert_said("in 2147483647 ms");
	close_talk(&talk);
}

static void test_client_gives_many_in_several_messages(void **state)
{
	uint32_t segments[IP_LIST_MAX + 1];
	struct ip_message msg;
	struct talk talk;

	(void)state;
	open_attached(&talk);
	for (uint32_t i = 0; i <= IP_LIST_MAX; i++)
		segments[i] = i;
	put_answer(&talk, IP_DID, 2);
	put_answer(&talk, IP_DID, 3);
	th_assert_ok(
		ip_client_give(&talk.client, segments, IP_LIST_MAX + 1, true));
	hear(&talk, IP_GIVE, &msg);
	assert_int_equal(msg.body.list.count, IP_LIST_MAX);
	assert_int_equal(msg.body.list.flags, IP_LIST_PARKED);
	hear(&talk, IP_GIVE, &msg);
	assert_int_equal(msg.body.list.count, 1);
	assert_int_equal(msg.body.list.segment[0], IP_LIST_MAX);
	close_talk(&talk);
}

static void test_client_giving_nothing_says_nothing(void **state)
{
	struct talk talk;

	(void)state;
	open_attached(&talk);
	th_assert_ok(ip_client_give(&talk.client, NULL, 0, false));
	th_assert_receive(&talk.daemon, PS_TIMED_OUT);
	close_talk(&talk);
}

static void test_client_give_stops_at_a_denial(void **state)
{
	uint32_t segments[IP_LIST_MAX + 1];
	struct talk talk;

	(void)state;
	open_attached(&talk);
	for (uint32_t i = 0; i <= IP_LIST_MAX; i++)
		segments[i] = i;
	put_denial(&talk, 2, PS_DEVICE_LOST);
	th_assert_status(
		ip_client_give(&talk.client, segments, IP_LIST_MAX + 1, false),
		PS_DEVICE_LOST);
	assert_int_equal(talk.client.seq, 2);
	close_talk(&talk);
}

static void test_client_need_gets_fds_in_order(void **state)
{
	struct talk talk;
	bool write = false;
	int fds[2];

	(void)state;
	open_attached(&talk);
	put_answer(&talk, IP_PART, 2);
	th_assert_ok(ip_client_need(&talk.client, 0, 2, &write, fds));
	assert_true(write);
	assert_true(fcntl(fds[0], F_GETFD) >= 0);
	close(fds[0]);
	close(fds[1]);
	close_talk(&talk);
}

static void test_client_part_of_other_segments_is_refused(void **state)
{
	struct talk talk;
	bool write;
	int fds[3];

	(void)state;
	open_attached(&talk);
	put_answer(&talk, IP_PART, 2);
	th_assert_status(ip_client_need(&talk.client, 1, 2, &write, fds),
			 PS_PROTOCOL);
	th_assert_said("PART: has 2 segments from 0, must be 2 from 1");
	put_answer(&talk, IP_PART, 3);
	th_assert_status(ip_client_need(&talk.client, 0, 3, &write, fds),
			 PS_PROTOCOL);
	close_talk(&talk);
}

static void test_client_unsayable_request_is_not_sent(void **state)
{
	struct talk talk;
	bool write;
	int fds[1];

	(void)state;
	open_attached(&talk);
	th_assert_status(ip_client_need(&talk.client, 0, 0, &write, fds),
			 PS_INVALID_ARGUMENT);
	th_assert_receive(&talk.daemon, PS_TIMED_OUT);
	close_talk(&talk);
}

/* ------------------------------------------------------------------ */
/* Questions                                                           */

/* An answer of @said bytes in a file of @bytes. */
static void put_text(struct talk *talk, const char *text, size_t bytes,
		     uint32_t said)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_ANSWER, talk->daemon.minor);
	msg.body.answer = (struct ip_answer){ 1, said };
	msg.fd_count = 1;
	msg.fds[0] = memfd_create("answer", MFD_CLOEXEC);
	assert_int_equal(write(msg.fds[0], text, bytes), (ssize_t)bytes);
	put(talk, &msg);
}

static void ask(struct talk *talk, enum ps_status expected, const char *said)
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
	struct talk talk;

	(void)state;
	open_talk(&talk);
	put_text(&talk, "{\"a\":1}", 7, 7);
	th_rig.most = 0;
	ask(&talk, PS_OK, "{\"a\":1}");
	hear(&talk, IP_ASK, &msg);
	assert_int_equal(msg.body.ask.seq, 1);
	assert_int_equal(msg.body.ask.question, IP_ASK_STATUS);
	close_talk(&talk);
}

static void ask_wrongly(const char *text, size_t bytes, uint32_t said,
			const char *expected)
{
	struct talk talk;

	open_talk(&talk);
	put_text(&talk, text, bytes, said);
	ask(&talk, PS_PROTOCOL, expected);
	close_talk(&talk);
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
	struct talk talk;

	(void)state;
	open_talk(&talk);
	answer_init(&talk, IP_ANSWER, 1, &msg);
	put(&talk, &msg); /* /dev/null */
	ask(&talk, PS_PROTOCOL, "the descriptor is no file");
	close_talk(&talk);
}

static void ask_failing(enum th_call call, int error, enum ps_status expected,
			const char *said)
{
	struct talk talk;

	open_talk(&talk);
	put_text(&talk, "{}", 2, 2);
	th_fail_at(call, 1, error);
	ask(&talk, expected, said);
	close_talk(&talk);
}

static void test_client_failing_calls_of_a_question_are_named(void **state)
{
	(void)state;
	ask_failing(TH_PREAD, EINTR, PS_OK, "{}");
	ask_failing(TH_PREAD, EIO, PS_SYSTEM, "reading poolswitchd's answer");
	ask_failing(TH_MALLOC, ENOMEM, PS_HOST_MEMORY, "answer of 2 bytes");
}

static void test_client_denied_question_names_the_reason(void **state)
{
	struct talk talk;

	(void)state;
	open_talk(&talk);
	put_denial(&talk, 1, PS_PERMISSION);
	ask(&talk, PS_PERMISSION, "poolswitchd: 4 segments");
	close_talk(&talk);
}

#define RIGGED(fn) TH_TEST_SETUP(fn, th_rig_reset, th_rig_reset)

static const struct th_test tests[] = {
	RIGGED(test_client_attach_brings_the_events_socket),
	RIGGED(test_client_attach_sends_its_own_pidfd),
	RIGGED(test_client_resumes_with_its_id),
	RIGGED(test_client_welcome_to_somebody_else_is_refused),
	RIGGED(test_client_older_daemon_is_talked_to_in_its_minor),
	RIGGED(test_client_of_an_older_minor_attaches),
	RIGGED(test_client_welcome_of_a_later_minor_is_a_mismatch),
	RIGGED(test_client_minor_that_changes_is_refused),
	RIGGED(test_client_denial_keeps_its_status_and_text),
	RIGGED(test_client_refusal_ends_the_talk),
	RIGGED(test_client_unknown_status_is_refused),
	RIGGED(test_client_reads_why_it_was_closed),
	RIGGED(test_client_closed_daemon_is_peer_gone),
	RIGGED(test_client_silent_daemon_times_out),
	RIGGED(test_client_answer_to_something_else_is_refused),
	RIGGED(test_client_numbers_grow_and_end),
	RIGGED(test_client_lost_socket_is_noticed),
	RIGGED(test_client_socket_must_be_one),
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

TH_MAIN("client", tests)
