/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What a GPU is like before anything is made on it, and fills on streams of
 * our own: device/traits.c and device/stream.c. */
#include "device/device.h"

#include "base/status.h"
#include "tests/support/gpu.h"
#include "tests/support/sim.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT TH_SEGMENT_BYTES

static void check_traits(void *arg)
{
	struct dv_traits traits;
	int count = 0;

	(void)arg;
	th_assert_ok(dv_traits_get(NULL, &traits));
	assert_int_equal(strncmp(traits.uuid, "GPU-", 4), 0);
	assert_string_equal(traits.name, "Simulated GPU");
	assert_int_equal(traits.driver_version, dv_driver_version());
	assert_int_equal(traits.capability, 70);
	assert_true(traits.total > 0);
	assert_int_equal(traits.compute_mode, DV_COMPUTE_DEFAULT);
	assert_true(traits.has_vmm && traits.has_posix_fds &&
		    traits.has_value_waits);
	assert_false(traits.is_mig || traits.is_mps);
	assert_int_equal(th_sim_calls("cuDevicePrimaryCtxRetain"), 0);
	th_assert_ok(dv_device_count(&count));
	assert_int_equal(count, 1);
	th_assert_status(dv_traits_get("1", &traits), PS_NO_DEVICE);
}

static void test_traits_are_seen_without_a_context(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(check_traits, NULL)), 0);
}

static void check_odd_gpu(void *arg)
{
	struct dv_traits traits;

	(void)arg;
	setenv("POOLSWITCH_SIM_COMPUTE_MODE", "2", 1);
	setenv("POOLSWITCH_SIM_MPS", "1", 1);
	setenv("POOLSWITCH_SIM_VMM", "0", 1);
	setenv("POOLSWITCH_SIM_NAME", "NVIDIA H200 MIG 1g.18gb", 1);
	setenv("POOLSWITCH_SIM_CAPABILITY", "61", 1);
	th_assert_ok(dv_traits_get("0", &traits));
	assert_int_equal(traits.compute_mode, DV_COMPUTE_PROHIBITED);
	assert_true(traits.is_mps && traits.is_mig);
	assert_false(traits.has_vmm);
	assert_int_equal(traits.capability, 61);
}

static void test_traits_of_a_gpu_that_no_pool_can_use_are_seen(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(check_odd_gpu, NULL)), 0);
}

static void check_unknown_attributes(void *arg)
{
	struct dv_traits traits;

	(void)arg;
	th_assert_ok(dv_traits_get(NULL, &traits));
	th_sim_fail_nth("cuDeviceGetAttribute", 4, CUDA_ERROR_INVALID_VALUE);
	th_assert_ok(dv_traits_get(NULL, &traits));
	assert_false(traits.is_mps);
	th_sim_fail_nth("cuDeviceTotalMem_v2", 1, CUDA_ERROR_UNKNOWN);
	th_assert_status(dv_traits_get(NULL, &traits), PS_DRIVER);
}

static void test_traits_that_the_driver_does_not_know_are_no(void **state)
{
	(void)state;
	setenv("POOLSWITCH_SIM_MPS", "1", 1);
	assert_int_equal(th_wait(th_fork(check_unknown_attributes, NULL)), 0);
	unsetenv("POOLSWITCH_SIM_MPS");
}

/* ---- the driver's files ---- */

static bool has_open(const char *prefix)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	bool found = false;
	char target[512];
	char path[300];
	ssize_t length;

	while ((entry = readdir(folder)) != NULL) {
		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		target[length < 0 ? 0 : length] = '\0';
		found |= strncmp(target, prefix, strlen(prefix)) == 0;
	}
	closedir(folder);
	return found;
}

static void check_files(void *arg)
{
	struct dv_traits traits;

	(void)arg;
	assert_string_equal(dv_file_prefix(), "/dev/nvidia");
	th_assert_ok(dv_traits_get(NULL, &traits));
	assert_string_equal(dv_file_prefix(), getenv("POOLSWITCH_SIM_DIR"));
	assert_true(has_open(dv_file_prefix()));
}

