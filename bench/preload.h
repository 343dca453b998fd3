/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The two sides of bench/preload: who compares, and a CUDA program that does
 * not know whether the preload library stands before the driver. */
#ifndef BENCH_PRELOAD_H
#define BENCH_PRELOAD_H

#include "bench/bench.h"

#define BN_PRELOAD_SIZES 3u
/* Of the blocks of a pair, in bytes. */
extern const uint64_t bn_preload_sizes[BN_PRELOAD_SIZES];

/* What one process of a program saw, in nanoseconds. */
struct bn_preload_answer {
	double pair[BN_PRELOAD_SIZES];     /* median of a pair */
	double pair_p99[BN_PRELOAD_SIZES]; /* 99 of 100 take no longer */
	double busy;   /* a free while a stream has work to do */
	double null;   /* a free of no memory: looked at and forwarded */
	double retain; /* a retain of the primary context: the same */
	uint32_t ready;
};

int bn_preload_role(const struct bn_options *options);

#endif /* BENCH_PRELOAD_H */
