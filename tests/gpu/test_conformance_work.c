/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the project relies on in the driver: the order of work. On a real GPU
 * and on the simulated one.
 */
#include "tests/support/gpu.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#define SEGMENT TH_SEGMENT_BYTES

/* ---- order in and between streams ---- */

static void test_stream_runs_in_order(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	uint32_t words[2] = { 0, 0 };
	CUdeviceptr address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuMemsetD32Async(address, 1, 2, stream));
	th_cu(gpu->driver->cuMemsetD32Async(address + 4, 2, 1, stream));
	th_cu(gpu->driver->cuMemcpyDtoDAsync_v2(address + 8, address, 8,
						stream));
	th_cu(gpu->driver->cuMemcpyDtoHAsync_v2(words, address + 8, 8, stream));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	assert_int_equal(words[0], 1);
	assert_int_equal(words[1], 2);
	th_gpu_exit();
}

/* Work on @second behind blocked work on @first: waits, or does not. */
static void check_order(const struct th_gpu *gpu, CUstream first,
			CUstream second, bool waits)
{
	CUdeviceptr address = th_gpu_segment(gpu);
	CUevent event = th_gpu_event(gpu);

	th_gpu_block(gpu, first);
	th_cu(gpu->driver->cuMemsetD32Async(address, 1, 1, second));
	th_cu(gpu->driver->cuEventRecord(event, second));
	if (waits)
		th_gpu_assert_pending(gpu, event);
	else
		th_cu(gpu->driver->cuEventSynchronize(event));
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuEventSynchronize(event));
}

enum which { LEGACY, PER_THREAD, BLOCKING, NON_BLOCKING };

static CUstream stream_of(const struct th_gpu *gpu, enum which which)
{
	switch (which) {
	case LEGACY:
		return NULL;
	case PER_THREAD:
		return CU_STREAM_PER_THREAD;
	case BLOCKING:
		return th_gpu_stream(gpu, CU_STREAM_DEFAULT);
	default:
		return th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	}
}

/* Whether work on the second waits for blocked work on the first. */
static void order_in_child(enum which first, enum which second, bool waits)
{
	const struct th_gpu *gpu = th_gpu_child();

	if (!gpu)
		return;
	check_order(gpu, stream_of(gpu, first), stream_of(gpu, second), waits);
	th_gpu_exit();
}

static void test_legacy_stream_waits_for_blocking_stream(void **state)
{
	(void)state;
	order_in_child(BLOCKING, LEGACY, true);
}

static void test_legacy_stream_waits_for_per_thread_stream(void **state)
{
	(void)state;
	order_in_child(PER_THREAD, LEGACY, true);
}

static void test_blocking_stream_waits_for_legacy_stream(void **state)
{
	(void)state;
	order_in_child(LEGACY, BLOCKING, true);
}

static void test_per_thread_stream_waits_for_legacy_stream(void **state)
{
	(void)state;
	order_in_child(LEGACY, PER_THREAD, true);
}

static void test_non_blocking_stream_passes_legacy_stream(void **state)
{
	(void)state;
	order_in_child(LEGACY, NON_BLOCKING, false);
}

static void test_legacy_stream_passes_non_blocking_stream(void **state)
{
	(void)state;
	order_in_child(NON_BLOCKING, LEGACY, false);
}

static void test_two_streams_run_side_by_side(void **state)
{
	(void)state;
	order_in_child(NON_BLOCKING, NON_BLOCKING, false);
}

/* ---- events ---- */

static void test_event_passes_behind_its_work(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream stream;
	CUevent event;

	(void)state;
	if (!gpu)
		return;
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	event = th_gpu_event(gpu);
	th_cu(gpu->driver->cuEventQuery(event)); /* never recorded */
	th_gpu_block(gpu, stream);
	th_cu(gpu->driver->cuEventRecord(event, stream));
	th_gpu_assert_pending(gpu, event);
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuEventSynchronize(event));
	th_cu(gpu->driver->cuEventQuery(event));
	th_gpu_exit();
}

