/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/mempool.h"

#include "base/lock.h"
#include "preload/context.h"
#include "preload/hooks.h"
#include "preload/ledger.h"
#include "preload/memory.h"
#include "preload/state.h"

#include <stdlib.h>
#include <string.h>

#define DEVICES 64

struct mempool {
	CUmemoryPool handle;
	uint64_t number; /* never used again */
	CUdevice device;
	bool is_drivers; /* cannot be served here */
	uint64_t most;   /* bytes that it may have; 0: any */
	uint64_t used;
	uint64_t used_high;
	uint64_t reserved_high; /* as far as anybody asked */
	struct mempool *next;
};

static struct bs_lock lock = { PTHREAD_MUTEX_INITIALIZER, BS_RANK_PRELOAD };
/* Guarded by lock. */
static struct mempool *mempools;
static uint64_t last_number;
static CUmemoryPool current[DEVICES]; /* NULL: the default one */
static CUmemoryPool defaults[DEVICES];

/* ---- the table ---- */

static struct mempool *find_locked(CUmemoryPool handle)
{
	struct mempool *mempool = mempools;

	while (mempool != NULL && mempool->handle != handle)
		mempool = mempool->next;
	return mempool;
}

static struct mempool *find_number_locked(uint64_t number)
{
	struct mempool *mempool = mempools;

	while (mempool != NULL && mempool->number != number)
		mempool = mempool->next;
	return mempool;
}

/* NULL: no host memory; it is the driver's then. */
static struct mempool *add_locked(CUmemoryPool handle, CUdevice device)
{
	struct mempool *mempool = calloc(1, sizeof(*mempool));

	if (mempool == NULL)
		return NULL;
	mempool->handle = handle;
	mempool->device = device;
	mempool->number = ++last_number;
	mempool->next = mempools;
	mempools = mempool;
	return mempool;
}

/* The default one of the pool's GPU is there without having been created. */
static CUmemoryPool default_of(CUdevice device)
{
	CUmemoryPool handle = NULL;

	if (device < 0 || device >= DEVICES)
		return NULL;
	bs_lock_take(&lock);
	handle = defaults[device];
	bs_lock_drop(&lock);
	if (handle != NULL || pl_driver()->cuDeviceGetDefaultMemPool(
				      &handle, device) != CUDA_SUCCESS)
		return handle;
	bs_lock_take(&lock);
	if (defaults[device] == NULL) {
		defaults[device] = handle;
		(void)add_locked(handle, device);
	}
	bs_lock_drop(&lock);
	return handle;
}

uint64_t pl_mempool_find(CUmemoryPool handle)
{
	CUdevice device = pl_pool_device();
	CUmemoryPool otherwise = default_of(device);
	uint64_t number = PL_MEMPOOL_NONE;
	const struct mempool *mempool;

	if (otherwise == NULL)
		return PL_MEMPOOL_NONE;
	bs_lock_take(&lock);
	if (handle == NULL)
		handle = current[device] != NULL ? current[device] : otherwise;
	mempool = find_locked(handle);
	if (mempool != NULL && !mempool->is_drivers &&
	    mempool->device == device)
		number = mempool->number;
	bs_lock_drop(&lock);
	return number;
}

bool pl_mempool_take(uint64_t number, uint64_t bytes)
{
	struct mempool *mempool;
	bool fits = true;

	bs_lock_take(&lock);
	mempool = find_number_locked(number);
	if (mempool != NULL && mempool->most != 0)
		fits = bytes <= mempool->most &&
		       mempool->used <= mempool->most - bytes;
	if (mempool != NULL && fits) {
		mempool->used += bytes;
		if (mempool->used > mempool->used_high)
			mempool->used_high = mempool->used;
	}
	bs_lock_drop(&lock);
	return fits;
}

void pl_mempool_give(uint64_t number, uint64_t bytes)
{
	struct mempool *mempool;

	bs_lock_take(&lock);
	mempool = find_number_locked(number);
	if (mempool != NULL)
		mempool->used -= bytes;
	bs_lock_drop(&lock);
}

void pl_mempools_left(void)
{
	struct pl_entry entry;
	uint64_t last;

	bs_lock_take(&lock);
	last = last_number;
	for (struct mempool *each = mempools; each != NULL; each = each->next)
		each->used = 0;
	bs_lock_drop(&lock);
	for (uint64_t number = 1; number <= last; number++)
		while (pl_ledger_take_of(PL_KIND_OF_POOL, number, &entry))
			;
}

/* ---- hooks: coming and going ---- */

static bool must_be_drivers(const CUmemPoolProps *props)
{
	return props->handleTypes != CU_MEM_HANDLE_TYPE_NONE ||
	       props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
	       props->location.type != CU_MEM_LOCATION_TYPE_DEVICE;
}

static void note_created(CUmemoryPool handle, const CUmemPoolProps *props)
{
	struct mempool *mempool;

	bs_lock_take(&lock);
	mempool = add_locked(handle, props->location.id);
	if (mempool != NULL) {
		mempool->is_drivers = must_be_drivers(props);
		mempool->most = props->maxSize;
	}
	bs_lock_drop(&lock);
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props)
{
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuMemPoolCreate(pool, props);
	if (result == CUDA_SUCCESS && pl_is_alive())
		note_created(*pool, props);
	return result;
}

static struct mempool *remove_mempool(CUmemoryPool handle)
{
	struct mempool **link = &mempools, *mempool;

