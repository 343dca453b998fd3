/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "ipc/claim.h"

#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PREFIX "poolswitch/"
#define UUID_MAX 47u

struct ip_claim {
	int fd; /* holds the name by being open */
};

/* An abstract name: a zero, then the text without an end. */
static socklen_t make_name(const char *gpu_uuid, struct sockaddr_un *name)
{
	int used;

	memset(name, 0, sizeof(*name));
	name->sun_family = AF_UNIX;
	used = snprintf(name->sun_path + 1, sizeof(name->sun_path) - 1,
			PREFIX "%s", gpu_uuid);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			   (size_t)used);
}

static enum ps_status check_uuid(const char *gpu_uuid)
{
	size_t used = strnlen(gpu_uuid, UUID_MAX + 1);

	if (used == 0 || used > UUID_MAX)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a GPU's UUID has %zu characters%s, must be 1 "
			       "to %u",
			       used, used > UUID_MAX ? " or more" : "",
			       UUID_MAX);
	for (size_t i = 0; i < used; i++) {
		if (gpu_uuid[i] <= ' ' || gpu_uuid[i] > '~')
			return bs_fail(PS_INVALID_ARGUMENT,
				       "byte %zu of a GPU's UUID is 0x%02x, "
				       "must be printable ASCII",
				       i, (unsigned int)(uint8_t)gpu_uuid[i]);
	}
	return PS_OK;
}

static enum ps_status socket_failed(void)
{
	if (errno == EMFILE || errno == ENFILE)
		return bs_fail(PS_FD_LIMIT,
			       "claiming the GPU needs one more open file, the "
			       "limit is reached; raise it (ulimit -n)");
	return bs_fail_errno("claiming the GPU");
}

/* 0 when it cannot be known: it may just be going. */
static int ask_holder(const struct sockaddr_un *name, socklen_t size)
{
	socklen_t bytes = sizeof(struct ucred);
	struct ucred holder = { 0, 0, 0 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return 0;
	/* The kernel answers for a listener, which need not accept. */
	if (connect(fd, (const struct sockaddr *)name, size) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &holder, &bytes) != 0)
		holder.pid = 0;
	close(fd);
	return (int)holder.pid;
}

static enum ps_status name_taken(const char *gpu_uuid,
				 const struct sockaddr_un *name, socklen_t size)
{
	int pid = ask_holder(name, size);

	if (pid == 0)
		return bs_fail(PS_ALREADY_RESERVED,
			       "another process, which could not be asked for "
			       "its pid, has a pool on %s: end it (ss -xlp "
			       "names it), or receive its pool",
			       gpu_uuid);
	return bs_fail(PS_ALREADY_RESERVED,
		       "process %d has a pool on %s: end it and the children "
		       "that it forked, or receive its pool",
		       pid, gpu_uuid);
}

enum ps_status ip_claim_take(const char *gpu_uuid, struct ip_claim **claim_out)
{
	enum ps_status status = check_uuid(gpu_uuid);
	struct sockaddr_un name;
	struct ip_claim *claim;
	socklen_t size;

	if (status != PS_OK)
		return status;
	claim = malloc(sizeof(*claim));
	if (!claim)
		return bs_fail(PS_HOST_MEMORY, "claiming the GPU: no memory");
	claim->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (claim->fd < 0) {
		status = socket_failed();
		goto free_claim;
	}
	size = make_name(gpu_uuid, &name);
	if (bind(claim->fd, (struct sockaddr *)&name, size) != 0) {
		status = errno == EADDRINUSE ? name_taken(gpu_uuid, &name, size)
					     : socket_failed();
		goto close_fd;
	}
	/* From here on others can ask the kernel who we are. */
	if (listen(claim->fd, SOMAXCONN) != 0) {
		status = socket_failed();
		goto close_fd;
	}
	*claim_out = claim;
	return PS_OK;
close_fd:
	close(claim->fd);
free_claim:
	free(claim);
	return status;
}

void ip_claim_free(struct ip_claim *claim)
{
	if (!claim)
		return;
	close(claim->fd);
	free(claim);
}

int ip_claim_give(struct ip_claim *claim)
{
	int fd = claim->fd;

	free(claim);
	return fd;
}
