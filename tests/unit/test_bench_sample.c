/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the benchmarks' figures rest on: percentiles, sizes, orders. */

#include "bench/sample.h"
#include "bench/workload.h"
#include "tests/support/harness.h"

#include <string.h>

#define MANY 20000u

static uint64_t at(double share, const uint64_t *values, uint64_t count)
{
	struct bn_samples samples;
	uint64_t result;

	assert_true(bn_samples_init(&samples, count));
	for (uint64_t i = 0; i < count; i++)
		bn_samples_add(&samples, values[i]);
	result = bn_samples_at(&samples, share);
	bn_samples_done(&samples);
	return result;
}

static void test_samples_median_of_odd_count_is_the_middle(void **state)
{
	const uint64_t values[] = { 9, 1, 5 };

	(void)state;
	assert_int_equal(at(0.5, values, 3), 5);
}

static void test_samples_median_of_even_count_is_the_lower(void **state)
{
	const uint64_t values[] = { 4, 3, 2, 1 };

	(void)state;
	assert_int_equal(at(0.5, values, 4), 2);
}

static void test_samples_p99_leaves_one_of_a_hundred(void **state)
{
	uint64_t values[100];

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		values[i] = 100 - i;
	assert_int_equal(at(0.99, values, 100), 99);
}

static void test_samples_share_of_one_is_the_largest(void **state)
{
	const uint64_t values[] = { 3, 8, 7 };

	(void)state;
	assert_int_equal(at(1.0, values, 3), 8);
}

static void test_samples_single_one_is_every_percentile(void **state)
{
	const uint64_t value = 42;

	(void)state;
	assert_int_equal(at(0.5, &value, 1), 42);
	assert_int_equal(at(0.999, &value, 1), 42);
}

static void test_samples_none_is_zero(void **state)
{
	struct bn_samples samples;

	(void)state;
	assert_true(bn_samples_init(&samples, 1));
	assert_int_equal(bn_samples_at(&samples, 0.5), 0);
	bn_samples_done(&samples);
}

static void test_ticks_measure_a_known_time(void **state)
{
	double tick_ns = bn_tick_ns();
	uint64_t start_ns = bn_now_ns();
	uint64_t start = bn_tick_start();
	uint64_t end_ns;
	double ticks_ns;

	(void)state;
	do
		end_ns = bn_now_ns();
	while (end_ns - start_ns < 20000000);
	ticks_ns = (double)(bn_tick_stop() - start) * tick_ns;
	/* Wide: another program may run between two readings. */
	assert_true(ticks_ns > 0.5 * (double)(end_ns - start_ns));
	assert_true(ticks_ns < 2.0 * (double)(end_ns - start_ns));
}

static void test_workload_same_seed_gives_the_same(void **state)
{
	struct bn_workload a;
	struct bn_workload b;

	(void)state;
	assert_true(bn_workload_init(&a, 100, 1000, 65536, 7));
	assert_true(bn_workload_init(&b, 100, 1000, 65536, 7));
	assert_memory_equal(a.fill, b.fill, 100 * sizeof(a.fill[0]));
	assert_memory_equal(a.pair, b.pair, 1000 * sizeof(a.pair[0]));
	bn_workload_done(&a);
	bn_workload_done(&b);
}

static void test_workload_other_seed_gives_another(void **state)
{
	struct bn_workload a;
	struct bn_workload b;

	(void)state;
	assert_true(bn_workload_init(&a, 100, 1000, 65536, 7));
	assert_true(bn_workload_init(&b, 100, 1000, 65536, 8));
	assert_true(memcmp(a.pair, b.pair, 1000 * sizeof(a.pair[0])) != 0);
	bn_workload_done(&a);
	bn_workload_done(&b);
}

static void test_workload_stays_inside_its_bounds(void **state)
{
	struct bn_workload work;

	(void)state;
	assert_true(bn_workload_init(&work, 100, MANY, 65536, 1));
	for (uint32_t i = 0; i < MANY; i++) {
		assert_in_range(work.pair[i].slot, 0, 99);
		assert_in_range(work.pair[i].granules, 1, 65536 / BN_GRANULE);
	}
	bn_workload_done(&work);
}

/* P(size > s) = sqrt(512 / s): half of all are larger than 2 KiB, a quarter
 * larger than 8 KiB, as long as the largest is far away. */
static void test_workload_sizes_follow_the_law(void **state)
{
	struct bn_workload work;
	uint32_t larger_2k = 0;
	uint32_t larger_8k = 0;

	(void)state;
	assert_true(bn_workload_init(&work, 10, MANY, UINT64_C(1) << 30, 3));
	for (uint32_t i = 0; i < MANY; i++) {
		larger_2k += work.pair[i].granules > 4;
		larger_8k += work.pair[i].granules > 16;
	}
	assert_in_range(larger_2k, MANY * 48 / 100, MANY * 52 / 100);
	assert_in_range(larger_8k, MANY * 23 / 100, MANY * 27 / 100);
	bn_workload_done(&work);
}

static const struct th_test tests[] = {
	TH_TEST(test_samples_median_of_odd_count_is_the_middle),
	TH_TEST(test_samples_median_of_even_count_is_the_lower),
	TH_TEST(test_samples_p99_leaves_one_of_a_hundred),
	TH_TEST(test_samples_share_of_one_is_the_largest),
	TH_TEST(test_samples_single_one_is_every_percentile),
	TH_TEST(test_samples_none_is_zero),
	TH_TEST(test_ticks_measure_a_known_time),
	TH_TEST(test_workload_same_seed_gives_the_same),
	TH_TEST(test_workload_other_seed_gives_another),
	TH_TEST(test_workload_stays_inside_its_bounds),
	TH_TEST(test_workload_sizes_follow_the_law),
};

TH_MAIN("bench_sample", tests)
