/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* poolswitch bench: becomes the benchmarks of the Python package. */
#include "cli/exit.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define MODULE "poolswitch.bench"

/* The name of an interpreter; one of a folder is said in PYTHON. */
static char *python(void)
{
	static char usual[] = "python3";
	char *named = getenv("PYTHON");

	return named && *named ? named : usual;
}

static size_t count_of(char **words)
{
	size_t count = 0;

	while (words[count])
		count++;
	return count;
}

/* Runs it with its output thrown away: 0, or an errno. */
static int spawn_quietly(char **argv, pid_t *pid_out)
{
	posix_spawn_file_actions_t actions;
	int error = posix_spawn_file_actions_init(&actions);

	if (error != 0)
		return error;
	for (int fd = 0; fd <= 2 && error == 0; fd++)
		error = posix_spawn_file_actions_addopen(
			&actions, fd, "/dev/null", O_RDWR, 0);
	if (error == 0)
		error = posix_spawnp(pid_out, argv[0], &actions, NULL, argv,
				     environ);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

/* Whether the interpreter finds the package. 0, or an errno. */
static int find_package(bool *is_there_out)
{
	char option[] = "-c";
	char code[] =
		"import importlib.util, sys\n"
		"sys.exit(importlib.util.find_spec('" MODULE "') is None)";
	char *argv[] = { python(), option, code, NULL };
	pid_t pid = -1;
	int status = -1;
	int error = spawn_quietly(argv, &pid);

	if (error != 0)
		return error;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	*is_there_out = status == 0;
	return 0;
}

static int become(const struct cl_options *options)
{
	char option[] = "-m";
	char module[] = MODULE;
	size_t count = count_of(options->program);
	char **argv = calloc(count + 4, sizeof(*argv));

	if (!argv || (options->socket &&
		      setenv("POOLSWITCH_SOCKET", options->socket, 1) != 0)) {
		free(argv);
		return cl_fail_text(options, EX_OSERR,
				    "no memory for the command line");
	}
	argv[0] = python();
	argv[1] = option;
	argv[2] = module;
	memcpy(argv + 3, options->program, count * sizeof(*argv));
	execvp(argv[0], argv);
	free(argv);
	return cl_fail_text(options, EX_UNAVAILABLE, "cannot run %s: %s",
			    python(), strerror(errno));
}

static int run(const struct cl_options *options)
{
	bool is_there = false;
	int error;

	if (!options->program)
		return cl_fail_text(options, EX_USAGE,
				    "bench takes what to measure: switch");
	error = find_package(&is_there);
	if (error != 0)
		return cl_fail_text(options, EX_UNAVAILABLE,
				    "cannot run %s: %s; install Python and, in "
				    "poolswitch's sources, pip install ., or "
				    "name the interpreter in PYTHON",
				    python(), strerror(error));
	if (!is_there)
		return cl_fail_text(options, EX_UNAVAILABLE,
				    "%s does not find the package poolswitch: "
				    "pip install . in poolswitch's sources, or "
				    "name another interpreter in PYTHON",
				    python());
	return become(options);
}

const struct cl_command cl_bench = {
	.name = "bench",
	.summary = "measure, with the Python package",
	.text = "Measures what poolswitch does on this machine, with the "
		"Python package poolswitch; what follows WHAT is the "
		"benchmark's, which has a --help of its own.",
	.args = "WHAT [ARGUMENT...]",
	.takes = CL_TAKES_BENCH,
	.run = run,
};
