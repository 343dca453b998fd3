/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Calls of the simulated driver that fail in the agent while models travel,
 * each at its n-th use, for n = 1, 2, ... until a run makes fewer. However it
 * goes: nobody hangs, what is not right is refused by ps_model_check(), and
 * the next one who asks has it loaded again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/models.h"
#include "tests/support/sim.h"

#define MIB ((size_t)1 << 20)
#define ATTEMPTS 50
#define N_MAX 2000u
#define SWITCHES 5

static const struct th_model alpha = { .name = "alpha",
				       .seed = 1,
				       .tensors = 12,
				       .bytes = 5 * MIB,
				       .plan = PS_PLAN_TENSOR };
static const struct th_model beta = {
	.name = "beta", .seed = 2, .tensors = 5, .bytes = 5 * MIB
};
static const struct th_model *const both[] = { &alpha, &beta };

/* ---- a worker ---- */

struct worker {
	struct ps_pool *pool;
	const struct th_gpu *gpu;
	CUstream stream;
	struct ps_model *alpha;
	struct ps_model *beta;
};

static struct worker begin(void)
{
	struct worker worker;

	worker.pool = th_attach();
	worker.gpu = th_gpu_open();
	worker.stream = th_gpu_stream(worker.gpu, CU_STREAM_NON_BLOCKING);
	worker.alpha = th_model_attach(worker.pool, &alpha);
	worker.beta = th_model_attach(worker.pool, &beta);
	return worker;
}

/* false: it is refused, before or after. What is not refused is right. */
static bool try_run(const struct worker *worker, struct ps_model *attached,
		    const struct th_model *model)
{
	struct th_copy copy;
	enum ps_status status;

	status = ps_model_use(attached, PS_PRIORITY_DEFAULT, TH_DAEMON_MS);
	if (status != PS_OK) {
		assert_true(strlen(ps_error_detail()) > 8);
		return false;
	}
	th_copy_init(&copy, worker->gpu, model);
	th_copy_submit(&copy, attached, worker->stream);
	th_assert_ok(ps_model_release(attached, worker->stream));
	th_cu(worker->gpu->driver->cuStreamSynchronize(worker->stream));
	status = ps_model_check(attached);
	if (status != PS_OK)
		th_assert_status(status, PS_LOAD_FAILED);
	else
		assert_true(th_copy_is_right(&copy));
	th_copy_done(&copy);
	return status == PS_OK;
}

static void run_at_last(const struct worker *worker, struct ps_model *attached,
			const struct th_model *model)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		if (try_run(worker, attached, model))
			return;
		th_rest_ms(10);
	}
	fail_msg("model %s never comes: %s", model->name, ps_error_detail());
}

