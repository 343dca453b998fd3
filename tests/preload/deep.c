/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Opens libraries with RTLD_DEEPBIND, which find others' functions first. */
#include "tests/preload/program.h"

#include <dlfcn.h>
#include <string.h>

#include "tests/preload/found.h"

static void *open_deep(const char *name)
{
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);

	TH_CHECK(library != NULL);
	return library;
}

/* What it finds is the driver's: past us. */
static void use_deep(void *library)
{
	void *address = dlsym(library, "th_deep_find");
	void *(*find)(const char *name);

	TH_CHECK(address != NULL);
	memcpy(&find, &address, sizeof(find));
	TH_CHECK(th_is_drivers(find("cuMemAlloc_v2"), "cuMemAlloc_v2"));
}

static void before_the_driver(void)
{
	use_deep(open_deep("libdeep.so"));
	th_cuda_load();
	th_cuda_load();
}

static void after_the_driver(void)
{
	th_cuda_load();
	use_deep(open_deep("libdeep.so"));
	use_deep(open_deep("libdeep.so"));
}

/* The program itself has nothing to do with the driver. */
static void alone(void)
{
	void *library = open_deep("libdeep.so");

	use_deep(library);
	use_deep(library);
}

/* One that asks for nothing is nobody's business. */
static void harmless(void)
{
	th_cuda_load();
	TH_CHECK(dlsym(open_deep("libquiet.so"), "th_quiet") != NULL);
}

static void without_cuda(void)
{
	TH_CHECK(dlsym(open_deep("libdeep.so"), "th_deep_find") != NULL);
}

TH_PROGRAM({ "before_the_driver", before_the_driver },
	   { "after_the_driver", after_the_driver }, { "alone", alone },
	   { "harmless", harmless }, { "without_cuda", without_cuda })
