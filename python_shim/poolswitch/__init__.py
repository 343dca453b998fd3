# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""GPU memory reserved once, shared by processes; models loaded once.

    import poolswitch

    poolswitch.add("bert", "bert.safetensors")      # once
    pool = poolswitch.Pool.attach()                 # in each process
    model = pool.model("bert")
    with model.use(stream=stream) as run:
        run.wait("encoder.0.weight")                # a stream operation
        ...                                         # launch what reads it
    model.check()                                   # when the results are there

With PyTorch: poolswitch.torch. Everything is a thin form of the C API in
poolswitch.h, whose pages say more; calls release the interpreter's lock.
"""

from poolswitch import _native, simulated
from poolswitch._errors import (
    Busy, DeviceLost, Error, Forked, InvalidArgument, LoadFailed, ModelMismatch,
    NoDaemon, NoModel, NotReady, OutOfMemory, OutOfRange, PeerGone, Refused, Status,
    TimedOut, Unsupported)
from poolswitch._models import (
    DONE, PRIORITY_DEFAULT, Model, Run, Tensors, add, ask, order)
from poolswitch._native import Tensor
from poolswitch._pool import ANY_STREAM, Pool
from poolswitch._programs import preload_path, program

__version__ = _native.version

_native.set_settle(simulated.synchronize)

__all__ = [
    "ANY_STREAM", "Busy", "DONE", "DeviceLost", "Error", "Forked", "InvalidArgument",
    "LoadFailed", "Model", "ModelMismatch", "NoDaemon", "NoModel", "NotReady",
    "OutOfMemory", "OutOfRange", "PRIORITY_DEFAULT", "PeerGone", "Pool", "Refused",
    "Run", "Status", "Tensor", "Tensors", "TimedOut", "Unsupported", "add", "ask",
    "order", "preload_path", "program", "simulated",
]
