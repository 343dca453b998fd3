/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Another library that answers dlsym, by the C library's. */
#include <dlfcn.h>

/* A sanitizer asks before its own memory is there. */
#ifdef __clang__
__attribute__((disable_sanitizer_instrumentation))
#else
__attribute__((no_sanitize("address", "thread", "undefined")))
#endif
__attribute__((visibility("default"))) void *
dlsym(void *handle, const char *name)
{
	static void *(*next)(void *handle, const char *name);

	if (!next)
		next = (void *(*)(void *, const char *))(
			__UINTPTR_TYPE__)dlvsym(RTLD_NEXT, "dlsym",
						"GLIBC_2.2.5");
	return next(handle, name);
}
