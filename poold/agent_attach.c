/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How clients come, come back and leave. What a client says of itself is
 * believed for its name alone: who it is comes from the kernel, what it has
 * from the journal.
 */
#include "poold/agent.h"

#include "base/status.h"
#include "poold/closer.h"
#include "poold/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is made before anything is promised, and given up when it fails. */
struct arrival {
	struct pd_peer peer;
	int daemon_end; /* of the socket for the service thread */
	int client_end;
	uint32_t slot;
	bool is_resumed;
	struct pd_client_record granted;
};

static enum ps_status agree(struct pd_visit *visit,
			    const struct ip_message *msg)
{
	struct ip_minors own = { IP_MINOR_DAEMON, IP_MINOR_HIGH };
	struct ip_minors peer = { msg->body.attach.minor_low, msg->minor };

	if (ip_minor_agree(own, peer, &visit->requests.conn.minor))
		return PS_OK;
	visit->requests.conn.minor = IP_MINOR_DAEMON;
	return bs_fail(PS_VERSION_MISMATCH,
		       "the client speaks %u.%u to %u.%u, this daemon %u.%u "
		       "to %u.%u; use a library and a daemon whose versions "
		       "meet",
		       IP_MAJOR, peer.low, IP_MAJOR, peer.high, IP_MAJOR,
		       own.low, IP_MAJOR, own.high);
}

/* ------------------------------------------------------------------ */
/* A new client                                                        */

static enum ps_status fill_random(void *bytes, size_t size)
{
	ssize_t got;

	do {
		got = getrandom(bytes, size, 0);
	} while (got < 0 && errno == EINTR);
	return got == (ssize_t)size
		       ? PS_OK
		       : bs_fail_errno("getting %zu random bytes", size);
}

static bool is_id_free(const struct pd_agent *agent, uint64_t id)
{
	if (id == 0)
		return false;
	for (uint32_t i = 0; i < agent->seat_count; i++) {
		if (agent->seats[i].is_used && agent->seats[i].id == id)
			return false;
	}
	return true;
}

static enum ps_status make_id(const struct pd_agent *agent,
			      struct pd_client_record *record)
{
	enum ps_status status;

	do {
		status = fill_random(&record->id, sizeof(record->id));
	} while (status == PS_OK && !is_id_free(agent, record->id));
	if (status == PS_OK)
		status = fill_random(record->token, sizeof(record->token));
	return status;
}

static void describe(const struct pd_peer *peer, const struct ip_attach *attach,
		     struct pd_client_record *record)
{
	record->used = true;
	record->pid = peer->pid;
	record->uid = peer->uid;
	record->gid = peer->gid;
	record->flags = attach->flags;
	if (peer->uid != geteuid() && peer->uid != 0)
		record->flags &= ~(uint32_t)IP_ATTACH_WRITE;
	if (!peer->is_mapped) {
		record->flags |= PD_CLIENT_UNMAPPED;
		record->flags &= ~(uint32_t)IP_ATTACH_WRITE;
		/* Nobody else's: beyond what namespaces give out. */
		record->uid = 0xc0000000u | (uint32_t)(record->id & 0x3fffffff);
	}
	record->reservation = attach->reservation;
	record->limit = attach->limit;
	memcpy(record->name, attach->name, sizeof(record->name));
	record->marks = peer->marks;
}

static bool has_nothing(const struct pd_agent *agent, uint32_t slot)
{
	struct pd_client_view view;

	/* One that has joined for models was welcomed, and may use them. */
	return pd_core_client(agent->core, slot, &view) &&
	       view.presence == PD_AWAY &&
	       (view.record.flags & PD_CLIENT_JOINED) == 0 &&
	       view.leased + view.parked + view.outside + view.opened == 0;
}

/*
 * What an agent that died before it said WELCOME wrote down of this process:
 * who knew of it would resume it. Its reservation would stay until the
 * process ends.
 */
static void drop_unwelcomed(struct pd_agent *agent, const struct pd_peer *peer)
{
	struct pd_seat *seat;

	for (uint32_t i = 0; i < agent->seat_count; i++) {
		seat = &agent->seats[i];
		if (!seat->is_used || seat->is_dead || seat->visit ||
		    !has_nothing(agent, i) ||
		    !pd_pidfd_is_same(agent->holdings.pidfd[i], peer->pidfd))
			continue;
		pd_core_reclaim(agent->core, i, true, agent->now_ms);
		pd_seat_leave(seat);
	}
}

static enum ps_status admit(struct pd_agent *agent,
			    const struct ip_attach *attach,
			    struct arrival *arrival)
{
	struct pd_client_record record = { 0 };
	enum ps_status status = make_id(agent, &record);

