# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""PipeSwitch's six functions of torch.cuda, on today's PyTorch.

A controller reserves the GPU's memory and sends it to its workers, each of which
allocates its tensors from the ranges that it inserts. Without arguments they meet
at the socket that POOLSWITCH_SHARE names.
"""

from __future__ import annotations

import os
import socket as sockets
import time

import torch

import poolswitch
from poolswitch import _native
from poolswitch._pool import milliseconds
from poolswitch.torch._allocator import pluggable_allocator

#: How long the others may take, seconds.
TIMEOUT = 10.0

_shared: poolswitch.Pool | None = None
_listener: tuple[str, sockets.socket] | None = None


def _path() -> str:
    path = os.environ.get("POOLSWITCH_SHARE")
    if not path:
        raise RuntimeError("where is the other process? POOLSWITCH_SHARE names no "
                           "socket, and sock= was not given")
    return os.path.abspath(path)


def _pool() -> poolswitch.Pool:
    if _shared is None or _shared.closed:
        raise RuntimeError("this process has no shared cache: allocate_shared_cache() "
                           "or recv_shared_cache() first")
    return _shared


def _take(pool):
    global _shared
    if _shared is not None and not _shared.closed:
        pool.close()
        raise RuntimeError("this process has a shared cache already")
    _shared = pool
    return pool


# ---- meeting ----

def _listen(path) -> sockets.socket:
    """The socket at a path, made whole before it has the name; kept for the next
    worker."""
    global _listener
    if _listener is not None and _listener[0] == path:
        return _listener[1]
    listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
    making = f"{path}.{os.getpid()}"
    try:
        listener.bind(making)
        os.chmod(making, 0o600)
        listener.listen()
        os.replace(making, path)
    except OSError:
        listener.close()
        raise
    _listener = (path, listener)
    return listener


def _accept(path, timeout) -> sockets.socket:
    listener = _listen(path)
    listener.settimeout(timeout)
    connection, _ = listener.accept()
    connection.setblocking(True)
    return connection


def _connect(path, timeout) -> sockets.socket:
    """Waits for the name; one that was left behind is told."""
    until = time.monotonic() + timeout
    _native.wait_for_file(os.path.dirname(path), path, milliseconds(timeout))
    connection = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
    try:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        connection.connect(path)
        connection.setblocking(True)
    except OSError:
        connection.close()
        raise
    return connection


def _meet(sock, timeout, meet):
    """(socket, whether it is ours to close)"""
    if sock is not None:
        return sock, False
    return meet(_path(), TIMEOUT if timeout is None else timeout), True


# ---- the six ----

def allocate_shared_cache(size: int | None = None, *,
                          parameter_size: int | None = None,
                          gpu: str | None = None) -> None:
    """Reserve the GPU's memory: all that is free less the headroom, or so many
    bytes. parameter_size: of the region at its start; a quarter unless said."""
    _take(poolswitch.Pool.reserve(size=size or 0, parameter_size=parameter_size,
                                  gpu=gpu))


def send_shared_cache(*, sock=None, timeout: float | None = None,
                      writable_parameters: bool = True) -> None:
    """Give it to one worker: the next that comes to POOLSWITCH_SHARE, or the other
    end of a connected AF_UNIX socket. Workers may come before.

    writable_parameters: PipeSwitch's workers insert the parameter region, as if
    to allocate in it, which memory that is read-only refuses. False guards the
    weights against workers that only map it.
    """
    connection, is_ours = _meet(sock, timeout, _accept)
    try:
        _pool().send(connection, timeout=timeout,
                     writable_parameters=writable_parameters)
    finally:
        if is_ours:
            connection.close()


def recv_shared_cache(*, sock=None, timeout: float | None = None) -> None:
    """Get it from the controller, which may come later."""
    connection, is_ours = _meet(sock, timeout, _connect)
    try:
        _take(poolswitch.Pool.receive(connection, timeout=timeout))
    finally:
        if is_ours:
            connection.close()


def _insert(region, size, offset, stream, alias):
    pool = _pool()
    first, length = pool.region(region)
    begin = first + (offset or 0)
    if size is None:
        size = first + length - begin
    if begin + size > first + length:
        raise ValueError(f"{size} bytes at {offset or 0} are beyond the {region} "
                         f"region's {length}")
    pool.insert(size, begin, stream=poolswitch.ANY_STREAM if stream is None else stream,
                alias=alias)


def insert_shared_cache_for_parameter(*, size: int | None = None,
                                      offset: int | None = None, stream=None,
                                      alias: bool = False) -> None:
    """Allocate tensors from the parameter region.

    size, offset: bytes in the region; all of it unless said. stream: the one whose
    tensors it serves; None: all. alias: though it is inserted already, at other
    addresses.
    """
    _insert("parameter", size, offset, stream, alias)


def insert_shared_cache_for_computation(*, size: int | None = None,
                                        offset: int | None = None, stream=None,
                                        alias: bool = False) -> None:
    """The same for the computation region."""
    _insert("computation", size, offset, stream, alias)


def clear_shared_cache() -> None:
    """Take the inserted ranges back; Busy while tensors are in them."""
    _pool().clear()


_SIX = (allocate_shared_cache, send_shared_cache, recv_shared_cache,
        insert_shared_cache_for_parameter, insert_shared_cache_for_computation,
        clear_shared_cache)


def install_pipeswitch_api() -> None:
    """Gives torch.cuda PipeSwitch's six functions, and its tensors the pool.

    Before CUDA has started in PyTorch: an allocator cannot be changed later.
    Afterwards torch.empty(device="cuda") lies in what was inserted; before that
    there is no memory (RuntimeError). Installed twice is well. The limits are
    those of pluggable_allocator().
    """
    if getattr(torch.cuda, "allocate_shared_cache", None) is not allocate_shared_cache:
        if torch.cuda.is_initialized():
            raise RuntimeError("CUDA has started in PyTorch: call "
                               "install_pipeswitch_api() before the first tensor")
        torch.cuda.memory.change_current_allocator(pluggable_allocator())
    for function in _SIX:
        setattr(torch.cuda, function.__name__, function)
