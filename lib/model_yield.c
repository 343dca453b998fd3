/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon asks for a model (YIELD): on the service thread, which waits for
 * nobody that waits for the daemon. It knows nothing of streams that it was
 * not told of: it looks at the fences of the runs that were released.
 */
#include "lib/model.h"

/* With the lock; NULL: none, or another one of that number. */
static struct ps_model *find_asked(const struct lb_models *models,
				   uint32_t number, uint32_t serial)
{
	struct ps_model *model = models->first;

	while (model != NULL &&
	       (model->number != number || model->serial != serial))
		model = model->next;
	return model;
}

/* Whether the daemon may not have it. What it says is BUSY may be under way to
 * a thread of ours. With the lock. */
static bool is_busy(struct ps_model *model)
{
	if (!model->is_asking)
		lb_model_clear_word(model);
	return model->is_held ||
	       __atomic_load_n(lb_model_word(model), __ATOMIC_SEQ_CST) ==
		       IP_USE_BUSY;
}

/* What is still owed is owed with this. With the lock. */
static void note_yield(struct ps_model *model, struct ip_yield *yield,
		       bool busy)
{
	if (model->owes)
		yield->flags |= model->yield.flags;
	model->is_right = model->is_right && busy;
	model->owes = busy;
	model->yield = *yield;
}

/* What the driver does not unmap is still owed, and tried again. */
static enum ip_yielded_state give_up(struct ps_model *model,
				     struct ip_yield *yield)
{
	struct lb_models *models = model->models;
	bool busy, unmaps;

	lb_model_reap(model, false);
	bs_lock_take(&models->lock);
	busy = is_busy(model);
	note_yield(model, yield, busy);
	unmaps = model->place != 0 && (yield->flags & IP_YIELD_UNMAP) != 0;
	bs_lock_drop(&models->lock);
	if (busy)
		return IP_YIELDED_BUSY;
	if (!unmaps || lb_model_unmap(model) == PS_OK)
		return IP_YIELDED_IDLE;
	bs_lock_take(&models->lock);
	model->owes = true;
	bs_lock_drop(&models->lock);
	return IP_YIELDED_BUSY;
}

/* With the turn nobody has it placed meanwhile, nor detaches from it. */
static enum ip_yielded_state answer(struct lb_lease *lease,
				    struct ip_yield *yield)
{
	enum ip_yielded_state state = IP_YIELDED_IDLE;
	struct ps_model *model;

	lb_turn_take(lease->pool);
	bs_lock_take(&lease->models->lock);
	model = find_asked(lease->models, yield->model, yield->serial);
	bs_lock_drop(&lease->models->lock);
	if (model != NULL)
		state = give_up(model, yield);
	lb_turn_give(lease->pool);
	return state;
}

enum ip_yielded_state lb_model_yield(struct lb_lease *lease,
				     const struct ip_yield *yield)
{
	struct ip_yield mine = *yield;

	return answer(lease, &mine);
}

/* Of those that owe, the one with the next number from @from on. */
static bool find_owing(struct lb_models *models, uint32_t from,
		       struct ip_yield *yield_out)
{
	bool found = false;

	bs_lock_take(&models->lock);
	for (struct ps_model *m = models->first; m != NULL; m = m->next) {
		if (!m->owes || m->number < from ||
		    (found && m->number > yield_out->model))
			continue;
		*yield_out = m->yield;
		found = true;
	}
	bs_lock_drop(&models->lock);
	return found;
}

bool lb_model_find_yielded(struct lb_lease *lease,
			   struct ip_yielded *yielded_out)
{
	struct ip_yield yield;
	uint32_t from = 0;

	while (find_owing(lease->models, from, &yield)) {
		if (answer(lease, &yield) == IP_YIELDED_IDLE) {
			*yielded_out = (struct ip_yielded){
				.seq = yield.seq,
				.model = yield.model,
				.serial = yield.serial,
				.state = IP_YIELDED_IDLE,
			};
			return true;
		}
		from = yield.model + 1;
	}
	return false;
}

/* A fence says nothing when it passes; a use that is left ends with a call. */
int lb_model_patience_ms(struct lb_lease *lease)
{
	struct lb_models *models = lease->models;
	int patience = -1;

	bs_lock_take(&models->lock);
	for (struct ps_model *m = models->first; m != NULL; m = m->next)
		if (m->owes && m->uses == 0 && !m->is_asking)
			patience = 1;
	bs_lock_drop(&models->lock);
	return patience;
}

void lb_model_forget_yields(struct lb_lease *lease)
{
	struct lb_models *models = lease->models;

	bs_lock_take(&models->lock);
	for (struct ps_model *m = models->first; m != NULL; m = m->next)
		m->owes = false;
	bs_lock_drop(&models->lock);
}
