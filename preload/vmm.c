/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory objects that the program makes for itself (PyTorch's expandable
 * segments are such). They stay the driver's; room is made for them in the
 * pool. Their memory is free again when the last handle is released and the
 * last mapping gone: the count of an object is that of both.
 */
#include "preload/hooks.h"
#include "preload/ledger.h"
#include "preload/state.h"

#include <stdlib.h>

/* An address that the ledger does not know is passed over by this much. */
#define STEP_BYTES ((uint64_t)2 << 20)

/* One reference less, before the driver knows: @entry_out is as it is then.
 * False: the handle is none that the ledger knows. */
static bool drop(enum pl_kind kind, CUmemGenericAllocationHandle handle,
		 struct pl_entry *entry_out)
{
	return pl_ledger_count(kind, handle, -1, entry_out);
}

/* The driver has refused: the reference is there still. */
static void restore(const struct pl_entry *entry)
{
	struct pl_entry again = *entry;

	if (pl_ledger_count(entry->kind, entry->key, 1, &again))
		return;
	again.count = 1;
	(void)pl_ledger_put(&again);
}

/* The driver has done it. */
static void conclude(const struct pl_entry *entry)
{
	if (entry->kind == PL_KIND_OBJECT && entry->count == 0)
		pl_room_give(entry);
}

static bool is_on_device(const CUmemAllocationProp *prop)
{
	return prop && prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	struct pl_entry entry = { .kind = PL_KIND_OBJECT,
				  .count = 1,
				  .bytes = bytes };
	CUresult result;

	PL_GUARD();
	if (!handle || !is_on_device(prop))
		return pl_driver()->cuMemCreate(handle, bytes, prop, flags);
	result = pl_room_take(prop->location.id, &entry);
	if (result != CUDA_SUCCESS)
		return result;
	result = pl_driver()->cuMemCreate(handle, bytes, prop, flags);
	if (result == CUDA_SUCCESS) {
		entry.key = *handle;
		if (pl_ledger_put(&entry) == PS_OK)
			return result;
		(void)pl_driver()->cuMemRelease(*handle);
		result = CUDA_ERROR_OUT_OF_MEMORY;
	}
	pl_room_give(&entry);
	return result;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	struct pl_entry entry;
	CUresult result;
	bool is_known;

	PL_GUARD();
	is_known = drop(PL_KIND_OBJECT, handle, &entry) ||
		   drop(PL_KIND_RETAINED, handle, &entry);
	result = pl_driver()->cuMemRelease(handle);
	if (is_known && result == CUDA_SUCCESS)
		conclude(&entry);
	else if (is_known)
		restore(&entry);
	return result;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
		  CUmemGenericAllocationHandle handle, unsigned long long flags)
{
	struct pl_entry mapping = { .key = address,
				    .kind = PL_KIND_MAPPING,
				    .bytes = bytes,
				    .other = handle };
	struct pl_entry object;
	CUresult result;

	PL_GUARD();
	result = pl_driver()->cuMemMap(address, bytes, offset, handle, flags);
	if (result != CUDA_SUCCESS ||
	    !pl_ledger_find(PL_KIND_OBJECT, handle, &object))
		return result;
	if (pl_ledger_put(&mapping) != PS_OK) {
		(void)pl_driver()->cuMemUnmap(address, bytes);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	(void)pl_ledger_count(PL_KIND_OBJECT, handle, 1, &object);
	return result;
}

/* ---- unmapping: one or several whole mappings ---- */

struct gone {
	struct gone *next;
	struct pl_entry mapping;
	struct pl_entry object; /* kind 0: its handle is not known */
};

/* Takes what is known between two addresses out of the ledger. False: there is
 * no host memory; what was taken is in the list all the same. */
static bool take_mappings(uint64_t from, uint64_t to, struct gone **list)
{
	struct pl_entry mapping;
	struct gone *gone;

	while (from < to) {
		if (!pl_ledger_find(PL_KIND_MAPPING, from, &mapping)) {
			from += STEP_BYTES - from % STEP_BYTES;
			continue;
		}
		gone = calloc(1, sizeof(*gone));
		if (!gone)
			return false;
		if (pl_ledger_take(PL_KIND_MAPPING, from, &gone->mapping))
			(void)drop(PL_KIND_OBJECT, mapping.other,
				   &gone->object);
		gone->next = *list;
		*list = gone;
		from += mapping.bytes;
	}
	return true;
}

/* Puts the list's back, or lets them go; frees it. */
static void settle_mappings(struct gone *list, bool is_unmapped)
{
	struct gone *next;

	for (; list; list = next) {
		next = list->next;
		if (is_unmapped) {
			conclude(&list->object);
		} else {
			if (list->object.kind != 0)
				restore(&list->object);
			if (list->mapping.kind != 0)
				(void)pl_ledger_put(&list->mapping);
		}
		free(list);
	}
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes)
{
	struct gone *list = NULL;
	CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
	uint64_t known;

	PL_GUARD();
	if (pl_ledger_sum(PL_KIND_MAPPING, &known) == 0)
		return pl_driver()->cuMemUnmap(address, bytes);
	if (take_mappings(address, address + bytes, &list))
		result = pl_driver()->cuMemUnmap(address, bytes);
	settle_mappings(list, result == CUDA_SUCCESS);
	return result;
}
