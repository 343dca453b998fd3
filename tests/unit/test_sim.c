/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What is particular to the simulated GPU: its accounts, faults and time.
 * What it has in common with a real one is in tests/gpu/test_conformance_*. */
#include "tests/support/gpu.h"
#include "tests/support/sim.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEGMENT TH_SEGMENT_BYTES
#define OUT_OF_MEMORY CUDA_ERROR_OUT_OF_MEMORY

static CUresult create(const struct th_gpu *gpu, size_t bytes,
		       CUmemGenericAllocationHandle *handle_out)
{
	return gpu->driver->cuMemCreate(handle_out, bytes, &gpu->prop, 0);
}

/* ---- faults ---- */

static void test_sim_fault_strikes_the_nth_call_once(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;

	(void)state;
	if (!gpu)
		return;
	th_sim_fail_nth("cuMemCreate", 2, OUT_OF_MEMORY);
	th_cu(create(gpu, SEGMENT, &handle));
	th_cu_is(create(gpu, SEGMENT, &handle), OUT_OF_MEMORY);
	th_cu(create(gpu, SEGMENT, &handle));
	th_gpu_exit();
}

static void test_sim_fault_of_any_symbol_strikes_the_nth_call(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;

	(void)state;
	if (!gpu)
		return;
	th_sim_fail_nth(NULL, 2, CUDA_ERROR_UNKNOWN);
	th_cu(create(gpu, SEGMENT, &handle));
	th_cu_is(gpu->driver->cuMemRelease(handle), CUDA_ERROR_UNKNOWN);
	th_cu(gpu->driver->cuMemRelease(handle));
	th_gpu_exit();
}

static void test_sim_fault_can_be_taken_back(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;

	(void)state;
	if (!gpu)
		return;
	th_sim_fail_nth("cuMemCreate", 1, OUT_OF_MEMORY);
	th_sim_fail_nth("cuMemCreate", 0, 0);
	th_cu(create(gpu, SEGMENT, &handle));
	th_gpu_exit();
}

static void fail_by_environment(void *arg)
{
	CUmemGenericAllocationHandle handle;
	const struct th_gpu *gpu;

	(void)arg;
	setenv("POOLSWITCH_SIM_FAIL", "cuMemCreate:2=2,cuMemRelease:1=999", 1);
	gpu = th_gpu_open();
	th_cu(create(gpu, SEGMENT, &handle));
	th_cu_is(create(gpu, SEGMENT, &handle), OUT_OF_MEMORY);
	th_cu_is(gpu->driver->cuMemRelease(handle), CUDA_ERROR_UNKNOWN);
}

static void test_sim_faults_come_from_the_environment(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(fail_by_environment, NULL)), 0);
}

static void test_sim_calls_are_counted(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	unsigned long all;

	(void)state;
	if (!gpu)
		return;
	th_sim_reset();
	th_gpu_create(gpu);
	th_gpu_create(gpu);
	all = th_sim_calls(NULL);
	assert_int_equal(th_sim_calls("cuMemCreate"), 2);
	assert_int_equal(all, 2);
	th_gpu_exit();
}

/* ---- accounts ---- */

static void fill_small_gpu(void *arg)
{
	CUmemGenericAllocationHandle handles[4];
	CUmemGenericAllocationHandle more;
	const struct th_gpu *gpu;
	int i;

	(void)arg;
	gpu = th_gpu_open();
	for (i = 0; i < 4; i++)
		th_cu(create(gpu, SEGMENT, &handles[i]));
	th_cu_is(create(gpu, SEGMENT, &more), OUT_OF_MEMORY);
	/* Two places that are no neighbours hold one of twice the size. */
	th_cu(gpu->driver->cuMemRelease(handles[0]));
	th_cu(gpu->driver->cuMemRelease(handles[2]));
	th_cu(create(gpu, 2 * SEGMENT, &more));
	th_cu_is(create(gpu, SEGMENT, &more), OUT_OF_MEMORY);
}

