/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A pool that a daemon keeps: having memory of it, and giving it back. The
 * daemon is a pretend one, so that each test sees what it was told. */
#include "tests/support/pretend_daemon.h"

#include "ipc/wire.h"

#define LEASES (TH_SEGMENTS - TH_PARAMETERS)
/* A block of its own, as long as a segment. */
#define WHOLE TH_SEGMENT

/* ---- having ---- */

static void use_memory(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *small = th_alloc(pool, 4096);
	void *large = th_alloc(pool, 3 * WHOLE);

	th_put(pool, small, 1);
	th_put(pool, large, 2);
	assert_int_equal(th_get(pool, small), 1);
	assert_int_equal(th_get(pool, large), 2);
	assert_int_equal(th_order(me, TH_ORDER_POLL, 0, 0),
			 th_stats(pool).live);
	assert_int_equal(th_order(me, TH_ORDER_LEASED, 0, 0) * TH_SEGMENT,
			 th_stats(pool).inserted);
	th_assert_ok(ps_mem_free(pool, small));
	th_assert_ok(ps_mem_free(pool, large));
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_detach(pool));
	th_assert_books(me, 0, 0);
}

static void test_attached_pool_grows_by_itself(void **state)
{
	(void)state;
	th_pretend_play(use_memory);
}

static void grow_and_grow(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *blocks[LEASES];

	for (uint32_t i = 0; i < LEASES; i++) {
		blocks[i] = th_alloc(pool, WHOLE);
		th_assert_books(me, i + 1, 0);
	}
	for (uint32_t i = 0; i < LEASES; i++)
		th_assert_ok(ps_mem_free(pool, blocks[i]));
	th_assert_ok(ps_detach(pool));
}

static void
test_small_attached_pool_asks_for_no_more_than_it_needs(void **state)
{
	(void)state;
	th_pretend_play(grow_and_grow);
}

static void have_all(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, LEASES * WHOLE), *other;

	th_assert_status(ps_mem_alloc(pool, 512, &other), PS_OUT_OF_MEMORY);
	th_assert_detail("limit");
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_mem_alloc(pool, 512, &other));
	th_assert_ok(ps_mem_free(pool, other));
	th_assert_ok(ps_detach(pool));
}

static void test_attached_pool_at_its_limit_says_so(void **state)
{
	(void)state;
	th_pretend_play(have_all);
}

static void be_denied(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block;

	th_order(me, TH_ORDER_DENY, PS_OUT_OF_MEMORY, 100);
	th_assert_status(ps_mem_alloc(pool, 512, &block), PS_OUT_OF_MEMORY);
	th_assert_detail("denied as ordered");
	th_assert_detail("asked for 512 bytes");
	th_order(me, TH_ORDER_DENY, 0, 0);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 512)));
	th_assert_ok(ps_detach(pool));
}

static void test_attached_pool_denied_has_the_daemons_reason(void **state)
{
	(void)state;
	th_pretend_play(be_denied);
}

static void be_told_to_take_again(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_order(me, TH_ORDER_DENY, PS_AGAIN, 3);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 512)));
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_TAKE, 0), 4);
	th_assert_ok(ps_detach(pool));
}

static void test_attached_pool_told_again_asks_again(void **state)
{
	(void)state;
	th_pretend_play(be_told_to_take_again);
}

/* 12 segments: 4 live, 3 free and cached; 8 wanted, of which 5 are left. */
static void add_to_the_cached(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *live = th_alloc(pool, 4 * WHOLE);
	void *cached = th_alloc(pool, 3 * WHOLE);

	th_assert_ok(ps_mem_free(pool, cached));
	cached = th_alloc(pool, 8 * WHOLE);
	th_put(pool, cached, 8);
	assert_int_equal(th_get(pool, cached), 8);
	th_assert_books(me, LEASES, 0);
	th_assert_ok(ps_mem_free(pool, cached));
	th_assert_ok(ps_mem_free(pool, live));
	th_assert_ok(ps_detach(pool));
}

static void test_attached_pool_adds_to_what_is_cached(void **state)
{
	(void)state;
	th_pretend_play(add_to_the_cached);
}

static void gather_scattered(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block;

	th_order(me, TH_ORDER_SCATTER, 0, 0);
	block = th_alloc(pool, 4 * WHOLE);
	assert_int_equal(th_stats(pool).gathered, 4 * TH_SEGMENT);
	th_put(pool, (char *)block + 3 * WHOLE, 3);
	assert_int_equal(th_get(pool, (char *)block + 3 * WHOLE), 3);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
	th_assert_books(me, 0, 0);
}

static void test_attached_pool_gathers_what_is_scattered(void **state)
{
	(void)state;
	th_pretend_play(gather_scattered);
}

static void take_many_messages(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block;

	th_order(me, TH_ORDER_CHUNK, 2, 0);
	block = th_alloc(pool, 7 * WHOLE);
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_TAKE, 0), 1);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_grant_in_several_messages_is_taken(void **state)
{
	(void)state;
	th_pretend_play(take_many_messages);
}

static void ask_for_info(const struct th_part *me)
{
	uint64_t free_bytes, total;
	struct ps_pool *pool;
	void *block;

	th_await(me->link[0]);
	th_order(me, TH_ORDER_LIMIT, 5, 0);
	th_assert_ok(ps_attach(NULL, &pool));
	block = th_alloc(pool, 2 * WHOLE);
	th_assert_ok(ps_mem_get_info(pool, &free_bytes, &total));
	assert_int_equal(total, 5 * TH_SEGMENT);
	assert_int_equal(free_bytes, 3 * TH_SEGMENT);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_attached_pool_info_is_of_the_limit(void **state)
{
	(void)state;
	th_pretend_play(ask_for_info);
}

/* ---- giving back ---- */

static void trim(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	uint64_t released;

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_assert_ok(ps_mem_trim(pool, 0, &released));
	assert_int_equal(released, 3 * TH_SEGMENT);
	th_assert_books(me, 0, 0);
	assert_int_equal(th_stats(pool).mapped, 0);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, WHOLE)));
	th_assert_ok(ps_detach(pool));
}

