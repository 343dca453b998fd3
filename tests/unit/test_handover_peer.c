/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One side of the handover against a peer that does not keep the protocol:
 * its messages lie in the socket before we begin. What breaks a rule is
 * refused by name, the peer is told, and nothing of it reaches the sink.
 */
#include <errno.h>

#include "tests/support/ipc_talk.h"
#include "tests/support/rigged_calls.h"

/* Puts a message into the socket, as whoever is at @fd. */
static void put(struct ip_conn *conn, struct ip_message *msg)
{
	for (unsigned int i = 0; i < msg->fd_count; i++) {
		uint32_t index = msg->body.segments.first + i;

		msg->fds[i] = memfd_create("segment", MFD_CLOEXEC);
		assert_int_equal(ftruncate(msg->fds[i], (off_t)index + 1), 0);
	}
	th_assert_ok(ip_conn_send(conn, msg));
	ip_message_done(msg);
}

static void put_sample(struct ip_conn *conn, enum ip_type type)
{
	struct ip_message msg;

	th_sample(type, &msg);
	put(conn, &msg);
}

static void put_segments(struct ip_conn *conn, uint32_t first, uint32_t count,
			 uint32_t write)
{
	struct ip_message msg;

	th_sample(IP_SEGMENTS, &msg);
	msg.body.segments = (struct ip_segments){ first, count, write };
	msg.fd_count = count;
	put(conn, &msg);
}

static void put_got(struct ip_conn *conn, uint32_t first, uint32_t count)
{
	struct ip_message msg;

	th_sample(IP_GOT, &msg);
	msg.body.got = (struct ip_got){ first, count };
	put(conn, &msg);
}

/* A sample with @width bytes at @at of the message replaced. */
static void put_patched(int fd, enum ip_type type, size_t at, size_t width,
			uint64_t value)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	size_t size = th_sample_bytes(type, bytes);

	for (size_t i = 0; i < width; i++)
		bytes[at + i] = (uint8_t)(value >> (8 * i));
	th_send_bytes(fd, bytes, size);
}

/* What we told the peer at @conn last: a refusal with @status. */
static void assert_told(struct ip_conn *conn, enum ps_status status)
{
	struct ip_message msg;

	conn->timeout_ms = 0;
	do {
		th_assert_ok(ip_conn_receive(conn, &msg));
		ip_message_done(&msg);
	} while (msg.type != IP_REFUSE);
	assert_int_equal(msg.body.refuse.status, status);
}

/* Runs the sender against what was put; the peer must learn the reason. */
static void run_sender(struct th_talk *talk, enum ps_status expected,
		       const char *text)
{
	th_source_open(&talk->source);
	talk->ends.sender.timeout_ms = 0;
	th_talk_send(talk);
	th_source_close(&talk->source);
	assert_int_equal(talk->source.lent, 0);
	assert_int_equal(talk->sent, expected);
	th_assert_text(talk->sender_text, text);
	assert_told(&talk->ends.receiver, expected);
	th_talk_done(talk);
}

static void run_receiver(struct th_talk *talk, enum ps_status expected,
			 const char *text)
{
	talk->ends.receiver.timeout_ms = 0;
	th_talk_receive(talk);
	assert_int_equal(talk->received, expected);
	th_assert_text(talk->receiver_text, text);
	assert_told(&talk->ends.sender, expected);
	th_talk_done(talk);
}

/* ------------------------------------------------------------------ */
/* Versions                                                            */

static void test_handover_hello_of_another_major_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_patched(talk.ends.fds[1], IP_HELLO, 4, 2, IP_MAJOR + 1);
	run_sender(&talk, PS_VERSION_MISMATCH,
		   "the peer speaks protocol 2.4, this process 1.4");
}

static void test_handover_hello_of_later_minors_only_is_refused(void **state)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	struct th_talk talk;
	size_t size;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	size = th_sample_bytes(IP_HELLO, bytes);
	bytes[6] = IP_MINOR_HIGH + 7;
	bytes[16] = IP_MINOR_HIGH + 3;
	th_send_bytes(talk.ends.fds[1], bytes, size);
	run_sender(&talk, PS_VERSION_MISMATCH,
		   "the receiver speaks protocol 1.7 to 1.11, the sender 1.0");
}

/* OFFER answers with the highest minor that both know. */
static void meet_receiver(uint16_t minor, uint16_t agreed)
{
	struct ip_message msg;
	struct th_talk talk;

	th_talk_init(&talk, SOCK_STREAM);
	put_patched(talk.ends.fds[1], IP_HELLO, 6, 2, minor);
	talk.ends.sender.timeout_ms = 0;
	th_talk_send(&talk);
	assert_int_equal(talk.sent, PS_TIMED_OUT);
	th_assert_text(talk.sender_text, "waiting for ACCEPT");
	th_assert_ok(ip_conn_receive(&talk.ends.receiver, &msg));
	assert_int_equal(msg.type, IP_OFFER);
	assert_int_equal(msg.minor, agreed);
	th_talk_done(&talk);
}

