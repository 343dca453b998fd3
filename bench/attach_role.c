/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The fresh processes of the attach benchmark: one sample each. */

#include "bench/attach.h"

#include "bench/gpu.h"
#include "bench/peer.h"
#include "bench/sample.h"
#include "include/poolswitch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_BYTES (UINT64_C(1) << 20)

/* ---- reserving ---- */

static bool reserve(int socket, enum ps_share_mode mode, bool split)
{
	struct bn_attach_answer answer = { { 0 } };
	struct ps_pool *pool;
	uint64_t start;
	bool ok;

	if (split && !bn_gpu_open(&answer.ns[0], &answer.ns[1]))
		return false;
	start = bn_now_ns();
	if (bn_reserve(mode, &pool) != PS_OK)
		return false;
	answer.ns[split ? 2 : 0] = bn_now_ns() - start;
	answer.pool_bytes = ps_pool_size(pool);
	answer.segment_bytes = ps_pool_segment_size(pool);
	ok = bn_send(socket, &answer, sizeof(answer));
	ps_pool_close(pool);
	bn_gpu_close();
	return ok;
}

static bool run_reserve(int socket)
{
	return reserve(socket, PS_SHARE_VMM, false);
}

static bool run_reserve_split(int socket)
{
	return reserve(socket, PS_SHARE_VMM, true);
}

static bool run_reserve_legacy(int socket)
{
	return reserve(socket, PS_SHARE_LEGACY_IPC, false);
}

/* ---- receiving ---- */

/* Usable means that it can be written and read back. */
static bool check_memory(struct ps_pool *pool, void *ptr)
{
	uint32_t written = 0x5a17c0de;
	uint32_t got = 0;

	return ps_mem_write(pool, ptr, &written, sizeof(written)) == PS_OK &&
	       ps_mem_read(pool, &got, ptr, sizeof(got)) == PS_OK &&
	       got == written;
}

static bool time_receive(int socket, struct bn_attach_answer *answer,
			 struct ps_pool **pool_out, void **ptr_out)
{
	const char ready = 0;
	uint64_t start = bn_now_ns();

	if (!bn_send(socket, &ready, sizeof(ready)) ||
	    ps_recv_shared(socket, 0, PS_TIMEOUT_DEFAULT, pool_out) != PS_OK)
		return false;
	answer->ns[0] = bn_now_ns() - start;
	if (ps_insert_region(*pool_out, PS_REGION_COMPUTATION, PS_ANY_STREAM,
			     0) != PS_OK ||
	    ps_mem_alloc(*pool_out, FIRST_BYTES, ptr_out) != PS_OK)
		return false;
	answer->ns[1] = bn_now_ns() - start;
	return true;
}

static bool run_receive(int socket)
{
	struct bn_attach_answer answer = { { 0 } };
	struct ps_pool *pool;
	uint64_t start;
	void *ptr;

	if (!bn_gpu_open(NULL, NULL) ||
	    !time_receive(socket, &answer, &pool, &ptr))
		return false;
	start = bn_now_ns();
	if (ps_pool_map(pool, 0, 0) != PS_OK)
		return false;
	answer.ns[2] = bn_now_ns() - start;
	answer.pool_bytes = ps_pool_size(pool);
	answer.segment_bytes = ps_pool_segment_size(pool);
	if (!check_memory(pool, ptr) || ps_mem_free(pool, ptr) != PS_OK)
		return false;
	ps_pool_close(pool);
	bn_gpu_close();
	return bn_send(socket, &answer, sizeof(answer));
}

/* ---- the bare driver ---- */

static bool import_one(int fd, uint64_t address, uint64_t bytes,
		       struct bn_attach_answer *answer)
{
	struct dv_device *device = bn_gpu_device();
	uint64_t start = bn_now_ns();
	uint64_t handle;
	uint64_t imported;
	uint64_t mapped;

	if (dv_segment_import(device, fd, &handle) != PS_OK)
		return false;
	imported = bn_now_ns();
	if (dv_window_map(device, address, bytes, handle) != PS_OK)
		return false;
	mapped = bn_now_ns();
	if (dv_window_set_access(device, address, bytes, true) != PS_OK)
		return false;
	answer->ns[2] += bn_now_ns() - mapped;
	answer->ns[1] += mapped - imported;
	answer->ns[0] += imported - start;
	return dv_segment_release(device, handle) == PS_OK;
}

static bool import_all(int socket, const struct bn_attach_segments *segments,
		       uint64_t address, struct bn_attach_answer *answer)
{
	bool ok;
	int fd;

	for (uint64_t i = 0; i < segments->count; i++) {
		if (!bn_recv_fd(socket, &fd))
			return false;
		ok = import_one(fd, address + i * segments->bytes,
				segments->bytes, answer);
		close(fd);
		if (!ok)
			return false;
	}
	return true;
}

static bool run_import(int socket)
{
	struct bn_attach_answer answer = { { 0 } };
	struct bn_attach_segments segments;
	struct dv_device *device;
	const char ready = 0;
	uint64_t address;
	uint64_t bytes;

	if (!bn_gpu_open(NULL, NULL) ||
	    !bn_send(socket, &ready, sizeof(ready)) ||
	    !bn_recv(socket, &segments, sizeof(segments)))
		return false;
	device = bn_gpu_device();
	bytes = segments.count * segments.bytes;
	if (dv_window_reserve(device, bytes, 0, &address) != PS_OK)
		return false;
	if (!import_all(socket, &segments, address, &answer))
		return false;
	answer.pool_bytes = bytes;
	answer.segment_bytes = segments.bytes;
	if (dv_window_unmap(device, address, bytes) != PS_OK ||
	    dv_window_free(device, address, bytes) != PS_OK)
		return false;
	bn_gpu_close();
	return bn_send(socket, &answer, sizeof(answer));
}

static bool run_open_handle(int socket)
{
	unsigned char handle[DV_IPC_HANDLE_BYTES];
	struct bn_attach_answer answer = { { 0 } };
	struct dv_device *device;
	const char ready = 0;
	uint64_t address;
	uint64_t opened;
	uint64_t start;

	if (!bn_gpu_open(NULL, NULL) ||
	    !bn_send(socket, &ready, sizeof(ready)) ||
	    !bn_recv(socket, handle, sizeof(handle)))
		return false;
	device = bn_gpu_device();
	start = bn_now_ns();
	if (dv_legacy_open(device, handle, &address) != PS_OK)
		return false;
	opened = bn_now_ns();
	if (dv_legacy_close(device, address) != PS_OK)
		return false;
	answer.ns[1] = bn_now_ns() - opened;
	answer.ns[0] = opened - start;
	bn_gpu_close();
	return bn_send(socket, &answer, sizeof(answer));
}

/* ---- */

static const struct {
	const char *name;
	bool (*run)(int socket);
} roles[] = {
	{ "reserve", run_reserve },
	{ "reserve-split", run_reserve_split },
	{ "reserve-legacy", run_reserve_legacy },
	{ "receive", run_receive },
	{ "import", run_import },
	{ "open-handle", run_open_handle },
};

int bn_attach_role(const struct bn_options *options)
{
	int socket;
	int link;

	for (unsigned int i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (!bn_role_is(options, roles[i].name, &socket, &link))
			continue;
		if (roles[i].run(socket))
			return EXIT_SUCCESS;
		bn_complain("role %s", roles[i].name);
		return EXIT_FAILURE;
	}
	fprintf(stderr, "bench: unknown role \"%s\"\n", options->role);
	return EXIT_FAILURE;
}
