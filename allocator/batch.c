/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "allocator/batch.h"

#include "allocator/room.h"
#include "allocator/shard.h"

/* Fenced frees between two questions after a fence: one costs about as much
 * as ten frees. */
#define POLL_EVERY 256u

/* ---- the shard's list ---- */

static struct al_batch *batch_new(struct al_shard *shard)
{
	struct al_batch *batch = shard->spare;

	if (batch)
		shard->spare = NULL;
	else
		batch = al_host_alloc(shard->al, sizeof(*batch));
	return batch;
}

static void batch_free(struct al_shard *shard, struct al_batch *batch)
{
	if (shard->spare)
		al_host_free(shard->al, batch);
	else
		shard->spare = batch;
}

enum ps_status al_batch_reserve(struct al_shard *shard)
{
	if (!shard->spare)
		shard->spare = al_host_alloc(shard->al, sizeof(*shard->spare));
	if (!shard->spare)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for a batch of freed blocks");
	return PS_OK;
}

void al_batch_free_all(struct al_shard *shard)
{
	const struct al_ops *ops = &shard->al->config.ops;

	while (shard->batches) {
		struct al_batch *batch = shard->batches;

		shard->batches = batch->next;
		if (batch->fence)
			ops->fence_free(shard->al->config.owner, batch->fence);
		al_host_free(shard->al, batch);
	}
	al_host_free(shard->al, shard->spare);
}

static void list_append(struct al_shard *shard, struct al_batch *batch)
{
	batch->next = NULL;
	if (shard->batches)
		shard->batch_last->next = batch;
	else
		shard->batches = batch;
	shard->batch_last = batch;
}

static void list_remove(struct al_shard *shard, struct al_batch *batch)
{
	struct al_batch *before = NULL;

	for (struct al_batch *b = shard->batches; b != batch; b = b->next)
		before = b;
	if (before)
		before->next = batch->next;
	else
		shard->batches = batch->next;
	if (shard->batch_last == batch)
		shard->batch_last = before;
}

static bool takes_more(const struct al_batch *batch, uint64_t stream)
{
	return batch->state == AL_BATCH_FILLING && batch->stream == stream &&
	       batch->count < AL_BATCH_BLOCKS;
}

static struct al_batch *filling_get(struct al_shard *shard, uint64_t stream)
{
	struct al_batch *batch = shard->filling;

	if (batch && takes_more(batch, stream))
		return batch;
	for (batch = shard->batches; batch; batch = batch->next)
		if (takes_more(batch, stream))
			break;
	if (!batch) {
		batch = batch_new(shard);
		if (!batch)
			return NULL;
		batch->stream = stream;
		batch->state = AL_BATCH_FILLING;
		batch->count = 0;
		batch->bytes = 0;
		batch->order = 0;
		list_append(shard, batch);
	}
	shard->filling = batch;
	return batch;
}

/* How many bytes make a batch full, however few blocks they are. */
static uint64_t full_bytes(const struct al_shard *shard)
{
	uint64_t bytes = shard->al->config.fence_bytes;

	return bytes > 0 ? bytes : UINT64_MAX;
}

static bool is_full(const struct al_batch *batch, uint64_t bytes)
{
	return batch->state == AL_BATCH_FILLING && batch->count > 0 &&
	       (batch->count == AL_BATCH_BLOCKS || batch->bytes >= bytes);
}

enum ps_status al_batch_push(struct al_shard *shard, uint64_t stream,
			     uint64_t offset, uint64_t bytes)
{
	struct al_batch *batch = filling_get(shard, stream);

	if (!batch)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for a batch of freed blocks");
	batch->blocks[batch->count++] = offset;
	batch->bytes += bytes;
	if (is_full(batch, full_bytes(shard)))
		shard->has_full = true;
	shard->pending += bytes;
	shard->ticks++;
	return PS_OK;
}

/* ---- the way home ---- */

