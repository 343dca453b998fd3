/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "poold/half.h"

#include "base/status.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* Of a started half; the next one reports that it could not be executed. */
#define LINK_FD 3
#define REPORT_FD 4

/* Sockets, pipes and files besides what a half holds. */
#define FILES_BESIDES 32u

/* ------------------------------------------------------------------ */
/* Holdings                                                            */

/* What there is many of, and where it is. Without a pool there is none. */
static int **fds_at(struct pd_holdings *holdings, uint32_t kind,
		    uint32_t *count_out)
{
	uint32_t models = holdings->segments > 0 ? IP_MODELS_MAX : 0;

	switch (kind) {
	case IP_PIECE_SEGMENTS:
		*count_out = holdings->segments;
		return &holdings->segment;
	case IP_PIECE_PIDFDS:
		*count_out = holdings->clients;
		return &holdings->pidfd;
	case IP_PIECE_SIGNALS:
		*count_out = models > 0 ? IP_SIGNALS : 0;
		return &holdings->signal;
	case IP_PIECE_MANIFESTS:
		*count_out = models;
		return &holdings->manifest;
	case IP_PIECE_HOSTS:
		*count_out = models;
		return &holdings->host;
	case IP_PIECE_FILES:
		*count_out = models * IP_MODEL_FILES;
		return &holdings->file;
	default:
		*count_out = 0;
		return NULL;
	}
}

static const enum ip_piece_kind kinds[] = {
	IP_PIECE_SEGMENTS,  IP_PIECE_PIDFDS, IP_PIECE_SIGNALS,
	IP_PIECE_MANIFESTS, IP_PIECE_HOSTS,  IP_PIECE_FILES,
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

void pd_holdings_init(struct pd_holdings *holdings_out)
{
	memset(holdings_out, 0, sizeof(*holdings_out));
	holdings_out->journal = -1;
	holdings_out->listen = -1;
	holdings_out->claim = -1;
}

static bool make_fds(int **fds, uint32_t count)
{
	*fds = malloc((count ? count : 1) * sizeof(**fds));
	for (uint32_t i = 0; *fds && i < count; i++)
		(*fds)[i] = -1;
	return *fds != NULL;
}

static void free_fds(struct pd_holdings *holdings)
{
	uint32_t count;

	for (size_t i = 0; i < KINDS; i++)
		free(*fds_at(holdings, kinds[i], &count));
}

enum ps_status pd_holdings_size(struct pd_holdings *holdings, uint32_t segments,
				uint32_t clients)
{
	struct pd_holdings sized = *holdings;
	bool is_made = true;
	uint32_t count;
	int **fds;

	assert(holdings->segments == 0 && holdings->clients == 0);
	sized.segments = segments;
	sized.clients = clients;
	for (size_t i = 0; i < KINDS; i++) {
		fds = fds_at(&sized, kinds[i], &count);
		is_made = make_fds(fds, count) && is_made;
	}
	if (!is_made) {
		free_fds(&sized);
		return bs_fail(PS_HOST_MEMORY,
			       "no memory for the descriptors of %" PRIu32
			       " segments, %" PRIu32
			       " clients and their models",
			       segments, clients);
	}
	free_fds(holdings);
	*holdings = sized;
	return PS_OK;
}

static void drop_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void pd_holdings_done(struct pd_holdings *holdings)
{
	uint32_t count;

	drop_fd(&holdings->journal);
	drop_fd(&holdings->listen);
	drop_fd(&holdings->claim);
	for (size_t kind = 0; kind < KINDS; kind++) {
		int *fds = *fds_at(holdings, kinds[kind], &count);

		for (uint32_t i = 0; i < count; i++)
			drop_fd(&fds[i]);
	}
	free_fds(holdings);
	pd_holdings_init(holdings);
}

/* ------------------------------------------------------------------ */
/* Handing over                                                        */

/* The descriptors stay the holdings'. */
static enum ps_status send_lent(struct ip_conn *link, struct ip_message *msg)
{
	return ip_conn_send(link, msg);
}

static enum ps_status send_begin(struct ip_conn *link,
				 const struct pd_holdings *holdings)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_BEGIN, link->minor);
	msg.body.begin.layout = PD_JOURNAL_LAYOUT;
	msg.body.begin.segments = holdings->segments;
	msg.body.begin.clients = holdings->clients;
	if (holdings->segments > 0)
		msg.fds[msg.fd_count++] = holdings->journal;
	msg.fds[msg.fd_count++] = holdings->listen;
	if (holdings->segments > 0)
		msg.fds[msg.fd_count++] = holdings->claim;
	return send_lent(link, &msg);
}

