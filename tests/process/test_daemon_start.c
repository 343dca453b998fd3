/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What poolswitchd meets when it starts, and what may happen to the machine
 * while it runs: it serves, or it refuses with a reason and an exit status of
 * <sysexits.h> and leaves nothing behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "tests/support/daemon_wire.h"
#include "tests/support/gpu.h"
#include "tests/support/sim.h"

#define FEW_FILES 24
#define SOME_FILES 160
#define CROWD 200u
#define DIES 9 /* the status of who leaves without a word */

static void assert_refused(const struct th_daemon_plan *plan, int status,
			   const char *reason)
{
	size_t processes = th_daemon_processes();
	struct th_daemon daemon;

	assert_int_equal(th_daemon_try(&daemon, plan), status);
	if (!th_daemon_logged(&daemon, reason)) {
		th_daemon_show_log(daemon.log);
		fail_msg("\"%s\" is not in the log", reason);
	}
	assert_int_equal(th_daemon_processes(), processes);
}

static void assert_serves(void)
{
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	th_daemon_stop(&daemon);
}

/* ---- the socket's path ---- */

static void test_start_beside_a_live_daemon_is_refused(void **state)
{
	struct th_daemon daemon;
	struct stat before, after;

	(void)state;
	th_daemon_start(&daemon, NULL);
	assert_int_equal(stat(daemon.socket, &before), 0);
	assert_refused(NULL, EX_TEMPFAIL, daemon.socket);
	assert_int_equal(stat(daemon.socket, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	th_daemon_stop(&daemon);
}

static void test_start_where_a_killed_daemon_was_replaces_it(void **state)
{
	struct th_daemon daemon;
	struct stat info;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_daemon_kill(&daemon);
	assert_int_equal(stat(daemon.socket, &info), 0);
	assert_serves();
}

static void test_start_where_a_file_lies_is_refused(void **state)
{
	char path[128];
	struct stat info;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/socket", th_temp_dir());
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	close(fd);
	assert_refused(NULL, EX_USAGE, path);
	assert_int_equal(stat(path, &info), 0);
	assert_true(S_ISREG(info.st_mode));
}

static void test_start_after_an_end_finds_no_socket(void **state)
{
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_daemon_stop(&daemon);
	assert_int_equal(access(daemon.socket, F_OK), -1);
}

/* ---- a disk that is full ---- */

/* A file system of one page, full, that only the daemon sees. */
static void mount_full_disk(void)
{
	char path[128];
	char page[4096] = { 0 };
	int fd;

	snprintf(path, sizeof(path), "%s/full", th_temp_dir());
	if (unshare(CLONE_NEWNS) != 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("full", path, "tmpfs", 0, "size=4k") != 0)
		_exit(99);
	snprintf(path, sizeof(path), "%s/full/page", th_temp_dir());
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (write(fd, page, sizeof(page)) != sizeof(page))
		_exit(98);
	close(fd);
}

static void test_start_with_the_pid_file_on_a_full_disk_is_refused(void **state)
{
	char path[128];
	const char *options[] = { "--pid-file", path, NULL };

	(void)state;
	if (geteuid() != 0)
		th_skip("only root can mount a file system");
	snprintf(path, sizeof(path), "%s/full", th_temp_dir());
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/full/pid", th_temp_dir());
	assert_refused(&(struct th_daemon_plan){ .options = options,
						 .prepare = mount_full_disk },
		       EX_OSERR, path);
}

static void log_to_a_full_disk(void)
{
	int fd = open("/dev/full", O_WRONLY);

	if (dup2(fd, STDERR_FILENO) < 0)
		_exit(99);
	close(fd);
}

static void test_start_with_the_log_on_a_full_disk_serves(void **state)
{
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, &(struct th_daemon_plan){
					 .prepare = log_to_a_full_disk });
	th_daemon_kill_agent(&daemon);
	th_daemon_stop(&daemon);
}

static void test_start_writes_the_keepers_pid(void **state)
{
	char path[128], text[32] = "";
	const char *options[] = { "--pid-file", path, NULL };
	struct th_daemon daemon;
	FILE *file;

	(void)state;
	snprintf(path, sizeof(path), "%s/pid", th_temp_dir());
	th_daemon_start(&daemon,
			&(struct th_daemon_plan){ .options = options });
	file = fopen(path, "re");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	assert_int_equal(atoi(text), daemon.keeper);
	th_daemon_stop(&daemon);
	assert_int_equal(access(path, F_OK), -1);
}

/* ---- descriptors ---- */

static void set_files(rlim_t count)
{
	const struct rlimit limit = { count, count };

	setrlimit(RLIMIT_NOFILE, &limit);
}

static void allow_few_files(void)
{
	set_files(FEW_FILES);
}

static void allow_some_files(void)
{
	set_files(SOME_FILES);
}

static void test_start_with_too_few_descriptors_is_refused(void **state)
{
	(void)state;
	assert_refused(&(struct th_daemon_plan){ .prepare = allow_few_files },
		       EX_OSERR, "open files");
	assert_serves();
}

/* Connects as often as the daemon can bear, and more. */
static void crowd(int link)
{
	struct th_wire wire[CROWD];
	enum ps_status status;
	uint32_t refused = 0;

	for (uint32_t i = 0; i < CROWD; i++) {
		th_wire_connect(&wire[i]);
		wire[i].client.conn.timeout_ms = 1000;
		status = th_wire_try_attach(&wire[i],
					    &(struct ip_attach){ .id = 0 });
		refused += status != PS_OK;
		if (refused > 3)
			break;
	}
	assert_true(refused > 3);
	th_tell(link);
	th_await(link);
}

static void work(int link)
{
	struct th_wire wire;

	th_wire_open(&wire, "worker");
	th_tell(link);
	th_await(link);
	th_wire_take(&wire, 2);
	th_wire_give(&wire);
	th_assert_ok(ip_client_leave(&wire.client));
	th_wire_close(&wire);
}

static void test_daemon_out_of_descriptors_serves_those_it_has(void **state)
{
	const char *const options[] = { "--clients", "64", NULL };
	struct th_client worker, many;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, &(struct th_daemon_plan){
					 .options = options,
					 .prepare = allow_some_files });
	th_client_start(&worker, work);
	th_await(worker.link);
	th_client_start(&many, crowd);
	th_await(many.link);
	th_client_finish(&worker);
	th_client_kill(&many);
	th_daemon_stop(&daemon);
}

