/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The thread that scrubs, vacates and remakes. Scrubs come first, then what is
 * vacated: a client may wait for either. Several scrubs are submitted together
 * and waited for once.
 *
 * A segment is vacated in two steps. First its memory is given back: unmapped,
 * the descriptors are closed before. Then the driver is asked until it has as
 * much more free as there was in the segment; a process that still has it
 * mapped keeps it from that. After WATCH_NS the job is reported as failed, and
 * the next try goes on with the second step. To remake it is to vacate it and
 * to create another in its place.
 *
 * Invariants
 *   Nothing is unmapped while a fill of ours may run.
 *   A segment is on one list at most. Who takes it off has it for himself.
 *   After the GPU is lost the driver is not called again.
 */
#include "poold/gpu_parts.h"

#include "base/status.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Scrubs at once: about a millisecond of work. */
#define BATCH 16u

/* How long one try watches for the memory to become free, and how often. */
#define WATCH_NS UINT64_C(50000000)
#define LOOK_NS 1000000

/* Of waking the loop. */
#define WAKE_TRIES 100

#define SECOND_NS UINT64_C(1000000000)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* ---- lists ---- */

static void list_init(struct pd_gpu_list *list)
{
	list->first = PD_NO_SEGMENT;
	list->last = PD_NO_SEGMENT;
}

static bool list_is_empty(const struct pd_gpu_list *list)
{
	return list->first == PD_NO_SEGMENT;
}

static void list_add(struct pd_gpu *gpu, struct pd_gpu_list *list, uint32_t n)
{
	gpu->segment[n].next = PD_NO_SEGMENT;
	if (list_is_empty(list))
		list->first = n;
	else
		gpu->segment[list->last].next = n;
	list->last = n;
}

/* PD_NO_SEGMENT: it is empty. */
static uint32_t list_take(struct pd_gpu *gpu, struct pd_gpu_list *list)
{
	uint32_t n = list->first;

	if (n != PD_NO_SEGMENT)
		list->first = gpu->segment[n].next;
	return n;
}

/* ---- reporting ---- */

/*
 * It counts to the number of segments at most, so it is never full. A write
 * that fails is made again: without it the loop would never look. When none
 * gets through, the keeper starts another agent.
 */
static void wake_loop(const struct pd_gpu *gpu)
{
	const uint64_t one = 1;

	for (int i = 0; i < WAKE_TRIES; i++)
		if (write(gpu->event, &one, sizeof(one)) == sizeof(one))
			return;
	abort();
}

/* The text of a failure is the calling thread's last. */
static void report(struct pd_gpu *gpu, uint32_t n, enum ps_status status)
{
	gpu->segment[n].status = status;
	gpu->segment[n].text[0] = '\0';
	if (status != PS_OK)
		strncpy(gpu->segment[n].text, bs_fail_text(),
			sizeof(gpu->segment[n].text) - 1);
	bs_lock_take(&gpu->lock);
	list_add(gpu, &gpu->done, n);
	wake_loop(gpu);
	bs_lock_drop(&gpu->lock);
}

/* Every status of the driver passes here. */
static enum ps_status note_loss(struct pd_gpu *gpu, enum ps_status status)
{
	if (status == PS_DEVICE_LOST)
		gpu->is_lost = true;
	return status;
}

static enum ps_status fail_lost(const struct pd_gpu *gpu)
{
	return bs_fail(PS_DEVICE_LOST,
		       "%s was lost before; its pool is gone: look for Xid "
		       "messages in the kernel log",
		       pd_gpu_uuid(gpu));
}

/* ---- scrubs ---- */

/* Waits for all that was submitted. A wait that fails says nothing of the
 * work, so it is tried once more. */
static enum ps_status settle(struct pd_gpu *gpu)
{
	enum ps_status status = dv_stream_wait(gpu->device, gpu->stream);

	if (status != PS_OK && status != PS_DEVICE_LOST)
		status = dv_stream_wait(gpu->device, gpu->stream);
	gpu->is_unsettled = status != PS_OK;
	return note_loss(gpu, status);
}

static enum ps_status submit_fill(struct pd_gpu *gpu, uint32_t n)
{
	if (gpu->is_lost)
		return fail_lost(gpu);
	if (!gpu->segment[n].is_mapped)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "segment %" PRIu32 " has no memory to scrub", n);
	return note_loss(gpu, dv_fill(gpu->device, pd_gpu_address(gpu, n), 0,
				      gpu->segment_bytes, gpu->stream));
}

static void run_scrubs(struct pd_gpu *gpu, const uint32_t *batch,
		       uint32_t count)
{
	uint32_t submitted[BATCH];
	uint32_t used = 0;
	enum ps_status status;

	for (uint32_t i = 0; i < count; i++) {
		status = submit_fill(gpu, batch[i]);
		if (status == PS_OK)
			submitted[used++] = batch[i];
		else
			report(gpu, batch[i], status);
	}
	if (used == 0)
		return;
	gpu->is_stale = true;
	status = settle(gpu);
	for (uint32_t i = 0; i < used; i++)
		report(gpu, submitted[i], status);
}

