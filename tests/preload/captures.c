/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Captures, and memory that graphs name. Of a quota of 20 MiB a block takes
 * 12: there is a second only when the first is free for good.
 */
#include "tests/preload/gate.h"
#include "tests/preload/memory.h"

#define MIB ((size_t)1 << 20)
#define MOST (12 * MIB)

static CUstream stream;

static CUdeviceptr take(void)
{
	CUdeviceptr address = 0;

	TH_CU(th_cu.cuMemAlloc_v2(&address, MOST));
	return address;
}

static bool is_free(void)
{
	CUdeviceptr address;
	CUresult result = th_cu.cuMemAlloc_v2(&address, MOST);

	if (result == CUDA_SUCCESS)
		TH_CU(th_cu.cuMemFree_v2(address));
	else
		TH_CHECK(result == CUDA_ERROR_OUT_OF_MEMORY);
	return result == CUDA_SUCCESS;
}

static void begin(void)
{
	TH_CU(th_cu.cuStreamBeginCapture_v2(stream,
					    CU_STREAM_CAPTURE_MODE_GLOBAL));
}

static CUgraph end(void)
{
	CUgraph graph = NULL;

	TH_CU(th_cu.cuStreamEndCapture(stream, &graph));
	TH_CHECK(graph != NULL);
	return graph;
}

/* A graph that was being captured when the block was freed. */
static CUgraph capture_free(void)
{
	CUdeviceptr address;
	CUgraph graph;

	th_cuda_open();
	stream = th_stream();
	address = take();
	begin();
	TH_CU(th_cu.cuMemFree_v2(address));
	graph = end();
	TH_CHECK(!is_free());
	return graph;
}

static CUgraphExec make(CUgraph graph)
{
	CUgraphExec exec;

	TH_CU(th_cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
	return exec;
}

/* ---- the capture ---- */

/* The driver alone would refuse, and spoil the capture. */
static void allocates(void)
{
	CUdeviceptr address;

	th_cuda_open();
	stream = th_stream();
	begin();
	address = take();
	TH_CU(th_cu.cuGraphDestroy(end()));
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 0);
}

/* What was freed before wants a fence, which would spoil a capture that nobody
 * but the program sees. */
