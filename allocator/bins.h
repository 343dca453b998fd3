/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Free ranges sorted into bins by size, sixteen bins to each doubling, so
 * that one that fits is found by looking at two words of bits.
 *
 * Everything here: pre: the room's lock is held.
 */
#ifndef ALLOCATOR_BINS_H
#define ALLOCATOR_BINS_H

#include "allocator/state.h"

void al_bins_insert(struct al_bins *bins, struct al_range *range);
void al_bins_remove(struct al_bins *bins, struct al_range *range);

/* One of at least @bytes, of the smallest there are; NULL: none. */
struct al_range *al_bins_find(struct al_bins *bins, uint64_t bytes);

/* Any one for which @test is true; NULL: none. */
struct al_range *al_bins_any(struct al_bins *bins,
			     bool (*test)(const struct al_range *range));

/* The size of the largest; 0: none. */
uint64_t al_bins_largest(const struct al_bins *bins);

/* Where a range of that size is kept. */
void al_bins_place(uint64_t size, unsigned int *row_out,
		   unsigned int *column_out);

#endif /* ALLOCATOR_BINS_H */
