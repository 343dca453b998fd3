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

static inline enum ps_status page_block(struct held *held, uint64_t offset)
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

/* What hold() found is no live block: lets go of it and says why. */
static __attribute__((noinline, cold)) enum ps_status
refuse(struct held *held, uint64_t offset, enum ps_status status)
{
	bool known = status == PS_INTERIOR && !held->large;

	if (known)
		explain_interior(held, offset);
	release(held);
	return known ? status : explain(held->shard->al, offset);
}

/* Finds the live block at @offset and holds it; not on failure. */
static inline enum ps_status hold(struct al_allocator *al, uint64_t offset,
				  struct held *held)
{
	struct al_heap *heap;
	enum ps_status status;

	held->range = al_map_get(al, offset);
	heap = held->range ? al_heap_of(held->range) : NULL;
	held->large = !heap;
	held->shard = heap ? heap->shard : al_shard_mine(al);
	bs_quick_take(&held->shard->lock);
	if (__builtin_expect(held->large, 0)) {
		bs_quick_take(&al->room.lock);
		held->range = al_map_get(al, offset);
		status = large_block(held, offset);
	} else {
		status = page_block(held, offset);
	}
	if (__builtin_expect(status != PS_OK, 0))
		return refuse(held, offset, status);
	return PS_OK;
}

/* ---- free ---- */

static void count_page_free(const struct held *held)
{
	held->range->live &= ~(1ull << held->index);
	held->shard->frees++;
	held->shard->live_blocks[held->range->class]--;
	al_gauge_sub(&held->shard->gauge, held->bytes);
}

/* May the block be given out again at once, on its page's home? */
static inline bool is_direct(const struct held *held, uint64_t stream)
{
	const struct al_heap *heap = al_heap_of(held->range);

	return stream == heap->stream && stream != AL_STREAM_NONE &&
	       !heap->dropped && !(held->range->used & 1ull << held->index);
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

/* The block waits for a fence, or goes to the room. Lets go of it. */
static __attribute__((noinline)) enum ps_status
free_indirectly(struct held *held, uint64_t offset, uint64_t stream)
{
	struct al_shard *shard = held->shard;
	enum ps_status status;
	bool tend;

	if (held->large) {
		status = large_block_free(held, offset, stream);
		bs_quick_drop(&shard->al->room.lock);
	} else {
		status = al_batch_push(shard, stream, offset, held->bytes);
		if (status == PS_OK)
			count_page_free(held);
	}
	if (shard->passed > 0)
		al_batch_drain(shard, DRAIN_ON_FREE);
	tend = al_batch_needs_tending(shard);
	bs_quick_drop(&shard->lock);
	if (tend)
		al_batch_tend(shard);
	return status;
}

enum ps_status al_free(struct al_allocator *al, uint64_t offset,
		       uint64_t stream)
{
	struct held held;
	enum ps_status status = hold(al, offset, &held);

	if (__builtin_expect(status != PS_OK, 0))
		return status;
	if (held.large || !is_direct(&held, stream))
		return free_indirectly(&held, offset, stream);
	count_page_free(&held);
	al_page_give(held.range, held.index);
	bs_quick_drop(&held.shard->lock);
	return PS_OK;
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
