/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The calls for models against a pretend daemon: what it is told, and what
 * becomes of what it says. */
#include "tests/support/pretend_daemon.h"

#include "ipc/wire.h"
#include "lib/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define WHOLE TH_SEGMENT

static void assert_requests(const struct th_part *me, enum ip_type type,
			    uint64_t count)
{
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, type, 0), count);
}

static void assert_word(const struct th_part *me, uint32_t model,
			enum ip_use_word word)
{
	assert_int_equal(th_order(me, TH_ORDER_WORD, model, 0), word);
}

static struct ps_model *attach(struct ps_pool *pool, const char *name)
{
	struct ps_model *model = NULL;

	th_assert_ok(ps_model_attach(pool, name, NULL, &model));
	return model;
}

static void use(struct ps_model *model)
{
	th_assert_ok(ps_model_use(model, PS_PRIORITY_DEFAULT, 1000));
}

static void release(struct ps_model *model)
{
	th_assert_ok(ps_model_release(model, PS_STREAM_DONE));
}

static void *new_stream(struct ps_pool *pool)
{
	void *stream = NULL;

	th_assert_ok(dv_stream_create(pool->device, &stream));
	return stream;
}

static char *address_of(const struct ps_model *model)
{
	struct ps_model_info info = { .struct_size = sizeof(info) };

	th_assert_ok(ps_model_get_info(model, &info));
	return info.address;
}

/* Segment n begins with 100 + n. */
static void fill(const struct th_part *me)
{
	for (uint32_t n = 0; n < TH_PARAMETERS; n++)
		th_order(me, TH_ORDER_FILL, n, 100 + n);
}

static _Atomic bool is_detached;

static void *detach_it(void *arg)
{
	th_assert_ok(ps_model_detach(arg));
	atomic_store(&is_detached, true);
	return NULL;
}

static void describe(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	struct ps_model_info info = { .struct_size = sizeof(info) };
	struct ps_tensor tensor;
	uint32_t number = 0;

	th_assert_ok(ps_model_get_info(alpha, &info));
	assert_string_equal(info.name, "alpha");
	assert_int_equal(info.hash[5], TH_ALPHA);
	assert_int_equal(info.bytes, WHOLE + WHOLE / 2);
	assert_int_equal(info.tensors, TH_MODEL_TENSORS);
	th_assert_ok(ps_model_find_tensor(alpha, "t2", &number));
	assert_int_equal(number, 2);
	th_assert_ok(ps_model_get_tensor(alpha, 2, &tensor));
	assert_string_equal(tensor.name, "t2");
	assert_string_equal(tensor.dtype, "U8");
	assert_int_equal(tensor.shape[0], tensor.bytes);
	assert_ptr_equal(tensor.address, (char *)info.address + tensor.offset);
	th_assert_ok(ps_detach(pool));
}

static void test_model_attached_says_what_it_is(void **state)
{
	(void)state;
	th_pretend_play(describe);
}

static void ask_for_nothing(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	struct ps_model_info info = { .struct_size = 1 };
	struct ps_tensor tensor;
	uint32_t number;

	th_assert_status(ps_model_get_info(alpha, &info), PS_INVALID_ARGUMENT);
	th_assert_status(ps_model_get_tensor(alpha, TH_MODEL_TENSORS, &tensor),
			 PS_OUT_OF_RANGE);
	th_assert_status(ps_model_find_tensor(alpha, "t", &number),
			 PS_INVALID_ARGUMENT);
	th_assert_status(ps_model_find_tensor(alpha, "t9", &number),
			 PS_INVALID_ARGUMENT);
	th_assert_ok(ps_detach(pool));
}

static void test_model_asked_for_what_it_has_not_refuses(void **state)
{
	(void)state;
	th_pretend_play(ask_for_nothing);
}

