/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What leads a program past the preload is told, in one line. */
#include "tests/preload/runner.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static char preload[3 * PATH_MAX];
static const char *const environment[] = { preload, NULL };
static const struct th_preload_plan rivals = { .env = environment };

static const char *rival(void)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", th_program("librival.so"));
	return path;
}

/* One line of ours, with that text. */
static void assert_line(const char *said, const char *text)
{
	const char *end = strchr(said, '\n');

	if (!end || end[1] != '\0' || strncmp(said, "poolswitch: ", 12) != 0 ||
	    !strstr(said, text))
		fail_msg("it said \"%s\"", said);
}

/* ---- another dlsym ---- */

static void test_rivals_dlsym_behind_is_told(void **state)
{
	(void)state;
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s:%s",
		 th_preload_library(), rival());
	assert_line(th_preload_said("resolves", "as_runtime", &rivals, 0),
		    "librival.so answers dlsym too and is not asked");
}

static void test_rivals_dlsym_in_front_is_told(void **state)
{
	char *first;

	(void)state;
	/* A sanitizer's library stays the first of all. */
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s",
		 th_preload_library());
	first = strrchr(preload, ':');
	first = first ? first + 1 : strchr(preload, '=') + 1;
	snprintf(first, sizeof(preload) - (size_t)(first - preload), "%s:%s",
		 rival(),
		 strrchr(th_preload_library(), ':')
			 ? strrchr(th_preload_library(), ':') + 1
			 : th_preload_library());
	assert_line(th_preload_said("links", "calls", &rivals, 0),
		    "librival.so answers dlsym before this library does");
}

static void test_rivals_none_is_silent(void **state)
{
	(void)state;
	th_preload_check("links", "calls", NULL);
}

/* ---- RTLD_DEEPBIND, which sanitizers refuse ---- */

#ifdef BS_SANITIZED
#define DEEP_TEST(name, scenario)                                              \
	static void name(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		th_skip("a sanitizer refuses RTLD_DEEPBIND");                  \
	}
#define QUIET_TEST DEEP_TEST
#else
#define DEEP_TEST(name, scenario)                                              \
	static void name(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		assert_line(th_preload_said("deep", scenario, NULL, 0),        \
			    "libdeep.so was opened with RTLD_DEEPBIND");       \
	}
#define QUIET_TEST(name, scenario)                                             \
	static void name(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		th_preload_check("deep", scenario, NULL);                      \
	}
#endif

DEEP_TEST(test_rivals_deep_before_driver_is_told, "before_the_driver")
DEEP_TEST(test_rivals_deep_after_driver_is_told, "after_the_driver")
DEEP_TEST(test_rivals_deep_alone_is_told, "alone")
QUIET_TEST(test_rivals_deep_that_asks_nothing_is_not_told, "harmless")
QUIET_TEST(test_rivals_deep_without_cuda_is_not_told, "without_cuda")

/* ---- dlopen itself ---- */

/* A sanitizer's dlopen() forgets who called it. */
static void test_dlopen_looks_where_the_caller_says(void **state)
{
	static const char *const env[] = { "LD_LIBRARY_PATH", NULL };
	const struct th_preload_plan plan = { .env = env };

	(void)state;
#ifdef BS_SANITIZED
	th_skip("a sanitizer's dlopen() is another's");
#endif
	th_preload_check("scopes", "own_path", &plan);
}

static const struct th_test tests[] = {
	TH_TEST(test_rivals_dlsym_behind_is_told),
	TH_TEST(test_rivals_dlsym_in_front_is_told),
	TH_TEST(test_rivals_none_is_silent),
	TH_TEST(test_rivals_deep_before_driver_is_told),
	TH_TEST(test_rivals_deep_after_driver_is_told),
	TH_TEST(test_rivals_deep_alone_is_told),
	TH_TEST(test_rivals_deep_that_asks_nothing_is_not_told),
	TH_TEST(test_rivals_deep_without_cuda_is_not_told),
	TH_TEST(test_dlopen_looks_where_the_caller_says),
};

TH_MAIN("preload_rivals", tests)
