/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Random sequences from several threads against a reference that is too
 * simple to be wrong: for each granule of the room, whether a live block has
 * it, and how far each stream must have come before it may be given out.
 */
#include "allocator/allocator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/support/harness.h"
#include "tests/support/pretend.h"

#define NONE AL_STREAM_NONE
#define SEGMENTS 12u
#define GRANULES (SEGMENTS * TP_SEGMENT / AL_GRANULE)
#define BLOCKS 96u /* live at once, for each thread */
#define STEPS 20000u

struct block {
	uint64_t offset;
	uint64_t bytes;
	uint64_t stream;
	bool also[TP_STREAMS]; /* recorded streams */
};

static struct tp_world world;

/* Guarded by its mutex. */
static struct reference {
	pthread_mutex_t mutex;
	bool live[GRANULES];
	uint32_t needs[GRANULES][TP_STREAMS];
	char complaint[160]; /* the first rule that was broken */
} reference;

struct actor {
	pthread_t thread;
	uint64_t random;
	struct block blocks[BLOCKS];
	unsigned int count;
	unsigned long served;
};

static uint64_t roll(struct actor *actor, uint64_t sides)
{
	actor->random ^= actor->random << 13;
	actor->random ^= actor->random >> 7;
	actor->random ^= actor->random << 17;
	return (actor->random >> 8) % sides;
}

static void complain(const char *what, uint64_t granule, uint64_t stream)
{
	if (reference.complaint[0] == '\0')
		snprintf(reference.complaint, sizeof(reference.complaint),
			 "%s: granule %llu, stream %lld", what,
			 (unsigned long long)granule, (long long)stream);
}

/* ---- the reference ---- */

/* Work that is still to be done before @stream may have the granule. */
static bool is_guarded(const uint32_t needs[TP_STREAMS], uint64_t stream)
{
	for (unsigned int s = 0; s < TP_STREAMS; s++)
		if (s != stream && needs[s] > atomic_load(&world.done[s]))
			return true;
	return false;
}

static void reference_alloc(const struct block *block)
{
	uint64_t first = block->offset / AL_GRANULE;
	uint64_t end = first + block->bytes / AL_GRANULE;

	pthread_mutex_lock(&reference.mutex);
	if (end > GRANULES)
		complain("beyond the room", end, NONE);
	for (uint64_t g = first; g < end && g < GRANULES; g++) {
		if (reference.live[g])
			complain("two live blocks overlap", g, block->stream);
		if (is_guarded(reference.needs[g], block->stream))
			complain("reused before its fence", g, block->stream);
		reference.live[g] = true;
	}
	pthread_mutex_unlock(&reference.mutex);
}

/* Before the allocator hears of it: from then on another thread may have the
 * block. */
static void reference_free(const struct block *block, uint64_t stream)
{
	uint64_t first = block->offset / AL_GRANULE;
	uint64_t end = first + block->bytes / AL_GRANULE;
	uint32_t needs[TP_STREAMS] = { 0 };

	for (unsigned int s = 0; s < TP_STREAMS; s++)
		if (stream == NONE || stream == s || block->also[s])
			needs[s] = (uint32_t)atomic_load(&world.submitted[s]);
	pthread_mutex_lock(&reference.mutex);
	for (uint64_t g = first; g < end; g++) {
		reference.live[g] = false;
		memcpy(reference.needs[g], needs, sizeof(needs));
	}
	pthread_mutex_unlock(&reference.mutex);
}

/* ---- what a thread does ---- */

static uint64_t any_stream(struct actor *actor)
{
	return roll(actor, 4) == 0 ? NONE : roll(actor, TP_STREAMS);
}

static uint64_t any_size(struct actor *actor)
{
	uint64_t most = 512ull << roll(actor, 14);

	return 1 + roll(actor, most);
}

static void do_alloc(struct actor *actor)
{
	struct block *block = &actor->blocks[actor->count];

	if (actor->count == BLOCKS)
		return;
	memset(block, 0, sizeof(*block));
	block->stream = any_stream(actor);
	if (al_alloc(world.al, any_size(actor), block->stream,
		     &block->offset) != PS_OK)
		return;
	if (al_usable_size(world.al, block->offset, &block->bytes) != PS_OK)
		complain("a live block is unknown", block->offset, NONE);
	reference_alloc(block);
	actor->count++;
	actor->served++;
}