/* Where the next stream that has used the block is noted. */
static struct al_use **find_use(struct al_range *range, uint64_t offset)
{
	struct al_use **link = &range->uses;

	while (*link && (*link)->offset != offset)
		link = &(*link)->next;
	return link;
}

/* Moves a block on to the batch of the next stream that has used it. */
static enum ps_status hop(struct al_shard *shard, struct al_range *range,
			  uint64_t offset, uint64_t bytes, bool *hopped_out)
{
	struct al_use **link = find_use(range, offset), *use = *link;
	enum ps_status status;

	*hopped_out = use != NULL;
	if (!use)
		return PS_OK;
	status = al_batch_push(shard, use->stream, offset, bytes);
	if (status != PS_OK)
		return status;
	*link = use->next;
	al_host_free(shard->al, use);
	return PS_OK;
}

static enum ps_status page_block_home(struct al_shard *shard,
				      struct al_range *page, uint64_t offset)
{
	const struct al_class *class = &shard->al->classes[page->class];
	uint64_t bytes = al_class_bytes(class);
	uint32_t index = al_class_index(class, offset - page->offset);
	bool hopped = false;
	enum ps_status status;

	if (page->used & 1ull << index) {
		status = hop(shard, page, offset, bytes, &hopped);
		if (status != PS_OK)
			return status;
	}
	shard->pending -= bytes;
	if (hopped)
		return PS_OK;
	page->used &= ~(1ull << index);
	al_page_give(page, index);
	return PS_OK;
}

static enum ps_status range_home(struct al_shard *shard, struct al_range *range)
{
	struct al_allocator *al = shard->al;
	bool hopped = false;
	enum ps_status status;

	bs_quick_take(&al->room.lock);
	status = hop(shard, range, range->offset, range->size, &hopped);
	if (status == PS_OK) {
		shard->pending -= range->size;
		if (!hopped)
			al_room_give(al, range, AL_STREAM_NONE);
	}
	bs_quick_drop(&al->room.lock);
	return status;
}

static void batch_finish(struct al_shard *shard, struct al_batch *batch)
{
	shard->passed--;
	list_remove(shard, batch);
	if (shard->filling == batch)
		shard->filling = NULL;
	batch_free(shard, batch);
}

/* Sends blocks of one batch home; how many. Stops where a hop fails. */
static unsigned int drain_batch(struct al_shard *shard, struct al_batch *batch,
				unsigned int max)
{
	unsigned int moved = 0;

	while (batch->count > 0 && moved < max) {
		uint64_t offset = batch->blocks[batch->count - 1];
		struct al_range *range = al_map_get(shard->al, offset);
		bool page = al_kind_of(range) == AL_KIND_PAGE;

		if ((page ? page_block_home(shard, range, offset)
			  : range_home(shard, range)) != PS_OK)
			break;
		batch->count--;
		moved++;
	}
	return moved;
}

bool al_batch_drain(struct al_shard *shard, unsigned int max)
{
	struct al_batch *batch = shard->batches, *next;
	unsigned int moved = 0;

	for (; batch && moved < max; batch = next) {
		if (batch->state == AL_BATCH_PASSED)
			moved += drain_batch(shard, batch, max - moved);
		next = batch->next; /* a hop may have added one */
		if (batch->state == AL_BATCH_PASSED && batch->count == 0 &&
		    batch->askers == 0)
			batch_finish(shard, batch);
	}
	if (moved > 0)
		al_happened(shard->al);
	return moved > 0;
}

/* ---- fences ---- */

unsigned int al_mover_begin(struct al_allocator *al)
{
	struct al_movers *movers = &al->movers;
	unsigned int phase;

	bs_lock_take(&movers->lock);
	phase = movers->phase;
	movers->count[phase]++;
	bs_lock_drop(&movers->lock);
	return phase;
}

void al_mover_end(struct al_allocator *al, unsigned int phase)
{
	struct al_movers *movers = &al->movers;

	bs_lock_take(&movers->lock);
	if (--movers->count[phase] == 0)
		pthread_cond_broadcast(&movers->gone);
	bs_lock_drop(&movers->lock);
}

