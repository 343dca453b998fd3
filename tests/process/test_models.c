/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Models from the file to the worker's streams: added once, used by several
 * processes at one address, switched when the region holds one of two, and
 * every byte looked at. The region has four segments: "alpha" and "beta" take
 * three each.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/models.h"

#define WORKERS 4u
#define RUNS 3
#define SWITCHES 4
#define SHORT_MS 100
#define MIB ((size_t)1 << 20)

static const struct th_model alpha = {
	.name = "alpha", .seed = 1, .tensors = 12, .bytes = 5 * MIB
};
static const struct th_model beta = { .name = "beta",
				      .seed = 2,
				      .tensors = 7,
				      .bytes = 5 * MIB,
				      .plan = PS_PLAN_GROUPS,
				      .groups = 3 };
static const struct th_model small = { .name = "small",
				       .seed = 3,
				       .tensors = 40,
				       .bytes = MIB,
				       .plan = PS_PLAN_TENSOR };
static const struct th_model *const both[] = { &alpha, &beta };
static const struct th_model *const all[] = { &alpha, &beta, &small };

/* ---- workers ---- */

struct worker {
	struct ps_pool *pool;
	const struct th_gpu *gpu;
	CUstream stream;
};

static struct worker begin(const char *name)
{
	struct worker worker;

	worker.pool = th_attach_name(name);
	worker.gpu = th_gpu_open();
	worker.stream = th_gpu_stream(worker.gpu, CU_STREAM_NON_BLOCKING);
	return worker;
}

static void run_once(const struct worker *worker, struct ps_model *attached,
		     const struct th_model *model)
{
	th_model_run(attached, model, worker->gpu, worker->stream);
}

static void *address_of(struct ps_model *attached)
{
	struct ps_model_info info = { .struct_size = sizeof(info) };

	th_assert_ok(ps_model_get_info(attached, &info));
	return info.address;
}

static enum ps_status try_use(struct ps_model *attached, int timeout_ms)
{
	return ps_model_use(attached, PS_PRIORITY_DEFAULT, timeout_ms);
}

static void expect_in_the_way(enum ps_status status, const char *name)
{
	assert_true(status == PS_OUT_OF_MEMORY || status == PS_TIMED_OUT);
	th_assert_detail(name);
}

/* ---- one model, several workers ---- */

static void work_on_alpha(int link)
{
	struct worker worker = begin("worker");
	struct ps_model *attached = th_model_attach(worker.pool, &alpha);
	void *address = address_of(attached);

	for (int i = 0; i < RUNS; i++)
		run_once(&worker, attached, &alpha);
	th_gpu_send_bytes(link, &address, sizeof(address));
	th_await(link);
	th_assert_ok(ps_model_detach(attached));
	th_assert_ok(ps_detach(worker.pool));
}

static void test_models_workers_read_every_byte_at_one_address(void **state)
{
	struct th_client client[WORKERS];
	void *address[WORKERS];
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	for (unsigned int i = 0; i < WORKERS; i++)
		th_client_start(&client[i], work_on_alpha);
	for (unsigned int i = 0; i < WORKERS; i++) {
		th_gpu_receive_bytes(client[i].link, &address[i],
				     sizeof(address[i]));
		assert_ptr_equal(address[i], address[0]);
	}
	assert_int_equal(th_model_number(&alpha, "loads"), 1);
	for (unsigned int i = 0; i < WORKERS; i++)
		th_client_finish(&client[i]);
	th_models_remove(both, 1);
	th_daemon_stop(&daemon);
}

