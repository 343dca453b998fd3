/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Room outside the pool: segments that poolswitchd destroys so that a client
 * can have as many bytes of the driver's own, whoever dies meanwhile; and
 * segments that a client hands on.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/daemon_wire.h"

#define ROOM 3u
#define ROOM_BYTES ((int64_t)(ROOM * TH_DAEMON_SEGMENT))

static int64_t status_number(const char *path)
{
	json_t *status = th_daemon_status();
	int64_t value = th_json_number(status, path);

	json_decref(status);
	return value;
}

static int64_t outside(void)
{
	return status_number("regions.computation.outside");
}

static int64_t gpu_free(void)
{
	return status_number("gpu.free");
}

/* ---- the room ---- */

static void take_and_give(int link)
{
	struct th_wire wire;
	int64_t before;

	th_wire_open(&wire, "mixer");
	before = gpu_free();
	th_wire_room(&wire, ROOM);
	assert_int_equal(outside(), ROOM_BYTES);
	assert_int_equal(gpu_free(), before + ROOM_BYTES);
	th_wire_give(&wire);
	assert_int_equal(outside(), 0);
	th_assert_ok(ip_client_leave(&wire.client));
	th_wire_close(&wire);
	(void)link;
}

static void test_room_is_free_to_the_driver_until_given_back(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, take_and_give);
	assert_int_equal(th_client_wait(&client), 0);
	th_daemon_stop(&daemon);
}

/* Takes room and whole segments until the end. */
static void hold_room(int link)
{
	struct th_wire wire;

	th_wire_open(&wire, "mixer");
	th_wire_take(&wire, 2);
	th_wire_room(&wire, ROOM);
	th_tell(link);
	th_await(link);
}

static void test_room_of_a_killed_client_is_made_anew(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, hold_room);
	th_await(client.link);
	assert_int_equal(outside(), ROOM_BYTES);
	th_client_kill(&client);
	th_daemon_stop(&daemon);
}

static void take_all_but_one(int link)
{
	struct th_wire wire;
	enum ps_status status;

	th_wire_open(&wire, "greedy");
	th_wire_take(&wire, TH_DAEMON_LEASES - 1);
	status = th_wire_try_room(&wire, 2);
	th_assert_status(status, PS_OUT_OF_MEMORY);
	th_assert_ok(ip_client_leave(&wire.client));
	th_wire_close(&wire);
	(void)link;
}

static void test_room_that_is_refused_is_in_the_log(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, take_all_but_one);
	assert_int_equal(th_client_wait(&client), 0);
	assert_true(th_daemon_logged(&daemon,
				     "memory refused name \"greedy\" pid "));
	th_daemon_stop(&daemon);
}

/* Asks once a turn of the daemon's loop or so, for more than there is. */
static void ask_for_too_much(int link)
{
	struct th_wire wire;

	th_wire_open(&wire, "greedy");
	th_wire_take(&wire, TH_DAEMON_LEASES);
	for (unsigned int i = 0; i < 100; i++)
		th_assert_status(th_wire_try_room(&wire, 1), PS_OUT_OF_MEMORY);
	(void)link;
}

static unsigned int count_in_log(const struct th_daemon *daemon,
				 const char *text)
{
	FILE *file = fopen(daemon->log, "re");
	unsigned int count = 0;
	char line[2048];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		count += strstr(line, text) != NULL;
	fclose(file);
	return count;
}

static void test_room_refused_often_fills_no_disk(void **state)
{
	struct th_daemon daemon;
	struct th_client client;
	time_t begun = time(NULL);
	unsigned int lines;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, ask_for_too_much);
	assert_int_equal(th_client_wait(&client), 0);
	lines = count_in_log(&daemon, "memory refused");
	/* Ten in each second that it took, and in a part of one. */
	assert_in_range(lines, 10, 10 * (time(NULL) - begun + 2));
	th_daemon_stop(&daemon);
}

/* ---- a half dies ---- */

static unsigned int marked(const struct ip_list *held, uint32_t mark)
{
	unsigned int count = 0;

	for (uint32_t i = 0; i < held->count; i++)
		count += (held->segment[i] & ~IP_SEGMENT_NUMBER) == mark;
	return count;
}

static void resume_with_room(int link)
{
	struct th_wire wire;

	th_wire_open(&wire, "mixer");
	th_wire_take(&wire, 2);
	th_wire_room(&wire, ROOM);
	th_tell(link);
	th_await(link);
	th_wire_resume(&wire);
	assert_int_equal(wire.held.count, ROOM + 2);
	assert_int_equal(marked(&wire.held, IP_SEGMENT_OUTSIDE), ROOM);
	assert_int_equal(marked(&wire.held, 0), 2);
	assert_int_equal(outside(), ROOM_BYTES);
	th_wire_give(&wire);
	th_assert_ok(ip_client_leave(&wire.client));
	th_wire_close(&wire);
}

static void lose_a_half(bool keeper, bool agent)
{
	struct th_daemon daemon;
	struct th_client client;

	th_daemon_start(&daemon, NULL);
	th_client_start(&client, resume_with_room);
	th_await(client.link);
	if (keeper)
		th_daemon_kill_keeper(&daemon);
	if (agent)
		th_daemon_kill_agent(&daemon);
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

static void test_room_outlives_the_agent(void **state)
{
	(void)state;
	lose_a_half(false, true);
}

static void test_room_outlives_the_keeper_and_the_agent(void **state)
{
	(void)state;
	lose_a_half(true, true);
}

static void test_room_of_who_dies_without_an_agent_is_made_anew(void **state)
{
	struct th_daemon daemon;
	struct th_client client;
	pid_t dead;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, hold_room);
	th_await(client.link);
	dead = th_daemon_strike(daemon.agent);
	th_client_kill(&client);
	th_daemon_follow(&daemon, dead);
	th_daemon_stop(&daemon);
}

