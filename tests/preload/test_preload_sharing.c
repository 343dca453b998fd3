/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Processes under the preload share memory as CUDA programs do. */
#include "tests/preload/runner.h"

#include <unistd.h>

static void play(const char *program, const char *scenario,
		 const struct th_preload_plan *plan)
{
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	th_preload_check(program, scenario, plan);
	th_daemon_stop(&daemon);
}

#define SHARING_TEST(name, program, scenario)                                  \
	static void name(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		play(program, scenario, NULL);                                 \
	}

SHARING_TEST(test_share_both_see_what_the_other_writes, "shares", "both_write")
SHARING_TEST(test_share_opened_twice_is_closed_twice, "shares", "opened_twice")
SHARING_TEST(test_share_is_closed_behind_other_contexts, "shares",
	     "closed_behind_a_context")
SHARING_TEST(test_share_opened_memory_is_not_freed, "shares",
	     "opened_not_freed")
SHARING_TEST(test_share_inner_address_gives_the_block, "shares",
	     "of_the_middle")
SHARING_TEST(test_share_outlives_its_producer, "shares", "producer_dies")
SHARING_TEST(test_share_of_a_producer_that_is_gone_is_refused, "shares",
	     "producer_is_gone")
SHARING_TEST(test_share_of_its_own_is_refused, "shares", "opens_its_own")
SHARING_TEST(test_share_by_forged_handle_is_refused, "shares", "forged")
SHARING_TEST(test_share_of_freed_memory_is_refused, "shares",
	     "freed_is_not_given")
SHARING_TEST(test_share_of_a_lease_that_ended_is_refused, "shares",
	     "lease_ended")
SHARING_TEST(test_share_own_object_stays_the_drivers, "exports",
	     "shared_object")
SHARING_TEST(test_share_ranges_handles_and_descriptors_agree, "exports",
	     "one_story")
SHARING_TEST(test_share_buffer_ids_are_those_of_the_ranges, "exports",
	     "buffer_ids")
SHARING_TEST(test_share_exported_segment_outlives_its_owner, "exports",
	     "owner_dies")
SHARING_TEST(test_share_handle_released_exports_nothing, "exports",
	     "released_handle")

/* The daemon has begun anew meanwhile: another pool, another key. */
static void test_share_by_foreign_handle_is_refused(void **state)
{
	(void)state;
	play("shares", "writes_handle", NULL);
	play("shares", "refuses_handle", NULL);
}

static void test_share_by_stale_handle_is_refused(void **state)
{
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_check("shares", "writes_handle", NULL);
	th_daemon_settle(0, &(struct th_daemon_sums){ 0 });
	th_preload_check("shares", "refuses_handle", NULL);
	th_daemon_stop(&daemon);
}

static void test_share_of_spilled_memory_is_the_drivers(void **state)
{
	const char *env[] = { "POOLSWITCH_AT_QUOTA=spill", "POOLSWITCH_LOG=off",
			      NULL };
	struct th_preload_plan plan = { .env = env };

	(void)state;
	play("shares", "spilled", &plan);
}

static void test_share_with_another_user_is_refused(void **state)
{
	const char *const options[] = { "--socket-mode", "666", NULL };
	struct th_daemon_plan open = { .options = options };
	struct th_daemon daemon;

	(void)state;
	if (geteuid() != 0)
		th_skip("only root becomes another user");
	th_daemon_start(&daemon, &open);
	th_open_to_all();
	th_preload_check("shares", "other_user", NULL);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_share_both_see_what_the_other_writes),
	TH_DAEMON_TEST(test_share_opened_twice_is_closed_twice),
	TH_DAEMON_TEST(test_share_is_closed_behind_other_contexts),
	TH_DAEMON_TEST(test_share_opened_memory_is_not_freed),
	TH_DAEMON_TEST(test_share_inner_address_gives_the_block),
	TH_DAEMON_TEST(test_share_outlives_its_producer),
	TH_DAEMON_TEST(test_share_of_a_producer_that_is_gone_is_refused),
	TH_DAEMON_TEST(test_share_of_its_own_is_refused),
	TH_DAEMON_TEST(test_share_by_forged_handle_is_refused),
	TH_DAEMON_TEST(test_share_by_foreign_handle_is_refused),
	TH_DAEMON_TEST(test_share_by_stale_handle_is_refused),
	TH_DAEMON_TEST(test_share_of_a_lease_that_ended_is_refused),
	TH_DAEMON_TEST(test_share_with_another_user_is_refused),
	TH_DAEMON_TEST(test_share_own_object_stays_the_drivers),
	TH_DAEMON_TEST(test_share_of_freed_memory_is_refused),
	TH_DAEMON_TEST(test_share_of_spilled_memory_is_the_drivers),
	TH_DAEMON_TEST(test_share_ranges_handles_and_descriptors_agree),
	TH_DAEMON_TEST(test_share_buffer_ids_are_those_of_the_ranges),
	TH_DAEMON_TEST(test_share_exported_segment_outlives_its_owner),
	TH_DAEMON_TEST(test_share_handle_released_exports_nothing),
};

TH_GPU_MAIN("preload_sharing", tests, NULL)
