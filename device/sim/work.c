/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "device/sim/queue.h"

#include "device/sim/context.h"
#include "device/sim/entry.h"
#include "device/sim/graph.h"
#include "device/sim/vram.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Of streams; the lower number goes first. */
#define GREATEST_PRIORITY (-5)

/*
 * A stream's handle. Handles are never freed: a destroyed one is given to the
 * next new stream, as real drivers do, with another queue behind it.
 */
struct CUstream_st {
	struct sim_queue *queue;  /* NULL: destroyed */
	struct CUstream_st *next; /* among the destroyed */
};

pthread_mutex_t sim_work_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t progress = PTHREAD_COND_INITIALIZER;

/* Guarded by sim_work_lock. */
struct sim_queue *sim_queues;
static struct CUstream_st *spare_streams;

static pthread_key_t own_queues_key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static _Thread_local const struct sim_queue *running; /* by this thread */

/* A thread's own stream in each context that it used one in. */
struct own_queue {
	struct own_queue *next;
	struct sim_queue *queue;
};

static _Thread_local struct own_queue *own_queues;

void *sim_op_new(size_t bytes, CUresult (*run)(struct sim_op *op))
{
	struct sim_op *op = calloc(1, bytes);

	if (op)
		op->run = run;
	return op;
}

void sim_op_free(struct sim_op *op)
{
	if (op->done)
		op->done(op);
	free(op->waits);
	free(op);
}

static bool has_passed(const struct sim_point *point)
{
	return point->queue->completed >= point->number;
}

static void wait_for_points(const struct sim_point *points, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		while (!has_passed(&points[i]))
			pthread_cond_wait(&progress, &sim_work_lock);
}

/* Waits for the next operation and for what it waits for. */
static struct sim_op *next_op(struct sim_queue *queue)
{
	struct sim_op *op;

	while (!queue->first)
		pthread_cond_wait(&queue->wake, &sim_work_lock);
	op = queue->first;
	queue->first = op->next;
	if (!queue->first)
		queue->last = &queue->first;
	wait_for_points(op->waits, op->wait_count);
	return op;
}

static void *run_queue(void *arg)
{
	struct sim_queue *queue = arg;
	struct sim_op *op;
	CUresult result;

	running = queue;
	pthread_mutex_lock(&sim_work_lock);
	for (;;) {
		op = next_op(queue);
		result = queue->context->error;
		pthread_mutex_unlock(&sim_work_lock);
		if (result == CUDA_SUCCESS && !sim_work_is_ending())
			result = op->run(op);
		pthread_mutex_lock(&sim_work_lock);
		if (queue->context->error == CUDA_SUCCESS)
			queue->context->error = result;
		queue->completed = op->number;
		pthread_cond_broadcast(&progress);
		sim_op_free(op);
	}
	return NULL;
}

static bool start_thread(struct sim_queue *queue)
{
	pthread_attr_t attributes;
	sigset_t before;
	sigset_t all;
	pthread_t thread;
	int error;

	/* The process's signals are its own threads' business. A fault of a
	 * kernel (SIGSEGV) comes through all the same. */
	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attributes, run_queue, queue);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error == 0;
}

static struct sim_queue *find_idle_queue(void)
{
	struct sim_queue *queue;

	for (queue = sim_queues; queue; queue = queue->next)
		if (queue->is_retired && queue->completed == queue->submitted)
			return queue;
	return NULL;
}

/* pre: the lock is held. NULL without memory or threads. */
static struct sim_queue *new_queue(CUcontext context,
				   enum sim_ordering ordering)
{
	struct sim_queue *queue = find_idle_queue();

	if (!queue) {
		queue = calloc(1, sizeof(*queue));
		if (!queue)
			return NULL;
		pthread_cond_init(&queue->wake, NULL);
		queue->last = &queue->first;
		queue->context = context;
		if (!start_thread(queue)) {
			free(queue);
			return NULL;
		}
		queue->next = sim_queues;
		sim_queues = queue;
	}
	queue->is_retired = false;
	queue->context = context;
	queue->stream = NULL;
	queue->ordering = ordering;
	queue->capture = CU_STREAM_CAPTURE_STATUS_NONE;
	return queue;
}

static void retire_own_queues(void *list)
{
	struct own_queue *own = list;
	struct own_queue *next;

	pthread_mutex_lock(&sim_work_lock);
	for (; own; own = next) {
		next = own->next;
		own->queue->is_retired = true;
		free(own);
	}
	pthread_mutex_unlock(&sim_work_lock);
}

