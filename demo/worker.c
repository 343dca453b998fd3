/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "demo/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "demo/data.h"
#include "demo/net.h"

struct worker {
	int socket;
	uint32_t index;          /* which half of the computation region */
	const char *data;        /* folder */
	struct dm_digits digits; /* the images, on the host */
	struct dm_gpu gpu;       /* stream and kernels */
	struct ps_pool *pool;    /* as received */
	struct dm_runner runner; /* over the two above */
	struct dm_net nets[DM_MODELS];
	bool has_net[DM_MODELS]; /* its manifest came and was right */
	uint32_t current;        /* the model of the last run */
	uint64_t images;         /* that were copied to the GPU */
	struct dm_samples submitted_ns;
	struct dm_samples done_ns;
	struct dm_summary summary;
};

/* ---- attaching ---- */

/* Our half of the computation region, in whole segments. */
static enum ps_status insert_half(struct worker *worker)
{
	uint64_t segment = ps_pool_segment_size(worker->pool);
	enum ps_status status;
	uint64_t offset = 0;
	uint64_t size = 0;
	uint64_t half;

	status = ps_pool_region(worker->pool, PS_REGION_COMPUTATION, &offset,
				&size);
	if (status != PS_OK)
		return status;
	half = bs_round_down(size / DM_WORKERS, segment);
	if (half == 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the computation region of %" PRIu64
			       " bytes has no segment for each of %u workers: "
			       "give a larger --size or a smaller "
			       "--parameter-size",
			       size, DM_WORKERS);
	return ps_insert_shared(worker->pool, half,
				offset + worker->index * half, PS_ANY_STREAM,
				0);
}

/* From the receiving call to the first allocation served. */
static enum ps_status attach(struct worker *worker)
{
	enum ps_status status;
	void *block = NULL;
	uint64_t start;

	status = dm_send_kind(worker->socket, DM_READY);
	if (status == PS_OK)
		status = dm_receive(worker->socket, DM_ATTACH,
				    &(struct dm_message){ 0 });
	if (status != PS_OK)
		return status;
	start = dm_now();
	status = ps_recv_shared(worker->socket, 0, PS_TIMEOUT_DEFAULT,
				&worker->pool);
	if (status == PS_OK)
		status = insert_half(worker);
	if (status == PS_OK)
		status = ps_mem_alloc_async(worker->pool, 1, worker->gpu.stream,
					    &block);
	if (status != PS_OK)
		return status;
	worker->summary.attach_ns = dm_now() - start;
	worker->summary.first_block = (uint64_t)(uintptr_t)block;
	return ps_mem_free_async(worker->pool, block, worker->gpu.stream);
}

/* ---- a model ---- */

/* The manifest against the model's own file, of which the header is read. */
static enum ps_status check_manifest(struct worker *worker,
				     const struct dm_manifest *manifest)
{
	struct dm_model model = { 0 };
	enum ps_status status;
	uint64_t offset = 0;
	uint64_t size = 0;

	if (manifest->model >= DM_MODELS)
		return bs_fail(PS_REFUSED, "there is no model %u",
			       manifest->model);
	status = ps_pool_region(worker->pool, PS_REGION_PARAMETER, &offset,
				&size);
	if (status == PS_OK)
		status = dm_model_open(worker->data,
				       dm_model_names[manifest->model], &model);
	if (status == PS_OK)
		status = dm_manifest_check(manifest, &model.layout, offset,
					   size);
	dm_model_close(&model);
	return status;
}

static enum ps_status map_model(struct worker *worker,
				const struct dm_manifest *manifest)
{
	uint64_t segment = ps_pool_segment_size(worker->pool);
	uint64_t first = bs_round_down(manifest->pool_offset, segment);
	uint64_t end;

	if (!bs_round_up(manifest->pool_offset + manifest->bytes, segment,
			 &end))
		return bs_fail(PS_REFUSED, "the model's place overflows");
	return ps_pool_map(worker->pool, first, end - first);
}

/* True when the weights cannot be written from here. The byte written is the
 * one that is there, so that even a success changes nothing. */
static enum ps_status try_write(struct worker *worker, void *weights,
				uint32_t *refused_out)
{
	char byte = 0;
	enum ps_status status = ps_mem_read(worker->pool, &byte, weights, 1);

	if (status != PS_OK)
		return status;
	status = ps_mem_write(worker->pool, weights, &byte, 1);
	if (status != PS_OK && status != PS_READ_ONLY)
		return status;
	*refused_out = status == PS_READ_ONLY;
	return PS_OK;
}

static enum ps_status take_manifest(struct worker *worker,
				    const struct dm_manifest *manifest)
{
	uint32_t model = manifest->model;
	enum ps_status status = check_manifest(worker, manifest);
	uint32_t refused = 0;
	void *weights;

	if (status == PS_OK)
		status = map_model(worker, manifest);
	if (status != PS_OK)
		return status;
	weights = ps_pool_pointer(worker->pool, manifest->pool_offset);
	status = try_write(worker, weights, &refused);
	if (status == PS_OK)
		status = dm_net_plan(manifest, (CUdeviceptr)(uintptr_t)weights,
				     &worker->nets[model]);
	if (status != PS_OK)
		return status;
	worker->has_net[model] = true;
	worker->summary.addresses[model] = (uint64_t)(uintptr_t)weights;
	worker->summary.read_only &= refused;
	return dm_send_kind(worker->socket, DM_ANSWER);
}

/* ---- a run ---- */

