/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What a daemon under test says of itself, and what /proc says. */
#include "tests/support/daemon.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REST_MS 2
/* The daemon closes the connection of who asked a moment later. */
#define FD_LOOKS 5
#define FDS_PRINTED 256

void th_rest_ms(unsigned int ms)
{
	poll(NULL, 0, (int)ms);
}

/* ---- STATUS ---- */

json_t *th_daemon_try_status(void)
{
	json_error_t error;
	json_t *json;
	char *text;

	if (ps_daemon_ask(NULL, PS_ASK_STATUS, TH_DAEMON_MS, &text) != PS_OK)
		return NULL;
	json = json_loads(text, 0, &error);
	if (json == NULL)
		fail_msg("STATUS is no JSON: %s in %s", error.text, text);
	free(text);
	return json;
}

unsigned int th_daemon_patience;

json_t *th_daemon_status(void)
{
	json_t *json = th_daemon_try_status();

	for (unsigned int i = 0; json == NULL && i < th_daemon_patience; i++) {
		th_rest_ms(REST_MS);
		json = th_daemon_try_status();
	}
	if (json == NULL)
		fail_msg("no status: %s", ps_error_detail());
	return json;
}

int64_t th_json_number(const json_t *json, const char *path)
{
	const json_t *at = json;
	char name[64];
	size_t length;

	for (const char *rest = path; *rest != '\0'; rest += length) {
		rest += *rest == '.';
		length = strcspn(rest, ".");
		snprintf(name, sizeof(name), "%.*s", (int)length, rest);
		at = json_object_get(at, name);
	}
	if (!json_is_integer(at))
		fail_msg("STATUS has no number %s", path);
	return (int64_t)json_integer_value(at);
}

json_t *th_status_client(const json_t *status, pid_t pid)
{
	json_t *clients = json_object_get(status, "clients");
	json_t *client;
	size_t i;

	json_array_foreach(clients, i,
			   client) if (th_json_number(client, "pid") ==
				       pid) return client;
	return NULL;
}

/* ---- sums ---- */

long th_fds_of(pid_t pid)
{
	char path[64], target[512];
	struct dirent *entry;
	long count = 0;
	ssize_t length;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (dir == NULL)
		return -1;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		length = readlinkat(dirfd(dir), entry->d_name, target,
				    sizeof(target) - 1);
		target[length > 0 ? length : 0] = '\0';
		count += strncmp(target, "/dev/nvidia", 11) != 0;
	}
	closedir(dir);
	return count;
}

static void print_fds(const char *half, int64_t pid)
{
	char folder[64], path[96], target[512];
	ssize_t length;

	snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)pid);
	for (int fd = 0; fd < FDS_PRINTED; fd++) {
		snprintf(path, sizeof(path), "%s/%d", folder, fd);
		length = readlink(path, target, sizeof(target) - 1);
		if (length > 0)
			print_message("%s fd %d %.*s\n", half, fd, (int)length,
				      target);
	}
}

static void print_halves_fds(void)
{
	json_t *all = th_daemon_status();

	print_fds("keeper", th_json_number(all, "keeper_pid"));
	print_fds("agent", th_json_number(all, "agent_pid"));
	json_decref(all);
}

/* The fewest of several looks. */
static long count_fds(pid_t pid)
{
	long fewest = th_fds_of(pid);
	long count;

	for (int i = 1; i < FD_LOOKS; i++) {
		th_rest_ms(REST_MS);
		count = th_fds_of(pid);
		fewest = count < fewest ? count : fewest;
	}
	return fewest;
}

void th_daemon_sums(struct th_daemon_sums *sums_out)
{
	json_t *all = th_daemon_status();
	json_t *of =
		json_object_get(json_object_get(all, "regions"), "computation");

	sums_out->leased = th_json_number(of, "leased");
	sums_out->parked = th_json_number(of, "parked");
	sums_out->clean = th_json_number(of, "clean");
	sums_out->dirty = th_json_number(of, "dirty");
	sums_out->remaking = th_json_number(of, "remaking");
	sums_out->quarantined = th_json_number(of, "quarantined");
	sums_out->clients =
		(int64_t)json_array_size(json_object_get(all, "clients"));
	sums_out->keeper_fds =
		count_fds((pid_t)th_json_number(all, "keeper_pid"));
	sums_out->agent_fds =
		count_fds((pid_t)th_json_number(all, "agent_pid"));
	json_decref(all);
}

static void print_sums(const char *when, const struct th_daemon_sums *sums)
{
	print_error("%s: leased %lld, parked %lld, clean %lld, dirty %lld, "
		    "remaking %lld, quarantined %lld, clients %lld, "
		    "descriptors %ld and %ld\n",
		    when, (long long)sums->leased, (long long)sums->parked,
		    (long long)sums->clean, (long long)sums->dirty,
		    (long long)sums->remaking, (long long)sums->quarantined,
		    (long long)sums->clients, sums->keeper_fds,
		    sums->agent_fds);
}

