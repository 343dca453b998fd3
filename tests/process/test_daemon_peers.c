/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Clients of poolswitchd that say what they should not. Each ends its own
 * connection and nothing else: a bystander's request goes well before and
 * after, and no byte or descriptor is lost.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/daemon_wire.h"

#define GARBAGE 2000u
#define SECOND_NS UINT64_C(1000000000)
#define REQUESTS 200u
#define CROWD 256u
/* Of measuring: as many as it takes, within these. */
#define ROUNDS_LEAST 3u
#define ROUNDS 12u
#define CROWD_CYCLES 40u

/* ---- the bystander ---- */

static void stand_by(int link)
{
	struct th_wire wire;

	th_wire_open(&wire, "bystander");
	th_wire_take(&wire, 2);
	th_tell(link);
	th_await(link);
	th_wire_give(&wire);
	th_wire_take(&wire, 3);
	th_wire_give(&wire);
	th_assert_ok(ip_client_leave(&wire.client));
	th_wire_close(&wire);
}

/* @bad: a child that plays to its end. */
static void run_beside_bystander(void (*bad)(int link))
{
	struct th_client bystander, client;
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	th_client_start(&bystander, stand_by);
	th_await(bystander.link);
	th_client_start(&client, bad);
	assert_int_equal(th_client_wait(&client), 0);
	th_client_finish(&bystander);
	th_daemon_stop(&daemon);
}

/* ---- what is no message ---- */

static void say_raw(const void *bytes, size_t size)
{
	struct th_wire wire;

	th_wire_connect(&wire);
	th_wire_send_raw(wire.socket, bytes, size);
	th_wire_assert_ended(wire.socket);
	th_wire_close(&wire);
}

static void say_garbage(int link)
{
	uint8_t bytes[IP_MESSAGE_MAX + 64];

	(void)link;
	srand(3);
	for (unsigned int i = 0; i < GARBAGE; i++) {
		for (size_t k = 0; k < sizeof(bytes); k++)
			bytes[k] = (uint8_t)rand();
		if (i % 2 == 0)
			memcpy(bytes, "PSWP\1\0", 6);
		say_raw(bytes, 1 + (size_t)rand() % (sizeof(bytes) - 1));
	}
}

static void test_peer_that_says_garbage_is_cut_off_alone(void **state)
{
	(void)state;
	run_beside_bystander(say_garbage);
}

static void request(struct ip_message *msg, enum ip_type type, uint32_t seq)
{
	ip_message_init(msg, type, IP_MINOR_HIGH);
	msg->body.number.seq = seq;
}

static void say_cut(int link)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	struct ip_message msg;
	size_t size;

	(void)link;
	request(&msg, IP_ATTACH, 1);
	th_assert_ok(ip_message_encode(&msg, bytes, &size));
	for (size_t cut = 1; cut < size; cut++)
		say_raw(bytes, cut);
}

static void test_peer_that_cuts_its_message_is_cut_off_alone(void **state)
{
	(void)state;
	run_beside_bystander(say_cut);
}

static void say_too_long(int link)
{
	static const uint8_t bytes[65536];

	(void)link;
	say_raw(bytes, sizeof(bytes));
}

static void test_peer_that_says_too_much_is_cut_off_alone(void **state)
{
	(void)state;
	run_beside_bystander(say_too_long);
}

/* What only the daemon, a half or another kind of peer may say. */
static void say_others_words(int link)
{
	static const enum ip_type types[] = { IP_DID,      IP_POLL, IP_LOST,
					      IP_RECALLED, IP_DONE, IP_GOT };
	uint8_t bytes[IP_MESSAGE_MAX];
	struct ip_message msg;
	size_t size;

	(void)link;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		request(&msg, types[i], 1);
		if (types[i] == IP_GOT)
			msg.body.got.count = 1;
		th_assert_ok(ip_message_encode(&msg, bytes, &size));
		say_raw(bytes, size);
	}
}

static void test_peer_that_speaks_as_the_daemon_is_cut_off_alone(void **state)
{
	(void)state;
	run_beside_bystander(say_others_words);
}

/* ---- messages out of their order ---- */

static void take_unattached(int link)
{
	struct ip_message msg;
	struct th_wire wire;

	(void)link;
	th_wire_connect(&wire);
	request(&msg, IP_TAKE, 1);
	msg.body.take.count = 1;
	th_wire_send(&wire, &msg);
	th_wire_assert_ended(wire.socket);
	th_wire_close(&wire);
}

static void test_peer_that_takes_unattached_is_cut_off_alone(void **state)
{
	(void)state;
	run_beside_bystander(take_unattached);
}

