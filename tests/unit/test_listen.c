/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The daemon's socket and its pid file: what may be in their way. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/status.h"
#include "poold/listen.h"
#include "tests/support/harness.h"
#include "tests/support/rigged_calls.h"

#define NOBODY 65534

/* Options with a socket of that name in the test's folder. */
static struct pd_options options_for(const char *name)
{
	struct pd_options options;

	memset(&options, 0, sizeof(options));
	options.mode = 0600;
	snprintf(options.socket, sizeof(options.socket), "%s/%s", th_temp_dir(),
		 name);
	return options;
}

static int bind_there(const char *path, int type)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	return fd;
}

/* A descriptor, or -errno. */
static int connect_there(const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int error;

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0)
		return fd;
	error = errno;
	close(fd);
	return -error;
}

static void assert_served(const char *path)
{
	int fd = connect_there(path);

	if (fd < 0)
		fail_msg("connecting to %s: %s", path, strerror(-fd));
	close(fd);
}

static void assert_refused(const struct pd_options *options,
			   enum ps_status expected, const char *text)
{
	int fd;

	th_assert_status(pd_listen(options, &fd), expected);
	if (!strstr(bs_fail_text(), text))
		fail_msg("'%s' is not in '%s'", text, bs_fail_text());
}

static void assert_mode(const char *path, mode_t mode)
{
	struct stat file;

	assert_int_equal(lstat(path, &file), 0);
	assert_int_equal(file.st_mode & 07777, mode);
}

static int be_somebody_else(void)
{
	return setgroups(0, NULL) != 0 || setegid(NOBODY) != 0 ||
	       seteuid(NOBODY) != 0;
}

static void be_root_again(void)
{
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(setegid(0), 0);
}

/* ------------------------------------------------------------------ */

static void test_listen_new_path_serves_its_user_alone(void **state)
{
	struct pd_options options = options_for("socket");
	int fd;

	(void)state;
	th_assert_ok(pd_listen(&options, &fd));
	assert_mode(options.socket, 0600);
	assert_served(options.socket);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	close(fd);
}

static void test_listen_mode_is_set_whatever_the_umask(void **state)
{
	struct pd_options options = options_for("socket");
	mode_t before = umask(0777);
	int fd;

	(void)state;
	options.mode = 0666;
	th_assert_ok(pd_listen(&options, &fd));
	umask(before);
	assert_mode(options.socket, 0666);
	close(fd);
}

static void test_listen_missing_folder_is_made_for_its_user(void **state)
{
	struct pd_options options = options_for("folder/socket");
	char folder[120];
	int fd;

	(void)state;
	th_assert_ok(pd_listen(&options, &fd));
	snprintf(folder, sizeof(folder), "%s/folder", th_temp_dir());
	assert_mode(folder, 0700);
	close(fd);
}

static void test_listen_missing_folder_lets_others_pass(void **state)
{
	struct pd_options options = options_for("folder/socket");
	char folder[120];
	int fd;

	(void)state;
	options.mode = 0666;
	th_assert_ok(pd_listen(&options, &fd));
	snprintf(folder, sizeof(folder), "%s/folder", th_temp_dir());
	assert_mode(folder, 0711);
	close(fd);
}

static void test_listen_two_missing_folders_fail(void **state)
{
	struct pd_options options = options_for("a/b/socket");

	(void)state;
	assert_refused(&options, PS_SYSTEM, "make the folders above it");
}

static void test_listen_stale_socket_is_replaced(void **state)
{
	struct pd_options options = options_for("socket");
	int fd;

	(void)state;
	close(bind_there(options.socket, SOCK_SEQPACKET));
	th_assert_ok(pd_listen(&options, &fd));
	assert_served(options.socket);
	close(fd);
}

static void test_listen_live_socket_names_the_process(void **state)
{
	struct pd_options options = options_for("socket");
	char text[40];
	int fd;

	(void)state;
	th_assert_ok(pd_listen(&options, &fd));
	snprintf(text, sizeof(text), "process %d listens on", (int)getpid());
	assert_refused(&options, PS_ALREADY_RESERVED, text);
	assert_served(options.socket);
	close(fd);
}

