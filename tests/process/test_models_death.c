/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Models while somebody dies or does not answer: a half of the daemon in the
 * middle of a load, a worker that waits or computes, one that is stopped. The
 * region has four segments, "alpha" and "beta" take three each. On the
 * simulated GPU loads are so slow while the test wants them to be that they
 * are under way for certain.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/models.h"

#define MIB ((size_t)1 << 20)
#define SHORT_MS 300
#define STREAMS 64

static const struct th_model alpha = { .name = "alpha",
				       .seed = 1,
				       .tensors = 20,
				       .bytes = 5 * MIB,
				       .plan = PS_PLAN_TENSOR };
static const struct th_model beta = {
	.name = "beta", .seed = 2, .tensors = 9, .bytes = 5 * MIB
};
static const struct th_model *const both[] = { &alpha, &beta };

static bool is_real(void)
{
	const char *driver = getenv("POOLSWITCH_DRIVER");

	return driver == NULL || strcmp(driver, "sim") != 0;
}

/* ---- workers ---- */

struct worker {
	struct ps_pool *pool;
	const struct th_gpu *gpu;
	CUstream stream;
	struct ps_model *alpha;
	struct ps_model *beta;
};

static struct worker begin(const char *name)
{
	struct worker worker;

	worker.pool = th_attach_name(name);
	worker.gpu = th_gpu_open();
	worker.stream = th_gpu_stream(worker.gpu, CU_STREAM_NON_BLOCKING);
	worker.alpha = th_model_attach(worker.pool, &alpha);
	worker.beta = th_model_attach(worker.pool, &beta);
	return worker;
}

/* What was submitted in the middle of the load comes right. */
static void wait_in_mid_load(int link)
{
	struct worker worker = begin("waiter");
	struct th_copy copy;

	th_copy_init(&copy, worker.gpu, &alpha);
	th_model_use(worker.alpha);
	th_copy_submit(&copy, worker.alpha, worker.stream);
	if (!is_real())
		th_cu_is(worker.gpu->driver->cuStreamQuery(worker.stream),
			 CUDA_ERROR_NOT_READY);
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_model_release(worker.alpha, worker.stream));
	th_cu(worker.gpu->driver->cuStreamSynchronize(worker.stream));
	th_assert_ok(ps_model_check(worker.alpha));
	assert_true(th_copy_is_right(&copy));
	th_copy_done(&copy);
	th_model_run(worker.beta, &beta, worker.gpu, worker.stream);
	th_assert_ok(ps_detach(worker.pool));
}

/* ---- the stage ---- */

struct stage {
	struct th_daemon daemon;
	struct th_client client;
};

static void open_with(struct stage *stage, const struct th_daemon_plan *plan,
		      void (*run)(int link))
{
	th_daemon_start(&stage->daemon, plan);
	th_model_add(&alpha);
	th_model_add(&beta);
	th_client_start(&stage->client, run);
	th_await(stage->client.link);
}

static const char *bandwidth_path(void)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/bandwidth", th_temp_dir());
	return path;
}

/* A load takes five seconds, until speed_up(). */
static void open_slow(struct stage *stage, void (*run)(int link))
{
	char setting[160];
	const char *const env[] = { setting, NULL };
	FILE *file;

	snprintf(setting, sizeof(setting), "POOLSWITCH_SIM_BANDWIDTH=%s",
		 bandwidth_path());
	th_daemon_start(&stage->daemon, &(struct th_daemon_plan){ .env = env });
	th_model_add(&alpha);
	th_model_add(&beta);
	file = fopen(bandwidth_path(), "we");
	assert_non_null(file);
	fputs("1M", file);
	fclose(file);
	th_client_start(&stage->client, run);
	th_await(stage->client.link);
}

static void speed_up(void)
{
	assert_int_equal(unlink(bandwidth_path()), 0);
}

/* The next agent is fast; this one was in the middle of the load. */
static void speed_up_and_kill(struct stage *stage, pid_t agent)
{
	th_daemon_strike(agent);
	speed_up();
	th_daemon_follow(&stage->daemon, agent);
}

