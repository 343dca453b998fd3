/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "allocator/bins.h"

/* A bin's ranges may be a little too small; so many are tried before the
 * next bin, in which every one fits. */
#define TRIES 8u

void al_bins_place(uint64_t size, unsigned int *row_out,
		   unsigned int *column_out)
{
	uint64_t units = size / AL_UNIT;
	unsigned int log;

	if (units < AL_BIN_COLUMNS) {
		*row_out = 0;
		*column_out = (unsigned int)units;
		return;
	}
	log = bs_log2(units);
	*row_out = log - 3;
	*column_out = (unsigned int)(units >> (log - 4)) & (AL_BIN_COLUMNS - 1);
}

void al_bins_insert(struct al_bins *bins, struct al_range *range)
{
	struct al_range **bin;
	unsigned int row, column;

	al_bins_place(range->size, &row, &column);
	bin = &bins->bins[row][column];
	range->bin_prev = NULL;
	range->bin_next = *bin;
	if (*bin)
		(*bin)->bin_prev = range;
	*bin = range;
	bins->rows |= 1u << row;
	bins->columns[row] |= 1u << column;
	bins->free += range->size;
}

void al_bins_remove(struct al_bins *bins, struct al_range *range)
{
	unsigned int row, column;

	al_bins_place(range->size, &row, &column);
	if (range->bin_prev)
		range->bin_prev->bin_next = range->bin_next;
	else
		bins->bins[row][column] = range->bin_next;
	if (range->bin_next)
		range->bin_next->bin_prev = range->bin_prev;
	if (!bins->bins[row][column])
		bins->columns[row] &= ~(1u << column);
	if (bins->columns[row] == 0)
		bins->rows &= ~(1u << row);
	bins->free -= range->size;
}

/* The first range in a bin above (row, column): every one there is larger. */
static struct al_range *find_above(struct al_bins *bins, unsigned int row,
				   unsigned int column)
{
	uint32_t columns = bins->columns[row] & ~((2u << column) - 1);
	uint32_t rows;

	if (columns == 0) {
		rows = bins->rows & ~((2u << row) - 1);
		if (rows == 0)
			return NULL;
		row = (unsigned int)__builtin_ctz(rows);
		columns = bins->columns[row];
	}
	return bins->bins[row][__builtin_ctz(columns)];
}

struct al_range *al_bins_find(struct al_bins *bins, uint64_t bytes)
{
	unsigned int row, column, tries = 0;
	struct al_range *range, *above;

	if (bins->free < bytes)
		return NULL;
	al_bins_place(bytes, &row, &column);
	range = bins->bins[row][column];
	while (range && range->size < bytes && tries++ < TRIES)
		range = range->bin_next;
	if (range && range->size >= bytes)
		return range;
	above = find_above(bins, row, column);
	if (above)
		return above;
	/* Nothing larger: look at the rest of the bin before giving up. */
	while (range && range->size < bytes)
		range = range->bin_next;
	return range;
}

struct al_range *al_bins_any(struct al_bins *bins,
			     bool (*test)(const struct al_range *range))
{
	for (uint32_t rows = bins->rows; rows != 0; rows &= rows - 1) {
		unsigned int row = (unsigned int)__builtin_ctz(rows);
		uint32_t columns = bins->columns[row];

		for (; columns != 0; columns &= columns - 1) {
			struct al_range *range =
				bins->bins[row][__builtin_ctz(columns)];

			while (range && !test(range))
				range = range->bin_next;
			if (range)
				return range;
		}
	}
	return NULL;
}

uint64_t al_bins_largest(const struct al_bins *bins)
{
	const struct al_range *range;
	unsigned int row;
	uint64_t largest = 0;

	if (bins->rows == 0)
		return 0;
	row = bs_log2(bins->rows);
	range = bins->bins[row][bs_log2(bins->columns[row])];
	for (; range; range = range->bin_next)
		if (range->size > largest)
			largest = range->size;
	return largest;
}
