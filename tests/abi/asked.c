/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A libcuda.so.1 that prints what it is asked for, a line each: name, version,
 * flags. For check_runtime.py, which starts NVIDIA's runtime library on it;
 * nothing else works.
 */
#include <stdio.h>
#include <string.h>

#include "device/cuda_abi.h"

#pragma GCC visibility push(default)
CUresult cuInit(unsigned int flags);
CUresult cuDriverGetVersion(int *version);
CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version,
			     cuuint64_t flags,
			     CUdriverProcAddressQueryResult *status);
CUresult cuGetProcAddress(const char *symbol, void **function, int version,
			  cuuint64_t flags);
#pragma GCC visibility pop

static CUresult refuse(void)
{
	return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuInit(unsigned int flags)
{
	(void)flags;
	return CUDA_SUCCESS;
}

/* Newer than any runtime library. */
CUresult cuDriverGetVersion(int *version)
{
	*version = 99000;
	return CUDA_SUCCESS;
}

static void *find(const char *symbol, int version)
{
	if (strcmp(symbol, "cuGetProcAddress") == 0)
		return version >= 12000
			       ? (void *)(uintptr_t)&cuGetProcAddress_v2
			       : (void *)(uintptr_t)&cuGetProcAddress;
	if (strcmp(symbol, "cuDriverGetVersion") == 0)
		return (void *)(uintptr_t)&cuDriverGetVersion;
	if (strcmp(symbol, "cuInit") == 0)
		return (void *)(uintptr_t)&cuInit;
	return (void *)(uintptr_t)&refuse;
}

CUresult cuGetProcAddress(const char *symbol, void **function, int version,
			  cuuint64_t flags)
{
	printf("%s %d %llu\n", symbol, version, (unsigned long long)flags);
	fflush(stdout);
	*function = find(symbol, version);
	return CUDA_SUCCESS;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version,
			     cuuint64_t flags,
			     CUdriverProcAddressQueryResult *status)
{
	if (status)
		*status = CU_GET_PROC_ADDRESS_SUCCESS;
	return cuGetProcAddress(symbol, function, version, flags);
}
