/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The parts of the allocation benchmark; alloc.c says what it asks. */
#ifndef BENCH_ALLOC_H
#define BENCH_ALLOC_H

#include "bench/bench.h"
#include "bench/workload.h"

/* An allocator under test. Called through pointers, so that each pays for the
 * same indirect calls. */
struct bn_subject {
	const char *name;
	bool (*open)(void);
	void (*close)(void);
	bool (*alloc)(void *stream, uint64_t bytes, uint64_t *ptr_out);
	bool (*free)(void *stream, uint64_t ptr);
	bool (*forget)(void *stream); /* before the stream is destroyed */
	bool ours; /* a failure ends the program; of others it is reported */
};

/* ps_mem_alloc_async() and ps_mem_free_async(); the whole GPU, defaults. */
extern const struct bn_subject bn_subject_async;
/* ps_mem_alloc() and ps_mem_free(); the same pool. */
extern const struct bn_subject bn_subject_plain;
/* cuMemAllocAsync() and cuMemFreeAsync(), default pool, nothing released. */
extern const struct bn_subject bn_subject_driver;

/* What a pair of one thread costs, over one workload. */
struct bn_pair_cost {
	double median_ns; /* of each pair timed by itself */
	double p99_ns;
	double p999_ns;
	double max_ns;
	double mean_ns;  /* of the sequence, without a clock inside */
	double first_ns; /* mean of the very first pass, pool cold */
	uint64_t samples;
};

enum bn_outcome {
	BN_DONE,
	BN_SLOW, /* over its time; nothing was measured */
	BN_FAILED,
};

/* Four passes over the workload: the blocks, a warm one, one with a clock at
 * each pair, one without. pre: @subject is open. */
enum bn_outcome bn_pair_measure(const struct bn_subject *subject,
				const struct bn_workload *work, double tick_ns,
				struct bn_pair_cost *cost_out);

/* Whose blocks are freed. */
enum bn_frees {
	BN_FREES_OWN,
	/* A tenth: another thread's block, on the freeing thread's stream. */
	BN_FREES_TENTH_HERE,
	/* A tenth: another thread's block, on the stream it was made on. */
	BN_FREES_TENTH_THERE,
};

/* Pairs a second of @threads threads together. */
enum bn_outcome bn_threads_measure(const struct bn_subject *subject,
				   unsigned int threads, enum bn_frees frees,
				   const struct bn_options *options,
				   double *pairs_per_s_out,
				   uint64_t *pairs_out);

#endif /* BENCH_ALLOC_H */
