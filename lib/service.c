/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The thread of an attached pool that answers the daemon, and parks what has
 * not been used for a while.
 *
 * Invariants
 *   It has all signals blocked.
 *   It sleeps until something comes: after the pool has grown it looks at it
 *   once a period for as long as there is something to be parked, then never
 *   again until it grows; while it owes the word that a model is not in use
 *   any more, it looks at the fences of that once a millisecond.
 *   It answers without the lock under which others wait for the daemon.
 */
#include "lib/lease.h"

#include "base/status.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PERIOD_MS 1000
#define PERIOD_MAX_MS 64000
/* Between two tries to reach a daemon that did not answer. */
#define RETRY_MS 1000
#define RETRY_MAX_MS 32000

struct service {
	struct lb_lease *lease;
	struct ip_conn conn; /* over lease->events */
	int64_t look_ms;     /* when to look at the pool; 0: never */
	int64_t period_ms;
	uint64_t moved;   /* allocations and frees, when it was looked at */
	uint32_t moves;   /* of memory outside, the same */
	int64_t retry_ms; /* when to connect; 0: connected, or no use */
	int64_t rest_ms;
};

void lb_service_wake(struct lb_lease *lease)
{
	const uint64_t one = 1;

	if (atomic_exchange(&lease->is_woken, true))
		return;
	while (write(lease->wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* ---- the events socket ---- */

/* What was asked over it is not answered over another. */
static void drop_events(struct service *service)
{
	struct lb_lease *lease = service->lease;

	if (lease->events >= 0)
		close(lease->events);
	lease->events = -1;
	if (lb_model_ops_of(lease) != NULL)
		lb_model_ops_of(lease)->forget_yields(lease);
}

static void take_events(struct service *service)
{
	struct lb_lease *lease = service->lease;
	int fd = atomic_exchange(&lease->events_next, -1);

	if (fd < 0)
		return;
	drop_events(service);
	lease->events = fd;
	service->retry_ms = 0;
	if (ip_conn_init(&service->conn, fd, IP_CLIENT, PS_PEER_ANY_USER,
			 LB_ANSWER_MS) != PS_OK)
		drop_events(service);
	service->conn.minor = (uint16_t)atomic_load(&lease->minor);
}

static enum ps_status nothing(struct lb_lease *lease, void *arg)
{
	(void)lease;
	(void)arg;
	return PS_OK;
}

/* The daemon is gone, or is to be: whoever comes first connects again. */
static void reconnect(struct service *service)
{
	struct lb_lease *lease = service->lease;
	enum ps_status status = PS_OK;

	service->retry_ms = 0;
	bs_lock_take(&lease->requests);
	if (atomic_load(&lease->events_next) < 0) {
		lb_session_close(lease);
		status = lb_session_do(lease, nothing, NULL);
	}
	if (status != PS_OK && !lease->is_gone &&
	    !atomic_load(&lease->is_lost)) {
		service->retry_ms = lb_now_ms() + service->rest_ms;
		if (service->rest_ms < RETRY_MAX_MS)
			service->rest_ms *= 2;
	} else {
		service->rest_ms = RETRY_MS;
	}
	bs_lock_drop(&lease->requests);
}

static void break_off(struct service *service)
{
	drop_events(service);
	if (!atomic_load(&service->lease->is_stopping))
		reconnect(service);
}

/* ---- RECALL ---- */

/* Makes as many segments free of the allocator; whether it may find more when
 * the fences have passed that it waits for. */
static bool trim(struct ps_pool *pool, uint32_t segments, bool *found_out)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };
	uint64_t bytes = segments * pool->layout.segment_size;
	uint64_t released = 0;

	al_get_stats(pool->al, &stats);
	(void)al_trim(pool->al,
		      stats.reserved > bytes ? stats.reserved - bytes : 0,
		      &released);
	al_get_stats(pool->al, &stats);
	*found_out = released > 0;
	return stats.pending > 0;
}

/* What was told counts as told, unless a new connection has come between. */
static bool told(struct service *service, const uint32_t *list, uint32_t count,
		 uint32_t generation, enum ps_status status)
{
	struct lb_lease *lease = service->lease;
	bool owed = false;

	lb_turn_take(lease->pool);
	bs_lock_take(&lease->pool->lock);
	if (generation != lease->generation)
		status = PS_PEER_GONE;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *hold = &lease->hold[list[i]];

		if (*hold != LB_HOLD_RECALLING)
			continue;
		*hold = status == PS_OK ? LB_HOLD_RECALLED : LB_HOLD_OWED;
		owed = owed || status != PS_OK;
	}
	bs_lock_drop(&lease->pool->lock);
	lb_turn_give(lease->pool);
	return owed;
}

