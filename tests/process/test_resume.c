/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A daemon that hangs up in the middle of every request, and is there again:
 * no call fails, no byte is lost, and its books and ours agree. And one that
 * is not there again. */
#include "tests/support/pretend_daemon.h"

#include "ipc/wire.h"

#include <unistd.h>

#define WHOLE TH_SEGMENT

/* A pool with 2 segments in use, and what they say. */
static struct ps_pool *pool;
static char *block;

static void begin(const struct th_part *me)
{
	pool = th_pretend_attach(me);
	block = th_alloc(pool, 2 * WHOLE);
	th_put(pool, block, 11);
	th_put(pool, block + WHOLE, 12);
}

/* Nothing happened to it, and all goes back. */
static void end(const struct th_part *me)
{
	assert_int_equal(th_get(pool, block), 11);
	assert_int_equal(th_get(pool, block + WHOLE), 12);
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
	th_assert_books(me, 0, 0);
}

static void await_requests(const struct th_part *me, enum ip_type type,
			   uint64_t count)
{
	uint64_t until = th_now_ns() + UINT64_C(10000000000);

	while (th_order(me, TH_ORDER_REQUESTS, type, 0) < count) {
		assert_true(th_now_ns() < until);
		usleep(1000);
	}
}

/* ---- TAKE ---- */

static void take_cut(const struct th_part *me, enum th_cut cut)
{
	void *more;

	begin(me);
	th_order(me, TH_ORDER_CHUNK, 2, 0);
	th_order(me, TH_ORDER_CUT, 1, cut);
	more = th_alloc(pool, 5 * WHOLE);
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_ATTACH, 0), 2);
	th_put(pool, more, 13);
	assert_int_equal(th_get(pool, more), 13);
	assert_int_equal(th_order(me, TH_ORDER_LEASED, 0, 0) * TH_SEGMENT,
			 th_stats(pool).inserted);
	th_assert_ok(ps_mem_free(pool, more));
	end(me);
}

static void take_unread(const struct th_part *me)
{
	take_cut(me, TH_CUT_UNREAD);
}

static void take_unsaid(const struct th_part *me)
{
	take_cut(me, TH_CUT_UNSAID);
}

static void take_halfway(const struct th_part *me)
{
	take_cut(me, TH_CUT_HALFWAY);
}

static void test_take_that_was_not_read_is_repeated(void **state)
{
	(void)state;
	th_pretend_play(take_unread);
}

static void test_take_that_was_not_answered_is_repeated(void **state)
{
	(void)state;
	th_pretend_play(take_unsaid);
}

static void test_take_that_was_answered_in_part_goes_on(void **state)
{
	(void)state;
	th_pretend_play(take_halfway);
}

/* ---- GIVE ---- */

static void trim_cut(const struct th_part *me, enum th_cut cut)
{
	uint64_t released;

	begin(me);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_order(me, TH_ORDER_CUT, 1, cut);
	th_assert_ok(ps_mem_trim(pool, 0, &released));
	assert_int_equal(released, 3 * TH_SEGMENT);
	th_assert_books(me, 2, 0);
	end(me);
}

static void trim_unread(const struct th_part *me)
{
	trim_cut(me, TH_CUT_UNREAD);
}

static void trim_unsaid(const struct th_part *me)
{
	trim_cut(me, TH_CUT_UNSAID);
}

static void test_give_that_was_not_read_is_repeated(void **state)
{
	(void)state;
	th_pretend_play(trim_unread);
}

static void test_give_that_was_not_answered_is_not_repeated(void **state)
{
	(void)state;
	th_pretend_play(trim_unsaid);
}

static void park_cut(const struct th_part *me, enum th_cut cut)
{
	begin(me);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_order(me, TH_ORDER_CUT, 1, cut);
	await_requests(me, IP_ATTACH, 2);
	th_await_parked(me, 3);
	th_assert_books(me, 2, 3);
	end(me);
}

static void park_unread(const struct th_part *me)
{
	park_cut(me, TH_CUT_UNREAD);
}

static void park_unsaid(const struct th_part *me)
{
	park_cut(me, TH_CUT_UNSAID);
}

static void test_parking_that_was_not_read_is_repeated(void **state)
{
	(void)state;
	th_pretend_play(park_unread);
}

static void test_parking_that_was_not_answered_is_not_repeated(void **state)
{
	(void)state;
	th_pretend_play(park_unsaid);
}

/* ---- NEED ---- */

static void need_cut(const struct th_part *me, enum th_cut cut)
{
	begin(me);
	th_order(me, TH_ORDER_CUT, 1, cut);
	th_assert_ok(ps_pool_map(pool, 0, 0));
	assert_int_equal(th_stats(pool).mapped,
			 (TH_PARAMETERS + 2) * TH_SEGMENT);
	end(me);
}

