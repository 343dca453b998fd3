/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The program poolswitch: finds the command and reads its options. */
#include "cli/command.h"
#include "include/poolswitch.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const struct cl_command *const commands[] = {
	&cl_run,    &cl_status,  &cl_clients, &cl_drain, &cl_shutdown,
	&cl_reload, &cl_metrics, &cl_doctor,  &cl_model, &cl_bench,
};

/* Behind its first word everything is another program's. */
#define CL_TAKES_REST (CL_TAKES_RUN | CL_TAKES_BENCH)

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* Options that have no short form, and those of some commands only. */
enum key {
	KEY_GPU = 0x100,
	KEY_LISTEN,
	KEY_QUOTA,
	KEY_RESERVATION,
	KEY_NAME,
	KEY_FREE,
	KEY_AT_QUOTA,
	KEY_NO_DAEMON,
	KEY_LOG,
	KEY_PUBLIC,
	KEY_PLAN,
	KEY_TIMEOUT,
};

struct parse {
	struct cl_options options;
	const struct cl_command *command;
	int first; /* where in argv the command's name is */
};

/* Of the whole program: argp does not pass it to print_version(). */
static struct parse parsed;

static void print_version(FILE *out, struct argp_state *state)
{
	(void)state;
	if (parsed.options.is_json)
		fprintf(out, "{ \"version\": \"%s\" }\n", ps_version());
	else
		fprintf(out, "poolswitch %s\n", ps_version());
}

static void find_command(struct parse *parse, const char *name,
			 struct argp_state *state)
{
	size_t i;

	for (i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i]->name, name) == 0)
			parse->command = commands[i];
	if (!parse->command)
		argp_error(state, "there is no command %s", name);
	/* The rest is the command's. */
	parse->first = state->next - 1;
	state->next = state->argc;
}

/* The rest is another program's, and its own affair. */
static void take_program(struct parse *parse, struct argp_state *state)
{
	parse->options.program = state->argv + state->next - 1;
	state->next = state->argc;
}

/* Where the option's value goes; NULL: it is no option with one. */
static const char **place_of(struct cl_options *options, int key)
{
	switch (key) {
	case 's':
		return &options->socket;
	case KEY_GPU:
		return &options->gpu;
	case KEY_LISTEN:
		return &options->listen;
	case KEY_QUOTA:
		return &options->quota;
	case KEY_RESERVATION:
		return &options->reservation;
	case KEY_NAME:
		return &options->name;
	case KEY_FREE:
		return &options->free_mode;
	case KEY_AT_QUOTA:
		return &options->at_quota;
	case KEY_NO_DAEMON:
		return &options->no_daemon;
	case KEY_LOG:
		return &options->log;
	case KEY_PLAN:
		return &options->plan;
	case KEY_TIMEOUT:
		return &options->timeout;
	}
	return NULL;
}

