/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Starting, and what the GPUs say of themselves. */
#include "device/sim/context.h"
#include "device/sim/entry.h"
#include "device/sim/vram.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a GPU says, unless the environment says otherwise. */
#define VERSION 12050
#define CAPABILITY 70
#define NAME "Simulated GPU"

static atomic_bool is_initialized;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* CUDA does not survive a fork. */
static void on_fork(void)
{
	atomic_store(&is_initialized, false);
}

static bool was_forked(void)
{
	static atomic_int owner;
	int self = getpid();
	int none = 0;

	if (atomic_compare_exchange_strong(&owner, &none, self))
		return false;
	return none != self;
}

bool sim_is_initialized(void)
{
	return atomic_load_explicit(&is_initialized, memory_order_relaxed);
}

static CUresult start_locked(void)
{
	CUresult result;

	if (was_forked())
		return CUDA_ERROR_NOT_INITIALIZED;
	if (sim_is_initialized())
		return CUDA_SUCCESS;
	result = sim_vram_start();
	if (result != CUDA_SUCCESS)
		return result;
	pthread_atfork(NULL, NULL, on_fork);
	atomic_store(&is_initialized, true);
	return CUDA_SUCCESS;
}

CUresult cuInit(unsigned int flags)
{
	CUresult result;

	ENTER_IF(cuInit, SIM_ALWAYS);
	if (flags)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	result = start_locked();
	pthread_mutex_unlock(&lock);
	return result;
}

CUresult cuDriverGetVersion(int *version)
{
	ENTER_IF(cuDriverGetVersion, SIM_ALWAYS);
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	*version = (int)sim_setting("POOLSWITCH_SIM_VERSION", VERSION);
	return CUDA_SUCCESS;
}

static int device_count(void)
{
	uint64_t count = sim_setting("POOLSWITCH_SIM_DEVICES", 1);

	return count < 1                 ? 1
	       : count > SIM_DEVICES_MAX ? SIM_DEVICES_MAX
					 : (int)count;
}

bool sim_is_device(CUdevice device)
{
	return device >= 0 && device < device_count();
}

int sim_compute_mode(void)
{
	return (int)sim_setting("POOLSWITCH_SIM_COMPUTE_MODE",
				CU_COMPUTEMODE_DEFAULT);
}

CUresult cuDeviceGetCount(int *count)
{
	ENTER(cuDeviceGetCount);
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	*count = (int)sim_setting("POOLSWITCH_SIM_COUNT",
				  (uint64_t)device_count());
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	ENTER(cuDeviceGet);
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(ordinal))
		return CUDA_ERROR_INVALID_DEVICE;
	*device = ordinal;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
	const char *given = getenv("POOLSWITCH_SIM_NAME");

	ENTER(cuDeviceGetName);
	if (!name || length <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	snprintf(name, (size_t)length, "%s", given ? given : NAME);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
	uint64_t parts[2];

	ENTER(cuDeviceGetUuid_v2);
	if (!uuid)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	sim_vram_identity(&parts[0], &parts[1]);
	memcpy(uuid->bytes, parts, sizeof(uuid->bytes));
	uuid->bytes[15] = (char)(uuid->bytes[15] ^ device);
	return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	ENTER(cuDeviceTotalMem_v2);
	if (!bytes)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	*bytes = sim_vram_total();
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute,
			      CUdevice device)
{
	ENTER(cuDeviceGetAttribute);
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	switch (attribute) {
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
		*value = (int)sim_setting("POOLSWITCH_SIM_CAPABILITY",
					  CAPABILITY) /
			 10;
		break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
		*value = (int)sim_setting("POOLSWITCH_SIM_CAPABILITY",
					  CAPABILITY) %
			 10;
		break;
	case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
		*value = (int)sim_setting("POOLSWITCH_SIM_VMM", 1);
		break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE:
		*value = sim_compute_mode();
		break;
	case CU_DEVICE_ATTRIBUTE_MPS_ENABLED:
		*value = (int)sim_setting("POOLSWITCH_SIM_MPS", 0);
		break;
	case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR:
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
	case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
	case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
		*value = 1;
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
	ENTER(cuDeviceCanAccessPeer);
	if (!can)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(device) || !sim_is_device(peer))
		return CUDA_ERROR_INVALID_DEVICE;
	*can = device != peer;
	return CUDA_SUCCESS;
}
