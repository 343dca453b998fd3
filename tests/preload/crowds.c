/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Threads of one program that do different things at once. */
#include "tests/preload/gate.h"
#include "tests/preload/memory.h"

#include <pthread.h>

#define KIB ((size_t)1 << 10)
#define TURNS 60

static pthread_barrier_t start;

static void set_out(void)
{
	th_cuda_enter();
	pthread_barrier_wait(&start);
}

static void *use_plain(void *seed)
{
	CUdeviceptr address;

	set_out();
	for (int i = 0; i < TURNS; i++) {
		TH_CU(th_cu.cuMemAlloc_v2(&address, 96 * KIB));
		th_fill(address, 96 * KIB, (uint32_t)(uintptr_t)seed);
		th_check_filled(address, 96 * KIB, (uint32_t)(uintptr_t)seed);
		TH_CU(th_cu.cuMemFree_v2(address));
	}
	return NULL;
}

static void *use_streams(void *seed)
{
	const unsigned int word = (unsigned int)(uintptr_t)seed;
	CUdeviceptr address;
	CUstream stream;
	unsigned int got;

	set_out();
	for (int i = 0; i < TURNS; i++) {
		stream = th_stream();
		TH_CU(th_cu.cuMemAllocAsync(&address, 64 * KIB, stream));
		TH_CU(th_cu.cuMemsetD32Async(address, word, 16 * KIB, stream));
		TH_CU(th_cu.cuMemcpyDtoHAsync_v2(&got, address + 32 * KIB,
						 sizeof(got), stream));
		TH_CU(th_cu.cuMemFreeAsync(address, stream));
		TH_CU(th_cu.cuStreamSynchronize(stream));
		TH_CHECK(got == word);
		TH_CU(th_cu.cuStreamDestroy_v2(stream));
	}
	return NULL;
}

static void *use_captures(void *none)
{
	CUdeviceptr address;
	CUgraphExec exec;
	CUstream stream;
	CUgraph graph;

	set_out();
	stream = th_stream();
	for (int i = 0; i < TURNS; i++) {
		TH_CU(th_cu.cuMemAlloc_v2(&address, 128 * KIB));
		TH_CU(th_cu.cuStreamBeginCapture_v2(
			stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
		TH_CU(th_cu.cuMemFree_v2(address));
		TH_CU(th_cu.cuStreamEndCapture(stream, &graph));
		TH_CU(th_cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
		TH_CU(th_cu.cuGraphDestroy(graph));
		TH_CU(th_cu.cuGraphExecDestroy(exec));
	}
	return none;
}

static void *use_contexts(void *none)
{
	CUdeviceptr address, left;
	CUcontext context;

	set_out();
	for (int i = 0; i < TURNS / 4; i++) {
		TH_CU(th_cu.cuCtxCreate_v2(&context, 0, 0));
		TH_CU(th_cu.cuMemAlloc_v2(&address, 32 * KIB));
		TH_CU(th_cu.cuMemAlloc_v2(&left, 32 * KIB));
		TH_CU(th_cu.cuMemFree_v2(address));
		TH_CU(th_cu.cuCtxDestroy_v2(context));
		th_cuda_enter();
	}
	return none;
}

static void run(void *(*const *kinds)(void *), unsigned int count)
{
	pthread_t threads[8];
	size_t left, total;

	th_cuda_open();
	pthread_barrier_init(&start, NULL, count);
	for (unsigned int i = 0; i < count; i++)
		TH_CHECK(pthread_create(&threads[i], NULL, kinds[i],
					(void *)(uintptr_t)(i + 1)) == 0);
	for (unsigned int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&start);
	TH_CU(th_cu.cuMemGetInfo_v2(&left, &total));
	TH_CHECK(left == total);
}

static void streams(void)
{
	static void *(*const kinds[])(void *) = { use_plain,    use_plain,
						  use_streams,  use_streams,
						  use_captures, use_captures };

	run(kinds, 6);
}

static void contexts(void)
{
	static void *(*const kinds[])(void *) = { use_plain, use_streams,
						  use_contexts, use_contexts };

	run(kinds, 4);
}

TH_PROGRAM({ "streams", streams }, { "contexts", contexts })
