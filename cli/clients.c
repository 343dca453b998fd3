/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/view.h"

#include "cli/exit.h"
#include "cli/text.h"

#include <sysexits.h>

static const struct cl_column columns[] = {
	{ "PID", 7, true },    { "USER", 8, false },  { "NAME", 13, false },
	{ "STATE", 5, false }, { "LEASED", 8, true }, { "RESERVED", 8, true },
	{ "LIMIT", 8, true },  { "PASSED", 8, true }, { "BLOCKS", 7, true },
};

#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static void print_client(FILE *out, const json_t *client)
{
	const uint64_t bytes[] = {
		cl_json_number(client, "leased"),
		cl_json_number(client, "reservation"),
		cl_json_number(client, "limit"),
		cl_passed(client),
	};
	char size[4][CL_SIZE_BYTES], pid[24], user[33], name[65], blocks[24];
	const char *cells[COLUMNS] = { pid, user, name, cl_presence(client) };
	size_t i;

	snprintf(pid, sizeof(pid), "%llu",
		 (unsigned long long)cl_json_number(client, "pid"));
	cl_user(cl_json_number(client, "uid"), user, sizeof(user));
	cl_plain(cl_json_text(client, "name"), name, sizeof(name));
	for (i = 0; i < 4; i++)
		cells[4 + i] = cl_size(bytes[i], size[i]);
	snprintf(blocks, sizeof(blocks), "%llu",
		 (unsigned long long)cl_json_number(client, "blocks"));
	cells[8] = blocks;
	cl_table_row(out, columns, COLUMNS, cells);
}

void cl_print_clients(FILE *out, const json_t *status)
{
	const json_t *client;
	size_t i;

	cl_table_head(out, columns, COLUMNS);
	json_array_foreach(cl_json_at(status, "clients"), i, client)
		print_client(out, client);
	cl_print_reasons(out, status);
}

static void print_json(const json_t *status)
{
	json_t *clients = json_object_get(status, "clients");
	json_t *list = clients ? json_pack("{s:O}", "clients", clients)
			       : json_pack("{s:[]}", "clients");

	cl_json_print(stdout, list);
	json_decref(list);
}

static int run(const struct cl_options *options)
{
	json_t *status;
	int code = cl_ask(options, PS_ASK_STATUS, &status);

	if (code != EX_OK)
		return code;
	if (options->is_json)
		print_json(status);
	else
		cl_print_clients(stdout, status);
	json_decref(status);
	return cl_end(EX_OK);
}

const struct cl_command cl_clients = {
	.name = "clients",
	.summary = "each client's leases, reservation and limit",
	.text = "Lists the attached processes: what each has leased, what is "
		"reserved for it, how much it may have, and how much it has of "
		"the driver: what the pool cannot hold or had no room for.",
	.run = run,
};
