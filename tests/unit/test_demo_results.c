/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The demo judges itself: each thing that can be off is seen. */
#include <stdio.h>
#include <string.h>

#include "demo/results.h"
#include "tests/support/harness.h"

static struct dm_results results;

/* A run in which all is well. */
static int set_up(void **state)
{
	(void)state;
	results = (struct dm_results){
		.gpu_name = "GPU",
		.gpu_uuid = "GPU-0",
		.images = 597,
		.switches = 20,
		.weight_bytes = 300,
		.models = { { "mlp", 6, 582, 200, 1, 0x1000 },
			    { "cnn", 8, 588, 100, 2, 0x2000 } },
	};
	for (int i = 0; i < (int)DM_WORKERS; i++)
		results.workers[i] = (struct dm_worker_result){
			.right = { 582, 588 },
			.summary = { .addresses = { 0x1000, 0x2000 },
				     .first_block = 0x5000u + (unsigned int)i,
				     .switches = 20,
				     .read_only = 1 },
		};
	return 0;
}

static void expect_problem(const char *words)
{
	struct dm_problems problems;

	dm_results_judge(&results, &problems);
	assert_int_equal(problems.count, 1);
	if (strstr(problems.texts[0], words) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", problems.texts[0], words);
}

static void test_demo_results_as_expected_are_well(void **state)
{
	struct dm_problems problems;

	(void)state;
	dm_results_judge(&results, &problems);
	assert_int_equal(problems.count, 0);
}

static void test_demo_results_other_accuracy_is_wrong(void **state)
{
	(void)state;
	results.workers[1].right[0] = 583;
	expect_problem("worker 2: mlp has 583 of 597 right, 582");
}

static void test_demo_results_other_address_is_wrong(void **state)
{
	(void)state;
	results.workers[0].summary.addresses[1] = 0x3000;
	expect_problem("worker 1: cnn lies at 0x3000");
}

static void test_demo_results_copied_weights_are_wrong(void **state)
{
	(void)state;
	results.workers[0].summary.weight_bytes = 4;
	expect_problem("worker 1 copied 4 bytes");
}

static void test_demo_results_writable_weights_are_wrong(void **state)
{
	(void)state;
	results.workers[1].summary.read_only = 0;
	expect_problem("worker 2 could write");
}

static void test_demo_results_same_memory_is_wrong(void **state)
{
	(void)state;
	results.workers[1].summary.first_block = 0x5000;
	expect_problem("workers 1 and 2 allocate from the same 0x5000");
}

static void test_demo_results_missing_switch_is_wrong(void **state)
{
	(void)state;
	results.workers[1].summary.switches = 19;
	expect_problem("switched 19 times");
}

static void test_demo_results_second_copy_is_wrong(void **state)
{
	(void)state;
	results.weight_bytes = 600;
	expect_problem("the controller copied 600");
}

static void test_demo_results_other_labels_are_wrong(void **state)
{
	(void)state;
	results.labels_differ = 1;
	expect_problem("differ in 1");
}

static void test_demo_results_all_wrong_stays_in_bounds(void **state)
{
	struct dm_problems problems;

	(void)state;
	memset(results.workers, 0xff, sizeof(results.workers));
	results.labels_differ = 1;
	dm_results_judge(&results, &problems);
	assert_in_range(problems.count, 12, DM_MAX_PROBLEMS);
}

/* What dm_results_print() writes, in a static buffer. */
static const char *printed(void)
{
	static char text[8192];
	struct dm_problems problems;
	FILE *out = fmemopen(text, sizeof(text), "w");

	assert_non_null(out);
	dm_results_judge(&results, &problems);
	dm_results_print(&results, &problems, out);
	fclose(out);
	return text;
}

static void test_demo_results_simulated_gpu_is_named(void **state)
{
	(void)state;
	assert_null(strstr(printed(), "simulated"));
	results.simulated = true;
	assert_non_null(strstr(printed(), "This was the simulated GPU"));
}

static void test_demo_results_problem_is_printed(void **state)
{
	(void)state;
	assert_non_null(strstr(printed(), "All is as it must be"));
	results.labels_differ = 7;
	assert_null(strstr(printed(), "All is as it must be"));
	assert_non_null(strstr(printed(), "WRONG: the workers differ in 7"));
}

static void test_demo_results_unwritable_file_is_an_error(void **state)
{
	struct dm_problems problems = { .count = 0 };

	(void)state;
	th_assert_status(dm_results_write(&results, &problems, "/no/such/file"),
			 PS_SYSTEM);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_demo_results_as_expected_are_well, set_up, NULL),
	TH_TEST_SETUP(test_demo_results_other_accuracy_is_wrong, set_up, NULL),
	TH_TEST_SETUP(test_demo_results_other_address_is_wrong, set_up, NULL),
	TH_TEST_SETUP(test_demo_results_copied_weights_are_wrong, set_up, NULL),
	TH_TEST_SETUP(test_demo_results_writable_weights_are_wrong, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_results_same_memory_is_wrong, set_up, NULL),
	TH_TEST_SETUP(test_demo_results_missing_switch_is_wrong, set_up, NULL),
	TH_TEST_SETUP(test_demo_results_second_copy_is_wrong, set_up, NULL),
	TH_TEST_SETUP(test_demo_results_other_labels_are_wrong, set_up, NULL),
	TH_TEST_SETUP(test_demo_results_all_wrong_stays_in_bounds, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_results_simulated_gpu_is_named, set_up, NULL),
	TH_TEST_SETUP(test_demo_results_problem_is_printed, set_up, NULL),
	TH_TEST_SETUP(test_demo_results_unwritable_file_is_an_error, set_up,
		      NULL),
};

TH_MAIN("demo_results", tests)
