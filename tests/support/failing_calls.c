/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A library that is preloaded into poolswitchd and makes one call of the C
 * library fail, for tests/process/test_daemon_nth.c:
 *
 *	TH_FAIL=keeper:sendmsg:3:105   half, call, which one, errno
 *	TH_FAIL_MARK=/path             made by the call that fails
 *
 * Invariant: one call fails in all, however often the halves are started
 * anew: who makes the mark fails. No mark: there were fewer calls.
 *
 * What libraries call counts too, as far as it goes by the dynamic linker.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* Immutable once choose() has run. */
static char wanted[32];
static int wanted_errno;
static const char *mark;
static atomic_int left; /* calls until the one that fails; 0: none does */

/* The keeper is whoever was not told to be the agent. */
static const char *which_half(void)
{
	char text[4096];
	int file = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline",
				O_RDONLY | O_CLOEXEC);
	ssize_t got = file < 0 ? 0 : syscall(SYS_read, file, text, 4095);
	ssize_t i;

	syscall(SYS_close, file);
	for (i = 0; i < got; i++)
		if (text[i] == '\0')
			text[i] = ' ';
	text[got > 0 ? got : 0] = '\0';
	return strstr(text, "--role=agent") || strstr(text, "--role agent")
		       ? "agent"
		       : "keeper";
}

__attribute__((constructor)) static void choose(void)
{
	const char *text = getenv("TH_FAIL");
	char half[16];
	int nth;

	mark = getenv("TH_FAIL_MARK");
	if (text == NULL || mark == NULL ||
	    sscanf(text, "%15[^:]:%31[^:]:%d:%d", half, wanted, &nth,
		   &wanted_errno) != 4)
		return;
	if (strcmp(half, which_half()) == 0)
		atomic_store(&left, nth);
}

