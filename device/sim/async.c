/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Allocation in the order of a stream, and the pools that it is from. Memory
 * goes back to the GPU as soon as the stream is there, whatever the pool's
 * threshold: what a pool has reserved is what is used.
 */
#include "device/sim/context.h"
#include "device/sim/entry.h"
#include "device/sim/memory.h"
#include "device/sim/per_thread.h"
#include "device/sim/work.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Of the attributes, those that are plain settings. */
#define SETTINGS 3

/* All guarded by lock. */
struct CUmemPoolHandle_st {
	struct CUmemPoolHandle_st *next;
	CUdevice device;
	bool is_destroyed; /* and ends with its last allocation */
	uint64_t most;     /* 0: whatever the GPU has */
	uint64_t threshold;
	uint64_t used;
	uint64_t used_high;
	uint64_t reserved_high;
	int settings[SETTINGS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct CUmemPoolHandle_st default_pools[SIM_DEVICES_MAX];
static struct CUmemPoolHandle_st *pools;        /* the others */
static CUmemoryPool chosen[SIM_DEVICES_MAX];    /* NULL: the default one */
static pthread_once_t once = PTHREAD_ONCE_INIT; /* for the default ones */

/* Frees an allocation when the stream gets there. */
struct free_op {
	struct sim_op op;
	struct free_op *next; /* of those under way; guarded by lock */
	struct sim_mapping mapping;
};

static struct free_op *frees; /* guarded by lock */

static void make_default_pools(void)
{
	int i;

	for (i = 0; i < SIM_DEVICES_MAX; i++)
		default_pools[i] =
			(struct CUmemPoolHandle_st){ .device = i,
						     .settings = { 1, 1, 1 } };
}

static CUmemoryPool default_pool(CUdevice device)
{
	pthread_once(&once, make_default_pools);
	return &default_pools[device];
}

static bool is_default(CUmemoryPool pool)
{
	return pool >= default_pools && pool < default_pools + SIM_DEVICES_MAX;
}

/* pre: the lock is held. */
static bool is_pool(CUmemoryPool pool)
{
	const struct CUmemPoolHandle_st *each = pools;

	if (is_default(pool))
		return true;
	while (each && each != pool)
		each = each->next;
	return each && !each->is_destroyed;
}

/* pre: the lock is held. Ends a destroyed pool that nothing is left of. */
static void end_if_empty(CUmemoryPool pool)
{
	CUmemoryPool *link = &pools;

	if (!pool->is_destroyed || pool->used)
		return;
	while (*link != pool)
		link = &(*link)->next;
	*link = pool->next;
	free(pool);
}

static CUresult take_from(CUmemoryPool pool, uint64_t bytes)
{
	CUresult result = CUDA_SUCCESS;

	pthread_mutex_lock(&lock);
	if (!is_pool(pool))
		result = CUDA_ERROR_INVALID_VALUE;
	else if (pool->most &&
		 (bytes > pool->most || pool->used > pool->most - bytes))
		result = CUDA_ERROR_OUT_OF_MEMORY;
	else
		pool->used += bytes;
	if (result == CUDA_SUCCESS && pool->used > pool->used_high)
		pool->used_high = pool->used;
	if (result == CUDA_SUCCESS && pool->used > pool->reserved_high)
		pool->reserved_high = pool->used;
	pthread_mutex_unlock(&lock);
	return result;
}

static void give_to(CUmemoryPool pool, uint64_t bytes)
{
	pthread_mutex_lock(&lock);
	pool->used -= bytes;
	end_if_empty(pool);
	pthread_mutex_unlock(&lock);
}

void sim_pool_forget(const struct sim_mapping *mapping)
{
	give_to((CUmemoryPool)mapping->owner, mapping->bytes);
}

static CUresult allocate(CUdeviceptr *address, uint64_t bytes,
			 CUmemoryPool pool)
{
	uint64_t rounded = sim_memory_rounded(bytes);
	CUresult result;

	if (!address || bytes == 0 || rounded < bytes)
		return CUDA_ERROR_INVALID_VALUE;
	result = take_from(pool, rounded);
	if (result != CUDA_SUCCESS)
		return result;
	result = sim_memory_new(bytes, SIM_ASYNC, pool->device, pool, address);
	if (result != CUDA_SUCCESS)
		give_to(pool, rounded);
	return result;
}

static CUresult allocate_on(CUdeviceptr *address, uint64_t bytes,
			    CUmemoryPool pool, CUstream stream)
{
	CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
	CUresult result = sim_capture_status(stream, &capture);

	if (result != CUDA_SUCCESS)
		return result;
	if (capture == CU_STREAM_CAPTURE_STATUS_NONE)
		return allocate(address, bytes, pool);
	if (!address || bytes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_capture_allocate(stream, bytes, address);
}

static CUmemoryPool pool_of(CUdevice device)
{
	CUmemoryPool pool;

	pthread_mutex_lock(&lock);
	pool = chosen[device];
	pthread_mutex_unlock(&lock);
	return pool ? pool : default_pool(device);
}

static CUmemoryPool current_pool(void)
{
	return pool_of(sim_current()->device);
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream)
{
	ENTER_CONTEXT(cuMemAllocAsync);
	return allocate_on(address, bytes, current_pool(), stream);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *address, size_t bytes,
			      CUstream stream)
{
	ENTER_CONTEXT(cuMemAllocAsync_ptsz);
	return allocate_on(address, bytes, current_pool(),
			   sim_own_stream(stream));
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes,
				 CUmemoryPool pool, CUstream stream)
{
	ENTER_CONTEXT(cuMemAllocFromPoolAsync);
	return allocate_on(address, bytes, pool, stream);
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *address, size_t bytes,
				      CUmemoryPool pool, CUstream stream)
{
	ENTER_CONTEXT(cuMemAllocFromPoolAsync_ptsz);
	return allocate_on(address, bytes, pool, sim_own_stream(stream));
}

static CUresult run_free(struct sim_op *op)
{
	const struct sim_mapping *mapping = &((struct free_op *)op)->mapping;
	CUresult result = sim_address_remove(mapping->address, SIM_ASYNC);

	if (result == CUDA_SUCCESS)
		sim_pool_forget(mapping);
	return result;
}

/* False when it is freed already. */
static bool begin_free(struct free_op *op)
{
	const struct free_op *each;

	pthread_mutex_lock(&lock);
	each = frees;
	while (each && each->mapping.range.serial != op->mapping.range.serial)
		each = each->next;
	if (!each) {
		op->next = frees;
		frees = op;
	}
	pthread_mutex_unlock(&lock);
	return each == NULL;
}

static void end_free(struct sim_op *op)
{
	struct free_op **link = &frees;

	pthread_mutex_lock(&lock);
	while (*link && &(*link)->op != op)
		link = &(*link)->next;
	if (*link)
		*link = (*link)->next;
	pthread_mutex_unlock(&lock);
}

bool sim_is_being_freed(const struct sim_mapping *mapping)
{
	const struct free_op *each;

	pthread_mutex_lock(&lock);
	each = frees;
	while (each && each->mapping.range.serial != mapping->range.serial)
		each = each->next;
	pthread_mutex_unlock(&lock);
	return each != NULL;
}

static bool is_captured(CUstream stream)
{
	CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;

	return sim_capture_status(stream, &capture) == CUDA_SUCCESS &&
	       capture == CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

/* A graph's memory is freed by its captured work. */
static bool is_freed_here(const struct sim_mapping *mapping, CUstream stream)
{
	if (mapping->kind != SIM_GRAPH)
		return mapping->kind == SIM_ASYNC;
	return is_captured(stream);
}

static CUresult free_on(CUdeviceptr address, CUstream stream)
{
	struct sim_mapping mapping;
	struct free_op *op;

	if (!address)
		return CUDA_SUCCESS;
	if (!sim_address_find(address, &mapping) ||
	    mapping.address != address || !is_freed_here(&mapping, stream))
		return CUDA_ERROR_INVALID_VALUE;
	op = sim_op_new(sizeof(*op), run_free);
	if (!op)
		return CUDA_ERROR_OUT_OF_MEMORY;
	op->mapping = mapping;
	op->op.done = end_free;
	if (!begin_free(op)) {
		free(op);
		return CUDA_ERROR_INVALID_VALUE;
	}
	/* What a graph frees it has again at its next launch. */
	if (is_captured(stream)) {
		sim_op_free(&op->op);
		return CUDA_SUCCESS;
	}
	return sim_submit(stream, &op->op);
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream)
{
	ENTER_CONTEXT(cuMemFreeAsync);
	return free_on(address, stream);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream)
{
	ENTER_CONTEXT(cuMemFreeAsync_ptsz);
	return free_on(address, sim_own_stream(stream));
}

/* ---- pools ---- */

static bool is_possible(const CUmemPoolProps *props)
{
	return props->allocType == CU_MEM_ALLOCATION_TYPE_PINNED &&
	       props->location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
	       sim_is_device(props->location.id) &&
	       (props->handleTypes == CU_MEM_HANDLE_TYPE_NONE ||
		props->handleTypes == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
}

CUresult cuMemPoolCreate(CUmemoryPool *pool_out, const CUmemPoolProps *props)
{
	CUmemoryPool pool;

	ENTER(cuMemPoolCreate);
	if (!pool_out || !props || !is_possible(props))
		return CUDA_ERROR_INVALID_VALUE;
	pool = malloc(sizeof(*pool));
	if (!pool)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*pool = (struct CUmemPoolHandle_st){ .device = props->location.id,
					     .most = props->maxSize,
					     .settings = { 1, 1, 1 } };
	pthread_mutex_lock(&lock);
	pool->next = pools;
	pools = pool;
	pthread_mutex_unlock(&lock);
	*pool_out = pool;
	return CUDA_SUCCESS;
}

/* Its allocations stay; the default pool is the current one again. */
CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
	CUresult result = CUDA_ERROR_INVALID_VALUE;

	ENTER(cuMemPoolDestroy);
	pthread_mutex_lock(&lock);
	if (is_pool(pool) && !is_default(pool)) {
		if (chosen[pool->device] == pool)
			chosen[pool->device] = NULL;
		pool->is_destroyed = true;
		end_if_empty(pool);
		result = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&lock);
	return result;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep)
{
	CUresult result;

	ENTER(cuMemPoolTrimTo);
	(void)keep;
	pthread_mutex_lock(&lock);
	result = is_pool(pool) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_unlock(&lock);
	return result;
}

/* The place of a setting; NULL for another attribute. */
static int *setting_of(CUmemoryPool pool, CUmemPool_attribute attribute)
{
	if (attribute < CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES ||
	    attribute > CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES)
		return NULL;
	return &pool->settings[attribute - 1];
}

/* The place of a number of bytes; NULL for another attribute. */
static uint64_t *bytes_of(CUmemoryPool pool, CUmemPool_attribute attribute)
{
	switch (attribute) {
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		return &pool->threshold;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
	case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
		return &pool->used;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
		return &pool->reserved_high;
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		return &pool->used_high;
	default:
		return NULL;
	}
}

/* pre: the lock is held. */
static CUresult get_locked(CUmemoryPool pool, CUmemPool_attribute attribute,
			   void *value)
{
	const uint64_t *bytes;
	const int *setting;

	if (!is_pool(pool))
		return CUDA_ERROR_INVALID_VALUE;
	bytes = bytes_of(pool, attribute);
	setting = setting_of(pool, attribute);
	if (bytes)
		memcpy(value, bytes, sizeof(*bytes));
	else if (setting)
		memcpy(value, setting, sizeof(*setting));
	return bytes || setting ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* A high mark may only be set back to 0, which means to what is used now. */
static CUresult set_locked(CUmemoryPool pool, CUmemPool_attribute attribute,
			   const void *value)
{
	uint64_t *bytes;
	int *setting;

	if (!is_pool(pool))
		return CUDA_ERROR_INVALID_VALUE;
	bytes = bytes_of(pool, attribute);
	setting = setting_of(pool, attribute);
	if (setting) {
		memcpy(setting, value, sizeof(*setting));
	} else if (bytes == &pool->threshold) {
		memcpy(bytes, value, sizeof(*bytes));
	} else if (bytes && bytes != &pool->used) {
		if (memcmp(value, &(uint64_t){ 0 }, sizeof(*bytes)) != 0)
			return CUDA_ERROR_INVALID_VALUE;
		*bytes = pool->used;
	} else {
		return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute,
			       void *value)
{
	CUresult result;

	ENTER(cuMemPoolGetAttribute);
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	result = get_locked(pool, attribute, value);
	pthread_mutex_unlock(&lock);
	return result;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute,
			       void *value)
{
	CUresult result;

	ENTER(cuMemPoolSetAttribute);
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	result = set_locked(pool, attribute, value);
	pthread_mutex_unlock(&lock);
	return result;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device)
{
	ENTER(cuDeviceGetDefaultMemPool);
	if (!pool)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	*pool = default_pool(device);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device)
{
	ENTER(cuDeviceGetMemPool);
	if (!pool)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	*pool = pool_of(device);
	return CUDA_SUCCESS;
}

/* Who else has access is not kept: here every GPU has. */
CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *access,
			    size_t count)
{
	CUresult result;

	ENTER(cuMemPoolSetAccess);
	if (count && !access)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	result = is_pool(pool) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_unlock(&lock);
	return result;
}

static CUresult choose(CUdevice device, CUmemoryPool pool)
{
	CUresult result = CUDA_ERROR_INVALID_VALUE;

	pthread_mutex_lock(&lock);
	if (is_pool(pool) && pool->device == device) {
		chosen[device] = pool;
		result = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&lock);
	return result;
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool)
{
	ENTER(cuDeviceSetMemPool);
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	return choose(device, pool);
}

CUresult cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type,
			 CUmemoryPool pool)
{
	ENTER(cuMemSetMemPool);
	if (!location || type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    location->type != CU_MEM_LOCATION_TYPE_DEVICE ||
	    !sim_is_device(location->id))
		return CUDA_ERROR_INVALID_VALUE;
	return choose(location->id, pool);
}
