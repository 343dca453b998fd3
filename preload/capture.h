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

#endif /* PRELOAD_CAPTURE_H */
