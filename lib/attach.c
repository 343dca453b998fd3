/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* ps_attach() and ps_detach(): a pool that poolswitchd keeps. */
#include "lib/lease.h"

#include "base/status.h"
#include "lib/process.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MPS_FOLDER "/tmp/nvidia-mps"

/* ---- configuration ---- */

enum ps_status ps_attach_config_new(struct ps_attach_config **config_out)
{
	struct ps_attach_config *config = calloc(1, sizeof(*config));

	if (config == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a "
					       "configuration");
	*config_out = config;
	return PS_OK;
}

void ps_attach_config_free(struct ps_attach_config *config)
{
	free(config);
}

enum ps_status ps_attach_config_set_socket(struct ps_attach_config *config,
					   const char *path)
{
	enum ps_status status = PS_OK;

	if (path != NULL)
		status = ip_paths_find(path, &config->paths);
	if (status == PS_OK)
		config->has_paths = path != NULL;
	return status;
}

static bool is_printable(const char *name)
{
	for (; *name != '\0'; name++)
		if (*name < ' ' || *name > '~')
			return false;
	return true;
}

enum ps_status ps_attach_config_set_name(struct ps_attach_config *config,
					 const char *name)
{
	if (name == NULL)
		name = "";
	if (strlen(name) >= IP_NAME_BYTES || !is_printable(name))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a name may have %u bytes, all printable ASCII; "
			       "this one has %zu",
			       IP_NAME_BYTES - 1, strlen(name));
	memset(config->attach.name, 0, IP_NAME_BYTES);
	memcpy(config->attach.name, name, strlen(name));
	return PS_OK;
}

void ps_attach_config_set_reservation(struct ps_attach_config *config,
				      uint64_t bytes)
{
	config->attach.reservation = bytes;
}

void ps_attach_config_set_limit(struct ps_attach_config *config, uint64_t bytes)
{
	config->attach.limit = bytes;
}

void ps_attach_config_set_writable(struct ps_attach_config *config,
				   bool writable)
{
	config->attach.flags = writable ? IP_ATTACH_WRITE : 0;
}

/* What cannot be printed in the program's name is left out. */
static void name_program(char name[IP_NAME_BYTES])
{
	const char *from = program_invocation_short_name;
	size_t n = 0;

	for (; *from != '\0' && n < IP_NAME_BYTES - 1; from++)
		if (*from >= ' ' && *from <= '~')
			name[n++] = *from;
}

/*
 * Whether an MPS daemon would take this process's work. Where one listens the
 * driver goes through it; a wrong yes only makes the pool's owner more careful.
 */
static bool is_under_mps(void)
{
	const char *folder = getenv("CUDA_MPS_PIPE_DIRECTORY");
	char path[512];

	if (folder == NULL || folder[0] == '\0')
		folder = MPS_FOLDER;
	snprintf(path, sizeof(path), "%s/control", folder);
	return access(path, F_OK) == 0;
}

/* ---- the lease ---- */

static enum ps_status configure(struct lb_lease *lease,
				const struct ps_attach_config *config)
{
	enum ps_status status = PS_OK;

	if (config != NULL)
		lease->attach = config->attach;
	if (config != NULL && config->has_paths)
		lease->paths = config->paths;
	else
		status = ip_paths_find(NULL, &lease->paths);
	if (lease->attach.name[0] == '\0')
		name_program(lease->attach.name);
	if (is_under_mps())
		lease->attach.flags |= IP_ATTACH_MPS;
	lease->attach.contexts = 1;
	return status;
}

static enum ps_status lease_new(const struct ps_attach_config *config,
				struct lb_lease **lease_out)
{
	struct lb_lease *lease = calloc(1, sizeof(*lease));
	enum ps_status status;

	if (lease == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a lease");
	bs_lock_init(&lease->requests, BS_RANK_LEASE);
	lease->socket = -1;
	lease->events = -1;
	lease->is_quiet = true;
	lease->batch = 1;
	atomic_store(&lease->events_next, -1);
	lease->wake = eventfd(0, EFD_CLOEXEC);
	if (lease->wake < 0)
		status = bs_fail_errno("no eventfd for the service thread");
	else
		status = configure(lease, config);
	if (status != PS_OK) {
		lb_lease_abandon(lease);
		return status;
	}
	*lease_out = lease;
	return PS_OK;
}

static void close_one(int fd)
{
	if (fd >= 0)
		close(fd);
}

void lb_lease_abandon(struct lb_lease *lease)
{
	if (lease == NULL)
		return;
	close_one(lease->socket);
	close_one(lease->events);
	close_one(atomic_load(&lease->events_next));
	close_one(lease->wake);
	bs_lock_done(&lease->requests);
	if (lb_model_ops_of(lease) != NULL)
		lb_model_ops_of(lease)->free(lease->models);
	lb_ticket_forget(lease);
	free(lease->open);
	free(lease->journal);
	free(lease->hold);
	free(lease);
}

void lb_lease_quiet(struct lb_lease *lease, enum ps_status status)
{
	if (lease != NULL)
		lease->is_quiet = status == PS_OK || status == PS_DEVICE_LOST;
}

static enum ps_status leave_once(struct lb_lease *lease, void *arg)
{
	(void)arg;
	return ip_client_leave(&lease->client);
}

/* Before there are books the connection that there is must do. */
static void leave(struct lb_lease *lease)
{
	bs_lock_take(&lease->requests);
	if (lease->journal != NULL && lease->hold != NULL &&
	    lease->open != NULL) {
		memset(lease->hold, LB_HOLD_NONE, lease->welcome.segment_count);
		memset(lease->open, LB_OPEN_NONE, lease->welcome.segment_count);
		(void)lb_session_do(lease, leave_once, NULL);
	} else {
		(void)leave_once(lease, NULL);
	}
	bs_lock_drop(&lease->requests);
}

/* What may still be used is not given back: it is the daemon's again when
 * this process ends. */
void lb_lease_free(struct lb_lease *lease, bool is_unmapped)
{
	if (lease == NULL)
		return;
	if (is_unmapped && lease->is_quiet)
		leave(lease);
	lb_lease_abandon(lease);
}

/* ---- the pool ---- */

static enum ps_status open_gpu(const struct ip_welcome *welcome,
			       struct ps_pool **pool_out)
{
	struct dv_device *device;
	char gpu[IP_GPU_BYTES + 1] = "";
	enum ps_status status;

