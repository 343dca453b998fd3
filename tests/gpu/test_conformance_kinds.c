/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the project relies on in the driver: the kinds of memory besides the
 * plain one, and what is told of an address. On a real GPU and on the
 * simulated one.
 */
#include "tests/support/gpu.h"

#include <unistd.h>

#define SEGMENT TH_SEGMENT_BYTES
#define LARGE ((size_t)64 << 20)

/* Whether so many bytes, or a little more, are in use now. */
static void assert_taken(const struct th_gpu *gpu, size_t before, size_t bytes)
{
	size_t after = th_gpu_free_bytes(gpu);

	assert_true(before >= after + bytes);
	assert_true(before < after + bytes + bytes / 2);
}

static CUresult ask(const struct th_gpu *gpu, void *value,
		    CUpointer_attribute attribute, CUdeviceptr address)
{
	return gpu->driver->cuPointerGetAttribute(value, attribute, address);
}

/* ---- pitched ---- */

static void test_pitched_rows_are_aligned_and_usable(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	size_t pitch = 0;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemAllocPitch_v2(&address, &pitch, 1000, 3000, 4));
	assert_true(pitch >= 1000);
	assert_int_equal(pitch % 512, 0);
	assert_int_equal(address % 512, 0);
	th_gpu_put(gpu, address + 2999 * pitch, 7);
	assert_int_equal(th_gpu_get(gpu, address + 2999 * pitch), 7);
	th_cu(gpu->driver->cuMemFree_v2(address));
	th_gpu_exit();
}

static void test_pitched_without_extent_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	size_t pitch;

	(void)state;
	if (!gpu)
		return;
	th_cu_is(gpu->driver->cuMemAllocPitch_v2(&address, &pitch, 0, 10, 4),
		 CUDA_ERROR_INVALID_VALUE);
	th_cu_is(gpu->driver->cuMemAllocPitch_v2(&address, &pitch, 10, 0, 4),
		 CUDA_ERROR_INVALID_VALUE);
	th_cu_is(gpu->driver->cuMemAllocPitch_v2(&address, &pitch, 10, 10, 3),
		 CUDA_ERROR_INVALID_VALUE);
	th_gpu_exit();
}

/* ---- managed ---- */

static void test_managed_is_for_host_and_gpu(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	unsigned int is_managed = 0;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemAllocManaged(&address, SEGMENT,
					     CU_MEM_ATTACH_GLOBAL));
	th_gpu_put(gpu, address, 5);
	th_cu(gpu->driver->cuCtxSynchronize());
	assert_int_equal(*(volatile uint32_t *)address, 5);
	th_cu(ask(gpu, &is_managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, address));
	assert_int_equal(is_managed & 1, 1);
	th_cu(gpu->driver->cuMemFree_v2(address));
	th_gpu_exit();
}

static void test_managed_with_wrong_flags_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu_is(gpu->driver->cuMemAllocManaged(&address, SEGMENT, 0),
		 CUDA_ERROR_INVALID_VALUE);
	th_cu_is(gpu->driver->cuMemAllocManaged(&address, 0,
						CU_MEM_ATTACH_GLOBAL),
		 CUDA_ERROR_INVALID_VALUE);
	th_gpu_exit();
}

/* ---- arrays ---- */

static void test_array_takes_memory_and_gives_it_back(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	const CUDA_ARRAY_DESCRIPTOR wanted = { 4096, 4096, CU_AD_FORMAT_FLOAT,
					       1 };
	CUarray array;
	size_t before;

	(void)state;
	if (!gpu)
		return;
	before = th_gpu_free_bytes(gpu);
	th_cu(gpu->driver->cuArrayCreate_v2(&array, &wanted));
	assert_taken(gpu, before, LARGE);
	th_cu(gpu->driver->cuArrayDestroy(array));
	assert_true(th_gpu_free_bytes(gpu) >= before);
	th_gpu_exit();
}

static void test_array_of_three_dimensions_takes_memory(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	const CUDA_ARRAY3D_DESCRIPTOR wanted = {
		256, 256, 256, CU_AD_FORMAT_UNSIGNED_INT8, 4, 0
	};
	CUarray array;
	size_t before;

	(void)state;
	if (!gpu)
		return;
	before = th_gpu_free_bytes(gpu);
	th_cu(gpu->driver->cuArray3DCreate_v2(&array, &wanted));
	assert_taken(gpu, before, LARGE);
	th_cu(gpu->driver->cuArrayDestroy(array));
	th_gpu_exit();
}