static void attach_twice(int link)
{
	struct ip_message msg;
	struct th_wire wire;

	(void)link;
	th_wire_open(&wire, "twice");
	request(&msg, IP_ATTACH, 2);
	msg.body.attach.id = 0;
	th_wire_send(&wire, &msg);
	th_wire_assert_ended(wire.socket);
	th_wire_close(&wire);
}

static void test_peer_that_attaches_twice_is_cut_off_alone(void **state)
{
	(void)state;
	run_beside_bystander(attach_twice);
}

/* The number of a request that was answered already. */
static void replay(int link)
{
	struct ip_message msg;
	struct th_wire wire;

	(void)link;
	th_wire_open(&wire, "replay");
	th_wire_take(&wire, 1);
	request(&msg, IP_TAKE, wire.client.seq);
	msg.body.take.count = 1;
	th_wire_send(&wire, &msg);
	th_wire_assert_ended(wire.socket);
	th_wire_close(&wire);
}

static void test_peer_that_replays_a_request_is_cut_off_alone(void **state)
{
	(void)state;
	run_beside_bystander(replay);
}

static void take_while_waiting(int link)
{
	struct ip_message msg;
	struct th_wire wire;

	(void)link;
	th_wire_open(&wire, "impatient");
	for (uint32_t seq = 10; seq < 12; seq++) {
		request(&msg, IP_TAKE, seq);
		msg.body.take.count = TH_DAEMON_LEASES;
		msg.body.take.wait_ms = IP_WAIT_MAX_MS;
		msg.body.take.flags = 0;
		th_wire_send(&wire, &msg);
	}
	th_wire_assert_ended(wire.socket);
	th_wire_close(&wire);
}

static void test_peer_that_takes_while_it_waits_is_cut_off_alone(void **state)
{
	(void)state;
	run_beside_bystander(take_while_waiting);
}

/* ---- what belongs to others ---- */

static void give_other(void *arg)
{
	uint32_t other = *(const uint32_t *)arg;
	struct th_wire wire;

	th_wire_open(&wire, "thief");
	th_wire_take(&wire, 1);
	if (other == wire.held.segment[0])
		return;
	assert_int_not_equal(ip_client_give(&wire.client, &other, 1, false),
			     PS_OK);
	th_wire_assert_ended(wire.socket);
	th_wire_close(&wire);
}

/* Each of the segments that are not its own, also those that are free. */
static void give_others(int link)
{
	(void)link;
	for (uint32_t i = 0; i < TH_DAEMON_SEGMENTS + 2; i++)
		assert_int_equal(th_wait(th_fork(give_other, &i)), 0);
}

static void test_peer_that_gives_others_lease_is_cut_off_alone(void **state)
{
	(void)state;
	run_beside_bystander(give_others);
}

static void need_others(int link)
{
	struct th_wire wire;
	uint32_t denied = 0;
	bool may_write;
	int fd;

	(void)link;
	th_wire_open(&wire, "curious");
	th_wire_take(&wire, 1);
	for (uint32_t i = TH_DAEMON_PARAMETERS; i < TH_DAEMON_SEGMENTS; i++) {
		if (i == wire.held.segment[0])
			continue;
		th_assert_status(
			ip_client_need(&wire.client, i, 1, &may_write, &fd),
			PS_PERMISSION);
		denied++;
	}
	assert_int_equal(denied, TH_DAEMON_LEASES - 1);
	th_wire_give(&wire);
	th_wire_close(&wire);
}

static void test_peer_gets_no_descriptor_of_others_lease(void **state)
{
	(void)state;
	run_beside_bystander(need_others);
}

/* Parks what it has, then speaks of it as leased, and the other way round. */
static void give_twice(int link)
{
	struct th_wire wire;

	(void)link;
	th_wire_open(&wire, "twice");
	th_wire_take(&wire, 1);
	th_wire_give(&wire);
	assert_int_not_equal(
		ip_client_give(&wire.client, wire.held.segment, 1, false),
		PS_OK);
	th_wire_assert_ended(wire.socket);
	th_wire_close(&wire);
}

static void test_peer_that_gives_twice_is_cut_off_alone(void **state)
{
	(void)state;
	run_beside_bystander(give_twice);
}

/* ---- who resumes ---- */

static enum ps_status resume(uint64_t id, const uint8_t *token)
{
	struct ip_attach attach = { .id = id };
	enum ps_status status;
	struct th_wire wire;

	memcpy(attach.token, token, IP_TOKEN_BYTES);
	th_wire_connect(&wire);
	status = th_wire_try_attach(&wire, &attach);
	th_wire_close(&wire);
	return status;
}

