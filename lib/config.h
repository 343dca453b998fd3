/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What a program asked for. */
#ifndef LIB_CONFIG_H
#define LIB_CONFIG_H

#include "ipc/layout.h"

/* "GPU-<uuid>" with its end, or a number. */
#define LB_GPU_TEXT 48

struct ps_pool_config {
	char gpu[LB_GPU_TEXT];
	struct ip_wish wish;
};

/* NULL: the defaults. Lives as long as @config. */
const struct ip_wish *lb_config_wish(const struct ps_pool_config *config);

#endif /* LIB_CONFIG_H */
