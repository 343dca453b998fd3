/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The connection when the system calls that it makes fail, are interrupted or
 * move a byte at a time, and when time runs out. Time is pretended: nothing
 * sleeps.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/conn.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_ends.h"
#include "tests/support/rigged_calls.h"

/* ------------------------------------------------------------------ */
/* A byte at a time                                                    */

static void test_conn_byte_by_byte_is_put_together(void **state)
{
	struct th_ends ends;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	th_rig.most = 1; /* both ways */
	th_send_segments(&ends);
	th_assert_receive(&ends.receiver, PS_OK);
	th_close_ends(&ends);
}

static void test_conn_fds_of_a_short_write_go_once(void **state)
{
	struct th_ends ends;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	th_rig.most = 5;
	th_send_segments(&ends);
	th_rig.most = 0;
	th_assert_receive(&ends.receiver, PS_OK);
	th_close_ends(&ends);
}

/* ------------------------------------------------------------------ */
/* Time                                                                */

static void test_conn_silent_peer_times_out(void **state)
{
	uint64_t from;
	struct th_ends ends;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		th_open_ends(th_socket_types[i], &ends);
		th_rig.no_waiting = true;
		from = th_now_ns();
		th_assert_receive(&ends.receiver, PS_TIMED_OUT);
		th_assert_said("sent 0 bytes of a message in 10000 ms");
		assert_true(th_now_ns() - from >= 10000000000u);
		th_close_ends(&ends);
	}
}

/* A byte every 100 ms does not move the deadline. */
static void test_conn_slow_peer_times_out(void **state)
{
	struct th_ends ends;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	th_send_bytes(ends.fds[0], "PSWP\1\0\0", 8);
	ends.receiver.timeout_ms = 350;
	th_rig.no_waiting = true;
	th_rig.drip_fd = ends.fds[0];
	th_assert_receive(&ends.receiver, PS_TIMED_OUT);
	th_assert_said("sent 11 bytes of a message in 350 ms");
	th_close_ends(&ends);
}

static void test_conn_timeout_of_zero_takes_what_is_there(void **state)
{
	struct th_ends ends;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	ends.receiver.timeout_ms = 0;
	th_assert_receive(&ends.receiver, PS_TIMED_OUT);
	th_send_segments(&ends);
	th_assert_receive(&ends.receiver, PS_OK);
	th_close_ends(&ends);
}

static void test_conn_peer_that_does_not_read_times_out(void **state)
{
	enum ps_status status = PS_OK;
	struct ip_message msg;
	struct th_ends ends;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		th_open_ends(th_socket_types[i], &ends);
		th_sample(IP_OFFER, &msg);
		th_rig.no_waiting = true;
		do {
			status = ip_conn_send(&ends.sender, &msg);
		} while (status == PS_OK);
		th_assert_status(status, PS_TIMED_OUT);
		th_assert_said("sending OFFER");
		th_close_ends(&ends);
	}
}

static void test_conn_signals_do_not_move_the_deadline(void **state)
{
	struct th_ends ends;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	th_rig.no_waiting = true;
	th_fail_at(TH_POLL, 1, EINTR);
	th_assert_receive(&ends.receiver, PS_TIMED_OUT);
	assert_int_equal(th_rig.polls, 2);
	th_close_ends(&ends);
}

/* ------------------------------------------------------------------ */
/* System calls that fail                                              */

static void receive_failing(enum th_call call, int error,
			    enum ps_status expected)
{
	struct th_ends ends;

	th_open_ends(SOCK_STREAM, &ends);
	if (call == TH_RECVMSG)
		th_send_segments(&ends);
	th_fail_at(call, 1, error);
	th_assert_receive(&ends.receiver, expected);
	th_close_ends(&ends);
}

static void test_conn_interrupted_receive_goes_on(void **state)
{
	(void)state;
	receive_failing(TH_RECVMSG, EINTR, PS_OK);
	receive_failing(TH_RECVMSG, EAGAIN, PS_OK);
	receive_failing(TH_RECVMSG, ECONNRESET, PS_OK);
}

static void test_conn_failing_receive_is_system(void **state)
{
	(void)state;
	receive_failing(TH_RECVMSG, ENOMEM, PS_SYSTEM);
	th_assert_said("receiving from pid");
}

static void test_conn_failing_poll_is_system(void **state)
{
	(void)state;
	receive_failing(TH_POLL, ENOMEM, PS_SYSTEM);
	th_assert_said("waiting for pid");
}

/* One that is pretended, and the true one of a peer that closed unread. */
static void test_conn_second_reset_is_peer_gone(void **state)
{
	struct ip_message msg;
	struct th_ends ends;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		th_open_ends(th_socket_types[i], &ends);
		th_sample(IP_HELLO, &msg);
		th_assert_ok(ip_conn_send(&ends.receiver, &msg));
		close(ends.fds[0]);
		th_fail_at(TH_RECVMSG, 1, ECONNRESET);
		th_assert_receive(&ends.receiver, PS_PEER_GONE);
		close(ends.fds[1]);
	}
}

