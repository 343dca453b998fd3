/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each call of the C library that the agent makes failing at its n-th use,
 * for n = 1, 2, ... until a run made fewer, while a model is added, used and
 * removed. A request may be refused, and is then made again; no run that is
 * said to be right reads a wrong byte, nobody hangs, and when the model is gone
 * the daemon has open what it has without a failure.
 *
 * Usually n grows by its half; in the long runs (TH_SOAK_FACTOR) by one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/models.h"

#define N_MAX 20000u
#define ATTEMPTS 100
#define REST_MS 20
#define USE_MS 2000

static const struct th_model model = {
	.name = "model", .seed = 9, .tensors = 6, .bytes = 300000
};

struct call {
	const char *name;
	int error;
};

struct fault {
	char text[96]; /* of the environment */
	char mark[128];
};

/* The one under way, for who looks for what went wrong. */
static char current[96];

static int tear_down(void **state)
{
	int rc = th_daemon_teardown(state);

	print_message("the last fault: %s\n", current);
	return rc;
}

/* ---- what is asked for until it comes ---- */

static enum ps_status add_it(void)
{
	return th_model_try_add(&model);
}

static enum ps_status remove_it(void)
{
	enum ps_status status = th_model_try_order(&model, PS_MODEL_REMOVE);

	return status == PS_NO_MODEL ? PS_OK : status;
}

static void at_last(enum ps_status (*try_it)(void), const char *what)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		if (try_it() == PS_OK)
			return;
		assert_true(strlen(ps_error_detail()) > 8);
		th_rest_ms(REST_MS);
	}
	fail_msg("%s: never %s: %s", current, what, ps_error_detail());
}

static struct ps_pool *pool;
static struct ps_model *attached;

static enum ps_status attach_pool(void)
{
	return ps_attach(NULL, &pool);
}

static enum ps_status attach_model(void)
{
	enum ps_status status =
		ps_model_attach(pool, model.name, NULL, &attached);

	/* The keeper may have been told of it too late to hand it on. */
	if (status == PS_NO_MODEL)
		(void)add_it();
	return status;
}

static enum ps_status run_model(void)
{
	const struct th_gpu *gpu = th_gpu_open();
	CUstream stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	struct th_copy copy;
	enum ps_status status;

	status = ps_model_use(attached, PS_PRIORITY_DEFAULT, USE_MS);
	if (status != PS_OK)
		return status;
	th_copy_init(&copy, gpu, &model);
	th_copy_submit(&copy, attached, stream);
	th_assert_ok(ps_model_release(attached, stream));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	status = ps_model_check(attached);
	if (status == PS_OK)
		assert_true(th_copy_is_right(&copy));
	th_copy_done(&copy);
	return status;
}

static void work(int link)
{
	at_last(attach_pool, "let in");
	at_last(attach_model, "attached");
	at_last(run_model, "run");
	th_assert_ok(ps_model_detach(attached));
	th_assert_ok(ps_detach(pool));
	(void)link;
}

static void use_daemon(void)
{
	struct th_client client;

	at_last(add_it, "added");
	th_client_start(&client, work);
	assert_int_equal(th_client_wait(&client), 0);
	at_last(remove_it, "removed");
}

/* ---- one run ---- */

/* True when the call failed; @usual: of a run without a failure. */
static bool run(const struct fault *fault, const struct th_daemon_sums *usual)
{
	char setting[256], mark[256], preload[512];
	const char *env[] = { setting, mark, preload, NULL };
	struct th_daemon daemon;
	bool has_struck;

	memcpy(current, fault->text, sizeof(current));
	snprintf(setting, sizeof(setting), "TH_FAIL=%s", fault->text);
	snprintf(mark, sizeof(mark), "TH_FAIL_MARK=%s", fault->mark);
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s",
		 th_program("process/failing_calls.so"));
	if (th_daemon_try(&daemon, &(struct th_daemon_plan){ .env = env }) ==
	    -1) {
		setenv("POOLSWITCH_SOCKET", daemon.socket, 1);
		th_daemon_follow(&daemon, -1);
		use_daemon();
		th_daemon_follow(&daemon, -1);
		th_daemon_await_no_more(usual);
		/* No questions: the call may be one of those at the end. */
		th_daemon_kill(&daemon);
	}
	has_struck = access(fault->mark, F_OK) == 0;
	unlink(daemon.log);
	unlink(fault->mark);
	return has_struck;
}

static void measure_usual(struct th_daemon_sums *usual_out)
{
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	use_daemon();
	th_daemon_settle(0, usual_out);
	th_daemon_end(&daemon);
	unlink(daemon.log);
}

static void fail_calls(const struct call *call, size_t count)
{
	struct fault fault;
	struct th_daemon_sums usual;
	unsigned int n, struck = 0;

	measure_usual(&usual);
	th_daemon_patience = ATTEMPTS;
	snprintf(fault.mark, sizeof(fault.mark), "%s/mark", th_temp_dir());
	for (size_t i = 0; i < count; i++) {
		for (n = 1; n<N_MAX; n += th_soak_factor()> 1 ? 1 : 1 + n / 2) {
			snprintf(fault.text, sizeof(fault.text),
				 "agent:%s:%u:%d", call[i].name, n,
				 call[i].error);
			if (!run(&fault, &usual))
				break;
			struck++;
		}
		print_message("fewer than %u of %s\n", n, call[i].name);
	}
	assert_true(struck > 0);
}

/* ---- the tests ---- */

static void test_models_memory_call_fails_loses_nothing(void **state)
{
	static const struct call calls[] = {
		{ "memfd_create", ENFILE }, { "mmap64", ENOMEM },
		{ "ftruncate64", ENOSPC },  { "fallocate64", ENOSPC },
		{ "malloc", ENOMEM },       { "pthread_create", EAGAIN }
	};

	(void)state;
	fail_calls(calls, sizeof(calls) / sizeof(calls[0]));
}

static void test_models_file_call_fails_loses_nothing(void **state)
{
	static const struct call calls[] = {
		{ "open", EMFILE },       { "read", EIO },
		{ "pread64", EIO },       { "fstat64", EIO },
		{ "fcntl", EMFILE },      { "dup", EMFILE },
		{ "getrlimit64", EPERM }, { "eventfd", EMFILE },
		{ "epoll_ctl", ENOSPC },
	};

	(void)state;
	fail_calls(calls, sizeof(calls) / sizeof(calls[0]));
}

static void test_models_socket_call_fails_loses_nothing(void **state)
{
	static const struct call calls[] = { { "sendmsg", ENOBUFS },
					     { "recvmsg", ENOMEM } };

	(void)state;
	fail_calls(calls, sizeof(calls) / sizeof(calls[0]));
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_models_memory_call_fails_loses_nothing, NULL,
		      tear_down),
	TH_TEST_SETUP(test_models_file_call_fails_loses_nothing, NULL,
		      tear_down),
	TH_TEST_SETUP(test_models_socket_call_fails_loses_nothing, NULL,
		      tear_down),
};

TH_MAIN("models_nth", tests)
