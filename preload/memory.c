/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Plain device memory: from the pool, or from the driver and counted.
 *
 * What cannot succeed is the driver's to refuse, so that a program gets the
 * code that it knows.
 */
#include "preload/memory.h"

#include "preload/capture.h"
#include "preload/context.h"
#include "preload/hooks.h"
#include "preload/outside.h"
#include "preload/policy.h"

/* ---- from the driver ---- */

bool pl_spills(struct ps_pool *pool, enum ps_status status)
{
	if (pool == NULL || status != PS_OUT_OF_MEMORY || !pl_policy()->spills)
		return false;
	pl_warn(PL_CAUSE_SPILL,
		"the quota is used up, so memory comes from the driver "
		"(POOLSWITCH_AT_QUOTA=spill): %s",
		ps_error_detail());
	return true;
}

void pl_note_passed(struct ps_pool *pool, CUdeviceptr address, uint64_t bytes)
{
	struct pl_entry entry = {
		.key = address,
		.kind = PL_KIND_PLAIN,
		.bytes = bytes,
		.toll = PL_TOLL_PASSED,
		.pool = pool,
	};
	CUcontext context = NULL;

	if (pool == NULL || ps_mem_note_passed(pool, (int64_t)bytes) != PS_OK)
		return;
	if (pl_driver()->cuCtxGetCurrent(&context) == CUDA_SUCCESS)
		entry.other = (uintptr_t)context;
	if (pl_ledger_put(&entry) != PS_OK)
		pl_room_give(&entry);
}

/* ---- by the pool ---- */

CUresult pl_refuse(enum ps_status status)
{
	if (status == PS_PEER_GONE || status == PS_NO_DAEMON ||
	    status == PS_REFUSED)
		pl_warn(PL_CAUSE_REFUSED, "no memory of the pool: %s",
			ps_error_detail());
	return pl_result(status);
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
	CUresult result = CUDA_SUCCESS;
	struct ps_pool *pool = NULL;
	enum pl_course course;
	enum ps_status status;
	void *block;
	PL_GUARD();

	if (address == NULL || bytes == 0)
		return pl_driver()->cuMemAlloc_v2(address, bytes);
	course = pl_course(&pool, &result);
	if (course == PL_FAIL)
		return result;
	if (course == PL_SERVE) {
		status = ps_mem_alloc(pool, bytes, &block);
		if (status == PS_OK) {
			*address = (CUdeviceptr)(uintptr_t)block;
			if (pl_has_contexts())
				pl_note_block(*address);
			return CUDA_SUCCESS;
		}
		if (!pl_spills(pool, status))
			return pl_refuse(status);
	}
	result = pl_driver()->cuMemAlloc_v2(address, bytes);
	if (result == CUDA_SUCCESS)
		pl_note_passed(pool, *address, bytes);
	return result;
}

static bool is_element(unsigned int bytes)
{
	return bytes == 4 || bytes == 8 || bytes == 16;
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width,
			    size_t height, unsigned int element_bytes)
{
	CUresult result = CUDA_SUCCESS;
	struct ps_pool *pool = NULL;
	enum pl_course course = PL_PASS;
	enum ps_status status;
	void *block;
	PL_GUARD();

	if (address != NULL && pitch != NULL && width != 0 && height != 0 &&
	    is_element(element_bytes))
		course = pl_course(&pool, &result);
	if (course == PL_FAIL)
		return result;
	if (course == PL_SERVE) {
		status = ps_mem_alloc_pitch(pool, width, height, pitch, &block);
		if (status == PS_OK) {
			*address = (CUdeviceptr)(uintptr_t)block;
			if (pl_has_contexts())
				pl_note_block(*address);
			return CUDA_SUCCESS;
		}
		if (!pl_spills(pool, status))
			return pl_refuse(status);
	}
	result = pl_driver()->cuMemAllocPitch_v2(address, pitch, width, height,
						 element_bytes);
	if (result == CUDA_SUCCESS && pool != NULL)
		pl_note_passed(pool, *address, *pitch * height);
	return result;
}

/* ---- back ---- */

/*
 * A program may free what it has after the driver has shut down, and pays no
 * attention to what comes of it; what the driver says of a fence is no news
 * to who frees.
 */
CUresult pl_freed(enum ps_status status)
{
	if (status == PS_DRIVER || status == PS_AGAIN)
		return CUDA_SUCCESS;
	return pl_result(status);
}

CUresult pl_free_block(struct ps_pool *pool, CUdeviceptr address)
{
	if (pl_is_held(address))
		return CUDA_ERROR_INVALID_VALUE;
	if (pl_is_capturing() && pl_hold_block(address))
		return CUDA_SUCCESS;
	pl_forget_async(address);
	if (pl_has_contexts())
		pl_settle_block(address);
	return pl_freed(ps_mem_free(pool, (void *)(uintptr_t)address));
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
	struct ps_pool *pool = pl_pool();
	PL_GUARD();

	if (address == 0)
		return pl_driver()->cuMemFree_v2(address);
	if (pool != NULL &&
	    ps_mem_is_inside(pool, (const void *)(uintptr_t)address))
		return pl_free_block(pool, address);
	return pl_outside_free(address);
}
