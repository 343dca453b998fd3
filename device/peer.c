/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Other GPUs of the process that may use this one's segments. */
#include "device/internal.h"

static enum ps_status check_peer(struct dv_device *dev, CUdevice peer)
{
	enum ps_status status;
	int can = 0;

	if (!dev->driver->cuDeviceCanAccessPeer)
		return bs_fail(PS_UNSUPPORTED, "this driver cannot say whether "
					       "two GPUs reach each other");
	status = dv_result(
		dev->driver,
		dev->driver->cuDeviceCanAccessPeer(&can, peer, dev->ordinal),
		"asking whether GPU %d reaches %s", peer, dev->uuid);
	if (status == PS_OK && !can)
		status = bs_fail(PS_UNSUPPORTED,
				 "GPU %d cannot reach the memory of %s: copy "
				 "through the host",
				 peer, dev->uuid);
	return status;
}

/* Whether it is there, or could be added. */
static bool add_peer(struct dv_device *dev, CUdevice peer)
{
	bool is_there = false;

	bs_lock_take(&dev->lock);
	for (unsigned int i = 0; i < dev->peers; i++)
		is_there = is_there || dev->peer[i] == peer;
	if (!is_there && dev->peers < DV_PEERS) {
		dev->peer[dev->peers++] = peer;
		is_there = true;
	}
	bs_lock_drop(&dev->lock);
	return is_there;
}

enum ps_status dv_device_allow_peer(struct dv_device *dev, int ordinal)
{
	enum ps_status status;
	CUdevice peer = -1;

	if (dev->driver->cuDeviceGet(&peer, ordinal) != CUDA_SUCCESS ||
	    peer == dev->ordinal)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%d is no other GPU than %s that CUDA shows to "
			       "this process",
			       ordinal, dev->uuid);
	status = check_peer(dev, peer);
	if (status == PS_OK && !add_peer(dev, peer))
		status = bs_fail(PS_UNSUPPORTED, "more than %d GPUs", DV_PEERS);
	return status;
}

void dv_device_drop_peer(struct dv_device *dev, int ordinal)
{
	CUdevice peer = -1;

	if (dev->driver->cuDeviceGet(&peer, ordinal) != CUDA_SUCCESS)
		return;
	bs_lock_take(&dev->lock);
	for (unsigned int i = 0; i < dev->peers; i++)
		if (dev->peer[i] == peer)
			dev->peer[i] = dev->peer[--dev->peers];
	bs_lock_drop(&dev->lock);
}
