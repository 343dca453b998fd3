/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the core wants done: to clients and to the GPU, and what comes of it. */
#include "poold/agent.h"

#include "base/status.h"
#include "poold/log.h"

#include <errno.h>
#include <unistd.h>

/* NULL: it is not here. */
static struct pd_visit *visit_at(const struct pd_agent *agent, uint32_t slot)
{
	return slot < agent->seat_count ? agent->seats[slot].visit : NULL;
}

/* ------------------------------------------------------------------ */
/* To clients                                                          */

static void grant(void *owner, uint32_t slot, uint32_t seq,
		  const uint32_t *segments, uint32_t count)
{
	struct pd_visit *visit = visit_at(owner, slot);

	if (visit)
		pd_send_list(visit, IP_GRANT, seq, 0, segments, count);
}

static void grant_outside(void *owner, uint32_t slot, uint32_t seq,
			  const uint32_t *segments, uint32_t count)
{
	struct pd_visit *visit = visit_at(owner, slot);

	if (visit)
		pd_send_list(visit, IP_GRANT, seq, IP_LIST_OUTSIDE, segments,
			     count);
}

/* Its program gets an error without numbers: they are here. */
static void log_denied(struct pd_agent *agent, uint32_t slot, const char *text)
{
	struct pd_client_view view;

	if (!pd_core_client(agent->core, slot, &view) ||
	    !pd_may_log(agent, &agent->denials))
		return;
	pd_log(PD_NOTICE, "memory refused name \"%.*s\" pid %d uid %u: %s",
	       (int)sizeof(view.record.name), view.record.name,
	       (int)view.record.pid, (unsigned int)view.record.uid, text);
}

static void deny(void *owner, uint32_t slot, uint32_t seq,
		 enum ps_status status, const char *text)
{
	struct pd_visit *visit = visit_at(owner, slot);

	if (status == PS_OUT_OF_MEMORY)
		log_denied(owner, slot, text);
	if (visit)
		pd_deny(visit, seq, status, text);
}

static void recall(void *owner, uint32_t slot, uint32_t seq, uint32_t count,
		   uint32_t deadline_ms)
{
	struct pd_visit *visit = visit_at(owner, slot);
	struct ip_message msg;

	if (!visit)
		return;
	if (seq > visit->recalled)
		visit->recalled = seq;
	ip_message_init(&msg, IP_RECALL, visit->events.conn.minor);
	msg.body.recall.seq = seq;
	msg.body.recall.count = count;
	msg.body.recall.deadline_ms = deadline_ms;
	pd_send(visit, &visit->events, &msg, true);
}

/* ------------------------------------------------------------------ */
/* To the GPU                                                          */

static void scrub(void *owner, uint32_t segment)
{
	struct pd_agent *agent = owner;

	pd_gpu_scrub(agent->gpu, segment);
}

/* Without a keeper they wait for the next one's start. */
static void send_drops(struct pd_agent *agent)
{
	uint32_t segments = pd_journal_pool(agent->journal)->segments;

	while (agent->has_link && agent->drops > 0 &&
	       agent->drops_open < PD_DROPS_AT_ONCE) {
		uint32_t segment = agent->to_drop[agent->drop_first];

		agent->drop_first = (agent->drop_first + 1) % segments;
		agent->drops--;
		agent->drops_open++;
		pd_keeper_drop(agent, IP_PIECE_SEGMENTS, segment);
	}
}

/* The driver destroys memory when the last descriptor is gone: ours first,
 * then the keeper's, then the mapping and the handle. */
static void drop(struct pd_agent *agent, uint32_t segment, enum pd_dropping why)
{
	uint32_t segments = pd_journal_pool(agent->journal)->segments;

	pd_gpu_drop_fd(agent->gpu, segment);
	agent->dropping[segment] = (uint8_t)why;
	agent->to_drop[(agent->drop_first + agent->drops++) % segments] =
		segment;
	send_drops(agent);
}

void pd_agent_remake(struct pd_agent *agent, uint32_t segment)
{
	drop(agent, segment, PD_DROP_TO_REMAKE);
}

static void remake(void *owner, uint32_t segment)
{
	pd_agent_remake(owner, segment);
}

static void vacate(void *owner, uint32_t segment)
{
	drop(owner, segment, PD_DROP_TO_VACATE);
}

