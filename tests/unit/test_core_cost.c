/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a grant costs does not grow with the number of clients, and stays in
 * microseconds in the largest pool there is. Times are the best of many
 * rounds, so that what else the machine does hardly shows.
 */
#include "poold/core.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/support/harness.h"

#define UNIT (UINT64_C(2) << 20)
#define ROUNDS 200u

struct box {
	struct pd_journal *journal;
	struct pd_core *core;
	uint32_t granted[IP_SEGMENTS_MAX];
	uint32_t count;
};

static struct box box;

static void on_grant(void *owner, uint32_t slot, uint32_t seq,
		     const uint32_t *segments, uint32_t count)
{
	(void)owner;
	(void)slot;
	(void)seq;
	memcpy(box.granted, segments, count * sizeof(*segments));
	box.count = count;
}

static void on_deny(void *owner, uint32_t slot, uint32_t seq,
		    enum ps_status status, const char *text)
{
	(void)owner;
	(void)slot;
	(void)seq;
	(void)status;
	(void)text;
	box.count = 0;
}

static void on_recall(void *owner, uint32_t slot, uint32_t seq, uint32_t count,
		      uint32_t deadline_ms)
{
	(void)owner;
	(void)slot;
	(void)seq;
	(void)count;
	(void)deadline_ms;
}

static void on_segment(void *owner, uint32_t segment)
{
	(void)owner;
	(void)segment;
}

static void on_arm(void *owner, uint64_t at_ms)
{
	(void)owner;
	(void)at_ms;
}

static void open_box(uint32_t segments, uint32_t clients)
{
	const struct pd_pool_record pool = {
		.id = { 1 },
		.gpu = "GPU-00000000-0000-0000-0000-000000000001",
		.window_base = UINT64_C(1) << 44,
		.window_bytes = UINT64_C(1) << 42,
		.segment_bytes = UNIT,
		.segments = segments,
		.clients = clients,
	};
	struct pd_core_config config = {
		.ops = { on_grant, on_deny, on_recall, on_segment, on_segment,
			 on_arm },
	};

	pd_limits_init(&config.limits);
	config.limits.clients = clients;
	config.limits.clients_of_user = clients;
	th_assert_ok(pd_journal_create(&pool, &box.journal));
	config.journal = box.journal;
	th_assert_ok(pd_core_new(&config, 1, &box.core));
}

static void close_box(void)
{
	pd_core_free(box.core);
	pd_journal_close(box.journal);
}

static void admit(uint32_t slot)
{
	struct pd_client_record record = { .id = slot + 1, .uid = slot % 7 };
	uint32_t got;

	th_assert_ok(pd_core_admit(box.core, &record, 1, &got, &record));
	assert_int_equal(got, slot);
}

static void take(uint32_t slot, uint32_t count)
{
	const struct ip_take take = { .seq = 1, .count = count };

	th_assert_ok(pd_core_take(box.core, slot, &take, 1));
	assert_int_equal(box.count, count);
}

static void give(uint32_t slot, uint32_t flags)
{
	struct ip_list list = { .flags = flags, .count = box.count };
	uint32_t i;

	for (i = 0; i < box.count; i++)
		list.segment[i] = box.granted[i] & ~IP_SEGMENT_PARKED;
	th_assert_ok(pd_core_give(box.core, slot, &list, 1));
	for (i = 0; flags == 0 && i < list.count; i++)
		pd_core_scrubbed(box.core, list.segment[i], PS_OK, 1);
}

/* Nanoseconds of a TAKE, at best; @flags: of the GIVE after it. */
static uint64_t best_take(uint32_t clients, uint32_t count, uint32_t flags)
{
	uint64_t best = UINT64_MAX, begin, took;
	uint32_t i;

	for (i = 0; i < ROUNDS; i++) {
		begin = th_now_ns();
		take(i % clients, count);
		took = th_now_ns() - begin;
		/* A client's first one has nothing parked. */
		if (took < best && i >= clients)
			best = took;
		give(i % clients, flags);
	}
	return best;
}

static uint64_t cost(uint32_t segments, uint32_t clients, uint32_t count,
		     uint32_t flags)
{
	uint64_t best;
	uint32_t slot;

	open_box(segments, clients);
	for (slot = 0; slot < clients; slot++)
		admit(slot);
	/* Few of them ask, all of them are there. */
	best = best_take(clients < 8 ? clients : 8, count, flags);
	close_box();
	return best;
}

static void test_core_grant_with_256_clients_costs_twice_at_most(void **state)
{
	uint64_t one = cost(1024, 1, 4, 0), many = cost(1024, 256, 4, 0);

	(void)state;
	print_message("%llu ns, %llu ns\n", (unsigned long long)one,
		      (unsigned long long)many);
	assert_true(many <= 2 * one);
}

static void test_core_parked_grant_with_256_clients_costs_the_same(void **state)
{
	uint64_t one = cost(1024, 1, 4, IP_LIST_PARKED);
	uint64_t many = cost(1024, 256, 4, IP_LIST_PARKED);

	(void)state;
	print_message("%llu ns, %llu ns\n", (unsigned long long)one,
		      (unsigned long long)many);
	assert_true(many <= 2 * one);
}

static void test_core_grant_in_the_largest_pool_is_quick(void **state)
{
	uint64_t took = cost(IP_SEGMENTS_MAX, IP_CLIENTS_MAX, 64, 0);

	(void)state;
	print_message("%llu ns\n", (unsigned long long)took);
	/* Some tens of microseconds; more only under a checker. */
	assert_true(took < 500000);
}

static const struct th_test tests[] = {
	TH_TEST(test_core_grant_with_256_clients_costs_twice_at_most),
	TH_TEST(test_core_parked_grant_with_256_clients_costs_the_same),
	TH_TEST(test_core_grant_in_the_largest_pool_is_quick),
};

TH_MAIN("core_cost", tests)
