/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A program with two GPUs, of which the first has the pool. */
#include <pthread.h>

#include "tests/preload/gate.h"
#include "tests/preload/memory.h"

#define MIB ((size_t)1 << 20)

static CUcontext first, second;

static void open_both(void)
{
	th_cuda_open();
	TH_CU(th_cu.cuCtxGetCurrent(&first));
	TH_CU(th_cu.cuDevicePrimaryCtxRetain(&second, 1));
}

static CUdeviceptr take(void)
{
	CUdeviceptr address = 0;

	TH_CU(th_cu.cuMemAlloc_v2(&address, 3 * MIB));
	return address;
}

/* The test looks whether this is a client meanwhile. */
static void uses_other(void)
{
	CUdeviceptr address;
	size_t left, total;

	open_both();
	TH_CU(th_cu.cuCtxSetCurrent(second));
	address = take();
	TH_CU(th_cu.cuMemGetInfo_v2(&left, &total));
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 1);
	TH_CHECK(th_driver_calls("cuMemGetInfo_v2") == 1);
	th_program_pause();
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CHECK(th_driver_calls("cuMemFree_v2") == 1);
}

static void uses_both(void)
{
	CUdeviceptr one, two, ordered;

	open_both();
	one = take();
	TH_CU(th_cu.cuCtxSetCurrent(second));
	two = take();
	TH_CU(th_cu.cuMemAllocAsync(&ordered, MIB, NULL));
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 1);
	TH_CHECK(th_driver_calls("cuMemAllocAsync") == 1);
	TH_CU(th_cu.cuMemFree_v2(one));
	TH_CU(th_cu.cuMemFree_v2(two));
	TH_CU(th_cu.cuMemFreeAsync(ordered, NULL));
	TH_CHECK(th_driver_calls("cuMemFree_v2") == 1);
}

/* What is found out about the other says nothing of the pool's. */
static void uses_other_first(void)
{
	CUdeviceptr one, two;

	open_both();
	TH_CU(th_cu.cuCtxSetCurrent(second));
	two = take();
	TH_CU(th_cu.cuCtxSetCurrent(first));
	one = take();
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 1);
	TH_CU(th_cu.cuMemFree_v2(one));
	TH_CU(th_cu.cuMemFree_v2(two));
}

static void *take_there(void *context)
{
	TH_CU(th_cu.cuCtxSetCurrent(context));
	TH_CU(th_cu.cuMemFree_v2(take()));
	return NULL;
}

/* Threads of both come at the same time, before there is a pool. */
static void uses_both_at_once(void)
{
	pthread_t threads[16];

	open_both();
	for (int i = 0; i < 16; i++)
		TH_CHECK(pthread_create(&threads[i], NULL, take_there,
					i % 2 ? first : second) == 0);
	for (int i = 0; i < 16; i++)
		pthread_join(threads[i], NULL);
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 8);
}

/* The stream says whose memory it is, not the current context. */
static void streams(void)
{
	CUstream of_first, of_second;
	CUdeviceptr address;

	open_both();
	of_first = th_stream();
	TH_CU(th_cu.cuCtxSetCurrent(second));
	of_second = th_stream();
	TH_CU(th_cu.cuMemAllocAsync(&address, MIB, of_first));
	TH_CHECK(th_driver_calls("cuMemAllocAsync") == 0);
	TH_CU(th_cu.cuMemFreeAsync(address, of_first));
	TH_CU(th_cu.cuCtxSetCurrent(first));
	TH_CU(th_cu.cuMemAllocAsync(&address, MIB, of_second));
	TH_CHECK(th_driver_calls("cuMemAllocAsync") == 1);
	TH_CU(th_cu.cuMemFreeAsync(address, of_second));
}

/* ---- peers ---- */

static unsigned long long access_of(CUdeviceptr address)
{
	const CUmemLocation location = { CU_MEM_LOCATION_TYPE_DEVICE, 1 };
	unsigned long long flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;

	TH_CU(th_cu.cuMemGetAccess(&flags, &location, address));
	return flags;
}

static void let_second_in(void)
{
	TH_CU(th_cu.cuCtxSetCurrent(second));
	TH_CU(th_cu.cuCtxEnablePeerAccess(first, 0));
	TH_CU(th_cu.cuCtxSetCurrent(first));
}

/* What is there already, and what comes. */
static void peer_later(void)
{
	CUdeviceptr before, after;

	open_both();
	before = take();
	TH_CHECK(access_of(before) == CU_MEM_ACCESS_FLAGS_PROT_NONE);
	let_second_in();
	TH_CU(th_cu.cuMemAlloc_v2(&after, 16 * MIB));
	TH_CHECK(access_of(before) == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	TH_CHECK(access_of(after) == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	TH_CU(th_cu.cuMemFree_v2(before));
	TH_CU(th_cu.cuMemFree_v2(after));
}

/* Before there is a pool. */
static void peer_first(void)
{
	CUdeviceptr address;

	open_both();
	let_second_in();
	address = take();
	TH_CHECK(access_of(address) == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	TH_CU(th_cu.cuMemFree_v2(address));
}

/* As programs do that use CUDA's pools. */
static void peer_of_pool(void)
{
	const CUmemAccessDesc access = {
		.location = { CU_MEM_LOCATION_TYPE_DEVICE, 1 },
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	CUmemoryPool pool;
	CUdeviceptr address;

	open_both();
	TH_CU(th_cu.cuDeviceGetDefaultMemPool(&pool, 0));
	TH_CU(th_cu.cuMemPoolSetAccess(pool, &access, 1));
	TH_CU(th_cu.cuMemAllocAsync(&address, MIB, NULL));
	TH_CHECK(access_of(address) == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	TH_CU(th_cu.cuMemFreeAsync(address, NULL));
}

TH_PROGRAM({ "uses_other", uses_other }, { "uses_both", uses_both },
	   { "uses_other_first", uses_other_first },
	   { "uses_both_at_once", uses_both_at_once },
	   { "peer_later", peer_later }, { "peer_first", peer_first },
	   { "streams", streams }, { "peer_of_pool", peer_of_pool })
