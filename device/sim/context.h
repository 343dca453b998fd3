/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A context: what streams, events and plain memory belong to, and what ends
 * with a failed kernel. One that ended is never freed, so that a handle to it
 * stays recognizable; a primary one can start again.
 */
#ifndef DEVICE_SIM_CONTEXT_H
#define DEVICE_SIM_CONTEXT_H

#include "device/sim/vram.h"

#include <stdatomic.h>

struct sim_queue;

struct CUctx_st {
	struct CUctx_st *next; /* among all; guarded by sim_work_lock */
	CUdevice device;       /* immutable */
	bool is_primary;       /* immutable */
	atomic_bool is_alive;
	atomic_bool is_ending; /* its work is to end early */

	/* Guarded by context.c's lock. */
	unsigned int holds; /* a primary one is retained so often */
	unsigned int peers; /* a bit for each GPU whose memory it uses */
	bool has_claim;     /* to the memory that a context takes */
	int claim;
	struct sim_range claimed;

	/* Guarded by sim_work_lock. */
	CUresult error; /* a failed operation's, for good */
	struct sim_queue *legacy;
};

/* All that there ever were. Guarded by sim_work_lock. */
extern struct CUctx_st *sim_contexts;

/* Whatever is current; may be NULL or have ended. */
CUcontext sim_current(void);

/* From identity.c. */
bool sim_is_device(CUdevice device);
int sim_compute_mode(void);

#endif /* DEVICE_SIM_CONTEXT_H */
