/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "bench/gpu.h"

#include "base/status.h"
#include "bench/sample.h"
#include "device/driver.h"
#include "device/result.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DURATION_ROUNDS 21u

/* Of the process; set by bn_gpu_open() before any other thread starts. */
static const struct dv_driver *driver;
static struct dv_device *device;
static CUcontext context;
static CUdevice gpu;
static CUmodule module;
static CUfunction touch;
static CUfunction layer;

/* Counts as done or leaves the reason in bs_fail_text(). */
static bool did(CUresult result, const char *what)
{
	return dv_result(driver, result, "%s", what) == PS_OK;
}

/* ---- names ---- */

/* The kernel module's version, such as 580.159.03; "" when it is hidden. */
static void module_version(char *text, size_t size)
{
	char line[256] = "";
	char *rest = line;
	char *word;
	FILE *file;

	text[0] = '\0';
	file = fopen("/proc/driver/nvidia/version", "re");
	if (file == NULL)
		return;
	if (fgets(line, sizeof(line), file) == NULL)
		line[0] = '\0';
	fclose(file);
	while ((word = strsep(&rest, " \n")) != NULL) {
		if (!isdigit((unsigned char)word[0]) || !strchr(word, '.'))
			continue;
		snprintf(text, size, "%s, ", word);
		return;
	}
}

bool bn_gpu_identify(struct bn_identity *identity_out)
{
	struct bn_identity identity;
	struct dv_device *dev;
	char kernel[32];
	int version;

	if (dv_device_open(NULL, &dev) != PS_OK) {
		fprintf(stderr, "bench: %s\n", bs_fail_text());
		return false;
	}
	identity.simulated = dv_is_simulated();
	snprintf(identity.gpu, sizeof(identity.gpu), "%s", dv_device_name(dev));
	version = dv_driver_version();
	module_version(kernel, sizeof(kernel));
	snprintf(identity.driver, sizeof(identity.driver), "%sCUDA %d.%d%s",
		 identity.simulated ? "" : kernel, version / 1000,
		 version % 1000 / 10, identity.simulated ? " simulated" : "");
	dv_device_close(dev);
	*identity_out = identity;
	return true;
}

/* ---- the context ---- */

bool bn_gpu_open(uint64_t *init_ns_out, uint64_t *context_ns_out)
{
	uint64_t start = bn_now_ns();
	uint64_t ready;

	if (dv_driver_get(&driver) != PS_OK ||
	    !did(driver->cuInit(0), "starting CUDA"))
		return false;
	ready = bn_now_ns();
	if (!did(driver->cuDeviceGet(&gpu, 0), "opening GPU 0") ||
	    !did(driver->cuDevicePrimaryCtxRetain(&context, gpu),
		 "making a context"))
		return false;
	if (init_ns_out != NULL)
		*init_ns_out = ready - start;
	if (context_ns_out != NULL)
		*context_ns_out = bn_now_ns() - ready;
	if (dv_device_open(NULL, &device) != PS_OK)
		return false;
	return bn_gpu_enter();
}

void bn_gpu_close(void)
{
	if (context == NULL)
		return;
	if (module != NULL)
		driver->cuModuleUnload(module);
	module = NULL;
	driver->cuCtxSetCurrent(NULL);
	dv_device_close(device);
	device = NULL;
	driver->cuDevicePrimaryCtxRelease_v2(gpu);
	context = NULL;
}

bool bn_gpu_enter(void)
{
	return did(driver->cuCtxSetCurrent(context), "entering the context");
}

struct dv_device *bn_gpu_device(void)
{
	return device;
}

bool bn_stream_new(void **stream_out)
{
	CUstream stream;

	if (!did(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING),
		 "making a stream"))
		return false;
	*stream_out = stream;
	return true;
}

void bn_stream_free(void *stream)
{
	if (stream != NULL)
		driver->cuStreamDestroy_v2(stream);
}

