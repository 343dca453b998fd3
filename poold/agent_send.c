/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What clients are told. Nothing here waits for a client to read. */
#include "poold/agent.h"

#include "base/status.h"
#include "poold/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

void pd_doom(struct pd_visit *visit)
{
	if (visit->is_doomed)
		return;
	visit->is_doomed = true;
	visit->doomed_next = visit->agent->doomed;
	visit->agent->doomed = visit;
}

/* Descriptors of segments are the gpu's. */
static void message_done(struct ip_message *msg, bool owns_fds)
{
	if (!owns_fds)
		msg->fd_count = 0;
	ip_message_done(msg);
}

static unsigned int letters_max(const struct pd_channel *channel)
{
	return channel->source.kind == PD_AT_REQUESTS ? PD_LETTERS_REQUESTS
						      : PD_LETTERS_EVENTS;
}

static void too_many(struct pd_visit *visit)
{
	visit->agent->counters.stuck++;
	pd_log(PD_WARNING, "client does not read pid %d slot %u",
	       (int)visit->requests.conn.peer_pid, visit->slot);
	pd_doom(visit);
}

static void enqueue(struct pd_visit *visit, struct pd_channel *channel,
		    struct ip_message *msg, bool owns_fds)
{
	struct pd_letter *letter = NULL;

	if (channel->letters < letters_max(channel))
		letter = malloc(sizeof(*letter));
	if (!letter) {
		message_done(msg, owns_fds);
		too_many(visit);
		return;
	}
	letter->next = NULL;
	letter->owns_fds = owns_fds;
	letter->msg = *msg;
	*channel->last = letter;
	channel->last = &letter->next;
	channel->letters++;
}

/* The socket is full, or the kernel lets us send no more descriptors now: of
 * that it gives no sign, so the channel rests for a while. */
static void rest(struct pd_visit *visit, struct pd_channel *channel,
		 enum ps_status status)
{
	if (status == PS_FD_LIMIT) {
		channel->rest_until_ms = visit->agent->now_ms + PD_REST_MS;
		pd_schedule(visit->agent, channel->rest_until_ms);
	}
	pd_visit_rewatch(visit);
}

void pd_send(struct pd_visit *visit, struct pd_channel *channel,
	     struct ip_message *msg, bool owns_fds)
{
	enum ps_status status = PS_AGAIN;

	if (visit->is_doomed || channel->source.fd < 0) {
		message_done(msg, owns_fds);
		return;
	}
	if (!channel->first)
		status = ip_conn_try_send(&channel->conn, msg);
	if (status == PS_AGAIN || status == PS_FD_LIMIT) {
		enqueue(visit, channel, msg, owns_fds);
		if (channel->letters == 1)
			rest(visit, channel, status);
		return;
	}
	message_done(msg, owns_fds);
	if (status != PS_OK)
		pd_doom(visit);
}

static void drop_first(struct pd_channel *channel)
{
	struct pd_letter *letter = channel->first;

	channel->first = letter->next;
	if (!channel->first)
		channel->last = &channel->first;
	channel->letters--;
	message_done(&letter->msg, letter->owns_fds);
	free(letter);
}

void pd_channel_empty(struct pd_channel *channel)
{
	while (channel->first)
		drop_first(channel);
}

/* Whether the client may have the segment still; its descriptor now. */
static bool renew_fd(const struct pd_visit *visit, uint32_t segment, int *fd)
{
	const struct ip_need need = { .first = segment, .count = 1 };
	bool ignored;

	*fd = pd_gpu_fd(visit->agent->gpu, segment);
	return *fd >= 0 && pd_core_need(visit->agent->core, visit->slot, &need,
					&ignored) == PS_OK;
}

static bool renew_opened(const struct pd_visit *visit, uint32_t segment,
			 int *fd)
{
	*fd = pd_gpu_fd(visit->agent->gpu, segment);
	return *fd >= 0 &&
	       pd_core_has_open(visit->agent->core, visit->slot, segment);
}

/*
 * A letter that waited has the numbers of descriptors as they were. A client
 * that gives back what it has not received (RECALLED goes by the other socket)
 * may have made them numbers of somebody else's.
 */
static bool renew_fds(const struct pd_visit *visit, struct ip_message *msg)
{
	const struct ip_list *list = &msg->body.list;
	unsigned int at = 0;
	bool is_current = true;

	if (msg->type == IP_PART) {
		for (; at < msg->fd_count && is_current; at++)
			is_current = renew_fd(visit, msg->body.part.first + at,
					      &msg->fds[at]);
	} else if (msg->type == IP_OPENED) {
		for (; at < msg->fd_count && is_current; at++)
			is_current = renew_opened(visit,
						  msg->body.opened.segment[at],
						  &msg->fds[at]);
	} else if (msg->type == IP_PLACE || msg->type == IP_MODEL) {
		return pd_models_renew(visit, msg);
	} else if (msg->type == IP_GRANT && msg->fd_count > 0) {
		for (uint32_t i = 0; i < list->count && is_current; i++) {
			if (!(list->segment[i] & IP_SEGMENT_PARKED))
				is_current = renew_fd(visit, list->segment[i],
						      &msg->fds[at++]);
		}
	}
	return is_current;
}

