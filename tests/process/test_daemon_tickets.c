/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tickets: one client opens what another has leased. Two processes speak the
 * protocol by hand; this one carries the ticket and has whom it likes die.
 */
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/daemon_wire.h"

#define ALICE 65533u
#define LEASED 3u
#define LEASED_BYTES ((int64_t)(LEASED * TH_DAEMON_SEGMENT))

/* What goes by the links: a ticket, and what the segments are. */
struct paper {
	uint8_t ticket[IP_TICKET_BYTES];
	uint32_t segment[LEASED];
	ino_t file[LEASED];
};

static void send_paper(int link, const struct paper *paper)
{
	assert_int_equal(write(link, paper, sizeof(*paper)), sizeof(*paper));
}

static void receive_paper(int link, struct paper *paper_out)
{
	assert_int_equal(read(link, paper_out, sizeof(*paper_out)),
			 sizeof(*paper_out));
}

static ino_t file_of(int fd)
{
	struct stat info;

	assert_int_equal(fstat(fd, &info), 0);
	return info.st_ino;
}

/* ---- the owner ---- */

/* In one run for each, against their order. */
static void describe(const struct th_wire *wire, struct ip_issue *issue_out)
{
	*issue_out = (struct ip_issue){ .run_count = LEASED };
	for (uint32_t i = 0; i < LEASED; i++)
		issue_out->run[i] =
			(struct ip_run){ wire->held.segment[LEASED - 1 - i],
					 1 };
	issue_out->offset = 1024;
	issue_out->bytes = 2 * TH_DAEMON_SEGMENT;
}

static void issue_paper(struct th_wire *wire, struct paper *paper_out)
{
	struct ip_issue issue;
	bool is_writable;
	int fd;

	describe(wire, &issue);
	for (uint32_t i = 0; i < LEASED; i++) {
		paper_out->segment[i] = issue.run[i].first;
		th_assert_ok(ip_client_need(&wire->client, issue.run[i].first,
					    1, &is_writable, &fd));
		paper_out->file[i] = file_of(fd);
		close(fd);
	}
	th_assert_ok(ip_client_issue(&wire->client, &issue, paper_out->ticket));
}

static void open_owner(struct th_wire *wire, int link)
{
	struct paper paper;

	th_wire_open(wire, "owner");
	th_wire_take(wire, LEASED);
	issue_paper(wire, &paper);
	send_paper(link, &paper);
}

static void close_owner(struct th_wire *wire)
{
	th_wire_give(wire);
	th_assert_ok(ip_client_leave(&wire->client));
	th_wire_close(wire);
}

/* Gives back, when it is told to, and then leaves. */
static void own_plainly(int link)
{
	struct th_wire wire;

	open_owner(&wire, link);
	th_await(link);
	close_owner(&wire);
}

/* ---- the reader ---- */

static enum ps_status try_open(struct th_wire *wire, const uint8_t *ticket)
{
	enum ps_status status;
	struct ip_opened opened;
	int fds[IP_LIST_MAX];

	status = ip_client_open(&wire->client, ticket, &opened, fds);
	for (uint32_t i = 0; status == PS_OK && i < opened.count; i++)
		close(fds[i]);
	return status;
}

static void open_whole(struct th_wire *wire, const struct paper *paper)
{
	struct ip_opened opened;
	int fds[IP_LIST_MAX];

	th_assert_ok(
		ip_client_open(&wire->client, paper->ticket, &opened, fds));
	assert_int_equal(opened.count, LEASED);
	assert_int_equal(opened.flags, 0);
	assert_int_equal(opened.offset, 1024);
	assert_int_equal(opened.bytes, 2 * TH_DAEMON_SEGMENT);
	for (uint32_t i = 0; i < LEASED; i++) {
		assert_int_equal(opened.segment[i], paper->segment[i]);
		assert_true(file_of(fds[i]) == paper->file[i]);
		close(fds[i]);
	}
}

static void close_reader(struct th_wire *wire, const struct paper *paper)
{
	th_assert_ok(ip_client_close(&wire->client, paper->segment, LEASED));
	th_assert_ok(ip_client_leave(&wire->client));
	th_wire_close(wire);
}

