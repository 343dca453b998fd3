/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory: the allocator's calls with pointers instead of offsets.
 *
 * The hot calls do nothing but the check at the door (lib/process.h), the
 * allocator's own work, and an addition.
 */
#include "lib/pool.h"

#include "base/arith.h"
#include "base/status.h"
#include "lib/lease.h"
#include "lib/process.h"
#include "lib/stream.h"

#include <inttypes.h>
#include <string.h>

static inline uint64_t offset_of(const struct ps_pool *pool, const void *ptr)
{
	return (uint64_t)(uintptr_t)ptr - pool->base;
}

static __attribute__((cold)) enum ps_status
name_pointer(const struct ps_pool *pool, const void *ptr, enum ps_status status)
{
	if (offset_of(pool, ptr) >= pool->window)
		return bs_fail(PS_NOT_OURS,
			       "%p is not in the pool's window, %#" PRIx64
			       " to %#" PRIx64 ": free it where it came from",
			       ptr, pool->base, pool->base + pool->window);
	return bs_fail_prefix(status, "pointer %p", ptr);
}

static inline bool is_stream(const void *stream)
{
	return __builtin_expect(stream != PS_ANY_STREAM, 1);
}

static __attribute__((cold)) enum ps_status refuse_stream(void)
{
	return bs_fail(PS_INVALID_ARGUMENT,
		       "PS_ANY_STREAM is no stream: use ps_mem_alloc() and "
		       "ps_mem_free() for memory that any stream may use");
}

static inline enum ps_status alloc(struct ps_pool *pool, size_t size,
				   uint64_t stream, void **ptr_out)
{
	uint64_t offset;
	enum ps_status status = al_alloc(pool->al, size, stream, &offset);

	if (__builtin_expect(status == PS_OK, 1)) {
		*ptr_out = (void *)(uintptr_t)(pool->base + offset);
		return PS_OK;
	}
	return pool->lease == NULL ? status : lb_lease_explain(pool, status);
}

static inline enum ps_status free_block(struct ps_pool *pool, void *ptr,
					uint64_t stream)
{
	uint64_t offset = offset_of(pool, ptr);
	enum ps_status status = PS_NOT_OURS;

	if (__builtin_expect(offset < pool->window, 1))
		status = al_free(pool->al, offset, stream);
	if (__builtin_expect(status == PS_OK, 1))
		return PS_OK;
	return name_pointer(pool, ptr, status);
}

enum ps_status ps_mem_alloc(struct ps_pool *pool, size_t size, void **ptr_out)
{
	struct ps_pool *p = lb_enter(pool);

	if (p == NULL)
		return lb_refuse(pool);
	return alloc(p, size, AL_STREAM_NONE, ptr_out);
}

enum ps_status ps_mem_alloc_async(struct ps_pool *pool, size_t size,
				  void *stream, void **ptr_out)
{
	struct ps_pool *p = lb_enter(pool);

	if (p == NULL)
		return lb_refuse(pool);
	if (!is_stream(stream))
		return refuse_stream();
	return alloc(p, size, lb_stream_number(stream), ptr_out);
}

enum ps_status ps_mem_alloc_pitch(struct ps_pool *pool, size_t width,
				  size_t height, size_t *pitch_out,
				  void **ptr_out)
{
	uint64_t pitch, size;
	enum ps_status status;

	if (width == 0 || height == 0 ||
	    !bs_round_up(width, AL_GRANULE, &pitch) ||
	    !bs_mul(pitch, height, &size))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%zu rows of %zu bytes: neither may be 0, and "
			       "the product must fit 64 bits",
			       height, width);
	status = ps_mem_alloc(pool, size, ptr_out);
	if (status == PS_OK)
		*pitch_out = pitch;
	return status;
}

/* While a stream captures nobody waits: the block does, behind a fence. */
static __attribute__((cold)) enum ps_status wait_and_free(struct ps_pool *pool,
							  void *ptr)
{
	enum ps_status status = lb_room_synchronize(pool);

	if (status != PS_OK && status != PS_AGAIN)
		return status;
	return free_block(pool, ptr, AL_STREAM_NONE);
}

