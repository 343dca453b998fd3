/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* How models become known, who is shown which, and how they are forgotten. */
#include "poold/store/store.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "tests/support/harness.h"
#include "tests/support/store_world.h"

#define SEGMENTS 8u
#define BUDGET (20 * TS_UNIT)

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

static struct pd_model_view view_of(uint32_t model)
{
	struct pd_model_view view;

	assert_true(pd_store_model(world.store, model, &view));
	return view;
}

static uint32_t count_models(void)
{
	struct pd_model_view view;
	uint32_t i, count = 0;

	for (i = 0; i < TS_MODELS; i++)
		count += pd_store_model(world.store, i, &view);
	return count;
}

static enum ps_status find(const char *name, uint32_t uid, const uint8_t *hash)
{
	struct ip_find find = { .flags = 0 };
	uint32_t model;

	if (name) {
		find.flags |= IP_FIND_NAME;
		snprintf(find.name, sizeof(find.name), "%s", name);
	}
	if (hash) {
		find.flags |= IP_FIND_HASH;
		memcpy(find.hash, hash, sizeof(find.hash));
	}
	return pd_store_find(world.store, uid, uid == 0, &find, &model);
}

static void expect_denied(uint64_t tag, enum ps_status status)
{
	assert_int_equal(ts_answer(&world, tag), TS_DENY);
	assert_int_equal(ts_status(&world, tag), status);
}

/* ---- adding ---- */

static void test_store_add_is_read_and_known(void **state)
{
	uint64_t tag = ts_add(&world, "a", 1, 0, 3 * TS_UNIT - 5, 7);

	(void)state;
	assert_int_equal(ts_answer(&world, tag), TS_NONE);
	assert_int_equal(ts_state(&world, 0), PD_MODEL_READING);
	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
	assert_int_equal(ts_state(&world, 0), PD_MODEL_HOST);
	assert_int_equal(view_of(0).record.hash[0], 7);
	assert_int_equal(pd_store_segment_count(world.store, 0), 3);
}

static void test_store_add_gives_each_addresses_of_its_own(void **state)
{
	uint32_t a = ts_have(&world, "a", 1, 0, 3);
	uint32_t b = ts_have(&world, "b", 1, 0, 1);

	(void)state;
	/* The window's upper half begins with the board's slot. */
	assert_int_equal(view_of(a).record.slot, 256 / 2 + 1);
	assert_int_equal(view_of(b).record.slot, 256 / 2 + 4);
}

static void test_store_add_beyond_the_addresses_is_refused(void **state)
{
	uint64_t tag;
	char name[16];
	uint32_t i;

	(void)state;
	/* 127 slots: 15 times 8, and 7. */
	for (i = 0; i < 15; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		(void)ts_have(&world, name, 1, 0, 8);
	}
	tag = ts_add(&world, "more", 1, 0, 8 * TS_UNIT, 1);
	ts_work(&world);
	expect_denied(tag, PS_OUT_OF_RANGE);
	assert_int_equal(world.forgets, 1);
	(void)ts_have(&world, "less", 1, 0, 7);
}

static void test_store_add_larger_than_the_region_is_refused(void **state)
{
	uint64_t tag = ts_add(&world, "a", 1, 0, SEGMENTS * TS_UNIT + 1, 7);

	(void)state;
	ts_work(&world);
	expect_denied(tag, PS_OUT_OF_RANGE);
	assert_int_equal(count_models(), 0);
}

static void test_store_add_of_bad_files_is_refused(void **state)
{
	uint64_t tag = ts_add(&world, "a", 1, 0, TS_UNIT, 7);

	(void)state;
	assert_true(ts_read_one(&world, PS_INVALID_ARGUMENT));
	expect_denied(tag, PS_INVALID_ARGUMENT);
	assert_int_equal(count_models(), 0);
	assert_int_equal(world.forgets, 1);
}

static void test_store_add_again_is_the_model_that_is_there(void **state)
{
	uint64_t first = ts_add(&world, "a", 1, 0, TS_UNIT, 7), second;

	(void)state;
	ts_work(&world);
	second = ts_add(&world, "a", 1, 0, TS_UNIT, 7);
	ts_work(&world);
	assert_int_equal(ts_answer(&world, second), TS_DONE);
	assert_int_equal(world.asked[first].model, world.asked[second].model);
	assert_int_equal(count_models(), 1);
}

static void test_store_add_twice_at_once_is_one_model(void **state)
{
	uint64_t first = ts_add(&world, "a", 1, 0, TS_UNIT, 7);
	uint64_t second = ts_add(&world, "a", 1, 0, TS_UNIT, 7);

	(void)state;
	ts_work(&world);
	assert_int_equal(ts_answer(&world, first), TS_DONE);
	assert_int_equal(ts_answer(&world, second), TS_DONE);
	assert_int_equal(count_models(), 1);
}