static enum ps_status send_first(struct pd_visit *visit,
				 struct pd_channel *channel)
{
	struct pd_letter *letter = channel->first;

	if (!letter->owns_fds && !renew_fds(visit, &letter->msg))
		return bs_fail(PS_PROTOCOL,
			       "segments were given back before they were "
			       "received");
	return ip_conn_try_send(&channel->conn, &letter->msg);
}

void pd_channel_flush(struct pd_visit *visit, struct pd_channel *channel)
{
	enum ps_status status = PS_OK;

	channel->rest_until_ms = 0;
	while (channel->first && status == PS_OK) {
		status = send_first(visit, channel);
		if (status == PS_OK)
			drop_first(channel);
	}
	if (status == PS_OK || status == PS_AGAIN || status == PS_FD_LIMIT)
		rest(visit, channel, status);
	else
		pd_doom(visit);
}

/* ------------------------------------------------------------------ */
/* Answers                                                             */

static void begin(const struct pd_visit *visit, struct ip_message *msg,
		  enum ip_type type)
{
	ip_message_init(msg, type, visit->requests.conn.minor);
}

void pd_refuse(struct pd_visit *visit, enum ps_status status, const char *text)
{
	struct ip_message msg;

	pd_log_refused(visit->agent, &visit->requests.conn, text);
	begin(visit, &msg, IP_REFUSE);
	ip_refuse_set(&msg, status, text);
	pd_send(visit, &visit->requests, &msg, true);
	pd_doom(visit);
}

void pd_deny(struct pd_visit *visit, uint32_t seq, enum ps_status status,
	     const char *text)
{
	struct ip_message msg;

	begin(visit, &msg, IP_DENY);
	msg.body.deny.seq = seq;
	msg.body.deny.status = (uint32_t)status;
	snprintf(msg.body.deny.text, sizeof(msg.body.deny.text), "%s", text);
	pd_send(visit, &visit->requests, &msg, true);
}

void pd_did(struct pd_visit *visit, uint32_t seq)
{
	struct ip_message msg;

	begin(visit, &msg, IP_DID);
	msg.body.number.seq = seq;
	pd_send(visit, &visit->requests, &msg, true);
}

/* The descriptors of those that the client has not mapped, in order. */
static void add_fds(const struct pd_visit *visit, struct ip_message *msg)
{
	const struct ip_list *list = &msg->body.list;

	for (uint32_t i = 0; i < list->count; i++) {
		if (!(list->segment[i] & IP_SEGMENT_PARKED))
			msg->fds[msg->fd_count++] =
				pd_gpu_fd(visit->agent->gpu, list->segment[i]);
	}
}

void pd_send_list(struct pd_visit *visit, enum ip_type type, uint32_t seq,
		  uint32_t flags, const uint32_t *segments, uint32_t count)
{
	uint32_t at = 0;

	do {
		uint32_t part = count - at;
		struct ip_message msg;

		if (part > IP_LIST_MAX)
			part = IP_LIST_MAX;
		begin(visit, &msg, type);
		msg.body.list.seq = seq;
		msg.body.list.count = part;
		msg.body.list.flags = flags;
		if (at + part < count)
			msg.body.list.flags |= IP_LIST_MORE;
		memcpy(msg.body.list.segment, segments + at,
		       part * sizeof(*segments));
		if (type == IP_GRANT && !(flags & IP_LIST_OUTSIDE))
			add_fds(visit, &msg);
		pd_send(visit, &visit->requests, &msg, false);
		at += part;
	} while (at < count);
}

void pd_send_opened(struct pd_visit *visit, uint32_t seq,
		    const struct pd_grant_of *grant, const uint32_t *segments,
		    uint32_t count)
{
	for (uint32_t at = 0; at < count;) {
		struct ip_message msg;
		struct ip_opened *opened = &msg.body.opened;

		begin(visit, &msg, IP_OPENED);
		opened->seq = seq;
		opened->offset = grant->offset;
		opened->bytes = grant->bytes;
		while (at < count && opened->count < IP_LIST_MAX) {
			msg.fds[msg.fd_count++] =
				pd_gpu_fd(visit->agent->gpu, segments[at]);
			opened->segment[opened->count++] = segments[at++];
		}
		opened->flags = at < count ? IP_LIST_MORE : 0;
		pd_send(visit, &visit->requests, &msg, false);
	}
}

void pd_send_place(struct pd_visit *visit, const struct ip_place *place,
		   const uint32_t *segments, uint32_t count)
{
	uint32_t at = 0;

	do {
		struct ip_message msg;
		struct ip_place *part = &msg.body.place;

		begin(visit, &msg, IP_PLACE);
		*part = *place;
		part->count = 0;
		while (at < count && part->count < IP_LIST_MAX) {
			msg.fds[msg.fd_count++] =
				pd_gpu_fd(visit->agent->gpu, segments[at]);
			part->segment[part->count++] = segments[at++];
		}
		if (at < count)
			part->flags |= IP_LIST_MORE;
		pd_send(visit, &visit->requests, &msg, false);
	} while (at < count);
}
