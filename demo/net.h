/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A model as steps of kernels over weights that lie in the pool already, and
 * its run: activations come from the pool, in the order of the stream.
 */
#ifndef DEMO_NET_H
#define DEMO_NET_H

#include "demo/gpu.h"
#include "demo/manifest.h"
#include "demo/samples.h"

#define DM_MAX_STEPS 8u

struct dm_step {
	enum dm_kernel kernel;
	CUdeviceptr w;    /* 0 for a pool step */
	CUdeviceptr b;    /* likewise */
	uint32_t n_in;    /* features or channels */
	uint32_t n_out;   /* likewise */
	uint32_t size;    /* of an input plane, one side */
	uint32_t relu;    /* of a dense step */
	uint32_t outputs; /* elements for one image */
};

struct dm_net {
	struct dm_step steps[DM_MAX_STEPS];
	uint32_t count;
};

/* @base: the GPU address of the model. PS_REFUSED when a tensor is missing or
 * its shape does not fit the model. pre: the manifest is checked. */
enum ps_status dm_net_plan(const struct dm_manifest *manifest, CUdeviceptr base,
			   struct dm_net *net_out);

struct dm_runner {
	struct dm_gpu *gpu;
	struct ps_pool *pool;
	struct dm_samples alloc_ns; /* each allocation */
	uint64_t submitted_at;      /* first kernel of the last run, dm_now() */
	uint64_t done_at;           /* likewise */
};

/* Classifies @count images. Nothing stays allocated. */
enum ps_status dm_net_run(struct dm_runner *runner, const struct dm_net *net,
			  const float *pixels, uint32_t count,
			  uint32_t *labels_out);

#endif /* DEMO_NET_H */
