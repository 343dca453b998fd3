/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whether an offered layout makes sense. A receiver computes addresses and
 * sizes from it, so that everything that could overflow, overlap or lie
 * outside is refused here, before the device sees it.
 */
#include "ipc/wire.h"

#include "base/arith.h"
#include "base/status.h"

#include <inttypes.h>

static bool is_zero(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (bytes[i] != 0)
			return false;
	}
	return true;
}

static enum ps_status bad(const char *field, uint64_t value, const char *limit,
			  uint64_t number)
{
	return bs_fail(PS_PROTOCOL,
		       "OFFER: %s is 0x%" PRIx64 ", must be %s 0x%" PRIx64,
		       field, value, limit, number);
}

static enum ps_status check_identity(const struct ip_offer *offer)
{
	if (is_zero(offer->pool_id, sizeof(offer->pool_id)))
		return bs_fail(PS_PROTOCOL,
			       "OFFER: pool_id is all zeros, must be random");
	if (offer->gpu[0] == '\0')
		return bs_fail(PS_PROTOCOL,
			       "OFFER: gpu is empty, must be a UUID");
	return PS_OK;
}

static enum ps_status check_segments(const struct ip_offer *offer,
				     uint64_t *pool_out)
{
	uint64_t count = offer->segment_count;
	uint64_t pool;

	if (!bs_is_pow2(offer->segment_bytes) ||
	    offer->segment_bytes < IP_SEGMENT_MIN)
		return bad("segment_bytes", offer->segment_bytes,
			   "a power of two of at least", IP_SEGMENT_MIN);
	if (count == 0 || count > IP_SEGMENTS_MAX)
		return bad("segment_count", count, "1 to", IP_SEGMENTS_MAX);
	if (!bs_mul(offer->segment_bytes, count, &pool) ||
	    pool > IP_ADDRESS_END)
		return bad("segment_bytes", offer->segment_bytes,
			   "such that all segments fit below", IP_ADDRESS_END);
	if (offer->count == 0 || offer->count > count)
		return bad("count", offer->count, "1 to", count);
	if (offer->first > count - offer->count)
		return bad("first", offer->first, "at most",
			   count - offer->count);
	*pool_out = pool;
	return PS_OK;
}

static enum ps_status check_parameters(const struct ip_offer *offer,
				       uint64_t pool)
{
	if (offer->parameter_bytes % offer->segment_bytes != 0)
		return bad("parameter_bytes", offer->parameter_bytes,
			   "a multiple of", offer->segment_bytes);
	if (offer->parameter_bytes > pool)
		return bad("parameter_bytes", offer->parameter_bytes, "at most",
			   pool);
	return PS_OK;
}

static enum ps_status check_window(const struct ip_offer *offer, uint64_t pool)
{
	uint64_t end = UINT64_MAX;

	if (offer->window_base == 0 || offer->window_base % IP_SEGMENT_MIN != 0)
		return bad("window_base", offer->window_base,
			   "a multiple, not 0, of", IP_SEGMENT_MIN);
	if (offer->window_bytes < pool)
		return bad("window_bytes", offer->window_bytes, "at least",
			   pool);
	if (offer->window_bytes % offer->segment_bytes != 0)
		return bad("window_bytes", offer->window_bytes, "a multiple of",
			   offer->segment_bytes);
	if (!bs_add(offer->window_base, offer->window_bytes, &end) ||
	    end > IP_ADDRESS_END)
		return bad("window_base + window_bytes", end, "at most",
			   IP_ADDRESS_END);
	if (!is_zero(offer->handle, sizeof(offer->handle)))
		return bs_fail(PS_PROTOCOL,
			       "OFFER: handle is set, must be zeros for a pool "
			       "that travels as descriptors");
	return PS_OK;
}

/* One allocation: no window, nothing partial, nothing read-only. */
static enum ps_status check_legacy(const struct ip_offer *offer)
{
	if (offer->window_base != 0)
		return bad("window_base", offer->window_base, "(legacy IPC)",
			   0);
	if (offer->window_bytes != 0)
		return bad("window_bytes", offer->window_bytes, "(legacy IPC)",
			   0);
	if (offer->count != offer->segment_count)
		return bad("count", offer->count, "(legacy IPC)",
			   offer->segment_count);
	if (offer->parameter_write != 1)
		return bad("parameter_write", offer->parameter_write,
			   "(legacy IPC)", 1);
	if (is_zero(offer->handle, sizeof(offer->handle)))
		return bs_fail(PS_PROTOCOL,
			       "OFFER: handle is all zeros, must be one of "
			       "legacy IPC");
	return PS_OK;
}

enum ps_status ip_offer_check(const struct ip_offer *offer)
{
	enum ps_status status;
	uint64_t pool = 0;

	status = check_identity(offer);
	if (status == PS_OK)
		status = check_segments(offer, &pool);
	if (status == PS_OK)
		status = check_parameters(offer, pool);
	if (status != PS_OK)
		return status;
	if (offer->mode == PS_SHARE_VMM)
		return check_window(offer, pool);
	if (offer->mode == PS_SHARE_LEGACY_IPC)
		return check_legacy(offer);
	return bad("mode", offer->mode, "at most", PS_SHARE_LEGACY_IPC);
}
