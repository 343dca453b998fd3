/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pools on their way between processes.
 *
 * Invariant: no lock and no turn is held while the peer is waited for.
 */
#include "lib/pool.h"

#include "base/status.h"
#include "ipc/handover.h"
#include "lib/process.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define PEER_FLAGS ((unsigned int)PS_PEER_ANY_USER)
#define SEND_FLAGS (PEER_FLAGS | (unsigned int)PS_SEND_WRITABLE_PARAMETERS)

/* ---- sending ---- */

static void put_fds(void *owner, uint32_t first, uint32_t count, const int *fds)
{
	const struct ps_pool *pool = owner;

	for (uint32_t i = 0; i < count; i++) {
		if (pool->segments[first + i].fd != fds[i])
			close(fds[i]);
	}
}

static enum ps_status get_fds(void *owner, uint32_t first, uint32_t count,
			      int *fds_out)
{
	struct ps_pool *pool = owner;

	for (uint32_t i = 0; i < count; i++) {
		const struct lb_segment *segment = &pool->segments[first + i];
		enum ps_status status = PS_OK;

		fds_out[i] = segment->fd;
		if (segment->fd < 0)
			status = dv_segment_export(
				pool->device, segment->handle, &fds_out[i]);
		if (status != PS_OK) {
			put_fds(owner, first, i, fds_out);
			return bs_fail_prefix(status, "segment %" PRIu32,
					      first + i);
		}
	}
	return PS_OK;
}

static enum ps_status make_offer(const struct ps_pool *pool, unsigned int flags,
				 struct ip_offer *offer)
{
	bool writable = (flags & PS_SEND_WRITABLE_PARAMETERS) != 0;

	memset(offer, 0, sizeof(*offer));
	memcpy(offer->pool_id, pool->id, sizeof(offer->pool_id));
	strncpy(offer->gpu, dv_device_uuid(pool->device),
		sizeof(offer->gpu) - 1);
	offer->mode = (uint32_t)pool->layout.mode;
	offer->parameter_write = writable || lb_is_legacy(pool);
	offer->segment_bytes = pool->layout.segment_size;
	offer->segment_count = pool->layout.segments;
	offer->parameter_bytes = pool->layout.parameter_size;
	offer->count = pool->layout.segments;
	if (lb_is_legacy(pool))
		return dv_legacy_export(pool->device, pool->base,
					offer->handle);
	offer->window_base = pool->base;
	offer->window_bytes = pool->window;
	return PS_OK;
}

static enum ps_status check_flags(unsigned int flags, unsigned int known)
{
	if ((flags & ~known) == 0)
		return PS_OK;
	return bs_fail(PS_INVALID_ARGUMENT,
		       "flags %#x: of these only %#x are known here", flags,
		       flags & known);
}

static enum ps_status check_sender(const struct ps_pool *pool,
				   unsigned int flags)
{
	if (pool->lease != NULL)
		return bs_fail(PS_UNSUPPORTED,
			       "this pool is poolswitchd's, which alone can "
			       "give it to others: let them call ps_attach()");
	if (!pool->reserved_here)
		return bs_fail(PS_UNSUPPORTED,
			       "this pool was received, and CUDA exports only "
			       "what its own process created: let the process "
			       "that reserved it send it");
	return check_flags(flags, SEND_FLAGS);
}

/* The peer that we do not talk to is told so. */
static enum ps_status connect_peer(struct ip_conn *conn, int socket,
				   enum ip_side self, unsigned int flags,
				   int timeout_ms)
{
	enum ps_status status =
		ip_conn_init(conn, socket, self, flags, timeout_ms);

	return status == PS_PERMISSION ? ip_refuse_send(conn, status) : status;
}

static enum ps_status send_offer(struct ps_pool *pool,
				 const struct ip_offer *offer, int socket,
				 unsigned int flags, int timeout_ms)
{
	const struct ip_source source = { get_fds, put_fds, pool };
	struct ip_conn conn;
	enum ps_status status =
		connect_peer(&conn, socket, IP_SENDER, flags, timeout_ms);

	return status == PS_OK ? ip_offer_send(&conn, offer, &source) : status;
}

enum ps_status ps_send_shared(struct ps_pool *pool, int socket,
			      unsigned int flags, int timeout_ms)
{
	struct ps_pool *p = lb_enter(pool);
	struct ip_offer offer;
	enum ps_status status;

	if (p == NULL)
		return lb_refuse(pool);
	status = check_sender(p, flags);
	if (status == PS_OK)
		status = make_offer(p, flags, &offer);
	if (status != PS_OK)
		return status;
	return send_offer(p, &offer, socket, flags, timeout_ms);
}

