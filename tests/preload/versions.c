/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Calls dlsym by the versions that it has in the C library. */
#include "tests/preload/program.h"

#include <dlfcn.h>

#include "tests/preload/found.h"

void *dlsym_of_2_2_5(void *handle, const char *name);
__asm__(".symver dlsym_of_2_2_5,dlsym@GLIBC_2.2.5");

#if __GLIBC_PREREQ(2, 34)
void *dlsym_of_2_34(void *handle, const char *name);
__asm__(".symver dlsym_of_2_34,dlsym@GLIBC_2.34");
#else
#define dlsym_of_2_34 dlsym_of_2_2_5
#endif

static void old(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	TH_CHECK(th_is_ours(dlsym_of_2_2_5(library, "cuMemAlloc_v2"),
			    "cuMemAlloc_v2"));
}

static void newest(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	TH_CHECK(th_is_ours(dlsym_of_2_34(library, "cuMemAlloc_v2"),
			    "cuMemAlloc_v2"));
}

TH_PROGRAM({ "old", old }, { "newest", newest })