static void need_unread(const struct th_part *me)
{
	need_cut(me, TH_CUT_UNREAD);
}

static void need_halfway(const struct th_part *me)
{
	need_cut(me, TH_CUT_HALFWAY);
}

static void test_need_that_was_not_read_is_repeated(void **state)
{
	(void)state;
	th_pretend_play(need_unread);
}

static void test_need_that_was_answered_is_done(void **state)
{
	(void)state;
	th_pretend_play(need_halfway);
}

/* ---- LEAVE ---- */

static void leave_unread(const struct th_part *me)
{
	begin(me);
	th_order(me, TH_ORDER_CUT, 1, TH_CUT_UNREAD);
	end(me);
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_LEAVE, 0), 2);
}

static void test_leave_that_was_not_read_is_repeated(void **state)
{
	(void)state;
	th_pretend_play(leave_unread);
}

/* The daemon knows nobody any more, which is as it should be. */
static void leave_unsaid(const struct th_part *me)
{
	begin(me);
	th_order(me, TH_ORDER_CUT, 1, TH_CUT_UNSAID);
	end(me);
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_LEAVE, 0), 1);
}

static void test_leave_that_was_not_answered_is_done(void **state)
{
	(void)state;
	th_pretend_play(leave_unsaid);
}

/* ---- ATTACH ---- */

static void attach_cut(const struct th_part *me, enum th_cut cut)
{
	th_await(me->link[0]);
	th_order(me, TH_ORDER_CUT, 1, cut);
	th_assert_ok(ps_attach(NULL, &pool));
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, WHOLE)));
	th_assert_ok(ps_detach(pool));
	th_assert_books(me, 0, 0);
}

static void attach_unread(const struct th_part *me)
{
	attach_cut(me, TH_CUT_UNREAD);
}

static void attach_halfway(const struct th_part *me)
{
	attach_cut(me, TH_CUT_HALFWAY);
}

static void test_attach_that_was_not_read_is_repeated(void **state)
{
	(void)state;
	th_pretend_play(attach_unread);
}

static void test_attach_cut_after_the_welcome_is_resumed(void **state)
{
	(void)state;
	th_pretend_play(attach_halfway);
}

static void resume_cut(const struct th_part *me, enum th_cut cut)
{
	void *more;

	begin(me);
	th_order(me, TH_ORDER_CHUNK, 1, 0);
	th_order(me, TH_ORDER_CUT, 1, cut);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	more = th_alloc(pool, 5 * WHOLE);
	await_requests(me, IP_ATTACH, 3);
	th_assert_ok(ps_mem_free(pool, more));
	end(me);
}

static void resume_unread(const struct th_part *me)
{
	resume_cut(me, TH_CUT_UNREAD);
}

static void resume_halfway(const struct th_part *me)
{
	resume_cut(me, TH_CUT_HALFWAY);
}

static void test_resuming_that_was_not_read_is_repeated(void **state)
{
	(void)state;
	th_pretend_play(resume_unread);
}

static void test_resuming_cut_before_held_is_repeated(void **state)
{
	(void)state;
	th_pretend_play(resume_halfway);
}

static void be_told_to_resume_again(const struct th_part *me)
{
	begin(me);
	th_order(me, TH_ORDER_DENY_ATTACH, PS_AGAIN, 4);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 5 * WHOLE)));
	end(me);
}

static void test_resuming_told_again_tries_again(void **state)
{
	(void)state;
	th_pretend_play(be_told_to_resume_again);
}

/* Its last connection's end had not come to it yet. */
static void be_refused_for_a_while(const struct th_part *me)
{
	begin(me);
	th_order(me, TH_ORDER_DENY_ATTACH, PS_REFUSED, 3);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 5 * WHOLE)));
	end(me);
}

static void test_resuming_refused_for_a_while_tries_again(void **state)
{
	(void)state;
	th_pretend_play(be_refused_for_a_while);
}

/* ---- by itself ---- */

static void be_hung_up_on(const struct th_part *me)
{
	begin(me);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	await_requests(me, IP_ATTACH, 2);
	th_assert_books(me, 2, 0);
	assert_int_equal(th_order(me, TH_ORDER_RECALL, 3, 500), 0);
	end(me);
}

static void test_client_that_is_idle_connects_again(void **state)
{
	(void)state;
	th_pretend_play(be_hung_up_on);
}

static void have_strange_events(const struct th_part *me)
{
	begin(me);
	th_order(me, TH_ORDER_STRANGE, 0, 0);
	await_requests(me, IP_ATTACH, 2);
	end(me);
}

