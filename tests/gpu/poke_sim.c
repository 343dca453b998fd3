/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The kernels of tests/support/gpu.c for the simulated GPU. */
#include "device/sim/module.h"

#include <stdint.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT extern const size_t poke_params[];
EXPORT sim_kernel poke;

const size_t poke_params[] = { sizeof(uint64_t), sizeof(uint32_t), 0 };

void poke(const struct sim_launch *launch, void **args)
{
	uint64_t address = *(const uint64_t *)args[0];

	(void)launch;
	*(volatile uint32_t *)address = *(const uint32_t *)args[1];
}

EXPORT extern const size_t scribble_params[];
EXPORT sim_kernel scribble;

const size_t scribble_params[] = { sizeof(uint64_t), sizeof(uint32_t),
				   sizeof(uint32_t), sizeof(uint64_t), 0 };

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void scribble(const struct sim_launch *launch, void **args)
{
	uint64_t address = *(const uint64_t *)args[0];
	uint32_t words = *(const uint32_t *)args[1];
	uint32_t value = *(const uint32_t *)args[2];
	uint64_t end = now_ns() + *(const uint64_t *)args[3];
	volatile uint32_t *word = (volatile uint32_t *)address;

	(void)launch;
	do {
		for (uint32_t i = 0; i < words; i++)
			word[i] = value;
	} while (now_ns() < end);
}
