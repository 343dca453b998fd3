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
/* A context on the pool's GPU that is not the primary one, however it came. */
void pl_learn_context(CUcontext context);
/* After an allocation by the pool, when pl_has_contexts(). */
void pl_note_block(CUdeviceptr address);
/* Before a block is freed, when pl_has_contexts(): waits for the work of all
 * contexts but the primary one, and forgets the block. */
void pl_settle_block(CUdeviceptr address);

/* The GPU of a context; false: it is none, or gone. */
bool pl_context_device(CUcontext context, CUdevice *device_out);
/* The program lets @peer use memory of @device. */
void pl_let_in(CUdevice device, CUdevice peer);

/* The pool is there: the GPUs that the program let use its memory before. */
void pl_contexts_attached(struct ps_pool *pool);
/* The pool is gone, and all blocks. */
void pl_contexts_left(void);

#endif /* PRELOAD_CONTEXT_H */
