/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Locks that know their place in base/lock_ranks.h. In debug builds a thread
 * that takes two in the wrong order is stopped at once, with both names,
 * rather than one day in a deadlock.
 *
 *   bs_lock   a mutex, for sections that may wait
 *   bs_quick  for short sections that one thread enters millions of times a
 *             second and others now and then: it may have an owner, who
 *             enters and leaves without an atomic operation
 *
 * A fork leaves every lock in the child as it was: the child never takes one
 * (lib/ turns it away before).
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum bs_rank {
	BS_RANK_NONE = 0,
#define LOCK(rank, what) rank,
#include "base/lock_ranks.h"
#undef LOCK
	BS_RANK_COUNT
};

/* The debug checks; nothing else calls them. */
void bs_rank_take(enum bs_rank rank);
void bs_rank_drop(enum bs_rank rank);

/* True when the calling thread holds no ranked lock (debug builds; else
 * always true): what must hold around each call that may block. */
bool bs_rank_none_held(void);

/* ---- bs_lock ---- */

struct bs_lock {
	pthread_mutex_t mutex;
	enum bs_rank rank; /* immutable after init */
};

void bs_lock_init(struct bs_lock *lock, enum bs_rank rank);
void bs_lock_done(struct bs_lock *lock);

static inline void bs_lock_take(struct bs_lock *lock)
{
#ifndef NDEBUG
	bs_rank_take(lock->rank);
#endif
	pthread_mutex_lock(&lock->mutex);
}

/* Whether it could be had without waiting. */
static inline bool bs_lock_try(struct bs_lock *lock)
{
	if (pthread_mutex_trylock(&lock->mutex) != 0)
		return false;
#ifndef NDEBUG
	bs_rank_take(lock->rank);
#endif
	return true;
}

static inline void bs_lock_drop(struct bs_lock *lock)
{
	pthread_mutex_unlock(&lock->mutex);
#ifndef NDEBUG
	bs_rank_drop(lock->rank);
#endif
}

/* ---- bs_quick ---- */

/*
 * Two ways in.
 *
 * Anybody's: an atomic exchange on @taken.
 *
 * The owner's, where the lock has one: it says that it is inside and looks
 * whether a visitor wants in, with plain stores and loads. That is right
 * because a visitor, which has @taken, says that it wants in, makes every
 * thread of the process pass a memory barrier (membarrier), and only then
 * looks whether the owner is inside: one of the two sees the other.
 *
 * A visit costs microseconds. A lock that is visited often therefore stops
 * its owner's way in until the visits have ceased.
 */
struct bs_quick {
	_Atomic(uint32_t) taken;    /* somebody is in by the common way */
	_Atomic(uint32_t) sleepers; /* wait for taken to become 0 */
	_Atomic(uint32_t) owner;    /* a thread's number; 0: none */
	uint32_t heir;              /* becomes it when that can be */
	_Atomic(uint32_t) inside;   /* the owner is in by its own way */
	_Atomic(uint32_t) wanted;   /* the owner's way is closed */
	/* Guarded by being in. */
	uint32_t visits;   /* of late */
	uint32_t calm;     /* owner's entries since the last one */
	bool is_own;       /* the holder came by the owner's way */
	enum bs_rank rank; /* immutable after init */
};

void bs_quick_init(struct bs_quick *lock, enum bs_rank rank);

/*
 * Makes the calling thread the owner, as soon as the kernel has the barrier
 * ready; it never is on kernels before 4.14. Does nothing when another thread
 * was named before. pre: the lock is held.
 */
void bs_quick_own(struct bs_quick *lock);

/* Returns when it is known whether the kernel has the barrier. For tests. */
bool bs_quick_barrier_wait(void);

/* A number for the calling thread, from 1; never used again. */
extern _Thread_local uint32_t bs_thread
	__attribute__((tls_model("initial-exec")));
uint32_t bs_thread_new(void);

static inline uint32_t bs_thread_number(void)
{
	return __builtin_expect(bs_thread != 0, 1) ? bs_thread
						   : bs_thread_new();
}

/* The common way, and the way out of it. */
void bs_quick_enter(struct bs_quick *lock);
void bs_quick_leave(struct bs_quick *lock);

static inline void bs_quick_take(struct bs_quick *lock)
{
#ifndef NDEBUG
	bs_rank_take(lock->rank);
#endif
	if (atomic_load_explicit(&lock->owner, memory_order_relaxed) ==
	    bs_thread_number()) {
		atomic_store_explicit(&lock->inside, 1, memory_order_relaxed);
		atomic_signal_fence(memory_order_seq_cst);
		if (!atomic_load_explicit(&lock->wanted,
					  memory_order_acquire)) {
			lock->is_own = true;
			return;
		}
		atomic_store_explicit(&lock->inside, 0, memory_order_release);
	}
	bs_quick_enter(lock);
}

static inline void bs_quick_drop(struct bs_quick *lock)
{
	if (lock->is_own) {
		lock->is_own = false;
		atomic_store_explicit(&lock->inside, 0, memory_order_release);
	} else {
		bs_quick_leave(lock);
	}
#ifndef NDEBUG
	bs_rank_drop(lock->rank);
#endif
}

#endif /* BASE_LOCK_H */