static void test_stream_waits_for_event_of_another(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream second;
	CUstream first;
	CUevent event;

	(void)state;
	if (!gpu)
		return;
	first = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	second = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	event = th_gpu_event(gpu);
	th_gpu_block(gpu, first);
	th_cu(gpu->driver->cuEventRecord(event, first));
	th_cu(gpu->driver->cuStreamWaitEvent(second, event, 0));
	th_gpu_assert_busy(gpu, second);
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuStreamSynchronize(second));
	th_cu(gpu->driver->cuStreamQuery(first));
	th_gpu_exit();
}

static void test_event_recorded_again_stands_for_the_new_work(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream blocked;
	CUstream idle;
	CUevent event;

	(void)state;
	if (!gpu)
		return;
	blocked = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	idle = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	event = th_gpu_event(gpu);
	th_gpu_block(gpu, blocked);
	th_cu(gpu->driver->cuEventRecord(event, blocked));
	th_cu(gpu->driver->cuEventRecord(event, idle));
	th_cu(gpu->driver->cuEventSynchronize(event));
	th_gpu_assert_busy(gpu, blocked);
	th_gpu_unblock(gpu);
	th_gpu_exit();
}

static void test_event_of_destroyed_stream_passes(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream stream;
	CUevent event;

	(void)state;
	if (!gpu)
		return;
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	event = th_gpu_event(gpu);
	th_gpu_block(gpu, stream);
	th_cu(gpu->driver->cuEventRecord(event, stream));
	th_cu(gpu->driver->cuStreamDestroy_v2(stream));
	th_gpu_assert_pending(gpu, event);
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuEventSynchronize(event));
	th_gpu_exit();
}

static void test_elapsed_time_runs_forward(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	float milliseconds = -1;
	CUevent start;
	CUevent end;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuEventCreate(&start, CU_EVENT_DEFAULT));
	th_cu(gpu->driver->cuEventCreate(&end, CU_EVENT_DEFAULT));
	th_cu(gpu->driver->cuEventRecord(start, NULL));
	th_cu(gpu->driver->cuEventRecord(end, NULL));
	th_cu(gpu->driver->cuEventSynchronize(end));
	th_cu(gpu->driver->cuEventElapsedTime(&milliseconds, start, end));
	assert_true(milliseconds >= 0);
	th_gpu_exit();
}

/* ---- an event for the whole context ---- */

/* Skips where the driver is older than 12.5. */
static void check_context_event(enum which which)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream stream;
	CUevent event;

	if (!gpu)
		return;
	if (!gpu->driver->cuCtxRecordEvent)
		th_gpu_exit();
	stream = stream_of(gpu, which);
	event = th_gpu_event(gpu);
	th_gpu_block(gpu, stream);
	th_cu(gpu->driver->cuCtxRecordEvent(gpu->context, event));
	th_gpu_assert_pending(gpu, event);
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuEventSynchronize(event));
	th_cu(gpu->driver->cuStreamQuery(stream));
	th_gpu_exit();
}

static void test_context_event_covers_non_blocking_stream(void **state)
{
	(void)state;
	check_context_event(NON_BLOCKING);
}

static void test_context_event_covers_blocking_stream(void **state)
{
	(void)state;
	check_context_event(BLOCKING);
}

static void test_context_event_covers_legacy_stream(void **state)
{
	(void)state;
	check_context_event(LEGACY);
}

static void test_context_event_covers_per_thread_stream(void **state)
{
	(void)state;
	check_context_event(PER_THREAD);
}

/* What another thread needs, and where it waits until the test is over. */
struct other_thread {
	const struct th_gpu *gpu;
	int ready[2];
	int over[2];
};