static void test_event_out_of_place_ends_the_connection(void **state)
{
	(void)state;
	th_pretend_play(have_strange_events);
}

/* ---- books that are behind, and books that are wrong ---- */

static void find_books_behind(const struct th_part *me)
{
	begin(me);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_await_parked(me, 3);
	th_order(me, TH_ORDER_UNPARK, 0, 0);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	th_await_parked(me, 3);
	end(me);
}

static void test_books_that_missed_the_parking_are_told(void **state)
{
	(void)state;
	th_pretend_play(find_books_behind);
}

/* What is in use may not be granted to others by such books. */
static void find_books_wrong(const struct th_part *me)
{
	void *more;

	begin(me);
	th_order(me, TH_ORDER_PARK, 0, 0);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	th_assert_status(ps_mem_alloc(pool, 5 * WHOLE, &more), PS_PROTOCOL);
	th_assert_detail("is in use here");
	assert_int_equal(th_get(pool, block), 11);
	th_assert_ok(ps_mem_free(pool, block));
	ps_pool_close(pool);
}

static void test_books_that_say_parked_of_what_is_used_are_refused(void **state)
{
	(void)state;
	th_pretend_play(find_books_wrong);
}

/* ---- a daemon that does not come back ---- */

static void go_on_alone(void)
{
	void *more;

	th_assert_status(ps_mem_alloc(pool, 5 * WHOLE, &more), PS_PEER_GONE);
	th_assert_detail("can be used on");
	assert_int_equal(th_get(pool, block), 11);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 2 * WHOLE)));
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_detach(pool));
}

static void lose_the_daemon(const struct th_part *me)
{
	begin(me);
	th_order(me, TH_ORDER_END, 0, 0);
	go_on_alone();
}

static void test_daemon_gone_leaves_what_is_leased(void **state)
{
	(void)state;
	th_pretend_play(lose_the_daemon);
}

static void be_forgotten(const struct th_part *me)
{
	begin(me);
	th_order(me, TH_ORDER_FORGET, 0, 0);
	go_on_alone();
}

static void test_daemon_that_forgot_us_leaves_what_is_leased(void **state)
{
	(void)state;
	th_pretend_play(be_forgotten);
}

static void lose_it_with_parked(const struct th_part *me)
{
	void *more;

	begin(me);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 3 * WHOLE)));
	th_await_parked(me, 3);
	th_order(me, TH_ORDER_END, 0, 0);
	more = th_alloc(pool, 3 * WHOLE);
	th_put(pool, more, 9);
	assert_int_equal(th_get(pool, more), 9);
	th_assert_ok(ps_mem_free(pool, more));
	go_on_alone();
}

static void test_daemon_gone_leaves_what_is_parked(void **state)
{
	(void)state;
	th_pretend_play(lose_it_with_parked);
}

static const struct th_test tests[] = {
	TH_TEST(test_take_that_was_not_read_is_repeated),
	TH_TEST(test_take_that_was_not_answered_is_repeated),
	TH_TEST(test_take_that_was_answered_in_part_goes_on),
	TH_TEST(test_give_that_was_not_read_is_repeated),
	TH_TEST(test_give_that_was_not_answered_is_not_repeated),
	TH_TEST(test_parking_that_was_not_read_is_repeated),
	TH_TEST(test_parking_that_was_not_answered_is_not_repeated),
	TH_TEST(test_need_that_was_not_read_is_repeated),
	TH_TEST(test_need_that_was_answered_is_done),
	TH_TEST(test_leave_that_was_not_read_is_repeated),
	TH_TEST(test_leave_that_was_not_answered_is_done),
	TH_TEST(test_attach_that_was_not_read_is_repeated),
	TH_TEST(test_attach_cut_after_the_welcome_is_resumed),
	TH_TEST(test_resuming_that_was_not_read_is_repeated),
	TH_TEST(test_resuming_cut_before_held_is_repeated),
	TH_TEST(test_resuming_told_again_tries_again),
	TH_TEST(test_resuming_refused_for_a_while_tries_again),
	TH_TEST(test_client_that_is_idle_connects_again),
	TH_TEST(test_event_out_of_place_ends_the_connection),
	TH_TEST(test_books_that_missed_the_parking_are_told),
	TH_TEST(test_books_that_say_parked_of_what_is_used_are_refused),
	TH_TEST(test_daemon_gone_leaves_what_is_leased),
	TH_TEST(test_daemon_that_forgot_us_leaves_what_is_leased),
	TH_TEST(test_daemon_gone_leaves_what_is_parked),
};

TH_GPU_MAIN("resume", tests, NULL)
