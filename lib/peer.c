/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Other GPUs of the process that may use the pool's memory. */
#include "lib/pool.h"

#include "base/status.h"
#include "lib/lease.h"
#include "lib/process.h"

static bool is_writable(const struct ps_pool *pool, uint32_t slot)
{
	return pool->segments[pool->slot[slot].segment].access ==
	       LB_ACCESS_WRITE;
}

/* From @slot on, mapped and of one access; 0: it is not mapped. */
static uint32_t run_of(const struct ps_pool *pool, uint32_t slot)
{
	uint32_t end = slot;

	while (end < pool->slots && pool->slot[end].mapped &&
	       is_writable(pool, end) == is_writable(pool, slot))
		end++;
	return end - slot;
}

/* What is mapped from now on has it by itself. With the turn. */
static enum ps_status allow_mapped(struct ps_pool *pool)
{
	uint64_t unit = pool->layout.segment_size;
	enum ps_status status = PS_OK;

	for (uint32_t slot = 0, run; slot < pool->slots && status == PS_OK;
	     slot += run + 1) {
		run = run_of(pool, slot);
		if (run > 0)
			status = dv_window_set_access(
				pool->device, lb_slot_address(pool, slot),
				run * unit, is_writable(pool, slot));
		if (run > 0)
			run--;
	}
	if (status == PS_OK && lb_model_ops_of(pool->lease) != NULL)
		status =
			lb_model_ops_of(pool->lease)->allow_mapped(pool->lease);
	return status;
}

enum ps_status ps_pool_allow_peer(struct ps_pool *pool, int ordinal)
{
	struct ps_pool *p = lb_enter(pool);
	enum ps_status status;

	if (p == NULL)
		return lb_refuse(pool);
	if (lb_is_legacy(p))
		return bs_fail(PS_UNSUPPORTED,
			       "a pool of one legacy allocation is reached by "
			       "cuCtxEnablePeerAccess()");
	status = lb_lease_check(p);
	if (status != PS_OK)
		return status;
	lb_turn_take(p);
	status = dv_device_allow_peer(p->device, ordinal);
	if (status == PS_OK) {
		status = allow_mapped(p);
		if (status != PS_OK)
			dv_device_drop_peer(p->device, ordinal);
	}
	lb_turn_give(p);
	return status;
}
