/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Models in tests: a safetensors file whose every word tells which model,
 * tensor and place it is of, and runs that look at every byte of it the way a
 * kernel would: behind the wait for its tensor, on a stream.
 *
 * Whoever stops a daemon with th_daemon_stop() has its models removed before
 * (th_models_remove()), for each keeps descriptors open in both halves.
 */
#ifndef TESTS_SUPPORT_MODELS_H
#define TESTS_SUPPORT_MODELS_H

#include "tests/support/daemon.h"
#include "tests/support/gpu.h"

struct th_model {
	const char *name;
	uint32_t seed; /* of the contents */
	uint32_t tensors;
	size_t bytes; /* of all tensors together, about */
	unsigned int flags;
	enum ps_model_plan plan;
	uint32_t groups;
};

/* Of one tensor; no two neighbours have as many, few a multiple of 256. */
size_t th_model_bytes(const struct th_model *model, uint32_t tensor);

/* Writes the file into the test's folder; its path lives until the next. */
const char *th_model_write(const struct th_model *model);
/* ps_model_add() of the file at @path. */
enum ps_status th_model_try_add_file(const struct th_model *model,
				     const char *path);
/* Both. */
enum ps_status th_model_try_add(const struct th_model *model);
void th_model_add(const struct th_model *model);
enum ps_status th_model_try_order(const struct th_model *model,
				  enum ps_model_action action);
void th_model_order(const struct th_model *model, enum ps_model_action action);
/* REMOVE for each, waiting until nobody has it attached any more. */
void th_models_remove(const struct th_model *const *models, size_t count);

/* What the daemon says of a model; json_decref() it; NULL: there is none. */
json_t *th_model_status(const struct th_model *model);
/* A number or the state of it. */
int64_t th_model_number(const struct th_model *model, const char *field);
bool th_model_is(const struct th_model *model, const char *state);
/* Waits until it is so. */
void th_model_await(const struct th_model *model, const char *state);

/* ---- in a client ---- */

struct ps_model *th_model_attach(struct ps_pool *pool,
				 const struct th_model *model);
void th_model_use(struct ps_model *attached);

/* Pinned memory for all tensors of a model, so that nothing waits but the
 * stream, and where each is in it. */
struct th_copy {
	const struct th_model *model;
	const struct th_gpu *gpu;
	unsigned char *bytes;
	size_t *at; /* by tensor; one more: the end */
};

void th_copy_init(struct th_copy *copy, const struct th_gpu *gpu,
		  const struct th_model *model);
void th_copy_done(struct th_copy *copy);
/* Submits for each tensor the wait and a copy behind it. pre: in use, or the
 * stream captures. */
void th_copy_submit(struct th_copy *copy, struct ps_model *attached,
		    CUstream stream);
/* Forgets what is in it, so that a copy that does not come is seen. */
void th_copy_spoil(struct th_copy *copy);
bool th_copy_is_right(const struct th_copy *copy);

/* A whole run: use, submit, release; then what came is looked at. */
void th_model_run(struct ps_model *attached, const struct th_model *model,
		  const struct th_gpu *gpu, CUstream stream);

#endif /* TESTS_SUPPORT_MODELS_H */
