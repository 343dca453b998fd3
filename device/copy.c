/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Copies between the host and the GPU, and the host memory for fast ones. */
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

enum ps_status dv_copy_in_async(struct dv_device *dev, uint64_t dst,
				const void *src, uint64_t bytes, void *stream)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = dv_result(
		dev->driver,
		dev->driver->cuMemcpyHtoDAsync_v2(dst, src, bytes, stream),
		"copying %llu bytes to 0x%llx behind a stream",
		(unsigned long long)bytes, (unsigned long long)dst);
	dv_leave(dev, visit);
	return status;
}

/* The driver says the same of a limit on locked memory as of a full GPU. */
static enum ps_status register_memory(const struct dv_driver *driver,
				      void *memory, uint64_t bytes,
				      bool read_only)
{
	const unsigned int flags =
		CU_MEMHOSTREGISTER_PORTABLE |
		(read_only ? CU_MEMHOSTREGISTER_READ_ONLY : 0u);
	CUresult result = driver->cuMemHostRegister_v2(memory, bytes, flags);

	if (result == CUDA_ERROR_OUT_OF_MEMORY)
		return bs_fail(PS_HOST_MEMORY,
			       "%llu bytes of host memory cannot be locked for "
			       "the GPU: free some, or raise the limit of "
			       "locked memory (ulimit -l, LimitMEMLOCK)",
			       (unsigned long long)bytes);
	return dv_result(driver, result,
			 "registering %llu bytes of host memory at %p",
			 (unsigned long long)bytes, memory);
}

enum ps_status dv_host_register(struct dv_device *dev, void *memory,
				uint64_t bytes, bool read_only)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = register_memory(dev->driver, memory, bytes, read_only);
	dv_leave(dev, visit);
	return status;
}

enum ps_status dv_host_unregister(struct dv_device *dev, void *memory)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status =
		dv_result(dev->driver, dev->driver->cuMemHostUnregister(memory),
			  "giving up the registered memory at %p", memory);
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
