/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The limits' file and sizes as people write them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "poold/limits.h"
#include "tests/support/harness.h"

#define GIB (UINT64_C(1) << 30)
#define COMPUTATION (100 * GIB)

static const char *write_file(const char *text)
{
	static char path[300];
	FILE *file;

	snprintf(path, sizeof(path), "%s/limits.json", th_temp_dir());
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
	fclose(file);
	return path;
}

static struct pd_limits read_good(const char *text)
{
	struct pd_limits limits;

	th_assert_ok(pd_limits_read(write_file(text), COMPUTATION, &limits));
	return limits;
}

/* @part: of the failure's text. */
static void assert_bad(const char *text, const char *part)
{
	struct pd_limits limits, before;

	memset(&limits, 0x5a, sizeof(limits));
	before = limits;
	th_assert_status(pd_limits_read(write_file(text), COMPUTATION, &limits),
			 PS_INVALID_ARGUMENT);
	if (!strstr(bs_fail_text(), part))
		fail_msg("\"%s\" is not in \"%s\"", part, bs_fail_text());
	assert_memory_equal(&limits, &before, sizeof(limits));
}

/* ---- good files ---- */

static void test_limits_of_an_empty_file_are_the_defaults(void **state)
{
	struct pd_limits defaults;
	struct pd_limits limits = read_good("{}");

	(void)state;
	pd_limits_init(&defaults);
	assert_memory_equal(&limits, &defaults, sizeof(limits));
	assert_int_equal(limits.clients, 1024);
	assert_int_equal(limits.clients_of_user, 1024);
	assert_int_equal(limits.messages, 20000);
	assert_int_equal(limits.client_limit, 0);
	assert_int_equal(limits.client_reservation_max, UINT64_MAX);
}

static void test_limits_of_a_full_file_are_all_read(void **state)
{
	const struct pd_limits limits = read_good(
		"{\"clients\": 10, \"clients_of_user\": 4, \"messages\": 99,\n"
		" \"client_limit\": \"40G\", \"client_reservation_max\": 4096,"
		" \"allowed_uids\": [1000, 1001], \"allowed_gids\": [7],\n"
		" \"users\": [{\"uid\": 1000, \"reservation\": \"10%\","
		" \"limit\": \"50%\"}, {\"uid\": 1001}]}");

	(void)state;
	assert_int_equal(limits.clients, 10);
	assert_int_equal(limits.clients_of_user, 4);
	assert_int_equal(limits.messages, 99);
	assert_int_equal(limits.client_limit, 40 * GIB);
	assert_int_equal(limits.client_reservation_max, 4096);
	assert_int_equal(limits.allowed_uids, 2);
	assert_int_equal(limits.allowed_uid[1], 1001);
	assert_int_equal(limits.allowed_gids, 1);
	assert_int_equal(limits.allowed_gid[0], 7);
	assert_int_equal(limits.users, 2);
	assert_int_equal(pd_limits_user(&limits, 1000)->reservation, 10 * GIB);
	assert_int_equal(pd_limits_user(&limits, 1000)->limit, 50 * GIB);
	assert_int_equal(pd_limits_user(&limits, 1001)->limit, 0);
	assert_null(pd_limits_user(&limits, 1002));
}

static void test_limits_clients_are_those_of_a_user_too(void **state)
{
	const struct pd_limits limits = read_good("{\"clients\": 3}");

	(void)state;
	assert_int_equal(limits.clients_of_user, 3);
}

/* ---- mistakes ---- */

static void test_limits_unknown_key_names_its_line(void **state)
{
	(void)state;
	assert_bad("{\n\"clients\": 1,\n\"client\": 2}",
		   "limits.json, line 3: \"client\": there is no such limit");
	assert_bad("{\"users\": [\n{\"uid\": 1},\n{\"uid\": 2, \"max\": 1}]}",
		   "line 3: \"max\"");
}

static void test_limits_broken_json_names_its_line(void **state)
{
	(void)state;
	assert_bad("{\n\"clients\": 1,\n}", "line 3");
	assert_bad("{\"clients\": 1,\n\"clients\": 2}", "line 2");
	assert_bad("", "line 1");
	assert_bad("[]", "written {...}");
	assert_bad("{} {}", "line 1");
}

static void test_limits_wrong_type_is_refused(void **state)
{
	(void)state;
	assert_bad("{\"clients\": \"many\"}", "whole number from 1");
	assert_bad("{\"messages\": 1.5}", "whole number");
	assert_bad("{\"messages\": true}", "whole number");
	assert_bad("{\"client_limit\": 1.5}", "a size is wanted");
	assert_bad("{\"client_limit\": null}", "a size is wanted");
	assert_bad("{\"client_limit\": \"lots\"}", "is no size");
	assert_bad("{\"allowed_uids\": 1}", "a list");
	assert_bad("{\"allowed_gids\": [\"root\"]}", "whole number from 0");
	assert_bad("{\"users\": {}}", "a list");
	assert_bad("{\"users\": [1]}", "a user is written");
	assert_bad("{\"users\": [{}]}", "has no uid");
}

static void test_limits_out_of_range_are_refused(void **state)
{
	(void)state;
	assert_bad("{\"clients\": 0}", "from 1");
	assert_bad("{\"clients\": -1}", "from 1");
	assert_bad("{\"clients\": 4294967295}", "to 4294967294");
	assert_bad("{\"clients\": 99999999999999999999}", "line 1");
	assert_bad("{\"client_limit\": -1}", "a size is wanted");
	assert_bad("{\"client_limit\": \"99999999T\"}", "64 bits");
	assert_bad("{\"allowed_uids\": [4294967295]}", "4294967294");
}