static void find_by_hash(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	unsigned char hash[PS_MODEL_HASH_BYTES];
	struct ps_model_info info = { .struct_size = sizeof(info) };
	struct ps_model *model = NULL;

	memset(hash, TH_BETA, sizeof(hash));
	th_assert_ok(ps_model_attach(pool, NULL, hash, &model));
	th_assert_ok(ps_model_get_info(model, &info));
	assert_string_equal(info.name, "beta/v2");
	th_assert_ok(ps_detach(pool));
}

static void test_model_asked_for_by_hash_is_found(void **state)
{
	(void)state;
	th_pretend_play(find_by_hash);
}

static void find_wrongly(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *model = NULL;

	th_assert_status(ps_model_attach(pool, NULL, NULL, &model),
			 PS_INVALID_ARGUMENT);
	th_assert_status(ps_model_attach(pool, "a b", NULL, &model),
			 PS_INVALID_ARGUMENT);
	th_assert_status(ps_model_attach(pool, "", NULL, &model),
			 PS_INVALID_ARGUMENT);
	th_assert_status(ps_model_attach(pool, "gamma", NULL, &model),
			 PS_NO_MODEL);
	assert_null(model);
	assert_requests(me, IP_FIND, 1);
	th_assert_ok(ps_detach(pool));
}

static void test_model_asked_for_wrongly_refuses(void **state)
{
	(void)state;
	th_pretend_play(find_wrongly);
}

static void find_too_early(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	th_order(me, TH_ORDER_DENY, PS_AGAIN, 1);
	th_assert_status(ps_model_attach(pool, "beta/v2", NULL, &alpha),
			 PS_AGAIN);
	assert_requests(me, IP_FIND, 2);
	(void)attach(pool, "beta/v2");
	assert_requests(me, IP_ATTACH, 1);
	th_assert_ok(ps_detach(pool));
}

static void test_model_refused_for_now_is_not_asked_for_again(void **state)
{
	(void)state;
	th_pretend_play(find_too_early);
}

static void attach_twice(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	assert_ptr_equal(attach(pool, "alpha"), alpha);
	th_assert_ok(ps_model_detach(alpha));
	assert_requests(me, IP_DROPPED, 0);
	use(alpha);
	th_assert_status(ps_model_detach(alpha), PS_BUSY);
	release(alpha);
	th_assert_ok(ps_model_detach(alpha));
	assert_requests(me, IP_DROPPED, 1);
	assert_word(me, TH_ALPHA, IP_USE_NONE);
	assert_requests(me, IP_JOIN, 1);
	th_assert_ok(ps_detach(pool));
}

static void test_model_attached_twice_is_dropped_once(void **state)
{
	(void)state;
	th_pretend_play(attach_twice);
}

static void read_it(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	char *at = address_of(alpha);
	uint32_t word;

	th_assert_status(ps_mem_read(pool, &word, at, 4), PS_OUT_OF_RANGE);
	use(alpha);
	fill(me);
	assert_word(me, TH_ALPHA, IP_USE_BUSY);
	assert_int_equal(th_get(pool, at), 100);
	assert_int_equal(th_get(pool, at + WHOLE), 101);
	th_assert_status(ps_mem_write(pool, at, &word, 4), PS_READ_ONLY);
	th_assert_status(ps_mem_read(pool, &word, at + WHOLE + WHOLE / 2, 4),
			 PS_OUT_OF_RANGE);
	release(alpha);
	assert_word(me, TH_ALPHA, IP_USE_IDLE);
	th_assert_ok(ps_detach(pool));
}

static void test_model_in_use_can_be_read(void **state)
{
	(void)state;
	th_pretend_play(read_it);
}

static void use_again(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	for (int i = 0; i < 10; i++) {
		use(alpha);
		use(alpha);
		release(alpha);
		assert_word(me, TH_ALPHA, IP_USE_BUSY);
		release(alpha);
		assert_word(me, TH_ALPHA, IP_USE_IDLE);
	}
	assert_requests(me, IP_USE, 1);
	th_assert_ok(ps_detach(pool));
}

