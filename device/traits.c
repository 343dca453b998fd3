/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What a GPU and its driver are like, seen without a context. */
#include "device/internal.h"

_Static_assert((int)DV_COMPUTE_PROHIBITED == CU_COMPUTEMODE_PROHIBITED &&
		       (int)DV_COMPUTE_EXCLUSIVE ==
			       CU_COMPUTEMODE_EXCLUSIVE_PROCESS,
	       "the driver's numbers");

#define VMM CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
#define POSIX_FDS                                                              \
	CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED

/* 0 for what this driver does not know. */
static int attribute(const struct dv_driver *driver, CUdevice gpu,
		     CUdevice_attribute wanted)
{
	int value = 0;

	if (driver->cuDeviceGetAttribute(&value, wanted, gpu) != CUDA_SUCCESS)
		return 0;
	return value;
}

static void read_attributes(const struct dv_driver *driver, CUdevice gpu,
			    struct dv_traits *traits)
{
	traits->capability =
		10 * attribute(driver, gpu,
			       CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
		attribute(driver, gpu,
			  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
	traits->compute_mode =
		attribute(driver, gpu, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE);
	traits->is_mps =
		attribute(driver, gpu, CU_DEVICE_ATTRIBUTE_MPS_ENABLED);
	traits->has_vmm = attribute(driver, gpu, VMM);
	traits->has_posix_fds = attribute(driver, gpu, POSIX_FDS);
	traits->has_value_waits = attribute(
		driver, gpu, CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR);
}

enum ps_status dv_traits_get(const char *gpu, struct dv_traits *traits_out)
{
	struct dv_traits traits = { 0 };
	const struct dv_driver *driver;
	enum ps_status status = dv_driver_get(&driver);
	CUdevice ordinal = 0;
	size_t total = 0;

	if (status == PS_OK)
		status = dv_find_gpu(driver, gpu ? gpu : "0", &ordinal);
	if (status == PS_OK)
		status = dv_read_uuid(driver, ordinal, traits.uuid);
	if (status == PS_OK)
		status = dv_read_name(driver, ordinal, traits.name);
	if (status == PS_OK)
		status = dv_result(driver,
				   driver->cuDeviceTotalMem_v2(&total, ordinal),
				   "asking %s for its memory", traits.uuid);
	if (status != PS_OK)
		return status;
	traits.driver_version = driver->version;
	traits.total = total;
	traits.is_mig = dv_name_is_mig(traits.name);
	read_attributes(driver, ordinal, &traits);
	*traits_out = traits;
	return PS_OK;
}

const char *dv_file_prefix(void)
{
	const struct dv_driver *driver = dv_driver_loaded();

	return driver ? driver->files : "/dev/nvidia";
}
