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
	&cl_status, &cl_clients, &cl_drain,  &cl_shutdown,
	&cl_reload, &cl_metrics, &cl_doctor,
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* Options that have no short form, and those of some commands only. */
enum key { KEY_GPU = 0x100, KEY_LISTEN };

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

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct parse *parse = state->input;

	switch (key) {
	case 'j':
		parse->options.is_json = true;
		return 0;
	case 's':
		parse->options.socket = text;
		return 0;
	case KEY_GPU:
		parse->options.gpu = text;
		return 0;
	case KEY_LISTEN:
		parse->options.listen = text;
		return 0;
	case ARGP_KEY_ARG:
		if (parse->command)
			argp_error(state, "%s: what is that?", text);
		else
			find_command(parse, text, state);
		return 0;
	case ARGP_KEY_NO_ARGS:
		if (!parse->command)
			argp_usage(state);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option option_json = { "json", 'j',          NULL,
						0,      "Print JSON", 0 };
static const struct argp_option option_socket = {
	"socket",
	's',
	"PATH",
	0,
	"The daemon's socket (default: POOLSWITCH_SOCKET, "
	"$XDG_RUNTIME_DIR/poolswitch/socket, /run/poolswitch/socket)",
	0
};
static const struct argp_option option_gpu = {
	"gpu", KEY_GPU, "UUID|INDEX", 0, "Which GPU to look at (default: 0)", 0
};
static const struct argp_option option_listen = {
	"listen",
	KEY_LISTEN,
	"ADDRESS:PORT",
	0,
	"Serve over HTTP on a loopback address, such as 127.0.0.1:9464",
	0
};

static void choose_options(unsigned int takes, struct argp_option chosen[5])
{
	size_t count = 0;

	chosen[count++] = option_json;
	chosen[count++] = option_socket;
	if (takes & CL_TAKES_GPU)
		chosen[count++] = option_gpu;
	if (takes & CL_TAKES_LISTEN)
		chosen[count++] = option_listen;
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
	struct argp_option options[5];
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
	struct argp_option options[5];
	const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.doc = parse->command->text,
	};
	char name[64];

	choose_options(parse->command->takes, options);
	snprintf(name, sizeof(name), "poolswitch %s", parse->command->name);
	argv[parse->first] = name;
	argp_parse(&argp, argc - parse->first, argv + parse->first, 0, NULL,
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
