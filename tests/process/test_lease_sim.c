/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What an attached pool asks of the driver, counted by the simulated one. */
#include "tests/support/pretend_daemon.h"

#include "tests/support/gpu.h"
#include "tests/support/sim.h"

#define WHOLE TH_SEGMENT

/* Calls that make, map, unmap or free memory. */
static unsigned long driver_calls(void)
{
	static const char *const symbols[] = {
		"cuMemCreate",   "cuMemImportFromShareableHandle",
		"cuMemMap",      "cuMemSetAccess",
		"cuMemUnmap",    "cuMemRelease",
		"cuMemAlloc_v2", "cuMemFree_v2",
	};
	unsigned long sum = 0;

	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++)
		sum += th_sim_calls(symbols[i]);
	return sum;
}

static void park_and_come_back(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	unsigned long before;

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 4 * WHOLE)));
	before = driver_calls();
	th_await_parked(me, 4);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 4 * WHOLE)));
	th_assert_books(me, 4, 0);
	assert_int_equal(driver_calls(), before);
	th_assert_ok(ps_detach(pool));
	assert_true(driver_calls() > before);
}

static void test_parked_memory_comes_back_without_a_driver_call(void **state)
{
	(void)state;
	th_pretend_play(park_and_come_back);
}

static void fail_to_import(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *ptr;

	th_sim_fail_nth("cuMemImportFromShareableHandle", 2, 999);
	th_assert_status(ps_mem_alloc(pool, 3 * WHOLE, &ptr), PS_BAD_SEGMENT);
	th_assert_books(me, 2, 0);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_assert_ok(ps_detach(pool));
	th_assert_books(me, 0, 0);
}

static void test_segment_that_is_not_imported_goes_back(void **state)
{
	(void)state;
	th_pretend_play(fail_to_import);
}

static void fail_to_map(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *ptr;

	th_sim_fail_nth("cuMemMap", 2, 999);
	th_assert_status(ps_mem_alloc(pool, 3 * WHOLE, &ptr), PS_DRIVER);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_assert_ok(ps_detach(pool));
	th_assert_books(me, 0, 0);
}

static void test_segment_that_is_not_mapped_is_leased_all_the_same(void **state)
{
	(void)state;
	th_pretend_play(fail_to_map);
}

static void fail_to_unmap(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	uint64_t released;

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_sim_fail_nth("cuMemUnmap", 1, 999);
	th_assert_status(ps_mem_trim(pool, 0, &released), PS_DRIVER);
	th_assert_books(me, 3, 0);
	th_assert_ok(ps_mem_trim(pool, 0, &released));
	assert_int_equal(released, 3 * TH_SEGMENT);
	th_assert_books(me, 0, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_segment_that_is_not_unmapped_is_not_given_back(void **state)
{
	(void)state;
	th_pretend_play(fail_to_unmap);
}

/* What may still be mapped stays leased until the process has ended. */
static void fail_to_unmap_at_the_end(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_sim_fail_nth("cuMemUnmap", 1, 999);
	ps_pool_close(pool);
	th_assert_books(me, 3, 0);
}

static void test_close_that_does_not_unmap_does_not_leave(void **state)
{
	(void)state;
	th_pretend_play(fail_to_unmap_at_the_end);
}

/* ---- captures that the library does not know of ---- */

static void recall_in_a_capture(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	const struct th_gpu *gpu = th_gpu_open();
	void *block = th_alloc(pool, 4096);
	CUstream stream;

	th_assert_ok(ps_mem_free(pool, block));
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	assert_int_equal(th_order(me, TH_ORDER_RECALL, 1, 100), 0);
	th_gpu_end_capture(gpu, stream);
	th_assert_ok(ps_detach(pool));
}

static void test_recall_harms_no_capture(void **state)
{
	(void)state;
	th_pretend_play(recall_in_a_capture);
}

static void idle_in_a_capture(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	const struct th_gpu *gpu = th_gpu_open();
	void *block = th_alloc(pool, 4096);
	CUstream stream;

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_assert_ok(ps_mem_free(pool, block));
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_await_parked(me, 3);
	th_gpu_end_capture(gpu, stream);
	th_assert_ok(ps_detach(pool));
}

static void test_parking_harms_no_capture(void **state)
{
	(void)state;
	th_pretend_play(idle_in_a_capture);
}

static const struct th_test tests[] = {
	TH_TEST(test_parked_memory_comes_back_without_a_driver_call),
	TH_TEST(test_segment_that_is_not_imported_goes_back),
	TH_TEST(test_segment_that_is_not_mapped_is_leased_all_the_same),
	TH_TEST(test_segment_that_is_not_unmapped_is_not_given_back),
	TH_TEST(test_close_that_does_not_unmap_does_not_leave),
	TH_TEST(test_recall_harms_no_capture),
	TH_TEST(test_parking_harms_no_capture),
};

TH_MAIN("lease_sim", tests)
