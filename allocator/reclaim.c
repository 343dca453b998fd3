/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "allocator/reclaim.h"

#include <inttypes.h>
#include <stdio.h>

#include "allocator/batch.h"
#include "allocator/bins.h"
#include "allocator/room.h"
#include "allocator/shard.h"

/* ---- from streams to all ---- */

static bool scavenge(struct al_allocator *al)
{
	bool found = false;

	for (unsigned int i = 0; i <= al->shard_mask; i++) {
		struct al_shard *shard = &al->shards[i];

		bs_quick_take(&shard->lock);
		if (al_shard_scavenge(shard))
			found = true;
		bs_quick_drop(&shard->lock);
	}
	return found;
}

/* What to take: @stream's ranges, or all for AL_STREAM_NONE; those that may
 * serve one stream only do not leave it, but their work can be waited for. */
struct theft {
	uint64_t stream;
	bool bound;
	bool failed; /* for want of host memory: not all was taken */
};

static bool is_unbound(const struct al_range *range)
{
	return range->serves == AL_STREAM_NONE;
}

static bool is_any(const struct al_range *range)
{
	return range != NULL;
}

static struct al_range *find_homed(struct al_home *home, struct theft *theft)
{
	struct al_range *range = NULL;

	for (unsigned int z = 0; z < AL_ZONES && !range; z++)
		range = al_bins_any(&home->zones[z],
				    theft->bound ? is_any : is_unbound);
	return range;
}

static void fence_range(struct al_allocator *al, struct al_range *range)
{
	al_room_unbin(al, range);
	al_room_set_kind(range, AL_KIND_FENCED);
	al_map_set(al, range->offset, range);
}

/* A dropped stream cannot be fenced any more; all streams can. */
static uint64_t fence_of(const struct al_home *home)
{
	return home->dropped ? AL_STREAM_NONE : home->stream;
}

/* Moves one range of @home into a batch. pre: both locks are held. */
static bool steal_one(struct al_shard *shard, struct al_home *home,
		      struct theft *theft)
{
	struct al_range *range = find_homed(home, theft);

	if (!range)
		return false;
	if (al_batch_push(shard, fence_of(home), range->offset, range->size) !=
	    PS_OK) {
		theft->failed = true;
		return false;
	}
	fence_range(shard->al, range);
	return true;
}

static bool steal_from(struct al_shard *shard, struct al_home *home,
		       struct theft *theft)
{
	bool found = false;

	for (; home; home = home->next)
		if (theft->stream == AL_STREAM_NONE ||
		    theft->stream == home->stream)
			while (steal_one(shard, home, theft))
				found = true;
	return found;
}

static bool steal(struct al_allocator *al, struct theft *theft)
{
	struct al_shard *shard = al_shard_mine(al);
	bool found = false;

	bs_quick_take(&shard->lock);
	bs_quick_take(&al->room.lock);
	for (unsigned int i = 0; i < AL_HOME_BUCKETS; i++)
		if (steal_from(shard, al->room.homes[i], theft))
			found = true;
	bs_quick_drop(&al->room.lock);
	bs_quick_drop(&shard->lock);
	if (found)
		al_happened(al);
	return found;
}

bool al_reclaim_steal(struct al_allocator *al)
{
	struct theft theft = { .stream = AL_STREAM_NONE };
	bool found = scavenge(al);

	bs_quick_take(&al->room.lock);
	if (al_room_merge_zones(al))
		found = true;
	bs_quick_drop(&al->room.lock);
	if (steal(al, &theft))
		found = true;
	return found;
}

/* ---- a stream ends ---- */

/* What a page keeps free for its stream waits for a fence like the rest. */
static enum ps_status fence_page(struct al_shard *shard, struct al_range *page)
{
	const struct al_class *class = &shard->al->classes[page->class];
	uint64_t bytes = al_class_bytes(class);

	while (page->free != 0) {
		unsigned int i = (unsigned int)__builtin_ctzll(page->free);
		enum ps_status status =
			al_batch_push(shard, al_heap_of(page)->stream,
				      page->offset + i * bytes, bytes);

		if (status != PS_OK)
			return status;
		page->free &= page->free - 1;
	}
	return PS_OK;
}

static enum ps_status fence_heap(struct al_shard *shard, struct al_heap *heap)
{
	for (unsigned int c = 0; c < AL_CLASSES; c++) {
		while (heap->bins[c]) {
			struct al_range *page = heap->bins[c];
			enum ps_status status = fence_page(shard, page);

			if (status != PS_OK)
				return status;
			heap->bins[c] = page->page_next;
		}
	}
	return PS_OK;
}

