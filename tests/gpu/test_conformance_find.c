/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the project relies on in the driver: how a function is found by
 * cuGetProcAddress(). On a real GPU and on the simulated one.
 */
#include "tests/support/gpu.h"

#include <string.h>

#define LEGACY CU_GET_PROC_ADDRESS_LEGACY_STREAM
#define PER_THREAD CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM

/* The address of a function of the table. */
#define ADDRESS(driver, name) address_of((const char *)&(driver)->name)

static void *address_of(const char *member)
{
	void *address;

	memcpy(&address, member, sizeof(address));
	return address;
}

/* The table alone: none of this needs cuInit(). */
static const struct dv_driver *find_driver(void)
{
	const struct dv_driver *driver;

	th_gpu_need();
	th_assert_ok(dv_driver_get(&driver));
	return driver;
}

static void *find(const struct dv_driver *driver, const char *name, int version,
		  cuuint64_t flags)
{
	CUdriverProcAddressQueryResult status =
		CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
	void *address = NULL;

	th_cu(driver->cuGetProcAddress_v2(name, &address, version, flags,
					  &status));
	assert_int_equal(status, CU_GET_PROC_ADDRESS_SUCCESS);
	assert_non_null(address);
	return address;
}

static void assert_none(const struct dv_driver *driver, const char *name,
			int version, CUdriverProcAddressQueryResult expected)
{
	CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SUCCESS;
	void *address = &status;

	th_cu(driver->cuGetProcAddress_v2(name, &address, version, 0, &status));
	assert_int_equal(status, expected);
	assert_null(address);
}

static void test_find_version_picks_the_abi(void **state)
{
	const struct dv_driver *driver = find_driver();

	(void)state;
	assert_ptr_equal(find(driver, "cuCtxCreate", 11030, 0),
			 ADDRESS(driver, cuCtxCreate_v2));
	assert_ptr_equal(find(driver, "cuCtxCreate", 11040, 0),
			 ADDRESS(driver, cuCtxCreate_v3));
	assert_ptr_equal(find(driver, "cuMemAlloc", 3020, 0),
			 ADDRESS(driver, cuMemAlloc_v2));
	assert_ptr_equal(find(driver, "cuMemAlloc", 12000, 0),
			 ADDRESS(driver, cuMemAlloc_v2));
}

static void test_find_flags_pick_the_stream(void **state)
{
	const struct dv_driver *driver = find_driver();
	void *plain = ADDRESS(driver, cuMemAllocAsync);
	void *own = ADDRESS(driver, cuMemAllocAsync_ptsz);

	(void)state;
	assert_ptr_not_equal(plain, own);
	assert_ptr_equal(find(driver, "cuMemAllocAsync", 12000, 0), plain);
	assert_ptr_equal(find(driver, "cuMemAllocAsync", 12000, LEGACY), plain);
	assert_ptr_equal(find(driver, "cuMemAllocAsync", 12000, PER_THREAD),
			 own);
}

static void test_find_per_thread_falls_back_to_the_plain_one(void **state)
{
	const struct dv_driver *driver = find_driver();

	(void)state;
	assert_ptr_equal(find(driver, "cuMemAlloc", 12000, PER_THREAD),
			 ADDRESS(driver, cuMemAlloc_v2));
}

static void test_find_finds_itself(void **state)
{
	const struct dv_driver *driver = find_driver();

	(void)state;
	assert_ptr_equal(find(driver, "cuGetProcAddress", 11030, 0),
			 ADDRESS(driver, cuGetProcAddress));
	assert_ptr_equal(find(driver, "cuGetProcAddress", 12000, 0),
			 ADDRESS(driver, cuGetProcAddress_v2));
}

static void test_find_of_unknown_name_succeeds_with_null(void **state)
{
	const struct dv_driver *driver = find_driver();

	(void)state;
	assert_none(driver, "cuMemAllocSideways", 12000,
		    CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
}

static void test_find_of_name_too_new_succeeds_with_null(void **state)
{
	const struct dv_driver *driver = find_driver();

	(void)state;
	assert_none(driver, "cuMemAllocAsync", 11010,
		    CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
}

static void test_find_without_place_for_status_works(void **state)
{
	const struct dv_driver *driver = find_driver();
	void *address = NULL;

	(void)state;
	th_cu(driver->cuGetProcAddress_v2("cuMemFree", &address, 12000, 0,
					  NULL));
	assert_ptr_equal(address, ADDRESS(driver, cuMemFree_v2));
	th_cu(driver->cuGetProcAddress_v2("cuNo", &address, 12000, 0, NULL));
	assert_null(address);
}

static void test_find_beyond_the_drivers_version_is_refused(void **state)
{
	const struct dv_driver *driver = find_driver();
	void *address = NULL;

	(void)state;
	th_cu_is(driver->cuGetProcAddress_v2("cuMemFree", &address,
					     driver->version + 1000, 0, NULL),
		 CUDA_ERROR_INVALID_VALUE);
}

static void test_find_of_cuda_11_fails_for_unknown_name(void **state)
{
	const struct dv_driver *driver = find_driver();
	void *address = NULL;

	(void)state;
	th_cu_is(driver->cuGetProcAddress("cuNo", &address, 11030, 0),
		 CUDA_ERROR_NOT_FOUND);
	th_cu(driver->cuGetProcAddress("cuMemFree", &address, 11030, 0));
	assert_ptr_equal(address, ADDRESS(driver, cuMemFree_v2));
}

static const struct th_test tests[] = {
	TH_TEST(test_find_version_picks_the_abi),
	TH_TEST(test_find_flags_pick_the_stream),
	TH_TEST(test_find_per_thread_falls_back_to_the_plain_one),
	TH_TEST(test_find_finds_itself),
	TH_TEST(test_find_of_unknown_name_succeeds_with_null),
	TH_TEST(test_find_of_name_too_new_succeeds_with_null),
	TH_TEST(test_find_without_place_for_status_works),
	TH_TEST(test_find_beyond_the_drivers_version_is_refused),
	TH_TEST(test_find_of_cuda_11_fails_for_unknown_name),
};

TH_MAIN("conformance_find", tests)
