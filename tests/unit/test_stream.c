/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The numbers that stand for streams. */
#include "tests/support/harness.h"

#include "allocator/allocator.h"
#include "lib/stream.h"

#include <pthread.h>

static void *number_here(void *arg)
{
	*(uint64_t *)arg = lb_stream_number(LB_PER_THREAD);
	return NULL;
}

static uint64_t number_in_a_thread(void)
{
	pthread_t thread;
	uint64_t number;

	assert_int_equal(pthread_create(&thread, NULL, number_here, &number),
			 0);
	pthread_join(thread, NULL);
	return number;
}

static void test_stream_of_a_thread_keeps_its_number(void **state)
{
	(void)state;
	assert_int_equal(lb_stream_number(LB_PER_THREAD),
			 lb_stream_number(LB_PER_THREAD));
}

static void test_streams_of_threads_have_numbers_of_their_own(void **state)
{
	uint64_t first = number_in_a_thread();
	uint64_t second = number_in_a_thread();

	(void)state;
	assert_int_not_equal(first, second);
	assert_int_not_equal(first, lb_stream_number(LB_PER_THREAD));
	assert_int_not_equal(first, AL_STREAM_NONE);
}

static void test_legacy_stream_has_one_number_for_both_names(void **state)
{
	(void)state;
	assert_int_equal(lb_stream_number(NULL), 0);
	assert_int_equal(lb_stream_number(LB_LEGACY), 0);
}

static void test_created_stream_is_its_handle(void **state)
{
	(void)state;
	assert_int_equal(lb_stream_number(state), (uintptr_t)state);
	assert_false(lb_stream_is_default(state));
	assert_true(lb_stream_is_default(LB_PER_THREAD));
}

static const struct th_test tests[] = {
	TH_TEST(test_stream_of_a_thread_keeps_its_number),
	TH_TEST(test_streams_of_threads_have_numbers_of_their_own),
	TH_TEST(test_legacy_stream_has_one_number_for_both_names),
	TH_TEST(test_created_stream_is_its_handle),
};

TH_MAIN("stream", tests)
