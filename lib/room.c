/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the allocator asks its owner for: room, which is inserted slots that
 * get mapped, and fences, which are the device's.
 *
 * Invariant: no lock is held while the driver is called; the allocator holds
 * none either when it calls these.
 */
#include "lib/pool.h"

#include "base/status.h"
#include "lib/lease.h"
#include "lib/process.h"
#include "lib/stream.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

/* More streams than a program allocates on; the rest are not asked about. */
#define STREAMS_ASKED 256u

/* Other threads may be faster at what was granted. */
#define LEASE_TRIES 8u
#define LEASE_TEXT 512

struct run {
	uint32_t slot;
	uint32_t count;
};

uint64_t lb_stream_of_thread(void)
{
	static _Atomic uint64_t last;
	static _Thread_local uint64_t mine;

	if (mine == 0)
		mine = LB_THREAD_BIT | (1 + atomic_fetch_add(&last, 1));
	return mine;
}

static bool is_room(const struct ps_pool *pool, uint32_t slot, uint64_t home)
{
	const struct lb_slot *s = &pool->slot[slot];

	return s->inserted && !s->given && !s->lent &&
	       pool->ranges[s->range].home == home;
}

static uint32_t room_length(const struct ps_pool *pool, uint32_t slot,
			    uint32_t wanted, uint64_t home)
{
	uint32_t n = 0;

	while (n < wanted && slot + n < pool->slots_used &&
	       is_room(pool, slot + n, home))
		n++;
	return n;
}

/* The lowest run of @wanted slots, or the longest there is. */
static struct run find_room(const struct ps_pool *pool, uint32_t wanted,
			    uint64_t home)
{
	struct run best = { 0, 0 };
	uint32_t n;

	for (uint32_t i = pool->room_hint; i < pool->slots_used; i += n + 1) {
		n = room_length(pool, i, wanted, home);
		if (n > best.count)
			best = (struct run){ i, n };
		if (n == wanted)
			break;
	}
	return best;
}

/* What serves only this stream is used up first. */
static struct run find_room_for(const struct ps_pool *pool, uint32_t wanted,
				uint64_t stream)
{
	struct run own = { 0, 0 };
	struct run any;

	if (stream != AL_STREAM_NONE)
		own = find_room(pool, wanted, stream);
	if (own.count == wanted)
		return own;
	any = find_room(pool, wanted, AL_STREAM_NONE);
	return any.count > own.count ? any : own;
}

static void set_given(struct ps_pool *pool, struct run run, bool given)
{
	bs_lock_take(&pool->lock);
	for (uint32_t i = run.slot; i < run.slot + run.count; i++)
		pool->slot[i].given = given;
	if (!given && run.slot < pool->room_hint)
		pool->room_hint = run.slot;
	while (given && pool->room_hint < pool->slots_used &&
	       pool->slot[pool->room_hint].given)
		pool->room_hint++;
	bs_lock_drop(&pool->lock);
}

/* ---- gathering ---- */

/* A segment that can be lent: free, and at home in its own slot. */
static bool is_loose(const struct ps_pool *pool, uint32_t slot)
{
	return slot < pool->layout.segments && !pool->slot[slot].mapped &&
	       is_room(pool, slot, AL_STREAM_NONE);
}

/* What was parked is free and mapped: it must not be, to be lent. */
static void unmap_room(struct ps_pool *pool, uint32_t wanted)
{
	for (uint32_t i = 0; i < pool->layout.segments && wanted > 0; i++) {
		if (!is_room(pool, i, AL_STREAM_NONE))
			continue;
		(void)lb_unmap_slots(pool, i, 1);
		wanted--;
	}
}

bool lb_room_find_empty(const struct ps_pool *pool, uint32_t count,
			uint32_t *slot_out)
{
	uint32_t n = 0;

	for (uint32_t i = pool->slots; i-- > pool->layout.segments;) {
		n = pool->slot[i].inserted || pool->slot[i].mapped ? 0 : n + 1;
		if (n == count) {
			*slot_out = i;
			return true;
		}
	}
	return false;
}

