/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a program asked for, and what becomes of it on a GPU of a given size.
 *
 * Invariant: lb_layout_plan() is pure: the same request and the same free
 * memory give the same layout, so it is tested without a GPU.
 */
#ifndef LIB_CONFIG_H
#define LIB_CONFIG_H

#include "include/poolswitch.h"

/* "GPU-<uuid>" with its end, or a number. */
#define LB_GPU_TEXT 48

struct ps_pool_config {
	char gpu[LB_GPU_TEXT];
	uint64_t size;         /* 0: all that is free */
	uint64_t headroom;     /* of "all" */
	uint64_t parameter;    /* bytes of the parameter region */
	uint64_t segment_size; /* 0: chosen */
	bool has_headroom;     /* else the default */
	bool has_parameter;    /* else the default */
	enum ps_share_mode mode;
};

/* How a pool is divided. The same in every process that has it. */
struct lb_layout {
	enum ps_share_mode mode;
	uint64_t segment_size;
	uint32_t segments;
	uint64_t parameter_size; /* a multiple of segment_size */
};

/*
 * Divides the memory. @config: NULL: the defaults. @free: what the GPU has
 * left. @granularity: the driver's; a power of two.
 * PS_INVALID_ARGUMENT, PS_DEVICE_MEMORY.
 */
enum ps_status lb_layout_plan(const struct ps_pool_config *config,
			      uint64_t free, uint64_t granularity,
			      struct lb_layout *layout_out);

#endif /* LIB_CONFIG_H */
