/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * poolswitchd with its real keeper and an agent that only plays one: its
 * pool is four empty files. The folder of its socket steers it:
 *	events    a datagram socket that hears what the agent does
 *	no-gpu    there: an agent ends with EX_UNAVAILABLE as it starts
 *	crash     there: it kills itself as it starts
 *	deaf      there: it does not drain and does not stop
 * SIGUSR1 makes it lose the GPU, SIGUSR2 break the rules of the link, SIGHUP
 * have a segment dropped, SIGWINCH the same after it has said
 * that it drains. SIGURG makes it take what belongs to a model, SIGPWR say how
 * much of that it holds and give up the model's copy.
 */
#include "base/status.h"
#include "poold/half.h"
#include "poold/log.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define SEGMENTS 4u
#define CLIENTS 8u

struct agent {
	int argc;
	char **argv;
	struct ip_conn link;
	struct pd_holdings holdings;
	int signals;
};

static char folder[108];

static const char *path_of(const char *name)
{
	static char path[120];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static bool is_there(const char *name)
{
	return access(path_of(name), F_OK) == 0;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[100];
	va_list values;

	va_start(values, format);
	vsnprintf(text, sizeof(text), format, values);
	va_end(values);
	snprintf(name.sun_path, sizeof(name.sun_path), "%.90s/events", folder);
	sendto(fd, text, strlen(text), 0, (struct sockaddr *)&name,
	       sizeof(name));
	close(fd);
}

static enum ps_status make_pool(struct agent *agent)
{
	static const struct pd_pool_record pool = {
		.gpu = "GPU-pretended",
		.window_base = UINT64_C(1) << 44,
		.window_bytes = UINT64_C(64) << 20,
		.segment_bytes = 2 << 20,
		.parameter_bytes = 2 << 20,
		.segments = SEGMENTS,
		.clients = CLIENTS,
	};
	struct pd_holdings *holdings = &agent->holdings;
	struct pd_journal *journal;
	enum ps_status status;

	status = pd_journal_create(&pool, &journal);
	if (status == PS_OK)
		status = pd_holdings_size(holdings, SEGMENTS, CLIENTS);
	if (status != PS_OK)
		return status;
	holdings->journal = dup(pd_journal_fd(journal));
	pd_journal_close(journal);
	holdings->claim = memfd_create("claim", MFD_CLOEXEC);
	for (uint32_t i = 0; i < SEGMENTS; i++)
		holdings->segment[i] = memfd_create("segment", MFD_CLOEXEC);
	return pd_hand_over(&agent->link, holdings);
}

static uint32_t segments_held(const struct pd_holdings *holdings)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < holdings->segments; i++)
		count += holdings->segment[i] >= 0;
	return count;
}

/* What is a model's, one of each kind. */
#define MODEL 3u
#define PARTS 4u

struct part {
	enum ip_piece_kind kind;
	uint32_t number;
	int *fd;
};

static void list_parts(const struct agent *agent, struct part parts[PARTS])
{
	const struct pd_holdings *held = &agent->holdings;
	const uint32_t file = MODEL * IP_MODEL_FILES + 1;

	parts[0] = (struct part){ IP_PIECE_SIGNALS, IP_SIGNAL_LANDED,
				  &held->signal[IP_SIGNAL_LANDED] };
	parts[1] = (struct part){ IP_PIECE_MANIFESTS, MODEL,
				  &held->manifest[MODEL] };
	parts[2] = (struct part){ IP_PIECE_FILES, file, &held->file[file] };
	parts[3] = (struct part){ IP_PIECE_HOSTS, MODEL, &held->host[MODEL] };
}

static enum ps_status take_model(struct agent *agent)
{
	enum ps_status status = PS_OK;
	struct part parts[PARTS];

	list_parts(agent, parts);
	for (uint32_t i = 0; i < PARTS && status == PS_OK; i++) {
		*parts[i].fd = memfd_create("model", MFD_CLOEXEC);
		status = pd_tell_keep(&agent->link, parts[i].kind,
				      parts[i].number, *parts[i].fd);
	}
	say("model");
	return status;
}

static enum ps_status show_model(struct agent *agent)
{
	struct part parts[PARTS];
	enum ps_status status;
	uint32_t count = 0;

	list_parts(agent, parts);
	for (uint32_t i = 0; i < PARTS; i++)
		count += *parts[i].fd >= 0;
	if (*parts[3].fd >= 0)
		close(*parts[3].fd);
	*parts[3].fd = -1;
	status = pd_tell_drop(&agent->link, parts[3].kind, parts[3].number);
	/* Now the keeper hears of it, whenever this one is killed. */
	say("parts %u", count);
	return status;
}

static enum ps_status begin(struct agent *agent)
{
	enum ps_status status;

