/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A mutex that knows its place in base/lock_ranks.h. In debug builds a thread
 * that takes two locks in the wrong order is stopped at once, with both
 * names, rather than one day in a deadlock.
 *
 * A fork leaves every lock in the child as it was: the child never takes one
 * (lib/ turns it away before).
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>

enum bs_rank {
	BS_RANK_NONE = 0,
#define LOCK(rank, what) rank,
#include "base/lock_ranks.h"
#undef LOCK
	BS_RANK_COUNT
};

struct bs_lock {
	pthread_mutex_t mutex;
	enum bs_rank rank; /* immutable after init */
};

void bs_lock_init(struct bs_lock *lock, enum bs_rank rank);
void bs_lock_done(struct bs_lock *lock);

/* The debug checks; nothing else calls them. */
void bs_lock_check_take(const struct bs_lock *lock);
void bs_lock_check_drop(const struct bs_lock *lock);

/* True when the calling thread holds no ranked lock (debug builds; else
 * always true): what must hold around each call that may block. */
int bs_lock_none_held(void);

static inline void bs_lock_take(struct bs_lock *lock)
{
#ifndef NDEBUG
	bs_lock_check_take(lock);
#endif
	pthread_mutex_lock(&lock->mutex);
}

static inline void bs_lock_drop(struct bs_lock *lock)
{
	pthread_mutex_unlock(&lock->mutex);
#ifndef NDEBUG
	bs_lock_check_drop(lock);
#endif
}

#endif /* BASE_LOCK_H */
