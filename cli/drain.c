/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/order.h"

#include "cli/exit.h"
#include "cli/text.h"

#include <sysexits.h>

const char *cl_holders(const json_t *answer)
{
	static char text[64];
	char size[CL_SIZE_BYTES];
	unsigned long long clients = cl_json_number(answer, "clients");

	snprintf(text, sizeof(text), "%llu client%s with %s", clients,
		 clients == 1 ? "" : "s",
		 cl_size(cl_json_number(answer, "leased"), size));
	return text;
}

int cl_order(const struct cl_options *options, enum ps_question question,
	     void (*sentence)(FILE *out, const json_t *answer))
{
	json_t *answer;
	int code = cl_ask(options, question, &answer);

	if (code != EX_OK)
		return code;
	if (options->is_json)
		cl_json_print(stdout, answer);
	else
		sentence(stdout, answer);
	json_decref(answer);
	return cl_end(EX_OK);
}

static void print_draining(FILE *out, const json_t *answer)
{
	if (cl_json_number(answer, "clients") == 0)
		fputs("draining: nobody is attached, poolswitchd ends\n", out);
	else
		fprintf(out,
			"draining: no new clients; poolswitchd ends when the "
			"last has left (%s now)\n",
			cl_holders(answer));
}

static int run(const struct cl_options *options)
{
	return cl_order(options, PS_ASK_DRAIN, print_draining);
}

const struct cl_command cl_drain = {
	.name = "drain",
	.summary = "take no new clients; end when the last has left",
	.text = "Tells the daemon to take no new clients and to end when the "
		"last one has left. For the daemon's user and root.",
	.run = run,
};
