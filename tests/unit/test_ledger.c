/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The preload's ledger. The tests share one, as a process does; each uses keys
 * of its own and leaves nothing. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "preload/ledger.h"
#include "tests/support/harness.h"

static long entries(void)
{
	uint64_t bytes;
	long count = 0;

	for (int kind = PL_KIND_PLAIN; kind < PL_KINDS; kind++)
		count += pl_ledger_sum((enum pl_kind)kind, &bytes);
	return count;
}

static void warm_up(void)
{
	th_register_counter("entries of the ledger", entries);
}

static void put(enum pl_kind kind, uint64_t key, uint64_t bytes, uint64_t other)
{
	struct pl_entry entry = { .key = key,
				  .kind = kind,
				  .count = 1,
				  .bytes = bytes,
				  .other = other };

	th_assert_ok(pl_ledger_put(&entry));
}

static struct pl_entry take(enum pl_kind kind, uint64_t key)
{
	struct pl_entry entry;

	assert_true(pl_ledger_take(kind, key, &entry));
	return entry;
}

static void test_ledger_entry_is_found_until_it_is_taken(void **state)
{
	struct pl_entry entry;

	(void)state;
	put(PL_KIND_MANAGED, 0x1000, 5, 6);
	assert_true(pl_ledger_find(PL_KIND_MANAGED, 0x1000, &entry));
	assert_int_equal(entry.bytes, 5);
	assert_int_equal(entry.other, 6);
	(void)take(PL_KIND_MANAGED, 0x1000);
	assert_false(pl_ledger_find(PL_KIND_MANAGED, 0x1000, &entry));
	assert_false(pl_ledger_take(PL_KIND_MANAGED, 0x1000, &entry));
}

static void test_ledger_kinds_have_keys_of_their_own(void **state)
{
	struct pl_entry entry;

	(void)state;
	put(PL_KIND_MANAGED, 0x1000, 1, 0);
	put(PL_KIND_ARRAY, 0x1000, 2, 0);
	assert_false(pl_ledger_find(PL_KIND_PLAIN, 0x1000, &entry));
	assert_int_equal(take(PL_KIND_ARRAY, 0x1000).bytes, 2);
	assert_int_equal(take(PL_KIND_MANAGED, 0x1000).bytes, 1);
}

static void test_ledger_put_again_replaces(void **state)
{
	uint64_t bytes;

	(void)state;
	put(PL_KIND_OBJECT, 7, 100, 0);
	put(PL_KIND_OBJECT, 7, 30, 0);
	assert_int_equal(pl_ledger_sum(PL_KIND_OBJECT, &bytes), 1);
	assert_int_equal(bytes, 30);
	(void)take(PL_KIND_OBJECT, 7);
	assert_int_equal(pl_ledger_sum(PL_KIND_OBJECT, &bytes), 0);
	assert_int_equal(bytes, 0);
}

static void test_ledger_add_sums_counts_and_bytes(void **state)
{
	struct pl_entry entry = {
		.key = 7, .kind = PL_KIND_GRAPH, .count = 1, .bytes = 10
	};

	(void)state;
	th_assert_ok(pl_ledger_add(&entry));
	th_assert_ok(pl_ledger_add(&entry));
	entry = take(PL_KIND_GRAPH, 7);
	assert_int_equal(entry.count, 2);
	assert_int_equal(entry.bytes, 20);
}

static void test_ledger_count_of_zero_is_out(void **state)
{
	struct pl_entry entry;

	(void)state;
	put(PL_KIND_OBJECT, 7, 10, 0);
	assert_true(pl_ledger_count(PL_KIND_OBJECT, 7, 1, &entry));
	assert_int_equal(entry.count, 2);
	assert_true(pl_ledger_count(PL_KIND_OBJECT, 7, -1, &entry));
	assert_true(pl_ledger_find(PL_KIND_OBJECT, 7, &entry));
	assert_true(pl_ledger_count(PL_KIND_OBJECT, 7, -1, &entry));
	assert_int_equal(entry.count, 0);
	assert_int_equal(entry.bytes, 10);
	assert_false(pl_ledger_count(PL_KIND_OBJECT, 7, -1, &entry));
}

