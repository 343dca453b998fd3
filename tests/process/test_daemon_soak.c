/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Clients of mixed sizes that come, work and end in one of three ways, for 18
 * seconds, or 30 minutes in the long runs. At the end nothing is leased and
 * both halves have as many descriptors as at the beginning.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/daemon.h"

#define SECONDS 18u
#define CLIENTS 8u
#define BLOCKS 6u
#define LARGEST (6 * TH_DAEMON_SEGMENT)
#define STEPS 40

struct block {
	void *ptr;
	size_t bytes;
	uint32_t seed;
};

static void give_up(struct ps_pool *pool, struct block *block)
{
	if (block->ptr == NULL)
		return;
	th_pattern_check(pool, block->ptr, block->bytes, block->seed);
	th_assert_ok(ps_mem_free(pool, block->ptr));
	block->ptr = NULL;
}

/* All sizes from 512 bytes on, each doubling as often as another. */
static size_t draw_size(void)
{
	size_t size = 512u << (unsigned int)rand() % 15;

	size += (size_t)rand() % size;
	return size < LARGEST ? size & ~(size_t)3 : LARGEST;
}

static void renew(struct ps_pool *pool, struct block *block)
{
	enum ps_status status;

	give_up(pool, block);
	block->bytes = draw_size();
	block->seed = (uint32_t)rand();
	status = ps_mem_alloc(pool, block->bytes, &block->ptr);
	if (status == PS_OUT_OF_MEMORY) {
		block->ptr = NULL;
		return;
	}
	th_assert_ok(status);
	th_pattern_write(pool, block->ptr, block->bytes, block->seed);
}

static void work(int link)
{
	struct block block[BLOCKS] = { { NULL, 0, 0 } };
	struct ps_pool *pool;
	uint64_t released;

	(void)link;
	srand((unsigned int)getpid());
	pool = th_attach();
	for (int i = rand() % STEPS; i >= 0; i--)
		renew(pool, &block[(unsigned int)rand() % BLOCKS]);
	if (rand() % 3 == 0)
		raise(SIGKILL);
	if (rand() % 2 == 0)
		_exit(0);
	for (unsigned int i = 0; i < BLOCKS; i++)
		give_up(pool, &block[i]);
	th_assert_ok(ps_mem_trim(pool, 0, &released));
	th_assert_ok(ps_detach(pool));
}

static void end_client(struct th_client *client)
{
	int status = th_client_wait(client);

	assert_true(status == 0 || status == 128 + SIGKILL);
}

static void test_daemon_after_many_clients_has_all_it_had(void **state)
{
	const uint64_t end =
		th_now_ns() + SECONDS * UINT64_C(1000000000) * th_soak_factor();
	struct th_client client[CLIENTS];
	struct th_daemon daemon;
	unsigned int next = 0;

	(void)state;
	th_daemon_start(&daemon, NULL);
	for (unsigned int i = 0; i < CLIENTS; i++)
		th_client_start(&client[i], work);
	while (th_now_ns() < end) {
		end_client(&client[next]);
		th_client_start(&client[next], work);
		next = (next + 1) % CLIENTS;
	}
	for (unsigned int i = 0; i < CLIENTS; i++)
		end_client(&client[i]);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_daemon_after_many_clients_has_all_it_had),
};

TH_MAIN("daemon_soak", tests)
