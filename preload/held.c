/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/held.h"

#include "base/lock.h"
#include "preload/context.h"
#include "preload/ledger.h"
#include "preload/memory.h"
#include "preload/state.h"

#include <stdatomic.h>
#include <stdlib.h>

struct block {
	CUdeviceptr address;
	unsigned int families; /* that it waits for */
	struct block *next;    /* among those to be freed */
};

struct share {
	struct block *block;
	struct share *next;
};

struct pl_family {
	unsigned int references; /* members, and the capture */
	struct share *shares;
	struct pl_family *next; /* among the open ones */
};

struct pl_member {
	const void *handle;
	struct pl_family *family;
	struct pl_member *next;
};

static struct bs_lock lock = { PTHREAD_MUTEX_INITIALIZER, BS_RANK_PRELOAD };
/* Guarded by lock. */
static struct pl_family *open_families;
static struct pl_member *members;

static atomic_uint held; /* blocks */

/* ---- the end of a family ---- */

/* Puts the blocks that wait for no other on the list. */
static void drop_shares_locked(struct pl_family *family, struct block **done)
{
	struct share *share;

	while ((share = family->shares) != NULL) {
		family->shares = share->next;
		if (--share->block->families == 0) {
			share->block->next = *done;
			*done = share->block;
		}
		free(share);
	}
}

static void unref_locked(struct pl_family *family, struct block **done)
{
	if (--family->references > 0)
		return;
	drop_shares_locked(family, done);
	free(family);
}

/* Frees them behind all work, launches of the graphs included. */
static void release(struct block *done)
{
	struct ps_pool *pool = pl_pool();
	struct pl_entry entry;
	struct block *block;

	while ((block = done) != NULL) {
		done = block->next;
		if (pl_ledger_take(PL_KIND_HELD, block->address, &entry)) {
			atomic_fetch_sub(&held, 1);
			if (pl_has_contexts())
				pl_settle_block(block->address);
			if (pool != NULL)
				(void)ps_mem_free(
					pool,
					(void *)(uintptr_t)block->address);
		}
		free(block);
	}
}

/* ---- families ---- */

struct pl_family *pl_family_open(void)
{
	struct pl_family *family = calloc(1, sizeof(*family));

	if (family == NULL)
		return NULL;
	family->references = 1;
	bs_lock_take(&lock);
	family->next = open_families;
	open_families = family;
	bs_lock_drop(&lock);
	return family;
}

/* A member that cannot be noted keeps the family for good. */
static void add_member_locked(const void *handle, struct pl_family *family)
{
	struct pl_member *member = malloc(sizeof(*member));

	family->references++;
	if (member == NULL)
		return;
	member->handle = handle;
	member->family = family;
	member->next = members;
	members = member;
}

void pl_family_close(struct pl_family *family, CUgraph graph)
{
	struct pl_family **link = &open_families;
	struct block *done = NULL;

	bs_lock_take(&lock);
	while (*link != family)
		link = &(*link)->next;
	*link = family->next;
	if (graph != NULL && family->shares != NULL)
		add_member_locked(graph, family);
	unref_locked(family, &done);
	bs_lock_drop(&lock);
	release(done);
}

void pl_family_grow(const void *of, const void *made)
{
	struct pl_member *member;

	bs_lock_take(&lock);
	/* New ones come in front of where this loop is. */
	for (member = members; member != NULL; member = member->next)
		if (member->handle == of)
			add_member_locked(made, member->family);
	bs_lock_drop(&lock);
}

struct pl_member *pl_family_detach(const void *handle)
{
	struct pl_member **link = &members, *member, *list = NULL;

	bs_lock_take(&lock);
	while ((member = *link) != NULL) {
		if (member->handle != handle) {
			link = &member->next;
			continue;
		}
		*link = member->next;
		member->next = list;
		list = member;
	}
	bs_lock_drop(&lock);
	return list;
}

void pl_family_settle(struct pl_member *detached, bool is_gone)
{
	struct block *done = NULL;
	struct pl_member *member;

	if (detached == NULL)
		return;
	bs_lock_take(&lock);
	while ((member = detached) != NULL) {
		detached = member->next;
		if (is_gone) {
			unref_locked(member->family, &done);
			free(member);
		} else {
			member->next = members;
			members = member;
		}
	}
	bs_lock_drop(&lock);
	release(done);
}

/* ---- blocks ---- */

bool pl_is_held(CUdeviceptr address)
{
	struct pl_entry entry;

	return atomic_load_explicit(&held, memory_order_relaxed) > 0 &&
	       pl_ledger_find(PL_KIND_HELD, address, &entry);
}

/* One that cannot be noted is held for good. */
static void share_locked(struct block *block)
{
	struct pl_family *family;
	struct share *share;

	for (family = open_families; family != NULL; family = family->next) {
		block->families++;
		share = malloc(sizeof(*share));
		if (share == NULL)
			continue;
		share->block = block;
		share->next = family->shares;
		family->shares = share;
	}
}

bool pl_hold_block(CUdeviceptr address)
{
	const struct pl_entry entry = { .key = address, .kind = PL_KIND_HELD };
	struct block *block;
	bool is_open;
	size_t bytes;

	if (ps_mem_usable_size(pl_pool(), (void *)(uintptr_t)address, &bytes) !=
	    PS_OK)
		return false;
	block = calloc(1, sizeof(*block));
	bs_lock_take(&lock);
	is_open = open_families != NULL;
	if (is_open && block != NULL && pl_ledger_put(&entry) == PS_OK) {
		atomic_fetch_add(&held, 1);
		block->address = address;
		share_locked(block);
		block = NULL;
	}
	bs_lock_drop(&lock);
	free(block);
	if (is_open)
		pl_forget_async(address);
	return is_open;
}

void pl_family_forget(void)
{
	struct block *done = NULL, *block;
	struct pl_family *family;
	struct pl_member *member;
	struct pl_entry entry;

	bs_lock_take(&lock);
	for (family = open_families; family != NULL; family = family->next)
		drop_shares_locked(family, &done);
	while ((member = members) != NULL) {
		members = member->next;
		unref_locked(member->family, &done);
		free(member);
	}
	bs_lock_drop(&lock);
	while ((block = done) != NULL) {
		done = block->next;
		if (pl_ledger_take(PL_KIND_HELD, block->address, &entry))
			atomic_fetch_sub(&held, 1);
		free(block);
	}
}
