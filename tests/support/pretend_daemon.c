/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/pretend_daemon.h"

#include "ipc/conn.h"
#include "lib/pool.h"
#include "tests/support/pretend_models.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENT_ID 77u
#define TYPES 128u

enum books { FREE, LEASED, PARKED, OUTSIDE, OPENED };

static struct {
	struct ps_pool *pool;
	int control;
	int listening;
	int requests; /* -1: no client */
	int events;
	struct ip_conn asks;
	struct ip_conn answers;
	enum books books[TH_SEGMENTS];
	bool knows_client;
	uint32_t seen[TYPES];
	uint32_t recalls; /* numbers of RECALL */
	uint32_t cut_at;  /* 0: not */
	uint32_t cut;
	uint32_t deny, denials;
	uint32_t deny_attach, attach_denials;
	uint32_t lie, lie_times;
	uint32_t chunk;
	uint32_t limit;
	bool scatter;
	bool is_outside; /* the TAKE that is being answered */
	bool over;
} self;

static char path[108];

/* ---- the connection ---- */

static void hang_up(void)
{
	if (self.requests >= 0)
		close(self.requests);
	if (self.events >= 0)
		close(self.events);
	self.requests = -1;
	self.events = -1;
}

/* It may have hung up by itself. */
static void say(struct ip_conn *conn, const struct ip_message *msg)
{
	enum ps_status status = ip_conn_send(conn, msg);

	if (status != PS_PEER_GONE)
		th_assert_ok(status);
}

static void begin(struct ip_message *msg, enum ip_type type)
{
	ip_message_init(msg, type, self.asks.minor);
}

static void deny(uint32_t seq, enum ps_status status, const char *text)
{
	struct ip_message msg;

	begin(&msg, IP_DENY);
	ip_deny_set(&msg, seq, status, text);
	say(&self.asks, &msg);
}

static void did(uint32_t seq)
{
	struct ip_message msg;

	begin(&msg, IP_DID);
	msg.body.number.seq = seq;
	say(&self.asks, &msg);
}

static bool lies(enum th_lie lie)
{
	if (self.lie != lie)
		return false;
	if (--self.lie_times == 0)
		self.lie = TH_LIE_NONE;
	return true;
}

bool (*const th_pretend_lies)(enum th_lie lie) = lies;

/* Whether the answer ends after its first message. */
static bool stops_halfway(void)
{
	return self.cut_at == 1 && self.cut == TH_CUT_HALFWAY;
}

/* ---- ATTACH ---- */

static void fill_welcome(struct ip_welcome *welcome)
{
	const struct ps_pool *pool = self.pool;

	welcome->id = CLIENT_ID;
	welcome->token[0] = 5;
	memcpy(welcome->pool_id, pool->id, sizeof(welcome->pool_id));
	if (lies(TH_LIE_OTHER_POOL))
		welcome->pool_id[1]++;
	strncpy(welcome->gpu, ps_pool_gpu(pool), sizeof(welcome->gpu) - 1);
	if (lies(TH_LIE_OTHER_GPU))
		strcpy(welcome->gpu,
		       "GPU-01234567-89ab-cdef-0123-456789abcdef");
	welcome->window_base = pool->base;
	welcome->window_bytes = pool->window;
	welcome->segment_bytes = TH_SEGMENT;
	welcome->parameter_bytes = TH_PARAMETERS * TH_SEGMENT;
	welcome->segment_count = TH_SEGMENTS;
	welcome->limit = self.limit * TH_SEGMENT;
}

static void welcome(uint32_t seq, bool resumed)
{
	struct ip_message msg;
	int pair[2];

	th_socketpair(SOCK_SEQPACKET, pair);
	begin(&msg, IP_WELCOME);
	msg.body.welcome.seq = seq;
	msg.body.welcome.resumed = resumed;
	fill_welcome(&msg.body.welcome);
	msg.fds[msg.fd_count++] = pair[1];
	say(&self.asks, &msg);
	close(pair[1]);
	self.events = pair[0];
	th_assert_ok(ip_conn_init(&self.answers, self.events, IP_DAEMON, 0,
				  PS_TIMEOUT_DEFAULT));
	self.answers.minor = self.asks.minor;
}

