/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Finds the driver's function by the dlsym that it sees itself. */
#include <dlfcn.h>

__attribute__((visibility("default"))) void *th_deep_find(const char *name);

void *th_deep_find(const char *name)
{
	void *volatile found =
		dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL), name);

	return found;
}
