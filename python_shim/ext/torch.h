/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The functions that PyTorch calls for its memory, by their names in this
 * shared object. They serve the process's default pool and touch nothing of
 * Python: PyTorch calls them with and without the interpreter's lock.
 */
#ifndef PYTHON_SHIM_EXT_TORCH_H
#define PYTHON_SHIM_EXT_TORCH_H

#include "include/poolswitch.h"

#include <sys/types.h>

/* For CUDAPluggableAllocator as the process's allocator: it looks at no
 * result, so what cannot be served is thrown as a C++ exception. */
PS_API void *py_torch_malloc(ssize_t size, int device, void *stream);
/* For torch.cuda.MemPool, whose caching allocator takes NULL for no memory. */
PS_API void *py_torch_segment(ssize_t size, int device, void *stream);
PS_API void py_torch_free(void *ptr, ssize_t size, int device, void *stream);
PS_API void py_torch_record_stream(void *ptr, void *stream);

#endif /* PYTHON_SHIM_EXT_TORCH_H */
