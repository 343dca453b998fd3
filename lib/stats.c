/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The numbers of a pool.
 *
 * Invariant: physical memory is counted once, however many aliases it has.
 */
#include "lib/pool.h"

#include "base/status.h"
#include "lib/lease.h"
#include "lib/process.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* With the pool's lock. */
static void get_lease_stats(struct lb_lease *lease, struct ps_mem_stats *stats)
{
	stats->outside = lease->outside;
	stats->passed = lb_lease_passed(lease);
	stats->opened = lease->opened * lease->pool->layout.segment_size;
}

static void get_mapping_stats(struct ps_pool *pool, struct ps_mem_stats *stats)
{
	uint64_t unit = pool->layout.segment_size;

	bs_lock_take(&pool->lock);
	stats->pool = lb_pool_bytes(pool);
	stats->inserted = pool->segments_inserted * unit;
	stats->mapped = pool->segments_mapped * unit;
	stats->gathered = pool->gathered;
	if (pool->lease != NULL)
		get_lease_stats(pool->lease, stats);
	bs_lock_drop(&pool->lock);
}

enum ps_status ps_mem_get_stats(struct ps_pool *pool,
				struct ps_mem_stats *stats)
{
	struct ps_pool *p = lb_enter(pool);
	struct ps_mem_stats all = { 0 };
	size_t size;

	if (p == NULL)
		return lb_refuse(pool);
	size = stats->struct_size;
	if (size < sizeof(all))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "struct_size is %zu and must be at least %zu: "
			       "set it to sizeof(struct ps_mem_stats)",
			       size, sizeof(all));
	al_get_stats(p->al, &all);
	get_mapping_stats(p, &all);
	all.struct_size = size;
	memcpy(stats, &all, sizeof(all));
	return PS_OK;
}

/* ---- live bytes when there are aliases: physical, each byte once ---- */

struct piece {
	uint64_t start; /* in the pool */
	uint64_t end;
};

struct pieces {
	const struct ps_pool *pool;
	struct piece *piece;
	size_t count;
	size_t room;
};

static void add_piece(struct pieces *pieces, uint64_t start, uint64_t size)
{
	if (pieces->count < pieces->room)
		pieces->piece[pieces->count] =
			(struct piece){ start, start + size };
	pieces->count++;
}

/* A block may lie in several slots, which may be of several ranges. */
static void add_block(void *arg, uint64_t offset, uint64_t bytes)
{
	struct pieces *pieces = arg;
	const struct ps_pool *pool = pieces->pool;
	uint64_t unit = pool->layout.segment_size;

	while (bytes > 0) {
		uint64_t inside = offset % unit;
		uint64_t size = unit - inside < bytes ? unit - inside : bytes;
		uint32_t n = pool->slot[offset / unit].segment;

		add_piece(pieces, n * unit + inside, size);
		offset += size;
		bytes -= size;
	}
}

static int by_start(const void *a, const void *b)
{
	const struct piece *x = a;
	const struct piece *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static uint64_t sum_once(struct piece *piece, size_t count)
{
	uint64_t sum = 0;
	uint64_t end = 0;

	qsort(piece, count, sizeof(*piece), by_start);
	for (size_t i = 0; i < count; i++) {
		if (piece[i].start > end)
			end = piece[i].start;
		if (piece[i].end > end) {
			sum += piece[i].end - end;
			end = piece[i].end;
		}
	}
	return sum;
}

/* The blocks are counted, then visited again with room for as many; more of
 * them may have come meanwhile. */
static enum ps_status sum_live(struct ps_pool *pool, uint64_t *sum_out)
{
	struct pieces pieces = { .pool = pool };

	for (;;) {
		pieces.count = 0;
		al_visit_live(pool->al, add_block, &pieces);
		if (pieces.count <= pieces.room)
			break;
		free(pieces.piece);
		pieces.room = pieces.count + pieces.count / 2;
		pieces.piece = malloc(pieces.room * sizeof(*pieces.piece));
		if (pieces.piece == NULL)
			return bs_fail(PS_HOST_MEMORY,
				       "no host memory to look at %zu blocks",
				       pieces.count);
	}
	*sum_out = pieces.count > 0 ? sum_once(pieces.piece, pieces.count) : 0;
	free(pieces.piece);
	return PS_OK;
}

static bool has_aliases(struct ps_pool *pool)
{
	bool found;

	bs_lock_take(&pool->lock);
	found = pool->slots_used > pool->layout.segments;
	bs_lock_drop(&pool->lock);
	return found;
}

enum ps_status ps_mem_get_info(struct ps_pool *pool, uint64_t *free_out,
			       uint64_t *total_out)
{
	struct ps_pool *p = lb_enter(pool);
	struct ps_mem_stats stats = { 0 };
	enum ps_status status = PS_OK;
	uint64_t used;

	if (p == NULL)
		return lb_refuse(pool);
	al_get_stats(p->al, &stats);
	get_mapping_stats(p, &stats);
	if (has_aliases(p))
		status = sum_live(p, &stats.live);
	if (status != PS_OK)
		return status;
	if (p->lease != NULL)
		stats.inserted = lb_lease_limit(p);
	used = stats.live + stats.outside;
	*free_out = stats.inserted > used ? stats.inserted - used : 0;
	*total_out = stats.inserted;
	return PS_OK;
}
