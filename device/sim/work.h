/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The simulated GPU's work: queues, each run by a thread, and the order
 * between them.
 *
 * A queue's operations are numbered from 1 and run in order; a point is a
 * queue and a number, and has passed when the queue is that far. Operations
 * wait for points of other queues, which are always of earlier submission, so
 * nothing can wait in a circle. Queues are never freed, and their numbers
 * only grow: a point stays good for ever.
 */
#ifndef DEVICE_SIM_WORK_H
#define DEVICE_SIM_WORK_H

#include "device/cuda_abi.h"

#include <stdbool.h>

struct sim_queue;

struct sim_point {
	struct sim_queue *queue;
	uint64_t number;
};

/* The first member of what is submitted. */
struct sim_op {
	/* Does the work, on the queue's thread. */
	CUresult (*run)(struct sim_op *op);
	/* Frees what it holds besides its memory; may be NULL. Also called
	 * for what never ran. */
	void (*done)(struct sim_op *op);

	/* The queue's own. */
	struct sim_op *next;
	uint64_t number;
	struct sim_point *waits;
	size_t wait_count;
};

/* Zeroed; NULL without memory. @bytes: of the whole struct. */
void *sim_op_new(size_t bytes, CUresult (*run)(struct sim_op *op));

/* Frees what never came to a queue. */
void sim_op_free(struct sim_op *op);

/* Takes the operation over, whatever the result. On a capturing stream it
 * becomes part of the graph: then it runs once for each launch, and must be as
 * it was afterwards. */
CUresult sim_submit(CUstream stream, struct sim_op *op);
/* The same, behind these points too. */
CUresult sim_submit_behind(CUstream stream, struct sim_op *op,
			   const struct sim_point *points, size_t count);
/* And waits for it. */
CUresult sim_submit_and_wait(CUstream stream, struct sim_op *op);

/* What the work submitted so far on a stream, or on all of a context
 * (sim_points_of_all) comes to; the caller frees the array. */
CUresult sim_points_of(CUstream stream, struct sim_point **points_out,
		       size_t *count_out);
CUresult sim_points_of_all(CUcontext context, struct sim_point **points_out,
			   size_t *count_out);

bool sim_points_passed(const struct sim_point *points, size_t count);
/* Returns the current context's error, if there is one by then. */
CUresult sim_points_wait(const struct sim_point *points, size_t count);

/* For all work that is submitted by now in the current context. */
CUresult sim_wait_for_all(void);

/* Of the streams that capture, any of the context and this one. */
bool sim_is_capturing_any(CUcontext context);
CUresult sim_capture_status(CUstream stream, CUstreamCaptureStatus *status);
/* A call that is not allowed while a stream captures spoils the captures. */
CUresult sim_capture_refuse(void);
/* The same for calls that some captures allow, by this thread's mode. */
CUresult sim_capture_check(void);

/* Memory of the graph that the stream's capture makes.
 * pre: the stream captures. */
CUresult sim_capture_allocate(CUstream stream, uint64_t bytes,
			      CUdeviceptr *address_out);

/* Of an event and a stream that are of different contexts: INVALID_HANDLE. */
CUresult sim_check_stream(CUstream stream, CUcontext context);

/* The current context's error: a failed operation's, for good. */
CUresult sim_work_error(void);
/* Of all contexts. */
void sim_work_clear_errors(void);

/* True when the operation that this thread runs must end early: the GPU is
 * lost, the context ends. */
bool sim_work_is_ending(void);
/* Ends and waits for all work of the context; its streams become invalid. */
void sim_work_end(CUcontext context);

#endif /* DEVICE_SIM_WORK_H */
