/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "poold/peer.h"

#include "base/status.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif
#define PIDFS_MAGIC 0x50494446 /* Linux 6.9: an inode for each process */

/* ------------------------------------------------------------------ */
/* pidfds                                                              */

bool pd_pidfd_has_ended(int pidfd)
{
	struct pollfd entry = { pidfd, POLLIN, 0 };
	int ready;

	do {
		ready = poll(&entry, 1, 0);
	} while (ready < 0 && errno == EINTR);
	return ready > 0 && (entry.revents & (POLLIN | POLLHUP));
}

/* The whole file, with an end; -1 when it cannot be read. */
static ssize_t read_at(int folder, const char *path, char *text, size_t room)
{
	int fd = openat(folder, path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -1;
	got = read(fd, text, room - 1);
	close(fd);
	if (got < 0)
		return -1;
	text[got] = '\0';
	return got;
}

/* What fdinfo says: the pid; 0: not visible from here; -1: ended, or no
 * pidfd at all. */
static long pidfd_pid(int pidfd)
{
	char path[64];
	char text[512];
	const char *line;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	if (read_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return -1;
	line = strstr(text, "\nPid:");
	return line ? strtol(line + 5, NULL, 10) : -1;
}

pid_t pd_pidfd_number(int pidfd)
{
	long pid = pidfd_pid(pidfd);

	return pid > 0 ? (pid_t)pid : 0;
}

/* Kernels before 6.9 have one inode for all pidfds. */
static bool is_pidfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == PIDFS_MAGIC;
}

bool pd_pidfd_is_same(int a, int b)
{
	struct stat one;
	struct stat two;
	long pid;

	if (a < 0 || b < 0 || pd_pidfd_has_ended(a) || pd_pidfd_has_ended(b))
		return false;
	if (is_pidfs(a) && is_pidfs(b))
		return fstat(a, &one) == 0 && fstat(b, &two) == 0 &&
		       one.st_ino == two.st_ino;
	/* Two that live have two numbers. */
	pid = pidfd_pid(a);
	return pid > 0 && pid == pidfd_pid(b) && !pd_pidfd_has_ended(a);
}

/* ------------------------------------------------------------------ */
/* What /proc says of a process                                        */

struct process {
	char state;
	unsigned long flags;
	unsigned long threads;
	bool has_image;   /* false: it has given its memory up */
	bool is_readable; /* false: its addresses are hidden from us */
	struct pd_marks marks;
};

#define PROCESS_IS_KERNEL 0x00200000ul

/* Numbers of the fields of /proc/PID/stat, as proc(5) counts them. */
enum stat_field {
	STAT_STATE = 3,
	STAT_FLAGS = 9,
	STAT_THREADS = 20,
	STAT_STARTED = 22,
	STAT_START_CODE = 26,
	STAT_START_STACK = 28,
	STAT_START_BRK = 47,
	STAT_ARG_START = 48,
	STAT_FIELDS = 49
};

/* pre: @text stands behind the name, on the state. */
static bool parse_fields(const char *text, uint64_t *fields)
{
	char *end;

	for (int field = STAT_STATE + 1; field < STAT_FIELDS; field++) {
		text = strchr(text, ' ');
		if (!text)
			return false;
		fields[field] = strtoull(++text, &end, 10);
		if (end == text)
			return false;
	}
	return true;
}

static bool parse_stat(const char *text, struct process *process_out)
{
	uint64_t fields[STAT_FIELDS] = { 0 };
	/* The name may contain anything, brackets too. */
	const char *at = strrchr(text, ')');
	struct process process = { 0 };

	if (!at || at[1] != ' ' || at[2] == '\0' ||
	    !parse_fields(at + 2, fields))
		return false;
	process.state = at[2];
	process.flags = fields[STAT_FLAGS];
	process.threads = fields[STAT_THREADS];
	process.marks.started = fields[STAT_STARTED];
	/* The kernel writes 0 without memory and 1 without the right. */
	process.has_image = fields[STAT_START_CODE] != 0;
	process.is_readable = fields[STAT_START_CODE] > 1;
	if (process.is_readable) {
		process.marks.image[0] = fields[STAT_START_CODE];
		process.marks.image[1] = fields[STAT_START_STACK];
		process.marks.image[2] = fields[STAT_START_BRK];
		process.marks.image[3] = fields[STAT_ARG_START];
	}
	*process_out = process;
	return true;
}

static bool read_process(int proc, pid_t pid, struct process *process_out)
{
	char path[32];
	char text[1024];

	snprintf(path, sizeof(path), "%d/stat", (int)pid);
	return read_at(proc, path, text, sizeof(text)) > 0 &&
	       parse_stat(text, process_out);
}

/* /proc of this PID namespace; -1: there is none, or another's. */
static int open_proc(void)
{
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char self[32] = "";

	if (proc < 0)
		return -1;
	if (readlinkat(proc, "self", self, sizeof(self) - 1) > 0 &&
	    strtol(self, NULL, 10) == (long)getpid())
		return proc;
	close(proc);
	return -1;
}

/* ------------------------------------------------------------------ */
/* Who is at a socket                                                  */

static uid_t overflow_uid(void)
{
	char text[32];

	if (read_at(AT_FDCWD, "/proc/sys/kernel/overflowuid", text,
		    sizeof(text)) <= 0)
		return 65534;
	return (uid_t)strtoul(text, NULL, 10);
}

bool pd_uid_is_mapped(uid_t uid)
{
	return uid != overflow_uid();
}

static enum ps_status check_offered(int offered, pid_t pid)
{
	long says;

	if (offered < 0)
		return bs_fail(PS_REFUSED,
			       "this kernel has no SO_PEERPIDFD (Linux 6.5) "
			       "and process %d sent no pidfd of its own; "
			       "attach with a newer poolswitch library",
			       (int)pid);
	if (pid == 0)
		return bs_fail(PS_REFUSED,
			       "the client's process cannot be seen from the "
			       "daemon's PID namespace, and this kernel has "
			       "no SO_PEERPIDFD (Linux 6.5); run both in one "
			       "PID namespace or use a newer kernel");
	says = pidfd_pid(offered);
	if (says != (long)pid)
		return bs_fail(PS_PROTOCOL,
			       "process %d sent a descriptor that must be its "
			       "pidfd and is %s (%ld)",
			       (int)pid,
			       says < 0 ? "none of a living process"
					: "another process's",
			       says);
	return PS_OK;
}

/* Takes @offered over. */
static enum ps_status find_pidfd(int socket, int offered, pid_t pid,
				 int *pidfd_out)
{
	enum ps_status status;
	int pidfd = -1;
	socklen_t size = sizeof(pidfd);
	int error = 0;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) != 0)
		error = errno;
	if (error == ENOPROTOOPT) {
		status = check_offered(offered, pid);
		if (status == PS_OK) {
			*pidfd_out = offered;
			return PS_OK;
		}
	} else if (error == EMFILE || error == ENFILE) {
		status = bs_fail(PS_FD_LIMIT,
				 "no descriptor is left for the pidfd of "
				 "process %d; raise the limit of open files "
				 "(ulimit -n)",
				 (int)pid);
	} else if (error != 0) {
		status = bs_fail(PS_PEER_GONE,
				 "process %d, which connected, has ended: %s",
				 (int)pid, strerror(error));
	} else {
		*pidfd_out = pidfd;
		status = PS_OK;
	}
	if (offered >= 0)
		ip_close(offered);
	return status;
}