static enum ps_status send_recalled(struct service *service, uint32_t seq,
				    const uint32_t *list, uint32_t count,
				    bool more)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_RECALLED, service->conn.minor);
	msg.body.list.seq = seq;
	msg.body.list.flags = more ? IP_LIST_MORE : 0;
	msg.body.list.count = count;
	if (count > 0)
		memcpy(msg.body.list.segment, list, count * sizeof(list[0]));
	return ip_conn_send(&service->conn, &msg);
}

/* One message full. */
static enum ps_status give_up(struct service *service, uint32_t seq,
			      uint32_t *left, int64_t until_ms)
{
	struct lb_lease *lease = service->lease;
	struct ps_pool *pool = lease->pool;
	uint32_t most = *left < IP_LIST_MAX ? *left : IP_LIST_MAX;
	uint32_t list[IP_LIST_MAX], count, generation;
	enum ps_status status = PS_OK;

	if (!lb_turn_take_until(pool, until_ms))
		return PS_AGAIN;
	generation = lease->generation;
	count = lb_lease_unmap(pool, most, LB_HOLD_RECALLING, list);
	lb_turn_give(pool);
	*left -= count;
	if (count > 0)
		status = send_recalled(service, seq, list, count, true);
	if (told(service, list, count, generation, status)) {
		bs_lock_take(&lease->requests);
		(void)lb_lease_tell(lease);
		bs_lock_drop(&lease->requests);
	}
	if (status == PS_OK && count < most)
		return PS_AGAIN;
	return status;
}

/*
 * What is parked and idle at once, then what the allocator can spare. Half of
 * the time is for fences that are about to pass.
 */
static enum ps_status recall(struct service *service,
			     const struct ip_recall *recall)
{
	int64_t span = recall->deadline_ms < LB_ANSWER_MS ? recall->deadline_ms
							  : LB_ANSWER_MS;
	int64_t start = lb_now_ms();
	uint32_t left = recall->count;
	enum ps_status status = PS_OK;
	bool found, waits = true;

	while (left > 0 && waits) {
		status = give_up(service, recall->seq, &left, start + span);
		if (status == PS_OK)
			continue;
		if (status != PS_AGAIN)
			return status;
		waits = trim(service->lease->pool, left, &found);
		if (found)
			waits = true;
		else if (waits && lb_now_ms() < start + span / 2)
			poll(NULL, 0, 1);
		else
			waits = false;
	}
	return send_recalled(service, recall->seq, NULL, 0, false);
}

/* Whether room outside is left that was not filled for a whole period; it
 * goes back. */
static bool return_outside(struct service *service)
{
	struct lb_lease *lease = service->lease;
	uint32_t moves = atomic_load(&lease->moves);
	bool moved = moves != service->moves;

	service->moves = moves;
	if (!lb_outside_is_loose(lease))
		return false;
	if (moved || !bs_lock_try(&lease->requests))
		return true;
	(void)lb_outside_return(lease);
	bs_lock_drop(&lease->requests);
	return false;
}

/* ---- YIELD ---- */

static enum ps_status send_yielded(struct service *service,
				   const struct ip_yielded *yielded)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_YIELDED, service->conn.minor);
	msg.body.yielded = *yielded;
	return ip_conn_send(&service->conn, &msg);
}

static enum ps_status answer_yield(struct service *service,
				   const struct ip_yield *yield)
{
	const struct lb_model_ops *models = lb_model_ops_of(service->lease);
	struct ip_yielded yielded = { .seq = yield->seq,
				      .model = yield->model,
				      .serial = yield->serial,
				      .state = IP_YIELDED_IDLE };

	if (models != NULL)
		yielded.state = models->yield(service->lease, yield);
	return send_yielded(service, &yielded);
}

/* ---- the others ---- */

static enum ps_status answer_poll(struct service *service, uint32_t seq)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };
	struct ip_message msg;

	al_get_stats(service->lease->pool->al, &stats);
	ip_message_init(&msg, IP_POLLED, service->conn.minor);
	msg.body.polled.seq = seq;
	msg.body.polled.blocks = stats.live_blocks < UINT32_MAX
					 ? (uint32_t)stats.live_blocks
					 : UINT32_MAX;
	msg.body.polled.live = stats.live;
	msg.body.polled.cached = stats.cached;
	msg.body.polled.passed = lb_lease_passed(service->lease);
	return ip_conn_send(&service->conn, &msg);
}

static enum ps_status answer(struct service *service,
			     const struct ip_message *msg)
{
	switch (msg->type) {
	case IP_RECALL:
		return recall(service, &msg->body.recall);
	case IP_POLL:
		return answer_poll(service, msg->body.number.seq);
	case IP_YIELD:
		return answer_yield(service, &msg->body.yield);
	case IP_LOST:
		atomic_store(&service->lease->is_lost, true);
		return PS_OK;
	default:
		return bs_fail(PS_PROTOCOL, "%s over the events socket",
			       ip_type_name(msg->type));
	}
}

