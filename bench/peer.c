/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "bench/peer.h"

#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

bool bn_socket_pair(int ends_out[2])
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
		bs_fail_errno("socketpair");
		return false;
	}
	memcpy(ends_out, ends, sizeof(ends));
	return true;
}

static void set_inherited(int fd, bool inherited)
{
	if (fd >= 0)
		fcntl(fd, F_SETFD, inherited ? 0 : FD_CLOEXEC);
}

/* The child's end of the socket is closed here in any case. */
static bool spawn(const char *role, int socket, int link, pid_t *pid_out)
{
	char text[64];
	char program[] = "bench";
	char option[] = "--role";
	char *argv[] = { program, option, text, NULL };
	int failed;

	snprintf(text, sizeof(text), "%s:%d:%d", role, socket, link);
	set_inherited(socket, true);
	set_inherited(link, true);
	failed = posix_spawn(pid_out, "/proc/self/exe", NULL, NULL, argv,
			     environ);
	set_inherited(link, false);
	close(socket);
	if (failed == 0)
		return true;
	errno = failed;
	bs_fail_errno("starting a process for role %s", role);
	return false;
}

bool bn_peer_start(const char *role, int link, struct bn_peer *peer_out)
{
	struct bn_peer peer = { .socket = -1 };
	int ends[2];

	if (!bn_socket_pair(ends))
		return false;
	peer.socket = ends[0];
	if (!spawn(role, ends[1], link, &peer.pid)) {
		close(ends[0]);
		return false;
	}
	*peer_out = peer;
	return true;
}

bool bn_peer_join(struct bn_peer *peer)
{
	int status = 0;

	if (peer->pid == 0)
		return true;
	close(peer->socket);
	peer->socket = -1;
	while (waitpid(peer->pid, &status, 0) < 0 && errno == EINTR)
		;
	peer->pid = 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool bn_role_is(const struct bn_options *options, const char *role,
		int *socket_out, int *link_out)
{
	size_t length = strlen(role);
	int socket;
	int link;

	if (options->role == NULL || strncmp(options->role, role, length) != 0)
		return false;
	if (sscanf(options->role + length, ":%d:%d", &socket, &link) != 2)
		return false;
	set_inherited(socket, false);
	set_inherited(link, false);
	*socket_out = socket;
	*link_out = link;
	return true;
}

bool bn_send(int socket, const void *data, size_t size)
{
	const char *at = data;
	ssize_t sent;

	while (size > 0) {
		sent = send(socket, at, size, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0) {
			bs_fail_errno("sending to a benchmark process");
			return false;
		}
		at += sent;
		size -= (size_t)sent;
	}
	return true;
}

static bool receive(int socket, void *data, size_t size, int flags)
{
	char *at = data;
	ssize_t got;

	while (size > 0) {
		got = recv(socket, at, size, flags);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got < 0) {
			bs_fail_errno("waiting for a benchmark process");
			return false;
		}
		if (got == 0) {
			bs_fail(PS_PEER_GONE, "a benchmark process ended "
					      "early; it says why above");
			return false;
		}
		at += got;
		size -= (size_t)got;
	}
	return true;
}

bool bn_recv(int socket, void *data, size_t size)
{
	return receive(socket, data, size, 0);
}

bool bn_recv_spin(int socket, void *data, size_t size)
{
	return receive(socket, data, size, MSG_DONTWAIT);
}

bool bn_send_fd(int socket, int fd)
{
	char byte = 0;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	if (sendmsg(socket, &message, MSG_NOSIGNAL) == 1)
		return true;
	bs_fail_errno("sending a descriptor");
	return false;
}

bool bn_recv_fd(int socket, int *fd_out)
{
	char byte;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *header;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) {
		bs_fail_errno("receiving a descriptor");
		return false;
	}
	header = CMSG_FIRSTHDR(&message);
	if (header == NULL || header->cmsg_type != SCM_RIGHTS) {
		bs_fail(PS_PROTOCOL, "a message without its descriptor; raise "
				     "the limit of open files");
		return false;
	}
	memcpy(fd_out, CMSG_DATA(header), sizeof(int));
	return true;
}
