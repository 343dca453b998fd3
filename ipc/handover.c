/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "ipc/handover.h"

#include "base/status.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------ */
/* Refusals                                                            */

/* What says something about the two of us is passed on as it is; the rest is
 * the peer's own trouble. */
static enum ps_status own_status(uint32_t peers)
{
	switch (peers) {
	case PS_VERSION_MISMATCH:
	case PS_WRONG_GPU:
	case PS_UNSUPPORTED:
	case PS_PERMISSION:
	case PS_PROTOCOL:
		return (enum ps_status)peers;
	default:
		return PS_REFUSED;
	}
}

static enum ps_status peer_refused(struct ip_conn *conn,
				   const struct ip_refuse *refuse)
{
	conn->over = true;
	return bs_fail(own_status(refuse->status), "pid %d refused: %s: %s",
		       (int)conn->peer_pid,
		       ps_status_name((enum ps_status)refuse->status),
		       refuse->text);
}

enum ps_status ip_refuse_send(struct ip_conn *conn, enum ps_status status)
{
	char text[IP_TEXT_MAX + 1];
	struct ip_conn brief = *conn;
	struct ip_message msg;

	if (conn->over || status == PS_PEER_GONE)
		return status;
	conn->over = true;
	snprintf(text, sizeof(text), "%s", bs_fail_text());
	ip_message_init(&msg, IP_REFUSE, conn->minor);
	ip_refuse_set(&msg, status, text);
	/* The two take turns, so there is room for it or the peer is stuck. */
	brief.timeout_ms = 0;
	if (ip_conn_send(&brief, &msg) != PS_OK)
		bs_fail(status, "%s", text);
	return status;
}

/* ------------------------------------------------------------------ */
/* Turns                                                               */

static enum ps_status find_reason(struct ip_conn *conn)
{
	enum ps_status status = PS_PEER_GONE;
	struct ip_message msg;

	if (!ip_conn_find_refusal(conn, &msg))
		return status;
	status = peer_refused(conn, &msg.body.refuse);
	ip_message_done(&msg);
	return status;
}

static enum ps_status say(struct ip_conn *conn, const struct ip_message *msg)
{
	enum ps_status status = ip_conn_send(conn, msg);

	return status == PS_PEER_GONE ? find_reason(conn) : status;
}

/* The minor version of HELLO and OFFER is what they are there to settle. */
static enum ps_status check_minor(const struct ip_conn *conn,
				  const struct ip_message *msg)
{
	if (msg->type == IP_HELLO || msg->type == IP_OFFER ||
	    msg->minor == conn->minor)
		return PS_OK;
	return bs_fail(PS_PROTOCOL, "%s: minor version is %u, must be %u",
		       ip_type_name(msg->type), msg->minor, conn->minor);
}

/* Receives a message that must be of @type; ip_message_done() it. */
static enum ps_status expect(struct ip_conn *conn, enum ip_type type,
			     struct ip_message *msg)
{
	const char *name = ip_type_name((uint16_t)type);
	enum ps_status status = ip_conn_receive(conn, msg);

	if (status != PS_OK)
		return bs_fail_prefix(status, "waiting for %s", name);
	if (msg->type == IP_REFUSE)
		status = peer_refused(conn, &msg->body.refuse);
	else if (msg->type != type)
		status = bs_fail(PS_PROTOCOL, "waiting for %s: %s came", name,
				 ip_type_name(msg->type));
	else
		status = check_minor(conn, msg);
	if (status != PS_OK)
		ip_message_done(msg);
	return status;
}

/* ------------------------------------------------------------------ */
/* The segments of an offer                                            */

static bool is_writable(const struct ip_offer *offer, uint32_t index)
{
	return offer->parameter_write ||
	       index >= offer->parameter_bytes / offer->segment_bytes;
}

/* How many segments from @first on are offered with the same access. */
static uint32_t same_access(const struct ip_offer *offer, uint32_t first)
{
	uint32_t end = offer->first + offer->count;
	uint64_t border = offer->parameter_bytes / offer->segment_bytes;

	if (!is_writable(offer, first) && border < end)
		end = (uint32_t)border;
	return end - first;
}

