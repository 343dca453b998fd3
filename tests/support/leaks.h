/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What a process holds at one moment, and what it gained since. For the
 * runner only; tests include tests/support/harness.h. */
#ifndef TESTS_SUPPORT_LEAKS_H
#define TESTS_SUPPORT_LEAKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TH_FD_MAX 4096
#define TH_COUNTERS_MAX 16

struct th_holdings {
	uint8_t fds[TH_FD_MAX]; /* 1: open */
	long counters[TH_COUNTERS_MAX];
	size_t counter_count;
};

void th_holdings_take(struct th_holdings *holdings);

/* Prints each thing that was not there @before; true when there was one. */
bool th_holdings_gained(const struct th_holdings *before, const char *test);

/* Reaps and prints children that the test left; true when there was one. */
bool th_children_left(const char *test);

#endif /* TESTS_SUPPORT_LEAKS_H */
