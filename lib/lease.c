/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the pool has of the daemon: more of it, and less; see lib/lease.h. */
#include "lib/lease.h"

#include "base/status.h"
#include "lib/process.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Asked for at once by a pool that grows and grows. */
#define BATCH_BYTES (UINT64_C(1) << 30)
/* Beyond what is missing, one for so many that are leased: others may want
 * what is leased and not used. */
#define SPARE_OF 64u

int64_t lb_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum ps_status lb_lease_enter(struct ps_pool *pool, const char *what,
			      struct ps_pool **pool_out)
{
	struct ps_pool *p = lb_enter(pool);

	if (p == NULL)
		return lb_refuse(pool);
	if (p->lease == NULL)
		return bs_fail(PS_UNSUPPORTED,
			       "this pool was not attached to poolswitchd, "
			       "which alone %s: use ps_attach()",
			       what);
	*pool_out = p;
	return PS_OK;
}

enum ps_status lb_lease_check(const struct ps_pool *pool)
{
	if (pool->lease == NULL || !atomic_load(&pool->lease->is_lost))
		return PS_OK;
	return bs_fail(PS_DEVICE_LOST,
		       "poolswitchd says that GPU %s is lost, and with it what "
		       "the pool held: close the pool, and attach again when "
		       "the GPU is back",
		       dv_device_uuid(pool->device));
}

uint64_t lb_lease_limit(const struct ps_pool *pool)
{
	return pool->lease->limit * pool->layout.segment_size;
}

/* ---- segments come and go; with the turn and the pool's lock ---- */

static void insert(struct ps_pool *pool, uint32_t n)
{
	pool->lease->hold[n] = LB_HOLD_LEASED;
	pool->segments[n].access = LB_ACCESS_WRITE;
	pool->segments[n].inserted = 1;
	pool->segments_inserted++;
	pool->slot[n].range = 0;
	pool->slot[n].inserted = true;
	if (n >= pool->slots_used)
		pool->slots_used = n + 1;
	if (n < pool->room_hint)
		pool->room_hint = n;
}

static void take_out(struct ps_pool *pool, uint32_t n, enum lb_hold becomes)
{
	pool->lease->hold[n] = (uint8_t)becomes;
	if (!pool->slot[n].inserted)
		return;
	pool->slot[n].inserted = false;
	pool->segments[n].inserted = 0;
	pool->segments_inserted--;
}

/* ---- unmapping; with the turn ---- */

static bool is_parked(const struct ps_pool *pool, uint32_t n)
{
	return pool->lease->hold[n] == LB_HOLD_PARKED ||
	       pool->lease->hold[n] == LB_HOLD_PARKING;
}

/* Leased, and the allocator does not have it. */
static bool is_idle(const struct ps_pool *pool, uint32_t n)
{
	const struct lb_slot *slot = &pool->slot[n];

	return pool->lease->hold[n] == LB_HOLD_LEASED && slot->inserted &&
	       !slot->given && !slot->lent;
}

static void release(struct ps_pool *pool, uint32_t n)
{
	struct lb_segment *segment = &pool->segments[n];

	if (segment->has_handle)
		(void)dv_segment_release(pool->device, segment->handle);
	segment->has_handle = false;
}

/* What the driver does not unmap stays as it was. */
static uint32_t unmap_run(struct ps_pool *pool, uint32_t first, uint32_t count,
			  enum lb_hold becomes, uint32_t *segments_out)
{
	enum ps_status status = lb_unmap_slots(pool, first, count);
	uint32_t done = 0;

	if (status != PS_OK)
		pool->unmap_status = status;
	for (uint32_t n = first; n < first + count; n++) {
		if (pool->slot[n].mapped)
			continue;
		release(pool, n);
		bs_lock_take(&pool->lock);
		take_out(pool, n, becomes);
		pool->segments[n].access = LB_ACCESS_NONE;
		bs_lock_drop(&pool->lock);
		if (segments_out != NULL)
			segments_out[done] = n;
		done++;
	}
	return done;
}