/* What there is of @fds, in as few messages as possible. */
static enum ps_status send_pieces(struct ip_conn *link, enum ip_piece_kind kind,
				  const int *fds, uint32_t count)
{
	enum ps_status status = PS_OK;
	struct ip_message msg;
	uint32_t at = 0;

	while (at < count && status == PS_OK) {
		ip_message_init(&msg, IP_PIECE, link->minor);
		msg.body.piece.kind = kind;
		for (; at < count && msg.fd_count < IP_LIST_MAX; at++) {
			if (fds[at] < 0)
				continue;
			msg.body.piece.number[msg.fd_count] = at;
			msg.fds[msg.fd_count++] = fds[at];
		}
		msg.body.piece.count = msg.fd_count;
		if (msg.fd_count > 0)
			status = send_lent(link, &msg);
	}
	return status;
}

static enum ps_status send_end(struct ip_conn *link)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_PIECE, link->minor);
	msg.body.piece.kind = IP_PIECE_END;
	return ip_conn_send(link, &msg);
}

enum ps_status pd_hand_over(struct ip_conn *link,
			    const struct pd_holdings *holdings)
{
	/* Only to find its arrays. */
	struct pd_holdings all = *holdings;
	enum ps_status status;
	uint32_t count;
	int **fds;

	status = send_begin(link, holdings);
	for (size_t i = 0; i < KINDS && status == PS_OK; i++) {
		fds = fds_at(&all, kinds[i], &count);
		status = send_pieces(link, kinds[i], *fds, count);
	}
	if (status == PS_OK)
		status = send_end(link);
	return status;
}

/* ------------------------------------------------------------------ */
/* Taking over                                                         */

static enum ps_status check_begin(const struct ip_message *msg)
{
	const struct ip_begin *begin = &msg->body.begin;
	unsigned int due = begin->segments > 0 ? 3 : 1;

	if (msg->type != IP_BEGIN)
		return bs_fail(PS_PROTOCOL,
			       "%s came from the other half where "
			       "BEGIN was due",
			       ip_type_name(msg->type));
	if (begin->layout != PD_JOURNAL_LAYOUT)
		return bs_fail(PS_VERSION_MISMATCH,
			       "the other half's journal has layout %" PRIu32
			       ", this one's %u; stop the daemon (poolswitch "
			       "shutdown) and start it again",
			       begin->layout, PD_JOURNAL_LAYOUT);
	if (msg->fd_count != due)
		return bs_fail(PS_PROTOCOL,
			       "BEGIN of %" PRIu32 " segments came with %u "
			       "descriptors, must be %u",
			       begin->segments, msg->fd_count, due);
	return PS_OK;
}

/* Before anything is lost on its way. */
static enum ps_status check_room(const struct ip_begin *begin)
{
	uint64_t need = (uint64_t)begin->segments + begin->clients;
	uint64_t limit = 0;
	uint64_t room = 0;

	/* Without /proc nobody knows; then a loss shows on arrival. */
	if (ip_fd_room(&room, &limit) != PS_OK || need + FILES_BESIDES <= room)
		return PS_OK;
	return bs_fail(PS_FD_LIMIT,
		       "%" PRIu32 " segments and up to %" PRIu32 " clients "
		       "need %" PRIu64 " open files, %" PRIu64 " are left of "
		       "the limit %" PRIu64 "; raise it (ulimit -Hn, systemd's "
		       "LimitNOFILE=), or start with fewer --clients or a "
		       "larger --segment",
		       begin->segments, begin->clients, need + FILES_BESIDES,
		       room, limit);
}

static void take_begin(struct ip_message *msg, struct pd_holdings *holdings)
{
	unsigned int at = 0;

	if (msg->fd_count == 3)
		holdings->journal = ip_message_take_fd(msg, at++);
	holdings->listen = ip_message_take_fd(msg, at++);
	if (msg->fd_count == 3)
		holdings->claim = ip_message_take_fd(msg, at);
}

static enum ps_status check_piece(struct pd_holdings *holdings,
				  const struct ip_message *msg)
{
	const struct ip_piece *piece = &msg->body.piece;
	const char *name = ip_type_name(msg->type);
	unsigned int due = msg->type == IP_PIECE ? piece->count : 0;
	uint32_t count;

	if (!fds_at(holdings, piece->kind, &count) || piece->count == 0 ||
	    piece->count > IP_LIST_MAX || msg->fd_count != due)
		return bs_fail(PS_PROTOCOL,
			       "%s of kind %" PRIu32 " with %" PRIu32
			       " numbers and %u descriptors came from the "
			       "other half",
			       name, piece->kind, piece->count, msg->fd_count);
	for (uint32_t i = 0; i < piece->count; i++) {
		if (piece->number[i] >= count)
			return bs_fail(PS_PROTOCOL,
				       "%s of kind %" PRIu32 " names number "
				       "%" PRIu32 " of %" PRIu32,
				       name, piece->kind, piece->number[i],
				       count);
	}
	return PS_OK;
}

