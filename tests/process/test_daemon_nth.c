/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each call of the C library and of the driver that a half of poolswitchd
 * makes failing at its n-th use, for n = 1, 2, ... until a run made fewer.
 * However it goes: either the start is refused with an exit status of
 * <sysexits.h>, a reason in the log and nothing left behind, or the daemon
 * serves, and after clients came, died and left all is as in a run in which
 * nothing failed.
 *
 * Usually n grows by its half; in the long runs (TH_SOAK_FACTOR) by one.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/daemon.h"

#define N_MAX 20000u
#define ATTEMPTS 50
#define SYSEXITS_LOW 64
#define SYSEXITS_HIGH 78
#define LOADERS_STATUS 127

/* ---- one run ---- */

/* What makes a call fail, and how it is seen that it has. */
struct fault {
	char text[96]; /* of the environment */
	char mark[128];
	const char *variable;
	const char *mark_variable;
};

/* The one under way, for who looks for what went wrong. */
static char current[96];

static int tear_down(void **state)
{
	int rc = th_daemon_teardown(state);

	print_message("the last fault: %s\n", current);
	return rc;
}

static bool has_struck(const struct fault *fault)
{
	return access(fault->mark, F_OK) == 0;
}

/* One failure may cost a client its connection; then it comes again. */
static struct ps_pool *attach_at_last(void)
{
	struct ps_pool *pool;

	for (int i = 0; i < ATTEMPTS; i++) {
		if (ps_attach(NULL, &pool) == PS_OK)
			return pool;
		assert_true(strlen(ps_error_detail()) > 8);
		th_rest_ms(20);
	}
	fail_msg("no client is let in: %s", ps_error_detail());
	return NULL;
}

static void *alloc_at_last(struct ps_pool *pool, size_t bytes)
{
	void *ptr;

	for (int i = 0; i < ATTEMPTS; i++) {
		if (ps_mem_alloc(pool, bytes, &ptr) == PS_OK)
			return ptr;
		assert_true(strlen(ps_error_detail()) > 8);
		th_rest_ms(20);
	}
	fail_msg("nothing is granted: %s", ps_error_detail());
	return NULL;
}

static void make_room_at_last(struct ps_pool *pool, uint64_t bytes)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		if (ps_mem_take_outside(pool, bytes) == PS_OK)
			return;
		assert_true(strlen(ps_error_detail()) > 8);
		th_rest_ms(20);
	}
	fail_msg("no room is made: %s", ps_error_detail());
}

static void issue_at_last(struct ps_pool *pool, const void *ptr,
			  struct ps_ticket *ticket_out)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		if (ps_ticket_issue(pool, ptr, ticket_out) == PS_OK)
			return;
		assert_true(strlen(ps_error_detail()) > 8);
		th_rest_ms(20);
	}
	fail_msg("no ticket is issued: %s", ps_error_detail());
}

static void *open_at_last(struct ps_pool *pool, const struct ps_ticket *ticket)
{
	void *ptr;

	for (int i = 0; i < ATTEMPTS; i++) {
		if (ps_ticket_open(pool, ticket, &ptr) == PS_OK)
			return ptr;
		assert_true(strlen(ps_error_detail()) > 8);
		th_rest_ms(20);
	}
	fail_msg("no ticket is opened: %s", ps_error_detail());
	return NULL;
}

/* Issues a ticket, and dies when it is told to. */
static void use_and_die(int link)
{
	struct ps_pool *pool = attach_at_last();
	void *ptr = alloc_at_last(pool, 3 * TH_DAEMON_SEGMENT);
	struct ps_ticket ticket;

	th_pattern_write(pool, ptr, 3 * TH_DAEMON_SEGMENT, 5);
	make_room_at_last(pool, 2 * TH_DAEMON_SEGMENT);
	issue_at_last(pool, ptr, &ticket);
	assert_int_equal(write(link, &ticket, sizeof(ticket)), sizeof(ticket));
	th_await(link);
	raise(SIGKILL);
}

