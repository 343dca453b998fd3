/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The agent's side of the other half: it is told what it must hold, and
 * started anew when it dies. */
#include "poold/agent.h"

#include "base/status.h"
#include "poold/log.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define FIRST_REST_MS 100u
#define LONGEST_REST_MS 10000u
#define TRIES 3u

/* ------------------------------------------------------------------ */
/* Losing it                                                           */

/* The link is of no use any more. A keeper that still lives hangs: it holds
 * what the next one must have alone. */
static void lose_link(struct pd_agent *agent)
{
	if (!agent->has_link)
		return;
	agent->has_link = false;
	agent->is_keeper_ready = false;
	pd_source_close(agent, &agent->link_source);
	agent->keeper_at_ms = agent->now_ms;
	if (agent->keeper.fd < 0)
		return;
	syscall(SYS_pidfd_send_signal, agent->keeper.fd, SIGKILL, NULL, 0);
	/* Where its end cannot be watched it is asked for. */
	agent->keeper_at_ms =
		agent->keeper.is_watched ? 0 : agent->now_ms + PD_REST_MS;
}

/* True: once more. The kernel may be short of memory for a moment, which is
 * no reason to do without a keeper that is well. */
static bool is_to_repeat(struct pd_agent *agent, enum ps_status status,
			 unsigned int *tries)
{
	if (status == PS_SYSTEM && ++*tries < TRIES)
		return true;
	if (status != PS_OK) {
		pd_log(PD_WARNING, "keeper cannot be told: %s", bs_fail_text());
		lose_link(agent);
	}
	return false;
}

enum ps_status pd_keeper_keep(struct pd_agent *agent, enum ip_piece_kind kind,
			      uint32_t number, int fd)
{
	enum ps_status status;
	unsigned int tries = 0;

	do {
		if (!agent->has_link)
			return PS_OK;
		status = pd_tell_keep(&agent->link, kind, number, fd);
		/* Clients that do not read have all that this user may send;
		 * another keeper could be sent none either. */
		if (status == PS_FD_LIMIT)
			return status;
	} while (is_to_repeat(agent, status, &tries));
	return PS_OK;
}

void pd_keeper_drop(struct pd_agent *agent, enum ip_piece_kind kind,
		    uint32_t number)
{
	unsigned int tries = 0;

	while (agent->has_link &&
	       is_to_repeat(agent, pd_tell_drop(&agent->link, kind, number),
			    &tries))
		;
}

void pd_keeper_note(struct pd_agent *agent, enum ip_notice notice,
		    uint32_t value)
{
	unsigned int tries = 0;

	while (agent->has_link &&
	       is_to_repeat(agent, pd_tell_note(&agent->link, notice, value),
			    &tries))
		;
}

/* ------------------------------------------------------------------ */
/* What it says                                                        */

static void reload(struct pd_agent *agent)
{
	if (pd_agent_reload(agent) != PS_OK)
		pd_log(PD_ERROR, "limits stay as they were: %s",
		       bs_fail_text());
}

static void heed(struct pd_agent *agent, const struct ip_note *note)
{
	switch (note->notice) {
	case IP_NOTICE_READY:
		/* It has everything: if it dies now, that is another matter. */
		agent->is_keeper_ready = true;
		agent->keeper_failures = 0;
		agent->keeper_at_ms = 0;
		break;
	case IP_NOTICE_DRAIN:
		pd_agent_drain(agent);
		break;
	case IP_NOTICE_STOP:
		pd_agent_finish(agent, 0);
		break;
	case IP_NOTICE_RELOAD:
		reload(agent);
		break;
	case IP_NOTICE_DROPPED:
		pd_segment_dropped(agent, note->value);
		break;
	default:
		break;
	}
}

void pd_keeper_link_ready(struct pd_agent *agent)
{
	enum ps_status status = PS_OK;
	struct ip_message msg;

	while (agent->has_link && status == PS_OK) {
		status = ip_conn_try_receive(&agent->link, &msg);
		if (status != PS_OK)
			break;
		if (msg.type == IP_NOTE)
			heed(agent, &msg.body.note);
		ip_message_done(&msg);
	}
	if (status == PS_OK || status == PS_AGAIN)
		return;
	pd_log(PD_WARNING, "keeper is gone: %s", bs_fail_text());
	lose_link(agent);
}

/* ------------------------------------------------------------------ */
/* Another one                                                         */

static void rest(struct pd_agent *agent)
{
	uint64_t ms = FIRST_REST_MS;

	for (unsigned int i = 0; i < agent->keeper_failures; i++) {
		if (ms < LONGEST_REST_MS)
			ms *= 2;
	}
	agent->keeper_failures++;
	agent->keeper_at_ms =
		agent->now_ms + (ms < LONGEST_REST_MS ? ms : LONGEST_REST_MS);
}

