/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Room outside the pool and tickets, of real clients of a real daemon: what
 * the driver has for them, who may open what, and what becomes of it when
 * somebody dies.
 */
#include "tests/support/daemon.h"

#include "tests/support/gpu.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WHOLE TH_DAEMON_SEGMENT
#define BLOCK (3 * WHOLE)
#define OUTSIDE (5 * WHOLE)
#define SEED 11u
#define ANSWER 12u

static int64_t of_client(pid_t pid, const char *field)
{
	json_t *status = th_daemon_status();
	int64_t value = th_json_number(th_status_client(status, pid), field);

	json_decref(status);
	return value;
}

static int64_t of_daemon(const char *field)
{
	json_t *status = th_daemon_status();
	int64_t value = th_json_number(status, field);

	json_decref(status);
	return value;
}

/* Rests a little; fails when that went on for too long since @start_ns. */
static void rest_since(uint64_t start_ns)
{
	assert_true(th_now_ns() - start_ns < TH_DAEMON_MS * UINT64_C(1000000));
	th_rest_ms(10);
}

/* ---- room outside ---- */

static void use_room(int link)
{
	struct ps_pool *pool = th_attach_name("outside");
	const struct th_gpu *gpu = th_gpu_open();
	size_t before = th_gpu_free_bytes(gpu);
	uint64_t start;

	th_await(link);
	th_assert_ok(ps_mem_take_outside(pool, OUTSIDE));
	assert_int_equal(th_gpu_free_bytes(gpu), before + OUTSIDE);
	assert_int_equal(of_client(getpid(), "outside"), OUTSIDE);
	th_assert_ok(ps_mem_give_outside(pool, OUTSIDE));
	start = th_now_ns();
	while (of_client(getpid(), "outside") != 0 ||
	       th_gpu_free_bytes(gpu) != before)
		rest_since(start);
	th_assert_ok(ps_detach(pool));
}

static void test_room_outside_is_the_drivers_and_comes_back(void **state)
{
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, use_room);
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

static void cache_all(int link)
{
	struct ps_pool *pool = th_attach_name("idle");

	th_assert_ok(
		ps_mem_free(pool, th_alloc(pool, TH_DAEMON_LEASES * WHOLE)));
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_detach(pool));
}

static void take_all(int link)
{
	struct ps_pool *pool = th_attach_name("outside");

	th_assert_ok(ps_mem_take_outside(pool, TH_DAEMON_LEASES * WHOLE));
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_detach(pool));
}

static void test_room_outside_is_made_of_what_others_cache(void **state)
{
	struct th_client idle, taker;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&idle, cache_all);
	th_await(idle.link);
	th_client_start(&taker, take_all);
	th_await(taker.link);
	th_client_finish(&taker);
	th_client_finish(&idle);
	th_daemon_stop(&daemon);
}

/* What is parked counts towards the limit, and is no room for others. */
static void park_and_take(int link)
{
	struct ps_pool *pool = th_attach_name("parked");
	const uint64_t all = TH_DAEMON_LEASES * WHOLE;
	uint64_t start = th_now_ns();

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, all)));
	while (of_client(getpid(), "parked") != (int64_t)all)
		rest_since(start);
	th_assert_ok(ps_mem_take_outside(pool, all));
	assert_int_equal(of_client(getpid(), "outside"), all);
	th_await(link);
	th_assert_ok(ps_detach(pool));
}

static void test_room_outside_is_made_of_what_is_parked(void **state)
{
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, park_and_take);
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

static void test_room_outside_of_the_dead_is_the_pools_again(void **state)
{
	struct th_client taker;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&taker, take_all);
	th_await(taker.link);
	th_client_kill(&taker);
	th_daemon_stop(&daemon);
}

/* ---- tickets from hand to hand ---- */

static void send_ticket(int link, const struct ps_ticket *ticket)
{
	assert_int_equal(send(link, ticket, sizeof(*ticket), MSG_NOSIGNAL),
			 sizeof(*ticket));
}

