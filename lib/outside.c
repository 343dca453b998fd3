/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory that the pool cannot hold: the driver gives it, and the daemon makes
 * room for it by as many segments as it takes.
 *
 * Room that is not filled any more is kept for a moment, for a program that
 * takes and gives again and again: the service thread gives it back, or
 * whoever would fail for want of it.
 *
 * Invariant: bytes are counted as taken only when there is room for them.
 */
#include "lib/lease.h"

#include "base/arith.h"
#include "base/status.h"

#include <inttypes.h>

/* ---- room ---- */

static uint64_t segments_for(const struct ps_pool *pool, uint64_t bytes)
{
	uint64_t unit = pool->layout.segment_size;

	return bytes / unit + (bytes % unit != 0);
}

static bool may_be_outside(const struct lb_lease *lease, uint32_t n)
{
	if (n < lease->first || n >= lease->pool->layout.segments)
		return false;
	switch ((enum lb_hold)lease->hold[n]) {
	case LB_HOLD_NONE:
	case LB_HOLD_RECALLING:
	case LB_HOLD_RECALLED:
		return lease->open[n] != LB_OPEN_HERE;
	default:
		return false;
	}
}

static enum ps_status accept_room(struct lb_lease *lease,
				  const struct ip_list *grant)
{
	struct ps_pool *pool = lease->pool;
	enum ps_status status = PS_OK;

	lb_turn_take(pool);
	bs_lock_take(&pool->lock);
	for (uint32_t i = 0; i < grant->count && status == PS_OK; i++) {
		uint32_t n = grant->segment[i];

		if (may_be_outside(lease, n)) {
			lease->hold[n] = LB_HOLD_OUTSIDE;
			lease->outside_segments++;
		} else {
			status = bs_fail(PS_PROTOCOL,
					 "GRANT from pid %d: segment %" PRIu32
					 " cannot be room outside",
					 (int)lease->client.conn.peer_pid, n);
		}
	}
	bs_lock_drop(&pool->lock);
	lb_turn_give(pool);
	return status;
}

struct asking {
	uint32_t left; /* segments */
	uint32_t wait_ms;
};

static enum ps_status ask_once(struct lb_lease *lease, void *arg)
{
	struct asking *asking = arg;
	const struct ip_take take = { .count = asking->left,
				      .wait_ms = asking->wait_ms,
				      .flags = IP_TAKE_OUTSIDE };
	const struct ip_take *say = &take;
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	enum ps_status status;

	do {
		status = ip_client_take(&lease->client, say, &grant, fds);
		if (status == PS_OK)
			status = accept_room(lease, &grant);
		if (status == PS_OK)
			asking->left -= grant.count;
		say = NULL;
	} while (status == PS_OK && (grant.flags & IP_LIST_MORE) != 0);
	if (status == PS_OK && asking->left > 0)
		return bs_fail(PS_PROTOCOL,
			       "pid %d made %" PRIu32
			       " segments less room than was asked for",
			       (int)lease->client.conn.peer_pid, asking->left);
	return status;
}

/* As much room as is missing for @bytes more, and then they are counted. With
 * requests: nobody else takes meanwhile, and giving only leaves more. */
static enum ps_status take_room(struct ps_pool *pool, uint64_t bytes,
				uint32_t wait_ms)
{
	struct lb_lease *lease = pool->lease;
	struct asking asking = { .wait_ms = wait_ms };
	enum ps_status status = PS_OK;
	uint64_t sum, wanted;

	lb_turn_take(pool);
	bs_lock_take(&pool->lock);
	sum = lease->outside;
	bs_lock_drop(&pool->lock);
	wanted =
		bs_add(sum, bytes, &sum) ? segments_for(pool, sum) : UINT64_MAX;
	if (wanted > lease->outside_segments) {
		wanted -= lease->outside_segments;
		asking.left =
			wanted < UINT32_MAX ? (uint32_t)wanted : UINT32_MAX;
		status = lb_lease_check_limit(lease, asking.left);
	}
	lb_turn_give(pool);
	if (status == PS_OK && asking.left > 0)
		status = lb_session_ask(lease, ask_once, &asking);
	if (status != PS_OK)
		return status;
	bs_lock_take(&pool->lock);
	lease->outside += bytes;
	bs_lock_drop(&pool->lock);
	return PS_OK;
}

static enum ps_status try_room(struct ps_pool *pool, uint64_t bytes,
			       uint32_t wait_ms)
{
	struct lb_lease *lease = pool->lease;
	enum ps_status status;

	bs_lock_take(&lease->requests);
	status = take_room(pool, bytes, wait_ms);
	bs_lock_drop(&lease->requests);
	return status;
}

