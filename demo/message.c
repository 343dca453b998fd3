/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "demo/message.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/status.h"

enum ps_status dm_send(int socket, const struct dm_message *message)
{
	ssize_t sent;

	do
		sent = send(socket, message, sizeof(*message), MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
		return bs_fail(PS_PEER_GONE, "the peer closed its socket");
	if (sent < 0)
		return bs_fail_errno("sending message %u failed",
				     message->kind);
	return PS_OK;
}

enum ps_status dm_send_kind(int socket, enum dm_kind kind)
{
	struct dm_message message;

	memset(&message, 0, sizeof(message));
	message.kind = kind;
	return dm_send(socket, &message);
}

static enum ps_status wait_for(int socket)
{
	struct pollfd entry = { .fd = socket, .events = POLLIN };
	int ready;

	do
		ready = poll(&entry, 1, DM_TIMEOUT_MS);
	while (ready < 0 && errno == EINTR);
	if (ready < 0)
		return bs_fail_errno("poll failed");
	if (ready == 0)
		return bs_fail(PS_TIMED_OUT, "no message within %d s",
			       DM_TIMEOUT_MS / 1000);
	return PS_OK;
}

static enum ps_status check(struct dm_message *message, ssize_t got,
			    enum dm_kind kind)
{
	if (got == 0)
		return bs_fail(PS_PEER_GONE, "the peer closed its socket");
	if (got != (ssize_t)sizeof(*message))
		return bs_fail(PS_PROTOCOL,
			       "a message of %zd bytes; %zu are expected", got,
			       sizeof(*message));
	if (message->kind == DM_FAILED) {
		message->failure.text[sizeof(message->failure.text) - 1] = '\0';
		return bs_fail((enum ps_status)message->failure.status, "%s",
			       message->failure.text);
	}
	if (kind != 0 && message->kind != kind)
		return bs_fail(PS_PROTOCOL, "message %u came; %d was expected",
			       message->kind, (int)kind);
	return PS_OK;
}

enum ps_status dm_receive(int socket, enum dm_kind kind,
			  struct dm_message *message_out)
{
	struct dm_message message;
	enum ps_status status = wait_for(socket);
	ssize_t got;

	if (status != PS_OK)
		return status;
	got = recv(socket, &message, sizeof(message), MSG_TRUNC);
	if (got < 0 && errno != ECONNRESET)
		return bs_fail_errno("receiving a message failed");
	status = check(&message, got < 0 ? 0 : got, kind);
	if (status == PS_OK)
		*message_out = message;
	return status;
}
