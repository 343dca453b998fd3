/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "base/lock.h"

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* All shards of an allocator, and a few more. */
#define HELD_MAX 320

static const char *const names[] = {
	[BS_RANK_NONE] = "none",
#define LOCK(rank, what) [rank] = #rank " (" what ")",
#include "base/lock_ranks.h"
#undef LOCK
};

/* Ranks, in a byte each: a library that is loaded late, as Python does, finds
 * little room for what each thread has of its own. */
static _Thread_local uint8_t held[HELD_MAX];
static _Thread_local unsigned int held_count;

bool bs_rank_none_held(void)
{
	return held_count == 0;
}

/*
 * Locks of one rank (the shards) may be held together: whoever takes them all
 * does so in the order of their numbers.
 */
void bs_rank_take(enum bs_rank rank)
{
	enum bs_rank last = BS_RANK_NONE;

	if (held_count > 0)
		last = (enum bs_rank)held[held_count - 1];
	if (rank < last) {
		fprintf(stderr,
			"poolswitch: lock order: %s is taken under %s\n",
			names[rank], names[last]);
		abort();
	}
	if (held_count < HELD_MAX)
		held[held_count] = (uint8_t)rank;
	held_count++;
}

void bs_rank_drop(enum bs_rank rank)
{
	unsigned int i = held_count < HELD_MAX ? held_count : HELD_MAX;

	while (i > 0 && held[i - 1] != rank)
		i--;
	for (; i > 0 && i < held_count && i < HELD_MAX; i++)
		held[i - 1] = held[i];
	held_count--;
}

/* ---- bs_lock ---- */

void bs_lock_init(struct bs_lock *lock, enum bs_rank rank)
{
	pthread_mutex_init(&lock->mutex, NULL);
	lock->rank = rank;
}

void bs_lock_done(struct bs_lock *lock)
{
	pthread_mutex_destroy(&lock->mutex);
}

/* ---- bs_quick ---- */

/* About as long as the longest ordinary section. */
#define SPINS 200

/* So many visits close the owner's way, so many calm entries open it. */
#define VISITS_MAX 8u
#define CALM_MIN 4096u

_Thread_local uint32_t bs_thread;

/*
 * The kernel prepares the barrier for a process of several threads only after
 * some tens of milliseconds, so a thread that lives as long asks for it.
 */
enum readiness { UNKNOWN, WITHOUT, READY };

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t known;
	_Atomic(enum readiness) state;
} kernel = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, UNKNOWN };

uint32_t bs_thread_new(void)
{
	static _Atomic(uint32_t) last;

	bs_thread = 1 + atomic_fetch_add(&last, 1);
	return bs_thread;
}

static void set_readiness(enum readiness state)
{
	pthread_mutex_lock(&kernel.mutex);
	atomic_store(&kernel.state, state);
	pthread_cond_broadcast(&kernel.known);
	pthread_mutex_unlock(&kernel.mutex);
}

static void *prepare_barrier(void *arg)
{
	long failed = syscall(SYS_membarrier,
			      MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0);

	set_readiness(failed ? WITHOUT : READY);
	return arg;
}

/* The thread must not be given the program's signals. */
static void start_preparing(void)
{
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&thread, NULL, prepare_barrier, NULL) == 0)
		pthread_detach(thread);
	else
		set_readiness(WITHOUT);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool bs_quick_barrier_wait(void)
{
	pthread_mutex_lock(&kernel.mutex);
	while (atomic_load(&kernel.state) == UNKNOWN)
		pthread_cond_wait(&kernel.known, &kernel.mutex);
	pthread_mutex_unlock(&kernel.mutex);
	return atomic_load(&kernel.state) == READY;
}

/* Every thread of the process passes a memory barrier. */
static void barrier(void)
{
	syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0);
}

void bs_quick_init(struct bs_quick *lock, enum bs_rank rank)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start_preparing);
	memset(lock, 0, sizeof(*lock));
	lock->rank = rank;
}

void bs_quick_own(struct bs_quick *lock)
{
	if (lock->heir == 0)
		lock->heir = bs_thread_number();
}

/* pre: the lock is held by the common way. */
static void succeed(struct bs_quick *lock)
{
	if (lock->heir == bs_thread_number() &&
	    atomic_load_explicit(&kernel.state, memory_order_relaxed) == READY)
		atomic_store(&lock->owner, lock->heir);
}

static bool try_take(struct bs_quick *lock)
{
	return atomic_load_explicit(&lock->taken, memory_order_relaxed) == 0 &&
	       atomic_exchange_explicit(&lock->taken, 1,
					memory_order_acquire) == 0;
}

static void wait_and_take(struct bs_quick *lock)
{
	for (int i = 0; i < SPINS; i++) {
		if (try_take(lock))
			return;
		__builtin_ia32_pause();
	}
	atomic_fetch_add(&lock->sleepers, 1);
	while (atomic_exchange(&lock->taken, 1) != 0)
		syscall(SYS_futex, &lock->taken, FUTEX_WAIT_PRIVATE, 1, NULL,
			NULL, 0);
	atomic_fetch_sub(&lock->sleepers, 1);
}

/* Keeps the owner out. The owner may have been inside when we came, and even
 * off its processor: then it is given ours. */
static void visit(struct bs_quick *lock)
{
	atomic_store(&lock->wanted, 1);
	barrier();
	for (int i = 0;
	     atomic_load_explicit(&lock->inside, memory_order_acquire); i++) {
		if (i < SPINS)
			__builtin_ia32_pause();
		else
			sched_yield();
	}
	lock->calm = 0;
	if (lock->visits < VISITS_MAX)
		lock->visits++;
}

void bs_quick_enter(struct bs_quick *lock)
{
	uint32_t owner;

	if (atomic_exchange_explicit(&lock->taken, 1, memory_order_acquire))
		wait_and_take(lock);
	owner = atomic_load_explicit(&lock->owner, memory_order_relaxed);
	if (owner == 0) {
		succeed(lock);
	} else if (owner != bs_thread_number()) {
		/* Once closed for good, the owner cannot be inside. */
		if (lock->visits < VISITS_MAX)
			visit(lock);
		lock->calm = 0;
	} else if (++lock->calm >= CALM_MIN) {
		lock->calm = 0;
		lock->visits = 0;
	}
}

void bs_quick_leave(struct bs_quick *lock)
{
	if (lock->visits < VISITS_MAX)
		atomic_store_explicit(&lock->wanted, 0, memory_order_release);
	atomic_exchange(&lock->taken, 0);
	if (atomic_load(&lock->sleepers) != 0)
		syscall(SYS_futex, &lock->taken, FUTEX_WAKE_PRIVATE, 1, NULL,
			NULL, 0);
}
