/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Stands before ps_pool_close() in the test programs (the linker's --wrap):
 * each pool that is closed is checked, and the blocks that end with it are
 * counted. The runner fails a test that leaves any (th_register_counter()).
 *
 * A test whose subject is closing with live blocks says so by
 * th_expect_lost().
 */
#include "tests/support/closing.h"

#include "tests/support/harness.h"

static long lost;

long th_blocks_lost(void)
{
	return lost;
}

void th_expect_lost(long blocks)
{
	lost -= blocks;
}

/* Before main(), so that no test program can forget it. */
__attribute__((constructor)) static void count_lost_blocks(void)
{
	th_register_counter("blocks live when their pool was closed",
			    th_blocks_lost);
}

/* Both names are the linker's. */
void __real_ps_pool_close(struct ps_pool *pool);
void __wrap_ps_pool_close(struct ps_pool *pool);

void __wrap_ps_pool_close(struct ps_pool *pool)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };

	/* A child that only inherited the pool cannot be asked. */
	if (pool != NULL && ps_mem_get_stats(pool, &stats) == PS_OK) {
		th_assert_ok(ps_mem_check(pool));
		lost += (long)stats.live_blocks;
	}
	__real_ps_pool_close(pool);
}
