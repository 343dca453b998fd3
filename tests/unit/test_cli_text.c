/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Words, tables and bars of the program poolswitch. */
#include "cli/exit.h"
#include "cli/text.h"
#include "tests/support/harness.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* What is printed goes into @text. */
static char *text;
static size_t size;

static FILE *begin(void)
{
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	return out;
}

static void expect(FILE *out, const char *expected)
{
	fclose(out);
	assert_string_equal(text, expected);
	free(text);
}

static void assert_size(uint64_t bytes, const char *expected)
{
	char buffer[CL_SIZE_BYTES];

	assert_string_equal(cl_size(bytes, buffer), expected);
	assert_true(strlen(buffer) <= 8);
}

static void test_cl_size_small_number_is_bytes(void **state)
{
	(void)state;
	assert_size(0, "0 B");
	assert_size(1023, "1023 B");
	assert_size(1024, "1.00 KiB");
}

static void test_cl_size_has_three_digits(void **state)
{
	(void)state;
	assert_size(UINT64_C(139) << 30, "139 GiB");
	assert_size((UINT64_C(12) << 30) + (UINT64_C(300) << 20), "12.3 GiB");
	assert_size(UINT64_MAX, "16.0 EiB");
}

static void test_cl_size_rounded_up_takes_next_form(void **state)
{
	(void)state;
	assert_size((UINT64_C(1) << 30) - 1, "1.00 GiB");
	assert_size((UINT64_C(1) << 30) - (UINT64_C(1) << 20), "1023 MiB");
	assert_size(10237, "10.0 KiB");
	assert_size(102399, "100 KiB");
}

static void test_cl_span_has_two_units(void **state)
{
	char buffer[CL_SPAN_BYTES];

	(void)state;
	assert_string_equal(cl_span(59, buffer), "59 s");
	assert_string_equal(cl_span(185, buffer), "3 min 5 s");
	assert_string_equal(cl_span(11520, buffer), "3 h 12 min");
	assert_string_equal(cl_span(439200, buffer), "5 d 2 h");
}

static void test_cl_plain_takes_escapes_out(void **state)
{
	char buffer[32];

	(void)state;
	assert_string_equal(cl_plain("a\033[31m\n\xc2\x9b", buffer, 32),
			    "a?[31m???");
}

static void test_cl_plain_cuts_to_the_room(void **state)
{
	char buffer[4];

	(void)state;
	assert_string_equal(cl_plain("abcdef", buffer, sizeof(buffer)), "abc");
}

static void test_cl_user_without_a_name_is_a_number(void **state)
{
	char buffer[33];

	(void)state;
	assert_string_equal(cl_user(4000000001, buffer, 33), "4000000001");
	assert_string_equal(cl_user(0, buffer, 33), "root");
}

static void test_cl_wrap_breaks_before_column_80(void **state)
{
	char words[301] = "";
	FILE *out = begin();
	char *line;
	int i;

	(void)state;
	for (i = 0; i < 60; i++)
		strcat(words, "abcd ");
	cl_wrap(out, words, 4, fprintf(out, "head: "));
	fclose(out);
	line = strtok(text, "\n");
	assert_int_equal(strlen(line), 80);
	while ((line = strtok(NULL, "\n")) != NULL) {
		assert_true(strlen(line) <= 80);
		assert_memory_equal(line, "    abcd", 8);
	}
	free(text);
}

static const struct cl_column columns[] = {
	{ "PID", 7, true },
	{ "NAME", 6, false },
	{ "END", 4, false },
};

static void test_cl_table_aligns(void **state)
{
	const char *cells[] = { "12", "ab", "x" };
	FILE *out = begin();

	(void)state;
	cl_table_head(out, columns, 3);
	cl_table_row(out, columns, 3, cells);
	expect(out, "    PID NAME   END\n     12 ab     x\n");
}

static void test_cl_table_cuts_what_is_too_wide(void **state)
{
	const char *cells[] = { "12", "abcdefg", "x" };
	FILE *out = begin();

	(void)state;
	cl_table_row(out, columns, 3, cells);
	expect(out, "     12 abcd.. x\n");
}

static void test_cl_bar_shows_shares(void **state)
{
	const struct cl_part parts[] = { { 50, '#', "32" },
					 { 25, '=', NULL },
					 { 25, '.', NULL } };
	FILE *out = begin();

	(void)state;
	cl_bar(out, false, parts, 3, 8);
	expect(out, "[####==..]\n");
}