/* Leaves errno alone when it says no. */
static bool fails(const char *name)
{
	long made;

	if (atomic_load_explicit(&left, memory_order_relaxed) <= 0 ||
	    strcmp(name, wanted) != 0)
		return false;
	if (atomic_fetch_sub(&left, 1) != 1)
		return false;
	made = syscall(SYS_openat, AT_FDCWD, mark,
		       O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (made >= 0)
		syscall(SYS_close, made);
	errno = made >= 0 ? wanted_errno : errno;
	return made >= 0;
}

/* The next one of that name, into a function pointer. */
static void find(const char *name, void *function_out)
{
	void *address = dlsym(RTLD_NEXT, name);

	memcpy(function_out, &address, sizeof(address));
}

#define FORWARD(type, failure, name, params, args)                             \
	EXPORT type name params;                                               \
	type name params                                                       \
	{                                                                      \
		static type(*next) params;                                     \
		if (fails(#name))                                              \
			return failure;                                        \
		if (next == NULL)                                              \
			find(#name, &next);                                    \
		return next args;                                              \
	}

/* The C library declares some with attributes and restrict; these are the
 * same functions to the linker. */
FORWARD(int, -1, socket, (int domain, int type, int protocol),
	(domain, type, protocol))
FORWARD(int, -1, socketpair, (int domain, int type, int protocol, int ends[2]),
	(domain, type, protocol, ends))
FORWARD(int, -1, bind, (int fd, __CONST_SOCKADDR_ARG name, socklen_t size),
	(fd, name, size))
FORWARD(int, -1, listen, (int fd, int backlog), (fd, backlog))
FORWARD(int, -1, connect, (int fd, __CONST_SOCKADDR_ARG name, socklen_t size),
	(fd, name, size))
FORWARD(int, -1, accept4,
	(int fd, __SOCKADDR_ARG name, socklen_t *size, int flags),
	(fd, name, size, flags))
FORWARD(int, -1, getsockopt,
	(int fd, int level, int option, void *value, socklen_t *size),
	(fd, level, option, value, size))
FORWARD(int, -1, setsockopt,
	(int fd, int level, int option, const void *value, socklen_t size),
	(fd, level, option, value, size))
FORWARD(int, -1, getsockname, (int fd, __SOCKADDR_ARG name, socklen_t *size),
	(fd, name, size))
FORWARD(int, -1, shutdown, (int fd, int how), (fd, how))
FORWARD(ssize_t, -1, sendmsg, (int fd, const struct msghdr *msg, int flags),
	(fd, msg, flags))
FORWARD(ssize_t, -1, recvmsg, (int fd, struct msghdr *msg, int flags),
	(fd, msg, flags))
FORWARD(ssize_t, -1, send, (int fd, const void *data, size_t size, int flags),
	(fd, data, size, flags))
FORWARD(ssize_t, -1, recv, (int fd, void *data, size_t size, int flags),
	(fd, data, size, flags))
FORWARD(int, -1, epoll_create1, (int flags), (flags))
FORWARD(int, -1, epoll_ctl,
	(int epoll, int what, int fd, struct epoll_event *event),
	(epoll, what, fd, event))
FORWARD(int, -1, epoll_wait,
	(int epoll, struct epoll_event *events, int count, int timeout),
	(epoll, events, count, timeout))
FORWARD(int, -1, poll, (struct pollfd * entries, nfds_t count, int timeout),
	(entries, count, timeout))
FORWARD(int, -1, eventfd, (unsigned int count, int flags), (count, flags))
FORWARD(int, -1, signalfd, (int fd, const sigset_t *mask, int flags),
	(fd, mask, flags))
FORWARD(int, -1, timerfd_create, (clockid_t clock, int flags), (clock, flags))
FORWARD(int, -1, timerfd_settime,
	(int fd, int flags, const struct itimerspec *now,
	 struct itimerspec *before),
	(fd, flags, now, before))
FORWARD(int, -1, memfd_create, (const char *name, unsigned int flags),
	(name, flags))
FORWARD(int, -1, ftruncate, (int fd, off_t size), (fd, size))
FORWARD(int, -1, ftruncate64, (int fd, off_t size), (fd, size))
FORWARD(int, -1, fallocate, (int fd, int mode, off_t at, off_t size),
	(fd, mode, at, size))
FORWARD(int, -1, fallocate64, (int fd, int mode, off_t at, off_t size),
	(fd, mode, at, size))
FORWARD(void *, MAP_FAILED, mmap,
	(void *at, size_t size, int rights, int flags, int fd, off_t from),
	(at, size, rights, flags, fd, from))
FORWARD(void *, MAP_FAILED, mmap64,
	(void *at, size_t size, int rights, int flags, int fd, off_t from),
	(at, size, rights, flags, fd, from))
FORWARD(int, -1, fstat, (int fd, struct stat *info), (fd, info))
FORWARD(int, -1, fstat64, (int fd, struct stat64 *info), (fd, info))
FORWARD(int, -1, stat, (const char *path, struct stat *info), (path, info))
FORWARD(int, -1, stat64, (const char *path, struct stat64 *info), (path, info))
FORWARD(int, -1, lstat, (const char *path, struct stat *info), (path, info))
FORWARD(int, -1, lstat64, (const char *path, struct stat64 *info), (path, info))
FORWARD(int, -1, chmod, (const char *path, mode_t mode), (path, mode))
FORWARD(int, -1, fchmod, (int fd, mode_t mode), (fd, mode))
FORWARD(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
FORWARD(int, -1, rename, (const char *from, const char *to), (from, to))
FORWARD(int, -1, unlink, (const char *path), (path))
FORWARD(int, -1, dup, (int fd), (fd))
FORWARD(int, -1, dup3, (int from, int to, int flags), (from, to, flags))
FORWARD(ssize_t, -1, read, (int fd, void *data, size_t size), (fd, data, size))
FORWARD(ssize_t, -1, pread, (int fd, void *data, size_t size, off_t at),
	(fd, data, size, at))
FORWARD(ssize_t, -1, pread64, (int fd, void *data, size_t size, off_t at),
	(fd, data, size, at))
FORWARD(ssize_t, -1, write, (int fd, const void *data, size_t size),
	(fd, data, size))
FORWARD(ssize_t, -1, pwrite, (int fd, const void *data, size_t size, off_t at),
	(fd, data, size, at))
FORWARD(ssize_t, -1, pwrite64,
	(int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
FORWARD(ssize_t, -1, readlink, (const char *path, char *to, size_t size),
	(path, to, size))
FORWARD(ssize_t, -1, getrandom, (void *data, size_t size, unsigned int flags),
	(data, size, flags))
FORWARD(ssize_t, -1, readlinkat,
	(int dir, const char *path, char *to, size_t size),
	(dir, path, to, size))
FORWARD(int, -1, pipe2, (int ends[2], int flags), (ends, flags))
FORWARD(int, -1, dup2, (int from, int to), (from, to))
FORWARD(int, -1, getpeername, (int fd, __SOCKADDR_ARG name, socklen_t *size),
	(fd, name, size))
FORWARD(ssize_t, -1, sendto,
	(int fd, const void *data, size_t size, int flags,
	 __CONST_SOCKADDR_ARG to, socklen_t length),
	(fd, data, size, flags, to, length))
FORWARD(int, -1, lchown, (const char *path, uid_t uid, gid_t gid),
	(path, uid, gid))
FORWARD(int, -1, rmdir, (const char *path), (path))
FORWARD(int, -1, flock, (int fd, int what), (fd, what))
FORWARD(int, -1, fstatfs64, (int fd, struct statfs64 *info), (fd, info))
FORWARD(DIR *, NULL, opendir, (const char *path), (path))
FORWARD(DIR *, NULL, fdopendir, (int fd), (fd))
FORWARD(FILE *, NULL, fopen64, (const char *path, const char *mode),
	(path, mode))
FORWARD(int, -1, fflush, (FILE * file), (file))
FORWARD(FILE *, NULL, fdopen, (int fd, const char *mode), (fd, mode))
FORWARD(int, -1, getrlimit64, (__rlimit_resource_t what, struct rlimit64 *out),
	(what, out))
FORWARD(int, -1, setrlimit64,
	(__rlimit_resource_t what, const struct rlimit64 *limit), (what, limit))
FORWARD(int, -1, kill, (pid_t pid, int number), (pid, number))
FORWARD(pid_t, -1, waitpid, (pid_t pid, int *status, int flags),
	(pid, status, flags))
FORWARD(int, -1, waitid, (idtype_t type, id_t id, siginfo_t *info, int flags),
	(type, id, info, flags))
FORWARD(pid_t, -1, fork, (void), ())
FORWARD(pid_t, -1, setsid, (void), ())
FORWARD(int, -1, execve,
	(const char *path, char *const argv[], char *const env[]),
	(path, argv, env))
FORWARD(int, -1, execv, (const char *path, char *const argv[]), (path, argv))
FORWARD(int, wanted_errno, pthread_create,
	(pthread_t * thread, const pthread_attr_t *attr, void *(*run)(void *),
	 void *arg),
	(thread, attr, run, arg))

/* ---- those with a list of arguments ---- */

#define FORWARD_OPEN(name)                                                     \
	EXPORT int name(const char *path, int flags, ...);                     \
	int name(const char *path, int flags, ...)                             \
	{                                                                      \
		static int (*next)(const char *, int, ...);                    \
		va_list list;                                                  \
		unsigned int mode;                                             \
		if (fails("open"))                                             \
			return -1;                                             \
		va_start(list, flags);                                         \
		mode = flags & O_CREAT ? va_arg(list, unsigned int) : 0;       \
		va_end(list);                                                  \
		if (next == NULL)                                              \
			find(#name, &next);                                    \
		return next(path, flags, mode);                                \
	}

FORWARD_OPEN(open)
FORWARD_OPEN(open64)

EXPORT int openat64(int dir, const char *path, int flags, ...)
{
	static int (*next)(int, const char *, int, ...);
	va_list list;
	unsigned int mode;

	if (fails("open"))
		return -1;
	va_start(list, flags);
	mode = flags & O_CREAT ? va_arg(list, unsigned int) : 0;
	va_end(list);
	if (next == NULL)
		find("openat64", &next);
	return next(dir, path, flags, mode);
}

EXPORT int fcntl64(int fd, int what, ...)
{
	static int (*next)(int, int, ...);
	va_list list;
	long value;

	if (fails("fcntl"))
		return -1;
	va_start(list, what);
	value = va_arg(list, long);
	va_end(list);
	if (next == NULL)
		find("fcntl64", &next);
	return next(fd, what, value);
}

/* pidfd_open() and whatever else has no function in an old C library. */
EXPORT long syscall(long number, ...)
{
	static long (*next)(long, ...);
	va_list list;
	long a[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (next == NULL)
		find("syscall", &next);
	if (number == SYS_pidfd_open && fails("pidfd_open"))
		return -1;
	if (number == SYS_memfd_create && fails("memfd_create"))
		return -1;
	if (number == SYS_close_range && fails("close_range"))
		return -1;
	if (number == SYS_pidfd_send_signal && fails("pidfd_send_signal"))
		return -1;
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- memory: the dynamic linker itself needs it, so not by dlsym() ---- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

EXPORT void *malloc(size_t size)
{
	return fails("malloc") ? NULL : __libc_malloc(size);
}

EXPORT void *calloc(size_t count, size_t size)
{
	return fails("malloc") ? NULL : __libc_calloc(count, size);
}

EXPORT void *realloc(void *old, size_t size)
{
	return fails("malloc") ? NULL : __libc_realloc(old, size);
}
