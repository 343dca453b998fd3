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

/* NULL: this process has no libcuda.so.1, or one that is too old for a pool:
 * then nothing is replaced. The same table as dv_driver_get() has then. */
const struct dv_driver *pl_driver(void);

/* Our function for one of the real driver's, else @address itself. */
void *pl_replace(void *address);

/* The real one. */
void *pl_real_dlsym(void *handle, const char *name);

#endif /* PRELOAD_DRIVER_H */