static void test_mipmaps_take_memory_of_every_level(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	const CUDA_ARRAY3D_DESCRIPTOR wanted = { 4096, 4096,
						 0,    CU_AD_FORMAT_FLOAT,
						 1,    0 };
	CUmipmappedArray array;
	size_t before;

	(void)state;
	if (!gpu)
		return;
	before = th_gpu_free_bytes(gpu);
	th_cu(gpu->driver->cuMipmappedArrayCreate(&array, &wanted, 12));
	assert_taken(gpu, before, LARGE + LARGE / 4);
	th_cu(gpu->driver->cuMipmappedArrayDestroy(array));
	assert_true(th_gpu_free_bytes(gpu) >= before);
	th_gpu_exit();
}

static void test_array_without_width_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	const CUDA_ARRAY_DESCRIPTOR wanted = { 0, 16, CU_AD_FORMAT_FLOAT, 1 };
	CUarray array;

	(void)state;
	if (!gpu)
		return;
	th_cu_is(gpu->driver->cuArrayCreate_v2(&array, &wanted),
		 CUDA_ERROR_INVALID_VALUE);
	th_gpu_exit();
}

/* ---- pools ---- */

static CUmemoryPool new_pool(const struct th_gpu *gpu)
{
	const CUmemPoolProps props = {
		.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = gpu->prop.location,
	};
	CUmemoryPool pool;

	th_cu(gpu->driver->cuMemPoolCreate(&pool, &props));
	return pool;
}

static uint64_t pool_bytes(const struct th_gpu *gpu, CUmemoryPool pool,
			   CUmemPool_attribute attribute)
{
	uint64_t bytes = 0;

	th_cu(gpu->driver->cuMemPoolGetAttribute(pool, attribute, &bytes));
	return bytes;
}

static void test_pool_counts_what_is_used_of_it(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemoryPool pool;
	CUdeviceptr address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	pool = new_pool(gpu);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuMemAllocFromPoolAsync(&address, LARGE, pool,
						   stream));
	assert_int_equal(
		pool_bytes(gpu, pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), LARGE);
	th_cu(gpu->driver->cuMemFreeAsync(address, stream));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	assert_int_equal(
		pool_bytes(gpu, pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 0);
	assert_int_equal(pool_bytes(gpu, pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH),
			 LARGE);
	th_gpu_exit();
}

static void test_pool_of_the_device_can_be_changed(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemoryPool pool;
	CUmemoryPool now;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	pool = new_pool(gpu);
	th_cu(gpu->driver->cuDeviceSetMemPool(0, pool));
	th_cu(gpu->driver->cuDeviceGetMemPool(&now, 0));
	assert_ptr_equal(now, pool);
	th_cu(gpu->driver->cuMemAllocAsync(&address, SEGMENT, NULL));
	th_cu(ask(gpu, &now, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, address));
	assert_ptr_equal(now, pool);
	th_gpu_exit();
}

static void test_pool_of_a_place_is_that_of_the_device(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemLocation place;
	CUmemoryPool pool;
	CUmemoryPool now;

	(void)state;
	if (!gpu)
		return;
	if (!gpu->driver->cuMemSetMemPool) /* before CUDA 13 */
		th_gpu_exit();
	pool = new_pool(gpu);
	place = gpu->prop.location;
	th_cu(gpu->driver->cuMemSetMemPool(
		&place, CU_MEM_ALLOCATION_TYPE_PINNED, pool));
	th_cu(gpu->driver->cuDeviceGetMemPool(&now, 0));
	assert_ptr_equal(now, pool);
	th_gpu_exit();
}

static void test_pool_destroyed_keeps_what_is_allocated(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemoryPool pool;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	pool = new_pool(gpu);
	th_cu(gpu->driver->cuMemAllocFromPoolAsync(&address, SEGMENT, pool,
						   NULL));
	th_cu(gpu->driver->cuMemPoolDestroy(pool));
	th_gpu_put(gpu, address, 9);
	assert_int_equal(th_gpu_get(gpu, address), 9);
	th_cu(gpu->driver->cuMemFreeAsync(address, NULL));
	th_cu(gpu->driver->cuCtxSynchronize());
	th_gpu_exit();
}

static void test_pool_memory_can_be_freed_plainly(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemAllocAsync(&address, SEGMENT, NULL));
	th_cu(gpu->driver->cuStreamSynchronize(NULL));
	th_cu(gpu->driver->cuMemFree_v2(address));
	th_gpu_exit();
}

