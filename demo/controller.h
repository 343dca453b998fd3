/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The controller: reserves the pool, puts both models' weights into it once,
 * starts the workers, tells them to switch, and compares what they say.
 */
#ifndef DEMO_CONTROLLER_H
#define DEMO_CONTROLLER_H

#include "demo/results.h"

enum ps_status dm_controller_run(const struct dm_options *options,
				 struct dm_results *results_out);

#endif /* DEMO_CONTROLLER_H */