/* Both sides look. */
static enum ps_status check_gpu(const struct ip_hello *hello,
				const struct ip_offer *offer)
{
	if (hello->gpu[0] == '\0' || strcmp(hello->gpu, offer->gpu) == 0)
		return PS_OK;
	return bs_fail(PS_WRONG_GPU,
		       "the pool is on %s, the receiver asked for %s",
		       offer->gpu, hello->gpu);
}

static uint32_t sent_in_all(const struct ip_offer *offer)
{
	return offer->mode == PS_SHARE_VMM ? offer->count : 0;
}

/* ------------------------------------------------------------------ */
/* Sender                                                              */

static enum ps_status agree(struct ip_conn *conn, const struct ip_message *msg)
{
	struct ip_minors own = { IP_MINOR_LOW, IP_MINOR_HIGH };
	struct ip_minors peer = { msg->body.hello.minor_low, msg->minor };

	if (ip_minor_agree(own, peer, &conn->minor))
		return PS_OK;
	return bs_fail(PS_VERSION_MISMATCH,
		       "the receiver speaks protocol %u.%u to %u.%u, the "
		       "sender %u.%u to %u.%u: install the same poolswitch on "
		       "both sides",
		       IP_MAJOR, peer.low, IP_MAJOR, peer.high, IP_MAJOR,
		       own.low, IP_MAJOR, own.high);
}

static enum ps_status check_wishes(const struct ip_hello *hello,
				   const struct ip_offer *offer)
{
	enum ps_status status = check_gpu(hello, offer);

	if (status != PS_OK)
		return status;
	if (!(hello->modes & 1u << offer->mode))
		return bs_fail(PS_UNSUPPORTED,
			       "the pool is shared in mode %u, the receiver "
			       "takes modes 0x%x (a bit each)",
			       offer->mode, hello->modes);
	if (sent_in_all(offer) > hello->fds_in_all)
		return bs_fail(PS_FD_LIMIT,
			       "the pool has %u segments to send, the receiver "
			       "takes %u descriptors; raise its limit of open "
			       "files (ulimit -n)",
			       offer->count, hello->fds_in_all);
	return PS_OK;
}

static enum ps_status say_offer(struct ip_conn *conn,
				const struct ip_offer *offer)
{
	struct ip_message msg;
	enum ps_status status;

	ip_message_init(&msg, IP_OFFER, conn->minor);
	msg.body.offer = *offer;
	status = say(conn, &msg);
	if (status == PS_OK)
		status = expect(conn, IP_ACCEPT, &msg);
	if (status != PS_OK)
		return status;
	if (memcmp(msg.body.accept.pool_id, offer->pool_id,
		   sizeof(offer->pool_id)) != 0)
		status = bs_fail(PS_PROTOCOL,
				 "ACCEPT: pool_id is not the offered pool's");
	ip_message_done(&msg);
	return status;
}

static enum ps_status say_batch(struct ip_conn *conn,
				const struct ip_offer *offer,
				const struct ip_source *source, uint32_t first,
				uint32_t count)
{
	struct ip_message msg;
	enum ps_status status;

	ip_message_init(&msg, IP_SEGMENTS, conn->minor);
	msg.body.segments.first = first;
	msg.body.segments.count = count;
	msg.body.segments.write = is_writable(offer, first);
	status = source->get(source->owner, first, count, msg.fds);
	if (status != PS_OK)
		return status;
	msg.fd_count = count;
	status = say(conn, &msg);
	/* They were lent: not ip_message_done(). */
	if (source->put)
		source->put(source->owner, first, count, msg.fds);
	return status;
}

static enum ps_status hear_got(struct ip_conn *conn, uint32_t first,
			       uint32_t count)
{
	struct ip_message msg;
	enum ps_status status = expect(conn, IP_GOT, &msg);

	if (status != PS_OK)
		return status;
	if (msg.body.got.first != first || msg.body.got.count != count)
		status = bs_fail(PS_PROTOCOL,
				 "GOT: names %u segments from %u, must be %u "
				 "from %u",
				 msg.body.got.count, msg.body.got.first, count,
				 first);
	ip_message_done(&msg);
	return status;
}

