/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Getting memory back: from other streams' homes, and back to the owner. */
#ifndef ALLOCATOR_RECLAIM_H
#define ALLOCATOR_RECLAIM_H

#include "allocator/state.h"

/*
 * Puts what streams keep for themselves behind fences, so that it may serve
 * any stream and join its neighbours: empty pages, and free ranges homed on a
 * stream. True when there was something. pre: no allocator lock is held.
 */
bool al_reclaim_steal(struct al_allocator *al);

/*
 * Gives free room units of at least @bytes back to the owner, who can make
 * one span of them; nothing when there are not so many. True when it did.
 * pre: no allocator lock is held.
 */
bool al_reclaim_gather(struct al_allocator *al, uint64_t bytes);

/* The same with as many as there are, for an owner that can add to them. */
void al_reclaim_loosen(struct al_allocator *al, uint64_t bytes);

#endif /* ALLOCATOR_RECLAIM_H */
