/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/daemon_procs.h"

#include "tests/support/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCS_MAX 64
#define DEPTH_MAX 32

struct proc {
	pid_t parent;
	char state;
	char name[64];
};

static bool read_proc(pid_t pid, struct proc *proc_out)
{
	char path[64];
	int parent, got;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	got = fscanf(file, "%*d (%63[^)]) %c %d", proc_out->name,
		     &proc_out->state, &parent);
	fclose(file);
	proc_out->parent = (pid_t)parent;
	return got == 3;
}

/* A half that the other started was executed by /proc/self/exe. */
static bool is_half(const struct proc *proc)
{
	return strcmp(proc->name, "poolswitchd") == 0 ||
	       strcmp(proc->name, "exe") == 0;
}

static bool descends(struct proc proc)
{
	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		if (proc.parent == getpid())
			return true;
		if (proc.parent <= 1 || !read_proc(proc.parent, &proc))
			return false;
	}
	return false;
}

static size_t find(pid_t pids_out[PROCS_MAX])
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	struct proc proc;
	size_t count = 0;
	pid_t pid;

	if (dir == NULL)
		fail_msg("/proc: %s", strerror(errno));
	while ((entry = readdir(dir)) != NULL && count < PROCS_MAX) {
		pid = (pid_t)atoi(entry->d_name);
		if (pid > 0 && read_proc(pid, &proc) && is_half(&proc) &&
		    descends(proc))
			pids_out[count++] = pid;
	}
	closedir(dir);
	return count;
}

void th_daemon_await_sleep(pid_t half)
{
	uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);
	struct proc proc;

	while (read_proc(half, &proc) && proc.state != 'S') {
		if (th_now_ns() > end)
			fail_msg("%d does not rest", (int)half);
		th_rest_ms(1);
	}
}

size_t th_daemon_processes(void)
{
	pid_t pids[PROCS_MAX];

	return find(pids);
}

long th_daemon_all_fds(void)
{
	pid_t pids[PROCS_MAX];
	size_t count = find(pids);
	long sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += th_fds_of(pids[i]);
	return sum;
}

/* A stopped process starts no other; one that was being started is found the
 * next time. */
static size_t stop_all(pid_t pids_out[PROCS_MAX])
{
	size_t count = find(pids_out);
	size_t before;

	do {
		before = count;
		for (size_t i = 0; i < count; i++)
			kill(pids_out[i], SIGSTOP);
		count = find(pids_out);
	} while (count != before);
	return count;
}

void th_procs_end(void)
{
	pid_t pids[PROCS_MAX];
	size_t count = stop_all(pids);

	for (size_t i = 0; i < count; i++)
		kill(pids[i], SIGKILL);
	/* Each is a child of this process once its parent has ended. */
	while (count > 0) {
		for (size_t i = 0; i < count; i++)
			waitpid(pids[i], NULL, WNOHANG);
		count = find(pids);
	}
}

void th_procs_reap(void)
{
	pid_t pids[PROCS_MAX];
	size_t count = find(pids);
	struct proc proc;

	for (size_t i = 0; i < count; i++)
		if (read_proc(pids[i], &proc) && proc.state == 'Z' &&
		    proc.parent == getpid())
			waitpid(pids[i], NULL, 0);
}
