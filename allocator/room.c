/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "allocator/room.h"

#include <assert.h>

#include "allocator/bins.h"

/* Pages from this size on, and large blocks, are cut from the high end. */
#define HIGH_MIN (2ull * 1024 * 1024)

/* What the zone of pages gets at once, and gives back when it is free. */
#define ZONE_STEP (256ull * 1024 * 1024)

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
	for (unsigned int i = 0; i < AL_HOME_BUCKETS; i++) {
		while (room->homes[i]) {
			struct al_home *home = room->homes[i];

			room->homes[i] = home->next;
			al_host_free(al, home);
		}
	}
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
	al_room_recycle(al, range);
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

/* ---- homes ---- */

/* Handles are addresses: their low bits say nothing. */
static struct al_home **bucket_of(struct al_room *room, uint64_t stream)
{
	return &room->homes[(stream ^ stream >> 8) % AL_HOME_BUCKETS];
}

struct al_home *al_room_home(struct al_room *room, uint64_t stream)
{
	struct al_home *home = *bucket_of(room, stream);

	if (stream == AL_STREAM_NONE)
		return &room->none;
	while (home && home->stream != stream)
		home = home->next;
	return home;
}

struct al_home *al_room_home_get(struct al_allocator *al, uint64_t stream)
{
	struct al_home *home = al_room_home(&al->room, stream);
	struct al_home **bucket = bucket_of(&al->room, stream);

	if (home)
		return home;
	home = al_host_alloc(al, sizeof(*home));
	if (!home)
		return NULL;
	home->stream = stream;
	home->next = *bucket;
	*bucket = home;
	return home;
}

struct al_home *al_room_home_name(struct al_allocator *al, uint64_t stream)
{
	struct al_home *home = al_room_home_get(al, stream);

	if (home)
		home->dropped = false;
	return home;
}

static void put(struct al_home *home, struct al_range *range)
{
	range->home = home->stream;
	al_room_set_kind(range, AL_KIND_FREE);
	al_bins_insert(&home->zones[range->zone], range);
}

static void pull(struct al_home *home, struct al_range *range)
{
	al_bins_remove(&home->zones[range->zone], range);
	al_room_set_kind(range, AL_KIND_NONE);
}

void al_room_unbin(struct al_allocator *al, struct al_range *range)
{
	pull(al_room_home(&al->room, range->home), range);
}

uint64_t al_room_largest(struct al_allocator *al, uint64_t stream)
{
	struct al_home *homes[2] = { &al->room.none,
				     al_room_home(&al->room, stream) };
	uint64_t largest = 0;

	for (unsigned int i = 0; i < 2 * AL_ZONES; i++) {
		const struct al_home *home = homes[i / AL_ZONES];
		uint64_t size = 0;

		if (home)
			size = al_bins_largest(&home->zones[i % AL_ZONES]);
		if (size > largest)
			largest = size;
	}
	return largest;
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
	rest->zone = range->zone;
	range->size = bytes;
	list_insert(&al->room, rest, range);
	return rest;
}

/* A free range of @zone that may be used on @stream, out of its bin. */
static struct al_range *pull_from(struct al_allocator *al, enum al_zone zone,
				  uint64_t bytes, uint64_t stream)
{
	struct al_home *home = al_room_home(&al->room, stream);
	struct al_range *range = NULL;

	if (home)
		range = al_bins_find(&home->zones[zone], bytes);
	if (!range && stream != AL_STREAM_NONE) {
		home = &al->room.none;
		range = al_bins_find(&home->zones[zone], bytes);
	}
	if (range)
		pull(home, range);
	return range;
}

/* Cuts @range, which is in no bin, to its first or last @bytes; the rest goes
 * to the bins. False for want of host memory: then all of it does. */
static bool cut(struct al_allocator *al, struct al_range **range,
		uint64_t bytes, bool high)
{
	struct al_home *home = al_room_home(&al->room, (*range)->home);
	struct al_range *low = *range, *rest;

	if (low->size <= bytes)
		return true;
	rest = al_room_split(al, low, high ? low->size - bytes : bytes);
	put(home, rest && !high ? rest : low);
	if (rest && high)
		*range = rest;
	return rest != NULL;
}

