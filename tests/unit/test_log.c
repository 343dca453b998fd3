/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The daemon's log: what a line looks like, and that it never blocks. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "poold/log.h"
#include "tests/support/harness.h"

/* The real standard error, and a pipe in its place. */
static int real;
static int reader;

static int set_up(void **state)
{
	int ends[2];

	(void)state;
	fflush(stderr);
	real = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	if (real < 0 || pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	reader = ends[0];
	fcntl(reader, F_SETFL, O_NONBLOCK);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	unsetenv("JOURNAL_STREAM");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	dup2(real, STDERR_FILENO);
	close(real);
	if (reader >= 0)
		close(reader);
	unsetenv("JOURNAL_STREAM");
	pd_log_open("", false);
	return 0;
}

/* What has been logged, at most that much; lives until the next call. */
static const char *logged(void)
{
	static char text[16384];
	ssize_t got = read(reader, text, sizeof(text) - 1);

	text[got > 0 ? got : 0] = '\0';
	return text;
}

static void say_where_the_journal_is(int off)
{
	struct stat file;
	char text[64];

	fstat(STDERR_FILENO, &file);
	snprintf(text, sizeof(text), "%llu:%llu",
		 (unsigned long long)file.st_dev,
		 (unsigned long long)file.st_ino + (unsigned long long)off);
	setenv("JOURNAL_STREAM", text, 1);
}

static void test_log_line_has_program_half_and_text(void **state)
{
	(void)state;
	pd_log_open("keeper", false);
	pd_log(PD_NOTICE, "agent started pid %d", 7);
	assert_string_equal(logged(),
			    "poolswitchd keeper: agent started pid 7\n");
}

static void test_log_before_the_half_is_known_has_the_program(void **state)
{
	(void)state;
	pd_log_open("", false);
	pd_log(PD_ERROR, "no");
	assert_string_equal(logged(), "poolswitchd: no\n");
}

static void test_log_into_the_journal_has_a_priority(void **state)
{
	(void)state;
	say_where_the_journal_is(0);
	pd_log_open("agent", false);
	pd_log(PD_WARNING, "careful");
	assert_string_equal(logged(), "<4>poolswitchd agent: careful\n");
}

static void test_log_beside_the_journal_has_no_priority(void **state)
{
	(void)state;
	say_where_the_journal_is(1);
	pd_log_open("agent", false);
	pd_log(PD_WARNING, "careful");
	assert_string_equal(logged(), "poolswitchd agent: careful\n");
}

static void test_log_details_are_left_out_at_first(void **state)
{
	(void)state;
	pd_log_open("agent", false);
	pd_log(PD_DEBUG, "detail");
	assert_string_equal(logged(), "");
}

static void test_log_details_show_when_asked_for(void **state)
{
	(void)state;
	pd_log_open("agent", true);
	pd_log(PD_DEBUG, "detail");
	assert_string_equal(logged(), "poolswitchd agent: detail\n");
}

static void test_log_text_of_two_lines_is_one_line(void **state)
{
	(void)state;
	pd_log_open("agent", false);
	pd_log(PD_NOTICE, "name %s", "a\nforged\x1b[2J");
	assert_string_equal(logged(), "poolswitchd agent: name a?forged?[2J\n");
}

static void test_log_long_text_is_cut(void **state)
{
	char text[5000];
	const char *line;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	pd_log_open("agent", false);
	pd_log(PD_NOTICE, "%s", text);
	line = logged();
	assert_int_equal(strlen(line), 1024);
	assert_int_equal(line[1023], '\n');
	assert_int_equal(line[1022], 'x');
}

static void test_log_keeps_errno(void **state)
{
	(void)state;
	pd_log_open("agent", false);
	errno = ENOENT;
	pd_log(PD_NOTICE, "text");
	assert_int_equal(errno, ENOENT);
}

/* A blocking pipe: a write that does not fit would hang here. */
static void test_log_full_pipe_loses_lines_and_says_so(void **state)
{
	const char *line;

	(void)state;
	pd_log_open("agent", false);
	fcntl(STDERR_FILENO, F_SETPIPE_SZ, 8192);
	for (int i = 0; i < 1000; i++)
		pd_log(PD_NOTICE, "line %d", i);
	line = logged();
	assert_non_null(strstr(line, "line 0\n"));
	assert_null(strstr(line, "line 999\n"));
	pd_log(PD_NOTICE, "after");
	line = logged();
	assert_non_null(strstr(line, "agent: log lines lost count "));
	assert_non_null(strstr(line, "agent: after\n"));
	pd_log(PD_NOTICE, "later");
	assert_string_equal(logged(), "poolswitchd agent: later\n");
}

static void test_log_nobody_reads_fails_nothing(void **state)
{
	(void)state;
	pd_log_open("agent", false);
	close(reader);
	reader = -1;
	signal(SIGPIPE, SIG_IGN); /* as main() does */
	pd_log(PD_NOTICE, "text");
	signal(SIGPIPE, SIG_DFL);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_log_line_has_program_half_and_text, set_up,
		      tear_down),
	TH_TEST_SETUP(test_log_before_the_half_is_known_has_the_program, set_up,
		      tear_down),
	TH_TEST_SETUP(test_log_into_the_journal_has_a_priority, set_up,
		      tear_down),
	TH_TEST_SETUP(test_log_beside_the_journal_has_no_priority, set_up,
		      tear_down),
	TH_TEST_SETUP(test_log_details_are_left_out_at_first, set_up,
		      tear_down),
	TH_TEST_SETUP(test_log_details_show_when_asked_for, set_up, tear_down),
	TH_TEST_SETUP(test_log_text_of_two_lines_is_one_line, set_up,
		      tear_down),
	TH_TEST_SETUP(test_log_long_text_is_cut, set_up, tear_down),
	TH_TEST_SETUP(test_log_keeps_errno, set_up, tear_down),
	TH_TEST_SETUP(test_log_full_pipe_loses_lines_and_says_so, set_up,
		      tear_down),
	TH_TEST_SETUP(test_log_nobody_reads_fails_nothing, set_up, tear_down),
};

TH_MAIN("log", tests)
