/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory of other processes that is open here by tickets.
 *
 * Tickets that name the same segments share a mapping, however much of them
 * each names. A segment may lie in several mappings; the daemon counts it
 * once.
 *
 * Invariant: a segment that is HERE is mapped, or is being opened by who has
 * the requests lock.
 */
#include "lib/lease.h"

#include "base/status.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what is open; with requests ---- */

static struct lb_opening *find_ticket(const struct lb_lease *lease,
				      const struct ps_ticket *ticket)
{
	struct lb_opening *opening = lease->openings;

	while (opening != NULL && memcmp(opening->ticket.bytes, ticket->bytes,
					 sizeof(ticket->bytes)) != 0)
		opening = opening->next;
	return opening;
}

static struct lb_opening *find_address(const struct lb_lease *lease,
				       uint64_t address)
{
	struct lb_opening *opening = lease->openings;

	while (opening != NULL && opening->address != address)
		opening = opening->next;
	return opening;
}

/* Another one with the same mapping. */
static bool has_sharer(const struct lb_lease *lease,
		       const struct lb_opening *opening)
{
	const struct lb_opening *other = lease->openings;

	while (other != NULL &&
	       (other == opening || other->slot != opening->slot))
		other = other->next;
	return other != NULL;
}

static void take_out(struct lb_lease *lease, struct lb_opening *opening)
{
	struct lb_opening **at = &lease->openings;

	while (*at != opening)
		at = &(*at)->next;
	*at = opening->next;
	free(opening);
}

void lb_ticket_forget(struct lb_lease *lease)
{
	while (lease->openings != NULL)
		take_out(lease, lease->openings);
}

/* With the pool's lock. */
static void set_open(struct lb_lease *lease, uint32_t n, enum lb_open open)
{
	lease->opened += open == LB_OPEN_HERE;
	lease->opened -= lease->open[n] == LB_OPEN_HERE;
	lease->open[n] = (uint8_t)open;
	lease->pool->segments[n].access =
		open == LB_OPEN_HERE ? LB_ACCESS_WRITE : LB_ACCESS_NONE;
}

/* What is HERE and not mapped any more is to be closed. With the turn. */
static void drop_unmapped(struct lb_lease *lease)
{
	struct ps_pool *pool = lease->pool;

	for (uint32_t n = lease->first; n < pool->layout.segments; n++) {
		struct lb_segment *segment = &pool->segments[n];

		if (lease->open[n] != LB_OPEN_HERE || segment->mapped > 0)
			continue;
		if (segment->has_handle)
			(void)dv_segment_release(pool->device, segment->handle);
		segment->has_handle = false;
		bs_lock_take(&pool->lock);
		set_open(lease, n, LB_OPEN_OWED);
		bs_lock_drop(&pool->lock);
	}
}

static uint32_t list_owed(const struct lb_lease *lease,
			  uint32_t list[IP_LIST_MAX])
{
	uint32_t count = 0;

	for (uint32_t n = lease->first;
	     n < lease->pool->layout.segments && count < IP_LIST_MAX; n++)
		if (lease->open[n] == LB_OPEN_OWED)
			list[count++] = n;
	return count;
}

enum ps_status lb_ticket_settle(struct lb_lease *lease)
{
	uint32_t list[IP_LIST_MAX], count;
	enum ps_status status = PS_OK;

	while (status == PS_OK && (count = list_owed(lease, list)) > 0) {
		status = ip_client_close(&lease->client, list, count);
		bs_lock_take(&lease->pool->lock);
		for (uint32_t i = 0; i < count && status == PS_OK; i++)
			lease->open[list[i]] = LB_OPEN_NONE;
		bs_lock_drop(&lease->pool->lock);
	}
	return status;
}

/* ---- opening ---- */

struct trying {
	const struct ps_ticket *ticket;
	uint32_t *segment; /* room for all of the pool */
	uint32_t count;
	uint64_t offset;
	uint64_t bytes;
	enum ps_status import; /* the first failure */
};

static enum ps_status check_opened(const struct lb_lease *lease,
				   const struct ip_opened *opened,
				   uint32_t before)
{
	const struct ps_pool *pool = lease->pool;
	const char *wrong = NULL;
	uint32_t i, n = 0;

	if (opened->count > pool->layout.segments - before)
		wrong = "is one more than the pool has";
	for (i = 0; i < opened->count && wrong == NULL; i++) {
		n = opened->segment[i];
		if (n < lease->first || n >= pool->layout.segments)
			wrong = "is not in the computation region";
		else if (pool->slot[n].inserted || pool->slot[n].mapped ||
			 lease->hold[n] == LB_HOLD_OUTSIDE)
			wrong = "is leased to this process";
	}
	if (wrong == NULL)
		return PS_OK;
	return bs_fail(PS_PROTOCOL,
		       "OPENED from pid %d: segment %" PRIu32 " %s",
		       (int)lease->client.conn.peer_pid, n, wrong);
}

