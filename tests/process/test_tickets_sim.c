/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Tickets and memory outside the pool while the GPU works, while a stream
 * captures, and when the driver fails. */
#include "tests/support/pretend_daemon.h"

#include "ipc/wire.h"
#include "tests/support/gpu.h"
#include "tests/support/sim.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define LEASES (TH_SEGMENTS - TH_PARAMETERS)
#define WHOLE TH_SEGMENT
#define FOREIGN 12u

static void *open_ticket(struct ps_pool *pool, uint32_t count)
{
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, count, 0, WHOLE);
	void *at = NULL;

	th_assert_ok(ps_ticket_open(pool, &ticket, &at));
	return at;
}

static void assert_opened(const struct th_part *me, uint64_t segments)
{
	assert_int_equal(th_order(me, TH_ORDER_OPENED, 0, 0), segments);
}

/* ---- while the GPU works ---- */

struct call {
	struct ps_pool *pool;
	void *at;
	enum ps_status status;
	_Atomic bool is_done;
};

static void *close_it(void *arg)
{
	struct call *call = arg;

	call->status = ps_ticket_close(call->pool, call->at);
	atomic_store(&call->is_done, true);
	return NULL;
}

static void *take_all(void *arg)
{
	struct call *call = arg;

	call->status = ps_mem_take_outside(call->pool, LEASES * WHOLE);
	atomic_store(&call->is_done, true);
	return NULL;
}

/* Runs it while a stream is blocked: it must not return before that is over. */
static void expect_wait(struct call *call, void *(*run)(void *arg),
			const struct th_gpu *gpu)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, run, call), 0);
	usleep(50000);
	assert_false(atomic_load(&call->is_done));
	th_gpu_unblock(gpu);
	assert_int_equal(pthread_join(thread, NULL), 0);
	th_assert_ok(call->status);
}

static void close_while_used(const struct th_part *me)
{
	struct call call = { .pool = th_pretend_attach(me) };
	const struct th_gpu *gpu = th_gpu_open();

	call.at = open_ticket(call.pool, 1);
	th_gpu_block(gpu, th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING));
	expect_wait(&call, close_it, gpu);
	assert_opened(me, 0);
	th_assert_ok(ps_detach(call.pool));
}

static void test_ticket_closed_waits_for_running_work(void **state)
{
	(void)state;
	th_pretend_play(close_while_used);
}

static void take_while_used(const struct th_part *me)
{
	struct call call = { .pool = th_pretend_attach(me) };
	const struct th_gpu *gpu = th_gpu_open();
	void *block = th_alloc(call.pool, LEASES * WHOLE);

	th_gpu_block(gpu, th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING));
	th_assert_ok(ps_mem_free(call.pool, block));
	expect_wait(&call, take_all, gpu);
	assert_int_equal(th_order(me, TH_ORDER_OUTSIDE, 0, 0), LEASES);
	th_assert_ok(ps_detach(call.pool));
}

static void test_outside_waits_for_what_a_fence_guards(void **state)
{
	(void)state;
	th_pretend_play(take_while_used);
}

/* ---- many threads at once ---- */

#define THREADS 4u
#define TURNS 100u

struct turns {
	struct ps_pool *pool;
	uint32_t segment;
};

/* Two threads open each ticket; all take and give, and allocate. */
static void *take_turns(void *arg)
{
	const struct turns *turns = arg;
	struct ps_ticket ticket =
		th_pretend_ticket(turns->segment, 1, 0, WHOLE);
	void *at, *block;

	for (unsigned int i = 0; i < TURNS; i++) {
		th_assert_ok(ps_ticket_open(turns->pool, &ticket, &at));
		th_put(turns->pool, at, i);
		th_assert_ok(ps_mem_take_outside(turns->pool, 4096));
		th_assert_ok(ps_mem_hold_fences(turns->pool, i % 2 == 0));
		th_assert_ok(ps_mem_alloc(turns->pool, 4096, &block));
		th_assert_ok(ps_mem_free(turns->pool, block));
		th_assert_ok(ps_mem_give_outside(turns->pool, 4096));
		if (i % 2 == 1)
			th_assert_ok(ps_ticket_close(turns->pool, at));
		else
			th_assert_ok(ps_mem_note_passed(turns->pool, 1));
	}
	return NULL;
}

static void take_turns_at_once(const struct th_part *me)
{
	struct turns turns[THREADS];
	pthread_t thread[THREADS];
	struct ps_pool *pool = th_pretend_attach(me);

	for (uint32_t i = 0; i < THREADS; i++) {
		turns[i] = (struct turns){ pool, FOREIGN + i % 2 };
		assert_int_equal(
			pthread_create(&thread[i], NULL, take_turns, &turns[i]),
			0);
	}
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_int_equal(th_stats(pool).outside, 0);
	assert_int_equal(th_stats(pool).passed, THREADS * TURNS / 2);
	assert_int_equal(th_stats(pool).opened, 2 * WHOLE);
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_detach(pool));
}

