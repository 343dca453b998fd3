/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is done to a block that exists: freed, looked at, used on one more
 * stream. The address comes from a caller and may be anything: what the map
 * says is looked at again under the lock that guards it.
 */
#include <inttypes.h>

#include "allocator/allocator.h"
#include "allocator/batch.h"
#include "allocator/room.h"
#include "allocator/shard.h"

/* Blocks sent home with each fenced free: more than one, or the batches that
 * have passed would grow. */
#define DRAIN_ON_FREE 4u

/* ---- which block? ---- */

/*
 * A block, held: its shard's lock for a block of a page, the room's too for a
 * large one.
 */
struct held {
	struct al_shard *shard;
	struct al_range *range;
	unsigned int index; /* in its page */
	bool large;
	uint64_t bytes;
};

static enum ps_status page_block(struct held *held, uint64_t offset)
{
	struct al_range *page = held->range;
	struct al_heap *heap = al_heap_of(page);
	const struct al_class *class;
	uint64_t distance = offset - page->offset;

	/* The page may have been retired since the map was read. */
	if (!heap || heap->shard != held->shard)
		return PS_DOUBLE_FREE;
	class = &held->shard->al->classes[page->class];
	held->bytes = al_class_bytes(class);
	if (distance >= page->blocks * held->bytes)
		return PS_DOUBLE_FREE;
	held->index = al_class_index(class, distance);
	if (held->index * held->bytes != distance)
		return PS_INTERIOR;
	if (!(page->live & 1ull << held->index))
		return PS_DOUBLE_FREE;
	return PS_OK;
}

static enum ps_status large_block(struct held *held, uint64_t offset)
{
	struct al_range *range = held->range;

	if (!range || al_kind_of(range) != AL_KIND_LARGE)
		return PS_DOUBLE_FREE;
	if (range->offset != offset)
		return PS_INTERIOR;
	held->bytes = range->size;
	return PS_OK;
}

static void release(struct held *held)
{
	if (held->large)
		bs_quick_drop(&held->shard->al->room.lock);
	bs_quick_drop(&held->shard->lock);
}

/* The range that covers an address, as it was a moment ago. */
static bool find_cover(struct al_allocator *al, uint64_t offset,
		       struct al_span *span_out, enum al_kind *kind_out)
{
	struct al_range *range;

	bs_quick_take(&al->room.lock);
	range = al_room_find(al, offset);
	if (range) {
		*kind_out = al_kind_of(range);
		*span_out = (struct al_span){ .offset = range->offset,
					      .size = range->size };
	}
	bs_quick_drop(&al->room.lock);
	return range != NULL;
}

/* Says what is known of an address that is no live block. */
static enum ps_status explain(struct al_allocator *al, uint64_t offset)
{
	struct al_span span;
	enum al_kind kind;

	if (!find_cover(al, offset, &span, &kind))
		return bs_fail(PS_NOT_OURS,
			       "offset 0x%" PRIx64
			       " was never given out by this pool",
			       offset);
	/* A page's block that is alone in it is in the map by its start. */
	if ((kind == AL_KIND_LARGE && offset != span.offset) ||
	    (kind == AL_KIND_PAGE && !al_map_get(al, offset)))
		return bs_fail(PS_INTERIOR,
			       "offset 0x%" PRIx64 " lies %" PRIu64
			       " bytes into the block of %" PRIu64
			       " bytes at 0x%" PRIx64,
			       offset, offset - span.offset, span.size,
			       span.offset);
	return bs_fail(PS_DOUBLE_FREE,
		       "offset 0x%" PRIx64
		       " is no live block: freed before, or never allocated",
		       offset);
}

static enum ps_status explain_interior(const struct held *held, uint64_t offset)
{
	uint64_t start = held->range->offset + held->index * held->bytes;

	return bs_fail(PS_INTERIOR,
		       "offset 0x%" PRIx64 " lies %" PRIu64
		       " bytes into a block of %" PRIu64 " bytes at 0x%" PRIx64,
		       offset, offset - start, held->bytes, start);
}

/* Finds the live block at @offset and holds it; releases on failure. */
static enum ps_status hold(struct al_allocator *al, uint64_t offset,
			   struct held *held)
{
	struct al_heap *heap;
	enum ps_status status;

