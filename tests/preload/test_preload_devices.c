/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A program under the preload that has another GPU besides the pool's. */
#include "tests/preload/runner.h"

#include <string.h>

static const char *const env[] = { "POOLSWITCH_SIM_DEVICES=2", NULL };
static const struct th_preload_plan plan = { .env = env };

#define DEVICES_TEST(name, scenario)                                           \
	static void name(void **state)                                         \
	{                                                                      \
		struct th_daemon daemon;                                       \
                                                                               \
		(void)state;                                                   \
		th_daemon_start(&daemon, NULL);                                \
		th_preload_check("devices", scenario, &plan);                  \
		th_daemon_stop(&daemon);                                       \
	}

DEVICES_TEST(test_devices_peer_that_is_let_in_reaches_all, "peer_later")
DEVICES_TEST(test_devices_peer_of_before_reaches_all, "peer_first")
DEVICES_TEST(test_devices_peer_of_a_pool_of_cudas_reaches_it, "peer_of_pool")
DEVICES_TEST(test_devices_stream_says_whose_memory_it_is, "streams")

/* Memory there stays the driver's, and nothing is taken of the pool. */
static void test_devices_other_gpu_is_no_client(void **state)
{
	struct th_daemon daemon;
	struct th_preload run;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "devices", "uses_other", &plan);
	th_preload_await(&run);
	th_daemon_wait_clients(0);
	th_preload_go(&run);
	assert_int_equal(th_preload_wait(&run), 0);
	assert_non_null(strstr(th_preload_text(run.errors), "another GPU"));
	th_daemon_stop(&daemon);
}

DEVICES_TEST(test_devices_both_are_served_each_by_its_own, "uses_both")

/* One line, of the GPU that has no pool. */
static void check_said(const char *scenario)
{
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	assert_non_null(strstr(th_preload_said("devices", scenario, &plan, 0),
			       "another GPU"));
	th_daemon_stop(&daemon);
}

static void test_devices_other_gpu_first_leaves_the_pools_served(void **state)
{
	(void)state;
	check_said("uses_other_first");
}

static void test_devices_both_at_once_are_served(void **state)
{
	static const char *const silent[] = { "POOLSWITCH_SIM_DEVICES=2",
					      "POOLSWITCH_LOG=off", NULL };
	static const struct th_preload_plan quiet = { .env = silent };
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_check("devices", "uses_both_at_once", &quiet);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_devices_other_gpu_is_no_client),
	TH_DAEMON_TEST(test_devices_both_are_served_each_by_its_own),
	TH_DAEMON_TEST(test_devices_peer_that_is_let_in_reaches_all),
	TH_DAEMON_TEST(test_devices_peer_of_before_reaches_all),
	TH_DAEMON_TEST(test_devices_peer_of_a_pool_of_cudas_reaches_it),
	TH_DAEMON_TEST(test_devices_other_gpu_first_leaves_the_pools_served),
	TH_DAEMON_TEST(test_devices_both_at_once_are_served),
	TH_DAEMON_TEST(test_devices_stream_says_whose_memory_it_is),
};

TH_MAIN("preload_devices", tests)
