/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Memory that the pool cannot hold: room for it, and what is only counted. The
 * daemon is a pretend one, so that each test sees what it was told. */
#include "tests/support/pretend_daemon.h"

#include "ipc/wire.h"

#include <sys/wait.h>
#include <unistd.h>

#define LEASES (TH_SEGMENTS - TH_PARAMETERS)
#define WHOLE TH_SEGMENT

static uint64_t free_bytes(struct ps_pool *pool)
{
	uint64_t left, total;

	th_assert_ok(ps_mem_get_info(pool, &left, &total));
	return left;
}

static void assert_outside(const struct th_part *me, uint64_t segments)
{
	assert_int_equal(th_order(me, TH_ORDER_OUTSIDE, 0, 0), segments);
}

static void await_outside(const struct th_part *me, uint64_t segments)
{
	uint64_t end = th_now_ns() + UINT64_C(10000000000);

	while (th_order(me, TH_ORDER_OUTSIDE, 0, 0) != segments) {
		assert_true(th_now_ns() < end);
		usleep(10000);
	}
}

/* ---- taking ---- */

static void take(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_ok(ps_mem_take_outside(pool, WHOLE + 1));
	assert_outside(me, 2);
	assert_int_equal(th_stats(pool).outside, WHOLE + 1);
	assert_int_equal(th_stats(pool).inserted, 0);
	assert_int_equal(free_bytes(pool), LEASES * WHOLE - WHOLE - 1);
	th_assert_ok(ps_detach(pool));
	assert_outside(me, 0);
}

static void test_outside_taken_has_whole_segments_of_room(void **state)
{
	(void)state;
	th_pretend_play(take);
}

static void take_little(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_ok(ps_mem_take_outside(pool, 1));
	th_assert_ok(ps_mem_take_outside(pool, WHOLE - 1));
	th_assert_ok(ps_mem_take_outside(pool, 0));
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_TAKE, 0), 1);
	th_assert_ok(ps_mem_take_outside(pool, 1));
	assert_outside(me, 2);
	th_assert_ok(ps_detach(pool));
}

static void test_outside_small_takes_share_a_segment(void **state)
{
	(void)state;
	th_pretend_play(take_little);
}

static void be_denied(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_order(me, TH_ORDER_DENY, PS_OUT_OF_MEMORY, 100);
	th_assert_status(ps_mem_take_outside(pool, WHOLE), PS_OUT_OF_MEMORY);
	th_assert_detail("denied as ordered");
	th_order(me, TH_ORDER_DENY, 0, 0);
	assert_int_equal(th_stats(pool).outside, 0);
	assert_int_equal(free_bytes(pool), LEASES * WHOLE);
	th_assert_ok(ps_detach(pool));
}

static void test_outside_denied_counts_nothing(void **state)
{
	(void)state;
	th_pretend_play(be_denied);
}

static void exceed_the_limit(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, 2 * WHOLE), *other;

	th_assert_ok(ps_mem_take_outside(pool, (LEASES - 2) * WHOLE));
	th_assert_status(ps_mem_take_outside(pool, 1), PS_OUT_OF_MEMORY);
	th_assert_detail("limit");
	th_assert_status(ps_mem_alloc(pool, WHOLE, &other), PS_OUT_OF_MEMORY);
	th_assert_status(ps_mem_take_outside(pool, UINT64_MAX),
			 PS_INVALID_ARGUMENT);
	assert_int_equal(free_bytes(pool), 0);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_outside_and_leases_share_the_limit(void **state)
{
	(void)state;
	th_pretend_play(exceed_the_limit);
}

static void make_room(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, WHOLE);

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, (LEASES - 1) * WHOLE)));
	th_assert_ok(ps_mem_take_outside(pool, 4 * WHOLE));
	assert_outside(me, 4);
	th_put(pool, block, 5);
	assert_int_equal(th_get(pool, block), 5);
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_outside_gets_what_the_pool_has_cached(void **state)
{
	(void)state;
	th_pretend_play(make_room);
}

