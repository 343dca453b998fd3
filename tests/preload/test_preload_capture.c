/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What is freed during a capture lives as long as what was captured. */
#include "tests/preload/runner.h"

static void play(const char *scenario)
{
	static const char *const env[] = { "POOLSWITCH_QUOTA=20M", NULL };
	const struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	th_preload_check("captures", scenario, &plan);
	th_daemon_stop(&daemon);
}

#define CAPTURE_TEST(name, scenario)                                           \
	static void name(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		play(scenario);                                                \
	}

CAPTURE_TEST(test_capture_allocates_from_the_pool, "allocates")
CAPTURE_TEST(test_capture_unseen_by_the_pool_is_not_spoilt, "is_kept")
CAPTURE_TEST(test_capture_block_freed_twice_is_refused, "frees_twice")
CAPTURE_TEST(test_capture_ordered_memory_is_the_graphs, "allocates_for_graph")
CAPTURE_TEST(test_capture_first_allocation_attaches, "attaches_meanwhile")
CAPTURE_TEST(test_capture_graph_keeps_a_freed_block, "graph")
CAPTURE_TEST(test_capture_executable_keeps_a_freed_block, "executable")
CAPTURE_TEST(test_capture_clone_keeps_a_freed_block, "clone")
CAPTURE_TEST(test_capture_parent_keeps_a_freed_block, "child")
CAPTURE_TEST(test_capture_parent_by_a_node_keeps_a_freed_block, "child_node")
CAPTURE_TEST(test_capture_updated_one_keeps_a_freed_block, "updated")
CAPTURE_TEST(test_capture_updated_one_lets_go_of_what_it_named, "updated_away")
CAPTURE_TEST(test_capture_old_way_keeps_a_freed_block, "made_as_of_old")
CAPTURE_TEST(test_capture_begun_the_old_way_keeps_a_freed_block,
	     "begun_as_of_old")
CAPTURE_TEST(test_capture_into_a_graph_keeps_a_freed_block, "into_graph")
CAPTURE_TEST(test_capture_all_graphs_keep_a_freed_block, "two_at_once")
CAPTURE_TEST(test_capture_refused_holds_nothing, "refused")
CAPTURE_TEST(test_capture_invalidated_holds_nothing, "invalidated")
CAPTURE_TEST(test_capture_ended_elsewhere_goes_on, "ended_wrongly")
CAPTURE_TEST(test_capture_of_destroyed_stream_ends, "stream_destroyed")

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_capture_allocates_from_the_pool),
	TH_DAEMON_TEST(test_capture_unseen_by_the_pool_is_not_spoilt),
	TH_DAEMON_TEST(test_capture_block_freed_twice_is_refused),
	TH_DAEMON_TEST(test_capture_ordered_memory_is_the_graphs),
	TH_DAEMON_TEST(test_capture_first_allocation_attaches),
	TH_DAEMON_TEST(test_capture_graph_keeps_a_freed_block),
	TH_DAEMON_TEST(test_capture_executable_keeps_a_freed_block),
	TH_DAEMON_TEST(test_capture_clone_keeps_a_freed_block),
	TH_DAEMON_TEST(test_capture_parent_keeps_a_freed_block),
	TH_DAEMON_TEST(test_capture_parent_by_a_node_keeps_a_freed_block),
	TH_DAEMON_TEST(test_capture_updated_one_keeps_a_freed_block),
	TH_DAEMON_TEST(test_capture_updated_one_lets_go_of_what_it_named),
	TH_DAEMON_TEST(test_capture_old_way_keeps_a_freed_block),
	TH_DAEMON_TEST(test_capture_begun_the_old_way_keeps_a_freed_block),
	TH_DAEMON_TEST(test_capture_into_a_graph_keeps_a_freed_block),
	TH_DAEMON_TEST(test_capture_all_graphs_keep_a_freed_block),
	TH_DAEMON_TEST(test_capture_refused_holds_nothing),
	TH_DAEMON_TEST(test_capture_invalidated_holds_nothing),
	TH_DAEMON_TEST(test_capture_ended_elsewhere_goes_on),
	TH_DAEMON_TEST(test_capture_of_destroyed_stream_ends),
};

TH_MAIN("preload_capture", tests)
