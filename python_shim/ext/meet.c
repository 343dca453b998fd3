/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Waiting for a name in a folder: a receiver may come before the sender has
 * its socket. The folder says when something new has a name in it.
 */
#include "python_shim/ext/ext.h"

#include <errno.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 0, or an errno; ETIMEDOUT. @fd: of inotify, the folder watched. */
static int wait_on(int fd, const char *path, long long until)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	char events[4096];
	long long left;
	struct stat is;

	for (;;) {
		if (stat(path, &is) == 0)
			return 0;
		if (errno != ENOENT)
			return errno;
		left = until - now_ms();
		if (left <= 0)
			return ETIMEDOUT;
		if (poll(&poll_fd, 1, left > INT_MAX ? INT_MAX : (int)left) < 0)
			return errno;
		if (poll_fd.revents && read(fd, events, sizeof(events)) < 0)
			return errno;
	}
}

static int wait_for(const char *folder, const char *path, long long until)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int error;

	if (fd < 0)
		return errno;
	if (inotify_add_watch(fd, folder, IN_CREATE | IN_MOVED_TO) < 0)
		error = errno;
	else
		error = wait_on(fd, path, until);
	close(fd);
	return error;
}

PyObject *py_wait_for_file(PyObject *self, PyObject *args)
{
	const char *folder, *path;
	long long until;
	int timeout_ms, error;

	(void)self;
	if (!PyArg_ParseTuple(args, "ssi", &folder, &path, &timeout_ms))
		return NULL;
	until = now_ms() + timeout_ms;
	for (;;) {
		Py_BEGIN_ALLOW_THREADS;
		error = wait_for(folder, path, until);
		Py_END_ALLOW_THREADS;
		/* A signal's handler may raise. */
		if (error != EINTR || PyErr_CheckSignals() != 0)
			break;
	}
	if (PyErr_Occurred())
		return NULL;
	if (error == 0)
		Py_RETURN_NONE;
	errno = error;
	return PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
}