static void *block_own_stream(void *arg)
{
	struct other_thread *other = arg;
	char byte = 0;

	if (other->gpu->driver->cuCtxSetCurrent(other->gpu->context) ==
	    CUDA_SUCCESS)
		th_gpu_block(other->gpu, CU_STREAM_PER_THREAD);
	assert_int_equal(write(other->ready[1], &byte, 1), 1);
	assert_int_equal(read(other->over[0], &byte, 1), 1);
	return NULL;
}

static void test_context_event_covers_streams_of_other_threads(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct other_thread other = { .gpu = gpu };
	pthread_t thread;
	CUevent event;
	char byte;

	(void)state;
	if (!gpu)
		return;
	assert_int_equal(pipe(other.ready) | pipe(other.over), 0);
	assert_int_equal(
		pthread_create(&thread, NULL, block_own_stream, &other), 0);
	assert_int_equal(read(other.ready[0], &byte, 1), 1);
	event = th_gpu_event(gpu);
	if (gpu->driver->cuCtxRecordEvent) {
		th_cu(gpu->driver->cuCtxRecordEvent(gpu->context, event));
		th_gpu_assert_pending(gpu, event);
	}
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuEventSynchronize(event));
	assert_int_equal(write(other.over[1], &byte, 1), 1);
	pthread_join(thread, NULL);
	th_gpu_exit();
}

/* ---- values ---- */

static void test_value_wait_compares_as_asked(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuStreamWriteValue32_v2(stream, address, 6, 0));
	th_cu(gpu->driver->cuStreamWaitValue32_v2(stream, address, 5,
						  CU_STREAM_WAIT_VALUE_GEQ));
	th_cu(gpu->driver->cuStreamWaitValue32_v2(stream, address, 6,
						  CU_STREAM_WAIT_VALUE_EQ));
	th_cu(gpu->driver->cuStreamWaitValue32_v2(stream, address, 4,
						  CU_STREAM_WAIT_VALUE_AND));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	th_cu(gpu->driver->cuStreamWaitValue32_v2(stream, address, 7,
						  CU_STREAM_WAIT_VALUE_GEQ));
	th_gpu_assert_busy(gpu, stream);
	th_gpu_exit();
}

static void test_value_wait_is_ended_by_another_streams_write(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUstream waiter;
	CUstream writer;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	th_gpu_put(gpu, address, 0);
	waiter = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	writer = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuStreamWaitValue32_v2(waiter, address, 1,
						  CU_STREAM_WAIT_VALUE_EQ));
	th_gpu_assert_busy(gpu, waiter);
	th_cu(gpu->driver->cuStreamWriteValue32_v2(writer, address, 1, 0));
	th_cu(gpu->driver->cuStreamSynchronize(waiter));
	th_gpu_exit();
}

/* ---- what waits for running work ---- */

struct freeing {
	const struct th_gpu *gpu;
	CUdeviceptr address;
	CUresult result;
	int done[2];
};

static void *free_address(void *arg)
{
	struct freeing *freeing = arg;
	const struct dv_driver *driver = freeing->gpu->driver;

	freeing->result = driver->cuCtxSetCurrent(freeing->gpu->context);
	if (freeing->result == CUDA_SUCCESS)
		freeing->result = driver->cuMemFree_v2(freeing->address);
	close(freeing->done[1]);
	return NULL;
}

static void test_free_waits_for_running_work(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct freeing freeing = { .gpu = gpu };
	struct pollfd done = { .events = POLLIN };
	pthread_t thread;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemAlloc_v2(&freeing.address, SEGMENT));
	th_gpu_block(gpu, th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING));
	assert_int_equal(pipe(freeing.done), 0);
	pthread_create(&thread, NULL, free_address, &freeing);
	done.fd = freeing.done[0];
	assert_int_equal(poll(&done, 1, TH_NOT_HAPPENING_MS), 0);
	th_gpu_unblock(gpu);
	pthread_join(thread, NULL);
	th_cu(freeing.result);
	th_gpu_exit();
}

struct unblocking {
	const struct th_gpu *gpu;
	int done[2];
};

