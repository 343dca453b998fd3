/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "demo/net.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "demo/data.h"

struct layer {
	enum dm_kernel kernel;
	const char *name; /* its tensors are NAME.weight and NAME.bias */
	uint32_t relu;
};

/* What the files do not say: the layers, in order. As demo/train.py has it. */
static const struct layer mlp[] = {
	{ DM_DENSE, "fc1", 1 },
	{ DM_DENSE, "fc2", 1 },
	{ DM_DENSE, "fc3", 0 },
};
static const struct layer cnn[] = {
	{ DM_CONV3X3, "conv1", 1 }, { DM_MAXPOOL2, NULL, 0 },
	{ DM_CONV3X3, "conv2", 1 }, { DM_MAXPOOL2, NULL, 0 },
	{ DM_DENSE, "fc1", 1 },     { DM_DENSE, "fc2", 0 },
};

struct model {
	const struct layer *layers;
	uint32_t count;
};

static const struct model models[DM_MODELS] = {
	{ mlp, sizeof(mlp) / sizeof(mlp[0]) },
	{ cnn, sizeof(cnn) / sizeof(cnn[0]) },
};

/* ---- planning ---- */

/* What flows between two layers, for one image. */
struct flow {
	uint32_t channels;
	uint32_t size; /* of a plane, one side */
};

static enum ps_status find(const struct dm_manifest *manifest,
			   const char *layer, const char *kind,
			   const struct dm_entry **entry_out)
{
	const struct dm_entry *entry;
	char name[64];

	snprintf(name, sizeof(name), "%s.%s", layer, kind);
	entry = dm_manifest_find(manifest, name);
	if (entry == NULL || entry->dtype != MD_F32)
		return bs_fail(PS_REFUSED, "the manifest has no F32 tensor %s",
			       name);
	*entry_out = entry;
	return PS_OK;
}

/* A dense weight is [in, out], a 3x3 weight [out, in, 3, 3]. */
static bool weight_fits(enum dm_kernel kernel, const struct dm_entry *w,
			uint32_t n_in)
{
	if (kernel == DM_DENSE)
		return w->rank == 2 && w->shape[0] == n_in;
	return w->rank == 4 && w->shape[1] == n_in && w->shape[2] == 3 &&
	       w->shape[3] == 3;
}

static enum ps_status plan_weights(const struct dm_manifest *manifest,
				   CUdeviceptr base, const char *layer,
				   struct dm_step *step)
{
	const struct dm_entry *w = NULL;
	const struct dm_entry *b = NULL;
	enum ps_status status = find(manifest, layer, "weight", &w);

	if (status == PS_OK)
		status = find(manifest, layer, "bias", &b);
	if (status != PS_OK)
		return status;
	step->n_out = (uint32_t)w->shape[step->kernel == DM_DENSE ? 1 : 0];
	if (!weight_fits(step->kernel, w, step->n_in) || b->rank != 1 ||
	    b->shape[0] != step->n_out)
		return bs_fail(PS_REFUSED,
			       "layer %s: its tensors do not fit its %u inputs",
			       layer, step->n_in);
	step->w = base + w->offset;
	step->b = base + b->offset;
	return PS_OK;
}

static enum ps_status plan_step(const struct dm_manifest *manifest,
				CUdeviceptr base, const struct layer *layer,
				struct flow *flow, struct dm_step *step)
{
	uint32_t area = flow->size * flow->size;
	enum ps_status status = PS_OK;

	*step = (struct dm_step){
		.kernel = layer->kernel,
		.n_in = flow->channels,
		.n_out = flow->channels,
		.size = flow->size,
		.relu = layer->relu,
	};
	if (layer->kernel == DM_DENSE)
		step->n_in = flow->channels * area;
	if (layer->kernel != DM_MAXPOOL2)
		status = plan_weights(manifest, base, layer->name, step);
	flow->channels = step->n_out;
	if (layer->kernel == DM_DENSE)
		flow->size = 1;
	if (layer->kernel == DM_MAXPOOL2)
		flow->size /= 2;
	step->outputs = flow->channels * flow->size * flow->size;
	return status;
}

enum ps_status dm_net_plan(const struct dm_manifest *manifest, CUdeviceptr base,
			   struct dm_net *net_out)
{
	const struct model *model = &models[manifest->model];
	struct flow flow = { .channels = 1, .size = 8 };
	struct dm_net net = { .count = model->count };
	enum ps_status status = PS_OK;

	for (uint32_t i = 0; status == PS_OK && i < model->count; i++)
		status = plan_step(manifest, base, &model->layers[i], &flow,
				   &net.steps[i]);
	if (status == PS_OK)
		*net_out = net;
	return status;
}

