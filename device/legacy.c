/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The second way to share: one allocation, by CUDA's legacy IPC. */
#include "device/internal.h"

#include <string.h>

_Static_assert(DV_IPC_HANDLE_BYTES == sizeof(CUipcMemHandle),
	       "an IPC handle travels whole");

enum ps_status dv_legacy_alloc(struct dv_device *dev, uint64_t bytes,
			       uint64_t *address_out)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);
	CUdeviceptr address = 0;

	if (status != PS_OK)
		return status;
	status = dv_result(dev->driver,
			   dev->driver->cuMemAlloc_v2(&address, bytes),
			   "allocating %llu bytes on %s",
			   (unsigned long long)bytes, dev->uuid);
	dv_leave(dev, visit);
	if (status == PS_OK)
		*address_out = address;
	return status;
}

enum ps_status dv_legacy_free(struct dv_device *dev, uint64_t address)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = dv_result(dev->driver, dev->driver->cuMemFree_v2(address),
			   "freeing 0x%llx", (unsigned long long)address);
	dv_leave(dev, visit);
	return status;
}

enum ps_status dv_legacy_export(struct dv_device *dev, uint64_t address,
				unsigned char handle_out[DV_IPC_HANDLE_BYTES])
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);
	CUipcMemHandle handle;

	if (status != PS_OK)
		return status;
	status = dv_result(
		dev->driver, dev->driver->cuIpcGetMemHandle(&handle, address),
		"making an IPC handle for 0x%llx", (unsigned long long)address);
	dv_leave(dev, visit);
	if (status == PS_OK)
		memcpy(handle_out, handle.reserved, sizeof(handle.reserved));
	return status;
}

enum ps_status dv_legacy_open(struct dv_device *dev,
			      const unsigned char handle[DV_IPC_HANDLE_BYTES],
			      uint64_t *address_out)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);
	CUdeviceptr address = 0;
	CUipcMemHandle given;

	if (status != PS_OK)
		return status;
	memcpy(given.reserved, handle, sizeof(given.reserved));
	status = dv_result(
		dev->driver,
		dev->driver->cuIpcOpenMemHandle_v2(
			&address, given, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS),
		"opening an IPC handle on %s", dev->uuid);
	dv_leave(dev, visit);
	if (status == PS_OK)
		*address_out = address;
	else if (status == PS_DRIVER || status == PS_NO_DEVICE)
		status = PS_BAD_SEGMENT;
	return status;
}

enum ps_status dv_legacy_close(struct dv_device *dev, uint64_t address)
{
	struct dv_visit visit;
	enum ps_status status = dv_enter(dev, &visit);

	if (status != PS_OK)
		return status;
	status = dv_result(dev->driver,
			   dev->driver->cuIpcCloseMemHandle(address),
			   "closing the IPC memory at 0x%llx",
			   (unsigned long long)address);
	dv_leave(dev, visit);
	return status;
}