/* In a folder of its own, with that setting. */
static void run_with(const char *name, const char *value, void (*run)(void *))
{
	char *folder = strdup(getenv("POOLSWITCH_SIM_DIR"));
	char *before = getenv(name) ? strdup(getenv(name)) : NULL;
	int status;

	setenv("POOLSWITCH_SIM_DIR", th_temp_dir(), 1);
	setenv(name, value, 1);
	status = th_wait(th_fork(run, NULL));
	setenv("POOLSWITCH_SIM_DIR", folder, 1);
	if (before)
		setenv(name, before, 1);
	else
		unsetenv(name);
	free(before);
	free(folder);
	assert_int_equal(status, 0);
}

static void test_sim_full_gpu_is_out_of_memory(void **state)
{
	(void)state;
	run_with("POOLSWITCH_SIM_MEMORY", "8M", fill_small_gpu);
}

static void check_large_gpu(void *arg)
{
	const struct th_gpu *gpu = th_gpu_open();
	size_t total = 0;

	(void)arg;
	th_cu(gpu->driver->cuDeviceTotalMem_v2(&total, 0));
	assert_int_equal(total, (size_t)139 << 30);
	assert_int_equal(th_gpu_free_bytes(gpu), total);
}

static void test_sim_memory_is_as_large_as_configured(void **state)
{
	(void)state;
	run_with("POOLSWITCH_SIM_MEMORY", "139G", check_large_gpu);
}

static void check_context_size(void *arg)
{
	const struct th_gpu *gpu = th_gpu_open();
	size_t total = 0;

	(void)arg;
	th_cu(gpu->driver->cuDeviceTotalMem_v2(&total, 0));
	assert_int_equal(total - th_gpu_free_bytes(gpu), 64 << 20);
}

static void test_sim_context_takes_what_is_configured(void **state)
{
	(void)state;
	run_with("POOLSWITCH_SIM_CONTEXT", "64M", check_context_size);
}

static void create_send_and_die(void *arg)
{
	const struct th_gpu *gpu = th_gpu_open();

	th_gpu_send_fd(*(int *)arg, th_gpu_export(gpu, th_gpu_create(gpu)));
	raise(SIGKILL);
}

static void check_all_but_one_free(void *arg)
{
	const struct th_gpu *gpu = th_gpu_open();
	size_t total = 0;

	(void)arg;
	th_cu(gpu->driver->cuDeviceTotalMem_v2(&total, 0));
	assert_int_equal(total - th_gpu_free_bytes(gpu), SEGMENT);
}

static void check_all_free(void *arg)
{
	const struct th_gpu *gpu = th_gpu_open();
	size_t total = 0;

	(void)arg;
	th_cu(gpu->driver->cuDeviceTotalMem_v2(&total, 0));
	assert_int_equal(total, th_gpu_free_bytes(gpu));
}

static void test_sim_memory_of_the_killed_lives_by_descriptor(void **state)
{
	int ends[2];
	int fd;

	(void)state;
	th_socketpair(SOCK_STREAM, ends);
	assert_int_equal(th_wait(th_fork(create_send_and_die, &ends[1])),
			 128 + SIGKILL);
	fd = th_gpu_receive_fd(ends[0]);
	assert_int_equal(th_wait(th_fork(check_all_but_one_free, NULL)), 0);
	close(fd);
	assert_int_equal(th_wait(th_fork(check_all_free, NULL)), 0);
	close(ends[0]);
	close(ends[1]);
}

static void test_sim_new_memory_is_zero(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuMemAlloc_v2(&address, SEGMENT));
	th_gpu_put(gpu, address, 1);
	th_cu(gpu->driver->cuMemFree_v2(address));
	th_cu(gpu->driver->cuMemAlloc_v2(&address, SEGMENT));
	assert_int_equal(th_gpu_get(gpu, address), 0);
	th_gpu_exit();
}

