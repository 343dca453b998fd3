/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/gpu.h"

#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NO_GPU 77

static const char poke_ptx[] = ".version 7.0\n"
			       ".target sm_70\n"
			       ".address_size 64\n"
			       ".visible .entry poke(.param .u64 address,\n"
			       "                     .param .u32 value)\n"
			       "{\n"
			       "  .reg .b64 %a;\n"
			       "  .reg .b32 %v;\n"
			       "  ld.param.u64 %a, [address];\n"
			       "  ld.param.u32 %v, [value];\n"
			       "  cvta.to.global.u64 %a, %a;\n"
			       "  st.global.u32 [%a], %v;\n"
			       "  ret;\n"
			       "}\n";

static const char scribble_ptx[] = ".version 7.0\n"
				   ".target sm_70\n"
				   ".address_size 64\n"
				   ".visible .entry scribble(\n"
				   "    .param .u64 address,\n"
				   "    .param .u32 words,\n"
				   "    .param .u32 value,\n"
				   "    .param .u64 ns)\n"
				   "{\n"
				   "  .reg .b64 %a, %at, %o, %t0, %t1, %ns;\n"
				   "  .reg .b32 %n, %v, %i, %first, %step;\n"
				   "  .reg .pred %p;\n"
				   "  ld.param.u64 %a, [address];\n"
				   "  ld.param.u32 %n, [words];\n"
				   "  ld.param.u32 %v, [value];\n"
				   "  ld.param.u64 %ns, [ns];\n"
				   "  cvta.to.global.u64 %a, %a;\n"
				   "  mov.u32 %first, %tid.x;\n"
				   "  mov.u32 %step, %ntid.x;\n"
				   "  mov.u64 %t0, %globaltimer;\n"
				   "again:\n"
				   "  mov.u32 %i, %first;\n"
				   "next:\n"
				   "  setp.ge.u32 %p, %i, %n;\n"
				   "  @%p bra done;\n"
				   "  mul.wide.u32 %o, %i, 4;\n"
				   "  add.u64 %at, %a, %o;\n"
				   "  st.volatile.global.u32 [%at], %v;\n"
				   "  add.u32 %i, %i, %step;\n"
				   "  bra next;\n"
				   "done:\n"
				   "  mov.u64 %t1, %globaltimer;\n"
				   "  sub.u64 %t1, %t1, %t0;\n"
				   "  setp.lt.u64 %p, %t1, %ns;\n"
				   "  @%p bra again;\n"
				   "  ret;\n"
				   "}\n";

static struct th_gpu the_gpu;

void th_check_result(CUresult result, CUresult expected, const char *call,
		     const char *file, int line)
{
	const char *name = "?";

	if (result == expected)
		return;
	if (the_gpu.driver)
		the_gpu.driver->cuGetErrorName(result, &name);
	print_error("%s:%d: %s is %d (%s), not %d\n", file, line, call,
		    (int)result, name, (int)expected);
	fail();
}

static void look_for_gpu(void *arg)
{
	const struct dv_driver *driver;
	int count = 0;

	(void)arg;
	if (dv_driver_get(&driver) == PS_OK &&
	    driver->cuInit(0) == CUDA_SUCCESS)
		driver->cuDeviceGetCount(&count);
	if (count == 0) {
		print_message("%s\n", bs_fail_text());
		_exit(NO_GPU);
	}
}

/* The simulated GPU is always there: its absence is a failure. */
static bool is_real_wanted(void)
{
	const char *choice = getenv("POOLSWITCH_DRIVER");

	return !choice || strcmp(choice, "sim") != 0;
}

void th_gpu_need(void)
{
	static int answer = -1;

	if (answer < 0)
		answer = th_wait(th_fork(look_for_gpu, NULL));
	if (answer == NO_GPU && is_real_wanted())
		th_skip("no GPU, or no driver");
	assert_int_equal(answer, 0);
}

const struct th_gpu *th_gpu_open(void)
{
	struct th_gpu *gpu = &the_gpu;
	void *gate = NULL;
	CUdevice device;

	th_assert_ok(dv_driver_get(&gpu->driver));
	th_cu(gpu->driver->cuInit(0));
	th_cu(gpu->driver->cuDeviceGet(&device, 0));
	th_cu(gpu->driver->cuDevicePrimaryCtxRetain(&gpu->context, device));
	th_cu(gpu->driver->cuCtxSetCurrent(gpu->context));
	th_cu(gpu->driver->cuMemHostAlloc(&gate, 4096,
					  CU_MEMHOSTALLOC_PORTABLE));
	gpu->gate = gate;
	*gpu->gate = 0;
	gpu->prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	gpu->prop.requestedHandleTypes =
		CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	gpu->prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	gpu->prop.location.id = device;
	gpu->readable.location = gpu->prop.location;
	gpu->readable.flags = CU_MEM_ACCESS_FLAGS_PROT_READ;
	gpu->writable.location = gpu->prop.location;
	gpu->writable.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	return gpu;
}

