/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Blocks that were freed while a stream captured: a graph may name them, so
 * they live as long as any graph that was being captured then, and anything
 * made of one.
 *
 * A family stands for one capture and what came of it: its graph, clones and
 * executables of it. A block waits for all families that were open when it was
 * freed.
 *
 * Invariants
 *   A family without blocks has no members: most captures leave nothing here.
 *   Where host memory runs out a block is held for good, never too short.
 */
#ifndef PRELOAD_HELD_H
#define PRELOAD_HELD_H

#include "preload/capture.h"

struct pl_family;
struct pl_member;

/* Open from now on. NULL: no host memory. */
struct pl_family *pl_family_open(void);
/* The capture has ended in @graph, or in nothing: NULL. The caller's pointer
 * is gone. */
void pl_family_close(struct pl_family *family, CUgraph graph);

/* @made was made of @of: a clone, an executable, a graph that holds it. */
void pl_family_grow(const void *of, const void *made);

/* Around the driver's destroying a graph or an executable: taken out first,
 * since its handle may be used again at once; NULL: nobody knows it. */
struct pl_member *pl_family_detach(const void *handle);
void pl_family_settle(struct pl_member *detached, bool is_gone);

/* The pool is gone, and all blocks. */
void pl_family_forget(void);

#endif /* PRELOAD_HELD_H */
