/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "poold/listen.h"

#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* How long another daemon that starts in the same folder is waited for. */
#define LOCK_TRIES 200
#define LOCK_PAUSE_NS 10000000

/* Whose the socket becomes. */
struct owners {
	uid_t uid; /* (uid_t)-1: as it comes */
	gid_t gid;
};

/* What is at the path. */
enum found { NOTHING, STALE, LIVE, FOREIGN };

/* ------------------------------------------------------------------ */
/* Names of users and groups                                           */

static bool parse_number(const char *text, unsigned int *number_out)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno ||
	    number >= UINT_MAX)
		return false;
	*number_out = (unsigned int)number;
	return true;
}

static enum ps_status find_owners(const struct pd_options *options,
				  struct owners *owners_out)
{
	struct owners owners = { (uid_t)-1, (gid_t)-1 };
	const struct passwd *user;
	const struct group *group;

	if (options->owner && !parse_number(options->owner, &owners.uid)) {
		user = getpwnam(options->owner);
		if (!user)
			return bs_fail(PS_INVALID_ARGUMENT,
				       "--socket-owner: there is no user '%s'; "
				       "give a name or a number that there is",
				       options->owner);
		owners.uid = user->pw_uid;
	}
	if (options->group && !parse_number(options->group, &owners.gid)) {
		group = getgrnam(options->group);
		if (!group)
			return bs_fail(PS_INVALID_ARGUMENT,
				       "--socket-group: there is no group "
				       "'%s'; give a name or a number that "
				       "there is",
				       options->group);
		owners.gid = group->gr_gid;
	}
	*owners_out = owners;
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* Failures                                                            */

static enum ps_status path_failed(const char *doing, const char *path)
{
	switch (errno) {
	case EACCES:
	case EPERM:
		return bs_fail(PS_PERMISSION,
			       "%s %s: %s (user %u); choose another place "
			       "with --socket, or another user",
			       doing, path, strerror(errno),
			       (unsigned int)geteuid());
	case ENOENT:
	case ENOTDIR:
		return bs_fail(PS_SYSTEM,
			       "%s %s: %s; make the folders above it, or "
			       "choose another place with --socket",
			       doing, path, strerror(errno));
	case ENOSPC:
	case EDQUOT:
		return bs_fail(PS_SYSTEM,
			       "%s %s: %s; the disk is full: make room, or "
			       "choose another place with --socket",
			       doing, path, strerror(errno));
	default:
		return bs_fail_errno("%s %s", doing, path);
	}
}

static enum ps_status set_owners(const char *path, struct owners owners)
{
	if (owners.uid == (uid_t)-1 && owners.gid == (gid_t)-1)
		return PS_OK;
	if (lchown(path, owners.uid, owners.gid) == 0)
		return PS_OK;
	if (errno != EPERM)
		return path_failed("giving an owner and a group to", path);
	return bs_fail(PS_PERMISSION,
		       "giving %s to owner %d and group %d: user %u may not; "
		       "only root may name another owner, and others only a "
		       "group that they belong to",
		       path, (int)owners.uid, (int)owners.gid,
		       (unsigned int)geteuid());
}

/* ------------------------------------------------------------------ */
/* The folder                                                          */

static void folder_of(const char *path, char folder_out[PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		strcpy(folder_out, ".");
	else if (slash == path)
		strcpy(folder_out, "/");
	else
		snprintf(folder_out, PATH_MAX, "%.*s", (int)(slash - path),
			 path);
}

/* Who may connect must be able to pass. */
static mode_t folder_mode(unsigned int mode)
{
	mode_t passing = mode & 0060 ? 0710 : 0700;

	return mode & 0006 ? 0711 : passing;
}

static enum ps_status make_folder(const char *folder, unsigned int mode,
				  struct owners owners)
{
	enum ps_status status;

	if (mkdir(folder, 0700) != 0)
		return errno == EEXIST
			       ? PS_OK
			       : path_failed("making the folder", folder);
	status = set_owners(folder, owners);
	if (status == PS_OK && chmod(folder, folder_mode(mode)) != 0)
		status = path_failed("setting the mode of", folder);
	if (status != PS_OK)
		rmdir(folder);
	return status;
}

/*
 * From the look at what is there until this daemon listens, no other one may
 * do the same. The lock ends with the descriptor; where a folder may not be
 * read it is done without. -1: none.
 */
static enum ps_status lock_folder(const char *folder, int *lock_out)
{
	const struct timespec pause = { 0, LOCK_PAUSE_NS };
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int tries = 0;

	if (fd < 0 && errno != EACCES)
		return path_failed("opening the folder", folder);
	/* No event tells that a file lock is free. */
	while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 &&
	       errno == EWOULDBLOCK) {
		if (++tries == LOCK_TRIES) {
			close(fd);
			return bs_fail(PS_ALREADY_RESERVED,
				       "another program has locked the folder "
				       "%s for %d ms; try again, or see who "
				       "has it (lslocks)",
				       folder,
				       LOCK_TRIES * LOCK_PAUSE_NS / 1000000);
		}
		nanosleep(&pause, NULL);
	}
	*lock_out = fd;
	return PS_OK;
}

static void unlock_folder(int lock)
{
	if (lock >= 0)
		close(lock);
}

/* ------------------------------------------------------------------ */
/* Who is there                                                        */

/* errno where the answer is FOREIGN for an unexpected reason. */
static enum found probe(const struct sockaddr_un *name, pid_t *pid_out)
{
	socklen_t size = sizeof(struct ucred);
	struct ucred holder = { 0, 0, 0 };
	enum found found = LIVE;
	int fd;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return FOREIGN;
	if (connect(fd, (const struct sockaddr *)name, sizeof(*name)) == 0)
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &holder, &size);
	else if (errno == ECONNREFUSED)
		found = STALE;
	else if (errno == ENOENT)
		found = NOTHING;
	else if (errno != EAGAIN) /* it listens and is very busy */
		found = FOREIGN;
	size = (socklen_t)errno;
	close(fd);
	errno = (int)size;
	*pid_out = holder.pid;
	return found;
}

