/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What clients of poolswitchd have of each other's memory: what is idle, what
 * is guaranteed, what is the limit; and many threads of one. */
#include "tests/support/daemon.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define WHOLE TH_DAEMON_SEGMENT
#define THREADS 4u
#define TURNS 300u

static void assert_client(const char *field, int64_t bytes)
{
	json_t *status = th_daemon_status();

	assert_int_equal(
		th_json_number(th_status_client(status, getpid()), field),
		bytes);
	json_decref(status);
}

static int64_t grants_so_far(void)
{
	json_t *status = th_daemon_status();
	int64_t grants = th_json_number(status, "counters.grants");

	json_decref(status);
	return grants;
}

static void await_parked(int64_t bytes)
{
	struct th_daemon_sums sums;

	do {
		th_rest_ms(10);
		th_daemon_sums(&sums);
	} while (sums.parked != bytes);
}

/* ---- two clients in turn ---- */

/* Caches all but @kept segments, and says so; then has all again. */
static void cache_all(int link, uint32_t kept)
{
	struct ps_pool *pool = th_attach_name("first");
	void *live = kept > 0 ? th_alloc(pool, kept * WHOLE) : NULL;

	th_assert_ok(ps_mem_free(
		pool, th_alloc(pool, (TH_DAEMON_LEASES - kept) * WHOLE)));
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_mem_free(pool, live));
	th_assert_ok(ps_detach(pool));
}

static void cache_everything(int link)
{
	cache_all(link, 0);
}

static void keep_six(int link)
{
	cache_all(link, 6);
}

static void have_twenty(int link)
{
	struct ps_pool *pool = th_attach_name("second");
	void *block = th_alloc(pool, 20 * WHOLE);

	th_zeros_check(pool, block, 20 * WHOLE);
	th_await(link);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_daemon_recalls_what_another_client_caches(void **state)
{
	struct th_client first, second;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&first, cache_everything);
	th_await(first.link);
	th_client_start(&second, have_twenty);
	th_client_finish(&second);
	th_client_finish(&first);
	th_daemon_stop(&daemon);
}

static void want_too_much(int link)
{
	struct ps_pool *pool = th_attach_name("second");
	void *block;

	th_await(link);
	th_assert_status(
		ps_mem_alloc(pool, (TH_DAEMON_LEASES - 5) * WHOLE, &block),
		PS_OUT_OF_MEMORY);
	th_assert_detail("poolswitchd: ");
	th_assert_ok(
		ps_mem_alloc(pool, (TH_DAEMON_LEASES - 6) * WHOLE, &block));
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_daemon_recalls_nothing_that_is_live(void **state)
{
	struct th_client first, second;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&first, keep_six);
	th_await(first.link);
	th_client_start(&second, want_too_much);
	th_client_finish(&second);
	th_client_finish(&first);
	th_daemon_stop(&daemon);
}

/* ---- one that grows ---- */

#define GROWTH 200u

/* A program's peak may cost 3 % and a segment more than without the pool. */
static void grow_and_grow(int link)
{
	struct ps_pool *pool = th_attach_name("growing");
	int64_t before = grants_so_far();
	void *blocks[GROWTH];

	for (uint64_t i = 0; i < GROWTH; i++) {
		blocks[i] = th_alloc(pool, WHOLE);
		assert_in_range(th_stats(pool).inserted, (i + 1) * WHOLE,
				(i + 1) * WHOLE * 103 / 100 + WHOLE);
	}
	assert_in_range(grants_so_far() - before, 1, GROWTH * 3 / 4);
	th_await(link);
	for (uint64_t i = 0; i < GROWTH; i++)
		th_assert_ok(ps_mem_free(pool, blocks[i]));
	th_assert_ok(ps_detach(pool));
}

static void test_large_client_leases_in_batches_but_little_more(void **state)
{
	static const char *const options[] = { "--size", "512M", NULL };
	const struct th_daemon_plan plan = { .options = options };
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, &plan);
	th_client_start(&client, grow_and_grow);
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

