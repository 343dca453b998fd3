/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Plain memory of a program under the preload is the pool's. */
#include "tests/preload/runner.h"

static void check(const char *scenario)
{
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	th_preload_check("allocates", scenario, NULL);
	th_daemon_stop(&daemon);
}

static void test_memory_freed_twice_is_refused(void **state)
{
	(void)state;
	check("frees");
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_memory_freed_twice_is_refused),
};

TH_MAIN("preload_memory", tests)
