/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One of the two workers between which a range of GPU memory changes hands.
 *
 * The holder has no work on the GPU when it begins to release. Each taker's
 * first kernel adds one to the first and the last word of the block, so that
 * in the end the words say whether all switches met the same memory.
 */

#include "bench/switch.h"

#include "base/status.h"
#include "bench/gpu.h"
#include "bench/peer.h"
#include "bench/sample.h"
#include "include/poolswitch.h"

#include <stdlib.h>
#include <string.h>

/* Over the link, from the holder to the taker. */
struct released {
	uint64_t began_ns;
	uint64_t sent_ns;
	uint64_t offset; /* of the block in the pool; 0 without a pool */
};

struct worker {
	int parent;
	int link;
	struct ps_pool *pool;
	void *stream;
	struct bn_switch_job job;
	uint64_t ptr;   /* of the block, while it is ours */
	uint64_t *part; /* BN_PARTS times a switch that was counted */
	uint64_t count;
};

/* ---- how a range is taken and given up ---- */

static bool take_block(struct worker *worker)
{
	void *ptr;

	if (ps_mem_alloc_async(worker->pool, worker->job.bytes, worker->stream,
			       &ptr) != PS_OK)
		return false;
	worker->ptr = (uint64_t)(uintptr_t)ptr;
	return true;
}

static bool drop_block(struct worker *worker)
{
	return ps_mem_free_async(worker->pool, (void *)(uintptr_t)worker->ptr,
				 worker->stream) == PS_OK;
}

static bool insert_and_map(struct worker *worker)
{
	const struct bn_switch_job *job = &worker->job;

	return ps_insert_shared(worker->pool, job->range, job->offset,
				PS_ANY_STREAM, 0) == PS_OK &&
	       ps_pool_map(worker->pool, job->offset, job->range) == PS_OK;
}

static bool clear(struct worker *worker)
{
	return ps_clear_shared(worker->pool) == PS_OK;
}

static bool take_range(struct worker *worker)
{
	return insert_and_map(worker) && take_block(worker);
}

static bool drop_range(struct worker *worker)
{
	return drop_block(worker) && clear(worker);
}

static bool take_handle(struct worker *worker)
{
	return dv_legacy_open(bn_gpu_device(), worker->job.handle,
			      &worker->ptr) == PS_OK;
}

static bool drop_handle(struct worker *worker)
{
	return dv_legacy_close(bn_gpu_device(), worker->ptr) == PS_OK;
}

static bool take_memory(struct worker *worker)
{
	return dv_legacy_alloc(bn_gpu_device(), worker->job.bytes,
			       &worker->ptr) == PS_OK;
}

static bool drop_memory(struct worker *worker)
{
	return dv_legacy_free(bn_gpu_device(), worker->ptr) == PS_OK;
}

static bool nothing(struct worker *worker)
{
	(void)worker;
	return true;
}

/* Indexed by enum bn_switch_how. */
static const struct way {
	bool (*prepare)(struct worker *worker);
	bool (*take)(struct worker *worker);
	bool (*drop)(struct worker *worker);
	bool (*finish)(struct worker *worker);
	bool same; /* the memory is the same for both */
} ways[] = {
	[BN_SWITCH_KEPT] = { insert_and_map, take_block, drop_block, clear,
			     true },
	[BN_SWITCH_REMAP] = { nothing, take_range, drop_range, nothing, true },
	[BN_SWITCH_REOPEN] = { nothing, take_handle, drop_handle, nothing,
			       true },
	[BN_SWITCH_FREE_ALLOC] = { nothing, take_memory, drop_memory, nothing,
				   false },
};

/* ---- the words that count the switches ---- */

static uint64_t block_offset(const struct worker *worker)
{
	void *base;

	if (worker->pool == NULL)
		return 0;
	base = ps_pool_pointer(worker->pool, 0);
	return worker->ptr - (uint64_t)(uintptr_t)base;
}

static bool write_words(const struct worker *worker, uint32_t value)
{
	uint64_t last = worker->ptr + worker->job.bytes - sizeof(value);

	return dv_copy_in(bn_gpu_device(), worker->ptr, &value,
			  sizeof(value)) == PS_OK &&
	       dv_copy_in(bn_gpu_device(), last, &value, sizeof(value)) ==
		       PS_OK;
}

static bool check_words(const struct worker *worker, uint32_t wanted)
{
	uint64_t last = worker->ptr + worker->job.bytes - sizeof(wanted);
	uint32_t got[2];

	if (dv_copy_out(bn_gpu_device(), &got[0], worker->ptr,
			sizeof(got[0])) != PS_OK ||
	    dv_copy_out(bn_gpu_device(), &got[1], last, sizeof(got[1])) !=
		    PS_OK)
		return false;
	if (got[0] == wanted && got[1] == wanted)
		return true;
	bs_fail(PS_INVALID_ARGUMENT,
		"%u kernels ran on the block, but its words count %u and %u: "
		"the two workers did not have the same memory",
		wanted, got[0], got[1]);
	return false;
}

/* ---- a switch ---- */

static bool give(struct worker *worker, const struct way *way)
{
	struct released message = { .offset = block_offset(worker) };

	message.began_ns = bn_now_ns();
	if (!way->drop(worker))
		return false;
	message.sent_ns = bn_now_ns();
	return bn_send(worker->link, &message, sizeof(message));
}

static bool check_offset(const struct worker *worker, uint64_t wanted)
{
	if (block_offset(worker) == wanted)
		return true;
	bs_fail(PS_INVALID_ARGUMENT,
		"the block was at offset %llu and is now at %llu",
		(unsigned long long)wanted,
		(unsigned long long)block_offset(worker));
	return false;
}