static void test_handover_newer_receiver_is_met_at_our_minor(void **state)
{
	(void)state;
	meet_receiver(IP_MINOR_HIGH + 7, IP_MINOR_HIGH);
}

static void test_handover_older_receiver_is_met_at_its_minor(void **state)
{
	(void)state;
	meet_receiver(0, 0);
	meet_receiver(1, 1);
}

static void test_handover_older_sender_is_answered_in_its_minor(void **state)
{
	struct ip_message msg;
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_patched(talk.ends.fds[0], IP_OFFER, 6, 2, 0);
	talk.ends.receiver.timeout_ms = 0;
	th_talk_receive(&talk);
	th_assert_text(talk.receiver_text, "waiting for SEGMENTS");
	th_assert_ok(ip_conn_receive(&talk.ends.sender, &msg));
	assert_int_equal(msg.type, IP_HELLO);
	assert_int_equal(msg.minor, IP_MINOR_HIGH);
	th_assert_ok(ip_conn_receive(&talk.ends.sender, &msg));
	assert_int_equal(msg.type, IP_ACCEPT);
	assert_int_equal(msg.minor, 0);
	th_talk_done(&talk);
}

static void test_handover_offer_of_another_major_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_patched(talk.ends.fds[0], IP_OFFER, 4, 2, IP_MAJOR + 1);
	run_receiver(&talk, PS_VERSION_MISMATCH, "protocol 2.4");
	assert_int_equal(talk.sink.checks, 0);
}

static void test_handover_offer_of_a_later_minor_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_patched(talk.ends.fds[0], IP_OFFER, 6, 2, IP_MINOR_HIGH + 1);
	run_receiver(&talk, PS_VERSION_MISMATCH,
		     "answers with protocol 1.5, this process speaks 1.0");
	assert_int_equal(talk.sink.checks, 0);
}

static void test_handover_minor_that_changes_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_sample(&talk.ends.receiver, IP_HELLO);
	put_patched(talk.ends.fds[1], IP_ACCEPT, 6, 2, IP_MINOR_HIGH + 1);
	run_sender(&talk, PS_PROTOCOL, "ACCEPT: minor version is 5, must be 4");
}

/* A sender of another major: its refusal tells us that much. */
static void test_handover_refusal_of_another_major_is_read(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_patched(talk.ends.fds[0], IP_REFUSE, 4, 2, IP_MAJOR + 1);
	run_receiver(&talk, PS_VERSION_MISMATCH, "protocol 2.4");
}

/* ------------------------------------------------------------------ */
/* Receivers that break a rule                                         */

static void test_handover_message_out_of_turn_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_SEQPACKET);
	put_sample(&talk.ends.receiver, IP_HELLO);
	put_got(&talk.ends.receiver, 0, 2);
	run_sender(&talk, PS_PROTOCOL, "waiting for ACCEPT: GOT came");
	assert_int_equal(talk.source.batches, 0);
}

static void test_handover_accept_of_another_pool_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_sample(&talk.ends.receiver, IP_HELLO);
	put_patched(talk.ends.fds[1], IP_ACCEPT, 16, 1, 0);
	run_sender(&talk, PS_PROTOCOL, "pool_id is not the offered pool's");
	assert_int_equal(talk.source.batches, 0);
}

static void test_handover_got_of_other_segments_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_sample(&talk.ends.receiver, IP_HELLO);
	put_sample(&talk.ends.receiver, IP_ACCEPT);
	put_got(&talk.ends.receiver, 0, 1);
	run_sender(&talk, PS_PROTOCOL, "names 1 segments from 0, must be 2");
}

static void test_handover_done_with_another_count_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_sample(&talk.ends.receiver, IP_HELLO);
	put_sample(&talk.ends.receiver, IP_ACCEPT);
	put_got(&talk.ends.receiver, 0, 2);
	put_got(&talk.ends.receiver, 2, 2);
	put_got(&talk.ends.receiver, 4, 1);
	put_patched(talk.ends.fds[1], IP_DONE, 16, 4, TH_SEGMENTS - 1);
	run_sender(&talk, PS_PROTOCOL, "DONE: count is 4, must be 5");
}

static void test_handover_silent_receiver_times_out(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	run_sender(&talk, PS_TIMED_OUT, "waiting for HELLO: pid");
}

/* ------------------------------------------------------------------ */
/* Senders that break a rule                                           */

