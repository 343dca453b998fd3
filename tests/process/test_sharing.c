/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* One pool in several processes: what each sees, may write and may use. */
#include "tests/support/pools.h"

#include "device/device.h"

#include <sys/socket.h>
#include <unistd.h>

#define WEIGHT 0x5eed5eedu

static struct ps_pool *reserve_with_weights(void)
{
	struct ps_pool *pool = th_reserve();

	th_assert_ok(ps_pool_map(pool, 0, TH_PARAMETERS * TH_SEGMENT));
	th_put(pool, ps_pool_pointer(pool, TH_SEGMENT), WEIGHT);
	return pool;
}

/* Sends the whole pool to every worker, and stays until they are done. */
static void share_whole(const struct th_part *me, unsigned int flags,
			int workers)
{
	struct ps_pool *pool = reserve_with_weights();

	for (int i = 0; i < workers; i++)
		th_send(pool, me->link[i], flags);
	for (int i = 0; i < workers; i++)
		th_await(me->link[i]);
	ps_pool_close(pool);
}

static void share_with_one(const struct th_part *me)
{
	share_whole(me, 0, 1);
}

static void share_writable(const struct th_part *me)
{
	share_whole(me, PS_SEND_WRITABLE_PARAMETERS, 1);
}

static void share_with_two(const struct th_part *me)
{
	share_whole(me, 0, 2);
}

/* ---- the whole pool ---- */

static void read_weights(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);

	th_assert_ok(ps_pool_map(pool, 0, 0));
	assert_int_equal(th_get(pool, ps_pool_pointer(pool, TH_SEGMENT)),
			 WEIGHT);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_share_by_stream_shows_the_weights(void **state)
{
	(void)state;
	th_play(share_with_one, read_weights);
}

static void test_share_by_seqpacket_shows_the_weights(void **state)
{
	const struct th_cast cast = { share_with_one,
				      { read_weights, NULL },
				      SOCK_SEQPACKET };
	struct th_stage stage;

	(void)state;
	th_stage_open(&stage, &cast);
	th_stage_close(&stage);
}

static void say_address(const struct th_part *me)
{
	struct ps_pool *pool = reserve_with_weights();
	void *at = ps_pool_pointer(pool, 0);

	th_send(pool, me->link[0], 0);
	assert_int_equal(write(me->link[0], &at, sizeof(at)), sizeof(at));
	th_await(me->link[0]);
	ps_pool_close(pool);
}

