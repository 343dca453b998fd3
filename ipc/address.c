/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "ipc/address.h"

#include "base/status.h"
#include "ipc/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SYSTEM_PATH "/run/poolswitch/socket"
#define USER_PATH "poolswitch/socket"
#define REPORT_BYTES 400u

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == IP_PATH_BYTES,
	       "the size of a socket's address");

/* ------------------------------------------------------------------ */
/* Where                                                               */

/* NULL: not set, or empty. A program with more rights than its caller does
 * not let the caller choose its daemon. */
static const char *setting(const char *name)
{
	const char *value = secure_getenv(name);

	return value && value[0] != '\0' ? value : NULL;
}

/* @origin: what the path was made of, for the error. */
static enum ps_status put_path(const char *folder, const char *path,
			       const char *origin, char out[IP_PATH_BYTES])
{
	size_t length = strlen(folder) + strlen(path);

	if (length == 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the socket's path (%s) is empty, must be 1 to "
			       "%u bytes",
			       origin, IP_PATH_BYTES - 1);
	if (length >= IP_PATH_BYTES)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the socket's path (%s) has %zu bytes, must be "
			       "1 to %u: choose a shorter one",
			       origin, length, IP_PATH_BYTES - 1);
	memcpy(out, folder, strlen(folder));
	memcpy(out + strlen(folder), path, strlen(path) + 1);
	return PS_OK;
}

/* One that is not absolute is to be ignored. */
static const char *user_folder(void)
{
	const char *folder = setting("XDG_RUNTIME_DIR");

	return folder && folder[0] == '/' ? folder : NULL;
}

static enum ps_status put_chosen(const char *given, char out[IP_PATH_BYTES])
{
	if (given)
		return put_path("", given, "the one given", out);
	return put_path("", setting("POOLSWITCH_SOCKET"), "POOLSWITCH_SOCKET",
			out);
}

static bool is_chosen(const char *given)
{
	return given || setting("POOLSWITCH_SOCKET");
}

enum ps_status ip_paths_find(const char *given, struct ip_paths *paths_out)
{
	enum ps_status status = PS_OK;
	struct ip_paths paths = { 0 };

	if (is_chosen(given))
		status = put_chosen(given, paths.path[paths.count++]);
	else if (user_folder())
		status = put_path(user_folder(), "/" USER_PATH,
				  "XDG_RUNTIME_DIR", paths.path[paths.count++]);
	if (status == PS_OK && !is_chosen(given))
		status = put_path("", SYSTEM_PATH, "the system's",
				  paths.path[paths.count++]);
	if (status == PS_OK)
		*paths_out = paths;
	return status;
}

enum ps_status ip_path_for_daemon(const char *given,
				  char path_out[IP_PATH_BYTES])
{
	if (is_chosen(given))
		return put_chosen(given, path_out);
	if (geteuid() == 0)
		return put_path("", SYSTEM_PATH, "the system's", path_out);
	if (user_folder())
		return put_path(user_folder(), "/" USER_PATH, "XDG_RUNTIME_DIR",
				path_out);
	return bs_fail(PS_INVALID_ARGUMENT,
		       "user %u has no place for a socket: XDG_RUNTIME_DIR is "
		       "not set to an absolute path; set it, or name the "
		       "socket by --socket or POOLSWITCH_SOCKET",
		       (unsigned int)geteuid());
}

/* ------------------------------------------------------------------ */
/* Who is there                                                        */

/* A full queue of a daemon that does not accept would block for ever. */
static bool set_patience(int fd, int timeout_ms)
{
	struct timeval limit = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };

	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) ==
	       0;
}

static int call(int fd, const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int failed;

	memcpy(name.sun_path, path, strnlen(path, IP_PATH_BYTES - 1));
	do {
		failed = connect(fd, (const struct sockaddr *)&name,
				 sizeof(name));
	} while (failed && errno == EINTR);
	return failed ? errno : 0;
}

/* What a failed call says about the place. */
static enum ps_status judge(int error)
{
	switch (error) {
	case 0:
		return PS_OK;
	case EACCES:
	case EPERM:
		return PS_PERMISSION;
	case EAGAIN:
		return PS_TIMED_OUT;
	default:
		return PS_NO_DAEMON;
	}
}

static const char *explain(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return "nobody listens";
	case EPROTOTYPE:
	case ENOTSOCK:
		return "not a socket of poolswitchd";
	case EAGAIN:
		return "takes no connection in time";
	default:
		return strerror(error);
	}
}

static enum ps_status open_socket(int *fd_out)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE))
		return bs_fail(PS_FD_LIMIT,
			       "no socket can be opened: the limit of open "
			       "files is reached; raise it (ulimit -n)");
	if (fd < 0)
		return bs_fail_errno("opening a socket");
	*fd_out = fd;
	return PS_OK;
}

/* @error_out: what connect() said. */
static enum ps_status call_in_time(int fd, const char *path, int *error_out)
{
	enum ps_status status;

	if (!set_patience(fd, IP_TIMEOUT_DEFAULT_MS))
		return bs_fail_errno("limiting the wait for %s", path);
	*error_out = call(fd, path);
	status = judge(*error_out);
	/* Afterwards it blocks as any socket does. */
	if (status == PS_OK && !set_patience(fd, 0))
		return bs_fail_errno("using the connection to %s", path);
	return status;
}

static bool is_own_trouble(enum ps_status status)
{
	return status == PS_FD_LIMIT || status == PS_SYSTEM;
}

/* Adds what the place said to @report. */
static enum ps_status try_path(const char *path, int *fd_out, char *report)
{
	size_t used = strlen(report);
	enum ps_status status;
	int error = 0;
	int fd = -1;

	status = open_socket(&fd);
	if (status != PS_OK)
		return status;
	status = call_in_time(fd, path, &error);
	if (status == PS_OK) {
		*fd_out = fd;
		return PS_OK;
	}
	close(fd);
	if (!is_own_trouble(status))
		snprintf(report + used, REPORT_BYTES - used, "%s%s: %s",
			 used > 0 ? ", " : "", path, explain(error));
	return status;
}

static enum ps_status nobody(const struct ip_paths *paths,
			     enum ps_status status, const char *report)
{
	if (status == PS_PERMISSION)
		return bs_fail(status,
			       "poolswitchd does not let user %u in (%s); ask "
			       "for the socket's group, or start your own: "
			       "poolswitchd --socket PATH",
			       (unsigned int)geteuid(), report);
	if (status == PS_TIMED_OUT)
		return bs_fail(status, "poolswitchd does not answer (%s)",
			       report);
	return bs_fail(status, "no poolswitchd answers (%s); start one: %s%s",
		       report, "poolswitchd",
		       paths->count > 1 ? "" : " --socket with that path");
}

enum ps_status ip_connect(const struct ip_paths *paths, int *fd_out,
			  char path_out[IP_PATH_BYTES])
{
	enum ps_status worst = PS_NO_DAEMON;
	char report[REPORT_BYTES] = "";

	for (unsigned int i = 0; i < paths->count; i++) {
		enum ps_status status =
			try_path(paths->path[i], fd_out, report);

		if (status == PS_OK)
			memcpy(path_out, paths->path[i], IP_PATH_BYTES);
		if (status == PS_OK || is_own_trouble(status))
			return status;
		if (status != PS_NO_DAEMON)
			worst = status;
	}
	return nobody(paths, worst, report);
}
