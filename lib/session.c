/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The connection of an attached pool with the daemon, and how it comes back
 * when that was restarted: the daemon says what its journal gives us (HELD),
 * and what we do not have goes back.
 *
 * Invariant: nobody claims what the journal does not give: where we have more
 * than it says, the daemon is not talked to any more.
 */
#include "lib/lease.h"

#include "base/status.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* A daemon that does not know us may only not have seen the end of our last
 * connection yet. */
#define REFUSED_MS 1000

#define PAUSE_MAX_MS 100
#define PROTOCOL_TRIES 3u

enum in_journal {
	IN_NONE = 0,
	IN_LEASED,
	IN_PARKED,
	IN_OUTSIDE,
	IN_OPENED, /* another's, or nobody's */
};

void lb_session_close(struct lb_lease *lease)
{
	if (lease->socket >= 0)
		close(lease->socket);
	lease->socket = -1;
}

static enum ps_status connect_daemon(struct lb_lease *lease)
{
	char path[IP_PATH_BYTES];
	enum ps_status status = ip_connect(&lease->paths, &lease->socket, path);

	if (status != PS_OK) {
		lease->socket = -1;
		return status;
	}
	return ip_client_init(&lease->client, lease->socket, LB_ANSWER_MS);
}

/* The service thread closes the socket that it had. */
static void hand_events(struct lb_lease *lease, int events)
{
	int old;

	atomic_store(&lease->minor, lease->client.conn.minor);
	old = atomic_exchange(&lease->events_next, events);
	if (old >= 0)
		close(old);
	lb_service_wake(lease);
}

static enum ps_status connect_and_attach(struct lb_lease *lease,
					 struct ip_welcome *welcome,
					 int *events)
{
	enum ps_status status = connect_daemon(lease);

	return status == PS_OK
		       ? ip_client_attach(&lease->client, &lease->attach,
					  welcome, events)
		       : status;
}

/* ---- known already ---- */

static enum ps_status check_again(const struct lb_lease *lease,
				  const struct ip_welcome *welcome)
{
	const struct ip_welcome *first = &lease->welcome;

	if (welcome->resumed != 0 && welcome->id == first->id &&
	    memcmp(welcome->token, first->token, sizeof(first->token)) == 0 &&
	    memcmp(welcome->pool_id, first->pool_id, sizeof(first->pool_id)) ==
		    0 &&
	    memcmp(welcome->gpu, first->gpu, sizeof(first->gpu)) == 0 &&
	    welcome->window_base == first->window_base &&
	    welcome->segment_bytes == first->segment_bytes &&
	    welcome->segment_count == first->segment_count &&
	    welcome->parameter_bytes == first->parameter_bytes)
		return PS_OK;
	return bs_fail(PS_PROTOCOL,
		       "pid %d was asked to go on with client %#" PRIx64
		       " and welcomes another, or to another pool",
		       (int)lease->client.conn.peer_pid, first->id);
}

static enum in_journal meaning_of(uint32_t entry)
{
	if ((entry & IP_SEGMENT_PARKED) != 0)
		return IN_PARKED;
	if ((entry & IP_SEGMENT_OUTSIDE) != 0)
		return IN_OUTSIDE;
	return (entry & IP_SEGMENT_OPENED) != 0 ? IN_OPENED : IN_LEASED;
}

static enum ps_status note_held(struct lb_lease *lease,
				const struct ip_list *held)
{
	for (uint32_t i = 0; i < held->count; i++) {
		uint32_t n = held->segment[i] & IP_SEGMENT_NUMBER;

		if (n < lease->first || n >= lease->pool->layout.segments)
			return bs_fail(PS_PROTOCOL,
				       "HELD from pid %d: segment %" PRIu32
				       " is not in the computation region",
				       (int)lease->client.conn.peer_pid, n);
		lease->journal[n] = (uint8_t)meaning_of(held->segment[i]);
	}
	return PS_OK;
}

static enum ps_status receive_held(struct lb_lease *lease)
{
	struct ip_list held;
	enum ps_status status;

