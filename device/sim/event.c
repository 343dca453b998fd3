/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Events: points of one or several streams. */
#include "device/sim/context.h"
#include "device/sim/entry.h"
#include "device/sim/work.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct CUevent_st {
	unsigned int flags; /* immutable, as is the context */
	CUcontext context;

	/* Guarded by lock. */
	unsigned int holds; /* the handle's, and of each stamp under way */
	struct sim_point *points;
	size_t point_count;
	bool is_recorded;
	bool is_captured;
	double milliseconds; /* when it was last passed */
};

/* Writes the time into an event when the stream gets there. */
struct stamp {
	struct sim_op op;
	CUevent event;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void drop(CUevent event)
{
	bool is_last;

	pthread_mutex_lock(&lock);
	is_last = --event->holds == 0;
	pthread_mutex_unlock(&lock);
	if (!is_last)
		return;
	free(event->points);
	free(event);
}

static CUresult run_stamp(struct sim_op *op)
{
	CUevent event = ((struct stamp *)op)->event;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&lock);
	event->milliseconds =
		(double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

static void end_stamp(struct sim_op *op)
{
	drop(((struct stamp *)op)->event);
}

CUresult cuEventCreate(CUevent *event_out, unsigned int flags)
{
	CUevent event;

	ENTER_CONTEXT(cuEventCreate);
	if (!event_out)
		return CUDA_ERROR_INVALID_VALUE;
	event = calloc(1, sizeof(*event));
	if (!event)
		return CUDA_ERROR_OUT_OF_MEMORY;
	event->flags = flags;
	event->holds = 1;
	event->context = sim_current();
	*event_out = event;
	return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event)
{
	ENTER(cuEventDestroy_v2);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	drop(event);
	return CUDA_SUCCESS;
}

/* Takes the points over. */
static void set_points(CUevent event, struct sim_point *points, size_t count,
		       bool is_captured)
{
	struct sim_point *before;

	pthread_mutex_lock(&lock);
	before = event->points;
	event->points = points;
	event->point_count = count;
	event->is_recorded = true;
	event->is_captured = is_captured;
	pthread_mutex_unlock(&lock);
	free(before);
}

static CUresult submit_stamp(CUevent event, CUstream stream)
{
	struct stamp *stamp;

	if (event->flags & CU_EVENT_DISABLE_TIMING)
		return CUDA_SUCCESS;
	stamp = sim_op_new(sizeof(*stamp), run_stamp);
	if (!stamp)
		return CUDA_ERROR_OUT_OF_MEMORY;
	stamp->op.done = end_stamp;
	stamp->event = event;
	pthread_mutex_lock(&lock);
	event->holds++;
	pthread_mutex_unlock(&lock);
	return sim_submit(stream, &stamp->op);
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
	struct sim_point *points;
	CUresult result;
	size_t count;

	ENTER_CONTEXT(cuEventRecord);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	result = sim_check_stream(stream, event->context);
	if (result == CUDA_SUCCESS)
		result = sim_capture_status(stream, &capture);
	if (result != CUDA_SUCCESS)
		return result;
	if (capture != CU_STREAM_CAPTURE_STATUS_NONE) {
		set_points(event, NULL, 0, true);
		return CUDA_SUCCESS;
	}
	result = submit_stamp(event, stream);
	if (result == CUDA_SUCCESS)
		result = sim_points_of(stream, &points, &count);
	if (result == CUDA_SUCCESS)
		set_points(event, points, count, false);
	return result;
}

CUresult cuCtxRecordEvent(CUcontext context, CUevent event)
{
	struct sim_point *points;
	CUresult result;
	size_t count;

	ENTER_CONTEXT(cuCtxRecordEvent);
	if (!context || !event || event->context != context)
		return CUDA_ERROR_INVALID_HANDLE;
	if (sim_is_capturing_any(context))
		return sim_capture_refuse();
	result = sim_points_of_all(context, &points, &count);
	if (result == CUDA_SUCCESS)
		set_points(event, points, count, false);
	return result;
}

/* A copy of the event's points, for use without the lock. */
static CUresult copy_points(CUevent event, struct sim_point **points_out,
			    size_t *count_out)
{
	CUresult result = CUDA_SUCCESS;
	struct sim_point *points = NULL;
	size_t i;

	pthread_mutex_lock(&lock);
	if (event->is_captured)
		result = CUDA_ERROR_CAPTURED_EVENT;
	else
		points = calloc(event->point_count + 1, sizeof(*points));
	if (points) {
		for (i = 0; i < event->point_count; i++)
			points[i] = event->points[i];
		*points_out = points;
		*count_out = event->point_count;
	} else if (result == CUDA_SUCCESS) {
		result = CUDA_ERROR_OUT_OF_MEMORY;
	}
	pthread_mutex_unlock(&lock);
	return result;
}

static CUresult query(CUevent event)
{
	struct sim_point *points;
	CUresult result;
	size_t count;

	result = copy_points(event, &points, &count);
	if (result != CUDA_SUCCESS)
		return result;
	if (!sim_points_passed(points, count))
		result = CUDA_ERROR_NOT_READY;
	free(points);
	return result;
}

CUresult cuEventQuery(CUevent event)
{
	CUresult result;

	ENTER_CONTEXT(cuEventQuery);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	result = query(event);
	return result == CUDA_SUCCESS ? sim_work_error() : result;
}

CUresult cuEventSynchronize(CUevent event)
{
	struct sim_point *points;
	CUresult result;
	size_t count;

	ENTER_CONTEXT(cuEventSynchronize);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	result = copy_points(event, &points, &count);
	if (result != CUDA_SUCCESS)
		return result;
	result = sim_points_wait(points, count);
	free(points);
	return result;
}

static CUresult run_nothing(struct sim_op *op)
{
	(void)op;
	return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags)
{
	struct sim_point *points;
	CUresult result;
	size_t count;

	ENTER_CONTEXT(cuStreamWaitEvent);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	if (flags)
		return CUDA_ERROR_INVALID_VALUE;
	result = copy_points(event, &points, &count);
	if (result != CUDA_SUCCESS)
		return result;
	result = sim_submit_behind(
		stream, sim_op_new(sizeof(struct sim_op), run_nothing), points,
		count);
	free(points);
	return result;
}

/* Not under this file's lock, which comes behind that of the queues. */
static CUresult check_stamped(CUevent event)
{
	CUresult result;

	pthread_mutex_lock(&lock);
	result = event->is_recorded ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
	pthread_mutex_unlock(&lock);
	return result == CUDA_SUCCESS ? query(event) : result;
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
	CUresult result;

	ENTER_CONTEXT(cuEventElapsedTime);
	if (!milliseconds || !start || !end ||
	    ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING))
		return CUDA_ERROR_INVALID_HANDLE;
	result = check_stamped(start);
	if (result == CUDA_SUCCESS)
		result = check_stamped(end);
	if (result != CUDA_SUCCESS)
		return result;
	pthread_mutex_lock(&lock);
	*milliseconds = (float)(end->milliseconds - start->milliseconds);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}
