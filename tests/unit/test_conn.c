/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The connection: short reads and writes, deadlines, descriptors, credentials,
 * and every system call that it makes failing. The calls are linked through
 * the __wrap functions below; time is pretended, nothing sleeps.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/conn.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_ends.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

#define NOBODY 65534u

/* ------------------------------------------------------------------ */
/* Messages                                                            */

static void test_conn_message_arrives_with_its_fds(void **state)
{
	struct ip_message msg;
	struct th_ends ends;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		th_open_ends(th_socket_types[i], &ends);
		th_send_segments(&ends);
		th_assert_ok(ip_conn_receive(&ends.receiver, &msg));
		assert_int_equal(msg.type, IP_SEGMENTS);
		assert_int_equal(msg.body.segments.first, 2);
		assert_int_equal(msg.fd_count, 2);
		assert_int_equal(fcntl(msg.fds[0], F_GETFD), FD_CLOEXEC);
		assert_int_equal(fcntl(msg.fds[1], F_GETFD), FD_CLOEXEC);
		ip_message_done(&msg);
		th_close_ends(&ends);
	}
}

static void test_conn_253_fds_arrive_in_order(void **state)
{
	struct ip_message msg;
	struct th_ends ends;
	int fds[2];
	char byte;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	th_socketpair(SOCK_STREAM, fds);
	th_sample(IP_SEGMENTS, &msg);
	msg.body.segments.count = msg.fd_count = IP_MESSAGE_FDS;
	for (unsigned int i = 0; i < msg.fd_count; i++)
		msg.fds[i] = fds[i == 252];
	th_assert_ok(ip_conn_send(&ends.sender, &msg));
	th_assert_ok(ip_conn_receive(&ends.receiver, &msg));
	assert_int_equal(msg.fd_count, IP_MESSAGE_FDS);
	th_send_bytes(msg.fds[252], "x", 1);
	assert_int_equal(recv(fds[0], &byte, 1, MSG_DONTWAIT), 1);
	ip_message_done(&msg);
	close(fds[0]);
	close(fds[1]);
	th_close_ends(&ends);
}

static void test_conn_stream_is_not_read_beyond_a_message(void **state)
{
	struct th_ends ends;
	char own[6];

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	th_send_segments(&ends);
	th_send_bytes(ends.fds[0], "hello", 6);
	th_assert_receive(&ends.receiver, PS_OK);
	assert_int_equal(recv(ends.fds[1], own, sizeof(own), MSG_DONTWAIT), 6);
	assert_string_equal(own, "hello");
	th_close_ends(&ends);
}

static void test_conn_flags_of_the_socket_stay(void **state)
{
	struct th_ends ends;
	int flags;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	for (int i = 0; i < 2; i++) {
		flags = fcntl(ends.fds[0], F_GETFL) ^ (i ? O_NONBLOCK : 0);
		assert_int_equal(fcntl(ends.fds[0], F_SETFL, flags), 0);
		th_send_segments(&ends);
		th_assert_receive(&ends.receiver, PS_OK);
		assert_int_equal(fcntl(ends.fds[0], F_GETFL), flags);
	}
	th_close_ends(&ends);
}

static void test_conn_credentials_beside_the_fds_are_fine(void **state)
{
	struct th_ends ends;
	int on = 1;

	(void)state;
	th_open_ends(SOCK_SEQPACKET, &ends);
	assert_int_equal(setsockopt(ends.fds[1], SOL_SOCKET, SO_PASSCRED, &on,
				    sizeof(on)),
			 0);
	th_send_segments(&ends);
	th_assert_receive(&ends.receiver, PS_OK);
	th_close_ends(&ends);
}

/* The kernel adds a descriptor of the peer, which is none of the message's. */
static void test_conn_pidfd_beside_the_fds_is_closed(void **state)
{
	struct th_ends ends;
	int on = 1;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	/* Before Linux 6.5 it fails, and there is nothing to be closed. */
	(void)setsockopt(ends.fds[1], SOL_SOCKET, SO_PASSPIDFD, &on,
			 sizeof(on));
	th_send_segments(&ends);
	th_assert_receive(&ends.receiver, PS_OK);
	th_close_ends(&ends);
}

/* ------------------------------------------------------------------ */
/* What a peer may do wrong                                            */

