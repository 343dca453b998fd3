/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What only the simulated GPU can be made to do: be two GPUs, fall short of
 * memory at a given moment, and fail for good. */
#include "tests/support/pools.h"

#include "device/device.h"
#include "device/sim/control.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static void *control(const char *name)
{
	void *sim = dlopen(getenv("POOLSWITCH_SIM_LIBRARY"), RTLD_NOW);
	void *symbol = sim == NULL ? NULL : dlsym(sim, name);

	assert_non_null(symbol);
	return symbol;
}

static void fail_nth(const char *symbol, unsigned int nth, int code)
{
	void (*set)(const char *, unsigned int, int);

	*(void **)&set = control("simFailNth");
	set(symbol, nth, code);
}

/* ---- two GPUs ---- */

static void offer(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();

	th_assert_status(
		ps_send_shared(pool, me->link[0], 0, PS_TIMEOUT_DEFAULT),
		PS_WRONG_GPU);
	ps_pool_close(pool);
}

static void receive_on_another(const struct th_part *me)
{
	char other[256];
	struct ps_pool *pool;

	snprintf(other, sizeof(other), "%s/other",
		 getenv("POOLSWITCH_SIM_DIR"));
	setenv("POOLSWITCH_SIM_DIR", other, 1);
	th_assert_status(
		ps_recv_shared(me->link[0], 0, PS_TIMEOUT_DEFAULT, &pool),
		PS_WRONG_GPU);
}

static void test_receive_on_another_gpu_is_refused(void **state)
{
	(void)state;
	th_play(offer, receive_on_another);
}

/* ---- memory that somebody else takes meanwhile ---- */

static void reserve_after_one_failure(const struct th_part *me)
{
	struct ps_pool *pool;

	(void)me;
	fail_nth("cuMemCreate", 20, 2);
	th_assert_ok(ps_alloc_shared(NULL, &pool));
	ps_pool_close(pool);
}

static void test_reserve_all_tries_again_when_memory_was_taken(void **state)
{
	(void)state;
	th_play(reserve_after_one_failure, NULL);
}

static void reserve_size_after_one_failure(const struct th_part *me)
{
	struct ps_pool_config *config = th_config(PS_SHARE_VMM);
	struct ps_pool *pool;

	(void)me;
	fail_nth("cuMemCreate", 4, 2);
	th_assert_status(ps_alloc_shared(config, &pool), PS_DEVICE_MEMORY);
	th_assert_detail("segment 3 of 16");
	th_assert_ok(ps_alloc_shared(config, &pool));
	ps_pool_close(pool);
	ps_pool_config_free(config);
}

static void test_reserve_of_a_size_says_how_far_it_came(void **state)
{
	(void)state;
	th_play(reserve_size_after_one_failure, NULL);
}

static void reserve_in_vain(const struct th_part *me)
{
	struct ps_pool_config *config = th_config(PS_SHARE_VMM);
	uint64_t free_bytes, total;
	struct dv_device *device;
	struct ps_pool *pool;

	(void)me;
	th_assert_ok(dv_device_open(NULL, &device));
	fail_nth("cuMemCreate", 4, 2);
	th_assert_status(ps_alloc_shared(config, &pool), PS_DEVICE_MEMORY);
	th_assert_ok(dv_memory_info(device, &free_bytes, &total));
	assert_int_equal(free_bytes, total);
	dv_device_close(device);
	ps_pool_config_free(config);
}

static void test_reserve_that_fails_gives_all_back(void **state)
{
	(void)state;
	th_play(reserve_in_vain, NULL);
}

/* ---- descriptors made when they are sent ---- */

static void send_in_vain(const struct th_part *me)
{
	const struct rlimit few = { 100, 100 };
	struct ps_pool *pool;
	size_t before;

	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	pool = th_reserve();
	before = th_open_fds();
	fail_nth("cuMemExportToShareableHandle", 3, 999);
	th_assert_status(
		ps_send_shared(pool, me->link[0], 0, PS_TIMEOUT_DEFAULT),
		PS_DRIVER);
	th_assert_detail("segment 2");
	assert_int_equal(th_open_fds(), before);
	ps_pool_close(pool);
}

static void receive_in_vain(const struct th_part *me)
{
	struct ps_pool *pool;

	th_assert_status(
		ps_recv_shared(me->link[0], 0, PS_TIMEOUT_DEFAULT, &pool),
		PS_REFUSED);
	th_assert_detail("PS_DRIVER");
}

static void test_send_that_fails_leaves_no_descriptor(void **state)
{
	(void)state;
	th_play(send_in_vain, receive_in_vain);
}

/* ---- a GPU that is lost ---- */

static void lose_the_gpu(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve();
	void (*lose)(void);
	uint32_t word = 0;
	void *ptr;

	(void)me;
	th_insert(pool, TH_PARAMETERS, 4);
	ptr = th_alloc(pool, TH_SEGMENT);
	*(void **)&lose = control("simLoseDevice");
	lose();
	th_assert_status(ps_mem_write(pool, ptr, &word, sizeof(word)),
			 PS_DEVICE_LOST);
	th_assert_status(ps_mem_alloc(pool, 2 * TH_SEGMENT, &ptr),
			 PS_DEVICE_LOST);
	th_assert_status(ps_pool_map(pool, 0, 0), PS_DEVICE_LOST);
	th_assert_ok(ps_mem_check(pool));
	ps_pool_close(pool);
	*(void **)&lose = control("simReset");
	lose();
}

static void test_lost_gpu_is_said_and_the_pool_closes(void **state)
{
	(void)state;
	th_play(lose_the_gpu, NULL);
}

static const struct th_test tests[] = {
	TH_TEST(test_receive_on_another_gpu_is_refused),
	TH_TEST(test_reserve_all_tries_again_when_memory_was_taken),
	TH_TEST(test_reserve_of_a_size_says_how_far_it_came),
	TH_TEST(test_reserve_that_fails_gives_all_back),
	TH_TEST(test_send_that_fails_leaves_no_descriptor),
	TH_TEST(test_lost_gpu_is_said_and_the_pool_closes),
};

TH_MAIN("sim_faults", tests)