/* Opens twice; closes when it is told to. */
static void read_plainly(int link)
{
	struct th_wire wire;
	struct paper paper;

	receive_paper(link, &paper);
	th_wire_open(&wire, "reader");
	open_whole(&wire, &paper);
	open_whole(&wire, &paper);
	th_tell(link);
	th_await(link);
	close_reader(&wire, &paper);
}

/* Tells one status of what came of the ticket; its connection goes on. */
static void read_and_tell(int link)
{
	struct th_wire wire;
	struct paper paper;
	enum ps_status status;
	bool is_writable;
	int fd;

	receive_paper(link, &paper);
	th_wire_open(&wire, "reader");
	status = try_open(&wire, paper.ticket);
	th_assert_ok(ip_client_need(&wire.client, 0, 1, &is_writable, &fd));
	close(fd);
	assert_int_equal(write(link, &status, sizeof(status)), sizeof(status));
}

/* What a new reader is told of this ticket. */
static enum ps_status ask_reader(const struct paper *paper)
{
	struct th_client reader;
	enum ps_status status;

	th_client_start(&reader, read_and_tell);
	send_paper(reader.link, paper);
	assert_int_equal(read(reader.link, &status, sizeof(status)),
			 sizeof(status));
	assert_int_equal(th_client_wait(&reader), 0);
	return status;
}

/* ---- both ---- */

struct scene {
	struct th_daemon daemon;
	struct th_client owner;
	struct th_client reader;
	struct paper paper;
};

static void begin(struct scene *scene, void (*own)(int link))
{
	th_daemon_start(&scene->daemon, NULL);
	th_client_start(&scene->owner, own);
	receive_paper(scene->owner.link, &scene->paper);
}

/* With a reader that has opened. */
static void begin_both(struct scene *scene, void (*own)(int link),
		       void (*read)(int link))
{
	begin(scene, own);
	th_client_start(&scene->reader, read);
	send_paper(scene->reader.link, &scene->paper);
	th_await(scene->reader.link);
}

static int64_t status_number(const char *path)
{
	json_t *status = th_daemon_status();
	int64_t value = th_json_number(status, path);

	json_decref(status);
	return value;
}

static int64_t opened_by(pid_t pid)
{
	json_t *status = th_daemon_status();
	int64_t value = th_json_number(th_status_client(status, pid), "opened");

	json_decref(status);
	return value;
}

static void test_ticket_opens_the_same_memory(void **state)
{
	struct scene scene;

	(void)state;
	begin_both(&scene, own_plainly, read_plainly);
	assert_int_equal(opened_by(scene.reader.pid), LEASED_BYTES);
	assert_int_equal(opened_by(scene.owner.pid), 0);
	th_client_finish(&scene.reader);
	th_client_finish(&scene.owner);
	th_daemon_stop(&scene.daemon);
}

static void test_ticket_memory_given_back_stays_the_readers(void **state)
{
	struct scene scene;

	(void)state;
	begin_both(&scene, own_plainly, read_plainly);
	th_client_finish(&scene.owner);
	th_daemon_wait_quarantined(LEASED_BYTES);
	assert_int_equal(status_number("regions.computation.leased"), 0);
	th_client_finish(&scene.reader);
	th_daemon_stop(&scene.daemon);
}

static void test_ticket_memory_of_a_dead_owner_stays_the_readers(void **state)
{
	struct scene scene;

	(void)state;
	begin_both(&scene, own_plainly, read_plainly);
	th_client_kill(&scene.owner);
	th_daemon_wait_quarantined(LEASED_BYTES);
	th_client_finish(&scene.reader);
	th_daemon_stop(&scene.daemon);
}

static void test_ticket_reader_that_dies_gives_back(void **state)
{
	struct scene scene;

	(void)state;
	begin_both(&scene, own_plainly, read_plainly);
	th_client_finish(&scene.owner);
	th_client_kill(&scene.reader);
	th_daemon_stop(&scene.daemon);
}

/* ---- what opens nothing ---- */

static void test_ticket_forged_is_refused(void **state)
{
	struct scene scene;

	(void)state;
	begin(&scene, own_plainly);
	for (size_t i = 0; i < IP_TICKET_BYTES; i += 7) {
		struct paper forged = scene.paper;

		forged.ticket[i] ^= 1;
		assert_int_equal(ask_reader(&forged), PS_REFUSED);
	}
	assert_int_equal(ask_reader(&scene.paper), PS_OK);
	th_client_finish(&scene.owner);
	th_daemon_stop(&scene.daemon);
}

