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

/* A window is this many times as long as its pool, the rest is for aliases;
 * where addresses are scarce 4, 2 or 1 do. */
#define IP_WINDOW_POOLS 8u

/* How long it is; 32 MiB at least: the driver ignores where less is wanted. */
uint64_t ip_window_bytes(uint64_t pool_bytes, uint32_t pools);

/*
 * Where windows are tried, in order: apart from what the loader, the heap and
 * the thread stacks of a process use, so that another process finds the same
 * place free. @i: below IP_WINDOW_PLACES.
 */
#define IP_WINDOW_PLACES 33u
uint64_t ip_window_place(uint32_t i);

#endif /* IPC_LAYOUT_H */
