/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Plain memory of a program under the preload is the pool's. */
#include "tests/preload/runner.h"

static void play_program(const char *program, const char *scenario,
			 const char *const *env)
{
	const struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	th_preload_check(program, scenario, &plan);
	th_daemon_stop(&daemon);
}

static void play(const char *scenario, const char *const *env)
{
	play_program("allocates", scenario, env);
}

#define MEMORY_TEST(name, scenario, ...)                                       \
	static void name(void **state)                                         \
	{                                                                      \
		static const char *const env[] = { __VA_ARGS__, NULL };        \
		(void)state;                                                   \
		play(scenario, env);                                           \
	}

#define QUOTA "POOLSWITCH_QUOTA=20M"

MEMORY_TEST(test_memory_asks_the_driver_for_nothing, "served", NULL)
MEMORY_TEST(test_memory_impossible_sizes_get_the_drivers_codes, "wrong", NULL)
MEMORY_TEST(test_memory_freed_wrongly_is_refused, "freed_wrongly", NULL)
MEMORY_TEST(test_memory_small_blocks_differ, "small", NULL)
MEMORY_TEST(test_memory_pitched_rows_are_the_pools, "pitched", NULL)
MEMORY_TEST(test_memory_without_context_is_the_drivers, "no_context", NULL)
MEMORY_TEST(test_memory_info_follows_what_is_allocated, "informed", NULL)
MEMORY_TEST(test_memory_info_says_the_quota, "informed_of_quota", QUOTA)
MEMORY_TEST(test_memory_beyond_the_quota_is_refused, "uses_quota_up", QUOTA)
MEMORY_TEST(test_memory_free_is_fenced_and_does_not_wait, "frees_fenced", NULL)
MEMORY_TEST(test_memory_free_waits_where_told_to, "frees_waiting",
	    "POOLSWITCH_FREE=wait")
MEMORY_TEST(test_memory_calls_keep_errno, "keeps_errno", NULL)
MEMORY_TEST(test_memory_forked_child_gets_the_drivers_codes, "forks", NULL)

static void test_memory_threads_at_once_attach_once(void **state)
{
	struct th_preload run;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "allocates", "threads", NULL);
	th_preload_await(&run);
	th_daemon_wait_clients(1);
	th_preload_go(&run);
	assert_int_equal(th_preload_wait(&run), 0);
	th_daemon_stop(&daemon);
}

static void test_memory_threads_of_all_kinds_leave_nothing(void **state)
{
	(void)state;
	play_program("crowds", "streams", NULL);
}

static void test_memory_threads_with_contexts_leave_nothing(void **state)
{
	(void)state;
	play_program("crowds", "contexts", NULL);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_memory_asks_the_driver_for_nothing),
	TH_DAEMON_TEST(test_memory_impossible_sizes_get_the_drivers_codes),
	TH_DAEMON_TEST(test_memory_freed_wrongly_is_refused),
	TH_DAEMON_TEST(test_memory_small_blocks_differ),
	TH_DAEMON_TEST(test_memory_pitched_rows_are_the_pools),
	TH_DAEMON_TEST(test_memory_without_context_is_the_drivers),
	TH_DAEMON_TEST(test_memory_info_follows_what_is_allocated),
	TH_DAEMON_TEST(test_memory_info_says_the_quota),
	TH_DAEMON_TEST(test_memory_beyond_the_quota_is_refused),
	TH_DAEMON_TEST(test_memory_free_is_fenced_and_does_not_wait),
	TH_DAEMON_TEST(test_memory_free_waits_where_told_to),
	TH_DAEMON_TEST(test_memory_calls_keep_errno),
	TH_DAEMON_TEST(test_memory_forked_child_gets_the_drivers_codes),
	TH_DAEMON_TEST(test_memory_threads_at_once_attach_once),
	TH_DAEMON_TEST(test_memory_threads_of_all_kinds_leave_nothing),
	TH_DAEMON_TEST(test_memory_threads_with_contexts_leave_nothing),
};

TH_MAIN("preload_memory", tests)
