/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Times that were measured, and their median. */
#ifndef DEMO_SAMPLES_H
#define DEMO_SAMPLES_H

#include "include/poolswitch.h"

struct dm_samples {
	uint64_t *values; /* nanoseconds */
	size_t count;
	size_t room;
};

/* Nanoseconds of a clock that only runs forward. */
uint64_t dm_now(void);

enum ps_status dm_samples_add(struct dm_samples *samples, uint64_t value);
/* 0 when there are none. Sorts them. */
uint64_t dm_samples_median(struct dm_samples *samples);
void dm_samples_free(struct dm_samples *samples);

#endif /* DEMO_SAMPLES_H */
