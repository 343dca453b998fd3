/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "device/sim/graph.h"

#include "device/sim/context.h"
#include "device/sim/entry.h"
#include "device/sim/memory.h"
#include "device/sim/work.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* What owns a graph's memory. */
struct store {
	unsigned int holds; /* guarded by lock */
	bool is_used;       /* guarded by lock */
};

/* Captured work: of each graph, instance and launch that it is part of. */
struct step {
	unsigned int holds; /* guarded by lock */
	struct sim_op *op;
};

struct steps {
	struct step **step;
	size_t count;
};

struct CUgraphNode_st {
	struct CUgraphNode_st *next;
};

struct CUgraph_st {
	struct store *store;
	struct CUgraphNode_st *nodes; /* guarded by lock, as are the steps */
	struct steps steps;
};

struct CUgraphExec_st {
	struct store *store;

	/* Guarded by lock. */
	struct steps steps;
	struct sim_point *last; /* of the last launch; the next is behind it */
	size_t last_count;
};

/* A launch, on a stream. */
struct launch {
	struct sim_op op;
	struct steps steps;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct store *hold(struct store *store)
{
	pthread_mutex_lock(&lock);
	store->holds++;
	pthread_mutex_unlock(&lock);
	return store;
}

static void drop(struct store *store)
{
	bool is_last;

	pthread_mutex_lock(&lock);
	is_last = --store->holds == 0;
	pthread_mutex_unlock(&lock);
	if (!is_last)
		return;
	sim_address_remove_all(store);
	free(store);
}

static bool has_memory(CUgraph graph)
{
	bool has;

	pthread_mutex_lock(&lock);
	has = graph->store->is_used;
	pthread_mutex_unlock(&lock);
	return has;
}

/* ---- steps ---- */

static void drop_step(struct step *step)
{
	bool is_last;

	pthread_mutex_lock(&lock);
	is_last = --step->holds == 0;
	pthread_mutex_unlock(&lock);
	if (!is_last)
		return;
	sim_op_free(step->op);
	free(step);
}

static void drop_steps(struct steps *steps)
{
	size_t i;

	for (i = 0; i < steps->count; i++)
		drop_step(steps->step[i]);
	free(steps->step);
	*steps = (struct steps){ NULL, 0 };
}

/* pre: the lock is held. */
static bool add_steps_locked(struct steps *steps, struct step *const *more,
			     size_t count)
{
	struct step **grown;
	size_t i;

	if (count == 0)
		return true;
	grown = realloc(steps->step,
			(steps->count + count) * sizeof(struct step *));
	if (!grown)
		return false;
	steps->step = grown;
	for (i = 0; i < count; i++) {
		more[i]->holds++;
		grown[steps->count++] = more[i];
	}
	return true;
}

static CUresult add_steps(struct steps *steps, const struct steps *more)
{
	bool is_done;

	pthread_mutex_lock(&lock);
	is_done = add_steps_locked(steps, more->step, more->count);
	pthread_mutex_unlock(&lock);
	return is_done ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_graph_add(CUgraph graph, struct sim_op *op)
{
	struct step *step = calloc(1, sizeof(*step));
	bool is_done;

	if (!step)
		return CUDA_ERROR_OUT_OF_MEMORY;
	step->op = op;
	pthread_mutex_lock(&lock);
	is_done = add_steps_locked(&graph->steps, &step, 1);
	pthread_mutex_unlock(&lock);
	if (!is_done)
		free(step);
	return is_done ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

/* ---- graphs ---- */

CUgraph sim_graph_new(void)
{
	CUgraph graph = calloc(1, sizeof(*graph));
	struct store *store = calloc(1, sizeof(*store));

	if (!graph || !store) {
		free(graph);
		free(store);
		return NULL;
	}
	graph->store = hold(store);
	return graph;
}

void sim_graph_free(CUgraph graph)
{
	struct CUgraphNode_st *node;

	if (!graph)
		return;
	while ((node = graph->nodes)) {
		graph->nodes = node->next;
		free(node);
	}
	drop_steps(&graph->steps);
	drop(graph->store);
	free(graph);
}

CUresult sim_graph_allocate(CUgraph graph, uint64_t bytes,
			    CUdeviceptr *address_out)
{
	CUresult result;

	result = sim_memory_new(bytes, SIM_GRAPH, sim_current()->device,
				graph->store, address_out);
	if (result != CUDA_SUCCESS)
		return result;
	pthread_mutex_lock(&lock);
	graph->store->is_used = true;
	pthread_mutex_unlock(&lock);
	return result;
}

CUresult cuGraphDestroy(CUgraph graph)
{
	ENTER(cuGraphDestroy);
	if (!graph)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graph_free(graph);
	return CUDA_SUCCESS;
}

/* One with memory of its own cannot be copied. */
CUresult cuGraphClone(CUgraph *clone, CUgraph graph)
{
	ENTER(cuGraphClone);
	if (!clone || !graph)
		return CUDA_ERROR_INVALID_VALUE;
	if (has_memory(graph))
		return CUDA_ERROR_NOT_SUPPORTED;
	*clone = sim_graph_new();
	return *clone ? add_steps(&(*clone)->steps, &graph->steps)
		      : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult instantiate(CUgraphExec *exec_out, CUgraph graph)
{
	CUgraphExec exec;
	CUresult result;

	if (!exec_out || !graph)
		return CUDA_ERROR_INVALID_VALUE;
	exec = calloc(1, sizeof(*exec));
	if (!exec)
		return CUDA_ERROR_OUT_OF_MEMORY;
	result = add_steps(&exec->steps, &graph->steps);
	if (result != CUDA_SUCCESS) {
		free(exec);
		return result;
	}
	exec->store = hold(graph->store);
	*exec_out = exec;
	return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph,
				     unsigned long long flags)
{
	ENTER_CONTEXT(cuGraphInstantiateWithFlags);
	(void)flags;
	return instantiate(exec, graph);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph,
				      CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
	ENTER_CONTEXT(cuGraphInstantiateWithParams);
	return params ? instantiate(exec, graph) : CUDA_ERROR_INVALID_VALUE;
}

CUresult
cuGraphInstantiateWithParams_ptsz(CUgraphExec *exec, CUgraph graph,
				  CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
	ENTER_CONTEXT(cuGraphInstantiateWithParams_ptsz);
	return params ? instantiate(exec, graph) : CUDA_ERROR_INVALID_VALUE;
}

/* Of CUDA 10 and 11. Nothing can be wrong with a graph here. */
static CUresult instantiate_old(CUgraphExec *exec, CUgraph graph,
				CUgraphNode *error_node, char *log,
				size_t log_bytes)
{
	CUresult result = instantiate(exec, graph);

	if (result == CUDA_SUCCESS && error_node)
		*error_node = NULL;
	if (result == CUDA_SUCCESS && log && log_bytes)
		*log = 0;
	return result;
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph,
			    CUgraphNode *error_node, char *log,
			    size_t log_bytes)
{
	ENTER_CONTEXT(cuGraphInstantiate);
	return instantiate_old(exec, graph, error_node, log, log_bytes);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph,
			       CUgraphNode *error_node, char *log,
			       size_t log_bytes)
{
	ENTER_CONTEXT(cuGraphInstantiate_v2);
	return instantiate_old(exec, graph, error_node, log, log_bytes);
}

/* The other graph's work, from the next launch on. */
static CUresult replace_steps(CUgraphExec exec, CUgraph graph)
{
	struct steps steps = { NULL, 0 };
	struct steps before;
	CUresult result = add_steps(&steps, &graph->steps);

	if (result != CUDA_SUCCESS)
		return result;
	pthread_mutex_lock(&lock);
	before = exec->steps;
	exec->steps = steps;
	pthread_mutex_unlock(&lock);
	drop_steps(&before);
	return CUDA_SUCCESS;
}

/* Of the work anything may differ; memory of its own is fixed. */
static CUresult update(CUgraphExec exec, CUgraph graph,
		       CUgraphExecUpdateResult *outcome)
{
	if (!exec || !graph)
		return CUDA_ERROR_INVALID_VALUE;
	*outcome = exec->store != graph->store && has_memory(graph)
			   ? CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED
			   : CU_GRAPH_EXEC_UPDATE_SUCCESS;
	return *outcome == CU_GRAPH_EXEC_UPDATE_SUCCESS
		       ? replace_steps(exec, graph)
		       : CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
}

CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph,
			   CUgraphNode *error_node,
			   CUgraphExecUpdateResult *outcome)
{
	ENTER_CONTEXT(cuGraphExecUpdate);
	if (!outcome)
		return CUDA_ERROR_INVALID_VALUE;
	if (error_node)
		*error_node = NULL;
	return update(exec, graph, outcome);
}

CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph,
			      CUgraphExecUpdateResultInfo *outcome)
{
	ENTER_CONTEXT(cuGraphExecUpdate_v2);
	if (!outcome)
		return CUDA_ERROR_INVALID_VALUE;
	outcome->errorNode = NULL;
	outcome->errorFromNode = NULL;
	return update(exec, graph, &outcome->result);
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	ENTER(cuGraphExecDestroy);
	if (!exec)
		return CUDA_ERROR_INVALID_VALUE;
	drop_steps(&exec->steps);
	free(exec->last);
	drop(exec->store);
	free(exec);
	return CUDA_SUCCESS;
}

/* ---- launching ---- */

static CUresult run_launch(struct sim_op *op)
{
	struct launch *launch = (struct launch *)op;
	CUresult result = CUDA_SUCCESS;
	size_t i;

	for (i = 0; i < launch->steps.count && result == CUDA_SUCCESS; i++) {
		struct sim_op *step = launch->steps.step[i]->op;

		if (sim_work_is_ending())
			break;
		result = step->run(step);
	}
	return result;
}

static void end_launch(struct sim_op *op)
{
	drop_steps(&((struct launch *)op)->steps);
}

/* The launch is what the next one of the same waits for. */
static CUresult note_launch(CUgraphExec exec, CUstream stream)
{
	struct sim_point *points;
	struct sim_point *before;
	CUresult result;
	size_t count;

	result = sim_points_of(stream, &points, &count);
	if (result != CUDA_SUCCESS)
		return result;
	pthread_mutex_lock(&lock);
	before = exec->last;
	exec->last = points;
	exec->last_count = count;
	pthread_mutex_unlock(&lock);
	free(before);
	return CUDA_SUCCESS;
}

/* As for the real one, two threads do not launch the same at once. */
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
	struct launch *launch;
	CUresult result;

	ENTER_CONTEXT(cuGraphLaunch);
	if (!exec)
		return CUDA_ERROR_INVALID_VALUE;
	launch = sim_op_new(sizeof(*launch), run_launch);
	if (!launch)
		return CUDA_ERROR_OUT_OF_MEMORY;
	launch->op.done = end_launch;
	result = add_steps(&launch->steps, &exec->steps);
	if (result != CUDA_SUCCESS) {
		sim_op_free(&launch->op);
		return result;
	}
	result = sim_submit_behind(stream, &launch->op, exec->last,
				   exec->last_count);
	return result == CUDA_SUCCESS ? note_launch(exec, stream) : result;
}

/* ---- nodes ---- */

static bool is_possible(const CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	const CUmemPoolProps *props = &params->poolProps;

	return props->allocType == CU_MEM_ALLOCATION_TYPE_PINNED &&
	       props->location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
	       sim_is_device(props->location.id) && params->bytesize > 0;
}

/* A new one; NULL without memory. */
static CUgraphNode link_node(CUgraph graph)
{
	CUgraphNode node = malloc(sizeof(*node));

	if (!node)
		return NULL;
	pthread_mutex_lock(&lock);
	node->next = graph->nodes;
	graph->nodes = node;
	pthread_mutex_unlock(&lock);
	return node;
}

static CUresult add_node(CUgraphNode *node_out, CUgraph graph,
			 const CUgraphNode *dependencies, size_t count,
			 CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	CUresult result;

	if (!node_out || !graph || !params || (count && !dependencies) ||
	    !is_possible(params))
		return CUDA_ERROR_INVALID_VALUE;
	result = sim_graph_allocate(graph, params->bytesize, &params->dptr);
	if (result != CUDA_SUCCESS)
		return result;
	*node_out = link_node(graph);
	return *node_out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph,
				const CUgraphNode *dependencies, size_t count,
				CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	ENTER_CONTEXT(cuGraphAddMemAllocNode);
	return add_node(node, graph, dependencies, count, params);
}

/* The child is copied, which one with memory of its own cannot be. */
static CUresult add_child(CUgraphNode *node_out, CUgraph graph,
			  const CUgraphNode *dependencies, size_t count,
			  CUgraph child)
{
	if (!node_out || !graph || !child || (count && !dependencies))
		return CUDA_ERROR_INVALID_VALUE;
	if (has_memory(child))
		return CUDA_ERROR_NOT_SUPPORTED;
	*node_out = link_node(graph);
	return *node_out ? add_steps(&graph->steps, &child->steps)
			 : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult add_any(CUgraphNode *node, CUgraph graph,
			const CUgraphNode *dependencies, size_t count,
			CUgraphNodeParams *params)
{
	if (!params)
		return CUDA_ERROR_INVALID_VALUE;
	if (params->type == CU_GRAPH_NODE_TYPE_GRAPH)
		return add_child(node, graph, dependencies, count,
				 params->child);
	if (params->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC)
		return CUDA_ERROR_NOT_SUPPORTED;
	return add_node(node, graph, dependencies, count, &params->alloc);
}

CUresult cuGraphAddNode(CUgraphNode *node, CUgraph graph,
			const CUgraphNode *dependencies, size_t count,
			CUgraphNodeParams *params)
{
	ENTER_CONTEXT(cuGraphAddNode);
	return add_any(node, graph, dependencies, count, params);
}

CUresult cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph,
			   const CUgraphNode *dependencies,
			   const CUgraphEdgeData *data, size_t count,
			   CUgraphNodeParams *params)
{
	ENTER_CONTEXT(cuGraphAddNode_v2);
	(void)data;
	return add_any(node, graph, dependencies, count, params);
}

CUresult cuGraphAddChildGraphNode(CUgraphNode *node, CUgraph graph,
				  const CUgraphNode *dependencies, size_t count,
				  CUgraph child)
{
	ENTER_CONTEXT(cuGraphAddChildGraphNode);
	return add_child(node, graph, dependencies, count, child);
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node,
					    CUgraph child)
{
	ENTER_CONTEXT(cuGraphExecChildGraphNodeSetParams);
	if (!exec || !node || !child)
		return CUDA_ERROR_INVALID_VALUE;
	return has_memory(child) ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}

/* Nothing is kept that could be trimmed. */
CUresult cuDeviceGraphMemTrim(CUdevice device)
{
	ENTER(cuDeviceGraphMemTrim);
	return sim_is_device(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