	memset(lease->journal, IN_NONE, lease->pool->layout.segments);
	do {
		status = ip_client_held(&lease->client, &held);
		if (status == PS_OK)
			status = note_held(lease, &held);
	} while (status == PS_OK && (held.flags & IP_LIST_MORE) != 0);
	return status;
}

static enum ps_status disagree(const struct lb_lease *lease, uint32_t n)
{
	static const char *const names[] = { "not leased", "leased", "parked",
					     "outside", "opened" };

	return bs_fail(PS_PROTOCOL,
		       "segment %" PRIu32 " is in use here, and the journal of "
		       "pid %d says that it is %s",
		       n, (int)lease->client.conn.peer_pid,
		       names[lease->journal[n]]);
}

/* What is so here once the journal is known; lib/lease.c tells the daemon of
 * what is PARKING and OWED. With the pool's lock. */
static enum ps_status settle_own(struct lb_lease *lease, uint32_t n)
{
	uint8_t *hold = &lease->hold[n];
	uint8_t journal = lease->journal[n];

	switch ((enum lb_hold) * hold) {
	case LB_HOLD_LEASED:
		return journal == IN_LEASED ? PS_OK : disagree(lease, n);
	case LB_HOLD_OUTSIDE:
		return journal == IN_OUTSIDE ? PS_OK : disagree(lease, n);
	case LB_HOLD_PARKING:
	case LB_HOLD_PARKED:
		if (journal != IN_LEASED && journal != IN_PARKED)
			return disagree(lease, n);
		*hold = journal == IN_LEASED ? LB_HOLD_PARKING : LB_HOLD_PARKED;
		return PS_OK;
	default:
		*hold = journal == IN_NONE || journal == IN_OPENED
				? LB_HOLD_NONE
				: LB_HOLD_OWED;
		return PS_OK;
	}
}

/* The same for what others lease. */
static enum ps_status settle_open(struct lb_lease *lease, uint32_t n)
{
	bool is_open = lease->journal[n] == IN_OPENED;

	if (lease->open[n] == LB_OPEN_HERE)
		return is_open ? PS_OK : disagree(lease, n);
	lease->open[n] = is_open ? LB_OPEN_OWED : LB_OPEN_NONE;
	return PS_OK;
}

static enum ps_status settle(struct lb_lease *lease, uint32_t n)
{
	enum ps_status status = settle_own(lease, n);

	return status == PS_OK ? settle_open(lease, n) : status;
}

static enum ps_status compare(struct lb_lease *lease)
{
	struct ps_pool *pool = lease->pool;
	enum ps_status status = PS_OK;

	lb_turn_take(pool);
	bs_lock_take(&pool->lock);
	lease->generation++;
	for (uint32_t n = lease->first;
	     n < pool->layout.segments && status == PS_OK; n++)
		status = settle(lease, n);
	bs_lock_drop(&pool->lock);
	lb_turn_give(pool);
	return status;
}

/* One that refuses us for long never knew us. */
static enum ps_status refused(struct lb_lease *lease)
{
	if (lease->refused_ms == 0)
		lease->refused_ms = lb_now_ms();
	if (lb_now_ms() - lease->refused_ms < REFUSED_MS)
		return PS_AGAIN;
	lease->is_forgotten = true;
	return bs_fail_prefix(PS_NO_DAEMON,
			      "the daemon does not know this client any more");
}

static enum ps_status resume(struct lb_lease *lease)
{
	struct ip_welcome welcome;
	int events = -1;
	enum ps_status status = connect_and_attach(lease, &welcome, &events);

	if (status == PS_REFUSED)
		return refused(lease);
	if (status != PS_OK)
		return status;
	lease->refused_ms = 0;
	status = check_again(lease, &welcome);
	if (status == PS_OK)
		status = receive_held(lease);
	if (status == PS_OK)
		status = compare(lease);
	if (status != PS_OK) {
		close(events);
		return status;
	}
	hand_events(lease, events);
	status = lb_lease_settle(lease);
	if (status == PS_OK && lb_model_ops_of(lease) != NULL)
		status = lb_model_ops_of(lease)->rejoin(lease);
	return status;
}