static void resume_by_guess(int link)
{
	struct th_wire wire;
	uint8_t token[IP_TOKEN_BYTES];

	(void)link;
	th_wire_open(&wire, "victim");
	memcpy(token, wire.welcome.token, sizeof(token));
	token[IP_TOKEN_BYTES - 1] ^= 1;
	close(wire.socket);
	close(wire.events);
	th_daemon_wait_presence(getpid(), "away");
	th_assert_status(resume(wire.welcome.id, token), PS_REFUSED);
	th_assert_ok(resume(wire.welcome.id, wire.welcome.token));
}

static void test_peer_without_the_token_does_not_resume(void **state)
{
	(void)state;
	run_beside_bystander(resume_by_guess);
}

static struct ip_welcome stolen;

static void resume_stolen(void *arg)
{
	(void)arg;
	th_assert_status(resume(stolen.id, stolen.token), PS_REFUSED);
}

/* Its child knows everything, and is another process. */
static void resume_as_child(int link)
{
	struct th_wire wire;

	(void)link;
	th_wire_open(&wire, "parent");
	th_wire_take(&wire, 2);
	stolen = wire.welcome;
	th_wire_close(&wire);
	th_daemon_wait_presence(getpid(), "away");
	assert_int_equal(th_wait(th_fork(resume_stolen, NULL)), 0);
}

static void test_peer_that_is_another_process_does_not_resume(void **state)
{
	(void)state;
	run_beside_bystander(resume_as_child);
}

/* ---- floods ---- */

/* Asks and asks and never reads. */
static void flood(int link)
{
	struct ip_message msg;
	struct th_wire wire;
	uint8_t bytes[IP_MESSAGE_MAX];
	size_t size;

	th_wire_open(&wire, "flood");
	th_tell(link);
	for (uint32_t seq = 10;; seq++) {
		request(&msg, IP_NEED, seq);
		msg.body.need = (struct ip_need){ seq, 0, 1 };
		th_assert_ok(ip_message_encode(&msg, bytes, &size));
		if (send(wire.socket, bytes, size, MSG_NOSIGNAL) < 0)
			break;
	}
	th_await(link);
}

/* Asks, and stops before it reads. */
static void get_stuck(int link)
{
	struct ip_message msg;
	struct th_wire wire;

	th_wire_open(&wire, "stuck");
	for (uint32_t seq = 10; seq < 42; seq++) {
		request(&msg, IP_NEED, seq);
		msg.body.need = (struct ip_need){ seq, 0, 4 };
		th_wire_send(&wire, &msg);
	}
	th_tell(link);
	raise(SIGSTOP);
}

/* The slowest of some requests. */
static uint64_t slowest_request_ns(struct th_wire *wire)
{
	uint64_t slowest = 0, begin, took;

	for (unsigned int i = 0; i < REQUESTS; i++) {
		begin = th_now_ns();
		th_wire_take(wire, 1);
		th_wire_give(wire);
		took = th_now_ns() - begin;
		slowest = took > slowest ? took : slowest;
	}
	return slowest;
}

static void measure(int link)
{
	struct th_wire wire;
	uint64_t ns;

	th_wire_open(&wire, "measure");
	th_await(link);
	ns = slowest_request_ns(&wire);
	print_message("the slowest of %u requests took %llu us\n", REQUESTS,
		      (unsigned long long)ns / 1000);
	assert_true(ns < SECOND_NS / 4);
	th_assert_ok(ip_client_leave(&wire.client));
	th_wire_close(&wire);
}

static void measure_beside(void (*bad)(int link))
{
	struct th_client client, other;
	struct th_daemon daemon;

	th_daemon_start(&daemon, NULL);
	th_client_start(&client, bad);
	th_await(client.link);
	th_client_start(&other, measure);
	th_client_finish(&other);
	th_client_kill(&client);
	th_daemon_stop(&daemon);
}

static void test_peer_that_floods_delays_no_other(void **state)
{
	(void)state;
	measure_beside(flood);
}

static void test_peer_that_is_stuck_delays_no_other(void **state)
{
	(void)state;
	measure_beside(get_stuck);
}

/* ---- a crowd ---- */

/* Parked between two grants: scrubbing is the simulated GPU's time, which is
 * this machine's. */
static void cycle(int link)
{
	struct th_wire wire;

	th_wire_open(&wire, "one of many");
	th_tell(link);
	th_await(link);
	for (unsigned int i = 0; i < CROWD_CYCLES; i++) {
		th_wire_take(&wire, 1);
		th_wire_park(&wire);
	}
	th_tell(link);
	th_await(link);
}

/* The agent's own time: what the clients take of the processors, which this
 * machine may have few of, is not the daemon's. */
