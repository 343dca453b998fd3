/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A program in C or C++ that allocates with the CUDA runtime. Only compiled,
 * against NVIDIA's headers, by tests/abi/check_replace.py. */
#include <poolswitch_cuda_replace.h>

#ifdef __cplusplus
#define AS_VOID(ptr) (ptr) /* the templates of cuda_runtime.h */
#else
#define AS_VOID(ptr) ((void **)(ptr))
#endif

cudaError_t allocate_all_ways(float **ptr, cudaStream_t stream);

cudaError_t allocate_all_ways(float **ptr, cudaStream_t stream)
{
	size_t pitch, free_bytes, total;

	if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess)
		return cudaErrorUnknown;
	if (cudaMalloc(AS_VOID(ptr), 1000) == cudaSuccess)
		return cudaFree(*ptr);
	if (cudaMallocPitch(AS_VOID(ptr), &pitch, 10, 10) == cudaSuccess)
		return cudaFree(*ptr);
	if (cudaMallocAsync(AS_VOID(ptr), 1000, stream) == cudaSuccess)
		return cudaFreeAsync(*ptr, stream);
	return cudaMallocAsync(AS_VOID(ptr), 1000, 0);
}
