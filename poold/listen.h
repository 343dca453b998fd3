/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The socket that clients connect to. */
#ifndef POOLD_LISTEN_H
#define POOLD_LISTEN_H

#include "poold/options.h"

/*
 * Binds options->socket (SOCK_SEQPACKET, non-blocking), with its mode, owner
 * and group set before anybody can connect. A stale socket (nobody listens) is
 * replaced; a live one is PS_ALREADY_RESERVED with the pid that has it; what
 * is no socket is never removed. Makes the last folder of the path when it is
 * missing: for the daemon's user alone, or passable to those whom the mode lets
 * in. Other failures: PS_PERMISSION, PS_INVALID_ARGUMENT,
 * PS_SYSTEM (disk full ...).
 */
enum ps_status pd_listen(const struct pd_options *options, int *fd_out);
/* Whoever asks for the holder of the socket gets this process from now on:
 * of a restarted half that was handed the socket. */
void pd_listen_renew(int fd);
/* Nobody can connect any more. Removes the path unless somebody else listens
 * there by now. The descriptor stays open. */
void pd_unlisten(const struct pd_options *options, int fd);

/* Writes the pid file whole or not at all (a rename). */
enum ps_status pd_pid_file_write(const char *path);
/* Removes it if it names this process. */
void pd_pid_file_remove(const char *path);

#endif /* POOLD_LISTEN_H */
