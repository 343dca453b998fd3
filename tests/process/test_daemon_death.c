/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Clients of poolswitchd that end in all ways while others work. In each test
 * a bystander has a pattern and goes on, and when the bytes of the dead are
 * free again an heir takes everything that there is: it must be zero, and what
 * the heir writes must stay, or a dead client's kernel has written late.
 *
 * The same on both GPUs. A kernel of the simulated one is a thread of its
 * process and ends with it; there simDie() gives it its late writes, and a
 * forked child writes by itself what the real GPU's kernel writes for it.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon.h"
#include "tests/support/gpu.h"
#include "tests/support/sim.h"

#define HELD 6u /* segments of the victim */
#define HELD_BYTES (HELD * TH_DAEMON_SEGMENT)
#define BYSTANDER_BYTES (2 * TH_DAEMON_SEGMENT)
#define EVIL 0xdeadbeefu
#define LONG_NS UINT64_C(20000000000)
#define LATE_MS 50
#define FILES 1024

/* ---- the bystander ---- */

/* A bit of everything that needs the daemon. */
static void use(struct ps_pool *pool)
{
	void *ptr = th_alloc(pool, 3 * TH_DAEMON_SEGMENT);
	uint64_t released;

	th_put(pool, ptr, 1);
	th_assert_ok(ps_mem_free(pool, ptr));
	th_assert_ok(ps_mem_trim(pool, 0, &released));
}

static void stand_by(int link)
{
	struct ps_pool *pool = th_attach_name("bystander");
	void *mine = th_alloc(pool, BYSTANDER_BYTES);

	th_pattern_write(pool, mine, BYSTANDER_BYTES, 1);
	th_tell(link);
	th_await(link);
	th_pattern_check(pool, mine, BYSTANDER_BYTES, 1);
	use(pool);
	th_assert_ok(ps_mem_free(pool, mine));
	th_assert_ok(ps_detach(pool));
}

/* ---- the next owner ---- */

/* As many segments as there are, one block each. */
static uint32_t take_all(struct ps_pool *pool, void **block_out)
{
	uint32_t count = 0;

	while (count < TH_DAEMON_LEASES &&
	       ps_mem_alloc(pool, TH_DAEMON_SEGMENT, &block_out[count]) ==
		       PS_OK)
		count++;
	return count;
}

static void inherit(int link)
{
	struct ps_pool *pool = th_attach_name("heir");
	void *block[TH_DAEMON_LEASES];
	uint32_t count = take_all(pool, block);

	assert_int_equal(count, TH_DAEMON_LEASES -
					BYSTANDER_BYTES / TH_DAEMON_SEGMENT);
	for (uint32_t i = 0; i < count; i++) {
		th_zeros_check(pool, block[i], TH_DAEMON_SEGMENT);
		th_pattern_write(pool, block[i], TH_DAEMON_SEGMENT, i);
	}
	th_rest_ms(2 * LATE_MS);
	for (uint32_t i = 0; i < count; i++)
		th_pattern_check(pool, block[i], TH_DAEMON_SEGMENT, i);
	th_await(link);
	ps_pool_close(pool);
}

/* ---- the stage ---- */

struct stage {
	struct th_daemon daemon;
	struct th_client bystander;
	struct th_client victim;
};

static void stage_open(struct stage *stage, void (*victim)(int link))
{
	th_daemon_start(&stage->daemon, NULL);
	th_client_start(&stage->bystander, stand_by);
	th_await(stage->bystander.link);
	th_client_start(&stage->victim, victim);
	th_await(stage->victim.link);
}

/* Waits until the dead one's bytes are free; an heir takes them. */
static void stage_close(struct stage *stage)
{
	struct th_client heir;

	th_daemon_wait_clients(1);
	th_client_start(&heir, inherit);
	th_client_finish(&heir);
	th_client_finish(&stage->bystander);
	th_daemon_stop(&stage->daemon);
}

static int64_t quarantined(void)
{
	struct th_daemon_sums sums;

	th_daemon_sums(&sums);
	return sums.quarantined;
}

/* ---- victims ---- */

