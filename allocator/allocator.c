/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "allocator/allocator.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "allocator/batch.h"
#include "allocator/reclaim.h"
#include "allocator/room.h"
#include "allocator/shard.h"
#include "allocator/state.h"

#define SHARDS_MAX 256u

/* Other threads may be faster at what was gathered. */
#define GATHERS_MAX 3u

/* ---- host memory ---- */

void *al_host_alloc(struct al_allocator *al, size_t bytes)
{
	const struct al_ops *ops = &al->config.ops;
	size_t rounded = (bytes + AL_LINE_PAIR - 1) & ~(AL_LINE_PAIR - 1ul);
	void *memory;

	if (ops->host_alloc)
		memory = ops->host_alloc(al->config.owner, rounded);
	else
		memory = aligned_alloc(AL_LINE_PAIR, rounded);
	if (memory)
		memset(memory, 0, rounded);
	return memory;
}

void al_host_free(struct al_allocator *al, void *memory)
{
	const struct al_ops *ops = &al->config.ops;

	if (ops->host_free)
		ops->host_free(al->config.owner, memory);
	else
		free(memory);
}

/* ---- birth and death ---- */

static unsigned int shard_count(unsigned int wanted)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int count = 1;

	if (wanted == 0)
		wanted = processors > 0 ? (unsigned int)processors : 1;
	while (count < wanted && count < SHARDS_MAX)
		count *= 2;
	return count;
}

/* A map of a whole window is mostly untouched: the kernel backs only what is
 * written, and with huge pages where it can, since it is read at random. */
static enum ps_status map_new(struct al_allocator *al)
{
	size_t bytes, chunks;
	void *map;

	al->map_entries = al->config.capacity / AL_UNIT;
	chunks = al->map_entries / AL_CHUNK_RANGES + 1;
	al->chunks = al_host_alloc(al, chunks * sizeof(al->chunks[0]));
	if (!al->chunks)
		return bs_fail(PS_HOST_MEMORY, "no host memory for books");
	bytes = al->map_entries * sizeof(al->map[0]);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return bs_fail(PS_HOST_MEMORY,
			       "no host addresses for a map of %zu bytes",
			       bytes);
	madvise(map, bytes, MADV_HUGEPAGE);
	al->map = map;
	return PS_OK;
}

static enum ps_status shards_new(struct al_allocator *al)
{
	unsigned int count = shard_count(al->config.shards);
	enum ps_status status;

	al->shards = al_host_alloc(al, count * sizeof(al->shards[0]));
	if (!al->shards)
		return bs_fail(PS_HOST_MEMORY, "no host memory for %u shards",
			       count);
	al->shard_mask = count - 1;
	for (unsigned int i = 0; i < count; i++) {
		status = al_shard_init(al, &al->shards[i]);
		if (status != PS_OK)
			return status;
	}
	return PS_OK;
}

static bool is_valid(const struct al_config *config)
{
	return config->capacity > 0 && config->capacity < AL_CAPACITY_MAX &&
	       config->capacity % AL_UNIT == 0 &&
	       config->small_max <= AL_SMALL_MAX &&
	       config->room_unit >= AL_UNIT && bs_is_pow2(config->room_unit) &&
	       config->ops.grow && config->ops.shrink &&
	       config->ops.fence_record && config->ops.fence_poll &&
	       config->ops.fence_wait && config->ops.fence_free;
}

static struct al_allocator *books_new(const struct al_config *config)
{
	struct al_allocator stencil = { .config = *config };

	return al_host_alloc(&stencil, sizeof(stencil));
}

enum ps_status al_new(const struct al_config *config,
		      struct al_allocator **al_out)
{
	struct al_allocator *al;
	enum ps_status status;

