/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What every test program shares: cmocka, and a runner that fails a test
 * which leaves something behind.
 *
 * Around each test the runner lists the open file descriptors, asks every
 * registered counter (live blocks, open pools, ...) and looks for children
 * that were not waited for. A test that ends with more than it began with
 * fails, with the list. Tests that failed by themselves are not asked.
 *
 *   static const struct th_test tests[] = {
 *           TH_TEST(test_ring_empty_says_so),
 *           TH_TEST_SETUP(test_ring_full_refuses, set_up, tear_down),
 *   };
 *   TH_MAIN("ring", tests)
 *
 * The program runs all tests, or those whose names match its arguments
 * ("*" and "?" are wildcards); --list prints the names. Exit status: 0 all
 * passed, 77 all were skipped, 2 no such test, else failed.
 *
 * With POOLSWITCH_DRIVER=sim each program has a simulated GPU of its own: the
 * runner makes a fresh POOLSWITCH_SIM_DIR and removes it at the end.
 */
#ifndef TESTS_SUPPORT_HARNESS_H
#define TESTS_SUPPORT_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

struct th_test {
	const char *name;
	void (*run)(void **state);
	int (*setup)(void **state);    /* NULL: none; 0 is success */
	int (*teardown)(void **state); /* NULL: none */
};

/* clang-format off */
#define TH_TEST(fn) { #fn, fn, NULL, NULL }
#define TH_TEST_SETUP(fn, setup_fn, teardown_fn) \
	{ #fn, fn, setup_fn, teardown_fn }
/* clang-format on */

#define TH_MAIN(suite, tests) TH_MAIN_WARM(suite, tests, NULL)

/*
 * @warm_up runs once before the first test. What it opens and keeps (a driver
 * keeps descriptors from its first use on) is no leak of the first test.
 */
#define TH_MAIN_WARM(suite, tests, warm_up)                                    \
	int main(int argc, char **argv)                                        \
	{                                                                      \
		return th_main(suite, tests, sizeof(tests) / sizeof(tests[0]), \
			       warm_up, argc, argv);                           \
	}

int th_main(const char *suite, const struct th_test *tests, size_t count,
	    void (*warm_up)(void), int argc, char **argv);

/* ---- leaks ---- */

/*
 * @count is asked before and after each test: more after than before is a
 * leak. Call it in a warm_up function, or in a test before anything is made.
 * pre: @what is a literal; at most 16 counters, the same one may come again.
 */
void th_register_counter(const char *what, long (*count)(void));

/* ---- skipping ---- */

/* Leaves the test. With TH_NO_SKIP=1 in the environment it fails instead. */
#define th_skip(reason)                                                        \
	do {                                                                   \
		th_will_skip(reason);                                          \
		skip();                                                        \
	} while (0)
void th_will_skip(const char *reason);

/* ---- other processes ---- */

/*
 * Starts a program; argv[0] is its path, the list ends with NULL. The child
 * keeps @fd under the same number (-1: none), and stdin, stdout, stderr;
 * every other descriptor is closed on exec. Fails the test when it cannot.
 */
pid_t th_spawn(const char *const *argv, int fd);

/*
 * Runs @run in a forked child, which ends with status 0 when @run returns.
 * An assertion that fails in the child prints itself and ends it by SIGABRT.
 */
pid_t th_fork(void (*run)(void *arg), void *arg);

/*
 * Waits for the child's end: its exit status, or 128 + the signal. One that
 * has not ended after 30 s is killed, and the test fails.
 */
int th_wait(pid_t pid);

/* SIGKILL, and waits. */
void th_kill(pid_t pid);

/* The path of a program that lies beside this one, or under its folder's
 * parent: th_program("process/helper"). Lives until the next call. */
const char *th_program(const char *name);

/* ---- odds and ends ---- */

/* A connected AF_UNIX pair, close-on-exec; @type: SOCK_STREAM, ... */
void th_socketpair(int type, int pair_out[2]);

/* How many descriptors are open. */
size_t th_open_fds(void);

/* A fresh folder for this test, removed with all in it when the test ends.
 * Lives until then; one a test. */
const char *th_temp_dir(void);

/* Removes a file or a folder with all in it; what is not there is fine. */
void th_remove_tree(const char *path);

/* How much longer than usual a random test is to run: 1, more in the long
 * runs (./dev soak, TH_SOAK_FACTOR). */
unsigned int th_soak_factor(void);

/* Nanoseconds of a clock that only runs forward. */
uint64_t th_now_ns(void);

/* Asserts a ps_status and shows the error's detail when it is another. */
#define th_assert_status(call, expected)                                       \
	th_check_status((int)(call), (int)(expected), #call, __FILE__, __LINE__)
#define th_assert_ok(call) th_assert_status(call, 0)
void th_check_status(int status, int expected, const char *call,
		     const char *file, int line);

#endif /* TESTS_SUPPORT_HARNESS_H */