enum ps_status pd_apply(struct pd_holdings *holdings, struct ip_message *msg)
{
	const struct ip_piece *piece = &msg->body.piece;
	enum ps_status status;
	uint32_t count;
	int *fds;

	if (msg->type != IP_PIECE && msg->type != IP_DROP)
		return bs_fail(PS_PROTOCOL,
			       "%s came from the other half where PIECE or "
			       "DROP was due",
			       ip_type_name(msg->type));
	status = check_piece(holdings, msg);
	if (status != PS_OK)
		return status;
	fds = *fds_at(holdings, piece->kind, &count);
	for (unsigned int i = 0; i < piece->count; i++) {
		drop_fd(&fds[piece->number[i]]);
		if (msg->type == IP_PIECE)
			fds[piece->number[i]] = ip_message_take_fd(msg, i);
	}
	return PS_OK;
}

/* @is_over_out: PIECE_END came. */
static enum ps_status receive_piece(struct ip_conn *link,
				    struct pd_holdings *holdings,
				    bool *is_over_out)
{
	struct ip_message msg;
	enum ps_status status;

	status = ip_conn_receive(link, &msg);
	if (status != PS_OK)
		return status;
	*is_over_out =
		msg.type == IP_PIECE && msg.body.piece.kind == IP_PIECE_END;
	if (!*is_over_out)
		status = pd_apply(holdings, &msg);
	ip_message_done(&msg);
	return status;
}

enum ps_status pd_take_over_from(struct ip_conn *link, struct ip_message *begin,
				 struct pd_holdings *holdings_out)
{
	struct pd_holdings holdings;
	enum ps_status status;
	bool is_over = false;

	pd_holdings_init(&holdings);
	status = check_begin(begin);
	if (status == PS_OK)
		status = check_room(&begin->body.begin);
	if (status == PS_OK)
		status = pd_holdings_size(&holdings, begin->body.begin.segments,
					  begin->body.begin.clients);
	if (status == PS_OK)
		take_begin(begin, &holdings);
	while (status == PS_OK && !is_over)
		status = receive_piece(link, &holdings, &is_over);
	if (status != PS_OK) {
		pd_holdings_done(&holdings);
		return bs_fail_prefix(status, "taking over");
	}
	*holdings_out = holdings;
	return PS_OK;
}

enum ps_status pd_take_over(struct ip_conn *link,
			    struct pd_holdings *holdings_out)
{
	struct ip_message begin;
	enum ps_status status;

	status = ip_conn_receive(link, &begin);
	if (status != PS_OK)
		return bs_fail_prefix(status, "taking over");
	status = pd_take_over_from(link, &begin, holdings_out);
	ip_message_done(&begin);
	return status;
}

/* ------------------------------------------------------------------ */
/* Changes                                                             */

enum ps_status pd_tell_keep(struct ip_conn *link, enum ip_piece_kind kind,
			    uint32_t number, int fd)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_PIECE, link->minor);
	msg.body.piece.kind = kind;
	msg.body.piece.count = 1;
	msg.body.piece.number[0] = number;
	msg.fds[msg.fd_count++] = fd;
	return send_lent(link, &msg);
}

enum ps_status pd_tell_drop(struct ip_conn *link, enum ip_piece_kind kind,
			    uint32_t number)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_DROP, link->minor);
	msg.body.piece.kind = kind;
	msg.body.piece.count = 1;
	msg.body.piece.number[0] = number;
	return ip_conn_send(link, &msg);
}

enum ps_status pd_tell_note(struct ip_conn *link, enum ip_notice notice,
			    uint32_t value)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_NOTE, link->minor);
	msg.body.note.notice = notice;
	msg.body.note.value = value;
	return ip_conn_send(link, &msg);
}

/* ------------------------------------------------------------------ */
/* Starting the other half                                             */

/* Between fork() and execv() only what may be called in a signal handler: the
 * process may have had other threads, which hold locks. */
struct child {
	char **argv;
	const char *path; /* where /proc is missing */
	int link;
	int report;   /* the number of an error goes there; closes itself */
	int files;    /* the soft limit */
	sigset_t all; /* every signal */
};

static void close_from(int low, int files)
{
	if (syscall(SYS_close_range, (unsigned int)low, ~0u, 0u) == 0)
		return;
	for (int fd = low; fd < files; fd++)
		close(fd);
}

