/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Plain allocations, their sharing by legacy IPC, and pinned host memory. */
#include "device/sim/address.h"
#include "device/sim/entry.h"
#include "device/sim/per_thread.h"
#include "device/sim/work.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

/* Frees an allocation when the stream gets there. */
struct free_op {
	struct sim_op op;
	uint64_t address;
};

static CUresult allocate(CUdeviceptr *address_out, uint64_t bytes)
{
	struct sim_range range;
	uint64_t address;
	uint64_t rounded;
	CUresult result;
	int hold;

	if (!address_out || bytes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	rounded = (bytes + SIM_GRANULARITY - 1) / SIM_GRANULARITY *
		  SIM_GRANULARITY;
	if (rounded < bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	result = sim_vram_create(rounded, &range, &hold);
	if (result != CUDA_SUCCESS)
		return result;
	result = sim_address_place(&range, SIM_ALLOC, hold, &address);
	if (result != CUDA_SUCCESS)
		sim_vram_reap(&range);
	else
		*address_out = address;
	return result;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
	CUresult result;

	ENTER_CONTEXT(cuMemAlloc_v2);
	result = sim_capture_check();
	return result == CUDA_SUCCESS ? allocate(address, bytes) : result;
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
	    mapping.address != address || mapping.kind != SIM_ALLOC)
		return CUDA_ERROR_INVALID_VALUE;
	result = sim_capture_check();
	if (result == CUDA_SUCCESS)
		result = sim_wait_for_all();
	if (result != CUDA_SUCCESS)
		return result;
	return sim_address_remove(address, SIM_ALLOC);
}

static CUresult allocate_async(CUdeviceptr *address, uint64_t bytes,
			       CUstream stream)
{
	(void)stream;
	return allocate(address, bytes);
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream)
{
	ENTER_CONTEXT(cuMemAllocAsync);
	return allocate_async(address, bytes, stream);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *address, size_t bytes,
			      CUstream stream)
{
	ENTER_CONTEXT(cuMemAllocAsync_ptsz);
	return allocate_async(address, bytes, sim_own_stream(stream));
}

static CUresult run_free(struct sim_op *op)
{
	return sim_address_remove(((struct free_op *)op)->address, SIM_ALLOC);
}

static CUresult free_async(CUdeviceptr address, CUstream stream)
{
	struct sim_mapping mapping;
	struct free_op *op;

	if (!address)
		return CUDA_SUCCESS;
	if (!sim_address_find(address, &mapping) ||
	    mapping.address != address || mapping.kind != SIM_ALLOC)
		return CUDA_ERROR_INVALID_VALUE;
	op = sim_op_new(sizeof(*op), run_free);
	if (!op)
		return CUDA_ERROR_OUT_OF_MEMORY;
	op->address = address;
	return sim_submit(stream, &op->op);
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream)
{
	ENTER_CONTEXT(cuMemFreeAsync);
	return free_async(address, stream);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream)
{
	ENTER_CONTEXT(cuMemFreeAsync_ptsz);
	return free_async(address, sim_own_stream(stream));
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device)
{
	static char the_pool; /* memory is never kept: nothing to hold */

	ENTER(cuDeviceGetDefaultMemPool);
	if (!pool)
		return CUDA_ERROR_INVALID_VALUE;
	if (device != 0)
		return CUDA_ERROR_INVALID_DEVICE;
	*pool = (CUmemoryPool)&the_pool;
	return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute,
			       void *value)
{
	ENTER(cuMemPoolSetAttribute);
	if (!pool || !value || attribute != CU_MEMPOOL_ATTR_RELEASE_THRESHOLD)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
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

/* ---- attributes ---- */

static CUresult write_attribute(void *value, CUpointer_attribute attribute,
				const struct sim_mapping *mapping)
{
	bool is_host =
		mapping->kind == SIM_HOST || mapping->kind == SIM_REGISTERED;
	int number;

	switch (attribute) {
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
		memcpy(value, &mapping->address, sizeof(mapping->address));
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
		memcpy(value, &mapping->bytes, sizeof(mapping->bytes));
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MAPPED:
		memcpy(value, &(bool){ true }, sizeof(bool));
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
		memcpy(value, &(bool){ mapping->kind == SIM_ALLOC },
		       sizeof(bool));
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
		number = is_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
		break;
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		number = 0;
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	memcpy(value, &number, sizeof(number));
	return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute,
			       CUdeviceptr address)
{
	struct sim_mapping mapping;

	ENTER_CONTEXT(cuPointerGetAttribute);
	if (!value || !sim_address_find(address, &mapping))
		return CUDA_ERROR_INVALID_VALUE;
	return write_attribute(value, attribute, &mapping);
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

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *address_out, CUipcMemHandle handle,
			       unsigned int flags)
{
	struct ticket ticket;
	uint64_t address;
	CUresult result;
	int hold;

	ENTER_CONTEXT(cuIpcOpenMemHandle_v2);
	if (!address_out || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&ticket, &handle, sizeof(ticket));
	result = check_ticket(&ticket);
	if (result != CUDA_SUCCESS)
		return result;
	if (!sim_address_reopen(&ticket.range, &address)) {
		result = sim_vram_join(&ticket.range, &hold);
		if (result == CUDA_SUCCESS)
			result = sim_address_place(&ticket.range, SIM_IMPORT,
						   hold, &address);
	}
	if (result == CUDA_SUCCESS)
		*address_out = address;
	return result;
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
