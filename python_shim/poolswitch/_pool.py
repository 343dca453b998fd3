# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Pools: GPU memory that is reserved once and shared by processes."""

from __future__ import annotations

import math
import os

from poolswitch import _native

#: For streams: all of them, in the order of the whole device.
ANY_STREAM = -1

_REGIONS = {"parameter": _native.REGION_PARAMETER,
            "computation": _native.REGION_COMPUTATION}

_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
         "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
         "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
         "F8_E5M2FNUZ": 8}


def milliseconds(timeout: float | None) -> int:
    """Of seconds; None is the C API's default."""
    if timeout is None:
        return _native.TIMEOUT_DEFAULT
    if timeout < 0:
        raise ValueError(f"timeout is {timeout} s, must be None or at least 0")
    return min(math.ceil(timeout * 1000), 2**31 - 1)


def path_text(path) -> str | None:
    return None if path is None else os.fsdecode(path)


def _socket_fd(socket) -> int:
    return socket if isinstance(socket, int) else socket.fileno()


class Pool(_native.Pool):
    """One GPU's memory as this process has it.

    Made by attach(), reserve() or receive(). Sizes and offsets are bytes, an
    address is an int, timeouts are seconds. A stream is None (the legacy default
    one), a handle (CUstream) as an int, or an object with `cuda_stream` or
    `__cuda_stream__`. A with statement closes it at its end.
    """

    # ---- opening ----

    @classmethod
    def attach(cls, *, socket=None, name: str | None = None, reservation: int = 0,
               limit: int = 0, writable: bool = False) -> Pool:
        """Memory of the pool that poolswitchd keeps.

        socket: the daemon's; None: POOLSWITCH_SOCKET or where it usually is.
        name: for `poolswitch status`. reservation: bytes that nobody else gets.
        limit: bytes at most; 0: what the daemon allows. writable: the parameter
        region too. Starts CUDA where it has not started.
        """
        pool = cls.__new__(cls)
        pool._attach(path_text(socket), name, reservation, limit, writable)
        pool.socket = path_text(socket)
        return pool

    @classmethod
    def reserve(cls, *, gpu: str | None = None, size: int = 0,
                headroom: int | None = None, parameter_size: int | None = None,
                segment_size: int = 0, mode: str = "vmm") -> Pool:
        """A pool without a daemon: the GPU's memory, reserved here.

        size 0: all that is free less the headroom. gpu: "0", or "GPU-..." as
        nvidia-smi prints it. mode: "vmm" or "legacy" (CUDA IPC). Nothing can be
        allocated before a range is inserted.
        """
        if mode not in ("vmm", "legacy"):
            raise ValueError(f"mode is {mode!r}, must be 'vmm' or 'legacy'")
        pool = cls.__new__(cls)
        pool._reserve(gpu, size, -1 if headroom is None else headroom,
                      -1 if parameter_size is None else parameter_size,
                      segment_size, mode == "legacy")
        return pool

    @classmethod
    def receive(cls, socket, *, any_user: bool = False,
                timeout: float | None = None) -> Pool:
        """A pool that the other end of a connected AF_UNIX socket sends."""
        pool = cls.__new__(cls)
        pool._receive(_socket_fd(socket), _native.PEER_ANY_USER if any_user else 0,
                      milliseconds(timeout))
        return pool

    #: Of the daemon, as attach() was told.
    socket: str | None = None

    # ---- sharing ----

    def send(self, socket, *, offset: int = 0, size: int = 0,
             writable_parameters: bool = False, any_user: bool = False,
             timeout: float | None = None) -> None:
        """Give the pool to the other end of a connected AF_UNIX socket.

        size 0: all of it; else the segments of that range only.
        """
        flags = ((_native.SEND_WRITABLE_PARAMETERS if writable_parameters else 0)
                 | (_native.PEER_ANY_USER if any_user else 0))
        self._send(offset, size, _socket_fd(socket), flags, milliseconds(timeout))

    def insert(self, size: int, offset: int, *, stream=ANY_STREAM,
               alias: bool = False) -> None:
        """Let this process allocate from a range, for one stream or for all."""
        self._insert(size, offset, stream, _native.INSERT_ALIAS if alias else 0)

    def insert_region(self, region: str, *, stream=ANY_STREAM,
                      alias: bool = False) -> None:
        """The same for "parameter" or "computation", all of it."""
        offset, size = self.region(region)
        self.insert(size, offset, stream=stream, alias=alias)

    def clear(self) -> None:
        """Take all inserted ranges back; Busy while blocks are allocated."""
        self._clear()

    def map(self, offset: int = 0, size: int = 0) -> None:
        """Map a range now rather than when it is first needed."""
        self._map(offset, size)

    def region(self, region: str) -> tuple[int, int]:
        """(offset, size) of "parameter" or "computation", bytes."""
        if region not in _REGIONS:
            raise ValueError(f"region is {region!r}, must be 'parameter' or "
                             "'computation'")
        return self._region(_REGIONS[region])

    def pointer(self, offset: int) -> int:
        """The GPU address of an offset, the same in every process."""
        return self._pointer(offset)

    # ---- memory ----

    def alloc(self, size: int, *, stream=ANY_STREAM) -> int:
        """The address of a new block of at least `size` bytes.

        On a stream it is in the stream's order; else every stream may use it at
        once.
        """
        return self._alloc(size, stream)

    def free(self, address: int, *, stream=ANY_STREAM) -> None:
        """Give a block back, in a stream's order or behind all work."""
        self._free(address, stream)

    def empty(self, shape, dtype: str = "F32", *,
              stream=ANY_STREAM) -> _native.Tensor:
        """A block as an array for from_dlpack(), contents undefined.

        shape: lengths in elements, at most 8. dtype: as safetensors writes it
        ("F32", "BF16", "U8"). Freed with the last view of it.
        """
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if dtype not in _BITS:
            raise ValueError(f"no dtype is called {dtype!r}; there are "
                             + ", ".join(_BITS))
        return self._empty(dtype, math.prod(shape) * _BITS[dtype] // 8, shape, stream)

    def write(self, address: int, data: bytes) -> None:
        """Copy bytes to the GPU and wait for it; in no stream's order."""
        self._write(address, data)

    def read(self, address: int, size: int) -> bytes:
        """Copy bytes from the GPU and wait for it; in no stream's order."""
        return self._read(address, size)

    def info(self) -> tuple[int, int]:
        """(free, total) bytes, as cudaMemGetInfo() would say it."""
        return self._info()

    def stats(self) -> dict:
        """Numbers of the allocator, bytes true to one.

        "classes" is a list of (largest block size, live blocks, their bytes).
        """
        return self._stats()

    # ---- models ----

    def model(self, name: str | None = None, *, hash: bytes | None = None):
        """Attach to a model of the daemon's; see Model."""
        from poolswitch._models import Model
        return Model.attach(self, name, hash=hash)

    # ---- leaving ----

    def detach(self) -> None:
        """Leave the daemon's pool; Busy while blocks are allocated.

        BufferError while views of its memory are alive. Detached already: nothing
        happens.
        """
        self._detach()

    def close(self) -> None:
        """Leave the pool; what is allocated ends with it.

        BufferError while views of its memory are alive.
        """
        self._close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *unused) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "<poolswitch.Pool, closed>"
        return f"<poolswitch.Pool {self.gpu}, {self.size} bytes>"
