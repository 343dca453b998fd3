/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * For tests of the CUDA driver itself, real or simulated: the choice is
 * POOLSWITCH_DRIVER's. CUDA survives no fork and keeps an error for good, so
 * the test program never starts it; each test does so in a child.
 */
#ifndef TESTS_SUPPORT_GPU_H
#define TESTS_SUPPORT_GPU_H

#include "device/driver.h"
#include "tests/support/harness.h"

struct th_gpu {
	const struct dv_driver *driver;
	CUcontext context; /* current on the thread that opened it */
	CUmemAllocationProp prop;
	CUmemAccessDesc readable;
	CUmemAccessDesc writable;
	volatile uint32_t *gate; /* see th_gpu_block() */
};

/* The size of the segments that the tests use. */
#define TH_SEGMENT_BYTES ((size_t)2 << 20)

/* The least that is reserved where it is wanted. */
#define TH_WINDOW_BYTES ((size_t)32 << 20)

/*
 * An address that programs do not use by themselves, and a size that fits
 * there; and as much as a process may reserve. The thread sanitizer keeps
 * most of the addresses for itself.
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TH_THREAD_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(TH_THREAD_SANITIZER)
#define TH_SOMEWHERE ((CUdeviceptr)0x550000000000)
#define TH_ROOM_BYTES ((size_t)128 << 30)
#define TH_MOST_BYTES ((size_t)128 << 30)
#else
#define TH_SOMEWHERE ((CUdeviceptr)0x300000000000)
#define TH_ROOM_BYTES ((size_t)1 << 40)
#define TH_MOST_BYTES ((size_t)64 << 40)
#endif

/* Skips the test where there is no GPU. */
void th_gpu_need(void);

/* Starts CUDA in this process; asserts that it works. */
const struct th_gpu *th_gpu_open(void);

/* Ends the child with status 0. */
void th_gpu_exit(void) __attribute__((noreturn));

/*
 * The rest of the test runs in a child, up to th_gpu_exit():
 *
 *	const struct th_gpu *gpu = th_gpu_child();
 *
 *	if (!gpu)
 *		return;
 *	...
 *	th_gpu_exit();
 *
 * NULL in the parent, when the child has ended well.
 */
const struct th_gpu *th_gpu_child(void);

/*
 * Two children with CUDA, joined by a socket pair; each runs its function and
 * ends. Asserts that both end well.
 */
void th_gpu_pair(void (*first)(const struct th_gpu *gpu, int socket),
		 void (*second)(const struct th_gpu *gpu, int socket));

/* Asserts a result and prints the one that came instead. */
#define th_cu_is(call, expected)                                               \
	th_check_result((call), (expected), #call, __FILE__, __LINE__)
#define th_cu(call) th_cu_is(call, CUDA_SUCCESS)
/* Asserts that it fails, with whatever. */
#define th_cu_fails(call) assert_int_not_equal((call), CUDA_SUCCESS)
void th_check_result(CUresult result, CUresult expected, const char *call,
		     const char *file, int line);

/* ---- memory ---- */

CUmemGenericAllocationHandle th_gpu_create(const struct th_gpu *gpu);
int th_gpu_export(const struct th_gpu *gpu,
		  CUmemGenericAllocationHandle handle);
CUmemGenericAllocationHandle th_gpu_import(const struct th_gpu *gpu, int fd);
CUdeviceptr th_gpu_reserve(const struct th_gpu *gpu, size_t bytes,
			   CUdeviceptr wanted);
/* Maps a segment somewhere, with that access. */
CUdeviceptr th_gpu_map(const struct th_gpu *gpu,
		       CUmemGenericAllocationHandle handle,
		       const CUmemAccessDesc *access);
/* A new segment, mapped writable. */
CUdeviceptr th_gpu_segment(const struct th_gpu *gpu);
size_t th_gpu_free_bytes(const struct th_gpu *gpu);

void th_gpu_put(const struct th_gpu *gpu, CUdeviceptr address, uint32_t value);
uint32_t th_gpu_get(const struct th_gpu *gpu, CUdeviceptr address);

/* ---- work ---- */

CUstream th_gpu_stream(const struct th_gpu *gpu, unsigned int flags);
CUevent th_gpu_event(const struct th_gpu *gpu);

/* A stream of that kind that captures, in global mode. */
CUstream th_gpu_capture(const struct th_gpu *gpu, unsigned int flags);
/* Asserts that the capture took no harm. */
void th_gpu_end_capture(const struct th_gpu *gpu, CUstream stream);

/* What is submitted on the stream behind this waits for th_gpu_unblock(). */
void th_gpu_block(const struct th_gpu *gpu, CUstream stream);
void th_gpu_unblock(const struct th_gpu *gpu);

/* Asserts that an event does not pass, and that work on a stream does not
 * end, for a while (TH_NOT_HAPPENING_MS). */
#define TH_NOT_HAPPENING_MS 50
void th_gpu_assert_pending(const struct th_gpu *gpu, CUevent event);
void th_gpu_assert_busy(const struct th_gpu *gpu, CUstream stream);

/* A kernel that writes one word: (uint64_t address, uint32_t value). */
CUfunction th_gpu_poke(const struct th_gpu *gpu);
void th_gpu_launch_poke(const struct th_gpu *gpu, CUfunction poke,
			CUstream stream, CUdeviceptr address, uint32_t value);

/* Launches a kernel that writes @value to all of @words, again and again for
 * @ns. */
void th_gpu_scribble(const struct th_gpu *gpu, CUstream stream,
		     CUdeviceptr address, uint32_t words, uint32_t value,
		     uint64_t ns);

/* ---- between the children of th_gpu_pair() ---- */

void th_gpu_send_fd(int socket, int fd);
int th_gpu_receive_fd(int socket);
void th_gpu_send_bytes(int socket, const void *bytes, size_t count);
void th_gpu_receive_bytes(int socket, void *bytes, size_t count);
/* One byte as a signal. */
void th_gpu_tell(int socket);
void th_gpu_await(int socket);

#endif /* TESTS_SUPPORT_GPU_H */
