/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The real driver in somebody else's process. It is not loaded from here: it
 * is there because the program has it. Its functions are found by the real
 * dlsym, without a lock, by any number of threads at once; the first to be
 * done publishes its table.
 *
 * pl_real_dlsym() is newest first: dlvsym(RTLD_NEXT, "dlsym", GLIBC_2.34,
 * then GLIBC_2.2.5).
 */
#ifndef PRELOAD_DRIVER_H
#define PRELOAD_DRIVER_H

#include "device/driver.h"

/*
 * Never NULL, and so is no function of it that hooks.def names, whatever the
 * driver is: a hook forwards and looks at nothing. Where this process has no
 * libcuda.so.1 a function answers CUDA_ERROR_NOT_INITIALIZED, where the driver
 * lacks it CUDA_ERROR_NOT_SUPPORTED. dv_driver_loaded() says afterwards
 * whether a pool can be had from it: NULL when it is too old.
 */
const struct dv_driver *pl_driver(void);

/* Whether this process has a libcuda.so.1. */
bool pl_has_driver(void);

/* Our function for one of the real driver's, else @address itself. */
void *pl_replace(void *address);

/* Whether it is one of the functions in hooks.def, as ours. */
bool pl_is_hook(const void *address);
bool pl_is_hook_name(const char *name);

/* The real one. */
void *pl_real_dlsym(void *handle, const char *name);
/* Where it is. */
const void *pl_libc_dlsym(void);

/*
 * A sanitizer asks by dlsym before its own memory is there, and an allocator
 * before it can allocate: what runs then is not instrumented, and allocates
 * nothing.
 */
#if defined(__clang__)
/* Each knows what the other leaves: the first TSAN, the second ASAN. */
#define PL_EARLY                                                               \
	__attribute__((disable_sanitizer_instrumentation,                      \
		       no_sanitize("address", "undefined")))
#else
#define PL_EARLY __attribute__((no_sanitize("address", "thread", "undefined")))
#endif

#endif /* PRELOAD_DRIVER_H */
