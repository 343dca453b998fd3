/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The board: GPU memory with a counter for each model. Its upper half is
 * nobody's; the wire is measured with it.
 */
#include "poold/store/loader_parts.h"

#include "base/status.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNTERS_BYTES (IP_MODELS_MAX * IP_BOARD_STRIDE)

/* Two sizes, of which the line through both is the wire. */
#define LARGE_BYTES (IP_BOARD_BYTES / 2)
#define LARGE_COPIES 16
#define SMALL_BYTES UINT64_C(4096)
#define SMALL_COPIES 64
#define TRIALS 3

_Static_assert(COUNTERS_BYTES <= LARGE_BYTES, "the counters are below");

uint64_t pd_board_counter(const struct pd_loader *loader, uint32_t model)
{
	return loader->board + (uint64_t)model * IP_BOARD_STRIDE;
}

/* ---- its memory ---- */

static enum ps_status make_memory(struct pd_loader *loader,
				  uint64_t *handle_out)
{
	enum ps_status status =
		dv_segment_create(loader->device, IP_BOARD_BYTES, handle_out);

	if (status != PS_OK)
		return status;
	status = dv_segment_export(loader->device, *handle_out,
				   &loader->board_fd);
	if (status != PS_OK)
		(void)dv_segment_release(loader->device, *handle_out);
	return status;
}

static enum ps_status take_memory(struct pd_loader *loader, int board,
				  uint64_t *handle_out)
{
	loader->board_fd = fcntl(board, F_DUPFD_CLOEXEC, 0);
	if (loader->board_fd < 0)
		return bs_fail_errno("duplicating the board's descriptor");
	return dv_segment_import(loader->device, board, handle_out);
}

static enum ps_status map(struct pd_loader *loader, uint64_t handle)
{
	uint64_t address;
	enum ps_status status =
		dv_window_reserve(loader->device, IP_BOARD_BYTES, 0, &address);

	if (status != PS_OK)
		return status;
	status = dv_window_map(loader->device, address, IP_BOARD_BYTES, handle);
	if (status != PS_OK) {
		(void)dv_window_free(loader->device, address, IP_BOARD_BYTES);
		return status;
	}
	loader->board = address;
	return dv_window_set_access(loader->device, address, IP_BOARD_BYTES,
				    true);
}

/* For all that was submitted. A wait that fails says nothing of the work, so
 * it is tried once more: what runs on would write to what is unmapped. */
static enum ps_status settle(struct pd_loader *loader)
{
	enum ps_status status = dv_stream_wait(loader->device, loader->stream);

	if (status != PS_OK)
		(void)dv_stream_wait(loader->device, loader->stream);
	return status;
}

static enum ps_status clear(struct pd_loader *loader)
{
	enum ps_status status = dv_fill(loader->device, loader->board, 0,
					COUNTERS_BYTES, loader->stream);

	return status == PS_OK ? settle(loader) : status;
}

/* What an agent that died has left there: nothing of its runs any more. */
static enum ps_status read_counters(struct pd_loader *loader)
{
	uint8_t *bytes = malloc(COUNTERS_BYTES);
	enum ps_status status;

	if (!bytes)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for %u bytes of counters",
			       COUNTERS_BYTES);
	status = dv_copy_out(loader->device, bytes, loader->board,
			     COUNTERS_BYTES);
	for (uint32_t i = 0; i < IP_MODELS_MAX && status == PS_OK; i++)
		loader->counter[i] =
			*(const uint32_t *)(bytes + i * IP_BOARD_STRIDE);
	free(bytes);
	return status;
}

/* Asked once more when it fails: a handle that stays holds the memory. */
static enum ps_status release(struct pd_loader *loader, uint64_t handle)
{
	enum ps_status status = dv_segment_release(loader->device, handle);

	return status == PS_OK ? PS_OK
			       : dv_segment_release(loader->device, handle);
}

enum ps_status pd_board_open(struct pd_loader *loader, int board)
{
	enum ps_status status, released;
	uint64_t handle;

	status = board < 0 ? make_memory(loader, &handle)
			   : take_memory(loader, board, &handle);
	if (status != PS_OK)
		return bs_fail_prefix(status, "the models' counters");
	status = map(loader, handle);
	released = release(loader, handle);
	if (status == PS_OK)
		status = released;
	if (status == PS_OK)
		status = board < 0 ? clear(loader) : read_counters(loader);
	return status == PS_OK ? PS_OK
			       : bs_fail_prefix(status, "the models' counters");
}

