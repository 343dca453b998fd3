/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Modules and kernels: C functions of a shared object. */
#include "device/sim/module.h"

#include "device/sim/entry.h"
#include "device/sim/work.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGUMENTS_MAX 64
#define ARGUMENT_ALIGN 16

struct CUfunc_st {
	struct CUfunc_st *next; /* of the module */
	sim_kernel *kernel;
	const size_t *sizes; /* of its arguments, ended by 0 */
};

struct CUmod_st {
	void *object;
	struct CUfunc_st *functions; /* guarded by lock */
};

struct kernel_op {
	struct sim_op op;
	sim_kernel *kernel;
	struct sim_launch launch;
	void *args[ARGUMENTS_MAX]; /* into bytes */
	unsigned char bytes[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fault_once = PTHREAD_ONCE_INIT;
static struct sigaction before[2];            /* of SIGSEGV and SIGBUS */
static _Thread_local sigjmp_buf *kernel_exit; /* set while a kernel runs */

/* A fault of a kernel ends the kernel; any other is the program's. */
static void on_fault(int number, siginfo_t *info, void *context)
{
	const struct sigaction *old = &before[number == SIGBUS];

	if (kernel_exit)
		siglongjmp(*kernel_exit, 1);
	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(number, info, context);
	} else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(number);
	} else {
		signal(number, SIG_DFL);
		raise(number);
	}
}

static void catch_faults(void)
{
	struct sigaction action = { .sa_sigaction = on_fault,
				    .sa_flags = SA_SIGINFO | SA_NODEFER |
						SA_ONSTACK };

	sigaction(SIGSEGV, &action, &before[0]);
	sigaction(SIGBUS, &action, &before[1]);
}

static CUresult run_kernel(struct sim_op *op)
{
	struct kernel_op *kernel_op = (struct kernel_op *)op;
	sigjmp_buf exit;

	if (sigsetjmp(exit, 0)) {
		kernel_exit = NULL;
		return CUDA_ERROR_ILLEGAL_ADDRESS;
	}
	kernel_exit = &exit;
	kernel_op->kernel(&kernel_op->launch, kernel_op->args);
	kernel_exit = NULL;
	return CUDA_SUCCESS;
}

static CUresult open_module(CUmodule *module_out, const char *path)
{
	char *full = realpath(path, NULL);
	struct CUmod_st *module;

	if (!full)
		return CUDA_ERROR_FILE_NOT_FOUND;
	module = calloc(1, sizeof(*module));
	if (module)
		module->object = dlopen(full, RTLD_NOW | RTLD_LOCAL);
	free(full);
	if (!module)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (!module->object) {
		free(module);
		return CUDA_ERROR_INVALID_IMAGE;
	}
	*module_out = module;
	return CUDA_SUCCESS;
}

CUresult cuModuleLoad(CUmodule *module_out, const char *path)
{
	char sibling[PATH_MAX];
	size_t length;

	ENTER_CONTEXT(cuModuleLoad);
	if (!module_out || !path)
		return CUDA_ERROR_INVALID_VALUE;
	length = strlen(path);
	if (length < 4 || strcmp(path + length - 4, ".ptx") != 0)
		return open_module(module_out, path);
	if (length + sizeof(".sim.so") > sizeof(sibling))
		return CUDA_ERROR_FILE_NOT_FOUND;
	snprintf(sibling, sizeof(sibling), "%.*s.sim.so", (int)length - 4,
		 path);
	return open_module(module_out, sibling);
}

CUresult cuModuleLoadData(CUmodule *module_out, const void *image)
{
	const char *text = image;
	size_t length = strlen(SIM_MODULE_TEXT);

	ENTER_CONTEXT(cuModuleLoadData);
	if (!module_out || !text)
		return CUDA_ERROR_INVALID_VALUE;
	if (strncmp(text, SIM_MODULE_TEXT, length) != 0)
		return CUDA_ERROR_INVALID_IMAGE;
	return open_module(module_out, text + length);
}

CUresult cuModuleUnload(CUmodule module)
{
	struct CUfunc_st *function;

	ENTER_CONTEXT(cuModuleUnload);
	if (!module)
		return CUDA_ERROR_INVALID_HANDLE;
	while ((function = module->functions)) {
		module->functions = function->next;
		free(function);
	}
	dlclose(module->object);
	free(module);
	return CUDA_SUCCESS;
}

static CUresult find_kernel(CUmodule module, const char *name,
			    struct CUfunc_st *function)
{
	char sizes[256];
	void *address = dlsym(module->object, name);

	snprintf(sizes, sizeof(sizes), "%s_params", name);
	function->sizes = dlsym(module->object, sizes);
	memcpy(&function->kernel, &address, sizeof(address));
	return address && function->sizes ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuModuleGetFunction(CUfunction *function_out, CUmodule module,
			     const char *name)
{
	struct CUfunc_st *function;
	CUresult result;

	ENTER_CONTEXT(cuModuleGetFunction);
	if (!function_out || !module || !name)
		return CUDA_ERROR_INVALID_VALUE;
	function = calloc(1, sizeof(*function));
	if (!function)
		return CUDA_ERROR_OUT_OF_MEMORY;
	result = find_kernel(module, name, function);
	if (result != CUDA_SUCCESS) {
		free(function);
		return result;
	}
	pthread_mutex_lock(&lock);
	function->next = module->functions;
	module->functions = function;
	pthread_mutex_unlock(&lock);
	*function_out = function;
	return CUDA_SUCCESS;
}

static size_t round_argument(size_t size)
{
	return (size + ARGUMENT_ALIGN - 1) / ARGUMENT_ALIGN * ARGUMENT_ALIGN;
}

static size_t arguments_bytes(const size_t *sizes)
{
	size_t sum = ARGUMENT_ALIGN;

	while (*sizes)
		sum += round_argument(*sizes++);
	return sum;
}

static void copy_arguments(struct kernel_op *op, const size_t *sizes,
			   void **arguments)
{
	unsigned char *to = op->bytes;
	size_t i;

	to += (ARGUMENT_ALIGN - (uintptr_t)to % ARGUMENT_ALIGN) %
	      ARGUMENT_ALIGN;
	for (i = 0; sizes[i] && i < ARGUMENTS_MAX; i++) {
		op->args[i] = memcpy(to, arguments[i], sizes[i]);
		to += round_argument(sizes[i]);
	}
}

CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x,
			unsigned int grid_y, unsigned int grid_z,
			unsigned int block_x, unsigned int block_y,
			unsigned int block_z, unsigned int shared_bytes,
			CUstream stream, void **arguments, void **extra)
{
	struct kernel_op *op;

	ENTER_CONTEXT(cuLaunchKernel);
	if (!function || extra || (function->sizes[0] && !arguments) ||
	    !grid_x || !grid_y || !grid_z || !block_x || !block_y || !block_z ||
	    block_x * block_y * block_z > 1024)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_once(&fault_once, catch_faults);
	op = sim_op_new(sizeof(*op) + arguments_bytes(function->sizes),
			run_kernel);
	if (!op)
		return CUDA_ERROR_OUT_OF_MEMORY;
	op->kernel = function->kernel;
	op->launch = (struct sim_launch){ { grid_x, grid_y, grid_z },
					  { block_x, block_y, block_z },
					  shared_bytes };
	copy_arguments(op, function->sizes, arguments);
	return sim_submit(stream, &op->op);
}
