/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the daemon says of itself, as JSON: docs/daemon.md has the fields. They
 * are read by programs, so fields are added and never change.
 */
#ifndef POOLD_REPORT_H
#define POOLD_REPORT_H

#include "poold/core.h"

#include <sys/types.h>

/* What the core does not count; of this agent's life. */
struct pd_counters {
	uint64_t attached;
	uint64_t resumed;
	uint64_t refused; /* connections refused, or ended for a message */
	uint64_t throttled;
	uint64_t stuck; /* connections ended: what they are sent is not read */
	uint64_t keeper_starts;
	uint64_t messages; /* received */
};

/* What the core does not know of a client. */
struct pd_client_extra {
	char reason[128]; /* why a dead one's bytes are quarantined */
	bool has_answered;
	struct ip_polled polled; /* its last answer */
};

/* Of all models, whoever may see them. */
struct pd_model_totals {
	uint32_t count;
	uint32_t resident;
	uint64_t resident_bytes;
	uint64_t host_bytes;
	uint64_t host_budget;
	uint64_t loads; /* this and the rest: of this agent's life */
	uint64_t evictions;
	uint64_t failures;
	uint64_t deaf;
};

struct pd_report {
	const char *state; /* "serving", "draining", "stopping", "lost" */
	const char *socket;
	const char *limits_file; /* NULL: none */
	pid_t keeper;            /* 0: unknown */
	double uptime;           /* seconds */
	const char *gpu;
	uint64_t gpu_free;
	const struct pd_pool_record *pool;
	const struct pd_limits *limits;
	const struct pd_core *core;
	const struct pd_counters *counters;
	struct pd_model_totals models;
	void (*look)(void *owner, uint32_t slot,
		     struct pd_client_extra *extra_out);
	void *owner; /* for look */
};

/* For IP_ASK_STATUS. free() it; NULL: no memory. */
char *pd_report_status(const struct pd_report *report);
/* For the other questions: that it is done, and what is left. */
char *pd_report_done(const struct pd_report *report);

/* A sealed memfd with the text. PS_FD_LIMIT, PS_HOST_MEMORY, PS_SYSTEM;
 * PS_OUT_OF_RANGE: longer than IP_ANSWER_MAX. */
enum ps_status pd_report_file(const char *text, int *fd_out,
			      uint32_t *bytes_out);

#endif /* POOLD_REPORT_H */
