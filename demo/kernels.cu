/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The demo's kernels: one thread an element of the output, simple rather than
 * fast. What is shipped is demo/kernels.ptx, made of this by
 * demo/build_ptx.sh; no CUDA toolkit is needed to build or run the demo.
 *
 * "count" is the number of elements of the output.
 */
#include "demo/kernels.h"

static __device__ __forceinline__ unsigned int thread_index(void)
{
	return blockIdx.x * blockDim.x + threadIdx.x;
}

extern "C" __global__ void dm_dense(const float *x, const float *w,
				    const float *b, float *y,
				    unsigned int count, unsigned int n_in,
				    unsigned int n_out, unsigned int relu)
{
	unsigned int i = thread_index();

	if (i < count)
		dm_dense_at(i, x, w, b, y, n_in, n_out, relu);
}

extern "C" __global__ void dm_conv3x3(const float *x, const float *w,
				      const float *b, float *y,
				      unsigned int count, unsigned int n_in,
				      unsigned int n_out, unsigned int size)
{
	unsigned int i = thread_index();

	if (i < count)
		dm_conv3x3_at(i, x, w, b, y, n_in, n_out, size);
}

extern "C" __global__ void dm_maxpool2(const float *x, float *y,
				       unsigned int count, unsigned int size)
{
	unsigned int i = thread_index();

	if (i < count)
		dm_maxpool2_at(i, x, y, size);
}

extern "C" __global__ void dm_argmax(const float *x, unsigned int *y,
				     unsigned int count, unsigned int classes)
{
	unsigned int i = thread_index();

	if (i < count)
		dm_argmax_at(i, x, y, classes);
}