/* Opens a ticket, and has memory of its own when the issuer has died. */
static void use_and_leave(int link)
{
	struct ps_pool *pool = attach_at_last();
	struct ps_ticket ticket;
	uint64_t released;
	void *opened, *ptr;

	assert_int_equal(read(link, &ticket, sizeof(ticket)), sizeof(ticket));
	opened = open_at_last(pool, &ticket);
	th_tell(link);
	th_await(link);
	th_pattern_check(pool, opened, 3 * TH_DAEMON_SEGMENT, 5);
	th_assert_ok(ps_ticket_close(pool, opened));
	ptr = alloc_at_last(pool, 2 * TH_DAEMON_SEGMENT);
	th_zeros_check(pool, ptr, 2 * TH_DAEMON_SEGMENT);
	th_pattern_write(pool, ptr, 2 * TH_DAEMON_SEGMENT, 6);
	make_room_at_last(pool, TH_DAEMON_SEGMENT);
	th_assert_ok(ps_mem_give_outside(pool, TH_DAEMON_SEGMENT));
	th_pattern_check(pool, ptr, 2 * TH_DAEMON_SEGMENT, 6);
	th_assert_ok(ps_mem_free(pool, ptr));
	th_assert_ok(ps_mem_trim(pool, 0, &released));
	th_assert_ok(ps_detach(pool));
}

static void use_daemon(void)
{
	struct th_client owner, reader;
	struct ps_ticket ticket;

	th_client_start(&owner, use_and_die);
	assert_int_equal(read(owner.link, &ticket, sizeof(ticket)),
			 sizeof(ticket));
	th_client_start(&reader, use_and_leave);
	assert_int_equal(write(reader.link, &ticket, sizeof(ticket)),
			 sizeof(ticket));
	th_await(reader.link);
	th_tell(owner.link);
	assert_int_equal(th_client_wait(&owner), 128 + SIGKILL);
	th_client_finish(&reader);
}

/* The loader makes a thread's variables when they are first used, and ends a
 * process that has no memory for them. */
static bool is_loaders_end(const struct th_daemon *daemon, int status)
{
	return status == LOADERS_STATUS &&
	       th_daemon_logged(daemon, "memory for thread-local data");
}

/* What cannot write its log cannot say why. */
static void assert_clean_refusal(const struct th_daemon *daemon,
				 const struct fault *fault, int status)
{
	bool is_loaders = is_loaders_end(daemon, status);

	if (!is_loaders && (status < SYSEXITS_LOW || status > SYSEXITS_HIGH)) {
		th_daemon_show_log(daemon->log);
		fail_msg("%s: refused with %d", fault->text, status);
	}
	if (!is_loaders && !th_daemon_logged(daemon, "poolswitchd") &&
	    strstr(fault->text, ":write:") == NULL)
		fail_msg("%s: refused with %d and no word", fault->text,
			 status);
	assert_int_equal(th_daemon_processes(), 0);
	assert_int_equal(access(daemon->socket, F_OK), -1);
}

/* Each has to start the other. */
static void strike_both(struct th_daemon *daemon)
{
	th_daemon_follow(daemon, th_daemon_strike(daemon->keeper));
	th_daemon_follow(daemon, th_daemon_strike(daemon->agent));
}

/* The halves' own way out of a failure may be to start the other anew. */
static void await_both(struct th_daemon *daemon)
{
	th_daemon_follow(daemon, -1);
}

/* What the agent told the keeper last may be what the keeper fails to hear,
 * and then it kills the agent: not while the test kills the keeper. */
static void await_rest(struct th_daemon *daemon,
		       const struct th_daemon_sums *usual)
{
	await_both(daemon);
	th_daemon_await_no_more(usual);
	th_daemon_await_sleep(daemon->agent);
	th_daemon_await_sleep(daemon->keeper);
	await_both(daemon);
}

static void start_over(const struct th_daemon *daemon,
		       const struct fault *fault)
{
	unlink(daemon->log);
	unlink(fault->mark);
}

