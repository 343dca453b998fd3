/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How long until a pool is usable?
 *   reserve  ps_alloc_shared() with the defaults, all that is free: the wall
 *            time of the call in a process that has no CUDA yet
 *   receive  a worker that has a context: from there to its first allocation
 *   map      the whole pool mapped in the worker, against the sum of what the
 *            driver needs to import, map and open each segment by itself
 *   legacy   the same by one cuMemAlloc and CUDA IPC, through the library and
 *            by the bare driver
 * Every sample is a fresh process: this program again, at the other end of a
 * socket. The bare driver's turn comes when the library's pool is closed.
 */

#include "bench/attach.h"

#include "bench/gpu.h"
#include "bench/peer.h"
#include "bench/sample.h"
#include "include/poolswitch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAMPLES 20u
#define QUICK_SAMPLES 2u
#define NS_PER_MS 1e6

static const char bare_legacy[] = "bare driver, one allocation and CUDA IPC";

struct setting {
	struct bn_run *run;
	unsigned int samples;
	struct bn_attach_answer last; /* of the child before */
	/* Medians of the default way, in ms, for the comparison. */
	double pool_ms;
	double first_ms;
	double mapped_ms;
	/* What a child is given; the feeders know which they need. */
	struct ps_pool *pool;
	const int *fds;
	struct bn_attach_segments segments;
	unsigned char handle[DV_IPC_HANDLE_BYTES];
};

/* One column a time of the answers. */
struct times {
	struct bn_samples column[BN_ATTACH_TIMES];
};

static bool times_init(struct times *times, unsigned int room)
{
	bool ok = true;

	for (unsigned int i = 0; i < BN_ATTACH_TIMES; i++)
		ok = bn_samples_init(&times->column[i], room) && ok;
	return ok;
}

static void times_done(struct times *times)
{
	for (unsigned int i = 0; i < BN_ATTACH_TIMES; i++)
		bn_samples_done(&times->column[i]);
}

/* ---- what a child needs from here ---- */

static bool feed_nothing(const struct setting *setting, int socket)
{
	(void)setting;
	(void)socket;
	return true;
}

static bool wait_ready(int socket)
{
	char ready;

	return bn_recv(socket, &ready, sizeof(ready));
}

static bool feed_pool(const struct setting *setting, int socket)
{
	return wait_ready(socket) &&
	       ps_send_shared(setting->pool, socket, 0, PS_TIMEOUT_DEFAULT) ==
		       PS_OK;
}

static bool feed_segments(const struct setting *setting, int socket)
{
	if (!wait_ready(socket) ||
	    !bn_send(socket, &setting->segments, sizeof(setting->segments)))
		return false;
	for (uint64_t i = 0; i < setting->segments.count; i++) {
		if (!bn_send_fd(socket, setting->fds[i]))
			return false;
	}
	return true;
}

static bool feed_handle(const struct setting *setting, int socket)
{
	return wait_ready(socket) &&
	       bn_send(socket, setting->handle, sizeof(setting->handle));
}

static bool sample(struct setting *setting, const char *role,
		   bool (*feed)(const struct setting *setting, int socket),
		   struct times *times)
{
	struct bn_peer peer;
	bool ok;

	if (!bn_peer_start(role, -1, &peer))
		return false;
	ok = feed(setting, peer.socket) &&
	     bn_recv(peer.socket, &setting->last, sizeof(setting->last));
	ok = bn_peer_join(&peer) && ok;
	for (unsigned int i = 0; ok && i < BN_ATTACH_TIMES; i++)
		bn_samples_add(&times->column[i], setting->last.ns[i]);
	return ok;
}

/* pre: *times is not initialised; it is when this returns true. */
static bool collect(struct setting *setting, const char *role,
		    bool (*feed)(const struct setting *setting, int socket),
		    struct times *times)
{
	if (!times_init(times, setting->samples))
		return false;
	for (unsigned int i = 0; i < setting->samples; i++) {
		if (sample(setting, role, feed, times))
			continue;
		bn_complain("sample %u of role %s", i, role);
		times_done(times);
		return false;
	}
	return true;
}

/* ---- figures ---- */

static double ms_at(struct times *times, unsigned int column, double share)
{
	return (double)bn_samples_at(&times->column[column], share) / NS_PER_MS;
}

