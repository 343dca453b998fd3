/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "demo/samples.h"

#include <stdlib.h>
#include <time.h>

#include "base/status.h"

uint64_t dm_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

enum ps_status dm_samples_add(struct dm_samples *samples, uint64_t value)
{
	size_t room = samples->room > 0 ? samples->room * 2 : 64;
	uint64_t *values;

	if (samples->count == samples->room) {
		values = realloc(samples->values, room * sizeof(*values));
		if (values == NULL)
			return bs_fail(PS_HOST_MEMORY,
				       "no memory for %zu times", room);
		samples->values = values;
		samples->room = room;
	}
	samples->values[samples->count++] = value;
	return PS_OK;
}

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left;
	uint64_t b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

uint64_t dm_samples_median(struct dm_samples *samples)
{
	if (samples->count == 0)
		return 0;
	qsort(samples->values, samples->count, sizeof(uint64_t), compare);
	return samples->values[samples->count / 2];
}

void dm_samples_free(struct dm_samples *samples)
{
	free(samples->values);
	*samples = (struct dm_samples){ 0 };
}