/* A descriptor that is no segment leaves it without a handle. */
static void import(struct lb_lease *lease, uint32_t n, int fd,
		   struct trying *trying)
{
	struct ps_pool *pool = lease->pool;
	enum ps_status status;

	pool->segments[n].fd = fd;
	status = lb_vmm_import(pool, n);
	if (pool->segments[n].fd >= 0)
		close(pool->segments[n].fd);
	pool->segments[n].fd = -1;
	if (trying->import == PS_OK)
		trying->import = status;
	bs_lock_take(&pool->lock);
	set_open(lease, n, LB_OPEN_HERE);
	bs_lock_drop(&pool->lock);
	trying->segment[trying->count++] = n;
}

static enum ps_status accept_opened(struct lb_lease *lease,
				    const struct ip_opened *opened,
				    const int *fds, struct trying *trying)
{
	enum ps_status status;

	lb_turn_take(lease->pool);
	status = check_opened(lease, opened, trying->count);
	for (uint32_t i = 0; i < opened->count; i++) {
		if (status == PS_OK)
			import(lease, opened->segment[i], fds[i], trying);
		else
			close(fds[i]);
	}
	lb_turn_give(lease->pool);
	trying->offset = opened->offset;
	trying->bytes = opened->bytes;
	return status;
}

static enum ps_status open_once(struct lb_lease *lease, void *arg)
{
	struct trying *trying = arg;
	const uint8_t *say = trying->ticket->bytes;
	struct ip_opened opened;
	int fds[IP_LIST_MAX];
	enum ps_status status;

	trying->count = 0;
	do {
		status = ip_client_open(&lease->client, say, &opened, fds);
		if (status == PS_OK)
			status = accept_opened(lease, &opened, fds, trying);
		say = NULL;
	} while (status == PS_OK && (opened.flags & IP_LIST_MORE) != 0);
	return status;
}

/* ---- mapping; with requests and the turn ---- */

static bool is_mapping_of(const struct ps_pool *pool,
			  const struct lb_opening *opening,
			  const struct trying *trying)
{
	if (opening->count != trying->count)
		return false;
	for (uint32_t i = 0; i < trying->count; i++)
		if (pool->slot[opening->slot + i].segment != trying->segment[i])
			return false;
	return true;
}

static bool find_mapping(const struct ps_pool *pool,
			 const struct trying *trying, uint32_t *slot_out)
{
	const struct lb_opening *opening = pool->lease->openings;

	while (opening != NULL && !is_mapping_of(pool, opening, trying))
		opening = opening->next;
	if (opening != NULL)
		*slot_out = opening->slot;
	return opening != NULL;
}

static void name_slots(struct ps_pool *pool, uint32_t slot, uint32_t count,
		       const uint32_t *segments)
{
	bs_lock_take(&pool->lock);
	for (uint32_t i = 0; i < count; i++)
		pool->slot[slot + i] = (struct lb_slot){
			.segment = segments == NULL ? 0 : segments[i],
		};
	bs_lock_drop(&pool->lock);
}

static enum ps_status unmap(struct ps_pool *pool, uint32_t slot, uint32_t count)
{
	enum ps_status status = lb_unmap_slots(pool, slot, count);

	if (status == PS_OK)
		name_slots(pool, slot, count, NULL);
	return status;
}

static enum ps_status map_new(struct ps_pool *pool, const struct trying *trying,
			      uint32_t *slot_out)
{
	enum ps_status status;
	uint32_t slot;

	if (!lb_room_find_empty(pool, trying->count, &slot))
		return bs_fail(PS_OUT_OF_MEMORY,
			       "no %" PRIu32 " neighbouring segments of "
			       "addresses are left to open a ticket at: close "
			       "some",
			       trying->count);
	name_slots(pool, slot, trying->count, trying->segment);
	status = lb_map_slots(pool, slot, trying->count);
	if (status == PS_OK)
		*slot_out = slot;
	else
		(void)unmap(pool, slot, trying->count);
	return status;
}

static enum ps_status map(struct ps_pool *pool, const struct trying *trying,
			  uint32_t *slot_out)
{
	uint64_t size = trying->count * pool->layout.segment_size;

	if (trying->import != PS_OK)
		return trying->import;
	if (trying->offset >= pool->layout.segment_size ||
	    trying->bytes > size - trying->offset)
		return bs_fail(PS_PROTOCOL,
			       "OPENED from pid %d: %" PRIu64
			       " bytes from %" PRIu64
			       " do not fit into %" PRIu32 " segments",
			       (int)pool->lease->client.conn.peer_pid,
			       trying->bytes, trying->offset, trying->count);
	return find_mapping(pool, trying, slot_out)
		       ? PS_OK
		       : map_new(pool, trying, slot_out);
}

/* ---- the two calls ---- */

static enum ps_status fill(struct lb_lease *lease, struct trying *trying,
			   struct lb_opening *opening)
{
	struct ps_pool *pool = lease->pool;
	enum ps_status status = lb_session_ask(lease, open_once, trying);

