/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/ledger.h"

#include "base/lock.h"
#include "base/status.h"

#include <stdatomic.h>
#include <sys/mman.h>

/*
 * A table with open addressing: an entry lies at the first place from its own
 * on that was free, and no place between the two is. Kind 0 is a free place.
 */
#define PLACES_MIN 256u

struct sum {
	uint32_t count;
	uint64_t bytes;
};

/* All of it lies in the page that a fork wipes; zeros are an empty ledger. */
struct ledger {
	struct bs_lock lock;
	/* Guarded by lock. */
	struct pl_entry *places;
	size_t size; /* a power of two, or 0 */
	size_t used;
	struct sum sums[PL_KINDS];
};

static struct ledger *_Atomic shared_ledger;

/* Zeros; NULL: there are none. Not by malloc(), which is the program's: one
 * that looks for leaks sees no pointer from a page of our own. */
static void *get_pages(size_t bytes)
{
	void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return pages != MAP_FAILED ? pages : NULL;
}

static struct ledger *make_ledger(void)
{
	struct ledger *made = get_pages(sizeof(*made));
	struct ledger *expected = NULL;

	if (!made)
		return NULL;
	bs_lock_init(&made->lock, BS_RANK_LEDGER);
	if (madvise(made, sizeof(*made), MADV_WIPEONFORK) == 0 &&
	    atomic_compare_exchange_strong(&shared_ledger, &expected, made))
		return made;
	munmap(made, sizeof(*made));
	return expected;
}

static struct ledger *get_ledger(void)
{
	struct ledger *ledger =
		atomic_load_explicit(&shared_ledger, memory_order_acquire);

	return ledger ? ledger : make_ledger();
}

/* The ledger, locked; NULL: nothing was ever put into one. */
static struct ledger *open_ledger(void)
{
	struct ledger *ledger =
		atomic_load_explicit(&shared_ledger, memory_order_acquire);

	if (ledger)
		bs_lock_take(&ledger->lock);
	return ledger;
}

static size_t own_place(const struct ledger *ledger, enum pl_kind kind,
			uint64_t key)
{
	uint64_t mixed =
		(key ^ (uint64_t)kind << 56) * UINT64_C(0x9e3779b97f4a7c15);

	return (size_t)(mixed >> 32) & (ledger->size - 1);
}

/* Its place, or the free one where it belongs. pre: there is a free one. */
static struct pl_entry *look_up(const struct ledger *ledger, enum pl_kind kind,
				uint64_t key)
{
	size_t i = own_place(ledger, kind, key);

	while (ledger->places[i].kind != 0 &&
	       (ledger->places[i].kind != kind || ledger->places[i].key != key))
		i = (i + 1) & (ledger->size - 1);
	return &ledger->places[i];
}

static struct pl_entry *find(const struct ledger *ledger, enum pl_kind kind,
			     uint64_t key)
{
	struct pl_entry *place;

	if (ledger->size == 0)
		return NULL;
	place = look_up(ledger, kind, key);
	return place->kind != 0 ? place : NULL;
}

static void tally(struct ledger *ledger, const struct pl_entry *entry, int by)
{
	struct sum *sum = &ledger->sums[entry->kind];

	if (by > 0) {
		sum->count++;
		sum->bytes += entry->bytes;
	} else {
		sum->count--;
		sum->bytes -= entry->bytes;
	}
}

/* Those behind it that it kept from a place nearer to their own move up. */
static void remove_at(struct ledger *ledger, struct pl_entry *place)
{
	size_t mask = ledger->size - 1;
	size_t hole = (size_t)(place - ledger->places);
	size_t i, own;

	tally(ledger, place, -1);
	ledger->used--;
	for (i = (hole + 1) & mask; ledger->places[i].kind != 0;
	     i = (i + 1) & mask) {
		own = own_place(ledger, ledger->places[i].kind,
				ledger->places[i].key);
		if (((i - own) & mask) < ((i - hole) & mask))
			continue;
		ledger->places[hole] = ledger->places[i];
		hole = i;
	}
	ledger->places[hole].kind = 0;
}

static void move_to(struct ledger *ledger, struct pl_entry *places, size_t size)
{
	struct pl_entry *old = ledger->places;
	size_t old_size = ledger->size;

	ledger->places = places;
	ledger->size = size;
	for (size_t i = 0; i < old_size; i++)
		if (old[i].kind != 0)
			*look_up(ledger, old[i].kind, old[i].key) = old[i];
}

