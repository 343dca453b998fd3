/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/order.h"

static void print_stopping(FILE *out, const json_t *answer)
{
	if (cl_json_number(answer, "clients") == 0)
		fputs("poolswitchd ends\n", out);
	else
		fprintf(out,
			"poolswitchd ends; %s keep what they have mapped\n",
			cl_holders(answer));
}

static int run_shutdown(const struct cl_options *options)
{
	return cl_order(options, PS_ASK_SHUTDOWN, print_stopping);
}

static void print_reloaded(FILE *out, const json_t *answer)
{
	(void)answer;
	fputs("the limits have been read again\n", out);
}

static int run_reload(const struct cl_options *options)
{
	return cl_order(options, PS_ASK_RELOAD, print_reloaded);
}

const struct cl_command cl_shutdown = {
	.name = "shutdown",
	.summary = "end the daemon now",
	.text = "Ends the daemon now. Clients keep what they have mapped and "
		"get no more; the memory is free when the last of them has "
		"ended. For the daemon's user and root.",
	.run = run_shutdown,
};

const struct cl_command cl_reload = {
	.name = "reload",
	.summary = "have the daemon read its limits again",
	.text = "Has the daemon read its file of limits again. When the file "
		"has a mistake the limits stay as they were. For the daemon's "
		"user and root.",
	.run = run_reload,
};
