/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who may attach and how much he may have: a JSON file (docs/daemon.md) that
 * SIGHUP reads again. Sizes are numbers of bytes or texts such as "40G" or
 * "25%" (of the computation region).
 *
 * Invariant: a file with a mistake changes nothing; the text names the line.
 */
#ifndef POOLD_LIMITS_H
#define POOLD_LIMITS_H

#include "include/poolswitch.h"

#include <sys/types.h>

#define PD_LIMIT_USERS 256u

struct pd_user_limit {
	uid_t uid;
	uint64_t reservation; /* bytes guaranteed to all of his clients */
	uint64_t limit;       /* bytes at most for all of them; 0: none */
};

struct pd_limits {
	uint32_t clients;         /* attached at once; default 1,024 */
	uint32_t clients_of_user; /* default: as clients */
	uint32_t messages;        /* a second, of one client; default 20,000 */
	uint64_t client_limit;    /* bytes at most for one client; 0: none */
	uint64_t client_reservation_max; /* the most one may ask for; default
					  * UINT64_MAX */
	/* Who may connect. The daemon's own user and root always may; with
	 * all lists empty nobody else is kept out by these (the socket's
	 * mode may). */
	uint32_t allowed_uids;
	uid_t allowed_uid[PD_LIMIT_USERS];
	uint32_t allowed_gids;
	gid_t allowed_gid[PD_LIMIT_USERS];
	uint32_t users;
	struct pd_user_limit user[PD_LIMIT_USERS];
};

void pd_limits_init(struct pd_limits *limits_out);

/* @computation: bytes, for percentages. PS_INVALID_ARGUMENT, PS_SYSTEM. */
enum ps_status pd_limits_read(const char *path, uint64_t computation,
			      struct pd_limits *limits_out);

bool pd_limits_allow(const struct pd_limits *limits, uid_t uid, gid_t gid);
/* NULL: no entry. */
const struct pd_user_limit *pd_limits_user(const struct pd_limits *limits,
					   uid_t uid);

#endif /* POOLD_LIMITS_H */
