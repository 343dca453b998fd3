/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The safetensors reader: what a right file gives, and each way to be wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "model/layout.h"
#include "model/safetensors.h"
#include "tests/support/harness.h"

#define F32_4(name, begin, end)                                                \
	"\"" name                                                              \
	"\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[" #begin        \
	"," #end "]}"

/* One tensor "t" of the given dtype, shape and offsets, all JSON text. */
#define ONE(dtype, shape, offsets)                                             \
	"{\"t\":{\"dtype\":" dtype ",\"shape\":" shape                         \
	",\"data_offsets\":" offsets "}}"

static enum ps_status parse_bytes(const char *text, size_t length,
				  uint64_t data_bytes, struct md_file *file)
{
	/* In memory of exactly its size, so that a sanitizer sees a read
	 * beyond it. */
	char *exact = malloc(length + (length == 0));
	enum ps_status status;

	assert_non_null(exact);
	memcpy(exact, text, length);
	status = md_file_parse(exact, length, 8 + length + data_bytes, file);
	free(exact);
	return status;
}

static enum ps_status parse(const char *text, uint64_t data_bytes,
			    struct md_file *file)
{
	return parse_bytes(text, strlen(text), data_bytes, file);
}

/* Refused with @status, and the detail says why in these words. */
static void refuse(const char *text, uint64_t data_bytes,
		   enum ps_status expected, const char *words)
{
	struct md_file file = { .count = 12345 };

	th_assert_status(parse(text, data_bytes, &file), expected);
	if (strstr(bs_fail_text(), words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", bs_fail_text(), words);
	assert_int_equal(file.count, 12345);
}

static void refuse_invalid(const char *text, uint64_t data_bytes,
			   const char *words)
{
	refuse(text, data_bytes, PS_INVALID_ARGUMENT, words);
}

/* ---- right files ---- */

static void test_safetensors_two_tensors_gives_file_order(void **state)
{
	struct md_file file;

	(void)state;
	th_assert_ok(parse("{" F32_4("b", 16, 32) "," F32_4("a", 0, 16) "}", 32,
			   &file));
	assert_int_equal(file.count, 2);
	assert_string_equal(file.tensors[0].name, "a");
	assert_string_equal(file.tensors[1].name, "b");
	assert_int_equal(file.tensors[1].offset - file.tensors[0].offset, 16);
	assert_ptr_equal(md_file_find(&file, "b"), &file.tensors[1]);
	assert_null(md_file_find(&file, "c"));
	md_file_done(&file);
}

static void test_safetensors_tensor_fields_are_read(void **state)
{
	const char *text = ONE("\"BF16\"", "[2,3,5]", "[0,60]");
	struct md_file file;

	(void)state;
	th_assert_ok(parse(text, 60, &file));
	assert_int_equal(file.tensors[0].dtype, MD_BF16);
	assert_int_equal(file.tensors[0].rank, 3);
	assert_int_equal(file.tensors[0].shape[2], 5);
	assert_int_equal(file.tensors[0].shape[3], 0);
	assert_int_equal(file.tensors[0].offset, 8 + strlen(text));
	assert_int_equal(file.tensors[0].bytes, 60);
	md_file_done(&file);
}

static void test_safetensors_every_dtype_is_known(void **state)
{
	char text[128];
	struct md_file file;

	(void)state;
	for (unsigned int i = 0; i < MD_DTYPE_COUNT; i++) {
		unsigned int bits = md_dtype_bits((enum md_dtype)i);

		snprintf(text, sizeof(text), ONE("\"%s\"", "[8]", "[0,%u]"),
			 md_dtype_name((enum md_dtype)i), bits);
		th_assert_ok(parse(text, bits, &file));
		assert_int_equal(file.tensors[0].dtype, i);
		assert_int_equal(file.tensors[0].bytes, bits);
		md_file_done(&file);
	}
	assert_null(md_dtype_name(MD_DTYPE_COUNT));
}

static void test_safetensors_no_tensors_gives_none(void **state)
{
	struct md_file file;

	(void)state;
	th_assert_ok(parse("{}", 0, &file));
	assert_int_equal(file.count, 0);
	assert_null(md_file_metadata(&file, "k"));
	md_file_done(&file);
}

static void test_safetensors_empty_shape_is_one_element(void **state)
{
	struct md_file file;

	(void)state;
	th_assert_ok(parse(ONE("\"F64\"", "[]", "[0,8]"), 8, &file));
	assert_int_equal(file.tensors[0].rank, 0);
	assert_int_equal(file.tensors[0].bytes, 8);
	md_file_done(&file);
}

static void test_safetensors_zero_dimension_takes_no_bytes(void **state)
{
	struct md_file file;

	(void)state;
	th_assert_ok(
		parse("{" F32_4("a", 0, 16) ",\"z\":{\"dtype\":\"F32\","
					    "\"shape\":[3,0],\"data_offsets\":"
					    "[16,16]}," F32_4("b", 16, 32) "}",
		      32, &file));
	assert_string_equal(file.tensors[1].name, "z");
	assert_int_equal(file.tensors[1].bytes, 0);
	md_file_done(&file);
}

static void test_safetensors_metadata_is_read(void **state)
{
	struct md_file file;

	(void)state;
	th_assert_ok(parse("{\"__metadata__\":{\"k\":\"v\"}}", 0, &file));
	assert_int_equal(file.count, 0);
	assert_string_equal(md_file_metadata(&file, "k"), "v");
	assert_null(md_file_metadata(&file, "other"));
	md_file_done(&file);
}

static void test_safetensors_padded_header_is_read(void **state)
{
	struct md_file file;

	(void)state;
	th_assert_ok(parse("{" F32_4("a", 0, 16) "}     ", 16, &file));
	assert_int_equal(file.count, 1);
	md_file_done(&file);
}

/* ---- wrong text ---- */

static void test_safetensors_empty_header_is_refused(void **state)
{
	(void)state;
	refuse_invalid("", 0, "does not begin with {");
}

static void test_safetensors_array_is_refused(void **state)
{
	(void)state;
	refuse_invalid("[]", 0, "does not begin with {");
}

static void test_safetensors_cut_json_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{" F32_4("a", 0, 16), 16, "not valid JSON");
}

static void test_safetensors_text_behind_json_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{}x", 0, "not valid JSON");
}

static void test_safetensors_string_without_end_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{\"a\\", 0, "not valid JSON");
}

