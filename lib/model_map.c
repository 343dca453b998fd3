/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * USE, and what it brings: the segments that a model lies in now, mapped
 * read-only at the model's addresses.
 *
 * Invariant: what is mapped at a model's addresses is all of one place, or
 * nothing is.
 */
#include "lib/model.h"

#include "base/status.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a USE has brought. */
struct placing {
	struct ps_model *model;
	uint32_t priority;
	uint32_t wait_ms;
	uint64_t *handle; /* room for all of the model */
	uint32_t wanted;  /* segments of the model */
	uint32_t count;
	uint32_t place;
	uint32_t failed;
	bool is_same;
	enum ps_status import; /* the first failure */
	enum ps_status denial;
};

static uint32_t segments_of(const struct ps_model *model)
{
	uint64_t unit = model->models->lease->pool->layout.segment_size;

	return (uint32_t)(model->bytes / unit + (model->bytes % unit != 0));
}

static struct ps_pool *pool_of(const struct ps_model *model)
{
	return model->models->lease->pool;
}

/* ---- the message; with requests ---- */

static void give_handles(struct placing *placing)
{
	for (uint32_t i = 0; i < placing->count; i++)
		(void)dv_segment_release(pool_of(placing->model)->device,
					 placing->handle[i]);
	placing->count = 0;
}

static void import(struct placing *placing, int fd)
{
	struct ps_pool *pool = pool_of(placing->model);
	enum ps_status status = PS_OK;

	if (placing->import == PS_OK)
		status = dv_segment_import(pool->device, fd,
					   &placing->handle[placing->count]);
	close(fd);
	if (status != PS_OK)
		placing->import =
			bs_fail_prefix(status,
				       "segment %" PRIu32 " of model "
				       "%s",
				       placing->count, placing->model->name);
	else if (placing->import == PS_OK)
		placing->count++;
}

static enum ps_status refuse_place(const struct placing *placing,
				   uint32_t count)
{
	const struct ps_model *model = placing->model;

	return bs_fail(PS_PROTOCOL,
		       "PLACE from pid %d: %" PRIu32 " segments of model %s, "
		       "which takes %" PRIu32,
		       (int)model->models->lease->client.conn.peer_pid, count,
		       model->name, placing->wanted);
}

static enum ps_status accept_place(struct placing *placing,
				   const struct ip_place *place, const int *fds)
{
	bool fits = place->count <= placing->wanted - placing->count;

	placing->place = place->place;
	placing->failed = place->failed;
	placing->is_same = (place->flags & IP_PLACE_SAME) != 0;
	for (uint32_t i = 0; i < place->count; i++) {
		if (fits)
			import(placing, fds[i]);
		else
			close(fds[i]);
	}
	return fits ? PS_OK
		    : refuse_place(placing, placing->count + place->count);
}

static enum ps_status receive_place(struct lb_lease *lease,
				    struct placing *placing,
				    struct ip_use_request *use)
{
	struct ip_place place;
	int fds[IP_LIST_MAX];
	enum ps_status status;

	do {
		status = ip_client_use(&lease->client, use, &place, fds);
		status = lb_model_heard(lease, status, &placing->denial);
		if (status != PS_OK || placing->denial != PS_OK)
			return status;
		status = accept_place(placing, &place, fds);
		use = NULL;
	} while (status == PS_OK && (place.flags & IP_LIST_MORE) != 0);
	if (status == PS_OK && !placing->is_same && placing->import == PS_OK &&
	    placing->count != placing->wanted)
		status = refuse_place(placing, placing->count);
	return status;
}

static uint32_t place_of(struct ps_model *model)
{
	uint32_t place;

	bs_lock_take(&model->models->lock);
	place = model->place;
	bs_lock_drop(&model->models->lock);
	return place;
}

static enum ps_status use_once(struct lb_lease *lease, void *arg)
{
	struct placing *placing = arg;
	struct ps_model *model = placing->model;
	struct ip_use_request use = { .model = model->number,
				      .serial = model->serial,
				      .place = place_of(model),
				      .priority = placing->priority,
				      .wait_ms = placing->wait_ms };

