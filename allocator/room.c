/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "allocator/room.h"

#include <assert.h>

/* A bin's ranges may be a little too small; so many are tried before the
 * next bin, in which every one fits. */
#define BIN_TRIES 8u

/* Ranges from this size on are cut from the high end. */
#define LARGE_MIN (2ull * 1024 * 1024)

void al_room_init(struct al_room *room)
{
	bs_quick_init(&room->lock, BS_RANK_AL_ROOM);
	room->none.stream = AL_STREAM_NONE;
}

static void free_uses(struct al_allocator *al, struct al_range *range)
{
	while (range->uses) {
		struct al_use *use = range->uses;

		range->uses = use->next;
		al_host_free(al, use);
	}
}

void al_room_done(struct al_allocator *al)
{
	struct al_room *room = &al->room;

	for (struct al_range *r = room->first; r; r = r->after)
		free_uses(al, r);
	for (uint32_t i = 0; i < room->chunks; i++)
		al_host_free(al, al->chunks[i]);
	while (room->homes) {
		struct al_home *home = room->homes;

		room->homes = home->next;
		al_host_free(al, home);
	}
}

uint64_t al_room_epoch(struct al_allocator *al)
{
	uint64_t epoch;

	bs_quick_take(&al->room.lock);
	epoch = al->room.epoch;
	bs_quick_drop(&al->room.lock);
	return epoch;
}

/* ---- descriptors ---- */

static bool chunk_new(struct al_allocator *al)
{
	struct al_room *room = &al->room;
	uint32_t first = room->chunks * AL_CHUNK_RANGES;
	struct al_range *chunk;

	chunk = al_host_alloc(al, AL_CHUNK_RANGES * sizeof(*chunk));
	if (!chunk)
		return false;
	al->chunks[room->chunks++] = chunk;
	for (uint32_t i = AL_CHUNK_RANGES; i-- > 0;) {
		chunk[i].number = first + i + 1;
		chunk[i].bin_next = room->spare;
		room->spare = &chunk[i];
	}
	return true;
}

static struct al_range *range_new(struct al_allocator *al)
{
	struct al_room *room = &al->room;
	struct al_range *range;

	if (!room->spare && !chunk_new(al))
		return NULL;
	range = room->spare;
	room->spare = range->bin_next;
	range->bin_next = NULL;
	return range;
}

void al_room_set_kind(struct al_range *range, enum al_kind kind)
{
	atomic_store_explicit(&range->kind, (uint8_t)kind,
			      memory_order_relaxed);
}

/* ---- the list of all ranges ---- */

static bool do_touch(const struct al_range *low, const struct al_range *high)
{
	return low->offset + low->size == high->offset;
}

static void list_insert(struct al_room *room, struct al_range *range,
			struct al_range *before)
{
	struct al_range *after = before ? before->after : room->first;

	range->before = before;
	range->after = after;
	if (before)
		before->after = range;
	else
		room->first = range;
	if (after)
		after->before = range;
	else
		room->last = range;
}

static void list_remove(struct al_room *room, struct al_range *range)
{
	if (range->before)
		range->before->after = range->after;
	else
		room->first = range->after;
	if (range->after)
		range->after->before = range->before;
	else
		room->last = range->before;
}

static void range_forget(struct al_allocator *al, struct al_range *range)
{
	list_remove(&al->room, range);
	al_room_set_kind(range, AL_KIND_NONE);
	range->bin_next = al->room.spare;
	al->room.spare = range;
}

struct al_range *al_room_find(struct al_allocator *al, uint64_t offset)
{
	struct al_range *range = al->room.last;

	while (range && range->offset > offset)
		range = range->before;
	if (range && offset - range->offset < range->size)
		return range;
	return NULL;
}

/* ---- bins ---- */

