/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/pretend_preload.h"

#include <string.h>

#include "preload/context.h"
#include "preload/driver.h"
#include "preload/held.h"
#include "preload/ledger.h"
#include "preload/memory.h"
#include "tests/support/harness.h"

struct th_world th_world;

/* Nobody looks inside. */
static char the_pool;

/* ---- the driver ---- */

static CUresult answer(void)
{
	CUresult result = th_world.refuses;

	th_world.refuses = CUDA_SUCCESS;
	th_world.calls++;
	return result;
}

static CUresult give(void *out)
{
	CUresult result = answer();

	if (result == CUDA_SUCCESS)
		memcpy(out, &th_world.gives, sizeof(th_world.gives));
	return result;
}

static CUresult get_current(CUcontext *context)
{
	*context = th_world.context;
	return CUDA_SUCCESS;
}

static CUresult alloc_managed(CUdeviceptr *address, size_t bytes,
			      unsigned int flags)
{
	(void)bytes, (void)flags;
	return give(address);
}

static CUresult free_address(CUdeviceptr address)
{
	(void)address;
	return answer();
}

static CUresult create_array(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *of)
{
	(void)of;
	return give(array);
}

static CUresult create_array_3d(CUarray *array,
				const CUDA_ARRAY3D_DESCRIPTOR *of)
{
	(void)of;
	return give(array);
}

static CUresult destroy_array(CUarray array)
{
	(void)array;
	return answer();
}

static CUresult create_mipmap(CUmipmappedArray *array,
			      const CUDA_ARRAY3D_DESCRIPTOR *of,
			      unsigned int levels)
{
	(void)of, (void)levels;
	return give(array);
}

static CUresult destroy_mipmap(CUmipmappedArray array)
{
	(void)array;
	return answer();
}

static CUresult add_node(CUgraphNode *node, CUgraph graph,
			 const CUgraphNode *dependencies, size_t count,
			 CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	(void)node, (void)graph, (void)dependencies, (void)count, (void)params;
	return answer();
}

static CUresult add_any(CUgraphNode *node, CUgraph graph,
			const CUgraphNode *dependencies, size_t count,
			CUgraphNodeParams *params)
{
	(void)node, (void)graph, (void)dependencies, (void)count, (void)params;
	return answer();
}

static CUresult add_any_v2(CUgraphNode *node, CUgraph graph,
			   const CUgraphNode *dependencies,
			   const CUgraphEdgeData *data, size_t count,
			   CUgraphNodeParams *params)
{
	(void)data;
	return add_any(node, graph, dependencies, count, params);
}

static CUresult trim_graphs(CUdevice device)
{
	(void)device;
	return answer();
}

static CUresult create_object(CUmemGenericAllocationHandle *handle,
			      size_t bytes, const CUmemAllocationProp *prop,
			      unsigned long long flags)
{
	(void)bytes, (void)prop, (void)flags;
	return give(handle);
}

static CUresult release_object(CUmemGenericAllocationHandle handle)
{
	(void)handle;
	return answer();
}

static CUresult map_object(CUdeviceptr address, size_t bytes, size_t offset,
			   CUmemGenericAllocationHandle handle,
			   unsigned long long flags)
{
	(void)address, (void)bytes, (void)offset, (void)handle, (void)flags;
	return answer();
}

static CUresult unmap_object(CUdeviceptr address, size_t bytes)
{
	(void)address, (void)bytes;
	return answer();
}

static CUresult get_ipc(CUipcMemHandle *handle, CUdeviceptr address)
{
	(void)handle, (void)address;
	return answer();
}

static CUresult open_ipc(CUdeviceptr *address, CUipcMemHandle handle,
			 unsigned int flags)
{
	(void)handle, (void)flags;
	return give(address);
}

static CUresult close_ipc(CUdeviceptr address)
{
	(void)address;
	return answer();
}

static CUresult retain_object(CUmemGenericAllocationHandle *handle,
			      void *address)
{
	(void)address;
	return give(handle);
}

static CUresult export_object(void *shareable,
			      CUmemGenericAllocationHandle handle,
			      CUmemAllocationHandleType type,
			      unsigned long long flags)
{
	(void)shareable, (void)handle, (void)type, (void)flags;
	return answer();
}

const struct dv_driver *pl_driver(void)
{
	static const struct dv_driver driver = {
		.cuCtxGetCurrent = get_current,
		.cuMemAllocManaged = alloc_managed,
		.cuMemFree_v2 = free_address,
		.cuArrayCreate_v2 = create_array,
		.cuArray3DCreate_v2 = create_array_3d,
		.cuArrayDestroy = destroy_array,
		.cuMipmappedArrayCreate = create_mipmap,
		.cuMipmappedArrayDestroy = destroy_mipmap,
		.cuGraphAddMemAllocNode = add_node,
		.cuGraphAddNode = add_any,
		.cuGraphAddNode_v2 = add_any_v2,
		.cuDeviceGraphMemTrim = trim_graphs,
		.cuMemCreate = create_object,
		.cuMemRelease = release_object,
		.cuMemMap = map_object,
		.cuMemUnmap = unmap_object,
		.cuIpcGetMemHandle = get_ipc,
		.cuIpcOpenMemHandle = open_ipc,
		.cuIpcOpenMemHandle_v2 = open_ipc,
		.cuIpcCloseMemHandle = close_ipc,
		.cuMemRetainAllocationHandle = retain_object,
		.cuMemExportToShareableHandle = export_object,
	};

	return &driver;
}

