/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory that belongs to graphs, by the graph, then its executable, then
 * nobody: the driver keeps it for the next one.
 *
 * In the ledger each has one entry for what room was made for and one for what
 * was only counted: the key is the handle, which is even, plus the toll.
 */
#include "preload/held.h"
#include "preload/hooks.h"
#include "preload/outside.h"
#include "preload/state.h"

#define TOLLS 2
static const enum pl_toll tolls[TOLLS] = { PL_TOLL_ROOM, PL_TOLL_PASSED };

/* The handle that stands for what nobody has. */
#define NOBODY 0

static uint64_t key_of(uint64_t handle, enum pl_toll toll)
{
	return handle + (toll == PL_TOLL_PASSED ? 1 : 0);
}

/* pre: entry->toll, pool, bytes. @of: an executable's graph while it is. */
static enum ps_status give_to(uint64_t handle, uint64_t of,
			      struct pl_entry *entry)
{
	entry->kind = PL_KIND_GRAPH;
	entry->key = key_of(handle, entry->toll);
	entry->other = of;
	return pl_ledger_add(entry);
}

/* Moves what @from has to @to. */
static void move(uint64_t from, uint64_t to, uint64_t of)
{
	struct pl_entry entry;

	for (int i = 0; i < TOLLS; i++)
		if (pl_ledger_take(PL_KIND_GRAPH, key_of(from, tolls[i]),
				   &entry) &&
		    give_to(to, of, &entry) != PS_OK)
			pl_room_give(&entry);
}

/* Of what the driver keeps for nobody, at most @bytes for this graph. */
static uint64_t reuse(uint64_t graph, uint64_t bytes)
{
	struct pl_entry kept, used;

	if (!pl_ledger_take(PL_KIND_GRAPH, key_of(NOBODY, PL_TOLL_ROOM), &kept))
		return 0;
	used = kept;
	used.bytes = kept.bytes < bytes ? kept.bytes : bytes;
	kept.bytes -= used.bytes;
	if (kept.bytes > 0 && give_to(NOBODY, 0, &kept) != PS_OK)
		pl_room_give(&kept);
	if (give_to(graph, 0, &used) != PS_OK) {
		pl_room_give(&used);
		return 0;
	}
	return used.bytes;
}

CUresult pl_graph_take(CUdevice device, CUgraph graph, uint64_t bytes)
{
	struct pl_entry entry = { .kind = PL_KIND_GRAPH };
	struct ps_pool *pool;
	CUresult result;

	switch (pl_course_on(device, &pool, &result)) {
	case PL_FAIL:
		return result;
	case PL_PASS:
		return CUDA_SUCCESS;
	default:
		break;
	}
	entry.bytes = bytes - reuse((uintptr_t)graph, bytes);
	result = pl_room_take(device, &entry);
	if (result != CUDA_SUCCESS || entry.toll == PL_TOLL_NONE)
		return result;
	if (give_to((uintptr_t)graph, 0, &entry) == PS_OK)
		return CUDA_SUCCESS;
	pl_room_give(&entry);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

void pl_graph_become(CUgraph from, CUgraph to)
{
	move((uintptr_t)from, (uintptr_t)to, 0);
}

void pl_graph_made(CUgraph graph, CUgraphExec executable)
{
	move((uintptr_t)graph, (uintptr_t)executable, (uintptr_t)graph);
}

/* What its executable has stays there, and does not come back. */
void pl_graph_gone(CUgraph graph)
{
	struct pl_entry entry;

	while (pl_ledger_take_of(PL_KIND_GRAPH, (uintptr_t)graph, &entry))
		if (give_to(entry.key - (entry.toll == PL_TOLL_PASSED), 0,
			    &entry) != PS_OK)
			pl_room_give(&entry);
	move((uintptr_t)graph, NOBODY, 0);
}

void pl_executable_gone(CUgraphExec executable)
{
	struct pl_entry entry;
	uint64_t graph = NOBODY;

	for (int i = 0; i < TOLLS; i++)
		if (pl_ledger_find(PL_KIND_GRAPH,
				   key_of((uintptr_t)executable, tolls[i]),
				   &entry))
			graph = entry.other;
	move((uintptr_t)executable, graph, 0);
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph,
				const CUgraphNode *dependencies, size_t count,
				CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	CUresult result = CUDA_SUCCESS;

	PL_GUARD();
	if (graph && params)
		result = pl_graph_take(params->poolProps.location.id, graph,
				       params->bytesize);
	if (result != CUDA_SUCCESS)
		return result;
	return pl_driver()->cuGraphAddMemAllocNode(node, graph, dependencies,
						   count, params);
}

/* Of nodes of any type those that allocate. */
static CUresult take_for_node(CUgraph graph, const CUgraphNodeParams *params)
{
	if (!graph || !params || params->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC)
		return CUDA_SUCCESS;
	return pl_graph_take(params->alloc.poolProps.location.id, graph,
			     params->alloc.bytesize);
}

/* A graph inside of another has what it names, and the other has it then. */
static CUresult added(CUresult result, CUgraph graph,
		      const CUgraphNodeParams *params)
{
	if (result == CUDA_SUCCESS && pl_is_alive() &&
	    params->type == CU_GRAPH_NODE_TYPE_GRAPH)
		pl_family_grow(params->child, graph);
	return result;
}

CUresult cuGraphAddNode(CUgraphNode *node, CUgraph graph,
			const CUgraphNode *dependencies, size_t count,
			CUgraphNodeParams *params)
{
	CUresult result;

	PL_GUARD();
	result = take_for_node(graph, params);
	if (result != CUDA_SUCCESS)
		return result;
	return added(pl_driver()->cuGraphAddNode(node, graph, dependencies,
						 count, params),
		     graph, params);
}

CUresult cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph,
			   const CUgraphNode *dependencies,
			   const CUgraphEdgeData *data, size_t count,
			   CUgraphNodeParams *params)
{
	CUresult result;

	PL_GUARD();
	result = take_for_node(graph, params);
	if (result != CUDA_SUCCESS)
		return result;
	return added(pl_driver()->cuGraphAddNode_v2(node, graph, dependencies,
						    data, count, params),
		     graph, params);
}

/* The driver has back what nobody has. */
CUresult cuDeviceGraphMemTrim(CUdevice device)
{
	struct pl_entry entry;
	struct ps_pool *pool;
	CUresult result, ignored;

	PL_GUARD();
	result = pl_driver()->cuDeviceGraphMemTrim(device);
	if (result != CUDA_SUCCESS || !pl_pool() ||
	    pl_course_on(device, &pool, &ignored) != PL_SERVE)
		return result;
	for (int i = 0; i < TOLLS; i++)
		if (pl_ledger_take(PL_KIND_GRAPH, key_of(NOBODY, tolls[i]),
				   &entry))
			pl_room_give(&entry);
	return result;
}
