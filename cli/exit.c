/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/exit.h"

#include "cli/json.h"
#include "cli/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

/* 0 stands for a status that is not in the table. */
static const unsigned char codes[] = {
	[PS_INVALID_ARGUMENT] = EX_USAGE,
	[PS_OUT_OF_RANGE] = EX_USAGE,
	[PS_OVERLAP] = EX_SOFTWARE,
	[PS_BUSY] = EX_TEMPFAIL,
	[PS_NOT_OURS] = EX_SOFTWARE,
	[PS_INTERIOR] = EX_SOFTWARE,
	[PS_DOUBLE_FREE] = EX_SOFTWARE,
	[PS_READ_ONLY] = EX_SOFTWARE,
	[PS_FORKED] = EX_SOFTWARE,
	[PS_OUT_OF_MEMORY] = EX_TEMPFAIL,
	[PS_DEVICE_MEMORY] = EX_TEMPFAIL,
	[PS_HOST_MEMORY] = EX_OSERR,
	[PS_FD_LIMIT] = EX_OSERR,
	[PS_WINDOW_TAKEN] = EX_SOFTWARE,
	[PS_ALREADY_RESERVED] = EX_TEMPFAIL,
	[PS_VERSION_MISMATCH] = EX_PROTOCOL,
	[PS_WRONG_GPU] = EX_UNAVAILABLE,
	[PS_PROTOCOL] = EX_PROTOCOL,
	[PS_PEER_GONE] = EX_TEMPFAIL,
	[PS_TIMED_OUT] = EX_TEMPFAIL,
	[PS_REFUSED] = EX_NOPERM,
	[PS_PERMISSION] = EX_NOPERM,
	[PS_BAD_SEGMENT] = EX_PROTOCOL,
	[PS_NO_DRIVER] = EX_UNAVAILABLE,
	[PS_NO_DEVICE] = EX_UNAVAILABLE,
	[PS_UNSUPPORTED] = EX_UNAVAILABLE,
	[PS_DEVICE_LOST] = EX_UNAVAILABLE,
	[PS_DRIVER] = EX_UNAVAILABLE,
	[PS_SYSTEM] = EX_OSERR,
	[PS_AGAIN] = EX_TEMPFAIL,
	[PS_NO_DAEMON] = EX_UNAVAILABLE,
	[PS_NO_MODEL] = EX_UNAVAILABLE,
	[PS_MODEL_MISMATCH] = EX_UNAVAILABLE,
	[PS_LOAD_FAILED] = EX_UNAVAILABLE,
};

int cl_exit_code(enum ps_status status)
{
	if (status == PS_OK)
		return EX_OK;
	if ((size_t)status >= sizeof(codes) || codes[status] == 0)
		return EX_SOFTWARE;
	return codes[status];
}

static void say(const struct cl_options *options, const char *status, int code,
		const char *text)
{
	char plain[CL_DETAIL_BYTES];
	json_t *error;

	cl_plain(text, plain, sizeof(plain));
	fprintf(stderr, "poolswitch: %s\n", plain);
	if (!options->is_json)
		return;
	error = json_pack("{s:{s:s?, s:i, s:s}}", "error", "status", status,
			  "exit", code, "text", plain);
	cl_json_print(stdout, error);
	json_decref(error);
}

int cl_fail(const struct cl_options *options, enum ps_status status)
{
	const char *text = ps_error_detail();
	int code = cl_exit_code(status);

	say(options, ps_status_name(status), code,
	    *text ? text : ps_status_text(status));
	return cl_end(code);
}

int cl_fail_text(const struct cl_options *options, int code, const char *format,
		 ...)
{
	char text[CL_DETAIL_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say(options, NULL, code, text);
	return cl_end(code);
}

int cl_end(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	fprintf(stderr, "poolswitch: cannot write the output: %s\n",
		strerror(errno));
	return EX_IOERR;
}
