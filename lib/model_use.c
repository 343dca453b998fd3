/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* ps_model_use(), _wait(), _release(), _check(): what a run does with a
 * model; see lib/model.h. */
#include "lib/model.h"

#include "base/status.h"
#include "lib/process.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#define TIMEOUT_DEFAULT_MS 10000

/* A USE that waits keeps the others of the process from the daemon. */
#define TURN_MS 1000

enum ps_status lb_model_enter(const struct ps_model *model)
{
	if (lb_is_forked())
		return lb_refuse(NULL);
	if (model == NULL || model->magic != LB_MODEL_MAGIC)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%p is no attached model: attach with "
			       "ps_model_attach()",
			       (const void *)model);
	return lb_lease_check(model->models->lease->pool);
}

/* ---- words; with the lock ---- */

static void note_used(const struct ps_model *model)
{
	uint32_t *used = &model->models->page->model[model->number].used;

	__atomic_store_n(used, (uint32_t)(lb_now_ms() / IP_USED_MS),
			 __ATOMIC_RELAXED);
}

static bool has_failed(const struct ps_model *model)
{
	return __atomic_load_n(&lb_model_landed(model)->failed,
			       __ATOMIC_SEQ_CST) != model->failed;
}

/* Of a model that was removed it is another's. */
void lb_model_clear_word(struct ps_model *model)
{
	if (!model->is_held && !model->is_removed)
		(void)lb_model_turn_word(model, IP_USE_BUSY, IP_USE_IDLE);
}

/* Where the daemon has asked for it the service thread says so, and what comes
 * after goes by the daemon, for somebody waits there. */
static void let_go(struct ps_model *model)
{
	model->is_held = false;
	note_used(model);
	if (model->owes)
		model->is_right = false;
	(void)lb_model_turn_word(model, IP_USE_BUSY, IP_USE_IDLE);
	if (model->owes)
		lb_service_wake(model->models->lease);
}

void lb_model_settle(struct ps_model *model)
{
	if (model->is_held && model->uses == 0 && model->runs == NULL &&
	    model->looking == 0)
		let_go(model);
}

/* false: the daemon has to be asked. */
static bool try_begin(struct ps_model *model)
{
	if (!model->is_right || has_failed(model))
		return false;
	/* Asked for: its runs end, and then it is asked for anew. */
	if (model->owes && model->uses == 0)
		return false;
	if (!model->is_held &&
	    !lb_model_turn_word(model, IP_USE_IDLE, IP_USE_BUSY))
		return false;
	if (!model->is_held && has_failed(model)) {
		(void)lb_model_turn_word(model, IP_USE_BUSY, IP_USE_IDLE);
		return false;
	}
	model->is_held = true;
	model->uses++;
	note_used(model);
	return true;
}

/* ---- fences ---- */

/* What cannot be asked for any more runs no more: its context is dead. */
static bool has_passed(struct dv_device *device, const struct lb_run *run,
		       bool wait)
{
	enum ps_status status = wait ? dv_fence_wait(device, run->fence)
				     : dv_fence_poll(device, run->fence);

	return status != PS_AGAIN;
}

/* Frees those that have passed; the others. */
static struct lb_run *sift(struct dv_device *device, struct lb_run *run,
			   bool wait)
{
	struct lb_run *left = NULL, *next;

	for (; run != NULL; run = next) {
		next = run->next;
		if (has_passed(device, run, wait)) {
			dv_fence_free(device, run->fence);
			free(run);
		} else {
			run->next = left;
			left = run;
		}
	}
	return left;
}

void lb_model_reap(struct ps_model *model, bool wait)
{
	struct lb_models *models = model->models;
	struct lb_run *runs, **end = &model->runs;

	bs_lock_take(&models->lock);
	runs = model->runs;
	model->runs = NULL;
	model->looking += runs != NULL;
	bs_lock_drop(&models->lock);
	if (runs == NULL)
		return;
	runs = sift(models->lease->pool->device, runs, wait);
	bs_lock_take(&models->lock);
	while (*end != NULL)
		end = &(*end)->next;
	*end = runs;
	model->looking--;
	lb_model_settle(model);
	bs_lock_drop(&models->lock);
}

/* ---- use ---- */

