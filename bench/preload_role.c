/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A program that calls the driver, in bench/preload. */
#include "bench/preload.h"

#include "bench/gpu.h"
#include "bench/peer.h"
#include "bench/sample.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define MIB (UINT64_C(1) << 20)
#define WARM 20u
#define PAIRS 2000u
#define CALLS 2000000u
#define QUICK 50u
/* How long the stream is busy; far longer than any free without waiting. */
#define BUSY_NS 50000000

const uint64_t bn_preload_sizes[BN_PRELOAD_SIZES] = { 2 * MIB, 64 * MIB,
						      1024 * MIB };

/* ---- pairs ---- */

static bool run_pairs(uint64_t bytes, unsigned int count,
		      struct bn_samples *ticks)
{
	uint64_t start, ptr;

	for (unsigned int i = 0; i < WARM + count; i++) {
		start = bn_tick_start();
		if (!bn_plain_alloc(bytes, &ptr) || !bn_plain_free(ptr))
			return false;
		if (i >= WARM)
			bn_samples_add(ticks, bn_tick_stop() - start);
	}
	return true;
}

static bool measure_pairs(unsigned int count, struct bn_preload_answer *answer)
{
	const double tick_ns = bn_tick_ns();
	struct bn_samples ticks;
	bool ok = true;

	for (unsigned int i = 0; ok && i < BN_PRELOAD_SIZES; i++) {
		if (!bn_samples_init(&ticks, count))
			return false;
		ok = run_pairs(bn_preload_sizes[i], count, &ticks);
		answer->pair[i] = (double)bn_samples_at(&ticks, 0.5) * tick_ns;
		answer->pair_p99[i] =
			(double)bn_samples_at(&ticks, 0.99) * tick_ns;
		bn_samples_done(&ticks);
	}
	return ok;
}

/* ---- a busy GPU ---- */

static void *release_later(void *word)
{
	const struct timespec rest = { .tv_nsec = BUSY_NS };

	nanosleep(&rest, NULL);
	atomic_store((_Atomic uint32_t *)word, 1);
	return NULL;
}

/* The stream waits for a word that another thread writes. */
static bool time_busy_free(void *stream, uint32_t *word, uint64_t ptr,
			   double *ns_out)
{
	pthread_t thread;
	uint64_t start;
	bool ok;

	if (!bn_stream_block(stream, word, 1))
		return false;
	if (pthread_create(&thread, NULL, release_later, word) != 0) {
		release_later(word);
		return false;
	}
	start = bn_now_ns();
	ok = bn_plain_free(ptr);
	*ns_out = (double)(bn_now_ns() - start);
	pthread_join(thread, NULL);
	return bn_stream_wait(stream) && ok;
}

static bool measure_busy(struct bn_preload_answer *answer)
{
	uint32_t *word;
	uint64_t ptr;
	void *stream;
	bool ok;

	if (!bn_stream_new(&stream))
		return false;
	ok = bn_word_new(&word) && bn_plain_alloc(bn_preload_sizes[0], &ptr) &&
	     time_busy_free(stream, word, ptr, &answer->busy);
	bn_stream_free(stream);
	return ok;
}

/* ---- calls that are looked at ---- */

static bool measure_calls(unsigned int count, struct bn_preload_answer *answer)
{
	uint64_t start = bn_now_ns();

	for (unsigned int i = 0; i < count; i++)
		if (!bn_plain_free(0))
			return false;
	answer->null = (double)(bn_now_ns() - start) / count;
	start = bn_now_ns();
	for (unsigned int i = 0; i < count; i++)
		if (!bn_primary_retain())
			return false;
	answer->retain = (double)(bn_now_ns() - start) / count;
	while (count-- > 0)
		if (!bn_primary_release())
			return false;
	return true;
}

int bn_preload_role(const struct bn_options *options)
{
	struct bn_preload_answer answer = { .ready = 1 };
	int socket, link;
	bool quick;

	if (bn_role_is(options, "quick", &socket, &link))
		quick = true;
	else if (bn_role_is(options, "calls", &socket, &link))
		quick = false;
	else
		return 2;
	if (!bn_gpu_open(NULL, NULL) ||
	    !measure_pairs(quick ? QUICK : PAIRS, &answer) ||
	    !measure_busy(&answer) ||
	    !measure_calls(quick ? QUICK : CALLS, &answer) ||
	    !bn_send(socket, &answer, sizeof(answer))) {
		bn_complain("role %s", options->role);
		return 1;
	}
	bn_gpu_close();
	return 0;
}
