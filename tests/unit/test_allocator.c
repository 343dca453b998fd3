/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The allocator on pretend memory: sizes, addresses, room, errors, numbers. */
#include "allocator/allocator.h"

#include <string.h>

#include "allocator/size_class.h"
#include "base/status.h"
#include "tests/support/harness.h"
#include "tests/support/pretend.h"

#define MIB (1024ull * 1024)
#define NONE AL_STREAM_NONE

static struct tp_world world;

static int set_up(void **state)
{
	(void)state;
	tp_init(&world, 16, 1);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	tp_done(&world);
	return 0;
}

/* ---- size classes ---- */

static void test_class_every_size_fits_tightly(void **state)
{
	struct al_class table[AL_CLASSES];

	(void)state;
	al_class_table(table);
	for (uint64_t bytes = 1; bytes <= AL_SMALL_MAX; bytes += 1021) {
		unsigned int class = al_class_of(bytes);
		uint64_t size = al_class_bytes(&table[class]);

		assert_true(class < AL_CLASSES);
		assert_true(size >= bytes);
		assert_true(class == 0 ||
			    al_class_bytes(&table[class - 1]) < bytes);
		assert_true(bytes <= 4096 || size - bytes <= bytes / 8);
	}
	assert_int_equal(al_class_of(AL_SMALL_MAX), AL_CLASSES - 1);
}

static void test_class_index_is_exact_in_every_page(void **state)
{
	struct al_class table[AL_CLASSES];

	(void)state;
	al_class_table(table);
	for (unsigned int c = 0; c < AL_CLASSES; c++) {
		uint64_t bytes = al_class_bytes(&table[c]);
		uint64_t page = bytes * table[c].blocks_max;

		if (table[c].blocks_max == 1)
			page = 1;

		assert_int_equal(bytes * table[c].blocks_min % AL_UNIT, 0);
		assert_true(page % AL_UNIT == 0 || page == 1);
		for (uint64_t at = 0; at < page; at += AL_GRANULE)
			assert_int_equal(al_class_index(&table[c], at),
					 at / bytes);
	}
}

/* ---- allocation ---- */

static void test_alloc_zero_bytes_is_refused(void **state)
{
	uint64_t offset = 42;

	(void)state;
	th_assert_status(al_alloc(world.al, 0, NONE, &offset),
			 PS_INVALID_ARGUMENT);
	assert_int_equal(offset, 42);
}

static void test_alloc_overflowing_size_is_out_of_memory(void **state)
{
	uint64_t offset = 42;

	(void)state;
	th_assert_status(al_alloc(world.al, UINT64_MAX - 1, NONE, &offset),
			 PS_OUT_OF_MEMORY);
	assert_int_equal(offset, 42);
}

static void test_alloc_all_sizes_are_aligned_and_apart(void **state)
{
	uint64_t last_end = 0;

	(void)state;
	for (uint64_t bytes = 1; bytes < 8 * MIB; bytes = bytes * 3 / 2 + 1) {
		uint64_t usable = 0, offset = tp_alloc(&world, bytes, 1);

		th_assert_ok(al_usable_size(world.al, offset, &usable));
		assert_true(usable >= bytes);
		assert_int_equal(offset % AL_GRANULE, 0);
		assert_true(offset + usable <= 16 * TP_SEGMENT);
		tp_free(&world, offset, 1);
		last_end = offset + usable;
	}
	assert_true(last_end > 0);
}

static void test_alloc_small_blocks_never_share_an_address(void **state)
{
	uint64_t a = tp_alloc(&world, 1, 1), b = tp_alloc(&world, 1, 1);

	(void)state;
	assert_true(a + AL_GRANULE <= b || b + AL_GRANULE <= a);
	tp_free(&world, a, 1);
	tp_free(&world, b, 1);
}

static void test_alloc_freed_on_same_stream_is_reused_at_once(void **state)
{
	uint64_t offset = tp_alloc(&world, 4 * MIB, 1);

	(void)state;
	tp_submit(&world, 1);
	tp_free(&world, offset, 1);
	assert_int_equal(tp_alloc(&world, 4 * MIB, 1), offset);
	tp_free(&world, offset, 1);
}

static void test_alloc_whole_room_in_one_block(void **state)
{
	uint64_t offset = tp_alloc(&world, 16 * TP_SEGMENT, NONE);

	(void)state;
	assert_int_equal(offset, 0);
	assert_int_equal(tp_segments_given(&world), 16);
	tp_free(&world, offset, NONE);
}

