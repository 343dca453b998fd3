/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The loader when all goes well: poold/store/loader*.c. */
#include "tests/support/loader_world.h"

/* ---- a load ---- */

static void load_one(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(3, 5, 5 * 256 * 1024, 1);
	struct pd_load_done done;

	(void)arg;
	assert_int_equal(lw_counter(&world, 3), 0);
	done = lw_load(&world, model);
	th_assert_ok(done.status);
	assert_string_equal(done.text, "");
	assert_int_equal(done.bytes, model->load.bytes);
	assert_int_equal(lw_counter(&world, 3), 5);
	assert_int_equal(lw_landed(&world, 3), 5);
	assert_int_equal(lw_failed(&world, 3), 0);
	assert_true(lw_is_there(&world, model, 0, model->load.bytes));
	assert_false(pd_loader_take(world.loader, &done));
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_load_brings_every_byte(void **state)
{
	IN_CHILD(load_one);
}

static void load_over_segments(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(0, 3, 3 * SEGMENT, 3);

	(void)arg;
	/* The second tensor lies across two segments' ends. */
	model->tensors[0].bytes = SEGMENT / 2;
	model->tensors[1].offset = SEGMENT / 2;
	model->tensors[1].bytes = 2 * SEGMENT;
	model->tensors[2].offset = 2 * SEGMENT + SEGMENT / 2;
	model->tensors[2].bytes = SEGMENT / 2;
	th_assert_ok(lw_load(&world, model).status);
	assert_true(lw_is_there(&world, model, 0, model->load.bytes));
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_group_crosses_segments_ends(void **state)
{
	IN_CHILD(load_over_segments);
}

/* Each counts its own, at its own place. */
static void load_two(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *one = lw_model_new(0, 4, 4096, 0);
	struct lw_model *two = lw_model_new(IP_MODELS_MAX - 1, 7, 7 * 512, 1);

	(void)arg;
	th_assert_ok(lw_load(&world, one).status);
	th_assert_ok(lw_load(&world, two).status);
	assert_int_equal(lw_counter(&world, 0), 4);
	assert_int_equal(lw_counter(&world, 1), 0);
	assert_int_equal(lw_counter(&world, IP_MODELS_MAX - 1), 7);
	assert_int_equal(pd_board_counter(world.loader, 5) -
				 pd_board_counter(world.loader, 4),
			 IP_BOARD_STRIDE);
	lw_free(&world);
	lw_model_free(one);
	lw_model_free(two);
}

static void test_loader_models_have_counters_of_their_own(void **state)
{
	IN_CHILD(load_two);
}

/* How many words one load writes. */
static unsigned long count_groups(struct lw *world, struct lw_model *model,
				  enum ps_model_plan plan, uint32_t groups)
{
	const char *call = "cuStreamWriteValue32_v2";
	const unsigned long before = th_sim_calls(call);
	unsigned long written;

	model->load.plan = plan;
	model->load.groups = groups;
	th_assert_ok(lw_load(world, model).status);
	written = th_sim_calls(call) - before;
	assert_int_equal(lw_counter(world, model->load.model), 12);
	lw_reset(world, model->load.model);
	return written;
}

static void load_planned(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(2, 12, 12 * 65536, 0);
	unsigned long best;

	(void)arg;
	for (uint32_t i = 0; i < 12; i++)
		model->tensors[i].name = i < 4 ? "first.w" : "second.w";
	assert_int_equal(count_groups(&world, model, PS_PLAN_TENSOR, 0), 12);
	assert_int_equal(count_groups(&world, model, PS_PLAN_LAYER, 0), 2);
	assert_int_equal(count_groups(&world, model, PS_PLAN_ONE, 0), 1);
	assert_int_equal(count_groups(&world, model, PS_PLAN_GROUPS, 5), 5);
	/* A group costs nearly nothing, computing as much as travelling. */
	world.loader->wire = (struct md_wire){ 1.0, 1.0 };
	best = count_groups(&world, model, PS_PLAN_BEST, 0);
	assert_true(best > 5);
	/* A group costs more than everything together. */
	world.loader->wire = (struct md_wire){ 1.0, 1e9 };
	assert_int_equal(count_groups(&world, model, PS_PLAN_BEST, 0), 1);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_travels_in_the_groups_of_the_plan(void **state)
{
	IN_CHILD(load_planned);
}

/* The costs are what the plan is made from. */
static void load_with_costs(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(2, 12, 12 * 65536, 0);
	uint32_t costs[12] = { 0 };

	(void)arg;
	world.loader->wire = (struct md_wire){ 1.0, 10000.0 };
	model->load.compute_ns = costs;
	/* Nothing computes: nothing is won by a second group. */
	assert_int_equal(count_groups(&world, model, PS_PLAN_BEST, 0), 1);
	for (int i = 0; i < 12; i++)
		costs[i] = 65536;
	assert_true(count_groups(&world, model, PS_PLAN_BEST, 0) > 1);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_plans_with_what_computing_costs(void **state)
{
	IN_CHILD(load_with_costs);
}

static void load_nothing(void *arg)
{
	struct lw world = lw_new();
	struct pd_load_model load = { .model = 9, .serial = 1 };
	struct md_tensor empty[2] = { { .name = "a" }, { .name = "b" } };
	struct pd_load_done done;

	(void)arg;
	pd_loader_copy(world.loader, &load);
	done = lw_done(&world);
	th_assert_ok(done.status);
	assert_int_equal(done.bytes, 0);
	load.model = 10;
	load.tensors = empty;
	load.count = 2;
	pd_loader_copy(world.loader, &load);
	th_assert_ok(lw_done(&world).status);
	assert_int_equal(lw_counter(&world, 10), 2);
	assert_int_equal(lw_landed(&world, 10), 2);
	lw_free(&world);
}

static void test_loader_model_without_bytes_is_loaded_at_once(void **state)
{
	IN_CHILD(load_nothing);
}

/* ---- resets ---- */

static void reset_one(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(3, 5, 5 * 4096, 1);

	(void)arg;
	th_assert_ok(lw_load(&world, model).status);
	lw_reset(&world, 3);
	assert_int_equal(lw_counter(&world, 3), 0);
	assert_int_equal(lw_landed(&world, 3), 0);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_reset_sets_counter_and_page_to_none(void **state)
{
	IN_CHILD(reset_one);
}

/* As in a switch: the room is the victim's. */
static void reset_and_load(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *victim = lw_model_new(1, 4, SEGMENT, 2);
	struct lw_model *next = lw_model_new(2, 8, SEGMENT, 2);

	(void)arg;
	th_assert_ok(lw_load(&world, victim).status);
	pd_loader_reset(world.loader, 1, 7);
	pd_loader_copy(world.loader, &next->load);
	assert_int_equal(lw_done(&world).job, PD_LOAD_RESET);
	assert_int_equal(lw_counter(&world, 1), 0);
	th_assert_ok(lw_done(&world).status);
	assert_true(lw_is_there(&world, next, 0, SEGMENT));
	lw_reset(&world, 2);
	th_assert_ok(lw_load(&world, victim).status);
	assert_true(lw_is_there(&world, victim, 0, SEGMENT));
	assert_int_equal(lw_counter(&world, 1), 4);
	lw_free(&world);
	lw_model_free(victim);
	lw_model_free(next);
}

static void test_loader_reset_comes_before_the_next_load(void **state)
{
	IN_CHILD(reset_and_load);
}

/* ---- resuming ---- */

/* The agent dies when so many have landed; the next one has the board. */
static void resume(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(6, 10, 10 * 4096, 1);
	const uint32_t landed = 4;
	struct pd_load_done done;
	int board;

	(void)arg;
	th_assert_ok(dv_copy_in(world.gpu->device,
				pd_board_counter(world.loader, 6), &landed,
				sizeof(landed)));
	board = dup(pd_loader_board(world.loader));
	pd_loader_free(world.loader);
	lw_start_loader(&world, board);
	close(board);
	done = lw_load(&world, model);
	th_assert_ok(done.status);
	assert_int_equal(done.bytes, 6 * 4096);
	assert_int_equal(lw_counter(&world, 6), 10);
	assert_true(lw_is_there(&world, model, 4 * 4096, 10 * 4096));
	assert_false(lw_is_there(&world, model, 3 * 4096, 4 * 4096));
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_goes_on_where_the_counter_is(void **state)
{
	IN_CHILD(resume);
}

static void resume_in_a_group(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(6, 10, 10 * 4096, 1);
	const uint32_t landed = 4;

	(void)arg;
	th_assert_ok(dv_copy_in(world.gpu->device,
				pd_board_counter(world.loader, 6), &landed,
				sizeof(landed)));
	world.loader->counter[6] = landed;
	model->load.plan = PS_PLAN_ONE;
	assert_int_equal(lw_load(&world, model).bytes, 6 * 4096);
	assert_int_equal(lw_landed(&world, 6), 10);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_goes_on_in_the_middle_of_a_group(void **state)
{
	IN_CHILD(resume_in_a_group);
}

static void resume_at_the_end(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(6, 10, 10 * 4096, 1);

	(void)arg;
	th_assert_ok(lw_load(&world, model).status);
	assert_int_equal(lw_load(&world, model).bytes, 0);
	assert_int_equal(lw_counter(&world, 6), 10);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_copies_nothing_when_all_has_landed(void **state)
{
	IN_CHILD(resume_at_the_end);
}

/* ---- memory, the wire, life ---- */

static void register_memory(void *arg)
{
	struct lw world = lw_new();
	uint8_t *memory = mmap(NULL, SEGMENT, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct pd_load_done done;

	(void)arg;
	pd_loader_register(world.loader, 1, 2, memory, SEGMENT);
	done = lw_done(&world);
	assert_int_equal(done.job, PD_LOAD_REGISTER);
	assert_int_equal(done.model, 1);
	assert_int_equal(done.serial, 2);
	th_assert_ok(done.status);
	assert_int_equal(
		dv_host_register(world.gpu->device, memory, SEGMENT, false),
		PS_DRIVER);
	pd_loader_unregister(world.loader, 1, 2, memory, SEGMENT);
	done = lw_done(&world);
	assert_int_equal(done.job, PD_LOAD_UNREGISTER);
	th_assert_ok(done.status);
	th_assert_ok(
		dv_host_register(world.gpu->device, memory, SEGMENT, false));
	lw_free(&world);
}

static void test_loader_registers_and_unregisters_memory(void **state)
{
	IN_CHILD(register_memory);
}

static void look_at_wire(void *arg)
{
	struct lw world;
	struct md_wire wire;

	(void)arg;
	/* 1 GB/s is a byte a nanosecond: no copy is faster. */
	setenv("POOLSWITCH_SIM_BANDWIDTH", "1", 1);
	world = lw_new();
	wire = pd_loader_wire(world.loader);
	assert_true(wire.bytes_per_ns > 0.3 && wire.bytes_per_ns < 1.1);
	assert_true(wire.group_ns >= 0 && wire.group_ns < 5e6);
	/* The counters are as they were. */
	for (uint32_t i = 0; i < IP_MODELS_MAX; i += 31)
		assert_int_equal(lw_counter(&world, i), 0);
	lw_free(&world);
}

static void test_loader_measures_the_wire(void **state)
{
	IN_CHILD(look_at_wire);
}

static void count_memory(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(3, 8, 2 * SEGMENT, 2);
	unsigned long made;
	uint64_t before;

	(void)arg;
	before = free_of(world.gpu);
	made = th_sim_calls("cuMemCreate") + th_sim_calls("cuMemMap") +
	       th_sim_calls("cuMemUnmap");
	for (int i = 0; i < 3; i++) {
		th_assert_ok(lw_load(&world, model).status);
		lw_reset(&world, 3);
	}
	assert_int_equal(th_sim_calls("cuMemCreate") +
				 th_sim_calls("cuMemMap") +
				 th_sim_calls("cuMemUnmap"),
			 made);
	assert_int_equal(free_of(world.gpu), before);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_load_makes_no_gpu_memory(void **state)
{
	IN_CHILD(count_memory);
}

/* The board is gone with the loader, and its descriptor's owner. */
static void free_board(void *arg)
{
	struct lw world = lw_new();
	uint64_t before = free_of(world.gpu);
	int board = dup(pd_loader_board(world.loader));

	(void)arg;
	pd_loader_free(world.loader);
	assert_int_equal(free_of(world.gpu), before);
	close(board);
	assert_int_equal(free_of(world.gpu), before + IP_BOARD_BYTES);
	world.loader = NULL;
	lw_free(&world);
}

static void test_loader_board_lives_as_long_as_its_descriptor(void **state)
{
	IN_CHILD(free_board);
}

static const struct th_test tests[] = {
	TH_TEST(test_loader_load_brings_every_byte),
	TH_TEST(test_loader_group_crosses_segments_ends),
	TH_TEST(test_loader_models_have_counters_of_their_own),
	TH_TEST(test_loader_travels_in_the_groups_of_the_plan),
	TH_TEST(test_loader_plans_with_what_computing_costs),
	TH_TEST(test_loader_model_without_bytes_is_loaded_at_once),
	TH_TEST(test_loader_reset_sets_counter_and_page_to_none),
	TH_TEST(test_loader_reset_comes_before_the_next_load),
	TH_TEST(test_loader_goes_on_where_the_counter_is),
	TH_TEST(test_loader_goes_on_in_the_middle_of_a_group),
	TH_TEST(test_loader_copies_nothing_when_all_has_landed),
	TH_TEST(test_loader_registers_and_unregisters_memory),
	TH_TEST(test_loader_measures_the_wire),
	TH_TEST(test_loader_load_makes_no_gpu_memory),
	TH_TEST(test_loader_board_lives_as_long_as_its_descriptor),
};

TH_MAIN_WARM("loader", tests, small_gpu)
