/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "ipc/client_turns.h"

#include "base/status.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* An idle processor takes tens of microseconds to wake a thread, as long as
 * the daemon takes to answer: whoever waits for memory stays awake a moment. */
#define AWAKE_US 100u

/* ------------------------------------------------------------------ */
/* Turns                                                               */

/* A status that only a newer daemon knows. */
static enum ps_status known_status(uint32_t status)
{
	return status <= PS_LOAD_FAILED ? (enum ps_status)status : PS_REFUSED;
}

static enum ps_status too_old(uint16_t theirs, uint16_t minor, const char *what)
{
	return bs_fail(PS_UNSUPPORTED,
		       "poolswitchd speaks protocol %u.%u, %s came with %u.%u: "
		       "install a newer one",
		       IP_MAJOR, theirs, what, IP_MAJOR, minor);
}

/* An older daemon cannot say more of a message than that it is unknown. */
static enum ps_status refused(struct ip_client *client,
			      const struct ip_message *msg)
{
	const struct ip_refuse *refuse = &msg->body.refuse;
	const struct ip_rule *said = ip_rule_find(client->said);

	client->conn.over = true;
	if (said && msg->minor < said->since)
		return too_old(msg->minor, said->since, said->name);
	return bs_fail(known_status(refuse->status), "poolswitchd refuses: %s",
		       refuse->text);
}

static enum ps_status find_reason(struct ip_client *client)
{
	enum ps_status status = PS_PEER_GONE;
	struct ip_message msg;

	if (!ip_conn_find_refusal(&client->conn, &msg))
		return status;
	status = refused(client, &msg);
	ip_message_done(&msg);
	return status;
}

/* Each request's number is larger than the last one's. */
static enum ps_status next_seq(struct ip_client *client, uint32_t *seq_out)
{
	if (client->seq == UINT32_MAX)
		return bs_fail(PS_PROTOCOL,
			       "this connection has no number left for a "
			       "request after %" PRIu32 ": attach again",
			       client->seq);
	*seq_out = ++client->seq;
	return PS_OK;
}

/* All requests begin with their number. */
enum ps_status ip_client_say(struct ip_client *client, struct ip_message *msg)
{
	enum ps_status status = next_seq(client, &msg->body.number.seq);

	client->said = msg->type;
	client->is_denied = false;
	if (status == PS_OK)
		status = ip_conn_send(&client->conn, msg);
	return status == PS_PEER_GONE ? find_reason(client) : status;
}

/* The first answer settles the minor version; a refusal may come in any. */
static enum ps_status check_minor(const struct ip_client *client,
				  const struct ip_message *msg)
{
	uint16_t low =
		client->is_settled ? client->conn.minor : IP_MINOR_DAEMON;

	if (msg->minor >= low && msg->minor <= client->conn.minor)
		return PS_OK;
	return bs_fail(client->is_settled ? PS_PROTOCOL : PS_VERSION_MISMATCH,
		       "%s: minor version is %u, must be %u to %u",
		       ip_type_name(msg->type), msg->minor, low,
		       client->conn.minor);
}

/* All answers begin with the number of their request. */
static enum ps_status check_answer(struct ip_client *client, enum ip_type type,
				   const struct ip_message *msg)
{
	uint32_t seq = msg->body.number.seq;
	enum ps_status status;

	if (msg->type == IP_REFUSE)
		return refused(client, msg);
	status = check_minor(client, msg);
	if (status != PS_OK)
		return status;
	if (msg->type != type && msg->type != IP_DENY)
		return bs_fail(PS_PROTOCOL, "waiting for %s: %s came",
			       ip_type_name((uint16_t)type),
			       ip_type_name(msg->type));
	if (seq != client->seq)
		return bs_fail(PS_PROTOCOL,
			       "%s: seq is %" PRIu32 ", must be %" PRIu32,
			       ip_type_name(msg->type), seq, client->seq);
	client->is_denied = msg->type == IP_DENY;
	if (client->is_denied)
		return bs_fail(known_status(msg->body.deny.status),
			       "poolswitchd: %s", msg->body.deny.text);
	return PS_OK;
}

