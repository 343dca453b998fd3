/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The agent's life: how it starts, its loop, how it ends. */
#include "poold/agent.h"

#include "base/arith.h"
#include "base/status.h"
#include "poold/closer.h"
#include "device/device.h"
#include "ipc/claim.h"
#include "poold/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_A_TURN 64

static uint64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ------------------------------------------------------------------ */
/* Sources                                                             */

enum ps_status pd_watch(struct pd_agent *agent, struct pd_source *source,
			uint32_t events)
{
	struct epoll_event event = { .events = events,
				     .data = { .ptr = source } };
	int how = source->is_watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (source->fd < 0 || (source->is_watched && source->events == events))
		return PS_OK;
	if (epoll_ctl(agent->epoll, how, source->fd, &event) != 0)
		return bs_fail_errno("watching descriptor %d", source->fd);
	source->is_watched = true;
	source->events = events;
	return PS_OK;
}

void pd_unwatch(struct pd_agent *agent, struct pd_source *source)
{
	if (source->is_watched)
		epoll_ctl(agent->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	source->is_watched = false;
}

void pd_source_close(struct pd_agent *agent, struct pd_source *source)
{
	pd_unwatch(agent, source);
	if (source->fd >= 0)
		close(source->fd);
	source->fd = -1;
}

void pd_source_hang_up(struct pd_agent *agent, struct pd_source *source)
{
	pd_unwatch(agent, source);
	if (source->fd >= 0)
		pd_hang_up(source->fd);
	source->fd = -1;
}

void pd_schedule(struct pd_agent *agent, uint64_t at_ms)
{
	if (agent->soonest_ms == 0 || at_ms < agent->soonest_ms)
		agent->soonest_ms = at_ms;
}

void pd_unschedule(struct pd_agent *agent)
{
	agent->is_soonest_stale = true;
}

/* ------------------------------------------------------------------ */
/* What it is told                                                     */

void pd_agent_drain(struct pd_agent *agent)
{
	if (agent->is_draining)
		return;
	agent->is_draining = true;
	pd_log(PD_NOTICE, "drains");
	pd_core_drain(agent->core);
}

void pd_agent_finish(struct pd_agent *agent, int exit_status)
{
	if (agent->is_over)
		return;
	agent->is_over = true;
	agent->exit_status = exit_status;
}

static enum ps_status read_limits(const struct pd_agent *agent,
				  struct pd_limits *limits_out)
{
	const struct pd_pool_record *pool = pd_journal_pool(agent->journal);

	if (!agent->options->limits) {
		pd_limits_init(limits_out);
		return PS_OK;
	}
	return pd_limits_read(agent->options->limits,
			      pool->segments * pool->segment_bytes -
				      pool->parameter_bytes,
			      limits_out);
}

enum ps_status pd_agent_reload(struct pd_agent *agent)
{
	enum ps_status status = read_limits(agent, &agent->limits);

	if (status != PS_OK)
		return status;
	pd_core_set_limits(agent->core, &agent->limits, agent->now_ms);
	pd_log(PD_NOTICE, "limits read again");
	return PS_OK;
}

static void signals_ready(struct pd_agent *agent)
{
	struct signalfd_siginfo info;

	while (read(agent->signals.fd, &info, sizeof(info)) ==
	       (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGHUP) {
			if (pd_agent_reload(agent) != PS_OK)
				pd_log(PD_ERROR, "limits stay as they were: %s",
				       bs_fail_text());
		} else if (agent->is_draining) {
			pd_agent_finish(agent, 0);
		} else {
			pd_agent_drain(agent);
			pd_keeper_note(agent, IP_NOTICE_DRAIN, 0);
		}
	}
}

/* ------------------------------------------------------------------ */
/* The loop                                                            */

/* What was closed in this turn may come up once more. */
static void dispatch(struct pd_agent *agent, struct pd_source *source,
		     uint32_t events)
{
	struct pd_visit *visit = source->owner;

	if (source->fd < 0)
		return;
	switch (source->kind) {
	case PD_AT_LISTEN:
		pd_visits_accept(agent);
		break;
	case PD_AT_LINK:
		pd_keeper_link_ready(agent);
		break;
	case PD_AT_KEEPER:
		pd_keeper_ended(agent);
		break;
	case PD_AT_SIGNALS:
		signals_ready(agent);
		break;
	case PD_AT_GPU:
		pd_gpu_ready(agent);
		break;
	case PD_AT_REQUESTS:
		pd_visit_ready(visit, &visit->requests, events);
		break;
	case PD_AT_EVENTS:
		pd_visit_ready(visit, &visit->events, events);
		break;
	case PD_AT_CLIENT:
		pd_seat_process_ready(source->owner);
		break;
	case PD_AT_HEIR:
		pd_seat_heir_ready(source->owner);
		break;
	case PD_AT_LIFELINE:
		pd_lifeline_ready(source->owner);
		break;
	case PD_AT_HOSTS:
	case PD_AT_LOADER:
		pd_models_ready(agent, source->kind);
		break;
	}
}

static void add_deadline(uint64_t *soonest, uint64_t at_ms)
{
	if (at_ms && at_ms < *soonest)
		*soonest = at_ms;
}

/* -1: nothing is awaited but events. */
static int time_left(const struct pd_agent *agent)
{
	uint64_t soonest = UINT64_MAX;
	uint64_t now = clock_ms();

	if (agent->look_first)
		return 0;
	add_deadline(&soonest, agent->soonest_ms);
	add_deadline(&soonest, agent->core_at_ms);
	add_deadline(&soonest, agent->look_at_ms);
	add_deadline(&soonest, agent->keeper_at_ms);
	add_deadline(&soonest, pd_models_due_ms(agent));
	add_deadline(&soonest, agent->listen_rests_until_ms);
	if (soonest == UINT64_MAX)
		return -1;
	if (soonest <= now)
		return 0;
	return soonest - now > 60000 ? 60000 : (int)(soonest - now);
}

static void tick(struct pd_agent *agent)
{
	if (agent->core_at_ms && agent->core_at_ms <= agent->now_ms) {
		agent->core_at_ms = 0;
		pd_core_tick(agent->core, agent->now_ms);
	}
	pd_fence_tick(agent);
	pd_fence_turn(agent);
	pd_models_turn(agent);
	pd_asks_turn(agent);
	pd_visits_sweep(agent);
	pd_lifelines_sweep(agent);
	pd_visits_tick(agent);
	pd_visits_sweep(agent);
	pd_keeper_tick(agent);
	if (agent->is_draining && pd_core_is_empty(agent->core))
		pd_agent_finish(agent, 0);
}

static enum ps_status turn(struct pd_agent *agent)
{
	struct epoll_event events[EVENTS_A_TURN];
	int count = epoll_wait(agent->epoll, events, EVENTS_A_TURN,
			       time_left(agent));

	if (count < 0 && errno != EINTR)
		return bs_fail_errno("waiting for events");
	agent->now_ms = clock_ms();
	for (int i = 0; i < count && !agent->is_over; i++)
		dispatch(agent, events[i].data.ptr, events[i].events);
	tick(agent);
	return PS_OK;
}

/* ------------------------------------------------------------------ */
/* The start                                                           */

static enum ps_status take_claim(struct pd_agent *agent)
{
	struct ip_claim *claim;
	enum ps_status status;

	status = ip_claim_take(pd_gpu_uuid(agent->gpu), &claim);
	if (status == PS_OK)
		agent->holdings.claim = ip_claim_give(claim);
	return status;
}

/* For a pool that was not there when the keeper handed nothing over. */
static enum ps_status size_holdings(struct pd_holdings *holdings,
				    const struct pd_pool_record *pool)
{
	struct pd_holdings sized;

	pd_holdings_init(&sized);
	sized.listen = holdings->listen;
	sized.claim = holdings->claim;
	holdings->listen = -1;
	holdings->claim = -1;
	pd_holdings_done(holdings);
	*holdings = sized;
	return pd_holdings_size(holdings, pool->segments, pool->clients);
}

static enum ps_status make_pool(struct pd_agent *agent)
{
	const struct pd_gpu_plan *plan = &agent->options->plan;
	struct pd_pool_record pool;
	enum ps_status status;

	status = pd_gpu_open(plan->gpu, &agent->gpu);
	if (status == PS_OK)
		status = take_claim(agent);
	if (status == PS_OK)
		status = pd_gpu_create(agent->gpu, plan, &pool);
	if (status == PS_OK)
		status = pd_journal_create(&pool, &agent->journal);
	if (status == PS_OK)
		status = size_holdings(&agent->holdings, &pool);
	return status;
}

static enum ps_status inherit_pool(struct pd_agent *agent)
{
	struct pd_holdings *holdings = &agent->holdings;
	const struct pd_pool_record *pool;
	int journal = holdings->journal;
	enum ps_status status;

	holdings->journal = -1;
	status = pd_journal_open(journal, &agent->journal);
	if (status != PS_OK)
		return status;
	pool = pd_journal_pool(agent->journal);
	if (holdings->segments != pool->segments ||
	    holdings->clients != pool->clients)
		return bs_fail(PS_PROTOCOL,
			       "the keeper hands over %u segments and %u "
			       "clients, the journal has %u and %u",
			       holdings->segments, holdings->clients,
			       pool->segments, pool->clients);
	status = pd_gpu_open(pool->gpu, &agent->gpu);
	if (status != PS_OK)
		return status;
	status = pd_gpu_adopt(agent->gpu, pool, holdings->segment);
	for (uint32_t i = 0; i < holdings->segments; i++)
		holdings->segment[i] = -1;
	return status;
}

static void close_to_others(struct pd_limits *limits)
{
	pd_limits_init(limits);
	limits->allowed_uids = 1;
	limits->allowed_uid[0] = geteuid();
}

/* A pool that is in use is served, whatever has become of the file. */
static enum ps_status first_limits(struct pd_agent *agent, bool is_fresh)
{
	enum ps_status status = read_limits(agent, &agent->limits);

	if (status == PS_OK || is_fresh)
		return status;
	pd_log(PD_ERROR,
	       "until the limits are mended only the daemon's user and root "
	       "may connect: %s",
	       bs_fail_text());
	close_to_others(&agent->limits);
	return PS_OK;
}

static enum ps_status make_drops(struct pd_agent *agent)
{
	uint32_t segments = pd_journal_pool(agent->journal)->segments;

	agent->dropping = calloc(segments, sizeof(*agent->dropping));
	agent->to_drop = calloc(segments, sizeof(*agent->to_drop));
	return agent->dropping && agent->to_drop
		       ? PS_OK
		       : bs_fail(PS_HOST_MEMORY, "no memory for %u segments",
				 segments);
}

static enum ps_status make_core(struct pd_agent *agent)
{
	struct pd_core_config config = {
		.journal = agent->journal,
		.limits = agent->limits,
		.ops = pd_agent_ops,
		.owner = agent,
	};
	enum ps_status status = pd_gpu_start(agent->gpu);

	if (status == PS_OK)
		status = pd_core_new(&config, agent->now_ms, &agent->core);
	if (status == PS_OK)
		status = pd_seats_new(agent);
	if (status == PS_OK)
		status = pd_models_new(agent);
	return status;
}

static enum ps_status open_signals(struct pd_agent *agent)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	/* Before the driver starts threads, which would get them. */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	agent->signals.kind = PD_AT_SIGNALS;
	agent->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (agent->signals.fd < 0)
		return bs_fail_errno("opening the signals");
	return pd_watch(agent, &agent->signals, EPOLLIN);
}

