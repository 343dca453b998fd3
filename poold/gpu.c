/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Opening the agent's GPU, and what is asked of it on the caller's thread. */
#include "poold/gpu_parts.h"

#include "base/status.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Work in an MPS server ends when any other client of the server dies in a
 * kernel, so the agent stays outside: CUDA looks for a server here, where
 * there is none.
 */
#define MPS_VARIABLE "CUDA_MPS_PIPE_DIRECTORY"
#define MPS_NOWHERE "/dev/null/poolswitchd"

static enum ps_status choose_gpu(const char **gpu)
{
	int count = 0;
	enum ps_status status;

	if (*gpu)
		return PS_OK;
	status = dv_device_count(&count);
	if (status == PS_OK && count > 1)
		status = bs_fail(PS_INVALID_ARGUMENT,
				 "CUDA shows %d GPUs: say which one is meant "
				 "(--gpu 0, or --gpu GPU-<uuid>; nvidia-smi -L "
				 "lists them)",
				 count);
	*gpu = "0";
	return status;
}

/* Whether others can compute beside the agent. */
static enum ps_status check_sharing(const struct dv_traits *traits)
{
	const char *mode = traits->compute_mode == DV_COMPUTE_PROHIBITED
				   ? "prohibited"
				   : "exclusive-process";

	if (traits->compute_mode != DV_COMPUTE_DEFAULT)
		return bs_fail(PS_UNSUPPORTED,
			       "%s (%s) is in compute mode %s (%d), in which "
			       "the clients of a pool can have no context: "
			       "nvidia-smi -i %s -c DEFAULT",
			       traits->uuid, traits->name, mode,
			       traits->compute_mode, traits->uuid);
	if (traits->is_mps)
		return bs_fail(PS_UNSUPPORTED,
			       "the work of poolswitchd would run in an MPS "
			       "server, where the death of a client ends it: "
			       "set " MPS_VARIABLE " to another folder for it");
	return PS_OK;
}

static enum ps_status open_device(struct pd_gpu *gpu, const char *name)
{
	struct dv_traits traits;
	enum ps_status status;

	if (setenv(MPS_VARIABLE, MPS_NOWHERE, 1) != 0)
		return bs_fail(PS_HOST_MEMORY, "no host memory to set %s",
			       MPS_VARIABLE);
	status = choose_gpu(&name);
	if (status == PS_OK)
		status = dv_traits_get(name, &traits);
	if (status == PS_OK)
		status = check_sharing(&traits);
	if (status == PS_OK)
		status = dv_device_open(name, &gpu->device);
	if (status == PS_OK)
		status = dv_stream_create(gpu->device, &gpu->stream);
	return status;
}

enum ps_status pd_gpu_open(const char *name, struct pd_gpu **gpu_out)
{
	struct pd_gpu *gpu = calloc(1, sizeof(*gpu));
	enum ps_status status;

	if (!gpu)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a GPU");
	gpu->magic = PD_GPU_MAGIC;
	status = pd_gpu_init_jobs(gpu);
	if (status == PS_OK)
		status = open_device(gpu, name);
	if (status != PS_OK) {
		pd_gpu_close(gpu);
		return status;
	}
	*gpu_out = gpu;
	return PS_OK;
}

/* What fails here would only have tidied up: the process is about to end. */
static void close_device(struct pd_gpu *gpu)
{
	for (uint32_t i = 0; i < gpu->segments; i++)
		if (gpu->segment[i].is_mapped)
			(void)dv_window_unmap(gpu->device,
					      pd_gpu_address(gpu, i),
					      gpu->segment_bytes);
	if (gpu->window > 0)
		(void)dv_window_free(gpu->device, gpu->base, gpu->window);
	dv_stream_destroy(gpu->device, gpu->stream);
	dv_device_close(gpu->device);
}

void pd_gpu_close(struct pd_gpu *gpu)
{
	if (!gpu)
		return;
	assert(gpu->magic == PD_GPU_MAGIC);
	pd_gpu_end_jobs(gpu);
	if (gpu->device)
		close_device(gpu);
	for (uint32_t i = 0; i < gpu->segments; i++) {
		pd_gpu_drop_fd(gpu, i);
		if (gpu->segment[i].new_fd >= 0)
			close(gpu->segment[i].new_fd);
	}
	free(gpu->segment);
	gpu->magic = 0;
	free(gpu);
}

const char *pd_gpu_uuid(const struct pd_gpu *gpu)
{
	return dv_device_uuid(gpu->device);
}

int pd_gpu_fd(const struct pd_gpu *gpu, uint32_t segment)
{
	assert(segment < gpu->segments);
	return gpu->segment[segment].fd;
}

void pd_gpu_drop_fd(struct pd_gpu *gpu, uint32_t segment)
{
	assert(segment < gpu->segments);
	if (gpu->segment[segment].fd >= 0)
		close(gpu->segment[segment].fd);
	gpu->segment[segment].fd = -1;
}

enum ps_status pd_gpu_ask_free(struct pd_gpu *gpu, uint64_t *free_out)
{
	uint64_t free_bytes, total;
	enum ps_status status =
		dv_memory_info(gpu->device, &free_bytes, &total);

	if (status != PS_OK)
		return status;
	atomic_store(&gpu->free_bytes, free_bytes);
	*free_out = free_bytes;
	return PS_OK;
}

uint64_t pd_gpu_free_bytes(const struct pd_gpu *gpu)
{
	return atomic_load(&gpu->free_bytes);
}

struct dv_device *pd_gpu_device(const struct pd_gpu *gpu)
{
	return gpu->device;
}

uint64_t pd_gpu_segment_address(const struct pd_gpu *gpu, uint32_t segment)
{
	assert(segment < gpu->segments);
	return pd_gpu_address(gpu, segment);
}

uint64_t pd_gpu_segment_bytes(const struct pd_gpu *gpu)
{
	return gpu->segment_bytes;
}