static struct bn_figure put(struct setting *setting, const char *name,
			    const char *metric, double ms)
{
	const struct bn_figure figure = { .name = name,
					  .metric = metric,
					  .value = ms,
					  .unit = "ms",
					  .samples = setting->samples };

	bn_figure(setting->run, &figure);
	return figure;
}

/* The largest too: with 20 samples a p99 would be no more than that. */
static struct bn_figure put_times(struct setting *setting, const char *name,
				  const char *metric, struct times *times,
				  unsigned int column)
{
	char longer[BN_NAME_BYTES];
	struct bn_figure median;

	median = put(setting, name, metric, ms_at(times, column, 0.5));
	snprintf(longer, sizeof(longer), "%s, largest", metric);
	put(setting, name, longer, ms_at(times, column, 1.0));
	return median;
}

/* ---- reserve ---- */

static bool run_reserve(struct setting *setting)
{
	struct bn_figure figure;
	struct times times;

	bn_title("reserve: the whole GPU, in a fresh process each time");
	if (!collect(setting, "reserve", feed_nothing, &times))
		return false;
	figure = put_times(setting, "poolswitch VMM, reserve",
			   "ps_alloc_shared", &times, 0);
	printf("  a pool of %.1f GiB in %llu segments\n",
	       (double)setting->last.pool_bytes * 0x1p-30,
	       (unsigned long long)(setting->last.pool_bytes /
				    setting->last.segment_bytes));
	bn_target_most(setting->run, &figure, 500);
	times_done(&times);
	if (!collect(setting, "reserve-split", feed_nothing, &times))
		return false;
	put_times(setting, "poolswitch VMM, reserve", "of that cuInit", &times,
		  0);
	put_times(setting, "poolswitch VMM, reserve", "of that context", &times,
		  1);
	put_times(setting, "poolswitch VMM, reserve", "of that pool", &times,
		  2);
	setting->pool_ms = ms_at(&times, 2, 0.5);
	times_done(&times);
	if (!collect(setting, "reserve-legacy", feed_nothing, &times))
		return false;
	put_times(setting, "poolswitch legacy IPC, reserve", "ps_alloc_shared",
		  &times, 0);
	times_done(&times);
	return true;
}

/* ---- receive ---- */

static void put_receive(struct setting *setting, const char *name, bool judged,
			struct times *times)
{
	struct bn_figure figure;

	put_times(setting, name, "received", times, 0);
	figure = put_times(setting, name, "first allocation", times, 1);
	if (judged)
		bn_target_most(setting->run, &figure, 10);
	put_times(setting, name, "then map all", times, 2);
}

/* Leaves the pool's shape and its times in @setting. */
static bool run_receive(struct setting *setting, const char *name,
			enum ps_share_mode mode)
{
	struct times times;
	bool ok;

	if (bn_reserve(mode, &setting->pool) != PS_OK) {
		bn_complain("%s", name);
		return false;
	}
	ok = collect(setting, "receive", feed_pool, &times);
	if (ok) {
		put_receive(setting, name, mode == PS_SHARE_VMM, &times);
		setting->first_ms = ms_at(&times, 1, 0.5);
		setting->mapped_ms = setting->first_ms + ms_at(&times, 2, 0.5);
		times_done(&times);
	}
	setting->segments.bytes = ps_pool_segment_size(setting->pool);
	setting->segments.count =
		ps_pool_size(setting->pool) / setting->segments.bytes;
	ps_pool_close(setting->pool);
	setting->pool = NULL;
	return ok;
}

/* ---- the bare driver ---- */

/* The handle goes at once: the descriptor keeps the memory. */
static bool make_segment(uint64_t bytes, int *fd_out)
{
	struct dv_device *device = bn_gpu_device();
	enum ps_status status;
	uint64_t handle;

	if (dv_segment_create(device, bytes, &handle) != PS_OK)
		return false;
	status = dv_segment_export(device, handle, fd_out);
	return dv_segment_release(device, handle) == PS_OK && status == PS_OK;
}

static void judge_map(struct setting *setting, struct times *times)
{
	static const char name[] = "bare driver, one segment at a time";
	struct bn_figure figure = { .name = "poolswitch VMM, receive",
				    .metric = "all mapped, of the sum",
				    .unit = "times",
				    .samples = setting->samples,
				    .baseline = name };
	double sum = 0;

	put_times(setting, name, "import", times, 0);
	put_times(setting, name, "map", times, 1);
	put_times(setting, name, "set access", times, 2);
	for (unsigned int i = 0; i < 3; i++)
		sum += ms_at(times, i, 0.5);
	put(setting, name, "sum", sum);
	figure.value = setting->mapped_ms / sum;
	bn_figure(setting->run, &figure);
	bn_target_most(setting->run, &figure, 1.2);
}

