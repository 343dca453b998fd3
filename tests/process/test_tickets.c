/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Tickets and descriptors of memory, against a pretend daemon: what it is told,
 * and what becomes of what it says. */
#include "tests/support/pretend_daemon.h"

#include "ipc/wire.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define LEASES (TH_SEGMENTS - TH_PARAMETERS)
#define WHOLE TH_SEGMENT
#define KIB UINT64_C(1024)
/* A segment that the daemon leases to us only when it has no other. */
#define FOREIGN 12u

static void *open_ticket(struct ps_pool *pool, const struct ps_ticket *ticket)
{
	void *at = NULL;

	th_assert_ok(ps_ticket_open(pool, ticket, &at));
	return at;
}

static void assert_opened(const struct th_part *me, uint64_t segments)
{
	assert_int_equal(th_order(me, TH_ORDER_OPENED, 0, 0), segments);
}

static void assert_requests(const struct th_part *me, enum ip_type type,
			    uint64_t count)
{
	assert_int_equal(th_order(me, TH_ORDER_REQUESTS, type, 0), count);
}

/* ---- opening ---- */

static void open_one(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 2, 512, WHOLE);
	char *at = open_ticket(pool, &ticket);

	assert_true(ps_mem_is_inside(pool, at));
	assert_int_equal((uintptr_t)at % WHOLE, 512);
	th_put(pool, at + WHOLE, 7);
	assert_int_equal(th_get(pool, at + WHOLE), 7);
	assert_int_equal(th_stats(pool).opened, 2 * WHOLE);
	assert_int_equal(th_stats(pool).inserted, 0);
	th_assert_ok(ps_ticket_close(pool, at));
	assert_opened(me, 0);
	assert_int_equal(th_stats(pool).opened, 0);
	assert_int_equal(th_stats(pool).mapped, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_opened_can_be_used(void **state)
{
	(void)state;
	th_pretend_play(open_one);
}

static void open_twice(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 1, 0, WHOLE);
	void *at = open_ticket(pool, &ticket);

	assert_ptr_equal(open_ticket(pool, &ticket), at);
	assert_requests(me, IP_OPEN, 1);
	th_assert_ok(ps_ticket_close(pool, at));
	th_put(pool, at, 3);
	th_assert_ok(ps_ticket_close(pool, at));
	assert_requests(me, IP_CLOSE, 1);
	th_assert_status(ps_ticket_close(pool, at), PS_NOT_OURS);
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_opened_twice_is_mapped_once(void **state)
{
	(void)state;
	th_pretend_play(open_twice);
}

static void open_neighbours(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket one = th_pretend_ticket(FOREIGN, 1, 0, 512);
	struct ps_ticket other = th_pretend_ticket(FOREIGN, 1, 4096, 512);
	char *at = open_ticket(pool, &one);
	char *there = open_ticket(pool, &other);

	assert_ptr_equal(there, at + 4096);
	assert_int_equal(th_stats(pool).mapped, WHOLE);
	th_assert_ok(ps_ticket_close(pool, at));
	th_put(pool, there, 3);
	assert_opened(me, 1);
	th_assert_ok(ps_ticket_close(pool, there));
	assert_opened(me, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_tickets_for_one_segment_share_its_mapping(void **state)
{
	(void)state;
	th_pretend_play(open_neighbours);
}

/* A segment in two mappings is closed with the second. */
static void open_overlapping(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket one = th_pretend_ticket(FOREIGN, 2, 0, 2 * WHOLE);
	struct ps_ticket other = th_pretend_ticket(FOREIGN + 1, 2, 0, WHOLE);
	char *at = open_ticket(pool, &one);
	char *there = open_ticket(pool, &other);

	th_put(pool, at + WHOLE, 9);
	assert_int_equal(th_get(pool, there), 9);
	assert_int_equal(th_stats(pool).opened, 3 * WHOLE);
	th_assert_ok(ps_ticket_close(pool, at));
	assert_opened(me, 2);
	assert_int_equal(th_get(pool, there), 9);
	th_assert_ok(ps_ticket_close(pool, there));
	assert_opened(me, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_closed_leaves_what_another_has_open(void **state)
{
	(void)state;
	th_pretend_play(open_overlapping);
}

static void open_many_messages(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(9, 7, 0, 7 * (2u << 20));
	char *at;

	th_order(me, TH_ORDER_CHUNK, 2, 0);
	at = open_ticket(pool, &ticket);
	th_put(pool, at + 6 * WHOLE, 6);
	assert_int_equal(th_get(pool, at + 6 * WHOLE), 6);
	th_assert_ok(ps_ticket_close(pool, at));
	assert_opened(me, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_answered_in_parts_is_opened(void **state)
{
	(void)state;
	th_pretend_play(open_many_messages);
}

/* ---- what is open is not ours ---- */

static void misuse(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 1, 0, WHOLE);
	void *at = open_ticket(pool, &ticket);
	int fd;

	th_assert_status(ps_mem_free(pool, at), PS_NOT_OURS);
	th_assert_status(ps_ticket_issue(pool, at, &ticket), PS_NOT_OURS);
	th_assert_status(ps_mem_export_segment(pool, at, &fd), PS_NOT_OURS);
	th_assert_status(ps_pool_map(pool, FOREIGN * WHOLE, WHOLE),
			 PS_OUT_OF_RANGE);
	th_assert_status(ps_ticket_close(pool, (char *)at + 512), PS_NOT_OURS);
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_detach(pool));
}

static void test_opened_memory_is_neither_freed_nor_passed_on(void **state)
{
	(void)state;
	th_pretend_play(misuse);
}

static void allocate_beside(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 1, 0, WHOLE);
	char *at = open_ticket(pool, &ticket), *block;

	th_order(me, TH_ORDER_SCATTER, 0, 0);
	block = th_alloc(pool, 4 * WHOLE);
	assert_int_equal(th_stats(pool).gathered, 4 * WHOLE);
	th_put(pool, at, 1);
	for (unsigned int i = 0; i < 4; i++)
		th_put(pool, block + i * WHOLE, 2);
	assert_int_equal(th_get(pool, at), 1);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_ticket_close(pool, at));
	th_assert_ok(ps_detach(pool));
}

static void test_opened_memory_is_not_allocated_from(void **state)
{
	(void)state;
	th_pretend_play(allocate_beside);
}

static void leave_open(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 1, 0, WHOLE);

	(void)open_ticket(pool, &ticket);
	th_assert_ok(ps_detach(pool));
	assert_opened(me, 0);
}

static void test_detach_closes_what_is_open(void **state)
{
	(void)state;
	th_pretend_play(leave_open);
}

/* ---- refusals ---- */

static void open_nonsense(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 1, 0, WHOLE);
	void *at;

	ticket.bytes[0] ^= 1;
	th_assert_status(ps_ticket_open(pool, &ticket, &at), PS_REFUSED);
	assert_requests(me, IP_OPEN, 0);
	ticket.bytes[0] ^= 1;
	th_order(me, TH_ORDER_DENY, PS_REFUSED, 1);
	th_assert_status(ps_ticket_open(pool, &ticket, &at), PS_REFUSED);
	th_assert_detail("denied as ordered");
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_forged_is_refused(void **state)
{
	(void)state;
	th_pretend_play(open_nonsense);
}

static void open_files(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 2, 0, WHOLE);
	void *at;

	th_order(me, TH_ORDER_LIE, TH_LIE_OPEN_FILES, 1);
	th_assert_status(ps_ticket_open(pool, &ticket, &at), PS_BAD_SEGMENT);
	assert_opened(me, 0);
	assert_int_equal(th_stats(pool).opened, 0);
	th_assert_ok(ps_ticket_close(pool, open_ticket(pool, &ticket)));
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_for_plain_files_is_closed_again(void **state)
{
	(void)state;
	th_pretend_play(open_files);
}

static void open_wrongly(const struct th_part *me, struct ps_ticket ticket,
			 const char *detail)
{
	struct ps_pool *pool = th_pretend_attach(me);
	void *block = th_alloc(pool, WHOLE), *at;

	th_assert_status(ps_ticket_open(pool, &ticket, &at), PS_PROTOCOL);
	th_assert_detail(detail);
	th_put(pool, block, 1);
	assert_int_equal(th_stats(pool).opened, 0);
	th_assert_ok(ps_mem_free(pool, block));
	ps_pool_close(pool);
}

static void open_parameters(const struct th_part *me)
{
	open_wrongly(me, th_pretend_ticket(0, 1, 0, WHOLE),
		     "is not in the computation region");
}

static void open_our_own(const struct th_part *me)
{
	open_wrongly(me, th_pretend_ticket(TH_PARAMETERS, 1, 0, WHOLE),
		     "is leased to this process");
}

static void test_ticket_for_parameters_breaks_the_protocol(void **state)
{
	(void)state;
	th_pretend_play(open_parameters);
}

static void test_ticket_for_our_own_breaks_the_protocol(void **state)
{
	(void)state;
	th_pretend_play(open_our_own);
}

/* ---- the connection breaks ---- */

static void be_cut(const struct th_part *me, enum th_cut cut, uint64_t closed)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 4, 0, WHOLE);
	void *at;

	th_order(me, TH_ORDER_CHUNK, 2, 0);
	th_order(me, TH_ORDER_CUT, 1, cut);
	at = open_ticket(pool, &ticket);
	assert_opened(me, 4);
	assert_requests(me, IP_CLOSE, closed);
	th_put(pool, at, 1);
	th_order(me, TH_ORDER_CUT, 1, cut);
	th_assert_ok(ps_ticket_close(pool, at));
	assert_opened(me, 0);
	th_assert_ok(ps_detach(pool));
}

