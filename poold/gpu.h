/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The agent's GPU: the segments, mapped one after the other, and a thread
 * that scrubs, vacates and remakes them, so that no driver call is made on the
 * thread that serves clients.
 *
 * Invariants
 *   Each segment has a descriptor here, except while it is vacant or being
 *   remade: what was imported cannot be exported again, so a descriptor is
 *   kept for good.
 *   A segment that is remade counts as free only when the driver has reported
 *   its bytes free and a new one is made.
 */
#ifndef POOLD_GPU_H
#define POOLD_GPU_H

#include "poold/journal.h"

struct pd_gpu;

struct pd_gpu_plan {
	const char *gpu;       /* NULL: the only one */
	uint64_t size;         /* 0: all that is free less the headroom */
	uint64_t headroom;     /* UINT64_MAX: the default */
	const char *parameter; /* "10G", "25%"; NULL: a quarter */
	uint64_t segment;      /* 0: chosen */
	uint32_t clients;      /* places in the journal */
};

/* What the thread has done; read with pd_gpu_take_done(). */
enum pd_job { PD_JOB_SCRUB, PD_JOB_REMAKE, PD_JOB_VACATE };
struct pd_done {
	enum pd_job job;
	uint32_t segment;
	enum ps_status status; /* PS_DEVICE_LOST: the GPU is gone */
	char text[256];        /* of a failure */
};

/*
 * Opens the GPU and checks that it can serve others (no MIG, a compute mode
 * that lets clients in), outside of any MPS server: sets
 * CUDA_MPS_PIPE_DIRECTORY, so pre: no other thread reads the environment.
 * @gpu: NULL: the only one; PS_INVALID_ARGUMENT where there are more.
 * PS_NO_DRIVER, PS_NO_DEVICE, PS_UNSUPPORTED.
 */
enum ps_status pd_gpu_open(const char *gpu, struct pd_gpu **gpu_out);
void pd_gpu_close(struct pd_gpu *gpu); /* ends the thread; NULL: ok */

const char *pd_gpu_uuid(const struct pd_gpu *gpu);

/* Creates the pool. Fills in @pool_out for a new journal.
 * PS_DEVICE_MEMORY, PS_INVALID_ARGUMENT, PS_WINDOW_TAKEN, PS_FD_LIMIT, ... */
enum ps_status pd_gpu_create(struct pd_gpu *gpu, const struct pd_gpu_plan *plan,
			     struct pd_pool_record *pool_out);
/* Takes an inherited pool: @fds[n] is the descriptor of segment n, -1 where
 * there is none (it was being remade, or is vacant). The descriptors are taken
 * over, also when it fails. PS_WRONG_GPU, PS_BAD_SEGMENT, ... */
enum ps_status pd_gpu_adopt(struct pd_gpu *gpu,
			    const struct pd_pool_record *pool, const int *fds);
/* Starts the thread. */
enum ps_status pd_gpu_start(struct pd_gpu *gpu);

/* The descriptor of a segment, which stays the gpu's; -1 while it is remade or
 * vacant.
 * On the caller's thread only. */
int pd_gpu_fd(const struct pd_gpu *gpu, uint32_t segment);
/* Closes it: the first step of remaking, on the caller's thread. */
void pd_gpu_drop_fd(struct pd_gpu *gpu, uint32_t segment);

/* Queues work. pre: none of the segment's is queued or not yet taken with
 * pd_gpu_take_done(). pre of remake and vacate: nobody of us has its descriptor
 * any more. One of them that comes to PS_AGAIN has given the memory back, and
 * either may be queued again at any time. Every job is done within about 50 ms,
 * unless the driver hangs. */
void pd_gpu_scrub(struct pd_gpu *gpu, uint32_t segment);
void pd_gpu_remake(struct pd_gpu *gpu, uint32_t segment);
/* The first half of a remake: destroys the segment and waits until the driver
 * reports its bytes free. A remake is the second half then. */
void pd_gpu_vacate(struct pd_gpu *gpu, uint32_t segment);
/* Readable when something is done. */
int pd_gpu_event(const struct pd_gpu *gpu);
/* The next thing done; false: nothing. After a REMAKE that went well
 * pd_gpu_fd() gives the new descriptor. */
bool pd_gpu_take_done(struct pd_gpu *gpu, struct pd_done *done_out);

/* Free bytes of the GPU by the driver, as of the last work done, for status.*/
uint64_t pd_gpu_free_bytes(const struct pd_gpu *gpu);
/* Asks the driver, and keeps what it says for that. A driver call. */
enum ps_status pd_gpu_ask_free(struct pd_gpu *gpu, uint64_t *free_out);

struct dv_device;

/* The device, which stays the gpu's, and where a segment is mapped. */
struct dv_device *pd_gpu_device(const struct pd_gpu *gpu);
uint64_t pd_gpu_segment_address(const struct pd_gpu *gpu, uint32_t segment);
uint64_t pd_gpu_segment_bytes(const struct pd_gpu *gpu);

#endif /* POOLD_GPU_H */
