/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What is submitted through device/device.h and not waited for: copies, words
 * that are written and waited for, timed fences; registered host memory. */
#include "device/device.h"

#include "base/status.h"
#include "tests/support/gpu.h"
#include "tests/support/sim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SEGMENT TH_SEGMENT_BYTES

/* The child's device, a writable segment, a stream. */
struct world {
	struct dv_device *dev;
	uint64_t address;
	void *stream;
};

static struct world new_world(const struct th_gpu *gpu)
{
	struct world world;

	th_assert_ok(dv_device_open(NULL, &world.dev));
	th_assert_ok(dv_stream_create(world.dev, &world.stream));
	world.address = th_gpu_segment(gpu);
	return world;
}

static uint32_t word_at(const struct world *world, uint64_t offset)
{
	uint32_t word;

	th_assert_ok(dv_copy_out(world->dev, &word, world->address + offset,
				 sizeof(word)));
	return word;
}

static void *host_memory(size_t bytes, int protection)
{
	void *memory = mmap(NULL, bytes, protection,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(memory != MAP_FAILED);
	return memory;
}

/* ---- streams ---- */

static void test_device_stream_says_whether_it_captures(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	CUstream stream;
	bool captures = false;

	(void)state;
	if (!gpu)
		return;
	th_assert_ok(dv_device_open(NULL, &dev));
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_assert_ok(dv_stream_captures(dev, stream, &captures));
	assert_true(captures);
	th_gpu_end_capture(gpu, stream);
	th_assert_ok(dv_stream_captures(dev, stream, &captures));
	assert_false(captures);
	th_cu(gpu->driver->cuCtxSetCurrent(NULL));
	captures = true;
	th_assert_ok(dv_stream_captures(dev, NULL, &captures));
	assert_false(captures);
	th_gpu_exit();
}

static void test_device_stream_barred_by_a_capture_says_so(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	CUstream stream;
	bool captures = false;

	(void)state;
	if (!gpu)
		return;
	th_assert_ok(dv_device_open(NULL, &dev));
	stream = th_gpu_capture(gpu, CU_STREAM_DEFAULT);
	th_assert_ok(dv_stream_captures(dev, NULL, &captures));
	assert_true(captures);
	th_gpu_end_capture(gpu, stream);
	th_gpu_exit();
}

static void test_device_urgent_stream_passes_others(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct world world;
	void *urgent;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	th_assert_ok(dv_stream_create_urgent(world.dev, &urgent));
	th_gpu_block(gpu, world.stream);
	th_gpu_block(gpu, NULL);
	th_assert_ok(dv_fill(world.dev, world.address, 5, 4, urgent));
	th_assert_ok(dv_stream_wait(world.dev, urgent));
	assert_int_equal(word_at(&world, 0), 5);
	th_gpu_unblock(gpu);
	dv_stream_destroy(world.dev, urgent);
	th_gpu_exit();
}

static void test_device_urgent_stream_that_fails_says_why(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct world world;
	void *urgent = NULL;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	th_sim_fail_nth("cuCtxGetStreamPriorityRange", 1, CUDA_ERROR_UNKNOWN);
	th_assert_status(dv_stream_create_urgent(world.dev, &urgent),
			 PS_DRIVER);
	assert_non_null(strstr(bs_fail_text(), "urgent stream"));
	th_sim_fail_nth("cuStreamCreateWithPriority", 1, CUDA_ERROR_UNKNOWN);
	th_assert_status(dv_stream_create_urgent(world.dev, &urgent),
			 PS_DRIVER);
	assert_null(urgent);
	th_gpu_exit();
}

/* ---- words and copies ---- */

static void test_device_word_is_written_behind_the_copy(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	const uint32_t data = 7;
	struct world world;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	th_gpu_put(gpu, world.address, 0);
	th_gpu_put(gpu, world.address + 64, 0);
	th_gpu_block(gpu, world.stream);
	th_assert_ok(dv_copy_in_async(world.dev, world.address, &data, 4,
				      world.stream));
	th_assert_ok(
		dv_write_word(world.dev, world.address + 64, 9, world.stream));
	th_gpu_assert_busy(gpu, world.stream);
	assert_int_equal(word_at(&world, 0), 0);
	assert_int_equal(word_at(&world, 64), 0);
	th_gpu_unblock(gpu);
	th_assert_ok(dv_stream_wait(world.dev, world.stream));
	assert_int_equal(word_at(&world, 0), 7);
	assert_int_equal(word_at(&world, 64), 9);
	th_gpu_exit();
}

/* Whether a wait for @least passes at once where @there is written. */
static void check_wait(uint32_t there, uint32_t least, bool passes)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct world world;

	if (!gpu)
		return;
	world = new_world(gpu);
	th_gpu_put(gpu, world.address, there);
	th_assert_ok(
		dv_wait_word(world.dev, world.address, least, world.stream));
	if (!passes) {
		th_gpu_assert_busy(gpu, world.stream);
		th_gpu_put(gpu, world.address, least);
	}
	th_assert_ok(dv_stream_wait(world.dev, world.stream));
	th_gpu_exit();
}

