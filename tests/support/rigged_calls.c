/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/rigged_calls.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct th_rig th_rig;

/* The thread sanitizer's runtime makes some of these calls too, before it is
 * ready to watch them. */
#if defined(__has_attribute)
#if __has_attribute(disable_sanitizer_instrumentation)
#define UNWATCHED __attribute__((disable_sanitizer_instrumentation))
#endif
#endif
#ifndef UNWATCHED
#define UNWATCHED __attribute__((no_sanitize("thread")))
#endif

/* Any thread. */
UNWATCHED static bool fails(enum th_call call)
{
	if (th_rig.fail_at[call] <= 0)
		return false;
	if (atomic_fetch_sub(&th_rig.fail_at[call], 1) != 1)
		return false;
	errno = th_rig.error[call];
	return true;
}

void th_fail_at(enum th_call call, int nth, int error)
{
	th_rig.fail_at[call] = nth;
	th_rig.error[call] = error;
}

int th_rig_reset(void **state)
{
	(void)state;
	memset(&th_rig, 0, sizeof(th_rig));
	return 0;
}

/* Both names are the linker's. */
#define RIGGED(type, name, ...)                                                \
	type __real_##name(__VA_ARGS__);                                       \
	type __wrap_##name(__VA_ARGS__);                                       \
	UNWATCHED type __wrap_##name(__VA_ARGS__)

/* What is left out of the vector for one call. */
UNWATCHED static size_t shorten(const struct msghdr *packet)
{
	size_t whole = packet->msg_iov->iov_len;

	if (th_rig.most > 0 && th_rig.most < whole)
		packet->msg_iov->iov_len = th_rig.most;
	return whole;
}

RIGGED(ssize_t, recvmsg, int fd, struct msghdr *packet, int flags)
{
	size_t whole = shorten(packet);
	ssize_t got =
		fails(TH_RECVMSG) ? -1 : __real_recvmsg(fd, packet, flags);

	packet->msg_iov->iov_len = whole;
	return got;
}

/* The last bytes go out, then the connection ends as if the process had. */
UNWATCHED static ssize_t die(int fd, const struct msghdr *packet, int flags)
{
	if (th_rig.die_after > 0 && !th_rig.died) {
		packet->msg_iov->iov_len = th_rig.die_after;
		__real_sendmsg(fd, packet, flags);
	}
	th_rig.died = true;
	shutdown(fd, SHUT_RDWR);
	errno = EPIPE;
	return -1;
}

RIGGED(ssize_t, sendmsg, int fd, const struct msghdr *packet, int flags)
{
	size_t whole = shorten(packet);
	ssize_t sent = -1;

	if (th_rig.dies && fd == th_rig.die_fd) {
		if (packet->msg_iov->iov_len > th_rig.die_after)
			return die(fd, packet, flags);
		th_rig.die_after -= packet->msg_iov->iov_len;
	}
	if (!fails(TH_SENDMSG))
		sent = __real_sendmsg(fd, packet, flags);
	packet->msg_iov->iov_len = whole;
	return sent;
}

RIGGED(int, poll, struct pollfd *entries, nfds_t count, int timeout)
{
	int ready;

	if (th_rig.no_waiting)
		th_rig.polls++;
	if (fails(TH_POLL))
		return -1;
	if (!th_rig.no_waiting)
		return __real_poll(entries, count, timeout);
	ready = __real_poll(entries, count, 0);
	if (ready == 0 && th_rig.drip_fd > 0 && timeout >= 100) {
		th_rig.skew_ns += 100000000;
		return (int)write(th_rig.drip_fd, "", 1);
	}
	if (ready == 0)
		th_rig.skew_ns += (int64_t)timeout * 1000000;
	return ready;
}

RIGGED(int, clock_gettime, clockid_t clock, struct timespec *now)
{
	int result = __real_clock_gettime(clock, now);
	int64_t ns = now->tv_nsec + th_rig.skew_ns;

	now->tv_sec += (time_t)(ns / 1000000000);
	now->tv_nsec = (long)(ns % 1000000000);
	return result;
}

RIGGED(int, getsockopt, int fd, int level, int option, void *value,
       socklen_t *size)
{
	if (fails(TH_GETSOCKOPT))
		return -1;
	return __real_getsockopt(fd, level, option, value, size);
}

RIGGED(int, getpeername, int fd, struct sockaddr *name, socklen_t *size)
{
	return fails(TH_GETPEERNAME) ? -1 : __real_getpeername(fd, name, size);
}

RIGGED(int, getrlimit, int resource, struct rlimit *limit)
{
	return fails(TH_GETRLIMIT) ? -1 : __real_getrlimit(resource, limit);
}

/* What _FILE_OFFSET_BITS makes of it. */
RIGGED(int, getrlimit64, int resource, struct rlimit *limit)
{
	return fails(TH_GETRLIMIT) ? -1 : __real_getrlimit64(resource, limit);
}

RIGGED(DIR *, opendir, const char *path)
{
	return fails(TH_OPENDIR) ? NULL : __real_opendir(path);
}

RIGGED(int, socket, int domain, int type, int protocol)
{
	return fails(TH_SOCKET) ? -1 : __real_socket(domain, type, protocol);
}

RIGGED(int, bind, int fd, const struct sockaddr *name, socklen_t size)
{
	return fails(TH_BIND) ? -1 : __real_bind(fd, name, size);
}

RIGGED(int, listen, int fd, int backlog)
{
	return fails(TH_LISTEN) ? -1 : __real_listen(fd, backlog);
}

RIGGED(int, connect, int fd, const struct sockaddr *name, socklen_t size)
{
	struct timeval wait = { 0, 0 };
	socklen_t wait_size = sizeof(wait);

	__real_getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, &wait_size);
	th_rig.connect_wait_s = (long)wait.tv_sec;
	return fails(TH_CONNECT) ? -1 : __real_connect(fd, name, size);
}

RIGGED(int, setsockopt, int fd, int level, int option, const void *value,
       socklen_t size)
{
	if (fails(TH_SETSOCKOPT))
		return -1;
	return __real_setsockopt(fd, level, option, value, size);
}

/* What _FILE_OFFSET_BITS makes of pread(). No error: the file has ended. */
RIGGED(ssize_t, pread64, int fd, void *bytes, size_t size, off_t at)
{
	if (fails(TH_PREAD))
		return th_rig.error[TH_PREAD] ? -1 : 0;
	return __real_pread64(fd, bytes, size, at);
}

RIGGED(void *, malloc, size_t size)
{
	return fails(TH_MALLOC) ? NULL : __real_malloc(size);
}
