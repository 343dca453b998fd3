/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Blocks that end with their pool: tests/support/closing.c. */
#ifndef TESTS_SUPPORT_CLOSING_H
#define TESTS_SUPPORT_CLOSING_H

#include "include/poolswitch.h"

/* So many since the program began, less those that were expected. */
long th_blocks_lost(void);

/* This test closes a pool, or is about to, in which @blocks are live. */
void th_expect_lost(long blocks);

#endif /* TESTS_SUPPORT_CLOSING_H */
