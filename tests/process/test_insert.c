/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Which ranges a process allocates from: bounds, overlap, aliases, taking
 * them back, and what the statistics say of it. */
#include "tests/support/pools.h"

#include <stdio.h>

static int open_pool(void **state)
{
	*state = th_reserve();
	return 0;
}

static int close_pool(void **state)
{
	ps_pool_close(*state);
	return 0;
}

static enum ps_status insert(struct ps_pool *pool, uint64_t offset,
			     uint64_t size, unsigned int flags)
{
	return ps_insert_shared(pool, size, offset, PS_ANY_STREAM, flags);
}

/* ---- bounds ---- */

static void test_insert_size_zero_is_invalid(void **state)
{
	th_assert_status(insert(*state, 0, 0, 0), PS_INVALID_ARGUMENT);
}

static void test_insert_part_of_a_segment_is_invalid(void **state)
{
	th_assert_status(insert(*state, 0, TH_SEGMENT / 2, 0),
			 PS_INVALID_ARGUMENT);
	th_assert_status(insert(*state, 512, TH_SEGMENT, 0),
			 PS_INVALID_ARGUMENT);
}

static void test_insert_unknown_flag_is_invalid(void **state)
{
	th_assert_status(insert(*state, 0, TH_SEGMENT, 1u << 9),
			 PS_INVALID_ARGUMENT);
}

static void test_insert_beyond_the_end_is_out_of_range(void **state)
{
	th_assert_status(insert(*state, (TH_SEGMENTS - 1) * TH_SEGMENT,
				2 * TH_SEGMENT, 0),
			 PS_OUT_OF_RANGE);
	th_assert_detail("does not lie in the pool");
}

static void test_insert_that_overflows_is_out_of_range(void **state)
{
	th_assert_status(
		insert(*state, TH_SEGMENT, UINT64_MAX - TH_SEGMENT + 1, 0),
		PS_OUT_OF_RANGE);
}

static void test_insert_empty_region_is_out_of_range(void **state)
{
	struct ps_pool_config *config = th_config(PS_SHARE_VMM);
	struct ps_pool *pool;

	(void)state;
	ps_pool_config_set_parameter_size(config, 0);
	th_assert_ok(ps_alloc_shared(config, &pool));
	th_assert_status(
		ps_insert_region(pool, PS_REGION_PARAMETER, PS_ANY_STREAM, 0),
		PS_OUT_OF_RANGE);
	ps_pool_close(pool);
	ps_pool_config_free(config);
}

static void test_insert_region_serves_its_segments(void **state)
{
	struct ps_pool *pool = *state;
	void *ptr;

	th_assert_ok(ps_insert_region(pool, PS_REGION_COMPUTATION,
				      PS_ANY_STREAM, 0));
	ptr = th_alloc(pool, TH_SEGMENT);
	assert_true(ptr >= ps_pool_pointer(pool, TH_PARAMETERS * TH_SEGMENT));
	assert_int_equal(th_stats(pool).inserted,
			 (TH_SEGMENTS - TH_PARAMETERS) * TH_SEGMENT);
	th_assert_ok(ps_mem_free(pool, ptr));
}

/* ---- overlap ---- */

static void test_insert_twice_is_an_overlap(void **state)
{
	th_insert(*state, 4, 2);
	th_assert_status(insert(*state, 4 * TH_SEGMENT, 2 * TH_SEGMENT, 0),
			 PS_OVERLAP);
}

static void test_insert_over_the_edge_names_the_other(void **state)
{
	th_insert(*state, 4, 2);
	th_assert_status(insert(*state, 5 * TH_SEGMENT, 2 * TH_SEGMENT, 0),
			 PS_OVERLAP);
	th_assert_detail("4194304 bytes at offset 8388608");
}

static void test_insert_refused_changes_nothing(void **state)
{
	th_insert(*state, 4, 2);
	th_assert_status(insert(*state, 5 * TH_SEGMENT, 2 * TH_SEGMENT, 0),
			 PS_OVERLAP);
	assert_int_equal(th_stats(*state).inserted, 2 * TH_SEGMENT);
	th_insert(*state, 6, 1);
}

static void test_insert_neighbours_serve_a_block_across(void **state)
{
	struct ps_pool *pool = *state;
	void *ptr;

	th_insert(pool, 4, 2);
	th_insert(pool, 6, 2);
	ptr = th_alloc(pool, 4 * TH_SEGMENT);
	assert_ptr_equal(ptr, ps_pool_pointer(pool, 4 * TH_SEGMENT));
	th_assert_ok(ps_mem_free(pool, ptr));
}

/* ---- aliases ---- */

