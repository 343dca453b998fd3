/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A model's manifest: what is written is read again, and nothing that is not
 * right in every number is. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "model/manifest.h"
#include "tests/support/harness.h"

/* Where things are in the bytes; the format is the same for every build. */
#define AT_VERSION 8
#define AT_COUNT 12
#define AT_BYTES 16
#define AT_NAME_BYTES 24
#define AT_ROWS 64
#define ROW_BYTES 96
#define ROW_OFFSET 0
#define ROW_SIZE 8
#define ROW_SHAPE 16
#define ROW_DTYPE 80
#define ROW_RANK 84
#define ROW_NAME 88
#define ROW_ZERO 92
#define AT_NAMES (AT_ROWS + 3 * ROW_BYTES)

static struct md_tensor three[] = {
	{ "a", MD_F32, 1, { 1 }, 0, 4 },
	{ "b", MD_U8, 2, { 3, 100 }, 256, 300 },
	{ "\xc3\xa9", MD_F4, 1, { 0 }, 768, 0 },
};

static const struct md_manifest sample = {
	.tensors = three,
	.count = 3,
	.bytes = 768,
	.hash = { 1, 2, 3 },
};

/* The bytes of the sample, for a test to change; exactly as long as they are,
 * so that a sanitizer sees a read beyond them. */
struct written {
	char *bytes;
	size_t size;
};

static struct written written;

static int write_sample(void **state)
{
	void *bytes;

	(void)state;
	th_assert_ok(md_manifest_encode(&sample, &bytes, &written.size));
	written.bytes = bytes;
	return 0;
}

static int drop_sample(void **state)
{
	(void)state;
	free(written.bytes);
	written = (struct written){ 0 };
	return 0;
}

static void put_u32(size_t at, uint32_t value)
{
	memcpy(written.bytes + at, &value, sizeof(value));
}

static void put_u64(size_t at, uint64_t value)
{
	memcpy(written.bytes + at, &value, sizeof(value));
}

static size_t row(size_t number, size_t field)
{
	return AT_ROWS + number * ROW_BYTES + field;
}

