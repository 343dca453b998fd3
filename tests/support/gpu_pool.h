/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * For the tests of poold/gpu*.c: a pool on the simulated GPU, in a child (CUDA
 * survives no fork), and its memory as a client sees it.
 */
#ifndef TESTS_SUPPORT_GPU_POOL_H
#define TESTS_SUPPORT_GPU_POOL_H

#include "base/status.h"
#include "poold/gpu_parts.h"
#include "tests/support/gpu.h"
#include "tests/support/sim.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define SEGMENT (2 * MIB)
#define GPU_BYTES (64 * MIB)
#define SEGMENTS 4u

/* warm_up of each program: the GPU's size is decided by who uses it first. */
static inline void small_gpu(void)
{
	setenv("POOLSWITCH_SIM_MEMORY", "64M", 1);
}

static inline struct pd_gpu *open_gpu(void)
{
	struct pd_gpu *gpu;

	th_assert_ok(pd_gpu_open(NULL, &gpu));
	return gpu;
}

static inline struct pd_gpu_plan small_plan(void)
{
	return (struct pd_gpu_plan){
		.size = SEGMENTS * SEGMENT,
		.headroom = UINT64_MAX,
		.segment = SEGMENT,
		.clients = 8,
	};
}

/* A pool of SEGMENTS segments. */
static inline struct pd_gpu *create_small(struct pd_pool_record *pool_out)
{
	const struct pd_gpu_plan plan = small_plan();
	struct pd_gpu *gpu = open_gpu();

	th_assert_ok(pd_gpu_create(gpu, &plan, pool_out));
	return gpu;
}

static inline uint64_t free_of(struct pd_gpu *gpu)
{
	uint64_t bytes;

	th_assert_ok(pd_gpu_ask_free(gpu, &bytes));
	return bytes;
}

/* The first and the last word of a segment. */
static inline void put_words(struct pd_gpu *gpu, uint32_t n, uint32_t word)
{
	uint64_t at = pd_gpu_address(gpu, n);

	th_assert_ok(dv_copy_in(gpu->device, at, &word, sizeof(word)));
	at += gpu->segment_bytes - sizeof(word);
	th_assert_ok(dv_copy_in(gpu->device, at, &word, sizeof(word)));
}

static inline void assert_words(struct pd_gpu *gpu, uint32_t n, uint32_t word)
{
	uint64_t at = pd_gpu_address(gpu, n);
	uint32_t seen;

	th_assert_ok(dv_copy_out(gpu->device, &seen, at, sizeof(seen)));
	assert_int_equal(seen, word);
	at += gpu->segment_bytes - sizeof(word);
	th_assert_ok(dv_copy_out(gpu->device, &seen, at, sizeof(seen)));
	assert_int_equal(seen, word);
}

/* Waits for the next thing done. */
static inline struct pd_done wait_done(struct pd_gpu *gpu)
{
	struct pollfd event = { .fd = pd_gpu_event(gpu), .events = POLLIN };
	struct pd_done done;

	while (!pd_gpu_take_done(gpu, &done))
		assert_int_equal(poll(&event, 1, 10000), 1);
	return done;
}

static inline struct pd_done remake(struct pd_gpu *gpu, uint32_t n)
{
	struct pd_done done;

	pd_gpu_drop_fd(gpu, n);
	pd_gpu_remake(gpu, n);
	done = wait_done(gpu);
	assert_int_equal(done.job, PD_JOB_REMAKE);
	assert_int_equal(done.segment, n);
	return done;
}

/* Runs a test's body in a child. */
#define IN_CHILD(body)                                                         \
	do {                                                                   \
		(void)state;                                                   \
		assert_int_equal(th_wait(th_fork(body, NULL)), 0);             \
	} while (0)

#endif /* TESTS_SUPPORT_GPU_POOL_H */
