/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory in the order of a stream.
 *
 * What is allocated on a capturing stream belongs to the graph, and what comes
 * of a pool of CUDA's that others can have belongs to them: both are the
 * driver's, and room is made for them.
 */
#include "base/arith.h"
#include "preload/capture.h"
#include "preload/context.h"
#include "preload/hooks.h"
#include "preload/ledger.h"
#include "preload/memory.h"
#include "preload/mempool.h"
#include "preload/outside.h"
#include "preload/state.h"

#include <stdatomic.h>

/* In what the driver's pools count. */
#define COUNTED_BYTES 512

struct request {
	CUdeviceptr *address;
	size_t bytes;
	CUmemoryPool mempool; /* NULL: the current one */
	CUstream stream;
	struct pl_entry entry; /* of what goes to the driver */
};

static atomic_size_t counted; /* blocks of pools of CUDA's */

/* ---- allocation ---- */

/* Before anybody knows of the block, so that a free finds it. */
static bool count_in(CUdeviceptr address, uint64_t number, uint64_t bytes)
{
	const struct pl_entry entry = {
		.key = address,
		.kind = PL_KIND_OF_POOL,
		.bytes = bytes,
		.other = number,
	};

	if (pl_ledger_put(&entry) != PS_OK)
		return false;
	atomic_fetch_add_explicit(&counted, 1, memory_order_relaxed);
	return true;
}

void pl_forget_async(CUdeviceptr address)
{
	struct pl_entry entry;

	if (atomic_load_explicit(&counted, memory_order_relaxed) == 0 ||
	    !pl_ledger_take(PL_KIND_OF_POOL, address, &entry))
		return;
	atomic_fetch_sub_explicit(&counted, 1, memory_order_relaxed);
	pl_mempool_give(entry.other, entry.bytes);
}

/* Fences are the primary context's: with others about, a block serves any
 * stream, and waits for all. */
static enum ps_status take_block(struct ps_pool *pool,
				 const struct request *request,
				 void **block_out)
{
	if (pl_has_contexts())
		return ps_mem_alloc(pool, request->bytes, block_out);
	return ps_mem_alloc_async(pool, request->bytes, request->stream,
				  block_out);
}

static enum ps_status serve(struct ps_pool *pool, struct request *request,
			    uint64_t number)
{
	enum ps_status status = PS_OUT_OF_MEMORY;
	CUdeviceptr address;
	uint64_t bytes;
	void *block;

	if (!bs_round_up(request->bytes, COUNTED_BYTES, &bytes) ||
	    !pl_mempool_take(number, bytes))
		return status;
	status = take_block(pool, request, &block);
	address = (CUdeviceptr)(uintptr_t)block;
	if (status == PS_OK && !count_in(address, number, bytes)) {
		(void)ps_mem_free(pool, block);
		status = PS_HOST_MEMORY;
	}
	if (status != PS_OK) {
		pl_mempool_give(number, bytes);
		return status;
	}
	if (pl_has_contexts())
		pl_note_block(address);
	*request->address = address;
	return PS_OK;
}

/* The driver is to have it, whatever the quota. */
static void spill(struct ps_pool *pool, struct request *request)
{
	if (ps_mem_note_passed(pool, (int64_t)request->bytes) != PS_OK)
		return;
	request->entry.toll = PL_TOLL_PASSED;
	request->entry.pool = pool;
}

static bool has_one_gpu(void)
{
	static atomic_int count;
	int gpus = atomic_load_explicit(&count, memory_order_relaxed);

	if (gpus == 0 && pl_driver()->cuDeviceGetCount(&gpus) == CUDA_SUCCESS)
		atomic_store(&count, gpus);
	return gpus == 1;
}

/* The stream says on which GPU, whatever context is current. */
static enum pl_course course_of(const struct request *request,
				struct ps_pool **pool_out, CUresult *result_out)
{
	const struct dv_driver *driver = pl_driver();
	CUcontext context;
	CUdevice device;

	if (has_one_gpu() ||
	    (uintptr_t)request->stream <= (uintptr_t)CU_STREAM_PER_THREAD ||
	    driver->cuStreamGetCtx == NULL ||
	    driver->cuStreamGetCtx(request->stream, &context) != CUDA_SUCCESS ||
	    !pl_context_device(context, &device))
		return pl_course(pool_out, result_out);
	return pl_course_on(device, pool_out, result_out);
}

/*
 * PL_SERVE: done. PL_FAIL: *result_out. PL_PASS: the driver is to be asked,
 * and received() told of what came.
 */
static enum pl_course receive(struct request *request, CUresult *result_out)
{
	struct ps_pool *pool = NULL;
	enum pl_course course;
	enum ps_status status;
	uint64_t number;

