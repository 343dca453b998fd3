/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What becomes of a request on a GPU of a given size: the original's 16 GB
 * cards, an H200, and numbers that do not fit each other. */
#include "tests/support/harness.h"

#include "lib/config.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)
#define GRANULARITY (2 * MIB)

static int open_config(void **state)
{
	struct ps_pool_config *config;

	th_assert_ok(ps_pool_config_new(&config));
	*state = config;
	return 0;
}

static int close_config(void **state)
{
	ps_pool_config_free(*state);
	return 0;
}

static struct ip_layout plan(const struct ps_pool_config *config, uint64_t free)
{
	struct ip_layout layout;

	th_assert_ok(ip_layout_plan(lb_config_wish(config), free, GRANULARITY,
				    &layout));
	return layout;
}

static void refuse(const struct ps_pool_config *config, uint64_t free,
		   enum ps_status expected)
{
	struct ip_layout layout;

	th_assert_status(ip_layout_plan(lb_config_wish(config), free,
					GRANULARITY, &layout),
			 expected);
}

/* ---- defaults ---- */

static void test_plan_of_16_gib_leaves_an_eighth(void **state)
{
	struct ip_layout layout = plan(NULL, 16 * GIB);

	(void)state;
	assert_int_equal(layout.segments * layout.segment_size, 14 * GIB);
	assert_int_equal(layout.segment_size, 16 * MIB);
}

static void test_plan_of_139_gib_leaves_two(void **state)
{
	struct ip_layout layout = plan(NULL, 139 * GIB);

	(void)state;
	assert_int_equal(layout.segments * layout.segment_size, 137 * GIB);
	assert_int_equal(layout.segment_size, 256 * MIB);
}

static void test_plan_gives_a_quarter_to_parameters(void **state)
{
	(void)state;
	assert_int_equal(plan(NULL, 16 * GIB).parameter_size, 7 * GIB / 2);
}

static void test_plan_has_at_most_1024_segments(void **state)
{
	(void)state;
	for (uint64_t free = GIB; free < 1024 * GIB; free = free * 9 / 8) {
		struct ip_layout layout = plan(NULL, free);

		assert_in_range(layout.segments, 1, 1024);
		assert_true(layout.segment_size == GRANULARITY ||
			    layout.segments > 511);
	}
}

/* ---- what was asked for ---- */

static void test_plan_rounds_the_size_down(void **state)
{
	ps_pool_config_set_size(*state, 100 * MIB + 1);
	ps_pool_config_set_segment_size(*state, 8 * MIB);
	assert_int_equal(plan(*state, GIB).segments, 12);
}

static void test_plan_rounds_parameters_up(void **state)
{
	ps_pool_config_set_size(*state, 64 * MIB);
	ps_pool_config_set_parameter_size(*state, 1);
	assert_int_equal(plan(*state, GIB).parameter_size, 2 * MIB);
}

static void test_plan_parameters_may_be_nothing_or_all(void **state)
{
	ps_pool_config_set_size(*state, 64 * MIB);
	ps_pool_config_set_parameter_size(*state, 0);
	assert_int_equal(plan(*state, GIB).parameter_size, 0);
	ps_pool_config_set_parameter_size(*state, 64 * MIB);
	assert_int_equal(plan(*state, GIB).parameter_size, 64 * MIB);
}

static void test_plan_takes_the_headroom_that_was_set(void **state)
{
	struct ip_layout layout;

	ps_pool_config_set_headroom(*state, 0);
	layout = plan(*state, 16 * GIB);
	assert_int_equal(layout.segments * layout.segment_size, 16 * GIB);
}

static void test_plan_of_a_legacy_pool_has_small_steps(void **state)
{
	ps_pool_config_set_mode(*state, PS_SHARE_LEGACY_IPC);
	assert_int_equal(plan(*state, 16 * GIB).segment_size, 2 * MIB);
	assert_int_equal(plan(*state, 139 * GIB).segment_size, 4 * MIB);
}

/* ---- what does not fit ---- */

static void test_plan_of_more_than_is_free_is_refused(void **state)
{
	ps_pool_config_set_size(*state, 17 * GIB);
	refuse(*state, 16 * GIB, PS_DEVICE_MEMORY);
}

static void test_plan_with_nothing_but_headroom_is_refused(void **state)
{
	ps_pool_config_set_headroom(*state, 16 * GIB);
	refuse(*state, 16 * GIB, PS_DEVICE_MEMORY);
	refuse(NULL, 0, PS_DEVICE_MEMORY);
	refuse(NULL, MIB, PS_DEVICE_MEMORY);
}

