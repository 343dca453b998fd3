/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The preload's books of managed memory, arrays and graphs' memory, in a
 * pretend world. */
#include "preload/hooks.h"
#include "preload/outside.h"
#include "tests/support/harness.h"
#include "tests/support/pretend_preload.h"

#define MIB (UINT64_C(1) << 20)
#define FIRST ((CUgraph)0x100)
#define SECOND ((CUgraph)0x200)
#define EXECUTABLE ((CUgraphExec)0x300)

#define TEST(fn) TH_TEST_SETUP(fn, th_world_reset, th_world_check)

static CUdeviceptr managed(size_t bytes)
{
	CUdeviceptr address;

	assert_int_equal(cuMemAllocManaged(&address, bytes, 1), CUDA_SUCCESS);
	return address;
}

static void test_books_managed_has_room_until_it_is_free(void **state)
{
	CUdeviceptr address = managed(3 * MIB);

	(void)state;
	assert_int_equal(th_world.outside, 3 * MIB);
	assert_int_equal(pl_outside_free(address), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, 0);
}

static void test_books_managed_refused_by_driver_keeps_no_room(void **state)
{
	CUdeviceptr address = 5;

	(void)state;
	th_world.refuses = CUDA_ERROR_INVALID_VALUE;
	assert_int_equal(cuMemAllocManaged(&address, MIB, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(th_world.calls, 1);
	assert_int_equal(address, 5);
}

static void test_books_without_room_the_driver_is_not_asked(void **state)
{
	CUdeviceptr address;

	(void)state;
	th_world.take = PS_OUT_OF_MEMORY;
	assert_int_equal(cuMemAllocManaged(&address, MIB, 1),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(th_world.calls, 0);
}

static void test_books_that_spills_is_counted_as_passed(void **state)
{
	CUdeviceptr address;

	(void)state;
	th_world.take = PS_OUT_OF_MEMORY;
	th_world.spills = true;
	address = managed(MIB);
	assert_int_equal(th_world.outside, 0);
	assert_int_equal(th_world.passed, MIB);
	assert_int_equal(pl_outside_free(address), CUDA_SUCCESS);
}

static void test_books_free_that_fails_keeps_the_room(void **state)
{
	CUdeviceptr address = managed(MIB);

	(void)state;
	th_world.refuses = CUDA_ERROR_INVALID_VALUE;
	assert_int_equal(pl_outside_free(address), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(th_world.outside, MIB);
	assert_int_equal(pl_outside_free(address), CUDA_SUCCESS);
}

static void test_books_without_a_pool_counts_nothing(void **state)
{
	CUdeviceptr address;

	(void)state;
	th_world.has_pool = false;
	address = managed(MIB);
	th_world.has_pool = true;
	assert_int_equal(th_world.outside, 0);
	assert_int_equal(pl_outside_free(address), CUDA_SUCCESS);
}

static void test_books_that_cannot_attach_says_so(void **state)
{
	CUdeviceptr address;

	(void)state;
	th_world.has_pool = false;
	th_world.attach = CUDA_ERROR_SYSTEM_NOT_READY;
	assert_int_equal(cuMemAllocManaged(&address, MIB, 1),
			 CUDA_ERROR_SYSTEM_NOT_READY);
	assert_int_equal(th_world.calls, 0);
}

static void test_books_ends_with_its_context(void **state)
{
	CUcontext mine = th_world.context;
	CUdeviceptr address;

	(void)state;
	(void)managed(MIB);
	th_world.context = (CUcontext)0x10;
	th_world.gives = 0x2000;
	address = managed(2 * MIB);
	pl_outside_drop(mine);
	assert_int_equal(th_world.outside, 2 * MIB);
	assert_int_equal(pl_outside_free(address), CUDA_SUCCESS);
}

/* The next pool has nothing back that it never gave, though it lie where the
 * last one lay. */
static void test_books_pool_that_is_left_has_nothing_back(void **state)
{
	CUdeviceptr address = managed(MIB);

	(void)state;
	pl_ledger_forgive();
	assert_int_equal(pl_outside_free(address), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, MIB);
	th_world.outside = 0;
}

/* ---- arrays ---- */

static void check_array(const CUDA_ARRAY3D_DESCRIPTOR *of, uint64_t bytes)
{
	CUarray array;

	assert_int_equal(cuArray3DCreate_v2(&array, of), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, bytes);
	assert_int_equal(cuArrayDestroy(array), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, 0);
}

static void test_books_array_has_room_for_its_elements(void **state)
{
	CUDA_ARRAY3D_DESCRIPTOR of = { .Width = 100,
				       .Format = CU_AD_FORMAT_HALF,
				       .NumChannels = 4 };

	(void)state;
	check_array(&of, 800);
	of.Height = 10;
	check_array(&of, 8000);
	of.Depth = 3;
	of.Format = CU_AD_FORMAT_SIGNED_INT8;
	check_array(&of, 12000);
	of.Flags = CUDA_ARRAY3D_SPARSE;
	check_array(&of, 0);
}

static void test_books_flat_array_has_room_too(void **state)
{
	CUDA_ARRAY_DESCRIPTOR of = { .Width = 100,
				     .Height = 2,
				     .Format = CU_AD_FORMAT_FLOAT,
				     .NumChannels = 1 };
	CUarray array;

	(void)state;
	assert_int_equal(cuArrayCreate_v2(&array, &of), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, 800);
	assert_int_equal(cuArrayDestroy(array), CUDA_SUCCESS);
}

static void test_books_mipmap_has_room_for_its_levels(void **state)
{
	CUDA_ARRAY3D_DESCRIPTOR of = { .Width = 64,
				       .Height = 64,
				       .Format = CU_AD_FORMAT_UNSIGNED_INT8,
				       .NumChannels = 1 };
	CUmipmappedArray array;

	(void)state;
	assert_int_equal(cuMipmappedArrayCreate(&array, &of, 3), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, 4096 + 1024 + 256);
	assert_int_equal(cuMipmappedArrayDestroy(array), CUDA_SUCCESS);
}

static void test_books_array_without_arguments_is_the_drivers(void **state)
{
	(void)state;
	th_world.refuses = CUDA_ERROR_INVALID_VALUE;
	assert_int_equal(cuArray3DCreate_v2(NULL, NULL),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(th_world.outside, 0);
}

/* ---- graphs ---- */

static void add_node(CUgraph graph, size_t bytes)
{
	CUDA_MEM_ALLOC_NODE_PARAMS params = { .bytesize = bytes };
	CUgraphNode node;

	assert_int_equal(cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params),
			 CUDA_SUCCESS);
}

static void test_books_graphs_memory_is_kept_until_the_trim(void **state)
{
	(void)state;
	add_node(FIRST, MIB);
	add_node(FIRST, MIB);
	assert_int_equal(th_world.outside, 2 * MIB);
	pl_graph_gone(FIRST);
	assert_int_equal(th_world.outside, 2 * MIB);
	assert_int_equal(cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, 0);
}

static void test_books_next_graph_uses_what_the_last_left(void **state)
{
	(void)state;
	add_node(FIRST, 3 * MIB);
	pl_graph_gone(FIRST);
	add_node(SECOND, MIB);
	assert_int_equal(th_world.outside, 3 * MIB);
	add_node(SECOND, 4 * MIB);
	assert_int_equal(th_world.outside, 5 * MIB);
	pl_graph_gone(SECOND);
	assert_int_equal(cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
}

/* What was left in the last pool's time is no room in the next one. */
static void test_books_next_pools_graph_has_room_of_its_own(void **state)
{
	(void)state;
	add_node(FIRST, MIB);
	pl_graph_gone(FIRST);
	add_node(SECOND, MIB);
	pl_ledger_forgive();
	th_world.outside = 0;
	add_node(FIRST, 3 * MIB);
	add_node(SECOND, MIB);
	assert_int_equal(th_world.outside, 4 * MIB);
	pl_graph_gone(FIRST);
	pl_graph_gone(SECOND);
	assert_int_equal(cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, 0);
}

static void test_books_executable_keeps_a_dead_graphs_memory(void **state)
{
	(void)state;
	add_node(FIRST, MIB);
	pl_graph_made(FIRST, EXECUTABLE);
	pl_graph_gone(FIRST);
	assert_int_equal(cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, MIB);
	pl_executable_gone(EXECUTABLE);
	assert_int_equal(cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, 0);
}

static void test_books_graph_outlives_its_executable(void **state)
{
	(void)state;
	add_node(FIRST, MIB);
	pl_graph_made(FIRST, EXECUTABLE);
	pl_executable_gone(EXECUTABLE);
	assert_int_equal(cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
	assert_int_equal(th_world.outside, MIB);
	pl_graph_gone(FIRST);
	assert_int_equal(cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
}

static void test_books_graph_that_spills_is_counted_as_passed(void **state)
{
	(void)state;
	add_node(FIRST, MIB);
	th_world.take = PS_OUT_OF_MEMORY;
	th_world.spills = true;
	add_node(FIRST, 2 * MIB);
	assert_int_equal(th_world.outside, MIB);
	assert_int_equal(th_world.passed, 2 * MIB);
	pl_graph_made(FIRST, EXECUTABLE);
	pl_graph_gone(FIRST);
	pl_executable_gone(EXECUTABLE);
	assert_int_equal(cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
}

static void test_books_graph_nodes_of_any_type_are_looked_at(void **state)
{
	CUgraphNodeParams params = {
		.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC,
		.alloc = { .bytesize = MIB },
	};
	CUgraphNode node;

	(void)state;
	assert_int_equal(cuGraphAddNode(&node, FIRST, NULL, 0, &params),
			 CUDA_SUCCESS);
	assert_int_equal(
		cuGraphAddNode_v2(&node, FIRST, NULL, NULL, 0, &params),
		CUDA_SUCCESS);
	params.type = (CUgraphNodeType)1;
	assert_int_equal(cuGraphAddNode(&node, FIRST, NULL, 0, &params),
			 CUDA_SUCCESS);
	assert_int_equal(th_world.calls, 3);
	assert_int_equal(th_world.outside, 2 * MIB);
	pl_graph_gone(FIRST);
	assert_int_equal(cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
}

static void test_books_graph_of_another_gpu_is_not_counted(void **state)
{
	(void)state;
	th_world.pool_device = 1;
	add_node(FIRST, MIB);
	assert_int_equal(th_world.outside, 0);
	pl_graph_gone(FIRST);
}

static const struct th_test tests[] = {
	TEST(test_books_managed_has_room_until_it_is_free),
	TEST(test_books_managed_refused_by_driver_keeps_no_room),
	TEST(test_books_without_room_the_driver_is_not_asked),
	TEST(test_books_that_spills_is_counted_as_passed),
	TEST(test_books_free_that_fails_keeps_the_room),
	TEST(test_books_without_a_pool_counts_nothing),
	TEST(test_books_that_cannot_attach_says_so),
	TEST(test_books_ends_with_its_context),
	TEST(test_books_pool_that_is_left_has_nothing_back),
	TEST(test_books_array_has_room_for_its_elements),
	TEST(test_books_flat_array_has_room_too),
	TEST(test_books_mipmap_has_room_for_its_levels),
	TEST(test_books_array_without_arguments_is_the_drivers),
	TEST(test_books_graphs_memory_is_kept_until_the_trim),
	TEST(test_books_next_graph_uses_what_the_last_left),
	TEST(test_books_next_pools_graph_has_room_of_its_own),
	TEST(test_books_executable_keeps_a_dead_graphs_memory),
	TEST(test_books_graph_outlives_its_executable),
	TEST(test_books_graph_that_spills_is_counted_as_passed),
	TEST(test_books_graph_nodes_of_any_type_are_looked_at),
	TEST(test_books_graph_of_another_gpu_is_not_counted),
};

TH_MAIN("books_outside", tests)
