/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What a daemon wants of an attached model, and what becomes of it when the
 * daemon goes, lies, or forgets. */
#include "tests/support/pretend_daemon.h"

#include "ipc/wire.h"
#include "lib/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

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

static void assert_yield(const struct th_part *me, uint32_t flags,
			 enum ip_yielded_state state)
{
	assert_int_equal(th_order(me, TH_ORDER_YIELD, TH_ALPHA, flags), state);
}

static void await_requests(const struct th_part *me, enum ip_type type,
			   uint64_t count)
{
	while (th_order(me, TH_ORDER_REQUESTS, type, 0) < count)
		usleep(1000);
	assert_requests(me, type, count);
}

/* The answer to what was asked for again may be on its way. */
static enum ps_status use_late(struct ps_model *model)
{
	enum ps_status status;

	while ((status = ps_model_use(model, 1, 0)) == PS_OK) {
		release(model);
		usleep(1000);
	}
	return status;
}

static void be_child(void *arg)
{
	struct ps_model_info info = { .struct_size = sizeof(info) };
	struct ps_model *model = arg;

	th_assert_status(ps_model_use(model, 1, 0), PS_FORKED);
	th_assert_status(ps_model_release(model, NULL), PS_FORKED);
	th_assert_status(ps_model_check(model), PS_FORKED);
	th_assert_status(ps_model_detach(model), PS_FORKED);
	th_assert_ok(ps_model_get_info(model, &info));
	_exit(0);
}

struct user {
	struct ps_model *model;
	pthread_t thread;
	uint64_t runs;
};

static _Atomic bool is_over;

/* What is in use is mapped, whatever the daemon wants of it. */
static void *use_often(void *arg)
{
	struct user *user = arg;
	uint32_t word;

	while (!atomic_load(&is_over)) {
		use(user->model);
		th_assert_ok(ps_mem_read(NULL, &word, address_of(user->model),
					 sizeof(word)));
		release(user->model);
		user->runs++;
	}
	return NULL;
}

/* Takes back what is idle, and moves it. */
static void disturb(const struct th_part *me, uint32_t i)
{
	uint32_t model = i % 4 < 2 ? TH_ALPHA : TH_BETA;

	if (th_order(me, TH_ORDER_TAKE_BACK, model, 0))
		th_order(me, TH_ORDER_PLACE, model, i % 3);
	usleep(500);
}

