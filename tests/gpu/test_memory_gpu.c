/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Blocks that are freed while the GPU still works on them, on streams of each
 * kind. Two segments are inserted and each block fills one: what is not given
 * out again too early comes from the other segment, and what comes back later
 * can only be the first.
 */
#include "tests/support/gpu.h"
#include "tests/support/pools.h"

#include <pthread.h>
#include <sys/socket.h>

#define LATE 0x1a7e1a7eu
#define WORDS (TH_SEGMENT / 4)

static struct ps_pool *open_pool(void)
{
	struct ps_pool *pool = th_reserve();

	th_insert(pool, TH_PARAMETERS, 2);
	return pool;
}

/* The stream waits, and then writes over the whole block. The write before it
 * loads what the driver needs for one: that cannot be done behind a wait. */
static void write_late(const struct th_gpu *gpu, CUstream stream, void *ptr)
{
	CUdeviceptr at = (CUdeviceptr)(uintptr_t)ptr;

	th_cu(gpu->driver->cuMemsetD32Async(at, 0, WORDS, stream));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	th_gpu_block(gpu, stream);
	th_cu(gpu->driver->cuMemsetD32Async(at, LATE, WORDS, stream));
}

/* Lets the late write happen, and sees that it hit nobody else. */
static void finish(const struct th_gpu *gpu, struct ps_pool *pool, void *late,
		   void *other)
{
	th_put(pool, other, 1);
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuCtxSynchronize());
	assert_int_equal(th_get(pool, other), 1);
	assert_int_equal(th_get(pool, late), LATE);
}

static void close_and_exit(struct ps_pool *pool)
{
	th_assert_ok(ps_mem_check(pool));
	ps_pool_close(pool);
	th_gpu_exit();
}

/* ---- a free that knows no stream ---- */

static void free_with_work_on(const struct th_gpu *gpu, CUstream stream)
{
	struct ps_pool *pool = open_pool();
	void *first = th_alloc(pool, TH_SEGMENT);
	void *second;

	write_late(gpu, stream, first);
	th_assert_ok(ps_mem_free(pool, first));
	second = th_alloc(pool, TH_SEGMENT);
	assert_ptr_not_equal(second, first);
	finish(gpu, pool, first, second);
	assert_ptr_equal(th_alloc(pool, TH_SEGMENT), first);
	close_and_exit(pool);
}

static void test_free_waits_for_the_legacy_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (gpu)
		free_with_work_on(gpu, NULL);
}

static void test_free_waits_for_a_blocking_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (gpu)
		free_with_work_on(gpu, th_gpu_stream(gpu, CU_STREAM_DEFAULT));
}

static void test_free_waits_for_a_non_blocking_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (gpu)
		free_with_work_on(gpu,
				  th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING));
}

struct late {
	const struct th_gpu *gpu;
	void *ptr;
};

static void *write_late_on_own_stream(void *arg)
{
	const struct late *late = arg;

	th_cu(late->gpu->driver->cuCtxSetCurrent(late->gpu->context));
	write_late(late->gpu, CU_STREAM_PER_THREAD, late->ptr);
	return NULL;
}

static void write_late_in_thread(const struct th_gpu *gpu, void *ptr)
{
	struct late late = { gpu, ptr };
	pthread_t thread;

	assert_int_equal(
		pthread_create(&thread, NULL, write_late_on_own_stream, &late),
		0);
	pthread_join(thread, NULL);
}

static void test_free_waits_for_the_stream_of_a_thread(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct ps_pool *pool;
	void *first, *second;

	(void)state;
	if (!gpu)
		return;
	pool = open_pool();
	first = th_alloc(pool, TH_SEGMENT);
	write_late_in_thread(gpu, first);
	th_assert_ok(ps_mem_free(pool, first));
	second = th_alloc(pool, TH_SEGMENT);
	assert_ptr_not_equal(second, first);
	finish(gpu, pool, first, second);
	assert_ptr_equal(th_alloc(pool, TH_SEGMENT), first);
	close_and_exit(pool);
}

/* ---- a free on a stream ---- */