/* ---- vacating and remaking ---- */

static enum ps_status give_back(struct pd_gpu *gpu, uint32_t n)
{
	struct pd_gpu_segment *segment = &gpu->segment[n];
	enum ps_status status = PS_OK;
	uint64_t free_before;

	if (!segment->is_mapped)
		return PS_OK;
	if (gpu->is_unsettled)
		status = settle(gpu);
	if (status == PS_OK)
		status = pd_gpu_ask_free(gpu, &free_before);
	if (status == PS_OK)
		status = dv_window_unmap(gpu->device, pd_gpu_address(gpu, n),
					 gpu->segment_bytes);
	if (status != PS_OK)
		return status;
	segment->is_mapped = false;
	segment->floor = free_before;
	return PS_OK;
}

/*
 * Whether the driver has the bytes free. What others take meanwhile lowers
 * what is waited for: else the segment would wait for them.
 */
static enum ps_status check_free(struct pd_gpu *gpu, uint32_t n)
{
	struct pd_gpu_segment *segment = &gpu->segment[n];
	uint64_t free_now;
	enum ps_status status = pd_gpu_ask_free(gpu, &free_now);

	if (status != PS_OK)
		return status;
	if (free_now < segment->floor)
		segment->floor = free_now;
	if (free_now >= segment->floor + gpu->segment_bytes)
		return PS_OK;
	if (segment->floor == 0)
		return bs_fail(PS_AGAIN,
			       "segment %" PRIu32 " needs %" PRIu64 " bytes, "
			       "the GPU has %" PRIu64 " free",
			       n, gpu->segment_bytes, free_now);
	return bs_fail(PS_AGAIN,
		       "segment %" PRIu32 " was given back and the driver "
		       "still counts its %" PRIu64 " bytes as used: a process "
		       "has it mapped",
		       n, gpu->segment_bytes);
}

static enum ps_status make_anew(struct pd_gpu *gpu, uint32_t n)
{
	struct pd_gpu_segment *segment = &gpu->segment[n];
	enum ps_status status;
	int fd;

	status = pd_gpu_make_segment(gpu, n, &fd);
	if (status != PS_OK)
		return status == PS_DEVICE_MEMORY ? PS_AGAIN : status;
	status = dv_window_set_access(gpu->device, pd_gpu_address(gpu, n),
				      gpu->segment_bytes, true);
	if (status != PS_OK) {
		close(fd);
		/* Should this fail, it is given back by the next try. */
		segment->is_mapped =
			dv_window_unmap(gpu->device, pd_gpu_address(gpu, n),
					gpu->segment_bytes) != PS_OK;
		return status;
	}
	segment->is_mapped = true;
	segment->new_fd = fd;
	return PS_OK;
}

/* false: it is to be looked at again. */
static bool run_one(struct pd_gpu *gpu, uint32_t n)
{
	struct pd_gpu_segment *segment = &gpu->segment[n];
	enum ps_status status;

	if (gpu->is_lost) {
		report(gpu, n, fail_lost(gpu));
		return true;
	}
	status = give_back(gpu, n);
	if (status == PS_OK)
		status = check_free(gpu, n);
	if (status == PS_AGAIN && now_ns() < segment->until)
		return false;
	/* The old memory is free: from now on any room will do. */
	if (status == PS_OK)
		segment->floor = 0;
	if (status == PS_OK && segment->job == PD_JOB_REMAKE)
		status = make_anew(gpu, n);
	report(gpu, n, note_loss(gpu, status));
	return true;
}

/* ---- the thread ---- */

/* pre: the lock is held. */
static void wait_for_look(struct pd_gpu *gpu)
{
	uint64_t at = now_ns() + LOOK_NS;
	const struct timespec until = {
		.tv_sec = (time_t)(at / SECOND_NS),
		.tv_nsec = (long)(at % SECOND_NS),
	};

	if (list_is_empty(&gpu->scrubs) && !gpu->is_ending)
		pthread_cond_timedwait(&gpu->wake, &gpu->lock.mutex, &until);
}

/* pre: the lock is held; it is dropped meanwhile. */
static void do_scrubs(struct pd_gpu *gpu)
{
	uint32_t batch[BATCH];
	uint32_t count = 0;

	while (count < BATCH && !list_is_empty(&gpu->scrubs))
		batch[count++] = list_take(gpu, &gpu->scrubs);
	bs_lock_drop(&gpu->lock);
	run_scrubs(gpu, batch, count);
	bs_lock_take(&gpu->lock);
}

/* pre: the lock is held; it is dropped meanwhile. */
static void do_one(struct pd_gpu *gpu, struct pd_gpu_list *list)
{
	uint32_t n = list_take(gpu, list);
	bool is_over;

	bs_lock_drop(&gpu->lock);
	is_over = run_one(gpu, n);
	bs_lock_take(&gpu->lock);
	if (is_over)
		return;
	list_add(gpu, list, n);
	wait_for_look(gpu);
}

