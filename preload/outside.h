/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory that the pool cannot hold: managed memory, arrays, what graphs
 * allocate. Room is made for it in the pool, the driver gives it, and the
 * ledger remembers it. For the hooks that such memory ends in.
 */
#ifndef PRELOAD_OUTSIDE_H
#define PRELOAD_OUTSIDE_H

#include "preload/ledger.h"

/* Before the driver is told that an address is free, by whatever call: takes
 * what the ledger has of it out; false: nothing. */
bool pl_outside_take(CUdeviceptr address, struct pl_entry *entry_out);
/* After it: room goes back, or the entry where the driver has refused. Returns
 * @result. Of arrays too. */
CUresult pl_outside_settle(bool is_known, const struct pl_entry *entry,
			   CUresult result);

/* The driver's cuMemFree() of an address that is not the pool's, and what the
 * ledger has to say to it. */
CUresult pl_outside_free(CUdeviceptr address);

/* A context has been destroyed or reset, and all that was allocated in it. */
void pl_outside_drop(CUcontext context);

/*
 * A graph's memory belongs to it and then to its one executable (the driver
 * makes no second one and no copy of a graph that allocates). The driver keeps
 * what they leave for the next graph, until it is told to trim.
 */

/* Room for memory that @graph is about to allocate. When the driver refuses
 * the node, the room stays the graph's. */
CUresult pl_graph_take(CUdevice device, CUgraph graph, uint64_t bytes);
/* What was taken under one handle is another's; NULL: nobody's. */
void pl_graph_become(CUgraph from, CUgraph to);
/* After the driver has made and destroyed them. */
void pl_graph_made(CUgraph graph, CUgraphExec executable);
void pl_graph_gone(CUgraph graph);
void pl_executable_gone(CUgraphExec executable);

#endif /* PRELOAD_OUTSIDE_H */