static void lend(struct ps_pool *pool, uint32_t from, uint32_t to)
{
	struct lb_slot *home = &pool->slot[from];

	home->lent = true;
	pool->slot[to] = (struct lb_slot){ .segment = home->segment,
					   .range = home->range,
					   .inserted = true,
					   .gathered = true };
	if (to >= pool->slots_used)
		pool->slots_used = to + 1;
}

static void take_home(struct ps_pool *pool, uint32_t slot)
{
	uint32_t home = pool->slot[slot].segment;

	pool->slot[slot].inserted = false;
	pool->slot[slot].gathered = false;
	pool->slot[home].lent = false;
	if (home < pool->room_hint)
		pool->room_hint = home;
	while (pool->slots_used > 0 &&
	       !pool->slot[pool->slots_used - 1].inserted)
		pool->slots_used--;
}

/* Neighbouring slots for @wanted segments that are not neighbours. */
static bool gather(struct ps_pool *pool, uint32_t wanted, struct run *run_out)
{
	uint32_t loose = 0, slot, done = 0;

	if (pool->lease != NULL && lb_room_find_empty(pool, wanted, &slot))
		unmap_room(pool, wanted);
	for (uint32_t i = 0; i < pool->layout.segments; i++)
		loose += is_loose(pool, i);
	if (loose < wanted || !lb_room_find_empty(pool, wanted, &slot))
		return false;
	bs_lock_take(&pool->lock);
	for (uint32_t i = 0; done < wanted; i++)
		if (is_loose(pool, i))
			lend(pool, i, slot + done++);
	bs_lock_drop(&pool->lock);
	*run_out = (struct run){ slot, wanted };
	return true;
}

static void scatter(struct ps_pool *pool, struct run run)
{
	bs_lock_take(&pool->lock);
	for (uint32_t i = run.slot; i < run.slot + run.count; i++)
		if (pool->slot[i].gathered && !pool->slot[i].mapped)
			take_home(pool, i);
	bs_lock_drop(&pool->lock);
}

/* ---- growing and shrinking ---- */

static enum ps_status take_room(struct ps_pool *pool, uint32_t wanted,
				uint64_t stream, struct run *run_out)
{
	struct run run = find_room_for(pool, wanted, stream);
	enum ps_status status;

	if (run.count < wanted)
		gather(pool, wanted, &run);
	if (run.count == 0)
		return bs_fail(PS_OUT_OF_MEMORY,
			       "every segment that is inserted here is in use");
	status = lb_map_slots(pool, run.slot, run.count);
	if (status != PS_OK) {
		scatter(pool, run);
		return status;
	}
	set_given(pool, run, true);
	if (pool->slot[run.slot].gathered)
		pool->gathered += run.count * pool->layout.segment_size;
	*run_out = run;
	return PS_OK;
}

static uint32_t segments_of(const struct ps_pool *pool, uint64_t bytes)
{
	uint64_t unit = pool->layout.segment_size;
	uint64_t count = bytes / unit + (bytes % unit != 0);

	return count < pool->slots ? (uint32_t)count : pool->slots;
}

static enum ps_status grow(void *owner, uint64_t bytes, uint64_t stream,
			   struct al_span *span_out)
{
	struct ps_pool *pool = owner;
	uint64_t unit = pool->layout.segment_size;
	struct run run = { 0, 0 };
	enum ps_status status;

	lb_turn_take(pool);
	status = take_room(pool, segments_of(pool, bytes), stream, &run);
	if (status == PS_OK)
		*span_out = (struct al_span){
			.offset = run.slot * unit,
			.size = run.count * unit,
			.home = pool->ranges[pool->slot[run.slot].range].home,
		};
	lb_turn_give(pool);
	return status;
}

static void shrink(void *owner, const struct al_span *span)
{
	struct ps_pool *pool = owner;
	uint64_t unit = pool->layout.segment_size;
	struct run run = { (uint32_t)(span->offset / unit),
			   (uint32_t)(span->size / unit) };
	enum ps_status status;

	lb_turn_take(pool);
	status = lb_unmap_slots(pool, run.slot, run.count);
	if (status != PS_OK)
		pool->unmap_status = status;
	set_given(pool, run, false);
	scatter(pool, run);
	lb_turn_give(pool);
}