static void make_key(void)
{
	pthread_key_create(&own_queues_key, retire_own_queues);
}

/* pre: the lock is held. */
static struct sim_queue *own_queue_of(CUcontext context)
{
	struct own_queue *own = own_queues;

	while (own && own->queue->context != context)
		own = own->next;
	if (own)
		return own->queue;
	own = malloc(sizeof(*own));
	if (!own)
		return NULL;
	own->queue = new_queue(context, SIM_BLOCKING);
	if (!own->queue) {
		free(own);
		return NULL;
	}
	own->next = own_queues;
	own_queues = own;
	pthread_once(&key_once, make_key);
	pthread_setspecific(own_queues_key, own);
	return own->queue;
}

struct sim_queue *sim_queue_of(CUstream stream)
{
	CUcontext context = sim_current();

	if ((uintptr_t)stream > (uintptr_t)CU_STREAM_PER_THREAD)
		return stream->queue;
	if (!context)
		return NULL;
	if (stream == CU_STREAM_PER_THREAD)
		return own_queue_of(context);
	if (!context->legacy)
		context->legacy = new_queue(context, SIM_LEGACY);
	return context->legacy;
}

CUresult sim_check_stream(CUstream stream, CUcontext context)
{
	const struct sim_queue *queue;
	bool is_of_it;

	pthread_mutex_lock(&sim_work_lock);
	queue = sim_queue_of(stream);
	is_of_it = queue && queue->context == context;
	pthread_mutex_unlock(&sim_work_lock);
	return is_of_it ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static bool is_behind(const struct sim_queue *queue,
		      const struct sim_queue *other)
{
	if (other->completed == other->submitted || other == queue ||
	    other->context != queue->context)
		return false;
	return (queue->ordering == SIM_LEGACY &&
		other->ordering == SIM_BLOCKING) ||
	       (queue->ordering == SIM_BLOCKING &&
		other->ordering == SIM_LEGACY);
}

/* Adds to @points, which has room for a point of every queue. */
static size_t add_point(struct sim_point *points, size_t count,
			struct sim_queue *queue)
{
	points[count] = (struct sim_point){ queue, queue->submitted };
	return count + 1;
}

static size_t count_queues(void)
{
	struct sim_queue *queue;
	size_t count = 0;

	for (queue = sim_queues; queue; queue = queue->next)
		count++;
	return count;
}

/* What work that is submitted to the queue now has to wait for, after the
 * @extra points that the caller fills in. */
static bool list_waits(struct sim_queue *queue, size_t extra,
		       struct sim_point **points_out, size_t *count_out)
{
	struct sim_point *points;
	struct sim_queue *other;
	size_t count = extra;

	points = calloc(count_queues() + extra + 1, sizeof(*points));
	if (!points)
		return false;
	for (other = sim_queues; other; other = other->next)
		if (is_behind(queue, other))
			count = add_point(points, count, other);
	*points_out = points;
	*count_out = count;
	return true;
}

static CUresult submit_locked(struct sim_queue *queue, struct sim_op *op,
			      const struct sim_point *points, size_t count)
{
	if (!queue)
		return CUDA_ERROR_INVALID_HANDLE;
	if (sim_queue_is_barred(queue))
		return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
	if (!list_waits(queue, count, &op->waits, &op->wait_count))
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (count)
		memcpy(op->waits, points, count * sizeof(*points));
	op->number = ++queue->submitted;
	*queue->last = op;
	queue->last = &op->next;
	pthread_cond_signal(&queue->wake);
	return CUDA_SUCCESS;
}

CUresult sim_submit_behind(CUstream stream, struct sim_op *op,
			   const struct sim_point *points, size_t count)
{
	CUresult result = CUDA_SUCCESS;
	struct sim_queue *queue;
	bool is_kept = false;

	if (!op)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_lock(&sim_work_lock);
	queue = sim_queue_of(stream);
	if (!queue || !sim_queue_is_capturing(queue)) {
		result = submit_locked(queue, op, points, count);
		is_kept = result == CUDA_SUCCESS;
	} else if (queue->capture == CU_STREAM_CAPTURE_STATUS_ACTIVE) {
		result = sim_graph_add(queue->capture_graph, op);
		is_kept = result == CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&sim_work_lock);
	if (!is_kept)
		sim_op_free(op);
	return result;
}

CUresult sim_submit(CUstream stream, struct sim_op *op)
{
	return sim_submit_behind(stream, op, NULL, 0);
}

static CUresult points_locked(struct sim_queue *queue,
			      struct sim_point **points_out, size_t *count_out)
{
	if (!queue)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!list_waits(queue, 1, points_out, count_out))
		return CUDA_ERROR_OUT_OF_MEMORY;
	add_point(*points_out, 0, queue);
	return CUDA_SUCCESS;
}