static void test_model_used_again_costs_no_message(void **state)
{
	(void)state;
	th_pretend_play(use_again);
}

static void use_evicted(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	use(alpha);
	fill(me);
	release(alpha);
	assert_true(th_order(me, TH_ORDER_TAKE_BACK, TH_ALPHA, 0));
	use(alpha);
	assert_requests(me, IP_USE, 2);
	assert_false(th_order(me, TH_ORDER_TAKE_BACK, TH_ALPHA, 0));
	assert_int_equal(th_get(pool, address_of(alpha)), 100);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_model_evicted_is_asked_for_and_stays_mapped(void **state)
{
	(void)state;
	th_pretend_play(use_evicted);
}

static void use_elsewhere(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	char *at = address_of(alpha);

	use(alpha);
	fill(me);
	release(alpha);
	assert_true(th_order(me, TH_ORDER_TAKE_BACK, TH_ALPHA, 0));
	th_order(me, TH_ORDER_PLACE, TH_ALPHA, 1);
	use(alpha);
	assert_int_equal(th_get(pool, at), 101);
	assert_int_equal(th_get(pool, at + WHOLE), 102);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_model_back_in_other_segments_has_its_address(void **state)
{
	(void)state;
	th_pretend_play(use_elsewhere);
}

static void use_both(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	struct ps_model *beta = attach(pool, "beta/v2");

	use(alpha);
	fill(me);
	release(alpha);
	assert_true(th_order(me, TH_ORDER_TAKE_BACK, TH_ALPHA, 0));
	th_order(me, TH_ORDER_PLACE, TH_BETA, 0);
	use(beta);
	assert_int_equal(th_get(pool, address_of(beta)), 100);
	th_order(me, TH_ORDER_PLACE, TH_ALPHA, 2);
	use(alpha);
	assert_int_equal(th_get(pool, address_of(alpha)), 102);
	assert_int_equal(th_get(pool, address_of(beta)), 100);
	release(alpha);
	release(beta);
	th_assert_ok(ps_detach(pool));
}

static void test_models_that_share_segments_in_turn_are_told_apart(void **state)
{
	(void)state;
	th_pretend_play(use_both);
}

static void misuse(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);

	th_assert_status(ps_model_wait(alpha, stream, 0), PS_INVALID_ARGUMENT);
	th_assert_status(ps_model_release(alpha, stream), PS_INVALID_ARGUMENT);
	use(alpha);
	th_assert_status(ps_model_wait(alpha, stream, TH_MODEL_TENSORS),
			 PS_OUT_OF_RANGE);
	th_assert_status(ps_model_use(alpha, 1, -7), PS_INVALID_ARGUMENT);
	release(alpha);
	th_assert_status(ps_model_release(alpha, PS_STREAM_DONE),
			 PS_INVALID_ARGUMENT);
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
}

static void
test_model_not_in_use_is_neither_waited_for_nor_released(void **state)
{
	(void)state;
	th_pretend_play(misuse);
}

static void wait_for_it(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);
	struct dv_fence *fence = NULL;

	use(alpha);
	th_order(me, TH_ORDER_SAY_LAND, TH_ALPHA, 1);
	th_assert_ok(ps_model_wait(alpha, stream, 1));
	th_assert_ok(dv_fence_record(pool->device, stream, &fence));
	th_order(me, TH_ORDER_LAND, TH_ALPHA, 1);
	usleep(20000);
	assert_int_equal(dv_fence_poll(pool->device, fence), PS_AGAIN);
	th_order(me, TH_ORDER_LAND, TH_ALPHA, 2);
	th_assert_ok(dv_fence_wait(pool->device, fence));
	dv_fence_free(pool->device, fence);
	release(alpha);
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
}

static void test_model_waited_for_holds_the_stream(void **state)
{
	(void)state;
	th_pretend_play(wait_for_it);
}

