/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Stream-ordered memory of a program under the preload is the pool's. */
#include "tests/preload/runner.h"

#define ASYNC_TEST(name, scenario)                                             \
	static void name(void **state)                                         \
	{                                                                      \
		struct th_daemon daemon;                                       \
                                                                               \
		(void)state;                                                   \
		th_daemon_start(&daemon, NULL);                                \
		th_preload_check("orders", scenario, NULL);                    \
		th_daemon_stop(&daemon);                                       \
	}

ASYNC_TEST(test_async_same_stream_gets_it_at_once, "served")
ASYNC_TEST(test_async_per_thread_stream_is_the_threads, "per_thread")
ASYNC_TEST(test_async_other_stream_waits, "other_stream")
ASYNC_TEST(test_async_destroyed_stream_leaves_nothing, "destroyed")
ASYNC_TEST(test_async_plain_and_ordered_frees_mix, "crosswise")
ASYNC_TEST(test_async_wrong_arguments_get_the_drivers_codes, "wrong")
ASYNC_TEST(test_async_pools_count_to_the_byte, "counts")
ASYNC_TEST(test_async_trim_gives_what_is_free, "trims")
ASYNC_TEST(test_async_settings_are_the_drivers, "settings")
ASYNC_TEST(test_async_chosen_pool_is_counted, "chosen")
ASYNC_TEST(test_async_bounded_pool_is_bounded, "bounded")
ASYNC_TEST(test_async_exportable_pool_is_the_drivers, "exportable")

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_async_same_stream_gets_it_at_once),
	TH_DAEMON_TEST(test_async_per_thread_stream_is_the_threads),
	TH_DAEMON_TEST(test_async_other_stream_waits),
	TH_DAEMON_TEST(test_async_destroyed_stream_leaves_nothing),
	TH_DAEMON_TEST(test_async_plain_and_ordered_frees_mix),
	TH_DAEMON_TEST(test_async_wrong_arguments_get_the_drivers_codes),
	TH_DAEMON_TEST(test_async_pools_count_to_the_byte),
	TH_DAEMON_TEST(test_async_trim_gives_what_is_free),
	TH_DAEMON_TEST(test_async_settings_are_the_drivers),
	TH_DAEMON_TEST(test_async_chosen_pool_is_counted),
	TH_DAEMON_TEST(test_async_bounded_pool_is_bounded),
	TH_DAEMON_TEST(test_async_exportable_pool_is_the_drivers),
};

TH_MAIN("preload_async", tests)
