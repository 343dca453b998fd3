/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Segments (physical memory) and windows (addresses). */
#include "device/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static CUmemAllocationProp properties(const struct dv_device *dev)
{
	return (CUmemAllocationProp){
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes =
			CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
		.location = { CU_MEM_LOCATION_TYPE_DEVICE, dev->ordinal },
	};
}

enum ps_status dv_granularity(struct dv_device *dev, uint64_t *bytes_out)
{
	CUmemAllocationProp prop = properties(dev);
	size_t bytes = 0;
	enum ps_status status;

	status = dv_result(
		dev->driver,
		dev->driver->cuMemGetAllocationGranularity(
			&bytes, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
		"asking %s for its granularity", dev->uuid);
	if (status == PS_OK)
		*bytes_out = bytes;
	return status;
}

/* The failure of a create, with what there is to have. */
static enum ps_status explain_memory(struct dv_device *dev, uint64_t bytes)
{
	uint64_t total = 0;
	uint64_t left = 0;
	enum ps_status status = dv_memory_info(dev, &left, &total);

	if (status != PS_OK)
		return status;
	return bs_fail(PS_DEVICE_MEMORY,
		       "%s (%s) has no room for a segment of %llu bytes: %llu "
		       "of %llu are free; reserve less, or end what uses it",
		       dev->uuid, dev->name, (unsigned long long)bytes,
		       (unsigned long long)left, (unsigned long long)total);
}

enum ps_status dv_segment_create(struct dv_device *dev, uint64_t bytes,
				 uint64_t *handle_out)
{
	CUmemAllocationProp prop = properties(dev);
	CUmemGenericAllocationHandle handle;
	enum ps_status status;

	status = dv_result(dev->driver,
			   dev->driver->cuMemCreate(&handle, bytes, &prop, 0),
			   "creating a segment of %llu bytes on %s",
			   (unsigned long long)bytes, dev->uuid);
	if (status == PS_DEVICE_MEMORY)
		return explain_memory(dev, bytes);
	if (status == PS_OK)
		*handle_out = handle;
	return status;
}

/* Whether the process could open one more file. */
static bool is_at_fd_limit(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd < 0 && (errno == EMFILE || errno == ENFILE);
}

static enum ps_status fail_fd_limit(const char *doing)
{
	struct rlimit limit = { 0, 0 };

	getrlimit(RLIMIT_NOFILE, &limit);
	return bs_fail(PS_FD_LIMIT,
		       "%s a segment: no file descriptor left of %llu; a pool "
		       "needs one a segment: raise the limit (ulimit -n) or "
		       "choose larger segments",
		       doing, (unsigned long long)limit.rlim_cur);
}

enum ps_status dv_segment_export(struct dv_device *dev, uint64_t handle,
				 int *fd_out)
{
	enum ps_status status;
	int fd = -1;

	status = dv_result(dev->driver,
			   dev->driver->cuMemExportToShareableHandle(
				   &fd, handle,
				   CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			   "exporting a segment of %s", dev->uuid);
	if (status != PS_OK)
		return is_at_fd_limit() ? fail_fd_limit("exporting") : status;
	/* The driver promises nothing about programs that are started. */
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		close(fd);
		return bs_fail_errno("closing descriptor %d on exec", fd);
	}
	*fd_out = fd;
	return PS_OK;
}

enum ps_status dv_segment_import(struct dv_device *dev, int fd,
				 uint64_t *handle_out)
{
	CUmemGenericAllocationHandle handle;
	enum ps_status status;

	status = dv_result(dev->driver,
			   dev->driver->cuMemImportFromShareableHandle(
				   &handle, (void *)(intptr_t)fd,
				   CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
			   "importing descriptor %d as a segment of %s", fd,
			   dev->uuid);
	if (status == PS_OK)
		*handle_out = handle;
	else if (is_at_fd_limit())
		status = fail_fd_limit("importing");
	else if (status != PS_DEVICE_LOST && status != PS_DEVICE_MEMORY)
		status = PS_BAD_SEGMENT;
	return status;
}

enum ps_status dv_segment_release(struct dv_device *dev, uint64_t handle)
{
	return dv_result(dev->driver, dev->driver->cuMemRelease(handle),
			 "releasing a segment of %s", dev->uuid);
}

enum ps_status dv_window_reserve(struct dv_device *dev, uint64_t bytes,
				 uint64_t wanted, uint64_t *address_out)
{
	CUdeviceptr address = 0;
	enum ps_status status;

	status = dv_result(
		dev->driver,
		dev->driver->cuMemAddressReserve(&address, bytes, 0, wanted, 0),
		"reserving %llu bytes of addresses at 0x%llx",
		(unsigned long long)bytes, (unsigned long long)wanted);
	if (status != PS_OK)
		return status;
	/* For the driver it is a wish; for the pool it is not. */
	if (wanted && address != wanted) {
		dev->driver->cuMemAddressFree(address, bytes);
		return bs_fail(PS_WINDOW_TAKEN,
			       "%llu bytes of addresses at 0x%llx are in use "
			       "in this process; attach before whatever takes "
			       "them, or reserve the pool anew",
			       (unsigned long long)bytes,
			       (unsigned long long)wanted);
	}
	*address_out = address;
	return PS_OK;
}

enum ps_status dv_window_free(struct dv_device *dev, uint64_t address,
			      uint64_t bytes)
{
	return dv_result(
		dev->driver, dev->driver->cuMemAddressFree(address, bytes),
		"freeing %llu bytes of addresses at 0x%llx",
		(unsigned long long)bytes, (unsigned long long)address);
}

enum ps_status dv_window_map(struct dv_device *dev, uint64_t address,
			     uint64_t bytes, uint64_t handle)
{
	return dv_result(dev->driver,
			 dev->driver->cuMemMap(address, bytes, 0, handle, 0),
			 "mapping a segment of %llu bytes at 0x%llx",
			 (unsigned long long)bytes,
			 (unsigned long long)address);
}

static CUmemAccessDesc access_of(CUdevice gpu, bool writable)
{
	return (CUmemAccessDesc){
		.location = { CU_MEM_LOCATION_TYPE_DEVICE, gpu },
		.flags = writable ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
				  : CU_MEM_ACCESS_FLAGS_PROT_READ,
	};
}

enum ps_status dv_window_set_access(struct dv_device *dev, uint64_t address,
				    uint64_t bytes, bool writable)
{
	CUmemAccessDesc access[1 + DV_PEERS];
	size_t count = 1;

	access[0] = access_of(dev->ordinal, writable);
	bs_lock_take(&dev->lock);
	for (unsigned int i = 0; i < dev->peers; i++)
		access[count++] = access_of(dev->peer[i], writable);
	bs_lock_drop(&dev->lock);
	return dv_result(
		dev->driver,
		dev->driver->cuMemSetAccess(address, bytes, access, count),
		"setting the access of %llu bytes at 0x%llx",
		(unsigned long long)bytes, (unsigned long long)address);
}

enum ps_status dv_window_unmap(struct dv_device *dev, uint64_t address,
			       uint64_t bytes)
{
	return dv_result(dev->driver, dev->driver->cuMemUnmap(address, bytes),
			 "unmapping %llu bytes at 0x%llx",
			 (unsigned long long)bytes,
			 (unsigned long long)address);
}
