/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The index of a sharded model: what a right one gives, each way to be wrong,
 * and that it agrees with its files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"
#include "model/index.h"
#include "tests/support/harness.h"

#define MAP(entries)                                                           \
	"{\"metadata\":{\"total_size\":8},\"weight_map\":{" entries "}}"
#define RIGHT MAP("\"x\":\"b\",\"y\":\"a\",\"z\":\"b\"")

/* In memory of exactly its size, so that a sanitizer sees a read beyond. */
static enum ps_status parse(const char *text, struct md_index *index)
{
	size_t length = strlen(text);
	char *exact = malloc(length + (length == 0));
	enum ps_status status;

	assert_non_null(exact);
	memcpy(exact, text, length);
	status = md_index_parse(exact, length, index);
	free(exact);
	return status;
}

static void refuse(const char *text, enum ps_status expected, const char *words)
{
	struct md_index index = { .files = 12345 };

	th_assert_status(parse(text, &index), expected);
	if (strstr(bs_fail_text(), words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", bs_fail_text(), words);
	assert_int_equal(index.files, 12345);
}

static int make_file(const char *bytes, size_t size)
{
	int fd = memfd_create("index", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), size);
	return fd;
}

/* ---- right ---- */

static void test_index_files_are_each_once_in_order(void **state)
{
	struct md_index index;

	(void)state;
	th_assert_ok(parse(RIGHT, &index));
	assert_int_equal(index.files, 2);
	assert_string_equal(index.file[0], "a");
	assert_string_equal(index.file[1], "b");
	md_index_done(&index);
	md_index_done(&index);
	md_index_done(NULL);
}

static void test_index_behind_blanks_is_read(void **state)
{
	struct md_index index;

	(void)state;
	th_assert_ok(parse(" \n\t" RIGHT "\n", &index));
	md_index_done(&index);
}

static void test_index_file_is_read_in_place(void **state)
{
	int fd = make_file(RIGHT, strlen(RIGHT));
	struct md_index index;

	(void)state;
	th_assert_ok(md_index_read(fd, &index));
	assert_int_equal(index.files, 2);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), strlen(RIGHT));
	md_index_done(&index);
	close(fd);
}

/* ---- wrong ---- */

#define WRONG(test, text, words)                                               \
	static void test(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		refuse(text, PS_INVALID_ARGUMENT, words);                      \
	}

WRONG(test_index_empty_is_refused, "", "does not begin with {")
WRONG(test_index_array_is_refused, "[]", "does not begin with {")
WRONG(test_index_cut_off_is_refused, "{\"weight_map\":{\"x\":\"a\"",
      "not valid JSON")
WRONG(test_index_deep_nesting_is_refused, "{\"a\":[[[[]]]]}",
      "nests deeper than 3")
WRONG(test_index_without_map_is_refused, "{}", "has no weight_map")
WRONG(test_index_map_of_another_kind_is_refused, "{\"weight_map\":[\"a\"]}",
      "has no weight_map")
WRONG(test_index_empty_map_is_refused, MAP(""), "has no weight_map")
WRONG(test_index_number_for_a_file_is_refused, MAP("\"x\":1"),
      "tensor x: what the index says of it is no string")
WRONG(test_index_same_tensor_twice_is_refused, MAP("\"x\":\"a\",\"x\":\"b\""),
      "not valid JSON")
WRONG(test_index_not_utf8_is_refused, MAP("\"x\":\"\xff\""), "not valid JSON")
WRONG(test_index_file_without_name_is_refused, MAP("\"x\":\"\""),
      "no name of a file")
WRONG(test_index_file_in_a_folder_is_refused, MAP("\"x\":\"b/a\""),
      "no name of a file")
WRONG(test_index_absolute_file_is_refused, MAP("\"x\":\"/etc/shadow\""),
      "no name of a file")
WRONG(test_index_folder_itself_is_refused, MAP("\"x\":\".\""),
      "no name of a file")
WRONG(test_index_folder_above_is_refused, MAP("\"x\":\"..\""),
      "no name of a file")

static void test_index_file_name_of_256_bytes_is_refused(void **state)
{
	char text[512];

	(void)state;
	snprintf(text, sizeof(text), MAP("\"x\":\"%0256d\""), 0);
	refuse(text, PS_INVALID_ARGUMENT, "no name of a file");
}

