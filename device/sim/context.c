/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "device/sim/context.h"

#include "device/sim/address.h"
#include "device/sim/entry.h"
#include "device/sim/queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define STACK_MAX 64

/* Around the beginning and the end of contexts; taken first. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static CUcontext primaries[SIM_DEVICES_MAX]; /* guarded by lock */
struct CUctx_st *sim_contexts;

/* Each thread's current contexts, the top one last. */
static _Thread_local CUcontext stack[STACK_MAX];
static _Thread_local unsigned int depth;

CUcontext sim_current(void)
{
	return depth ? stack[depth - 1] : NULL;
}

CUresult sim_current_state(void)
{
	CUcontext context = sim_current();

	if (!context)
		return CUDA_ERROR_INVALID_CONTEXT;
	return atomic_load(&context->is_alive)
		       ? sim_work_error()
		       : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

static bool is_context(CUcontext context)
{
	const struct CUctx_st *each;

	pthread_mutex_lock(&sim_work_lock);
	each = sim_contexts;
	while (each && each != context)
		each = each->next;
	pthread_mutex_unlock(&sim_work_lock);
	return each != NULL;
}

static CUcontext new_context(CUdevice device, bool is_primary)
{
	CUcontext context = calloc(1, sizeof(*context));

	if (!context)
		return NULL;
	context->device = device;
	context->is_primary = is_primary;
	pthread_mutex_lock(&sim_work_lock);
	context->next = sim_contexts;
	sim_contexts = context;
	pthread_mutex_unlock(&sim_work_lock);
	return context;
}

/* What a context takes of the GPU's memory. pre: the lock is held. */
static CUresult claim_memory(CUcontext context)
{
	const CUmemLocation location = { CU_MEM_LOCATION_TYPE_DEVICE,
					 context->device };
	uint64_t bytes = sim_setting("POOLSWITCH_SIM_CONTEXT", 0);
	CUresult result;

	if (bytes == 0)
		return CUDA_SUCCESS;
	bytes = (bytes + SIM_GRANULARITY - 1) / SIM_GRANULARITY *
		SIM_GRANULARITY;
	result = sim_vram_create(bytes, &location, &context->claimed,
				 &context->claim);
	context->has_claim = result == CUDA_SUCCESS;
	return result;
}

/* pre: the lock is held. */
static CUresult start(CUcontext context)
{
	CUresult result = claim_memory(context);

	if (result == CUDA_SUCCESS)
		atomic_store(&context->is_alive, true);
	return result;
}

/* Its work, its streams and its memory. pre: the lock is held. */
static void end(CUcontext context)
{
	atomic_store(&context->is_alive, false);
	sim_work_end(context);
	sim_address_remove_all(context);
	context->peers = 0;
	if (!context->has_claim)
		return;
	close(context->claim);
	context->has_claim = false;
	sim_vram_reap(&context->claimed);
}

/* ---- primary ones ---- */

/* pre: the lock is held. */
static CUresult retain(CUdevice device)
{
	CUcontext context = primaries[device];
	CUresult result = CUDA_SUCCESS;

	if (!context)
		context = new_context(device, true);
	if (!context)
		return CUDA_ERROR_OUT_OF_MEMORY;
	primaries[device] = context;
	if (!atomic_load(&context->is_alive))
		result = start(context);
	if (result == CUDA_SUCCESS)
		context->holds++;
	return result;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	CUresult result;

	ENTER(cuDevicePrimaryCtxRetain);
	if (!context)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	if (sim_compute_mode() == CU_COMPUTEMODE_PROHIBITED)
		return CUDA_ERROR_DEVICE_UNAVAILABLE;
	pthread_mutex_lock(&lock);
	result = retain(device);
	if (result == CUDA_SUCCESS)
		*context = primaries[device];
	pthread_mutex_unlock(&lock);
	return result;
}

static CUresult release(CUdevice device)
{
	CUresult result = CUDA_SUCCESS;
	CUcontext context;

	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	pthread_mutex_lock(&lock);
	context = primaries[device];
	if (!context || context->holds == 0)
		result = CUDA_ERROR_INVALID_CONTEXT;
	else if (--context->holds == 0 && atomic_load(&context->is_alive))
		end(context);
	pthread_mutex_unlock(&lock);
	return result;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	ENTER(cuDevicePrimaryCtxRelease_v2);
	return release(device);
}

/* What the runtime library asks for, still. */
CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	ENTER(cuDevicePrimaryCtxRelease);
	return release(device);
}

