/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tests that each leave something behind. Never run as tests: test_harness
 * starts this program and expects the runner to fail each, by name.
 */
#include "tests/support/harness.h"

#include <fcntl.h>
#include <unistd.h>

static long live_blocks;

static long count_blocks(void)
{
	return live_blocks;
}

static void register_counters(void)
{
	th_register_counter("live blocks", count_blocks);
}

static void leak_fd(void **state)
{
	(void)state;
	assert_true(open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0);
}

static void leak_block(void **state)
{
	(void)state;
	live_blocks++;
	assert_int_equal(count_blocks(), 1);
}

static void end_at_once(void *arg)
{
	(void)arg;
}

static void wait_for_ever(void *arg)
{
	(void)arg;
	pause();
}

static void leak_zombie(void **state)
{
	(void)state;
	assert_true(th_fork(end_at_once, NULL) > 0);
}

static void leak_child(void **state)
{
	(void)state;
	assert_true(th_fork(wait_for_ever, NULL) > 0);
}

static void leak_nothing(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
}

static void skip_itself(void **state)
{
	(void)state;
	th_skip("on purpose");
}

static const struct th_test tests[] = {
	TH_TEST(leak_fd),    TH_TEST(leak_block),   TH_TEST(leak_zombie),
	TH_TEST(leak_child), TH_TEST(leak_nothing), TH_TEST(skip_itself),
};

TH_MAIN_WARM("leaks_on_purpose", tests, register_counters)
