/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/hooks.h"

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	return PL_FORWARD(cuMemCreate, (handle, bytes, prop, flags));
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	return PL_FORWARD(cuMemRelease, (handle));
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
		  CUmemGenericAllocationHandle handle, unsigned long long flags)
{
	return PL_FORWARD(cuMemMap, (address, bytes, offset, handle, flags));
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes)
{
	return PL_FORWARD(cuMemUnmap, (address, bytes));
}
