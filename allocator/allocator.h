/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The caching allocator: gives out blocks of a space of plain offsets.
 *
 * It knows no GPU, takes no lock but its own and makes no system call besides
 * host memory for its books. What it needs from outside, more room and
 * fences, comes through struct al_ops. Its books are kept apart from the
 * memory that it gives out, which the host cannot reach.
 *
 * Words
 *   room     a span of offsets that the owner let it use
 *   stream   a number that stands for a GPU stream. Work on one stream runs
 *            in order; nothing is known between two.
 *   fence    passes when all work is done that was submitted before it was
 *            recorded, on one stream or on all
 *   home     the stream on which a page or range of memory may be given out
 *            again at once. AL_STREAM_NONE: on any, all its fences have passed.
 *
 * Invariants (al_check() looks at every one)
 *   No two live blocks share an offset. A block that was freed is given out
 *   on another stream than its home only after a fence behind the free.
 */
#ifndef ALLOCATOR_ALLOCATOR_H
#define ALLOCATOR_ALLOCATOR_H

#include "include/poolswitch.h"

/* A plain allocation or free: no stream is known, all may be concerned. */
#define AL_STREAM_NONE UINT64_MAX

/* The smallest block, and what all offsets are multiples of. */
#define AL_GRANULE 512u

/* So that a unit's number fits 32 bits. */
#define AL_CAPACITY_MAX (1ull << 46)

/* Room is counted in these: a span starts and ends at a multiple. */
#define AL_UNIT (32u * 1024u)

struct al_span {
	uint64_t offset;
	uint64_t size;
	uint64_t home; /* AL_STREAM_NONE, or the only stream it may serve */
};

/*
 * What the owner does for the allocator. Called without any allocator lock
 * held, from the thread that allocates, frees or trims.
 */
struct al_ops {
	/*
	 * Gives more room: a span of @bytes or, when no such span is left and
	 * none can be made of parts, the largest there is; never one that it
	 * gave already and did not get back. Spans serve @stream when their
	 * home is NONE or @stream itself. PS_OUT_OF_MEMORY when nothing is
	 * left.
	 */
	enum ps_status (*grow)(void *owner, uint64_t bytes, uint64_t stream,
			       struct al_span *span_out);
	/*
	 * The last resort, when nothing else is left to be waited for and all
	 * that can be of use is with the owner: it may wait for others, and
	 * gives @bytes or fails. NULL: there is none.
	 */
	enum ps_status (*grow_late)(void *owner, uint64_t bytes,
				    uint64_t stream, struct al_span *span_out);
	/*
	 * Takes room back. No block lies in it and every fence has passed. It
	 * may be part of a span or several neighbours of one home; its ends
	 * are multiples of al_config.room_unit. Cannot fail.
	 */
	void (*shrink)(void *owner, const struct al_span *span);
	/*
	 * Records a fence behind all work submitted so far on @stream, or on
	 * every stream for AL_STREAM_NONE. PS_AGAIN: not possible now (a
	 * capture is under way); it is tried again later.
	 */
	enum ps_status (*fence_record)(void *owner, uint64_t stream,
				       void **fence_out);
	/* PS_OK: passed. PS_AGAIN: not yet. Anything else: the work failed. */
	enum ps_status (*fence_poll)(void *owner, void *fence);
	/* Returns when it has passed. */
	enum ps_status (*fence_wait)(void *owner, void *fence);
	void (*fence_free)(void *owner, void *fence);
	/*
	 * Host memory for the books, aligned to 128 bytes, not zeroed; both
	 * NULL: the C library's. May be called under allocator locks.
	 */
	void *(*host_alloc)(void *owner, size_t bytes);
	void (*host_free)(void *owner, void *memory);
};

struct al_config {
	uint64_t capacity; /* all offsets are smaller; a multiple of AL_UNIT */
	uint64_t
		room_unit; /* what the owner gives and takes in; power of two */
	unsigned int shards;  /* 0: as many as the machine has processors */
	uint64_t small_max;   /* larger blocks are ranges of their own, behind
			      * one lock; 0: AL_SMALL_MAX */
	uint64_t fence_bytes; /* freed behind one point, so many are fenced by
			       * the free itself; 0: when they are needed */
	uint64_t base;        /* what texts add to an offset: the address */
	struct al_ops ops;
	void *owner; /* for the ops */
};

struct al_allocator;

enum ps_status al_new(const struct al_config *config,
		      struct al_allocator **al_out);

/* Frees the books only; the owner takes its room back by itself. NULL: ok. */
void al_destroy(struct al_allocator *al);

/* Any thread. PS_INVALID_ARGUMENT, PS_OUT_OF_MEMORY, PS_HOST_MEMORY, or what
 * an operation of the owner returned. */
enum ps_status al_alloc(struct al_allocator *al, uint64_t bytes,
			uint64_t stream, uint64_t *offset_out);

/* Frees behind this point of @stream. PS_NOT_OURS, PS_INTERIOR,
 * PS_DOUBLE_FREE: nothing changed. */
enum ps_status al_free(struct al_allocator *al, uint64_t offset,
		       uint64_t stream);

/* @stream uses the block too: waited for when the block is freed. */
enum ps_status al_record_stream(struct al_allocator *al, uint64_t offset,
				uint64_t stream);

enum ps_status al_usable_size(struct al_allocator *al, uint64_t offset,
			      uint64_t *bytes_out);

/* @stream ends: what is free there is fenced now, by its own fence for the
 * last time. PS_AGAIN while it captures, PS_HOST_MEMORY, or what recording
 * returned: then it must not end yet; call again. */
enum ps_status al_drop_stream(struct al_allocator *al, uint64_t stream);

/*
 * The streams that were named in an allocation and not dropped since, at most
 * @max of them; how many. An owner that fences every stream at once can ask
 * the driver about each before.
 */
size_t al_get_streams(struct al_allocator *al, uint64_t *streams_out,
		      size_t max);

/* Gives whole free room units back until at most @keep bytes are reserved. */
enum ps_status al_trim(struct al_allocator *al, uint64_t keep,
		       uint64_t *released_out);

/* Waits for the oldest fence that guards what was freed: al_trim() may find
 * more then. PS_AGAIN: none can be waited for. */
enum ps_status al_wait(struct al_allocator *al);

/* The most that was live since the last call of this one, or ever. */
uint64_t al_peak_restart(struct al_allocator *al);

/* Waits for every fence and gives all room back. PS_BUSY while blocks live:
 * the text counts them and names the first. */
enum ps_status al_clear(struct al_allocator *al);

/*
 * Fills the fields of ps_mem_stats that are the allocator's own: reserved,
 * live, cached, pending, largest_free, the counters, the peaks and
 * the classes. The others stay as they are.
 */
void al_get_stats(struct al_allocator *al, struct ps_mem_stats *stats);

/* Calls @visit for each live block, under locks: it may not call back. */
void al_visit_live(struct al_allocator *al,
		   void (*visit)(void *arg, uint64_t offset, uint64_t bytes),
		   void *arg);

/* Checks every invariant: PS_OK, or PS_INVALID_ARGUMENT and which. */
enum ps_status al_check(struct al_allocator *al);

#endif /* ALLOCATOR_ALLOCATOR_H */
