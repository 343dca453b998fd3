/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Who is at a socket, and who holds what a dead process had. This process
 * plays the dead one: its children have its image. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/status.h"
#include "poold/peer.h"
#include "tests/support/harness.h"
#include "tests/support/rigged_calls.h"

static int open_pidfd(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	assert_true(pidfd >= 0);
	return pidfd;
}

static void pause_forever(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

/* ------------------------------------------------------------------ */
/* Identity                                                            */

static void assert_identified(int offered)
{
	struct pd_peer peer;
	int own = open_pidfd(getpid());
	int pair[2];

	th_socketpair(SOCK_SEQPACKET, pair);
	th_assert_ok(pd_peer_identify(pair[0], offered, &peer));
	assert_int_equal(peer.pid, getpid());
	assert_int_equal(peer.uid, getuid());
	assert_int_equal(peer.gid, getgid());
	assert_true(pd_pidfd_is_same(peer.pidfd, own));
	assert_true(peer.marks.started > 0 && peer.marks.image[0] > 0);
	pd_peer_done(&peer);
	close(own);
	close(pair[0]);
	close(pair[1]);
}

static void assert_not_identified(int offered, enum ps_status expected)
{
	struct pd_peer peer;
	int pair[2];

	th_socketpair(SOCK_SEQPACKET, pair);
	th_assert_status(pd_peer_identify(pair[0], offered, &peer), expected);
	close(pair[0]);
	close(pair[1]);
}

static void old_kernel(void)
{
	/* SO_PEERCRED, then SO_PEERPIDFD. */
	th_fail_at(TH_GETSOCKOPT, 2, ENOPROTOOPT);
}

static void test_peer_socketpair_is_this_process(void **state)
{
	(void)state;
	assert_identified(-1);
}

static void test_peer_offered_pidfd_is_closed_where_kernel_knows(void **state)
{
	(void)state;
	assert_identified(open_pidfd(getpid()));
}

static void test_peer_old_kernel_takes_offered_pidfd(void **state)
{
	(void)state;
	old_kernel();
	assert_identified(open_pidfd(getpid()));
}

static void test_peer_old_kernel_without_pidfd_is_refused(void **state)
{
	(void)state;
	old_kernel();
	assert_not_identified(-1, PS_REFUSED);
	assert_non_null(strstr(bs_fail_text(), "SO_PEERPIDFD"));
}

static void test_peer_old_kernel_refuses_another_file(void **state)
{
	(void)state;
	old_kernel();
	assert_not_identified(open("/dev/null", O_RDONLY | O_CLOEXEC),
			      PS_PROTOCOL);
}

static void test_peer_old_kernel_refuses_another_process(void **state)
{
	(void)state;
	old_kernel();
	assert_not_identified(open_pidfd(getppid()), PS_PROTOCOL);
	assert_non_null(strstr(bs_fail_text(), "another process's"));
}

static void test_peer_old_kernel_refuses_ended_process(void **state)
{
	pid_t child = th_fork(pause_forever, NULL);
	int pidfd = open_pidfd(child);

	(void)state;
	th_kill(child);
	old_kernel();
	assert_not_identified(pidfd, PS_PROTOCOL);
}

#define PATIENCE_NS UINT64_C(5000000000)
#define MAY_NOT 77

/* In a PID namespace of its own, where the pair's maker has no number. */
static void identify_unseen(const int *pair)
{
	struct pd_peer peer;
	enum ps_status status;

	old_kernel();
	status = pd_peer_identify(pair[0], dup(pair[1]), &peer);
	_exit(status == PS_REFUSED && strstr(bs_fail_text(), "PID namespace")
		      ? 0
		      : 1);
}

static void enter_and_identify(void *arg)
{
	pid_t pid;

	if (unshare(CLONE_NEWPID | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0)
		_exit(MAY_NOT);
	pid = fork();
	if (pid == 0)
		identify_unseen(arg);
	_exit(th_wait(pid));
}

static void test_peer_old_kernel_refuses_unseen_process(void **state)
{
	int pair[2];
	int status;

	(void)state;
	th_socketpair(SOCK_SEQPACKET, pair);
	status = th_wait(th_fork(enter_and_identify, pair));
	close(pair[0]);
	close(pair[1]);
	if (status == MAY_NOT)
		th_skip("no PID namespaces here");
	assert_int_equal(status, 0);
}

static void test_peer_no_descriptor_left_is_fd_limit(void **state)
{
	(void)state;
	th_fail_at(TH_GETSOCKOPT, 2, EMFILE);
	assert_not_identified(-1, PS_FD_LIMIT);
}

static void test_peer_reaped_process_is_gone(void **state)
{
	(void)state;
	th_fail_at(TH_GETSOCKOPT, 2, ESRCH);
	assert_not_identified(open_pidfd(getpid()), PS_PEER_GONE);
}

static void test_peer_without_credentials_fails(void **state)
{
	(void)state;
	th_fail_at(TH_GETSOCKOPT, 1, EBADF);
	assert_not_identified(open_pidfd(getpid()), PS_SYSTEM);
}

/* ---- pidfds ---- */

static void test_pidfd_of_ended_process_says_so(void **state)
{
	pid_t child = th_fork(pause_forever, NULL);
	int pidfd = open_pidfd(child);

	(void)state;
	assert_false(pd_pidfd_has_ended(pidfd));
	assert_int_equal(pd_pidfd_number(pidfd), child);
	th_kill(child);
	assert_true(pd_pidfd_has_ended(pidfd));
	assert_int_equal(pd_pidfd_number(pidfd), 0);
	close(pidfd);
}

static void test_pidfd_of_others_is_not_same(void **state)
{
	int own = open_pidfd(getpid());
	int parent = open_pidfd(getppid());

	(void)state;
	assert_false(pd_pidfd_is_same(own, parent));
	assert_false(pd_pidfd_is_same(own, -1));
	close(own);
	close(parent);
}

static void test_pidfd_of_ended_process_is_not_same(void **state)
{
	pid_t child = th_fork(pause_forever, NULL);
	int a = open_pidfd(child);
	int b = open_pidfd(child);

	(void)state;
	assert_true(pd_pidfd_is_same(a, b));
	th_kill(child);
	assert_false(pd_pidfd_is_same(a, b));
	close(a);
	close(b);
}

/* ------------------------------------------------------------------ */
/* Heirs                                                               */

struct heir {
	int ready;
	bool opens;
	bool maps;
	bool executes;
	bool hides;
};

static char gpu_files[256];

/* A GPU of this test: files in its folder. */
static int open_gpu_file(void)
{
	char path[300];
	int fd;

	snprintf(gpu_files, sizeof(gpu_files), "%s/gpu", th_temp_dir());
	snprintf(path, sizeof(path), "%s0", gpu_files);
	/* Without close-on-exec: an exec must not matter. */
	fd = open(path, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4096), 0);
	return fd;
}

static void live_on(void *arg)
{
	const struct heir *heir = arg;
	int fd = heir->opens || heir->maps ? open_gpu_file() : -1;

	if (heir->maps) {
		assert_true(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) !=
			    MAP_FAILED);
		close(fd);
	}
	if (heir->hides)
		prctl(PR_SET_DUMPABLE, 0);
	if (heir->executes)
		execl("/bin/sleep", "sleep", "60", NULL);
	assert_int_equal(write(heir->ready, "x", 1), 1);
	pause_forever(NULL);
}