static void test_safetensors_no_utf8_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{\"\xff\xfe\":1}", 0, "decode byte 0xff");
}

static void test_safetensors_nul_in_name_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{\"a\\u0000b\":1}", 0, "not valid JSON");
}

static void test_safetensors_same_name_twice_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{" F32_4("a", 0, 16) "," F32_4("a", 16, 32) "}", 32,
		       "duplicate");
}

static void test_safetensors_deep_nesting_is_refused(void **state)
{
	enum { DEPTH = 1000000 };
	char *text = malloc(DEPTH + 1);

	(void)state;
	assert_non_null(text);
	memset(text, '[', DEPTH);
	memcpy(text, "{\"a\":", 5);
	text[DEPTH] = '\0';
	refuse_invalid(text, 0, "nests deeper");
	free(text);
}

static void test_safetensors_brackets_in_names_do_not_nest(void **state)
{
	struct md_file file;

	(void)state;
	th_assert_ok(parse("{" F32_4("[[[[{{\\\"[[", 0, 16) "}", 16, &file));
	assert_string_equal(file.tensors[0].name, "[[[[{{\"[[");
	md_file_done(&file);
}

/* ---- wrong tensors ---- */

static void test_safetensors_tensor_no_object_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{\"t\":7}", 0, "tensor t");
}

static void test_safetensors_missing_field_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{\"t\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1,
		       "exactly dtype, shape and data_offsets");
}

static void test_safetensors_unknown_field_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"x\":1,"
		       "\"data_offsets\":[0,1]}}",
		       1, "exactly dtype, shape and data_offsets");
}

static void test_safetensors_other_field_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{\"t\":{\"type\":\"U8\",\"shape\":[1],"
		       "\"data_offsets\":[0,1]}}",
		       1, "dtype is no string");
}

static void test_safetensors_unknown_dtype_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"F33\"", "[1]", "[0,4]"), 4, "no dtype F33");
}

static void test_safetensors_dtype_number_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("32", "[1]", "[0,4]"), 4, "dtype is no string");
}

static void test_safetensors_control_character_is_not_printed(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"\\u001b[2J\"", "[1]", "[0,4]"), 4, "dtype ?[2J");
}

static void test_safetensors_shape_no_array_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "\"4\"", "[0,4]"), 4, "shape is no array");
}

static void test_safetensors_negative_dimension_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "[2,-1]", "[0,1]"), 1, "dimension 1");
}

static void test_safetensors_float_dimension_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "[1.0]", "[0,1]"), 1, "dimension 0");
}

