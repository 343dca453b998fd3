/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Where the daemon is looked for, in which order, and what is said when
 * nobody is there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/address.h"
#include "ipc/conn.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_ends.h"
#include "tests/support/rigged_calls.h"

#define NOBODY 65534u

static int set_up(void **state)
{
	unsetenv("POOLSWITCH_SOCKET");
	unsetenv("XDG_RUNTIME_DIR");
	return th_rig_reset(state);
}

/* ------------------------------------------------------------------ */
/* Where                                                               */

static void test_address_given_path_is_the_only_one(void **state)
{
	struct ip_paths paths;

	(void)state;
	setenv("POOLSWITCH_SOCKET", "/elsewhere", 1);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	th_assert_ok(ip_paths_find("/tmp/mine", &paths));
	assert_int_equal(paths.count, 1);
	assert_string_equal(paths.path[0], "/tmp/mine");
}

static void test_address_environment_comes_next(void **state)
{
	struct ip_paths paths;

	(void)state;
	setenv("POOLSWITCH_SOCKET", "/elsewhere", 1);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	th_assert_ok(ip_paths_find(NULL, &paths));
	assert_int_equal(paths.count, 1);
	assert_string_equal(paths.path[0], "/elsewhere");
}

static void test_address_users_folder_comes_before_the_systems(void **state)
{
	struct ip_paths paths;

	(void)state;
	setenv("POOLSWITCH_SOCKET", "", 1);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	th_assert_ok(ip_paths_find(NULL, &paths));
	assert_int_equal(paths.count, 2);
	assert_string_equal(paths.path[0], "/run/user/7/poolswitch/socket");
	assert_string_equal(paths.path[1], "/run/poolswitch/socket");
}

static void test_address_without_a_users_folder_is_the_systems(void **state)
{
	static const char *const folders[] = { NULL, "", "not/absolute" };
	struct ip_paths paths;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		if (folders[i])
			setenv("XDG_RUNTIME_DIR", folders[i], 1);
		th_assert_ok(ip_paths_find(NULL, &paths));
		assert_int_equal(paths.count, 1);
		assert_string_equal(paths.path[0], "/run/poolswitch/socket");
	}
}

static void test_address_too_long_or_empty_is_refused(void **state)
{
	char path[IP_PATH_BYTES + 1] = "";
	struct ip_paths paths;

	(void)state;
	th_assert_status(ip_paths_find("", &paths), PS_INVALID_ARGUMENT);
	th_assert_said("(the one given) is empty, must be 1 to 107 bytes");
	memset(path, 'x', IP_PATH_BYTES - 1);
	th_assert_ok(ip_paths_find(path, &paths));
	assert_string_equal(paths.path[0], path);
	path[IP_PATH_BYTES - 1] = 'x';
	th_assert_status(ip_paths_find(path, &paths), PS_INVALID_ARGUMENT);
	th_assert_said("has 108 bytes");
	path[0] = '/';
	setenv("XDG_RUNTIME_DIR", path, 1);
	th_assert_status(ip_paths_find(NULL, &paths), PS_INVALID_ARGUMENT);
	th_assert_said("XDG_RUNTIME_DIR");
}

static void find_as_user(void *unused)
{
	char path[IP_PATH_BYTES];

	(void)unused;
	assert_int_equal(setuid(NOBODY), 0);
	th_assert_status(ip_path_for_daemon(NULL, path), PS_INVALID_ARGUMENT);
	th_assert_said("user 65534 has no place for a socket");
	setenv("XDG_RUNTIME_DIR", "/run/user/65534", 1);
	th_assert_ok(ip_path_for_daemon(NULL, path));
	assert_string_equal(path, "/run/user/65534/poolswitch/socket");
}

static void test_address_of_a_users_daemon_is_in_his_folder(void **state)
{
	(void)state;
	if (geteuid() != 0)
		th_skip("not root: cannot be another user");
	assert_int_equal(th_wait(th_fork(find_as_user, NULL)), 0);
}