static void test_alloc_grows_by_what_is_needed(void **state)
{
	uint64_t a = tp_alloc(&world, 512, 1);
	uint64_t b;

	(void)state;
	assert_int_equal(tp_segments_given(&world), 1);
	b = tp_alloc(&world, 3 * TP_SEGMENT, 1);
	assert_true(tp_segments_given(&world) <= 4);
	tp_free(&world, a, 1);
	tp_free(&world, b, 1);
}

static void test_alloc_joins_what_was_split(void **state)
{
	uint64_t offsets[8];

	(void)state;
	for (unsigned int i = 0; i < 8; i++)
		offsets[i] = tp_alloc(&world, 2 * TP_SEGMENT, 1);
	for (unsigned int i = 0; i < 8; i++)
		tp_free(&world, offsets[(i * 3) % 8], 1);
	offsets[0] = tp_alloc(&world, 16 * TP_SEGMENT, 1);
	assert_int_equal(offsets[0], 0);
	tp_free(&world, offsets[0], 1);
}

/* Small blocks of every class leave pages that large blocks can have again. */
static void test_alloc_empty_pages_serve_large_blocks(void **state)
{
	uint64_t offset;

	(void)state;
	for (uint64_t bytes = 512; bytes <= TP_SMALL_MAX; bytes *= 2)
		tp_free(&world, tp_alloc(&world, bytes, 1), 1);
	offset = tp_alloc(&world, 16 * TP_SEGMENT, 1);
	tp_free(&world, offset, 1);
}

/* ---- out of memory ---- */

static void test_oom_says_asked_live_and_largest(void **state)
{
	uint64_t offset = 0, live = tp_alloc(&world, 10 * TP_SEGMENT, 1);

	(void)state;
	th_assert_status(al_alloc(world.al, 7 * TP_SEGMENT, 1, &offset),
			 PS_OUT_OF_MEMORY);
	assert_non_null(strstr(bs_fail_text(), "asked for 14680064 bytes"));
	assert_non_null(strstr(bs_fail_text(), "live 20971520 bytes"));
	assert_non_null(strstr(bs_fail_text(), "largest free range 12582912"));
	tp_free(&world, live, 1);
}

static void test_oom_leaves_the_rest_usable(void **state)
{
	uint64_t offset = 0;

	(void)state;
	th_assert_status(al_alloc(world.al, 17 * TP_SEGMENT, 1, &offset),
			 PS_OUT_OF_MEMORY);
	offset = tp_alloc(&world, 16 * TP_SEGMENT, 1);
	tp_free(&world, offset, 1);
}

static void test_oom_owner_failure_is_passed_on(void **state)
{
	uint64_t offset = 0;

	(void)state;
	world.grow_status = PS_DEVICE_LOST;
	th_assert_status(al_alloc(world.al, 512, 1, &offset), PS_DEVICE_LOST);
	world.grow_status = PS_OK;
	tp_free(&world, tp_alloc(&world, 512, 1), 1);
}

/* Allocates, shares and frees a small and a large block, as far as it gets;
 * says which are still live. */
static enum ps_status use_books(uint64_t *small, bool *small_live,
				uint64_t *large, bool *large_live)
{
	enum ps_status status = al_alloc(world.al, 512, 1, small);

	*small_live = status == PS_OK;
	if (status == PS_OK)
		status = al_record_stream(world.al, *small, 2);
	if (status == PS_OK)
		status = al_free(world.al, *small, 3);
	if (status != PS_OK)
		return status;
	*small_live = false;
	status = al_alloc(world.al, 3 * MIB, 1, large);
	*large_live = status == PS_OK;
	if (status == PS_OK)
		status = al_free(world.al, *large, 5);
	if (status == PS_OK)
		*large_live = false;
	return status;
}

static void test_host_memory_failing_anywhere_loses_nothing(void **state)
{
	enum ps_status status = PS_HOST_MEMORY;
	long n;

	(void)state;
	for (n = 0; status != PS_OK; n++) {
		uint64_t small = 0, large = 0;
		bool small_live = false, large_live = false;

		tp_init(&world, 16, 1);
		world.host_allocs_left = n;
		status = use_books(&small, &small_live, &large, &large_live);
		if (status != PS_OK)
			assert_int_equal(status, PS_HOST_MEMORY);
		world.host_allocs_left = -1;
		if (small_live)
			tp_free(&world, small, 1);
		if (large_live)
			tp_free(&world, large, 1);
		tp_done(&world);
	}
	assert_true(n >= 4);
}

