/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Included in front of every file by the build, so that what is built on a
 * new system runs with glibc 2.28 too: a program takes the newest version of
 * each symbol that the C library offers at build time, and these got new ones
 * after 2.28, when their libraries were merged into libc. The old versions
 * do the same and are still there.
 *
 * A function that is missing here shows up in ./dev lint, which looks at the
 * versions that the library asks for.
 */
#ifndef BASE_GLIBC_H
#define BASE_GLIBC_H

#include <features.h>

/* Else strtol() and scanf() become __isoc23_strtol() ... of glibc 2.38. */
#undef __GLIBC_USE_C2X_STRTOL
#define __GLIBC_USE_C2X_STRTOL 0
#undef __GLIBC_USE_C23_STRTOL
#define __GLIBC_USE_C23_STRTOL 0

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||     \
	__has_feature(memory_sanitizer)
#define BS_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BS_SANITIZED
#endif

/* A sanitizer brings its own of these, without versions; BS_NEWEST_NAMES is for
 * who defines one itself. */
#if !defined(BS_SANITIZED) && !defined(BS_NEWEST_NAMES) &&                     \
	defined(__x86_64__) && defined(__GLIBC__)
#define BS_OLD_OF(name, version)                                               \
	__asm__(".symver " #name "," #name "@GLIBC_" version);
#define BS_OLD(name) BS_OLD_OF(name, "2.2.5")
BS_OLD(dladdr)
BS_OLD(dlclose)
BS_OLD(dlerror)
BS_OLD_OF(dlinfo, "2.3.3")
BS_OLD(dlopen)
BS_OLD(dlsym)
BS_OLD(dlvsym)
BS_OLD_OF(pthread_condattr_setclock, "2.3.3")
BS_OLD(pthread_create)
BS_OLD(pthread_detach)
BS_OLD(pthread_getspecific)
BS_OLD(pthread_join)
BS_OLD(pthread_key_create)
BS_OLD(pthread_key_delete)
BS_OLD(pthread_mutex_trylock)
BS_OLD(pthread_once)
BS_OLD(pthread_setspecific)
BS_OLD(pthread_sigmask)
#undef BS_OLD
#undef BS_OLD_OF
#endif

#endif /* BASE_GLIBC_H */
