/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A block that is longer than any free range is made of scattered segments. */
#include "tests/support/pools.h"

/* All but the parameters; each holds one block. */
#define SLOTS (TH_SEGMENTS - TH_PARAMETERS)
#define HOLES (SLOTS / 2)

struct comb {
	struct ps_pool *pool;
	void *block[SLOTS]; /* every second one is NULL */
};

static struct comb comb;

/* Fills the pool, then frees every second segment. */
static int open_comb(void **state)
{
	comb.pool = th_reserve();
	th_insert(comb.pool, TH_PARAMETERS, SLOTS);
	for (uint32_t i = 0; i < SLOTS; i++) {
		comb.block[i] = th_alloc(comb.pool, TH_SEGMENT);
		th_put(comb.pool, comb.block[i], i);
	}
	for (uint32_t i = 0; i < SLOTS; i += 2) {
		th_assert_ok(ps_mem_free(comb.pool, comb.block[i]));
		comb.block[i] = NULL;
	}
	*state = comb.pool;
	return 0;
}

static int close_comb(void **state)
{
	(void)state;
	for (uint32_t i = 1; i < SLOTS; i += 2) {
		assert_int_equal(th_get(comb.pool, comb.block[i]), i);
		th_assert_ok(ps_mem_free(comb.pool, comb.block[i]));
	}
	th_assert_ok(ps_mem_check(comb.pool));
	th_assert_ok(ps_clear_shared(comb.pool));
	assert_int_equal(th_stats(comb.pool).mapped, 0);
	ps_pool_close(comb.pool);
	return 0;
}

static void test_gather_serves_a_block_longer_than_any_hole(void **state)
{
	char *block = th_alloc(*state, HOLES * TH_SEGMENT);

	for (uint32_t i = 0; i < HOLES; i++)
		th_put(*state, block + i * TH_SEGMENT + 4, 100 + i);
	for (uint32_t i = 0; i < HOLES; i++)
		assert_int_equal(th_get(*state, block + i * TH_SEGMENT + 4),
				 100 + i);
	assert_int_equal(th_stats(*state).gathered, HOLES * TH_SEGMENT);
	assert_int_equal(th_stats(*state).inserted, SLOTS * TH_SEGMENT);
	assert_int_equal(th_stats(*state).mapped, SLOTS * TH_SEGMENT);
	th_assert_ok(ps_mem_free(*state, block));
}

static void test_gather_of_more_than_is_free_is_out_of_memory(void **state)
{
	void *block;

	th_assert_status(ps_mem_alloc(*state, (HOLES + 1) * TH_SEGMENT, &block),
			 PS_OUT_OF_MEMORY);
	assert_int_equal(th_stats(*state).gathered, 0);
}

/* The gathered segments are not to be had a second time where they came
 * from. */
static void test_gather_leaves_nothing_behind(void **state)
{
	void *block = th_alloc(*state, HOLES * TH_SEGMENT), *single;

	th_assert_status(ps_mem_alloc(*state, TH_SEGMENT, &single),
			 PS_OUT_OF_MEMORY);
	th_assert_ok(ps_mem_free(*state, block));
	single = th_alloc(*state, TH_SEGMENT);
	th_assert_ok(ps_mem_free(*state, single));
}

/* What was gathered goes home when it is free and another needs it there. */
static void test_gather_again_and_again_loses_nothing(void **state)
{
	for (uint32_t round = 0; round < 20; round++) {
		uint32_t count = 2 + round % (HOLES - 1);
		void *block = th_alloc(*state, count * TH_SEGMENT);
		void *single = NULL;

		if (count < HOLES)
			single = th_alloc(*state, TH_SEGMENT);
		th_assert_ok(ps_mem_check(*state));
		th_assert_ok(ps_mem_free(*state, block));
		th_assert_ok(ps_mem_free(*state, single));
	}
	assert_int_equal(th_stats(*state).live_blocks, SLOTS / 2);
	assert_true(th_stats(*state).gathered > 0);
}

static void test_gather_total_memory_stays_the_same(void **state)
{
	void *block = th_alloc(*state, HOLES * TH_SEGMENT);
	uint64_t free_bytes, total;

	th_assert_ok(ps_mem_get_info(*state, &free_bytes, &total));
	assert_int_equal(free_bytes, 0);
	assert_int_equal(total, SLOTS * TH_SEGMENT);
	th_assert_ok(ps_mem_free(*state, block));
	th_assert_ok(ps_mem_get_info(*state, &free_bytes, &total));
	assert_int_equal(free_bytes, HOLES * TH_SEGMENT);
}

#define T(name) TH_TEST_SETUP(name, open_comb, close_comb)

static const struct th_test tests[] = {
	T(test_gather_serves_a_block_longer_than_any_hole),
	T(test_gather_of_more_than_is_free_is_out_of_memory),
	T(test_gather_leaves_nothing_behind),
	T(test_gather_again_and_again_loses_nothing),
	T(test_gather_total_memory_stays_the_same),
};

TH_GPU_MAIN("gather", tests, th_warm_up_cuda)
