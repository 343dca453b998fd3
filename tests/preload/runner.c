/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/preload/runner.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIBRARY "../preload/libpoolswitch_preload.so"
#define TEXT_BYTES 65536

static unsigned int runs; /* so that each has files of its own */

/* ---- the environment ---- */

/* A sanitizer that is a library of its own wants to be the first. */
static int find_sanitizer(struct dl_phdr_info *info, size_t size, void *data)
{
	const char *name = info->dlpi_name;

	(void)size;
	if (!strstr(name, "/libasan.so") && !strstr(name, "/libtsan.so"))
		return 0;
	snprintf(data, PATH_MAX, "%s:", name);
	return 1;
}

const char *th_preload_library(void)
{
	static char value[2 * PATH_MAX];
	char first[PATH_MAX + 2] = "";

	dl_iterate_phdr(find_sanitizer, first);
	snprintf(value, sizeof(value), "%s%s", first, th_program(LIBRARY));
	return value;
}

/* Where dlopen() looks: beside the program, and for "libcuda.so.1" where the
 * simulated one is. */
static void lead_to_libraries(const char *program)
{
	const char *library = getenv("POOLSWITCH_SIM_LIBRARY");
	const char *driver = getenv("POOLSWITCH_DRIVER");
	char beside[PATH_MAX], simulated[PATH_MAX] = "";
	char path[2 * PATH_MAX];

	snprintf(beside, sizeof(beside), "%s", program);
	if (library && driver && strcmp(driver, "sim") == 0)
		snprintf(simulated, sizeof(simulated), "%s", library);
	snprintf(path, sizeof(path), "%s%s%s", dirname(beside),
		 *simulated ? ":" : "", *simulated ? dirname(simulated) : "");
	setenv("LD_LIBRARY_PATH", path, 1);
}

static void set_environment(const char *program,
			    const struct th_preload_plan *plan)
{
	const char *const *entry = plan ? plan->env : NULL;

	lead_to_libraries(program);
	if (!plan || !plan->without)
		setenv("LD_PRELOAD", th_preload_library(), 1);
	for (; entry && *entry; entry++) {
		if (strchr(*entry, '='))
			putenv((char *)(uintptr_t)*entry);
		else
			unsetenv(*entry);
	}
}

/* ---- running ---- */

static void redirect(const char *path, int fd)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (file < 0 || dup2(file, fd) < 0)
		_exit(126);
}

static void become(const struct th_preload *run, const char *program,
		   const char *scenario, const struct th_preload_plan *plan,
		   int link)
{
	char number[16];
	const char *const argv[] = { program, scenario, number, NULL };

	snprintf(number, sizeof(number), "%d", link);
	fcntl(link, F_SETFD, 0);
	set_environment(program, plan);
	redirect(run->output, STDOUT_FILENO);
	redirect(run->errors, STDERR_FILENO);
	execv(program, (char *const *)(uintptr_t)argv);
	_exit(127);
}

void th_preload_start(struct th_preload *run, const char *program,
		      const char *scenario, const struct th_preload_plan *plan)
{
	char path[PATH_MAX];
	int ends[2];

	snprintf(path, sizeof(path), "%s", th_program(program));
	snprintf(run->output, sizeof(run->output), "%s/output-%u",
		 th_temp_dir(), runs);
	snprintf(run->errors, sizeof(run->errors), "%s/errors-%u",
		 th_temp_dir(), runs);
	runs++;
	th_socketpair(SOCK_STREAM, ends);
	fflush(NULL);
	run->pid = fork();
	if (run->pid == 0)
		become(run, path, scenario, plan, ends[0]);
	if (run->pid < 0)
		fail_msg("no child for %s", program);
	close(ends[0]);
	run->link = ends[1];
}

void th_preload_await(struct th_preload *run)
{
	th_await(run->link);
}

void th_preload_go(struct th_preload *run)
{
	th_tell(run->link);
}

int th_preload_wait(struct th_preload *run)
{
	int status = th_wait(run->pid);

	close(run->link);
	run->pid = run->link = -1;
	return status;
}

void th_preload_kill(struct th_preload *run)
{
	th_kill(run->pid);
	close(run->link);
	run->pid = run->link = -1;
}

/* ---- what it said ---- */

const char *th_preload_text(const char *path)
{
	static char text[TEXT_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (got < 0)
		fail_msg("cannot read %s", path);
	close(fd);
	text[got] = '\0';
	return text;
}

const char *th_preload_said(const char *program, const char *scenario,
			    const struct th_preload_plan *plan, int status)
{
	struct th_preload run;
	const char *said;
	int ended;

	th_preload_start(&run, program, scenario, plan);
	ended = th_preload_wait(&run);
	said = th_preload_text(run.errors);
	if (ended != status)
		fail_msg("%s %s ended with %d and said \"%s\"", program,
			 scenario, ended, said);
	return said;
}

void th_preload_check(const char *program, const char *scenario,
		      const struct th_preload_plan *plan)
{
	const char *said = th_preload_said(program, scenario, plan, 0);

	if (*said)
		fail_msg("%s %s said \"%s\"", program, scenario, said);
}