/* ---- memory that others have ---- */

static void take_all_but(int link)
{
	const struct th_gpu *gpu = th_gpu_open();
	size_t bytes = th_gpu_free_bytes(gpu);
	CUmemGenericAllocationHandle handle;

	/* 32 MiB are left. */
	th_cu(gpu->driver->cuMemCreate(&handle, bytes - ((size_t)32 << 20),
				       &gpu->prop, 0));
	th_tell(link);
	th_await(link);
}

static void test_start_with_memory_taken_by_others_is_refused(void **state)
{
	struct th_client other;

	(void)state;
	th_client_start(&other, take_all_but);
	th_await(other.link);
	assert_refused(NULL, EX_UNAVAILABLE, "64");
	th_client_kill(&other);
	assert_serves();
}

static void test_start_takes_what_others_have_left(void **state)
{
	const char *const options[] = { "--socket",   NULL, "--segment", "2M",
					"--headroom", "0",  NULL };
	const char *filled[7];
	char path[128];
	struct th_client other;
	struct th_daemon daemon;
	json_t *status;

	(void)state;
	memcpy(filled, options, sizeof(options));
	snprintf(path, sizeof(path), "%s/socket", th_temp_dir());
	filled[1] = path;
	th_client_start(&other, take_all_but);
	th_await(other.link);
	th_daemon_start(&daemon, &(struct th_daemon_plan){ .options = filled,
							   .bare = true });
	status = th_daemon_status();
	assert_in_range(th_json_number(status, "pool.bytes"), 16 << 20,
			32 << 20);
	json_decref(status);
	th_client_kill(&other);
	th_daemon_stop(&daemon);
}

/* ---- no models ---- */

