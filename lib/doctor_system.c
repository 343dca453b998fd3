/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "lib/doctor.h"

#include "base/arith.h"
#include "device/device.h"
#include "ipc/wire.h"

#include <errno.h>
#include <gnu/libc-version.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* Besides the segments': two connections and a pidfd for each client, the
 * driver's files and its own. */
#define CLIENTS_USUAL 64u
#define FDS_OF_DAEMON (3u * CLIENTS_USUAL + 64u)
/* Those of a message, and the driver's files. */
#define FDS_OF_CLIENT (IP_LIST_MAX + 64u)

/* The least that any kernel has as its default. */
#define LOCKED_LEAST (UINT64_C(64) << 10)

/* ---- limits ---- */

/* "1024" or "unlimited". */
static const char *limit_text(rlim_t limit, char text[24])
{
	if (limit == RLIM_INFINITY)
		return "unlimited";
	snprintf(text, 24, "%" PRIu64, (uint64_t)limit);
	return text;
}

static void tell_fd_limit(const struct lb_doctor *doctor, uint32_t segments)
{
	struct rlimit limit = { 0 };
	rlim_t daemon = segments + FDS_OF_DAEMON;
	char soft[24], hard[24];

	getrlimit(RLIMIT_NOFILE, &limit);
	lb_doctor_tell(doctor, "fd-limit",
		       limit.rlim_cur >= FDS_OF_CLIENT &&
			       limit.rlim_max >= daemon,
		       "raise it: ulimit -n, LimitNOFILE= of a systemd unit, "
		       "--ulimit nofile= of a container",
		       "%s open files, at most %s; a client needs %u, a daemon "
		       "with a whole GPU and %u clients %" PRIu64 " (it raises "
		       "its own limit)",
		       limit_text(limit.rlim_cur, soft),
		       limit_text(limit.rlim_max, hard), FDS_OF_CLIENT,
		       CLIENTS_USUAL, (uint64_t)daemon);
}

static void tell_locked_memory(const struct lb_doctor *doctor)
{
	struct rlimit limit = { 0 };
	char soft[24], hard[24];

	getrlimit(RLIMIT_MEMLOCK, &limit);
	lb_doctor_tell(doctor, "locked-memory", limit.rlim_cur >= LOCKED_LEAST,
		       "raise it: ulimit -l, LimitMEMLOCK= of a systemd unit, "
		       "--ulimit memlock= of a container",
		       "%s, at most %s; %" PRIu64 " bytes are needed (what the "
		       "driver pins does not count)",
		       limit_text(limit.rlim_cur, soft),
		       limit_text(limit.rlim_max, hard), LOCKED_LEAST);
}

/* ---- versions ---- */

/* Whether @version, like "6.1.0-13", is at least @major.@minor. */
static bool is_at_least(const char *version, int major, int minor)
{
	int has_major = 0, has_minor = 0;

	if (sscanf(version, "%d.%d", &has_major, &has_minor) < 1)
		return false;
	return has_major > major || (has_major == major && has_minor >= minor);
}

static void tell_kernel(const struct lb_doctor *doctor)
{
	struct utsname name = { .release = "" };

	uname(&name);
	lb_doctor_tell(doctor, "kernel", is_at_least(name.release, 5, 3),
		       "install a newer kernel", "%s %s; 5.3 is needed",
		       name.sysname, name.release);
}

static void tell_glibc(const struct lb_doctor *doctor)
{
	const char *version = gnu_get_libc_version();

	lb_doctor_tell(doctor, "glibc", is_at_least(version, 2, 28),
		       "install a newer system", "%s; 2.28 is needed", version);
}

/* ---- pidfds ---- */

static bool has_peer_pidfd(void)
{
	socklen_t length = sizeof(int);
	int pair[2];
	int fd = -1;
	bool has;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return false;
	has = getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &fd, &length) == 0;
	if (has)
		close(fd);
	close(pair[0]);
	close(pair[1]);
	return has;
}

static void tell_pidfds(const struct lb_doctor *doctor)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	char why[96];

	if (fd < 0) {
		lb_doctor_tell(doctor, "pidfds", false,
			       "use Linux 5.3 or newer; in a container allow "
			       "the system call pidfd_open",
			       "pidfd_open() fails: %s",
			       strerror_r(errno, why, sizeof(why)));
		return;
	}
	close(fd);
	lb_doctor_tell(doctor, "pidfds", true, "",
		       has_peer_pidfd()
			       ? "pidfd_open() and SO_PEERPIDFD work"
			       : "pidfd_open() works; no SO_PEERPIDFD (Linux "
				 "6.5), so clients send theirs");
}

static void tell_wsl(const struct lb_doctor *doctor)
{
	bool is_wsl = dv_is_wsl();

	lb_doctor_tell(doctor, "wsl", !is_wsl,
		       "run on Linux itself: WSL2's driver cannot share memory "
		       "by file descriptor",
		       "%s", is_wsl ? "this is WSL2" : "this is not WSL");
}

void lb_doctor_system(const struct lb_doctor *doctor, uint32_t segments)
{
	tell_fd_limit(doctor, segments);
	tell_locked_memory(doctor);
	tell_kernel(doctor);
	tell_glibc(doctor);
	tell_pidfds(doctor);
	tell_wsl(doctor);
}
