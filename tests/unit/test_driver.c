/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Finding the driver and a GPU, and saying what is wrong with them. The
 * driver is loaded once a process, so each test does it in a child.
 */
#include "base/status.h"
#include "device/device.h"
#include "device/driver.h"
#include "tests/support/harness.h"
#include "tests/support/sim.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the child sets in its environment before it opens the GPU, and what
 * must come of that. */
struct attempt {
	const char *name;  /* NULL: nothing */
	const char *value; /* NULL: not set */
	const char *gpu;
	enum ps_status expected;
	const char *told; /* part of the error's text; NULL: none */
};

static void make_attempt(void *arg)
{
	const struct attempt *attempt = arg;
	struct dv_device *dev = NULL;

	if (attempt->value)
		setenv(attempt->name, attempt->value, 1);
	else if (attempt->name)
		unsetenv(attempt->name);
	th_assert_status(dv_device_open(attempt->gpu, &dev), attempt->expected);
	if (attempt->told && !strstr(bs_fail_text(), attempt->told))
		fail_msg("\"%s\" does not say \"%s\"", bs_fail_text(),
			 attempt->told);
	dv_device_close(dev);
}

static void try(struct attempt attempt)
{
	assert_int_equal(th_wait(th_fork(make_attempt, &attempt)), 0);
}

/* ---- which driver ---- */

static void test_driver_of_unknown_kind_is_refused(void **state)
{
	(void)state;
	try((struct attempt){ "POOLSWITCH_DRIVER", "toy", NULL, PS_NO_DRIVER,
			      "\"toy\"" });
}

static void test_driver_sim_without_its_library_is_named(void **state)
{
	(void)state;
	try((struct attempt){ "POOLSWITCH_SIM_LIBRARY", "/no/libcuda.so.1",
			      NULL, PS_NO_DRIVER, "/no/libcuda.so.1" });
}

static void test_driver_sim_is_not_something_else(void **state)
{
	(void)state;
	try((struct attempt){ "POOLSWITCH_SIM_LIBRARY", "libm.so.6", NULL,
			      PS_NO_DRIVER, "asks for the other" });
}

static void ask_for_real_beside_sim(void *arg)
{
	/* From here on the loader knows the simulated one by this name. */
	void *library = dlopen(getenv("POOLSWITCH_SIM_LIBRARY"), RTLD_NOW);

	assert_non_null(library);
	make_attempt(arg);
}

static void test_driver_real_is_never_the_simulated_one(void **state)
{
	struct attempt attempt = { "POOLSWITCH_DRIVER", NULL, NULL,
				   PS_NO_DRIVER, "the simulated driver" };

	(void)state;
	assert_int_equal(th_wait(th_fork(ask_for_real_beside_sim, &attempt)),
			 0);
}

static void test_driver_older_than_525_is_refused(void **state)
{
	(void)state;
	try((struct attempt){ "POOLSWITCH_SIM_VERSION", "11080", NULL,
			      PS_UNSUPPORTED, "11.8" });
}

static int wsl_device; /* whether /dev/dxg is there */

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);

int __wrap_access(const char *path, int mode)
{
	if (wsl_device && strcmp(path, "/dev/dxg") == 0)
		return 0;
	return __real_access(path, mode);
}

static void test_driver_under_wsl2_is_refused(void **state)
{
	(void)state;
	wsl_device = 1;
	try((struct attempt){ "POOLSWITCH_DRIVER", "real", NULL, PS_UNSUPPORTED,
			      "WSL2" });
	wsl_device = 0;
}

static void check_before_and_after(void *arg)
{
	struct dv_device *dev;

	(void)arg;
	assert_int_equal(dv_driver_version(), 0);
	assert_false(dv_is_simulated());
	th_assert_ok(dv_device_open(NULL, &dev));
	assert_int_equal(dv_driver_version(), 12050);
	assert_true(dv_is_simulated());
	dv_device_close(dev);
}

static void test_driver_version_is_known_after_the_first_open(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(check_before_and_after, NULL)), 0);
}

