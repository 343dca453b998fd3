/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What comes before what in the loader: copies and counters, priorities. */
#include "device/internal.h"
#include "tests/support/loader_world.h"

#define GROUP (256 * 1024)

/* ---- the counter, as whoever computes sees it ---- */

/* Has a stream take each tensor's last word as soon as the counter has it. */
static void watch(struct lw *world, const struct lw_model *model, void *stream,
		  uint32_t *words)
{
	struct dv_device *dev = world->gpu->device;
	const struct dv_driver *driver;

	th_assert_ok(dv_driver_get(&driver));
	th_cu(driver->cuCtxSetCurrent(dev->context));
	th_assert_ok(dv_host_register(dev, words, SEGMENT, false));
	for (uint32_t i = 0; i < model->load.count; i++) {
		const uint64_t end =
			model->tensors[i].offset + model->tensors[i].bytes - 4;

		th_assert_ok(dv_wait_word(
			dev, pd_board_counter(world->loader, model->load.model),
			i + 1, stream));
		th_cu(driver->cuMemcpyDtoHAsync_v2(
			&words[i],
			pd_gpu_segment_address(world->gpu,
					       model->segment[end / SEGMENT]) +
				end % SEGMENT,
			4, stream));
	}
}

static void watch_load(enum ps_model_plan plan, uint32_t groups)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(1, 12, 12 * GROUP, 1);
	uint32_t *words = mmap(NULL, SEGMENT, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *stream;

	model->load.plan = plan;
	model->load.groups = groups;
	th_assert_ok(dv_stream_create(world.gpu->device, &stream));
	watch(&world, model, stream, words);
	th_assert_ok(lw_load(&world, model).status);
	th_assert_ok(dv_stream_wait(world.gpu->device, stream));
	for (uint32_t i = 0; i < 12; i++)
		assert_int_equal(words[i],
				 lw_word(1, (uint64_t)(i + 1) * GROUP - 4));
	dv_stream_destroy(world.gpu->device, stream);
	lw_free(&world);
	lw_model_free(model);
}

static void watch_tensors(void *arg)
{
	(void)arg;
	setenv("POOLSWITCH_SIM_BANDWIDTH", "1", 1);
	watch_load(PS_PLAN_TENSOR, 0);
}

static void test_loader_counter_is_never_ahead_of_tensors(void **state)
{
	IN_CHILD(watch_tensors);
}

static void watch_groups(void *arg)
{
	(void)arg;
	setenv("POOLSWITCH_SIM_BANDWIDTH", "1", 1);
	watch_load(PS_PLAN_GROUPS, 5);
}

static void test_loader_counter_is_never_ahead_of_groups(void **state)
{
	IN_CHILD(watch_groups);
}

