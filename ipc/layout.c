/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "ipc/layout.h"

#include "base/arith.h"
#include "base/status.h"
#include "ipc/wire.h"

#include <inttypes.h>

#define MIB (UINT64_C(1) << 20)
#define HEADROOM_MAX (UINT64_C(2) << 30)

/* By default a pool has at most this many segments. More of them would cost
 * a receiver more descriptors than the usual limit of 1,024 leaves. */
#define SEGMENTS_WANTED 1024u

/* A legacy pool is one allocation: its "segments" are only the steps in which
 * ranges are inserted, so they may be as small as the protocol can count. */
#define STEP_MIN (2 * MIB)

/* How many bytes the pool may take. */
static enum ps_status choose_size(const struct ip_wish *wish, uint64_t free,
				  uint64_t *size_out)
{
	uint64_t headroom = wish->headroom;

	if (wish->size > free)
		return bs_fail(PS_DEVICE_MEMORY,
			       "the GPU has %" PRIu64 " bytes free and the "
			       "pool was to take %" PRIu64 ": end other "
			       "programs on it or ask for less",
			       free, wish->size);
	if (wish->size > 0) {
		*size_out = wish->size;
		return PS_OK;
	}
	if (!wish->has_headroom)
		headroom = free / 8 < HEADROOM_MAX ? free / 8 : HEADROOM_MAX;
	if (headroom >= free)
		return bs_fail(PS_DEVICE_MEMORY,
			       "the GPU has %" PRIu64 " bytes free and the "
			       "headroom of %" PRIu64 " leaves none: end other "
			       "programs on it or set a smaller headroom",
			       free, headroom);
	*size_out = free - headroom;
	return PS_OK;
}

static enum ps_status choose_segment(const struct ip_wish *wish, uint64_t size,
				     uint64_t granularity,
				     uint64_t *segment_out)
{
	bool legacy = wish->mode == PS_SHARE_LEGACY_IPC;
	uint64_t wanted = legacy ? IP_SEGMENTS_MAX : SEGMENTS_WANTED;
	uint64_t segment = wish->segment_size;

	if (granularity < STEP_MIN)
		granularity = STEP_MIN;
	if (segment == 0) {
		segment = granularity;
		while (size / segment > wanted)
			segment *= 2;
	}
	if (!bs_is_pow2(segment) || segment < granularity)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a segment size of %" PRIu64 " bytes is not a "
			       "power of two of at least %" PRIu64,
			       segment, granularity);
	if (size / segment > IP_SEGMENTS_MAX)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "segments of %" PRIu64 " bytes would be %" PRIu64
			       " and a pool has at most %u: set a larger "
			       "segment size",
			       segment, size / segment, IP_SEGMENTS_MAX);
	*segment_out = segment;
	return PS_OK;
}

static enum ps_status choose_parameter(const struct ip_wish *wish,
				       uint64_t pool, uint64_t segment,
				       uint64_t *parameter_out)
{
	uint64_t wanted = wish->has_parameter ? wish->parameter : pool / 4;
	uint64_t size;

	if (!bs_round_up(wanted, segment, &size) || size > pool)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a parameter region of %" PRIu64 " bytes does "
			       "not fit into a pool of %" PRIu64,
			       wanted, pool);
	*parameter_out = size;
	return PS_OK;
}

static enum ps_status check_mode(enum ps_share_mode mode)
{
	if (mode == PS_SHARE_VMM || mode == PS_SHARE_LEGACY_IPC)
		return PS_OK;
	return bs_fail(PS_INVALID_ARGUMENT,
		       "%d is no way to share memory: use PS_SHARE_VMM or "
		       "PS_SHARE_LEGACY_IPC",
		       (int)mode);
}

enum ps_status ip_layout_plan(const struct ip_wish *wish, uint64_t free,
			      uint64_t granularity,
			      struct ip_layout *layout_out)
{
	struct ip_layout layout = { 0 };
	enum ps_status status;
	uint64_t size = 0;

	status = check_mode(wish->mode);
	if (status == PS_OK)
		status = choose_size(wish, free, &size);
	if (status == PS_OK)
		status = choose_segment(wish, size, granularity,
					&layout.segment_size);
	if (status != PS_OK)
		return status;
	layout.mode = wish->mode;
	layout.segments = (uint32_t)(size / layout.segment_size);
	if (layout.segments == 0)
		return bs_fail(wish->size > 0 ? PS_INVALID_ARGUMENT
					      : PS_DEVICE_MEMORY,
			       "%" PRIu64 " bytes are less than one segment of "
			       "%" PRIu64 " bytes",
			       size, layout.segment_size);
	status = choose_parameter(wish, layout.segments * layout.segment_size,
				  layout.segment_size, &layout.parameter_size);
	if (status == PS_OK)
		*layout_out = layout;
	return status;
}

/* 1 TiB apart; a window that is larger takes the next places too. The last
 * place: under ThreadSanitizer a process has none of the others. */
#define PLACE_FIRST UINT64_C(0x200000000000)
#define PLACE_STEP UINT64_C(0x10000000000)
#define PLACE_LOW UINT64_C(0x1000000000)

#define WINDOW_MIN (32 * MIB)

uint64_t ip_window_bytes(uint64_t pool_bytes, uint32_t pools)
{
	uint64_t bytes = pool_bytes * pools;

	return bytes < WINDOW_MIN ? WINDOW_MIN : bytes;
}

uint64_t ip_window_place(uint32_t i)
{
	return i < IP_WINDOW_PLACES - 1 ? PLACE_FIRST + i * PLACE_STEP
					: PLACE_LOW;
}
