/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Turns a program's CUDA allocation into poolswitch's by one include, behind
 * or instead of the CUDA runtime's header:
 *
 *	#include <poolswitch_cuda_replace.h>
 *
 * From there on cudaMalloc, cudaMallocPitch, cudaMallocAsync, cudaFree,
 * cudaFreeAsync and cudaMemGetInfo are those of the process's default pool,
 * which must be open and have a range inserted. Everything else of CUDA stays
 * as it is. In C and C++.
 *
 * Differences from the CUDA runtime
 *   cudaFree() does not wait for the device unless PS_FREE_WAITS is set.
 *   A pointer that the pool never gave out (of cudaMallocManaged() and the
 *   like) is passed on to the runtime's own cudaFree().
 *   CUDA's last error stays as it is; ps_error_detail() has the reason.
 *   cudaMallocAsync() with a memory pool of CUDA, in C++, goes to CUDA.
 */
#ifndef POOLSWITCH_CUDA_REPLACE_H
#define POOLSWITCH_CUDA_REPLACE_H

#ifdef __cplusplus
#include <cuda_runtime.h>
#else
#include <cuda_runtime_api.h>
#endif
#include <poolswitch.h>

#if defined(CUDA_API_PER_THREAD_DEFAULT_STREAM) ||                             \
	defined(__CUDART_API_PER_THREAD_DEFAULT_STREAM)
#define PS_CUDA_STREAM(stream) ((stream) ? (void *)(stream) : (void *)2)
#else
#define PS_CUDA_STREAM(stream) ((void *)(stream))
#endif

static inline cudaError_t ps_cuda_error(enum ps_status status)
{
	switch (status) {
	case PS_OK:
		return cudaSuccess;
	case PS_OUT_OF_MEMORY:
	case PS_DEVICE_MEMORY:
	case PS_HOST_MEMORY:
		return cudaErrorMemoryAllocation;
	case PS_INVALID_ARGUMENT:
	case PS_NOT_OURS:
	case PS_INTERIOR:
	case PS_DOUBLE_FREE:
		return cudaErrorInvalidValue;
	case PS_FORKED:
		return cudaErrorInitializationError;
	default:
		return cudaErrorUnknown;
	}
}

/* As CUDA does it: no bytes are no error and no memory. */
static inline cudaError_t ps_cuda_malloc(void **ptr, size_t size)
{
	if (size == 0) {
		*ptr = NULL;
		return cudaSuccess;
	}
	return ps_cuda_error(ps_mem_alloc(NULL, size, ptr));
}

static inline cudaError_t ps_cuda_malloc_pitch(void **ptr, size_t *pitch,
					       size_t width, size_t height)
{
	return ps_cuda_error(
		ps_mem_alloc_pitch(NULL, width, height, pitch, ptr));
}

static inline cudaError_t ps_cuda_malloc_async(void **ptr, size_t size,
					       cudaStream_t stream)
{
	if (size == 0) {
		*ptr = NULL;
		return cudaSuccess;
	}
	return ps_cuda_error(
		ps_mem_alloc_async(NULL, size, PS_CUDA_STREAM(stream), ptr));
}

static inline cudaError_t ps_cuda_free(void *ptr)
{
	enum ps_status status;

	if (ptr == NULL)
		return cudaSuccess;
	status = ps_mem_free(NULL, ptr);
	return status == PS_NOT_OURS ? cudaFree(ptr) : ps_cuda_error(status);
}

static inline cudaError_t ps_cuda_free_async(void *ptr, cudaStream_t stream)
{
	enum ps_status status;

	if (ptr == NULL)
		return cudaSuccess;
	status = ps_mem_free_async(NULL, ptr, PS_CUDA_STREAM(stream));
	return status == PS_NOT_OURS ? cudaFreeAsync(ptr, stream)
				     : ps_cuda_error(status);
}

static inline cudaError_t ps_cuda_mem_get_info(size_t *free_bytes,
					       size_t *total)
{
	uint64_t free64, total64;
	enum ps_status status = ps_mem_get_info(NULL, &free64, &total64);

	if (status != PS_OK)
		return ps_cuda_error(status);
	*free_bytes = (size_t)free64;
	*total = (size_t)total64;
	return cudaSuccess;
}

#ifdef __cplusplus
template <class T>
static inline cudaError_t ps_cuda_malloc(T **ptr, size_t size)
{
	void *memory = NULL;
	cudaError_t error = ps_cuda_malloc(&memory, size);

	if (error == cudaSuccess)
		*ptr = static_cast<T *>(memory);
	return error;
}

template <class T>
static inline cudaError_t ps_cuda_malloc_pitch(T **ptr, size_t *pitch,
					       size_t width, size_t height)
{
	void *memory = NULL;
	cudaError_t error = ps_cuda_malloc_pitch(&memory, pitch, width, height);

	if (error == cudaSuccess)
		*ptr = static_cast<T *>(memory);
	return error;
}

template <class T>
static inline cudaError_t ps_cuda_malloc_async(T **ptr, size_t size,
					       cudaStream_t stream)
{
	void *memory = NULL;
	cudaError_t error = ps_cuda_malloc_async(&memory, size, stream);

	if (error == cudaSuccess)
		*ptr = static_cast<T *>(memory);
	return error;
}

template <class T>
static inline cudaError_t ps_cuda_malloc_async(T **ptr, size_t size,
					       cudaMemPool_t pool,
					       cudaStream_t stream)
{
	return cudaMallocAsync(ptr, size, pool, stream);
}
#endif /* __cplusplus */

/* The runtime's header may have made some of them macros already. */
#undef cudaMalloc
#undef cudaMallocPitch
#undef cudaMallocAsync
#undef cudaFree
#undef cudaFreeAsync
#undef cudaMemGetInfo
#define cudaMalloc ps_cuda_malloc
#define cudaMallocPitch ps_cuda_malloc_pitch
#define cudaMallocAsync ps_cuda_malloc_async
#define cudaFree ps_cuda_free
#define cudaFreeAsync ps_cuda_free_async
#define cudaMemGetInfo ps_cuda_mem_get_info

#endif /* POOLSWITCH_CUDA_REPLACE_H */
