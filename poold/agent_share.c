/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Descriptors that a client asks for, and tickets by which one client opens
 * what another has leased. What is in a ticket is believed when the MAC is
 * ours; whether it is still good is the core's to say.
 *
 * Invariant: the journal says who may have a segment before its descriptor
 * leaves.
 */
#include "poold/agent.h"

#include "base/status.h"
#include "poold/ticket.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ */
/* Descriptors                                                         */

static bool has_fds(const struct pd_visit *visit, const struct ip_need *need)
{
	for (uint32_t i = 0; i < need->count; i++) {
		if (pd_gpu_fd(visit->agent->gpu, need->first + i) < 0)
			return false;
	}
	return true;
}

static void send_part(struct pd_visit *visit, const struct ip_need *need,
		      bool is_writable)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_PART, visit->requests.conn.minor);
	msg.body.part.seq = need->seq;
	msg.body.part.first = need->first;
	msg.body.part.count = need->count;
	msg.body.part.write = is_writable;
	for (uint32_t i = 0; i < need->count; i++)
		msg.fds[msg.fd_count++] =
			pd_gpu_fd(visit->agent->gpu, need->first + i);
	pd_send(visit, &visit->requests, &msg, false);
}

/* What a client has to use as it likes is no model's from then on. */
static enum ps_status give_away(struct pd_agent *agent,
				const struct ip_need *need)
{
	const struct pd_pool_record *pool = pd_journal_pool(agent->journal);
	uint64_t parameters = pool->parameter_bytes / pool->segment_bytes;

	for (uint32_t i = need->first; i < need->first + need->count; i++) {
		if (i < parameters && !pd_models_give_away(agent, i))
			return bs_fail(PS_REFUSED,
				       "parameter segment %u is a model's; "
				       "attach to the model",
				       i);
	}
	return PS_OK;
}

void pd_need(struct pd_visit *visit, const struct ip_need *need)
{
	struct pd_agent *agent = visit->agent;
	bool is_writable = false;
	enum ps_status status;

	status = pd_core_need(agent->core, visit->slot, need, &is_writable);
	if (status == PS_OK && !has_fds(visit, need))
		status = bs_fail(PS_AGAIN, "a segment is being made anew; try "
					   "again");
	if (status == PS_OK)
		status = give_away(agent, need);
	if (status == PS_OK && (need->flags & IP_NEED_EXPORT))
		status = pd_core_export(agent->core, visit->slot, need->first);
	if (status == PS_OK)
		send_part(visit, need, is_writable);
	else
		pd_deny(visit, need->seq, status, bs_fail_text());
}

/* ------------------------------------------------------------------ */
/* Tickets                                                             */

void pd_issue(struct pd_visit *visit, const struct ip_issue *issue)
{
	const struct pd_agent *agent = visit->agent;
	const struct pd_pool_record *pool = pd_journal_pool(agent->journal);
	struct pd_grant_of grant;
	struct ip_message msg;
	enum ps_status status;

	status = pd_core_issue(agent->core, visit->slot, issue, &grant);
	if (status != PS_OK) {
		pd_deny(visit, issue->seq, status, bs_fail_text());
		return;
	}
	ip_message_init(&msg, IP_TICKET, visit->requests.conn.minor);
	msg.body.ticket.seq = issue->seq;
	pd_ticket_write(pool->key, pool->id, &grant, msg.body.ticket.ticket);
	pd_send(visit, &visit->requests, &msg, true);
}

static enum ps_status open_one(struct pd_visit *visit,
			       const struct ip_ticket *ticket,
			       uint32_t *segments)
{
	const struct pd_agent *agent = visit->agent;
	const struct pd_pool_record *pool = pd_journal_pool(agent->journal);
	struct pd_grant_of grant;
	enum ps_status status;
	uint32_t count = 0;

	status = pd_ticket_read(pool->key, pool->id, ticket->ticket, &grant);
	if (status == PS_OK)
		status = pd_core_open(agent->core, visit->slot, &grant,
				      segments, &count);
	if (status == PS_OK)
		pd_send_opened(visit, ticket->seq, &grant, segments, count);
	return status;
}

void pd_open(struct pd_visit *visit, const struct ip_ticket *ticket)
{
	uint32_t room = pd_journal_pool(visit->agent->journal)->segments;
	uint32_t *segments = calloc(room, sizeof(*segments));
	enum ps_status status;

	status = segments ? open_one(visit, ticket, segments)
			  : bs_fail(PS_HOST_MEMORY,
				    "no memory to list %u segments", room);
	free(segments);
	if (status != PS_OK)
		pd_deny(visit, ticket->seq, status, bs_fail_text());
}

enum ps_status pd_close(struct pd_visit *visit, const struct ip_list *list)
{
	struct pd_agent *agent = visit->agent;
	enum ps_status status;

	status = pd_core_close(agent->core, visit->slot, list, agent->now_ms);
	if (status == PS_OK)
		pd_did(visit, list->seq);
	return status;
}
