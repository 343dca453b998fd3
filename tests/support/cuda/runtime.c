/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What is left of the CUDA runtime when its allocation is replaced. */
#include <cuda_runtime_api.h>

static int frees;

cudaError_t cudaFree(void *ptr)
{
	(void)ptr;
	frees++;
	return cudaSuccess;
}

cudaError_t cudaFreeAsync(void *ptr, cudaStream_t stream)
{
	(void)stream;
	return cudaFree(ptr);
}

int th_runtime_frees(void)
{
	return frees;
}
