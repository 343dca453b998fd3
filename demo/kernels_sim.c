/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The demo's kernels for the simulated GPU: the same code a thread as on a
 * real one (demo/kernels.h), run for all threads of the grid one by one. A
 * grid that is too small leaves elements out here too.
 */
#include "device/sim/module.h"

#include <stdint.h>

#include "demo/kernels.h"

#define EXPORT __attribute__((visibility("default")))

/* Declares a kernel as demo/kernels.cu has it, with its arguments' sizes. */
#define KERNEL(name, ...)                                                      \
	EXPORT sim_kernel name;                                                \
	EXPORT const size_t name##_params[] = { __VA_ARGS__, 0 }

#define POINTER sizeof(uint64_t)
#define NUMBER sizeof(unsigned int)

KERNEL(dm_dense, POINTER, POINTER, POINTER, POINTER, NUMBER, NUMBER, NUMBER,
       NUMBER);
KERNEL(dm_conv3x3, POINTER, POINTER, POINTER, POINTER, NUMBER, NUMBER, NUMBER,
       NUMBER);
KERNEL(dm_maxpool2, POINTER, POINTER, NUMBER, NUMBER);
KERNEL(dm_argmax, POINTER, POINTER, NUMBER, NUMBER);

static void *pointer(void *const *args, int i)
{
	return *(void **)args[i];
}

static unsigned int number(void *const *args, int i)
{
	return *(unsigned int *)args[i];
}

/* How many elements the grid reaches. */
static unsigned int reach(const struct sim_launch *launch, unsigned int count)
{
	uint64_t threads = (uint64_t)launch->grid[0] * launch->block[0];

	return threads < count ? (unsigned int)threads : count;
}

void dm_dense(const struct sim_launch *launch, void **args)
{
	unsigned int count = reach(launch, number(args, 4));

	for (unsigned int i = 0; i < count; i++)
		dm_dense_at(i, pointer(args, 0), pointer(args, 1),
			    pointer(args, 2), pointer(args, 3), number(args, 5),
			    number(args, 6), number(args, 7));
}

void dm_conv3x3(const struct sim_launch *launch, void **args)
{
	unsigned int count = reach(launch, number(args, 4));

	for (unsigned int i = 0; i < count; i++)
		dm_conv3x3_at(i, pointer(args, 0), pointer(args, 1),
			      pointer(args, 2), pointer(args, 3),
			      number(args, 5), number(args, 6),
			      number(args, 7));
}

void dm_maxpool2(const struct sim_launch *launch, void **args)
{
	unsigned int count = reach(launch, number(args, 2));

	for (unsigned int i = 0; i < count; i++)
		dm_maxpool2_at(i, pointer(args, 0), pointer(args, 1),
			       number(args, 3));
}

void dm_argmax(const struct sim_launch *launch, void **args)
{
	unsigned int count = reach(launch, number(args, 2));

	for (unsigned int i = 0; i < count; i++)
		dm_argmax_at(i, pointer(args, 0), pointer(args, 1),
			     number(args, 3));
}
