/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A queue from inside: for work.c, whose it is, and capture.c. Everybody else
 * uses work.h.
 */
#ifndef DEVICE_SIM_QUEUE_H
#define DEVICE_SIM_QUEUE_H

#include "device/sim/work.h"

#include <pthread.h>

enum sim_ordering {
	SIM_LEGACY,      /* with all blocking queues */
	SIM_BLOCKING,    /* with the legacy queue */
	SIM_NON_BLOCKING /* with no other */
};

struct sim_queue {
	struct sim_queue *next; /* among all; immutable after creation */
	pthread_cond_t wake;    /* has work */

	/* Guarded by sim_work_lock. */
	CUcontext context;
	CUstream stream; /* whose it is; NULL: none that a program has */
	enum sim_ordering ordering;
	bool is_retired; /* its stream is destroyed; used again when idle */
	CUstreamCaptureStatus capture;
	CUstreamCaptureMode capture_mode;
	pthread_t capture_thread; /* that began it */
	CUgraph capture_graph;
	bool is_graph_given; /* it was there before the capture */
	struct sim_op *first;
	struct sim_op **last;
	uint64_t submitted; /* the last number given */
	uint64_t completed; /* all up to here are done */
};

extern pthread_mutex_t sim_work_lock;
extern struct sim_queue *sim_queues; /* guarded by sim_work_lock */

/* pre: the lock is held. NULL for a handle that is no stream. */
struct sim_queue *sim_queue_of(CUstream stream);

static inline bool sim_queue_is_capturing(const struct sim_queue *queue)
{
	return queue->capture != CU_STREAM_CAPTURE_STATUS_NONE;
}

/* Whether it is the legacy stream's and a blocking stream captures.
 * pre: the lock is held. */
bool sim_queue_is_barred(const struct sim_queue *queue);

/* Ends the queue's capture, if any. The caller frees the graph, which may be
 * NULL, without the lock. pre: the lock is held. */
CUgraph sim_capture_abandon(struct sim_queue *queue);

#endif /* DEVICE_SIM_QUEUE_H */