static void test_new_without_host_memory_fails(void **state)
{
	enum ps_status status = PS_HOST_MEMORY;
	struct al_allocator *al = NULL;
	struct al_config config = tp_config(&world, 4);
	long before = world.host_blocks, n;

	(void)state;
	for (n = 0; status != PS_OK; n++) {
		world.host_allocs_left = n;
		status = al_new(&config, &al);
		assert_true(status == PS_OK || status == PS_HOST_MEMORY);
	}
	world.host_allocs_left = -1;
	al_destroy(al);
	assert_true(n > 4);
	assert_int_equal(world.host_blocks, before);
}

/* By default a block of up to 64 MiB is a page of its own. */
static void test_new_by_default_keeps_middle_sizes_in_shards(void **state)
{
	struct al_config config = tp_config(&world, 1);
	uint64_t a = 0, b = 0;

	(void)state;
	tp_done(&world);
	config.small_max = 0;
	tp_init(&world, 0, 1);
	al_destroy(world.al);
	world.segments = TP_SEGMENTS;
	th_assert_ok(al_new(&config, &world.al));
	a = tp_alloc(&world, 33 * MIB, 1);
	b = tp_alloc(&world, 65 * MIB, 1);
	th_assert_status(al_free(world.al, a + 20 * MIB, 1), PS_INTERIOR);
	th_assert_status(al_free(world.al, b + 20 * MIB, 1), PS_INTERIOR);
	tp_free(&world, a, 1);
	th_assert_status(al_free(world.al, a, 1), PS_DOUBLE_FREE);
	tp_free(&world, b, 1);
}

static void test_new_with_bad_numbers_is_refused(void **state)
{
	struct al_allocator *al = NULL;
	struct al_config config = tp_config(&world, 1);

	(void)state;
	config.capacity = AL_UNIT + 1;
	th_assert_status(al_new(&config, &al), PS_INVALID_ARGUMENT);
	config = tp_config(&world, 1);
	config.room_unit = 3 * AL_UNIT;
	th_assert_status(al_new(&config, &al), PS_INVALID_ARGUMENT);
	config = tp_config(&world, 1);
	config.ops.fence_wait = NULL;
	th_assert_status(al_new(&config, &al), PS_INVALID_ARGUMENT);
}

/* ---- wrong addresses ---- */

static void test_free_foreign_offset_is_not_ours(void **state)
{
	(void)state;
	th_assert_status(al_free(world.al, 5 * TP_SEGMENT, 1), PS_NOT_OURS);
	th_assert_status(al_free(world.al, 1ull << 60, 1), PS_NOT_OURS);
	assert_non_null(strstr(bs_fail_text(), "0x1000000000000000"));
}

static void test_free_interior_of_small_block_names_it(void **state)
{
	uint64_t offset = tp_alloc(&world, 4096, 1);

	(void)state;
	th_assert_status(al_free(world.al, offset + 512, 1), PS_INTERIOR);
	assert_non_null(strstr(bs_fail_text(), "block of 4096 bytes"));
	tp_free(&world, offset, 1);
}

static void test_free_interior_of_large_block_names_it(void **state)
{
	uint64_t offset = tp_alloc(&world, 4 * MIB, 1);

	(void)state;
	th_assert_status(al_free(world.al, offset + 512, 1), PS_INTERIOR);
	th_assert_status(al_free(world.al, offset + 3 * MIB, 1), PS_INTERIOR);
	assert_non_null(strstr(bs_fail_text(), "block of 4194304 bytes"));
	tp_free(&world, offset, 1);
}

static void test_free_twice_is_refused(void **state)
{
	uint64_t small = tp_alloc(&world, 512, 1);
	uint64_t keep = tp_alloc(&world, 512, 1);
	uint64_t large = tp_alloc(&world, 4 * MIB, 1);

	(void)state;
	tp_free(&world, small, 1);
	th_assert_status(al_free(world.al, small, 1), PS_DOUBLE_FREE);
	tp_free(&world, large, 1);
	th_assert_status(al_free(world.al, large, 1), PS_DOUBLE_FREE);
	tp_free(&world, keep, 1);
}

static void test_free_twice_behind_a_fence_is_refused(void **state)
{
	uint64_t small = tp_alloc(&world, 512, NONE);
	uint64_t large = tp_alloc(&world, 4 * MIB, NONE);

	(void)state;
	tp_submit(&world, 3);
	tp_free(&world, small, NONE);
	tp_free(&world, large, NONE);
	th_assert_status(al_free(world.al, small, NONE), PS_DOUBLE_FREE);
	th_assert_status(al_free(world.al, large, NONE), PS_DOUBLE_FREE);
}

