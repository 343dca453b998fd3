/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Contexts and streams that come and go. */
#include "preload/context.h"

#include "preload/hooks.h"

CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
	return pl_driver()->cuCtxCreate_v2(context, flags, device);
}

CUresult cuCtxCreate_v3(CUcontext *context, CUexecAffinityParam *affinity,
			int count, unsigned int flags, CUdevice device)
{
	return pl_driver()->cuCtxCreate_v3(context, affinity, count, flags,
					   device);
}

CUresult cuCtxCreate_v4(CUcontext *context, CUctxCreateParams *params,
			unsigned int flags, CUdevice device)
{
	return pl_driver()->cuCtxCreate_v4(context, params, flags, device);
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
	return pl_driver()->cuCtxDestroy_v2(context);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	return pl_driver()->cuDevicePrimaryCtxRetain(context, device);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	return pl_driver()->cuDevicePrimaryCtxRelease_v2(device);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
	return pl_driver()->cuDevicePrimaryCtxReset_v2(device);
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags)
{
	return pl_driver()->cuCtxEnablePeerAccess(peer, flags);
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
	return pl_driver()->cuStreamDestroy_v2(stream);
}
