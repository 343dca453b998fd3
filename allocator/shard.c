/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "allocator/shard.h"

#include "allocator/batch.h"
#include "allocator/room.h"

/* What a heap that finds no page takes out of passed batches first. */
#define DRAIN_ON_MISS 16u

enum ps_status al_shard_init(struct al_allocator *al, struct al_shard *shard)
{
	bs_quick_init(&shard->lock, BS_RANK_AL_SHARD);
	shard->al = al;
	return al_batch_reserve(shard);
}

void al_shard_done(struct al_shard *shard)
{
	struct al_allocator *al = shard->al;

	if (!al)
		return;
	al_batch_free_all(shard);
	for (unsigned int i = 0; i < AL_HEAP_BUCKETS; i++) {
		while (shard->heaps[i]) {
			struct al_heap *heap = shard->heaps[i];

			shard->heaps[i] = heap->next;
			al_host_free(al, heap);
		}
	}
}

struct al_shard *al_shard_mine(struct al_allocator *al)
{
	return &al->shards[(bs_thread_number() - 1) & al->shard_mask];
}

/* ---- heaps ---- */

static struct al_heap *heap_new(struct al_shard *shard, uint64_t stream,
				struct al_heap **bucket)
{
	struct al_allocator *al = shard->al;
	struct al_home *home;
	struct al_heap *heap;

	/* So that a page can always go back to the room. */
	bs_quick_take(&al->room.lock);
	home = al_room_home_name(al, stream);
	bs_quick_drop(&al->room.lock);
	heap = home ? al_host_alloc(al, sizeof(*heap)) : NULL;
	if (!heap)
		return NULL;
	heap->shard = shard;
	heap->stream = stream;
	heap->next = *bucket;
	*bucket = heap;
	bs_quick_own(&shard->lock);
	return heap;
}

static void heap_revive(struct al_heap *heap)
{
	struct al_room *room = &heap->shard->al->room;

	heap->dropped = false;
	bs_quick_take(&room->lock);
	al_room_home_name(heap->shard->al, heap->stream);
	bs_quick_drop(&room->lock);
}

static struct al_heap *heap_get(struct al_shard *shard, uint64_t stream)
{
	struct al_heap **bucket, *heap = shard->recent;

	if (heap && heap->stream == stream)
		return heap;
	/* Handles are addresses: their low bits say nothing. */
	bucket = &shard->heaps[(stream ^ stream >> 8) % AL_HEAP_BUCKETS];
	for (heap = *bucket; heap; heap = heap->next)
		if (heap->stream == stream)
			break;
	if (!heap)
		heap = heap_new(shard, stream, bucket);
	else if (heap->dropped)
		heap_revive(heap);
	if (heap)
		shard->recent = heap;
	return heap;
}

/* A bin's first page is known by being first: its page_prev means nothing, so
 * that dropping it does not touch the second. */
static void bin_push(struct al_heap *heap, struct al_range *page)
{
	struct al_range **bin = &heap->bins[page->class];

	page->page_next = *bin;
	if (*bin)
		(*bin)->page_prev = page;
	*bin = page;
}

static void bin_drop(struct al_heap *heap, struct al_range *page)
{
	struct al_range **bin = &heap->bins[page->class];

	if (*bin == page) {
		*bin = page->page_next;
		return;
	}
	page->page_prev->page_next = page->page_next;
	if (page->page_next)
		page->page_next->page_prev = page->page_prev;
}

/* pre: the page is in its bin. */
static bool is_alone(const struct al_heap *heap, const struct al_range *page)
{
	return heap->bins[page->class] == page && !page->page_next;
}

/* ---- pages ---- */

static bool is_empty(const struct al_range *page)
{
	return page->free == al_page_all(page);
}

/* The busier a class is in its heap, the larger its next page. */
static uint32_t blocks_wanted(const struct al_heap *heap, unsigned int class)
{
	const struct al_class *c = &heap->shard->al->classes[class];
	uint32_t blocks = c->blocks_min;
	unsigned int doublings = bs_log2(heap->pages[class] + 1u);

	while (doublings-- > 0 && blocks < c->blocks_max)
		blocks *= 2;
	return blocks;
}

/* A page of one block is only ever asked for by its start. */
static void map_page(struct al_allocator *al, const struct al_range *page,
		     struct al_range *entry)
{
	uint64_t end = page->blocks > 1 ? page->size : AL_UNIT;

	for (uint64_t at = 0; at < end; at += AL_UNIT)
		al_map_set(al, page->offset + at, entry);
}

