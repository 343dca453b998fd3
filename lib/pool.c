/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "lib/pool.h"

#include "base/arith.h"
#include "base/status.h"
#include "lib/lease.h"
#include "lib/process.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* Of an attached pool, larger blocks are hardly larger than asked and no page
 * holds room for more of them: what is leased here nobody else has. */
#define LEASED_SMALL_MAX (1u << 20)

static enum ps_status fill_id(struct ps_pool *pool)
{
	ssize_t got;

	do {
		got = getrandom(pool->id, sizeof(pool->id), 0);
	} while (got < 0 && errno == EINTR);
	if (got != (ssize_t)sizeof(pool->id))
		return bs_fail_errno("no random number for the pool's id");
	pool->id[0] |= 1; /* all zeros would stand for no pool */
	return PS_OK;
}

/* The turn is waited for by a clock that nobody sets. */
static void init_turn(struct ps_pool *pool)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->turn_free, &attributes);
	pthread_cond_init(&pool->fences_free, &attributes);
	pthread_condattr_destroy(&attributes);
}

enum ps_status lb_pool_new(struct dv_device *device, struct ps_pool **pool_out)
{
	struct ps_pool *pool = calloc(1, sizeof(*pool));
	enum ps_status status;

	if (pool == NULL) {
		dv_device_close(device);
		return bs_fail(PS_HOST_MEMORY, "no host memory for a pool");
	}
	pool->device = device;
	bs_lock_init(&pool->lock, BS_RANK_POOL);
	init_turn(pool);
	status = fill_id(pool);
	if (status != PS_OK) {
		lb_pool_discard(pool);
		return status;
	}
	*pool_out = pool;
	return PS_OK;
}

enum ps_status lb_pool_shape(struct ps_pool *pool,
			     const struct ip_layout *layout, uint64_t window)
{
	uint64_t bytes = layout->segments * layout->segment_size;

	if (window == 0)
		window = layout->mode == PS_SHARE_LEGACY_IPC
				 ? bytes
				 : ip_window_bytes(bytes, IP_WINDOW_POOLS);
	free(pool->segments);
	free(pool->slot);
	pool->layout = *layout;
	pool->window = window;
	pool->slots = (uint32_t)(window / layout->segment_size);
	pool->segments = calloc(layout->segments, sizeof(*pool->segments));
	pool->slot = calloc(pool->slots, sizeof(*pool->slot));
	if (pool->segments == NULL || pool->slot == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for the books of %" PRIu32
			       " segments",
			       layout->segments);
	for (uint32_t i = 0; i < layout->segments; i++) {
		pool->segments[i].fd = -1;
		pool->slot[i].segment = i;
	}
	return PS_OK;
}

enum ps_status lb_pool_start(struct ps_pool *pool)
{
	struct al_config config = {
		.capacity = pool->window,
		.room_unit = pool->layout.segment_size,
		.base = pool->base,
		.small_max = pool->lease != NULL ? LEASED_SMALL_MAX : 0,
		/* So that the service thread finds it fenced. */
		.fence_bytes =
			pool->lease != NULL ? pool->layout.segment_size : 0,
		.ops = pool->lease != NULL ? lb_room_leased_ops : lb_room_ops,
		.owner = pool,
	};
	enum ps_status status = al_new(&config, &pool->al);

	if (status == PS_OK)
		pool->magic = LB_POOL_MAGIC;
	return status;
}

static void close_fds(struct ps_pool *pool)
{
	for (uint32_t i = 0; i < pool->layout.segments; i++) {
		if (pool->segments[i].fd >= 0)
			close(pool->segments[i].fd);
		pool->segments[i].fd = -1;
	}
}

static void free_books(struct ps_pool *pool)
{
	ip_claim_free(pool->claim);
	pthread_cond_destroy(&pool->turn_free);
	pthread_cond_destroy(&pool->fences_free);
	bs_lock_done(&pool->lock);
	free(pool->ranges);
	free(pool->slot);
	free(pool->segments);
	free(pool);
}

static enum ps_status unmap_all(struct ps_pool *pool)
{
	const struct lb_model_ops *models = lb_model_ops_of(pool->lease);
	enum ps_status status, of_models = PS_OK;

