/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Clients of poolswitchd that use what the protocol allows against the daemon
 * or its other clients. Each harms nobody but itself.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/daemon_wire.h"

static void say(struct th_wire *wire, struct ip_message *msg, enum ip_type type)
{
	ip_message_init(msg, type, wire->client.conn.minor);
	msg->body.number.seq = ++wire->client.seq;
}

static void say_take(struct th_wire *wire, uint32_t count)
{
	struct ip_message msg;

	say(wire, &msg, IP_TAKE);
	msg.body.take.count = count;
	msg.body.take.wait_ms = TH_WIRE_MS;
	th_wire_send(wire, &msg);
}

/* ---- what was not received is given back ---- */

#define UNREAD 64u

/* So many answers that its socket is full, and one that waits behind them. */
static void fill_socket(struct th_wire *wire, struct th_wire *other)
{
	struct ip_message msg;
	bool may_write;
	int fd;

	say_take(wire, TH_DAEMON_LEASES);
	for (unsigned int i = 0; i < UNREAD; i++) {
		say(wire, &msg, IP_NEED);
		msg.body.need.first = 0;
		msg.body.need.count = 1;
		th_wire_send(wire, &msg);
	}
	/* The daemon reads some of everybody's in a turn. */
	for (unsigned int i = 0; i < UNREAD; i++) {
		th_assert_ok(
			ip_client_need(&other->client, 0, 1, &may_write, &fd));
		close(fd);
	}
}

/* Until it was scrubbed and granted. */
static void await_leased(void)
{
	struct th_daemon_sums sums;

	do
		th_daemon_sums(&sums);
	while (sums.leased != (int64_t)(TH_DAEMON_LEASES * TH_DAEMON_SEGMENT));
}

/* RECALLED of all that was granted to it. */
static void give_unread(struct th_wire *wire)
{
	struct ip_message asked, msg;
	struct ip_conn events;

	th_assert_ok(
		ip_conn_init(&events, wire->events, IP_CLIENT, 0, TH_WIRE_MS));
	events.minor = wire->client.conn.minor;
	do
		th_assert_ok(ip_conn_receive(&events, &asked));
	while (asked.type != IP_RECALL); /* STATUS sends POLL */
	ip_message_init(&msg, IP_RECALLED, events.minor);
	msg.body.list.seq = asked.body.recall.seq;
	for (uint32_t i = TH_DAEMON_PARAMETERS; i < TH_DAEMON_SEGMENTS; i++)
		msg.body.list.segment[msg.body.list.count++] = i;
	th_assert_ok(ip_conn_send(&events, &msg));
}

static void assert_no_grant(struct th_wire *wire)
{
	enum ps_status status;
	struct ip_message msg;

	do {
		status = ip_conn_receive(&wire->client.conn, &msg);
		if (status != PS_OK)
			break;
		assert_int_not_equal(msg.type, IP_GRANT);
		ip_message_done(&msg);
	} while (status == PS_OK);
	th_assert_status(status, PS_PEER_GONE);
}

static void give_before_receiving(int link)
{
	struct th_wire other, wire;
	struct ip_message msg;

	(void)link;
	th_wire_open(&other, "other");
	th_wire_open(&wire, "hasty");
	th_wire_take(&other, TH_DAEMON_LEASES);
	fill_socket(&wire, &other);
	th_wire_give(&other);
	await_leased();
	say_take(&other, 1);
	give_unread(&wire);
	th_assert_ok(ip_conn_receive(&other.client.conn, &msg));
	assert_int_equal(msg.type, IP_GRANT);
	ip_message_done(&msg);
	assert_no_grant(&wire);
	th_wire_close(&wire);
	th_wire_close(&other);
}

/* Its descriptors are somebody else's by then, perhaps another user's. */
static void test_grant_given_back_unread_is_not_delivered(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, give_before_receiving);
	assert_int_equal(th_client_wait(&client), 0);
	th_daemon_stop(&daemon);
}

/* ---- much is to be made anew at once ---- */

/* More than the link takes unread. */
#define TAKES 2u
#define TAKEN 200u

static void take_much(int link)
{
	struct ip_attach attach = { .flags = IP_ATTACH_MPS, .name = "large" };
	struct th_wire wire;

	th_wire_connect(&wire);
	th_assert_ok(th_wire_try_attach(&wire, &attach));
	for (unsigned int i = 0; i < TAKES; i++)
		th_wire_take(&wire, TAKEN);
	th_tell(link);
	th_await(link);
}

