/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory that the pool cannot hold: the driver gives it, and the daemon makes
 * room for it by as many segments as it takes.
 */
#include "lib/lease.h"

#include "base/status.h"
#include "lib/process.h"

static enum ps_status need_lease(void)
{
	return bs_fail(PS_UNSUPPORTED,
		       "this pool was not attached to poolswitchd, which alone "
		       "makes room for other memory: use ps_attach()");
}

/* The pool, attached, or why not. */
static enum ps_status enter(struct ps_pool *pool, struct ps_pool **pool_out)
{
	*pool_out = lb_enter(pool);
	if (*pool_out == NULL)
		return lb_refuse(pool);
	return (*pool_out)->lease == NULL ? need_lease() : PS_OK;
}

enum ps_status ps_mem_take_outside(struct ps_pool *pool, uint64_t bytes)
{
	struct ps_pool *p;
	enum ps_status status = enter(pool, &p);

	(void)bytes;
	return status == PS_OK ? bs_fail(PS_UNSUPPORTED, "not there yet")
			       : status;
}

enum ps_status ps_mem_give_outside(struct ps_pool *pool, uint64_t bytes)
{
	struct ps_pool *p;
	enum ps_status status = enter(pool, &p);

	(void)bytes;
	return status == PS_OK ? bs_fail(PS_UNSUPPORTED, "not there yet")
			       : status;
}

enum ps_status ps_mem_note_passed(struct ps_pool *pool, int64_t bytes)
{
	struct ps_pool *p;
	enum ps_status status = enter(pool, &p);

	if (status == PS_OK)
		atomic_fetch_add(&p->lease->passed, bytes);
	return status;
}