/* pre: the lock is held; it is given up meanwhile. False: no host memory. */
static bool make_free_place(struct ledger *ledger)
{
	struct pl_entry *places, *old;
	size_t size, old_size;

	while (ledger->used >= ledger->size / 4 * 3) {
		size = ledger->size ? 2 * ledger->size : PLACES_MIN;
		bs_lock_drop(&ledger->lock);
		places = get_pages(size * sizeof(*places));
		bs_lock_take(&ledger->lock);
		if (!places)
			return false;
		old = places;
		old_size = size;
		if (size > ledger->size) {
			old = ledger->places;
			old_size = ledger->size;
			move_to(ledger, places, size);
		}
		bs_lock_drop(&ledger->lock);
		if (old)
			munmap(old, old_size * sizeof(*old));
		bs_lock_take(&ledger->lock);
	}
	return true;
}

/* @is_sum: what is there stays, and is added to. */
static enum ps_status enter(const struct pl_entry *entry, bool is_sum)
{
	struct ledger *ledger = get_ledger();
	struct pl_entry *place;
	struct pl_entry merged = *entry;
	bool has_place;

	if (!ledger)
		return bs_fail(PS_HOST_MEMORY, "no page for the ledger");
	bs_lock_take(&ledger->lock);
	has_place = make_free_place(ledger);
	if (has_place) {
		place = look_up(ledger, entry->kind, entry->key);
		if (place->kind != 0 && is_sum) {
			merged = *place;
			merged.count += entry->count;
			merged.bytes += entry->bytes;
		}
		if (place->kind != 0)
			tally(ledger, place, -1);
		else
			ledger->used++;
		*place = merged;
		tally(ledger, place, 1);
	}
	bs_lock_drop(&ledger->lock);
	return has_place ? PS_OK
			 : bs_fail(PS_HOST_MEMORY, "no memory for the ledger");
}

enum ps_status pl_ledger_put(const struct pl_entry *entry)
{
	return enter(entry, false);
}

enum ps_status pl_ledger_add(const struct pl_entry *entry)
{
	return enter(entry, true);
}

bool pl_ledger_find(enum pl_kind kind, uint64_t key, struct pl_entry *entry_out)
{
	struct ledger *ledger = open_ledger();
	struct pl_entry *place;

	if (!ledger)
		return false;
	place = find(ledger, kind, key);
	if (place)
		*entry_out = *place;
	bs_lock_drop(&ledger->lock);
	return place != NULL;
}

bool pl_ledger_take(enum pl_kind kind, uint64_t key, struct pl_entry *entry_out)
{
	struct ledger *ledger = open_ledger();
	struct pl_entry *place;

	if (!ledger)
		return false;
	place = find(ledger, kind, key);
	if (place) {
		*entry_out = *place;
		remove_at(ledger, place);
	}
	bs_lock_drop(&ledger->lock);
	return place != NULL;
}

bool pl_ledger_count(enum pl_kind kind, uint64_t key, int by,
		     struct pl_entry *entry_out)
{
	struct ledger *ledger = open_ledger();
	struct pl_entry *place;

	if (!ledger)
		return false;
	place = find(ledger, kind, key);
	if (place) {
		place->count += (uint32_t)by;
		*entry_out = *place;
		if (place->count == 0)
			remove_at(ledger, place);
	}
	bs_lock_drop(&ledger->lock);
	return place != NULL;
}

bool pl_ledger_take_of(enum pl_kind kind, uint64_t other,
		       struct pl_entry *entry_out)
{
	struct ledger *ledger = open_ledger();
	size_t i = 0;
	bool is_there;

	if (!ledger)
		return false;
	while (i < ledger->size && (ledger->places[i].kind != kind ||
				    ledger->places[i].other != other))
		i++;
	is_there = i < ledger->size;
	if (is_there) {
		*entry_out = ledger->places[i];
		remove_at(ledger, &ledger->places[i]);
	}
	bs_lock_drop(&ledger->lock);
	return is_there;
}

uint32_t pl_ledger_sum(enum pl_kind kind, uint64_t *bytes_out)
{
	struct ledger *ledger = open_ledger();
	struct sum sum = { 0 };

	if (ledger) {
		sum = ledger->sums[kind];
		bs_lock_drop(&ledger->lock);
	}
	*bytes_out = sum.bytes;
	return sum.count;
}

void pl_ledger_forgive(void)
{
	struct ledger *ledger = open_ledger();

	if (!ledger)
		return;
	for (size_t i = 0; i < ledger->size; i++) {
		/* What graphs have is added to, and used by the next: the new
		 * pool's room would be mixed with what it never gave. */
		while (ledger->places[i].kind == PL_KIND_GRAPH)
			remove_at(ledger, &ledger->places[i]);
		ledger->places[i].toll = PL_TOLL_NONE;
		ledger->places[i].pool = NULL;
	}
	bs_lock_drop(&ledger->lock);
}