bool pd_marks_read(pid_t pid, struct pd_marks *marks_out)
{
	struct process process;
	int proc = open_proc();
	bool is_read;

	if (proc < 0)
		return false;
	is_read = pid > 0 && read_process(proc, pid, &process);
	close(proc);
	if (is_read)
		*marks_out = process.marks;
	return is_read;
}

/* What is read while the process lives is its own: its number cannot be
 * another's yet. */
static void find_marks(struct pd_peer *peer)
{
	struct pd_marks marks;

	if (pd_marks_read(peer->pid, &marks) &&
	    !pd_pidfd_has_ended(peer->pidfd))
		peer->marks = marks;
}

enum ps_status pd_peer_identify(int socket, int offered,
				struct pd_peer *peer_out)
{
	struct pd_peer peer = { 0 };
	struct ucred who;
	socklen_t size = sizeof(who);
	enum ps_status status;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) {
		status = bs_fail_errno("asking who is at socket %d", socket);
		if (offered >= 0)
			ip_close(offered);
		return status;
	}
	status = find_pidfd(socket, offered, who.pid, &peer.pidfd);
	if (status != PS_OK)
		return status;
	peer.pid = who.pid;
	peer.uid = who.uid;
	peer.gid = who.gid;
	peer.is_mapped = pd_uid_is_mapped(who.uid);
	find_marks(&peer);
	*peer_out = peer;
	return PS_OK;
}

