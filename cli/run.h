/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The parts of `poolswitch run` that tests look at. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "cli/command.h"

#include <stddef.h>

#define CL_PRELOAD_FILE "libpoolswitch_preload.so"

/*
 * The value of LD_PRELOAD: @library first, then what was there (@before; NULL:
 * nothing) in its order, without any other copy of the library. free() it;
 * NULL: no memory.
 */
char *cl_preload_list(const char *library, const char *before);

/* Whether what the options say can be meant; else why. */
bool cl_run_check(const struct cl_options *options, char *why, size_t room);

#endif /* CLI_RUN_H */
