/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory that the pool cannot hold: objects of the program's own, mapped into
 * one long range of addresses as PyTorch's expandable segments are, managed
 * memory and arrays.
 */
#include "tests/preload/memory.h"

#include <sys/wait.h>
#include <unistd.h>

#define UNIT ((size_t)2 << 20) /* an object, and a segment of the pool */
#define RANGE (64 * UNIT)

static CUdeviceptr range;
static CUmemGenericAllocationHandle handles[64];

static const CUmemAllocationProp on_gpu = {
	.type = CU_MEM_ALLOCATION_TYPE_PINNED,
	.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
	.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE },
};

/* How much this process may have. */
static size_t segments(void)
{
	size_t free_now, total;

	TH_CU(th_cu.cuMemGetInfo_v2(&free_now, &total));
	return total / UNIT;
}

static void open_range(void)
{
	th_cuda_open();
	TH_CU(th_cu.cuMemAddressReserve(&range, RANGE, 0, 0, 0));
}

static CUresult grow(size_t i)
{
	const CUmemAccessDesc access = {
		.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE },
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	CUresult result = th_cu.cuMemCreate(&handles[i], UNIT, &on_gpu, 0);

	if (result != CUDA_SUCCESS)
		return result;
	TH_CU(th_cu.cuMemMap(range + i * UNIT, UNIT, 0, handles[i], 0));
	TH_CU(th_cu.cuMemSetAccess(range + i * UNIT, UNIT, &access, 1));
	return CUDA_SUCCESS;
}

static void shrink(size_t i)
{
	TH_CU(th_cu.cuMemUnmap(range + i * UNIT, UNIT));
	TH_CU(th_cu.cuMemRelease(handles[i]));
}

static size_t free_bytes(void)
{
	size_t free_now, total;

	TH_CU(th_cu.cuMemGetInfo_v2(&free_now, &total));
	TH_CHECK(free_now <= total);
	return free_now;
}

/* ---- objects ---- */

static void expands(void)
{
	open_range();
	for (size_t i = 0; i < 8; i++)
		TH_CU(grow(i));
	th_fill(range, 8 * UNIT, 1);
	for (size_t i = 2; i < 6; i++)
		shrink(i);
	for (size_t i = 2; i < 6; i++)
		TH_CU(grow(i));
	th_fill(range + 2 * UNIT, 4 * UNIT, 2);
	th_check_filled(range, 2 * UNIT, 1);
	th_check_filled(range + 2 * UNIT, 4 * UNIT, 2);
	for (size_t i = 0; i < 8; i++)
		shrink(i);
}

/* Blocks of the pool and objects have the quota between them, whoever comes
 * first. */
static void shares_quota(void)
{
	CUdeviceptr block, other;
	size_t half;

	open_range();
	half = segments() / 2;
	TH_CU(th_cu.cuMemAlloc_v2(&block, half * UNIT));
	for (size_t i = 0; i < segments() - half; i++)
		TH_CU(grow(i));
	TH_CU_IS(grow(segments()), CUDA_ERROR_OUT_OF_MEMORY);
	TH_CU_IS(th_cu.cuMemAlloc_v2(&other, UNIT), CUDA_ERROR_OUT_OF_MEMORY);
	TH_CU(th_cu.cuMemFree_v2(block));
	for (size_t i = segments() - half; i < segments(); i++)
		TH_CU(grow(i));
	TH_CU_IS(grow(segments()), CUDA_ERROR_OUT_OF_MEMORY);
	for (size_t i = 0; i < half; i++)
		shrink(i);
	TH_CU(th_cu.cuMemAlloc_v2(&block, half * UNIT));
	th_fill(block, UNIT, 3);
	th_check_filled(block, UNIT, 3);
}

static void counted_in_info(void)
{
	size_t before;

	open_range();
	TH_CU(grow(0));
	before = free_bytes();
	TH_CU(grow(1));
	TH_CHECK(before - free_bytes() == UNIT);
	TH_CU(th_cu.cuMemRelease(handles[1]));
	TH_CHECK(before - free_bytes() == UNIT);
	TH_CU(th_cu.cuMemUnmap(range + UNIT, UNIT));
	TH_CHECK(before == free_bytes());
}

