/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the project relies on in the driver: memory in one process. The same
 * checks run on a real GPU and on the simulated one, so that the simulation
 * cannot drift from what it stands for.
 */
#include "tests/support/gpu.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEGMENT TH_SEGMENT_BYTES

/* ---- creating ---- */

static void test_granularity_is_2_mib(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	size_t bytes = 0;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemGetAllocationGranularity(
		&bytes, &gpu->prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	assert_int_equal(bytes, 2 << 20);
	th_cu(gpu->driver->cuMemGetAllocationGranularity(
		&bytes, &gpu->prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
	assert_int_equal(bytes, 2 << 20);
	th_gpu_exit();
}

static void test_vmm_without_context_works(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuCtxSetCurrent(NULL));
	handle = th_gpu_create(gpu);
	th_gpu_export(gpu, handle);
	th_gpu_map(gpu, handle, &gpu->writable);
	th_gpu_exit();
}

static void test_create_of_odd_size_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;

	(void)state;
	if (!gpu)
		return;
	th_cu_is(gpu->driver->cuMemCreate(&handle, SEGMENT + 4096, &gpu->prop,
					  0),
		 CUDA_ERROR_INVALID_VALUE);
	th_cu_is(gpu->driver->cuMemCreate(&handle, 0, &gpu->prop, 0),
		 CUDA_ERROR_INVALID_VALUE);
	th_gpu_exit();
}

static void test_create_beyond_the_gpu_is_out_of_memory(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;
	size_t total = 0;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuDeviceTotalMem_v2(&total, 0));
	total = (total / SEGMENT + 64) * SEGMENT;
	th_cu_is(gpu->driver->cuMemCreate(&handle, total, &gpu->prop, 0),
		 CUDA_ERROR_OUT_OF_MEMORY);
	th_gpu_exit();
}

/* The driver's own tables come and go with the memory. */
static void assert_about(size_t bytes, size_t expected)
{
	const size_t more = 32 * SEGMENT;

	assert_in_range(bytes + more, expected, expected + 2 * more);
}

static void test_memory_info_follows_create_and_release(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	const size_t bytes = 512 * SEGMENT;
	CUmemGenericAllocationHandle handle;
	size_t before;

	(void)state;
	if (!gpu)
		return;
	before = th_gpu_free_bytes(gpu);
	th_cu(gpu->driver->cuMemCreate(&handle, bytes, &gpu->prop, 0));
	assert_about(before - th_gpu_free_bytes(gpu), bytes);
	th_cu(gpu->driver->cuMemRelease(handle));
	assert_about(th_gpu_free_bytes(gpu), before);
	th_gpu_exit();
}

/* ---- handles and descriptors ---- */

static void test_descriptor_keeps_released_memory(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;
	int fd;

	(void)state;
	if (!gpu)
		return;
	handle = th_gpu_create(gpu);
	fd = th_gpu_export(gpu, handle);
	address = th_gpu_map(gpu, handle, &gpu->writable);
	th_gpu_put(gpu, address, 7);
	th_cu(gpu->driver->cuMemUnmap(address, SEGMENT));
	th_cu(gpu->driver->cuMemRelease(handle));
	handle = th_gpu_import(gpu, fd);
	address = th_gpu_map(gpu, handle, &gpu->readable);
	assert_int_equal(th_gpu_get(gpu, address), 7);
	th_gpu_exit();
}

static void test_closing_the_descriptor_frees_memory(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	const size_t bytes = 512 * SEGMENT;
	CUmemGenericAllocationHandle handle;
	size_t before;
	int fd;

	(void)state;
	if (!gpu)
		return;
	before = th_gpu_free_bytes(gpu);
	th_cu(gpu->driver->cuMemCreate(&handle, bytes, &gpu->prop, 0));
	fd = th_gpu_export(gpu, handle);
	th_cu(gpu->driver->cuMemRelease(handle));
	assert_about(before - th_gpu_free_bytes(gpu), bytes);
	close(fd);
	assert_about(th_gpu_free_bytes(gpu), before);
	th_gpu_exit();
}

static void test_mapping_keeps_released_memory(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	handle = th_gpu_create(gpu);
	address = th_gpu_map(gpu, handle, &gpu->writable);
	th_cu(gpu->driver->cuMemRelease(handle));
	th_gpu_put(gpu, address, 9);
	assert_int_equal(th_gpu_get(gpu, address), 9);
	th_gpu_exit();
}

static void test_export_of_import_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;
	int fd;

	(void)state;
	if (!gpu)
		return;
	handle = th_gpu_import(gpu, th_gpu_export(gpu, th_gpu_create(gpu)));
	th_cu_is(gpu->driver->cuMemExportToShareableHandle(
			 &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
			 0),
		 CUDA_ERROR_INVALID_VALUE);
	th_gpu_exit();
}

