/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A pool as this process has it.
 *
 * The window is divided into slots, each as large as a segment. The first
 * slots are the pool's own addresses, segment n in slot n. Those behind them
 * are for aliases, so that a segment can be mapped a second time, and, from
 * the end, for segments that are gathered: scattered ones that are free get
 * neighbouring addresses, for a block that is longer than any free range.
 *
 *	slot      0        ...  segments-1 | segments   ...   slots-1
 *	          the pool's own addresses | aliases -> <- gathered
 *
 * Driver calls take long and are made without a lock. Who maps or unmaps
 * takes the pool's turn instead: while a thread has it no other thread
 * changes slots, segments or ranges, and those that only read them take the
 * lock, under which every change is published.
 *
 * Invariants
 *   A range that is inserted may be written; each of its slots names its
 *   segment.
 *   Only slots that are inserted are given to the allocator, and only those
 *   that are mapped.
 *   A segment has a handle when it is mapped anywhere.
 *   A gathered slot is given to the allocator; the slot that its segment was
 *   inserted in is lent until it comes back.
 */
#ifndef LIB_POOL_H
#define LIB_POOL_H

#include "allocator/allocator.h"
#include "base/lock.h"
#include "device/device.h"
#include "ipc/claim.h"
#include "ipc/conn.h"
#include "lib/config.h"

#include <pthread.h>

#define LB_POOL_MAGIC 0x506f4f4cu /* "PoOL" */

/* Descriptors that a pool leaves to the program, which wants files too. */
#define LB_FDS_LEFT 192u

enum lb_access {
	LB_ACCESS_NONE = 0, /* not given to this process */
	LB_ACCESS_READ = 1,
	LB_ACCESS_WRITE = 2,
};

struct lb_segment {
	uint64_t handle; /* of the driver, when has_handle */
	int fd;          /* reserved here: kept to be sent; received: kept
			      until it is imported; -1: none */
	bool has_handle;
	uint8_t access;    /* enum lb_access; immutable after opening but for
			    * an attached pool */
	uint32_t mapped;   /* slots that map it */
	uint32_t inserted; /* ranges that hold it */
};

struct lb_slot {
	uint32_t segment;
	uint32_t range; /* when inserted: index into ranges */
	bool inserted;
	bool given; /* to the allocator */
	bool mapped;
	bool lent;     /* its segment is in a gathered slot meanwhile */
	bool gathered; /* holds a segment that is inserted elsewhere */
};

struct lb_range {
	uint32_t slot;    /* the first */
	uint32_t segment; /* the first */
	uint32_t count;
	uint64_t home; /* AL_STREAM_NONE, or the stream that it serves */
};

/* How segments come to the process and into its window. */
struct lb_lease;

struct lb_backing {
	/* Maps neighbouring slots of one access. Turn held; all or none. */
	enum ps_status (*map)(struct ps_pool *pool, uint32_t slot,
			      uint32_t count, bool writable);
	enum ps_status (*unmap)(struct ps_pool *pool, uint32_t slot,
				uint32_t count);
	/* Gives up the memory and the window. Nothing is mapped any more. */
	void (*release)(struct ps_pool *pool);
};

extern const struct lb_backing lb_backing_vmm;
extern const struct lb_backing lb_backing_legacy;

struct ps_pool {
	/* Immutable after opening. */
	uint32_t magic;
	_Atomic int free_mode; /* enum ps_free_mode */
	uint64_t base;
	uint64_t window; /* bytes */
	struct al_allocator *al;
	struct dv_device *device;
	const struct lb_backing *backing;
	struct ip_layout layout;
	uint32_t slots;
	bool reserved_here;
	uint8_t id[16];         /* random, for the peers */
	struct ip_claim *claim; /* NULL when received */
	struct lb_lease *lease; /* NULL unless attached */
	struct ps_pool *next;   /* guarded by the process's lock */

	/* Changed by who has the turn, published under lock. */
	struct bs_lock lock;
	pthread_cond_t turn_free;
	bool turn_taken;
	struct lb_segment *segments;
	struct lb_slot *slot;
	struct lb_range *ranges;
	uint32_t range_count;
	uint32_t range_room;         /* of the array */
	uint32_t room_hint;          /* no slot before it can be given */
	uint32_t slots_used;         /* no slot from here on is inserted */
	uint32_t segments_mapped;    /* each counted once */
	uint32_t segments_inserted;  /* each counted once */
	uint64_t gathered;           /* bytes that were, counted each time */
	enum ps_status unmap_status; /* of the last trim or clear */