static enum ps_status open_loop(struct pd_agent *agent)
{
	agent->signals.fd = -1;
	agent->listen.fd = -1;
	agent->gpu_event.fd = -1;
	agent->link_source.fd = -1;
	agent->keeper.fd = -1;
	agent->look_last = &agent->look_first;
	pd_holdings_init(&agent->holdings);
	agent->now_ms = clock_ms();
	agent->started_ms = agent->now_ms;
	agent->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	agent->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (agent->epoll < 0)
		return bs_fail_errno("opening the event loop");
	return open_signals(agent);
}

static enum ps_status open_doors(struct pd_agent *agent)
{
	enum ps_status status;

	agent->gpu_event.kind = PD_AT_GPU;
	agent->gpu_event.fd = pd_gpu_event(agent->gpu);
	agent->listen.kind = PD_AT_LISTEN;
	agent->listen.fd = agent->holdings.listen;
	status = pd_watch(agent, &agent->gpu_event, EPOLLIN);
	if (status == PS_OK)
		status = pd_watch(agent, &agent->listen, EPOLLIN);
	return status;
}

static enum ps_status start(struct pd_agent *agent)
{
	enum ps_status status = open_loop(agent);
	bool is_fresh;

	if (status == PS_OK)
		status = pd_keeper_meet(agent);
	if (status != PS_OK)
		return status;
	is_fresh = agent->holdings.segments == 0;
	status = is_fresh ? make_pool(agent) : inherit_pool(agent);
	if (status == PS_OK)
		status = first_limits(agent, is_fresh);
	if (status == PS_OK)
		status = make_drops(agent);
	if (status != PS_OK)
		return status;
	agent->gpu_files = dv_file_prefix();
	agent->now_ms = clock_ms();
	if (is_fresh)
		status = pd_keeper_give_first(agent);
	if (status != PS_OK)
		return status;
	status = make_core(agent);
	if (status == PS_OK)
		status = pd_closer_start();
	if (status == PS_OK)
		status = open_doors(agent);
	if (status == PS_OK)
		pd_keeper_note(agent, IP_NOTICE_READY, 0);
	return status;
}

