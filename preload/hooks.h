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

#define HOOK(name) PL_EXPORT __typeof__(*((struct dv_driver *)0)->name) name;
#include "preload/hooks.def"
#undef HOOK

/* The real one; where there is none, what a program gets that calls it all the
 * same because it was linked to it. */
#define PL_FORWARD(name, arguments)                                            \
	(!pl_driver()         ? CUDA_ERROR_NOT_INITIALIZED                     \
	 : !pl_driver()->name ? CUDA_ERROR_NOT_SUPPORTED                       \
			      : pl_driver()->name arguments)

#endif /* PRELOAD_HOOKS_H */