/* True when the call failed; @usual: of a run without a failure. */
static bool run(const struct fault *fault, const struct th_daemon_sums *usual)
{
	char setting[256], mark[256], preload[512];
	const char *env[] = { setting, mark, preload, NULL };
	struct th_daemon daemon;
	bool struck;
	int status;

	memcpy(current, fault->text, sizeof(current));
	snprintf(setting, sizeof(setting), "%s=%s", fault->variable,
		 fault->text);
	snprintf(mark, sizeof(mark), "%s=%s", fault->mark_variable,
		 fault->mark);
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s",
		 th_program("process/failing_calls.so"));
	status = th_daemon_try(&daemon, &(struct th_daemon_plan){ .env = env });
	if (status == -1) {
		setenv("POOLSWITCH_SOCKET", daemon.socket, 1);
		await_both(&daemon);
		use_daemon();
		await_rest(&daemon, usual);
		strike_both(&daemon);
		th_daemon_await_no_more(usual);
		th_daemon_end(&daemon);
	} else {
		assert_clean_refusal(&daemon, fault, status);
	}
	struck = has_struck(fault);
	assert_true(struck || status == -1);
	start_over(&daemon, fault);
	return struck;
}

static void measure_usual(struct th_daemon_sums *usual_out)
{
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	use_daemon();
	strike_both(&daemon);
	th_daemon_settle(0, usual_out);
	th_daemon_stop(&daemon);
	unlink(daemon.log);
}

static unsigned int next_n(unsigned int n)
{
	return th_soak_factor() > 1 ? n + 1 : n + 1 + n / 2;
}

/* ---- the C library's ---- */

struct call {
	const char *name;
	int error;
};

static void fail_calls(const char *half, const struct call *call, size_t count)
{
	struct fault fault = { .variable = "TH_FAIL",
			       .mark_variable = "TH_FAIL_MARK" };
	struct th_daemon_sums usual;
	unsigned int n, struck = 0;

	measure_usual(&usual);
	th_daemon_patience = ATTEMPTS;
	snprintf(fault.mark, sizeof(fault.mark), "%s/mark", th_temp_dir());
	for (size_t i = 0; i < count; i++) {
		for (n = 1; n < N_MAX; n = next_n(n)) {
			snprintf(fault.text, sizeof(fault.text), "%s:%s:%u:%d",
				 half, call[i].name, n, call[i].error);
			if (!run(&fault, &usual))
				break;
			struck++;
		}
		print_message("%s: fewer than %u of %s\n", half, n,
			      call[i].name);
	}
	assert_true(struck > 0);
}

static const struct call sockets[] = {
	{ "socket", EMFILE },      { "socketpair", EMFILE },
	{ "bind", EACCES },        { "listen", ENOMEM },
	{ "connect", EAGAIN },     { "accept4", EMFILE },
	{ "getsockopt", ENOMEM },  { "setsockopt", ENOMEM },
	{ "getpeername", ENOMEM }, { "sendmsg", ENOBUFS },
	{ "recvmsg", ENOMEM },     { "sendto", ENOBUFS },
	{ "shutdown", ENOTCONN },
};

static const struct call events[] = {
	{ "epoll_create1", EMFILE }, { "epoll_ctl", ENOSPC },
	{ "epoll_wait", EINTR },     { "poll", ENOMEM },
	{ "eventfd", EMFILE },       { "signalfd", EMFILE },
	{ "pipe2", EMFILE },         { "pidfd_open", EMFILE },
	{ "waitid", ECHILD },        { "waitpid", ECHILD },
};

static const struct call files[] = {
	{ "open", EMFILE },       { "fopen64", EMFILE },
	{ "opendir", EMFILE },    { "fdopendir", ENOMEM },
	{ "read", EIO },          { "write", ENOSPC },
	{ "fstat64", EIO },       { "lstat64", EACCES },
	{ "readlinkat", EACCES }, { "fcntl", EMFILE },
	{ "chmod", EPERM },       { "lchown", EPERM },
	{ "mkdir", ENOSPC },      { "rename", ENOSPC },
	{ "unlink", EACCES },
};

/* The simulated GPU is a file with locks, in the agent. */
static const struct call locks[] = { { "flock", ENOLCK } };