bool bn_stream_wait(void *stream)
{
	return did(driver->cuStreamSynchronize(stream), "waiting for a stream");
}

/* ---- plain calls ---- */

bool bn_plain_alloc(uint64_t bytes, uint64_t *ptr_out)
{
	CUdeviceptr ptr;
	CUresult result = driver->cuMemAlloc_v2(&ptr, bytes);

	if (result != CUDA_SUCCESS)
		return did(result, "cuMemAlloc");
	*ptr_out = ptr;
	return true;
}

bool bn_plain_free(uint64_t ptr)
{
	CUresult result = driver->cuMemFree_v2(ptr);

	return result == CUDA_SUCCESS || did(result, "cuMemFree");
}

bool bn_primary_retain(void)
{
	CUcontext same;
	CUresult result = driver->cuDevicePrimaryCtxRetain(&same, gpu);

	return result == CUDA_SUCCESS || did(result, "retaining the context");
}

bool bn_primary_release(void)
{
	CUresult result = driver->cuDevicePrimaryCtxRelease_v2(gpu);

	return result == CUDA_SUCCESS || did(result, "releasing the context");
}

bool bn_word_new(uint32_t **word_out)
{
	void *memory;

	if (!did(driver->cuMemHostAlloc(&memory, 4096, 0),
		 "a page that the GPU sees"))
		return false;
	*word_out = memory;
	**word_out = 0;
	return true;
}

bool bn_stream_block(void *stream, uint32_t *word, uint32_t value)
{
	return did(driver->cuStreamWaitValue32_v2(
			   stream, (CUdeviceptr)(uintptr_t)word, value,
			   CU_STREAM_WAIT_VALUE_GEQ),
		   "blocking a stream");
}

/* ---- the driver's pool ---- */

static bool set_threshold(uint64_t bytes)
{
	CUmemoryPool pool;

	return did(driver->cuDeviceGetDefaultMemPool(&pool, gpu),
		   "asking for the default memory pool") &&
	       did(driver->cuMemPoolSetAttribute(
			   pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &bytes),
		   "setting the release threshold");
}

bool bn_driver_pool_keep(void)
{
	return set_threshold(UINT64_MAX);
}

/* What is over the threshold goes at the next synchronization. */
bool bn_driver_pool_trim(void)
{
	return set_threshold(0) &&
	       did(driver->cuCtxSynchronize(), "waiting for the context");
}

bool bn_driver_pool_alloc(void *stream, uint64_t bytes, uint64_t *ptr_out)
{
	CUdeviceptr ptr;
	CUresult result = driver->cuMemAllocAsync(&ptr, bytes, stream);

	if (result != CUDA_SUCCESS)
		return did(result, "cuMemAllocAsync");
	*ptr_out = ptr;
	return true;
}

bool bn_driver_pool_free(void *stream, uint64_t ptr)
{
	CUresult result = driver->cuMemFreeAsync(ptr, stream);

	return result == CUDA_SUCCESS || did(result, "cuMemFreeAsync");
}

/* ---- the kernel ---- */

/* Beside this program. The simulated driver takes kernels.sim.so instead. */
static bool module_path(char path[PATH_MAX])
{
	static const char name[] = "kernels.ptx";
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (length < 0) {
		bs_fail_errno("finding this program");
		return false;
	}
	self[length] = '\0';
	slash = strrchr(self, '/');
	if (slash != NULL)
		slash[1] = '\0';
	if (strlen(self) + strlen(name) >= PATH_MAX) {
		bs_fail(PS_SYSTEM, "the path of this program is too long");
		return false;
	}
	stpcpy(stpcpy(path, self), name);
	return true;
}

bool bn_touch_load(void)
{
	char path[PATH_MAX];

	return module_path(path) &&
	       did(driver->cuModuleLoad(&module, path), path) &&
	       did(driver->cuModuleGetFunction(&touch, module, "bn_touch"),
		   "finding the kernel bn_touch");
}