enum ps_status ip_client_hear(struct ip_client *client, enum ip_type type,
			      uint32_t extra_ms, struct ip_message *msg_out)
{
	struct ip_conn patient = client->conn;
	enum ps_status status;

	assert(extra_ms <= IP_ORDER_WAIT_MAX_MS);
	if (patient.timeout_ms > INT32_MAX - (int)extra_ms)
		patient.timeout_ms = INT32_MAX;
	else
		patient.timeout_ms += (int)extra_ms;
	status = ip_conn_receive(&patient, msg_out);
	if (status != PS_OK)
		return bs_fail_prefix(status, "waiting for %s of poolswitchd",
				      ip_type_name((uint16_t)type));
	status = check_answer(client, type, msg_out);
	if (status != PS_OK)
		ip_message_done(msg_out);
	return status;
}

enum ps_status ip_client_needs(const struct ip_client *client, uint16_t minor,
			       const char *what)
{
	if (client->conn.minor >= minor)
		return PS_OK;
	return too_old(client->conn.minor, minor, what);
}

static enum ps_status needs_outside(const struct ip_client *client,
				    const char *what)
{
	return ip_client_needs(client, IP_MINOR_OUTSIDE, what);
}

enum ps_status ip_client_do(struct ip_client *client, uint32_t extra_ms,
			    struct ip_message *msg)
{
	enum ps_status status = ip_client_say(client, msg);

	if (status == PS_OK)
		status = ip_client_hear(client, IP_DID, extra_ms, msg);
	if (status == PS_OK)
		ip_message_done(msg);
	return status;
}

/* ------------------------------------------------------------------ */
/* Coming and going                                                    */

enum ps_status ip_client_init(struct ip_client *client, int socket,
			      int timeout_ms)
{
	struct ip_client fresh;
	enum ps_status status;

	memset(&fresh, 0, sizeof(fresh));
	status = ip_conn_init(&fresh.conn, socket, IP_CLIENT, PS_PEER_ANY_USER,
			      timeout_ms);
	fresh.conn.awake_us = AWAKE_US;
	if (status == PS_OK)
		*client = fresh;
	return status;
}

/* None where the kernel has no pidfds (before Linux 5.3) or may not give us
 * one: the daemon may know us all the same, and says so when it does not. */
static void add_pidfd(struct ip_message *msg)
{
	long fd = syscall(SYS_pidfd_open, getpid(), 0);

	if (fd >= 0)
		msg->fds[msg->fd_count++] = (int)fd;
}

static enum ps_status check_welcome(const struct ip_attach *attach,
				    const struct ip_welcome *welcome)
{
	bool is_old = attach->id != 0;

	if (welcome->resumed != (is_old ? 1u : 0u))
		return bs_fail(PS_PROTOCOL,
			       "WELCOME: resumed is %" PRIu32 ", must be %d",
			       welcome->resumed, is_old);
	if (is_old && welcome->id != attach->id)
		return bs_fail(PS_PROTOCOL,
			       "WELCOME: id is %" PRIu64 ", must be %" PRIu64,
			       welcome->id, attach->id);
	return PS_OK;
}

enum ps_status ip_client_attach(struct ip_client *client,
				struct ip_attach *attach,
				struct ip_welcome *welcome_out, int *events_out)
{
	struct ip_message msg;
	enum ps_status status;

	ip_message_init(&msg, IP_ATTACH, client->conn.minor);
	attach->minor_low = IP_MINOR_DAEMON;
	msg.body.attach = *attach;
	add_pidfd(&msg);
	status = ip_client_say(client, &msg);
	if (status == PS_SYSTEM && errno == EPERM && msg.fd_count > 0) {
		/* A daemon before 1.4 takes none (SO_PASSRIGHTS). */
		ip_message_done(&msg);
		status = ip_client_say(client, &msg);
	}
	attach->seq = client->seq;
	ip_message_done(&msg);
	if (status == PS_OK)
		status = ip_client_hear(client, IP_WELCOME, 0, &msg);
	if (status != PS_OK)
		return status;
	status = check_welcome(attach, &msg.body.welcome);
	if (status == PS_OK) {
		client->is_settled = true;
		client->conn.minor = msg.minor;
		*welcome_out = msg.body.welcome;
		*events_out = ip_message_take_fd(&msg, 0);
	}
	ip_message_done(&msg);
	return status;
}

