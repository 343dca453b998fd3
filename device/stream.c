/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Streams of our own, and what is submitted on them. */
#include "device/internal.h"

enum ps_status dv_stream_create(struct dv_device *dev, void **stream_out)
{
	CUstream stream = NULL;
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = dv_result(
		dev->driver,
		dev->driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING),
		"creating a stream on %s", dev->uuid);
	dv_leave(dev, visit);
	if (status == PS_OK)
		*stream_out = stream;
	return status;
}

static CUresult create_urgent(const struct dv_driver *driver, CUstream *stream)
{
	int greatest = 0;
	CUresult result = driver->cuCtxGetStreamPriorityRange(NULL, &greatest);

	if (result != CUDA_SUCCESS)
		return result;
	return driver->cuStreamCreateWithPriority(
		stream, CU_STREAM_NON_BLOCKING, greatest);
}

enum ps_status dv_stream_create_urgent(struct dv_device *dev, void **stream_out)
{
	CUstream stream = NULL;
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = dv_result(dev->driver, create_urgent(dev->driver, &stream),
			   "creating an urgent stream on %s", dev->uuid);
	dv_leave(dev, visit);
	if (status == PS_OK)
		*stream_out = stream;
	return status;
}

void dv_stream_destroy(struct dv_device *dev, void *stream)
{
	struct dv_visit visit;

	if (!stream || dv_enter(dev, &visit) != PS_OK)
		return;
	dev->driver->cuStreamDestroy_v2(stream);
	dv_leave(dev, visit);
}

enum ps_status dv_stream_wait(struct dv_device *dev, void *stream)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status =
		dv_result(dev->driver, dev->driver->cuStreamSynchronize(stream),
			  "waiting for a stream of %s", dev->uuid);
	dv_leave(dev, visit);
	return status;
}

enum ps_status dv_fill(struct dv_device *dev, uint64_t address, uint32_t word,
		       uint64_t bytes, void *stream)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = dv_result(
		dev->driver,
		dev->driver->cuMemsetD32Async(address, word, bytes / 4, stream),
		"filling %llu bytes at 0x%llx", (unsigned long long)bytes,
		(unsigned long long)address);
	dv_leave(dev, visit);
	return status;
}

enum ps_status dv_write_word(struct dv_device *dev, uint64_t address,
			     uint32_t word, void *stream)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = dv_result(
		dev->driver,
		dev->driver->cuStreamWriteValue32_v2(
			stream, address, word, CU_STREAM_WRITE_VALUE_DEFAULT),
		"writing %u to 0x%llx behind a stream", word,
		(unsigned long long)address);
	dv_leave(dev, visit);
	return status;
}

/* Asked with every wait for a part of a model, like the next. */
enum ps_status dv_stream_captures(struct dv_device *dev, void *stream,
				  bool *captures_out)
{
	CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
	CUresult result = dev->driver->cuStreamIsCapturing(stream, &capture);
	enum ps_status status;

	if (result == CUDA_SUCCESS) {
		*captures_out = capture != CU_STREAM_CAPTURE_STATUS_NONE;
		return PS_OK;
	}
	/* No context of the caller's, or a capture that bars this stream. */
	status = dv_stream_check(dev, stream);
	if (status != PS_OK && status != PS_AGAIN)
		return status;
	*captures_out = status == PS_AGAIN;
	return PS_OK;
}

/* Every wait for a part of a model comes here, so nothing is done that the
 * call itself does not need: it is legal in each capture mode. */
enum ps_status dv_wait_word(struct dv_device *dev, uint64_t address,
			    uint32_t least, void *stream)
{
	const struct dv_driver *driver = dev->driver;
	CUcontext context;
	CUresult result = driver->cuCtxPushCurrent_v2(dev->context);

	if (result != CUDA_SUCCESS)
		return dv_result(driver, result, "entering the context of %s",
				 dev->uuid);
	result = driver->cuStreamWaitValue32_v2(stream, address, least,
						CU_STREAM_WAIT_VALUE_GEQ);
	driver->cuCtxPopCurrent_v2(&context);
	return dv_result(driver, result,
			 "having a stream wait for %u at 0x%llx", least,
			 (unsigned long long)address);
}