static void write_uuid(void *arg)
{
	const struct th_gpu *gpu = th_gpu_open();
	CUuuid uuid;

	th_cu(gpu->driver->cuDeviceGetUuid_v2(&uuid, 0));
	th_gpu_send_bytes(((int *)arg)[1], &uuid, sizeof(uuid));
}

static CUuuid uuid_in(const char *folder)
{
	int ends[2];
	CUuuid uuid;

	setenv("POOLSWITCH_SIM_DIR", folder, 1);
	th_socketpair(SOCK_STREAM, ends);
	assert_int_equal(th_wait(th_fork(write_uuid, ends)), 0);
	th_gpu_receive_bytes(ends[0], &uuid, sizeof(uuid));
	close(ends[0]);
	close(ends[1]);
	return uuid;
}

static void test_sim_two_folders_are_two_gpus(void **state)
{
	char *folder = strdup(getenv("POOLSWITCH_SIM_DIR"));
	CUuuid again = uuid_in(folder);
	CUuuid ours = uuid_in(folder);
	CUuuid other = uuid_in(th_temp_dir());

	(void)state;
	setenv("POOLSWITCH_SIM_DIR", folder, 1);
	free(folder);
	assert_memory_equal(&ours, &again, sizeof(ours));
	assert_memory_not_equal(&ours, &other, sizeof(ours));
}

/* ---- time and failure ---- */

/* What a copy of one segment takes. */
static uint64_t copy_time(void)
{
	const struct th_gpu *gpu = th_gpu_open();
	CUdeviceptr address = th_gpu_segment(gpu);
	void *host = calloc(1, SEGMENT);
	uint64_t start = th_now_ns();

	assert_non_null(host);
	th_cu(gpu->driver->cuMemcpyHtoD_v2(address, host, SEGMENT));
	free(host);
	return th_now_ns() - start;
}

/* 1 GB/s: a byte a nanosecond. */
static void copy_slowly(void *arg)
{
	(void)arg;
	assert_true(copy_time() >= SEGMENT);
}

static void copy_at_64m_a_second(void *arg)
{
	(void)arg;
	assert_true(copy_time() >= SEGMENT * UINT64_C(1000000000) >> 26);
}

static void test_sim_copy_takes_the_time_of_the_bandwidth(void **state)
{
	(void)state;
	run_with("POOLSWITCH_SIM_BANDWIDTH", "1", copy_slowly);
	run_with("POOLSWITCH_SIM_BANDWIDTH", "64M", copy_at_64m_a_second);
}

static void copy_as_the_file_says(void *arg)
{
	const char *path = getenv("POOLSWITCH_SIM_BANDWIDTH");
	FILE *file;

	(void)arg;
	file = fopen(path, "we");
	assert_non_null(file);
	fputs("64M", file);
	fclose(file);
	copy_at_64m_a_second(NULL);
}

static void test_sim_copy_takes_the_time_that_a_file_says(void **state)
{
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/bandwidth", th_temp_dir());
	run_with("POOLSWITCH_SIM_BANDWIDTH", path, copy_as_the_file_says);
}

