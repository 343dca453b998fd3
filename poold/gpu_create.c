/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A pool's memory: made anew, or taken over from an agent that died.
 *
 * A mapping holds its memory by itself, so no handle is kept: unmapping a
 * segment whose descriptors are closed gives the memory back.
 */
#include "poold/gpu_parts.h"

#include "base/size.h"
#include "base/status.h"
#include "ipc/conn.h"
#include "ipc/layout.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* "All free memory" is what the driver reported a moment ago. When another
 * program takes some of it meanwhile, it is asked again. */
#define TRIES 3u

/* Descriptors that clients, the link and the log need besides. */
#define FDS_LEFT 64u

/* ---- segments ---- */

static enum ps_status export_and_map(struct pd_gpu *gpu, uint32_t n,
				     uint64_t handle, int *fd_out)
{
	int fd = -1;
	enum ps_status status = dv_segment_export(gpu->device, handle, &fd);

	if (status != PS_OK)
		return status;
	status = dv_window_map(gpu->device, pd_gpu_address(gpu, n),
			       gpu->segment_bytes, handle);
	if (status != PS_OK) {
		close(fd);
		return status;
	}
	*fd_out = fd;
	return PS_OK;
}

/* Asked once more when it fails: a handle that stays holds the memory. */
static enum ps_status release(struct pd_gpu *gpu, uint64_t handle)
{
	enum ps_status status = dv_segment_release(gpu->device, handle);

	return status == PS_OK ? PS_OK
			       : dv_segment_release(gpu->device, handle);
}

enum ps_status pd_gpu_make_segment(struct pd_gpu *gpu, uint32_t n, int *fd_out)
{
	enum ps_status status, released;
	uint64_t handle;
	int fd = -1;

	status = dv_segment_create(gpu->device, gpu->segment_bytes, &handle);
	if (status != PS_OK)
		return status;
	status = export_and_map(gpu, n, handle, &fd);
	released = release(gpu, handle);
	if (status != PS_OK)
		return status;
	if (released != PS_OK) {
		(void)dv_window_unmap(gpu->device, pd_gpu_address(gpu, n),
				      gpu->segment_bytes);
		close(fd);
		return released;
	}
	*fd_out = fd;
	return PS_OK;
}

static enum ps_status import_and_map(struct pd_gpu *gpu, uint32_t n)
{
	struct pd_gpu_segment *segment = &gpu->segment[n];
	enum ps_status status, released;
	uint64_t handle;

	status = dv_segment_import(gpu->device, segment->fd, &handle);
	if (status != PS_OK)
		return status;
	status = dv_window_map(gpu->device, pd_gpu_address(gpu, n),
			       gpu->segment_bytes, handle);
	segment->is_mapped = status == PS_OK;
	released = release(gpu, handle);
	return status != PS_OK ? status : released;
}

/* One call for each run of mapped segments; usually one for all. */
static enum ps_status set_access(struct pd_gpu *gpu)
{
	enum ps_status status = PS_OK;
	uint32_t first = 0;

	for (uint32_t i = 0; i <= gpu->segments && status == PS_OK; i++) {
		if (i < gpu->segments && gpu->segment[i].is_mapped)
			continue;
		if (i > first)
			status = dv_window_set_access(
				gpu->device, pd_gpu_address(gpu, first),
				(i - first) * gpu->segment_bytes, true);
		first = i + 1;
	}
	return status;
}

static enum ps_status make_books(struct pd_gpu *gpu, uint64_t segment_bytes,
				 uint32_t segments)
{
	gpu->segment = calloc(segments, sizeof(*gpu->segment));
	if (!gpu->segment)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for %" PRIu32 " segments",
			       segments);
	for (uint32_t i = 0; i < segments; i++) {
		gpu->segment[i].fd = -1;
		gpu->segment[i].new_fd = -1;
		gpu->segment[i].next = PD_NO_SEGMENT;
	}
	gpu->segment_bytes = segment_bytes;
	gpu->segments = segments;
	return PS_OK;
}

/* So that another try begins from nothing. */
static void undo(struct pd_gpu *gpu)
{
	for (uint32_t i = 0; i < gpu->segments; i++) {
		if (gpu->segment[i].is_mapped)
			(void)dv_window_unmap(gpu->device,
					      pd_gpu_address(gpu, i),
					      gpu->segment_bytes);
		pd_gpu_drop_fd(gpu, i);
	}
	if (gpu->window > 0)
		(void)dv_window_free(gpu->device, gpu->base, gpu->window);
	free(gpu->segment);
	gpu->segment = NULL;
	gpu->segments = 0;
	gpu->window = 0;
}

