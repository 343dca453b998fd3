/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Streams as the allocator counts them: a number for each.
 *
 * The per-thread default stream has one handle for all threads, but is a
 * stream of its own in each. So it gets a number of its own for each thread,
 * which is never used again.
 */
#ifndef LIB_STREAM_H
#define LIB_STREAM_H

#include <stdbool.h>
#include <stdint.h>

/* The driver's special handles. */
#define LB_LEGACY ((void *)1)
#define LB_PER_THREAD ((void *)2)

/* No user-space address has this bit. */
#define LB_THREAD_BIT (UINT64_C(1) << 63)

/* The number of the calling thread's default stream. */
uint64_t lb_stream_of_thread(void);

static inline uint64_t lb_stream_number(void *stream)
{
	uintptr_t value = (uintptr_t)stream;

	if (__builtin_expect(value > (uintptr_t)LB_PER_THREAD, 1))
		return value;
	return stream == LB_PER_THREAD ? lb_stream_of_thread() : 0;
}

static inline bool lb_stream_is_default(const void *stream)
{
	return (uintptr_t)stream <= (uintptr_t)LB_PER_THREAD;
}

#endif /* LIB_STREAM_H */
