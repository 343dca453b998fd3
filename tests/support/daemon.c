/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Starting, striking and stopping a daemon; tests/support/daemon_look.c looks
 * at it. */
#include "tests/support/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon_procs.h"

#define ARGUMENTS_MAX 48
#define READY_BYTES 1024
#define FDS_CLOSED 1024

/* For the teardown of a test that failed. */
static bool is_running;
static char running_log[108];

static long count_running(void)
{
	return is_running;
}

/* ---- starting ---- */

static size_t add_options(const char **argv, size_t count,
			  const char *const *options)
{
	while (options != NULL && *options != NULL && count < ARGUMENTS_MAX - 1)
		argv[count++] = *options++;
	return count;
}

static void run_daemon(const struct th_daemon *daemon,
		       const struct th_daemon_plan *plan, int ready)
{
	const char *usual[] = { "--socket",    daemon->socket, "--size",
				"64M",         "--segment",    "2M",
				"--parameter", "8M",           NULL };
	const char *argv[ARGUMENTS_MAX] = { th_program(TH_DAEMON_PROGRAM) };
	int log = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	const char *const *entry = plan->env;
	size_t count = 1;

	if (!plan->bare)
		count = add_options(argv, count, usual);
	argv[add_options(argv, count, plan->options)] = NULL;
	for (; entry != NULL && *entry != NULL; entry++)
		putenv((char *)(uintptr_t)*entry);
	if (dup2(ready, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
		_exit(126);
	/* Those that it starts itself inherit nothing either. */
	for (int fd = STDERR_FILENO + 1; fd < FDS_CLOSED; fd++)
		close(fd);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (plan->prepare != NULL)
		plan->prepare();
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

/* True when a whole line came; false when the pipe has ended. */
static bool await_line(int fd)
{
	struct pollfd entry = { .fd = fd, .events = POLLIN };
	char text[READY_BYTES];
	size_t count = 0;
	ssize_t got = 1;

	while (got > 0 && count < sizeof(text) &&
	       memchr(text, '\n', count) == NULL) {
		if (poll(&entry, 1, TH_DAEMON_MS) != 1)
			fail_msg("the daemon is not ready after %d s",
				 TH_DAEMON_MS / 1000);
		got = read(fd, text + count, sizeof(text) - count);
		count += got > 0 ? (size_t)got : 0;
	}
	return memchr(text, '\n', count) != NULL;
}

static void name_files(struct th_daemon *daemon)
{
	memset(daemon, 0, sizeof(*daemon));
	snprintf(daemon->socket, sizeof(daemon->socket), "%s/socket",
		 th_temp_dir());
	snprintf(daemon->log, sizeof(daemon->log), "%s/log", th_temp_dir());
	snprintf(running_log, sizeof(running_log), "%s", daemon->log);
}

/* The pid of the first keeper; -1: it ended, *status_out says how. */
static pid_t launch(const struct th_daemon *daemon,
		    const struct th_daemon_plan *plan, int *status_out)
{
	bool is_ready;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) != 0)
		fail_msg("pipe: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		run_daemon(daemon, plan, ends[1]);
	close(ends[1]);
	is_ready = await_line(ends[0]);
	close(ends[0]);
	if (is_ready)
		return pid;
	*status_out = th_wait(pid);
	return -1;
}

int th_daemon_try(struct th_daemon *daemon, const struct th_daemon_plan *plan)
{
	const struct th_daemon_plan usual = { .options = NULL };
	bool was_running = is_running;
	int status = 0;

	th_register_counter("daemons", count_running);
	name_files(daemon);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	is_running = true;
	daemon->keeper = launch(daemon, plan == NULL ? &usual : plan, &status);
	if (daemon->keeper > 0)
		return -1;
	is_running = was_running;
	return status;
}

static void find_halves(struct th_daemon *daemon)
{
	json_t *status = th_daemon_status();

	daemon->keeper = (pid_t)th_json_number(status, "keeper_pid");
	daemon->agent = (pid_t)th_json_number(status, "agent_pid");
	json_decref(status);
}

void th_daemon_start(struct th_daemon *daemon,
		     const struct th_daemon_plan *plan)
{
	int status = th_daemon_try(daemon, plan);

	if (status != -1) {
		th_daemon_show_log(daemon->log);
		fail_msg("the daemon ended with %d", status);
	}
	setenv("POOLSWITCH_SOCKET", daemon->socket, 1);
	find_halves(daemon);
	th_daemon_settle(0, &daemon->before);
}

/* ---- stopping ---- */

static int open_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void await_pidfd(int pidfd, pid_t pid)
{
	struct pollfd entry = { .fd = pidfd, .events = POLLIN };

	if (pidfd >= 0 && poll(&entry, 1, TH_DAEMON_MS) != 1)
		fail_msg("%d has not ended after %d s", (int)pid,
			 TH_DAEMON_MS / 1000);
	close(pidfd);
}

void th_daemon_end(struct th_daemon *daemon)
{
	int keeper = open_pidfd(daemon->keeper);
	int agent = open_pidfd(daemon->agent);
	int status = 0;

	if (kill(daemon->keeper, SIGTERM) != 0)
		fail_msg("no keeper %d", (int)daemon->keeper);
	await_pidfd(keeper, daemon->keeper);
	await_pidfd(agent, daemon->agent);
	/* Whose parent a half's starter was, that one may have reaped it. */
	if (waitpid(daemon->keeper, &status, WNOHANG) == daemon->keeper)
		assert_int_equal(status, 0);
	th_procs_end();
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	unsetenv("POOLSWITCH_SOCKET");
	is_running = false;
}

/* One that has crashed has been started again by the other. */
static void assert_same_halves(const struct th_daemon *daemon)
{
	json_t *status = th_daemon_status();

	assert_int_equal(th_json_number(status, "keeper_pid"), daemon->keeper);
	assert_int_equal(th_json_number(status, "agent_pid"), daemon->agent);
	json_decref(status);
}

void th_daemon_stop(struct th_daemon *daemon)
{
	assert_same_halves(daemon);
	th_daemon_await_same(&daemon->before);
	th_daemon_end(daemon);
}

void th_daemon_kill(struct th_daemon *daemon)
{
	th_procs_end();
	/* One that was started by a process that waits for it. */
	waitpid(daemon->keeper, NULL, 0);
	daemon->keeper = daemon->agent = -1;
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	unsetenv("POOLSWITCH_SOCKET");
	is_running = false;
}

int th_daemon_teardown(void **state)
{
	(void)state;
	if (!is_running)
		return 0;
	th_daemon_show_log(running_log);
	th_procs_end();
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	unsetenv("POOLSWITCH_SOCKET");
	is_running = false;
	return 0;
}

/* ---- striking ---- */

pid_t th_daemon_strike(pid_t half)
{
	int pidfd = open_pidfd(half);

	if (pidfd < 0 || kill(half, SIGKILL) != 0)
		fail_msg("no half %d: %s", (int)half, strerror(errno));
	await_pidfd(pidfd, half);
	return half;
}

void th_daemon_follow(struct th_daemon *daemon, pid_t dead)
{
	uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);
	json_t *status;

	for (;;) {
		status = th_daemon_try_status();
		if (status != NULL) {
			daemon->keeper =
				(pid_t)th_json_number(status, "keeper_pid");
			daemon->agent =
				(pid_t)th_json_number(status, "agent_pid");
			json_decref(status);
			if (daemon->keeper != dead && daemon->agent != dead &&
			    daemon->keeper > 0 && daemon->agent > 0)
				break;
		}
		if (th_now_ns() > end)
			fail_msg("nobody has followed %d", (int)dead);
		th_rest_ms(1);
	}
	th_procs_reap();
}

void th_daemon_kill_agent(struct th_daemon *daemon)
{
	th_daemon_follow(daemon, th_daemon_strike(daemon->agent));
}

void th_daemon_kill_keeper(struct th_daemon *daemon)
{
	th_daemon_follow(daemon, th_daemon_strike(daemon->keeper));
}
