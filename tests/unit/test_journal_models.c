/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the journal says of models and of the segments that they lie in, and
 * which of it it believes. */
#include <fcntl.h>
#include <string.h>

#include "poold/journal.h"
#include "tests/support/harness.h"

#define SEGMENTS 5u
#define PARAMETER 2u /* segments */

static struct pd_journal *journal;

static int set_up(void **state)
{
	const struct pd_pool_record pool = {
		.id = "0123456789abcde",
		.gpu = "GPU-00000000-0000-0000-0000-000000000001",
		.window_base = UINT64_C(0x200000000000),
		.window_bytes = UINT64_C(1) << 30,
		.segment_bytes = 2 << 20,
		.parameter_bytes = PARAMETER * (2 << 20),
		.segments = SEGMENTS,
		.clients = 3,
	};

	(void)state;
	th_assert_ok(pd_journal_create(&pool, &journal));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	pd_journal_close(journal);
	journal = NULL;
	return 0;
}

/* Every field has a value of its own. */
static struct pd_model_record a_model(unsigned char seed)
{
	struct pd_model_record record = {
		.state = PD_MODEL_RESIDENT,
		.serial = 100u + seed,
		.uid = 1000u + seed,
		.flags = PS_MODEL_PUBLIC,
		.is_known = true,
		.is_pinned = seed % 2,
		.bytes = UINT64_C(0x100000000) * seed,
		.tensors = 300u + seed,
		.files = 1u + seed,
		.slot = 400u + seed,
		.place = 500u + seed,
		.plan = PS_PLAN_GROUPS,
		.groups = 7u + seed,
	};

	memset(record.hash, seed, sizeof(record.hash));
	memset(record.name, 'a' + seed, sizeof(record.name) - 1);
	memset(record.source, 'A' + seed, sizeof(record.source) - 1);
	return record;
}

static void assert_same(const struct pd_model_record *a,
			const struct pd_model_record *b)
{
	assert_int_equal(a->state, b->state);
	assert_int_equal(a->serial, b->serial);
	assert_int_equal(a->uid, b->uid);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->is_known, b->is_known);
	assert_int_equal(a->is_pinned, b->is_pinned);
	assert_int_equal(a->bytes, b->bytes);
	assert_int_equal(a->tensors, b->tensors);
	assert_int_equal(a->files, b->files);
	assert_int_equal(a->slot, b->slot);
	assert_int_equal(a->place, b->place);
	assert_int_equal(a->plan, b->plan);
	assert_int_equal(a->groups, b->groups);
	assert_memory_equal(a->hash, b->hash, sizeof(a->hash));
	assert_memory_equal(a->name, b->name, sizeof(a->name));
	assert_memory_equal(a->source, b->source, sizeof(a->source));
}

/* A second one over the same memory, as the other half opens it. */
static struct pd_journal *reopen(void)
{
	struct pd_journal *again;

	th_assert_ok(pd_journal_open(
		fcntl(pd_journal_fd(journal), F_DUPFD_CLOEXEC, 0), &again));
	return again;
}

static void expect_damaged(const struct pd_model_record *record)
{
	struct pd_model_record seen = { .serial = 77 };

	pd_journal_put_model(journal, 3, record);
	th_assert_status(pd_journal_model(journal, 3, &seen), PS_PROTOCOL);
	assert_int_equal(seen.serial, 77);
}

/* ---- models ---- */

static void test_journal_new_has_no_models(void **state)
{
	struct pd_model_record seen;

	(void)state;
	for (uint32_t i = 0; i < IP_MODELS_MAX; i++) {
		th_assert_ok(pd_journal_model(journal, i, &seen));
		assert_int_equal(seen.state, PD_MODEL_FREE);
	}
	for (uint32_t i = 0; i < SEGMENTS; i++)
		assert_int_equal(pd_journal_segment(journal, i).model,
				 PD_NO_MODEL);
}

static void test_journal_model_is_kept_through_changes(void **state)
{
	struct pd_journal *again = reopen();
	struct pd_model_record wanted, seen;

	(void)state;
	for (unsigned char i = 0; i < 9; i++) {
		wanted = a_model(i);
		pd_journal_put_model(journal, IP_MODELS_MAX - 1, &wanted);
		th_assert_ok(pd_journal_model(again, IP_MODELS_MAX - 1, &seen));
		assert_same(&seen, &wanted);
	}
	th_assert_ok(pd_journal_model(again, IP_MODELS_MAX - 2, &seen));
	assert_int_equal(seen.state, PD_MODEL_FREE);
	pd_journal_close(again);
}

