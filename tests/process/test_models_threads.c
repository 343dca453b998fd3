/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Threads of one worker that take turns at models of which the region holds
 * one at a time: each waits for the others of its own process to let go, and
 * every byte is looked at.
 */
#include "tests/support/models.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 4u
#define TURNS 8u
#define MIB ((size_t)1 << 20)

static const struct th_model alpha = {
	.name = "alpha", .seed = 1, .tensors = 12, .bytes = 5 * MIB
};
static const struct th_model beta = { .name = "beta",
				      .seed = 2,
				      .tensors = 7,
				      .bytes = 5 * MIB,
				      .plan = PS_PLAN_TENSOR };
static const struct th_model *const both[] = { &alpha, &beta };

struct turns {
	const struct th_gpu *gpu;
	struct ps_model *attached[2];
	unsigned int number;
	pthread_t thread;
};

/* Asked for as often as it takes: the others take their turns. */
static void use_patiently(struct ps_model *model)
{
	uint64_t end = th_now_ns() + UINT64_C(60000000000);
	enum ps_status status;

	do {
		status = ps_model_use(model, PS_PRIORITY_DEFAULT, 5000);
		if (status == PS_OK)
			return;
	} while (status != PS_PROTOCOL && th_now_ns() < end);
	th_assert_ok(status);
}

static void take_turn(const struct turns *turns, unsigned int which,
		      CUstream stream)
{
	struct th_copy copy;

	th_copy_init(&copy, turns->gpu, both[which]);
	use_patiently(turns->attached[which]);
	th_copy_submit(&copy, turns->attached[which], stream);
	th_assert_ok(ps_model_release(turns->attached[which], stream));
	th_cu(turns->gpu->driver->cuStreamSynchronize(stream));
	assert_true(th_copy_is_right(&copy));
	th_copy_done(&copy);
}

static void *take_turns(void *arg)
{
	const struct turns *turns = arg;
	CUstream stream;

	th_cu(turns->gpu->driver->cuCtxSetCurrent(turns->gpu->context));
	stream = th_gpu_stream(turns->gpu, CU_STREAM_NON_BLOCKING);
	for (unsigned int i = 0; i < TURNS; i++)
		take_turn(turns, (i + turns->number) % 2, stream);
	return NULL;
}

static void work(int link)
{
	struct ps_pool *pool = th_attach_name("threads");
	const struct th_gpu *gpu = th_gpu_open();
	struct turns turns[THREADS];
	struct ps_model *attached[2];

	for (unsigned int i = 0; i < 2; i++)
		attached[i] = th_model_attach(pool, both[i]);
	th_tell(link);
	for (unsigned int i = 0; i < THREADS; i++) {
		turns[i] = (struct turns){ .gpu = gpu,
					   .attached = { attached[0],
							 attached[1] },
					   .number = i };
		pthread_create(&turns[i].thread, NULL, take_turns, &turns[i]);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(turns[i].thread, NULL);
	for (unsigned int i = 0; i < 2; i++)
		th_assert_ok(ps_model_detach(attached[i]));
	th_assert_ok(ps_detach(pool));
}

struct stage {
	struct th_daemon daemon;
	struct th_client client;
};

static void open_stage(struct stage *stage, void (*run)(int link))
{
	th_daemon_start(&stage->daemon, NULL);
	th_model_add(&alpha);
	th_model_add(&beta);
	th_client_start(&stage->client, run);
	th_await(stage->client.link);
}

static void close_stage(struct stage *stage)
{
	th_client_finish(&stage->client);
	th_models_remove(both, 2);
	th_daemon_stop(&stage->daemon);
}

static void test_models_threads_of_one_worker_take_turns(void **state)
{
	struct stage stage;

	(void)state;
	open_stage(&stage, work);
	close_stage(&stage);
}

static void test_models_threads_outlive_the_agent(void **state)
{
	struct stage stage;

	(void)state;
	open_stage(&stage, work);
	for (int i = 0; i < 3; i++) {
		usleep(100000);
		th_daemon_kill_agent(&stage.daemon);
	}
	close_stage(&stage);
}

/* ---- while one waits for room ---- */

struct waiter {
	struct ps_model *model;
	pthread_t thread;
	enum ps_status status;
	_Atomic bool is_done;
};

static void *wait_for_room(void *arg)
{
	struct waiter *waiter = arg;

	waiter->status =
		ps_model_use(waiter->model, PS_PRIORITY_DEFAULT, 30000);
	atomic_store(&waiter->is_done, true);
	return NULL;
}

/* Longer than a thread keeps the others from the daemon. */
static void hold_and_talk(int link)
{
	struct ps_pool *pool = th_attach_name("patient");
	struct ps_model *held = th_model_attach(pool, &alpha);
	struct waiter waiter = { .model = th_model_attach(pool, &beta) };
	uint64_t end, released;
	unsigned int talks = 0;

	th_tell(link);
	th_model_use(held);
	pthread_create(&waiter.thread, NULL, wait_for_room, &waiter);
	end = th_now_ns() + UINT64_C(2500000000);
	while (th_now_ns() < end) {
		th_assert_ok(ps_mem_free(pool, th_alloc(pool, MIB)));
		th_assert_ok(ps_mem_trim(pool, 0, &released));
		talks++;
		assert_false(atomic_load(&waiter.is_done));
	}
	th_assert_ok(ps_model_release(held, PS_STREAM_DONE));
	pthread_join(waiter.thread, NULL);
	assert_true(talks > 1);
	th_assert_ok(waiter.status);
	th_assert_ok(ps_model_release(waiter.model, PS_STREAM_DONE));
	th_assert_ok(ps_detach(pool));
}

static void test_models_thread_that_waits_lets_others_ask(void **state)
{
	struct stage stage;

	(void)state;
	open_stage(&stage, hold_and_talk);
	close_stage(&stage);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_models_threads_of_one_worker_take_turns),
	TH_DAEMON_TEST(test_models_threads_outlive_the_agent),
	TH_DAEMON_TEST(test_models_thread_that_waits_lets_others_ask),
};

TH_GPU_MAIN("models_threads", tests, NULL)