static bool is_settled(const struct th_daemon_sums *sums, int64_t clients)
{
	return sums->leased + sums->parked + sums->dirty + sums->remaking +
			       sums->quarantined ==
		       0 &&
	       sums->clients == clients;
}

/* The agent closes descriptors on a thread of its own, after the answer. */
void th_daemon_settle(int64_t clients, struct th_daemon_sums *sums_out)
{
	uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);
	struct th_daemon_sums last;

	memset(&last, 0, sizeof(last));
	for (;;) {
		memset(sums_out, 0, sizeof(*sums_out));
		th_daemon_sums(sums_out);
		if (is_settled(sums_out, clients) &&
		    memcmp(&last, sums_out, sizeof(last)) == 0)
			return;
		last = *sums_out;
		if (th_now_ns() > end)
			break;
		th_rest_ms(REST_MS);
	}
	print_sums("not settled", sums_out);
	fail();
}

/* ---- waiting ---- */

/* @is_so asks one status about @want. */
static void wait_until(bool (*is_so)(const json_t *status, const void *want),
		       const void *want, const char *what)
{
	uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);
	json_t *status;
	bool so;

	do {
		status = th_daemon_status();
		so = is_so(status, want);
		json_decref(status);
		if (so)
			return;
		th_rest_ms(REST_MS);
	} while (th_now_ns() < end);
	fail_msg("it never came to %s", what);
}

static bool has_clients(const json_t *status, const void *want)
{
	const json_t *of = json_object_get(json_object_get(status, "regions"),
					   "computation");
	size_t count = json_array_size(json_object_get(status, "clients"));

	return (int64_t)count == *(const int64_t *)want &&
	       th_json_number(of, "quarantined") == 0 &&
	       th_json_number(of, "dirty") == 0 &&
	       th_json_number(of, "remaking") == 0;
}

void th_daemon_wait_clients(int64_t count)
{
	wait_until(has_clients, &count, "that number of clients");
}

static bool has_quarantined(const json_t *status, const void *want)
{
	return th_json_number(status, "regions.computation.quarantined") ==
	       *(const int64_t *)want;
}

void th_daemon_wait_quarantined(int64_t bytes)
{
	wait_until(has_quarantined, &bytes, "that quarantine");
}

struct presence {
	pid_t pid;
	const char *name;
};

static bool is_present(const json_t *status, const void *want)
{
	const struct presence *presence = want;
	json_t *client = th_status_client(status, presence->pid);
	const char *is = json_string_value(json_object_get(client, "presence"));

	return is != NULL && strcmp(is, presence->name) == 0;
}

void th_daemon_wait_presence(pid_t pid, const char *presence)
{
	const struct presence want = { pid, presence };

	wait_until(is_present, &want, presence);
}

static bool is_same(const struct th_daemon_sums *before,
		    const struct th_daemon_sums *now)
{
	return memcmp(before, now, sizeof(*now)) == 0;
}

static bool is_no_more(const struct th_daemon_sums *before,
		       const struct th_daemon_sums *now)
{
	struct th_daemon_sums sums = *now;

	if (now->keeper_fds > before->keeper_fds ||
	    now->agent_fds > before->agent_fds)
		return false;
	sums.keeper_fds = before->keeper_fds;
	sums.agent_fds = before->agent_fds;
	return is_same(before, &sums);
}

static void await_sums(const struct th_daemon_sums *before,
		       bool (*is_so)(const struct th_daemon_sums *before,
				     const struct th_daemon_sums *now))
{
	uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);
	struct th_daemon_sums now;

	do {
		memset(&now, 0, sizeof(now));
		th_daemon_sums(&now);
		if (is_so(before, &now))
			return;
		th_rest_ms(REST_MS);
	} while (th_now_ns() < end);
	print_sums("before", before);
	print_sums("now", &now);
	print_halves_fds();
	fail_msg("bytes or descriptors are lost");
}

void th_daemon_await_same(const struct th_daemon_sums *before)
{
	await_sums(before, is_same);
}

void th_daemon_await_no_more(const struct th_daemon_sums *before)
{
	await_sums(before, is_no_more);
}

/* ---- the log ---- */

static char *read_log(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	if (file == NULL)
		return NULL;
	if (getdelim(&text, &size, '\0', file) < 0) {
		free(text);
		text = NULL;
	}
	fclose(file);
	return text;
}

bool th_daemon_logged(const struct th_daemon *daemon, const char *text)
{
	char *log = read_log(daemon->log);
	bool found = log != NULL && strstr(log, text) != NULL;

	free(log);
	return found;
}

void th_daemon_show_log(const char *path)
{
	char *log = read_log(path);
	size_t length = log == NULL ? 0 : strlen(log);
	size_t skipped = length > 4096 ? length - 4096 : 0;

	if (log != NULL)
		print_error("the daemon's log ends:\n%s", log + skipped);
	free(log);
}