void th_gpu_exit(void)
{
	fflush(NULL);
	_exit(0);
}

const struct th_gpu *th_gpu_child(void)
{
	pid_t parent = getpid();
	pid_t child;

	th_gpu_need();
	fflush(NULL);
	child = fork();
	if (child < 0)
		fail_msg("fork failed");
	if (getpid() != parent) {
		setenv("CMOCKA_TEST_ABORT", "1", 1);
		return th_gpu_open();
	}
	assert_int_equal(th_wait(child), 0);
	return NULL;
}

struct part {
	void (*run)(const struct th_gpu *gpu, int socket);
	int socket;
	int other; /* the end that is not this part's */
};

static void play(void *arg)
{
	const struct part *part = arg;

	close(part->other);
	part->run(th_gpu_open(), part->socket);
	th_gpu_exit();
}

void th_gpu_pair(void (*first)(const struct th_gpu *gpu, int socket),
		 void (*second)(const struct th_gpu *gpu, int socket))
{
	struct part parts[2];
	pid_t children[2];
	int ends[2];
	int i;

	th_gpu_need();
	th_socketpair(SOCK_STREAM, ends);
	parts[0] = (struct part){ first, ends[0], ends[1] };
	parts[1] = (struct part){ second, ends[1], ends[0] };
	for (i = 0; i < 2; i++)
		children[i] = th_fork(play, &parts[i]);
	close(ends[0]);
	close(ends[1]);
	for (i = 0; i < 2; i++)
		assert_int_equal(th_wait(children[i]), 0);
}

/* ---- memory ---- */

CUmemGenericAllocationHandle th_gpu_create(const struct th_gpu *gpu)
{
	CUmemGenericAllocationHandle handle;

	th_cu(gpu->driver->cuMemCreate(&handle, TH_SEGMENT_BYTES, &gpu->prop,
				       0));
	return handle;
}

