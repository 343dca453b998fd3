/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The validator: looks at every range, page, bin and batch, and says which
 * invariant does not hold. Each check is a line of "what must be true".
 */
#include <inttypes.h>

#include "allocator/allocator.h"
#include "allocator/bins.h"
#include "allocator/room.h"
#include "allocator/stats.h"

#define MUST(truth, range)                                                     \
	do {                                                                   \
		if (!(truth))                                                  \
			return broken(#truth, range);                          \
	} while (0)

static enum ps_status broken(const char *truth, const struct al_range *range)
{
	if (!range)
		return bs_fail(PS_INVALID_ARGUMENT, "allocator: not true: %s",
			       truth);
	return bs_fail(PS_INVALID_ARGUMENT,
		       "allocator: not true: %s; range 0x%" PRIx64 "+%" PRIu64
		       " of kind %d",
		       truth, range->offset, range->size, al_kind_of(range));
}

/* What the walk adds up, to be compared with the counters. */
struct sums {
	uint64_t reserved;
	uint64_t free;    /* by ranges */
	uint64_t binned;  /* by homes */
	uint64_t pending; /* bytes in blocks that are neither live nor free */
	uint64_t batched; /* blocks in batches */
	uint64_t waiting; /* blocks that are neither live nor free */
	uint64_t live;
};

static enum ps_status check_page(struct al_allocator *al,
				 const struct al_range *page, struct sums *sums)
{
	const struct al_class *class = &al->classes[page->class];
	uint64_t bytes = al_class_bytes(class);
	uint64_t all = al_page_all(page);
	uint64_t waiting = all & ~(page->live | page->free);
	unsigned int count = (unsigned int)__builtin_popcountll(waiting);

	MUST(al_heap_of(page), page);
	MUST(page->blocks >= class->blocks_min, page);
	MUST(page->size == page->blocks * bytes, page);
	MUST((page->live & page->free) == 0, page);
	MUST(((page->live | page->free | page->used) & ~all) == 0, page);
	for (uint64_t at = 0; at < page->size; at += AL_UNIT)
		MUST(al_map_get(al, page->offset + at) ==
			     (at == 0 || page->blocks > 1 ? page : NULL),
		     page);
	for (const struct al_use *u = page->uses; u; u = u->next)
		MUST(u->offset - page->offset < page->size, page);
	sums->waiting += count;
	sums->pending += count * bytes;
	sums->live += (unsigned int)__builtin_popcountll(page->live) * bytes;
	return PS_OK;
}

static enum ps_status check_kind(struct al_allocator *al,
				 const struct al_range *range,
				 struct sums *sums)
{
	switch (al_kind_of(range)) {
	case AL_KIND_PAGE:
		return check_page(al, range, sums);
	case AL_KIND_FREE:
		MUST(!al_map_get(al, range->offset), range);
		MUST(!range->uses, range);
		sums->free += range->size;
		return PS_OK;
	case AL_KIND_FENCED:
		MUST(al_map_get(al, range->offset) == range, range);
		sums->pending += range->size;
		sums->waiting++;
		return PS_OK;
	case AL_KIND_LARGE:
		MUST(al_map_get(al, range->offset) == range, range);
		sums->live += range->size;
		return PS_OK;
	case AL_KIND_NONE:
		break;
	}
	return broken("every range in the list has a kind", range);
}

static enum ps_status check_range(struct al_allocator *al,
				  const struct al_range *range,
				  struct sums *sums)
{
	const struct al_range *after = range->after;

	MUST(range->size > 0 && range->size % AL_UNIT == 0, range);
	MUST(range->offset % AL_UNIT == 0, range);
	MUST(range->offset + range->size <= al->config.capacity, range);
	sums->reserved += range->size;
	if (after) {
		bool touch = range->offset + range->size == after->offset;

		MUST(after->before == range, range);
		MUST(range->offset + range->size <= after->offset, range);
		MUST(!touch || al_kind_of(range) != AL_KIND_FREE ||
			     al_kind_of(after) != AL_KIND_FREE ||
			     range->home != after->home ||
			     range->zone != after->zone ||
			     range->serves != after->serves,
		     range);
	}
	return check_kind(al, range, sums);
}

static enum ps_status check_bin(const struct al_home *home, unsigned int zone,
				unsigned int row, unsigned int column,
				struct sums *sums)
{
	const struct al_bins *bins = &home->zones[zone];
	const struct al_range *range = bins->bins[row][column];
	unsigned int r, c;

	MUST(!range == !(bins->columns[row] & 1u << column), range);
	for (; range; range = range->bin_next) {
		al_bins_place(range->size, &r, &c);
		MUST(r == row && c == column, range);
		MUST(al_kind_of(range) == AL_KIND_FREE, range);
		MUST(range->home == home->stream, range);
		MUST(range->zone == zone, range);
		sums->binned += range->size;
	}
	return PS_OK;
}

static enum ps_status check_zone(const struct al_home *home, unsigned int zone,
				 struct sums *sums)
{
	const struct al_bins *bins = &home->zones[zone];
	uint64_t before = sums->binned;
	enum ps_status status = PS_OK;

	for (unsigned int r = 0; r < AL_BIN_ROWS; r++) {
		MUST(!bins->columns[r] == !(bins->rows & 1u << r), NULL);
		for (unsigned int c = 0; c < AL_BIN_COLUMNS; c++) {
			status = check_bin(home, zone, r, c, sums);
			if (status != PS_OK)
				return status;
		}
	}
	MUST(sums->binned - before == bins->free, NULL);
	return PS_OK;
}

static enum ps_status check_home(const struct al_home *home, struct sums *sums)
{
	enum ps_status status = check_zone(home, AL_ZONE_LARGE, sums);

	return status == PS_OK ? check_zone(home, AL_ZONE_PAGES, sums) : status;
}

static enum ps_status check_heap(const struct al_heap *heap, uint64_t *empty)
{
	for (unsigned int c = 0; c < AL_CLASSES; c++) {
		const struct al_range *page = heap->bins[c];

		for (; page; page = page->page_next) {
			MUST(al_kind_of(page) == AL_KIND_PAGE, page);
			MUST(al_heap_of(page) == heap, page);
			MUST(page->class == c, page);
			MUST(page->free != 0, page);
			if (page->free == al_page_all(page))
				*empty += page->size;
			MUST(!page->page_next ||
				     page->page_next->page_prev == page,
			     page);
		}
	}
	return PS_OK;
}

static enum ps_status check_shard(const struct al_shard *shard,
				  struct sums *sums)
{
	unsigned int guarded = 0, passed = 0;
	uint64_t empty = 0;
	enum ps_status status;

	for (const struct al_batch *b = shard->batches; b; b = b->next) {
		MUST(b->count <= AL_BATCH_BLOCKS, NULL);
		guarded += b->state == AL_BATCH_GUARDED;
		passed += b->state == AL_BATCH_PASSED;
		sums->batched += b->count;
	}
	MUST(guarded == shard->guarded, NULL);
	MUST(passed == shard->passed, NULL);
	for (unsigned int i = 0; i < AL_HEAP_BUCKETS; i++) {
		for (struct al_heap *h = shard->heaps[i]; h; h = h->next) {
			status = check_heap(h, &empty);
			if (status != PS_OK)
				return status;
		}
	}
	MUST(empty == shard->empty, NULL);
	return PS_OK;
}

static enum ps_status check_counters(struct al_allocator *al,
				     const struct sums *sums)
{
	uint64_t live = al_live_of(&al->room.gauge), pending = 0;

	for (unsigned int i = 0; i <= al->shard_mask; i++) {
		live += al_live_of(&al->shards[i].gauge);
		pending += al->shards[i].pending;
	}
	MUST(sums->reserved == al->room.reserved, NULL);
	MUST(sums->free == sums->binned, NULL);
	MUST(sums->live == live, NULL);
	MUST(sums->pending == pending, NULL);
	MUST(sums->waiting == sums->batched, NULL);
	return PS_OK;
}

static enum ps_status check_all(struct al_allocator *al)
{
	struct sums sums = { .reserved = 0 };
	enum ps_status status = PS_OK;

	for (struct al_range *r = al->room.first; r; r = r->after) {
		status = check_range(al, r, &sums);
		if (status != PS_OK)
			return status;
	}
	status = check_home(&al->room.none, &sums);
	for (unsigned int i = 0; i < AL_HOME_BUCKETS; i++)
		for (struct al_home *h = al->room.homes[i]; h; h = h->next)
			if (status == PS_OK)
				status = check_home(h, &sums);
	for (unsigned int i = 0; i <= al->shard_mask; i++)
		if (status == PS_OK)
			status = check_shard(&al->shards[i], &sums);
	return status == PS_OK ? check_counters(al, &sums) : status;
}

enum ps_status al_check(struct al_allocator *al)
{
	enum ps_status status;

	al_lock_all(al);
	status = check_all(al);
	al_unlock_all(al);
	return status;
}
