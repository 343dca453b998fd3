/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client of poolswitchd that speaks the protocol by hand, without CUDA, so
 * that it can say what no library would. It runs in a child: what it holds is
 * free when that child has ended.
 */
#ifndef TESTS_SUPPORT_DAEMON_WIRE_H
#define TESTS_SUPPORT_DAEMON_WIRE_H

#include "ipc/client.h"
#include "tests/support/daemon.h"

#define TH_WIRE_MS 5000

struct th_wire {
	int socket;
	int events; /* -1: not attached */
	struct ip_client client;
	struct ip_welcome welcome;
	struct ip_list held; /* of the last th_wire_take() */
};

/* All of these assert success but those that return a status. */
void th_wire_connect(struct th_wire *wire);
enum ps_status th_wire_try_attach(struct th_wire *wire,
				  const struct ip_attach *wanted);
/* Both, as @name. */
void th_wire_open(struct th_wire *wire, const char *name);
void th_wire_close(struct th_wire *wire); /* no LEAVE */

/* TAKE; closes the descriptors. */
enum ps_status th_wire_try_take(struct th_wire *wire, uint32_t count);
void th_wire_take(struct th_wire *wire, uint32_t count);
/* Gives back what was taken last. */
void th_wire_give(struct th_wire *wire);
void th_wire_park(struct th_wire *wire);

/* TAKE of room outside the pool; what came is in held. */
enum ps_status th_wire_try_room(struct th_wire *wire, uint32_t count);
void th_wire_room(struct th_wire *wire, uint32_t count);
/* Connects again and resumes; held is what the journal says. */
void th_wire_resume(struct th_wire *wire);

/* Bytes of a message as they are, or those of @msg. */
void th_wire_send_raw(int socket, const void *bytes, size_t size);
void th_wire_send(struct th_wire *wire, const struct ip_message *msg);
/* Asserts that the daemon ends this connection, whatever it says before. */
void th_wire_assert_ended(int socket);

#endif /* TESTS_SUPPORT_DAEMON_WIRE_H */
