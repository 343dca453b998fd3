/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Captures; captured.c has what comes of them.
 *
 * Invariant: a capture is in the list, and the pool's fences are held back,
 * before the driver begins it and until after the driver has ended it.
 */
#include "preload/capture.h"

#include "base/lock.h"
#include "preload/held.h"
#include "preload/hooks.h"
#include "preload/outside.h"
#include "preload/state.h"

#include <stdatomic.h>
#include <stdlib.h>

struct capture {
	CUstream stream;
	pthread_t thread;         /* whose, where it is a thread's own stream */
	struct pl_family *family; /* what was freed meanwhile */
	struct ps_pool *pool;     /* whose fences it holds back, or NULL */
	struct capture *next;
};

static struct bs_lock lock = { PTHREAD_MUTEX_INITIALIZER, BS_RANK_PRELOAD };
static struct capture *captures; /* guarded by lock */
static atomic_uint capturing;    /* how many there are */

/* ---- captures under way ---- */

bool pl_is_capturing(void)
{
	return atomic_load_explicit(&capturing, memory_order_relaxed) > 0;
}

bool pl_stream_captures(CUstream stream)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	CUresult result = pl_driver()->cuStreamIsCapturing(stream, &status);

	return result == CUDA_SUCCESS &&
	       status != CU_STREAM_CAPTURE_STATUS_NONE;
}

/* Whoever comes first says whose fences it holds back: this, or the pool that
 * is attached meanwhile. The wait for those under way is outside the lock. */
static void hold_fences(struct capture *capture)
{
	struct ps_pool *pool = NULL;

	bs_lock_take(&lock);
	if (capture->pool == NULL)
		pool = capture->pool = pl_pool();
	bs_lock_drop(&lock);
	if (pool != NULL)
		(void)ps_mem_hold_fences(pool, true);
}

static void release_fences(struct capture *capture)
{
	struct ps_pool *pool = pl_pool();

	if (pool != NULL && pool == capture->pool)
		(void)ps_mem_hold_fences(pool, false);
}

/* NULL: no host memory. */
static struct capture *begin(CUstream stream)
{
	struct capture *capture = calloc(1, sizeof(*capture));

	if (capture == NULL)
		return NULL;
	capture->family = pl_family_open();
	if (capture->family == NULL) {
		free(capture);
		return NULL;
	}
	capture->stream = stream;
	capture->thread = pthread_self();
	atomic_fetch_add(&capturing, 1);
	bs_lock_take(&lock);
	capture->next = captures;
	captures = capture;
	bs_lock_drop(&lock);
	hold_fences(capture);
	return capture;
}

static bool is_of(const struct capture *capture, CUstream stream)
{
	return capture->stream == stream &&
	       (stream != CU_STREAM_PER_THREAD ||
		pthread_equal(capture->thread, pthread_self()));
}

/* The stream's, out of the list; NULL: none. */
static struct capture *take(CUstream stream)
{
	struct capture **link = &captures, *capture;

	bs_lock_take(&lock);
	while (*link != NULL && !is_of(*link, stream))
		link = &(*link)->next;
	capture = *link;
	if (capture != NULL)
		*link = capture->next;
	bs_lock_drop(&lock);
	return capture;
}

/* @graph: what came of it; NULL: nothing. */
static void end(struct capture *capture, CUgraph graph)
{
	if (capture == NULL)
		return;
	atomic_fetch_sub(&capturing, 1);
	release_fences(capture);
	pl_family_close(capture->family, graph);
	pl_graph_become((CUgraph)(uintptr_t)capture, graph);
	free(capture);
}

static CUresult begun(CUstream stream, CUresult result)
{
	if (result != CUDA_SUCCESS)
		end(take(stream), NULL);
	return result;
}

/* A capture that could not be ended goes on. */
static CUresult ended(CUstream stream, CUresult result, const CUgraph *graph)
{
	if (result == CUDA_SUCCESS)
		end(take(stream), *graph);
	else if (!pl_stream_captures(stream))
		end(take(stream), NULL);
	return result;
}

/*
 * A stream may have come into a capture that began on another; any that is
 * under way will do then. The graph is not known yet: the capture's own
 * address stands for it.
 */