enum ps_status ps_send_range(struct ps_pool *pool, uint64_t offset,
			     uint64_t size, int socket, unsigned int flags,
			     int timeout_ms)
{
	struct ps_pool *p = lb_enter(pool);
	struct ip_offer offer;
	enum ps_status status;

	if (p == NULL)
		return lb_refuse(pool);
	if (lb_is_legacy(p))
		return bs_fail(
			PS_UNSUPPORTED,
			"a pool shared by legacy CUDA IPC travels whole: "
			"use ps_send_shared(), or reserve it with "
			"PS_SHARE_VMM");
	status = lb_check_range(p, "a range to send", offset, size);
	if (status == PS_OK)
		status = check_sender(p, flags);
	if (status == PS_OK)
		status = make_offer(p, flags, &offer);
	if (status != PS_OK)
		return status;
	offer.first = (uint32_t)(offset / p->layout.segment_size);
	offer.count = (uint32_t)(size / p->layout.segment_size);
	return send_offer(p, &offer, socket, flags, timeout_ms);
}

/* ---- receiving ---- */

struct receiving {
	struct ps_pool *pool; /* NULL until the offer is checked */
};

static enum ps_status open_gpu(const struct ip_offer *offer,
			       struct ps_pool **pool_out)
{
	struct dv_device *device;
	enum ps_status status = dv_device_open(offer->gpu, &device);

	if (status == PS_NO_DEVICE)
		return bs_fail_prefix(PS_WRONG_GPU,
				      "the pool is on %.*s, which is not "
				      "visible to this process",
				      (int)sizeof(offer->gpu), offer->gpu);
	return status == PS_OK ? lb_pool_new(device, pool_out) : status;
}

static enum ps_status shape_as_offered(struct ps_pool *pool,
				       const struct ip_offer *offer)
{
	const struct ip_layout layout = {
		.mode = (enum ps_share_mode)offer->mode,
		.segment_size = offer->segment_bytes,
		.segments = offer->segment_count,
		.parameter_size = offer->parameter_bytes,
	};

	return lb_pool_shape(pool, &layout, offer->window_bytes);
}

static enum ps_status check_offer(void *owner, const struct ip_offer *offer)
{
	struct receiving *receiving = owner;
	struct ps_pool *pool;
	enum ps_status status = open_gpu(offer, &pool);

	if (status != PS_OK)
		return status;
	receiving->pool = pool;
	memcpy(pool->id, offer->pool_id, sizeof(pool->id));
	status = shape_as_offered(pool, offer);
	if (status == PS_OK && lb_is_legacy(pool))
		status = lb_legacy_attach(pool, offer->handle);
	else if (status == PS_OK)
		status = lb_vmm_attach(pool, offer->window_base);
	return status == PS_OK ? lb_pool_start(pool) : status;
}

/* Whether the descriptors may stay open until they are needed. */
static bool is_room_for_fds(void)
{
	uint64_t room, limit;

	return ip_fd_room(&room, &limit) == PS_OK && room >= LB_FDS_LEFT;
}

/*
 * A segment is imported when it is first mapped, which may be never. The
 * first of each message is imported now: a peer that sends descriptors of
 * something else is found out while it can still be told.
 */
static enum ps_status take_segments(void *owner, uint32_t first, uint32_t count,
				    bool writable, int *fds)
{
	const struct receiving *receiving = owner;
	struct ps_pool *pool = receiving->pool;
	uint32_t now = is_room_for_fds() ? 1 : count;
	enum ps_status status = PS_OK;

	for (uint32_t i = 0; i < count; i++) {
		pool->segments[first + i].fd = fds[i];
		pool->segments[first + i].access =
			writable ? LB_ACCESS_WRITE : LB_ACCESS_READ;
		fds[i] = -1;
	}
	for (uint32_t i = 0; i < now && status == PS_OK; i++)
		status = lb_vmm_import(pool, first + i);
	return status;
}

static enum ps_status receive(struct receiving *receiving, int socket,
			      unsigned int flags, int timeout_ms)
{
	const struct ip_sink sink = { check_offer, take_segments, receiving };
	struct ip_hello hello;
	struct ip_conn conn;
	enum ps_status status =
		connect_peer(&conn, socket, IP_RECEIVER, flags, timeout_ms);

	if (status != PS_OK)
		return status;
	ip_hello_init(&hello);
	return ip_offer_receive(&conn, &hello, &sink);
}

enum ps_status ps_recv_shared(int socket, unsigned int flags, int timeout_ms,
			      struct ps_pool **pool_out)
{
	struct receiving receiving = { NULL };
	enum ps_status status = check_flags(flags, PEER_FLAGS);

	if (status == PS_OK)
		status = lb_process_start();
	if (status == PS_OK)
		status = receive(&receiving, socket, flags, timeout_ms);
	if (status != PS_OK) {
		lb_pool_discard(receiving.pool);
		return status;
	}
	lb_process_add(receiving.pool);
	*pool_out = receiving.pool;
	return PS_OK;
}
