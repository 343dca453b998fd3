/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Questions. Anybody who may connect may ask whether it serves, and for the
 * status; that waits a moment for the clients' own numbers, which are shown and
 * never used. The other questions are for the daemon's user and root.
 */
#include "poold/agent.h"

#include "base/status.h"
#include "poold/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------------ */
/* Answers                                                             */

static void look(void *owner, uint32_t slot, struct pd_client_extra *extra_out)
{
	const struct pd_agent *agent = owner;
	const struct pd_seat *seat = &agent->seats[slot];

	memset(extra_out, 0, sizeof(*extra_out));
	pd_fence_reason(seat, extra_out->reason, sizeof(extra_out->reason));
	extra_out->has_answered = seat->has_answered;
	extra_out->polled = seat->polled;
}

static const char *state(const struct pd_agent *agent)
{
	if (agent->is_lost)
		return "lost";
	if (agent->is_over)
		return "stopping";
	return agent->is_draining ? "draining" : "serving";
}

static void fill(struct pd_agent *agent, struct pd_report *report)
{
	memset(report, 0, sizeof(*report));
	report->state = state(agent);
	report->socket = agent->options->socket;
	report->limits_file = agent->options->limits;
	/* One that has not got everything yet is none. */
	report->keeper = agent->is_keeper_ready ? agent->keeper_pid : 0;
	report->uptime = (double)(agent->now_ms - agent->started_ms) / 1000;
	report->gpu = pd_gpu_uuid(agent->gpu);
	report->gpu_free = pd_gpu_free_bytes(agent->gpu);
	report->pool = pd_journal_pool(agent->journal);
	report->limits = &agent->limits;
	report->core = agent->core;
	report->counters = &agent->counters;
	pd_models_sum(agent, &report->models);
	report->look = look;
	report->owner = agent;
}

/* A text in a file, or why there is none. */
struct answer {
	enum ps_status status;
	int fd; /* -1: none */
	uint32_t bytes;
	char why[IP_TEXT_MAX + 1];
};

/* Takes @text. */
static void answer_make(struct answer *answer, char *text)
{
	answer->fd = -1;
	if (text)
		answer->status =
			pd_report_file(text, &answer->fd, &answer->bytes);
	else
		answer->status =
			bs_fail(PS_HOST_MEMORY, "no memory for the answer");
	free(text);
	snprintf(answer->why, sizeof(answer->why), "%s",
		 answer->status == PS_OK ? "" : bs_fail_text());
}

static void answer_done(struct answer *answer)
{
	if (answer->fd >= 0)
		close(answer->fd);
}

/* It may be sent to many: the file is sealed. */
static void answer_send(const struct answer *answer, struct pd_visit *visit,
			uint32_t seq)
{
	struct ip_message msg;
	int fd;

	if (answer->status != PS_OK) {
		pd_deny(visit, seq, answer->status, answer->why);
		return;
	}
	fd = fcntl(answer->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		pd_deny(visit, seq, PS_FD_LIMIT,
			"the daemon has no descriptor left for an answer; "
			"raise its limit of open files");
		return;
	}
	ip_message_init(&msg, IP_ANSWER, visit->requests.conn.minor);
	msg.body.answer.seq = seq;
	msg.body.answer.bytes = answer->bytes;
	msg.fds[0] = fd;
	msg.fd_count = 1;
	pd_send(visit, &visit->requests, &msg, true);
}

/* In messages: it is as much work as many requests. */
static int64_t cost_of_status(const struct pd_agent *agent)
{
	int64_t most = agent->limits.messages / 10;
	int64_t cost = agent->seat_count / 16;

	return cost < most ? cost : most;
}

static uint64_t clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* With many clients that takes a while, in which nobody is served: the next
 * one is made when ten times as long has passed. */
static void make_status(struct pd_agent *agent, struct answer *answer)
{
	uint64_t begin = clock_us();
	struct pd_report report;

	fill(agent, &report);
	answer_make(answer, pd_report_status(&report));
	agent->report_at_ms =
		agent->now_ms + PD_REPORT_SHARE * (clock_us() - begin) / 1000;
}

static void answer_status(struct pd_visit *visit, const struct answer *answer)
{
	struct pd_agent *agent = visit->agent;
	uint32_t seq = visit->asked;

	visit->asked = 0;
	agent->asks_open--;
	visit->tokens -= cost_of_status(agent);
	answer_send(answer, visit, seq);
}

static void answer_command(struct pd_visit *visit, uint32_t seq)
{
	struct pd_report report;
	struct answer answer;

	fill(visit->agent, &report);
	answer_make(&answer, pd_report_done(&report));
	answer_send(&answer, visit, seq);
	answer_done(&answer);
}

static void answer_models(struct pd_visit *visit, uint32_t seq)
{
	struct answer answer;

	visit->tokens -= cost_of_status(visit->agent);
	answer_make(&answer, pd_models_report(visit));
	answer_send(&answer, visit, seq);
	answer_done(&answer);
}

/* ------------------------------------------------------------------ */
/* The clients' own numbers                                            */

