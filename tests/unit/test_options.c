/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The command line of poolswitchd; mistakes end a child of this program. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "poold/options.h"
#include "tests/support/harness.h"

#define WORDS_MAX 8

/* Words that may be changed, as main() gets them. */
struct words {
	int count;
	char *word[WORDS_MAX + 1];
	char text[WORDS_MAX][200];
};

static void add_word(struct words *words, const char *text)
{
	char *place = words->text[words->count];

	snprintf(place, sizeof(words->text[0]), "%s", text);
	words->word[words->count++] = place;
	words->word[words->count] = NULL;
}

/* "poolswitchd" and up to two more; NULL: none. */
static struct words *words_of(const char *first, const char *second)
{
	static struct words words;

	words.count = 0;
	add_word(&words, "poolswitchd");
	if (first)
		add_word(&words, first);
	if (second)
		add_word(&words, second);
	return &words;
}

static struct pd_options parse(const char *first, const char *second)
{
	struct words *words = words_of(first, second);
	struct pd_options options;

	pd_options_parse(words->count, words->word, &options);
	return options;
}

struct ending {
	const char *word;
	int output; /* what it prints goes there */
};

static void parse_in_child(void *arg)
{
	const struct ending *ending = arg;

	dup2(ending->output, STDOUT_FILENO);
	dup2(ending->output, STDERR_FILENO);
	parse(ending->word, NULL);
	_exit(99); /* it has not ended the program */
}

/* The program ends so; what it printed lives until the next call. */
static const char *assert_ends(const char *word, int status)
{
	static char text[8192];
	struct ending ending = { .word = word };
	ssize_t got;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	ending.output = ends[1];
	assert_int_equal(th_wait(th_fork(parse_in_child, &ending)), status);
	close(ends[1]);
	got = read(ends[0], text, sizeof(text) - 1);
	text[got > 0 ? got : 0] = '\0';
	close(ends[0]);
	return text;
}

static void assert_wrong(const char *word, const char *reason)
{
	const char *text = assert_ends(word, EX_USAGE);

	if (!strstr(text, reason))
		fail_msg("'%s' is not in '%s'", reason, text);
}

/* ------------------------------------------------------------------ */

static void test_options_none_are_the_defaults(void **state)
{
	struct pd_options options = parse(NULL, NULL);

	(void)state;
	assert_int_equal(options.role, PD_ROLE_START);
	assert_int_equal(options.link, -1);
	assert_int_equal(options.mode, 0600);
	assert_null(options.plan.gpu);
	assert_null(options.plan.parameter);
	assert_int_equal(options.plan.size, 0);
	assert_int_equal(options.plan.segment, 0);
	assert_true(options.plan.headroom == UINT64_MAX);
	assert_int_equal(options.plan.clients, 1024);
	assert_null(options.owner);
	assert_null(options.group);
	assert_null(options.limits);
	assert_null(options.pid_file);
	assert_false(options.is_verbose);
	assert_null(options.host);
	assert_int_equal(options.yield_ms, 2000);
	assert_false(options.stops_deaf);
}

static void test_options_of_the_pool_are_read(void **state)
{
	(void)state;
	assert_string_equal(parse("--gpu=1", NULL).plan.gpu, "1");
	assert_int_equal(parse("--size=40G", NULL).plan.size, UINT64_C(40)
								      << 30);
	assert_int_equal(parse("--headroom", "512M").plan.headroom, 512 << 20);
	assert_int_equal(parse("--segment=2097152", NULL).plan.segment,
			 2 << 20);
	assert_string_equal(parse("--parameter=25%", NULL).plan.parameter,
			    "25%");
	assert_int_equal(parse("--clients=7", NULL).plan.clients, 7);
}