static void yield_idle(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	use(alpha);
	release(alpha);
	assert_yield(me, 0, IP_YIELDED_IDLE);
	/* The daemon has not taken the word back yet. */
	use(alpha);
	assert_requests(me, IP_USE, 2);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_yield_of_an_idle_model_is_answered_at_once(void **state)
{
	(void)state;
	th_pretend_play(yield_idle);
}

static void yield_busy(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	use(alpha);
	assert_yield(me, 0, IP_YIELDED_BUSY);
	assert_word(me, TH_ALPHA, IP_USE_BUSY);
	release(alpha);
	assert_int_equal(th_order(me, TH_ORDER_YIELDED, 0, 0), TH_ALPHA);
	use(alpha);
	assert_requests(me, IP_USE, 2);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void
test_yield_of_a_model_in_use_is_answered_when_it_is_released(void **state)
{
	(void)state;
	th_pretend_play(yield_busy);
}

static void yield_running(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);

	use(alpha);
	th_assert_ok(ps_model_wait(alpha, stream, 3));
	th_assert_ok(ps_model_release(alpha, stream));
	assert_yield(me, 0, IP_YIELDED_BUSY);
	th_order(me, TH_ORDER_LAND, TH_ALPHA, 4);
	/* No call of ours comes between. */
	assert_int_equal(th_order(me, TH_ORDER_YIELDED, 0, 0), TH_ALPHA);
	assert_word(me, TH_ALPHA, IP_USE_IDLE);
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
}

static void
test_yield_of_a_model_whose_run_goes_on_is_answered_after_it(void **state)
{
	(void)state;
	th_pretend_play(yield_running);
}

static void yield_memory(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	uint32_t word;

	use(alpha);
	release(alpha);
	assert_yield(me, IP_YIELD_UNMAP, IP_YIELDED_IDLE);
	th_assert_status(ps_mem_read(pool, &word, address_of(alpha), 4),
			 PS_OUT_OF_RANGE);
	use(alpha);
	th_assert_ok(ps_mem_read(pool, &word, address_of(alpha), 4));
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_yield_of_the_memory_unmaps_what_is_idle(void **state)
{
	(void)state;
	th_pretend_play(yield_memory);
}

static void yield_memory_late(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	uint32_t word;

	use(alpha);
	use(alpha);
	assert_yield(me, IP_YIELD_UNMAP, IP_YIELDED_BUSY);
	release(alpha);
	th_assert_ok(ps_mem_read(pool, &word, address_of(alpha), 4));
	release(alpha);
	assert_int_equal(th_order(me, TH_ORDER_YIELDED, 0, 0), TH_ALPHA);
	th_assert_status(ps_mem_read(pool, &word, address_of(alpha), 4),
			 PS_OUT_OF_RANGE);
	th_assert_ok(ps_detach(pool));
}

static void test_yield_of_the_memory_waits_for_the_last_use(void **state)
{
	(void)state;
	th_pretend_play(yield_memory_late);
}

static void yield_stale(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	uint32_t word;

	use(alpha);
	release(alpha);
	assert_true(th_order(me, TH_ORDER_TAKE_BACK, TH_ALPHA, 0));
	assert_yield(me, IP_YIELD_UNMAP, IP_YIELDED_IDLE);
	th_assert_status(ps_mem_read(pool, &word, address_of(alpha), 4),
			 PS_OUT_OF_RANGE);
	assert_word(me, TH_ALPHA, IP_USE_NONE);
	th_assert_ok(ps_detach(pool));
}

static void test_yield_of_a_mapping_that_is_not_right_unmaps_it(void **state)
{
	(void)state;
	th_pretend_play(yield_stale);
}

static void yield_twice(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	uint32_t word;

	use(alpha);
	assert_yield(me, IP_YIELD_UNMAP, IP_YIELDED_BUSY);
	assert_yield(me, 0, IP_YIELDED_BUSY);
	release(alpha);
	assert_int_equal(th_order(me, TH_ORDER_YIELDED, 0, 0), TH_ALPHA);
	th_assert_status(ps_mem_read(pool, &word, address_of(alpha), 4),
			 PS_OUT_OF_RANGE);
	th_assert_ok(ps_detach(pool));
}

static void test_yield_asked_twice_unmaps_if_either_wants(void **state)
{
	(void)state;
	th_pretend_play(yield_twice);
}

static void yield_unknown(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	(void)attach(pool, "beta/v2");
	assert_yield(me, IP_YIELD_UNMAP, IP_YIELDED_IDLE);
	th_assert_ok(ps_detach(pool));
}

static void test_yield_of_a_model_that_was_never_attached_is_idle(void **state)
{
	(void)state;
	th_pretend_play(yield_unknown);
}

static void yield_lost(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	use(alpha);
	assert_yield(me, IP_YIELD_UNMAP, IP_YIELDED_BUSY);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	await_requests(me, IP_FIND, 2);
	release(alpha);
	assert_yield(me, 0, IP_YIELDED_IDLE);
	assert_word(me, TH_ALPHA, IP_USE_IDLE);
	th_assert_ok(ps_detach(pool));
}

static void
test_yield_of_a_connection_that_is_lost_is_not_answered(void **state)
{
	(void)state;
	th_pretend_play(yield_lost);
}

static void restart(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	(void)attach(pool, "beta/v2");
	use(alpha);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	await_requests(me, IP_FIND, 4);
	assert_requests(me, IP_JOIN, 2);
	assert_word(me, TH_ALPHA, IP_USE_BUSY);
	release(alpha);
	assert_word(me, TH_ALPHA, IP_USE_IDLE);
	use(alpha);
	assert_requests(me, IP_USE, 1);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_restart_joins_again_and_keeps_what_is_in_use(void **state)
{
	(void)state;
	th_pretend_play(restart);
}

static void restart_page(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);

	use(alpha);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	await_requests(me, IP_FIND, 2);
	th_order(me, TH_ORDER_SAY_LAND, TH_ALPHA, 4);
	th_assert_ok(ps_model_wait(alpha, stream, 3));
	th_assert_ok(dv_stream_wait(pool->device, stream));
	release(alpha);
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
}

static void test_restart_shows_what_lands_afterwards(void **state)
{
	(void)state;
	th_pretend_play(restart_page);
}

static void restart_without(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	use(alpha);
	release(alpha);
	th_order(me, TH_ORDER_REMOVE, TH_ALPHA, 0);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	await_requests(me, IP_FIND, 2);
	th_assert_status(use_late(alpha), PS_NO_MODEL);
	th_assert_ok(ps_model_detach(alpha));
	alpha = attach(pool, "alpha");
	use(alpha);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_restart_without_the_model_says_so(void **state)
{
	(void)state;
	th_pretend_play(restart_without);
}

static void cut_use(const struct th_part *me)
{
	static const enum th_cut cuts[] = { TH_CUT_UNREAD, TH_CUT_UNSAID };
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	for (size_t i = 0; i < 2; i++) {
		th_order(me, TH_ORDER_CUT, 1, cuts[i]);
		use(alpha);
		assert_word(me, TH_ALPHA, IP_USE_BUSY);
		release(alpha);
		assert_word(me, TH_ALPHA, IP_USE_IDLE);
		assert_true(th_order(me, TH_ORDER_TAKE_BACK, TH_ALPHA, 0));
	}
	th_assert_ok(ps_detach(pool));
}

static void test_use_cut_off_is_asked_for_again(void **state)
{
	(void)state;
	th_pretend_play(cut_use);
}

static void end(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	struct ps_model *beta = attach(pool, "beta/v2");

	use(alpha);
	release(alpha);
	th_order(me, TH_ORDER_END, 0, 0);
	use(alpha);
	th_assert_status(ps_model_use(beta, 1, 0), PS_NO_DAEMON);
	release(alpha);
	assert_word(me, TH_BETA, IP_USE_NONE);
	th_assert_ok(ps_detach(pool));
}

static void test_use_without_a_daemon_needs_none_where_it_is_right(void **state)
{
	(void)state;
	th_pretend_play(end);
}

static void leave_busy(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	th_order(me, TH_ORDER_DENY_ATTACH, PS_PERMISSION, 100);
	th_order(me, TH_ORDER_CUT, 1, TH_CUT_UNSAID);
	th_assert_status(ps_model_use(alpha, 1, 0), PS_PERMISSION);
	assert_word(me, TH_ALPHA, IP_USE_IDLE);
	th_order(me, TH_ORDER_DENY_ATTACH, 0, 0);
	use(alpha);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_use_left_busy_by_a_lost_answer_is_cleared(void **state)
{
	(void)state;
	th_pretend_play(leave_busy);
}

static void place_files(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	th_order(me, TH_ORDER_LIE, TH_LIE_PLACE_FILES, 1);
	th_assert_status(ps_model_use(alpha, 1, 0), PS_BAD_SEGMENT);
	th_assert_detail("segment 0 of model alpha");
	assert_word(me, TH_ALPHA, IP_USE_IDLE);
	use(alpha);
	assert_requests(me, IP_USE, 2);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_place_of_no_segments_is_refused_and_let_go(void **state)
{
	(void)state;
	th_pretend_play(place_files);
}

static void place_sizes(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	th_order(me, TH_ORDER_LIE, TH_LIE_PLACE_MANY, 3);
	th_assert_status(ps_model_use(alpha, 1, 0), PS_PROTOCOL);
	th_order(me, TH_ORDER_LIE, TH_LIE_PLACE_FEW, 3);
	th_assert_status(ps_model_use(alpha, 1, 0), PS_PROTOCOL);
	th_assert_detail("which takes 2");
	use(alpha);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_place_of_another_size_is_refused(void **state)
{
	(void)state;
	th_pretend_play(place_sizes);
}

static void attach_lies(const struct th_part *me)
{
	static const enum th_lie lies[] = { TH_LIE_LANDED, TH_LIE_ADDRESS,
					    TH_LIE_MANIFEST };
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *model = NULL;

	for (size_t i = 0; i < 3; i++) {
		th_order(me, TH_ORDER_LIE, lies[i], 3);
		th_assert_status(ps_model_attach(pool, "alpha", NULL, &model),
				 PS_PROTOCOL);
		th_order(me, TH_ORDER_LIE, TH_LIE_NONE, 0);
	}
	assert_null(model);
	model = attach(pool, "alpha");
	use(model);
	release(model);
	th_assert_ok(ps_detach(pool));
}

static void test_model_that_makes_no_sense_is_refused(void **state)
{
	(void)state;
	th_pretend_play(attach_lies);
}

static void fork_child(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	use(alpha);
	assert_int_equal(th_wait(th_fork(be_child, alpha)), 0);
	assert_word(me, TH_ALPHA, IP_USE_BUSY);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_model_in_a_forked_child_is_refused(void **state)
{
	(void)state;
	th_pretend_play(fork_child);
}

static void use_in_threads(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *both[] = { attach(pool, "alpha"),
				    attach(pool, "beta/v2") };
	struct user users[4];

	for (size_t i = 0; i < 4; i++) {
		users[i] = (struct user){ .model = both[i % 2] };
		pthread_create(&users[i].thread, NULL, use_often, &users[i]);
	}
	for (uint32_t i = 0; i < 200; i++)
		disturb(me, i);
	atomic_store(&is_over, true);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(users[i].thread, NULL);
		assert_true(users[i].runs > 0);
	}
	th_assert_ok(ps_detach(pool));
}

static void test_models_used_by_many_threads_are_mapped_while_used(void **state)
{
	(void)state;
	th_pretend_play(use_in_threads);
}

static const struct th_test tests[] = {
	TH_TEST(test_yield_of_an_idle_model_is_answered_at_once),
	TH_TEST(test_yield_of_a_model_in_use_is_answered_when_it_is_released),
	TH_TEST(test_yield_of_a_model_whose_run_goes_on_is_answered_after_it),
	TH_TEST(test_yield_of_the_memory_unmaps_what_is_idle),
	TH_TEST(test_yield_of_the_memory_waits_for_the_last_use),
	TH_TEST(test_yield_of_a_mapping_that_is_not_right_unmaps_it),
	TH_TEST(test_yield_asked_twice_unmaps_if_either_wants),
	TH_TEST(test_yield_of_a_model_that_was_never_attached_is_idle),
	TH_TEST(test_yield_of_a_connection_that_is_lost_is_not_answered),
	TH_TEST(test_restart_joins_again_and_keeps_what_is_in_use),
	TH_TEST(test_restart_shows_what_lands_afterwards),
	TH_TEST(test_restart_without_the_model_says_so),
	TH_TEST(test_use_cut_off_is_asked_for_again),
	TH_TEST(test_use_without_a_daemon_needs_none_where_it_is_right),
	TH_TEST(test_use_left_busy_by_a_lost_answer_is_cleared),
	TH_TEST(test_place_of_no_segments_is_refused_and_let_go),
	TH_TEST(test_place_of_another_size_is_refused),
	TH_TEST(test_model_that_makes_no_sense_is_refused),
	TH_TEST(test_model_in_a_forked_child_is_refused),
	TH_TEST(test_models_used_by_many_threads_are_mapped_while_used),
};

TH_GPU_MAIN("model_daemon", tests, NULL)
