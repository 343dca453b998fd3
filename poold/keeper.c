/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The half that holds everything and does nothing: as little as possible can
 * go wrong here, since a pool outlives an agent by its keeper alone. It makes
 * no driver call, answers no client, and sleeps until a signal, a word of the
 * agent or the agent's end.
 *
 * Invariants
 *   Another agent is started only after the pidfd of the last one is
 *   readable, and after all that it sent has been read.
 *   Holdings are a whole pool or no pool: a hand-over that is cut is nothing.
 *   The keeper ends after its agent: what ends last takes the memory along.
 */
#include "poold/half.h"

#include "base/status.h"
#include "poold/listen.h"
#include "poold/log.h"
#include "poold/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

/* So many agents in a row may end without having been ready before the next
 * one is put off. */
#define FAILURES_AT_ONCE 5u
#define PAUSE_FIRST_MS 100
#define PAUSE_MOST_MS 10000

/* How long a new agent may take to read what it is handed, each message. */
#define HAND_OVER_MS 10000

/* An agent that ended: by a signal, or nobody knows how. */
#define NO_EXIT_STATUS (-1)

struct keeper {
	int argc;
	char **argv;
	const struct pd_options *options;
	struct pd_holdings holdings;
	int signals; /* a signalfd */

	/* The agent; link and pidfd are -1 when there is none. */
	struct ip_conn conn;
	int link;  /* -1 too when it has closed its end */
	int pidfd; /* -1 too when the kernel had none to give */
	bool is_ready;
	bool is_condemned; /* killed: it is heard again when it is gone */
	bool is_finished;  /* it ends on purpose ... */
	int finish;        /* ... with this status */

	bool was_ready;        /* this or an earlier agent */
	unsigned int requests; /* to end, by signal */
	unsigned int failures; /* agents in a row that were never ready */
	int pause_ms;          /* the last one */
	int64_t start_at;      /* the next agent, CLOCK_MONOTONIC ms */

