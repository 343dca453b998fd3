/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Each way of finding the driver's functions leads to the preload's. */
#include "tests/preload/runner.h"

#include <stdlib.h>

/* The scenario has the test's name. */
#define RESOLVE_TEST(name, program, scenario)                                  \
	static void name(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		th_preload_check(program, scenario, NULL);                     \
	}

RESOLVE_TEST(test_resolve_as_runtime_finds_ours, "resolves", "as_runtime")
RESOLVE_TEST(test_resolve_as_old_runtime_finds_ours, "resolves",
	     "as_old_runtime")
RESOLVE_TEST(test_resolve_per_thread_flag_picks_that_variant, "resolves",
	     "per_thread")
RESOLVE_TEST(test_resolve_unknown_name_stays_a_null_function, "resolves",
	     "nothing_found")
RESOLVE_TEST(test_resolve_refusal_is_the_drivers, "resolves", "refused")
RESOLVE_TEST(test_resolve_version_picks_the_abi, "resolves", "other_version")
RESOLVE_TEST(test_resolve_every_hook_by_dlsym_is_ours, "resolves", "every_hook")
RESOLVE_TEST(test_resolve_all_others_are_the_drivers, "resolves", "all_others")
RESOLVE_TEST(test_resolve_success_keeps_errno_and_dlerror, "resolves",
	     "errors_kept")
RESOLVE_TEST(test_resolve_without_driver_finds_nothing, "resolves", "no_driver")
RESOLVE_TEST(test_resolve_others_name_is_theirs, "resolves", "others_name")
RESOLVE_TEST(test_resolve_dlsym_by_dlsym_is_ours, "resolves",
	     "asked_for_itself")
RESOLVE_TEST(test_resolve_driver_closed_and_opened_is_ours, "resolves",
	     "opened_again")
RESOLVE_TEST(test_resolve_threads_at_once_find_ours, "resolves", "threads")
RESOLVE_TEST(test_resolve_child_that_is_first_finds_ours, "resolves",
	     "forks_first")
RESOLVE_TEST(test_resolve_child_after_parent_finds_ours, "resolves",
	     "forks_later")
RESOLVE_TEST(test_resolve_program_executed_anew_finds_ours, "resolves",
	     "executes")
RESOLVE_TEST(test_resolve_next_is_the_callers_next, "scopes", "next")
RESOLVE_TEST(test_resolve_default_is_the_callers_default, "scopes",
	     "by_default")
RESOLVE_TEST(test_resolve_local_names_are_the_librarys, "scopes", "local")
RESOLVE_TEST(test_resolve_scopes_with_driver_find_ours, "scopes", "driver")

/* The program is linked to the simulated driver, beside it. */
static void test_resolve_linked_program_finds_ours(void **state)
{
	(void)state;
	if (getenv("POOLSWITCH_DRIVER") == NULL)
		th_skip("linked to the simulated driver");
	th_preload_check("links", "finds_ours", NULL);
}

RESOLVE_TEST(test_resolve_old_dlsym_finds_ours, "versions", "old")
RESOLVE_TEST(test_resolve_newest_dlsym_finds_ours, "versions", "newest")

/* As new as the newest hook. */
#define NEWEST "POOLSWITCH_SIM_VERSION=13000"

static void test_resolve_every_hook_by_version_is_ours(void **state)
{
	static const char *const env[] = { NEWEST, NULL };
	const struct th_preload_plan plan = { .env = env };

	(void)state;
	th_preload_check("resolves", "every_version", &plan);
}

/* A driver whose own resolver gives other addresses than dlsym does. */
static void check_second(const char *scenario)
{
	static const char *const env[] = { "POOLSWITCH_SIM_SECOND_ADDRESSES=1",
					   NEWEST, NULL };
	const struct th_preload_plan plan = { .env = env };

	th_preload_check("resolves", scenario, &plan);
}

static void test_resolve_second_addresses_are_ours(void **state)
{
	(void)state;
	check_second("every_version");
}

static void test_resolve_second_resolver_is_ours(void **state)
{
	(void)state;
	check_second("as_runtime");
}

static void test_resolve_second_per_thread_address_is_that(void **state)
{
	(void)state;
	check_second("per_thread");
}

static const struct th_test tests[] = {
	TH_TEST(test_resolve_as_runtime_finds_ours),
	TH_TEST(test_resolve_as_old_runtime_finds_ours),
	TH_TEST(test_resolve_per_thread_flag_picks_that_variant),
	TH_TEST(test_resolve_unknown_name_stays_a_null_function),
	TH_TEST(test_resolve_refusal_is_the_drivers),
	TH_TEST(test_resolve_version_picks_the_abi),
	TH_TEST(test_resolve_every_hook_by_dlsym_is_ours),
	TH_TEST(test_resolve_every_hook_by_version_is_ours),
	TH_TEST(test_resolve_all_others_are_the_drivers),
	TH_TEST(test_resolve_success_keeps_errno_and_dlerror),
	TH_TEST(test_resolve_without_driver_finds_nothing),
	TH_TEST(test_resolve_others_name_is_theirs),
	TH_TEST(test_resolve_dlsym_by_dlsym_is_ours),
	TH_TEST(test_resolve_driver_closed_and_opened_is_ours),
	TH_TEST(test_resolve_threads_at_once_find_ours),
	TH_TEST(test_resolve_child_that_is_first_finds_ours),
	TH_TEST(test_resolve_child_after_parent_finds_ours),
	TH_TEST(test_resolve_program_executed_anew_finds_ours),
	TH_TEST(test_resolve_next_is_the_callers_next),
	TH_TEST(test_resolve_default_is_the_callers_default),
	TH_TEST(test_resolve_local_names_are_the_librarys),
	TH_TEST(test_resolve_scopes_with_driver_find_ours),
	TH_TEST(test_resolve_linked_program_finds_ours),
	TH_TEST(test_resolve_old_dlsym_finds_ours),
	TH_TEST(test_resolve_newest_dlsym_finds_ours),
	TH_TEST(test_resolve_second_addresses_are_ours),
	TH_TEST(test_resolve_second_resolver_is_ours),
	TH_TEST(test_resolve_second_per_thread_address_is_that),
};

TH_GPU_MAIN("preload_resolve", tests, NULL)