/* Nothing is to be done: time for what nobody waits for.
 * pre: the lock is held; it is dropped meanwhile. */
static void do_idle(struct pd_gpu *gpu)
{
	uint64_t ignored;

	if (!gpu->is_stale || gpu->is_lost) {
		pthread_cond_wait(&gpu->wake, &gpu->lock.mutex);
		return;
	}
	bs_lock_drop(&gpu->lock);
	gpu->is_stale = false;
	(void)note_loss(gpu, pd_gpu_ask_free(gpu, &ignored));
	bs_lock_take(&gpu->lock);
}

static void *work(void *arg)
{
	struct pd_gpu *gpu = arg;

	bs_lock_take(&gpu->lock);
	while (!gpu->is_ending) {
		if (!list_is_empty(&gpu->scrubs))
			do_scrubs(gpu);
		else if (!list_is_empty(&gpu->vacates))
			do_one(gpu, &gpu->vacates);
		else if (!list_is_empty(&gpu->remakes))
			do_one(gpu, &gpu->remakes);
		else
			do_idle(gpu);
	}
	bs_lock_drop(&gpu->lock);
	return NULL;
}

enum ps_status pd_gpu_start(struct pd_gpu *gpu)
{
	sigset_t all, before;
	int error;

	assert(!gpu->is_started && gpu->segments > 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&gpu->thread, NULL, work, gpu);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
		return bs_fail(PS_SYSTEM, "starting the GPU's thread: %s",
			       strerror(error));
	gpu->is_started = true;
	pthread_setname_np(gpu->thread, "poolswitchd-gpu");
	return PS_OK;
}

enum ps_status pd_gpu_init_jobs(struct pd_gpu *gpu)
{
	pthread_condattr_t attributes;

	bs_lock_init(&gpu->lock, BS_RANK_GPU_JOBS);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&gpu->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	list_init(&gpu->scrubs);
	list_init(&gpu->vacates);
	list_init(&gpu->remakes);
	list_init(&gpu->done);
	gpu->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (gpu->event < 0)
		return bs_fail_errno("making an eventfd");
	return PS_OK;
}

void pd_gpu_end_jobs(struct pd_gpu *gpu)
{
	bs_lock_take(&gpu->lock);
	gpu->is_ending = true;
	pthread_cond_signal(&gpu->wake);
	bs_lock_drop(&gpu->lock);
	if (gpu->is_started)
		pthread_join(gpu->thread, NULL);
	gpu->is_started = false;
	if (gpu->event >= 0)
		close(gpu->event);
	pthread_cond_destroy(&gpu->wake);
	bs_lock_done(&gpu->lock);
}

/* ---- the caller's side ---- */

static void queue(struct pd_gpu *gpu, struct pd_gpu_list *list, uint32_t n)
{
	bs_lock_take(&gpu->lock);
	list_add(gpu, list, n);
	pthread_cond_signal(&gpu->wake);
	bs_lock_drop(&gpu->lock);
}

void pd_gpu_scrub(struct pd_gpu *gpu, uint32_t segment)
{
	assert(segment < gpu->segments);
	gpu->segment[segment].job = PD_JOB_SCRUB;
	queue(gpu, &gpu->scrubs, segment);
}

static void queue_one(struct pd_gpu *gpu, uint32_t segment, enum pd_job job,
		      struct pd_gpu_list *list)
{
	assert(segment < gpu->segments && gpu->segment[segment].fd < 0);
	gpu->segment[segment].job = job;
	gpu->segment[segment].until = now_ns() + WATCH_NS;
	queue(gpu, list, segment);
}

void pd_gpu_remake(struct pd_gpu *gpu, uint32_t segment)
{
	queue_one(gpu, segment, PD_JOB_REMAKE, &gpu->remakes);
}

void pd_gpu_vacate(struct pd_gpu *gpu, uint32_t segment)
{
	queue_one(gpu, segment, PD_JOB_VACATE, &gpu->vacates);
}

int pd_gpu_event(const struct pd_gpu *gpu)
{
	return gpu->event;
}

bool pd_gpu_take_done(struct pd_gpu *gpu, struct pd_done *done_out)
{
	struct pd_gpu_segment *segment;
	uint64_t count;
	uint32_t n;

	bs_lock_take(&gpu->lock);
	n = list_take(gpu, &gpu->done);
	if (n == PD_NO_SEGMENT && read(gpu->event, &count, sizeof(count)) < 0)
		count = 0; /* nothing was to be read either */
	bs_lock_drop(&gpu->lock);
	if (n == PD_NO_SEGMENT)
		return false;
	segment = &gpu->segment[n];
	if (segment->new_fd >= 0)
		segment->fd = segment->new_fd;
	segment->new_fd = -1;
	done_out->job = segment->job;
	done_out->segment = n;
	done_out->status = segment->status;
	memcpy(done_out->text, segment->text, sizeof(done_out->text));
	return true;
}
