/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What an attached model asks of the driver, captures, and calls that fail. */
#include "tests/support/pretend_daemon.h"

#include "ipc/wire.h"
#include "lib/pool.h"

#include "tests/support/gpu.h"
#include "tests/support/sim.h"

static void assert_word(const struct th_part *me, uint32_t model,
			enum ip_use_word word)
{
	assert_int_equal(th_order(me, TH_ORDER_WORD, model, 0), word);
}

static struct ps_model *attach(struct ps_pool *pool, const char *name)
{
	struct ps_model *model = NULL;

	th_assert_ok(ps_model_attach(pool, name, NULL, &model));
	return model;
}

static void use(struct ps_model *model)
{
	th_assert_ok(ps_model_use(model, PS_PRIORITY_DEFAULT, 1000));
}

static void release(struct ps_model *model)
{
	th_assert_ok(ps_model_release(model, PS_STREAM_DONE));
}

static void *new_stream(struct ps_pool *pool)
{
	void *stream = NULL;

	th_assert_ok(dv_stream_create(pool->device, &stream));
	return stream;
}

static char *address_of(const struct ps_model *model)
{
	struct ps_model_info info = { .struct_size = sizeof(info) };

	th_assert_ok(ps_model_get_info(model, &info));
	return info.address;
}

static CUgraphExec end_capture(const struct th_gpu *gpu, CUstream stream)
{
	CUgraphExec exec;
	CUgraph graph;

	th_cu(gpu->driver->cuStreamEndCapture(stream, &graph));
	th_cu(gpu->driver->cuGraphInstantiateWithFlags(&exec, graph, 0));
	return exec;
}

static unsigned long sum_calls(const char *const *symbols, size_t count)
{
	unsigned long sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += th_sim_calls(symbols[i]);
	return sum;
}

static unsigned long mapping_calls(void)
{
	static const char *const symbols[] = {
		"cuMemCreate", "cuMemImportFromShareableHandle",
		"cuMemMap",    "cuMemSetAccess",
		"cuMemUnmap",  "cuMemRelease",
	};

	return sum_calls(symbols, sizeof(symbols) / sizeof(symbols[0]));
}

/* Any call enters the context. */
static unsigned long all_calls(void)
{
	static const char *const symbols[] = { "cuCtxPushCurrent_v2",
					       "cuEventQuery",
					       "cuStreamIsCapturing" };

	return mapping_calls() + sum_calls(symbols, 3);
}

static const struct {
	const char *symbol;
	unsigned int times; /* in one use */
} faults[] = {
	{ "cuMemImportFromShareableHandle", TH_MODEL_SEGMENTS },
	{ "cuMemMap", TH_MODEL_SEGMENTS },
	{ "cuMemSetAccess", 1 },
};

/* Each of the calls of one use. */
static void fail_each(const struct th_part *me, struct ps_model *model,
		      const char *symbol, unsigned int times)
{
	for (unsigned int n = 1; n <= times; n++) {
		th_sim_fail_nth(symbol, n, 999);
		assert_int_not_equal(ps_model_use(model, 1, 0), PS_OK);
		assert_word(me, TH_ALPHA, IP_USE_IDLE);
		th_assert_status(ps_model_release(model, PS_STREAM_DONE),
				 PS_INVALID_ARGUMENT);
	}
}

static void capture_wait(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	const struct th_gpu *gpu = th_gpu_open();
	CUstream stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	CUgraphExec exec;

	use(alpha);
	th_order(me, TH_ORDER_SAY_LAND, TH_ALPHA, 4);
	th_assert_ok(ps_model_wait(alpha, stream, 1));
	release(alpha);
	th_assert_ok(ps_model_wait(alpha, stream, 2));
	exec = end_capture(gpu, stream);
	for (int i = 0; i < 2; i++) {
		use(alpha);
		th_order(me, TH_ORDER_LAND, TH_ALPHA, 2);
		th_cu(gpu->driver->cuGraphLaunch(exec, stream));
		th_gpu_assert_busy(gpu, stream);
		th_order(me, TH_ORDER_LAND, TH_ALPHA, 3);
		th_cu(gpu->driver->cuStreamSynchronize(stream));
		release(alpha);
	}
	th_assert_ok(ps_detach(pool));
}

static void test_model_captured_waits_at_each_launch(void **state)
{
	(void)state;
	th_pretend_play(capture_wait);
}

static void capture_release(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	const struct th_gpu *gpu = th_gpu_open();
	CUstream stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);

	use(alpha);
	th_assert_status(ps_model_release(alpha, stream), PS_AGAIN);
	assert_word(me, TH_ALPHA, IP_USE_BUSY);
	th_gpu_end_capture(gpu, stream);
	th_assert_ok(ps_model_release(alpha, stream));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	th_assert_ok(ps_model_check(alpha));
	assert_word(me, TH_ALPHA, IP_USE_IDLE);
	th_assert_ok(ps_detach(pool));
}

static void test_model_is_not_released_on_a_stream_that_captures(void **state)
{
	(void)state;
	th_pretend_play(capture_release);
}

static void capture_yield(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	const struct th_gpu *gpu = th_gpu_open();
	CUstream run = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	CUstream stream;

	use(alpha);
	th_assert_ok(ps_model_wait(alpha, run, 3));
	th_assert_ok(ps_model_release(alpha, run));
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_order(me, TH_ORDER_YIELD, TH_ALPHA, IP_YIELD_UNMAP);
	th_order(me, TH_ORDER_LAND, TH_ALPHA, 4);
	assert_int_equal(th_order(me, TH_ORDER_YIELDED, 0, 0), TH_ALPHA);
	th_gpu_end_capture(gpu, stream);
	th_assert_ok(ps_detach(pool));
}