/* The GPU's own counter stays 0: a wait for that would never end. */
static void wait_for_nothing(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);

	use(alpha);
	th_order(me, TH_ORDER_SAY_LAND, TH_ALPHA, 3);
	th_assert_ok(ps_model_wait(alpha, stream, 2));
	th_assert_ok(dv_stream_wait(pool->device, stream));
	release(alpha);
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
}

static void test_model_that_has_landed_is_not_waited_for(void **state)
{
	(void)state;
	th_pretend_play(wait_for_nothing);
}

static void release_early(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);

	use(alpha);
	th_assert_ok(ps_model_wait(alpha, stream, 3));
	th_assert_ok(ps_model_release(alpha, stream));
	th_assert_ok(ps_model_check(alpha));
	assert_word(me, TH_ALPHA, IP_USE_BUSY);
	th_order(me, TH_ORDER_LAND, TH_ALPHA, 4);
	th_assert_ok(dv_stream_wait(pool->device, stream));
	th_assert_ok(ps_model_check(alpha));
	assert_word(me, TH_ALPHA, IP_USE_IDLE);
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
}

static void
test_model_released_behind_a_stream_stays_until_it_is_done(void **state)
{
	(void)state;
	th_pretend_play(release_early);
}

static void detach_early(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);
	pthread_t thread;

	use(alpha);
	th_assert_ok(ps_model_wait(alpha, stream, 3));
	th_assert_ok(ps_model_release(alpha, stream));
	pthread_create(&thread, NULL, detach_it, alpha);
	usleep(20000);
	assert_false(atomic_load(&is_detached));
	th_order(me, TH_ORDER_LAND, TH_ALPHA, 4);
	pthread_join(thread, NULL);
	assert_requests(me, IP_DROPPED, 1);
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
}

static void test_model_detached_waits_for_its_runs(void **state)
{
	(void)state;
	th_pretend_play(detach_early);
}

static void fail_load(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	use(alpha);
	th_assert_ok(ps_model_check(alpha));
	th_order(me, TH_ORDER_FAIL, TH_ALPHA, 0);
	th_assert_status(ps_model_check(alpha), PS_LOAD_FAILED);
	th_assert_status(ps_model_use(alpha, 1, 0), PS_LOAD_FAILED);
	release(alpha);
	th_assert_status(ps_model_check(alpha), PS_LOAD_FAILED);
	use(alpha);
	assert_requests(me, IP_USE, 2);
	th_assert_ok(ps_model_check(alpha));
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_model_whose_load_failed_is_told_and_loaded_again(void **state)
{
	(void)state;
	th_pretend_play(fail_load);
}

static void fail_in_flight(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);

	use(alpha);
	th_assert_ok(ps_model_wait(alpha, stream, 3));
	th_assert_ok(ps_model_release(alpha, stream));
	th_order(me, TH_ORDER_FAIL, TH_ALPHA, 0);
	th_order(me, TH_ORDER_LAND, TH_ALPHA, 4);
	use(alpha);
	th_assert_ok(dv_stream_wait(pool->device, stream));
	assert_requests(me, IP_USE, 2);
	th_assert_ok(ps_model_check(alpha));
	release(alpha);
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
}

static void test_model_whose_load_failed_is_used_after_its_runs(void **state)
{
	(void)state;
	th_pretend_play(fail_in_flight);
}

static void be_denied(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	th_order(me, TH_ORDER_DENY, PS_TIMED_OUT, 1);
	th_assert_status(ps_model_use(alpha, 1, 0), PS_TIMED_OUT);
	th_assert_detail("denied as ordered");
	th_order(me, TH_ORDER_DENY, PS_OUT_OF_MEMORY, 1);
	th_assert_status(ps_model_use(alpha, 1, 5000), PS_OUT_OF_MEMORY);
	assert_word(me, TH_ALPHA, IP_USE_NONE);
	use(alpha);
	release(alpha);
	assert_requests(me, IP_ATTACH, 1);
	th_assert_ok(ps_detach(pool));
}

static void test_model_denied_keeps_the_connection(void **state)
{
	(void)state;
	th_pretend_play(be_denied);
}