/* Not before it is clear that the caller of this thread waits. */
static void *unblock_unless_done(void *arg)
{
	struct unblocking *unblocking = arg;
	struct pollfd done = { unblocking->done[0], POLLIN, 0 };

	if (poll(&done, 1, TH_NOT_HAPPENING_MS) == 0)
		th_gpu_unblock(unblocking->gpu);
	return NULL;
}

static void test_copy_to_pageable_memory_waits_for_its_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct unblocking unblocking = { .gpu = gpu };
	CUdeviceptr address;
	uint32_t word = 0;
	pthread_t thread;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_gpu_block(gpu, stream);
	th_cu(gpu->driver->cuMemsetD32Async(address, 9, 1, stream));
	assert_int_equal(pipe(unblocking.done), 0);
	pthread_create(&thread, NULL, unblock_unless_done, &unblocking);
	th_cu(gpu->driver->cuMemcpyDtoHAsync_v2(&word, address, 4, stream));
	close(unblocking.done[1]);
	pthread_join(thread, NULL);
	assert_int_equal(word, 9);
	th_gpu_exit();
}

/* ---- kernels ---- */

static void test_kernel_writes_what_it_was_given(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUfunction poke;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	poke = th_gpu_poke(gpu);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_gpu_launch_poke(gpu, poke, stream, address, 77);
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	assert_int_equal(th_gpu_get(gpu, address), 77);
	th_gpu_exit();
}

static void test_kernel_on_unmapped_memory_ends_the_context(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUfunction poke;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	poke = th_gpu_poke(gpu);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuMemUnmap(address, SEGMENT));
	th_gpu_launch_poke(gpu, poke, stream, address, 1);
	th_cu_is(gpu->driver->cuStreamSynchronize(stream),
		 CUDA_ERROR_ILLEGAL_ADDRESS);
	th_cu_is(gpu->driver->cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
	th_gpu_exit();
}

static void test_module_of_garbage_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmodule module;

	(void)state;
	if (!gpu)
		return;
	th_cu_fails(gpu->driver->cuModuleLoadData(&module, "no module"));
	th_cu_is(gpu->driver->cuModuleLoad(&module, "/no/such/file.ptx"),
		 CUDA_ERROR_FILE_NOT_FOUND);
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_stream_runs_in_order),
	TH_TEST(test_legacy_stream_waits_for_blocking_stream),
	TH_TEST(test_legacy_stream_waits_for_per_thread_stream),
	TH_TEST(test_blocking_stream_waits_for_legacy_stream),
	TH_TEST(test_per_thread_stream_waits_for_legacy_stream),
	TH_TEST(test_non_blocking_stream_passes_legacy_stream),
	TH_TEST(test_legacy_stream_passes_non_blocking_stream),
	TH_TEST(test_two_streams_run_side_by_side),
	TH_TEST(test_event_passes_behind_its_work),
	TH_TEST(test_stream_waits_for_event_of_another),
	TH_TEST(test_event_recorded_again_stands_for_the_new_work),
	TH_TEST(test_event_of_destroyed_stream_passes),
	TH_TEST(test_elapsed_time_runs_forward),
	TH_TEST(test_context_event_covers_non_blocking_stream),
	TH_TEST(test_context_event_covers_blocking_stream),
	TH_TEST(test_context_event_covers_legacy_stream),
	TH_TEST(test_context_event_covers_per_thread_stream),
	TH_TEST(test_context_event_covers_streams_of_other_threads),
	TH_TEST(test_value_wait_compares_as_asked),
	TH_TEST(test_value_wait_is_ended_by_another_streams_write),
	TH_TEST(test_free_waits_for_running_work),
	TH_TEST(test_copy_to_pageable_memory_waits_for_its_stream),
	TH_TEST(test_kernel_writes_what_it_was_given),
	TH_TEST(test_kernel_on_unmapped_memory_ends_the_context),
	TH_TEST(test_module_of_garbage_is_refused),
};

TH_MAIN("conformance_work", tests)