static uint32_t unmap_those(struct ps_pool *pool,
			    bool (*is_one)(const struct ps_pool *, uint32_t),
			    uint32_t max, enum lb_hold becomes,
			    uint32_t *segments_out)
{
	uint32_t end = pool->layout.segments, done = 0, run;

	for (uint32_t n = pool->lease->first; n < end && done < max; n += run) {
		run = 0;
		while (n + run < end && run < max - done &&
		       is_one(pool, n + run))
			run++;
		if (run > 0)
			done += unmap_run(pool, n, run, becomes,
					  segments_out == NULL
						  ? NULL
						  : segments_out + done);
		else
			run = 1;
	}
	return done;
}

uint32_t lb_lease_unmap(struct ps_pool *pool, uint32_t max,
			enum lb_hold becomes, uint32_t *segments_out)
{
	uint32_t done =
		unmap_those(pool, is_parked, max, becomes, segments_out);

	if (segments_out != NULL)
		segments_out += done;
	return done +
	       unmap_those(pool, is_idle, max - done, becomes, segments_out);
}

/* ---- telling the daemon; with requests ---- */

/* What @from are, at most a message full. */
static uint32_t list_those(struct lb_lease *lease, enum lb_hold from,
			   uint32_t list[IP_LIST_MAX])
{
	struct ps_pool *pool = lease->pool;
	uint32_t count = 0;

	bs_lock_take(&pool->lock);
	for (uint32_t n = lease->first; n < pool->layout.segments; n++)
		if (lease->hold[n] == from && count < IP_LIST_MAX)
			list[count++] = n;
	bs_lock_drop(&pool->lock);
	return count;
}

static void turn_those(struct lb_lease *lease, const uint32_t *list,
		       uint32_t count, enum lb_hold from, enum lb_hold into)
{
	lb_turn_take(lease->pool);
	bs_lock_take(&lease->pool->lock);
	for (uint32_t i = 0; i < count; i++)
		if (lease->hold[list[i]] == from)
			lease->hold[list[i]] = (uint8_t)into;
	bs_lock_drop(&lease->pool->lock);
	lb_turn_give(lease->pool);
}

static enum ps_status give_those(struct lb_lease *lease, enum lb_hold from,
				 enum lb_hold into)
{
	uint32_t list[IP_LIST_MAX];
	enum ps_status status = PS_OK;
	uint32_t count;

	while (status == PS_OK && (count = list_those(lease, from, list)) > 0) {
		status = ip_client_give(&lease->client, list, count,
					from == LB_HOLD_PARKING);
		if (status == PS_OK)
			turn_those(lease, list, count, from, into);
	}
	return status;
}

enum ps_status lb_lease_settle(struct lb_lease *lease)
{
	enum ps_status status =
		give_those(lease, LB_HOLD_PARKING, LB_HOLD_PARKED);

	if (status == PS_OK)
		status = give_those(lease, LB_HOLD_OWED, LB_HOLD_NONE);
	return status == PS_OK ? lb_ticket_settle(lease) : status;
}

static enum ps_status tell_once(struct lb_lease *lease, void *arg)
{
	(void)arg;
	return lb_lease_settle(lease);
}

enum ps_status lb_lease_tell(struct lb_lease *lease)
{
	return lb_session_do(lease, tell_once, NULL);
}

/* ---- less ---- */

static void park_mapped(struct ps_pool *pool)
{
	bs_lock_take(&pool->lock);
	for (uint32_t n = pool->lease->first; n < pool->layout.segments; n++)
		if (is_idle(pool, n) && pool->slot[n].mapped)
			take_out(pool, n, LB_HOLD_PARKING);
	bs_lock_drop(&pool->lock);
}

static bool is_idle_unmapped(const struct ps_pool *pool, uint32_t n)
{
	return is_idle(pool, n) && !pool->slot[n].mapped;
}