static void unpark(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_ok(ps_mem_free(pool, th_alloc(pool, LEASES * WHOLE)));
	th_await_parked(me, LEASES);
	th_assert_ok(ps_mem_take_outside(pool, LEASES * WHOLE));
	assert_outside(me, LEASES);
	assert_int_equal(th_stats(pool).mapped, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_outside_gets_what_is_parked(void **state)
{
	(void)state;
	th_pretend_play(unpark);
}

static void be_lied_to(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_order(me, TH_ORDER_LIE, TH_LIE_PARAMETER, 100);
	th_assert_status(ps_mem_take_outside(pool, WHOLE), PS_PROTOCOL);
	th_assert_detail("cannot be room outside");
	th_order(me, TH_ORDER_LIE, TH_LIE_NONE, 0);
	assert_int_equal(th_stats(pool).outside, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_outside_of_the_parameter_region_is_refused(void **state)
{
	(void)state;
	th_pretend_play(be_lied_to);
}

/* ---- giving ---- */

static void give(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_ok(ps_mem_take_outside(pool, 3 * WHOLE));
	th_assert_ok(ps_mem_give_outside(pool, 2 * WHOLE));
	assert_int_equal(th_stats(pool).outside, WHOLE);
	assert_int_equal(free_bytes(pool), (LEASES - 1) * WHOLE);
	await_outside(me, 1);
	th_assert_status(ps_mem_give_outside(pool, WHOLE + 1),
			 PS_INVALID_ARGUMENT);
	th_assert_ok(ps_mem_give_outside(pool, WHOLE));
	await_outside(me, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_outside_given_goes_back_when_idle(void **state)
{
	(void)state;
	th_pretend_play(give);
}

static void take_again(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	for (int i = 0; i < 100; i++) {
		th_assert_ok(ps_mem_take_outside(pool, 3 * WHOLE));
		th_assert_ok(ps_mem_give_outside(pool, 3 * WHOLE));
	}
	assert_in_range(th_order(me, TH_ORDER_REQUESTS, IP_TAKE, 0), 1, 3);
	th_assert_ok(ps_detach(pool));
}

static void test_outside_taken_again_asks_nobody(void **state)
{
	(void)state;
	th_pretend_play(take_again);
}

static void use_loose(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_ok(ps_mem_take_outside(pool, LEASES * WHOLE));
	th_assert_ok(ps_mem_give_outside(pool, LEASES * WHOLE));
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, LEASES * WHOLE)));
	assert_outside(me, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_outside_left_empty_is_allocated_from(void **state)
{
	(void)state;
	th_pretend_play(use_loose);
}

/* ---- the connection breaks ---- */

static void be_cut(const struct th_part *me, enum th_cut cut)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_order(me, TH_ORDER_CHUNK, 2, 0);
	th_order(me, TH_ORDER_CUT, 1, cut);
	th_assert_ok(ps_mem_take_outside(pool, 5 * WHOLE));
	assert_outside(me, 5);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	th_assert_ok(ps_mem_take_outside(pool, WHOLE));
	assert_outside(me, 6);
	th_assert_ok(ps_detach(pool));
}

static void be_cut_unread(const struct th_part *me)
{
	be_cut(me, TH_CUT_UNREAD);
}

static void be_cut_unsaid(const struct th_part *me)
{
	be_cut(me, TH_CUT_UNSAID);
}

static void be_cut_halfway(const struct th_part *me)
{
	be_cut(me, TH_CUT_HALFWAY);
}

static void test_outside_request_lost_is_sent_again(void **state)
{
	(void)state;
	th_pretend_play(be_cut_unread);
}

static void test_outside_answer_lost_is_given_back_and_asked_anew(void **state)
{
	(void)state;
	th_pretend_play(be_cut_unsaid);
}

static void test_outside_answer_cut_keeps_what_came(void **state)
{
	(void)state;
	th_pretend_play(be_cut_halfway);
}

static void lose_the_daemon(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_ok(ps_mem_take_outside(pool, WHOLE));
	th_order(me, TH_ORDER_FORGET, 0, 0);
	th_order(me, TH_ORDER_END, 0, 0);
	th_assert_status(ps_mem_take_outside(pool, WHOLE), PS_NO_DAEMON);
	th_assert_ok(ps_mem_take_outside(pool, 0));
	th_assert_ok(ps_mem_give_outside(pool, WHOLE));
	th_assert_ok(ps_detach(pool));
}

static void test_outside_without_a_daemon_says_so(void **state)
{
	(void)state;
	th_pretend_play(lose_the_daemon);
}

/* ---- what takes no room ---- */

static void note(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_ok(ps_mem_note_passed(pool, 700));
	th_assert_ok(ps_mem_note_passed(pool, -200));
	assert_int_equal(th_stats(pool).passed, 500);
	assert_int_equal(th_order(me, TH_ORDER_POLL, 1, 0), 500);
	assert_int_equal(free_bytes(pool), LEASES * WHOLE);
	th_assert_ok(ps_mem_note_passed(pool, -501));
	assert_int_equal(th_stats(pool).passed, 0);
	assert_int_equal(th_order(me, TH_ORDER_POLL, 1, 0), 0);
	th_assert_ok(ps_detach(pool));
}

static void test_passed_memory_is_told_to_the_daemon(void **state)
{
	(void)state;
	th_pretend_play(note);
}

/* A free of a whole segment records its fence at once, but for the hold. */
static void hold(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, WHOLE);

	th_assert_ok(ps_mem_hold_fences(pool, true));
	th_assert_ok(ps_mem_hold_fences(pool, true));
	th_assert_ok(ps_mem_hold_fences(pool, false));
	th_assert_ok(ps_mem_free(pool, block));
	assert_int_equal(th_stats(pool).fences, 0);
	assert_int_equal(th_stats(pool).pending, WHOLE);
	th_assert_ok(ps_mem_hold_fences(pool, false));
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, LEASES * WHOLE)));
	assert_int_not_equal(th_stats(pool).fences, 0);
	th_assert_status(ps_mem_hold_fences(pool, false), PS_INVALID_ARGUMENT);
	th_assert_ok(ps_detach(pool));
}