static void test_alias_shows_the_same_memory_elsewhere(void **state)
{
	struct ps_pool *pool = *state;
	void *first, *second;

	th_insert(pool, 4, 1);
	th_assert_ok(insert(pool, 4 * TH_SEGMENT, TH_SEGMENT, PS_INSERT_ALIAS));
	first = th_alloc(pool, TH_SEGMENT);
	second = th_alloc(pool, TH_SEGMENT);
	assert_ptr_not_equal(first, second);
	th_put(pool, first, 1234);
	assert_int_equal(th_get(pool, second), 1234);
	th_assert_ok(ps_mem_free(pool, first));
	th_assert_ok(ps_mem_free(pool, second));
}

static void test_alias_is_counted_once(void **state)
{
	struct ps_pool *pool = *state;
	uint64_t free_bytes, total;
	void *ptr[3];

	th_insert(pool, 4, 2);
	th_assert_ok(insert(pool, 4 * TH_SEGMENT, TH_SEGMENT, PS_INSERT_ALIAS));
	for (int i = 0; i < 3; i++)
		ptr[i] = th_alloc(pool, TH_SEGMENT);
	assert_int_equal(th_stats(pool).inserted, 2 * TH_SEGMENT);
	assert_int_equal(th_stats(pool).mapped, 2 * TH_SEGMENT);
	th_assert_ok(ps_mem_get_info(pool, &free_bytes, &total));
	assert_int_equal(total, 2 * TH_SEGMENT);
	assert_int_equal(free_bytes, 0);
	for (int i = 0; i < 3; i++)
		th_assert_ok(ps_mem_free(pool, ptr[i]));
}

static void test_alias_fills_the_window_and_says_so(void **state)
{
	struct ps_pool *pool = *state;
	uint64_t all = TH_SEGMENTS * TH_SEGMENT;

	for (int i = 0; i < 8; i++)
		th_assert_ok(insert(pool, 0, all, PS_INSERT_ALIAS));
	th_assert_status(insert(pool, 0, all, PS_INSERT_ALIAS),
			 PS_OUT_OF_MEMORY);
	th_assert_ok(ps_clear_shared(pool));
	th_assert_ok(insert(pool, 0, all, PS_INSERT_ALIAS));
}

/* ---- one stream ---- */

static void test_insert_for_a_stream_serves_no_other(void **state)
{
	struct ps_pool *pool = *state;
	void *ptr, *other;

	th_assert_ok(
		ps_insert_shared(pool, TH_SEGMENT, 4 * TH_SEGMENT, NULL, 0));
	th_assert_ok(ps_mem_alloc_async(pool, 512, NULL, &ptr));
	assert_ptr_equal(ptr, ps_pool_pointer(pool, 4 * TH_SEGMENT));
	th_assert_status(ps_mem_alloc_async(pool, 512, (void *)2, &other),
			 PS_OUT_OF_MEMORY);
	th_assert_ok(ps_mem_free(pool, ptr));
}

/* ---- taking back ---- */

static void test_clear_with_live_blocks_names_them(void **state)
{
	struct ps_pool *pool = *state;
	char address[32];
	void *ptr;

	th_insert(pool, 4, 2);
	ptr = th_alloc(pool, 1024);
	th_assert_status(ps_clear_shared(pool), PS_BUSY);
	snprintf(address, sizeof(address), "%p (1024 bytes)", ptr);
	th_assert_detail(address);
	th_assert_detail("1 blocks of 1024 bytes");
	th_assert_ok(ps_mem_free(pool, ptr));
}

static void test_clear_refused_leaves_the_ranges(void **state)
{
	struct ps_pool *pool = *state;
	void *ptr;

	th_insert(pool, 4, 2);
	ptr = th_alloc(pool, 1024);
	th_assert_status(ps_clear_shared(pool), PS_BUSY);
	assert_int_equal(th_stats(pool).inserted, 2 * TH_SEGMENT);
	th_put(pool, ptr, 1);
	th_assert_ok(ps_mem_free(pool, ptr));
}

static void test_clear_unmaps_and_allows_another_insert(void **state)
{
	struct ps_pool *pool = *state;
	void *ptr;

	th_insert(pool, 4, 2);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 2 * TH_SEGMENT)));
	th_assert_ok(ps_clear_shared(pool));
	assert_int_equal(th_stats(pool).inserted, 0);
	assert_int_equal(th_stats(pool).mapped, 0);
	assert_int_equal(th_stats(pool).reserved, 0);
	th_insert(pool, 5, 2);
	ptr = th_alloc(pool, 2 * TH_SEGMENT);
	th_assert_ok(ps_mem_free(pool, ptr));
}

