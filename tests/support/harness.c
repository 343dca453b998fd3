/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/harness.h"

#include "base/status.h"
#include "tests/support/folders.h"
#include "tests/support/leaks.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXIT_SKIPPED 77
#define EXIT_NO_SUCH_TEST 2

/* One test runs at a time, on the main thread. */
static const struct th_test *current;
static struct th_holdings before;
static char temp_dir[TH_FOLDER_BYTES];
static bool body_ended; /* false: it failed or was skipped */
static size_t run_count;
static size_t skip_count;

static int begin_test(void **state)
{
	current = *state;
	*state = NULL;
	body_ended = false;
	run_count++;
	th_holdings_take(&before);
	return current->setup == NULL ? 0 : current->setup(state);
}

static void run_body(void **state)
{
	current->run(state);
	body_ended = true;
}

static int end_test(void **state)
{
	int rc = current->teardown == NULL ? 0 : current->teardown(state);
	bool left = th_children_left(current->name);

	if (temp_dir[0] != '\0')
		th_remove_tree(temp_dir);
	temp_dir[0] = '\0';
	if (!body_ended)
		return rc;
	if (th_holdings_gained(&before, current->name) || left)
		return -1;
	return rc;
}

void th_will_skip(const char *reason)
{
	const char *strict = getenv("TH_NO_SKIP");

	if (strict != NULL && strcmp(strict, "1") == 0)
		fail_msg("may not be skipped here: %s", reason);
	print_message("skipped: %s\n", reason);
	skip_count++;
}

const char *th_temp_dir(void)
{
	if (temp_dir[0] == '\0' && !th_folder_make(temp_dir))
		fail_msg("no temporary folder");
	return temp_dir;
}

unsigned int th_soak_factor(void)
{
	const char *text = getenv("TH_SOAK_FACTOR");
	unsigned long factor = text == NULL ? 1 : strtoul(text, NULL, 10);

	return factor >= 1 && factor <= 100000 ? (unsigned int)factor : 1;
}

uint64_t th_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void th_check_status(int status, int expected, const char *call,
		     const char *file, int line)
{
	if (status == expected)
		return;
	print_error("%s: %s instead of %s: %s\n", call,
		    ps_status_name((enum ps_status)status),
		    ps_status_name((enum ps_status)expected), bs_fail_text());
	_fail(file, line);
}

static bool is_wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (fnmatch(argv[i], name, 0) == 0)
			return true;
	return argc < 2;
}

static size_t choose(const struct th_test *tests, size_t count,
		     struct CMUnitTest *chosen, int argc, char **argv)
{
	size_t i, n = 0;

	for (i = 0; i < count; i++) {
		if (!is_wanted(tests[i].name, argc, argv))
			continue;
		chosen[n++] = (struct CMUnitTest){
			.name = tests[i].name,
			.test_func = run_body,
			.setup_func = begin_test,
			.teardown_func = end_test,
			/* Handed through cmocka and back; never written. */
			.initial_state = (void *)(uintptr_t)&tests[i],
		};
	}
	return n;
}

static int list(const struct th_test *tests, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		puts(tests[i].name);
	return 0;
}

static int run_chosen(const char *suite, const struct CMUnitTest *chosen,
		      size_t count)
{
	int failed = _cmocka_run_group_tests(suite, chosen, count, NULL, NULL);

	if (failed == 0 && run_count > 0 && skip_count == run_count)
		return EXIT_SKIPPED;
	return failed == 0 ? 0 : 1;
}

/* A simulated GPU of this program's own; its helpers inherit it. */
static bool open_sim_dir(char sim_dir[TH_FOLDER_BYTES])
{
	const char *driver = getenv("POOLSWITCH_DRIVER");

	if (driver == NULL || strcmp(driver, "sim") != 0)
		return true;
	if (!th_folder_make(sim_dir)) {
		perror("harness: the simulated GPU's folder");
		return false;
	}
	return setenv("POOLSWITCH_SIM_DIR", sim_dir, 1) == 0;
}

int th_main(const char *suite, const struct th_test *tests, size_t count,
	    void (*warm_up)(void), int argc, char **argv)
{
	char sim_dir[TH_FOLDER_BYTES] = "";
	struct CMUnitTest *chosen;
	int rc = EXIT_NO_SUCH_TEST;
	size_t n;

	if (argc == 2 && strcmp(argv[1], "--list") == 0)
		return list(tests, count);
	setvbuf(stdout, NULL, _IOLBF, 0);
	chosen = calloc(count, sizeof(*chosen));
	if (chosen == NULL || !open_sim_dir(sim_dir))
		abort();
	n = choose(tests, count, chosen, argc, argv);
	if (n == 0) {
		fprintf(stderr, "%s: no test of that name\n", suite);
		goto free_chosen;
	}
	if (warm_up != NULL)
		warm_up();
	rc = run_chosen(suite, chosen, n);
free_chosen:
	free(chosen);
	if (sim_dir[0] != '\0')
		th_remove_tree(sim_dir);
	return rc;
}