static void test_trim_gives_back_to_the_daemon(void **state)
{
	(void)state;
	th_pretend_play(trim);
}

static void be_idle(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, WHOLE);
	uint64_t released;

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_await_parked(me, 3);
	assert_int_equal(th_stats(pool).inserted, TH_SEGMENT);
	assert_int_equal(th_stats(pool).mapped, 4 * TH_SEGMENT);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_mem_trim(pool, 0, &released));
	assert_int_equal(released, 4 * TH_SEGMENT);
	th_assert_books(me, 0, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_idle_memory_is_parked_and_stays_mapped(void **state)
{
	(void)state;
	th_pretend_play(be_idle);
}

static void come_back(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, 4 * WHOLE);

	th_put(pool, block, 6);
	th_assert_ok(ps_mem_free(pool, block));
	th_await_parked(me, 4);
	block = th_alloc(pool, 4 * WHOLE);
	assert_int_equal(th_get(pool, block), 6);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
	th_assert_books(me, 0, 0);
}

static void test_parked_memory_is_granted_again(void **state)
{
	(void)state;
	th_pretend_play(come_back);
}

/* Three parked ones are not neighbours of what is granted with them. */
static void gather_parked(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block;

	th_order(me, TH_ORDER_SCATTER, 0, 0);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, WHOLE)));
	th_await_parked(me, 1);
	block = th_alloc(pool, 3 * WHOLE);
	th_put(pool, block, 6);
	assert_int_equal(th_get(pool, block), 6);
	assert_int_equal(th_stats(pool).mapped, 3 * TH_SEGMENT);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_parked_memory_can_be_gathered(void **state)
{
	(void)state;
	th_pretend_play(gather_parked);
}

static void give_on_recall(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, 2 * WHOLE);

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	assert_int_equal(th_order(me, TH_ORDER_RECALL, 2, 2000), 2);
	assert_int_equal(th_order(me, TH_ORDER_RECALL, 9, 200), 1);
	th_assert_books(me, 2, 0);
	assert_int_equal(th_stats(pool).mapped, 2 * TH_SEGMENT);
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_recall_gets_what_is_cached_and_no_more(void **state)
{
	(void)state;
	th_pretend_play(give_on_recall);
}

static void give_parked_on_recall(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_await_parked(me, 3);
	assert_int_equal(th_order(me, TH_ORDER_RECALL, 2, 2000), 2);
	th_assert_books(me, 0, 1);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_assert_ok(ps_detach(pool));
}

static void test_recall_gets_what_is_parked(void **state)
{
	(void)state;
	th_pretend_play(give_parked_on_recall);
}

/* ---- parameters ---- */

static void map_parameters(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *at = ps_pool_pointer(pool, TH_SEGMENT);
	uint32_t word = 1;
	size_t before;

	th_assert_ok(ps_pool_map(pool, 0, TH_SEGMENT));
	before = th_open_fds();
	th_assert_ok(ps_pool_map(pool, 0, 0));
	assert_int_equal(th_open_fds(), before);
	assert_int_equal(th_stats(pool).mapped, TH_PARAMETERS * TH_SEGMENT);
	(void)th_get(pool, at);
	th_assert_status(ps_mem_write(pool, at, &word, 4), PS_READ_ONLY);
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_NEED, 0), 2);
	th_assert_ok(ps_detach(pool));
}

static void test_parameters_are_mapped_read_only(void **state)
{
	(void)state;
	th_pretend_play(map_parameters);
}

static void map_what_is_not_ours(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_status(ps_pool_map(pool, TH_PARAMETERS * TH_SEGMENT, 0),
			 PS_OUT_OF_RANGE);
	th_assert_detail("is not leased to this process");
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_NEED, 0), 0);
	th_assert_ok(ps_detach(pool));
}

static void test_map_of_the_computation_region_is_refused(void **state)
{
	(void)state;
	th_pretend_play(map_what_is_not_ours);
}

static const struct th_test tests[] = {
	TH_TEST(test_attached_pool_grows_by_itself),
	TH_TEST(test_small_attached_pool_asks_for_no_more_than_it_needs),
	TH_TEST(test_attached_pool_at_its_limit_says_so),
	TH_TEST(test_attached_pool_denied_has_the_daemons_reason),
	TH_TEST(test_attached_pool_told_again_asks_again),
	TH_TEST(test_attached_pool_adds_to_what_is_cached),
	TH_TEST(test_attached_pool_gathers_what_is_scattered),
	TH_TEST(test_grant_in_several_messages_is_taken),
	TH_TEST(test_attached_pool_info_is_of_the_limit),
	TH_TEST(test_trim_gives_back_to_the_daemon),
	TH_TEST(test_idle_memory_is_parked_and_stays_mapped),
	TH_TEST(test_parked_memory_is_granted_again),
	TH_TEST(test_parked_memory_can_be_gathered),
	TH_TEST(test_recall_gets_what_is_cached_and_no_more),
	TH_TEST(test_recall_gets_what_is_parked),
	TH_TEST(test_parameters_are_mapped_read_only),
	TH_TEST(test_map_of_the_computation_region_is_refused),
};

TH_GPU_MAIN("lease", tests, NULL)
