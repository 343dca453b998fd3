/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* An attached pool's parameter region: segments that the daemon hands out when
 * they are asked for, and that nobody gives back. */
#include "lib/lease.h"

#include <unistd.h>

struct needing {
	uint32_t first;
	uint32_t count;
};

static enum ps_status take_part(struct ps_pool *pool, uint32_t n, int fd,
				bool write)
{
	struct lb_segment *segment = &pool->segments[n];
	enum ps_status status;

	segment->fd = fd;
	status = lb_vmm_import(pool, n);
	if (segment->fd >= 0)
		close(segment->fd);
	segment->fd = -1;
	if (status != PS_OK)
		return status;
	bs_lock_take(&pool->lock);
	segment->access = write ? LB_ACCESS_WRITE : LB_ACCESS_READ;
	bs_lock_drop(&pool->lock);
	return PS_OK;
}

static enum ps_status need_once(struct lb_lease *lease, void *arg)
{
	const struct needing *needing = arg;
	enum ps_status status, result = PS_OK;
	int fds[IP_LIST_MAX];
	bool write;

	status = ip_client_need(&lease->client, needing->first, needing->count,
				&write, fds);
	if (status != PS_OK)
		return status;
	lb_turn_take(lease->pool);
	for (uint32_t i = 0; i < needing->count; i++) {
		status = take_part(lease->pool, needing->first + i, fds[i],
				   write);
		if (status != PS_OK)
			result = status;
	}
	lb_turn_give(lease->pool);
	return result;
}

/* The next run of segments that were not given yet. */
static bool find_needed(struct ps_pool *pool, uint32_t first, uint32_t end,
			struct needing *needing)
{
	bs_lock_take(&pool->lock);
	while (first < end && pool->segments[first].access != LB_ACCESS_NONE)
		first++;
	*needing = (struct needing){ .first = first };
	while (first < end && needing->count < IP_LIST_MAX &&
	       pool->segments[first].access == LB_ACCESS_NONE) {
		needing->count++;
		first++;
	}
	bs_lock_drop(&pool->lock);
	return needing->count > 0;
}

enum ps_status lb_lease_need(struct ps_pool *pool, uint32_t first, uint32_t end)
{
	struct lb_lease *lease = pool->lease;
	enum ps_status status = PS_OK;
	struct needing needing;

	if (end > lease->first)
		end = lease->first;
	bs_lock_take(&lease->requests);
	while (status == PS_OK && find_needed(pool, first, end, &needing))
		status = lb_session_do(lease, need_once, &needing);
	bs_lock_drop(&lease->requests);
	return status;
}
