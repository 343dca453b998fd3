/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A journal that somebody has damaged, handed to the next agent: what it says
 * no more is given to nobody, what it says still is served, and what clients
 * have mapped is theirs. No writer of poolswitchd can damage it so; the test
 * writes into the keeper's memfd.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/daemon.h"

#define SHORT_MS 200
#define HELD 4u
#define HELD_BYTES (HELD * TH_DAEMON_SEGMENT)
/* Where the header says how long it and a place are; two places a record. */
#define HEADER_BYTES_AT 12
#define SEGMENT_BYTES_AT 24
#define CLIENT_BYTES_AT 28
#define POOL_AT 60
#define IN_PLACE 20 /* behind the stamp */

/* ---- the damage ---- */

static int open_journal(pid_t keeper)
{
	char path[512], target[64];
	struct dirent *entry;
	ssize_t length;
	int fd = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)keeper);
	dir = opendir(path);
	assert_non_null(dir);
	while (fd < 0 && (entry = readdir(dir)) != NULL) {
		length = readlinkat(dirfd(dir), entry->d_name, target,
				    sizeof(target) - 1);
		target[length > 0 ? length : 0] = '\0';
		if (strstr(target, "memfd:poolswitch-journal") != NULL)
			fd = openat(dirfd(dir), entry->d_name,
				    O_RDWR | O_CLOEXEC);
	}
	closedir(dir);
	assert_true(fd >= 0);
	return fd;
}

static uint32_t number_at(int journal, off_t at)
{
	uint32_t number;

	assert_int_equal(pread(journal, &number, sizeof(number), at),
			 sizeof(number));
	return number;
}

static void flip(int journal, off_t at)
{
	unsigned char byte;

	assert_int_equal(pread(journal, &byte, 1, at), 1);
	byte ^= 1;
	assert_int_equal(pwrite(journal, &byte, 1, at), 1);
}

/* Both places of a record. */
static void flip_record(int journal, off_t at, uint32_t bytes)
{
	flip(journal, at + IN_PLACE);
	flip(journal, at + bytes + IN_PLACE);
}

static void damage_header(pid_t keeper)
{
	int journal = open_journal(keeper);

	flip(journal, POOL_AT);
	close(journal);
}

static void damage_segment(pid_t keeper, uint32_t number)
{
	int journal = open_journal(keeper);
	uint32_t bytes = number_at(journal, SEGMENT_BYTES_AT);
	off_t at = number_at(journal, HEADER_BYTES_AT);

	flip_record(journal, at + (off_t)(2 * number) * bytes, bytes);
	close(journal);
}

static void damage_client(pid_t keeper, uint32_t slot)
{
	int journal = open_journal(keeper);
	uint32_t bytes = number_at(journal, CLIENT_BYTES_AT);
	off_t at = number_at(journal, HEADER_BYTES_AT);

	at += (off_t)(2 * TH_DAEMON_SEGMENTS) *
	      number_at(journal, SEGMENT_BYTES_AT);
	flip_record(journal, at + (off_t)(2 * slot) * bytes, bytes);
	close(journal);
}

/* ---- clients ---- */

static void hold(int link)
{
	struct ps_pool *pool = th_attach_name("holder");
	void *mine = th_alloc(pool, HELD_BYTES);

	th_pattern_write(pool, mine, HELD_BYTES, 1);
	th_tell(link);
	th_await(link);
	th_pattern_check(pool, mine, HELD_BYTES, 1);
	/* The daemon may not know it any more. */
	_exit(0);
}

static uint32_t takers_most;

static void take_most(int link)
{
	struct ps_pool *pool = th_attach_name("taker");
	void *block;
	uint32_t count = 0;

	while (ps_mem_alloc(pool, TH_DAEMON_SEGMENT, &block) == PS_OK) {
		th_zeros_check(pool, block, TH_DAEMON_SEGMENT);
		th_pattern_write(pool, block, TH_DAEMON_SEGMENT, ++count);
	}
	assert_int_equal(count, takers_most);
	th_await(link);
	ps_pool_close(pool);
}

static void assert_taken(uint32_t most)
{
	struct th_client taker;

	takers_most = most;
	th_client_start(&taker, take_most);
	th_client_finish(&taker);
}

/* ---- the tests ---- */

static void test_journal_damaged_segment_is_given_to_nobody(void **state)
{
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	damage_segment(daemon.keeper, TH_DAEMON_SEGMENTS - 1);
	th_daemon_kill_agent(&daemon);
	th_daemon_wait_quarantined(TH_DAEMON_SEGMENT);
	assert_taken(TH_DAEMON_LEASES - 1);
	th_daemon_end(&daemon);
}

static void test_journal_damaged_client_keeps_its_memory(void **state)
{
	struct th_client holder;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&holder, hold);
	th_await(holder.link);
	damage_client(daemon.keeper, 0);
	th_daemon_kill_agent(&daemon);
	th_daemon_wait_quarantined(HELD_BYTES);
	assert_taken(TH_DAEMON_LEASES - HELD);
	th_client_finish(&holder);
	th_daemon_end(&daemon);
}

static void await_logged(const struct th_daemon *daemon, const char *text)
{
	uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);

	while (!th_daemon_logged(daemon, text)) {
		assert_true(th_now_ns() < end);
		th_rest_ms(5);
	}
}

/* Nothing of it is believed, and nobody's memory is touched. */
static void test_journal_damaged_header_serves_nobody(void **state)
{
	struct th_client holder;
	struct th_daemon daemon;
	char *text;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&holder, hold);
	th_await(holder.link);
	damage_header(daemon.keeper);
	th_daemon_strike(daemon.agent);
	await_logged(&daemon, "journal's header is damaged");
	th_assert_status(ps_daemon_ask(NULL, PS_ASK_STATUS, SHORT_MS, &text),
			 PS_TIMED_OUT);
	th_client_finish(&holder);
	th_daemon_kill(&daemon);
	th_daemon_start(&daemon, NULL);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_journal_damaged_segment_is_given_to_nobody),
	TH_DAEMON_TEST(test_journal_damaged_client_keeps_its_memory),
	TH_DAEMON_TEST(test_journal_damaged_header_serves_nobody),
};

TH_MAIN("daemon_journal", tests)