static void receive_offer(size_t at, size_t width, uint64_t value,
			  enum ps_status expected, const char *text)
{
	struct th_talk talk;

	th_talk_init(&talk, SOCK_STREAM);
	put_patched(talk.ends.fds[0], IP_OFFER, IP_HEADER_BYTES + at, width,
		    value);
	run_receiver(&talk, expected, text);
	assert_int_equal(talk.sink.checks, 0);
}

static void test_handover_incoherent_offer_is_refused(void **state)
{
	(void)state;
	receive_offer(72, 8, 4096, PS_PROTOCOL, "window_base is 0x1000");
	receive_offer(88, 8, 3, PS_PROTOCOL, "segment_bytes is 0x3");
}

static void test_handover_offer_on_another_gpu_is_refused(void **state)
{
	(void)state;
	receive_offer(16 + 4, 1, '7', PS_WRONG_GPU, "the receiver asked for");
}

static void test_handover_offer_in_unasked_mode_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_sample(&talk.ends.sender, IP_OFFER);
	talk.hello.modes = IP_MODE_LEGACY_IPC;
	run_receiver(&talk, PS_PROTOCOL, "mode is 0, HELLO took modes 0x2");
}

static void test_handover_offer_of_too_many_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_sample(&talk.ends.sender, IP_OFFER);
	talk.hello.fds_in_all = 4;
	run_receiver(&talk, PS_PROTOCOL, "count is 5, HELLO took 4");
}

/* OFFER, a good first batch, then a bad one; the sink sees the first only. */
static void receive_bad_batch(uint32_t first, uint32_t count, uint32_t write,
			      const char *text)
{
	struct th_talk talk;

	th_talk_init(&talk, SOCK_STREAM);
	put_sample(&talk.ends.sender, IP_OFFER);
	put_segments(&talk.ends.sender, 0, 2, 0);
	put_segments(&talk.ends.sender, first, count, write);
	run_receiver(&talk, PS_PROTOCOL, text);
	assert_int_equal(talk.sink.batches, 1);
}

static void test_handover_segments_left_out_are_refused(void **state)
{
	(void)state;
	receive_bad_batch(3, 2, 1, "first is 3, must be 2");
}

static void test_handover_segments_sent_twice_are_refused(void **state)
{
	(void)state;
	receive_bad_batch(0, 2, 0, "first is 0, must be 2");
}

static void test_handover_batch_beyond_the_wish_is_refused(void **state)
{
	(void)state;
	receive_bad_batch(2, 3, 1, "count is 3, must be at most 2");
}

static void test_handover_other_access_is_refused(void **state)
{
	(void)state;
	receive_bad_batch(2, 2, 0, "write is 0 for segment 2, must be 1");
}

static void test_handover_batch_across_regions_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	talk.hello.fds_at_once = 4;
	put_sample(&talk.ends.sender, IP_OFFER);
	put_segments(&talk.ends.sender, 0, 3, 0);
	run_receiver(&talk, PS_PROTOCOL, "count is 3, must be at most 2");
	assert_int_equal(talk.sink.batches, 0);
}

static void test_handover_batch_beyond_the_end_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_sample(&talk.ends.sender, IP_OFFER);
	put_segments(&talk.ends.sender, 0, 2, 0);
	put_segments(&talk.ends.sender, 2, 2, 1);
	put_segments(&talk.ends.sender, 4, 2, 1);
	run_receiver(&talk, PS_PROTOCOL, "count is 2, must be at most 1");
	assert_int_equal(talk.sink.batches, 2);
}

static void test_handover_silent_sender_times_out(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_SEQPACKET);
	run_receiver(&talk, PS_TIMED_OUT, "waiting for OFFER: pid");
}

/* ------------------------------------------------------------------ */
/* Refusals                                                            */

/* It refused and closed before we said anything. */
static void test_handover_early_refusal_is_found(void **state)
{
	struct th_talk talk;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		th_talk_init(&talk, th_socket_types[i]);
		put_sample(&talk.ends.sender, IP_REFUSE);
		close(talk.ends.fds[0]);
		th_talk_receive(&talk);
		assert_int_equal(talk.received, PS_WRONG_GPU);
		th_assert_text(talk.receiver_text,
			       "refused: PS_WRONG_GPU: no such GPU here");
		close(talk.ends.fds[1]);
	}
}

/* What concerns the peer alone is PS_REFUSED here, with its name. */
static void refuse_with(enum ps_status told, enum ps_status expected)
{
	struct ip_message msg;
	struct th_talk talk;

	th_talk_init(&talk, SOCK_STREAM);
	th_sample(IP_REFUSE, &msg);
	msg.body.refuse.status = told;
	put(&talk.ends.sender, &msg);
	th_talk_receive(&talk);
	assert_int_equal(talk.received, expected);
	th_assert_text(talk.receiver_text, ps_status_name(told));
	th_talk_done(&talk);
}