static void receive_wrong(int type, size_t size, size_t fds,
			  enum ps_status expected, const char *text)
{
	uint8_t bytes[IP_MESSAGE_MAX + 100] = { 0 };
	struct th_ends ends;

	th_sample_bytes(IP_SEGMENTS, bytes);
	th_open_ends(type, &ends);
	if (fds > 0)
		th_send_raw(ends.fds[0], bytes, size, fds);
	else if (size > 0)
		th_send_bytes(ends.fds[0], bytes, size);
	shutdown(ends.fds[0], SHUT_WR);
	th_assert_receive(&ends.receiver, expected);
	th_assert_said(text);
	th_close_ends(&ends);
}

static void test_conn_too_many_fds_are_closed(void **state)
{
	(void)state;
	receive_wrong(SOCK_STREAM, 28, 3, PS_PROTOCOL,
		      "3 descriptors came, its header says 2");
	receive_wrong(SOCK_SEQPACKET, 28, 253, PS_PROTOCOL,
		      "253 descriptors came, its header says 2");
}

static void test_conn_too_few_fds_are_closed(void **state)
{
	(void)state;
	receive_wrong(SOCK_STREAM, 28, 1, PS_PROTOCOL,
		      "1 descriptors came, its header says 2");
	receive_wrong(SOCK_SEQPACKET, 28, 0, PS_PROTOCOL,
		      "0 descriptors came, its header says 2");
}

/* A second set with a later byte: more than any message may have. */
static void test_conn_fds_with_a_later_byte_are_counted(void **state)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	struct th_ends ends;

	(void)state;
	th_sample_bytes(IP_SEGMENTS, bytes);
	th_open_ends(SOCK_STREAM, &ends);
	th_send_raw(ends.fds[0], bytes, 10, 253);
	th_send_raw(ends.fds[0], bytes + 10, 18, 4);
	th_assert_receive(&ends.receiver, PS_PROTOCOL);
	th_assert_said("257 descriptors came, its header says 2");
	th_close_ends(&ends);
}

static void test_conn_fds_of_an_empty_packet_are_closed(void **state)
{
	(void)state;
	receive_wrong(SOCK_SEQPACKET, 0, 2, PS_PEER_GONE, "closed");
}

static void test_conn_oversized_packet_is_refused(void **state)
{
	(void)state;
	receive_wrong(SOCK_SEQPACKET, IP_MESSAGE_MAX + 2, 2, PS_PROTOCOL,
		      "longer than the longest message");
	receive_wrong(SOCK_SEQPACKET, 29, 2, PS_PROTOCOL,
		      "has 29 bytes, its header says 28");
}

static void test_conn_wrong_header_on_a_stream_is_refused(void **state)
{
	uint8_t bytes[IP_HEADER_BYTES] = "GET / HTTP/1.1\r\n";
	struct th_ends ends;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	th_send_raw(ends.fds[0], bytes, sizeof(bytes), 2);
	th_assert_receive(&ends.receiver, PS_PROTOCOL);
	th_assert_said("the peer is not poolswitch");
	th_close_ends(&ends);
}

static void test_conn_end_before_a_message_is_peer_gone(void **state)
{
	(void)state;
	receive_wrong(SOCK_STREAM, 0, 0, PS_PEER_GONE, "closed");
	receive_wrong(SOCK_SEQPACKET, 0, 0, PS_PEER_GONE, "closed");
}

static void test_conn_end_in_a_message_is_peer_gone(void **state)
{
	char text[40];

	(void)state;
	for (size_t size = 1; size < 28; size++) {
		snprintf(text, sizeof(text), "after %zu bytes", size);
		receive_wrong(SOCK_STREAM, size, 2, PS_PEER_GONE, text);
		receive_wrong(SOCK_SEQPACKET, size, 2, PS_PROTOCOL, "bytes");
	}
}

static void test_conn_send_to_a_closed_peer_is_peer_gone(void **state)
{
	struct ip_message msg;
	struct th_ends ends;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		th_open_ends(th_socket_types[i], &ends);
		close(ends.fds[1]);
		th_sample(IP_OFFER, &msg);
		th_assert_status(ip_conn_send(&ends.sender, &msg),
				 PS_PEER_GONE);
		close(ends.fds[0]);
	}
}

