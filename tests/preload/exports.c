/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What NCCL and UCX do with a pointer: they ask for its address range, retain
 * the handle behind it, export that, and the other side maps as many bytes.
 * Whatever is asked, it must be about the same memory.
 */
#include "tests/preload/memory.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES ((size_t)4096)
#define SEED 23u

struct offer {
	CUdeviceptr block;
	CUdeviceptr base;
	size_t size;
	CUipcMemHandle handle; /* of the base */
};

static void ask_range(struct offer *offer)
{
	CUpointer_attribute asked[] = {
		CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
		CU_POINTER_ATTRIBUTE_RANGE_SIZE,
		CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
	};
	CUdeviceptr start = 0;
	size_t size = 0;
	bool is_legacy = true;
	void *answers[] = { &start, &size, &is_legacy };

	TH_CU(th_cu.cuMemGetAddressRange_v2(&offer->base, &offer->size,
					    offer->block));
	TH_CU(th_cu.cuPointerGetAttributes(3, asked, answers, offer->block));
	TH_CHECK(start == offer->base && size == offer->size);
	TH_CHECK(!is_legacy);
	TH_CHECK(offer->base <= offer->block &&
		 offer->block + BYTES <= offer->base + offer->size);
}

static CUresult export_handle(CUmemGenericAllocationHandle handle, int *fd)
{
	return th_cu.cuMemExportToShareableHandle(
		fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
}

static int export_at(CUdeviceptr address)
{
	CUmemGenericAllocationHandle handle;
	int fd = -1;

	TH_CU(th_cu.cuMemRetainAllocationHandle(&handle, (void *)address));
	TH_CU(export_handle(handle, &fd));
	TH_CU(th_cu.cuMemRelease(handle));
	return fd;
}

static void give(int link)
{
	struct offer offer;
	CUdeviceptr before;
	int fd;

	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&before, BYTES));
	TH_CU(th_cu.cuMemAlloc_v2(&offer.block, BYTES));
	th_fill(offer.block, BYTES, SEED);
	ask_range(&offer);
	TH_CU(th_cu.cuIpcGetMemHandle(&offer.handle, offer.base));
	fd = export_at(offer.base);
	th_peer_send(link, &offer, sizeof(offer));
	th_peer_send_fd(link, fd);
	close(fd);
	th_peer_await(link);
}

/* ---- the other side ---- */