static struct ps_pool *victim_pool;
static void *victim_block;

static void hold(void)
{
	victim_pool = th_attach_name("victim");
	victim_block = th_alloc(victim_pool, HELD_BYTES);
}

/* A kernel that never stops writing to the lease. */
static const struct th_gpu *scribble(void)
{
	const struct th_gpu *gpu;

	hold();
	gpu = th_gpu_open();
	th_gpu_scribble(gpu, th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING),
			(CUdeviceptr)(uintptr_t)victim_block, HELD_BYTES / 4,
			EVIL, LONG_NS);
	return gpu;
}

static void idle_victim(int link)
{
	hold();
	th_tell(link);
	th_await(link);
}

static void writing_victim(int link)
{
	scribble();
	th_tell(link);
	th_await(link);
}

static void late_victim(int link)
{
	const struct th_gpu *gpu = scribble();

	th_tell(link);
	th_await(link);
	if (gpu->driver->simulated)
		th_sim_die(LATE_MS);
	raise(SIGKILL);
}

static void waiting_victim(int link)
{
	const struct th_gpu *gpu;
	CUstream stream;

	hold();
	gpu = th_gpu_open();
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_gpu_block(gpu, stream);
	th_cu(gpu->driver->cuMemsetD32Async(
		(CUdeviceptr)(uintptr_t)victim_block, EVIL, HELD_BYTES / 4,
		stream));
	th_tell(link);
	th_await(link);
}

static void go_on_writing(volatile uint32_t *words)
{
	for (size_t i = 0; i < HELD_BYTES / 4; i++)
		words[i] = EVIL;
}

static void close_sockets(void)
{
	struct stat info;

	for (int fd = 0; fd < FILES; fd++)
		if (fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode))
			close(fd);
}

/* What is there when the child is to execute another program: no signal
 * reaches it under the thread sanitizer. */
static const char *execute_file(void)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/execute", th_temp_dir());
	return path;
}

/* Tells the pid of a child that has all that a fork copies. */
static void fork_and_wait(int link, bool with_sockets)
{
	const struct th_gpu *gpu = scribble();
	const char *file = execute_file();
	pid_t child = fork();

	if (child == 0) {
		if (!with_sockets)
			close_sockets();
		while (access(file, F_OK) != 0) {
			if (gpu->driver->simulated)
				go_on_writing(victim_block);
			th_rest_ms(1);
		}
		execl("/bin/sleep", "sleep", "1000", (char *)NULL);
		_exit(127);
	}
	th_tell(link);
	th_gpu_send_bytes(link, &child, sizeof(child));
	th_await(link);
}

static void forking_victim(int link)
{
	fork_and_wait(link, true);
}

/* No socket tells of this child. */
static void secretly_forking_victim(int link)
{
	fork_and_wait(link, false);
}

/* The descriptors close with the exec, the process lives on. */
static void executing_victim(int link)
{
	hold();
	th_tell(link);
	th_await(link);
	execl("/bin/sleep", "sleep", "1000", (char *)NULL);
	_exit(127);
}

/* Where an MPS server is, or what says so. */
static const char *mps_folder(void)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/mps", th_temp_dir());
	return path;
}

static void mps_victim(int link)
{
	setenv("CUDA_MPS_PIPE_DIRECTORY", mps_folder(), 1);
	writing_victim(link);
}

static void detaching_victim(int link)
{
	hold();
	th_assert_ok(ps_mem_free(victim_pool, victim_block));
	th_assert_ok(ps_detach(victim_pool));
	th_tell(link);
	th_await(link);
}

/* ---- the tests ---- */

static void kill_one(void (*victim)(int link))
{
	struct stage stage;

	stage_open(&stage, victim);
	th_client_kill(&stage.victim);
	stage_close(&stage);
}

static void test_client_killed_idle_gives_its_bytes_back(void **state)
{
	(void)state;
	kill_one(idle_victim);
}

static void test_client_killed_with_a_kernel_writing_harms_none(void **state)
{
	(void)state;
	kill_one(writing_victim);
}