/* The peer closed with our message unread, which resets the connection. */
static void test_conn_last_words_outlive_a_reset(void **state)
{
	struct ip_message msg;
	struct th_ends ends;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		th_open_ends(th_socket_types[i], &ends);
		th_sample(IP_OFFER, &msg);
		th_assert_ok(ip_conn_send(&ends.sender, &msg));
		th_sample(IP_REFUSE, &msg);
		th_assert_ok(ip_conn_send(&ends.receiver, &msg));
		close(ends.fds[1]);
		th_assert_ok(ip_conn_receive(&ends.sender, &msg));
		assert_int_equal(msg.type, IP_REFUSE);
		close(ends.fds[0]);
	}
}

/* ------------------------------------------------------------------ */
/* The limit of open files                                             */

/* In a child: there is room for none or one of two descriptors. */
static void receive_at_the_limit(void *type)
{
	struct th_ends ends;
	struct ip_message msg;
	struct rlimit old;
	size_t open_before;
	enum ps_status status;

	for (size_t room = 0; room < 2; room++) {
		th_open_ends(*(int *)type, &ends);
		th_send_segments(&ends);
		open_before = th_open_fds();
		th_set_fd_room(room, &old);
		status = ip_conn_receive(&ends.receiver, &msg);
		setrlimit(RLIMIT_NOFILE, &old);
		th_assert_status(status, PS_FD_LIMIT);
		th_assert_said("descriptors were lost on arrival");
		th_assert_said("RLIMIT_NOFILE");
		assert_int_equal(th_open_fds(), open_before);
		th_close_ends(&ends);
	}
}

static void test_conn_fds_lost_at_the_limit_are_noticed(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		int type = th_socket_types[i];

		assert_int_equal(th_wait(th_fork(receive_at_the_limit, &type)),
				 0);
	}
}

static void test_conn_room_for_fds_counts_open_ones(void **state)
{
	uint64_t before;
	uint64_t after;
	uint64_t limit;
	int fds[2];

	(void)state;
	th_assert_ok(ip_fd_room(&before, &limit));
	th_socketpair(SOCK_STREAM, fds);
	th_assert_ok(ip_fd_room(&after, &limit));
	assert_true(before == after + 2);
	assert_true(limit >= before);
	close(fds[0]);
	close(fds[1]);
}

static void no_room(void *unused)
{
	uint64_t limit;
	uint64_t room = 1;
	struct rlimit old;
	enum ps_status status;

	(void)unused;
	th_set_fd_room(0, &old);
	status = ip_fd_room(&room, &limit);
	setrlimit(RLIMIT_NOFILE, &old);
	th_assert_ok(status);
	assert_true(room == 0);
}

static void test_conn_room_at_the_limit_is_none(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(no_room, NULL)), 0);
}

/* ------------------------------------------------------------------ */
/* Which sockets, which peers                                          */

static void refuse_socket(int fd, const char *text)
{
	struct ip_conn conn;

	th_assert_status(ip_conn_init(&conn, fd, IP_SENDER, 0, 0),
			 PS_INVALID_ARGUMENT);
	th_assert_said(text);
	if (fd >= 0)
		close(fd);
}

static void test_conn_what_is_no_socket_is_refused(void **state)
{
	(void)state;
	refuse_socket(open("/dev/null", O_RDWR | O_CLOEXEC), "not a socket");
	refuse_socket(-1, "not a socket");
}

static void test_conn_other_families_are_refused(void **state)
{
	(void)state;
	refuse_socket(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
		      "of address family 2, must be AF_UNIX (1)");
}

static void test_conn_datagram_socket_is_refused(void **state)
{
	int fds[2];

	(void)state;
	th_socketpair(SOCK_DGRAM, fds);
	refuse_socket(fds[0], "of type 2, must be SOCK_STREAM");
	close(fds[1]);
}

static void test_conn_unconnected_socket_is_refused(void **state)
{
	(void)state;
	refuse_socket(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
		      "not connected");
}

static void test_conn_negative_timeout_is_refused(void **state)
{
	struct ip_conn conn;
	int fds[2];

	(void)state;
	th_socketpair(SOCK_STREAM, fds);
	th_assert_status(ip_conn_init(&conn, fds[0], IP_SENDER, 0, -2),
			 PS_INVALID_ARGUMENT);
	th_assert_said("timeout is -2 ms");
	close(fds[0]);
	close(fds[1]);
}

