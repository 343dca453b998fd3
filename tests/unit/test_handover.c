/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The handover between two sides that keep the protocol: what arrives, and
 * how each side learns why the other could not go on.
 */
#include <sys/resource.h>

#include "tests/support/ipc_talk.h"
#include "tests/support/rigged_calls.h"

#define NOBODY 65534u

static void assert_ends(const struct th_talk *talk, enum ps_status sent,
			enum ps_status received)
{
	if (talk->sent != sent || talk->received != received)
		fail_msg("sender %s: %s; receiver %s: %s",
			 ps_status_name(talk->sent), talk->sender_text,
			 ps_status_name(talk->received), talk->receiver_text);
}

static void assert_both_ok(const struct th_talk *talk)
{
	assert_ends(talk, PS_OK, PS_OK);
}

/* ------------------------------------------------------------------ */
/* What arrives                                                        */

static void test_handover_whole_pool_arrives(void **state)
{
	struct th_talk talk;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		th_talk_init(&talk, th_socket_types[i]);
		th_talk_run(&talk);
		assert_both_ok(&talk);
		assert_memory_equal(&talk.sink.offer, &talk.offer,
				    sizeof(talk.offer));
		assert_int_equal(talk.sink.checks, 1);
		assert_int_equal(talk.sink.taken, TH_SEGMENTS);
		assert_int_equal(talk.sink.writable,
				 TH_SEGMENTS - TH_PARAMETERS);
		th_talk_done(&talk);
	}
}

static void test_handover_writable_parameters_arrive_writable(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	talk.offer.parameter_write = 1;
	th_talk_run(&talk);
	assert_both_ok(&talk);
	assert_int_equal(talk.sink.writable, TH_SEGMENTS);
	th_talk_done(&talk);
}

static void test_handover_part_of_a_pool_arrives(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	talk.offer.first = 1;
	talk.offer.count = 3;
	th_talk_run(&talk);
	assert_both_ok(&talk);
	assert_int_equal(talk.sink.taken, 4);
	assert_int_equal(talk.sink.writable, 2);
	th_talk_done(&talk);
}

static void test_handover_legacy_pool_has_no_segments(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_SEQPACKET);
	th_offer_init_legacy(&talk.offer);
	th_talk_run(&talk);
	assert_both_ok(&talk);
	assert_int_equal(talk.sink.checks, 1);
	assert_int_equal(talk.sink.batches, 0);
	assert_int_equal(talk.source.batches, 0);
	th_talk_done(&talk);
}

static void test_handover_kept_fds_stay_open(void **state)
{
	struct th_talk talk;
	struct stat info;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	talk.sink.keep = true;
	th_talk_run(&talk);
	assert_both_ok(&talk);
	for (uint32_t i = 0; i < TH_SEGMENTS; i++) {
		assert_int_equal(fstat(talk.sink.kept[i], &info), 0);
		assert_int_equal(info.st_size, i + 1);
	}
	th_talk_done(&talk);
}

static void test_handover_batches_fit_the_receiver(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	th_talk_resize(&talk, 100);
	talk.hello.fds_at_once = 7;
	th_talk_run(&talk);
	assert_both_ok(&talk);
	assert_int_equal(talk.source.largest, 7);
	assert_int_equal(talk.sink.batches, 1 + 14);
	th_talk_done(&talk);
}

static void test_handover_batches_are_bounded(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_SEQPACKET);
	th_talk_resize(&talk, TH_TALK_SEGMENTS);
	talk.hello.fds_at_once = IP_MESSAGE_FDS;
	th_talk_run(&talk);
	assert_both_ok(&talk);
	assert_int_equal(talk.source.largest, IP_BATCH);
	th_talk_done(&talk);
}

static void test_handover_byte_by_byte_arrives(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	th_rig.most = 1;
	th_talk_run(&talk);
	assert_both_ok(&talk);
	th_talk_done(&talk);
}

static void test_handover_socket_is_in_step_afterwards(void **state)
{
	struct th_talk talk;
	char own[8];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		th_talk_init(&talk, th_socket_types[i]);
		th_talk_run(&talk);
		assert_both_ok(&talk);
		th_send_bytes(talk.ends.fds[0], "sender", 6);
		th_send_bytes(talk.ends.fds[1], "receiv", 6);
		assert_int_equal(recv(talk.ends.fds[1], own, 8, MSG_DONTWAIT),
				 6);
		assert_memory_equal(own, "sender", 6);
		assert_int_equal(recv(talk.ends.fds[0], own, 8, MSG_DONTWAIT),
				 6);
		assert_memory_equal(own, "receiv", 6);
		th_talk_done(&talk);
	}
}

