/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Plain device memory. */
#include "preload/hooks.h"

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
	return pl_driver()->cuMemAlloc_v2(address, bytes);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width,
			    size_t height, unsigned int element_bytes)
{
	return pl_driver()->cuMemAllocPitch_v2(address, pitch, width, height,
					       element_bytes);
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
	return pl_driver()->cuMemFree_v2(address);
}
