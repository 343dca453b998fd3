/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who may use poolswitchd, how much of it, and what happens to memory that
 * goes from one user to another. Other users are children of root that
 * became them: without root these tests are skipped.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/address.h"
#include "tests/support/daemon_wire.h"

#define ALICE 65533u
#define BOB 65532u

static const char *const open_socket[] = { "--socket-mode", "666", NULL };

static void need_root(void)
{
	if (geteuid() != 0)
		th_skip("only root can become another user");
}

/* A child tells one status of what it tried. */
static void tell_status(int link, enum ps_status status)
{
	assert_int_equal(write(link, &status, sizeof(status)), sizeof(status));
}

static enum ps_status ask_child(void (*run)(int link))
{
	struct th_client client;
	enum ps_status status;

	th_client_start(&client, run);
	assert_int_equal(read(client.link, &status, sizeof(status)),
			 sizeof(status));
	assert_int_equal(th_client_wait(&client), 0);
	return status;
}

/* ---- the socket ---- */

static void connect_as(uid_t uid, int link)
{
	char path[IP_PATH_BYTES];
	struct ip_paths paths;
	enum ps_status status;
	int fd = -1;

	th_become(uid);
	th_assert_ok(ip_paths_find(NULL, &paths));
	status = ip_connect(&paths, &fd, path);
	if (fd >= 0)
		close(fd);
	tell_status(link, status);
}

static void connect_as_alice(int link)
{
	connect_as(ALICE, link);
}

static void connect_as_bob(int link)
{
	connect_as(BOB, link);
}

