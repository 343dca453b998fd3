/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The locks: one holder at a time, whoever comes by which way, and the order
 * in which they may be taken. */
#include "base/lock.h"

#include <signal.h>
#include <stdlib.h>

#include "tests/support/harness.h"

#define ROUNDS 200000u
#define THREADS 4u

static struct shared {
	struct bs_quick lock;
	uint64_t sum;       /* not atomic: the lock must guard it */
	unsigned int spare; /* how rarely a visitor comes */
	pthread_barrier_t owned;
	_Atomic(bool) stop;
} shared;

/* The calling thread owns the lock, if the kernel lets it. */
static bool own(void)
{
	bs_quick_init(&shared.lock, BS_RANK_TEST);
	if (!bs_quick_barrier_wait())
		return false;
	bs_quick_take(&shared.lock);
	bs_quick_own(&shared.lock);
	bs_quick_drop(&shared.lock);
	bs_quick_take(&shared.lock);
	bs_quick_drop(&shared.lock);
	return true;
}

static void enter_once(void)
{
	bs_quick_take(&shared.lock);
	shared.sum++;
	bs_quick_drop(&shared.lock);
}

static void *enter_often(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < ROUNDS; i++)
		enter_once();
	return NULL;
}

static void *own_and_enter(void *arg)
{
	uint64_t *rounds = arg;

	own();
	pthread_barrier_wait(&shared.owned);
	while (!atomic_load(&shared.stop)) {
		enter_once();
		++*rounds;
	}
	return NULL;
}

static void run_threads(pthread_t threads[THREADS])
{
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, enter_often, NULL),
			0);
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void test_quick_without_owner_excludes(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	shared.sum = 0;
	bs_quick_init(&shared.lock, BS_RANK_TEST);
	run_threads(threads);
	assert_int_equal(shared.sum, THREADS * ROUNDS);
}

static void test_quick_with_owner_excludes_visitors(void **state)
{
	pthread_t threads[THREADS], owner;
	uint64_t rounds = 0;

	(void)state;
	shared.sum = 0;
	atomic_store(&shared.stop, false);
	pthread_barrier_init(&shared.owned, NULL, 2);
	assert_int_equal(pthread_create(&owner, NULL, own_and_enter, &rounds),
			 0);
	pthread_barrier_wait(&shared.owned);
	run_threads(threads);
	atomic_store(&shared.stop, true);
	pthread_join(owner, NULL);
	pthread_barrier_destroy(&shared.owned);
	assert_int_equal(shared.sum, THREADS * ROUNDS + rounds);
}

static void *visit_now_and_then(void *arg)
{
	uint64_t *visits = arg;

	while (!atomic_load(&shared.stop)) {
		enter_once();
		++*visits;
		for (unsigned int i = 0; i < shared.spare; i++)
			sched_yield();
	}
	return NULL;
}

/* Two threads meet at the lock; each says how far it has come. */
static struct meeting {
	_Atomic(bool) owned;   /* the other thread is the owner */
	_Atomic(bool) go;      /* it may enter (or leave) */
	_Atomic(bool) entered; /* it is, or has been, inside */
} meeting;

static void wait_for(const _Atomic(bool) *flag)
{
	while (!atomic_load(flag))
		sched_yield();
}

/* Long enough for a thread that could enter to have done so. */
static void let_others_run(void)
{
	for (unsigned int i = 0; i < 2000; i++)
		sched_yield();
}

static void *own_and_stay(void *arg)
{
	(void)arg;
	atomic_store(&meeting.owned, own());
	bs_quick_take(&shared.lock);
	atomic_store(&meeting.entered, true);
	wait_for(&meeting.go);
	bs_quick_drop(&shared.lock);
	return NULL;
}

static void *visit_and_say(void *arg)
{
	bs_quick_take(&shared.lock);
	atomic_store((_Atomic(bool) *)arg, true);
	bs_quick_drop(&shared.lock);
	return NULL;
}

static void test_quick_visitor_waits_for_the_owner(void **state)
{
	_Atomic(bool) visited = false;
	pthread_t owner, visitor;

	(void)state;
	meeting = (struct meeting){ .go = false };
	pthread_create(&owner, NULL, own_and_stay, NULL);
	wait_for(&meeting.entered);
	pthread_create(&visitor, NULL, visit_and_say, &visited);
	while (atomic_load(&shared.lock.taken) == 0)
		sched_yield();
	let_others_run();
	assert_false(atomic_load(&visited));
	atomic_store(&meeting.go, true);
	pthread_join(owner, NULL);
	pthread_join(visitor, NULL);
	assert_true(atomic_load(&visited));
}

static void *own_and_come_back(void *arg)
{
	(void)arg;
	own();
	atomic_store(&meeting.owned, true);
	wait_for(&meeting.go);
	bs_quick_take(&shared.lock);
	atomic_store(&meeting.entered, true);
	bs_quick_drop(&shared.lock);
	return NULL;
}