static void test_fences_held_are_recorded_after_the_last_release(void **state)
{
	(void)state;
	th_pretend_play(hold);
}

/* With PS_FREE_WAITS the free would wait for all streams. */
static void hold_waits(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, WHOLE);

	th_assert_ok(ps_mem_set_free_mode(pool, PS_FREE_WAITS));
	th_assert_ok(ps_mem_hold_fences(pool, true));
	th_assert_ok(ps_mem_free(pool, block));
	assert_int_equal(th_stats(pool).pending, WHOLE);
	th_assert_ok(ps_mem_hold_fences(pool, false));
	th_assert_ok(ps_detach(pool));
}

static void test_fences_held_let_no_free_wait_for_all(void **state)
{
	(void)state;
	th_pretend_play(hold_waits);
}

/* ---- who may not ---- */

static void ask_without_daemon(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();
	struct ps_ticket ticket = { .bytes = PS_TICKET_MAGIC };
	void *at = ps_pool_pointer(pool, 0);
	int fd;

	(void)me;
	th_assert_status(ps_mem_take_outside(pool, 1), PS_UNSUPPORTED);
	th_assert_status(ps_mem_give_outside(pool, 1), PS_UNSUPPORTED);
	th_assert_status(ps_mem_note_passed(pool, 1), PS_UNSUPPORTED);
	th_assert_status(ps_mem_export_segment(pool, at, &fd), PS_UNSUPPORTED);
	th_assert_status(ps_ticket_issue(pool, at, &ticket), PS_UNSUPPORTED);
	th_assert_status(ps_ticket_open(pool, &ticket, &at), PS_UNSUPPORTED);
	th_assert_status(ps_ticket_close(pool, at), PS_UNSUPPORTED);
	ps_pool_close(pool);
}