static enum ps_status check_run(const struct worker *worker,
				const struct dm_run *run)
{
	if (run->model >= DM_MODELS || !worker->has_net[run->model])
		return bs_fail(PS_REFUSED, "no manifest came for model %u",
			       run->model);
	if (run->count == 0 || run->count > DM_MAX_BATCH ||
	    run->first > worker->digits.count ||
	    run->count > worker->digits.count - run->first)
		return bs_fail(PS_REFUSED,
			       "%u images from %u on; there are %u, and at "
			       "most %u at once",
			       run->count, run->first, worker->digits.count,
			       DM_MAX_BATCH);
	return PS_OK;
}

static enum ps_status send_labels(struct worker *worker,
				  const struct dm_run *run,
				  const uint32_t *labels)
{
	struct dm_message answer;

	memset(&answer, 0, sizeof(answer));
	answer.kind = DM_LABELS;
	for (uint32_t i = 0; i < run->count; i++) {
		answer.labels.labels[i] = (uint8_t)labels[i];
		answer.labels.right +=
			labels[i] == worker->digits.labels[run->first + i];
	}
	return dm_send(worker->socket, &answer);
}

/* @start: when the command had arrived. */
static enum ps_status time_switch(struct worker *worker, uint32_t model,
				  uint64_t start)
{
	enum ps_status status;

	if (worker->current == model)
		return PS_OK;
	worker->current = model;
	status = dm_samples_add(&worker->submitted_ns,
				worker->runner.submitted_at - start);
	if (status == PS_OK)
		status = dm_samples_add(&worker->done_ns,
					worker->runner.done_at - start);
	return status;
}

static enum ps_status run_batch(struct worker *worker, const struct dm_run *run,
				uint64_t start)
{
	const float *pixels;
	uint32_t labels[DM_MAX_BATCH];
	enum ps_status status = check_run(worker, run);

	if (status != PS_OK)
		return status;
	pixels = &worker->digits.pixels[(size_t)run->first * DM_PIXELS];
	status = dm_net_run(&worker->runner, &worker->nets[run->model], pixels,
			    run->count, labels);
	if (status != PS_OK)
		return status;
	worker->images += run->count;
	status = time_switch(worker, run->model, start);
	if (status == PS_OK)
		status = send_labels(worker, run, labels);
	return status;
}

/* ---- the end ---- */

/* Whatever was copied to the GPU beyond the images counts as weights. */
static enum ps_status send_summary(struct worker *worker)
{
	struct dm_summary *summary = &worker->summary;
	struct dm_message message;

	summary->input_bytes = worker->images * DM_PIXELS * sizeof(float);
	summary->weight_bytes = worker->gpu.bytes_in - summary->input_bytes;
	summary->allocs = (uint32_t)worker->runner.alloc_ns.count;
	summary->switches = (uint32_t)worker->done_ns.count;
	summary->alloc_ns = dm_samples_median(&worker->runner.alloc_ns);
	summary->submitted_ns = dm_samples_median(&worker->submitted_ns);
	summary->done_ns = dm_samples_median(&worker->done_ns);
	memset(&message, 0, sizeof(message));
	message.kind = DM_SUMMARY;
	message.summary = *summary;
	return dm_send(worker->socket, &message);
}

static enum ps_status serve(struct worker *worker)
{
	struct dm_message message;
	enum ps_status status;
	uint64_t start;

	for (;;) {
		status = dm_receive(worker->socket, 0, &message);
		start = dm_now();
		if (status == PS_OK && message.kind == DM_FINISH)
			return PS_OK;
		if (status == PS_OK && message.kind == DM_MANIFEST)
			status = take_manifest(worker, &message.manifest);
		else if (status == PS_OK && message.kind == DM_RUN)
			status = run_batch(worker, &message.run, start);
		else if (status == PS_OK)
			status = bs_fail(PS_PROTOCOL,
					 "message %u means nothing here",
					 message.kind);
		if (status != PS_OK)
			return status;
	}
}

static void report_failure(int socket, enum ps_status status)
{
	struct dm_message message;

	if (status == PS_PEER_GONE)
		return;
	memset(&message, 0, sizeof(message));
	message.kind = DM_FAILED;
	message.failure.status = status;
	snprintf(message.failure.text, sizeof(message.failure.text), "%s",
		 bs_fail_text());
	if (dm_send(socket, &message) != PS_OK)
		fprintf(stderr, "poolswitch-demo: worker: %s\n",
			message.failure.text);
}

static enum ps_status work(struct worker *worker)
{
	enum ps_status status = attach(worker);

	if (status == PS_OK) {
		worker->runner.gpu = &worker->gpu;
		worker->runner.pool = worker->pool;
		status = serve(worker);
	}
	if (status == PS_OK)
		status = ps_mem_drop_stream(worker->pool, worker->gpu.stream);
	if (status == PS_OK)
		status = ps_clear_shared(worker->pool);
	if (status == PS_OK)
		status = send_summary(worker);
	return status;
}

static void tear_down(struct worker *worker)
{
	ps_pool_close(worker->pool);
	dm_gpu_close(&worker->gpu);
	dm_digits_free(&worker->digits);
	dm_samples_free(&worker->runner.alloc_ns);
	dm_samples_free(&worker->submitted_ns);
	dm_samples_free(&worker->done_ns);
}

int dm_worker_main(int socket, uint32_t index, const char *uuid,
		   const char *data)
{
	struct worker worker = {
		.socket = socket,
		.index = index,
		.data = data,
		.current = DM_MODELS,
		.summary = { .read_only = 1 },
	};
	enum ps_status status = dm_digits_load(data, &worker.digits);

	if (status == PS_OK)
		status = dm_gpu_open(&worker.gpu, uuid, data);
	if (status == PS_OK)
		status = work(&worker);
	if (status != PS_OK)
		report_failure(socket, status);
	tear_down(&worker);
	return status == PS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
