/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Finds the driver's functions in each way that programs do. */
#include "tests/preload/program.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/preload/found.h"

#define THREADS 8

typedef CUresult (*get_proc)(const char *symbol, void **function, int version,
			     cuuint64_t flags);
typedef CUresult (*get_proc_v2)(const char *symbol, void **function,
				int version, cuuint64_t flags,
				CUdriverProcAddressQueryResult *status);

/* ---- as the runtime library does ---- */

static get_proc_v2 first_resolver(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	void *address;
	get_proc_v2 ask;

	TH_CHECK(library != NULL);
	address = dlsym(library, "cuGetProcAddress_v2");
	TH_CHECK(th_is_ours(address, "cuGetProcAddress_v2"));
	memcpy(&ask, &address, sizeof(ask));
	return ask;
}

static void *ask_for(const char *name, int version, cuuint64_t flags)
{
	void *address = NULL;

	TH_CU(first_resolver()(name, &address, version, flags, NULL));
	return address;
}

static void as_runtime(void)
{
	void *address = ask_for("cuGetProcAddress", 12000, 0);
	get_proc_v2 ask;

	TH_CHECK(th_is_ours(address, "cuGetProcAddress_v2"));
	memcpy(&ask, &address, sizeof(ask));
	TH_CU(ask("cuMemAlloc", &address, 12000, 0, NULL));
	TH_CHECK(th_is_ours(address, "cuMemAlloc_v2"));
}

static void as_old_runtime(void)
{
	void *address = ask_for("cuGetProcAddress", 11030, 0);
	get_proc ask;

	TH_CHECK(th_is_ours(address, "cuGetProcAddress"));
	memcpy(&ask, &address, sizeof(ask));
	TH_CU(ask("cuMemAlloc", &address, 11030, 0));
	TH_CHECK(th_is_ours(address, "cuMemAlloc_v2"));
}

static void per_thread(void)
{
	const cuuint64_t flags = CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
	void *address = ask_for("cuGetProcAddress", 12000, flags);
	get_proc_v2 ask;

	TH_CHECK(th_is_ours(address, "cuGetProcAddress_v2_ptsz"));
	memcpy(&ask, &address, sizeof(ask));
	TH_CU(ask("cuMemFreeAsync", &address, 12000, 0, NULL));
	TH_CHECK(th_is_ours(address, "cuMemFreeAsync_ptsz"));
	TH_CHECK(th_is_ours(ask_for("cuMemFreeAsync", 12000, flags),
			    "cuMemFreeAsync_ptsz"));
	TH_CHECK(th_is_ours(ask_for("cuMemFreeAsync", 12000, 0),
			    "cuMemFreeAsync"));
	TH_CHECK(th_is_ours(ask_for("cuMemFreeAsync", 12000,
				    CU_GET_PROC_ADDRESS_LEGACY_STREAM),
			    "cuMemFreeAsync"));
}

