/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Several threads at once, each with its own live blocks and its own stream.
 * Blocks that another thread is to free travel through a ring from each lane
 * to the next: one writer, one reader, no lock of ours in the way.
 */

#include "bench/alloc.h"

#include "base/status.h"
#include "bench/gpu.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* All lanes of the widest run together hold 10,000 blocks. */
#define LANES_MAX 8u
#define LANE_LIVE 1250u
#define QUICK_LANE_LIVE 50u
#define LANE_PAIRS 65536u
#define LARGEST (UINT64_C(1) << 30)
/* A small simulated GPU has no room for many large blocks. */
#define QUICK_LARGEST (UINT64_C(1) << 24)
/* Blocks under way between two lanes, at most. */
#define RING 64u
#define TENTH 10u
/* Also by a thread that got no processor while time was measured. */
#define LEAST_PAIRS 16u
#define FILL_LIMIT_NS 6000000000u

enum phase {
	PHASE_WARM,
	PHASE_MEASURE,
	PHASE_STOP,
};

struct handed {
	uint64_t ptr;
	void *stream; /* on which it was allocated */
};

struct ring {
	_Alignas(64) atomic_uint written;
	_Alignas(64) atomic_uint taken;
	struct handed entry[RING];
};

struct crew;

struct lane {
	_Alignas(64) struct crew *crew;
	struct lane *next; /* frees a tenth of our blocks */
	pthread_t thread;
	void *stream;
	struct bn_workload work;
	uint64_t ptr[LANE_LIVE];
	struct ring inbox;
	uint64_t pairs; /* while measured */
	uint64_t start_ns;
	uint64_t end_ns;
	bool ok;
};

struct crew {
	const struct bn_subject *subject;
	enum bn_frees frees;
	unsigned int count;
	pthread_barrier_t ready;
	atomic_int phase;
	atomic_bool slow;
	struct lane lane[LANES_MAX];
};

static bool ring_put(struct ring *ring, struct handed block)
{
	unsigned int written =
		atomic_load_explicit(&ring->written, memory_order_relaxed);
	unsigned int taken =
		atomic_load_explicit(&ring->taken, memory_order_acquire);

	if (written - taken == RING)
		return false;
	ring->entry[written % RING] = block;
	atomic_store_explicit(&ring->written, written + 1,
			      memory_order_release);
	return true;
}

static bool ring_take(struct ring *ring, struct handed *block_out)
{
	unsigned int taken =
		atomic_load_explicit(&ring->taken, memory_order_relaxed);
	unsigned int written =
		atomic_load_explicit(&ring->written, memory_order_acquire);

	if (written == taken)
		return false;
	*block_out = ring->entry[taken % RING];
	atomic_store_explicit(&ring->taken, taken + 1, memory_order_release);
	return true;
}

static bool free_handed(const struct lane *lane, const struct handed *block)
{
	void *stream = lane->crew->frees == BN_FREES_TENTH_THERE ? block->stream
								 : lane->stream;

	return lane->crew->subject->free(stream, block->ptr);
}

/* Hands our block to the next lane and frees one of the lane before us. */
static bool free_across(struct lane *lane, uint64_t ptr)
{
	struct handed mine = { ptr, lane->stream };
	struct handed theirs;

	if (!ring_put(&lane->next->inbox, mine) && !free_handed(lane, &mine))
		return false;
	if (!ring_take(&lane->inbox, &theirs))
		return true;
	return free_handed(lane, &theirs);
}

static inline bool swap(struct lane *lane, uint64_t i)
{
	const struct bn_subject *subject = lane->crew->subject;
	const struct bn_pair *pair = &lane->work.pair[i % LANE_PAIRS];
	uint64_t *ptr = &lane->ptr[pair->slot];
	uint64_t old = *ptr;
	bool ok;

	*ptr = 0;
	if (lane->crew->frees != BN_FREES_OWN && i % TENTH == 0)
		ok = free_across(lane, old);
	else
		ok = subject->free(lane->stream, old);
	return ok && subject->alloc(lane->stream,
				    (uint64_t)pair->granules * BN_GRANULE, ptr);
}

static bool fill(struct lane *lane)
{
	uint64_t limit = bn_now_ns() + FILL_LIMIT_NS;

	for (uint32_t i = 0; i < lane->work.live; i++) {
		if (!lane->crew->subject->alloc(lane->stream,
						(uint64_t)lane->work.fill[i] *
							BN_GRANULE,
						&lane->ptr[i]))
			return false;
		if (!lane->crew->subject->ours && bn_now_ns() > limit) {
			atomic_store(&lane->crew->slow, true);
			return true;
		}
	}
	return true;
}

static bool run(struct lane *lane)
{
	struct crew *crew = lane->crew;
	uint64_t measured_from = 0;
	uint64_t i = 0;
	int phase;

	for (;;) {
		phase = atomic_load_explicit(&crew->phase,
					     memory_order_relaxed);
		if (phase != PHASE_WARM && lane->start_ns == 0) {
			lane->start_ns = bn_now_ns();
			measured_from = i;
		}
		if (phase == PHASE_STOP && i - measured_from >= LEAST_PAIRS)
			break;
		if (!swap(lane, i))
			return false;
		i++;
	}
	lane->end_ns = bn_now_ns();
	lane->pairs = i - measured_from;
	return true;
}

