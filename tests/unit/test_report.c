/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the daemon says of itself, of a core that a test has filled. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"
#include "poold/report.h"
#include "tests/support/harness.h"

#define MIB (UINT64_C(1) << 20)
#define SEGMENT (2 * MIB)

struct world {
	struct pd_journal *journal;
	struct pd_core *core;
	struct pd_limits limits;
	struct pd_counters counters;
	struct pd_client_extra extra;
	uint32_t granted[8];
	uint32_t grants;
	uint32_t vacated[8];
	uint32_t vacates;
};

static struct world world;

static void grant(void *owner, uint32_t slot, uint32_t seq,
		  const uint32_t *segments, uint32_t count)
{
	struct world *to = owner;

	(void)slot;
	(void)seq;
	for (uint32_t i = 0; i < count; i++)
		to->granted[to->grants++] = segments[i];
}

static void deny(void *owner, uint32_t slot, uint32_t seq,
		 enum ps_status status, const char *text)
{
	(void)owner;
	(void)slot;
	(void)seq;
	fail_msg("denied with %d: %s", (int)status, text);
}

static void recall(void *owner, uint32_t slot, uint32_t seq, uint32_t count,
		   uint32_t deadline_ms)
{
	(void)owner;
	(void)slot;
	(void)seq;
	(void)count;
	(void)deadline_ms;
}

static void work(void *owner, uint32_t segment)
{
	(void)owner;
	(void)segment;
}

static void vacate(void *owner, uint32_t segment)
{
	struct world *to = owner;

	to->vacated[to->vacates++] = segment;
}

static void arm(void *owner, uint64_t at_ms)
{
	(void)owner;
	(void)at_ms;
}

static int set_up(void **state)
{
	struct pd_pool_record pool = {
		.id = { 0xab, 1 },
		.gpu = "GPU-test",
		.window_base = UINT64_C(1) << 44,
		.window_bytes = 64 * SEGMENT,
		.segment_bytes = SEGMENT,
		.parameter_bytes = 2 * SEGMENT,
		.segments = 8,
		.clients = 4,
	};
	struct pd_core_config config = {
		.ops = { grant, deny, recall, work, work, arm, vacate, grant },
		.owner = &world,
	};

	(void)state;
	memset(&world, 0, sizeof(world));
	pd_limits_init(&world.limits);
	th_assert_ok(pd_journal_create(&pool, &world.journal));
	config.journal = world.journal;
	config.limits = world.limits;
	th_assert_ok(pd_core_new(&config, 1, &world.core));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	pd_core_free(world.core);
	pd_journal_close(world.journal);
	return 0;
}

/* A client with so many segments. */
static uint32_t add_client(const char *name, uint32_t segments)
{
	struct pd_client_record wanted = {
		.used = true, .id = 0x1234, .pid = 77, .uid = 1000, .gid = 100
	};
	struct ip_take take = { .seq = 1, .count = segments };
	struct pd_client_record granted;
	uint32_t slot = PD_NO_CLIENT;

	wanted.token[0] = 1;
	snprintf(wanted.name, sizeof(wanted.name), "%s", name);
	th_assert_ok(pd_core_admit(world.core, &wanted, 1, &slot, &granted));
	th_assert_ok(pd_core_take(world.core, slot, &take, 1));
	assert_int_equal(world.grants, segments);
	return slot;
}

/* Another process of the same user. */
static uint32_t add_other(void)
{
	struct pd_client_record wanted = {
		.used = true, .id = 0x5678, .pid = 78, .uid = 1000, .gid = 100
	};
	struct pd_client_record granted;
	uint32_t slot = PD_NO_CLIENT;

	wanted.token[0] = 2;
	th_assert_ok(pd_core_admit(world.core, &wanted, 1, &slot, &granted));
	return slot;
}

/* Room outside the pool, vacated at once. */
static void take_outside(uint32_t slot, uint32_t segments)
{
	struct ip_take take = { .seq = 2, .count = segments, .wait_ms = 1000 };

	take.flags = IP_TAKE_OUTSIDE;
	th_assert_ok(pd_core_take(world.core, slot, &take, 1));
	for (uint32_t i = 0; i < world.vacates; i++)
		pd_core_vacated(world.core, world.vacated[i], PS_OK, 1);
	assert_int_equal(world.vacates, segments);
}

/* The first segment that the owner has got. */
static void open_of(uint32_t owner, uint32_t reader)
{
	const struct ip_issue issue = {
		.seq = 3,
		.run_count = 1,
		.run = { { world.granted[0], 1 } },
		.bytes = 512,
	};
	struct pd_grant_of ticket;
	uint32_t segments[8];
	uint32_t count;

	th_assert_ok(pd_core_issue(world.core, owner, &issue, &ticket));
	th_assert_ok(
		pd_core_open(world.core, reader, &ticket, segments, &count));
	assert_int_equal(count, 1);
}