static void test_store_add_with_other_contents_is_refused(void **state)
{
	uint64_t tag;

	(void)state;
	tag = ts_add(&world, "a", 1, 0, TS_UNIT, 7);
	ts_work(&world);
	tag = ts_add(&world, "a", 1, 0, TS_UNIT, 8);
	ts_work(&world);
	expect_denied(tag, PS_REFUSED);
	assert_int_equal(count_models(), 1);
	assert_int_equal(view_of(0).record.hash[0], 7);
}

/* Not even whether it is the same. */
static void test_store_add_of_anothers_private_name_is_refused(void **state)
{
	uint64_t tag = ts_add(&world, "a", 1, 0, TS_UNIT, 7);

	(void)state;
	ts_work(&world);
	tag = ts_add(&world, "a", 2, 0, TS_UNIT, 7);
	ts_work(&world);
	expect_denied(tag, PS_REFUSED);
}

static void test_store_add_beyond_the_numbers_is_refused(void **state)
{
	struct pd_model_record record = { .state = PD_MODEL_HOST,
					  .serial = 1,
					  .files = 1,
					  .is_known = true,
					  .bytes = 1,
					  .name = "x" };
	uint32_t i;

	(void)state;
	for (i = 0; i < IP_MODELS_MAX; i++) {
		record.serial = i + 1;
		record.slot = i;
		pd_journal_put_model(world.journal, i, &record);
	}
	assert_true(ts_restart(&world, 0, false));
	expect_denied(ts_add(&world, "more", 1, 0, 1, 1), PS_REFUSED);
	for (i = 0; i < IP_MODELS_MAX; i++)
		pd_journal_put_model(world.journal, i,
				     &(struct pd_model_record){ 0 });
	assert_true(ts_restart(&world, 0, false));
}

/* ---- finding ---- */

static void test_store_find_of_what_is_read_says_again(void **state)
{
	(void)state;
	(void)ts_add(&world, "a", 1, 0, TS_UNIT, 7);
	th_assert_status(find("a", 1, NULL), PS_AGAIN);
	ts_work(&world);
	th_assert_ok(find("a", 1, NULL));
}

static void test_store_find_with_another_hash_is_a_mismatch(void **state)
{
	uint8_t right[PS_MODEL_HASH_BYTES], other[PS_MODEL_HASH_BYTES];

	(void)state;
	memset(right, 7, sizeof(right));
	memset(other, 8, sizeof(other));
	(void)ts_add(&world, "a", 1, 0, TS_UNIT, 7);
	ts_work(&world);
	th_assert_ok(find("a", 1, right));
	th_assert_ok(find(NULL, 1, right));
	th_assert_status(find("a", 1, other), PS_MODEL_MISMATCH);
	th_assert_status(find(NULL, 1, other), PS_NO_MODEL);
}

static void test_store_find_of_anothers_is_as_if_it_were_not(void **state)
{
	uint8_t right[PS_MODEL_HASH_BYTES];
	char text[IP_TEXT_MAX];

	(void)state;
	memset(right, 7, sizeof(right));
	th_assert_status(find("a", 2, NULL), PS_NO_MODEL);
	snprintf(text, sizeof(text), "%s", bs_fail_text());
	(void)ts_add(&world, "a", 1, 0, TS_UNIT, 7);
	ts_work(&world);
	th_assert_status(find("a", 2, NULL), PS_NO_MODEL);
	assert_string_equal(bs_fail_text(), text);
	th_assert_status(find(NULL, 2, right), PS_NO_MODEL);
	th_assert_ok(find("a", 0, NULL));
}

static void test_store_find_of_a_public_one_is_for_all(void **state)
{
	(void)state;
	(void)ts_have(&world, "a", 1, PS_MODEL_PUBLIC, 1);
	th_assert_ok(find("a", 2, NULL));
}

/* ---- orders ---- */

static void test_store_order_of_anothers_model_is_refused(void **state)
{
	(void)state;
	(void)ts_have(&world, "a", 1, PS_MODEL_PUBLIC, 1);
	(void)ts_have(&world, "b", 1, 0, 1);
	expect_denied(ts_order(&world, 2, PS_MODEL_REMOVE, "a", 0),
		      PS_PERMISSION);
	expect_denied(ts_order(&world, 2, PS_MODEL_EVICT, "a", 0),
		      PS_PERMISSION);
	expect_denied(ts_order(&world, 2, PS_MODEL_PIN, "a", 0), PS_PERMISSION);
	expect_denied(ts_order(&world, 2, PS_MODEL_LOAD, "b", 0), PS_NO_MODEL);
	assert_int_equal(ts_answer(&world, ts_order(&world, 2, PS_MODEL_LOAD,
						    "a", 1000)),
			 TS_NONE);
	ts_work(&world);
}

static void test_store_order_that_is_none_is_refused(void **state)
{
	(void)state;
	(void)ts_have(&world, "a", 1, 0, 1);
	expect_denied(ts_order(&world, 1, PS_MODEL_REMOVE + 1, "a", 0),
		      PS_INVALID_ARGUMENT);
	expect_denied(ts_order(&world, 1, 0, "a", 0), PS_INVALID_ARGUMENT);
	expect_denied(ts_order(&world, 1, PS_MODEL_LOAD, "b", 0), PS_NO_MODEL);
}

