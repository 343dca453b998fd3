/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sizes as people write them, the same wherever one is asked for: options,
 * the environment, the file of limits.
 */
#ifndef BASE_SIZE_H
#define BASE_SIZE_H

#include "include/poolswitch.h"

/* "40G", "1.5TiB", "4096", and "25%" of @whole where that is not 0.
 * PS_INVALID_ARGUMENT. Allocates nothing. */
enum ps_status bs_size_parse(const char *text, uint64_t whole,
			     uint64_t *bytes_out);

#endif /* BASE_SIZE_H */
