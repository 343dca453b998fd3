/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Closing what clients sent. The last close of a descriptor takes as long as
 * its maker likes: a TCP socket that lingers with unsent data, a file whose
 * server does not answer. So threads of their own close what came from
 * clients, and the connections in which descriptors may lie unread.
 *
 * Where none is due none has to come, from Linux 6.16 on: pd_closer_refuse()
 * has the kernel turn away who sends one.
 */
#ifndef POOLD_CLOSER_H
#define POOLD_CLOSER_H

#include "include/poolswitch.h"

/* Starts the threads, and has ipc/ close through them. Once a process.
 * PS_FD_LIMIT, PS_HOST_MEMORY, PS_SYSTEM. */
enum ps_status pd_closer_start(void);

/* Closes, some time; here and now before pd_closer_start(). */
void pd_close_later(int fd);
/* The same of a connection: the peer sees its end at once. */
void pd_hang_up(int socket);

/*
 * No descriptor arrives on this socket, nor on those that are accepted from
 * it, where the kernel can see to that and can tell a peer's pidfd itself.
 */
void pd_closer_refuse(int socket);

#endif /* POOLD_CLOSER_H */