static uint32_t list_held(uint32_t *entries)
{
	uint32_t count = 0;

	for (uint32_t n = 0; n < TH_SEGMENTS; n++) {
		if (self.books[n] == LEASED)
			entries[count++] = n;
		if (self.books[n] == PARKED)
			entries[count++] = n | IP_SEGMENT_PARKED;
		if (self.books[n] == OUTSIDE)
			entries[count++] = n | IP_SEGMENT_OUTSIDE;
		if (self.books[n] == OPENED)
			entries[count++] = n | IP_SEGMENT_OPENED;
	}
	if (lies(TH_LIE_HELD_NONE))
		return 0;
	if (lies(TH_LIE_HELD_PARAMETER))
		entries[count++] = 0;
	return count;
}

/* HELD or GRANT, in as many messages as it takes. */
static void send_list(enum ip_type type, uint32_t seq, const uint32_t *entries,
		      uint32_t count, const int *fds)
{
	uint32_t done = 0;

	do {
		struct ip_message msg;
		struct ip_list *list = &msg.body.list;

		begin(&msg, type);
		list->seq = seq;
		while (done < count && list->count < self.chunk) {
			list->segment[list->count++] = entries[done];
			if (fds != NULL && fds[done] >= 0)
				msg.fds[msg.fd_count++] = fds[done];
			done++;
		}
		list->flags = done < count ? IP_LIST_MORE : 0;
		if (self.is_outside)
			list->flags |= IP_LIST_OUTSIDE;
		say(&self.asks, &msg);
	} while (done < count && !stops_halfway());
}

static void attach(const struct ip_attach *attach)
{
	uint32_t entries[TH_SEGMENTS + 1];
	bool resumed = attach->id != 0;

	if (self.attach_denials > 0) {
		self.attach_denials--;
		deny(attach->seq, (enum ps_status)self.deny_attach,
		     "pretend: not now");
		return;
	}
	if (resumed && !self.knows_client) {
		deny(attach->seq, PS_REFUSED, "pretend: no such client");
		return;
	}
	self.knows_client = true;
	welcome(attach->seq, resumed);
	if (resumed && !stops_halfway())
		send_list(IP_HELD, attach->seq, entries, list_held(entries),
			  NULL);
}

/* ---- TAKE ---- */

static uint32_t find_free(uint32_t *entries, uint32_t wanted)
{
	uint32_t step = self.scatter ? 2 : 1, count = 0;

	for (uint32_t n = 0; n < TH_SEGMENTS && count < wanted; n++)
		if (!self.is_outside && self.books[n] == PARKED)
			entries[count++] = n | IP_SEGMENT_PARKED;
	for (uint32_t n = TH_PARAMETERS; n < TH_SEGMENTS && count < wanted;
	     n += step)
		if (self.books[n] == FREE)
			entries[count++] = n;
	return count;
}

static uint32_t lie_in_grant(uint32_t *entries, uint32_t count)
{
	if (lies(TH_LIE_PARAMETER))
		entries[0] = 1;
	if (lies(TH_LIE_PARKED))
		entries[0] |= IP_SEGMENT_PARKED;
	if (lies(TH_LIE_TWICE))
		entries[0] = TH_PARAMETERS;
	if (lies(TH_LIE_TOO_MANY))
		entries[count++] = TH_SEGMENTS - 1;
	if (lies(TH_LIE_TOO_FEW))
		count--;
	return count;
}

static void grant(uint32_t seq, const uint32_t *entries, uint32_t count)
{
	int files = lies(TH_LIE_FILES) ? memfd_create("none", MFD_CLOEXEC) : -1;
	int fds[TH_SEGMENTS + 1] = { 0 };

	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = entries[i] & ~IP_SEGMENT_PARKED;

		fds[i] = files >= 0 ? files : self.pool->segments[n].fd;
		if (self.is_outside || (entries[i] & IP_SEGMENT_PARKED) != 0)
			fds[i] = -1;
		if (n >= TH_PARAMETERS)
			self.books[n] = self.is_outside ? OUTSIDE : LEASED;
	}
	if (self.cut_at != 1 || self.cut != TH_CUT_UNSAID)
		send_list(IP_GRANT, seq, entries, count, fds);
	if (files >= 0)
		close(files);
}