static void test_use_of_freed_block_is_refused(void **state)
{
	uint64_t usable = 0, offset = tp_alloc(&world, 512, 1);

	(void)state;
	tp_free(&world, offset, 1);
	th_assert_status(al_record_stream(world.al, offset, 2), PS_DOUBLE_FREE);
	th_assert_status(al_usable_size(world.al, offset, &usable),
			 PS_DOUBLE_FREE);
}

/* ---- trim and clear ---- */

static void test_trim_gives_free_segments_back(void **state)
{
	uint64_t released = 0, keep = tp_alloc(&world, 512, 1);
	uint64_t large = tp_alloc(&world, 8 * TP_SEGMENT, 1);

	(void)state;
	tp_free(&world, large, 1);
	th_assert_ok(al_trim(world.al, 0, &released));
	assert_int_equal(released, 8 * TP_SEGMENT);
	assert_int_equal(tp_segments_given(&world), 1);
	tp_free(&world, keep, 1);
}

static void test_trim_keeps_what_was_asked(void **state)
{
	uint64_t released = 0;

	(void)state;
	tp_free(&world, tp_alloc(&world, 8 * TP_SEGMENT, 1), 1);
	th_assert_ok(al_trim(world.al, 3 * TP_SEGMENT, &released));
	assert_int_equal(released, 5 * TP_SEGMENT);
	assert_int_equal(tp_segments_given(&world), 3);
}

static void test_trim_leaves_what_a_fence_guards(void **state)
{
	uint64_t released = 0, offset = tp_alloc(&world, 4 * TP_SEGMENT, 1);

	(void)state;
	tp_submit(&world, 1);
	tp_free(&world, offset, 1);
	world.waiting_forbidden = true;
	th_assert_ok(al_trim(world.al, 0, &released));
	assert_int_equal(released, 0);
	tp_finish(&world, 1);
	th_assert_ok(al_trim(world.al, 0, &released));
	assert_int_equal(released, 4 * TP_SEGMENT);
}

static void test_clear_with_live_blocks_names_them(void **state)
{
	uint64_t a = tp_alloc(&world, 512, 1);
	uint64_t b = tp_alloc(&world, 4 * MIB, 1);

	(void)state;
	th_assert_status(al_clear(world.al), PS_BUSY);
	assert_non_null(strstr(bs_fail_text(), "2 blocks of 4194816 bytes"));
	assert_true(tp_segments_given(&world) > 0);
	tp_free(&world, a, 1);
	tp_free(&world, b, 1);
}

static void test_clear_waits_for_every_stream(void **state)
{
	(void)state;
	for (uint64_t s = 0; s < TP_STREAMS; s++) {
		uint64_t offset = tp_alloc(&world, 512u << s, s);

		tp_submit(&world, s);
		tp_free(&world, offset, s);
	}
	th_assert_ok(al_clear(world.al));
	for (uint64_t s = 0; s < TP_STREAMS; s++)
		assert_int_equal(atomic_load(&world.done[s]), 1);
	assert_int_equal(tp_segments_given(&world), 0);
}

static void test_clear_during_capture_says_again(void **state)
{
	(void)state;
	tp_free(&world, tp_alloc(&world, 512, 1), NONE);
	world.capturing = true;
	th_assert_status(al_clear(world.al), PS_AGAIN);
	world.capturing = false;
}

/* ---- numbers ---- */

static struct ps_mem_stats stats(void)
{
	struct ps_mem_stats s = { .struct_size = sizeof(s) };

	al_get_stats(world.al, &s);
	return s;
}

static void test_stats_live_is_true_to_the_byte(void **state)
{
	uint64_t a = tp_alloc(&world, 500, 1);
	uint64_t b = tp_alloc(&world, 5000, NONE);
	uint64_t c = tp_alloc(&world, 2 * MIB + 1, 1);

	(void)state;
	assert_int_equal(stats().live, 512 + 5120 + 2 * MIB + AL_UNIT);
	assert_int_equal(stats().live_blocks, 3);
	assert_int_equal(stats().reserved,
			 tp_segments_given(&world) * TP_SEGMENT);
	assert_int_equal(stats().cached, stats().reserved - stats().live);
	assert_int_equal(stats().allocs, 3);
	tp_free(&world, a, 1);
	tp_free(&world, b, NONE);
	assert_int_equal(stats().pending, 5120);
	tp_free(&world, c, 1);
	assert_int_equal(stats().live, 0);
	assert_int_equal(stats().frees, 3);
}

