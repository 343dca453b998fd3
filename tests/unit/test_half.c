/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the halves of the daemon hand to each other, cut anywhere, and how one
 * starts the other: this program plays the one that is started, too.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/status.h"
#include "poold/half.h"
#include "tests/support/harness.h"

#define SEGMENTS 1000u
#define CLIENTS 600u

#define FILES 300u /* of models */

/* BEGIN, four of segments, two of pidfds, one of signals, of manifests and of
 * copies, two of files, END. */
#define MESSAGES 13u

/* Two links, so that a relay can stand between: what is sent into in[1]
 * comes out of in[0], and what goes into out[1] is received from out[0]. */
static int in[2];
static int out[2];
static struct ip_conn sender;
static struct ip_conn relay_in;
static struct ip_conn relay_out;
static struct ip_conn receiver;
static struct pd_holdings held;

static void make_conn(struct ip_conn *conn, int fd)
{
	th_assert_ok(ip_conn_init(conn, fd, IP_HALF, 0, 200));
}

static int set_up(void **state)
{
	(void)state;
	pd_raise_files();
	th_socketpair(SOCK_SEQPACKET, in);
	th_socketpair(SOCK_SEQPACKET, out);
	make_conn(&sender, in[1]);
	make_conn(&relay_in, in[0]);
	make_conn(&relay_out, out[1]);
	make_conn(&receiver, out[0]);
	pd_holdings_init(&held);
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int tear_down(void **state)
{
	(void)state;
	pd_holdings_done(&held);
	for (int i = 0; i < 2; i++) {
		close_fd(&in[i]);
		close_fd(&out[i]);
	}
	return 0;
}

static int some_file(void)
{
	int fd = memfd_create("held", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* The first model has no copy, the last no files; one has many. */
static void fill_models(struct pd_holdings *holdings)
{
	const uint32_t last = IP_MODELS_MAX - 1;

	holdings->signal[IP_SIGNAL_BOARD] = some_file();
	holdings->signal[IP_SIGNAL_LANDED] = some_file();
	holdings->manifest[0] = some_file();
	holdings->manifest[last] = some_file();
	holdings->host[last] = some_file();
	for (uint32_t i = 0; i < FILES; i++)
		holdings->file[i] = some_file();
}

/* All segments but the last, and every other client. */
static void fill(struct pd_holdings *holdings)
{
	th_assert_ok(pd_holdings_size(holdings, SEGMENTS, CLIENTS));
	holdings->journal = some_file();
	holdings->listen = some_file();
	holdings->claim = some_file();
	for (uint32_t i = 0; i + 1 < SEGMENTS; i++)
		holdings->segment[i] = some_file();
	for (uint32_t i = 0; i < CLIENTS; i += 2)
		holdings->pidfd[i] = some_file();
	fill_models(holdings);
}

static void assert_same(int a, int b)
{
	struct stat one = { 0 };
	struct stat two = { 0 };

	assert_int_equal(a < 0, b < 0);
	if (a < 0)
		return;
	assert_int_equal(fstat(a, &one), 0);
	assert_int_equal(fstat(b, &two), 0);
	assert_int_equal(one.st_ino, two.st_ino);
	assert_int_equal(fcntl(b, F_GETFD), FD_CLOEXEC);
}

static void assert_same_models(const struct pd_holdings *a,
			       const struct pd_holdings *b)
{
	for (uint32_t i = 0; i < IP_SIGNALS; i++)
		assert_same(a->signal[i], b->signal[i]);
	for (uint32_t i = 0; i < IP_MODELS_MAX; i++) {
		assert_same(a->manifest[i], b->manifest[i]);
		assert_same(a->host[i], b->host[i]);
	}
	for (uint32_t i = 0; i < IP_MODELS_MAX * IP_MODEL_FILES; i++)
		assert_same(a->file[i], b->file[i]);
}

static void assert_same_holdings(const struct pd_holdings *a,
				 const struct pd_holdings *b)
{
	assert_same(a->journal, b->journal);
	assert_same(a->listen, b->listen);
	assert_same(a->claim, b->claim);
	assert_int_equal(a->segments, b->segments);
	assert_int_equal(a->clients, b->clients);
	for (uint32_t i = 0; i < a->segments; i++)
		assert_same(a->segment[i], b->segment[i]);
	for (uint32_t i = 0; i < a->clients; i++)
		assert_same(a->pidfd[i], b->pidfd[i]);
	assert_same_models(a, b);
}

/* Passes @count messages on. */
static void relay(unsigned int count)
{
	struct ip_message msg;

	while (count--) {
		th_assert_ok(ip_conn_receive(&relay_in, &msg));
		th_assert_ok(ip_conn_send(&relay_out, &msg));
		ip_message_done(&msg);
	}
}

/* ------------------------------------------------------------------ */

static void test_half_hand_over_brings_everything(void **state)
{
	struct pd_holdings got;

	(void)state;
	fill(&held);
	th_assert_ok(pd_hand_over(&sender, &held));
	relay(MESSAGES);
	pd_holdings_init(&got);
	th_assert_ok(pd_take_over(&receiver, &got));
	assert_same_holdings(&held, &got);
	pd_holdings_done(&got);
}

static void test_half_hand_over_of_no_pool_brings_the_socket(void **state)
{
	struct pd_holdings got;

	(void)state;
	held.listen = some_file();
	th_assert_ok(pd_hand_over(&sender, &held));
	relay(2);
	pd_holdings_init(&got);
	th_assert_ok(pd_take_over(&receiver, &got));
	assert_same(held.listen, got.listen);
	assert_int_equal(got.segments, 0);
	assert_int_equal(got.journal, -1);
	assert_int_equal(got.claim, -1);
	/* The receiver makes the pool in them. */
	th_assert_ok(pd_holdings_size(&got, SEGMENTS, CLIENTS));
	pd_holdings_done(&got);
}

/* The runner counts descriptors. */
static void test_half_hand_over_cut_anywhere_is_nothing(void **state)
{
	struct pd_holdings got;

	(void)state;
	fill(&held);
	for (unsigned int count = 0; count < MESSAGES; count++) {
		tear_down(NULL);
		set_up(NULL);
		fill(&held);
		th_assert_ok(pd_hand_over(&sender, &held));
		relay(count);
		close_fd(&out[1]);
		pd_holdings_init(&got);
		th_assert_status(pd_take_over(&receiver, &got), PS_PEER_GONE);
		assert_int_equal(got.segments, 0);
		assert_int_equal(got.listen, -1);
	}
}

static void test_half_hand_over_that_stalls_times_out(void **state)
{
	struct pd_holdings got;

	(void)state;
	fill(&held);
	th_assert_ok(pd_hand_over(&sender, &held));
	relay(MESSAGES - 1);
	pd_holdings_init(&got);
	th_assert_status(pd_take_over(&receiver, &got), PS_TIMED_OUT);
}

static void test_half_hand_over_to_nobody_fails(void **state)
{
	(void)state;
	fill(&held);
	close_fd(&in[0]);
	th_assert_status(pd_hand_over(&sender, &held), PS_PEER_GONE);
}

static void test_half_hand_over_never_read_times_out(void **state)
{
	enum ps_status status = PS_OK;

	(void)state;
	held.listen = some_file();
	while (status == PS_OK)
		status = pd_hand_over(&sender, &held);
	th_assert_status(status, PS_TIMED_OUT);
}

static void take_with_few_files(void *arg)
{
	struct rlimit limit = { 1100, 1100 };
	struct pd_holdings got;

	(void)arg;
	pd_holdings_done(&held);
	setrlimit(RLIMIT_NOFILE, &limit);
	pd_holdings_init(&got);
	th_assert_status(pd_take_over(&receiver, &got), PS_FD_LIMIT);
	assert_non_null(strstr(bs_fail_text(), "1000 segments"));
	assert_non_null(strstr(bs_fail_text(), "600 clients"));
	assert_non_null(strstr(bs_fail_text(), "limit 1100"));
	assert_non_null(strstr(bs_fail_text(), "LimitNOFILE="));
}

static void test_half_too_few_files_says_how_many(void **state)
{
	(void)state;
	fill(&held);
	th_assert_ok(pd_hand_over(&sender, &held));
	relay(1);
	assert_int_equal(th_wait(th_fork(take_with_few_files, NULL)), 0);
}

static void test_half_raises_its_limit_of_files(void **state)
{
	struct rlimit limit = { 0, 0 };

	(void)state;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 64;
	setrlimit(RLIMIT_NOFILE, &limit);
	pd_raise_files();
	getrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(limit.rlim_cur, limit.rlim_max);
}

/* ------------------------------------------------------------------ */

static void send_begin_of(uint32_t layout)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_BEGIN, sender.minor);
	msg.body.begin.layout = layout;
	msg.fds[msg.fd_count++] = some_file();
	th_assert_ok(ip_conn_send(&sender, &msg));
	ip_message_done(&msg);
}

static void test_half_journal_of_another_layout_is_refused(void **state)
{
	struct pd_holdings got;

	(void)state;
	send_begin_of(PD_JOURNAL_LAYOUT + 1);
	pd_holdings_init(&got);
	th_assert_status(pd_take_over(&relay_in, &got), PS_VERSION_MISMATCH);
}

static void test_half_note_in_place_of_begin_is_refused(void **state)
{
	struct pd_holdings got;

	(void)state;
	th_assert_ok(pd_tell_note(&sender, IP_NOTICE_READY, 0));
	pd_holdings_init(&got);
	th_assert_status(pd_take_over(&relay_in, &got), PS_PROTOCOL);
}

static void test_half_note_within_a_hand_over_is_refused(void **state)
{
	struct pd_holdings got;

	(void)state;
	send_begin_of(PD_JOURNAL_LAYOUT);
	th_assert_ok(pd_tell_note(&sender, IP_NOTICE_READY, 0));
	pd_holdings_init(&got);
	th_assert_status(pd_take_over(&relay_in, &got), PS_PROTOCOL);
}

static void test_half_without_a_pool_takes_no_segment(void **state)
{
	struct pd_holdings got;

	(void)state;
	held.listen = some_file();
	send_begin_of(PD_JOURNAL_LAYOUT);
	th_assert_ok(pd_tell_keep(&sender, IP_PIECE_SEGMENTS, 0, held.listen));
	pd_holdings_init(&got);
	th_assert_status(pd_take_over(&relay_in, &got), PS_PROTOCOL);
}

static void test_half_without_a_pool_takes_no_model(void **state)
{
	struct pd_holdings got;

	(void)state;
	held.listen = some_file();
	send_begin_of(PD_JOURNAL_LAYOUT);
	th_assert_ok(pd_tell_keep(&sender, IP_PIECE_HOSTS, 0, held.listen));
	pd_holdings_init(&got);
	th_assert_status(pd_take_over(&relay_in, &got), PS_PROTOCOL);
}

/* ------------------------------------------------------------------ */

/* What the relay's end makes of the next message. */
static enum ps_status apply_next(struct pd_holdings *holdings)
{
	struct ip_message msg;
	enum ps_status status;

	th_assert_ok(ip_conn_receive(&relay_in, &msg));
	status = pd_apply(holdings, &msg);
	ip_message_done(&msg);
	return status;
}

static void test_half_keeps_what_it_is_told_to(void **state)
{
	int fd = some_file();

	(void)state;
	th_assert_ok(pd_holdings_size(&held, 4, 4));
	th_assert_ok(pd_tell_keep(&sender, IP_PIECE_PIDFDS, 2, fd));
	th_assert_ok(apply_next(&held));
	assert_same(fd, held.pidfd[2]);
	close(fd);
}

static void test_half_told_twice_keeps_the_second(void **state)
{
	int first = some_file();
	int second = some_file();

	(void)state;
	th_assert_ok(pd_holdings_size(&held, 4, 4));
	th_assert_ok(pd_tell_keep(&sender, IP_PIECE_SEGMENTS, 3, first));
	th_assert_ok(pd_tell_keep(&sender, IP_PIECE_SEGMENTS, 3, second));
	th_assert_ok(apply_next(&held));
	th_assert_ok(apply_next(&held));
	assert_same(second, held.segment[3]);
	close(first);
	close(second);
}

static void test_half_drops_what_it_is_told_to(void **state)
{
	(void)state;
	th_assert_ok(pd_holdings_size(&held, 4, 4));
	held.segment[1] = some_file();
	th_assert_ok(pd_tell_drop(&sender, IP_PIECE_SEGMENTS, 1));
	th_assert_ok(apply_next(&held));
	assert_int_equal(held.segment[1], -1);
}

static void test_half_keeps_and_drops_what_is_of_models(void **state)
{
	static const enum ip_piece_kind kinds[] = { IP_PIECE_SIGNALS,
						    IP_PIECE_MANIFESTS,
						    IP_PIECE_HOSTS,
						    IP_PIECE_FILES };
	int *kept[4];
	int fd = some_file();

	(void)state;
	th_assert_ok(pd_holdings_size(&held, 4, 4));
	kept[0] = &held.signal[1];
	kept[1] = &held.manifest[1];
	kept[2] = &held.host[1];
	kept[3] = &held.file[1];
	for (size_t i = 0; i < 4; i++) {
		th_assert_ok(pd_tell_keep(&sender, kinds[i], 1, fd));
		th_assert_ok(apply_next(&held));
		assert_same(fd, *kept[i]);
		th_assert_ok(pd_tell_drop(&sender, kinds[i], 1));
		th_assert_ok(apply_next(&held));
		assert_int_equal(*kept[i], -1);
	}
	close(fd);
}

/* As if the wire had let it through. */
static void expect_no_place(enum ip_piece_kind kind, uint32_t number)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_DROP, sender.minor);
	msg.body.piece.kind = kind;
	msg.body.piece.count = 1;
	msg.body.piece.number[0] = number;
	th_assert_status(pd_apply(&held, &msg), PS_PROTOCOL);
	msg.type = IP_PIECE;
	msg.fds[msg.fd_count++] = some_file();
	th_assert_status(pd_apply(&held, &msg), PS_PROTOCOL);
	ip_message_done(&msg);
}

