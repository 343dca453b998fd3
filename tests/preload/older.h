/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the driver of older_library.c gives whoever asks for memory. */
#ifndef TESTS_PRELOAD_OLDER_H
#define TESTS_PRELOAD_OLDER_H

#include "device/cuda_abi.h"

#define OLDER_ADDRESS 0x4000000u

#endif /* TESTS_PRELOAD_OLDER_H */
