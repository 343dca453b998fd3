/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Plain device memory, as programs ask for it. */
#include "tests/preload/gate.h"
#include "tests/preload/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define THREADS 8

static CUdeviceptr take(size_t bytes)
{
	CUdeviceptr address = 0;

	TH_CU(th_cu.cuMemAlloc_v2(&address, bytes));
	TH_CHECK(address != 0 && address % 512 == 0);
	return address;
}

static void give(CUdeviceptr address)
{
	TH_CU(th_cu.cuMemFree_v2(address));
}

/* ---- blocks ---- */

static void served(void)
{
	CUdeviceptr address;

	th_cuda_open();
	address = take(3 * MIB);
	th_fill(address, 3 * MIB, 1);
	th_check_filled(address, 3 * MIB, 1);
	give(address);
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 0);
	TH_CHECK(th_driver_calls("cuMemFree_v2") == 0);
}

/* The test looks at the daemon meanwhile. */
static void holds(void)
{
	CUdeviceptr address;

	th_cuda_open();
	address = take(3 * MIB);
	th_program_pause();
	give(address);
}

static void wrong(void)
{
	CUdeviceptr address = 7;

	th_cuda_open();
	TH_CU_IS(th_cu.cuMemAlloc_v2(&address, 0), CUDA_ERROR_INVALID_VALUE);
	TH_CU_IS(th_cu.cuMemAlloc_v2(NULL, 512), CUDA_ERROR_INVALID_VALUE);
	TH_CHECK(address == 7);
	TH_CU_IS(th_cu.cuMemAlloc_v2(&address, SIZE_MAX / 2),
		 CUDA_ERROR_OUT_OF_MEMORY);
	TH_CHECK(address == 7);
}

