/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory of ours that other processes may have: tickets and descriptors. What
 * they say is the daemon's business; here it is found out which segments an
 * address means.
 *
 * Invariant: nothing is named that is not leased to this process.
 */
#include "lib/lease.h"

#include "base/status.h"

#include <inttypes.h>
#include <string.h>

static enum ps_status refuse_pointer(const void *ptr)
{
	return bs_fail(PS_NOT_OURS,
		       "%p is not in memory that is leased to this process: "
		       "name what an allocating call of this pool gave",
		       ptr);
}

/* The segment in @slot: what is leased is inserted, nothing else is. With the
 * pool's lock. */
static bool find_leased(const struct ps_pool *pool, uint64_t slot,
			uint32_t *segment_out)
{
	const struct lb_slot *s;

	if (slot >= pool->slots)
		return false;
	s = &pool->slot[slot];
	if (!s->mapped || !s->inserted)
		return false;
	*segment_out = s->segment;
	return true;
}

/* ---- descriptors ---- */

struct exporting {
	uint32_t segment;
	int fd;
};

static enum ps_status export_once(struct lb_lease *lease, void *arg)
{
	struct exporting *exporting = arg;

	return ip_client_export(&lease->client, exporting->segment,
				&exporting->fd);
}

enum ps_status ps_mem_export_segment(struct ps_pool *pool, const void *ptr,
				     int *fd_out)
{
	struct ps_pool *p = NULL;
	struct exporting exporting = { .fd = -1 };
	enum ps_status status =
		lb_lease_enter(pool, "gives memory to others", &p);
	bool found;

	if (status != PS_OK)
		return status;
	bs_lock_take(&p->lock);
	found = find_leased(p,
			    ((uint64_t)(uintptr_t)ptr - p->base) /
				    p->layout.segment_size,
			    &exporting.segment);
	bs_lock_drop(&p->lock);
	if (!found)
		return refuse_pointer(ptr);
	bs_lock_take(&p->lease->requests);
	status = lb_session_ask(p->lease, export_once, &exporting);
	bs_lock_drop(&p->lease->requests);
	if (status == PS_OK)
		*fd_out = exporting.fd;
	return status;
}

/* ---- what an address means ---- */

struct span {
	uint64_t start; /* in the window */
	uint64_t end;
};

struct search {
	struct span want;  /* in: what blocks have to touch */
	struct span found; /* the first and last byte of those that do */
};

static void look_at(void *arg, uint64_t offset, uint64_t bytes)
{
	struct search *search = arg;

	if (offset >= search->want.end || offset + bytes <= search->want.start)
		return;
	if (offset < search->found.start)
		search->found.start = offset;
	if (offset + bytes > search->found.end)
		search->found.end = offset + bytes;
}

/* From where a segment starts, to the end of the last block that begins in it
 * or reaches through it. */
static struct span segment_span(struct ps_pool *pool, uint64_t offset)
{
	uint64_t end = offset + pool->layout.segment_size;
	struct search search = { .want = { offset, end },
				 .found = { offset, end } };

	al_visit_live(pool->al, look_at, &search);
	return (struct span){ offset, search.found.end };
}

/* Nothing, start and end the same, where there is no block. */
static struct span block_span(struct ps_pool *pool, uint64_t offset)
{
	struct search search = { .want = { offset, offset + 1 },
				 .found = { UINT64_MAX, 0 } };

	al_visit_live(pool->al, look_at, &search);
	return search.found.end > 0 ? search.found
				    : (struct span){ offset, offset };
}

static bool is_leased(struct ps_pool *pool, uint64_t offset)
{
	uint32_t segment;
	bool found;

	bs_lock_take(&pool->lock);
	found = find_leased(pool, offset / pool->layout.segment_size, &segment);
	bs_lock_drop(&pool->lock);
	return found;
}

static enum ps_status find_span(struct ps_pool *pool, const void *ptr,
				struct span *span_out)
{
	uint64_t offset = (uint64_t)(uintptr_t)ptr - pool->base, bytes;
	struct span span;

	if (offset >= pool->window || !is_leased(pool, offset))
		return refuse_pointer(ptr);
	if (al_usable_size(pool->al, offset, &bytes) == PS_OK)
		span = (struct span){ offset, offset + bytes };
	else if (offset % pool->layout.segment_size == 0)
		span = segment_span(pool, offset);
	else
		span = block_span(pool, offset);
	if (span.start == span.end)
		return refuse_pointer(ptr);
	*span_out = span;
	return PS_OK;
}

/* ---- issuing ---- */

struct issuing {
	struct ip_issue issue;
	uint8_t ticket[IP_TICKET_BYTES];
};

/* Whether it could be added. */
static bool add_segment(struct ip_issue *issue, uint32_t n)
{
	struct ip_run *last = issue->run_count == 0
				      ? NULL
				      : &issue->run[issue->run_count - 1];

	if (last != NULL && last->first + last->count == n) {
		last->count++;
		return true;
	}
	if (issue->run_count == IP_TICKET_RUNS)
		return false;
	issue->run[issue->run_count++] = (struct ip_run){ n, 1 };
	return true;
}

/* With the pool's lock. */
static enum ps_status add_slots(const struct ps_pool *pool,
				const struct span *span, struct ip_issue *issue)
{
	uint64_t unit = pool->layout.segment_size;
	uint64_t end = (span->end - 1) / unit + 1;
	uint32_t n;

	for (uint64_t slot = span->start / unit; slot < end; slot++) {
		if (!find_leased(pool, slot, &n))
			return PS_NOT_OURS;
		if (!add_segment(issue, n))
			return PS_UNSUPPORTED;
	}
	return PS_OK;
}

static enum ps_status list_segments(struct ps_pool *pool, const void *ptr,
				    struct ip_issue *issue)
{
	struct span span = { 0, 0 };
	enum ps_status status = find_span(pool, ptr, &span);

	if (status != PS_OK)
		return status;
	bs_lock_take(&pool->lock);
	status = add_slots(pool, &span, issue);
	bs_lock_drop(&pool->lock);
	if (status == PS_NOT_OURS)
		return refuse_pointer(ptr);
	if (status == PS_UNSUPPORTED)
		return bs_fail(status,
			       "the block at %p lies in more than %u runs of "
			       "neighbouring segments: allocate it earlier, or "
			       "in parts",
			       ptr, IP_TICKET_RUNS);
	issue->offset = span.start % pool->layout.segment_size;
	issue->bytes = span.end - span.start;
	return status;
}

static enum ps_status issue_once(struct lb_lease *lease, void *arg)
{
	struct issuing *issuing = arg;

	return ip_client_issue(&lease->client, &issuing->issue,
			       issuing->ticket);
}

enum ps_status ps_ticket_issue(struct ps_pool *pool, const void *ptr,
			       struct ps_ticket *ticket_out)
{
	struct issuing issuing = { .issue = { .run_count = 0 } };
	struct ps_pool *p = NULL;
	enum ps_status status =
		lb_lease_enter(pool, "gives memory to others", &p);

	if (status == PS_OK)
		status = list_segments(p, ptr, &issuing.issue);
	if (status != PS_OK)
		return status;
	bs_lock_take(&p->lease->requests);
	status = lb_session_ask(p->lease, issue_once, &issuing);
	bs_lock_drop(&p->lease->requests);
	if (status == PS_OK)
		memcpy(ticket_out->bytes, issuing.ticket,
		       sizeof(ticket_out->bytes));
	return status;
}
