/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* poolswitch model: what it asks the library for, what it makes of the
 * daemon's answer, and how far a model is. */
#include "cli/exit.h"
#include "cli/model.h"
#include "cli/progress.h"
#include "tests/support/harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static const char answer[] =
	"{\"models\": ["
	" {\"name\": \"llama-3/8b\", \"state\": \"resident\","
	"  \"bytes\": 17179869184, \"host\": 17179869184, \"tensors\": 291,"
	"  \"landed\": 291, \"address\": 35184372088832, \"users\": 2,"
	"  \"attached\": 5, \"pinned\": true},"
	" {\"name\": \"bert\", \"state\": \"loading\", \"bytes\": 400,"
	"  \"host\": 400, \"tensors\": 4, \"landed\": 1, \"address\": 0,"
	"  \"users\": 0, \"attached\": 0, \"pinned\": false},"
	" {\"name\": \"a\\u001b[31mb\", \"state\": \"reading\","
	"  \"bytes\": 1000, \"read\": 250}],"
	" \"host\": {\"bytes\": 17179869584, \"budget\": 68719476736},"
	" \"wire\": {\"bytes_per_second\": 59055800320}}";

/* ---- in the place of the library ---- */

static enum ps_status next_status;
static struct ps_model_source added;
static enum ps_model_action ordered;
static const char *ordered_name;
static int waited_ms;

enum ps_status ps_daemon_ask(const char *socket, enum ps_question question,
			     int timeout_ms, char **json_out)
{
	(void)socket;
	(void)timeout_ms;
	assert_int_equal(question, PS_ASK_MODELS);
	if (next_status == PS_OK)
		*json_out = strdup(answer);
	return next_status;
}

enum ps_status ps_model_add(const char *socket,
			    const struct ps_model_source *source,
			    int timeout_ms, unsigned char *hash_out)
{
	(void)socket;
	added = *source;
	waited_ms = timeout_ms;
	if (next_status == PS_OK)
		memset(hash_out, 0xa5, PS_MODEL_HASH_BYTES);
	return next_status;
}

enum ps_status ps_model_order(const char *socket, enum ps_model_action action,
			      const char *name, int timeout_ms)
{
	(void)socket;
	ordered = action;
	ordered_name = name;
	waited_ms = timeout_ms;
	return next_status;
}

/* ---- running it ---- */

static char printed[4096]; /* on stdout */

static int run(const struct cl_options *options)
{
	int saved[2] = { dup(1), dup(2) };
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	FILE *file = tmpfile();
	size_t got;
	int code;

	fflush(stdout);
	dup2(fileno(file), 1);
	dup2(null, 2);
	code = cl_model.run(options);
	fflush(stdout);
	dup2(saved[0], 1);
	dup2(saved[1], 2);
	rewind(file);
	got = fread(printed, 1, sizeof(printed) - 1, file);
	printed[got] = '\0';
	fclose(file);
	close(null);
	close(saved[0]);
	close(saved[1]);
	return code;
}

static struct cl_options words(unsigned int count, const char *first,
			       const char *second, const char *third)
{
	next_status = PS_OK;
	return (struct cl_options){
		.words = { first, second, third },
		.word_count = count,
	};
}

static void assert_printed(const char *text)
{
	if (!strstr(printed, text))
		fail_msg("\"%s\" is not in:\n%s", text, printed);
}

/* ---- the table ---- */

static void test_cl_models_table_fits_80_columns(void **state)
{
	struct cl_options options = words(1, "list", NULL, NULL);
	char *line, *rest;

	(void)state;
	assert_int_equal(run(&options), EX_OK);
	for (rest = printed; (line = strsep(&rest, "\n")) != NULL;)
		if (strlen(line) > 80)
			fail_msg("%zu columns: %s", strlen(line), line);
}

static void test_cl_models_table_shows_each_model(void **state)
{
	struct cl_options options = words(1, "list", NULL, NULL);

	(void)state;
	run(&options);
	assert_printed("llama-3/8b             resident 16.0 GiB 16.0 GiB "
		       "0x200000000000  2 of 5 yes\n");
	assert_printed("bert                   loading     400 B    400 B "
		       "                0 of 0 \n");
	assert_printed("copies in host memory: 16.0 GiB of 64.0 GiB; "
		       "to the GPU: 55.0 GiB/s\n");
}

