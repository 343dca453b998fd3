/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Deaths. What a dead client had may be given to somebody else when
 *
 *   its pidfd is readable: the kernel has taken its GPU files away,
 *   every socket that it had with us is at its end: no child has them,
 *   and /proc shows no process with its image that has GPU files open.
 *
 * Then scrubbing is safe. Where the last cannot be told (another PID or user
 * namespace, a user whose /proc is closed to us, work in an MPS server) the
 * memory is remade, which needs nobody's word. A client that was inherited
 * from an agent that died has no socket here that could end; for it /proc
 * alone decides.
 *
 * One of the dead is looked at in a turn, so that many deaths at once do not
 * keep the living waiting.
 */
#include "poold/agent.h"

#include "base/status.h"
#include "poold/log.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Between two looks at a client whose heir lives. */
#define LOOK_REST_MS 20
#define LOOK_REST_MAX_MS 60000

/* ------------------------------------------------------------------ */
/* Seats                                                               */

static void seat_init(struct pd_agent *agent, struct pd_seat *seat,
		      uint32_t slot)
{
	memset(seat, 0, sizeof(*seat));
	seat->agent = agent;
	seat->slot = slot;
	seat->process.kind = PD_AT_CLIENT;
	seat->process.fd = -1;
	seat->process.owner = seat;
	seat->heir.kind = PD_AT_HEIR;
	seat->heir.fd = -1;
	seat->heir.owner = seat;
}

enum ps_status pd_seat_take(struct pd_agent *agent, uint32_t slot, uint64_t id)
{
	struct pd_seat *seat = &agent->seats[slot];
	enum ps_status status;

	seat->process.fd = agent->holdings.pidfd[slot];
	status = pd_watch(agent, &seat->process, EPOLLIN);
	if (status != PS_OK) {
		seat->process.fd = -1;
		close(agent->holdings.pidfd[slot]);
		agent->holdings.pidfd[slot] = -1;
		return status;
	}
	seat->is_used = true;
	seat->id = id;
	return PS_OK;
}

static void lifeline_cut(struct pd_lifeline *lifeline)
{
	struct pd_seat *seat = lifeline->seat;
	struct pd_lifeline **at = &seat->lifelines;

	while (*at != lifeline)
		at = &(*at)->next;
	*at = lifeline->next;
	seat->lifeline_count--;
	pd_source_hang_up(seat->agent, &lifeline->source);
	lifeline->next = seat->agent->cut;
	seat->agent->cut = lifeline;
}

void pd_lifelines_sweep(struct pd_agent *agent)
{
	struct pd_lifeline *lifeline;

	while ((lifeline = agent->cut)) {
		agent->cut = lifeline->next;
		free(lifeline);
	}
}

static void unqueue(struct pd_agent *agent, struct pd_seat *seat)
{
	struct pd_seat **at = &agent->look_first;

	if (!seat->is_queued)
		return;
	while (*at != seat)
		at = &(*at)->look_next;
	*at = seat->look_next;
	if (!*at)
		agent->look_last = at;
	seat->is_queued = false;
}

/* Closes everything of the slot, here and at the keeper. */
void pd_seat_leave(struct pd_seat *seat)
{
	struct pd_agent *agent = seat->agent;

	unqueue(agent, seat);
	pd_models_client_over(agent, seat->slot);
	while (seat->lifelines)
		lifeline_cut(seat->lifelines);
	pd_source_close(agent, &seat->heir);
	pd_source_close(agent, &seat->process);
	agent->holdings.pidfd[seat->slot] = -1;
	pd_keeper_drop(agent, IP_PIECE_PIDFDS, seat->slot);
	seat_init(agent, seat, seat->slot);
}

/* ------------------------------------------------------------------ */
/* Sockets as lifelines                                                */

/* Unlike a read of nothing, which a packet without bytes gives too. */
static bool is_at_end(int fd)
{
	struct pollfd entry = { fd, 0, 0 };

	return poll(&entry, 1, 0) > 0 && (entry.revents & POLLHUP);
}

