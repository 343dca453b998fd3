# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Models: weights that poolswitchd loads once and all processes share."""

from __future__ import annotations

import collections.abc
import json
import os

from poolswitch import _native
from poolswitch._pool import Pool, milliseconds, path_text

#: Of Model.use(): larger is sooner; prefetching has 0.
PRIORITY_DEFAULT = _native.PRIORITY_DEFAULT

#: For Model.release(): the work that used the weights is done already.
DONE = -1

_PLANS = {"best": _native.PLAN_BEST, "tensor": _native.PLAN_TENSOR,
          "layer": _native.PLAN_LAYER, "one": _native.PLAN_ONE,
          "groups": _native.PLAN_GROUPS}

_ORDERS = {"load": _native.MODEL_LOAD, "prefetch": _native.MODEL_PREFETCH,
           "evict": _native.MODEL_EVICT, "pin": _native.MODEL_PIN,
           "unpin": _native.MODEL_UNPIN, "remove": _native.MODEL_REMOVE}

_QUESTIONS = {"status": _native.ASK_STATUS, "drain": _native.ASK_DRAIN,
              "shutdown": _native.ASK_SHUTDOWN, "reload": _native.ASK_RELOAD,
              "presence": _native.ASK_PRESENCE, "models": _native.ASK_MODELS}


def _one_of(table, word, what):
    if word not in table:
        raise ValueError(f"{what} is {word!r}, must be one of {', '.join(table)}")
    return table[word]


def add(name: str, source, *, public: bool = False, plan: str = "best",
        groups: int = 0, socket=None, timeout: float | None = None) -> bytes:
    """Have the daemon read a model; its hash, 32 bytes.

    source: the path of a safetensors file or of the index of a sharded one; or
    the descriptor of a safetensors file. public: for all who may attach to the
    daemon. plan: how tensors are grouped to travel: "best", "tensor", "layer",
    "one", "groups" (so many). timeout: seconds in all; None: as long as it takes.
    The files are opened with this process's rights and may change afterwards.
    """
    is_fd = isinstance(source, int)
    return _native.add(
        path_text(socket), name, None if is_fd else os.path.abspath(path_text(source)),
        _native.MODEL_PUBLIC if public else 0, source if is_fd else -1,
        _one_of(_PLANS, plan, "plan"), groups, milliseconds(timeout))


def order(what: str, name: str, *, socket=None, timeout: float | None = None) -> None:
    """Have the daemon "load", "prefetch", "evict", "pin", "unpin" or "remove".

    Loading returns when the model is on the GPU. timeout: seconds to wait for
    users of what is in the way.
    """
    _native.order(path_text(socket), _one_of(_ORDERS, what, "order"), name,
                  milliseconds(timeout))


def ask(what: str = "status", *, socket=None, timeout: float | None = None) -> dict:
    """Ask the daemon: "status", "models", "presence"; "drain", "shutdown", "reload".

    The fields of the answer are those of docs/daemon.md. Uses no GPU.
    """
    return json.loads(_native.ask(path_text(socket),
                                  _one_of(_QUESTIONS, what, "question"),
                                  milliseconds(timeout)))


class Run:
    """One use of a model, from Model.use() to release().

    Of a with statement: released at its end, behind what was submitted on the
    stream.
    """

    def __init__(self, model: Model, stream):
        self._model = model
        self._stream = stream
        self._is_open = True

    def wait(self, tensor: int | str) -> None:
        """What follows on the stream waits for this tensor and all before it."""
        self._model.wait(tensor, stream=self._stream)

    def release(self) -> None:
        """The run has no more to read; once, and again is well."""
        if self._is_open:
            self._is_open = False
            self._model.release(stream=self._stream)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *unused) -> None:
        self.release()


class Model(_native.Model):
    """A model that this process is attached to.

    Its tensors lie at addresses that stay theirs; whether the weights are there
    is another matter: use() has them loaded and keeps them, wait() puts a stream
    behind their arrival, release() lets them go. It is one in a process, counted.
    """

    @classmethod
    def attach(cls, pool: Pool, name: str | None = None, *,
               hash: bytes | None = None) -> Model:
        """By name, by hash (32 bytes), or by both, which must agree.

        Needs no memory on the GPU.
        """
        model = cls.__new__(cls)
        model._attach(pool, name, hash)
        (model.name, model.hash, model.address, model.bytes,
         model._count) = model._info()
        return model

    name: str
    #: Over layout and contents, 32 bytes.
    hash: bytes
    #: Of its first byte on the GPU, in every process.
    address: int
    bytes: int
    _count: int

    @property
    def tensors(self) -> Tensors:
        """By name, in the order in which they arrive."""
        return Tensors(self, self._count)

    def use(self, *, stream=None, priority: int = PRIORITY_DEFAULT,
            timeout: float | None = None) -> Run:
        """From here on the weights stay, and are on their way.

        Does not wait for them. stream: on which the run will be. priority: among
        loads that wait for the wire. timeout: seconds, for other models to be
        released where there is no room.
        """
        self._use(priority, milliseconds(timeout))
        return Run(self, stream)

    def wait(self, tensor: int | str, *, stream=None) -> None:
        """What follows on a stream waits for this tensor and all before it.

        A stream operation: also part of a graph that is captured. By name or
        number.
        """
        number = tensor if isinstance(tensor, int) else self._find(tensor)
        self._wait(stream, number)

    def release(self, *, stream=None) -> None:
        """One use less, behind the work submitted on a stream, or DONE."""
        self._release(stream)

    def check(self) -> None:
        """LoadFailed where what was computed cannot be believed.

        Ask when the results are there.
        """
        self._check()

    def set_costs(self, nanoseconds) -> None:
        """How long each tensor's part computes, in order, for the plan "best"."""
        self._set_costs([int(each) for each in nanoseconds])

    def detach(self) -> None:
        """Give the model up; Busy while it is in use.

        BufferError while views of the weights are alive.
        """
        self._detach()

    def __repr__(self) -> str:
        return (f"<poolswitch.Model {self.name!r}, {len(self.tensors)} tensors, "
                f"{self.bytes} bytes at {self.address:#x}>")


class Tensors(collections.abc.Mapping):
    """The tensors of a model by name, in the order in which they arrive.

    A tensor is made anew each time it is asked for; it and what is made of it by
    from_dlpack() keep the model attached. (Weights do not count a use.)
    """

    def __init__(self, model: Model, count: int):
        self._model = model
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self):
        for number in range(self._count):
            yield self._model._tensor(number).name

    def __getitem__(self, name: str | int) -> _native.Tensor:
        if isinstance(name, int):
            if not 0 <= name < self._count:
                raise KeyError(name)
            return self._model._tensor(name)
        try:
            return self._model._tensor(self._model._find(name))
        except ValueError:
            if self._model.pool.closed:
                raise
            raise KeyError(name) from None

    def values(self):
        """All of them, in order."""
        return [self._model._tensor(number) for number in range(self._count)]

    def items(self):
        """(name, tensor), in order."""
        return [(tensor.name, tensor) for tensor in self.values()]
