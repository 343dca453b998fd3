/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One GPU, as the layers above see it: sizes, addresses, handles and fences
 * as plain numbers, failures as ps_status with the driver's reason. No CUDA
 * type leaves this folder by this header.
 *
 * Every function may be called from any thread. Those that need the context
 * push the device's primary context and pop it again: the caller's current
 * context is what it was.
 */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include "include/poolswitch.h"

/* "GPU-" and a UUID in the usual form, with the end. */
#define DV_UUID_TEXT 41
#define DV_NAME_TEXT 256
#define DV_IPC_HANDLE_BYTES 64

struct dv_device;

/* ---- the driver and its GPUs ---- */

/*
 * Loads the driver (once a process), checks it, finds the GPU and retains
 * its primary context. @gpu: NULL or "0", "1", ..., or "GPU-<uuid>".
 * PS_NO_DRIVER, PS_NO_DEVICE, PS_UNSUPPORTED (WSL2, a driver older than 525,
 * a GPU older than Volta, MIG, no VMM) each with what was found and needed.
 */
enum ps_status dv_device_open(const char *gpu, struct dv_device **dev_out);
void dv_device_close(struct dv_device *dev); /* NULL: ok */
/* Frees the host memory only: in a forked child, where CUDA is dead. */
void dv_device_abandon(struct dv_device *dev);

const char *dv_device_uuid(const struct dv_device *dev); /* "GPU-..." */
const char *dv_device_name(const struct dv_device *dev); /* "NVIDIA H200" */
int dv_driver_version(void); /* cuDriverGetVersion, 0 before the first open */
bool dv_is_simulated(void);
bool dv_is_wsl(void); /* this system is WSL2; loads nothing */

enum ps_status dv_memory_info(struct dv_device *dev, uint64_t *free_out,
			      uint64_t *total_out);
/* Bytes; what segment sizes are multiples of. */
enum ps_status dv_granularity(struct dv_device *dev, uint64_t *bytes_out);

/* ---- what a GPU and its driver are like ---- */

/* Who may have a context; the driver's numbers. */
enum dv_compute_mode {
	DV_COMPUTE_DEFAULT = 0,
	DV_COMPUTE_PROHIBITED = 2,
	DV_COMPUTE_EXCLUSIVE = 3, /* one process at a time */
};

struct dv_traits {
	char uuid[DV_UUID_TEXT];
	char name[DV_NAME_TEXT];
	int driver_version; /* as dv_driver_version() */
	int capability;     /* 90 is 9.0 */
	uint64_t total;     /* bytes of memory */
	int compute_mode;   /* enum dv_compute_mode, or one not known here */
	bool is_mig;        /* an instance, not a whole GPU */
	bool is_mps;        /* this process's work runs in an MPS server */
	bool has_vmm;
	bool has_posix_fds;
	bool has_value_waits; /* all that cuStreamWaitValue32 can do */
};

/*
 * Looks without making a context, in any compute mode, and does not stop at
 * what a pool could not live with. @gpu: as in dv_device_open(). PS_NO_DRIVER,
 * PS_NO_DEVICE, PS_UNSUPPORTED (the driver): there is nothing to look at.
 */
enum ps_status dv_traits_get(const char *gpu, struct dv_traits *traits_out);
/* How many GPUs CUDA shows. */
enum ps_status dv_device_count(int *count_out);

/*
 * How the paths of the files begin that a process which uses a GPU has open:
 * "/dev/nvidia", or the simulated GPU's folder once that driver is loaded.
 * Lives as long as the process.
 */
const char *dv_file_prefix(void);

/* ---- segments: physical memory ---- */

/* PS_DEVICE_MEMORY when the GPU has not that much left. */
enum ps_status dv_segment_create(struct dv_device *dev, uint64_t bytes,
				 uint64_t *handle_out);
/* A new file descriptor, close-on-exec, the caller's. PS_FD_LIMIT. */
enum ps_status dv_segment_export(struct dv_device *dev, uint64_t handle,
				 int *fd_out);
/* Does not close @fd. PS_BAD_SEGMENT when it is none. */
enum ps_status dv_segment_import(struct dv_device *dev, int fd,
				 uint64_t *handle_out);
/* Gives the handle up; the memory lives as long as a mapping, another handle
 * or an fd of it does, in any process. */
enum ps_status dv_segment_release(struct dv_device *dev, uint64_t handle);

/* ---- windows: GPU addresses ---- */

/*
 * Exactly at @wanted, or anywhere for 0. PS_WINDOW_TAKEN. The driver heeds a
 * wish for 32 MiB and more only: a smaller window that is wanted somewhere is
 * refused as taken, whether it is or not.
 */
enum ps_status dv_window_reserve(struct dv_device *dev, uint64_t bytes,
				 uint64_t wanted, uint64_t *address_out);
enum ps_status dv_window_free(struct dv_device *dev, uint64_t address,
			      uint64_t bytes);
/* Maps the whole of a segment; no access yet. */
enum ps_status dv_window_map(struct dv_device *dev, uint64_t address,
			     uint64_t bytes, uint64_t handle);
/* For one or several whole neighbouring mappings, and for the peers too. */
enum ps_status dv_window_set_access(struct dv_device *dev, uint64_t address,
				    uint64_t bytes, bool writable);
/*
 * Another GPU of this process, by CUDA's number, may use what is given access
 * from now on; again: well. PS_INVALID_ARGUMENT: there is none, or it is this
 * one; PS_UNSUPPORTED: it cannot.
 */