enum ps_status ps_mem_free(struct ps_pool *pool, void *ptr)
{
	struct ps_pool *p = lb_enter(pool);

	if (p == NULL)
		return lb_refuse(pool);
	if (ptr == NULL)
		return PS_OK;
	if (atomic_load_explicit(&p->free_mode, memory_order_relaxed) ==
	    PS_FREE_WAITS)
		return wait_and_free(p, ptr);
	return free_block(p, ptr, AL_STREAM_NONE);
}

enum ps_status ps_mem_free_async(struct ps_pool *pool, void *ptr, void *stream)
{
	struct ps_pool *p = lb_enter(pool);

	if (p == NULL)
		return lb_refuse(pool);
	if (ptr == NULL)
		return PS_OK;
	if (!is_stream(stream))
		return refuse_stream();
	return free_block(p, ptr, lb_stream_number(stream));
}

enum ps_status ps_mem_record_stream(struct ps_pool *pool, void *ptr,
				    void *stream)
{
	struct ps_pool *p = lb_enter(pool);
	enum ps_status status = PS_NOT_OURS;

	if (p == NULL)
		return lb_refuse(pool);
	if (!is_stream(stream))
		return refuse_stream();
	if (offset_of(p, ptr) < p->window)
		status = al_record_stream(p->al, offset_of(p, ptr),
					  lb_stream_number(stream));
	return status == PS_OK ? PS_OK : name_pointer(p, ptr, status);
}

enum ps_status ps_mem_drop_stream(struct ps_pool *pool, void *stream)
{
	struct ps_pool *p = lb_enter(pool);

	if (p == NULL)
		return lb_refuse(pool);
	if (!is_stream(stream))
		return refuse_stream();
	if (lb_stream_is_default(stream))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%p is a default stream, which is never "
			       "destroyed",
			       stream);
	return al_drop_stream(p->al, lb_stream_number(stream));
}

enum ps_status ps_mem_usable_size(struct ps_pool *pool, const void *ptr,
				  size_t *size_out)
{
	struct ps_pool *p = lb_enter(pool);
	enum ps_status status = PS_NOT_OURS;
	uint64_t bytes;

	if (p == NULL)
		return lb_refuse(pool);
	if (offset_of(p, ptr) < p->window)
		status = al_usable_size(p->al, offset_of(p, ptr), &bytes);
	if (status != PS_OK)
		return name_pointer(p, ptr, status);
	*size_out = bytes;
	return PS_OK;
}

enum ps_status ps_mem_set_free_mode(struct ps_pool *pool,
				    enum ps_free_mode mode)
{
	struct ps_pool *p = lb_enter(pool);

	if (p == NULL)
		return lb_refuse(pool);
	if (mode != PS_FREE_FENCED && mode != PS_FREE_WAITS)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%d is no way to free: use PS_FREE_FENCED or "
			       "PS_FREE_WAITS",
			       (int)mode);
	atomic_store_explicit(&p->free_mode, (int)mode, memory_order_relaxed);
	return PS_OK;
}

enum ps_status ps_mem_hold_fences(struct ps_pool *pool, bool hold)
{
	struct ps_pool *p = lb_enter(pool);

	if (p == NULL)
		return lb_refuse(pool);
	if (hold)
		lb_room_hold_fences(p);
	else if (!lb_room_release_fences(p))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "no hold is left to be released: fences are "
			       "recorded already");
	return PS_OK;
}

bool ps_mem_is_inside(const struct ps_pool *pool, const void *ptr)
{
	const struct ps_pool *p = lb_look(pool);

	return p != NULL && offset_of(p, ptr) < p->window;
}

enum ps_status ps_mem_trim(struct ps_pool *pool, uint64_t keep,
			   uint64_t *released_out)
{
	struct ps_pool *p = lb_enter(pool);
	enum ps_status status;
	uint64_t released;

	if (p == NULL)
		return lb_refuse(pool);
	bs_lock_take(&p->lock);
	p->unmap_status = PS_OK;
	bs_lock_drop(&p->lock);
	status = al_trim(p->al, keep, &released);
	if (status != PS_OK)
		return status;
	if (p->lease != NULL)
		released = lb_lease_return(p);
	bs_lock_take(&p->lock);
	status = p->unmap_status;
	bs_lock_drop(&p->lock);
	if (status == PS_OK)
		*released_out = released;
	return status;
}

