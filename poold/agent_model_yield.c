/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who is asked to let a model go, or to unmap it, and who does not answer. A
 * client says BUSY at once and IDLE when it can; one that says nothing by its
 * deadline is deaf: it is reported, and killed where that is the policy. One
 * that is away is asked when it comes back, by the same deadline.
 */
#include "poold/agent_models.h"

#include "base/status.h"
#include "poold/log.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

/* ------------------------------------------------------------------ */
/* Asking                                                              */

static void keep_soonest(struct pd_models *models, uint64_t at_ms)
{
	if (at_ms && (!models->deaf_at_ms || at_ms < models->deaf_at_ms))
		models->deaf_at_ms = at_ms;
}

/* NULL: it cannot be asked now. */
static struct pd_visit *visit_of(const struct pd_models *models,
				 const struct pd_member *member)
{
	struct pd_visit *visit = models->agent->seats[member->slot].visit;

	return visit && visit->has_joined ? visit : NULL;
}

static void send_yield(struct pd_models *models, struct pd_visit *visit,
		       struct pd_bond *bond, uint64_t ms)
{
	struct pd_model_record record;
	struct ip_message msg;

	if (!pd_model_record(models, bond->model, 0, &record))
		return;
	bond->yield_seq = ++visit->yields;
	bond->is_wanted = false;
	bond->is_placed_since = false;
	ip_message_init(&msg, IP_YIELD, visit->events.conn.minor);
	msg.body.yield.seq = bond->yield_seq;
	msg.body.yield.flags = bond->yield_flags;
	msg.body.yield.model = bond->model;
	msg.body.yield.serial = record.serial;
	msg.body.yield.deadline_ms = (uint32_t)ms;
	pd_send(visit, &visit->events, &msg, true);
}

/* One that was asked already is not asked again, unless it is for more. */
static void ask(struct pd_models *models, struct pd_bond *bond, uint32_t flags,
		uint32_t deadline_ms)
{
	struct pd_visit *visit = visit_of(models, bond->member);
	bool is_asked = bond->yield_seq || bond->is_wanted;

	if (is_asked && (bond->yield_flags & flags) == flags &&
	    !bond->is_placed_since)
		return;
	bond->yield_flags = is_asked ? bond->yield_flags | flags : flags;
	bond->is_deaf = false;
	bond->deaf_at_ms = models->agent->now_ms + deadline_ms;
	keep_soonest(models, bond->deaf_at_ms);
	if (visit)
		send_yield(models, visit, bond, deadline_ms);
	else
		bond->is_wanted = true;
}

/* They are awaited: then they are asked. */
static void await_unheard(struct pd_models *models, uint32_t deadline_ms)
{
	if (models->unheard == 0)
		return;
	for (struct pd_member *member = models->members; member;
	     member = member->next) {
		if (member->page || member->deaf_at_ms || member->is_deaf)
			continue;
		member->deaf_at_ms = models->agent->now_ms + deadline_ms;
		keep_soonest(models, member->deaf_at_ms);
	}
}

bool pd_yield(void *owner, uint32_t model, uint32_t deadline_ms)
{
	struct pd_models *models = owner;
	bool is_used = models->unheard > 0;

	await_unheard(models, deadline_ms);
	for (struct pd_bond *bond = models->model[model].bonds; bond;
	     bond = bond->next_of_model) {
		pd_bond_take_back(bond);
		if (!pd_bond_is_busy(bond))
			continue;
		is_used = true;
		ask(models, bond, 0, deadline_ms);
	}
	return is_used;
}

void pd_yield_again(struct pd_models *models, struct pd_member *member)
{
	uint64_t now_ms = models->agent->now_ms;
	struct pd_visit *visit = visit_of(models, member);

	for (struct pd_bond *bond = member->bonds; visit && bond;
	     bond = bond->next) {
		if (!bond->is_wanted)
			continue;
		send_yield(models, visit, bond,
			   bond->deaf_at_ms > now_ms ? bond->deaf_at_ms - now_ms
						     : 0);
	}
}

void pd_yield_later(struct pd_member *member)
{
	for (struct pd_bond *bond = member->bonds; bond; bond = bond->next) {
		if (bond->yield_seq)
			bond->is_wanted = true;
		bond->yield_seq = 0;
	}
}

/* ------------------------------------------------------------------ */
/* Remaking                                                            */

static bool has_mapped(const struct pd_bond *bond, uint32_t segment)
{
	for (uint32_t i = 0; i < bond->mapped_count; i++) {
		if (bond->mapped[i] == segment)
			return true;
	}
	return bond->place == PD_PLACE_UNKNOWN;
}

/* Whether anybody has it mapped, under whatever model; they are asked. */
static bool is_mapped(struct pd_models *models, uint32_t segment)
{
	uint32_t yield_ms = models->agent->options->yield_ms;
	bool found = models->unheard > 0;

	await_unheard(models, yield_ms);
	for (struct pd_member *member = models->members; member;
	     member = member->next) {
		for (struct pd_bond *bond = member->bonds; bond;
		     bond = bond->next) {
			if (!has_mapped(bond, segment))
				continue;
			found = true;
			ask(models, bond, IP_YIELD_UNMAP, yield_ms);
		}
	}
	return found;
}

