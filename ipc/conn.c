/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "ipc/conn.h"

#include "base/status.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04 /* Linux 6.5 */
#endif

#define SECURITY_BYTES 256u

/* Room for all that the kernel may put beside a message, so that a truncated
 * control message means lost descriptors and nothing else: the caller may have
 * set SO_PASSCRED, SO_PASSSEC or SO_PASSPIDFD on his socket. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(IP_MESSAGE_FDS * sizeof(int)) +
		   CMSG_SPACE(sizeof(struct ucred)) +
		   CMSG_SPACE(SECURITY_BYTES) + CMSG_SPACE(sizeof(int))];
};

/* ------------------------------------------------------------------ */
/* Time                                                                */

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t deadline_ns(const struct ip_conn *conn)
{
	return now_ns() + (int64_t)conn->timeout_ms * 1000000;
}

/* PS_OK: @events or an error is there. PS_TIMED_OUT says nothing yet. */
static enum ps_status wait_for(const struct ip_conn *conn, short events,
			       int64_t deadline)
{
	struct pollfd entry = { conn->fd, events, 0 };
	int64_t left;
	int ready;

	do {
		left = (deadline - now_ns() + 999999) / 1000000;
		ready = poll(&entry, 1, left > 0 ? (int)left : 0);
	} while (ready < 0 && errno == EINTR);
	if (ready < 0)
		return bs_fail_errno("waiting for pid %d on socket %d",
				     (int)conn->peer_pid, conn->fd);
	return ready == 0 ? PS_TIMED_OUT : PS_OK;
}

/* ------------------------------------------------------------------ */
/* Sending                                                             */

/* pre: msg->fd_count is not 0 and none of the descriptors was taken. */
static void put_fds(struct msghdr *packet, union control *control,
		    const struct ip_message *msg)
{
	size_t bytes = msg->fd_count * sizeof(int);
	struct cmsghdr *entry;

	memset(control, 0, sizeof(*control));
	packet->msg_control = control->bytes;
	packet->msg_controllen = CMSG_SPACE(bytes);
	entry = CMSG_FIRSTHDR(packet);
	entry->cmsg_level = SOL_SOCKET;
	entry->cmsg_type = SCM_RIGHTS;
	entry->cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(entry), msg->fds, bytes);
}

static enum ps_status send_failed(const struct ip_conn *conn,
				  const struct ip_message *msg)
{
	const char *name = ip_type_name(msg->type);
	int pid = (int)conn->peer_pid;

	if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
		return bs_fail(PS_PEER_GONE,
			       "sending %s: pid %d has closed the connection",
			       name, pid);
	if (errno == ETOOMANYREFS)
		return bs_fail(PS_FD_LIMIT,
			       "sending %s: too many descriptors of this user "
			       "are on their way through sockets; raise the "
			       "limit of open files (ulimit -n)",
			       name);
	return bs_fail_errno("sending %s with %u descriptors to pid %d", name,
			     msg->fd_count, pid);
}

