/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The two example programs, as a user runs them. */
#include "tests/support/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Runs the pair, with the controller's output in @text. */
static int run_examples(char *text, size_t room)
{
	char controller[512], worker[512];
	const char *const argv[] = { controller, worker, NULL };
	size_t used = 0;
	int pipe_ends[2];
	int saved = dup(1);
	ssize_t got;
	pid_t pid;

	snprintf(controller, sizeof(controller), "%s",
		 th_program("../examples/controller"));
	snprintf(worker, sizeof(worker), "%s",
		 th_program("../examples/worker"));
	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	fflush(stdout);
	dup2(pipe_ends[1], 1);
	pid = th_spawn(argv, -1);
	dup2(saved, 1);
	close(saved);
	close(pipe_ends[1]);
	while ((got = read(pipe_ends[0], text + used, room - 1 - used)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	close(pipe_ends[0]);
	return th_wait(pid);
}

static unsigned int count_lines(const char *text, const char *part)
{
	unsigned int count = 0;

	for (; (text = strstr(text, part)) != NULL; text += strlen(part))
		count++;
	return count;
}

static void test_examples_run_and_end_well(void **state)
{
	char text[4096];

	(void)state;
	assert_int_equal(run_examples(text, sizeof(text)), 0);
}

static void test_examples_workers_read_the_weights(void **state)
{
	char text[4096];

	(void)state;
	run_examples(text, sizeof(text));
	assert_int_equal(count_lines(text, "sum up to 36"), 2);
}

static const struct th_test tests[] = {
	TH_TEST(test_examples_run_and_end_well),
	TH_TEST(test_examples_workers_read_the_weights),
};

TH_MAIN("examples", tests)