static void compare_address(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	void *at;

	assert_int_equal(read(me->link[0], &at, sizeof(at)), sizeof(at));
	assert_ptr_equal(ps_pool_pointer(pool, 0), at);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_share_gives_the_same_addresses(void **state)
{
	(void)state;
	th_play(say_address, compare_address);
}

static void compare_layout(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	uint64_t offset, size;

	assert_int_equal(ps_pool_size(pool), TH_SEGMENTS * TH_SEGMENT);
	assert_int_equal(ps_pool_segment_size(pool), TH_SEGMENT);
	th_assert_ok(
		ps_pool_region(pool, PS_REGION_COMPUTATION, &offset, &size));
	assert_int_equal(offset, TH_PARAMETERS * TH_SEGMENT);
	assert_int_equal(size, (TH_SEGMENTS - TH_PARAMETERS) * TH_SEGMENT);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_share_gives_the_same_layout(void **state)
{
	(void)state;
	th_play(share_with_one, compare_layout);
}

static void map_nothing(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);

	assert_int_equal(th_stats(pool).mapped, 0);
	th_insert(pool, TH_PARAMETERS, 4);
	th_put(pool, th_alloc(pool, 512), 1);
	assert_int_equal(th_stats(pool).mapped, TH_SEGMENT);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_share_maps_only_what_is_needed(void **state)
{
	(void)state;
	th_play(share_with_one, map_nothing);
}

static void send_on(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);

	th_assert_status(ps_send_shared(pool, me->link[0], 0, 100),
			 PS_UNSUPPORTED);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_share_of_a_received_pool_is_refused(void **state)
{
	(void)state;
	th_play(share_with_one, send_on);
}

/* ---- read-only ---- */

static void write_weights_and_fail(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	void *at = ps_pool_pointer(pool, TH_SEGMENT);
	uint32_t word = 0;

	th_assert_ok(ps_pool_map(pool, 0, 0));
	th_assert_status(ps_mem_write(pool, at, &word, sizeof(word)),
			 PS_READ_ONLY);
	assert_int_equal(th_get(pool, at), WEIGHT);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_parameters_written_by_receiver_are_read_only(void **state)
{
	(void)state;
	th_play(share_with_one, write_weights_and_fail);
}

/* The library would say PS_READ_ONLY before the GPU is asked. */
static void write_past_the_library(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	void *at = ps_pool_pointer(pool, TH_SEGMENT);
	struct dv_device *device;
	uint32_t word = 0;

	th_assert_ok(ps_pool_map(pool, 0, 0));
	th_assert_ok(dv_device_open(NULL, &device));
	assert_int_not_equal(dv_copy_in(device, (uint64_t)(uintptr_t)at, &word,
					sizeof(word)),
			     PS_OK);
	dv_device_close(device);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void share_and_look(const struct th_part *me)
{
	struct ps_pool *pool = reserve_with_weights();

	th_send(pool, me->link[0], 0);
	th_await(me->link[0]);
	assert_int_equal(th_get(pool, ps_pool_pointer(pool, TH_SEGMENT)),
			 WEIGHT);
	ps_pool_close(pool);
}

static void test_parameters_are_read_only_for_the_gpu_too(void **state)
{
	(void)state;
	th_play(share_and_look, write_past_the_library);
}

static void insert_weights_and_fail(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);

	th_assert_status(
		ps_insert_region(pool, PS_REGION_PARAMETER, PS_ANY_STREAM, 0),
		PS_READ_ONLY);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_parameters_inserted_by_receiver_are_read_only(void **state)
{
	(void)state;
	th_play(share_with_one, insert_weights_and_fail);
}

static void write_weights(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	void *at = ps_pool_pointer(pool, TH_SEGMENT);

	th_assert_ok(ps_pool_map(pool, 0, 0));
	th_put(pool, at, 7);
	assert_int_equal(th_get(pool, at), 7);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_parameters_granted_writable_are_written(void **state)
{
	(void)state;
	th_play(share_writable, write_weights);
}

static void write_computation(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	void *at = ps_pool_pointer(pool, TH_PARAMETERS * TH_SEGMENT);

	th_assert_ok(ps_pool_map(pool, 0, 0));
	th_put(pool, at, 8);
	assert_int_equal(th_get(pool, at), 8);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_computation_region_is_written_by_receiver(void **state)
{
	(void)state;
	th_play(share_with_one, write_computation);
}

/* ---- some segments ---- */

#define GIVEN_FIRST 6u
#define GIVEN_COUNT 3u

static void share_some(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();

	th_assert_ok(ps_send_range(pool, GIVEN_FIRST * TH_SEGMENT,
				   GIVEN_COUNT * TH_SEGMENT, me->link[0], 0,
				   PS_TIMEOUT_DEFAULT));
	th_await(me->link[0]);
	ps_pool_close(pool);
}

static void use_given(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	void *ptr;

	th_insert(pool, GIVEN_FIRST, GIVEN_COUNT);
	ptr = th_alloc(pool, GIVEN_COUNT * TH_SEGMENT);
	assert_ptr_equal(ptr, ps_pool_pointer(pool, GIVEN_FIRST * TH_SEGMENT));
	th_put(pool, ptr, 9);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_range_given_is_usable(void **state)
{
	(void)state;
	th_play(share_some, use_given);
}

static void use_what_is_not_given(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);

	th_assert_status(ps_insert_shared(pool, TH_SEGMENT,
					  (GIVEN_FIRST - 1) * TH_SEGMENT,
					  PS_ANY_STREAM, 0),
			 PS_OUT_OF_RANGE);
	th_assert_status(ps_pool_map(pool, 0, TH_SEGMENT), PS_OUT_OF_RANGE);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_range_not_given_is_refused(void **state)
{
	(void)state;
	th_play(share_some, use_what_is_not_given);
}

static void map_all_given(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);

	th_assert_ok(ps_pool_map(pool, 0, 0));
	assert_int_equal(th_stats(pool).mapped, GIVEN_COUNT * TH_SEGMENT);
	assert_int_equal(th_stats(pool).pool, TH_SEGMENTS * TH_SEGMENT);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_range_mapped_to_the_end_is_what_was_given(void **state)
{
	(void)state;
	th_play(share_some, map_all_given);
}

static void send_bad_ranges(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();
	int socket = me->link[0];

	th_assert_status(ps_send_range(pool, 0, 0, socket, 0, 0),
			 PS_INVALID_ARGUMENT);
	th_assert_status(ps_send_range(pool, 1, TH_SEGMENT, socket, 0, 0),
			 PS_INVALID_ARGUMENT);
	th_assert_status(ps_send_range(pool, TH_SEGMENT,
				       TH_SEGMENTS * TH_SEGMENT, socket, 0, 0),
			 PS_OUT_OF_RANGE);
	ps_pool_close(pool);
}

static void test_range_that_is_none_is_refused(void **state)
{
	(void)state;
	th_play(send_bad_ranges, NULL);
}

/* ---- two workers ---- */

/* Each writes over all of its half, then looks whether it is still its own. */
static void use_half(const struct th_part *me, uint64_t first, uint32_t mark)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	void *ptr[4];

	th_insert(pool, first, 4);
	for (uint32_t i = 0; i < 4; i++) {
		ptr[i] = th_alloc(pool, TH_SEGMENT);
		th_put(pool, ptr[i], mark + i);
	}
	th_tell(me->test);
	th_await(me->test);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(th_get(pool, ptr[i]), mark + i);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void use_first_half(const struct th_part *me)
{
	use_half(me, TH_PARAMETERS, 100);
}

static void use_second_half(const struct th_part *me)
{
	use_half(me, TH_PARAMETERS + 4, 200);
}

static void test_two_workers_keep_their_ranges_apart(void **state)
{
	const struct th_cast cast = { share_with_two,
				      { use_first_half, use_second_half },
				      0 };
	struct th_stage stage;

	(void)state;
	th_stage_open(&stage, &cast);
	th_await(stage.worker_link[0]);
	th_await(stage.worker_link[1]);
	th_tell(stage.worker_link[0]);
	th_tell(stage.worker_link[1]);
	th_stage_close(&stage);
}

static const struct th_test tests[] = {
	TH_TEST(test_share_by_stream_shows_the_weights),
	TH_TEST(test_share_by_seqpacket_shows_the_weights),
	TH_TEST(test_share_gives_the_same_addresses),
	TH_TEST(test_share_gives_the_same_layout),
	TH_TEST(test_share_maps_only_what_is_needed),
	TH_TEST(test_share_of_a_received_pool_is_refused),
	TH_TEST(test_parameters_written_by_receiver_are_read_only),
	TH_TEST(test_parameters_are_read_only_for_the_gpu_too),
	TH_TEST(test_parameters_inserted_by_receiver_are_read_only),
	TH_TEST(test_parameters_granted_writable_are_written),
	TH_TEST(test_computation_region_is_written_by_receiver),
	TH_TEST(test_range_given_is_usable),
	TH_TEST(test_range_not_given_is_refused),
	TH_TEST(test_range_mapped_to_the_end_is_what_was_given),
	TH_TEST(test_range_that_is_none_is_refused),
	TH_TEST(test_two_workers_keep_their_ranges_apart),
};

TH_GPU_MAIN("sharing", tests, NULL)
