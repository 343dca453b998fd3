/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How fast is allocation?
 *   mixed    one thread, 10,000 live blocks of 512 B to 1 GiB, freed in random
 *            order: what one pair of free and allocate costs
 *   live     one thread, 1,000 to 1,000,000 live blocks of 512 B to 64 KiB:
 *            does a pair become slower
 *   threads  1 to 8 threads, each with its own blocks and stream: do they
 *            stand in each other's way
 * The driver's cuMemAllocAsync and cuMemFreeAsync run the same sequences.
 */

#include "bench/alloc.h"

#include "bench/gpu.h"

#include <math.h>
#include <stdlib.h>

#define MIXED_LARGEST (UINT64_C(1) << 30)
#define SMALL_LARGEST (UINT64_C(1) << 16)
#define MIXED_PAIRS 200000u
#define SMALL_PAIRS 1000000u
/* The driver's pairs at small sizes: its time is limited. */
#define DRIVER_PAIRS 100000u
#define DRIVER_LIVE_MOST 100000u
/* 1,000, 10,000, 100,000 and 1,000,000 live blocks. */
#define LIVE_STEPS 4u
#define LIVE_MOST 1000000u
#define QUICK_LIVE 1000u
#define QUICK_PAIRS 2000u

struct setting {
	struct bn_run *run;
	double tick_ns;
};

static void put(struct setting *setting, const char *name, const char *metric,
		double value, const char *unit, uint64_t samples)
{
	const struct bn_figure figure = { .name = name,
					  .metric = metric,
					  .value = value,
					  .unit = unit,
					  .samples = samples };

	bn_figure(setting->run, &figure);
}

static void put_cost(struct setting *setting, const char *name,
		     const struct bn_pair_cost *cost)
{
	uint64_t n = cost->samples;

	put(setting, name, "pair median", cost->median_ns, "ns", n);
	put(setting, name, "pair p99", cost->p99_ns, "ns", n);
	put(setting, name, "pair p99.9", cost->p999_ns, "ns", n);
	put(setting, name, "pair max", cost->max_ns, "ns", n);
	put(setting, name, "pair mean, untimed", cost->mean_ns, "ns", n);
	put(setting, name, "first pass mean", cost->first_ns, "ns", n);
}

/* BN_SLOW is an answer: it is printed, and no figure is written. */
static enum bn_outcome measure_open(const struct bn_subject *subject,
				    struct setting *setting,
				    const struct bn_workload *work,
				    const char *name,
				    struct bn_pair_cost *cost_out)
{
	enum bn_outcome outcome;

	outcome = bn_pair_measure(subject, work, setting->tick_ns, cost_out);
	if (outcome == BN_DONE)
		put_cost(setting, name, cost_out);
	if (outcome == BN_SLOW)
		printf("  %-44s not measured: a pass takes over 6 s\n", name);
	if (outcome == BN_FAILED)
		bn_complain("%s", name);
	return outcome;
}

static enum bn_outcome measure(const struct bn_subject *subject,
			       struct setting *setting,
			       const struct bn_workload *work, const char *name,
			       struct bn_pair_cost *cost_out)
{
	enum bn_outcome outcome;

	if (!subject->open()) {
		bn_complain("%s", subject->name);
		return BN_FAILED;
	}
	outcome = measure_open(subject, setting, work, name, cost_out);
	subject->close();
	return outcome;
}

/* ---- mixed ---- */

static void judge_mixed(struct setting *setting, const char *name,
			const struct bn_pair_cost *cost)
{
	struct bn_figure figure = { .name = name,
				    .metric = "pair median",
				    .value = cost->median_ns,
				    .unit = "ns",
				    .samples = cost->samples };

	bn_target_most(setting->run, &figure, 60);
	figure.metric = "pair p99.9";
	figure.value = cost->p999_ns;
	bn_target_most(setting->run, &figure, 1000);
}

/* The driver's time as a multiple of ours. */
static void compare_mixed(struct setting *setting, const char *name,
			  const struct bn_pair_cost *ours,
			  const struct bn_pair_cost *driver)
{
	struct bn_figure figure = { .name = name,
				    .metric = "faster, by median",
				    .value =
					    driver->median_ns / ours->median_ns,
				    .unit = "times",
				    .samples = ours->samples,
				    .baseline = bn_subject_driver.name };

	bn_figure(setting->run, &figure);
	bn_target_least(setting->run, &figure, 8);
	figure.metric = "faster, by mean";
	figure.value = driver->mean_ns / ours->mean_ns;
	bn_figure(setting->run, &figure);
	bn_target_least(setting->run, &figure, 8);
}