static void test_half_model_out_of_range_is_refused(void **state)
{
	(void)state;
	th_assert_ok(pd_holdings_size(&held, 4, 5));
	expect_no_place(IP_PIECE_SIGNALS, IP_SIGNALS);
	expect_no_place(IP_PIECE_MANIFESTS, IP_MODELS_MAX);
	expect_no_place(IP_PIECE_HOSTS, IP_MODELS_MAX);
	expect_no_place(IP_PIECE_FILES, IP_MODELS_MAX * IP_MODEL_FILES);
	expect_no_place((enum ip_piece_kind)(IP_PIECE_FILES + 1), 0);
}

static void test_half_number_out_of_range_is_refused(void **state)
{
	(void)state;
	th_assert_ok(pd_holdings_size(&held, 4, 5));
	held.listen = some_file();
	th_assert_ok(pd_tell_keep(&sender, IP_PIECE_SEGMENTS, 4, held.listen));
	th_assert_status(apply_next(&held), PS_PROTOCOL);
	th_assert_ok(pd_tell_drop(&sender, IP_PIECE_PIDFDS, 5));
	th_assert_status(apply_next(&held), PS_PROTOCOL);
}

static void test_half_end_without_a_hand_over_is_refused(void **state)
{
	struct ip_message msg;

	(void)state;
	th_assert_ok(pd_holdings_size(&held, 4, 4));
	ip_message_init(&msg, IP_PIECE, sender.minor);
	msg.body.piece.kind = IP_PIECE_END;
	th_assert_status(pd_apply(&held, &msg), PS_PROTOCOL);
}

