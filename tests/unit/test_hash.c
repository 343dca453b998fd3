/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A model's hash: over all that the layout says, and over its contents. */
#include <stdio.h>
#include <string.h>

#include "model/hash.h"
#include "tests/support/harness.h"

#define BYTES 768u

static const struct md_tensor three[] = {
	{ "a", MD_F32, 1, { 1 }, 0, 4 },
	{ "b", MD_U8, 2, { 3, 100 }, 256, 300 },
	{ "c", MD_U8, 1, { 0 }, 768, 0 },
};

struct hash {
	uint8_t bytes[MD_HASH_BYTES];
};

static struct hash hash_of(const struct md_tensor *tensors, size_t count,
			   uint64_t bytes, const char *contents)
{
	struct hash hash, chunk;

	md_hash_chunk(contents, strlen(contents), chunk.bytes);
	md_hash_model(tensors, count, bytes, chunk.bytes, hash.bytes);
	return hash;
}

static void assert_hash(const struct hash *hash, const char *expected)
{
	char text[2 * MD_HASH_BYTES + 1];

	for (size_t i = 0; i < MD_HASH_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", hash->bytes[i]);
	assert_string_equal(text, expected);
}

/* The numbers are from another implementation (Python's hashlib): they are
 * what users write down, so they must not change. */
static void test_hash_of_a_chunk_is_the_published_one(void **state)
{
	struct hash hash;

	(void)state;
	md_hash_chunk("abc", 3, hash.bytes);
	assert_hash(&hash, "bddd813c634239723171ef3fee98579b"
			   "94964e3bb1cb3e427262c8c068d52319");
}

static void test_hash_of_an_empty_chunk_is_the_published_one(void **state)
{
	struct hash hash;

	(void)state;
	md_hash_chunk("", 0, hash.bytes);
	assert_hash(&hash, "0e5751c026e543b2e8ab2eb06099daa1"
			   "d1e5df47778f7787faab45cdf12fe3a8");
}

static void test_hash_of_a_model_is_the_published_one(void **state)
{
	struct hash hash = hash_of(three, 3, BYTES, "abc");

	(void)state;
	assert_hash(&hash, "35154db31607fc8952b91fe97cb95f48"
			   "0b33af2e66cc3d5694b9d37782082327");
}

/* The hash of @three after one change is another. */
#define CHANGE(test, change)                                                   \
	static void test(void **state)                                         \
	{                                                                      \
		struct hash before = hash_of(three, 3, BYTES, "abc");          \
		const char *contents = "abc";                                  \
		struct md_tensor other[3];                                     \
		uint64_t bytes = BYTES;                                        \
		size_t count = 3;                                              \
		struct hash after;                                             \
                                                                               \
		(void)state;                                                   \
		memcpy(other, three, sizeof(other));                           \
		change;                                                        \
		after = hash_of(other, count, bytes, contents);                \
		assert_memory_not_equal(&before, &after, sizeof(before));      \
	}

CHANGE(test_hash_sees_a_name, other[1].name = "B")
CHANGE(test_hash_sees_where_a_name_ends,
       (other[0].name = "", other[1].name = "ab"))
CHANGE(test_hash_sees_a_dtype, other[1].dtype = MD_I8)
CHANGE(test_hash_sees_a_rank, other[1].rank = 1)
CHANGE(test_hash_sees_a_shape, other[1].shape[1] = 101)
CHANGE(test_hash_sees_an_offset, other[1].offset = 512)
CHANGE(test_hash_sees_a_size, other[1].bytes = 301)
CHANGE(test_hash_sees_the_count, count = 2)
CHANGE(test_hash_sees_the_bytes, bytes = 1024)
CHANGE(test_hash_sees_the_contents, contents = "abd")
CHANGE(test_hash_sees_the_order, (other[0] = three[1], other[1] = three[0]))

static void test_hash_sees_the_order_of_chunks(void **state)
{
	uint8_t chunks[2 * MD_HASH_BYTES] = { 1, [MD_HASH_BYTES] = 2 };
	uint8_t swapped[2 * MD_HASH_BYTES] = { 2, [MD_HASH_BYTES] = 1 };
	struct hash one, other;

	(void)state;
	md_hash_model(three, 3, MD_CHUNK_BYTES + 1, chunks, one.bytes);
	md_hash_model(three, 3, MD_CHUNK_BYTES + 1, swapped, other.bytes);
	assert_memory_not_equal(&one, &other, sizeof(one));
}

static void test_hash_chunks_cover_every_byte(void **state)
{
	(void)state;
	assert_int_equal(md_chunks(0), 0);
	assert_int_equal(md_chunks(1), 1);
	assert_int_equal(md_chunks(MD_CHUNK_BYTES), 1);
	assert_int_equal(md_chunks(MD_CHUNK_BYTES + 1), 2);
	assert_int_equal(md_chunks(UINT64_MAX), UINT64_C(1) << 42);
}

static const struct th_test tests[] = {
	TH_TEST(test_hash_of_a_chunk_is_the_published_one),
	TH_TEST(test_hash_of_an_empty_chunk_is_the_published_one),
	TH_TEST(test_hash_of_a_model_is_the_published_one),
	TH_TEST(test_hash_sees_a_name),
	TH_TEST(test_hash_sees_where_a_name_ends),
	TH_TEST(test_hash_sees_a_dtype),
	TH_TEST(test_hash_sees_a_rank),
	TH_TEST(test_hash_sees_a_shape),
	TH_TEST(test_hash_sees_an_offset),
	TH_TEST(test_hash_sees_a_size),
	TH_TEST(test_hash_sees_the_count),
	TH_TEST(test_hash_sees_the_bytes),
	TH_TEST(test_hash_sees_the_contents),
	TH_TEST(test_hash_sees_the_order),
	TH_TEST(test_hash_sees_the_order_of_chunks),
	TH_TEST(test_hash_chunks_cover_every_byte),
};

TH_MAIN("hash", tests)
