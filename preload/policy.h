/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the user wants, by environment (docs/poolswitch-environment.7). Read
 * once, when it is first asked for.
 */
#ifndef PRELOAD_POLICY_H
#define PRELOAD_POLICY_H

#include <stdbool.h>
#include <stdint.h>

enum pl_log_level { PL_LOG_OFF, PL_LOG_WARN, PL_LOG_INFO };

struct pl_policy {
	const char *socket;    /* POOLSWITCH_SOCKET; NULL: the usual search */
	const char *name;      /* POOLSWITCH_NAME; NULL: the program's */
	uint64_t quota;        /* POOLSWITCH_QUOTA: bytes; 0: the daemon's */
	uint64_t reservation;  /* POOLSWITCH_RESERVATION: bytes */
	bool free_waits;       /* POOLSWITCH_FREE=wait; default fenced */
	bool spills;           /* POOLSWITCH_AT_QUOTA=spill; default strict */
	bool passes;           /* POOLSWITCH_NO_DAEMON=pass; default fail */
	enum pl_log_level log; /* POOLSWITCH_LOG=off|warn|info; default warn */
	const char *bad;       /* NULL, or a variable whose value is none */
};

/* Sizes: "40G", "512M", plain bytes. A value that is none counts as unset, and
 * state.c warns of it. */
const struct pl_policy *pl_policy(void);

#endif /* PRELOAD_POLICY_H */
