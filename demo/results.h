/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a run came to, whether that is right, and how it is shown.
 */
#ifndef DEMO_RESULTS_H
#define DEMO_RESULTS_H

#include <stdio.h>

#include "demo/message.h"

#define DM_MAX_PROBLEMS 32u

struct dm_model_result {
	const char *name;
	uint32_t tensors;
	uint32_t expected_right; /* of the images, counted at training time */
	uint64_t bytes;          /* of weights, as copied */
	uint64_t hash;           /* of the layout */
	uint64_t address;        /* in the controller */
};

struct dm_worker_result {
	uint32_t right[DM_MODELS]; /* of the images */
	struct dm_summary summary;
};

struct dm_results {
	char gpu_name[64];
	char gpu_uuid[64];
	bool simulated;
	int driver_version; /* as cuDriverGetVersion() says it */
	uint64_t pool_bytes;
	uint64_t segment_bytes;
	uint64_t parameter_bytes;
	uint64_t computation_bytes;
	uint64_t weight_bytes;  /* copied to the GPU by the controller */
	uint32_t images;        /* held-out ones, each classified once */
	uint32_t switches;      /* of each worker */
	uint32_t labels_differ; /* answers in which the workers differ */
	struct dm_model_result models[DM_MODELS];
	struct dm_worker_result workers[DM_WORKERS];
};

struct dm_problems {
	char texts[DM_MAX_PROBLEMS][160];
	uint32_t count;
};

/* Everything that must hold in a run; none: all is well. */
void dm_results_judge(const struct dm_results *results,
		      struct dm_problems *problems_out);

void dm_results_print(const struct dm_results *results,
		      const struct dm_problems *problems, FILE *out);

/* One JSON object, into a file that is replaced. */
enum ps_status dm_results_write(const struct dm_results *results,
				const struct dm_problems *problems,
				const char *path);

#endif /* DEMO_RESULTS_H */
