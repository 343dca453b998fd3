/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A pool's way into the daemon's models: the two pages and the board, once a
 * connection. After another one has begun, each model that is attached is asked
 * for again.
 *
 * Invariant: the pages and the board stay where they are for as long as the
 * pool is attached, whatever connection there is.
 */
#include "lib/model.h"

#include "base/status.h"
#include "lib/process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static struct lb_models *models_of(const struct lb_lease *lease)
{
	return lease->models;
}

enum ps_status lb_model_heard(const struct lb_lease *lease,
			      enum ps_status status, enum ps_status *denial_out)
{
	if (status == PS_OK || !lease->client.is_denied)
		return status;
	*denial_out = status;
	return PS_OK;
}

/* ---- the board ---- */

static enum ps_status map_board(struct lb_models *models, uint64_t handle)
{
	struct dv_device *device = models->lease->pool->device;
	enum ps_status status =
		dv_window_map(device, models->board, IP_BOARD_BYTES, handle);

	if (status != PS_OK)
		return status;
	status = dv_window_set_access(device, models->board, IP_BOARD_BYTES,
				      false);
	if (status != PS_OK)
		(void)dv_window_unmap(device, models->board, IP_BOARD_BYTES);
	return status;
}

/* It is the same memory after each restart of the daemon. */
static enum ps_status take_board(struct lb_models *models, int fd)
{
	struct dv_device *device = models->lease->pool->device;
	enum ps_status status;
	uint64_t handle;

	if (models->has_board)
		return PS_OK;
	status = dv_segment_import(device, fd, &handle);
	if (status == PS_OK) {
		lb_turn_take(models->lease->pool);
		status = map_board(models, handle);
		lb_turn_give(models->lease->pool);
		(void)dv_segment_release(device, handle);
	}
	if (status != PS_OK)
		return bs_fail_prefix(status, "the board of the models");
	models->has_board = true;
	return PS_OK;
}

/* ---- the daemon's page ---- */

static enum ps_status check_landed(int fd)
{
	struct stat found;

	if (fstat(fd, &found) == 0 &&
	    found.st_size >= (off_t)sizeof(struct ip_landed_page))
		return PS_OK;
	return bs_fail(PS_PROTOCOL,
		       "BOARD: its page is no file of %zu bytes or more",
		       sizeof(struct ip_landed_page));
}

/* In the place of the one before: whoever looks at it needs no lock. */
static enum ps_status take_landed(struct lb_models *models, int fd)
{
	void *before = (void *)(uintptr_t)models->landed;
	enum ps_status status = check_landed(fd);
	void *page;

	if (status != PS_OK)
		return status;
	page = mmap(before, sizeof(struct ip_landed_page), PROT_READ,
		    MAP_SHARED | (before == NULL ? 0 : MAP_FIXED), fd, 0);
	if (page == MAP_FAILED)
		return bs_fail_errno("mapping the page of what has landed");
	/* Never another than before. */
	if (before == NULL)
		models->landed = page;
	return PS_OK;
}

/* ---- JOIN ---- */

struct joining {
	struct lb_models *models;
	enum ps_status denial;
};

/* A second JOIN on a connection would end it: one that failed is over. */
static enum ps_status join_once(struct lb_lease *lease, void *arg)
{
	struct joining *joining = arg;
	int board = -1, landed = -1;
	enum ps_status status;

	joining->denial = PS_OK;
	status = ip_client_join(&lease->client, joining->models->page_fd,
				&board, &landed);
	status = lb_model_heard(lease, status, &joining->denial);
	if (status != PS_OK || joining->denial != PS_OK)
		return status;
	status = take_board(joining->models, board);
	if (status == PS_OK)
		status = take_landed(joining->models, landed);
	close(board);
	close(landed);
	if (status != PS_OK)
		lb_session_close(lease);
	return status;
}

enum ps_status lb_model_find(struct lb_lease *lease, void *arg)
{
	struct lb_finding *finding = arg;
	enum ps_status status;

	finding->denial = PS_OK;
	status = ip_client_find(&lease->client, &finding->find, &finding->model,
				&finding->manifest);
	return lb_model_heard(lease, status, &finding->denial);
}

/* ---- another connection ---- */

static bool is_same(const struct ps_model *model, const struct ip_model *found)
{
	return found->model == model->number &&
	       found->serial == model->serial &&
	       found->address == model->address && found->bytes == model->bytes;
}

static enum ps_status find_again(struct lb_lease *lease, struct ps_model *model)
{
	struct lb_finding finding = { .find.flags =
					      IP_FIND_NAME | IP_FIND_HASH };
	enum ps_status status;

	memcpy(finding.find.name, model->name, sizeof(finding.find.name));
	memcpy(finding.find.hash, model->manifest.hash,
	       sizeof(finding.find.hash));
	status = lb_model_find(lease, &finding);
	if (status != PS_OK)
		return status;
	if (finding.denial == PS_OK)
		close(finding.manifest);
	bs_lock_take(&models_of(lease)->lock);
	model->is_removed =
		finding.denial != PS_OK || !is_same(model, &finding.model);
	model->is_right = model->is_right && !model->is_removed;
	bs_lock_drop(&models_of(lease)->lock);
	return PS_OK;
}

/* What was asked for over the last connection was never answered. */
static void clear_words(struct lb_models *models)
{
	bs_lock_take(&models->lock);
	for (struct ps_model *m = models->first; m != NULL; m = m->next)
		lb_model_clear_word(m);
	bs_lock_drop(&models->lock);
}

static enum ps_status rejoin(struct lb_lease *lease)
{
	struct joining joining = { .models = models_of(lease) };
	enum ps_status status;

