/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "bench/bench.h"

#include "base/status.h"
#include "bench/gpu.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_SEED 20260101u

static const struct option long_options[] = {
	{ "json", required_argument, NULL, 'j' },
	{ "quick", no_argument, NULL, 'q' },
	{ "seed", required_argument, NULL, 's' },
	{ "role", required_argument, NULL, 'r' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static void print_help(const char *program, const char *about)
{
	printf("usage: %s [--json FILE] [--quick] [--seed N]\n\n%s\n\n"
	       "  --json FILE  append one JSON object a line to FILE\n"
	       "  --quick      small counts: checks that it works, says\n"
	       "               nothing about speed\n"
	       "  --seed N     seed of every random order (default %u)\n",
	       program, about, DEFAULT_SEED);
}

static bool parse_seed(const char *text, uint64_t *seed_out)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0')
		return false;
	*seed_out = value;
	return true;
}

/* False: the program ends with the status in *exit_out. */
static bool take_option(int option, const char *program, const char *about,
			struct bn_options *options, int *exit_out)
{
	switch (option) {
	case 'j':
		options->json = optarg;
		return true;
	case 'q':
		options->quick = true;
		return true;
	case 'r':
		options->role = optarg;
		return true;
	case 's':
		if (parse_seed(optarg, &options->seed))
			return true;
		fprintf(stderr, "%s: --seed wants a number, not \"%s\"\n",
			program, optarg);
		break;
	case 'h':
		print_help(program, about);
		*exit_out = EXIT_SUCCESS;
		return false;
	default:
		break;
	}
	*exit_out = 2;
	return false;
}

/* False: the program ends with the exit status in *exit_out. */
static bool parse(int argc, char **argv, const char *about,
		  struct bn_options *options_out, int *exit_out)
{
	struct bn_options options = { .seed = DEFAULT_SEED };
	int option;

	for (;;) {
		option = getopt_long(argc, argv, "", long_options, NULL);
		if (option == -1)
			break;
		if (!take_option(option, argv[0], about, &options, exit_out))
			return false;
	}
	if (optind < argc) {
		fprintf(stderr, "%s: unknown argument \"%s\"; see --help\n",
			argv[0], argv[optind]);
		*exit_out = 2;
		return false;
	}
	*options_out = options;
	return true;
}

/* What was built, not what is checked out where the program runs. */
static void find_commit(char *text, size_t size)
{
	const char *env = getenv("POOLSWITCH_COMMIT");

	if (env == NULL || env[0] == '\0')
		env = bn_build_commit;
	snprintf(text, size, "%s", env);
}

static void find_date(char *text, size_t size)
{
	time_t now = time(NULL);
	struct tm utc;

	gmtime_r(&now, &utc);
	strftime(text, size, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

/* Asks the GPU and the driver for their names and prints the head of the
 * table. False, with a message printed, when something fails. */
static bool open_run(const char *bench, const struct bn_options *options,
		     struct bn_run *run_out)
{
	struct bn_run run = { .bench = bench, .options = *options };
	struct bn_identity identity;

	if (!bn_gpu_identify(&identity))
		return false;
	run.simulated = identity.simulated;
	snprintf(run.gpu, sizeof(run.gpu), "%s", identity.gpu);
	snprintf(run.driver, sizeof(run.driver), "%s", identity.driver);
	find_commit(run.commit, sizeof(run.commit));
	find_date(run.date, sizeof(run.date));
	if (options->json != NULL) {
		run.json = fopen(options->json, "ae");
		if (run.json == NULL) {
			fprintf(stderr, "%s: cannot append to %s: %s\n", bench,
				options->json, strerror(errno));
			return false;
		}
	}
	printf("%s on %s, driver %s, commit %s, seed %llu%s\n", bench, run.gpu,
	       run.driver, run.commit, (unsigned long long)options->seed,
	       options->quick ? ", quick" : "");
	if (run.simulated)
		printf("simulated GPU: no figure below says how fast a GPU "
		       "is\n");
	fflush(stdout);
	*run_out = run;
	return true;
}

void bn_title(const char *format, ...)
{
	va_list args;

	printf("\n");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

/* The names are our own: no control characters, no broken UTF-8. */
static void put_text(FILE *file, const char *key, const char *text)
{
	fprintf(file, "\"%s\": ", key);
	if (text == NULL) {
		fputs("null, ", file);
		return;
	}
	fputc('"', file);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', file);
		fputc(*text, file);
	}
	fputs("\", ", file);
}

static void put_line(struct bn_run *run, const struct bn_figure *figure,
		     const char *name, const char *verdict)
{
	FILE *file = run->json;

	if (file == NULL)
		return;
	fputc('{', file);
	put_text(file, "bench", run->bench);
	put_text(file, "case", name);
	put_text(file, "metric", figure->metric);
	fprintf(file, "\"value\": %.6g, ", figure->value);
	put_text(file, "unit", figure->unit);
	fprintf(file, "\"samples\": %llu, ",
		(unsigned long long)figure->samples);
	put_text(file, "baseline", figure->baseline);
	fputs(verdict, file);
	put_text(file, "gpu", run->gpu);
	put_text(file, "driver", run->driver);
	put_text(file, "commit", run->commit);
	fprintf(file, "\"quick\": %s, ", run->options.quick ? "true" : "false");
	fprintf(file, "\"date\": \"%s\"}\n", run->date);
	if (fflush(file) != 0)
		run->broken = true;
}

void bn_figure(struct bn_run *run, const struct bn_figure *figure)
{
	printf("  %-46s %-30s %12.6g %-8s", figure->name, figure->metric,
	       figure->value, figure->unit);
	if (figure->baseline != NULL)
		printf(" against %s", figure->baseline);
	printf("\n");
	fflush(stdout);
	put_line(run, figure, figure->name, "");
}

static void judge(struct bn_run *run, const struct bn_figure *figure, bool most,
		  double bound)
{
	const char *relation = most ? "at most" : "at least";
	bool met = most ? figure->value <= bound : figure->value >= bound;
	char metric[2 * BN_NAME_BYTES];
	char verdict[96];
	struct bn_figure line = *figure;

	if (run->simulated)
		return;
	if (!met)
		run->missed++;
	printf("  %-6s %s, %s: %.6g %s, wanted %s %.6g\n",
	       met ? "met" : "MISSED", figure->name, figure->metric,
	       figure->value, figure->unit, relation, bound);
	snprintf(metric, sizeof(metric), "%s: %s", figure->name,
		 figure->metric);
	snprintf(verdict, sizeof(verdict),
		 "\"relation\": \"%s\", \"bound\": %.6g, \"met\": %s, ",
		 relation, bound, met ? "true" : "false");
	line.metric = metric;
	put_line(run, &line, "target", verdict);
}

void bn_target_most(struct bn_run *run, const struct bn_figure *figure,
		    double bound)
{
	judge(run, figure, true, bound);
}

void bn_target_least(struct bn_run *run, const struct bn_figure *figure,
		     double bound)
{
	judge(run, figure, false, bound);
}

/* The last line of the table, and the program's exit status: 0 also when a
 * target is missed, which is a result and no failure. */
static int close_run(struct bn_run *run)
{
	if (run->simulated)
		printf("\n%s: done; no target is judged on a simulated GPU\n",
		       run->bench);
	else
		printf("\n%s: done; %u targets missed\n", run->bench,
		       run->missed);
	if (run->json != NULL && fclose(run->json) != 0)
		run->broken = true;
	run->json = NULL;
	if (!run->broken)
		return EXIT_SUCCESS;
	fprintf(stderr, "%s: %s is not complete: the disk may be full\n",
		run->bench, run->options.json);
	return EXIT_FAILURE;
}

/* One call of fprintf(): lines of several threads stay whole. */
void bn_complain(const char *format, ...)
{
	const char *public = ps_error_detail();
	const char *own = bs_fail_text();
	char what[2 * BN_NAME_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	fprintf(stderr, "bench: %s%s%s%s%s\n", what, public[0] ? ": " : "",
		public, own[0] ? ": " : "", own);
}

int bn_main(int argc, char **argv, const char *bench, const char *about,
	    bool (*measure)(struct bn_run *run),
	    int (*role)(const struct bn_options *options))
{
	struct bn_options options;
	struct bn_run run;
	int status;
	bool ok;

	if (!parse(argc, argv, about, &options, &status))
		return status;
	if (options.role != NULL)
		return role(&options);
	if (!open_run(bench, &options, &run))
		return EXIT_FAILURE;
	ok = measure(&run);
	bn_gpu_close();
	status = close_run(&run);
	return ok ? status : EXIT_FAILURE;
}

enum ps_status bn_reserve(enum ps_share_mode mode, struct ps_pool **pool_out)
{
	struct ps_pool_config *config;
	enum ps_status status = ps_pool_config_new(&config);

	if (status != PS_OK)
		return status;
	ps_pool_config_set_mode(config, mode);
	status = ps_alloc_shared(config, pool_out);
	ps_pool_config_free(config);
	return status;
}