static void connect_until_full(const char *path, int fds[8])
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	for (int i = 0; i < 8; i++) {
		fds[i] = socket(AF_UNIX,
				SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
				0);
		connect(fds[i], (struct sockaddr *)&name, sizeof(name));
	}
}

static void test_listen_busy_socket_is_live(void **state)
{
	struct pd_options options = options_for("socket");
	int busy = bind_there(options.socket, SOCK_SEQPACKET);
	int fds[8];

	(void)state;
	listen(busy, 1);
	connect_until_full(options.socket, fds);
	assert_refused(&options, PS_ALREADY_RESERVED, "listens on");
	for (int i = 0; i < 8; i++)
		close(fds[i]);
	close(busy);
}

static void test_listen_socket_of_another_program_stays(void **state)
{
	struct pd_options options = options_for("socket");
	int other = bind_there(options.socket, SOCK_STREAM);

	(void)state;
	listen(other, 1);
	assert_refused(&options, PS_ALREADY_RESERVED, "another program");
	assert_int_equal(access(options.socket, F_OK), 0);
	close(other);
}

static void test_listen_file_in_the_way_stays(void **state)
{
	struct pd_options options = options_for("socket");

	(void)state;
	close(open(options.socket, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_refused(&options, PS_INVALID_ARGUMENT, "is no socket");
	assert_int_equal(access(options.socket, F_OK), 0);
}

static void test_listen_link_in_the_way_stays(void **state)
{
	struct pd_options options = options_for("socket");
	struct stat file;

	(void)state;
	assert_int_equal(symlink("elsewhere", options.socket), 0);
	assert_refused(&options, PS_INVALID_ARGUMENT, "is no socket");
	assert_int_equal(lstat(options.socket, &file), 0);
}

static void test_listen_path_that_fills_the_address_fails(void **state)
{
	struct pd_options options = options_for("socket");

	(void)state;
	memset(options.socket, 'x', sizeof(options.socket));
	assert_refused(&options, PS_INVALID_ARGUMENT, "must be 1 to 107");
}

static void test_listen_folder_of_somebody_else_fails(void **state)
{
	struct pd_options options = options_for("socket");
	enum ps_status status;
	int fd;

	(void)state;
	if (geteuid() != 0)
		th_skip("only root can become another user");
	chmod(th_temp_dir(), 0755);
	assert_int_equal(be_somebody_else(), 0);
	status = pd_listen(&options, &fd);
	be_root_again();
	th_assert_status(status, PS_PERMISSION);
	assert_non_null(strstr(bs_fail_text(), "user 65534"));
}

static void test_listen_unknown_owner_fails(void **state)
{
	struct pd_options options = options_for("socket");

	(void)state;
	options.owner = "nobody-has-this-name";
	assert_refused(&options, PS_INVALID_ARGUMENT, "there is no user");
	assert_int_equal(access(options.socket, F_OK), -1);
}

static void test_listen_unknown_group_fails(void **state)
{
	struct pd_options options = options_for("socket");

	(void)state;
	options.group = "nobody-has-this-name";
	assert_refused(&options, PS_INVALID_ARGUMENT, "there is no group");
}

static void test_listen_owner_and_group_by_number_are_set(void **state)
{
	struct pd_options options = options_for("socket");
	struct stat file;
	int fd;

	(void)state;
	if (geteuid() != 0)
		th_skip("only root can give a file away");
	options.owner = "12345";
	options.group = "23456";
	th_assert_ok(pd_listen(&options, &fd));
	assert_int_equal(lstat(options.socket, &file), 0);
	assert_int_equal(file.st_uid, 12345);
	assert_int_equal(file.st_gid, 23456);
	close(fd);
}

static void test_listen_owner_by_name_is_set(void **state)
{
	struct pd_options options = options_for("socket");
	int fd;

	(void)state;
	if (geteuid() != 0)
		th_skip("the owner's name is root");
	options.owner = "root";
	options.group = "root";
	th_assert_ok(pd_listen(&options, &fd));
	close(fd);
}

/* The socket must not be left behind with the wrong owner. */
static void test_listen_owner_that_may_not_be_given_fails(void **state)
{
	struct pd_options options = options_for("socket");
	enum ps_status status;
	int fd;

	(void)state;
	if (geteuid() != 0)
		th_skip("only root can become another user");
	options.owner = "0";
	assert_int_equal(chown(th_temp_dir(), NOBODY, NOBODY), 0);
	assert_int_equal(be_somebody_else(), 0);
	status = pd_listen(&options, &fd);
	be_root_again();
	th_assert_status(status, PS_PERMISSION);
	assert_int_equal(access(options.socket, F_OK), -1);
}

static void test_listen_locked_folder_is_refused_in_time(void **state)
{
	struct pd_options options = options_for("socket");
	int lock = open(th_temp_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_int_equal(flock(lock, LOCK_EX), 0);
	assert_refused(&options, PS_ALREADY_RESERVED, "has locked the folder");
	close(lock);
}

static void test_listen_no_more_files_fails(void **state)
{
	struct pd_options options = options_for("socket");

	(void)state;
	th_fail_at(TH_SOCKET, 1, EMFILE);
	assert_refused(&options, PS_FD_LIMIT, "ulimit -n");
}

static void test_listen_full_disk_is_named(void **state)
{
	struct pd_options options = options_for("socket");

	(void)state;
	th_fail_at(TH_BIND, 1, ENOSPC);
	assert_refused(&options, PS_SYSTEM, "the disk is full");
}

static void test_listen_that_fails_leaves_no_socket(void **state)
{
	struct pd_options options = options_for("socket");

	(void)state;
	th_fail_at(TH_LISTEN, 1, EIO);
	assert_refused(&options, PS_SYSTEM, "listening on");
	assert_int_equal(access(options.socket, F_OK), -1);
}

/* ------------------------------------------------------------------ */

static void listen_again(void *arg)
{
	pd_listen_renew(*(int *)arg);
}

static void test_listen_renew_names_the_new_process(void **state)
{
	struct pd_options options = options_for("socket");
	char text[40];
	pid_t child;
	int fd;

	(void)state;
	th_assert_ok(pd_listen(&options, &fd));
	child = th_fork(listen_again, &fd);
	assert_int_equal(th_wait(child), 0);
	snprintf(text, sizeof(text), "process %d listens on", (int)child);
	assert_refused(&options, PS_ALREADY_RESERVED, text);
	close(fd);
}

static void test_unlisten_removes_the_path(void **state)
{
	struct pd_options options = options_for("socket");
	int fd;

	(void)state;
	th_assert_ok(pd_listen(&options, &fd));
	pd_unlisten(&options, fd);
	assert_int_equal(access(options.socket, F_OK), -1);
	close(fd);
}

static void test_unlisten_leaves_the_path_of_another(void **state)
{
	struct pd_options options = options_for("socket");
	int first;
	int second;

	(void)state;
	th_assert_ok(pd_listen(&options, &first));
	unlink(options.socket);
	th_assert_ok(pd_listen(&options, &second));
	pd_unlisten(&options, first);
	assert_served(options.socket);
	close(first);
	close(second);
}

/* ------------------------------------------------------------------ */

static const char *pid_path(const char *name)
{
	static char path[120];

	snprintf(path, sizeof(path), "%s/%s", th_temp_dir(), name);
	return path;
}

static int pid_in(const char *path)
{
	FILE *file = fopen(path, "re");
	int pid = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%d", &pid) != 1)
		pid = 0;
	fclose(file);
	return pid;
}

static void test_pid_file_names_this_process(void **state)
{
	const char *path = pid_path("pid");

	(void)state;
	th_assert_ok(pd_pid_file_write(path));
	assert_int_equal(pid_in(path), getpid());
	assert_mode(path, 0644);
}

static void test_pid_file_replaces_an_old_one(void **state)
{
	const char *path = pid_path("pid");
	FILE *file = fopen(path, "we");

	(void)state;
	fprintf(file, "1\n");
	fclose(file);
	th_assert_ok(pd_pid_file_write(path));
	assert_int_equal(pid_in(path), getpid());
}

static void write_without_space(void *arg)
{
	const struct rlimit none = { 0, 0 };
	const char *path = arg;

	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &none);
	th_assert_status(pd_pid_file_write(path), PS_SYSTEM);
	assert_non_null(strstr(bs_fail_text(), "the disk is full"));
}

static void test_pid_file_full_disk_leaves_the_old_one(void **state)
{
	char path[120];

	(void)state;
	snprintf(path, sizeof(path), "%s", pid_path("pid"));
	th_assert_ok(pd_pid_file_write(path));
	assert_int_equal(th_wait(th_fork(write_without_space, path)), 0);
	assert_int_equal(pid_in(path), getpid());
	assert_int_equal(access(pid_path("pid.new"), F_OK), -1);
}

static void test_pid_file_missing_folder_fails(void **state)
{
	(void)state;
	th_assert_status(pd_pid_file_write(pid_path("a/pid")), PS_SYSTEM);
	assert_non_null(strstr(bs_fail_text(), "a/pid"));
}

static void test_pid_file_folder_of_somebody_else_fails(void **state)
{
	const char *path = pid_path("pid");
	enum ps_status status;

	(void)state;
	if (geteuid() != 0)
		th_skip("only root can become another user");
	chmod(th_temp_dir(), 0755);
	assert_int_equal(be_somebody_else(), 0);
	status = pd_pid_file_write(path);
	be_root_again();
	th_assert_status(status, PS_PERMISSION);
	assert_non_null(strstr(bs_fail_text(), "--pid-file"));
}

static void test_pid_file_of_this_process_is_removed(void **state)
{
	const char *path = pid_path("pid");

	(void)state;
	th_assert_ok(pd_pid_file_write(path));
	pd_pid_file_remove(path);
	assert_int_equal(access(path, F_OK), -1);
}

static void write_it(void *arg)
{
	th_assert_ok(pd_pid_file_write(arg));
}

static void test_pid_file_of_another_process_stays(void **state)
{
	char path[120];
	pid_t child;

	(void)state;
	snprintf(path, sizeof(path), "%s", pid_path("pid"));
	child = th_fork(write_it, path);
	assert_int_equal(th_wait(child), 0);
	pd_pid_file_remove(path);
	assert_int_equal(pid_in(path), child);
}

#define RIGGED(fn) TH_TEST_SETUP(fn, th_rig_reset, th_rig_reset)

static const struct th_test tests[] = {
	TH_TEST(test_listen_new_path_serves_its_user_alone),
	TH_TEST(test_listen_mode_is_set_whatever_the_umask),
	TH_TEST(test_listen_missing_folder_is_made_for_its_user),
	TH_TEST(test_listen_missing_folder_lets_others_pass),
	TH_TEST(test_listen_two_missing_folders_fail),
	TH_TEST(test_listen_stale_socket_is_replaced),
	TH_TEST(test_listen_live_socket_names_the_process),
	TH_TEST(test_listen_busy_socket_is_live),
	TH_TEST(test_listen_socket_of_another_program_stays),
	TH_TEST(test_listen_file_in_the_way_stays),
	TH_TEST(test_listen_link_in_the_way_stays),
	TH_TEST(test_listen_path_that_fills_the_address_fails),
	TH_TEST(test_listen_folder_of_somebody_else_fails),
	TH_TEST(test_listen_unknown_owner_fails),
	TH_TEST(test_listen_unknown_group_fails),
	TH_TEST(test_listen_owner_and_group_by_number_are_set),
	TH_TEST(test_listen_owner_by_name_is_set),
	TH_TEST(test_listen_owner_that_may_not_be_given_fails),
	TH_TEST(test_listen_locked_folder_is_refused_in_time),
	RIGGED(test_listen_no_more_files_fails),
	RIGGED(test_listen_full_disk_is_named),
	RIGGED(test_listen_that_fails_leaves_no_socket),
	TH_TEST(test_listen_renew_names_the_new_process),
	TH_TEST(test_unlisten_removes_the_path),
	TH_TEST(test_unlisten_leaves_the_path_of_another),
	TH_TEST(test_pid_file_names_this_process),
	TH_TEST(test_pid_file_replaces_an_old_one),
	TH_TEST(test_pid_file_full_disk_leaves_the_old_one),
	TH_TEST(test_pid_file_missing_folder_fails),
	TH_TEST(test_pid_file_folder_of_somebody_else_fails),
	TH_TEST(test_pid_file_of_this_process_is_removed),
	TH_TEST(test_pid_file_of_another_process_stays),
};

TH_MAIN("listen", tests)