/* ---- running ---- */

static enum ps_status allocate(struct dm_runner *runner, size_t bytes,
			       CUdeviceptr *address_out)
{
	uint64_t start = dm_now();
	enum ps_status status;
	void *block = NULL;

	status = ps_mem_alloc_async(runner->pool, bytes, runner->gpu->stream,
				    &block);
	if (status != PS_OK)
		return status;
	*address_out = (CUdeviceptr)(uintptr_t)block;
	return dm_samples_add(&runner->alloc_ns, dm_now() - start);
}

static enum ps_status release(struct dm_runner *runner, CUdeviceptr address)
{
	return ps_mem_free_async(runner->pool, (void *)(uintptr_t)address,
				 runner->gpu->stream);
}

static enum ps_status launch(struct dm_gpu *gpu, const struct dm_step *step,
			     CUdeviceptr x, CUdeviceptr y, uint32_t images)
{
	struct dm_step s = *step;
	uint32_t count = images * s.outputs;
	void *dense[] = {
		&x, &s.w, &s.b, &y, &count, &s.n_in, &s.n_out, &s.relu
	};
	void *conv[] = {
		&x, &s.w, &s.b, &y, &count, &s.n_in, &s.n_out, &s.size
	};
	void *pool[] = { &x, &y, &count, &s.size };

	switch (s.kernel) {
	case DM_DENSE:
		return dm_gpu_launch(gpu, s.kernel, count, dense);
	case DM_CONV3X3:
		return dm_gpu_launch(gpu, s.kernel, count, conv);
	default:
		return dm_gpu_launch(gpu, s.kernel, count, pool);
	}
}

/* Times the first kernel after a switch: until submitted, and until done. */
static enum ps_status watch_first(struct dm_runner *runner)
{
	enum ps_status status;

	runner->submitted_at = dm_now();
	status = dm_gpu_mark(runner->gpu);
	if (status == PS_OK)
		status = dm_gpu_wait_mark(runner->gpu);
	runner->done_at = dm_now();
	return status;
}

/* *x becomes the step's output; what it was is freed in the stream's order. */
static enum ps_status run_step(struct dm_runner *runner,
			       const struct dm_step *step, uint32_t images,
			       CUdeviceptr *x)
{
	enum ps_status status;
	CUdeviceptr y = 0;

	status = allocate(runner,
			  (size_t)images * step->outputs * sizeof(float), &y);
	if (status != PS_OK)
		return status;
	status = launch(runner->gpu, step, *x, y, images);
	if (status != PS_OK) {
		release(runner, y);
		return status;
	}
	status = release(runner, *x);
	*x = y;
	return status;
}

static enum ps_status run_steps(struct dm_runner *runner,
				const struct dm_net *net, uint32_t images,
				CUdeviceptr *x)
{
	enum ps_status status = PS_OK;

	for (uint32_t i = 0; status == PS_OK && i < net->count; i++) {
		status = run_step(runner, &net->steps[i], images, x);
		if (status == PS_OK && i == 0)
			status = watch_first(runner);
	}
	return status;
}

static enum ps_status read_labels(struct dm_runner *runner, CUdeviceptr scores,
				  uint32_t classes, uint32_t images,
				  uint32_t *labels_out)
{
	void *arguments[] = { &scores, NULL, &images, &classes };
	size_t bytes = images * sizeof(*labels_out);
	enum ps_status status;
	CUdeviceptr labels = 0;

	status = allocate(runner, bytes, &labels);
	if (status != PS_OK)
		return status;
	arguments[1] = &labels;
	status = dm_gpu_launch(runner->gpu, DM_ARGMAX, images, arguments);
	if (status == PS_OK)
		status =
			dm_gpu_copy_out(runner->gpu, labels_out, labels, bytes);
	release(runner, labels);
	return status;
}

enum ps_status dm_net_run(struct dm_runner *runner, const struct dm_net *net,
			  const float *pixels, uint32_t count,
			  uint32_t *labels_out)
{
	size_t bytes = (size_t)count * DM_PIXELS * sizeof(float);
	enum ps_status status;
	CUdeviceptr x = 0;

	status = allocate(runner, bytes, &x);
	if (status != PS_OK)
		return status;
	status = dm_gpu_copy_in(runner->gpu, x, pixels, bytes);
	if (status == PS_OK)
		status = run_steps(runner, net, count, &x);
	if (status == PS_OK)
		status = read_labels(runner, x,
				     net->steps[net->count - 1].outputs, count,
				     labels_out);
	release(runner, x);
	return status;
}
