# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's tensors in the pool's memory."""

from __future__ import annotations

import torch

from poolswitch import _native


def pluggable_allocator():
    """For torch.cuda.memory.change_current_allocator(), before CUDA has started.

    Serves all tensors of the process from its default pool, block by block, in
    the order of streams. Its limits are PyTorch's: no torch.cuda.memory_stats(),
    no empty_cache(), no memory snapshots, and no torch.cuda.graph(), whose private
    memory such an allocator cannot have. What the pool cannot serve is a
    RuntimeError, not a torch.OutOfMemoryError. With statistics and graphs:
    mem_pool().
    """
    allocator = torch.cuda.memory.CUDAPluggableAllocator(
        _native.__file__, "py_torch_malloc", "py_torch_free")
    return _recording(allocator)


def _recording(allocator):
    """Tensor.record_stream() reaches the pool too, where PyTorch can say so."""
    import ctypes
    function = ctypes.CDLL(_native.__file__).py_torch_record_stream
    address = ctypes.cast(function, ctypes.c_void_p).value
    setter = getattr(allocator.allocator(), "set_record_stream_fn", None)
    if setter is not None:
        setter(address)
    return allocator


def mem_pool(pool=None):
    """A torch.cuda.MemPool whose memory is the pool's.

        with torch.cuda.use_mem_pool(poolswitch.torch.mem_pool()):
            x = torch.empty(1 << 20, device="cuda")

    pool: the process's default pool (its first that is open); None: attached when
    there is none. PyTorch's caching allocator takes large blocks from it and keeps
    them until the MemPool ends: statistics, graphs and OutOfMemoryError are
    PyTorch's own. The pool must outlive it.
    """
    from poolswitch.torch._bind import default_pool
    held = pool or default_pool()
    allocator = torch.cuda.memory.CUDAPluggableAllocator(
        _native.__file__, "py_torch_segment", "py_torch_free")
    made = torch.cuda.MemPool(allocator.allocator())
    # It uses both until its end.
    made.poolswitch = (held, allocator)
    return made