static void test_plan_of_less_than_a_segment_is_refused(void **state)
{
	ps_pool_config_set_size(*state, MIB);
	refuse(*state, 16 * GIB, PS_INVALID_ARGUMENT);
}

static void test_plan_with_a_bad_segment_size_is_refused(void **state)
{
	ps_pool_config_set_size(*state, GIB);
	ps_pool_config_set_segment_size(*state, 3 * MIB);
	refuse(*state, 16 * GIB, PS_INVALID_ARGUMENT);
	ps_pool_config_set_segment_size(*state, MIB);
	refuse(*state, 16 * GIB, PS_INVALID_ARGUMENT);
	ps_pool_config_set_segment_size(*state, UINT64_MAX);
	refuse(*state, 16 * GIB, PS_INVALID_ARGUMENT);
}

static void test_plan_of_too_many_segments_is_refused(void **state)
{
	ps_pool_config_set_segment_size(*state, 2 * MIB);
	refuse(*state, 200 * GIB, PS_INVALID_ARGUMENT);
}

static void test_plan_of_too_large_parameters_is_refused(void **state)
{
	ps_pool_config_set_size(*state, 64 * MIB);
	ps_pool_config_set_parameter_size(*state, 65 * MIB);
	refuse(*state, GIB, PS_INVALID_ARGUMENT);
	ps_pool_config_set_parameter_size(*state, UINT64_MAX);
	refuse(*state, GIB, PS_INVALID_ARGUMENT);
}

static void test_plan_of_an_unknown_mode_is_refused(void **state)
{
	ps_pool_config_set_mode(*state, (enum ps_share_mode)7);
	refuse(*state, GIB, PS_INVALID_ARGUMENT);
}

/* ---- the GPU's name ---- */

static void test_gpu_by_number_or_uuid_is_taken(void **state)
{
	const char *uuid = "GPU-01234567-89ab-cdef-0123-456789ABCDEF";

	th_assert_ok(ps_pool_config_set_gpu(*state, "1"));
	th_assert_ok(ps_pool_config_set_gpu(*state, uuid));
	th_assert_ok(ps_pool_config_set_gpu(*state, NULL));
}

static void test_gpu_of_another_form_is_refused(void **state)
{
	static const char *const bad[] = {
		"",    "-1",   "1a",
		" 1",  "GPU",  "GPU-01234567-89ab-cdef-0123-456789abcdeg",
		"1 ",  "1234", "GPU-01234567-89ab-cdef-0123-456789abcdef0",
		"MIG", "cuda", "gpu-01234567-89ab-cdef-0123-456789abcdef",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		th_assert_status(ps_pool_config_set_gpu(*state, bad[i]),
				 PS_INVALID_ARGUMENT);
}

static const struct th_test tests[] = {
#define CONFIG_TEST(fn) TH_TEST_SETUP(fn, open_config, close_config)
	TH_TEST(test_plan_of_16_gib_leaves_an_eighth),
	TH_TEST(test_plan_of_139_gib_leaves_two),
	TH_TEST(test_plan_gives_a_quarter_to_parameters),
	TH_TEST(test_plan_has_at_most_1024_segments),
	CONFIG_TEST(test_plan_rounds_the_size_down),
	CONFIG_TEST(test_plan_rounds_parameters_up),
	CONFIG_TEST(test_plan_parameters_may_be_nothing_or_all),
	CONFIG_TEST(test_plan_takes_the_headroom_that_was_set),
	CONFIG_TEST(test_plan_of_a_legacy_pool_has_small_steps),
	CONFIG_TEST(test_plan_of_more_than_is_free_is_refused),
	CONFIG_TEST(test_plan_with_nothing_but_headroom_is_refused),
	CONFIG_TEST(test_plan_of_less_than_a_segment_is_refused),
	CONFIG_TEST(test_plan_with_a_bad_segment_size_is_refused),
	CONFIG_TEST(test_plan_of_too_many_segments_is_refused),
	CONFIG_TEST(test_plan_of_too_large_parameters_is_refused),
	CONFIG_TEST(test_plan_of_an_unknown_mode_is_refused),
	CONFIG_TEST(test_gpu_by_number_or_uuid_is_taken),
	CONFIG_TEST(test_gpu_of_another_form_is_refused),
#undef CONFIG_TEST
};

TH_MAIN("config", tests)
