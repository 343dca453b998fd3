/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "demo/start.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status.h"

#define SELF "/proc/self/exe"

#define WORKER_SOCKET 3 /* in the worker */

/* ---- workers ---- */

static enum ps_status spawn(int socket, char **argv, pid_t *pid_out)
{
	posix_spawn_file_actions_t actions;
	int error = posix_spawn_file_actions_init(&actions);

	if (error == 0)
		error = posix_spawn_file_actions_adddup2(&actions, socket,
							 WORKER_SOCKET);
	if (error == 0)
		error = posix_spawn(pid_out, SELF, &actions, NULL, argv,
				    environ);
	posix_spawn_file_actions_destroy(&actions);
	errno = error;
	return error == 0 ? PS_OK : bs_fail_errno("cannot start a worker");
}

enum ps_status dm_worker_start(struct dm_worker *worker, uint32_t index,
			       const char *uuid, const char *data)
{
	char number[16];
	char end[16];
	char *argv[] = {
		(char *)"poolswitch-demo",
		(char *)DM_WORKER_OPTION,
		end,
		number,
		(char *)uuid,
		(char *)data,
		NULL,
	};
	enum ps_status status;
	int pair[2];
	int high;

	snprintf(number, sizeof(number), "%u", index);
	snprintf(end, sizeof(end), "%d", WORKER_SOCKET);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return bs_fail_errno("cannot make a socket pair");
	/* Not the worker's number: a dup2 onto itself would stay
	 * close-on-exec. */
	high = fcntl(pair[1], F_DUPFD_CLOEXEC, WORKER_SOCKET + 1);
	close(pair[1]);
	if (high < 0) {
		status = bs_fail_errno("cannot duplicate a socket");
		goto close_ours;
	}
	status = spawn(high, argv, &worker->pid);
	close(high);
	if (status != PS_OK)
		goto close_ours;
	worker->socket = pair[0];
	return PS_OK;
close_ours:
	close(pair[0]);
	worker->pid = 0;
	return status;
}

static int reap(struct dm_worker *worker)
{
	int ending = 0;

	while (waitpid(worker->pid, &ending, 0) < 0 && errno == EINTR)
		;
	close(worker->socket);
	worker->pid = 0;
	return ending;
}

enum ps_status dm_worker_wait(struct dm_worker *worker)
{
	int ending = reap(worker);

	if (WIFSIGNALED(ending))
		return bs_fail(PS_PEER_GONE, "it was ended by signal %d",
			       WTERMSIG(ending));
	if (WEXITSTATUS(ending) != EXIT_SUCCESS)
		return bs_fail(PS_PEER_GONE, "its exit status is %d",
			       WEXITSTATUS(ending));
	return PS_OK;
}

void dm_worker_stop(struct dm_worker *worker)
{
	if (worker->pid == 0)
		return;
	kill(worker->pid, SIGKILL);
	reap(worker);
}

/* ---- this program ---- */

enum ps_status dm_own_folder(char *folder_out, size_t room)
{
	char path[PATH_MAX];
	ssize_t length = readlink(SELF, path, sizeof(path) - 1);

	if (length < 0)
		return bs_fail_errno("cannot find this program's folder");
	path[length] = '\0';
	*strrchr(path, '/') = '\0';
	if ((size_t)snprintf(folder_out, room, "%s", path) >= room)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the path of this program's folder is too long");
	return PS_OK;
}

enum ps_status dm_restart_simulated(char **argv)
{
	setenv("POOLSWITCH_DRIVER", "sim", 1);
	execv(SELF, argv);
	return bs_fail_errno("cannot start this program anew");
}

/* In a build tree the simulated driver lies at a fixed place from here. */
static enum ps_status find_sim_library(void)
{
	char folder[PATH_MAX - 64];
	char path[PATH_MAX];
	enum ps_status status = dm_own_folder(folder, sizeof(folder));

	if (status != PS_OK)
		return status;
	snprintf(path, sizeof(path), "%s/../device/sim/libcuda.so.1", folder);
	if (access(path, R_OK) == 0)
		setenv("POOLSWITCH_SIM_LIBRARY", path, 0);
	return PS_OK;
}

static int remove_one(const char *path, const struct stat *info, int kind,
		      struct FTW *place)
{
	(void)info;
	(void)kind;
	(void)place;
	return remove(path);
}

static pid_t guarded; /* for the signal handler */

static void pass_on(int signal)
{
	kill(guarded, signal);
}

/* Waits for the child, removes the folder, and ends as the child did. pre:
 * the signals that end a program are blocked, since before the fork. */
static _Noreturn void guard(pid_t child, const char *folder,
			    const sigset_t *unblocked)
{
	struct sigaction action = { .sa_handler = pass_on };
	int ending = 0;

	guarded = child;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigprocmask(SIG_SETMASK, unblocked, NULL);
	while (waitpid(child, &ending, 0) < 0 && errno == EINTR)
		;
	nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	_exit(WIFEXITED(ending) ? WEXITSTATUS(ending) : 128 + WTERMSIG(ending));
}

/* Returns in the child, or in the caller when there is none. */
static enum ps_status fork_guarded(const char *folder)
{
	sigset_t blocked;
	sigset_t before;
	pid_t child;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	child = fork();
	if (child > 0)
		guard(child, folder, &before);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return child == 0 ? PS_OK : bs_fail_errno("cannot fork");
}

enum ps_status dm_sim_begin(void)
{
	char folder[] = "/dev/shm/poolswitch-demo-XXXXXX";
	enum ps_status status = find_sim_library();

	if (status != PS_OK || getenv("POOLSWITCH_SIM_DIR") != NULL)
		return status;
	if (mkdtemp(folder) == NULL)
		return bs_fail_errno("cannot make %s", folder);
	status = fork_guarded(folder);
	if (status != PS_OK)
		rmdir(folder);
	else
		setenv("POOLSWITCH_SIM_DIR", folder, 1);
	return status;
}
