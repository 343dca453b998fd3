/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Fences. Their events are kept and used again: in a steady state none is
 * created. An event that was recorded anew forgets what it stood for, so a
 * fence is free for use again only when its owner gave it up.
 */
#include "device/internal.h"

#include <stdlib.h>

struct dv_fence {
	struct dv_fence *next; /* among the spare ones */
	CUevent event;         /* created with the fence, destroyed with it */
	uint64_t number;       /* with no event recorded: of recorded_all */
	bool is_timed;         /* the event keeps the time; immutable */
};

static struct dv_fence *take_spare(struct dv_device *dev, bool is_timed)
{
	struct dv_fence **spare = &dev->spare[is_timed];
	struct dv_fence *fence;

	bs_lock_take(&dev->lock);
	fence = *spare;
	if (fence)
		*spare = fence->next;
	bs_lock_drop(&dev->lock);
	return fence;
}

void dv_fence_free(struct dv_device *dev, struct dv_fence *fence)
{
	if (!fence)
		return;
	bs_lock_take(&dev->lock);
	fence->next = dev->spare[fence->is_timed];
	dev->spare[fence->is_timed] = fence;
	bs_lock_drop(&dev->lock);
}

static void drop_list(struct dv_device *dev, struct dv_fence *fence, bool alive)
{
	struct dv_fence *next;

	for (; fence; fence = next) {
		next = fence->next;
		if (alive)
			dev->driver->cuEventDestroy_v2(fence->event);
		free(fence);
	}
}

void dv_fences_drop(struct dv_device *dev, bool alive)
{
	for (int i = 0; i < 2; i++) {
		drop_list(dev, dev->spare[i], alive);
		dev->spare[i] = NULL;
	}
}

/* pre: the context is entered. */
static enum ps_status new_fence(struct dv_device *dev, bool is_timed,
				struct dv_fence **fence_out)
{
	struct dv_fence *fence = take_spare(dev, is_timed);
	enum ps_status status;

	if (!fence) {
		fence = calloc(1, sizeof(*fence));
		if (!fence)
			return bs_fail(PS_HOST_MEMORY,
				       "no host memory for a fence");
		fence->is_timed = is_timed;
		status = dv_result(dev->driver,
				   dev->driver->cuEventCreate(
					   &fence->event,
					   is_timed ? CU_EVENT_DEFAULT
						    : CU_EVENT_DISABLE_TIMING),
				   "creating an event on %s", dev->uuid);
		if (status != PS_OK) {
			free(fence);
			return status;
		}
	}
	fence->number = 0;
	*fence_out = fence;
	return PS_OK;
}

/*
 * An event recorded on a capturing stream would become part of the graph and
 * say nothing about the work that runs.
 */
enum ps_status dv_check_capture(struct dv_device *dev, CUstream stream)
{
	CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
	enum ps_status status;
	CUresult result;

	result = dev->driver->cuStreamIsCapturing(stream, &capture);
	if (result == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)
		return bs_fail(PS_AGAIN,
			       "a blocking stream of %s captures, which bars "
			       "the legacy stream and waiting for all streams; "
			       "try again when the capture has ended, or name "
			       "the stream that is meant",
			       dev->uuid);
	status = dv_result(dev->driver, result,
			   "asking whether stream %p captures", (void *)stream);
	if (status == PS_OK && capture != CU_STREAM_CAPTURE_STATUS_NONE)
		status = bs_fail(PS_AGAIN,
				 "stream %p captures; no fence can be recorded "
				 "on it before the capture ends",
				 (void *)stream);
	return status;
}

enum ps_status dv_stream_check(struct dv_device *dev, void *stream)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = dv_check_capture(dev, stream);
	dv_leave(dev, visit);
	return status;
}

static enum ps_status record(struct dv_device *dev, CUstream stream,
			     struct dv_fence *fence)
{
	enum ps_status status = dv_check_capture(dev, stream);

	if (status != PS_OK)
		return status;
	return dv_result(dev->driver,
			 dev->driver->cuEventRecord(fence->event, stream),
			 "recording an event on stream %p", (void *)stream);
}

/* Asks first: the driver's refusal would invalidate the capture. */
static enum ps_status record_all(struct dv_device *dev, CUstream legacy,
				 struct dv_fence *fence)
{
	enum ps_status status = dv_check_capture(dev, legacy);

