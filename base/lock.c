/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "base/lock.h"

#include <stdio.h>
#include <stdlib.h>

/* All shards of an allocator, and a few more. */
#define HELD_MAX 320

static const char *const names[] = {
	[BS_RANK_NONE] = "none",
#define LOCK(rank, what) [rank] = #rank " (" what ")",
#include "base/lock_ranks.h"
#undef LOCK
};

static _Thread_local enum bs_rank held[HELD_MAX];
static _Thread_local unsigned int held_count;

void bs_lock_init(struct bs_lock *lock, enum bs_rank rank)
{
	pthread_mutex_init(&lock->mutex, NULL);
	lock->rank = rank;
}

void bs_lock_done(struct bs_lock *lock)
{
	pthread_mutex_destroy(&lock->mutex);
}

int bs_lock_none_held(void)
{
	return held_count == 0;
}

/*
 * Locks of one rank (the shards) may be held together: whoever takes them all
 * does so in the order of their numbers.
 */
void bs_lock_check_take(const struct bs_lock *lock)
{
	enum bs_rank last = BS_RANK_NONE;

	if (held_count > 0)
		last = held[held_count - 1];
	if (lock->rank < last) {
		fprintf(stderr,
			"poolswitch: lock order: %s is taken under %s\n",
			names[lock->rank], names[last]);
		abort();
	}
	if (held_count < HELD_MAX)
		held[held_count] = lock->rank;
	held_count++;
}

void bs_lock_check_drop(const struct bs_lock *lock)
{
	unsigned int i = held_count < HELD_MAX ? held_count : HELD_MAX;

	while (i > 0 && held[i - 1] != lock->rank)
		i--;
	for (; i > 0 && i < held_count && i < HELD_MAX; i++)
		held[i - 1] = held[i];
	held_count--;
}
