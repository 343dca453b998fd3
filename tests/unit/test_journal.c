/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The journal: what is kept, what a killed writer leaves, what is damage. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "poold/journal.h"
#include "tests/support/harness.h"

/* Where things are in the file: poold/journal_parts.h. */
#define HEADER_BYTES 184u
#define SEGMENT_PLACE 80u
#define CLIENT_PLACE 184u
#define MODEL_PLACE 488u

#define SEGMENTS 5u
#define CLIENTS 3u
#define FILE_BYTES                                                             \
	(HEADER_BYTES + SEGMENTS * 2 * SEGMENT_PLACE +                         \
	 CLIENTS * 2 * CLIENT_PLACE + IP_MODELS_MAX * 2 * MODEL_PLACE)
#define SEGMENT_AT(n) (HEADER_BYTES + (n)*2 * SEGMENT_PLACE)
#define CLIENT_AT(slot) (SEGMENT_AT(SEGMENTS) + (slot)*2 * CLIENT_PLACE)
#define MODEL_AT(n) (CLIENT_AT(CLIENTS) + (n)*2 * MODEL_PLACE)

static struct pd_pool_record a_pool(void)
{
	return (struct pd_pool_record){
		.id = "0123456789abcde",
		.gpu = "GPU-00000000-0000-0000-0000-000000000001",
		.window_base = UINT64_C(0x200000000000),
		.window_bytes = UINT64_C(1) << 30,
		.segment_bytes = 2 << 20,
		.parameter_bytes = 4 << 20,
		.segments = SEGMENTS,
		.clients = CLIENTS,
		.key = "what nobody else knows, 32 byte",
	};
}

static struct pd_journal *a_journal(void)
{
	const struct pd_pool_record pool = a_pool();
	struct pd_journal *journal;

	th_assert_ok(pd_journal_create(&pool, &journal));
	return journal;
}

static struct pd_client_record a_client(unsigned char seed)
{
	struct pd_client_record record = {
		.used = true,
		.id = UINT64_C(0x0101010101010101) * seed,
		.pid = 1000 + seed,
		.uid = 2000u + seed,
		.gid = 3000u + seed,
		.flags = IP_ATTACH_WRITE,
		.reservation = UINT64_C(1) << seed,
		.limit = UINT64_C(3) << seed,
		.marks.started = 5000u + seed,
	};

	memset(record.token, seed, sizeof(record.token));
	memset(record.name, 'a' + seed, sizeof(record.name) - 1);
	for (unsigned int i = 0; i < 4; i++)
		record.marks.image[i] = (uint64_t)seed << (8 * i);
	return record;
}

static void assert_same_client(const struct pd_client_record *a,
			       const struct pd_client_record *b)
{
	assert_int_equal(a->used, b->used);
	assert_int_equal(a->id, b->id);
	assert_int_equal(a->pid, b->pid);
	assert_int_equal(a->uid, b->uid);
	assert_int_equal(a->gid, b->gid);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->reservation, b->reservation);
	assert_int_equal(a->limit, b->limit);
	assert_memory_equal(a->token, b->token, sizeof(a->token));
	assert_memory_equal(a->name, b->name, sizeof(a->name));
	assert_int_equal(a->marks.started, b->marks.started);
	assert_memory_equal(a->marks.image, b->marks.image,
			    sizeof(a->marks.image));
}

static void put(struct pd_journal *journal, uint32_t n,
		enum pd_segment_state state, uint32_t client)
{
	struct pd_segment_record record = {
		.state = state,
		.client = client,
		.user = 7,
	};

	memset(record.openers, 0xff, sizeof(record.openers));
	pd_journal_put_segment(journal, n, &record);
}

static enum pd_segment_state state_of(struct pd_journal *journal, uint32_t n)
{
	return pd_journal_segment(journal, n).state;
}

