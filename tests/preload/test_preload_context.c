/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Contexts of a program under the preload: what is waited for in them, and
 * what goes with them. */
#include "tests/preload/runner.h"

static const char *const env[] = { "POOLSWITCH_QUOTA=20M", NULL };
static const struct th_preload_plan plan = { .env = env };

#define CONTEXT_TEST(name, scenario)                                           \
	static void name(void **state)                                         \
	{                                                                      \
		struct th_daemon daemon;                                       \
                                                                               \
		(void)state;                                                   \
		th_daemon_start(&daemon, NULL);                                \
		th_preload_check("contexts", scenario, &plan);                 \
		th_daemon_stop(&daemon);                                       \
	}

CONTEXT_TEST(test_context_alone_has_the_pool, "alone")
CONTEXT_TEST(test_context_destroyed_takes_its_blocks, "takes_its_blocks")
CONTEXT_TEST(test_context_destroyed_leaves_others_blocks, "leaves_others")
CONTEXT_TEST(test_context_work_is_waited_for_by_a_free, "waits")
CONTEXT_TEST(test_context_work_is_waited_for_by_an_ordered_free, "waits_async")
CONTEXT_TEST(test_context_released_once_of_two_changes_nothing, "releases_one")

/* The program is no client any more, and becomes one again. */
static void check_gone(const char *scenario)
{
	struct th_daemon daemon;
	struct th_preload run;

	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "contexts", scenario, &plan);
	th_preload_await(&run);
	th_daemon_wait_clients(0);
	th_preload_go(&run);
	if (th_preload_wait(&run) != 0)
		fail_msg("%s", th_preload_text(run.errors));
	th_daemon_stop(&daemon);
}

static void test_context_reset_leaves_the_pool(void **state)
{
	(void)state;
	check_gone("resets");
}

static void test_context_released_leaves_the_pool(void **state)
{
	(void)state;
	check_gone("releases");
}

static void test_context_reset_by_a_runtime_leaves_the_pool(void **state)
{
	(void)state;
	check_gone("resets_as_runtime");
}

static void test_context_released_by_a_runtime_leaves_the_pool(void **state)
{
	(void)state;
	check_gone("releases_as_runtime");
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_context_alone_has_the_pool),
	TH_DAEMON_TEST(test_context_destroyed_takes_its_blocks),
	TH_DAEMON_TEST(test_context_destroyed_leaves_others_blocks),
	TH_DAEMON_TEST(test_context_work_is_waited_for_by_a_free),
	TH_DAEMON_TEST(test_context_work_is_waited_for_by_an_ordered_free),
	TH_DAEMON_TEST(test_context_released_once_of_two_changes_nothing),
	TH_DAEMON_TEST(test_context_reset_leaves_the_pool),
	TH_DAEMON_TEST(test_context_released_leaves_the_pool),
	TH_DAEMON_TEST(test_context_reset_by_a_runtime_leaves_the_pool),
	TH_DAEMON_TEST(test_context_released_by_a_runtime_leaves_the_pool),
};

TH_MAIN("preload_context", tests)
