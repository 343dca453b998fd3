/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Arrays, whose memory is the GPU's but has no address to the program. */
#include "device/sim/context.h"
#include "device/sim/entry.h"
#include "device/sim/memory.h"
#include "device/sim/work.h"

#include <stdlib.h>

#define LEVELS_MAX 32u

/* Both kinds are the same to us. */
struct CUarray_st {
	CUdeviceptr memory;
};

struct CUmipmappedArray_st {
	CUdeviceptr memory;
};

static uint64_t element_bytes(CUarray_format format, unsigned int channels)
{
	if (channels != 1 && channels != 2 && channels != 4)
		return 0;
	switch (format) {
	case CU_AD_FORMAT_UNSIGNED_INT8:
	case CU_AD_FORMAT_SIGNED_INT8:
		return channels;
	case CU_AD_FORMAT_UNSIGNED_INT16:
	case CU_AD_FORMAT_SIGNED_INT16:
	case CU_AD_FORMAT_HALF:
		return 2u * channels;
	case CU_AD_FORMAT_UNSIGNED_INT32:
	case CU_AD_FORMAT_SIGNED_INT32:
	case CU_AD_FORMAT_FLOAT:
		return 4u * channels;
	default:
		return 0;
	}
}

static uint64_t at_least_one(uint64_t extent)
{
	return extent ? extent : 1;
}

/* All levels, each half as long in every direction; 0: not allowed. */
static uint64_t bytes_of(const CUDA_ARRAY3D_DESCRIPTOR *wanted,
			 unsigned int levels)
{
	uint64_t element;
	uint64_t sum = 0;
	unsigned int i;

	if (!wanted || !wanted->Width || (wanted->Depth && !wanted->Height) ||
	    !levels || levels > LEVELS_MAX)
		return 0;
	element = element_bytes(wanted->Format, wanted->NumChannels);
	for (i = 0; i < levels; i++)
		sum += element * at_least_one(wanted->Width >> i) *
		       at_least_one(wanted->Height >> i) *
		       at_least_one(wanted->Depth >> i);
	return sum;
}

/* A capture forbids it, as any other allocation. */
static CUresult take_memory(const CUDA_ARRAY3D_DESCRIPTOR *wanted,
			    unsigned int levels, CUdeviceptr *memory_out)
{
	uint64_t bytes = bytes_of(wanted, levels);
	CUresult result = sim_capture_check();

	if (result != CUDA_SUCCESS)
		return result;
	return sim_memory_new(bytes, SIM_ARRAY, sim_current()->device,
			      sim_current(), memory_out);
}

static CUresult create(CUarray *array_out,
		       const CUDA_ARRAY3D_DESCRIPTOR *wanted)
{
	CUarray array = calloc(1, sizeof(*array));
	CUresult result;

	if (!array)
		return CUDA_ERROR_OUT_OF_MEMORY;
	result = take_memory(wanted, 1, &array->memory);
	if (result == CUDA_SUCCESS)
		*array_out = array;
	else
		free(array);
	return result;
}

CUresult cuArrayCreate_v2(CUarray *array,
			  const CUDA_ARRAY_DESCRIPTOR *descriptor)
{
	CUDA_ARRAY3D_DESCRIPTOR wanted = { 0 };

	ENTER_CONTEXT(cuArrayCreate_v2);
	if (!array || !descriptor)
		return CUDA_ERROR_INVALID_VALUE;
	wanted.Width = descriptor->Width;
	wanted.Height = descriptor->Height;
	wanted.Format = descriptor->Format;
	wanted.NumChannels = descriptor->NumChannels;
	return create(array, &wanted);
}

CUresult cuArray3DCreate_v2(CUarray *array,
			    const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
	ENTER_CONTEXT(cuArray3DCreate_v2);
	if (!array || !descriptor)
		return CUDA_ERROR_INVALID_VALUE;
	return create(array, descriptor);
}

/* Waits for the work that may use it. */
static CUresult give_memory(CUdeviceptr memory)
{
	CUresult result = sim_wait_for_all();

	return result == CUDA_SUCCESS ? sim_address_remove(memory, SIM_ARRAY)
				      : result;
}

CUresult cuArrayDestroy(CUarray array)
{
	CUresult result;

	ENTER_CONTEXT(cuArrayDestroy);
	if (!array)
		return CUDA_ERROR_INVALID_HANDLE;
	result = give_memory(array->memory);
	if (result == CUDA_SUCCESS)
		free(array);
	return result;
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *array_out,
				const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
				unsigned int levels)
{
	CUmipmappedArray array;
	CUresult result;

	ENTER_CONTEXT(cuMipmappedArrayCreate);
	if (!array_out || !descriptor)
		return CUDA_ERROR_INVALID_VALUE;
	array = calloc(1, sizeof(*array));
	if (!array)
		return CUDA_ERROR_OUT_OF_MEMORY;
	result = take_memory(descriptor, levels, &array->memory);
	if (result == CUDA_SUCCESS)
		*array_out = array;
	else
		free(array);
	return result;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray array)
{
	CUresult result;

	ENTER_CONTEXT(cuMipmappedArrayDestroy);
	if (!array)
		return CUDA_ERROR_INVALID_HANDLE;
	result = give_memory(array->memory);
	if (result == CUDA_SUCCESS)
		free(array);
	return result;
}
