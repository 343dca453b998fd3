/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the layers above see of a GPU: device/device.h. */
#include "device/device.h"

#include "base/status.h"
#include "tests/support/gpu.h"
#include "tests/support/sim.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define SEGMENT TH_SEGMENT_BYTES
#define WINDOW TH_WINDOW_BYTES

/* The child's device, beside the raw driver that th_gpu_child() opened. */
static struct dv_device *open_device(void)
{
	struct dv_device *dev;

	th_assert_ok(dv_device_open(NULL, &dev));
	return dev;
}

/* A window with one writable segment. */
static uint64_t map_segment(struct dv_device *dev, uint64_t *handle_out)
{
	uint64_t address;

	th_assert_ok(dv_segment_create(dev, SEGMENT, handle_out));
	th_assert_ok(dv_window_reserve(dev, SEGMENT, 0, &address));
	th_assert_ok(dv_window_map(dev, address, SEGMENT, *handle_out));
	th_assert_ok(dv_window_set_access(dev, address, SEGMENT, true));
	return address;
}

/* ---- segments and windows ---- */

static void test_device_segment_lives_from_create_to_release(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	uint64_t before, after, total;
	struct dv_device *dev;
	uint64_t address;
	uint64_t handle;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	th_assert_ok(dv_memory_info(dev, &before, &total));
	address = map_segment(dev, &handle);
	th_assert_ok(dv_memory_info(dev, &after, &total));
	assert_int_equal(before - after, SEGMENT);
	th_assert_ok(dv_window_unmap(dev, address, SEGMENT));
	th_assert_ok(dv_window_free(dev, address, SEGMENT));
	th_assert_ok(dv_segment_release(dev, handle));
	th_assert_ok(dv_memory_info(dev, &after, &total));
	assert_int_equal(before, after);
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_device_copies_in_and_out(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	char text[6] = "";
	struct dv_device *dev;
	uint64_t address;
	uint64_t handle;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	address = map_segment(dev, &handle);
	th_assert_ok(dv_copy_in(dev, address + 3, "hello", 6));
	th_assert_ok(dv_copy_out(dev, text, address + 3, 6));
	assert_string_equal(text, "hello");
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_device_copy_passes_blocked_streams(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	uint64_t address;
	uint64_t handle;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	address = map_segment(dev, &handle);
	th_gpu_block(gpu, NULL);
	th_assert_ok(dv_copy_in(dev, address, "x", 1));
	th_gpu_unblock(gpu);
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_device_memory_used_up_says_what_is_free(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	uint64_t left, total, handle;
	struct dv_device *dev;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	th_assert_ok(dv_memory_info(dev, &left, &total));
	total = (total / SEGMENT + 1) * SEGMENT;
	th_assert_status(dv_segment_create(dev, total, &handle),
			 PS_DEVICE_MEMORY);
	assert_non_null(strstr(bs_fail_text(), "are free"));
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_device_import_of_no_segment_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	uint64_t handle;
	int fd;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	fd = memfd_create("none", MFD_CLOEXEC);
	th_assert_status(dv_segment_import(dev, fd, &handle), PS_BAD_SEGMENT);
	close(fd);
	th_assert_status(dv_segment_import(dev, fd, &handle), PS_BAD_SEGMENT);
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_device_export_closes_on_exec(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	uint64_t handle;
	int fd;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	th_assert_ok(dv_segment_create(dev, SEGMENT, &handle));
	th_assert_ok(dv_segment_export(dev, handle, &fd));
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_device_export_at_the_fd_limit_says_so(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct rlimit limit;
	struct dv_device *dev;
	uint64_t handle;
	int fd;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	th_assert_ok(dv_segment_create(dev, SEGMENT, &handle));
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &limit);
	th_assert_status(dv_segment_export(dev, handle, &fd), PS_FD_LIMIT);
	assert_non_null(strstr(bs_fail_text(), "ulimit -n"));
	th_gpu_exit();
}

static void test_device_window_that_is_taken_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	uint64_t address;
	uint64_t other;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	th_assert_ok(dv_window_reserve(dev, WINDOW, 0, &address));
	th_assert_status(
		dv_window_reserve(dev, WINDOW, address + SEGMENT, &other),
		PS_WINDOW_TAKEN);
	th_assert_ok(dv_window_free(dev, address, WINDOW));
	th_assert_ok(dv_window_reserve(dev, WINDOW, address, &other));
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_device_keeps_the_callers_context(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	uint64_t left, total;
	struct dv_device *dev;
	CUcontext now;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuCtxSetCurrent(NULL));
	dev = open_device();
	th_assert_ok(dv_memory_info(dev, &left, &total));
	th_cu(gpu->driver->cuCtxGetCurrent(&now));
	assert_null(now);
	dv_device_close(dev);
	th_gpu_exit();
}

/* ---- fences ---- */

static void test_fence_passes_behind_its_streams_work(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	struct dv_fence *fence;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_gpu_block(gpu, stream);
	th_assert_ok(dv_fence_record(dev, stream, &fence));
	assert_int_equal(dv_fence_poll(dev, fence), PS_AGAIN);
	th_gpu_unblock(gpu);
	th_assert_ok(dv_fence_wait(dev, fence));
	th_assert_ok(dv_fence_poll(dev, fence));
	dv_fence_free(dev, fence);
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_fence_in_steady_state_creates_no_event(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	struct dv_fence *fence;
	int i;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	th_sim_reset();
	for (i = 0; i < 10; i++) {
		th_assert_ok(dv_fence_record(dev, NULL, &fence));
		dv_fence_free(dev, fence);
	}
	assert_int_equal(th_sim_calls("cuEventCreate"), 1);
	dv_device_close(dev);
	assert_int_equal(th_sim_calls("cuEventDestroy_v2"), 1);
	th_gpu_exit();
}

static void test_fence_on_capturing_stream_comes_again(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	struct dv_fence *fence;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_assert_status(dv_fence_record(dev, stream, &fence), PS_AGAIN);
	th_gpu_end_capture(gpu, stream);
	th_assert_ok(dv_fence_record(dev, stream, &fence));
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_fence_beside_a_capture_passes(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	struct dv_fence *fence;
	CUstream capturing;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	capturing = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_assert_ok(dv_fence_record(
		dev, th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING), &fence));
	th_assert_ok(dv_fence_wait(dev, fence));
	th_assert_ok(dv_fence_poll(dev, fence));
	th_gpu_end_capture(gpu, capturing);
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_stream_check_tells_of_a_capture_and_spares_it(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_assert_status(dv_stream_check(dev, stream), PS_AGAIN);
	assert_non_null(strstr(bs_fail_text(), "captures"));
	th_gpu_end_capture(gpu, stream);
	th_assert_ok(dv_stream_check(dev, stream));
	dv_device_close(dev);
	th_gpu_exit();
}

static void
test_stream_check_of_plain_stream_beside_a_capture_is_ok(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	CUstream capturing;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	capturing = th_gpu_capture(gpu, CU_STREAM_DEFAULT);
	th_assert_ok(dv_stream_check(
		dev, th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING)));
	th_assert_ok(
		dv_stream_check(dev, th_gpu_stream(gpu, CU_STREAM_DEFAULT)));
	th_gpu_end_capture(gpu, capturing);
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_stream_check_of_legacy_stream_tells_of_blocking(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	CUstream capturing;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	capturing = th_gpu_capture(gpu, CU_STREAM_DEFAULT);
	th_assert_status(dv_stream_check(dev, NULL), PS_AGAIN);
	assert_non_null(strstr(bs_fail_text(), "when the capture has ended"));
	th_gpu_end_capture(gpu, capturing);
	th_assert_ok(dv_stream_check(dev, NULL));
	dv_device_close(dev);
	th_gpu_exit();
}

/* ---- fences behind every stream ---- */

static void check_fence_all(const struct th_gpu *gpu, CUstream stream)
{
	struct dv_device *dev = open_device();
	struct dv_fence *fence;

	th_gpu_block(gpu, stream);
	th_assert_ok(dv_fence_record_all(dev, &fence));
	assert_int_equal(dv_fence_poll(dev, fence), PS_AGAIN);
	th_gpu_unblock(gpu);
	th_assert_ok(dv_fence_wait(dev, fence));
	th_assert_ok(dv_fence_poll(dev, fence));
	th_cu(gpu->driver->cuStreamQuery(stream));
	dv_fence_free(dev, fence);
	dv_device_close(dev);
}

static void check_fence_all_streams(const struct th_gpu *gpu)
{
	check_fence_all(gpu, NULL);
	check_fence_all(gpu, CU_STREAM_PER_THREAD);
	check_fence_all(gpu, th_gpu_stream(gpu, CU_STREAM_DEFAULT));
	check_fence_all(gpu, th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING));
}

static void test_fence_all_covers_each_kind_of_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	check_fence_all_streams(gpu);
	th_gpu_exit();
}

/* As with a driver before 12.5. */
static const struct th_gpu *child_without_context_events(void)
{
	const struct th_gpu *gpu;

	setenv("POOLSWITCH_WITHOUT", "cuCtxRecordEvent", 1);
	gpu = th_gpu_child();
	unsetenv("POOLSWITCH_WITHOUT");
	return gpu;
}

static void test_fence_all_without_context_events_covers_each_kind(void **state)
{
	const struct th_gpu *gpu = child_without_context_events();

	(void)state;
	if (!gpu)
		return;
	assert_null(gpu->driver->cuCtxRecordEvent);
	check_fence_all_streams(gpu);
	th_gpu_exit();
}

static void test_fence_all_one_wait_serves_those_before_it(void **state)
{
	const struct th_gpu *gpu = child_without_context_events();
	struct dv_fence *fences[3];
	struct dv_device *dev;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	th_assert_ok(dv_fence_record_all(dev, &fences[0]));
	th_assert_ok(dv_fence_record_all(dev, &fences[1]));
	th_assert_ok(dv_fence_wait(dev, fences[1]));
	th_assert_ok(dv_fence_record_all(dev, &fences[2]));
	th_assert_ok(dv_fence_poll(dev, fences[0]));
	assert_int_equal(dv_fence_poll(dev, fences[2]), PS_AGAIN);
	dv_device_close(dev);
	th_gpu_exit();
}

/* Recording, then waiting for what was recorded before. */
static void check_fence_all_beside_capture(const struct th_gpu *gpu)
{
	struct dv_device *dev = open_device();
	struct dv_fence *before;
	struct dv_fence *fence;
	CUstream capturing;

	th_assert_ok(dv_fence_record_all(dev, &before));
	capturing = th_gpu_capture(gpu, CU_STREAM_DEFAULT);
	th_assert_status(dv_fence_record_all(dev, &fence), PS_AGAIN);
	assert_non_null(strstr(bs_fail_text(), "when the capture has ended"));
	if (!gpu->driver->cuCtxRecordEvent)
		th_assert_status(dv_fence_wait(dev, before), PS_AGAIN);
	th_gpu_end_capture(gpu, capturing);
	th_assert_ok(dv_fence_record_all(dev, &fence));
	th_assert_ok(dv_fence_wait(dev, fence));
	dv_fence_free(dev, before);
	dv_fence_free(dev, fence);
	dv_device_close(dev);
}

static void test_fence_all_beside_blocking_capture_spares_it(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	check_fence_all_beside_capture(gpu);
	th_gpu_exit();
}

static void
test_fence_all_without_context_events_spares_blocking_capture(void **state)
{
	const struct th_gpu *gpu = child_without_context_events();

	(void)state;
	if (!gpu)
		return;
	check_fence_all_beside_capture(gpu);
	th_gpu_exit();
}

/* ---- legacy ---- */

static void test_legacy_memory_travels_as_a_handle(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	unsigned char handle[DV_IPC_HANDLE_BYTES];
	struct dv_device *dev;
	uint64_t address;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	th_assert_ok(dv_legacy_alloc(dev, SEGMENT, &address));
	th_assert_ok(dv_legacy_export(dev, address, handle));
	/* Only another process may open it. */
	th_assert_status(dv_legacy_open(dev, handle, &address), PS_BAD_SEGMENT);
	th_assert_ok(dv_legacy_free(dev, address));
	dv_device_close(dev);
	th_gpu_exit();
}

static void test_legacy_alloc_beside_a_capture_works(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;
	uint64_t address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_assert_ok(dv_legacy_alloc(dev, SEGMENT, &address));
	th_gpu_end_capture(gpu, stream);
	th_assert_ok(dv_legacy_free(dev, address));
	dv_device_close(dev);
	th_gpu_exit();
}

static void give_legacy(const struct th_gpu *gpu, int socket)
{
	unsigned char handle[DV_IPC_HANDLE_BYTES];
	struct dv_device *dev = open_device();
	uint64_t address;

	(void)gpu;
	th_assert_ok(dv_legacy_alloc(dev, SEGMENT, &address));
	th_assert_ok(dv_copy_in(dev, address, "there", 6));
	th_assert_ok(dv_legacy_export(dev, address, handle));
	th_gpu_send_bytes(socket, handle, sizeof(handle));
	th_gpu_await(socket);
	th_assert_ok(dv_legacy_free(dev, address));
}

static void take_legacy(const struct th_gpu *gpu, int socket)
{
	unsigned char handle[DV_IPC_HANDLE_BYTES];
	struct dv_device *dev = open_device();
	uint64_t address;
	char text[6];

	(void)gpu;
	th_gpu_receive_bytes(socket, handle, sizeof(handle));
	th_assert_ok(dv_legacy_open(dev, handle, &address));
	th_assert_ok(dv_copy_out(dev, text, address, sizeof(text)));
	assert_string_equal(text, "there");
	th_assert_ok(dv_legacy_close(dev, address));
	th_gpu_tell(socket);
}

static void test_legacy_memory_is_read_by_another_process(void **state)
{
	(void)state;
	th_gpu_pair(give_legacy, take_legacy);
}

/* ---- failures ---- */

static void test_device_that_is_lost_says_so(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	uint64_t left, total;
	struct dv_device *dev;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	th_sim_lose_device();
	th_assert_status(dv_memory_info(dev, &left, &total), PS_DEVICE_LOST);
	assert_non_null(strstr(bs_fail_text(), "Xid"));
	th_sim_reset();
	dv_device_close(dev);
	th_gpu_exit();
}

/* The status of the first call that fails; PS_OK when none does. */
static enum ps_status use_once(struct dv_device *dev)
{
	uint64_t address = 0;
	uint64_t handle = 0;
	enum ps_status status;

	status = dv_segment_create(dev, SEGMENT, &handle);
	if (status == PS_OK)
		status = dv_window_reserve(dev, SEGMENT, 0, &address);
	if (status == PS_OK)
		status = dv_window_map(dev, address, SEGMENT, handle);
	if (status == PS_OK)
		status = dv_window_set_access(dev, address, SEGMENT, true);
	if (status == PS_OK)
		status = dv_copy_in(dev, address, "x", 1);
	if (status == PS_OK)
		status = dv_synchronize(dev);
	th_sim_fail_nth(NULL, 0, 0);
	/* A copy whose wait failed may be under way. */
	th_assert_ok(dv_synchronize(dev));
	if (address) {
		(void)dv_window_unmap(dev, address, SEGMENT);
		(void)dv_window_free(dev, address, SEGMENT);
	}
	if (handle)
		th_assert_ok(dv_segment_release(dev, handle));
	return status;
}

static void test_device_with_each_call_failing_fails_and_recovers(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	uint64_t before, after, total;
	struct dv_device *dev;
	unsigned int nth;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	th_assert_ok(dv_memory_info(dev, &before, &total));
	for (nth = 1; nth < 20; nth++) {
		th_sim_fail_nth(NULL, nth, CUDA_ERROR_UNKNOWN);
		(void)use_once(dev);
	}
	th_assert_ok(use_once(dev));
	th_assert_ok(dv_memory_info(dev, &after, &total));
	assert_int_equal(before, after);
	dv_device_close(dev);
	th_gpu_exit();
}

static void abandon_in_child(void *arg)
{
	dv_device_abandon(arg);
}

static void test_device_is_abandoned_in_a_forked_child(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct dv_device *dev;

	(void)state;
	if (!gpu)
		return;
	dev = open_device();
	assert_int_equal(th_wait(th_fork(abandon_in_child, dev)), 0);
	th_assert_ok(dv_synchronize(dev));
	dv_device_close(dev);
	dv_device_close(NULL);
	dv_device_abandon(NULL);
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_device_segment_lives_from_create_to_release),
	TH_TEST(test_device_copies_in_and_out),
	TH_TEST(test_device_copy_passes_blocked_streams),
	TH_TEST(test_device_memory_used_up_says_what_is_free),
	TH_TEST(test_device_import_of_no_segment_is_refused),
	TH_TEST(test_device_export_closes_on_exec),
	TH_TEST(test_device_export_at_the_fd_limit_says_so),
	TH_TEST(test_device_window_that_is_taken_is_refused),
	TH_TEST(test_device_keeps_the_callers_context),
	TH_TEST(test_fence_passes_behind_its_streams_work),
	TH_TEST(test_fence_in_steady_state_creates_no_event),
	TH_TEST(test_fence_on_capturing_stream_comes_again),
	TH_TEST(test_fence_beside_a_capture_passes),
	TH_TEST(test_stream_check_tells_of_a_capture_and_spares_it),
	TH_TEST(test_stream_check_of_plain_stream_beside_a_capture_is_ok),
	TH_TEST(test_stream_check_of_legacy_stream_tells_of_blocking),
	TH_TEST(test_fence_all_covers_each_kind_of_stream),
	TH_TEST(test_fence_all_without_context_events_covers_each_kind),
	TH_TEST(test_fence_all_one_wait_serves_those_before_it),
	TH_TEST(test_fence_all_beside_blocking_capture_spares_it),
	TH_TEST(test_fence_all_without_context_events_spares_blocking_capture),
	TH_TEST(test_legacy_memory_travels_as_a_handle),
	TH_TEST(test_legacy_alloc_beside_a_capture_works),
	TH_TEST(test_legacy_memory_is_read_by_another_process),
	TH_TEST(test_device_that_is_lost_says_so),
	TH_TEST(test_device_with_each_call_failing_fails_and_recovers),
	TH_TEST(test_device_is_abandoned_in_a_forked_child),
};

TH_MAIN("device", tests)
