/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What leads a program past us: another library that answers dlsym, and a
 * library that was opened with RTLD_DEEPBIND, which finds the C library's
 * dlsym before ours. Neither is hindered; the user is told, once, in a process
 * that has a driver.
 */
#ifndef PRELOAD_RIVALS_H
#define PRELOAD_RIVALS_H

#include "preload/driver.h"

#include <stdatomic.h>

/* How many files were opened with RTLD_DEEPBIND and not yet looked at. */
extern atomic_uint pl_deep_waiting;

PL_EARLY static inline bool pl_has_deep(void)
{
	return atomic_load_explicit(&pl_deep_waiting, memory_order_relaxed);
}

/* Before one is. Nothing is allocated, nothing is called. */
void pl_note_deep(const char *file);
/* Looks at those that are open by now. pre: there is a driver. */
void pl_look_at_deep(void);

/* Looks who else answers dlsym. */
void pl_look_for_rivals(void);

#endif /* PRELOAD_RIVALS_H */