enum ps_status dv_device_allow_peer(struct dv_device *dev, int ordinal);
/* Not from now on. */
void dv_device_drop_peer(struct dv_device *dev, int ordinal);
/* Several whole neighbouring mappings too. Waits for no work: fence before. */
enum ps_status dv_window_unmap(struct dv_device *dev, uint64_t address,
			       uint64_t bytes);

/* ---- legacy: one allocation, CUDA IPC ---- */

enum ps_status dv_legacy_alloc(struct dv_device *dev, uint64_t bytes,
			       uint64_t *address_out);
enum ps_status dv_legacy_free(struct dv_device *dev, uint64_t address);
enum ps_status dv_legacy_export(struct dv_device *dev, uint64_t address,
				unsigned char handle_out[DV_IPC_HANDLE_BYTES]);
enum ps_status dv_legacy_open(struct dv_device *dev,
			      const unsigned char handle[DV_IPC_HANDLE_BYTES],
			      uint64_t *address_out);
enum ps_status dv_legacy_close(struct dv_device *dev, uint64_t address);

/* ---- fences ---- */

struct dv_fence;

/*
 * PS_OK, or PS_AGAIN while @stream (a CUstream; NULL is the legacy default
 * stream) captures. The legacy stream itself cannot: asked for it, this says
 * whether any blocking stream captures. Harms no capture.
 */
enum ps_status dv_stream_check(struct dv_device *dev, void *stream);
/* The same as an answer; where the caller has a context it is one call of the
 * driver. */
enum ps_status dv_stream_captures(struct dv_device *dev, void *stream,
				  bool *captures_out);

/* Behind the work submitted so far on @stream. PS_AGAIN as in
 * dv_stream_check(). */
enum ps_status dv_fence_record(struct dv_device *dev, void *stream,
			       struct dv_fence **fence_out);
/*
 * Behind the work on every stream of the context, non-blocking and per-thread
 * ones included. Where the driver lacks cuCtxRecordEvent (before 12.5) the
 * fence passes only in dv_fence_wait(), which waits for the context.
 *
 * PS_AGAIN while a blocking stream captures, which takes no harm. A capture
 * on a non-blocking stream cannot be seen from here: this too is PS_AGAIN
 * then, but the driver invalidates the capture. So call dv_stream_check() for
 * every stream that is known, and this only when none captures.
 */
enum ps_status dv_fence_record_all(struct dv_device *dev,
				   struct dv_fence **fence_out);
/* Whether dv_fence_wait() waits for every stream: it has no event. */
bool dv_fence_is_bare(const struct dv_fence *fence);
enum ps_status dv_fence_poll(struct dv_device *dev, struct dv_fence *fence);
/* Of a fence behind every stream, without cuCtxRecordEvent: PS_AGAIN, and
 * what it does to captures, as when recording one. */
enum ps_status dv_fence_wait(struct dv_device *dev, struct dv_fence *fence);
void dv_fence_free(struct dv_device *dev, struct dv_fence *fence);

/* ---- copies, waited for ---- */

enum ps_status dv_copy_in(struct dv_device *dev, uint64_t dst, const void *src,
			  size_t bytes);
enum ps_status dv_copy_out(struct dv_device *dev, void *dst, uint64_t src,
			   size_t bytes);
/* For all work of the context. Captures: as dv_fence_record_all(). */
enum ps_status dv_synchronize(struct dv_device *dev);

/* ---- work of our own, not waited for ---- */

/* A stream that is ordered with no other. */
enum ps_status dv_stream_create(struct dv_device *dev, void **stream_out);
/* What was submitted on it is done all the same. NULL: ok. */
void dv_stream_destroy(struct dv_device *dev, void *stream);
/* For what was submitted on it. When it fails, that may run on. */
enum ps_status dv_stream_wait(struct dv_device *dev, void *stream);
/* Submits: fills with a word. pre: address and bytes are multiples of 4. */
enum ps_status dv_fill(struct dv_device *dev, uint64_t address, uint32_t word,
		       uint64_t bytes, void *stream);
/* A stream whose work is begun before that of others. */
enum ps_status dv_stream_create_urgent(struct dv_device *dev,
				       void **stream_out);
/* Submits: a copy from registered host memory, or from any (then it may wait
 * for the stream). */
enum ps_status dv_copy_in_async(struct dv_device *dev, uint64_t dst,
				const void *src, uint64_t bytes, void *stream);
/* Submits: the word, behind what is on the stream. @address: a multiple of 4.
 */
enum ps_status dv_write_word(struct dv_device *dev, uint64_t address,
			     uint32_t word, void *stream);
/* Submits: what follows waits until the word at @address is @least or more
 * (by a signed difference). Legal while the stream captures. */
enum ps_status dv_wait_word(struct dv_device *dev, uint64_t address,
			    uint32_t least, void *stream);
/* Makes host memory fit for fast copies. PS_HOST_MEMORY: the system allows no
 * more of it. @read_only: the memory is. */
enum ps_status dv_host_register(struct dv_device *dev, void *memory,
				uint64_t bytes, bool read_only);
enum ps_status dv_host_unregister(struct dv_device *dev, void *memory);
/* Between two fences, by the GPU's clock; both have passed, and both were
 * recorded by dv_fence_record_timed(). */
enum ps_status dv_fence_record_timed(struct dv_device *dev, void *stream,
				     struct dv_fence **fence_out);
enum ps_status dv_fence_elapsed(struct dv_device *dev, struct dv_fence *from,
				struct dv_fence *to, uint64_t *ns_out);

#endif /* DEVICE_DEVICE_H */
