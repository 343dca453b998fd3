/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Connections: how they come, what they say, how they end. Every field of a
 * message was checked by the decoder; here and in the core it is checked
 * against what is known of the client.
 */
#include "poold/agent.h"

#include "base/status.h"
#include "poold/closer.h"
#include "poold/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ------------------------------------------------------------------ */
/* What is watched                                                     */

/* A client whose answers wait is not read from: it reads first. */
static uint32_t events_wanted(const struct pd_visit *visit,
			      const struct pd_channel *channel)
{
	if (channel->first)
		return channel->rest_until_ms ? 0 : EPOLLOUT;
	return visit->throttled_until_ms ? 0 : EPOLLIN;
}

/* The service thread answers whatever waits for it. */
static uint32_t events_of_events(const struct pd_visit *visit,
				 const struct pd_channel *channel)
{
	uint32_t events = visit->throttled_until_ms ? 0 : EPOLLIN;

	if (channel->first && !channel->rest_until_ms)
		events |= EPOLLOUT;
	return events;
}

void pd_visit_rewatch(struct pd_visit *visit)
{
	struct pd_agent *agent = visit->agent;
	enum ps_status status;

	if (visit->is_doomed)
		return;
	status = pd_watch(agent, &visit->requests.source,
			  events_wanted(visit, &visit->requests));
	if (status == PS_OK && visit->events.source.fd >= 0)
		status = pd_watch(agent, &visit->events.source,
				  events_of_events(visit, &visit->events));
	if (status != PS_OK)
		pd_doom(visit);
}

/* ------------------------------------------------------------------ */
/* Coming                                                              */

static bool is_allowed(const struct pd_agent *agent, int socket,
		       const struct ip_conn *conn)
{
	gid_t groups[256];
	socklen_t size = sizeof(groups);
	struct ucred who = { 0 };
	socklen_t who_size = sizeof(who);

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &who_size) != 0)
		return false;
	if (pd_limits_allow(&agent->limits, conn->peer_uid, who.gid))
		return true;
	if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0)
		return false;
	for (size_t i = 0; i < size / sizeof(groups[0]); i++) {
		if (pd_limits_allow(&agent->limits, conn->peer_uid, groups[i]))
			return true;
	}
	return false;
}

static unsigned int unattached_of(const struct pd_agent *agent, uid_t uid)
{
	unsigned int count = 0;

	for (const struct pd_visit *visit = agent->visits; visit;
	     visit = visit->next)
		count += visit->slot == PD_NO_CLIENT &&
			 visit->requests.conn.peer_uid == uid;
	return count;
}

static enum ps_status check_visitor(const struct pd_agent *agent, int socket,
				    const struct ip_conn *conn)
{
	if (!is_allowed(agent, socket, conn))
		return bs_fail(PS_PERMISSION,
			       "user %u may not use this daemon; its "
			       "administrator can add the user or a group to "
			       "the limits",
			       (unsigned int)conn->peer_uid);
	if (agent->unattached >= PD_VISITS_UNATTACHED)
		return bs_fail(PS_AGAIN,
			       "%u connections have not attached yet, the "
			       "most there may be; try again",
			       agent->unattached);
	if (unattached_of(agent, conn->peer_uid) >= PD_VISITS_OF_USER)
		return bs_fail(PS_AGAIN,
			       "user %u has %u connections that have not "
			       "attached yet, the most there may be; try again",
			       (unsigned int)conn->peer_uid, PD_VISITS_OF_USER);
	return PS_OK;
}

bool pd_may_log(const struct pd_agent *agent, struct pd_quiet *quiet)
{
	uint64_t second = agent->now_ms / 1000;

	if (quiet->second != second)
		quiet->lines = 0;
	quiet->second = second;
	return quiet->lines++ < PD_LOGS_A_SECOND;
}

void pd_log_refused(struct pd_agent *agent, const struct ip_conn *conn,
		    const char *text)
{
	agent->counters.refused++;
	if (pd_may_log(agent, &agent->refusals))
		pd_log(PD_NOTICE, "connection refused pid %d uid %u: %s",
		       (int)conn->peer_pid, (unsigned int)conn->peer_uid, text);
}

