/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the store does when the host has no memory for it. */
#include "poold/store/store.h"

#include <string.h>

#include "base/status.h"
#include "tests/support/harness.h"
#include "tests/support/store_world.h"

#define SEGMENTS 8u
#define BUDGET (40 * TS_UNIT)
#define USUAL PS_PRIORITY_DEFAULT

static struct ts_world world;

static int set_up(void **state)
{
	(void)state;
	assert_true(ts_open(&world, SEGMENTS, BUDGET));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_string_equal(world.wrong, "");
	th_assert_ok(pd_store_check(world.store));
	ts_close(&world);
	return 0;
}

/* The n-th call from now on gets none; 0: all do. */
static unsigned int calloc_fails;
static unsigned int malloc_fails;

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_calloc(size_t count, size_t size)
{
	if (calloc_fails > 0 && --calloc_fails == 0)
		return NULL;
	return __real_calloc(count, size);
}

void *__wrap_malloc(size_t size)
{
	if (malloc_fails > 0 && --malloc_fails == 0)
		return NULL;
	return __real_malloc(size);
}

static void expect_denied(uint64_t tag, enum ps_status status)
{
	assert_int_equal(ts_answer(&world, tag), TS_DENY);
	assert_int_equal(ts_status(&world, tag), status);
}

static void rejoin_all(void)
{
	uint32_t c;

	for (c = 0; c < TS_CLIENTS; c++)
		ts_rejoin(&world, c);
}

static void test_store_without_memory_is_not_made(void **state)
{
	unsigned int n = 0;
	bool made = false;

	(void)state;
	while (!made) {
		calloc_fails = ++n;
		made = ts_restart(&world, 0, false);
		assert_true(made || world.store == NULL);
	}
	assert_true(n > 2);
	calloc_fails = 0;
	rejoin_all();
}

static void test_store_request_without_memory_is_denied(void **state)
{
	struct pd_model_view view;

	(void)state;
	(void)ts_have(&world, "a", 1, 0, 2);
	malloc_fails = 1;
	expect_denied(ts_order(&world, 1, PS_MODEL_LOAD, "a", 1000),
		      PS_HOST_MEMORY);
	malloc_fails = 1;
	expect_denied(ts_order(&world, 1, PS_MODEL_PREFETCH, "a", 1000),
		      PS_HOST_MEMORY);
	malloc_fails = 1;
	expect_denied(ts_add(&world, "b", 1, 0, TS_UNIT, 1), PS_HOST_MEMORY);
	assert_false(pd_store_model(world.store, 1, &view));
}

static void test_store_first_load_without_memory_is_denied(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 2);
	uint64_t tag;

	(void)state;
	th_assert_ok(ts_attach(&world, 0, "a", &a));
	calloc_fails = 1;
	expect_denied(ts_use(&world, 0, a, USUAL, 1000), PS_HOST_MEMORY);
	tag = ts_use(&world, 0, a, USUAL, 1000);
	assert_int_equal(ts_answer(&world, tag), TS_PLACE);
	ts_work(&world);
}

/* Where a model lies has to be known to keep it. */
static void test_store_adopted_without_memory_is_taken_back(void **state)
{
	uint32_t a = ts_loaded(&world, "a", 2);

	(void)state;
	calloc_fails = 3;
	assert_true(ts_restart(&world, 0, false));
	assert_int_equal(ts_state(&world, a), PD_MODEL_EVICTING);
	rejoin_all();
	ts_work(&world);
	assert_int_equal(ts_state(&world, a), PD_MODEL_HOST);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_store_without_memory_is_not_made, set_up, tear_down),
	TH_TEST_SETUP(test_store_request_without_memory_is_denied, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_first_load_without_memory_is_denied, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_adopted_without_memory_is_taken_back, set_up,
		      tear_down),
};

TH_MAIN("store_memory", tests)
