/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What `poolswitch run` puts into the program's environment, and what it
 * refuses before the program starts. */
#include "cli/run.h"
#include "tests/support/harness.h"

#include <stdlib.h>
#include <string.h>

#define LIBRARY "/opt/ps/libpoolswitch_preload.so"

static void assert_list(const char *before, const char *wanted)
{
	char *list = cl_preload_list(LIBRARY, before);

	assert_string_equal(list, wanted);
	free(list);
}

static void test_cl_preload_list_of_nothing_is_the_library(void **state)
{
	(void)state;
	assert_list(NULL, LIBRARY);
	assert_list("", LIBRARY);
	assert_list(": :", LIBRARY);
}

static void test_cl_preload_list_keeps_what_was_there(void **state)
{
	(void)state;
	assert_list("liba.so", LIBRARY ":liba.so");
	assert_list("/x/liba.so:libb.so", LIBRARY ":/x/liba.so:libb.so");
	assert_list(" liba.so  libb.so ", LIBRARY ":liba.so:libb.so");
}

static void test_cl_preload_list_has_the_library_once(void **state)
{
	(void)state;
	assert_list(LIBRARY, LIBRARY);
	assert_list("liba.so:libpoolswitch_preload.so:libb.so",
		    LIBRARY ":liba.so:libb.so");
	assert_list("/old/libpoolswitch_preload.so liba.so",
		    LIBRARY ":liba.so");
}

static void test_cl_preload_list_keeps_a_name_like_it(void **state)
{
	(void)state;
	assert_list("my-libpoolswitch_preload.so",
		    LIBRARY ":my-libpoolswitch_preload.so");
	assert_list("libpoolswitch_preload.so.1",
		    LIBRARY ":libpoolswitch_preload.so.1");
}

static char why[256];

static struct cl_options some_program(void)
{
	static char name[] = "true";
	static char *program[] = { name, NULL };

	why[0] = '\0';
	return (struct cl_options){ .program = program };
}

static void test_cl_run_without_options_is_well(void **state)
{
	struct cl_options options = some_program();

	(void)state;
	assert_true(cl_run_check(&options, why, sizeof(why)));
}

static void test_cl_run_every_word_is_taken(void **state)
{
	static const char *const logs[] = { "off", "warn", "info" };
	struct cl_options options = some_program();
	size_t i;

	(void)state;
	options.quota = "1.5G";
	options.reservation = "512M";
	options.name = "worker 1";
	for (i = 0; i < 6; i++) {
		options.free_mode = i % 2 ? "fenced" : "wait";
		options.at_quota = i % 2 ? "strict" : "spill";
		options.no_daemon = i % 2 ? "fail" : "pass";
		options.log = logs[i % 3];
		assert_true(cl_run_check(&options, why, sizeof(why)));
	}
}

static void assert_refused(const struct cl_options *options, const char *text)
{
	assert_false(cl_run_check(options, why, sizeof(why)));
	if (!strstr(why, text))
		fail_msg("\"%s\" is not in \"%s\"", text, why);
}

static void test_cl_run_size_that_is_none_is_refused(void **state)
{
	struct cl_options options = some_program();

	(void)state;
	options.quota = "40X";
	assert_refused(&options, "--quota: \"40X\" is no size");
	options = some_program();
	options.reservation = "25%";
	assert_refused(&options, "--reservation: \"25%\" is no size");
}

static void test_cl_run_word_that_is_none_is_refused(void **state)
{
	struct cl_options options = some_program();

	(void)state;
	options.free_mode = "never";
	assert_refused(&options, "--free is 'never', must be fenced or wait");
	options = some_program();
	options.log = "";
	assert_refused(&options, "--log is '', must be off, warn or info");
}

static void test_cl_run_without_a_program_is_refused(void **state)
{
	const struct cl_options options = { .quota = "1G" };

	(void)state;
	assert_refused(&options, "which program");
}

static void test_cl_run_name_too_long_is_refused(void **state)
{
	struct cl_options options = some_program();
	char name[300];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	options.name = name;
	assert_refused(&options, "--name: ");
}

static const struct th_test tests[] = {
	TH_TEST(test_cl_preload_list_of_nothing_is_the_library),
	TH_TEST(test_cl_preload_list_keeps_what_was_there),
	TH_TEST(test_cl_preload_list_has_the_library_once),
	TH_TEST(test_cl_preload_list_keeps_a_name_like_it),
	TH_TEST(test_cl_run_without_options_is_well),
	TH_TEST(test_cl_run_every_word_is_taken),
	TH_TEST(test_cl_run_size_that_is_none_is_refused),
	TH_TEST(test_cl_run_word_that_is_none_is_refused),
	TH_TEST(test_cl_run_without_a_program_is_refused),
	TH_TEST(test_cl_run_name_too_long_is_refused),
};

TH_MAIN("cli_run", tests)
