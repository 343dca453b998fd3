/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What plain and stream-ordered memory have in common. */
#ifndef PRELOAD_MEMORY_H
#define PRELOAD_MEMORY_H

#include "preload/state.h"

/* Whether an allocation that came to @status goes to the driver after all. */
bool pl_spills(struct ps_pool *pool, enum ps_status status);
/* The driver gave it though there is a pool; NULL: there is none. */
void pl_note_passed(struct ps_pool *pool, CUdeviceptr address, uint64_t bytes);
/* What the program gets for an allocation that came to @status. */
CUresult pl_refuse(enum ps_status status);

/* Frees an address of the pool's, behind all work of the process. */
CUresult pl_free_block(struct ps_pool *pool, CUdeviceptr address);
/* What the program gets for a free that came to @status. */
CUresult pl_freed(enum ps_status status);

/* A block ends: if it is one of CUDA's pools' it counts there no more. */
void pl_forget_async(CUdeviceptr address);

#endif /* PRELOAD_MEMORY_H */
