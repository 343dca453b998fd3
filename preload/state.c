/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whether this process has a pool, and what becomes of a request.
 *
 * One thread attaches and holds no lock meanwhile, since the driver may load
 * libraries then; the others wait for it, up to a deadline: one of them may
 * have the loader's lock, which the first one then waits for.
 */
#include "preload/state.h"

#include "base/lock.h"
#include "base/status.h"
#include "device/device.h"
#include "preload/capture.h"
#include "preload/context.h"
#include "preload/driver.h"
#include "preload/ledger.h"
#include "preload/mempool.h"
#include "preload/policy.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* Between two questions to a daemon that did not answer. */
#define RETRY_MS 1000
/* For the thread that attaches: longer than anything takes there. */
#define ATTACH_MS 30000
#define ASK_MS 5000
#define DEVICES 64

static pthread_once_t once = PTHREAD_ONCE_INIT;
/* 1 here, 0 in a forked child; never unmapped. NULL: not started. */
static const volatile uint32_t *_Atomic alive;
static pthread_cond_t attached_or_not; /* initialized with alive */

static struct ps_pool *_Atomic the_pool;
/* What it is on; written before it is published. */
static CUcontext _Atomic primary;
static _Atomic CUdevice gpu;

static struct bs_lock lock = { PTHREAD_MUTEX_INITIALIZER, BS_RANK_PRELOAD };
/* Guarded by lock. */
static bool is_attaching;
static int64_t retry_ms;      /* not before that */
static CUresult last_failure; /* until then */
static bool passes_all;
static bool is_elsewhere[DEVICES]; /* the pool is on another GPU */

/* Attaching calls the driver, which may call what is hooked. */
static _Thread_local bool is_inside;

/* ---- forked children ---- */

static void start(void)
{
	uint32_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_condattr_t attributes;

	if (page == MAP_FAILED)
		return;
	if (madvise(page, 4096, MADV_WIPEONFORK) != 0) {
		munmap(page, 4096);
		return;
	}
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&attached_or_not, &attributes);
	pthread_condattr_destroy(&attributes);
	*page = 1;
	atomic_store(&alive, page);
}

/* Once it has started. */
static inline bool is_parent(void)
{
	const volatile uint32_t *page =
		atomic_load_explicit(&alive, memory_order_acquire);

	return page != NULL && *page != 0;
}

bool pl_is_alive(void)
{
	if (atomic_load_explicit(&alive, memory_order_acquire) == NULL)
		pthread_once(&once, start);
	return is_parent();
}

/* ---- the pool ---- */

struct ps_pool *pl_pool(void)
{
	struct ps_pool *pool =
		atomic_load_explicit(&the_pool, memory_order_acquire);

	return pool != NULL && is_parent() ? pool : NULL;
}

bool pl_is_pool_device(CUdevice device)
{
	return pl_pool() != NULL && device == pl_pool_device();
}

CUdevice pl_pool_device(void)
{
	return atomic_load_explicit(&gpu, memory_order_relaxed);
}

CUcontext pl_pool_context(void)
{
	return atomic_load_explicit(&primary, memory_order_relaxed);
}

void pl_leave_pool(void)
{
	struct ps_pool *pool = pl_pool();

	if (pool == NULL ||
	    !atomic_compare_exchange_strong(&the_pool, &pool, NULL))
		return;
	pl_captures_left();
	pl_contexts_left();
	pl_mempools_left();
	pl_ledger_forgive();
	ps_pool_close(pool);
}

/* ---- attaching ---- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What the user got wrong is said, and does not keep a program from running. */
static void check_policy(void)
{
	const struct pl_policy *policy = pl_policy();

	if (policy->bad != NULL)
		pl_warn(PL_CAUSE_POLICY,
			"the value of %s is none that it can have; it counts "
			"as not set (man poolswitch-environment)",
			policy->bad);
}

static enum ps_status configure(struct ps_attach_config *config)
{
	const struct pl_policy *policy = pl_policy();
	enum ps_status status;

	if (ps_attach_config_set_name(config, policy->name) != PS_OK)
		pl_warn(PL_CAUSE_POLICY, "POOLSWITCH_NAME: %s",
			ps_error_detail());
	status = ps_attach_config_set_socket(config, policy->socket);
	ps_attach_config_set_limit(config, policy->quota);
	ps_attach_config_set_reservation(config, policy->reservation);
	return status;
}

static enum ps_status attach(struct ps_pool **pool_out)
{
	struct ps_attach_config *config;
	enum ps_status status = ps_attach_config_new(&config);

	if (status != PS_OK)
		return status;
	status = configure(config);
	if (status == PS_OK)
		status = ps_attach(config, pool_out);
	ps_attach_config_free(config);
	return status;
}

