/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The loader from its caller's side: what is asked for, what has been done. */
#include "poold/store/loader_parts.h"

#include "base/status.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Under way at once: enough that the wire is never idle, and so little that
 * what is urgent waits for half a millisecond. */
#define UNDER_WAY_BYTES (UINT64_C(32) << 20)

/* Of waking the loop, as in gpu_work.c. */
#define WAKE_TRIES 100

/* ---- lists ---- */

void pd_load_list_init(struct pd_load_list *list)
{
	list->first = NULL;
	list->last = &list->first;
}

void pd_load_list_add(struct pd_load_list *list, struct pd_load_task *task)
{
	task->next = NULL;
	*list->last = task;
	list->last = &task->next;
}

void pd_load_list_remove(struct pd_load_list *list, struct pd_load_task *task)
{
	struct pd_load_task **link = &list->first;

	while (*link != task)
		link = &(*link)->next;
	*link = task->next;
	if (!*link)
		list->last = link;
}

struct pd_load_task *pd_load_list_take(struct pd_load_list *list)
{
	struct pd_load_task *task = list->first;

	if (task)
		pd_load_list_remove(list, task);
	return task;
}

static void free_task(struct pd_load_task *task)
{
	md_plan_done(&task->plan);
	free(task);
}

static void free_list(struct pd_load_list *list)
{
	struct pd_load_task *task;

	while ((task = pd_load_list_take(list)))
		free_task(task);
}

/* ---- what has been done ---- */

/* A write that fails is made again: without it the loop would never look. When
 * none gets through, the keeper starts another agent. */
static void wake_loop(const struct pd_loader *loader)
{
	const uint64_t one = 1;

	for (int i = 0; i < WAKE_TRIES; i++)
		if (write(loader->event, &one, sizeof(one)) == sizeof(one))
			return;
	abort();
}

void pd_loader_note(struct pd_load_task *task, enum ps_status status)
{
	task->done.status = status;
	if (status != PS_OK)
		strncpy(task->done.text, bs_fail_text(),
			sizeof(task->done.text) - 1);
}

void pd_loader_report(struct pd_loader *loader, struct pd_load_task *task)
{
	bs_lock_take(&loader->lock);
	pd_load_list_add(&loader->done, task);
	wake_loop(loader);
	bs_lock_drop(&loader->lock);
}

bool pd_loader_take(struct pd_loader *loader, struct pd_load_done *done_out)
{
	struct pd_load_task *task;
	uint64_t count;

	bs_lock_take(&loader->lock);
	task = pd_load_list_take(&loader->done);
	if (!task && read(loader->event, &count, sizeof(count)) < 0)
		count = 0; /* nothing was to be read either */
	bs_lock_drop(&loader->lock);
	if (!task)
		return false;
	*done_out = task->done;
	free_task(task);
	return true;
}

/* ---- what is asked for ---- */

/* Without memory for this much the agent can do nothing: the keeper starts
 * another. */
static struct pd_load_task *new_task(enum pd_load_job job, uint32_t model,
				     uint32_t serial)
{
	struct pd_load_task *task = calloc(1, sizeof(*task));

	assert(model < IP_MODELS_MAX);
	if (!task)
		abort();
	task->done.job = job;
	task->done.model = model;
	task->done.serial = serial;
	return task;
}

static void ask(struct pd_loader *loader, struct pd_load_list *list,
		pthread_cond_t *wake, struct pd_load_task *task)
{
	bs_lock_take(&loader->lock);
	pd_load_list_add(list, task);
	pthread_cond_signal(wake);
	bs_lock_drop(&loader->lock);
}

static void ask_memory(struct pd_loader *loader, enum pd_load_job job,
		       uint32_t model, uint32_t serial, void *memory,
		       uint64_t bytes)
{
	struct pd_load_task *task = new_task(job, model, serial);

	task->memory = memory;
	task->bytes = bytes;
	ask(loader, &loader->memory, &loader->registers, task);
}

void pd_loader_register(struct pd_loader *loader, uint32_t model,
			uint32_t serial, void *memory, uint64_t bytes)
{
	ask_memory(loader, PD_LOAD_REGISTER, model, serial, memory, bytes);
}

void pd_loader_unregister(struct pd_loader *loader, uint32_t model,
			  uint32_t serial, void *memory, uint64_t bytes)
{
	ask_memory(loader, PD_LOAD_UNREGISTER, model, serial, memory, bytes);
}

void pd_loader_copy(struct pd_loader *loader, const struct pd_load_model *load)
{
	struct pd_load_task *task =
		new_task(PD_LOAD_COPY, load->model, load->serial);

	assert(load->bytes <=
	       load->segments * pd_gpu_segment_bytes(loader->gpu));
	task->load = *load;
	task->priority = load->priority;
	ask(loader, &loader->copies, &loader->moves, task);
}