/* ---- the same for an attached pool ---- */

uint32_t lb_room_missing(const struct ps_pool *pool, uint32_t wanted,
			 uint64_t stream)
{
	struct run run = find_room_for(pool, wanted, stream);
	uint32_t room = 0, slot;

	if (run.count == wanted)
		return 0;
	for (uint32_t i = 0; i < pool->layout.segments; i++)
		room += is_room(pool, i, AL_STREAM_NONE);
	if (room < wanted)
		return wanted - room;
	return lb_room_find_empty(pool, wanted, &slot) ? 0 : wanted - run.count;
}

/* Whether no segment is missing any more; others may take what was granted
 * before it is used here. */
static enum ps_status lease_more(struct ps_pool *pool, uint32_t wanted,
				 uint64_t stream, bool late)
{
	enum ps_status status = PS_OK;
	uint32_t missing = 1;

	for (unsigned int i = 0; i < LEASE_TRIES; i++) {
		lb_turn_take(pool);
		missing = lb_room_missing(pool, wanted, stream);
		lb_turn_give(pool);
		if (missing == 0)
			return PS_OK;
		status = lb_lease_take(pool, wanted, stream, late);
		if (status != PS_OK)
			return status;
	}
	return PS_OK;
}

/* What is there is given even where the daemon has no more, or is gone. */
static enum ps_status grow_leased(void *owner, uint64_t bytes, uint64_t stream,
				  struct al_span *span_out)
{
	struct ps_pool *pool = owner;
	uint32_t wanted = segments_of(pool, bytes);
	enum ps_status status = lease_more(pool, wanted, stream, false);
	char text[LEASE_TEXT];

	if (status == PS_OK)
		return grow(owner, bytes, stream, span_out);
	if (status != PS_OUT_OF_MEMORY && status != PS_PEER_GONE)
		return status;
	snprintf(text, sizeof(text), "%s", bs_fail_text());
	if (grow(owner, bytes, stream, span_out) == PS_OK)
		return PS_OK;
	return bs_fail(status, "%s", text);
}

static enum ps_status grow_late(void *owner, uint64_t bytes, uint64_t stream,
				struct al_span *span_out)
{
	struct ps_pool *pool = owner;
	uint32_t wanted = segments_of(pool, bytes);
	enum ps_status status = lease_more(pool, wanted, stream, true);

	return status == PS_OK ? grow(owner, bytes, stream, span_out) : status;
}

/* Stays mapped in its own slot, until it is parked or given back. */
static void shrink_leased(void *owner, const struct al_span *span)
{
	struct ps_pool *pool = owner;
	uint64_t unit = pool->layout.segment_size;
	struct run run = { (uint32_t)(span->offset / unit),
			   (uint32_t)(span->size / unit) };
	enum ps_status status = PS_OK;

	lb_turn_take(pool);
	if (run.slot + run.count > pool->layout.segments)
		status = lb_unmap_slots(pool, run.slot, run.count);
	if (status != PS_OK)
		pool->unmap_status = status;
	set_given(pool, run, false);
	scatter(pool, run);
	lb_turn_give(pool);
}

/* ---- fences ---- */

void lb_room_hold_fences(struct ps_pool *pool)
{
	bs_lock_take(&pool->lock);
	pool->fences_held++;
	while (pool->fences_recording > 0)
		pthread_cond_wait(&pool->fences_free, &pool->lock.mutex);
	bs_lock_drop(&pool->lock);
}

bool lb_room_release_fences(struct ps_pool *pool)
{
	bool held;

	bs_lock_take(&pool->lock);
	held = pool->fences_held > 0;
	pool->fences_held -= held;
	bs_lock_drop(&pool->lock);
	return held;
}

static bool begin_all(struct ps_pool *pool)
{
	bool held;

	bs_lock_take(&pool->lock);
	held = pool->fences_held > 0;
	pool->fences_recording += !held;
	bs_lock_drop(&pool->lock);
	return !held;
}