static enum ps_status say_segments(struct ip_conn *conn,
				   const struct ip_offer *offer,
				   const struct ip_source *source,
				   uint32_t at_once)
{
	uint32_t first = offer->first;
	uint32_t end = offer->first + sent_in_all(offer);
	enum ps_status status = PS_OK;

	if (at_once > IP_BATCH)
		at_once = IP_BATCH;
	while (status == PS_OK && first < end) {
		uint32_t count = same_access(offer, first);

		if (count > at_once)
			count = at_once;
		status = say_batch(conn, offer, source, first, count);
		if (status == PS_OK)
			status = hear_got(conn, first, count);
		first += count;
	}
	return status;
}

static enum ps_status hear_done(struct ip_conn *conn, uint32_t count)
{
	struct ip_message msg;
	enum ps_status status = expect(conn, IP_DONE, &msg);

	if (status != PS_OK)
		return status;
	if (msg.body.done.count != count)
		status = bs_fail(PS_PROTOCOL, "DONE: count is %u, must be %u",
				 msg.body.done.count, count);
	ip_message_done(&msg);
	return status;
}

static enum ps_status hear_hello(struct ip_conn *conn,
				 const struct ip_offer *offer,
				 uint32_t *at_once_out)
{
	struct ip_message msg;
	enum ps_status status = expect(conn, IP_HELLO, &msg);

	if (status != PS_OK)
		return status;
	status = agree(conn, &msg);
	if (status == PS_OK)
		status = check_wishes(&msg.body.hello, offer);
	if (status == PS_OK)
		*at_once_out = msg.body.hello.fds_at_once;
	ip_message_done(&msg);
	return status;
}

enum ps_status ip_offer_send(struct ip_conn *conn, const struct ip_offer *offer,
			     const struct ip_source *source)
{
	enum ps_status status = ip_offer_check(offer);
	uint32_t at_once = 0;

	assert(conn->peer == IP_RECEIVER);
	if (status != PS_OK)
		return ip_refuse_send(conn, PS_INVALID_ARGUMENT);
	status = hear_hello(conn, offer, &at_once);
	if (status == PS_OK)
		status = say_offer(conn, offer);
	if (status == PS_OK)
		status = say_segments(conn, offer, source, at_once);
	if (status == PS_OK)
		status = hear_done(conn, sent_in_all(offer));
	return status == PS_OK ? PS_OK : ip_refuse_send(conn, status);
}

/* ------------------------------------------------------------------ */
/* Receiver                                                            */

void ip_hello_init(struct ip_hello *hello_out)
{
	uint64_t limit = 0;
	uint64_t room = 0;

	memset(hello_out, 0, sizeof(*hello_out));
	hello_out->minor_low = IP_MINOR_LOW;
	hello_out->modes = IP_MODE_VMM | IP_MODE_LEGACY_IPC;
	hello_out->fds_in_all = IP_SEGMENTS_MAX;
	hello_out->fds_at_once = IP_BATCH;
	/* Half: other threads and the driver open files too. */
	if (ip_fd_room(&room, &limit) == PS_OK && room / 2 < IP_BATCH)
		hello_out->fds_at_once = room < 2 ? 1 : (uint32_t)(room / 2);
}

/* pre: the layout is coherent. */
static enum ps_status check_asked(const struct ip_hello *hello,
				  const struct ip_offer *offer)
{
	enum ps_status status = check_gpu(hello, offer);

	if (status != PS_OK)
		return status;
	if (!(hello->modes & 1u << offer->mode))
		return bs_fail(PS_PROTOCOL,
			       "OFFER: mode is %u, HELLO took modes 0x%x",
			       offer->mode, hello->modes);
	if (sent_in_all(offer) > hello->fds_in_all)
		return bs_fail(PS_PROTOCOL,
			       "OFFER: count is %u, HELLO took %u descriptors",
			       offer->count, hello->fds_in_all);
	return PS_OK;
}

static enum ps_status hear_offer(struct ip_conn *conn,
				 const struct ip_hello *hello,
				 struct ip_offer *offer)
{
	struct ip_message msg;
	enum ps_status status = expect(conn, IP_OFFER, &msg);