static void test_handover_goes_twice_over_one_socket(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	th_talk_run(&talk);
	assert_both_ok(&talk);
	th_talk_run(&talk);
	assert_both_ok(&talk);
	assert_int_equal(talk.sink.checks, 2);
	th_talk_done(&talk);
}

/* ------------------------------------------------------------------ */
/* Each side's failure is told to the other                            */

static void test_handover_wrong_gpu_is_known_to_both(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	talk.hello.gpu[39] = '0';
	th_talk_run(&talk);
	assert_ends(&talk, PS_WRONG_GPU, PS_WRONG_GPU);
	th_assert_text(talk.sender_text, "the pool is on " TH_GPU);
	th_assert_text(talk.receiver_text, "the pool is on " TH_GPU);
	th_assert_text(talk.receiver_text, "refused: PS_WRONG_GPU");
	th_talk_done(&talk);
}

static void test_handover_any_gpu_is_taken(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	memset(talk.hello.gpu, 0, sizeof(talk.hello.gpu));
	th_talk_run(&talk);
	assert_both_ok(&talk);
	th_talk_done(&talk);
}

static void test_handover_unwanted_mode_is_unsupported(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	talk.hello.modes = IP_MODE_LEGACY_IPC;
	th_talk_run(&talk);
	assert_ends(&talk, PS_UNSUPPORTED, PS_UNSUPPORTED);
	th_assert_text(talk.receiver_text, "shared in mode 0");
	th_talk_done(&talk);
}

static void test_handover_more_fds_than_wanted_is_refused(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	talk.hello.fds_in_all = TH_SEGMENTS - 1;
	th_talk_run(&talk);
	assert_ends(&talk, PS_FD_LIMIT, PS_REFUSED);
	th_assert_text(talk.receiver_text,
		       "has 5 segments to send, the receiver takes 4");
	th_talk_done(&talk);
}

static void test_handover_failed_check_is_told(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_SEQPACKET);
	talk.sink.check_status = PS_WINDOW_TAKEN;
	th_talk_run(&talk);
	assert_ends(&talk, PS_REFUSED, PS_WINDOW_TAKEN);
	th_assert_text(talk.sender_text,
		       "refused: PS_WINDOW_TAKEN: the window is in use here");
	assert_string_equal(talk.receiver_text, "the window is in use here");
	th_talk_done(&talk);
}

static void test_handover_failed_take_is_told(void **state)
{
	struct th_talk talk;

	(void)state;
	for (uint32_t batch = 1; batch <= 3; batch++) {
		th_talk_init(&talk, SOCK_STREAM);
		talk.sink.fail_batch = batch;
		th_talk_run(&talk);
		assert_ends(&talk, PS_REFUSED, PS_BAD_SEGMENT);
		th_assert_text(talk.sender_text, "PS_BAD_SEGMENT: segment");
		th_talk_done(&talk);
	}
}

static void test_handover_failed_source_is_told(void **state)
{
	struct th_talk talk;

	(void)state;
	for (uint32_t batch = 1; batch <= 3; batch++) {
		th_talk_init(&talk, SOCK_STREAM);
		talk.source.fail_batch = batch;
		th_talk_run(&talk);
		assert_ends(&talk, PS_DRIVER, PS_REFUSED);
		th_assert_text(talk.receiver_text, "PS_DRIVER: segment");
		th_talk_done(&talk);
	}
}

static void test_handover_incoherent_offer_is_not_sent(void **state)
{
	struct th_talk talk;

	(void)state;
	th_talk_init(&talk, SOCK_STREAM);
	talk.offer.window_base++;
	th_talk_run(&talk);
	assert_ends(&talk, PS_INVALID_ARGUMENT, PS_REFUSED);
	th_assert_text(talk.receiver_text, "window_base is");
	assert_int_equal(talk.sink.checks, 0);
	th_talk_done(&talk);
}

/* ------------------------------------------------------------------ */
/* Other users, too few files                                          */

static void ask_as_nobody(void *arg)
{
	struct th_talk *talk = arg;

	assert_int_equal(setuid(NOBODY), 0);
	th_talk_receive(talk);
	assert_int_equal(talk->received, PS_PERMISSION);
	th_assert_text(talk->receiver_text, "runs as user 65534, must be 0");
}

