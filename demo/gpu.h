/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker's use of the GPU besides the pool: one stream, the demo's kernels,
 * and copies. Every copy from the host goes through dm_gpu_copy_in(), which
 * counts it.
 */
#ifndef DEMO_GPU_H
#define DEMO_GPU_H

#include "device/device.h"
#include "device/driver.h"

enum dm_kernel {
	DM_DENSE,
	DM_CONV3X3,
	DM_MAXPOOL2,
	DM_ARGMAX,
	DM_KERNELS /* how many */
};

struct dm_gpu {
	const struct dv_driver *driver;
	struct dv_device *device; /* keeps the context */
	CUcontext context;        /* primary; current in the opening thread */
	CUdevice ordinal;
	CUstream stream; /* for everything that the worker computes */
	CUevent event;   /* behind the first kernel after a switch */
	CUmodule module;
	CUfunction kernels[DM_KERNELS];
	uint64_t bytes_in; /* copied from the host so far */
};

/* @uuid: "GPU-..."; @folder: where kernels.ptx is. Zeroes @gpu first. */
enum ps_status dm_gpu_open(struct dm_gpu *gpu, const char *uuid,
			   const char *folder);
void dm_gpu_close(struct dm_gpu *gpu); /* also one that did not open */

/* One thread for each of @count elements; the arguments as CUDA wants them. */
enum ps_status dm_gpu_launch(struct dm_gpu *gpu, enum dm_kernel kernel,
			     uint32_t count, void **arguments);

/* In the stream's order. @src may be used again after the call. */
enum ps_status dm_gpu_copy_in(struct dm_gpu *gpu, CUdeviceptr dst,
			      const void *src, size_t bytes);
/* Behind all work of the stream, and waited for. */
enum ps_status dm_gpu_copy_out(struct dm_gpu *gpu, void *dst, CUdeviceptr src,
			       size_t bytes);

/* Marks this point of the stream; waits until the stream has passed it. */
enum ps_status dm_gpu_mark(struct dm_gpu *gpu);
enum ps_status dm_gpu_wait_mark(struct dm_gpu *gpu);

#endif /* DEMO_GPU_H */