static void hear(struct service *service)
{
	struct ip_message msg;
	enum ps_status status = ip_conn_try_receive(&service->conn, &msg);

	if (status == PS_AGAIN)
		return;
	if (status == PS_OK) {
		status = answer(service, &msg);
		ip_message_done(&msg);
	}
	if (status != PS_OK)
		break_off(service);
}

/* Says of what was in use that it is not any more. */
static void say_yielded(struct service *service)
{
	const struct lb_model_ops *models = lb_model_ops_of(service->lease);
	enum ps_status status = PS_OK;
	struct ip_yielded yielded;

	while (models != NULL && service->lease->events >= 0 &&
	       status == PS_OK &&
	       models->find_yielded(service->lease, &yielded))
		status = send_yielded(service, &yielded);
	if (status != PS_OK)
		break_off(service);
}

/* ---- looking at the pool ---- */

/*
 * What was free for the whole period is what is reserved beyond the most that
 * was live in it. Fences that have not passed are waited for less and less
 * often.
 */
static void look(struct service *service)
{
	struct ps_pool *pool = service->lease->pool;
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };
	bool grew = atomic_exchange(&service->lease->is_growing, false);
	uint64_t peak = al_peak_restart(pool->al), released = 0;
	bool moved, done = true, loose;

	al_get_stats(pool->al, &stats);
	moved = stats.allocs + stats.frees != service->moved;
	service->moved = stats.allocs + stats.frees;
	if (stats.reserved >= peak + pool->layout.segment_size)
		(void)al_trim(pool->al, peak, &released);
	al_get_stats(pool->al, &stats);
	if (released > 0 || !grew)
		done = lb_lease_park(pool);
	loose = return_outside(service);
	if (moved || grew)
		service->period_ms = PERIOD_MS;
	else if (service->period_ms < PERIOD_MAX_MS)
		service->period_ms *= 2;
	service->look_ms = 0;
	if (moved || grew || loose || !done || stats.pending > 0)
		service->look_ms = lb_now_ms() + service->period_ms;
}

/* ---- the thread ---- */

static int timeout_of(const struct service *service)
{
	const struct lb_model_ops *models = lb_model_ops_of(service->lease);
	int patience =
		models == NULL ? -1 : models->patience_ms(service->lease);
	int64_t next = service->look_ms, left;

	if (next == 0 || (service->retry_ms != 0 && service->retry_ms < next))
		next = service->retry_ms;
	if (next == 0)
		return patience;
	left = next - lb_now_ms();
	if (left < 0)
		left = 0;
	return patience >= 0 && patience < left ? patience : (int)left;
}

static bool is_due(int64_t at_ms)
{
	return at_ms != 0 && lb_now_ms() >= at_ms;
}

static void wake_up(struct service *service)
{
	struct lb_lease *lease = service->lease;
	uint64_t count;

	while (read(lease->wake, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	atomic_store(&lease->is_woken, false);
	take_events(service);
	if (service->look_ms != 0 || !atomic_load(&lease->is_growing))
		return;
	service->period_ms = PERIOD_MS;
	service->look_ms = lb_now_ms() + PERIOD_MS;
}

static void *serve(void *arg)
{
	struct lb_lease *lease = arg;
	struct service service = { .lease = lease,
				   .period_ms = PERIOD_MS,
				   .rest_ms = RETRY_MS };

	lb_room_set_background();
	while (!atomic_load(&lease->is_stopping)) {
		struct pollfd fds[2] = { { lease->wake, POLLIN, 0 },
					 { lease->events, POLLIN, 0 } };

		if (poll(fds, 2, timeout_of(&service)) < 0)
			continue;
		if (fds[0].revents != 0)
			wake_up(&service);
		else if (fds[1].revents != 0)
			hear(&service);
		else if (is_due(service.retry_ms))
			reconnect(&service);
		say_yielded(&service);
		if (is_due(service.look_ms))
			look(&service);
	}
	return NULL;
}

enum ps_status lb_service_start(struct lb_lease *lease)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&lease->thread, NULL, serve, lease);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
		return bs_fail(PS_SYSTEM,
			       "no thread to answer poolswitchd with: %s",
			       strerror(error));
	lease->has_thread = true;
	return PS_OK;
}

void lb_service_stop(struct lb_lease *lease)
{
	if (lease == NULL || !lease->has_thread)
		return;
	atomic_store(&lease->is_stopping, true);
	lb_service_wake(lease);
	pthread_join(lease->thread, NULL);
	lease->has_thread = false;
	atomic_store(&lease->is_stopping, false);
}
