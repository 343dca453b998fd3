/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The allocator's data, for its own files only.
 *
 *   allocator  the whole: the map, the room, the shards
 *   room       all memory that the owner gave, as a list of ranges in the
 *              order of their offsets; free ones also in bins by home and size
 *   shard      what a few threads share: heaps, and the queue of what waits
 *              for fences. A thread keeps to one shard.
 *   heap       a shard's pages of one home
 *   page       a range cut into up to 64 blocks of one size class
 *   map        from an offset to its range, one entry per AL_UNIT
 *
 * Locks: a shard's before the room's. Descriptors are never given back while
 * the allocator lives, so a stale pointer to one may be looked at; what it
 * says counts only under the lock that guards it.
 */
#ifndef ALLOCATOR_STATE_H
#define ALLOCATOR_STATE_H

#include <stdatomic.h>

#include "allocator/allocator.h"
#include "allocator/size_class.h"
#include "base/lock.h"
#include "base/status.h"

/* Processors fetch lines of 64 bytes in pairs. */
#define AL_LINE_PAIR 128

/* Descriptors of ranges come in chunks of 128 KiB. */
#define AL_CHUNK_RANGES 1024u
#define AL_HEAP_BUCKETS 16u
#define AL_HOME_BUCKETS 64u

/*
 * A shard's empty pages go to the room when they amount to more than this
 * part of all that is reserved, but not below the minimum: so much is
 * allocated and freed again without the lock that all share.
 */
#define AL_EMPTY_PART 16u
#define AL_EMPTY_MIN (64ull * 1024 * 1024)

/* Bins of free ranges: sixteen to each doubling, counted in units. */
#define AL_BIN_COLUMNS 16u
#define AL_BIN_ROWS 28u

/* Fills 16 KiB with its header; see al_batch. */
#define AL_BATCH_BLOCKS 2040u

enum al_kind {
	AL_KIND_NONE = 0, /* a descriptor that describes nothing */
	AL_KIND_FREE,     /* in a bin */
	AL_KIND_PAGE,     /* cut into blocks; belongs to a heap */
	AL_KIND_LARGE,    /* one live block */
	AL_KIND_FENCED,   /* freed; waits in a batch */
};

/* A block was used on another stream than its own. */
struct al_use {
	struct al_use *next;
	uint64_t offset; /* of the block */
	uint64_t stream;
};

struct al_range {
	/* A page's hot line: guarded by the lock of heap->shard. */
	uint64_t offset;            /* set while the room's lock is held */
	uint64_t live;              /* bit i: block i is allocated */
	uint64_t free;              /* bit i: block i may be given out */
	uint64_t used;              /* bit i: block i has entries in uses */
	struct al_range *page_next; /* in heap->bins while free is not 0; */
	struct al_range *page_prev;
	_Atomic(struct al_heap *) heap; /* NULL unless this is a page */
	_Atomic(uint8_t) kind; /* enum al_kind; room's lock to change */
	uint32_t number;       /* immutable: its place, from 1 */
	uint8_t class;         /* of a page's blocks */
	uint8_t zone;          /* enum al_zone; by the room's lock */
	uint8_t blocks;        /* in the page */
	/* Guarded by the room's lock; a page's uses by its shard's. */
	uint64_t size;
	uint64_t home;           /* while free or a page */
	uint64_t serves;         /* NONE, or the one stream it may serve */
	struct al_range *before; /* the list of all ranges, by offset */
	struct al_range *after;
	struct al_range *bin_next; /* while free; in the list of spares */
	struct al_range *bin_prev;
	struct al_use *uses;
};

struct al_bins {
	uint64_t free; /* bytes */
	uint32_t rows; /* bit r: row r has a range */
	uint32_t columns[AL_BIN_ROWS];
	struct al_range *bins[AL_BIN_ROWS][AL_BIN_COLUMNS];
};

/*
 * Pages and large blocks keep apart: a few pages that live long, strewn over
 * all the memory, would leave no long range free.
 */
