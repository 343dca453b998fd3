/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/pretend.h"

#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "base/status.h"
#include "tests/support/harness.h"

struct fence {
	bool all;
	uint64_t stream;
	uint64_t marks[TP_STREAMS];
};

static void must_hold_no_lock(struct tp_world *world)
{
	if (!bs_rank_none_held())
		atomic_fetch_add(&world->broken_rules, 1);
}

/* ---- room ---- */

static bool may_give(const struct tp_world *world, unsigned int i,
		     uint64_t stream)
{
	return i < world->segments && !world->given[i] &&
	       (world->homes[i] == AL_STREAM_NONE || world->homes[i] == stream);
}

/* The first run of @wanted segments, or the longest. */
static unsigned int find_run(const struct tp_world *world, uint64_t stream,
			     unsigned int wanted, unsigned int *start_out)
{
	unsigned int best = 0;

	for (unsigned int i = 0; i < world->segments && best < wanted; i++) {
		unsigned int n = 0;

		while (n < wanted && may_give(world, i + n, stream) &&
		       world->homes[i + n] == world->homes[i])
			n++;
		if (n > best) {
			best = n;
			*start_out = i;
		}
	}
	return best;
}

static enum ps_status grow(void *owner, uint64_t bytes, uint64_t stream,
			   struct al_span *span_out)
{
	struct tp_world *world = owner;
	unsigned int wanted = TP_SEGMENTS, start = 0, n;

	must_hold_no_lock(world);
	if (bytes < TP_SEGMENTS * TP_SEGMENT)
		wanted = (unsigned int)((bytes + TP_SEGMENT - 1) / TP_SEGMENT);
	if (world->grow_status != PS_OK)
		return bs_fail(world->grow_status, "pretend: no more");
	pthread_mutex_lock(&world->mutex);
	n = find_run(world, stream, wanted, &start);
	for (unsigned int i = 0; i < n; i++)
		world->given[start + i] = true;
	if (n > 0)
		*span_out = (struct al_span){ .offset = start * TP_SEGMENT,
					      .size = n * TP_SEGMENT,
					      .home = world->homes[start] };
	pthread_mutex_unlock(&world->mutex);
	return n > 0 ? PS_OK : PS_OUT_OF_MEMORY;
}

static enum ps_status grow_late(void *owner, uint64_t bytes, uint64_t stream,
				struct al_span *span_out)
{
	struct tp_world *world = owner;

	pthread_mutex_lock(&world->mutex);
	world->segments += world->late;
	world->late = 0;
	pthread_mutex_unlock(&world->mutex);
	return grow(owner, bytes, stream, span_out);
}

static void shrink(void *owner, const struct al_span *span)
{
	struct tp_world *world = owner;

	must_hold_no_lock(world);
	pthread_mutex_lock(&world->mutex);
	for (uint64_t at = 0; at < span->size; at += TP_SEGMENT) {
		uint64_t i = (span->offset + at) / TP_SEGMENT;

		if (!world->given[i] || span->offset % TP_SEGMENT != 0)
			atomic_fetch_add(&world->broken_rules, 1);
		world->given[i] = false;
	}
	pthread_mutex_unlock(&world->mutex);
}

/* ---- fences ---- */

static bool covers(const struct fence *fence, uint64_t stream)
{
	return fence->all || fence->stream == stream;
}

static enum ps_status fence_record(void *owner, uint64_t stream,
				   void **fence_out)
{
	struct tp_world *world = owner;
	struct fence *fence;

	must_hold_no_lock(world);
	if (stream < TP_STREAMS && world->dead[stream])
		atomic_fetch_add(&world->broken_rules, 1);
	if (world->capturing ||
	    (stream < TP_STREAMS && world->captures[stream]))
		return PS_AGAIN;
	if (world->lost)
		return bs_fail(PS_DEVICE_LOST, "pretend: lost");
	fence = calloc(1, sizeof(*fence));
	fence->all = stream == AL_STREAM_NONE;
	fence->stream = stream;
	for (unsigned int s = 0; s < TP_STREAMS; s++)
		fence->marks[s] = atomic_load(&world->submitted[s]);
	pthread_mutex_lock(&world->mutex);
	world->fences++;
	pthread_mutex_unlock(&world->mutex);
	*fence_out = fence;
	return PS_OK;
}

static enum ps_status fence_poll(void *owner, void *handle)
{
	struct tp_world *world = owner;
	struct fence *fence = handle;

	must_hold_no_lock(world);
	if (world->lost)
		return bs_fail(PS_DEVICE_LOST, "pretend: lost");
	for (unsigned int s = 0; s < TP_STREAMS; s++)
		if (covers(fence, s) &&
		    atomic_load(&world->done[s]) < fence->marks[s])
			return PS_AGAIN;
	return PS_OK;
}

/* Waiting lets the time pass that the fence needs. */
static enum ps_status fence_wait(void *owner, void *handle)
{
	struct tp_world *world = owner;
	struct fence *fence = handle;