	memcpy(gpu, welcome->gpu, IP_GPU_BYTES);
	status = dv_device_open(gpu, &device);
	if (status == PS_NO_DEVICE)
		return bs_fail_prefix(PS_WRONG_GPU,
				      "the daemon's pool is on %s, which is "
				      "not visible to this process",
				      gpu);
	return status == PS_OK ? lb_pool_new(device, pool_out) : status;
}

/* The computation region is one range, of which some segments are inserted. */
static enum ps_status make_range(struct ps_pool *pool)
{
	uint32_t first = pool->lease->first;

	pool->ranges = calloc(1, sizeof(*pool->ranges));
	if (pool->ranges == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a range");
	pool->ranges[0] = (struct lb_range){
		.slot = first,
		.segment = first,
		.count = pool->layout.segments - first,
		.home = AL_STREAM_NONE,
	};
	pool->range_count = 1;
	pool->range_room = 1;
	return PS_OK;
}

static enum ps_status shape(struct ps_pool *pool, struct lb_lease *lease)
{
	const struct ip_welcome *welcome = &lease->welcome;
	const struct ip_layout layout = {
		.mode = PS_SHARE_VMM,
		.segment_size = welcome->segment_bytes,
		.segments = welcome->segment_count,
		.parameter_size = welcome->parameter_bytes,
	};
	uint64_t limit = welcome->limit / welcome->segment_bytes;
	enum ps_status status =
		lb_pool_shape(pool, &layout, welcome->window_bytes);

	if (pool->slots / 2 >= layout.segments)
		pool->slots /= 2;
	memcpy(pool->id, welcome->pool_id, sizeof(pool->id));
	lease->pool = pool;
	lease->first =
		(uint32_t)(welcome->parameter_bytes / welcome->segment_bytes);
	lease->limit = layout.segments - lease->first;
	if (limit < lease->limit)
		lease->limit = (uint32_t)limit;
	lease->hold = calloc(layout.segments, 1);
	lease->journal = calloc(layout.segments, 1);
	lease->open = calloc(layout.segments, 1);
	if (lease->hold == NULL || lease->journal == NULL ||
	    lease->open == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for the books "
					       "of a lease");
	return status;
}

/* From here on the pool has the lease. */
static enum ps_status build(struct ps_pool *pool, struct lb_lease *lease)
{
	enum ps_status status;

	pool->lease = lease;
	status = shape(pool, lease);
	if (status == PS_OK)
		status = make_range(pool);
	if (status == PS_OK)
		status = lb_vmm_attach(pool, lease->welcome.window_base);
	if (status == PS_OK)
		status = lb_pool_start(pool);
	if (status == PS_OK)
		status = lb_service_start(lease);
	return status;
}

static enum ps_status open_pool(struct lb_lease *lease,
				struct ps_pool **pool_out)
{
	struct ps_pool *pool;
	enum ps_status status = open_gpu(&lease->welcome, &pool);

	if (status != PS_OK) {
		lb_lease_free(lease, true);
		return status;
	}
	status = build(pool, lease);
	if (status != PS_OK) {
		lb_pool_discard(pool);
		return status;
	}
	*pool_out = pool;
	return PS_OK;
}

enum ps_status ps_attach(const struct ps_attach_config *config,
			 struct ps_pool **pool_out)
{
	struct lb_lease *lease = NULL;
	struct ps_pool *pool;
	enum ps_status status = lb_process_start();

	if (status == PS_OK)
		status = lease_new(config, &lease);
	if (status != PS_OK)
		return status;
	bs_lock_take(&lease->requests);
	status = lb_session_open(lease);
	bs_lock_drop(&lease->requests);
	if (status != PS_OK) {
		lb_lease_abandon(lease);
		return status;
	}
	status = open_pool(lease, &pool);
	if (status != PS_OK)
		return status;
	lb_process_add(pool);
	*pool_out = pool;
	return PS_OK;
}

/* A GPU that is lost runs nothing any more. */
enum ps_status ps_detach(struct ps_pool *pool)
{
	struct ps_pool *p = lb_enter(pool);
	enum ps_status status;

	if (p == NULL)
		return lb_refuse(pool);
	if (p->lease == NULL)
		return bs_fail(PS_UNSUPPORTED,
			       "this pool was not attached to poolswitchd: "
			       "close it with ps_pool_close()");
	status = al_clear(p->al);
	if (status == PS_OK)
		status = dv_synchronize(p->device);
	if (status != PS_OK && status != PS_DEVICE_LOST)
		return status;
	lb_process_remove(p);
	lb_lease_quiet(p->lease, status);
	lb_pool_discard(p);
	return PS_OK;
}
