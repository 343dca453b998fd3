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
 *   In a forked child it is empty and unlocked, whatever the parent did when
 *   it forked: the kernel wipes its page.
 */
#ifndef PRELOAD_LEDGER_H
#define PRELOAD_LEDGER_H

#include "device/cuda_abi.h"
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
	PL_KIND_HELD,    /* block of ours, freed during a capture: held.c */
	PL_KINDS
};

/* What is to be undone when the driver has it back. */
enum pl_toll {
	PL_TOLL_NONE = 0, /* nothing: there was no pool to tell */
	PL_TOLL_ROOM,     /* the room that was made for it */
	PL_TOLL_PASSED,   /* it is counted: there was no room for it */
};

struct pl_entry {
	uint64_t key;
	enum pl_kind kind;
	uint32_t count; /* references, for who needs them */
	uint64_t bytes;
	uint64_t other;
	enum pl_toll toll;
	const struct ps_pool *pool; /* that the toll was paid to */
};

/* PS_HOST_MEMORY. An entry of this kind and key is replaced. */
enum ps_status pl_ledger_put(const struct pl_entry *entry);
/* The same, but an entry that is there stays and has the new one's count and
 * bytes added. */
enum ps_status pl_ledger_add(const struct pl_entry *entry);
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

/* No toll is paid any more for any of them: the pool that it was paid to is
 * left. Graphs' memory is forgotten: it goes with the context. */
void pl_ledger_forgive(void);

/* ---- room in the pool for what the driver is about to give: room.c ---- */

/* For pl_room_take(): the GPU of the current context. */
#define PL_DEVICE_CURRENT (-1)

/*
 * Before the driver is asked for entry->bytes on @device: has room made for
 * them, where there is a pool on that GPU. Fills in toll and pool. Other than
 * CUDA_SUCCESS: what the program gets.
 */
CUresult pl_room_take(CUdevice device, struct pl_entry *entry);
/* The driver has it back, or never gave it. */
void pl_room_give(const struct pl_entry *entry);

#endif /* PRELOAD_LEDGER_H */
