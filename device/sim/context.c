/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Starting up, the one GPU, and its one context. */
#include "device/sim/address.h"
#include "device/sim/entry.h"
#include "device/sim/work.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the GPU says of itself, unless the environment says otherwise. */
#define VERSION 12050
#define CAPABILITY 70
#define NAME "Simulated GPU"
#define STACK_MAX 64

struct CUctx_st {
	atomic_uint holds; /* retained so often; 0: dead */
	int claim;         /* holds the context's own memory; -1: none */
	struct sim_range claimed;
};

static atomic_bool is_initialized;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct CUctx_st primary = { .claim = -1 };

/* Each thread's current contexts, the top one last. */
static _Thread_local CUcontext stack[STACK_MAX];
static _Thread_local unsigned int depth;

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

CUcontext sim_current(void)
{
	return depth ? stack[depth - 1] : NULL;
}

bool sim_is_current(void)
{
	CUcontext context = sim_current();

	return context && atomic_load(&context->holds) > 0;
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

CUresult cuDeviceGetCount(int *count)
{
	ENTER(cuDeviceGetCount);
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	*count = (int)sim_setting("POOLSWITCH_SIM_COUNT", 1);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	ENTER(cuDeviceGet);
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	if (ordinal != 0)
		return CUDA_ERROR_INVALID_DEVICE;
	*device = 0;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
	const char *given = getenv("POOLSWITCH_SIM_NAME");

	ENTER(cuDeviceGetName);
	if (!name || length <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (device != 0)
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
	if (device != 0)
		return CUDA_ERROR_INVALID_DEVICE;
	sim_vram_identity(&parts[0], &parts[1]);
	memcpy(uuid->bytes, parts, sizeof(uuid->bytes));
	return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	ENTER(cuDeviceTotalMem_v2);
	if (!bytes)
		return CUDA_ERROR_INVALID_VALUE;
	if (device != 0)
		return CUDA_ERROR_INVALID_DEVICE;
	*bytes = sim_vram_total();
	return CUDA_SUCCESS;
}

static int compute_mode(void)
{
	return (int)sim_setting("POOLSWITCH_SIM_COMPUTE_MODE",
				CU_COMPUTEMODE_DEFAULT);
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute,
			      CUdevice device)
{
	ENTER(cuDeviceGetAttribute);
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	if (device != 0)
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
		*value = compute_mode();
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

/* ---- the context ---- */

/* What a context takes of the GPU's memory. */
static CUresult claim_memory(void)
{
	uint64_t bytes = sim_setting("POOLSWITCH_SIM_CONTEXT", 0);

	if (bytes == 0)
		return CUDA_SUCCESS;
	bytes = (bytes + SIM_GRANULARITY - 1) / SIM_GRANULARITY *
		SIM_GRANULARITY;
	return sim_vram_create(bytes, &primary.claimed, &primary.claim);
}

static void end_context(void)
{
	sim_work_end();
	sim_address_remove_all(&primary);
	if (primary.claim >= 0) {
		close(primary.claim);
		primary.claim = -1;
		sim_vram_reap(&primary.claimed);
	}
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	CUresult result = CUDA_SUCCESS;

	ENTER(cuDevicePrimaryCtxRetain);
	if (!context)
		return CUDA_ERROR_INVALID_VALUE;
	if (device != 0)
		return CUDA_ERROR_INVALID_DEVICE;
	if (compute_mode() == CU_COMPUTEMODE_PROHIBITED)
		return CUDA_ERROR_DEVICE_UNAVAILABLE;
	pthread_mutex_lock(&lock);
	if (atomic_load(&primary.holds) == 0)
		result = claim_memory();
	if (result == CUDA_SUCCESS)
		atomic_fetch_add(&primary.holds, 1);
	pthread_mutex_unlock(&lock);
	if (result == CUDA_SUCCESS)
		*context = &primary;
	return result;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	CUresult result = CUDA_SUCCESS;

	ENTER(cuDevicePrimaryCtxRelease_v2);
	if (device != 0)
		return CUDA_ERROR_INVALID_DEVICE;
	pthread_mutex_lock(&lock);
	if (atomic_load(&primary.holds) == 0)
		result = CUDA_ERROR_INVALID_CONTEXT;
	else if (atomic_fetch_sub(&primary.holds, 1) == 1)
		end_context();
	pthread_mutex_unlock(&lock);
	return result;
}

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
	ENTER(cuCtxPushCurrent_v2);
	if (context != &primary || depth == STACK_MAX)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (atomic_load(&primary.holds) == 0)
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	stack[depth++] = context;
	return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
	ENTER(cuCtxPopCurrent_v2);
	if (depth == 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	depth--;
	if (context)
		*context = stack[depth];
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
	ENTER(cuCtxGetCurrent);
	if (!context)
		return CUDA_ERROR_INVALID_VALUE;
	*context = sim_current();
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
	ENTER(cuCtxSetCurrent);
	if (context && context != &primary)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (depth)
		depth--;
	if (context)
		stack[depth++] = context;
	return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void)
{
	ENTER_CONTEXT(cuCtxSynchronize);
	if (sim_is_capturing_any())
		return sim_capture_refuse();
	return sim_wait_for_all();
}
