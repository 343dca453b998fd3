/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Descriptors that are long in closing, as a hostile client may send them. */
#include "tests/support/harness.h"

#include "ipc/wire.h"
#include "poold/closer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_S 2
#define SOON_NS UINT64_C(1000000000)

/* Sockets over loopback, the first of which has sent what nobody reads. */
static void open_lingering(int *full_out, int *peer_out)
{
	const struct linger linger = { 1, LINGER_S };
	struct sockaddr_in name = { .sin_family = AF_INET };
	socklen_t size = sizeof(name);
	static const char bytes[65536];
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int full = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&name, size), 0);
	assert_int_equal(listen(listener, 1), 0);
	getsockname(listener, (struct sockaddr *)&name, &size);
	assert_int_equal(connect(full, (struct sockaddr *)&name, size), 0);
	*peer_out = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	setsockopt(full, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	while (send(full, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(errno, EAGAIN);
	*full_out = full;
}

static void start_closer(void)
{
	if (pd_closer_start() != PS_OK)
		abort();
}

static void await_closed(int peer)
{
	static char bytes[65536];

	while (recv(peer, bytes, sizeof(bytes), 0) > 0)
		;
	close(peer);
}

static void test_closer_lingering_socket_keeps_nobody(void **state)
{
	uint64_t begin;
	int full, peer;

	(void)state;
	open_lingering(&full, &peer);
	begin = th_now_ns();
	pd_close_later(full);
	assert_true(th_now_ns() - begin < SOON_NS);
	await_closed(peer);
}

static void test_closer_closes_what_a_message_brought(void **state)
{
	struct ip_message msg;
	uint64_t begin;
	int peer;

	(void)state;
	ip_message_init(&msg, IP_ATTACH, IP_MINOR_DAEMON);
	open_lingering(&msg.fds[0], &peer);
	msg.fd_count = 1;
	begin = th_now_ns();
	ip_message_done(&msg);
	assert_true(th_now_ns() - begin < SOON_NS);
	await_closed(peer);
}

static void test_closer_hanging_up_is_seen_at_once(void **state)
{
	struct pollfd entry = { .events = POLLIN };
	int pair[2];

	(void)state;
	th_socketpair(SOCK_SEQPACKET, pair);
	pd_hang_up(pair[0]);
	entry.fd = pair[1];
	assert_int_equal(poll(&entry, 1, 0), 1);
	assert_true(entry.revents & POLLHUP);
	while (fcntl(pair[0], F_GETFD) >= 0)
		sched_yield();
	close(pair[1]);
}

static int send_fd(int socket, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec part = { (char[1]){ 0 }, 1 };
	struct msghdr packet = { .msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control) };

	control.align = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET,
					  SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	return sendmsg(socket, &packet, MSG_NOSIGNAL) < 0 ? errno : 0;
}

static void test_closer_refusing_socket_takes_no_descriptor(void **state)
{
	int pair[2], error;

	(void)state;
	th_socketpair(SOCK_SEQPACKET, pair);
	pd_closer_refuse(pair[0]);
	error = send_fd(pair[1], 0);
	close(pair[0]);
	close(pair[1]);
	if (error == 0)
		th_skip("this kernel has no SO_PASSRIGHTS");
	assert_int_equal(error, EPERM);
}

static const struct th_test tests[] = {
	TH_TEST(test_closer_lingering_socket_keeps_nobody),
	TH_TEST(test_closer_closes_what_a_message_brought),
	TH_TEST(test_closer_hanging_up_is_seen_at_once),
	TH_TEST(test_closer_refusing_socket_takes_no_descriptor),
};

TH_MAIN_WARM("closer", tests, start_closer)
