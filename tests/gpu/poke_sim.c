/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The kernel of tests/support/gpu.c for the simulated GPU. */
#include "device/sim/module.h"

#include <stdint.h>

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
