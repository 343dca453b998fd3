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
 * Reads the options; --help prints @about. False: the program ends with the
 * exit status in *exit_out.
 */
bool bn_options_parse(int argc, char **argv, const char *about,
		      struct bn_options *options_out, int *exit_out);

/* Opens the JSON file, asks the GPU and the driver for their names and prints
 * the head of the table. False, with a message printed, when one fails. */
bool bn_run_open(const char *bench, const struct bn_options *options,
		 struct bn_run *run_out);

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

/* The last line of the table, and the program's exit status: 0 also when a
 * target is missed, which is a result and no failure. */
int bn_run_close(struct bn_run *run);

/* Prints "bench: text" and the thread's last failures on standard error. */
void bn_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif /* BENCH_BENCH_H */
