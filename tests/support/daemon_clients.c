/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Clients of a daemon under test, and the patterns in their memory. */
#include "tests/support/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_WORDS 16384u

struct entrance {
	void (*run)(int link);
	int ends[2];
};

static void enter(void *arg)
{
	const struct entrance *entrance = arg;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(entrance->ends[1]);
	entrance->run(entrance->ends[0]);
}

void th_client_start(struct th_client *client, void (*run)(int link))
{
	struct entrance entrance = { .run = run };

	th_socketpair(SOCK_STREAM, entrance.ends);
	client->pid = th_fork(enter, &entrance);
	client->link = entrance.ends[1];
	close(entrance.ends[0]);
}

int th_client_wait(struct th_client *client)
{
	int status = th_wait(client->pid);

	close(client->link);
	client->pid = client->link = -1;
	return status;
}

void th_client_finish(struct th_client *client)
{
	th_tell(client->link);
	assert_int_equal(th_client_wait(client), 0);
}

void th_client_kill(struct th_client *client)
{
	th_kill(client->pid);
	close(client->link);
	client->pid = client->link = -1;
}

void th_become(uid_t uid)
{
	const gid_t gid = (gid_t)uid;

	if (setgroups(1, &gid) != 0 || setgid(gid) != 0 || setuid(uid) != 0)
		fail_msg("cannot become %u: %s", (unsigned int)uid,
			 strerror(errno));
	/* That made the process unreadable to its own user. */
	prctl(PR_SET_DUMPABLE, 1);
}

void th_open_to_all(void)
{
	const char *folder = getenv("POOLSWITCH_SIM_DIR");
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	chmod(th_temp_dir(), 0755);
	if (folder == NULL)
		return;
	chmod(folder, 0777);
	dir = opendir(folder);
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (entry->d_name[0] != '.')
			chmod(path, 0666);
	}
	if (dir != NULL)
		closedir(dir);
}

struct ps_pool *th_attach_name(const char *name)
{
	struct ps_attach_config *config;
	struct ps_pool *pool;

	th_assert_ok(ps_attach_config_new(&config));
	th_assert_ok(ps_attach_config_set_name(config, name));
	th_assert_ok(ps_attach(config, &pool));
	ps_attach_config_free(config);
	return pool;
}

struct ps_pool *th_attach(void)
{
	return th_attach_name(NULL);
}

/* Never 0, so that scrubbed memory is nobody's. */
static uint32_t word_at(uint32_t seed, size_t index)
{
	uint64_t mixed = (seed + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15) +
			 index * UINT64_C(0xbf58476d1ce4e5b9);

	return (uint32_t)(mixed >> 32) | 1u;
}

static size_t piece_of(size_t bytes, size_t done)
{
	size_t left = bytes - done;

	return left < PIECE_WORDS * 4 ? left : PIECE_WORDS * 4;
}

void th_pattern_write(struct ps_pool *pool, void *at, size_t bytes,
		      uint32_t seed)
{
	static uint32_t words[PIECE_WORDS];
	size_t piece;

	for (size_t done = 0; done < bytes; done += piece) {
		piece = piece_of(bytes, done);
		for (size_t i = 0; i < piece / 4; i++)
			words[i] = word_at(seed, done / 4 + i);
		th_assert_ok(
			ps_mem_write(pool, (char *)at + done, words, piece));
	}
}

/* @seed: NULL: zeros are expected. */
static void check(struct ps_pool *pool, const void *at, size_t bytes,
		  const uint32_t *seed)
{
	static uint32_t words[PIECE_WORDS];
	size_t piece;
	uint32_t want;

	for (size_t done = 0; done < bytes; done += piece) {
		piece = piece_of(bytes, done);
		th_assert_ok(ps_mem_read(pool, words, (const char *)at + done,
					 piece));
		for (size_t i = 0; i < piece / 4; i++) {
			want = seed == NULL ? 0 : word_at(*seed, done / 4 + i);
			if (words[i] != want)
				fail_msg("byte %zu is 0x%08x, not 0x%08x",
					 done + 4 * i, words[i], want);
		}
	}
}

void th_pattern_check(struct ps_pool *pool, const void *at, size_t bytes,
		      uint32_t seed)
{
	check(pool, at, bytes, &seed);
}

void th_zeros_check(struct ps_pool *pool, const void *at, size_t bytes)
{
	check(pool, at, bytes, NULL);
}