static void set_costs(const struct th_part *me)
{
	static const uint32_t costs[TH_MODEL_TENSORS] = { 1, 2, 3, 4 };
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	th_assert_status(ps_model_set_costs(alpha, costs, 3),
			 PS_INVALID_ARGUMENT);
	assert_requests(me, IP_COSTS, 0);
	th_assert_ok(ps_model_set_costs(alpha, costs, TH_MODEL_TENSORS));
	assert_requests(me, IP_COSTS, 1);
	th_assert_ok(ps_detach(pool));
}

static void test_model_costs_are_sent_for_each_tensor(void **state)
{
	(void)state;
	th_pretend_play(set_costs);
}

static void lose(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	use(alpha);
	th_order(me, TH_ORDER_LOSE, 0, 0);
	while (ps_model_check(alpha) != PS_DEVICE_LOST)
		usleep(1000);
	th_assert_status(ps_model_use(alpha, 1, 0), PS_DEVICE_LOST);
	th_assert_ok(ps_model_release(alpha, NULL));
	th_assert_ok(ps_model_detach(alpha));
	th_assert_ok(ps_detach(pool));
}

static void test_model_of_a_lost_gpu_is_let_go(void **state)
{
	(void)state;
	th_pretend_play(lose);
}

static void leave(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);

	(void)attach(pool, "beta/v2");
	use(alpha);
	use(alpha);
	th_assert_ok(ps_model_release(alpha, stream));
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
	assert_requests(me, IP_LEAVE, 1);
}

static void test_model_in_use_leaves_with_the_pool(void **state)
{
	(void)state;
	th_pretend_play(leave);
}

static void stay_below(const struct th_part *me)
{
	struct ps_ticket ticket = th_pretend_ticket(12, 1, 0, 512);
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *at = NULL;

	use(alpha);
	th_assert_ok(ps_ticket_open(pool, &ticket, &at));
	assert_true((uint64_t)(uintptr_t)at <
		    ip_models_base(pool->base, pool->window, WHOLE));
	assert_true(address_of(alpha) > (char *)at);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_model_window_keeps_tickets_below_it(void **state)
{
	(void)state;
	th_pretend_play(stay_below);
}

static const struct th_test tests[] = {
	TH_TEST(test_model_attached_says_what_it_is),
	TH_TEST(test_model_asked_for_what_it_has_not_refuses),
	TH_TEST(test_model_asked_for_by_hash_is_found),
	TH_TEST(test_model_asked_for_wrongly_refuses),
	TH_TEST(test_model_refused_for_now_is_not_asked_for_again),
	TH_TEST(test_model_attached_twice_is_dropped_once),
	TH_TEST(test_model_in_use_can_be_read),
	TH_TEST(test_model_used_again_costs_no_message),
	TH_TEST(test_model_evicted_is_asked_for_and_stays_mapped),
	TH_TEST(test_model_back_in_other_segments_has_its_address),
	TH_TEST(test_models_that_share_segments_in_turn_are_told_apart),
	TH_TEST(test_model_not_in_use_is_neither_waited_for_nor_released),
	TH_TEST(test_model_waited_for_holds_the_stream),
	TH_TEST(test_model_that_has_landed_is_not_waited_for),
	TH_TEST(test_model_released_behind_a_stream_stays_until_it_is_done),
	TH_TEST(test_model_detached_waits_for_its_runs),
	TH_TEST(test_model_whose_load_failed_is_told_and_loaded_again),
	TH_TEST(test_model_whose_load_failed_is_used_after_its_runs),
	TH_TEST(test_model_denied_keeps_the_connection),
	TH_TEST(test_model_costs_are_sent_for_each_tensor),
	TH_TEST(test_model_of_a_lost_gpu_is_let_go),
	TH_TEST(test_model_in_use_leaves_with_the_pool),
	TH_TEST(test_model_window_keeps_tickets_below_it),
};

TH_GPU_MAIN("model_calls", tests, NULL)
