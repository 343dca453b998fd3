/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The calls of programs that are compiled for a default stream for each
 * thread, besides those of device/symbols.def. Real drivers export them too.
 */
#ifndef DEVICE_SIM_PER_THREAD_H
#define DEVICE_SIM_PER_THREAD_H

#include "device/sim/entry.h"

#define PER_THREAD(name, params, args) SIM_EXPORT CUresult name##_ptsz params;
#include "device/sim/per_thread.def"
#undef PER_THREAD

SIM_EXPORT CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr dst, const void *src,
					 size_t bytes);
SIM_EXPORT CUresult cuMemcpyDtoH_v2_ptds(void *dst, CUdeviceptr src,
					 size_t bytes);
SIM_EXPORT CUresult cuMemcpyDtoD_v2_ptds(CUdeviceptr dst, CUdeviceptr src,
					 size_t bytes);
SIM_EXPORT CUresult cuMemsetD8_v2_ptds(CUdeviceptr dst, unsigned char value,
				       size_t count);
SIM_EXPORT CUresult cuMemsetD32_v2_ptds(CUdeviceptr dst, unsigned int value,
					size_t count);

/* The stream that such a call means. */
static inline CUstream sim_own_stream(CUstream stream)
{
	return stream ? stream : CU_STREAM_PER_THREAD;
}

#endif /* DEVICE_SIM_PER_THREAD_H */