void pd_keeper_ended(struct pd_agent *agent)
{
	siginfo_t info;

	if (agent->keeper.fd < 0 || !pd_pidfd_has_ended(agent->keeper.fd))
		return;
	/* All that it has said counts. */
	pd_keeper_link_ready(agent);
	lose_link(agent);
	if (agent->is_our_child)
		waitid((idtype_t)P_PIDFD, (id_t)agent->keeper.fd, &info,
		       WEXITED | WNOHANG);
	pd_source_close(agent, &agent->keeper);
	agent->keeper_pid = 0;
	if (agent->keeper_failures == 0)
		agent->keeper_at_ms = agent->now_ms;
	else
		rest(agent);
}

static void lend_segments(struct pd_agent *agent, bool is_lent)
{
	struct pd_holdings *holdings = &agent->holdings;

	for (uint32_t i = 0; i < holdings->segments; i++)
		holdings->segment[i] = is_lent && !agent->dropping[i]
					       ? pd_gpu_fd(agent->gpu, i)
					       : -1;
	holdings->journal = is_lent ? pd_journal_fd(agent->journal) : -1;
}

static enum ps_status give_all(struct pd_agent *agent)
{
	enum ps_status status;

	lend_segments(agent, true);
	status = pd_hand_over(&agent->link, &agent->holdings);
	lend_segments(agent, false);
	return status;
}

/* One that died meanwhile is started again by the loop. One that lives and
 * does not know of the pool would be no keeper. */
enum ps_status pd_keeper_give_first(struct pd_agent *agent)
{
	enum ps_status status = give_all(agent);

	if (status != PS_PEER_GONE)
		return status;
	lose_link(agent);
	return PS_OK;
}

/* Takes both descriptors over. */
static enum ps_status use_link(struct pd_agent *agent, int link, int pidfd)
{
	enum ps_status status;

	agent->link_source.fd = link;
	agent->keeper.fd = pidfd;
	agent->has_link = true;
	status = pd_watch(agent, &agent->keeper, EPOLLIN);
	if (status == PS_OK)
		status = ip_conn_init(&agent->link, link, IP_HALF,
				      PS_PEER_ANY_USER, PD_KEEPER_MS);
	if (status == PS_OK)
		status = pd_watch(agent, &agent->link_source, EPOLLIN);
	return status;
}

static enum ps_status start(struct pd_agent *agent)
{
	enum ps_status status;
	int link = -1;
	int pidfd = -1;

	status = pd_start_half(agent->argc, agent->argv, PD_ROLE_KEEPER, &link,
			       &pidfd);
	if (status != PS_OK)
		return status;
	agent->is_our_child = true;
	agent->counters.keeper_starts++;
	agent->keeper_pid = pd_pidfd_number(pidfd);
	status = use_link(agent, link, pidfd);
	if (status == PS_OK)
		status = give_all(agent);
	if (status != PS_OK)
		lose_link(agent);
	/* What we were asked to do, the next agent is to do. */
	if (agent->is_draining)
		pd_keeper_note(agent, IP_NOTICE_DRAIN, 0);
	return status;
}

static void start_again(struct pd_agent *agent)
{
	/* The last one's descriptors were closed with it. */
	pd_segments_dropped(agent);
	rest(agent);
	if (start(agent) == PS_OK)
		pd_log(PD_WARNING, "keeper started again pid %d",
		       (int)agent->keeper_pid);
	else
		pd_log(PD_ERROR, "keeper does not start: %s", bs_fail_text());
}

void pd_keeper_tick(struct pd_agent *agent)
{
	if (agent->keeper_at_ms == 0 || agent->now_ms < agent->keeper_at_ms)
		return;
	agent->keeper_at_ms = 0;
	if (agent->has_link)
		return;
	if (agent->keeper.fd < 0) {
		start_again(agent);
		return;
	}
	pd_keeper_ended(agent);
	if (agent->keeper.fd >= 0)
		agent->keeper_at_ms = agent->now_ms + PD_REST_MS;
}

/* ------------------------------------------------------------------ */
/* The start                                                           */

/* Who made the link started us. */
static int starter_pidfd(int link, pid_t pid)
{
	int pidfd = -1;
	socklen_t size = sizeof(pidfd);

	if (getsockopt(link, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
		return pidfd;
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

enum ps_status pd_keeper_meet(struct pd_agent *agent)
{
	int link = agent->options->link;
	enum ps_status status;

	agent->link_source.kind = PD_AT_LINK;
	agent->link_source.fd = -1;
	agent->keeper.kind = PD_AT_KEEPER;
	agent->keeper.fd = -1;
	if (link < 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the agent is started by its keeper; start "
			       "poolswitchd without --role");
	status = use_link(agent, link, -1);
	if (status != PS_OK)
		return status;
	agent->keeper_pid = agent->link.peer_pid;
	agent->keeper.fd = starter_pidfd(link, agent->keeper_pid);
	if (agent->keeper.fd >= 0)
		status = pd_watch(agent, &agent->keeper, EPOLLIN);
	if (status == PS_OK)
		status = pd_take_over(&agent->link, &agent->holdings);
	agent->is_keeper_ready = true;
	return status;
}

void pd_keeper_done(struct pd_agent *agent)
{
	agent->has_link = false;
	pd_source_close(agent, &agent->link_source);
	pd_source_close(agent, &agent->keeper);
}
