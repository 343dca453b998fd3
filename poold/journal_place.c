/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The two places of a record in the journal.
 *
 * A place is empty (number 0), whole, or broken. A writer empties the older
 * place, fills it and gives it its number last, each step a store that the
 * compiler may not move; a writer that is killed leaves it empty. So a broken
 * place was broken by something else, perhaps the newer one of the two, and
 * the record counts as damaged even if the other place is whole: an old truth
 * ("free") may be worse than none.
 */
#include "poold/journal_parts.h"

#include <zlib.h>

/* The first number of a record; no flipped bit makes 0 of one. */
#define FIRST_NUMBER UINT64_C(0x5057000000000001)

enum health { EMPTY, WHOLE, BROKEN };

static uint32_t place_crc(uint64_t number, const struct pd_stamp *stamp,
			  size_t bytes)
{
	uLong crc = crc32(0, (const Bytef *)&number, sizeof(number));

	return (uint32_t)crc32(crc, (const Bytef *)(stamp + 1),
			       (uInt)(bytes - sizeof(*stamp)));
}

static enum health place_health(const struct pd_stamp *stamp, size_t bytes,
				uint64_t *number_out)
{
	uint64_t number =
		atomic_load_explicit(&stamp->number, memory_order_acquire);

	*number_out = number;
	if (number == 0)
		return EMPTY;
	return stamp->crc == place_crc(number, stamp, bytes) ? WHOLE : BROKEN;
}

/* The two places of a record lie one behind the other. */
static struct pd_stamp *second_of(struct pd_stamp *first, size_t bytes)
{
	return (struct pd_stamp *)(void *)((unsigned char *)first + bytes);
}

struct pd_stamp *pd_place_newest(struct pd_stamp *first, size_t bytes)
{
	struct pd_stamp *second = second_of(first, bytes);
	uint64_t a, b;
	enum health of_first = place_health(first, bytes, &a);
	enum health of_second = place_health(second, bytes, &b);

	if (of_first == BROKEN || of_second == BROKEN)
		return NULL;
	if (of_first == EMPTY)
		return of_second == WHOLE ? second : NULL;
	if (of_second == EMPTY || a == b + 1)
		return first;
	return b == a + 1 ? second : NULL;
}

static void empty(struct pd_stamp *stamp)
{
	atomic_store_explicit(&stamp->number, 0, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst);
}

struct pd_stamp *pd_place_begin(struct pd_stamp *first, size_t bytes,
				uint64_t *number_out)
{
	struct pd_stamp *second = second_of(first, bytes);
	struct pd_stamp *now = pd_place_newest(first, bytes);
	struct pd_stamp *next = now == first ? second : first;

	*number_out = now ? atomic_load(&now->number) + 1 : FIRST_NUMBER;
	if (!now)
		empty(second);
	empty(next);
	return next;
}

void pd_place_commit(struct pd_stamp *stamp, size_t bytes, uint64_t number)
{
	stamp->crc = place_crc(number, stamp, bytes);
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&stamp->number, number, memory_order_release);
}
