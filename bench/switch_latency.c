/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How long does it take until another process works on the same memory?
 *
 * Two workers hand a range to and fro. A switch begins when the holder, whose
 * work on the GPU is done, begins to release the range: freeing, clearing,
 * closing and the message "released" are inside. It ends when the taker knows
 * that its first kernel on the range is done, so the kernel's own work is
 * inside too; that is measured alone and stated, and not subtracted. Both
 * times are CLOCK_MONOTONIC.
 *
 *   kept         both have the range inserted and mapped all the time; the
 *                block is freed here and allocated there. The default: what
 *                the library does unless it is told to give memory back
 *   remap        ps_clear_shared() here, ps_insert_shared() and ps_pool_map()
 *                there, at every switch
 *   reopen       cuIpcCloseMemHandle and cuIpcOpenMemHandle at every switch
 *   free, alloc  cuMemFree and cuMemAlloc at every switch: without a pool
 */

#include "bench/switch.h"

#include "bench/gpu.h"
#include "bench/peer.h"
#include "bench/sample.h"
#include "include/poolswitch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define SWITCHES 1000u
/* A switch of the slow ways at 16 GiB takes tens of milliseconds. */
#define SLOW_SWITCHES 100u
#define WARM_SWITCHES 20u
#define QUICK_SWITCHES 6u
#define SIZES 3u

static const struct {
	uint64_t bytes;
	const char *text;
} sizes[SIZES] = {
	{ 64 * MIB, "64 MiB" },
	{ GIB, "1 GiB" },
	{ 16 * GIB, "16 GiB" },
};

struct setting {
	struct bn_run *run;
	unsigned int sizes; /* how many of them */
	struct bn_peer worker[2];
	struct ps_pool *pool;
};

/* One way to switch, at all sizes. */
struct way {
	const char *name;
	enum bn_switch_how how;
	bool spin;
	bool judged; /* the default, for which the project promises a figure */
};

/* The medians, for the comparison at the end. */
struct medians {
	double us[SIZES];
};

/* ---- the two workers ---- */

static bool start_workers(struct setting *setting)
{
	int link[2];
	bool ok = true;

	memset(setting->worker, 0, sizeof(setting->worker));
	if (!bn_socket_pair(link))
		return false;
	for (unsigned int i = 0; i < 2 && ok; i++)
		ok = bn_peer_start("worker", link[i], &setting->worker[i]);
	/* Ours would hide that a worker's end is closed. */
	close(link[0]);
	close(link[1]);
	return ok;
}

static bool end_workers(struct setting *setting, bool ok)
{
	const struct bn_switch_job end = { .how = BN_SWITCH_END };

	for (unsigned int i = 0; i < 2; i++) {
		if (ok &&
		    !bn_send(setting->worker[i].socket, &end, sizeof(end)))
			ok = false;
	}
	for (unsigned int i = 0; i < 2; i++)
		ok = bn_peer_join(&setting->worker[i]) && ok;
	return ok;
}

static bool share_pool(struct setting *setting)
{
	const struct bn_switch_job join = { .how = BN_SWITCH_JOIN };

	for (unsigned int i = 0; i < 2; i++) {
		int socket = setting->worker[i].socket;

		if (!bn_send(socket, &join, sizeof(join)) ||
		    ps_send_shared(setting->pool, socket, 0,
				   PS_TIMEOUT_DEFAULT) != PS_OK)
			return false;
	}
	return true;
}

/* ---- one case ---- */

static bool send_job(struct setting *setting, const struct bn_switch_job *job)
{
	struct bn_switch_job own = *job;

	for (unsigned int i = 0; i < 2; i++) {
		own.holder = i == 0;
		if (!bn_send(setting->worker[i].socket, &own, sizeof(own)))
			return false;
	}
	return true;
}

static bool read_switch(int socket, struct bn_samples *parts)
{
	uint64_t ns[BN_PARTS];

	if (!bn_recv(socket, ns, sizeof(ns)))
		return false;
	for (unsigned int part = 0; part < BN_PARTS; part++)
		bn_samples_add(&parts[part], ns[part]);
	return true;
}

/* pre: parts have room for every switch that was counted. */
static bool read_answers(struct setting *setting, struct bn_samples *parts,
			 uint64_t *kernel_ns_out)
{
	struct bn_switch_answer answer;
	uint64_t kernel_ns = 0;

	for (unsigned int i = 0; i < 2; i++) {
		int socket = setting->worker[i].socket;

		if (!bn_recv(socket, &answer, sizeof(answer)))
			return false;
		for (uint64_t n = 0; n < answer.count; n++) {
			if (!read_switch(socket, parts))
				return false;
		}
		if (answer.kernel_ns > kernel_ns)
			kernel_ns = answer.kernel_ns;
	}
	*kernel_ns_out = kernel_ns;
	return true;
}

static void put(struct setting *setting, const char *name, const char *metric,
		uint64_t ns, uint64_t samples)
{
	const struct bn_figure figure = { .name = name,
					  .metric = metric,
					  .value = (double)ns * 1e-3,
					  .unit = "us",
					  .samples = samples };

	bn_figure(setting->run, &figure);
}

