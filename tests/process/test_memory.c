/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The memory calls by pointers: what is refused, and what is counted. */
#include "tests/support/pools.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static int open_pool(void **state)
{
	struct ps_pool *pool = th_reserve();

	th_insert(pool, TH_PARAMETERS, TH_SEGMENTS - TH_PARAMETERS);
	*state = pool;
	return 0;
}

static int close_pool(void **state)
{
	th_assert_ok(ps_mem_check(*state));
	ps_pool_close(*state);
	return 0;
}

/* ---- sizes ---- */

static void test_alloc_of_nothing_is_invalid(void **state)
{
	void *ptr = &ptr;

	th_assert_status(ps_mem_alloc(*state, 0, &ptr), PS_INVALID_ARGUMENT);
	assert_ptr_equal(ptr, &ptr);
}

static void test_alloc_beyond_the_pool_says_what_there_is(void **state)
{
	void *ptr;

	th_assert_status(ps_mem_alloc(*state, UINT64_C(1) << 40, &ptr),
			 PS_OUT_OF_MEMORY);
	th_assert_detail("1099511627776");
}

static void test_alloc_that_overflows_is_refused(void **state)
{
	void *ptr;

	assert_int_not_equal(ps_mem_alloc(*state, SIZE_MAX, &ptr), PS_OK);
	assert_int_not_equal(ps_mem_alloc_async(*state, SIZE_MAX, NULL, &ptr),
			     PS_OK);
	assert_int_equal(th_stats(*state).live_blocks, 0);
}

static void test_alloc_is_aligned_and_usable(void **state)
{
	size_t usable;
	void *ptr = th_alloc(*state, 1000);

	assert_int_equal((uintptr_t)ptr % 512, 0);
	th_assert_ok(ps_mem_usable_size(*state, ptr, &usable));
	assert_in_range(usable, 1000, 1125);
	th_put(*state, (char *)ptr + 996, 3);
	assert_int_equal(th_get(*state, (char *)ptr + 996), 3);
	th_assert_ok(ps_mem_free(*state, ptr));
}

static void test_pitch_is_a_multiple_of_512(void **state)
{
	size_t pitch;
	void *ptr;

	th_assert_ok(ps_mem_alloc_pitch(*state, 1000, 3, &pitch, &ptr));
	assert_int_equal(pitch, 1024);
	th_put(*state, (char *)ptr + 3 * pitch - 4, 1);
	th_assert_ok(ps_mem_free(*state, ptr));
}

static void test_pitch_that_overflows_is_invalid(void **state)
{
	size_t pitch;
	void *ptr;

	th_assert_status(
		ps_mem_alloc_pitch(*state, SIZE_MAX / 2, 3, &pitch, &ptr),
		PS_INVALID_ARGUMENT);
	th_assert_status(ps_mem_alloc_pitch(*state, SIZE_MAX, 1, &pitch, &ptr),
			 PS_INVALID_ARGUMENT);
	th_assert_status(ps_mem_alloc_pitch(*state, 0, 1, &pitch, &ptr),
			 PS_INVALID_ARGUMENT);
	th_assert_status(ps_mem_alloc_pitch(*state, 1, 0, &pitch, &ptr),
			 PS_INVALID_ARGUMENT);
}

/* ---- pointers ---- */

static void test_free_of_null_is_fine(void **state)
{
	th_assert_ok(ps_mem_free(*state, NULL));
	th_assert_ok(ps_mem_free_async(*state, NULL, NULL));
}

static void test_free_of_a_foreign_pointer_names_it(void **state)
{
	char address[32];
	int foreign;

	snprintf(address, sizeof(address), "%p", (void *)&foreign);
	th_assert_status(ps_mem_free(*state, &foreign), PS_NOT_OURS);
	th_assert_detail(address);
}

static void test_free_of_what_was_never_given_out_is_not_ours(void **state)
{
	char *inside = ps_pool_pointer(*state, 9 * TH_SEGMENT);

	th_assert_status(ps_mem_free(*state, inside), PS_NOT_OURS);
	th_assert_status(ps_mem_free_async(*state, inside, NULL), PS_NOT_OURS);
}