static void test_cl_models_table_has_no_escapes_of_a_peer(void **state)
{
	struct cl_options options = words(1, "list", NULL, NULL);

	(void)state;
	run(&options);
	assert_null(strchr(printed, '\033'));
	assert_printed("a?[31mb");
}

static void test_cl_models_empty_answer_prints(void **state)
{
	json_t *empty = json_object();
	size_t size;
	char *text;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	cl_print_models(out, empty);
	fclose(out);
	json_decref(empty);
	assert_string_equal(text, "no models\n"
				  "copies in host memory: 0 B of 0 B\n");
	free(text);
}

static void test_cl_models_list_with_json_is_the_answer(void **state)
{
	struct cl_options options = words(1, "list", NULL, NULL);
	json_t *json;

	(void)state;
	options.is_json = true;
	run(&options);
	json = json_loads(printed, 0, NULL);
	assert_int_equal(cl_json_number(json, "host.budget"), 68719476736);
	assert_int_equal(json_array_size(cl_json_at(json, "models")), 3);
	json_decref(json);
}

/* ---- add ---- */

static void test_cl_models_add_says_the_hash(void **state)
{
	struct cl_options options = words(3, "add", "bert", "a.safetensors");

	(void)state;
	assert_int_equal(run(&options), EX_OK);
	assert_string_equal(added.name, "bert");
	assert_string_equal(added.path, "a.safetensors");
	assert_int_equal(added.flags, 0);
	assert_int_equal(added.plan, PS_PLAN_BEST);
	assert_int_equal(waited_ms, PS_TIMEOUT_DEFAULT);
	assert_printed("bert is added, hash a5a5a5a5a5");
}

static void test_cl_models_add_with_json_is_json(void **state)
{
	struct cl_options options = words(3, "add", "bert", "a.safetensors");
	json_t *json;

	(void)state;
	options.is_json = true;
	run(&options);
	json = json_loads(printed, 0, NULL);
	assert_string_equal(cl_json_text(json, "name"), "bert");
	assert_int_equal(strlen(cl_json_text(json, "hash")), 64);
	json_decref(json);
}

static void test_cl_models_add_passes_its_options(void **state)
{
	struct cl_options options = words(3, "add", "bert", "a.safetensors");

	(void)state;
	options.is_public = true;
	options.plan = "layer";
	options.timeout = "3";
	assert_int_equal(run(&options), EX_OK);
	assert_int_equal(added.flags, PS_MODEL_PUBLIC);
	assert_int_equal(added.plan, PS_PLAN_LAYER);
	assert_int_equal(added.groups, 0);
	assert_int_equal(waited_ms, 3000);
	options.plan = "12";
	assert_int_equal(run(&options), EX_OK);
	assert_int_equal(added.plan, PS_PLAN_GROUPS);
	assert_int_equal(added.groups, 12);
}

static void test_cl_models_strange_values_are_usage(void **state)
{
	static const char *const plans[] = { "",   "fast", "0",
					     "-1", "12x",  "4294967296" };
	static const char *const timeouts[] = { "", "soon", "-1", "1.5",
						"86401" };
	struct cl_options options = words(3, "add", "bert", "a.safetensors");

	(void)state;
	for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
		options.plan = plans[i];
		assert_int_equal(run(&options), EX_USAGE);
	}
	options.plan = NULL;
	for (size_t i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++) {
		options.timeout = timeouts[i];
		assert_int_equal(run(&options), EX_USAGE);
	}
}

/* ---- the orders ---- */