/* The keeper is told of each segment, and not waited for. */
static void test_death_of_a_large_client_waits_for_no_keeper(void **state)
{
	const char *options[] = { "--size", "824M", NULL };
	struct th_daemon_sums sums;
	struct th_daemon daemon;
	struct th_client client;
	json_t *status;

	(void)state;
	th_daemon_start(&daemon,
			&(struct th_daemon_plan){ .options = options });
	th_client_start(&client, take_much);
	th_await(client.link);
	kill(daemon.keeper, SIGSTOP);
	th_client_kill(&client);
	do
		th_daemon_sums(&sums);
	while (sums.clients > 0);
	kill(daemon.keeper, SIGCONT);
	status = th_daemon_status();
	assert_int_equal(th_json_number(status, "counters.keeper_starts"), 0);
	json_decref(status);
	th_daemon_stop(&daemon);
}

/* ---- descriptors that nobody reads ---- */

/* The kernel counts what is under way by user: one who has nothing. */
#define PLAIN_USERS 20000u
#define PLAIN_FILES 240u
#define PARAMETERS 24u

static uid_t plain_user;

static void choose_plain_user(void)
{
	plain_user = PLAIN_USERS + (uid_t)getpid() % PLAIN_USERS;
	th_open_to_all();
	assert_int_equal(chown(th_temp_dir(), plain_user, plain_user), 0);
}

static void become_plain(void)
{
	const struct rlimit files = { PLAIN_FILES, PLAIN_FILES };

	setrlimit(RLIMIT_NOFILE, &files);
	th_become(plain_user);
}

/* More than the daemon's user may have under way. */
static void leave_unread(int link)
{
	struct ip_message msg;
	struct th_wire wire;

	th_become(plain_user);
	th_wire_open(&wire, "unread");
	for (unsigned int i = 0; i < UNREAD; i++) {
		say(&wire, &msg, IP_NEED);
		msg.body.need.count = PARAMETERS;
		th_wire_send(&wire, &msg);
	}
	th_tell(link);
	th_await(link);
}

static void attach_beside(int link)
{
	struct ip_attach attach = { .name = "late" };
	enum ps_status status = PS_OK;
	struct th_wire wire;

	(void)link;
	th_become(plain_user);
	/* Until the daemon has read what it is to answer. At the very limit it
	 * may tell the keeper and then not the client. */
	for (unsigned int late = 0; late < 3 && status != PS_FD_LIMIT;) {
		th_wire_connect(&wire);
		status = th_wire_try_attach(&wire, &attach);
		if (status == PS_OK)
			th_assert_ok(ip_client_leave(&wire.client));
		late += status == PS_TIMED_OUT;
		th_wire_close(&wire);
	}
	th_assert_status(status, PS_FD_LIMIT);
}

static void test_descriptors_left_unread_cost_no_keeper(void **state)
{
	const char *options[] = { "--parameter", "48M", "--clients", "8",
				  NULL };
	struct th_client client, late;
	struct th_daemon daemon;
	json_t *status;

	(void)state;
	if (geteuid() != 0) {
		th_skip("only root may become another user");
		return;
	}
	choose_plain_user();
	th_daemon_start(&daemon,
			&(struct th_daemon_plan){ .options = options,
						  .prepare = become_plain });
	th_client_start(&client, leave_unread);
	th_await(client.link);
	th_client_start(&late, attach_beside);
	assert_int_equal(th_client_wait(&late), 0);
	th_client_kill(&client);
	status = th_daemon_status();
	assert_int_equal(th_json_number(status, "counters.keeper_starts"), 0);
	json_decref(status);
	th_daemon_stop(&daemon);
}

/* ---- one that only looks like an heir ---- */

static void lease_some(int link)
{
	struct th_wire wire;

	th_wire_open(&wire, "elder");
	th_wire_take(&wire, 2);
	th_tell(link);
	th_await(link);
}

/* Forked of the same process, and uses the GPU by itself. */
static void attach_late(int link)
{
	struct th_wire wire;
	char path[256];

	snprintf(path, sizeof(path), "%s/vram", getenv("POOLSWITCH_SIM_DIR"));
	assert_true(open(path, O_RDONLY | O_CLOEXEC) >= 0);
	th_tell(link);
	th_await(link);
	th_wire_open(&wire, "younger");
	th_tell(link);
	th_await(link);
}

static void test_heir_that_attaches_is_not_waited_for(void **state)
{
	struct th_client elder, younger;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&elder, lease_some);
	th_await(elder.link);
	th_client_start(&younger, attach_late);
	th_await(younger.link);
	th_client_kill(&elder);
	th_daemon_wait_quarantined((int64_t)(2 * TH_DAEMON_SEGMENT));
	th_tell(younger.link);
	th_await(younger.link);
	th_daemon_wait_clients(1);
	th_client_finish(&younger);
	th_daemon_stop(&daemon);
}