/* ---- the state ---- */

struct ps_pool *pl_pool(void)
{
	return th_world.has_pool ? (struct ps_pool *)&the_pool : NULL;
}

enum pl_course pl_course_on(CUdevice device, struct ps_pool **pool_out,
			    CUresult *result_out)
{
	*result_out = th_world.attach;
	if (!th_world.has_pool)
		return th_world.attach ? PL_FAIL : PL_PASS;
	*pool_out = pl_pool();
	return device == th_world.pool_device ? PL_SERVE : PL_PASS;
}

enum pl_course pl_course(struct ps_pool **pool_out, CUresult *result_out)
{
	return pl_course_on(th_world.pool_device, pool_out, result_out);
}

bool pl_spills(struct ps_pool *pool, enum ps_status status)
{
	(void)pool;
	return status == PS_OUT_OF_MEMORY && th_world.spills;
}

CUresult pl_refuse(enum ps_status status)
{
	return pl_result(status);
}

CUresult pl_result(enum ps_status status)
{
	switch (status) {
	case PS_OK:
		return CUDA_SUCCESS;
	case PS_OUT_OF_MEMORY:
		return CUDA_ERROR_OUT_OF_MEMORY;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

/* ---- the library ---- */

enum ps_status ps_mem_take_outside(struct ps_pool *pool, uint64_t bytes)
{
	(void)pool;
	if (th_world.take == PS_OK)
		th_world.outside += bytes;
	return th_world.take;
}

enum ps_status ps_mem_give_outside(struct ps_pool *pool, uint64_t bytes)
{
	(void)pool;
	assert_true(bytes <= th_world.outside);
	th_world.outside -= bytes;
	return PS_OK;
}

enum ps_status ps_mem_note_passed(struct ps_pool *pool, int64_t bytes)
{
	(void)pool;
	th_world.passed += bytes;
	assert_true(th_world.passed >= 0);
	return PS_OK;
}

bool ps_mem_is_inside(const struct ps_pool *pool, const void *ptr)
{
	(void)pool;
	return (uint64_t)ptr >= TH_WORLD_INSIDE;
}

enum ps_status ps_mem_export_segment(struct ps_pool *pool, const void *ptr,
				     int *fd_out)
{
	(void)pool, (void)ptr;
	if (th_world.take == PS_OK)
		*fd_out = TH_WORLD_FD;
	return th_world.take;
}

enum ps_status ps_ticket_issue(struct ps_pool *pool, const void *ptr,
			       struct ps_ticket *ticket_out)
{
	(void)pool, (void)ptr;
	memset(ticket_out, 0, sizeof(*ticket_out));
	memcpy(ticket_out, PS_TICKET_MAGIC, strlen(PS_TICKET_MAGIC));
	return th_world.take;
}

enum ps_status ps_ticket_open(struct ps_pool *pool,
			      const struct ps_ticket *ticket, void **ptr_out)
{
	(void)pool, (void)ticket;
	*ptr_out = (void *)TH_WORLD_INSIDE;
	return th_world.take;
}

enum ps_status ps_ticket_close(struct ps_pool *pool, void *ptr)
{
	(void)pool, (void)ptr;
	return th_world.take;
}

/* ---- tests ---- */

static uint32_t entries(void)
{
	uint64_t bytes;
	uint32_t count = 0;

	for (int kind = PL_KIND_PLAIN; kind < PL_KINDS; kind++)
		count += pl_ledger_sum((enum pl_kind)kind, &bytes);
	return count;
}

int th_world_reset(void **state)
{
	(void)state;
	th_world = (struct th_world){
		.has_pool = true,
		.gives = 0x1000,
		.context = (CUcontext)&the_pool,
	};
	return 0;
}

int th_world_check(void **state)
{
	(void)state;
	if (entries() == 0 && th_world.outside == 0 && th_world.passed == 0)
		return 0;
	print_error("left: %u entries, %llu bytes outside, %lld passed\n",
		    entries(), (unsigned long long)th_world.outside,
		    (long long)th_world.passed);
	return 1;
}

/* ---- what captures leave, other contexts: not of this world ---- */

bool pl_has_contexts(void)
{
	return false;
}

void pl_settle_block(CUdeviceptr address)
{
	(void)address;
}

bool pl_is_alive(void)
{
	return true;
}

void pl_family_grow(const void *of, const void *made)
{
	(void)of, (void)made;
}
