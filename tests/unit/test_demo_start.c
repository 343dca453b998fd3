/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The demo's simulated GPU goes with it, however it ends. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "demo/start.h"
#include "tests/support/harness.h"

struct program {
	int says[2]; /* a pipe: where its simulated GPU is */
	int ending;  /* a signal; 0: it waits for one */
};

static struct program program;
static char folder[256];

static void run_program(void *unused)
{
	(void)unused;
	unsetenv("POOLSWITCH_SIM_DIR");
	th_assert_ok(dm_sim_begin());
	strcpy(folder, getenv("POOLSWITCH_SIM_DIR"));
	assert_true(write(program.says[1], folder, sizeof(folder)) > 0);
	if (program.ending == 0)
		pause();
	raise(program.ending);
}

/* The program's first process; its folder is known and there. */
static pid_t start(int ending)
{
	pid_t pid;

	program.ending = ending;
	assert_int_equal(pipe(program.says), 0);
	pid = th_fork(run_program, NULL);
	assert_int_equal(read(program.says[0], folder, sizeof(folder)),
			 sizeof(folder));
	close(program.says[0]);
	close(program.says[1]);
	return pid;
}

static void test_demo_start_killed_program_leaves_no_gpu(void **state)
{
	pid_t pid = start(SIGKILL);

	(void)state;
	assert_int_equal(th_wait(pid), 128 + SIGKILL);
	assert_int_not_equal(access(folder, F_OK), 0);
}

static void test_demo_start_signal_is_passed_on(void **state)
{
	pid_t pid = start(0);

	(void)state;
	assert_int_equal(access(folder, F_OK), 0);
	kill(pid, SIGTERM);
	assert_int_equal(th_wait(pid), 128 + SIGTERM);
	assert_int_not_equal(access(folder, F_OK), 0);
}

static const struct th_test tests[] = {
	TH_TEST(test_demo_start_killed_program_leaves_no_gpu),
	TH_TEST(test_demo_start_signal_is_passed_on),
};

TH_MAIN("demo_start", tests)
