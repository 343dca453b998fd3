/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Stream capture: who captures, and what that forbids. */
#include "device/sim/queue.h"

#include "device/sim/entry.h"
#include "device/sim/graph.h"
#include "device/sim/per_thread.h"

static _Thread_local CUstreamCaptureMode thread_capture_mode;

bool sim_queue_is_barred(const struct sim_queue *queue)
{
	const struct sim_queue *other;

	if (queue->ordering != SIM_LEGACY)
		return false;
	for (other = sim_queues; other; other = other->next)
		if (other->context == queue->context &&
		    other->ordering == SIM_BLOCKING &&
		    sim_queue_is_capturing(other))
			return true;
	return false;
}

bool sim_is_capturing_any(CUcontext context)
{
	struct sim_queue *queue;
	bool is_any = false;

	pthread_mutex_lock(&sim_work_lock);
	for (queue = sim_queues; queue && !is_any; queue = queue->next)
		is_any = queue->context == context &&
			 sim_queue_is_capturing(queue);
	pthread_mutex_unlock(&sim_work_lock);
	return is_any;
}

CUresult sim_capture_status(CUstream stream, CUstreamCaptureStatus *status)
{
	CUresult result = CUDA_SUCCESS;
	struct sim_queue *queue;

	pthread_mutex_lock(&sim_work_lock);
	queue = sim_queue_of(stream);
	if (!queue)
		result = CUDA_ERROR_INVALID_HANDLE;
	else if (sim_queue_is_barred(queue))
		result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
	else
		*status = queue->capture;
	pthread_mutex_unlock(&sim_work_lock);
	return result;
}

