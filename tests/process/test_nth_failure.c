/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each driver call failing at its n-th use: two processes go through all that
 * a pool is for, and in one of them call number n of the driver fails, for
 * n = 1, 2, ... until there are no more calls. However it ends, it ends: with
 * a status and a text, books in order, no descriptor and no memory lost, and
 * the other process able to say what happened.
 *
 * On the simulated GPU only.
 */
#include "tests/support/pools.h"

#include "device/device.h"
#include "device/sim/control.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_MAX 5000u
#define ERROR_UNKNOWN 999
#define ERROR_OUT_OF_MEMORY 2

/* What the parts are told; set before they are forked. */
static struct {
	unsigned int n; /* 0: nothing fails */
	int code;
	long fds_kept; /* by the driver, as a run without failures showed */
} fault;

static void (*fail_nth)(const char *symbol, unsigned int nth, int code);
static unsigned long (*calls)(const char *symbol);

static void load_controls(void)
{
	void *sim = dlopen(getenv("POOLSWITCH_SIM_LIBRARY"), RTLD_NOW);

	assert_non_null(sim);
	*(void **)&fail_nth = dlsym(sim, "simFailNth");
	*(void **)&calls = dlsym(sim, "simCalls");
	assert_non_null(fail_nth);
	assert_non_null(calls);
}

/* ---- what both do with a pool; the first failure ends it ---- */

/* A failure has a text and leaves the books in order. */
static enum ps_status look(struct ps_pool *pool, enum ps_status status)
{
	if (status == PS_OK)
		return PS_OK;
	assert_true(strlen(ps_error_detail()) > 8);
	assert_string_not_equal(ps_status_name(status), "PS_UNKNOWN");
	if (pool != NULL)
		th_assert_ok(ps_mem_check(pool));
	return status;
}

#define TRY(call)                                                              \
	do {                                                                   \
		enum ps_status try_status = look(pool, call);                  \
		if (try_status != PS_OK)                                       \
			return try_status;                                     \
	} while (0)

static enum ps_status allocate(struct ps_pool *pool)
{
	void *small, *large, *ordered;
	uint32_t word = 7;

	TRY(ps_mem_alloc(pool, 4096, &small));
	TRY(ps_mem_alloc(pool, 2 * TH_SEGMENT, &large));
	TRY(ps_mem_alloc_async(pool, 8192, NULL, &ordered));
	TRY(ps_mem_record_stream(pool, ordered, (void *)2));
	TRY(ps_mem_write(pool, large, &word, sizeof(word)));
	TRY(ps_mem_read(pool, &word, large, sizeof(word)));
	assert_int_equal(word, 7);
	TRY(ps_mem_free(pool, small));
	TRY(ps_mem_free_async(pool, large, (void *)2));
	TRY(ps_mem_free_async(pool, ordered, NULL));
	return PS_OK;
}

static enum ps_status use(struct ps_pool *pool, uint64_t first)
{
	uint64_t released;

	TRY(ps_insert_shared(pool, 4 * TH_SEGMENT, first * TH_SEGMENT,
			     PS_ANY_STREAM, 0));
	TRY(ps_insert_shared(pool, TH_SEGMENT, first * TH_SEGMENT,
			     PS_ANY_STREAM, PS_INSERT_ALIAS));
	TRY(allocate(pool));
	TRY(ps_mem_trim(pool, 0, &released));
	TRY(allocate(pool));
	TRY(ps_mem_set_free_mode(pool, PS_FREE_WAITS));
	TRY(allocate(pool));
	TRY(ps_clear_shared(pool));
	return PS_OK;
}

static enum ps_status control(const struct th_part *me, struct ps_pool **out)
{
	struct ps_pool_config *config = th_config(PS_SHARE_VMM);
	struct ps_pool *pool = NULL;
	uint32_t word = 9;
	enum ps_status status = look(NULL, ps_alloc_shared(config, out));

	ps_pool_config_free(config);
	if (status != PS_OK)
		return status;
	pool = *out;
	TRY(ps_pool_map(pool, 0, TH_SEGMENT));
	TRY(ps_mem_write(pool, ps_pool_pointer(pool, 0), &word, sizeof(word)));
	TRY(ps_send_shared(pool, me->link[0], 0, PS_TIMEOUT_DEFAULT));
	return use(pool, TH_PARAMETERS);
}

static enum ps_status work(const struct th_part *me, struct ps_pool **out)
{
	struct ps_pool *pool = NULL;
	uint32_t word = 0;

