/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who is at the other end of a socket, when that process has ended, and
 * whether somebody still holds what it had open.
 *
 * A killed process's sockets close while its kernels still write; its pidfd
 * becomes readable when the kernel has taken its GPU files away. But a child
 * that it forked holds the same files, and keeps the dead process's work
 * running until it ends too. Two things show such an heir: our own socket,
 * which the child has too (no end of file), and /proc: a fork keeps the
 * addresses of its parent's image, an exec does not.
 */
#ifndef POOLD_PEER_H
#define POOLD_PEER_H

#include "poold/journal.h"

#include <sys/types.h>

struct pd_peer {
	pid_t pid; /* 0: not visible from this PID namespace */
	uid_t uid;
	gid_t gid;
	int pidfd;             /* owned; -1: none */
	bool is_mapped;        /* uid is a real one, not the overflow uid */
	struct pd_marks marks; /* zeros where /proc does not tell */
};

/*
 * @socket: connected. @offered: a pidfd that the client sent; -1: none; taken
 * over. Used only when the kernel cannot say by itself (SO_PEERPIDFD, Linux
 * 6.5), and then checked against the credentials: it must be a pidfd, of the
 * pid that the kernel names. PS_REFUSED: cannot be seen from here, with the
 * reason and the remedy; PS_PROTOCOL: it is no pidfd, or another process's.
 */
enum ps_status pd_peer_identify(int socket, int offered,
				struct pd_peer *peer_out);
void pd_peer_done(struct pd_peer *peer); /* closes the pidfd */

/* Whether it is a number of this user namespace, not what stands for those
 * that have none. */
bool pd_uid_is_mapped(uid_t uid);

/* Of a process that lives; false: there is none, or /proc cannot be read. */
bool pd_marks_read(pid_t pid, struct pd_marks *marks_out);

/* Whether the process behind @pidfd has ended. */
bool pd_pidfd_has_ended(int pidfd);
/* The number of its process; 0: not visible from here, ended, or no pidfd. */
pid_t pd_pidfd_number(int pidfd);
/* Whether two pidfds are of the same, living process. */
bool pd_pidfd_is_same(int a, int b);

enum pd_heirs {
	PD_HEIRS_NONE,    /* nobody has its GPU files: scrubbing is safe */
	PD_HEIRS_FOUND,   /* one has; *heir_out: its pidfd */
	PD_HEIRS_UNKNOWN, /* cannot be told: memory must be remade */
};

/*
 * Looks for processes that hold the GPU files (@files: the prefix of their
 * paths, such as "/dev/nvidia") of the dead process that had these marks and
 * this user. @ignore: pids known to have CUDA of their own.
 * @heir_out: a pidfd, owned by the caller; @pid_out: for the log.
 */
enum pd_heirs pd_heirs_find(const struct pd_marks *marks, uid_t uid,
			    const char *files, const pid_t *ignore,
			    size_t ignored, int *heir_out, pid_t *pid_out);

#endif /* POOLD_PEER_H */
