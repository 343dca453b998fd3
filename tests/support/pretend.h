/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An owner for the allocator with pretend memory and pretend time: segments
 * are numbers, streams are counters of work submitted and done, and a fence
 * passes when the counters say so. A test moves the time.
 *
 * Every operation checks that it is called without an allocator lock.
 */
#ifndef TESTS_SUPPORT_PRETEND_H
#define TESTS_SUPPORT_PRETEND_H

#include <pthread.h>
#include <stdatomic.h>

#include "allocator/allocator.h"

#define TP_STREAMS 8u
#define TP_SEGMENTS 64u
#define TP_SEGMENT (2ull * 1024 * 1024)
/* Small, so that a small room sees blocks of both kinds. */
#define TP_SMALL_MAX (1024u * 1024u)

struct tp_world {
	pthread_mutex_t mutex;
	struct al_allocator *al;
	unsigned int segments;       /* of them may be given */
	unsigned int late;           /* and that many more, at last */
	uint64_t homes[TP_SEGMENTS]; /* AL_STREAM_NONE or bound */
	bool given[TP_SEGMENTS];
	_Atomic(uint64_t) submitted[TP_STREAMS];
	_Atomic(uint64_t) done[TP_STREAMS];
	bool capturing;            /* fences are refused */
	bool captures[TP_STREAMS]; /* those on one stream are */
	bool dead[TP_STREAMS];     /* a fence on it is a broken rule */
	bool lost;                 /* fences fail */
	bool waiting_forbidden;    /* a wait is a failure */
	unsigned int fences;       /* that exist */
	unsigned int waits;
	long host_blocks;                   /* of the books */
	long host_allocs_left;              /* then none succeeds; -1: no end */
	enum ps_status grow_status;         /* what grow fails with; PS_OK */
	_Atomic(unsigned int) broken_rules; /* called under a lock, ... */
};

/* @segments of room, all for any stream; @shards as in al_config. */
void tp_init(struct tp_world *world, unsigned int segments,
	     unsigned int shards);
/* The same with another configuration than tp_config()'s. */
void tp_init_config(struct tp_world *world, const struct al_config *config,
		    unsigned int segments);
/* The same with an owner that finds world->late segments more at last. */
void tp_init_late(struct tp_world *world, unsigned int segments);
/* Clears the allocator, checks that all came back, and destroys it. */
void tp_done(struct tp_world *world);
/* The same for a test that leaves blocks on purpose. */
void tp_abandon(struct tp_world *world);

/* A configuration for al_new() with this world behind it. */
struct al_config tp_config(struct tp_world *world, unsigned int shards);

/* One more piece of work on a stream; and all that was submitted is done. */
void tp_submit(struct tp_world *world, uint64_t stream);
void tp_finish(struct tp_world *world, uint64_t stream);
void tp_finish_all(struct tp_world *world);

unsigned int tp_segments_given(struct tp_world *world);

/* Allocate and free that must succeed. */
uint64_t tp_alloc(struct tp_world *world, uint64_t bytes, uint64_t stream);
void tp_free(struct tp_world *world, uint64_t offset, uint64_t stream);

#endif /* TESTS_SUPPORT_PRETEND_H */