/*
 * Whether the daemon's pool is on this GPU. With several, attaching to find
 * out would start a context on one that the program may never use.
 */
static enum ps_status check_gpu(CUdevice device)
{
	struct dv_traits traits;
	char number[16], *status_text;
	enum ps_status status;
	int count = 0;

	if (pl_driver()->cuDeviceGetCount(&count) != CUDA_SUCCESS || count == 1)
		return PS_OK;
	snprintf(number, sizeof(number), "%d", device);
	status = dv_traits_get(number, &traits);
	if (status != PS_OK)
		return status;
	status = ps_daemon_ask(pl_policy()->socket, PS_ASK_PRESENCE, ASK_MS,
			       &status_text);
	if (status != PS_OK)
		return status;
	if (strstr(status_text, traits.uuid) == NULL)
		status = bs_fail(PS_WRONG_GPU, "%s is not the daemon's",
				 traits.uuid);
	free(status_text);
	return status;
}

/* Its handle; the reference is the pool's. */
static enum ps_status find_primary(CUdevice device)
{
	CUcontext context;

	if (pl_driver()->cuDevicePrimaryCtxRetain(&context, device) !=
	    CUDA_SUCCESS)
		return bs_fail(PS_DRIVER,
			       "the driver does not tell the primary context "
			       "of GPU %d",
			       device);
	pl_driver()->cuDevicePrimaryCtxRelease_v2(device);
	atomic_store(&primary, context);
	atomic_store(&gpu, device);
	return PS_OK;
}

static enum ps_status prepare(CUdevice device, struct ps_pool *pool)
{
	enum ps_status status = find_primary(device);

	if (status == PS_OK)
		status = ps_mem_set_free_mode(pool, pl_policy()->free_waits
							    ? PS_FREE_WAITS
							    : PS_FREE_FENCED);
	if (status != PS_OK)
		return status;
	pl_contexts_attached(pool);
	/* Before and after it is published: no capture comes in between. */
	pl_captures_attached(pool);
	return PS_OK;
}

static enum ps_status get_pool(CUdevice device, struct ps_pool **pool_out)
{
	enum ps_status status = check_gpu(device);

	if (status == PS_OK)
		status = attach(pool_out);
	if (status != PS_OK)
		return status;
	status = prepare(device, *pool_out);
	if (status != PS_OK)
		ps_pool_close(*pool_out);
	else
		pl_inform("this process's memory is on the pool of %s",
			  ps_pool_gpu(*pool_out));
	return status;
}

/* pre: the lock is held. */
static void note_failure_locked(CUdevice device, enum ps_status status,
				CUresult result)
{
	if (status == PS_WRONG_GPU && device < DEVICES) {
		/* Says nothing of the pool's own. */
		is_elsewhere[device] = true;
		return;
	}
	if (status == PS_NO_DAEMON && pl_policy()->passes)
		passes_all = true;
	last_failure = result;
	retry_ms = now_ms() + RETRY_MS;
}

static void say_failure(enum ps_status status)
{
	const char *detail = ps_error_detail();

	if (status == PS_NO_DAEMON && pl_policy()->passes)
		pl_warn(PL_CAUSE_NO_DAEMON,
			"no daemon, so this process's memory is the driver's "
			"(POOLSWITCH_NO_DAEMON=pass): %s",
			detail);
	else if (status == PS_NO_DAEMON)
		pl_warn(PL_CAUSE_NO_DAEMON, "%s", detail);
	else if (status == PS_WRONG_GPU)
		pl_warn(PL_CAUSE_PASSING,
			"the pool is on another GPU than this program's, whose "
			"memory stays the driver's: %s",
			detail);
	else
		pl_warn(PL_CAUSE_REFUSED, "no memory of the pool: %s", detail);
}

/* What is known of it without asking. false: it is to be tried. */
static bool is_decided_locked(CUdevice device, enum pl_course *course_out,
			      CUresult *result_out)
{
	if (passes_all || (device < DEVICES && is_elsewhere[device])) {
		*course_out = PL_PASS;
		return true;
	}
	if (retry_ms == 0 || now_ms() >= retry_ms)
		return false;
	*course_out = PL_FAIL;
	*result_out = last_failure;
	return true;
}

/* false: it took too long. */
static bool wait_for_other_locked(void)
{
	int64_t until = now_ms() + ATTACH_MS;
	struct timespec at = { until / 1000, until % 1000 * 1000000 };
	int error = 0;

	while (is_attaching && error == 0)
		error = pthread_cond_timedwait(&attached_or_not, &lock.mutex,
					       &at);
	return !is_attaching;
}