/* What stands behind the command's name. */
static void take_word(struct parse *parse, char *text, struct argp_state *state)
{
	struct cl_options *options = &parse->options;

	if (parse->command->takes & CL_TAKES_REST)
		take_program(parse, state);
	else if ((parse->command->takes & CL_TAKES_MODEL) &&
		 options->word_count < CL_WORDS)
		options->words[options->word_count++] = text;
	else
		argp_error(state, "%s: what is that?", text);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct parse *parse = state->input;
	const char **place = place_of(&parse->options, key);

	if (place) {
		*place = text;
		return 0;
	}
	switch (key) {
	case 'j':
		parse->options.is_json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (!parse->command)
			find_command(parse, text, state);
		else
			take_word(parse, text, state);
		return 0;
	case KEY_PUBLIC:
		parse->options.is_public = true;
		return 0;
	case ARGP_KEY_NO_ARGS:
		if (!parse->command)
			argp_usage(state);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* clang-format off */
static const struct {
	struct argp_option option;
	unsigned int takes; /* the commands that have it; 0: all */
} rows[] = {
	{ { "json", 'j', NULL, 0, "Print JSON", 0 }, 0 },
	{ { "socket", 's', "PATH", 0,
	    "The daemon's socket (default: POOLSWITCH_SOCKET, "
	    "$XDG_RUNTIME_DIR/poolswitch/socket, /run/poolswitch/socket)",
	    0 }, 0 },
	{ { "gpu", KEY_GPU, "UUID|INDEX", 0,
	    "Which GPU to look at (default: 0)", 0 }, CL_TAKES_GPU },
	{ { "listen", KEY_LISTEN, "ADDRESS:PORT", 0,
	    "Serve over HTTP on a loopback address, such as 127.0.0.1:9464",
	    0 }, CL_TAKES_LISTEN },
	{ { "quota", KEY_QUOTA, "SIZE", 0,
	    "The most memory that it may have, such as 40G", 0 },
	  CL_TAKES_RUN },
	{ { "reservation", KEY_RESERVATION, "SIZE", 0,
	    "Memory that nobody else may have while it runs", 0 },
	  CL_TAKES_RUN },
	{ { "name", KEY_NAME, "NAME", 0,
	    "Its name in status (default: the program's)", 0 }, CL_TAKES_RUN },
	{ { "free", KEY_FREE, "fenced|wait", 0,
	    "Freed memory is used again behind a fence (default), or a free "
	    "waits for the GPU as the driver's does", 0 }, CL_TAKES_RUN },
	{ { "at-quota", KEY_AT_QUOTA, "strict|spill", 0,
	    "Without room: out of memory (default), or ask the driver", 0 },
	  CL_TAKES_RUN },
	{ { "no-daemon", KEY_NO_DAEMON, "fail|pass", 0,
	    "Without a daemon: do not start it (default), or start it on the "
	    "driver's memory", 0 }, CL_TAKES_RUN },
	{ { "log", KEY_LOG, "off|warn|info", 0,
	    "What the library says on standard error (default: warn)", 0 },
	  CL_TAKES_RUN },
	{ { "public", KEY_PUBLIC, NULL, 0,
	    "Add it for everybody who may use the daemon", 0 },
	  CL_TAKES_MODEL },
	{ { "plan", KEY_PLAN, "PLAN", 0,
	    "How its tensors travel together: best (as measured; default), "
	    "tensor (each alone), layer, one, or a number of groups",
	    0 }, CL_TAKES_MODEL },
	{ { "timeout", KEY_TIMEOUT, "SECONDS", 0,
	    "How long to wait",
	    0 }, CL_TAKES_MODEL },
};
/* clang-format on */

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void choose_options(unsigned int takes,
			   struct argp_option chosen[ROWS + 1])
{
	size_t count = 0;
	size_t i;

	for (i = 0; i < ROWS; i++)
		if (rows[i].takes == 0 || (rows[i].takes & takes))
			chosen[count++] = rows[i].option;
	chosen[count] = (struct argp_option){ 0 };
}

/* The list of commands behind the list of options. */
static char *add_commands(int key, const char *text, void *input)
{
	char *list = NULL;
	size_t size = 0;
	FILE *out;
	size_t i;

	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC)
		return (char *)text;
	out = open_memstream(&list, &size);
	if (!out)
		return NULL;
	fputs("Commands:\n", out);
	for (i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name,
			commands[i]->summary);
	fputs("\npoolswitch COMMAND --help says more; so does man poolswitch.",
	      out);
	fclose(out);
	return list;
}

static void parse_head(struct parse *parse, int argc, char **argv)
{
	struct argp_option options[ROWS + 1];
	const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = "COMMAND [OPTION...]",
		.doc = "Looks after poolswitchd and this machine."
		       "\v ",
		.help_filter = add_commands,
	};

	choose_options(0, options);
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, parse);
}

static void parse_command(struct parse *parse, int argc, char **argv)
{
	struct argp_option options[ROWS + 1];
	const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.args_doc = parse->command->args,
		.doc = parse->command->text,
	};
	char name[64];
	/* Behind a program's name the options are the program's. */
	unsigned int flags =
		parse->command->takes & CL_TAKES_REST ? ARGP_IN_ORDER : 0;

	choose_options(parse->command->takes, options);
	snprintf(name, sizeof(name), "poolswitch %s", parse->command->name);
	argv[parse->first] = name;
	argp_parse(&argp, argc - parse->first, argv + parse->first, flags, NULL,
		   parse);
}

int main(int argc, char **argv)
{
	argp_err_exit_status = EX_USAGE;
	argp_program_version_hook = print_version;
	parse_head(&parsed, argc, argv);
	parse_command(&parsed, argc, argv);
	return parsed.command->run(&parsed.options);
}