static void stage_close(struct stage *stage)
{
	th_models_remove(both, 2);
	th_daemon_stop(&stage->daemon);
}

/* ---- halves killed in mid-load ---- */

static void test_models_agent_killed_in_mid_load_data_comes(void **state)
{
	struct stage stage;

	(void)state;
	open_slow(&stage, wait_in_mid_load);
	speed_up_and_kill(&stage, stage.daemon.agent);
	th_client_finish(&stage.client);
	stage_close(&stage);
}

static void test_models_agent_killed_again_and_again_data_comes(void **state)
{
	struct stage stage;

	(void)state;
	open_slow(&stage, wait_in_mid_load);
	speed_up_and_kill(&stage, stage.daemon.agent);
	for (int i = 0; i < 4; i++)
		th_daemon_kill_agent(&stage.daemon);
	th_client_finish(&stage.client);
	stage_close(&stage);
}

static void test_models_keeper_killed_in_mid_load_data_comes(void **state)
{
	struct stage stage;

	(void)state;
	open_slow(&stage, wait_in_mid_load);
	th_daemon_kill_keeper(&stage.daemon);
	speed_up();
	th_client_finish(&stage.client);
	stage_close(&stage);
}

static void test_models_keeper_then_agent_killed_data_comes(void **state)
{
	struct stage stage;

	(void)state;
	open_slow(&stage, wait_in_mid_load);
	th_daemon_kill_keeper(&stage.daemon);
	speed_up();
	th_daemon_kill_agent(&stage.daemon);
	th_client_finish(&stage.client);
	stage_close(&stage);
}

static void test_models_agent_then_keeper_killed_data_comes(void **state)
{
	struct stage stage;

	(void)state;
	open_slow(&stage, wait_in_mid_load);
	speed_up_and_kill(&stage, stage.daemon.agent);
	th_daemon_kill_keeper(&stage.daemon);
	th_client_finish(&stage.client);
	stage_close(&stage);
}

/* ---- an agent killed while a model is in use ---- */

