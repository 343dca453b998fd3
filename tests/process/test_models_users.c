/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Models of several users: who finds them, who may order what, and that no
 * user reads what another's private model left in the region. Other users are
 * children of root that became them: without root these tests are skipped.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/models.h"

#define ALICE 65533u
#define BOB 65532u
#define MIB ((size_t)1 << 20)

static const char *const open_socket[] = { "--socket-mode", "666", NULL };

static const struct th_model hers = {
	.name = "hers", .seed = 1, .tensors = 8, .bytes = 5 * MIB
};
static const struct th_model his = {
	.name = "his", .seed = 2, .tensors = 8, .bytes = 5 * MIB
};
static const struct th_model everybodys = { .name = "everybodys",
					    .seed = 3,
					    .tensors = 8,
					    .bytes = 5 * MIB,
					    .flags = PS_MODEL_PUBLIC };
static const struct th_model *const all[] = { &hers, &his, &everybodys };

/* ---- children ---- */

/* Where the test has written it. */
static void add(const struct th_model *model)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s.safetensors", th_temp_dir(),
		 model->name);
	th_assert_ok(th_model_try_add_file(model, path));
}

static void run(const struct th_model *model)
{
	struct ps_pool *pool = th_attach();
	const struct th_gpu *gpu = th_gpu_open();
	CUstream stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);

	th_model_run(th_model_attach(pool, model), model, gpu, stream);
	th_assert_ok(ps_detach(pool));
}

static void expect_hidden(const struct th_model *model)
{
	struct ps_pool *pool = th_attach();
	struct ps_model *attached;

	th_assert_status(ps_model_attach(pool, model->name, NULL, &attached),
			 PS_NO_MODEL);
	th_assert_ok(ps_detach(pool));
}

static void add_and_run_hers(int link)
{
	(void)link;
	th_become(ALICE);
	add(&hers);
	run(&hers);
}

static void add_and_run_his(int link)
{
	(void)link;
	th_become(BOB);
	add(&his);
	run(&his);
}

static void add_everybodys(int link)
{
	(void)link;
	th_become(ALICE);
	add(&everybodys);
}

static void look_for_hers_as_bob(int link)
{
	(void)link;
	th_become(BOB);
	expect_hidden(&hers);
	assert_int_not_equal(th_model_try_order(&hers, PS_MODEL_LOAD), PS_OK);
	assert_int_not_equal(th_model_try_order(&hers, PS_MODEL_EVICT), PS_OK);
	assert_int_not_equal(th_model_try_order(&hers, PS_MODEL_REMOVE), PS_OK);
}

static void use_everybodys_as_bob(int link)
{
	(void)link;
	th_become(BOB);
	run(&everybodys);
	th_model_order(&everybodys, PS_MODEL_LOAD);
	th_assert_status(th_model_try_order(&everybodys, PS_MODEL_EVICT),
			 PS_PERMISSION);
	th_assert_status(th_model_try_order(&everybodys, PS_MODEL_PIN),
			 PS_PERMISSION);
	th_assert_status(th_model_try_order(&everybodys, PS_MODEL_REMOVE),
			 PS_PERMISSION);
}

static void run_hers_as_root(int link)
{
	(void)link;
	run(&hers);
}

/* All of the region, by segments that no model is in. */
static enum ps_status map_region(void)
{
	struct ps_pool *pool = th_attach();
	enum ps_status status =
		ps_pool_map(pool, 0, TH_DAEMON_PARAMETERS * TH_DAEMON_SEGMENT);

	th_assert_ok(ps_detach(pool));
	return status;
}

static void map_region_as_bob(int link)
{
	(void)link;
	th_become(BOB);
	th_assert_status(map_region(), PS_REFUSED);
}

static void map_region_as_alice(int link)
{
	(void)link;
	th_become(ALICE);
	th_assert_ok(map_region());
}

/* ---- the tests ---- */

static void start(struct th_daemon *daemon)
{
	if (geteuid() != 0)
		th_skip("only root can become another user");
	th_daemon_start(daemon,
			&(struct th_daemon_plan){ .options = open_socket });
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(access(th_model_write(all[i]), F_OK), 0);
	th_open_to_all();
}

static void play(void (*run_it)(int link))
{
	struct th_client client;

	th_client_start(&client, run_it);
	assert_int_equal(th_client_wait(&client), 0);
}

static void test_models_private_are_their_users(void **state)
{
	struct th_daemon daemon;

	(void)state;
	start(&daemon);
	play(add_and_run_hers);
	play(look_for_hers_as_bob);
	play(run_hers_as_root);
	th_models_remove(&all[0], 1);
	th_daemon_stop(&daemon);
}

static void test_models_public_are_used_by_all(void **state)
{
	struct th_daemon daemon;

	(void)state;
	start(&daemon);
	play(add_everybodys);
	play(use_everybodys_as_bob);
	th_models_remove(&all[2], 1);
	th_daemon_stop(&daemon);
}

/* Each takes the other's segments. */
static void test_models_of_two_users_follow_each_other(void **state)
{
	struct th_daemon daemon;

	(void)state;
	start(&daemon);
	play(add_and_run_hers);
	play(add_and_run_his);
	play(add_and_run_hers);
	play(add_everybodys);
	play(use_everybodys_as_bob);
	th_models_remove(all, 3);
	th_daemon_stop(&daemon);
}

/* Nobody else had a model there before. */
static void test_models_left_behind_are_for_their_user_only(void **state)
{
	struct th_daemon daemon;

	(void)state;
	start(&daemon);
	play(add_and_run_hers);
	th_model_order(&hers, PS_MODEL_EVICT);
	play(map_region_as_bob);
	play(map_region_as_alice);
	th_models_remove(&all[0], 1);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_models_private_are_their_users),
	TH_DAEMON_TEST(test_models_public_are_used_by_all),
	TH_DAEMON_TEST(test_models_of_two_users_follow_each_other),
	TH_DAEMON_TEST(test_models_left_behind_are_for_their_user_only),
};

TH_MAIN("models_users", tests)