static void look(void *owner, uint32_t slot, struct pd_client_extra *extra_out)
{
	(void)owner;
	(void)slot;
	*extra_out = world.extra;
}

static struct pd_report plain_report(void)
{
	return (struct pd_report){
		.state = "serving",
		.socket = "/run/poolswitch/socket",
		.keeper = 11,
		.uptime = 1.5,
		.gpu = "GPU-test",
		.gpu_free = 5 * MIB,
		.pool = pd_journal_pool(world.journal),
		.limits = &world.limits,
		.core = world.core,
		.counters = &world.counters,
		.look = look,
	};
}

static json_t *load(char *text)
{
	json_error_t error;
	json_t *json;

	assert_non_null(text);
	json = json_loads(text, 0, &error);
	if (!json)
		fail_msg("%s in %s", error.text, text);
	free(text);
	return json;
}

static json_t *load_status(void)
{
	struct pd_report report = plain_report();

	return load(pd_report_status(&report));
}

/* By a path of names and, in the array of clients, places. */
static json_t *at(json_t *json, const char *path)
{
	char copy[128];
	char *rest = copy;
	char *name;

	snprintf(copy, sizeof(copy), "%s", path);
	while (json && (name = strsep(&rest, ".")))
		json = json_is_array(json)
			       ? json_array_get(json, strtoul(name, NULL, 10))
			       : json_object_get(json, name);
	if (!json)
		fail_msg("no %s", path);
	return json;
}

static void assert_number(json_t *json, const char *path, uint64_t expected)
{
	assert_true(json_is_integer(at(json, path)));
	assert_int_equal(json_integer_value(at(json, path)), expected);
}

static void assert_text(json_t *json, const char *path, const char *expected)
{
	assert_true(json_is_string(at(json, path)));
	assert_string_equal(json_string_value(at(json, path)), expected);
}

static void test_report_empty_pool_has_its_sizes(void **state)
{
	json_t *json = load_status();

	(void)state;
	assert_text(json, "state", "serving");
	assert_text(json, "gpu.uuid", "GPU-test");
	assert_number(json, "gpu.free", 5 * MIB);
	assert_number(json, "keeper_pid", 11);
	assert_number(json, "agent_pid", (uint64_t)getpid());
	assert_text(json, "pool.id", "ab010000000000000000000000000000");
	assert_number(json, "pool.bytes", 8 * SEGMENT);
	assert_number(json, "regions.parameter.bytes", 2 * SEGMENT);
	assert_number(json, "regions.computation.bytes", 6 * SEGMENT);
	assert_number(json, "regions.computation.clean", 6 * SEGMENT);
	assert_int_equal(json_array_size(json_object_get(json, "clients")), 0);
	json_decref(json);
}

static void test_report_client_has_its_numbers(void **state)
{
	json_t *json;

	(void)state;
	add_client("trainer", 2);
	world.extra.has_answered = true;
	world.extra.polled = (struct ip_polled){ 1, 3, 1000, 2000, 3000 };
	json = load_status();
	assert_text(json, "clients.0.name", "trainer");
	assert_text(json, "clients.0.id", "0000000000001234");
	assert_text(json, "clients.0.presence", "here");
	assert_number(json, "clients.0.pid", 77);
	assert_number(json, "clients.0.uid", 1000);
	assert_number(json, "clients.0.leased", 2 * SEGMENT);
	assert_number(json, "clients.0.live", 1000);
	assert_number(json, "clients.0.cached", 2000);
	assert_number(json, "clients.0.passed", 3000);
	assert_number(json, "clients.0.blocks", 3);
	assert_true(json_is_true(at(json, "clients.0.answered")));
	json_decref(json);
}

static void test_report_room_outside_is_told(void **state)
{
	uint32_t slot = add_client("trainer", 2);
	json_t *json;

	(void)state;
	take_outside(slot, 3);
	json = load_status();
	assert_number(json, "clients.0.leased", 2 * SEGMENT);
	assert_number(json, "clients.0.outside", 3 * SEGMENT);
	assert_number(json, "regions.computation.outside", 3 * SEGMENT);
	assert_number(json, "regions.computation.other", 0);
	json_decref(json);
	pd_core_dead(world.core, slot, 2);
	json = load_status();
	assert_number(json, "clients.0.outside", 0);
	assert_number(json, "clients.0.quarantined", 5 * SEGMENT);
	json_decref(json);
}

static void test_report_opened_memory_is_told_of_who_opened(void **state)
{
	uint32_t owner = add_client("trainer", 2);
	uint32_t reader = add_other();
	json_t *json;

	(void)state;
	open_of(owner, reader);
	json = load_status();
	assert_number(json, "clients.0.opened", 0);
	assert_number(json, "clients.1.opened", SEGMENT);
	assert_number(json, "clients.1.leased", 0);
	assert_number(json, "regions.computation.leased", 2 * SEGMENT);
	json_decref(json);
}