/* A later fence on the stream's handle would be another stream's: blocks that
 * it has used wait for every stream instead. */
static void widen_uses(struct al_range *range, uint64_t stream)
{
	for (struct al_use *use = range->uses; use; use = use->next)
		if (use->stream == stream)
			use->stream = AL_STREAM_NONE;
}

static void widen_shard_uses(struct al_shard *shard, uint64_t stream)
{
	struct al_room *room = &shard->al->room;

	bs_quick_take(&room->lock);
	for (struct al_range *r = room->first; r; r = r->after) {
		struct al_heap *heap = al_heap_of(r);

		if (!heap || heap->shard == shard)
			widen_uses(r, stream);
	}
	bs_quick_drop(&room->lock);
}

static enum ps_status drop_in_shard(struct al_shard *shard, uint64_t stream)
{
	enum ps_status status = PS_OK;

	bs_quick_take(&shard->lock);
	al_shard_scavenge(shard);
	shard->recent = NULL;
	for (unsigned int i = 0; i < AL_HEAP_BUCKETS; i++) {
		for (struct al_heap *h = shard->heaps[i]; h; h = h->next) {
			if (h->stream != stream || status != PS_OK)
				continue;
			h->dropped = true;
			status = fence_heap(shard, h);
		}
	}
	widen_shard_uses(shard, stream);
	bs_quick_drop(&shard->lock);
	return status;
}

static void forget_name(struct al_allocator *al, uint64_t stream)
{
	struct al_home *home;

	bs_quick_take(&al->room.lock);
	home = al_room_home(&al->room, stream);
	if (home)
		home->dropped = true;
	bs_quick_drop(&al->room.lock);
}

size_t al_get_streams(struct al_allocator *al, uint64_t *streams_out,
		      size_t max)
{
	size_t count = 0;

	bs_quick_take(&al->room.lock);
	for (unsigned int i = 0; i < AL_HOME_BUCKETS; i++)
		for (struct al_home *h = al->room.homes[i]; h; h = h->next)
			if (!h->dropped && count < max)
				streams_out[count++] = h->stream;
	bs_quick_drop(&al->room.lock);
	return count;
}

static bool has_open_batch(struct al_allocator *al, uint64_t stream)
{
	bool open = false;

	for (unsigned int i = 0; i <= al->shard_mask && !open; i++) {
		bs_quick_take(&al->shards[i].lock);
		open = al_batch_is_open(&al->shards[i], stream);
		bs_quick_drop(&al->shards[i].lock);
	}
	return open;
}

/* Records every fence on the stream. Another thread may be about to do so,
 * and fail. */
static enum ps_status record_last(struct al_allocator *al, uint64_t stream)
{
	while (has_open_batch(al, stream)) {
		for (unsigned int i = 0; i <= al->shard_mask; i++) {
			enum ps_status status =
				al_batch_record_stream(&al->shards[i], stream);

			if (status != PS_OK)
				return status;
		}
		al_movers_wait(al);
	}
	return PS_OK;
}

enum ps_status al_drop_stream(struct al_allocator *al, uint64_t stream)
{
	struct theft theft = { .stream = stream, .bound = true };
	enum ps_status status;

	if (stream == AL_STREAM_NONE)
		return bs_fail(PS_INVALID_ARGUMENT, "no stream to drop");
	for (unsigned int i = 0; i <= al->shard_mask; i++) {
		status = drop_in_shard(&al->shards[i], stream);
		if (status != PS_OK)
			return status;
	}
	steal(al, &theft);
	if (theft.failed)
		return bs_fail_prefix(PS_HOST_MEMORY, "dropping a stream");
	status = record_last(al, stream);
	if (status == PS_OK)
		forget_name(al, stream);
	return status;
}

/* ---- back to the owner ---- */

/* Gives a range that was cut off back to where it was cut from. */
static void give_back(struct al_allocator *al, struct al_range *range)
{
	al_room_give(al, range, range->home);
}

/*
 * Cuts whole room units, at most @most bytes, from the end of a free range;
 * NULL when it holds none, or for want of host memory.
 */
static struct al_range *cut_units(struct al_allocator *al,
				  struct al_range *range, uint64_t most)
{
	uint64_t unit = al->config.room_unit;
	uint64_t limit = range->offset + range->size;
	uint64_t end = bs_round_down(limit, unit);
	struct al_range *middle = range, *rest = NULL;
	uint64_t start;

