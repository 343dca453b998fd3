/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* New memory at a new address: what every kind of allocation begins with. */
#ifndef DEVICE_SIM_MEMORY_H
#define DEVICE_SIM_MEMORY_H

#include "device/sim/address.h"

/*
 * Rounded up to the granularity; writable. @owner: who takes it along when it
 * ends. INVALID_VALUE for no bytes.
 */
CUresult sim_memory_new(uint64_t bytes, enum sim_kind kind, CUdevice device,
			const void *owner, CUdeviceptr *address_out);

/* What sim_memory_new() takes of the GPU for so many. */
static inline uint64_t sim_memory_rounded(uint64_t bytes)
{
	return (bytes + SIM_GRANULARITY - 1) / SIM_GRANULARITY *
	       SIM_GRANULARITY;
}

/* Whether a stream has still to free it: it is not to be freed again. */
bool sim_is_being_freed(const struct sim_mapping *mapping);

/* Gives the bytes of a stream-ordered allocation back to its pool's counts. */
void sim_pool_forget(const struct sim_mapping *mapping);

#endif /* DEVICE_SIM_MEMORY_H */