static void test_quick_owner_waits_for_a_visitor(void **state)
{
	pthread_t owner;

	(void)state;
	meeting = (struct meeting){ .go = false };
	pthread_create(&owner, NULL, own_and_come_back, NULL);
	wait_for(&meeting.owned);
	bs_quick_take(&shared.lock);
	atomic_store(&meeting.go, true);
	let_others_run();
	assert_false(atomic_load(&meeting.entered));
	bs_quick_drop(&shared.lock);
	pthread_join(owner, NULL);
	assert_true(atomic_load(&meeting.entered));
}

/* Between two visits the owner's way opens again: both ways take turns. */
static void test_quick_owner_and_rare_visitor_exclude(void **state)
{
	pthread_t visitor;
	uint64_t visits = 0, i;

	(void)state;
	shared.sum = 0;
	shared.spare = 20;
	atomic_store(&shared.stop, false);
	bs_quick_init(&shared.lock, BS_RANK_TEST);
	bs_quick_take(&shared.lock);
	bs_quick_own(&shared.lock);
	bs_quick_drop(&shared.lock);
	assert_int_equal(
		pthread_create(&visitor, NULL, visit_now_and_then, &visits), 0);
	for (i = 0; i < 40 * ROUNDS; i++)
		enter_once();
	atomic_store(&shared.stop, true);
	pthread_join(visitor, NULL);
	assert_int_equal(shared.sum, visits + i);
}

static void *visit_once(void *arg)
{
	(void)arg;
	enter_once();
	return NULL;
}

/* One that lies down while the lock is held must be woken, or join hangs. */
static void test_quick_sleeper_is_woken(void **state)
{
	(void)state;
	bs_quick_init(&shared.lock, BS_RANK_TEST);
	for (unsigned int i = 0; i < 100; i++) {
		pthread_t sleeper;

		bs_quick_take(&shared.lock);
		pthread_create(&sleeper, NULL, visit_once, NULL);
		while (atomic_load(&shared.lock.sleepers) == 0)
			sched_yield();
		for (unsigned int j = 0; j < 50; j++)
			sched_yield();
		bs_quick_drop(&shared.lock);
		pthread_join(sleeper, NULL);
	}
	assert_int_equal(atomic_load(&shared.lock.sleepers), 0);
}

static void test_quick_owner_enters_by_its_own_way(void **state)
{
	(void)state;
	if (!own())
		th_skip("this kernel has no membarrier");
	bs_quick_take(&shared.lock);
	assert_int_equal(atomic_load(&shared.lock.taken), 0);
	assert_int_equal(atomic_load(&shared.lock.inside), 1);
	bs_quick_drop(&shared.lock);
	assert_int_equal(atomic_load(&shared.lock.inside), 0);
}

/* Many visits close the owner's way; calm opens it again. */
static void test_quick_owner_way_closes_and_opens(void **state)
{
	(void)state;
	if (!own())
		th_skip("this kernel has no membarrier");
	for (unsigned int i = 0; i < 20; i++) {
		pthread_t visitor;

		pthread_create(&visitor, NULL, visit_once, NULL);
		pthread_join(visitor, NULL);
	}
	assert_int_equal(atomic_load(&shared.lock.wanted), 1);
	for (unsigned int i = 0; i < 10000; i++)
		enter_once();
	assert_int_equal(atomic_load(&shared.lock.wanted), 0);
}

static void take_in_wrong_order(void *arg)
{
	struct bs_lock late, early;

	(void)arg;
	bs_lock_init(&late, BS_RANK_TEST);
	bs_lock_init(&early, BS_RANK_PROCESS);
	bs_lock_take(&late);
	bs_lock_take(&early);
}

static void test_rank_wrong_order_stops_the_program(void **state)
{
	(void)state;
#ifdef NDEBUG
	th_skip("the order is checked in debug builds");
#endif
	assert_int_equal(th_wait(th_fork(take_in_wrong_order, NULL)),
			 128 + SIGABRT);
}

static void test_rank_right_order_is_fine(void **state)
{
	struct bs_lock early;
	struct bs_quick late;

	(void)state;
	bs_lock_init(&early, BS_RANK_PROCESS);
	bs_quick_init(&late, BS_RANK_AL_ROOM);
	bs_lock_take(&early);
	bs_quick_take(&late);
	bs_quick_drop(&late);
	bs_lock_drop(&early);
	assert_true(bs_rank_none_held());
	bs_lock_done(&early);
}

static const struct th_test tests[] = {
	TH_TEST(test_quick_without_owner_excludes),
	TH_TEST(test_quick_with_owner_excludes_visitors),
	TH_TEST(test_quick_visitor_waits_for_the_owner),
	TH_TEST(test_quick_owner_waits_for_a_visitor),
	TH_TEST(test_quick_owner_and_rare_visitor_exclude),
	TH_TEST(test_quick_sleeper_is_woken),
	TH_TEST(test_quick_owner_enters_by_its_own_way),
	TH_TEST(test_quick_owner_way_closes_and_opens),
	TH_TEST(test_rank_wrong_order_stops_the_program),
	TH_TEST(test_rank_right_order_is_fine),
};

TH_MAIN("lock", tests)