/*
 * Gives the daemon as much as @bytes of what is free here; what a fence still
 * guards is waited for, as the driver's own free would. false: there is
 * nothing left to give.
 */
static bool make_room(struct ps_pool *pool, uint64_t bytes)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };
	uint64_t released = 0;

	for (;;) {
		al_get_stats(pool->al, &stats);
		(void)al_trim(pool->al,
			      stats.reserved > bytes ? stats.reserved - bytes
						     : 0,
			      &released);
		if (lb_lease_return(pool) > 0)
			return true;
		if (al_wait(pool->al) != PS_OK)
			return false;
	}
}

static enum ps_status take_outside(struct ps_pool *pool, uint64_t bytes)
{
	uint64_t whole = segments_for(pool, bytes) * pool->layout.segment_size;
	enum ps_status status = try_room(pool, bytes, 0);

	while (status == PS_OUT_OF_MEMORY && make_room(pool, whole))
		status = try_room(pool, bytes, 0);
	return status == PS_OUT_OF_MEMORY ? try_room(pool, bytes, LB_WAIT_MS)
					  : status;
}

enum ps_status ps_mem_take_outside(struct ps_pool *pool, uint64_t bytes)
{
	struct ps_pool *p = NULL;
	enum ps_status status =
		lb_lease_enter(pool, "makes room outside it", &p);

	if (status == PS_OK)
		status = lb_lease_check(p);
	if (status == PS_OK && bytes > UINT64_MAX - p->layout.segment_size)
		status = bs_fail(PS_INVALID_ARGUMENT,
				 "%" PRIu64 " bytes are more than any GPU has",
				 bytes);
	if (status == PS_OK)
		status = take_outside(p, bytes);
	if (status == PS_OK)
		atomic_fetch_add(&p->lease->moves, 1);
	return status;
}

/* ---- and back ---- */

enum ps_status ps_mem_give_outside(struct ps_pool *pool, uint64_t bytes)
{
	struct ps_pool *p = NULL;
	enum ps_status status =
		lb_lease_enter(pool, "makes room outside it", &p);
	uint64_t outside;

	if (status != PS_OK)
		return status;
	bs_lock_take(&p->lock);
	outside = p->lease->outside;
	if (bytes <= outside)
		p->lease->outside -= bytes;
	bs_lock_drop(&p->lock);
	if (bytes > outside)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%" PRIu64 " bytes are given back, and %" PRIu64
			       " are outside the pool: give what was taken",
			       bytes, outside);
	atomic_fetch_add(&p->lease->moves, 1);
	if (lb_outside_is_loose(p->lease))
		lb_lease_stir(p->lease);
	return PS_OK;
}

/* With the pool's lock. */
static uint32_t count_loose(const struct lb_lease *lease)
{
	uint64_t filled = segments_for(lease->pool, lease->outside);

	return lease->outside_segments > filled
		       ? lease->outside_segments - (uint32_t)filled
		       : 0;
}

bool lb_outside_is_loose(struct lb_lease *lease)
{
	bool is_loose;

	bs_lock_take(&lease->pool->lock);
	is_loose = count_loose(lease) > 0;
	bs_lock_drop(&lease->pool->lock);
	return is_loose;
}

bool lb_outside_return(struct lb_lease *lease)
{
	struct ps_pool *pool = lease->pool;
	uint32_t loose, left;

	lb_turn_take(pool);
	bs_lock_take(&pool->lock);
	loose = count_loose(lease);
	left = loose;
	for (uint32_t n = pool->layout.segments;
	     n-- > lease->first && left > 0;)
		if (lease->hold[n] == LB_HOLD_OUTSIDE) {
			lease->hold[n] = LB_HOLD_OWED;
			lease->outside_segments--;
			left--;
		}
	bs_lock_drop(&pool->lock);
	lb_turn_give(pool);
	return loose > 0 && lb_lease_tell(lease) == PS_OK;
}

/* ---- what takes no room ---- */

enum ps_status ps_mem_note_passed(struct ps_pool *pool, int64_t bytes)
{
	struct ps_pool *p = NULL;
	enum ps_status status =
		lb_lease_enter(pool, "makes room outside it", &p);

	if (status == PS_OK)
		atomic_fetch_add(&p->lease->passed, bytes);
	return status;
}

uint64_t lb_lease_passed(const struct lb_lease *lease)
{
	int64_t passed = atomic_load(&lease->passed);

	return passed > 0 ? (uint64_t)passed : 0;
}