static void test_limits_mistake_of_a_later_user_names_its_line(void **state)
{
	(void)state;
	assert_bad("{\"users\": [\n{\"uid\": 1, \"limit\": 5},\n"
		   "{\"uid\": 2, \"limit\": []}]}",
		   "line 3: \"limit\"");
	assert_bad("{\"users\": [\n{\"uid\": 1},\n{\"uid\": 1}]}",
		   "line 3: \"uid\": user 1 is there twice");
}

static void test_limits_that_contradict_are_refused(void **state)
{
	(void)state;
	assert_bad("{\"users\": [{\"uid\": 1, \"reservation\": \"2G\","
		   " \"limit\": \"1G\"}]}",
		   "is guaranteed 2147483648 bytes");
	assert_bad("{\"users\": [{\"uid\": 1, \"reservation\": \"60G\"},"
		   " {\"uid\": 2, \"reservation\": \"41G\"}]}",
		   "all reservations are 108447924224 bytes");
}

static char *many(const char *key, unsigned int count, const char *format)
{
	char *text = malloc(64 + (size_t)count * 32);
	int used = sprintf(text, "{\"%s\": [", key);

	for (unsigned int i = 0; i < count; i++) {
		text[used] = ',';
		used += i > 0;
		used += sprintf(text + used, format, i);
	}
	sprintf(text + used, "]}");
	return text;
}

static void test_limits_of_too_many_users_are_refused(void **state)
{
	char *good = many("users", PD_LIMIT_USERS, "{\"uid\": %u}");
	char *bad = many("users", PD_LIMIT_USERS + 1, "{\"uid\": %u}");
	char *ids = many("allowed_uids", PD_LIMIT_USERS + 1, "%u");

	(void)state;
	assert_int_equal(read_good(good).users, PD_LIMIT_USERS);
	assert_bad(bad, "at most 256");
	assert_bad(ids, "at most 256");
	free(good);
	free(bad);
	free(ids);
}

/* ---- files that cannot be read ---- */

static void test_limits_of_no_file_are_refused(void **state)
{
	struct pd_limits limits;
	char path[300];

	(void)state;
	snprintf(path, sizeof(path), "%s/none", th_temp_dir());
	th_assert_status(pd_limits_read(path, 1, &limits), PS_SYSTEM);
	assert_non_null(strstr(bs_fail_text(), strerror(ENOENT)));
	th_assert_status(pd_limits_read(th_temp_dir(), 1, &limits),
			 PS_INVALID_ARGUMENT);
	assert_int_equal(mkfifo(path, 0600), 0);
	th_assert_status(pd_limits_read(path, 1, &limits), PS_INVALID_ARGUMENT);
}

static void test_limits_file_too_large_is_refused(void **state)
{
	char *text = malloc((1 << 20) + 2);

	(void)state;
	memset(text, ' ', (1 << 20) + 1);
	text[(1 << 20) + 1] = '\0';
	assert_bad(text, "more than 1048576 bytes");
	free(text);
}

static void test_limits_file_with_a_zero_byte_is_refused(void **state)
{
	struct pd_limits limits;
	const char *path = write_file("{}");
	FILE *file = fopen(path, "ae");

	(void)state;
	fputc('\0', file);
	fclose(file);
	th_assert_status(pd_limits_read(path, 1, &limits), PS_INVALID_ARGUMENT);
	assert_non_null(strstr(bs_fail_text(), "zero byte"));
}

/* ---- who may connect ---- */

static void test_limits_without_lists_allow_everybody(void **state)
{
	const struct pd_limits limits = read_good("{}");

	(void)state;
	assert_true(pd_limits_allow(&limits, 12345, 12345));
}

static void test_limits_with_lists_allow_those_in_them(void **state)
{
	const struct pd_limits limits =
		read_good("{\"allowed_uids\": [1000], \"allowed_gids\": [50]}");

	(void)state;
	assert_true(pd_limits_allow(&limits, 1000, 1));
	assert_true(pd_limits_allow(&limits, 1001, 50));
	assert_false(pd_limits_allow(&limits, 1001, 1000));
	assert_true(pd_limits_allow(&limits, 0, 1));
	assert_true(pd_limits_allow(&limits, geteuid(), 1));
}

static const struct th_test tests[] = {
	TH_TEST(test_limits_of_an_empty_file_are_the_defaults),
	TH_TEST(test_limits_of_a_full_file_are_all_read),
	TH_TEST(test_limits_clients_are_those_of_a_user_too),
	TH_TEST(test_limits_unknown_key_names_its_line),
	TH_TEST(test_limits_broken_json_names_its_line),
	TH_TEST(test_limits_wrong_type_is_refused),
	TH_TEST(test_limits_out_of_range_are_refused),
	TH_TEST(test_limits_mistake_of_a_later_user_names_its_line),
	TH_TEST(test_limits_that_contradict_are_refused),
	TH_TEST(test_limits_of_too_many_users_are_refused),
	TH_TEST(test_limits_of_no_file_are_refused),
	TH_TEST(test_limits_file_too_large_is_refused),
	TH_TEST(test_limits_file_with_a_zero_byte_is_refused),
	TH_TEST(test_limits_without_lists_allow_everybody),
	TH_TEST(test_limits_with_lists_allow_those_in_them),
};

TH_MAIN("limits", tests)
