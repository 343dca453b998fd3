/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker: receives the pool, takes its half of the computation region, and
 * runs the models that the controller names, from weights that lie in the
 * pool. It opens the models' files for their headers only.
 */
#ifndef DEMO_WORKER_H
#define DEMO_WORKER_H

#include "demo/demo.h"

/* @uuid: of the pool's GPU. @index: which half. Return: the exit status. */
int dm_worker_main(int socket, uint32_t index, const char *uuid,
		   const char *data);

#endif /* DEMO_WORKER_H */
