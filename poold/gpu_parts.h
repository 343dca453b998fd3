/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the files of the agent's GPU share: gpu.c, gpu_create.c, gpu_work.c. */
#ifndef POOLD_GPU_PARTS_H
#define POOLD_GPU_PARTS_H

#include "base/lock.h"
#include "device/device.h"
#include "poold/gpu.h"

#include <stdatomic.h>

#define PD_NO_SEGMENT UINT32_MAX

struct pd_gpu_segment {
	/* Of the caller's thread. */
	int fd;

	/* Of the GPU's thread; before it starts, the caller's. */
	bool is_mapped;
	uint64_t floor; /* remade when the GPU has so much free and a segment's
			 * bytes more */
	uint64_t until; /* is looked at again and again, up to this time */

	/* Of whoever has taken it off the list that it is on. */
	enum pd_job job;
	enum ps_status status; /* what it came to... */
	int new_fd;            /* ...a remake... */
	char text[256];        /* ...or a failure */

	uint32_t next; /* guarded by lock */
};

/* Segments by their numbers, linked by next. */
struct pd_gpu_list {
	uint32_t first;
	uint32_t last;
};

struct pd_gpu {
	uint32_t magic;

	/* Immutable once the pool is made or adopted. */
	struct dv_device *device;
	void *stream; /* of the scrubs */
	int event;    /* eventfd */
	uint64_t base;
	uint64_t window; /* 0: no window */
	uint64_t segment_bytes;
	uint32_t segments;
	struct pd_gpu_segment *segment;

	/* Of the GPU's thread. */
	bool is_lost;      /* nothing more is tried */
	bool is_unsettled; /* work of ours may still run */
	bool is_stale;     /* free_bytes is from before work */

	_Atomic(uint64_t) free_bytes;

	/* The caller's thread. */
	pthread_t thread;
	bool is_started;

	/* Guarded by lock. */
	struct bs_lock lock;
	pthread_cond_t wake;
	bool is_ending;
	struct pd_gpu_list scrubs;
	struct pd_gpu_list vacates;
	struct pd_gpu_list remakes;
	struct pd_gpu_list done;
};

#define PD_GPU_MAGIC 0x70646770u

static inline uint64_t pd_gpu_address(const struct pd_gpu *gpu, uint32_t n)
{
	return gpu->base + n * gpu->segment_bytes;
}

/* Creates a segment and maps it; no access yet. *fd_out: exported, the
 * caller's. On failure nothing is left. */
enum ps_status pd_gpu_make_segment(struct pd_gpu *gpu, uint32_t n, int *fd_out);

/* gpu_work.c's part of opening and closing. */
enum ps_status pd_gpu_init_jobs(struct pd_gpu *gpu);
void pd_gpu_end_jobs(struct pd_gpu *gpu); /* ends the thread */

#endif /* POOLD_GPU_PARTS_H */