static void test_cl_bar_shows_the_smallest_part(void **state)
{
	const struct cl_part parts[] = { { 1, '!', NULL },
					 { 0, '=', NULL },
					 { 1000000, '.', NULL } };
	FILE *out = begin();

	(void)state;
	cl_bar(out, false, parts, 3, 8);
	expect(out, "[!.......]\n");
}

static void test_cl_bar_colours_when_told(void **state)
{
	const struct cl_part parts[] = { { 1, '#', "32" }, { 1, '.', NULL } };
	FILE *out = begin();

	(void)state;
	cl_bar(out, true, parts, 2, 4);
	expect(out, "[\033[32m##\033[0m..]\n");
}

/* Any amounts: as many characters as wanted, none for nothing. */
static void test_cl_share_always_adds_up(void **state)
{
	struct cl_part parts[6] = { 0 };
	int shares[6], sum, i, round;

	(void)state;
	srandom(1);
	for (round = 0; round < 10000; round++) {
		for (sum = 0, i = 0; i < 6; i++)
			parts[i].amount = (uint64_t)random() >> (random() % 40);
		parts[round % 6].amount = 1;
		cl_share(parts, 6, 52, shares);
		for (i = 0; i < 6; i++) {
			sum += shares[i];
			assert_int_equal(shares[i] == 0, parts[i].amount == 0);
		}
		assert_int_equal(sum, 52);
	}
}

static void test_cl_share_of_nothing_is_nothing(void **state)
{
	struct cl_part parts[2] = { 0 };
	int shares[2];

	(void)state;
	cl_share(parts, 2, 52, shares);
	assert_int_equal(shares[0] + shares[1], 0);
}

static void test_cl_is_colourful_file_is_not(void **state)
{
	FILE *file = tmpfile();

	(void)state;
	setenv("TERM", "xterm", 1);
	unsetenv("NO_COLOR");
	assert_false(cl_is_colourful(file));
	fclose(file);
}

/* ---- exit codes ---- */

static void test_cl_exit_every_status_has_a_code(void **state)
{
	int status;

	(void)state;
	for (status = 1;
	     strcmp(ps_status_name((enum ps_status)status), "PS_UNKNOWN") != 0;
	     status++) {
		int code = cl_exit_code((enum ps_status)status);

		assert_true(code >= EX__BASE && code <= EX__MAX);
	}
	assert_true(status > PS_NO_DAEMON);
}

static void test_cl_exit_tells_kinds_apart(void **state)
{
	(void)state;
	assert_int_equal(cl_exit_code(PS_OK), 0);
	assert_int_equal(cl_exit_code(PS_NO_DAEMON), EX_UNAVAILABLE);
	assert_int_equal(cl_exit_code(PS_PERMISSION), EX_NOPERM);
	assert_int_equal(cl_exit_code(PS_INVALID_ARGUMENT), EX_USAGE);
	assert_int_equal(cl_exit_code(PS_TIMED_OUT), EX_TEMPFAIL);
	assert_int_equal(cl_exit_code(PS_VERSION_MISMATCH), EX_PROTOCOL);
	assert_int_equal(cl_exit_code(PS_SYSTEM), EX_OSERR);
}

static void test_cl_exit_foreign_status_is_our_bug(void **state)
{
	(void)state;
	assert_int_equal(cl_exit_code((enum ps_status)9999), EX_SOFTWARE);
}

static const struct th_test tests[] = {
	TH_TEST(test_cl_size_small_number_is_bytes),
	TH_TEST(test_cl_size_has_three_digits),
	TH_TEST(test_cl_size_rounded_up_takes_next_form),
	TH_TEST(test_cl_span_has_two_units),
	TH_TEST(test_cl_plain_takes_escapes_out),
	TH_TEST(test_cl_plain_cuts_to_the_room),
	TH_TEST(test_cl_user_without_a_name_is_a_number),
	TH_TEST(test_cl_wrap_breaks_before_column_80),
	TH_TEST(test_cl_table_aligns),
	TH_TEST(test_cl_table_cuts_what_is_too_wide),
	TH_TEST(test_cl_bar_shows_shares),
	TH_TEST(test_cl_bar_shows_the_smallest_part),
	TH_TEST(test_cl_bar_colours_when_told),
	TH_TEST(test_cl_share_always_adds_up),
	TH_TEST(test_cl_share_of_nothing_is_nothing),
	TH_TEST(test_cl_is_colourful_file_is_not),
	TH_TEST(test_cl_exit_every_status_has_a_code),
	TH_TEST(test_cl_exit_tells_kinds_apart),
	TH_TEST(test_cl_exit_foreign_status_is_our_bug),
};

TH_MAIN("cli_text", tests)