static void run_both(int link)
{
	struct worker worker = begin();

	run_at_last(&worker, worker.alpha, &alpha);
	run_at_last(&worker, worker.beta, &beta);
	run_at_last(&worker, worker.alpha, &alpha);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

/* ---- one run with one fault ---- */

struct fault {
	char text[128];
	char mark[160];
	char mark_path[128];
	const char *env[3];
};

static void fault_init(struct fault *fault, const char *symbol, unsigned int n)
{
	snprintf(fault->text, sizeof(fault->text),
		 "POOLSWITCH_SIM_FAIL=%s:%u=1", symbol, n);
	snprintf(fault->mark_path, sizeof(fault->mark_path), "%s/mark",
		 th_temp_dir());
	snprintf(fault->mark, sizeof(fault->mark),
		 "POOLSWITCH_SIM_FAIL_MARK=%s", fault->mark_path);
	fault->env[0] = fault->text;
	fault->env[1] = fault->mark;
	fault->env[2] = NULL;
	unlink(fault->mark_path);
}

static bool has_struck(const struct fault *fault)
{
	return access(fault->mark_path, F_OK) == 0;
}

static void add_at_last(const struct th_model *model)
{
	enum ps_status status = PS_AGAIN;

	for (int i = 0; i < ATTEMPTS && status != PS_OK; i++) {
		status = th_model_try_add(model);
		if (status != PS_OK)
			th_rest_ms(10);
	}
	th_assert_ok(status);
}

/* Whether the fault has struck. @run: what a client does; NULL: the daemon
 * only starts. */
static bool run_with(const char *symbol, unsigned int n, void (*run)(int link))
{
	struct fault fault;
	struct th_daemon_plan plan = { .env = fault.env };
	struct th_client client;
	struct th_daemon daemon;

	fault_init(&fault, symbol, n);
	if (th_daemon_try(&daemon, &plan) != -1) {
		assert_true(has_struck(&fault)); /* refused to start */
		return true;
	}
	setenv("POOLSWITCH_SOCKET", daemon.socket, 1);
	if (run != NULL) {
		add_at_last(&alpha);
		add_at_last(&beta);
		th_client_start(&client, run);
		th_client_finish(&client);
		th_models_remove(both, 2);
	}
	th_daemon_kill(&daemon);
	return has_struck(&fault);
}

/* How often it is called before there are models. */
static unsigned int calls_at_start(const char *symbol)
{
	unsigned int low = 0; /* so often at least */
	unsigned int high = 1;

	while (run_with(symbol, high, NULL)) {
		low = high;
		high *= 2;
		assert_true(high < N_MAX);
	}
	while (low + 1 < high) {
		unsigned int n = low + (high - low) / 2;

		if (run_with(symbol, n, NULL))
			low = n;
		else
			high = n;
	}
	return low;
}

/* Every other one; in the long runs every one. */
static void run_with_each(const char *symbol)
{
	const unsigned int start = calls_at_start(symbol);
	unsigned int n = start + 1;

	while (run_with(symbol, n, run_both)) {
		n += th_soak_factor() > 1 ? 1 : 2;
		assert_true(n < N_MAX);
	}
	print_message("%s: %u calls at the start, fewer than %u with models\n",
		      symbol, start, n);
	assert_true(n > start + 1);
}

static void test_models_copy_that_fails_is_refused(void **state)
{
	(void)state;
	run_with_each("cuMemcpyHtoDAsync_v2");
}

static void test_models_counter_that_is_not_written_is_seen(void **state)
{
	(void)state;
	run_with_each("cuStreamWriteValue32_v2");
}

static void test_models_fence_that_fails_is_seen(void **state)
{
	(void)state;
	run_with_each("cuEventRecord");
}

/* They travel all the same. */
static void test_models_not_registered_are_right(void **state)
{
	(void)state;
	run_with_each("cuMemHostRegister_v2");
}

/* ---- memory of the GPU ---- */

static void switch_often(int link)
{
	struct worker worker = begin();
	unsigned long calls;

	run_at_last(&worker, worker.alpha, &alpha);
	calls = th_sim_calls("cuMemCreate") + th_sim_calls("cuMemAlloc_v2") +
		th_sim_calls("cuMemFree_v2");
	for (int i = 0; i < SWITCHES; i++) {
		run_at_last(&worker, worker.beta, &beta);
		run_at_last(&worker, worker.alpha, &alpha);
	}
	assert_int_equal(th_sim_calls("cuMemCreate") +
				 th_sim_calls("cuMemAlloc_v2") +
				 th_sim_calls("cuMemFree_v2"),
			 calls);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

/* The segments and the board, all at the start. */
static void test_models_switches_create_no_memory(void **state)
{
	(void)state;
	assert_true(run_with("cuMemCreate", TH_DAEMON_SEGMENTS + 1, NULL));
	assert_false(
		run_with("cuMemCreate", TH_DAEMON_SEGMENTS + 2, switch_often));
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_models_copy_that_fails_is_refused),
	TH_DAEMON_TEST(test_models_counter_that_is_not_written_is_seen),
	TH_DAEMON_TEST(test_models_fence_that_fails_is_seen),
	TH_DAEMON_TEST(test_models_not_registered_are_right),
	TH_DAEMON_TEST(test_models_switches_create_no_memory),
};

TH_MAIN("models_faults", tests)