static void wait_for_phase(struct al_movers *movers, unsigned int phase)
{
	while (movers->count[phase] > 0)
		pthread_cond_wait(&movers->gone, &movers->lock.mutex);
}

/* Those that begin from now on do so in the other phase, so that the wait
 * ends however many come. */
void al_movers_wait(struct al_allocator *al)
{
	struct al_movers *movers = &al->movers;
	unsigned int phase;

	bs_lock_take(&movers->lock);
	wait_for_phase(movers, !movers->phase);
	phase = movers->phase;
	movers->phase = !phase;
	wait_for_phase(movers, phase);
	bs_lock_drop(&movers->lock);
}

/* Takes the shard's lock, records, and leaves the batch guarded, or filling
 * when that failed. pre: state RECORDING, set by the caller. */
static enum ps_status record(struct al_shard *shard, struct al_batch *batch)
{
	struct al_allocator *al = shard->al;
	void *fence = NULL;
	enum ps_status status;

	status = al->config.ops.fence_record(al->config.owner, batch->stream,
					     &fence);
	bs_quick_take(&shard->lock);
	if (status == PS_OK) {
		batch->fence = fence;
		batch->order = atomic_fetch_add(&al->order, 1);
		batch->state = AL_BATCH_GUARDED;
		shard->guarded++;
		shard->fences++;
		al_happened(al);
	} else {
		batch->state = AL_BATCH_FILLING;
	}
	bs_quick_drop(&shard->lock);
	return status;
}

/* @arg: a stream, or what the test wants. */
typedef bool batch_test(const struct al_batch *batch, uint64_t arg);

static bool is_filling(const struct al_batch *batch, uint64_t stream)
{
	(void)stream;
	return batch->state == AL_BATCH_FILLING && batch->count > 0;
}

static bool is_filling_for(const struct al_batch *batch, uint64_t stream)
{
	return is_filling(batch, stream) && batch->stream == stream;
}

/* The next batch that passes @test and was not tried in this pass. */
static struct al_batch *claim(struct al_shard *shard, batch_test *test,
			      uint64_t arg, uint64_t pass)
{
	struct al_batch *batch;

	bs_quick_take(&shard->lock);
	batch = shard->batches;
	while (batch && (!test(batch, arg) || batch->order == pass))
		batch = batch->next;
	if (batch) {
		batch->state = AL_BATCH_RECORDING;
		batch->order = pass;
	}
	bs_quick_drop(&shard->lock);
	return batch;
}

/* Records the fence of every batch that passes @test. One that cannot be (its
 * stream captures) does not keep the others from it. */
static enum ps_status record_where(struct al_shard *shard, batch_test *test,
				   uint64_t arg)
{
	uint64_t pass = atomic_fetch_add(&shard->al->order, 1);
	unsigned int phase = al_mover_begin(shard->al);
	enum ps_status result = PS_OK, status;
	struct al_batch *batch;

	while ((batch = claim(shard, test, arg, pass)) != NULL) {
		status = record(shard, batch);
		if (result == PS_OK)
			result = status;
	}
	al_mover_end(shard->al, phase);
	return result;
}

bool al_batch_is_open(const struct al_shard *shard, uint64_t stream)
{
	const struct al_batch *batch = shard->batches;

	while (batch && (batch->stream != stream || batch->count == 0 ||
			 batch->state == AL_BATCH_GUARDED ||
			 batch->state == AL_BATCH_PASSED))
		batch = batch->next;
	return batch != NULL;
}

enum ps_status al_batch_record_all(struct al_shard *shard)
{
	return record_where(shard, is_filling, 0);
}

enum ps_status al_batch_record_stream(struct al_shard *shard, uint64_t stream)
{
	return record_where(shard, is_filling_for, stream);
}

