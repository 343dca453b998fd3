/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sharing what the pool gave. Legacy CUDA IPC cannot share it, so a ticket
 * travels in the handle's 64 bytes. Who shares by descriptors asks for the
 * handle of a segment and exports that: the driver exports no handle that was
 * imported, so the descriptor is the daemon's.
 */
#include "preload/context.h"
#include "preload/hooks.h"
#include "preload/ledger.h"
#include "preload/state.h"

#include <string.h>

_Static_assert(sizeof(struct ps_ticket) == sizeof(CUipcMemHandle),
	       "a ticket fits a handle");

static bool is_inside(const struct ps_pool *pool, uint64_t address)
{
	return pool && ps_mem_is_inside(pool, (const void *)address);
}

/* ---- tickets ---- */

static bool is_ticket(const CUipcMemHandle *handle)
{
	return memcmp(handle, PS_TICKET_MAGIC, strlen(PS_TICKET_MAGIC)) == 0;
}

/* What the driver says of a handle that it cannot open. */
static CUresult ticket_result(enum ps_status status)
{
	switch (status) {
	case PS_REFUSED:
		return CUDA_ERROR_INVALID_HANDLE;
	case PS_NOT_OURS:
		return CUDA_ERROR_INVALID_CONTEXT;
	default:
		return pl_result(status);
	}
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address)
{
	struct ps_pool *pool;
	struct ps_ticket ticket;
	enum ps_status status;

	PL_GUARD();
	pool = pl_pool();
	if (!handle || !is_inside(pool, address))
		return pl_driver()->cuIpcGetMemHandle(handle, address);
	status = ps_ticket_issue(pool, (const void *)address, &ticket);
	if (status != PS_OK)
		return pl_result(status);
	memcpy(handle, &ticket, sizeof(ticket));
	return CUDA_SUCCESS;
}

/* A ticket without a pool to open it in: the driver does not know it either. */
static CUresult refuse_ticket(void)
{
	CUcontext context = NULL;
	CUresult result = pl_driver()->cuCtxGetCurrent(&context);

	if (result != CUDA_SUCCESS)
		return result;
	return context ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_CONTEXT;
}

static CUresult open_ticket(CUdeviceptr *address, const CUipcMemHandle *handle,
			    unsigned int flags)
{
	struct ps_pool *pool;
	struct ps_ticket ticket;
	enum ps_status status;
	CUresult result;
	void *opened;

	if (!address || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
		return CUDA_ERROR_INVALID_VALUE;
	switch (pl_course(&pool, &result)) {
	case PL_FAIL:
		return result;
	case PL_PASS:
		return refuse_ticket();
	default:
		break;
	}
	memcpy(&ticket, handle, sizeof(ticket));
	status = ps_ticket_open(pool, &ticket, &opened);
	if (status != PS_OK)
		return ticket_result(status);
	*address = (uintptr_t)opened;
	return CUDA_SUCCESS;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle handle,
			       unsigned int flags)
{
	PL_GUARD();
	if (is_ticket(&handle))
		return open_ticket(address, &handle, flags);
	return pl_driver()->cuIpcOpenMemHandle_v2(address, handle, flags);
}

/* As programs have it that look it up without the version. */
CUresult cuIpcOpenMemHandle(CUdeviceptr *address, CUipcMemHandle handle,
			    unsigned int flags)
{
	PL_GUARD();
	if (is_ticket(&handle))
		return open_ticket(address, &handle, flags);
	return pl_driver()->cuIpcOpenMemHandle(address, handle, flags);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address)
{
	struct ps_pool *pool;

	PL_GUARD();
	pool = pl_pool();
	if (!is_inside(pool, address))
		return pl_driver()->cuIpcCloseMemHandle(address);
	/* The pool unmaps it behind the work of the primary one alone. */
	if (pl_has_contexts())
		pl_settle_block(address);
	return pl_result(ps_ticket_close(pool, (void *)address));
}

/* ---- handles and descriptors of segments ---- */

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle,
				     void *address)
{
	struct pl_entry entry = { .kind = PL_KIND_RETAINED, .count = 1 };
	CUresult result;

	PL_GUARD();
	result = pl_driver()->cuMemRetainAllocationHandle(handle, address);
	if (result != CUDA_SUCCESS)
		return result;
	if (!is_inside(pl_pool(), (uintptr_t)address)) {
		(void)pl_ledger_count(PL_KIND_OBJECT, *handle, 1, &entry);
		return result;
	}
	entry.key = *handle;
	entry.other = (uintptr_t)address;
	if (pl_ledger_add(&entry) == PS_OK)
		return result;
	(void)pl_driver()->cuMemRelease(*handle);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

/* Whether the segment that was retained is still at that address. */
static bool is_mapped_at(uint64_t address, CUmemGenericAllocationHandle handle)
{
	CUmemGenericAllocationHandle there;

	if (pl_driver()->cuMemRetainAllocationHandle(&there, (void *)address) !=
	    CUDA_SUCCESS)
		return false;
	(void)pl_driver()->cuMemRelease(there);
	return there == handle;
}

CUresult cuMemExportToShareableHandle(void *shareable,
				      CUmemGenericAllocationHandle handle,
				      CUmemAllocationHandleType type,
				      unsigned long long flags)
{
	struct pl_entry entry;
	struct ps_pool *pool;
	enum ps_status status;
	int fd;

	PL_GUARD();
	pool = pl_pool();
	if (!pool || !shareable || flags != 0 ||
	    type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
	    !pl_ledger_find(PL_KIND_RETAINED, handle, &entry) ||
	    !is_mapped_at(entry.other, handle))
		return pl_driver()->cuMemExportToShareableHandle(
			shareable, handle, type, flags);
	status = ps_mem_export_segment(pool, (const void *)entry.other, &fd);
	if (status != PS_OK)
		return pl_result(status);
	memcpy(shareable, &fd, sizeof(fd));
	return CUDA_SUCCESS;
}
