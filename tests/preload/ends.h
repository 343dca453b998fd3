/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What libends.so did in its constructor and its destructor. */
#ifndef TESTS_PRELOAD_ENDS_H
#define TESTS_PRELOAD_ENDS_H

#include "device/driver.h"

struct th_ends {
	const void *found; /* cuMemAlloc_v2 */
	CUresult allocated;
	CUresult *freed; /* where the destructor says how it went */
};

__attribute__((visibility("default"))) struct th_ends *th_ends(void);

#endif /* TESTS_PRELOAD_ENDS_H */
