/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/ledger.h"
#include "preload/memory.h"
#include "preload/state.h"

static enum pl_course course_on(CUdevice device, struct ps_pool **pool_out,
				CUresult *result_out)
{
	return device == PL_DEVICE_CURRENT
		       ? pl_course(pool_out, result_out)
		       : pl_course_on(device, pool_out, result_out);
}

CUresult pl_room_take(CUdevice device, struct pl_entry *entry)
{
	struct ps_pool *pool = NULL;
	enum ps_status status;
	CUresult result;

	entry->toll = PL_TOLL_NONE;
	entry->pool = NULL;
	switch (course_on(device, &pool, &result)) {
	case PL_FAIL:
		return result;
	case PL_PASS:
		return CUDA_SUCCESS;
	default:
		break;
	}
	if (entry->bytes == 0)
		return CUDA_SUCCESS;
	status = ps_mem_take_outside(pool, entry->bytes);
	if (status == PS_OK)
		entry->toll = PL_TOLL_ROOM;
	else if (pl_spills(pool, status) &&
		 ps_mem_note_passed(pool, (int64_t)entry->bytes) == PS_OK)
		entry->toll = PL_TOLL_PASSED;
	else
		return pl_refuse(status);
	entry->pool = pool;
	return CUDA_SUCCESS;
}

/* A pool that was left meanwhile has nothing to be told. */
void pl_room_give(const struct pl_entry *entry)
{
	struct ps_pool *pool = pl_pool();

	if (!pool || pool != entry->pool)
		return;
	if (entry->toll == PL_TOLL_ROOM)
		(void)ps_mem_give_outside(pool, entry->bytes);
	else if (entry->toll == PL_TOLL_PASSED)
		(void)ps_mem_note_passed(pool, -(int64_t)entry->bytes);
}
