/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Linked to the driver, as a program that calls it by name. */
#include "tests/preload/program.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "tests/preload/found.h"

#define SYMBOL(need, type, name, params) type name params;
#include "device/symbols.def"
#undef SYMBOL

static CUdeviceptr late;

static void open_driver(void)
{
	CUcontext context;

	TH_CU(cuInit(0));
	TH_CU(cuDevicePrimaryCtxRetain(&context, 0));
	TH_CU(cuCtxSetCurrent(context));
}

static void finds_ours(void)
{
	TH_CHECK(
		th_is_ours((void *)(uintptr_t)&cuMemAlloc_v2, "cuMemAlloc_v2"));
	TH_CHECK(th_is_ours((void *)(uintptr_t)&cuGetProcAddress_v2,
			    "cuGetProcAddress_v2"));
	TH_CHECK(th_is_drivers((void *)(uintptr_t)&cuInit, "cuInit"));
	TH_CHECK(th_is_ours(dlsym(RTLD_DEFAULT, "cuMemFree_v2"),
			    "cuMemFree_v2"));
}

static void allocates(void)
{
	CUdeviceptr address;

	open_driver();
	TH_CU(cuMemAlloc_v2(&address, 4096));
	TH_CU(cuMemsetD32_v2(address, 7, 1024));
	TH_CU(cuMemFree_v2(address));
}

static void calls(void)
{
	open_driver();
	TH_CU(cuMemFree_v2(0));
}

/* The context is another's to make: the driver says what it says. */
static void too_early(void)
{
	CUdeviceptr address;

	TH_CU_IS(cuMemAlloc_v2(&address, 4096), CUDA_ERROR_NOT_INITIALIZED);
}

static void free_late(void)
{
	cuMemFree_v2(late);
	cuMemFree_v2(0);
}

/* The last free comes when the process is about to end. */
static void frees_late(void)
{
	atexit(free_late);
	open_driver();
	TH_CU(cuMemAlloc_v2(&late, 4096));
}

TH_PROGRAM({ "finds_ours", finds_ours }, { "allocates", allocates },
	   { "calls", calls }, { "too_early", too_early },
	   { "frees_late", frees_late })
