/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What comes of captures: graphs, clones, executables. Each keeps the blocks
 * that were freed during the capture, since it may name them.
 */
#include "preload/held.h"
#include "preload/hooks.h"
#include "preload/outside.h"
#include "preload/state.h"

CUresult cuGraphClone(CUgraph *clone, CUgraph graph)
{
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuGraphClone(clone, graph);
	if (result == CUDA_SUCCESS && pl_is_alive())
		pl_family_grow(graph, *clone);
	return result;
}

static CUresult made(CUresult result, const CUgraphExec *exec, CUgraph graph)
{
	if (result != CUDA_SUCCESS || !pl_is_alive())
		return result;
	pl_family_grow(graph, *exec);
	pl_graph_made(graph, *exec);
	return result;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph,
				     unsigned long long flags)
{
	PL_GUARD();

	return made(
		pl_driver()->cuGraphInstantiateWithFlags(exec, graph, flags),
		exec, graph);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph,
				      CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
	PL_GUARD();

	return made(
		pl_driver()->cuGraphInstantiateWithParams(exec, graph, params),
		exec, graph);
}

CUresult
cuGraphInstantiateWithParams_ptsz(CUgraphExec *exec, CUgraph graph,
				  CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
	PL_GUARD();

	return made(pl_driver()->cuGraphInstantiateWithParams_ptsz(exec, graph,
								   params),
		    exec, graph);
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, CUgraphNode *node,
			    char *log, size_t bytes)
{
	PL_GUARD();

	return made(
		pl_driver()->cuGraphInstantiate(exec, graph, node, log, bytes),
		exec, graph);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph,
			       CUgraphNode *node, char *log, size_t bytes)
{
	PL_GUARD();

	return made(pl_driver()->cuGraphInstantiate_v2(exec, graph, node, log,
						       bytes),
		    exec, graph);
}

/* ---- one that comes to use what another names ---- */

static CUresult uses(CUresult result, const void *user, CUgraph graph)
{
	if (result == CUDA_SUCCESS && pl_is_alive())
		pl_family_grow(graph, user);
	return result;
}

/* It names nothing any more but what @graph does, or it would hold whatever it
 * ever named: launches that are under way are waited for by the frees. */
static CUresult updated(CUresult result, CUgraphExec exec, CUgraph graph)
{
	struct pl_member *before;

	if (result != CUDA_SUCCESS || !pl_is_alive())
		return result;
	before = pl_family_detach(exec);
	pl_family_grow(graph, exec);
	pl_family_settle(before, true);
	return result;
}

CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode *node,
			   CUgraphExecUpdateResult *outcome)
{
	PL_GUARD();

	return updated(
		pl_driver()->cuGraphExecUpdate(exec, graph, node, outcome),
		exec, graph);
}

CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph,
			      CUgraphExecUpdateResultInfo *outcome)
{
	PL_GUARD();

	return updated(pl_driver()->cuGraphExecUpdate_v2(exec, graph, outcome),
		       exec, graph);
}

CUresult cuGraphAddChildGraphNode(CUgraphNode *node, CUgraph graph,
				  const CUgraphNode *dependencies, size_t count,
				  CUgraph child)
{
	PL_GUARD();

	return uses(pl_driver()->cuGraphAddChildGraphNode(
			    node, graph, dependencies, count, child),
		    graph, child);
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node,
					    CUgraph child)
{
	PL_GUARD();

	return uses(pl_driver()->cuGraphExecChildGraphNodeSetParams(exec, node,
								    child),
		    exec, child);
}

/* ---- their end ---- */

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	struct pl_member *detached = NULL;
	CUresult result;
	PL_GUARD();

	if (!pl_is_alive())
		return pl_driver()->cuGraphExecDestroy(exec);
	detached = pl_family_detach(exec);
	result = pl_driver()->cuGraphExecDestroy(exec);
	pl_family_settle(detached, result == CUDA_SUCCESS);
	if (result == CUDA_SUCCESS)
		pl_executable_gone(exec);
	return result;
}

CUresult cuGraphDestroy(CUgraph graph)
{
	struct pl_member *detached;
	CUresult result;
	PL_GUARD();

	if (!pl_is_alive())
		return pl_driver()->cuGraphDestroy(graph);
	detached = pl_family_detach(graph);
	result = pl_driver()->cuGraphDestroy(graph);
	pl_family_settle(detached, result == CUDA_SUCCESS);
	if (result == CUDA_SUCCESS)
		pl_graph_gone(graph);
	return result;
}