static void test_options_of_the_socket_are_read(void **state)
{
	(void)state;
	assert_string_equal(parse("--socket", "/a/b").socket, "/a/b");
	assert_int_equal(parse("--socket-mode=0660", NULL).mode, 0660);
	assert_string_equal(parse("--socket-owner=x", NULL).owner, "x");
	assert_string_equal(parse("--socket-group=y", NULL).group, "y");
	assert_string_equal(parse("--limits=/l", NULL).limits, "/l");
	assert_string_equal(parse("--pid-file=/p", NULL).pid_file, "/p");
	assert_true(parse("-v", NULL).is_verbose);
}

static void test_options_of_models_are_read(void **state)
{
	struct pd_options options;

	(void)state;
	options = parse("--host-memory", "64G");
	assert_string_equal(options.host, "64G");
	assert_true(pd_options_host_bytes(&options) == UINT64_C(64) << 30);
	assert_int_equal(parse("--yield-ms=250", NULL).yield_ms, 250);
	assert_true(parse("--stop-deaf", NULL).stops_deaf);
}

static void test_options_host_memory_is_a_part_of_the_machine_s(void **state)
{
	struct pd_options options = parse(NULL, NULL);
	uint64_t all = (uint64_t)sysconf(_SC_PHYS_PAGES) *
		       (uint64_t)sysconf(_SC_PAGESIZE);

	(void)state;
	assert_true(pd_options_host_bytes(&options) == all / 2);
	options = parse("--host-memory=25%", NULL);
	assert_true(pd_options_host_bytes(&options) == all / 4);
}

static void test_options_environment_names_the_socket(void **state)
{
	(void)state;
	setenv("POOLSWITCH_SOCKET", "/from/environment", 1);
	assert_string_equal(parse(NULL, NULL).socket, "/from/environment");
	assert_string_equal(parse("--socket=/own", NULL).socket, "/own");
	unsetenv("POOLSWITCH_SOCKET");
}

static void test_options_size_without_sense_is_wrong(void **state)
{
	(void)state;
	assert_wrong("--size=much", "--size");
	assert_wrong("--size=25%", "must be in bytes");
	assert_wrong("--headroom=-1", "--headroom");
	assert_wrong("--segment=", "--segment");
	assert_wrong("--parameter=lots", "--parameter");
	assert_wrong("--parameter=101%", "--parameter");
	assert_wrong("--host-memory=101%", "--host-memory");
	assert_wrong("--host-memory=much", "--host-memory");
}

static void test_options_number_out_of_range_is_wrong(void **state)
{
	(void)state;
	assert_wrong("--clients=0", "from 1 to 4096");
	assert_wrong("--clients=4097", "from 1 to 4096");
	assert_wrong("--clients=1x", "--clients");
	assert_wrong("--clients=-1", "--clients");
	assert_wrong("--socket-mode=1777", "from 0 to 777");
	assert_wrong("--socket-mode=8", "octal");
	assert_wrong("--yield-ms=9", "from 10 to 60000");
	assert_wrong("--yield-ms=60001", "from 10 to 60000");
}

static void test_options_word_without_option_is_wrong(void **state)
{
	(void)state;
	assert_wrong("start", "Too many arguments");
	assert_wrong("--frobnicate", "unrecognized option");
}

static void test_options_long_socket_path_is_wrong(void **state)
{
	char word[160] = "--socket=/";

	(void)state;
	memset(word + 10, 'x', 120);
	assert_wrong(word, "107");
}

static void test_options_role_without_link_is_wrong(void **state)
{
	(void)state;
	assert_wrong("--role=agent", "belong together");
	assert_wrong("--link=3", "belong together");
	assert_wrong("--role=both", "keeper or agent");
}

static void test_options_help_names_each_but_the_hidden(void **state)
{
	static const char *const named[] = {
		"--gpu",       "--size",        "--headroom",
		"--parameter", "--segment",     "--socket",
		"--limits",    "--socket-mode", "--socket-owner",
		"--pid-file",  "--clients",     "--socket-group",
		"--verbose",   "--version",     "--host-memory",
		"--yield-ms",  "--stop-deaf",
	};
	const char *text = assert_ends("--help", 0);

	(void)state;
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		assert_non_null(strstr(text, named[i]));
	assert_null(strstr(text, "--role"));
	assert_null(strstr(text, "--link"));
}

