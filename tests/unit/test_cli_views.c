/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the program poolswitch makes of a daemon's answer. */
#include "cli/doctor.h"
#include "cli/metrics.h"
#include "cli/view.h"
#include "tests/support/harness.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* A daemon with two clients, one of them dead. */
static const char answer[] =
	"{\"version\": \"0.1.0\", \"protocol\": \"1.2\","
	" \"state\": \"serving\", \"socket\": \"/run/poolswitch/socket\","
	" \"agent_pid\": 4243, \"uptime\": 12.345,"
	" \"gpu\": {\"uuid\": \"GPU-1\", \"free\": 1073741824},"
	" \"pool\": {\"bytes\": 68719476736, \"segments\": 256,"
	"  \"segment_bytes\": 268435456},"
	" \"regions\": {\"parameter\": {\"bytes\": 17179869184},"
	"  \"computation\": {\"bytes\": 51539607552, \"leased\": 16106127360,"
	"   \"outside\": 1073741824, \"parked\": 8589934592,"
	"   \"clean\": 21206401024,"
	"   \"dirty\": 268435456, \"remaking\": 0,"
	"   \"quarantined\": 4294967296, \"guaranteed\": 8589934592}},"
	" \"counters\": {\"grants\": 7, \"denials\": 0},"
	" \"clients\": ["
	"  {\"slot\": 0, \"id\": \"01\", \"name\": \"train\\\"er\","
	"   \"pid\": 5001, \"uid\": 0, \"presence\": \"here\","
	"   \"answered\": true, \"waits\": false, \"leased\": 17179869184,"
	"   \"parked\": 8589934592, \"quarantined\": 0, \"live\": 1073741824,"
	"   \"cached\": 16106127360, \"limit\": 51539607552, \"blocks\": 12,"
	"   \"outside\": 1073741824, \"passed\": 536870912},"
	"  {\"slot\": 1, \"id\": \"02\", \"name\": \"a\\u001b[31mb\","
	"   \"pid\": 5002, \"uid\": 0, \"presence\": \"dead\","
	"   \"reason\": \"pid 5003 still has its GPU files open\","
	"   \"quarantined\": 4294967296}]}";

static char *text;
static size_t size;

static json_t *status(void)
{
	char why[JSON_ERROR_TEXT_LENGTH];
	json_t *json = cl_json_parse(answer, why, sizeof(why));

	assert_non_null(json);
	return json;
}

static FILE *begin(void)
{
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	return out;
}

static void end(FILE *out, json_t *json)
{
	fclose(out);
	json_decref(json);
}

static void print_all(void)
{
	json_t *json = status();
	FILE *out = begin();

	cl_print_status(out, false, json);
	cl_print_clients(out, json);
	end(out, json);
}

static void assert_has(const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in:\n%s", part, text);
}

static void test_cl_status_fits_80_columns(void **state)
{
	char *line, *rest;

	(void)state;
	print_all();
	for (rest = text; (line = strsep(&rest, "\n")) != NULL;)
		if (strlen(line) > 80)
			fail_msg("%zu columns: %s", strlen(line), line);
	free(text);
}

static void test_cl_status_shows_regions_and_clients(void **state)
{
	(void)state;
	print_all();
	assert_has("parameter    16.0 GiB  [:::::::::::::]\n");
	assert_has("computation  48.0 GiB  [#############=");
	assert_has("# leased      16.0 GiB");
	assert_has("~ in cleaning  256 MiB");
	assert_has("guaranteed  8.00 GiB\n");
	assert_has("   5001 root     train\"er     here  1.00 GiB 15.0 GiB "
		   "1.50 GiB 8.00 GiB      0 B\n");
	assert_has("pid 5003 still has its GPU files open");
	free(text);
}

static void test_cl_status_has_no_escapes_of_a_peer(void **state)
{
	(void)state;
	print_all();
	assert_null(strchr(text, '\033'));
	assert_has("a?[31mb");
	free(text);
}

static void test_cl_status_of_an_empty_answer_prints(void **state)
{
	json_t *json = json_object();
	FILE *out = begin();

	(void)state;
	cl_print_status(out, false, json);
	cl_print_clients(out, json);
	end(out, json);
	assert_has("parameter         0 B  none\n");
	assert_has("no clients\n");
	free(text);
}

static const char *presence(const char *presence, bool answered, bool waits)
{
	json_t *client =
		json_pack("{s:s, s:b, s:b}", "presence", presence, "answered",
			  (int)answered, "waits", (int)waits);
	const char *shown = cl_presence(client);

	json_decref(client);
	return shown;
}

static void test_cl_presence_says_what_is_up(void **state)
{
	(void)state;
	assert_string_equal(presence("here", true, false), "here");
	assert_string_equal(presence("here", false, false), "quiet");
	assert_string_equal(presence("here", false, true), "waits");
	assert_string_equal(presence("away", false, false), "away");
	assert_string_equal(presence("dead", false, false), "dead");
	assert_string_equal(presence("elsewhere", true, false), "?");
}

/* ---- fields ---- */

static void test_cl_json_missing_field_counts_as_nothing(void **state)
{
	json_t *json = status();

	(void)state;
	assert_int_equal(cl_json_number(json, "regions.none.bytes"), 0);
	assert_int_equal(cl_json_number(json, "version"), 0);
	assert_string_equal(cl_json_text(json, "uptime"), "");
	assert_false(cl_json_is_true(json, "clients"));
	json_decref(json);
}