CUresult sim_points_of(CUstream stream, struct sim_point **points_out,
		       size_t *count_out)
{
	CUresult result;

	pthread_mutex_lock(&sim_work_lock);
	result = points_locked(sim_queue_of(stream), points_out, count_out);
	pthread_mutex_unlock(&sim_work_lock);
	return result;
}

CUresult sim_points_of_all(CUcontext context, struct sim_point **points_out,
			   size_t *count_out)
{
	struct sim_queue *queue;
	struct sim_point *points;
	size_t count = 0;

	pthread_mutex_lock(&sim_work_lock);
	points = calloc(count_queues() + 1, sizeof(*points));
	for (queue = sim_queues; queue && points; queue = queue->next)
		if (queue->context == context)
			count = add_point(points, count, queue);
	pthread_mutex_unlock(&sim_work_lock);
	if (!points)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*points_out = points;
	*count_out = count;
	return CUDA_SUCCESS;
}

bool sim_points_passed(const struct sim_point *points, size_t count)
{
	bool passed = true;
	size_t i;

	pthread_mutex_lock(&sim_work_lock);
	for (i = 0; i < count && passed; i++)
		passed = has_passed(&points[i]);
	pthread_mutex_unlock(&sim_work_lock);
	return passed;
}

/* pre: the lock is held. */
static CUresult error_locked(void)
{
	CUcontext context = sim_current();

	return context ? context->error : CUDA_SUCCESS;
}

CUresult sim_points_wait(const struct sim_point *points, size_t count)
{
	CUresult result;

	pthread_mutex_lock(&sim_work_lock);
	wait_for_points(points, count);
	result = error_locked();
	pthread_mutex_unlock(&sim_work_lock);
	return sim_vram_is_lost() ? CUDA_ERROR_ECC_UNCORRECTABLE : result;
}

/* A capturing stream can be neither asked nor waited for. */
static CUresult refuse_captured(CUstream stream)
{
	CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
	CUresult result = sim_capture_status(stream, &capture);

	if (result == CUDA_SUCCESS && capture != CU_STREAM_CAPTURE_STATUS_NONE)
		result = sim_capture_refuse();
	return result;
}

static CUresult wait_stream(CUstream stream)
{
	struct sim_point *points;
	CUresult result;
	size_t count;

	result = refuse_captured(stream);
	if (result == CUDA_SUCCESS)
		result = sim_points_of(stream, &points, &count);
	if (result != CUDA_SUCCESS)
		return result;
	result = sim_points_wait(points, count);
	free(points);
	return result;
}

CUresult sim_submit_and_wait(CUstream stream, struct sim_op *op)
{
	CUresult result = sim_submit(stream, op);

	return result == CUDA_SUCCESS ? wait_stream(stream) : result;
}

CUresult sim_work_error(void)
{
	CUresult result;

	pthread_mutex_lock(&sim_work_lock);
	result = error_locked();
	pthread_mutex_unlock(&sim_work_lock);
	return result;
}

void sim_work_clear_errors(void)
{
	struct CUctx_st *context;

	pthread_mutex_lock(&sim_work_lock);
	for (context = sim_contexts; context; context = context->next)
		context->error = CUDA_SUCCESS;
	pthread_mutex_unlock(&sim_work_lock);
}

bool sim_work_is_ending(void)
{
	return (running && atomic_load(&running->context->is_ending)) ||
	       sim_vram_is_lost();
}

static CUresult wait_for_context(CUcontext context)
{
	struct sim_point *points;
	CUresult result;
	size_t count;

	result = sim_points_of_all(context, &points, &count);
	if (result != CUDA_SUCCESS)
		return result;
	result = sim_points_wait(points, count);
	free(points);
	return result;
}

CUresult sim_wait_for_all(void)
{
	return wait_for_context(sim_current());
}

/* ---- streams ---- */

