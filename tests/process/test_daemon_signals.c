/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What poolswitchd does at a signal, with clients attached, and that it does
 * nothing at all when there is nothing to do.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "tests/support/daemon.h"
#include "tests/support/pools.h"

#define BLOCK (UINT64_C(4) << 20)
#define IDLE_MS 2000
#define SETTLING_MS 300
#define NO_DRIVER_NS UINT64_C(2000000000)

/* ---- clients ---- */

/* Has memory until it is told to go, and the memory is its own all the time. */
static void use_memory(int link)
{
	struct ps_pool *pool = th_attach();
	void *block = NULL;

	th_assert_ok(ps_mem_alloc(pool, BLOCK, &block));
	th_pattern_write(pool, block, BLOCK, 7);
	th_tell(link);
	th_await(link);
	th_pattern_check(pool, block, BLOCK, 7);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

/* The same, but the daemon may be gone by then. */
static void outlive_the_daemon(int link)
{
	struct ps_pool *pool = th_attach();
	void *block = NULL;

	th_assert_ok(ps_mem_alloc(pool, BLOCK, &block));
	th_pattern_write(pool, block, BLOCK, 8);
	th_tell(link);
	th_await(link);
	th_pattern_check(pool, block, BLOCK, 8);
	_exit(0);
}

static void be_refused(int link)
{
	struct ps_pool *pool;

	(void)link;
	th_assert_status(ps_attach(NULL, &pool), PS_REFUSED);
}

/* ---- looking ---- */

static bool is_state(const char *state)
{
	json_t *status = th_daemon_status();
	const char *text = json_string_value(json_object_get(status, "state"));
	bool is = text && strcmp(text, state) == 0;

	json_decref(status);
	return is;
}

static void wait_for_draining(void)
{
	for (int i = 0; i < 200 && !is_state("draining"); i++)
		th_rest_ms(10);
	assert_true(is_state("draining"));
}

static int64_t client_limit(void)
{
	json_t *status = th_daemon_status();
	int64_t limit = th_json_number(status, "limits.client_limit");

	json_decref(status);
	return limit;
}

static void wait_for_log(const struct th_daemon *daemon, const char *text)
{
	for (int i = 0; i < 200 && !th_daemon_logged(daemon, text); i++)
		th_rest_ms(10);
	assert_true(th_daemon_logged(daemon, text));
}

/* How often one thread has gone to sleep. */
static long switches_of(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[200];
	long count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		sscanf(line, "voluntary_ctxt_switches: %ld", &count);
	fclose(file);
	return count;
}

/* All threads of it. */
static long wake_ups_of(pid_t pid)
{
	struct dirent *entry;
	char path[400];
	long count = 0;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	folder = opendir(path);
	assert_non_null(folder);
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/status",
			 (int)pid, entry->d_name);
		count += switches_of(path);
	}
	closedir(folder);
	assert_true(count > 0);
	return count;
}

/* The thread sanitizer has a thread of its own in each process. */
static void skip_beside_another_thread(void)
{
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
	th_skip("the thread sanitizer's thread wakes up");
#endif
#endif
}

static void assert_idle(const struct th_daemon *daemon)
{
	long keeper;
	long agent;

	th_rest_ms(SETTLING_MS);
	keeper = wake_ups_of(daemon->keeper);
	agent = wake_ups_of(daemon->agent);
	th_rest_ms(IDLE_MS);
	assert_int_equal(wake_ups_of(daemon->keeper) - keeper, 0);
	assert_int_equal(wake_ups_of(daemon->agent) - agent, 0);
}

/* ---- ending ---- */

static void test_daemon_term_waits_for_its_clients(void **state)
{
	struct th_daemon daemon;
	struct th_client client;
	struct th_client late;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, use_memory);
	th_await(client.link);
	kill(daemon.keeper, SIGTERM);
	wait_for_draining();
	th_client_start(&late, be_refused);
	assert_int_equal(th_client_wait(&late), 0);
	th_client_finish(&client);
	assert_int_equal(th_wait(daemon.keeper), 0);
	assert_int_equal(access(daemon.socket, F_OK), -1);
	th_daemon_kill(&daemon);
}

static void test_daemon_second_term_leaves_clients_their_memory(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, outlive_the_daemon);
	th_await(client.link);
	kill(daemon.keeper, SIGTERM);
	wait_for_draining();
	th_daemon_end(&daemon);
	assert_int_equal(access(daemon.socket, F_OK), -1);
	th_client_finish(&client);
}

