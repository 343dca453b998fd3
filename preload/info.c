/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* How much memory there is. */
#include "preload/hooks.h"

CUresult cuMemGetInfo_v2(size_t *free, size_t *total)
{
	return pl_driver()->cuMemGetInfo_v2(free, total);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	return pl_driver()->cuDeviceTotalMem_v2(bytes, device);
}
