/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A program whose driver fails. */
#include "tests/preload/gate.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define CALLS_MAX 5000u

/* What a child says by its exit status. */
#define CLEAN 0
#define STRUCK 3

static void *find(const char *name)
{
	void *address =
		dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL), name);

	TH_CHECK(address != NULL);
	return address;
}

static void fail_nth(unsigned int nth)
{
	void (*fail)(const char *symbol, unsigned int nth, int code);
	void *address = find("simFailNth");

	memcpy(&fail, &address, sizeof(fail));
	fail(NULL, nth, CUDA_ERROR_UNKNOWN);
}

/* ---- each call in turn ---- */

static void use_plain(void)
{
	CUdeviceptr address = 0;
	size_t left, total;

	if (th_cu.cuMemAlloc_v2(&address, 3 * MIB) != CUDA_SUCCESS)
		return;
	TH_CHECK(address != 0);
	(void)th_cu.cuMemGetInfo_v2(&left, &total);
	(void)th_cu.cuMemFree_v2(address);
}

static void use_ordered(CUstream stream)
{
	CUdeviceptr address = 0;

	if (th_cu.cuMemAllocAsync(&address, MIB, stream) != CUDA_SUCCESS)
		return;
	TH_CHECK(address != 0);
	(void)th_cu.cuMemFreeAsync(address, stream);
}

static void use_capture(CUstream stream)
{
	CUdeviceptr address;
	CUgraphExec exec;
	CUgraph graph;

	if (th_cu.cuMemAlloc_v2(&address, MIB) != CUDA_SUCCESS)
		return;
	if (th_cu.cuStreamBeginCapture_v2(stream, 0) != CUDA_SUCCESS)
		return;
	(void)th_cu.cuMemFree_v2(address);
	if (th_cu.cuStreamEndCapture(stream, &graph) != CUDA_SUCCESS)
		return;
	if (th_cu.cuGraphInstantiateWithFlags(&exec, graph, 0) == CUDA_SUCCESS)
		(void)th_cu.cuGraphExecDestroy(exec);
	(void)th_cu.cuGraphDestroy(graph);
}

static void use_context(void)
{
	CUdeviceptr address;
	CUcontext context;

	if (th_cu.cuCtxCreate_v2(&context, 0, 0) != CUDA_SUCCESS)
		return;
	if (th_cu.cuMemAlloc_v2(&address, MIB) == CUDA_SUCCESS)
		(void)th_cu.cuMemFree_v2(address);
	(void)th_cu.cuMemAlloc_v2(&address, MIB);
	(void)th_cu.cuCtxDestroy_v2(context);
}

static void use_all(void)
{
	CUstream stream;

	use_plain();
	if (th_cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) ==
	    CUDA_SUCCESS) {
		use_ordered(stream);
		use_capture(stream);
		(void)th_cu.cuStreamDestroy_v2(stream);
	}
	use_context();
	(void)th_cu.cuDevicePrimaryCtxReset_v2(0);
}

static int use_with_fault(unsigned int nth)
{
	unsigned long before;

	th_cuda_open();
	before = th_driver_calls(NULL);
	fail_nth(nth);
	use_all();
	return th_driver_calls(NULL) - before >= nth ? STRUCK : CLEAN;
}

/* Until one comes through without a fault. */
static void each_call(void)
{
	int status = -1;
	pid_t pid;

	for (unsigned int nth = 1; nth < CALLS_MAX; nth++) {
		pid = fork();
		if (pid == 0)
			_exit(use_with_fault(nth));
		TH_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
		TH_CHECK(WIFEXITED(status));
		if (WEXITSTATUS(status) == CLEAN)
			return;
		TH_CHECK(WEXITSTATUS(status) == STRUCK);
	}
	th_program_fail(__FILE__, __LINE__, "clean in the end", 0);
}

/* ---- the GPU is lost ---- */

static void lost(void)
{
	void (*lose)(void);
	void *address = find("simLoseDevice");
	CUdeviceptr block, more;

	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&block, MIB));
	memcpy(&lose, &address, sizeof(lose));
	lose();
	TH_CU_IS(th_cu.cuMemAlloc_v2(&more, 9 * MIB),
		 CUDA_ERROR_ECC_UNCORRECTABLE);
	TH_CU_IS(th_cu.cuMemAllocAsync(&more, 9 * MIB, NULL),
		 CUDA_ERROR_ECC_UNCORRECTABLE);
	(void)th_cu.cuMemFree_v2(block);
}

TH_PROGRAM({ "each_call", each_call }, { "lost", lost })
