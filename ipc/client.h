/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client's half of the talk with poolswitchd: one call, one request and its
 * answer. No CUDA, no lock, no thread: lib/ brings those.
 *
 * Invariant: after PS_PEER_GONE, PS_PROTOCOL or PS_TIMED_OUT the connection is
 * out of step: close it and attach again with the id and the token.
 */
#ifndef IPC_CLIENT_H
#define IPC_CLIENT_H

#include "ipc/conn.h"

struct ip_client {
	struct ip_conn conn;
	uint32_t seq;     /* of the last request */
	uint32_t wanted;  /* of the TAKE under way: not granted yet */
	uint32_t wait_ms; /* of the same: how long the daemon may wait */
	bool is_outside;  /* the same: IP_TAKE_OUTSIDE */
	/* Of the OPEN under way. */
	uint64_t offset;
	uint64_t bytes;
	/* Of the USE under way. */
	uint32_t place;
	uint32_t failed;
	uint16_t said;   /* the last request's type */
	bool is_denied;  /* the last answer was a denial: the connection is in
			  * step, whatever the status */
	bool is_settled; /* the minor version of conn is the agreed one */
};

/* Over a connected socket, which stays the caller's. @timeout_ms: for each
 * answer. The daemon's user is not checked: who may write where the socket
 * lies decides that. */
enum ps_status ip_client_init(struct ip_client *client, int socket,
			      int timeout_ms);

/* @attach: seq and minor_low are filled in. Sends this process's pidfd with
 * it, where there is one. @events_out: the service thread's socket, the
 * caller's. The daemon's refusal comes back with its own status. */
enum ps_status ip_client_attach(struct ip_client *client,
				struct ip_attach *attach,
				struct ip_welcome *welcome_out,
				int *events_out);
/* After a WELCOME that resumed: one message of HELD. */
enum ps_status ip_client_held(struct ip_client *client,
			      struct ip_list *held_out);

/* One GRANT at a time: called again while IP_LIST_MORE is set (@take NULL
 * then). Waits as much longer as the daemon may, by @take. @fds_out:
 * IP_LIST_MAX places, -1 for parked ones; the caller's. Denials come back with
 * their status and text. With IP_TAKE_OUTSIDE the segments are none any more,
 * and all of @fds_out is -1; PS_UNSUPPORTED: the daemon is older than that. */
enum ps_status ip_client_take(struct ip_client *client,
			      const struct ip_take *take,
			      struct ip_list *grant_out, int *fds_out);
/* The first half of it alone: the answer comes by ip_client_take() with NULL,
 * and there is a moment for something else meanwhile. */
enum ps_status ip_client_take_say(struct ip_client *client,
				  const struct ip_take *take);
/* In as many messages as it takes; any @count. */
enum ps_status ip_client_give(struct ip_client *client,
			      const uint32_t *segments, uint32_t count,
			      bool parked);
/* @count: 1 to IP_LIST_MAX. @fds_out: as many places; the caller's. */
enum ps_status ip_client_need(struct ip_client *client, uint32_t first,
			      uint32_t count, bool *write_out, int *fds_out);
/* A descriptor to be handed to anybody; the caller's. PS_UNSUPPORTED: the
 * daemon is too old, as for the three below. */
enum ps_status ip_client_export(struct ip_client *client, uint32_t segment,
				int *fd_out);

/* @issue: seq is filled in. */
enum ps_status ip_client_issue(struct ip_client *client,
			       const struct ip_issue *issue,
			       uint8_t ticket_out[IP_TICKET_BYTES]);
/* One OPENED at a time: called again while IP_LIST_MORE is set (@ticket NULL
 * then). @fds_out: IP_LIST_MAX places, one for each segment; the caller's.
 * Which segments they are is for the caller to check. */
enum ps_status ip_client_open(struct ip_client *client, const uint8_t *ticket,
			      struct ip_opened *opened_out, int *fds_out);
/* In as many messages as it takes; any @count. */
enum ps_status ip_client_close(struct ip_client *client,
			       const uint32_t *segments, uint32_t count);

/* ---- models; PS_UNSUPPORTED: the daemon is older than minor 4 ---- */

/* @add: seq is filled in. @fds: @count of them, which stay the caller's. Waits
 * @timeout_ms for the answer; -1: as long as it takes (24 days). */
enum ps_status ip_client_add(struct ip_client *client, struct ip_add *add,
			     const int *fds, unsigned int count, int timeout_ms,
			     uint8_t hash_out[PS_MODEL_HASH_BYTES]);
/* The same waits for as long as the order says, and a moment more. */
enum ps_status ip_client_order(struct ip_client *client,
			       struct ip_order *order);
/* @page: the client's own; stays the caller's, like @costs. @board_out and
 * @landed_out: descriptors, the caller's. */
enum ps_status ip_client_join(struct ip_client *client, int page,
			      int *board_out, int *landed_out);
/* @find: seq is filled in. @manifest_out: a descriptor, the caller's. */
enum ps_status ip_client_find(struct ip_client *client, struct ip_find *find,
			      struct ip_model *model_out, int *manifest_out);
/* One PLACE at a time, as ip_client_open(). @use: seq is filled in. @fds_out:
 * IP_LIST_MAX places, of which none is written with IP_PLACE_SAME. */
enum ps_status ip_client_use(struct ip_client *client,
			     struct ip_use_request *use,
			     struct ip_place *place_out, int *fds_out);
enum ps_status ip_client_drop_model(struct ip_client *client, uint32_t model,
				    uint32_t serial);
enum ps_status ip_client_costs(struct ip_client *client, uint32_t model,
			       uint32_t count, int costs);

enum ps_status ip_client_leave(struct ip_client *client);
/* @text_out: free() it. */
enum ps_status ip_client_ask(struct ip_client *client,
			     enum ip_question question, char **text_out);

#endif /* IPC_CLIENT_H */