enum ps_status ps_mem_check(struct ps_pool *pool)
{
	struct ps_pool *p = lb_enter(pool);

	return p == NULL ? lb_refuse(pool) : al_check(p->al);
}

/* ---- copies ---- */

static enum ps_status check_model(struct ps_pool *pool, uint64_t offset,
				  uint64_t size, enum lb_access needed)
{
	const struct lb_model_ops *ops = lb_model_ops_of(pool->lease);

	if (ops == NULL ||
	    !ops->is_mapped(pool->lease, pool->base + offset, size))
		return PS_OUT_OF_RANGE;
	return needed == LB_ACCESS_WRITE ? PS_READ_ONLY : PS_OK;
}

/* Every slot under [offset, offset + size) is mapped and may be used so. */
static enum ps_status check_copy(struct ps_pool *pool, uint64_t offset,
				 uint64_t size, enum lb_access needed)
{
	uint64_t unit = pool->layout.segment_size;
	enum ps_status status = PS_OK;

	if ((offset + size - 1) / unit >= pool->slots)
		return check_model(pool, offset, size, needed);
	bs_lock_take(&pool->lock);
	for (uint64_t i = offset / unit; i <= (offset + size - 1) / unit; i++) {
		const struct lb_slot *slot = &pool->slot[i];

		if (!slot->mapped)
			status = PS_OUT_OF_RANGE;
		else if (pool->segments[slot->segment].access < needed)
			status = PS_READ_ONLY;
		if (status != PS_OK)
			break;
	}
	bs_lock_drop(&pool->lock);
	return status;
}

static enum ps_status check_access(struct ps_pool *pool, const void *ptr,
				   size_t size, enum lb_access needed)
{
	uint64_t offset = offset_of(pool, ptr);
	enum ps_status status;
	uint64_t end;

	if (offset >= pool->window || !bs_add(offset, size, &end) ||
	    end > pool->window)
		return bs_fail(PS_OUT_OF_RANGE,
			       "%zu bytes at %p do not lie in the pool's "
			       "window, %#" PRIx64 " to %#" PRIx64,
			       size, ptr, pool->base,
			       pool->base + pool->window);
	status = check_copy(pool, offset, size, needed);
	if (status == PS_OUT_OF_RANGE)
		bs_fail(status,
			"%zu bytes at %p are not all mapped here: map them "
			"with ps_pool_map() first",
			size, ptr);
	if (status == PS_READ_ONLY)
		bs_fail(status,
			"%zu bytes at %p were shared read-only: let the "
			"pool's owner write them",
			size, ptr);
	return status;
}

/* @p: what lb_enter() made of @pool. */
static enum ps_status check_call(struct ps_pool *p, const struct ps_pool *pool,
				 const void *at, size_t size,
				 enum lb_access needed)
{
	enum ps_status status;

	if (p == NULL)
		return lb_refuse(pool);
	status = lb_lease_check(p);
	if (status != PS_OK || size == 0)
		return status;
	return check_access(p, at, size, needed);
}

enum ps_status ps_mem_write(struct ps_pool *pool, void *dst, const void *src,
			    size_t size)
{
	struct ps_pool *p = lb_enter(pool);
	enum ps_status status = check_call(p, pool, dst, size, LB_ACCESS_WRITE);

	if (status != PS_OK || size == 0)
		return status;
	return dv_copy_in(p->device, (uint64_t)(uintptr_t)dst, src, size);
}

enum ps_status ps_mem_read(struct ps_pool *pool, void *dst, const void *src,
			   size_t size)
{
	struct ps_pool *p = lb_enter(pool);
	enum ps_status status = check_call(p, pool, src, size, LB_ACCESS_READ);

	if (status != PS_OK || size == 0)
		return status;
	return dv_copy_out(p->device, dst, (uint64_t)(uintptr_t)src, size);
}