static void assert_no_models(const char *const *options, const char *detail)
{
	struct th_daemon daemon;

	th_daemon_start(&daemon,
			&(struct th_daemon_plan){ .options = options });
	th_assert_status(ps_model_order(NULL, PS_MODEL_LOAD, "any", 1000),
			 PS_UNSUPPORTED);
	th_assert_detail(detail);
	th_daemon_stop(&daemon);
}

static void test_start_without_parameters_keeps_no_models(void **state)
{
	const char *const options[] = { "--parameter", "0", NULL };

	(void)state;
	assert_no_models(options, "--parameter");
}

static void test_start_without_room_for_counters_keeps_no_models(void **state)
{
	const char *const options[] = { "--size", "32M", NULL };
	struct th_client other;

	(void)state;
	th_client_start(&other, take_all_but);
	th_await(other.link);
	assert_no_models(options, "--size");
	th_client_kill(&other);
}

/* ---- a GPU that is lost ---- */

static void lose(int link)
{
	th_gpu_open();
	th_tell(link);
	th_await(link);
	th_sim_lose_device();
	th_tell(link);
	th_await(link);
	th_sim_reset();
}

static void suffer(int link)
{
	struct ps_pool *pool = th_attach();
	enum ps_status status = PS_OK;
	void *ptr;

	th_alloc(pool, TH_DAEMON_SEGMENT);
	th_tell(link);
	th_await(link);
	for (int i = 0; i < 1000 && status == PS_OK; i++) {
		status = ps_mem_alloc(pool, TH_DAEMON_SEGMENT / 2, &ptr);
		th_rest_ms(10);
	}
	assert_int_equal(status, PS_DEVICE_LOST);
	th_tell(link);
	th_await(link);
	/* It has ended badly, and does not close what is lost. */
	_exit(0);
}

static void use(int link)
{
	struct ps_pool *pool = th_attach();
	void *ptr = th_alloc(pool, TH_DAEMON_SEGMENT);

	th_pattern_write(pool, ptr, TH_DAEMON_SEGMENT, 4);
	th_pattern_check(pool, ptr, TH_DAEMON_SEGMENT, 4);
	th_assert_ok(ps_mem_free(pool, ptr));
	th_assert_ok(ps_detach(pool));
	th_await(link);
}

static void await_service(struct th_daemon *daemon)
{
	const uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);
	json_t *status = NULL;
	const char *is = NULL;

	while (is == NULL || strcmp(is, "serving") != 0) {
		assert_true(th_now_ns() < end);
		json_decref(status);
		th_rest_ms(5);
		status = th_daemon_try_status();
		is = json_string_value(json_object_get(status, "state"));
	}
	daemon->agent = (pid_t)th_json_number(status, "agent_pid");
	json_decref(status);
}

static void test_daemon_whose_gpu_is_lost_serves_when_it_is_back(void **state)
{
	struct th_client victim, fate, next;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&fate, lose);
	th_await(fate.link);
	th_client_start(&victim, suffer);
	th_await(victim.link);
	th_tell(fate.link);
	th_await(fate.link);
	th_tell(victim.link);
	th_await(victim.link);
	th_client_finish(&fate);
	await_service(&daemon);
	th_client_start(&next, use);
	th_client_finish(&next);
	th_client_finish(&victim);
	th_daemon_stop(&daemon);
}

/* ---- namespaces of siblings ---- */

/* As `unshare --fork`: the rest happens in the child. */
static void enter_namespace(int flags)
{
	int status;
	pid_t pid;

	if (unshare(flags) != 0)
		_exit(77);
	pid = flags & CLONE_NEWPID ? fork() : 0;
	if (pid == 0)
		return;
	waitpid(pid, &status, 0);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static int namespaces; /* of both; set before they start */

static void prepare_namespace(void)
{
	enter_namespace(namespaces);
}

static void use_in_namespace(int link)
{
	enter_namespace(namespaces);
	use(link);
}

static void lose_in_namespace(int link)
{
	enter_namespace(namespaces);
	th_alloc(th_attach(), 3 * TH_DAEMON_SEGMENT);
	(void)link;
	/* The first process of a namespace is not killed by its own. */
	_exit(DIES);
}

static void await_bytes_and_fds(int64_t clean, long fds)
{
	const uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);
	json_t *status;

	th_daemon_wait_clients(0);
	status = th_daemon_status();
	assert_int_equal(th_json_number(status, "regions.computation.clean"),
			 clean);
	json_decref(status);
	while (th_daemon_all_fds() != fds) {
		assert_true(th_now_ns() < end);
		th_rest_ms(5);
	}
}

