/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The demo's files: models and digits. A model that is open has its header
 * checked and its layout computed; its weights are read only by
 * dm_model_read(), which the controller alone calls.
 */
#ifndef DEMO_DATA_H
#define DEMO_DATA_H

#include "model/layout.h"

struct dm_model {
	int fd;                  /* of the file */
	struct md_file file;     /* what it says it holds */
	struct md_layout layout; /* where that goes */
};

enum ps_status dm_model_open(const char *folder, const char *name,
			     struct dm_model *model_out);
void dm_model_close(struct dm_model *model); /* also one that is all zero */

/* Reads the bytes of the @index-th tensor; @buffer has room for them. */
enum ps_status dm_model_read(const struct dm_model *model, size_t index,
			     void *buffer);

/* A whole number from the model's metadata, such as "test_right". */
enum ps_status dm_model_number(const struct dm_model *model, const char *key,
			       uint32_t *number_out);

#define DM_PIXELS 64u /* of an image: 8 x 8 */

struct dm_digits {
	uint32_t count;  /* of images */
	float *pixels;   /* count x DM_PIXELS, 0 to 1 */
	uint8_t *labels; /* what they show */
};

enum ps_status dm_digits_load(const char *folder, struct dm_digits *digits_out);
void dm_digits_free(struct dm_digits *digits);

#endif /* DEMO_DATA_H */