static void put_parts(struct setting *setting, const char *name,
		      struct bn_samples *parts, uint64_t kernel_ns)
{
	static const char *const text[] = {
		[BN_PART_RELEASE] = "of that release, p50",
		[BN_PART_MESSAGE] = "of that message, p50",
		[BN_PART_TAKE] = "of that take over, p50",
		[BN_PART_KERNEL] = "of that first kernel, p50",
	};
	uint64_t n = parts[0].count;

	put(setting, name, "switch p50",
	    bn_samples_at(&parts[BN_PART_WHOLE], 0.5), n);
	put(setting, name, "switch p99",
	    bn_samples_at(&parts[BN_PART_WHOLE], 0.99), n);
	for (unsigned int part = BN_PART_RELEASE; part < BN_PARTS; part++)
		put(setting, name, text[part], bn_samples_at(&parts[part], 0.5),
		    n);
	put(setting, name, "kernel alone, on the GPU", kernel_ns, 21);
}

static bool run_job(struct setting *setting, const struct bn_switch_job *job,
		    const char *name, double *median_us_out)
{
	struct bn_samples parts[BN_PARTS];
	uint64_t kernel_ns;
	bool ok = true;

	for (unsigned int i = 0; i < BN_PARTS; i++)
		ok = bn_samples_init(&parts[i], job->counted) && ok;
	ok = ok && send_job(setting, job) &&
	     read_answers(setting, parts, &kernel_ns);
	if (ok) {
		put_parts(setting, name, parts, kernel_ns);
		*median_us_out =
			(double)bn_samples_at(&parts[BN_PART_WHOLE], 0.5) *
			1e-3;
	} else {
		bn_complain("%s", name);
	}
	for (unsigned int i = 0; i < BN_PARTS; i++)
		bn_samples_done(&parts[i]);
	return ok;
}

static uint32_t count_for(const struct setting *setting, const struct way *way,
			  unsigned int size)
{
	if (setting->run->options.quick)
		return QUICK_SWITCHES;
	if (way->how == BN_SWITCH_FREE_ALLOC && sizes[size].bytes > GIB)
		return SLOW_SWITCHES;
	return SWITCHES;
}

static void fill_job(const struct setting *setting, const struct way *way,
		     unsigned int size, struct bn_switch_job *job)
{
	uint64_t unit;
	uint64_t region;

	*job = (struct bn_switch_job){
		.how = way->how,
		.spin = way->spin,
		.warm = setting->run->options.quick ? 2 : WARM_SWITCHES,
		.counted = count_for(setting, way, size),
		.bytes = sizes[size].bytes,
	};
	if (setting->pool == NULL)
		return;
	unit = ps_pool_segment_size(setting->pool);
	job->range = (job->bytes + unit - 1) / unit * unit;
	if (ps_pool_region(setting->pool, PS_REGION_COMPUTATION, &job->offset,
			   &region) != PS_OK)
		job->range = 0;
}

static bool run_size(struct setting *setting, const struct way *way,
		     unsigned int size, double *median_us_out)
{
	uint64_t address = 0;
	struct bn_switch_job job;
	char name[BN_NAME_BYTES];
	bool ok;

	fill_job(setting, way, size, &job);
	snprintf(name, sizeof(name), "%s, %s", way->name, sizes[size].text);
	if (way->how != BN_SWITCH_REOPEN)
		return run_job(setting, &job, name, median_us_out);
	if (dv_legacy_alloc(bn_gpu_device(), job.bytes, &address) != PS_OK) {
		bn_complain("%s", name);
		return false;
	}
	ok = dv_legacy_export(bn_gpu_device(), address, job.handle) == PS_OK &&
	     run_job(setting, &job, name, median_us_out);
	return dv_legacy_free(bn_gpu_device(), address) == PS_OK && ok;
}

static void judge_size(struct setting *setting, const struct way *way,
		       unsigned int size, double median_us)
{
	char name[BN_NAME_BYTES];
	const struct bn_figure figure = { .name = name,
					  .metric = "switch p50",
					  .value = median_us,
					  .unit = "us",
					  .samples = SWITCHES };

	if (!way->judged || sizes[size].bytes != GIB)
		return;
	snprintf(name, sizeof(name), "%s, %s", way->name, sizes[size].text);
	bn_target_most(setting->run, &figure, 200);
}

static bool run_way(struct setting *setting, const struct way *way,
		    struct medians *medians)
{
	for (unsigned int i = 0; i < setting->sizes; i++) {
		if (!run_size(setting, way, i, &medians->us[i]))
			return false;
		judge_size(setting, way, i, medians->us[i]);
	}
	return true;
}

/* ---- the cases ---- */

enum {
	VMM_KEPT,
	VMM_KEPT_SPIN,
	VMM_REMAP,
	LEGACY_KEPT,
	LEGACY_REOPEN,
	FREE_ALLOC,
	WAYS,
};

