/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The allocators that bench/alloc compares. */

#include "bench/alloc.h"

#include "bench/gpu.h"
#include "include/poolswitch.h"

static struct ps_pool *pool;

static bool open_pool(void)
{
	if (ps_alloc_shared(NULL, &pool) != PS_OK)
		return false;
	if (ps_insert_region(pool, PS_REGION_COMPUTATION, PS_ANY_STREAM, 0) ==
	    PS_OK)
		return true;
	ps_pool_close(pool);
	pool = NULL;
	return false;
}

static void close_pool(void)
{
	ps_pool_close(pool);
	pool = NULL;
}

static bool async_alloc(void *stream, uint64_t bytes, uint64_t *ptr_out)
{
	void *ptr;

	if (ps_mem_alloc_async(pool, bytes, stream, &ptr) != PS_OK)
		return false;
	*ptr_out = (uint64_t)(uintptr_t)ptr;
	return true;
}

static bool async_free(void *stream, uint64_t ptr)
{
	return ps_mem_free_async(pool, (void *)(uintptr_t)ptr, stream) == PS_OK;
}

static bool plain_alloc(void *stream, uint64_t bytes, uint64_t *ptr_out)
{
	void *ptr;

	(void)stream;
	if (ps_mem_alloc(pool, bytes, &ptr) != PS_OK)
		return false;
	*ptr_out = (uint64_t)(uintptr_t)ptr;
	return true;
}

static bool plain_free(void *stream, uint64_t ptr)
{
	(void)stream;
	return ps_mem_free(pool, (void *)(uintptr_t)ptr) == PS_OK;
}

static bool pool_forget(void *stream)
{
	return ps_mem_drop_stream(pool, stream) == PS_OK;
}

static void driver_close(void)
{
	bn_driver_pool_trim();
}

static bool driver_forget(void *stream)
{
	return bn_stream_wait(stream);
}

const struct bn_subject bn_subject_async = {
	.name = "poolswitch async",
	.open = open_pool,
	.close = close_pool,
	.alloc = async_alloc,
	.free = async_free,
	.forget = pool_forget,
	.ours = true,
};

const struct bn_subject bn_subject_plain = {
	.name = "poolswitch plain",
	.open = open_pool,
	.close = close_pool,
	.alloc = plain_alloc,
	.free = plain_free,
	.forget = pool_forget,
	.ours = true,
};

const struct bn_subject bn_subject_driver = {
	.name = "cuMemAllocAsync",
	.open = bn_driver_pool_keep,
	.close = driver_close,
	.alloc = bn_driver_pool_alloc,
	.free = bn_driver_pool_free,
	.forget = driver_forget,
	.ours = false,
};