static void take(const struct ip_take *take)
{
	uint32_t entries[TH_SEGMENTS + 1], count;

	self.is_outside = (take->flags & IP_TAKE_OUTSIDE) != 0;
	count = find_free(entries, take->count);
	if (count < take->count)
		deny(take->seq, PS_OUT_OF_MEMORY,
		     "pretend: there are not as many");
	else
		grant(take->seq, entries, lie_in_grant(entries, count));
	self.is_outside = false;
}

/* ---- the rest ---- */

/* By the words of ipc/wire_daemon.h, to the letter. */
static void give(const struct ip_list *list)
{
	bool parked = (list->flags & IP_LIST_PARKED) != 0;

	for (uint32_t i = 0; i < list->count; i++) {
		enum books *books = &self.books[list->segment[i]];

		if (parked)
			assert_int_equal(*books, LEASED);
		else
			assert_int_not_equal(*books, FREE);
		*books = parked ? PARKED : FREE;
	}
}

static void need(const struct ip_need *need)
{
	int files = -1;
	struct ip_message msg;

	if (lies(TH_LIE_NEED_FILES))
		files = memfd_create("none", MFD_CLOEXEC);
	begin(&msg, IP_PART);
	msg.body.part = (struct ip_part){ .seq = need->seq,
					  .first = need->first,
					  .count = need->count };
	for (uint32_t i = 0; i < need->count; i++)
		msg.fds[msg.fd_count++] =
			files >= 0 ? files
				   : self.pool->segments[need->first + i].fd;
	say(&self.asks, &msg);
	if (files >= 0)
		close(files);
}

static void issue(const struct ip_issue *issue)
{
	struct ps_ticket ticket = th_pretend_ticket(
		issue->run[0].first, issue->run[0].count,
		(uint32_t)issue->offset, (uint32_t)issue->bytes);
	struct ip_message msg;

	begin(&msg, IP_TICKET);
	msg.body.ticket.seq = issue->seq;
	memcpy(msg.body.ticket.ticket, ticket.bytes, IP_TICKET_BYTES);
	say(&self.asks, &msg);
}

static void add_opened(struct ip_message *msg, uint32_t n, int files)
{
	struct ip_opened *opened = &msg->body.opened;

	if (self.books[n] == FREE)
		self.books[n] = OPENED;
	opened->segment[opened->count++] = n;
	msg->fds[msg->fd_count++] =
		files >= 0 ? files : self.pool->segments[n].fd;
}

/* A ticket of a process that only the daemon knows. */
static void open_ticket(const struct ip_ticket *ticket, bool answers)
{
	int files = lies(TH_LIE_OPEN_FILES) ? memfd_create("none", MFD_CLOEXEC)
					    : -1;
	struct th_pretend_ticket names;
	uint32_t done = 0;

	memcpy(&names, ticket->ticket + TH_TICKET_AT, sizeof(names));
	do {
		struct ip_message msg;
		struct ip_opened *opened = &msg.body.opened;

		begin(&msg, IP_OPENED);
		opened->seq = ticket->seq;
		opened->offset = names.offset;
		opened->bytes = names.bytes;
		while (done < names.count && opened->count < self.chunk)
			add_opened(&msg, names.first + done++, files);
		opened->flags = done < names.count ? IP_LIST_MORE : 0;
		if (answers)
			say(&self.asks, &msg);
	} while (done < names.count && !stops_halfway());
	if (files >= 0)
		close(files);
}

static void close_opened(const struct ip_list *list)
{
	for (uint32_t i = 0; i < list->count; i++) {
		assert_int_equal(self.books[list->segment[i]], OPENED);
		self.books[list->segment[i]] = FREE;
	}
}

static void leave(uint32_t seq)
{
	for (uint32_t n = 0; n < TH_SEGMENTS; n++)
		self.books[n] = FREE;
	self.knows_client = false;
	did(seq);
}

