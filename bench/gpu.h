/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The GPU as the benchmarks use it beside the library: what programs do
 * without us (the driver's own pool), streams, and one small kernel. The only
 * file of this folder that knows CUDA's symbols; device/device.h has the rest.
 *
 * False: the reason is in bs_fail_text().
 */
#ifndef BENCH_GPU_H
#define BENCH_GPU_H

#include "device/device.h"

#include <stdbool.h>

struct bn_identity {
	bool simulated;
	char gpu[64];
	char driver[64];
};

/* Leaves no context behind. */
bool bn_gpu_identify(struct bn_identity *identity_out);

/* Starts CUDA in this process and makes the device's primary context the
 * calling thread's. Each of the two steps' time, in ns; NULL: not asked. */
bool bn_gpu_open(uint64_t *init_ns_out, uint64_t *context_ns_out);
void bn_gpu_close(void);
/* Makes the context another thread's too. */
bool bn_gpu_enter(void);
/* pre: between bn_gpu_open() and bn_gpu_close(). */
struct dv_device *bn_gpu_device(void);

/* Non-blocking: not ordered with the default stream. */
bool bn_stream_new(void **stream_out);
void bn_stream_free(void *stream);
bool bn_stream_wait(void *stream);

/* The driver's default memory pool; it keeps what is freed. */
bool bn_driver_pool_keep(void);
bool bn_driver_pool_trim(void);
bool bn_driver_pool_alloc(void *stream, uint64_t bytes, uint64_t *ptr_out);
bool bn_driver_pool_free(void *stream, uint64_t ptr);

/* cuMemAlloc() and cuMemFree() as any program calls them. */
bool bn_plain_alloc(uint64_t bytes, uint64_t *ptr_out);
bool bn_plain_free(uint64_t ptr);
bool bn_primary_retain(void);
bool bn_primary_release(void);

/* A word of the host, 0, that the GPU sees; lives as long as the process. */
bool bn_word_new(uint32_t **word_out);
/* The stream does nothing more until @word is @value or greater. */
bool bn_stream_block(void *stream, uint32_t *word, uint32_t value);

/* The kernel adds one to the first and to the last word of a range. */
bool bn_touch_load(void);
bool bn_touch_launch(void *stream, uint64_t ptr, uint64_t bytes);
/* How long the GPU works on one, alone: median of several, in ns. */
bool bn_touch_duration(void *stream, uint64_t ptr, uint64_t bytes,
		       uint64_t *ns_out);

/* A kernel that stands for a layer: adds the word at @source to the one at
 * @sum, and is busy for @ns. */
bool bn_layer_load(void);
bool bn_layer_launch(void *stream, uint64_t source, uint64_t sum, uint64_t ns);

/* What is submitted on a stream between the two becomes a graph. */
bool bn_graph_begin(void *stream);
bool bn_graph_end(void *stream, void **graph_out);
bool bn_graph_launch(void *graph, void *stream);
void bn_graph_free(void *graph); /* NULL: ok */

#endif /* BENCH_GPU_H */