static uint64_t agent_ns(const struct th_daemon *daemon)
{
	struct timespec used;
	clockid_t clock;

	assert_int_equal(clock_getcpuclockid(daemon->agent, &clock), 0);
	assert_int_equal(clock_gettime(clock, &used), 0);
	return (uint64_t)used.tv_sec * SECOND_NS + (uint64_t)used.tv_nsec;
}

/* Of the agent's time, what each grant took when @count took turns. */
static uint64_t grant_ns(const struct th_daemon *daemon, unsigned int count)
{
	static struct th_client client[CROWD];
	uint64_t begin, used;

	for (unsigned int i = 0; i < count; i++) {
		th_client_start(&client[i], cycle);
		th_await(client[i].link);
	}
	begin = th_now_ns();
	used = agent_ns(daemon);
	for (unsigned int i = 0; i < count; i++)
		th_tell(client[i].link);
	for (unsigned int i = 0; i < count; i++)
		th_await(client[i].link);
	used = (agent_ns(daemon) - used) / count / CROWD_CYCLES;
	begin = (th_now_ns() - begin) / count / CROWD_CYCLES;
	print_message("%u at once: %llu us a grant, %llu of them the agent's\n",
		      count, (unsigned long long)begin / 1000,
		      (unsigned long long)used / 1000);
	for (unsigned int i = 0; i < count; i++)
		th_client_finish(&client[i]);
	return used;
}

/* Others of this machine's work can only make either dearer, so that the best
 * of some rounds is what it takes; the two take turns. */
static bool is_twice_at_most(const struct th_daemon *daemon)
{
	uint64_t alone = UINT64_MAX, crowd = UINT64_MAX, ns;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		ns = grant_ns(daemon, 1);
		alone = ns < alone ? ns : alone;
		ns = grant_ns(daemon, CROWD);
		crowd = ns < crowd ? ns : crowd;
		if (i + 1 >= ROUNDS_LEAST && crowd <= 2 * alone)
			return true;
	}
	return false;
}

static void test_peers_256_at_once_take_twice_as_long_at_most(void **state)
{
	const char *const options[] = { "--size", "1G", NULL };
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon,
			&(struct th_daemon_plan){ .options = options });
	assert_true(is_twice_at_most(&daemon));
	th_daemon_stop(&daemon);
}

/* ---- another minor version ---- */

static void speak_minor_1(int link)
{
	struct th_wire wire;

	(void)link;
	th_wire_connect(&wire);
	wire.client.conn.minor = 1;
	th_assert_ok(th_wire_try_attach(&wire, &(struct ip_attach){ .id = 0 }));
	assert_int_equal(wire.client.conn.minor, 1);
	th_wire_take(&wire, 2);
	th_wire_give(&wire);
	th_assert_ok(ip_client_leave(&wire.client));
	th_wire_close(&wire);
}

static void test_peer_of_the_previous_minor_is_served(void **state)
{
	(void)state;
	run_beside_bystander(speak_minor_1);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_peer_that_says_garbage_is_cut_off_alone),
	TH_DAEMON_TEST(test_peer_that_cuts_its_message_is_cut_off_alone),
	TH_DAEMON_TEST(test_peer_that_says_too_much_is_cut_off_alone),
	TH_DAEMON_TEST(test_peer_that_speaks_as_the_daemon_is_cut_off_alone),
	TH_DAEMON_TEST(test_peer_that_takes_unattached_is_cut_off_alone),
	TH_DAEMON_TEST(test_peer_that_attaches_twice_is_cut_off_alone),
	TH_DAEMON_TEST(test_peer_that_replays_a_request_is_cut_off_alone),
	TH_DAEMON_TEST(test_peer_that_takes_while_it_waits_is_cut_off_alone),
	TH_DAEMON_TEST(test_peer_that_gives_others_lease_is_cut_off_alone),
	TH_DAEMON_TEST(test_peer_gets_no_descriptor_of_others_lease),
	TH_DAEMON_TEST(test_peer_that_gives_twice_is_cut_off_alone),
	TH_DAEMON_TEST(test_peer_without_the_token_does_not_resume),
	TH_DAEMON_TEST(test_peer_that_is_another_process_does_not_resume),
	TH_DAEMON_TEST(test_peer_that_floods_delays_no_other),
	TH_DAEMON_TEST(test_peer_that_is_stuck_delays_no_other),
	TH_DAEMON_TEST(test_peers_256_at_once_take_twice_as_long_at_most),
	TH_DAEMON_TEST(test_peer_of_the_previous_minor_is_served),
};

TH_MAIN("daemon_peers", tests)
