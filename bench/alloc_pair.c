/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* One thread: what one free and one allocation cost together. */

#include "bench/alloc.h"

#include "bench/gpu.h"

#include <stdlib.h>

/* An allocator that is not ours gets this long for each pass. */
#define PASS_LIMIT_NS 6000000000u
/* How often a pass looks at the clock, in pairs. */
#define CHUNK 512u

struct pass {
	const struct bn_subject *subject;
	const struct bn_workload *work;
	uint64_t *ptr; /* of each slot; 0: empty */
	void *stream;
	uint64_t limit_ns; /* when to give up; 0: never */
};

static bool is_over(const struct pass *pass)
{
	return pass->limit_ns != 0 && bn_now_ns() > pass->limit_ns;
}

static void start_limit(struct pass *pass)
{
	pass->limit_ns = pass->subject->ours ? 0 : bn_now_ns() + PASS_LIMIT_NS;
}

static enum bn_outcome fill(struct pass *pass)
{
	start_limit(pass);
	for (uint32_t i = 0; i < pass->work->live; i++) {
		if (!pass->subject->alloc(pass->stream,
					  (uint64_t)pass->work->fill[i] *
						  BN_GRANULE,
					  &pass->ptr[i]))
			return BN_FAILED;
		if (i % CHUNK == 0 && is_over(pass))
			return BN_SLOW;
	}
	return BN_DONE;
}

static bool drain(struct pass *pass)
{
	bool ok = true;

	for (uint32_t i = 0; i < pass->work->live; i++) {
		if (pass->ptr[i] != 0 &&
		    !pass->subject->free(pass->stream, pass->ptr[i]))
			ok = false;
		pass->ptr[i] = 0;
	}
	return bn_stream_wait(pass->stream) && ok;
}

static inline bool swap(const struct pass *pass, const struct bn_pair *pair)
{
	uint64_t *ptr = &pass->ptr[pair->slot];

	if (!pass->subject->free(pass->stream, *ptr))
		return false;
	*ptr = 0;
	return pass->subject->alloc(pass->stream,
				    (uint64_t)pair->granules * BN_GRANULE, ptr);
}

/* The whole sequence; the mean of a pair, no clock inside but at chunks. */
static enum bn_outcome run_plain(struct pass *pass, double *mean_ns_out)
{
	const struct bn_workload *work = pass->work;
	uint64_t start = bn_now_ns();

	start_limit(pass);
	for (uint32_t i = 0; i < work->pairs; i++) {
		if (!swap(pass, &work->pair[i]))
			return BN_FAILED;
		if (i % CHUNK == 0 && is_over(pass))
			return BN_SLOW;
	}
	*mean_ns_out = (double)(bn_now_ns() - start) / work->pairs;
	return BN_DONE;
}

static enum bn_outcome run_timed(struct pass *pass, struct bn_samples *ticks)
{
	const struct bn_workload *work = pass->work;
	uint64_t start;
	bool ok;

	start_limit(pass);
	for (uint32_t i = 0; i < work->pairs; i++) {
		start = bn_tick_start();
		ok = swap(pass, &work->pair[i]);
		bn_samples_add(ticks, bn_tick_stop() - start);
		if (!ok)
			return BN_FAILED;
		if (i % CHUNK == 0 && is_over(pass))
			return BN_SLOW;
	}
	return BN_DONE;
}

static void sum_up(struct bn_samples *ticks, double tick_ns,
		   struct bn_pair_cost *cost)
{
	cost->samples = ticks->count;
	cost->median_ns = (double)bn_samples_at(ticks, 0.5) * tick_ns;
	cost->p99_ns = (double)bn_samples_at(ticks, 0.99) * tick_ns;
	cost->p999_ns = (double)bn_samples_at(ticks, 0.999) * tick_ns;
	cost->max_ns = (double)bn_samples_at(ticks, 1.0) * tick_ns;
}

static enum bn_outcome run_passes(struct pass *pass, double tick_ns,
				  struct bn_pair_cost *cost_out)
{
	struct bn_pair_cost cost = { 0 };
	struct bn_samples ticks;
	enum bn_outcome outcome;

	if (!bn_samples_init(&ticks, pass->work->pairs))
		return BN_FAILED;
	outcome = fill(pass);
	if (outcome == BN_DONE)
		outcome = run_plain(pass, &cost.first_ns);
	if (outcome == BN_DONE)
		outcome = run_timed(pass, &ticks);
	if (outcome == BN_DONE)
		outcome = run_plain(pass, &cost.mean_ns);
	if (outcome == BN_DONE) {
		sum_up(&ticks, tick_ns, &cost);
		*cost_out = cost;
	}
	bn_samples_done(&ticks);
	return outcome;
}

enum bn_outcome bn_pair_measure(const struct bn_subject *subject,
				const struct bn_workload *work, double tick_ns,
				struct bn_pair_cost *cost_out)
{
	struct pass pass = { .subject = subject, .work = work };
	enum bn_outcome outcome = BN_FAILED;

	pass.ptr = calloc(work->live, sizeof(pass.ptr[0]));
	if (pass.ptr == NULL || !bn_stream_new(&pass.stream))
		goto free_ptr;
	outcome = run_passes(&pass, tick_ns, cost_out);
	if (!drain(&pass) || !subject->forget(pass.stream))
		outcome = BN_FAILED;
	bn_stream_free(pass.stream);
free_ptr:
	free(pass.ptr);
	return outcome;
}
