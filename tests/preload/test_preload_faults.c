/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A program under the preload whose driver fails, or whose GPU is lost, gets
 * errors and nothing worse. */
#include "tests/preload/runner.h"

#include <string.h>

static void assert_own_lines(const char *said)
{
	const char *line = said, *end;

	for (; *line != '\0'; line = end + 1) {
		end = strchr(line, '\n');
		if (strncmp(line, "poolswitch: ", 12) != 0 || end == NULL)
			fail_msg("\"%s\" is none of the preload's lines", line);
	}
}

static void test_faults_each_call_fails_and_nothing_ends(void **state)
{
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	assert_own_lines(th_preload_said("fails", "each_call", NULL, 0));
	th_daemon_stop(&daemon);
}

static void test_faults_lost_gpu_gives_the_drivers_code(void **state)
{
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	assert_own_lines(th_preload_said("fails", "lost", NULL, 0));
	th_daemon_kill(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_faults_each_call_fails_and_nothing_ends),
	TH_DAEMON_TEST(test_faults_lost_gpu_gives_the_drivers_code),
};

TH_MAIN("preload_faults", tests)