enum al_zone { AL_ZONE_LARGE, AL_ZONE_PAGES, AL_ZONES };

/* The free ranges that share a home. */
struct al_home {
	struct al_home *next; /* immutable after it is published */
	uint64_t stream;      /* immutable */
	bool dropped;         /* until an allocation names it again */
	struct al_bins zones[AL_ZONES];
};

/*
 * Live bytes of a shard or of the room, and how many it may reach before the
 * peak has to be looked at again. See al_gauge_raise().
 */
struct al_gauge {
	_Atomic(uint64_t) live;  /* written under the holder's lock */
	_Atomic(uint64_t) limit; /* written under peak_lock */
};

struct al_room {
	struct bs_quick lock;
	struct al_home none;                    /* usable on every stream */
	struct al_home *homes[AL_HOME_BUCKETS]; /* the others */
	struct al_range *first;
	struct al_range *last;
	struct al_range *spare; /* descriptors */
	uint32_t chunks;        /* that descriptors are cut from */
	struct al_gauge gauge;  /* large blocks */
	uint64_t reserved;
	uint64_t peak_reserved;
	uint64_t live_blocks[PS_SIZE_CLASSES];
	uint64_t live_bytes[PS_SIZE_CLASSES];
	uint64_t allocs;
	uint64_t frees;
	uint64_t failed;
};

enum al_batch_state {
	AL_BATCH_FILLING,   /* takes blocks; no fence yet */
	AL_BATCH_RECORDING, /* one thread is recording its fence */
	AL_BATCH_GUARDED,   /* waits for its fence */
	AL_BATCH_PASSED,    /* its blocks may go home */
};

/* Blocks that were freed behind one point of one stream, or of all. */
struct al_batch {
	struct al_batch *next;
	uint64_t stream;
	void *fence;    /* while GUARDED, and while it is asked for */
	uint64_t order; /* of recording, over all shards; before: of the try */
	enum al_batch_state state;
	unsigned int askers; /* threads in an operation on its fence */
	unsigned int count;
	uint64_t bytes; /* that were added */
	uint64_t blocks[AL_BATCH_BLOCKS];
};

struct al_heap {
	struct al_heap *next;   /* in the shard's bucket */
	struct al_shard *shard; /* immutable */
	uint64_t stream;        /* immutable: the home of its pages */
	bool dropped;           /* as in al_home */
	uint32_t pages[AL_CLASSES];
	struct al_range *bins[AL_CLASSES]; /* pages with a free block */
};

/* Guarded by its lock, all of it. */
struct al_shard {
	_Alignas(AL_LINE_PAIR) struct bs_quick lock;
	struct al_allocator *al; /* immutable */
	struct al_heap *recent;
	struct al_gauge gauge;
	uint64_t allocs;
	uint64_t frees;
	uint64_t fences;
	uint64_t fence_waits;
	uint64_t pending;         /* bytes in batches */
	uint64_t empty;           /* bytes in pages without a block */
	unsigned int passed;      /* batches in state PASSED */
	unsigned int guarded;     /* batches in state GUARDED */
	bool has_full;            /* a batch is full and not recorded */
	unsigned int ticks;       /* fenced frees, to space the polls */
	struct al_batch *batches; /* oldest first */
	struct al_batch *batch_last;
	struct al_batch *filling; /* the one used last, a guess */
	struct al_batch *spare;   /* so that a free need not fail */
	struct al_heap *heaps[AL_HEAP_BUCKETS];
	uint64_t live_blocks[AL_CLASSES];
};

/* Threads that have memory in their hands which no list shows. */
struct al_movers {
	struct bs_lock lock;
	pthread_cond_t gone;   /* a count fell to 0 */
	unsigned int count[2]; /* by the phase in which they began */
	unsigned int phase;
};

