/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Streams that capture. While any does, no fence of ours may be recorded
 * behind all streams, and a block of ours that the program frees may be named
 * by the graph: it is held until no graph that was captured meanwhile, nor
 * anything made of one, is left.
 */
#ifndef PRELOAD_CAPTURE_H
#define PRELOAD_CAPTURE_H

#include "device/cuda_abi.h"
#include "include/poolswitch.h"

/* Whether any stream of the process captures: one load. */
bool pl_is_capturing(void);
/* Whether this one does: what is allocated on it belongs to the graph. A
 * driver call, made only when pl_is_capturing(). @stream as its ABI variant
 * means it. */
bool pl_stream_captures(CUstream stream);
/* Takes the block when a capture is under way; false: free it yourself. */
bool pl_hold_block(CUdeviceptr address);

/* Whether a block of ours is held: for the program it is freed. */
bool pl_is_held(CUdeviceptr address);

/* Room for what a capturing stream allocates: its graph's. Other than
 * CUDA_SUCCESS: what the program gets. */
CUresult pl_capture_take(CUstream stream, uint64_t bytes);

/* The driver has destroyed the stream, and its capture if it had one. */
void pl_capture_drop(CUstream stream);

/* The pool is there: captures that began before bar its fences too. */
void pl_captures_attached(struct ps_pool *pool);
/* The pool is gone, and all blocks. */
void pl_captures_left(void);

#endif /* PRELOAD_CAPTURE_H */
