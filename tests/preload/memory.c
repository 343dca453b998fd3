/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/preload/memory.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static uint32_t word_at(size_t i, uint32_t seed)
{
	return (uint32_t)i * UINT32_C(2654435761) + seed;
}

void th_fill(CUdeviceptr at, size_t bytes, uint32_t seed)
{
	uint32_t *words = malloc(bytes);

	TH_CHECK(words != NULL);
	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = word_at(i, seed);
	TH_CU(th_cu.cuMemcpyHtoD_v2(at, words, bytes));
	free(words);
}

void th_check_filled(CUdeviceptr at, size_t bytes, uint32_t seed)
{
	uint32_t *words = malloc(bytes);

	TH_CHECK(words != NULL);
	TH_CU(th_cu.cuMemcpyDtoH_v2(words, at, bytes));
	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		TH_CHECK(words[i] == word_at(i, seed));
	free(words);
}

bool th_is_legacy(CUdeviceptr address)
{
	bool is_legacy = false;

	TH_CU(th_cu.cuPointerGetAttribute(
		&is_legacy, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
		address));
	return is_legacy;
}

/* ---- peers ---- */

int th_peer_start(void (*run)(int link), pid_t *pid_out)
{
	int ends[2];

	TH_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	*pid_out = fork();
	TH_CHECK(*pid_out >= 0);
	if (*pid_out == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		run(ends[1]);
		_exit(0);
	}
	close(ends[1]);
	return ends[0];
}

void th_peer_send(int link, const void *data, size_t bytes)
{
	TH_CHECK(send(link, data, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
}

void th_peer_receive(int link, void *data, size_t bytes)
{
	TH_CHECK(recv(link, data, bytes, MSG_WAITALL) == (ssize_t)bytes);
}

void th_peer_tell(int link)
{
	th_peer_send(link, "!", 1);
}

void th_peer_await(int link)
{
	char byte;

	th_peer_receive(link, &byte, 1);
}

union control {
	char room[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

void th_peer_send_fd(int link, int fd)
{
	union control control;
	struct iovec byte = { .iov_base = (char[]){ '!' }, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &byte,
				  .msg_iovlen = 1,
				  .msg_control = control.room,
				  .msg_controllen = sizeof(control.room) };
	struct cmsghdr *header;

	memset(&control, 0, sizeof(control));
	header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	TH_CHECK(sendmsg(link, &message, MSG_NOSIGNAL) == 1);
}

int th_peer_receive_fd(int link)
{
	union control control;
	char data;
	struct iovec byte = { .iov_base = &data, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &byte,
				  .msg_iovlen = 1,
				  .msg_control = control.room,
				  .msg_controllen = sizeof(control.room) };
	struct cmsghdr *header;
	int fd;

	TH_CHECK(recvmsg(link, &message, MSG_CMSG_CLOEXEC) == 1);
	header = CMSG_FIRSTHDR(&message);
	TH_CHECK(header != NULL && header->cmsg_type == SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

void th_peer_finish(pid_t pid)
{
	int status = -1;

	TH_CHECK(waitpid(pid, &status, 0) == pid);
	TH_CHECK(status == 0);
}