/* A map of so many tensors, each in a file of its own when @is_spread. */
static char *make_map(unsigned int tensors, bool is_spread)
{
	size_t room = 64u + 32u * tensors;
	char *text = malloc(room);
	size_t used;

	assert_non_null(text);
	used = (size_t)snprintf(text, room, "{\"weight_map\":{");
	for (unsigned int i = 0; i < tensors; i++)
		used += (size_t)snprintf(text + used, room - used,
					 "%s\"%u\":\"%u\"", i > 0 ? "," : "", i,
					 is_spread ? i : 0);
	snprintf(text + used, room - used, "}}");
	return text;
}

static void test_index_of_128_files_is_read(void **state)
{
	char *text = make_map(MD_MAX_FILES, true);
	struct md_index index;

	(void)state;
	th_assert_ok(parse(text, &index));
	assert_int_equal(index.files, MD_MAX_FILES);
	md_index_done(&index);
	free(text);
}

static void test_index_of_129_files_is_beyond_the_limit(void **state)
{
	char *text = make_map(MD_MAX_FILES + 1, true);

	(void)state;
	refuse(text, PS_UNSUPPORTED, "names 129 files");
	free(text);
}

static void test_index_of_too_many_tensors_is_beyond_the_limit(void **state)
{
	char *text = make_map(MD_MAX_TENSORS + 1, false);

	(void)state;
	refuse(text, PS_UNSUPPORTED, "has 100001 tensors");
	free(text);
}

static void test_index_of_too_many_commas_is_beyond_the_limit(void **state)
{
	const size_t commas = 200001;
	char *text = malloc(commas + 2);

	(void)state;
	assert_non_null(text);
	text[0] = '{';
	memset(text + 1, ',', commas);
	text[commas + 1] = '\0';
	refuse(text, PS_UNSUPPORTED, "has 200001 commas");
	free(text);
}

/* ---- wrong files ---- */

static void refuse_file(int fd, enum ps_status status, const char *words)
{
	struct md_index index;

	th_assert_status(md_index_read(fd, &index), status);
	assert_non_null(strstr(bs_fail_text(), words));
	close(fd);
}

static void test_index_larger_than_100_mb_is_beyond_the_limit(void **state)
{
	int fd = make_file("{}", 2);

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)MD_MAX_INDEX + 1), 0);
	refuse_file(fd, PS_UNSUPPORTED, "has 100000001 bytes");
}

static void test_index_in_a_socket_is_refused(void **state)
{
	int pair[2];

	(void)state;
	th_socketpair(SOCK_STREAM, pair);
	close(pair[1]);
	refuse_file(pair[0], PS_INVALID_ARGUMENT, "no regular file");
}

static void test_index_of_no_file_is_refused(void **state)
{
	struct md_index index;
	bool is_index;

	(void)state;
	th_assert_status(md_index_read(-1, &index), PS_SYSTEM);
	th_assert_status(md_index_probe(-1, &is_index), PS_SYSTEM);
}

/* ---- which kind of file ---- */

static void assert_probe(const char *bytes, size_t size, bool expected)
{
	int fd = make_file(bytes, size);
	bool is_index = !expected;

	th_assert_ok(md_index_probe(fd, &is_index));
	assert_int_equal(is_index, expected);
	close(fd);
}

static void test_index_probe_knows_an_index(void **state)
{
	(void)state;
	assert_probe(RIGHT, strlen(RIGHT), true);
	assert_probe("  \n" RIGHT, 3 + strlen(RIGHT), true);
	assert_probe("{}", 2, true);
}

/* Its header has 123 bytes: "{". */
static void test_index_probe_knows_a_file_of_123(void **state)
{
	(void)state;
	assert_probe("{\0\0\0\0\0\0\0{\"a\"", 12, false);
}

/* 0x057b7b7b bytes, the most text that a right file can begin with. */
static void test_index_probe_knows_a_file_of_90_mb(void **state)
{
	(void)state;
	assert_probe("{{{\5\0\0\0\0{\"a\"", 12, false);
}

static void test_index_probe_of_anything_else_says_no(void **state)
{
	(void)state;
	assert_probe("", 0, false);
	assert_probe("   ", 3, false);
	assert_probe("PK\3\4pickled", 10, false);
}