static struct ps_ticket receive_ticket(int link)
{
	struct ps_ticket ticket;

	assert_int_equal(recv(link, &ticket, sizeof(ticket), MSG_WAITALL),
			 sizeof(ticket));
	return ticket;
}

static void pass_on(const struct th_client *from, const struct th_client *to)
{
	const struct ps_ticket ticket = receive_ticket(from->link);

	send_ticket(to->link, &ticket);
}

/* A block between two others, and its ticket. */
struct goods {
	struct ps_pool *pool;
	void *small;
	void *block;
};

static struct goods produce(int link)
{
	struct goods goods = { .pool = th_attach_name("producer") };
	struct ps_ticket ticket;

	goods.small = th_alloc(goods.pool, 4096);
	goods.block = th_alloc(goods.pool, BLOCK);
	th_pattern_write(goods.pool, goods.block, BLOCK, SEED);
	th_assert_ok(ps_ticket_issue(goods.pool, goods.block, &ticket));
	send_ticket(link, &ticket);
	return goods;
}

static void finish(struct goods *goods)
{
	th_assert_ok(ps_mem_free(goods->pool, goods->block));
	th_assert_ok(ps_mem_free(goods->pool, goods->small));
	th_assert_ok(ps_detach(goods->pool));
}

static void give_away(struct goods *goods)
{
	uint64_t released;

	th_assert_ok(ps_mem_free(goods->pool, goods->block));
	goods->block = NULL;
	th_assert_ok(ps_mem_trim(goods->pool, 0, &released));
	assert_true(released >= BLOCK);
}

static void produce_and_check(int link)
{
	struct goods goods = produce(link);

	th_await(link);
	th_pattern_check(goods.pool, goods.block, BLOCK, ANSWER);
	finish(&goods);
}

static void consume_and_answer(int link)
{
	struct ps_pool *pool = th_attach_name("consumer");
	const struct ps_ticket ticket = receive_ticket(link);
	void *at;

	th_assert_ok(ps_ticket_open(pool, &ticket, &at));
	th_pattern_check(pool, at, BLOCK, SEED);
	th_pattern_write(pool, at, BLOCK, ANSWER);
	assert_int_equal(of_client(getpid(), "opened"), th_stats(pool).opened);
	th_assert_ok(ps_ticket_close(pool, at));
	assert_int_equal(of_client(getpid(), "opened"), 0);
	th_await(link);
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_shares_a_block_with_another_process(void **state)
{
	struct th_client producer, consumer;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&producer, produce_and_check);
	th_client_start(&consumer, consume_and_answer);
	pass_on(&producer, &consumer);
	th_client_finish(&consumer);
	th_client_finish(&producer);
	th_daemon_stop(&daemon);
}

/* Says when it is open; told, it looks whether all is as it was. */
static void consume_and_keep(int link)
{
	struct ps_pool *pool = th_attach_name("consumer");
	const struct ps_ticket ticket = receive_ticket(link);
	void *at;

	th_assert_ok(ps_ticket_open(pool, &ticket, &at));
	th_tell(link);
	th_await(link);
	th_pattern_check(pool, at, BLOCK, SEED);
	th_assert_ok(ps_ticket_close(pool, at));
	th_assert_ok(ps_detach(pool));
}

/* Gives it back to the daemon, then has all there is. */
static void produce_and_take_all(int link)
{
	struct goods goods = produce(link);
	struct ps_mem_stats stats;
	void *rest;

	th_await(link);
	give_away(&goods);
	stats = th_stats(goods.pool);
	rest = th_alloc(goods.pool,
			TH_DAEMON_LEASES * WHOLE - stats.inserted - BLOCK);
	th_pattern_write(goods.pool, rest, BLOCK, ANSWER);
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_mem_free(goods.pool, rest));
	finish(&goods);
}

