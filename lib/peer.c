/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Other GPUs of the process that may use the pool's memory. */
#include "lib/pool.h"

#include "base/status.h"
#include "lib/process.h"

enum ps_status ps_pool_allow_peer(struct ps_pool *pool, int ordinal)
{
	struct ps_pool *p = lb_enter(pool);

	(void)ordinal;
	return p == NULL ? lb_refuse(pool)
			 : bs_fail(PS_UNSUPPORTED, "not there yet");
}
