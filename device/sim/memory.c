/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Plain allocations, their sharing by legacy IPC, and pinned host memory. */
#include "device/sim/memory.h"

#include "device/sim/context.h"
#include "device/sim/entry.h"
#include "device/sim/work.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PITCH 512u /* what a row is rounded up to */

#define TICKET_MAGIC 0x73696d2d69706331u

/* What an IPC handle's bytes are. */
struct ticket {
	uint64_t magic;
	uint64_t device; /* of the GPU's file */
	uint64_t inode;
	struct sim_range range;
	uint64_t process; /* the exporter */
};

_Static_assert(sizeof(struct ticket) <= CU_IPC_HANDLE_SIZE,
	       "a ticket fits a handle");

CUresult sim_memory_new(uint64_t bytes, enum sim_kind kind, CUdevice device,
			const void *owner, CUdeviceptr *address_out)
{
	const CUmemLocation location = { CU_MEM_LOCATION_TYPE_DEVICE, device };
	uint64_t rounded = sim_memory_rounded(bytes);
	struct sim_range range;
	uint64_t address;
	CUresult result;
	int hold;

	if (!address_out || bytes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (rounded < bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	result = sim_vram_create(rounded, &location, &range, &hold);
	if (result != CUDA_SUCCESS)
		return result;
	result = sim_address_place(&range, kind, owner, hold, &address);
	if (result != CUDA_SUCCESS)
		sim_vram_reap(&range);
	else
		*address_out = address;
	return result;
}

/* Of calls that a capture forbids. */
static CUresult allocate(CUdeviceptr *address, uint64_t bytes,
			 enum sim_kind kind)
{
	CUresult result = sim_capture_check();

	if (result != CUDA_SUCCESS)
		return result;
	return sim_memory_new(bytes, kind, sim_current()->device, sim_current(),
			      address);
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
	ENTER_CONTEXT(cuMemAlloc_v2);
	return allocate(address, bytes, SIM_ALLOC);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width,
			    size_t height, unsigned int element_bytes)
{
	uint64_t row = (width + PITCH - 1) / PITCH * PITCH;
	CUresult result;

	ENTER_CONTEXT(cuMemAllocPitch_v2);
	if (!pitch || width == 0 || height == 0 ||
	    (element_bytes != 4 && element_bytes != 8 && element_bytes != 16))
		return CUDA_ERROR_INVALID_VALUE;
	if (row < width || height > UINT64_MAX / row)
		return CUDA_ERROR_OUT_OF_MEMORY;
	result = allocate(address, row * height, SIM_ALLOC);
	if (result == CUDA_SUCCESS)
		*pitch = row;
	return result;
}

CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes,
			   unsigned int flags)
{
	ENTER_CONTEXT(cuMemAllocManaged);
	if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)
		return CUDA_ERROR_INVALID_VALUE;
	return allocate(address, bytes, SIM_MANAGED);
}

/* Waits for all work, as the real one does. */
CUresult cuMemFree_v2(CUdeviceptr address)
{
	struct sim_mapping mapping;
	CUresult result;

	ENTER_CONTEXT(cuMemFree_v2);
	if (!address)
		return CUDA_SUCCESS;
	if (!sim_address_find(address, &mapping) ||
	    mapping.address != address ||
	    (mapping.kind != SIM_ALLOC && mapping.kind != SIM_ASYNC &&
	     mapping.kind != SIM_MANAGED) ||
	    sim_is_being_freed(&mapping))
		return CUDA_ERROR_INVALID_VALUE;
	result = sim_capture_check();
	if (result == CUDA_SUCCESS)
		result = sim_wait_for_all();
	if (result != CUDA_SUCCESS)
		return result;
	result = sim_address_remove(address, mapping.kind);
	if (result == CUDA_SUCCESS && mapping.kind == SIM_ASYNC)
		sim_pool_forget(&mapping);
	return result;
}

CUresult cuMemGetInfo_v2(size_t *free_out, size_t *total_out)
{
	CUresult result;
	uint64_t used;

	ENTER_CONTEXT(cuMemGetInfo_v2);
	if (!free_out || !total_out)
		return CUDA_ERROR_INVALID_VALUE;
	result = sim_vram_used(&used);
	if (result != CUDA_SUCCESS)
		return result;
	*total_out = sim_vram_total();
	*free_out = *total_out - used;
	return CUDA_SUCCESS;
}