	if (status != PS_OK)
		return status;
	drop_unwelcomed(agent, &arrival->peer);
	describe(&arrival->peer, attach, &record);
	status = pd_core_admit(agent->core, &record, agent->now_ms,
			       &arrival->slot, &arrival->granted);
	if (status != PS_OK)
		return status;
	agent->holdings.pidfd[arrival->slot] = arrival->peer.pidfd;
	arrival->peer.pidfd = -1;
	status = pd_seat_take(agent, arrival->slot, record.id);
	if (status != PS_OK) {
		pd_core_reclaim(agent->core, arrival->slot, true,
				agent->now_ms);
		return status;
	}
	/* Before WELCOME leaves: who is welcome is known to both halves. */
	status = pd_keeper_keep(agent, IP_PIECE_PIDFDS, arrival->slot,
				agent->holdings.pidfd[arrival->slot]);
	if (status != PS_OK) {
		pd_core_reclaim(agent->core, arrival->slot, true,
				agent->now_ms);
		pd_seat_leave(&agent->seats[arrival->slot]);
		return status;
	}
	pd_fence_attached(agent, arrival->peer.pid);
	agent->counters.attached++;
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* One that comes back                                                 */

static bool is_token(const uint8_t *a, const uint8_t *b)
{
	unsigned int differ = 0;

	for (size_t i = 0; i < IP_TOKEN_BYTES; i++)
		differ |= (unsigned int)(a[i] ^ b[i]);
	return differ == 0;
}

static struct pd_seat *find_seat(struct pd_agent *agent, uint64_t id,
				 const uint8_t *token)
{
	struct pd_client_view view;

	for (uint32_t i = 0; i < agent->seat_count; i++) {
		struct pd_seat *seat = &agent->seats[i];

		if (seat->is_used && seat->id == id &&
		    pd_core_client(agent->core, i, &view) &&
		    is_token(view.record.token, token))
			return seat;
	}
	return NULL;
}

/* The connection that it has left before we saw its end. */
static void end_old(struct pd_agent *agent, struct pd_seat *seat)
{
	struct pd_visit *visit = seat->visit;

	if (!visit)
		return;
	pd_doom(visit);
	pd_models_visit_over(visit);
	/* Where it was doomed it comes up again, and does nothing. */
	visit->slot = PD_NO_CLIENT;
	agent->unattached++;
	pd_asks_forget(visit);
	seat->visit = NULL;
	pd_seat_keep_lifelines(seat, visit);
	pd_core_away(agent->core, seat->slot, agent->now_ms);
}

static enum ps_status resume(struct pd_agent *agent,
			     const struct ip_attach *attach,
			     struct arrival *arrival)
{
	struct pd_seat *seat = find_seat(agent, attach->id, attach->token);
	enum ps_status status;

	if (!seat || seat->is_dead ||
	    !pd_pidfd_is_same(agent->holdings.pidfd[seat->slot],
			      arrival->peer.pidfd))
		return bs_fail(PS_REFUSED,
			       "no client of this process, id and token is "
			       "known; attach as a new one");
	end_old(agent, seat);
	status = pd_core_resume(agent->core, attach->id, attach->token,
				&arrival->slot, &arrival->granted);
	if (status != PS_OK)
		return status;
	arrival->is_resumed = true;
	agent->counters.resumed++;
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* WELCOME                                                             */

static void welcome(struct pd_visit *visit, uint32_t seq,
		    struct arrival *arrival)
{
	const struct pd_pool_record *pool =
		pd_journal_pool(visit->agent->journal);
	const struct pd_client_record *granted = &arrival->granted;
	struct ip_message msg;
	struct ip_welcome *body = &msg.body.welcome;

	ip_message_init(&msg, IP_WELCOME, visit->requests.conn.minor);
	body->seq = seq;
	body->resumed = arrival->is_resumed;
	body->id = granted->id;
	memcpy(body->token, granted->token, sizeof(body->token));
	memcpy(body->pool_id, pool->id, sizeof(body->pool_id));
	memcpy(body->gpu, pool->gpu, sizeof(body->gpu));
	body->window_base = pool->window_base;
	body->window_bytes = pool->window_bytes;
	body->segment_bytes = pool->segment_bytes;
	body->parameter_bytes = pool->parameter_bytes;
	body->segment_count = pool->segments;
	body->parameter_write = (granted->flags & IP_ATTACH_WRITE) != 0;
	body->reservation = granted->reservation;
	body->limit = granted->limit;
	msg.fds[0] = arrival->client_end;
	msg.fd_count = 1;
	arrival->client_end = -1;
	pd_send(visit, &visit->requests, &msg, true);
}

/* PS_HOST_MEMORY. */
static enum ps_status send_held(struct pd_visit *visit, uint32_t seq)
{
	struct pd_agent *agent = visit->agent;
	uint32_t room = pd_journal_pool(agent->journal)->segments;
	uint32_t *segments = calloc(room, sizeof(*segments));
	uint32_t count;

