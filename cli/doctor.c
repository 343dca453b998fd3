/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/doctor.h"

#include "cli/exit.h"
#include "cli/text.h"

#include <string.h>
#include <sysexits.h>

#define NEED_COLUMN 5
#define FOUND_COLUMN 22

/* ps_finding_visit */
void cl_doctor_add(void *findings, const struct ps_finding *finding)
{
	char found[CL_DETAIL_BYTES], remedy[CL_DETAIL_BYTES];

	cl_plain(finding->found, found, sizeof(found));
	cl_plain(finding->remedy, remedy, sizeof(remedy));
	json_array_append_new(findings,
			      json_pack("{s:s, s:b, s:s, s:s}", "need",
					finding->need, "ok", (int)finding->ok,
					"found", found, "remedy", remedy));
}

bool cl_doctor_is_well(const json_t *findings)
{
	const json_t *finding;
	size_t i;

	json_array_foreach(
		findings, i,
		finding) if (!cl_json_is_true(finding, "ok")) return false;
	return true;
}

static void print_answer(FILE *out, bool colourful, bool ok)
{
	if (colourful)
		fputs(ok ? "\033[32m" : "\033[1;31m", out);
	fputs(ok ? "yes" : "no ", out);
	if (colourful)
		fputs("\033[0m", out);
}

static void print_finding(FILE *out, bool colourful, const json_t *finding)
{
	const char *remedy = cl_json_text(finding, "remedy");

	print_answer(out, colourful, cl_json_is_true(finding, "ok"));
	fprintf(out, "  %-*s ", FOUND_COLUMN - NEED_COLUMN - 1,
		cl_json_text(finding, "need"));
	cl_wrap(out, cl_json_text(finding, "found"), FOUND_COLUMN,
		FOUND_COLUMN);
	if (*remedy)
		cl_wrap(out, remedy, FOUND_COLUMN,
			fprintf(out, "%*s", FOUND_COLUMN, "-> "));
}

void cl_doctor_print(FILE *out, bool colourful, const json_t *findings)
{
	const json_t *finding;
	size_t i;

	json_array_foreach(findings, i, finding)
		print_finding(out, colourful, finding);
}

/* With --socket: whether a daemon answers there. */
static void add_daemon(const struct cl_options *options, json_t *findings)
{
	json_t *status = cl_ask_quietly(options);
	char found[CL_DETAIL_BYTES];
	const struct ps_finding finding = {
		.need = "daemon",
		.ok = status != NULL,
		.found = found,
		.remedy = status ? ""
				 : "start poolswitchd, or name the socket "
				   "of one that runs",
	};

	if (status)
		snprintf(found, sizeof(found), "poolswitchd %s, %s",
			 cl_json_text(status, "version"),
			 cl_json_text(status, "state"));
	else
		snprintf(found, sizeof(found), "%s", ps_error_detail());
	cl_doctor_add(findings, &finding);
	json_decref(status);
}

static void print_json(const json_t *findings, bool is_well)
{
	json_t *all = json_pack("{s:b, s:O}", "ok", (int)is_well, "findings",
				findings);

	cl_json_print(stdout, all);
	json_decref(all);
}

static int run(const struct cl_options *options)
{
	json_t *findings = json_array();
	enum ps_status status;
	bool is_well;

	status = ps_doctor(options->gpu, cl_doctor_add, findings);
	if (status != PS_OK) {
		json_decref(findings);
		return cl_fail(options, status);
	}
	if (options->socket)
		add_daemon(options, findings);
	is_well = cl_doctor_is_well(findings);
	if (options->is_json)
		print_json(findings, is_well);
	else
		cl_doctor_print(stdout, cl_is_colourful(stdout), findings);
	json_decref(findings);
	return cl_end(is_well ? EX_OK : CL_EXIT_FINDINGS);
}

const struct cl_command cl_doctor = {
	.name = "doctor",
	.summary = "whether this machine has all that poolswitch needs",
	.text = "Looks at everything that poolswitch needs of this machine: "
		"one line a need, yes or no, and the remedy. With --socket "
		"also whether a daemon answers there.",
	.takes = CL_TAKES_GPU,
	.run = run,
};