	if (status != PS_OK)
		return status;
	if (dev->driver->cuCtxRecordEvent)
		return dv_result(dev->driver,
				 dev->driver->cuCtxRecordEvent(dev->context,
							       fence->event),
				 "recording an event on every stream of %s",
				 dev->uuid);
	bs_lock_take(&dev->lock);
	fence->number = ++dev->recorded_all;
	bs_lock_drop(&dev->lock);
	return PS_OK;
}

/* A fence, recorded by @record_it. */
static enum ps_status
make_fence(struct dv_device *dev, bool is_timed,
	   enum ps_status (*record_it)(struct dv_device *dev, CUstream stream,
				       struct dv_fence *fence),
	   CUstream stream, struct dv_fence **fence_out)
{
	struct dv_fence *fence = NULL;
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = new_fence(dev, is_timed, &fence);
	if (status == PS_OK)
		status = record_it(dev, stream, fence);
	dv_leave(dev, visit);
	if (status == PS_OK)
		*fence_out = fence;
	else
		dv_fence_free(dev, fence);
	return status;
}

enum ps_status dv_fence_record(struct dv_device *dev, void *stream,
			       struct dv_fence **fence_out)
{
	return make_fence(dev, false, record, stream, fence_out);
}

enum ps_status dv_fence_record_all(struct dv_device *dev,
				   struct dv_fence **fence_out)
{
	return make_fence(dev, false, record_all, CU_STREAM_LEGACY, fence_out);
}

enum ps_status dv_fence_record_timed(struct dv_device *dev, void *stream,
				     struct dv_fence **fence_out)
{
	return make_fence(dev, true, record, stream, fence_out);
}

enum ps_status dv_fence_elapsed(struct dv_device *dev, struct dv_fence *from,
				struct dv_fence *to, uint64_t *ns_out)
{
	float milliseconds = 0;
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = dv_result(dev->driver,
			   dev->driver->cuEventElapsedTime(
				   &milliseconds, from->event, to->event),
			   "asking for the time between two events of %s",
			   dev->uuid);
	dv_leave(dev, visit);
	if (status == PS_OK)
		*ns_out = milliseconds > 0
				  ? (uint64_t)((double)milliseconds * 1e6)
				  : 0;
	return status;
}

bool dv_fence_is_bare(const struct dv_fence *fence)
{
	return fence->number != 0;
}

static enum ps_status poll_number(struct dv_device *dev, uint64_t number)
{
	bool has_passed;

	bs_lock_take(&dev->lock);
	has_passed = number <= dev->passed_all;
	bs_lock_drop(&dev->lock);
	return has_passed ? PS_OK : PS_AGAIN;
}

/* One wait serves every fence that was recorded before it. */
static enum ps_status wait_context(struct dv_device *dev, uint64_t number)
{
	enum ps_status status;
	uint64_t recorded;

	if (poll_number(dev, number) == PS_OK)
		return PS_OK;
	bs_lock_take(&dev->lock);
	recorded = dev->recorded_all;
	bs_lock_drop(&dev->lock);
	status = dv_synchronize(dev);
	if (status != PS_OK)
		return status;
	bs_lock_take(&dev->lock);
	if (dev->passed_all < recorded)
		dev->passed_all = recorded;
	bs_lock_drop(&dev->lock);
	return PS_OK;
}

enum ps_status dv_fence_poll(struct dv_device *dev, struct dv_fence *fence)
{
	struct dv_visit visit;
	enum ps_status status;
	CUresult result;

	if (fence->number)
		return poll_number(dev, fence->number);
	status = dv_enter(dev, &visit);
	if (status != PS_OK)
		return status;
	result = dev->driver->cuEventQuery(fence->event);
	dv_leave(dev, visit);
	if (result == CUDA_ERROR_NOT_READY)
		return PS_AGAIN;
	return dv_result(dev->driver, result, "asking for an event of %s",
			 dev->uuid);
}

enum ps_status dv_fence_wait(struct dv_device *dev, struct dv_fence *fence)
{
	struct dv_visit visit;
	enum ps_status status;

	if (fence->number)
		return wait_context(dev, fence->number);
	status = dv_enter(dev, &visit);
	if (status != PS_OK)
		return status;
	status = dv_result(dev->driver,
			   dev->driver->cuEventSynchronize(fence->event),
			   "waiting for an event of %s", dev->uuid);
	dv_leave(dev, visit);
	return status;
}