static void poll_one(struct pd_agent *agent, struct pd_visit *visit)
{
	struct ip_message msg;

	if (visit->slot == PD_NO_CLIENT || visit->is_doomed)
		return;
	agent->seats[visit->slot].has_answered = false;
	/* One that has not answered the last one is not asked again. */
	if (visit->is_polled)
		return;
	visit->is_polled = true;
	agent->polls_open++;
	ip_message_init(&msg, IP_POLL, visit->events.conn.minor);
	msg.body.number.seq = ++visit->polled;
	pd_send(visit, &visit->events, &msg, true);
}

static void ask_clients(struct pd_agent *agent)
{
	for (struct pd_visit *visit = agent->visits; visit; visit = visit->next)
		poll_one(agent, visit);
}

enum ps_status pd_polled(struct pd_visit *visit, const struct ip_polled *polled)
{
	struct pd_seat *seat = &visit->agent->seats[visit->slot];

	if (!visit->is_polled || polled->seq != visit->polled)
		return bs_fail(PS_PROTOCOL,
			       "POLLED: number %u was not asked for, the last "
			       "was %u",
			       polled->seq, visit->polled);
	visit->is_polled = false;
	visit->agent->polls_open--;
	seat->has_answered = true;
	seat->polled = *polled;
	return PS_OK;
}

void pd_asks_forget(struct pd_visit *visit)
{
	if (visit->is_polled)
		visit->agent->polls_open--;
	visit->is_polled = false;
	if (visit->asked)
		visit->agent->asks_open--;
	visit->asked = 0;
}

uint64_t pd_ask_due_ms(const struct pd_visit *visit)
{
	const struct pd_agent *agent = visit->agent;
	uint64_t at = agent->polls_open > 0 ? visit->ask_deadline_ms : 1;

	if (visit->asked == 0)
		return 0;
	return at > agent->report_at_ms ? at : agent->report_at_ms;
}

/* All who waited long enough get the same one. */
void pd_asks_turn(struct pd_agent *agent)
{
	struct answer answer = { .fd = -1 };
	bool is_made = false;

	if (agent->asks_open == 0)
		return;
	pd_unschedule(agent);
	if (agent->now_ms < agent->report_at_ms)
		return;
	for (struct pd_visit *visit = agent->visits; visit;
	     visit = visit->next) {
		if (!visit->asked || visit->is_doomed ||
		    (agent->polls_open > 0 &&
		     agent->now_ms < visit->ask_deadline_ms))
			continue;
		if (!is_made)
			make_status(agent, &answer);
		is_made = true;
		answer_status(visit, &answer);
	}
	answer_done(&answer);
}

/* ------------------------------------------------------------------ */
/* Questions                                                           */

static enum ps_status ask_status(struct pd_visit *visit, uint32_t seq)
{
	struct pd_agent *agent = visit->agent;

	if (visit->asked)
		return bs_fail(PS_PROTOCOL,
			       "ASK: question %u of this connection is not "
			       "answered yet",
			       visit->asked);
	visit->asked = seq;
	agent->asks_open++;
	visit->ask_deadline_ms = agent->now_ms + PD_POLL_MS;
	pd_schedule(agent, visit->ask_deadline_ms);
	ask_clients(agent);
	return PS_OK;
}

bool pd_is_master(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

static void command(struct pd_visit *visit, const struct ip_ask *ask)
{
	struct pd_agent *agent = visit->agent;
	enum ps_status status = PS_OK;

	pd_log(PD_NOTICE, "asked to %s pid %d uid %u",
	       ask->question == IP_ASK_DRAIN    ? "drain"
	       : ask->question == IP_ASK_RELOAD ? "reload"
						: "shut down",
	       (int)visit->requests.conn.peer_pid,
	       (unsigned int)visit->requests.conn.peer_uid);
	if (ask->question == IP_ASK_DRAIN) {
		pd_agent_drain(agent);
		pd_keeper_note(agent, IP_NOTICE_DRAIN, 0);
	} else if (ask->question == IP_ASK_RELOAD) {
		status = pd_agent_reload(agent);
	} else {
		pd_agent_finish(agent, 0);
	}
	if (status == PS_OK)
		answer_command(visit, ask->seq);
	else
		pd_deny(visit, ask->seq, status, bs_fail_text());
}

enum ps_status pd_ask(struct pd_visit *visit, const struct ip_ask *ask)
{
	/* Somebody who asks again and again is not idle. */
	if (visit->slot == PD_NO_CLIENT && !visit->has_left) {
		visit->deadline_ms = visit->agent->now_ms + PD_VISIT_IDLE_MS;
		pd_unschedule(visit->agent);
	}
	if (ask->question == IP_ASK_STATUS)
		return ask_status(visit, ask->seq);
	if (ask->question == IP_ASK_PRESENCE)
		answer_command(visit, ask->seq);
	else if (ask->question == IP_ASK_MODELS)
		answer_models(visit, ask->seq);
	else if (pd_is_master(visit->requests.conn.peer_uid))
		command(visit, ask);
	else
		pd_deny(visit, ask->seq, PS_PERMISSION,
			"this question is for the daemon's user and for root");
	return PS_OK;
}
