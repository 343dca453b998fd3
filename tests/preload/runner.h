/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Starts a program under the preload (tests/preload/program.h), as anybody
 * would: with LD_PRELOAD, against the daemon of the test, if it has one.
 *
 *	static void test_preload_something(void **state)
 *	{
 *		struct th_daemon daemon;
 *
 *		th_daemon_start(&daemon, NULL);
 *		th_preload_check("uses_memory", "allocates", NULL);
 *		th_daemon_stop(&daemon);
 *	}
 */
#ifndef TESTS_PRELOAD_RUNNER_H
#define TESTS_PRELOAD_RUNNER_H

#include "tests/support/daemon.h"

/* How to start it otherwise; zeros: nothing otherwise. */
struct th_preload_plan {
	const char *const *env; /* "NAME=value"; "NAME": not set; ends with
				 * NULL */
	bool without;           /* the preload, for comparison */
};

struct th_preload {
	pid_t pid;
	int link;
	char output[128]; /* the file that has its standard output... */
	char errors[128]; /* ...and error; both as long as the test's folder */
};

/* @program: one that lies beside the test's. @plan: NULL or how. */
void th_preload_start(struct th_preload *run, const char *program,
		      const char *scenario, const struct th_preload_plan *plan);
/* Waits until it pauses. */
void th_preload_await(struct th_preload *run);
/* Lets one that pauses go on. */
void th_preload_go(struct th_preload *run);
/* Its exit status, as of th_wait(). */
int th_preload_wait(struct th_preload *run);
/* SIGKILL, and waits. */
void th_preload_kill(struct th_preload *run);

/* Runs it; it must end with 0 and have said nothing on standard error. */
void th_preload_check(const char *program, const char *scenario,
		      const struct th_preload_plan *plan);
/* Runs it; returns what it said on standard error, which is the test's until
 * the next call. It must end with @status. */
const char *th_preload_said(const char *program, const char *scenario,
			    const struct th_preload_plan *plan, int status);

/* What a file has. Lives until the next call. */
const char *th_preload_text(const char *path);

/* The value of LD_PRELOAD that puts a program under the preload. */
const char *th_preload_library(void);

#endif /* TESTS_PRELOAD_RUNNER_H */
