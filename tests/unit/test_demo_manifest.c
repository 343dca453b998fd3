/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What a worker of the demo accepts as a manifest. */
#include <string.h>

#include "demo/manifest.h"
#include "tests/support/harness.h"

#define REGION_OFFSET 4096u
#define REGION_SIZE 65536u

static struct md_tensor tensors[2] = {
	{ "w", MD_F32, 2, { 4, 8 }, 0, 128 },
	{ "b", MD_F32, 1, { 8 }, 256, 32 },
};
static struct md_layout layout = { tensors, 2, 512, 0 };
static struct dm_manifest manifest;

static int set_up(void **state)
{
	(void)state;
	layout.hash = md_layout_hash(tensors, 2);
	return dm_manifest_make(0, REGION_OFFSET, &layout, &manifest) != PS_OK;
}

static void check(enum ps_status expected)
{
	th_assert_status(dm_manifest_check(&manifest, &layout, REGION_OFFSET,
					   REGION_SIZE),
			 expected);
}

static void test_demo_manifest_as_made_is_accepted(void **state)
{
	(void)state;
	check(PS_OK);
	assert_int_equal(dm_manifest_find(&manifest, "b")->offset, 256);
	assert_null(dm_manifest_find(&manifest, "c"));
}

static void test_demo_manifest_of_another_layout_is_refused(void **state)
{
	(void)state;
	layout.hash++;
	check(PS_REFUSED);
}

static void test_demo_manifest_entry_changed_is_refused(void **state)
{
	(void)state;
	manifest.entries[1].offset = 128;
	check(PS_REFUSED);
}

static void test_demo_manifest_hash_changed_is_refused(void **state)
{
	(void)state;
	manifest.hash++;
	check(PS_REFUSED);
}

static void test_demo_manifest_entry_missing_is_refused(void **state)
{
	(void)state;
	manifest.count = 1;
	check(PS_REFUSED);
}

static void test_demo_manifest_count_beyond_limit_is_refused(void **state)
{
	(void)state;
	manifest.count = DM_MAX_TENSORS + 1;
	check(PS_REFUSED);
}

static void test_demo_manifest_name_without_end_is_refused(void **state)
{
	(void)state;
	memset(manifest.entries[0].name, 'w', sizeof(manifest.entries[0].name));
	check(PS_REFUSED);
}

static void test_demo_manifest_rank_beyond_limit_is_refused(void **state)
{
	(void)state;
	manifest.entries[0].rank = 9;
	check(PS_REFUSED);
}

static void test_demo_manifest_unknown_dtype_is_refused(void **state)
{
	(void)state;
	manifest.entries[0].dtype = MD_DTYPE_COUNT;
	check(PS_REFUSED);
}

static void test_demo_manifest_entry_beyond_model_is_refused(void **state)
{
	(void)state;
	manifest.bytes = 287;
	check(PS_REFUSED);
}

static void test_demo_manifest_entry_that_wraps_is_refused(void **state)
{
	(void)state;
	manifest.entries[1].offset = UINT64_MAX;
	check(PS_REFUSED);
}

static void test_demo_manifest_before_region_is_refused(void **state)
{
	(void)state;
	manifest.pool_offset = REGION_OFFSET - 1;
	check(PS_REFUSED);
}

static void test_demo_manifest_behind_region_is_refused(void **state)
{
	(void)state;
	manifest.pool_offset = REGION_OFFSET + REGION_SIZE - 511;
	check(PS_REFUSED);
}

static void test_demo_manifest_place_that_wraps_is_refused(void **state)
{
	(void)state;
	manifest.pool_offset = UINT64_MAX;
	check(PS_REFUSED);
}

static void test_demo_manifest_of_too_many_tensors_is_unsupported(void **state)
{
	struct md_layout large = { NULL, DM_MAX_TENSORS + 1, 0, 0 };

	(void)state;
	th_assert_status(dm_manifest_make(0, 0, &large, &manifest),
			 PS_UNSUPPORTED);
}

static void test_demo_manifest_of_long_name_is_unsupported(void **state)
{
	char name[sizeof(manifest.entries[0].name) + 1];
	struct md_tensor tensor = { .name = name };
	struct md_layout named = { &tensor, 1, 0, 0 };

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	th_assert_status(dm_manifest_make(0, 0, &named, &manifest),
			 PS_UNSUPPORTED);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_demo_manifest_as_made_is_accepted, set_up, NULL),
	TH_TEST_SETUP(test_demo_manifest_of_another_layout_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_entry_changed_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_hash_changed_is_refused, set_up, NULL),
	TH_TEST_SETUP(test_demo_manifest_entry_missing_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_count_beyond_limit_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_name_without_end_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_rank_beyond_limit_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_unknown_dtype_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_entry_beyond_model_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_entry_that_wraps_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_before_region_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_behind_region_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_place_that_wraps_is_refused, set_up,
		      NULL),
	TH_TEST_SETUP(test_demo_manifest_of_too_many_tensors_is_unsupported,
		      set_up, NULL),
	TH_TEST_SETUP(test_demo_manifest_of_long_name_is_unsupported, set_up,
		      NULL),
};

TH_MAIN("demo_manifest", tests)
