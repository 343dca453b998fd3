/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which ranges of the pool this process allocates from.
 *
 * Invariant: two ranges that hold the same segment have different slots: the
 * later one is an alias.
 */
#include "lib/pool.h"

#include "base/arith.h"
#include "base/status.h"
#include "lib/process.h"
#include "lib/stream.h"

#include <inttypes.h>
#include <stdlib.h>

/* PS_OK when no segment of @range is inserted already. */
static enum ps_status check_overlap(const struct ps_pool *pool,
				    const struct lb_range *range)
{
	uint64_t unit = pool->layout.segment_size;

	for (uint32_t i = 0; i < pool->range_count; i++) {
		const struct lb_range *other = &pool->ranges[i];

		if (range->segment >= other->segment + other->count ||
		    other->segment >= range->segment + range->count)
			continue;
		return bs_fail(PS_OVERLAP,
			       "%" PRIu64 " bytes at offset %" PRIu64
			       " overlap %" PRIu64 " bytes at offset %" PRIu64
			       " that are inserted already: clear them first, "
			       "or ask for PS_INSERT_ALIAS",
			       range->count * unit, range->segment * unit,
			       other->count * unit, other->segment * unit);
	}
	return PS_OK;
}

static enum ps_status check_access(const struct ps_pool *pool,
				   const struct lb_range *range)
{
	for (uint32_t i = 0; i < range->count; i++) {
		uint32_t n = range->segment + i;

		switch (pool->segments[n].access) {
		case LB_ACCESS_WRITE:
			break;
		case LB_ACCESS_READ:
			return bs_fail(PS_READ_ONLY,
				       "segment %" PRIu32 " was shared "
				       "read-only: insert another range, or "
				       "let its owner send it with "
				       "PS_SEND_WRITABLE_PARAMETERS",
				       n);
		default:
			return bs_fail(PS_OUT_OF_RANGE,
				       "segment %" PRIu32 " was not shared "
				       "with this process: insert only what "
				       "it was sent",
				       n);
		}
	}
	return PS_OK;
}

/* The first free slots behind the pool's own. */
static enum ps_status find_alias(const struct ps_pool *pool,
				 struct lb_range *range)
{
	uint32_t n = 0;

	if (lb_is_legacy(pool))
		return bs_fail(PS_UNSUPPORTED,
			       "a pool shared by legacy CUDA IPC has no "
			       "aliases: reserve it with PS_SHARE_VMM");
	for (uint32_t i = pool->layout.segments; i < pool->slots; i++) {
		n = pool->slot[i].inserted ? 0 : n + 1;
		if (n == range->count) {
			range->slot = i + 1 - n;
			return PS_OK;
		}
	}
	return bs_fail(PS_OUT_OF_MEMORY,
		       "no %" PRIu32 " neighbouring addresses of a segment are "
		       "left for another alias: the window has %" PRIu32
		       " for all of them",
		       range->count, pool->slots - pool->layout.segments);
}

static enum ps_status make_room(struct ps_pool *pool)
{
	uint32_t room = pool->range_room == 0 ? 8 : pool->range_room * 2;
	struct lb_range *ranges;

	if (pool->range_count < pool->range_room)
		return PS_OK;
	ranges = realloc(pool->ranges, room * sizeof(*ranges));
	if (ranges == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for inserted range %" PRIu32,
			       pool->range_count + 1);
	pool->ranges = ranges;
	pool->range_room = room;
	return PS_OK;
}

static void publish(struct ps_pool *pool, const struct lb_range *range)
{
	uint32_t end = range->slot + range->count;

	bs_lock_take(&pool->lock);
	for (uint32_t i = 0; i < range->count; i++) {
		uint32_t n = range->segment + i;
		struct lb_slot *slot = &pool->slot[range->slot + i];

		slot->segment = n;
		slot->range = pool->range_count;
		slot->inserted = true;
		pool->segments_inserted += pool->segments[n].inserted++ == 0;
	}
	pool->ranges[pool->range_count++] = *range;
	if (end > pool->slots_used)
		pool->slots_used = end;
	if (range->slot < pool->room_hint)
		pool->room_hint = range->slot;
	bs_lock_drop(&pool->lock);
}

