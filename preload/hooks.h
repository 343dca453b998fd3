/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The functions that stand for the driver's. They have its names, so that a
 * program which is linked to libcuda finds them too.
 */
#ifndef PRELOAD_HOOKS_H
#define PRELOAD_HOOKS_H

#include "preload/driver.h"

#define PL_EXPORT __attribute__((visibility("default")))

#define HOOK(name, version)                                                    \
	PL_EXPORT __typeof__(*((struct dv_driver *)0)->name) name;
#include "preload/hooks.def"
#undef HOOK

/* Where no stream is named the variants that end in _ptsz mean the thread's
 * own. */
static inline CUstream pl_own_stream(CUstream stream)
{
	return stream == NULL ? CU_STREAM_PER_THREAD : stream;
}

#endif /* PRELOAD_HOOKS_H */
