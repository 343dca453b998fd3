/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * CUDA's memory pools (cuMemPoolCreate). The driver has each, with its
 * settings; blocks of those that nobody else can have come from the process's
 * pool, and are counted for CUDA's.
 */
#ifndef PRELOAD_MEMPOOL_H
#define PRELOAD_MEMPOOL_H

#include "device/cuda_abi.h"
#include "include/poolswitch.h"

/* No pool of CUDA's that is served here. */
#define PL_MEMPOOL_NONE 0

/*
 * A number for @handle, or for the current one of the pool's GPU where that is
 * NULL. PL_MEMPOOL_NONE: the driver must serve it: it can be exported, was
 * imported, or is on another GPU.
 */
uint64_t pl_mempool_find(CUmemoryPool handle);
/* Counts a block in and out, if it is still there. false: it has as much as
 * it may. */
bool pl_mempool_take(uint64_t number, uint64_t bytes);
void pl_mempool_give(uint64_t number, uint64_t bytes);

/* The pool is gone, and all blocks. */
void pl_mempools_left(void);

#endif /* PRELOAD_MEMPOOL_H */
