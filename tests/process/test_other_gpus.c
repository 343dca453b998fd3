/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Another GPU of the process is let into the pool. The simulated driver shows
 * two; all memory lies on the first. */
#include "tests/support/pretend_daemon.h"

#include "tests/support/gpu.h"
#include "tests/support/sim.h"

#include <stdlib.h>

#define WHOLE TH_SEGMENT
#define PEER 1
#define FOREIGN 12u

static unsigned long long access_of(const struct th_gpu *gpu, const void *at)
{
	const CUmemLocation location = { CU_MEM_LOCATION_TYPE_DEVICE, PEER };
	unsigned long long flags = 99;

	th_cu(gpu->driver->cuMemGetAccess(&flags, &location,
					  (CUdeviceptr)(uintptr_t)at));
	return flags;
}

static void allow(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	const struct th_gpu *gpu = th_gpu_open();
	struct ps_ticket ticket = th_pretend_ticket(FOREIGN, 1, 0, WHOLE);
	char *before = th_alloc(pool, 2 * WHOLE), *after;
	void *opened;

	assert_int_equal(access_of(gpu, before), CU_MEM_ACCESS_FLAGS_PROT_NONE);
	th_assert_ok(ps_pool_allow_peer(pool, PEER));
	th_assert_ok(ps_pool_allow_peer(pool, PEER));
	after = th_alloc(pool, 2 * WHOLE);
	th_assert_ok(ps_ticket_open(pool, &ticket, &opened));
	assert_int_equal(access_of(gpu, before + WHOLE),
			 CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	assert_int_equal(access_of(gpu, after + WHOLE),
			 CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	assert_int_equal(access_of(gpu, opened),
			 CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	th_put(pool, before, 1);
	ps_pool_close(pool);
}

static void test_peer_allowed_reaches_old_and_new_memory(void **state)
{
	(void)state;
	th_pretend_play(allow);
}

static void allow_parameters(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	const struct th_gpu *gpu = th_gpu_open();
	void *at = ps_pool_pointer(pool, 0);
	void *block = th_alloc(pool, WHOLE);

	th_assert_ok(ps_pool_map(pool, 0, 0));
	th_assert_ok(ps_pool_allow_peer(pool, PEER));
	assert_int_equal(access_of(gpu, at), CU_MEM_ACCESS_FLAGS_PROT_READ);
	assert_int_equal(access_of(gpu, block),
			 CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	(void)th_get(pool, at);
	ps_pool_close(pool);
}

static void test_peer_may_not_write_what_is_read_only(void **state)
{
	(void)state;
	th_pretend_play(allow_parameters);
}

static struct ps_model *use(struct ps_pool *pool, const char *name,
			    void **at_out)
{
	struct ps_model_info info = { .struct_size = sizeof(info) };
	struct ps_model *model = NULL;

	th_assert_ok(ps_model_attach(pool, name, NULL, &model));
	th_assert_ok(ps_model_use(model, PS_PRIORITY_DEFAULT, 0));
	th_assert_ok(ps_model_get_info(model, &info));
	*at_out = info.address;
	return model;
}

static void allow_models(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	const struct th_gpu *gpu = th_gpu_open();
	void *before, *after;

	(void)use(pool, "alpha", &before);
	assert_int_equal(access_of(gpu, before), CU_MEM_ACCESS_FLAGS_PROT_NONE);
	th_assert_ok(ps_pool_allow_peer(pool, PEER));
	(void)use(pool, "beta/v2", &after);
	assert_int_equal(access_of(gpu, before), CU_MEM_ACCESS_FLAGS_PROT_READ);
	assert_int_equal(access_of(gpu, after), CU_MEM_ACCESS_FLAGS_PROT_READ);
	ps_pool_close(pool);
}

static void test_peer_may_read_models(void **state)
{
	(void)state;
	th_pretend_play(allow_models);
}

static void allow_nobody(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);

	th_assert_status(ps_pool_allow_peer(pool, 0), PS_INVALID_ARGUMENT);
	th_assert_status(ps_pool_allow_peer(pool, -1), PS_INVALID_ARGUMENT);
	th_assert_status(ps_pool_allow_peer(pool, 2), PS_INVALID_ARGUMENT);
	th_sim_fail_nth("cuDeviceCanAccessPeer", 1, 999);
	th_assert_status(ps_pool_allow_peer(pool, PEER), PS_DRIVER);
	th_assert_ok(ps_mem_free(pool, th_alloc(pool, WHOLE)));
	ps_pool_close(pool);
}

static void test_peer_that_is_none_is_refused(void **state)
{
	(void)state;
	th_pretend_play(allow_nobody);
}

static void fail_to_allow(const struct th_part *me)
{
	struct ps_pool *pool = th_pretend_attach(me);
	const struct th_gpu *gpu = th_gpu_open();
	void *block = th_alloc(pool, WHOLE), *later;

	th_sim_fail_nth("cuMemSetAccess", 1, 999);
	th_assert_status(ps_pool_allow_peer(pool, PEER), PS_DRIVER);
	later = th_alloc(pool, 2 * WHOLE);
	assert_int_equal(access_of(gpu, later), CU_MEM_ACCESS_FLAGS_PROT_NONE);
	th_assert_ok(ps_pool_allow_peer(pool, PEER));
	assert_int_equal(access_of(gpu, block),
			 CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	ps_pool_close(pool);
}

static void test_peer_that_the_driver_refuses_is_not_kept(void **state)
{
	(void)state;
	th_pretend_play(fail_to_allow);
}

static void allow_legacy(const struct th_part *me)
{
	struct ps_pool *pool = th_reserve_mode(PS_SHARE_LEGACY_IPC);

	(void)me;
	th_assert_status(ps_pool_allow_peer(pool, PEER), PS_UNSUPPORTED);
	ps_pool_close(pool);
}

static void test_peer_of_a_legacy_pool_is_unsupported(void **state)
{
	(void)state;
	th_play(allow_legacy, NULL);
}

static const struct th_test tests[] = {
	TH_TEST(test_peer_allowed_reaches_old_and_new_memory),
	TH_TEST(test_peer_may_read_models),
	TH_TEST(test_peer_may_not_write_what_is_read_only),
	TH_TEST(test_peer_that_is_none_is_refused),
	TH_TEST(test_peer_that_the_driver_refuses_is_not_kept),
	TH_TEST(test_peer_of_a_legacy_pool_is_unsupported),
};

int main(int argc, char **argv)
{
	setenv("POOLSWITCH_SIM_DEVICES", "2", 1);
	return th_main("peer", tests, sizeof(tests) / sizeof(tests[0]), NULL,
		       argc, argv);
}
