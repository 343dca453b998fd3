/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the driver gave this process beside the pool, by its address or handle:
 * how many bytes it is, so that they can be given back, and what of ours needs
 * to be remembered about a block or an object of the program's.
 *
 * Invariants
 *   Published after the driver has given it, taken out before the driver has
 *   it back: an address that is used again meanwhile has a new entry.
 *   The lock is held for a few loads and stores, never around a call.
 */
#ifndef PRELOAD_LEDGER_H
#define PRELOAD_LEDGER_H

#include "include/poolswitch.h"

enum pl_kind {
	PL_KIND_PLAIN =
		1,       /* address: the driver's, by cuMemAlloc and the like */
	PL_KIND_MANAGED, /* address */
	PL_KIND_ARRAY,   /* CUarray, CUmipmappedArray */
	PL_KIND_OBJECT,  /* CUmemGenericAllocationHandle: a program's own */
	PL_KIND_MAPPING, /* address: of such an object; other: its handle */
	PL_KIND_RETAINED, /* handle of a segment of ours; other: address */
	PL_KIND_GRAPH,    /* CUgraph: bytes of its memory nodes */
	PL_KIND_POOL, /* CUmemoryPool: other: 1 if the driver must serve it */
	PL_KIND_FOREIGN, /* block of ours, allocated in another context than
			    * the primary one; other: the context */
	PL_KIND_OF_POOL, /* block of ours from a CUmemoryPool; other: it */
	PL_KINDS
};

struct pl_entry {
	uint64_t key;
	enum pl_kind kind;
	uint32_t count; /* references, for who needs them */
	uint64_t bytes;
	uint64_t other;
};

/* PS_HOST_MEMORY. An entry of this kind and key is replaced. */
enum ps_status pl_ledger_put(const struct pl_entry *entry);
/* false: there is none. */
bool pl_ledger_find(enum pl_kind kind, uint64_t key,
		    struct pl_entry *entry_out);
/* The same, and it is out. */
bool pl_ledger_take(enum pl_kind kind, uint64_t key,
		    struct pl_entry *entry_out);
/* Adds to count; at 0 the entry is out. *entry_out: as it is afterwards. */
bool pl_ledger_count(enum pl_kind kind, uint64_t key, int by,
		     struct pl_entry *entry_out);
/* Takes any entry of the kind with this @other out; false: none is left. */
bool pl_ledger_take_of(enum pl_kind kind, uint64_t other,
		       struct pl_entry *entry_out);
/* How many of the kind there are, and their bytes. */
uint32_t pl_ledger_sum(enum pl_kind kind, uint64_t *bytes_out);

/* ---- room in the pool for what the driver is about to give ---- */

/* PS_OK also when this process has no pool to make room in. */
enum ps_status pl_room_take(uint64_t bytes);
void pl_room_give(uint64_t bytes);

#endif /* PRELOAD_LEDGER_H */