static void test_options_version_is_the_header_s(void **state)
{
	char expected[64];

	(void)state;
	snprintf(expected, sizeof(expected), "poolswitchd %d.%d.%d\n",
		 PS_VERSION_MAJOR, PS_VERSION_MINOR, PS_VERSION_PATCH);
	assert_string_equal(assert_ends("--version", 0), expected);
}

/* ------------------------------------------------------------------ */

static void assert_words(char **list, const char *const *expected)
{
	int at = 0;

	assert_non_null(list);
	for (; expected[at]; at++)
		assert_string_equal(list[at], expected[at]);
	assert_null(list[at]);
	free(list);
}

static void test_options_other_half_has_the_same_and_its_role(void **state)
{
	static const char *const expected[] = { "poolswitchd", "--role=agent",
						"--link=12",   "--gpu=0",
						"--size=1G",   NULL };
	struct words *words = words_of("--gpu=0", "--size=1G");

	(void)state;
	assert_words(
		pd_options_argv(words->count, words->word, PD_ROLE_AGENT, 12),
		expected);
}

static void test_options_other_half_of_a_half_has_one_role(void **state)
{
	static const char *const expected[] = { "poolswitchd", "--role=keeper",
						"--link=3", "--gpu=0", NULL };
	struct words *words = words_of("--role=agent", "--link=7");

	(void)state;
	add_word(words, "--gpu=0");
	assert_words(
		pd_options_argv(words->count, words->word, PD_ROLE_KEEPER, 3),
		expected);
}

static void test_options_value_that_looks_like_a_role_is_kept(void **state)
{
	static const char *const expected[] = { "poolswitchd", "--role=agent",
						"--link=3",    "--socket",
						"--role=x",    NULL };
	struct words *words = words_of("--socket", "--role=x");

	(void)state;
	assert_words(
		pd_options_argv(words->count, words->word, PD_ROLE_AGENT, 3),
		expected);
}

static void test_options_other_half_parses_them(void **state)
{
	struct words *words = words_of("--gpu=0", NULL);
	struct pd_options options;
	char **list;

	(void)state;
	list = pd_options_argv(words->count, words->word, PD_ROLE_KEEPER, 5);
	pd_options_parse(4, list, &options);
	assert_int_equal(options.role, PD_ROLE_KEEPER);
	assert_int_equal(options.link, 5);
	assert_string_equal(options.plan.gpu, "0");
	free(list);
}

static const struct th_test tests[] = {
	TH_TEST(test_options_none_are_the_defaults),
	TH_TEST(test_options_of_the_pool_are_read),
	TH_TEST(test_options_of_the_socket_are_read),
	TH_TEST(test_options_of_models_are_read),
	TH_TEST(test_options_host_memory_is_a_part_of_the_machine_s),
	TH_TEST(test_options_environment_names_the_socket),
	TH_TEST(test_options_size_without_sense_is_wrong),
	TH_TEST(test_options_number_out_of_range_is_wrong),
	TH_TEST(test_options_word_without_option_is_wrong),
	TH_TEST(test_options_long_socket_path_is_wrong),
	TH_TEST(test_options_role_without_link_is_wrong),
	TH_TEST(test_options_help_names_each_but_the_hidden),
	TH_TEST(test_options_version_is_the_header_s),
	TH_TEST(test_options_other_half_has_the_same_and_its_role),
	TH_TEST(test_options_other_half_of_a_half_has_one_role),
	TH_TEST(test_options_value_that_looks_like_a_role_is_kept),
	TH_TEST(test_options_other_half_parses_them),
};

TH_MAIN("options", tests)
