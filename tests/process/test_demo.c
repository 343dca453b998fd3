/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The demo as a user runs it: three real processes on the simulated GPU. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/support/harness.h"

static char output[65536];

/* Runs the demo, with words before it (env's) and behind it; keeps what it
 * prints. Return: its exit status. */
static int demo(const char *before, const char *arguments)
{
	char command[8192];
	size_t used;
	FILE *pipe;
	int status;

	snprintf(command, sizeof(command), "exec env %s '%s' %s 2>&1", before,
		 th_program("../../demo/poolswitch-demo"), arguments);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	used = fread(output, 1, sizeof(output) - 1, pipe);
	output[used] = '\0';
	status = pclose(pipe);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void assert_says(const char *words)
{
	if (strstr(output, words) == NULL)
		fail_msg("no \"%s\" in:\n%s", words, output);
}

/* A successful run's results. */
static json_t *results_of(const char *before, const char *arguments)
{
	char path[4096];
	char all[8192];
	json_t *root;

	snprintf(path, sizeof(path), "%s/results.json", th_temp_dir());
	snprintf(all, sizeof(all), "%s --json '%s'", arguments, path);
	if (demo(before, all) != EXIT_SUCCESS)
		fail_msg("the demo failed:\n%s", output);
	root = json_load_file(path, 0, NULL);
	assert_non_null(root);
	return root;
}

static json_int_t number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	assert_true(json_is_integer(value));
	return json_integer_value(value);
}

static void check_worker(const json_t *root, const json_t *worker)
{
	const json_t *models = json_object_get(worker, "models");

	assert_int_equal(number(worker, "weight_bytes_copied"), 0);
	assert_true(json_is_true(json_object_get(worker, "weights_read_only")));
	assert_int_equal(number(worker, "switches"), 4);
	assert_true(number(worker, "attach_ns") > 0);
	assert_true(number(worker, "allocation_median_ns") > 0);
	assert_true(number(worker, "switch_done_median_ns") > 0);
	for (size_t i = 0; i < 2; i++) {
		const json_t *mine = json_array_get(models, i);
		const json_t *controllers =
			json_array_get(json_object_get(root, "models"), i);

		assert_int_equal(number(mine, "address"),
				 number(controllers, "address"));
		assert_int_equal(number(mine, "right"),
				 number(controllers, "expected_right"));
	}
}

static void test_demo_workers_share_one_copy(void **state)
{
	json_t *root = results_of("", "--switches 4");
	const json_t *workers = json_object_get(root, "workers");

	(void)state;
	assert_int_equal(json_array_size(workers), 2);
	check_worker(root, json_array_get(workers, 0));
	check_worker(root, json_array_get(workers, 1));
	assert_int_equal(number(root, "labels_differ"), 0);
	assert_true(json_is_true(json_object_get(root, "passed")));
	json_decref(root);
}

static void test_demo_weights_are_copied_once(void **state)
{
	json_t *root = results_of("", "--switches 2");
	const json_t *models = json_object_get(root, "models");

	(void)state;
	assert_int_equal(number(root, "weight_bytes_copied"),
			 number(json_array_get(models, 0), "bytes") +
				 number(json_array_get(models, 1), "bytes"));
	json_decref(root);
}

static void test_demo_accuracy_is_at_least_95_percent(void **state)
{
	json_t *root = results_of("", "--switches 2");
	const json_t *models = json_object_get(root, "models");

	(void)state;
	for (size_t i = 0; i < 2; i++)
		assert_true(
			number(json_array_get(models, i), "expected_right") *
				100 >=
			95 * number(root, "images"));
	json_decref(root);
}

static void test_demo_sizes_are_as_asked(void **state)
{
	json_t *root =
		results_of("", "--size 64M --parameter-size 8M --switches 2");

	(void)state;
	assert_int_equal(number(root, "pool_bytes"), 64 << 20);
	assert_int_equal(number(root, "parameter_bytes"), 8 << 20);
	assert_int_equal(number(root, "computation_bytes"), 56 << 20);
	json_decref(root);
}

static void test_demo_whole_h200_is_shared(void **state)
{
	char before[4096];
	json_t *root;

	(void)state;
	snprintf(before, sizeof(before),
		 "POOLSWITCH_SIM_MEMORY=139G POOLSWITCH_SIM_DIR='%s/gpu'",
		 th_temp_dir());
	root = results_of(before, "--switches 2");
	assert_true(number(root, "pool_bytes") > (json_int_t)130 << 30);
	json_decref(root);
}