static void test_outside_of_a_pool_not_attached_is_unsupported(void **state)
{
	(void)state;
	th_play(ask_without_daemon, NULL);
}

static int ask_in_a_child(struct ps_pool *pool, void *at)
{
	struct ps_ticket ticket = { .bytes = PS_TICKET_MAGIC };
	int fd, wrong = 0;

	wrong += ps_mem_take_outside(pool, 1) != PS_FORKED;
	wrong += ps_mem_give_outside(pool, 1) != PS_FORKED;
	wrong += ps_mem_note_passed(pool, 1) != PS_FORKED;
	wrong += ps_mem_hold_fences(pool, true) != PS_FORKED;
	wrong += ps_mem_export_segment(pool, at, &fd) != PS_FORKED;
	wrong += ps_ticket_issue(pool, at, &ticket) != PS_FORKED;
	wrong += ps_ticket_open(pool, &ticket, &at) != PS_FORKED;
	wrong += ps_ticket_close(pool, at) != PS_FORKED;
	wrong += ps_pool_allow_peer(pool, 0) != PS_FORKED;
	wrong += !ps_mem_is_inside(pool, at);
	return wrong;
}

static void fork_and_ask(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, 512);
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(ask_in_a_child(pool, block));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_outside_in_a_forked_child_is_turned_away(void **state)
{
	(void)state;
	th_pretend_play(fork_and_ask);
}

static void look(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	char *first = ps_pool_pointer(pool, 0);
	void *block = th_alloc(pool, WHOLE);
	int local;

	assert_true(ps_mem_is_inside(pool, block));
	assert_true(ps_mem_is_inside(NULL, (char *)block + 100));
	assert_true(ps_mem_is_inside(pool, first));
	assert_false(ps_mem_is_inside(pool, first - 1));
	assert_false(ps_mem_is_inside(pool, &local));
	assert_false(ps_mem_is_inside(pool, NULL));
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
	assert_false(ps_mem_is_inside(NULL, block));
}

static void test_inside_is_what_the_pool_gives_out(void **state)
{
	(void)state;
	th_pretend_play(look);
}

static const struct th_test tests[] = {
	TH_TEST(test_outside_taken_has_whole_segments_of_room),
	TH_TEST(test_outside_small_takes_share_a_segment),
	TH_TEST(test_outside_denied_counts_nothing),
	TH_TEST(test_outside_and_leases_share_the_limit),
	TH_TEST(test_outside_gets_what_the_pool_has_cached),
	TH_TEST(test_outside_gets_what_is_parked),
	TH_TEST(test_outside_of_the_parameter_region_is_refused),
	TH_TEST(test_outside_given_goes_back_when_idle),
	TH_TEST(test_outside_taken_again_asks_nobody),
	TH_TEST(test_outside_left_empty_is_allocated_from),
	TH_TEST(test_outside_request_lost_is_sent_again),
	TH_TEST(test_outside_answer_lost_is_given_back_and_asked_anew),
	TH_TEST(test_outside_answer_cut_keeps_what_came),
	TH_TEST(test_outside_without_a_daemon_says_so),
	TH_TEST(test_passed_memory_is_told_to_the_daemon),
	TH_TEST(test_fences_held_are_recorded_after_the_last_release),
	TH_TEST(test_fences_held_let_no_free_wait_for_all),
	TH_TEST(test_outside_of_a_pool_not_attached_is_unsupported),
	TH_TEST(test_outside_in_a_forked_child_is_turned_away),
	TH_TEST(test_inside_is_what_the_pool_gives_out),
};

TH_GPU_MAIN("outside", tests, NULL)
