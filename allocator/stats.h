/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* For walks over the whole allocator. */
#ifndef ALLOCATOR_STATS_H
#define ALLOCATOR_STATS_H

#include "allocator/state.h"

void al_lock_all(struct al_allocator *al);
void al_unlock_all(struct al_allocator *al);

#endif /* ALLOCATOR_STATS_H */