/* ---- the window ---- */

static enum ps_status try_window(struct pd_gpu *gpu, uint64_t bytes,
				 uint64_t wanted)
{
	enum ps_status status =
		dv_window_reserve(gpu->device, bytes, wanted, &gpu->base);

	if (status == PS_OK)
		gpu->window = bytes;
	/* Too long for the addresses that there are is "no memory". */
	return status == PS_DEVICE_MEMORY ? PS_WINDOW_TAKEN : status;
}

/* Clients must find the same addresses free, so it lies where they are likely
 * to, or does with room for fewer aliases. */
static enum ps_status reserve_window(struct pd_gpu *gpu)
{
	uint64_t pool = gpu->segments * gpu->segment_bytes;
	enum ps_status status = PS_WINDOW_TAKEN;

	for (uint32_t n = IP_WINDOW_POOLS; n > 0; n /= 2)
		for (uint32_t i = 0; i < IP_WINDOW_PLACES; i++) {
			status = try_window(gpu, ip_window_bytes(pool, n),
					    ip_window_place(i));
			if (status != PS_WINDOW_TAKEN)
				return status;
		}
	return bs_fail_prefix(
		status, "no %" PRIu64 " bytes of addresses for the pool", pool);
}

/* The agent's own addresses need not be the clients'. */
static enum ps_status reserve_adopted(struct pd_gpu *gpu,
				      const struct pd_pool_record *pool)
{
	enum ps_status status =
		try_window(gpu, pool->window_bytes, pool->window_base);

	if (status == PS_WINDOW_TAKEN)
		status = try_window(gpu, gpu->segments * gpu->segment_bytes, 0);
	return status;
}

/* ---- a new pool ---- */

/* The parameter region's size may be a share of a pool whose size is not
 * known before it is planned. */
static enum ps_status plan_parameter(const struct pd_gpu_plan *plan,
				     const struct ip_layout *layout,
				     struct ip_wish *wish)
{
	enum ps_status status;

	if (!plan->parameter)
		return PS_OK;
	status = bs_size_parse(plan->parameter,
			       layout->segments * layout->segment_size,
			       &wish->parameter);
	wish->has_parameter = status == PS_OK;
	return status == PS_OK ? PS_OK
			       : bs_fail_prefix(status, "parameter region");
}

static enum ps_status plan_layout(struct pd_gpu *gpu,
				  const struct pd_gpu_plan *plan,
				  struct ip_layout *layout_out)
{
	struct ip_wish wish = {
		.size = plan->size,
		.headroom = plan->headroom,
		.has_headroom = plan->headroom != UINT64_MAX,
		.has_parameter = plan->parameter != NULL,
		.segment_size = plan->segment,
		.mode = PS_SHARE_VMM,
	};
	uint64_t free_bytes, granularity;
	enum ps_status status = pd_gpu_ask_free(gpu, &free_bytes);

	if (status == PS_OK)
		status = dv_granularity(gpu->device, &granularity);
	/* The models' counters lie outside of the pool. */
	if (status == PS_OK && plan->size == 0 && free_bytes > IP_BOARD_BYTES)
		free_bytes -= IP_BOARD_BYTES;
	if (status == PS_OK)
		status = ip_layout_plan(&wish, free_bytes, granularity,
					layout_out);
	if (status == PS_OK)
		status = plan_parameter(plan, layout_out, &wish);
	if (status == PS_OK)
		status = ip_layout_plan(&wish, free_bytes, granularity,
					layout_out);
	return status;
}

static enum ps_status check_fds(const struct ip_layout *layout)
{
	uint64_t room, limit;
	enum ps_status status = ip_fd_room(&room, &limit);

	if (status != PS_OK || room >= layout->segments + FDS_LEFT)
		return status;
	return bs_fail(PS_FD_LIMIT,
		       "a pool of %" PRIu32 " segments needs a descriptor "
		       "each and %u besides; the limit of %" PRIu64
		       " open files leaves %" PRIu64 ": raise it (ulimit -n, "
		       "LimitNOFILE) or choose larger segments",
		       layout->segments, FDS_LEFT, limit, room);
}

static enum ps_status make_segments(struct pd_gpu *gpu)
{
	for (uint32_t i = 0; i < gpu->segments; i++) {
		struct pd_gpu_segment *segment = &gpu->segment[i];
		enum ps_status status =
			pd_gpu_make_segment(gpu, i, &segment->fd);

		if (status != PS_OK)
			return bs_fail_prefix(status,
					      "segment %" PRIu32 " of %" PRIu32,
					      i, gpu->segments);
		segment->is_mapped = true;
	}
	return set_access(gpu);
}