static void *alloc_on(struct ps_pool *pool, CUstream stream)
{
	void *ptr;

	th_assert_ok(ps_mem_alloc_async(pool, TH_SEGMENT, stream, &ptr));
	return ptr;
}

static void test_free_async_is_reused_at_once_on_its_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct ps_pool *pool;
	CUstream stream;
	void *ptr;

	(void)state;
	if (!gpu)
		return;
	pool = open_pool();
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	ptr = alloc_on(pool, stream);
	write_late(gpu, stream, ptr);
	th_assert_ok(ps_mem_free_async(pool, ptr, stream));
	assert_ptr_equal(alloc_on(pool, stream), ptr);
	th_gpu_unblock(gpu);
	close_and_exit(pool);
}

static void test_free_async_is_not_reused_on_another_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	void *first, *second;
	struct ps_pool *pool;
	CUstream a, b;

	(void)state;
	if (!gpu)
		return;
	pool = open_pool();
	a = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	b = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	first = alloc_on(pool, a);
	write_late(gpu, a, first);
	th_assert_ok(ps_mem_free_async(pool, first, a));
	second = alloc_on(pool, b);
	assert_ptr_not_equal(second, first);
	finish(gpu, pool, first, second);
	assert_ptr_equal(alloc_on(pool, b), first);
	close_and_exit(pool);
}

static void test_recorded_stream_holds_a_block_back(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	void *first, *second;
	struct ps_pool *pool;
	CUstream a, b;

	(void)state;
	if (!gpu)
		return;
	pool = open_pool();
	a = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	b = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	first = alloc_on(pool, a);
	th_assert_ok(ps_mem_record_stream(pool, first, b));
	write_late(gpu, b, first);
	th_assert_ok(ps_mem_free_async(pool, first, a));
	second = alloc_on(pool, a);
	assert_ptr_not_equal(second, first);
	finish(gpu, pool, first, second);
	close_and_exit(pool);
}

static void test_dropped_stream_gives_its_memory_to_others(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct ps_pool *pool;
	CUstream a, b;

	(void)state;
	if (!gpu)
		return;
	pool = open_pool();
	a = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	b = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_assert_ok(ps_mem_free_async(pool, alloc_on(pool, a), a));
	th_assert_ok(ps_mem_drop_stream(pool, a));
	th_cu(gpu->driver->cuStreamDestroy_v2(a));
	(void)alloc_on(pool, b);
	(void)alloc_on(pool, b);
	close_and_exit(pool);
}

/* ---- the streams of threads ---- */

/* The fence of a plain free is put off: recorded now, it would invalidate the
 * capture of a stream that the pool knows. */
static void test_free_spares_the_capture_of_a_known_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUgraph graph = NULL;
	struct ps_pool *pool;
	CUstream stream;
	void *kept, *freed;

	(void)state;
	if (!gpu)
		return;
	pool = open_pool();
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	kept = alloc_on(pool, stream);
	freed = th_alloc(pool, TH_SEGMENT);
	th_cu(gpu->driver->cuStreamBeginCapture_v2(
		stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	th_assert_ok(ps_mem_free(pool, freed));
	th_assert_status(ps_mem_alloc(pool, TH_SEGMENT, &freed),
			 PS_OUT_OF_MEMORY);
	th_cu(gpu->driver->cuStreamEndCapture(stream, &graph));
	th_cu(gpu->driver->cuGraphDestroy(graph));
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, TH_SEGMENT)));
	th_assert_ok(ps_mem_free_async(pool, kept, stream));
	close_and_exit(pool);
}

struct in_thread {
	const struct th_gpu *gpu;
	struct ps_pool *pool;
	void *ptr;
};

static void *free_late_on_own_stream(void *arg)
{
	struct in_thread *in = arg;

	th_cu(in->gpu->driver->cuCtxSetCurrent(in->gpu->context));
	in->ptr = alloc_on(in->pool, CU_STREAM_PER_THREAD);
	write_late(in->gpu, CU_STREAM_PER_THREAD, in->ptr);
	th_assert_ok(
		ps_mem_free_async(in->pool, in->ptr, CU_STREAM_PER_THREAD));
	return NULL;
}