static void test_safetensors_nine_dimensions_are_unsupported(void **state)
{
	(void)state;
	refuse(ONE("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, PS_UNSUPPORTED,
	       "9 dimensions");
}

static void test_safetensors_shape_overflow_is_refused(void **state)
{
	(void)state;
	/* 2^61 x 8 bits is 2^64: no bytes at all, if it were not checked. */
	refuse_invalid(ONE("\"U8\"", "[2305843009213693952]", "[0,0]"), 0,
		       "overflows");
}

static void test_safetensors_shape_overflow_by_product_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"F32\"", "[4294967296,4294967296,4]", "[0,0]"), 0,
		       "overflows at dimension 1");
}

static void test_safetensors_number_beyond_64_bits_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "[99999999999999999999]", "[0,1]"), 1,
		       "not valid JSON");
}

static void test_safetensors_half_byte_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"F4\"", "[3]", "[0,2]"), 2, "12 bits");
}

static void test_safetensors_long_name_is_unsupported(void **state)
{
	char text[MD_MAX_NAME + 128];
	char name[MD_MAX_NAME + 2];

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(text, sizeof(text),
		 "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],"
		 "\"data_offsets\":[0,1]}}",
		 name);
	refuse(text, 1, PS_UNSUPPORTED, "1025 bytes");
}

/* ---- wrong places ---- */

static void test_safetensors_offsets_no_array_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "[1]", "1"), 1, "data_offsets");
}

static void test_safetensors_one_offset_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "[1]", "[1]"), 1, "two whole numbers");
}

static void test_safetensors_three_offsets_are_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "[1]", "[0,1,2]"), 1, "two whole numbers");
}

static void test_safetensors_negative_offset_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "[1]", "[-1,0]"), 1, "two whole numbers");
}

static void test_safetensors_float_offset_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "[1]", "[0,1.0]"), 1, "two whole numbers");
}

static void test_safetensors_offsets_backwards_are_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "[1]", "[1,0]"), 1, "1 to 0");
}

static void test_safetensors_offset_beyond_file_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"U8\"", "[4]", "[0,4]"), 3,
		       "0 to 4 are not a range in the 3 bytes");
}

static void test_safetensors_size_unlike_shape_is_refused(void **state)
{
	(void)state;
	refuse_invalid(ONE("\"F32\"", "[4]", "[0,15]"), 15,
		       "15 bytes, its shape and dtype 16");
}

static void test_safetensors_overlap_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{" F32_4("a", 0, 16) "," F32_4("b", 12, 28) "}", 28,
		       "tensor b overlaps tensor a by 4 bytes");
}

static void test_safetensors_same_place_twice_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{" F32_4("a", 0, 16) "," F32_4("b", 0, 16) "}", 16,
		       "tensor b overlaps tensor a by 16 bytes");
}

static void test_safetensors_hole_in_the_middle_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{" F32_4("a", 0, 16) "," F32_4("b", 20, 36) "}", 36,
		       "4 bytes before tensor b");
}

static void test_safetensors_hole_at_the_start_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{" F32_4("a", 8, 24) "}", 24,
		       "8 bytes before tensor a");
}

static void test_safetensors_bytes_at_the_end_are_refused(void **state)
{
	(void)state;
	refuse_invalid("{" F32_4("a", 0, 16) "}", 17, "last 1 bytes");
}

static void test_safetensors_empty_tensor_in_another_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{" F32_4("a", 0, 16) ",\"z\":{\"dtype\":\"F32\","
					     "\"shape\":[0],"
					     "\"data_offsets\":[8,8]}}",
		       16, "tensor z overlaps tensor a");
}

/* ---- wrong metadata ---- */

static void test_safetensors_metadata_no_object_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{\"__metadata__\":[]}", 0, "__metadata__");
}

static void test_safetensors_metadata_number_is_refused(void **state)
{
	(void)state;
	refuse_invalid("{\"__metadata__\":{\"k\":1}}", 0, "entry k");
}

/* ---- limits ---- */

static void test_safetensors_too_many_tensors_are_unsupported(void **state)
{
	const size_t one = strlen("\"000000\":0,");
	char *text = malloc((MD_MAX_TENSORS + 2) * one);
	size_t at = 0;

	(void)state;
	assert_non_null(text);
	text[at++] = '{';
	for (unsigned int i = 0; i <= MD_MAX_TENSORS; i++)
		at += (size_t)sprintf(text + at, "\"%06u\":0,", i);
	text[at - 1] = '}';
	text[at] = '\0';
	refuse(text, 0, PS_UNSUPPORTED, "100001 tensors");
	free(text);
}