	if (!is_valid(config))
		return bs_fail(
			PS_INVALID_ARGUMENT,
			"allocator: capacity %" PRIu64 " and room unit %" PRIu64
			" must be multiples of %u, and no operation NULL",
			config->capacity, config->room_unit, AL_UNIT);
	al = books_new(config);
	if (!al)
		return bs_fail(PS_HOST_MEMORY, "no host memory for books");
	al->config = *config;
	al->small_max = config->small_max ? config->small_max : AL_SMALL_MAX;
	al_class_table(al->classes);
	bs_quick_init(&al->peak_lock, BS_RANK_AL_PEAK);
	bs_lock_init(&al->movers.lock, BS_RANK_AL_MOVERS);
	pthread_cond_init(&al->movers.gone, NULL);
	al_room_init(&al->room);
	status = map_new(al);
	if (status == PS_OK)
		status = shards_new(al);
	if (status != PS_OK) {
		al_destroy(al);
		return status;
	}
	*al_out = al;
	return PS_OK;
}

void al_destroy(struct al_allocator *al)
{
	if (!al)
		return;
	if (al->shards)
		for (unsigned int i = 0; i <= al->shard_mask; i++)
			al_shard_done(&al->shards[i]);
	al_host_free(al, al->shards);
	if (al->map)
		munmap((void *)al->map, al->map_entries * sizeof(al->map[0]));
	al_room_done(al);
	al_host_free(al, al->chunks);
	pthread_cond_destroy(&al->movers.gone);
	bs_lock_done(&al->movers.lock);
	al_host_free(al, al);
}

/* ---- allocation ---- */

struct request {
	uint64_t bytes;
	uint64_t stream;
	enum ps_status cause; /* what the owner said when asked for help */
	unsigned int gathers; /* an owner may make nothing of the parts */
};

static enum ps_status large_alloc(struct al_allocator *al,
				  const struct request *request,
				  uint64_t *offset_out)
{
	struct al_room *room = &al->room;
	struct al_range *range = NULL;
	enum ps_status status;
	unsigned int entry;
	uint64_t rounded;

	if (!bs_round_up(request->bytes, AL_UNIT, &rounded))
		return PS_OUT_OF_MEMORY;
	bs_quick_take(&room->lock);
	al_room_home_name(al, request->stream);
	status = al_room_take(al, rounded, request->stream, AL_ZONE_LARGE,
			      &range);
	if (status == PS_OK) {
		entry = al_stats_class(rounded);
		al_room_set_kind(range, AL_KIND_LARGE);
		al_map_set(al, range->offset, range);
		room->allocs++;
		room->live_blocks[entry]++;
		room->live_bytes[entry] += rounded;
		al_gauge_add(al, &room->gauge, rounded);
		*offset_out = range->offset;
	}
	bs_quick_drop(&room->lock);
	return status;
}

static enum ps_status try_alloc(struct al_allocator *al,
				const struct request *request,
				uint64_t *offset_out)
{
	if (request->bytes > al->small_max)
		return large_alloc(al, request, offset_out);
	return al_shard_alloc(al_shard_mine(al), al_class_of(request->bytes),
			      request->stream, offset_out);
}

static enum ps_status
grow(struct al_allocator *al, const struct request *request,
     enum ps_status (*more)(void *, uint64_t, uint64_t, struct al_span *))
{
	const struct al_ops *ops = &al->config.ops;
	uint64_t bytes = request->bytes;
	struct al_span span;
	enum ps_status status;
	unsigned int phase;

	/* A page of the class, in its smallest form. */
	if (bytes <= al->small_max) {
		const struct al_class *c = &al->classes[al_class_of(bytes)];

		bytes = c->blocks_min * al_class_bytes(c);
	}
	phase = al_mover_begin(al);
	status = more(al->config.owner, bytes, request->stream, &span);
	if (status == PS_OK) {
		bs_quick_take(&al->room.lock);
		status = al_room_add(al, &span);
		bs_quick_drop(&al->room.lock);
		if (status != PS_OK)
			ops->shrink(al->config.owner, &span);
	}
	al_mover_end(al, phase);
	return status;
}

/* What the owner can have of others, who may take their time. */
static enum ps_status grow_late(struct al_allocator *al,
				struct request *request)
{
	const struct al_ops *ops = &al->config.ops;
	enum ps_status status;

