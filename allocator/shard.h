/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A shard: small blocks out of pages, and the way of a freed block through
 * the batches of what waits for fences.
 *
 * Invariant: a block of a page is allocated, free, or in exactly one batch of
 * the shard that the page belongs to.
 */
#ifndef ALLOCATOR_SHARD_H
#define ALLOCATOR_SHARD_H

#include "allocator/state.h"

enum ps_status al_shard_init(struct al_allocator *al, struct al_shard *shard);
void al_shard_done(struct al_shard *shard);

/* The calling thread's shard. */
struct al_shard *al_shard_mine(struct al_allocator *al);

/* A block of @class for @stream. PS_OUT_OF_MEMORY, without a text, when
 * neither the heap nor the room has one. Takes the shard's lock. */
enum ps_status al_shard_alloc(struct al_shard *shard, unsigned int class,
			      uint64_t stream, uint64_t *offset_out);

/* ---- pre, from here on: the shard's lock is held ---- */

/* A page that was full has a free block now, or one has no block any more. */
void al_page_turn(struct al_range *page, bool was_full);

/* Gives block @index of a page back to its heap. */
static inline void al_page_give(struct al_range *page, unsigned int index)
{
	uint64_t before = page->free;

	page->free = before | 1ull << index;
	if (before == 0 || page->free == al_page_all(page))
		al_page_turn(page, before == 0);
}

/* Returns pages without any block to the room. True when there were some. */
bool al_shard_scavenge(struct al_shard *shard);

#endif /* ALLOCATOR_SHARD_H */
