/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The commands of the program poolswitch, with a daemon and a doctor that say
 * what the test wants. */
#include "cli/exit.h"
#include "cli/json.h"
#include "tests/support/harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static enum ps_status next_status;
static const char *next_answer;
static enum ps_question asked;
static bool is_well;

/* In the place of the library's. */
enum ps_status ps_daemon_ask(const char *socket, enum ps_question question,
			     int timeout_ms, char **json_out)
{
	(void)socket;
	(void)timeout_ms;
	asked = question;
	if (next_status != PS_OK)
		return next_status;
	*json_out = strdup(next_answer);
	return PS_OK;
}

enum ps_status ps_doctor(const char *gpu, ps_finding_visit visit, void *arg)
{
	const struct ps_finding finding = { "kernel", is_well, "4.19", "" };

	(void)gpu;
	if (next_status == PS_OK)
		visit(arg, &finding);
	return next_status;
}

static char printed[4096]; /* on stdout */

/* Runs it with stdout and stderr taken away. */
static int run(const struct cl_command *command, bool is_json)
{
	const struct cl_options options = { .is_json = is_json };
	int saved[2] = { dup(1), dup(2) };
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	FILE *file = tmpfile();
	size_t got;
	int code;

	fflush(stdout);
	dup2(fileno(file), 1);
	dup2(null, 2);
	code = command->run(&options);
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

static void answer(enum ps_status status, const char *text)
{
	next_status = status;
	next_answer = text;
}

static void test_cl_command_asks_its_question(void **state)
{
	(void)state;
	answer(PS_OK, "{}");
	assert_int_equal(run(&cl_drain, false), EX_OK);
	assert_int_equal(asked, PS_ASK_DRAIN);
	assert_int_equal(run(&cl_shutdown, false), EX_OK);
	assert_int_equal(asked, PS_ASK_SHUTDOWN);
	assert_int_equal(run(&cl_reload, false), EX_OK);
	assert_int_equal(asked, PS_ASK_RELOAD);
	assert_int_equal(run(&cl_status, false), EX_OK);
	assert_int_equal(asked, PS_ASK_STATUS);
}

static void test_cl_command_failure_is_the_exit_code(void **state)
{
	const struct cl_command *commands[] = {
		&cl_status, &cl_clients, &cl_drain,  &cl_shutdown,
		&cl_reload, &cl_metrics, &cl_doctor,
	};
	size_t i;

	(void)state;
	answer(PS_TIMED_OUT, NULL);
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		assert_int_equal(run(commands[i], false), EX_TEMPFAIL);
}

static void test_cl_command_unreadable_answer_is_protocol(void **state)
{
	(void)state;
	answer(PS_OK, "{\"version\": ");
	assert_int_equal(run(&cl_status, false), EX_PROTOCOL);
	answer(PS_OK, "[]");
	assert_int_equal(run(&cl_metrics, true), EX_PROTOCOL);
	assert_non_null(strstr(printed, "it is no object"));
}

static void test_cl_command_failure_with_json_parses(void **state)
{
	json_t *json;

	(void)state;
	answer(PS_PERMISSION, NULL);
	assert_int_equal(run(&cl_drain, true), EX_NOPERM);
	json = json_loads(printed, 0, NULL);
	assert_string_equal(cl_json_text(json, "error.status"),
			    "PS_PERMISSION");
	assert_int_equal(cl_json_number(json, "error.exit"), EX_NOPERM);
	json_decref(json);
}

static void test_cl_drain_says_who_is_left(void **state)
{
	(void)state;
	answer(PS_OK, "{\"clients\": 2, \"leased\": 4194304}");
	run(&cl_drain, false);
	assert_non_null(strstr(printed, "(2 clients with 4.00 MiB now)"));
	answer(PS_OK, "{\"clients\": 0}");
	run(&cl_drain, false);
	assert_non_null(strstr(printed, "nobody is attached"));
}

static void test_cl_shutdown_says_who_keeps_what(void **state)
{
	(void)state;
	answer(PS_OK, "{\"clients\": 1, \"leased\": 4194304}");
	run(&cl_shutdown, false);
	assert_non_null(strstr(printed, "1 client with 4.00 MiB"));
}

static void test_cl_clients_json_without_clients_parses(void **state)
{
	(void)state;
	answer(PS_OK, "{}");
	assert_int_equal(run(&cl_clients, true), EX_OK);
	assert_string_equal(printed, "{\n  \"clients\": []\n}\n");
}

static void test_cl_doctor_unmet_need_is_exit_1(void **state)
{
	(void)state;
	answer(PS_OK, NULL);
	is_well = false;
	assert_int_equal(run(&cl_doctor, false), CL_EXIT_FINDINGS);
	is_well = true;
	assert_int_equal(run(&cl_doctor, true), EX_OK);
	assert_non_null(strstr(printed, "\"ok\": true"));
}

static const struct th_test tests[] = {
	TH_TEST(test_cl_command_asks_its_question),
	TH_TEST(test_cl_command_failure_is_the_exit_code),
	TH_TEST(test_cl_command_unreadable_answer_is_protocol),
	TH_TEST(test_cl_command_failure_with_json_parses),
	TH_TEST(test_cl_drain_says_who_is_left),
	TH_TEST(test_cl_shutdown_says_who_keeps_what),
	TH_TEST(test_cl_clients_json_without_clients_parses),
	TH_TEST(test_cl_doctor_unmet_need_is_exit_1),
};

TH_MAIN("cli_commands", tests)