	if (!segments)
		return bs_fail(PS_HOST_MEMORY, "no memory to list %u segments",
			       room);
	count = pd_core_held(agent->core, visit->slot, 0, segments, room);
	pd_send_list(visit, IP_HELD, seq, 0, segments, count);
	free(segments);
	return PS_OK;
}

/* The visit becomes the client's. */
static enum ps_status sit_down(struct pd_visit *visit, uint32_t seq,
			       struct arrival *arrival)
{
	struct pd_agent *agent = visit->agent;
	struct pd_seat *seat = &agent->seats[arrival->slot];
	int bytes = PD_SOCKET_BYTES;

	seat->visit = visit;
	visit->slot = arrival->slot;
	agent->unattached--;
	visit->deadline_ms = 0;
	pd_unschedule(agent);
	visit->events.source.fd = arrival->daemon_end;
	arrival->daemon_end = -1;
	visit->events.conn = visit->requests.conn;
	visit->events.conn.fd = visit->events.source.fd;
	setsockopt(visit->events.source.fd, SOL_SOCKET, SO_SNDBUF, &bytes,
		   sizeof(bytes));
	pd_log(PD_DEBUG, "client %s slot %u pid %d uid %u",
	       arrival->is_resumed ? "resumed" : "attached", arrival->slot,
	       (int)arrival->granted.pid, (unsigned int)arrival->granted.uid);
	welcome(visit, seq, arrival);
	pd_visit_rewatch(visit);
	return arrival->is_resumed ? send_held(visit, seq) : PS_OK;
}

static enum ps_status make_events(struct arrival *arrival)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
		if (errno == EMFILE || errno == ENFILE)
			return bs_fail(PS_FD_LIMIT,
				       "the daemon has no descriptor left for "
				       "another client; raise its limit of "
				       "open files (LimitNOFILE, ulimit -n)");
		return bs_fail_errno("making a socket for a client");
	}
	pd_closer_refuse(ends[0]);
	arrival->daemon_end = ends[0];
	arrival->client_end = ends[1];
	return PS_OK;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* @offered is taken over. */
static enum ps_status attach(struct pd_visit *visit,
			     const struct ip_attach *body, int offered)
{
	struct pd_agent *agent = visit->agent;
	struct arrival arrival = { .daemon_end = -1, .client_end = -1 };
	enum ps_status status;

	status = pd_peer_identify(visit->requests.source.fd, offered,
				  &arrival.peer);
	if (status != PS_OK)
		return status;
	status = make_events(&arrival);
	if (status == PS_OK)
		status = body->id ? resume(agent, body, &arrival)
				  : admit(agent, body, &arrival);
	if (status == PS_OK)
		status = sit_down(visit, body->seq, &arrival);
	pd_peer_done(&arrival.peer);
	close_if_open(arrival.daemon_end);
	close_if_open(arrival.client_end);
	return status;
}

enum ps_status pd_attach(struct pd_visit *visit, struct ip_message *msg)
{
	enum ps_status status;
	int offered = -1;

	if (visit->slot != PD_NO_CLIENT || visit->has_left)
		return bs_fail(PS_PROTOCOL, "ATTACH: this connection has %s",
			       visit->has_left ? "left" : "attached");
	status = agree(visit, msg);
	if (status != PS_OK)
		return status;
	if (msg->fd_count > 0)
		offered = ip_message_take_fd(msg, 0);
	return attach(visit, &msg->body.attach, offered);
}

void pd_leave(struct pd_visit *visit, uint32_t seq)
{
	struct pd_agent *agent = visit->agent;
	struct pd_seat *seat = &agent->seats[visit->slot];

	pd_asks_forget(visit);
	pd_models_visit_over(visit);
	pd_core_reclaim(agent->core, visit->slot, true, agent->now_ms);
	seat->visit = NULL;
	pd_seat_leave(seat);
	visit->slot = PD_NO_CLIENT;
	visit->has_left = true;
	agent->unattached++;
	visit->deadline_ms = agent->now_ms + PD_VISIT_IDLE_MS;
	pd_schedule(agent, visit->deadline_ms);
	pd_did(visit, seq);
}
