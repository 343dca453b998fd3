/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The allocator in pretend time: who may have a freed block, and when. */
#include "allocator/allocator.h"

#include "tests/support/harness.h"
#include "tests/support/pretend.h"

#define MIB (1024ull * 1024)
#define NONE AL_STREAM_NONE

static struct tp_world world;

static int set_up(void **state)
{
	(void)state;
	tp_init(&world, 1, 1);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	tp_done(&world);
	return 0;
}

/*
 * The room is one segment of 2 MiB. A block of more than half of it can only
 * be had where the first one was.
 */
#define MOST (2 * MIB - 32 * 1024)

static bool can_alloc(uint64_t bytes, uint64_t stream)
{
	uint64_t offset;

	if (al_alloc(world.al, bytes, stream, &offset) != PS_OK)
		return false;
	tp_free(&world, offset, stream);
	return true;
}

/* What is freed on @freer while work runs on @busy comes back for @next only
 * by waiting; that it waited is seen in the counter of waits. */
static void free_then_alloc(uint64_t bytes, uint64_t freer, uint64_t busy,
			    uint64_t next)
{
	uint64_t offset = tp_alloc(&world, bytes, freer);

	tp_submit(&world, busy);
	tp_free(&world, offset, freer);
	offset = tp_alloc(&world, bytes, next);
	tp_free(&world, offset, next);
}

static void test_stream_same_reuses_without_a_fence(void **state)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };

	(void)state;
	world.waiting_forbidden = true;
	free_then_alloc(MOST, 1, 1, 1);
	al_get_stats(world.al, &stats);
	assert_int_equal(stats.fences, 0);
}

static void test_stream_other_waits_for_large(void **state)
{
	(void)state;
	free_then_alloc(MOST, 1, 1, 2);
	assert_int_equal(world.waits, 1);
	assert_int_equal(atomic_load(&world.done[1]), 1);
}

static void test_stream_other_needs_no_wait_once_passed(void **state)
{
	uint64_t offset = tp_alloc(&world, MOST, 1);

	(void)state;
	tp_submit(&world, 1);
	tp_free(&world, offset, 1);
	tp_finish(&world, 1);
	world.waiting_forbidden = true;
	assert_true(can_alloc(MOST, 2));
}

static void test_stream_other_waits_for_small(void **state)
{
	uint64_t blocks[64];

	(void)state;
	for (unsigned int i = 0; i < 64; i++)
		blocks[i] = tp_alloc(&world, 32 * 1024, 1);
	tp_submit(&world, 1);
	for (unsigned int i = 0; i < 64; i++)
		tp_free(&world, blocks[i], 1);
	blocks[0] = tp_alloc(&world, 32 * 1024, 2);
	assert_int_equal(atomic_load(&world.done[1]), 1);
	tp_free(&world, blocks[0], 2);
}

/* A free without a stream is fenced against every stream. */
static void test_stream_none_waits_for_each(void **state)
{
	(void)state;
	for (uint64_t busy = 0; busy < TP_STREAMS; busy++) {
		free_then_alloc(MOST, NONE, busy, NONE);
		assert_int_equal(atomic_load(&world.done[busy]),
				 atomic_load(&world.submitted[busy]));
	}
	assert_true(world.waits >= TP_STREAMS);
}

static void test_stream_none_small_waits_for_each(void **state)
{
	(void)state;
	for (uint64_t busy = 0; busy < TP_STREAMS; busy++) {
		uint64_t all[2];

		/* One page of two blocks is all there is. */
		all[0] = tp_alloc(&world, 1 * MIB, NONE);
		all[1] = tp_alloc(&world, 1 * MIB, NONE);
		tp_submit(&world, busy);
		tp_free(&world, all[0], NONE);
		all[0] = tp_alloc(&world, 1 * MIB, 3);
		assert_int_equal(atomic_load(&world.done[busy]),
				 atomic_load(&world.submitted[busy]));
		tp_free(&world, all[0], 3);
		tp_free(&world, all[1], NONE);
	}
}

static void test_stream_block_freed_elsewhere_waits_there(void **state)
{
	uint64_t offset = tp_alloc(&world, 1 * MIB, 1);
	uint64_t rest = tp_alloc(&world, 1 * MIB, 1);

	(void)state;
	tp_submit(&world, 1);
	tp_submit(&world, 2);
	tp_free(&world, offset, 2);
	offset = tp_alloc(&world, 1 * MIB, 1);
	assert_int_equal(atomic_load(&world.done[2]), 1);
	assert_int_equal(atomic_load(&world.done[1]), 0);
	tp_free(&world, offset, 1);
	tp_free(&world, rest, 1);
}

