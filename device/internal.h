/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the files of this folder share: a device, and the way into its
 * context.
 */
#ifndef DEVICE_INTERNAL_H
#define DEVICE_INTERNAL_H

#include "base/lock.h"
#include "base/status.h"
#include "device/device.h"
#include "device/driver.h"
#include "device/result.h"

/* More GPUs than one machine has. */
#define DV_PEERS 64

struct dv_device {
	uint32_t magic; /* DV_DEVICE_MAGIC while it is open */

	/* Immutable after dv_device_open(). */
	const struct dv_driver *driver;
	CUdevice ordinal;
	CUcontext context;    /* primary, retained */
	CUstream copy_stream; /* non-blocking: dv_copy_*() meet no other work */
	uint64_t granularity;
	char uuid[DV_UUID_TEXT];
	char name[DV_NAME_TEXT];

	/* Guarded by lock. */
	struct bs_lock lock;
	CUdevice peer[DV_PEERS]; /* other GPUs that may use its segments */
	unsigned int peers;
	struct dv_fence *spare[2]; /* fences to use again, with their events:
				    * plain ones, timed ones */
	uint64_t recorded_all; /* fences of dv_fence_record_all() so far... */
	uint64_t passed_all;   /* ...and how many of them, where they have no
				   event, a wait for the context covered */
};

#define DV_DEVICE_MAGIC 0x64766465u

/* What to restore on the way out. */
struct dv_visit {
	CUstreamCaptureMode capture_mode;
};

/*
 * Makes the device's context current, and lets this thread make calls that
 * the driver would refuse, or let fail the capture, while a stream captures:
 * ours never touch a captured stream. Each enter is paired with a leave.
 */
enum ps_status dv_enter(struct dv_device *dev, struct dv_visit *visit_out);
void dv_leave(struct dv_device *dev, struct dv_visit visit);

/* dv_stream_check() from inside. pre: the context is entered. */
enum ps_status dv_check_capture(struct dv_device *dev, CUstream stream);

/* Starts CUDA and finds the GPU that was asked for. */
enum ps_status dv_find_gpu(const struct dv_driver *driver, const char *wanted,
			   CUdevice *gpu_out);
enum ps_status dv_read_uuid(const struct dv_driver *driver, CUdevice gpu,
			    char text[DV_UUID_TEXT]);
enum ps_status dv_read_name(const struct dv_driver *driver, CUdevice gpu,
			    char text[DV_NAME_TEXT]);
bool dv_name_is_mig(const char *name);

/* Frees the spare fences; @alive: their events too. */
void dv_fences_drop(struct dv_device *dev, bool alive);

#endif /* DEVICE_INTERNAL_H */