static void test_device_wait_passes_where_the_word_is_there(void **state)
{
	(void)state;
	check_wait(3, 3, true);
}

static void test_device_wait_passes_where_the_word_is_more(void **state)
{
	(void)state;
	check_wait(4, 3, true);
}

static void test_device_wait_holds_where_the_word_is_less(void **state)
{
	(void)state;
	check_wait(2, 3, false);
}

/* Where nothing of the caller's is current, and to the caller's stream. */
static void test_device_wait_needs_no_current_context(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUcontext context = NULL;
	struct world world;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	th_gpu_put(gpu, world.address, 1);
	th_cu(gpu->driver->cuCtxSetCurrent(NULL));
	th_assert_ok(dv_wait_word(world.dev, world.address, 1, world.stream));
	th_cu(gpu->driver->cuCtxGetCurrent(&context));
	assert_null(context);
	th_assert_ok(dv_stream_wait(world.dev, world.stream));
	th_gpu_exit();
}

static void test_device_wait_is_legal_in_a_capture(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct world world;
	CUstream capture;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	th_gpu_put(gpu, world.address, 0);
	capture = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_assert_ok(dv_wait_word(world.dev, world.address, 1, capture));
	th_gpu_end_capture(gpu, capture);
	th_gpu_exit();
}

static void test_device_work_refused_names_the_address(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct world world;
	uint64_t nowhere;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	nowhere = world.address + SEGMENT;
	th_assert_status(dv_wait_word(world.dev, nowhere, 1, world.stream),
			 PS_DRIVER);
	assert_non_null(strstr(bs_fail_text(), "wait for 1 at 0x"));
	th_assert_status(dv_write_word(world.dev, nowhere, 1, world.stream),
			 PS_DRIVER);
	assert_non_null(strstr(bs_fail_text(), "writing 1 to 0x"));
	th_assert_status(
		dv_copy_in_async(world.dev, nowhere, "abc", 4, world.stream),
		PS_DRIVER);
	assert_non_null(strstr(bs_fail_text(), "copying 4 bytes to 0x"));
	th_gpu_exit();
}

static void test_device_work_fails_at_each_call(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	enum ps_status status;
	struct world world;
	unsigned int n = 0;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	do {
		th_sim_reset();
		th_sim_fail_nth(NULL, ++n, CUDA_ERROR_UNKNOWN);
		status =
			dv_wait_word(world.dev, world.address, 0, world.stream);
		if (status == PS_OK)
			status = dv_write_word(world.dev, world.address, 0,
					       world.stream);
		if (status == PS_OK)
			status = dv_copy_in_async(world.dev, world.address,
						  "abc", 4, world.stream);
	} while (th_sim_calls(NULL) >= n);
	th_assert_ok(status);
	assert_int_equal(n, 3 + 5 + 5 + 1);
	th_gpu_exit();
}

/* ---- host memory ---- */

static void test_device_registered_memory_is_copied_from(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct world world;
	uint32_t *memory;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	memory = host_memory(SEGMENT, PROT_READ | PROT_WRITE);
	memory[5] = 55;
	th_assert_ok(dv_host_register(world.dev, memory, SEGMENT, false));
	th_assert_ok(dv_copy_in_async(world.dev, world.address, memory, SEGMENT,
				      world.stream));
	th_assert_ok(dv_stream_wait(world.dev, world.stream));
	assert_int_equal(word_at(&world, 20), 55);
	th_assert_ok(dv_host_unregister(world.dev, memory));
	th_assert_status(dv_host_unregister(world.dev, memory), PS_DRIVER);
	munmap(memory, SEGMENT);
	th_gpu_exit();
}

static void test_device_read_only_memory_is_copied_from(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct world world;
	uint32_t *memory;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	memory = host_memory(SEGMENT, PROT_READ | PROT_WRITE);
	memory[0] = 66;
	assert_int_equal(mprotect(memory, SEGMENT, PROT_READ), 0);
	th_assert_ok(dv_host_register(world.dev, memory, SEGMENT, true));
	th_assert_ok(dv_copy_in_async(world.dev, world.address, memory, 4,
				      world.stream));
	th_assert_ok(dv_stream_wait(world.dev, world.stream));
	assert_int_equal(word_at(&world, 0), 66);
	th_assert_ok(dv_host_unregister(world.dev, memory));
	munmap(memory, SEGMENT);
	th_gpu_exit();
}

