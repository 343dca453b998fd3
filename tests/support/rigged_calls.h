/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * System calls that fail, or do less than they were asked, and a clock that
 * moves without waiting. A program that is linked with --wrap for each of
 * them (rigged_dep in tests/unit) calls these instead of the C library's.
 */
#ifndef TESTS_SUPPORT_RIGGED_CALLS_H
#define TESTS_SUPPORT_RIGGED_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum th_call {
	TH_RECVMSG,
	TH_SENDMSG,
	TH_POLL,
	TH_GETSOCKOPT,
	TH_GETPEERNAME,
	TH_GETRLIMIT,
	TH_OPENDIR,
	TH_SOCKET,
	TH_BIND,
	TH_LISTEN,
	TH_CONNECT,
	TH_SETSOCKOPT,
	TH_PREAD,
	TH_MALLOC,
	TH_CALLS
};

struct th_rig {
	_Atomic int fail_at[TH_CALLS]; /* the n-th call from now; 0: none */
	int error[TH_CALLS];
	size_t most;         /* bytes a message call moves; 0: any */
	bool no_waiting;     /* poll: the whole timeout passes at once */
	int64_t skew_ns;     /* time that passed so */
	int drip_fd;         /* poll: a byte comes here each 100 ms; 0: none */
	unsigned int polls;  /* without waiting */
	long connect_wait_s; /* connect: how long it might have waited */
	int die_fd;          /* who sends here dies ... */
	size_t die_after;    /* ... after so many bytes */
	bool dies;           /* the two count */
	bool died;
};

extern struct th_rig th_rig;

void th_fail_at(enum th_call call, int nth, int error);

/* Setup and teardown of a test: nothing is rigged. */
int th_rig_reset(void **state);

/* The C library's. */
ssize_t __real_sendmsg(int fd, const struct msghdr *packet, int flags);

#endif /* TESTS_SUPPORT_RIGGED_CALLS_H */
