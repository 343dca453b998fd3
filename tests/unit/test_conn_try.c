/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Messages without waiting, as a daemon with many clients sends and receives
 * them, and who may say what to whom there. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/conn.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_ends.h"
#include "tests/support/rigged_calls.h"

struct pair {
	int fds[2];
	struct ip_conn client; /* at fds[0] */
	struct ip_conn daemon; /* at fds[1] */
};

static void open_pair(struct pair *pair)
{
	th_socketpair(SOCK_SEQPACKET, pair->fds);
	th_assert_ok(ip_conn_init(&pair->client, pair->fds[0], IP_CLIENT, 0,
				  PS_TIMEOUT_DEFAULT));
	th_assert_ok(ip_conn_init(&pair->daemon, pair->fds[1], IP_DAEMON, 0,
				  PS_TIMEOUT_DEFAULT));
	th_rig.no_waiting = true;
}

/* Nothing of the above may have waited. */
static void close_pair(struct pair *pair)
{
	assert_int_equal(th_rig.polls, 0);
	close(pair->fds[0]);
	close(pair->fds[1]);
}

/* A sample whose descriptors lead to /dev/null. */
static void real_sample(enum ip_type type, struct ip_message *msg)
{
	th_sample(type, msg);
	for (unsigned int i = 0; i < msg->fd_count; i++)
		msg->fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void try_send(struct ip_conn *conn, enum ip_type type)
{
	struct ip_message msg;

	real_sample(type, &msg);
	th_assert_ok(ip_conn_try_send(conn, &msg));
	ip_message_done(&msg);
}

static void assert_try_receive(struct ip_conn *conn, enum ps_status expected)
{
	size_t open_before = th_open_fds();
	struct ip_message msg;
	enum ps_status status = ip_conn_try_receive(conn, &msg);

	th_assert_status(status, expected);
	if (status == PS_OK)
		ip_message_done(&msg);
	assert_int_equal(th_open_fds(), open_before);
}

/* ------------------------------------------------------------------ */
/* Receiving                                                           */

static void test_conn_nothing_there_is_again(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair);
	assert_try_receive(&pair.daemon, PS_AGAIN);
	close_pair(&pair);
}

static void test_conn_what_is_there_is_received(void **state)
{
	struct ip_message msg;
	struct pair pair;

	(void)state;
	open_pair(&pair);
	try_send(&pair.daemon, IP_GRANT);
	th_assert_ok(ip_conn_try_receive(&pair.client, &msg));
	assert_int_equal(msg.type, IP_GRANT);
	assert_int_equal(msg.fd_count, 2);
	assert_int_equal(fcntl(msg.fds[1], F_GETFD), FD_CLOEXEC);
	ip_message_done(&msg);
	assert_try_receive(&pair.client, PS_AGAIN);
	close_pair(&pair);
}

static void test_conn_closed_end_is_peer_gone_at_once(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair);
	assert_int_equal(shutdown(pair.fds[0], SHUT_RDWR), 0);
	assert_try_receive(&pair.daemon, PS_PEER_GONE);
	close_pair(&pair);
}

/* The peer has closed with a message of ours unread: a reset comes first. */
static void test_conn_last_message_comes_before_the_reset(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair);
	try_send(&pair.daemon, IP_POLL);
	try_send(&pair.client, IP_LEAVE);
	close(pair.fds[0]);
	assert_try_receive(&pair.daemon, PS_OK);
	assert_try_receive(&pair.daemon, PS_PEER_GONE);
	close(pair.fds[1]);
}

static void test_conn_wrong_packet_is_refused_at_once(void **state)
{
	uint8_t bytes[IP_MESSAGE_MAX + 2] = { 0 };
	struct pair pair;

	(void)state;
	open_pair(&pair);
	th_send_raw(pair.fds[0], bytes, 100, 2);
	assert_try_receive(&pair.daemon, PS_PROTOCOL);
	th_send_raw(pair.fds[0], bytes, sizeof(bytes), 2);
	assert_try_receive(&pair.daemon, PS_PROTOCOL);
	th_assert_said("longer than the longest message, 1296 bytes");
	close_pair(&pair);
}

static void test_conn_failing_try_receive_is_system(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair);
	try_send(&pair.daemon, IP_POLL);
	th_fail_at(TH_RECVMSG, 1, ENOMEM);
	assert_try_receive(&pair.client, PS_SYSTEM);
	th_fail_at(TH_RECVMSG, 1, EINTR);
	assert_try_receive(&pair.client, PS_OK);
	close_pair(&pair);
}

/* In a child: it changes the limit. */
static void try_at_the_limit(void *unused)
{
	enum ps_status status;
	struct ip_message msg;
	struct rlimit old;
	struct pair pair;

	(void)unused;
	open_pair(&pair);
	try_send(&pair.daemon, IP_GRANT);
	th_set_fd_room(1, &old);
	status = ip_conn_try_receive(&pair.client, &msg);
	setrlimit(RLIMIT_NOFILE, &old);
	th_assert_status(status, PS_FD_LIMIT);
	th_assert_said("descriptors were lost on arrival, 1 came");
	close_pair(&pair);
}

static void test_conn_fds_lost_without_waiting_are_noticed(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(try_at_the_limit, NULL)), 0);
}

/* ------------------------------------------------------------------ */
/* Sending                                                             */