static void test_record_stream_small_comes_back_when_all_are_done(void **state)
{
	uint64_t offset = tp_alloc(&world, 1 * MIB, 1);
	uint64_t rest = tp_alloc(&world, 1 * MIB, 1);

	(void)state;
	th_assert_ok(al_record_stream(world.al, offset, 2));
	th_assert_ok(al_record_stream(world.al, offset, 3));
	th_assert_ok(al_record_stream(world.al, offset, 3));
	tp_submit(&world, 2);
	tp_submit(&world, 3);
	tp_submit(&world, 4);
	tp_free(&world, offset, 1);
	offset = tp_alloc(&world, 1 * MIB, 1);
	assert_int_equal(atomic_load(&world.done[2]), 1);
	assert_int_equal(atomic_load(&world.done[3]), 1);
	assert_int_equal(atomic_load(&world.done[4]), 0);
	tp_free(&world, offset, 1);
	tp_free(&world, rest, 1);
}

static void test_record_stream_large_comes_back_when_all_are_done(void **state)
{
	uint64_t offset = tp_alloc(&world, MOST, 1);

	(void)state;
	th_assert_ok(al_record_stream(world.al, offset, 2));
	th_assert_ok(al_record_stream(world.al, offset, 3));
	tp_submit(&world, 2);
	tp_submit(&world, 3);
	tp_free(&world, offset, 1);
	offset = tp_alloc(&world, MOST, 1);
	assert_int_equal(atomic_load(&world.done[2]), 1);
	assert_int_equal(atomic_load(&world.done[3]), 1);
	tp_free(&world, offset, 1);
}

static void test_record_stream_ends_with_the_block(void **state)
{
	uint64_t offset = tp_alloc(&world, MOST, 1);

	(void)state;
	th_assert_ok(al_record_stream(world.al, offset, 2));
	tp_free(&world, offset, 1);
	offset = tp_alloc(&world, MOST, 1);
	tp_submit(&world, 2);
	tp_free(&world, offset, 1);
	world.waiting_forbidden = true;
	assert_true(can_alloc(MOST, 1));
}

static void test_capture_holds_back_until_it_ends(void **state)
{
	uint64_t offset = tp_alloc(&world, MOST, 1);

	(void)state;
	world.capturing = true;
	tp_free(&world, offset, NONE);
	assert_false(can_alloc(MOST, 1));
	world.capturing = false;
	assert_true(can_alloc(MOST, 1));
}

static void test_lost_device_keeps_what_is_fenced(void **state)
{
	uint64_t offset = tp_alloc(&world, MOST, 1);

	(void)state;
	tp_submit(&world, 2);
	tp_free(&world, offset, NONE);
	world.lost = true;
	th_assert_status(al_alloc(world.al, MOST, 1, &offset),
			 PS_OUT_OF_MEMORY);
	world.lost = false;
	assert_true(can_alloc(MOST, 1));
}

static void test_lost_device_while_waiting_is_said(void **state)
{
	uint64_t offset = tp_alloc(&world, MOST, 1), released;

	(void)state;
	tp_submit(&world, 2);
	tp_free(&world, offset, NONE);
	th_assert_ok(al_trim(world.al, 0, &released));
	world.lost = true;
	th_assert_status(al_alloc(world.al, MOST, 1, &offset), PS_DEVICE_LOST);
	world.lost = false;
}

/* The handle of a destroyed stream comes back as another stream. */
static void test_drop_stream_fences_what_it_kept(void **state)
{
	uint64_t offset = tp_alloc(&world, MOST, 1);

	(void)state;
	tp_submit(&world, 1);
	tp_free(&world, offset, 1);
	th_assert_ok(al_drop_stream(world.al, 1));
	offset = tp_alloc(&world, MOST, 1);
	assert_int_equal(world.waits, 1);
	tp_free(&world, offset, 1);
}

static void test_drop_stream_fences_free_blocks_of_pages(void **state)
{
	uint64_t blocks[64];

	(void)state;
	for (unsigned int i = 0; i < 64; i++)
		blocks[i] = tp_alloc(&world, 32 * 1024, 1);
	tp_submit(&world, 1);
	tp_free(&world, blocks[5], 1);
	th_assert_ok(al_drop_stream(world.al, 1));
	blocks[5] = tp_alloc(&world, 32 * 1024, 1);
	assert_int_equal(world.waits, 1);
	for (unsigned int i = 0; i < 64; i++)
		tp_free(&world, blocks[i], 1);
}