	request->entry = (struct pl_entry){ .kind = PL_KIND_PLAIN,
					    .bytes = request->bytes };
	if (request->address == NULL || request->bytes == 0 || !pl_is_alive())
		return PL_PASS;
	if (pl_is_capturing() && pl_stream_captures(request->stream)) {
		*result_out = pl_capture_take(request->stream, request->bytes);
		return *result_out == CUDA_SUCCESS ? PL_PASS : PL_FAIL;
	}
	course = course_of(request, &pool, result_out);
	if (course != PL_SERVE)
		return course;
	number = pl_mempool_find(request->mempool);
	if (number == PL_MEMPOOL_NONE) {
		*result_out = pl_room_take(PL_DEVICE_CURRENT, &request->entry);
		return *result_out == CUDA_SUCCESS ? PL_PASS : PL_FAIL;
	}
	status = serve(pool, request, number);
	if (pl_spills(pool, status)) {
		spill(pool, request);
		return PL_PASS;
	}
	*result_out = status == PS_OK ? CUDA_SUCCESS : pl_refuse(status);
	return status == PS_OK ? PL_SERVE : PL_FAIL;
}

static CUresult received(struct request *request, CUresult result)
{
	struct pl_entry *entry = &request->entry;
	CUcontext context = NULL;

	if (entry->toll == PL_TOLL_NONE)
		return result;
	if (result == CUDA_SUCCESS) {
		(void)pl_driver()->cuCtxGetCurrent(&context);
		entry->key = *request->address;
		entry->other = (uintptr_t)context;
	}
	if (result != CUDA_SUCCESS || pl_ledger_put(entry) != PS_OK)
		pl_room_give(entry);
	return result;
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream)
{
	struct request request = { .address = address,
				   .bytes = bytes,
				   .stream = stream };
	CUresult result = CUDA_SUCCESS;
	PL_GUARD();

	if (receive(&request, &result) != PL_PASS)
		return result;
	return received(&request,
			pl_driver()->cuMemAllocAsync(address, bytes, stream));
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *address, size_t bytes,
			      CUstream stream)
{
	struct request request = { .address = address,
				   .bytes = bytes,
				   .stream = pl_own_stream(stream) };
	CUresult result = CUDA_SUCCESS;
	PL_GUARD();

	if (receive(&request, &result) != PL_PASS)
		return result;
	return received(&request, pl_driver()->cuMemAllocAsync_ptsz(
					  address, bytes, stream));
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes,
				 CUmemoryPool pool, CUstream stream)
{
	struct request request = { .address = address,
				   .bytes = pool != NULL ? bytes : 0,
				   .mempool = pool,
				   .stream = stream };
	CUresult result = CUDA_SUCCESS;
	PL_GUARD();

	if (receive(&request, &result) != PL_PASS)
		return result;
	return received(&request, pl_driver()->cuMemAllocFromPoolAsync(
					  address, bytes, pool, stream));
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *address, size_t bytes,
				      CUmemoryPool pool, CUstream stream)
{
	struct request request = { .address = address,
				   .bytes = pool != NULL ? bytes : 0,
				   .mempool = pool,
				   .stream = pl_own_stream(stream) };
	CUresult result = CUDA_SUCCESS;
	PL_GUARD();

	if (receive(&request, &result) != PL_PASS)
		return result;
	return received(&request, pl_driver()->cuMemAllocFromPoolAsync_ptsz(
					  address, bytes, pool, stream));
}

/* ---- back ---- */

/* false: it is not the pool's. */
static bool free_block(CUdeviceptr address, CUstream stream,
		       CUresult *result_out)
{
	struct ps_pool *pool = pl_pool();
	void *block = (void *)(uintptr_t)address;

	if (pool == NULL || !ps_mem_is_inside(pool, block))
		return false;
	if (pl_has_contexts() || pl_is_capturing() || pl_is_held(address)) {
		*result_out = pl_free_block(pool, address);
		return true;
	}
	pl_forget_async(address);
	*result_out = pl_freed(ps_mem_free_async(pool, block, stream));
	return true;
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream)
{
	struct pl_entry entry;
	CUresult result;
	bool is_known;
	PL_GUARD();

	if (free_block(address, stream, &result))
		return result;
	is_known = pl_outside_take(address, &entry);
	return pl_outside_settle(is_known, &entry,
				 pl_driver()->cuMemFreeAsync(address, stream));
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream)
{
	struct pl_entry entry;
	CUresult result;
	bool is_known;
	PL_GUARD();

	if (free_block(address, pl_own_stream(stream), &result))
		return result;
	is_known = pl_outside_take(address, &entry);
	return pl_outside_settle(
		is_known, &entry,
		pl_driver()->cuMemFreeAsync_ptsz(address, stream));
}
