/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The loader's threads. The mover submits resets at once, copies as long as
 * little enough is under way, and otherwise waits for the oldest fence: what
 * has passed there can be said in the page.
 *
 * A flight is a fence and what it stands for. Its last one ends a task: only
 * then the caller hears of it, so nothing of the task runs any more.
 */
#include "poold/store/loader_parts.h"

#include "base/status.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

/* A fence costs about as much as a copy's start: none for less than this. */
#define FENCE_BYTES (UINT64_C(1) << 20)

/* So much at once, so that a load that is more urgent waits no longer than
 * for this; from here on copies are as fast as they get. */
#define PIECE_BYTES (UINT64_C(16) << 20)

/* Of what has to be done, or everybody who waits hangs: a word that ends a
 * load, the fence behind it. When it cannot be, the keeper starts another
 * agent, which goes on from what the board says. */
#define TRIES 100
#define PAUSE_NS 1000000

/* ---- trouble ---- */

/* Every status of the driver passes here. */
static enum ps_status note_loss(struct pd_loader *loader, enum ps_status status)
{
	if (status == PS_DEVICE_LOST)
		atomic_store(&loader->is_lost, true);
	return status;
}

static bool is_lost(const struct pd_loader *loader)
{
	return atomic_load(&loader->is_lost);
}

/* Whether to try again; ends the process when that is in vain. */
static bool is_worth_a_try(struct pd_loader *loader, enum ps_status status,
			   int *tries)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };

	if (note_loss(loader, status) == PS_OK || is_lost(loader))
		return false;
	if (++*tries == TRIES)
		abort();
	nanosleep(&pause, NULL);
	return true;
}

static void report_lost(struct pd_loader *loader, struct pd_load_task *task)
{
	pd_loader_note(task,
		       bs_fail(PS_DEVICE_LOST,
			       "%s is lost, and what was loaded with it: look "
			       "for Xid messages in the kernel log",
			       dv_device_uuid(loader->device)));
	dv_fence_free(loader->device, task->start);
	pd_loader_report(loader, task);
}

/* ---- flights ---- */

static void add_flight(struct pd_loader *loader, struct pd_load_task *task,
		       struct dv_fence *fence, uint32_t landed, bool is_end)
{
	const unsigned int at =
		(loader->first_flight + loader->flights) % PD_FLIGHTS;

	assert(loader->flights < PD_FLIGHTS);
	loader->flight[at] = (struct pd_flight){
		.fence = fence,
		.task = task,
		.landed = landed,
		.is_end = is_end,
		.bytes = loader->unfenced,
	};
	loader->flights++;
	loader->unfenced = 0;
	loader->last = NULL;
}

/* The page first when the counter is to fall, last when it has risen. */
static void say_landed(struct pd_loader *loader, uint32_t model,
		       uint32_t landed)
{
	__atomic_store_n(&loader->page->model[model].landed, landed,
			 __ATOMIC_RELEASE);
}

/* Writes the counter and has it ended by a fence. The task is on no list. */
static void finish_with(struct pd_loader *loader, struct pd_load_task *task,
			uint32_t word)
{
	const uint64_t counter = pd_board_counter(loader, task->done.model);
	struct dv_fence *fence = NULL;
	enum ps_status status;
	int tries = 0;

	do {
		status = dv_write_word(loader->device, counter, word,
				       loader->stream);
		if (status == PS_OK)
			status = dv_fence_record(loader->device, loader->stream,
						 &fence);
	} while (is_worth_a_try(loader, status, &tries));
	if (status == PS_OK)
		add_flight(loader, task, fence, word, true);
	else
		report_lost(loader, task);
}

static void unlist(struct pd_loader *loader, struct pd_load_task *task)
{
	bs_lock_take(&loader->lock);
	pd_load_list_remove(&loader->copies, task);
	bs_lock_drop(&loader->lock);
}