	bs_lock_take(&lock);
	while (*link != NULL && (*link)->handle != handle)
		link = &(*link)->next;
	mempool = *link;
	if (mempool != NULL)
		*link = mempool->next;
	bs_lock_drop(&lock);
	return mempool;
}

/* The driver has refused to destroy it. */
static void put_back(struct mempool *mempool)
{
	if (mempool == NULL)
		return;
	bs_lock_take(&lock);
	mempool->next = mempools;
	mempools = mempool;
	bs_lock_drop(&lock);
}

static void reset_current(CUmemoryPool handle)
{
	bs_lock_take(&lock);
	for (int i = 0; i < DEVICES; i++)
		if (current[i] == handle)
			current[i] = NULL;
	bs_lock_drop(&lock);
}

/* Its blocks stay; they are counted no more. */
CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
	struct mempool *mempool;
	CUresult result;
	PL_GUARD();

	if (!pl_is_alive())
		return pl_driver()->cuMemPoolDestroy(pool);
	mempool = remove_mempool(pool);
	result = pl_driver()->cuMemPoolDestroy(pool);
	if (result != CUDA_SUCCESS) {
		put_back(mempool);
		return result;
	}
	reset_current(pool);
	free(mempool);
	return result;
}

static CUresult chosen(CUresult result, CUdevice device, CUmemoryPool pool)
{
	if (result != CUDA_SUCCESS || !pl_is_alive() || device < 0 ||
	    device >= DEVICES)
		return result;
	bs_lock_take(&lock);
	current[device] = pool;
	bs_lock_drop(&lock);
	return result;
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool)
{
	PL_GUARD();

	return chosen(pl_driver()->cuDeviceSetMemPool(device, pool), device,
		      pool);
}

/* The same as CUDA 13 has it, for memory elsewhere too. */
CUresult cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type,
			 CUmemoryPool pool)
{
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuMemSetMemPool(location, type, pool);
	if (location == NULL || type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    location->type != CU_MEM_LOCATION_TYPE_DEVICE)
		return result;
	return chosen(result, location->id, pool);
}

/* The GPU whose memory it is; -1: it is not served here. */
static CUdevice device_of(CUmemoryPool pool)
{
	const struct mempool *mempool;
	CUdevice device = -1;

	bs_lock_take(&lock);
	mempool = find_locked(pool);
	if (mempool != NULL && !mempool->is_drivers)
		device = mempool->device;
	for (int i = 0; i < DEVICES; i++)
		if (defaults[i] == pool)
			device = i;
	bs_lock_drop(&lock);
	return device;
}

/* Who may use one of CUDA's pools may use all of ours: access is a segment's,
 * and goes by no block. */
CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *access,
			    size_t count)
{
	CUdevice device;
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuMemPoolSetAccess(pool, access, count);
	if (result != CUDA_SUCCESS || !pl_is_alive())
		return result;
	(void)default_of(pl_pool() != NULL ? pl_pool_device() : 0);
	device = device_of(pool);
	for (size_t i = 0; device >= 0 && i < count; i++)
		if (access[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
		    access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE)
			pl_let_in(device, access[i].location.id);
	return result;
}

/* ---- hooks: numbers ---- */

/*
 * What was freed and is kept serves every one of them, so each has it: as with
 * the driver, what is reserved is what is used and what a trim would give back.
 */
static bool read_numbers(CUmemoryPool handle, struct mempool *copy_out)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };
	struct ps_pool *pool = pl_pool();
	struct mempool *mempool;
	bool is_served = false;

	if (pool == NULL || pl_mempool_find(handle) == PL_MEMPOOL_NONE ||
	    ps_mem_get_stats(pool, &stats) != PS_OK)
		return false;
	bs_lock_take(&lock);
	mempool = find_locked(handle);
	if (mempool != NULL) {
		uint64_t reserved = mempool->used + stats.cached;

		if (mempool->reserved_high < reserved)
			mempool->reserved_high = reserved;
		*copy_out = *mempool;
		copy_out->most = reserved;
		is_served = true;
	}
	bs_lock_drop(&lock);
	return is_served;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute,
			       void *value)
{
	struct mempool numbers;
	const uint64_t *answer;
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuMemPoolGetAttribute(pool, attribute, value);
	if (result != CUDA_SUCCESS)
		return result;
	switch (attribute) {
	case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
		answer = &numbers.most;
		break;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
		answer = &numbers.reserved_high;
		break;
	case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
		answer = &numbers.used;
		break;
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		answer = &numbers.used_high;
		break;
	default:
		return result;
	}
	if (read_numbers(pool, &numbers))
		memcpy(value, answer, sizeof(*answer));
	return result;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute,
			       void *value)
{
	struct mempool *mempool;
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuMemPoolSetAttribute(pool, attribute, value);
	if (result != CUDA_SUCCESS || !pl_is_alive())
		return result;
	bs_lock_take(&lock);
	mempool = find_locked(pool);
	if (mempool != NULL && attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH)
		mempool->used_high = mempool->used;
	if (mempool != NULL && attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)
		mempool->reserved_high = 0;
	bs_lock_drop(&lock);
	return result;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };
	struct mempool numbers;
	uint64_t released;
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuMemPoolTrimTo(pool, keep);
	if (result != CUDA_SUCCESS || !read_numbers(pool, &numbers) ||
	    ps_mem_get_stats(pl_pool(), &stats) != PS_OK)
		return result;
	keep = keep > numbers.used ? keep - numbers.used : 0;
	return pl_freed(ps_mem_trim(pl_pool(), stats.live + keep, &released));
}