static void test_free_of_an_interior_pointer_changes_nothing(void **state)
{
	char *small = th_alloc(*state, 4096);
	char *large = th_alloc(*state, 2 * TH_SEGMENT);

	th_assert_status(ps_mem_free(*state, small + 512), PS_INTERIOR);
	th_assert_status(ps_mem_free(*state, large + TH_SEGMENT), PS_INTERIOR);
	assert_int_equal(th_stats(*state).live_blocks, 2);
	th_assert_ok(ps_mem_free(*state, small));
	th_assert_ok(ps_mem_free(*state, large));
}

static void test_free_twice_is_refused(void **state)
{
	void *small = th_alloc(*state, 4096);
	void *large = th_alloc(*state, 2 * TH_SEGMENT);

	th_assert_ok(ps_mem_free(*state, small));
	th_assert_ok(ps_mem_free(*state, large));
	th_assert_status(ps_mem_free(*state, small), PS_DOUBLE_FREE);
	th_assert_status(ps_mem_free(*state, large), PS_DOUBLE_FREE);
	assert_int_equal(th_stats(*state).frees, 2);
}

static void test_questions_about_bad_pointers_are_refused(void **state)
{
	char *ptr = th_alloc(*state, 4096);
	size_t size;

	th_assert_status(ps_mem_usable_size(*state, ptr + 512, &size),
			 PS_INTERIOR);
	th_assert_status(ps_mem_usable_size(*state, &size, &size), PS_NOT_OURS);
	th_assert_status(ps_mem_record_stream(*state, ptr + 512, NULL),
			 PS_INTERIOR);
	th_assert_status(ps_mem_record_stream(*state, &size, NULL),
			 PS_NOT_OURS);
	th_assert_ok(ps_mem_free(*state, ptr));
}

static void test_drop_of_a_default_stream_is_invalid(void **state)
{
	th_assert_status(ps_mem_drop_stream(*state, NULL), PS_INVALID_ARGUMENT);
	th_assert_status(ps_mem_drop_stream(*state, (void *)2),
			 PS_INVALID_ARGUMENT);
}

static void test_any_stream_is_no_stream_to_allocate_on(void **state)
{
	void *ptr;

	th_assert_status(ps_mem_alloc_async(*state, 512, PS_ANY_STREAM, &ptr),
			 PS_INVALID_ARGUMENT);
}

/* ---- the default pool ---- */

static void test_null_is_the_default_pool(void **state)
{
	void *ptr;

	(void)state;
	th_assert_ok(ps_mem_alloc(NULL, 4096, &ptr));
	th_assert_ok(ps_mem_free(NULL, ptr));
	assert_int_equal(ps_pool_size(NULL), TH_SEGMENTS * TH_SEGMENT);
}

static void test_null_without_a_pool_is_invalid(void **state)
{
	void *ptr;

	(void)state;
	th_assert_status(ps_mem_alloc(NULL, 4096, &ptr), PS_INVALID_ARGUMENT);
	th_assert_status(ps_mem_free(NULL, &ptr), PS_INVALID_ARGUMENT);
	assert_int_equal(ps_pool_size(NULL), 0);
	assert_null(ps_pool_pointer(NULL, 0));
	assert_string_equal(ps_pool_gpu(NULL), "");
}

/* ---- copies ---- */

static void test_copy_outside_the_pool_is_out_of_range(void **state)
{
	char *end = ps_pool_pointer(*state, 0);
	int word = 0;

	th_assert_status(ps_mem_write(*state, &word, &word, sizeof(word)),
			 PS_OUT_OF_RANGE);
	th_assert_status(ps_mem_read(*state, &word, end, SIZE_MAX),
			 PS_OUT_OF_RANGE);
}

static void test_copy_of_what_is_not_mapped_is_out_of_range(void **state)
{
	char *at = ps_pool_pointer(*state, 0);
	int word = 0;

	th_assert_ok(ps_pool_map(*state, 0, TH_SEGMENT));
	th_put(*state, at + TH_SEGMENT - sizeof(word), 1);
	th_assert_status(
		ps_mem_write(*state, at + TH_SEGMENT - 2, &word, sizeof(word)),
		PS_OUT_OF_RANGE);
}

/* ---- statistics ---- */

