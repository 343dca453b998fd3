/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* For what a ticket is given. */
#include "poold/core.h"

#include "base/status.h"
#include "tests/support/core_world.h"
#include "tests/support/harness.h"

#define PARAMETER 3u
#define SEGMENTS 20u
#define CLIENTS 2u
#define FIRST PARAMETER /* what @a gets first */

static struct tc_world world;
static uint32_t a;

static int set_up(void **state)
{
	(void)state;
	assert_true(tc_open(&world, PARAMETER, SEGMENTS, CLIENTS));
	th_assert_ok(tc_admit(&world, 1, 0, 0, &a));
	assert_int_equal(tc_take(&world, a, 4, 0, 0), TC_GRANT);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_string_equal(world.wrong, "");
	th_assert_ok(pd_core_check(world.core));
	tc_close(&world);
	return 0;
}

static void expect_no_ticket(const struct ip_issue *issue,
			     enum ps_status status)
{
	struct pd_grant_of grant = { .owner = 77 };

	th_assert_status(pd_core_issue(world.core, a, issue, &grant), status);
	assert_int_equal(grant.owner, 77);
}

static void test_core_issue_names_owner_runs_and_range(void **state)
{
	const struct ip_issue issue = { .run_count = 2,
					.run = { { FIRST + 2, 2 },
						 { FIRST, 1 } },
					.offset = 512,
					.bytes = 3 * TC_UNIT - 512 };
	struct pd_grant_of grant;

	(void)state;
	th_assert_ok(pd_core_issue(world.core, a, &issue, &grant));
	assert_int_equal(grant.owner, world.client[a].id);
	assert_int_equal(grant.run_count, 2);
	assert_memory_equal(grant.run, issue.run, 2 * sizeof(issue.run[0]));
	assert_int_equal(grant.offset, 512);
	assert_int_equal(grant.bytes, 3 * TC_UNIT - 512);
}

static void test_core_issue_of_what_is_not_leased_is_refused(void **state)
{
	struct ip_issue issue = { .run_count = 1, .bytes = 512 };

	(void)state;
	th_assert_ok(tc_give_some(&world, a, 1, false, true));
	issue.run[0] = (struct ip_run){ FIRST, 1 };
	expect_no_ticket(&issue, PS_PERMISSION);
	issue.run[0] = (struct ip_run){ FIRST + 4, 1 };
	expect_no_ticket(&issue, PS_PERMISSION);
	issue.run[0] = (struct ip_run){ 0, 1 };
	expect_no_ticket(&issue, PS_PERMISSION);
	assert_int_equal(tc_take(&world, a, 1, 0, IP_TAKE_OUTSIDE), TC_NONE);
	issue.run[0] = (struct ip_run){ FIRST + 4, 1 };
	expect_no_ticket(&issue, PS_PERMISSION);
}

static void test_core_issue_of_anothers_is_refused(void **state)
{
	struct ip_issue issue = { .run_count = 1,
				  .run = { { FIRST + 3, 2 } },
				  .bytes = 512 };
	uint32_t b;

	(void)state;
	th_assert_ok(tc_admit(&world, 1, 0, 0, &b));
	assert_int_equal(tc_take(&world, b, 1, 0, 0), TC_GRANT);
	expect_no_ticket(&issue, PS_PERMISSION);
}

static void test_core_issue_of_strange_runs_is_refused(void **state)
{
	static const struct ip_issue strange[] = {
		{ .run_count = 0 },
		{ .run_count = IP_TICKET_RUNS + 1 },
		{ .run_count = 1, .run = { { FIRST, 0 } } },
		{ .run_count = 1, .run = { { PARAMETER + SEGMENTS, 1 } } },
		{ .run_count = 1, .run = { { FIRST, SEGMENTS + 1 } } },
		{ .run_count = 1, .run = { { FIRST, UINT32_MAX } } },
		{ .run_count = 1, .run = { { UINT32_MAX, 2 } } },
		{ .run_count = 2, .run = { { FIRST, 2 }, { FIRST + 1, 1 } } },
	};
	struct ip_issue issue;
	uint32_t i;

	(void)state;
	for (i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
		issue = strange[i];
		issue.bytes = 512;
		expect_no_ticket(&issue, PS_INVALID_ARGUMENT);
	}
}

static void test_core_issue_of_a_strange_range_is_refused(void **state)
{
	static const struct ip_issue strange[] = {
		{ .bytes = 0 },
		{ .bytes = 511 },
		{ .bytes = 512, .offset = 1 },
		{ .bytes = TC_UNIT + 512 },
		{ .bytes = TC_UNIT, .offset = 512 },
		{ .bytes = 512, .offset = TC_UNIT },
		{ .bytes = 512, .offset = UINT64_MAX - 511 },
		{ .bytes = UINT64_MAX - 511, .offset = 512 },
	};
	struct ip_issue issue;
	uint32_t i;

	(void)state;
	for (i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
		issue = strange[i];
		issue.run_count = 1;
		issue.run[0] = (struct ip_run){ FIRST, 1 };
		expect_no_ticket(&issue, PS_INVALID_ARGUMENT);
	}
}

static const struct th_test tests[] = {
#define TEST(name) TH_TEST_SETUP(name, set_up, tear_down)
	TEST(test_core_issue_names_owner_runs_and_range),
	TEST(test_core_issue_of_what_is_not_leased_is_refused),
	TEST(test_core_issue_of_anothers_is_refused),
	TEST(test_core_issue_of_strange_runs_is_refused),
	TEST(test_core_issue_of_a_strange_range_is_refused),
};

TH_MAIN("core_issue", tests)