	must_hold_no_lock(world);
	if (world->waiting_forbidden)
		atomic_fetch_add(&world->broken_rules, 1);
	if (world->lost)
		return bs_fail(PS_DEVICE_LOST, "pretend: lost");
	pthread_mutex_lock(&world->mutex);
	world->waits++;
	for (unsigned int s = 0; s < TP_STREAMS; s++)
		if (covers(fence, s) &&
		    atomic_load(&world->done[s]) < fence->marks[s])
			atomic_store(&world->done[s], fence->marks[s]);
	pthread_mutex_unlock(&world->mutex);
	return PS_OK;
}

static void fence_free(void *owner, void *handle)
{
	struct tp_world *world = owner;

	must_hold_no_lock(world);
	free(handle);
	pthread_mutex_lock(&world->mutex);
	world->fences--;
	pthread_mutex_unlock(&world->mutex);
}

/* ---- host memory ---- */

static void *host_alloc(void *owner, size_t bytes)
{
	struct tp_world *world = owner;
	void *memory = NULL;

	pthread_mutex_lock(&world->mutex);
	if (world->host_allocs_left != 0)
		memory = aligned_alloc(128, bytes);
	if (world->host_allocs_left > 0)
		world->host_allocs_left--;
	if (memory)
		world->host_blocks++;
	pthread_mutex_unlock(&world->mutex);
	return memory;
}

static void host_free(void *owner, void *memory)
{
	struct tp_world *world = owner;

	if (!memory)
		return;
	free(memory);
	pthread_mutex_lock(&world->mutex);
	world->host_blocks--;
	pthread_mutex_unlock(&world->mutex);
}

/* ---- the world ---- */

struct al_config tp_config(struct tp_world *world, unsigned int shards)
{
	return (struct al_config){
		.capacity = TP_SEGMENTS * TP_SEGMENT,
		.room_unit = TP_SEGMENT,
		.shards = shards,
		.small_max = TP_SMALL_MAX,
		.ops = { .grow = grow,
			 .shrink = shrink,
			 .fence_record = fence_record,
			 .fence_poll = fence_poll,
			 .fence_wait = fence_wait,
			 .fence_free = fence_free,
			 .host_alloc = host_alloc,
			 .host_free = host_free },
		.owner = world,
	};
}

void tp_init_config(struct tp_world *world, const struct al_config *config,
		    unsigned int segments)
{
	memset(world, 0, sizeof(*world));
	pthread_mutex_init(&world->mutex, NULL);
	world->segments = segments;
	world->host_allocs_left = -1;
	for (unsigned int i = 0; i < TP_SEGMENTS; i++)
		world->homes[i] = AL_STREAM_NONE;
	th_assert_ok(al_new(config, &world->al));
}

void tp_init(struct tp_world *world, unsigned int segments, unsigned int shards)
{
	struct al_config config = tp_config(world, shards);

	tp_init_config(world, &config, segments);
}

void tp_init_late(struct tp_world *world, unsigned int segments)
{
	struct al_config config = tp_config(world, 1);

	config.ops.grow_late = grow_late;
	tp_init_config(world, &config, segments);
}

void tp_abandon(struct tp_world *world)
{
	al_destroy(world->al);
	assert_int_equal(world->fences, 0);
	assert_int_equal(world->host_blocks, 0);
	assert_int_equal(atomic_load(&world->broken_rules), 0);
	pthread_mutex_destroy(&world->mutex);
}

void tp_done(struct tp_world *world)
{
	world->waiting_forbidden = false;
	th_assert_ok(al_check(world->al));
	th_assert_ok(al_clear(world->al));
	th_assert_ok(al_check(world->al));
	assert_int_equal(tp_segments_given(world), 0);
	tp_abandon(world);
}

void tp_submit(struct tp_world *world, uint64_t stream)
{
	atomic_fetch_add(&world->submitted[stream], 1);
}

void tp_finish(struct tp_world *world, uint64_t stream)
{
	uint64_t mark = atomic_load(&world->submitted[stream]);

	pthread_mutex_lock(&world->mutex);
	if (atomic_load(&world->done[stream]) < mark)
		atomic_store(&world->done[stream], mark);
	pthread_mutex_unlock(&world->mutex);
}

void tp_finish_all(struct tp_world *world)
{
	for (unsigned int s = 0; s < TP_STREAMS; s++)
		tp_finish(world, s);
}

unsigned int tp_segments_given(struct tp_world *world)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < TP_SEGMENTS; i++)
		count += world->given[i];
	return count;
}

uint64_t tp_alloc(struct tp_world *world, uint64_t bytes, uint64_t stream)
{
	uint64_t offset = 0;

	th_assert_ok(al_alloc(world->al, bytes, stream, &offset));
	return offset;
}

void tp_free(struct tp_world *world, uint64_t offset, uint64_t stream)
{
	th_assert_ok(al_free(world->al, offset, stream));
}
