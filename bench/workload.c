/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "bench/workload.h"

#include <math.h>
#include <stdlib.h>

/*
 * The law turned round: size = 512 / u^2 for u uniform in (u0, 1], where u0
 * belongs to the largest size.
 */
static uint32_t draw_granules(struct bn_random *random, double u0,
			      uint32_t most)
{
	double u = u0 + (1.0 - u0) * bn_random_unit(random);
	double granules = ceil(1.0 / (u * u));

	return granules > (double)most ? most : (uint32_t)granules;
}

bool bn_workload_init(struct bn_workload *work, uint32_t live, uint32_t pairs,
		      uint64_t largest, uint64_t seed)
{
	double u0 = sqrt((double)BN_GRANULE / (double)largest);
	uint32_t most = (uint32_t)(largest / BN_GRANULE);
	struct bn_random random;

	*work = (struct bn_workload){ .live = live,
				      .pairs = pairs,
				      .largest = largest };
	work->fill = malloc(live * sizeof(work->fill[0]));
	work->pair = malloc(pairs * sizeof(work->pair[0]));
	if (work->fill == NULL || work->pair == NULL) {
		bn_workload_done(work);
		return false;
	}
	bn_random_seed(&random, seed);
	for (uint32_t i = 0; i < live; i++)
		work->fill[i] = draw_granules(&random, u0, most);
	for (uint32_t i = 0; i < pairs; i++) {
		work->pair[i].slot = bn_random_below(&random, live);
		work->pair[i].granules = draw_granules(&random, u0, most);
	}
	return true;
}

void bn_workload_done(struct bn_workload *work)
{
	free(work->fill);
	free(work->pair);
	*work = (struct bn_workload){ 0 };
}

uint64_t bn_workload_size_at(const struct bn_workload *work, double share)
{
	struct bn_samples sizes;
	uint64_t bytes;

	if (!bn_samples_init(&sizes, work->live))
		return 0;
	for (uint32_t i = 0; i < work->live; i++)
		bn_samples_add(&sizes, (uint64_t)work->fill[i] * BN_GRANULE);
	bytes = bn_samples_at(&sizes, share);
	bn_samples_done(&sizes);
	return bytes;
}

uint64_t bn_workload_bytes(const struct bn_workload *work)
{
	uint64_t granules = 0;

	for (uint32_t i = 0; i < work->live; i++)
		granules += work->fill[i];
	return granules * BN_GRANULE;
}