/* ------------------------------------------------------------------ */
/* The end                                                             */

static void end(struct pd_agent *agent)
{
	pd_visits_done(agent);
	pd_models_done(agent);
	pd_seats_done(agent);
	pd_core_free(agent->core);
	pd_unwatch(agent, &agent->gpu_event);
	pd_unwatch(agent, &agent->listen);
	pd_gpu_close(agent->gpu);
	pd_journal_close(agent->journal);
	pd_keeper_done(agent);
	pd_source_close(agent, &agent->signals);
	pd_holdings_done(&agent->holdings);
	free(agent->dropping);
	free(agent->to_drop);
	if (agent->spare >= 0)
		close(agent->spare);
	if (agent->epoll >= 0)
		close(agent->epoll);
}

static int live(struct pd_agent *agent)
{
	enum ps_status status = start(agent);

	while (status == PS_OK && !agent->is_over)
		status = turn(agent);
	if (status != PS_OK) {
		pd_log(PD_ERROR, "%s", bs_fail_text());
		return pd_exit_status(status);
	}
	if (!agent->is_lost)
		pd_keeper_note(agent, IP_NOTICE_FINISHED,
			       (uint32_t)agent->exit_status);
	return agent->exit_status;
}

int pd_agent_run(int argc, char **argv, const struct pd_options *options)
{
	struct pd_agent *agent = calloc(1, sizeof(*agent));
	int status;

	if (!agent)
		return EX_OSERR;
	agent->options = options;
	agent->argc = argc;
	agent->argv = argv;
	status = live(agent);
	/* The driver of a GPU that is lost may not come back from its calls,
	 * and the kernel closes everything as well. */
	if (agent->is_lost)
		_exit(status);
	end(agent);
	free(agent);
	return status;
}