static enum ps_status refuse_failed(const struct ps_model *model)
{
	return bs_fail(PS_LOAD_FAILED,
		       "the load of model %s that runs of this process still "
		       "use failed: let them end and be released, then use it "
		       "again; the daemon's log has the cause",
		       model->name);
}

static enum ps_status refuse_ending(const struct ps_model *model)
{
	return bs_fail(PS_BUSY,
		       "runs of this process on model %s, which the daemon has "
		       "asked for, have not ended yet",
		       model->name);
}

/* With requests: another thread may have had it placed meanwhile.
 * *is_ending_out: runs that were released are to end first. */
static enum ps_status begin_locked(struct ps_model *model, uint32_t priority,
				   uint32_t wait_ms, bool *is_ending_out)
{
	struct lb_models *models = model->models;
	bool has_begun, is_used, is_removed;

	bs_lock_take(&models->lock);
	has_begun = try_begin(model);
	is_used = model->is_held && model->uses > 0;
	*is_ending_out = !has_begun && model->is_held && !is_used;
	is_removed = model->is_removed;
	bs_lock_drop(&models->lock);
	if (has_begun)
		return PS_OK;
	if (is_used)
		return refuse_failed(model);
	if (*is_ending_out)
		return refuse_ending(model);
	if (is_removed)
		return bs_fail(PS_NO_MODEL,
			       "model %s was removed since it was attached to: "
			       "detach, and attach again when it is back",
			       model->name);
	return lb_model_ask(model, priority, wait_ms);
}

/* Whether what was said after a turn may be otherwise after the next. */
static bool may_change(enum ps_status status)
{
	return status == PS_OUT_OF_MEMORY || status == PS_TIMED_OUT ||
	       status == PS_BUSY;
}

/* In turns: between them others of the process talk with the daemon. */
static enum ps_status begin_late(struct ps_model *model, uint32_t priority,
				 int64_t until_ms)
{
	struct lb_lease *lease = model->models->lease;
	int64_t begun, left, turn;
	enum ps_status status;
	bool is_ending;

	for (;;) {
		begun = lb_now_ms();
		left = until_ms > begun ? until_ms - begun : 0;
		turn = left < TURN_MS ? left : TURN_MS;
		bs_lock_take(&lease->requests);
		status = begin_locked(model, priority, (uint32_t)turn,
				      &is_ending);
		bs_lock_drop(&lease->requests);
		if (is_ending && left > 0)
			lb_model_reap(model, true);
		else if (!may_change(status) || turn == left ||
			 lb_now_ms() - begun < turn)
			return status;
		poll(NULL, 0, 1);
	}
}

static enum ps_status check_timeout(int timeout_ms)
{
	if (timeout_ms >= 0 || timeout_ms == PS_TIMEOUT_DEFAULT)
		return PS_OK;
	return bs_fail(PS_INVALID_ARGUMENT,
		       "timeout is %d ms, must be at least 0, or "
		       "PS_TIMEOUT_DEFAULT (%d)",
		       timeout_ms, PS_TIMEOUT_DEFAULT);
}

enum ps_status ps_model_use(struct ps_model *model, uint32_t priority,
			    int timeout_ms)
{
	enum ps_status status = lb_model_enter(model);
	bool has_begun, ends;

	if (status == PS_OK)
		status = check_timeout(timeout_ms);
	if (status != PS_OK)
		return status;
	if (timeout_ms == PS_TIMEOUT_DEFAULT)
		timeout_ms = TIMEOUT_DEFAULT_MS;
	bs_lock_take(&model->models->lock);
	has_begun = try_begin(model);
	ends = model->uses == 0;
	bs_lock_drop(&model->models->lock);
	if (has_begun)
		return PS_OK;
	/* Runs on weights that are gone: nothing keeps them from their end. */
	lb_model_reap(model, ends);
	return begin_late(model, priority, lb_now_ms() + timeout_ms);
}

/* ---- wait ---- */

static enum ps_status refuse_tensor(const struct ps_model *model,
				    uint32_t tensor)
{
	return bs_fail(PS_OUT_OF_RANGE,
		       "tensor %" PRIu32 " of model %s, which has %zu", tensor,
		       model->name, model->manifest.count);
}

static enum ps_status refuse_unused(const struct ps_model *model)
{
	return bs_fail(PS_INVALID_ARGUMENT,
		       "model %s is not in use here: ps_model_use() it first, "
		       "and release it once for each use",
		       model->name);
}