static void test_half_applies_no_note(void **state)
{
	(void)state;
	th_assert_ok(pd_tell_note(&sender, IP_NOTICE_LOST, 0));
	th_assert_status(apply_next(&held), PS_PROTOCOL);
}

/* ------------------------------------------------------------------ */

/* What the started half found, bits of its exit status. */
enum found {
	FOUND_FILES = 1,   /* others than 0 to 3 are open */
	FOUND_SESSION = 2, /* it is of the starter's session */
	FOUND_SIGNALS = 4, /* signals are blocked or ignored */
	FOUND_WORDS = 8,   /* its arguments are not the starter's */
};

static bool has_other_files(void)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	bool has = false;

	if (!folder)
		return true;
	while ((entry = readdir(folder)))
		has |= entry->d_name[0] != '.' && atoi(entry->d_name) > 3 &&
		       atoi(entry->d_name) != dirfd(folder);
	closedir(folder);
	return has;
}

static bool has_odd_signals(void)
{
	struct sigaction pipe;
	sigset_t blocked;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	sigaction(SIGPIPE, NULL, &pipe);
	return memcmp(&blocked, &none, sizeof(long)) != 0 ||
	       pipe.sa_handler != SIG_DFL;
}

/* The started half: says that it is there and ends with what it found. */
static int be_started(int argc, char **argv)
{
	struct ip_conn conn;
	int found = 0;

	found |= has_other_files() ? FOUND_FILES : 0;
	found |= getsid(0) != getpid() ? FOUND_SESSION : 0;
	found |= has_odd_signals() ? FOUND_SIGNALS : 0;
	if (argc != 5 || strcmp(argv[1], "--role=agent") != 0 ||
	    strcmp(argv[2], "--link=3") != 0 || strcmp(argv[3], "a") != 0 ||
	    strcmp(argv[4], "b c") != 0)
		found |= FOUND_WORDS;
	if (ip_conn_init(&conn, 3, IP_HALF, 0, 1000) != PS_OK)
		return 100;
	return pd_tell_note(&conn, IP_NOTICE_READY, 7) == PS_OK ? found : 101;
}

