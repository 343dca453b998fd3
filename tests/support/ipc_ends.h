/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Two connected ends and what the tests of ipc/ do with them. */
#ifndef TESTS_SUPPORT_IPC_ENDS_H
#define TESTS_SUPPORT_IPC_ENDS_H

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/conn.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_samples.h"

struct th_ends {
	int fds[2];
	struct ip_conn sender;   /* at fds[0] */
	struct ip_conn receiver; /* at fds[1] */
};

static const int th_socket_types[] = { SOCK_STREAM, SOCK_SEQPACKET };

static inline void th_open_ends(int type, struct th_ends *ends)
{
	th_socketpair(type, ends->fds);
	th_assert_ok(ip_conn_init(&ends->sender, ends->fds[0], IP_SENDER, 0,
				  PS_TIMEOUT_DEFAULT));
	th_assert_ok(ip_conn_init(&ends->receiver, ends->fds[1], IP_RECEIVER, 0,
				  PS_TIMEOUT_DEFAULT));
}

static inline void th_close_ends(struct th_ends *ends)
{
	close(ends->fds[0]);
	close(ends->fds[1]);
}

/* SEGMENTS with two descriptors that lead to /dev/null. */
static inline void th_segments_init(struct ip_message *msg)
{
	th_sample(IP_SEGMENTS, msg);
	for (unsigned int i = 0; i < msg->fd_count; i++)
		msg->fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static inline void th_send_segments(struct th_ends *ends)
{
	struct ip_message msg;

	th_segments_init(&msg);
	th_assert_ok(ip_conn_send(&ends->sender, &msg));
	ip_message_done(&msg);
}

static inline void th_send_bytes(int fd, const void *data, size_t size)
{
	assert_int_equal(send(fd, data, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* A packet with bytes and @count descriptors, which are closed here. */
static inline void th_send_raw(int fd, const void *data, size_t size,
			       size_t count)
{
	char control[CMSG_SPACE(sizeof(int) * IP_MESSAGE_FDS)] = { 0 };
	struct iovec part = { (void *)(uintptr_t)data, size };
	struct msghdr packet = { .msg_iov = &part, .msg_iovlen = 1 };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct cmsghdr *entry;

	packet.msg_control = control;
	packet.msg_controllen = CMSG_SPACE(sizeof(int) * count);
	entry = CMSG_FIRSTHDR(&packet);
	entry->cmsg_level = SOL_SOCKET;
	entry->cmsg_type = SCM_RIGHTS;
	entry->cmsg_len = CMSG_LEN(sizeof(int) * count);
	for (size_t i = 0; i < count; i++)
		memcpy(CMSG_DATA(entry) + i * sizeof(int), &null, sizeof(int));
	assert_int_equal(sendmsg(fd, &packet, MSG_NOSIGNAL), (ssize_t)size);
	close(null);
}

static inline size_t th_sample_bytes(enum ip_type type, uint8_t *bytes)
{
	struct ip_message msg;
	size_t size = 0;

	th_sample(type, &msg);
	th_assert_ok(ip_message_encode(&msg, bytes, &size));
	return size;
}

static inline void th_assert_said(const char *text)
{
	if (!strstr(bs_fail_text(), text))
		fail_msg("\"%s\" lacks \"%s\"", bs_fail_text(), text);
}

/* Leaves exactly @room numbers: descriptors get the lowest that is free. */
static inline void th_set_fd_room(size_t room, struct rlimit *old_out)
{
	struct rlimit limit;
	int probes[4];

	assert_int_equal(getrlimit(RLIMIT_NOFILE, old_out), 0);
	for (size_t i = 0; i <= room; i++)
		probes[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	limit = *old_out;
	limit.rlim_cur = (rlim_t)probes[room];
	for (size_t i = 0; i <= room; i++)
		close(probes[i]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Receives at @conn, expects @expected, and leaves nothing open. */
static inline void th_assert_receive(struct ip_conn *conn,
				     enum ps_status expected)
{
	size_t open_before = th_open_fds();
	struct ip_message msg;
	enum ps_status status = ip_conn_receive(conn, &msg);

	th_assert_status(status, expected);
	if (status == PS_OK)
		ip_message_done(&msg);
	assert_int_equal(th_open_fds(), open_before);
}

#endif /* TESTS_SUPPORT_IPC_ENDS_H */
