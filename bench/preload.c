/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the preload library costs a CUDA program, and saves it: the same
 * program in fresh processes, with and without it, in turns.
 *
 * The daemon has a part of the GPU's memory, so that the driver has some too.
 */
#include "bench/preload.h"

#include "bench/grant.h"
#include "bench/peer.h"
#include "bench/sample.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 5u
#define QUICK_ROUNDS 2u
/* What the daemon leaves to the driver. */
#define HEADROOM "8G"

enum side { DRIVER, POOL, SIDES };

static const char *const side_names[SIDES] = { "driver", "preload" };

struct seen {
	struct bn_preload_answer answer[SIDES][ROUNDS];
	unsigned int rounds;
};

/* ---- the processes ---- */

/* The build's lies beside the folder of this program. */
static bool find_library(char path[PATH_MAX])
{
	char self[PATH_MAX - 64];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[length > 0 ? length : 0] = '\0';
	if (strrchr(self, '/') != NULL)
		*strrchr(self, '/') = '\0';
	snprintf(path, PATH_MAX, "%s/../preload/libpoolswitch_preload.so",
		 self);
	return access(path, R_OK) == 0;
}

static bool run_side(const char *role, const char *library,
		     struct bn_preload_answer *answer_out)
{
	struct bn_peer peer;
	bool ok;

	if (library != NULL)
		setenv("LD_PRELOAD", library, 1);
	ok = bn_peer_start(role, -1, &peer);
	unsetenv("LD_PRELOAD");
	if (!ok)
		return false;
	ok = bn_recv(peer.socket, answer_out, sizeof(*answer_out));
	return bn_peer_join(&peer) && ok && answer_out->ready == 1;
}

static bool run_rounds(const struct bn_run *run, struct seen *seen)
{
	const char *role = run->options.quick ? "quick" : "calls";
	char library[PATH_MAX];

	if (!find_library(library)) {
		bn_complain("%s is not there", library);
		return false;
	}
	seen->rounds = run->options.quick ? QUICK_ROUNDS : ROUNDS;
	for (unsigned int i = 0; i < seen->rounds; i++)
		if (!run_side(role, NULL, &seen->answer[DRIVER][i]) ||
		    !run_side(role, library, &seen->answer[POOL][i]))
			return false;
	return true;
}

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
	const double *one = a, *other = b;

	return (*one > *other) - (*one < *other);
}

/* The doubles that stand at @at in each answer, in order. */
static void sort(const struct seen *seen, enum side side, size_t at,
		 double values[ROUNDS])
{
	for (unsigned int i = 0; i < seen->rounds; i++)
		memcpy(&values[i], (const char *)&seen->answer[side][i] + at,
		       sizeof(values[i]));
	qsort(values, seen->rounds, sizeof(values[0]), compare);
}

static double median_of(const struct seen *seen, enum side side, size_t at)
{
	double values[ROUNDS];

	sort(seen, side, at, values);
	return values[seen->rounds / 2];
}

/* Of what a loop takes: everything else on the machine only adds to it. */
static double least_of(const struct seen *seen, enum side side, size_t at)
{
	double values[ROUNDS];

	sort(seen, side, at, values);
	return values[0];
}

static struct bn_figure put(struct bn_run *run, const struct seen *seen,
			    const char *name, const char *metric, double value,
			    const char *unit)
{
	const struct bn_figure figure = { .name = name,
					  .metric = metric,
					  .value = value,
					  .unit = unit,
					  .samples = seen->rounds };

	bn_figure(run, &figure);
	return figure;
}

static void put_pair(struct bn_run *run, const struct seen *seen,
		     unsigned int size)
{
	const size_t at = offsetof(struct bn_preload_answer, pair) +
			  size * sizeof(double);
	const size_t p99 = offsetof(struct bn_preload_answer, pair_p99) +
			   size * sizeof(double);
	char names[SIDES][BN_NAME_BYTES];
	struct bn_figure faster = { .metric = "faster, by median",
				    .unit = "times",
				    .samples = seen->rounds };

	for (unsigned int side = 0; side < SIDES; side++) {
		snprintf(names[side], sizeof(names[side]),
			 "%s, pairs of %llu MiB", side_names[side],
			 (unsigned long long)(bn_preload_sizes[size] >> 20));
		put(run, seen, names[side], "pair median",
		    median_of(seen, side, at), "ns");
		put(run, seen, names[side], "pair p99",
		    median_of(seen, side, p99), "ns");
	}
	faster.name = names[POOL];
	faster.baseline = names[DRIVER];
	faster.value = median_of(seen, DRIVER, at) / median_of(seen, POOL, at);
	bn_figure(run, &faster);
	bn_target_least(run, &faster, 20);
}

static void put_busy(struct bn_run *run, const struct seen *seen)
{
	const size_t at = offsetof(struct bn_preload_answer, busy);
	struct bn_figure figure;

	put(run, seen, "driver, a stream busy for 50 ms", "free",
	    median_of(seen, DRIVER, at) / 1e6, "ms");
	figure = put(run, seen, "preload, a stream busy for 50 ms", "free",
		     median_of(seen, POOL, at) / 1e6, "ms");
	bn_target_most(run, &figure, 1);
}

static void put_call(struct bn_run *run, const struct seen *seen, size_t at,
		     const char *call)
{
	const double added =
		least_of(seen, POOL, at) - least_of(seen, DRIVER, at);
	char names[SIDES][BN_NAME_BYTES];
	struct bn_figure figure;

	for (unsigned int side = 0; side < SIDES; side++) {
		snprintf(names[side], sizeof(names[side]), "%s, %s",
			 side_names[side], call);
		put(run, seen, names[side], "call", least_of(seen, side, at),
		    "ns");
	}
	/* What is less than the noise may come out below nothing. */
	figure = put(run, seen, names[POOL], "added to a call",
		     added > 0 ? added : 0, "ns");
	bn_target_most(run, &figure, 20);
}

static void put_all(struct bn_run *run, const struct seen *seen)
{
	bn_title("cuMemAlloc and cuMemFree together");
	for (unsigned int i = 0; i < BN_PRELOAD_SIZES; i++)
		put_pair(run, seen, i);
	bn_title("cuMemFree while the GPU has work to do");
	put_busy(run, seen);
	bn_title("a call that is looked at and forwarded");
	put_call(run, seen, offsetof(struct bn_preload_answer, null),
		 "cuMemFree of no memory");
	put_call(run, seen, offsetof(struct bn_preload_answer, retain),
		 "cuDevicePrimaryCtxRetain");
}

static bool run_all(struct bn_run *run)
{
	struct bn_daemon daemon;
	struct seen seen = { 0 };
	bool ok;

	if (!bn_daemon_start(HEADROOM, &daemon))
		return false;
	ok = run_rounds(run, &seen);
	ok = bn_daemon_stop(&daemon) && ok;
	if (ok)
		put_all(run, &seen);
	return ok;
}

int main(int argc, char **argv)
{
	return bn_main(argc, argv, "preload",
		       "What does the preload cost a CUDA program?", run_all,
		       bn_preload_role);
}
