/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Physical memory by handle, and its mapping: the VMM calls. */
#include "device/sim/address.h"
#include "device/sim/context.h"
#include "device/sim/entry.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* A page of its range, mapped without access, holds the memory: a handle
 * costs no fd, as with the real driver. */
#define KEEPER_BYTES 4096u

struct handle {
	struct handle *next;
	CUmemGenericAllocationHandle number; /* never another's */
	unsigned int count;                  /* releases that it takes */
	struct sim_range range;
	bool is_imported;
	void *keeper;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct handle *handles; /* guarded by lock, as is what follows */
static CUmemGenericAllocationHandle last_number;

/* Closes @hold. *number: 0 for a new one, which it receives. */
static CUresult add_handle(const struct sim_range *range, bool is_imported,
			   int hold, CUmemGenericAllocationHandle *number)
{
	struct handle *handle = malloc(sizeof(*handle));
	void *keeper = mmap(NULL, KEEPER_BYTES, PROT_NONE, MAP_SHARED, hold,
			    (off_t)range->offset);

	close(hold);
	if (!handle || keeper == MAP_FAILED) {
		if (keeper != MAP_FAILED)
			munmap(keeper, KEEPER_BYTES);
		free(handle);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	handle->range = *range;
	handle->is_imported = is_imported;
	handle->keeper = keeper;
	handle->count = 1;
	pthread_mutex_lock(&lock);
	if (*number == 0)
		*number = ++last_number;
	handle->number = *number;
	handle->next = handles;
	handles = handle;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

static bool find_handle(CUmemGenericAllocationHandle number,
			struct handle *handle_out)
{
	struct handle *handle;

	pthread_mutex_lock(&lock);
	for (handle = handles; handle; handle = handle->next)
		if (handle->number == number)
			break;
	if (handle)
		*handle_out = *handle;
	pthread_mutex_unlock(&lock);
	return handle != NULL;
}

static bool count_handle(CUmemGenericAllocationHandle number)
{
	struct handle *handle;

	pthread_mutex_lock(&lock);
	for (handle = handles; handle; handle = handle->next)
		if (handle->number == number)
			break;
	if (handle)
		handle->count++;
	pthread_mutex_unlock(&lock);
	return handle != NULL;
}

/* False: there is none. *last_out: it when this was the last release, which
 * is the caller's then; else NULL. */
static bool drop_handle(CUmemGenericAllocationHandle number,
			struct handle **last_out)
{
	struct handle **link = &handles;
	bool is_there;

	*last_out = NULL;
	pthread_mutex_lock(&lock);
	while (*link && (*link)->number != number)
		link = &(*link)->next;
	is_there = *link != NULL;
	if (is_there && --(*link)->count == 0) {
		*last_out = *link;
		*link = (*link)->next;
	}
	pthread_mutex_unlock(&lock);
	return is_there;
}

static bool is_gpu(const CUmemLocation *location)
{
	return location->type == CU_MEM_LOCATION_TYPE_DEVICE &&
	       sim_is_device(location->id);
}

/* Of the host's NUMA nodes there is one. */
static bool is_host(const CUmemLocation *location)
{
	return location->type == CU_MEM_LOCATION_TYPE_HOST ||
	       (location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA &&
		location->id == 0);
}

static bool is_possible(const CUmemAllocationProp *prop)
{
	return prop && prop->type == CU_MEM_ALLOCATION_TYPE_PINNED &&
	       (is_gpu(&prop->location) || is_host(&prop->location));
}

static bool is_aligned(uint64_t value)
{
	return value % SIM_GRANULARITY == 0;
}

CUresult cuMemGetAllocationGranularity(size_t *bytes,
				       const CUmemAllocationProp *prop,
				       CUmemAllocationGranularity_flags option)
{
	ENTER(cuMemGetAllocationGranularity);
	if (!bytes || !is_possible(prop) ||
	    (unsigned int)option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
		return CUDA_ERROR_INVALID_VALUE;
	*bytes = SIM_GRANULARITY;
	return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	CUmemGenericAllocationHandle made = 0;
	struct sim_range range;
	CUresult result;
	int hold;

	ENTER(cuMemCreate);
	if (!handle || !is_possible(prop) || flags || bytes == 0 ||
	    !is_aligned(bytes))
		return CUDA_ERROR_INVALID_VALUE;
	result = sim_vram_create(bytes, &prop->location, &range, &hold);
	if (result == CUDA_SUCCESS)
		result = add_handle(&range, false, hold, &made);
	if (result == CUDA_SUCCESS)
		*handle = made;
	return result;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle number)
{
	struct handle *handle;

	ENTER(cuMemRelease);
	if (!drop_handle(number, &handle))
		return CUDA_ERROR_INVALID_VALUE;
	if (!handle)
		return CUDA_SUCCESS;
	munmap(handle->keeper, KEEPER_BYTES);
	sim_vram_reap(&handle->range);
	free(handle);
	return CUDA_SUCCESS;
}

/* The one that was mapped, also when it has been released since. */
CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle,
				     void *address)
{
	struct sim_mapping mapping;
	CUresult result;
	int hold;

	ENTER(cuMemRetainAllocationHandle);
	if (!handle || !sim_address_find((uint64_t)address, &mapping) ||
	    mapping.kind != SIM_SEGMENT)
		return CUDA_ERROR_INVALID_VALUE;
	if (!count_handle(mapping.handle)) {
		result = sim_vram_hold(&mapping.range, &hold);
		if (result == CUDA_SUCCESS)
			result = add_handle(&mapping.range, mapping.is_imported,
					    hold, &mapping.handle);
		if (result != CUDA_SUCCESS)
			return result;
	}
	*handle = mapping.handle;
	return CUDA_SUCCESS;
}

CUresult cuMemExportToShareableHandle(void *shareable,
				      CUmemGenericAllocationHandle number,
				      CUmemAllocationHandleType type,
				      unsigned long long flags)
{
	struct handle handle;

	ENTER(cuMemExportToShareableHandle);
	if (!shareable || flags ||
	    type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
	    !find_handle(number, &handle) || handle.is_imported)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_vram_hold(&handle.range, shareable);
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle,
					void *shareable,
					CUmemAllocationHandleType type)
{
	CUmemGenericAllocationHandle made = 0;
	struct sim_range range;
	CUresult result;
	int hold;

	ENTER(cuMemImportFromShareableHandle);
	if (!handle || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
	    !sim_vram_identify((int)(intptr_t)shareable, &range))
		return CUDA_ERROR_INVALID_VALUE;
	result = sim_vram_hold(&range, &hold);
	if (result == CUDA_SUCCESS)
		result = add_handle(&range, true, hold, &made);
	if (result == CUDA_SUCCESS)
		*handle = made;
	return result;
}

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes,
			     size_t alignment, CUdeviceptr wanted,
			     unsigned long long flags)
{
	uint64_t place;
	CUresult result;

	ENTER(cuMemAddressReserve);
	if (!address || bytes == 0 || !is_aligned(bytes) || flags ||
	    alignment > SIM_GRANULARITY)
		return CUDA_ERROR_INVALID_VALUE;
	result = sim_address_reserve(bytes, wanted, &place);
	if (result == CUDA_SUCCESS)
		*address = place;
	return result;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes)
{
	ENTER(cuMemAddressFree);
	return sim_address_free(address, bytes);
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
		  CUmemGenericAllocationHandle number, unsigned long long flags)
{
	struct handle handle;

	ENTER(cuMemMap);
	if (bytes == 0 || !is_aligned(address) || !is_aligned(bytes) || flags ||
	    !find_handle(number, &handle))
		return CUDA_ERROR_INVALID_VALUE;
	if (offset != 0 || bytes != handle.range.bytes)
		return CUDA_ERROR_NOT_SUPPORTED;
	return sim_address_map(address, &handle.range, handle.is_imported,
			       number);
}

/* Returns at once, whatever runs. */
CUresult cuMemUnmap(CUdeviceptr address, size_t bytes)
{
	ENTER(cuMemUnmap);
	return sim_address_unmap(address, bytes);
}

/* The host's own access is there anyway. */
static CUresult set_access(uint64_t address, uint64_t bytes,
			   const CUmemAccessDesc *access)
{
	if (is_host(&access->location))
		return CUDA_SUCCESS;
	if (!is_gpu(&access->location))
		return CUDA_ERROR_INVALID_VALUE;
	return sim_address_protect(address, bytes, access->location.id,
				   access->flags);
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes,
			const CUmemAccessDesc *access, size_t count)
{
	CUresult result = CUDA_SUCCESS;

	ENTER(cuMemSetAccess);
	if (!access || count == 0)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++)
		result = set_access(address, bytes, &access[i]);
	return result;
}

CUresult cuMemGetAccess(unsigned long long *flags,
			const CUmemLocation *location, CUdeviceptr address)
{
	struct sim_mapping mapping;

	ENTER(cuMemGetAccess);
	if (!flags || !location || !is_gpu(location) ||
	    !sim_address_find(address, &mapping) || mapping.kind != SIM_SEGMENT)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = mapping.access[location->id];
	return CUDA_SUCCESS;
}