/* Blocks of sizes that are no size of a class: none is rounded up by much. */
static void use_odd_sizes(int link)
{
	struct ps_pool *pool = th_attach_name("odd");
	const size_t odd = 9 * WHOLE / 16 + 512;
	void *blocks[24];

	for (unsigned int i = 0; i < 24; i++)
		blocks[i] = th_alloc(pool, odd);
	assert_in_range(th_stats(pool).live, 24 * odd, 24 * odd * 103 / 100);
	assert_in_range(th_stats(pool).inserted, 24 * odd,
			24 * odd * 103 / 100 + WHOLE);
	th_await(link);
	for (unsigned int i = 0; i < 24; i++)
		th_assert_ok(ps_mem_free(pool, blocks[i]));
	th_assert_ok(ps_detach(pool));
}

static void test_client_leases_no_more_for_odd_sizes(void **state)
{
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, use_odd_sizes);
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

/* ---- one client ---- */

static void play_alone(void (*run)(int link))
{
	struct th_client client;
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	th_client_start(&client, run);
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

static struct ps_pool *attach_with(uint64_t reservation, uint64_t limit)
{
	struct ps_attach_config *config;
	struct ps_pool *pool;

	th_assert_ok(ps_attach_config_new(&config));
	ps_attach_config_set_reservation(config, reservation);
	ps_attach_config_set_limit(config, limit);
	th_assert_ok(ps_attach_config_set_name(config, "bounded"));
	th_assert_ok(ps_attach(config, &pool));
	ps_attach_config_free(config);
	return pool;
}

static void stay_in_the_limit(int link)
{
	struct ps_pool *pool = attach_with(0, 5 * WHOLE);
	uint64_t free_bytes, total;
	void *block, *other;

	th_await(link);
	block = th_alloc(pool, 5 * WHOLE);
	th_assert_ok(ps_mem_get_info(pool, &free_bytes, &total));
	assert_int_equal(total, 5 * WHOLE);
	th_assert_status(ps_mem_alloc(pool, WHOLE, &other), PS_OUT_OF_MEMORY);
	th_assert_detail("limit");
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_daemon_client_stays_in_its_limit(void **state)
{
	(void)state;
	play_alone(stay_in_the_limit);
}

static void park_and_take(int link)
{
	struct ps_pool *pool = th_attach_name("parker");
	void *block = th_alloc(pool, 4 * WHOLE);

	th_await(link);
	th_pattern_write(pool, block, 4 * WHOLE, 7);
	th_assert_ok(ps_mem_free(pool, block));
	await_parked(4 * WHOLE);
	assert_client("leased", 0);
	block = th_alloc(pool, 4 * WHOLE);
	th_pattern_check(pool, block, 4 * WHOLE, 7);
	assert_client("leased", 4 * WHOLE);
	assert_client("parked", 0);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_daemon_grants_again_what_was_parked(void **state)
{
	(void)state;
	play_alone(park_and_take);
}

static int64_t messages(void)
{
	json_t *status = th_daemon_status();
	int64_t count = th_json_number(status, "counters.messages");

	json_decref(status);
	return count;
}

/* How many since then; a question is one, and our answer to it another. */
static int64_t messages_since(int64_t before)
{
	int64_t now = messages();
	int64_t question = messages() - now;

	return now - before - question;
}

/* Six segments taken and given back, of memory that is clean. */
static int64_t messages_of_a_turn(struct ps_pool *pool)
{
	uint64_t released;
	int64_t before;
	void *block;

	th_daemon_wait_clients(1);
	before = messages();
	block = th_alloc(pool, 6 * WHOLE);
	th_assert_ok(ps_mem_free(pool, block));
	do { /* behind the block's fence */
		th_assert_ok(ps_mem_trim(pool, 0, &released));
	} while (released == 0);
	assert_int_equal(released, 6 * WHOLE);
	return messages_since(before);
}

/* Where the machine is slow an answer to a question may come late, and be
 * counted in the wrong place: then once more. */
static void count_messages(int link)
{
	struct ps_pool *pool = th_attach_name("terse");
	int64_t count = 0;

	th_await(link);
	for (int i = 0; i < 8 && count != 2; i++)
		count = messages_of_a_turn(pool);
	assert_int_equal(count, 2);
	th_assert_ok(ps_detach(pool));
}

static void test_daemon_grant_and_return_are_one_message_each(void **state)
{
	(void)state;
	play_alone(count_messages);
}

static void reserve(int link)
{
	struct ps_pool *pool = attach_with(8 * WHOLE, 0);
	void *block;

	th_tell(link);
	th_await(link);
	block = th_alloc(pool, 8 * WHOLE);
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

/* Holds the most that it gets while the other has what it reserved. */
static void compete(int link)
{
	struct ps_pool *pool = th_attach_name("greedy");
	void *block;

	th_assert_status(
		ps_mem_alloc(pool, (TH_DAEMON_LEASES - 7) * WHOLE, &block),
		PS_OUT_OF_MEMORY);
	block = th_alloc(pool, (TH_DAEMON_LEASES - 8) * WHOLE);
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_daemon_keeps_what_is_reserved(void **state)
{
	struct th_client careful, greedy;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&careful, reserve);
	th_await(careful.link);
	th_client_start(&greedy, compete);
	th_await(greedy.link);
	th_tell(careful.link);
	th_await(careful.link);
	th_client_finish(&careful);
	th_client_finish(&greedy);
	th_daemon_stop(&daemon);
}

static void attach_twice(int link)
{
	struct ps_pool *pool = th_attach_name("first"), *again;
	size_t before = th_open_fds();

	th_await(link);
	th_assert_status(ps_attach(NULL, &again), PS_WINDOW_TAKEN);
	assert_int_equal(th_open_fds(), before);
	th_assert_ok(ps_detach(pool));
}

static void test_daemon_has_one_client_a_process(void **state)
{
	(void)state;
	play_alone(attach_twice);
}

/* ---- many threads of two clients, that have less than both want ---- */

struct worker {
	struct ps_pool *pool;
	unsigned int seed;
	pthread_t thread;
};

/* Others may have it all for a moment. */
static void *try_alloc(struct ps_pool *pool, size_t bytes)
{
	void *block;
	enum ps_status status = ps_mem_alloc(pool, bytes, &block);

	if (status == PS_OK)
		return block;
	th_assert_status(status, PS_OUT_OF_MEMORY);
	return NULL;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	uint64_t released;

	for (uint32_t i = 0; i < TURNS; i++) {
		size_t bytes = 4 * (1 + (size_t)rand_r(&worker->seed) % WHOLE);
		void *block = try_alloc(worker->pool, bytes);

		if (block == NULL)
			continue;
		th_put(worker->pool, block, i);
		assert_int_equal(th_get(worker->pool, block), i);
		th_assert_ok(ps_mem_free(worker->pool, block));
		if (i % 64 == 0)
			th_assert_ok(ps_mem_trim(worker->pool, 0, &released));
	}
	return NULL;
}

static void work_in_threads(int link)
{
	struct ps_pool *pool = th_attach_name("threads");
	struct worker workers[THREADS];

	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .pool = pool, .seed = i + 1 };
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	th_await(link);
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_detach(pool));
}

static void test_daemon_serves_many_threads(void **state)
{
	struct th_client first, second;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&first, work_in_threads);
	th_client_start(&second, work_in_threads);
	th_client_finish(&second);
	th_client_finish(&first);
	th_daemon_stop(&daemon);
}

static void test_daemon_serves_threads_while_its_agent_dies(void **state)
{
	struct th_client first, second;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&first, work_in_threads);
	th_client_start(&second, work_in_threads);
	for (int i = 0; i < 3; i++)
		th_daemon_kill_agent(&daemon);
	th_client_finish(&second);
	th_client_finish(&first);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_daemon_recalls_what_another_client_caches),
	TH_DAEMON_TEST(test_daemon_recalls_nothing_that_is_live),
	TH_DAEMON_TEST(test_daemon_client_stays_in_its_limit),
	TH_DAEMON_TEST(test_daemon_keeps_what_is_reserved),
	TH_DAEMON_TEST(test_daemon_grants_again_what_was_parked),
	TH_DAEMON_TEST(test_daemon_grant_and_return_are_one_message_each),
	TH_DAEMON_TEST(test_daemon_has_one_client_a_process),
	TH_DAEMON_TEST(test_daemon_serves_many_threads),
	TH_DAEMON_TEST(test_daemon_serves_threads_while_its_agent_dies),
	TH_DAEMON_TEST(test_large_client_leases_in_batches_but_little_more),
	TH_DAEMON_TEST(test_client_leases_no_more_for_odd_sizes),
};

TH_GPU_MAIN("daemon_leases", tests, NULL)
