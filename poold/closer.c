/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "poold/closer.h"

#include "base/status.h"
#include "ipc/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

/* One that is stuck leaves the others. */
#define THREADS 4
#define STACK_BYTES (64u << 10)

/* What is to be closed, a number each: whole numbers are read and written,
 * since a pipe keeps so few bytes together. */
static int queue[2] = { -1, -1 };

static void *close_all(void *arg)
{
	ssize_t got;
	int fd;

	(void)arg;
	do {
		got = read(queue[0], &fd, sizeof(fd));
		if (got == (ssize_t)sizeof(fd))
			close(fd);
	} while (got > 0 || (got < 0 && errno == EINTR));
	return NULL;
}

static enum ps_status start_threads(void)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int error;

	error = pthread_attr_init(&attributes);
	if (error == 0) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		pthread_attr_setdetachstate(&attributes,
					    PTHREAD_CREATE_DETACHED);
		pthread_attr_setstacksize(&attributes, STACK_BYTES);
		for (int i = 0; i < THREADS && error == 0; i++)
			error = pthread_create(&thread, &attributes, close_all,
					       NULL);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		pthread_attr_destroy(&attributes);
	}
	if (error != 0)
		return bs_fail(PS_SYSTEM,
			       "no thread to close descriptors with: %s",
			       strerror(error));
	return PS_OK;
}

enum ps_status pd_closer_start(void)
{
	enum ps_status status;

	if (pipe2(queue, O_CLOEXEC) != 0)
		return bs_fail_errno("a pipe of what is to be closed");
	/* Ours alone must not wait. */
	if (fcntl(queue[1], F_SETFL, O_NONBLOCK) != 0)
		return bs_fail_errno("a pipe that does not wait");
	status = start_threads();
	if (status == PS_OK)
		ip_close_with(pd_close_later);
	return status;
}

void pd_close_later(int fd)
{
	ssize_t put = -1;

	if (queue[1] >= 0)
		put = write(queue[1], &fd, sizeof(fd));
	if (put != (ssize_t)sizeof(fd))
		close(fd);
}

void pd_hang_up(int socket)
{
	shutdown(socket, SHUT_RDWR);
	pd_close_later(socket);
}

void pd_closer_refuse(int socket)
{
	const int no = 0;

	/* It came with SO_PEERPIDFD long there: no client has to send one.
	 * A kernel that lacks it has the threads. */
	(void)setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof(no));
}
