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
	CUstream stream = th_gpu_capture(gpu, flags);

	/* As every call of device/ does. */
	th_cu(gpu->driver->cuThreadExchangeStreamCaptureMode(&relaxed));
	return stream;
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
	th_gpu_end_capture(gpu, stream);
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
	th_gpu_end_capture(gpu, stream);
	th_cu(gpu->driver->cuCtxSynchronize());
	assert_int_equal(th_gpu_get(gpu, address), 1);
	th_gpu_exit();
}

/* ---- what covers the whole context ---- */

/* Beside captures of each mode, on such a stream, by a thread of each mode. */
static void beside_captures(const struct th_gpu *gpu, unsigned int flags,
			    void (*check)(const struct th_gpu *gpu,
					  CUstream capturing, CUevent event))
{
	static const CUstreamCaptureMode thread_modes[] = {
		CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_RELAXED
	};
	CUevent event = th_gpu_event(gpu);
	CUstreamCaptureMode mode;
	CUstream stream;
	unsigned int i;
	unsigned int m;

	for (i = 0; i < 2; i++) {
		mode = thread_modes[i];
		th_cu(gpu->driver->cuThreadExchangeStreamCaptureMode(&mode));
		for (m = 0; m <= CU_STREAM_CAPTURE_MODE_RELAXED; m++) {
			stream = th_gpu_stream(gpu, flags);
			th_cu(gpu->driver->cuStreamBeginCapture_v2(
				stream, (CUstreamCaptureMode)m));
			check(gpu, stream, event);
		}
	}
}