static void test_pool_memory_freed_twice_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuMemAllocAsync(&address, SEGMENT, stream));
	th_gpu_block(gpu, stream);
	th_cu(gpu->driver->cuMemFreeAsync(address, stream));
	th_cu_is(gpu->driver->cuMemFreeAsync(address, stream),
		 CUDA_ERROR_INVALID_VALUE);
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	th_gpu_exit();
}

static void test_pool_memory_is_not_for_legacy_ipc(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUipcMemHandle handle;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemAllocAsync(&address, SEGMENT, NULL));
	th_cu(gpu->driver->cuStreamSynchronize(NULL));
	th_cu_fails(gpu->driver->cuIpcGetMemHandle(&handle, address));
	th_gpu_exit();
}

/* ---- per thread ---- */

static void test_per_thread_call_is_not_behind_the_legacy_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUstream other;

	(void)state;
	if (!gpu)
		return;
	other = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuMemAllocAsync_ptsz(&address, SEGMENT, NULL));
	th_cu(gpu->driver->cuStreamSynchronize(CU_STREAM_PER_THREAD));
	th_gpu_block(gpu, other);
	th_cu(gpu->driver->cuMemFreeAsync_ptsz(address, NULL));
	th_cu(gpu->driver->cuStreamSynchronize(CU_STREAM_PER_THREAD));
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuStreamSynchronize(other));
	th_gpu_exit();
}

static void test_per_thread_capture_is_of_the_threads_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	CUgraph graph;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuStreamBeginCapture_v2_ptsz(
		NULL, CU_STREAM_CAPTURE_MODE_RELAXED));
	th_cu(gpu->driver->cuStreamIsCapturing(CU_STREAM_PER_THREAD, &status));
	assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
	th_cu(gpu->driver->cuStreamEndCapture_ptsz(NULL, &graph));
	th_cu(gpu->driver->cuGraphDestroy(graph));
	th_gpu_exit();
}

/* ---- what is told of an address ---- */

static void test_range_is_that_of_the_mapping(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUdeviceptr base = 0;
	size_t bytes = 0;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	th_cu(gpu->driver->cuMemGetAddressRange_v2(&base, &bytes,
						   address + 100));
	assert_int_equal(base, address);
	assert_int_equal(bytes, SEGMENT);
	th_cu(gpu->driver->cuMemGetAddressRange_v2(NULL, &bytes, address));
	th_cu(gpu->driver->cuMemGetAddressRange_v2(&base, NULL, address));
	th_gpu_exit();
}

static void test_range_of_a_plain_block_begins_at_it(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUdeviceptr base = 0;
	size_t bytes = 0;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemAlloc_v2(&address, LARGE));
	th_cu(gpu->driver->cuMemGetAddressRange_v2(&base, &bytes,
						   address + SEGMENT));
	assert_int_equal(base, address);
	assert_int_equal(bytes, LARGE);
	th_gpu_exit();
}

static void test_range_of_a_stranger_is_not_found(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr base;
	size_t bytes;

	(void)state;
	if (!gpu)
		return;
	th_cu_is(gpu->driver->cuMemGetAddressRange_v2(&base, &bytes, 4096),
		 CUDA_ERROR_NOT_FOUND);
	th_gpu_exit();
}

/* Two mappings side by side are two ranges, and attributes say the same. */
static void test_attributes_are_those_of_one_mapping(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUdeviceptr base = 0;
	size_t bytes = 0;
	int is_legacy = 1;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu) + 4096;
	th_cu(ask(gpu, &base, CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, address));
	th_cu(ask(gpu, &bytes, CU_POINTER_ATTRIBUTE_MAPPING_SIZE, address));
	th_cu(ask(gpu, &is_legacy,
		  CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, address));
	assert_int_equal(base + 4096, address);
	assert_int_equal(bytes, SEGMENT);
	assert_int_equal(is_legacy & 0xff, 0);
	th_gpu_exit();
}

static void test_attributes_of_a_stranger_are_zeros(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUpointer_attribute asked[] = { CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
					CU_POINTER_ATTRIBUTE_RANGE_SIZE };
	CUdeviceptr base = 1;
	size_t bytes = 1;
	void *values[] = { &base, &bytes };

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuPointerGetAttributes(2, asked, values, 4096));
	assert_int_equal(base, 0);
	assert_int_equal(bytes, 0);
	th_gpu_exit();
}