static void hold_alpha(int link)
{
	struct worker worker = begin("holder");

	th_model_use(worker.alpha);
	th_tell(link);
	th_await(link);
	th_model_run(worker.alpha, &alpha, worker.gpu, worker.stream);
	th_assert_ok(ps_model_release(worker.alpha, worker.stream));
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

static void want_beta(int link)
{
	struct worker worker = begin("wanter");
	enum ps_status status =
		ps_model_use(worker.beta, PS_PRIORITY_DEFAULT, SHORT_MS);

	assert_true(status == PS_OUT_OF_MEMORY || status == PS_TIMED_OUT);
	th_tell(link);
	th_await(link);
	th_model_run(worker.beta, &beta, worker.gpu, worker.stream);
	th_assert_ok(ps_detach(worker.pool));
}

static void expect_held_until_released(struct stage *stage)
{
	struct th_client wanter;

	th_client_start(&wanter, want_beta);
	th_await(wanter.link);
	th_tell(stage->client.link);
	th_await(stage->client.link);
	th_client_finish(&wanter);
	th_client_finish(&stage->client);
}

static void test_models_in_use_stay_when_the_agent_is_killed(void **state)
{
	struct stage stage;

	(void)state;
	open_with(&stage, NULL, hold_alpha);
	th_daemon_kill_agent(&stage.daemon);
	expect_held_until_released(&stage);
	stage_close(&stage);
}

/* It has not joined the new agent: what it uses is not known. */
static void test_models_in_use_by_a_stopped_client_stay(void **state)
{
	struct th_client wanter;
	struct stage stage;

	(void)state;
	open_with(&stage, NULL, hold_alpha);
	kill(stage.client.pid, SIGSTOP);
	th_daemon_kill_agent(&stage.daemon);
	th_client_start(&wanter, want_beta);
	th_await(wanter.link);
	kill(stage.client.pid, SIGCONT);
	th_tell(stage.client.link);
	th_await(stage.client.link);
	th_client_finish(&wanter);
	th_client_finish(&stage.client);
	stage_close(&stage);
}

/* ---- workers killed ---- */

static void run_both(int link)
{
	struct worker worker = begin("heir");

	th_model_run(worker.beta, &beta, worker.gpu, worker.stream);
	th_model_run(worker.alpha, &alpha, worker.gpu, worker.stream);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

/* Beta needs the room of what the dead one had in use. */
static void expect_room(void)
{
	struct th_client heir;

	th_client_start(&heir, run_both);
	th_client_finish(&heir);
}

static void test_models_worker_killed_while_waiting_leaves_room(void **state)
{
	struct stage stage;

	(void)state;
	open_slow(&stage, wait_in_mid_load);
	th_client_kill(&stage.client);
	speed_up();
	expect_room();
	stage_close(&stage);
}

/* Its stream never gets to the end of what reads the weights. */
static void compute_for_ever(int link)
{
	struct worker worker = begin("victim");
	void *own = th_alloc(worker.pool, MIB);
	struct ps_tensor tensor;

	th_model_use(worker.alpha);
	th_assert_ok(ps_model_get_tensor(worker.alpha, 0, &tensor));
	th_gpu_block(worker.gpu, worker.stream);
	th_assert_ok(ps_model_wait(worker.alpha, worker.stream, 0));
	th_cu(worker.gpu->driver->cuMemcpyDtoDAsync_v2(
		(CUdeviceptr)(uintptr_t)own,
		(CUdeviceptr)(uintptr_t)tensor.address, 4, worker.stream));
	th_assert_ok(ps_model_release(worker.alpha, worker.stream));
	th_tell(link);
	th_await(link);
}

static void test_models_worker_killed_while_computing_leaves_room(void **state)
{
	struct stage stage;

	(void)state;
	open_with(&stage, NULL, compute_for_ever);
	th_client_kill(&stage.client);
	expect_room();
	stage_close(&stage);
}

/* Until then what it has released is in use by its stream. */
static void test_models_released_are_in_use_by_the_stream(void **state)
{
	struct th_client wanter;
	struct stage stage;

	(void)state;
	open_with(&stage, NULL, compute_for_ever);
	th_client_start(&wanter, want_beta);
	th_await(wanter.link);
	th_client_kill(&stage.client);
	th_client_finish(&wanter);
	stage_close(&stage);
}

static void hold_until_it_came(int link)
{
	struct worker worker = begin("other");
	struct th_copy copy;

	th_copy_init(&copy, worker.gpu, &alpha);
	th_model_use(worker.alpha);
	th_copy_submit(&copy, worker.alpha, worker.stream);
	th_tell(link);
	th_await(link);
	th_cu(worker.gpu->driver->cuStreamSynchronize(worker.stream));
	th_assert_ok(ps_model_check(worker.alpha));
	assert_true(th_copy_is_right(&copy));
	th_copy_done(&copy);
	th_assert_ok(ps_model_release(worker.alpha, PS_STREAM_DONE));
	th_assert_ok(ps_detach(worker.pool));
}

static void test_models_worker_killed_harms_no_other(void **state)
{
	struct th_client other;
	struct stage stage;

	(void)state;
	open_slow(&stage, wait_in_mid_load);
	th_client_start(&other, hold_until_it_came);
	th_await(other.link);
	th_client_kill(&stage.client);
	speed_up();
	th_client_finish(&other);
	stage_close(&stage);
}

/* ---- who does not answer ---- */

static const char *const impatient[] = { "--yield-ms", "100", NULL };
static const char *const strict[] = { "--yield-ms", "100", "--stop-deaf",
				      NULL };

static void test_models_deaf_client_is_reported(void **state)
{
	const struct th_daemon_plan plan = { .options = impatient };
	struct th_client wanter;
	struct stage stage;

	(void)state;
	open_with(&stage, &plan, hold_alpha);
	kill(stage.client.pid, SIGSTOP);
	th_client_start(&wanter, want_beta);
	th_await(wanter.link);
	assert_true(th_daemon_logged(&stage.daemon,
				     "client does not let go name \"holder\""));
	kill(stage.client.pid, SIGCONT);
	th_tell(stage.client.link);
	th_await(stage.client.link);
	th_client_finish(&wanter);
	th_client_finish(&stage.client);
	stage_close(&stage);
}

static void test_models_deaf_client_is_stopped_where_asked(void **state)
{
	const struct th_daemon_plan plan = { .options = strict };
	struct stage stage;

	(void)state;
	open_with(&stage, &plan, hold_alpha);
	kill(stage.client.pid, SIGSTOP);
	expect_room();
	assert_int_equal(th_client_wait(&stage.client), 128 + SIGKILL);
	stage_close(&stage);
}

/* One that says that it is busy is not deaf. */
static void test_models_busy_client_is_not_stopped(void **state)
{
	const struct th_daemon_plan plan = { .options = strict };
	struct stage stage;

	(void)state;
	open_with(&stage, &plan, hold_alpha);
	expect_held_until_released(&stage);
	stage_close(&stage);
}

/* ---- one stream that waits, many that do not ---- */

static void copy_on_others(const struct worker *worker, const void *own)
{
	uint32_t word;
	CUstream stream;

	for (int i = 1; i < STREAMS; i++) {
		stream = th_gpu_stream(worker->gpu, CU_STREAM_NON_BLOCKING);
		word = 0;
		th_cu(worker->gpu->driver->cuMemcpyDtoHAsync_v2(
			&word, (CUdeviceptr)(uintptr_t)own, sizeof(word),
			stream));
		th_cu(worker->gpu->driver->cuStreamSynchronize(stream));
		assert_int_equal(word, 1);
	}
}

static void wait_on_one_of_many(int link)
{
	struct worker worker = begin("many");
	void *own = th_alloc(worker.pool, 4096);

	th_put(worker.pool, own, 1);
	th_model_use(worker.alpha);
	th_tell(link);
	th_await(link);
	th_assert_ok(
		ps_model_wait(worker.alpha, worker.stream, alpha.tensors - 1));
	copy_on_others(&worker, own);
	if (!is_real())
		th_cu_is(worker.gpu->driver->cuStreamQuery(worker.stream),
			 CUDA_ERROR_NOT_READY);
	th_tell(link);
	th_await(link);
	th_cu(worker.gpu->driver->cuStreamSynchronize(worker.stream));
	th_assert_ok(ps_model_release(worker.alpha, PS_STREAM_DONE));
	th_assert_ok(ps_mem_free(worker.pool, own));
	th_assert_ok(ps_detach(worker.pool));
}

static void test_models_blocked_stream_keeps_no_other_waiting(void **state)
{
	struct stage stage;

	(void)state;
	open_slow(&stage, wait_on_one_of_many);
	th_tell(stage.client.link);
	th_await(stage.client.link);
	speed_up();
	th_client_finish(&stage.client);
	stage_close(&stage);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_models_agent_killed_in_mid_load_data_comes),
	TH_DAEMON_TEST(test_models_agent_killed_again_and_again_data_comes),
	TH_DAEMON_TEST(test_models_keeper_killed_in_mid_load_data_comes),
	TH_DAEMON_TEST(test_models_keeper_then_agent_killed_data_comes),
	TH_DAEMON_TEST(test_models_agent_then_keeper_killed_data_comes),
	TH_DAEMON_TEST(test_models_in_use_stay_when_the_agent_is_killed),
	TH_DAEMON_TEST(test_models_in_use_by_a_stopped_client_stay),
	TH_DAEMON_TEST(test_models_worker_killed_while_waiting_leaves_room),
	TH_DAEMON_TEST(test_models_worker_killed_while_computing_leaves_room),
	TH_DAEMON_TEST(test_models_released_are_in_use_by_the_stream),
	TH_DAEMON_TEST(test_models_worker_killed_harms_no_other),
	TH_DAEMON_TEST(test_models_deaf_client_is_reported),
	TH_DAEMON_TEST(test_models_deaf_client_is_stopped_where_asked),
	TH_DAEMON_TEST(test_models_busy_client_is_not_stopped),
	TH_DAEMON_TEST(test_models_blocked_stream_keeps_no_other_waiting),
};

TH_GPU_MAIN("models_death", tests, NULL)