static bool drain(struct lane *lane)
{
	struct handed block;
	bool ok = true;

	for (uint32_t i = 0; i < lane->work.live; i++) {
		if (lane->ptr[i] != 0 &&
		    !lane->crew->subject->free(lane->stream, lane->ptr[i]))
			ok = false;
	}
	while (ring_take(&lane->inbox, &block))
		ok = free_handed(lane, &block) && ok;
	return ok;
}

/* A lane that fails goes on to the barriers: the others wait there. */
static void *lane_main(void *arg)
{
	struct lane *lane = arg;
	struct crew *crew = lane->crew;

	lane->ok = bn_gpu_enter() && fill(lane);
	pthread_barrier_wait(&crew->ready);
	if (lane->ok && !atomic_load(&crew->slow))
		lane->ok = run(lane);
	pthread_barrier_wait(&crew->ready);
	lane->ok = drain(lane) && lane->ok;
	pthread_barrier_wait(&crew->ready);
	if (!lane->ok)
		bn_complain("a thread of %s", crew->subject->name);
	return NULL;
}

static void let_pass(uint64_t ns)
{
	struct timespec span = { .tv_sec = (time_t)(ns / 1000000000u),
				 .tv_nsec = (long)(ns % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &span, &span) == EINTR)
		;
}

static bool prepare_lane(struct crew *crew, unsigned int i,
			 const struct bn_options *options)
{
	uint32_t live = options->quick ? QUICK_LANE_LIVE : LANE_LIVE;
	uint64_t largest = options->quick ? QUICK_LARGEST : LARGEST;
	struct lane *lane = &crew->lane[i];

	lane->crew = crew;
	lane->next = &crew->lane[(i + 1) % crew->count];
	if (!bn_workload_init(&lane->work, live, LANE_PAIRS, largest,
			      options->seed + i)) {
		bs_fail(PS_HOST_MEMORY, "no memory for a workload");
		return false;
	}
	return bn_stream_new(&lane->stream);
}

static void finish_lane(const struct crew *crew, struct lane *lane)
{
	if (lane->stream != NULL && !crew->subject->forget(lane->stream))
		lane->ok = false;
	bn_stream_free(lane->stream);
	bn_workload_done(&lane->work);
}

/* pre: every lane is prepared. Threads that cannot be started would leave the
 * others at the barrier: that is the end of the program. */
static void run_threads(struct crew *crew, const struct bn_options *options)
{
	uint64_t unit = options->quick ? 5000000 : 400000000;

	pthread_barrier_init(&crew->ready, NULL, crew->count + 1);
	for (unsigned int i = 0; i < crew->count; i++) {
		if (pthread_create(&crew->lane[i].thread, NULL, lane_main,
				   &crew->lane[i]) != 0) {
			fprintf(stderr, "bench: cannot start thread %u\n", i);
			exit(EXIT_FAILURE);
		}
	}
	pthread_barrier_wait(&crew->ready);
	let_pass(unit / 2);
	atomic_store(&crew->phase, PHASE_MEASURE);
	let_pass(unit);
	atomic_store(&crew->phase, PHASE_STOP);
	pthread_barrier_wait(&crew->ready);
	pthread_barrier_wait(&crew->ready);
	for (unsigned int i = 0; i < crew->count; i++)
		pthread_join(crew->lane[i].thread, NULL);
	pthread_barrier_destroy(&crew->ready);
}

static double rate(const struct lane *lane)
{
	if (lane->end_ns <= lane->start_ns || lane->start_ns == 0)
		return 0.0;
	return (double)lane->pairs * 1e9 /
	       (double)(lane->end_ns - lane->start_ns);
}

static enum bn_outcome judge(const struct crew *crew, double *pairs_per_s_out,
			     uint64_t *pairs_out)
{
	double sum = 0.0;
	uint64_t pairs = 0;

	for (unsigned int i = 0; i < crew->count; i++) {
		if (!crew->lane[i].ok)
			return BN_FAILED;
		sum += rate(&crew->lane[i]);
		pairs += crew->lane[i].pairs;
	}
	if (crew->slow)
		return BN_SLOW;
	*pairs_per_s_out = sum;
	*pairs_out = pairs;
	return BN_DONE;
}

enum bn_outcome bn_threads_measure(const struct bn_subject *subject,
				   unsigned int threads, enum bn_frees frees,
				   const struct bn_options *options,
				   double *pairs_per_s_out, uint64_t *pairs_out)
{
	enum bn_outcome outcome = BN_FAILED;
	struct crew *crew;
	bool ready = true;

	crew = aligned_alloc(64, sizeof(*crew));
	if (crew == NULL)
		return BN_FAILED;
	*crew = (struct crew){ .subject = subject,
			       .frees = frees,
			       .count = threads };
	for (unsigned int i = 0; i < threads && ready; i++)
		ready = prepare_lane(crew, i, options);
	if (ready)
		run_threads(crew, options);
	for (unsigned int i = 0; i < threads; i++)
		finish_lane(crew, &crew->lane[i]);
	if (ready)
		outcome = judge(crew, pairs_per_s_out, pairs_out);
	free(crew);
	return outcome;
}