static void test_model_yielded_harms_no_capture(void **state)
{
	(void)state;
	th_pretend_play(capture_yield);
}

static void count_calls(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);
	unsigned long before;

	use(alpha);
	release(alpha);
	th_order(me, TH_ORDER_SAY_LAND, TH_ALPHA, 4);
	before = all_calls();
	for (int i = 0; i < 10; i++) {
		use(alpha);
		th_assert_ok(ps_model_check(alpha));
		release(alpha);
	}
	assert_int_equal(all_calls(), before);
	use(alpha);
	th_assert_ok(ps_model_wait(alpha, stream, 3));
	assert_int_equal(th_sim_calls("cuStreamWaitValue32_v2"), 0);
	release(alpha);
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
}

static void test_model_used_again_makes_no_driver_call(void **state)
{
	(void)state;
	th_pretend_play(count_calls);
}

static void count_mapping(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	unsigned long before;

	use(alpha);
	release(alpha);
	before = mapping_calls();
	for (int i = 0; i < 5; i++) {
		assert_true(th_order(me, TH_ORDER_TAKE_BACK, TH_ALPHA, 0));
		use(alpha);
		release(alpha);
	}
	assert_int_equal(mapping_calls(), before);
	th_assert_ok(ps_detach(pool));
}

static void test_model_back_where_it_was_maps_nothing(void **state)
{
	(void)state;
	th_pretend_play(count_mapping);
}

static void fail_mapping(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");

	for (size_t i = 0; i < 3; i++)
		fail_each(me, alpha, faults[i].symbol, faults[i].times);
	use(alpha);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void
test_model_whose_mapping_fails_is_let_go_and_used_later(void **state)
{
	(void)state;
	th_pretend_play(fail_mapping);
}

static void fail_board(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *model = NULL;

	for (size_t i = 0; i < 3; i++) {
		th_sim_fail_nth(faults[i].symbol, 1, 999);
		assert_int_not_equal(
			ps_model_attach(pool, "alpha", NULL, &model), PS_OK);
		th_assert_detail("the board of the models");
	}
	model = attach(pool, "alpha");
	use(model);
	release(model);
	th_assert_ok(ps_detach(pool));
}

static void test_model_attached_later_when_the_board_fails(void **state)
{
	(void)state;
	th_pretend_play(fail_board);
}

static void fail_fence(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	void *stream = new_stream(pool);

	use(alpha);
	th_sim_fail_nth("cuEventRecord", 1, 999);
	th_assert_status(ps_model_release(alpha, stream), PS_DRIVER);
	assert_word(me, TH_ALPHA, IP_USE_IDLE);
	th_assert_status(ps_model_release(alpha, stream), PS_INVALID_ARGUMENT);
	dv_stream_destroy(pool->device, stream);
	th_assert_ok(ps_detach(pool));
}

static void test_model_without_a_fence_is_released_behind_all_work(void **state)
{
	(void)state;
	th_pretend_play(fail_fence);
}

static void fail_unmap(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	uint32_t word;

	use(alpha);
	release(alpha);
	th_sim_fail_nth("cuMemUnmap", 1, 999);
	assert_int_equal(th_order(me, TH_ORDER_YIELD, TH_ALPHA, IP_YIELD_UNMAP),
			 IP_YIELDED_BUSY);
	th_assert_ok(ps_mem_read(pool, &word, address_of(alpha), 4));
	assert_int_equal(th_order(me, TH_ORDER_YIELD, TH_ALPHA, IP_YIELD_UNMAP),
			 IP_YIELDED_IDLE);
	th_assert_status(ps_mem_read(pool, &word, address_of(alpha), 4),
			 PS_OUT_OF_RANGE);
	th_assert_ok(ps_detach(pool));
}

static void
test_model_the_driver_does_not_unmap_stays_until_asked_again(void **state)
{
	(void)state;
	th_pretend_play(fail_unmap);
}

static void write_it(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_model *alpha = attach(pool, "alpha");
	const uint32_t word = 7;
	uint32_t read = 0;

	use(alpha);
	th_order(me, TH_ORDER_FILL, 0, 100);
	assert_int_not_equal(dv_copy_in(pool->device,
					(uint64_t)(uintptr_t)address_of(alpha),
					&word, sizeof(word)),
			     PS_OK);
	th_assert_ok(ps_mem_read(pool, &read, address_of(alpha), 4));
	assert_int_equal(read, 100);
	release(alpha);
	th_assert_ok(ps_detach(pool));
}

static void test_model_in_use_cannot_be_written(void **state)
{
	(void)state;
	th_pretend_play(write_it);
}

static const struct th_test tests[] = {
	TH_TEST(test_model_captured_waits_at_each_launch),
	TH_TEST(test_model_is_not_released_on_a_stream_that_captures),
	TH_TEST(test_model_yielded_harms_no_capture),
	TH_TEST(test_model_used_again_makes_no_driver_call),
	TH_TEST(test_model_back_where_it_was_maps_nothing),
	TH_TEST(test_model_whose_mapping_fails_is_let_go_and_used_later),
	TH_TEST(test_model_attached_later_when_the_board_fails),
	TH_TEST(test_model_without_a_fence_is_released_behind_all_work),
	TH_TEST(test_model_the_driver_does_not_unmap_stays_until_asked_again),
	TH_TEST(test_model_in_use_cannot_be_written),
};

TH_GPU_MAIN("model_sim", tests, NULL)