	TRY(ps_recv_shared(me->link[0], 0, PS_TIMEOUT_DEFAULT, out));
	pool = *out;
	TRY(ps_pool_map(pool, 0, 2 * TH_SEGMENT));
	TRY(ps_mem_read(pool, &word, ps_pool_pointer(pool, 0), sizeof(word)));
	assert_int_equal(word, 9);
	return use(pool, TH_PARAMETERS + 4);
}

/* ---- one process of the two ---- */

struct outcome {
	enum ps_status status;
	unsigned long calls;
	long fds_kept;
};

static void run_part(const struct th_part *me, bool is_rigged,
		     enum ps_status (*part)(const struct th_part *,
					    struct ps_pool **))
{
	struct outcome outcome = { 0 };
	struct ps_pool *pool = NULL;
	long before = (long)th_open_fds();

	load_controls();
	if (is_rigged && fault.n > 0)
		fail_nth(NULL, fault.n, fault.code);
	outcome.status = part(me, &pool);
	ps_pool_close(pool);
	outcome.calls = calls(NULL);
	outcome.fds_kept = (long)th_open_fds() - before;
	if (fault.n > 0)
		assert_true(outcome.fds_kept <= fault.fds_kept);
	assert_int_equal(write(me->test, &outcome, sizeof(outcome)),
			 sizeof(outcome));
}

static void run_controller(const struct th_part *me)
{
	run_part(me, false, control);
}

static void run_rigged_controller(const struct th_part *me)
{
	run_part(me, true, control);
}

static void run_worker(const struct th_part *me)
{
	run_part(me, false, work);
}

static void run_rigged_worker(const struct th_part *me)
{
	run_part(me, true, work);
}

/* ---- all runs ---- */

static struct outcome play(th_role *controller, th_role *worker, int of_worker)
{
	const struct th_cast cast = { controller, { worker, NULL }, 0 };
	struct outcome outcome[2];
	struct th_stage stage;

	th_stage_open(&stage, &cast);
	assert_int_equal(
		read(stage.controller_link, &outcome[0], sizeof(outcome[0])),
		sizeof(outcome[0]));
	assert_int_equal(
		read(stage.worker_link[0], &outcome[1], sizeof(outcome[1])),
		sizeof(outcome[1]));
	th_stage_close(&stage);
	return outcome[of_worker];
}

static void check_all_is_free(void *arg)
{
	uint64_t free_bytes, total;
	struct dv_device *device;

	(void)arg;
	th_assert_ok(dv_device_open(NULL, &device));
	th_assert_ok(dv_memory_info(device, &free_bytes, &total));
	assert_int_equal(free_bytes, total);
	dv_device_close(device);
}

/* Runs with n = 1, 2, ... until the rigged process makes fewer calls. */
static void play_until_clean(th_role *controller, th_role *worker,
			     int of_worker, int code)
{
	struct outcome outcome;
	unsigned int failed = 0;

	fault.n = 0;
	outcome = play(run_controller, run_worker, of_worker);
	assert_int_equal(outcome.status, PS_OK);
	fault.fds_kept = outcome.fds_kept;
	fault.code = code;
	do {
		fault.n++;
		outcome = play(controller, worker, of_worker);
		failed += outcome.status != PS_OK;
		assert_int_equal(th_wait(th_fork(check_all_is_free, NULL)), 0);
		assert_true(fault.n < N_MAX);
	} while (outcome.calls >= fault.n);
	assert_int_equal(outcome.status, PS_OK);
	assert_true(failed > fault.n / 4);
}

static void test_controller_any_call_unknown_error_ends_well(void **state)
{
	(void)state;
	play_until_clean(run_rigged_controller, run_worker, 0, ERROR_UNKNOWN);
}

static void test_controller_any_call_out_of_memory_ends_well(void **state)
{
	(void)state;
	play_until_clean(run_rigged_controller, run_worker, 0,
			 ERROR_OUT_OF_MEMORY);
}

static void test_worker_any_call_unknown_error_ends_well(void **state)
{
	(void)state;
	play_until_clean(run_controller, run_rigged_worker, 1, ERROR_UNKNOWN);
}

static void test_worker_any_call_out_of_memory_ends_well(void **state)
{
	(void)state;
	play_until_clean(run_controller, run_rigged_worker, 1,
			 ERROR_OUT_OF_MEMORY);
}

static const struct th_test tests[] = {
	TH_TEST(test_controller_any_call_unknown_error_ends_well),
	TH_TEST(test_controller_any_call_out_of_memory_ends_well),
	TH_TEST(test_worker_any_call_unknown_error_ends_well),
	TH_TEST(test_worker_any_call_out_of_memory_ends_well),
};

TH_MAIN("nth_failure", tests)