static void test_handover_refusal_about_us_keeps_its_status(void **state)
{
	(void)state;
	refuse_with(PS_VERSION_MISMATCH, PS_VERSION_MISMATCH);
	refuse_with(PS_PERMISSION, PS_PERMISSION);
	refuse_with(PS_PROTOCOL, PS_PROTOCOL);
	refuse_with(PS_UNSUPPORTED, PS_UNSUPPORTED);
	refuse_with(PS_OUT_OF_MEMORY, PS_REFUSED);
	refuse_with(PS_INVALID_ARGUMENT, PS_REFUSED);
	refuse_with(PS_AGAIN, PS_REFUSED);
}

/* A later minor may know more statuses than we do. */
static void test_handover_unknown_status_is_refused(void **state)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	struct th_talk talk;
	size_t size;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	size = th_sample_bytes(IP_REFUSE, bytes);
	bytes[6] = IP_MINOR_HIGH + 1;
	bytes[16] = 200;
	th_send_bytes(talk.ends.fds[0], bytes, size);
	th_talk_receive(&talk);
	assert_int_equal(talk.received, PS_REFUSED);
	th_assert_text(talk.receiver_text, "PS_UNKNOWN: no such GPU here");
	th_talk_done(&talk);
}

/* A refusal is not answered with a refusal. */
static void test_handover_refusal_is_not_answered(void **state)
{
	struct ip_message msg;
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	put_sample(&talk.ends.sender, IP_REFUSE);
	th_talk_receive(&talk);
	th_assert_ok(ip_conn_receive(&talk.ends.sender, &msg));
	assert_int_equal(msg.type, IP_HELLO);
	th_assert_status(ip_conn_receive(&talk.ends.sender, &msg),
			 PS_PEER_GONE);
	th_talk_done(&talk);
}

/* Half a message lies in the stream: what followed would be misread. */
static void test_handover_nothing_follows_half_a_message(void **state)
{
	struct ip_message msg;
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	th_rig.most = 10;
	th_fail_at(TH_SENDMSG, 2, ENOBUFS);
	th_talk_receive(&talk);
	th_rig.most = 0;
	assert_int_equal(talk.received, PS_SYSTEM);
	th_assert_status(ip_conn_receive(&talk.ends.sender, &msg),
			 PS_PEER_GONE);
	th_assert_said("after 10 bytes");
	th_talk_done(&talk);
}

#define RIGGED(fn) TH_TEST_SETUP(fn, th_rig_reset, th_rig_reset)

static const struct th_test tests[] = {
	RIGGED(test_handover_hello_of_another_major_is_refused),
	RIGGED(test_handover_hello_of_later_minors_only_is_refused),
	RIGGED(test_handover_newer_receiver_is_met_at_our_minor),
	RIGGED(test_handover_older_receiver_is_met_at_its_minor),
	RIGGED(test_handover_older_sender_is_answered_in_its_minor),
	RIGGED(test_handover_offer_of_another_major_is_refused),
	RIGGED(test_handover_offer_of_a_later_minor_is_refused),
	RIGGED(test_handover_minor_that_changes_is_refused),
	RIGGED(test_handover_refusal_of_another_major_is_read),
	RIGGED(test_handover_message_out_of_turn_is_refused),
	RIGGED(test_handover_accept_of_another_pool_is_refused),
	RIGGED(test_handover_got_of_other_segments_is_refused),
	RIGGED(test_handover_done_with_another_count_is_refused),
	RIGGED(test_handover_silent_receiver_times_out),
	RIGGED(test_handover_incoherent_offer_is_refused),
	RIGGED(test_handover_offer_on_another_gpu_is_refused),
	RIGGED(test_handover_offer_in_unasked_mode_is_refused),
	RIGGED(test_handover_offer_of_too_many_is_refused),
	RIGGED(test_handover_segments_left_out_are_refused),
	RIGGED(test_handover_segments_sent_twice_are_refused),
	RIGGED(test_handover_batch_beyond_the_wish_is_refused),
	RIGGED(test_handover_other_access_is_refused),
	RIGGED(test_handover_batch_across_regions_is_refused),
	RIGGED(test_handover_batch_beyond_the_end_is_refused),
	RIGGED(test_handover_silent_sender_times_out),
	RIGGED(test_handover_early_refusal_is_found),
	RIGGED(test_handover_refusal_about_us_keeps_its_status),
	RIGGED(test_handover_unknown_status_is_refused),
	RIGGED(test_handover_refusal_is_not_answered),
	RIGGED(test_handover_nothing_follows_half_a_message),
};

TH_MAIN("handover_peer", tests)
