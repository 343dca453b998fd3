/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the demo's processes agree on before they start: its models, its
 * limits, its options.
 */
#ifndef DEMO_DEMO_H
#define DEMO_DEMO_H

#include <stdbool.h>
#include <stdint.h>

#include "include/poolswitch.h"

#define DM_MODELS 2u
#define DM_WORKERS 2u
#define DM_MAX_TENSORS 16u /* of one model */
#define DM_MAX_BATCH 1024u /* images */
#define DM_TIMEOUT_MS 60000

/* The files of the models are NAME.safetensors in the data folder. */
static const char *const dm_model_names[DM_MODELS] = { "mlp", "cnn" };

struct dm_options {
	const char *gpu;         /* NULL: the first */
	uint64_t size;           /* of the pool; 0: all that is free */
	uint64_t parameter_size; /* 0: the library's default */
	uint32_t switches;       /* of each worker; a multiple of DM_MODELS */
	const char *json;        /* file for the results; NULL: none */
	const char *data;        /* folder of models, images and kernels */
};

#endif /* DEMO_DEMO_H */