enum ps_status ip_client_held(struct ip_client *client,
			      struct ip_list *held_out)
{
	struct ip_message msg;
	enum ps_status status = ip_client_hear(client, IP_HELD, 0, &msg);

	if (status != PS_OK)
		return status;
	*held_out = msg.body.list;
	ip_message_done(&msg);
	return PS_OK;
}

enum ps_status ip_client_leave(struct ip_client *client)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_LEAVE, client->conn.minor);
	return ip_client_do(client, 0, &msg);
}

/* ------------------------------------------------------------------ */
/* Segments                                                            */

/* Moves the descriptors out of the message, each beside its segment. */
static void take_fds(struct ip_message *msg, const struct ip_list *grant,
		     int *fds_out)
{
	unsigned int next = 0;

	for (uint32_t i = 0; i < grant->count; i++) {
		if ((grant->segment[i] & IP_SEGMENT_PARKED) ||
		    next >= msg->fd_count)
			fds_out[i] = -1;
		else
			fds_out[i] = ip_message_take_fd(msg, next++);
	}
}

enum ps_status ip_client_take_say(struct ip_client *client,
				  const struct ip_take *take)
{
	bool is_outside = (take->flags & IP_TAKE_OUTSIDE) != 0;
	enum ps_status status = PS_OK;
	struct ip_message msg;

	if (is_outside)
		status = needs_outside(client, "room outside the pool");
	if (status != PS_OK)
		return status;
	ip_message_init(&msg, IP_TAKE, client->conn.minor);
	msg.body.take = *take;
	status = ip_client_say(client, &msg);
	client->wanted = take->count;
	client->wait_ms = take->wait_ms;
	client->is_outside = is_outside;
	return status;
}

static enum ps_status check_grant(const struct ip_client *client,
				  const struct ip_list *grant)
{
	bool is_outside = (grant->flags & IP_LIST_OUTSIDE) != 0;

	if (grant->count > client->wanted)
		return bs_fail(PS_PROTOCOL,
			       "GRANT: count is %" PRIu32 ", must be at most "
			       "%" PRIu32 ", which is what was asked for",
			       grant->count, client->wanted);
	if (is_outside != client->is_outside)
		return bs_fail(PS_PROTOCOL,
			       "GRANT: brings %s, %s was asked for",
			       is_outside ? "room" : "segments",
			       is_outside ? "no room" : "room");
	return PS_OK;
}

enum ps_status ip_client_take(struct ip_client *client,
			      const struct ip_take *take,
			      struct ip_list *grant_out, int *fds_out)
{
	enum ps_status status = take ? ip_client_take_say(client, take) : PS_OK;
	struct ip_message msg;

	if (status == PS_OK)
		status =
			ip_client_hear(client, IP_GRANT, client->wait_ms, &msg);
	if (status != PS_OK)
		return status;
	status = check_grant(client, &msg.body.list);
	if (status == PS_OK) {
		client->wanted -= msg.body.list.count;
		*grant_out = msg.body.list;
		take_fds(&msg, grant_out, fds_out);
	}
	ip_message_done(&msg);
	return status;
}

/* A request with a list, in as many messages as it takes. */
static enum ps_status send_list(struct ip_client *client, enum ip_type type,
				uint32_t flags, const uint32_t *segments,
				uint32_t count)
{
	enum ps_status status = PS_OK;
	struct ip_message msg;

	while (status == PS_OK && count > 0) {
		uint32_t part = count < IP_LIST_MAX ? count : IP_LIST_MAX;

		ip_message_init(&msg, type, client->conn.minor);
		msg.body.list.flags = flags;
		msg.body.list.count = part;
		memcpy(msg.body.list.segment, segments,
		       part * sizeof(*segments));
		status = ip_client_do(client, 0, &msg);
		segments += part;
		count -= part;
	}
	return status;
}