/* It stays retained, but has ended until it is retained once more. */
static CUresult reset(CUdevice device)
{
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	pthread_mutex_lock(&lock);
	if (primaries[device] && atomic_load(&primaries[device]->is_alive))
		end(primaries[device]);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
	ENTER(cuDevicePrimaryCtxReset_v2);
	return reset(device);
}

CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
	ENTER(cuDevicePrimaryCtxReset);
	return reset(device);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags,
				    int *active)
{
	ENTER(cuDevicePrimaryCtxGetState);
	if (!flags || !active)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	pthread_mutex_lock(&lock);
	*flags = 0;
	*active =
		primaries[device] && atomic_load(&primaries[device]->is_alive);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

/* ---- others ---- */

static CUresult create(CUcontext *context_out, CUdevice device)
{
	CUcontext context;
	CUresult result;

	if (!context_out)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_is_device(device))
		return CUDA_ERROR_INVALID_DEVICE;
	if (sim_compute_mode() == CU_COMPUTEMODE_PROHIBITED)
		return CUDA_ERROR_DEVICE_UNAVAILABLE;
	context = depth < STACK_MAX ? new_context(device, false) : NULL;
	if (!context)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_lock(&lock);
	result = start(context);
	pthread_mutex_unlock(&lock);
	if (result != CUDA_SUCCESS)
		return result;
	stack[depth++] = context;
	*context_out = context;
	return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
	ENTER(cuCtxCreate_v2);
	(void)flags;
	return create(context, device);
}

CUresult cuCtxCreate_v3(CUcontext *context, CUexecAffinityParam *affinity,
			int count, unsigned int flags, CUdevice device)
{
	ENTER(cuCtxCreate_v3);
	(void)flags;
	if (count > 0 && !affinity)
		return CUDA_ERROR_INVALID_VALUE;
	return create(context, device);
}

CUresult cuCtxCreate_v4(CUcontext *context, CUctxCreateParams *params,
			unsigned int flags, CUdevice device)
{
	ENTER(cuCtxCreate_v4);
	(void)params;
	(void)flags;
	return create(context, device);
}

/* It leaves this thread's stack; other threads' keep it. */
CUresult cuCtxDestroy_v2(CUcontext context)
{
	CUresult result = CUDA_ERROR_INVALID_CONTEXT;

	ENTER(cuCtxDestroy_v2);
	if (!is_context(context) || context->is_primary)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&lock);
	if (atomic_load(&context->is_alive)) {
		end(context);
		result = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&lock);
	if (result == CUDA_SUCCESS && sim_current() == context)
		depth--;
	return result;
}

/* ---- which is current ---- */

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
	ENTER(cuCtxPushCurrent_v2);
	if (!is_context(context) || depth == STACK_MAX)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!atomic_load(&context->is_alive))
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
	if (context && !is_context(context))
		return CUDA_ERROR_INVALID_CONTEXT;
	if (depth)
		depth--;
	if (context)
		stack[depth++] = context;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	ENTER(cuCtxGetDevice);
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_current())
		return CUDA_ERROR_INVALID_CONTEXT;
	*device = sim_current()->device;
	return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void)
{
	ENTER_CONTEXT(cuCtxSynchronize);
	if (sim_is_capturing_any(sim_current()))
		return sim_capture_refuse();
	return sim_wait_for_all();
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags)
{
	CUcontext context = sim_current();
	CUresult result = CUDA_SUCCESS;
	unsigned int bit;

	ENTER_CONTEXT(cuCtxEnablePeerAccess);
	if (flags)
		return CUDA_ERROR_INVALID_VALUE;
	if (!is_context(peer))
		return CUDA_ERROR_INVALID_CONTEXT;
	if (peer->device == context->device)
		return CUDA_ERROR_INVALID_DEVICE;
	bit = 1u << peer->device;
	pthread_mutex_lock(&lock);
	if (context->peers & bit)
		result = CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
	context->peers |= bit;
	pthread_mutex_unlock(&lock);
	return result;
}