/* Both threads name their stream by the same handle. */
static void test_streams_of_two_threads_are_two(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct in_thread in = { gpu, NULL, NULL };
	pthread_t thread;
	void *second;

	(void)state;
	if (!gpu)
		return;
	in.pool = open_pool();
	assert_int_equal(
		pthread_create(&thread, NULL, free_late_on_own_stream, &in), 0);
	pthread_join(thread, NULL);
	second = alloc_on(in.pool, CU_STREAM_PER_THREAD);
	assert_ptr_not_equal(second, in.ptr);
	finish(gpu, in.pool, in.ptr, second);
	assert_ptr_equal(alloc_on(in.pool, CU_STREAM_PER_THREAD), in.ptr);
	close_and_exit(in.pool);
}

/* ---- a free that waits ---- */

static void *unblock_later(void *arg)
{
	const struct in_thread *in = arg;

	th_await(*(int *)in->ptr);
	th_gpu_unblock(in->gpu);
	return NULL;
}

static void test_free_in_waiting_mode_returns_when_work_is_done(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct in_thread in = { gpu, NULL, NULL };
	struct ps_pool *pool;
	pthread_t thread;
	CUstream stream;
	int pair[2];
	void *ptr;

	(void)state;
	if (!gpu)
		return;
	pool = open_pool();
	th_socketpair(SOCK_STREAM, pair);
	in.ptr = &pair[1];
	ptr = th_alloc(pool, TH_SEGMENT);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	write_late(gpu, stream, ptr);
	th_assert_ok(ps_mem_set_free_mode(pool, PS_FREE_WAITS));
	pthread_create(&thread, NULL, unblock_later, &in);
	th_tell(pair[0]);
	th_assert_ok(ps_mem_free(pool, ptr));
	th_cu(gpu->driver->cuStreamQuery(stream));
	pthread_join(thread, NULL);
	close_and_exit(pool);
}

/* ---- waiting for memory ---- */

struct waiter {
	struct ps_pool *pool;
	int go[2];
	void *ptr;
	uint32_t word;
};

static void *alloc_both(void *arg)
{
	struct waiter *waiter = arg;

	(void)th_alloc(waiter->pool, TH_SEGMENT);
	th_tell(waiter->go[0]);
	waiter->ptr = th_alloc(waiter->pool, TH_SEGMENT);
	waiter->word = th_get(waiter->pool, waiter->ptr);
	return NULL;
}

static void test_alloc_waits_for_a_fence_when_nothing_is_left(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct waiter waiter;
	pthread_t thread;
	void *ptr;

	(void)state;
	if (!gpu)
		return;
	waiter.pool = open_pool();
	th_socketpair(SOCK_STREAM, waiter.go);
	ptr = th_alloc(waiter.pool, TH_SEGMENT);
	write_late(gpu, th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING), ptr);
	th_assert_ok(ps_mem_free(waiter.pool, ptr));
	pthread_create(&thread, NULL, alloc_both, &waiter);
	th_await(waiter.go[1]);
	th_gpu_unblock(gpu);
	pthread_join(thread, NULL);
	assert_ptr_equal(waiter.ptr, ptr);
	assert_int_equal(waiter.word, LATE);
	close_and_exit(waiter.pool);
}

static const struct th_test tests[] = {
	TH_TEST(test_free_waits_for_the_legacy_stream),
	TH_TEST(test_free_waits_for_a_blocking_stream),
	TH_TEST(test_free_waits_for_a_non_blocking_stream),
	TH_TEST(test_free_waits_for_the_stream_of_a_thread),
	TH_TEST(test_free_spares_the_capture_of_a_known_stream),
	TH_TEST(test_free_async_is_reused_at_once_on_its_stream),
	TH_TEST(test_free_async_is_not_reused_on_another_stream),
	TH_TEST(test_recorded_stream_holds_a_block_back),
	TH_TEST(test_dropped_stream_gives_its_memory_to_others),
	TH_TEST(test_streams_of_two_threads_are_two),
	TH_TEST(test_free_in_waiting_mode_returns_when_work_is_done),
	TH_TEST(test_alloc_waits_for_a_fence_when_nothing_is_left),
};

TH_GPU_MAIN("memory_gpu", tests, NULL)