/* ---- a half dies while room is made ---- */

#define STRIKES 12u

/* Gives back what the journal says it has, told of it or not. */
static void give_all_held(struct th_wire *wire)
{
	if (wire->held.count > 0)
		th_wire_give(wire);
}

/* Asks, and says so; a half has died when it is told to go on. */
static void ask_while_a_half_dies(int link, void (*hear)(struct th_wire *wire))
{
	const struct ip_take room = {
		.count = ROOM,
		.wait_ms = TH_WIRE_MS,
		.flags = IP_TAKE_OUTSIDE,
	};
	struct th_wire wire;

	th_wire_open(&wire, "unlucky");
	for (unsigned int i = 0; i < STRIKES; i++) {
		th_assert_ok(ip_client_take_say(&wire.client, &room));
		th_tell(link);
		th_await(link);
		hear(&wire);
		give_all_held(&wire);
	}
	th_assert_ok(ip_client_leave(&wire.client));
	th_wire_close(&wire);
}

static void hear_room(struct th_wire *wire)
{
	int fds[IP_LIST_MAX];

	th_assert_ok(ip_client_take(&wire->client, NULL, &wire->held, fds));
	assert_int_equal(wire->held.count, ROOM);
}

/* Whether it was granted, or what of it, only the journal knows. */
static void ask_agents(int link)
{
	ask_while_a_half_dies(link, th_wire_resume);
}

static void ask_keepers(int link)
{
	ask_while_a_half_dies(link, hear_room);
}

/* Each time a little later. */
static void strike_often(bool keeper)
{
	struct th_daemon daemon;
	struct th_client client;

	th_daemon_start(&daemon, NULL);
	th_client_start(&client, keeper ? ask_keepers : ask_agents);
	for (unsigned int i = 0; i < STRIKES; i++) {
		th_await(client.link);
		usleep(50 * i);
		th_daemon_follow(&daemon,
				 th_daemon_strike(keeper ? daemon.keeper
							 : daemon.agent));
		th_tell(client.link);
	}
	assert_int_equal(th_client_wait(&client), 0);
	th_daemon_stop(&daemon);
}

static void test_room_asked_for_while_the_agent_dies_is_not_lost(void **state)
{
	(void)state;
	strike_often(false);
}

static void test_room_asked_for_while_the_keeper_dies_is_granted(void **state)
{
	(void)state;
	strike_often(true);
}

/* ---- segments that are handed on ---- */

static void export_one(int link)
{
	struct stat leased, again;
	struct th_wire wire;
	uint32_t segment;
	bool is_writable;
	int fd = -1, own = -1;

	th_wire_open(&wire, "exporter");
	th_wire_take(&wire, 1);
	segment = wire.held.segment[0];
	th_assert_ok(
		ip_client_need(&wire.client, segment, 1, &is_writable, &own));
	th_assert_ok(ip_client_export(&wire.client, segment, &fd));
	assert_int_equal(fstat(own, &leased), 0);
	assert_int_equal(fstat(fd, &again), 0);
	assert_true(leased.st_ino == again.st_ino);
	close(own);
	close(fd);
	th_wire_give(&wire);
	th_assert_ok(ip_client_leave(&wire.client));
	th_wire_close(&wire);
	(void)link;
}

static void test_exported_segment_is_remade_when_it_comes_back(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, export_one);
	assert_int_equal(th_client_wait(&client), 0);
	th_daemon_wait_clients(0);
	assert_int_equal(status_number("counters.remakes"), 1);
	assert_int_equal(status_number("counters.scrubs"), 0);
	th_daemon_stop(&daemon);
}

static void export_others(int link)
{
	struct th_wire wire;
	uint32_t segment;
	int fd = -1;

	th_wire_open(&wire, "exporter");
	th_wire_take(&wire, 1);
	segment = wire.held.segment[0];
	th_assert_status(ip_client_export(&wire.client, segment + 1, &fd),
			 PS_PERMISSION);
	th_assert_status(ip_client_export(&wire.client, 0, &fd), PS_PERMISSION);
	th_assert_ok(ip_client_export(&wire.client, segment, &fd));
	(void)link;
}

static void test_segment_of_nobody_is_not_exported(void **state)
{
	struct th_daemon daemon;
	struct th_client client;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_client_start(&client, export_others);
	assert_int_equal(th_client_wait(&client), 0);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_room_is_free_to_the_driver_until_given_back),
	TH_DAEMON_TEST(test_room_of_a_killed_client_is_made_anew),
	TH_DAEMON_TEST(test_room_that_is_refused_is_in_the_log),
	TH_DAEMON_TEST(test_room_refused_often_fills_no_disk),
	TH_DAEMON_TEST(test_room_outlives_the_agent),
	TH_DAEMON_TEST(test_room_outlives_the_keeper_and_the_agent),
	TH_DAEMON_TEST(test_room_of_who_dies_without_an_agent_is_made_anew),
	TH_DAEMON_TEST(test_room_asked_for_while_the_agent_dies_is_not_lost),
	TH_DAEMON_TEST(test_room_asked_for_while_the_keeper_dies_is_granted),
	TH_DAEMON_TEST(test_exported_segment_is_remade_when_it_comes_back),
	TH_DAEMON_TEST(test_segment_of_nobody_is_not_exported),
};

TH_MAIN("daemon_room", tests)
