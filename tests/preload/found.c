/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/preload/found.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define PER_THREAD "_ptsz"

static bool is_of(const void *address, const char *library, const char *name)
{
	Dl_info info;

	return address && dladdr(address, &info) != 0 &&
	       strstr(info.dli_fname, library) &&
	       (!name || (info.dli_sname && strcmp(info.dli_sname, name) == 0));
}

bool th_is_ours(const void *address, const char *name)
{
	return is_of(address, "/libpoolswitch_preload.so", name);
}

bool th_is_drivers(const void *address, const char *name)
{
	return is_of(address, "/libcuda.so.1", name);
}

cuuint64_t th_flags_of(const char *name)
{
	return strstr(name, PER_THREAD)
		       ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
		       : CU_GET_PROC_ADDRESS_DEFAULT;
}

const char *th_base_of(const char *name)
{
	static char base[64];
	char *end;

	snprintf(base, sizeof(base), "%s", name);
	end = strstr(base, PER_THREAD);
	if (end)
		*end = '\0';
	end = base + strlen(base) - strlen("_v2");
	if (end > base && strncmp(end, "_v", 2) == 0)
		*end = '\0';
	return base;
}
