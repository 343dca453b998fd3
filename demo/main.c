/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * poolswitch-demo: one pool, one copy of two models' weights, two workers
 * that switch between them. This file reads the options and chooses the GPU;
 * the work is in controller.c and worker.c.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "demo/controller.h"
#include "demo/start.h"
#include "demo/worker.h"
#include "device/device.h"

static const char usage[] =
	"usage: poolswitch-demo [option]...\n"
	"\n"
	"Reserves the memory of a GPU, puts two small models into it once, "
	"and\n"
	"has two processes classify handwritten digits with them by turns.\n"
	"Without a GPU it uses the simulated one, and says so.\n"
	"\n"
	"  --gpu GPU              \"0\", \"1\", ... or \"GPU-<uuid>\"\n"
	"  --size SIZE            of the pool: bytes, or with K, M, G or T\n"
	"                         (default: all that is free, less headroom)\n"
	"  --parameter-size SIZE  of the part for weights (default: a "
	"quarter)\n"
	"  --switches N           of each worker, even (default: 20)\n"
	"  --json FILE            write the results to FILE too\n"
	"  --data FOLDER          models, images and kernels\n"
	"                         (default: this program's folder)\n"
	"  --help\n";

static int complain(const char *what)
{
	fprintf(stderr, "poolswitch-demo: %s: %s\n", what, bs_fail_text());
	return EXIT_FAILURE;
}

static bool parse_size(const char *text, uint64_t *size_out)
{
	static const char units[] = "KMGT";
	const char *unit;
	uint64_t size;
	char *end;

	errno = 0;
	size = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || errno != 0 || size == 0)
		return false;
	unit = *end != '\0' ? strchr(units, *end) : NULL;
	if (unit != NULL) {
		if (!bs_mul(size, 1ull << (10 * (unit - units + 1)), &size))
			return false;
		end++;
	}
	if (*end != '\0')
		return false;
	*size_out = size;
	return true;
}

static bool parse_switches(const char *text, uint32_t *switches_out)
{
	uint64_t number;

	if (!parse_size(text, &number) || number > UINT32_MAX ||
	    number % DM_MODELS != 0)
		return false;
	*switches_out = (uint32_t)number;
	return true;
}

static bool take_option(struct dm_options *options, int option, char *value)
{
	switch (option) {
	case 'g':
		options->gpu = value;
		return true;
	case 's':
		return parse_size(value, &options->size);
	case 'p':
		return parse_size(value, &options->parameter_size);
	case 'n':
		return parse_switches(value, &options->switches);
	case 'j':
		options->json = value;
		return true;
	case 'd':
		options->data = value;
		return true;
	default:
		return false;
	}
}

/* Ends the program for --help and for what it does not understand. */
static void parse_options(int argc, char **argv, struct dm_options *options)
{
	static const struct option table[] = {
		{ "gpu", required_argument, NULL, 'g' },
		{ "size", required_argument, NULL, 's' },
		{ "parameter-size", required_argument, NULL, 'p' },
		{ "switches", required_argument, NULL, 'n' },
		{ "json", required_argument, NULL, 'j' },
		{ "data", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		}
		if (take_option(options, option, optarg))
			continue;
		if (option != '?')
			fprintf(stderr,
				"poolswitch-demo: %s is no value for "
				"that\n",
				optarg);
		exit(2);
	}
	if (optind < argc) {
		fprintf(stderr, "poolswitch-demo: what is \"%s\"?\n",
			argv[optind]);
		exit(2);
	}
}

/* Falls back to the simulated GPU only where nobody has chosen one. */
static enum ps_status choose_gpu(const struct dm_options *options, char **argv)
{
	const char *driver = getenv("POOLSWITCH_DRIVER");
	struct dv_device *device;
	enum ps_status status;

	if (driver != NULL && strcmp(driver, "sim") == 0)
		return dm_sim_begin();
	status = dv_device_open(options->gpu, &device);
	if (status == PS_OK) {
		dv_device_close(device);
		return PS_OK;
	}
	if (driver != NULL || options->gpu != NULL)
		return status;
	printf("No GPU can be used here:\n  %s\n"
	       "This run uses the simulated GPU.\n\n",
	       bs_fail_text());
	fflush(stdout);
	return dm_restart_simulated(argv);
}

static int show(const struct dm_options *options,
		const struct dm_results *results)
{
	struct dm_problems problems;

	dm_results_judge(results, &problems);
	dm_results_print(results, &problems, stdout);
	if (options->json != NULL &&
	    dm_results_write(results, &problems, options->json) != PS_OK)
		return complain("results");
	return problems.count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* As demo/start.h says. */
static int be_worker(char **argv)
{
	return dm_worker_main(atoi(argv[2]), (uint32_t)atoi(argv[3]), argv[4],
			      argv[5]);
}

int main(int argc, char **argv)
{
	struct dm_options options = { .switches = 20 };
	struct dm_results results;
	char folder[PATH_MAX];
	enum ps_status status;

	if (argc == 6 && strcmp(argv[1], DM_WORKER_OPTION) == 0)
		return be_worker(argv);
	parse_options(argc, argv, &options);
	status = dm_own_folder(folder, sizeof(folder));
	if (status == PS_OK && options.data == NULL)
		options.data = folder;
	if (status == PS_OK)
		status = choose_gpu(&options, argv);
	if (status == PS_OK)
		status = dm_controller_run(&options, &results);
	return status == PS_OK ? show(&options, &results)
			       : complain(ps_status_name(status));
}