/* Opens a pair that carries nobody's credentials, and keeps the test's. */
static void open_as_nobody(struct th_talk *talk)
{
	th_close_ends(&talk->ends);
	assert_int_equal(seteuid(NOBODY), 0);
	th_socketpair(SOCK_STREAM, talk->ends.fds);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(ip_conn_init(&talk->ends.receiver, talk->ends.fds[1],
				      IP_RECEIVER, PS_PEER_ANY_USER, -1),
			 PS_OK);
}

static void test_handover_other_user_is_told_why(void **state)
{
	struct th_talk talk;
	enum ps_status status;
	pid_t child;

	(void)state;
	if (geteuid() != 0)
		th_skip("not root: cannot be another user");
	th_talk_init(&talk, SOCK_STREAM);
	open_as_nobody(&talk);
	child = th_fork(ask_as_nobody, &talk);
	status = ip_conn_init(&talk.ends.sender, talk.ends.fds[0], IP_SENDER, 0,
			      -1);
	th_assert_status(status, PS_PERMISSION);
	th_assert_status(ip_refuse_send(&talk.ends.sender, status),
			 PS_PERMISSION);
	assert_int_equal(th_wait(child), 0);
	th_talk_done(&talk);
}

static void limit_files(rlim_t most, struct rlimit *old_out)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, old_out);
	limit = *old_out;
	limit.rlim_cur = most;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* The receiver is a process at its limit; the sender is in a thread of it, but
 * opens nothing: its descriptors are open already. */
static void receive_with_few_files(void *unused)
{
	struct th_talk talk;
	struct rlimit old;
	int next;

	(void)unused;
	th_talk_init(&talk, SOCK_STREAM);
	next = dup(0) + (int)TH_SEGMENTS;
	close(next - (int)TH_SEGMENTS);
	limit_files((rlim_t)next + 1, &old);
	th_talk_run(&talk);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_ends(&talk, PS_REFUSED, PS_FD_LIMIT);
	th_assert_text(talk.receiver_text, "descriptors were lost");
	th_assert_text(talk.sender_text, "PS_FD_LIMIT: waiting for SEGMENTS");
	th_talk_done(&talk);
}

static void test_handover_fd_limit_is_told(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(receive_with_few_files, NULL)), 0);
}

static void test_handover_hello_asks_for_what_fits(void **state)
{
	struct ip_hello hello;
	struct rlimit old;

	(void)state;
	limit_files(th_open_fds() + 20, &old);
	ip_hello_init(&hello);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_in_range(hello.fds_at_once, 5, 11);
	limit_files(3, &old);
	ip_hello_init(&hello);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(hello.fds_at_once, 1);
	ip_hello_init(&hello);
	assert_int_equal(hello.fds_at_once, IP_BATCH);
}

#define RIGGED(fn) TH_TEST_SETUP(fn, th_rig_reset, th_rig_reset)

static const struct th_test tests[] = {
	RIGGED(test_handover_whole_pool_arrives),
	RIGGED(test_handover_writable_parameters_arrive_writable),
	RIGGED(test_handover_part_of_a_pool_arrives),
	RIGGED(test_handover_legacy_pool_has_no_segments),
	RIGGED(test_handover_kept_fds_stay_open),
	RIGGED(test_handover_batches_fit_the_receiver),
	RIGGED(test_handover_batches_are_bounded),
	RIGGED(test_handover_byte_by_byte_arrives),
	RIGGED(test_handover_socket_is_in_step_afterwards),
	RIGGED(test_handover_goes_twice_over_one_socket),
	RIGGED(test_handover_wrong_gpu_is_known_to_both),
	RIGGED(test_handover_any_gpu_is_taken),
	RIGGED(test_handover_unwanted_mode_is_unsupported),
	RIGGED(test_handover_more_fds_than_wanted_is_refused),
	RIGGED(test_handover_failed_check_is_told),
	RIGGED(test_handover_failed_take_is_told),
	RIGGED(test_handover_failed_source_is_told),
	RIGGED(test_handover_incoherent_offer_is_not_sent),
	RIGGED(test_handover_other_user_is_told_why),
	RIGGED(test_handover_fd_limit_is_told),
	RIGGED(test_handover_hello_asks_for_what_fits),
};

TH_MAIN("handover", tests)
