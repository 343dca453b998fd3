/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "device/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The oldest GPUs supported: Volta. */
#define OLDEST_MAJOR 7

enum ps_status dv_enter(struct dv_device *dev, struct dv_visit *visit_out)
{
	const struct dv_driver *driver = dev->driver;
	CUresult result;

	assert(dev->magic == DV_DEVICE_MAGIC);
	result = driver->cuCtxPushCurrent_v2(dev->context);
	if (result != CUDA_SUCCESS)
		return dv_result(driver, result, "entering the context of %s",
				 dev->uuid);
	visit_out->capture_mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	result = driver->cuThreadExchangeStreamCaptureMode(
		&visit_out->capture_mode);
	if (result != CUDA_SUCCESS) {
		driver->cuCtxPopCurrent_v2(&(CUcontext){ NULL });
		return dv_result(driver, result, "changing the capture mode");
	}
	return PS_OK;
}

void dv_leave(struct dv_device *dev, struct dv_visit visit)
{
	CUcontext context;

	dev->driver->cuThreadExchangeStreamCaptureMode(&visit.capture_mode);
	dev->driver->cuCtxPopCurrent_v2(&context);
}

static void uuid_text(const CUuuid *uuid, char text[DV_UUID_TEXT])
{
	size_t used = (size_t)snprintf(text, DV_UUID_TEXT, "GPU-");
	int i;

	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			text[used++] = '-';
		used += (size_t)snprintf(text + used, DV_UUID_TEXT - used,
					 "%02x", (unsigned char)uuid->bytes[i]);
	}
}

enum ps_status dv_read_uuid(const struct dv_driver *driver, CUdevice gpu,
			    char text[DV_UUID_TEXT])
{
	CUuuid uuid;
	CUresult result = driver->cuDeviceGetUuid_v2(&uuid, gpu);

	if (result != CUDA_SUCCESS)
		return dv_result(driver, result, "asking GPU %d for its UUID",
				 gpu);
	uuid_text(&uuid, text);
	return PS_OK;
}

enum ps_status dv_read_name(const struct dv_driver *driver, CUdevice gpu,
			    char text[DV_NAME_TEXT])
{
	return dv_result(driver,
			 driver->cuDeviceGetName(text, DV_NAME_TEXT, gpu),
			 "asking GPU %d for its name", gpu);
}

bool dv_name_is_mig(const char *name)
{
	return strstr(name, " MIG ") != NULL;
}

static enum ps_status find_uuid(const struct dv_driver *driver, int count,
				const char *wanted, CUdevice *gpu_out)
{
	char text[DV_UUID_TEXT];
	enum ps_status status;
	CUdevice gpu;
	int i;

	for (i = 0; i < count; i++) {
		status = dv_result(driver, driver->cuDeviceGet(&gpu, i),
				   "opening GPU %d", i);
		if (status == PS_OK)
			status = dv_read_uuid(driver, gpu, text);
		if (status != PS_OK)
			return status;
		if (strcasecmp(text, wanted) == 0) {
			*gpu_out = gpu;
			return PS_OK;
		}
	}
	return bs_fail(PS_NO_DEVICE,
		       "none of the %d GPUs that CUDA shows is %s; see "
		       "nvidia-smi -L and CUDA_VISIBLE_DEVICES",
		       count, wanted);
}

static enum ps_status find_index(const struct dv_driver *driver, int count,
				 const char *wanted, CUdevice *gpu_out)
{
	char *end = NULL;
	long index;

	errno = 0;
	index = strtol(wanted, &end, 10);
	if (end == wanted || *end || errno || index < 0)
		return bs_fail(PS_NO_DEVICE,
			       "\"%s\" names no GPU; \"0\", \"1\", ... or "
			       "\"GPU-<uuid>\" does",
			       wanted);
	if (index >= count)
		return bs_fail(PS_NO_DEVICE,
			       "there is no GPU %ld: CUDA shows %d", index,
			       count);
	return dv_result(driver, driver->cuDeviceGet(gpu_out, (int)index),
			 "opening GPU %ld", index);
}

static enum ps_status count_gpus(const struct dv_driver *driver, int *count_out)
{
	enum ps_status status;

	status = dv_result(driver, driver->cuInit(0), "starting CUDA");
	if (status == PS_OK)
		status = dv_result(driver, driver->cuDeviceGetCount(count_out),
				   "counting the GPUs");
	return status;
}

enum ps_status dv_device_count(int *count_out)
{
	const struct dv_driver *driver;
	enum ps_status status = dv_driver_get(&driver);

	return status == PS_OK ? count_gpus(driver, count_out) : status;
}

enum ps_status dv_find_gpu(const struct dv_driver *driver, const char *wanted,
			   CUdevice *gpu_out)
{
	int count = 0;
	enum ps_status status = count_gpus(driver, &count);

	if (status != PS_OK)
		return status;
	if (strncmp(wanted, "MIG-", 4) == 0)
		return bs_fail(PS_UNSUPPORTED,
			       "%s is a MIG instance; a pool needs a whole GPU",
			       wanted);
	if (strncmp(wanted, "GPU-", 4) == 0)
		return find_uuid(driver, count, wanted, gpu_out);
	return find_index(driver, count, wanted, gpu_out);
}

static enum ps_status read_attribute(struct dv_device *dev,
				     CUdevice_attribute attribute,
				     int *value_out)
{
	return dv_result(dev->driver,
			 dev->driver->cuDeviceGetAttribute(value_out, attribute,
							   dev->ordinal),
			 "asking %s for attribute %d", dev->uuid,
			 (int)attribute);
}

