/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How the program ends: 0, 1 when doctor finds something, else one of
 * sysexits.h, by the kind of failure. poolswitch.1 lists them.
 */
#ifndef CLI_EXIT_H
#define CLI_EXIT_H

#include "cli/command.h"
#include "include/poolswitch.h"

#define CL_EXIT_FINDINGS 1 /* doctor: a need is not met */
/* run: as of a shell. */
#define CL_EXIT_NOT_EXECUTED 126
#define CL_EXIT_NO_PROGRAM 127

int cl_exit_code(enum ps_status status);

/* Says on stderr (with --json on stdout too) what failed, by the status and
 * ps_error_detail(). Returns the exit code. */
int cl_fail(const struct cl_options *options, enum ps_status status);

/* The same for a failure that is not the library's. */
int cl_fail_text(const struct cl_options *options, int code, const char *format,
		 ...) __attribute__((format(printf, 3, 4)));

/* At the end of a command: what was printed may not have arrived. Returns
 * @code, or EX_IOERR when it did not. */
int cl_end(int code);

#endif /* CLI_EXIT_H */