static void test_report_dead_client_is_quarantined(void **state)
{
	uint32_t slot = add_client("gone", 3);
	json_t *json;

	(void)state;
	pd_core_dead(world.core, slot, 2);
	snprintf(world.extra.reason, sizeof(world.extra.reason), "pid 5");
	json = load_status();
	assert_text(json, "clients.0.presence", "dead");
	assert_text(json, "clients.0.reason", "pid 5");
	assert_number(json, "clients.0.leased", 0);
	assert_number(json, "clients.0.quarantined", 3 * SEGMENT);
	assert_number(json, "regions.computation.quarantined", 3 * SEGMENT);
	assert_number(json, "regions.computation.leased", 0);
	json_decref(json);
}

static void test_report_sums_are_the_region(void **state)
{
	static const char *const parts[] = {
		"leased",   "parked",      "clean",   "dirty",
		"remaking", "quarantined", "outside",
	};
	uint64_t sum = 0;
	json_t *json;

	(void)state;
	add_client("a", 2);
	take_outside(0, 1);
	json = load_status();
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		sum += (uint64_t)json_integer_value(json_object_get(
			at(json, "regions.computation"), parts[i]));
	assert_int_equal(sum, 6 * SEGMENT);
	assert_number(json, "regions.computation.other", 0);
	json_decref(json);
}

static void test_report_counters_are_told(void **state)
{
	json_t *json;

	(void)state;
	world.counters = (struct pd_counters){ 1, 2, 3, 4, 5, 6, 7 };
	json = load_status();
	assert_number(json, "counters.attached", 1);
	assert_number(json, "counters.resumed", 2);
	assert_number(json, "counters.refused", 3);
	assert_number(json, "counters.throttled", 4);
	assert_number(json, "counters.stuck", 5);
	assert_number(json, "counters.keeper_starts", 6);
	assert_number(json, "counters.messages", 7);
	json_decref(json);
}

static void test_report_path_that_is_no_utf8_is_json(void **state)
{
	struct pd_report report = plain_report();
	json_t *json;

	(void)state;
	report.socket = "/tmp/\xff\xfe\"\n";
	json = load(pd_report_status(&report));
	assert_text(json, "socket", "/tmp/\?\?\"\n");
	json_decref(json);
}

static void test_report_unbounded_numbers_are_json(void **state)
{
	json_t *json;

	(void)state;
	world.limits.client_reservation_max = UINT64_MAX;
	json = load_status();
	assert_number(json, "limits.client_reservation_max", INT64_MAX);
	json_decref(json);
}

static void test_report_done_says_what_is_left(void **state)
{
	struct pd_report report = plain_report();
	json_t *json;

	(void)state;
	add_client("a", 2);
	report.state = "draining";
	json = load(pd_report_done(&report));
	assert_true(json_is_true(at(json, "done")));
	assert_text(json, "state", "draining");
	assert_text(json, "gpu", report.gpu);
	assert_number(json, "clients", 1);
	assert_number(json, "leased", 2 * SEGMENT);
	json_decref(json);
}

static void test_report_file_has_the_text_and_is_sealed(void **state)
{
	char text[16] = "";
	uint32_t bytes = 0;
	int fd = -1;

	(void)state;
	th_assert_ok(pd_report_file("{\"a\":1}", &fd, &bytes));
	assert_int_equal(bytes, 7);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 7);
	assert_string_equal(text, "{\"a\":1}");
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	close(fd);
}

static void test_report_file_too_long_is_refused(void **state)
{
	char *text = malloc(IP_ANSWER_MAX + 2u);
	uint32_t bytes;
	int fd;

	(void)state;
	assert_non_null(text);
	memset(text, ' ', IP_ANSWER_MAX + 1u);
	text[IP_ANSWER_MAX + 1u] = '\0';
	th_assert_status(pd_report_file(text, &fd, &bytes), PS_OUT_OF_RANGE);
	free(text);
}

#define WITH_WORLD(fn) TH_TEST_SETUP(fn, set_up, tear_down)

static const struct th_test tests[] = {
	WITH_WORLD(test_report_empty_pool_has_its_sizes),
	WITH_WORLD(test_report_client_has_its_numbers),
	WITH_WORLD(test_report_room_outside_is_told),
	WITH_WORLD(test_report_opened_memory_is_told_of_who_opened),
	WITH_WORLD(test_report_dead_client_is_quarantined),
	WITH_WORLD(test_report_sums_are_the_region),
	WITH_WORLD(test_report_counters_are_told),
	WITH_WORLD(test_report_path_that_is_no_utf8_is_json),
	WITH_WORLD(test_report_unbounded_numbers_are_json),
	WITH_WORLD(test_report_done_says_what_is_left),
	TH_TEST(test_report_file_has_the_text_and_is_sealed),
	TH_TEST(test_report_file_too_long_is_refused),
};

TH_MAIN("report", tests)
