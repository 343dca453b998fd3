/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "demo/controller.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status.h"
#include "demo/data.h"
#include "demo/manifest.h"
#include "demo/start.h"
#include "device/device.h"

struct controller {
	const struct dm_options *options;
	struct dm_results *results;
	struct ps_pool *pool;
	struct dm_model models[DM_MODELS];
	struct dm_manifest manifests[DM_MODELS];
	void *weights[DM_MODELS]; /* blocks of the parameter region */
	struct dm_worker workers[DM_WORKERS];
	/* What each worker's models said of each image. */
	uint8_t *labels[DM_WORKERS][DM_MODELS];
};

/* ---- the pool ---- */

static enum ps_status reserve(struct controller *c)
{
	const struct dm_options *options = c->options;
	struct ps_pool_config *config;
	enum ps_status status = ps_pool_config_new(&config);

	if (status != PS_OK)
		return status;
	ps_pool_config_set_size(config, options->size);
	if (options->parameter_size != 0)
		ps_pool_config_set_parameter_size(config,
						  options->parameter_size);
	status = ps_pool_config_set_gpu(config, options->gpu);
	if (status == PS_OK)
		status = ps_alloc_shared(config, &c->pool);
	ps_pool_config_free(config);
	return status;
}

static enum ps_status describe_gpu(struct controller *c)
{
	struct dm_results *results = c->results;
	const char *uuid = ps_pool_gpu(c->pool);
	struct dv_device *device;
	enum ps_status status = dv_device_open(uuid, &device);

	if (status != PS_OK)
		return status;
	snprintf(results->gpu_name, sizeof(results->gpu_name), "%s",
		 dv_device_name(device));
	snprintf(results->gpu_uuid, sizeof(results->gpu_uuid), "%s", uuid);
	results->simulated = dv_is_simulated();
	results->driver_version = dv_driver_version();
	dv_device_close(device);
	return PS_OK;
}

static enum ps_status describe_pool(struct controller *c)
{
	struct dm_results *results = c->results;
	enum ps_status status;
	uint64_t offset;

	results->pool_bytes = ps_pool_size(c->pool);
	results->segment_bytes = ps_pool_segment_size(c->pool);
	status = ps_pool_region(c->pool, PS_REGION_PARAMETER, &offset,
				&results->parameter_bytes);
	if (status == PS_OK)
		status = ps_pool_region(c->pool, PS_REGION_COMPUTATION, &offset,
					&results->computation_bytes);
	return status == PS_OK ? describe_gpu(c) : status;
}

/* ---- the weights, once ---- */

static enum ps_status copy_tensor(struct controller *c, uint32_t index,
				  size_t tensor)
{
	const struct dm_model *model = &c->models[index];
	const struct md_tensor *place = &model->layout.tensors[tensor];
	char *weights = c->weights[index];
	void *buffer = malloc(place->bytes + 1);
	enum ps_status status;

	if (buffer == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no memory for the %" PRIu64
			       " bytes of tensor %s",
			       place->bytes, place->name);
	status = dm_model_read(model, tensor, buffer);
	if (status == PS_OK)
		status = ps_mem_write(c->pool, weights + place->offset, buffer,
				      place->bytes);
	free(buffer);
	if (status == PS_OK)
		c->results->weight_bytes += place->bytes;
	return status;
}

static enum ps_status copy_model(struct controller *c, uint32_t index)
{
	const struct md_layout *layout = &c->models[index].layout;
	char *start = ps_pool_pointer(c->pool, 0);
	enum ps_status status;

	status = ps_mem_alloc(c->pool, layout->bytes, &c->weights[index]);
	for (size_t i = 0; status == PS_OK && i < layout->count; i++)
		status = copy_tensor(c, index, i);
	if (status != PS_OK)
		return status;
	return dm_manifest_make(index,
				(uint64_t)((char *)c->weights[index] - start),
				layout, &c->manifests[index]);
}