static bool run_mixed_with(struct setting *setting,
			   const struct bn_workload *work)
{
	static const struct bn_subject *const subjects[] = {
		&bn_subject_async, &bn_subject_plain, &bn_subject_driver
	};
	struct bn_pair_cost cost[3];
	enum bn_outcome outcome = BN_DONE;
	char name[3][BN_NAME_BYTES];

	for (unsigned int i = 0; i < 3; i++) {
		snprintf(name[i], sizeof(name[i]),
			 "%s, %u live, 512 B to 1 GiB", subjects[i]->name,
			 work->live);
		outcome =
			measure(subjects[i], setting, work, name[i], &cost[i]);
		if (outcome == BN_FAILED)
			return false;
	}
	for (unsigned int i = 0; i < 2; i++) {
		judge_mixed(setting, name[i], &cost[i]);
		if (outcome == BN_DONE)
			compare_mixed(setting, name[i], &cost[i], &cost[2]);
	}
	return true;
}

static void print_law(const struct bn_workload *work)
{
	static const double shares[] = { 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0 };

	printf("  sizes: P(size > s) = sqrt(512 B / s) up to 1 GiB, rounded up "
	       "to 512 B; these %u\n  sum up to %.2f GiB; bytes at",
	       work->live, (double)bn_workload_bytes(work) * 0x1p-30);
	for (unsigned int i = 0; i < sizeof(shares) / sizeof(shares[0]); i++)
		printf(" %g %%: %llu", shares[i] * 100.0,
		       (unsigned long long)bn_workload_size_at(work,
							       shares[i]));
	printf("\n");
}

static bool run_mixed(struct setting *setting)
{
	const struct bn_options *options = &setting->run->options;
	uint32_t live = options->quick ? QUICK_LIVE : 10000;
	uint32_t pairs = options->quick ? QUICK_PAIRS : MIXED_PAIRS;
	struct bn_workload work;
	bool ok;

	bn_title("mixed: one thread, %u live blocks, random order, %u pairs",
		 live, pairs);
	if (!bn_workload_init(&work, live, pairs, MIXED_LARGEST,
			      options->seed)) {
		fprintf(stderr, "bench: no host memory for the workload\n");
		return false;
	}
	print_law(&work);
	ok = run_mixed_with(setting, &work);
	bn_workload_done(&work);
	return ok;
}

/* ---- live ---- */

static void name_live(const struct bn_subject *subject, uint32_t live,
		      char name[BN_NAME_BYTES])
{
	snprintf(name, BN_NAME_BYTES, "%s, %u live, 512 B to 64 KiB",
		 subject->name, live);
}

static enum bn_outcome run_live_one(struct setting *setting,
				    const struct bn_subject *subject,
				    uint32_t live, uint32_t pairs,
				    double *mean_ns_out)
{
	struct bn_pair_cost cost;
	struct bn_workload work;
	enum bn_outcome outcome;
	char name[BN_NAME_BYTES];

	name_live(subject, live, name);
	if (!bn_workload_init(&work, live, pairs, SMALL_LARGEST,
			      setting->run->options.seed))
		return BN_FAILED;
	outcome = measure_open(subject, setting, &work, name, &cost);
	bn_workload_done(&work);
	if (outcome == BN_DONE)
		*mean_ns_out = cost.mean_ns;
	return outcome;
}

static void judge_live(struct setting *setting, double few_ns, double many_ns)
{
	const struct bn_figure figure = {
		.name = "poolswitch async, 1000000 live, 512 B to 64 KiB",
		.metric = "mean, of that with 1000",
		.value = many_ns / few_ns,
		.unit = "times",
		.samples = SMALL_PAIRS,
		.baseline = "poolswitch async, 1000 live, 512 B to 64 KiB",
	};

	bn_figure(setting->run, &figure);
	bn_target_most(setting->run, &figure, 4);
}

/* The means, in ns, of 1,000 blocks, 10,000 and so on; 0 if not measured. */
struct live_means {
	double ns[LIVE_STEPS];
};

