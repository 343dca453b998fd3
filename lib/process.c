/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "lib/process.h"

#include "base/status.h"

#include <errno.h>
#include <sys/mman.h>

static const volatile uint32_t always = 1;

const volatile uint32_t *_Atomic lb_alive = &always;
struct ps_pool *_Atomic lb_default;

static struct bs_lock lock = { PTHREAD_MUTEX_INITIALIZER, BS_RANK_PROCESS };
static struct ps_pool *first; /* guarded by lock; in the order of opening */

enum ps_status lb_refuse(const struct ps_pool *pool)
{
	if (lb_is_forked())
		return bs_fail(PS_FORKED,
			       "this process was forked by one that had opened "
			       "a pool, and CUDA does not work here: let the "
			       "child execute a program and receive the pool "
			       "with ps_recv_shared()");
	if (pool == NULL)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "no pool is open in this process: open one with "
			       "ps_alloc_shared() or ps_recv_shared()");
	return bs_fail(PS_INVALID_ARGUMENT,
		       "%p is no open pool: it was closed, or never was one",
		       (const void *)pool);
}

/* Never unmapped: children ask it for as long as they live. */
static enum ps_status make_page(const volatile uint32_t **page_out)
{
	uint32_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return bs_fail(PS_HOST_MEMORY, "no page for the mark that "
					       "tells a forked child");
	if (madvise(page, 4096, MADV_WIPEONFORK) != 0) {
		munmap(page, 4096);
		return bs_fail(PS_UNSUPPORTED,
			       "madvise(MADV_WIPEONFORK) failed: Linux 4.14 or "
			       "newer is needed");
	}
	*page = 1;
	*page_out = page;
	return PS_OK;
}

enum ps_status lb_process_start(void)
{
	const volatile uint32_t *page;
	enum ps_status status = PS_OK;

	if (lb_is_forked())
		return lb_refuse(NULL);
	bs_lock_take(&lock);
	if (atomic_load(&lb_alive) == &always) {
		status = make_page(&page);
		if (status == PS_OK)
			atomic_store(&lb_alive, page);
	}
	bs_lock_drop(&lock);
	return status;
}

void lb_process_add(struct ps_pool *pool)
{
	struct ps_pool **end = &first;

	bs_lock_take(&lock);
	while (*end != NULL)
		end = &(*end)->next;
	pool->next = NULL;
	*end = pool;
	atomic_store(&lb_default, first);
	bs_lock_drop(&lock);
}

static void unlink_pool(struct ps_pool *pool)
{
	struct ps_pool **link = &first;

	while (*link != NULL && *link != pool)
		link = &(*link)->next;
	if (*link != NULL)
		*link = pool->next;
	atomic_store(&lb_default, first);
}

void lb_process_remove(struct ps_pool *pool)
{
	if (lb_is_forked()) {
		unlink_pool(pool);
		return;
	}
	bs_lock_take(&lock);
	unlink_pool(pool);
	bs_lock_drop(&lock);
}
