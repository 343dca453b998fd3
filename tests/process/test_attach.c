/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A pool that a daemon keeps: coming, leaving, and what it is not for. The
 * daemon is a pretend one, so that each test sees what it was told. */
#include "tests/support/pretend_daemon.h"

#include "ipc/wire.h"
#include "tests/support/closing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A block of its own, as long as a segment. */
#define WHOLE TH_SEGMENT

/* ---- coming and going ---- */

static void come_and_go(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	uint64_t offset, size;

	assert_int_equal(ps_pool_size(pool), TH_SEGMENTS * TH_SEGMENT);
	assert_int_equal(ps_pool_segment_size(pool), TH_SEGMENT);
	th_assert_ok(ps_pool_region(pool, PS_REGION_PARAMETER, &offset, &size));
	assert_int_equal(size, TH_PARAMETERS * TH_SEGMENT);
	th_assert_ok(ps_detach(pool));
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_LEAVE, 0), 1);
}

static void test_attach_and_detach_tell_the_daemon(void **state)
{
	(void)state;
	th_pretend_play(come_and_go);
}

static void come_again_and_again(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	size_t before;

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, WHOLE)));
	th_assert_ok(ps_detach(pool));
	before = th_open_fds();
	for (int i = 0; i < 5; i++) {
		th_assert_ok(ps_attach(NULL, &pool));
		th_assert_ok(ps_mem_free(pool, th_alloc(pool, WHOLE)));
		th_assert_ok(ps_detach(pool));
	}
	assert_int_equal(th_open_fds(), before);
	th_assert_books(me, 0, 0);
}

static void test_attach_again_leaves_no_descriptor(void **state)
{
	(void)state;
	th_pretend_play(come_again_and_again);
}

static void find_nobody(const struct th_part *me)
{
	struct ps_pool *pool;

	th_await(me->link[0]);
	th_order(me, TH_ORDER_END, 0, 0);
	th_assert_status(ps_attach(NULL, &pool), PS_NO_DAEMON);
	th_assert_detail(getenv("POOLSWITCH_SOCKET"));
}

static void test_attach_without_a_daemon_names_the_socket(void **state)
{
	(void)state;
	th_pretend_play(find_nobody);
}

static void be_refused(const struct th_part *me)
{
	struct ps_pool *pool;
	size_t before;

	th_await(me->link[0]);
	before = th_open_fds();
	th_order(me, TH_ORDER_DENY_ATTACH, PS_REFUSED, 1);
	th_assert_status(ps_attach(NULL, &pool), PS_REFUSED);
	th_assert_detail("not now");
	assert_int_equal(th_open_fds(), before);
}

static void test_attach_refused_has_the_daemons_reason(void **state)
{
	(void)state;
	th_pretend_play(be_refused);
}

static void be_told_again(const struct th_part *me)
{
	struct ps_pool *pool;

	th_await(me->link[0]);
	th_order(me, TH_ORDER_DENY_ATTACH, PS_AGAIN, 3);
	th_assert_ok(ps_attach(NULL, &pool));
	th_assert_ok(ps_detach(pool));
}

static void test_attach_told_again_tries_again(void **state)
{
	(void)state;
	th_pretend_play(be_told_again);
}

/* ---- configuration ---- */

static void test_attach_config_of_a_long_name_is_refused(void **state)
{
	struct ps_attach_config *config;
	char name[80];

	(void)state;
	memset(name, 'x', sizeof(name));
	name[64] = '\0';
	th_assert_ok(ps_attach_config_new(&config));
	th_assert_status(ps_attach_config_set_name(config, name),
			 PS_INVALID_ARGUMENT);
	th_assert_ok(ps_attach_config_set_name(config, name + 1));
	th_assert_status(ps_attach_config_set_name(config, "a\nb"),
			 PS_INVALID_ARGUMENT);
	ps_attach_config_free(config);
}

static void test_attach_config_of_a_bad_path_is_refused(void **state)
{
	struct ps_attach_config *config;
	char path[200];

	(void)state;
	memset(path, 'x', sizeof(path));
	path[199] = '\0';
	th_assert_ok(ps_attach_config_new(&config));
	th_assert_status(ps_attach_config_set_socket(config, path),
			 PS_INVALID_ARGUMENT);
	th_assert_status(ps_attach_config_set_socket(config, ""),
			 PS_INVALID_ARGUMENT);
	th_assert_ok(ps_attach_config_set_socket(config, NULL));
	ps_attach_config_free(config);
}

static void go_by_the_config(const struct th_part *me)
{
	struct ps_attach_config *config;
	struct ps_pool *pool;
	char path[108];

	th_await(me->link[0]);
	strcpy(path, getenv("POOLSWITCH_SOCKET"));
	setenv("POOLSWITCH_SOCKET", "/nowhere", 1);
	th_assert_ok(ps_attach_config_new(&config));
	th_assert_ok(ps_attach_config_set_socket(config, path));
	th_assert_ok(ps_attach(config, &pool));
	ps_attach_config_free(config);
	th_assert_ok(ps_detach(pool));
}

static void test_attach_config_socket_goes_before_the_environment(void **state)
{
	(void)state;
	th_pretend_play(go_by_the_config);
}

/* ---- what an attached pool does not do ---- */