static void test_ticket_of_a_dead_owner_is_refused(void **state)
{
	struct scene scene;

	(void)state;
	begin(&scene, own_plainly);
	th_client_kill(&scene.owner);
	assert_int_equal(ask_reader(&scene.paper), PS_REFUSED);
	th_daemon_stop(&scene.daemon);
}

/* Takes the same segments again: another lease. */
static void own_again(int link)
{
	struct th_wire wire;

	open_owner(&wire, link);
	th_await(link);
	th_wire_give(&wire);
	th_wire_take(&wire, TH_DAEMON_LEASES);
	th_tell(link);
	th_await(link);
	close_owner(&wire);
}

static void test_ticket_of_an_earlier_lease_is_refused(void **state)
{
	struct scene scene;

	(void)state;
	begin(&scene, own_again);
	th_tell(scene.owner.link);
	th_await(scene.owner.link);
	assert_int_equal(ask_reader(&scene.paper), PS_REFUSED);
	th_client_finish(&scene.owner);
	th_daemon_stop(&scene.daemon);
}

static void test_ticket_of_another_pool_is_refused(void **state)
{
	struct scene scene;
	struct paper old;

	(void)state;
	begin(&scene, own_plainly);
	old = scene.paper;
	th_client_finish(&scene.owner);
	th_daemon_stop(&scene.daemon);
	begin(&scene, own_plainly);
	assert_int_equal(ask_reader(&old), PS_REFUSED);
	th_client_finish(&scene.owner);
	th_daemon_stop(&scene.daemon);
}

static void own_and_open(int link)
{
	struct th_wire wire;
	struct paper paper;

	th_wire_open(&wire, "owner");
	th_wire_take(&wire, LEASED);
	issue_paper(&wire, &paper);
	th_assert_status(try_open(&wire, paper.ticket), PS_NOT_OURS);
	close_owner(&wire);
	(void)link;
}

static void test_ticket_of_ones_own_is_not_opened(void **state)
{
	struct th_daemon daemon;
	struct th_client owner;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&owner, own_and_open);
	assert_int_equal(th_client_wait(&owner), 0);
	th_daemon_stop(&daemon);
}

static void issue_others(int link)
{
	struct ip_issue issue = { .run_count = 1, .bytes = 512 };
	uint8_t ticket[IP_TICKET_BYTES];
	struct th_wire wire;

	th_wire_open(&wire, "liar");
	th_wire_take(&wire, 1);
	issue.run[0] = (struct ip_run){ wire.held.segment[0], 2 };
	th_assert_status(ip_client_issue(&wire.client, &issue, ticket),
			 PS_PERMISSION);
	issue.run[0].count = 1;
	issue.offset = TH_DAEMON_SEGMENT;
	th_assert_status(ip_client_issue(&wire.client, &issue, ticket),
			 PS_INVALID_ARGUMENT);
	close_owner(&wire);
	(void)link;
}

static void test_ticket_for_more_than_is_leased_is_denied(void **state)
{
	struct th_daemon daemon;
	struct th_client liar;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&liar, issue_others);
	assert_int_equal(th_client_wait(&liar), 0);
	th_daemon_stop(&daemon);
}

static void close_unopened(int link)
{
	struct th_wire wire;

	th_wire_open(&wire, "liar");
	th_wire_take(&wire, 1);
	th_assert_status(ip_client_close(&wire.client, wire.held.segment, 1),
			 PS_PROTOCOL);
	th_wire_assert_ended(wire.socket);
	(void)link;
}

static void test_closing_what_is_not_open_ends_the_connection(void **state)
{
	struct th_daemon daemon;
	struct th_client liar;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&liar, close_unopened);
	assert_int_equal(th_client_wait(&liar), 0);
	th_daemon_stop(&daemon);
}

/* What is open is not leased. */
static void give_opened(int link)
{
	struct th_wire wire;
	struct paper paper;

	receive_paper(link, &paper);
	th_wire_open(&wire, "thief");
	open_whole(&wire, &paper);
	th_assert_status(ip_client_give(&wire.client, paper.segment, 1, false),
			 PS_PROTOCOL);
	th_wire_assert_ended(wire.socket);
	th_tell(link);
	th_await(link);
}