/* A fence on the handle would now be another stream's. */
static void test_drop_stream_widens_recorded_uses(void **state)
{
	uint64_t offset = tp_alloc(&world, MOST, 1);

	(void)state;
	th_assert_ok(al_record_stream(world.al, offset, 2));
	th_assert_ok(al_drop_stream(world.al, 2));
	tp_submit(&world, 5);
	tp_free(&world, offset, 1);
	offset = tp_alloc(&world, MOST, 1);
	assert_int_equal(atomic_load(&world.done[5]), 1);
	tp_free(&world, offset, 1);
}

/* A page that a late block keeps goes home only after its stream is gone. */
static void test_drop_stream_is_never_fenced_again(void **state)
{
	uint64_t first = tp_alloc(&world, 1 * MIB, 1);
	uint64_t late = tp_alloc(&world, 1 * MIB, 1);

	(void)state;
	tp_free(&world, first, 1);
	th_assert_ok(al_drop_stream(world.al, 1));
	world.dead[1] = true;
	tp_free(&world, late, 2);
	assert_true(can_alloc(MOST, 3));
}

static void test_drop_stream_of_bound_room_is_never_fenced_again(void **state)
{
	(void)state;
	world.homes[0] = 3;
	tp_free(&world, tp_alloc(&world, MOST, 3), 3);
	th_assert_ok(al_drop_stream(world.al, 3));
	world.dead[3] = true;
	th_assert_ok(al_clear(world.al));
}

/* Otherwise the block would go to a new stream with the same handle. */
static void test_drop_stream_without_host_memory_says_so(void **state)
{
	(void)state;
	tp_free(&world, tp_alloc(&world, 512, NONE),
		NONE); /* takes the spare */
	tp_free(&world, tp_alloc(&world, MOST / 2, 1), 1);
	world.host_allocs_left = 0;
	th_assert_status(al_drop_stream(world.al, 1), PS_HOST_MEMORY);
	world.host_allocs_left = -1;
	th_assert_ok(al_drop_stream(world.al, 1));
}

static void test_clear_without_host_memory_says_so(void **state)
{
	uint64_t offset = tp_alloc(&world, MOST, 1);

	(void)state;
	th_assert_ok(al_record_stream(world.al, offset, 2));
	tp_free(&world, offset, NONE);
	world.host_allocs_left = 0;
	th_assert_status(al_clear(world.al), PS_HOST_MEMORY);
	world.host_allocs_left = -1;
}

/* What waits for the capture does not hold up what waits for another. */
static void test_capture_of_one_stream_leaves_the_others(void **state)
{
	uint64_t first = tp_alloc(&world, 1 * MIB, 3);
	uint64_t second = tp_alloc(&world, 1 * MIB, 3);

	(void)state;
	tp_free(&world, first, 1);
	tp_free(&world, second, 2);
	world.captures[1] = true;
	assert_true(can_alloc(1 * MIB, 3));
	world.captures[1] = false;
}

static void test_streams_are_known_until_dropped(void **state)
{
	uint64_t streams[4] = { 0 };

	(void)state;
	tp_free(&world, tp_alloc(&world, 512, 1), 1);
	tp_free(&world, tp_alloc(&world, MOST, 6), 6);
	assert_int_equal(al_get_streams(world.al, streams, 4), 2);
	assert_true(streams[0] + streams[1] == 7);
	assert_int_equal(al_get_streams(world.al, streams, 1), 1);
	th_assert_ok(al_drop_stream(world.al, 1));
	assert_int_equal(al_get_streams(world.al, streams, 4), 1);
	assert_int_equal(streams[0], 6);
	tp_free(&world, tp_alloc(&world, 512, 1), 1);
	assert_int_equal(al_get_streams(world.al, streams, 4), 2);
}

static void test_drop_stream_none_is_refused(void **state)
{
	(void)state;
	th_assert_status(al_drop_stream(world.al, NONE), PS_INVALID_ARGUMENT);
}

static void test_bound_room_serves_its_stream_only(void **state)
{
	uint64_t offset;

	(void)state;
	world.homes[0] = 3;
	th_assert_status(al_alloc(world.al, MOST, 1, &offset),
			 PS_OUT_OF_MEMORY);
	th_assert_status(al_alloc(world.al, MOST, NONE, &offset),
			 PS_OUT_OF_MEMORY);
	offset = tp_alloc(&world, MOST, 3);
	tp_free(&world, offset, NONE);
	th_assert_status(al_alloc(world.al, MOST, 1, &offset),
			 PS_OUT_OF_MEMORY);
	assert_true(can_alloc(MOST, 3));
}

