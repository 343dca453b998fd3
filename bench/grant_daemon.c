/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "bench/grant.h"

#include "base/status.h"
#include "bench/sample.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 30000

/* ---- starting and stopping ---- */

/* The build's lies beside the folder of this program. */
static void find_program(char path[PATH_MAX])
{
	const char *given = getenv("POOLSWITCH_DAEMON");
	char self[PATH_MAX - 64];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[length > 0 ? length : 0] = '\0';
	if (strrchr(self, '/') != NULL)
		*strrchr(self, '/') = '\0';
	snprintf(path, PATH_MAX, "%s/../poold/poolswitchd", self);
	if (access(path, X_OK) != 0)
		snprintf(path, PATH_MAX, "poolswitchd");
	if (given != NULL && given[0] != '\0')
		snprintf(path, PATH_MAX, "%s", given);
}

#define OPTIONS_MAX 8

static void run(const struct bn_daemon *daemon, const char *const *options,
		int ready)
{
	const char *arguments[OPTIONS_MAX + 4] = { "poolswitchd", "--socket",
						   daemon->socket };
	char program[PATH_MAX];
	char log[96];
	int fd;

	snprintf(log, sizeof(log), "%s/log", daemon->folder);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (dup2(ready, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
		_exit(126);
	find_program(program);
	for (int i = 0; options[i] != NULL && i < OPTIONS_MAX; i++)
		arguments[3 + i] = options[i];
	execvp(program, (char *const *)(uintptr_t)arguments);
	_exit(127);
}

static bool await_line(int fd)
{
	struct pollfd entry = { .fd = fd, .events = POLLIN };
	char text[1024];

	return poll(&entry, 1, PATIENCE_MS) == 1 &&
	       read(fd, text, sizeof(text)) > 0;
}

static void show_log(const struct bn_daemon *daemon)
{
	char log[96], text[2048];
	size_t got;
	FILE *file;

	snprintf(log, sizeof(log), "%s/log", daemon->folder);
	file = fopen(log, "re");
	if (file == NULL)
		return;
	got = fread(text, 1, sizeof(text), file);
	fwrite(text, 1, got, stderr);
	fclose(file);
}

static void remove_folder(const struct bn_daemon *daemon)
{
	char log[96];

	snprintf(log, sizeof(log), "%s/log", daemon->folder);
	unlink(log);
	unlink(daemon->socket);
	rmdir(daemon->folder);
}

bool bn_daemon_start(const char *headroom, struct bn_daemon *daemon_out)
{
	const char *const options[] = { headroom ? "--headroom" : NULL,
					headroom, NULL };

	return bn_daemon_start_with(options, daemon_out);
}

bool bn_daemon_start_with(const char *const *options,
			  struct bn_daemon *daemon_out)
{
	struct bn_daemon *daemon = daemon_out;
	uint64_t begin;
	int ends[2];
	bool ok;

	memset(daemon, 0, sizeof(*daemon));
	snprintf(daemon->folder, sizeof(daemon->folder),
		 "/tmp/poolswitch-bench-XXXXXX");
	if (mkdtemp(daemon->folder) == NULL || pipe2(ends, O_CLOEXEC) != 0)
		return false;
	snprintf(daemon->socket, sizeof(daemon->socket), "%s/socket",
		 daemon->folder);
	setenv("POOLSWITCH_SOCKET", daemon->socket, 1);
	fflush(NULL);
	begin = bn_now_ns();
	daemon->pid = fork();
	if (daemon->pid == 0)
		run(daemon, options, ends[1]);
	close(ends[1]);
	ok = await_line(ends[0]);
	daemon->ready_ns = bn_now_ns() - begin;
	close(ends[0]);
	if (ok)
		return true;
	bn_complain("the daemon does not start");
	show_log(daemon);
	bn_daemon_stop(daemon);
	return false;
}

bool bn_daemon_stop(struct bn_daemon *daemon)
{
	int status = -1;

	if (daemon->pid <= 0)
		return true;
	kill(daemon->pid, SIGTERM);
	waitpid(daemon->pid, &status, 0);
	daemon->pid = 0;
	if (status != 0)
		show_log(daemon);
	remove_folder(daemon);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- STATUS ---- */

/* Enough of JSON for numbers whose names are known. */
static bool find_number(const char *text, const char *after, const char *name,
			uint64_t *number_out)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", after);
	at = strstr(text, quoted);
	snprintf(quoted, sizeof(quoted), "\"%s\":", name);
	at = at == NULL ? NULL : strstr(at, quoted);
	if (at == NULL)
		return false;
	*number_out = strtoull(at + strlen(quoted), NULL, 10);
	return true;
}

bool bn_daemon_number(const char *after, const char *name, uint64_t *number_out)
{
	char *text;
	bool ok;

	if (ps_daemon_ask(NULL, PS_ASK_STATUS, PATIENCE_MS, &text) != PS_OK)
		return false;
	ok = find_number(text, after, name, number_out);
	free(text);
	return ok;
}

bool bn_daemon_wait(const char *name, uint64_t least, uint64_t most)
{
	uint64_t end = bn_now_ns() + PATIENCE_MS * UINT64_C(1000000);
	uint64_t number;

	while (bn_now_ns() < end) {
		if (!bn_daemon_number("computation", name, &number))
			return false;
		if (number >= least && number <= most)
			return true;
		poll(NULL, 0, 2);
	}
	bn_complain("%s never came to %llu", name, (unsigned long long)least);
	return false;
}