/* To somebody who is no visit yet. */
static void turn_away(struct pd_agent *agent, struct ip_conn *conn,
		      enum ps_status status, const char *text)
{
	struct ip_message msg;

	pd_log_refused(agent, conn, text);
	/* The oldest form: what it speaks is not known yet. */
	ip_message_init(&msg, IP_REFUSE, IP_MINOR_DAEMON);
	ip_refuse_set(&msg, status, text);
	(void)ip_conn_try_send(conn, &msg);
	ip_message_done(&msg);
}

static void channel_init(struct pd_channel *channel, enum pd_source_kind kind,
			 struct pd_visit *visit)
{
	channel->source.kind = kind;
	channel->source.fd = -1;
	channel->source.owner = visit;
	channel->last = &channel->first;
}

static void insert(struct pd_agent *agent, struct pd_visit *visit)
{
	visit->next = agent->visits;
	visit->from = &agent->visits;
	if (visit->next)
		visit->next->from = &visit->next;
	agent->visits = visit;
	agent->unattached++;
}

/* Takes the socket over when it succeeds. */
static enum ps_status visit_new(struct pd_agent *agent, int socket,
				const struct ip_conn *conn)
{
	struct pd_visit *visit = calloc(1, sizeof(*visit));
	int bytes = PD_SOCKET_BYTES;
	enum ps_status status;

	if (!visit)
		return bs_fail(PS_HOST_MEMORY, "no memory for a connection");
	visit->agent = agent;
	visit->slot = PD_NO_CLIENT;
	channel_init(&visit->requests, PD_AT_REQUESTS, visit);
	channel_init(&visit->events, PD_AT_EVENTS, visit);
	visit->requests.source.fd = socket;
	visit->requests.conn = *conn;
	/* Until it has said what it speaks. */
	visit->requests.conn.minor = IP_MINOR_DAEMON;
	visit->deadline_ms = agent->now_ms + PD_VISIT_IDLE_MS;
	visit->tokens = 1;
	visit->tokens_ms = agent->now_ms > 1000 ? agent->now_ms - 1000 : 0;
	setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	status = pd_watch(agent, &visit->requests.source, EPOLLIN);
	if (status != PS_OK) {
		free(visit);
		return status;
	}
	insert(agent, visit);
	pd_schedule(agent, visit->deadline_ms);
	return PS_OK;
}

static void welcome_in(struct pd_agent *agent, int socket)
{
	struct ip_conn conn;
	enum ps_status status;

	status = ip_conn_init(&conn, socket, IP_DAEMON, PS_PEER_ANY_USER, 0);
	if (status != PS_OK) {
		pd_hang_up(socket);
		return;
	}
	status = check_visitor(agent, socket, &conn);
	if (status == PS_OK)
		status = visit_new(agent, socket, &conn);
	if (status != PS_OK) {
		turn_away(agent, &conn, status, bs_fail_text());
		pd_hang_up(socket);
	}
}

static void listen_later(struct pd_agent *agent)
{
	pd_unwatch(agent, &agent->listen);
	agent->listen_rests_until_ms = agent->now_ms + PD_REST_MS;
}

/* No descriptor is left: the spare one makes room to say so, else the
 * connection would wait in the queue and keep us awake. */
