/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the parts of bench/grant have in common: the daemon under measurement,
 * and its clients, each a process of its own that does one job at a time. */
#ifndef BENCH_GRANT_H
#define BENCH_GRANT_H

#include "bench/bench.h"
#include "bench/peer.h"

#include <sys/types.h>

/* ---- a client (bench/grant_role.c) ---- */

enum bn_grant_what {
	BN_GRANT_TAKE = 1,     /* allocates @bytes, which were not held yet */
	BN_GRANT_TAKE_AT_LAST, /* the same, again and again until it works */
	BN_GRANT_FREE,         /* frees them; the lease stays for a while */
	BN_GRANT_RETURN,       /* frees them and gives the lease back */
	BN_GRANT_TAKE_MOST,    /* all that can be had, in blocks of @bytes */
	BN_GRANT_SWAP,         /* gives all back and takes @bytes at once: they
			     * are to be scrubbed first */
	BN_GRANT_BARE,         /* cuMemAlloc() and cuMemFree() of @bytes */
	BN_GRANT_CYCLE,        /* takes and returns, @count times */
	BN_GRANT_STORM,        /* the same until the socket ends; no answer */
};

struct bn_grant_job {
	uint32_t what;
	uint32_t count;
	uint64_t bytes;
	uint32_t rest_us; /* between two cycles */
};

struct bn_grant_answer {
	uint64_t begin_ns; /* of the taking; CLOCK_MONOTONIC */
	uint64_t end_ns;
	uint64_t free_ns;   /* BARE: of the free alone */
	uint64_t median_ns; /* CYCLE: of taking */
	uint64_t p99_ns;
	uint64_t count;
};

int bn_grant_role(const struct bn_options *options);

/* Does the job there. False: it failed, or the client is gone. */
bool bn_grant_do(const struct bn_peer *client, const struct bn_grant_job *job,
		 struct bn_grant_answer *answer_out);
/* In two halves, so that several can work at once. */
bool bn_grant_ask(const struct bn_peer *client, const struct bn_grant_job *job);
bool bn_grant_hear(const struct bn_peer *client,
		   struct bn_grant_answer *answer_out);

/* ---- the daemon (bench/grant_daemon.c) ---- */

struct bn_daemon {
	pid_t pid; /* of the keeper; 0: does not run */
	char folder[64];
	char socket[96];
	uint64_t ready_ns; /* from its start to its being ready */
};

/* POOLSWITCH_DAEMON, else the poolswitchd of the build, else of PATH.
 * @headroom: of its option, or NULL. Sets POOLSWITCH_SOCKET. */
bool bn_daemon_start(const char *headroom, struct bn_daemon *daemon_out);
/* The same with these options, NULL behind them. */
bool bn_daemon_start_with(const char *const *options,
			  struct bn_daemon *daemon_out);
bool bn_daemon_stop(struct bn_daemon *daemon);

/* A number of its STATUS: the first of that name behind @after. */
bool bn_daemon_number(const char *after, const char *name,
		      uint64_t *number_out);
/* Waits until that of the computation region is at least, or at most,
 * @bound. */
bool bn_daemon_wait(const char *name, uint64_t least, uint64_t most);

#endif /* BENCH_GRANT_H */