	clear_words(joining.models);
	status = join_once(lease, &joining);
	if (status == PS_OK)
		status = joining.denial;
	for (struct ps_model *m = joining.models->first;
	     m != NULL && status == PS_OK; m = m->next)
		status = find_again(lease, m);
	return status;
}

/* ---- what else a lease wants ---- */

static bool is_mapped(struct lb_lease *lease, uint64_t address, uint64_t bytes)
{
	struct lb_models *models = models_of(lease);
	bool found = false;

	bs_lock_take(&models->lock);
	for (struct ps_model *m = models->first; m != NULL && !found;
	     m = m->next)
		found = m->place != 0 && address >= m->address &&
			address - m->address <= m->bytes &&
			bytes <= m->bytes - (address - m->address);
	bs_lock_drop(&models->lock);
	return found;
}

static enum ps_status allow_mapped(struct lb_lease *lease)
{
	struct lb_models *models = models_of(lease);
	struct dv_device *device = lease->pool->device;
	uint64_t unit = lease->pool->layout.segment_size;
	enum ps_status status = PS_OK;

	for (struct ps_model *m = models->first; m != NULL && status == PS_OK;
	     m = m->next)
		if (m->place != 0)
			status = dv_window_set_access(
				device, m->address,
				(m->bytes + unit - 1) / unit * unit, false);
	return status;
}

static enum ps_status unmap(struct lb_lease *lease)
{
	struct lb_models *models = models_of(lease);
	enum ps_status status, result = PS_OK;

	for (struct ps_model *m = models->first; m != NULL; m = m->next) {
		status = lb_model_unmap(m);
		if (status != PS_OK)
			result = status;
	}
	if (!models->has_board)
		return result;
	status = dv_window_unmap(lease->pool->device, models->board,
				 IP_BOARD_BYTES);
	models->has_board = status != PS_OK;
	return status == PS_OK ? result : status;
}

static void free_models(struct lb_models *models)
{
	struct ps_model *model = models->first, *next;

	for (; model != NULL; model = next) {
		next = model->next;
		lb_model_free(model);
	}
	if (models->landed != NULL)
		munmap((void *)(uintptr_t)models->landed,
		       sizeof(*models->landed));
	/* A child has a hole there, or what it has mapped in it. */
	if (models->page != NULL && !lb_is_forked())
		munmap(models->page, sizeof(*models->page));
	if (models->page_fd >= 0)
		close(models->page_fd);
	bs_lock_done(&models->lock);
	free(models);
}

static const struct lb_model_ops ops = {
	.rejoin = rejoin,
	.yield = lb_model_yield,
	.find_yielded = lb_model_find_yielded,
	.patience_ms = lb_model_patience_ms,
	.forget_yields = lb_model_forget_yields,
	.is_mapped = is_mapped,
	.allow_mapped = allow_mapped,
	.unmap = unmap,
	.free = free_models,
};

/* ---- the first time ---- */

/* A child of a fork has no part of it: the words are this process's. */
static enum ps_status make_page(struct lb_models *models)
{
	void *page;

	models->page_fd =
		memfd_create("poolswitch-use", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (models->page_fd < 0 ||
	    ftruncate(models->page_fd, sizeof(*models->page)) != 0 ||
	    fcntl(models->page_fd, F_ADD_SEALS, PAGE_SEALS) != 0)
		return bs_fail_errno("no page for what is in use");
	page = mmap(NULL, sizeof(*models->page), PROT_READ | PROT_WRITE,
		    MAP_SHARED, models->page_fd, 0);
	if (page == MAP_FAILED)
		return bs_fail_errno("mapping the page of what is in use");
	models->page = page;
	if (madvise(page, sizeof(*models->page), MADV_DONTFORK) != 0)
		return bs_fail_errno("keeping a page from forked children");
	return PS_OK;
}

static enum ps_status check_window(const struct ps_pool *pool)
{
	uint64_t whole = pool->window / pool->layout.segment_size;

	if (pool->slots <= whole / 2)
		return PS_OK;
	return bs_fail(PS_UNSUPPORTED,
		       "the daemon's pool has %" PRIu64 " bytes of addresses, "
		       "which leave none for models",
		       pool->window);
}

static enum ps_status join_first(struct lb_models *models)
{
	struct lb_lease *lease = models->lease;
	struct joining joining = { .models = models };
	enum ps_status status = check_window(lease->pool);

	if (status == PS_OK)
		status = make_page(models);
	if (status == PS_OK)
		status = lb_session_ask(lease, join_once, &joining);
	return status == PS_OK ? joining.denial : status;
}

/* What was mapped before it failed is unmapped again. */
static void give_up(struct lb_models *models)
{
	struct lb_lease *lease = models->lease;

	if (models->has_board)
		(void)dv_window_unmap(lease->pool->device, models->board,
				      IP_BOARD_BYTES);
	free_models(models);
}

enum ps_status lb_models_start(struct lb_lease *lease)
{
	struct lb_models *models;
	enum ps_status status;

	if (lb_model_ops_of(lease) != NULL)
		return PS_OK;
	models = calloc(1, sizeof(*models));
	if (models == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for models");
	bs_lock_init(&models->lock, BS_RANK_MODELS);
	models->lease = lease;
	models->page_fd = -1;
	models->board = ip_models_base(lease->pool->base, lease->pool->window,
				       lease->pool->layout.segment_size);
	status = join_first(models);
	if (status != PS_OK) {
		give_up(models);
		return status;
	}
	lease->models = models;
	atomic_store(&lease->model_ops, &ops);
	return PS_OK;
}
