/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the project relies on in the driver: contexts that begin, end and are
 * reset, and what goes with them. On a real GPU and on the simulated one.
 */
#include "tests/support/gpu.h"

#include <pthread.h>

#define SEGMENT TH_SEGMENT_BYTES

static CUcontext current(const struct th_gpu *gpu)
{
	CUcontext context;

	th_cu(gpu->driver->cuCtxGetCurrent(&context));
	return context;
}

static CUcontext new_context(const struct th_gpu *gpu)
{
	CUcontext context;

	th_cu(gpu->driver->cuCtxCreate_v2(&context, 0, 0));
	return context;
}

static CUresult range_of(const struct th_gpu *gpu, CUdeviceptr address)
{
	return gpu->driver->cuMemGetAddressRange_v2(NULL, NULL, address);
}

static void test_context_created_is_current_until_destroyed(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUcontext context;
	CUdevice device = -1;

	(void)state;
	if (!gpu)
		return;
	context = new_context(gpu);
	assert_ptr_not_equal(context, gpu->context);
	assert_ptr_equal(current(gpu), context);
	th_cu(gpu->driver->cuCtxGetDevice(&device));
	assert_int_equal(device, 0);
	th_cu(gpu->driver->cuCtxDestroy_v2(context));
	assert_ptr_equal(current(gpu), gpu->context);
	th_gpu_exit();
}

static void test_context_takes_its_plain_memory_along(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUcontext context;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	context = new_context(gpu);
	th_cu(gpu->driver->cuMemAlloc_v2(&address, SEGMENT));
	th_cu(range_of(gpu, address));
	th_cu(gpu->driver->cuCtxDestroy_v2(context));
	th_cu_is(range_of(gpu, address), CUDA_ERROR_NOT_FOUND);
	th_gpu_exit();
}

static void test_context_leaves_mappings_and_pools(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUcontext context;
	CUdeviceptr mapped;
	CUdeviceptr pooled;

	(void)state;
	if (!gpu)
		return;
	context = new_context(gpu);
	mapped = th_gpu_segment(gpu);
	th_cu(gpu->driver->cuMemAllocAsync(&pooled, SEGMENT, NULL));
	th_cu(gpu->driver->cuStreamSynchronize(NULL));
	th_gpu_put(gpu, mapped, 6);
	th_cu(gpu->driver->cuCtxDestroy_v2(context));
	assert_int_equal(th_gpu_get(gpu, mapped), 6);
	th_cu(range_of(gpu, pooled));
	th_gpu_exit();
}

static void test_event_on_a_stream_of_another_context_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream stream;
	CUevent event;

	(void)state;
	if (!gpu)
		return;
	event = th_gpu_event(gpu);
	new_context(gpu);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu_is(gpu->driver->cuEventRecord(event, stream),
		 CUDA_ERROR_INVALID_HANDLE);
	th_cu_is(gpu->driver->cuEventRecord(event, NULL),
		 CUDA_ERROR_INVALID_HANDLE);
	th_gpu_exit();
}

static void test_stream_waits_for_an_event_of_another_context(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream first;
	CUstream second;
	CUevent event;

	(void)state;
	if (!gpu)
		return;
	event = th_gpu_event(gpu);
	first = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_gpu_block(gpu, first);
	th_cu(gpu->driver->cuEventRecord(event, first));
	new_context(gpu);
	second = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuStreamWaitEvent(second, event, 0));
	th_gpu_assert_busy(gpu, second);
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuStreamSynchronize(second));
	th_gpu_exit();
}

/* Only what is submitted in a context is waited for with it. */
static void test_waiting_for_a_context_leaves_others_out(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_gpu_block(gpu, stream);
	new_context(gpu);
	th_cu(gpu->driver->cuCtxSynchronize());
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	th_gpu_exit();
}

static void test_stream_tells_its_context(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUcontext context = NULL;
	CUcontext other;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	other = new_context(gpu);
	th_cu(gpu->driver->cuStreamGetCtx(stream, &context));
	assert_ptr_equal(context, gpu->context);
	th_cu(gpu->driver->cuStreamGetCtx(NULL, &context));
	assert_ptr_equal(context, other);
	th_gpu_exit();
}