	lb_turn_take(pool);
	if (status == PS_OK)
		status = map(pool, trying, &opening->slot);
	drop_unmapped(lease);
	lb_turn_give(pool);
	opening->ticket = *trying->ticket;
	opening->count = trying->count;
	opening->times = 1;
	opening->address =
		lb_slot_address(pool, opening->slot) + trying->offset;
	return status;
}

/* Tells the daemon to close what was opened in vain; @status stays what it
 * is, and its text too. */
static enum ps_status close_rest(struct lb_lease *lease, enum ps_status status)
{
	char text[IP_TEXT_MAX];
	uint32_t list[IP_LIST_MAX];

	if (list_owed(lease, list) == 0)
		return status;
	strncpy(text, bs_fail_text(), sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	(void)lb_lease_tell(lease);
	return bs_fail(status, "%s", text);
}

static enum ps_status open_new(struct lb_lease *lease,
			       const struct ps_ticket *ticket,
			       struct lb_opening **opening_out)
{
	struct trying trying = { .ticket = ticket };
	struct lb_opening *opening = calloc(1, sizeof(*opening));
	enum ps_status status;

	trying.segment =
		calloc(lease->pool->layout.segments, sizeof(*trying.segment));
	if (opening == NULL || trying.segment == NULL)
		status = bs_fail(PS_HOST_MEMORY,
				 "no host memory to open a ticket");
	else
		status = fill(lease, &trying, opening);
	free(trying.segment);
	if (status != PS_OK) {
		free(opening);
		return close_rest(lease, status);
	}
	opening->next = lease->openings;
	lease->openings = opening;
	*opening_out = opening;
	return PS_OK;
}

static bool is_ticket(const struct ps_ticket *ticket)
{
	return memcmp(ticket->bytes, PS_TICKET_MAGIC,
		      sizeof(PS_TICKET_MAGIC) - 1) == 0;
}

enum ps_status ps_ticket_open(struct ps_pool *pool,
			      const struct ps_ticket *ticket, void **ptr_out)
{
	struct lb_opening *opening;
	struct ps_pool *p = NULL;
	enum ps_status status = lb_lease_enter(pool, "knows tickets", &p);

	if (status == PS_OK && !is_ticket(ticket))
		status = bs_fail(PS_REFUSED,
				 "these %zu bytes are no ticket of poolswitch",
				 sizeof(ticket->bytes));
	if (status != PS_OK)
		return status;
	bs_lock_take(&p->lease->requests);
	opening = find_ticket(p->lease, ticket);
	if (opening != NULL)
		opening->times++;
	else
		status = open_new(p->lease, ticket, &opening);
	if (status == PS_OK) {
		p->lease->opens++;
		*ptr_out = (void *)(uintptr_t)opening->address;
	}
	bs_lock_drop(&p->lease->requests);
	return status;
}

/* Nobody uses the mapping any more. What the driver does not unmap stays
 * open. */
static enum ps_status close_last(struct lb_lease *lease,
				 struct lb_opening *opening)
{
	struct ps_pool *pool = lease->pool;
	enum ps_status status;

	lb_turn_take(pool);
	status = unmap(pool, opening->slot, opening->count);
	drop_unmapped(lease);
	lb_turn_give(pool);
	if (status != PS_OK)
		return status;
	take_out(lease, opening);
	/* Told later, if not now. */
	(void)lb_lease_tell(lease);
	return PS_OK;
}

/*
 * PS_AGAIN: the work on it has to be waited for, which is so when nothing was
 * opened since @waited_for was read.
 */
static enum ps_status close_one(struct lb_lease *lease, uint64_t address,
				uint64_t *waited_for)
{
	struct lb_opening *opening = find_address(lease, address);

	if (opening == NULL)
		return bs_fail(PS_NOT_OURS,
			       "%#" PRIx64 " was not opened by a ticket, or is "
			       "closed already",
			       address);
	if (opening->times > 1) {
		opening->times--;
		return PS_OK;
	}
	if (has_sharer(lease, opening)) {
		take_out(lease, opening);
		return PS_OK;
	}
	if (*waited_for != lease->opens) {
		*waited_for = lease->opens;
		return PS_AGAIN;
	}
	return close_last(lease, opening);
}

enum ps_status ps_ticket_close(struct ps_pool *pool, void *ptr)
{
	uint64_t waited_for = 0;
	struct ps_pool *p = NULL;
	enum ps_status status = lb_lease_enter(pool, "knows tickets", &p),
		       waited = PS_OK;

	if (status != PS_OK)
		return status;
	do {
		bs_lock_take(&p->lease->requests);
		status = close_one(p->lease, (uint64_t)(uintptr_t)ptr,
				   &waited_for);
		bs_lock_drop(&p->lease->requests);
		if (status == PS_AGAIN)
			waited = lb_room_synchronize(p);
	} while (status == PS_AGAIN && waited == PS_OK);
	return waited == PS_OK ? status : waited;
}