/* What the driver thinks of memory on the host, it is asked. */
static void on_the_host(void)
{
	CUmemAllocationProp prop = on_gpu;
	CUmemGenericAllocationHandle handle;
	CUdeviceptr block;
	size_t before;

	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&block, UNIT));
	before = free_bytes();
	for (int type = 2; type <= 4; type++) {
		prop.location.type = (CUmemLocationType)type;
		(void)th_cu.cuMemCreate(&handle, UNIT, &prop, 0);
		TH_CHECK(free_bytes() == before);
	}
}

/* The pool has the first. Where there is no second the driver says so. */
static void on_another_gpu(void)
{
	CUmemAllocationProp prop = on_gpu;
	CUmemGenericAllocationHandle handle;
	CUresult result;
	size_t before;
	int count;

	open_range();
	TH_CU(grow(0));
	before = free_bytes();
	TH_CU(th_cu.cuDeviceGetCount(&count));
	prop.location.id = 1;
	result = th_cu.cuMemCreate(&handle, UNIT, &prop, 0);
	TH_CHECK((result == CUDA_SUCCESS) == (count > 1));
	TH_CHECK(free_bytes() == before);
	if (result == CUDA_SUCCESS)
		TH_CU(th_cu.cuMemRelease(handle));
	TH_CHECK(free_bytes() == before);
	shrink(0);
}

/* ---- managed memory and arrays ---- */

static void managed(void)
{
	CUdeviceptr block, address;
	size_t before;

	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&block, UNIT));
	before = free_bytes();
	TH_CU(th_cu.cuMemAllocManaged(&address, 3 * UNIT, 1));
	TH_CHECK(before - free_bytes() == 3 * UNIT);
	th_fill(address, 3 * UNIT, 4);
	th_check_filled(address, 3 * UNIT, 4);
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CHECK(free_bytes() == before);
	TH_CU_IS(th_cu.cuMemAllocManaged(&address, segments() * UNIT, 1),
		 CUDA_ERROR_OUT_OF_MEMORY);
	TH_CHECK(free_bytes() == before);
}

static void arrays(void)
{
	const CUDA_ARRAY_DESCRIPTOR flat = { .Width = 1024,
					     .Height = 1024,
					     .Format = CU_AD_FORMAT_FLOAT,
					     .NumChannels = 1 };
	const CUDA_ARRAY3D_DESCRIPTOR deep = { .Width = 512,
					       .Height = 512,
					       .Depth = 8,
					       .Format = CU_AD_FORMAT_HALF,
					       .NumChannels = 1 };
	CUmipmappedArray mipmap;
	CUarray first, second;
	CUdeviceptr block;
	size_t before;

	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&block, UNIT));
	before = free_bytes();
	TH_CU(th_cu.cuArrayCreate_v2(&first, &flat));
	TH_CU(th_cu.cuArray3DCreate_v2(&second, &deep));
	TH_CU(th_cu.cuMipmappedArrayCreate(&mipmap, &deep, 3));
	TH_CHECK(before - free_bytes() >= 4 * UNIT);
	TH_CU(th_cu.cuArrayDestroy(first));
	TH_CU(th_cu.cuArrayDestroy(second));
	TH_CU(th_cu.cuMipmappedArrayDestroy(mipmap));
	TH_CHECK(free_bytes() == before);
}

/* ---- graphs ---- */

static void add_node(CUgraph graph, size_t bytes)
{
	CUDA_MEM_ALLOC_NODE_PARAMS params = {
		.poolProps = {
			.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
			.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE },
		},
		.bytesize = bytes,
	};
	CUgraphNode node;

	TH_CU(th_cu.cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params));
}

/* An executable outlives its graph; what they had is the driver's until it
 * trims. */
