/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What an attached client asks for besides segments: room outside the pool,
 * descriptors to hand on, tickets. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/client.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_daemon_talk.h"
#include "tests/support/rigged_calls.h"

/* ------------------------------------------------------------------ */
/* Room outside                                                        */

static const struct ip_take room = { .count = 4, .flags = IP_TAKE_OUTSIDE };

static void put_room(struct th_daemon_talk *talk, uint32_t first,
		     uint32_t count, uint32_t flags)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_GRANT, talk->daemon.minor);
	msg.body.list = (struct ip_list){ 2, flags, count, { 0 } };
	for (uint32_t i = 0; i < count; i++)
		msg.body.list.segment[i] = first + i;
	th_put_message(talk, &msg);
}

static void test_client_room_comes_without_descriptors(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_room(&talk, 0, 3, IP_LIST_OUTSIDE | IP_LIST_MORE);
	put_room(&talk, 3, 1, IP_LIST_OUTSIDE);
	th_assert_ok(ip_client_take(&talk.client, &room, &grant, fds));
	assert_int_equal(grant.count, 3);
	assert_int_equal(fds[0], -1);
	assert_int_equal(fds[2], -1);
	th_assert_ok(ip_client_take(&talk.client, NULL, &grant, fds));
	assert_int_equal(grant.segment[0], 3);
	th_hear(&talk, IP_TAKE, &msg);
	assert_int_equal(msg.body.take.flags, IP_TAKE_OUTSIDE);
	th_close_talk(&talk);
}

static void test_client_segments_in_place_of_room_are_refused(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_GRANT, 2);
	th_assert_status(ip_client_take(&talk.client, &room, &grant, fds),
			 PS_PROTOCOL);
	th_assert_said("GRANT: brings segments, room was asked for");
	th_close_talk(&talk);
}

static void test_client_room_in_place_of_segments_is_refused(void **state)
{
	const struct ip_take take = { .count = 4 };
	int fds[IP_LIST_MAX];
	struct ip_list grant;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_room(&talk, 0, 3, IP_LIST_OUTSIDE);
	th_assert_status(ip_client_take(&talk.client, &take, &grant, fds),
			 PS_PROTOCOL);
	th_assert_said("GRANT: brings room, no room was asked for");
	th_close_talk(&talk);
}

/* ------------------------------------------------------------------ */
/* Exports                                                             */

static void test_client_export_asks_for_one_segment(void **state)
{
	struct ip_message msg;
	struct th_daemon_talk talk;
	int fd = -1;

	(void)state;
	th_open_attached(&talk);
	th_answer_init(&talk, IP_PART, 2, &msg);
	ip_close(ip_message_take_fd(&msg, 1));
	msg.body.part = (struct ip_part){ 2, 3, 1, 1 };
	msg.fd_count = 1;
	th_put_message(&talk, &msg);
	th_assert_ok(ip_client_export(&talk.client, 3, &fd));
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	th_hear(&talk, IP_NEED, &msg);
	assert_int_equal(msg.body.need.count, 1);
	assert_int_equal(msg.body.need.flags, IP_NEED_EXPORT);
	th_close_talk(&talk);
}

static void test_client_export_of_another_segment_is_refused(void **state)
{
	struct th_daemon_talk talk;
	int fd = -1;

	(void)state;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_PART, 2);
	th_assert_status(ip_client_export(&talk.client, 0, &fd), PS_PROTOCOL);
	th_assert_said("PART: has 2 segments from 0, must be 1 from 0");
	assert_int_equal(fd, -1);
	th_close_talk(&talk);
}

/* ------------------------------------------------------------------ */
/* Tickets                                                             */

static struct ip_issue two_runs(void)
{
	struct ip_message msg;

	th_sample(IP_ISSUE, &msg);
	return msg.body.issue;
}