static bool refuse_with_spare(struct pd_agent *agent)
{
	struct ip_conn conn;
	int socket;

	if (agent->spare >= 0)
		close(agent->spare);
	socket = accept4(agent->listen.fd, NULL, NULL,
			 SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (socket >= 0) {
		if (ip_conn_init(&conn, socket, IP_DAEMON, PS_PEER_ANY_USER,
				 0) == PS_OK)
			turn_away(agent, &conn, PS_FD_LIMIT,
				  "the daemon has no descriptor left for "
				  "another client; raise its limit of open "
				  "files (LimitNOFILE, ulimit -n)");
		pd_hang_up(socket);
	}
	agent->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return socket >= 0;
}

static bool accept_one(struct pd_agent *agent)
{
	int socket = accept4(agent->listen.fd, NULL, NULL,
			     SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (socket >= 0) {
		welcome_in(agent, socket);
		return true;
	}
	if (errno == EINTR || errno == ECONNABORTED)
		return true;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return false;
	if ((errno == EMFILE || errno == ENFILE) && refuse_with_spare(agent))
		return true;
	listen_later(agent);
	return false;
}

void pd_visits_accept(struct pd_agent *agent)
{
	unsigned int left = PD_MESSAGES_A_TURN;

	while (left-- > 0 && accept_one(agent))
		;
}

/* ------------------------------------------------------------------ */
/* How much a client may say                                           */

/* A tenth of a second's messages at once, but enough to attach. */
static int64_t tokens_max(const struct pd_agent *agent)
{
	int64_t max = agent->limits.messages / 10;

	return max < 16 ? 16 : max;
}

static void refill(struct pd_visit *visit)
{
	const struct pd_agent *agent = visit->agent;
	uint64_t passed = agent->now_ms - visit->tokens_ms;
	int64_t more;

	if (passed > 60000)
		passed = 60000;
	more = (int64_t)(passed * agent->limits.messages / 1000);
	if (more == 0)
		return;
	visit->tokens += more;
	/* What is left of a token counts the next time. */
	visit->tokens_ms = agent->now_ms - passed +
			   (uint64_t)more * 1000 / agent->limits.messages;
	if (visit->tokens > tokens_max(agent)) {
		visit->tokens = tokens_max(agent);
		visit->tokens_ms = agent->now_ms;
	}
}

static void throttle(struct pd_visit *visit)
{
	struct pd_agent *agent = visit->agent;
	uint64_t rate = agent->limits.messages ? agent->limits.messages : 1;
	uint64_t owed = (uint64_t)(1 - visit->tokens);

	agent->counters.throttled++;
	visit->throttled_until_ms = agent->now_ms + 1 + owed * 1000 / rate;
	pd_schedule(agent, visit->throttled_until_ms);
	pd_visit_rewatch(visit);
}

/* False: not now; the socket is left unread until there are tokens. One whose
 * peer is gone is read to its end. */
static bool take_token(struct pd_visit *visit, bool is_gone)
{
	if (visit->tokens < 1)
		refill(visit);
	if (visit->tokens < 1 && !is_gone) {
		throttle(visit);
		return false;
	}
	visit->tokens--;
	return true;
}

/* ------------------------------------------------------------------ */
/* What it says                                                        */

static enum ps_status check_request(struct pd_visit *visit,
				    const struct ip_message *msg)
{
	uint32_t seq = msg->body.number.seq; /* all requests begin with it */
	bool needs_slot = msg->type != IP_ATTACH && msg->type != IP_ASK &&
			  msg->type != IP_ADD && msg->type != IP_ORDER;

	if (msg->type < IP_ATTACH || msg->type > IP_DROPPED)
		return bs_fail(PS_PROTOCOL,
			       "%s is no request; it belongs on the socket "
			       "that came with WELCOME",
			       ip_type_name(msg->type));
	if (seq <= visit->last_seq)
		return bs_fail(PS_PROTOCOL,
			       "%s: number %u must be larger than the last "
			       "request's, %u",
			       ip_type_name(msg->type), seq, visit->last_seq);
	if (needs_slot && visit->slot == PD_NO_CLIENT)
		return bs_fail(PS_PROTOCOL, "%s before ATTACH",
			       ip_type_name(msg->type));
	visit->last_seq = seq;
	return PS_OK;
}

static enum ps_status give(struct pd_visit *visit, const struct ip_list *list)
{
	struct pd_agent *agent = visit->agent;
	enum ps_status status;

	status = pd_core_give(agent->core, visit->slot, list, agent->now_ms);
	if (status == PS_OK)
		pd_did(visit, list->seq);
	return status;
}

/* Not PS_OK: the connection ends with it. */
static enum ps_status serve(struct pd_visit *visit, struct ip_message *msg)
{
	struct pd_agent *agent = visit->agent;
	enum ps_status status = check_request(visit, msg);

	if (status != PS_OK)
		return status;
	if (visit->slot == PD_NO_CLIENT)
		visit->requests.conn.minor =
			msg->minor < IP_MINOR_HIGH ? msg->minor : IP_MINOR_HIGH;
	switch (msg->type) {
	case IP_ATTACH:
		return pd_attach(visit, msg);
	case IP_TAKE:
		return pd_core_take(agent->core, visit->slot, &msg->body.take,
				    agent->now_ms);
	case IP_GIVE:
		return give(visit, &msg->body.list);
	case IP_NEED:
		pd_need(visit, &msg->body.need);
		return PS_OK;
	case IP_ISSUE:
		pd_issue(visit, &msg->body.issue);
		return PS_OK;
	case IP_OPEN:
		pd_open(visit, &msg->body.ticket);
		return PS_OK;
	case IP_CLOSE:
		return pd_close(visit, &msg->body.list);
	case IP_LEAVE:
		pd_leave(visit, msg->body.number.seq);
		return PS_OK;
	case IP_ASK:
		return pd_ask(visit, &msg->body.ask);
	default:
		return pd_models_serve(visit, msg);
	}
}

static enum ps_status recalled(struct pd_visit *visit,
			       const struct ip_list *list)
{
	struct pd_agent *agent = visit->agent;

	if (list->seq == 0 || list->seq > visit->recalled)
		return bs_fail(PS_PROTOCOL,
			       "RECALLED: number %u was not asked for, the "
			       "last was %u",
			       list->seq, visit->recalled);
	return pd_core_recalled(agent->core, visit->slot, list, agent->now_ms);
}

static enum ps_status hear(struct pd_visit *visit, const struct ip_message *msg)
{
	/* Its service thread need not know yet that it has left. */
	if (visit->slot == PD_NO_CLIENT)
		return PS_OK;
	if (msg->type == IP_RECALLED)
		return recalled(visit, &msg->body.list);
	if (msg->type == IP_POLLED)
		return pd_polled(visit, &msg->body.polled);
	if (msg->type == IP_YIELDED)
		return pd_models_yielded(visit, &msg->body.yielded);
	return bs_fail(PS_PROTOCOL, "%s does not belong on this socket",
		       ip_type_name(msg->type));
}

/* What needs no ATTACH says what its sender speaks; after that it is agreed.
 */
static enum ps_status check_minor(const struct pd_channel *channel,
				  const struct ip_message *msg)
{
	if (msg->type == IP_ATTACH || msg->type == IP_ASK ||
	    msg->type == IP_ADD || msg->type == IP_ORDER ||
	    msg->minor == channel->conn.minor)
		return PS_OK;
	return bs_fail(PS_PROTOCOL, "%s: version is %u.%u, agreed is %u.%u",
		       ip_type_name(msg->type), IP_MAJOR, msg->minor, IP_MAJOR,
		       channel->conn.minor);
}

static enum ps_status obey(struct pd_visit *visit, struct pd_channel *channel,
			   struct ip_message *msg)
{
	enum ps_status status = PS_OK;

	visit->agent->counters.messages++;
	if (visit->slot != PD_NO_CLIENT)
		status = check_minor(channel, msg);
	if (status != PS_OK)
		return status;
	return channel == &visit->requests ? serve(visit, msg)
					   : hear(visit, msg);
}

/* False: no more now. */
static bool read_one(struct pd_visit *visit, struct pd_channel *channel)
{
	struct ip_message msg;
	enum ps_status status = ip_conn_try_receive(&channel->conn, &msg);

	if (status == PS_AGAIN)
		return false;
	if (status == PS_PEER_GONE) {
		pd_doom(visit);
		return false;
	}
	if (status == PS_OK) {
		status = obey(visit, channel, &msg);
		ip_message_done(&msg);
	}
	if (status != PS_OK)
		pd_refuse(visit, status, bs_fail_text());
	return !visit->is_doomed && visit->slot != PD_NO_CLIENT;
}

void pd_visit_ready(struct pd_visit *visit, struct pd_channel *channel,
		    uint32_t events)
{
	unsigned int left = PD_MESSAGES_A_TURN;
	bool is_gone = events & (EPOLLHUP | EPOLLERR);

	if (visit->is_doomed || channel->source.fd < 0)
		return;
	if (channel->first && (events & EPOLLOUT || is_gone))
		pd_channel_flush(visit, channel);
	if (!(events & EPOLLIN) && !is_gone)
		return;
	while (left-- > 0 && !visit->is_doomed &&
	       (!channel->first || channel == &visit->events || is_gone) &&
	       take_token(visit, is_gone) && read_one(visit, channel))
		;
}

/* ------------------------------------------------------------------ */
/* Going                                                               */

static void withdraw(struct pd_agent *agent, struct pd_visit *visit)
{
	*visit->from = visit->next;
	if (visit->next)
		visit->next->from = visit->from;
	if (visit->slot == PD_NO_CLIENT)
		agent->unattached--;
}

static void visit_end(struct pd_agent *agent, struct pd_visit *visit)
{
	withdraw(agent, visit);
	pd_asks_forget(visit);
	pd_models_visit_over(visit);
	pd_unschedule(agent);
	pd_channel_empty(&visit->requests);
	pd_channel_empty(&visit->events);
	if (visit->slot != PD_NO_CLIENT) {
		struct pd_seat *seat = &agent->seats[visit->slot];

		seat->visit = NULL;
		pd_seat_keep_lifelines(seat, visit);
		if (!seat->is_dead)
			pd_core_away(agent->core, seat->slot, agent->now_ms);
	}
	pd_source_hang_up(agent, &visit->requests.source);
	pd_source_hang_up(agent, &visit->events.source);
	visit->next = agent->buried;
	agent->buried = visit;
}

void pd_visits_sweep(struct pd_agent *agent)
{
	struct pd_visit *visit;

	while ((visit = agent->doomed)) {
		agent->doomed = visit->doomed_next;
		visit_end(agent, visit);
	}
	while ((visit = agent->buried)) {
		agent->buried = visit->next;
		free(visit);
	}
}

void pd_visits_done(struct pd_agent *agent)
{
	for (struct pd_visit *visit = agent->visits; visit; visit = visit->next)
		pd_doom(visit);
	pd_visits_sweep(agent);
}

/* ------------------------------------------------------------------ */
/* Deadlines                                                           */

static void keep_soonest(struct pd_agent *agent, uint64_t at_ms)
{
	if (at_ms && (!agent->soonest_ms || at_ms < agent->soonest_ms))
		agent->soonest_ms = at_ms;
}

static bool has_come(const struct pd_agent *agent, uint64_t at_ms)
{
	return at_ms && at_ms <= agent->now_ms;
}

static void tick_channel(struct pd_visit *visit, struct pd_channel *channel)
{
	if (has_come(visit->agent, channel->rest_until_ms))
		pd_channel_flush(visit, channel);
}

static void tick(struct pd_visit *visit)
{
	struct pd_agent *agent = visit->agent;

	if (has_come(agent, visit->deadline_ms)) {
		visit->deadline_ms = 0;
		pd_refuse(visit, PS_TIMED_OUT,
			  "the connection was idle for 5 s without ATTACH");
	}
	if (has_come(agent, visit->throttled_until_ms)) {
		visit->throttled_until_ms = 0;
		pd_visit_rewatch(visit);
	}
	tick_channel(visit, &visit->requests);
	tick_channel(visit, &visit->events);
}

static void collect_deadlines(struct pd_agent *agent)
{
	agent->soonest_ms = 0;
	agent->is_soonest_stale = false;
	for (struct pd_visit *visit = agent->visits; visit;
	     visit = visit->next) {
		keep_soonest(agent, visit->deadline_ms);
		keep_soonest(agent, visit->throttled_until_ms);
		keep_soonest(agent, visit->requests.rest_until_ms);
		keep_soonest(agent, visit->events.rest_until_ms);
		keep_soonest(agent, pd_ask_due_ms(visit));
	}
}

void pd_visits_tick(struct pd_agent *agent)
{
	if (has_come(agent, agent->soonest_ms)) {
		for (struct pd_visit *visit = agent->visits; visit;
		     visit = visit->next) {
			if (!visit->is_doomed)
				tick(visit);
		}
		agent->is_soonest_stale = true;
	}
	if (agent->is_soonest_stale)
		collect_deadlines(agent);
	if (has_come(agent, agent->listen_rests_until_ms)) {
		agent->listen_rests_until_ms = 0;
		if (pd_watch(agent, &agent->listen, EPOLLIN) != PS_OK)
			listen_later(agent);
	}
}
