/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Stream capture: who captures, and what that forbids. */
#include "device/sim/queue.h"

#include "device/sim/entry.h"
#include "device/sim/per_thread.h"

#include <stdlib.h>

struct CUgraph_st {
	unsigned int unused;
};

static _Thread_local CUstreamCaptureMode thread_capture_mode;

bool sim_queue_is_barred(const struct sim_queue *queue)
{
	const struct sim_queue *other;

	if (queue->ordering != SIM_LEGACY)
		return false;
	for (other = sim_queues; other; other = other->next)
		if (other->ordering == SIM_BLOCKING &&
		    sim_queue_is_capturing(other))
			return true;
	return false;
}

bool sim_is_capturing_any(void)
{
	struct sim_queue *queue;
	bool is_any = false;

	pthread_mutex_lock(&sim_work_lock);
	for (queue = sim_queues; queue && !is_any; queue = queue->next)
		is_any = sim_queue_is_capturing(queue);
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

static CUresult begin_capture(CUstream stream, CUstreamCaptureMode mode)
{
	CUresult result = CUDA_SUCCESS;
	struct sim_queue *queue;

	if ((unsigned int)mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&sim_work_lock);
	queue = sim_queue_of(stream);
	if (!queue)
		result = CUDA_ERROR_INVALID_HANDLE;
	else if (queue->ordering == SIM_LEGACY)
		result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	else if (sim_queue_is_capturing(queue))
		result = CUDA_ERROR_INVALID_VALUE;
	else
		queue->capture = CU_STREAM_CAPTURE_STATUS_ACTIVE;
	if (result == CUDA_SUCCESS) {
		queue->capture_mode = mode;
		queue->capture_thread = pthread_self();
	}
	pthread_mutex_unlock(&sim_work_lock);
	return result;
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
	ENTER_CONTEXT(cuStreamBeginCapture_v2);
	return begin_capture(stream, mode);
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode)
{
	ENTER_CONTEXT(cuStreamBeginCapture_v2_ptsz);
	return begin_capture(sim_own_stream(stream), mode);
}

static CUresult end_capture(CUstream stream, CUgraph *graph)
{
	CUresult result = CUDA_SUCCESS;
	struct sim_queue *queue;

	if (!graph)
		return CUDA_ERROR_INVALID_VALUE;
	*graph = NULL;
	pthread_mutex_lock(&sim_work_lock);
	queue = sim_queue_of(stream);
	if (!queue || !sim_queue_is_capturing(queue))
		result = CUDA_ERROR_INVALID_VALUE;
	else if (queue->capture == CU_STREAM_CAPTURE_STATUS_INVALIDATED)
		result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	if (queue)
		queue->capture = CU_STREAM_CAPTURE_STATUS_NONE;
	pthread_mutex_unlock(&sim_work_lock);
	if (result != CUDA_SUCCESS)
		return result;
	*graph = calloc(1, sizeof(**graph));
	return *graph ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
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

CUresult cuGraphDestroy(CUgraph graph)
{
	ENTER(cuGraphDestroy);
	if (!graph)
		return CUDA_ERROR_INVALID_VALUE;
	free(graph);
	return CUDA_SUCCESS;
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