static void test_tickets_and_room_outside_by_many_threads(void **state)
{
	(void)state;
	th_pretend_play(take_turns_at_once);
}

/* ---- while a stream captures ---- */

static void close_in_a_capture(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	const struct th_gpu *gpu = th_gpu_open();
	void *at = open_ticket(pool, 1);
	CUstream stream;

	th_assert_ok(ps_mem_hold_fences(pool, true));
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_assert_status(ps_ticket_close(pool, at), PS_AGAIN);
	th_gpu_end_capture(gpu, stream);
	th_assert_ok(ps_mem_hold_fences(pool, false));
	th_put(pool, at, 1);
	assert_opened(me, 1);
	th_assert_ok(ps_ticket_close(pool, at));
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_closed_in_a_capture_is_to_be_closed_again(void **state)
{
	(void)state;
	th_pretend_play(close_in_a_capture);
}

/* Of an older driver, whose fences are waits for all streams. What was freed
 * before the capture is not waited for in it. */
static void allocate_in_a_capture(const struct th_part *me)
{
	const struct th_gpu *gpu;
	struct ps_pool *pool;
	CUstream stream;
	void *block;

	setenv("POOLSWITCH_WITHOUT", "cuCtxRecordEvent", 1);
	pool = th_pretend_attach(me);
	gpu = th_gpu_open();
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, LEASES * WHOLE)));
	th_assert_ok(ps_mem_hold_fences(pool, true));
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	assert_int_not_equal(ps_mem_alloc(pool, WHOLE, &block), PS_OK);
	th_gpu_end_capture(gpu, stream);
	th_assert_ok(ps_mem_hold_fences(pool, false));
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, WHOLE)));
	th_assert_ok(ps_detach(pool));
}

static void test_fences_held_are_not_waited_for_without_events(void **state)
{
	(void)state;
	th_pretend_play(allocate_in_a_capture);
}

/* ---- when the driver fails ---- */

static void fail_to_open(const struct th_part *me, const char *symbol,
			 unsigned int nth, enum ps_status expected)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 3, 0, WHOLE);
	void *at;

	th_sim_fail_nth(symbol, nth, 999);
	th_assert_status(ps_ticket_open(pool, &ticket, &at), expected);
	assert_opened(me, 0);
	assert_int_equal(th_stats(pool).opened, 0);
	assert_int_equal(th_stats(pool).mapped, 0);
	at = open_ticket(pool, 3);
	th_put(pool, at, 1);
	th_assert_ok(ps_ticket_close(pool, at));
	th_assert_ok(ps_detach(pool));
}

static void fail_to_import(const struct th_part *me)
{
	fail_to_open(me, "cuMemImportFromShareableHandle", 2, PS_BAD_SEGMENT);
}

static void fail_to_map(const struct th_part *me)
{
	fail_to_open(me, "cuMemMap", 3, PS_DRIVER);
}

static void fail_to_allow(const struct th_part *me)
{
	fail_to_open(me, "cuMemSetAccess", 1, PS_DRIVER);
}

static void test_ticket_that_is_not_imported_is_closed(void **state)
{
	(void)state;
	th_pretend_play(fail_to_import);
}

static void test_ticket_that_is_not_mapped_is_closed(void **state)
{
	(void)state;
	th_pretend_play(fail_to_map);
}

static void test_ticket_without_access_is_closed(void **state)
{
	(void)state;
	th_pretend_play(fail_to_allow);
}

static void fail_to_unmap(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *at = open_ticket(pool, 2);

	th_sim_fail_nth("cuMemUnmap", 1, 999);
	th_assert_status(ps_ticket_close(pool, at), PS_DRIVER);
	th_put(pool, at, 1);
	assert_opened(me, 2);
	th_assert_ok(ps_ticket_close(pool, at));
	assert_opened(me, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_that_is_not_unmapped_stays_open(void **state)
{
	(void)state;
	th_pretend_play(fail_to_unmap);
}

static const struct th_test tests[] = {
	TH_TEST(test_ticket_closed_waits_for_running_work),
	TH_TEST(test_outside_waits_for_what_a_fence_guards),
	TH_TEST(test_tickets_and_room_outside_by_many_threads),
	TH_TEST(test_ticket_closed_in_a_capture_is_to_be_closed_again),
	TH_TEST(test_fences_held_are_not_waited_for_without_events),
	TH_TEST(test_ticket_that_is_not_imported_is_closed),
	TH_TEST(test_ticket_that_is_not_mapped_is_closed),
	TH_TEST(test_ticket_without_access_is_closed),
	TH_TEST(test_ticket_that_is_not_unmapped_stays_open),
};

TH_MAIN("tickets_sim", tests)
