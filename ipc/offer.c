/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whether an offered layout makes sense. A receiver computes addresses and
 * sizes from it, so that everything that could overflow, overlap or lie
 * outside is refused here, before the device sees it.
 */
#include "ipc/wire_fields.h"

#include "base/arith.h"
#include "base/status.h"

#include <inttypes.h>
#include <string.h>

static bool is_zero(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (bytes[i] != 0)
			return false;
	}
	return true;
}

/* A layout and the message that it came in. */
struct layout {
	const char *name;
	const struct ip_offer *offer;
};

static enum ps_status bad(const struct layout *layout, const char *field,
			  uint64_t value, const char *limit, uint64_t number)
{
	return bs_fail(PS_PROTOCOL,
		       "%s: %s is 0x%" PRIx64 ", must be %s 0x%" PRIx64,
		       layout->name, field, value, limit, number);
}

static enum ps_status check_identity(const struct layout *layout)
{
	const struct ip_offer *offer = layout->offer;
	if (is_zero(offer->pool_id, sizeof(offer->pool_id)))
		return bs_fail(PS_PROTOCOL,
			       "%s: pool_id is all zeros, must be random",
			       layout->name);
	if (offer->gpu[0] == '\0')
		return bs_fail(PS_PROTOCOL, "%s: gpu is empty, must be a UUID",
			       layout->name);
	return PS_OK;
}

static enum ps_status check_segments(const struct layout *layout,
				     uint64_t *pool_out)
{
	const struct ip_offer *offer = layout->offer;
	uint64_t count = offer->segment_count;
	uint64_t pool;

	if (!bs_is_pow2(offer->segment_bytes) ||
	    offer->segment_bytes < IP_SEGMENT_MIN)
		return bad(layout, "segment_bytes", offer->segment_bytes,
			   "a power of two of at least", IP_SEGMENT_MIN);
	if (count == 0 || count > IP_SEGMENTS_MAX)
		return bad(layout, "segment_count", count, "1 to",
			   IP_SEGMENTS_MAX);
	if (!bs_mul(offer->segment_bytes, count, &pool) ||
	    pool > IP_ADDRESS_END)
		return bad(layout, "segment_bytes", offer->segment_bytes,
			   "such that all segments fit below", IP_ADDRESS_END);
	if (offer->count == 0 || offer->count > count)
		return bad(layout, "count", offer->count, "1 to", count);
	if (offer->first > count - offer->count)
		return bad(layout, "first", offer->first, "at most",
			   count - offer->count);
	*pool_out = pool;
	return PS_OK;
}

static enum ps_status check_parameters(const struct layout *layout,
				       uint64_t pool)
{
	const struct ip_offer *offer = layout->offer;
	if (offer->parameter_bytes % offer->segment_bytes != 0)
		return bad(layout, "parameter_bytes", offer->parameter_bytes,
			   "a multiple of", offer->segment_bytes);
	if (offer->parameter_bytes > pool)
		return bad(layout, "parameter_bytes", offer->parameter_bytes,
			   "at most", pool);
	return PS_OK;
}

static enum ps_status check_window(const struct layout *layout, uint64_t pool)
{
	const struct ip_offer *offer = layout->offer;
	uint64_t end = UINT64_MAX;

	if (offer->window_base == 0 || offer->window_base % IP_SEGMENT_MIN != 0)
		return bad(layout, "window_base", offer->window_base,
			   "a multiple, not 0, of", IP_SEGMENT_MIN);
	if (offer->window_bytes < pool)
		return bad(layout, "window_bytes", offer->window_bytes,
			   "at least", pool);
	if (offer->window_bytes % offer->segment_bytes != 0)
		return bad(layout, "window_bytes", offer->window_bytes,
			   "a multiple of", offer->segment_bytes);
	if (!bs_add(offer->window_base, offer->window_bytes, &end) ||
	    end > IP_ADDRESS_END)
		return bad(layout, "window_base + window_bytes", end, "at most",
			   IP_ADDRESS_END);
	if (!is_zero(offer->handle, sizeof(offer->handle)))
		return bs_fail(PS_PROTOCOL,
			       "OFFER: handle is set, must be zeros for a pool "
			       "that travels as descriptors");
	return PS_OK;
}

/* One allocation: no window, nothing partial, nothing read-only. */
static enum ps_status check_legacy(const struct layout *layout)
{
	const struct ip_offer *offer = layout->offer;
	if (offer->window_base != 0)
		return bad(layout, "window_base", offer->window_base,
			   "(legacy IPC)", 0);
	if (offer->window_bytes != 0)
		return bad(layout, "window_bytes", offer->window_bytes,
			   "(legacy IPC)", 0);
	if (offer->count != offer->segment_count)
		return bad(layout, "count", offer->count, "(legacy IPC)",
			   offer->segment_count);
	if (offer->parameter_write != 1)
		return bad(layout, "parameter_write", offer->parameter_write,
			   "(legacy IPC)", 1);
	if (is_zero(offer->handle, sizeof(offer->handle)))
		return bs_fail(PS_PROTOCOL,
			       "OFFER: handle is all zeros, must be one of "
			       "legacy IPC");
	return PS_OK;
}

static enum ps_status check_layout(const struct layout *layout)
{
	const struct ip_offer *offer = layout->offer;
	enum ps_status status;
	uint64_t pool = 0;

	status = check_identity(layout);
	if (status == PS_OK)
		status = check_segments(layout, &pool);
	if (status == PS_OK)
		status = check_parameters(layout, pool);
	if (status != PS_OK)
		return status;
	if (offer->mode == PS_SHARE_VMM)
		return check_window(layout, pool);
	if (offer->mode == PS_SHARE_LEGACY_IPC)
		return check_legacy(layout);
	return bad(layout, "mode", offer->mode, "at most", PS_SHARE_LEGACY_IPC);
}

enum ps_status ip_offer_check(const struct ip_offer *offer)
{
	const struct layout layout = { "OFFER", offer };

	return check_layout(&layout);
}

/* A daemon's pool is always one of segments that travel as descriptors. */
enum ps_status ip_welcome_check(const struct ip_welcome *welcome)
{
	struct ip_offer offer = {
		.mode = PS_SHARE_VMM,
		.parameter_write = welcome->parameter_write,
		.window_base = welcome->window_base,
		.window_bytes = welcome->window_bytes,
		.segment_bytes = welcome->segment_bytes,
		.parameter_bytes = welcome->parameter_bytes,
		.segment_count = welcome->segment_count,
		.count = welcome->segment_count,
	};
	const struct layout layout = { "WELCOME", &offer };

	memcpy(offer.pool_id, welcome->pool_id, sizeof(offer.pool_id));
	memcpy(offer.gpu, welcome->gpu, sizeof(offer.gpu));
	return check_layout(&layout);
}
