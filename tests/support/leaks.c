/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/leaks.h"

#include "tests/support/harness.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct counter {
	const char *what;
	long (*count)(void);
};

static struct counter counters[TH_COUNTERS_MAX];
static size_t counter_count;

void th_register_counter(const char *what, long (*count)(void))
{
	size_t i;

	for (i = 0; i < counter_count; i++)
		if (counters[i].count == count)
			return;
	if (counter_count == TH_COUNTERS_MAX) {
		fprintf(stderr, "harness: too many counters: %s\n", what);
		abort();
	}
	counters[counter_count].what = what;
	counters[counter_count++].count = count;
}

static bool fd_target(int fd, char target_out[PATH_MAX])
{
	char path[64];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, target_out, PATH_MAX - 1);
	if (length < 0)
		return false;
	target_out[length] = '\0';
	return true;
}

/*
 * The real driver opens its device files when it likes. What a test leaks of
 * them shows in the same test on the simulated GPU.
 */
static bool is_drivers_own(const char *target)
{
	return strncmp(target, "/dev/nvidia", strlen("/dev/nvidia")) == 0;
}

static void visit_fds(void (*visit)(int fd, void *arg), void *arg)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int fd;

	if (dir == NULL) {
		perror("harness: /proc/self/fd");
		abort();
	}
	while ((entry = readdir(dir)) != NULL) {
		fd = atoi(entry->d_name);
		if (entry->d_name[0] == '.' || fd == dirfd(dir))
			continue;
		if (fd < TH_FD_MAX)
			visit(fd, arg);
	}
	closedir(dir);
}

static void note_fd(int fd, void *arg)
{
	struct th_holdings *holdings = arg;

	holdings->fds[fd] = 1;
}

static void count_fd(int fd, void *arg)
{
	size_t *count = arg;

	(void)fd;
	*count += 1;
}

size_t th_open_fds(void)
{
	size_t count = 0;

	visit_fds(count_fd, &count);
	return count;
}

void th_holdings_take(struct th_holdings *holdings)
{
	size_t i;

	memset(holdings, 0, sizeof(*holdings));
	visit_fds(note_fd, holdings);
	holdings->counter_count = counter_count;
	for (i = 0; i < counter_count; i++)
		holdings->counters[i] = counters[i].count();
}

static bool fds_gained(const struct th_holdings *before,
		       const struct th_holdings *after, const char *test)
{
	char target[PATH_MAX];
	bool gained = false;
	int fd;

	for (fd = 0; fd < TH_FD_MAX; fd++) {
		if (!after->fds[fd] || before->fds[fd])
			continue;
		if (!fd_target(fd, target) || is_drivers_own(target))
			continue;
		print_error("%s leaked: file descriptor %d (%s)\n", test, fd,
			    target);
		gained = true;
	}
	return gained;
}

/* A counter that was registered by the test itself began at 0. */
static bool counters_gained(const struct th_holdings *before,
			    const struct th_holdings *after, const char *test)
{
	bool gained = false;
	long was;
	size_t i;

	for (i = 0; i < after->counter_count; i++) {
		was = i < before->counter_count ? before->counters[i] : 0;
		if (after->counters[i] <= was)
			continue;
		print_error("%s leaked: %s: %ld before, %ld after\n", test,
			    counters[i].what, was, after->counters[i]);
		gained = true;
	}
	return gained;
}

bool th_holdings_gained(const struct th_holdings *before, const char *test)
{
	static struct th_holdings after; /* large, and one thread only */
	bool fds, counts;

	th_holdings_take(&after);
	fds = fds_gained(before, &after, test);
	counts = counters_gained(before, &after, test);
	return fds || counts;
}

/* The first child that runs still, or 0: the kernel lists them. */
static pid_t first_child(void)
{
	char path[64];
	FILE *file;
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children",
		 (int)getpid());
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%d", &pid) != 1)
		pid = 0;
	fclose(file);
	return pid;
}

bool th_children_left(const char *test)
{
	bool left = false;
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0) {
		left = true;
		if (pid > 0) {
			print_error("%s leaked: zombie %d\n", test, (int)pid);
			continue;
		}
		pid = first_child();
		print_error("%s leaked: running child %d\n", test, (int)pid);
		if (pid <= 0)
			break;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return left;
}
