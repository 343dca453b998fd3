/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The pool of this process: attached by the first allocation, gone for good
 * in a forked child, left when the primary context is reset.
 *
 * Every hook begins with PL_GUARD(), which keeps errno as the program had it.
 */
#ifndef PRELOAD_STATE_H
#define PRELOAD_STATE_H

#include "device/cuda_abi.h"
#include "include/poolswitch.h"

#include <errno.h>

static inline void pl_errno_restore(const int *saved)
{
	errno = *saved;
}

#define PL_GUARD()                                                             \
	const int pl_saved_errno                                               \
		__attribute__((cleanup(pl_errno_restore), unused)) = errno

/* What becomes of a request for memory. */
enum pl_course {
	PL_SERVE, /* by the pool */
	PL_PASS,  /* by the driver: another GPU, a forked child, no context, a
		   * program that is to live without a daemon */
	PL_FAIL,  /* not at all: *result_out */
};

/*
 * Attaches when nobody has yet. Looks at the calling thread's current context.
 * A daemon that did not answer is asked again, once a second at most.
 */
enum pl_course pl_course(struct ps_pool **pool_out, CUresult *result_out);
/* The same for what needs no context: on this GPU. */
enum pl_course pl_course_on(CUdevice device, struct ps_pool **pool_out,
			    CUresult *result_out);

/* The pool if this process has one and is no child of the one that had it,
 * else NULL. Attaches to nothing. A few loads. */
struct ps_pool *pl_pool(void);

/* Whether this process used a hook that keeps books before, and is no child
 * of one that did: its locks may be taken. Makes it so for the first time. */
bool pl_is_alive(void);

/* Whether there is a pool, and it is on this GPU. */
bool pl_is_pool_device(CUdevice device);
/* The pool's GPU, and its primary context. pre: pl_pool() is one. */
CUdevice pl_pool_device(void);
CUcontext pl_pool_context(void);

/*
 * Leaves the pool, live blocks and all: before the driver destroys the primary
 * context. The next allocation attaches anew.
 */
void pl_leave_pool(void);

/* As the driver would say it. */
CUresult pl_result(enum ps_status status);

/* One line on standard error, the first time that this cause comes up. */
enum pl_cause {
	PL_CAUSE_NO_DAEMON,
	PL_CAUSE_PASSING,
	PL_CAUSE_REFUSED,
	PL_CAUSE_POLICY,
	PL_CAUSE_OLD_DRIVER,
	PL_CAUSE_LOST,
	PL_CAUSE_OTHER_DLSYM,
	PL_CAUSE_DEEPBIND,
	PL_CAUSE_CONTEXTS,
	PL_CAUSE_SPILL,
	PL_CAUSE_INTERNAL,
	PL_CAUSES
};
void pl_warn(enum pl_cause cause, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* One line, each time, for who wants to know (POOLSWITCH_LOG=info). */
void pl_inform(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif /* PRELOAD_STATE_H */
