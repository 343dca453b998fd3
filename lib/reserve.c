/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* ps_alloc_shared(): one pool reserved on one GPU. */
#include "lib/pool.h"

#include "base/status.h"
#include "lib/process.h"

/* "All free memory" is what the driver reported a moment ago. When another
 * program takes some of it meanwhile, it is asked again. */
#define TRIES 3u

static bool takes_all(const struct ps_pool_config *config)
{
	return lb_config_wish(config)->size == 0;
}

static enum ps_status create(struct ps_pool *pool,
			     const struct ps_pool_config *config)
{
	uint64_t free_bytes, total, granularity;
	struct ip_layout layout;
	enum ps_status status;

	status = dv_memory_info(pool->device, &free_bytes, &total);
	if (status == PS_OK)
		status = dv_granularity(pool->device, &granularity);
	if (status == PS_OK)
		status = ip_layout_plan(lb_config_wish(config), free_bytes,
					granularity, &layout);
	if (status == PS_OK)
		status = lb_pool_shape(pool, &layout, 0);
	if (status != PS_OK)
		return status;
	return lb_is_legacy(pool) ? lb_legacy_create(pool)
				  : lb_vmm_create(pool);
}

static enum ps_status create_or_retry(struct ps_pool *pool,
				      const struct ps_pool_config *config)
{
	enum ps_status status = PS_DEVICE_MEMORY;

	for (unsigned int i = 0; i < TRIES && status == PS_DEVICE_MEMORY; i++) {
		status = create(pool, config);
		if (!takes_all(config))
			return status;
	}
	if (status == PS_DEVICE_MEMORY)
		return bs_fail_prefix(
			status, "tried %u times to take what was free", TRIES);
	return status;
}

static enum ps_status reserve(struct ps_pool *pool,
			      const struct ps_pool_config *config)
{
	enum ps_status status;

	pool->reserved_here = true;
	status = ip_claim_take(dv_device_uuid(pool->device), &pool->claim);
	if (status == PS_OK)
		status = create_or_retry(pool, config);
	if (status == PS_OK)
		status = lb_pool_start(pool);
	return status;
}

enum ps_status ps_alloc_shared(const struct ps_pool_config *config,
			       struct ps_pool **pool_out)
{
	struct dv_device *device;
	struct ps_pool *pool;
	enum ps_status status = lb_process_start();

	if (status == PS_OK)
		status = dv_device_open(config == NULL ? NULL : config->gpu,
					&device);
	if (status == PS_OK)
		status = lb_pool_new(device, &pool);
	if (status != PS_OK)
		return status;
	status = reserve(pool, config);
	if (status != PS_OK) {
		lb_pool_discard(pool);
		return status;
	}
	lb_process_add(pool);
	*pool_out = pool;
	return PS_OK;
}
