/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pools in tests, and the processes that share them.
 *
 * The same test programs run on the simulated GPU and on a real one. So the
 * process that runs the tests never starts CUDA where others are forked from
 * it: every part is played by a child of its own, on a small pool.
 */
#ifndef TESTS_SUPPORT_POOLS_H
#define TESTS_SUPPORT_POOLS_H

#include "include/poolswitch.h"
#include "tests/support/harness.h"

/* What th_reserve() reserves: small enough for any GPU, and quick. */
#define TH_SEGMENT (UINT64_C(2) << 20)
#define TH_SEGMENTS 16u
#define TH_PARAMETERS 4u /* segments of the parameter region */

/* As TH_MAIN, but skipped where no GPU is, real or simulated. */
#define TH_GPU_MAIN(suite, tests, warm_up)                                     \
	int main(int argc, char **argv)                                        \
	{                                                                      \
		return th_gpu_main(suite, tests,                               \
				   sizeof(tests) / sizeof(tests[0]), warm_up,  \
				   argc, argv);                                \
	}

int th_gpu_main(const char *suite, const struct th_test *tests, size_t count,
		void (*warm_up)(void), int argc, char **argv);

/* For programs that use CUDA in the process of the tests: opens what the
 * driver opens once and keeps. */
void th_warm_up_cuda(void);

/* ---- pools; all of these assert success ---- */

struct ps_pool_config *th_config(enum ps_share_mode mode);
struct ps_pool *th_reserve(void);
struct ps_pool *th_reserve_mode(enum ps_share_mode mode);
void th_send(struct ps_pool *pool, int socket, unsigned int flags);
struct ps_pool *th_receive(int socket);
/* Inserts @count segments from @first on, for any stream. */
void th_insert(struct ps_pool *pool, uint64_t first, uint64_t count);
void *th_alloc(struct ps_pool *pool, size_t size);
struct ps_mem_stats th_stats(struct ps_pool *pool);

/* Writes a word to the GPU and reads it. */
void th_put(struct ps_pool *pool, void *at, uint32_t word);
uint32_t th_get(struct ps_pool *pool, const void *at);

/* Fails when ps_error_detail() does not contain @part. */
void th_assert_detail(const char *part);

/* ---- processes ---- */

#define TH_WORKERS 2

struct th_part {
	int link[TH_WORKERS]; /* controller: to each worker; worker: [0] */
	int test;             /* to the process of the tests */
};

typedef void th_role(const struct th_part *me);

/* NULL: nobody plays it. */
struct th_cast {
	th_role *controller;
	th_role *worker[TH_WORKERS];
	int type; /* of the sockets; 0: SOCK_STREAM */
};

struct th_stage {
	pid_t controller; /* -1: nobody, or waited for */
	pid_t worker[TH_WORKERS];
	int controller_link; /* ours, to each of them */
	int worker_link[TH_WORKERS];
};

void th_stage_open(struct th_stage *stage, const struct th_cast *cast);
/* SIGKILL. The pid becomes -1. */
void th_stage_kill(pid_t *pid);
/* Waits for those that are left; each must have ended with 0. */
void th_stage_close(struct th_stage *stage);

/* Both: the controller and one worker, from beginning to end. */
void th_play(th_role *controller, th_role *worker);

/* One byte over a socket, to say "go on". */
void th_tell(int socket);
void th_await(int socket);

#endif /* TESTS_SUPPORT_POOLS_H */