/* Fails at each of its receives: nothing that came stays open. */
static void test_conn_nth_receive_failing_leaks_nothing(void **state)
{
	enum ps_status status = PS_SYSTEM;
	struct ip_message msg;
	struct th_ends ends;
	int nth = 0;

	(void)state;
	while (status != PS_OK) {
		th_open_ends(SOCK_STREAM, &ends);
		th_send_segments(&ends);
		th_rig.most = 3;
		th_fail_at(TH_RECVMSG, ++nth, EIO);
		status = ip_conn_receive(&ends.receiver, &msg);
		th_rig.most = 0;
		if (status != PS_OK)
			th_assert_status(status, PS_SYSTEM);
		th_close_ends(&ends);
	}
	ip_message_done(&msg);
	assert_int_equal(nth, 11); /* 6 for the header, 4 for the rest */
}

static void send_failing(int error, enum ps_status expected)
{
	struct ip_message msg;
	struct th_ends ends;

	th_open_ends(SOCK_STREAM, &ends);
	th_segments_init(&msg);
	th_fail_at(TH_SENDMSG, 1, error);
	th_assert_status(ip_conn_send(&ends.sender, &msg), expected);
	ip_message_done(&msg);
	th_close_ends(&ends);
}

static void test_conn_interrupted_send_goes_on(void **state)
{
	(void)state;
	send_failing(EINTR, PS_OK);
	send_failing(EAGAIN, PS_OK);
}

static void test_conn_failing_send_is_named(void **state)
{
	(void)state;
	send_failing(ENOBUFS, PS_SYSTEM);
	th_assert_said("sending SEGMENTS with 2 descriptors");
	send_failing(ECONNRESET, PS_PEER_GONE);
	send_failing(ETOOMANYREFS, PS_FD_LIMIT);
	th_assert_said("ulimit -n");
}

static void test_conn_message_cut_off_in_sending_ends_the_talk(void **state)
{
	struct ip_message msg;
	struct th_ends ends;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	th_segments_init(&msg);
	th_rig.most = 10;
	th_fail_at(TH_SENDMSG, 2, ENOBUFS);
	th_assert_status(ip_conn_send(&ends.sender, &msg), PS_SYSTEM);
	assert_true(ends.sender.over);
	ip_message_done(&msg);
	th_close_ends(&ends);
}

static void test_conn_unsendable_message_is_not_sent(void **state)
{
	struct ip_message msg;
	struct th_ends ends;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	th_sample(IP_DONE, &msg);
	msg.body.done.count = IP_SEGMENTS_MAX + 1;
	th_assert_status(ip_conn_send(&ends.sender, &msg), PS_INVALID_ARGUMENT);
	ends.receiver.timeout_ms = 0;
	th_assert_receive(&ends.receiver, PS_TIMED_OUT);
	th_close_ends(&ends);
}

static void test_conn_each_failing_question_is_an_error(void **state)
{
	struct ip_conn conn;
	int fds[2];

	(void)state;
	th_socketpair(SOCK_STREAM, fds);
	for (int nth = 1; nth <= 3; nth++) {
		th_fail_at(TH_GETSOCKOPT, nth, ENOPROTOOPT);
		th_assert_status(ip_conn_init(&conn, fds[0], IP_SENDER, 0, 0),
				 nth < 3 ? PS_INVALID_ARGUMENT : PS_SYSTEM);
	}
	th_fail_at(TH_GETPEERNAME, 1, ENOTCONN);
	th_assert_status(ip_conn_init(&conn, fds[0], IP_SENDER, 0, 0),
			 PS_INVALID_ARGUMENT);
	close(fds[0]);
	close(fds[1]);
}

static void test_conn_room_that_cannot_be_asked_is_system(void **state)
{
	uint64_t room;

	(void)state;
	th_fail_at(TH_GETRLIMIT, 1, EFAULT);
	th_assert_status(ip_fd_room(&room, &room), PS_SYSTEM);
	th_fail_at(TH_OPENDIR, 1, ENOENT);
	th_assert_status(ip_fd_room(&room, &room), PS_SYSTEM);
	th_assert_said("counting the open files");
}

#define RIGGED(fn) TH_TEST_SETUP(fn, th_rig_reset, th_rig_reset)

static const struct th_test tests[] = {
	RIGGED(test_conn_byte_by_byte_is_put_together),
	RIGGED(test_conn_fds_of_a_short_write_go_once),
	RIGGED(test_conn_silent_peer_times_out),
	RIGGED(test_conn_slow_peer_times_out),
	RIGGED(test_conn_timeout_of_zero_takes_what_is_there),
	RIGGED(test_conn_peer_that_does_not_read_times_out),
	RIGGED(test_conn_signals_do_not_move_the_deadline),
	RIGGED(test_conn_interrupted_receive_goes_on),
	RIGGED(test_conn_failing_receive_is_system),
	RIGGED(test_conn_failing_poll_is_system),
	RIGGED(test_conn_second_reset_is_peer_gone),
	RIGGED(test_conn_nth_receive_failing_leaks_nothing),
	RIGGED(test_conn_interrupted_send_goes_on),
	RIGGED(test_conn_failing_send_is_named),
	RIGGED(test_conn_message_cut_off_in_sending_ends_the_talk),
	RIGGED(test_conn_unsendable_message_is_not_sent),
	RIGGED(test_conn_each_failing_question_is_an_error),
	RIGGED(test_conn_room_that_cannot_be_asked_is_system),
};

TH_MAIN("conn_calls", tests)
