# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""What a call of the C library came to, as an exception.

Invariant: every status but PS_OK has exactly one exception, and every
exception is an Error, whose text names the object, the numbers and the remedy.
"""

import enum

from poolswitch import _native

_STATUSES = _native.statuses()

Status = enum.IntEnum(
    "Status", {name.removeprefix("PS_"): number for number, name, _ in _STATUSES})
Status.__doc__ = "What a call came to; the numbers are those of the C API."
_TEXTS = {number: text for number, _, text in _STATUSES}


class Error(Exception):
    """A call that failed.

    status: a Status, or a plain number of a newer library.
    detail: the object, the numbers and the remedy.
    """

    def __init__(self, status, detail=""):
        try:
            self.status = Status(status)
            name = "PS_" + self.status.name
        except ValueError:
            self.status = status
            name = f"status {status}"
        self.detail = detail
        super().__init__(f"{detail or _TEXTS.get(status, 'unknown')} ({name})")

    def __reduce__(self):
        return type(self), (int(self.status), self.detail)


class InvalidArgument(Error, ValueError):
    """The caller's mistake: a number, a name, a file that breaks a rule."""


class OutOfRange(Error, IndexError):
    """A range outside the pool, a tensor that the model has not."""


class Busy(Error):
    """Blocks, uses or clients are still there; the detail names them."""


class OutOfMemory(Error, MemoryError):
    """The pool, the GPU, the host or the region has no room."""


class Forked(Error, RuntimeError):
    """A child used a pool of its parent."""


class NoDaemon(Error, ConnectionError):
    """No poolswitchd answers; the detail has the sockets that were tried."""


class PeerGone(Error, ConnectionError):
    """The other process closed or died."""


class TimedOut(Error, TimeoutError):
    """The other process did not answer in time."""


class Refused(Error, PermissionError):
    """The other process said no, or may not be asked."""


class Unsupported(Error, NotImplementedError):
    """This driver, GPU, pool or daemon cannot do it."""


class NoModel(Error, LookupError):
    """The daemon has no model of that name."""


class ModelMismatch(Error, ValueError):
    """Another layout or other contents than what was asked for."""


class LoadFailed(Error):
    """The weights did not arrive whole: do not believe the results."""


class DeviceLost(Error):
    """The GPU failed; its contents are gone."""


class NotReady(Error, BlockingIOError):
    """Not yet; ask again."""


_CLASSES = {
    "INVALID_ARGUMENT": InvalidArgument,
    "OUT_OF_RANGE": OutOfRange,
    "OVERLAP": InvalidArgument,
    "BUSY": Busy,
    "NOT_OURS": InvalidArgument,
    "INTERIOR": InvalidArgument,
    "DOUBLE_FREE": InvalidArgument,
    "READ_ONLY": InvalidArgument,
    "FORKED": Forked,
    "OUT_OF_MEMORY": OutOfMemory,
    "DEVICE_MEMORY": OutOfMemory,
    "HOST_MEMORY": OutOfMemory,
    "PEER_GONE": PeerGone,
    "TIMED_OUT": TimedOut,
    "REFUSED": Refused,
    "PERMISSION": Refused,
    "UNSUPPORTED": Unsupported,
    "DEVICE_LOST": DeviceLost,
    "AGAIN": NotReady,
    "NO_DAEMON": NoDaemon,
    "NO_MODEL": NoModel,
    "MODEL_MISMATCH": ModelMismatch,
    "LOAD_FAILED": LoadFailed,
}


def error_of(status, detail):
    """The exception of a status; the extension raises what this gives."""
    try:
        name = Status(status).name
    except ValueError:
        name = ""
    return _CLASSES.get(name, Error)(status, detail)