static void test_sim_copy_into_unmapped_memory_fails_and_is_over(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr address;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	address = th_gpu_segment(gpu);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_gpu_block(gpu, stream);
	th_cu(gpu->driver->cuMemsetD32Async(address, 1, 4, stream));
	th_cu(gpu->driver->cuMemUnmap(address, SEGMENT));
	th_gpu_unblock(gpu);
	th_cu_is(gpu->driver->cuStreamSynchronize(stream),
		 CUDA_ERROR_ILLEGAL_ADDRESS);
	th_cu_is(gpu->driver->cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
	th_gpu_exit();
}

static void test_sim_lost_gpu_fails_all_calls_until_reset(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemGenericAllocationHandle handle;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_gpu_block(gpu, stream);
	th_sim_lose_device();
	th_cu_is(gpu->driver->cuStreamSynchronize(stream),
		 CUDA_ERROR_ECC_UNCORRECTABLE);
	th_cu_is(create(gpu, SEGMENT, &handle), CUDA_ERROR_ECC_UNCORRECTABLE);
	th_sim_reset();
	th_cu(create(gpu, SEGMENT, &handle));
	th_gpu_exit();
}

static void die_writing(void *arg)
{
	const struct th_gpu *gpu = th_gpu_open();

	th_gpu_tell(*(int *)arg);
	(void)gpu;
	th_sim_die(20);
}

static void test_sim_death_closes_sockets_before_the_process(void **state)
{
	int ends[2];
	char byte;
	pid_t pid;

	(void)state;
	th_socketpair(SOCK_STREAM, ends);
	pid = th_fork(die_writing, &ends[1]);
	close(ends[1]);
	th_gpu_await(ends[0]);
	/* End of file comes first; the process is still there. */
	assert_int_equal(recv(ends[0], &byte, 1, 0), 0);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	assert_int_equal(th_wait(pid), 128 + SIGKILL);
	close(ends[0]);
}

/* A destroyed stream's handle comes back at once, without its work. */
static void test_sim_stream_handle_is_given_out_again(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream second;
	CUstream first;

	(void)state;
	if (!gpu)
		return;
	first = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_gpu_block(gpu, first);
	th_cu(gpu->driver->cuStreamDestroy_v2(first));
	second = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	assert_ptr_equal(first, second);
	th_cu(gpu->driver->cuStreamSynchronize(second));
	th_gpu_exit();
}

/* ---- what a dead process leaves behind ---- */

/* Dies of it, and says the pid of what it leaves. */
static void be_haunted(void *arg)
{
	int socket = *(int *)arg;
	const struct th_gpu *gpu = th_gpu_open();
	CUmemGenericAllocationHandle handle = th_gpu_create(gpu);
	CUdeviceptr address = th_gpu_map(gpu, handle, &gpu->writable);
	int fd = th_gpu_export(gpu, handle);
	pid_t child = th_sim_haunt(address, false);

	th_gpu_send_bytes(socket, &child, sizeof(child));
	th_gpu_send_fd(socket, fd);
	th_sim_die(0);
}

/* In a child: the process of the tests has no CUDA. */
static void see_writing(void *arg)
{
	const struct th_gpu *gpu = th_gpu_open();
	CUmemGenericAllocationHandle handle = th_gpu_import(gpu, *(int *)arg);
	CUdeviceptr address = th_gpu_map(gpu, handle, &gpu->readable);
	uint32_t before = th_gpu_get(gpu, address);
	uint64_t start = th_now_ns();

	while (th_gpu_get(gpu, address) == before)
		assert_true(th_now_ns() - start < UINT64_C(5000000000));
}

static void test_sim_forked_child_writes_on_after_a_death(void **state)
{
	int pair[2];
	pid_t haunted, child;
	int fd;

	(void)state;
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	th_socketpair(SOCK_STREAM, pair);
	haunted = th_fork(be_haunted, &pair[1]);
	th_gpu_receive_bytes(pair[0], &child, sizeof(child));
	fd = th_gpu_receive_fd(pair[0]);
	assert_int_equal(th_wait(haunted), 128 + SIGKILL);
	assert_int_equal(th_wait(th_fork(see_writing, &fd)), 0);
	th_kill(child);
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

/* ---- whose memory it is ---- */

static void test_sim_memory_of_the_host_is_not_counted(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUmemAllocationProp prop;
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;
	size_t before;
	int type = 0;

	(void)state;
	if (!gpu)
		return;
	before = th_gpu_free_bytes(gpu);
	prop = gpu->prop;
	prop.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
	th_cu(gpu->driver->cuMemCreate(&handle, TH_SEGMENT_BYTES, &prop, 0));
	address = th_gpu_map(gpu, handle, &gpu->writable);
	th_gpu_put(gpu, address, 4);
	assert_int_equal(th_gpu_free_bytes(gpu), before);
	th_cu(gpu->driver->cuPointerGetAttribute(
		&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address));
	assert_int_equal(type, CU_MEMORYTYPE_HOST);
	th_gpu_exit();
}

static int device_of(const struct th_gpu *gpu, CUdeviceptr address)
{
	int device = -1;

	th_cu(gpu->driver->cuPointerGetAttribute(
		&device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address));
	return device;
}

static void use_second_gpu(void *arg)
{
	const struct th_gpu *gpu;
	CUuuid uuids[2];
	CUdeviceptr plain;
	CUdeviceptr pooled;
	CUcontext context;

	(void)arg;
	setenv("POOLSWITCH_SIM_DEVICES", "2", 1);
	gpu = th_gpu_open();
	th_cu(gpu->driver->cuDeviceGetUuid_v2(&uuids[0], 0));
	th_cu(gpu->driver->cuDeviceGetUuid_v2(&uuids[1], 1));
	assert_memory_not_equal(&uuids[0], &uuids[1], sizeof(uuids[0]));
	th_cu(gpu->driver->cuCtxCreate_v2(&context, 0, 1));
	th_cu(gpu->driver->cuMemAlloc_v2(&plain, TH_SEGMENT_BYTES));
	th_cu(gpu->driver->cuMemAllocAsync(&pooled, TH_SEGMENT_BYTES, NULL));
	assert_int_equal(device_of(gpu, plain), 1);
	assert_int_equal(device_of(gpu, pooled), 1);
	th_cu(gpu->driver->cuCtxEnablePeerAccess(gpu->context, 0));
	th_cu_is(gpu->driver->cuCtxEnablePeerAccess(gpu->context, 0),
		 CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
	th_gpu_exit();
}

static void test_sim_second_gpu_has_its_own_contexts_and_pools(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(use_second_gpu, NULL)), 0);
}

static void refuse_second_gpu(void *arg)
{
	const struct th_gpu *gpu = th_gpu_open();
	CUcontext context;
	CUdevice device;

	(void)arg;
	th_cu_is(gpu->driver->cuDeviceGet(&device, 1),
		 CUDA_ERROR_INVALID_DEVICE);
	th_cu_is(gpu->driver->cuCtxCreate_v2(&context, 0, 1),
		 CUDA_ERROR_INVALID_DEVICE);
	th_gpu_exit();
}

static void test_sim_has_one_gpu_unless_told(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(refuse_second_gpu, NULL)), 0);
}