bool lb_lease_park(struct ps_pool *pool)
{
	struct lb_lease *lease = pool->lease;

	if (!bs_lock_try(&lease->requests))
		return false;
	if (!lease->is_forgotten && !atomic_load(&lease->is_lost)) {
		lb_turn_take(pool);
		park_mapped(pool);
		(void)unmap_those(pool, is_idle_unmapped, UINT32_MAX,
				  LB_HOLD_OWED, NULL);
		lb_turn_give(pool);
		(void)lb_lease_tell(lease);
	}
	bs_lock_drop(&lease->requests);
	return true;
}

/* What the daemon cannot be told now it is told when it is there again. */
uint64_t lb_lease_return(struct ps_pool *pool)
{
	struct lb_lease *lease = pool->lease;
	uint32_t done;

	bs_lock_take(&lease->requests);
	lb_turn_take(pool);
	done = lb_lease_unmap(pool, UINT32_MAX, LB_HOLD_OWED, NULL);
	lb_turn_give(pool);
	(void)lb_lease_tell(lease);
	lease->batch = 1;
	bs_lock_drop(&lease->requests);
	return done * pool->layout.segment_size;
}

/* ---- more ---- */

struct taking {
	uint32_t left;         /* segments, of what was asked */
	uint32_t crossed;      /* granted as parked, and just recalled */
	uint32_t wait_ms;      /* for other clients */
	enum ps_status import; /* the last failure */
};

static enum ps_status refuse_entry(const struct lb_lease *lease, uint32_t n,
				   const char *why)
{
	return bs_fail(PS_PROTOCOL, "GRANT from pid %d: segment %" PRIu32 " %s",
		       (int)lease->client.conn.peer_pid, n, why);
}

static enum ps_status check_entry(struct lb_lease *lease, uint32_t entry,
				  int fd)
{
	uint32_t n = entry & ~IP_SEGMENT_PARKED;
	bool parked = (entry & IP_SEGMENT_PARKED) != 0;

	if (n < lease->first || n >= lease->pool->layout.segments)
		return refuse_entry(lease, n,
				    "is not in the computation region");
	if (parked == (fd >= 0))
		return refuse_entry(lease, n, "came without its descriptor");
	switch ((enum lb_hold)lease->hold[n]) {
	case LB_HOLD_NONE:
		return parked ? refuse_entry(lease, n, "is not parked here")
			      : PS_OK;
	case LB_HOLD_RECALLED:
		return PS_OK;
	case LB_HOLD_PARKED:
	case LB_HOLD_RECALLING:
		return parked ? PS_OK
			      : refuse_entry(lease, n, "is leased already");
	default:
		return refuse_entry(lease, n, "is leased already");
	}
}

/* With the turn: nothing changes what was checked. */
static enum ps_status check_grant(struct lb_lease *lease,
				  const struct ip_list *grant, const int *fds,
				  uint32_t left)
{
	enum ps_status status = PS_OK;

	if (grant->count > left)
		return bs_fail(PS_PROTOCOL,
			       "GRANT from pid %d has %" PRIu32
			       " segments, where %" PRIu32 " are asked for",
			       (int)lease->client.conn.peer_pid, grant->count,
			       left);
	for (uint32_t i = 0; i < grant->count && status == PS_OK; i++)
		status = check_entry(lease, grant->segment[i], fds[i]);
	return status;
}

static void regain(struct ps_pool *pool, uint32_t n, struct taking *taking)
{
	uint8_t *hold = &pool->lease->hold[n];

	bs_lock_take(&pool->lock);
	if (*hold == LB_HOLD_PARKED)
		insert(pool, n);
	else
		taking->crossed++;
	if (*hold == LB_HOLD_RECALLED)
		*hold = LB_HOLD_NONE;
	bs_lock_drop(&pool->lock);
}

/* A descriptor that is no segment is owed, so that it goes back. */
static void import(struct ps_pool *pool, uint32_t n, int *fd,
		   struct taking *taking)
{
	struct lb_segment *segment = &pool->segments[n];
	enum ps_status status;

	segment->fd = *fd;
	*fd = -1;
	status = lb_vmm_import(pool, n);
	if (segment->fd >= 0)
		close(segment->fd);
	segment->fd = -1;
	bs_lock_take(&pool->lock);
	if (status == PS_OK)
		insert(pool, n);
	else
		pool->lease->hold[n] = LB_HOLD_OWED;
	bs_lock_drop(&pool->lock);
	if (status != PS_OK)
		taking->import = status;
}