/* The file, as somebody else would see it. */
static unsigned char *map_of(struct pd_journal *journal)
{
	unsigned char *map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE,
				  MAP_SHARED, pd_journal_fd(journal), 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static void unmap(unsigned char *map)
{
	munmap(map, FILE_BYTES);
}

/* A second one over the same memory, as the other half opens it. */
static struct pd_journal *reopen(struct pd_journal *journal)
{
	struct pd_journal *again;

	th_assert_ok(pd_journal_open(
		fcntl(pd_journal_fd(journal), F_DUPFD_CLOEXEC, 0), &again));
	return again;
}

/* ---- what is kept ---- */

static void test_journal_new_has_regions_and_no_clients(void **state)
{
	struct pd_journal *journal = a_journal();
	struct pd_client_record record;

	(void)state;
	for (uint32_t i = 0; i < SEGMENTS; i++) {
		assert_int_equal(state_of(journal, i),
				 i < 2 ? PD_PARAMETER : PD_CLEAN);
		assert_int_equal(pd_journal_segment(journal, i).client,
				 PD_NO_CLIENT);
		assert_int_equal(pd_journal_segment(journal, i).user,
				 PD_NO_USER);
	}
	for (uint32_t i = 0; i < CLIENTS; i++) {
		th_assert_ok(pd_journal_client(journal, i, &record));
		assert_false(record.used);
	}
	pd_journal_close(journal);
	pd_journal_close(NULL);
}

static void test_journal_reopened_has_the_same_pool(void **state)
{
	const struct pd_pool_record pool = a_pool();
	struct pd_journal *journal = a_journal();
	struct pd_journal *again = reopen(journal);

	(void)state;
	assert_memory_equal(pd_journal_pool(again)->id, pool.id,
			    sizeof(pool.id));
	assert_string_equal(pd_journal_pool(again)->gpu, pool.gpu);
	assert_int_equal(pd_journal_pool(again)->window_base, pool.window_base);
	assert_int_equal(pd_journal_pool(again)->window_bytes,
			 pool.window_bytes);
	assert_int_equal(pd_journal_pool(again)->segment_bytes,
			 pool.segment_bytes);
	assert_int_equal(pd_journal_pool(again)->parameter_bytes,
			 pool.parameter_bytes);
	assert_memory_equal(pd_journal_pool(again)->key, pool.key,
			    sizeof(pool.key));
	assert_int_equal(pd_journal_pool(again)->segments, SEGMENTS);
	assert_int_equal(pd_journal_pool(again)->clients, CLIENTS);
	pd_journal_close(again);
	pd_journal_close(journal);
}

static void test_journal_segment_is_kept_through_changes(void **state)
{
	struct pd_journal *journal = a_journal();
	struct pd_journal *again = reopen(journal);

	(void)state;
	for (uint32_t i = 0; i < 9; i++) {
		put(journal, 3, i % 2 ? PD_PARKED : PD_LEASED, i % CLIENTS);
		assert_int_equal(state_of(again, 3),
				 i % 2 ? PD_PARKED : PD_LEASED);
		assert_int_equal(pd_journal_segment(again, 3).client,
				 i % CLIENTS);
		assert_int_equal(pd_journal_segment(again, 3).user, 7);
	}
	assert_int_equal(state_of(again, 2), PD_CLEAN);
	assert_int_equal(state_of(again, 4), PD_CLEAN);
	pd_journal_close(again);
	pd_journal_close(journal);
}

static struct pd_segment_record an_open_one(enum pd_segment_state state)
{
	struct pd_segment_record record = {
		.state = state,
		.client = state == PD_SHARED ? PD_NO_CLIENT : 1,
		.user = 7,
		.epoch = 0xfedcba98,
		.is_tainted = true,
	};

	memset(record.openers, 0xff, sizeof(record.openers));
	record.openers[3] = 2;
	record.openers[PD_OPENERS - 1] = 0;
	return record;
}

static void test_journal_client_is_kept_through_changes(void **state)
{
	struct pd_journal *journal = a_journal();
	struct pd_journal *again = reopen(journal);
	struct pd_client_record wanted, seen;

	(void)state;
	for (unsigned char i = 1; i < 9; i++) {
		wanted = a_client(i);
		pd_journal_put_client(journal, 1, &wanted);
		th_assert_ok(pd_journal_client(again, 1, &seen));
		assert_same_client(&seen, &wanted);
	}
	th_assert_ok(pd_journal_client(again, 2, &seen));
	assert_false(seen.used);
	pd_journal_close(again);
	pd_journal_close(journal);
}

/* ---- a writer that is killed ---- */

/*
 * A child writes while its parent lets it go on by one instruction at a time
 * and looks at the memory after each: what it finds is what a kill there
 * leaves.
 */
struct change {
	struct pd_journal *journal;
	void (*write)(struct pd_journal *journal);
};

static void be_stepped(void *arg)
{
	struct change *change = arg;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(3);
	raise(SIGSTOP);
	change->write(change->journal);
	raise(SIGSTOP);
	_exit(0);
}

/* Whether it has stopped by itself. */
static bool step(pid_t child)
{
	int status;

	assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSTOPPED(status));
	return WSTOPSIG(status) == SIGSTOP;
}

/* @is_new: looks at the journal; fails the test when it has neither the old
 * record nor the new one. */