static void test_access_by_default_is_the_users_own(void **state)
{
	struct th_daemon daemon;
	struct stat info;

	(void)state;
	need_root();
	th_daemon_start(&daemon, NULL);
	th_open_to_all();
	assert_int_equal(stat(daemon.socket, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	assert_int_equal(ask_child(connect_as_alice), PS_PERMISSION);
	th_daemon_stop(&daemon);
}

static void test_access_mode_owner_and_group_are_as_asked(void **state)
{
	const char *const options[] = { "--socket-mode",
					"660",
					"--socket-owner",
					"65532",
					"--socket-group",
					"65533",
					NULL };
	struct th_daemon daemon;
	struct stat info;

	(void)state;
	need_root();
	th_daemon_start(&daemon,
			&(struct th_daemon_plan){ .options = options });
	th_open_to_all();
	assert_int_equal(stat(daemon.socket, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0660);
	assert_int_equal(info.st_uid, BOB);
	assert_int_equal(info.st_gid, ALICE);
	assert_int_equal(ask_child(connect_as_alice), PS_OK);
	th_daemon_stop(&daemon);
}

/* ---- limits ---- */

static const char *write_limits(const char *text)
{
	static char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/limits.json", th_temp_dir());
	file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return path;
}

static void start_limited(struct th_daemon *daemon, const char *text)
{
	const char *options[] = { "--socket-mode", "666", "--limits",
				  write_limits(text), NULL };

	th_daemon_start(daemon, &(struct th_daemon_plan){ .options = options });
	th_open_to_all();
}

static void attach_as_alice(int link)
{
	struct th_wire wire;

	th_become(ALICE);
	th_wire_connect(&wire);
	tell_status(link,
		    th_wire_try_attach(&wire, &(struct ip_attach){ .id = 0 }));
	th_wire_close(&wire);
}

static void test_access_of_a_user_not_in_the_list_is_refused(void **state)
{
	struct th_daemon daemon;

	(void)state;
	need_root();
	start_limited(&daemon, "{\"allowed_uids\": [65532]}");
	assert_int_equal(ask_child(attach_as_alice), PS_PERMISSION);
	th_daemon_stop(&daemon);
}

static void test_access_of_a_user_in_the_list_is_given(void **state)
{
	struct th_daemon daemon;

	(void)state;
	need_root();
	start_limited(&daemon, "{\"allowed_uids\": [65533]}");
	assert_int_equal(ask_child(attach_as_alice), PS_OK);
	th_daemon_stop(&daemon);
}

static void test_access_by_group_is_given(void **state)
{
	struct th_daemon daemon;

	(void)state;
	need_root();
	start_limited(&daemon, "{\"allowed_gids\": [65533]}");
	assert_int_equal(ask_child(attach_as_alice), PS_OK);
	th_daemon_stop(&daemon);
}

static void test_access_limits_are_read_again_on_hup(void **state)
{
	struct th_daemon daemon;

	(void)state;
	need_root();
	start_limited(&daemon, "{\"allowed_uids\": [65532]}");
	write_limits("{\"allowed_uids\": [65533]}");
	kill(daemon.keeper, SIGHUP);
	for (int i = 0; i < 1000 && ask_child(attach_as_alice) != PS_OK; i++)
		th_rest_ms(5);
	assert_int_equal(ask_child(attach_as_alice), PS_OK);
	th_daemon_stop(&daemon);
}

static void test_access_limits_with_a_mistake_change_nothing(void **state)
{
	struct th_daemon daemon;
	char *text;

	(void)state;
	need_root();
	start_limited(&daemon, "{\"allowed_uids\": [65533]}");
	write_limits("{\"allowed_uids\": [65532], \"client\": 3}");
	th_assert_status(
		ps_daemon_ask(NULL, PS_ASK_RELOAD, TH_DAEMON_MS, &text),
		PS_INVALID_ARGUMENT);
	th_assert_detail("\"client\"");
	assert_int_equal(ask_child(attach_as_alice), PS_OK);
	th_daemon_stop(&daemon);
}

static void shut_down_as_alice(int link)
{
	enum ps_status status;
	char *text = NULL;

	th_become(ALICE);
	status = ps_daemon_ask(NULL, PS_ASK_SHUTDOWN, TH_DAEMON_MS, &text);
	free(text);
	tell_status(link, status);
}

static void test_access_of_another_user_ends_no_daemon(void **state)
{
	struct th_daemon daemon;

	(void)state;
	need_root();
	start_limited(&daemon, "{}");
	assert_int_equal(ask_child(shut_down_as_alice), PS_PERMISSION);
	th_daemon_stop(&daemon);
}

static void see_presence_as_alice(int link)
{
	enum ps_status status;
	char *text = NULL;

	th_become(ALICE);
	status = ps_daemon_ask(NULL, PS_ASK_PRESENCE, TH_DAEMON_MS, &text);
	if (status == PS_OK && strstr(text, "\"gpu\"") == NULL)
		status = PS_PROTOCOL;
	free(text);
	tell_status(link, status);
}

static void test_access_of_another_user_sees_the_presence(void **state)
{
	struct th_daemon daemon;

	(void)state;
	need_root();
	start_limited(&daemon, "{}");
	assert_int_equal(ask_child(see_presence_as_alice), PS_OK);
	th_daemon_stop(&daemon);
}

/* One is attached as root; how the second fares tells the child's status. */
static void attach_second(int link)
{
	struct th_wire first, second;

	th_wire_open(&first, "first");
	th_wire_connect(&second);
	tell_status(link, th_wire_try_attach(&second,
					     &(struct ip_attach){ .id = 0 }));
	th_wire_close(&second);
	th_wire_close(&first);
}

static void test_access_of_one_client_too_many_is_refused(void **state)
{
	struct th_daemon daemon;

	(void)state;
	start_limited(&daemon, "{\"clients\": 1}");
	assert_int_equal(ask_child(attach_second), PS_REFUSED);
	th_daemon_stop(&daemon);
}

static void
test_access_of_one_client_too_many_of_a_user_is_refused(void **state)
{
	struct th_daemon daemon;

	(void)state;
	start_limited(&daemon, "{\"clients_of_user\": 1}");
	assert_int_equal(ask_child(attach_second), PS_REFUSED);
	th_daemon_stop(&daemon);
}

static void take_beyond_limit(int link)
{
	struct th_wire wire;

	th_wire_open(&wire, "greedy");
	assert_int_equal(wire.welcome.limit, 4 * TH_DAEMON_SEGMENT);
	th_wire_take(&wire, 4);
	tell_status(link, th_wire_try_take(&wire, 1));
	th_wire_close(&wire);
}

static void test_access_beyond_the_clients_limit_is_denied(void **state)
{
	struct th_daemon daemon;

	(void)state;
	start_limited(&daemon, "{\"client_limit\": \"8M\"}");
	assert_int_equal(ask_child(take_beyond_limit), PS_OUT_OF_MEMORY);
	th_daemon_stop(&daemon);
}

static void flood(int link)
{
	struct th_wire wire;

	th_wire_open(&wire, "flood");
	for (int i = 0; i < 300; i++) {
		th_wire_take(&wire, 1);
		th_wire_give(&wire);
	}
	tell_status(link, PS_OK);
	th_wire_close(&wire);
}

/* 600 messages at 200 a second take seconds, and none is lost. */
static void test_access_more_often_than_allowed_is_slowed(void **state)
{
	uint64_t begin = th_now_ns();
	struct th_daemon daemon;
	json_t *status;

	(void)state;
	start_limited(&daemon, "{\"messages\": 200}");
	begin = th_now_ns();
	assert_int_equal(ask_child(flood), PS_OK);
	assert_true(th_now_ns() - begin > UINT64_C(1000000000));
	status = th_daemon_status();
	assert_true(th_json_number(status, "counters.throttled") > 0);
	json_decref(status);
	th_daemon_stop(&daemon);
}

/* ---- memory that goes from user to user ---- */

static void use_all(uid_t uid, int link)
{
	struct ps_pool *pool;
	uint64_t bytes = TH_DAEMON_LEASES * TH_DAEMON_SEGMENT;
	void *ptr;

	th_become(uid);
	pool = th_attach();
	ptr = th_alloc(pool, bytes);
	th_zeros_check(pool, ptr, bytes);
	th_pattern_write(pool, ptr, bytes, uid);
	th_assert_ok(ps_mem_free(pool, ptr));
	th_assert_ok(ps_detach(pool));
	tell_status(link, PS_OK);
}

static void use_as_alice(int link)
{
	use_all(ALICE, link);
}

static void use_as_bob(int link)
{
	use_all(BOB, link);
}

static int64_t count_remakes(void (*second)(int link))
{
	struct th_daemon daemon;
	json_t *status;
	int64_t remakes;

	th_daemon_start(&daemon,
			&(struct th_daemon_plan){ .options = open_socket });
	th_open_to_all();
	assert_int_equal(ask_child(use_as_alice), PS_OK);
	th_daemon_wait_clients(0);
	assert_int_equal(ask_child(second), PS_OK);
	th_daemon_wait_clients(0);
	status = th_daemon_status();
	remakes = th_json_number(status, "counters.remakes");
	json_decref(status);
	th_daemon_stop(&daemon);
	return remakes;
}

static void test_access_memory_that_stays_with_a_user_is_scrubbed(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(count_remakes(use_as_alice), 0);
}

static void test_access_memory_that_changes_users_is_made_anew(void **state)
{
	(void)state;
	need_root();
	assert_true(count_remakes(use_as_bob) >= (int64_t)TH_DAEMON_LEASES);
}

/* ---- a daemon without rights ---- */

static void become_alice(void)
{
	th_become(ALICE);
}

static void test_access_daemon_of_a_plain_user_serves_him(void **state)
{
	struct th_daemon daemon;

	(void)state;
	need_root();
	th_open_to_all();
	assert_int_equal(chown(th_temp_dir(), ALICE, ALICE), 0);
	th_daemon_start(&daemon,
			&(struct th_daemon_plan){ .prepare = become_alice });
	assert_int_equal(ask_child(use_as_alice), PS_OK);
	th_daemon_kill_agent(&daemon);
	th_daemon_kill_keeper(&daemon);
	assert_int_equal(ask_child(use_as_alice), PS_OK);
	assert_int_equal(ask_child(connect_as_bob), PS_PERMISSION);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_access_by_default_is_the_users_own),
	TH_DAEMON_TEST(test_access_mode_owner_and_group_are_as_asked),
	TH_DAEMON_TEST(test_access_of_a_user_not_in_the_list_is_refused),
	TH_DAEMON_TEST(test_access_of_a_user_in_the_list_is_given),
	TH_DAEMON_TEST(test_access_by_group_is_given),
	TH_DAEMON_TEST(test_access_limits_are_read_again_on_hup),
	TH_DAEMON_TEST(test_access_limits_with_a_mistake_change_nothing),
	TH_DAEMON_TEST(test_access_of_another_user_ends_no_daemon),
	TH_DAEMON_TEST(test_access_of_another_user_sees_the_presence),
	TH_DAEMON_TEST(test_access_of_one_client_too_many_is_refused),
	TH_DAEMON_TEST(test_access_of_one_client_too_many_of_a_user_is_refused),
	TH_DAEMON_TEST(test_access_beyond_the_clients_limit_is_denied),
	TH_DAEMON_TEST(test_access_more_often_than_allowed_is_slowed),
	TH_DAEMON_TEST(test_access_memory_that_stays_with_a_user_is_scrubbed),
	TH_DAEMON_TEST(test_access_memory_that_changes_users_is_made_anew),
	TH_DAEMON_TEST(test_access_daemon_of_a_plain_user_serves_him),
};

TH_MAIN("daemon_access", tests)
