/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A driver that is too old for a pool, and none at all. */
#include "tests/preload/older.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "tests/preload/found.h"
#include "tests/preload/program.h"

/* Programs that do without a driver ask in this way whether it is there. */
__attribute__((weak)) CUresult cuMemFree_v2(CUdeviceptr address);
__attribute__((weak)) CUresult
cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned int flags);

typedef CUresult (*allocator)(CUdeviceptr *address, size_t bytes);

static void *open_older(void)
{
	void *library = dlopen("libolder.so", RTLD_NOW | RTLD_LOCAL);

	TH_CHECK(library != NULL);
	return library;
}

static void allocate_by(const void *address)
{
	CUdeviceptr got = 0;
	allocator allocate;

	TH_CHECK(th_is_ours(address, "cuMemAlloc_v2"));
	memcpy(&allocate, &address, sizeof(allocate));
	TH_CU(allocate(&got, 4096));
	TH_CHECK(got == OLDER_ADDRESS);
}

static void by_dlsym(void)
{
	allocate_by(dlsym(open_older(), "cuMemAlloc_v2"));
}

static void *ask_for(const char *name)
{
	void *address = dlsym(open_older(), "cuGetProcAddress");
	CUresult (*ask)(const char *, void **, int, cuuint64_t);

	TH_CHECK(th_is_ours(address, "cuGetProcAddress"));
	memcpy(&ask, &address, sizeof(ask));
	TH_CU(ask(name, &address, 11040, 0));
	return address;
}

/* The two addresses of one function lead to the same of ours. */
static void by_resolver(void)
{
	allocate_by(ask_for("cuMemAlloc"));
}

/* A newer variant is hooked, and would be given other arguments. */
static void older_variant(void)
{
	TH_CHECK(!th_is_ours(ask_for("cuCtxCreate"), NULL));
}

/* What the driver lacks is looked for, and no error of the program's. */
static void errors_kept(void)
{
	void *library = open_older();

	dlerror();
	errno = ERANGE;
	TH_CHECK(dlsym(library, "cuMemAlloc_v2") != NULL);
	TH_CHECK(errno == ERANGE);
	TH_CHECK(dlerror() == NULL);
}

static void what_it_lacks(void)
{
	CUdeviceptr address;

	TH_CHECK(dlsym(open_older(), "cuMemAllocManaged") == NULL);
	TH_CU_IS(cuMemAllocManaged(&address, 4096, 1),
		 CUDA_ERROR_NOT_SUPPORTED);
}

static void none(void)
{
	TH_CU_IS(cuMemFree_v2(OLDER_ADDRESS), CUDA_ERROR_NOT_INITIALIZED);
}

TH_PROGRAM({ "by_dlsym", by_dlsym }, { "by_resolver", by_resolver },
	   { "older_variant", older_variant }, { "errors_kept", errors_kept },
	   { "what_it_lacks", what_it_lacks }, { "none", none })
