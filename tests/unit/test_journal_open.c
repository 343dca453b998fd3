/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the journal says of segments that more than one client has, and which
 * records it believes. */
#include <string.h>

#include "poold/journal.h"
#include "tests/support/harness.h"

#define CLIENTS 3u

static struct pd_journal *a_journal(void)
{
	const struct pd_pool_record pool = {
		.id = "0123456789abcde",
		.gpu = "GPU-00000000-0000-0000-0000-000000000001",
		.window_base = UINT64_C(0x200000000000),
		.window_bytes = UINT64_C(1) << 30,
		.segment_bytes = 2 << 20,
		.parameter_bytes = 4 << 20,
		.segments = 5,
		.clients = CLIENTS,
	};
	struct pd_journal *journal;

	th_assert_ok(pd_journal_create(&pool, &journal));
	return journal;
}

static struct pd_segment_record an_open_one(enum pd_segment_state state)
{
	struct pd_segment_record record = {
		.state = state,
		.client = state == PD_SHARED ? PD_NO_CLIENT : 1,
		.user = 7,
		.epoch = 0xfedcba98,
		.is_tainted = true,
	};

	memset(record.openers, 0xff, sizeof(record.openers));
	record.openers[3] = 2;
	record.openers[PD_OPENERS - 1] = 0;
	return record;
}

static void test_journal_segment_keeps_who_has_it_open(void **state)
{
	const struct pd_segment_record record = an_open_one(PD_LEASED);
	struct pd_journal *journal = a_journal();
	struct pd_segment_record seen;

	(void)state;
	pd_journal_put_segment(journal, 3, &record);
	seen = pd_journal_segment(journal, 3);
	assert_int_equal(seen.state, PD_LEASED);
	assert_int_equal(seen.epoch, 0xfedcba98);
	assert_true(seen.is_tainted);
	assert_memory_equal(seen.openers, record.openers, sizeof(seen.openers));
	pd_journal_close(journal);
}

/* Whether a record that is whole is believed. */
static void expect_believed(const struct pd_segment_record *record,
			    bool is_believed)
{
	struct pd_journal *journal = a_journal();
	enum pd_segment_state seen;

	pd_journal_put_segment(journal, 3, record);
	seen = pd_journal_segment(journal, 3).state;
	assert_int_equal(seen, is_believed ? record->state : PD_DAMAGED);
	pd_journal_close(journal);
}

static void test_journal_believes_what_can_be(void **state)
{
	struct pd_segment_record record = an_open_one(PD_LEASED);

	(void)state;
	expect_believed(&record, true);
	record = an_open_one(PD_PARKED);
	expect_believed(&record, true);
	record = an_open_one(PD_SHARED);
	expect_believed(&record, true);
	record.client = 1;
	expect_believed(&record, true);
	record = an_open_one(PD_OUTSIDE);
	memset(record.openers, 0xff, sizeof(record.openers));
	expect_believed(&record, true);
}

static void test_journal_openers_that_cannot_be_are_damage(void **state)
{
	struct pd_segment_record record = an_open_one(PD_OUTSIDE);

	(void)state;
	expect_believed(&record, false);
	record = an_open_one(PD_DIRTY);
	record.client = PD_NO_CLIENT;
	expect_believed(&record, false);
	record = an_open_one(PD_LEASED);
	record.openers[4] = 2; /* twice */
	expect_believed(&record, false);
	record.openers[4] = 1; /* its own client */
	expect_believed(&record, false);
	record.openers[4] = CLIENTS;
	expect_believed(&record, false);
	record = an_open_one(PD_SHARED);
	memset(record.openers, 0xff, sizeof(record.openers));
	expect_believed(&record, false);
}

static void test_journal_clients_that_cannot_be_are_damage(void **state)
{
	struct pd_segment_record record = an_open_one(PD_SHARED);

	(void)state;
	record.client = CLIENTS;
	expect_believed(&record, false);
	record = an_open_one(PD_OUTSIDE);
	memset(record.openers, 0xff, sizeof(record.openers));
	record.client = PD_NO_CLIENT;
	expect_believed(&record, false);
	record.client = CLIENTS;
	expect_believed(&record, false);
}

static const struct th_test tests[] = {
	TH_TEST(test_journal_segment_keeps_who_has_it_open),
	TH_TEST(test_journal_believes_what_can_be),
	TH_TEST(test_journal_openers_that_cannot_be_are_damage),
	TH_TEST(test_journal_clients_that_cannot_be_are_damage),
};

TH_MAIN("journal_open", tests)
