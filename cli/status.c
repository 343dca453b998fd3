/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/view.h"

#include "cli/exit.h"
#include "cli/text.h"

#include <string.h>
#include <sysexits.h>

#define BARS_WIDTH 52 /* both regions' bars together */
#define BAR_LEAST 6

/* ---- the pool ---- */

static void print_daemon(FILE *out, const json_t *status)
{
	char span[CL_SPAN_BYTES], bytes[CL_SIZE_BYTES], piece[CL_SIZE_BYTES];
	char text[CL_DETAIL_BYTES];

	fprintf(out, "poolswitchd %s, ",
		cl_plain(cl_json_text(status, "version"), text, 32));
	fprintf(out, "%s, pid %llu, up %s\n",
		cl_plain(cl_json_text(status, "state"), text, 32),
		(unsigned long long)cl_json_number(status, "agent_pid"),
		cl_span(cl_json_number(status, "uptime"), span));
	fprintf(out, "socket  %s\n",
		cl_plain(cl_json_text(status, "socket"), text, sizeof(text)));
	fprintf(out, "GPU     %s, ",
		cl_plain(cl_json_text(status, "gpu.uuid"), text, 48));
	fprintf(out, "%s free outside the pool\n",
		cl_size(cl_json_number(status, "gpu.free"), bytes));
	fprintf(out, "pool    %s in %llu segments of %s\n\n",
		cl_size(cl_json_number(status, "pool.bytes"), bytes),
		(unsigned long long)cl_json_number(status, "pool.segments"),
		cl_size(cl_json_number(status, "pool.segment_bytes"), piece));
}

/* ---- the regions ---- */

/* Bars as long as their regions are large, of BARS_WIDTH together. */
static int bar_width(uint64_t bytes, uint64_t other)
{
	struct cl_part both[] = { { .amount = bytes }, { .amount = other } };
	int shares[2];

	if (bytes == 0)
		return 0;
	if (other == 0)
		return BARS_WIDTH;
	cl_share(both, 2, BARS_WIDTH, shares);
	if (shares[0] < BAR_LEAST)
		return BAR_LEAST;
	if (shares[1] < BAR_LEAST)
		return BARS_WIDTH - BAR_LEAST;
	return shares[0];
}

static void print_region(FILE *out, bool colourful, const char *name,
			 uint64_t bytes, const struct cl_part *parts,
			 size_t count, int width)
{
	char size[CL_SIZE_BYTES];

	fprintf(out, "%-11s  %8s  ", name, cl_size(bytes, size));
	if (bytes > 0)
		cl_bar(out, colourful, parts, count, width);
	else
		fputs("none\n", out);
}

struct legend {
	const char *word;
	const char *field; /* in regions.computation */
	const char *plus;  /* another one; NULL: none */
	char character;
	const char *colour;
};

static const struct legend legends[] = {
	{ "leased", "leased", "outside", '#', "32" },
	{ "parked", "parked", NULL, '=', "33" },
	{ "quarantined", "quarantined", "other", '!', "31" },
	{ "in cleaning", "dirty", "remaking", '~', "36" },
	{ "free", "clean", NULL, '.', NULL },
	/* Not a part of the bar: any of the above. */
	{ "guaranteed", "guaranteed", NULL, ' ', NULL },
};

#define LEGENDS (sizeof(legends) / sizeof(legends[0]))
#define PARTS (LEGENDS - 1)

static uint64_t legend_bytes(const json_t *region, const struct legend *legend)
{
	uint64_t bytes = cl_json_number(region, legend->field);

	if (legend->plus)
		bytes += cl_json_number(region, legend->plus);
	return bytes;
}

static void print_legends(FILE *out, const json_t *region)
{
	char size[CL_SIZE_BYTES];
	size_t i;

	for (i = 0; i < LEGENDS; i++)
		fprintf(out, "  %c %-11s %8s%s", legends[i].character,
			legends[i].word,
			cl_size(legend_bytes(region, &legends[i]), size),
			i % 3 == 2 ? "\n" : "");
}

