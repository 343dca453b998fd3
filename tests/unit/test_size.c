/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Sizes as people write them. */
#include "base/size.h"

#include "base/status.h"
#include "tests/support/harness.h"

#include <string.h>

#define GIB (UINT64_C(1) << 30)
#define WHOLE (100 * GIB)

static uint64_t size_of(const char *text)
{
	uint64_t bytes = 0;

	th_assert_ok(bs_size_parse(text, WHOLE, &bytes));
	return bytes;
}

static void test_size_is_read_in_each_unit(void **state)
{
	(void)state;
	assert_int_equal(size_of("0"), 0);
	assert_int_equal(size_of("4096"), 4096);
	assert_int_equal(size_of("3K"), 3 << 10);
	assert_int_equal(size_of("512M"), 512 << 20);
	assert_int_equal(size_of("40G"), 40 * GIB);
	assert_int_equal(size_of("40GiB"), 40 * GIB);
	assert_int_equal(size_of("1.5T"), 1536 * GIB);
	assert_int_equal(size_of("0.000001M"), 1);
	assert_int_equal(size_of("0.0000019M"), 1);
	assert_int_equal(size_of("18446744073709551615"), UINT64_MAX);
}

static void test_size_is_a_share_of_the_whole(void **state)
{
	uint64_t bytes;

	(void)state;
	assert_int_equal(size_of("25%"), 25 * GIB);
	assert_int_equal(size_of("0.5%"), GIB / 2);
	assert_int_equal(size_of("100%"), WHOLE);
	th_assert_ok(bs_size_parse("100%", UINT64_MAX, &bytes));
	assert_int_equal(bytes, UINT64_MAX);
	th_assert_ok(bs_size_parse("50%", 3, &bytes));
	assert_int_equal(bytes, 1);
}

static void test_size_of_any_other_form_is_refused(void **state)
{
	static const char *const bad[] = {
		"",          "-1",
		"+1",        " 1",
		"1 ",        "G",
		"1X",        "1Gi",
		"1GB",       "1g",
		"1.G",       ".5G",
		"1.5",       "0x10",
		"101%",      "100.5%",
		"1%%",       "1.5.5G",
		"1e9",       "18446744073709551616",
		"16777216T", "17179869183.9999999999T",
	};
	uint64_t bytes = 77;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		th_assert_status(bs_size_parse(bad[i], WHOLE, &bytes),
				 PS_INVALID_ARGUMENT);
		assert_int_equal(bytes, 77);
		assert_non_null(strstr(bs_fail_text(), "is no size"));
	}
}

static void test_size_without_a_whole_is_no_share(void **state)
{
	uint64_t bytes = 77;

	(void)state;
	th_assert_status(bs_size_parse("25%", 0, &bytes), PS_INVALID_ARGUMENT);
	assert_int_equal(bytes, 77);
	th_assert_ok(bs_size_parse("25G", 0, &bytes));
	assert_int_equal(bytes, 25 * GIB);
}

static const struct th_test tests[] = {
	TH_TEST(test_size_is_read_in_each_unit),
	TH_TEST(test_size_is_a_share_of_the_whole),
	TH_TEST(test_size_of_any_other_form_is_refused),
	TH_TEST(test_size_without_a_whole_is_no_share),
};

TH_MAIN("size", tests)