static void test_client_killed_blocked_in_a_value_wait_is_over(void **state)
{
	(void)state;
	kill_one(waiting_victim);
}

static void
test_client_that_writes_after_its_sockets_closed_is_fenced(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage, late_victim);
	th_tell(stage.victim.link);
	assert_int_equal(th_client_wait(&stage.victim), 128 + SIGKILL);
	stage_close(&stage);
}

/* Kills the victim alone; returns its child. */
static pid_t orphan(struct stage *stage, void (*victim)(int link))
{
	pid_t child;

	stage_open(stage, victim);
	th_gpu_receive_bytes(stage->victim.link, &child, sizeof(child));
	th_client_kill(&stage->victim);
	th_daemon_wait_quarantined(HELD_BYTES);
	return child;
}

static void assert_stays_quarantined(void)
{
	th_rest_ms(200);
	assert_int_equal(quarantined(), HELD_BYTES);
}

static void test_client_with_a_forked_child_is_fenced_by_its_end(void **state)
{
	struct stage stage;
	pid_t child;

	(void)state;
	child = orphan(&stage, forking_victim);
	assert_stays_quarantined();
	th_kill(child);
	stage_close(&stage);
}

static void test_client_with_a_child_without_sockets_is_fenced(void **state)
{
	struct stage stage;
	pid_t child;

	(void)state;
	child = orphan(&stage, secretly_forking_victim);
	assert_stays_quarantined();
	th_kill(child);
	stage_close(&stage);
}

/* What it executes has no GPU files, and lives on. */
static void test_client_whose_child_executes_another_is_reclaimed(void **state)
{
	struct stage stage;
	pid_t child;

	(void)state;
	child = orphan(&stage, secretly_forking_victim);
	assert_stays_quarantined();
	close(open(execute_file(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	th_daemon_wait_quarantined(0);
	th_kill(child);
	stage_close(&stage);
}

/* It has no socket of the dead one, and has to find the child. */
static void test_client_with_a_child_is_fenced_by_the_next_agent(void **state)
{
	struct stage stage;
	pid_t child;

	(void)state;
	child = orphan(&stage, forking_victim);
	th_daemon_kill_agent(&stage.daemon);
	assert_stays_quarantined();
	th_kill(child);
	stage_close(&stage);
}

/* Returns when the last of its threads stands still. */
static void stop(pid_t pid)
{
	siginfo_t info;

	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT),
			 0);
}

static void test_client_killed_while_stopped_gives_its_bytes_back(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage, writing_victim);
	stop(stage.victim.pid);
	th_client_kill(&stage.victim);
	stage_close(&stage);
}

static void test_client_stopped_keeps_what_it_has(void **state)
{
	struct stage stage;
	json_t *status, *client;

	(void)state;
	stage_open(&stage, idle_victim);
	stop(stage.victim.pid);
	status = th_daemon_status();
	client = th_status_client(status, stage.victim.pid);
	assert_non_null(client);
	assert_int_equal(th_json_number(client, "leased"), HELD_BYTES);
	assert_false(json_is_true(json_object_get(client, "answered")));
	json_decref(status);
	kill(stage.victim.pid, SIGCONT);
	th_client_kill(&stage.victim);
	stage_close(&stage);
}

static void test_client_that_executes_another_keeps_till_its_end(void **state)
{
	struct stage stage;
	json_t *status, *client;

	(void)state;
	stage_open(&stage, executing_victim);
	th_tell(stage.victim.link);
	th_daemon_wait_presence(stage.victim.pid, "away");
	status = th_daemon_status();
	client = th_status_client(status, stage.victim.pid);
	assert_int_equal(th_json_number(client, "leased"), HELD_BYTES);
	json_decref(status);
	th_client_kill(&stage.victim);
	stage_close(&stage);
}

static void test_client_that_left_is_gone_while_it_lives(void **state)
{
	struct stage stage;

	(void)state;
	stage_open(&stage, detaching_victim);
	th_daemon_wait_clients(1);
	th_client_finish(&stage.victim);
	stage_close(&stage);
}

