/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A worker of the demo, with a controller that makes one mistake. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "demo/data.h"
#include "demo/manifest.h"
#include "tests/support/pools.h"

struct scene {
	int socket; /* to the worker */
	pid_t worker;
	struct ps_pool *pool;
	struct dm_model model;
	void *weights; /* a block for the model */
	struct dm_message message;
};

static const char *data_folder(void)
{
	static char folder[4096];

	snprintf(folder, sizeof(folder), "%s",
		 th_program("../../demo/poolswitch-demo"));
	*strrchr(folder, '/') = '\0';
	return folder;
}

/* A worker that has the pool and waits for a manifest of "mlp", which lies
 * in scene->message. */
static void begin(struct scene *scene)
{
	char socket[16];
	int pair[2];
	const char *argv[] = { th_program("../../demo/poolswitch-demo"),
			       "--worker",
			       socket,
			       "0",
			       NULL,
			       data_folder(),
			       NULL };

	*scene = (struct scene){ 0 };
	scene->pool = th_reserve();
	th_assert_ok(ps_insert_region(scene->pool, PS_REGION_PARAMETER,
				      PS_ANY_STREAM, 0));
	th_socketpair(SOCK_SEQPACKET, pair);
	snprintf(socket, sizeof(socket), "%d", pair[1]);
	argv[4] = ps_pool_gpu(scene->pool);
	scene->worker = th_spawn(argv, pair[1]);
	scene->socket = pair[0];
	close(pair[1]);
	th_assert_ok(dm_receive(pair[0], DM_READY, &scene->message));
	th_assert_ok(dm_send_kind(pair[0], DM_ATTACH));
	th_assert_ok(
		ps_send_shared(scene->pool, pair[0], 0, PS_TIMEOUT_DEFAULT));
	th_assert_ok(dm_model_open(data_folder(), "mlp", &scene->model));
	th_assert_ok(ps_mem_alloc(scene->pool, scene->model.layout.bytes,
				  &scene->weights));
	memset(&scene->message, 0, sizeof(scene->message));
	scene->message.kind = DM_MANIFEST;
	th_assert_ok(dm_manifest_make(
		0,
		(uint64_t)((char *)scene->weights -
			   (char *)ps_pool_pointer(scene->pool, 0)),
		&scene->model.layout, &scene->message.manifest));
}

static void end(struct scene *scene, int exit_status)
{
	close(scene->socket);
	assert_int_equal(th_wait(scene->worker), exit_status);
	dm_model_close(&scene->model);
	ps_pool_close(scene->pool);
}

/* The worker answers what it was sent with @status, and ends. */
static void expect_refusal(struct scene *scene, enum ps_status status)
{
	th_assert_ok(dm_send(scene->socket, &scene->message));
	th_assert_status(dm_receive(scene->socket, 0, &scene->message), status);
	end(scene, EXIT_FAILURE);
}

static void play_right(void *unused)
{
	struct scene scene;

	(void)unused;
	begin(&scene);
	th_assert_ok(dm_send(scene.socket, &scene.message));
	th_assert_ok(dm_receive(scene.socket, DM_ANSWER, &scene.message));
	end(&scene, EXIT_FAILURE); /* no FINISH came */
}

/* The names, shapes and sizes are right; one tensor lies elsewhere. */
static void play_other_layout(void *unused)
{
	struct md_layout *layout;
	struct scene scene;

	(void)unused;
	begin(&scene);
	layout = &scene.model.layout;
	layout->tensors[1].offset = 0;
	layout->hash = md_layout_hash(layout->tensors, layout->count);
	th_assert_ok(dm_manifest_make(0, scene.message.manifest.pool_offset,
				      layout, &scene.message.manifest));
	expect_refusal(&scene, PS_REFUSED);
}

static void play_outside(void *unused)
{
	struct scene scene;

	(void)unused;
	begin(&scene);
	scene.message.manifest.pool_offset = TH_PARAMETERS * TH_SEGMENT;
	expect_refusal(&scene, PS_REFUSED);
}

static void play_no_such_model(void *unused)
{
	struct scene scene;

	(void)unused;
	begin(&scene);
	scene.message.manifest.model = DM_MODELS;
	expect_refusal(&scene, PS_REFUSED);
}

static void play_run_too_early(void *unused)
{
	struct scene scene;

	(void)unused;
	begin(&scene);
	memset(&scene.message, 0, sizeof(scene.message));
	scene.message.kind = DM_RUN;
	scene.message.run.count = 1;
	expect_refusal(&scene, PS_REFUSED);
}

static void play_run_beyond_images(void *unused)
{
	struct scene scene;

	(void)unused;
	begin(&scene);
	th_assert_ok(dm_send(scene.socket, &scene.message));
	th_assert_ok(dm_receive(scene.socket, DM_ANSWER, &scene.message));
	memset(&scene.message, 0, sizeof(scene.message));
	scene.message.kind = DM_RUN;
	scene.message.run.first = 597;
	scene.message.run.count = 1;
	expect_refusal(&scene, PS_REFUSED);
}

static void play_unknown_message(void *unused)
{
	struct scene scene;

	(void)unused;
	begin(&scene);
	scene.message.kind = 99;
	expect_refusal(&scene, PS_PROTOCOL);
}

static void play_cut_message(void *unused)
{
	struct scene scene;

	(void)unused;
	begin(&scene);
	assert_int_equal(send(scene.socket, &scene.message, 10, 0), 10);
	th_assert_status(dm_receive(scene.socket, 0, &scene.message),
			 PS_PROTOCOL);
	end(&scene, EXIT_FAILURE);
}

/* The controller is a process of its own: CUDA starts in it. */
static void play(void (*scene)(void *unused))
{
	assert_int_equal(th_wait(th_fork(scene, NULL)), 0);
}

#define PLAY(test, scene)                                                      \
	static void test(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		play(scene);                                                   \
	}

PLAY(test_demo_worker_right_manifest_is_accepted, play_right)
PLAY(test_demo_worker_other_layout_is_refused, play_other_layout)
PLAY(test_demo_worker_place_outside_region_is_refused, play_outside)
PLAY(test_demo_worker_unknown_model_is_refused, play_no_such_model)
PLAY(test_demo_worker_run_without_manifest_is_refused, play_run_too_early)
PLAY(test_demo_worker_images_beyond_end_are_refused, play_run_beyond_images)
PLAY(test_demo_worker_unknown_message_is_refused, play_unknown_message)
PLAY(test_demo_worker_cut_message_is_refused, play_cut_message)

static const struct th_test tests[] = {
	TH_TEST(test_demo_worker_right_manifest_is_accepted),
	TH_TEST(test_demo_worker_other_layout_is_refused),
	TH_TEST(test_demo_worker_place_outside_region_is_refused),
	TH_TEST(test_demo_worker_unknown_model_is_refused),
	TH_TEST(test_demo_worker_run_without_manifest_is_refused),
	TH_TEST(test_demo_worker_images_beyond_end_are_refused),
	TH_TEST(test_demo_worker_unknown_message_is_refused),
	TH_TEST(test_demo_worker_cut_message_is_refused),
};

TH_MAIN("demo_worker", tests)
