/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A client attaches, resumes and is told no. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/client.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_daemon_talk.h"
#include "tests/support/rigged_calls.h"

/* ------------------------------------------------------------------ */
/* Attaching                                                           */

static void put_refusal(struct th_daemon_talk *talk, uint32_t status,
			uint16_t minor)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_REFUSE, minor);
	ip_refuse_set(&msg, (enum ps_status)status, "too many messages");
	th_put_message(talk, &msg);
}

static void test_client_attach_brings_the_events_socket(void **state)
{
	struct ip_attach attach = { .name = "worker 1", .limit = 7 };
	struct ip_welcome welcome;
	struct ip_message msg;
	struct th_daemon_talk talk;
	int events = -1;

	(void)state;
	th_open_talk(&talk);
	th_put_welcome(&talk, 0);
	th_assert_ok(
		ip_client_attach(&talk.client, &attach, &welcome, &events));
	assert_int_equal(welcome.id, 7);
	assert_int_equal(fcntl(events, F_GETFD), FD_CLOEXEC);
	close(events);
	th_hear(&talk, IP_ATTACH, &msg);
	assert_int_equal(msg.body.attach.seq, 1);
	assert_int_equal(msg.body.attach.minor_low, IP_MINOR_DAEMON);
	assert_int_equal(msg.body.attach.limit, 7);
	assert_int_equal(msg.minor, IP_MINOR_HIGH);
	th_close_talk(&talk);
}

/* It does not end while we live: a pidfd is readable at the end. */
static void test_client_attach_sends_its_own_pidfd(void **state)
{
	char path[64];
	char info[512];
	char wanted[64];
	struct ip_message msg;
	struct th_daemon_talk talk;
	FILE *file;

	(void)state;
	th_open_talk(&talk);
	th_put_welcome(&talk, 0);
	th_assert_ok(th_attach_new(&talk));
	th_assert_ok(ip_conn_receive(&talk.daemon, &msg));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", msg.fds[0]);
	file = fopen(path, "re");
	info[fread(info, 1, sizeof(info) - 1, file)] = '\0';
	fclose(file);
	snprintf(wanted, sizeof(wanted), "Pid:\t%d\n", (int)getpid());
	assert_non_null(strstr(info, wanted));
	ip_message_done(&msg);
	th_close_talk(&talk);
}

static void test_client_resumes_with_its_id(void **state)
{
	struct ip_welcome welcome;
	struct ip_attach attach;
	struct ip_list held;
	struct th_daemon_talk talk;
	int events = -1;

	(void)state;
	th_open_talk(&talk);
	th_attach_init(&attach);
	th_put_welcome(&talk, 1);
	th_put_answer(&talk, IP_HELD, 1);
	th_assert_ok(
		ip_client_attach(&talk.client, &attach, &welcome, &events));
	close(events);
	th_assert_ok(ip_client_held(&talk.client, &held));
	assert_int_equal(held.count, 2);
	assert_int_equal(held.segment[1], 3 | IP_SEGMENT_PARKED);
	th_close_talk(&talk);
}

static void test_client_missing_list_of_a_resumed_one_is_waited_for(void **s)
{
	struct ip_list held = { .count = 99 };
	struct th_daemon_talk talk;

	(void)s;
	th_open_attached(&talk);
	th_assert_status(ip_client_held(&talk.client, &held), PS_TIMED_OUT);
	th_assert_said("waiting for HELD of poolswitchd");
	assert_int_equal(held.count, 99);
	th_close_talk(&talk);
}

static void attach_wrongly(uint64_t id, uint32_t resumed, const char *text)
{
	struct ip_welcome welcome;
	struct ip_attach attach;
	struct th_daemon_talk talk;
	int events = -1;

	th_open_talk(&talk);
	th_attach_init(&attach);
	attach.id = id;
	if (id == 0)
		memset(attach.token, 0, sizeof(attach.token));
	th_put_welcome(&talk, resumed);
	th_assert_status(
		ip_client_attach(&talk.client, &attach, &welcome, &events),
		PS_PROTOCOL);
	th_assert_said(text);
	th_close_talk(&talk);
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
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	talk.daemon.minor = 1;
	th_put_welcome(&talk, 0);
	th_assert_ok(th_attach_new(&talk));
	th_put_answer(&talk, IP_DID, 2);
	th_assert_ok(ip_client_leave(&talk.client));
	th_hear(&talk, IP_ATTACH, &msg);
	assert_int_equal(msg.minor, IP_MINOR_HIGH);
	th_hear(&talk, IP_LEAVE, &msg);
	assert_int_equal(msg.minor, 1);
	th_close_talk(&talk);
}

static void test_client_of_an_older_minor_attaches(void **state)
{
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	talk.client.conn.minor = 1;
	talk.daemon.minor = 1;
	th_put_welcome(&talk, 0);
	th_assert_ok(th_attach_new(&talk));
	th_hear(&talk, IP_ATTACH, &msg);
	assert_int_equal(msg.minor, 1);
	th_close_talk(&talk);
}