enum ps_status ip_client_give(struct ip_client *client,
			      const uint32_t *segments, uint32_t count,
			      bool parked)
{
	return send_list(client, IP_GIVE, parked ? IP_LIST_PARKED : 0, segments,
			 count);
}

static enum ps_status check_part(const struct ip_part *part,
				 const struct ip_need *need)
{
	if (part->first == need->first && part->count == need->count)
		return PS_OK;
	return bs_fail(PS_PROTOCOL,
		       "PART: has %" PRIu32 " segments from %" PRIu32
		       ", must be %" PRIu32 " from %" PRIu32,
		       part->count, part->first, need->count, need->first);
}

static enum ps_status ask_for(struct ip_client *client,
			      const struct ip_need *need, bool *write_out,
			      int *fds_out)
{
	struct ip_message msg;
	enum ps_status status;

	ip_message_init(&msg, IP_NEED, client->conn.minor);
	msg.body.need = *need;
	status = ip_client_say(client, &msg);
	if (status == PS_OK)
		status = ip_client_hear(client, IP_PART, 0, &msg);
	if (status != PS_OK)
		return status;
	status = check_part(&msg.body.part, need);
	if (status == PS_OK) {
		*write_out = msg.body.part.write != 0;
		for (uint32_t i = 0; i < need->count; i++)
			fds_out[i] = ip_message_take_fd(&msg, i);
	}
	ip_message_done(&msg);
	return status;
}

enum ps_status ip_client_need(struct ip_client *client, uint32_t first,
			      uint32_t count, bool *write_out, int *fds_out)
{
	const struct ip_need need = { .first = first, .count = count };

	return ask_for(client, &need, write_out, fds_out);
}

enum ps_status ip_client_export(struct ip_client *client, uint32_t segment,
				int *fd_out)
{
	const struct ip_need need = {
		.first = segment,
		.count = 1,
		.flags = IP_NEED_EXPORT,
	};
	enum ps_status status = needs_outside(client, "exporting a segment");
	bool ignored;

	if (status == PS_OK)
		status = ask_for(client, &need, &ignored, fd_out);
	return status;
}

/* ------------------------------------------------------------------ */
/* Tickets                                                             */

enum ps_status ip_client_issue(struct ip_client *client,
			       const struct ip_issue *issue,
			       uint8_t ticket_out[IP_TICKET_BYTES])
{
	enum ps_status status = needs_outside(client, "tickets");
	struct ip_message msg;

	if (status != PS_OK)
		return status;
	ip_message_init(&msg, IP_ISSUE, client->conn.minor);
	msg.body.issue = *issue;
	status = ip_client_say(client, &msg);
	if (status == PS_OK)
		status = ip_client_hear(client, IP_TICKET, 0, &msg);
	if (status != PS_OK)
		return status;
	memcpy(ticket_out, msg.body.ticket.ticket, IP_TICKET_BYTES);
	ip_message_done(&msg);
	return PS_OK;
}

static enum ps_status say_open(struct ip_client *client, const uint8_t *ticket)
{
	enum ps_status status = needs_outside(client, "tickets");
	struct ip_message msg;

	if (status != PS_OK)
		return status;
	ip_message_init(&msg, IP_OPEN, client->conn.minor);
	memcpy(msg.body.ticket.ticket, ticket, IP_TICKET_BYTES);
	client->wanted = IP_SEGMENTS_MAX;
	return ip_client_say(client, &msg);
}

/* All messages of an answer are about the same memory. */
static enum ps_status check_opened(struct ip_client *client, bool is_first,
				   const struct ip_opened *opened)
{
	if (is_first) {
		client->offset = opened->offset;
		client->bytes = opened->bytes;
	}
	if (opened->offset != client->offset || opened->bytes != client->bytes)
		return bs_fail(PS_PROTOCOL,
			       "OPENED: %" PRIu64 " bytes at %" PRIu64
			       ", must be %" PRIu64 " at %" PRIu64 " as before",
			       opened->bytes, opened->offset, client->bytes,
			       client->offset);
	if (opened->count > client->wanted)
		return bs_fail(PS_PROTOCOL,
			       "OPENED: has more than %u segments in all",
			       IP_SEGMENTS_MAX);
	client->wanted -= opened->count;
	return PS_OK;
}