static enum ps_status describe_model(struct controller *c, uint32_t index,
				     uint32_t images)
{
	struct dm_model_result *result = &c->results->models[index];
	const struct dm_model *model = &c->models[index];
	uint32_t counted = 0;
	enum ps_status status = dm_model_number(model, "test_images", &counted);

	if (status == PS_OK)
		status = dm_model_number(model, "test_right",
					 &result->expected_right);
	if (status == PS_OK && counted != images)
		status = bs_fail(PS_INVALID_ARGUMENT,
				 "it was tested on %u images; there are %u",
				 counted, images);
	result->name = dm_model_names[index];
	result->tensors = (uint32_t)model->layout.count;
	result->hash = model->layout.hash;
	result->address = (uint64_t)(uintptr_t)c->weights[index];
	for (size_t i = 0; i < model->layout.count; i++)
		result->bytes += model->layout.tensors[i].bytes;
	return status;
}

static enum ps_status load_models(struct controller *c)
{
	enum ps_status status;

	status = ps_insert_region(c->pool, PS_REGION_PARAMETER, PS_ANY_STREAM,
				  0);
	for (uint32_t i = 0; status == PS_OK && i < DM_MODELS; i++) {
		status = dm_model_open(c->options->data, dm_model_names[i],
				       &c->models[i]);
		if (status == PS_OK)
			status = copy_model(c, i);
		if (status == PS_OK)
			status = describe_model(c, i, c->results->images);
		if (status != PS_OK)
			bs_fail_prefix(status, "model %s", dm_model_names[i]);
	}
	return status;
}

/* ---- the workers ---- */

static enum ps_status attach_worker(struct controller *c, uint32_t index)
{
	int socket = c->workers[index].socket;
	struct dm_message message;
	enum ps_status status = dm_receive(socket, DM_READY, &message);

	if (status == PS_OK)
		status = dm_send_kind(socket, DM_ATTACH);
	if (status == PS_OK)
		status = ps_send_shared(c->pool, socket, 0, PS_TIMEOUT_DEFAULT);
	for (uint32_t i = 0; status == PS_OK && i < DM_MODELS; i++) {
		memset(&message, 0, sizeof(message));
		message.kind = DM_MANIFEST;
		message.manifest = c->manifests[i];
		status = dm_send(socket, &message);
		if (status == PS_OK)
			status = dm_receive(socket, DM_ANSWER, &message);
	}
	return status;
}

static enum ps_status start_workers(struct controller *c)
{
	enum ps_status status = PS_OK;

	for (uint32_t i = 0; status == PS_OK && i < DM_WORKERS; i++)
		status =
			dm_worker_start(&c->workers[i], i, c->results->gpu_uuid,
					c->options->data);
	for (uint32_t i = 0; status == PS_OK && i < DM_WORKERS; i++) {
		status = attach_worker(c, i);
		if (status != PS_OK)
			bs_fail_prefix(status, "worker %u", i + 1);
	}
	return status;
}

/* ---- switching ---- */

/* The @step-th command of a worker: the models take turns, the workers are
 * one model apart, and each pair of steps has its own part of the images. */
static struct dm_run plan_run(const struct controller *c, uint32_t worker,
			      uint32_t step)
{
	uint32_t parts = c->options->switches / DM_MODELS;
	uint32_t part = step / DM_MODELS;
	uint64_t images = c->results->images;
	struct dm_run run = {
		.model = (step + worker) % DM_MODELS,
		.first = (uint32_t)(images * part / parts),
	};

	run.count = (uint32_t)(images * (part + 1) / parts) - run.first;
	return run;
}

static enum ps_status send_run(struct controller *c, uint32_t worker,
			       uint32_t step)
{
	struct dm_message message;

	memset(&message, 0, sizeof(message));
	message.kind = DM_RUN;
	message.run = plan_run(c, worker, step);
	return dm_send(c->workers[worker].socket, &message);
}

static enum ps_status take_labels(struct controller *c, uint32_t worker,
				  uint32_t step)
{
	struct dm_run run = plan_run(c, worker, step);
	struct dm_message message;
	enum ps_status status =
		dm_receive(c->workers[worker].socket, DM_LABELS, &message);

	if (status != PS_OK)
		return bs_fail_prefix(status, "worker %u", worker + 1);
	c->results->workers[worker].right[run.model] += message.labels.right;
	memcpy(c->labels[worker][run.model] + run.first, message.labels.labels,
	       run.count);
	return PS_OK;
}

