/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* dlsym() whose answer depends on who calls it. */
#include "tests/preload/scopes.h"

#include <dlfcn.h>
#include <string.h>

#include "tests/preload/found.h"
#include "tests/preload/program.h"

int th_where(void)
{
	return 0;
}

static int number_at(void *address)
{
	int (*where)(void);

	if (!address)
		return -1;
	memcpy(&where, &address, sizeof(where));
	return where();
}

static void next(void)
{
	TH_CHECK(number_at(dlsym(RTLD_NEXT, "th_where")) == 1);
	TH_CHECK(number_at(th_next_of_1("th_where")) == 2);
	TH_CHECK(th_next_of_2("th_where") == NULL);
	TH_CHECK(strstr(dlerror(), "th_where") != NULL);
}

static void by_default(void)
{
	TH_CHECK(number_at(dlsym(RTLD_DEFAULT, "th_where")) == 0);
	TH_CHECK(number_at(th_default_of_1("th_where")) == 0);
	TH_CHECK(number_at(th_default_of_2("th_where")) == 0);
}

/* What a library has for itself only it finds. */
static void local(void)
{
	void *library = dlopen("libscopes3.so", RTLD_NOW | RTLD_LOCAL);
	void *(*ask)(const char *name);
	void *address;

	TH_CHECK(library != NULL);
	address = dlsym(library, "th_default_of_3");
	TH_CHECK(address != NULL);
	memcpy(&ask, &address, sizeof(ask));
	TH_CHECK(ask("th_default_of_3") == address);
	TH_CHECK(dlsym(RTLD_DEFAULT, "th_default_of_3") == NULL);
	TH_CHECK(number_at(dlsym(library, "th_where")) == 3);
	TH_CHECK(dlclose(library) == 0);
}

/* dlopen() looks where the program that calls it says: beside itself. */
static void own_path(void)
{
	void *library = dlopen("libquiet.so", RTLD_NOW | RTLD_LOCAL);

	TH_CHECK(library != NULL);
	TH_CHECK(dlsym(library, "th_quiet") != NULL);
	TH_CHECK(dlclose(library) == 0);
}

/* A library behind the preload that looks further finds the driver. */
static void driver(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);

	TH_CHECK(library != NULL);
	TH_CHECK(th_is_ours(dlsym(RTLD_DEFAULT, "cuMemAlloc_v2"), NULL));
	TH_CHECK(th_is_ours(dlsym(RTLD_NEXT, "cuMemAlloc_v2"), NULL));
	TH_CHECK(th_is_ours(th_default_of_1("cuMemAlloc_v2"), NULL));
	TH_CHECK(th_is_drivers(th_next_of_1("cuMemAlloc_v2"), "cuMemAlloc_v2"));
	TH_CHECK(th_is_drivers(dlsym(RTLD_DEFAULT, "cuInit"), "cuInit"));
}

TH_PROGRAM({ "next", next }, { "by_default", by_default }, { "local", local },
	   { "own_path", own_path }, { "driver", driver })