static void try_again(void *arg)
{
	char *library = strdup(getenv("POOLSWITCH_SIM_LIBRARY"));
	struct dv_device *dev;

	(void)arg;
	setenv("POOLSWITCH_SIM_LIBRARY", "/no/libcuda.so.1", 1);
	th_assert_status(dv_device_open(NULL, &dev), PS_NO_DRIVER);
	setenv("POOLSWITCH_SIM_LIBRARY", library, 1);
	th_assert_ok(dv_device_open(NULL, &dev));
	dv_device_close(dev);
	free(library);
}

static void test_driver_that_failed_to_load_can_be_tried_again(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(try_again, NULL)), 0);
}

/* ---- one that somebody else opened ---- */

static void use_opened(void *arg)
{
	void *library = dlopen(getenv("POOLSWITCH_SIM_LIBRARY"), RTLD_NOW);
	const struct dv_driver *driver;

	(void)arg;
	assert_non_null(library);
	setenv("POOLSWITCH_DRIVER", "real", 1);
	th_assert_ok(dv_driver_use(library, dlsym));
	driver = dv_driver_loaded();
	assert_non_null(driver);
	assert_true(driver->simulated);
	assert_int_equal(driver->version, 12050);
	assert_ptr_equal(driver->cuInit, dlsym(library, "cuInit"));
	th_assert_ok(dv_driver_use(NULL, NULL));
	th_assert_ok(dv_driver_get(&driver));
	assert_ptr_equal(driver, dv_driver_loaded());
}

static void test_driver_opened_elsewhere_is_everybodys(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(use_opened, NULL)), 0);
}

static void *find_all_but_one(void *library, const char *name)
{
	return strcmp(name, "cuMemCreate") == 0 ? NULL : dlsym(library, name);
}

static void use_incomplete(void *arg)
{
	void *library = dlopen(getenv("POOLSWITCH_SIM_LIBRARY"), RTLD_NOW);

	(void)arg;
	th_assert_status(dv_driver_use(library, find_all_but_one),
			 PS_UNSUPPORTED);
	assert_non_null(strstr(bs_fail_text(), "cuMemCreate"));
	assert_null(dv_driver_loaded());
	th_assert_ok(dv_driver_use(library, dlsym));
}

static void test_driver_that_lacks_a_function_is_refused(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(use_incomplete, NULL)), 0);
}

#define THREADS 8

static void *use_in_thread(void *library)
{
	if (dv_driver_use(library, dlsym) != PS_OK)
		return NULL;
	/* Which table it was is fixed from here on. */
	return (void *)dv_driver_loaded();
}

static void use_at_once(void *arg)
{
	void *library = dlopen(getenv("POOLSWITCH_SIM_LIBRARY"), RTLD_NOW);
	pthread_t threads[THREADS];
	void *table;
	int i;

	(void)arg;
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						use_in_thread, library),
				 0);
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &table);
		assert_ptr_equal(table, dv_driver_loaded());
	}
	assert_non_null(table);
}

static void test_driver_used_by_threads_at_once_is_one(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(use_at_once, NULL)), 0);
}

/* ---- which GPU ---- */

static void test_open_default_is_the_first_gpu(void **state)
{
	(void)state;
	try((struct attempt){ .gpu = NULL, .expected = PS_OK });
	try((struct attempt){ .gpu = "0", .expected = PS_OK });
}

static void test_open_of_missing_index_is_no_device(void **state)
{
	(void)state;
	try((struct attempt){
		.gpu = "7", .expected = PS_NO_DEVICE, .told = "CUDA shows 1" });
}

static void test_open_of_garbage_is_no_device(void **state)
{
	(void)state;
	try((struct attempt){ .gpu = "0x", .expected = PS_NO_DEVICE });
	try((struct attempt){ .gpu = "", .expected = PS_NO_DEVICE });
	try((struct attempt){ .gpu = "-1", .expected = PS_NO_DEVICE });
	try((struct attempt){ .gpu = "99999999999999999999",
			      .expected = PS_NO_DEVICE });
}