	bool is_over;
	int status; /* ours, when it is over */
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void end_with(struct keeper *keeper, int status)
{
	keeper->is_over = true;
	keeper->status = status;
}

static bool has_agent(const struct keeper *keeper)
{
	return keeper->link >= 0 || keeper->pidfd >= 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/*
 * What it holds is safe with us; its end shows at its pidfd. The link stays
 * until then: it may have welcomed a client of which we have not heard yet.
 */
static void kill_agent(struct keeper *keeper)
{
	keeper->is_condemned = true;
	if (keeper->pidfd < 0 ||
	    syscall(SYS_pidfd_send_signal, keeper->pidfd, SIGKILL, NULL, 0u))
		close_fd(&keeper->link);
}

/* Everything but the socket: a lost GPU's descriptors block its reset, and
 * the next pool claims the GPU anew. */
static void give_up_pool(struct keeper *keeper)
{
	int listen = keeper->holdings.listen;

	keeper->holdings.listen = -1;
	pd_holdings_done(&keeper->holdings);
	keeper->holdings.listen = listen;
}

/* ------------------------------------------------------------------ */
/* Starting an agent                                                   */

static void tell(struct keeper *keeper, enum ip_notice notice)
{
	/* A failure shows at the agent's end. */
	if (keeper->link >= 0)
		(void)pd_tell_note(&keeper->conn, notice, 0);
}

/* What was asked of the last agent holds for this one. */
static void tell_requests(struct keeper *keeper)
{
	if (keeper->requests > 0)
		tell(keeper, IP_NOTICE_DRAIN);
	if (keeper->requests > 1)
		tell(keeper, IP_NOTICE_STOP);
}

static void put_off(struct keeper *keeper)
{
	keeper->pause_ms *= 2;
	if (keeper->pause_ms < PAUSE_FIRST_MS)
		keeper->pause_ms = PAUSE_FIRST_MS;
	if (keeper->pause_ms > PAUSE_MOST_MS)
		keeper->pause_ms = PAUSE_MOST_MS;
	else
		pd_log(PD_WARNING, "next agent in ms %d failures %u",
		       keeper->pause_ms, keeper->failures);
	keeper->start_at = now_ms() + keeper->pause_ms;
}

static void start_agent(struct keeper *keeper)
{
	enum ps_status status;

	status = pd_start_half(keeper->argc, keeper->argv, PD_ROLE_AGENT,
			       &keeper->link, &keeper->pidfd);
	if (status != PS_OK) {
		pd_log(PD_ERROR, "%s", bs_fail_text());
		keeper->failures++;
		if (keeper->was_ready)
			put_off(keeper);
		else
			end_with(keeper, pd_exit_status(status));
		return;
	}
	keeper->is_ready = false;
	keeper->is_condemned = false;
	status = ip_conn_init(&keeper->conn, keeper->link, IP_HALF, 0,
			      HAND_OVER_MS);
	if (status != PS_OK)
		close_fd(&keeper->link); /* nothing is heard without it */
	else
		status = pd_hand_over(&keeper->conn, &keeper->holdings);
	if (status == PS_OK) {
		tell_requests(keeper);
		return;
	}
	pd_log(PD_ERROR, "handing over to the agent: %s", bs_fail_text());
	kill_agent(keeper);
}

/* ------------------------------------------------------------------ */
/* What the agent says                                                 */

/* For those who start it: people and scripts. */
static void print_ready(const struct keeper *keeper)
{
	const char *socket = keeper->options->socket;
	const struct pd_pool_record *pool;
	struct pd_journal *journal;
	int fd = dup(keeper->holdings.journal);

	/* Only what is written once; the rest is the agent's. */
	if (fd < 0 || pd_journal_open(fd, &journal) != PS_OK) {
		printf("poolswitchd: ready socket %s\n", socket);
	} else {
		pool = pd_journal_pool(journal);
		printf("poolswitchd: ready gpu %s bytes %" PRIu64
		       " parameter %" PRIu64 " segment %" PRIu64 " socket %s\n",
		       pool->gpu, pool->segments * pool->segment_bytes,
		       pool->parameter_bytes, pool->segment_bytes, socket);
		pd_journal_close(journal);
	}
	fflush(stdout);
}

static void notify_ready(const char *state)
{
	char text[64];

	snprintf(text, sizeof(text), "%sMAINPID=%d", state, (int)getpid());
	pd_notify(text);
}

static void on_ready(struct keeper *keeper)
{
	bool is_first = !keeper->was_ready;

	keeper->is_ready = true;
	keeper->was_ready = true;
	keeper->failures = 0;
	keeper->pause_ms = 0;
	pd_log(is_first ? PD_DEBUG : PD_NOTICE, "agent ready");
	if (!is_first)
		return;
	notify_ready("READY=1\n");
	print_ready(keeper);
}

static void on_note(struct keeper *keeper, const struct ip_note *note)
{
	switch (note->notice) {
	case IP_NOTICE_READY:
		on_ready(keeper);
		break;
	case IP_NOTICE_LOST:
		pd_log(PD_ERROR, "gpu lost: the pool and all in it are gone");
		give_up_pool(keeper);
		break;
	case IP_NOTICE_FINISHED:
		keeper->is_finished = true;
		keeper->finish = (int)(note->value & 0xff);
		if (keeper->finish == EX_OK)
			pd_notify("STOPPING=1");
		break;
	case IP_NOTICE_DRAIN:
		/* At somebody's word; the next agent is to go on with it. */
		if (keeper->requests == 0)
			keeper->requests = 1;
		break;
	default:
		pd_log(PD_WARNING, "agent said notice %" PRIu32, note->notice);
	}
}

/* A new pool. */
static enum ps_status on_begin(struct keeper *keeper, struct ip_message *msg)
{
	struct pd_holdings fresh;
	enum ps_status status;

	if (keeper->holdings.segments > 0)
		return bs_fail(PS_PROTOCOL, "the agent sent a second pool");
	pd_holdings_init(&fresh);
	status = pd_take_over_from(&keeper->conn, msg, &fresh);
	if (status != PS_OK)
		return status;
	pd_holdings_done(&keeper->holdings);
	keeper->holdings = fresh;
	return PS_OK;
}

static enum ps_status on_change(struct keeper *keeper, struct ip_message *msg)
{
	enum ps_status status = pd_apply(&keeper->holdings, msg);

	/* Now nobody but the agent has it. Who counts the answers counts
	 * segments; one that was never answered would stay as it is for good.
	 */
	if (status == PS_OK && msg->type == IP_DROP &&
	    msg->body.piece.kind == IP_PIECE_SEGMENTS)
		status = pd_tell_note(&keeper->conn, IP_NOTICE_DROPPED,
				      msg->body.piece.number[0]);
	return status;
}

static enum ps_status on_message(struct keeper *keeper, struct ip_message *msg)
{
	switch (msg->type) {
	case IP_BEGIN:
		return on_begin(keeper, msg);
	case IP_NOTE:
		on_note(keeper, &msg->body.note);
		return PS_OK;
	default:
		return on_change(keeper, msg);
	}
}

static enum ps_status hear(struct keeper *keeper)
{
	struct ip_message msg;
	enum ps_status status;

	status = ip_conn_receive(&keeper->conn, &msg);
	if (status != PS_OK)
		return status;
	status = on_message(keeper, &msg);
	ip_message_done(&msg);
	return status;
}

static void on_link(struct keeper *keeper)
{
	enum ps_status status = hear(keeper);

	if (status == PS_OK)
		return;
	if (status == PS_PEER_GONE) {
		/* It is ending: its pidfd says when. */
		close_fd(&keeper->link);
		return;
	}
	pd_log(PD_ERROR, "hearing the agent: %s", bs_fail_text());
	if (!keeper->was_ready)
		end_with(keeper, pd_exit_status(status));
	kill_agent(keeper);
}

/* ------------------------------------------------------------------ */
/* The agent's end                                                     */

/* What it sent before it died counts, but for one who has given up. */
static void hear_the_rest(struct keeper *keeper)
{
	keeper->conn.timeout_ms = 0;
	while (!keeper->is_over && keeper->link >= 0 && hear(keeper) == PS_OK)
		;
	close_fd(&keeper->link);
}

/* An agent that another keeper has started is no child of ours. */
static int reap(struct keeper *keeper)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	if (keeper->pidfd < 0 ||
	    waitid(P_PIDFD, (id_t)keeper->pidfd, &info, WEXITED | WNOHANG) != 0)
		return NO_EXIT_STATUS;
	if (info.si_code == CLD_EXITED)
		return info.si_status;
	pd_log(PD_WARNING, "agent killed pid %d signal %d", (int)info.si_pid,
	       info.si_status);
	return NO_EXIT_STATUS;
}

/* It was never ready, and neither was one before it. */
static void on_failed_start(struct keeper *keeper, int status)
{
	/* One that is killed may do better the next time; one that gives a
	 * reason has logged it. */
	if (status != NO_EXIT_STATUS)
		end_with(keeper, status);
	else if (keeper->failures >= FAILURES_AT_ONCE)
		end_with(keeper, EX_SOFTWARE);
}

/* The pool is kept while there is hope. */
static void on_failed_restart(struct keeper *keeper, int status)
{
	if (status == EX_UNAVAILABLE && keeper->holdings.segments > 0 &&
	    keeper->failures >= FAILURES_AT_ONCE) {
		pd_log(PD_ERROR, "gpu gone: the pool is given up");
		give_up_pool(keeper);
	}
	if (status == EX_UNAVAILABLE || keeper->failures >= FAILURES_AT_ONCE)
		put_off(keeper);
}

static void on_agent_end(struct keeper *keeper)
{
	int status;

	hear_the_rest(keeper);
	status = reap(keeper);
	close_fd(&keeper->pidfd);
	if (keeper->is_finished)
		status = keeper->finish;
	keeper->is_finished = false;
	if (keeper->is_over)
		return;
	/* Asked to end at once it may have died on the way. */
	if (status == EX_OK || keeper->requests > 1) {
		end_with(keeper, keeper->was_ready ? EX_OK : EX_SOFTWARE);
		return;
	}
	if (!keeper->is_ready)
		keeper->failures++;
	if (status == NO_EXIT_STATUS)
		pd_log(PD_NOTICE, "agent ended failures %u", keeper->failures);
	else
		pd_log(PD_NOTICE, "agent ended status %d failures %u", status,
		       keeper->failures);
	keeper->start_at = 0;
	if (!keeper->was_ready)
		on_failed_start(keeper, status);
	else
		on_failed_restart(keeper, status);
}

/* ------------------------------------------------------------------ */
/* Signals                                                             */

static void on_request_to_end(struct keeper *keeper)
{
	keeper->requests++;
	if (!has_agent(keeper)) {
		end_with(keeper, EX_OK);
		return;
	}
	switch (keeper->requests) {
	case 1:
		pd_log(PD_NOTICE, "draining: once more ends at once");
		tell(keeper, IP_NOTICE_DRAIN);
		break;
	case 2:
		pd_log(PD_NOTICE, "stopping: once more kills the agent");
		tell(keeper, IP_NOTICE_STOP);
		break;
	default:
		pd_log(PD_WARNING, "killing the agent");
		kill_agent(keeper);
	}
}

/* Those whom nobody else waits for, when this is the first process of a
 * container. The agent is left to reap(), which wants its status. */
static void reap_strangers(const struct keeper *keeper)
{
	siginfo_t ended;
	siginfo_t agent;

	do {
		memset(&ended, 0, sizeof(ended));
		memset(&agent, 0, sizeof(agent));
		if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0)
			return;
		if (keeper->pidfd >= 0)
			waitid(P_PIDFD, (id_t)keeper->pidfd, &agent,
			       WEXITED | WNOHANG | WNOWAIT);
	} while (ended.si_pid != 0 && ended.si_pid != agent.si_pid &&
		 waitpid(ended.si_pid, NULL, 0) == ended.si_pid);
}

