/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The simulated GPU's physical memory, shared by all processes that use the
 * same folder (POOLSWITCH_SIM_DIR).
 *
 * It is one sparse file. A range of it is taken by a read lock of an open
 * file description of its own, which every fd and every mapping made from
 * that description holds. The kernel drops the lock with the last of them,
 * however its process ends: that is what keeps the accounts right after a
 * kill -9. A table in a second file remembers the ranges; an entry without a
 * lock is a range that everybody left.
 */
#ifndef DEVICE_SIM_VRAM_H
#define DEVICE_SIM_VRAM_H

#include "device/cuda_abi.h"

#include <stdbool.h>

#define SIM_GRANULARITY (2u << 20)

/* There are so many GPUs at most; their memory is one and the same. */
#define SIM_DEVICES_MAX 4

struct sim_range {
	uint64_t offset; /* in the file */
	uint64_t bytes;
	uint64_t serial;  /* tells it from another that lies there later */
	uint32_t device;  /* whose it is */
	uint32_t is_host; /* the host's: not counted, and no GPU's */
};

/* Opens, or makes, the GPU; once a process. Keeps a file open for good. */
CUresult sim_vram_start(void);

uint64_t sim_vram_total(void);
CUresult sim_vram_used(uint64_t *bytes_out);

/* What tells this GPU from that of another folder: the file's numbers. */
void sim_vram_identity(uint64_t *device_out, uint64_t *inode_out);

/* Takes a free range, which reads as zeros; the fd holds it. */
CUresult sim_vram_create(uint64_t bytes, const CUmemLocation *location,
			 struct sim_range *range_out, int *fd_out);

/* Another fd that holds the range. pre: the caller holds it already. */
CUresult sim_vram_hold(const struct sim_range *range, int *fd_out);

/* The same for who does not hold it: it may be gone (INVALID_VALUE). */
CUresult sim_vram_join(const struct sim_range *range, int *fd_out);

/* The range that @fd holds; false when it is none of this GPU's. */
bool sim_vram_identify(int fd, struct sim_range *range_out);

/* To be called when the caller gave a hold up: frees what nobody has. */
void sim_vram_reap(const struct sim_range *range);

bool sim_vram_is_lost(void);
void sim_vram_set_lost(bool is_lost);

#endif /* DEVICE_SIM_VRAM_H */