	status = ip_conn_init(&agent->link, 3, IP_HALF, 0, 5000);
	if (status == PS_OK)
		status = pd_take_over(&agent->link, &agent->holdings);
	if (status != PS_OK)
		return status;
	if (is_there("crash"))
		raise(SIGKILL);
	if (is_there("no-gpu"))
		return bs_fail(PS_NO_DEVICE, "there is no GPU");
	say("%s %d", agent->holdings.segments ? "inherited" : "fresh",
	    (int)getpid());
	if (agent->holdings.segments == 0)
		status = make_pool(agent);
	if (status == PS_OK)
		status = pd_tell_note(&agent->link, IP_NOTICE_READY, 0);
	say("holds %u", segments_held(&agent->holdings));
	return status;
}

/* True: it is over. */
static bool on_note(struct agent *agent, const struct ip_note *note)
{
	static const char *const names[] = {
		[IP_NOTICE_DRAIN] = "drain",
		[IP_NOTICE_STOP] = "stop",
		[IP_NOTICE_RELOAD] = "reload",
		[IP_NOTICE_DROPPED] = "dropped",
	};

	bool is_deaf = is_there("deaf");

	if (note->notice == IP_NOTICE_READY)
		return false; /* a keeper that has taken over */
	say("%s %u", names[note->notice], note->value);
	if (note->notice == IP_NOTICE_RELOAD ||
	    note->notice == IP_NOTICE_DROPPED || is_deaf)
		return false;
	(void)pd_tell_note(&agent->link, IP_NOTICE_FINISHED, 0);
	return true;
}

/* The keeper has died. */
static enum ps_status start_keeper(struct agent *agent)
{
	enum ps_status status;
	int pidfd;
	int link;

	close(agent->link.fd);
	status = pd_start_half(agent->argc, agent->argv, PD_ROLE_KEEPER, &link,
			       &pidfd);
	if (status != PS_OK)
		return status;
	close(pidfd);
	status = ip_conn_init(&agent->link, link, IP_HALF, 0, 5000);
	if (status == PS_OK)
		status = pd_hand_over(&agent->link, &agent->holdings);
	say("keeper");
	return status;
}

static enum ps_status on_link(struct agent *agent, bool *is_over)
{
	struct ip_message msg;
	enum ps_status status = ip_conn_receive(&agent->link, &msg);

	if (status == PS_PEER_GONE)
		return start_keeper(agent);
	if (status != PS_OK)
		return status;
	*is_over = on_note(agent, &msg.body.note);
	ip_message_done(&msg);
	return PS_OK;
}

static enum ps_status on_signal(struct agent *agent, bool *is_over)
{
	struct signalfd_siginfo info;

	if (read(agent->signals, &info, sizeof(info)) != sizeof(info))
		return PS_OK;
	if (info.ssi_signo == SIGURG)
		return take_model(agent);
	if (info.ssi_signo == SIGPWR)
		return show_model(agent);
	if (info.ssi_signo == SIGUSR2) /* a piece that there is not */
		return pd_tell_drop(&agent->link, IP_PIECE_SEGMENTS, 99);
	if (info.ssi_signo == SIGWINCH)
		(void)pd_tell_note(&agent->link, IP_NOTICE_DRAIN, 0);
	/* Of a client; not answered. */
	if (info.ssi_signo == SIGHUP)
		(void)pd_tell_drop(&agent->link, IP_PIECE_PIDFDS, 1);
	if (info.ssi_signo == SIGHUP || info.ssi_signo == SIGWINCH)
		return pd_tell_drop(&agent->link, IP_PIECE_SEGMENTS, 2);
	(void)pd_tell_note(&agent->link, IP_NOTICE_LOST, 0);
	*is_over = true;
	return bs_fail(PS_DEVICE_LOST, "the GPU is lost");
}

static enum ps_status live(struct agent *agent)
{
	enum ps_status status = PS_OK;
	bool is_over = false;

	while (status == PS_OK && !is_over) {
		struct pollfd entries[] = {
			{ agent->link.fd, POLLIN, 0 },
			{ agent->signals, POLLIN, 0 },
		};

		poll(entries, 2, -1);
		if (entries[0].revents)
			status = on_link(agent, &is_over);
		else if (entries[1].revents)
			status = on_signal(agent, &is_over);
	}
	return status;
}

int pd_agent_run(int argc, char **argv, const struct pd_options *options)
{
	struct agent agent = { .argc = argc, .argv = argv };
	enum ps_status status;
	sigset_t set;

	snprintf(folder, sizeof(folder), "%s", options->socket);
	*strrchr(folder, '/') = '\0';
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGURG);
	sigaddset(&set, SIGPWR);
	sigprocmask(SIG_BLOCK, &set, NULL);
	agent.signals = signalfd(-1, &set, SFD_CLOEXEC);
	pd_holdings_init(&agent.holdings);
	status = begin(&agent);
	if (status == PS_OK)
		status = live(&agent);
	if (status != PS_OK)
		pd_log(PD_ERROR, "%s", bs_fail_text());
	pd_holdings_done(&agent.holdings);
	return pd_exit_status(status);
}
