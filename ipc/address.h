/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Where the daemon's socket is looked for. */
#ifndef IPC_ADDRESS_H
#define IPC_ADDRESS_H

#include "include/poolswitch.h"

#define IP_PATH_BYTES 108u /* of sockaddr_un, with the end */
#define IP_PATHS_MAX 3u

struct ip_paths {
	unsigned int count;
	char path[IP_PATHS_MAX][IP_PATH_BYTES];
};

/*
 * The places in their order: @given alone when it is not NULL; else
 * POOLSWITCH_SOCKET alone when it is set and not empty; else
 * $XDG_RUNTIME_DIR/poolswitch/socket, when that is an absolute path, and
 * /run/poolswitch/socket. The environment of a set-user-id program does not
 * count.
 * PS_INVALID_ARGUMENT: a path that is empty or too long.
 */
enum ps_status ip_paths_find(const char *given, struct ip_paths *paths_out);

/* Where a daemon puts its socket: @given, POOLSWITCH_SOCKET,
 * /run/poolswitch/socket for root, else the user's. PS_INVALID_ARGUMENT: too
 * long, empty, or the user has no runtime directory. */
enum ps_status ip_path_for_daemon(const char *given,
				  char path_out[IP_PATH_BYTES]);

/*
 * Connects (SOCK_SEQPACKET, close-on-exec, blocking) to the first place where
 * somebody listens. PS_NO_DAEMON: nobody does; the text names the places, what
 * each said and the command that starts a daemon. PS_PERMISSION: one is there
 * that does not let this user in. PS_TIMED_OUT: one is there that takes no
 * connection within IP_TIMEOUT_DEFAULT_MS. PS_FD_LIMIT, PS_SYSTEM.
 */
enum ps_status ip_connect(const struct ip_paths *paths, int *fd_out,
			  char path_out[IP_PATH_BYTES]);

#endif /* IPC_ADDRESS_H */