static void on_signal(struct keeper *keeper)
{
	struct signalfd_siginfo info;

	if (read(keeper->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGHUP:
		tell(keeper, IP_NOTICE_RELOAD);
		break;
	case SIGCHLD:
		reap_strangers(keeper);
		break;
	default:
		on_request_to_end(keeper);
	}
}

static enum ps_status catch_signals(struct keeper *keeper)
{
	struct sigaction interrupt;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	/* Ignored when a script's shell has put us into the background. */
	sigaction(SIGINT, NULL, &interrupt);
	if (interrupt.sa_handler != SIG_IGN)
		sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	keeper->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (keeper->signals < 0)
		return bs_fail_errno("making a signalfd");
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* A keeper's life                                                     */

static enum ps_status begin_first(struct keeper *keeper)
{
	const struct pd_options *options = keeper->options;
	enum ps_status status;

	/* First of all: so a daemon that runs already is found at once. */
	status = pd_listen(options, &keeper->holdings.listen);
	if (status != PS_OK || !options->pid_file)
		return status;
	status = pd_pid_file_write(options->pid_file);
	if (status != PS_OK)
		pd_unlisten(options, keeper->holdings.listen);
	return status;
}

/* Of the process that has made @link; -1 when it has ended. */
static int open_pidfd(const struct ip_conn *conn)
{
	struct pollfd entry = { conn->fd, 0, 0 };
	socklen_t size = sizeof(int);
	int pidfd = -1;

	if (getsockopt(conn->fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
		return pidfd;
	pidfd = (int)syscall(SYS_pidfd_open, conn->peer_pid, 0u);
	/* Its number may be another process's, unless it lives now. */
	if (poll(&entry, 1, 0) == 1)
		close_fd(&pidfd);
	return pidfd;
}

/* The last keeper died; the agent has started this one. */
static enum ps_status begin_again(struct keeper *keeper)
{
	const struct pd_options *options = keeper->options;
	enum ps_status status;

	keeper->link = options->link;
	status = ip_conn_init(&keeper->conn, keeper->link, IP_HALF, 0,
			      HAND_OVER_MS);
	if (status == PS_OK)
		status = pd_take_over(&keeper->conn, &keeper->holdings);
	if (status != PS_OK)
		return status;
	keeper->pidfd = open_pidfd(&keeper->conn);
	keeper->was_ready = keeper->holdings.segments > 0;
	keeper->is_ready = keeper->was_ready;
	pd_listen_renew(keeper->holdings.listen);
	if (options->pid_file && pd_pid_file_write(options->pid_file) != PS_OK)
		pd_log(PD_WARNING, "%s", bs_fail_text());
	notify_ready("");
	/* From here on an end of ours is no failure to start. */
	pd_tell_note(&keeper->conn, IP_NOTICE_READY, 0);
	pd_log(PD_NOTICE, "keeper started again");
	return PS_OK;
}

static int time_to_start(const struct keeper *keeper)
{
	int64_t left = keeper->start_at - now_ms();

	return left > 0 ? (int)left : 0;
}

/* Waits for something to happen and does it. */
static void live_on(struct keeper *keeper)
{
	struct pollfd entries[] = {
		{ keeper->signals, POLLIN, 0 },
		{ keeper->is_condemned ? -1 : keeper->link, POLLIN, 0 },
		{ keeper->pidfd, POLLIN, 0 },
	};
	bool had_agent = has_agent(keeper);

	if (poll(entries, 3, had_agent ? -1 : time_to_start(keeper)) < 0)
		return; /* EINTR */
	if (entries[0].revents)
		on_signal(keeper);
	if (entries[1].revents && keeper->link >= 0)
		on_link(keeper);
	if (had_agent && (entries[2].revents || !has_agent(keeper)))
		on_agent_end(keeper);
}

static void live(struct keeper *keeper)
{
	while (!keeper->is_over || has_agent(keeper)) {
		if (!has_agent(keeper) && time_to_start(keeper) == 0)
			start_agent(keeper);
		else
			live_on(keeper);
	}
	pd_unlisten(keeper->options, keeper->holdings.listen);
	if (keeper->options->pid_file)
		pd_pid_file_remove(keeper->options->pid_file);
}

int pd_keeper_run(int argc, char **argv, const struct pd_options *options)
{
	struct keeper keeper = {
		.argc = argc,
		.argv = argv,
		.options = options,
		.signals = -1,
		.link = -1,
		.pidfd = -1,
	};
	enum ps_status status;

	pd_holdings_init(&keeper.holdings);
	status = catch_signals(&keeper);
	if (status == PS_OK)
		status = options->link < 0 ? begin_first(&keeper)
					   : begin_again(&keeper);
	if (status == PS_OK) {
		live(&keeper);
	} else {
		pd_log(PD_ERROR, "%s", bs_fail_text());
		keeper.status = pd_exit_status(status);
	}
	pd_holdings_done(&keeper.holdings);
	close_fd(&keeper.link);
	close_fd(&keeper.pidfd);
	close_fd(&keeper.signals);
	return keeper.status;
}
