/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Memory in the order of a stream, and CUDA's pools, as programs use them. */
#include "tests/preload/gate.h"
#include "tests/preload/memory.h"

#define MIB ((size_t)1 << 20)

static CUdeviceptr take(size_t bytes, CUstream stream)
{
	CUdeviceptr address = 0;

	TH_CU(th_cu.cuMemAllocAsync(&address, bytes, stream));
	TH_CHECK(address != 0 && address % 512 == 0);
	return address;
}

static void give(CUdeviceptr address, CUstream stream)
{
	TH_CU(th_cu.cuMemFreeAsync(address, stream));
}

static uint64_t number_of(CUmemoryPool pool, CUmemPool_attribute attribute)
{
	uint64_t bytes = 0;

	TH_CU(th_cu.cuMemPoolGetAttribute(pool, attribute, &bytes));
	return bytes;
}

static uint64_t used(CUmemoryPool pool)
{
	return number_of(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
}

static uint64_t used_high(CUmemoryPool pool)
{
	return number_of(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH);
}

static uint64_t reserved(CUmemoryPool pool)
{
	return number_of(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
}

static CUmemoryPool default_pool(void)
{
	CUmemoryPool pool;

	TH_CU(th_cu.cuDeviceGetDefaultMemPool(&pool, 0));
	return pool;
}

static CUmemoryPool new_pool(CUmemAllocationHandleType type, size_t most)
{
	const CUmemPoolProps props = {
		.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
		.handleTypes = type,
		.location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 },
		.maxSize = most,
	};
	CUmemoryPool pool;

	TH_CU(th_cu.cuMemPoolCreate(&pool, &props));
	return pool;
}

/* ---- streams ---- */

static void served(void)
{
	CUdeviceptr first, second;
	CUstream stream;

	th_cuda_open();
	stream = th_stream();
	first = take(3 * MIB, stream);
	TH_CU(th_cu.cuMemsetD8Async(first, 7, 3 * MIB, stream));
	give(first, stream);
	second = take(3 * MIB, stream);
	TH_CHECK(second == first);
	give(second, stream);
	TH_CHECK(th_driver_calls("cuMemAllocAsync") == 0);
	TH_CHECK(th_driver_calls("cuMemFreeAsync") == 0);
}

/* The stream that is meant is the thread's own: what was freed there is not the
 * legacy one's before the work is done. */
static void per_thread(void)
{
	CUdeviceptr mine = 0, other, again = 0;

	th_cuda_open();
	th_gate_close(CU_STREAM_PER_THREAD);
	TH_CU(th_cu.cuMemAllocAsync_ptsz(&mine, MIB, NULL));
	TH_CU(th_cu.cuMemFreeAsync_ptsz(mine, NULL));
	other = take(MIB, NULL);
	TH_CHECK(other != mine);
	TH_CU(th_cu.cuMemAllocAsync_ptsz(&again, MIB, NULL));
	TH_CHECK(again == mine);
	th_gate_open();
	TH_CHECK(th_driver_calls("cuMemAllocAsync_ptsz") == 0);
}

/* Another stream gets it when the first is done with it. */
static void other_stream(void)
{
	CUstream first, second;
	CUdeviceptr address, other;

	th_cuda_open();
	first = th_stream();
	second = th_stream();
	th_gate_close(first);
	address = take(4 * MIB, first);
	give(address, first);
	other = take(4 * MIB, second);
	TH_CHECK(other != address);
	th_gate_open();
	TH_CU(th_cu.cuStreamSynchronize(first));
	give(other, second);
}

/* A new stream may have its handle, and must not have its memory. */
static void destroyed(void)
{
	CUstream first, second;
	CUdeviceptr address;

	th_cuda_open();
	first = th_stream();
	th_gate_close(first);
	address = take(4 * MIB, first);
	give(address, first);
	TH_CU(th_cu.cuStreamDestroy_v2(first));
	for (int i = 0; i < 4; i++) {
		second = th_stream();
		TH_CHECK(take(4 * MIB, second) != address);
	}
	th_gate_open();
}

/* Each kind of free takes each kind of block. */
static void crosswise(void)
{
	CUstream stream;
	CUdeviceptr plain, ordered;

	th_cuda_open();
	stream = th_stream();
	ordered = take(MIB, stream);
	TH_CU(th_cu.cuMemAlloc_v2(&plain, MIB));
	TH_CU(th_cu.cuMemFree_v2(ordered));
	give(plain, stream);
	TH_CU_IS(th_cu.cuMemFreeAsync(plain, stream), CUDA_ERROR_INVALID_VALUE);
	TH_CU_IS(th_cu.cuMemFree_v2(ordered), CUDA_ERROR_INVALID_VALUE);
	TH_CHECK(used(default_pool()) == 0);
}

static void wrong(void)
{
	CUdeviceptr address = 7;

	th_cuda_open();
	TH_CU_IS(th_cu.cuMemAllocAsync(&address, 0, NULL),
		 CUDA_ERROR_INVALID_VALUE);
	TH_CU_IS(th_cu.cuMemAllocAsync(NULL, 512, NULL),
		 CUDA_ERROR_INVALID_VALUE);
	TH_CU_IS(th_cu.cuMemAllocFromPoolAsync(&address, 512, NULL, NULL),
		 CUDA_ERROR_INVALID_VALUE);
	TH_CHECK(address == 7);
}

/* ---- CUDA's pools ---- */

static void counts(void)
{
	CUmemoryPool pool, other;
	CUdeviceptr a, b, c;

	th_cuda_open();
	pool = new_pool(CU_MEM_HANDLE_TYPE_NONE, 0);
	other = default_pool();
	TH_CU(th_cu.cuMemAllocFromPoolAsync(&a, 1024, pool, NULL));
	TH_CU(th_cu.cuMemAllocFromPoolAsync(&b, 1, pool, NULL));
	TH_CU(th_cu.cuMemAllocAsync(&c, 4 * MIB, NULL));
	TH_CHECK(used(pool) == 1536 && used(other) == 4 * MIB);
	TH_CHECK(reserved(pool) >= 1536 && reserved(other) >= 4 * MIB);
	give(a, NULL);
	TH_CHECK(used(pool) == 512 && used_high(pool) == 1536);
	TH_CU(th_cu.cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH,
					  &(uint64_t){ 0 }));
	TH_CHECK(used_high(pool) == 512);
	TH_CU(th_cu.cuMemFree_v2(b));
	give(c, NULL);
	TH_CHECK(used(pool) == 0 && used(other) == 0);
	TH_CHECK(th_driver_calls("cuMemAllocFromPoolAsync") == 0);
}

