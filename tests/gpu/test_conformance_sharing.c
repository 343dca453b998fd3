/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the project relies on in the driver: memory between processes, and
 * what death leaves. On a real GPU and on the simulated one.
 */
#include "tests/support/gpu.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEGMENT TH_SEGMENT_BYTES
#define VALUE 0x5eedu

/* ---- segments ---- */

/* A copy from pageable memory may return before it has reached the GPU. */
static void put_for_others(const struct th_gpu *gpu, CUdeviceptr address,
			   uint32_t value)
{
	th_gpu_put(gpu, address, value);
	th_cu(gpu->driver->cuCtxSynchronize());
}

static void give_segment_and_wait(const struct th_gpu *gpu, int socket)
{
	CUmemGenericAllocationHandle handle = th_gpu_create(gpu);
	CUdeviceptr address = th_gpu_map(gpu, handle, &gpu->writable);

	put_for_others(gpu, address, VALUE);
	th_gpu_send_fd(socket, th_gpu_export(gpu, handle));
	th_gpu_await(socket);
	assert_int_equal(th_gpu_get(gpu, address), VALUE);
}

static CUdeviceptr take_segment(const struct th_gpu *gpu, int socket,
				const CUmemAccessDesc *access)
{
	return th_gpu_map(gpu, th_gpu_import(gpu, th_gpu_receive_fd(socket)),
			  access);
}

static void read_segment(const struct th_gpu *gpu, int socket)
{
	CUdeviceptr address = take_segment(gpu, socket, &gpu->readable);

	assert_int_equal(th_gpu_get(gpu, address), VALUE);
	th_gpu_tell(socket);
}

static void test_segment_by_descriptor_shows_contents(void **state)
{
	(void)state;
	th_gpu_pair(give_segment_and_wait, read_segment);
}

static void write_read_only_segment(const struct th_gpu *gpu, int socket)
{
	CUdeviceptr address = take_segment(gpu, socket, &gpu->readable);
	uint32_t word = 1;

	th_cu_is(gpu->driver->cuMemcpyHtoD_v2(address, &word, sizeof(word)),
		 CUDA_ERROR_INVALID_VALUE);
	th_cu_is(gpu->driver->cuMemsetD32_v2(address, 2, 1),
		 CUDA_ERROR_INVALID_VALUE);
	th_gpu_tell(socket);
}

static void test_read_only_importer_cannot_copy_into_it(void **state)
{
	(void)state;
	th_gpu_pair(give_segment_and_wait, write_read_only_segment);
}