static void do_it(const struct ip_message *msg, bool answers)
{
	uint32_t seq = msg->body.number.seq;

	switch (msg->type) {
	case IP_ATTACH:
		attach(&msg->body.attach);
		break;
	case IP_TAKE:
		take(&msg->body.take);
		break;
	case IP_GIVE:
		give(&msg->body.list);
		if (answers)
			did(seq);
		break;
	case IP_NEED:
		need(&msg->body.need);
		break;
	case IP_ISSUE:
		issue(&msg->body.issue);
		break;
	case IP_OPEN:
		open_ticket(&msg->body.ticket, answers);
		break;
	case IP_CLOSE:
		close_opened(&msg->body.list);
		if (answers)
			did(seq);
		break;
	case IP_LEAVE:
		leave(seq);
		break;
	default:
		th_models_hear(msg, &self.asks, self.pool, answers);
	}
}

static void hear(void)
{
	struct ip_message msg;
	enum ps_status status = ip_conn_receive(&self.asks, &msg);

	if (status != PS_OK) {
		hang_up();
		return;
	}
	self.asks.minor = msg.minor;
	self.seen[msg.type % TYPES]++;
	if (self.denials > 0 && msg.type != IP_ATTACH) {
		self.denials--;
		deny(msg.body.number.seq, (enum ps_status)self.deny,
		     "pretend: denied as ordered");
	} else if (self.cut_at != 1 || self.cut != TH_CUT_UNREAD) {
		do_it(&msg, self.cut_at != 1 || self.cut != TH_CUT_UNSAID);
	}
	ip_message_done(&msg);
	if (self.cut_at > 0 && --self.cut_at == 0)
		hang_up();
}

static void greet(void)
{
	int fd = accept4(self.listening, NULL, NULL, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	hang_up();
	self.requests = fd;
	th_assert_ok(
		ip_conn_init(&self.asks, fd, IP_DAEMON, 0, PS_TIMEOUT_DEFAULT));
}

/* ---- orders ---- */

/* Takes what the client says over the events socket: how many came. */
static uint64_t receive_recalled(uint32_t seq)
{
	struct ip_message msg;
	uint64_t count = 0;
	bool more;

	do {
		th_assert_ok(ip_conn_receive(&self.answers, &msg));
		assert_int_equal(msg.type, IP_RECALLED);
		assert_int_equal(msg.body.list.seq, seq);
		for (uint32_t i = 0; i < msg.body.list.count; i++) {
			uint32_t n = msg.body.list.segment[i];

			assert_int_not_equal(self.books[n], FREE);
			self.books[n] = FREE;
		}
		count += msg.body.list.count;
		more = (msg.body.list.flags & IP_LIST_MORE) != 0;
		ip_message_done(&msg);
	} while (more);
	return count;
}

static uint64_t recall(uint32_t count, uint32_t deadline_ms)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_RECALL, self.answers.minor);
	msg.body.recall = (struct ip_recall){ .seq = ++self.recalls,
					      .count = count,
					      .deadline_ms = deadline_ms };
	th_assert_ok(ip_conn_send(&self.answers, &msg));
	return receive_recalled(self.recalls);
}

/* The live bytes, or those that were passed. */
static uint64_t ask(bool passed)
{
	struct ip_message msg;
	uint64_t bytes;

	ip_message_init(&msg, IP_POLL, self.answers.minor);
	msg.body.number.seq = ++self.recalls;
	th_assert_ok(ip_conn_send(&self.answers, &msg));
	th_assert_ok(ip_conn_receive(&self.answers, &msg));
	assert_int_equal(msg.type, IP_POLLED);
	bytes = passed ? msg.body.polled.passed : msg.body.polled.live;
	ip_message_done(&msg);
	return bytes;
}

static void say_event(enum ip_type type)
{
	struct ip_message msg;

	ip_message_init(&msg, type, self.answers.minor);
	msg.body.number.seq = ++self.recalls;
	th_assert_ok(ip_conn_send(&self.answers, &msg));
}

static uint64_t count_books(enum books books)
{
	uint64_t count = 0;

	for (uint32_t n = 0; n < TH_SEGMENTS; n++)
		count += self.books[n] == books;
	return count;
}

static void turn_books(enum books from, enum books into)
{
	for (uint32_t n = 0; n < TH_SEGMENTS; n++)
		if (self.books[n] == from)
			self.books[n] = into;
}

