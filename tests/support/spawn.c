/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Real child processes for tests, and a wait that ends. */
#include "tests/support/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 30000

/* Flushed first, so that the child prints nothing of the parent's again. */
static pid_t fork_flushed(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		fail_msg("fork: %s", strerror(errno));
	return pid;
}

pid_t th_spawn(const char *const *argv, int fd)
{
	pid_t pid = fork_flushed();

	if (pid > 0)
		return pid;
	if (fd >= 0)
		fcntl(fd, F_SETFD, 0);
	/* execv() changes nothing in its list; its type is older than const. */
	execv(argv[0], (char *const *)(uintptr_t)argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

pid_t th_fork(void (*run)(void *arg), void *arg)
{
	pid_t pid = fork_flushed();

	if (pid > 0)
		return pid;
	/* Otherwise a failing assertion would go on with the parent's tests. */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	/* cmocka's handler would jump out of whatever thread has crashed. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	run(arg);
	fflush(NULL);
	_exit(0);
}

static int reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail_msg("waitpid %d: %s", (int)pid, strerror(errno));
	if (WIFSIGNALED(status))
		return 128 + WTERMSIG(status);
	return WEXITSTATUS(status);
}

/* False when it has not ended in time. */
static bool wait_for_end(pid_t pid)
{
	struct pollfd poll_fd = { .events = POLLIN };
	int ready;

	poll_fd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (poll_fd.fd < 0)
		return true; /* an old kernel: wait without a limit */
	do
		ready = poll(&poll_fd, 1, WAIT_MS);
	while (ready < 0 && errno == EINTR);
	close(poll_fd.fd);
	return ready != 0;
}

int th_wait(pid_t pid)
{
	if (!wait_for_end(pid)) {
		th_kill(pid);
		fail_msg("child %d has not ended after %d s", (int)pid,
			 WAIT_MS / 1000);
	}
	return reap(pid);
}

void th_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	reap(pid);
}

const char *th_program(const char *name)
{
	static char path[PATH_MAX + 256];
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *end;

	if (length < 0)
		fail_msg("/proc/self/exe: %s", strerror(errno));
	self[length] = '\0';
	end = strrchr(self, '/');
	*end = '\0';
	snprintf(path, sizeof(path), "%s/%s", self, name);
	if (access(path, X_OK) == 0)
		return path;
	snprintf(path, sizeof(path), "%s/../%s", self, name);
	if (access(path, X_OK) != 0)
		fail_msg("no program %s beside %s", name, self);
	return path;
}

void th_socketpair(int type, int pair_out[2])
{
	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair_out) != 0)
		fail_msg("socketpair: %s", strerror(errno));
}
