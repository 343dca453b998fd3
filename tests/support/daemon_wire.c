/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/daemon_wire.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/address.h"

void th_wire_connect(struct th_wire *wire)
{
	char path[IP_PATH_BYTES];
	struct ip_paths paths;

	memset(wire, 0, sizeof(*wire));
	wire->events = -1;
	th_assert_ok(ip_paths_find(NULL, &paths));
	th_assert_ok(ip_connect(&paths, &wire->socket, path));
	th_assert_ok(ip_client_init(&wire->client, wire->socket, TH_WIRE_MS));
}

enum ps_status th_wire_try_attach(struct th_wire *wire,
				  const struct ip_attach *wanted)
{
	struct ip_attach attach = *wanted;

	return ip_client_attach(&wire->client, &attach, &wire->welcome,
				&wire->events);
}

void th_wire_open(struct th_wire *wire, const char *name)
{
	struct ip_attach attach = { .id = 0 };

	snprintf(attach.name, sizeof(attach.name), "%s", name);
	th_wire_connect(wire);
	th_assert_ok(th_wire_try_attach(wire, &attach));
}

void th_wire_close(struct th_wire *wire)
{
	close(wire->socket);
	if (wire->events >= 0)
		close(wire->events);
}

enum ps_status th_wire_try_take(struct th_wire *wire, uint32_t count)
{
	const struct ip_take take = { .count = count, .wait_ms = TH_WIRE_MS };
	enum ps_status status;
	int fds[IP_LIST_MAX];

	status = ip_client_take(&wire->client, &take, &wire->held, fds);
	for (uint32_t i = 0; status == PS_OK && i < wire->held.count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return status;
}

void th_wire_take(struct th_wire *wire, uint32_t count)
{
	th_assert_ok(th_wire_try_take(wire, count));
	assert_int_equal(wire->held.count, count);
}

enum ps_status th_wire_try_room(struct th_wire *wire, uint32_t count)
{
	const struct ip_take take = {
		.count = count,
		.wait_ms = TH_WIRE_MS,
		.flags = IP_TAKE_OUTSIDE,
	};
	int fds[IP_LIST_MAX];

	return ip_client_take(&wire->client, &take, &wire->held, fds);
}

void th_wire_room(struct th_wire *wire, uint32_t count)
{
	th_assert_ok(th_wire_try_room(wire, count));
	assert_int_equal(wire->held.count, count);
}

void th_wire_resume(struct th_wire *wire)
{
	const struct ip_welcome old = wire->welcome;
	struct ip_attach attach = { .id = old.id };

	memcpy(attach.token, old.token, sizeof(attach.token));
	th_wire_close(wire);
	th_wire_connect(wire);
	th_assert_ok(th_wire_try_attach(wire, &attach));
	th_assert_ok(ip_client_held(&wire->client, &wire->held));
}

static void give(struct th_wire *wire, bool parked)
{
	for (uint32_t i = 0; i < wire->held.count; i++)
		wire->held.segment[i] &= IP_SEGMENT_NUMBER;
	th_assert_ok(ip_client_give(&wire->client, wire->held.segment,
				    wire->held.count, parked));
}

void th_wire_give(struct th_wire *wire)
{
	give(wire, false);
}

void th_wire_park(struct th_wire *wire)
{
	give(wire, true);
}

void th_wire_send_raw(int socket, const void *bytes, size_t size)
{
	/* The daemon may have ended the connection already. */
	if (send(socket, bytes, size, MSG_NOSIGNAL) < 0 && errno != EPIPE &&
	    errno != ECONNRESET)
		fail_msg("send: %s", strerror(errno));
}

void th_wire_send(struct th_wire *wire, const struct ip_message *msg)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	size_t size;

	th_assert_ok(ip_message_encode(msg, bytes, &size));
	th_wire_send_raw(wire->socket, bytes, size);
}

void th_wire_assert_ended(int socket)
{
	struct pollfd entry = { .fd = socket, .events = POLLIN };
	char bytes[IP_MESSAGE_MAX];
	ssize_t got;

	do {
		if (poll(&entry, 1, TH_WIRE_MS) != 1)
			fail_msg("the daemon goes on with a bad client");
		got = recv(socket, bytes, sizeof(bytes), 0);
	} while (got > 0);
	assert_true(got == 0 || errno == ECONNRESET);
}