static void end_all(struct ps_pool *pool)
{
	bs_lock_take(&pool->lock);
	if (--pool->fences_recording == 0)
		pthread_cond_broadcast(&pool->fences_free);
	bs_lock_drop(&pool->lock);
}

/*
 * A fence behind everything would invalidate a capture (dv_stream_check()).
 * PS_AGAIN while a stream that was named in an allocation captures; nobody can
 * ask about the default stream of another thread.
 */
static enum ps_status check_streams(struct ps_pool *pool)
{
	uint64_t streams[STREAMS_ASKED];
	size_t count = al_get_streams(pool->al, streams, STREAMS_ASKED);
	enum ps_status status = PS_OK;

	for (size_t i = 0; i < count && status == PS_OK; i++)
		if ((streams[i] & LB_THREAD_BIT) == 0)
			status = dv_stream_check(pool->device,
						 (void *)(uintptr_t)streams[i]);
	return status;
}

/* Set in a thread of the library's own. */
static _Thread_local bool is_background;

void lb_room_set_background(void)
{
	is_background = true;
}

/*
 * A capture on a stream that is not known here would be invalidated. The
 * program knows when it captures, and what calls it makes meanwhile; a thread
 * of our own does not.
 */
static enum ps_status record_all(struct ps_pool *pool,
				 struct dv_fence **fence_out)
{
	enum ps_status status;

	if (is_background || !begin_all(pool))
		return PS_AGAIN;
	status = check_streams(pool);
	if (status == PS_OK)
		status = dv_fence_record_all(pool->device, fence_out);
	end_all(pool);
	return status;
}

enum ps_status lb_room_synchronize(struct ps_pool *pool)
{
	enum ps_status status;

	if (!begin_all(pool))
		return bs_fail(PS_AGAIN, "a stream captures: waiting for all "
					 "streams would invalidate that; try "
					 "again when the capture has ended");
	status = check_streams(pool);
	if (status == PS_OK)
		status = dv_synchronize(pool->device);
	end_all(pool);
	return status;
}

/*
 * Nobody can record on the default stream of another thread, so a fence
 * behind it is one behind everything.
 */
static enum ps_status fence_record(void *owner, uint64_t stream,
				   void **fence_out)
{
	struct ps_pool *pool = owner;
	struct dv_fence *fence;
	enum ps_status status;
	void *handle = (void *)(uintptr_t)stream;

	if ((stream & LB_THREAD_BIT) != 0 && stream == lb_stream_of_thread())
		handle = LB_PER_THREAD;
	if ((stream & LB_THREAD_BIT) != 0 && handle != LB_PER_THREAD)
		status = record_all(pool, &fence);
	else
		status = dv_fence_record(pool->device, handle, &fence);
	if (status == PS_OK)
		*fence_out = fence;
	return status;
}

static enum ps_status fence_poll(void *owner, void *fence)
{
	struct ps_pool *pool = owner;

	return dv_fence_poll(pool->device, fence);
}

static enum ps_status fence_wait(void *owner, void *fence)
{
	struct ps_pool *pool = owner;
	enum ps_status status;

	if (!dv_fence_is_bare(fence))
		return dv_fence_wait(pool->device, fence);
	/* Without events it disturbs captures as recording one would. */
	if (!begin_all(pool))
		return PS_AGAIN;
	status = dv_fence_wait(pool->device, fence);
	end_all(pool);
	return status;
}

static void fence_free(void *owner, void *fence)
{
	struct ps_pool *pool = owner;

	if (!lb_is_forked())
		dv_fence_free(pool->device, fence);
}

const struct al_ops lb_room_ops = {
	.grow = grow,
	.shrink = shrink,
	.fence_record = fence_record,
	.fence_poll = fence_poll,
	.fence_wait = fence_wait,
	.fence_free = fence_free,
};

const struct al_ops lb_room_leased_ops = {
	.grow = grow_leased,
	.grow_late = grow_late,
	.shrink = shrink_leased,
	.fence_record = fence_record,
	.fence_poll = fence_poll,
	.fence_wait = fence_wait,
	.fence_free = fence_free,
};
