/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "device/sim/per_thread.h"

#define OWN(stream) sim_own_stream(stream)

#define PER_THREAD(name, params, args)                                         \
	CUresult name##_ptsz params                                            \
	{                                                                      \
		return name args;                                              \
	}
#include "device/sim/per_thread.def"
#undef PER_THREAD

static CUresult finish(CUresult submitted)
{
	return submitted == CUDA_SUCCESS
		       ? cuStreamSynchronize(CU_STREAM_PER_THREAD)
		       : submitted;
}

CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr dst, const void *src, size_t bytes)
{
	return finish(
		cuMemcpyHtoDAsync_v2(dst, src, bytes, CU_STREAM_PER_THREAD));
}

CUresult cuMemcpyDtoH_v2_ptds(void *dst, CUdeviceptr src, size_t bytes)
{
	return finish(
		cuMemcpyDtoHAsync_v2(dst, src, bytes, CU_STREAM_PER_THREAD));
}

CUresult cuMemcpyDtoD_v2_ptds(CUdeviceptr dst, CUdeviceptr src, size_t bytes)
{
	return finish(
		cuMemcpyDtoDAsync_v2(dst, src, bytes, CU_STREAM_PER_THREAD));
}

CUresult cuMemsetD8_v2_ptds(CUdeviceptr dst, unsigned char value, size_t count)
{
	return finish(cuMemsetD8Async(dst, value, count, CU_STREAM_PER_THREAD));
}

CUresult cuMemsetD32_v2_ptds(CUdeviceptr dst, unsigned int value, size_t count)
{
	return finish(
		cuMemsetD32Async(dst, value, count, CU_STREAM_PER_THREAD));
}