static void test_device_memory_that_cannot_be_locked_is_hosts(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct world world;
	void *memory;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	memory = host_memory(SEGMENT, PROT_READ | PROT_WRITE);
	th_sim_fail_nth("cuMemHostRegister_v2", 1, CUDA_ERROR_OUT_OF_MEMORY);
	th_assert_status(dv_host_register(world.dev, memory, SEGMENT, false),
			 PS_HOST_MEMORY);
	assert_non_null(strstr(bs_fail_text(), "2097152 bytes"));
	assert_non_null(strstr(bs_fail_text(), "ulimit -l"));
	th_assert_ok(dv_host_register(world.dev, memory, SEGMENT, false));
	th_assert_status(dv_host_register(world.dev, memory, SEGMENT, false),
			 PS_DRIVER);
	assert_non_null(strstr(bs_fail_text(), "ALREADY_REGISTERED"));
	th_gpu_exit();
}

/* ---- time ---- */

static void test_device_time_between_fences_is_the_gpus(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_fence *from, *to;
	struct world world;
	uint64_t ns = 0;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	th_assert_ok(dv_fence_record_timed(world.dev, world.stream, &from));
	th_assert_ok(dv_fence_wait(world.dev, from));
	th_gpu_block(gpu, world.stream);
	th_assert_ok(dv_fence_record_timed(world.dev, world.stream, &to));
	th_gpu_assert_busy(gpu, world.stream);
	th_gpu_unblock(gpu);
	th_assert_ok(dv_fence_wait(world.dev, to));
	th_assert_ok(dv_fence_elapsed(world.dev, from, to, &ns));
	/* A float of milliseconds since long ago is this exact. */
	assert_true(ns > (TH_NOT_HAPPENING_MS - 10) * UINT64_C(1000000));
	assert_true(ns < UINT64_C(10000000000));
	th_gpu_exit();
}

static void test_device_timed_fence_is_no_plain_one_used_again(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_fence *from, *to;
	struct world world;
	uint64_t ns;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	th_assert_ok(dv_fence_record(world.dev, world.stream, &from));
	dv_fence_free(world.dev, from);
	for (int i = 0; i < 2; i++) {
		th_assert_ok(
			dv_fence_record_timed(world.dev, world.stream, &from));
		th_assert_ok(
			dv_fence_record_timed(world.dev, world.stream, &to));
		th_assert_ok(dv_fence_wait(world.dev, to));
		th_assert_ok(dv_fence_elapsed(world.dev, from, to, &ns));
		dv_fence_free(world.dev, from);
		dv_fence_free(world.dev, to);
	}
	assert_int_equal(th_sim_calls("cuEventCreate"), 3);
	dv_device_close(world.dev);
	assert_int_equal(th_sim_calls("cuEventDestroy_v2"), 3);
	th_gpu_exit();
}

static void test_device_time_of_a_plain_fence_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_fence *plain;
	struct world world;
	uint64_t ns = 12;

	(void)state;
	if (!gpu)
		return;
	world = new_world(gpu);
	th_assert_ok(dv_fence_record(world.dev, world.stream, &plain));
	th_assert_ok(dv_fence_wait(world.dev, plain));
	th_assert_status(dv_fence_elapsed(world.dev, plain, plain, &ns),
			 PS_DRIVER);
	assert_int_equal(ns, 12);
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_device_stream_says_whether_it_captures),
	TH_TEST(test_device_stream_barred_by_a_capture_says_so),
	TH_TEST(test_device_urgent_stream_passes_others),
	TH_TEST(test_device_urgent_stream_that_fails_says_why),
	TH_TEST(test_device_word_is_written_behind_the_copy),
	TH_TEST(test_device_wait_passes_where_the_word_is_there),
	TH_TEST(test_device_wait_passes_where_the_word_is_more),
	TH_TEST(test_device_wait_holds_where_the_word_is_less),
	TH_TEST(test_device_wait_needs_no_current_context),
	TH_TEST(test_device_wait_is_legal_in_a_capture),
	TH_TEST(test_device_work_refused_names_the_address),
	TH_TEST(test_device_work_fails_at_each_call),
	TH_TEST(test_device_registered_memory_is_copied_from),
	TH_TEST(test_device_read_only_memory_is_copied_from),
	TH_TEST(test_device_memory_that_cannot_be_locked_is_hosts),
	TH_TEST(test_device_time_between_fences_is_the_gpus),
	TH_TEST(test_device_timed_fence_is_no_plain_one_used_again),
	TH_TEST(test_device_time_of_a_plain_fence_is_refused),
};

TH_MAIN("device_work", tests)