static void test_cl_json_parse_refuses_what_is_no_object(void **state)
{
	char why[JSON_ERROR_TEXT_LENGTH];

	(void)state;
	assert_null(cl_json_parse("[1]", why, sizeof(why)));
	assert_string_equal(why, "it is no object");
	assert_null(cl_json_parse("{\"a\":", why, sizeof(why)));
}

/* ---- metrics ---- */

static void print_metrics(json_t *json)
{
	json_t *metrics = cl_metrics_of(json);
	FILE *out = begin();

	cl_metrics_print(out, metrics);
	end(out, metrics);
	json_decref(json);
}

static void test_cl_metrics_have_help_type_and_values(void **state)
{
	(void)state;
	print_metrics(status());
	assert_has("# HELP poolswitch_up 1 when the daemon answers\n"
		   "# TYPE poolswitch_up gauge\npoolswitch_up 1\n");
	assert_has("# TYPE poolswitch_grants_total counter\n"
		   "poolswitch_grants_total 7\n");
	assert_has("poolswitch_uptime_seconds 12.345\n");
	assert_has(
		"poolswitch_computation_bytes{use=\"leased\"} 16106127360\n");
	assert_has(
		"poolswitch_computation_bytes{use=\"outside\"} 1073741824\n");
	assert_has("poolswitch_state{state=\"serving\"} 1\n");
	assert_has("poolswitch_state{state=\"lost\"} 0\n");
	assert_has("poolswitch_clients{presence=\"dead\"} 1\n");
	free(text);
}

static void test_cl_metrics_escape_labels(void **state)
{
	(void)state;
	print_metrics(status());
	assert_has("poolswitch_client_blocks{id=\"01\",name=\"train\\\"er\","
		   "pid=\"5001\",uid=\"0\"} 12\n");
	assert_has("name=\"a?[31mb\"");
	free(text);
}

static void test_cl_metrics_unknown_counter_is_left_out(void **state)
{
	(void)state;
	print_metrics(status());
	assert_null(strstr(text, "poolswitch_recalls_total"));
	free(text);
}

static void test_cl_metrics_without_daemon_say_it_is_down(void **state)
{
	(void)state;
	print_metrics(NULL);
	assert_has("poolswitch_up 0\n");
	assert_null(strstr(text, "poolswitch_pool_bytes"));
	free(text);
}

/* ---- where they are served ---- */

static bool listens(const char *where)
{
	struct sockaddr_storage address;
	char why[512];

	return cl_listen_parse(where, &address, why, sizeof(why));
}

static void test_cl_listen_loopback_is_taken(void **state)
{
	(void)state;
	assert_true(listens("127.0.0.1:9464"));
	assert_true(listens("127.8.9.10:0"));
	assert_true(listens("localhost:65535"));
	assert_true(listens("[::1]:9464"));
}

static void test_cl_listen_network_is_refused(void **state)
{
	(void)state;
	assert_false(listens("0.0.0.0:9464"));
	assert_false(listens("192.168.1.2:9464"));
	assert_false(listens("[::]:9464"));
	assert_false(listens("[::ffff:127.0.0.1]:9464"));
	assert_false(listens("example.org:9464"));
}

static void test_cl_listen_nonsense_is_refused(void **state)
{
	(void)state;
	assert_false(listens(""));
	assert_false(listens("9464"));
	assert_false(listens(":9464"));
	assert_false(listens("127.0.0.1:"));
	assert_false(listens("127.0.0.1:65536"));
	assert_false(listens("127.0.0.1:-1"));
	assert_false(listens("127.0.0.1:80x"));
}

/* ---- findings ---- */

static json_t *findings(bool second_ok)
{
	const struct ps_finding first = { "driver", true, "580.159", "" };
	const struct ps_finding second = { "fd-limit", second_ok, "256",
					   second_ok ? "" : "raise it" };
	json_t *json = json_array();

	cl_doctor_add(json, &first);
	cl_doctor_add(json, &second);
	return json;
}

static void test_cl_doctor_says_no_and_the_remedy(void **state)
{
	json_t *json = findings(false);
	FILE *out = begin();

	(void)state;
	assert_false(cl_doctor_is_well(json));
	cl_doctor_print(out, false, json);
	end(out, json);
	assert_string_equal(text, "yes  driver           580.159\n"
				  "no   fd-limit         256\n"
				  "                   -> raise it\n");
	free(text);
}

static void test_cl_doctor_is_well_when_all_is(void **state)
{
	json_t *json = findings(true);

	(void)state;
	assert_true(cl_doctor_is_well(json));
	json_decref(json);
}

static const struct th_test tests[] = {
	TH_TEST(test_cl_status_fits_80_columns),
	TH_TEST(test_cl_status_shows_regions_and_clients),
	TH_TEST(test_cl_status_has_no_escapes_of_a_peer),
	TH_TEST(test_cl_status_of_an_empty_answer_prints),
	TH_TEST(test_cl_presence_says_what_is_up),
	TH_TEST(test_cl_json_missing_field_counts_as_nothing),
	TH_TEST(test_cl_json_parse_refuses_what_is_no_object),
	TH_TEST(test_cl_metrics_have_help_type_and_values),
	TH_TEST(test_cl_metrics_escape_labels),
	TH_TEST(test_cl_metrics_unknown_counter_is_left_out),
	TH_TEST(test_cl_metrics_without_daemon_say_it_is_down),
	TH_TEST(test_cl_listen_loopback_is_taken),
	TH_TEST(test_cl_listen_network_is_refused),
	TH_TEST(test_cl_listen_nonsense_is_refused),
	TH_TEST(test_cl_doctor_says_no_and_the_remedy),
	TH_TEST(test_cl_doctor_is_well_when_all_is),
};

TH_MAIN("cli_views", tests)
