# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated GPU, whose memory is host memory.

With POOLSWITCH_DRIVER=sim NumPy may look at weights and blocks: from_dlpack()
then waits for the stream, as no kernel would.
"""

import ctypes
import functools
import os


def is_chosen() -> bool:
    return os.environ.get("POOLSWITCH_DRIVER") == "sim"


@functools.cache
def _driver():
    name = os.environ.get("POOLSWITCH_SIM_LIBRARY")
    return ctypes.CDLL(name) if name else None


class _InContext:
    """The GPU's primary context is the thread's current one."""

    def __init__(self, driver):
        self._driver = driver
        self._context = ctypes.c_void_p()

    def __enter__(self):
        _ok(self._driver.cuDevicePrimaryCtxRetain(ctypes.byref(self._context), 0),
            "cuDevicePrimaryCtxRetain()")
        _ok(self._driver.cuCtxPushCurrent_v2(self._context), "cuCtxPushCurrent()")

    def __exit__(self, *unused):
        self._driver.cuCtxPopCurrent_v2(ctypes.byref(self._context))
        self._driver.cuDevicePrimaryCtxRelease_v2(0)


def _ok(result, what):
    if result != 0:
        raise RuntimeError(f"{what} gives {result}")


def synchronize(stream: int = 0) -> None:
    """Wait for the work of a stream. Elsewhere than on the simulated GPU: no."""
    if not is_chosen():
        raise RuntimeError("no simulated GPU: POOLSWITCH_DRIVER is not sim")
    driver = _driver()
    if driver is None:
        raise RuntimeError("POOLSWITCH_SIM_LIBRARY does not name its library")
    with _InContext(driver):
        _ok(driver.cuStreamSynchronize(ctypes.c_void_p(stream or None)),
            "cuStreamSynchronize()")