int th_gpu_export(const struct th_gpu *gpu, CUmemGenericAllocationHandle handle)
{
	int fd = -1;

	th_cu(gpu->driver->cuMemExportToShareableHandle(
		&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	return fd;
}

CUmemGenericAllocationHandle th_gpu_import(const struct th_gpu *gpu, int fd)
{
	CUmemGenericAllocationHandle handle;

	th_cu(gpu->driver->cuMemImportFromShareableHandle(
		&handle, (void *)(intptr_t)fd,
		CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	return handle;
}

CUdeviceptr th_gpu_reserve(const struct th_gpu *gpu, size_t bytes,
			   CUdeviceptr wanted)
{
	CUdeviceptr address;

	th_cu(gpu->driver->cuMemAddressReserve(&address, bytes, 0, wanted, 0));
	return address;
}

CUdeviceptr th_gpu_map(const struct th_gpu *gpu,
		       CUmemGenericAllocationHandle handle,
		       const CUmemAccessDesc *access)
{
	CUdeviceptr address = th_gpu_reserve(gpu, TH_SEGMENT_BYTES, 0);

	th_cu(gpu->driver->cuMemMap(address, TH_SEGMENT_BYTES, 0, handle, 0));
	th_cu(gpu->driver->cuMemSetAccess(address, TH_SEGMENT_BYTES, access,
					  1));
	return address;
}

CUdeviceptr th_gpu_segment(const struct th_gpu *gpu)
{
	return th_gpu_map(gpu, th_gpu_create(gpu), &gpu->writable);
}

size_t th_gpu_free_bytes(const struct th_gpu *gpu)
{
	size_t total;
	size_t bytes;

	th_cu(gpu->driver->cuMemGetInfo_v2(&bytes, &total));
	return bytes;
}

void th_gpu_put(const struct th_gpu *gpu, CUdeviceptr address, uint32_t value)
{
	th_cu(gpu->driver->cuMemcpyHtoD_v2(address, &value, sizeof(value)));
}

uint32_t th_gpu_get(const struct th_gpu *gpu, CUdeviceptr address)
{
	uint32_t value = 0;

	th_cu(gpu->driver->cuMemcpyDtoH_v2(&value, address, sizeof(value)));
	return value;
}

/* ---- work ---- */

CUstream th_gpu_stream(const struct th_gpu *gpu, unsigned int flags)
{
	CUstream stream;

	th_cu(gpu->driver->cuStreamCreate(&stream, flags));
	return stream;
}

CUevent th_gpu_event(const struct th_gpu *gpu)
{
	CUevent event;

	th_cu(gpu->driver->cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
	return event;
}

CUstream th_gpu_capture(const struct th_gpu *gpu, unsigned int flags)
{
	CUstream stream = th_gpu_stream(gpu, flags);

	th_cu(gpu->driver->cuStreamBeginCapture_v2(
		stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	return stream;
}

void th_gpu_end_capture(const struct th_gpu *gpu, CUstream stream)
{
	CUgraph graph = NULL;

	th_cu(gpu->driver->cuStreamEndCapture(stream, &graph));
	th_cu(gpu->driver->cuGraphDestroy(graph));
}

void th_gpu_block(const struct th_gpu *gpu, CUstream stream)
{
	*gpu->gate = 0;
	th_cu(gpu->driver->cuStreamWaitValue32_v2(
		stream, (CUdeviceptr)gpu->gate, 1, CU_STREAM_WAIT_VALUE_EQ));
}

void th_gpu_unblock(const struct th_gpu *gpu)
{
	*gpu->gate = 1;
}

void th_gpu_assert_pending(const struct th_gpu *gpu, CUevent event)
{
	uint64_t end = th_now_ns() + TH_NOT_HAPPENING_MS * 1000000ull;

	do
		th_cu_is(gpu->driver->cuEventQuery(event),
			 CUDA_ERROR_NOT_READY);
	while (th_now_ns() < end);
}

void th_gpu_assert_busy(const struct th_gpu *gpu, CUstream stream)
{
	CUevent event = th_gpu_event(gpu);

	th_cu(gpu->driver->cuEventRecord(event, stream));
	th_gpu_assert_pending(gpu, event);
	th_cu(gpu->driver->cuEventDestroy_v2(event));
}

static CUfunction load(const struct th_gpu *gpu, const char *ptx,
		       const char *name)
{
	char simulated[4096];
	const void *image = ptx;
	CUfunction function;
	CUmodule module;

	if (gpu->driver->simulated) {
		snprintf(simulated, sizeof(simulated), "sim-module:%s",
			 th_program("gpu/poke.sim.so"));
		image = simulated;
	}
	th_cu(gpu->driver->cuModuleLoadData(&module, image));
	th_cu(gpu->driver->cuModuleGetFunction(&function, module, name));
	return function;
}

CUfunction th_gpu_poke(const struct th_gpu *gpu)
{
	return load(gpu, poke_ptx, "poke");
}

void th_gpu_scribble(const struct th_gpu *gpu, CUstream stream,
		     CUdeviceptr address, uint32_t words, uint32_t value,
		     uint64_t ns)
{
	CUfunction scribble = load(gpu, scribble_ptx, "scribble");
	void *args[] = { &address, &words, &value, &ns };

	th_cu(gpu->driver->cuLaunchKernel(scribble, 1, 1, 1, 256, 1, 1, 0,
					  stream, args, NULL));
}

void th_gpu_launch_poke(const struct th_gpu *gpu, CUfunction poke,
			CUstream stream, CUdeviceptr address, uint32_t value)
{
	void *args[] = { &address, &value };

	th_cu(gpu->driver->cuLaunchKernel(poke, 1, 1, 1, 1, 1, 1, 0, stream,
					  args, NULL));
}

/* ---- between children ---- */

void th_gpu_send_bytes(int socket, const void *bytes, size_t count)
{
	assert_int_equal(send(socket, bytes, count, MSG_NOSIGNAL), count);
}

void th_gpu_receive_bytes(int socket, void *bytes, size_t count)
{
	assert_int_equal(recv(socket, bytes, count, MSG_WAITALL), count);
}

void th_gpu_tell(int socket)
{
	th_gpu_send_bytes(socket, "x", 1);
}

void th_gpu_await(int socket)
{
	char byte;

	th_gpu_receive_bytes(socket, &byte, 1);
}

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

void th_gpu_send_fd(int socket, int fd)
{
	char byte = 0;
	struct iovec part = { &byte, 1 };
	union control control = { .bytes = { 0 } };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	assert_int_equal(sendmsg(socket, &message, MSG_NOSIGNAL), 1);
}

int th_gpu_receive_fd(int socket)
{
	char byte;
	struct iovec part = { &byte, 1 };
	union control control;
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	int fd;

	assert_int_equal(recvmsg(socket, &message, MSG_CMSG_CLOEXEC), 1);
	assert_int_equal(message.msg_controllen, sizeof(control));
	memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	return fd;
}