	lb_turn_take(pool);
	status = lb_unmap_slots(pool, 0, pool->slots);
	if (models != NULL)
		of_models = models->unmap(pool->lease);
	lb_turn_give(pool);
	return status == PS_OK ? of_models : status;
}

void lb_pool_discard(struct ps_pool *pool)
{
	enum ps_status status = PS_OK;

	if (pool == NULL)
		return;
	lb_service_stop(pool->lease);
	pool->magic = 0;
	al_destroy(pool->al);
	if (pool->backing != NULL) {
		status = unmap_all(pool);
		pool->backing->release(pool);
	}
	if (pool->segments != NULL)
		close_fds(pool);
	lb_lease_free(pool->lease, status == PS_OK);
	dv_device_close(pool->device);
	free_books(pool);
}

/*
 * In a forked child: the GPU is the parent's, and so is whatever a lock
 * guarded at the moment of the fork. The allocator gives its fences back here
 * too; lb_room_ops drops them in a child.
 */
static void abandon(struct ps_pool *pool)
{
	pool->magic = 0;
	al_destroy(pool->al);
	close_fds(pool);
	lb_lease_abandon(pool->lease);
	dv_device_abandon(pool->device);
	free_books(pool);
}

void ps_pool_close(struct ps_pool *pool)
{
	if (pool == NULL || pool->magic != LB_POOL_MAGIC)
		return;
	lb_process_remove(pool);
	if (lb_is_forked()) {
		abandon(pool);
		return;
	}
	lb_lease_quiet(pool->lease, dv_synchronize(pool->device));
	lb_pool_discard(pool);
}

uint64_t ps_pool_size(const struct ps_pool *pool)
{
	const struct ps_pool *p = lb_look(pool);

	return p == NULL ? 0 : lb_pool_bytes(p);
}

uint64_t ps_pool_segment_size(const struct ps_pool *pool)
{
	const struct ps_pool *p = lb_look(pool);

	return p == NULL ? 0 : p->layout.segment_size;
}

enum ps_status ps_pool_region(const struct ps_pool *pool, enum ps_region region,
			      uint64_t *offset_out, uint64_t *size_out)
{
	const struct ps_pool *p = lb_look(pool);

	if (p == NULL)
		return lb_refuse(pool);
	switch (region) {
	case PS_REGION_PARAMETER:
		*offset_out = 0;
		*size_out = p->layout.parameter_size;
		return PS_OK;
	case PS_REGION_COMPUTATION:
		*offset_out = p->layout.parameter_size;
		*size_out = lb_pool_bytes(p) - p->layout.parameter_size;
		return PS_OK;
	}
	return bs_fail(PS_INVALID_ARGUMENT,
		       "%d is no region: use PS_REGION_PARAMETER or "
		       "PS_REGION_COMPUTATION",
		       (int)region);
}

void *ps_pool_pointer(const struct ps_pool *pool, uint64_t offset)
{
	const struct ps_pool *p = lb_look(pool);

	if (p == NULL || offset >= lb_pool_bytes(p))
		return NULL;
	return (void *)(uintptr_t)(p->base + offset);
}

const char *ps_pool_gpu(const struct ps_pool *pool)
{
	const struct ps_pool *p = lb_look(pool);

	return p == NULL ? "" : dv_device_uuid(p->device);
}

enum ps_status lb_check_range(const struct ps_pool *pool, const char *what,
			      uint64_t offset, uint64_t size)
{
	uint64_t unit = pool->layout.segment_size;
	uint64_t bytes = lb_pool_bytes(pool);
	uint64_t end;

	if (size == 0 || size % unit != 0 || offset % unit != 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%s of %" PRIu64 " bytes at offset %" PRIu64
			       ": both must be multiples of the segment size "
			       "of %" PRIu64 ", and the size not 0",
			       what, size, offset, unit);
	if (!bs_add(offset, size, &end) || end > bytes)
		return bs_fail(PS_OUT_OF_RANGE,
			       "%s of %" PRIu64 " bytes at offset %" PRIu64
			       " does not lie in the pool of %" PRIu64 " bytes",
			       what, size, offset, bytes);
	return PS_OK;
}