bool bn_touch_launch(void *stream, uint64_t ptr, uint64_t bytes)
{
	uint64_t last = ptr + bytes - sizeof(uint32_t);
	void *arguments[] = { &ptr, &last };

	return did(driver->cuLaunchKernel(touch, 1, 1, 1, 1, 1, 1, 0, stream,
					  arguments, NULL),
		   "launching bn_touch");
}

static bool time_one(void *stream, uint64_t ptr, uint64_t bytes,
		     const CUevent events[2], uint64_t *ns_out)
{
	float ms;

	if (!did(driver->cuEventRecord(events[0], stream), "an event") ||
	    !bn_touch_launch(stream, ptr, bytes) ||
	    !did(driver->cuEventRecord(events[1], stream), "an event") ||
	    !bn_stream_wait(stream) ||
	    !did(driver->cuEventElapsedTime(&ms, events[0], events[1]),
		 "the time between two events"))
		return false;
	*ns_out = (uint64_t)((double)ms * 1e6);
	return true;
}

static bool time_several(void *stream, uint64_t ptr, uint64_t bytes,
			 const CUevent events[2], uint64_t *ns_out)
{
	struct bn_samples samples;
	uint64_t ns;
	bool ok = true;

	if (!bn_samples_init(&samples, DURATION_ROUNDS))
		return false;
	for (unsigned int i = 0; i < DURATION_ROUNDS && ok; i++) {
		ok = time_one(stream, ptr, bytes, events, &ns);
		if (ok)
			bn_samples_add(&samples, ns);
	}
	if (ok)
		*ns_out = bn_samples_at(&samples, 0.5);
	bn_samples_done(&samples);
	return ok;
}

bool bn_touch_duration(void *stream, uint64_t ptr, uint64_t bytes,
		       uint64_t *ns_out)
{
	CUevent events[2];
	bool ok = false;

	if (!did(driver->cuEventCreate(&events[0], CU_EVENT_DEFAULT),
		 "making an event"))
		return false;
	if (did(driver->cuEventCreate(&events[1], CU_EVENT_DEFAULT),
		"making an event")) {
		ok = time_several(stream, ptr, bytes, events, ns_out);
		driver->cuEventDestroy_v2(events[1]);
	}
	driver->cuEventDestroy_v2(events[0]);
	return ok;
}

/* ---- layers, graphs ---- */

bool bn_layer_load(void)
{
	char path[PATH_MAX];

	return module_path(path) &&
	       did(driver->cuModuleLoad(&module, path), path) &&
	       did(driver->cuModuleGetFunction(&layer, module, "bn_layer"),
		   "finding the kernel bn_layer");
}

bool bn_layer_launch(void *stream, uint64_t source, uint64_t sum, uint64_t ns)
{
	void *arguments[] = { &source, &sum, &ns };

	return did(driver->cuLaunchKernel(layer, 1, 1, 1, 1, 1, 1, 0, stream,
					  arguments, NULL),
		   "launching bn_layer");
}

bool bn_graph_begin(void *stream)
{
	return did(driver->cuStreamBeginCapture_v2(
			   stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
		   "beginning a capture");
}

bool bn_graph_end(void *stream, void **graph_out)
{
	CUgraphExec exec;
	CUgraph graph;
	bool ok;

	if (!did(driver->cuStreamEndCapture(stream, &graph),
		 "ending a capture"))
		return false;
	ok = did(driver->cuGraphInstantiateWithFlags(&exec, graph, 0),
		 "instantiating a graph");
	driver->cuGraphDestroy(graph);
	if (ok)
		*graph_out = exec;
	return ok;
}

bool bn_graph_launch(void *graph, void *stream)
{
	return did(driver->cuGraphLaunch(graph, stream), "launching a graph");
}

void bn_graph_free(void *graph)
{
	if (graph != NULL)
		driver->cuGraphExecDestroy(graph);
}