static void freed_wrongly(void)
{
	CUdeviceptr address;

	th_cuda_open();
	address = take(4096);
	TH_CU_IS(th_cu.cuMemFree_v2(address + 512), CUDA_ERROR_INVALID_VALUE);
	give(address);
	TH_CU_IS(th_cu.cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
	TH_CU_IS(th_cu.cuMemFree_v2(4096), CUDA_ERROR_INVALID_VALUE);
	TH_CU(th_cu.cuMemFree_v2(0));
}

static void small(void)
{
	CUdeviceptr first, second;

	th_cuda_open();
	first = take(1);
	second = take(1);
	TH_CHECK(first != second);
	give(first);
	give(second);
}

static void pitched(void)
{
	CUdeviceptr address;
	size_t pitch;

	th_cuda_open();
	TH_CU(th_cu.cuMemAllocPitch_v2(&address, &pitch, 1000, 16, 4));
	TH_CHECK(pitch >= 1000 && pitch % 512 == 0);
	th_fill(address + 15 * pitch, 1000, 2);
	give(address);
	TH_CHECK(th_driver_calls("cuMemAllocPitch_v2") == 0);
	TH_CU_IS(th_cu.cuMemAllocPitch_v2(&address, &pitch, 1000, 16, 3),
		 CUDA_ERROR_INVALID_VALUE);
	TH_CU_IS(th_cu.cuMemAllocPitch_v2(&address, NULL, 1000, 16, 4),
		 CUDA_ERROR_INVALID_VALUE);
}

/* The driver's own errors where there is no context. */
static void no_context(void)
{
	CUdeviceptr address;
	size_t left, total;

	th_cuda_load();
	TH_CU_IS(th_cu.cuMemAlloc_v2(&address, 512),
		 CUDA_ERROR_NOT_INITIALIZED);
	TH_CU(th_cu.cuInit(0));
	TH_CU_IS(th_cu.cuMemAlloc_v2(&address, 512),
		 CUDA_ERROR_INVALID_CONTEXT);
	TH_CU_IS(th_cu.cuMemGetInfo_v2(&left, &total),
		 CUDA_ERROR_INVALID_CONTEXT);
}

/* ---- how much there is ---- */

static void informed(void)
{
	size_t before, during, after, total;
	CUdeviceptr address;

	th_cuda_open();
	TH_CU(th_cu.cuMemGetInfo_v2(&before, &total));
	address = take(8 * MIB);
	TH_CU(th_cu.cuMemGetInfo_v2(&during, &total));
	give(address);
	TH_CU(th_cu.cuMemGetInfo_v2(&after, &total));
	TH_CHECK(before == total && during == before - 8 * MIB);
	TH_CHECK(after == before);
}

/* Of a quota of 20 MiB, before and after there is a pool. */
static void informed_of_quota(void)
{
	size_t left, total;

	th_cuda_open();
	TH_CU(th_cu.cuDeviceTotalMem_v2(&total, 0));
	TH_CHECK(total == 20 * MIB);
	TH_CU(th_cu.cuMemGetInfo_v2(&left, &total));
	TH_CHECK(left == 20 * MIB && total == 20 * MIB);
	TH_CU(th_cu.cuDeviceTotalMem_v2(&total, 0));
	TH_CHECK(total == 20 * MIB);
}

static void uses_quota_up(void)
{
	CUdeviceptr address, more;

	th_cuda_open();
	address = take(18 * MIB);
	TH_CU_IS(th_cu.cuMemAlloc_v2(&more, 4 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
	give(address);
	address = take(20 * MIB);
	give(address);
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 0);
}

/* The test looks at the daemon while 4 MiB are beyond the quota. */
static void spills(void)
{
	CUdeviceptr within, beyond;

	th_cuda_open();
	within = take(18 * MIB);
	beyond = take(4 * MIB);
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 1);
	th_fill(beyond, 4 * MIB, 3);
	th_program_pause();
	give(beyond);
	TH_CHECK(th_driver_calls("cuMemFree_v2") == 1);
	th_program_pause();
	give(within);
}

/* ---- running work ---- */

static void call_free(void *arg)
{
	give(*(CUdeviceptr *)arg);
}

/* Freed at once, and not given out again before the work is done. */
static void frees_fenced(void)
{
	CUdeviceptr used, others[5];
	CUstream stream;

	th_cuda_open();
	stream = th_stream();
	th_gate_close(stream);
	used = take(8 * MIB);
	TH_CU(th_cu.cuMemsetD32Async(used, 1, 2 * MIB, stream));
	TH_CHECK(th_returns_at_once(call_free, &used));
	for (int i = 0; i < 5; i++) {
		others[i] = take(8 * MIB);
		TH_CHECK(others[i] + 8 * MIB <= used ||
			 others[i] >= used + 8 * MIB);
	}
	th_gate_open();
	TH_CU(th_cu.cuStreamSynchronize(stream));
}

static void frees_waiting(void)
{
	CUdeviceptr used;
	CUstream stream;

	th_cuda_open();
	stream = th_stream();
	th_gate_close(stream);
	used = take(8 * MIB);
	TH_CHECK(!th_returns_at_once(call_free, &used));
}

/* ---- what the program must not notice ---- */

static void keeps_errno(void)
{
	CUdeviceptr address;

	th_cuda_open();
	errno = ERANGE;
	address = take(512);
	TH_CHECK(errno == ERANGE);
	give(address);
	TH_CHECK(errno == ERANGE);
	TH_CU_IS(th_cu.cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
	TH_CHECK(errno == ERANGE);
}

static void *take_at_once(void *argument)
{
	pthread_barrier_t *start = argument;
	CUdeviceptr address;

	th_cuda_enter();
	pthread_barrier_wait(start);
	for (int i = 0; i < 100; i++) {
		address = take(64 * 1024);
		give(address);
	}
	return NULL;
}

/* The first allocations of all, by several threads. */
static void threads(void)
{
	pthread_t made[THREADS];
	pthread_barrier_t start;

	th_cuda_open();
	pthread_barrier_init(&start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		TH_CHECK(pthread_create(&made[i], NULL, take_at_once, &start) ==
			 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(made[i], NULL);
	pthread_barrier_destroy(&start);
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 0);
	th_program_pause();
}

/* What the driver says to a child. */
static void use_in_child(CUdeviceptr address)
{
	CUdeviceptr other;
	size_t left, total;
	CUstream stream = NULL;

	TH_CU_IS(th_cu.cuMemAlloc_v2(&other, 512), CUDA_ERROR_NOT_INITIALIZED);
	TH_CU_IS(th_cu.cuMemFree_v2(address), CUDA_ERROR_NOT_INITIALIZED);
	TH_CU_IS(th_cu.cuMemGetInfo_v2(&left, &total),
		 CUDA_ERROR_NOT_INITIALIZED);
	TH_CU_IS(th_cu.cuMemAllocAsync(&other, 512, stream),
		 CUDA_ERROR_NOT_INITIALIZED);
	TH_CU_IS(th_cu.cuMemFreeAsync(address, stream),
		 CUDA_ERROR_NOT_INITIALIZED);
	TH_CU_IS(th_cu.cuStreamBeginCapture_v2(stream, 0),
		 CUDA_ERROR_NOT_INITIALIZED);
	TH_CU_IS(th_cu.cuDevicePrimaryCtxRelease_v2(0),
		 CUDA_ERROR_NOT_INITIALIZED);
	_exit(0);
}

static void forks(void)
{
	CUdeviceptr address;
	int status = -1;
	pid_t pid;

	th_cuda_open();
	address = take(3 * MIB);
	th_fill(address, 3 * MIB, 4);
	pid = fork();
	if (pid == 0)
		use_in_child(address);
	TH_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	th_check_filled(address, 3 * MIB, 4);
	give(address);
	give(take(3 * MIB));
}

/* ---- without a daemon ---- */

static void refused(void)
{
	CUdeviceptr address;
	size_t left, total;

	th_cuda_open();
	for (int i = 0; i < 3; i++)
		TH_CU_IS(th_cu.cuMemAlloc_v2(&address, 512),
			 CUDA_ERROR_SYSTEM_NOT_READY);
	TH_CU(th_cu.cuMemGetInfo_v2(&left, &total));
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 0);
}

/* The daemon is asked again after a second, and nobody is told again. */
static void refused_again(void)
{
	refused();
	usleep(1100000);
	refused();
}

static void passed(void)
{
	CUdeviceptr address;

	th_cuda_open();
	for (int i = 1; i <= 3; i++) {
		address = take(3 * MIB);
		TH_CHECK(th_driver_calls("cuMemAlloc_v2") == (unsigned long)i);
		th_fill(address, 3 * MIB, 5);
		give(address);
	}
}

/* The daemon starts while this pauses; it is asked again after a while. */
static void tries_again(void)
{
	CUdeviceptr address;
	CUresult result;

	th_cuda_open();
	TH_CU_IS(th_cu.cuMemAlloc_v2(&address, 512),
		 CUDA_ERROR_SYSTEM_NOT_READY);
	th_program_pause();
	do {
		usleep(10000);
		result = th_cu.cuMemAlloc_v2(&address, 512);
	} while (result == CUDA_ERROR_SYSTEM_NOT_READY);
	TH_CU(result);
	give(address);
}

/* The user wants more than the daemon can guarantee; the program is not to
 * blame. */
static void refused_user(void)
{
	CUdeviceptr address;

	th_cuda_open();
	TH_CU_IS(th_cu.cuMemAlloc_v2(&address, 512),
		 CUDA_ERROR_SYSTEM_NOT_READY);
}

/* The daemon's agent is killed while this pauses. */
static void goes_on(void)
{
	CUdeviceptr before, after;

	th_cuda_open();
	before = take(3 * MIB);
	th_fill(before, 3 * MIB, 6);
	th_program_pause();
	after = take(16 * MIB);
	th_check_filled(before, 3 * MIB, 6);
	give(before);
	give(after);
	TH_CHECK(th_driver_calls("cuMemAlloc_v2") == 0);
}

/* All of it is killed. What is here stays, and there is no more. */
static void left_alone(void)
{
	CUdeviceptr before, after;

	th_cuda_open();
	before = take(3 * MIB);
	th_fill(before, 3 * MIB, 7);
	th_program_pause();
	for (int i = 0; i < 2; i++)
		TH_CU_IS(th_cu.cuMemAlloc_v2(&after, 16 * MIB),
			 CUDA_ERROR_SYSTEM_NOT_READY);
	th_check_filled(before, 3 * MIB, 7);
	give(before);
}

TH_PROGRAM({ "served", served }, { "holds", holds }, { "wrong", wrong },
	   { "freed_wrongly", freed_wrongly }, { "small", small },
	   { "pitched", pitched }, { "no_context", no_context },
	   { "informed", informed }, { "informed_of_quota", informed_of_quota },
	   { "uses_quota_up", uses_quota_up }, { "spills", spills },
	   { "frees_fenced", frees_fenced }, { "frees_waiting", frees_waiting },
	   { "keeps_errno", keeps_errno }, { "threads", threads },
	   { "forks", forks }, { "refused", refused },
	   { "refused_again", refused_again }, { "passed", passed },
	   { "tries_again", tries_again }, { "refused_user", refused_user },
	   { "goes_on", goes_on }, { "left_alone", left_alone })
