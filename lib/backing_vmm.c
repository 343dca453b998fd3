/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Segments as physical allocations of their own, which travel as file
 * descriptors and are mapped at the same addresses everywhere.
 *
 * Invariant: a segment that was shared read-only is never mapped writable.
 */
#include "lib/pool.h"

#include "base/status.h"

#include <inttypes.h>
#include <unistd.h>

static enum ps_status try_places(struct ps_pool *pool)
{
	enum ps_status status = PS_WINDOW_TAKEN;

	for (uint32_t i = 0; i < IP_WINDOW_PLACES && status == PS_WINDOW_TAKEN;
	     i++)
		status = dv_window_reserve(pool->device, pool->window,
					   ip_window_place(i), &pool->base);
	return status;
}

static enum ps_status try_anywhere(struct ps_pool *pool)
{
	return dv_window_reserve(pool->device, pool->window, 0, &pool->base);
}

/* Where addresses are scarce, a pool does with room for fewer aliases. */
static enum ps_status try_sizes(struct ps_pool *pool,
				enum ps_status (*try)(struct ps_pool *pool))
{
	enum ps_status status = PS_WINDOW_TAKEN;

	for (uint32_t n = IP_WINDOW_POOLS; n > 0; n /= 2) {
		pool->window = ip_window_bytes(lb_pool_bytes(pool), n);
		pool->slots =
			(uint32_t)(pool->window / pool->layout.segment_size);
		status = try(pool);
		if (status != PS_WINDOW_TAKEN && status != PS_DEVICE_MEMORY)
			return status;
	}
	return bs_fail_prefix(PS_WINDOW_TAKEN,
			      "no %" PRIu64 " bytes of addresses for the pool",
			      pool->window);
}

static enum ps_status reserve_window(struct ps_pool *pool)
{
	enum ps_status status = try_sizes(pool, try_places);

	return status == PS_WINDOW_TAKEN ? try_sizes(pool, try_anywhere)
					 : status;
}

static void release_segments(struct ps_pool *pool)
{
	for (uint32_t i = 0; i < pool->layout.segments; i++) {
		struct lb_segment *segment = &pool->segments[i];

		if (segment->has_handle)
			(void)dv_segment_release(pool->device, segment->handle);
		segment->has_handle = false;
	}
}

static enum ps_status create_segments(struct ps_pool *pool)
{
	uint64_t bytes = pool->layout.segment_size;

	for (uint32_t i = 0; i < pool->layout.segments; i++) {
		struct lb_segment *segment = &pool->segments[i];
		enum ps_status status = dv_segment_create(pool->device, bytes,
							  &segment->handle);

		if (status != PS_OK) {
			release_segments(pool);
			return bs_fail_prefix(status,
					      "segment %" PRIu32 " of %" PRIu32
					      " (%" PRIu64 " bytes each)",
					      i, pool->layout.segments, bytes);
		}
		segment->has_handle = true;
		segment->access = LB_ACCESS_WRITE;
	}
	return PS_OK;
}

/*
 * Descriptors made now need not be made for each receiver. Where the limit
 * of open files leaves too little they are made when they are sent.
 */
static enum ps_status export_segments(struct ps_pool *pool)
{
	enum ps_status status;
	uint64_t room, limit;

	status = ip_fd_room(&room, &limit);
	if (status != PS_OK || room < pool->layout.segments + LB_FDS_LEFT)
		return status;
	for (uint32_t i = 0; i < pool->layout.segments; i++) {
		struct lb_segment *segment = &pool->segments[i];

		status = dv_segment_export(pool->device, segment->handle,
					   &segment->fd);
		if (status != PS_OK)
			return status;
	}
	return PS_OK;
}

enum ps_status lb_vmm_create(struct ps_pool *pool)
{
	enum ps_status status = reserve_window(pool);

	if (status != PS_OK)
		return status;
	status = create_segments(pool);
	if (status != PS_OK) {
		(void)dv_window_free(pool->device, pool->base, pool->window);
		return status;
	}
	pool->backing = &lb_backing_vmm;
	return export_segments(pool);
}

enum ps_status lb_vmm_attach(struct ps_pool *pool, uint64_t base)
{
	enum ps_status status = dv_window_reserve(pool->device, pool->window,
						  base, &pool->base);

	if (status != PS_OK)
		return bs_fail_prefix(status,
				      "the pool's addresses, from %#" PRIx64
				      " to %#" PRIx64,
				      base, base + pool->window);
	pool->backing = &lb_backing_vmm;
	return PS_OK;
}

enum ps_status lb_vmm_import(struct ps_pool *pool, uint32_t n)
{
	struct lb_segment *segment = &pool->segments[n];
	enum ps_status status;

	if (segment->has_handle)
		return PS_OK;
	status = dv_segment_import(pool->device, segment->fd, &segment->handle);
	if (status != PS_OK)
		return bs_fail_prefix(status, "segment %" PRIu32 " of the pool",
				      n);
	segment->has_handle = true;
	close(segment->fd);
	segment->fd = -1;
	return PS_OK;
}

static enum ps_status map_one(struct ps_pool *pool, uint32_t slot)
{
	uint32_t n = pool->slot[slot].segment;
	enum ps_status status = lb_vmm_import(pool, n);

	if (status != PS_OK)
		return status;
	return dv_window_map(pool->device, lb_slot_address(pool, slot),
			     pool->layout.segment_size,
			     pool->segments[n].handle);
}

static enum ps_status vmm_unmap(struct ps_pool *pool, uint32_t slot,
				uint32_t count)
{
	return dv_window_unmap(pool->device, lb_slot_address(pool, slot),
			       count * pool->layout.segment_size);
}

static enum ps_status vmm_map(struct ps_pool *pool, uint32_t slot,
			      uint32_t count, bool writable)
{
	enum ps_status status = PS_OK;
	uint32_t done = 0;

	while (done < count && status == PS_OK) {
		status = map_one(pool, slot + done);
		done += status == PS_OK;
	}
	if (status == PS_OK)
		status = dv_window_set_access(
			pool->device, lb_slot_address(pool, slot),
			count * pool->layout.segment_size, writable);
	if (status != PS_OK && done > 0)
		(void)vmm_unmap(pool, slot, done);
	return status;
}

static void vmm_release(struct ps_pool *pool)
{
	release_segments(pool);
	(void)dv_window_free(pool->device, pool->base, pool->window);
}

const struct lb_backing lb_backing_vmm = {
	.map = vmm_map,
	.unmap = vmm_unmap,
	.release = vmm_release,
};