/* Also when it looked as if nobody had it: memory that somebody has mapped
 * still is not free, says the driver, and the remake fails. */
static void remake_if_free(struct pd_models *models, uint32_t segment)
{
	if (is_mapped(models, segment))
		return;
	models->to_remake[segment] = 0;
	models->remakes--;
	pd_agent_remake(models->agent, segment);
}

void pd_remake(void *owner, uint32_t segment)
{
	struct pd_models *models = owner;

	models->remakes += !models->to_remake[segment];
	models->to_remake[segment] = 1;
	remake_if_free(models, segment);
}

void pd_remakes_review(struct pd_models *models)
{
	uint32_t count = pd_parameters(models);

	models->is_review_due = false;
	for (uint32_t i = 0; i < count && models->remakes > 0; i++) {
		if (models->to_remake[i])
			remake_if_free(models, i);
	}
}

/* ------------------------------------------------------------------ */
/* Answers                                                             */

static void let_go(struct pd_models *models, struct pd_bond *bond)
{
	bool is_unmapped =
		(bond->yield_flags & IP_YIELD_UNMAP) && !bond->is_placed_since;

	bond->yield_seq = 0;
	bond->yield_flags = 0;
	pd_bond_take_back(bond);
	if (is_unmapped)
		pd_bond_place(bond, 0, NULL, 0);
	models->is_review_due = true;
	pd_store_yielded(models->store, bond->model, models->agent->now_ms);
}

enum ps_status pd_models_yielded(struct pd_visit *visit,
				 const struct ip_yielded *yielded)
{
	struct pd_models *models = visit->agent->models;
	struct pd_bond *bond;

	if (yielded->seq == 0 || yielded->seq > visit->yields)
		return bs_fail(PS_PROTOCOL,
			       "YIELDED: number %" PRIu32 " was not asked for, "
			       "the last was %" PRIu32,
			       yielded->seq, visit->yields);
	if (yielded->model >= IP_MODELS_MAX)
		return bs_fail(PS_PROTOCOL,
			       "YIELDED: there is no model %" PRIu32,
			       yielded->model);
	bond = pd_bond_find(models, visit->slot, yielded->model);
	/* It may have been dropped, or asked again, meanwhile. */
	if (!bond || bond->yield_seq != yielded->seq)
		return PS_OK;
	bond->deaf_at_ms = 0;
	bond->is_deaf = false;
	if (yielded->state == IP_YIELDED_IDLE)
		let_go(models, bond);
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* Those who do not                                                    */

static void report_deaf(struct pd_models *models, uint32_t slot,
			const char *model)
{
	const struct pd_agent *agent = models->agent;
	const struct pd_seat *seat = &agent->seats[slot];
	struct pd_client_view view;

	models->deaf++;
	if (seat->is_dead || !pd_core_client(agent->core, slot, &view))
		return;
	pd_log(PD_WARNING,
	       "client does not let go name \"%.*s\" pid %d slot %u model "
	       "\"%s\" kill %d",
	       (int)sizeof(view.record.name), view.record.name,
	       (int)view.record.pid, slot, model,
	       (int)agent->options->stops_deaf);
	if (agent->options->stops_deaf && agent->holdings.pidfd[slot] >= 0)
		syscall(SYS_pidfd_send_signal, agent->holdings.pidfd[slot],
			SIGKILL, NULL, 0);
}

static void look_at_bond(struct pd_models *models, struct pd_bond *bond)
{
	struct pd_model_record record;

	if (bond->deaf_at_ms == 0)
		return;
	if (bond->deaf_at_ms > models->agent->now_ms) {
		keep_soonest(models, bond->deaf_at_ms);
		return;
	}
	bond->deaf_at_ms = 0;
	bond->is_deaf = true;
	if (pd_model_record(models, bond->model, 0, &record))
		report_deaf(models, bond->member->slot, record.name);
	pd_store_yielded(models->store, bond->model, models->agent->now_ms);
}

static void look_at_member(struct pd_models *models, struct pd_member *member)
{
	if (member->deaf_at_ms == 0 || member->page)
		return;
	if (member->deaf_at_ms > models->agent->now_ms) {
		keep_soonest(models, member->deaf_at_ms);
		return;
	}
	member->deaf_at_ms = 0;
	member->is_deaf = true;
	report_deaf(models, member->slot, "");
}

void pd_yield_tick(struct pd_models *models)
{
	if (models->deaf_at_ms == 0 ||
	    models->deaf_at_ms > models->agent->now_ms)
		return;
	models->deaf_at_ms = 0;
	for (struct pd_member *member = models->members; member;
	     member = member->next) {
		look_at_member(models, member);
		for (struct pd_bond *bond = member->bonds; bond;
		     bond = bond->next)
			look_at_bond(models, bond);
	}
}