static void print_regions(FILE *out, bool colourful, const json_t *status)
{
	const json_t *region = cl_json_at(status, "regions.computation");
	uint64_t parameter = cl_json_number(status, "regions.parameter.bytes");
	uint64_t computation = cl_json_number(region, "bytes");
	struct cl_part weights = { parameter, ':', "34" };
	struct cl_part parts[PARTS];
	size_t i;

	for (i = 0; i < PARTS; i++)
		parts[i] = (struct cl_part){ legend_bytes(region, &legends[i]),
					     legends[i].character,
					     legends[i].colour };
	print_region(out, colourful, "parameter", parameter, &weights, 1,
		     bar_width(parameter, computation));
	print_region(out, colourful, "computation", computation, parts, PARTS,
		     bar_width(computation, parameter));
	print_legends(out, region);
}

/* ---- its clients ---- */

static const struct cl_column columns[] = {
	{ "PID", 7, true },    { "USER", 8, false },  { "NAME", 12, false },
	{ "STATE", 5, false }, { "LIVE", 8, true },   { "CACHED", 8, true },
	{ "PASSED", 8, true }, { "PARKED", 8, true }, { "QUARANT.", 8, true },
};

#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

const char *cl_presence(const json_t *client)
{
	static const char *const known[] = { "here", "away", "dead" };
	const char *presence = cl_json_text(client, "presence");
	size_t i;

	for (i = 0; i < 3; i++)
		if (strcmp(presence, known[i]) == 0)
			break;
	if (i > 0)
		return i < 3 ? known[i] : "?";
	if (cl_json_is_true(client, "waits"))
		return "waits";
	return cl_json_is_true(client, "answered") ? "here" : "quiet";
}

uint64_t cl_passed(const json_t *client)
{
	return cl_json_number(client, "outside") +
	       cl_json_number(client, "passed");
}

static void print_client(FILE *out, const json_t *client)
{
	const uint64_t bytes[] = {
		cl_json_number(client, "live"),
		cl_json_number(client, "cached"),
		cl_passed(client),
		cl_json_number(client, "parked"),
		cl_json_number(client, "quarantined"),
	};
	char size[5][CL_SIZE_BYTES], pid[24], user[33], name[65];
	const char *cells[COLUMNS] = { pid, user, name, cl_presence(client) };
	size_t i;

	snprintf(pid, sizeof(pid), "%llu",
		 (unsigned long long)cl_json_number(client, "pid"));
	cl_user(cl_json_number(client, "uid"), user, sizeof(user));
	cl_plain(cl_json_text(client, "name"), name, sizeof(name));
	for (i = 0; i < 5; i++)
		cells[4 + i] = cl_size(bytes[i], size[i]);
	cl_table_row(out, columns, COLUMNS, cells);
}

void cl_print_reasons(FILE *out, const json_t *status)
{
	const json_t *client;
	char name[65], reason[CL_DETAIL_BYTES];
	size_t i;

	json_array_foreach(cl_json_at(status, "clients"), i, client)
	{
		if (*cl_json_text(client, "reason") == '\0')
			continue;
		cl_plain(cl_json_text(client, "reason"), reason,
			 sizeof(reason));
		cl_wrap(out, reason, 4,
			fprintf(out, "  %s, pid %llu: ",
				cl_plain(cl_json_text(client, "name"), name,
					 sizeof(name)),
				(unsigned long long)cl_json_number(client,
								   "pid")));
	}
}

static void print_clients(FILE *out, const json_t *status)
{
	const json_t *clients = cl_json_at(status, "clients");
	const json_t *client;
	size_t i;

	if (json_array_size(clients) == 0) {
		fputs("no clients\n", out);
		return;
	}
	cl_table_head(out, columns, COLUMNS);
	json_array_foreach(clients, i, client) print_client(out, client);
	cl_print_reasons(out, status);
}

void cl_print_status(FILE *out, bool colourful, const json_t *status)
{
	print_daemon(out, status);
	print_regions(out, colourful, status);
	fputc('\n', out);
	print_clients(out, status);
}

static int run(const struct cl_options *options)
{
	json_t *status;
	int code = cl_ask(options, PS_ASK_STATUS, &status);

	if (code != EX_OK)
		return code;
	if (options->is_json)
		cl_json_print(stdout, status);
	else
		cl_print_status(stdout, cl_is_colourful(stdout), status);
	json_decref(status);
	return cl_end(EX_OK);
}

const struct cl_command cl_status = {
	.name = "status",
	.summary = "the pool's regions and who has what of them",
	.text = "Shows the daemon's pool: its regions as bars, and what each "
		"client has.",
	.run = run,
};