static void keep_lifeline(struct pd_seat *seat, struct pd_source *from)
{
	struct pd_agent *agent = seat->agent;
	struct pd_lifeline *lifeline;

	if (from->fd < 0 || is_at_end(from->fd) ||
	    seat->lifeline_count == PD_LIFELINES)
		return;
	lifeline = calloc(1, sizeof(*lifeline));
	if (!lifeline)
		return; /* as after a restart: /proc decides */
	pd_unwatch(agent, from);
	lifeline->seat = seat;
	lifeline->source.kind = PD_AT_LIFELINE;
	lifeline->source.owner = lifeline;
	lifeline->source.fd = from->fd;
	/* The peer sees the end; we go on seeing the peer's. */
	shutdown(from->fd, SHUT_WR);
	if (pd_watch(agent, &lifeline->source, 0) != PS_OK) {
		free(lifeline);
		return;
	}
	from->fd = -1;
	lifeline->next = seat->lifelines;
	seat->lifelines = lifeline;
	seat->lifeline_count++;
}

void pd_seat_keep_lifelines(struct pd_seat *seat, struct pd_visit *visit)
{
	keep_lifeline(seat, &visit->requests.source);
	keep_lifeline(seat, &visit->events.source);
}

/* ------------------------------------------------------------------ */
/* The fence                                                           */

static void queue_look(struct pd_seat *seat)
{
	struct pd_agent *agent = seat->agent;

	if (seat->is_queued || !seat->is_dead)
		return;
	seat->is_queued = true;
	seat->look_next = NULL;
	*agent->look_last = seat;
	agent->look_last = &seat->look_next;
}

void pd_lifeline_ready(struct pd_lifeline *lifeline)
{
	struct pd_seat *seat = lifeline->seat;

	if (lifeline->source.fd < 0 || !is_at_end(lifeline->source.fd))
		return;
	lifeline_cut(lifeline);
	queue_look(seat);
}

static void has_died(struct pd_seat *seat)
{
	struct pd_agent *agent = seat->agent;

	seat->is_dead = true;
	pd_unwatch(agent, &seat->process);
	if (seat->visit) {
		pd_asks_forget(seat->visit);
		pd_models_visit_over(seat->visit);
		pd_seat_keep_lifelines(seat, seat->visit);
		pd_doom(seat->visit);
		/* When the visit ends the seat may be another's. */
		seat->visit->slot = PD_NO_CLIENT;
		agent->unattached++;
		seat->visit = NULL;
	}
	pd_core_dead(agent->core, seat->slot, agent->now_ms);
	queue_look(seat);
}

void pd_seat_process_ready(struct pd_seat *seat)
{
	if (seat->is_used && !seat->is_dead &&
	    pd_pidfd_has_ended(seat->process.fd))
		has_died(seat);
}

void pd_seat_heir_ready(struct pd_seat *seat)
{
	if (seat->heir.fd < 0 || !pd_pidfd_has_ended(seat->heir.fd))
		return;
	pd_source_close(seat->agent, &seat->heir);
	queue_look(seat);
}

static void reclaim(struct pd_seat *seat, bool safe)
{
	struct pd_agent *agent = seat->agent;

	pd_log(PD_NOTICE, "client reclaimed slot %u scrub %d", seat->slot,
	       (int)safe);
	pd_core_reclaim(agent->core, seat->slot, safe, agent->now_ms);
	pd_seat_leave(seat);
}

/* It has GPU files of its own, as any other that attached; whether it has the
 * dead one's too cannot be told. */
void pd_fence_attached(struct pd_agent *agent, pid_t pid)
{
	for (uint32_t i = 0; i < agent->seat_count; i++) {
		struct pd_seat *seat = &agent->seats[i];

		if (pid > 0 && seat->is_dead && seat->heir.fd >= 0 &&
		    seat->heir_pid == pid)
			reclaim(seat, false);
	}
}