static void note(struct worker *worker, const struct released *message,
		 uint64_t seen_ns, uint64_t taken_ns, uint64_t done_ns)
{
	uint64_t *part = worker->part + worker->count * BN_PARTS;

	part[BN_PART_WHOLE] = done_ns - message->began_ns;
	part[BN_PART_RELEASE] = message->sent_ns - message->began_ns;
	part[BN_PART_MESSAGE] = seen_ns - message->sent_ns;
	part[BN_PART_TAKE] = taken_ns - seen_ns;
	part[BN_PART_KERNEL] = done_ns - taken_ns;
	worker->count++;
}

static bool take(struct worker *worker, const struct way *way, bool counted)
{
	struct released message;
	uint64_t taken_ns;
	uint64_t seen_ns;
	bool got;

	got = worker->job.spin
		      ? bn_recv_spin(worker->link, &message, sizeof(message))
		      : bn_recv(worker->link, &message, sizeof(message));
	seen_ns = bn_now_ns();
	if (!got || !way->take(worker))
		return false;
	taken_ns = bn_now_ns();
	if (!bn_touch_launch(worker->stream, worker->ptr, worker->job.bytes) ||
	    !bn_stream_wait(worker->stream))
		return false;
	if (counted)
		note(worker, &message, seen_ns, taken_ns, bn_now_ns());
	return !way->same || check_offset(worker, message.offset);
}

static bool run_turns(struct worker *worker, const struct way *way)
{
	const struct bn_switch_job *job = &worker->job;
	bool mine = job->holder != 0;

	for (uint32_t turn = 0; turn < job->warm + job->counted; turn++) {
		if (mine && !give(worker, way))
			return false;
		if (!mine && !take(worker, way, turn >= job->warm))
			return false;
		mine = !mine;
	}
	return true;
}

/* The one who holds the block after the last turn looks at the words. */
static bool end_turns(struct worker *worker, const struct way *way,
		      uint64_t *kernel_ns_out)
{
	uint32_t turns = worker->job.warm + worker->job.counted;
	bool mine = (worker->job.holder != 0) == (turns % 2 == 0);

	*kernel_ns_out = 0;
	if (!mine)
		return true;
	if (way->same && !check_words(worker, turns))
		return false;
	return bn_touch_duration(worker->stream, worker->ptr, worker->job.bytes,
				 kernel_ns_out) &&
	       way->drop(worker);
}

static bool start_turns(struct worker *worker, const struct way *way)
{
	if (!way->prepare(worker))
		return false;
	if (!worker->job.holder)
		return true;
	return way->take(worker) && write_words(worker, 0);
}

/* ---- jobs ---- */

static bool answer(const struct worker *worker, uint64_t kernel_ns)
{
	struct bn_switch_answer answer = { .count = worker->count,
					   .kernel_ns = kernel_ns };

	return bn_send(worker->parent, &answer, sizeof(answer)) &&
	       bn_send(worker->parent, worker->part,
		       worker->count * BN_PARTS * sizeof(worker->part[0]));
}

static bool run_switches(struct worker *worker)
{
	const struct way *way = &ways[worker->job.how];
	uint64_t kernel_ns;
	bool ok;

	worker->count = 0;
	worker->part = calloc((size_t)worker->job.counted + 1,
			      BN_PARTS * sizeof(worker->part[0]));
	if (worker->part == NULL) {
		bs_fail(PS_HOST_MEMORY, "no memory for the samples");
		return false;
	}
	ok = start_turns(worker, way) && run_turns(worker, way) &&
	     end_turns(worker, way, &kernel_ns) && way->finish(worker) &&
	     answer(worker, kernel_ns);
	free(worker->part);
	worker->part = NULL;
	return ok;
}

static bool run_jobs(struct worker *worker)
{
	for (;;) {
		if (!bn_recv(worker->parent, &worker->job, sizeof(worker->job)))
			return false;
		switch ((enum bn_switch_how)worker->job.how) {
		case BN_SWITCH_END:
			return true;
		case BN_SWITCH_JOIN:
			if (ps_recv_shared(worker->parent, 0,
					   PS_TIMEOUT_DEFAULT,
					   &worker->pool) != PS_OK)
				return false;
			break;
		default:
			if (!run_switches(worker))
				return false;
		}
	}
}

/* A kernel that is not loaded yet would be loaded while time is measured:
 * run it once on memory of our own. */
static bool warm_up(struct worker *worker)
{
	const uint64_t bytes = 4096;
	uint64_t ptr;
	bool ok;

	if (dv_legacy_alloc(bn_gpu_device(), bytes, &ptr) != PS_OK)
		return false;
	ok = bn_touch_launch(worker->stream, ptr, bytes) &&
	     bn_stream_wait(worker->stream);
	return dv_legacy_free(bn_gpu_device(), ptr) == PS_OK && ok;
}

int bn_switch_role(const struct bn_options *options)
{
	struct worker worker = { 0 };
	bool ok;

	if (!bn_role_is(options, "worker", &worker.parent, &worker.link)) {
		fprintf(stderr, "bench: unknown role \"%s\"\n", options->role);
		return EXIT_FAILURE;
	}
	ok = bn_gpu_open(NULL, NULL) && bn_touch_load() &&
	     bn_stream_new(&worker.stream) && warm_up(&worker) &&
	     run_jobs(&worker);
	if (!ok)
		bn_complain("a worker of switch_latency");
	ps_pool_close(worker.pool);
	bn_stream_free(worker.stream);
	bn_gpu_close();
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
