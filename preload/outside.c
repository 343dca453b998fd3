/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/outside.h"

#include "preload/hooks.h"
#include "preload/state.h"

/* No memory yet: it comes from the program's own memory objects. */
#define WITHOUT_MEMORY (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)

/* Kinds that end with their context. */
static const enum pl_kind of_contexts[] = { PL_KIND_PLAIN, PL_KIND_MANAGED,
					    PL_KIND_ARRAY };

static uint64_t current_context(void)
{
	CUcontext context = NULL;

	if (pl_driver()->cuCtxGetCurrent(&context) != CUDA_SUCCESS)
		return 0;
	return (uintptr_t)context;
}

/*
 * What the driver has given under @key is remembered, or given back where it
 * cannot be.
 */
static bool remember(struct pl_entry *entry, uint64_t key)
{
	entry->key = key;
	entry->other = current_context();
	return pl_ledger_put(entry) == PS_OK;
}

CUresult pl_outside_settle(bool is_known, const struct pl_entry *entry,
			   CUresult result)
{
	if (!is_known)
		return result;
	if (result == CUDA_SUCCESS)
		pl_room_give(entry);
	else
		(void)pl_ledger_put(entry);
	return result;
}

/* ---- managed memory, and whatever cuMemFree() takes ---- */

CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes,
			   unsigned int flags)
{
	struct pl_entry entry = { .kind = PL_KIND_MANAGED, .bytes = bytes };
	CUresult result;

	PL_GUARD();
	result = pl_room_take(PL_DEVICE_CURRENT, &entry);
	if (result != CUDA_SUCCESS)
		return result;
	result = pl_driver()->cuMemAllocManaged(address, bytes, flags);
	if (result == CUDA_SUCCESS && !remember(&entry, *address)) {
		(void)pl_driver()->cuMemFree_v2(*address);
		result = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (result != CUDA_SUCCESS)
		pl_room_give(&entry);
	return result;
}

bool pl_outside_take(CUdeviceptr address, struct pl_entry *entry_out)
{
	return pl_ledger_take(PL_KIND_PLAIN, address, entry_out) ||
	       pl_ledger_take(PL_KIND_MANAGED, address, entry_out);
}

CUresult pl_outside_free(CUdeviceptr address)
{
	struct pl_entry entry;
	bool is_known = pl_outside_take(address, &entry);

	return pl_outside_settle(is_known, &entry,
				 pl_driver()->cuMemFree_v2(address));
}

void pl_outside_drop(CUcontext context)
{
	struct pl_entry entry;

	for (size_t i = 0; i < sizeof(of_contexts) / sizeof(*of_contexts); i++)
		while (pl_ledger_take_of(of_contexts[i], (uintptr_t)context,
					 &entry))
			pl_room_give(&entry);
}

/* ---- arrays ---- */

/* An upper bound for what is not listed: four bytes a channel. */
static uint64_t element_bytes(CUarray_format format, unsigned int channels)
{
	switch (format) {
	case CU_AD_FORMAT_UNSIGNED_INT8:
	case CU_AD_FORMAT_SIGNED_INT8:
		return channels;
	case CU_AD_FORMAT_UNSIGNED_INT16:
	case CU_AD_FORMAT_SIGNED_INT16:
	case CU_AD_FORMAT_HALF:
		return UINT64_C(2) * channels;
	default:
		return UINT64_C(4) * channels;
	}
}

static uint64_t at_least_1(uint64_t length)
{
	return length > 0 ? length : 1;
}

/* Nonsense that overflows is the driver's to refuse. */
static uint64_t array_bytes(const CUDA_ARRAY3D_DESCRIPTOR *of)
{
	uint64_t bytes = element_bytes(of->Format, of->NumChannels);

	if (of->Flags & WITHOUT_MEMORY ||
	    __builtin_mul_overflow(bytes, at_least_1(of->Width), &bytes) ||
	    __builtin_mul_overflow(bytes, at_least_1(of->Height), &bytes) ||
	    __builtin_mul_overflow(bytes, at_least_1(of->Depth), &bytes))
		return 0;
	return bytes;
}

static uint64_t mipmap_bytes(CUDA_ARRAY3D_DESCRIPTOR level, unsigned int levels)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < levels && i < 32; i++) {
		sum += array_bytes(&level);
		level.Width = at_least_1(level.Width / 2);
		level.Height = at_least_1(level.Height / 2);
		if (!(level.Flags & CUDA_ARRAY3D_LAYERED))
			level.Depth = at_least_1(level.Depth / 2);
	}
	return sum;
}

