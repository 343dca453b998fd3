# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""The driver by ctypes and nothing else: this one runs on the simulated GPU
too, so that run.py and outcome.py are tested where no framework is."""

import ctypes
import os
import sys

import outcome

BLOCKS, BLOCK_BYTES = 64, 1 << 20


class Driver:
    """libcuda's functions; each call must succeed."""

    def __init__(self):
        name = "libcuda.so.1"
        if os.environ.get("POOLSWITCH_DRIVER") == "sim":
            name = os.environ["POOLSWITCH_SIM_LIBRARY"]
        try:
            self.library = ctypes.CDLL(name)
        except OSError as error:
            print(f"skipped: {error}")
            sys.exit(outcome.SKIPPED)

    def __getattr__(self, name):
        function = getattr(self.library, name)

        def call(*args):
            result = function(*args)
            if result != 0:
                sys.exit(f"{name} returned {result}")

        return call


def open_context(cuda):
    device, context = ctypes.c_int(), ctypes.c_void_p()
    cuda.cuInit(0)
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    cuda.cuCtxSetCurrent(context)


def fill(cuda, word):
    """A block full of a word, and what a copy of it reads."""
    pointer = ctypes.c_uint64()
    words = BLOCK_BYTES // 4
    cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(BLOCK_BYTES))
    cuda.cuMemsetD32_v2(pointer, ctypes.c_uint(word), ctypes.c_size_t(words))
    read = (ctypes.c_uint * words)()
    cuda.cuMemcpyDtoH_v2(read, pointer, ctypes.c_size_t(BLOCK_BYTES))
    return pointer, bytes(read)


def main():
    cuda = Driver()
    open_context(cuda)
    blocks = [fill(cuda, 0x01010101 * n) for n in range(BLOCKS)]
    outcome.say({"read": outcome.digest(*(read for _, read in blocks))},
               BLOCKS * BLOCK_BYTES)
    for pointer, _ in blocks:
        cuda.cuMemFree_v2(pointer)


if __name__ == "__main__":
    main()