static void step_through(struct change *change,
			 bool (*is_new)(struct pd_journal *journal))
{
	pid_t child = th_fork(be_stepped, change);
	unsigned int before = 0;
	unsigned int after = 0;
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSTOPPED(status));
	while (!step(child)) {
		bool now = is_new(change->journal);

		assert_true(now || after == 0);
		before += !now;
		after += now;
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	assert_true(before > 20);
	assert_true(after > 2);
}

static void lease(struct pd_journal *journal)
{
	const struct pd_segment_record record = an_open_one(PD_LEASED);

	pd_journal_put_segment(journal, 3, &record);
}

static bool is_leased(struct pd_journal *journal)
{
	const struct pd_segment_record record = pd_journal_segment(journal, 3);

	if (record.state == PD_LEASED) {
		assert_int_equal(record.client, 1);
		assert_int_equal(record.user, 7);
		assert_int_equal(record.epoch, 0xfedcba98);
		assert_true(record.is_tainted);
		assert_int_equal(record.openers[PD_OPENERS - 1], 0);
		return true;
	}
	assert_int_equal(record.state, PD_DIRTY);
	assert_int_equal(record.epoch, 0);
	assert_false(record.is_tainted);
	assert_int_equal(record.client, PD_NO_CLIENT);
	return false;
}

static void test_journal_killed_segment_writer_leaves_old_or_new(void **state)
{
	struct change change = { a_journal(), lease };

	(void)state;
	put(change.journal, 3, PD_DIRTY, PD_NO_CLIENT);
	step_through(&change, is_leased);
	pd_journal_close(change.journal);
}

static void write_client(struct pd_journal *journal)
{
	const struct pd_client_record record = a_client(9);

	pd_journal_put_client(journal, 2, &record);
}

static bool is_written(struct pd_journal *journal)
{
	const struct pd_client_record before = a_client(4);
	const struct pd_client_record after = a_client(9);
	struct pd_client_record seen;

	th_assert_ok(pd_journal_client(journal, 2, &seen));
	assert_same_client(&seen, seen.id == after.id ? &after : &before);
	return seen.id == after.id;
}

static void test_journal_killed_client_writer_leaves_old_or_new(void **state)
{
	const struct pd_client_record before = a_client(4);
	struct change change = { a_journal(), write_client };

	(void)state;
	pd_journal_put_client(change.journal, 2, &before);
	step_through(&change, is_written);
	pd_journal_close(change.journal);
}

static void write_model(struct pd_journal *journal)
{
	const struct pd_model_record record = {
		.state = PD_MODEL_HOST,
		.serial = 9,
		.files = 1,
		.name = "after",
	};

	pd_journal_put_model(journal, 5, &record);
}

static bool is_model_written(struct pd_journal *journal)
{
	struct pd_model_record seen;

	th_assert_ok(pd_journal_model(journal, 5, &seen));
	if (seen.state == PD_MODEL_FREE)
		return false;
	assert_int_equal(seen.serial, 9);
	assert_int_equal(seen.files, 1);
	assert_string_equal(seen.name, "after");
	return true;
}

static void test_journal_killed_model_writer_leaves_old_or_new(void **state)
{
	struct change change = { a_journal(), write_model };

	(void)state;
	step_through(&change, is_model_written);
	pd_journal_close(change.journal);
}

/* What a kill leaves is written over as if nothing had been. */
static void test_journal_half_written_place_is_used_again(void **state)
{
	struct pd_journal *journal = a_journal();
	unsigned char *map = map_of(journal);

	(void)state;
	put(journal, 3, PD_DIRTY, PD_NO_CLIENT);
	put(journal, 3, PD_CLEAN, PD_NO_CLIENT);
	memset(map + SEGMENT_AT(3) + SEGMENT_PLACE, 0, 8);
	memset(map + SEGMENT_AT(3) + SEGMENT_PLACE + 8, 0x5a,
	       SEGMENT_PLACE - 8);
	assert_int_equal(state_of(journal, 3), PD_CLEAN);
	put(journal, 3, PD_LEASED, 2);
	assert_int_equal(state_of(journal, 3), PD_LEASED);
	unmap(map);
	pd_journal_close(journal);
}

/* ---- damage ---- */

/* A newer place that is broken must not bring the older one back: it may say
 * that a leased segment is free. */
