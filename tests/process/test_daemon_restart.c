/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The halves of poolswitchd killed while clients work. No client's call may
 * fail and no byte of theirs may change: leases of clients that allocate and
 * free all the time, of one that keeps still, and the parameters that a
 * writable client has written.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/daemon.h"

#define WORKERS 4u
#define GPU_WORKERS 16u
#define BLOCKS 4u
#define STILL_BYTES (4 * TH_DAEMON_SEGMENT)
#define PARAMETER_BYTES (TH_DAEMON_PARAMETERS * TH_DAEMON_SEGMENT)
#define PARAMETER_SEED 77u
#define ROUNDS 10u
#define GPU_ROUNDS 30u

/* ---- clients ---- */

static bool is_told(int link)
{
	char byte;

	return recv(link, &byte, 1, MSG_DONTWAIT) == 1;
}

struct block {
	void *ptr;
	size_t bytes;
	uint32_t seed;
};

static void renew(struct ps_pool *pool, struct block *block)
{
	uint64_t released;

	if (block->ptr != NULL) {
		th_pattern_check(pool, block->ptr, block->bytes, block->seed);
		th_assert_ok(ps_mem_free(pool, block->ptr));
	}
	if (rand() % 4 == 0)
		th_assert_ok(ps_mem_trim(pool, 0, &released));
	block->bytes = 4 * (1 + (size_t)rand() % (TH_DAEMON_SEGMENT / 4));
	block->seed = (uint32_t)rand();
	block->ptr = th_alloc(pool, block->bytes);
	th_pattern_write(pool, block->ptr, block->bytes, block->seed);
}

static void work(int link)
{
	struct ps_pool *pool = th_attach_name("worker");
	struct block block[BLOCKS] = { { NULL, 0, 0 } };

	srand((unsigned int)getpid());
	th_tell(link);
	while (!is_told(link)) {
		renew(pool, &block[(unsigned int)rand() % BLOCKS]);
		th_rest_ms(1);
	}
	for (unsigned int i = 0; i < BLOCKS; i++) {
		if (block[i].ptr == NULL)
			continue;
		th_pattern_check(pool, block[i].ptr, block[i].bytes,
				 block[i].seed);
		th_assert_ok(ps_mem_free(pool, block[i].ptr));
	}
	th_assert_ok(ps_mem_check(pool));
	th_assert_ok(ps_detach(pool));
}

/* Makes no call between the first and the last. */
static void keep_still(int link)
{
	struct ps_pool *pool = th_attach_name("still");
	void *mine = th_alloc(pool, STILL_BYTES);

	th_pattern_write(pool, mine, STILL_BYTES, 1);
	th_tell(link);
	th_await(link);
	th_pattern_check(pool, mine, STILL_BYTES, 1);
	th_assert_ok(ps_mem_free(pool, mine));
	th_assert_ok(ps_detach(pool));
}

static struct ps_pool *attach_parameters(bool writable)
{
	struct ps_attach_config *config;
	struct ps_pool *pool;

	th_assert_ok(ps_attach_config_new(&config));
	ps_attach_config_set_writable(config, writable);
	th_assert_ok(ps_attach(config, &pool));
	ps_attach_config_free(config);
	th_assert_ok(ps_pool_map(pool, 0, PARAMETER_BYTES));
	return pool;
}

static void write_parameters(int link)
{
	struct ps_pool *pool = attach_parameters(true);

	th_pattern_write(pool, ps_pool_pointer(pool, 0), PARAMETER_BYTES,
			 PARAMETER_SEED);
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_detach(pool));
}

/* Attaches anew, so its descriptors come from the agent of then. */
static void read_parameters(int link)
{
	struct ps_pool *pool = attach_parameters(false);

	th_pattern_check(pool, ps_pool_pointer(pool, 0), PARAMETER_BYTES,
			 PARAMETER_SEED);
	th_await(link);
	th_assert_ok(ps_detach(pool));
}

/* ---- the stage ---- */

struct stage {
	struct th_daemon daemon;
	struct th_client still;
	struct th_client worker[GPU_WORKERS];
	unsigned int workers;
	unsigned int rounds;
};

