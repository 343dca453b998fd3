/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "demo/gpu.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "device/result.h"

#define BLOCK 128u

static const char *const kernel_names[DM_KERNELS] = {
	[DM_DENSE] = "dm_dense",
	[DM_CONV3X3] = "dm_conv3x3",
	[DM_MAXPOOL2] = "dm_maxpool2",
	[DM_ARGMAX] = "dm_argmax",
};

/* The sixteen bytes of "GPU-xxxxxxxx-xxxx-...". */
static bool parse_uuid(const char *text, CUuuid *uuid_out)
{
	const char *at = text + strlen("GPU-");

	for (size_t i = 0; i < sizeof(uuid_out->bytes); i++) {
		unsigned int byte;

		at += *at == '-';
		if (sscanf(at, "%2x", &byte) != 1)
			return false;
		uuid_out->bytes[i] = (char)byte;
		at += 2;
	}
	return true;
}

static enum ps_status find_ordinal(struct dm_gpu *gpu, const char *uuid)
{
	CUuuid wanted = { { 0 } };
	int count = 0;

	if (!parse_uuid(uuid, &wanted))
		return bs_fail(PS_INVALID_ARGUMENT, "%s is no GPU's UUID",
			       uuid);
	gpu->driver->cuDeviceGetCount(&count);
	for (int i = 0; i < count; i++) {
		CUuuid found = { { 0 } };

		if (gpu->driver->cuDeviceGet(&gpu->ordinal, i) ==
			    CUDA_SUCCESS &&
		    gpu->driver->cuDeviceGetUuid_v2(&found, gpu->ordinal) ==
			    CUDA_SUCCESS &&
		    memcmp(&found, &wanted, sizeof(found)) == 0)
			return PS_OK;
	}
	return bs_fail(PS_NO_DEVICE, "none of %d GPUs is %s", count, uuid);
}

/* The context that @gpu->device has retained becomes this thread's. */
static enum ps_status enter_context(struct dm_gpu *gpu, const char *uuid)
{
	const struct dv_driver *driver = gpu->driver;
	enum ps_status status = find_ordinal(gpu, uuid);

	if (status != PS_OK)
		return status;
	status = dv_result(
		driver,
		driver->cuDevicePrimaryCtxRetain(&gpu->context, gpu->ordinal),
		"starting a context on %s", uuid);
	if (status != PS_OK)
		return status;
	return dv_result(driver, driver->cuCtxSetCurrent(gpu->context),
			 "entering the context of %s", uuid);
}

static enum ps_status load_kernels(struct dm_gpu *gpu, const char *folder)
{
	const struct dv_driver *driver = gpu->driver;
	enum ps_status status;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/kernels.ptx", folder);
	status = dv_result(driver, driver->cuModuleLoad(&gpu->module, path),
			   "loading %s", path);
	for (int i = 0; status == PS_OK && i < DM_KERNELS; i++)
		status = dv_result(driver,
				   driver->cuModuleGetFunction(&gpu->kernels[i],
							       gpu->module,
							       kernel_names[i]),
				   "finding kernel %s", kernel_names[i]);
	return status;
}

static enum ps_status make_stream(struct dm_gpu *gpu)
{
	const struct dv_driver *driver = gpu->driver;
	enum ps_status status;

	status = dv_result(
		driver,
		driver->cuStreamCreate(&gpu->stream, CU_STREAM_NON_BLOCKING),
		"creating a stream");
	if (status != PS_OK)
		return status;
	return dv_result(
		driver,
		driver->cuEventCreate(&gpu->event, CU_EVENT_DISABLE_TIMING),
		"creating an event");
}

enum ps_status dm_gpu_open(struct dm_gpu *gpu, const char *uuid,
			   const char *folder)
{
	enum ps_status status;

	*gpu = (struct dm_gpu){ 0 };
	status = dv_device_open(uuid, &gpu->device);
	if (status == PS_OK)
		status = dv_driver_get(&gpu->driver);
	if (status == PS_OK)
		status = enter_context(gpu, uuid);
	if (status == PS_OK)
		status = load_kernels(gpu, folder);
	if (status == PS_OK)
		status = make_stream(gpu);
	if (status != PS_OK)
		dm_gpu_close(gpu);
	return status;
}

void dm_gpu_close(struct dm_gpu *gpu)
{
	const struct dv_driver *driver = gpu->driver;

	if (gpu->event != NULL)
		driver->cuEventDestroy_v2(gpu->event);
	if (gpu->stream != NULL)
		driver->cuStreamDestroy_v2(gpu->stream);
	if (gpu->module != NULL)
		driver->cuModuleUnload(gpu->module);
	if (gpu->context != NULL) {
		driver->cuCtxSetCurrent(NULL);
		driver->cuDevicePrimaryCtxRelease_v2(gpu->ordinal);
	}
	dv_device_close(gpu->device);
	*gpu = (struct dm_gpu){ 0 };
}

enum ps_status dm_gpu_launch(struct dm_gpu *gpu, enum dm_kernel kernel,
			     uint32_t count, void **arguments)
{
	uint32_t blocks = (count + BLOCK - 1) / BLOCK;

	return dv_result(gpu->driver,
			 gpu->driver->cuLaunchKernel(
				 gpu->kernels[kernel], blocks, 1, 1, BLOCK, 1,
				 1, 0, gpu->stream, arguments, NULL),
			 "launching %s for %u elements", kernel_names[kernel],
			 count);
}

enum ps_status dm_gpu_copy_in(struct dm_gpu *gpu, CUdeviceptr dst,
			      const void *src, size_t bytes)
{
	gpu->bytes_in += bytes;
	return dv_result(
		gpu->driver,
		gpu->driver->cuMemcpyHtoDAsync_v2(dst, src, bytes, gpu->stream),
		"copying %zu bytes to the GPU", bytes);
}

enum ps_status dm_gpu_copy_out(struct dm_gpu *gpu, void *dst, CUdeviceptr src,
			       size_t bytes)
{
	const struct dv_driver *driver = gpu->driver;
	enum ps_status status;

	status = dv_result(
		driver,
		driver->cuMemcpyDtoHAsync_v2(dst, src, bytes, gpu->stream),
		"copying %zu bytes from the GPU", bytes);
	if (status != PS_OK)
		return status;
	return dv_result(driver, driver->cuStreamSynchronize(gpu->stream),
			 "waiting for the stream");
}

enum ps_status dm_gpu_mark(struct dm_gpu *gpu)
{
	return dv_result(gpu->driver,
			 gpu->driver->cuEventRecord(gpu->event, gpu->stream),
			 "recording an event");
}

enum ps_status dm_gpu_wait_mark(struct dm_gpu *gpu)
{
	return dv_result(gpu->driver,
			 gpu->driver->cuEventSynchronize(gpu->event),
			 "waiting for an event");
}