static enum ps_status create(struct pd_gpu *gpu, const struct pd_gpu_plan *plan,
			     struct ip_layout *layout_out)
{
	enum ps_status status = plan_layout(gpu, plan, layout_out);
	uint64_t left;

	if (status == PS_OK)
		status = check_fds(layout_out);
	if (status == PS_OK)
		status = make_books(gpu, layout_out->segment_size,
				    layout_out->segments);
	if (status == PS_OK)
		status = reserve_window(gpu);
	if (status == PS_OK)
		status = make_segments(gpu);
	if (status == PS_OK)
		status = pd_gpu_ask_free(gpu, &left);
	if (status != PS_OK)
		undo(gpu);
	return status;
}

static enum ps_status create_or_retry(struct pd_gpu *gpu,
				      const struct pd_gpu_plan *plan,
				      struct ip_layout *layout_out)
{
	enum ps_status status = PS_DEVICE_MEMORY;

	for (unsigned int i = 0; i < TRIES && status == PS_DEVICE_MEMORY; i++) {
		status = create(gpu, plan, layout_out);
		if (plan->size > 0)
			return status;
	}
	if (status == PS_DEVICE_MEMORY)
		return bs_fail_prefix(
			status, "tried %u times to take what was free", TRIES);
	return status;
}

static enum ps_status fill_random(void *bytes, size_t size, const char *what)
{
	ssize_t got;

	do {
		got = getrandom(bytes, size, 0);
	} while (got < 0 && errno == EINTR);
	return got == (ssize_t)size
		       ? PS_OK
		       : bs_fail_errno("no random number for the pool's %s",
				       what);
}

static enum ps_status name_pool(struct pd_pool_record *pool)
{
	enum ps_status status = fill_random(pool->id, sizeof(pool->id), "id");

	if (status == PS_OK)
		status = fill_random(pool->key, sizeof(pool->key), "key");
	pool->id[0] |= 1; /* all zeros would stand for no pool */
	return status;
}

enum ps_status pd_gpu_create(struct pd_gpu *gpu, const struct pd_gpu_plan *plan,
			     struct pd_pool_record *pool_out)
{
	struct pd_pool_record pool = { .clients = plan->clients };
	enum ps_status status = name_pool(&pool);
	struct ip_layout layout;

	assert(gpu->segments == 0);
	if (status == PS_OK)
		status = create_or_retry(gpu, plan, &layout);
	if (status != PS_OK)
		return status;
	strncpy(pool.gpu, pd_gpu_uuid(gpu), sizeof(pool.gpu) - 1);
	pool.window_base = gpu->base;
	pool.window_bytes = gpu->window;
	pool.segment_bytes = gpu->segment_bytes;
	pool.parameter_bytes = layout.parameter_size;
	pool.segments = gpu->segments;
	*pool_out = pool;
	return PS_OK;
}

/* ---- an inherited pool ---- */

static void close_all(const int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static enum ps_status import_segments(struct pd_gpu *gpu)
{
	for (uint32_t i = 0; i < gpu->segments; i++) {
		enum ps_status status = PS_OK;

		if (gpu->segment[i].fd >= 0)
			status = import_and_map(gpu, i);
		if (status != PS_OK)
			return bs_fail_prefix(
				status, "segment %" PRIu32 " of the pool", i);
	}
	return set_access(gpu);
}

enum ps_status pd_gpu_adopt(struct pd_gpu *gpu,
			    const struct pd_pool_record *pool, const int *fds)
{
	enum ps_status status;
	uint64_t left;

	assert(gpu->segments == 0);
	status = make_books(gpu, pool->segment_bytes, pool->segments);
	if (status != PS_OK) {
		close_all(fds, pool->segments);
		return status;
	}
	for (uint32_t i = 0; i < gpu->segments; i++)
		gpu->segment[i].fd = fds[i];
	if (strcmp(pool->gpu, pd_gpu_uuid(gpu)) != 0)
		status = bs_fail(PS_WRONG_GPU,
				 "the pool is of %s and this is %s", pool->gpu,
				 pd_gpu_uuid(gpu));
	if (status == PS_OK)
		status = reserve_adopted(gpu, pool);
	if (status == PS_OK)
		status = import_segments(gpu);
	if (status == PS_OK)
		status = pd_gpu_ask_free(gpu, &left);
	if (status != PS_OK)
		undo(gpu);
	return status;
}