static void test_daemon_draining_goes_on_in_the_next_agent(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, use_memory);
	th_await(client.link);
	kill(daemon.keeper, SIGTERM);
	wait_for_draining();
	th_daemon_kill_agent(&daemon);
	wait_for_draining();
	th_client_finish(&client);
	assert_int_equal(th_wait(daemon.keeper), 0);
	th_daemon_kill(&daemon);
}

/* ---- the limits ---- */

static const char *write_limits(const char *text)
{
	static char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/limits", th_temp_dir());
	file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return path;
}

static void test_daemon_hup_reads_the_limits_again(void **state)
{
	const char *path = write_limits("{ \"client_limit\": 4194304 }\n");
	const char *options[] = { "--limits", path, NULL };
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon,
			&(struct th_daemon_plan){ .options = options });
	assert_int_equal(client_limit(), 4194304);
	write_limits("{ \"client_limit\": 8388608 }\n");
	kill(daemon.keeper, SIGHUP);
	wait_for_log(&daemon, "limits read again");
	assert_int_equal(client_limit(), 8388608);
	th_daemon_stop(&daemon);
}

static void test_daemon_hup_with_a_mistake_changes_nothing(void **state)
{
	const char *path = write_limits("{ \"client_limit\": 4194304 }\n");
	const char *options[] = { "--limits", path, NULL };
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon,
			&(struct th_daemon_plan){ .options = options });
	write_limits("{ \"client_limit\": \"much\" }\n");
	kill(daemon.keeper, SIGHUP);
	wait_for_log(&daemon, "limits stay as they were");
	assert_int_equal(client_limit(), 4194304);
	th_daemon_stop(&daemon);
}

static void test_daemon_start_with_bad_limits_is_refused(void **state)
{
	const char *path = write_limits("{ \"client_limit\": \"much\" }\n");
	const char *options[] = { "--limits", path, NULL };
	struct th_daemon daemon;

	(void)state;
	assert_int_equal(
		th_daemon_try(&daemon,
			      &(struct th_daemon_plan){ .options = options }),
		EX_USAGE);
}

/* ---- nothing ---- */

static void test_daemon_without_a_driver_ends_at_once(void **state)
{
	const char *env[] = { "POOLSWITCH_SIM_LIBRARY=/no/such/library", NULL };
	uint64_t begin = th_now_ns();
	struct th_daemon daemon;

	(void)state;
	assert_int_equal(
		th_daemon_try(&daemon, &(struct th_daemon_plan){ .env = env }),
		EX_UNAVAILABLE);
	assert_true(th_now_ns() - begin < NO_DRIVER_NS);
	assert_int_equal(access(daemon.socket, F_OK), -1);
}

static void test_daemon_idle_never_wakes_up(void **state)
{
	struct th_daemon daemon;

	(void)state;
	skip_beside_another_thread();
	th_daemon_start(&daemon, NULL);
	assert_idle(&daemon);
	th_daemon_stop(&daemon);
}

static void test_daemon_idle_with_a_client_never_wakes_up(void **state)
{
	struct th_daemon daemon;
	struct th_client client;
	long before;

	(void)state;
	skip_beside_another_thread();
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, use_memory);
	th_await(client.link);
	assert_idle(&daemon);
	/* Its service has looked once for what could be parked. */
	before = wake_ups_of(client.pid);
	th_rest_ms(IDLE_MS);
	assert_int_equal(wake_ups_of(client.pid) - before, 0);
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_daemon_term_waits_for_its_clients),
	TH_DAEMON_TEST(test_daemon_second_term_leaves_clients_their_memory),
	TH_DAEMON_TEST(test_daemon_draining_goes_on_in_the_next_agent),
	TH_DAEMON_TEST(test_daemon_hup_reads_the_limits_again),
	TH_DAEMON_TEST(test_daemon_hup_with_a_mistake_changes_nothing),
	TH_DAEMON_TEST(test_daemon_start_with_bad_limits_is_refused),
	TH_DAEMON_TEST(test_daemon_without_a_driver_ends_at_once),
	TH_DAEMON_TEST(test_daemon_idle_never_wakes_up),
	TH_DAEMON_TEST(test_daemon_idle_with_a_client_never_wakes_up),
};

TH_MAIN("daemon_signals", tests)