/* pre: the lock is held. */
static struct CUstream_st *new_stream(unsigned int flags)
{
	struct CUstream_st *stream = spare_streams;

	if (stream)
		spare_streams = stream->next;
	else
		stream = calloc(1, sizeof(*stream));
	if (!stream)
		return NULL;
	stream->queue = new_queue(sim_current(), flags == CU_STREAM_NON_BLOCKING
							 ? SIM_NON_BLOCKING
							 : SIM_BLOCKING);
	if (!stream->queue) {
		stream->next = spare_streams;
		spare_streams = stream;
		return NULL;
	}
	stream->queue->stream = stream;
	return stream;
}

static CUresult create_stream(CUstream *stream_out, unsigned int flags)
{
	struct CUstream_st *stream;

	if (!stream_out || flags > CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&sim_work_lock);
	stream = new_stream(flags);
	pthread_mutex_unlock(&sim_work_lock);
	if (!stream)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*stream_out = stream;
	return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
	ENTER_CONTEXT(cuStreamCreate);
	return create_stream(stream, flags);
}

/* Each stream has a thread: none goes before another. */
CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags,
				    int priority)
{
	ENTER_CONTEXT(cuStreamCreateWithPriority);
	(void)priority;
	return create_stream(stream, flags);
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	ENTER_CONTEXT(cuCtxGetStreamPriorityRange);
	if (least)
		*least = 0;
	if (greatest)
		*greatest = GREATEST_PRIORITY;
	return CUDA_SUCCESS;
}

/* pre: the lock is held. The graph of its capture is the caller's to free,
 * without the lock. */
static CUgraph end_stream(struct CUstream_st *stream)
{
	CUgraph unfinished = sim_capture_abandon(stream->queue);

	stream->queue->stream = NULL;
	stream->queue->is_retired = true;
	stream->queue = NULL;
	stream->next = spare_streams;
	spare_streams = stream;
	return unfinished;
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
	CUresult result = CUDA_ERROR_INVALID_HANDLE;
	CUgraph unfinished = NULL;

	ENTER(cuStreamDestroy_v2);
	if ((uintptr_t)stream <= (uintptr_t)CU_STREAM_PER_THREAD)
		return result;
	pthread_mutex_lock(&sim_work_lock);
	if (stream->queue) {
		unfinished = end_stream(stream);
		result = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&sim_work_lock);
	sim_graph_free(unfinished);
	return result;
}

/* Ends one; false when there is none left. */
static bool end_a_stream_of(CUcontext context)
{
	CUgraph unfinished = NULL;
	struct sim_queue *queue;

	pthread_mutex_lock(&sim_work_lock);
	for (queue = sim_queues; queue; queue = queue->next)
		if (queue->context == context && queue->stream)
			break;
	if (queue)
		unfinished = end_stream(queue->stream);
	pthread_mutex_unlock(&sim_work_lock);
	sim_graph_free(unfinished);
	return queue != NULL;
}

void sim_work_end(CUcontext context)
{
	atomic_store(&context->is_ending, true);
	wait_for_context(context);
	atomic_store(&context->is_ending, false);
	while (end_a_stream_of(context))
		;
	pthread_mutex_lock(&sim_work_lock);
	context->error = CUDA_SUCCESS;
	if (context->legacy)
		context->legacy->is_retired = true;
	context->legacy = NULL;
	pthread_mutex_unlock(&sim_work_lock);
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext *context)
{
	const struct sim_queue *queue;

	ENTER_CONTEXT(cuStreamGetCtx);
	if (!context)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&sim_work_lock);
	queue = sim_queue_of(stream);
	if (queue)
		*context = queue->context;
	pthread_mutex_unlock(&sim_work_lock);
	return queue ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuStreamSynchronize(CUstream stream)
{
	ENTER_CONTEXT(cuStreamSynchronize);
	return wait_stream(stream);
}

CUresult cuStreamQuery(CUstream stream)
{
	struct sim_point *points;
	CUresult result;
	size_t count;

	ENTER_CONTEXT(cuStreamQuery);
	result = refuse_captured(stream);
	if (result == CUDA_SUCCESS)
		result = sim_points_of(stream, &points, &count);
	if (result != CUDA_SUCCESS)
		return result;
	if (!sim_points_passed(points, count))
		result = CUDA_ERROR_NOT_READY;
	free(points);
	return result == CUDA_SUCCESS ? sim_work_error() : result;
}
