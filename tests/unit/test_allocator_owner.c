/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The allocator on pretend memory, for an owner that has others to ask and a
 * thread of its own. */
#include "allocator/allocator.h"

#include "tests/support/harness.h"
#include "tests/support/pretend.h"

#define MIB (1024ull * 1024)
#define NONE AL_STREAM_NONE

static struct tp_world world;

static int tear_down(void **state)
{
	(void)state;
	tp_done(&world);
	return 0;
}

static struct ps_mem_stats stats(void)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };

	al_get_stats(world.al, &stats);
	return stats;
}

/* ---- fences by the free ---- */

static int set_up_fencing(void **state)
{
	struct al_config config = tp_config(&world, 1);

	(void)state;
	config.fence_bytes = 2 * MIB;
	tp_init_config(&world, &config, 16);
	return 0;
}

static void test_fence_of_many_bytes_is_recorded_by_the_free(void **state)
{
	uint64_t a = tp_alloc(&world, MIB, NONE);
	uint64_t b = tp_alloc(&world, MIB, NONE);

	(void)state;
	tp_free(&world, a, NONE);
	assert_int_equal(stats().fences, 0);
	tp_free(&world, b, NONE);
	assert_int_equal(stats().fences, 1);
}

static void test_fence_of_many_bytes_put_off_is_recorded_later(void **state)
{
	uint64_t a = tp_alloc(&world, 2 * MIB, NONE);
	uint64_t b = tp_alloc(&world, MIB, NONE);

	(void)state;
	world.capturing = true;
	tp_free(&world, a, NONE);
	assert_int_equal(stats().fences, 0);
	world.capturing = false;
	tp_free(&world, b, NONE);
	assert_int_equal(stats().fences, 1);
}

/* ---- the last resort ---- */

static int set_up_late(void **state)
{
	(void)state;
	tp_init_late(&world, 4);
	return 0;
}

static void test_late_room_is_asked_for_when_nothing_is_left(void **state)
{
	uint64_t a = tp_alloc(&world, 8 * MIB, 1);
	uint64_t b;

	(void)state;
	world.late = 1;
	b = tp_alloc(&world, 2 * MIB, 1);
	assert_int_equal(world.late, 0);
	tp_free(&world, a, 1);
	tp_free(&world, b, 1);
}

static void test_late_room_comes_after_own_fences(void **state)
{
	uint64_t a = tp_alloc(&world, 8 * MIB, 1);

	(void)state;
	tp_submit(&world, 1);
	tp_free(&world, a, 1);
	tp_finish(&world, 1);
	world.late = 1;
	a = tp_alloc(&world, 8 * MIB, 2);
	assert_int_equal(world.late, 1);
	tp_free(&world, a, 2);
}

static void test_late_room_is_added_to_what_is_free(void **state)
{
	uint64_t a = tp_alloc(&world, 8 * MIB, 1);

	(void)state;
	tp_free(&world, a, 1);
	world.late = 1;
	a = tp_alloc(&world, 10 * MIB, 1);
	tp_free(&world, a, 1);
}

static void test_late_room_that_is_none_fails(void **state)
{
	uint64_t a = tp_alloc(&world, 8 * MIB, 1);
	uint64_t b;

	(void)state;
	th_assert_status(al_alloc(world.al, 2 * MIB, 1, &b), PS_OUT_OF_MEMORY);
	tp_free(&world, a, 1);
}

static void test_late_room_is_not_asked_for_after_a_failure(void **state)
{
	uint64_t a = tp_alloc(&world, 8 * MIB, 1);
	uint64_t b;

	(void)state;
	world.late = 1;
	world.grow_status = PS_PEER_GONE;
	th_assert_status(al_alloc(world.al, 2 * MIB, 1, &b), PS_PEER_GONE);
	assert_int_equal(world.late, 1);
	world.grow_status = PS_OK;
	tp_free(&world, a, 1);
}

#define F(name) TH_TEST_SETUP(name, set_up_fencing, tear_down)
#define L(name) TH_TEST_SETUP(name, set_up_late, tear_down)

static const struct th_test tests[] = {
	F(test_fence_of_many_bytes_is_recorded_by_the_free),
	F(test_fence_of_many_bytes_put_off_is_recorded_later),
	L(test_late_room_is_asked_for_when_nothing_is_left),
	L(test_late_room_comes_after_own_fences),
	L(test_late_room_is_added_to_what_is_free),
	L(test_late_room_that_is_none_fails),
	L(test_late_room_is_not_asked_for_after_a_failure),
};

TH_MAIN("allocator_owner", tests)