CUresult pl_capture_take(CUstream stream, uint64_t bytes)
{
	const struct capture *capture;
	CUgraph graph = NULL;

	bs_lock_take(&lock);
	for (capture = captures; capture != NULL; capture = capture->next)
		if (graph == NULL || is_of(capture, stream))
			graph = (CUgraph)(uintptr_t)capture;
	bs_lock_drop(&lock);
	if (graph == NULL || pl_pool() == NULL)
		return CUDA_SUCCESS;
	return pl_graph_take(pl_pool_device(), graph, bytes);
}

void pl_capture_drop(CUstream stream)
{
	if (pl_is_capturing())
		end(take(stream), NULL);
}

void pl_captures_attached(struct ps_pool *pool)
{
	struct capture *capture;

	bs_lock_take(&lock);
	for (capture = captures; capture != NULL; capture = capture->next)
		if (capture->pool != pool &&
		    ps_mem_hold_fences(pool, true) == PS_OK)
			capture->pool = pool;
	bs_lock_drop(&lock);
}

void pl_captures_left(void)
{
	struct capture *capture;

	bs_lock_take(&lock);
	for (capture = captures; capture != NULL; capture = capture->next)
		capture->pool = NULL;
	bs_lock_drop(&lock);
	pl_family_forget();
}

/* ---- hooks ---- */

/* As CUDA 10.0 had it; the runtime library looks it up still. */
CUresult cuStreamBeginCapture(CUstream stream)
{
	PL_GUARD();

	if (!pl_is_alive())
		return pl_driver()->cuStreamBeginCapture(stream);
	if (begin(stream) == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	return begun(stream, pl_driver()->cuStreamBeginCapture(stream));
}

CUresult cuStreamBeginCapture_ptsz(CUstream stream)
{
	PL_GUARD();

	if (!pl_is_alive())
		return pl_driver()->cuStreamBeginCapture_ptsz(stream);
	if (begin(pl_own_stream(stream)) == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	return begun(pl_own_stream(stream),
		     pl_driver()->cuStreamBeginCapture_ptsz(stream));
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
	PL_GUARD();

	if (!pl_is_alive())
		return pl_driver()->cuStreamBeginCapture_v2(stream, mode);
	if (begin(stream) == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	return begun(stream,
		     pl_driver()->cuStreamBeginCapture_v2(stream, mode));
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode)
{
	PL_GUARD();

	if (!pl_is_alive())
		return pl_driver()->cuStreamBeginCapture_v2_ptsz(stream, mode);
	if (begin(pl_own_stream(stream)) == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	return begun(pl_own_stream(stream),
		     pl_driver()->cuStreamBeginCapture_v2_ptsz(stream, mode));
}

CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph,
				     const CUgraphNode *dependencies,
				     const CUgraphEdgeData *data, size_t count,
				     CUstreamCaptureMode mode)
{
	PL_GUARD();

	if (!pl_is_alive())
		return pl_driver()->cuStreamBeginCaptureToGraph(
			stream, graph, dependencies, data, count, mode);
	if (begin(stream) == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	return begun(stream,
		     pl_driver()->cuStreamBeginCaptureToGraph(
			     stream, graph, dependencies, data, count, mode));
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph,
					  const CUgraphNode *dependencies,
					  const CUgraphEdgeData *data,
					  size_t count,
					  CUstreamCaptureMode mode)
{
	PL_GUARD();

	if (!pl_is_alive())
		return pl_driver()->cuStreamBeginCaptureToGraph_ptsz(
			stream, graph, dependencies, data, count, mode);
	if (begin(pl_own_stream(stream)) == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	return begun(pl_own_stream(stream),
		     pl_driver()->cuStreamBeginCaptureToGraph_ptsz(
			     stream, graph, dependencies, data, count, mode));
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuStreamEndCapture(stream, graph);
	return pl_is_alive() ? ended(stream, result, graph) : result;
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph)
{
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuStreamEndCapture_ptsz(stream, graph);
	return pl_is_alive() ? ended(pl_own_stream(stream), result, graph)
			     : result;
}