static void test_cl_models_each_order_is_given(void **state)
{
	static const struct {
		const char *word;
		enum ps_model_action action;
	} rows[] = {
		{ "load", PS_MODEL_LOAD },   { "prefetch", PS_MODEL_PREFETCH },
		{ "evict", PS_MODEL_EVICT }, { "pin", PS_MODEL_PIN },
		{ "unpin", PS_MODEL_UNPIN }, { "remove", PS_MODEL_REMOVE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cl_options options =
			words(2, rows[i].word, "bert", NULL);

		assert_int_equal(run(&options), EX_OK);
		assert_int_equal(ordered, rows[i].action);
		assert_string_equal(ordered_name, "bert");
		assert_printed("bert ");
	}
}

static void test_cl_models_order_waits_as_long_as_said(void **state)
{
	struct cl_options options = words(2, "load", "bert", NULL);

	(void)state;
	options.timeout = "86400";
	assert_int_equal(run(&options), EX_OK);
	assert_int_equal(waited_ms, 86400000);
}

static void test_cl_models_failure_is_the_exit_code(void **state)
{
	struct cl_options options = words(2, "load", "bert", NULL);
	json_t *json;

	(void)state;
	options.is_json = true;
	next_status = PS_NO_MODEL;
	assert_int_equal(run(&options), EX_UNAVAILABLE);
	json = json_loads(printed, 0, NULL);
	assert_string_equal(cl_json_text(json, "error.status"), "PS_NO_MODEL");
	json_decref(json);
	next_status = PS_BUSY;
	assert_int_equal(run(&options), EX_TEMPFAIL);
}

static void test_cl_models_wrong_words_are_usage(void **state)
{
	const struct cl_options wrong[] = {
		words(0, NULL, NULL, NULL),    words(1, "spin", NULL, NULL),
		words(1, "load", NULL, NULL),  words(3, "load", "bert", "bert"),
		words(2, "add", "bert", NULL), words(2, "list", "bert", NULL),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(run(&wrong[i]), EX_USAGE);
}

static void test_cl_models_options_of_add_are_for_add(void **state)
{
	struct cl_options options = words(2, "load", "bert", NULL);

	(void)state;
	options.is_public = true;
	assert_int_equal(run(&options), EX_USAGE);
	options.is_public = false;
	options.plan = "one";
	assert_int_equal(run(&options), EX_USAGE);
}

/* ---- how far it is ---- */

#define GIB (UINT64_C(1) << 30)

static const char *line_of(const struct cl_progress *progress)
{
	static char line[CL_COLUMNS];

	cl_progress_line(progress, line);
	return line;
}

static void test_cl_progress_has_bar_rate_and_time_left(void **state)
{
	struct cl_progress progress = { 0 };

	(void)state;
	cl_progress_add(&progress, "reading", 2 * GIB, 16 * GIB, 1000);
	cl_progress_add(&progress, "reading", 8 * GIB, 16 * GIB, 4000);
	assert_string_equal(line_of(&progress),
			    "reading [#######.......]  50% 8.00 GiB of "
			    "16.0 GiB 2.00 GiB/s 4 s left");
}

static void test_cl_progress_first_look_has_no_rate(void **state)
{
	struct cl_progress progress = { 0 };

	(void)state;
	cl_progress_add(&progress, "loading", 0, 16 * GIB, 1000);
	assert_string_equal(line_of(&progress),
			    "loading [..............]   0% of 16.0 GiB");
}

static void test_cl_progress_rate_is_of_the_last_seconds(void **state)
{
	struct cl_progress progress = { 0 };
	int64_t ms = 0;

	(void)state;
	cl_progress_add(&progress, "reading", 0, 100 * GIB, ms);
	for (uint64_t i = 0; i < 2 * CL_SAMPLES; i++) {
		ms += 1000;
		cl_progress_add(&progress, "reading", 50 * GIB + i * GIB,
				100 * GIB, ms);
	}
	assert_int_equal(progress.count, CL_SAMPLES);
	assert_non_null(strstr(line_of(&progress), " 1.00 GiB/s 19 s left"));
}

static void test_cl_progress_other_phase_begins_anew(void **state)
{
	struct cl_progress progress = { 0 };

	(void)state;
	cl_progress_add(&progress, "reading", 15 * GIB, 16 * GIB, 1000);
	cl_progress_add(&progress, "loading", 16 * GIB, 16 * GIB, 2000);
	assert_int_equal(progress.count, 1);
	assert_string_equal(progress.phase, "loading");
}

static void test_cl_progress_second_load_begins_anew(void **state)
{
	struct cl_progress progress = { 0 };

	(void)state;
	cl_progress_add(&progress, "loading", 15 * GIB, 16 * GIB, 1000);
	cl_progress_add(&progress, "loading", 1 * GIB, 16 * GIB, 2000);
	assert_int_equal(progress.count, 1);
}

static void test_cl_progress_longest_line_fits(void **state)
{
	struct cl_progress progress = { 0 };

	(void)state;
	cl_progress_add(&progress, "evicting-resident", 0, UINT64_MAX, 0);
	cl_progress_add(&progress, "evicting-resident", UINT64_MAX / 1000,
			UINT64_MAX, 3600000);
	assert_true(strlen(line_of(&progress)) < CL_COLUMNS);
}

static void test_cl_progress_more_than_all_is_all(void **state)
{
	struct cl_progress progress = { 0 };

	(void)state;
	cl_progress_add(&progress, "reading", 17 * GIB, 16 * GIB, 0);
	assert_string_equal(line_of(&progress),
			    "reading [##############] 100% 16.0 GiB of "
			    "16.0 GiB");
}

static bool look(const char *name, struct cl_progress *progress)
{
	json_t *json = json_loads(answer, 0, NULL);
	bool is_there = cl_progress_look(progress, json, name, 0);

	json_decref(json);
	return is_there;
}

static void test_cl_progress_is_of_the_named_model(void **state)
{
	struct cl_progress progress = { 0 };

	(void)state;
	assert_true(look("bert", &progress));
	assert_string_equal(progress.phase, "loading");
	assert_int_equal(progress.sample[0].done, 100);
	assert_int_equal(progress.total, 400);
	assert_true(look("a\033[31mb", &progress));
	assert_string_equal(progress.phase, "reading");
	assert_int_equal(progress.sample[0].done, 250);
	assert_true(look("llama-3/8b", &progress));
	assert_string_equal(line_of(&progress), "waiting");
	assert_false(look("llama", &progress));
}

/* A test's standard error is no terminal. */
static void test_cl_progress_without_a_terminal_is_nothing(void **state)
{
	const struct cl_options options = { 0 };
	int saved = dup(2);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)state;
	dup2(null, 2);
	assert_null(cl_show_begin(&options, "bert"));
	dup2(saved, 2);
	cl_show_end(NULL);
	close(null);
	close(saved);
}

static const struct th_test tests[] = {
	TH_TEST(test_cl_models_table_fits_80_columns),
	TH_TEST(test_cl_models_table_shows_each_model),
	TH_TEST(test_cl_models_table_has_no_escapes_of_a_peer),
	TH_TEST(test_cl_models_empty_answer_prints),
	TH_TEST(test_cl_models_list_with_json_is_the_answer),
	TH_TEST(test_cl_models_add_says_the_hash),
	TH_TEST(test_cl_models_add_with_json_is_json),
	TH_TEST(test_cl_models_add_passes_its_options),
	TH_TEST(test_cl_models_strange_values_are_usage),
	TH_TEST(test_cl_models_each_order_is_given),
	TH_TEST(test_cl_models_order_waits_as_long_as_said),
	TH_TEST(test_cl_models_failure_is_the_exit_code),
	TH_TEST(test_cl_models_wrong_words_are_usage),
	TH_TEST(test_cl_models_options_of_add_are_for_add),
	TH_TEST(test_cl_progress_has_bar_rate_and_time_left),
	TH_TEST(test_cl_progress_first_look_has_no_rate),
	TH_TEST(test_cl_progress_rate_is_of_the_last_seconds),
	TH_TEST(test_cl_progress_other_phase_begins_anew),
	TH_TEST(test_cl_progress_second_load_begins_anew),
	TH_TEST(test_cl_progress_longest_line_fits),
	TH_TEST(test_cl_progress_more_than_all_is_all),
	TH_TEST(test_cl_progress_is_of_the_named_model),
	TH_TEST(test_cl_progress_without_a_terminal_is_nothing),
};

TH_MAIN("cli_models", tests)