static void test_journal_forgotten_model_leaves_nothing(void **state)
{
	struct pd_model_record record = a_model(1);
	const struct pd_model_record nothing = { .state = PD_MODEL_FREE };
	struct pd_model_record seen;

	(void)state;
	pd_journal_put_model(journal, 3, &record);
	record.state = PD_MODEL_FREE;
	pd_journal_put_model(journal, 3, &record);
	th_assert_ok(pd_journal_model(journal, 3, &seen));
	assert_same(&seen, &nothing);
}

static void test_journal_model_of_a_strange_state_is_damage(void **state)
{
	struct pd_model_record record = a_model(1);

	(void)state;
	record.state = (enum pd_model_state)(PD_MODEL_EVICTING + 1);
	expect_damaged(&record);
	record = a_model(1);
	record.serial = 0;
	expect_damaged(&record);
}

static void test_journal_model_of_impossible_files_is_damage(void **state)
{
	struct pd_model_record record = a_model(1);

	(void)state;
	record.files = 0;
	expect_damaged(&record);
	record.files = IP_MODEL_FILES + 1;
	expect_damaged(&record);
	record = a_model(1);
	record.plan = PS_PLAN_GROUPS + 1;
	expect_damaged(&record);
}

static void test_journal_model_without_an_end_of_name_is_damage(void **state)
{
	struct pd_model_record record = a_model(1);

	(void)state;
	record.name[sizeof(record.name) - 1] = 'x';
	expect_damaged(&record);
	record = a_model(1);
	record.name[0] = '\0';
	expect_damaged(&record);
	record = a_model(1);
	record.source[sizeof(record.source) - 1] = 'x';
	expect_damaged(&record);
}

/* ---- their segments ---- */

static struct pd_segment_record a_segment(uint32_t model, uint32_t position)
{
	struct pd_segment_record record = {
		.state = PD_PARAMETER,
		.client = PD_NO_CLIENT,
		.user = PD_ANY_USER,
		.model = model,
		.position = position,
	};

	memset(record.openers, 0xff, sizeof(record.openers));
	return record;
}

static enum pd_segment_state state_with(const struct pd_segment_record *record)
{
	pd_journal_put_segment(journal, 1, record);
	return pd_journal_segment(journal, 1).state;
}

static void test_journal_segment_keeps_its_model(void **state)
{
	const struct pd_segment_record record =
		a_segment(IP_MODELS_MAX - 1, SEGMENTS - 1);
	struct pd_segment_record seen;

	(void)state;
	assert_int_equal(state_with(&record), PD_PARAMETER);
	seen = pd_journal_segment(journal, 1);
	assert_int_equal(seen.model, IP_MODELS_MAX - 1);
	assert_int_equal(seen.position, SEGMENTS - 1);
	assert_int_equal(seen.user, PD_ANY_USER);
	assert_int_equal(pd_journal_segment(journal, 0).model, PD_NO_MODEL);
}

static void test_journal_segment_of_no_possible_model_is_damage(void **state)
{
	struct pd_segment_record record = a_segment(IP_MODELS_MAX, 0);

	(void)state;
	assert_int_equal(state_with(&record), PD_DAMAGED);
	record = a_segment(0, SEGMENTS);
	assert_int_equal(state_with(&record), PD_DAMAGED);
}

/* What clients write to as they like is no model's. */
static void test_journal_segment_given_away_has_no_model(void **state)
{
	struct pd_segment_record record = a_segment(0, 0);

	(void)state;
	record.is_tainted = true;
	assert_int_equal(state_with(&record), PD_DAMAGED);
	record.model = PD_NO_MODEL;
	assert_int_equal(state_with(&record), PD_PARAMETER);
}

static void test_journal_segment_of_clients_has_no_model(void **state)
{
	struct pd_segment_record record = a_segment(3, 1);

	(void)state;
	record.state = PD_CLEAN;
	assert_int_equal(state_with(&record), PD_CLEAN);
	assert_int_equal(pd_journal_segment(journal, 1).model, PD_NO_MODEL);
	assert_int_equal(pd_journal_segment(journal, 1).position, 0);
}

#define MADE(fn) TH_TEST_SETUP(fn, set_up, tear_down)

static const struct th_test tests[] = {
	MADE(test_journal_new_has_no_models),
	MADE(test_journal_model_is_kept_through_changes),
	MADE(test_journal_forgotten_model_leaves_nothing),
	MADE(test_journal_model_of_a_strange_state_is_damage),
	MADE(test_journal_model_of_impossible_files_is_damage),
	MADE(test_journal_model_without_an_end_of_name_is_damage),
	MADE(test_journal_segment_keeps_its_model),
	MADE(test_journal_segment_of_no_possible_model_is_damage),
	MADE(test_journal_segment_given_away_has_no_model),
	MADE(test_journal_segment_of_clients_has_no_model),
};

TH_MAIN("journal_models", tests)
