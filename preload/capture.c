/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Captures, and the graphs that they leave. */
#include "preload/capture.h"

#include "preload/hooks.h"

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
	return pl_driver()->cuStreamBeginCapture_v2(stream, mode);
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode)
{
	return pl_driver()->cuStreamBeginCapture_v2_ptsz(stream, mode);
}

CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph,
				     const CUgraphNode *dependencies,
				     const CUgraphEdgeData *data, size_t count,
				     CUstreamCaptureMode mode)
{
	return pl_driver()->cuStreamBeginCaptureToGraph(
		stream, graph, dependencies, data, count, mode);
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph,
					  const CUgraphNode *dependencies,
					  const CUgraphEdgeData *data,
					  size_t count,
					  CUstreamCaptureMode mode)
{
	return pl_driver()->cuStreamBeginCaptureToGraph_ptsz(
		stream, graph, dependencies, data, count, mode);
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
	return pl_driver()->cuStreamEndCapture(stream, graph);
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph)
{
	return pl_driver()->cuStreamEndCapture_ptsz(stream, graph);
}

CUresult cuGraphClone(CUgraph *clone, CUgraph graph)
{
	return pl_driver()->cuGraphClone(clone, graph);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph,
				     unsigned long long flags)
{
	return pl_driver()->cuGraphInstantiateWithFlags(exec, graph, flags);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph,
				      CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
	return pl_driver()->cuGraphInstantiateWithParams(exec, graph, params);
}

CUresult
cuGraphInstantiateWithParams_ptsz(CUgraphExec *exec, CUgraph graph,
				  CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
	return pl_driver()->cuGraphInstantiateWithParams_ptsz(exec, graph,
							      params);
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	return pl_driver()->cuGraphExecDestroy(exec);
}

CUresult cuGraphDestroy(CUgraph graph)
{
	return pl_driver()->cuGraphDestroy(graph);
}