/* What the program gets, which has asked for nothing wrong itself. */
static CUresult refusal(enum ps_status status)
{
	switch (status) {
	case PS_OUT_OF_MEMORY:
	case PS_DEVICE_MEMORY:
	case PS_HOST_MEMORY:
	case PS_VERSION_MISMATCH:
	case PS_DEVICE_LOST:
		return pl_result(status);
	default:
		return CUDA_ERROR_SYSTEM_NOT_READY;
	}
}

/* The calling thread alone attaches. */
static void try_attach(CUdevice device)
{
	struct ps_pool *pool = NULL;
	CUresult result = CUDA_SUCCESS;
	enum ps_status status;

	check_policy();
	is_inside = true;
	status = get_pool(device, &pool);
	is_inside = false;
	if (status != PS_OK) {
		say_failure(status);
		result = refusal(status);
	}
	bs_lock_take(&lock);
	if (status == PS_OK)
		atomic_store(&the_pool, pool);
	else
		note_failure_locked(device, status, result);
	is_attaching = false;
	pthread_cond_broadcast(&attached_or_not);
	bs_lock_drop(&lock);
	if (status == PS_OK)
		pl_captures_attached(pool);
}

/* false: the calling thread is to attach. */
static bool is_settled_locked(CUdevice device, enum pl_course *course_out,
			      CUresult *result_out)
{
	if (is_attaching && !wait_for_other_locked()) {
		*course_out = PL_FAIL;
		*result_out = CUDA_ERROR_SYSTEM_NOT_READY;
		return true;
	}
	if (atomic_load(&the_pool) == NULL)
		return is_decided_locked(device, course_out, result_out);
	*course_out = device == pl_pool_device() ? PL_SERVE : PL_PASS;
	return true;
}

/* Returns when there is a pool or it is decided otherwise. What another thread
 * found out may be about another GPU only. */
static enum pl_course attach_course(CUdevice device, CUresult *result_out)
{
	enum pl_course course = PL_FAIL;
	bool is_settled;

	for (;;) {
		bs_lock_take(&lock);
		is_settled = is_settled_locked(device, &course, result_out);
		if (!is_settled)
			is_attaching = true;
		bs_lock_drop(&lock);
		if (is_settled)
			return course;
		try_attach(device);
	}
}

/* ---- what becomes of a request ---- */

/* Whether a pool is possible at all. */
static bool is_able(void)
{
	if (is_inside || !pl_is_alive())
		return false;
	if (dv_driver_loaded() != NULL)
		return true;
	pl_warn(PL_CAUSE_OLD_DRIVER,
		"this CUDA driver is too old for a pool, which needs 525 or "
		"newer; memory stays the driver's");
	return false;
}

/* pre: pl_driver() was called, and answers. */
static enum pl_course course_on(CUdevice device, struct ps_pool **pool_out,
				CUresult *result_out)
{
	enum pl_course course;

	if (!is_able() || device < 0)
		return PL_PASS;
	if (pl_pool() == NULL)
		course = attach_course(device, result_out);
	else
		course = device == pl_pool_device() ? PL_SERVE : PL_PASS;
	if (course != PL_SERVE)
		return course;
	*pool_out = pl_pool();
	return *pool_out != NULL ? PL_SERVE : PL_PASS;
}

enum pl_course pl_course_on(CUdevice device, struct ps_pool **pool_out,
			    CUresult *result_out)
{
	int count;

	/* Else the driver's own error. */
	if (pl_driver()->cuDeviceGetCount(&count) != CUDA_SUCCESS ||
	    device >= count)
		return PL_PASS;
	return course_on(device, pool_out, result_out);
}

static enum pl_course course_in(CUcontext context, struct ps_pool **pool_out,
				CUresult *result_out)
{
	const struct dv_driver *driver = pl_driver();
	enum pl_course course;
	CUdevice device = -1;

	if (driver->cuCtxGetDevice == NULL ||
	    driver->cuCtxGetDevice(&device) != CUDA_SUCCESS)
		return PL_PASS;
	course = course_on(device, pool_out, result_out);
	if (course == PL_SERVE && context != pl_pool_context())
		pl_learn_context(context);
	return course;
}

enum pl_course pl_course(struct ps_pool **pool_out, CUresult *result_out)
{
	struct ps_pool *pool = pl_pool();
	CUcontext context = NULL;

	if (pl_driver()->cuCtxGetCurrent(&context) != CUDA_SUCCESS ||
	    context == NULL)
		return PL_PASS;
	if (__builtin_expect(pool == NULL || context != pl_pool_context(), 0))
		return course_in(context, pool_out, result_out);
	*pool_out = pool;
	return PL_SERVE;
}
