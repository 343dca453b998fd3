/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the processes of the switch benchmark say to each other. */
#ifndef BENCH_SWITCH_H
#define BENCH_SWITCH_H

#include "bench/bench.h"
#include "device/device.h"

/* What a worker does with the range when it gives it up and takes it over. */
enum bn_switch_how {
	BN_SWITCH_END,  /* no switch: the worker ends */
	BN_SWITCH_JOIN, /* no switch: the worker receives a pool */
	/* Both have the range inserted and mapped all the time; a block is
	 * freed and allocated. */
	BN_SWITCH_KEPT,
	/* Cleared here; inserted, mapped and allocated from there. */
	BN_SWITCH_REMAP,
	/* A third process's allocation, closed and opened by CUDA IPC. */
	BN_SWITCH_REOPEN,
	/* Freed and allocated with the driver. */
	BN_SWITCH_FREE_ALLOC,
};

/* From the parent to both workers. */
struct bn_switch_job {
	uint32_t how;
	uint32_t spin;   /* wait for the message without sleeping */
	uint32_t holder; /* this worker has the range first */
	uint32_t warm;   /* switches before any is counted, of both together */
	uint32_t counted;
	uint32_t padding;
	uint64_t bytes;  /* of the block */
	uint64_t offset; /* of the range in the pool */
	uint64_t range;  /* bytes: the block in whole segments */
	unsigned char handle[DV_IPC_HANDLE_BYTES];
};

/* The parts of a switch, in ns; BN_PART_WHOLE is their sum. */
enum bn_switch_part {
	BN_PART_WHOLE,   /* release began ... first kernel done */
	BN_PART_RELEASE, /* release began ... "released" sent */
	BN_PART_MESSAGE, /* ... seen by the other worker */
	BN_PART_TAKE,    /* ... the range is the other worker's */
	BN_PART_KERNEL,  /* ... its first kernel launched and done */
	BN_PARTS,
};

/* From each worker to the parent; count * BN_PARTS times follow. */
struct bn_switch_answer {
	uint64_t count;     /* switches that this worker took and counted */
	uint64_t kernel_ns; /* what the GPU works on one kernel alone */
};

/* The program's exit status when it was started for a role. */
int bn_switch_role(const struct bn_options *options);

#endif /* BENCH_SWITCH_H */