static int status_of(int pidfd)
{
	siginfo_t info = { 0 };

	if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) != 0)
		return -1;
	return info.si_code == CLD_EXITED ? info.si_status : -1;
}

static char word_program[] = "half";
static char word_a[] = "a";
static char word_b[] = "b c";

static void test_half_starts_another_that_has_the_link_alone(void **state)
{
	char *argv[] = { word_program, word_a, word_b, NULL };
	int open_file = dup(STDOUT_FILENO); /* not closed on exec */
	struct ip_message msg;
	struct ip_conn conn;
	int pidfd;
	int link;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	th_assert_ok(pd_start_half(3, argv, PD_ROLE_AGENT, &link, &pidfd));
	make_conn(&conn, link);
	conn.timeout_ms = 10000;
	th_assert_ok(ip_conn_receive(&conn, &msg));
	assert_int_equal(msg.body.note.value, 7);
	ip_message_done(&msg);
	assert_int_equal(status_of(pidfd), 0);
	close(open_file);
	close(pidfd);
	close(link);
	signal(SIGPIPE, SIG_DFL);
}

static void test_half_that_cannot_be_executed_is_reported(void **state)
{
	static char long_word[200000];
	char *argv[] = { word_program, long_word, NULL };
	int pidfd;
	int link;

	(void)state;
	memset(long_word, 'x', sizeof(long_word) - 1);
	th_assert_status(pd_start_half(2, argv, PD_ROLE_AGENT, &link, &pidfd),
			 PS_SYSTEM);
	assert_non_null(strstr(bs_fail_text(), strerror(E2BIG)));
}

