/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How far a model is that is read or loaded, as a line on a terminal that is
 * written again and again: a bar, the rate of the last seconds and the time
 * left.
 *
 * Invariant: nothing of it stays on the terminal, and without a terminal there
 * is nothing at all.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "cli/json.h"
#include "cli/text.h"

#define CL_SAMPLES 16u

/* What was seen last. All zeros: nothing yet. */
struct cl_progress {
	char phase[16]; /* "reading" */
	uint64_t total; /* bytes; 0: not known */
	unsigned int count;
	struct cl_sample {
		int64_t ms;
		uint64_t done;
	} sample[CL_SAMPLES]; /* the oldest first */
};

/* Begins anew with another phase or total, and when @done is less. */
void cl_progress_add(struct cl_progress *progress, const char *phase,
		     uint64_t done, uint64_t total, int64_t now_ms);
/* What the daemon says of model @name; false when it knows none of it. */
bool cl_progress_look(struct cl_progress *progress, const json_t *answer,
		      const char *name, int64_t now_ms);
/* Shorter than a line of the terminal. */
void cl_progress_line(const struct cl_progress *progress,
		      char line[CL_COLUMNS]);

/* Shows it while the caller waits for the daemon. */
struct cl_show;

/* NULL when there is no terminal on standard error to show it on. Texts must
 * live until the end. */
struct cl_show *cl_show_begin(const struct cl_options *options,
			      const char *name);
void cl_show_end(struct cl_show *show); /* NULL: ok */

#endif /* CLI_PROGRESS_H */
