/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Size classes of small blocks: 512 B steps up to 4 KiB, then eight steps to
 * each doubling up to 64 MiB. A block is at most an eighth larger than asked.
 *
 * Invariant: a page holds a whole number of AL_UNIT, so a class whose size is
 * no multiple of it comes in pages of a power-of-two count that makes it one.
 */
#ifndef ALLOCATOR_SIZE_CLASS_H
#define ALLOCATOR_SIZE_CLASS_H

#include "allocator/allocator.h"
#include "base/arith.h"

#define AL_CLASSES 120u
#define AL_SMALL_MAX (64u * 1024u * 1024u)
#define AL_LINEAR 8u /* classes of one granule's step each */

/* A page's blocks are bits of one word. */
#define AL_PAGE_BLOCKS 64u
#define AL_PAGE_MAX (4u * 1024u * 1024u)

#define AL_UNIT_GRANULES (AL_UNIT / AL_GRANULE)

struct al_class {
	uint32_t granules;   /* a block's size */
	uint32_t reciprocal; /* 2^31 / granules, rounded up */
	uint32_t blocks_min; /* blocks in the smallest page */
	uint32_t blocks_max; /* and in the largest */
};

/* pre: 0 < bytes <= AL_SMALL_MAX */
static inline unsigned int al_class_of(uint64_t bytes)
{
	uint64_t last = (bytes - 1) / AL_GRANULE;
	unsigned int log;

	if (last < AL_LINEAR)
		return (unsigned int)last;
	log = bs_log2(last);
	return AL_LINEAR * (log - 2) + (unsigned int)(last >> (log - 3)) -
	       AL_LINEAR;
}

static inline uint64_t al_class_bytes(const struct al_class *class)
{
	return (uint64_t) class->granules * AL_GRANULE;
}

/*
 * The index of the block at @distance bytes from its page's start. Exact while
 * distance / AL_GRANULE * granules < 2^31: pages of more than one block stay
 * far below, and in the others only the start is ever asked for.
 */
static inline uint32_t al_class_index(const struct al_class *class,
				      uint64_t distance)
{
	return (uint32_t)((distance / AL_GRANULE * class->reciprocal) >> 31);
}

/* Fills the table of all classes. */
void al_class_table(struct al_class table[AL_CLASSES]);

#endif /* ALLOCATOR_SIZE_CLASS_H */