static void start_with_few_files(void *arg)
{
	char *argv[] = { word_program, NULL };
	struct rlimit limit = { 64, 64 };
	int left = *(const int *)arg;
	int pidfd;
	int link;
	int last;

	setrlimit(RLIMIT_NOFILE, &limit);
	while ((last = dup(STDOUT_FILENO)) >= 0)
		pidfd = last;
	for (int i = 0; i < left; i++)
		close(pidfd - i);
	th_assert_status(pd_start_half(1, argv, PD_ROLE_AGENT, &link, &pidfd),
			 PS_FD_LIMIT);
}

/* The socket, the pipe, the pidfd; in the child room for moving them. */
static void test_half_without_files_starts_nothing(void **state)
{
	(void)state;
	for (int left = 0; left < 5; left++)
		assert_int_equal(th_wait(th_fork(start_with_few_files, &left)),
				 0);
}

static void test_half_exit_statuses_are_those_of_sysexits(void **state)
{
	(void)state;
	assert_int_equal(pd_exit_status(PS_OK), EX_OK);
	assert_int_equal(pd_exit_status(PS_INVALID_ARGUMENT), EX_USAGE);
	assert_int_equal(pd_exit_status(PS_NO_DEVICE), EX_UNAVAILABLE);
	assert_int_equal(pd_exit_status(PS_DEVICE_LOST), EX_UNAVAILABLE);
	assert_int_equal(pd_exit_status(PS_ALREADY_RESERVED), EX_TEMPFAIL);
	assert_int_equal(pd_exit_status(PS_PERMISSION), EX_NOPERM);
	assert_int_equal(pd_exit_status(PS_SYSTEM), EX_OSERR);
}