static bool run_live_of(struct setting *setting,
			const struct bn_subject *subject, uint32_t most,
			uint32_t pairs, struct live_means *means)
{
	enum bn_outcome outcome = BN_DONE;
	unsigned int step = 0;

	if (!subject->open()) {
		bn_complain("%s", subject->name);
		return false;
	}
	for (uint32_t live = 1000; live <= most && outcome == BN_DONE;
	     live *= 10)
		outcome = run_live_one(setting, subject, live, pairs,
				       &means->ns[step++]);
	subject->close();
	return outcome != BN_FAILED;
}

static void compare_live(struct setting *setting, const struct live_means *ours,
			 const struct live_means *driver)
{
	char baseline[BN_NAME_BYTES];
	char name[BN_NAME_BYTES];
	struct bn_figure figure = { .name = name,
				    .metric = "faster, by mean",
				    .unit = "times",
				    .samples = DRIVER_PAIRS,
				    .baseline = baseline };
	uint32_t live = 1000;

	for (unsigned int i = 0; i < LIVE_STEPS; i++, live *= 10) {
		if (ours->ns[i] <= 0 || driver->ns[i] <= 0)
			continue;
		name_live(&bn_subject_async, live, name);
		name_live(&bn_subject_driver, live, baseline);
		figure.value = driver->ns[i] / ours->ns[i];
		bn_figure(setting->run, &figure);
	}
}

static bool run_live(struct setting *setting)
{
	bool quick = setting->run->options.quick;
	struct live_means ours = { { 0 } };
	struct live_means driver = { { 0 } };

	bn_title("live: one thread, sizes 512 B to 64 KiB, growing number of "
		 "live blocks");
	if (!run_live_of(setting, &bn_subject_async,
			 quick ? QUICK_LIVE : LIVE_MOST,
			 quick ? QUICK_PAIRS : SMALL_PAIRS, &ours))
		return false;
	if (ours.ns[LIVE_STEPS - 1] > 0)
		judge_live(setting, ours.ns[0], ours.ns[LIVE_STEPS - 1]);
	if (!run_live_of(setting, &bn_subject_driver,
			 quick ? QUICK_LIVE : DRIVER_LIVE_MOST,
			 quick ? QUICK_PAIRS : DRIVER_PAIRS, &driver))
		return false;
	compare_live(setting, &ours, &driver);
	return true;
}

/* ---- threads ---- */

static const char *const frees_text[] = {
	[BN_FREES_OWN] = "own blocks",
	[BN_FREES_TENTH_HERE] = "a tenth of others, own stream",
	[BN_FREES_TENTH_THERE] = "a tenth of others, block's stream",
};

struct threads_case {
	const struct bn_subject *subject;
	enum bn_frees frees;
	bool judged; /* the project promises something */
};

enum {
	ASYNC_OWN,
	ASYNC_TENTH_HERE,
	ASYNC_TENTH_THERE,
	PLAIN_OWN,
	DRIVER_OWN,
	DRIVER_TENTH_HERE,
};

static const struct threads_case threads_cases[] = {
	[ASYNC_OWN] = { &bn_subject_async, BN_FREES_OWN, true },
	[ASYNC_TENTH_HERE] = { &bn_subject_async, BN_FREES_TENTH_HERE, false },
	[ASYNC_TENTH_THERE] = { &bn_subject_async, BN_FREES_TENTH_THERE,
				false },
	[PLAIN_OWN] = { &bn_subject_plain, BN_FREES_OWN, false },
	[DRIVER_OWN] = { &bn_subject_driver, BN_FREES_OWN, false },
	[DRIVER_TENTH_HERE] = { &bn_subject_driver, BN_FREES_TENTH_HERE,
				false },
};

static enum bn_outcome run_threads_one(struct setting *setting,
				       const struct threads_case *one,
				       unsigned int threads, char *name,
				       double *rate_out)
{
	enum bn_outcome outcome;
	uint64_t pairs;

	snprintf(name, BN_NAME_BYTES, "%s, %u thread%s, %s", one->subject->name,
		 threads, threads > 1 ? "s" : "", frees_text[one->frees]);
	outcome = bn_threads_measure(one->subject, threads, one->frees,
				     &setting->run->options, rate_out, &pairs);
	if (outcome == BN_DONE)
		put(setting, name, "throughput", *rate_out * 1e-6, "Mpair/s",
		    pairs);
	if (outcome == BN_SLOW)
		printf("  %-44s not measured: filling takes over 6 s\n", name);
	return outcome;
}