/* Both workers compute at once. */
static enum ps_status run_steps(struct controller *c)
{
	enum ps_status status = PS_OK;

	for (uint32_t step = 0; step < c->options->switches; step++) {
		for (uint32_t i = 0; status == PS_OK && i < DM_WORKERS; i++)
			status = send_run(c, i, step);
		for (uint32_t i = 0; status == PS_OK && i < DM_WORKERS; i++)
			status = take_labels(c, i, step);
	}
	return status;
}

static void compare_labels(struct controller *c)
{
	for (uint32_t model = 0; model < DM_MODELS; model++)
		for (uint32_t i = 0; i < c->results->images; i++)
			c->results->labels_differ += c->labels[0][model][i] !=
						     c->labels[1][model][i];
}

static enum ps_status finish_workers(struct controller *c)
{
	enum ps_status status = PS_OK;
	struct dm_message message;

	for (uint32_t i = 0; status == PS_OK && i < DM_WORKERS; i++) {
		status = dm_send_kind(c->workers[i].socket, DM_FINISH);
		if (status == PS_OK)
			status = dm_receive(c->workers[i].socket, DM_SUMMARY,
					    &message);
		if (status == PS_OK)
			status = dm_worker_wait(&c->workers[i]);
		if (status != PS_OK)
			return bs_fail_prefix(status, "worker %u", i + 1);
		c->results->workers[i].summary = message.summary;
	}
	return status;
}

/* ---- all of it ---- */

static enum ps_status make_room_for_labels(struct controller *c)
{
	for (uint32_t i = 0; i < DM_WORKERS; i++) {
		for (uint32_t model = 0; model < DM_MODELS; model++) {
			c->labels[i][model] = calloc(c->results->images, 1);
			if (c->labels[i][model] == NULL)
				return bs_fail(PS_HOST_MEMORY,
					       "no memory for %u labels",
					       c->results->images);
		}
	}
	return PS_OK;
}

static enum ps_status count_images(struct controller *c)
{
	struct dm_digits digits;
	enum ps_status status = dm_digits_load(c->options->data, &digits);

	if (status != PS_OK)
		return status;
	c->results->images = digits.count;
	dm_digits_free(&digits);
	if (c->options->switches / DM_MODELS > c->results->images)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%u switches leave some without an image; %u "
			       "are possible",
			       c->options->switches,
			       DM_MODELS * c->results->images);
	return make_room_for_labels(c);
}

/* The pool as it was, which shows that nothing of ours is left in it. */
static enum ps_status give_back(struct controller *c)
{
	enum ps_status status = PS_OK;

	for (uint32_t i = 0; status == PS_OK && i < DM_MODELS; i++)
		status = ps_mem_free(c->pool, c->weights[i]);
	return status == PS_OK ? ps_clear_shared(c->pool) : status;
}

static enum ps_status run(struct controller *c)
{
	enum ps_status status = count_images(c);

	if (status == PS_OK)
		status = reserve(c);
	if (status == PS_OK)
		status = describe_pool(c);
	if (status == PS_OK)
		status = load_models(c);
	if (status == PS_OK)
		status = start_workers(c);
	if (status == PS_OK)
		status = run_steps(c);
	if (status == PS_OK)
		status = finish_workers(c);
	if (status == PS_OK)
		status = give_back(c);
	if (status == PS_OK)
		compare_labels(c);
	return status;
}

static void tear_down(struct controller *c)
{
	for (uint32_t i = 0; i < DM_WORKERS; i++) {
		dm_worker_stop(&c->workers[i]);
		for (uint32_t model = 0; model < DM_MODELS; model++)
			free(c->labels[i][model]);
	}
	for (uint32_t i = 0; i < DM_MODELS; i++)
		dm_model_close(&c->models[i]);
	ps_pool_close(c->pool);
}

enum ps_status dm_controller_run(const struct dm_options *options,
				 struct dm_results *results_out)
{
	struct dm_results results = { .switches = options->switches };
	struct controller controller = {
		.options = options,
		.results = &results,
	};
	enum ps_status status = run(&controller);

	tear_down(&controller);
	if (status == PS_OK)
		*results_out = results;
	return status;
}