static pid_t start_heir(struct heir *heir)
{
	int ends[2];
	char byte;
	pid_t child;

	th_temp_dir();
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	heir->ready = ends[1];
	child = th_fork(live_on, heir);
	close(ends[1]);
	/* The pipe ends with the old image. */
	assert_int_equal(read(ends[0], &byte, 1), heir->executes ? 0 : 1);
	close(ends[0]);
	snprintf(gpu_files, sizeof(gpu_files), "%s/gpu", th_temp_dir());
	return child;
}

static enum pd_heirs find(const pid_t *ignore, size_t ignored, pid_t *pid_out)
{
	struct pd_marks marks;
	enum pd_heirs found;
	int heir = -1;

	assert_true(pd_marks_read(getpid(), &marks));
	found = pd_heirs_find(&marks, getuid(), gpu_files, ignore, ignored,
			      &heir, pid_out);
	assert_int_equal(found == PD_HEIRS_FOUND, heir >= 0);
	if (heir >= 0) {
		assert_int_equal(pd_pidfd_number(heir), *pid_out);
		close(heir);
	}
	return found;
}

/* Others' processes that execute or end just now may be taken for heirs; the
 * daemon looks again as well. */
static enum pd_heirs find_at_last(const pid_t *ignore, enum pd_heirs expected)
{
	uint64_t give_up = th_now_ns() + PATIENCE_NS;
	enum pd_heirs found;
	pid_t pid = 0;

	do {
		found = find(ignore, ignore != NULL, &pid);
	} while (found != expected && th_now_ns() < give_up);
	return found;
}

static void assert_found(pid_t child)
{
	uint64_t give_up = th_now_ns() + PATIENCE_NS;
	enum pd_heirs found;
	pid_t pid = 0;

	do {
		found = find(NULL, 0, &pid);
	} while ((found != PD_HEIRS_FOUND || pid != child) &&
		 th_now_ns() < give_up);
	assert_int_equal(found, PD_HEIRS_FOUND);
	assert_int_equal(pid, child);
}