static void run_twice(int link)
{
	struct worker worker = begin("worker");
	struct ps_model *attached = th_model_attach(worker.pool, &alpha);

	run_once(&worker, attached, &alpha);
	th_tell(link);
	th_await(link);
	run_once(&worker, attached, &alpha);
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

/* An agent that is stopped answers no message. */
static void test_models_used_again_need_no_agent(void **state)
{
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	th_client_start(&client, run_twice);
	th_await(client.link);
	kill(daemon.agent, SIGSTOP);
	th_tell(client.link);
	th_await(client.link);
	kill(daemon.agent, SIGCONT);
	th_client_finish(&client);
	th_models_remove(both, 1);
	th_daemon_stop(&daemon);
}

/* ---- switching ---- */

static void switch_often(int link)
{
	struct worker worker = begin("worker");
	struct ps_model *a = th_model_attach(worker.pool, &alpha);
	struct ps_model *b = th_model_attach(worker.pool, &beta);
	void *address = address_of(a);

	for (int i = 0; i < SWITCHES; i++) {
		run_once(&worker, a, &alpha);
		run_once(&worker, b, &beta);
	}
	assert_ptr_equal(address_of(a), address);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

static void test_models_switch_brings_each_back(void **state)
{
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	th_model_add(&beta);
	th_client_start(&client, switch_often);
	th_client_finish(&client);
	assert_int_equal(th_model_number(&alpha, "loads"), SWITCHES);
	assert_int_equal(th_model_number(&beta, "loads"), SWITCHES);
	assert_int_equal(th_model_number(&alpha, "evictions"), SWITCHES);
	th_models_remove(both, 2);
	th_daemon_stop(&daemon);
}

/* Holds alpha until it is told, reads it all, lets go. */
static void hold_alpha(int link)
{
	struct worker worker = begin("holder");
	struct ps_model *attached = th_model_attach(worker.pool, &alpha);

	th_model_use(attached);
	th_tell(link);
	th_await(link);
	run_once(&worker, attached, &alpha);
	th_assert_ok(ps_model_release(attached, worker.stream));
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

static void want_beta(int link)
{
	struct worker worker = begin("wanter");
	struct ps_model *attached = th_model_attach(worker.pool, &beta);

	expect_in_the_way(try_use(attached, 0), "alpha");
	expect_in_the_way(try_use(attached, SHORT_MS), "alpha");
	th_tell(link);
	th_await(link);
	run_once(&worker, attached, &beta);
	th_assert_ok(ps_detach(worker.pool));
}

static void test_models_in_use_are_not_evicted(void **state)
{
	struct th_client holder, wanter;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	th_model_add(&beta);
	th_client_start(&holder, hold_alpha);
	th_await(holder.link);
	th_client_start(&wanter, want_beta);
	th_await(wanter.link);
	th_tell(holder.link);
	th_await(holder.link);
	th_client_finish(&wanter);
	th_client_finish(&holder);
	th_models_remove(both, 2);
	th_daemon_stop(&daemon);
}

static void want_beta_long(int link)
{
	struct worker worker = begin("wanter");
	struct ps_model *attached = th_model_attach(worker.pool, &beta);

	th_tell(link);
	run_once(&worker, attached, &beta);
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

/* Who waits gets it when it is let go, without asking again. */
static void test_models_release_serves_who_waits(void **state)
{
	struct th_client holder, wanter;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	th_model_add(&beta);
	th_client_start(&holder, hold_alpha);
	th_await(holder.link);
	th_client_start(&wanter, want_beta_long);
	th_await(wanter.link);
	while (th_model_number(&beta, "waiting") == 0)
		th_rest_ms(1);
	th_tell(holder.link);
	th_await(holder.link);
	th_await(wanter.link);
	th_client_finish(&wanter);
	th_client_finish(&holder);
	th_models_remove(both, 2);
	th_daemon_stop(&daemon);
}

/* The next run is submitted before the last one is done: each is released on
 * its stream, and at any time one is under way. */
static void run_without_a_gap(int link)
{
	struct pollfd told = { .fd = link, .events = POLLIN };
	struct ps_model *attached;
	struct worker worker;
	struct th_copy copy[2];
	CUstream stream[2];

	setenv("POOLSWITCH_SIM_BANDWIDTH", "256M", 1); /* a run takes 20 ms */
	worker = begin("eager");
	attached = th_model_attach(worker.pool, &alpha);
	for (int i = 0; i < 2; i++) {
		th_copy_init(&copy[i], worker.gpu, &alpha);
		stream[i] = th_gpu_stream(worker.gpu, CU_STREAM_NON_BLOCKING);
	}
	th_tell(link);
	for (int i = 0; poll(&told, 1, 0) == 0; i++) {
		th_model_use(attached);
		th_copy_submit(&copy[i % 2], attached, stream[i % 2]);
		th_assert_ok(ps_model_release(attached, stream[i % 2]));
		th_cu(worker.gpu->driver->cuStreamSynchronize(
			stream[(i + 1) % 2]));
	}
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

static void test_models_runs_without_a_gap_give_way(void **state)
{
	struct th_client eager, wanter;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	th_model_add(&beta);
	th_client_start(&eager, run_without_a_gap);
	th_await(eager.link);
	th_client_start(&wanter, want_beta_long);
	th_await(wanter.link);
	th_await(wanter.link);
	th_client_finish(&wanter);
	th_client_finish(&eager);
	th_models_remove(both, 2);
	th_daemon_stop(&daemon);
}

/* ---- a captured graph ---- */

static CUgraphExec capture(const struct worker *worker,
			   struct ps_model *attached, struct th_copy *copy)
{
	CUstream stream = th_gpu_capture(worker->gpu, CU_STREAM_NON_BLOCKING);
	CUgraphExec exec;
	CUgraph graph;

	th_copy_submit(copy, attached, stream);
	th_cu(worker->gpu->driver->cuStreamEndCapture(stream, &graph));
	th_cu(worker->gpu->driver->cuGraphInstantiateWithFlags(&exec, graph,
							       0));
	return exec;
}

static void launch(const struct worker *worker, struct ps_model *attached,
		   CUgraphExec exec, struct th_copy *copy)
{
	th_copy_spoil(copy);
	th_model_use(attached);
	th_cu(worker->gpu->driver->cuGraphLaunch(exec, worker->stream));
	th_assert_ok(ps_model_release(attached, worker->stream));
	th_cu(worker->gpu->driver->cuStreamSynchronize(worker->stream));
	th_assert_ok(ps_model_check(attached));
	assert_true(th_copy_is_right(copy));
}

static void launch_again_and_again(int link)
{
	struct worker worker = begin("graph");
	struct ps_model *attached = th_model_attach(worker.pool, &alpha);
	struct th_copy copy;
	CUgraphExec exec;

	th_copy_init(&copy, worker.gpu, &alpha);
	th_model_use(attached); /* what is captured has to be mapped */
	exec = capture(&worker, attached, &copy);
	th_assert_ok(ps_model_release(attached, PS_STREAM_DONE));
	for (int i = 0; i < RUNS; i++) {
		launch(&worker, attached, exec, &copy);
		launch(&worker, attached, exec, &copy);
		th_model_order(&alpha, PS_MODEL_EVICT);
		th_model_order(&beta, PS_MODEL_LOAD);
	}
	th_copy_done(&copy);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

/* On the simulated GPU a load takes 80 ms, so that a graph that did
 * not wait again would read what is not there yet. */
static void test_models_captured_graph_is_right_after_reload(void **state)
{
	static const char *const slow[] = { "POOLSWITCH_SIM_BANDWIDTH=64M",
					    NULL };
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, &(struct th_daemon_plan){ .env = slow });
	th_model_add(&alpha);
	th_model_add(&beta);
	th_client_start(&client, launch_again_and_again);
	th_client_finish(&client);
	th_models_remove(both, 2);
	th_daemon_stop(&daemon);
}

/* ---- orders ---- */

static void test_models_larger_than_the_region_are_refused(void **state)
{
	static const struct th_model large = { .name = "large",
					       .tensors = 3,
					       .bytes = 9 * MIB };
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_assert_status(th_model_try_add(&large), PS_OUT_OF_RANGE);
	assert_null(th_model_status(&large));
	th_model_add(&small);
	th_model_order(&small, PS_MODEL_LOAD);
	th_models_remove(&all[2], 1);
	th_daemon_stop(&daemon);
}

static void want_beta_once(int link)
{
	struct worker worker = begin("wanter");
	struct ps_model *attached = th_model_attach(worker.pool, &beta);

	expect_in_the_way(try_use(attached, SHORT_MS), "pinned");
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

static void test_models_pinned_stay(void **state)
{
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	th_model_add(&beta);
	th_model_order(&alpha, PS_MODEL_PIN);
	th_client_start(&client, want_beta_once);
	th_client_finish(&client);
	assert_true(th_model_is(&alpha, "resident"));
	th_model_order(&alpha, PS_MODEL_UNPIN);
	th_model_order(&beta, PS_MODEL_LOAD);
	assert_true(th_model_is(&alpha, "host"));
	th_models_remove(both, 2);
	th_daemon_stop(&daemon);
}

static void stay_attached(int link)
{
	struct worker worker = begin("worker");
	struct ps_model *attached = th_model_attach(worker.pool, &alpha);

	run_once(&worker, attached, &alpha);
	th_tell(link);
	th_await(link);
	run_once(&worker, attached, &alpha);
	th_assert_ok(ps_model_detach(attached));
	th_tell(link);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

/* Evicted under an idle client it comes back; removed it cannot be. */
static void test_models_attached_can_be_evicted_not_removed(void **state)
{
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	th_client_start(&client, stay_attached);
	th_await(client.link);
	th_assert_status(th_model_try_order(&alpha, PS_MODEL_REMOVE), PS_BUSY);
	th_model_order(&alpha, PS_MODEL_EVICT);
	assert_true(th_model_is(&alpha, "host"));
	th_tell(client.link);
	th_await(client.link);
	th_model_order(&alpha, PS_MODEL_REMOVE);
	assert_null(th_model_status(&alpha));
	th_client_finish(&client);
	th_daemon_stop(&daemon);
}

/* ---- what they are ---- */

static void look_for_alpha(int link)
{
	struct ps_model_info info = { .struct_size = sizeof(info) };
	struct worker worker = begin("worker");
	struct ps_model *by_name = th_model_attach(worker.pool, &alpha);
	struct ps_model *by_hash;
	unsigned char other[PS_MODEL_HASH_BYTES];

	th_assert_ok(ps_model_get_info(by_name, &info));
	assert_string_equal(info.name, alpha.name);
	assert_int_equal(info.tensors, alpha.tensors);
	th_assert_ok(ps_model_attach(worker.pool, NULL, info.hash, &by_hash));
	assert_ptr_equal(by_hash, by_name);
	memcpy(other, info.hash, sizeof(other));
	other[0] ^= 1;
	th_assert_status(
		ps_model_attach(worker.pool, alpha.name, other, &by_hash),
		PS_MODEL_MISMATCH);
	th_assert_status(ps_model_attach(worker.pool, NULL, other, &by_hash),
			 PS_NO_MODEL);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

static void test_models_are_found_by_name_and_hash(void **state)
{
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	th_client_start(&client, look_for_alpha);
	th_client_finish(&client);
	th_models_remove(both, 1);
	th_daemon_stop(&daemon);
}

static void test_models_of_one_name_are_one(void **state)
{
	struct th_model other = alpha;
	struct th_daemon daemon;

	(void)state;
	other.seed = 77;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	th_model_add(&alpha);
	th_assert_status(th_model_try_add(&other), PS_REFUSED);
	th_models_remove(both, 1);
	th_daemon_stop(&daemon);
}

/* What was read is the daemon's: the file may be anything afterwards. */
static void test_models_outlive_their_files(void **state)
{
	struct th_client client;
	struct th_daemon daemon;
	const char *path;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	path = th_model_write(&alpha);
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(unlink(path), 0);
	th_client_start(&client, stay_attached);
	th_await(client.link);
	th_model_order(&alpha, PS_MODEL_EVICT);
	th_tell(client.link);
	th_await(client.link);
	th_client_finish(&client);
	th_models_remove(both, 1);
	th_daemon_stop(&daemon);
}

/* ---- raw parameters ---- */

static void map_parameters(int link)
{
	struct worker worker = begin("raw");
	struct ps_model *attached = th_model_attach(worker.pool, &alpha);

	run_once(&worker, attached, &alpha);
	th_assert_status(ps_pool_map(worker.pool, 0,
				     TH_DAEMON_PARAMETERS * TH_DAEMON_SEGMENT),
			 PS_REFUSED);
	th_model_order(&alpha, PS_MODEL_EVICT);
	th_assert_ok(ps_pool_map(worker.pool, 0, 2 * TH_DAEMON_SEGMENT));
	/* Two segments are left of the four. */
	assert_int_not_equal(try_use(attached, SHORT_MS), PS_OK);
	th_await(link);
	th_assert_ok(ps_detach(worker.pool));
}

static void test_models_and_raw_parameters_never_meet(void **state)
{
	struct th_client client;
	struct th_daemon daemon;

	(void)state;
	th_daemon_start(&daemon, NULL);
	th_model_add(&alpha);
	th_model_add(&small);
	th_client_start(&client, map_parameters);
	th_client_finish(&client);
	th_model_order(&small, PS_MODEL_LOAD);
	th_models_remove(&all[0], 1);
	th_models_remove(&all[2], 1);
	th_daemon_stop(&daemon);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_models_workers_read_every_byte_at_one_address),
	TH_DAEMON_TEST(test_models_used_again_need_no_agent),
	TH_DAEMON_TEST(test_models_switch_brings_each_back),
	TH_DAEMON_TEST(test_models_in_use_are_not_evicted),
	TH_DAEMON_TEST(test_models_release_serves_who_waits),
	TH_DAEMON_TEST(test_models_runs_without_a_gap_give_way),
	TH_DAEMON_TEST(test_models_captured_graph_is_right_after_reload),
	TH_DAEMON_TEST(test_models_larger_than_the_region_are_refused),
	TH_DAEMON_TEST(test_models_pinned_stay),
	TH_DAEMON_TEST(test_models_attached_can_be_evicted_not_removed),
	TH_DAEMON_TEST(test_models_are_found_by_name_and_hash),
	TH_DAEMON_TEST(test_models_of_one_name_are_one),
	TH_DAEMON_TEST(test_models_outlive_their_files),
	TH_DAEMON_TEST(test_models_and_raw_parameters_never_meet),
};

TH_GPU_MAIN("models", tests, NULL)