/* ---- names ---- */

static void find_at_second_address(void *arg)
{
	const struct dv_driver *driver;
	CUresult (*found)(unsigned int flags);
	void *address;

	(void)arg;
	setenv("POOLSWITCH_SIM_SECOND_ADDRESSES", "1", 1);
	th_assert_ok(dv_driver_get(&driver));
	th_cu(driver->cuGetProcAddress_v2("cuInit", &address, 12000, 0, NULL));
	memcpy(&found, &address, sizeof(found));
	assert_true(found != driver->cuInit);
	th_cu_is(found(1), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(th_sim_calls("cuInit"), 1);
	th_cu(found(0));
}

static void test_sim_second_address_is_the_same_function(void **state)
{
	(void)state;
	assert_int_equal(th_wait(th_fork(find_at_second_address, NULL)), 0);
}

/* Of what a graph allocates, the last of it and its executables disposes. */
static void test_sim_memory_of_a_graph_goes_with_the_last_of_it(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream stream;
	CUdeviceptr address;
	CUgraphExec exec;
	CUgraph graph;
	size_t before;

	(void)state;
	if (!gpu)
		return;
	before = th_gpu_free_bytes(gpu);
	stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuMemAllocAsync(&address, TH_SEGMENT_BYTES, stream));
	th_cu(gpu->driver->cuStreamEndCapture(stream, &graph));
	th_cu(gpu->driver->cuGraphInstantiateWithFlags(&exec, graph, 0));
	th_cu(gpu->driver->cuGraphDestroy(graph));
	assert_int_equal(th_gpu_free_bytes(gpu), before - TH_SEGMENT_BYTES);
	th_cu(gpu->driver->cuGraphExecDestroy(exec));
	assert_int_equal(th_gpu_free_bytes(gpu), before);
	th_gpu_exit();
}