static void test_opened_memory_is_not_the_readers_to_give(void **state)
{
	struct scene scene;

	(void)state;
	begin_both(&scene, own_plainly, give_opened);
	assert_int_equal(status_number("regions.computation.leased"),
			 LEASED_BYTES);
	th_client_kill(&scene.reader);
	th_client_finish(&scene.owner);
	th_daemon_stop(&scene.daemon);
}

static void open_and_pass_on(int link)
{
	struct ip_issue issue = { .run_count = 1, .bytes = 512 };
	uint8_t ticket[IP_TICKET_BYTES];
	struct th_wire wire;
	struct paper paper;
	int fd = -1;

	receive_paper(link, &paper);
	th_wire_open(&wire, "reader");
	open_whole(&wire, &paper);
	issue.run[0] = (struct ip_run){ paper.segment[0], 1 };
	th_assert_status(ip_client_issue(&wire.client, &issue, ticket),
			 PS_PERMISSION);
	th_assert_status(ip_client_export(&wire.client, paper.segment[0], &fd),
			 PS_PERMISSION);
	th_tell(link);
	th_await(link);
	close_reader(&wire, &paper);
}

static void test_opened_memory_is_not_passed_on(void **state)
{
	struct scene scene;

	(void)state;
	begin_both(&scene, own_plainly, open_and_pass_on);
	th_client_finish(&scene.reader);
	th_client_finish(&scene.owner);
	th_daemon_stop(&scene.daemon);
}

static void say_unattached(int link)
{
	static const enum ip_type types[] = { IP_ISSUE, IP_OPEN, IP_CLOSE };
	struct ip_message msg;
	struct th_wire wire;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		th_wire_connect(&wire);
		ip_message_init(&msg, types[i], IP_MINOR_HIGH);
		msg.body.number.seq = 1;
		if (types[i] == IP_ISSUE)
			msg.body.issue = (struct ip_issue){
				.seq = 1, 1, { { 4, 1 } }, .bytes = 512
			};
		if (types[i] == IP_CLOSE)
			msg.body.list.count = 1;
		th_wire_send(&wire, &msg);
		th_wire_assert_ended(wire.socket);
		th_wire_close(&wire);
	}
	(void)link;
}

static void test_ticket_messages_before_attach_end_the_connection(void **state)
{
	struct th_daemon daemon;
	struct th_client liar;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&liar, say_unattached);
	assert_int_equal(th_client_wait(&liar), 0);
	th_daemon_stop(&daemon);
}

static void read_as_alice(int link)
{
	th_become(ALICE);
	read_and_tell(link);
}

static void test_ticket_of_another_user_is_refused(void **state)
{
	static const char *const options[] = { "--socket-mode", "666", NULL };
	const struct th_daemon_plan plan = { .options = options };
	enum ps_status status = PS_OK;
	struct scene scene;

	(void)state;
	if (geteuid() != 0)
		th_skip("only root can become another user");
	th_daemon_start(&scene.daemon, &plan);
	th_open_to_all();
	th_client_start(&scene.owner, own_plainly);
	receive_paper(scene.owner.link, &scene.paper);
	th_client_start(&scene.reader, read_as_alice);
	send_paper(scene.reader.link, &scene.paper);
	assert_int_equal(read(scene.reader.link, &status, sizeof(status)),
			 sizeof(status));
	assert_int_equal(status, PS_REFUSED);
	assert_int_equal(th_client_wait(&scene.reader), 0);
	th_client_finish(&scene.owner);
	th_daemon_stop(&scene.daemon);
}

/* ---- a half dies ---- */

static void own_and_resume(int link)
{
	struct th_wire wire;

	open_owner(&wire, link);
	th_await(link);
	th_wire_resume(&wire);
	assert_int_equal(wire.held.count, LEASED);
	th_tell(link);
	th_await(link);
	close_owner(&wire);
}