	if (!ops->grow_late || request->cause != PS_OK)
		return PS_AGAIN;
	if (request->bytes >= al->config.room_unit)
		al_reclaim_loosen(al, request->bytes);
	status = grow(al, request, ops->grow_late);
	if (status != PS_OK && status != PS_OUT_OF_MEMORY)
		request->cause = status;
	return status == PS_OK ? PS_OK : PS_AGAIN;
}

/*
 * One step to more memory, the cheapest that is left: what has passed its
 * fence, what the owner has, what other streams keep, what a fence still
 * guards, what lies in too small pieces, what the owner can wait for. PS_OK:
 * try again. PS_AGAIN: nothing more can be done.
 */
static enum ps_status find_memory(struct al_allocator *al,
				  struct request *request)
{
	enum ps_status status;

	if (al_batch_reap(al))
		return PS_OK;
	status = grow(al, request, al->config.ops.grow);
	if (status == PS_OK)
		return PS_OK;
	if (status != PS_OUT_OF_MEMORY)
		request->cause = status;
	if (al_reclaim_steal(al))
		return PS_OK;
	status = al_batch_wait_oldest(al);
	if (status != PS_OK && status != PS_AGAIN)
		request->cause = status;
	if (status == PS_OK)
		return PS_OK;
	if (request->bytes >= al->config.room_unit &&
	    request->gathers++ < GATHERS_MAX &&
	    al_reclaim_gather(al, request->bytes))
		return PS_OK;
	return grow_late(al, request);
}

static enum ps_status out_of_memory(struct al_allocator *al,
				    const struct request *request)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };
	uint64_t largest;

	bs_quick_take(&al->room.lock);
	al->room.failed++;
	largest = al_room_largest(al, request->stream);
	bs_quick_drop(&al->room.lock);
	if (request->cause != PS_OK)
		return bs_fail_prefix(request->cause,
				      "allocating %" PRIu64 " bytes",
				      request->bytes);
	al_get_stats(al, &stats);
	return bs_fail(PS_OUT_OF_MEMORY,
		       "asked for %" PRIu64 " bytes; live %" PRIu64
		       " bytes in %" PRIu64 " blocks, reserved %" PRIu64
		       ", behind fences %" PRIu64
		       ", largest free range %" PRIu64
		       "; free blocks, or insert a larger range",
		       request->bytes, stats.live, stats.live_blocks,
		       stats.reserved, stats.pending, largest);
}

/* Waits for memory that other threads have in their hands. True when
 * something has happened since there were @events. */
static bool has_happened(struct al_allocator *al, uint64_t events)
{
	al_movers_wait(al);
	return atomic_load(&al->events) != events;
}

static enum ps_status alloc_slowly(struct al_allocator *al,
				   struct request *request,
				   uint64_t *offset_out)
{
	enum ps_status status;
	uint64_t events;

	do {
		events = atomic_load(&al->events);
		status = try_alloc(al, request, offset_out);
		if (status != PS_OUT_OF_MEMORY)
			return status;
	} while (find_memory(al, request) == PS_OK || has_happened(al, events));
	return out_of_memory(al, request);
}

/* What the first attempt did not find. */
static __attribute__((noinline, cold)) enum ps_status
alloc_otherwise(struct al_allocator *al, uint64_t bytes, uint64_t stream,
		enum ps_status status, uint64_t *offset_out)
{
	struct request request = { .bytes = bytes, .stream = stream };

	if (bytes == 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a block of 0 bytes was asked for");
	if (bytes > al->small_max)
		status = large_alloc(al, &request, offset_out);
	if (status == PS_OUT_OF_MEMORY)
		status = alloc_slowly(al, &request, offset_out);
	return status;
}

enum ps_status al_alloc(struct al_allocator *al, uint64_t bytes,
			uint64_t stream, uint64_t *offset_out)
{
	enum ps_status status = PS_OK;

	if (bytes - 1 < al->small_max) {
		status = al_shard_alloc(al_shard_mine(al), al_class_of(bytes),
					stream, offset_out);
		if (__builtin_expect(status == PS_OK, 1))
			return PS_OK;
	}
	return alloc_otherwise(al, bytes, stream, status, offset_out);
}
