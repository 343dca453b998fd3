/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Closing a pool in which blocks are live: the library allows it, a test that
 * does it without saying so fails (tests/support/closing.c). */
#include "tests/support/closing.h"

#include "tests/support/pools.h"

static void test_close_with_a_live_block_is_counted(void **state)
{
	struct ps_pool *pool = th_reserve();
	long before = th_blocks_lost();

	(void)state;
	th_insert(pool, TH_PARAMETERS, 1);
	(void)th_alloc(pool, 1000);
	ps_pool_close(pool);
	assert_int_equal(th_blocks_lost() - before, 1);
	th_expect_lost(1);
}

static void test_close_after_every_free_loses_nothing(void **state)
{
	struct ps_pool *pool = th_reserve();
	long before = th_blocks_lost();

	(void)state;
	th_insert(pool, TH_PARAMETERS, 1);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 1000)));
	ps_pool_close(pool);
	assert_int_equal(th_blocks_lost() - before, 0);
}

static const struct th_test tests[] = {
	TH_TEST(test_close_with_a_live_block_is_counted),
	TH_TEST(test_close_after_every_free_loses_nothing),
};

TH_GPU_MAIN("closing", tests, th_warm_up_cuda)
