/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client and a daemon that is pretended: what it says lies in the socket
 * before it is asked, and what it was asked is read afterwards.
 */
#ifndef TESTS_SUPPORT_IPC_DAEMON_TALK_H
#define TESTS_SUPPORT_IPC_DAEMON_TALK_H

#include "ipc/client.h"
#include "tests/support/ipc_ends.h"
#include "tests/support/rigged_calls.h"

struct th_daemon_talk {
	int fds[2];
	struct ip_client client; /* at fds[0] */
	struct ip_conn daemon;   /* at fds[1] */
};

static inline void th_open_talk(struct th_daemon_talk *talk)
{
	th_socketpair(SOCK_SEQPACKET, talk->fds);
	th_assert_ok(ip_client_init(&talk->client, talk->fds[0],
				    PS_TIMEOUT_DEFAULT));
	th_assert_ok(
		ip_conn_init(&talk->daemon, talk->fds[1], IP_DAEMON, 0, 0));
	th_rig.no_waiting = true;
}

static inline void th_close_talk(struct th_daemon_talk *talk)
{
	close(talk->fds[0]);
	close(talk->fds[1]);
}

/* Takes the message's descriptors with it. */
static inline void th_put_message(struct th_daemon_talk *talk,
				  struct ip_message *msg)
{
	th_assert_ok(ip_conn_send(&talk->daemon, msg));
	ip_message_done(msg);
}

/* The sample as the answer to request @seq, with files for descriptors. */
static inline void th_answer_init(struct th_daemon_talk *talk,
				  enum ip_type type, uint32_t seq,
				  struct ip_message *msg)
{
	th_sample(type, msg);
	msg->minor = talk->daemon.minor;
	msg->body.number.seq = seq;
	for (unsigned int i = 0; i < msg->fd_count; i++)
		msg->fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static inline void th_put_answer(struct th_daemon_talk *talk, enum ip_type type,
				 uint32_t seq)
{
	struct ip_message msg;

	th_answer_init(talk, type, seq, &msg);
	th_put_message(talk, &msg);
}

static inline void th_put_denial(struct th_daemon_talk *talk, uint32_t seq,
				 enum ps_status status)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_DENY, talk->daemon.minor);
	ip_deny_set(&msg, seq, status, "4 segments are wanted, 2 are free");
	th_put_message(talk, &msg);
}

/* The next request, which must be of @type. */
static inline void th_hear(struct th_daemon_talk *talk, enum ip_type type,
			   struct ip_message *msg)
{
	th_assert_ok(ip_conn_receive(&talk->daemon, msg));
	ip_message_done(msg);
	assert_int_equal(msg->type, type);
}

static inline void th_put_welcome(struct th_daemon_talk *talk, uint32_t resumed)
{
	struct ip_message msg;

	th_answer_init(talk, IP_WELCOME, 1, &msg);
	msg.body.welcome.resumed = resumed;
	th_put_message(talk, &msg);
}

static inline enum ps_status th_attach_new(struct th_daemon_talk *talk)
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
static inline void th_open_attached(struct th_daemon_talk *talk)
{
	struct ip_message msg;

	th_open_talk(talk);
	th_put_welcome(talk, 0);
	th_assert_ok(th_attach_new(talk));
	th_hear(talk, IP_ATTACH, &msg);
}

#endif /* TESTS_SUPPORT_IPC_DAEMON_TALK_H */