static void test_opened_memory_that_was_given_back_is_nobody_elses(void **state)
{
	struct th_client producer, consumer;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&producer, produce_and_take_all);
	th_client_start(&consumer, consume_and_keep);
	pass_on(&producer, &consumer);
	th_await(consumer.link);
	th_tell(producer.link);
	th_await(producer.link);
	th_client_finish(&consumer);
	th_client_finish(&producer);
	th_daemon_stop(&daemon);
}

static void produce_and_stay(int link)
{
	struct goods goods = produce(link);

	th_await(link);
	finish(&goods);
}

static void open_in_vain(int link)
{
	struct ps_pool *pool = th_attach_name("late");
	const struct ps_ticket ticket = receive_ticket(link);
	void *at;

	th_assert_status(ps_ticket_open(pool, &ticket, &at), PS_REFUSED);
	assert_int_equal(th_stats(pool).opened, 0);
	th_await(link);
	th_assert_ok(ps_detach(pool));
}

static void await_gone(pid_t pid)
{
	uint64_t start = th_now_ns();
	bool is_there = true;

	while (is_there) {
		json_t *status = th_daemon_status();

		is_there = th_status_client(status, pid) != NULL;
		json_decref(status);
		rest_since(start);
	}
}

static void refuse_to(const struct ps_ticket *ticket)
{
	struct th_client late;

	th_client_start(&late, open_in_vain);
	send_ticket(late.link, ticket);
	th_client_finish(&late);
}

static void
test_ticket_of_the_dead_is_refused_and_what_is_open_stays(void **state)
{
	struct th_client producer, consumer;
	struct th_daemon daemon;
	struct ps_ticket ticket;
	pid_t pid;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&producer, produce_and_stay);
	ticket = receive_ticket(producer.link);
	th_client_start(&consumer, consume_and_keep);
	send_ticket(consumer.link, &ticket);
	th_await(consumer.link);
	pid = producer.pid;
	th_client_kill(&producer);
	await_gone(pid);
	refuse_to(&ticket);
	th_client_finish(&consumer);
	th_daemon_stop(&daemon);
}

/* ---- tickets that are no good ---- */

static void produce_again(int link)
{
	struct goods goods = produce(link);

	th_await(link);
	give_away(&goods);
	goods.block = th_alloc(goods.pool, BLOCK);
	th_tell(link);
	th_await(link);
	finish(&goods);
}

static void test_ticket_older_than_the_lease_is_refused(void **state)
{
	struct th_client producer;
	struct th_daemon daemon;
	struct ps_ticket ticket;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&producer, produce_again);
	ticket = receive_ticket(producer.link);
	th_tell(producer.link);
	th_await(producer.link);
	refuse_to(&ticket);
	th_client_finish(&producer);
	th_daemon_stop(&daemon);
}

static void open_forged(int link)
{
	struct ps_pool *pool = th_attach_name("forger");
	struct ps_ticket ticket = receive_ticket(link);
	void *at;

	for (size_t i = 0; i < sizeof(ticket.bytes); i++) {
		ticket.bytes[i] ^= 0x40;
		th_assert_status(ps_ticket_open(pool, &ticket, &at),
				 PS_REFUSED);
		ticket.bytes[i] ^= 0x40;
	}
	th_assert_ok(ps_ticket_open(pool, &ticket, &at));
	th_assert_ok(ps_ticket_close(pool, at));
	th_await(link);
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_with_any_byte_changed_is_refused(void **state)
{
	struct th_client producer, forger;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&producer, produce_and_stay);
	th_client_start(&forger, open_forged);
	pass_on(&producer, &forger);
	th_client_finish(&forger);
	th_client_finish(&producer);
	th_daemon_stop(&daemon);
}

static void open_own(int link)
{
	struct goods goods = produce(link);
	struct ps_ticket ticket;
	void *at;

	th_assert_ok(ps_ticket_issue(goods.pool, goods.block, &ticket));
	th_assert_status(ps_ticket_open(goods.pool, &ticket, &at), PS_NOT_OURS);
	th_await(link);
	finish(&goods);
}

static void test_ticket_of_ones_own_is_not_opened(void **state)
{
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, open_own);
	(void)receive_ticket(client.link);
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

