/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the process knows of its pools, and the door that every call of the
 * API comes in by.
 *
 * The hot calls pay for it with three loads and no system call: the default
 * pool, the pool's magic number, and a word in a page that the kernel wipes
 * in a forked child (MADV_WIPEONFORK). CUDA does not survive a fork, so a
 * child is turned away before it takes a lock that its parent may have held.
 *
 * Invariant: the default pool is the one opened first of those still open.
 */
#ifndef LIB_PROCESS_H
#define LIB_PROCESS_H

#include "lib/pool.h"

#include <stdatomic.h>

#define LB_HIDDEN __attribute__((visibility("hidden")))

/* Not 0 in the process that opened the pools, 0 in its children. */
extern LB_HIDDEN const volatile uint32_t *_Atomic lb_alive;
extern LB_HIDDEN struct ps_pool *_Atomic lb_default;

static inline bool lb_is_forked(void)
{
	return *atomic_load_explicit(&lb_alive, memory_order_relaxed) == 0;
}

/* NULL: lb_refuse() says why. */
static inline struct ps_pool *lb_enter(struct ps_pool *pool)
{
	if (pool == NULL)
		pool = atomic_load_explicit(&lb_default, memory_order_acquire);
	if (__builtin_expect(pool == NULL || pool->magic != LB_POOL_MAGIC ||
				     lb_is_forked(),
			     0))
		return NULL;
	return pool;
}

/* The same for questions about host memory, which a child may ask too. */
static inline const struct ps_pool *lb_look(const struct ps_pool *pool)
{
	if (pool == NULL)
		pool = atomic_load_explicit(&lb_default, memory_order_acquire);
	return pool != NULL && pool->magic == LB_POOL_MAGIC ? pool : NULL;
}

/* Why lb_enter() or lb_look() turned @pool away. */
enum ps_status lb_refuse(const struct ps_pool *pool) __attribute__((cold));

/* Before the first call of the driver. PS_FORKED, PS_HOST_MEMORY,
 * PS_UNSUPPORTED on a kernel that cannot wipe a page. */
enum ps_status lb_process_start(void);

void lb_process_add(struct ps_pool *pool);
/* In a child too; there it takes no lock. */
void lb_process_remove(struct ps_pool *pool);

#endif /* LIB_PROCESS_H */