static bool run_bare_map(struct setting *setting)
{
	uint64_t count = setting->segments.count;
	struct times times;
	uint64_t made = 0;
	bool ok = false;
	int *fds;

	fds = malloc(count * sizeof(fds[0]));
	if (fds == NULL)
		return false;
	while (made < count &&
	       make_segment(setting->segments.bytes, &fds[made]))
		made++;
	setting->fds = fds;
	if (made < count)
		bn_complain("segment %llu", (unsigned long long)made);
	else
		ok = collect(setting, "import", feed_segments, &times);
	if (ok) {
		judge_map(setting, &times);
		times_done(&times);
	}
	while (made > 0)
		close(fds[--made]);
	setting->fds = NULL;
	free(fds);
	return ok;
}

/* What one allocation and CUDA IPC take, as a multiple of ours. */
static void compare(struct setting *setting, double alloc_ms, double open_ms)
{
	struct bn_figure figure = { .name = "poolswitch VMM, reserve",
				    .metric = "faster, pool against cuMemAlloc",
				    .value = alloc_ms / setting->pool_ms,
				    .unit = "times",
				    .samples = setting->samples,
				    .baseline = bare_legacy };

	bn_figure(setting->run, &figure);
	figure.name = "poolswitch VMM, receive";
	figure.metric = "faster, first allocation";
	figure.value = open_ms / setting->first_ms;
	bn_figure(setting->run, &figure);
	figure.metric = "faster, all mapped";
	figure.value = open_ms / setting->mapped_ms;
	bn_figure(setting->run, &figure);
}

static bool run_bare_open(struct setting *setting, uint64_t address,
			  double alloc_ms)
{
	struct times times;

	if (dv_legacy_export(bn_gpu_device(), address, setting->handle) !=
		    PS_OK ||
	    !collect(setting, "open-handle", feed_handle, &times))
		return false;
	put_times(setting, bare_legacy, "cuIpcOpenMemHandle", &times, 0);
	put_times(setting, bare_legacy, "cuIpcCloseMemHandle", &times, 1);
	compare(setting, alloc_ms, ms_at(&times, 0, 0.5));
	times_done(&times);
	return true;
}

static bool run_bare_legacy(struct setting *setting)
{
	uint64_t bytes = setting->segments.count * setting->segments.bytes;
	struct dv_device *device = bn_gpu_device();
	struct bn_figure figure = { .name = bare_legacy,
				    .metric = "cuMemAlloc, once",
				    .unit = "ms",
				    .samples = 1 };
	uint64_t address;
	uint64_t start;
	bool ok;

	start = bn_now_ns();
	if (dv_legacy_alloc(device, bytes, &address) != PS_OK) {
		bn_complain("%s", bare_legacy);
		return false;
	}
	figure.value = (double)(bn_now_ns() - start) / NS_PER_MS;
	bn_figure(setting->run, &figure);
	ok = run_bare_open(setting, address, figure.value);
	return dv_legacy_free(device, address) == PS_OK && ok;
}

static bool run_shared(struct setting *setting)
{
	bn_title("receive: in a worker, from its context to its first "
		 "allocation");
	/* The default comes last: its times are those that are compared. */
	if (!run_receive(setting, "poolswitch legacy IPC, receive",
			 PS_SHARE_LEGACY_IPC) ||
	    !run_receive(setting, "poolswitch VMM, receive", PS_SHARE_VMM))
		return false;
	bn_title("map: what the driver itself takes, call by call");
	return run_bare_map(setting) && run_bare_legacy(setting);
}

static bool run_all(struct bn_run *run)
{
	struct setting setting = {
		.run = run,
		.samples = run->options.quick ? QUICK_SAMPLES : SAMPLES,
	};

	/* No context here while the children take the whole GPU. */
	if (!run_reserve(&setting))
		return false;
	if (bn_gpu_open(NULL, NULL))
		return run_shared(&setting);
	bn_complain("opening the GPU");
	return false;
}

int main(int argc, char **argv)
{
	return bn_main(argc, argv, "attach", "How long until a pool is usable?",
		       run_all, bn_attach_role);
}