static bool is_used(struct ps_model *model)
{
	bool is_used;

	bs_lock_take(&model->models->lock);
	is_used = model->uses > 0;
	bs_lock_drop(&model->models->lock);
	return is_used;
}

/* In a capture the wait becomes part of the graph, for launches to come. */
enum ps_status ps_model_wait(struct ps_model *model, void *stream,
			     uint32_t tensor)
{
	enum ps_status status = lb_model_enter(model);
	struct dv_device *device;
	bool captures = false;
	uint32_t landed;

	if (status != PS_OK)
		return status;
	if (tensor >= model->manifest.count)
		return refuse_tensor(model, tensor);
	device = model->models->lease->pool->device;
	status = dv_stream_captures(device, stream, &captures);
	if (status != PS_OK)
		return status;
	if (!captures && !is_used(model))
		return refuse_unused(model);
	landed = __atomic_load_n(&lb_model_landed(model)->landed,
				 __ATOMIC_ACQUIRE);
	if (!captures && landed > tensor)
		return PS_OK;
	return dv_wait_word(
		device, model->models->board + model->number * IP_BOARD_STRIDE,
		tensor + 1, stream);
}

/* ---- release ---- */

/* @run_out: NULL when nothing is left to wait for. */
static enum ps_status fence_run(struct ps_model *model, void *stream,
				struct lb_run **run_out)
{
	struct dv_device *device = model->models->lease->pool->device;
	struct lb_run *run = calloc(1, sizeof(*run));
	enum ps_status status;

	if (run == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a fence");
	status = stream == PS_STREAM_ANY
			 ? dv_fence_record_all(device, &run->fence)
			 : dv_fence_record(device, stream, &run->fence);
	if (status == PS_OK)
		*run_out = run;
	else
		free(run);
	return status;
}

/* Where no fence can be had. PS_AGAIN: nothing was waited for, for a stream
 * captures. */
static enum ps_status wait_for_all(struct ps_model *model)
{
	if (dv_synchronize(model->models->lease->pool->device) == PS_AGAIN)
		return PS_AGAIN;
	return bs_fail_prefix(PS_DRIVER,
			      "model %s is released behind all work of the "
			      "GPU, for its stream has no fence",
			      model->name);
}

static bool end_use(struct ps_model *model, struct lb_run *run)
{
	bool was_used;

	bs_lock_take(&model->models->lock);
	was_used = model->uses > 0;
	if (was_used) {
		model->uses--;
		if (run != NULL) {
			run->next = model->runs;
			model->runs = run;
		}
		if (model->uses == 0 && model->owes)
			lb_service_wake(model->models->lease);
		lb_model_settle(model);
	}
	bs_lock_drop(&model->models->lock);
	return was_used;
}

static enum ps_status release(struct ps_model *model, void *stream)
{
	struct lb_run *run = NULL;
	enum ps_status status = PS_OK;

	lb_model_reap(model, false);
	if (stream != PS_STREAM_DONE)
		status = fence_run(model, stream, &run);
	if (status != PS_OK && status != PS_AGAIN)
		status = wait_for_all(model);
	if (status == PS_AGAIN)
		return status;
	if (end_use(model, run))
		return status;
	if (run != NULL) {
		dv_fence_free(model->models->lease->pool->device, run->fence);
		free(run);
	}
	return refuse_unused(model);
}

/* Also of a GPU that is lost: what is counted is to come out even. */
enum ps_status ps_model_release(struct ps_model *model, void *stream)
{
	enum ps_status status = lb_model_enter(model);

	if (status == PS_DEVICE_LOST)
		stream = PS_STREAM_DONE;
	else if (status != PS_OK)
		return status;
	return is_used(model) ? release(model, stream) : refuse_unused(model);
}

/* ---- check ---- */

enum ps_status ps_model_check(struct ps_model *model)
{
	enum ps_status status = lb_model_enter(model);
	bool failed;

	if (status != PS_OK)
		return status;
	lb_model_reap(model, false);
	bs_lock_take(&model->models->lock);
	failed = has_failed(model);
	bs_lock_drop(&model->models->lock);
	if (!failed)
		return PS_OK;
	return bs_fail(PS_LOAD_FAILED,
		       "model %s did not arrive whole: what was computed with "
		       "it is wrong; the daemon's log has the cause, and the "
		       "next ps_model_use() loads it again",
		       model->name);
}
