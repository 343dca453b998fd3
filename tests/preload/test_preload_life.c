/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The preload in programs that begin and end: as a library's constructor or
 * destructor, at exit, with threads that go on, and in those that have nothing
 * to do with CUDA.
 */
#include "tests/preload/runner.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A sanitizer's runtime may be in our programs only. */
#ifdef BS_SANITIZED
#define SHORT_PROGRAMS 20u
#define SHORT_PROGRAM th_program("resolves")
#else
#define SHORT_PROGRAMS 1000u
#define SHORT_PROGRAM "/bin/true"
#endif
#define AT_ONCE 4u

/* Against a daemon; the program must leave nothing in the pool. */
static void check(const char *program, const char *scenario)
{
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	th_preload_check(program, scenario, NULL);
	th_daemon_stop(&daemon);
}

static void test_life_constructor_allocates(void **state)
{
	(void)state;
	check("ends", "in_constructor");
}

static void test_life_destructor_frees(void **state)
{
	(void)state;
	check("ends", "in_destructor");
}

static void test_life_destructor_at_exit_frees(void **state)
{
	(void)state;
	check("ends", "at_the_end");
}

static void test_life_free_at_exit_is_harmless(void **state)
{
	(void)state;
	check("ends", "at_exit");
}

/* The lease ends with the program, and nothing of it is open in the next. */
static void test_life_executed_program_starts_anew(void **state)
{
	(void)state;
	check("ends", "executes");
}

static void test_life_linked_program_allocates(void **state)
{
	(void)state;
	check("links", "allocates");
}

static void test_life_linked_program_frees_at_exit(void **state)
{
	(void)state;
	check("links", "frees_late");
}

static void test_life_call_before_init_is_the_drivers(void **state)
{
	(void)state;
	th_preload_check("links", "too_early", NULL);
}

static void test_life_threads_go_on_while_it_ends(void **state)
{
	struct th_preload run;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "ends", "with_threads", NULL);
	th_preload_await(&run);
	th_preload_go(&run);
	assert_int_equal(th_preload_wait(&run), 0);
	th_daemon_stop(&daemon);
}

/* ---- programs without CUDA ---- */

static pid_t start_short(const char *errors)
{
	pid_t pid = fork();
	int file;

	if (pid != 0)
		return pid;
	file = open(errors, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (file < 0 || dup2(file, STDERR_FILENO) < 0)
		_exit(126);
	setenv("LD_PRELOAD", th_preload_library(), 1);
	setenv("POOLSWITCH_SOCKET", "/nowhere/at-all", 1);
	execl(SHORT_PROGRAM, "true", "no_driver", (char *)NULL);
	_exit(127);
}

static void test_life_thousand_short_programs_end_well(void **state)
{
	const unsigned int count = SHORT_PROGRAMS * th_soak_factor();
	pid_t pids[AT_ONCE];
	char errors[128];

	(void)state;
	snprintf(errors, sizeof(errors), "%s/errors", th_temp_dir());
	close(open(errors, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	for (unsigned int i = 0; i < count; i += AT_ONCE) {
		for (unsigned int j = 0; j < AT_ONCE; j++)
			pids[j] = start_short(errors);
		for (unsigned int j = 0; j < AT_ONCE; j++)
			assert_int_equal(th_wait(pids[j]), 0);
	}
	assert_string_equal(th_preload_text(errors), "");
}

static void output_of(const struct th_preload_plan *plan, char *text,
		      size_t bytes)
{
	struct th_preload run;

	th_preload_start(&run, "resolves", "without_cuda", plan);
	assert_int_equal(th_preload_wait(&run), 0);
	assert_string_equal(th_preload_text(run.errors), "");
	snprintf(text, bytes, "%s", th_preload_text(run.output));
}

static void test_life_program_without_cuda_has_nothing_open(void **state)
{
	const struct th_preload_plan without = { .without = true };
	char plain[128], preloaded[128];

	(void)state;
	output_of(&without, plain, sizeof(plain));
	output_of(NULL, preloaded, sizeof(preloaded));
	assert_non_null(strstr(plain, "threads"));
	assert_string_equal(plain, preloaded);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_life_constructor_allocates),
	TH_DAEMON_TEST(test_life_destructor_frees),
	TH_DAEMON_TEST(test_life_destructor_at_exit_frees),
	TH_DAEMON_TEST(test_life_free_at_exit_is_harmless),
	TH_DAEMON_TEST(test_life_executed_program_starts_anew),
	TH_DAEMON_TEST(test_life_linked_program_allocates),
	TH_DAEMON_TEST(test_life_linked_program_frees_at_exit),
	TH_TEST(test_life_call_before_init_is_the_drivers),
	TH_DAEMON_TEST(test_life_threads_go_on_while_it_ends),
	TH_TEST(test_life_thousand_short_programs_end_well),
	TH_TEST(test_life_program_without_cuda_has_nothing_open),
};

TH_MAIN("preload_life", tests)