/* ---- any time ---- */

static enum ps_status ready(struct lb_lease *lease)
{
	enum ps_status status = lb_lease_check(lease->pool);

	if (status != PS_OK || lease->socket >= 0)
		return status;
	if (lease->is_forgotten)
		return bs_fail(PS_NO_DAEMON,
			       "the daemon that this pool was leased from is "
			       "gone");
	status = resume(lease);
	if (status != PS_OK)
		lb_session_close(lease);
	return status;
}

static bool is_broken(enum ps_status status)
{
	switch (status) {
	case PS_PEER_GONE:
	case PS_PROTOCOL:
	case PS_TIMED_OUT:
	case PS_VERSION_MISMATCH:
	case PS_FD_LIMIT:
	case PS_HOST_MEMORY:
	case PS_SYSTEM:
		return true;
	default:
		return false;
	}
}

/* A daemon that refuses rather than denies has hung up. */
static bool is_over(const struct lb_lease *lease, enum ps_status status)
{
	return is_broken(status) ||
	       (lease->socket >= 0 && lease->client.conn.over);
}

static bool may_repeat(enum ps_status status, unsigned int *strange)
{
	if (status == PS_PROTOCOL)
		return ++*strange < PROTOCOL_TRIES;
	return status == PS_PEER_GONE || status == PS_AGAIN;
}

/* Nothing tells when a daemon that starts is ready; it is asked less and less
 * often. */
static void rest(unsigned int try)
{
	poll(NULL, 0, try < 7 ? 1 << try : PAUSE_MAX_MS);
}

static enum ps_status repeat(struct lb_lease *lease,
			     enum ps_status (*once)(struct lb_lease *, void *),
			     void *arg,
			     enum ps_status (*prepare)(struct lb_lease *))
{
	int64_t end = lb_now_ms() + LB_ANSWER_MS;
	unsigned int strange = 0;
	enum ps_status status;

	for (unsigned int try = 0;; try++) {
		status = prepare(lease);
		if (status == PS_OK)
			status = once(lease, arg);
		if (is_over(lease, status))
			lb_session_close(lease);
		if (!may_repeat(status, &strange) || lb_now_ms() >= end ||
		    atomic_load(&lease->is_stopping))
			return status;
		rest(try);
	}
}

enum ps_status lb_session_ask(struct lb_lease *lease,
			      enum ps_status (*once)(struct lb_lease *lease,
						     void *arg),
			      void *arg)
{
	enum ps_status status = repeat(lease, once, arg, ready);

	lease->is_gone = status == PS_NO_DAEMON;
	return status;
}

enum ps_status lb_session_do(struct lb_lease *lease,
			     enum ps_status (*once)(struct lb_lease *lease,
						    void *arg),
			     void *arg)
{
	enum ps_status status = lb_session_ask(lease, once, arg);

	if (status == PS_NO_DAEMON)
		return bs_fail_prefix(PS_PEER_GONE,
				      "what is leased can be used on, but not "
				      "grow");
	return status;
}

/* ---- the first time ---- */

static enum ps_status open_once(struct lb_lease *lease, void *arg)
{
	int events = -1;
	enum ps_status status =
		connect_and_attach(lease, &lease->welcome, &events);

	(void)arg;
	if (status == PS_OK && lease->welcome.resumed != 0) {
		close(events);
		status = bs_fail(PS_PROTOCOL,
				 "pid %d welcomes a new client as an old one",
				 (int)lease->client.conn.peer_pid);
	}
	if (status != PS_OK) {
		lb_session_close(lease);
		return status;
	}
	lease->attach.id = lease->welcome.id;
	memcpy(lease->attach.token, lease->welcome.token,
	       sizeof(lease->attach.token));
	hand_events(lease, events);
	return PS_OK;
}

static enum ps_status always(struct lb_lease *lease)
{
	(void)lease;
	return PS_OK;
}

enum ps_status lb_session_open(struct lb_lease *lease)
{
	return repeat(lease, open_once, NULL, always);
}
