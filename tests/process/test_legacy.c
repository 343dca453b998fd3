/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A pool shared by legacy CUDA IPC, behind the same calls. */
#include "tests/support/pools.h"

#define WEIGHT 0xca11ab1eu

static struct ps_pool *reserve(void)
{
	struct ps_pool *pool = th_reserve_mode(PS_SHARE_LEGACY_IPC);

	th_put(pool, ps_pool_pointer(pool, 0), WEIGHT);
	return pool;
}

static void share(const struct th_part *me)
{
	struct ps_pool *pool = reserve();

	th_send(pool, me->link[0], 0);
	th_await(me->link[0]);
	ps_pool_close(pool);
}

static void read_weights(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);

	assert_int_equal(th_get(pool, ps_pool_pointer(pool, 0)), WEIGHT);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_legacy_share_shows_the_weights(void **state)
{
	(void)state;
	th_play(share, read_weights);
}

static void see_layout(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	uint64_t offset, size;

	assert_int_equal(ps_pool_size(pool), TH_SEGMENTS * TH_SEGMENT);
	th_assert_ok(ps_pool_region(pool, PS_REGION_PARAMETER, &offset, &size));
	assert_int_equal(size, TH_PARAMETERS * TH_SEGMENT);
	assert_int_equal(th_stats(pool).mapped, ps_pool_size(pool));
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_legacy_share_is_whole(void **state)
{
	(void)state;
	th_play(share, see_layout);
}

static void write_weights(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);

	th_put(pool, ps_pool_pointer(pool, 0), 1);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void see_written(const struct th_part *me)
{
	struct ps_pool *pool = reserve();

	th_send(pool, me->link[0], 0);
	th_await(me->link[0]);
	assert_int_equal(th_get(pool, ps_pool_pointer(pool, 0)), 1);
	ps_pool_close(pool);
}

static void test_legacy_share_is_writable(void **state)
{
	(void)state;
	th_play(see_written, write_weights);
}

static void allocate(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	uint64_t released;
	void *ptr;

	th_insert(pool, TH_PARAMETERS, TH_SEGMENTS - TH_PARAMETERS);
	ptr = th_alloc(pool, 3 * TH_SEGMENT);
	th_put(pool, ptr, 5);
	th_assert_ok(ps_mem_free_async(pool, ptr, NULL));
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_mem_trim(pool, 0, &released));
	th_assert_ok(ps_clear_shared(pool));
	assert_int_equal(th_stats(pool).mapped, ps_pool_size(pool));
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_legacy_pool_is_allocated_from(void **state)
{
	(void)state;
	th_play(share, allocate);
}

static void send_range(const struct th_part *me)
{
	struct ps_pool *pool = reserve();

	th_assert_status(ps_send_range(pool, 0, TH_SEGMENT, me->link[0], 0, 0),
			 PS_UNSUPPORTED);
	ps_pool_close(pool);
}

static void test_legacy_range_is_unsupported(void **state)
{
	(void)state;
	th_play(send_range, NULL);
}

static void insert_alias(const struct th_part *me)
{
	struct ps_pool *pool = reserve();

	(void)me;
	th_insert(pool, 0, 2);
	th_assert_status(ps_insert_shared(pool, TH_SEGMENT, 0, PS_ANY_STREAM,
					  PS_INSERT_ALIAS),
			 PS_UNSUPPORTED);
	ps_pool_close(pool);
}

static void test_legacy_alias_is_unsupported(void **state)
{
	(void)state;
	th_play(insert_alias, NULL);
}

static const struct th_test tests[] = {
	TH_TEST(test_legacy_share_shows_the_weights),
	TH_TEST(test_legacy_share_is_whole),
	TH_TEST(test_legacy_share_is_writable),
	TH_TEST(test_legacy_pool_is_allocated_from),
	TH_TEST(test_legacy_range_is_unsupported),
	TH_TEST(test_legacy_alias_is_unsupported),
};

TH_GPU_MAIN("legacy", tests, NULL)