/* ---- attached twice ---- */

static void attach_and_forget(struct th_wire *wire, uint64_t reservation)
{
	const struct ip_attach attach = { .reservation = reservation };

	th_wire_connect(wire);
	th_assert_ok(th_wire_try_attach(wire, &attach));
}

/* The second time all is reserved, which is more than the first leaves. */
static void attach_again(int link)
{
	struct th_wire first, second;

	attach_and_forget(&first, TH_DAEMON_SEGMENT);
	th_wire_close(&first);
	th_daemon_wait_presence(getpid(), "away");
	attach_and_forget(&second, TH_DAEMON_LEASES * TH_DAEMON_SEGMENT);
	th_daemon_wait_clients(1);
	th_tell(link);
	th_await(link);
}

static void
test_attachment_that_was_forgotten_frees_its_reservation(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, attach_again);
	th_await(client.link);
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

/* What it holds is its own for as long as it lives. */
static void lease_and_attach_again(int link)
{
	struct th_wire first, second;

	th_wire_open(&first, "first");
	th_wire_take(&first, 1);
	th_wire_close(&first);
	th_daemon_wait_presence(getpid(), "away");
	th_wire_open(&second, "second");
	th_daemon_wait_clients(2);
	th_tell(link);
	th_await(link);
}

static void test_attachment_that_was_forgotten_keeps_its_lease(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, lease_and_attach_again);
	th_await(client.link);
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

/* ---- many ask at once ---- */

#define ASK_TRIES 50u

static void ask(struct th_wire *wire)
{
	struct ip_message msg;

	say(wire, &msg, IP_ASK);
	msg.body.ask.question = IP_ASK_STATUS;
	th_wire_send(wire, &msg);
}

static ino_t read_answer(struct th_wire *wire)
{
	struct ip_message msg;
	struct stat file;

	th_assert_ok(ip_conn_receive(&wire->client.conn, &msg));
	assert_int_equal(msg.type, IP_ANSWER);
	assert_int_equal(fstat(msg.fds[0], &file), 0);
	ip_message_done(&msg);
	return file.st_ino;
}

/* The numbers that both wait for. */
static void answer_poll(struct th_wire *wire)
{
	struct ip_message asked, msg;
	struct ip_conn events;
	bool may_write;
	int fd;

	th_assert_ok(
		ip_conn_init(&events, wire->events, IP_CLIENT, 0, TH_WIRE_MS));
	events.minor = wire->client.conn.minor;
	th_assert_ok(ip_conn_receive(&events, &asked));
	/* Until the daemon has read both questions. */
	for (unsigned int i = 0; i < 2; i++) {
		th_assert_ok(
			ip_client_need(&wire->client, 0, 1, &may_write, &fd));
		close(fd);
	}
	ip_message_init(&msg, IP_POLLED, events.minor);
	msg.body.polled.seq = asked.body.number.seq;
	th_assert_ok(ip_conn_send(&events, &msg));
}

/* Unless the daemon stops waiting for the numbers between the two. */
static void ask_together(int link)
{
	struct th_wire client, first, second;
	bool is_same = false;

	(void)link;
	th_wire_open(&client, "polled");
	th_wire_connect(&first);
	th_wire_connect(&second);
	for (unsigned int i = 0; i < ASK_TRIES && !is_same; i++) {
		ask(&first);
		ask(&second);
		answer_poll(&client);
		is_same = read_answer(&first) == read_answer(&second);
	}
	assert_true(is_same);
}

/* With many clients a status takes a while, in which nobody is served. */
static void test_status_asked_by_many_is_made_once(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, ask_together);
	assert_int_equal(th_client_wait(&client), 0);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_grant_given_back_unread_is_not_delivered),
	TH_DAEMON_TEST(test_death_of_a_large_client_waits_for_no_keeper),
	TH_DAEMON_TEST(test_descriptors_left_unread_cost_no_keeper),
	TH_DAEMON_TEST(test_heir_that_attaches_is_not_waited_for),
	TH_DAEMON_TEST(
		test_attachment_that_was_forgotten_frees_its_reservation),
	TH_DAEMON_TEST(test_attachment_that_was_forgotten_keeps_its_lease),
	TH_DAEMON_TEST(test_status_asked_by_many_is_made_once),
};

TH_MAIN("daemon_hostile", tests)
