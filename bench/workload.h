/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the allocation benchmark asks for: a number of live blocks, and a
 * sequence of pairs "free this one, allocate one of that size in its place".
 *
 * The law of the sizes: P(size > s) = sqrt(512 / s), cut off at the largest
 * size, rounded up to 512 bytes. Each factor of four in size is half as
 * frequent; most blocks are small, most bytes are in large ones.
 *
 * Made before the clock runs, from a seed: every allocator gets the same.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include "bench/sample.h"

#define BN_GRANULE 512u

/* One pair. Sizes are in granules. */
struct bn_pair {
	uint32_t slot;
	uint32_t granules;
};

struct bn_workload {
	uint32_t live;        /* blocks */
	uint32_t pairs;       /* in the sequence, which may be run again */
	uint64_t largest;     /* bytes */
	uint32_t *fill;       /* granules of each slot's first block */
	struct bn_pair *pair; /* the sequence */
};

bool bn_workload_init(struct bn_workload *work, uint32_t live, uint32_t pairs,
		      uint64_t largest, uint64_t seed);
void bn_workload_done(struct bn_workload *work);

/* Bytes: @share of the first blocks are not larger. */
uint64_t bn_workload_size_at(const struct bn_workload *work, double share);
/* Bytes: the sum of the first blocks. */
uint64_t bn_workload_bytes(const struct bn_workload *work);

#endif /* BENCH_WORKLOAD_H */