enum ps_status ip_client_open(struct ip_client *client, const uint8_t *ticket,
			      struct ip_opened *opened_out, int *fds_out)
{
	enum ps_status status = ticket ? say_open(client, ticket) : PS_OK;
	struct ip_message msg;

	if (status == PS_OK)
		status = ip_client_hear(client, IP_OPENED, 0, &msg);
	if (status != PS_OK)
		return status;
	status = check_opened(client, ticket != NULL, &msg.body.opened);
	if (status == PS_OK) {
		*opened_out = msg.body.opened;
		for (uint32_t i = 0; i < opened_out->count; i++)
			fds_out[i] = ip_message_take_fd(&msg, i);
	}
	ip_message_done(&msg);
	return status;
}

enum ps_status ip_client_close(struct ip_client *client,
			       const uint32_t *segments, uint32_t count)
{
	enum ps_status status = needs_outside(client, "tickets");

	return status == PS_OK ? send_list(client, IP_CLOSE, 0, segments, count)
			       : status;
}

/* ------------------------------------------------------------------ */
/* Questions                                                           */

/* Never by mmap: who sent the file may cut it at any time. */
static enum ps_status read_whole(int fd, char *text, size_t bytes)
{
	size_t at = 0;
	ssize_t got;

	while (at < bytes) {
		got = pread(fd, text + at, bytes - at, (off_t)at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return bs_fail_errno("reading poolswitchd's answer");
		if (got == 0)
			return bs_fail(PS_PROTOCOL,
				       "ANSWER: the file ends after %zu bytes, "
				       "must have %zu",
				       at, bytes);
		at += (size_t)got;
	}
	return PS_OK;
}

/* Nothing but a file is read: it cannot make us wait. */
static enum ps_status check_file(int fd, size_t bytes)
{
	struct statx info = { 0 };

	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &info) == 0 &&
	    S_ISREG(info.stx_mode) && info.stx_size == bytes)
		return PS_OK;
	return bs_fail(PS_PROTOCOL,
		       "ANSWER: the descriptor is %s of %" PRIu64
		       " bytes, must "
		       "be a file of %zu",
		       S_ISREG(info.stx_mode) ? "a file" : "no file, but one",
		       (uint64_t)info.stx_size, bytes);
}

static enum ps_status read_answer(int fd, size_t bytes, char **text_out)
{
	enum ps_status status = check_file(fd, bytes);
	char *text;

	if (status != PS_OK)
		return status;
	text = malloc(bytes + 1);
	if (!text)
		return bs_fail(
			PS_HOST_MEMORY,
			"no memory for poolswitchd's answer of %zu bytes",
			bytes);
	status = read_whole(fd, text, bytes);
	text[bytes] = '\0';
	if (status == PS_OK && memchr(text, '\0', bytes))
		status = bs_fail(PS_PROTOCOL,
				 "ANSWER: byte %zu of the text is 0x00, must "
				 "be JSON",
				 strlen(text));
	if (status != PS_OK)
		free(text);
	else
		*text_out = text;
	return status;
}

enum ps_status ip_client_ask(struct ip_client *client,
			     enum ip_question question, char **text_out)
{
	struct ip_message msg;
	enum ps_status status;

	ip_message_init(&msg, IP_ASK, client->conn.minor);
	msg.body.ask.question = (uint32_t)question;
	status = ip_client_say(client, &msg);
	if (status == PS_OK)
		status = ip_client_hear(client, IP_ANSWER, 0, &msg);
	if (status != PS_OK)
		return status;
	status = read_answer(msg.fds[0], msg.body.answer.bytes, text_out);
	ip_message_done(&msg);
	return status;
}
