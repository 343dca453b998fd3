/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The room: memory by the unit. Gives out ranges, takes them back, joins
 * neighbours.
 *
 * Invariant: two free neighbours that touch differ in home or in whom they
 * serve; otherwise they are one range.
 */
#ifndef ALLOCATOR_ROOM_H
#define ALLOCATOR_ROOM_H

#include "allocator/state.h"

void al_room_init(struct al_room *room);
void al_room_done(struct al_allocator *al);

/* The functions below: pre: the room's lock is held. */

/*
 * A free range of @bytes that may be used on @stream, taken out of its bin
 * and cut to size. Pages come from their own zone, which grows by steps; in
 * it, small ones lie low and larger ones high. PS_OUT_OF_MEMORY: none here,
 * without a text.
 */
enum ps_status al_room_take(struct al_allocator *al, uint64_t bytes,
			    uint64_t stream, enum al_zone zone,
			    struct al_range **range_out);

/* Frees @range for use on @home, and joins it with its neighbours. Returns
 * the range that it became part of. pre: @home exists; a page's entries in
 * the map but the first are cleared. */
struct al_range *al_room_give(struct al_allocator *al, struct al_range *range,
			      uint64_t home);

/* Makes the owner's span part of the room. */
enum ps_status al_room_add(struct al_allocator *al, const struct al_span *span);

/* Takes a range that is not in a bin out of the room. */
void al_room_remove(struct al_allocator *al, struct al_range *range);

/* The same in two steps: the record stays valid in between. */
void al_room_detach(struct al_allocator *al, struct al_range *range);
void al_room_recycle(struct al_allocator *al, struct al_range *range);

/* Takes a free range out of its bin. */
void al_room_unbin(struct al_allocator *al, struct al_range *range);

/* Cuts @range in two at @bytes and returns the second part, which is in no
 * bin; NULL for want of host memory. pre: @range is in no bin. */
struct al_range *al_room_split(struct al_allocator *al, struct al_range *range,
			       uint64_t bytes);

/* The range that covers @offset, by a walk: for error texts. Or NULL. */
struct al_range *al_room_find(struct al_allocator *al, uint64_t offset);

/* The largest free range that may be used on @stream; 0: none. */
uint64_t al_room_largest(struct al_allocator *al, uint64_t stream);

/* The free ranges of a home; NULL when it does not exist. */
struct al_home *al_room_home(struct al_room *room, uint64_t stream);

/* The same, made where it does not exist; NULL for want of host memory. */
struct al_home *al_room_home_get(struct al_allocator *al, uint64_t stream);

/* The same for a stream that an allocation names: it is not dropped. */
struct al_home *al_room_home_name(struct al_allocator *al, uint64_t stream);

void al_room_set_kind(struct al_range *range, enum al_kind kind);

/* Gives what is free in the zone of pages to large blocks. True when there
 * was something. */
bool al_room_merge_zones(struct al_allocator *al);

#endif /* ALLOCATOR_ROOM_H */
