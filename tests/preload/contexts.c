/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Contexts of the program's own, and the primary one's end. Of a quota of 20
 * MiB a block takes 12. */
#include "tests/preload/gate.h"
#include "tests/preload/memory.h"

#include <string.h>

#define MIB ((size_t)1 << 20)
#define MOST (12 * MIB)

static CUdeviceptr take(void)
{
	CUdeviceptr address = 0;

	TH_CU(th_cu.cuMemAlloc_v2(&address, MOST));
	return address;
}

static CUcontext own_context(void)
{
	CUcontext context;

	TH_CU(th_cu.cuCtxCreate_v2(&context, 0, 0));
	return context;
}

/* A program without a primary context of its own. */
static void alone(void)
{
	CUdeviceptr address;
	CUcontext context;

	th_cuda_load();
	TH_CU(th_cu.cuInit(0));
	context = own_context();
	address = take();
	th_fill(address, MOST, 1);
	th_check_filled(address, MOST, 1);
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 0);
	TH_CU(th_cu.cuCtxDestroy_v2(context));
}

static void takes_its_blocks(void)
{
	CUcontext context;
	CUdeviceptr address;

	th_cuda_open();
	context = own_context();
	address = take();
	TH_CU(th_cu.cuCtxDestroy_v2(context));
	th_cuda_enter();
	TH_CU_IS(th_cu.cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
	TH_CU(th_cu.cuMemFree_v2(take()));
}

/* What the primary one has stays. */
static void leaves_others(void)
{
	CUcontext context, popped;
	CUdeviceptr address;

	th_cuda_open();
	address = take();
	th_fill(address, MOST, 2);
	context = own_context();
	TH_CU(th_cu.cuCtxPopCurrent_v2(&popped));
	TH_CU(th_cu.cuCtxDestroy_v2(context));
	th_check_filled(address, MOST, 2);
	TH_CU(th_cu.cuMemFree_v2(address));
}

static void call_free(void *arg)
{
	TH_CU(th_cu.cuMemFree_v2(*(CUdeviceptr *)arg));
}

static void call_free_async(void *arg)
{
	TH_CU(th_cu.cuMemFreeAsync(*(CUdeviceptr *)arg, NULL));
}

/* The pool's fences are the primary context's. */
static void is_waited_for(void (*call)(void *arg))
{
	CUcontext popped;
	CUdeviceptr address;

	th_cuda_open();
	own_context();
	address = take();
	th_gate_close(th_stream());
	TH_CU(th_cu.cuCtxPopCurrent_v2(&popped));
	TH_CHECK(!th_returns_at_once(call, &address));
}

static void waits(void)
{
	is_waited_for(call_free);
}

static void waits_async(void)
{
	is_waited_for(call_free_async);
}

/* ---- the primary one ---- */

/* The test looks whether this is a client. */
static void resets(void)
{
	CUcontext primary;

	th_cuda_open();
	take();
	TH_CU(th_cu.cuDevicePrimaryCtxReset_v2(0));
	th_program_pause();
	TH_CU(th_cu.cuDevicePrimaryCtxRetain(&primary, 0));
	TH_CU(th_cu.cuCtxSetCurrent(primary));
	TH_CU(th_cu.cuMemFree_v2(take()));
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 0);
}

/* As the runtime library asks for it. */
static CUresult (*find(const char *name))(CUdevice)
{
	CUresult (*found)(CUdevice) = NULL;
	void *address = NULL;

	TH_CU(th_cu.cuGetProcAddress_v2(name, &address, 7000, 0, NULL));
	memcpy(&found, &address, sizeof(found));
	return found;
}

static void resets_as_runtime(void)
{
	th_cuda_open();
	take();
	TH_CU(find("cuDevicePrimaryCtxReset")(0));
	th_program_pause();
}

static void releases_as_runtime(void)
{
	th_cuda_open();
	take();
	TH_CU(find("cuDevicePrimaryCtxRelease")(0));
	th_program_pause();
}

static void releases(void)
{
	CUcontext primary;

	th_cuda_open();
	take();
	TH_CU(th_cu.cuDevicePrimaryCtxRelease_v2(0));
	th_program_pause();
	TH_CU(th_cu.cuDevicePrimaryCtxRetain(&primary, 0));
	TH_CU(th_cu.cuCtxSetCurrent(primary));
	TH_CU(th_cu.cuMemFree_v2(take()));
}

/* Retained twice, released once: all is as it was. */
static void releases_one(void)
{
	CUcontext primary;
	CUdeviceptr address;

	th_cuda_open();
	TH_CU(th_cu.cuDevicePrimaryCtxRetain(&primary, 0));
	address = take();
	th_fill(address, MOST, 3);
	TH_CU(th_cu.cuDevicePrimaryCtxRelease_v2(0));
	th_check_filled(address, MOST, 3);
	TH_CU(th_cu.cuMemFree_v2(address));
}

TH_PROGRAM({ "alone", alone }, { "takes_its_blocks", takes_its_blocks },
	   { "leaves_others", leaves_others }, { "waits", waits },
	   { "waits_async", waits_async }, { "resets", resets },
	   { "resets_as_runtime", resets_as_runtime },
	   { "releases_as_runtime", releases_as_runtime },
	   { "releases", releases }, { "releases_one", releases_one })
