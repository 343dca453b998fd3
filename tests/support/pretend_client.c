/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The client's side of the pretend daemon: orders, and what they bring. */
#include "tests/support/pretend_daemon.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

uint64_t th_order(const struct th_part *me, enum th_order order, uint32_t a,
		  uint32_t b)
{
	const struct th_order_message message = { (uint32_t)order, a, b };
	uint64_t result;

	assert_int_equal(
		send(me->link[0], &message, sizeof(message), MSG_NOSIGNAL),
		sizeof(message));
	assert_int_equal(
		recv(me->link[0], &result, sizeof(result), MSG_WAITALL),
		sizeof(result));
	return result;
}

struct ps_pool *th_pretend_attach(const struct th_part *me)
{
	struct ps_pool *pool;

	th_await(me->link[0]);
	th_assert_ok(ps_attach(NULL, &pool));
	return pool;
}

void th_assert_books(const struct th_part *me, uint64_t leased, uint64_t parked)
{
	assert_int_equal(th_order(me, TH_ORDER_LEASED, 0, 0), leased);
	assert_int_equal(th_order(me, TH_ORDER_PARKED, 0, 0), parked);
}

void th_await_parked(const struct th_part *me, uint64_t segments)
{
	uint64_t end = th_now_ns() + UINT64_C(10000000000);

	while (th_order(me, TH_ORDER_PARKED, 0, 0) != segments) {
		assert_true(th_now_ns() < end);
		usleep(10000);
	}
}

struct ps_ticket th_pretend_ticket(uint32_t first, uint32_t count,
				   uint32_t offset, uint32_t bytes)
{
	const struct th_pretend_ticket names = { first, count, offset, bytes };
	struct ps_ticket ticket = { .bytes = PS_TICKET_MAGIC };

	memcpy(ticket.bytes + TH_TICKET_AT, &names, sizeof(names));
	return ticket;
}
