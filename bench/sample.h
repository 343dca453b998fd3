/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Time, samples and random numbers.
 *
 * Percentiles are exact: every sample is kept and sorted. The cost of reading
 * the clock is measured and stated, never subtracted.
 */
#ifndef BENCH_SAMPLE_H
#define BENCH_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>
#include <x86intrin.h>

/* CLOCK_MONOTONIC, the same in all processes of the machine. */
uint64_t bn_now_ns(void);

/*
 * The processor's time stamp. Nothing of what comes before bn_tick_start() is
 * counted, all of what comes before bn_tick_stop() is.
 */
static inline uint64_t bn_tick_start(void)
{
	_mm_lfence();
	return __rdtsc();
}

static inline uint64_t bn_tick_stop(void)
{
	unsigned int cpu;

	return __rdtscp(&cpu);
}

/* Nanoseconds a tick, measured against CLOCK_MONOTONIC over 100 ms. */
double bn_tick_ns(void);

/* The median of what an empty measurement shows, in ticks. */
uint64_t bn_tick_overhead(void);

/* The smallest difference between two times, in ticks. */
uint64_t bn_tick_step(void);

struct bn_samples {
	uint64_t *values;
	uint64_t count;
	uint64_t room;
	bool sorted;
};

bool bn_samples_init(struct bn_samples *samples, uint64_t room);
void bn_samples_done(struct bn_samples *samples);

/* pre: fewer than room were added. */
static inline void bn_samples_add(struct bn_samples *samples, uint64_t value)
{
	samples->values[samples->count++] = value;
}

/* The smallest sample that at least @share of all do not exceed (0.5: the
 * median; 1: the largest); 0 without samples. Sorts. */
uint64_t bn_samples_at(struct bn_samples *samples, double share);

/* xorshift64*: fixed by its seed on every machine. */
struct bn_random {
	uint64_t state;
};

void bn_random_seed(struct bn_random *random, uint64_t seed);
uint64_t bn_random_next(struct bn_random *random);

/* Below @bound, which is not 0. */
static inline uint32_t bn_random_below(struct bn_random *random, uint32_t bound)
{
	uint64_t high = bn_random_next(random) >> 32;

	return (uint32_t)((high * bound) >> 32);
}

/* From (0, 1]. */
static inline double bn_random_unit(struct bn_random *random)
{
	return (double)((bn_random_next(random) >> 11) + 1) * 0x1p-53;
}

#endif /* BENCH_SAMPLE_H */