static void test_client_welcome_of_a_later_minor_is_a_mismatch(void **state)
{
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	talk.daemon.minor = IP_MINOR_HIGH + 1;
	th_put_welcome(&talk, 0);
	th_assert_status(th_attach_new(&talk), PS_VERSION_MISMATCH);
	th_assert_said("WELCOME: minor version is 5, must be 1 to 4");
	th_close_talk(&talk);
}

static void test_client_minor_that_changes_is_refused(void **state)
{
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	talk.daemon.minor = 1;
	th_put_answer(&talk, IP_DID, 2);
	th_assert_status(ip_client_leave(&talk.client), PS_PROTOCOL);
	th_assert_said("DID: minor version is 1, must be 4 to 4");
	th_close_talk(&talk);
}

/* ------------------------------------------------------------------ */
/* No                                                                  */

static void test_client_denial_keeps_its_status_and_text(void **state)
{
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	th_put_denial(&talk, 1, PS_OUT_OF_MEMORY);
	th_assert_status(th_attach_new(&talk), PS_OUT_OF_MEMORY);
	th_assert_said("poolswitchd: 4 segments are wanted, 2 are free");
	assert_false(talk.client.conn.over);
	th_close_talk(&talk);
}

static void test_client_refusal_ends_the_talk(void **state)
{
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_refusal(&talk, PS_PERMISSION, IP_MINOR_HIGH);
	th_assert_status(ip_client_leave(&talk.client), PS_PERMISSION);
	th_assert_said("poolswitchd refuses: too many messages");
	assert_true(talk.client.conn.over);
	th_close_talk(&talk);
}

static void test_client_unknown_status_is_refused(void **state)
{
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	put_refusal(&talk, 200, IP_MINOR_HIGH + 1);
	th_assert_status(th_attach_new(&talk), PS_REFUSED);
	th_close_talk(&talk);
}

static void test_client_reads_why_it_was_closed(void **state)
{
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_refusal(&talk, PS_PERMISSION, IP_MINOR_HIGH);
	close(talk.fds[1]);
	th_assert_status(ip_client_leave(&talk.client), PS_PERMISSION);
	close(talk.fds[0]);
}

static void test_client_closed_daemon_is_peer_gone(void **state)
{
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	close(talk.fds[1]);
	th_assert_status(ip_client_leave(&talk.client), PS_PEER_GONE);
	th_assert_said("has closed the connection");
	close(talk.fds[0]);
	th_open_attached(&talk);
	th_put_answer(&talk, IP_POLL, 2);
	close(talk.fds[1]);
	th_assert_status(ip_client_leave(&talk.client), PS_PEER_GONE);
	close(talk.fds[0]);
}

static void test_client_silent_daemon_times_out(void **state)
{
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_assert_status(ip_client_leave(&talk.client), PS_TIMED_OUT);
	th_assert_said("waiting for DID of poolswitchd");
	th_assert_said("in 10000 ms");
	th_close_talk(&talk);
}

static void leave_wrongly(enum ip_type type, uint32_t seq, const char *text)
{
	struct th_daemon_talk talk;

	th_open_attached(&talk);
	th_put_answer(&talk, type, seq);
	th_assert_status(ip_client_leave(&talk.client), PS_PROTOCOL);
	th_assert_said(text);
	th_close_talk(&talk);
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
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	talk.client.seq = UINT32_MAX - 1;
	th_put_answer(&talk, IP_DID, UINT32_MAX);
	th_assert_ok(ip_client_leave(&talk.client));
	th_hear(&talk, IP_LEAVE, &msg);
	assert_int_equal(msg.body.number.seq, UINT32_MAX);
	th_assert_status(ip_client_leave(&talk.client), PS_PROTOCOL);
	th_assert_said("attach again");
	th_close_talk(&talk);
}

/* In a child: without room for a pidfd it goes without; WELCOME's socket is
 * missed. */
static void attach_at_the_limit(void *unused)
{
	enum ps_status status;
	struct ip_message msg;
	struct rlimit old;
	struct th_daemon_talk talk;

	(void)unused;
	th_open_talk(&talk);
	th_put_welcome(&talk, 0);
	th_set_fd_room(0, &old);
	status = th_attach_new(&talk);
	setrlimit(RLIMIT_NOFILE, &old);
	th_assert_status(status, PS_FD_LIMIT);
	th_assert_said("waiting for WELCOME of poolswitchd: descriptors were");
	th_assert_ok(ip_conn_receive(&talk.daemon, &msg));
	assert_int_equal(msg.fd_count, 0);
	th_close_talk(&talk);
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

#define RIGGED(fn) TH_TEST_SETUP(fn, th_rig_reset, th_rig_reset)

static const struct th_test tests[] = {
	RIGGED(test_client_attach_brings_the_events_socket),
	RIGGED(test_client_attach_sends_its_own_pidfd),
	RIGGED(test_client_resumes_with_its_id),
	RIGGED(test_client_missing_list_of_a_resumed_one_is_waited_for),
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
};

TH_MAIN("client", tests)