static void assert_no_segment(const struct th_gpu *gpu, int fd)
{
	CUmemGenericAllocationHandle handle;

	assert_true(fd >= 0);
	th_cu_fails(gpu->driver->cuMemImportFromShareableHandle(
		&handle, (void *)(intptr_t)fd,
		CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	close(fd);
}

static void test_import_of_other_descriptors_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	int ends[2];

	(void)state;
	if (!gpu)
		return;
	assert_no_segment(gpu, open("/dev/null", O_RDWR));
	assert_no_segment(gpu, memfd_create("none", MFD_CLOEXEC));
	assert_int_equal(pipe(ends), 0);
	assert_no_segment(gpu, ends[0]);
	assert_no_segment(gpu, ends[1]);
	th_gpu_exit();
}

/* ---- addresses ---- */

static void test_reserve_at_free_address_is_there(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	assert_int_equal(th_gpu_reserve(gpu, TH_ROOM_BYTES, TH_SOMEWHERE),
			 TH_SOMEWHERE);
	th_gpu_exit();
}

/* The driver may or may not put a small one where it is wanted. */
static void test_reserve_below_32_mib_is_anywhere(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	size_t bytes;

	(void)state;
	if (!gpu)
		return;
	for (bytes = SEGMENT; bytes < TH_WINDOW_BYTES; bytes *= 2)
		assert_int_not_equal(th_gpu_reserve(gpu, bytes, TH_SOMEWHERE),
				     0);
	th_gpu_exit();
}

static void test_reserve_at_taken_address_is_elsewhere(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	const size_t bytes = TH_WINDOW_BYTES;
	CUdeviceptr second;

	(void)state;
	if (!gpu)
		return;
	th_gpu_reserve(gpu, bytes, TH_SOMEWHERE);
	second = th_gpu_reserve(gpu, bytes, TH_SOMEWHERE + SEGMENT);
	assert_true(second + bytes <= TH_SOMEWHERE ||
		    second >= TH_SOMEWHERE + bytes);
	th_gpu_exit();
}

static void test_reserve_of_64_tib_works(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	const size_t bytes = TH_MOST_BYTES;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_reserve(gpu, bytes, 0);
	th_cu(gpu->driver->cuMemAddressFree(address, bytes));
	th_gpu_exit();
}

static void test_freed_addresses_can_be_reserved_again(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	th_gpu_reserve(gpu, TH_WINDOW_BYTES, TH_SOMEWHERE);
	th_cu(gpu->driver->cuMemAddressFree(TH_SOMEWHERE, TH_WINDOW_BYTES));
	assert_int_equal(th_gpu_reserve(gpu, TH_WINDOW_BYTES, TH_SOMEWHERE),
			 TH_SOMEWHERE);
	th_gpu_exit();
}

/* ---- mapping ---- */

static void test_map_of_part_is_not_supported(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemCreate(&handle, 4 * SEGMENT, &gpu->prop, 0));
	address = th_gpu_reserve(gpu, 4 * SEGMENT, 0);
	th_cu_is(gpu->driver->cuMemMap(address, SEGMENT, 0, handle, 0),
		 CUDA_ERROR_NOT_SUPPORTED);
	th_gpu_exit();
}

static void test_map_at_offset_is_not_supported(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemCreate(&handle, 4 * SEGMENT, &gpu->prop, 0));
	address = th_gpu_reserve(gpu, 4 * SEGMENT, 0);
	th_cu_is(gpu->driver->cuMemMap(address, SEGMENT, SEGMENT, handle, 0),
		 CUDA_ERROR_NOT_SUPPORTED);
	th_gpu_exit();
}

static void test_map_over_a_mapping_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	th_cu_fails(gpu->driver->cuMemMap(address, SEGMENT, 0,
					  th_gpu_create(gpu), 0));
	th_gpu_exit();
}

static void test_map_twice_shows_the_same_memory(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;
	CUdeviceptr second;
	CUdeviceptr first;

	(void)state;
	if (!gpu)
		return;
	handle = th_gpu_create(gpu);
	first = th_gpu_map(gpu, handle, &gpu->writable);
	second = th_gpu_map(gpu, handle, &gpu->readable);
	th_gpu_put(gpu, first, 11);
	assert_int_equal(th_gpu_get(gpu, second), 11);
	th_gpu_exit();
}

static void test_other_memory_at_the_same_address_is_seen(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle other;
	CUdeviceptr elsewhere;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	th_gpu_put(gpu, address, 1);
	other = th_gpu_create(gpu);
	elsewhere = th_gpu_map(gpu, other, &gpu->writable);
	th_gpu_put(gpu, elsewhere, 2);
	th_cu(gpu->driver->cuMemUnmap(address, SEGMENT));
	th_cu(gpu->driver->cuMemMap(address, SEGMENT, 0, other, 0));
	th_cu(gpu->driver->cuMemSetAccess(address, SEGMENT, &gpu->writable, 1));
	assert_int_equal(th_gpu_get(gpu, address), 2);
	th_gpu_exit();
}

