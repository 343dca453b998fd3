/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the environment says about a program under the preload. */
#include "tests/preload/runner.h"

#include <stdio.h>
#include <string.h>

static void assert_one_line(const char *said, const char *part)
{
	const char *end = strchr(said, '\n');

	if (strncmp(said, "poolswitch: ", 12) != 0 || end == NULL ||
	    end[1] != '\0' || strstr(said, part) == NULL)
		fail_msg("\"%s\" is not one line about \"%s\"", said, part);
}

/* ---- without a daemon ---- */

static void test_policy_no_daemon_says_where_and_how_once(void **state)
{
	static const char *const env[] = { "POOLSWITCH_SOCKET=/nowhere/socket",
					   NULL };
	const struct th_preload_plan plan = { .env = env };
	const char *said =
		th_preload_said("allocates", "refused_again", &plan, 0);

	(void)state;
	assert_one_line(said, "/nowhere/socket");
	assert_non_null(strstr(said, "poolswitchd"));
}

static void test_policy_no_daemon_passes_all_with_a_line(void **state)
{
	static const char *const env[] = { "POOLSWITCH_SOCKET=/nowhere/socket",
					   "POOLSWITCH_NO_DAEMON=pass", NULL };
	const struct th_preload_plan plan = { .env = env };

	(void)state;
	assert_one_line(th_preload_said("allocates", "passed", &plan, 0),
			"POOLSWITCH_NO_DAEMON=pass");
}

static void test_policy_log_off_says_nothing(void **state)
{
	static const char *const env[] = { "POOLSWITCH_SOCKET=/nowhere/socket",
					   "POOLSWITCH_LOG=off", NULL };
	const struct th_preload_plan plan = { .env = env };

	(void)state;
	th_preload_check("allocates", "refused", &plan);
}

/* It is looked for where the one that starts meanwhile will be. */
static void test_policy_daemon_that_comes_later_is_found(void **state)
{
	char socket[128];
	const char *const env[] = { socket, NULL };
	const struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;
	struct th_preload run;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_daemon_stop(&daemon);
	snprintf(socket, sizeof(socket), "POOLSWITCH_SOCKET=%s", daemon.socket);
	th_preload_start(&run, "allocates", "tries_again", &plan);
	th_preload_await(&run);
	th_daemon_start(&daemon, NULL);
	th_preload_go(&run);
	assert_int_equal(th_preload_wait(&run), 0);
	th_daemon_stop(&daemon);
}

/* ---- with one ---- */

static int64_t number_of(pid_t pid, const char *field)
{
	json_t *status = th_daemon_status();
	json_t *client = th_status_client(status, pid);
	int64_t number;

	assert_non_null(client);
	number = th_json_number(client, field);
	json_decref(status);
	return number;
}

static void test_policy_live_bytes_are_shown_by_name(void **state)
{
	static const char *const env[] = { "POOLSWITCH_NAME=some name", NULL };
	const struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;
	struct th_preload run;
	json_t *status;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "allocates", "holds", &plan);
	th_preload_await(&run);
	status = th_daemon_status();
	assert_string_equal(json_string_value(json_object_get(
				    th_status_client(status, run.pid), "name")),
			    "some name");
	json_decref(status);
	assert_int_equal(number_of(run.pid, "live"), 3 << 20);
	th_preload_go(&run);
	assert_int_equal(th_preload_wait(&run), 0);
	th_daemon_stop(&daemon);
}

static void test_policy_reservation_is_the_clients(void **state)
{
	static const char *const env[] = { "POOLSWITCH_RESERVATION=6M", NULL };
	const struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;
	struct th_preload run;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "allocates", "holds", &plan);
	th_preload_await(&run);
	assert_int_equal(number_of(run.pid, "reservation"), 6 << 20);
	th_preload_go(&run);
	assert_int_equal(th_preload_wait(&run), 0);
	th_daemon_stop(&daemon);
}