static void is_kept(void)
{
	CUdeviceptr small, all;

	th_cuda_open();
	stream = th_stream();
	TH_CU(th_cu.cuMemAlloc_v2(&small, MIB));
	TH_CU(th_cu.cuMemFree_v2(small));
	begin();
	TH_CU_IS(th_cu.cuMemAlloc_v2(&all, 20 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
	TH_CU(th_cu.cuGraphDestroy(end()));
	TH_CU(th_cu.cuMemAlloc_v2(&all, 20 * MIB));
	TH_CU(th_cu.cuMemFree_v2(all));
}

static void frees_twice(void)
{
	CUdeviceptr address;
	CUgraph graph;

	th_cuda_open();
	stream = th_stream();
	address = take();
	begin();
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CU_IS(th_cu.cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
	TH_CU_IS(th_cu.cuMemFreeAsync(address, stream),
		 CUDA_ERROR_INVALID_VALUE);
	TH_CU_IS(th_cu.cuMemFree_v2(address + 512), CUDA_ERROR_INVALID_VALUE);
	graph = end();
	TH_CU_IS(th_cu.cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
	TH_CU(th_cu.cuGraphDestroy(graph));
	TH_CHECK(is_free());
}

/* What is allocated in the order of a capturing stream is the graph's. */
static void allocates_for_graph(void)
{
	size_t before, during, total;
	CUdeviceptr address;
	CUgraph graph;

	th_cuda_open();
	stream = th_stream();
	TH_CU(th_cu.cuMemGetInfo_v2(&before, &total));
	begin();
	TH_CU(th_cu.cuMemAllocAsync(&address, 4 * MIB, stream));
	graph = end();
	TH_CHECK(th_driver_calls("cuMemAllocAsync") == 1);
	TH_CU(th_cu.cuMemGetInfo_v2(&during, &total));
	TH_CHECK(during == before - 4 * MIB);
	TH_CU(th_cu.cuGraphDestroy(graph));
	TH_CU(th_cu.cuDeviceGraphMemTrim(0));
	TH_CU(th_cu.cuMemGetInfo_v2(&during, &total));
	TH_CHECK(during == before);
}

/* The first allocation of all comes while a stream captures. */
static void attaches_meanwhile(void)
{
	CUdeviceptr address;

	th_cuda_open();
	stream = th_stream();
	begin();
	address = take();
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CU(th_cu.cuGraphDestroy(end()));
	TH_CHECK(is_free());
}

/* ---- what comes of it ---- */

static void graph(void)
{
	CUgraph captured = capture_free();

	TH_CU(th_cu.cuGraphDestroy(captured));
	TH_CHECK(is_free());
}

static void executable(void)
{
	CUgraph captured = capture_free();
	CUgraphExec exec = make(captured);

	TH_CU(th_cu.cuGraphDestroy(captured));
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphExecDestroy(exec));
	TH_CHECK(is_free());
}

static void clone(void)
{
	CUgraph captured = capture_free(), copy;
	CUgraphExec exec;

	TH_CU(th_cu.cuGraphClone(&copy, captured));
	TH_CU(th_cu.cuGraphDestroy(captured));
	exec = make(copy);
	TH_CU(th_cu.cuGraphDestroy(copy));
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphExecDestroy(exec));
	TH_CHECK(is_free());
}

static CUgraph capture_nothing(void)
{
	begin();
	return end();
}

static void child(void)
{
	CUgraph captured = capture_free(), parent = capture_nothing();
	CUgraphNode node;

	TH_CU(th_cu.cuGraphAddChildGraphNode(&node, parent, NULL, 0, captured));
	TH_CU(th_cu.cuGraphDestroy(captured));
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphDestroy(parent));
	TH_CHECK(is_free());
}

/* By the call that adds nodes of any type. */
static void child_node(void)
{
	CUgraph captured = capture_free(), parent = capture_nothing();
	CUgraphNodeParams params = { .type = CU_GRAPH_NODE_TYPE_GRAPH,
				     .child = captured };
	CUgraphNode node;

	TH_CU(th_cu.cuGraphAddNode(&node, parent, NULL, 0, &params));
	TH_CU(th_cu.cuGraphDestroy(captured));
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphDestroy(parent));
	TH_CHECK(is_free());
}

static void updated(void)
{
	CUgraph captured = capture_free(), other = capture_nothing();
	CUgraphExec exec = make(other);
	CUgraphExecUpdateResultInfo info;

	TH_CU(th_cu.cuGraphExecUpdate_v2(exec, captured, &info));
	TH_CU(th_cu.cuGraphDestroy(captured));
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphExecDestroy(exec));
	TH_CHECK(is_free());
	TH_CU(th_cu.cuGraphDestroy(other));
}

/* An executable that is updated again and again holds what it names now. */
static void updated_away(void)
{
	CUgraph captured = capture_free(), other = capture_nothing();
	CUgraphExec exec = make(captured);
	CUgraphExecUpdateResultInfo info;

	TH_CU(th_cu.cuGraphDestroy(captured));
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphExecUpdate_v2(exec, other, &info));
	TH_CHECK(is_free());
	TH_CU(th_cu.cuGraphExecDestroy(exec));
	TH_CU(th_cu.cuGraphDestroy(other));
}

static void made_as_of_old(void)
{
	CUgraph captured = capture_free();
	CUgraphExec exec;

	TH_CU(th_cu.cuGraphInstantiate_v2(&exec, captured, NULL, NULL, 0));
	TH_CU(th_cu.cuGraphDestroy(captured));
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphExecDestroy(exec));
	TH_CHECK(is_free());
}