/* ---- the daemon dies ---- */

/* Room, a ticket that another has, and leases: all of it goes on. */
static void keep_everything(int link)
{
	struct goods goods = produce(link);
	struct ps_ticket ticket;
	const int64_t taken = (int64_t)OUTSIDE;

	th_assert_ok(ps_mem_take_outside(goods.pool, OUTSIDE));
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_mem_take_outside(goods.pool, WHOLE));
	assert_int_equal(of_client(getpid(), "outside"),
			 taken + (int64_t)WHOLE);
	th_assert_ok(ps_ticket_issue(goods.pool, goods.block, &ticket));
	send_ticket(link, &ticket);
	th_await(link);
	th_pattern_check(goods.pool, goods.block, BLOCK, SEED);
	finish(&goods);
}

static void kill_meanwhile(void (*kill_it)(struct th_daemon *daemon))
{
	struct th_client producer, consumer;
	struct th_daemon daemon;
	struct ps_ticket before, after;

	th_daemon_start(&daemon, NULL);
	th_client_start(&producer, keep_everything);
	before = receive_ticket(producer.link);
	th_await(producer.link);
	th_client_start(&consumer, consume_and_keep);
	send_ticket(consumer.link, &before);
	th_await(consumer.link);
	kill_it(&daemon);
	th_tell(producer.link);
	after = receive_ticket(producer.link);
	assert_memory_equal(before.bytes, after.bytes, sizeof(after.bytes));
	th_client_finish(&consumer);
	th_client_finish(&producer);
	th_daemon_stop(&daemon);
}

static void test_room_and_tickets_outlive_the_agent(void **state)
{
	(void)state;
	kill_meanwhile(th_daemon_kill_agent);
}

static void test_room_and_tickets_outlive_the_keeper(void **state)
{
	(void)state;
	kill_meanwhile(th_daemon_kill_keeper);
}

/* ---- exports ---- */

static void export_one(int link)
{
	struct ps_pool *pool = th_attach_name("exporter");
	void *block = th_alloc(pool, WHOLE);
	int fd;

	th_assert_ok(ps_mem_export_segment(pool, block, &fd));
	close(fd);
	th_assert_ok(ps_mem_free(pool, block));
	th_await(link);
	th_assert_ok(ps_detach(pool));
}

static void test_segment_exported_is_made_anew(void **state)
{
	struct th_client client;
	struct th_daemon daemon;
	uint64_t start = th_now_ns();
	int64_t remakes;

	(void)state;
	th_daemon_start(&daemon, NULL);
	remakes = of_daemon("counters.remakes");
	th_client_start(&client, export_one);
	th_client_finish(&client);
	while (of_daemon("counters.remakes") == remakes)
		rest_since(start);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_room_outside_is_the_drivers_and_comes_back),
	TH_DAEMON_TEST(test_room_outside_is_made_of_what_others_cache),
	TH_DAEMON_TEST(test_room_outside_is_made_of_what_is_parked),
	TH_DAEMON_TEST(test_room_outside_of_the_dead_is_the_pools_again),
	TH_DAEMON_TEST(test_ticket_shares_a_block_with_another_process),
	TH_DAEMON_TEST(test_opened_memory_that_was_given_back_is_nobody_elses),
	TH_DAEMON_TEST(
		test_ticket_of_the_dead_is_refused_and_what_is_open_stays),
	TH_DAEMON_TEST(test_ticket_older_than_the_lease_is_refused),
	TH_DAEMON_TEST(test_ticket_with_any_byte_changed_is_refused),
	TH_DAEMON_TEST(test_ticket_of_ones_own_is_not_opened),
	TH_DAEMON_TEST(test_room_and_tickets_outlive_the_agent),
	TH_DAEMON_TEST(test_room_and_tickets_outlive_the_keeper),
	TH_DAEMON_TEST(test_segment_exported_is_made_anew),
};

TH_GPU_MAIN("daemon_outside", tests, NULL)
