/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "bench/sample.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALIBRATION_NS 100000000u
#define OVERHEAD_ROUNDS 100001u

uint64_t bn_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

double bn_tick_ns(void)
{
	uint64_t start_ns = bn_now_ns();
	uint64_t start = bn_tick_start();
	uint64_t now_ns;

	do
		now_ns = bn_now_ns();
	while (now_ns - start_ns < CALIBRATION_NS);
	return (double)(now_ns - start_ns) / (double)(bn_tick_stop() - start);
}

static bool measure_nothing(struct bn_samples *samples)
{
	uint64_t start;

	if (!bn_samples_init(samples, OVERHEAD_ROUNDS))
		return false;
	for (unsigned int i = 0; i < OVERHEAD_ROUNDS; i++) {
		start = bn_tick_start();
		bn_samples_add(samples, bn_tick_stop() - start);
	}
	return true;
}

uint64_t bn_tick_overhead(void)
{
	struct bn_samples samples;
	uint64_t median;

	if (!measure_nothing(&samples))
		return 0;
	median = bn_samples_at(&samples, 0.5);
	bn_samples_done(&samples);
	return median;
}

uint64_t bn_tick_step(void)
{
	struct bn_samples samples;
	uint64_t step = UINT64_MAX;
	uint64_t gap;

	if (!measure_nothing(&samples))
		return 0;
	bn_samples_at(&samples, 0.5);
	for (uint64_t i = 1; i < samples.count; i++) {
		gap = samples.values[i] - samples.values[i - 1];
		if (gap > 0 && gap < step)
			step = gap;
	}
	bn_samples_done(&samples);
	return step == UINT64_MAX ? 0 : step;
}

bool bn_samples_init(struct bn_samples *samples, uint64_t room)
{
	*samples = (struct bn_samples){ .room = room };
	samples->values = malloc(room * sizeof(samples->values[0]));
	if (samples->values == NULL)
		return false;
	/* Touched now: no page fault while time is measured. */
	memset(samples->values, 0xff, room * sizeof(samples->values[0]));
	return true;
}

void bn_samples_done(struct bn_samples *samples)
{
	free(samples->values);
	*samples = (struct bn_samples){ 0 };
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t bn_samples_at(struct bn_samples *samples, double share)
{
	double rank = share * (double)samples->count;
	uint64_t below = (uint64_t)rank;

	assert(samples->count <= samples->room);
	if (samples->count == 0)
		return 0;
	if (!samples->sorted)
		qsort(samples->values, samples->count,
		      sizeof(samples->values[0]), compare);
	samples->sorted = true;
	if (rank > (double)below)
		below++;
	if (below == 0)
		below = 1;
	if (below > samples->count)
		below = samples->count;
	return samples->values[below - 1];
}

void bn_random_seed(struct bn_random *random, uint64_t seed)
{
	/* Spreads small seeds; the state must not be 0. */
	random->state = seed * 0x9e3779b97f4a7c15u + 0xd1b54a32d192ed03u;
	if (random->state == 0)
		random->state = 1;
}

uint64_t bn_random_next(struct bn_random *random)
{
	uint64_t x = random->state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	random->state = x;
	return x * 0x2545f4914f6cdd1du;
}
