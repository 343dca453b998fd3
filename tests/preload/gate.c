/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/preload/gate.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

/* What is to return at once has so long; what waits is waited for so long. */
#define AT_ONCE_MS 200

static CUdeviceptr word;
static CUstream opener;

CUstream th_stream(void)
{
	CUstream stream;

	TH_CU(th_cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	return stream;
}

void th_gate_close(CUstream stream)
{
	if (opener == NULL) {
		opener = th_stream();
		TH_CU(th_cu.cuMemAlloc_v2(&word, 4096));
	}
	TH_CU(th_cu.cuMemsetD32Async(word, 0, 1, opener));
	TH_CU(th_cu.cuStreamSynchronize(opener));
	TH_CU(th_cu.cuStreamWaitValue32_v2(stream, word, 1,
					   CU_STREAM_WAIT_VALUE_GEQ));
}

void th_gate_open(void)
{
	TH_CU(th_cu.cuStreamWriteValue32_v2(opener, word, 1,
					    CU_STREAM_WRITE_VALUE_DEFAULT));
	TH_CU(th_cu.cuStreamSynchronize(opener));
}

/* ---- whether a call waits ---- */

struct caller {
	void (*call)(void *arg);
	void *arg;
	pthread_mutex_t mutex;
	pthread_cond_t returned;
	bool has_returned; /* guarded by mutex */
};

static void *run_call(void *argument)
{
	struct caller *caller = argument;

	th_cuda_enter();
	caller->call(caller->arg);
	pthread_mutex_lock(&caller->mutex);
	caller->has_returned = true;
	pthread_cond_signal(&caller->returned);
	pthread_mutex_unlock(&caller->mutex);
	return NULL;
}

static bool wait_a_little(struct caller *caller)
{
	struct timespec until;
	int error = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += AT_ONCE_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&caller->mutex);
	while (!caller->has_returned && error == 0)
		error = pthread_cond_timedwait(&caller->returned,
					       &caller->mutex, &until);
	pthread_mutex_unlock(&caller->mutex);
	return error == 0;
}

bool th_returns_at_once(void (*call)(void *arg), void *arg)
{
	struct caller caller = { .call = call, .arg = arg };
	pthread_t thread;
	bool is_at_once;

	pthread_mutex_init(&caller.mutex, NULL);
	pthread_cond_init(&caller.returned, NULL);
	TH_CHECK(pthread_create(&thread, NULL, run_call, &caller) == 0);
	is_at_once = wait_a_little(&caller);
	if (!is_at_once)
		th_gate_open();
	pthread_join(thread, NULL);
	pthread_cond_destroy(&caller.returned);
	pthread_mutex_destroy(&caller.mutex);
	return is_at_once;
}

unsigned long th_driver_calls(const char *symbol)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	void *address = dlsym(library, "simCalls");
	unsigned long (*calls)(const char *symbol);

	if (address == NULL)
		return 0;
	memcpy(&calls, &address, sizeof(calls));
	return calls(symbol);
}