#define LINKED(fn) TH_TEST_SETUP(fn, set_up, tear_down)

static const struct th_test tests[] = {
	LINKED(test_half_hand_over_brings_everything),
	LINKED(test_half_hand_over_of_no_pool_brings_the_socket),
	LINKED(test_half_hand_over_cut_anywhere_is_nothing),
	LINKED(test_half_hand_over_that_stalls_times_out),
	LINKED(test_half_hand_over_to_nobody_fails),
	LINKED(test_half_hand_over_never_read_times_out),
	LINKED(test_half_too_few_files_says_how_many),
	TH_TEST(test_half_raises_its_limit_of_files),
	LINKED(test_half_journal_of_another_layout_is_refused),
	LINKED(test_half_note_in_place_of_begin_is_refused),
	LINKED(test_half_note_within_a_hand_over_is_refused),
	LINKED(test_half_without_a_pool_takes_no_segment),
	LINKED(test_half_without_a_pool_takes_no_model),
	LINKED(test_half_keeps_what_it_is_told_to),
	LINKED(test_half_told_twice_keeps_the_second),
	LINKED(test_half_drops_what_it_is_told_to),
	LINKED(test_half_keeps_and_drops_what_is_of_models),
	LINKED(test_half_model_out_of_range_is_refused),
	LINKED(test_half_number_out_of_range_is_refused),
	LINKED(test_half_end_without_a_hand_over_is_refused),
	LINKED(test_half_applies_no_note),
	TH_TEST(test_half_starts_another_that_has_the_link_alone),
	TH_TEST(test_half_that_cannot_be_executed_is_reported),
	TH_TEST(test_half_without_files_starts_nothing),
	TH_TEST(test_half_exit_statuses_are_those_of_sysexits),
};

int main(int argc, char **argv)
{
	if (argc > 1 && strncmp(argv[1], "--role=", 7) == 0)
		return be_started(argc, argv);
	return th_main("half", tests, sizeof(tests) / sizeof(tests[0]), NULL,
		       argc, argv);
}