/* ---- retained handles ---- */

static void test_retained_handle_is_released_by_itself(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle retained;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	th_cu(gpu->driver->cuMemRetainAllocationHandle(
		&retained, (void *)(address + 4096)));
	close(th_gpu_export(gpu, retained));
	th_cu(gpu->driver->cuMemRelease(retained));
	th_gpu_put(gpu, address, 3);
	assert_int_equal(th_gpu_get(gpu, address), 3);
	th_gpu_exit();
}

static void test_retained_handle_of_an_import_cannot_be_exported(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle imported;
	CUmemGenericAllocationHandle retained;
	CUdeviceptr address;
	int fd;

	(void)state;
	if (!gpu)
		return;
	fd = th_gpu_export(gpu, th_gpu_create(gpu));
	imported = th_gpu_import(gpu, fd);
	address = th_gpu_map(gpu, imported, &gpu->writable);
	th_cu(gpu->driver->cuMemRelease(imported));
	th_cu(gpu->driver->cuMemRetainAllocationHandle(&retained,
						       (void *)address));
	th_cu_is(gpu->driver->cuMemExportToShareableHandle(
			 &fd, retained,
			 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
		 CUDA_ERROR_INVALID_VALUE);
	th_gpu_exit();
}

/* Also when whoever mapped it has released it. */
static void test_retained_handle_is_the_one_that_was_mapped(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle mapped, retained;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	mapped = th_gpu_create(gpu);
	address = th_gpu_map(gpu, mapped, &gpu->writable);
	for (int i = 0; i < 2; i++) {
		th_cu(gpu->driver->cuMemRetainAllocationHandle(
			&retained, (void *)address));
		assert_int_equal(retained, mapped);
		th_cu(gpu->driver->cuMemRelease(mapped));
	}
	th_cu(gpu->driver->cuMemRelease(retained));
	th_cu(gpu->driver->cuMemRetainAllocationHandle(&retained,
						       (void *)address));
	assert_int_equal(retained, mapped);
	th_gpu_put(gpu, address, 3);
	assert_int_equal(th_gpu_get(gpu, address), 3);
	th_gpu_exit();
}

static void test_retaining_what_is_no_mapping_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle retained;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemAlloc_v2(&address, SEGMENT));
	th_cu_fails(gpu->driver->cuMemRetainAllocationHandle(&retained,
							     (void *)address));
	th_cu_fails(gpu->driver->cuMemRetainAllocationHandle(&retained,
							     (void *)4096));
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_pitched_rows_are_aligned_and_usable),
	TH_TEST(test_pitched_without_extent_is_refused),
	TH_TEST(test_managed_is_for_host_and_gpu),
	TH_TEST(test_managed_with_wrong_flags_is_refused),
	TH_TEST(test_array_takes_memory_and_gives_it_back),
	TH_TEST(test_array_of_three_dimensions_takes_memory),
	TH_TEST(test_mipmaps_take_memory_of_every_level),
	TH_TEST(test_array_without_width_is_refused),
	TH_TEST(test_pool_counts_what_is_used_of_it),
	TH_TEST(test_pool_of_the_device_can_be_changed),
	TH_TEST(test_pool_of_a_place_is_that_of_the_device),
	TH_TEST(test_pool_destroyed_keeps_what_is_allocated),
	TH_TEST(test_pool_memory_can_be_freed_plainly),
	TH_TEST(test_pool_memory_freed_twice_is_refused),
	TH_TEST(test_pool_memory_is_not_for_legacy_ipc),
	TH_TEST(test_per_thread_call_is_not_behind_the_legacy_stream),
	TH_TEST(test_per_thread_capture_is_of_the_threads_stream),
	TH_TEST(test_range_is_that_of_the_mapping),
	TH_TEST(test_range_of_a_plain_block_begins_at_it),
	TH_TEST(test_range_of_a_stranger_is_not_found),
	TH_TEST(test_attributes_are_those_of_one_mapping),
	TH_TEST(test_attributes_of_a_stranger_are_zeros),
	TH_TEST(test_retained_handle_is_released_by_itself),
	TH_TEST(test_retained_handle_of_an_import_cannot_be_exported),
	TH_TEST(test_retained_handle_is_the_one_that_was_mapped),
	TH_TEST(test_retaining_what_is_no_mapping_is_refused),
};

TH_MAIN("conformance_kinds", tests)
