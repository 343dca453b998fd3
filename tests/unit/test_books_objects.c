/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The preload's books of a program's own memory objects, and of the pool's
 * segments that it retains or shares, in a pretend world. */
#include <errno.h>
#include <string.h>

#include "preload/hooks.h"
#include "tests/support/harness.h"
#include "tests/support/pretend_preload.h"

#define MIB (UINT64_C(1) << 20)
#define BYTES (2 * MIB)
#define BASE UINT64_C(0x500000000000)
#define HANDLE UINT64_C(0x77)

#define TEST(fn) TH_TEST_SETUP(fn, th_world_reset, th_world_check)

static const CUmemAllocationProp on_gpu = {
	.type = CU_MEM_ALLOCATION_TYPE_PINNED,
	.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE },
};

static CUmemGenericAllocationHandle create(uint64_t number)
{
	CUmemGenericAllocationHandle handle;

	th_world.gives = number;
	assert_int_equal(cuMemCreate(&handle, BYTES, &on_gpu, 0), CUDA_SUCCESS);
	assert_int_equal(handle, number);
	return handle;
}

static void map(uint64_t at, CUmemGenericAllocationHandle handle)
{
	assert_int_equal(cuMemMap(at, BYTES, 0, handle, 0), CUDA_SUCCESS);
}

static void unmap(uint64_t at, uint64_t bytes)
{
	assert_int_equal(cuMemUnmap(at, bytes), CUDA_SUCCESS);
}

static void drop(CUmemGenericAllocationHandle handle)
{
	assert_int_equal(cuMemRelease(handle), CUDA_SUCCESS);
}

/* ---- room ---- */

static void test_object_has_room_until_it_is_released(void **state)
{
	CUmemGenericAllocationHandle handle = create(HANDLE);

	(void)state;
	assert_int_equal(th_world.outside, BYTES);
	drop(handle);
	assert_int_equal(th_world.outside, 0);
}

static void test_object_has_room_until_it_is_unmapped(void **state)
{
	CUmemGenericAllocationHandle handle = create(HANDLE);

	(void)state;
	map(BASE, handle);
	drop(handle);
	assert_int_equal(th_world.outside, BYTES);
	unmap(BASE, BYTES);
	assert_int_equal(th_world.outside, 0);
}

static void test_object_unmapped_but_held_has_room(void **state)
{
	CUmemGenericAllocationHandle handle = create(HANDLE);

	(void)state;
	map(BASE, handle);
	unmap(BASE, BYTES);
	assert_int_equal(th_world.outside, BYTES);
	drop(handle);
}

static void test_objects_unmapped_at_once_all_give_room(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 5; i++) {
		map(BASE + i * BYTES, create(HANDLE + i));
		drop(HANDLE + i);
	}
	assert_int_equal(th_world.outside, 5 * BYTES);
	unmap(BASE + BYTES, 3 * BYTES);
	assert_int_equal(th_world.outside, 2 * BYTES);
	unmap(BASE, 5 * BYTES);
	assert_int_equal(th_world.outside, 0);
}