static void test_stats_are_true_to_the_byte(void **state)
{
	struct ps_mem_stats stats;
	uint64_t free_bytes, total;
	size_t usable;
	void *ptr = th_alloc(*state, 5000);
	void *large = th_alloc(*state, 3 * TH_SEGMENT);

	th_assert_ok(ps_mem_usable_size(*state, ptr, &usable));
	stats = th_stats(*state);
	assert_int_equal(stats.live_blocks, 2);
	assert_int_equal(stats.live, usable + 3 * TH_SEGMENT);
	assert_int_equal(stats.cached, stats.reserved - stats.live);
	assert_int_equal(stats.mapped, stats.reserved);
	assert_int_equal(stats.pool, TH_SEGMENTS * TH_SEGMENT);
	th_assert_ok(ps_mem_get_info(*state, &free_bytes, &total));
	assert_int_equal(total, stats.inserted);
	assert_int_equal(free_bytes, stats.inserted - stats.live);
	th_assert_ok(ps_mem_free(*state, ptr));
	th_assert_ok(ps_mem_free(*state, large));
}

static void test_stats_of_a_short_struct_are_refused(void **state)
{
	struct ps_mem_stats stats = { .struct_size = 8 };

	th_assert_status(ps_mem_get_stats(*state, &stats), PS_INVALID_ARGUMENT);
}

static void test_stats_of_a_longer_struct_leave_the_rest(void **state)
{
	struct {
		struct ps_mem_stats known;
		uint64_t newer;
	} stats = { .known = { .struct_size = sizeof(stats) }, .newer = 42 };

	th_assert_ok(ps_mem_get_stats(*state, &stats.known));
	assert_int_equal(stats.known.struct_size, sizeof(stats));
	assert_int_equal(stats.newer, 42);
}

/* ---- many threads ---- */

#define THREADS 8
#define ROUNDS 2000

static void *churn(void *arg)
{
	struct ps_pool *pool = arg;
	void *ptr[8] = { NULL };

	for (unsigned int i = 0; i < ROUNDS; i++) {
		unsigned int n = i % 8;

		th_assert_ok(ps_mem_free_async(pool, ptr[n], (void *)2));
		th_assert_ok(ps_mem_alloc_async(pool, 512u << (i % 9),
						(void *)2, &ptr[n]));
	}
	for (unsigned int n = 0; n < 8; n++)
		th_assert_ok(ps_mem_free_async(pool, ptr[n], (void *)2));
	return NULL;
}

static void test_threads_on_their_own_streams_share_the_pool(void **state)
{
	pthread_t thread[THREADS];

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&thread[i], NULL, churn, *state), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(th_stats(*state).live_blocks, 0);
	assert_int_equal(th_stats(*state).allocs, THREADS * ROUNDS);
	th_assert_ok(ps_clear_shared(*state));
}

static const struct th_test tests[] = {
#define POOL_TEST(fn) TH_TEST_SETUP(fn, open_pool, close_pool)
	POOL_TEST(test_alloc_of_nothing_is_invalid),
	POOL_TEST(test_alloc_beyond_the_pool_says_what_there_is),
	POOL_TEST(test_alloc_that_overflows_is_refused),
	POOL_TEST(test_alloc_is_aligned_and_usable),
	POOL_TEST(test_pitch_is_a_multiple_of_512),
	POOL_TEST(test_pitch_that_overflows_is_invalid),
	POOL_TEST(test_free_of_null_is_fine),
	POOL_TEST(test_free_of_a_foreign_pointer_names_it),
	POOL_TEST(test_free_of_what_was_never_given_out_is_not_ours),
	POOL_TEST(test_free_of_an_interior_pointer_changes_nothing),
	POOL_TEST(test_free_twice_is_refused),
	POOL_TEST(test_questions_about_bad_pointers_are_refused),
	POOL_TEST(test_drop_of_a_default_stream_is_invalid),
	POOL_TEST(test_any_stream_is_no_stream_to_allocate_on),
	POOL_TEST(test_null_is_the_default_pool),
	TH_TEST(test_null_without_a_pool_is_invalid),
	POOL_TEST(test_copy_outside_the_pool_is_out_of_range),
	POOL_TEST(test_copy_of_what_is_not_mapped_is_out_of_range),
	POOL_TEST(test_stats_are_true_to_the_byte),
	POOL_TEST(test_stats_of_a_short_struct_are_refused),
	POOL_TEST(test_stats_of_a_longer_struct_leave_the_rest),
	POOL_TEST(test_threads_on_their_own_streams_share_the_pool),
#undef POOL_TEST
};

TH_GPU_MAIN("memory", tests, th_warm_up_cuda)
