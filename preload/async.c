/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Memory in the order of a stream, and the pools of the driver. */
#include "preload/hooks.h"
#include "preload/memory.h"

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream)
{
	return pl_driver()->cuMemAllocAsync(address, bytes, stream);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *address, size_t bytes,
			      CUstream stream)
{
	return pl_driver()->cuMemAllocAsync_ptsz(address, bytes, stream);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes,
				 CUmemoryPool pool, CUstream stream)
{
	return pl_driver()->cuMemAllocFromPoolAsync(address, bytes, pool,
						    stream);
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *address, size_t bytes,
				      CUmemoryPool pool, CUstream stream)
{
	return pl_driver()->cuMemAllocFromPoolAsync_ptsz(address, bytes, pool,
							 stream);
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream)
{
	return pl_driver()->cuMemFreeAsync(address, stream);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream)
{
	return pl_driver()->cuMemFreeAsync_ptsz(address, stream);
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props)
{
	return pl_driver()->cuMemPoolCreate(pool, props);
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
	return pl_driver()->cuMemPoolDestroy(pool);
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep)
{
	return pl_driver()->cuMemPoolTrimTo(pool, keep);
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute,
			       void *value)
{
	return pl_driver()->cuMemPoolGetAttribute(pool, attribute, value);
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute,
			       void *value)
{
	return pl_driver()->cuMemPoolSetAttribute(pool, attribute, value);
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool)
{
	return pl_driver()->cuDeviceSetMemPool(device, pool);
}

void pl_forget_async(CUdeviceptr address)
{
	(void)address;
}