/* What fails here would only have tidied up. */
void pd_board_close(struct pd_loader *loader)
{
	if (loader->board) {
		(void)dv_window_unmap(loader->device, loader->board,
				      IP_BOARD_BYTES);
		(void)dv_window_free(loader->device, loader->board,
				     IP_BOARD_BYTES);
	}
	if (loader->board_fd >= 0)
		close(loader->board_fd);
}

/* ---- the wire ---- */

/* A word behind each copy, as behind each group. */
static enum ps_status submit(struct pd_loader *loader, const void *memory,
			     uint64_t bytes, int copies)
{
	const uint64_t at = loader->board + LARGE_BYTES;
	enum ps_status status = PS_OK;

	for (int i = 0; i < copies && status == PS_OK; i++) {
		status = dv_copy_in_async(loader->device, at, memory, bytes,
					  loader->stream);
		if (status == PS_OK)
			status = dv_write_word(loader->device, at, 0,
					       loader->stream);
	}
	return status;
}

/* *ns_out: of one copy. Everything is waited for, whatever fails. */
static enum ps_status time_copies(struct pd_loader *loader, const void *memory,
				  uint64_t bytes, int copies, double *ns_out)
{
	struct dv_fence *from = NULL;
	struct dv_fence *to = NULL;
	enum ps_status status, settled;
	uint64_t ns = 0;

	status = dv_fence_record_timed(loader->device, loader->stream, &from);
	if (status == PS_OK)
		status = submit(loader, memory, bytes, copies);
	if (status == PS_OK)
		status = dv_fence_record_timed(loader->device, loader->stream,
					       &to);
	settled = settle(loader);
	if (status == PS_OK)
		status = settled;
	if (status == PS_OK)
		status = dv_fence_elapsed(loader->device, from, to, &ns);
	dv_fence_free(loader->device, from);
	dv_fence_free(loader->device, to);
	if (status == PS_OK)
		*ns_out = (double)ns / copies;
	return status;
}

/* The least of a few: what disturbs makes it longer only. */
static enum ps_status time_best(struct pd_loader *loader, const void *memory,
				uint64_t bytes, int copies, double *ns_out)
{
	enum ps_status status = PS_OK;
	double best = 0;
	double ns = 0;

	for (int i = 0; i < TRIALS && status == PS_OK; i++) {
		status = time_copies(loader, memory, bytes, copies, &ns);
		if (i == 0 || ns < best)
			best = ns;
	}
	*ns_out = best;
	return status;
}

/* So much a byte, so much a copy. Neither is less than nothing, whatever
 * disturbed the clock. */
static struct md_wire fit(double large_ns, double small_ns)
{
	const double bytes = (double)(LARGE_BYTES - SMALL_BYTES);
	const double ns = large_ns > small_ns ? large_ns - small_ns : 1.0;
	struct md_wire wire = { .bytes_per_ns = bytes / ns };
	const double group = small_ns - (double)SMALL_BYTES / wire.bytes_per_ns;

	wire.group_ns = group > 0 ? group : 0;
	return wire;
}

static enum ps_status measure(struct pd_loader *loader, void *memory)
{
	double large_ns = 0, small_ns = 0;
	enum ps_status status =
		dv_host_register(loader->device, memory, LARGE_BYTES, false);
	enum ps_status released;

	if (status != PS_OK)
		return status;
	status =
		time_best(loader, memory, LARGE_BYTES, LARGE_COPIES, &large_ns);
	if (status == PS_OK)
		status = time_best(loader, memory, SMALL_BYTES, SMALL_COPIES,
				   &small_ns);
	released = dv_host_unregister(loader->device, memory);
	loader->wire = fit(large_ns, small_ns);
	return status == PS_OK ? released : status;
}

/* Plans are worse when it cannot be measured, and models are served. */
static enum ps_status guess(struct pd_loader *loader, enum ps_status status)
{
	const struct md_wire usual = { .bytes_per_ns = 50, .group_ns = 3000 };

	loader->wire = usual;
	return status == PS_DEVICE_LOST ? bs_fail_prefix(status, "measuring "
								 "the wire")
					: PS_OK;
}

enum ps_status pd_board_measure(struct pd_loader *loader)
{
	void *memory = mmap(NULL, LARGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	enum ps_status status;

	if (memory == MAP_FAILED)
		return guess(loader, PS_HOST_MEMORY);
	status = measure(loader, memory);
	munmap(memory, LARGE_BYTES);
	return status == PS_OK ? PS_OK : guess(loader, status);
}