static void poke_read_only_segment(const struct th_gpu *gpu, int socket)
{
	CUdeviceptr address = take_segment(gpu, socket, &gpu->readable);

	th_gpu_launch_poke(gpu, th_gpu_poke(gpu), NULL, address, 1);
	th_cu_is(gpu->driver->cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
	th_gpu_tell(socket);
}

static void test_read_only_importer_kernel_is_stopped(void **state)
{
	(void)state;
	th_gpu_pair(give_segment_and_wait, poke_read_only_segment);
}

static void map_at_agreed_address(const struct th_gpu *gpu,
				  CUmemGenericAllocationHandle handle)
{
	assert_int_equal(th_gpu_reserve(gpu, TH_WINDOW_BYTES, TH_SOMEWHERE),
			 TH_SOMEWHERE);
	th_cu(gpu->driver->cuMemMap(TH_SOMEWHERE, SEGMENT, 0, handle, 0));
	th_cu(gpu->driver->cuMemSetAccess(TH_SOMEWHERE, SEGMENT, &gpu->writable,
					  1));
}

static void write_at_agreed_address(const struct th_gpu *gpu, int socket)
{
	CUmemGenericAllocationHandle handle = th_gpu_create(gpu);

	map_at_agreed_address(gpu, handle);
	th_gpu_send_fd(socket, th_gpu_export(gpu, handle));
	th_gpu_await(socket);
	assert_int_equal(th_gpu_get(gpu, TH_SOMEWHERE), VALUE);
}

static void write_back_at_agreed_address(const struct th_gpu *gpu, int socket)
{
	map_at_agreed_address(gpu,
			      th_gpu_import(gpu, th_gpu_receive_fd(socket)));
	put_for_others(gpu, TH_SOMEWHERE, VALUE);
	th_gpu_tell(socket);
}

static void test_same_address_in_two_processes_works(void **state)
{
	(void)state;
	th_gpu_pair(write_at_agreed_address, write_back_at_agreed_address);
}

/* ---- the creator dies ---- */

static void give_segment_and_be_killed(const struct th_gpu *gpu, int socket)
{
	CUmemGenericAllocationHandle handle = th_gpu_create(gpu);

	put_for_others(gpu, th_gpu_map(gpu, handle, &gpu->writable), VALUE);
	th_gpu_send_fd(socket, th_gpu_export(gpu, handle));
	raise(SIGKILL);
}

struct holder {
	void (*run)(const struct th_gpu *gpu, int fd);
	int fd;
};

static void run_with_fd(void *arg)
{
	const struct holder *holder = arg;

	holder->run(th_gpu_open(), holder->fd);
	th_gpu_exit();
}

static void check_contents(const struct th_gpu *gpu, int fd)
{
	CUdeviceptr address =
		th_gpu_map(gpu, th_gpu_import(gpu, fd), &gpu->readable);

	assert_int_equal(th_gpu_get(gpu, address), VALUE);
}

/* This process holds the descriptor, and has no CUDA. */
static void test_descriptor_keeps_contents_after_creators_death(void **state)
{
	struct holder reader = { check_contents, -1 };
	struct holder creator = { give_segment_and_be_killed, -1 };
	int ends[2];

	(void)state;
	th_gpu_need();
	th_socketpair(SOCK_STREAM, ends);
	creator.fd = ends[1];
	assert_int_equal(th_wait(th_fork(run_with_fd, &creator)),
			 128 + SIGKILL);
	reader.fd = th_gpu_receive_fd(ends[0]);
	assert_int_equal(th_wait(th_fork(run_with_fd, &reader)), 0);
	close(reader.fd);
	close(ends[0]);
	close(ends[1]);
}

static void take_much_and_be_killed(const struct th_gpu *gpu, int socket)
{
	CUmemGenericAllocationHandle handle;
	size_t before = th_gpu_free_bytes(gpu);

	th_cu(gpu->driver->cuMemCreate(&handle, 256 * SEGMENT, &gpu->prop, 0));
	th_gpu_send_bytes(socket, &before, sizeof(before));
	raise(SIGKILL);
}

static void check_much_is_free(const struct th_gpu *gpu, int socket)
{
	size_t before;

	th_gpu_receive_bytes(socket, &before, sizeof(before));
	/* What a context takes differs by a little from start to start. */
	assert_true(th_gpu_free_bytes(gpu) + 64 * SEGMENT > before);
}

static void test_memory_of_a_killed_process_is_free(void **state)
{
	struct holder creator = { take_much_and_be_killed, -1 };
	struct holder next = { check_much_is_free, -1 };
	int ends[2];

	(void)state;
	th_gpu_need();
	th_socketpair(SOCK_STREAM, ends);
	creator.fd = ends[1];
	next.fd = ends[0];
	assert_int_equal(th_wait(th_fork(run_with_fd, &creator)),
			 128 + SIGKILL);
	assert_int_equal(th_wait(th_fork(run_with_fd, &next)), 0);
	close(ends[0]);
	close(ends[1]);
}

/* ---- legacy IPC ---- */

static CUdeviceptr give_ticket(const struct th_gpu *gpu, int socket)
{
	CUipcMemHandle ticket;
	CUdeviceptr address;

	th_cu(gpu->driver->cuMemAlloc_v2(&address, SEGMENT));
	put_for_others(gpu, address, VALUE);
	th_cu(gpu->driver->cuIpcGetMemHandle(&ticket, address));
	th_gpu_send_bytes(socket, &ticket, sizeof(ticket));
	return address;
}

static CUdeviceptr take_ticket(const struct th_gpu *gpu, int socket)
{
	CUipcMemHandle ticket;
	CUdeviceptr address;

	th_gpu_receive_bytes(socket, &ticket, sizeof(ticket));
	th_cu(gpu->driver->cuIpcOpenMemHandle_v2(
		&address, ticket, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	return address;
}

static void give_ticket_and_check(const struct th_gpu *gpu, int socket)
{
	CUdeviceptr address = give_ticket(gpu, socket);

	th_gpu_await(socket);
	assert_int_equal(th_gpu_get(gpu, address), VALUE + 1);
	th_cu(gpu->driver->cuMemFree_v2(address));
}

static void use_ticket(const struct th_gpu *gpu, int socket)
{
	CUdeviceptr address = take_ticket(gpu, socket);

	assert_int_equal(th_gpu_get(gpu, address), VALUE);
	put_for_others(gpu, address, VALUE + 1);
	th_cu_is(gpu->driver->cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
	th_cu(gpu->driver->cuIpcCloseMemHandle(address));
	th_gpu_tell(socket);
}

static void test_legacy_memory_is_shared_both_ways(void **state)
{
	(void)state;
	th_gpu_pair(give_ticket_and_check, use_ticket);
}

static void give_ticket_and_wait(const struct th_gpu *gpu, int socket)
{
	give_ticket(gpu, socket);
	th_gpu_await(socket);
}

static void close_what_is_not_open(const struct th_gpu *gpu, int socket)
{
	CUdeviceptr address = take_ticket(gpu, socket);

	th_cu(gpu->driver->cuIpcCloseMemHandle(address));
	th_cu_fails(gpu->driver->cuIpcCloseMemHandle(address));
	th_gpu_tell(socket);
}

static void test_legacy_close_twice_fails(void **state)
{
	(void)state;
	th_gpu_pair(give_ticket_and_wait, close_what_is_not_open);
}

static void test_legacy_open_in_the_exporter_is_refused(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUipcMemHandle ticket;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemAlloc_v2(&address, SEGMENT));
	th_cu(gpu->driver->cuIpcGetMemHandle(&ticket, address));
	th_cu_fails(gpu->driver->cuIpcOpenMemHandle_v2(
		&address, ticket, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	th_gpu_exit();
}

static void give_ticket_and_be_killed(const struct th_gpu *gpu, int socket)
{
	give_ticket(gpu, socket);
	th_gpu_await(socket);
	raise(SIGKILL);
}

static void read_after_the_exporter(const struct th_gpu *gpu, int socket)
{
	CUdeviceptr address = take_ticket(gpu, socket);
	char byte;

	th_gpu_tell(socket);
	/* End of file: it is gone, or about to be. */
	assert_true(recv(socket, &byte, 1, 0) <= 0);
	assert_int_equal(th_gpu_get(gpu, address), VALUE);
}

static void test_legacy_importer_outlives_the_exporter(void **state)
{
	struct holder exporter = { give_ticket_and_be_killed, -1 };
	struct holder importer = { read_after_the_exporter, -1 };
	pid_t exporter_pid;
	pid_t importer_pid;
	int ends[2];

	(void)state;
	th_gpu_need();
	th_socketpair(SOCK_STREAM, ends);
	exporter.fd = ends[0];
	exporter_pid = th_fork(run_with_fd, &exporter);
	close(ends[0]);
	importer.fd = ends[1];
	importer_pid = th_fork(run_with_fd, &importer);
	close(ends[1]);
	assert_int_equal(th_wait(exporter_pid), 128 + SIGKILL);
	assert_int_equal(th_wait(importer_pid), 0);
}

/* ---- values ---- */

static void write_value_into_segment(const struct th_gpu *gpu, int socket)
{
	CUmemGenericAllocationHandle handle = th_gpu_create(gpu);
	CUdeviceptr address = th_gpu_map(gpu, handle, &gpu->writable);
	CUstream stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);

	put_for_others(gpu, address, 0);
	th_gpu_send_fd(socket, th_gpu_export(gpu, handle));
	th_gpu_await(socket);
	th_cu(gpu->driver->cuMemsetD32Async(address + 4, VALUE, 1, stream));
	th_cu(gpu->driver->cuStreamWriteValue32_v2(stream, address, 5, 0));
	th_gpu_await(socket);
}

static void wait_for_value_in_segment(const struct th_gpu *gpu, int socket)
{
	CUdeviceptr address = take_segment(gpu, socket, &gpu->readable);
	CUstream stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);

	th_cu(gpu->driver->cuStreamWaitValue32_v2(stream, address, 5,
						  CU_STREAM_WAIT_VALUE_GEQ));
	th_gpu_assert_busy(gpu, stream);
	th_gpu_tell(socket);
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	assert_int_equal(th_gpu_get(gpu, address + 4), VALUE);
	th_gpu_tell(socket);
}

static void test_value_wait_sees_another_process_write(void **state)
{
	(void)state;
	th_gpu_pair(write_value_into_segment, wait_for_value_in_segment);
}

/* ---- access by GPU ---- */

static unsigned long long access_of(const struct th_gpu *gpu, int device,
				    CUdeviceptr address)
{
	const CUmemLocation location = { CU_MEM_LOCATION_TYPE_DEVICE, device };
	unsigned long long flags = 99;

	th_cu(gpu->driver->cuMemGetAccess(&flags, &location, address));
	return flags;
}

static void test_access_is_told_as_it_was_set(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	int device;
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	device = gpu->writable.location.id;
	address = th_gpu_segment(gpu);
	assert_int_equal(access_of(gpu, device, address),
			 CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	th_cu(gpu->driver->cuMemSetAccess(address, SEGMENT, &gpu->readable, 1));
	assert_int_equal(access_of(gpu, device, address + 4),
			 CU_MEM_ACCESS_FLAGS_PROT_READ);
	th_gpu_exit();
}

static void set_both(const struct th_gpu *gpu, CUdeviceptr address)
{
	CUmemAccessDesc both[2] = { gpu->writable, gpu->writable };

	both[1].location.id = 1;
	assert_int_equal(access_of(gpu, 1, address),
			 CU_MEM_ACCESS_FLAGS_PROT_NONE);
	th_cu(gpu->driver->cuMemSetAccess(address, SEGMENT, both, 2));
	assert_int_equal(access_of(gpu, 1, address),
			 CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
}

/* Says nothing on a machine with one GPU; the simulated one shows two. */
static void test_access_of_two_gpus_is_set_at_once(void **state)
{
	const struct th_gpu *gpu;
	int count = 0, can = 0;

	(void)state;
	setenv("POOLSWITCH_SIM_DEVICES", "2", 1);
	gpu = th_gpu_child();
	if (!gpu) {
		unsetenv("POOLSWITCH_SIM_DEVICES");
		return;
	}
	th_cu(gpu->driver->cuDeviceGetCount(&count));
	if (count > 1)
		th_cu(gpu->driver->cuDeviceCanAccessPeer(&can, 1, 0));
	if (can)
		set_both(gpu, th_gpu_segment(gpu));
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_segment_by_descriptor_shows_contents),
	TH_TEST(test_read_only_importer_cannot_copy_into_it),
	TH_TEST(test_read_only_importer_kernel_is_stopped),
	TH_TEST(test_same_address_in_two_processes_works),
	TH_TEST(test_descriptor_keeps_contents_after_creators_death),
	TH_TEST(test_memory_of_a_killed_process_is_free),
	TH_TEST(test_legacy_memory_is_shared_both_ways),
	TH_TEST(test_legacy_close_twice_fails),
	TH_TEST(test_legacy_open_in_the_exporter_is_refused),
	TH_TEST(test_legacy_importer_outlives_the_exporter),
	TH_TEST(test_value_wait_sees_another_process_write),
	TH_TEST(test_access_is_told_as_it_was_set),
	TH_TEST(test_access_of_two_gpus_is_set_at_once),
};

TH_MAIN("conformance_sharing", tests)
