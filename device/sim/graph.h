/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Graphs, which hold no work but the memory that belongs to them: it goes with
 * the last of the graph and what was instantiated of it.
 */
#ifndef DEVICE_SIM_GRAPH_H
#define DEVICE_SIM_GRAPH_H

#include "device/cuda_abi.h"

/* NULL without memory. */
CUgraph sim_graph_new(void);
/* NULL is ignored. */
void sim_graph_free(CUgraph graph);

/* Memory that belongs to the graph. */
CUresult sim_graph_allocate(CUgraph graph, uint64_t bytes,
			    CUdeviceptr *address_out);

#endif /* DEVICE_SIM_GRAPH_H */
