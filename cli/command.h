/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a command of the program poolswitch is: a row in a table, and a
 * function. main.c parses, a file of its own does each command's work.
 *
 * Invariant: what is printed on stdout with --json is one JSON text, also when
 * the command fails; what people are told of a failure is on stderr.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>

#define CL_WORDS 3u /* as many as any command takes */

/* What the command line says. Texts live as long as argv. */
struct cl_options {
	const char *socket; /* NULL: looked for */
	const char *gpu;    /* doctor; NULL: the first */
	const char *listen; /* metrics; NULL: print once */
	/* Of run, as they were written; NULL: not said. */
	const char *quota;
	const char *reservation;
	const char *name;
	const char *free_mode;
	const char *at_quota;
	const char *no_daemon;
	const char *log;
	/* Of model, as they were written; NULL: not said. */
	const char *plan;
	const char *timeout;
	bool is_public;
	const char *words[CL_WORDS]; /* what to do, with which */
	unsigned int word_count;
	char **program; /* and its arguments; ends with NULL */
	bool is_json;
};

enum cl_takes {
	CL_TAKES_GPU = 1u << 0,    /* --gpu */
	CL_TAKES_LISTEN = 1u << 1, /* --listen */
	CL_TAKES_RUN = 1u << 2,    /* a program, and how it is to live */
	CL_TAKES_MODEL = 1u << 3,  /* words, and options of models */
	CL_TAKES_BENCH = 1u << 4,  /* what to measure, and its arguments */
};

struct cl_command {
	const char *name;
	const char *summary; /* for the list of commands */
	const char *text;    /* for --help */
	const char *args;    /* the same; NULL: takes none */
	unsigned int takes;  /* of enum cl_takes */
	/* Returns the exit status (cli/exit.h). */
	int (*run)(const struct cl_options *options);
};

/* Each in the file of its name; reload is in shutdown.c. */
extern const struct cl_command cl_run;
extern const struct cl_command cl_status;
extern const struct cl_command cl_clients;
extern const struct cl_command cl_drain;
extern const struct cl_command cl_shutdown;
extern const struct cl_command cl_reload;
extern const struct cl_command cl_metrics;
extern const struct cl_command cl_doctor;
extern const struct cl_command cl_model;
extern const struct cl_command cl_bench;

#endif /* CLI_COMMAND_H */