	if (!bs_round_up(range->offset, unit, &start) || start >= end)
		return NULL;
	if (end - start > most)
		start = end - most;
	al_room_unbin(al, range);
	if (end < limit)
		rest = al_room_split(al, range, end - range->offset);
	if (start > range->offset && (rest || end == limit))
		middle = al_room_split(al, range, start - range->offset);
	if (!middle || (!rest && end < limit))
		middle = NULL;
	if (middle != range)
		give_back(al, range);
	if (rest)
		give_back(al, rest);
	return middle;
}

static bool can_go(const struct al_range *range)
{
	return al_kind_of(range) == AL_KIND_FREE &&
	       range->home == AL_STREAM_NONE;
}

/* Takes one span of at most @most bytes that can be given back. */
static bool take_span(struct al_allocator *al, uint64_t most,
		      struct al_span *span_out)
{
	struct al_range *range, *found = NULL;

	bs_quick_take(&al->room.lock);
	for (range = al->room.last; range && !found; range = range->before)
		if (can_go(range))
			found = cut_units(al, range, most);
	if (found) {
		*span_out = (struct al_span){ .offset = found->offset,
					      .size = found->size,
					      .home = found->serves };
		al_room_remove(al, found);
	}
	bs_quick_drop(&al->room.lock);
	return found != NULL;
}

/* Gives up to @most bytes back, in whole room units; how many it gave. */
static uint64_t give_back_units(struct al_allocator *al, uint64_t most)
{
	struct al_span span;
	uint64_t released = 0;
	unsigned int phase;

	phase = al_mover_begin(al);
	while (released < most && take_span(al, most - released, &span)) {
		released += span.size;
		al->config.ops.shrink(al->config.owner, &span);
	}
	al_mover_end(al, phase);
	return released;
}

/* What is reserved beyond @keep, rounded up to room units. */
static uint64_t excess_of(struct al_allocator *al, uint64_t keep)
{
	uint64_t excess = 0, unit = al->config.room_unit;

	bs_quick_take(&al->room.lock);
	if (al->room.reserved > keep)
		excess = al->room.reserved - keep;
	bs_quick_drop(&al->room.lock);
	return bs_round_down(excess + unit - 1, unit);
}

enum ps_status al_trim(struct al_allocator *al, uint64_t keep,
		       uint64_t *released_out)
{
	al_reclaim_steal(al);
	al_batch_reap(al);
	scavenge(al);
	*released_out = give_back_units(al, excess_of(al, keep));
	return PS_OK;
}

enum ps_status al_wait(struct al_allocator *al)
{
	return al_batch_reap(al) ? PS_OK : al_batch_wait_oldest(al);
}

/* Bytes in whole room units that could be given back. */
static uint64_t loose_units(struct al_allocator *al)
{
	uint64_t unit = al->config.room_unit, sum = 0, start;
	struct al_range *range;

	bs_quick_take(&al->room.lock);
	for (range = al->room.first; range; range = range->after) {
		uint64_t end = bs_round_down(range->offset + range->size, unit);

		if (can_go(range) && bs_round_up(range->offset, unit, &start) &&
		    start < end)
			sum += end - start;
	}
	bs_quick_drop(&al->room.lock);
	return sum;
}

bool al_reclaim_gather(struct al_allocator *al, uint64_t bytes)
{
	uint64_t rounded;

	if (!bs_round_up(bytes, al->config.room_unit, &rounded) ||
	    loose_units(al) < rounded)
		return false;
	return give_back_units(al, rounded) > 0;
}

void al_reclaim_loosen(struct al_allocator *al, uint64_t bytes)
{
	uint64_t rounded;

	if (bs_round_up(bytes, al->config.room_unit, &rounded))
		give_back_units(al, rounded);
}

/* ---- everything back ---- */

static uint64_t pending_of(struct al_allocator *al)
{
	uint64_t pending = 0;

	for (unsigned int i = 0; i <= al->shard_mask; i++) {
		bs_quick_take(&al->shards[i].lock);
		pending += al->shards[i].pending;
		bs_quick_drop(&al->shards[i].lock);
	}
	return pending;
}

/* Waits for one fence, or for who else does. */
static enum ps_status settle_step(struct al_allocator *al)
{
	uint64_t events = atomic_load(&al->events);
	enum ps_status status;