static void read_and_resume(int link)
{
	struct th_wire wire;
	struct paper paper;

	receive_paper(link, &paper);
	th_wire_open(&wire, "reader");
	open_whole(&wire, &paper);
	th_tell(link);
	th_await(link);
	th_wire_resume(&wire);
	assert_int_equal(wire.held.count, LEASED);
	for (uint32_t i = 0; i < LEASED; i++)
		assert_int_equal(wire.held.segment[i] & ~IP_SEGMENT_NUMBER,
				 IP_SEGMENT_OPENED);
	th_tell(link);
	th_await(link);
	close_reader(&wire, &paper);
}

static void step(struct th_client *client)
{
	th_tell(client->link);
	th_await(client->link);
}

static void test_ticket_and_what_it_opened_outlive_the_agent(void **state)
{
	struct scene scene;

	(void)state;
	begin_both(&scene, own_and_resume, read_and_resume);
	th_daemon_kill_keeper(&scene.daemon);
	th_daemon_kill_agent(&scene.daemon);
	step(&scene.owner);
	step(&scene.reader);
	assert_int_equal(ask_reader(&scene.paper), PS_OK);
	th_client_finish(&scene.owner);
	th_daemon_wait_quarantined(LEASED_BYTES);
	th_client_finish(&scene.reader);
	th_daemon_stop(&scene.daemon);
}

static void test_open_memory_of_who_died_without_an_agent_is_fenced(void **s)
{
	struct scene scene;
	pid_t dead;

	(void)s;
	begin_both(&scene, own_plainly, read_and_resume);
	dead = th_daemon_strike(scene.daemon.agent);
	th_client_kill(&scene.owner);
	th_daemon_follow(&scene.daemon, dead);
	step(&scene.reader);
	th_daemon_wait_quarantined(LEASED_BYTES);
	th_client_finish(&scene.reader);
	th_daemon_stop(&scene.daemon);
}

/* ---- an older client ---- */

static void speak_minor_2(int link)
{
	struct ip_attach attach = { .name = "elder" };
	struct th_wire wire;
	bool is_writable;
	int fd;

	th_wire_connect(&wire);
	wire.client.conn.minor = 2;
	th_assert_ok(th_wire_try_attach(&wire, &attach));
	assert_int_equal(wire.client.conn.minor, 2);
	th_wire_take(&wire, 2);
	th_assert_ok(ip_client_need(&wire.client, wire.held.segment[0], 1,
				    &is_writable, &fd));
	close(fd);
	th_wire_resume(&wire);
	assert_int_equal(wire.held.count, 2);
	close_owner(&wire);
	(void)link;
}

static void test_client_of_minor_2_is_served_as_before(void **state)
{
	struct th_daemon daemon;
	struct th_client elder;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&elder, speak_minor_2);
	assert_int_equal(th_client_wait(&elder), 0);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_ticket_opens_the_same_memory),
	TH_DAEMON_TEST(test_ticket_memory_given_back_stays_the_readers),
	TH_DAEMON_TEST(test_ticket_memory_of_a_dead_owner_stays_the_readers),
	TH_DAEMON_TEST(test_ticket_reader_that_dies_gives_back),
	TH_DAEMON_TEST(test_ticket_forged_is_refused),
	TH_DAEMON_TEST(test_ticket_of_a_dead_owner_is_refused),
	TH_DAEMON_TEST(test_ticket_of_an_earlier_lease_is_refused),
	TH_DAEMON_TEST(test_ticket_of_another_pool_is_refused),
	TH_DAEMON_TEST(test_ticket_of_ones_own_is_not_opened),
	TH_DAEMON_TEST(test_ticket_for_more_than_is_leased_is_denied),
	TH_DAEMON_TEST(test_closing_what_is_not_open_ends_the_connection),
	TH_DAEMON_TEST(test_opened_memory_is_not_the_readers_to_give),
	TH_DAEMON_TEST(test_opened_memory_is_not_passed_on),
	TH_DAEMON_TEST(test_ticket_messages_before_attach_end_the_connection),
	TH_DAEMON_TEST(test_ticket_of_another_user_is_refused),
	TH_DAEMON_TEST(test_ticket_and_what_it_opened_outlive_the_agent),
	TH_DAEMON_TEST(test_open_memory_of_who_died_without_an_agent_is_fenced),
	TH_DAEMON_TEST(test_client_of_minor_2_is_served_as_before),
};

TH_MAIN("daemon_tickets", tests)