	/* Guarded by lock: of fences behind all streams (lib/room.c). */
	pthread_cond_t fences_free;
	uint32_t fences_held;      /* ps_mem_hold_fences() */
	uint32_t fences_recording; /* under way */
};

/* ---- opening and closing (pool.c) ---- */

/* A pool without shape; takes the device over, also when it fails. */
enum ps_status lb_pool_new(struct dv_device *device, struct ps_pool **pool_out);
/*
 * Books for this layout, instead of those that it had. @window: bytes; 0:
 * IP_WINDOW_POOLS times the pool, or the pool alone for a legacy one. No
 * memory and no allocator yet.
 */
enum ps_status lb_pool_shape(struct ps_pool *pool,
			     const struct ip_layout *layout, uint64_t window);
/* Once the memory and the base are there: the allocator. */
enum ps_status lb_pool_start(struct ps_pool *pool);
/* Releases all that the pool has by now. NULL: ok. */
void lb_pool_discard(struct ps_pool *pool);

/* ---- turns (map.c) ---- */

void lb_turn_take(struct ps_pool *pool);
/* false: somebody else had it until then (CLOCK_MONOTONIC). */
bool lb_turn_take_until(struct ps_pool *pool, int64_t until_ms);
void lb_turn_give(struct ps_pool *pool);

/* ---- mapping (map.c); all with the turn held ---- */

/* Maps those of the slots that are not mapped. On failure some may be. */
enum ps_status lb_map_slots(struct ps_pool *pool, uint32_t slot,
			    uint32_t count);
/* Unmaps those that are. What the driver does not unmap stays mapped and is
 * used again. */
enum ps_status lb_unmap_slots(struct ps_pool *pool, uint32_t slot,
			      uint32_t count);

/* ---- backings ---- */

/* Creates the memory of the layout and takes a window. */
enum ps_status lb_vmm_create(struct ps_pool *pool);
enum ps_status lb_legacy_create(struct ps_pool *pool);
/* Takes exactly this window. */
enum ps_status lb_vmm_attach(struct ps_pool *pool, uint64_t base);
enum ps_status
lb_legacy_attach(struct ps_pool *pool,
		 const unsigned char handle[DV_IPC_HANDLE_BYTES]);
/* Makes the handle of a segment from its descriptor. Turn held, or the pool
 * not published yet. */
enum ps_status lb_vmm_import(struct ps_pool *pool, uint32_t segment);

/* ---- what the allocator asks for (room.c) ---- */

extern const struct al_ops lb_room_ops;
/* The same for an attached pool. */
extern const struct al_ops lb_room_leased_ops;
/* From here on no fence behind all streams is recorded, nor is one being; and
 * one hold less. false: there was none. */
void lb_room_hold_fences(struct ps_pool *pool);
bool lb_room_release_fences(struct ps_pool *pool);
/* The calling thread never fences all streams: it might come into a capture of
 * the program's. */
void lb_room_set_background(void);
/* The last run of @count slots behind the pool's own that nothing uses. Turn
 * held. */
bool lb_room_find_empty(const struct ps_pool *pool, uint32_t count,
			uint32_t *slot_out);
/* For all work of the device; PS_AGAIN while a stream captures. */
enum ps_status lb_room_synchronize(struct ps_pool *pool);
/* How many segments more @wanted neighbouring slots for @stream take. Turn
 * held. */
uint32_t lb_room_missing(const struct ps_pool *pool, uint32_t wanted,
			 uint64_t stream);

/* ---- small answers ---- */

static inline uint64_t lb_pool_bytes(const struct ps_pool *pool)
{
	return pool->layout.segments * pool->layout.segment_size;
}

static inline bool lb_is_legacy(const struct ps_pool *pool)
{
	return pool->layout.mode == PS_SHARE_LEGACY_IPC;
}

static inline uint64_t lb_slot_address(const struct ps_pool *pool,
				       uint32_t slot)
{
	return pool->base + slot * pool->layout.segment_size;
}

/*
 * Checks that [offset, offset + size) is made of whole segments of the pool.
 * PS_INVALID_ARGUMENT, PS_OUT_OF_RANGE. @what: for the text.
 */
enum ps_status lb_check_range(const struct ps_pool *pool, const char *what,
			      uint64_t offset, uint64_t size);

#endif /* LIB_POOL_H */
