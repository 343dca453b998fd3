/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One request and its answer, for the files of the client's half only.
 *
 * Invariant: an answer is of the type that was waited for, and has the number
 * of the last request; everything else is an error with its own status.
 */
#ifndef IPC_CLIENT_TURNS_H
#define IPC_CLIENT_TURNS_H

#include "ipc/client.h"

/* Whether the daemon that has welcomed us knows it; @what in words. Before
 * that its refusal tells. */
enum ps_status ip_client_needs(const struct ip_client *client, uint16_t minor,
			       const char *what);
/* Gives the request its number. */
enum ps_status ip_client_say(struct ip_client *client, struct ip_message *msg);
/* Receives the answer, of @type; ip_message_done() it. @extra_ms: what the
 * daemon itself may wait. */
enum ps_status ip_client_hear(struct ip_client *client, enum ip_type type,
			      uint32_t extra_ms, struct ip_message *msg_out);
/* A request that is answered by a number only. */
enum ps_status ip_client_do(struct ip_client *client, uint32_t extra_ms,
			    struct ip_message *msg);

#endif /* IPC_CLIENT_TURNS_H */
