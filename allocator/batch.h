/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Batches: what was freed and may not be given out before a fence has passed.
 *
 * A batch fills with blocks freed on one stream, or on none. Its fence is
 * recorded later than the last of them was freed, so once for many; when it
 * has passed, the blocks go home. A block that more streams have used goes
 * through a batch of each of them.
 *
 * Invariant: the owner's operations run without a lock. Meanwhile the batch
 * stays in its shard's list; its state and its askers keep others off.
 */
#ifndef ALLOCATOR_BATCH_H
#define ALLOCATOR_BATCH_H

#include "allocator/state.h"

/* ---- pre: the shard's lock is held ---- */

/* Makes sure that one more batch can be started. */
enum ps_status al_batch_reserve(struct al_shard *shard);

/* Adds a block of @bytes to the batch that fills for @stream. PS_HOST_MEMORY:
 * nothing changed. */
enum ps_status al_batch_push(struct al_shard *shard, uint64_t stream,
			     uint64_t offset, uint64_t bytes);

/* Sends at most @max blocks of passed batches home. True when there was one. */
bool al_batch_drain(struct al_shard *shard, unsigned int max);

/* True when al_batch_tend() has something to do after a push. */
bool al_batch_needs_tending(struct al_shard *shard);

void al_batch_free_all(struct al_shard *shard);

/* ---- pre: no allocator lock is held ---- */

/* Records the fences of full batches and asks after the oldest. */
void al_batch_tend(struct al_shard *shard);

/* Records the fence of every batch that fills, or of @stream's only; the
 * first failure, after all have been tried. */
enum ps_status al_batch_record_all(struct al_shard *shard);
enum ps_status al_batch_record_stream(struct al_shard *shard, uint64_t stream);

/* Records, polls and drains all that can be. True when a block went home. */
bool al_batch_reap(struct al_allocator *al);

/* Waits for the oldest fence. PS_AGAIN: there is none to wait for. */
enum ps_status al_batch_wait_oldest(struct al_allocator *al);

/* A thread that has memory in its hands which no list shows says so. */
unsigned int al_mover_begin(struct al_allocator *al);
void al_mover_end(struct al_allocator *al, unsigned int phase);

/* Returns when none of those that have it now has it any more. */
void al_movers_wait(struct al_allocator *al);

/* True while a batch of @stream has no fence yet. pre: the shard's lock. */
bool al_batch_is_open(const struct al_shard *shard, uint64_t stream);

#endif /* ALLOCATOR_BATCH_H */
