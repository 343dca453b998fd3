/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the project relies on in the driver: beside a stream capture. On a
 * real GPU and on the simulated one.
 */
#include "tests/support/gpu.h"

#define SEGMENT TH_SEGMENT_BYTES

static CUstream start_capture(const struct th_gpu *gpu, unsigned int flags)
{
	CUstreamCaptureMode relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;
	CUstream stream = th_gpu_stream(gpu, flags);

	th_cu(gpu->driver->cuStreamBeginCapture_v2(
		stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	/* As every call of device/ does. */
	th_cu(gpu->driver->cuThreadExchangeStreamCaptureMode(&relaxed));
	return stream;
}

static void end_capture(const struct th_gpu *gpu, CUstream stream)
{
	CUgraph graph = NULL;

	th_cu(gpu->driver->cuStreamEndCapture(stream, &graph));
	th_cu(gpu->driver->cuGraphDestroy(graph));
}

static void test_capture_is_seen_and_ends(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	stream = start_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuStreamIsCapturing(stream, &status));
	assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
	end_capture(gpu, stream);
	th_cu(gpu->driver->cuStreamIsCapturing(stream, &status));
	assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_NONE);
	th_gpu_exit();
}

static void test_captured_work_does_not_run(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	th_gpu_put(gpu, address, 1);
	stream = start_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuMemsetD32Async(address, 2, 1, stream));
	end_capture(gpu, stream);
	th_cu(gpu->driver->cuCtxSynchronize());
	assert_int_equal(th_gpu_get(gpu, address), 1);
	th_gpu_exit();
}

static void test_context_event_during_capture_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream stream;
	CUevent event;

	(void)state;
	if (!gpu)
		return;
	if (!gpu->driver->cuCtxRecordEvent)
		th_gpu_exit();
	event = th_gpu_event(gpu);
	stream = start_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_cu_is(gpu->driver->cuCtxRecordEvent(gpu->context, event),
		 CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	end_capture(gpu, stream);
	th_cu(gpu->driver->cuCtxRecordEvent(gpu->context, event));
	th_cu(gpu->driver->cuEventSynchronize(event));
	th_gpu_exit();
}

static void test_capture_of_blocking_stream_bars_the_legacy_one(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstreamCaptureStatus status;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	stream = start_capture(gpu, CU_STREAM_DEFAULT);
	th_cu_is(gpu->driver->cuStreamIsCapturing(NULL, &status),
		 CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
	end_capture(gpu, stream);
	th_gpu_exit();
}

static void test_event_of_another_stream_during_capture_works(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream capturing;
	CUstream stream;
	CUevent event;

	(void)state;
	if (!gpu)
		return;
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	event = th_gpu_event(gpu);
	capturing = start_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuEventRecord(event, stream));
	th_cu(gpu->driver->cuEventSynchronize(event));
	th_cu(gpu->driver->cuEventQuery(event));
	end_capture(gpu, capturing);
	th_gpu_exit();
}

static void test_mapping_during_capture_works(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	stream = start_capture(gpu, CU_STREAM_NON_BLOCKING);
	address = th_gpu_segment(gpu);
	th_cu(gpu->driver->cuMemUnmap(address, SEGMENT));
	end_capture(gpu, stream);
	th_gpu_exit();
}

static void test_alloc_during_global_capture_spoils_it(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUstream stream;
	CUgraph graph;

	(void)state;
	if (!gpu)
		return;
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuStreamBeginCapture_v2(
		stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	th_cu_is(gpu->driver->cuMemAlloc_v2(&address, SEGMENT),
		 CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	th_cu_is(gpu->driver->cuStreamEndCapture(stream, &graph),
		 CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	th_gpu_exit();
}

static void test_alloc_by_relaxed_thread_during_capture_works(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	stream = start_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuMemAlloc_v2(&address, SEGMENT));
	end_capture(gpu, stream);
	th_gpu_exit();
}

static void test_wait_for_capturing_stream_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream stream;
	CUgraph graph;

	(void)state;
	if (!gpu)
		return;
	stream = start_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_cu_is(gpu->driver->cuStreamSynchronize(stream),
		 CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	th_cu_is(gpu->driver->cuStreamEndCapture(stream, &graph),
		 CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_capture_is_seen_and_ends),
	TH_TEST(test_captured_work_does_not_run),
	TH_TEST(test_context_event_during_capture_is_refused),
	TH_TEST(test_capture_of_blocking_stream_bars_the_legacy_one),
	TH_TEST(test_event_of_another_stream_during_capture_works),
	TH_TEST(test_mapping_during_capture_works),
	TH_TEST(test_alloc_during_global_capture_spoils_it),
	TH_TEST(test_alloc_by_relaxed_thread_during_capture_works),
	TH_TEST(test_wait_for_capturing_stream_is_refused),
};

TH_MAIN("conformance_capture", tests)