static bool run_threads_case(struct setting *setting,
			     const struct threads_case *one, double *widest_out)
{
	char name[BN_NAME_BYTES];
	char alone[BN_NAME_BYTES];
	struct bn_figure figure = { .name = name,
				    .metric = "throughput, of 1 thread",
				    .unit = "times",
				    .samples = 1,
				    .baseline = alone };
	enum bn_outcome outcome;
	double first;
	double rate = 0;

	outcome = run_threads_one(setting, one, 1, alone, &first);
	for (unsigned int threads = 2; threads <= 8 && outcome == BN_DONE;
	     threads *= 2) {
		outcome = run_threads_one(setting, one, threads, name, &rate);
		if (outcome != BN_DONE)
			break;
		figure.value = rate / first;
		bn_figure(setting->run, &figure);
	}
	if (outcome == BN_DONE && one->judged)
		bn_target_least(setting->run, &figure, 5);
	*widest_out = outcome == BN_DONE ? rate : 0;
	return outcome != BN_FAILED;
}

#define THREADS_CASES (sizeof(threads_cases) / sizeof(threads_cases[0]))

/* Ours and the driver's throughput with 8 threads, block for block alike. */
static void compare_threads(struct setting *setting, unsigned int ours,
			    unsigned int driver, const double *widest)
{
	const char *frees = frees_text[threads_cases[ours].frees];
	char baseline[BN_NAME_BYTES];
	char name[BN_NAME_BYTES];
	const struct bn_figure figure = { .name = name,
					  .metric = "faster, by throughput",
					  .value =
						  widest[ours] / widest[driver],
					  .unit = "times",
					  .samples = 1,
					  .baseline = baseline };

	if (widest[driver] <= 0)
		return;
	snprintf(name, sizeof(name), "%s, 8 threads, %s",
		 threads_cases[ours].subject->name, frees);
	snprintf(baseline, sizeof(baseline), "%s, 8 threads, %s",
		 threads_cases[driver].subject->name, frees);
	bn_figure(setting->run, &figure);
}

static bool run_threads(struct setting *setting)
{
	double widest[THREADS_CASES] = { 0 };

	bn_title("threads: 1,250 live blocks of 512 B to 1 GiB in each");
	for (unsigned int i = 0; i < THREADS_CASES; i++) {
		bool ok;

		if (!threads_cases[i].subject->open()) {
			bn_complain("%s", threads_cases[i].subject->name);
			return false;
		}
		ok = run_threads_case(setting, &threads_cases[i], &widest[i]);
		threads_cases[i].subject->close();
		if (!ok)
			return false;
	}
	compare_threads(setting, ASYNC_OWN, DRIVER_OWN, widest);
	compare_threads(setting, ASYNC_TENTH_HERE, DRIVER_TENTH_HERE, widest);
	compare_threads(setting, PLAIN_OWN, DRIVER_OWN, widest);
	return true;
}

/* ---- */

static bool run_all(struct bn_run *run)
{
	struct setting setting = { .run = run, .tick_ns = bn_tick_ns() };
	double again;

	if (!bn_gpu_open(NULL, NULL)) {
		bn_complain("opening the GPU");
		return false;
	}
	bn_title("clock");
	put(&setting, "clock", "timer overhead, not subtracted",
	    (double)bn_tick_overhead() * setting.tick_ns, "ns", 100001);
	put(&setting, "clock", "timer step",
	    (double)bn_tick_step() * setting.tick_ns, "ns", 100001);
	if (!run_mixed(&setting) || !run_live(&setting) ||
	    !run_threads(&setting))
		return false;
	again = bn_tick_ns();
	put(&setting, "clock", "drift of the time stamp",
	    fabs(again / setting.tick_ns - 1.0) * 1e6, "ppm", 1);
	return true;
}

static int no_role(const struct bn_options *options)
{
	fprintf(stderr, "bench: unknown role \"%s\"\n", options->role);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	return bn_main(argc, argv, "alloc", "How fast is allocation?", run_all,
		       no_role);
}