static void has_dropped(struct pd_agent *agent, uint32_t segment)
{
	enum pd_dropping why = (enum pd_dropping)agent->dropping[segment];

	agent->dropping[segment] = PD_NOT_DROPPING;
	if (why == PD_DROP_TO_VACATE)
		pd_gpu_vacate(agent->gpu, segment);
	else
		pd_gpu_remake(agent->gpu, segment);
}

void pd_segment_dropped(struct pd_agent *agent, uint32_t segment)
{
	if (segment >= pd_journal_pool(agent->journal)->segments ||
	    !agent->dropping[segment] || agent->drops_open == 0)
		return;
	agent->drops_open--;
	has_dropped(agent, segment);
	send_drops(agent);
}

void pd_segments_dropped(struct pd_agent *agent)
{
	uint32_t segments = pd_journal_pool(agent->journal)->segments;

	agent->drops = 0;
	agent->drops_open = 0;
	for (uint32_t i = 0; i < segments; i++) {
		if (agent->dropping[i])
			has_dropped(agent, i);
	}
}

static void arm(void *owner, uint64_t at_ms)
{
	struct pd_agent *agent = owner;

	agent->core_at_ms = at_ms;
}

const struct pd_core_ops pd_agent_ops = {
	.grant = grant,
	.deny = deny,
	.recall = recall,
	.scrub = scrub,
	.remake = remake,
	.arm = arm,
	.vacate = vacate,
	.grant_outside = grant_outside,
};

/* ------------------------------------------------------------------ */
/* What came of it                                                     */

static void tell_lost(struct pd_visit *visit)
{
	struct ip_message msg;

	if (visit->slot == PD_NO_CLIENT)
		return;
	ip_message_init(&msg, IP_LOST, visit->events.conn.minor);
	msg.body.number.seq = 1;
	pd_send(visit, &visit->events, &msg, true);
}

void pd_agent_lose(struct pd_agent *agent, const char *text)
{
	if (agent->is_lost)
		return;
	agent->is_lost = true;
	pd_log(PD_ERROR, "gpu lost: %s", text);
	pd_core_lose(agent->core);
	pd_models_lose(agent);
	for (struct pd_visit *visit = agent->visits; visit; visit = visit->next)
		tell_lost(visit);
	pd_keeper_note(agent, IP_NOTICE_LOST, 0);
	pd_agent_finish(agent, pd_exit_status(PS_DEVICE_LOST));
}

static bool is_parameter(const struct pd_agent *agent, uint32_t segment)
{
	const struct pd_pool_record *pool = pd_journal_pool(agent->journal);

	return segment < pool->parameter_bytes / pool->segment_bytes;
}

static void has_remade(struct pd_agent *agent, const struct pd_done *done)
{
	enum ps_status status = done->status;

	/* What the keeper does not hold is nobody's: made again later. */
	if (status == PS_OK)
		status = pd_keeper_keep(agent, IP_PIECE_SEGMENTS, done->segment,
					pd_gpu_fd(agent->gpu, done->segment));
	if (is_parameter(agent, done->segment))
		pd_models_remade(agent, done->segment, status);
	else
		pd_core_remade(agent->core, done->segment, status,
			       agent->now_ms);
}

static const char *job_name(enum pd_job job)
{
	switch (job) {
	case PD_JOB_SCRUB:
		return "scrub";
	case PD_JOB_REMAKE:
		return "remake";
	case PD_JOB_VACATE:
		return "vacate";
	}
	return "job";
}

static void apply(struct pd_agent *agent, const struct pd_done *done)
{
	if (done->status == PS_DEVICE_LOST) {
		pd_agent_lose(agent, done->text);
		return;
	}
	if (done->status != PS_OK)
		pd_log(PD_WARNING, "%s failed segment %u: %s",
		       job_name(done->job), done->segment, done->text);
	if (done->job == PD_JOB_REMAKE)
		has_remade(agent, done);
	else if (done->job == PD_JOB_VACATE)
		pd_core_vacated(agent->core, done->segment, done->status,
				agent->now_ms);
	else
		pd_core_scrubbed(agent->core, done->segment, done->status,
				 agent->now_ms);
}

void pd_gpu_ready(struct pd_agent *agent)
{
	struct pd_done done;

	while (!agent->is_lost && pd_gpu_take_done(agent->gpu, &done))
		apply(agent, &done);
}