/* The GPU must have what @attribute stands for. */
static enum ps_status require(struct dv_device *dev,
			      CUdevice_attribute attribute, const char *what)
{
	int value = 0;
	enum ps_status status = read_attribute(dev, attribute, &value);

	if (status == PS_OK && !value)
		status = bs_fail(PS_UNSUPPORTED,
				 "%s (%s) cannot %s, which a pool needs",
				 dev->uuid, dev->name, what);
	return status;
}

static enum ps_status check_generation(struct dv_device *dev)
{
	enum ps_status status;
	int minor = 0;
	int major = 0;

	status = read_attribute(
		dev, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major);
	if (status == PS_OK)
		status = read_attribute(
			dev, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
			&minor);
	if (status == PS_OK && major < OLDEST_MAJOR)
		status = bs_fail(PS_UNSUPPORTED,
				 "%s (%s) has compute capability %d.%d; 7.0 "
				 "(Volta) or newer is needed",
				 dev->uuid, dev->name, major, minor);
	return status;
}

static enum ps_status check_gpu(struct dv_device *dev)
{
	enum ps_status status = check_generation(dev);

	if (status != PS_OK)
		return status;
	if (dv_name_is_mig(dev->name))
		return bs_fail(PS_UNSUPPORTED,
			       "%s (%s) is a MIG instance; a pool needs a "
			       "whole GPU: turn MIG off (nvidia-smi -mig 0)",
			       dev->uuid, dev->name);
	status = require(
		dev, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
		"map memory at chosen addresses");
	if (status != PS_OK)
		return status;
	return require(
		dev,
		CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
		"export memory as a file descriptor");
}

static enum ps_status identify(struct dv_device *dev)
{
	enum ps_status status =
		dv_read_uuid(dev->driver, dev->ordinal, dev->uuid);

	if (status == PS_OK)
		status = dv_read_name(dev->driver, dev->ordinal, dev->name);
	return status == PS_OK ? check_gpu(dev) : status;
}

static enum ps_status create_copy_stream(struct dv_device *dev)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = dv_result(dev->driver,
			   dev->driver->cuStreamCreate(&dev->copy_stream,
						       CU_STREAM_NON_BLOCKING),
			   "creating a stream on %s", dev->uuid);
	dv_leave(dev, visit);
	return status;
}

static enum ps_status start(struct dv_device *dev)
{
	const struct dv_driver *driver = dev->driver;
	enum ps_status status;

	status = dv_result(
		driver,
		driver->cuDevicePrimaryCtxRetain(&dev->context, dev->ordinal),
		"starting a context on %s (%s)", dev->uuid, dev->name);
	if (status != PS_OK)
		return status;
	status = create_copy_stream(dev);
	if (status != PS_OK)
		driver->cuDevicePrimaryCtxRelease_v2(dev->ordinal);
	return status;
}

enum ps_status dv_device_open(const char *gpu, struct dv_device **dev_out)
{
	struct dv_device *dev = calloc(1, sizeof(*dev));
	enum ps_status status;

	if (!dev)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a device");
	dev->magic = DV_DEVICE_MAGIC;
	bs_lock_init(&dev->lock, BS_RANK_DEVICE);
	status = dv_driver_get(&dev->driver);
	if (status == PS_OK)
		status = dv_find_gpu(dev->driver, gpu ? gpu : "0",
				     &dev->ordinal);
	if (status == PS_OK)
		status = identify(dev);
	if (status == PS_OK)
		status = start(dev);
	if (status != PS_OK) {
		dv_device_abandon(dev);
		return status;
	}
	*dev_out = dev;
	return PS_OK;
}

void dv_device_close(struct dv_device *dev)
{
	struct dv_visit visit;

	if (!dev)
		return;
	dv_fences_drop(dev, true);
	if (dv_enter(dev, &visit) == PS_OK) {
		dev->driver->cuStreamDestroy_v2(dev->copy_stream);
		dv_leave(dev, visit);
	}
	dev->driver->cuDevicePrimaryCtxRelease_v2(dev->ordinal);
	dv_device_abandon(dev);
}

void dv_device_abandon(struct dv_device *dev)
{
	if (!dev)
		return;
	dv_fences_drop(dev, false);
	bs_lock_done(&dev->lock);
	dev->magic = 0;
	free(dev);
}

const char *dv_device_uuid(const struct dv_device *dev)
{
	return dev->uuid;
}

const char *dv_device_name(const struct dv_device *dev)
{
	return dev->name;
}

int dv_driver_version(void)
{
	const struct dv_driver *driver = dv_driver_loaded();

	return driver ? driver->version : 0;
}

bool dv_is_simulated(void)
{
	const struct dv_driver *driver = dv_driver_loaded();

	return driver && driver->simulated;
}

enum ps_status dv_memory_info(struct dv_device *dev, uint64_t *free_out,
			      uint64_t *total_out)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);
	size_t free_bytes = 0;
	size_t total = 0;

	if (status != PS_OK)
		return status;
	status = dv_result(dev->driver,
			   dev->driver->cuMemGetInfo_v2(&free_bytes, &total),
			   "asking %s for its free memory", dev->uuid);
	dv_leave(dev, visit);
	if (status == PS_OK) {
		*free_out = free_bytes;
		*total_out = total;
	}
	return status;
}