static void insert_and_send(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	int pair[2];

	th_socketpair(SOCK_STREAM, pair);
	th_assert_status(ps_insert_shared(pool, TH_SEGMENT, 0, NULL, 0),
			 PS_UNSUPPORTED);
	th_assert_status(ps_insert_region(pool, PS_REGION_COMPUTATION, NULL, 0),
			 PS_UNSUPPORTED);
	th_assert_status(ps_clear_shared(pool), PS_UNSUPPORTED);
	th_assert_detail("ps_detach()");
	th_assert_status(ps_send_shared(pool, pair[0], 0, 0), PS_UNSUPPORTED);
	th_assert_detail("ps_attach()");
	close(pair[0]);
	close(pair[1]);
	th_assert_ok(ps_detach(pool));
}

static void test_attached_pool_is_not_inserted_nor_sent(void **state)
{
	(void)state;
	th_pretend_play(insert_and_send);
}

static void detach_another(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();

	(void)me;
	th_assert_status(ps_detach(pool), PS_UNSUPPORTED);
	ps_pool_close(pool);
}

static void test_detach_of_another_pool_is_unsupported(void **state)
{
	(void)state;
	th_play(detach_another, NULL);
}

/* ---- leaving ---- */

static void detach_with_blocks(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, 4096);
	char address[32];

	th_assert_status(ps_detach(pool), PS_BUSY);
	snprintf(address, sizeof(address), "%p", block);
	th_assert_detail(address);
	th_put(pool, block, 4);
	assert_int_equal(th_get(pool, block), 4);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
	th_assert_books(me, 0, 0);
}

static void test_detach_with_live_blocks_names_them(void **state)
{
	(void)state;
	th_pretend_play(detach_with_blocks);
}

static void close_with_blocks(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	(void)th_alloc(pool, 3 * WHOLE);
	th_expect_lost(1);
	ps_pool_close(pool);
	th_assert_books(me, 0, 0);
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_LEAVE, 0), 1);
}

static void test_close_with_live_blocks_leaves(void **state)
{
	(void)state;
	th_pretend_play(close_with_blocks);
}

/* ---- a lost GPU ---- */

static void hear_that_it_is_lost(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, 4096), *other;

	th_order(me, TH_ORDER_LOSE, 0, 0);
	(void)th_order(me, TH_ORDER_POLL, 0, 0);
	th_assert_status(ps_mem_alloc(pool, WHOLE, &other), PS_DEVICE_LOST);
	th_assert_status(ps_pool_map(pool, 0, 0), PS_DEVICE_LOST);
	th_assert_status(ps_mem_write(pool, block, &other, 4), PS_DEVICE_LOST);
	th_assert_status(ps_mem_read(pool, &other, block, 4), PS_DEVICE_LOST);
	th_assert_detail("is lost");
	th_assert_ok(ps_mem_free(pool, block));
	ps_pool_close(pool);
}

static void test_lost_gpu_is_told_by_every_call(void **state)
{
	(void)state;
	th_pretend_play(hear_that_it_is_lost);
}

/* ---- beside others ---- */

static void have_two(const struct th_part *me)
{
	struct ps_pool *leased = th_pretend_attach(me), *again;
	void *block = th_alloc(leased, 4096);

	th_put(leased, block, 1);
	th_assert_status(ps_alloc_shared(NULL, &again), PS_ALREADY_RESERVED);
	th_assert_ok(ps_mem_free(NULL, block));
	th_assert_ok(ps_detach(leased));
}

static void test_attached_pool_is_the_default_pool(void **state)
{
	(void)state;
	th_pretend_play(have_two);
}

static struct ps_pool *inherited;
static void *inherited_block;

static void use_in_child(void *arg)
{
	size_t before = th_open_fds();
	void *ptr;

	(void)arg;
	th_assert_status(ps_mem_alloc(inherited, 512, &ptr), PS_FORKED);
	th_assert_status(ps_detach(inherited), PS_FORKED);
	th_assert_status(ps_attach(NULL, &inherited), PS_FORKED);
	ps_pool_close(inherited);
	assert_true(th_open_fds() + 3 <= before);
}

static void fork_a_child(const struct th_part *me)
{
	inherited = th_pretend_attach(me);
	inherited_block = th_alloc(inherited, 4096);
	assert_int_equal(th_wait(th_fork(use_in_child, NULL)), 0);
	th_put(inherited, inherited_block, 1);
	(void)th_order(me, TH_ORDER_POLL, 0, 0);
	th_assert_ok(ps_mem_free(inherited, inherited_block));
	th_assert_ok(ps_detach(inherited));
	th_assert_books(me, 0, 0);
}

static void test_fork_child_of_an_attached_process_is_told(void **state)
{
	(void)state;
	th_pretend_play(fork_a_child);
}

static const struct th_test tests[] = {
	TH_TEST(test_attach_and_detach_tell_the_daemon),
	TH_TEST(test_attach_again_leaves_no_descriptor),
	TH_TEST(test_attach_without_a_daemon_names_the_socket),
	TH_TEST(test_attach_refused_has_the_daemons_reason),
	TH_TEST(test_attach_told_again_tries_again),
	TH_TEST(test_attach_config_of_a_long_name_is_refused),
	TH_TEST(test_attach_config_of_a_bad_path_is_refused),
	TH_TEST(test_attach_config_socket_goes_before_the_environment),
	TH_TEST(test_attached_pool_is_not_inserted_nor_sent),
	TH_TEST(test_detach_of_another_pool_is_unsupported),
	TH_TEST(test_detach_with_live_blocks_names_them),
	TH_TEST(test_close_with_live_blocks_leaves),
	TH_TEST(test_lost_gpu_is_told_by_every_call),
	TH_TEST(test_attached_pool_is_the_default_pool),
	TH_TEST(test_fork_child_of_an_attached_process_is_told),
};

TH_GPU_MAIN("attach", tests, NULL)