static void test_object_unmap_refused_keeps_the_room(void **state)
{
	(void)state;
	map(BASE, create(HANDLE));
	drop(HANDLE);
	th_world.refuses = CUDA_ERROR_INVALID_VALUE;
	assert_int_equal(cuMemUnmap(BASE, BYTES), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(th_world.outside, BYTES);
	unmap(BASE, BYTES);
	assert_int_equal(th_world.outside, 0);
}

static void test_object_release_refused_keeps_the_room(void **state)
{
	(void)state;
	(void)create(HANDLE);
	th_world.refuses = CUDA_ERROR_INVALID_VALUE;
	assert_int_equal(cuMemRelease(HANDLE), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(th_world.outside, BYTES);
	drop(HANDLE);
	assert_int_equal(th_world.outside, 0);
}

static void test_object_refused_by_driver_keeps_no_room(void **state)
{
	CUmemGenericAllocationHandle handle;

	(void)state;
	th_world.refuses = CUDA_ERROR_OUT_OF_MEMORY;
	assert_int_equal(cuMemCreate(&handle, BYTES, &on_gpu, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(th_world.outside, 0);
}

static void test_object_map_refused_counts_no_mapping(void **state)
{
	(void)state;
	(void)create(HANDLE);
	th_world.refuses = CUDA_ERROR_INVALID_VALUE;
	assert_int_equal(cuMemMap(BASE, BYTES, 0, HANDLE, 0),
			 CUDA_ERROR_INVALID_VALUE);
	drop(HANDLE);
	assert_int_equal(th_world.outside, 0);
}

static void test_object_on_the_host_is_untouched(void **state)
{
	CUmemAllocationProp prop = on_gpu;
	CUmemGenericAllocationHandle handle;

	(void)state;
	for (int type = 2; type <= 4; type++) {
		prop.location.type = (CUmemLocationType)type;
		assert_int_equal(cuMemCreate(&handle, BYTES, &prop, 0),
				 CUDA_SUCCESS);
		assert_int_equal(th_world.outside, 0);
		drop(handle);
	}
}

static void test_object_on_another_gpu_is_not_counted(void **state)
{
	(void)state;
	th_world.pool_device = 1;
	(void)create(HANDLE);
	assert_int_equal(th_world.outside, 0);
	drop(HANDLE);
}

static void test_object_beyond_the_quota_is_refused(void **state)
{
	CUmemGenericAllocationHandle handle = 5;

	(void)state;
	th_world.take = PS_OUT_OF_MEMORY;
	assert_int_equal(cuMemCreate(&handle, BYTES, &on_gpu, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(handle, 5);
	assert_int_equal(th_world.calls, 0);
}

static void test_object_retained_must_be_released_twice(void **state)
{
	CUmemGenericAllocationHandle handle;

	(void)state;
	map(BASE, create(HANDLE));
	assert_int_equal(cuMemRetainAllocationHandle(&handle, (void *)BASE),
			 CUDA_SUCCESS);
	drop(handle);
	unmap(BASE, BYTES);
	assert_int_equal(th_world.outside, BYTES);
	drop(HANDLE);
	assert_int_equal(th_world.outside, 0);
}

static void test_object_calls_leave_errno(void **state)
{
	(void)state;
	errno = 4711;
	map(BASE, create(HANDLE));
	unmap(BASE, BYTES);
	drop(HANDLE);
	assert_int_equal(errno, 4711);
}

/* ---- segments of the pool ---- */

static CUresult export_handle(CUmemGenericAllocationHandle handle, int *fd)
{
	return cuMemExportToShareableHandle(
		fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
}

static void retain_segment(void)
{
	CUmemGenericAllocationHandle handle;

	th_world.gives = HANDLE;
	assert_int_equal(
		cuMemRetainAllocationHandle(&handle, (void *)TH_WORLD_INSIDE),
		CUDA_SUCCESS);
}

static void test_segment_retained_is_exported_by_the_daemon(void **state)
{
	int fd = -1;

	(void)state;
	retain_segment();
	assert_int_equal(export_handle(HANDLE, &fd), CUDA_SUCCESS);
	assert_int_equal(fd, TH_WORLD_FD);
	drop(HANDLE);
}

static void test_segment_moved_meanwhile_is_not_exported(void **state)
{
	int fd = -1;

	(void)state;
	retain_segment();
	th_world.gives = HANDLE + 1;
	assert_int_equal(export_handle(HANDLE, &fd), CUDA_SUCCESS);
	assert_int_equal(fd, -1);
	drop(HANDLE);
}

static void test_segment_released_is_exported_no_more(void **state)
{
	int fd = -1;

	(void)state;
	retain_segment();
	retain_segment();
	drop(HANDLE);
	assert_int_equal(export_handle(HANDLE, &fd), CUDA_SUCCESS);
	assert_int_equal(fd, TH_WORLD_FD);
	drop(HANDLE);
	fd = -1;
	assert_int_equal(export_handle(HANDLE, &fd), CUDA_SUCCESS);
	assert_int_equal(fd, -1);
}

/* ---- tickets ---- */

static CUresult open_handle(const CUipcMemHandle *handle, CUdeviceptr *address)
{
	return cuIpcOpenMemHandle_v2(address, *handle,
				     CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
}

static CUipcMemHandle ticket_of(CUdeviceptr address)
{
	CUipcMemHandle handle;

	assert_int_equal(cuIpcGetMemHandle(&handle, address), CUDA_SUCCESS);
	return handle;
}

static void test_ticket_stands_for_a_legacy_handle(void **state)
{
	CUipcMemHandle handle = ticket_of(TH_WORLD_INSIDE);
	CUdeviceptr address = 0;

	(void)state;
	assert_memory_equal(&handle, PS_TICKET_MAGIC, 8);
	assert_int_equal(open_handle(&handle, &address), CUDA_SUCCESS);
	assert_int_equal(address, TH_WORLD_INSIDE);
	assert_int_equal(cuIpcCloseMemHandle(address), CUDA_SUCCESS);
	assert_int_equal(cuIpcOpenMemHandle(&address, handle, 1), CUDA_SUCCESS);
	assert_int_equal(cuIpcCloseMemHandle(address), CUDA_SUCCESS);
	assert_int_equal(th_world.calls, 0);
}

static void test_ticket_beside_the_pool_is_the_drivers(void **state)
{
	CUipcMemHandle handle = { { 1 } };
	CUdeviceptr address = 0;

	(void)state;
	assert_int_equal(cuIpcGetMemHandle(&handle, BASE), CUDA_SUCCESS);
	assert_int_equal(open_handle(&handle, &address), CUDA_SUCCESS);
	assert_int_equal(address, 0x1000);
	assert_int_equal(cuIpcCloseMemHandle(address), CUDA_SUCCESS);
	assert_int_equal(th_world.calls, 3);
}

static void test_ticket_errors_are_the_drivers(void **state)
{
	CUipcMemHandle handle = ticket_of(TH_WORLD_INSIDE);
	CUdeviceptr address = 5;

	(void)state;
	th_world.take = PS_REFUSED;
	assert_int_equal(open_handle(&handle, &address),
			 CUDA_ERROR_INVALID_HANDLE);
	th_world.take = PS_NOT_OURS;
	assert_int_equal(open_handle(&handle, &address),
			 CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(address, 5);
	assert_int_equal(cuIpcOpenMemHandle_v2(&address, handle, 0),
			 CUDA_ERROR_INVALID_VALUE);
}

static void test_ticket_without_a_pool_is_refused(void **state)
{
	CUipcMemHandle handle = ticket_of(TH_WORLD_INSIDE);
	CUdeviceptr address;

	(void)state;
	th_world.has_pool = false;
	assert_int_equal(open_handle(&handle, &address),
			 CUDA_ERROR_INVALID_HANDLE);
	th_world.context = NULL;
	assert_int_equal(open_handle(&handle, &address),
			 CUDA_ERROR_INVALID_CONTEXT);
	th_world.attach = CUDA_ERROR_SYSTEM_NOT_READY;
	assert_int_equal(open_handle(&handle, &address),
			 CUDA_ERROR_SYSTEM_NOT_READY);
	assert_int_equal(th_world.calls, 0);
}

static const struct th_test tests[] = {
	TEST(test_object_has_room_until_it_is_released),
	TEST(test_object_has_room_until_it_is_unmapped),
	TEST(test_object_unmapped_but_held_has_room),
	TEST(test_objects_unmapped_at_once_all_give_room),
	TEST(test_object_unmap_refused_keeps_the_room),
	TEST(test_object_release_refused_keeps_the_room),
	TEST(test_object_refused_by_driver_keeps_no_room),
	TEST(test_object_map_refused_counts_no_mapping),
	TEST(test_object_on_the_host_is_untouched),
	TEST(test_object_on_another_gpu_is_not_counted),
	TEST(test_object_beyond_the_quota_is_refused),
	TEST(test_object_retained_must_be_released_twice),
	TEST(test_object_calls_leave_errno),
	TEST(test_segment_retained_is_exported_by_the_daemon),
	TEST(test_segment_moved_meanwhile_is_not_exported),
	TEST(test_segment_released_is_exported_no_more),
	TEST(test_ticket_stands_for_a_legacy_handle),
	TEST(test_ticket_beside_the_pool_is_the_drivers),
	TEST(test_ticket_errors_are_the_drivers),
	TEST(test_ticket_without_a_pool_is_refused),
};

TH_MAIN("books_objects", tests)
