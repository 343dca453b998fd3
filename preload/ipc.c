/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/hooks.h"

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address)
{
	return PL_FORWARD(cuIpcGetMemHandle, (handle, address));
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle handle,
			       unsigned int flags)
{
	return PL_FORWARD(cuIpcOpenMemHandle_v2, (address, handle, flags));
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address)
{
	return PL_FORWARD(cuIpcCloseMemHandle, (address));
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle,
				     void *address)
{
	return PL_FORWARD(cuMemRetainAllocationHandle, (handle, address));
}

CUresult cuMemExportToShareableHandle(void *shareable,
				      CUmemGenericAllocationHandle handle,
				      CUmemAllocationHandleType type,
				      unsigned long long flags)
{
	return PL_FORWARD(cuMemExportToShareableHandle,
			  (shareable, handle, type, flags));
}