/* Free for the same use, so that what touches it may join it. */
static bool is_like(const struct al_range *range, const struct al_range *other,
		    uint64_t home)
{
	return range && al_kind_of(range) == AL_KIND_FREE &&
	       range->home == home && range->serves == other->serves &&
	       range->zone == other->zone;
}

/* Joins a range that is in no bin with the neighbours that are like it. */
static struct al_range *join(struct al_allocator *al, struct al_range *range,
			     struct al_home *home)
{
	struct al_range *low = range->before, *high = range->after;

	if (is_like(low, range, home->stream) && do_touch(low, range)) {
		pull(home, low);
		low->size += range->size;
		range_forget(al, range);
		range = low;
	}
	if (is_like(high, range, home->stream) && do_touch(range, high)) {
		pull(home, high);
		range->size += high->size;
		range_forget(al, high);
	}
	return range;
}

/* A step of memory for the zone of pages, or what there is, at least @bytes. */
static struct al_range *widen_pages(struct al_allocator *al, uint64_t bytes,
				    uint64_t stream)
{
	uint64_t step = bytes > ZONE_STEP ? bytes : ZONE_STEP;
	struct al_range *range = pull_from(al, AL_ZONE_LARGE, step, stream);

	if (!range)
		range = pull_from(al, AL_ZONE_LARGE, bytes, stream);
	if (!range || !cut(al, &range, step, false))
		return range;
	range->zone = AL_ZONE_PAGES;
	return join(al, range, al_room_home(&al->room, range->home));
}

enum ps_status al_room_take(struct al_allocator *al, uint64_t bytes,
			    uint64_t stream, enum al_zone zone,
			    struct al_range **range_out)
{
	struct al_range *range = pull_from(al, zone, bytes, stream);

	if (!range && zone == AL_ZONE_PAGES)
		range = widen_pages(al, bytes, stream);
	if (!range)
		return PS_OUT_OF_MEMORY;
	if (al_kind_of(range) == AL_KIND_FREE ||
	    !cut(al, &range, bytes, bytes >= HIGH_MIN))
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for a range's record");
	*range_out = range;
	return PS_OK;
}

struct al_range *al_room_give(struct al_allocator *al, struct al_range *range,
			      uint64_t stream)
{
	struct al_home *home;

	if (range->serves != AL_STREAM_NONE)
		stream = range->serves;
	home = al_room_home(&al->room, stream);
	assert(home);
	al_map_set(al, range->offset, NULL);
	range = join(al, range, home);
	if (range->zone == AL_ZONE_PAGES && range->size >= ZONE_STEP) {
		range->zone = AL_ZONE_LARGE;
		range = join(al, range, home);
	}
	put(home, range);
	al_happened(al);
	return range;
}

bool al_room_merge_zones(struct al_allocator *al)
{
	struct al_room *room = &al->room;
	struct al_range *range = room->first;
	bool found = false;

	for (; range; range = range->after) {
		if (al_kind_of(range) != AL_KIND_FREE ||
		    range->zone != AL_ZONE_PAGES)
			continue;
		al_room_unbin(al, range);
		range->zone = AL_ZONE_LARGE;
		range = al_room_give(al, range, range->home);
		found = true;
	}
	return found;
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
	range->zone = AL_ZONE_LARGE;
	while (before && before->offset > span->offset)
		before = before->before;
	list_insert(room, range, before);
	set_reserved(al, room->reserved + span->size);
	if (room->reserved > room->peak_reserved)
		room->peak_reserved = room->reserved;
	al_room_give(al, range, span->home);
	return PS_OK;
}

void al_room_detach(struct al_allocator *al, struct al_range *range)
{
	set_reserved(al, al->room.reserved - range->size);
	list_remove(&al->room, range);
}

void al_room_recycle(struct al_allocator *al, struct al_range *range)
{
	range->bin_next = al->room.spare;
	al->room.spare = range;
}

void al_room_remove(struct al_allocator *al, struct al_range *range)
{
	set_reserved(al, al->room.reserved - range->size);
	range_forget(al, range);
}