static void test_traits_prefix_is_that_of_files_held_open(void **state)
{
	(void)state;
	assert_false(has_open(getenv("POOLSWITCH_SIM_DIR")));
	assert_int_equal(th_wait(th_fork(check_files, NULL)), 0);
}

/* ---- fills ---- */

struct filled {
	struct dv_device *dev;
	uint64_t address;
	void *stream;
};

static struct filled open_filled(void)
{
	struct filled filled;
	uint64_t handle;

	th_assert_ok(dv_device_open(NULL, &filled.dev));
	th_assert_ok(dv_segment_create(filled.dev, SEGMENT, &handle));
	th_assert_ok(
		dv_window_reserve(filled.dev, SEGMENT, 0, &filled.address));
	th_assert_ok(
		dv_window_map(filled.dev, filled.address, SEGMENT, handle));
	th_assert_ok(dv_window_set_access(filled.dev, filled.address, SEGMENT,
					  true));
	th_assert_ok(dv_stream_create(filled.dev, &filled.stream));
	return filled;
}

static void wait_for(const struct filled *filled)
{
	struct dv_fence *fence;

	th_assert_ok(dv_fence_record(filled->dev, filled->stream, &fence));
	th_assert_ok(dv_fence_wait(filled->dev, fence));
	dv_fence_free(filled->dev, fence);
}

static uint32_t word_at(const struct filled *filled, uint64_t offset)
{
	uint32_t word;

	th_assert_ok(dv_copy_out(filled->dev, &word, filled->address + offset,
				 sizeof(word)));
	return word;
}

static void test_fill_writes_its_range_and_no_more(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct filled filled;

	(void)state;
	if (!gpu)
		return;
	filled = open_filled();
	th_assert_ok(dv_fill(filled.dev, filled.address + 8, 0x12345678, 4096,
			     filled.stream));
	wait_for(&filled);
	assert_int_equal(word_at(&filled, 4), 0);
	assert_int_equal(word_at(&filled, 8), 0x12345678);
	assert_int_equal(word_at(&filled, 4100), 0x12345678);
	assert_int_equal(word_at(&filled, 4104), 0);
	dv_stream_destroy(filled.dev, filled.stream);
	dv_stream_destroy(filled.dev, NULL);
	dv_device_close(filled.dev);
	th_gpu_exit();
}

static void test_fill_passes_blocked_streams(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct filled filled;

	(void)state;
	if (!gpu)
		return;
	filled = open_filled();
	th_gpu_block(gpu, NULL);
	th_assert_ok(
		dv_fill(filled.dev, filled.address, 1, 4096, filled.stream));
	wait_for(&filled);
	th_gpu_unblock(gpu);
	dv_stream_destroy(filled.dev, filled.stream);
	dv_device_close(filled.dev);
	th_gpu_exit();
}

static void test_fill_that_the_driver_refuses_says_where(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct filled filled;

	(void)state;
	if (!gpu)
		return;
	filled = open_filled();
	th_sim_fail_nth("cuMemsetD32Async", 1, CUDA_ERROR_UNKNOWN);
	th_assert_status(
		dv_fill(filled.dev, filled.address, 1, 4096, filled.stream),
		PS_DRIVER);
	assert_non_null(strstr(bs_fail_text(), "filling 4096 bytes"));
	dv_stream_destroy(filled.dev, filled.stream);
	th_sim_fail_nth("cuStreamCreate", 1, CUDA_ERROR_UNKNOWN);
	th_assert_status(dv_stream_create(filled.dev, &filled.stream),
			 PS_DRIVER);
	dv_device_close(filled.dev);
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_traits_are_seen_without_a_context),
	TH_TEST(test_traits_of_a_gpu_that_no_pool_can_use_are_seen),
	TH_TEST(test_traits_that_the_driver_does_not_know_are_no),
	TH_TEST(test_traits_prefix_is_that_of_files_held_open),
	TH_TEST(test_fill_writes_its_range_and_no_more),
	TH_TEST(test_fill_passes_blocked_streams),
	TH_TEST(test_fill_that_the_driver_refuses_says_where),
};

TH_MAIN("traits", tests)