static void test_address_of_roots_daemon_is_the_systems(void **state)
{
	char path[IP_PATH_BYTES];

	(void)state;
	if (geteuid() != 0)
		th_skip("not root");
	setenv("XDG_RUNTIME_DIR", "/run/user/0", 1);
	th_assert_ok(ip_path_for_daemon(NULL, path));
	assert_string_equal(path, "/run/poolswitch/socket");
}

static void test_address_of_a_daemon_may_be_chosen(void **state)
{
	char path[IP_PATH_BYTES];

	(void)state;
	setenv("POOLSWITCH_SOCKET", "/elsewhere", 1);
	th_assert_ok(ip_path_for_daemon(NULL, path));
	assert_string_equal(path, "/elsewhere");
	th_assert_ok(ip_path_for_daemon("/tmp/mine", path));
	assert_string_equal(path, "/tmp/mine");
	th_assert_status(ip_path_for_daemon("", path), PS_INVALID_ARGUMENT);
}

/* ------------------------------------------------------------------ */
/* Who is there                                                        */

/* Two places in the test's folder: a/socket and b/socket. */
static void make_places(struct ip_paths *paths)
{
	const char *folder = th_temp_dir();

	memset(paths, 0, sizeof(*paths));
	for (paths->count = 0; paths->count < 2; paths->count++) {
		char *path = paths->path[paths->count];

		snprintf(path, IP_PATH_BYTES, "%.90s/%c", folder,
			 'a' + (int)paths->count);
		assert_int_equal(mkdir(path, 0700), 0);
		strcat(path, "/socket");
	}
}

static int bind_at(const char *path, int type)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	memcpy(name.sun_path, path, strlen(path));
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	return fd;
}

static int listen_at(const char *path, int type)
{
	int fd = bind_at(path, type);

	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static void assert_found(const struct ip_paths *paths, const char *expected)
{
	char path[IP_PATH_BYTES];
	struct ip_conn conn;
	struct timeval wait;
	socklen_t size = sizeof(wait);
	int fd = -1;

	th_assert_ok(ip_connect(paths, &fd, path));
	assert_string_equal(path, expected);
	th_assert_ok(ip_conn_init(&conn, fd, IP_CLIENT, 0, 0));
	assert_int_equal(conn.type, SOCK_SEQPACKET);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, &size);
	assert_int_equal(wait.tv_sec, 0);
	close(fd);
}

static void assert_not_found(const struct ip_paths *paths,
			     enum ps_status expected, const char *text)
{
	char path[IP_PATH_BYTES];
	int fd = -1;

	th_assert_status(ip_connect(paths, &fd, path), expected);
	th_assert_said(text);
	assert_int_equal(fd, -1);
}

static void test_address_first_that_listens_is_taken(void **state)
{
	struct ip_paths paths;
	int first;
	int second;

	(void)state;
	make_places(&paths);
	second = listen_at(paths.path[1], SOCK_SEQPACKET);
	assert_found(&paths, paths.path[1]);
	first = listen_at(paths.path[0], SOCK_SEQPACKET);
	assert_found(&paths, paths.path[0]);
	close(first); /* its file stays: nobody listens there */
	assert_found(&paths, paths.path[1]);
	close(second);
}

static void test_address_each_empty_place_is_named(void **state)
{
	struct ip_paths paths;
	char text[IP_PATH_BYTES + 64];

	(void)state;
	make_places(&paths);
	close(bind_at(paths.path[1], SOCK_SEQPACKET));
	snprintf(text, sizeof(text), "%s: No such file or directory",
		 paths.path[0]);
	assert_not_found(&paths, PS_NO_DAEMON, text);
	snprintf(text, sizeof(text), "%s: nobody listens", paths.path[1]);
	th_assert_said(text);
	th_assert_said("start one: poolswitchd");
	paths.count = 1;
	assert_not_found(&paths, PS_NO_DAEMON, "poolswitchd --socket");
}

