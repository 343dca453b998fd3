/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How the memory of a GPU becomes a pool: what was wished for, and what comes
 * of it. The same in every process that has the pool.
 *
 * Invariant: ip_layout_plan() is pure: the same wish and the same free memory
 * give the same layout, so it is tested without a GPU.
 */
#ifndef IPC_LAYOUT_H
#define IPC_LAYOUT_H

#include "include/poolswitch.h"

struct ip_wish {
	uint64_t size;         /* 0: all that is free */
	uint64_t headroom;     /* of "all" */
	uint64_t parameter;    /* bytes of the parameter region */
	uint64_t segment_size; /* 0: chosen */
	bool has_headroom;     /* else the default */
	bool has_parameter;    /* else the default */
	enum ps_share_mode mode;
};

struct ip_layout {
	enum ps_share_mode mode;
	uint64_t segment_size;
	uint32_t segments;
	uint64_t parameter_size; /* a multiple of segment_size */
};

/*
 * Divides the memory. @free: what the GPU has left. @granularity: the
 * driver's; a power of two. PS_INVALID_ARGUMENT, PS_DEVICE_MEMORY.
 */
enum ps_status ip_layout_plan(const struct ip_wish *wish, uint64_t free,
			      uint64_t granularity,
			      struct ip_layout *layout_out);

#endif /* IPC_LAYOUT_H */