static void test_bound_room_freed_elsewhere_waits(void **state)
{
	uint64_t offset;

	(void)state;
	world.homes[0] = 3;
	offset = tp_alloc(&world, MOST, 3);
	tp_submit(&world, 4);
	tp_free(&world, offset, 4);
	offset = tp_alloc(&world, MOST, 3);
	assert_int_equal(atomic_load(&world.done[4]), 1);
	tp_free(&world, offset, 3);
}

static void test_bound_room_is_waited_for_by_clear(void **state)
{
	uint64_t offset;

	(void)state;
	world.homes[0] = 3;
	offset = tp_alloc(&world, MOST, 3);
	tp_submit(&world, 3);
	tp_free(&world, offset, 3);
	th_assert_ok(al_clear(world.al));
	assert_int_equal(atomic_load(&world.done[3]), 1);
}

/* Nobody can tell whether its stream is done with it. */
static void test_bound_room_is_not_trimmed(void **state)
{
	uint64_t offset, released = 1;

	(void)state;
	world.homes[0] = 3;
	offset = tp_alloc(&world, MOST, 3);
	tp_submit(&world, 3);
	tp_free(&world, offset, 3);
	th_assert_ok(al_trim(world.al, 0, &released));
	assert_int_equal(released, 0);
}

/* An owner that trims for something else than a block. */
static void test_wait_lets_a_trim_find_what_was_fenced(void **state)
{
	uint64_t offset = tp_alloc(&world, MOST, 1), released;

	(void)state;
	assert_int_equal(al_wait(world.al), PS_AGAIN);
	tp_submit(&world, 1);
	tp_free(&world, offset, NONE);
	th_assert_ok(al_trim(world.al, 0, &released));
	assert_int_equal(released, 0);
	th_assert_ok(al_wait(world.al));
	th_assert_ok(al_trim(world.al, 0, &released));
	assert_int_equal(released, 2 * MIB);
	assert_int_equal(al_wait(world.al), PS_AGAIN);
}

/* Many plain frees need few fences. */
static void test_fence_serves_many_frees(void **state)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };

	(void)state;
	for (unsigned int i = 0; i < 100000; i++)
		tp_free(&world, tp_alloc(&world, 512, NONE), NONE);
	al_get_stats(world.al, &stats);
	assert_true(stats.fences > 0);
	assert_true(stats.fences <= 100000 / 1000);
	assert_int_equal(stats.fence_waits, 0);
}

#define T(name) TH_TEST_SETUP(name, set_up, tear_down)

static const struct th_test tests[] = {
	T(test_stream_same_reuses_without_a_fence),
	T(test_stream_other_waits_for_large),
	T(test_stream_other_needs_no_wait_once_passed),
	T(test_stream_other_waits_for_small),
	T(test_stream_none_waits_for_each),
	T(test_stream_none_small_waits_for_each),
	T(test_stream_block_freed_elsewhere_waits_there),
	T(test_record_stream_small_comes_back_when_all_are_done),
	T(test_record_stream_large_comes_back_when_all_are_done),
	T(test_record_stream_ends_with_the_block),
	T(test_capture_holds_back_until_it_ends),
	T(test_lost_device_keeps_what_is_fenced),
	T(test_lost_device_while_waiting_is_said),
	T(test_drop_stream_fences_what_it_kept),
	T(test_drop_stream_fences_free_blocks_of_pages),
	T(test_drop_stream_widens_recorded_uses),
	T(test_drop_stream_is_never_fenced_again),
	T(test_drop_stream_of_bound_room_is_never_fenced_again),
	T(test_drop_stream_without_host_memory_says_so),
	T(test_clear_without_host_memory_says_so),
	T(test_capture_of_one_stream_leaves_the_others),
	T(test_streams_are_known_until_dropped),
	T(test_drop_stream_none_is_refused),
	T(test_bound_room_serves_its_stream_only),
	T(test_bound_room_freed_elsewhere_waits),
	T(test_bound_room_is_waited_for_by_clear),
	T(test_bound_room_is_not_trimmed),
	T(test_wait_lets_a_trim_find_what_was_fenced),
	T(test_fence_serves_many_frees),
};

TH_MAIN("allocator_streams", tests)