/* The text is the thread's last. */
static void fail_copy(struct pd_loader *loader, struct pd_load_task *task,
		      enum ps_status status)
{
	unlist(loader, task);
	if (note_loss(loader, status) == PS_DEVICE_LOST) {
		report_lost(loader, task);
		return;
	}
	pd_loader_note(task, status);
	__atomic_fetch_add(&loader->page->model[task->done.model].failed, 1,
			   __ATOMIC_SEQ_CST);
	finish_with(loader, task, PD_COUNTER_FAILED);
}

static void time_copy(struct pd_loader *loader, struct pd_load_task *task,
		      struct dv_fence *end)
{
	if (task->start && task->done.status == PS_OK)
		(void)note_loss(loader,
				dv_fence_elapsed(loader->device, task->start,
						 end, &task->done.ns));
	dv_fence_free(loader->device, task->start);
	task->start = NULL;
}

/* What the oldest flight stands for is so. */
static void land(struct pd_loader *loader)
{
	const struct pd_flight flight = loader->flight[loader->first_flight];
	const uint32_t model = flight.task->done.model;

	loader->first_flight = (loader->first_flight + 1) % PD_FLIGHTS;
	loader->flights--;
	loader->under_way -= flight.bytes;
	loader->counter[model] = flight.landed;
	if (flight.landed != PD_COUNTER_FAILED)
		say_landed(loader, model, flight.landed);
	if (flight.is_end) {
		time_copy(loader, flight.task, flight.fence);
		pd_loader_report(loader, flight.task);
	}
	dv_fence_free(loader->device, flight.fence);
}

static void await_flight(struct pd_loader *loader)
{
	struct dv_fence *fence = loader->flight[loader->first_flight].fence;
	int tries = 0;

	while (is_worth_a_try(loader, dv_fence_wait(loader->device, fence),
			      &tries))
		;
	if (!is_lost(loader))
		land(loader);
}

/* ---- copies ---- */

static uint64_t group_end(const struct pd_load_task *task)
{
	const struct md_tensor *last =
		&task->load.tensors[task->plan.end[task->group] - 1];

	return last->offset + last->bytes;
}

/* The first tensor that has not landed, in the group that has it. */
static void skip_landed(struct pd_load_task *task, uint32_t landed)
{
	while (task->group < task->plan.groups &&
	       task->plan.end[task->group] <= landed)
		task->group++;
	task->written = landed;
	if (task->group < task->plan.groups)
		task->at = task->load.tensors[landed].offset;
}

static enum ps_status check_counter(const struct pd_load_task *task,
				    uint32_t landed)
{
	if (landed <= task->load.count)
		return PS_OK;
	if (landed == PD_COUNTER_FAILED)
		return bs_fail(PS_LOAD_FAILED,
			       "model %" PRIu32 " failed to load before; its "
			       "counter was not reset",
			       task->done.model);
	return bs_fail(PS_LOAD_FAILED,
		       "model %" PRIu32 " has %" PRIu32 " tensors and its "
		       "counter says %" PRIu32,
		       task->done.model, task->load.count, landed);
}

static enum ps_status begin(struct pd_loader *loader, struct pd_load_task *task)
{
	const struct pd_load_model *load = &task->load;
	const uint32_t landed = loader->counter[load->model];
	enum ps_status status = check_counter(task, landed);

	if (status == PS_OK)
		status = md_plan_make(load->plan, load->groups, load->tensors,
				      load->count, load->compute_ns,
				      &loader->wire, &task->plan);
	if (status == PS_OK)
		status = dv_fence_record_timed(loader->device, loader->stream,
					       &task->start);
	if (status != PS_OK)
		return status;
	task->is_begun = true;
	skip_landed(task, landed);
	say_landed(loader, load->model, landed);
	return PS_OK;
}

/* As much of the group as lies in one segment, and is one piece. */
static enum ps_status copy_piece(struct pd_loader *loader,
				 struct pd_load_task *task, uint64_t end)
{
	const uint64_t segment = pd_gpu_segment_bytes(loader->gpu);
	const uint64_t number = task->at / segment;
	const uint64_t offset = task->at % segment;
	uint64_t bytes = end - task->at;
	enum ps_status status;
	uint64_t to;