static bool is_real(void)
{
	const char *driver = getenv("POOLSWITCH_DRIVER");

	return driver == NULL || strcmp(driver, "sim") != 0;
}

static bool tell_mps(const char *word)
{
	char command[512];

	snprintf(command, sizeof(command),
		 "export CUDA_MPS_PIPE_DIRECTORY=%s CUDA_MPS_LOG_DIRECTORY=%s\n"
		 "%s >%s/told 2>&1",
		 mps_folder(), mps_folder(), word, mps_folder());
	return system(command) == 0;
}

/* False: there is none. The simulated GPU's is a file that looks like one. */
static bool mps_start(void)
{
	mkdir(mps_folder(), 0700);
	return tell_mps(is_real() ? "nvidia-cuda-mps-control -d"
				  : "touch $CUDA_MPS_PIPE_DIRECTORY/control");
}

static void mps_stop(void)
{
	if (is_real())
		assert_true(tell_mps("echo quit | nvidia-cuda-mps-control"));
}

/* What runs in a server cannot be seen in /proc: nothing of it is reused. */
static void test_client_killed_under_mps_has_its_memory_remade(void **state)
{
	struct stage stage;
	json_t *status;

	(void)state;
	if (!mps_start()) {
		th_skip("no MPS server here");
		return;
	}
	stage_open(&stage, mps_victim);
	th_client_kill(&stage.victim);
	th_daemon_wait_clients(1);
	status = th_daemon_status();
	assert_int_equal(th_json_number(status, "counters.remakes"), HELD);
	json_decref(status);
	stage_close(&stage);
	mps_stop();
}

static void kill_several(struct th_client *client)
{
	static void (*const kinds[])(int) = { idle_victim, writing_victim,
					      late_victim, waiting_victim };
	const size_t count = sizeof(kinds) / sizeof(kinds[0]);

	for (uint32_t i = 0; i < 3; i++) {
		th_client_start(&client[i], kinds[(size_t)rand() % count]);
		if (rand() % 4 != 0)
			th_await(client[i].link);
		th_rest_ms((unsigned int)rand() % 4);
	}
	for (uint32_t i = 0; i < 3; i++)
		th_client_kill(&client[i]);
}

/* 300 on a real GPU; 10,000 in the long runs on the simulated one. */
static void test_clients_killed_at_random_moments_lose_no_byte(void **state)
{
	uint32_t rounds = is_real() ? 100 : 34 * th_soak_factor();
	struct th_client client[3];
	struct stage stage;

	(void)state;
	srand(7);
	stage_open(&stage, detaching_victim);
	th_client_finish(&stage.victim);
	for (uint32_t i = 0; i < rounds; i++)
		kill_several(client);
	stage_close(&stage);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_client_killed_idle_gives_its_bytes_back),
	TH_DAEMON_TEST(test_client_killed_with_a_kernel_writing_harms_none),
	TH_DAEMON_TEST(test_client_killed_blocked_in_a_value_wait_is_over),
	TH_DAEMON_TEST(
		test_client_that_writes_after_its_sockets_closed_is_fenced),
	TH_DAEMON_TEST(test_client_with_a_forked_child_is_fenced_by_its_end),
	TH_DAEMON_TEST(test_client_with_a_child_without_sockets_is_fenced),
	TH_DAEMON_TEST(test_client_whose_child_executes_another_is_reclaimed),
	TH_DAEMON_TEST(test_client_with_a_child_is_fenced_by_the_next_agent),
	TH_DAEMON_TEST(test_client_killed_under_mps_has_its_memory_remade),
	TH_DAEMON_TEST(test_client_killed_while_stopped_gives_its_bytes_back),
	TH_DAEMON_TEST(test_client_stopped_keeps_what_it_has),
	TH_DAEMON_TEST(test_client_that_executes_another_keeps_till_its_end),
	TH_DAEMON_TEST(test_client_that_left_is_gone_while_it_lives),
	TH_DAEMON_TEST(test_clients_killed_at_random_moments_lose_no_byte),
};

TH_GPU_MAIN("daemon_death", tests, NULL)