/* The first guarded batch recorded at @order or later. Held by askers. */
static struct al_batch *ask_begin(struct al_shard *shard, uint64_t order)
{
	struct al_batch *found = NULL;

	bs_quick_take(&shard->lock);
	if (shard->guarded > 0)
		for (struct al_batch *b = shard->batches; b; b = b->next)
			if (b->state == AL_BATCH_GUARDED && b->order >= order &&
			    (!found || b->order < found->order))
				found = b;
	if (found)
		found->askers++;
	bs_quick_drop(&shard->lock);
	return found;
}

/* The last one to ask after a passed fence frees it. */
static void ask_end(struct al_shard *shard, struct al_batch *batch,
		    enum ps_status answer)
{
	struct al_allocator *al = shard->al;
	void *fence = NULL;

	bs_quick_take(&shard->lock);
	if (answer == PS_OK && batch->state == AL_BATCH_GUARDED) {
		batch->state = AL_BATCH_PASSED;
		shard->guarded--;
		shard->passed++;
		al_happened(al);
	}
	if (--batch->askers == 0 && batch->state == AL_BATCH_PASSED) {
		fence = batch->fence;
		batch->fence = NULL;
		if (batch->count == 0)
			batch_finish(shard, batch);
	}
	bs_quick_drop(&shard->lock);
	if (fence)
		al->config.ops.fence_free(al->config.owner, fence);
}

static void poll(struct al_shard *shard)
{
	struct al_allocator *al = shard->al;
	struct al_batch *batch;
	uint64_t order = 0;

	while ((batch = ask_begin(shard, order)) != NULL) {
		order = batch->order + 1;
		ask_end(shard, batch,
			al->config.ops.fence_poll(al->config.owner,
						  batch->fence));
	}
}

bool al_batch_needs_tending(struct al_shard *shard)
{
	return shard->has_full ||
	       (shard->guarded > 0 && shard->ticks % POLL_EVERY == 0);
}

void al_batch_tend(struct al_shard *shard)
{
	bs_quick_take(&shard->lock);
	shard->has_full = false;
	bs_quick_drop(&shard->lock);
	record_where(shard, is_full, full_bytes(shard));
	poll(shard);
}

bool al_batch_reap(struct al_allocator *al)
{
	bool moved = false;

	for (unsigned int i = 0; i <= al->shard_mask; i++) {
		struct al_shard *shard = &al->shards[i];

		al_batch_record_all(shard);
		poll(shard);
		bs_quick_take(&shard->lock);
		if (al_batch_drain(shard, UINT32_MAX))
			moved = true;
		bs_quick_drop(&shard->lock);
	}
	return moved;
}

/* The shard that holds the oldest fence, and when it was recorded. */
static struct al_shard *find_oldest(struct al_allocator *al,
				    uint64_t *order_out)
{
	struct al_shard *found = NULL;

	for (unsigned int i = 0; i <= al->shard_mask; i++) {
		struct al_shard *shard = &al->shards[i];

		bs_quick_take(&shard->lock);
		for (struct al_batch *b = shard->batches; b; b = b->next) {
			if (b->state != AL_BATCH_GUARDED)
				continue;
			if (!found || b->order < *order_out) {
				found = shard;
				*order_out = b->order;
			}
		}
		bs_quick_drop(&shard->lock);
	}
	return found;
}

enum ps_status al_batch_wait_oldest(struct al_allocator *al)
{
	uint64_t order = 0;
	struct al_shard *shard = find_oldest(al, &order);
	struct al_batch *batch = shard ? ask_begin(shard, order) : NULL;
	enum ps_status status;

	if (!shard)
		return PS_AGAIN;
	if (!batch) /* another thread was faster */
		return PS_OK;
	status = al->config.ops.fence_wait(al->config.owner, batch->fence);
	ask_end(shard, batch, status);
	bs_quick_take(&shard->lock);
	shard->fence_waits++;
	bs_quick_drop(&shard->lock);
	return status == PS_AGAIN ? PS_DRIVER : status;
}
