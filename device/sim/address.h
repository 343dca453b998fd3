/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The addresses of one process on the simulated GPU: which are reserved, what
 * is mapped where, and with what access. A GPU address is the address at
 * which the host has the memory too, so the host's MMU stands for the GPU's.
 */
#ifndef DEVICE_SIM_ADDRESS_H
#define DEVICE_SIM_ADDRESS_H

#include "device/sim/vram.h"

enum sim_kind {
	SIM_SEGMENT,   /* cuMemMap() */
	SIM_ALLOC,     /* cuMemAlloc(), cuMemAllocPitch() */
	SIM_ASYNC,     /* cuMemAllocAsync() */
	SIM_MANAGED,   /* cuMemAllocManaged() */
	SIM_ARRAY,     /* an array's, at an address that nobody is told */
	SIM_GRAPH,     /* of a graph's node, or allocated during a capture */
	SIM_IMPORT,    /* cuIpcOpenMemHandle() */
	SIM_HOST,      /* cuMemHostAlloc() */
	SIM_REGISTERED /* cuMemHostRegister() */
};

struct sim_mapping {
	uint64_t address;
	uint64_t bytes;
	enum sim_kind kind;
	bool is_readable; /* by any GPU */
	bool is_writable;
	bool is_imported;                    /* SIM_SEGMENT: its handle was */
	CUmemGenericAllocationHandle handle; /* SIM_SEGMENT: mapped there */
	unsigned int opened;                 /* SIM_IMPORT: times it is open */
	CUmemAccess_flags access[SIM_DEVICES_MAX]; /* SIM_SEGMENT: each GPU's */
	const void *owner;      /* a context or a pool; NULL of segments */
	struct sim_range range; /* not of host memory */
};

/* At @wanted when that is free and 32 MiB or more, else elsewhere. */
CUresult sim_address_reserve(uint64_t bytes, uint64_t wanted,
			     uint64_t *address_out);
CUresult sim_address_free(uint64_t address, uint64_t bytes);

/* Maps the whole of the range inside a reservation, without access. */
CUresult sim_address_map(uint64_t address, const struct sim_range *range,
			 bool is_imported, CUmemGenericAllocationHandle handle);
CUresult sim_address_protect(uint64_t address, uint64_t bytes, CUdevice device,
			     CUmemAccess_flags flags);
CUresult sim_address_unmap(uint64_t address, uint64_t bytes);

/* Reserves, maps and makes writable in one. @hold: from sim_vram_*(). */
CUresult sim_address_place(const struct sim_range *range, enum sim_kind kind,
			   const void *owner, int hold, uint64_t *address_out);
/* Undoes it. INVALID_VALUE when no such mapping starts there. */
CUresult sim_address_remove(uint64_t address, enum sim_kind kind);
/* Undoes every one of that owner. */
void sim_address_remove_all(const void *owner);

/* Host memory that the GPU may use. */
CUresult sim_address_add_host(void *memory, uint64_t bytes, enum sim_kind kind);
CUresult sim_address_take_host(void *memory, enum sim_kind kind,
			       uint64_t *bytes_out);

/* An import of that range that is open already: counts it once more. */
bool sim_address_reopen(const struct sim_range *range, uint64_t *address_out);

/* The mapping that holds the address. */
bool sim_address_find(uint64_t address, struct sim_mapping *mapping_out);

/* Whether all of it may be read, or written. */
bool sim_address_allows(uint64_t address, uint64_t bytes, bool to_write);

/*
 * The same, and nothing is unmapped until sim_address_leave(). For short
 * pieces of work: an unmap meanwhile waits.
 */
bool sim_address_enter(uint64_t address, uint64_t bytes, bool to_write);
void sim_address_leave(void);

#endif /* DEVICE_SIM_ADDRESS_H */