	for (unsigned int i = 0; i <= al->shard_mask; i++) {
		status = al_batch_record_all(&al->shards[i]);
		if (status != PS_OK)
			return status;
	}
	status = al_batch_wait_oldest(al);
	if (status != PS_OK && status != PS_AGAIN)
		return status;
	if (al_batch_reap(al) || status == PS_OK)
		return PS_OK;
	al_movers_wait(al);
	if (atomic_load(&al->events) != events)
		return PS_OK;
	return bs_fail(PS_HOST_MEMORY, "no host memory to move freed blocks "
				       "from one stream's fence to the next");
}

/* Waits until nothing is behind a fence any more. */
static enum ps_status settle(struct al_allocator *al)
{
	enum ps_status status = PS_OK;

	while (status == PS_OK && pending_of(al) > 0)
		status = settle_step(al);
	return status;
}

struct naming {
	uint64_t base;
	char text[224];
	size_t used;
	uint64_t blocks;
	uint64_t bytes;
};

static void name_block(void *arg, uint64_t offset, uint64_t bytes)
{
	struct naming *naming = arg;
	int n = 0;

	naming->blocks++;
	naming->bytes += bytes;
	if (naming->blocks <= 4)
		n = snprintf(naming->text + naming->used,
			     sizeof(naming->text) - naming->used,
			     "%s%#" PRIx64 " (%" PRIu64 " bytes)",
			     naming->blocks > 1 ? ", " : "",
			     naming->base + offset, bytes);
	if (n > 0 && (size_t)n < sizeof(naming->text) - naming->used)
		naming->used += (size_t)n;
}

static enum ps_status refuse_live(struct al_allocator *al)
{
	struct naming naming = { .base = al->config.base };

	al_visit_live(al, name_block, &naming);
	if (naming.blocks == 0)
		return PS_OK;
	return bs_fail(PS_BUSY,
		       "%" PRIu64 " blocks of %" PRIu64
		       " bytes in all are still allocated: %s%s; free them "
		       "first",
		       naming.blocks, naming.bytes, naming.text,
		       naming.blocks > 4 ? ", ..." : "");
}

/* Free, with nothing left to wait for, and made of whole room units. */
static bool is_settled(const struct al_allocator *al,
		       const struct al_range *range)
{
	return al_kind_of(range) == AL_KIND_FREE &&
	       (range->home == AL_STREAM_NONE ||
		range->home == range->serves) &&
	       (range->offset | range->size) % al->config.room_unit == 0;
}

/* Takes all ranges out of the room if they are settled: a list by bin_next. */
static enum ps_status take_all(struct al_allocator *al,
			       struct al_range **list_out)
{
	struct al_room *room = &al->room;
	struct al_range *range;

	for (range = room->first; range; range = range->after)
		if (!is_settled(al, range))
			return bs_fail(PS_BUSY, "another thread allocates or "
						"frees: try again after it");
	while ((range = room->last) != NULL) {
		al_room_unbin(al, range);
		al_room_detach(al, range);
		range->bin_next = *list_out;
		*list_out = range;
	}
	return PS_OK;
}

static enum ps_status give_all_back(struct al_allocator *al)
{
	struct al_range *list = NULL, *range;
	enum ps_status status;

	bs_quick_take(&al->room.lock);
	status = take_all(al, &list);
	bs_quick_drop(&al->room.lock);
	while ((range = list) != NULL) {
		const struct al_span span = { .offset = range->offset,
					      .size = range->size,
					      .home = range->serves };

		list = range->bin_next;
		al->config.ops.shrink(al->config.owner, &span);
		bs_quick_take(&al->room.lock);
		al_room_recycle(al, range);
		bs_quick_drop(&al->room.lock);
	}
	return status;
}

/*
 * Makes all memory free for every stream. A page that a late block keeps from
 * being empty goes home to its stream only when that block is back, so this
 * may take several rounds. Memory bound to one stream comes last: it stays
 * with its stream, and nobody could tell that its work is done.
 */
static enum ps_status settle_all(struct al_allocator *al)
{
	struct theft bound = { .stream = AL_STREAM_NONE, .bound = true };
	enum ps_status status;

	do {
		status = settle(al);
		if (status != PS_OK)
			return status;
	} while (al_reclaim_steal(al));
	steal(al, &bound);
	if (bound.failed)
		return bs_fail_prefix(PS_HOST_MEMORY, "taking room back");
	return settle(al);
}

enum ps_status al_clear(struct al_allocator *al)
{
	enum ps_status status = refuse_live(al);
	unsigned int phase;

	if (status == PS_OK)
		status = settle_all(al);
	if (status != PS_OK)
		return status;
	phase = al_mover_begin(al);
	status = give_all_back(al);
	al_mover_end(al, phase);
	return status;
}
