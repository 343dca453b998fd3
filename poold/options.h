/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the command line of poolswitchd says. */
#ifndef POOLD_OPTIONS_H
#define POOLD_OPTIONS_H

#include "poold/gpu.h"
#include "poold/limits.h"

enum pd_role { PD_ROLE_START, PD_ROLE_KEEPER, PD_ROLE_AGENT };

struct pd_options {
	enum pd_role role;
	int link; /* of a restarted half: its socket to the survivor; else -1 */
	struct pd_gpu_plan plan;
	char socket[108];  /* path; chosen by ip_socket_default() */
	unsigned int mode; /* of the socket; default 0600 */
	const char *owner; /* user name or number; NULL: as it comes */
	const char *group;
	const char *pid_file; /* NULL: none */
	const char *limits;   /* path; NULL: the defaults */
	const char *host;     /* "64G", "50%" of the machine's memory, for
			       * models; NULL: half */
	uint32_t yield_ms;    /* what clients get to answer YIELD */
	bool stops_deaf;      /* kills who does not */
	bool is_verbose;
};

/* Parses; prints help, version or what is wrong by itself and exits then
 * (argp). The texts live as long as argv. */
void pd_options_parse(int argc, char **argv, struct pd_options *options_out);

/* Bytes of host memory that the copies of models may have together. */
uint64_t pd_options_host_bytes(const struct pd_options *options);

/* The arguments that start the other half with the same options: argv of this
 * process with --role and --link put in; free() the array only. */
char **pd_options_argv(int argc, char **argv, enum pd_role role, int link);

#endif /* POOLD_OPTIONS_H */