static void into_graph(void)
{
	CUgraph target = capture_free(), got;
	CUdeviceptr address;

	TH_CU(th_cu.cuMemAlloc_v2(&address, 4 * MIB));
	TH_CU(th_cu.cuStreamBeginCaptureToGraph(stream, target, NULL, NULL, 0,
						CU_STREAM_CAPTURE_MODE_GLOBAL));
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CU(th_cu.cuStreamEndCapture(stream, &got));
	TH_CHECK(got == target);
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphDestroy(target));
	TH_CHECK(is_free());
}

/* A block waits for all graphs that were being captured. */
static void two_at_once(void)
{
	CUstream other;
	CUgraph first, second;
	CUdeviceptr address;

	th_cuda_open();
	stream = th_stream();
	other = th_stream();
	address = take();
	begin();
	TH_CU(th_cu.cuStreamBeginCapture_v2(other,
					    CU_STREAM_CAPTURE_MODE_GLOBAL));
	TH_CU(th_cu.cuMemFreeAsync(address, NULL));
	first = end();
	TH_CU(th_cu.cuStreamEndCapture(other, &second));
	TH_CU(th_cu.cuGraphDestroy(first));
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphDestroy(second));
	TH_CHECK(is_free());
}

/* Begun as CUDA 10.0 had it, which the runtime library looks up still. */
static void begun_as_of_old(void)
{
	CUdeviceptr address;
	CUgraph graph;

	th_cuda_open();
	stream = th_stream();
	address = take();
	TH_CU(th_cu.cuStreamBeginCapture(stream));
	TH_CU(th_cu.cuMemFree_v2(address));
	graph = end();
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphDestroy(graph));
	TH_CHECK(is_free());
}

/* ---- captures that come to nothing ---- */

static void refused(void)
{
	CUdeviceptr address;

	th_cuda_open();
	stream = th_stream();
	TH_CU_IS(th_cu.cuStreamBeginCapture_v2(NULL, 0),
		 CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	address = take();
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CHECK(is_free());
}

static void invalidated(void)
{
	CUgraph nothing = NULL;
	CUdeviceptr address;

	th_cuda_open();
	stream = th_stream();
	address = take();
	begin();
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CHECK(th_cu.cuCtxSynchronize() != CUDA_SUCCESS);
	TH_CU_IS(th_cu.cuStreamEndCapture(stream, &nothing),
		 CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	TH_CHECK(is_free());
}

/* The end of a capture that never was leaves the one that is. */
static void ended_wrongly(void)
{
	CUstream other;
	CUgraph nothing;
	CUdeviceptr address;

	th_cuda_open();
	stream = th_stream();
	other = th_stream();
	address = take();
	begin();
	TH_CHECK(th_cu.cuStreamEndCapture(other, &nothing) != CUDA_SUCCESS);
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CHECK(!is_free());
	TH_CU(th_cu.cuGraphDestroy(end()));
	TH_CHECK(is_free());
}

static void stream_destroyed(void)
{
	CUdeviceptr address;

	th_cuda_open();
	stream = th_stream();
	address = take();
	begin();
	TH_CU(th_cu.cuMemFree_v2(address));
	(void)th_cu.cuStreamDestroy_v2(stream);
	TH_CHECK(is_free());
}

TH_PROGRAM({ "allocates", allocates }, { "is_kept", is_kept },
	   { "frees_twice", frees_twice },
	   { "allocates_for_graph", allocates_for_graph },
	   { "attaches_meanwhile", attaches_meanwhile }, { "graph", graph },
	   { "executable", executable }, { "clone", clone }, { "child", child },
	   { "child_node", child_node }, { "updated", updated },
	   { "updated_away", updated_away },
	   { "made_as_of_old", made_as_of_old },
	   { "begun_as_of_old", begun_as_of_old }, { "into_graph", into_graph },
	   { "two_at_once", two_at_once }, { "refused", refused },
	   { "invalidated", invalidated }, { "ended_wrongly", ended_wrongly },
	   { "stream_destroyed", stream_destroyed })
