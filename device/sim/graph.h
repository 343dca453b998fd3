/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Graphs: the work that was captured, in the order in which it was, and the
 * memory that belongs to them, which goes with the last of the graph and what
 * was instantiated of it. A launch does the work one after the other.
 */
#ifndef DEVICE_SIM_GRAPH_H
#define DEVICE_SIM_GRAPH_H

#include "device/cuda_abi.h"

struct sim_op;

/* NULL without memory. */
CUgraph sim_graph_new(void);
/* NULL is ignored. */
void sim_graph_free(CUgraph graph);

/* Memory that belongs to the graph. */
CUresult sim_graph_allocate(CUgraph graph, uint64_t bytes,
			    CUdeviceptr *address_out);

/* Work at its end; taken over when that goes well. */
CUresult sim_graph_add(CUgraph graph, struct sim_op *op);

#endif /* DEVICE_SIM_GRAPH_H */
