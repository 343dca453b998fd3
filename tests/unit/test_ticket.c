/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The bytes of a ticket: what is written is read, and nothing else. */
#include <string.h>

#include "base/status.h"
#include "poold/ticket.h"
#include "tests/support/harness.h"

static const uint8_t key[PD_KEY_BYTES] = { 1, 2, 3 };
static const uint8_t pool[IP_POOL_ID_BYTES] = { 9, 8, 7 };

static const struct pd_grant_of two_runs = {
	.owner = 0x0102030405060708,
	.epochs = 0xdeadbeef,
	.run_count = 2,
	.run = { { 300, 4 }, { 17, 1 } },
	.offset = 512 * 5,
	.bytes = UINT64_C(512) << 21,
};

static void write_two_runs(uint8_t ticket[IP_TICKET_BYTES])
{
	pd_ticket_write(key, pool, &two_runs, ticket);
}

static void assert_same(const struct pd_grant_of *a,
			const struct pd_grant_of *b)
{
	assert_true(a->owner == b->owner);
	assert_int_equal(a->epochs, b->epochs);
	assert_int_equal(a->run_count, b->run_count);
	assert_memory_equal(a->run, b->run, sizeof(a->run));
	assert_true(a->offset == b->offset);
	assert_true(a->bytes == b->bytes);
}

static void assert_refused(const uint8_t *of_key, const uint8_t *of_pool,
			   const uint8_t *ticket)
{
	struct pd_grant_of grant = { .owner = 77 };

	th_assert_status(pd_ticket_read(of_key, of_pool, ticket, &grant),
			 PS_REFUSED);
	assert_non_null(strstr(bs_fail_text(), "damaged or of another pool"));
	assert_int_equal(grant.owner, 77);
}

static void test_ticket_written_is_read_again(void **state)
{
	uint8_t ticket[IP_TICKET_BYTES];
	struct pd_grant_of grant;

	(void)state;
	write_two_runs(ticket);
	th_assert_ok(pd_ticket_read(key, pool, ticket, &grant));
	assert_same(&grant, &two_runs);
}

static void test_ticket_of_the_largest_numbers_is_read_again(void **state)
{
	struct pd_grant_of most = {
		.owner = UINT64_MAX,
		.epochs = UINT32_MAX,
		.run_count = IP_TICKET_RUNS,
		.offset = IP_ADDRESS_END - 512,
		.bytes = IP_ADDRESS_END,
	};
	uint8_t ticket[IP_TICKET_BYTES];
	struct pd_grant_of grant;

	(void)state;
	for (uint32_t i = 0; i < IP_TICKET_RUNS; i++)
		most.run[i] = (struct ip_run){ IP_SEGMENTS_MAX - 1, 1 };
	most.run[0] = (struct ip_run){ 0, IP_SEGMENTS_MAX };
	pd_ticket_write(key, pool, &most, ticket);
	th_assert_ok(pd_ticket_read(key, pool, ticket, &grant));
	assert_same(&grant, &most);
}

/* docs/protocol.md shows these places. */
static void test_ticket_fields_lie_as_documented(void **state)
{
	static const uint8_t expected[50] = {
		'p',  's',  'T',  'i',  'c', 'k', 'e', 't',
		8,    7,    6,    5,    4,   3,   2,   1, /* owner */
		0xef, 0xbe, 0xad, 0xde,                   /* epochs */
		0x2c, 1,    3,    0,    17,  0,   0,   0, /* runs */
		255,  255,  255,  255,  255, 255, 255, 255,
		255,  255,  255,  255,     /* no more */
		5,    0,    0,    0,    0, /* offset */
		0,    0,    32,   0,    0, /* bytes */
	};
	uint8_t ticket[IP_TICKET_BYTES];

	(void)state;
	write_two_runs(ticket);
	assert_memory_equal(ticket, expected, sizeof(expected));
}

static void test_ticket_with_any_bit_changed_is_refused(void **state)
{
	uint8_t ticket[IP_TICKET_BYTES];

	(void)state;
	write_two_runs(ticket);
	for (unsigned int bit = 0; bit < 8 * IP_TICKET_BYTES; bit++) {
		ticket[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_refused(key, pool, ticket);
		ticket[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	th_assert_ok(
		pd_ticket_read(key, pool, ticket, &(struct pd_grant_of){ 0 }));
}

static void test_ticket_of_another_key_is_refused(void **state)
{
	uint8_t other[PD_KEY_BYTES] = { 1, 2, 3 };
	uint8_t ticket[IP_TICKET_BYTES];

	(void)state;
	other[PD_KEY_BYTES - 1] = 1;
	write_two_runs(ticket);
	assert_refused(other, pool, ticket);
}

static void test_ticket_of_another_pool_is_refused(void **state)
{
	uint8_t other[IP_POOL_ID_BYTES] = { 9, 8, 7 };
	uint8_t ticket[IP_TICKET_BYTES];

	(void)state;
	other[IP_POOL_ID_BYTES - 1] = 1;
	write_two_runs(ticket);
	assert_refused(key, other, ticket);
}

static void test_ticket_of_zeros_is_refused(void **state)
{
	static const uint8_t zeros[IP_TICKET_BYTES];

	(void)state;
	assert_refused(key, pool, zeros);
}

static const struct th_test tests[] = {
	TH_TEST(test_ticket_written_is_read_again),
	TH_TEST(test_ticket_of_the_largest_numbers_is_read_again),
	TH_TEST(test_ticket_fields_lie_as_documented),
	TH_TEST(test_ticket_with_any_bit_changed_is_refused),
	TH_TEST(test_ticket_of_another_key_is_refused),
	TH_TEST(test_ticket_of_another_pool_is_refused),
	TH_TEST(test_ticket_of_zeros_is_refused),
};

TH_MAIN("ticket", tests)
