/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A daemon that does not keep its word. Once: the client starts over with it.
 * Again and again: the call fails, and what was leased before stays whole. */
#include "tests/support/pretend_daemon.h"

#include "device/device.h"
#include "ipc/wire.h"

#define WHOLE TH_SEGMENT

static struct ps_pool *pool;
static void *block;
static size_t descriptors;

static void begin(const struct th_part *me)
{
	pool = th_pretend_attach(me);
	block = th_alloc(pool, WHOLE);
	th_put(pool, block, 11);
	descriptors = th_open_fds();
}

static void end(const struct th_part *me)
{
	(void)me;
	assert_int_equal(th_get(pool, block), 11);
	assert_int_equal(th_open_fds(), descriptors);
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
	th_assert_books(me, 0, 0);
}

static void be_lied_to_once(const struct th_part *me, enum th_lie lie)
{
	void *more;

	begin(me);
	th_order(me, TH_ORDER_LIE, lie, 1);
	more = th_alloc(pool, 5 * WHOLE);
	th_put(pool, (char *)more + 4 * WHOLE, 3);
	assert_int_equal(th_order(me, TH_ORDER_LEASED, 0, 0) * TH_SEGMENT,
			 th_stats(pool).inserted);
	th_assert_ok(ps_mem_free(pool, more));
	end(me);
}

static void be_lied_to(const struct th_part *me, enum th_lie lie,
		       const char *text)
{
	void *more;

	begin(me);
	th_order(me, TH_ORDER_LIE, lie, 100);
	th_assert_status(ps_mem_alloc(pool, 5 * WHOLE, &more), PS_PROTOCOL);
	th_assert_detail(text);
	th_order(me, TH_ORDER_LIE, TH_LIE_NONE, 1);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 5 * WHOLE)));
	end(me);
}

/* ---- GRANT ---- */

static void grant_parameter_once(const struct th_part *me)
{
	be_lied_to_once(me, TH_LIE_PARAMETER);
}

static void grant_parameter(const struct th_part *me)
{
	be_lied_to(me, TH_LIE_PARAMETER, "is not in the computation region");
}

static void test_grant_of_parameters_is_refused(void **state)
{
	(void)state;
	th_pretend_play(grant_parameter);
}

static void test_grant_of_parameters_once_is_got_over(void **state)
{
	(void)state;
	th_pretend_play(grant_parameter_once);
}

static void grant_too_many(const struct th_part *me)
{
	be_lied_to(me, TH_LIE_TOO_MANY, "must be at most");
}

static void test_grant_of_too_many_is_refused(void **state)
{
	(void)state;
	th_pretend_play(grant_too_many);
}

static void grant_too_many_once(const struct th_part *me)
{
	be_lied_to_once(me, TH_LIE_TOO_MANY);
}

static void test_grant_of_too_many_once_is_given_back(void **state)
{
	(void)state;
	th_pretend_play(grant_too_many_once);
}

static void grant_parked(const struct th_part *me)
{
	be_lied_to(me, TH_LIE_PARKED, "is not parked here");
}

static void test_grant_as_parked_of_what_is_not_is_refused(void **state)
{
	(void)state;
	th_pretend_play(grant_parked);
}

static void grant_twice(const struct th_part *me)
{
	be_lied_to(me, TH_LIE_TWICE, "is leased already");
}

static void test_grant_of_what_is_leased_is_refused(void **state)
{
	(void)state;
	th_pretend_play(grant_twice);
}

static void grant_files(const struct th_part *me)
{
	void *more;

	begin(me);
	th_order(me, TH_ORDER_LIE, TH_LIE_FILES, 1);
	th_assert_status(ps_mem_alloc(pool, 5 * WHOLE, &more), PS_BAD_SEGMENT);
	th_assert_books(me, 1, 0);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 5 * WHOLE)));
	end(me);
}

static void test_grant_of_plain_files_is_given_back(void **state)
{
	(void)state;
	th_pretend_play(grant_files);
}

/* ---- HELD ---- */

static void resume_and_be_lied_to(const struct th_part *me, enum th_lie lie,
				  const char *text)
{
	void *more;

	begin(me);
	th_order(me, TH_ORDER_LIE, lie, 100);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	th_assert_status(ps_mem_alloc(pool, 5 * WHOLE, &more), PS_PROTOCOL);
	th_assert_detail(text);
	assert_int_equal(th_get(pool, block), 11);
	th_order(me, TH_ORDER_LIE, TH_LIE_NONE, 1);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, 5 * WHOLE)));
	end(me);
}

static void hold_none(const struct th_part *me)
{
	resume_and_be_lied_to(me, TH_LIE_HELD_NONE, "is in use here");
}

static void test_held_without_what_is_used_is_refused(void **state)
{
	(void)state;
	th_pretend_play(hold_none);
}

static void hold_parameter(const struct th_part *me)
{
	resume_and_be_lied_to(me, TH_LIE_HELD_PARAMETER,
			      "is not in the computation region");
}

static void test_held_of_parameters_is_refused(void **state)
{
	(void)state;
	th_pretend_play(hold_parameter);
}

/* ---- WELCOME ---- */

static void welcome_elsewhere(const struct th_part *me)
{
	resume_and_be_lied_to(me, TH_LIE_OTHER_POOL, "another pool");
}

static void test_welcome_to_another_pool_is_refused(void **state)
{
	(void)state;
	th_pretend_play(welcome_elsewhere);
}

static void welcome_to_another_gpu(const struct th_part *me)
{
	struct dv_device *device;
	size_t before;

	th_await(me->link[0]);
	th_assert_ok(dv_device_open(NULL, &device));
	dv_device_close(device);
	th_order(me, TH_ORDER_LIE, TH_LIE_OTHER_GPU, 1);
	before = th_open_fds();
	th_assert_status(ps_attach(NULL, &pool), PS_WRONG_GPU);
	th_assert_detail("GPU-01234567-89ab-cdef-0123-456789abcdef");
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, IP_LEAVE, 0), 1);
	assert_int_equal(th_open_fds(), before);
}

static void test_welcome_to_another_gpu_is_left(void **state)
{
	(void)state;
	th_pretend_play(welcome_to_another_gpu);
}

/* ---- PART ---- */

static void need_files(const struct th_part *me)
{
	begin(me);
	th_order(me, TH_ORDER_LIE, TH_LIE_NEED_FILES, 1);
	th_assert_status(ps_pool_map(pool, 0, 0), PS_BAD_SEGMENT);
	th_assert_ok(ps_pool_map(pool, 0, 0));
	end(me);
}

static void test_parameters_that_are_plain_files_are_refused(void **state)
{
	(void)state;
	th_pretend_play(need_files);
}

static const struct th_test tests[] = {
	TH_TEST(test_grant_of_parameters_is_refused),
	TH_TEST(test_grant_of_parameters_once_is_got_over),
	TH_TEST(test_grant_of_too_many_is_refused),
	TH_TEST(test_grant_of_too_many_once_is_given_back),
	TH_TEST(test_grant_as_parked_of_what_is_not_is_refused),
	TH_TEST(test_grant_of_what_is_leased_is_refused),
	TH_TEST(test_grant_of_plain_files_is_given_back),
	TH_TEST(test_held_without_what_is_used_is_refused),
	TH_TEST(test_held_of_parameters_is_refused),
	TH_TEST(test_welcome_to_another_pool_is_refused),
	TH_TEST(test_welcome_to_another_gpu_is_left),
	TH_TEST(test_parameters_that_are_plain_files_are_refused),
};

TH_GPU_MAIN("bad_daemon", tests, NULL)
