/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A pool as one allocation, shared by legacy CUDA IPC: for systems where file
 * descriptors cannot travel.
 *
 * Invariants: all of it is mapped, writable, in every process that has it, as
 * long as the process that reserved it lives; at other addresses in each.
 */
#include "lib/pool.h"

#include "base/status.h"

#include <inttypes.h>

static void mark_mapped(struct ps_pool *pool)
{
	for (uint32_t i = 0; i < pool->layout.segments; i++) {
		pool->segments[i].access = LB_ACCESS_WRITE;
		pool->segments[i].mapped = 1;
		pool->slot[i].mapped = true;
	}
	pool->segments_mapped = pool->layout.segments;
	pool->backing = &lb_backing_legacy;
}

enum ps_status lb_legacy_create(struct ps_pool *pool)
{
	enum ps_status status =
		dv_legacy_alloc(pool->device, lb_pool_bytes(pool), &pool->base);

	if (status != PS_OK)
		return bs_fail_prefix(status,
				      "one allocation of %" PRIu64 " bytes",
				      lb_pool_bytes(pool));
	mark_mapped(pool);
	return PS_OK;
}

enum ps_status lb_legacy_attach(struct ps_pool *pool,
				const unsigned char handle[DV_IPC_HANDLE_BYTES])
{
	enum ps_status status =
		dv_legacy_open(pool->device, handle, &pool->base);

	if (status == PS_OK)
		mark_mapped(pool);
	return status;
}

static enum ps_status legacy_map(struct ps_pool *pool, uint32_t slot,
				 uint32_t count, bool writable)
{
	(void)pool;
	(void)writable;
	return bs_fail(PS_DRIVER,
		       "slots %" PRIu32 " to %" PRIu32 " of a legacy pool were "
		       "not mapped",
		       slot, slot + count - 1);
}

static void legacy_release(struct ps_pool *pool)
{
	if (pool->reserved_here)
		(void)dv_legacy_free(pool->device, pool->base);
	else
		(void)dv_legacy_close(pool->device, pool->base);
}

const struct lb_backing lb_backing_legacy = {
	.map = legacy_map,
	.unmap = NULL, /* it stays mapped until it is released */
	.release = legacy_release,
};
