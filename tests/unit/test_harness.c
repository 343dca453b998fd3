/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The runner itself: what leaks fails, by name, and nothing else does. */
#include "tests/support/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char output[8192];

struct run {
	const char *test;
	int fd; /* takes the program's output */
};

static void exec_leaking(void *arg)
{
	const struct run *run = arg;
	const char *program = th_program("leaks_on_purpose");

	dup2(run->fd, STDOUT_FILENO);
	dup2(run->fd, STDERR_FILENO);
	unsetenv("CMOCKA_TEST_ABORT");
	execl(program, program, run->test, (char *)NULL);
}

/* Runs one test of leaks_on_purpose; its output is in @output then. */
static int run_leaking(const char *test)
{
	int fd = open(th_temp_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct run run = { test, fd };
	ssize_t length;
	int status;

	assert_true(fd >= 0);
	status = th_wait(th_fork(exec_leaking, &run));
	length = pread(fd, output, sizeof(output) - 1, 0);
	assert_true(length >= 0);
	output[length] = '\0';
	close(fd);
	return status;
}

static void assert_output_has(const char *text)
{
	if (strstr(output, text) == NULL)
		fail_msg("\"%s\" is not in: %s", text, output);
}

static void test_harness_leaked_fd_fails_test(void **state)
{
	(void)state;
	assert_int_equal(run_leaking("leak_fd"), 1);
	assert_output_has("leak_fd leaked: file descriptor");
	assert_output_has("/dev/null");
}

static void test_harness_leaked_block_fails_test(void **state)
{
	(void)state;
	assert_int_equal(run_leaking("leak_block"), 1);
	assert_output_has("leak_block leaked: live blocks: 0 before, 1 after");
}

static void test_harness_leaked_zombie_fails_test(void **state)
{
	(void)state;
	assert_int_equal(run_leaking("leak_zombie"), 1);
	assert_output_has("leak_zombie leaked: ");
}

static void test_harness_leaked_child_fails_test(void **state)
{
	(void)state;
	assert_int_equal(run_leaking("leak_child"), 1);
	assert_output_has("leak_child leaked: running child");
}

static void test_harness_clean_test_passes(void **state)
{
	(void)state;
	assert_int_equal(run_leaking("leak_nothing"), 0);
	assert_null(strstr(output, "leaked"));
}

static void test_harness_only_skipped_exits_77(void **state)
{
	(void)state;
	assert_int_equal(run_leaking("skip_itself"), 77);
	assert_output_has("on purpose");
}

static void test_harness_unknown_test_exits_2(void **state)
{
	(void)state;
	assert_int_equal(run_leaking("no_such_test"), 2);
}

static void test_harness_all_leaks_are_counted(void **state)
{
	(void)state;
	assert_int_equal(run_leaking("leak_*"), 1);
	assert_output_has("leak_fd leaked");
	assert_output_has("leak_child leaked");
	assert_output_has("[  PASSED  ] 1 test(s)");
}

static void fail_assertion(void *arg)
{
	(void)arg;
	freopen("/dev/null", "w", stderr);
	assert_int_equal(1, 2);
}

static void test_fork_failed_assertion_ends_child(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(fail_assertion, NULL)), 128 + 6);
}

static void test_spawn_exit_status_comes_back(void **state)
{
	const char *const argv[] = { "/bin/sh", "-c", "exit 3", NULL };

	(void)state;
	assert_int_equal(th_wait(th_spawn(argv, -1)), 3);
}

static void test_spawn_kept_fd_is_open_in_child(void **state)
{
	char script[64];
	const char *const argv[] = { "/bin/sh", "-c", script, NULL };
	int pair[2];
	char byte;

	(void)state;
	th_socketpair(SOCK_STREAM, pair);
	snprintf(script, sizeof(script), "printf x >&%d", pair[1]);
	assert_int_equal(th_wait(th_spawn(argv, pair[1])), 0);
	assert_int_equal(read(pair[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	close(pair[0]);
	close(pair[1]);
}

static const struct th_test tests[] = {
	TH_TEST(test_harness_leaked_fd_fails_test),
	TH_TEST(test_harness_leaked_block_fails_test),
	TH_TEST(test_harness_leaked_zombie_fails_test),
	TH_TEST(test_harness_leaked_child_fails_test),
	TH_TEST(test_harness_clean_test_passes),
	TH_TEST(test_harness_only_skipped_exits_77),
	TH_TEST(test_harness_unknown_test_exits_2),
	TH_TEST(test_harness_all_leaks_are_counted),
	TH_TEST(test_fork_failed_assertion_ends_child),
	TH_TEST(test_spawn_exit_status_comes_back),
	TH_TEST(test_spawn_kept_fd_is_open_in_child),
};

TH_MAIN("harness", tests)