static void test_address_other_sockets_and_files_are_no_daemon(void **state)
{
	struct ip_paths paths;
	int stream;

	(void)state;
	make_places(&paths);
	stream = listen_at(paths.path[0], SOCK_STREAM);
	close(open(paths.path[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_not_found(&paths, PS_NO_DAEMON, "not a socket of poolswitchd");
	close(stream);
}

static void connect_as_user(void *arg)
{
	assert_int_equal(setuid(NOBODY), 0);
	assert_not_found(arg, PS_PERMISSION,
			 "poolswitchd does not let user 65534 in");
	th_assert_said("Permission denied");
}

static void test_address_closed_door_is_permission(void **state)
{
	struct ip_paths paths;
	int fd;

	(void)state;
	if (geteuid() != 0)
		th_skip("not root: cannot be another user");
	make_places(&paths);
	fd = listen_at(paths.path[0], SOCK_SEQPACKET);
	assert_int_equal(th_wait(th_fork(connect_as_user, &paths)), 0);
	close(fd);
}

static void connect_failing(enum th_call call, int error,
			    enum ps_status expected, const char *text)
{
	struct ip_paths paths;
	int fd;

	make_places(&paths);
	paths.count = 1;
	fd = listen_at(paths.path[0], SOCK_SEQPACKET);
	th_fail_at(call, 1, error);
	if (expected == PS_OK)
		assert_found(&paths, paths.path[0]);
	else
		assert_not_found(&paths, expected, text);
	close(fd);
	th_remove_tree(th_temp_dir());
	assert_int_equal(mkdir(th_temp_dir(), 0700), 0);
}

static void test_address_failing_calls_are_named(void **state)
{
	(void)state;
	connect_failing(TH_CONNECT, EINTR, PS_OK, "");
	connect_failing(TH_CONNECT, EAGAIN, PS_TIMED_OUT,
			"takes no connection in time");
	connect_failing(TH_SOCKET, EMFILE, PS_FD_LIMIT, "ulimit -n");
	connect_failing(TH_SOCKET, ENOBUFS, PS_SYSTEM, "opening a socket");
	connect_failing(TH_SETSOCKOPT, EDOM, PS_SYSTEM, "limiting the wait");
}

static void test_address_socket_that_stays_impatient_is_not_used(void **state)
{
	struct ip_paths paths;
	int fd;

	(void)state;
	make_places(&paths);
	fd = listen_at(paths.path[0], SOCK_SEQPACKET);
	th_fail_at(TH_SETSOCKOPT, 2, EDOM);
	assert_not_found(&paths, PS_SYSTEM, "using the connection to");
	close(fd);
}

/* Or it would wait for ever for room in the queue of a stuck daemon. */
static void test_address_connecting_has_a_deadline(void **state)
{
	struct ip_paths paths;
	int fd;

	(void)state;
	make_places(&paths);
	fd = listen_at(paths.path[0], SOCK_SEQPACKET);
	assert_found(&paths, paths.path[0]);
	assert_int_equal(th_rig.connect_wait_s, 10);
	close(fd);
}

#define RIGGED(fn) TH_TEST_SETUP(fn, set_up, th_rig_reset)

static const struct th_test tests[] = {
	RIGGED(test_address_given_path_is_the_only_one),
	RIGGED(test_address_environment_comes_next),
	RIGGED(test_address_users_folder_comes_before_the_systems),
	RIGGED(test_address_without_a_users_folder_is_the_systems),
	RIGGED(test_address_too_long_or_empty_is_refused),
	RIGGED(test_address_of_a_users_daemon_is_in_his_folder),
	RIGGED(test_address_of_roots_daemon_is_the_systems),
	RIGGED(test_address_of_a_daemon_may_be_chosen),
	RIGGED(test_address_first_that_listens_is_taken),
	RIGGED(test_address_each_empty_place_is_named),
	RIGGED(test_address_other_sockets_and_files_are_no_daemon),
	RIGGED(test_address_closed_door_is_permission),
	RIGGED(test_address_failing_calls_are_named),
	RIGGED(test_address_socket_that_stays_impatient_is_not_used),
	RIGGED(test_address_connecting_has_a_deadline),
};

TH_MAIN("address", tests)
