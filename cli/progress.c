/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/progress.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BAR_WIDTH 14
#define LOOK_MS 250 /* what is done sooner is not shown */

/* ---- what was seen ---- */

static bool goes_on(const struct cl_progress *progress, const char *phase,
		    uint64_t done, uint64_t total)
{
	return progress->count > 0 && progress->total == total &&
	       strncmp(progress->phase, phase, sizeof(progress->phase) - 1) ==
		       0 &&
	       progress->sample[progress->count - 1].done <= done;
}

void cl_progress_add(struct cl_progress *progress, const char *phase,
		     uint64_t done, uint64_t total, int64_t now_ms)
{
	if (!goes_on(progress, phase, done, total)) {
		memset(progress, 0, sizeof(*progress));
		cl_plain(phase, progress->phase, sizeof(progress->phase));
		progress->total = total;
	}
	if (progress->count == CL_SAMPLES) {
		progress->count--;
		memmove(progress->sample, progress->sample + 1,
			progress->count * sizeof(progress->sample[0]));
	}
	progress->sample[progress->count++] =
		(struct cl_sample){ now_ms, done };
}

static const json_t *find_model(const json_t *answer, const char *name)
{
	const json_t *model;
	size_t i;

	json_array_foreach(cl_json_at(answer, "models"), i, model)
	{
		if (strcmp(cl_json_text(model, "name"), name) == 0)
			return model;
	}
	return NULL;
}

/* Tensors differ in size: so many of them are about so many bytes. */
static uint64_t landed_bytes(const json_t *model)
{
	double tensors = (double)cl_json_number(model, "tensors");
	double landed = (double)cl_json_number(model, "landed");
	double bytes = (double)cl_json_number(model, "bytes");

	return tensors > 0 ? (uint64_t)(landed / tensors * bytes) : 0;
}

bool cl_progress_look(struct cl_progress *progress, const json_t *answer,
		      const char *name, int64_t now_ms)
{
	const json_t *model = find_model(answer, name);
	const char *state = cl_json_text(model, "state");
	uint64_t bytes = cl_json_number(model, "bytes");

	if (!model)
		return false;
	if (strcmp(state, "reading") == 0)
		cl_progress_add(progress, state, cl_json_number(model, "read"),
				bytes, now_ms);
	else if (strcmp(state, "loading") == 0)
		cl_progress_add(progress, state, landed_bytes(model), bytes,
				now_ms);
	else
		cl_progress_add(progress, "waiting", 0, 0, now_ms);
	return true;
}

/* ---- the line ---- */

static uint64_t done_of(const struct cl_progress *progress)
{
	return progress->count > 0 ? progress->sample[progress->count - 1].done
				   : 0;
}

/* Bytes a second, of the samples; 0: not known. */
static double rate_of(const struct cl_progress *progress)
{
	const struct cl_sample *first = &progress->sample[0];
	const struct cl_sample *last;

	if (progress->count < 2)
		return 0;
	last = &progress->sample[progress->count - 1];
	if (last->ms <= first->ms)
		return 0;
	return (double)(last->done - first->done) * 1000 /
	       (double)(last->ms - first->ms);
}

static void print_bar(FILE *out, uint64_t done, uint64_t total)
{
	const struct cl_part parts[] = {
		{ .amount = done, .character = '#' },
		{ .amount = total - done, .character = '.' },
	};
	int shares[2];

	cl_share(parts, 2, BAR_WIDTH, shares);
	fputs(" [", out);
	for (int i = 0; i < BAR_WIDTH; i++)
		fputc(parts[i >= shares[0]].character, out);
	fprintf(out, "] %3d%%", (int)((double)done / (double)total * 100));
}

