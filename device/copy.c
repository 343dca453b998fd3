/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Copies between the host and the GPU that are waited for. */
#include "device/internal.h"

static enum ps_status finish_copy(struct dv_device *dev, CUresult result,
				  const char *direction, uint64_t address,
				  size_t bytes)
{
	if (result == CUDA_SUCCESS) {
		result = dev->driver->cuStreamSynchronize(dev->copy_stream);
		/* A wait that fails says nothing of the copy, which may yet
		 * write to the caller's memory: it is waited for once more. */
		if (result != CUDA_SUCCESS)
			(void)dev->driver->cuStreamSynchronize(
				dev->copy_stream);
	}
	return dv_result(dev->driver, result, "copying %zu bytes %s 0x%llx",
			 bytes, direction, (unsigned long long)address);
}

enum ps_status dv_copy_in(struct dv_device *dev, uint64_t dst, const void *src,
			  size_t bytes)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = finish_copy(dev,
			     dev->driver->cuMemcpyHtoDAsync_v2(
				     dst, src, bytes, dev->copy_stream),
			     "to", dst, bytes);
	dv_leave(dev, visit);
	return status;
}

enum ps_status dv_copy_out(struct dv_device *dev, void *dst, uint64_t src,
			   size_t bytes)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = finish_copy(dev,
			     dev->driver->cuMemcpyDtoHAsync_v2(
				     dst, src, bytes, dev->copy_stream),
			     "from", src, bytes);
	dv_leave(dev, visit);
	return status;
}

enum ps_status dv_synchronize(struct dv_device *dev)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	/* The driver's refusal would invalidate the capture. */
	status = dv_check_capture(dev, CU_STREAM_LEGACY);
	if (status == PS_OK)
		status = dv_result(dev->driver, dev->driver->cuCtxSynchronize(),
				   "waiting for %s", dev->uuid);
	dv_leave(dev, visit);
	return status;
}