	held->range = al_map_get(al, offset);
	heap = held->range ? al_heap_of(held->range) : NULL;
	held->large = !heap;
	held->shard = heap ? heap->shard : al_shard_mine(al);
	bs_quick_take(&held->shard->lock);
	if (held->large) {
		bs_quick_take(&al->room.lock);
		held->range = al_map_get(al, offset);
		status = large_block(held, offset);
	} else {
		status = page_block(held, offset);
	}
	if (status == PS_OK)
		return PS_OK;
	if (status == PS_INTERIOR && !held->large)
		explain_interior(held, offset);
	release(held);
	if (status == PS_INTERIOR && !held->large)
		return status;
	return explain(al, offset);
}

/* ---- free ---- */

static enum ps_status page_block_free(struct held *held, uint64_t offset,
				      uint64_t stream)
{
	struct al_shard *shard = held->shard;
	struct al_range *page = held->range;
	uint64_t bit = 1ull << held->index;
	bool fenced = stream == AL_STREAM_NONE || page->used & bit ||
		      stream != al_heap_of(page)->stream;

	if (fenced) {
		enum ps_status status =
			al_batch_push(shard, stream, offset, held->bytes);

		if (status != PS_OK)
			return status;
	}
	page->live &= ~bit;
	shard->frees++;
	shard->live_blocks[page->class]--;
	al_gauge_sub(&shard->gauge, held->bytes);
	if (!fenced)
		al_page_give(shard, page, held->index);
	return PS_OK;
}

static enum ps_status large_block_free(struct held *held, uint64_t offset,
				       uint64_t stream)
{
	struct al_allocator *al = held->shard->al;
	struct al_room *room = &al->room;
	struct al_range *range = held->range;
	unsigned int entry = al_stats_class(held->bytes);
	bool fenced =
		stream == AL_STREAM_NONE || range->uses ||
		(range->serves != AL_STREAM_NONE && range->serves != stream);

	if (fenced) {
		enum ps_status status =
			al_batch_push(held->shard, stream, offset, held->bytes);

		if (status != PS_OK)
			return status;
		al_room_set_kind(range, AL_KIND_FENCED);
	} else if (!al_room_home_get(al, stream)) {
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for a stream's bins");
	}
	room->frees++;
	room->live_blocks[entry]--;
	room->live_bytes[entry] -= held->bytes;
	al_gauge_sub(&room->gauge, held->bytes);
	if (!fenced)
		al_room_give(al, range, stream);
	return PS_OK;
}

enum ps_status al_free(struct al_allocator *al, uint64_t offset,
		       uint64_t stream)
{
	struct held held;
	enum ps_status status = hold(al, offset, &held);
	bool tend;

	if (status != PS_OK)
		return status;
	if (held.large)
		status = large_block_free(&held, offset, stream);
	else
		status = page_block_free(&held, offset, stream);
	if (held.large)
		bs_quick_drop(&al->room.lock);
	if (held.shard->passed > 0)
		al_batch_drain(held.shard, DRAIN_ON_FREE);
	tend = al_batch_needs_tending(held.shard);
	bs_quick_drop(&held.shard->lock);
	if (tend)
		al_batch_tend(held.shard);
	return status;
}

/* ---- the rest ---- */

enum ps_status al_usable_size(struct al_allocator *al, uint64_t offset,
			      uint64_t *bytes_out)
{
	struct held held;
	enum ps_status status = hold(al, offset, &held);

	if (status != PS_OK)
		return status;
	*bytes_out = held.bytes;
	release(&held);
	return PS_OK;
}

static enum ps_status add_use(struct held *held, uint64_t offset,
			      uint64_t stream)
{
	struct al_use *use = held->range->uses;

	for (; use; use = use->next)
		if (use->offset == offset && use->stream == stream)
			return PS_OK;
	use = al_host_alloc(held->shard->al, sizeof(*use));
	if (!use)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory to record a stream");
	use->offset = offset;
	use->stream = stream;
	use->next = held->range->uses;
	held->range->uses = use;
	return PS_OK;
}

enum ps_status al_record_stream(struct al_allocator *al, uint64_t offset,
				uint64_t stream)
{
	struct held held;
	enum ps_status status = hold(al, offset, &held);

	if (status != PS_OK)
		return status;
	status = add_use(&held, offset, stream);
	if (status == PS_OK && !held.large)
		held.range->used |= 1ull << held.index;
	release(&held);
	return status;
}