/* ---- legacy IPC ---- */

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address)
{
	struct ticket ticket = { .magic = TICKET_MAGIC };
	struct sim_mapping mapping;

	ENTER_CONTEXT(cuIpcGetMemHandle);
	if (!handle || !sim_address_find(address, &mapping) ||
	    mapping.kind != SIM_ALLOC)
		return CUDA_ERROR_INVALID_VALUE;
	sim_vram_identity(&ticket.device, &ticket.inode);
	ticket.range = mapping.range;
	ticket.process = (uint64_t)getpid();
	memset(handle, 0, sizeof(*handle));
	memcpy(handle, &ticket, sizeof(ticket));
	return CUDA_SUCCESS;
}

static CUresult check_ticket(const struct ticket *ticket)
{
	uint64_t device;
	uint64_t inode;

	if (ticket->magic != TICKET_MAGIC)
		return CUDA_ERROR_INVALID_VALUE;
	sim_vram_identity(&device, &inode);
	if (ticket->device != device || ticket->inode != inode)
		return CUDA_ERROR_INVALID_DEVICE;
	/* Not to be opened where it was made. */
	if (ticket->process == (uint64_t)getpid())
		return CUDA_ERROR_INVALID_CONTEXT;
	return CUDA_SUCCESS;
}

static CUresult open_handle(CUdeviceptr *address_out,
			    const CUipcMemHandle *handle, unsigned int flags)
{
	struct ticket ticket;
	uint64_t address;
	CUresult result;
	int hold;

	if (!address_out || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&ticket, handle, sizeof(ticket));
	result = check_ticket(&ticket);
	if (result != CUDA_SUCCESS)
		return result;
	if (!sim_address_reopen(&ticket.range, &address)) {
		result = sim_vram_join(&ticket.range, &hold);
		if (result == CUDA_SUCCESS)
			result = sim_address_place(&ticket.range, SIM_IMPORT,
						   sim_current(), hold,
						   &address);
	}
	if (result == CUDA_SUCCESS)
		*address_out = address;
	return result;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle handle,
			       unsigned int flags)
{
	ENTER_CONTEXT(cuIpcOpenMemHandle_v2);
	return open_handle(address, &handle, flags);
}

CUresult cuIpcOpenMemHandle(CUdeviceptr *address, CUipcMemHandle handle,
			    unsigned int flags)
{
	ENTER_CONTEXT(cuIpcOpenMemHandle);
	return open_handle(address, &handle, flags);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address)
{
	CUresult result;

	ENTER_CONTEXT(cuIpcCloseMemHandle);
	result = sim_wait_for_all();
	if (result != CUDA_SUCCESS)
		return result;
	return sim_address_remove(address, SIM_IMPORT);
}

/* ---- pinned host memory ---- */

CUresult cuMemHostAlloc(void **memory_out, size_t bytes, unsigned int flags)
{
	CUresult result;
	void *memory;

	ENTER_CONTEXT(cuMemHostAlloc);
	if (!memory_out || bytes == 0 || flags > 7)
		return CUDA_ERROR_INVALID_VALUE;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	result = sim_address_add_host(memory, bytes, SIM_HOST);
	if (result == CUDA_SUCCESS)
		*memory_out = memory;
	else
		munmap(memory, bytes);
	return result;
}

CUresult cuMemFreeHost(void *memory)
{
	CUresult result;
	uint64_t bytes;

	ENTER_CONTEXT(cuMemFreeHost);
	result = sim_wait_for_all();
	if (result == CUDA_SUCCESS)
		result = sim_address_take_host(memory, SIM_HOST, &bytes);
	if (result == CUDA_SUCCESS)
		munmap(memory, bytes);
	return result;
}

CUresult cuMemHostRegister_v2(void *memory, size_t bytes, unsigned int flags)
{
	ENTER_CONTEXT(cuMemHostRegister_v2);
	if (!memory || bytes == 0 || flags > 15)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_address_add_host(memory, bytes, SIM_REGISTERED);
}

CUresult cuMemHostUnregister(void *memory)
{
	uint64_t bytes;

	ENTER_CONTEXT(cuMemHostUnregister);
	if (sim_address_take_host(memory, SIM_REGISTERED, &bytes) !=
	    CUDA_SUCCESS)
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	return CUDA_SUCCESS;
}
