/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* bench/kernels.ptx for the simulated GPU. */

#include "device/sim/module.h"

#include <stdint.h>

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
