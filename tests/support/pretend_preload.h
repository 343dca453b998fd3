/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What stands around the preload's books: a driver that does nothing but say
 * that it did, or refuse, and a pool that counts. In place of preload/driver.c,
 * preload/state.c and the library.
 */
#ifndef TESTS_SUPPORT_PRETEND_PRELOAD_H
#define TESTS_SUPPORT_PRETEND_PRELOAD_H

#include "device/driver.h"

struct th_world {
	/* To be set. */
	bool has_pool;
	bool spills;
	enum ps_status take;  /* what making room comes to */
	CUresult refuses;     /* the driver's next call; 0: it does not */
	CUresult attach;      /* without a pool: 0 passes, else fails so */
	uint64_t gives;       /* the next handle or address */
	CUcontext context;    /* the current one */
	CUdevice pool_device; /* 0 */

	/* To be looked at. */
	uint64_t outside;
	int64_t passed;
	unsigned int calls; /* of the driver, but for questions */
};

/* Addresses from here on are the pool's; the descriptor of each segment. */
#define TH_WORLD_INSIDE UINT64_C(0x700000000000)
#define TH_WORLD_FD 4711

extern struct th_world th_world;
/* As at the start: there is a pool, and nothing in the ledger. */
int th_world_reset(void **state);
/* Fails when the ledger or the pool still counts something. */
int th_world_check(void **state);

#endif /* TESTS_SUPPORT_PRETEND_PRELOAD_H */