static void print_line(FILE *out, const struct cl_progress *progress)
{
	const uint64_t total = progress->total;
	const double rate = rate_of(progress);
	char size[CL_SIZE_BYTES], span[CL_SPAN_BYTES];
	uint64_t done = done_of(progress);

	fputs(progress->phase, out);
	if (total > 0 && done > total)
		done = total;
	if (total > 0)
		print_bar(out, done, total);
	if (done > 0)
		fprintf(out, " %s", cl_size(done, size));
	if (total > 0)
		fprintf(out, " of %s", cl_size(total, size));
	if (rate < 1)
		return;
	fprintf(out, " %s/s", cl_size((uint64_t)rate, size));
	if (total > done)
		fprintf(out, " %s left",
			cl_span((uint64_t)((double)(total - done) / rate + 0.5),
				span));
}

void cl_progress_line(const struct cl_progress *progress, char line[CL_COLUMNS])
{
	char text[2 * CL_COLUMNS] = "";
	FILE *out = fmemopen(text, sizeof(text) - 1, "w");

	if (out) {
		print_line(out, progress);
		fclose(out);
	}
	cl_plain(text, line, CL_COLUMNS);
}

/* ---- showing it ---- */

struct cl_show {
	/* Immutable. */
	const struct cl_options *options;
	const char *name;
	pthread_t thread;
	/* The thread's own. */
	struct cl_progress progress;
	bool is_shown;
	/* Guarded by mutex. */
	pthread_mutex_t mutex;
	pthread_cond_t over;
	bool is_over;
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits for the next look; false when there is none. */
static bool wait_for_look(struct cl_show *show)
{
	const int64_t end = now_ms() + LOOK_MS;
	const struct timespec until = { end / 1000, end % 1000 * 1000000 };
	bool is_over;

	pthread_mutex_lock(&show->mutex);
	while (!show->is_over &&
	       pthread_cond_timedwait(&show->over, &show->mutex, &until) == 0)
		;
	is_over = show->is_over;
	pthread_mutex_unlock(&show->mutex);
	return !is_over;
}

static void look(struct cl_show *show)
{
	json_t *answer = cl_ask_models_quietly(show->options);
	char line[CL_COLUMNS];

	if (answer &&
	    cl_progress_look(&show->progress, answer, show->name, now_ms())) {
		cl_progress_line(&show->progress, line);
		fprintf(stderr, "\r%s\033[K", line);
		fflush(stderr);
		show->is_shown = true;
	}
	json_decref(answer);
}

static void *show_it(void *arg)
{
	struct cl_show *show = arg;

	while (wait_for_look(show))
		look(show);
	if (show->is_shown)
		fputs("\r\033[K", stderr);
	return NULL;
}

static bool is_terminal(void)
{
	const char *terminal = getenv("TERM");

	return isatty(STDERR_FILENO) && terminal && *terminal &&
	       strcmp(terminal, "dumb") != 0;
}

static bool init_waiting(struct cl_show *show)
{
	pthread_condattr_t attr;
	bool is_ready;

	if (pthread_condattr_init(&attr) != 0)
		return false;
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	is_ready = pthread_cond_init(&show->over, &attr) == 0 &&
		   pthread_mutex_init(&show->mutex, NULL) == 0;
	pthread_condattr_destroy(&attr);
	return is_ready;
}

struct cl_show *cl_show_begin(const struct cl_options *options,
			      const char *name)
{
	struct cl_show *show = is_terminal() ? calloc(1, sizeof(*show)) : NULL;

	if (!show)
		return NULL;
	show->options = options;
	show->name = name;
	if (!init_waiting(show) ||
	    pthread_create(&show->thread, NULL, show_it, show) != 0) {
		/* What was asked for is done without it. */
		free(show);
		return NULL;
	}
	return show;
}

void cl_show_end(struct cl_show *show)
{
	if (!show)
		return;
	pthread_mutex_lock(&show->mutex);
	show->is_over = true;
	pthread_cond_signal(&show->over);
	pthread_mutex_unlock(&show->mutex);
	pthread_join(show->thread, NULL);
	pthread_cond_destroy(&show->over);
	pthread_mutex_destroy(&show->mutex);
	free(show);
}