static bool is_real(void)
{
	const char *driver = getenv("POOLSWITCH_DRIVER");

	return driver == NULL || strcmp(driver, "sim") != 0;
}

static void look_at_parameters(void)
{
	struct th_client reader;

	th_client_start(&reader, read_parameters);
	th_client_finish(&reader);
}

/* More clients and rounds on a real GPU; 1,000 rounds in the long runs on the
 * simulated one. */
static void stage_open(struct stage *stage)
{
	const char *const options[] = { "--size", "512M", NULL };
	struct th_client writer;

	stage->workers = is_real() ? GPU_WORKERS : WORKERS;
	stage->rounds = is_real() ? GPU_ROUNDS : ROUNDS * th_soak_factor();
	th_daemon_start(&stage->daemon,
			&(struct th_daemon_plan){ .options = options });
	th_client_start(&writer, write_parameters);
	th_await(writer.link);
	th_client_finish(&writer);
	th_client_start(&stage->still, keep_still);
	th_await(stage->still.link);
	for (unsigned int i = 0; i < stage->workers; i++) {
		th_client_start(&stage->worker[i], work);
		th_await(stage->worker[i].link);
	}
}

static void stage_close(struct stage *stage)
{
	json_t *status = th_daemon_status();
	json_t *still = th_status_client(status, stage->still.pid);

	assert_non_null(still);
	assert_int_equal(th_json_number(still, "leased"), STILL_BYTES);
	json_decref(status);
	look_at_parameters();
	for (unsigned int i = 0; i < stage->workers; i++)
		th_client_finish(&stage->worker[i]);
	th_client_finish(&stage->still);
	th_daemon_stop(&stage->daemon);
}

static void strike(struct stage *stage, bool the_agent)
{
	th_rest_ms((unsigned int)rand() % 32);
	if (the_agent)
		th_daemon_kill_agent(&stage->daemon);
	else
		th_daemon_kill_keeper(&stage->daemon);
}

/* ---- the tests ---- */

static void test_daemon_agent_killed_under_load_harms_no_client(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	for (unsigned int i = 0; i < stage.rounds; i++)
		strike(&stage, true);
	stage_close(&stage);
}

static void test_daemon_keeper_killed_under_load_harms_no_client(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	for (unsigned int i = 0; i < stage.rounds; i++)
		strike(&stage, false);
	stage_close(&stage);
}

static void test_daemon_halves_killed_in_turn_harm_no_client(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage);
	for (unsigned int i = 0; i < stage.rounds; i++) {
		strike(&stage, true);
		strike(&stage, false);
	}
	stage_close(&stage);
}

/* The keeper has its pidfd, so the next agent fences it all the same. */
static void test_daemon_client_that_died_without_agent_is_fenced(void **state)
{
	struct stage stage;
	pid_t dead;

	(void)state;
	stage_open(&stage);
	kill(stage.daemon.agent, SIGSTOP);
	th_client_kill(&stage.worker[0]);
	dead = th_daemon_strike(stage.daemon.agent);
	th_daemon_follow(&stage.daemon, dead);
	th_daemon_wait_clients(stage.workers);
	th_client_start(&stage.worker[0], work);
	th_await(stage.worker[0].link);
	stage_close(&stage);
}

/* The sum of both: nothing is left, and a new daemon finds a free GPU. */
static void test_daemon_both_killed_leave_a_free_gpu(void **state)
{
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_daemon_kill(&daemon);
	th_daemon_start(&daemon, NULL);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_daemon_agent_killed_under_load_harms_no_client),
	TH_DAEMON_TEST(test_daemon_keeper_killed_under_load_harms_no_client),
	TH_DAEMON_TEST(test_daemon_halves_killed_in_turn_harm_no_client),
	TH_DAEMON_TEST(test_daemon_client_that_died_without_agent_is_fenced),
	TH_DAEMON_TEST(test_daemon_both_killed_leave_a_free_gpu),
};

TH_GPU_MAIN("daemon_restart", tests, NULL)