static void trims(void)
{
	CUmemoryPool pool;
	CUdeviceptr kept, freed;

	th_cuda_open();
	pool = default_pool();
	kept = take(4 * MIB, NULL);
	freed = take(16 * MIB, NULL);
	give(freed, NULL);
	TH_CU(th_cu.cuCtxSynchronize());
	TH_CHECK(reserved(pool) >= 20 * MIB);
	TH_CU(th_cu.cuMemPoolTrimTo(pool, 0));
	TH_CHECK(reserved(pool) < 12 * MIB && used(pool) == 4 * MIB);
	give(kept, NULL);
}

/* The settings are the driver's, so that what is set is what is read. */
static void settings(void)
{
	CUmemoryPool pool;
	uint64_t all = UINT64_MAX;

	th_cuda_open();
	pool = new_pool(CU_MEM_HANDLE_TYPE_NONE, 0);
	TH_CU(th_cu.cuMemPoolSetAttribute(
		pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &all));
	TH_CHECK(number_of(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) == all);
	TH_CU(th_cu.cuMemPoolDestroy(pool));
	TH_CU_IS(th_cu.cuMemPoolGetAttribute(
			 pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &all),
		 CUDA_ERROR_INVALID_VALUE);
}

static void chosen(void)
{
	CUmemoryPool pool;
	CUdeviceptr address;

	th_cuda_open();
	pool = new_pool(CU_MEM_HANDLE_TYPE_NONE, 0);
	TH_CU(th_cu.cuDeviceSetMemPool(0, pool));
	address = take(MIB, NULL);
	TH_CHECK(used(pool) == MIB && used(default_pool()) == 0);
	TH_CU(th_cu.cuMemPoolDestroy(pool));
	give(address, NULL);
	address = take(MIB, NULL);
	TH_CHECK(used(default_pool()) == MIB);
	give(address, NULL);
	TH_CHECK(th_driver_calls("cuMemAllocAsync") == 0);
}

static void bounded(void)
{
	CUmemoryPool pool;
	CUdeviceptr address, more = 0;

	th_cuda_open();
	pool = new_pool(CU_MEM_HANDLE_TYPE_NONE, 4 * MIB);
	TH_CU(th_cu.cuMemAllocFromPoolAsync(&address, 3 * MIB, pool, NULL));
	TH_CU_IS(th_cu.cuMemAllocFromPoolAsync(&more, 2 * MIB, pool, NULL),
		 CUDA_ERROR_OUT_OF_MEMORY);
	give(address, NULL);
	TH_CU(th_cu.cuMemAllocFromPoolAsync(&more, 4 * MIB, pool, NULL));
	give(more, NULL);
}

/* One that another process can have is the driver's, within the quota. */
static void exportable(void)
{
	size_t before, during, after, total;
	CUmemoryPool pool;
	CUdeviceptr address;

	th_cuda_open();
	pool = new_pool(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
	TH_CU(th_cu.cuMemGetInfo_v2(&before, &total));
	TH_CU(th_cu.cuMemAllocFromPoolAsync(&address, 4 * MIB, pool, NULL));
	TH_CHECK(th_driver_calls("cuMemAllocFromPoolAsync") == 1);
	TH_CU(th_cu.cuMemGetInfo_v2(&during, &total));
	give(address, NULL);
	TH_CU(th_cu.cuMemGetInfo_v2(&after, &total));
	TH_CHECK(during == before - 4 * MIB && after == before);
	TH_CU(th_cu.cuMemPoolDestroy(pool));
}

TH_PROGRAM({ "served", served }, { "per_thread", per_thread },
	   { "other_stream", other_stream }, { "destroyed", destroyed },
	   { "crosswise", crosswise }, { "wrong", wrong }, { "counts", counts },
	   { "trims", trims }, { "settings", settings }, { "chosen", chosen },
	   { "bounded", bounded }, { "exportable", exportable })
