/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "python_shim/ext/torch.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* std::__throw_runtime_error(const char *), which PyTorch's own C++ library
 * has: the exception becomes a RuntimeError. It does not return. */
#define THROW "_ZSt21__throw_runtime_errorPKc"

static void throw_of(const char *text)
{
	void *library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_NOLOAD);
	void (*throw)(const char *);

	*(void **)&throw = dlsym(library ? library : RTLD_DEFAULT, THROW);
	if (throw)
		throw(text);
	/* Nobody above could tell that there is no memory. */
	fprintf(stderr, "poolswitch: %s\n", text);
	abort();
}

void *py_torch_segment(ssize_t size, int device, void *stream)
{
	enum ps_status status;
	void *ptr = NULL;

	(void)device;
	status = ps_mem_alloc_async(NULL, (size_t)size, stream, &ptr);
	return status == PS_OK ? ptr : NULL;
}

void *py_torch_malloc(ssize_t size, int device, void *stream)
{
	void *ptr = py_torch_segment(size, device, stream);
	char text[512];

	if (!ptr) {
		snprintf(text, sizeof(text), "CUDA out of memory: %s",
			 ps_error_detail());
		throw_of(text);
	}
	return ptr;
}

void py_torch_free(void *ptr, ssize_t size, int device, void *stream)
{
	(void)size;
	(void)device;
	ps_mem_free_async(NULL, ptr, stream);
}

void py_torch_record_stream(void *ptr, void *stream)
{
	enum ps_status status = ps_mem_record_stream(NULL, ptr, stream);

	/* A block that is not ours needs no record of ours. */
	(void)status;
}