static void test_conn_same_user_is_accepted(void **state)
{
	struct th_ends ends;

	(void)state;
	th_open_ends(SOCK_STREAM, &ends);
	assert_int_equal(ends.sender.peer_pid, getpid());
	assert_int_equal(ends.sender.peer_uid, geteuid());
	assert_int_equal(ends.sender.timeout_ms, IP_TIMEOUT_DEFAULT_MS);
	th_close_ends(&ends);
}

/* A pair whose ends both carry the credentials of user @uid. */
static void open_pair_as(uid_t uid, int fds[2])
{
	assert_int_equal(seteuid(uid), 0);
	th_socketpair(SOCK_STREAM, fds);
	assert_int_equal(seteuid(0), 0);
}

static void meet_other_user(void *unused)
{
	struct ip_conn conn;
	int fds[2];

	(void)unused;
	open_pair_as(NOBODY, fds);
	th_assert_status(ip_conn_init(&conn, fds[0], IP_SENDER, 0, 0),
			 PS_PERMISSION);
	th_assert_said("runs as user 65534, must be 0");
	assert_int_equal(conn.fd, fds[0]); /* so that a refusal can be sent */
	th_assert_ok(
		ip_conn_init(&conn, fds[0], IP_SENDER, PS_PEER_ANY_USER, 0));
}

static void test_conn_other_user_is_refused_unless_wanted(void **state)
{
	(void)state;
	if (geteuid() != 0)
		th_skip("not root: cannot be another user");
	assert_int_equal(th_wait(th_fork(meet_other_user, NULL)), 0);
}

static void meet_root(void *unused)
{
	struct ip_conn conn;
	int fds[2];

	(void)unused;
	th_socketpair(SOCK_STREAM, fds);
	assert_int_equal(setuid(NOBODY), 0);
	th_assert_ok(ip_conn_init(&conn, fds[0], IP_RECEIVER, 0, 0));
	assert_int_equal(conn.peer_uid, 0);
}

static void test_conn_root_is_accepted(void **state)
{
	(void)state;
	if (geteuid() != 0)
		th_skip("not root: cannot be another user");
	assert_int_equal(th_wait(th_fork(meet_root, NULL)), 0);
}

static const struct th_test tests[] = {
	TH_TEST(test_conn_message_arrives_with_its_fds),
	TH_TEST(test_conn_253_fds_arrive_in_order),
	TH_TEST(test_conn_stream_is_not_read_beyond_a_message),
	TH_TEST(test_conn_flags_of_the_socket_stay),
	TH_TEST(test_conn_credentials_beside_the_fds_are_fine),
	TH_TEST(test_conn_pidfd_beside_the_fds_is_closed),
	TH_TEST(test_conn_too_many_fds_are_closed),
	TH_TEST(test_conn_too_few_fds_are_closed),
	TH_TEST(test_conn_fds_with_a_later_byte_are_counted),
	TH_TEST(test_conn_fds_of_an_empty_packet_are_closed),
	TH_TEST(test_conn_oversized_packet_is_refused),
	TH_TEST(test_conn_wrong_header_on_a_stream_is_refused),
	TH_TEST(test_conn_end_before_a_message_is_peer_gone),
	TH_TEST(test_conn_end_in_a_message_is_peer_gone),
	TH_TEST(test_conn_send_to_a_closed_peer_is_peer_gone),
	TH_TEST(test_conn_last_words_outlive_a_reset),
	TH_TEST(test_conn_fds_lost_at_the_limit_are_noticed),
	TH_TEST(test_conn_room_for_fds_counts_open_ones),
	TH_TEST(test_conn_room_at_the_limit_is_none),
	TH_TEST(test_conn_what_is_no_socket_is_refused),
	TH_TEST(test_conn_other_families_are_refused),
	TH_TEST(test_conn_datagram_socket_is_refused),
	TH_TEST(test_conn_unconnected_socket_is_refused),
	TH_TEST(test_conn_negative_timeout_is_refused),
	TH_TEST(test_conn_same_user_is_accepted),
	TH_TEST(test_conn_other_user_is_refused_unless_wanted),
	TH_TEST(test_conn_root_is_accepted),
};

TH_MAIN("conn", tests)