void pd_peer_done(struct pd_peer *peer)
{
	if (peer->pidfd >= 0)
		close(peer->pidfd);
	peer->pidfd = -1;
}

/* ------------------------------------------------------------------ */
/* Heirs                                                               */

struct search {
	int proc;
	const struct pd_marks *marks; /* of the dead process */
	uid_t uid;
	const char *files;
	const pid_t *ignore;
	size_t ignored;
};

static bool is_ignored(const struct search *search, pid_t pid)
{
	for (size_t i = 0; i < search->ignored; i++) {
		if (search->ignore[i] == pid)
			return true;
	}
	return pid == getpid();
}

/* A fork has the user of its parent, or one that its parent was: by an exec
 * alone does it get others, and then it has another image. True when the
 * kernel does not tell. */
static bool may_be_of(const struct search *search, pid_t pid)
{
	unsigned int uid[4];
	char path[32];
	char text[2048];
	const char *line;

	snprintf(path, sizeof(path), "%d/status", (int)pid);
	if (read_at(search->proc, path, text, sizeof(text)) <= 0)
		return errno != ENOENT && errno != ESRCH;
	line = strstr(text, "\nUid:");
	if (!line || sscanf(line + 5, "%u %u %u %u", &uid[0], &uid[1], &uid[2],
			    &uid[3]) != 4)
		return true;
	for (int i = 0; i < 4; i++) {
		if (uid[i] == (unsigned int)search->uid)
			return true;
	}
	return search->uid == 0;
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* What could not be opened because the process is gone holds nothing. */
static enum pd_heirs unreadable(void)
{
	return errno == ENOENT || errno == ESRCH ? PD_HEIRS_NONE
						 : PD_HEIRS_UNKNOWN;
}

static enum pd_heirs look_at_fds(const struct search *search, pid_t pid)
{
	enum pd_heirs found = PD_HEIRS_NONE;
	char path[512];
	struct dirent *entry;
	DIR *folder;
	int fd;

	snprintf(path, sizeof(path), "%d/fd", (int)pid);
	fd = openat(search->proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return unreadable();
	folder = fdopendir(fd);
	if (!folder) {
		close(fd);
		return PD_HEIRS_UNKNOWN;
	}
	while (found == PD_HEIRS_NONE && (entry = readdir(folder))) {
		ssize_t size =
			readlinkat(fd, entry->d_name, path, sizeof(path) - 1);

		path[size > 0 ? size : 0] = '\0';
		if (starts_with(path, search->files))
			found = PD_HEIRS_FOUND;
	}
	closedir(folder);
	return found;
}

/* A mapping holds its file like a descriptor. */
static enum pd_heirs look_at_maps(const struct search *search, pid_t pid)
{
	enum pd_heirs found = PD_HEIRS_NONE;
	char *line = NULL;
	size_t room = 0;
	char path[32];
	FILE *maps;
	int fd;

	snprintf(path, sizeof(path), "%d/maps", (int)pid);
	fd = openat(search->proc, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return unreadable();
	maps = fdopen(fd, "r");
	if (!maps) {
		close(fd);
		return PD_HEIRS_UNKNOWN;
	}
	while (found == PD_HEIRS_NONE && getline(&line, &room, maps) > 0) {
		const char *name = strchr(line, '/');

		if (name && starts_with(name, search->files))
			found = PD_HEIRS_FOUND;
	}
	free(line);
	fclose(maps);
	return found;
}

static enum pd_heirs look_at_files(const struct search *search, pid_t pid)
{
	enum pd_heirs found = look_at_fds(search, pid);

	return found == PD_HEIRS_NONE ? look_at_maps(search, pid) : found;
}

/* By what /proc/PID/stat says, for those that are none at a glance. */
static bool is_stranger(const struct search *search,
			const struct process *process)
{
	if (process->flags & PROCESS_IS_KERNEL)
		return true;
	if (process->marks.started < search->marks->started)
		return true;
	if (process->is_readable)
		return memcmp(process->marks.image, search->marks->image,
			      sizeof(process->marks.image)) != 0;
	/* A zombie has given up its files, unless other threads of it live. */
	return process->state == 'Z' && process->threads <= 1;
}

static enum pd_heirs judge(const struct search *search, pid_t pid)
{
	struct process process;

	if (!read_process(search->proc, pid, &process) ||
	    is_stranger(search, &process))
		return PD_HEIRS_NONE;
	if (process.is_readable)
		return look_at_files(search, pid);
	if (!may_be_of(search, pid))
		return PD_HEIRS_NONE;
	/* It is about to end: memory goes before files do. */
	if (!process.has_image && process.state != 'Z')
		return PD_HEIRS_FOUND;
	return PD_HEIRS_UNKNOWN;
}

/* The pidfd is opened first, so that it is of the process looked at. */
static enum pd_heirs judge_with_pidfd(const struct search *search, pid_t pid,
				      int *heir_out)
{
	enum pd_heirs found = judge(search, pid);
	int pidfd;

	if (found != PD_HEIRS_FOUND)
		return found;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return errno == ESRCH ? PD_HEIRS_NONE : PD_HEIRS_UNKNOWN;
	found = judge(search, pid);
	if (found == PD_HEIRS_FOUND)
		*heir_out = pidfd;
	else
		close(pidfd);
	return found;
}

static enum pd_heirs search_all(const struct search *search, DIR *folder,
				int *heir_out, pid_t *pid_out)
{
	enum pd_heirs all = PD_HEIRS_NONE;
	struct dirent *entry;

	/* In ascending order, as numbers are given out: a child that is born
	 * meanwhile comes later. */
	while ((entry = readdir(folder))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		enum pd_heirs found;

		if (pid <= 0 || is_ignored(search, pid))
			continue;
		found = judge_with_pidfd(search, pid, heir_out);
		if (found == PD_HEIRS_FOUND) {
			*pid_out = pid;
			return found;
		}
		if (found == PD_HEIRS_UNKNOWN)
			all = found;
	}
	return all;
}

static bool are_known(const struct pd_marks *marks)
{
	return marks->started != 0 && marks->image[0] != 0;
}

enum pd_heirs pd_heirs_find(const struct pd_marks *marks, uid_t uid,
			    const char *files, const pid_t *ignore,
			    size_t ignored, int *heir_out, pid_t *pid_out)
{
	struct search search = { -1, marks, uid, files, ignore, ignored };
	enum pd_heirs found;
	DIR *folder;

	if (!are_known(marks))
		return PD_HEIRS_UNKNOWN;
	search.proc = open_proc();
	if (search.proc < 0)
		return PD_HEIRS_UNKNOWN;
	folder = fdopendir(search.proc);
	if (!folder) {
		close(search.proc);
		return PD_HEIRS_UNKNOWN;
	}
	found = search_all(&search, folder, heir_out, pid_out);
	closedir(folder);
	return found;
}