void pd_loader_hurry(struct pd_loader *loader, uint32_t model,
		     uint32_t priority)
{
	struct pd_load_task *task;

	bs_lock_take(&loader->lock);
	for (task = loader->copies.first; task; task = task->next)
		if (task->done.model == model && task->priority < priority)
			task->priority = priority;
	bs_lock_drop(&loader->lock);
}

void pd_loader_reset(struct pd_loader *loader, uint32_t model, uint32_t serial)
{
	ask(loader, &loader->resets, &loader->moves,
	    new_task(PD_LOAD_RESET, model, serial));
}

int pd_loader_board(const struct pd_loader *loader)
{
	return loader->board_fd;
}

int pd_loader_event(const struct pd_loader *loader)
{
	return loader->event;
}

struct md_wire pd_loader_wire(const struct pd_loader *loader)
{
	return loader->wire;
}

/* ---- its life ---- */

static enum ps_status start_thread(pthread_t *thread, bool *has_thread,
				   void *(*run)(void *loader),
				   struct pd_loader *loader, const char *name)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(thread, NULL, run, loader);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
		return bs_fail(PS_SYSTEM, "starting the loader's thread: %s",
			       strerror(error));
	*has_thread = true;
	pthread_setname_np(*thread, name);
	return PS_OK;
}

static enum ps_status map_page(struct pd_loader *loader, int landed)
{
	void *page = mmap(NULL, sizeof(*loader->page), PROT_READ | PROT_WRITE,
			  MAP_SHARED, landed, 0);

	if (page == MAP_FAILED)
		return bs_fail_errno("mapping the page of what has landed");
	loader->page = page;
	return PS_OK;
}

static enum ps_status start(struct pd_loader *loader, int board, int landed)
{
	enum ps_status status = map_page(loader, landed);

	if (status == PS_OK)
		status = dv_stream_create_urgent(loader->device,
						 &loader->stream);
	if (status == PS_OK)
		status = pd_board_open(loader, board);
	if (status == PS_OK)
		status = pd_board_measure(loader);
	if (status == PS_OK)
		status =
			start_thread(&loader->mover, &loader->has_mover,
				     pd_loader_move, loader, "poolswitchd-mov");
	if (status == PS_OK)
		status = start_thread(
			&loader->registrar, &loader->has_registrar,
			pd_loader_do_memory, loader, "poolswitchd-reg");
	return status;
}

static void init_lists(struct pd_loader *loader)
{
	bs_lock_init(&loader->lock, BS_RANK_LOADER);
	pthread_cond_init(&loader->moves, NULL);
	pthread_cond_init(&loader->registers, NULL);
	pd_load_list_init(&loader->resets);
	pd_load_list_init(&loader->copies);
	pd_load_list_init(&loader->memory);
	pd_load_list_init(&loader->done);
}

enum ps_status pd_loader_new(struct pd_gpu *gpu, int board, int landed,
			     struct pd_loader **loader_out)
{
	struct pd_loader *loader = calloc(1, sizeof(*loader));
	enum ps_status status;

	if (!loader)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a loader");
	loader->magic = PD_LOADER_MAGIC;
	loader->gpu = gpu;
	loader->device = pd_gpu_device(gpu);
	loader->board_fd = -1;
	loader->most_under_way = UNDER_WAY_BYTES;
	init_lists(loader);
	loader->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loader->event < 0)
		status = bs_fail_errno("making an eventfd");
	else
		status = start(loader, board, landed);
	if (status != PS_OK) {
		pd_loader_free(loader);
		return status;
	}
	*loader_out = loader;
	return PS_OK;
}

static void end_threads(struct pd_loader *loader)
{
	bs_lock_take(&loader->lock);
	loader->is_ending = true;
	pthread_cond_signal(&loader->moves);
	pthread_cond_signal(&loader->registers);
	bs_lock_drop(&loader->lock);
	if (loader->has_mover)
		pthread_join(loader->mover, NULL);
	if (loader->has_registrar)
		pthread_join(loader->registrar, NULL);
}

void pd_loader_free(struct pd_loader *loader)
{
	if (!loader)
		return;
	assert(loader->magic == PD_LOADER_MAGIC);
	end_threads(loader);
	pd_board_close(loader);
	dv_stream_destroy(loader->device, loader->stream);
	free_list(&loader->resets);
	free_list(&loader->copies);
	free_list(&loader->memory);
	free_list(&loader->done);
	if (loader->page)
		munmap(loader->page, sizeof(*loader->page));
	if (loader->event >= 0)
		close(loader->event);
	pthread_cond_destroy(&loader->moves);
	pthread_cond_destroy(&loader->registers);
	bs_lock_done(&loader->lock);
	loader->magic = 0;
	free(loader);
}
