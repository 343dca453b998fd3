/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A program written for the CUDA runtime, with one more include. */
#include "tests/support/pools.h"

#include <poolswitch_cuda_replace.h>

static int open_pool(void **state)
{
	struct ps_pool *pool = th_reserve();

	th_insert(pool, TH_PARAMETERS, 4);
	*state = pool;
	return 0;
}

static int close_pool(void **state)
{
	ps_pool_close(*state);
	return 0;
}

static void test_replaced_malloc_comes_from_the_pool(void **state)
{
	struct ps_mem_stats stats;
	void *ptr;

	assert_int_equal(cudaMalloc(&ptr, 1000), cudaSuccess);
	stats = th_stats(*state);
	assert_int_equal(stats.live_blocks, 1);
	assert_int_equal(cudaFree(ptr), cudaSuccess);
	assert_int_equal(th_stats(*state).live_blocks, 0);
}

static void test_replaced_malloc_async_comes_from_the_pool(void **state)
{
	void *ptr;

	assert_int_equal(cudaMallocAsync(&ptr, 1000, NULL), cudaSuccess);
	assert_int_equal(th_stats(*state).live_blocks, 1);
	assert_int_equal(cudaFreeAsync(ptr, NULL), cudaSuccess);
	assert_int_equal(th_stats(*state).live_blocks, 0);
}

static void test_replaced_malloc_pitch_aligns_rows(void **state)
{
	size_t pitch;
	void *ptr;

	(void)state;
	assert_int_equal(cudaMallocPitch(&ptr, &pitch, 100, 10), cudaSuccess);
	assert_int_equal(pitch, 512);
	assert_int_equal(cudaFree(ptr), cudaSuccess);
}

static void test_replaced_malloc_of_nothing_is_null(void **state)
{
	void *ptr = state;

	assert_int_equal(cudaMalloc(&ptr, 0), cudaSuccess);
	assert_null(ptr);
	assert_int_equal(cudaFree(ptr), cudaSuccess);
}

static void test_replaced_malloc_of_too_much_is_out_of_memory(void **state)
{
	void *ptr;

	(void)state;
	assert_int_equal(cudaMalloc(&ptr, (size_t)1 << 40),
			 cudaErrorMemoryAllocation);
}

static void test_replaced_free_twice_is_an_invalid_value(void **state)
{
	void *ptr;

	(void)state;
	assert_int_equal(cudaMalloc(&ptr, 1000), cudaSuccess);
	assert_int_equal(cudaFree(ptr), cudaSuccess);
	assert_int_equal(cudaFree(ptr), cudaErrorInvalidValue);
}

static void test_replaced_free_passes_foreign_pointers_on(void **state)
{
	int before = th_runtime_frees();

	assert_int_equal(cudaFree(state), cudaSuccess);
	assert_int_equal(cudaFreeAsync(state, NULL), cudaSuccess);
	assert_int_equal(th_runtime_frees(), before + 2);
}

static void test_replaced_get_info_is_the_pools(void **state)
{
	size_t free_bytes, total;

	(void)state;
	assert_int_equal(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
	assert_int_equal(total, 4 * TH_SEGMENT);
	assert_int_equal(free_bytes, total);
}

static const struct th_test tests[] = {
#define POOL_TEST(fn) TH_TEST_SETUP(fn, open_pool, close_pool)
	POOL_TEST(test_replaced_malloc_comes_from_the_pool),
	POOL_TEST(test_replaced_malloc_async_comes_from_the_pool),
	POOL_TEST(test_replaced_malloc_pitch_aligns_rows),
	POOL_TEST(test_replaced_malloc_of_nothing_is_null),
	POOL_TEST(test_replaced_malloc_of_too_much_is_out_of_memory),
	POOL_TEST(test_replaced_free_twice_is_an_invalid_value),
	POOL_TEST(test_replaced_free_passes_foreign_pointers_on),
	POOL_TEST(test_replaced_get_info_is_the_pools),
#undef POOL_TEST
};

TH_GPU_MAIN("cuda_replace", tests, th_warm_up_cuda)
