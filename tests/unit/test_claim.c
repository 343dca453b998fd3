/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* One pool a GPU: who has it, and that it is free again in every case. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/claim.h"
#include "tests/support/harness.h"
#include "tests/support/rigged_calls.h"

/* A GPU of this process alone: other tests run at the same time. */
static const char *own_gpu(void)
{
	static char gpu[48];

	snprintf(gpu, sizeof(gpu), "GPU-test-%d", (int)getpid());
	return gpu;
}

static void assert_taken_by(const char *gpu, pid_t pid)
{
	struct ip_claim *claim;
	char text[40];

	th_assert_status(ip_claim_take(gpu, &claim), PS_ALREADY_RESERVED);
	snprintf(text, sizeof(text), "process %d has a pool on", (int)pid);
	assert_non_null(strstr(bs_fail_text(), text));
	assert_non_null(strstr(bs_fail_text(), gpu));
}

static void assert_free(const char *gpu)
{
	struct ip_claim *claim;

	th_assert_ok(ip_claim_take(gpu, &claim));
	ip_claim_free(claim);
}

static void test_claim_taken_gpu_names_its_holder(void **state)
{
	struct ip_claim *claim;

	(void)state;
	th_assert_ok(ip_claim_take(own_gpu(), &claim));
	for (int i = 0; i < 10; i++)
		assert_taken_by(own_gpu(), getpid());
	ip_claim_free(claim);
}

static void test_claim_given_out_lasts_as_long_as_descriptor(void **state)
{
	struct ip_claim *claim;
	int fd;

	(void)state;
	th_assert_ok(ip_claim_take(own_gpu(), &claim));
	fd = ip_claim_give(claim);
	assert_taken_by(own_gpu(), getpid());
	close(fd);
	assert_free(own_gpu());
}

static void test_claim_is_free_after_free(void **state)
{
	(void)state;
	assert_free(own_gpu());
	assert_free(own_gpu());
	ip_claim_free(NULL);
}

static void test_claim_other_gpu_is_free(void **state)
{
	struct ip_claim *claim;
	char other[60];

	(void)state;
	th_assert_ok(ip_claim_take(own_gpu(), &claim));
	snprintf(other, sizeof(other), "%s-b", own_gpu());
	assert_free(other);
	ip_claim_free(claim);
}

struct holder {
	const char *gpu;
	int ready[2];
};

static void hold(void *arg)
{
	struct holder *holder = arg;
	struct ip_claim *claim;

	th_assert_ok(ip_claim_take(holder->gpu, &claim));
	assert_int_equal(write(holder->ready[1], "r", 1), 1);
	pause();
}

static pid_t start_holder(struct holder *holder)
{
	pid_t child;
	char byte;

	holder->gpu = own_gpu();
	th_socketpair(SOCK_STREAM, holder->ready);
	child = th_fork(hold, holder);
	assert_int_equal(read(holder->ready[0], &byte, 1), 1);
	close(holder->ready[0]);
	close(holder->ready[1]);
	return child;
}

static void test_claim_of_another_process_is_named(void **state)
{
	struct holder holder;
	pid_t child;

	(void)state;
	child = start_holder(&holder);
	assert_taken_by(holder.gpu, child);
	th_kill(child);
}

static void test_claim_is_free_after_a_killed_holder(void **state)
{
	struct holder holder;

	(void)state;
	th_kill(start_holder(&holder));
	assert_free(holder.gpu);
}

static void wait_for_end(void *arg)
{
	char byte;

	close(((int *)arg)[0]);
	assert_int_equal(read(((int *)arg)[1], &byte, 1), 0);
}

/* As claim.h says: the child has the descriptor too. */
static void test_claim_lives_in_a_forked_child(void **state)
{
	struct ip_claim *claim;
	int pipe_fds[2];
	pid_t child;

	(void)state;
	th_socketpair(SOCK_STREAM, pipe_fds);
	th_assert_ok(ip_claim_take(own_gpu(), &claim));
	child = th_fork(wait_for_end, pipe_fds);
	ip_claim_free(claim);
	assert_taken_by(own_gpu(), getpid());
	assert_non_null(strstr(bs_fail_text(), "children that it forked"));
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	assert_int_equal(th_wait(child), 0);
	assert_free(own_gpu());
}

