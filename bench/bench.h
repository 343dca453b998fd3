/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the benchmark programs have in common: options, the table for people,
 * and the JSON lines from which bench/report.py makes the project's tables.
 *
 * Invariant: a figure reaches the table and the JSON file by the same call, so
 * the two cannot differ.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "include/poolswitch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What was built; from the build. */
extern const char bn_build_commit[];

/* The end of a formatted case or metric name. */
#define BN_NAME_BYTES 96

struct bn_options {
	const char *json; /* file to append to; NULL: none */
	bool quick;       /* small counts: does it work, not how fast */
	uint64_t seed;    /* of every random order */
	const char *role; /* what a process started by ourselves is to do */
};

struct bn_run {
	const char *bench; /* the program's name in the results */
	struct bn_options options;
	FILE *json;     /* NULL: no file asked for */
	bool simulated; /* nothing measured here says how fast a GPU is */
	bool broken;    /* a line could not be written */
	unsigned int missed;
	char gpu[64];
	char driver[64];
	char commit[48];
	char date[24];
};

/* One figure. A zeroed field stands for "none". */
struct bn_figure {
	const char *name; /* the case */
	const char *metric;
	double value;
	const char *unit;
	uint64_t samples;
	const char *baseline; /* what the value is compared with, or NULL */
};

/*
 * The program: reads the options (--help prints @about), then does what @role
 * does in a process that was started for one, else what @measure does. The
 * latter's false, which it explained, is the program's failure.
 */
int bn_main(int argc, char **argv, const char *bench, const char *about,
	    bool (*measure)(struct bn_run *run),
	    int (*role)(const struct bn_options *options));

/* ps_alloc_shared() with the defaults and @mode. */
enum ps_status bn_reserve(enum ps_share_mode mode, struct ps_pool **pool_out);

/* A headline of the table; no figure. */
void bn_title(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One figure, into the table and the file. */
void bn_figure(struct bn_run *run, const struct bn_figure *figure);

/*
 * What the project promises: @figure's value is at most (or at least) @bound.
 * On a simulated GPU nothing is judged: no figure there is a speed.
 */
void bn_target_most(struct bn_run *run, const struct bn_figure *figure,
		    double bound);
void bn_target_least(struct bn_run *run, const struct bn_figure *figure,
		     double bound);

/* Prints "bench: text" and the thread's last failures on standard error. */
void bn_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif /* BENCH_BENCH_H */