static CUdeviceptr map_descriptor(int fd, size_t size)
{
	const CUmemAccessDesc access = {
		.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE },
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;

	TH_CU(th_cu.cuMemImportFromShareableHandle(
		&handle, (void *)(intptr_t)fd,
		CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	TH_CU(th_cu.cuMemAddressReserve(&address, size, 0, 0, 0));
	TH_CU(th_cu.cuMemMap(address, size, 0, handle, 0));
	TH_CU(th_cu.cuMemRelease(handle));
	TH_CU(th_cu.cuMemSetAccess(address, size, &access, 1));
	return address;
}

static void unmap(CUdeviceptr address, size_t size)
{
	TH_CU(th_cu.cuMemUnmap(address, size));
	TH_CU(th_cu.cuMemAddressFree(address, size));
}

static CUdeviceptr take(int link, struct offer *offer)
{
	CUdeviceptr address;
	int fd;

	th_peer_receive(link, offer, sizeof(*offer));
	fd = th_peer_receive_fd(link);
	address = map_descriptor(fd, offer->size);
	close(fd);
	return address;
}

/* What was opened is another's: only that one gives it away. */
static void refuse_export(CUdeviceptr opened)
{
	CUmemGenericAllocationHandle handle;
	int fd = -1;

	TH_CU(th_cu.cuMemRetainAllocationHandle(&handle, (void *)opened));
	TH_CHECK(export_handle(handle, &fd) != CUDA_SUCCESS);
	TH_CHECK(fd == -1);
	TH_CU(th_cu.cuMemRelease(handle));
}

static void one_story(void)
{
	struct offer offer;
	CUdeviceptr mapped, opened;
	size_t within;
	pid_t peer;
	int link = th_peer_start(give, &peer);

	th_cuda_open();
	mapped = take(link, &offer);
	within = offer.block - offer.base;
	th_check_filled(mapped + within, BYTES, SEED);
	TH_CU(th_cu.cuIpcOpenMemHandle_v2(&opened, offer.handle,
					  CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	th_check_filled(opened + within, BYTES, SEED);
	refuse_export(opened);
	th_fill(mapped + within, BYTES, SEED + 1);
	th_check_filled(opened + within, BYTES, SEED + 1);
	TH_CU(th_cu.cuIpcCloseMemHandle(opened));
	unmap(mapped, offer.size);
	th_peer_tell(link);
	th_peer_finish(peer);
}

/* As much as there is and comes free meanwhile, and all of it written. */
static void take_everything(void)
{
	CUdeviceptr address;

	while (th_cu.cuMemAlloc_v2(&address, 2u << 20) == CUDA_SUCCESS)
		TH_CU(th_cu.cuMemsetD32_v2(address, 0x5a5a5a5a,
					   (2u << 20) / 4));
}

/* Whoever gets the dead one's memory gets other memory than this. */
static void owner_dies(void)
{
	struct offer offer;
	CUdeviceptr mapped;
	pid_t peer;
	int link = th_peer_start(give, &peer);

	th_cuda_open();
	mapped = take(link, &offer);
	kill(peer, SIGKILL);
	TH_CHECK(waitpid(peer, NULL, 0) == peer);
	take_everything();
	th_check_filled(mapped + (offer.block - offer.base), BYTES, SEED);
	unmap(mapped, offer.size);
}

static void released_handle(void)
{
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;
	int fd = -1;

	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&address, BYTES));
	TH_CU(th_cu.cuMemRetainAllocationHandle(&handle, (void *)address));
	TH_CU(th_cu.cuMemRelease(handle));
	TH_CU_IS(export_handle(handle, &fd), CUDA_ERROR_INVALID_VALUE);
	TH_CHECK(fd == -1);
}

/* ---- what tells buffers apart ---- */

static unsigned long long buffer_id(CUdeviceptr address)
{
	unsigned long long id = 0;

	TH_CU(th_cu.cuPointerGetAttribute(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID,
					  address));
	TH_CHECK(id != 0);
	return id;
}

/* They are the segments', as the ranges are. */
static void buffer_ids(void)
{
	struct offer first, second;
	CUdeviceptr large;

	th_cuda_open();
	TH_CU(th_cu.cuMemAlloc_v2(&first.block, BYTES));
	TH_CU(th_cu.cuMemAlloc_v2(&second.block, BYTES));
	TH_CU(th_cu.cuMemAlloc_v2(&large, (size_t)4 << 20));
	ask_range(&first);
	ask_range(&second);
	TH_CHECK(first.base == second.base);
	TH_CHECK(buffer_id(first.block) == buffer_id(second.block));
	TH_CHECK(buffer_id(first.block) == buffer_id(first.base));
	TH_CHECK(buffer_id(first.block) != buffer_id(large));
	TH_CHECK(buffer_id(large) != buffer_id(large + ((size_t)2 << 20)));
}

/* ---- a program's own object ---- */

static void give_object(int link)
{
	const CUmemAllocationProp prop = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes =
			CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
		.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE },
	};
	struct offer offer = { .size = (size_t)2 << 20 };
	CUmemGenericAllocationHandle handle;
	int fd;

	th_cuda_open();
	TH_CU(th_cu.cuMemCreate(&handle, offer.size, &prop, 0));
	TH_CU(export_handle(handle, &fd));
	offer.base = offer.block = map_descriptor(fd, offer.size);
	th_fill(offer.block, BYTES, SEED);
	th_peer_send(link, &offer, sizeof(offer));
	th_peer_send_fd(link, fd);
	close(fd);
	th_peer_await(link);
	unmap(offer.base, offer.size);
	TH_CU(th_cu.cuMemRelease(handle));
}

static void shared_object(void)
{
	struct offer offer;
	CUdeviceptr mapped;
	pid_t peer;
	int link = th_peer_start(give_object, &peer);

	th_cuda_open();
	mapped = take(link, &offer);
	th_check_filled(mapped, BYTES, SEED);
	th_peer_tell(link);
	th_peer_finish(peer);
	th_check_filled(mapped, BYTES, SEED);
	unmap(mapped, offer.size);
}

TH_PROGRAM({ "one_story", one_story }, { "owner_dies", owner_dies },
	   { "buffer_ids", buffer_ids }, { "released_handle", released_handle },
	   { "shared_object", shared_object })