static void test_journal_every_flipped_bit_of_a_segment_is_seen(void **state)
{
	struct pd_journal *journal = a_journal();
	unsigned char *map = map_of(journal);

	(void)state;
	put(journal, 3, PD_LEASED, 1);
	for (uint32_t bit = 0; bit < 2 * SEGMENT_PLACE * 8; bit++) {
		unsigned char *byte = map + SEGMENT_AT(3) + bit / 8;
		bool is_spare = (bit / 8) % SEGMENT_PLACE / 4 == 3;

		*byte ^= (unsigned char)(1u << bit % 8);
		assert_int_equal(state_of(journal, 3),
				 is_spare ? PD_LEASED : PD_DAMAGED);
		assert_int_equal(state_of(journal, 2), PD_CLEAN);
		*byte ^= (unsigned char)(1u << bit % 8);
	}
	assert_int_equal(state_of(journal, 3), PD_LEASED);
	unmap(map);
	pd_journal_close(journal);
}

static void test_journal_every_flipped_bit_of_a_client_is_seen(void **state)
{
	const struct pd_client_record record = a_client(5);
	struct pd_journal *journal = a_journal();
	unsigned char *map = map_of(journal);
	struct pd_client_record seen = { .id = 77 };

	(void)state;
	pd_journal_put_client(journal, 1, &record);
	for (uint32_t bit = 0; bit < 2 * CLIENT_PLACE * 8; bit++) {
		unsigned char *byte = map + CLIENT_AT(1) + bit / 8;

		if ((bit / 8) % CLIENT_PLACE / 4 == 3)
			continue;
		*byte ^= (unsigned char)(1u << bit % 8);
		th_assert_status(pd_journal_client(journal, 1, &seen),
				 PS_PROTOCOL);
		*byte ^= (unsigned char)(1u << bit % 8);
	}
	assert_int_equal(seen.id, 77);
	th_assert_ok(pd_journal_client(journal, 1, &seen));
	assert_int_equal(seen.id, record.id);
	unmap(map);
	pd_journal_close(journal);
}

static void test_journal_every_flipped_bit_of_a_model_is_seen(void **state)
{
	struct pd_journal *journal = a_journal();
	unsigned char *map = map_of(journal);
	struct pd_model_record seen = { .serial = 77 };

	(void)state;
	write_model(journal);
	for (uint32_t bit = 0; bit < 2 * MODEL_PLACE * 8; bit++) {
		unsigned char *byte = map + MODEL_AT(5) + bit / 8;

		if ((bit / 8) % MODEL_PLACE / 4 == 3)
			continue;
		*byte ^= (unsigned char)(1u << bit % 8);
		th_assert_status(pd_journal_model(journal, 5, &seen),
				 PS_PROTOCOL);
		*byte ^= (unsigned char)(1u << bit % 8);
	}
	assert_int_equal(seen.serial, 77);
	unmap(map);
	pd_journal_close(journal);
}

static void test_journal_empty_record_is_damaged(void **state)
{
	struct pd_journal *journal = a_journal();
	unsigned char *map = map_of(journal);

	(void)state;
	memset(map + SEGMENT_AT(3), 0, 2 * SEGMENT_PLACE);
	assert_int_equal(state_of(journal, 3), PD_DAMAGED);
	assert_int_equal(pd_journal_segment(journal, 3).client, PD_NO_CLIENT);
	unmap(map);
	pd_journal_close(journal);
}

static void test_journal_damaged_record_can_be_written_anew(void **state)
{
	struct pd_journal *journal = a_journal();
	unsigned char *map = map_of(journal);

	(void)state;
	memset(map + SEGMENT_AT(3), 0xff, 2 * SEGMENT_PLACE);
	assert_int_equal(state_of(journal, 3), PD_DAMAGED);
	put(journal, 3, PD_DIRTY, PD_NO_CLIENT);
	assert_int_equal(state_of(journal, 3), PD_DIRTY);
	unmap(map);
	pd_journal_close(journal);
}

static const struct th_test tests[] = {
	TH_TEST(test_journal_new_has_regions_and_no_clients),
	TH_TEST(test_journal_reopened_has_the_same_pool),
	TH_TEST(test_journal_segment_is_kept_through_changes),
	TH_TEST(test_journal_client_is_kept_through_changes),
	TH_TEST(test_journal_killed_segment_writer_leaves_old_or_new),
	TH_TEST(test_journal_killed_client_writer_leaves_old_or_new),
	TH_TEST(test_journal_killed_model_writer_leaves_old_or_new),
	TH_TEST(test_journal_half_written_place_is_used_again),
	TH_TEST(test_journal_every_flipped_bit_of_a_segment_is_seen),
	TH_TEST(test_journal_every_flipped_bit_of_a_client_is_seen),
	TH_TEST(test_journal_every_flipped_bit_of_a_model_is_seen),
	TH_TEST(test_journal_empty_record_is_damaged),
	TH_TEST(test_journal_damaged_record_can_be_written_anew),
};

TH_MAIN("journal", tests)
