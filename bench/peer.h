/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Processes of a benchmark: the same program, executed anew with --role, at
 * the other end of a socket. A fresh process has no CUDA state of ours.
 *
 * The role's text carries the child's descriptors: "name:socket:link". They
 * are inheritable only while that child is started, so that no other process
 * holds an end and an ended peer is seen as such.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include "bench/bench.h"

#include <sys/types.h>

struct bn_peer {
	pid_t pid;
	int socket; /* to the child; -1 after bn_peer_join() */
};

/* @link: one more descriptor for the child, or -1; stays the caller's. */
bool bn_peer_start(const char *role, int link, struct bn_peer *peer_out);

/* Closes the socket, which tells the child to end, and waits for it. False
 * when it failed, which it has explained itself. NULL pid: true. */
bool bn_peer_join(struct bn_peer *peer);

/* In a child: is this its role? Then its descriptors. */
bool bn_role_is(const struct bn_options *options, const char *role,
		int *socket_out, int *link_out);

/* A connected pair, close-on-exec. */
bool bn_socket_pair(int ends_out[2]);

/* All of it, or false; the peer's end is a failure too. */
bool bn_send(int socket, const void *data, size_t size);
bool bn_recv(int socket, void *data, size_t size);
/* The same without sleeping: burns a processor for a shorter way. */
bool bn_recv_spin(int socket, void *data, size_t size);

/* One descriptor a message; the received one is the caller's. */
bool bn_send_fd(int socket, int fd);
bool bn_recv_fd(int socket, int *fd_out);

#endif /* BENCH_PEER_H */
