/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Where a model's tensors lie in GPU memory, and the hash of that. */
#include <string.h>

#include "model/layout.h"
#include "tests/support/harness.h"

static void parse(const char *text, uint64_t data_bytes, struct md_file *file)
{
	size_t length = strlen(text);

	th_assert_ok(
		md_file_parse(text, length, 8 + length + data_bytes, file));
}

/* Two tensors of 4 and 300 bytes and an empty one. */
static const struct md_tensor three[] = {
	{ "a", MD_F32, 1, { 1 }, 0, 4 },
	{ "b", MD_U8, 2, { 3, 100 }, 256, 300 },
	{ "c", MD_U8, 1, { 0 }, 768, 0 },
};

static void test_layout_tensors_are_aligned_in_order(void **state)
{
	struct md_layout layout;
	struct md_file file;

	(void)state;
	parse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
	      "\"b\":{\"dtype\":\"U8\",\"shape\":[3,100],"
	      "\"data_offsets\":[4,304]},"
	      "\"c\":{\"dtype\":\"U8\",\"shape\":[0],"
	      "\"data_offsets\":[304,304]}}",
	      304, &file);
	th_assert_ok(md_layout_init(&file, &layout));
	assert_int_equal(layout.count, 3);
	for (size_t i = 0; i < layout.count; i++)
		assert_int_equal(layout.tensors[i].offset, three[i].offset);
	assert_int_equal(layout.bytes, 768);
	assert_int_equal(layout.hash, md_layout_hash(three, 3));
	md_layout_done(&layout);
	md_file_done(&file);
}

static void test_layout_of_no_tensors_is_empty(void **state)
{
	struct md_layout layout;
	struct md_file file;

	(void)state;
	parse("{}", 0, &file);
	th_assert_ok(md_layout_init(&file, &layout));
	assert_int_equal(layout.bytes, 0);
	assert_int_equal(layout.hash, md_layout_hash(NULL, 0));
	md_layout_done(&layout);
	md_file_done(&file);
}

static void test_layout_beyond_64_bits_is_refused(void **state)
{
	struct md_tensor huge[2] = {
		{ "a", MD_U8, 0, { 0 }, 0, UINT64_MAX - 300 },
		{ "b", MD_U8, 0, { 0 }, 0, 300 },
	};
	struct md_file file = { .tensors = huge, .count = 2 };
	struct md_layout layout;

	(void)state;
	th_assert_status(md_layout_init(&file, &layout), PS_INVALID_ARGUMENT);
}

/* The hash of @three after one change is another. */
#define CHANGE(test, change)                                                   \
	static void test(void **state)                                         \
	{                                                                      \
		struct md_tensor other[3];                                     \
                                                                               \
		(void)state;                                                   \
		memcpy(other, three, sizeof(other));                           \
		change;                                                        \
		assert_int_not_equal(md_layout_hash(other, 3),                 \
				     md_layout_hash(three, 3));                \
	}

CHANGE(test_layout_hash_sees_a_name, other[1].name = "B")
CHANGE(test_layout_hash_sees_a_dtype, other[1].dtype = MD_I8)
CHANGE(test_layout_hash_sees_a_rank, other[1].rank = 1)
CHANGE(test_layout_hash_sees_a_shape, other[1].shape[1] = 101)
CHANGE(test_layout_hash_sees_an_offset, other[1].offset = 512)
CHANGE(test_layout_hash_sees_a_size, other[1].bytes = 301)

static void test_layout_hash_sees_the_order(void **state)
{
	const struct md_tensor other[] = { three[1], three[0], three[2] };

	(void)state;
	assert_int_not_equal(md_layout_hash(other, 3),
			     md_layout_hash(three, 3));
}

static void test_layout_hash_sees_the_count(void **state)
{
	(void)state;
	assert_int_not_equal(md_layout_hash(three, 2),
			     md_layout_hash(three, 3));
}

/* The number is from another implementation (ten lines of Python): processes
 * of different builds compare it, so it must not change. */
static void test_layout_hash_is_the_published_one(void **state)
{
	(void)state;
	assert_int_equal(md_layout_hash(three, 3), 0xcb092dc53eb904afull);
}

static const struct th_test tests[] = {
	TH_TEST(test_layout_tensors_are_aligned_in_order),
	TH_TEST(test_layout_of_no_tensors_is_empty),
	TH_TEST(test_layout_beyond_64_bits_is_refused),
	TH_TEST(test_layout_hash_sees_a_name),
	TH_TEST(test_layout_hash_sees_a_dtype),
	TH_TEST(test_layout_hash_sees_a_rank),
	TH_TEST(test_layout_hash_sees_a_shape),
	TH_TEST(test_layout_hash_sees_an_offset),
	TH_TEST(test_layout_hash_sees_a_size),
	TH_TEST(test_layout_hash_sees_the_order),
	TH_TEST(test_layout_hash_sees_the_count),
	TH_TEST(test_layout_hash_is_the_published_one),
};

TH_MAIN("layout", tests)
