/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Uses the driver while libraries come and go, and while all of it ends. */
#include "tests/preload/ends.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/preload/found.h"
#include "tests/preload/program.h"

#define THREADS 4

static CUdeviceptr late;

static struct th_ends *open_library(void **library_out)
{
	struct th_ends *(*ends)(void);
	void *address;

	*library_out = dlopen("libends.so", RTLD_NOW | RTLD_LOCAL);
	TH_CHECK(*library_out != NULL);
	address = dlsym(*library_out, "th_ends");
	TH_CHECK(address != NULL);
	memcpy(&ends, &address, sizeof(ends));
	return ends();
}

static void in_constructor(void)
{
	struct th_ends *ends;
	void *library;

	ends = open_library(&library);
	TH_CHECK(th_is_ours(ends->found, "cuMemAlloc_v2"));
	TH_CU(ends->allocated);
}

static void in_destructor(void)
{
	CUresult freed = CUDA_ERROR_UNKNOWN;
	struct th_ends *ends;
	void *library;

	ends = open_library(&library);
	ends->freed = &freed;
	TH_CHECK(dlclose(library) == 0);
	TH_CU(freed);
}

/* The destructor runs at exit, after main's own handlers. */
static void at_the_end(void)
{
	static CUresult freed;
	void *library;

	open_library(&library)->freed = &freed;
}

static void free_late(void)
{
	th_cu.cuMemFree_v2(late);
}

static void at_exit(void)
{
	atexit(free_late);
	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&late, 4096));
}

static void *allocate_for_ever(void *argument)
{
	CUdeviceptr address;

	th_cuda_enter();
	while (th_cu.cuMemAlloc_v2(&address, 4096) == CUDA_SUCCESS)
		th_cu.cuMemFree_v2(address);
	return argument;
}

/* Threads that go on while the process ends. */
static void with_threads(void)
{
	CUdeviceptr address;
	pthread_t made;

	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&address, 4096));
	for (int i = 0; i < THREADS; i++) {
		TH_CHECK(pthread_create(&made, NULL, allocate_for_ever, NULL) ==
			 0);
		pthread_detach(made);
	}
	th_program_pause();
}

/* ---- a program that becomes another ---- */

static size_t open_files(void)
{
	DIR *folder = opendir("/proc/self/fd");
	size_t count = 0;

	TH_CHECK(folder != NULL);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static void allocate(void)
{
	CUdeviceptr address;

	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&address, 1 << 20));
}

/* Says how many files it had open before it had a pool. */
static void executes(void)
{
	char count[24];

	snprintf(count, sizeof(count), "%zu", open_files());
	allocate();
	execl("/proc/self/exe", "ends", "executed", "-1", count, (char *)NULL);
	th_program_fail(__FILE__, __LINE__, "not executed", errno);
}

static void executed(void)
{
	int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	char line[256] = "";
	ssize_t got = read(file, line, sizeof(line) - 1);
	const char *last;

	close(file);
	TH_CHECK(got > 1);
	last = memrchr(line, '\0', (size_t)got - 1);
	TH_CHECK(last != NULL);
	TH_CHECK(open_files() == strtoul(last + 1, NULL, 10));
	allocate();
}

TH_PROGRAM({ "in_constructor", in_constructor },
	   { "in_destructor", in_destructor }, { "at_the_end", at_the_end },
	   { "at_exit", at_exit }, { "executes", executes },
	   { "executed", executed }, { "with_threads", with_threads })