static const struct call memory[] = {
	{ "memfd_create", ENFILE }, { "mmap64", ENOMEM },
	{ "ftruncate64", ENOSPC },  { "fallocate64", ENOSPC },
	{ "getrandom", ENOSYS },    { "malloc", ENOMEM },
};

static const struct call processes[] = {
	{ "fork", EAGAIN },
	{ "execv", ENOENT },
	{ "setsid", EPERM },
	{ "dup2", EBADF },
	{ "dup3", EBADF },
	{ "kill", EPERM },
	{ "pthread_create", EAGAIN },
};

static const struct call rare[] = {
	{ "dup", EMFILE },         { "fdopen", ENOMEM },
	{ "getrlimit64", EPERM },  { "setrlimit64", EPERM },
	{ "close_range", ENOSYS }, { "pidfd_send_signal", EPERM },
};

#define FAIL_CALLS(half, calls)                                                \
	fail_calls(half, calls, sizeof(calls) / sizeof(calls[0]))

static void test_keeper_socket_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("keeper", sockets);
}

static void test_keeper_event_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("keeper", events);
}

static void test_keeper_file_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("keeper", files);
	FAIL_CALLS("keeper", locks);
}

static void test_keeper_memory_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("keeper", memory);
}

static void test_keeper_process_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("keeper", processes);
}

static void test_keeper_rare_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("keeper", rare);
}

static void test_agent_socket_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("agent", sockets);
}

static void test_agent_event_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("agent", events);
}

static void test_agent_file_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("agent", files);
}

static void test_agent_memory_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("agent", memory);
}

static void test_agent_process_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("agent", processes);
}

static void test_agent_rare_call_fails_loses_nothing(void **state)
{
	(void)state;
	FAIL_CALLS("agent", rare);
}

/* ---- the driver's ---- */

/* The n-th call of any function of the driver, in the agent: the clients' are
 * not told. */
static void fail_driver(int code)
{
	struct fault fault = { .variable = "POOLSWITCH_SIM_FAIL",
			       .mark_variable = "POOLSWITCH_SIM_FAIL_MARK" };
	struct th_daemon_sums usual;
	unsigned int n;

	measure_usual(&usual);
	th_daemon_patience = ATTEMPTS;
	snprintf(fault.mark, sizeof(fault.mark), "%s/mark", th_temp_dir());
	for (n = 1; n < N_MAX; n = next_n(n)) {
		snprintf(fault.text, sizeof(fault.text), "any:%u=%d", n, code);
		if (!run(&fault, &usual))
			break;
	}
	print_message("agent: fewer than %u of the driver\n", n);
	assert_true(n > 20);
}

static void test_agent_driver_call_fails_unknown_loses_nothing(void **state)
{
	(void)state;
	fail_driver(999);
}

static void test_agent_driver_call_fails_of_memory_loses_nothing(void **state)
{
	(void)state;
	fail_driver(2);
}

#define NTH_TEST(fn) TH_TEST_SETUP(fn, NULL, tear_down)

static const struct th_test tests[] = {
	NTH_TEST(test_keeper_socket_call_fails_loses_nothing),
	NTH_TEST(test_keeper_event_call_fails_loses_nothing),
	NTH_TEST(test_keeper_file_call_fails_loses_nothing),
	NTH_TEST(test_keeper_memory_call_fails_loses_nothing),
	NTH_TEST(test_keeper_process_call_fails_loses_nothing),
	NTH_TEST(test_keeper_rare_call_fails_loses_nothing),
	NTH_TEST(test_agent_socket_call_fails_loses_nothing),
	NTH_TEST(test_agent_event_call_fails_loses_nothing),
	NTH_TEST(test_agent_file_call_fails_loses_nothing),
	NTH_TEST(test_agent_memory_call_fails_loses_nothing),
	NTH_TEST(test_agent_process_call_fails_loses_nothing),
	NTH_TEST(test_agent_rare_call_fails_loses_nothing),
	NTH_TEST(test_agent_driver_call_fails_unknown_loses_nothing),
	NTH_TEST(test_agent_driver_call_fails_of_memory_loses_nothing),
};

TH_MAIN("daemon_nth", tests)
