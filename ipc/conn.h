/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Messages over a connected AF_UNIX socket that somebody else brought: stream
 * or seqpacket, blocking or not. The socket's flags are never changed and it
 * is never closed here.
 *
 * Invariants
 *   Not a byte is read beyond the message that was asked for.
 *   Each call returns by its deadline (CLOCK_MONOTONIC), however slowly the
 *   peer sends or reads.
 *   A descriptor that arrived is in the message returned, or closed.
 */
#ifndef IPC_CONN_H
#define IPC_CONN_H

#include "ipc/wire.h"

#include <sys/types.h>

#define IP_TIMEOUT_DEFAULT_MS 10000

/* Nothing to free: it may live on the stack. One thread at a time. */
struct ip_conn {
	int fd;                /* the caller's */
	int type;              /* SOCK_STREAM or SOCK_SEQPACKET */
	unsigned int peer;     /* enum ip_side: who is at the other end */
	int timeout_ms;        /* for each message */
	unsigned int awake_us; /* how long to look for a message before the
				* thread sleeps; 0 at first */
	uint16_t minor;        /* of the messages; lowered at the handshake */
	bool over;             /* a message went out in part, or the peer has
			    * refused: nothing more is to be said */
	pid_t peer_pid;        /* 0: in a process namespace we cannot see */
	uid_t peer_uid;
};

/*
 * Looks at the socket and at who is at the other end. @self: what this side
 * is. @flags: PS_PEER_ANY_USER or 0; other bits are ignored. @timeout_ms:
 * PS_TIMEOUT_DEFAULT, or at least 0.
 *
 * PS_INVALID_ARGUMENT: not a connected AF_UNIX stream or seqpacket socket, or
 * a bad timeout. PS_PERMISSION: the peer's user is neither ours nor root; then
 * *conn is filled in all the same, so that the refusal can be sent.
 */
enum ps_status ip_conn_init(struct ip_conn *conn, int fd, enum ip_side self,
			    unsigned int flags, int timeout_ms);

/* Sends the message with its descriptors, which stay the message's.
 * PS_PEER_GONE, PS_TIMED_OUT, PS_INVALID_ARGUMENT, PS_SYSTEM. */
enum ps_status ip_conn_send(struct ip_conn *conn, const struct ip_message *msg);

/*
 * Receives one message; ip_message_done() it. PS_PEER_GONE (also in the
 * middle of a message), PS_TIMED_OUT, PS_PROTOCOL, PS_VERSION_MISMATCH,
 * PS_FD_LIMIT when descriptors were lost, PS_SYSTEM.
 */
enum ps_status ip_conn_receive(struct ip_conn *conn,
			       struct ip_message *msg_out);

/*
 * The same without waiting, for who has many connections and one thread; for
 * SOCK_SEQPACKET only, where a message goes whole or not at all. PS_AGAIN:
 * the socket is full, or nothing is there; no text is kept then.
 */
enum ps_status ip_conn_try_send(struct ip_conn *conn,
				const struct ip_message *msg);
enum ps_status ip_conn_try_receive(struct ip_conn *conn,
				   struct ip_message *msg_out);

/*
 * After sending has failed: the peer may have refused before it read what we
 * had to say. True: *msg_out is its REFUSE; ip_message_done() it. Does not
 * wait; false keeps the text of the failure.
 */
bool ip_conn_find_refusal(const struct ip_conn *conn,
			  struct ip_message *msg_out);

/* How many more descriptors this process may open now (RLIMIT_NOFILE less
 * what is open), and the limit itself. */
enum ps_status ip_fd_room(uint64_t *room_out, uint64_t *limit_out);

#endif /* IPC_CONN_H */