/* Signals that the half before us ignored or blocked are as at first. */
static void reset_signals(void)
{
	struct sigaction usual;
	sigset_t none;

	memset(&usual, 0, sizeof(usual));
	usual.sa_handler = SIG_DFL;
	sigaction(SIGPIPE, &usual, NULL);
	sigaction(SIGXFSZ, &usual, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

__attribute__((noreturn)) static void run_child(const struct child *child)
{
	/* Out of the way of the numbers that they are to have. */
	int link = fcntl(child->link, F_DUPFD_CLOEXEC, REPORT_FD + 1);
	int report = fcntl(child->report, F_DUPFD_CLOEXEC, REPORT_FD + 1);
	int error;

	setsid();
	if (link < 0 || report < 0 || dup2(link, LINK_FD) < 0 ||
	    dup3(report, REPORT_FD, O_CLOEXEC) < 0)
		goto fail;
	close_from(REPORT_FD + 1, child->files);
	report = REPORT_FD;
	reset_signals();
	execv("/proc/self/exe", child->argv);
	execv(child->path, child->argv);
fail:
	error = errno;
	if (write(report < 0 ? child->report : report, &error, sizeof(error)) <
	    0)
		_exit(EX_SOFTWARE);
	_exit(EX_OSERR);
}

/* 0: it runs. */
static int read_report(int report)
{
	int error = 0;
	ssize_t got;

	do
		got = read(report, &error, sizeof(error));
	while (got < 0 && errno == EINTR);
	return got == (ssize_t)sizeof(error) ? error : 0;
}

static enum ps_status start_failed(const char *doing)
{
	if (errno == EMFILE || errno == ENFILE)
		return bs_fail(PS_FD_LIMIT,
			       "starting the other half: the limit of open "
			       "files is reached; raise it (ulimit -n)");
	if (errno == ENOMEM)
		return bs_fail(PS_HOST_MEMORY,
			       "starting the other half: no memory");
	return bs_fail_errno("starting the other half: %s", doing);
}

static enum ps_status watch_child(pid_t pid, int report, int *pidfd_out)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	enum ps_status status = PS_OK;
	int error;

	if (pidfd < 0) {
		status = start_failed("opening its pidfd");
		kill(pid, SIGKILL);
	}
	error = read_report(report);
	if (status == PS_OK && error) {
		errno = error;
		status = start_failed("executing this program again");
		close(pidfd);
	}
	if (status != PS_OK) {
		waitpid(pid, NULL, 0);
		return status;
	}
	*pidfd_out = pidfd;
	return PS_OK;
}

/* A signal's handler must not run in the child before execv(). */
static enum ps_status fork_child(struct child *child, const int report[2],
				 int *pidfd_out)
{
	enum ps_status status;
	sigset_t before;
	pid_t pid;

	pthread_sigmask(SIG_SETMASK, &child->all, &before);
	pid = fork();
	if (pid == 0)
		run_child(child);
	status = pid < 0 ? start_failed("fork") : PS_OK;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(report[1]);
	if (pid > 0)
		status = watch_child(pid, report[0], pidfd_out);
	close(report[0]);
	return status;
}

static int soft_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT32_MAX)
		return 1 << 20;
	return (int)limit.rlim_cur;
}

enum ps_status pd_start_half(int argc, char **argv, enum pd_role role,
			     int *link_out, int *pidfd_out)
{
	struct child child = { .files = soft_limit() };
	enum ps_status status;
	int report[2];
	int link[2];

	child.path = (const char *)(uintptr_t)getauxval(AT_EXECFN);
	sigfillset(&child.all);
	child.argv = pd_options_argv(argc, argv, role, LINK_FD);
	if (!child.argv)
		return bs_fail(PS_HOST_MEMORY,
			       "starting the other half: no memory");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) != 0) {
		status = start_failed("making its socket");
		goto free_argv;
	}
	if (pipe2(report, O_CLOEXEC) != 0) {
		status = start_failed("making a pipe");
		goto close_link;
	}
	child.link = link[1];
	child.report = report[1];
	status = fork_child(&child, report, pidfd_out);
	if (status != PS_OK)
		goto close_link;
	close(link[1]);
	free(child.argv);
	*link_out = link[0];
	return PS_OK;
close_link:
	close(link[0]);
	close(link[1]);
free_argv:
	free(child.argv);
	return status;
}

/* ------------------------------------------------------------------ */
/* For both                                                            */

void pd_raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int pd_exit_status(enum ps_status status)
{
	switch (status) {
	case PS_OK:
		return EX_OK;
	case PS_INVALID_ARGUMENT:
	case PS_OUT_OF_RANGE:
		return EX_USAGE;
	case PS_NO_DRIVER:
	case PS_NO_DEVICE:
	case PS_UNSUPPORTED:
	case PS_DEVICE_LOST:
	case PS_DEVICE_MEMORY:
		return EX_UNAVAILABLE;
	case PS_ALREADY_RESERVED:
	case PS_AGAIN:
	case PS_TIMED_OUT:
		return EX_TEMPFAIL;
	case PS_PERMISSION:
		return EX_NOPERM;
	default:
		return EX_OSERR;
	}
}
