/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Uses the driver while it is opened, and once more while it is closed. */
#include "tests/preload/ends.h"

#include <dlfcn.h>
#include <string.h>

static struct dv_driver cu;
static CUdeviceptr held;
static struct th_ends ends;

static void find(void *library, const char *name, size_t offset)
{
	void *address = dlsym(library, name);

	memcpy((char *)&cu + offset, &address, sizeof(address));
}

#define FIND(library, name)                                                    \
	find(library, #name, offsetof(struct dv_driver, name))

__attribute__((constructor)) static void begin(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	CUcontext context;

	FIND(library, cuInit);
	FIND(library, cuDevicePrimaryCtxRetain);
	FIND(library, cuCtxSetCurrent);
	FIND(library, cuMemAlloc_v2);
	FIND(library, cuMemFree_v2);
	memcpy(&ends.found, &cu.cuMemAlloc_v2, sizeof(ends.found));
	if (cu.cuInit(0) == CUDA_SUCCESS &&
	    cu.cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS &&
	    cu.cuCtxSetCurrent(context) == CUDA_SUCCESS)
		ends.allocated = cu.cuMemAlloc_v2(&held, 1 << 20);
}

__attribute__((destructor)) static void end(void)
{
	if (ends.freed)
		*ends.freed = cu.cuMemFree_v2(held);
}

struct th_ends *th_ends(void)
{
	return &ends;
}