static void be_cut_unread(const struct th_part *me)
{
	be_cut(me, TH_CUT_UNREAD, 0);
}

static void be_cut_unsaid(const struct th_part *me)
{
	be_cut(me, TH_CUT_UNSAID, 1);
}

static void be_cut_halfway(const struct th_part *me)
{
	be_cut(me, TH_CUT_HALFWAY, 0);
}

static void test_ticket_request_lost_is_sent_again(void **state)
{
	(void)state;
	th_pretend_play(be_cut_unread);
}

static void test_ticket_answer_lost_is_closed_and_asked_for_again(void **state)
{
	(void)state;
	th_pretend_play(be_cut_unsaid);
}

static void test_ticket_answer_cut_is_asked_for_again(void **state)
{
	(void)state;
	th_pretend_play(be_cut_halfway);
}

static void resume(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 2, 0, WHOLE);
	void *at = open_ticket(pool, &ticket);

	th_put(pool, at, 4);
	th_order(me, TH_ORDER_HANG_UP, 0, 0);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, WHOLE)));
	assert_opened(me, 2);
	assert_int_equal(th_get(pool, at), 4);
	th_assert_ok(ps_ticket_close(pool, at));
	assert_opened(me, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_opened_memory_stays_over_a_reconnect(void **state)
{
	(void)state;
	th_pretend_play(resume);
}

static void lose_the_daemon(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 1, 0, WHOLE);
	void *block = th_alloc(pool, WHOLE), *at = open_ticket(pool, &ticket);
	int fd;

	th_order(me, TH_ORDER_FORGET, 0, 0);
	th_order(me, TH_ORDER_END, 0, 0);
	th_assert_status(ps_ticket_issue(pool, block, &ticket), PS_NO_DAEMON);
	th_assert_status(ps_mem_export_segment(pool, block, &fd), PS_NO_DAEMON);
	th_put(pool, at, 4);
	th_assert_ok(ps_ticket_close(pool, at));
	th_assert_status(ps_ticket_close(pool, at), PS_NOT_OURS);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_tickets_without_a_daemon_say_so(void **state)
{
	(void)state;
	th_pretend_play(lose_the_daemon);
}

/* ---- issuing ---- */

/* The pretend daemon's tickets repeat what was asked of it. */
static void assert_issued(struct ps_pool *pool, const void *at, uint32_t first,
			  uint32_t count, uint64_t offset, uint64_t bytes)
{
	struct ps_ticket ticket, wanted;

	wanted = th_pretend_ticket(first, count, (uint32_t)offset,
				   (uint32_t)bytes);
	th_assert_ok(ps_ticket_issue(pool, at, &ticket));
	assert_memory_equal(ticket.bytes, wanted.bytes, sizeof(wanted.bytes));
}

static void issue_for_blocks(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	char *block = th_alloc(pool, 3 * WHOLE);

	assert_issued(pool, block, TH_PARAMETERS, 3, 0, 3 * WHOLE);
	assert_issued(pool, block + 512, TH_PARAMETERS, 3, 0, 3 * WHOLE);
	assert_issued(pool, block + WHOLE, TH_PARAMETERS + 1, 2, 0, 2 * WHOLE);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_issued_is_for_the_block(void **state)
{
	(void)state;
	th_pretend_play(issue_for_blocks);
}

/* Two blocks that each fill three quarters of a segment: the second begins in
 * the first segment and ends in the next. */
static void issue_for_segments(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	char *one = th_alloc(pool, 1536 * KIB);
	char *other = th_alloc(pool, 1536 * KIB), *room = one;

	assert_ptr_equal(other, room + 1536 * KIB);
	th_assert_ok(ps_mem_free(pool, one));
	assert_issued(pool, room, TH_PARAMETERS, 2, 0, 3072 * KIB);
	assert_issued(pool, other + 512, TH_PARAMETERS, 2, 1536 * KIB,
		      1536 * KIB);
	assert_issued(pool, room + WHOLE, TH_PARAMETERS + 1, 1, 0, WHOLE);
	th_assert_ok(ps_mem_free(pool, other));
	th_assert_ok(ps_detach(pool));
}

static void
test_ticket_issued_at_a_segment_reaches_to_its_last_block(void **state)
{
	(void)state;
	th_pretend_play(issue_for_segments);
}

static void issue_scattered(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	struct ps_ticket ticket;
	void *block;

	th_order(me, TH_ORDER_SCATTER, 0, 0);
	block = th_alloc(pool, IP_TICKET_RUNS * WHOLE);
	th_assert_ok(ps_ticket_issue(pool, block, &ticket));
	th_assert_ok(ps_mem_free(pool, block));
	block = th_alloc(pool, (IP_TICKET_RUNS + 1) * WHOLE);
	th_assert_status(ps_ticket_issue(pool, block, &ticket), PS_UNSUPPORTED);
	th_assert_detail("runs");
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void
test_ticket_for_a_block_in_too_many_parts_is_unsupported(void **state)
{
	(void)state;
	th_pretend_play(issue_scattered);
}

static void issue_for_nothing(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	char *block = th_alloc(pool, WHOLE);
	struct ps_ticket ticket;
	int local, fd;

	th_assert_ok(ps_pool_map(pool, 0, WHOLE));
	th_assert_status(ps_ticket_issue(pool, &local, &ticket), PS_NOT_OURS);
	th_assert_status(
		ps_ticket_issue(pool, ps_pool_pointer(pool, 0), &ticket),
		PS_NOT_OURS);
	th_assert_status(ps_ticket_issue(pool, block + 5 * WHOLE, &ticket),
			 PS_NOT_OURS);
	th_assert_status(ps_mem_export_segment(pool, &local, &fd), PS_NOT_OURS);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_status(ps_ticket_issue(pool, block + 512, &ticket),
			 PS_NOT_OURS);
	assert_requests(me, IP_ISSUE, 0);
	th_assert_ok(ps_detach(pool));
}

static void test_ticket_for_what_is_not_leased_is_refused(void **state)
{
	(void)state;
	th_pretend_play(issue_for_nothing);
}

/* ---- descriptors ---- */

static void export_one(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	char *block = th_alloc(pool, WHOLE);
	int fd = -1;

	th_assert_ok(ps_mem_export_segment(pool, block + 100, &fd));
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	assert_requests(me, IP_NEED, 1);
	th_assert_ok(ps_mem_free(pool, block));
	th_assert_ok(ps_detach(pool));
}

static void test_segment_exported_is_a_descriptor_of_the_callers(void **state)
{
	(void)state;
	th_pretend_play(export_one);
}

static const struct th_test tests[] = {
	TH_TEST(test_ticket_opened_can_be_used),
	TH_TEST(test_ticket_opened_twice_is_mapped_once),
	TH_TEST(test_tickets_for_one_segment_share_its_mapping),
	TH_TEST(test_ticket_closed_leaves_what_another_has_open),
	TH_TEST(test_ticket_answered_in_parts_is_opened),
	TH_TEST(test_opened_memory_is_neither_freed_nor_passed_on),
	TH_TEST(test_opened_memory_is_not_allocated_from),
	TH_TEST(test_detach_closes_what_is_open),
	TH_TEST(test_ticket_forged_is_refused),
	TH_TEST(test_ticket_for_plain_files_is_closed_again),
	TH_TEST(test_ticket_for_parameters_breaks_the_protocol),
	TH_TEST(test_ticket_for_our_own_breaks_the_protocol),
	TH_TEST(test_ticket_request_lost_is_sent_again),
	TH_TEST(test_ticket_answer_lost_is_closed_and_asked_for_again),
	TH_TEST(test_ticket_answer_cut_is_asked_for_again),
	TH_TEST(test_opened_memory_stays_over_a_reconnect),
	TH_TEST(test_tickets_without_a_daemon_say_so),
	TH_TEST(test_ticket_issued_is_for_the_block),
	TH_TEST(test_ticket_issued_at_a_segment_reaches_to_its_last_block),
	TH_TEST(test_ticket_for_a_block_in_too_many_parts_is_unsupported),
	TH_TEST(test_ticket_for_what_is_not_leased_is_refused),
	TH_TEST(test_segment_exported_is_a_descriptor_of_the_callers),
};

TH_GPU_MAIN("tickets", tests, NULL)