	if (bytes > segment - offset)
		bytes = segment - offset;
	if (bytes > PIECE_BYTES)
		bytes = PIECE_BYTES;
	to = pd_gpu_segment_address(loader->gpu, task->load.segment[number]);
	status = dv_copy_in_async(loader->device, to + offset,
				  task->load.memory + task->at, bytes,
				  loader->stream);
	if (status != PS_OK)
		return status;
	task->at += bytes;
	task->done.bytes += bytes;
	loader->under_way += bytes;
	loader->unfenced += bytes;
	return PS_OK;
}

/* Behind the last copy of a group. */
static enum ps_status end_group(struct pd_loader *loader,
				struct pd_load_task *task)
{
	const uint32_t end = task->plan.end[task->group];
	enum ps_status status = dv_write_word(
		loader->device, pd_board_counter(loader, task->done.model), end,
		loader->stream);

	if (status != PS_OK)
		return status;
	task->written = end;
	task->group++;
	if (task->group < task->plan.groups)
		task->at = task->load.tensors[end].offset;
	return PS_OK;
}

/* A copy, and what follows it. */
static enum ps_status submit_piece(struct pd_loader *loader,
				   struct pd_load_task *task)
{
	const uint64_t end = group_end(task);
	enum ps_status status = PS_OK;

	if (task->at < end)
		status = copy_piece(loader, task, end);
	if (status == PS_OK && task->at >= end)
		status = end_group(loader, task);
	return status;
}

static enum ps_status fence_part(struct pd_loader *loader,
				 struct pd_load_task *task)
{
	struct dv_fence *fence;
	enum ps_status status =
		dv_fence_record(loader->device, loader->stream, &fence);

	if (status == PS_OK)
		add_flight(loader, task, fence, task->written, false);
	return status;
}

static enum ps_status fence_end(struct pd_loader *loader,
				struct pd_load_task *task)
{
	struct dv_fence *fence;
	enum ps_status status =
		dv_fence_record_timed(loader->device, loader->stream, &fence);

	if (status != PS_OK)
		return status;
	add_flight(loader, task, fence, task->written, true);
	unlist(loader, task);
	return PS_OK;
}

/* The next step of a copy; its last one takes it off the list. */
static enum ps_status advance(struct pd_loader *loader,
			      struct pd_load_task *task)
{
	enum ps_status status = PS_OK;

	if (!task->is_begun)
		status = begin(loader, task);
	if (status == PS_OK && task->group < task->plan.groups) {
		status = submit_piece(loader, task);
		loader->last = task;
	}
	if (status != PS_OK)
		return status;
	if (task->group == task->plan.groups)
		return fence_end(loader, task);
	return loader->unfenced >= FENCE_BYTES ? fence_part(loader, task)
					       : PS_OK;
}

/* What was submitted of another belongs behind a fence of that one's. */
static bool settle_last(struct pd_loader *loader,
			const struct pd_load_task *next)
{
	struct pd_load_task *last = loader->last;
	enum ps_status status;

	if (!last || last == next)
		return true;
	status = fence_part(loader, last);
	if (status != PS_OK)
		fail_copy(loader, last, status);
	return status == PS_OK;
}

static void do_copy(struct pd_loader *loader, struct pd_load_task *task)
{
	enum ps_status status;

	if (is_lost(loader)) {
		unlist(loader, task);
		report_lost(loader, task);
		return;
	}
	if (!settle_last(loader, task))
		return;
	status = advance(loader, task);
	if (status != PS_OK)
		fail_copy(loader, task, status);
}

static void do_reset(struct pd_loader *loader, struct pd_load_task *task)
{
	if (is_lost(loader)) {
		report_lost(loader, task);
		return;
	}
	/* Should that one fail, this goes on. */
	(void)settle_last(loader, NULL);
	say_landed(loader, task->done.model, 0);
	loader->counter[task->done.model] = 0;
	finish_with(loader, task, 0);
}