static void end(void)
{
	hang_up();
	close(self.listening);
	self.listening = -1;
	unlink(path);
}

static uint64_t obey_loud(const struct th_order_message *order)
{
	switch ((enum th_order)order->order) {
	case TH_ORDER_RECALL:
		return recall(order->a, order->b);
	case TH_ORDER_POLL:
		return ask(order->a != 0);
	case TH_ORDER_LOSE:
		say_event(IP_LOST);
		break;
	case TH_ORDER_STRANGE:
		say_event(IP_DID);
		break;
	case TH_ORDER_FORGET:
		self.knows_client = false;
		hang_up();
		break;
	case TH_ORDER_HANG_UP:
		hang_up();
		break;
	case TH_ORDER_END:
		end();
		break;
	default:
		return th_models_obey(order, &self.answers);
	}
	return 0;
}

static uint64_t obey(const struct th_order_message *order)
{
	switch ((enum th_order)order->order) {
	case TH_ORDER_CUT:
		self.cut_at = order->a;
		self.cut = order->b;
		return 0;
	case TH_ORDER_DENY:
		self.deny = order->a;
		self.denials = order->b;
		return 0;
	case TH_ORDER_DENY_ATTACH:
		self.deny_attach = order->a;
		self.attach_denials = order->b;
		return 0;
	case TH_ORDER_LIE:
		self.lie = order->a;
		self.lie_times = order->b;
		return 0;
	case TH_ORDER_LEASED:
		return count_books(LEASED);
	case TH_ORDER_PARKED:
		return count_books(PARKED);
	case TH_ORDER_OUTSIDE:
		return count_books(OUTSIDE);
	case TH_ORDER_OPENED:
		return count_books(OPENED);
	case TH_ORDER_REQUESTS:
		return self.seen[order->a % TYPES];
	case TH_ORDER_CHUNK:
		self.chunk = order->a;
		return 0;
	case TH_ORDER_SCATTER:
		self.scatter = true;
		return 0;
	case TH_ORDER_LIMIT:
		self.limit = order->a;
		return 0;
	case TH_ORDER_UNPARK:
		turn_books(PARKED, LEASED);
		return 0;
	case TH_ORDER_PARK:
		turn_books(LEASED, PARKED);
		return 0;
	default:
		return obey_loud(order);
	}
}

static void take_order(void)
{
	struct th_order_message order;
	uint64_t result;
	ssize_t got = recv(self.control, &order, sizeof(order), MSG_WAITALL);

	if (got != sizeof(order)) {
		self.over = true;
		return;
	}
	result = obey(&order);
	assert_int_equal(
		send(self.control, &result, sizeof(result), MSG_NOSIGNAL),
		sizeof(result));
}

/* ---- the whole ---- */

static void listen_there(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	memcpy(name.sun_path, path, sizeof(path));
	self.listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_true(self.listening >= 0);
	assert_int_equal(
		bind(self.listening, (struct sockaddr *)&name, sizeof(name)),
		0);
	assert_int_equal(listen(self.listening, 8), 0);
}

static void serve_once(void)
{
	struct pollfd fds[3] = { { self.control, POLLIN, 0 },
				 { self.requests, POLLIN, 0 },
				 { self.listening, POLLIN, 0 } };

	if (poll(fds, 3, -1) < 0) {
		assert_int_equal(errno, EINTR);
		return;
	}
	if (fds[0].revents != 0)
		take_order();
	else if (fds[1].revents != 0)
		hear();
	else if (fds[2].revents != 0)
		greet();
}

static void serve(const struct th_part *me)
{
	self.pool = th_reserve();
	self.control = me->link[0];
	self.requests = -1;
	self.events = -1;
	self.chunk = IP_LIST_MAX;
	self.limit = TH_SEGMENTS - TH_PARAMETERS;
	listen_there();
	th_tell(me->link[0]);
	while (!self.over)
		serve_once();
	end();
	ps_pool_close(self.pool);
}

void th_pretend_play(th_role *client)
{
	snprintf(path, sizeof(path), "%s/socket", th_temp_dir());
	setenv("POOLSWITCH_SOCKET", path, 1);
	th_play(serve, client);
}