static void test_claim_is_close_on_exec(void **state)
{
	int next = dup(0);
	struct ip_claim *claim;

	(void)state;
	close(next);
	th_assert_ok(ip_claim_take(own_gpu(), &claim));
	assert_int_equal(fcntl(next, F_GETFD), FD_CLOEXEC);
	ip_claim_free(claim);
}

/* Somebody between bind() and listen(), or another program. */
static void test_claim_of_one_who_cannot_be_asked_is_refused(void **state)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct ip_claim *claim;
	int used;

	(void)state;
	used = snprintf(name.sun_path + 1, 100, "poolswitch/%s", own_gpu());
	assert_int_equal(
		bind(fd, (struct sockaddr *)&name,
		     (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)used)),
		0);
	th_assert_status(ip_claim_take(own_gpu(), &claim), PS_ALREADY_RESERVED);
	assert_non_null(strstr(bs_fail_text(), "could not be asked"));
	close(fd);
}

static void refuse_name(const char *gpu, const char *text)
{
	struct ip_claim *claim;

	th_assert_status(ip_claim_take(gpu, &claim), PS_INVALID_ARGUMENT);
	assert_non_null(strstr(bs_fail_text(), text));
}

static void test_claim_of_what_is_no_uuid_is_refused(void **state)
{
	char text[49];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[48] = '\0';
	refuse_name("", "has 0 characters, must be 1 to 47");
	refuse_name(text, "has 48 characters or more");
	refuse_name("GPU\n", "byte 3 of a GPU's UUID is 0x0a");
	text[47] = '\0';
	assert_free(text);
}

static void test_claim_at_the_fd_limit_says_so(void **state)
{
	struct rlimit old;
	struct rlimit limit;
	struct ip_claim *claim;
	enum ps_status status;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &old);
	limit = old;
	limit.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &limit);
	status = ip_claim_take(own_gpu(), &claim);
	setrlimit(RLIMIT_NOFILE, &old);
	th_assert_status(status, PS_FD_LIMIT);
}

static void fail_claim(enum th_call call, int error, enum ps_status expected)
{
	struct ip_claim *claim;

	th_fail_at(call, 1, error);
	th_assert_status(ip_claim_take(own_gpu(), &claim), expected);
	assert_free(own_gpu());
}

static void test_claim_each_failing_call_leaves_it_free(void **state)
{
	(void)state;
	fail_claim(TH_MALLOC, ENOMEM, PS_HOST_MEMORY);
	fail_claim(TH_SOCKET, ENOBUFS, PS_SYSTEM);
	fail_claim(TH_SOCKET, ENFILE, PS_FD_LIMIT);
	fail_claim(TH_BIND, EACCES, PS_SYSTEM);
	fail_claim(TH_LISTEN, EADDRINUSE, PS_SYSTEM);
}

/* Taken all the same, though nobody can say by whom. */
static void test_claim_whose_holder_is_not_told_is_refused(void **state)
{
	struct ip_claim *claim;
	struct ip_claim *second;

	(void)state;
	th_assert_ok(ip_claim_take(own_gpu(), &claim));
	th_fail_at(TH_SOCKET, 2, EMFILE);
	th_assert_status(ip_claim_take(own_gpu(), &second),
			 PS_ALREADY_RESERVED);
	assert_non_null(strstr(bs_fail_text(), "could not be asked"));
	ip_claim_free(claim);
}

static const struct th_test tests[] = {
	TH_TEST(test_claim_taken_gpu_names_its_holder),
	TH_TEST(test_claim_given_out_lasts_as_long_as_descriptor),
	TH_TEST(test_claim_is_free_after_free),
	TH_TEST(test_claim_other_gpu_is_free),
	TH_TEST(test_claim_of_another_process_is_named),
	TH_TEST(test_claim_is_free_after_a_killed_holder),
	TH_TEST(test_claim_lives_in_a_forked_child),
	TH_TEST(test_claim_is_close_on_exec),
	TH_TEST(test_claim_of_one_who_cannot_be_asked_is_refused),
	TH_TEST(test_claim_of_what_is_no_uuid_is_refused),
	TH_TEST(test_claim_at_the_fd_limit_says_so),
	TH_TEST_SETUP(test_claim_each_failing_call_leaves_it_free, th_rig_reset,
		      th_rig_reset),
	TH_TEST_SETUP(test_claim_whose_holder_is_not_told_is_refused,
		      th_rig_reset, th_rig_reset),
};

TH_MAIN("claim", tests)