CUresult sim_capture_refuse(void)
{
	struct sim_queue *queue;

	pthread_mutex_lock(&sim_work_lock);
	for (queue = sim_queues; queue; queue = queue->next)
		if (sim_queue_is_capturing(queue))
			queue->capture = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
	pthread_mutex_unlock(&sim_work_lock);
	return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

/* Whether the queue's capture bars this thread from unsafe calls: its own
 * capture unless it is relaxed, another thread's when both are global. */
static bool is_barring(const struct sim_queue *queue)
{
	if (!sim_queue_is_capturing(queue) ||
	    queue->capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED)
		return false;
	if (pthread_equal(queue->capture_thread, pthread_self()))
		return true;
	return queue->capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
	       thread_capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
}

CUresult sim_capture_check(void)
{
	const struct sim_queue *queue;
	bool is_barred = false;

	if (thread_capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_SUCCESS;
	pthread_mutex_lock(&sim_work_lock);
	for (queue = sim_queues; queue && !is_barred; queue = queue->next)
		is_barred = is_barring(queue);
	pthread_mutex_unlock(&sim_work_lock);
	return is_barred ? sim_capture_refuse() : CUDA_SUCCESS;
}

static CUresult is_capturing(CUstream stream, CUstreamCaptureStatus *status)
{
	return status ? sim_capture_status(stream, status)
		      : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status)
{
	ENTER_CONTEXT(cuStreamIsCapturing);
	return is_capturing(stream, status);
}

CUresult cuStreamIsCapturing_ptsz(CUstream stream,
				  CUstreamCaptureStatus *status)
{
	ENTER_CONTEXT(cuStreamIsCapturing_ptsz);
	return is_capturing(sim_own_stream(stream), status);
}

/* pre: the lock is held. */
static CUresult check_begin(const struct sim_queue *queue)
{
	if (!queue)
		return CUDA_ERROR_INVALID_HANDLE;
	if (queue->ordering == SIM_LEGACY)
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	if (sim_queue_is_capturing(queue))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

/* Into @graph, or into a new one. */
static CUresult begin_capture(CUstream stream, CUstreamCaptureMode mode,
			      CUgraph graph)
{
	CUgraph target = graph ? graph : sim_graph_new();
	struct sim_queue *queue;
	CUresult result;

	if (!target)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_lock(&sim_work_lock);
	queue = sim_queue_of(stream);
	result = check_begin(queue);
	if ((unsigned int)mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		result = CUDA_ERROR_INVALID_VALUE;
	if (result == CUDA_SUCCESS) {
		queue->capture = CU_STREAM_CAPTURE_STATUS_ACTIVE;
		queue->capture_mode = mode;
		queue->capture_thread = pthread_self();
		queue->capture_graph = target;
		queue->is_graph_given = graph != NULL;
	}
	pthread_mutex_unlock(&sim_work_lock);
	if (result != CUDA_SUCCESS && !graph)
		sim_graph_free(target);
	return result;
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
	ENTER_CONTEXT(cuStreamBeginCapture_v2);
	return begin_capture(stream, mode, NULL);
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode)
{
	ENTER_CONTEXT(cuStreamBeginCapture_v2_ptsz);
	return begin_capture(sim_own_stream(stream), mode, NULL);
}

/* Of CUDA 10.0, which had no other mode. */
CUresult cuStreamBeginCapture(CUstream stream)
{
	ENTER_CONTEXT(cuStreamBeginCapture);
	return begin_capture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL, NULL);
}

CUresult cuStreamBeginCapture_ptsz(CUstream stream)
{
	ENTER_CONTEXT(cuStreamBeginCapture_ptsz);
	return begin_capture(sim_own_stream(stream),
			     CU_STREAM_CAPTURE_MODE_GLOBAL, NULL);
}

/* On what the captured work depends is nothing to us. */
CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph,
				     const CUgraphNode *dependencies,
				     const CUgraphEdgeData *data, size_t count,
				     CUstreamCaptureMode mode)
{
	ENTER_CONTEXT(cuStreamBeginCaptureToGraph);
	(void)data;
	if (!graph || (count && !dependencies))
		return CUDA_ERROR_INVALID_VALUE;
	return begin_capture(stream, mode, graph);
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph,
					  const CUgraphNode *dependencies,
					  const CUgraphEdgeData *data,
					  size_t count,
					  CUstreamCaptureMode mode)
{
	ENTER_CONTEXT(cuStreamBeginCaptureToGraph_ptsz);
	(void)data;
	if (!graph || (count && !dependencies))
		return CUDA_ERROR_INVALID_VALUE;
	return begin_capture(sim_own_stream(stream), mode, graph);
}

CUgraph sim_capture_abandon(struct sim_queue *queue)
{
	CUgraph graph = queue->is_graph_given ? NULL : queue->capture_graph;

	queue->capture = CU_STREAM_CAPTURE_STATUS_NONE;
	queue->capture_graph = NULL;
	return graph;
}

static CUresult end_capture(CUstream stream, CUgraph *graph_out)
{
	CUresult result = CUDA_ERROR_INVALID_VALUE;
	CUgraph spoilt = NULL;
	struct sim_queue *queue;

	if (!graph_out)
		return CUDA_ERROR_INVALID_VALUE;
	*graph_out = NULL;
	pthread_mutex_lock(&sim_work_lock);
	queue = sim_queue_of(stream);
	if (queue && queue->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE) {
		*graph_out = queue->capture_graph;
		queue->capture = CU_STREAM_CAPTURE_STATUS_NONE;
		queue->capture_graph = NULL;
		result = CUDA_SUCCESS;
	} else if (queue && sim_queue_is_capturing(queue)) {
		spoilt = sim_capture_abandon(queue);
		result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	}
	pthread_mutex_unlock(&sim_work_lock);
	sim_graph_free(spoilt);
	return result;
}

CUresult sim_capture_allocate(CUstream stream, uint64_t bytes,
			      CUdeviceptr *address_out)
{
	CUresult result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	struct sim_queue *queue;

	pthread_mutex_lock(&sim_work_lock);
	queue = sim_queue_of(stream);
	if (queue && queue->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE)
		result = sim_graph_allocate(queue->capture_graph, bytes,
					    address_out);
	pthread_mutex_unlock(&sim_work_lock);
	return result;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
	ENTER_CONTEXT(cuStreamEndCapture);
	return end_capture(stream, graph);
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph)
{
	ENTER_CONTEXT(cuStreamEndCapture_ptsz);
	return end_capture(sim_own_stream(stream), graph);
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
	CUstreamCaptureMode before = thread_capture_mode;

	ENTER(cuThreadExchangeStreamCaptureMode);
	if (!mode || (unsigned int)*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_INVALID_VALUE;
	thread_capture_mode = *mode;
	*mode = before;
	return CUDA_SUCCESS;
}
