/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Starting this program again: as a worker, and as itself on the simulated
 * GPU.
 */
#ifndef DEMO_START_H
#define DEMO_START_H

#include <sys/types.h>

#include "demo/demo.h"

/* poolswitch-demo --worker SOCKET INDEX UUID DATA is a worker. */
#define DM_WORKER_OPTION "--worker"

struct dm_worker {
	pid_t pid;  /* 0: not running */
	int socket; /* our end; pre: valid while it runs */
};

enum ps_status dm_worker_start(struct dm_worker *worker, uint32_t index,
			       const char *uuid, const char *data);

/* Waits for its end, which must be a success. */
enum ps_status dm_worker_wait(struct dm_worker *worker);

/* Ends it if it still runs. */
void dm_worker_stop(struct dm_worker *worker);

/* The folder that this program is in. */
enum ps_status dm_own_folder(char *folder_out, size_t room);

/*
 * Chooses the simulated GPU and starts this program anew with the same
 * arguments. Returns only when that fails.
 */
enum ps_status dm_restart_simulated(char **argv);

/*
 * Gives this run a simulated GPU of its own where the environment names none,
 * so that runs at the same time do not meet. It is files in memory: the
 * caller goes on in a child, and the process it was waits for that one's end,
 * however it ends, and removes them.
 */
enum ps_status dm_sim_begin(void);

#endif /* DEMO_START_H */
