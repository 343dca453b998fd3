/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A peer that dies in the middle of the handover: after each number of bytes
 * that it could have sent, in both roles, on both kinds of socket. The other
 * side says so, at once, and nothing stays open.
 */
#include <errno.h>

#include "tests/support/ipc_talk.h"
#include "tests/support/rigged_calls.h"

/* Lets the side at @dying die after @bytes; true when it came through. */
static bool cut_after(int type, int dying, size_t bytes)
{
	struct th_talk talk;
	enum ps_status survivor;
	const char *text;

	th_talk_init(&talk, type);
	talk.sink.keep = bytes % 2 == 0;
	th_rig.dies = true;
	th_rig.died = false;
	th_rig.die_fd = talk.ends.fds[dying];
	th_rig.die_after = bytes;
	th_talk_run(&talk);
	survivor = dying == 0 ? talk.received : talk.sent;
	text = dying == 0 ? talk.receiver_text : talk.sender_text;
	/* Half a packet is a message that makes no sense. */
	if (th_rig.died && survivor != PS_PEER_GONE &&
	    !(survivor == PS_PROTOCOL && type == SOCK_SEQPACKET))
		fail_msg("%zu bytes: %s: %s", bytes, ps_status_name(survivor),
			 text);
	if (!th_rig.died && (talk.sent != PS_OK || talk.received != PS_OK))
		fail_msg("%zu bytes: nobody died: %s", bytes, text);
	th_talk_done(&talk);
	return !th_rig.died;
}

static void cut_everywhere(int type, int dying, size_t whole)
{
	size_t open_before = th_open_fds();
	size_t bytes = 0;

	while (!cut_after(type, dying, bytes)) {
		assert_int_equal(th_open_fds(), open_before);
		bytes++;
	}
	assert_int_equal(bytes, whole);
}

/* OFFER and three of SEGMENTS. */
#define SENDER_BYTES (196 + 3 * 28)
/* HELLO, ACCEPT, three of GOT, DONE. */
#define RECEIVER_BYTES (76 + 32 + 3 * 24 + 20)

static void test_handover_sender_cut_at_every_byte_of_a_stream(void **state)
{
	(void)state;
	cut_everywhere(SOCK_STREAM, 0, SENDER_BYTES);
}

static void test_handover_sender_cut_at_every_byte_of_packets(void **state)
{
	(void)state;
	cut_everywhere(SOCK_SEQPACKET, 0, SENDER_BYTES);
}

static void test_handover_receiver_cut_at_every_byte_of_a_stream(void **state)
{
	(void)state;
	cut_everywhere(SOCK_STREAM, 1, RECEIVER_BYTES);
}

static void test_handover_receiver_cut_at_every_byte_of_packets(void **state)
{
	(void)state;
	cut_everywhere(SOCK_SEQPACKET, 1, RECEIVER_BYTES);
}

/* Each send and each receive of either side fails once. */
static void fail_everywhere(enum th_call call, int error)
{
	size_t open_before = th_open_fds();
	struct th_talk talk;
	bool clean = false;

	for (int nth = 1; !clean; nth++) {
		th_talk_init(&talk, SOCK_STREAM);
		th_fail_at(call, nth, error);
		th_talk_run(&talk);
		clean = talk.sent == PS_OK && talk.received == PS_OK;
		assert_true(clean || talk.sent != PS_OK ||
			    talk.received == PS_SYSTEM);
		th_rig.fail_at[call] = 0;
		th_talk_done(&talk);
		assert_int_equal(th_open_fds(), open_before);
	}
}

static void test_handover_nth_send_failing_is_noticed(void **state)
{
	(void)state;
	fail_everywhere(TH_SENDMSG, ENOBUFS);
}

static void test_handover_nth_receive_failing_is_noticed(void **state)
{
	(void)state;
	fail_everywhere(TH_RECVMSG, ENOMEM);
}

#define RIGGED(fn) TH_TEST_SETUP(fn, th_rig_reset, th_rig_reset)

static const struct th_test tests[] = {
	RIGGED(test_handover_sender_cut_at_every_byte_of_a_stream),
	RIGGED(test_handover_sender_cut_at_every_byte_of_packets),
	RIGGED(test_handover_receiver_cut_at_every_byte_of_a_stream),
	RIGGED(test_handover_receiver_cut_at_every_byte_of_packets),
	RIGGED(test_handover_nth_send_failing_is_noticed),
	RIGGED(test_handover_nth_receive_failing_is_noticed),
};

TH_MAIN("handover_cut", tests)
