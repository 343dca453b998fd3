/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Whose function an address is. */
#ifndef TESTS_PRELOAD_FOUND_H
#define TESTS_PRELOAD_FOUND_H

#include "device/cuda_abi.h"

#include <stdbool.h>

/* Of the preload library, under that name; NULL: under any. */
bool th_is_ours(const void *address, const char *name);
/* Of the driver. */
bool th_is_drivers(const void *address, const char *name);

/* For cuGetProcAddress: "cuMemFree" of "cuMemFree_v2"; what picks _ptsz. The
 * text lives until the next call. */
const char *th_base_of(const char *name);
cuuint64_t th_flags_of(const char *name);

#endif /* TESTS_PRELOAD_FOUND_H */