/* After the loss of the GPU nothing passes any more. */
static void drop_flights(struct pd_loader *loader)
{
	while (loader->flights > 0) {
		const struct pd_flight *flight =
			&loader->flight[loader->first_flight];

		if (flight->is_end)
			report_lost(loader, flight->task);
		dv_fence_free(loader->device, flight->fence);
		loader->first_flight = (loader->first_flight + 1) % PD_FLIGHTS;
		loader->flights--;
	}
	loader->last = NULL;
	loader->unfenced = 0;
	loader->under_way = 0;
}

/* ---- the mover ---- */

/* pre: the lock is held. The first of the highest priority. */
static struct pd_load_task *choose(const struct pd_loader *loader)
{
	struct pd_load_task *best = loader->copies.first;

	for (struct pd_load_task *task = best; task; task = task->next)
		if (task->priority > best->priority)
			best = task;
	return best;
}

/* A step may end what came before and itself: two fences. */
static bool has_room(const struct pd_loader *loader)
{
	return loader->flights + 2 <= PD_FLIGHTS;
}

/* pre: the lock is held; it is dropped meanwhile. */
static void run(struct pd_loader *loader, struct pd_load_task *task,
		void (*step)(struct pd_loader *loader,
			     struct pd_load_task *task))
{
	bs_lock_drop(&loader->lock);
	step(loader, task);
	if (is_lost(loader))
		drop_flights(loader);
	bs_lock_take(&loader->lock);
}

static void wait_for_one(struct pd_loader *loader, struct pd_load_task *none)
{
	(void)none;
	if (loader->flights > 0)
		await_flight(loader);
	else
		(void)settle_last(loader, NULL);
}

/* pre: the lock is held; it is dropped meanwhile. False: nothing is to be
 * done. */
static bool step(struct pd_loader *loader)
{
	struct pd_load_task *task = choose(loader);

	if (loader->resets.first && has_room(loader))
		run(loader, pd_load_list_take(&loader->resets), do_reset);
	else if (task && has_room(loader) &&
		 loader->under_way < loader->most_under_way &&
		 !loader->is_ending)
		run(loader, task, do_copy);
	else if (loader->flights > 0 || loader->last)
		run(loader, NULL, wait_for_one);
	else
		return false;
	return true;
}

void *pd_loader_move(void *arg)
{
	struct pd_loader *loader = arg;
	bool is_ending = false;

	bs_lock_take(&loader->lock);
	while (!is_ending) {
		if (step(loader))
			continue;
		is_ending = loader->is_ending;
		if (!is_ending)
			pthread_cond_wait(&loader->moves, &loader->lock.mutex);
	}
	bs_lock_drop(&loader->lock);
	return NULL;
}

/* ---- the registrar ---- */

static void do_memory(struct pd_loader *loader, struct pd_load_task *task)
{
	enum ps_status status;

	if (is_lost(loader)) {
		report_lost(loader, task);
		return;
	}
	if (task->done.job == PD_LOAD_REGISTER)
		status = dv_host_register(loader->device, task->memory,
					  task->bytes, false);
	else
		status = dv_host_unregister(loader->device, task->memory);
	pd_loader_note(task, note_loss(loader, status));
	pd_loader_report(loader, task);
}

void *pd_loader_do_memory(void *arg)
{
	struct pd_loader *loader = arg;
	struct pd_load_task *task;

	bs_lock_take(&loader->lock);
	while (!loader->is_ending) {
		task = pd_load_list_take(&loader->memory);
		if (!task) {
			pthread_cond_wait(&loader->registers,
					  &loader->lock.mutex);
			continue;
		}
		bs_lock_drop(&loader->lock);
		do_memory(loader, task);
		bs_lock_take(&loader->lock);
	}
	bs_lock_drop(&loader->lock);
	return NULL;
}