static enum ps_status accept_grant(struct lb_lease *lease,
				   const struct ip_list *grant, int *fds,
				   struct taking *taking)
{
	struct ps_pool *pool = lease->pool;
	enum ps_status status;

	lb_turn_take(pool);
	status = check_grant(lease, grant, fds, taking->left);
	for (uint32_t i = 0; i < grant->count; i++) {
		uint32_t n = grant->segment[i] & ~IP_SEGMENT_PARKED;

		if (status != PS_OK && fds[i] >= 0)
			close(fds[i]);
		else if (status == PS_OK && fds[i] >= 0)
			import(pool, n, &fds[i], taking);
		else if (status == PS_OK)
			regain(pool, n, taking);
	}
	lb_turn_give(pool);
	if (status == PS_OK)
		taking->left -= grant->count;
	return status;
}

/* The service thread is to look for what can be parked again; it is woken
 * while the daemon is at work. */
void lb_lease_stir(struct lb_lease *lease)
{
	if (!atomic_exchange(&lease->is_growing, true))
		lb_service_wake(lease);
}

static enum ps_status take_once(struct lb_lease *lease, void *arg)
{
	struct taking *taking = arg;
	const struct ip_take take = { .count = taking->left,
				      .wait_ms = taking->wait_ms };
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	enum ps_status status;

	status = ip_client_take_say(&lease->client, &take);
	if (status != PS_OK)
		return status;
	lb_lease_stir(lease);
	do {
		status = ip_client_take(&lease->client, NULL, &grant, fds);
		if (status == PS_OK)
			status = accept_grant(lease, &grant, fds, taking);
	} while (status == PS_OK && (grant.flags & IP_LIST_MORE) != 0);
	if (status == PS_OK && taking->left > 0)
		return bs_fail(PS_PROTOCOL,
			       "pid %d granted %" PRIu32
			       " segments less than were asked for",
			       (int)lease->client.conn.peer_pid, taking->left);
	return status;
}