struct al_allocator {
	struct al_config config;     /* immutable */
	uint64_t small_max;          /* immutable */
	unsigned int shard_mask;     /* immutable */
	struct al_shard *shards;     /* immutable */
	_Atomic(uint32_t) *map;      /* immutable; its entries are not */
	struct al_range **chunks;    /* set under the room's lock */
	uint64_t map_entries;        /* immutable */
	_Atomic(uint64_t) empty_max; /* of a shard; by the room's lock */
	struct al_class classes[AL_CLASSES]; /* immutable */
	/* Apart from what every allocation reads. */
	_Alignas(AL_LINE_PAIR) struct al_room room;
	_Alignas(AL_LINE_PAIR) struct bs_quick peak_lock;
	_Atomic(uint64_t) peak;   /* written under peak_lock */
	uint64_t peak_before;     /* of the restarts; under peak_lock */
	_Atomic(uint64_t) order;  /* of the next fence */
	_Atomic(uint64_t) events; /* see al_happened() */
	struct al_movers movers;
};

/* The map holds numbers, not pointers: half as much for the caches to hold. */
static inline struct al_range *al_map_get(const struct al_allocator *al,
					  uint64_t offset)
{
	uint32_t number;

	if (offset / AL_UNIT >= al->map_entries)
		return NULL;
	number = atomic_load_explicit(&al->map[offset / AL_UNIT],
				      memory_order_acquire);
	if (number == 0)
		return NULL;
	number--;
	return &al->chunks[number / AL_CHUNK_RANGES][number % AL_CHUNK_RANGES];
}

/* NULL: no range. */
static inline void al_map_set(struct al_allocator *al, uint64_t offset,
			      const struct al_range *range)
{
	atomic_store_explicit(&al->map[offset / AL_UNIT],
			      range ? range->number : 0, memory_order_release);
}

static inline enum al_kind al_kind_of(const struct al_range *range)
{
	return atomic_load_explicit(&range->kind, memory_order_relaxed);
}

static inline struct al_heap *al_heap_of(const struct al_range *range)
{
	return atomic_load_explicit(&range->heap, memory_order_acquire);
}

/* All blocks of a page, as bits. */
static inline uint64_t al_page_all(const struct al_range *page)
{
	return UINT64_MAX >> (AL_PAGE_BLOCKS - page->blocks);
}

static inline uint64_t al_live_of(const struct al_gauge *gauge)
{
	return atomic_load_explicit(&gauge->live, memory_order_relaxed);
}

/* Memory came free, or a step nearer to it: who found none looks again. */
static inline void al_happened(struct al_allocator *al)
{
	atomic_fetch_add(&al->events, 1);
}

/* Zeroed host memory for the books; NULL when there is none. */
void *al_host_alloc(struct al_allocator *al, size_t bytes);
void al_host_free(struct al_allocator *al, void *memory);

/* Raises the peak to the sum of all gauges and shares out what is left below
 * it. */
void al_gauge_raise(struct al_allocator *al);

/* pre: the lock of the gauge's holder is held. */
static inline void al_gauge_add(struct al_allocator *al, struct al_gauge *gauge,
				uint64_t bytes)
{
	uint64_t live = al_live_of(gauge) + bytes;

	atomic_store_explicit(&gauge->live, live, memory_order_relaxed);
	if (live > atomic_load_explicit(&gauge->limit, memory_order_relaxed))
		al_gauge_raise(al);
}

static inline void al_gauge_sub(struct al_gauge *gauge, uint64_t bytes)
{
	atomic_store_explicit(&gauge->live, al_live_of(gauge) - bytes,
			      memory_order_relaxed);
}

/* The entry of ps_mem_stats.classes that counts blocks of this size. */
static inline unsigned int al_stats_class(uint64_t bytes)
{
	unsigned int log = bs_log2(2 * bytes - 1);

	return log < PS_SIZE_CLASSES ? log : PS_SIZE_CLASSES - 1;
}

#endif /* ALLOCATOR_STATE_H */