/* Attached clients have GPU files of their own. NULL: no memory. */
static pid_t *list_living(const struct pd_agent *agent, size_t *count_out)
{
	pid_t *pids = calloc(agent->seat_count + 1, sizeof(*pids));
	struct pd_client_view view;
	size_t count = 0;

	for (uint32_t i = 0; pids && i < agent->seat_count; i++) {
		if (agent->seats[i].is_used && !agent->seats[i].is_dead &&
		    pd_core_client(agent->core, i, &view) &&
		    view.record.pid > 0)
			pids[count++] = view.record.pid;
	}
	*count_out = count;
	return pids;
}

static enum pd_heirs find_heirs(struct pd_seat *seat,
				const struct pd_client_record *record)
{
	const struct pd_agent *agent = seat->agent;
	enum pd_heirs heirs = PD_HEIRS_UNKNOWN;
	size_t living = 0;
	pid_t *pids;

	if (record->flags & (IP_ATTACH_MPS | PD_CLIENT_UNMAPPED))
		return PD_HEIRS_UNKNOWN;
	pids = list_living(agent, &living);
	if (pids)
		heirs = pd_heirs_find(&record->marks, record->uid,
				      agent->gpu_files, pids, living,
				      &seat->heir.fd, &seat->heir_pid);
	free(pids);
	return heirs;
}

/*
 * What looks like an heir may be about to execute a program, which takes its
 * GPU files away, or may be nobody's: while a process executes or ends, the
 * kernel does not say what it was. So its end is waited for, and the look is
 * repeated, ever more seldom.
 */
static void look_again(struct pd_seat *seat)
{
	struct pd_agent *agent = seat->agent;

	seat->look_rest_ms *= 2;
	if (seat->look_rest_ms == 0)
		seat->look_rest_ms = LOOK_REST_MS;
	if (seat->look_rest_ms > LOOK_REST_MAX_MS)
		seat->look_rest_ms = LOOK_REST_MAX_MS;
	seat->look_at_ms = agent->now_ms + seat->look_rest_ms;
	if (agent->look_at_ms == 0 || seat->look_at_ms < agent->look_at_ms)
		agent->look_at_ms = seat->look_at_ms;
}

void pd_fence_tick(struct pd_agent *agent)
{
	uint64_t soonest = 0;

	if (agent->look_at_ms == 0 || agent->look_at_ms > agent->now_ms)
		return;
	for (uint32_t i = 0; i < agent->seat_count; i++) {
		struct pd_seat *seat = &agent->seats[i];

		if (seat->heir.fd < 0)
			continue;
		if (seat->look_at_ms <= agent->now_ms) {
			pd_source_close(agent, &seat->heir);
			queue_look(seat);
		} else if (soonest == 0 || seat->look_at_ms < soonest) {
			soonest = seat->look_at_ms;
		}
	}
	agent->look_at_ms = soonest;
}

static void await_heir(struct pd_seat *seat)
{
	if (seat->look_rest_ms == 0)
		pd_log(PD_NOTICE,
		       "client slot %u is dead, its heir lives pid %d",
		       seat->slot, (int)seat->heir_pid);
	look_again(seat);
	if (pd_watch(seat->agent, &seat->heir, EPOLLIN) == PS_OK)
		return;
	pd_source_close(seat->agent, &seat->heir);
	reclaim(seat, false);
}

static void look(struct pd_seat *seat)
{
	struct pd_client_view view;
	enum pd_heirs heirs;

	if (seat->lifelines || seat->heir.fd >= 0)
		return;
	if (!pd_core_client(seat->agent->core, seat->slot, &view)) {
		pd_seat_leave(seat);
		return;
	}
	heirs = find_heirs(seat, &view.record);
	if (heirs == PD_HEIRS_FOUND)
		await_heir(seat);
	else
		reclaim(seat, heirs == PD_HEIRS_NONE);
}

