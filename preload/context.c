/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Contexts and streams that come and go, and GPUs that let each other in.
 *
 * Resetting or destroying a context while other threads use it is the
 * program's mistake with the driver alone too.
 */
#include "preload/context.h"

#include "base/lock.h"
#include "preload/capture.h"
#include "preload/hooks.h"
#include "preload/memory.h"
#include "preload/outside.h"
#include "preload/state.h"

#include <stdatomic.h>
#include <stdlib.h>

#define DEVICES 64

static struct bs_lock lock = { PTHREAD_MUTEX_INITIALIZER, BS_RANK_PRELOAD };
/* Guarded by lock. */
static CUcontext *contexts; /* all but primary ones */
static size_t context_count, context_room;
static uint64_t peers[DEVICES]; /* bits: who may use its memory */

static atomic_size_t known;          /* context_count */
static atomic_int retained[DEVICES]; /* the primary one, by the program */

/* ---- contexts besides the primary one ---- */

bool pl_has_contexts(void)
{
	return atomic_load_explicit(&known, memory_order_relaxed) > 0;
}

static bool has_locked(CUcontext context)
{
	for (size_t i = 0; i < context_count; i++)
		if (contexts[i] == context)
			return true;
	return false;
}

static bool add_locked(CUcontext context)
{
	size_t room = context_room > 0 ? 2 * context_room : 16;
	CUcontext *grown;

	if (context_count == context_room) {
		grown = realloc(contexts, room * sizeof(*grown));
		if (grown == NULL)
			return false;
		contexts = grown;
		context_room = room;
	}
	contexts[context_count++] = context;
	atomic_store(&known, context_count);
	return true;
}

void pl_learn_context(CUcontext context)
{
	bool is_known;

	bs_lock_take(&lock);
	is_known = has_locked(context) || add_locked(context);
	bs_lock_drop(&lock);
	if (!is_known)
		pl_warn(PL_CAUSE_CONTEXTS,
			"no host memory to note a context: memory that is used "
			"in it may be given out again too early");
}

static void forget_context(CUcontext context)
{
	bs_lock_take(&lock);
	for (size_t i = 0; i < context_count; i++)
		if (contexts[i] == context)
			contexts[i--] = contexts[--context_count];
	atomic_store(&known, context_count);
	bs_lock_drop(&lock);
}

static bool is_known_context(CUcontext context)
{
	bool is_known;

	bs_lock_take(&lock);
	is_known = has_locked(context);
	bs_lock_drop(&lock);
	return is_known;
}

/* One that is gone by now has no work left. A capture that another thread has
 * begun in another context takes no harm. */
static void wait_for(CUcontext context)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	const struct dv_driver *driver = pl_driver();
	CUcontext popped;

	if (driver->cuCtxPushCurrent_v2(context) != CUDA_SUCCESS)
		return;
	(void)driver->cuThreadExchangeStreamCaptureMode(&mode);
	(void)driver->cuCtxSynchronize();
	(void)driver->cuThreadExchangeStreamCaptureMode(&mode);
	(void)driver->cuCtxPopCurrent_v2(&popped);
}

void pl_note_block(CUdeviceptr address)
{
	struct pl_entry entry = { .key = address, .kind = PL_KIND_FOREIGN };
	CUcontext context = NULL;

	if (pl_driver()->cuCtxGetCurrent(&context) != CUDA_SUCCESS ||
	    context == pl_pool_context())
		return;
	entry.other = (uintptr_t)context;
	if (pl_ledger_put(&entry) != PS_OK)
		pl_warn(PL_CAUSE_CONTEXTS,
			"no host memory to note a block: it will not go with "
			"its context");
}

void pl_settle_block(CUdeviceptr address)
{
	CUcontext context;
	struct pl_entry entry;

	(void)pl_ledger_take(PL_KIND_FOREIGN, address, &entry);
	for (size_t i = 0;; i++) {
		bs_lock_take(&lock);
		context = i < context_count ? contexts[i] : NULL;
		bs_lock_drop(&lock);
		if (context == NULL)
			return;
		wait_for(context);
	}
}

/* ---- their end ---- */

/* What was allocated in it goes with it. */
static void free_blocks_of(CUcontext context)
{
	struct ps_pool *pool = pl_pool();
	struct pl_entry entry;

	while (pl_ledger_take_of(PL_KIND_FOREIGN, (uintptr_t)context, &entry)) {
		if (pool == NULL || pl_is_held(entry.key))
			continue;
		pl_forget_async(entry.key);
		(void)ps_mem_free(pool, (void *)(uintptr_t)entry.key);
	}
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
	bool is_known;
	CUresult result;
	PL_GUARD();

	if (!pl_is_alive())
		return pl_driver()->cuCtxDestroy_v2(context);
	is_known = is_known_context(context);
	if (is_known) {
		wait_for(context);
		free_blocks_of(context);
	}
	result = pl_driver()->cuCtxDestroy_v2(context);
	if (result == CUDA_SUCCESS && is_known) {
		forget_context(context);
		pl_outside_drop(context);
	}
	return result;
}

static CUresult created(CUresult result, const CUcontext *context)
{
	if (result == CUDA_SUCCESS && pl_is_alive())
		pl_learn_context(*context);
	return result;
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
	PL_GUARD();

	return created(pl_driver()->cuCtxCreate_v2(context, flags, device),
		       context);
}

CUresult cuCtxCreate_v3(CUcontext *context, CUexecAffinityParam *affinity,
			int count, unsigned int flags, CUdevice device)
{
	PL_GUARD();

	return created(pl_driver()->cuCtxCreate_v3(context, affinity, count,
						   flags, device),
		       context);
}