static void refuse(const char *words)
{
	struct md_manifest manifest = { .count = 12345 };

	th_assert_status(
		md_manifest_decode(written.bytes, written.size, &manifest),
		PS_INVALID_ARGUMENT);
	if (strstr(bs_fail_text(), words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", bs_fail_text(), words);
	assert_int_equal(manifest.count, 12345);
}

/* ---- right ---- */

static void test_manifest_written_is_read_again(void **state)
{
	struct md_manifest manifest;

	(void)state;
	th_assert_ok(
		md_manifest_decode(written.bytes, written.size, &manifest));
	assert_int_equal(manifest.count, 3);
	assert_int_equal(manifest.bytes, 768);
	assert_memory_equal(manifest.hash, sample.hash, MD_HASH_BYTES);
	assert_int_equal(md_layout_hash(manifest.tensors, 3),
			 md_layout_hash(three, 3));
	md_manifest_done(&manifest);
}

static void test_manifest_without_tensors_is_read_again(void **state)
{
	const struct md_manifest none = { 0 };
	struct md_manifest manifest;
	void *bytes;
	size_t size;

	(void)state;
	th_assert_ok(md_manifest_encode(&none, &bytes, &size));
	assert_int_equal(size, AT_ROWS);
	th_assert_ok(md_manifest_decode(bytes, size, &manifest));
	assert_int_equal(manifest.count, 0);
	md_manifest_done(&manifest);
	free(bytes);
}

static void test_manifest_done_twice_is_well(void **state)
{
	struct md_manifest manifest;

	(void)state;
	th_assert_ok(
		md_manifest_decode(written.bytes, written.size, &manifest));
	md_manifest_done(&manifest);
	md_manifest_done(&manifest);
	md_manifest_done(NULL);
}

/* ---- wrong as a whole ---- */

static void test_manifest_cut_anywhere_is_refused(void **state)
{
	struct md_manifest manifest;

	(void)state;
	for (size_t size = 0; size < written.size; size++) {
		char *cut = malloc(size + (size == 0));

		assert_non_null(cut);
		memcpy(cut, written.bytes, size);
		th_assert_status(md_manifest_decode(cut, size, &manifest),
				 PS_INVALID_ARGUMENT);
		free(cut);
	}
}

static void test_manifest_longer_is_refused(void **state)
{
	(void)state;
	written.bytes = realloc(written.bytes, written.size + 1);
	assert_non_null(written.bytes);
	written.bytes[written.size++] = '\0';
	refuse("not those of 3 tensors");
}

static void test_manifest_of_two_names_too_many_is_refused(void **state)
{
	(void)state;
	written.bytes = realloc(written.bytes, written.size + 2);
	assert_non_null(written.bytes);
	memset(written.bytes + written.size, 0, 2);
	written.size += 2;
	put_u64(AT_NAME_BYTES, 2 + 2 + 3 + 2);
	refuse("2 bytes behind the manifest's names");
}

static void test_manifest_other_magic_is_refused(void **state)
{
	(void)state;
	written.bytes[0] ^= 1;
	refuse("no manifest");
}

static void test_manifest_other_version_is_refused(void **state)
{
	(void)state;
	put_u32(AT_VERSION, MD_MANIFEST_VERSION + 1);
	refuse("version 2, not 1");
}

static void test_manifest_too_many_tensors_is_refused(void **state)
{
	(void)state;
	put_u32(AT_COUNT, MD_MAX_TENSORS + 1);
	refuse("claims 100001 tensors");
}

static void test_manifest_rows_beyond_end_is_refused(void **state)
{
	(void)state;
	put_u32(AT_COUNT, 4);
	refuse("not those of 4 tensors");
}

/* The sum of both is right, modulo 2^64. */
static void test_manifest_names_wrap_is_refused(void **state)
{
	(void)state;
	put_u32(AT_COUNT, 4);
	put_u64(AT_NAME_BYTES, (uint64_t)7 - ROW_BYTES);
	refuse("not those of 4 tensors");
}

/* ---- a wrong name ---- */

static void test_manifest_name_beyond_end_is_refused(void **state)
{
	(void)state;
	put_u32(row(2, ROW_NAME), 3);
	refuse("tensor 2: a name of 3 bytes");
}

static void test_manifest_name_of_4_gib_is_refused(void **state)
{
	(void)state;
	put_u32(row(0, ROW_NAME), UINT32_MAX);
	refuse("tensor 0: a name of 4294967295 bytes");
}

static void test_manifest_name_too_long_is_refused(void **state)
{
	char name[MD_MAX_NAME + 2];
	struct md_tensor tensor = { name, MD_U8, 1, { 1 }, 0, 1 };
	struct md_manifest one = { .tensors = &tensor, 1, 256 };
	void *bytes;

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	free(written.bytes);
	th_assert_ok(md_manifest_encode(&one, &bytes, &written.size));
	written.bytes = bytes;
	refuse("a name of 1025 bytes");
}

static void test_manifest_name_with_a_zero_is_refused(void **state)
{
	(void)state;
	written.bytes[AT_NAMES] = '\0';
	refuse("tensor 0: its name does not end");
}

static void test_manifest_name_without_end_is_refused(void **state)
{
	(void)state;
	written.bytes[written.size - 1] = 'x';
	refuse("tensor 2: its name does not end");
}

static void test_manifest_same_name_twice_is_refused(void **state)
{
	(void)state;
	written.bytes[AT_NAMES + 2] = 'a';
	refuse("two tensors are called a");
}

/* The sample with one name, of @length bytes. */
static void rename_first(const char *name, size_t length)
{
	struct md_tensor tensor = { name, MD_U8, 1, { 1 }, 0, 1 };
	struct md_manifest one = { .tensors = &tensor, 1, 256 };
	void *bytes;

	free(written.bytes);
	th_assert_ok(md_manifest_encode(&one, &bytes, &written.size));
	written.bytes = bytes;
	assert_int_equal(strlen(name), length);
}

#define WRONG_NAME(test, name)                                                 \
	static void test(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		rename_first(name, sizeof(name) - 1);                          \
		refuse("its name is no UTF-8");                                \
	}

WRONG_NAME(test_manifest_name_lone_rest_is_refused, "a\x80")
WRONG_NAME(test_manifest_name_cut_off_is_refused, "a\xe2\x82")
WRONG_NAME(test_manifest_name_cut_inside_is_refused, "\xe2\x82z")
WRONG_NAME(test_manifest_name_two_for_one_is_refused, "\xc0\xaf")
WRONG_NAME(test_manifest_name_three_for_two_is_refused, "\xe0\x80\xaf")
WRONG_NAME(test_manifest_name_four_for_three_is_refused, "\xf0\x80\x80\xaf")
WRONG_NAME(test_manifest_name_half_a_pair_is_refused, "\xed\xa0\x80")
WRONG_NAME(test_manifest_name_beyond_unicode_is_refused, "\xf4\x90\x80\x80")
WRONG_NAME(test_manifest_name_of_five_is_refused, "\xf8\x88\x80\x80\x80")

static void test_manifest_name_of_every_length_is_read(void **state)
{
	static const char name[] = "z\xc3\xbf\xe2\x82\xac\xf0\x9f\x98\x80";
	struct md_manifest manifest;

	(void)state;
	rename_first(name, sizeof(name) - 1);
	th_assert_ok(
		md_manifest_decode(written.bytes, written.size, &manifest));
	assert_string_equal(manifest.tensors[0].name, name);
	md_manifest_done(&manifest);
}

/* ---- a wrong number ---- */

#define WRONG_ROW(test, change, words)                                         \
	static void test(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		change;                                                        \
		refuse(words);                                                 \
	}

WRONG_ROW(test_manifest_unknown_dtype_is_refused,
	  put_u32(row(1, ROW_DTYPE), MD_DTYPE_COUNT), "tensor b: dtype 22")
WRONG_ROW(test_manifest_nine_dimensions_is_refused,
	  put_u32(row(1, ROW_RANK), MD_MAX_RANK + 1), "9 dimensions")
WRONG_ROW(test_manifest_shape_beyond_rank_is_refused,
	  put_u64(row(0, ROW_SHAPE + 8), 1), "tensor a: what it does not use")
WRONG_ROW(test_manifest_rest_of_row_is_refused, put_u32(row(0, ROW_ZERO), 1),
	  "tensor a: what it does not use")
WRONG_ROW(test_manifest_size_unlike_shape_is_refused,
	  put_u64(row(1, ROW_SIZE), 299), "its shape and dtype 300")
WRONG_ROW(test_manifest_shape_overflow_is_refused,
	  put_u64(row(1, ROW_SHAPE), UINT64_MAX / 2), "overflows")
WRONG_ROW(test_manifest_overlap_is_refused, put_u64(row(1, ROW_OFFSET), 0),
	  "not between the last one's end, 4")
WRONG_ROW(test_manifest_empty_tensor_beyond_model_is_refused,
	  put_u64(row(2, ROW_OFFSET), 1024), "and the model's, 768")
WRONG_ROW(test_manifest_offset_wraps_is_refused,
	  put_u64(row(1, ROW_OFFSET), UINT64_MAX - 255), "not between")
WRONG_ROW(test_manifest_offset_not_aligned_is_refused,
	  put_u64(row(1, ROW_OFFSET), 384), "no multiple of 256")

/* The last one, so that no other is beyond it as well. */
static void test_manifest_tensor_beyond_model_is_refused(void **state)
{
	struct md_tensor tensor = { "a", MD_U8, 1, { 300 }, 0, 300 };
	struct md_manifest one = { .tensors = &tensor, 1, 299 };
	void *bytes;

	(void)state;
	free(written.bytes);
	th_assert_ok(md_manifest_encode(&one, &bytes, &written.size));
	written.bytes = bytes;
	refuse("and the model's, 299");
}

static void test_manifest_half_a_byte_is_refused(void **state)
{
	(void)state;
	put_u64(row(2, ROW_SHAPE), 1);
	refuse("not a whole number of bytes");
}

#define WITH_SAMPLE(test) TH_TEST_SETUP(test, write_sample, drop_sample)

static const struct th_test tests[] = {
	WITH_SAMPLE(test_manifest_written_is_read_again),
	TH_TEST(test_manifest_without_tensors_is_read_again),
	WITH_SAMPLE(test_manifest_done_twice_is_well),
	WITH_SAMPLE(test_manifest_cut_anywhere_is_refused),
	WITH_SAMPLE(test_manifest_longer_is_refused),
	WITH_SAMPLE(test_manifest_of_two_names_too_many_is_refused),
	WITH_SAMPLE(test_manifest_other_magic_is_refused),
	WITH_SAMPLE(test_manifest_other_version_is_refused),
	WITH_SAMPLE(test_manifest_too_many_tensors_is_refused),
	WITH_SAMPLE(test_manifest_rows_beyond_end_is_refused),
	WITH_SAMPLE(test_manifest_names_wrap_is_refused),
	WITH_SAMPLE(test_manifest_name_beyond_end_is_refused),
	WITH_SAMPLE(test_manifest_name_of_4_gib_is_refused),
	WITH_SAMPLE(test_manifest_name_too_long_is_refused),
	WITH_SAMPLE(test_manifest_name_with_a_zero_is_refused),
	WITH_SAMPLE(test_manifest_name_without_end_is_refused),
	WITH_SAMPLE(test_manifest_same_name_twice_is_refused),
	WITH_SAMPLE(test_manifest_name_lone_rest_is_refused),
	WITH_SAMPLE(test_manifest_name_cut_off_is_refused),
	WITH_SAMPLE(test_manifest_name_cut_inside_is_refused),
	WITH_SAMPLE(test_manifest_name_two_for_one_is_refused),
	WITH_SAMPLE(test_manifest_name_three_for_two_is_refused),
	WITH_SAMPLE(test_manifest_name_four_for_three_is_refused),
	WITH_SAMPLE(test_manifest_name_half_a_pair_is_refused),
	WITH_SAMPLE(test_manifest_name_beyond_unicode_is_refused),
	WITH_SAMPLE(test_manifest_name_of_five_is_refused),
	WITH_SAMPLE(test_manifest_name_of_every_length_is_read),
	WITH_SAMPLE(test_manifest_unknown_dtype_is_refused),
	WITH_SAMPLE(test_manifest_nine_dimensions_is_refused),
	WITH_SAMPLE(test_manifest_shape_beyond_rank_is_refused),
	WITH_SAMPLE(test_manifest_rest_of_row_is_refused),
	WITH_SAMPLE(test_manifest_size_unlike_shape_is_refused),
	WITH_SAMPLE(test_manifest_shape_overflow_is_refused),
	WITH_SAMPLE(test_manifest_overlap_is_refused),
	WITH_SAMPLE(test_manifest_tensor_beyond_model_is_refused),
	WITH_SAMPLE(test_manifest_empty_tensor_beyond_model_is_refused),
	WITH_SAMPLE(test_manifest_offset_wraps_is_refused),
	WITH_SAMPLE(test_manifest_offset_not_aligned_is_refused),
	WITH_SAMPLE(test_manifest_half_a_byte_is_refused),
};

TH_MAIN("manifest", tests)