/* Sends what the socket takes now: 0 when nothing, -1 on failure. */
static ssize_t send_some(const struct ip_conn *conn,
			 const struct ip_message *msg, uint8_t *bytes,
			 size_t size, bool with_fds)
{
	struct iovec part = { bytes, size };
	struct msghdr packet = { .msg_iov = &part, .msg_iovlen = 1 };
	union control control;
	ssize_t sent;

	/* They go with the first byte of a stream; never twice. */
	if (with_fds && msg->fd_count > 0)
		put_fds(&packet, &control, msg);
	do {
		sent = sendmsg(conn->fd, &packet, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	return sent;
}

enum ps_status ip_conn_send(struct ip_conn *conn, const struct ip_message *msg)
{
	int64_t deadline = deadline_ns(conn);
	uint8_t bytes[IP_MESSAGE_MAX];
	enum ps_status status;
	size_t size = 0;
	size_t at = 0;

	status = ip_message_encode(msg, bytes, &size);
	while (status == PS_OK && at < size) {
		ssize_t sent =
			send_some(conn, msg, bytes + at, size - at, at == 0);

		if (sent < 0)
			return send_failed(conn, msg);
		at += (size_t)sent;
		conn->over = at > 0 && at < size;
		if (sent == 0)
			status = wait_for(conn, POLLOUT, deadline);
	}
	if (status == PS_TIMED_OUT)
		return bs_fail(PS_TIMED_OUT,
			       "sending %s: pid %d read %zu of %zu bytes in "
			       "%d ms",
			       ip_type_name(msg->type), (int)conn->peer_pid, at,
			       size, conn->timeout_ms);
	return status;
}

enum ps_status ip_conn_try_send(struct ip_conn *conn,
				const struct ip_message *msg)
{
	uint8_t bytes[IP_MESSAGE_MAX];
	enum ps_status status;
	size_t size = 0;
	ssize_t sent;

	assert(conn->type == SOCK_SEQPACKET);
	status = ip_message_encode(msg, bytes, &size);
	if (status != PS_OK)
		return status;
	sent = send_some(conn, msg, bytes, size, true);
	if (sent < 0)
		return send_failed(conn, msg);
	return sent == 0 ? PS_AGAIN : PS_OK;
}

/* ------------------------------------------------------------------ */
/* Receiving                                                           */

/* A message on its way in. */
struct inbox {
	uint8_t bytes[IP_MESSAGE_MAX + 1]; /* one more: to see too long */
	size_t have;
	unsigned int fd_count;
	int fds[IP_MESSAGE_FDS];
	unsigned int surplus; /* descriptors beyond those; closed */
	bool lost;            /* the kernel could not give us all */
	bool cut;             /* a packet was longer than our buffer */
};

static void close_fds(struct inbox *in)
{
	for (unsigned int i = 0; i < in->fd_count; i++)
		ip_close(in->fds[i]);
	in->fd_count = 0;
}

static void take_fds(struct inbox *in, const struct cmsghdr *entry)
{
	size_t count = (entry->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	int fd;

	for (size_t i = 0; i < count; i++) {
		memcpy(&fd, CMSG_DATA(entry) + i * sizeof(int), sizeof(fd));
		if (entry->cmsg_type == SCM_PIDFD) {
			close(fd); /* not the peer's doing */
		} else if (in->fd_count == IP_MESSAGE_FDS) {
			ip_close(fd);
			in->surplus++;
		} else {
			in->fds[in->fd_count++] = fd;
		}
	}
}

static void take_control(struct inbox *in, struct msghdr *packet)
{
	struct cmsghdr *entry;

	for (entry = CMSG_FIRSTHDR(packet); entry;
	     entry = CMSG_NXTHDR(packet, entry)) {
		if (entry->cmsg_level == SOL_SOCKET &&
		    (entry->cmsg_type == SCM_RIGHTS ||
		     entry->cmsg_type == SCM_PIDFD))
			take_fds(in, entry);
	}
	if (packet->msg_flags & MSG_CTRUNC)
		in->lost = true;
	if (packet->msg_flags & MSG_TRUNC)
		in->cut = true;
}

/* Reads what is there, at most @want bytes: 0 at the end, -1 on failure. */
static ssize_t receive_some(const struct ip_conn *conn, struct inbox *in,
			    size_t want)
{
	struct iovec part = { in->bytes + in->have, want };
	union control control;
	struct msghdr packet = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t got;

	do {
		got = recvmsg(conn->fd, &packet,
			      MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -1;
	take_control(in, &packet);
	in->have += (size_t)got;
	return got;
}

static enum ps_status peer_gone(const struct ip_conn *conn,
				const struct inbox *in)
{
	if (in->have == 0)
		return bs_fail(PS_PEER_GONE, "pid %d has closed the connection",
			       (int)conn->peer_pid);
	return bs_fail(PS_PEER_GONE,
		       "pid %d has closed the connection after %zu bytes of a "
		       "message",
		       (int)conn->peer_pid, in->have);
}

/* PS_OK: something was read. PS_AGAIN: nothing is there yet. */
static enum ps_status receive_now(const struct ip_conn *conn, struct inbox *in,
				  size_t want)
{
	ssize_t got = receive_some(conn, in, want);

	/* A seqpacket socket reports a reset before the messages that the
	 * peer sent ahead of closing. */
	if (got < 0 && errno == ECONNRESET)
		got = receive_some(conn, in, want);
	if (got > 0)
		return PS_OK;
	if (got == 0 || errno == ECONNRESET)
		return peer_gone(conn, in);
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return PS_AGAIN;
	return bs_fail_errno("receiving from pid %d", (int)conn->peer_pid);
}

static enum ps_status fds_lost(const struct inbox *in)
{
	struct rlimit limit = { 0, 0 };

	getrlimit(RLIMIT_NOFILE, &limit);
	return bs_fail(PS_FD_LIMIT,
		       "descriptors were lost on arrival, %u came: the limit "
		       "of open files (RLIMIT_NOFILE) is %" PRIu64
		       ", at most %" PRIu64 "; raise it (ulimit -n) or close "
		       "files",
		       in->fd_count, (uint64_t)limit.rlim_cur,
		       (uint64_t)limit.rlim_max);
}

/* What a packet may have suffered. */
static enum ps_status check_packet(const struct ip_conn *conn,
				   const struct inbox *in)
{
	if (in->lost)
		return fds_lost(in);
	if (in->cut)
		return bs_fail(PS_PROTOCOL,
			       "pid %d sent a packet longer than the longest "
			       "message, %u bytes",
			       (int)conn->peer_pid, IP_MESSAGE_MAX);
	return PS_OK;
}

/* Reads until @size bytes are there; a packet comes at once or never. */
static enum ps_status receive_upto(const struct ip_conn *conn, struct inbox *in,
				   size_t size, int64_t deadline)
{
	int64_t sleep_ns = now_ns() + (int64_t)conn->awake_us * 1000;
	enum ps_status status = PS_OK;

	while (in->have < size && status == PS_OK) {
		status = receive_now(conn, in, size - in->have);
		if (status == PS_OK && conn->type == SOCK_SEQPACKET)
			break;
		if (status == PS_AGAIN && now_ns() < sleep_ns)
			status = PS_OK;
		else if (status == PS_AGAIN)
			status = wait_for(conn, POLLIN, deadline);
	}
	if (status == PS_TIMED_OUT)
		return bs_fail(PS_TIMED_OUT,
			       "pid %d sent %zu bytes of a message in %d ms",
			       (int)conn->peer_pid, in->have, conn->timeout_ms);
	return status == PS_OK ? check_packet(conn, in) : status;
}

static enum ps_status receive_bytes(const struct ip_conn *conn,
				    struct inbox *in)
{
	int64_t deadline = deadline_ns(conn);
	struct ip_header header;
	enum ps_status status;

	if (conn->type == SOCK_SEQPACKET)
		return receive_upto(conn, in, sizeof(in->bytes), deadline);
	/* Never more than the message: what follows is the caller's. */
	status = receive_upto(conn, in, IP_HEADER_BYTES, deadline);
	if (status == PS_OK)
		status = ip_header_decode(in->bytes, conn->peer, &header);
	if (status == PS_OK)
		status = receive_upto(conn, in, IP_HEADER_BYTES + header.bytes,
				      deadline);
	return status;
}

/* pre: the message was decoded from in->bytes. */
static enum ps_status check_fds(const struct inbox *in, unsigned int from)
{
	unsigned int came = in->fd_count + in->surplus;
	struct ip_header header;
	enum ps_status status;

	status = ip_header_decode(in->bytes, from, &header);
	if (status == PS_OK && came != header.fd_count)
		status = bs_fail(PS_PROTOCOL,
				 "%s: %u descriptors came, its header says %u",
				 ip_type_name(header.type), came,
				 header.fd_count);
	return status;
}

/* Makes a message of what came; closes the descriptors when it is none. */
static enum ps_status take_message(const struct ip_conn *conn, struct inbox *in,
				   struct ip_message *msg_out)
{
	struct ip_message msg;
	enum ps_status status;

	status = ip_message_decode(in->bytes, in->have, conn->peer, &msg);
	if (status == PS_OK)
		status = check_fds(in, conn->peer);
	if (status != PS_OK) {
		close_fds(in);
		return status;
	}
	memcpy(msg.fds, in->fds, sizeof(in->fds));
	msg.fd_count = in->fd_count;
	*msg_out = msg;
	return PS_OK;
}

enum ps_status ip_conn_receive(struct ip_conn *conn, struct ip_message *msg_out)
{
	enum ps_status status;
	struct inbox in;

	memset(&in, 0, sizeof(in));
	status = receive_bytes(conn, &in);
	if (status == PS_OK)
		return take_message(conn, &in, msg_out);
	close_fds(&in);
	return status;
}

enum ps_status ip_conn_try_receive(struct ip_conn *conn,
				   struct ip_message *msg_out)
{
	enum ps_status status;
	struct inbox in;

	assert(conn->type == SOCK_SEQPACKET);
	memset(&in, 0, sizeof(in));
	status = receive_now(conn, &in, sizeof(in.bytes));
	if (status == PS_OK)
		status = check_packet(conn, &in);
	if (status == PS_OK)
		return take_message(conn, &in, msg_out);
	close_fds(&in);
	return status;
}

bool ip_conn_find_refusal(const struct ip_conn *conn,
			  struct ip_message *msg_out)
{
	struct ip_conn brief = *conn;
	char text[IP_TEXT_MAX + 1];
	struct ip_message msg;

	snprintf(text, sizeof(text), "%s", bs_fail_text());
	brief.timeout_ms = 0;
	if (ip_conn_receive(&brief, &msg) == PS_OK) {
		if (msg.type == IP_REFUSE) {
			*msg_out = msg;
			return true;
		}
		ip_message_done(&msg);
	}
	bs_fail(PS_PEER_GONE, "%s", text);
	return false;
}

/* ------------------------------------------------------------------ */
/* Who is there                                                        */

static bool read_option(int fd, int option, int *value_out)
{
	socklen_t size = sizeof(*value_out);

	return getsockopt(fd, SOL_SOCKET, option, value_out, &size) == 0;
}

static enum ps_status check_socket(int fd, int *type_out)
{
	struct sockaddr_un name;
	socklen_t size = sizeof(name);
	int domain;
	int type;

	if (!read_option(fd, SO_DOMAIN, &domain) ||
	    !read_option(fd, SO_TYPE, &type))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "descriptor %d is not a socket: %s", fd,
			       strerror(errno));
	if (domain != AF_UNIX)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "socket %d is of address family %d, must be "
			       "AF_UNIX (%d): only there can descriptors "
			       "travel",
			       fd, domain, AF_UNIX);
	if (type != SOCK_STREAM && type != SOCK_SEQPACKET)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "socket %d is of type %d, must be SOCK_STREAM "
			       "(%d) or SOCK_SEQPACKET (%d)",
			       fd, type, SOCK_STREAM, SOCK_SEQPACKET);
	if (getpeername(fd, (struct sockaddr *)&name, &size) != 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "socket %d is not connected: %s", fd,
			       strerror(errno));
	*type_out = type;
	return PS_OK;
}

static enum ps_status check_peer(const struct ip_conn *conn, unsigned int flags)
{
	uid_t own = geteuid();

	if (flags & PS_PEER_ANY_USER)
		return PS_OK;
	if (conn->peer_uid == own || conn->peer_uid == 0)
		return PS_OK;
	return bs_fail(PS_PERMISSION,
		       "the peer, pid %d, runs as user %u, must be %u (as this "
		       "process) or 0; PS_PEER_ANY_USER accepts others",
		       (int)conn->peer_pid, (unsigned int)conn->peer_uid,
		       (unsigned int)own);
}

static unsigned int other_side(enum ip_side self)
{
	switch (self) {
	case IP_SENDER:
		return IP_RECEIVER;
	case IP_RECEIVER:
		return IP_SENDER;
	case IP_CLIENT:
		return IP_DAEMON;
	case IP_DAEMON:
		return IP_CLIENT;
	case IP_HALF:
		return IP_HALF;
	}
	return 0;
}

enum ps_status ip_conn_init(struct ip_conn *conn, int fd, enum ip_side self,
			    unsigned int flags, int timeout_ms)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	enum ps_status status;
	int type = 0;

	if (timeout_ms < 0 && timeout_ms != PS_TIMEOUT_DEFAULT)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "timeout is %d ms, must be at least 0, or "
			       "PS_TIMEOUT_DEFAULT (%d)",
			       timeout_ms, PS_TIMEOUT_DEFAULT);
	status = check_socket(fd, &type);
	if (status != PS_OK)
		return status;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
		return bs_fail_errno("asking who is at socket %d", fd);
	memset(conn, 0, sizeof(*conn));
	conn->fd = fd;
	conn->type = type;
	conn->peer = other_side(self);
	conn->timeout_ms = timeout_ms < 0 ? IP_TIMEOUT_DEFAULT_MS : timeout_ms;
	conn->minor = IP_MINOR_HIGH;
	conn->peer_pid = peer.pid;
	conn->peer_uid = peer.uid;
	return check_peer(conn, flags);
}

enum ps_status ip_fd_room(uint64_t *room_out, uint64_t *limit_out)
{
	struct rlimit limit;
	uint64_t open_now = 0;
	DIR *folder;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return bs_fail_errno("reading the limit of open files");
	folder = opendir("/proc/self/fd");
	if (!folder && errno != EMFILE)
		return bs_fail_errno("counting the open files");
	if (!folder)
		open_now = limit.rlim_cur;
	while (folder && readdir(folder))
		open_now++;
	if (folder) {
		closedir(folder);
		open_now -= 3; /* ".", ".." and the folder itself */
	}
	*limit_out = limit.rlim_cur;
	*room_out = open_now < limit.rlim_cur ? limit.rlim_cur - open_now : 0;
	return PS_OK;
}