static void test_safetensors_too_many_values_are_unsupported(void **state)
{
	enum { COMMAS = 20000000 };
	char *text = malloc(COMMAS + 16);

	(void)state;
	assert_non_null(text);
	memset(text, ',', COMMAS + 15);
	memcpy(text, "{\"t\":[0", 7);
	text[COMMAS + 15] = '\0';
	refuse(text, 0, PS_UNSUPPORTED, "commas");
	free(text);
}

static void test_safetensors_header_beyond_file_is_refused(void **state)
{
	struct md_file file;

	(void)state;
	th_assert_status(md_file_parse("{}", 2, 9, &file), PS_INVALID_ARGUMENT);
}

static void test_safetensors_done_of_null_does_nothing(void **state)
{
	(void)state;
	md_file_done(NULL);
	md_layout_done(NULL);
}

static const struct th_test tests[] = {
	TH_TEST(test_safetensors_two_tensors_gives_file_order),
	TH_TEST(test_safetensors_tensor_fields_are_read),
	TH_TEST(test_safetensors_every_dtype_is_known),
	TH_TEST(test_safetensors_no_tensors_gives_none),
	TH_TEST(test_safetensors_empty_shape_is_one_element),
	TH_TEST(test_safetensors_zero_dimension_takes_no_bytes),
	TH_TEST(test_safetensors_metadata_is_read),
	TH_TEST(test_safetensors_padded_header_is_read),
	TH_TEST(test_safetensors_empty_header_is_refused),
	TH_TEST(test_safetensors_array_is_refused),
	TH_TEST(test_safetensors_cut_json_is_refused),
	TH_TEST(test_safetensors_text_behind_json_is_refused),
	TH_TEST(test_safetensors_string_without_end_is_refused),
	TH_TEST(test_safetensors_no_utf8_is_refused),
	TH_TEST(test_safetensors_nul_in_name_is_refused),
	TH_TEST(test_safetensors_same_name_twice_is_refused),
	TH_TEST(test_safetensors_deep_nesting_is_refused),
	TH_TEST(test_safetensors_brackets_in_names_do_not_nest),
	TH_TEST(test_safetensors_tensor_no_object_is_refused),
	TH_TEST(test_safetensors_missing_field_is_refused),
	TH_TEST(test_safetensors_unknown_field_is_refused),
	TH_TEST(test_safetensors_other_field_is_refused),
	TH_TEST(test_safetensors_unknown_dtype_is_refused),
	TH_TEST(test_safetensors_dtype_number_is_refused),
	TH_TEST(test_safetensors_control_character_is_not_printed),
	TH_TEST(test_safetensors_shape_no_array_is_refused),
	TH_TEST(test_safetensors_negative_dimension_is_refused),
	TH_TEST(test_safetensors_float_dimension_is_refused),
	TH_TEST(test_safetensors_nine_dimensions_are_unsupported),
	TH_TEST(test_safetensors_shape_overflow_is_refused),
	TH_TEST(test_safetensors_shape_overflow_by_product_is_refused),
	TH_TEST(test_safetensors_number_beyond_64_bits_is_refused),
	TH_TEST(test_safetensors_half_byte_is_refused),
	TH_TEST(test_safetensors_long_name_is_unsupported),
	TH_TEST(test_safetensors_offsets_no_array_is_refused),
	TH_TEST(test_safetensors_one_offset_is_refused),
	TH_TEST(test_safetensors_three_offsets_are_refused),
	TH_TEST(test_safetensors_negative_offset_is_refused),
	TH_TEST(test_safetensors_float_offset_is_refused),
	TH_TEST(test_safetensors_offsets_backwards_are_refused),
	TH_TEST(test_safetensors_offset_beyond_file_is_refused),
	TH_TEST(test_safetensors_size_unlike_shape_is_refused),
	TH_TEST(test_safetensors_overlap_is_refused),
	TH_TEST(test_safetensors_same_place_twice_is_refused),
	TH_TEST(test_safetensors_hole_in_the_middle_is_refused),
	TH_TEST(test_safetensors_hole_at_the_start_is_refused),
	TH_TEST(test_safetensors_bytes_at_the_end_are_refused),
	TH_TEST(test_safetensors_empty_tensor_in_another_is_refused),
	TH_TEST(test_safetensors_metadata_no_object_is_refused),
	TH_TEST(test_safetensors_metadata_number_is_refused),
	TH_TEST(test_safetensors_too_many_tensors_are_unsupported),
	TH_TEST(test_safetensors_too_many_values_are_unsupported),
	TH_TEST(test_safetensors_header_beyond_file_is_refused),
	TH_TEST(test_safetensors_done_of_null_does_nothing),
};

TH_MAIN("safetensors", tests)