static void test_demo_without_a_choice_says_what_it_uses(void **state)
{
	json_t *root = results_of("-u POOLSWITCH_DRIVER -u POOLSWITCH_SIM_DIR "
				  "-u POOLSWITCH_SIM_LIBRARY",
				  "--switches 2");
	bool simulated = json_is_true(json_object_get(root, "simulated"));

	(void)state;
	assert_int_equal(simulated,
			 strstr(output, "This was the simulated GPU") != NULL);
	json_decref(root);
}

static void test_demo_help_says_what_it_does(void **state)
{
	(void)state;
	assert_int_equal(demo("", "--help"), EXIT_SUCCESS);
	assert_says("usage: poolswitch-demo");
}

static void test_demo_unknown_option_is_refused(void **state)
{
	(void)state;
	assert_int_equal(demo("", "--colour"), 2);
	assert_says("--colour");
}

static void test_demo_stray_word_is_refused(void **state)
{
	(void)state;
	assert_int_equal(demo("", "mlp"), 2);
	assert_says("mlp");
}

static void test_demo_odd_switches_are_refused(void **state)
{
	(void)state;
	assert_int_equal(demo("", "--switches 3"), 2);
	assert_says("3 is no value");
}

static void test_demo_too_many_switches_are_refused(void **state)
{
	(void)state;
	assert_int_equal(demo("", "--switches 1196"), EXIT_FAILURE);
	assert_says("1194 are possible");
}

static void test_demo_most_switches_are_done(void **state)
{
	json_t *root = results_of("", "--switches 1194");

	(void)state;
	assert_int_equal(number(root, "switches"), 1194);
	json_decref(root);
}

static void test_demo_size_that_overflows_is_refused(void **state)
{
	(void)state;
	assert_int_equal(demo("", "--size 99999999999T"), 2);
	assert_says("99999999999T is no value");
}

static void test_demo_without_data_names_the_file(void **state)
{
	(void)state;
	assert_int_equal(demo("", "--data /no/such/folder"), EXIT_FAILURE);
	assert_says("/no/such/folder/digits-test.safetensors");
}

static void test_demo_other_gpu_is_not_replaced(void **state)
{
	(void)state;
	assert_int_equal(demo("", "--gpu 7"), EXIT_FAILURE);
	assert_says("PS_NO_DEVICE");
}

/* The worker finds it; the controller says it. */
static void test_demo_pool_too_small_says_the_remedy(void **state)
{
	(void)state;
	assert_int_equal(demo("", "--size 4M"), EXIT_FAILURE);
	assert_says("worker 1: ");
	assert_says("larger --size");
}

static void test_demo_kernel_that_fails_fails_the_demo(void **state)
{
	(void)state;
	assert_int_equal(demo("POOLSWITCH_SIM_FAIL=cuLaunchKernel:5=700", ""),
			 EXIT_FAILURE);
	assert_says("PS_DEVICE_LOST: worker ");
	assert_says(": launching dm_");
}

static void test_demo_runs_at_the_same_time_do_not_meet(void **state)
{
	const char *own = "-u POOLSWITCH_SIM_DIR";
	char command[8192];
	FILE *other;

	(void)state;
	snprintf(command, sizeof(command), "exec env %s '%s' --switches 40",
		 own, th_program("../../demo/poolswitch-demo"));
	other = popen(command, "r");
	assert_non_null(other);
	assert_int_equal(demo(own, "--switches 40"), EXIT_SUCCESS);
	while (fgets(output, sizeof(output), other) != NULL)
		;
	assert_int_equal(pclose(other), 0);
}

static const struct th_test tests[] = {
	TH_TEST(test_demo_workers_share_one_copy),
	TH_TEST(test_demo_weights_are_copied_once),
	TH_TEST(test_demo_accuracy_is_at_least_95_percent),
	TH_TEST(test_demo_sizes_are_as_asked),
	TH_TEST(test_demo_whole_h200_is_shared),
	TH_TEST(test_demo_without_a_choice_says_what_it_uses),
	TH_TEST(test_demo_help_says_what_it_does),
	TH_TEST(test_demo_unknown_option_is_refused),
	TH_TEST(test_demo_stray_word_is_refused),
	TH_TEST(test_demo_odd_switches_are_refused),
	TH_TEST(test_demo_too_many_switches_are_refused),
	TH_TEST(test_demo_most_switches_are_done),
	TH_TEST(test_demo_size_that_overflows_is_refused),
	TH_TEST(test_demo_without_data_names_the_file),
	TH_TEST(test_demo_other_gpu_is_not_replaced),
	TH_TEST(test_demo_pool_too_small_says_the_remedy),
	TH_TEST(test_demo_kernel_that_fails_fails_the_demo),
	TH_TEST(test_demo_runs_at_the_same_time_do_not_meet),
};

TH_MAIN("demo", tests)