static CUdeviceptr map_neighbours(const struct th_gpu *gpu, size_t count)
{
	CUdeviceptr address = th_gpu_reserve(gpu, count * SEGMENT, 0);
	size_t i;

	for (i = 0; i < count; i++)
		th_cu(gpu->driver->cuMemMap(address + i * SEGMENT, SEGMENT, 0,
					    th_gpu_create(gpu), 0));
	return address;
}

static void test_unmap_of_neighbours_at_once_works(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	address = map_neighbours(gpu, 4);
	th_cu(gpu->driver->cuMemUnmap(address, 4 * SEGMENT));
	th_cu(gpu->driver->cuMemAddressFree(address, 4 * SEGMENT));
	th_gpu_exit();
}

static void test_unmap_does_not_wait_for_work(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_gpu_block(gpu, stream);
	th_cu(gpu->driver->cuMemUnmap(address, SEGMENT));
	th_gpu_assert_busy(gpu, stream);
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	th_gpu_exit();
}

/* ---- access ---- */

static void test_memory_without_access_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	uint32_t word = 0;

	(void)state;
	if (!gpu)
		return;
	address = map_neighbours(gpu, 1);
	th_cu_fails(gpu->driver->cuMemcpyHtoD_v2(address, &word, sizeof(word)));
	th_gpu_exit();
}

static void test_set_access_of_part_is_invalid(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemCreate(&handle, 2 * SEGMENT, &gpu->prop, 0));
	address = th_gpu_reserve(gpu, 2 * SEGMENT, 0);
	th_cu(gpu->driver->cuMemMap(address, 2 * SEGMENT, 0, handle, 0));
	th_cu_is(gpu->driver->cuMemSetAccess(address, SEGMENT, &gpu->writable,
					     1),
		 CUDA_ERROR_INVALID_VALUE);
	th_gpu_exit();
}

static void test_set_access_of_one_of_several_works(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	address = map_neighbours(gpu, 3);
	th_cu(gpu->driver->cuMemSetAccess(address + SEGMENT, SEGMENT,
					  &gpu->writable, 1));
	th_gpu_put(gpu, address + SEGMENT, 3);
	assert_int_equal(th_gpu_get(gpu, address + SEGMENT), 3);
	th_gpu_exit();
}

static void test_set_access_of_several_at_once_works(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	address = map_neighbours(gpu, 3);
	th_cu(gpu->driver->cuMemSetAccess(address, 3 * SEGMENT, &gpu->writable,
					  1));
	/* Across a border between two. */
	th_cu(gpu->driver->cuMemsetD32_v2(address + SEGMENT - 4, 5, 2));
	assert_int_equal(th_gpu_get(gpu, address + SEGMENT), 5);
	th_gpu_exit();
}

static void test_read_only_refuses_copies_and_keeps_contents(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	uint32_t word = 22;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	th_gpu_put(gpu, address, 21);
	th_cu(gpu->driver->cuMemSetAccess(address, SEGMENT, &gpu->readable, 1));
	th_cu_is(gpu->driver->cuMemcpyHtoD_v2(address, &word, sizeof(word)),
		 CUDA_ERROR_INVALID_VALUE);
	th_cu_is(gpu->driver->cuMemsetD32_v2(address, 23, 1),
		 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(th_gpu_get(gpu, address), 21);
	th_gpu_exit();
}

static void test_no_access_can_be_set(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemAccessDesc none;
	CUdeviceptr address;
	uint32_t word;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	none = gpu->writable;
	none.flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
	th_cu(gpu->driver->cuMemSetAccess(address, SEGMENT, &none, 1));
	th_cu_fails(gpu->driver->cuMemcpyDtoH_v2(&word, address, sizeof(word)));
	th_gpu_exit();
}

/* ---- plain allocations ---- */

static void test_alloc_of_nothing_is_invalid(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu_is(gpu->driver->cuMemAlloc_v2(&address, 0),
		 CUDA_ERROR_INVALID_VALUE);
	th_cu(gpu->driver->cuMemFree_v2(0));
	th_gpu_exit();
}

static void test_alloc_is_aligned_and_freed(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemAlloc_v2(&address, 1));
	assert_int_equal(address % 512, 0);
	th_cu(gpu->driver->cuMemFree_v2(address));
	th_cu_is(gpu->driver->cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
	th_gpu_exit();
}

static void test_alloc_async_serves_its_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	uint32_t word = 0;
	CUdeviceptr address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuMemAllocAsync(&address, 4096, stream));
	th_cu(gpu->driver->cuMemsetD32Async(address, 8, 1, stream));
	th_cu(gpu->driver->cuMemcpyDtoHAsync_v2(&word, address, sizeof(word),
						stream));
	th_cu(gpu->driver->cuMemFreeAsync(address, stream));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	assert_int_equal(word, 8);
	th_gpu_exit();
}