static void check_spoilt(const struct th_gpu *gpu, CUstream stream)
{
	CUgraph graph;

	th_cu_is(gpu->driver->cuStreamEndCapture(stream, &graph),
		 CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

static void record_context_event(const struct th_gpu *gpu, CUstream capturing,
				 CUevent event)
{
	th_cu_is(gpu->driver->cuCtxRecordEvent(gpu->context, event),
		 CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	check_spoilt(gpu, capturing);
	th_cu(gpu->driver->cuCtxRecordEvent(gpu->context, event));
	th_cu(gpu->driver->cuEventSynchronize(event));
}

static void test_context_event_during_capture_spoils_it(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	if (!gpu->driver->cuCtxRecordEvent)
		th_gpu_exit();
	beside_captures(gpu, CU_STREAM_DEFAULT, record_context_event);
	beside_captures(gpu, CU_STREAM_NON_BLOCKING, record_context_event);
	th_gpu_exit();
}

static void wait_for_context(const struct th_gpu *gpu, CUstream capturing,
			     CUevent event)
{
	(void)event;
	th_cu_is(gpu->driver->cuCtxSynchronize(),
		 CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	check_spoilt(gpu, capturing);
	th_cu(gpu->driver->cuCtxSynchronize());
}

static void test_wait_for_context_during_capture_spoils_it(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	beside_captures(gpu, CU_STREAM_DEFAULT, wait_for_context);
	beside_captures(gpu, CU_STREAM_NON_BLOCKING, wait_for_context);
	th_gpu_exit();
}

static void ask_legacy_barred(const struct th_gpu *gpu, CUstream capturing,
			      CUevent event)
{
	CUstreamCaptureStatus status;

	(void)event;
	th_cu_is(gpu->driver->cuStreamIsCapturing(CU_STREAM_LEGACY, &status),
		 CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
	th_gpu_end_capture(gpu, capturing);
}

static void test_legacy_stream_tells_of_blocking_captures(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	beside_captures(gpu, CU_STREAM_DEFAULT, ask_legacy_barred);
	th_gpu_exit();
}

static void ask_legacy_free(const struct th_gpu *gpu, CUstream capturing,
			    CUevent event)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_ACTIVE;

	(void)event;
	th_cu(gpu->driver->cuStreamIsCapturing(CU_STREAM_LEGACY, &status));
	assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_NONE);
	th_gpu_end_capture(gpu, capturing);
}

static void test_legacy_stream_tells_of_no_other_captures(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	beside_captures(gpu, CU_STREAM_NON_BLOCKING, ask_legacy_free);
	th_gpu_exit();
}

/* ---- what is done beside a capture ---- */

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
	th_gpu_end_capture(gpu, capturing);
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
	th_gpu_end_capture(gpu, stream);
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
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
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
	th_gpu_end_capture(gpu, stream);
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

/* ---- what a capture makes ---- */

static CUgraph end_capture(const struct th_gpu *gpu, CUstream stream)
{
	CUgraph graph;

	th_cu(gpu->driver->cuStreamEndCapture(stream, &graph));
	return graph;
}

static void test_allocation_during_capture_belongs_to_the_graph(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address = 0;
	CUstream stream;
	CUgraph graph;

	(void)state;
	if (!gpu)
		return;
	stream = start_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuMemAllocAsync(&address, SEGMENT, stream));
	th_cu(gpu->driver->cuMemsetD32Async(address, 1, 1, stream));
	th_cu(gpu->driver->cuMemFreeAsync(address, stream));
	graph = end_capture(gpu, stream);
	/* Outside the graph it is nobody's to free. */
	th_cu_fails(gpu->driver->cuMemFreeAsync(address, stream));
	th_cu_is(gpu->driver->cuGraphClone(&graph, graph),
		 CUDA_ERROR_NOT_SUPPORTED);
	th_cu(gpu->driver->cuGraphDestroy(graph));
	th_gpu_exit();
}

static void test_capture_into_a_graph_returns_that_graph(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUgraph graph;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	if (!gpu->driver->cuStreamBeginCaptureToGraph) /* before CUDA 12.3 */
		th_gpu_exit();
	stream = start_capture(gpu, CU_STREAM_NON_BLOCKING);
	graph = end_capture(gpu, stream);
	th_cu(gpu->driver->cuStreamBeginCaptureToGraph(
		stream, graph, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_RELAXED));
	assert_ptr_equal(end_capture(gpu, stream), graph);
	th_cu(gpu->driver->cuGraphDestroy(graph));
	th_gpu_exit();
}

static void test_executable_outlives_its_graph(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUgraphExec exec;
	CUgraph clone;
	CUgraph graph;

	(void)state;
	if (!gpu)
		return;
	graph = end_capture(gpu, start_capture(gpu, CU_STREAM_NON_BLOCKING));
	th_cu(gpu->driver->cuGraphClone(&clone, graph));
	assert_ptr_not_equal(clone, graph);
	th_cu(gpu->driver->cuGraphInstantiateWithFlags(&exec, graph, 0));
	th_cu(gpu->driver->cuGraphDestroy(graph));
	th_cu(gpu->driver->cuGraphExecDestroy(exec));
	th_cu(gpu->driver->cuGraphDestroy(clone));
	th_gpu_exit();
}

/* As programs of CUDA 11 do it. */
static void test_executable_is_made_as_cuda_11_did(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUgraphNode node;
	CUgraphExec exec;
	CUgraph graph;
	char log[64] = "x";

	(void)state;
	if (!gpu)
		return;
	graph = end_capture(gpu, start_capture(gpu, CU_STREAM_NON_BLOCKING));
	th_cu(gpu->driver->cuGraphInstantiate_v2(&exec, graph, &node, log,
						 sizeof(log)));
	th_cu(gpu->driver->cuGraphExecDestroy(exec));
	th_cu(gpu->driver->cuGraphInstantiate_v2(&exec, graph, NULL, NULL, 0));
	th_cu(gpu->driver->cuGraphExecDestroy(exec));
	th_cu(gpu->driver->cuGraphDestroy(graph));
	th_gpu_exit();
}

static void test_executable_is_updated_from_another_graph(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUgraphExecUpdateResultInfo outcome = { CU_GRAPH_EXEC_UPDATE_ERROR };
	CUgraphExec exec;
	CUgraph other;
	CUgraph graph;

	(void)state;
	if (!gpu)
		return;
	graph = end_capture(gpu, start_capture(gpu, CU_STREAM_NON_BLOCKING));
	other = end_capture(gpu, start_capture(gpu, CU_STREAM_NON_BLOCKING));
	th_cu(gpu->driver->cuGraphInstantiateWithFlags(&exec, graph, 0));
	th_cu(gpu->driver->cuGraphExecUpdate_v2(exec, other, &outcome));
	assert_int_equal(outcome.result, CU_GRAPH_EXEC_UPDATE_SUCCESS);
	th_cu(gpu->driver->cuGraphDestroy(other));
	th_cu(gpu->driver->cuGraphExecDestroy(exec));
	th_cu(gpu->driver->cuGraphDestroy(graph));
	th_gpu_exit();
}

static void test_graph_inside_another_may_go_first(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUgraphNode node;
	CUgraphExec exec;
	CUgraph child;
	CUgraph graph;

	(void)state;
	if (!gpu)
		return;
	graph = end_capture(gpu, start_capture(gpu, CU_STREAM_NON_BLOCKING));
	child = end_capture(gpu, start_capture(gpu, CU_STREAM_NON_BLOCKING));
	th_cu(gpu->driver->cuGraphAddChildGraphNode(&node, graph, NULL, 0,
						    child));
	th_cu(gpu->driver->cuGraphDestroy(child));
	th_cu(gpu->driver->cuGraphInstantiateWithFlags(&exec, graph, 0));
	th_cu(gpu->driver->cuGraphExecDestroy(exec));
	th_cu(gpu->driver->cuGraphDestroy(graph));
	th_gpu_exit();
}

static void test_memory_node_tells_its_address(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUDA_MEM_ALLOC_NODE_PARAMS wanted = { .bytesize = SEGMENT };
	CUgraphNode node;
	CUgraph graph;

	(void)state;
	if (!gpu)
		return;
	wanted.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
	wanted.poolProps.location = gpu->prop.location;
	graph = end_capture(gpu, start_capture(gpu, CU_STREAM_NON_BLOCKING));
	th_cu(gpu->driver->cuGraphAddMemAllocNode(&node, graph, NULL, 0,
						  &wanted));
	assert_int_not_equal(wanted.dptr, 0);
	th_cu(gpu->driver->cuGraphDestroy(graph));
	th_cu(gpu->driver->cuDeviceGraphMemTrim(0));
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_capture_is_seen_and_ends),
	TH_TEST(test_captured_work_does_not_run),
	TH_TEST(test_context_event_during_capture_spoils_it),
	TH_TEST(test_wait_for_context_during_capture_spoils_it),
	TH_TEST(test_legacy_stream_tells_of_blocking_captures),
	TH_TEST(test_legacy_stream_tells_of_no_other_captures),
	TH_TEST(test_event_of_another_stream_during_capture_works),
	TH_TEST(test_mapping_during_capture_works),
	TH_TEST(test_alloc_during_global_capture_spoils_it),
	TH_TEST(test_alloc_by_relaxed_thread_during_capture_works),
	TH_TEST(test_wait_for_capturing_stream_is_refused),
	TH_TEST(test_allocation_during_capture_belongs_to_the_graph),
	TH_TEST(test_capture_into_a_graph_returns_that_graph),
	TH_TEST(test_executable_outlives_its_graph),
	TH_TEST(test_executable_is_made_as_cuda_11_did),
	TH_TEST(test_executable_is_updated_from_another_graph),
	TH_TEST(test_graph_inside_another_may_go_first),
	TH_TEST(test_memory_node_tells_its_address),
};

TH_MAIN("conformance_capture", tests)