static void graphs(void)
{
	CUgraphExec executable;
	CUstream stream;
	CUgraph graph;
	size_t before;

	th_cuda_open();
	before = segments() * UNIT;
	TH_CU(th_cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	TH_CU(th_cu.cuStreamBeginCapture_v2(stream,
					    CU_STREAM_CAPTURE_MODE_RELAXED));
	TH_CU(th_cu.cuStreamEndCapture(stream, &graph));
	add_node(graph, 2 * UNIT);
	TH_CHECK(free_bytes() == before - 2 * UNIT);
	TH_CU(th_cu.cuGraphInstantiateWithFlags(&executable, graph, 0));
	TH_CU(th_cu.cuGraphDestroy(graph));
	TH_CU(th_cu.cuDeviceGraphMemTrim(0));
	TH_CHECK(free_bytes() == before - 2 * UNIT);
	TH_CU(th_cu.cuGraphExecDestroy(executable));
	TH_CU(th_cu.cuDeviceGraphMemTrim(0));
	TH_CHECK(free_bytes() == before);
	TH_CU(th_cu.cuStreamDestroy_v2(stream));
}

/* ---- beyond the quota, and in a child ---- */

static void spills(void)
{
	open_range();
	for (size_t i = 0; i < segments() + 2; i++)
		TH_CU(grow(i));
	th_fill(range, (segments() + 2) * UNIT, 5);
	th_check_filled(range, (segments() + 2) * UNIT, 5);
	th_program_pause();
	for (size_t i = 0; i < segments() + 2; i++)
		shrink(i);
}

/* Whatever the driver says there, nobody hangs, and the parent's books are as
 * they were. */
static void use_in_child(void)
{
	CUmemGenericAllocationHandle handle;
	CUipcMemHandle ticket;
	CUdeviceptr address;
	CUarray array;

	(void)th_cu.cuMemCreate(&handle, UNIT, &on_gpu, 0);
	(void)th_cu.cuMemAllocManaged(&address, UNIT, 1);
	(void)th_cu.cuArrayCreate_v2(
		&array, &(CUDA_ARRAY_DESCRIPTOR){ .Width = 16,
						  .Format = CU_AD_FORMAT_FLOAT,
						  .NumChannels = 1 });
	(void)th_cu.cuIpcGetMemHandle(&ticket, range);
	(void)th_cu.cuMemRetainAllocationHandle(&handle, (void *)range);
	(void)th_cu.cuMemUnmap(range, UNIT);
	(void)th_cu.cuMemRelease(handles[0]);
	_exit(0);
}

static void forks(void)
{
	size_t before;
	int status = -1;
	pid_t pid;

	open_range();
	TH_CU(grow(0));
	before = free_bytes();
	pid = fork();
	if (pid == 0)
		use_in_child();
	TH_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	TH_CHECK(free_bytes() == before);
	TH_CU(grow(1));
	shrink(0);
	shrink(1);
	TH_CHECK(free_bytes() == before + UNIT);
}

/* An object survives the reset of the context, which ends the pool: the next
 * pool is not told of it. */
static void resets(void)
{
	CUdeviceptr block;
	size_t all;

	open_range();
	all = segments();
	TH_CU(grow(0));
	TH_CU(th_cu.cuDevicePrimaryCtxReset_v2(0));
	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&block, UNIT));
	TH_CU(grow(1));
	shrink(0);
	TH_CHECK(free_bytes() == (all - 2) * UNIT);
	shrink(1);
	TH_CHECK(free_bytes() == (all - 1) * UNIT);
}

/* ---- for somebody who looks at `poolswitch status` ---- */

static void has_outside(void)
{
	CUdeviceptr block;

	open_range();
	TH_CU(th_cu.cuMemAlloc_v2(&block, UNIT));
	for (size_t i = 0; i < 3; i++)
		TH_CU(grow(i));
	th_program_pause();
	for (size_t i = 0; i < 3; i++)
		shrink(i);
	th_program_pause();
}

TH_PROGRAM({ "expands", expands }, { "shares_quota", shares_quota },
	   { "counted_in_info", counted_in_info },
	   { "on_the_host", on_the_host }, { "on_another_gpu", on_another_gpu },
	   { "managed", managed }, { "arrays", arrays }, { "graphs", graphs },
	   { "spills", spills }, { "forks", forks }, { "resets", resets },
	   { "has_outside", has_outside })