static void test_pool_keeps_a_release_threshold(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	uint64_t threshold = UINT64_MAX;
	CUmemoryPool pool;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuDeviceGetDefaultMemPool(&pool, 0));
	th_cu(gpu->driver->cuMemPoolSetAttribute(
		pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
	th_gpu_exit();
}

/* ---- queries, processes ---- */

static void test_pointer_attributes_tell_the_mapping(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;
	CUdeviceptr start = 0;
	size_t bytes = 0;

	(void)state;
	if (!gpu)
		return;
	handle = th_gpu_import(gpu, th_gpu_export(gpu, th_gpu_create(gpu)));
	address = th_gpu_map(gpu, handle, &gpu->writable);
	th_cu(gpu->driver->cuPointerGetAttribute(
		&start, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, address + 4096));
	th_cu(gpu->driver->cuPointerGetAttribute(
		&bytes, CU_POINTER_ATTRIBUTE_RANGE_SIZE, address + 4096));
	assert_int_equal(start, address);
	assert_int_equal(bytes, SEGMENT);
	th_gpu_exit();
}

static void test_segment_is_not_for_legacy_ipc(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUipcMemHandle ticket;
	CUdeviceptr address;
	int is_capable = 1;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	is_capable = 0;
	th_cu(gpu->driver->cuPointerGetAttribute(
		&is_capable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
		address));
	assert_int_equal(is_capable, 0);
	th_cu_fails(gpu->driver->cuIpcGetMemHandle(&ticket, address));
	th_gpu_exit();
}

static void call_after_fork(void *arg)
{
	const struct th_gpu *gpu = arg;
	CUmemGenericAllocationHandle handle;
	size_t total;
	size_t bytes;

	th_cu_fails(gpu->driver->cuMemGetInfo_v2(&bytes, &total));
	th_cu_fails(gpu->driver->cuMemCreate(&handle, SEGMENT, &gpu->prop, 0));
}

static void test_cuda_in_a_forked_child_fails(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct th_gpu copy;

	(void)state;
	if (!gpu)
		return;
	copy = *gpu;
	assert_int_equal(th_wait(th_fork(call_after_fork, &copy)), 0);
	/* The parent's CUDA is as it was. */
	th_gpu_put(gpu, th_gpu_segment(gpu), 1);
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_granularity_is_2_mib),
	TH_TEST(test_vmm_without_context_works),
	TH_TEST(test_create_of_odd_size_is_refused),
	TH_TEST(test_create_beyond_the_gpu_is_out_of_memory),
	TH_TEST(test_memory_info_follows_create_and_release),
	TH_TEST(test_descriptor_keeps_released_memory),
	TH_TEST(test_closing_the_descriptor_frees_memory),
	TH_TEST(test_mapping_keeps_released_memory),
	TH_TEST(test_export_of_import_is_refused),
	TH_TEST(test_import_of_other_descriptors_is_refused),
	TH_TEST(test_reserve_at_free_address_is_there),
	TH_TEST(test_reserve_below_32_mib_is_anywhere),
	TH_TEST(test_reserve_at_taken_address_is_elsewhere),
	TH_TEST(test_reserve_of_64_tib_works),
	TH_TEST(test_freed_addresses_can_be_reserved_again),
	TH_TEST(test_map_of_part_is_not_supported),
	TH_TEST(test_map_at_offset_is_not_supported),
	TH_TEST(test_map_over_a_mapping_is_refused),
	TH_TEST(test_map_twice_shows_the_same_memory),
	TH_TEST(test_other_memory_at_the_same_address_is_seen),
	TH_TEST(test_unmap_of_neighbours_at_once_works),
	TH_TEST(test_unmap_does_not_wait_for_work),
	TH_TEST(test_memory_without_access_is_refused),
	TH_TEST(test_set_access_of_part_is_invalid),
	TH_TEST(test_set_access_of_one_of_several_works),
	TH_TEST(test_set_access_of_several_at_once_works),
	TH_TEST(test_read_only_refuses_copies_and_keeps_contents),
	TH_TEST(test_no_access_can_be_set),
	TH_TEST(test_alloc_of_nothing_is_invalid),
	TH_TEST(test_alloc_is_aligned_and_freed),
	TH_TEST(test_alloc_async_serves_its_stream),
	TH_TEST(test_pool_keeps_a_release_threshold),
	TH_TEST(test_pointer_attributes_tell_the_mapping),
	TH_TEST(test_segment_is_not_for_legacy_ipc),
	TH_TEST(test_cuda_in_a_forked_child_fails),
};

TH_MAIN("conformance_memory", tests)
