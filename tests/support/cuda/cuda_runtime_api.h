/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The few names of the CUDA runtime that include/poolswitch_cuda_replace.h
 * needs, so that it is tested without a toolkit. tests/abi/ compiles the same
 * header against NVIDIA's own. */
#ifndef TESTS_SUPPORT_CUDA_RUNTIME_API_H
#define TESTS_SUPPORT_CUDA_RUNTIME_API_H

#include <stddef.h>

typedef enum {
	cudaSuccess = 0,
	cudaErrorInvalidValue = 1,
	cudaErrorMemoryAllocation = 2,
	cudaErrorInitializationError = 3,
	cudaErrorUnknown = 999
} cudaError_t;

typedef struct CUstream_st *cudaStream_t;

/* runtime.c counts them instead. */
cudaError_t cudaFree(void *ptr);
cudaError_t cudaFreeAsync(void *ptr, cudaStream_t stream);
int th_runtime_frees(void);

#endif /* TESTS_SUPPORT_CUDA_RUNTIME_API_H */
