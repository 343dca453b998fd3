/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The numbers, and the walks that need every lock: all shards', then the
 * room's. */
#include "allocator/stats.h"

#include "allocator/room.h"

void al_lock_all(struct al_allocator *al)
{
	for (unsigned int i = 0; i <= al->shard_mask; i++)
		bs_quick_take(&al->shards[i].lock);
	bs_quick_take(&al->room.lock);
}

void al_unlock_all(struct al_allocator *al)
{
	bs_quick_drop(&al->room.lock);
	for (unsigned int i = al->shard_mask + 1; i-- > 0;)
		bs_quick_drop(&al->shards[i].lock);
}

/* ---- the peak ---- */

static struct al_gauge *gauge_at(struct al_allocator *al, unsigned int i)
{
	return i > al->shard_mask ? &al->room.gauge : &al->shards[i].gauge;
}

static uint64_t sum_live(struct al_allocator *al, unsigned int *used_out)
{
	unsigned int used = 0;
	uint64_t sum = 0;

	for (unsigned int i = 0; i <= al->shard_mask + 1; i++) {
		uint64_t live = al_live_of(gauge_at(al, i));

		sum += live;
		used += live > 0;
	}
	*used_out = used;
	return sum;
}

/*
 * While each gauge stays below its limit, their sum stays below the peak, and
 * nobody need add them up. Threads that raise at the same moment may miss what
 * the other is just adding; one thread never does.
 */
static void raise_from(struct al_allocator *al, uint64_t peak)
{
	unsigned int used;
	uint64_t sum = sum_live(al, &used), share;

	if (sum > peak)
		peak = sum;
	atomic_store_explicit(&al->peak, peak, memory_order_relaxed);
	share = used > 0 ? (peak - sum) / used : 0;
	for (unsigned int i = 0; i <= al->shard_mask + 1; i++) {
		struct al_gauge *gauge = gauge_at(al, i);
		uint64_t live = al_live_of(gauge);

		atomic_store_explicit(&gauge->limit,
				      live > 0 ? live + share : 0,
				      memory_order_relaxed);
	}
}

void al_gauge_raise(struct al_allocator *al)
{
	bs_quick_take(&al->peak_lock);
	raise_from(al, atomic_load_explicit(&al->peak, memory_order_relaxed));
	bs_quick_drop(&al->peak_lock);
}

uint64_t al_peak_restart(struct al_allocator *al)
{
	uint64_t peak;

	bs_quick_take(&al->peak_lock);
	peak = atomic_load_explicit(&al->peak, memory_order_relaxed);
	if (peak > al->peak_before)
		al->peak_before = peak;
	raise_from(al, 0);
	bs_quick_drop(&al->peak_lock);
	return peak;
}

static uint64_t peak_ever(struct al_allocator *al)
{
	uint64_t peak;

	bs_quick_take(&al->peak_lock);
	peak = atomic_load_explicit(&al->peak, memory_order_relaxed);
	if (al->peak_before > peak)
		peak = al->peak_before;
	bs_quick_drop(&al->peak_lock);
	return peak;
}

/* ---- statistics ---- */

static void add_class(struct ps_mem_stats *stats, unsigned int entry,
		      uint64_t blocks, uint64_t bytes)
{
	stats->classes[entry].live_blocks += blocks;
	stats->classes[entry].live += bytes;
	stats->live_blocks += blocks;
	stats->live += bytes;
}

static void add_shard(const struct al_shard *shard, struct ps_mem_stats *stats)
{
	for (unsigned int c = 0; c < AL_CLASSES; c++) {
		uint64_t bytes = al_class_bytes(&shard->al->classes[c]);

		add_class(stats, al_stats_class(bytes), shard->live_blocks[c],
			  shard->live_blocks[c] * bytes);
	}
	stats->allocs += shard->allocs;
	stats->frees += shard->frees;
	stats->fences += shard->fences;
	stats->fence_waits += shard->fence_waits;
	stats->pending += shard->pending;
}

static void add_room(struct al_allocator *al, struct ps_mem_stats *stats)
{
	const struct al_room *room = &al->room;

	for (unsigned int i = 0; i < PS_SIZE_CLASSES; i++)
		add_class(stats, i, room->live_blocks[i], room->live_bytes[i]);
	stats->allocs += room->allocs;
	stats->frees += room->frees;
	stats->failed_allocs += room->failed;
	stats->reserved = room->reserved;
	stats->peak_reserved = room->peak_reserved;
	stats->largest_free = al_room_largest(al, AL_STREAM_NONE);
}

static void clear_own(struct ps_mem_stats *stats)
{
	for (unsigned int i = 0; i < PS_SIZE_CLASSES; i++) {
		stats->classes[i].largest = i < 63 ? 1ull << i : UINT64_MAX;
		stats->classes[i].live_blocks = 0;
		stats->classes[i].live = 0;
	}
	stats->classes[PS_SIZE_CLASSES - 1].largest = UINT64_MAX;
	stats->live = 0;
	stats->live_blocks = 0;
	stats->allocs = 0;
	stats->frees = 0;
	stats->failed_allocs = 0;
	stats->fences = 0;
	stats->fence_waits = 0;
	stats->pending = 0;
}

void al_get_stats(struct al_allocator *al, struct ps_mem_stats *stats)
{
	clear_own(stats);
	al_lock_all(al);
	for (unsigned int i = 0; i <= al->shard_mask; i++)
		add_shard(&al->shards[i], stats);
	add_room(al, stats);
	stats->peak_live = peak_ever(al);
	al_unlock_all(al);
	stats->cached = stats->reserved - stats->live;
}

/* ---- every live block ---- */

static void visit_page(struct al_allocator *al, const struct al_range *page,
		       void (*visit)(void *, uint64_t, uint64_t), void *arg)
{
	uint64_t bytes = al_class_bytes(&al->classes[page->class]);

	for (uint64_t live = page->live; live != 0; live &= live - 1)
		visit(arg,
		      page->offset + (uint64_t)__builtin_ctzll(live) * bytes,
		      bytes);
}

void al_visit_live(struct al_allocator *al,
		   void (*visit)(void *arg, uint64_t offset, uint64_t bytes),
		   void *arg)
{
	al_lock_all(al);
	for (struct al_range *r = al->room.first; r; r = r->after) {
		if (al_kind_of(r) == AL_KIND_LARGE)
			visit(arg, r->offset, r->size);
		else if (al_kind_of(r) == AL_KIND_PAGE)
			visit_page(al, r, visit, arg);
	}
	al_unlock_all(al);
}
