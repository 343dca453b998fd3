/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every model of a set four times the region's size, requested at random by
 * four workers, with every byte of every run looked at, for 18 seconds, or 30
 * minutes in the long runs. Workers end in one of three ways and are followed
 * by others; the second test kills halves of the daemon besides.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/models.h"

#define SECONDS 9u /* of each test */
#define WORKERS 4u
#define MODELS 8u
#define RUNS 24
#define KIB ((size_t)1 << 10)

/* The region has four segments: all together take sixteen. */
#define MODEL(n, plan_of, groups_of)                                           \
	{                                                                      \
		.name = "model-" #n, .seed = n, .tensors = 3 + 7 * n,          \
		.bytes = (2050 + 250 * n) * KIB, .plan = plan_of,              \
		.groups = groups_of                                            \
	}
static const struct th_model set[MODELS] = {
	MODEL(0, PS_PLAN_BEST, 0),   MODEL(1, PS_PLAN_TENSOR, 0),
	MODEL(2, PS_PLAN_LAYER, 0),  MODEL(3, PS_PLAN_ONE, 0),
	MODEL(4, PS_PLAN_GROUPS, 4), MODEL(5, PS_PLAN_BEST, 0),
	MODEL(6, PS_PLAN_BEST, 0),   MODEL(7, PS_PLAN_BEST, 0),
};

struct worker {
	struct ps_pool *pool;
	const struct th_gpu *gpu;
	CUstream stream;
	struct ps_model *model[MODELS];
};

static struct worker begin(void)
{
	struct worker worker = { .pool = th_attach_name("worker") };

	worker.gpu = th_gpu_open();
	worker.stream = th_gpu_stream(worker.gpu, CU_STREAM_NON_BLOCKING);
	for (unsigned int i = 0; i < MODELS; i++)
		worker.model[i] = th_model_attach(worker.pool, &set[i]);
	return worker;
}

/* Another may hold what is in the way for as long as its run takes; nobody
 * waits while it holds. */
static void use(struct ps_model *model)
{
	unsigned int priority = (unsigned int)rand() % 200;

	th_assert_ok(ps_model_use(model, priority, TH_DAEMON_MS));
}

/* Submits a run and, now and then, is killed before it is done. */
static void run(const struct worker *worker, unsigned int which)
{
	struct ps_model *model = worker->model[which];
	struct th_copy copy;

	th_copy_init(&copy, worker->gpu, &set[which]);
	use(model);
	th_copy_submit(&copy, model, worker->stream);
	if (rand() % (3 * RUNS) == 0)
		raise(SIGKILL);
	th_assert_ok(ps_model_release(model, worker->stream));
	th_cu(worker->gpu->driver->cuStreamSynchronize(worker->stream));
	th_assert_ok(ps_model_check(model));
	assert_true(th_copy_is_right(&copy));
	th_copy_done(&copy);
}

static void work(int link)
{
	struct worker worker = begin();

	(void)link;
	srand((unsigned int)getpid());
	for (int i = 0; i < RUNS; i++)
		run(&worker, (unsigned int)rand() % MODELS);
	if (rand() % 2 == 0)
		_exit(0);
	th_assert_ok(ps_detach(worker.pool));
}

static void end_worker(struct th_client *client)
{
	int status = th_client_wait(client);

	if (status != 0 && status != 128 + SIGKILL)
		fail_msg("a worker ended with %d", status);
}

/* @disturb: called in between; NULL: nobody is. */
static void soak(struct th_daemon *daemon,
		 void (*disturb)(struct th_daemon *daemon))
{
	const uint64_t end =
		th_now_ns() + SECONDS * UINT64_C(1000000000) * th_soak_factor();
	struct th_client client[WORKERS];
	unsigned int next = 0;

	for (unsigned int i = 0; i < WORKERS; i++)
		th_client_start(&client[i], work);
	while (th_now_ns() < end) {
		if (disturb != NULL)
			disturb(daemon);
		end_worker(&client[next]);
		th_client_start(&client[next], work);
		next = (next + 1) % WORKERS;
	}
	for (unsigned int i = 0; i < WORKERS; i++)
		end_worker(&client[i]);
}

static void start(struct th_daemon *daemon)
{
	th_daemon_start(daemon, NULL);
	for (unsigned int i = 0; i < MODELS; i++)
		th_model_add(&set[i]);
}

static void stop(struct th_daemon *daemon)
{
	const struct th_model *all[MODELS];

	for (unsigned int i = 0; i < MODELS; i++)
		all[i] = &set[i];
	th_models_remove(all, MODELS);
	th_daemon_stop(daemon);
}

static void test_models_at_random_are_always_right(void **state)
{
	struct th_daemon daemon;

	(void)state;
	start(&daemon);
	soak(&daemon, NULL);
	/* As this agent counts. */
	for (unsigned int i = 0; i < MODELS; i++)
		assert_true(th_model_number(&set[i], "loads") > 0);
	stop(&daemon);
}

static void strike(struct th_daemon *daemon)
{
	th_rest_ms((unsigned int)rand() % 100);
	if (rand() % 2 == 0)
		th_daemon_kill_agent(daemon);
	else
		th_daemon_kill_keeper(daemon);
}

static void test_models_at_random_outlive_halves_of_the_daemon(void **state)
{
	struct th_daemon daemon;

	(void)state;
	start(&daemon);
	soak(&daemon, strike);
	stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_models_at_random_are_always_right),
	TH_DAEMON_TEST(test_models_at_random_outlive_halves_of_the_daemon),
};

TH_GPU_MAIN("models_soak", tests, NULL)