static void test_client_issue_gets_the_tickets_bytes(void **state)
{
	struct ip_issue issue = two_runs();
	uint8_t ticket[IP_TICKET_BYTES];
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_TICKET, 2);
	th_assert_ok(ip_client_issue(&talk.client, &issue, ticket));
	assert_int_equal(ticket[0], 0x7e);
	assert_int_equal(ticket[IP_TICKET_BYTES - 1], 0x7e);
	th_hear(&talk, IP_ISSUE, &msg);
	assert_int_equal(msg.body.issue.seq, 2);
	assert_int_equal(msg.body.issue.run_count, 2);
	assert_int_equal(msg.body.issue.run[1].first, 2);
	th_close_talk(&talk);
}

static void test_client_denied_issue_writes_nothing(void **state)
{
	struct ip_issue issue = two_runs();
	uint8_t ticket[IP_TICKET_BYTES] = { 0 };
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_put_denial(&talk, 2, PS_PERMISSION);
	th_assert_status(ip_client_issue(&talk.client, &issue, ticket),
			 PS_PERMISSION);
	assert_int_equal(ticket[0], 0);
	th_close_talk(&talk);
}

static const uint8_t paper[IP_TICKET_BYTES] = { 1, 2, 3 };

static void close_all(const int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		close(fds[i]);
	}
}

static void test_client_open_sends_the_ticket_as_it_is(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_opened opened;
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_OPENED, 2);
	th_assert_ok(ip_client_open(&talk.client, paper, &opened, fds));
	assert_int_equal(opened.count, 2);
	assert_int_equal(opened.segment[0], 3);
	assert_int_equal(opened.offset, 512);
	close_all(fds, 2);
	th_hear(&talk, IP_OPEN, &msg);
	assert_memory_equal(msg.body.ticket.ticket, paper, sizeof(paper));
	th_close_talk(&talk);
}

static void put_opened(struct th_daemon_talk *talk, uint32_t first,
		       uint64_t bytes, uint32_t flags)
{
	struct ip_message msg;

	th_answer_init(talk, IP_OPENED, 2, &msg);
	msg.body.opened.flags = flags;
	msg.body.opened.bytes = bytes;
	msg.body.opened.segment[0] = first;
	msg.body.opened.segment[1] = first + 1;
	th_put_message(talk, &msg);
}

static void test_client_open_goes_on_while_there_is_more(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_opened opened;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_opened(&talk, 0, 1024, IP_LIST_MORE);
	put_opened(&talk, 2, 1024, 0);
	th_assert_ok(ip_client_open(&talk.client, paper, &opened, fds));
	close_all(fds, 2);
	assert_int_equal(opened.flags, IP_LIST_MORE);
	th_assert_ok(ip_client_open(&talk.client, NULL, &opened, fds));
	close_all(fds, 2);
	assert_int_equal(opened.segment[0], 2);
	th_close_talk(&talk);
}

static void test_client_opened_that_changes_is_refused(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_opened opened;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_opened(&talk, 0, 1024, IP_LIST_MORE);
	put_opened(&talk, 2, 2048, 0);
	th_assert_ok(ip_client_open(&talk.client, paper, &opened, fds));
	close_all(fds, 2);
	th_assert_status(ip_client_open(&talk.client, NULL, &opened, fds),
			 PS_PROTOCOL);
	th_assert_said("2048 bytes at 512, must be 1024 at 512 as before");
	th_close_talk(&talk);
}

static void test_client_opened_without_end_is_refused(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_opened opened;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_opened(&talk, 0, 1024, IP_LIST_MORE);
	th_assert_ok(ip_client_open(&talk.client, paper, &opened, fds));
	close_all(fds, 2);
	talk.client.wanted = 1; /* as after as many messages as it takes */
	put_opened(&talk, 2, 1024, IP_LIST_MORE);
	th_assert_status(ip_client_open(&talk.client, NULL, &opened, fds),
			 PS_PROTOCOL);
	th_assert_said("more than 65536 segments in all");
	th_close_talk(&talk);
}

static void test_client_refused_ticket_says_why(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_opened opened;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_put_denial(&talk, 2, PS_REFUSED);
	th_assert_status(ip_client_open(&talk.client, paper, &opened, fds),
			 PS_REFUSED);
	assert_false(talk.client.conn.over);
	th_close_talk(&talk);
}

