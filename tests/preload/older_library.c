/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A driver of CUDA 11 that lacks much, under the driver's name. Its resolver
 * gives another address for cuMemAlloc than dlsym does.
 */
#include "tests/preload/older.h"

#include <stdint.h>
#include <string.h>

#define SHOWN __attribute__((visibility("default")))

SHOWN CUresult cuDriverGetVersion(int *version);
SHOWN CUresult cuCtxGetCurrent(CUcontext *context);
SHOWN CUresult cuCtxGetDevice(CUdevice *device);
SHOWN CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes);
SHOWN CUresult cuMemFree_v2(CUdeviceptr address);
SHOWN CUresult cuGetProcAddress(const char *symbol, void **function,
				int version, cuuint64_t flags);

CUresult cuDriverGetVersion(int *version)
{
	*version = 11040;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
	static char made;

	*context = (CUcontext)&made;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	*device = 0;
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
	(void)bytes;
	*address = OLDER_ADDRESS;
	return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
	return address == OLDER_ADDRESS ? CUDA_SUCCESS
					: CUDA_ERROR_INVALID_VALUE;
}

static CUresult allocate(CUdeviceptr *address, size_t bytes)
{
	return cuMemAlloc_v2(address, bytes);
}

/* As cuCtxCreate was before all that anybody hooks. */
static CUresult create(CUcontext *context, unsigned int flags, CUdevice device)
{
	(void)flags;
	(void)device;
	return cuCtxGetCurrent(context);
}

CUresult cuGetProcAddress(const char *symbol, void **function, int version,
			  cuuint64_t flags)
{
	void *const allocates = (void *)(uintptr_t)&allocate;
	void *const creates = (void *)(uintptr_t)&create;

	(void)flags;
	if (strcmp(symbol, "cuMemAlloc") == 0 && version >= 3020)
		*function = allocates;
	else if (strcmp(symbol, "cuCtxCreate") == 0)
		*function = creates;
	else
		return CUDA_ERROR_NOT_FOUND;
	return CUDA_SUCCESS;
}