/* ---- against the files ---- */

/* Files a and b of RIGHT. */
static struct md_tensor in_a[] = { { "y", MD_U8, 0, { 0 }, 0, 1 } };
static struct md_tensor in_b[] = {
	{ "x", MD_U8, 0, { 0 }, 0, 1 },
	{ "z", MD_U8, 0, { 0 }, 1, 1 },
};

static void check_files(struct md_file a, struct md_file b,
			enum ps_status expected, const char *words)
{
	const struct md_file files[] = { a, b };
	struct md_index index;

	th_assert_ok(parse(RIGHT, &index));
	th_assert_status(md_index_check(&index, files), expected);
	if (expected != PS_OK)
		assert_non_null(strstr(bs_fail_text(), words));
	md_index_done(&index);
}

static void test_index_check_of_its_files_is_well(void **state)
{
	(void)state;
	check_files((struct md_file){ in_a, 1 }, (struct md_file){ in_b, 2 },
		    PS_OK, "");
}

static void test_index_check_sees_a_missing_tensor(void **state)
{
	(void)state;
	check_files((struct md_file){ in_a, 1 }, (struct md_file){ in_b, 1 },
		    PS_INVALID_ARGUMENT, "names 3 tensors, the files have 2");
}

static void test_index_check_sees_a_strange_tensor(void **state)
{
	struct md_tensor more = { "w", MD_U8, 0, { 0 }, 0, 1 };

	(void)state;
	check_files((struct md_file){ &more, 1 }, (struct md_file){ in_b, 2 },
		    PS_INVALID_ARGUMENT, "a has a tensor w, the index does");
}

/* Also what has one name in two files: one of them is the wrong one. */
static void test_index_check_sees_a_tensor_elsewhere(void **state)
{
	(void)state;
	check_files((struct md_file){ in_b, 1 }, (struct md_file){ in_b, 2 },
		    PS_INVALID_ARGUMENT, "tensor x is in a; the index says b");
}

static const struct th_test tests[] = {
	TH_TEST(test_index_files_are_each_once_in_order),
	TH_TEST(test_index_behind_blanks_is_read),
	TH_TEST(test_index_file_is_read_in_place),
	TH_TEST(test_index_empty_is_refused),
	TH_TEST(test_index_array_is_refused),
	TH_TEST(test_index_cut_off_is_refused),
	TH_TEST(test_index_deep_nesting_is_refused),
	TH_TEST(test_index_without_map_is_refused),
	TH_TEST(test_index_map_of_another_kind_is_refused),
	TH_TEST(test_index_empty_map_is_refused),
	TH_TEST(test_index_number_for_a_file_is_refused),
	TH_TEST(test_index_same_tensor_twice_is_refused),
	TH_TEST(test_index_not_utf8_is_refused),
	TH_TEST(test_index_file_without_name_is_refused),
	TH_TEST(test_index_file_in_a_folder_is_refused),
	TH_TEST(test_index_absolute_file_is_refused),
	TH_TEST(test_index_folder_itself_is_refused),
	TH_TEST(test_index_folder_above_is_refused),
	TH_TEST(test_index_file_name_of_256_bytes_is_refused),
	TH_TEST(test_index_of_128_files_is_read),
	TH_TEST(test_index_of_129_files_is_beyond_the_limit),
	TH_TEST(test_index_of_too_many_tensors_is_beyond_the_limit),
	TH_TEST(test_index_of_too_many_commas_is_beyond_the_limit),
	TH_TEST(test_index_larger_than_100_mb_is_beyond_the_limit),
	TH_TEST(test_index_in_a_socket_is_refused),
	TH_TEST(test_index_of_no_file_is_refused),
	TH_TEST(test_index_probe_knows_an_index),
	TH_TEST(test_index_probe_knows_a_file_of_123),
	TH_TEST(test_index_probe_knows_a_file_of_90_mb),
	TH_TEST(test_index_probe_of_anything_else_says_no),
	TH_TEST(test_index_check_of_its_files_is_well),
	TH_TEST(test_index_check_sees_a_missing_tensor),
	TH_TEST(test_index_check_sees_a_strange_tensor),
	TH_TEST(test_index_check_sees_a_tensor_elsewhere),
};

TH_MAIN("index", tests)