/* What crossed a recall is asked for again. */
static enum ps_status take(struct lb_lease *lease, uint32_t count,
			   uint32_t wait_ms)
{
	struct taking taking = { .left = count, .wait_ms = wait_ms };
	enum ps_status status = PS_OK;

	while (status == PS_OK && taking.left > 0) {
		status = lb_session_do(lease, take_once, &taking);
		taking.left += taking.crossed;
		taking.crossed = 0;
		if (taking.import != PS_OK)
			break;
	}
	if (taking.import != PS_OK) {
		char text[IP_TEXT_MAX];

		strncpy(text, bs_fail_text(), sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
		(void)lb_lease_tell(lease);
		return bs_fail(taking.import, "%s", text);
	}
	return status;
}

static void keep_denial(struct lb_lease *lease, enum ps_status status)
{
	lease->denial[0] = '\0';
	if (status == PS_OUT_OF_MEMORY)
		strncpy(lease->denial, bs_fail_text(),
			sizeof(lease->denial) - 1);
}

/* What counts towards the limit. */
static uint32_t had_in_all(const struct lb_lease *lease)
{
	return lease->pool->segments_inserted + lease->outside_segments;
}

/* Parked segments that were taken back without a daemon may be above it. */
static uint32_t left_of_limit(const struct lb_lease *lease)
{
	uint32_t had = had_in_all(lease);

	return had < lease->limit ? lease->limit - had : 0;
}

/* Whether the daemon can be asked for as much at all. */
enum ps_status lb_lease_check_limit(const struct lb_lease *lease,
				    uint32_t missing)
{
	uint64_t unit = lease->pool->layout.segment_size;
	uint32_t leased = had_in_all(lease);

	if (missing <= left_of_limit(lease))
		return PS_OK;
	return bs_fail(PS_OUT_OF_MEMORY,
		       "%" PRIu64 " bytes are leased and %" PRIu64
		       " more wanted, which is beyond this process's limit of "
		       "%" PRIu64 ": free something, or attach with a higher "
		       "limit",
		       leased * unit, missing * unit, lease->limit * unit);
}

/* Less may be leased by now than when the limit was looked at, not more. */
static uint32_t batch_of(struct lb_lease *lease, uint32_t missing)
{
	uint32_t more, left;

	bs_lock_take(&lease->pool->lock);
	more = had_in_all(lease) / SPARE_OF;
	left = left_of_limit(lease);
	bs_lock_drop(&lease->pool->lock);
	if (more > lease->batch)
		more = lease->batch;
	return missing + more < left ? missing + more : left;
}

static void grow_batch(struct lb_lease *lease)
{
	uint64_t most = BATCH_BYTES / lease->pool->layout.segment_size;

	if (lease->batch * UINT64_C(2) <= most)
		lease->batch *= 2;
}

/* Without waiting, and more than is missing where there is more. */
static enum ps_status take_now(struct lb_lease *lease, uint32_t missing)
{
	uint32_t count = batch_of(lease, missing);
	enum ps_status status = take(lease, count, 0);

	if (status == PS_OK)
		grow_batch(lease);
	if (status != PS_OUT_OF_MEMORY)
		return status;
	lease->batch = 1;
	return count > missing ? take(lease, missing, 0) : status;
}

/*
 * Without a daemon, or with one that does not know us, what is parked is ours
 * as much as the rest. It is never asked again: its books would not agree.
 */
static bool take_parked_back(struct ps_pool *pool)
{
	bool found = false;

	lb_turn_take(pool);
	bs_lock_take(&pool->lock);
	for (uint32_t n = pool->lease->first; n < pool->layout.segments; n++) {
		if (!is_parked(pool, n))
			continue;
		insert(pool, n);
		found = true;
	}
	bs_lock_drop(&pool->lock);
	lb_turn_give(pool);
	if (found)
		pool->lease->is_forgotten = true;
	return found;
}

/* With requests: another thread may have had enough granted meanwhile. */
static enum ps_status take_missing(struct ps_pool *pool, uint32_t wanted,
				   uint64_t stream, bool late)
{
	struct lb_lease *lease = pool->lease;
	enum ps_status status;
	uint32_t missing;

	lb_turn_take(pool);
	missing = lb_room_missing(pool, wanted, stream);
	status = lb_lease_check_limit(lease, missing);
	lb_turn_give(pool);
	if (status == PS_OK && missing > 0)
		status = late ? take(lease, missing, LB_WAIT_MS)
			      : take_now(lease, missing);
	keep_denial(lease, status);
	if (status == PS_PEER_GONE && lease->is_gone && take_parked_back(pool))
		return PS_OK;
	return status;
}

/* Room outside that is not filled goes back before this fails. */
static enum ps_status take_or_return(struct ps_pool *pool, uint32_t wanted,
				     uint64_t stream, bool late)
{
	enum ps_status status = take_missing(pool, wanted, stream, late);

	if (status == PS_OUT_OF_MEMORY && lb_outside_return(pool->lease))
		status = take_missing(pool, wanted, stream, late);
	return status;
}

enum ps_status lb_lease_take(struct ps_pool *pool, uint32_t wanted,
			     uint64_t stream, bool late)
{
	struct lb_lease *lease = pool->lease;
	enum ps_status status;

	bs_lock_take(&lease->requests);
	status = take_or_return(pool, wanted, stream, late);
	bs_lock_drop(&lease->requests);
	return status;
}

enum ps_status lb_lease_explain(struct ps_pool *pool, enum ps_status status)
{
	struct lb_lease *lease = pool->lease;
	char denial[sizeof(lease->denial)];

	if (status != PS_OUT_OF_MEMORY)
		return status;
	bs_lock_take(&lease->requests);
	memcpy(denial, lease->denial, sizeof(denial));
	bs_lock_drop(&lease->requests);
	return denial[0] == '\0' ? status
				 : bs_fail_prefix(status, "%s", denial);
}