	if (status != PS_OK)
		return status;
	if (msg.minor < hello->minor_low || msg.minor > IP_MINOR_HIGH)
		status = bs_fail(PS_VERSION_MISMATCH,
				 "the sender answers with protocol %u.%u, this "
				 "process speaks %u.%u to %u.%u",
				 IP_MAJOR, msg.minor, IP_MAJOR,
				 hello->minor_low, IP_MAJOR, IP_MINOR_HIGH);
	if (status == PS_OK)
		status = ip_offer_check(&msg.body.offer);
	if (status == PS_OK)
		status = check_asked(hello, &msg.body.offer);
	if (status == PS_OK) {
		conn->minor = msg.minor;
		*offer = msg.body.offer;
	}
	ip_message_done(&msg);
	return status;
}

static enum ps_status say_accept(struct ip_conn *conn,
				 const struct ip_offer *offer)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_ACCEPT, conn->minor);
	memcpy(msg.body.accept.pool_id, offer->pool_id, sizeof(offer->pool_id));
	return say(conn, &msg);
}

/* The offered segments come once each, in order, with the offered access. */
static enum ps_status check_batch(const struct ip_offer *offer, uint32_t first,
				  uint32_t at_once,
				  const struct ip_segments *segments)
{
	uint32_t most = same_access(offer, first);

	if (most > at_once)
		most = at_once;
	if (segments->first != first)
		return bs_fail(PS_PROTOCOL, "SEGMENTS: first is %u, must be %u",
			       segments->first, first);
	if (segments->count > most)
		return bs_fail(PS_PROTOCOL,
			       "SEGMENTS: count is %u, must be at most %u",
			       segments->count, most);
	if (segments->write != is_writable(offer, first))
		return bs_fail(PS_PROTOCOL,
			       "SEGMENTS: write is %u for segment %u, must be "
			       "%d",
			       segments->write, first,
			       is_writable(offer, first));
	return PS_OK;
}

static enum ps_status say_got(struct ip_conn *conn, uint32_t first,
			      uint32_t count)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_GOT, conn->minor);
	msg.body.got.first = first;
	msg.body.got.count = count;
	return say(conn, &msg);
}

static enum ps_status hear_batch(struct ip_conn *conn,
				 const struct ip_offer *offer,
				 const struct ip_sink *sink, uint32_t at_once,
				 uint32_t *first)
{
	struct ip_segments segments;
	struct ip_message msg;
	enum ps_status status = expect(conn, IP_SEGMENTS, &msg);

	if (status != PS_OK)
		return status;
	segments = msg.body.segments;
	status = check_batch(offer, *first, at_once, &segments);
	if (status == PS_OK)
		status = sink->take(sink->owner, segments.first, segments.count,
				    segments.write != 0, msg.fds);
	/* Before GOT, which asks for more. */
	ip_message_done(&msg);
	if (status == PS_OK)
		status = say_got(conn, segments.first, segments.count);
	*first += segments.count;
	return status;
}

static enum ps_status say_done(struct ip_conn *conn, uint32_t count)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_DONE, conn->minor);
	msg.body.done.count = count;
	return say(conn, &msg);
}

static enum ps_status say_hello(struct ip_conn *conn,
				const struct ip_hello *hello)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_HELLO, IP_MINOR_HIGH);
	msg.body.hello = *hello;
	return say(conn, &msg);
}

/* pre: the offer is coherent and what was asked for. */
static enum ps_status take_offer(struct ip_conn *conn,
				 const struct ip_offer *offer,
				 const struct ip_sink *sink, uint32_t at_once)
{
	uint32_t end = offer->first + sent_in_all(offer);
	uint32_t first = offer->first;
	enum ps_status status;

	status = sink->check(sink->owner, offer);
	if (status == PS_OK)
		status = say_accept(conn, offer);
	while (status == PS_OK && first < end)
		status = hear_batch(conn, offer, sink, at_once, &first);
	if (status == PS_OK)
		status = say_done(conn, sent_in_all(offer));
	return status;
}

enum ps_status ip_offer_receive(struct ip_conn *conn,
				const struct ip_hello *hello,
				const struct ip_sink *sink)
{
	struct ip_offer offer;
	enum ps_status status;

	assert(conn->peer == IP_SENDER);
	status = say_hello(conn, hello);
	if (status == PS_OK)
		status = hear_offer(conn, hello, &offer);
	if (status == PS_OK)
		status = take_offer(conn, &offer, sink, hello->fds_at_once);
	return status == PS_OK ? PS_OK : ip_refuse_send(conn, status);
}