static void test_policy_spilled_bytes_are_counted_and_said(void **state)
{
	static const char *const env[] = { "POOLSWITCH_QUOTA=20M",
					   "POOLSWITCH_AT_QUOTA=spill", NULL };
	const struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;
	struct th_preload run;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "allocates", "spills", &plan);
	th_preload_await(&run);
	assert_int_equal(number_of(run.pid, "passed"), 4 << 20);
	th_preload_go(&run);
	th_preload_await(&run);
	assert_int_equal(number_of(run.pid, "passed"), 0);
	th_preload_go(&run);
	assert_int_equal(th_preload_wait(&run), 0);
	assert_one_line(th_preload_text(run.errors), "spill");
	th_daemon_stop(&daemon);
}

static void test_policy_reservation_too_large_is_refused(void **state)
{
	static const char *const env[] = { "POOLSWITCH_RESERVATION=1G", NULL };
	const struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	assert_one_line(th_preload_said("allocates", "refused_user", &plan, 0),
			"1073741824");
	th_daemon_stop(&daemon);
}

/* ---- one that ends ---- */

static void test_policy_agent_killed_and_the_program_goes_on(void **state)
{
	struct th_daemon daemon;
	struct th_preload run;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "allocates", "goes_on", NULL);
	th_preload_await(&run);
	th_daemon_kill_agent(&daemon);
	th_preload_go(&run);
	assert_int_equal(th_preload_wait(&run), 0);
	assert_string_equal(th_preload_text(run.errors), "");
	th_daemon_stop(&daemon);
}

static void test_policy_daemon_killed_is_said_once(void **state)
{
	struct th_daemon daemon;
	struct th_preload run;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_preload_start(&run, "allocates", "left_alone", NULL);
	th_preload_await(&run);
	th_daemon_kill(&daemon);
	th_preload_go(&run);
	if (th_preload_wait(&run) != 0)
		fail_msg("%s", th_preload_text(run.errors));
	assert_one_line(th_preload_text(run.errors), "no poolswitchd");
}

/* ---- what is no value ---- */

static void check_wrong(const char *setting, const char *variable)
{
	const char *const env[] = { setting, NULL };
	const struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	assert_one_line(th_preload_said("allocates", "served", &plan, 0),
			variable);
	th_daemon_stop(&daemon);
}

#define WRONG_TEST(name, setting, variable)                                    \
	static void name(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		check_wrong(setting, variable);                                \
	}

WRONG_TEST(test_policy_wrong_size_counts_as_unset, "POOLSWITCH_QUOTA=much",
	   "POOLSWITCH_QUOTA")
WRONG_TEST(test_policy_wrong_choice_counts_as_unset, "POOLSWITCH_FREE=maybe",
	   "POOLSWITCH_FREE")
WRONG_TEST(test_policy_wrong_name_counts_as_unset, "POOLSWITCH_NAME=a\tb",
	   "POOLSWITCH_NAME")

static void test_policy_info_tells_of_the_pool(void **state)
{
	static const char *const env[] = { "POOLSWITCH_LOG=info", NULL };
	const struct th_preload_plan plan = { .env = env };
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	assert_one_line(th_preload_said("allocates", "served", &plan, 0),
			"pool of GPU-");
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_TEST(test_policy_no_daemon_says_where_and_how_once),
	TH_TEST(test_policy_no_daemon_passes_all_with_a_line),
	TH_TEST(test_policy_log_off_says_nothing),
	TH_DAEMON_TEST(test_policy_daemon_that_comes_later_is_found),
	TH_DAEMON_TEST(test_policy_live_bytes_are_shown_by_name),
	TH_DAEMON_TEST(test_policy_reservation_is_the_clients),
	TH_DAEMON_TEST(test_policy_spilled_bytes_are_counted_and_said),
	TH_DAEMON_TEST(test_policy_reservation_too_large_is_refused),
	TH_DAEMON_TEST(test_policy_agent_killed_and_the_program_goes_on),
	TH_DAEMON_TEST(test_policy_daemon_killed_is_said_once),
	TH_DAEMON_TEST(test_policy_wrong_size_counts_as_unset),
	TH_DAEMON_TEST(test_policy_wrong_choice_counts_as_unset),
	TH_DAEMON_TEST(test_policy_wrong_name_counts_as_unset),
	TH_DAEMON_TEST(test_policy_info_tells_of_the_pool),
};

TH_MAIN("preload_policy", tests)