/* Makes a range a page. Under both locks, published last. */
static void page_set_up(struct al_heap *heap, struct al_range *page,
			unsigned int class, uint32_t blocks)
{
	page->class = (uint8_t) class;
	page->blocks = (uint8_t)blocks;
	page->live = 0;
	page->used = 0;
	page->free = al_page_all(page);
	page->home = heap->stream;
	al_room_set_kind(page, AL_KIND_PAGE);
	atomic_store_explicit(&page->heap, heap, memory_order_release);
	map_page(heap->shard->al, page, page);
	heap->pages[class]++;
	heap->shard->empty += page->size;
	bin_push(heap, page);
}

static enum ps_status page_new(struct al_heap *heap, unsigned int class)
{
	struct al_allocator *al = heap->shard->al;
	const struct al_class *c = &al->classes[class];
	uint32_t blocks = blocks_wanted(heap, class);
	struct al_range *page = NULL;
	enum ps_status status;

	bs_quick_take(&al->room.lock);
	status = al_room_take(al, blocks * al_class_bytes(c), heap->stream,
			      AL_ZONE_PAGES, &page);
	if (status == PS_OUT_OF_MEMORY && blocks > c->blocks_min) {
		blocks = c->blocks_min;
		status = al_room_take(al, blocks * al_class_bytes(c),
				      heap->stream, AL_ZONE_PAGES, &page);
	}
	if (status == PS_OK)
		page_set_up(heap, page, class, blocks);
	bs_quick_drop(&al->room.lock);
	return status;
}

/* pre: it is empty. */
static void page_retire(struct al_heap *heap, struct al_range *page)
{
	struct al_allocator *al = heap->shard->al;

	bin_drop(heap, page);
	heap->pages[page->class]--;
	heap->shard->empty -= page->size;
	bs_quick_take(&al->room.lock);
	map_page(al, page, NULL);
	atomic_store_explicit(&page->heap, NULL, memory_order_relaxed);
	al_room_give(al, page, heap->stream);
	bs_quick_drop(&al->room.lock);
}

void al_page_turn(struct al_range *page, bool was_full)
{
	struct al_heap *heap = al_heap_of(page);
	struct al_shard *shard = heap->shard;

	if (was_full)
		bin_push(heap, page);
	if (!is_empty(page))
		return;
	shard->empty += page->size;
	/* The last page of a class stays: a program that allocates and frees
	 * one block would make and retire its page each time. */
	if (shard->empty > atomic_load_explicit(&shard->al->empty_max,
						memory_order_relaxed) &&
	    !is_alone(heap, page))
		page_retire(heap, page);
}

static bool heap_scavenge(struct al_heap *heap)
{
	bool found = false;

	for (unsigned int c = 0; c < AL_CLASSES; c++) {
		struct al_range *page = heap->bins[c], *next;

		for (; page; page = next) {
			next = page->page_next;
			if (!is_empty(page))
				continue;
			page_retire(heap, page);
			found = true;
		}
	}
	return found;
}

bool al_shard_scavenge(struct al_shard *shard)
{
	bool found = false;

	for (unsigned int i = 0; i < AL_HEAP_BUCKETS; i++)
		for (struct al_heap *h = shard->heaps[i]; h; h = h->next)
			if (heap_scavenge(h))
				found = true;
	return found;
}

/* ---- allocation ---- */

static uint64_t page_take(struct al_shard *shard, struct al_heap *heap,
			  unsigned int class)
{
	struct al_allocator *al = shard->al;
	struct al_range *page = heap->bins[class];
	unsigned int index = (unsigned int)__builtin_ctzll(page->free);
	uint64_t bytes = al_class_bytes(&al->classes[class]);

	if (is_empty(page))
		shard->empty -= page->blocks * bytes;
	page->free &= page->free - 1;
	page->live |= 1ull << index;
	if (page->free == 0)
		bin_drop(heap, page);
	shard->allocs++;
	shard->live_blocks[class]++;
	al_gauge_add(al, &shard->gauge, bytes);
	return page->offset + index * bytes;
}

static enum ps_status find_page(struct al_shard *shard, struct al_heap *heap,
				unsigned int class)
{
	if (shard->passed > 0)
		al_batch_drain(shard, DRAIN_ON_MISS);
	if (heap->bins[class])
		return PS_OK;
	return page_new(heap, class);
}

enum ps_status al_shard_alloc(struct al_shard *shard, unsigned int class,
			      uint64_t stream, uint64_t *offset_out)
{
	enum ps_status status = PS_OK;
	struct al_heap *heap;

	bs_quick_take(&shard->lock);
	heap = heap_get(shard, stream);
	if (!heap)
		status = bs_fail(PS_HOST_MEMORY,
				 "no host memory for a stream's heap");
	else if (!heap->bins[class])
		status = find_page(shard, heap, class);
	if (status == PS_OK)
		*offset_out = page_take(shard, heap, class);
	bs_quick_drop(&shard->lock);
	return status;
}
