/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Memory that other processes may open, and theirs that is open here. */
#include "lib/lease.h"

#include "base/status.h"
#include "lib/process.h"

static enum ps_status enter(struct ps_pool *pool, struct ps_pool **pool_out)
{
	*pool_out = lb_enter(pool);
	if (*pool_out == NULL)
		return lb_refuse(pool);
	if ((*pool_out)->lease != NULL)
		return bs_fail(PS_UNSUPPORTED, "not there yet");
	return bs_fail(PS_UNSUPPORTED,
		       "this pool was not attached to poolswitchd, which "
		       "alone knows who has what: use ps_attach()");
}

enum ps_status ps_mem_export_segment(struct ps_pool *pool, const void *ptr,
				     int *fd_out)
{
	struct ps_pool *p;

	(void)ptr;
	(void)fd_out;
	return enter(pool, &p);
}

enum ps_status ps_ticket_issue(struct ps_pool *pool, const void *ptr,
			       struct ps_ticket *ticket_out)
{
	struct ps_pool *p;

	(void)ptr;
	(void)ticket_out;
	return enter(pool, &p);
}

enum ps_status ps_ticket_open(struct ps_pool *pool,
			      const struct ps_ticket *ticket, void **ptr_out)
{
	struct ps_pool *p;

	(void)ticket;
	(void)ptr_out;
	return enter(pool, &p);
}

enum ps_status ps_ticket_close(struct ps_pool *pool, void *ptr)
{
	struct ps_pool *p;

	(void)ptr;
	return enter(pool, &p);
}
