/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A driver that no pool can be had from is left to the program, with a line. */
#include "tests/preload/runner.h"

#include <string.h>

static void assert_told(const char *said)
{
	const char *end = strchr(said, '\n');

	if (!end || end[1] != '\0' || !strstr(said, "525"))
		fail_msg("it said \"%s\"", said);
}

static void test_older_allocation_is_the_drivers(void **state)
{
	(void)state;
	assert_told(th_preload_said("older", "by_dlsym", NULL, 0));
}

static void test_older_other_address_leads_to_ours(void **state)
{
	(void)state;
	assert_told(th_preload_said("older", "by_resolver", NULL, 0));
}

static void test_older_variant_of_another_age_is_the_drivers(void **state)
{
	(void)state;
	th_preload_check("older", "older_variant", NULL);
}

static void test_older_success_keeps_errno_and_dlerror(void **state)
{
	(void)state;
	th_preload_check("older", "errors_kept", NULL);
}

static void test_older_missing_function_is_not_supported(void **state)
{
	(void)state;
	th_preload_said("older", "what_it_lacks", NULL, 0);
}

static void test_older_no_driver_is_not_initialized(void **state)
{
	(void)state;
	th_preload_check("older", "none", NULL);
}

static const struct th_test tests[] = {
	TH_TEST(test_older_allocation_is_the_drivers),
	TH_TEST(test_older_other_address_leads_to_ours),
	TH_TEST(test_older_variant_of_another_age_is_the_drivers),
	TH_TEST(test_older_success_keeps_errno_and_dlerror),
	TH_TEST(test_older_missing_function_is_not_supported),
	TH_TEST(test_older_no_driver_is_not_initialized),
};

TH_MAIN("preload_older", tests)