/* With the turn held. */
static enum ps_status insert(struct ps_pool *pool, struct lb_range *range,
			     unsigned int flags)
{
	enum ps_status status = check_access(pool, range);

	if (status != PS_OK)
		return status;
	status = check_overlap(pool, range);
	if (status == PS_OVERLAP && (flags & PS_INSERT_ALIAS) != 0)
		status = find_alias(pool, range);
	if (status == PS_OK)
		status = make_room(pool);
	if (status == PS_OK)
		publish(pool, range);
	return status;
}

static enum ps_status refuse_attached(void)
{
	return bs_fail(PS_UNSUPPORTED,
		       "this pool is poolswitchd's: allocate from it without "
		       "inserting, give back with ps_mem_trim(), leave with "
		       "ps_detach()");
}

enum ps_status ps_insert_shared(struct ps_pool *pool, uint64_t size,
				uint64_t offset, void *stream,
				unsigned int flags)
{
	struct ps_pool *p = lb_enter(pool);
	struct lb_range range;
	enum ps_status status;

	if (p == NULL)
		return lb_refuse(pool);
	if (p->lease != NULL)
		return refuse_attached();
	if ((flags & ~(unsigned int)PS_INSERT_ALIAS) != 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "flags %#x: only PS_INSERT_ALIAS is known",
			       flags);
	status = lb_check_range(p, "a range to insert", offset, size);
	if (status != PS_OK)
		return status;
	range.segment = (uint32_t)(offset / p->layout.segment_size);
	range.slot = range.segment;
	range.count = (uint32_t)(size / p->layout.segment_size);
	range.home = stream == PS_ANY_STREAM ? AL_STREAM_NONE
					     : lb_stream_number(stream);
	lb_turn_take(p);
	status = insert(p, &range, flags);
	lb_turn_give(p);
	return status;
}

enum ps_status ps_insert_region(struct ps_pool *pool, enum ps_region region,
				void *stream, unsigned int flags)
{
	uint64_t offset, size;
	enum ps_status status = ps_pool_region(pool, region, &offset, &size);

	if (status != PS_OK)
		return status;
	if (size == 0 && lb_enter(pool) != NULL)
		return bs_fail(PS_OUT_OF_RANGE,
			       "the %s region of this pool is empty",
			       region == PS_REGION_PARAMETER ? "parameter"
							     : "computation");
	return ps_insert_shared(pool, size, offset, stream, flags);
}

static bool is_given(const struct ps_pool *pool)
{
	for (uint32_t i = 0; i < pool->slots_used; i++) {
		if (pool->slot[i].given)
			return true;
	}
	return false;
}

static void forget_ranges(struct ps_pool *pool)
{
	bs_lock_take(&pool->lock);
	for (uint32_t i = 0; i < pool->slots_used; i++)
		pool->slot[i].inserted = false;
	for (uint32_t i = 0; i < pool->layout.segments; i++)
		pool->segments[i].inserted = 0;
	pool->segments_inserted = 0;
	pool->range_count = 0;
	pool->room_hint = 0;
	pool->slots_used = 0;
	bs_lock_drop(&pool->lock);
}

/* With the turn held. An alias that stays mapped is still inserted, so that
 * its slot is not given to another segment. */
static enum ps_status take_back(struct ps_pool *pool)
{
	enum ps_status status = PS_OK;

	if (is_given(pool))
		return bs_fail(PS_BUSY, "another thread allocated while the "
					"ranges were taken back");
	for (uint32_t i = 0; i < pool->range_count; i++) {
		status = lb_unmap_slots(pool, pool->ranges[i].slot,
					pool->ranges[i].count);
		if (status != PS_OK)
			return status;
	}
	forget_ranges(pool);
	return PS_OK;
}

enum ps_status ps_clear_shared(struct ps_pool *pool)
{
	struct ps_pool *p = lb_enter(pool);
	enum ps_status status;

	if (p == NULL)
		return lb_refuse(pool);
	if (p->lease != NULL)
		return refuse_attached();
	status = al_clear(p->al);
	if (status != PS_OK)
		return status;
	lb_turn_take(p);
	status = take_back(p);
	lb_turn_give(p);
	return status;
}
