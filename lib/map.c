/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Turns, and mapping segments into slots; see lib/pool.h. */
#include "lib/pool.h"

#include "base/status.h"
#include "lib/lease.h"
#include "lib/process.h"

#include <inttypes.h>
#include <time.h>

void lb_turn_take(struct ps_pool *pool)
{
	bs_lock_take(&pool->lock);
	while (pool->turn_taken)
		pthread_cond_wait(&pool->turn_free, &pool->lock.mutex);
	pool->turn_taken = true;
	bs_lock_drop(&pool->lock);
}

bool lb_turn_take_until(struct ps_pool *pool, int64_t until_ms)
{
	const struct timespec until = { .tv_sec = until_ms / 1000,
					.tv_nsec = until_ms % 1000 * 1000000 };
	bool taken;
	int error = 0;

	bs_lock_take(&pool->lock);
	while (pool->turn_taken && error == 0)
		error = pthread_cond_timedwait(&pool->turn_free,
					       &pool->lock.mutex, &until);
	taken = !pool->turn_taken;
	if (taken)
		pool->turn_taken = true;
	bs_lock_drop(&pool->lock);
	return taken;
}

void lb_turn_give(struct ps_pool *pool)
{
	bs_lock_take(&pool->lock);
	pool->turn_taken = false;
	pthread_cond_signal(&pool->turn_free);
	bs_lock_drop(&pool->lock);
}

static struct lb_segment *segment_of(struct ps_pool *pool, uint32_t slot)
{
	return &pool->segments[pool->slot[slot].segment];
}

/* The slots from @slot to @end that are in the same state as the first. */
static uint32_t run_length(struct ps_pool *pool, uint32_t slot, uint32_t end)
{
	bool mapped = pool->slot[slot].mapped;
	uint8_t access = segment_of(pool, slot)->access;
	uint32_t next = slot + 1;

	while (next < end && pool->slot[next].mapped == mapped &&
	       segment_of(pool, next)->access == access)
		next++;
	return next - slot;
}

static void publish(struct ps_pool *pool, uint32_t slot, uint32_t count,
		    bool mapped)
{
	bs_lock_take(&pool->lock);
	for (uint32_t i = slot; i < slot + count; i++) {
		struct lb_segment *segment = segment_of(pool, i);

		pool->slot[i].mapped = mapped;
		if (mapped)
			pool->segments_mapped += segment->mapped++ == 0;
		else
			pool->segments_mapped -= --segment->mapped == 0;
	}
	bs_lock_drop(&pool->lock);
}

enum ps_status lb_map_slots(struct ps_pool *pool, uint32_t slot, uint32_t count)
{
	uint32_t end = slot + count;

	for (uint32_t run; slot < end; slot += run) {
		uint8_t access = segment_of(pool, slot)->access;
		enum ps_status status;

		run = run_length(pool, slot, end);
		if (pool->slot[slot].mapped || access == LB_ACCESS_NONE)
			continue;
		status = pool->backing->map(pool, slot, run,
					    access == LB_ACCESS_WRITE);
		if (status != PS_OK)
			return status;
		publish(pool, slot, run, true);
	}
	return PS_OK;
}

enum ps_status lb_unmap_slots(struct ps_pool *pool, uint32_t slot,
			      uint32_t count)
{
	enum ps_status result = PS_OK;
	uint32_t end = slot + count;

	for (uint32_t run; slot < end; slot += run) {
		enum ps_status status;

		run = run_length(pool, slot, end);
		if (!pool->slot[slot].mapped || pool->backing->unmap == NULL)
			continue;
		status = pool->backing->unmap(pool, slot, run);
		if (status == PS_OK)
			publish(pool, slot, run, false);
		else
			result = status;
	}
	return result;
}

/* What a ticket opened has its own addresses, and is not leased. */
static bool is_opened(const struct ps_pool *pool, uint32_t n)
{
	return pool->lease != NULL && pool->lease->open[n] != LB_OPEN_NONE;
}

static enum lb_access access_of(struct ps_pool *pool, uint32_t n)
{
	enum lb_access access;

	bs_lock_take(&pool->lock);
	access = (enum lb_access)pool->segments[n].access;
	if (is_opened(pool, n))
		access = LB_ACCESS_NONE;
	bs_lock_drop(&pool->lock);
	return access;
}

/* How many segments from @first on were given to this process, at least to
 * some one of which the range must reach. */
static uint32_t given_end(struct ps_pool *pool, uint32_t first)
{
	uint32_t end = pool->layout.segments;

	if (pool->lease != NULL && first < pool->lease->first)
		return pool->lease->first;
	while (end > first && access_of(pool, end - 1) == LB_ACCESS_NONE)
		end--;
	return end;
}

static enum ps_status refuse_segment(const struct ps_pool *pool, uint32_t n)
{
	if (pool->lease != NULL)
		return bs_fail(
			PS_OUT_OF_RANGE,
			"segment %" PRIu32 " is not leased to this "
			"process: map the parameter region, and allocate "
			"from the other",
			n);
	return bs_fail(PS_OUT_OF_RANGE,
		       "segment %" PRIu32 " of the pool was not shared with "
		       "this process: ask its owner for the range",
		       n);
}

/* Those of an attached pool's parameter region are fetched. */
static enum ps_status check_given(struct ps_pool *pool, uint32_t first,
				  uint32_t end)
{
	enum ps_status status = PS_OK;

	if (pool->lease != NULL)
		status = lb_lease_need(pool, first, end);
	for (uint32_t i = first; i < end && status == PS_OK; i++)
		if (access_of(pool, i) == LB_ACCESS_NONE)
			status = refuse_segment(pool, i);
	return status;
}

static enum ps_status map_range(struct ps_pool *pool, uint32_t first,
				uint32_t end)
{
	enum ps_status status;

	lb_turn_take(pool);
	status = lb_map_slots(pool, first, end - first);
	lb_turn_give(pool);
	return status;
}

enum ps_status ps_pool_map(struct ps_pool *pool, uint64_t offset, uint64_t size)
{
	struct ps_pool *p = lb_enter(pool);
	uint64_t unit, checked;
	enum ps_status status;
	uint32_t first, end;

	if (p == NULL)
		return lb_refuse(pool);
	unit = p->layout.segment_size;
	checked = size > 0 ? size : unit;
	status = lb_check_range(p, "a range to map", offset, checked);
	if (status != PS_OK)
		return status;
	first = (uint32_t)(offset / unit);
	if (size == 0) {
		end = given_end(p, first);
		if (end > first && p->lease == NULL)
			return map_range(p, first, end);
		if (end == first)
			end++;
	} else {
		end = first + (uint32_t)(size / unit);
	}
	status = check_given(p, first, end);
	return status == PS_OK ? map_range(p, first, end) : status;
}
