/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/model.h"

#include "cli/exit.h"
#include "cli/text.h"

#include <inttypes.h>
#include <sysexits.h>

static const struct cl_column columns[] = {
	{ "NAME", 22, false }, { "STATE", 8, false },    { "BYTES", 8, true },
	{ "HOST", 8, true },   { "ADDRESS", 14, false }, { "USERS", 7, true },
	{ "PIN", 3, false },
};

#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static void print_model(FILE *out, const json_t *model)
{
	char name[129], state[16], bytes[CL_SIZE_BYTES], host[CL_SIZE_BYTES];
	char address[24] = "", users[48];
	const char *cells[COLUMNS] = { name,    state, bytes, host,
				       address, users, "" };

	cl_plain(cl_json_text(model, "name"), name, sizeof(name));
	cl_plain(cl_json_text(model, "state"), state, sizeof(state));
	cl_size(cl_json_number(model, "bytes"), bytes);
	cl_size(cl_json_number(model, "host"), host);
	if (cl_json_number(model, "address") > 0)
		snprintf(address, sizeof(address), "0x%012" PRIx64,
			 cl_json_number(model, "address"));
	snprintf(users, sizeof(users), "%" PRIu64 " of %" PRIu64,
		 cl_json_number(model, "users"),
		 cl_json_number(model, "attached"));
	if (cl_json_is_true(model, "pinned"))
		cells[COLUMNS - 1] = "yes";
	cl_table_row(out, columns, COLUMNS, cells);
}

static void print_store(FILE *out, const json_t *answer)
{
	char used[CL_SIZE_BYTES], budget[CL_SIZE_BYTES], rate[CL_SIZE_BYTES];

	fprintf(out, "copies in host memory: %s of %s",
		cl_size(cl_json_number(answer, "host.bytes"), used),
		cl_size(cl_json_number(answer, "host.budget"), budget));
	if (cl_json_number(answer, "wire.bytes_per_second") > 0)
		fprintf(out, "; to the GPU: %s/s",
			cl_size(cl_json_number(answer, "wire.bytes_per_second"),
				rate));
	fputc('\n', out);
}

void cl_print_models(FILE *out, const json_t *answer)
{
	const json_t *models = cl_json_at(answer, "models");
	const json_t *model;
	size_t i;

	if (json_array_size(models) == 0)
		fputs("no models\n", out);
	else
		cl_table_head(out, columns, COLUMNS);
	json_array_foreach(models, i, model) print_model(out, model);
	print_store(out, answer);
}

int cl_list_models(const struct cl_options *options)
{
	json_t *answer;
	int code = cl_ask(options, PS_ASK_MODELS, &answer);

	if (code != EX_OK)
		return code;
	if (options->is_json)
		cl_json_print(stdout, answer);
	else
		cl_print_models(stdout, answer);
	json_decref(answer);
	return cl_end(EX_OK);
}