static void free_block(struct actor *actor, unsigned int i, uint64_t stream)
{
	struct block block = actor->blocks[i];

	actor->blocks[i] = actor->blocks[--actor->count];
	reference_free(&block, stream);
	if (al_free(world.al, block.offset, stream) != PS_OK)
		complain("a live block cannot be freed", block.offset, NONE);
}

static void do_free(struct actor *actor)
{
	unsigned int i;
	uint64_t stream;

	if (actor->count == 0)
		return;
	i = (unsigned int)roll(actor, actor->count);
	stream = actor->blocks[i].stream;
	if (roll(actor, 4) == 0)
		stream = any_stream(actor);
	free_block(actor, i, stream);
}

static void do_record(struct actor *actor)
{
	uint64_t stream = roll(actor, TP_STREAMS);
	struct block *block;

	if (actor->count == 0)
		return;
	block = &actor->blocks[roll(actor, actor->count)];
	if (al_record_stream(world.al, block->offset, stream) == PS_OK)
		block->also[stream] = true;
}

static void do_wrong(struct actor *actor)
{
	struct block *block;

	if (actor->count == 0)
		return;
	block = &actor->blocks[roll(actor, actor->count)];
	if (block->bytes > AL_GRANULE &&
	    al_free(world.al, block->offset + AL_GRANULE, NONE) == PS_OK)
		complain("an interior pointer was freed", block->offset, NONE);
}

static void do_rare(struct actor *actor)
{
	uint64_t released;

	switch (roll(actor, 3)) {
	case 0:
		al_trim(world.al, roll(actor, SEGMENTS) * TP_SEGMENT,
			&released);
		break;
	case 1:
		al_drop_stream(world.al, roll(actor, TP_STREAMS));
		break;
	default:
		if (al_check(world.al) != PS_OK)
			complain(bs_fail_text(), 0, NONE);
	}
}

static void step(struct actor *actor)
{
	uint64_t what = roll(actor, 1000);

	if (what < 400)
		do_alloc(actor);
	else if (what < 740)
		do_free(actor);
	else if (what < 780)
		do_record(actor);
	else if (what < 900)
		tp_submit(&world, roll(actor, TP_STREAMS));
	else if (what < 980)
		tp_finish(&world, roll(actor, TP_STREAMS));
	else if (what < 997)
		do_wrong(actor);
	else
		do_rare(actor);
}

static void *act(void *arg)
{
	struct actor *actor = arg;
	unsigned long steps = (unsigned long)STEPS * th_soak_factor();

	for (unsigned long i = 0; i < steps; i++)
		step(actor);
	while (actor->count > 0)
		free_block(actor, 0, any_stream(actor));
	return NULL;
}

static void run(unsigned int threads, unsigned int shards, uint64_t seed)
{
	struct actor *actors = calloc(threads, sizeof(*actors));
	unsigned long served = 0;

	memset(&reference, 0, sizeof(reference));
	pthread_mutex_init(&reference.mutex, NULL);
	tp_init(&world, SEGMENTS, shards);
	for (unsigned int i = 0; i < threads; i++) {
		actors[i].random = seed * 1000003 + i + 1;
		assert_int_equal(pthread_create(&actors[i].thread, NULL, act,
						&actors[i]),
				 0);
	}
	for (unsigned int i = 0; i < threads; i++) {
		pthread_join(actors[i].thread, NULL);
		served += actors[i].served;
	}
	free(actors);
	assert_string_equal(reference.complaint, "");
	assert_true(served > threads * STEPS / 10);
	tp_done(&world);
	pthread_mutex_destroy(&reference.mutex);
}

static void test_model_one_thread_keeps_every_rule(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++)
		run(1, 1, seed);
}

static void test_model_four_threads_keep_every_rule(void **state)
{
	(void)state;
	for (uint64_t seed = 11; seed <= 13; seed++)
		run(4, 4, seed);
}

static void test_model_threads_sharing_a_shard_keep_every_rule(void **state)
{
	(void)state;
	run(4, 1, 21);
}

static const struct th_test tests[] = {
	TH_TEST(test_model_one_thread_keeps_every_rule),
	TH_TEST(test_model_four_threads_keep_every_rule),
	TH_TEST(test_model_threads_sharing_a_shard_keep_every_rule),
};

TH_MAIN("allocator_model", tests)
