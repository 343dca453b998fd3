/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* bench/kernels.ptx for the simulated GPU. */

#include "device/sim/module.h"

#include <stdint.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT sim_kernel bn_touch;
EXPORT extern const size_t bn_touch_params[];

const size_t bn_touch_params[] = { sizeof(uint64_t), sizeof(uint64_t), 0 };

static void add_one(const void *argument)
{
	uint64_t address = *(const uint64_t *)argument;
	volatile uint32_t *word = (volatile uint32_t *)(uintptr_t)address;

	*word += 1;
}

void bn_touch(const struct sim_launch *launch, void **args)
{
	(void)launch;
	add_one(args[0]);
	add_one(args[1]);
}

EXPORT sim_kernel bn_layer;
EXPORT extern const size_t bn_layer_params[];

const size_t bn_layer_params[] = { sizeof(uint64_t), sizeof(uint64_t),
				   sizeof(uint64_t), 0 };

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void bn_layer(const struct sim_launch *launch, void **args)
{
	const uint64_t end = now_ns() + *(const uint64_t *)args[2];
	const uint64_t source = *(const uint64_t *)args[0];
	volatile uint32_t *sum =
		(volatile uint32_t *)(uintptr_t) * (const uint64_t *)args[1];

	(void)launch;
	*sum += *(volatile const uint32_t *)(uintptr_t)source;
	while (now_ns() < end)
		;
}