void pd_fence_turn(struct pd_agent *agent)
{
	struct pd_seat *seat = agent->look_first;

	if (!seat)
		return;
	unqueue(agent, seat);
	look(seat);
}

void pd_fence_reason(const struct pd_seat *seat, char *text_out, size_t room)
{
	text_out[0] = '\0';
	if (!seat->is_dead)
		return;
	if (seat->lifelines)
		snprintf(text_out, room,
			 "a child of it has %u of its sockets open",
			 seat->lifeline_count);
	else if (seat->heir.fd >= 0)
		snprintf(text_out, room, "pid %d still has its GPU files open",
			 (int)seat->heir_pid);
	else
		snprintf(text_out, room, "it is being looked at");
}

/* ------------------------------------------------------------------ */
/* What an agent inherits                                              */

/* The keeper lacks the pidfd of one that was never welcomed, since it is told
 * first; a process of that number is the client if it began with it. */
static int find_pidfd_again(const struct pd_client_record *record)
{
	struct pd_marks marks;
	int pidfd = -1;

	if (record->pid > 0)
		pidfd = (int)syscall(SYS_pidfd_open, record->pid, 0);
	if (pidfd < 0)
		return -1;
	if (pd_marks_read(record->pid, &marks) && marks.started != 0 &&
	    marks.started == record->marks.started)
		return pidfd;
	close(pidfd);
	return -1;
}

static enum ps_status inherit(struct pd_agent *agent, uint32_t slot,
			      const struct pd_client_record *record)
{
	struct pd_seat *seat = &agent->seats[slot];

	if (agent->holdings.pidfd[slot] < 0) {
		agent->holdings.pidfd[slot] = find_pidfd_again(record);
		if (agent->holdings.pidfd[slot] >= 0)
			(void)pd_keeper_keep(agent, IP_PIECE_PIDFDS, slot,
					     agent->holdings.pidfd[slot]);
	}
	if (agent->holdings.pidfd[slot] >= 0)
		return pd_seat_take(agent, slot, record->id);
	seat->is_used = true;
	seat->id = record->id;
	has_died(seat);
	return PS_OK;
}

/* One of a client that is not in the journal any more. */
static void drop_stray(struct pd_agent *agent, uint32_t slot)
{
	if (agent->holdings.pidfd[slot] < 0)
		return;
	close(agent->holdings.pidfd[slot]);
	agent->holdings.pidfd[slot] = -1;
	pd_keeper_drop(agent, IP_PIECE_PIDFDS, slot);
}

enum ps_status pd_seats_new(struct pd_agent *agent)
{
	enum ps_status status = PS_OK;
	struct pd_client_view view;

	agent->look_last = &agent->look_first;
	agent->seat_count = pd_journal_pool(agent->journal)->clients;
	agent->seats = calloc(agent->seat_count, sizeof(*agent->seats));
	if (!agent->seats)
		return bs_fail(PS_HOST_MEMORY, "no memory for %u clients",
			       agent->seat_count);
	for (uint32_t i = 0; i < agent->seat_count; i++)
		seat_init(agent, &agent->seats[i], i);
	for (uint32_t i = 0; i < agent->seat_count && status == PS_OK; i++) {
		if (pd_core_client(agent->core, i, &view))
			status = inherit(agent, i, &view.record);
		else
			drop_stray(agent, i);
	}
	return status;
}

void pd_seats_done(struct pd_agent *agent)
{
	for (uint32_t i = 0; i < agent->seat_count; i++) {
		struct pd_seat *seat = &agent->seats[i];

		while (seat->lifelines)
			lifeline_cut(seat->lifelines);
		pd_source_close(agent, &seat->heir);
		pd_unwatch(agent, &seat->process);
	}
	pd_lifelines_sweep(agent);
	free(agent->seats);
	agent->seats = NULL;
	agent->seat_count = 0;
}
