/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "poold/options.h"

#include "base/size.h"
#include "base/status.h"
#include "ipc/address.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLIENTS_DEFAULT 1024u
#define MODE_DEFAULT 0600u
#define HOST_DEFAULT "50%"
#define YIELD_DEFAULT_MS 2000u

enum key {
	KEY_GPU = 'g',
	KEY_PID_FILE = 'p',
	KEY_SOCKET = 's',
	KEY_VERBOSE = 'v',
	KEY_VERSION = 'V',
	KEY_SIZE = 256, /* from here on without a letter */
	KEY_HEADROOM,
	KEY_PARAMETER,
	KEY_SEGMENT,
	KEY_CLIENTS,
	KEY_LIMITS,
	KEY_MODE,
	KEY_OWNER,
	KEY_GROUP,
	KEY_HOST,
	KEY_YIELD,
	KEY_STOP_DEAF,
	KEY_ROLE,
	KEY_LINK,
};

static const struct argp_option table[] = {
	{ NULL, 0, NULL, 0, "The pool:", 1 },
	{ "gpu", KEY_GPU, "UUID|INDEX", 0, "the GPU (default: the only one)",
	  0 },
	{ "size", KEY_SIZE, "BYTES", 0,
	  "the pool's size (default: all that is free less the headroom)", 0 },
	{ "headroom", KEY_HEADROOM, "BYTES", 0,
	  "what to leave for the clients' CUDA contexts", 0 },
	{ "parameter", KEY_PARAMETER, "BYTES|PERCENT", 0,
	  "the parameter region (default: 25%)", 0 },
	{ "segment", KEY_SEGMENT, "BYTES", 0,
	  "the size of a segment, a power of two (default: chosen)", 0 },
	{ NULL, 0, NULL, 0, "Clients:", 2 },
	{ "socket", KEY_SOCKET, "PATH", 0,
	  "where to listen (default: POOLSWITCH_SOCKET, else "
	  "/run/poolswitch/socket for root and "
	  "$XDG_RUNTIME_DIR/poolswitch/socket for others)",
	  0 },
	{ "socket-mode", KEY_MODE, "OCTAL", 0,
	  "who may connect (default: 600, the daemon's user)", 0 },
	{ "socket-owner", KEY_OWNER, "USER", 0, "the socket's owner", 0 },
	{ "socket-group", KEY_GROUP, "GROUP", 0, "the socket's group", 0 },
	{ "limits", KEY_LIMITS, "FILE", 0,
	  "who may attach and how much he may have (JSON; read again on "
	  "SIGHUP)",
	  0 },
	{ "clients", KEY_CLIENTS, "N", 0,
	  "room for so many clients (default: 1024)", 0 },
	{ NULL, 0, NULL, 0, "Models:", 3 },
	{ "host-memory", KEY_HOST, "BYTES|PERCENT", 0,
	  "what the copies of models in host memory may take together "
	  "(default: 50% of the machine's)",
	  0 },
	{ "yield-ms", KEY_YIELD, "MS", 0,
	  "how long a client may take to answer when its models are in the way "
	  "(default: 2000)",
	  0 },
	{ "stop-deaf", KEY_STOP_DEAF, NULL, 0,
	  "kill clients that do not answer in that time", 0 },
	{ NULL, 0, NULL, 0, "Other:", 4 },
	{ "pid-file", KEY_PID_FILE, "FILE", 0, "keep the process number there",
	  0 },
	{ "verbose", KEY_VERBOSE, NULL, 0, "log details", 0 },
	{ "version", KEY_VERSION, NULL, 0, "print the version", -1 },
	{ "role", KEY_ROLE, "HALF", OPTION_HIDDEN, NULL, 0 },
	{ "link", KEY_LINK, "FD", OPTION_HIDDEN, NULL, 0 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};

static const char doc[] =
	"Owns the memory of one GPU and leases it to processes."
	"\v"
	"BYTES is a number, or one with a unit such as 512M, 40G or 1.5T.\n\n"
	"Runs in the foreground. TERM and INT: wait until all clients have "
	"left, then end; a second time: end now. HUP: read the limits again.";

/* ------------------------------------------------------------------ */
/* Values                                                              */

static uint64_t parse_size(const char *text, const char *option,
			   struct argp_state *state)
{
	uint64_t bytes = 0;

	if (strchr(text, '%'))
		argp_error(state, "%s is '%s', must be in bytes", option, text);
	else if (bs_size_parse(text, 0, &bytes) != PS_OK)
		argp_error(state, "%s: %s", option, bs_fail_text());
	return bytes;
}

static unsigned int parse_number(const char *text, const char *option,
				 unsigned int low, unsigned int high, int base,
				 struct argp_state *state)
{
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(text, &end, base);
	if (text[0] < '0' || text[0] > '9' || *end || errno || number < low ||
	    number > high)
		argp_error(state,
			   base == 8 ? "%s is '%s', must be an octal number "
				       "from %o to %o"
				     : "%s is '%s', must be a number from %u "
				       "to %u",
			   option, text, low, high);
	return (unsigned int)number;
}

/* Only its form: the whole is not known yet. */
static const char *check_part(const char *text, const char *option,
			      struct argp_state *state)
{
	uint64_t bytes;

	if (bs_size_parse(text, UINT64_C(1) << 40, &bytes) != PS_OK)
		argp_error(state, "%s: %s", option, bs_fail_text());
	return text;
}

static enum pd_role parse_role(const char *text, struct argp_state *state)
{
	if (strcmp(text, "keeper") == 0)
		return PD_ROLE_KEEPER;
	if (strcmp(text, "agent") != 0)
		argp_error(state, "--role is '%s', must be keeper or agent",
			   text);
	return PD_ROLE_AGENT;
}

/* ------------------------------------------------------------------ */
/* Parsing                                                             */

static bool parse_pool(int key, char *text, struct argp_state *state,
		       struct pd_gpu_plan *plan)
{
	switch (key) {
	case KEY_GPU:
		plan->gpu = text;
		return true;
	case KEY_SIZE:
		plan->size = parse_size(text, "--size", state);
		return true;
	case KEY_HEADROOM:
		plan->headroom = parse_size(text, "--headroom", state);
		return true;
	case KEY_PARAMETER:
		plan->parameter = check_part(text, "--parameter", state);
		return true;
	case KEY_SEGMENT:
		plan->segment = parse_size(text, "--segment", state);
		return true;
	case KEY_CLIENTS:
		plan->clients = parse_number(text, "--clients", 1,
					     IP_CLIENTS_MAX, 10, state);
		return true;
	default:
		return false;
	}
}

static bool parse_models(int key, char *text, struct argp_state *state,
			 struct pd_options *options)
{
	switch (key) {
	case KEY_HOST:
		options->host = check_part(text, "--host-memory", state);
		return true;
	case KEY_YIELD:
		options->yield_ms = parse_number(text, "--yield-ms", 10,
						 IP_WAIT_MAX_MS, 10, state);
		return true;
	case KEY_STOP_DEAF:
		options->stops_deaf = true;
		return true;
	default:
		return false;
	}
}

static void print_version(void)
{
	printf("poolswitchd %d.%d.%d\n", PS_VERSION_MAJOR, PS_VERSION_MINOR,
	       PS_VERSION_PATCH);
	exit(0);
}

/* What parse() collects besides the options. */
struct parsing {
	struct pd_options options;
	const char *socket;
};

static void check_end(struct argp_state *state, struct parsing *parsing)
{
	struct pd_options *options = &parsing->options;

	if ((options->role == PD_ROLE_START) != (options->link < 0))
		argp_error(state, "--role and --link belong together");
	if (ip_path_for_daemon(parsing->socket, options->socket) != PS_OK)
		argp_error(state, "%s", bs_fail_text());
}

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct parsing *parsing = state->input;
	struct pd_options *options = &parsing->options;

	if (parse_pool(key, text, state, &options->plan) ||
	    parse_models(key, text, state, options))
		return 0;
	switch (key) {
	case KEY_SOCKET:
		parsing->socket = text;
		return 0;
	case KEY_MODE:
		options->mode =
			parse_number(text, "--socket-mode", 0, 0777, 8, state);
		return 0;
	case KEY_OWNER:
		options->owner = text;
		return 0;
	case KEY_GROUP:
		options->group = text;
		return 0;
	case KEY_LIMITS:
		options->limits = text;
		return 0;
	case KEY_PID_FILE:
		options->pid_file = text;
		return 0;
	case KEY_VERBOSE:
		options->is_verbose = true;
		return 0;
	case KEY_VERSION:
		print_version();
		return 0;
	case KEY_ROLE:
		options->role = parse_role(text, state);
		return 0;
	case KEY_LINK:
		options->link = (int)parse_number(text, "--link", 0, 1 << 20,
						  10, state);
		return 0;
	case ARGP_KEY_END:
		check_end(state, parsing);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

void pd_options_parse(int argc, char **argv, struct pd_options *options_out)
{
	static const struct argp argp = { table, parse, NULL, doc,
					  NULL,  NULL,  NULL };
	struct parsing parsing = {
		.options = {
			.link = -1,
			.mode = MODE_DEFAULT,
			.yield_ms = YIELD_DEFAULT_MS,
			.plan = {
				.headroom = UINT64_MAX,
				.clients = CLIENTS_DEFAULT,
			},
		},
	};

	/* Mistakes end the program in there, with EX_USAGE. */
	argp_parse(&argp, argc, argv, 0, NULL, &parsing);
	*options_out = parsing.options;
}

static uint64_t machine_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	long page = sysconf(_SC_PAGESIZE);

	return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

uint64_t pd_options_host_bytes(const struct pd_options *options)
{
	const char *text = options->host ? options->host : HOST_DEFAULT;
	uint64_t bytes = 0;

	/* Its form was checked; of a machine of unknown size there is none. */
	if (bs_size_parse(text, machine_bytes(), &bytes) != PS_OK)
		return 0;
	return bytes;
}

/* ------------------------------------------------------------------ */
/* The other half's                                                    */

#define ROLE "--role="
#define LINK "--link="

static bool is_ours(const char *argument)
{
	return argument && (strncmp(argument, ROLE, strlen(ROLE)) == 0 ||
			    strncmp(argument, LINK, strlen(LINK)) == 0);
}

char **pd_options_argv(int argc, char **argv, enum pd_role role, int link)
{
	static char keeper[] = ROLE "keeper";
	static char agent[] = ROLE "agent";
	/* Two more, the end, and behind them the text of the last one. */
	size_t places = (size_t)argc + 3;
	size_t text_bytes = sizeof(LINK) + 12;
	char **list = malloc(places * sizeof(*list) + text_bytes);
	char *text;
	int from = 1;
	int at = 0;

	if (!list)
		return NULL;
	text = (char *)(list + places);
	snprintf(text, text_bytes, LINK "%d", link);
	list[at++] = argv[0];
	list[at++] = role == PD_ROLE_KEEPER ? keeper : agent;
	list[at++] = text;
	/* Where this function has put them: a value may look the same. */
	while (from < 3 && from < argc && is_ours(argv[from]))
		from++;
	while (from < argc)
		list[at++] = argv[from++];
	list[at] = NULL;
	return list;
}