static const struct way ways[WAYS] = {
	[VMM_KEPT] = { "poolswitch VMM, kept", BN_SWITCH_KEPT, false, true },
	[VMM_KEPT_SPIN] = { "poolswitch VMM, kept, spinning", BN_SWITCH_KEPT,
			    true, false },
	[VMM_REMAP] = { "poolswitch VMM, remap", BN_SWITCH_REMAP, false,
			false },
	[LEGACY_KEPT] = { "poolswitch legacy IPC, kept", BN_SWITCH_KEPT, false,
			  true },
	[LEGACY_REOPEN] = { "CUDA IPC, reopen", BN_SWITCH_REOPEN, false,
			    false },
	[FREE_ALLOC] = { "cuMemFree + cuMemAlloc", BN_SWITCH_FREE_ALLOC, false,
			 false },
};

/* With a pool of @mode, or without one for the ways that need none. */
static bool run_ways(struct setting *setting, unsigned int first,
		     unsigned int last, struct medians *medians)
{
	bool ok = start_workers(setting) &&
		  (setting->pool == NULL || share_pool(setting));

	if (!ok)
		bn_complain("starting two workers");
	for (unsigned int i = first; i <= last && ok; i++)
		ok = run_way(setting, &ways[i], &medians[i]);
	return end_workers(setting, ok) && ok;
}

static bool run_pool(struct setting *setting, enum ps_share_mode mode,
		     unsigned int first, unsigned int last,
		     struct medians *medians)
{
	bool ok;

	if (bn_reserve(mode, &setting->pool) != PS_OK) {
		bn_complain("reserving the pool");
		return false;
	}
	ok = run_ways(setting, first, last, medians);
	ps_pool_close(setting->pool);
	setting->pool = NULL;
	return ok;
}

/* The baseline's time as a multiple of ours, at the largest size. */
static void compare(struct setting *setting, const struct medians *medians)
{
	unsigned int size = setting->sizes - 1;
	char baseline[BN_NAME_BYTES];
	char name[BN_NAME_BYTES];
	struct bn_figure figure = { .name = name,
				    .metric = "faster, by p50",
				    .unit = "times",
				    .baseline = baseline };

	snprintf(baseline, sizeof(baseline), "%s, %s", ways[FREE_ALLOC].name,
		 sizes[size].text);
	for (unsigned int i = 0; i < FREE_ALLOC; i++) {
		snprintf(name, sizeof(name), "%s, %s", ways[i].name,
			 sizes[size].text);
		figure.value =
			medians[FREE_ALLOC].us[size] / medians[i].us[size];
		figure.samples = count_for(setting, &ways[FREE_ALLOC], size);
		bn_figure(setting->run, &figure);
		if (ways[i].judged)
			bn_target_least(setting->run, &figure, 20);
	}
}

/* Giving every segment's addresses back costs more than closing one handle. */
static void compare_remap(struct setting *setting, unsigned int size,
			  const struct medians *medians)
{
	char name[BN_NAME_BYTES];
	char baseline[BN_NAME_BYTES];
	struct bn_figure figure = { .name = name,
				    .metric = "faster, by p50 of reopening",
				    .unit = "times",
				    .baseline = baseline };

	snprintf(name, sizeof(name), "%s, %s", ways[VMM_REMAP].name,
		 sizes[size].text);
	snprintf(baseline, sizeof(baseline), "%s, %s", ways[LEGACY_REOPEN].name,
		 sizes[size].text);
	figure.value =
		medians[LEGACY_REOPEN].us[size] / medians[VMM_REMAP].us[size];
	figure.samples = count_for(setting, &ways[VMM_REMAP], size);
	bn_figure(setting->run, &figure);
}

static bool run_sessions(struct setting *setting)
{
	struct medians medians[WAYS];

	bn_title("segments as file descriptors (the default)");
	if (!run_pool(setting, PS_SHARE_VMM, VMM_KEPT, VMM_REMAP, medians))
		return false;
	bn_title("one allocation by legacy CUDA IPC");
	if (!run_pool(setting, PS_SHARE_LEGACY_IPC, LEGACY_KEPT, LEGACY_KEPT,
		      medians))
		return false;
	bn_title("without the library");
	if (!run_ways(setting, LEGACY_REOPEN, FREE_ALLOC, medians))
		return false;
	compare(setting, medians);
	compare_remap(setting, setting->sizes - 1, medians);
	return true;
}

static bool run_all(struct bn_run *run)
{
	/* The simulated GPU's default has no room for 16 GiB. */
	struct setting setting = {
		.run = run,
		.sizes = run->options.quick ? 2 : SIZES,
	};

	if (bn_gpu_open(NULL, NULL))
		return run_sessions(&setting);
	bn_complain("opening the GPU");
	return false;
}

int main(int argc, char **argv)
{
	return bn_main(argc, argv, "switch_latency",
		       "How long until another process works on the same "
		       "memory?",
		       run_all, bn_switch_role);
}
