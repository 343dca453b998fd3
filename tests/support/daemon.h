/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A poolswitchd of the test's own, on a small pool of the GPU that the test
 * runs on, real or simulated. Its socket lies in the test's folder, and
 * POOLSWITCH_SOCKET leads the clients there: th_attach() in a child.
 *
 *	static void test_something(void **state)
 *	{
 *		struct th_daemon daemon;
 *
 *		th_daemon_start(&daemon, NULL);
 *		...
 *		th_daemon_stop(&daemon);
 *	}
 *	... TH_DAEMON_TEST(test_something) ...
 *
 * Invariant: what was there when it began to serve is there when it stops: no
 * byte is anybody's, both halves have the same descriptors open. Halves that
 * were killed and their successors are children of the test (a subreaper), so
 * that one that lives on is seen.
 */
#ifndef TESTS_SUPPORT_DAEMON_H
#define TESTS_SUPPORT_DAEMON_H

#include "tests/support/pools.h"

#include <jansson.h>

/* For th_program(). */
#define TH_DAEMON_PROGRAM "../poold/poolswitchd"

/* Its pool: as small as those of tests/support/pools.h. */
#define TH_DAEMON_SEGMENT (UINT64_C(2) << 20)
#define TH_DAEMON_SEGMENTS 32u
#define TH_DAEMON_PARAMETERS 4u
#define TH_DAEMON_LEASES (TH_DAEMON_SEGMENTS - TH_DAEMON_PARAMETERS)

/* How long anything of the daemon's may take in a test. */
#define TH_DAEMON_MS 20000

/* What STATUS says of the whole, and what /proc says of the halves. */
struct th_daemon_sums {
	int64_t leased; /* bytes of the computation region, as the rest */
	int64_t parked;
	int64_t clean;
	int64_t dirty;
	int64_t remaking;
	int64_t quarantined;
	int64_t clients; /* here, away and dead */
	long keeper_fds;
	long agent_fds;
};

struct th_daemon {
	pid_t keeper;
	pid_t agent;
	char socket[108];
	char log[108]; /* the file that has its standard error */
	struct th_daemon_sums before;
};

/* How to start it otherwise; zeros: nothing otherwise. */
struct th_daemon_plan {
	const char *const *options; /* more of them; ends with NULL */
	const char *const *env;     /* "NAME=value"; ends with NULL */
	void (*prepare)(void);      /* in the child, before it is executed */
	bool bare;                  /* none but @options: no socket, no size */
};

/* The teardown ends what a failed test has left. */
#define TH_DAEMON_TEST(fn) TH_TEST_SETUP(fn, NULL, th_daemon_teardown)
int th_daemon_teardown(void **state);

/* Returns when it serves. @plan: NULL or how. */
void th_daemon_start(struct th_daemon *daemon,
		     const struct th_daemon_plan *plan);
/* Returns -1 when it serves, else its exit status. Another may run. */
int th_daemon_try(struct th_daemon *daemon, const struct th_daemon_plan *plan);

/*
 * Waits until all clients are gone and all bytes free, compares with the
 * beginning, ends it by TERM, and waits for both halves. They must be those
 * that @daemon names (none has crashed); the first keeper's exit status must
 * be 0.
 */
void th_daemon_stop(struct th_daemon *daemon);
/* The second half of that: nothing is compared. */
void th_daemon_end(struct th_daemon *daemon);
/* No questions asked: both halves at once. */
void th_daemon_kill(struct th_daemon *daemon);

/* SIGKILL, and waits until another serves. */
void th_daemon_kill_agent(struct th_daemon *daemon);
void th_daemon_kill_keeper(struct th_daemon *daemon);
/* SIGKILL only; returns the dead one. th_daemon_follow() waits for the next. */
pid_t th_daemon_strike(pid_t half);
void th_daemon_follow(struct th_daemon *daemon, pid_t dead);

/* How many processes of daemons descend from this one. */
size_t th_daemon_processes(void);
/* A half has done all that it was woken for, and sleeps. */
void th_daemon_await_sleep(pid_t half);
/* The descriptors of all these, whatever namespace counts their pids. */
long th_daemon_all_fds(void);

/* ---- looking ---- */

/* How often a question that fails is asked again: 0. */
extern unsigned int th_daemon_patience;
/* STATUS; json_decref() it. */
json_t *th_daemon_status(void);
/* NULL: there was no answer. */
json_t *th_daemon_try_status(void);
/* An integer of it by path: "regions.computation.leased"; asserts it. */
int64_t th_json_number(const json_t *json, const char *path);
/* The client of that process in STATUS; borrowed; NULL: none. */
json_t *th_status_client(const json_t *status, pid_t pid);

void th_daemon_sums(struct th_daemon_sums *sums_out);
/* Waits until nothing is leased, parked, quarantined, dirty or remade and
 * @clients are left, then fills in the sums. */
void th_daemon_settle(int64_t clients, struct th_daemon_sums *sums_out);
/* Wait until STATUS says so: @count clients, nothing of a dead one; so many
 * bytes quarantined; that process present in that way. */
void th_daemon_wait_clients(int64_t count);
void th_daemon_wait_quarantined(int64_t bytes);
void th_daemon_wait_presence(pid_t pid, const char *presence);
/* Waits until bytes and descriptors are these; prints both if they never
 * are. */
void th_daemon_await_same(const struct th_daemon_sums *before);
/* The same, but fewer descriptors will do: of a half that goes on without
 * something that it could not get. */
void th_daemon_await_no_more(const struct th_daemon_sums *before);

/* Whether the log has this text, now. */
bool th_daemon_logged(const struct th_daemon *daemon, const char *text);
/* Its end, for people. */
void th_daemon_show_log(const char *path);

/* How many descriptors a process has open; GPU files of a real driver not. */
long th_fds_of(pid_t pid);

/* ---- clients ---- */

/* A child, and a socket for th_tell() and th_await() between it and the test.
 * It ends when the test does. */
struct th_client {
	pid_t pid;
	int link;
};

/* @run: ends the child with 0 when it returns. */
void th_client_start(struct th_client *client, void (*run)(int link));
/* Tells it to go on, and waits until it has ended with 0. */
void th_client_finish(struct th_client *client);
/* SIGKILL, and waits. */
void th_client_kill(struct th_client *client);
/* Has ended by itself: its status, as of th_wait(). */
int th_client_wait(struct th_client *client);

/* For a child: becomes that user, and nobody else's. pre: root. */
void th_become(uid_t uid);
/* Lets other users use the simulated GPU and reach the daemon's socket. */
void th_open_to_all(void);

/* ps_attach() with the defaults; asserts success. */
struct ps_pool *th_attach(void);
struct ps_pool *th_attach_name(const char *name);

/*
 * Words that tell whose a block is and where in it. th_pattern_check() fails
 * the test at the first that is another.
 */
void th_pattern_write(struct ps_pool *pool, void *at, size_t bytes,
		      uint32_t seed);
void th_pattern_check(struct ps_pool *pool, const void *at, size_t bytes,
		      uint32_t seed);
/* Fails unless all is zero. */
void th_zeros_check(struct ps_pool *pool, const void *at, size_t bytes);

/* Milliseconds, without a processor. */
void th_rest_ms(unsigned int ms);

#endif /* TESTS_SUPPORT_DAEMON_H */