/* What the driver's answer makes of the room for an array. */
static CUresult keep_array(struct pl_entry *entry, CUresult result,
			   const void *array)
{
	if (result == CUDA_SUCCESS && !remember(entry, (uintptr_t)array))
		result = CUDA_ERROR_OUT_OF_MEMORY;
	if (result != CUDA_SUCCESS)
		pl_room_give(entry);
	return result;
}

CUresult cuArray3DCreate_v2(CUarray *array,
			    const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
	struct pl_entry entry = { .kind = PL_KIND_ARRAY };
	CUresult result, kept;

	PL_GUARD();
	if (!array || !descriptor)
		return pl_driver()->cuArray3DCreate_v2(array, descriptor);
	entry.bytes = array_bytes(descriptor);
	result = pl_room_take(PL_DEVICE_CURRENT, &entry);
	if (result != CUDA_SUCCESS)
		return result;
	result = pl_driver()->cuArray3DCreate_v2(array, descriptor);
	kept = keep_array(&entry, result,
			  result == CUDA_SUCCESS ? *array : NULL);
	if (kept != result)
		(void)pl_driver()->cuArrayDestroy(*array);
	return kept;
}

CUresult cuArrayCreate_v2(CUarray *array,
			  const CUDA_ARRAY_DESCRIPTOR *descriptor)
{
	struct pl_entry entry = { .kind = PL_KIND_ARRAY };
	CUresult result, kept;

	PL_GUARD();
	if (!array || !descriptor)
		return pl_driver()->cuArrayCreate_v2(array, descriptor);
	entry.bytes = array_bytes(&(CUDA_ARRAY3D_DESCRIPTOR){
		.Width = descriptor->Width,
		.Height = descriptor->Height,
		.Format = descriptor->Format,
		.NumChannels = descriptor->NumChannels,
	});
	result = pl_room_take(PL_DEVICE_CURRENT, &entry);
	if (result != CUDA_SUCCESS)
		return result;
	result = pl_driver()->cuArrayCreate_v2(array, descriptor);
	kept = keep_array(&entry, result,
			  result == CUDA_SUCCESS ? *array : NULL);
	if (kept != result)
		(void)pl_driver()->cuArrayDestroy(*array);
	return kept;
}

CUresult cuArrayDestroy(CUarray array)
{
	struct pl_entry entry;
	bool is_known;

	PL_GUARD();
	is_known = pl_ledger_take(PL_KIND_ARRAY, (uintptr_t)array, &entry);
	return pl_outside_settle(is_known, &entry,
				 pl_driver()->cuArrayDestroy(array));
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *array,
				const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
				unsigned int levels)
{
	struct pl_entry entry = { .kind = PL_KIND_ARRAY };
	CUresult result, kept;

	PL_GUARD();
	if (!array || !descriptor)
		return pl_driver()->cuMipmappedArrayCreate(array, descriptor,
							   levels);
	entry.bytes = mipmap_bytes(*descriptor, levels);
	result = pl_room_take(PL_DEVICE_CURRENT, &entry);
	if (result != CUDA_SUCCESS)
		return result;
	result = pl_driver()->cuMipmappedArrayCreate(array, descriptor, levels);
	kept = keep_array(&entry, result,
			  result == CUDA_SUCCESS ? *array : NULL);
	if (kept != result)
		(void)pl_driver()->cuMipmappedArrayDestroy(*array);
	return kept;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray array)
{
	struct pl_entry entry;
	bool is_known;

	PL_GUARD();
	is_known = pl_ledger_take(PL_KIND_ARRAY, (uintptr_t)array, &entry);
	return pl_outside_settle(is_known, &entry,
				 pl_driver()->cuMipmappedArrayDestroy(array));
}
