/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How much memory there is: what this process may have of the pool, and what
 * is left of that. A program that sizes itself by the GPU would take what is
 * others'.
 */
#include "preload/hooks.h"
#include "preload/policy.h"
#include "preload/state.h"

CUresult cuMemGetInfo_v2(size_t *available, size_t *total)
{
	struct ps_pool *pool = NULL;
	uint64_t left, limit;
	CUresult result;
	PL_GUARD();

	if (available == NULL || total == NULL ||
	    pl_course(&pool, &result) != PL_SERVE ||
	    ps_mem_get_info(pool, &left, &limit) != PS_OK)
		return pl_driver()->cuMemGetInfo_v2(available, total);
	*available = left;
	*total = limit;
	return CUDA_SUCCESS;
}

/* Asked before there is a context: attaching would start one. */
static bool knows_quota(uint64_t *quota_out)
{
	const struct pl_policy *policy = pl_policy();
	int count = 0;

	if (policy->quota == 0 || policy->passes ||
	    pl_driver()->cuDeviceGetCount(&count) != CUDA_SUCCESS || count != 1)
		return false;
	*quota_out = policy->quota;
	return true;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	CUresult result = pl_driver()->cuDeviceTotalMem_v2(bytes, device);
	struct ps_pool *pool = pl_pool();
	uint64_t left, limit = 0;
	bool is_known;
	PL_GUARD();

	if (result != CUDA_SUCCESS)
		return result;
	if (pool == NULL)
		is_known = knows_quota(&limit);
	else
		is_known = pl_is_pool_device(device) &&
			   ps_mem_get_info(pool, &left, &limit) == PS_OK;
	if (is_known && limit < *bytes)
		*bytes = limit;
	return CUDA_SUCCESS;
}
