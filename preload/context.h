/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Contexts besides the primary one. The pool's fences are the primary
 * context's: a block that was used in another must wait for that one by
 * itself, and what was allocated in a context goes when the context does.
 */
#ifndef PRELOAD_CONTEXT_H
#define PRELOAD_CONTEXT_H

#include "device/cuda_abi.h"
#include "include/poolswitch.h"

/* Whether the program has made contexts of its own on any GPU: one load. */
bool pl_has_contexts(void);
/* After an allocation by the pool, when pl_has_contexts(). */
void pl_note_block(CUdeviceptr address);
/* Before a block is freed, when pl_has_contexts(): waits for the work of all
 * contexts but the primary one, and forgets the block. */
void pl_settle_block(CUdeviceptr address);

#endif /* PRELOAD_CONTEXT_H */