static enum ps_status is_live(const char *path, pid_t pid)
{
	if (pid > 0)
		return bs_fail(PS_ALREADY_RESERVED,
			       "process %d listens on %s: end it (poolswitch "
			       "--socket %s shutdown), or choose another place "
			       "with --socket",
			       (int)pid, path, path);
	return bs_fail(PS_ALREADY_RESERVED,
		       "a process that cannot be seen from here listens on "
		       "%s: end it, or choose another place with --socket",
		       path);
}

/* PS_OK: the path is free now. */
static enum ps_status make_way(const struct sockaddr_un *name)
{
	const char *path = name->sun_path;
	struct stat file;
	pid_t pid = 0;

	if (lstat(path, &file) != 0)
		return errno == ENOENT ? PS_OK
				       : path_failed("looking at", path);
	if (!S_ISSOCK(file.st_mode))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%s is there and is no socket: remove it, or "
			       "choose another place with --socket",
			       path);
	switch (probe(name, &pid)) {
	case LIVE:
		return is_live(path, pid);
	case FOREIGN:
		if (errno != EPROTOTYPE)
			return path_failed("connecting to", path);
		return bs_fail(PS_ALREADY_RESERVED,
			       "another program than poolswitchd has the "
			       "socket %s: choose another place with --socket",
			       path);
	default:
		break;
	}
	if (unlink(path) != 0 && errno != ENOENT)
		return path_failed("removing the stale socket", path);
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* Listening                                                           */

static enum ps_status socket_failed(void)
{
	if (errno == EMFILE || errno == ENFILE)
		return bs_fail(PS_FD_LIMIT,
			       "listening needs one more open file, the limit "
			       "is reached; raise it (ulimit -n)");
	return bs_fail_errno("making a socket");
}

/* Until listen() nobody can connect. */
static enum ps_status bind_path(const struct sockaddr_un *name,
				const struct pd_options *options,
				struct owners owners, int *fd_out)
{
	const char *path = name->sun_path;
	enum ps_status status;
	int fd;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return socket_failed();
	if (bind(fd, (const struct sockaddr *)name, sizeof(*name)) != 0) {
		status = path_failed("making the socket", path);
		goto close_fd;
	}
	status = set_owners(path, owners);
	if (status == PS_OK && chmod(path, options->mode) != 0)
		status = path_failed("setting the mode of", path);
	if (status == PS_OK && listen(fd, SOMAXCONN) != 0)
		status = bs_fail_errno("listening on %s", path);
	if (status != PS_OK)
		goto remove_path;
	*fd_out = fd;
	return PS_OK;
remove_path:
	unlink(path);
close_fd:
	close(fd);
	return status;
}