static void test_client_closes_many_in_several_messages(void **state)
{
	uint32_t segments[IP_LIST_MAX + 1];
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	for (uint32_t i = 0; i <= IP_LIST_MAX; i++)
		segments[i] = i;
	th_put_answer(&talk, IP_DID, 2);
	th_put_answer(&talk, IP_DID, 3);
	th_assert_ok(ip_client_close(&talk.client, segments, IP_LIST_MAX + 1));
	th_hear(&talk, IP_CLOSE, &msg);
	assert_int_equal(msg.body.list.count, IP_LIST_MAX);
	assert_int_equal(msg.body.list.flags, 0);
	th_hear(&talk, IP_CLOSE, &msg);
	assert_int_equal(msg.body.list.segment[0], IP_LIST_MAX);
	th_close_talk(&talk);
}

/* ------------------------------------------------------------------ */
/* An older daemon                                                     */

static void open_attached_to(struct th_daemon_talk *talk, uint16_t minor)
{
	struct ip_message msg;

	th_open_talk(talk);
	talk->daemon.minor = minor;
	th_put_welcome(talk, 0);
	th_assert_ok(th_attach_new(talk));
	th_hear(talk, IP_ATTACH, &msg);
}

static void test_client_older_daemon_is_not_asked(void **state)
{
	struct ip_issue issue = two_runs();
	uint8_t ticket[IP_TICKET_BYTES];
	int fds[IP_LIST_MAX];
	struct ip_opened opened;
	struct ip_list grant;
	struct th_daemon_talk talk;

	(void)state;
	open_attached_to(&talk, 2);
	th_assert_status(ip_client_take(&talk.client, &room, &grant, fds),
			 PS_UNSUPPORTED);
	th_assert_said("speaks protocol 1.2, room outside the pool came with");
	th_assert_status(ip_client_export(&talk.client, 3, fds),
			 PS_UNSUPPORTED);
	th_assert_status(ip_client_issue(&talk.client, &issue, ticket),
			 PS_UNSUPPORTED);
	th_assert_status(ip_client_open(&talk.client, paper, &opened, fds),
			 PS_UNSUPPORTED);
	th_assert_status(
		ip_client_close(&talk.client, (const uint32_t[]){ 3 }, 1),
		PS_UNSUPPORTED);
	th_assert_receive(&talk.daemon, PS_TIMED_OUT);
	th_close_talk(&talk);
}

static void test_client_need_of_an_older_daemon_is_in_its_minor(void **state)
{
	struct ip_message msg;
	struct th_daemon_talk talk;
	bool write = false;
	int fds[2];

	(void)state;
	open_attached_to(&talk, 2);
	th_put_answer(&talk, IP_PART, 2);
	th_assert_ok(ip_client_need(&talk.client, 0, 2, &write, fds));
	close_all(fds, 2);
	th_hear(&talk, IP_NEED, &msg);
	assert_int_equal(msg.minor, 2);
	assert_int_equal(msg.body.need.count, 2);
	th_close_talk(&talk);
}

#define RIGGED(fn) TH_TEST_SETUP(fn, th_rig_reset, th_rig_reset)

static const struct th_test tests[] = {
	RIGGED(test_client_room_comes_without_descriptors),
	RIGGED(test_client_segments_in_place_of_room_are_refused),
	RIGGED(test_client_room_in_place_of_segments_is_refused),
	RIGGED(test_client_export_asks_for_one_segment),
	RIGGED(test_client_export_of_another_segment_is_refused),
	RIGGED(test_client_issue_gets_the_tickets_bytes),
	RIGGED(test_client_denied_issue_writes_nothing),
	RIGGED(test_client_open_sends_the_ticket_as_it_is),
	RIGGED(test_client_open_goes_on_while_there_is_more),
	RIGGED(test_client_opened_that_changes_is_refused),
	RIGGED(test_client_opened_without_end_is_refused),
	RIGGED(test_client_refused_ticket_says_why),
	RIGGED(test_client_closes_many_in_several_messages),
	RIGGED(test_client_older_daemon_is_not_asked),
	RIGGED(test_client_need_of_an_older_daemon_is_in_its_minor),
};

TH_MAIN("client_tickets", tests)