static void nothing_found(void)
{
	CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SUCCESS;
	void *address = &status;

	TH_CU(first_resolver()("cuNoSuchFunction", &address, 12000, 0,
			       &status));
	TH_CHECK(address == NULL);
	TH_CHECK(status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
	TH_CHECK(dlsym(dlopen("libcuda.so.1", RTLD_NOW), "cuNoSuch") == NULL);
	TH_CHECK(strstr(dlerror(), "cuNoSuch") != NULL);
}

/* A refusal's output is the driver's to write or not. */
static void refused(void)
{
	void *address = &address;

	TH_CU_IS(first_resolver()("cuMemAlloc", &address, 1 << 30, 0, NULL),
		 CUDA_ERROR_INVALID_VALUE);
	TH_CHECK(address == &address);
}

/* The version picks the ABI: where ours is not meant, the driver's answer. */
static void other_version(void)
{
	TH_CHECK(!th_is_ours(ask_for("cuMemAlloc", 2000, 0), NULL));
	TH_CHECK(th_is_ours(ask_for("cuCtxCreate", 3020, 0), "cuCtxCreate_v2"));
	TH_CHECK(
		th_is_ours(ask_for("cuCtxCreate", 11040, 0), "cuCtxCreate_v3"));
}

/* ---- all of them ---- */

static const char *const hooked[] = {
#define HOOK(name, version) #name,
#include "preload/hooks.def"
#undef HOOK
};

static void every_hook(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	for (size_t i = 0; i < sizeof(hooked) / sizeof(hooked[0]); i++)
		TH_CHECK(th_is_ours(dlsym(library, hooked[i]), hooked[i]));
}

static void every_version(void)
{
#define HOOK(name, version)                                                    \
	TH_CHECK(th_is_ours(                                                   \
		ask_for(th_base_of(#name), version, th_flags_of(#name)),       \
		#name));
#include "preload/hooks.def"
#undef HOOK
}

static bool is_hooked(const char *name)
{
	for (size_t i = 0; i < sizeof(hooked) / sizeof(hooked[0]); i++)
		if (strcmp(hooked[i], name) == 0)
			return true;
	return false;
}

static void all_others(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

#define SYMBOL(need, type, name, params)                                       \
	if (!is_hooked(#name))                                                 \
		TH_CHECK(th_is_drivers(dlsym(library, #name), NULL));
#include "device/symbols.def"
#undef SYMBOL
}

/* ---- what the caller must not notice ---- */

static void errors_kept(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	dlerror();
	errno = ERANGE;
	TH_CHECK(dlsym(library, "cuMemAlloc_v2") != NULL);
	TH_CHECK(errno == ERANGE);
	TH_CHECK(dlerror() == NULL);
}

static void no_driver(void)
{
	void *self = dlopen(NULL, RTLD_NOW);

	TH_CHECK(dlsym(RTLD_DEFAULT, "cuMemAlloc_v2") == NULL);
	TH_CHECK(strstr(dlerror(), "cuMemAlloc_v2") != NULL);
	TH_CHECK(dlsym(self, "cuMemAlloc_v2") == NULL);
	TH_CHECK(strstr(dlerror(), "cuMemAlloc_v2") != NULL);
	TH_CHECK(dlsym(RTLD_DEFAULT, "cuNoSuch") == NULL);
	dlclose(self);
}

/* A name that only begins as the driver's do. */
static void others_name(void)
{
	void *library = dlopen("libquiet.so", RTLD_NOW | RTLD_LOCAL);
	void *address;

	TH_CHECK(library != NULL);
	dlerror();
	errno = ERANGE;
	address = dlsym(library, "curious");
	TH_CHECK(errno == ERANGE);
	TH_CHECK(dlerror() == NULL);
	TH_CHECK(address != NULL && !th_is_ours(address, NULL));
}

static void asked_for_itself(void)
{
	void *ours = dlsym(RTLD_DEFAULT, "dlsym");
	void *(*find)(void *, const char *);
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	TH_CHECK(th_is_ours(ours, "dlsym"));
	memcpy(&find, &ours, sizeof(find));
	TH_CHECK(th_is_ours(find(library, "cuMemAlloc_v2"), "cuMemAlloc_v2"));
}

/* A library that goes stays until the process ends: the driver. */
static void opened_again(void)
{
	void *library;

	for (int i = 0; i < 3; i++) {
		library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
		TH_CHECK(library != NULL);
		TH_CHECK(th_is_ours(dlsym(library, "cuMemFree_v2"),
				    "cuMemFree_v2"));
		TH_CHECK(dlclose(library) == 0);
	}
}

static size_t entries_of(const char *path)
{
	DIR *folder = opendir(path);
	size_t count = 0;

	TH_CHECK(folder != NULL);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

/* Says how much of the system it uses. */
static void without_cuda(void)
{
	TH_CHECK(dlsym(RTLD_DEFAULT, "malloc") != NULL);
	TH_CHECK(dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD) == NULL);
	printf("files %zu threads %zu\n", entries_of("/proc/self/fd"),
	       entries_of("/proc/self/task"));
}

/* ---- at once, and in other processes ---- */

static pthread_barrier_t start;

static void *resolve_at_once(void *argument)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	pthread_barrier_wait(&start);
	TH_CHECK(th_is_ours(dlsym(library, "cuMemAlloc_v2"), "cuMemAlloc_v2"));
	as_runtime();
	return argument;
}

static void threads(void)
{
	pthread_t made[THREADS];

	pthread_barrier_init(&start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		TH_CHECK(pthread_create(&made[i], NULL, resolve_at_once,
					NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(made[i], NULL);
	pthread_barrier_destroy(&start);
}

static void run_in_child(void (*run)(void))
{
	int status = -1;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		run();
		_exit(0);
	}
	TH_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	TH_CHECK(status == 0);
}

static void forks_first(void)
{
	run_in_child(as_runtime);
	as_runtime();
}

static void forks_later(void)
{
	as_runtime();
	run_in_child(as_runtime);
	run_in_child(every_hook);
}

static void executes(void)
{
	as_runtime();
	execl("/proc/self/exe", "resolves", "every_hook", (char *)NULL);
	th_program_fail(__FILE__, __LINE__, "not executed", errno);
}

TH_PROGRAM({ "as_runtime", as_runtime }, { "as_old_runtime", as_old_runtime },
	   { "per_thread", per_thread }, { "nothing_found", nothing_found },
	   { "refused", refused }, { "other_version", other_version },
	   { "every_hook", every_hook }, { "every_version", every_version },
	   { "all_others", all_others }, { "errors_kept", errors_kept },
	   { "no_driver", no_driver }, { "asked_for_itself", asked_for_itself },
	   { "others_name", others_name }, { "opened_again", opened_again },
	   { "threads", threads }, { "forks_first", forks_first },
	   { "forks_later", forks_later }, { "executes", executes },
	   { "without_cuda", without_cuda })