struct elsewhere {
	const struct th_gpu *gpu;
	pthread_barrier_t barrier;
	CUcontext context;
	CUresult result;
};

static void *use_destroyed(void *arg)
{
	struct elsewhere *elsewhere = arg;
	const struct dv_driver *driver = elsewhere->gpu->driver;
	CUdeviceptr address;

	th_cu(driver->cuCtxSetCurrent(elsewhere->context));
	pthread_barrier_wait(&elsewhere->barrier);
	pthread_barrier_wait(&elsewhere->barrier);
	elsewhere->result = driver->cuMemAlloc_v2(&address, SEGMENT);
	return NULL;
}

static void test_context_destroyed_elsewhere_is_told_so(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct elsewhere elsewhere = { .gpu = gpu };
	pthread_t thread;

	(void)state;
	if (!gpu)
		return;
	elsewhere.context = new_context(gpu);
	pthread_barrier_init(&elsewhere.barrier, NULL, 2);
	pthread_create(&thread, NULL, use_destroyed, &elsewhere);
	pthread_barrier_wait(&elsewhere.barrier);
	th_cu(gpu->driver->cuCtxDestroy_v2(elsewhere.context));
	pthread_barrier_wait(&elsewhere.barrier);
	pthread_join(thread, NULL);
	assert_int_equal(elsewhere.result, CUDA_ERROR_CONTEXT_IS_DESTROYED);
	th_gpu_exit();
}

static void test_primary_context_is_not_destroyed_like_others(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	th_cu_fails(gpu->driver->cuCtxDestroy_v2(gpu->context));
	th_gpu_put(gpu, th_gpu_segment(gpu), 1);
	th_gpu_exit();
}

static void test_primary_context_tells_whether_it_is_active(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	unsigned int flags;
	int is_active = 0;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuDevicePrimaryCtxGetState(0, &flags, &is_active));
	assert_int_equal(is_active, 1);
	th_cu(gpu->driver->cuDevicePrimaryCtxRelease_v2(0));
	th_cu(gpu->driver->cuDevicePrimaryCtxGetState(0, &flags, &is_active));
	assert_int_equal(is_active, 0);
	th_gpu_exit();
}

static void test_reset_takes_plain_memory_and_leaves_mappings(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUcontext context;
	CUdeviceptr mapped;
	CUdeviceptr plain;

	(void)state;
	if (!gpu)
		return;
	mapped = th_gpu_segment(gpu);
	th_gpu_put(gpu, mapped, 8);
	th_cu(gpu->driver->cuMemAlloc_v2(&plain, SEGMENT));
	th_cu(gpu->driver->cuDevicePrimaryCtxReset_v2(0));
	th_cu(gpu->driver->cuDevicePrimaryCtxRetain(&context, 0));
	th_cu(gpu->driver->cuCtxSetCurrent(context));
	th_cu_is(range_of(gpu, plain), CUDA_ERROR_NOT_FOUND);
	assert_int_equal(th_gpu_get(gpu, mapped), 8);
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_context_created_is_current_until_destroyed),
	TH_TEST(test_context_takes_its_plain_memory_along),
	TH_TEST(test_context_leaves_mappings_and_pools),
	TH_TEST(test_event_on_a_stream_of_another_context_is_refused),
	TH_TEST(test_stream_waits_for_an_event_of_another_context),
	TH_TEST(test_waiting_for_a_context_leaves_others_out),
	TH_TEST(test_stream_tells_its_context),
	TH_TEST(test_context_destroyed_elsewhere_is_told_so),
	TH_TEST(test_primary_context_is_not_destroyed_like_others),
	TH_TEST(test_primary_context_tells_whether_it_is_active),
	TH_TEST(test_reset_takes_plain_memory_and_leaves_mappings),
};

TH_MAIN("conformance_context", tests)