static long fewest_fds(void)
{
	long fewest = th_daemon_all_fds(), count;

	for (int i = 0; i < 10; i++) {
		th_rest_ms(5);
		count = th_daemon_all_fds();
		fewest = count < fewest ? count : fewest;
	}
	return fewest;
}

/* Both in one of its own: one comes and goes, one is killed. */
static void cross_namespaces(int flags)
{
	const int64_t all = TH_DAEMON_LEASES * TH_DAEMON_SEGMENT;
	struct th_client client;
	struct th_daemon daemon;
	long fds;

	namespaces = flags;
	assert_int_equal(th_daemon_try(&daemon,
				       &(struct th_daemon_plan){
					       .prepare = prepare_namespace }),
			 -1);
	setenv("POOLSWITCH_SOCKET", daemon.socket, 1);
	th_open_to_all();
	fds = fewest_fds();
	th_client_start(&client, lose_in_namespace);
	assert_int_equal(th_client_wait(&client), DIES);
	await_bytes_and_fds(all, fds);
	th_client_start(&client, use_in_namespace);
	th_client_finish(&client);
	await_bytes_and_fds(all, fds);
	th_daemon_kill(&daemon);
}

static bool may_unshare(int flags)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(unshare(flags) == 0 ? 0 : 77);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_daemon_and_client_in_pid_namespaces_work(void **state)
{
	(void)state;
	if (!may_unshare(CLONE_NEWPID))
		th_skip("no PID namespaces here");
	cross_namespaces(CLONE_NEWPID);
}

static void test_daemon_and_client_in_mount_namespaces_work(void **state)
{
	(void)state;
	if (!may_unshare(CLONE_NEWNS))
		th_skip("no mount namespaces here");
	cross_namespaces(CLONE_NEWNS);
}

static void test_daemon_and_client_in_user_namespaces_work(void **state)
{
	(void)state;
	if (!may_unshare(CLONE_NEWUSER))
		th_skip("no user namespaces here");
	cross_namespaces(CLONE_NEWUSER);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_start_beside_a_live_daemon_is_refused),
	TH_DAEMON_TEST(test_start_where_a_killed_daemon_was_replaces_it),
	TH_DAEMON_TEST(test_start_where_a_file_lies_is_refused),
	TH_DAEMON_TEST(test_start_after_an_end_finds_no_socket),
	TH_DAEMON_TEST(test_start_with_the_pid_file_on_a_full_disk_is_refused),
	TH_DAEMON_TEST(test_start_with_the_log_on_a_full_disk_serves),
	TH_DAEMON_TEST(test_start_writes_the_keepers_pid),
	TH_DAEMON_TEST(test_start_with_too_few_descriptors_is_refused),
	TH_DAEMON_TEST(test_daemon_out_of_descriptors_serves_those_it_has),
	TH_DAEMON_TEST(test_start_with_memory_taken_by_others_is_refused),
	TH_DAEMON_TEST(test_start_takes_what_others_have_left),
	TH_DAEMON_TEST(test_start_without_parameters_keeps_no_models),
	TH_DAEMON_TEST(test_start_without_room_for_counters_keeps_no_models),
	TH_DAEMON_TEST(test_daemon_whose_gpu_is_lost_serves_when_it_is_back),
	TH_DAEMON_TEST(test_daemon_and_client_in_pid_namespaces_work),
	TH_DAEMON_TEST(test_daemon_and_client_in_mount_namespaces_work),
	TH_DAEMON_TEST(test_daemon_and_client_in_user_namespaces_work),
};

TH_MAIN("daemon_start", tests)