static void test_open_of_unknown_uuid_is_no_device(void **state)
{
	(void)state;
	try((struct attempt){ .gpu = "GPU-00000000-0000-0000-0000-000000000000",
			      .expected = PS_NO_DEVICE,
			      .told = "nvidia-smi -L" });
}

static void open_by_own_uuid(void *arg)
{
	char uuid[DV_UUID_TEXT];
	struct dv_device *dev;

	(void)arg;
	th_assert_ok(dv_device_open("0", &dev));
	snprintf(uuid, sizeof(uuid), "%s", dv_device_uuid(dev));
	assert_string_equal(dv_device_name(dev), "Simulated GPU");
	dv_device_close(dev);
	th_assert_ok(dv_device_open(uuid, &dev));
	assert_string_equal(dv_device_uuid(dev), uuid);
	dv_device_close(dev);
}

static void test_open_by_uuid_finds_it(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(open_by_own_uuid, NULL)), 0);
}

static void test_open_of_mig_instance_is_refused(void **state)
{
	(void)state;
	try((struct attempt){ .gpu = "MIG-00000000-0000-0000-0000-000000000000",
			      .expected = PS_UNSUPPORTED,
			      .told = "MIG" });
	try((struct attempt){ "POOLSWITCH_SIM_NAME", "NVIDIA H200 MIG 1g.18gb",
			      "0", PS_UNSUPPORTED, "nvidia-smi -mig 0" });
}

static void test_open_of_gpu_before_volta_is_refused(void **state)
{
	(void)state;
	try((struct attempt){ "POOLSWITCH_SIM_CAPABILITY", "61", NULL,
			      PS_UNSUPPORTED, "6.1" });
}

static void test_open_of_gpu_without_vmm_is_refused(void **state)
{
	(void)state;
	try((struct attempt){ "POOLSWITCH_SIM_VMM", "0", NULL, PS_UNSUPPORTED,
			      "chosen addresses" });
}

/* ---- failures under way ---- */

static void open_with_each_failure(void *arg)
{
	enum ps_status status;
	struct dv_device *dev;
	unsigned int nth = 0;

	(void)arg;
	do {
		th_sim_fail_nth(NULL, ++nth, 999);
		status = dv_device_open(NULL, &dev);
		assert_true(status == PS_OK || status == PS_DRIVER);
		assert_true(nth < 100);
	} while (status != PS_OK);
	assert_true(nth > 10);
	th_sim_fail_nth(NULL, 0, 0);
	dv_device_close(dev);
}

static void test_open_with_each_call_failing_fails_and_recovers(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(open_with_each_failure, NULL)), 0);
}

static const struct th_test tests[] = {
	TH_TEST(test_driver_of_unknown_kind_is_refused),
	TH_TEST(test_driver_sim_without_its_library_is_named),
	TH_TEST(test_driver_sim_is_not_something_else),
	TH_TEST(test_driver_real_is_never_the_simulated_one),
	TH_TEST(test_driver_older_than_525_is_refused),
	TH_TEST(test_driver_under_wsl2_is_refused),
	TH_TEST(test_driver_version_is_known_after_the_first_open),
	TH_TEST(test_driver_that_failed_to_load_can_be_tried_again),
	TH_TEST(test_driver_opened_elsewhere_is_everybodys),
	TH_TEST(test_driver_that_lacks_a_function_is_refused),
	TH_TEST(test_driver_used_by_threads_at_once_is_one),
	TH_TEST(test_open_default_is_the_first_gpu),
	TH_TEST(test_open_of_missing_index_is_no_device),
	TH_TEST(test_open_of_garbage_is_no_device),
	TH_TEST(test_open_of_unknown_uuid_is_no_device),
	TH_TEST(test_open_by_uuid_finds_it),
	TH_TEST(test_open_of_mig_instance_is_refused),
	TH_TEST(test_open_of_gpu_before_volta_is_refused),
	TH_TEST(test_open_of_gpu_without_vmm_is_refused),
	TH_TEST(test_open_with_each_call_failing_fails_and_recovers),
};

TH_MAIN("driver", tests)