static void test_clear_keeps_the_contents(void **state)
{
	struct ps_pool *pool = *state;
	void *ptr;

	th_insert(pool, 4, 1);
	ptr = th_alloc(pool, TH_SEGMENT);
	th_put(pool, ptr, 77);
	th_assert_ok(ps_mem_free(pool, ptr));
	th_assert_ok(ps_clear_shared(pool));
	th_assert_ok(ps_pool_map(pool, 4 * TH_SEGMENT, TH_SEGMENT));
	assert_int_equal(th_get(pool, ptr), 77);
}

/* ---- mapping and trimming ---- */

static void test_map_all_maps_each_segment_once(void **state)
{
	struct ps_pool *pool = *state;

	th_assert_ok(ps_pool_map(pool, 0, 0));
	th_assert_ok(ps_pool_map(pool, 0, 0));
	assert_int_equal(th_stats(pool).mapped, TH_SEGMENTS * TH_SEGMENT);
}

static void test_map_first_then_insert_allocates(void **state)
{
	struct ps_pool *pool = *state;
	void *ptr;

	th_assert_ok(ps_pool_map(pool, 5 * TH_SEGMENT, TH_SEGMENT));
	th_insert(pool, 4, 3);
	ptr = th_alloc(pool, 3 * TH_SEGMENT);
	th_put(pool, (char *)ptr + 3 * TH_SEGMENT - 4, 5);
	assert_int_equal(th_stats(pool).mapped, 3 * TH_SEGMENT);
	th_assert_ok(ps_mem_free(pool, ptr));
}

static void test_map_bad_ranges_are_refused(void **state)
{
	th_assert_status(ps_pool_map(*state, 1, TH_SEGMENT),
			 PS_INVALID_ARGUMENT);
	th_assert_status(ps_pool_map(*state, 0, 512), PS_INVALID_ARGUMENT);
	th_assert_status(ps_pool_map(*state, 0, UINT64_MAX - TH_SEGMENT + 1),
			 PS_OUT_OF_RANGE);
	th_assert_status(ps_pool_map(*state, TH_SEGMENTS * TH_SEGMENT, 0),
			 PS_OUT_OF_RANGE);
}

static void test_trim_gives_unused_segments_back(void **state)
{
	struct ps_pool *pool = *state;
	uint64_t released;
	void *ptr;

	th_insert(pool, 4, 4);
	ptr = th_alloc(pool, 4 * TH_SEGMENT);
	th_assert_ok(ps_mem_free_async(pool, ptr, NULL));
	th_assert_ok(ps_mem_trim(pool, TH_SEGMENT, &released));
	assert_int_equal(released, 3 * TH_SEGMENT);
	assert_int_equal(th_stats(pool).mapped, TH_SEGMENT);
	assert_int_equal(th_stats(pool).inserted, 4 * TH_SEGMENT);
	ptr = th_alloc(pool, 4 * TH_SEGMENT);
	th_assert_ok(ps_mem_free(pool, ptr));
}

static const struct th_test tests[] = {
#define POOL_TEST(fn) TH_TEST_SETUP(fn, open_pool, close_pool)
	POOL_TEST(test_insert_size_zero_is_invalid),
	POOL_TEST(test_insert_part_of_a_segment_is_invalid),
	POOL_TEST(test_insert_unknown_flag_is_invalid),
	POOL_TEST(test_insert_beyond_the_end_is_out_of_range),
	POOL_TEST(test_insert_that_overflows_is_out_of_range),
	TH_TEST(test_insert_empty_region_is_out_of_range),
	POOL_TEST(test_insert_region_serves_its_segments),
	POOL_TEST(test_insert_twice_is_an_overlap),
	POOL_TEST(test_insert_over_the_edge_names_the_other),
	POOL_TEST(test_insert_refused_changes_nothing),
	POOL_TEST(test_insert_neighbours_serve_a_block_across),
	POOL_TEST(test_alias_shows_the_same_memory_elsewhere),
	POOL_TEST(test_alias_is_counted_once),
	POOL_TEST(test_alias_fills_the_window_and_says_so),
	POOL_TEST(test_insert_for_a_stream_serves_no_other),
	POOL_TEST(test_clear_with_live_blocks_names_them),
	POOL_TEST(test_clear_refused_leaves_the_ranges),
	POOL_TEST(test_clear_unmaps_and_allows_another_insert),
	POOL_TEST(test_clear_keeps_the_contents),
	POOL_TEST(test_map_all_maps_each_segment_once),
	POOL_TEST(test_map_first_then_insert_allocates),
	POOL_TEST(test_map_bad_ranges_are_refused),
	POOL_TEST(test_trim_gives_unused_segments_back),
#undef POOL_TEST
};

TH_GPU_MAIN("insert", tests, th_warm_up_cuda)