/* As in a switch, with the counter as it is after the last load. */
static void watch_second_load(void *arg)
{
	struct lw world;
	struct lw_model *model;
	void *stream;

	(void)arg;
	setenv("POOLSWITCH_SIM_BANDWIDTH", "1", 1);
	world = lw_new();
	model = lw_model_new(1, 12, 12 * GROUP, 1);
	th_assert_ok(lw_load(&world, model).status);
	lw_reset(&world, 1);
	th_assert_ok(dv_stream_create(world.gpu->device, &stream));
	th_assert_ok(dv_wait_word(world.gpu->device,
				  pd_board_counter(world.loader, 1), 1,
				  stream));
	pd_loader_copy(world.loader, &model->load);
	th_assert_ok(dv_stream_wait(world.gpu->device, stream));
	assert_true(lw_is_there(&world, model, 0, GROUP));
	th_assert_ok(lw_done(&world).status);
	dv_stream_destroy(world.gpu->device, stream);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_counter_begins_anew_after_a_reset(void **state)
{
	IN_CHILD(watch_second_load);
}

/* ---- the page ---- */

/* Looks at page and counter while the load runs. */
static void compare_page(void *arg)
{
	struct lw world;
	struct lw_model *model;
	struct pd_load_done done;
	uint32_t landed, seen = 0;

	(void)arg;
	setenv("POOLSWITCH_SIM_BANDWIDTH", "1", 1);
	world = lw_new();
	model = lw_model_new(1, 24, 24 * GROUP, 3);
	pd_loader_copy(world.loader, &model->load);
	do {
		landed = lw_landed(&world, 1);
		assert_true(landed <= lw_counter(&world, 1));
		assert_true(landed >= seen);
		if (landed > 0 && landed < 24)
			assert_true(lw_is_there(&world, model, 0,
						(uint64_t)landed * GROUP));
		seen = landed;
	} while (landed < 24);
	done = lw_done(&world);
	th_assert_ok(done.status);
	assert_true(done.ns > 24 * GROUP / 2);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_page_never_says_more_than_the_counter(void **state)
{
	IN_CHILD(compare_page);
}

static uint64_t gate_of(struct lw *world)
{
	return world->loader->board + IP_BOARD_BYTES - 4;
}

/* What is submitted behind it stays under way. */
static void close_gate(struct lw *world)
{
	const uint32_t closed = 0;

	th_assert_ok(dv_copy_in(world->gpu->device, gate_of(world), &closed,
				sizeof(closed)));
	th_assert_ok(dv_wait_word(world->gpu->device, gate_of(world), 1,
				  world->loader->stream));
}

static void open_gate(struct lw *world)
{
	const uint32_t open = 1;

	th_assert_ok(dv_copy_in(world->gpu->device, gate_of(world), &open,
				sizeof(open)));
}

static void look_at_reset(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(1, 4, 4 * GROUP, 1);

	(void)arg;
	th_assert_ok(lw_load(&world, model).status);
	close_gate(&world);
	pd_loader_reset(world.loader, 1, 7);
	/* The page falls while the counter cannot yet. */
	while (lw_landed(&world, 1) != 0)
		;
	assert_int_equal(lw_counter(&world, 1), 4);
	open_gate(&world);
	assert_int_equal(lw_done(&world).job, PD_LOAD_RESET);
	assert_int_equal(lw_counter(&world, 1), 0);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_page_falls_before_the_counter(void **state)
{
	IN_CHILD(look_at_reset);
}

/* Both are asked for while the thread waits for something else. */
static void load_behind_reset(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(1, 4, 4 * GROUP, 1);
	const unsigned long before = th_sim_calls("cuEventSynchronize");

	(void)arg;
	th_assert_ok(lw_load(&world, model).status);
	close_gate(&world);
	pd_loader_reset(world.loader, 9, 7);
	while (th_sim_calls("cuEventSynchronize") < before + 2)
		;
	pd_loader_reset(world.loader, 1, 7);
	pd_loader_copy(world.loader, &model->load);
	open_gate(&world);
	assert_int_equal(lw_done(&world).model, 9);
	assert_int_equal(lw_done(&world).job, PD_LOAD_RESET);
	assert_int_equal(lw_done(&world).bytes, 4 * GROUP);
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_load_right_behind_its_reset_is_whole(void **state)
{
	IN_CHILD(load_behind_reset);
}

/* Nothing is done as long as its copies cannot run. */
static void load_behind_gate(void *arg)
{
	struct lw world = lw_new();
	struct lw_model *model = lw_model_new(1, 4, 4 * GROUP, 1);
	struct pollfd event = { .fd = pd_loader_event(world.loader),
				.events = POLLIN };

	(void)arg;
	close_gate(&world);
	pd_loader_copy(world.loader, &model->load);
	assert_int_equal(poll(&event, 1, TH_NOT_HAPPENING_MS), 0);
	assert_int_equal(lw_landed(&world, 1), 0);
	open_gate(&world);
	th_assert_ok(lw_done(&world).status);
	assert_true(lw_is_there(&world, model, 0, 4 * GROUP));
	lw_free(&world);
	lw_model_free(model);
}

static void test_loader_load_is_done_when_all_has_landed(void **state)
{
	IN_CHILD(load_behind_gate);
}

/* ---- who goes first ---- */

struct three {
	struct lw world;
	struct lw_model *model[3];
};

/* Three loads of six groups, of these priorities; a group of the first is
 * under way when the others are asked for. */
static struct three begin_three(uint32_t first, uint32_t second, uint32_t third)
{
	const uint32_t priority[3] = { first, second, third };
	struct three three = { .world = lw_new() };
	const unsigned long before = th_sim_calls("cuStreamWriteValue32_v2");

	three.world.loader->most_under_way = 1;
	close_gate(&three.world);
	for (uint32_t i = 0; i < 3; i++) {
		three.model[i] = lw_model_new(i, 6, 6 * GROUP, i);
		three.model[i]->load.priority = priority[i];
		pd_loader_copy(three.world.loader, &three.model[i]->load);
		while (th_sim_calls("cuStreamWriteValue32_v2") == before)
			;
	}
	return three;
}

static void end_three(struct three *three, uint32_t first, uint32_t second,
		      uint32_t third)
{
	const uint32_t order[3] = { first, second, third };

	open_gate(&three->world);
	for (int i = 0; i < 3; i++) {
		const struct pd_load_done done = lw_done(&three->world);

		th_assert_ok(done.status);
		assert_int_equal(done.model, order[i]);
		assert_true(lw_is_there(&three->world, three->model[order[i]],
					0, 6 * GROUP));
	}
	for (int i = 0; i < 3; i++)
		lw_model_free(three->model[i]);
	lw_free(&three->world);
}

static void load_in_turn(void *arg)
{
	struct three three = begin_three(5, 5, 5);

	(void)arg;
	end_three(&three, 0, 1, 2);
}

static void test_loader_loads_of_one_priority_come_in_turn(void **state)
{
	IN_CHILD(load_in_turn);
}

static void load_urgent(void *arg)
{
	struct three three = begin_three(5, 6, 9);

	(void)arg;
	end_three(&three, 2, 1, 0);
}

static void test_loader_urgent_load_gets_between_two_groups(void **state)
{
	IN_CHILD(load_urgent);
}

static void load_hurried(void *arg)
{
	struct three three = begin_three(5, 5, 5);

	(void)arg;
	pd_loader_hurry(three.world.loader, 2, 8);
	pd_loader_hurry(three.world.loader, 2, 1); /* never lower */
	pd_loader_hurry(three.world.loader, 77, 9);
	end_three(&three, 2, 0, 1);
}

static void test_loader_load_that_is_waited_for_hurries(void **state)
{
	IN_CHILD(load_hurried);
}

static void reset_between(void *arg)
{
	struct three three = begin_three(5, 5, 5);

	(void)arg;
	pd_loader_reset(three.world.loader, 50, 7);
	open_gate(&three.world);
	assert_int_equal(lw_done(&three.world).job, PD_LOAD_RESET);
	end_three(&three, 0, 1, 2);
}

static void test_loader_reset_gets_between_two_groups(void **state)
{
	IN_CHILD(reset_between);
}

static const struct th_test tests[] = {
	TH_TEST(test_loader_counter_is_never_ahead_of_tensors),
	TH_TEST(test_loader_counter_is_never_ahead_of_groups),
	TH_TEST(test_loader_counter_begins_anew_after_a_reset),
	TH_TEST(test_loader_load_right_behind_its_reset_is_whole),
	TH_TEST(test_loader_page_never_says_more_than_the_counter),
	TH_TEST(test_loader_page_falls_before_the_counter),
	TH_TEST(test_loader_load_is_done_when_all_has_landed),
	TH_TEST(test_loader_loads_of_one_priority_come_in_turn),
	TH_TEST(test_loader_urgent_load_gets_between_two_groups),
	TH_TEST(test_loader_load_that_is_waited_for_hurries),
	TH_TEST(test_loader_reset_gets_between_two_groups),
};

TH_MAIN_WARM("loader_order", tests, small_gpu)
