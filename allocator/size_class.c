/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "allocator/size_class.h"

/* Classes of one doubling lie 2^shift granules apart. */
static unsigned int shift_of(unsigned int index)
{
	return index < AL_LINEAR ? 0 : index / AL_LINEAR - 1;
}

static uint32_t granules_of(unsigned int index)
{
	if (index < AL_LINEAR)
		return index + 1;
	return (AL_LINEAR + index % AL_LINEAR + 1) << shift_of(index);
}

void al_class_table(struct al_class table[AL_CLASSES])
{
	for (unsigned int i = 0; i < AL_CLASSES; i++) {
		uint32_t granules = granules_of(i);
		uint32_t min = AL_PAGE_BLOCKS >> shift_of(i);
		uint32_t max = AL_PAGE_BLOCKS;

		if (min == 0)
			min = 1;
		while (max > min && max * granules > AL_PAGE_MAX / AL_GRANULE)
			max /= 2;
		table[i] = (struct al_class){
			.granules = granules,
			.reciprocal = ((1u << 31) + granules - 1) / granules,
			.blocks_min = min,
			.blocks_max = max,
		};
	}
}