static enum ps_status make_name(const char *path, struct sockaddr_un *name_out)
{
	size_t length = strnlen(path, sizeof(name_out->sun_path));

	if (length == 0 || length == sizeof(name_out->sun_path))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the path of the socket has %zu characters%s, "
			       "must be 1 to %zu",
			       length, length ? " or more" : "",
			       sizeof(name_out->sun_path) - 1);
	memset(name_out, 0, sizeof(*name_out));
	name_out->sun_family = AF_UNIX;
	memcpy(name_out->sun_path, path, length);
	return PS_OK;
}

enum ps_status pd_listen(const struct pd_options *options, int *fd_out)
{
	struct sockaddr_un name;
	struct owners owners = { (uid_t)-1, (gid_t)-1 };
	char folder[PATH_MAX];
	enum ps_status status;
	int lock = -1;

	status = make_name(options->socket, &name);
	if (status == PS_OK)
		status = find_owners(options, &owners);
	if (status != PS_OK)
		return status;
	folder_of(options->socket, folder);
	status = make_folder(folder, options->mode, owners);
	if (status == PS_OK)
		status = lock_folder(folder, &lock);
	if (status == PS_OK)
		status = make_way(&name);
	if (status == PS_OK)
		status = bind_path(&name, options, owners, fd_out);
	unlock_folder(lock);
	return status;
}

void pd_listen_renew(int fd)
{
	/* The kernel notes the process with each call. */
	listen(fd, SOMAXCONN);
}

void pd_unlisten(const struct pd_options *options, int fd)
{
	struct sockaddr_un name;
	char folder[PATH_MAX];
	int lock = -1;
	pid_t pid;

	/* From here on ours counts as stale, somebody else's does not. */
	shutdown(fd, SHUT_RDWR);
	if (make_name(options->socket, &name) != PS_OK)
		return;
	folder_of(options->socket, folder);
	if (lock_folder(folder, &lock) == PS_OK && probe(&name, &pid) == STALE)
		unlink(options->socket);
	unlock_folder(lock);
}

/* ------------------------------------------------------------------ */
/* The pid file                                                        */

static enum ps_status pid_file_failed(const char *path)
{
	if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
		return bs_fail(PS_SYSTEM,
			       "writing the pid file %s: %s; the disk is "
			       "full, or the limit of file sizes is too low "
			       "(ulimit -f)",
			       path, strerror(errno));
	if (errno == EACCES || errno == EPERM)
		return bs_fail(PS_PERMISSION,
			       "writing the pid file %s: %s (user %u); choose "
			       "another place with --pid-file",
			       path, strerror(errno), (unsigned int)geteuid());
	return bs_fail_errno("writing the pid file %s", path);
}

/* pre: the new file is open as @fd, which is closed here. */
static bool fill_pid_file(int fd)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	bool is_whole;

	errno = ENOSPC; /* of a write that is cut */
	is_whole = write(fd, text, (size_t)size) == size;
	if (close(fd) != 0)
		is_whole = false;
	return is_whole;
}

enum ps_status pd_pid_file_write(const char *path)
{
	char fresh[PATH_MAX];
	enum ps_status status;
	int fd;

	if (snprintf(fresh, sizeof(fresh), "%s.new", path) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return pid_file_failed(path);
	}
	/* What a daemon left that was killed here. */
	unlink(fresh);
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return pid_file_failed(path);
	if (fill_pid_file(fd) && rename(fresh, path) == 0)
		return PS_OK;
	status = pid_file_failed(path);
	unlink(fresh);
	return status;
}

void pd_pid_file_remove(const char *path)
{
	FILE *file = fopen(path, "re");
	int pid = 0;

	if (!file)
		return;
	if (fscanf(file, "%d", &pid) == 1 && pid == (int)getpid())
		unlink(path);
	fclose(file);
}