void al_room_bin_of(uint64_t size, unsigned int *row_out,
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

struct al_home *al_room_home(struct al_room *room, uint64_t stream)
{
	struct al_home *home = room->homes;

	if (stream == AL_STREAM_NONE)
		return &room->none;
	while (home && home->stream != stream)
		home = home->next;
	return home;
}

struct al_home *al_room_home_get(struct al_allocator *al, uint64_t stream)
{
	struct al_home *home = al_room_home(&al->room, stream);

	if (home)
		return home;
	home = al_host_alloc(al, sizeof(*home));
	if (!home)
		return NULL;
	home->stream = stream;
	home->next = al->room.homes;
	al->room.homes = home;
	return home;
}

static void bin_insert(struct al_home *home, struct al_range *range)
{
	struct al_range **bin;
	unsigned int row, column;

	al_room_bin_of(range->size, &row, &column);
	bin = &home->bins[row][column];
	range->bin_prev = NULL;
	range->bin_next = *bin;
	if (*bin)
		(*bin)->bin_prev = range;
	*bin = range;
	home->rows |= 1u << row;
	home->columns[row] |= 1u << column;
	home->free += range->size;
	range->home = home->stream;
	al_room_set_kind(range, AL_KIND_FREE);
}

static void bin_remove(struct al_home *home, struct al_range *range)
{
	unsigned int row, column;

	al_room_bin_of(range->size, &row, &column);
	if (range->bin_prev)
		range->bin_prev->bin_next = range->bin_next;
	else
		home->bins[row][column] = range->bin_next;
	if (range->bin_next)
		range->bin_next->bin_prev = range->bin_prev;
	if (!home->bins[row][column])
		home->columns[row] &= ~(1u << column);
	if (home->columns[row] == 0)
		home->rows &= ~(1u << row);
	home->free -= range->size;
}

void al_room_unbin(struct al_allocator *al, struct al_range *range)
{
	bin_remove(al_room_home(&al->room, range->home), range);
	al_room_set_kind(range, AL_KIND_NONE);
}

/* The first range in a bin above (row, column): every one there is larger. */
static struct al_range *find_above(struct al_home *home, unsigned int row,
				   unsigned int column)
{
	uint32_t columns = home->columns[row] & ~((2u << column) - 1);
	uint32_t rows;

	if (columns == 0) {
		rows = home->rows & ~((2u << row) - 1);
		if (rows == 0)
			return NULL;
		row = (unsigned int)__builtin_ctz(rows);
		columns = home->columns[row];
	}
	return home->bins[row][__builtin_ctz(columns)];
}

static struct al_range *home_find(struct al_home *home, uint64_t bytes)
{
	unsigned int row, column, tries = 0;
	struct al_range *range, *above;

	if (home->free < bytes)
		return NULL;
	al_room_bin_of(bytes, &row, &column);
	range = home->bins[row][column];
	while (range && range->size < bytes && tries++ < BIN_TRIES)
		range = range->bin_next;
	if (range && range->size >= bytes)
		return range;
	above = find_above(home, row, column);
	if (above)
		return above;
	/* Nothing larger: look at the rest of the bin before giving up. */
	while (range && range->size < bytes)
		range = range->bin_next;
	return range;
}

static uint64_t home_largest(struct al_home *home)
{
	struct al_range *range;
	unsigned int row;
	uint64_t largest = 0;

	if (!home || home->rows == 0)
		return 0;
	row = bs_log2(home->rows);
	range = home->bins[row][bs_log2(home->columns[row])];
	for (; range; range = range->bin_next)
		if (range->size > largest)
			largest = range->size;
	return largest;
}

uint64_t al_room_largest(struct al_allocator *al, uint64_t stream)
{
	uint64_t any = home_largest(&al->room.none);
	uint64_t own = home_largest(al_room_home(&al->room, stream));

	return any > own ? any : own;
}

/* ---- give and take ---- */

struct al_range *al_room_split(struct al_allocator *al, struct al_range *range,
			       uint64_t bytes)
{
	struct al_range *rest = range_new(al);

	if (!rest)
		return NULL;
	rest->offset = range->offset + bytes;
	rest->size = range->size - bytes;
	rest->home = range->home;
	rest->serves = range->serves;
	range->size = bytes;
	list_insert(&al->room, rest, range);
	return rest;
}

enum ps_status al_room_take(struct al_allocator *al, uint64_t bytes,
			    uint64_t stream, struct al_range **range_out)
{
	struct al_home *home = al_room_home(&al->room, stream);
	struct al_range *range = home ? home_find(home, bytes) : NULL;

	if (!range && stream != AL_STREAM_NONE) {
		home = &al->room.none;
		range = home_find(home, bytes);
	}
	if (!range)
		return PS_OUT_OF_MEMORY;
	bin_remove(home, range);
	if (range->size > bytes) {
		bool high = bytes >= LARGE_MIN;
		struct al_range *rest = al_room_split(
			al, range, high ? range->size - bytes : bytes);

		bin_insert(home, rest && !high ? rest : range);
		if (!rest)
			return bs_fail(PS_HOST_MEMORY,
				       "no host memory for a range's record");
		if (high)
			range = rest;
	}
	*range_out = range;
	return PS_OK;
}

/* Free for the same use, so that what touches it may join it. */
static bool is_like(const struct al_range *range, uint64_t home,
		    uint64_t serves)
{
	return range && al_kind_of(range) == AL_KIND_FREE &&
	       range->home == home && range->serves == serves;
}

struct al_range *al_room_give(struct al_allocator *al, struct al_range *range,
			      uint64_t stream)
{
	struct al_range *low = range->before, *high = range->after;
	struct al_home *home;

	if (range->serves != AL_STREAM_NONE)
		stream = range->serves;
	home = al_room_home(&al->room, stream);
	assert(home);
	al_map_set(al, range->offset, NULL);
	if (is_like(low, stream, range->serves) && do_touch(low, range)) {
		bin_remove(home, low);
		low->size += range->size;
		range_forget(al, range);
		range = low;
	}
	if (is_like(high, stream, range->serves) && do_touch(range, high)) {
		bin_remove(home, high);
		range->size += high->size;
		range_forget(al, high);
	}
	bin_insert(home, range);
	al->room.epoch++;
	return range;
}

static void set_reserved(struct al_allocator *al, uint64_t reserved)
{
	uint64_t part = reserved / AL_EMPTY_PART;

	al->room.reserved = reserved;
	atomic_store_explicit(&al->empty_max,
			      part > AL_EMPTY_MIN ? part : AL_EMPTY_MIN,
			      memory_order_relaxed);
}

enum ps_status al_room_add(struct al_allocator *al, const struct al_span *span)
{
	struct al_room *room = &al->room;
	struct al_range *range = range_new(al);
	struct al_range *before = room->last;

	if (!range || !al_room_home_get(al, span->home)) {
		if (range) {
			range->bin_next = room->spare;
			room->spare = range;
		}
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for a range's record");
	}
	range->offset = span->offset;
	range->size = span->size;
	range->serves = span->home;
	while (before && before->offset > span->offset)
		before = before->before;
	list_insert(room, range, before);
	set_reserved(al, room->reserved + span->size);
	if (room->reserved > room->peak_reserved)
		room->peak_reserved = room->reserved;
	al_room_give(al, range, span->home);
	return PS_OK;
}

void al_room_remove(struct al_allocator *al, struct al_range *range)
{
	set_reserved(al, al->room.reserved - range->size);
	range_forget(al, range);
}
