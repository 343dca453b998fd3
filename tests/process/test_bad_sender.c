/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A sender that does not keep its word: another GPU, descriptors that lead to
 * something else, segments of another size. */
#include "tests/support/pools.h"

#include "device/device.h"
#include "ipc/handover.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WINDOW (8 * TH_SEGMENTS * TH_SEGMENT)

/* Where a pool would lie. */
static uint64_t usual_base(void)
{
	struct ps_pool *pool = th_reserve();
	uint64_t base = (uint64_t)(uintptr_t)ps_pool_pointer(pool, 0);

	ps_pool_close(pool);
	return base;
}

static struct ip_offer an_offer(const char *gpu)
{
	struct ip_offer offer = {
		.pool_id = { 1 },
		.mode = PS_SHARE_VMM,
		.window_base = usual_base(),
		.window_bytes = WINDOW,
		.segment_bytes = TH_SEGMENT,
		.segment_count = TH_SEGMENTS,
		.count = TH_SEGMENTS,
		.parameter_bytes = TH_PARAMETERS * TH_SEGMENT,
	};

	strncpy(offer.gpu, gpu, sizeof(offer.gpu) - 1);
	return offer;
}

static void put(void *owner, uint32_t first, uint32_t count, const int *fds)
{
	(void)owner;
	(void)first;
	for (uint32_t i = 0; i < count; i++)
		close(fds[i]);
}

/* Sends what @get lends, and expects the peer to refuse with @expected. */
static void send_as(const struct th_part *me, const char *gpu,
		    enum ps_status (*get)(void *, uint32_t, uint32_t, int *),
		    enum ps_status expected)
{
	const struct ip_source source = { get, put, NULL };
	struct ip_offer offer = an_offer(gpu);
	struct ip_conn conn;

	th_assert_ok(ip_conn_init(&conn, me->link[0], IP_SENDER, 0,
				  PS_TIMEOUT_DEFAULT));
	th_assert_status(ip_offer_send(&conn, &offer, &source), expected);
}

static uint64_t segment;
static struct dv_device *device;

/* No descriptor is left behind, CUDA's own apart. */
static void fail_to_receive(const struct th_part *me, enum ps_status expected)
{
	struct ps_pool *pool;
	size_t before;

	th_assert_ok(dv_device_open(NULL, &device));
	before = th_open_fds();
	th_assert_status(
		ps_recv_shared(me->link[0], 0, PS_TIMEOUT_DEFAULT, &pool),
		expected);
	assert_int_equal(th_open_fds(), before);
	dv_device_close(device);
}

static char *my_gpu(void)
{
	static char gpu[DV_UUID_TEXT];

	th_assert_ok(dv_device_open(NULL, &device));
	memcpy(gpu, dv_device_uuid(device), sizeof(gpu));
	dv_device_close(device);
	return gpu;
}

/* ---- another GPU ---- */

static void offer_another_gpu(const struct th_part *me)
{
	send_as(me, "GPU-01234567-89ab-cdef-0123-456789abcdef", NULL,
		PS_WRONG_GPU);
}

static void see_another_gpu(const struct th_part *me)
{
	fail_to_receive(me, PS_WRONG_GPU);
	th_assert_detail("GPU-01234567-89ab-cdef-0123-456789abcdef");
}

static void test_receive_for_another_gpu_names_it(void **state)
{
	(void)state;
	th_play(offer_another_gpu, see_another_gpu);
}

/* ---- descriptors of something else ---- */

static enum ps_status get_files(void *owner, uint32_t first, uint32_t count,
				int *fds)
{
	(void)owner;
	(void)first;
	for (uint32_t i = 0; i < count; i++)
		fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	return PS_OK;
}

static void offer_files(const struct th_part *me)
{
	send_as(me, my_gpu(), get_files, PS_REFUSED);
	th_assert_detail("PS_BAD_SEGMENT");
}

static void see_bad_segment(const struct th_part *me)
{
	fail_to_receive(me, PS_BAD_SEGMENT);
}

static void test_receive_of_plain_files_is_refused(void **state)
{
	(void)state;
	th_play(offer_files, see_bad_segment);
}

/* ---- only the first of each message is a segment ---- */

static enum ps_status get_one_segment(void *owner, uint32_t first,
				      uint32_t count, int *fds)
{
	get_files(owner, first, count, fds);
	close(fds[0]);
	return dv_segment_export(device, segment, &fds[0]);
}

static void offer_one_segment(const struct th_part *me)
{
	th_assert_ok(dv_device_open(NULL, &device));
	th_assert_ok(dv_segment_create(device, TH_SEGMENT, &segment));
	send_as(me, dv_device_uuid(device), get_one_segment, PS_OK);
	th_await(me->link[0]);
	th_assert_ok(dv_segment_release(device, segment));
	dv_device_close(device);
}

static void find_out_when_mapping(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);

	th_assert_ok(ps_pool_map(pool, 0, TH_SEGMENT));
	th_assert_status(ps_pool_map(pool, 0, 0), PS_BAD_SEGMENT);
	assert_int_equal(th_stats(pool).mapped, TH_SEGMENT);
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_map_of_a_plain_file_is_refused(void **state)
{
	(void)state;
	th_play(offer_one_segment, find_out_when_mapping);
}

static void find_out_when_allocating(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);
	void *ptr;

	th_insert(pool, TH_PARAMETERS + 1, 2);
	th_assert_status(ps_mem_alloc(pool, 512, &ptr), PS_BAD_SEGMENT);
	th_assert_ok(ps_mem_check(pool));
	th_tell(me->link[0]);
	ps_pool_close(pool);
}

static void test_allocation_in_a_plain_file_is_refused(void **state)
{
	(void)state;
	th_play(offer_one_segment, find_out_when_allocating);
}

static const struct th_test tests[] = {
	TH_TEST(test_receive_for_another_gpu_names_it),
	TH_TEST(test_receive_of_plain_files_is_refused),
	TH_TEST(test_map_of_a_plain_file_is_refused),
	TH_TEST(test_allocation_in_a_plain_file_is_refused),
};

TH_GPU_MAIN("bad_sender", tests, NULL)