static void assert_heir(struct heir heir, enum pd_heirs expected)
{
	pid_t child = start_heir(&heir);

	if (expected == PD_HEIRS_FOUND)
		assert_found(child);
	else
		assert_int_equal(find_at_last(NULL, expected), expected);
	th_kill(child);
	assert_int_equal(find_at_last(NULL, PD_HEIRS_NONE), PD_HEIRS_NONE);
}

static void test_heirs_child_with_gpu_file_is_found(void **state)
{
	(void)state;
	assert_heir((struct heir){ .opens = true }, PD_HEIRS_FOUND);
}

static void test_heirs_child_with_gpu_mapping_is_found(void **state)
{
	(void)state;
	assert_heir((struct heir){ .maps = true }, PD_HEIRS_FOUND);
}

static void test_heirs_child_without_gpu_files_is_none(void **state)
{
	(void)state;
	assert_heir((struct heir){ 0 }, PD_HEIRS_NONE);
}

static void test_heirs_child_that_executed_is_none(void **state)
{
	(void)state;
	assert_heir((struct heir){ .opens = true, .executes = true },
		    PD_HEIRS_NONE);
}

static void test_heirs_client_of_its_own_is_ignored(void **state)
{
	struct heir heir = { .opens = true };
	pid_t child = start_heir(&heir);

	(void)state;
	assert_int_equal(find_at_last(&child, PD_HEIRS_NONE), PD_HEIRS_NONE);
	assert_found(child);
	th_kill(child);
}

/* As a user that may not look into every process. */
static void search_as_user(void *arg)
{
	struct heir heir = { .hides = true };
	pid_t child;

	(void)arg;
	if (geteuid() == 0)
		assert_int_equal(setresuid(4321, 4321, 4321), 0);
	child = start_heir(&heir);
	assert_int_equal(find_at_last(NULL, PD_HEIRS_UNKNOWN),
			 PD_HEIRS_UNKNOWN);
	th_kill(child);
	assert_int_equal(find_at_last(NULL, PD_HEIRS_NONE), PD_HEIRS_NONE);
}

static void test_heirs_child_that_hides_is_unknown(void **state)
{
	(void)state;
	th_temp_dir();
	assert_int_equal(th_wait(th_fork(search_as_user, NULL)), 0);
}

static void test_heirs_without_marks_are_unknown(void **state)
{
	struct pd_marks none = { 0 };
	int heir;
	pid_t pid;

	(void)state;
	assert_int_equal(pd_heirs_find(&none, getuid(), "/dev/nvidia", NULL, 0,
				       &heir, &pid),
			 PD_HEIRS_UNKNOWN);
}

static void test_heirs_born_before_are_none(void **state)
{
	struct heir early = { .opens = true };
	pid_t child = start_heir(&early);
	struct pd_marks marks;
	int heir;
	pid_t pid;

	(void)state;
	assert_true(pd_marks_read(getpid(), &marks));
	marks.started += 1000000;
	assert_int_equal(pd_heirs_find(&marks, getuid(), gpu_files, NULL, 0,
				       &heir, &pid),
			 PD_HEIRS_NONE);
	th_kill(child);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_peer_socketpair_is_this_process, th_rig_reset, NULL),
	TH_TEST_SETUP(test_peer_offered_pidfd_is_closed_where_kernel_knows,
		      th_rig_reset, NULL),
	TH_TEST_SETUP(test_peer_old_kernel_takes_offered_pidfd, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_peer_old_kernel_without_pidfd_is_refused,
		      th_rig_reset, NULL),
	TH_TEST_SETUP(test_peer_old_kernel_refuses_another_file, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_peer_old_kernel_refuses_another_process,
		      th_rig_reset, NULL),
	TH_TEST_SETUP(test_peer_old_kernel_refuses_ended_process, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_peer_old_kernel_refuses_unseen_process, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_peer_no_descriptor_left_is_fd_limit, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_peer_reaped_process_is_gone, th_rig_reset, NULL),
	TH_TEST_SETUP(test_peer_without_credentials_fails, th_rig_reset, NULL),
	TH_TEST_SETUP(test_pidfd_of_ended_process_says_so, th_rig_reset, NULL),
	TH_TEST_SETUP(test_pidfd_of_others_is_not_same, th_rig_reset, NULL),
	TH_TEST_SETUP(test_pidfd_of_ended_process_is_not_same, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_heirs_child_with_gpu_file_is_found, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_heirs_child_with_gpu_mapping_is_found, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_heirs_child_without_gpu_files_is_none, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_heirs_child_that_executed_is_none, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_heirs_client_of_its_own_is_ignored, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_heirs_child_that_hides_is_unknown, th_rig_reset,
		      NULL),
	TH_TEST_SETUP(test_heirs_without_marks_are_unknown, th_rig_reset, NULL),
	TH_TEST_SETUP(test_heirs_born_before_are_none, th_rig_reset, NULL),
};

TH_MAIN("peer", tests)
