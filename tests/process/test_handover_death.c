/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A peer that is killed in the middle of the handover.
 *
 * The library is linked with wrapped socket calls, so that a process can end
 * by SIGKILL at the n-th of them: for n = 1, 2, ... until it lives through
 * the handover, so that no message and no half of one is left out.
 */
#include "tests/support/pools.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define TRIES 100

static unsigned int calls_left; /* 0: lives */

static void count_call(void)
{
	if (calls_left > 0 && --calls_left == 0)
		kill(getpid(), SIGKILL);
}

ssize_t __real_sendmsg(int socket, const struct msghdr *msg, int flags);
ssize_t __real_recvmsg(int socket, struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int socket, const struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int socket, struct msghdr *msg, int flags);

ssize_t __wrap_sendmsg(int socket, const struct msghdr *msg, int flags)
{
	count_call();
	return __real_sendmsg(socket, msg, flags);
}

ssize_t __wrap_recvmsg(int socket, struct msghdr *msg, int flags)
{
	count_call();
	return __real_recvmsg(socket, msg, flags);
}

static unsigned int die_at; /* set before the parts are forked */

/* ---- the receiver dies ---- */

static void die_receiving(const struct th_part *me)
{
	struct ps_pool *pool;

	calls_left = die_at;
	pool = th_receive(me->link[0]);
	calls_left = 0;
	ps_pool_close(pool);
}

static void receive_whole(const struct th_part *me)
{
	struct ps_pool *pool = th_receive(me->link[0]);

	th_assert_ok(ps_pool_map(pool, 0, 0));
	ps_pool_close(pool);
}

/* The first worker dies; the second gets the pool all the same. */
static void send_to_both(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();
	size_t fds = th_open_fds();
	enum ps_status status =
		ps_send_shared(pool, me->link[0], 0, PS_TIMEOUT_DEFAULT);

	if (status != PS_OK)
		th_assert_status(status, PS_PEER_GONE);
	assert_int_equal(th_open_fds(), fds);
	th_send(pool, me->link[1], 0);
	ps_pool_close(pool);
}

/* False when the worker lived. */
static bool play_with_dying_receiver(void)
{
	const struct th_cast cast = { send_to_both,
				      { die_receiving, receive_whole },
				      0 };
	struct th_stage stage;
	int end;

	th_stage_open(&stage, &cast);
	end = th_wait(stage.worker[0]);
	stage.worker[0] = -1;
	th_stage_close(&stage);
	if (end != 0)
		assert_int_equal(end, 128 + SIGKILL);
	return end != 0;
}

static void test_receiver_killed_at_each_call_is_gone(void **state)
{
	(void)state;
	die_at = 1;
	while (play_with_dying_receiver())
		assert_true(++die_at < TRIES);
	assert_true(die_at > 4);
}

/* ---- the sender dies ---- */

static void die_sending(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();

	calls_left = die_at;
	th_send(pool, me->link[0], 0);
	calls_left = 0;
	ps_pool_close(pool);
}

/* A pool that has come whole is whole, whatever happens to the sender. */
static void receive_from_dying(const struct th_part *me)
{
	struct ps_pool *pool;
	enum ps_status status =
		ps_recv_shared(me->link[0], 0, PS_TIMEOUT_DEFAULT, &pool);

	if (status != PS_OK) {
		th_assert_status(status, PS_PEER_GONE);
		return;
	}
	th_assert_ok(ps_pool_map(pool, 0, 0));
	ps_pool_close(pool);
}

static bool play_with_dying_sender(void)
{
	const struct th_cast cast = { die_sending,
				      { receive_from_dying, NULL },
				      0 };
	struct th_stage stage;
	int end;

	th_stage_open(&stage, &cast);
	end = th_wait(stage.controller);
	stage.controller = -1;
	th_stage_close(&stage);
	if (end != 0)
		assert_int_equal(end, 128 + SIGKILL);
	return end != 0;
}

static void test_sender_killed_at_each_call_is_gone(void **state)
{
	(void)state;
	die_at = 1;
	while (play_with_dying_sender())
		assert_true(++die_at < TRIES);
	assert_true(die_at > 4);
}

static const struct th_test tests[] = {
	TH_TEST(test_receiver_killed_at_each_call_is_gone),
	TH_TEST(test_sender_killed_at_each_call_is_gone),
};

TH_GPU_MAIN("handover_death", tests, NULL)
