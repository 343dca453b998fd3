/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the pool cannot hold has room made for it, within the quota. */
#include "tests/preload/runner.h"

#include <stdio.h>

/* Of the pool, what this client may have. */
#define SEGMENTS 12

static const char *quota(void)
{
	static char text[64];

	snprintf(text, sizeof(text), "POOLSWITCH_QUOTA=%llu",
		 (unsigned long long)(SEGMENTS * TH_DAEMON_SEGMENT));
	return text;
}

static void play(const char *scenario)
{
	const char *const env[] = { quota(), NULL };
	struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	th_preload_check("objects", scenario, &plan);
	th_daemon_stop(&daemon);
}

#define OBJECTS_TEST(name, scenario)                                           \
	static void name(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		play(scenario);                                                \
	}

OBJECTS_TEST(test_objects_mapped_and_unmapped_keep_their_bytes, "expands")
OBJECTS_TEST(test_objects_and_blocks_share_the_quota, "shares_quota")
OBJECTS_TEST(test_objects_are_counted_in_the_free_memory, "counted_in_info")
OBJECTS_TEST(test_objects_on_the_host_are_not_counted, "on_the_host")
OBJECTS_TEST(test_objects_managed_memory_is_within_the_quota, "managed")
OBJECTS_TEST(test_objects_arrays_have_room_until_destroyed, "arrays")

OBJECTS_TEST(test_objects_of_graphs_have_room_until_trimmed, "graphs")
OBJECTS_TEST(test_objects_in_a_child_leave_the_parents_alone, "forks")

OBJECTS_TEST(test_objects_outlive_the_context_and_its_pool, "resets")

static void test_objects_on_another_gpu_are_not_counted(void **state)
{
	const char *const env[] = { quota(), "POOLSWITCH_SIM_DEVICES=2", NULL };
	struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_check("objects", "on_another_gpu", &plan);
	th_daemon_stop(&daemon);
}

static int64_t number_of(pid_t pid, const char *name)
{
	json_t *status = th_daemon_status();
	json_t *client = th_status_client(status, pid);
	int64_t bytes;

	assert_non_null(client);
	bytes = th_json_number(client, name);
	json_decref(status);
	return bytes;
}

static void test_objects_are_shown_by_the_daemon(void **state)
{
	const char *const env[] = { quota(), NULL };
	struct th_preload_plan plan = { .env = env };
	struct th_preload run;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "objects", "has_outside", &plan);
	th_preload_await(&run);
	assert_int_equal(number_of(run.pid, "outside"), 3 * TH_DAEMON_SEGMENT);
	th_preload_go(&run);
	th_preload_await(&run);
	th_preload_go(&run);
	assert_int_equal(th_preload_wait(&run), 0);
	th_daemon_stop(&daemon);
}

/* The daemon asks the process, and shows the last answer that it had. */
static void await_number(pid_t pid, const char *name, int64_t wanted)
{
	uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);

	while (number_of(pid, name) != wanted) {
		if (th_now_ns() > end)
			fail_msg("%s does not become %lld", name,
				 (long long)wanted);
		th_rest_ms(5);
	}
}

static void test_objects_beyond_the_quota_spill_and_are_counted(void **state)
{
	const char *const env[] = { quota(), "POOLSWITCH_AT_QUOTA=spill",
				    "POOLSWITCH_LOG=off", NULL };
	struct th_preload_plan plan = { .env = env };
	struct th_preload run;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "objects", "spills", &plan);
	th_preload_await(&run);
	assert_int_equal(number_of(run.pid, "outside"),
			 SEGMENTS * TH_DAEMON_SEGMENT);
	await_number(run.pid, "passed", 2 * TH_DAEMON_SEGMENT);
	th_preload_go(&run);
	assert_int_equal(th_preload_wait(&run), 0);
	th_daemon_stop(&daemon);
}

static void test_objects_of_a_killed_program_come_back(void **state)
{
	const char *const env[] = { quota(), NULL };
	struct th_preload_plan plan = { .env = env };
	struct th_preload run;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "objects", "has_outside", &plan);
	th_preload_await(&run);
	th_preload_kill(&run);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_objects_mapped_and_unmapped_keep_their_bytes),
	TH_DAEMON_TEST(test_objects_and_blocks_share_the_quota),
	TH_DAEMON_TEST(test_objects_are_counted_in_the_free_memory),
	TH_DAEMON_TEST(test_objects_on_the_host_are_not_counted),
	TH_DAEMON_TEST(test_objects_on_another_gpu_are_not_counted),
	TH_DAEMON_TEST(test_objects_managed_memory_is_within_the_quota),
	TH_DAEMON_TEST(test_objects_arrays_have_room_until_destroyed),
	TH_DAEMON_TEST(test_objects_of_graphs_have_room_until_trimmed),
	TH_DAEMON_TEST(test_objects_in_a_child_leave_the_parents_alone),
	TH_DAEMON_TEST(test_objects_outlive_the_context_and_its_pool),
	TH_DAEMON_TEST(test_objects_beyond_the_quota_spill_and_are_counted),
	TH_DAEMON_TEST(test_objects_are_shown_by_the_daemon),
	TH_DAEMON_TEST(test_objects_of_a_killed_program_come_back),
};

TH_GPU_MAIN("preload_objects", tests, NULL)