static void test_stats_classes_add_up(void **state)
{
	uint64_t a = tp_alloc(&world, 512, 1);
	uint64_t b = tp_alloc(&world, 1024, 1);
	uint64_t c = tp_alloc(&world, 4 * MIB, 1);

	(void)state;
	assert_int_equal(stats().classes[9].largest, 512);
	assert_int_equal(stats().classes[9].live_blocks, 1);
	assert_int_equal(stats().classes[10].live, 1024);
	assert_int_equal(stats().classes[22].live, 4 * MIB);
	tp_free(&world, a, 1);
	tp_free(&world, b, 1);
	tp_free(&world, c, 1);
}

static void test_stats_peak_is_the_most_there_was(void **state)
{
	uint64_t a = tp_alloc(&world, 512, 1);
	uint64_t b = tp_alloc(&world, 4 * MIB, 1);

	(void)state;
	tp_free(&world, a, 1);
	a = tp_alloc(&world, 1024, 2);
	assert_int_equal(stats().peak_live, 4 * MIB + 1024);
	tp_free(&world, b, 1);
	b = tp_alloc(&world, 2 * MIB, 2);
	assert_int_equal(stats().peak_live, 4 * MIB + 1024);
	tp_free(&world, a, 2);
	tp_free(&world, b, 2);
	assert_int_equal(stats().peak_live, 4 * MIB + 1024);
}

static void test_peak_restart_begins_at_what_is_live(void **state)
{
	uint64_t a = tp_alloc(&world, 4 * MIB, 1);
	uint64_t b = tp_alloc(&world, 512, 1);

	(void)state;
	tp_free(&world, a, 1);
	assert_int_equal(al_peak_restart(world.al), 4 * MIB + 512);
	assert_int_equal(al_peak_restart(world.al), 512);
	a = tp_alloc(&world, 2 * MIB, 1);
	tp_free(&world, a, 1);
	assert_int_equal(al_peak_restart(world.al), 2 * MIB + 512);
	assert_int_equal(stats().peak_live, 4 * MIB + 512);
	tp_free(&world, b, 1);
}

static void test_stats_failed_allocations_are_counted(void **state)
{
	uint64_t offset;

	(void)state;
	th_assert_status(al_alloc(world.al, 64 * MIB, 1, &offset),
			 PS_OUT_OF_MEMORY);
	assert_int_equal(stats().failed_allocs, 1);
}

#define T(name) TH_TEST_SETUP(name, set_up, tear_down)

static const struct th_test tests[] = {
	TH_TEST(test_class_every_size_fits_tightly),
	TH_TEST(test_class_index_is_exact_in_every_page),
	T(test_alloc_zero_bytes_is_refused),
	T(test_alloc_overflowing_size_is_out_of_memory),
	T(test_alloc_all_sizes_are_aligned_and_apart),
	T(test_alloc_small_blocks_never_share_an_address),
	T(test_alloc_freed_on_same_stream_is_reused_at_once),
	T(test_alloc_whole_room_in_one_block),
	T(test_alloc_grows_by_what_is_needed),
	T(test_alloc_joins_what_was_split),
	T(test_alloc_empty_pages_serve_large_blocks),
	T(test_oom_says_asked_live_and_largest),
	T(test_oom_leaves_the_rest_usable),
	T(test_oom_owner_failure_is_passed_on),
	TH_TEST(test_host_memory_failing_anywhere_loses_nothing),
	T(test_new_without_host_memory_fails),
	T(test_new_by_default_keeps_middle_sizes_in_shards),
	T(test_new_with_bad_numbers_is_refused),
	T(test_free_foreign_offset_is_not_ours),
	T(test_free_interior_of_small_block_names_it),
	T(test_free_interior_of_large_block_names_it),
	T(test_free_twice_is_refused),
	T(test_free_twice_behind_a_fence_is_refused),
	T(test_use_of_freed_block_is_refused),
	T(test_trim_gives_free_segments_back),
	T(test_trim_keeps_what_was_asked),
	T(test_trim_leaves_what_a_fence_guards),
	T(test_clear_with_live_blocks_names_them),
	T(test_clear_waits_for_every_stream),
	T(test_clear_during_capture_says_again),
	T(test_stats_live_is_true_to_the_byte),
	T(test_stats_classes_add_up),
	T(test_stats_peak_is_the_most_there_was),
	T(test_peak_restart_begins_at_what_is_live),
	T(test_stats_failed_allocations_are_counted),
};

TH_MAIN("allocator", tests)
