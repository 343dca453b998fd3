/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a shared object offers that stands for a module of kernels.
 *
 * cuModuleLoad() of "x.ptx" opens "x.sim.so" beside it, of another path that
 * path; cuModuleLoadData() takes the text "sim-module:" and a path. A kernel
 * k is two symbols:
 *
 *	void k(const struct sim_launch *launch, void **args);
 *	const size_t k_params[] = { sizeof(first argument), ..., 0 };
 *
 * One call does the work of the whole grid. Each args[i] points to a copy of
 * the argument, made at launch. Device pointers are plain addresses; a touch
 * of what is not mapped, or a write to what is read-only, ends the kernel and
 * its context with CUDA_ERROR_ILLEGAL_ADDRESS. A kernel takes no locks and
 * allocates nothing: it may be cut short anywhere.
 */
#ifndef DEVICE_SIM_MODULE_H
#define DEVICE_SIM_MODULE_H

#include <stddef.h>

#define SIM_MODULE_TEXT "sim-module:"

struct sim_launch {
	unsigned int grid[3];
	unsigned int block[3];
	unsigned int shared_bytes;
};

typedef void sim_kernel(const struct sim_launch *launch, void **args);

#endif /* DEVICE_SIM_MODULE_H */