/* ---- removing ---- */

static void test_store_remove_of_a_loaded_one_is_reset_first(void **state)
{
	uint32_t model = ts_loaded(&world, "a", 2);
	uint64_t tag = ts_order(&world, 1, PS_MODEL_REMOVE, "a", 1000);

	(void)state;
	assert_int_equal(ts_answer(&world, tag), TS_NONE);
	assert_int_equal(ts_state(&world, model), PD_MODEL_EVICTING);
	ts_work(&world);
	assert_int_equal(ts_answer(&world, tag), TS_DONE);
	assert_int_equal(count_models(), 0);
	assert_int_equal(world.forgets, 1);
}

static void test_store_remove_of_an_attached_one_is_refused(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 1);

	(void)state;
	th_assert_ok(ts_attach(&world, 0, "a", &model));
	expect_denied(ts_order(&world, 1, PS_MODEL_REMOVE, "a", 1000), PS_BUSY);
	ts_detach(&world, 0, model);
	assert_int_equal(ts_answer(&world, ts_order(&world, 1, PS_MODEL_REMOVE,
						    "a", 1000)),
			 TS_DONE);
}

static void test_store_remove_while_it_is_read_denies_who_waits(void **state)
{
	uint64_t add = ts_add(&world, "a", 1, 0, TS_UNIT, 7);
	uint64_t remove = ts_order(&world, 1, PS_MODEL_REMOVE, "a", 0);

	(void)state;
	assert_int_equal(ts_answer(&world, remove), TS_DONE);
	expect_denied(add, PS_NO_MODEL);
	assert_int_equal(count_models(), 0);
	assert_false(ts_read_one(&world, PS_OK));
}

static void test_store_remove_denies_those_who_wait_for_it(void **state)
{
	uint64_t load, remove;

	(void)state;
	(void)ts_busy(&world, "busy", SEGMENTS, 0);
	(void)ts_have(&world, "a", 1, 0, 1);
	load = ts_order(&world, 1, PS_MODEL_LOAD, "a", 5000);
	remove = ts_order(&world, 1, PS_MODEL_REMOVE, "a", 5000);
	assert_int_equal(ts_answer(&world, remove), TS_DONE);
	expect_denied(load, PS_NO_MODEL);
}

static void test_store_number_is_used_again_with_another_serial(void **state)
{
	uint32_t first = ts_have(&world, "a", 1, 0, 1), serial, second;

	(void)state;
	serial = view_of(first).record.serial;
	(void)ts_order(&world, 1, PS_MODEL_REMOVE, "a", 0);
	second = ts_have(&world, "b", 1, 0, 1);
	assert_int_equal(first, second);
	assert_int_not_equal(view_of(second).record.serial, serial);
}

/* ---- the end ---- */

static void test_store_lost_denies_all_and_everything_later(void **state)
{
	uint32_t model = ts_have(&world, "a", 1, 0, 1);
	uint64_t load = ts_order(&world, 1, PS_MODEL_LOAD, "a", 1000);
	uint64_t add = ts_add(&world, "b", 1, 0, TS_UNIT, 1);

	(void)state;
	pd_store_lose(world.store);
	expect_denied(load, PS_DEVICE_LOST);
	expect_denied(add, PS_DEVICE_LOST);
	assert_int_equal(world.armed_ms, 0);
	expect_denied(ts_use(&world, 0, model, 1, 0), PS_DEVICE_LOST);
	expect_denied(ts_order(&world, 1, PS_MODEL_LOAD, "a", 0),
		      PS_DEVICE_LOST);
	expect_denied(ts_add(&world, "c", 1, 0, 1, 1), PS_DEVICE_LOST);
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_store_add_is_read_and_known, set_up, tear_down),
	TH_TEST_SETUP(test_store_add_gives_each_addresses_of_its_own, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_add_beyond_the_addresses_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_add_larger_than_the_region_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_add_of_bad_files_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_add_again_is_the_model_that_is_there, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_add_twice_at_once_is_one_model, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_add_with_other_contents_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_add_of_anothers_private_name_is_refused,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_add_beyond_the_numbers_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_find_of_what_is_read_says_again, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_find_with_another_hash_is_a_mismatch, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_find_of_anothers_is_as_if_it_were_not, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_find_of_a_public_one_is_for_all, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_order_of_anothers_model_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_order_that_is_none_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_remove_of_a_loaded_one_is_reset_first, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_remove_of_an_attached_one_is_refused, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_remove_while_it_is_read_denies_who_waits,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_remove_denies_those_who_wait_for_it, set_up,
		      tear_down),
	TH_TEST_SETUP(test_store_number_is_used_again_with_another_serial,
		      set_up, tear_down),
	TH_TEST_SETUP(test_store_lost_denies_all_and_everything_later, set_up,
		      tear_down),
};

TH_MAIN("store_add", tests)