static const char *const exports[] = {
#define SYMBOL(need, type, name, params) #name,
#include "device/symbols.def"
#undef SYMBOL
#define PER_THREAD(name, params, args) #name "_ptsz",
#include "device/sim/per_thread.def"
#undef PER_THREAD
	"cuMemcpyHtoD_v2_ptds",
	"cuMemcpyDtoH_v2_ptds",
	"cuMemcpyDtoD_v2_ptds",
	"cuMemsetD8_v2_ptds",
	"cuMemsetD32_v2_ptds",
	"simFailNth",
	"simCalls",
	"simLoseDevice",
	"simReset",
	"simDie",
	"simFolder",
};

static bool is_listed(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(exports) / sizeof(exports[0]); i++)
		if (strcmp(name, exports[i]) == 0)
			return true;
	return false;
}

static void test_sim_exports_the_drivers_names_alone(void **state)
{
	char command[4096];
	char name[256];
	size_t count = 0;
	FILE *nm;

	(void)state;
	snprintf(command, sizeof(command),
		 "nm -D --defined-only --format=%s '%s'", "just-symbols",
		 getenv("POOLSWITCH_SIM_LIBRARY"));
	nm = popen(command, "r");
	assert_non_null(nm);
	while (fscanf(nm, "%255s", name) == 1)
		count += is_listed(name) ? 1 : 1000;
	pclose(nm);
	assert_int_equal(count, sizeof(exports) / sizeof(exports[0]));
}

static const struct th_test tests[] = {
	TH_TEST(test_sim_fault_strikes_the_nth_call_once),
	TH_TEST(test_sim_fault_of_any_symbol_strikes_the_nth_call),
	TH_TEST(test_sim_fault_can_be_taken_back),
	TH_TEST(test_sim_faults_come_from_the_environment),
	TH_TEST(test_sim_calls_are_counted),
	TH_TEST(test_sim_full_gpu_is_out_of_memory),
	TH_TEST(test_sim_memory_is_as_large_as_configured),
	TH_TEST(test_sim_context_takes_what_is_configured),
	TH_TEST(test_sim_memory_of_the_killed_lives_by_descriptor),
	TH_TEST(test_sim_new_memory_is_zero),
	TH_TEST(test_sim_two_folders_are_two_gpus),
	TH_TEST(test_sim_copy_takes_the_time_of_the_bandwidth),
	TH_TEST(test_sim_copy_takes_the_time_that_a_file_says),
	TH_TEST(test_sim_copy_into_unmapped_memory_fails_and_is_over),
	TH_TEST(test_sim_lost_gpu_fails_all_calls_until_reset),
	TH_TEST(test_sim_death_closes_sockets_before_the_process),
	TH_TEST(test_sim_stream_handle_is_given_out_again),
	TH_TEST(test_sim_memory_of_the_host_is_not_counted),
	TH_TEST(test_sim_second_gpu_has_its_own_contexts_and_pools),
	TH_TEST(test_sim_has_one_gpu_unless_told),
	TH_TEST(test_sim_second_address_is_the_same_function),
	TH_TEST(test_sim_memory_of_a_graph_goes_with_the_last_of_it),
	TH_TEST(test_sim_exports_the_drivers_names_alone),
	TH_TEST(test_sim_forked_child_writes_on_after_a_death),
};

TH_MAIN("sim", tests)