CUresult cuCtxCreate_v4(CUcontext *context, CUctxCreateParams *params,
			unsigned int flags, CUdevice device)
{
	PL_GUARD();

	return created(
		pl_driver()->cuCtxCreate_v4(context, params, flags, device),
		context);
}

/* ---- the primary one ---- */

/* The runtime library asks for these two as CUDA 7 had them. */
typedef CUresult by_device(CUdevice device);

static bool is_counted(CUdevice device)
{
	return device >= 0 && device < DEVICES && pl_is_alive();
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuDevicePrimaryCtxRetain(context, device);
	if (result == CUDA_SUCCESS && is_counted(device))
		atomic_fetch_add_explicit(&retained[device], 1,
					  memory_order_relaxed);
	return result;
}

/* The pool's own reference would keep it alive when the program's last has
 * gone, with all that the program expects to be gone. */
static CUresult release(CUdevice device, by_device *real)
{
	uint64_t bytes;
	CUresult result;

	if (!is_counted(device))
		return real(device);
	if (pl_is_pool_device(device) && atomic_load(&retained[device]) == 1 &&
	    pl_ledger_sum(PL_KIND_FOREIGN, &bytes) == 0) {
		pl_outside_drop(pl_pool_context());
		pl_leave_pool();
	}
	result = real(device);
	/* What was retained past us is released past us, too. */
	if (result == CUDA_SUCCESS && atomic_load(&retained[device]) > 0)
		atomic_fetch_sub(&retained[device], 1);
	return result;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	PL_GUARD();

	return release(device, pl_driver()->cuDevicePrimaryCtxRelease);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	PL_GUARD();

	return release(device, pl_driver()->cuDevicePrimaryCtxRelease_v2);
}

static CUresult reset(CUdevice device, by_device *real)
{
	uint64_t bytes;

	if (!pl_is_alive() || !pl_is_pool_device(device))
		return real(device);
	if (pl_ledger_sum(PL_KIND_FOREIGN, &bytes) > 0)
		pl_warn(PL_CAUSE_CONTEXTS,
			"the primary context is reset: what other contexts "
			"have of the pool goes with it");
	pl_outside_drop(pl_pool_context());
	pl_leave_pool();
	return real(device);
}

CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
	PL_GUARD();

	return reset(device, pl_driver()->cuDevicePrimaryCtxReset);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
	PL_GUARD();

	return reset(device, pl_driver()->cuDevicePrimaryCtxReset_v2);
}

void pl_contexts_left(void)
{
	CUcontext context;
	struct pl_entry entry;

	for (size_t i = 0;; i++) {
		bs_lock_take(&lock);
		context = i < context_count ? contexts[i] : NULL;
		bs_lock_drop(&lock);
		if (context == NULL)
			return;
		while (pl_ledger_take_of(PL_KIND_FOREIGN, (uintptr_t)context,
					 &entry))
			;
	}
}

/* ---- peers ---- */

static void allow(struct ps_pool *pool, int device)
{
	if (ps_pool_allow_peer(pool, device) != PS_OK)
		pl_warn(PL_CAUSE_INTERNAL,
			"GPU %d cannot use the memory of the pool: %s", device,
			ps_error_detail());
}

bool pl_context_device(CUcontext context, CUdevice *device_out)
{
	const struct dv_driver *driver = pl_driver();
	CUcontext popped;
	CUresult result;

	if (driver->cuCtxGetDevice == NULL ||
	    driver->cuCtxPushCurrent_v2(context) != CUDA_SUCCESS)
		return false;
	result = driver->cuCtxGetDevice(device_out);
	(void)driver->cuCtxPopCurrent_v2(&popped);
	return result == CUDA_SUCCESS;
}

void pl_let_in(CUdevice device, CUdevice peer)
{
	if (device == peer || device < 0 || device >= DEVICES || peer < 0 ||
	    peer >= DEVICES)
		return;
	bs_lock_take(&lock);
	peers[device] |= UINT64_C(1) << peer;
	bs_lock_drop(&lock);
	if (pl_is_pool_device(device))
		allow(pl_pool(), peer);
}

/* The current context may use what was allocated in @peer. */
static void note_peer(CUcontext peer)
{
	CUcontext current = NULL;
	CUdevice from, to;

	if (pl_driver()->cuCtxGetCurrent(&current) == CUDA_SUCCESS &&
	    pl_context_device(current, &to) && pl_context_device(peer, &from))
		pl_let_in(from, to);
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags)
{
	CUresult result;
	PL_GUARD();

	result = pl_driver()->cuCtxEnablePeerAccess(peer, flags);
	if (result == CUDA_SUCCESS && pl_is_alive())
		note_peer(peer);
	return result;
}

void pl_contexts_attached(struct ps_pool *pool)
{
	CUdevice device = pl_pool_device();
	uint64_t bits = 0;

	bs_lock_take(&lock);
	if (device >= 0 && device < DEVICES)
		bits = peers[device];
	bs_lock_drop(&lock);
	for (int i = 0; i < DEVICES; i++)
		if (bits >> i & 1)
			allow(pool, i);
}

/* ---- streams ---- */

/*
 * The driver may give its handle to a new stream at once, which would get
 * memory that the old one's work still uses: what cannot be fenced is waited
 * for.
 */
CUresult cuStreamDestroy_v2(CUstream stream)
{
	struct ps_pool *pool = pl_pool();
	CUresult result;
	PL_GUARD();

	if (pool != NULL && (uintptr_t)stream > 2 &&
	    ps_mem_drop_stream(pool, stream) != PS_OK)
		(void)pl_driver()->cuStreamSynchronize(stream);
	result = pl_driver()->cuStreamDestroy_v2(stream);
	if (result == CUDA_SUCCESS)
		pl_capture_drop(stream);
	return result;
}