	give_handles(placing);
	placing->import = PS_OK;
	placing->denial = PS_OK;
	placing->is_same = false;
	return receive_place(lease, placing, &use);
}

/* ---- mapping; with the turn ---- */

static uint64_t span_of(const struct ps_model *model)
{
	return segments_of(model) * pool_of(model)->layout.segment_size;
}

static void set_place(struct ps_model *model, uint32_t place)
{
	bs_lock_take(&model->models->lock);
	model->place = place;
	bs_lock_drop(&model->models->lock);
}

enum ps_status lb_model_unmap(struct ps_model *model)
{
	enum ps_status status;

	if (model->place == 0)
		return PS_OK;
	status = dv_window_unmap(pool_of(model)->device, model->address,
				 span_of(model));
	if (status == PS_OK)
		set_place(model, 0);
	return status;
}

/* All, or none. */
static enum ps_status map(const struct placing *placing)
{
	const struct ps_model *model = placing->model;
	struct ps_pool *pool = pool_of(model);
	uint64_t unit = pool->layout.segment_size;
	enum ps_status status = PS_OK;
	uint32_t done = 0;

	while (done < placing->count && status == PS_OK) {
		status = dv_window_map(pool->device,
				       model->address + done * unit, unit,
				       placing->handle[done]);
		done += status == PS_OK;
	}
	if (status == PS_OK)
		status = dv_window_set_access(pool->device, model->address,
					      done * unit, false);
	if (status != PS_OK && done > 0)
		(void)dv_window_unmap(pool->device, model->address,
				      done * unit);
	return status;
}

/* PS_AGAIN: what was mapped a moment ago is not any more. */
static enum ps_status settle_place(const struct placing *placing)
{
	struct ps_model *model = placing->model;
	enum ps_status status;

	if (placing->is_same)
		return model->place == placing->place ? PS_OK : PS_AGAIN;
	if (placing->import != PS_OK)
		return placing->import;
	status = lb_model_unmap(model);
	if (status == PS_OK)
		status = map(placing);
	if (status == PS_OK)
		set_place(model, placing->place);
	return status;
}

/* ---- asking; with requests ---- */

static void begin_asking(struct ps_model *model)
{
	bs_lock_take(&model->models->lock);
	lb_model_clear_word(model);
	model->is_right = false;
	model->is_asking = true;
	bs_lock_drop(&model->models->lock);
}

static void end_asking(struct placing *placing, enum ps_status status)
{
	struct ps_model *model = placing->model;

	bs_lock_take(&model->models->lock);
	model->is_asking = false;
	if (status == PS_OK) {
		model->is_held = true;
		model->is_right = true;
		model->failed = placing->failed;
		model->uses = 1;
	}
	lb_model_clear_word(model);
	if (model->owes)
		lb_service_wake(model->models->lease);
	bs_lock_drop(&model->models->lock);
}

/* With the turn what is mapped and what is held change together. */
static enum ps_status try_once(struct placing *placing)
{
	struct ps_model *model = placing->model;
	struct lb_lease *lease = model->models->lease;
	enum ps_status status;

	begin_asking(model);
	status = lb_session_ask(lease, use_once, placing);
	if (status == PS_OK)
		status = placing->denial;
	lb_turn_take(lease->pool);
	if (status == PS_OK)
		status = settle_place(placing);
	end_asking(placing, status);
	lb_turn_give(lease->pool);
	give_handles(placing);
	return status;
}

enum ps_status lb_model_ask(struct ps_model *model, uint32_t priority,
			    uint32_t wait_ms)
{
	struct placing placing = { .model = model,
				   .priority = priority,
				   .wait_ms = wait_ms,
				   .wanted = segments_of(model) };
	enum ps_status status;

	placing.handle = calloc(placing.wanted, sizeof(*placing.handle));
	if (placing.handle == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory to map model %s",
			       model->name);
	do {
		status = try_once(&placing);
	} while (status == PS_AGAIN && placing.denial == PS_OK &&
		 placing.is_same);
	free(placing.handle);
	return status;
}