static void test_conn_full_socket_is_again(void **state)
{
	enum ps_status status;
	struct ip_message msg;
	struct pair pair;
	unsigned int sent = 0;

	(void)state;
	open_pair(&pair);
	real_sample(IP_GRANT, &msg);
	while ((status = ip_conn_try_send(&pair.daemon, &msg)) == PS_OK)
		sent++;
	assert_int_equal(status, PS_AGAIN);
	assert_true(sent > 0);
	for (; sent > 0; sent--)
		assert_try_receive(&pair.client, PS_OK);
	th_assert_ok(ip_conn_try_send(&pair.daemon, &msg));
	ip_message_done(&msg);
	close_pair(&pair);
}

static void try_send_failing(int error, enum ps_status expected)
{
	struct ip_message msg;
	struct pair pair;

	open_pair(&pair);
	real_sample(IP_GRANT, &msg);
	th_fail_at(TH_SENDMSG, 1, error);
	th_assert_status(ip_conn_try_send(&pair.daemon, &msg), expected);
	ip_message_done(&msg);
	close_pair(&pair);
}

static void test_conn_failing_try_send_is_named(void **state)
{
	(void)state;
	try_send_failing(EINTR, PS_OK);
	try_send_failing(EAGAIN, PS_AGAIN);
	try_send_failing(ENOBUFS, PS_SYSTEM);
	th_assert_said("sending GRANT with 2 descriptors");
	try_send_failing(EPIPE, PS_PEER_GONE);
	try_send_failing(ETOOMANYREFS, PS_FD_LIMIT);
}

static void test_conn_unsendable_message_is_not_tried(void **state)
{
	struct ip_message msg;
	struct pair pair;

	(void)state;
	open_pair(&pair);
	th_sample(IP_RECALL, &msg);
	msg.body.recall.count = 0;
	th_assert_status(ip_conn_try_send(&pair.daemon, &msg),
			 PS_INVALID_ARGUMENT);
	assert_try_receive(&pair.client, PS_AGAIN);
	close_pair(&pair);
}

/* ------------------------------------------------------------------ */
/* Sides                                                               */

/* Says @type at an end whose peer takes it for @self. */
static void say_as(enum ip_side self, enum ip_type type,
		   enum ps_status expected)
{
	struct ip_conn listener;
	struct ip_message msg;
	int fds[2];

	th_socketpair(SOCK_SEQPACKET, fds);
	th_assert_ok(ip_conn_init(&listener, fds[0], self, 0, 0));
	real_sample(type, &msg);
	th_assert_ok(ip_conn_try_send(&listener, &msg));
	ip_message_done(&msg);
	listener.fd = fds[1];
	assert_try_receive(&listener, expected);
	close(fds[0]);
	close(fds[1]);
}

static void test_conn_client_and_daemon_hear_each_other_only(void **state)
{
	(void)state;
	say_as(IP_DAEMON, IP_ATTACH, PS_OK);
	say_as(IP_DAEMON, IP_WELCOME, PS_PROTOCOL);
	th_assert_said("WELCOME: comes from the wrong side (client)");
	say_as(IP_CLIENT, IP_WELCOME, PS_OK);
	say_as(IP_CLIENT, IP_ATTACH, PS_PROTOCOL);
	th_assert_said("ATTACH: comes from the wrong side (daemon)");
	say_as(IP_SENDER, IP_ATTACH, PS_PROTOCOL);
	th_assert_said("(receiver)");
	say_as(IP_RECEIVER, IP_ATTACH, PS_PROTOCOL);
	th_assert_said("(sender)");
	say_as(IP_DAEMON, IP_NOTE, PS_PROTOCOL);
}

static void test_conn_halves_hear_each_other_only(void **state)
{
	(void)state;
	say_as(IP_HALF, IP_PIECE, PS_OK);
	say_as(IP_HALF, IP_GIVE, PS_PROTOCOL);
	th_assert_said("GIVE: comes from the wrong side (keeper or agent)");
}

static void test_conn_longest_list_arrives_with_its_fds(void **state)
{
	struct ip_message msg;
	struct pair pair;
	int fd;

	(void)state;
	open_pair(&pair);
	th_sample(IP_GRANT, &msg);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	msg.fd_count = msg.body.list.count = IP_LIST_MAX;
	for (uint32_t i = 0; i < IP_LIST_MAX; i++) {
		msg.body.list.segment[i] = i;
		msg.fds[i] = fd;
	}
	th_assert_ok(ip_conn_try_send(&pair.daemon, &msg));
	close(fd);
	th_assert_ok(ip_conn_try_receive(&pair.client, &msg));
	assert_int_equal(msg.body.list.segment[IP_LIST_MAX - 1], 252);
	assert_int_equal(msg.fd_count, IP_LIST_MAX);
	ip_message_done(&msg);
	close_pair(&pair);
}

#define RIGGED(fn) TH_TEST_SETUP(fn, th_rig_reset, th_rig_reset)

static const struct th_test tests[] = {
	RIGGED(test_conn_nothing_there_is_again),
	RIGGED(test_conn_what_is_there_is_received),
	RIGGED(test_conn_closed_end_is_peer_gone_at_once),
	RIGGED(test_conn_last_message_comes_before_the_reset),
	RIGGED(test_conn_wrong_packet_is_refused_at_once),
	RIGGED(test_conn_failing_try_receive_is_system),
	RIGGED(test_conn_fds_lost_without_waiting_are_noticed),
	RIGGED(test_conn_full_socket_is_again),
	RIGGED(test_conn_failing_try_send_is_named),
	RIGGED(test_conn_unsendable_message_is_not_tried),
	RIGGED(test_conn_client_and_daemon_hear_each_other_only),
	RIGGED(test_conn_halves_hear_each_other_only),
	RIGGED(test_conn_longest_list_arrives_with_its_fds),
};

TH_MAIN("conn_try", tests)