static void test_ledger_take_of_finds_all_of_one(void **state)
{
	struct pl_entry entry;
	uint64_t sum = 0;

	(void)state;
	for (uint64_t key = 0; key < 10; key++)
		put(PL_KIND_FOREIGN, key, 1, key % 2);
	while (pl_ledger_take_of(PL_KIND_FOREIGN, 1, &entry))
		sum += entry.key;
	assert_int_equal(sum, 1 + 3 + 5 + 7 + 9);
	while (pl_ledger_take_of(PL_KIND_FOREIGN, 0, &entry))
		assert_int_equal(entry.key % 2, 0);
}

/* ---- against a plain table ---- */

#define KEYS 2048u
#define ROUNDS 200000u

static void compare(const bool *is_in)
{
	struct pl_entry entry;

	for (uint64_t key = 0; key < KEYS; key++) {
		assert_int_equal(pl_ledger_find(PL_KIND_MAPPING, key, &entry),
				 is_in[key]);
		if (is_in[key])
			assert_int_equal(entry.key, key);
	}
}

static void test_ledger_random_use_equals_a_plain_table(void **state)
{
	static bool is_in[KEYS];
	struct pl_entry entry;
	unsigned int seed = 1;
	uint64_t key;

	(void)state;
	for (unsigned int i = 0; i < ROUNDS; i++) {
		key = (uint64_t)rand_r(&seed) % KEYS;
		if (is_in[key])
			(void)take(PL_KIND_MAPPING, key);
		else
			put(PL_KIND_MAPPING, key, 1, 0);
		is_in[key] = !is_in[key];
		if (i % 20000 == 0)
			compare(is_in);
	}
	compare(is_in);
	while (pl_ledger_take_of(PL_KIND_MAPPING, 0, &entry))
		is_in[entry.key] = false;
	compare(is_in);
}

/* ---- threads ---- */

#define THREADS 4u
#define OWN_KEYS 3000u

static void *use_own_keys(void *arg)
{
	uint64_t base = (uintptr_t)arg << 32;
	struct pl_entry entry;

	for (uint64_t key = base; key < base + OWN_KEYS; key++)
		put(PL_KIND_PLAIN, key, 8, 0);
	for (uint64_t key = base; key < base + OWN_KEYS; key++) {
		assert_true(pl_ledger_take(PL_KIND_PLAIN, key, &entry));
		assert_int_equal(entry.key, key);
	}
	return NULL;
}

static void test_ledger_threads_at_once_lose_nothing(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_own_keys,
						(void *)(i + 1)),
				 0);
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* ---- forks ---- */

static atomic_bool is_over;

static void *never_rest(void *arg)
{
	while (!atomic_load(&is_over)) {
		put(PL_KIND_PLAIN, 1, 1, 0);
		(void)take(PL_KIND_PLAIN, 1);
	}
	return arg;
}

static void use_in_child(void *arg)
{
	struct pl_entry entry;

	(void)arg;
	assert_false(pl_ledger_find(PL_KIND_MANAGED, 0x1000, &entry));
	put(PL_KIND_MANAGED, 0x1000, 1, 0);
	assert_int_equal(take(PL_KIND_MANAGED, 0x1000).bytes, 1);
}

/* Some of these children begin while the other thread has the lock. */
static void test_ledger_forked_child_finds_it_empty_and_free(void **state)
{
	pthread_t thread;

	(void)state;
	put(PL_KIND_MANAGED, 0x1000, 5, 0);
	atomic_store(&is_over, false);
	assert_int_equal(pthread_create(&thread, NULL, never_rest, NULL), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(th_wait(th_fork(use_in_child, NULL)), 0);
	atomic_store(&is_over, true);
	pthread_join(thread, NULL);
	assert_int_equal(take(PL_KIND_MANAGED, 0x1000).bytes, 5);
}

static const struct th_test tests[] = {
	TH_TEST(test_ledger_entry_is_found_until_it_is_taken),
	TH_TEST(test_ledger_kinds_have_keys_of_their_own),
	TH_TEST(test_ledger_put_again_replaces),
	TH_TEST(test_ledger_add_sums_counts_and_bytes),
	TH_TEST(test_ledger_count_of_zero_is_out),
	TH_TEST(test_ledger_take_of_finds_all_of_one),
	TH_TEST(test_ledger_random_use_equals_a_plain_table),
	TH_TEST(test_ledger_threads_at_once_lose_nothing),
	TH_TEST(test_ledger_forked_child_finds_it_empty_and_free),
};

TH_MAIN_WARM("ledger", tests, warm_up)
