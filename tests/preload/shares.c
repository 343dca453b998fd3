/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory that two processes share as CUDA programs do. The peer allocates and
 * gives; this process opens, looks and decides.
 */
#include "tests/preload/gate.h"
#include "tests/preload/memory.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES ((size_t)3 << 20)
#define SMALL ((size_t)4096)
#define SEED 17u

struct offer {
	CUipcMemHandle handle;
	CUdeviceptr address; /* where the peer has it */
};

static CUresult open_handle(const CUipcMemHandle *handle, CUdeviceptr *address)
{
	return th_cu.cuIpcOpenMemHandle_v2(address, *handle,
					   CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
}

static CUdeviceptr opened(const struct offer *offer)
{
	CUdeviceptr address;

	TH_CU(open_handle(&offer->handle, &address));
	return address;
}

/* A block between others, so that it does not begin where a segment does. */
static CUdeviceptr allocate(size_t bytes)
{
	CUdeviceptr before, address;

	TH_CU(th_cu.cuMemAlloc_v2(&before, 512));
	TH_CU(th_cu.cuMemAlloc_v2(&address, bytes));
	TH_CHECK(!th_is_legacy(address));
	return address;
}

static struct offer give(int link, size_t bytes)
{
	struct offer offer = { .address = allocate(bytes) };

	th_fill(offer.address, bytes, SEED);
	TH_CU(th_cu.cuIpcGetMemHandle(&offer.handle, offer.address));
	th_peer_send(link, &offer, sizeof(offer));
	return offer;
}

static struct offer take(int link)
{
	struct offer offer;

	th_peer_receive(link, &offer, sizeof(offer));
	return offer;
}

/* ---- both live ---- */

static void gives_and_looks(int link)
{
	struct offer offer;

	th_cuda_open();
	offer = give(link, BYTES);
	th_peer_await(link);
	th_check_filled(offer.address, BYTES, SEED + 1);
	TH_CU(th_cu.cuMemFree_v2(offer.address));
}

static void both_write(void)
{
	struct offer offer;
	CUdeviceptr here;
	pid_t peer;
	int link = th_peer_start(gives_and_looks, &peer);

	th_cuda_open();
	offer = take(link);
	here = opened(&offer);
	th_check_filled(here, BYTES, SEED);
	th_fill(here, BYTES, SEED + 1);
	th_peer_tell(link);
	th_peer_finish(peer);
	TH_CU(th_cu.cuIpcCloseMemHandle(here));
}

static void gives_and_waits(int link)
{
	th_cuda_open();
	(void)give(link, SMALL);
	th_peer_await(link);
}

static void opened_twice(void)
{
	struct offer offer;
	CUdeviceptr here;
	pid_t peer;
	int link = th_peer_start(gives_and_waits, &peer);

	th_cuda_open();
	offer = take(link);
	here = opened(&offer);
	TH_CHECK(opened(&offer) == here);
	TH_CU(th_cu.cuIpcCloseMemHandle(here));
	th_check_filled(here, SMALL, SEED);
	TH_CU(th_cu.cuIpcCloseMemHandle(here));
	TH_CU_IS(th_cu.cuIpcCloseMemHandle(here), CUDA_ERROR_INVALID_VALUE);
	here = opened(&offer);
	th_check_filled(here, SMALL, SEED);
	TH_CU(th_cu.cuIpcCloseMemHandle(here));
	th_peer_tell(link);
	th_peer_finish(peer);
}

static void call_close(void *arg)
{
	TH_CU(th_cu.cuIpcCloseMemHandle(*(CUdeviceptr *)arg));
}

/* What another context still does with it is waited for. */
static void closed_behind_a_context(void)
{
	CUcontext context, popped;
	struct offer offer;
	CUdeviceptr here;
	pid_t peer;
	int link = th_peer_start(gives_and_waits, &peer);

	th_cuda_open();
	offer = take(link);
	here = opened(&offer);
	TH_CU(th_cu.cuCtxCreate_v2(&context, 0, 0));
	th_gate_close(th_stream());
	TH_CU(th_cu.cuCtxPopCurrent_v2(&popped));
	TH_CHECK(!th_returns_at_once(call_close, &here));
	th_peer_tell(link);
	th_peer_finish(peer);
}

/* cudaFree() of what was opened is refused, and changes nothing. */
static void opened_not_freed(void)
{
	struct offer offer;
	CUdeviceptr here;
	pid_t peer;
	int link = th_peer_start(gives_and_waits, &peer);

	th_cuda_open();
	offer = take(link);
	here = opened(&offer);
	TH_CU_IS(th_cu.cuMemFree_v2(here), CUDA_ERROR_INVALID_VALUE);
	th_check_filled(here, SMALL, SEED);
	TH_CU(th_cu.cuIpcCloseMemHandle(here));
	th_peer_tell(link);
	th_peer_finish(peer);
}

static void gives_of_the_middle(int link)
{
	struct offer offer;

	th_cuda_open();
	offer.address = allocate(SMALL);
	th_fill(offer.address, SMALL, SEED);
	TH_CU(th_cu.cuIpcGetMemHandle(&offer.handle, offer.address + 1024));
	th_peer_send(link, &offer, sizeof(offer));
	th_peer_await(link);
}

/* As with CUDA's own: the handle is the allocation's. */
static void of_the_middle(void)
{
	struct offer offer;
	CUdeviceptr here;
	pid_t peer;
	int link = th_peer_start(gives_of_the_middle, &peer);

	th_cuda_open();
	offer = take(link);
	here = opened(&offer);
	th_check_filled(here, SMALL, SEED);
	TH_CU(th_cu.cuIpcCloseMemHandle(here));
	th_peer_tell(link);
	th_peer_finish(peer);
}

/* ---- a producer that ends ---- */

static void producer_dies(void)
{
	struct offer offer;
	CUdeviceptr here;
	pid_t peer;
	int link = th_peer_start(gives_and_waits, &peer);

	th_cuda_open();
	offer = take(link);
	here = opened(&offer);
	kill(peer, SIGKILL);
	TH_CHECK(waitpid(peer, NULL, 0) == peer);
	for (int i = 0; i < 20; i++) {
		th_check_filled(here, SMALL, SEED);
		usleep(10000);
	}
	th_fill(here, SMALL, SEED + 1);
	th_check_filled(here, SMALL, SEED + 1);
	TH_CU(th_cu.cuIpcCloseMemHandle(here));
}

/* The handle came, but not before the producer was gone. */
static void producer_is_gone(void)
{
	struct offer offer;
	CUdeviceptr here = 5;
	pid_t peer;
	int link = th_peer_start(gives_and_waits, &peer);

	th_cuda_open();
	offer = take(link);
	kill(peer, SIGKILL);
	TH_CHECK(waitpid(peer, NULL, 0) == peer);
	for (int i = 0; i < 2; i++)
		TH_CU_IS(open_handle(&offer.handle, &here),
			 CUDA_ERROR_INVALID_HANDLE);
	TH_CHECK(here == 5);
}

/* ---- a lease that ends, and another user ---- */

static void gives_and_frees(int link)
{
	struct offer offer;

	th_cuda_open();
	offer = give(link, BYTES);
	TH_CU(th_cu.cuMemFree_v2(offer.address));
	th_peer_tell(link);
	th_peer_await(link);
}

/* What the handle named goes to this process: it must not find it by that. */
static void lease_ended(void)
{
	struct offer offer;
	CUdeviceptr here;
	pid_t peer;
	int link = th_peer_start(gives_and_frees, &peer);

	th_cuda_open();
	offer = take(link);
	th_peer_await(link);
	while (th_cu.cuMemAlloc_v2(&here, (size_t)2 << 20) == CUDA_SUCCESS)
		;
	TH_CU_IS(open_handle(&offer.handle, &here), CUDA_ERROR_INVALID_HANDLE);
	th_peer_tell(link);
	th_peer_finish(peer);
}

static void other_user(void)
{
	struct offer offer;
	CUdeviceptr here;
	pid_t peer;
	int link = th_peer_start(gives_and_waits, &peer);

	TH_CHECK(setresuid(65534, 65534, 65534) == 0);
	th_cuda_open();
	(void)allocate(SMALL);
	offer = take(link);
	TH_CU_IS(open_handle(&offer.handle, &here), CUDA_ERROR_INVALID_HANDLE);
	th_peer_tell(link);
	th_peer_finish(peer);
}

/* ---- handles that nobody gave ---- */

static void opens_its_own(void)
{
	CUipcMemHandle handle;
	CUdeviceptr address, here;

	th_cuda_open();
	address = allocate(SMALL);
	TH_CU(th_cu.cuIpcGetMemHandle(&handle, address));
	TH_CU_IS(open_handle(&handle, &here), CUDA_ERROR_INVALID_CONTEXT);
}

/* Each byte wrong in turn: who forges one opens nothing, and keeps what it
 * has. */
static void forged(void)
{
	CUipcMemHandle handle;
	struct offer offer;
	CUdeviceptr here, other;
	pid_t peer;
	int link = th_peer_start(gives_and_waits, &peer);

	th_cuda_open();
	offer = take(link);
	here = opened(&offer);
	for (size_t i = 0; i < sizeof(handle); i++) {
		handle = offer.handle;
		handle.reserved[i] = (char)(handle.reserved[i] ^ 0x40);
		TH_CHECK(open_handle(&handle, &other) != CUDA_SUCCESS);
	}
	th_check_filled(here, SMALL, SEED);
	TH_CU(th_cu.cuIpcCloseMemHandle(here));
	th_peer_tell(link);
	th_peer_finish(peer);
}

static void freed_is_not_given(void)
{
	CUipcMemHandle handle;
	CUdeviceptr address;

	th_cuda_open();
	address = allocate(SMALL);
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CU_IS(th_cu.cuIpcGetMemHandle(&handle, address),
		 CUDA_ERROR_INVALID_VALUE);
	TH_CU_IS(th_cu.cuIpcGetMemHandle(&handle, 0x1234),
		 CUDA_ERROR_INVALID_VALUE);
}

/* Where one process leaves its handle for another of later: beside the
 * daemon's socket. */
static FILE *open_file(const char *mode)
{
	char path[200];
	FILE *file;

	snprintf(path, sizeof(path), "%s.handle", getenv("POOLSWITCH_SOCKET"));
	file = fopen(path, mode);
	TH_CHECK(file != NULL);
	return file;
}

static void writes_handle(void)
{
	FILE *file = open_file("we");
	CUipcMemHandle handle;

	th_cuda_open();
	TH_CU(th_cu.cuIpcGetMemHandle(&handle, allocate(SMALL)));
	TH_CHECK(fwrite(&handle, sizeof(handle), 1, file) == 1);
	fclose(file);
}

/* It has memory itself, which may be what the handle named. */
static void refuses_handle(void)
{
	FILE *file = open_file("re");
	CUipcMemHandle handle;
	CUdeviceptr here;

	th_cuda_open();
	TH_CHECK(fread(&handle, sizeof(handle), 1, file) == 1);
	fclose(file);
	(void)allocate(SMALL);
	TH_CU_IS(open_handle(&handle, &here), CUDA_ERROR_INVALID_HANDLE);
}

/* ---- memory that is the driver's: at_quota=spill ---- */

static void fill_quota_and_give(int link)
{
	struct offer offer;

	th_cuda_open();
	do
		TH_CU(th_cu.cuMemAlloc_v2(&offer.address, BYTES));
	while (!th_is_legacy(offer.address));
	th_fill(offer.address, BYTES, SEED);
	TH_CU(th_cu.cuIpcGetMemHandle(&offer.handle, offer.address));
	th_peer_send(link, &offer, sizeof(offer));
	th_peer_await(link);
}

static void spilled(void)
{
	struct offer offer;
	CUdeviceptr here;
	pid_t peer;
	int link = th_peer_start(fill_quota_and_give, &peer);

	th_cuda_open();
	offer = take(link);
	here = opened(&offer);
	th_check_filled(here, BYTES, SEED);
	TH_CU(th_cu.cuIpcCloseMemHandle(here));
	th_peer_tell(link);
	th_peer_finish(peer);
}

TH_PROGRAM({ "both_write", both_write },
	   { "closed_behind_a_context", closed_behind_a_context },
	   { "opened_twice", opened_twice },
	   { "opened_not_freed", opened_not_freed },
	   { "of_the_middle", of_the_middle },
	   { "producer_dies", producer_dies },
	   { "producer_is_gone", producer_is_gone },
	   { "lease_ended", lease_ended }, { "other_user", other_user },
	   { "opens_its_own", opens_its_own }, { "forged", forged },
	   { "freed_is_not_given", freed_is_not_given },
	   { "writes_handle", writes_handle },
	   { "refuses_handle", refuses_handle }, { "spilled", spilled })
